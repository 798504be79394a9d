"""What the terminal, or whatever stands in its place, can show of lines of styled text."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES = {
    "OK": "black on green",
    "WARNING": "black on yellow",
    "CRITICAL": "bright_white on red",
    "UNKNOWN": "bright_white on magenta",
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


def console(color: str) -> Console:
    """Standard output, with the colours that were asked for."""
    from rich.console import Console
    from rich.theme import Theme

    always = color == "always"
    return Console(
        theme=Theme(STYLES),
        force_terminal=always or None,
        no_color=False if always else None,
        color_system="standard" if always else None if color == "never" else "auto",
        highlight=False,
        emoji=False,
    )


def joined(lines: Iterable[Text], ascii_only: bool) -> Text:
    """The screen for a console; a line that is longer than it is wide is there to be pasted, and stays whole."""
    from rich.text import Text

    text = Text("\n", no_wrap=True, overflow="ignore").join(lines)
    if ascii_only or "utf" not in (sys.stdout.encoding or "").lower():
        text.plain = to_ascii(text.plain)
    return text


def visible(text: str) -> str:
    """The same without anything that a terminal might obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def to_ascii(text: str) -> str:
    """The same, as long, for a terminal or a pipe that knows ASCII alone."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")


_PLAIN = {0x2800 + dots: "*" for dots in range(256)} | str.maketrans("─╌│┤├└█░·▲…→", "--|||+#.-^.>")
