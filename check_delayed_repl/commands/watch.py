"""`delayed-repl watch`: the diagnosis as a live view, for the hour in which one waits for a recovery."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from check_delayed_repl.arguments import count_of
from check_delayed_repl.commands.diagnose import add_shared_options
from check_delayed_repl.diagnose.screen import console, joined
from check_delayed_repl.diagnose.session import Session
from check_delayed_repl.options import Option

if TYPE_CHECKING:
    from rich.text import Text

HELP = "diagnose as a live view, with countdowns to back in range and to the end of each budget"

FRAMES_PER_SECOND = 1
"""Countdowns go on between samples."""
NARROWEST, WIDEST = 60, 120
ROWS = 24
"""Of a frame, where there is no terminal that says how many it has."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    count = Option("--count", "stop after so many samples (default: at Ctrl-C)", "N", count_of("samples"))
    add_shared_options(parser, 5.0, (count,))


def run(args: argparse.Namespace) -> int:
    live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    # Signals end the view properly; Ctrl-C too where whoever started this ignores it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt), Session(args) as session:
        (_live if live else _frames)(session, args)
    return 0


def _frames(session: Session, args: argparse.Namespace) -> None:
    """A frame for each sample, one below the other."""
    from rich.text import Text  # not at the top: man pages are made where it is not installed

    from check_delayed_repl.diagnose.text import Screen

    shown = console(args.color)
    for sample in islice(session.each(args.interval), args.count):
        session.take(sample)
        frame = [*Screen(session.picture()).frame(ROWS), Text()]
        shown.print(joined(frame, args.ascii), soft_wrap=True)
        sys.stdout.flush()


def _live(session: Session, args: argparse.Namespace) -> None:
    """Frames on the terminal's other screen, drawn anew every second, whatever the replica does meanwhile."""
    from rich.live import Live

    shown = console(args.color)
    turn = threading.Lock()

    def frame() -> Text:
        with turn:
            return joined(_frame(session, shown.width, shown.height), args.ascii)

    with Live(console=shown, screen=True, get_renderable=frame, refresh_per_second=FRAMES_PER_SECOND) as view:
        for sample in islice(session.each(args.interval), args.count):
            with turn:
                session.take(sample)
            view.refresh()


def _frame(session: Session, columns: int, rows: int) -> list[Text]:
    from rich.text import Text

    from check_delayed_repl.diagnose.text import Screen

    if not session.own and not session.sampled and not session.worker:
        return [Text(f"Taking the first sample of {session.replica}...")]
    screen = Screen(session.picture(), max(NARROWEST, min(columns, WIDEST)))
    lines = screen.frame(rows - 1)
    return [*lines, *([Text()] * (rows - 1 - len(lines))), Text("Ctrl-C ends", "dim")]
