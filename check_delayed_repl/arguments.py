"""Arguments: a parser that leaves errors to the command, and what text of each type may be.

Every mistake is a UsageError with one line that names the option; the two commands print it each in its own way and
exit with 3. No message ever quotes a value that could be a password.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from check_delayed_repl import __version__
from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.limits import BUILT_IN_KINDS, KIND_PATTERN, RESCUE, RESERVED_KINDS, kind_option
from check_delayed_repl.records import HELD_S
from check_delayed_repl.words import filter_kept, pasted, user_name

if TYPE_CHECKING:
    from typing import Any, NoReturn

HELP_WIDTH = 96
"""Columns of --help, whatever the terminal's width: the text stands in the README too."""

DAY = 86400.0

_NUMBER = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)([smhd]?)", re.ASCII)
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY}


class UsageError(Exception):
    """The command was called wrongly. The message is one line and names the option."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that says what is wrong by a UsageError, and ends by SystemExit for --help and --version alone.

    Options are never guessed from a beginning, and the help has the same width everywhere.
    """

    def __init__(
        self, prog: str | None = None, usage: str | None = None, add_help: bool = True, **settings: Any
    ) -> None:
        """As in argparse; without `add_help`, call `add_help_options` on the group that is to have them."""
        # argparse's own usage would list every option. A given width also saves importing shutil.
        settings["formatter_class"] = lambda prog: argparse.RawDescriptionHelpFormatter(prog, 2, 34, HELP_WIDTH)
        super().__init__(prog, usage or "%(prog)s [options]", add_help=False, allow_abbrev=False, **settings)
        self.color = False  # Python 3.14 would colour the help
        if add_help:
            self.add_help_options(self)

    def add_help_options(self, group: argparse._ActionsContainer) -> None:
        group.add_argument("-h", "--help", action="help", help="show this text and exit")
        version = f"{self.prog.partition(' ')[0]} {__version__}"
        group.add_argument("-V", "--version", action="version", version=version, help="show the version and exit")

    def print_help(self, file: object = None) -> None:  # noqa: ARG002
        print(self.format_help(), end="")  # argparse says nothing of a full disk

    def parse_args(self, args: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        known, extra = self.parse_known_args(args)
        if extra:
            raise UsageError(self._unknown(extra[0]))
        return known

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    def _unknown(self, argument: str) -> str:
        """Names an argument that nothing takes, without what could be a password behind it."""
        if argument.startswith("--"):
            name = argument.partition("=")[0]
            return f"{name}: no such option{did_you_mean(name, re.findall('--[a-z][a-z-]+', self.format_help()))}"
        if argument.startswith("-") and len(argument) > 1:
            return f"{argument[:2]}: no such option (see --help)"
        return "unexpected argument (a value with spaces needs quotes; see --help)"


def did_you_mean(name: str, known: Iterable[str], otherwise: str = " (see --help)") -> str:
    """`: did you mean …?`, or what to say otherwise, for a name that is not known."""
    from difflib import get_close_matches

    close = get_close_matches(name, sorted(set(known)), 1, 0.7)
    return f": did you mean {close[0]}?" if close else otherwise


# --- types: text to value, or an ArgumentTypeError that argparse turns into a UsageError naming the option ---


def number(text: str) -> float:
    """A finite decimal number that is not negative."""
    return _number(text, {"": 1.0}, "a number")


def duration(text: str) -> float:
    """Seconds, from a number of seconds or a number with s, m, h or d."""
    return _number(text, _UNITS, "a time: give seconds, or a number with s, m, h or d")


def server_delay(least: int) -> Callable[[str], float]:
    """A delay that a server can be told to have, in whole seconds."""
    return _limited(
        lambda text: round(duration(text)),
        lambda seconds: least <= seconds < HELD_S,
        f"is no delay that a server can have: {least} to {HELD_S - 1} seconds",
    )


def moment(text: str) -> float:
    """Seconds since 1970, from these, from `2026-11-23 10:41:05` (in UTC unless a zone is named), from a time of day
    (the last time that it was), or from how long ago it was."""
    if text[-1:] in ("s", "m", "h", "d"):
        return time.time() - duration(text)
    if re.fullmatch(r"[0-9]{9,11}(\.[0-9]+)?", text):
        return float(text)
    # Only few have this option: the module's import is left to them.
    from datetime import UTC, datetime, timedelta

    now = datetime.now(UTC)
    time_of_day = re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?", text)
    try:
        found = datetime.fromisoformat(f"{now.date()}T{'0' * (text[1] == ':')}{text}" if time_of_day else text)
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        return (found - timedelta(days=1) if time_of_day and found > now else found).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: give 2026-11-23T10:41:05 (UTC, or with +01:00 behind it), seconds since 1970, or a"
            " time ago such as 2d"
        ) from None


def _number(text: str, units: dict[str, float], what: str) -> float:
    found = _NUMBER.fullmatch(text)
    if not found or found[2] not in units:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    value = float(found[1]) * units[found[2]]
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is {'negative' if value < 0 else 'too large'}")
    return value


def _limited(read: Callable[[str], float], fits: Callable[[float], bool], problem: str) -> Callable[[str], float]:
    def limited(text: str) -> float:
        value = read(text)
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} {problem}")
        return value

    return limited


correlation = _limited(number, lambda value: value <= 1, "is greater than 1")
positive_duration = _limited(duration, lambda value: value > 0, "is not more than 0 seconds")
timeout = _limited(positive_duration, lambda value: value <= DAY, "is longer than a day")
interval = _limited(positive_duration, lambda value: 0.1 <= value <= DAY, "is not between 0.1 s and a day")


def whole(lowest: int, highest: int, what: str) -> Callable[[str], int]:
    """The type of whole numbers within these bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,20}", text, re.ASCII) or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}: a whole number from {lowest} to {highest}")
        return int(text)

    return read


port = whole(1, 65535, "a port")
server_id = whole(1, 4294967295, "a server id")


def count_of(what: str, lowest: int = 1) -> Callable[[str], int]:
    return whole(lowest, 10**9, f"a number of {what}")


def filled(text: str) -> str:
    """Text that is there, on one line."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("is empty" if not text.strip() else "holds characters that cannot be printed")
    return text


def channel(text: str) -> str:
    """A channel's name; the empty one is a name too, where others stand beside it."""
    return filled(text) if text else text


def table(text: str) -> str:
    """`database.table`, plain identifiers both."""
    if not re.fullmatch(r"[\w$-]{1,64}\.[\w$-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form database.table")
    return text


def timezone(text: str) -> str:
    # Only few have this option: the module's import is left to them.
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is no IANA time zone that this machine knows") from None
    return text


def ssl_mode(text: str) -> str:
    """MySQL's own spelling (VERIFY_CA) serves as well."""
    return text.lower().replace("_", "-")


def job_kind(text: str) -> str:
    if not KIND_PATTERN.match(text) or text.lower() in RESERVED_KINDS:
        raise argparse.ArgumentTypeError(f"{text!r} cannot name a kind of job: letters, digits, _ . and -, at most 32")
    return text


def job_limit(text: str) -> tuple[str, float]:
    """`KIND=SECONDS`, of a kind that is not built in."""
    kind, equals, seconds = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KIND=SECONDS")
    if kind in BUILT_IN_KINDS:
        hint = "it has no limit" if kind == RESCUE else f"its limit is {kind_option(kind)}"
        raise argparse.ArgumentTypeError(f"{kind} is built in: {hint}")
    return job_kind(kind), duration(seconds)


def replication_filter(text: str) -> str:
    """`COLUMN=VALUE`, as the replication status shows a filter."""
    if not re.match(r"Replicate_\w+=.", text, re.ASCII | re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form COLUMN=VALUE, such as Replicate_Do_DB=orders")
    return filter_kept(text)


def option_file(text: str) -> str:
    """The name of a file that is there and may be read. MySQL's own clients silently pass over one that is not."""
    try:
        os.stat(text)
    except PermissionError:
        raise argparse.ArgumentTypeError(unreadable(text)) from None
    except OSError:
        raise argparse.ArgumentTypeError(f"{text}: there is no such file") from None
    if not os.access(text, os.R_OK, effective_ids=True):
        raise argparse.ArgumentTypeError(unreadable(text))
    return text


def unreadable(path: str) -> str:
    """Who may not read a file, and what changes that."""
    from grp import getgrgid

    user, group = user_name(), str(os.getegid())
    with suppress(KeyError):
        group = getgrgid(os.getegid()).gr_name
    parts = os.path.abspath(path).split("/")[1:-1]
    for folder in ("/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)):
        if not os.access(folder, os.X_OK, effective_ids=True):
            return f"{path}: user {user} may not enter {folder}: chmod a+x {pasted(folder)}"
    shown = pasted(path)
    return f"{path}: user {user} may not read it: chgrp {pasted(group)} {shown}; chmod 640 {shown}"
