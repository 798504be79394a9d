"""Text: what others wrote made fit to print; numbers, times, spans and sizes in one form each.

On the check's start-up path: datetime is imported only where a moment is printed.
"""

from __future__ import annotations

import re
from math import isfinite

from check_delayed_repl.light import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

MAX_LENGTH = 1000

# What Nagios keeps out of its macros, what ends the text and begins perfdata, and what a web page or a notification
# command's shell or printf would take for more than text.
_MARKUP = str.maketrans({"|": "/", "<": "(", ">": ")", "&": "+", "`": "'", '"': "'", "$": "_", "\\": "/"})
_SPACES = re.compile(r"\s+")


def clean(text: str, length: int = MAX_LENGTH) -> str:
    """`text` on one line, without control characters or markup, of at most `length` characters."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text[: 4 * length])
    text = _SPACES.sub(" ", text.translate(_MARKUP)).strip()
    return text if len(text) <= length else text[: length - 3] + "..."


def plain(value: float, digits: int = 6) -> str:
    """A number as a plain decimal: never an exponent, no trailing zeros."""
    text = f"{value:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


UNKNOWN = "unknown"
SOON = 600.0
"""Seconds: of what happens within so short a time people want to know the second."""


def span(seconds: float | None) -> str:
    """`0.6 s`, `74 s`, `12 min 5 s`, `3 h 12 min`, `2 d 3 h`: two units at most."""
    if seconds is None or not isfinite(seconds):
        return UNKNOWN
    sign, s = ("-", -seconds) if seconds < 0 else ("", seconds)
    if s < 9.95:
        return f"{sign}{plain(s, 1)} s"
    if s < 99.5:
        return f"{sign}{s:.0f} s"
    if s < 3599.5:
        return f"{sign}{_pair(round(s), 60, 'min', 1, 's')}"
    if s < 86370:
        return f"{sign}{_pair(round(s / 60), 60, 'h', 1, 'min')}"
    return f"{sign}{_pair(round(s / 3600), 24, 'd', 1, 'h')}"


def _pair(whole: int, many: int, large: str, few: int, small: str) -> str:
    number, rest = divmod(whole, many)
    return f"{number} {large}" + (f" {rest // few} {small}" if rest else "")


def countdown(seconds: float) -> str:
    """`1:23:45`, hours without end."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def short(seconds: float) -> str:
    """At most seven characters for an axis: `24s`, `12m`, `2h30m`, `18h`, `3d`."""
    if abs(seconds) < 600:
        return f"{plain(seconds, 0)}s"
    if abs(seconds) >= 100 * 3600:
        return f"{plain(seconds / 86400, 1 if abs(seconds) < 8.64e6 else 0)}d"
    sign = "-" if seconds < 0 else ""
    minutes = round(abs(seconds) / 60)
    if minutes < 60:
        return f"{sign}{minutes}m"
    return f"{sign}{minutes // 60}h" + (f"{minutes % 60:02}m" if minutes % 60 else "")


def size(count: int) -> str:
    """Bytes with a binary unit: `118 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1023.5 or unit == "TiB":
            break
        value /= 1024
    return f"{plain(value, 0 if value >= 100 or unit == 'B' else 1)} {unit}"


def _read(t: float, zone: tzinfo | None) -> datetime | None:
    """The moment in a zone, by default this machine's; None where it lies beyond every calendar."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(t, UTC).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return None


def clock(t: float, now: float, zone: tzinfo | None, seconds: bool = False) -> str:
    """`10:41`, or `Nov 22 10:41` where it is not today."""
    moment, today = _read(t, zone), _read(now, zone)
    if moment is None or today is None:
        return f"t={t:g}"
    time = moment.strftime("%H:%M:%S" if seconds else "%H:%M")
    if moment.date() == today.date():
        return time
    if abs(t - now) > 180 * 86400:
        return f"{moment:%Y-%m-%d} {time}"
    return f"{moment:%b} {moment.day} {time}"


def moment(t: float, zone: tzinfo | None) -> str:
    """`2026-11-23 10:41:05 UTC`."""
    found = _read(t, zone)
    return f"t={t:g}" if found is None else f"{found:%Y-%m-%d %H:%M:%S} {found.tzname() or ''}".rstrip()


def slope(value: float) -> str:
    """Seconds of delay per second, signed: `+1.00 s/s`, `-0.003 s/s`."""
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    text = f"{value:+.{digits}f}"
    return f"{text if float(text) else text.lstrip('+-')} s/s"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def shown(text: str) -> str:
    """Text that others wrote, fit to be shown."""
    return clean(text, 64)
