"""A screen as lines of styled text, and how it becomes plain text or a terminal's colours."""

from __future__ import annotations

from collections.abc import Iterable

Piece = tuple[str, str]
"""(text, style)"""
Line = list[Piece]

STYLES = {
    "": "",
    "dim": "2",
    "bold": "1",
    "ok": "30;42",
    "warning": "30;43",
    "critical": "97;41",
    "unknown": "97;45",
    "good": "32",
    "bad": "31",
    "caution": "33",
    "fit": "36",
    "bound": "33",
    "band": "34",
    "command": "1",
}
"""Style → the terminal's code for it. Colours are never the only thing that tells two meanings apart."""


def plain(lines: Iterable[Line]) -> str:
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def coloured(lines: Iterable[Line]) -> str:
    """With the codes that every terminal knows since the VT100 and ECMA-48."""
    return "".join("".join(_painted(text, style) for text, style in line) + "\n" for line in lines)


def _painted(text: str, style: str) -> str:
    code = STYLES[style]
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text


def clipped(line: Line, width: int) -> Line:
    """The line's beginning, as far as it fits."""
    found: Line = []
    for text, style in line:
        found.append((text[:width], style))
        width -= len(text)
        if width <= 0:
            break
    return found


def visible(text: str) -> str:
    """The same without anything that a terminal might obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def to_ascii(text: str) -> str:
    """The same for a terminal, or a pipe, that knows ASCII alone."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")


_PLAIN = str.maketrans(
    {
        "─": "-",
        "╌": "-",
        "│": "|",
        "┤": "|",
        "├": "|",
        "┼": "+",
        "┴": "+",
        "┬": "+",
        "└": "+",
        "█": "#",
        "░": ".",
        "▏": "|",
        "±": "+-",
        "·": "-",
        "▲": "^",
        "…": "...",
        "→": "->",
    }
)
