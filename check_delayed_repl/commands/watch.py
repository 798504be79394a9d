"""`delayed-repl watch`: the diagnosis as a live view, for the hour in which one waits for a recovery."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from check_delayed_repl.diagnose.screen import Line, clipped
from check_delayed_repl.diagnose.session import Session
from check_delayed_repl.diagnose.terminal import add_screen_options, knows_unicode, rendered
from check_delayed_repl.diagnose.text import Pen, frame
from check_delayed_repl.options import (
    SAMPLING,
    add_config_option,
    add_connection_options,
    add_history_option,
    add_judging_options,
    limits_from,
    positive_duration,
    replica_name,
    whole,
)
from check_delayed_repl.records import Sample

HELP = "the same as a live view, with countdowns: to back in range, to the end of each budget"

TICK = 1.0
"""Seconds between two frames: countdowns go on while nobody looks."""
NARROWEST, WIDEST = 60, 120
"""Columns."""

_SHOW = "\x1b[?1049h\x1b[?25l"  # the other screen, so that the shell's stays as it was; no cursor
_HIDE = "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_option(parser, parser.add_argument_group("the configuration file"), "one")
    add_connection_options(parser)
    add_judging_options(parser)
    group = parser.add_argument_group("what to look at")
    add_history_option(group)
    SAMPLING.add_to(group)
    group.add_argument(
        "--interval", type=positive_duration, default=5.0, metavar="TIME", help="how often to look (default 5s)"
    )
    group.add_argument(
        "--count",
        type=lambda text: whole(text, 1, 10**9, "a number of looks"),
        metavar="N",
        help="stop after so many looks (default: at q or Ctrl-C)",
    )
    group.add_argument(
        "--since", type=positive_duration, metavar="TIME", help="draw so much of the history (default: the window)"
    )
    group = parser.add_argument_group("how to show it (times are local; TZ=UTC before the command makes them UTC)")
    add_screen_options(group)


class Ended(Exception):
    """Somebody asked for the end, by a signal."""


def run(args: argparse.Namespace) -> int:
    """Shows frame after frame: 0."""
    limits = limits_from(args)
    replica = replica_name(args)
    window = limits.window if args.since is None else max(args.since, limits.window)
    session = Session(args, limits, replica, args.sampling == "worker", window)
    live = sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    try:
        with _ends_on_signals():
            session.open()
            if live:
                _live(session, args)
            else:
                _frames(session, args)
    except Ended:
        pass
    finally:
        session.close()
    return 0


def _frames(session: Session, args: argparse.Namespace) -> None:
    """A frame for each look, one below the other."""
    pen = Pen(unicode=knows_unicode(args))
    start = time.monotonic()
    while True:
        session.look_and_add()
        print(rendered([*_frame(session, args, pen), []], args), end="", flush=True)
        if session.own == args.count:
            return
        # Looks that took too long are left out, not made up for.
        turns = int((time.monotonic() - start) / args.interval) + 1
        time.sleep(max(0.0, start + turns * args.interval - time.monotonic()))


def _frame(session: Session, args: argparse.Namespace, pen: Pen, rows: int | None = None) -> list[Line]:
    since = None if args.since is None else session.now() - args.since
    return frame(session.picture(since), pen, rows)


def _live(session: Session, args: argparse.Namespace) -> None:
    with _other_screen() as pressed:
        start = time.monotonic()
        looking: _Looking | None = _Looking(session)
        while True:
            seen = None if looking is None else looking.result()
            if looking is not None and seen is not None:
                looking.close()
                looking = None
                session.refresh()
                session.add(seen)
                if session.own == args.count:
                    _draw(session, args, None)
                    return
                turns = int((time.monotonic() - start) / args.interval) + 1
                due = start + turns * args.interval
            _draw(session, args, looking)
            wait = TICK
            if looking is None:
                wait = min(wait, max(0.0, due - time.monotonic()))
            if pressed(wait, looking) in ("q", "Q", "\x04"):
                return
            if looking is None and time.monotonic() >= due:
                looking = _Looking(session)


class _Looking:
    """A look that another thread waits for, so that the view stays alive while the replica hangs."""

    def __init__(self, session: Session) -> None:
        self.sample: Sample | None = None
        self.over, self._done = os.pipe()
        """Becomes readable when the look is over."""
        self._session = session
        self._error: Exception | None = None
        threading.Thread(target=self._run, name="look", daemon=True).start()

    def _run(self) -> None:
        try:
            self.sample = self._session.sample()
        except Exception as error:  # noqa: BLE001  raised where it can be told
            self._error = error
        finally:
            os.close(self._done)

    def result(self) -> Sample | None:
        """The look once it is over, None until then. Raises what it raised."""
        if self._error is not None:
            raise self._error
        return self.sample

    def close(self) -> None:
        os.close(self.over)


def _draw(session: Session, args: argparse.Namespace, looking: _Looking | None) -> None:
    columns, rows = _size()
    if session.own or session.sampled:
        lines = _frame(session, args, Pen(max(NARROWEST, min(columns, WIDEST)), None, knows_unicode(args)), rows - 1)
    else:
        lines = [[(f"Looking at {session.replica} for the first time...", "")]]
    hint = "q ends" if looking is None else "q ends; looking..."
    shown = [clipped(line, columns) for line in (*lines[: rows - 1], [(hint, "dim")])]
    text = rendered(shown, args).rstrip("\n").replace("\n", f"{_REST_OF_LINE}\n")
    sys.stdout.write(f"{_HOME}{text}{_REST_OF_LINE}{_REST_OF_SCREEN}")
    sys.stdout.flush()


@contextmanager
def _other_screen() -> Iterator[Callable[[float, _Looking | None], str]]:
    """The terminal's other screen, with keys read one by one; gives a function that waits for a key or a look's end.

    Whatever happens, the terminal is left as it was.
    """
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def pressed(wait: float, looking: _Looking | None) -> str:
        sources = [keyboard] if looking is None else [keyboard, looking.over]
        ready, _, _ = select.select(sources, [], [], wait)
        return os.read(keyboard, 1).decode("ascii", "replace") if keyboard in ready else ""

    try:
        tty.setcbreak(keyboard)
        settings = termios.tcgetattr(keyboard)
        # Ctrl-C must not throw away what brings the shell's screen back, if that is on its way already.
        settings[3] |= termios.NOFLSH
        settings[6][termios.VSUSP] = b"\0"  # a stopped view would leave its screen to the shell
        termios.tcsetattr(keyboard, termios.TCSANOW, settings)
        sys.stdout.write(_SHOW)
        yield pressed
    finally:
        sys.stdout.write(_HIDE)
        sys.stdout.flush()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def _ends_on_signals() -> Iterator[None]:
    """Signals end the view as properly as a key does; Ctrl-C too where whoever started this ignores it."""

    def end(number: int, where: FrameType | None) -> None:  # noqa: ARG001
        raise Ended

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _size() -> tuple[int, int]:
    try:
        found = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return 80, 24
    return found.columns or 80, found.lines or 24
