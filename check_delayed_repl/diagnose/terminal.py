"""What the terminal, or whatever stands in its place, can show."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable

from check_delayed_repl.diagnose.screen import Line, coloured, plain, to_ascii


def add_screen_options(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        metavar="WHEN",
        help="auto: in a terminal that has colours, unless NO_COLOR is set (default); always; never",
    )
    group.add_argument("--ascii", action="store_true", help="draw with ASCII alone, as in a terminal that has no more")


def knows_unicode(args: argparse.Namespace) -> bool:
    return not args.ascii and "utf" in (sys.stdout.encoding or "").lower()


def shows_colour(args: argparse.Namespace) -> bool:
    if args.color != "auto":
        return bool(args.color == "always")
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def rendered(lines: Iterable[Line], args: argparse.Namespace) -> str:
    """The screen as this terminal takes it."""
    text = coloured(lines) if shows_colour(args) else plain(lines)
    return text if knows_unicode(args) else to_ascii(text)
