"""A screen as lines of styled text, and what the terminal, or whatever stands in its place, can show of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Piece = tuple[str, str]
"""(text, style)"""
Line = list[Piece]

STYLES = {
    "ok": "black on green",
    "warning": "black on yellow",
    "critical": "bright_white on red",
    "unknown": "bright_white on magenta",
    "good": "green",
    "bad": "red",
    "urgent": "bold red",
    "caution": "yellow",
    "fit": "cyan",
    "bound": "yellow",
    "band": "blue",
    "command": "bold",
}
"""Style → rich's, beside its own dim and bold. Colours are never the only thing that tells two meanings apart."""


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


def console(args: argparse.Namespace) -> Console:
    """Standard output, with the colours that were asked for."""
    from rich.console import Console
    from rich.theme import Theme

    always = args.color == "always"
    return Console(
        theme=Theme(STYLES),
        force_terminal=True if always else None,
        no_color=False if always else True if args.color == "never" else None,
        color_system="standard" if always else None if args.color == "never" else "auto",
        highlight=False,
        emoji=False,
    )


def styled(lines: Iterable[Line], args: argparse.Namespace) -> Text:
    """The screen for a console; a line that is longer than it is wide is there to be pasted, and stays whole."""
    from rich.text import Text

    ascii_only = not knows_unicode(args)
    text = Text(no_wrap=True, overflow="ignore")
    for line in lines:
        for piece, style in line:
            text.append(to_ascii(piece) if ascii_only else piece, style)
        text.append("\n")
    return text


def plain(lines: Iterable[Line]) -> str:
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def visible(text: str) -> str:
    """The same without anything that a terminal might obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def to_ascii(text: str) -> str:
    """The same for a terminal, or a pipe, that knows ASCII alone."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")


_PLAIN = {0x2800 + dots: "*" for dots in range(256)} | str.maketrans("─╌│┤├└█░·▲…→", "--|||+#.-^.>")
