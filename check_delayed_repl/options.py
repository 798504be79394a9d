"""The arguments that both commands share, checked at the door: whatever gets past here can be used as it is.

Every mistake is a UsageError with one line that names the option; the two commands print it each in its own way and
exit with 3. No message ever quotes a value that could be a password.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence

from check_delayed_repl import __version__
from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.limits import KIND_PATTERN, LimitError, Limits, option
from check_delayed_repl.observe.target import SSL_MODES, Target
from check_delayed_repl.records import CHANNEL_SEPARATOR
from check_delayed_repl.words import plain

if TYPE_CHECKING:
    from typing import Any, NoReturn

# argparse asks for a translation of its own words. There is none, and to find that out costs as much as parsing.
argparse._ = lambda text: text  # type: ignore[attr-defined]

HELP_WIDTH = 96
"""Columns of --help, whatever the terminal's width: the text stands in the README too."""

DEFAULT_TIMEOUT = 10.0
MAX_TIMEOUT = 86400.0
DURATION_HELP = "A time is a number of seconds, or a number with s, m, h or d: 5400 is the same as 90m or 1.5h."

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DEFAULTS = Limits()


class UsageError(Exception):
    """The command was called wrongly. The message is one line and names the option."""


class HelpRequested(Exception):
    """--help or --version was asked for; `text` is what to print."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that prints nothing and never exits: UsageError and HelpRequested are for the command to print.

    Options are never guessed from a beginning, and the help has the same width everywhere.
    """

    def __init__(
        self,
        prog: str | None = None,
        description: str | None = None,
        usage: str | None = None,
        epilog: str | None = None,
        add_help: bool = True,
        **others: Any,
    ) -> None:
        """As in argparse; without `add_help`, call `add_help_options` on the group that is to have them."""
        others.setdefault("formatter_class", _HelpFormatter)
        super().__init__(prog, usage, description, epilog, add_help=False, allow_abbrev=False, **others)
        self.color = False  # Python 3.14 would colour the help
        if add_help:
            self.add_help_options(self)

    def add_help_options(self, group: argparse._ActionsContainer) -> None:
        group.add_argument("-h", "--help", action=_ShowHelp, help="show this text and exit")
        group.add_argument("-V", "--version", action=_ShowVersion, help="show the version and exit")

    def format_help(self) -> str:
        if self.usage is None:
            # argparse would list every option.
            positionals = [str(action.metavar or action.dest) for action in self._get_positional_actions()]
            self.usage = " ".join(["%(prog)s [options]", *positionals])
        return super().format_help()

    def add_subparsers(self, **others: Any) -> Any:
        # argparse would take the usage text for the name.
        others.setdefault("prog", self.prog)
        return super().add_subparsers(**others)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        known, extra = self.parse_known_args(args, namespace)
        if extra:
            raise UsageError(_unknown(extra[0]))
        return known

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fixed width, and `-H, --host HOST` on every version of Python. (A given width also saves importing shutil.)"""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=HELP_WIDTH)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(action.option_strings)
        if action.nargs == 0:
            return names
        default = self._get_default_metavar_for_optional(action)
        return f"{names} {self._format_args(action, default)}"


class _ShowHelp(argparse.Action):
    def __init__(self, option_strings: Sequence[str], **others: Any) -> None:
        others |= {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS, "nargs": 0}
        super().__init__(option_strings, **others)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        raise HelpRequested(parser.format_help())


class _ShowVersion(_ShowHelp):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        raise HelpRequested(f"{parser.prog.partition(' ')[0]} {__version__}\n")


def _unknown(argument: str) -> str:
    """Names an argument that nothing takes, without what could be a password behind it."""
    if argument.startswith("--"):
        return f"{argument.partition('=')[0]}: no such option (see --help)"
    if argument.startswith("-") and len(argument) > 1:
        return f"{argument[:2]}: no such option (see --help)"
    return "an argument belongs to no option (a value with spaces needs quotes; see --help)"


# --- types: text to value, or an ArgumentTypeError that argparse turns into a UsageError naming the option ---


def number(text: str) -> float:
    """A finite decimal number."""
    if not _NUMBER.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise argparse.ArgumentTypeError(f"{text!r} is too large")
    return value


def duration(text: str) -> float:
    """Seconds, from a number of seconds or a number with s, m, h or d; not negative."""
    unit = text[-1:] if text[-1:] in "smhd" else ""
    digits = text[: len(text) - len(unit)]
    if not _NUMBER.fullmatch(digits):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: give seconds, or a number with s, m, h or d")
    value = float(digits) * _UNITS[unit]
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative")
    if value == float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is too large")
    return value


def positive_duration(text: str) -> float:
    """Seconds, more than none."""
    value = duration(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not more than 0 seconds")
    return value


def timeout(text: str) -> float:
    """Seconds that a whole run may take: more than none, at most a day."""
    value = positive_duration(text)
    if value > MAX_TIMEOUT:
        raise argparse.ArgumentTypeError(f"{text!r} is longer than a day")
    return value


def whole(text: str, lowest: int, highest: int, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", text, re.ASCII) or not lowest <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}: a whole number from {lowest} to {highest}")
    return int(text)


def port(text: str) -> int:
    return whole(text, 1, 65535, "a port")


def server_id(text: str) -> int:
    return whole(text, 1, 4294967295, "a server id")


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
    """The name of an IANA time zone that this machine knows."""
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


def job_limit(text: str) -> tuple[str, float]:
    """`KIND=SECONDS`."""
    kind, equals, seconds = text.partition("=")
    if not equals or not KIND_PATTERN.match(kind):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KIND=SECONDS")
    return kind, duration(seconds)


def option_file(text: str) -> str:
    """The name of a file that is there and may be read. MySQL's own clients silently pass over one that is not."""
    if not os.path.exists(text):
        raise argparse.ArgumentTypeError(f"{text}: there is no such file")
    if not os.access(text, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text}: no permission to read it")
    return text


# --- groups of options ---


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Which replica to look at and how to get in: what `target_from` and `replica_name` read."""
    group = parser.add_argument_group("the replica")
    add = group.add_argument
    add("-H", "--host", type=filled, metavar="HOST", help="host name or address; beats a socket from an option file")
    add("-P", "--port", type=port, metavar="PORT", help="TCP port (default 3306)")
    add("-S", "--socket", type=filled, metavar="FILE", help="connect through this Unix socket")
    add("-u", "--user", type=filled, metavar="USER", help="user to log in as")
    add(
        "-p",
        "--password",
        metavar="PASSWORD",
        help="password; shows in the process list, so better put it into a --defaults-file",
    )
    add(
        "--defaults-file",
        type=option_file,
        metavar="FILE",
        help="option file to read host, port, socket, user, password and ssl-* from; what is given here comes first",
    )
    add(
        "--defaults-group",
        type=filled,
        default="client",
        metavar="GROUP",
        help="group of the option file (default client)",
    )
    add(
        "--ssl-mode",
        type=ssl_mode,
        choices=SSL_MODES,
        metavar="MODE",
        help=f"{', '.join(SSL_MODES)} (default preferred)",
    )
    add("--ssl-ca", type=filled, metavar="FILE", help="certificates of the authorities to trust")
    add("--ssl-cert", type=filled, metavar="FILE", help="the client's certificate")
    add("--ssl-key", type=filled, metavar="FILE", help="the client's key")
    add(
        "--channel",
        type=channel,
        metavar="NAME",
        help="replication channel (MySQL) or connection name (MariaDB); needed where there are several ('' for the one "
        "without a name)",
    )
    add(
        "-t",
        "--timeout",
        type=timeout,
        default=DEFAULT_TIMEOUT,
        metavar="TIME",
        help="one deadline for name resolution, connection, queries and history together"
        f" (default {plain(DEFAULT_TIMEOUT)})",
    )
    add(
        "--replica",
        type=filled,
        metavar="NAME",
        help=f"name in the history (default HOST:PORT or the socket, with {CHANNEL_SEPARATOR}CHANNEL if one is named)",
    )
    group = parser.add_argument_group("its heartbeats")
    add = group.add_argument
    add(
        "--heartbeat-table",
        type=table,
        default="percona.heartbeat",
        metavar="DB.TABLE",
        help="table that pt-heartbeat writes (default percona.heartbeat)",
    )
    add(
        "--master-server-id",
        "--source-server-id",
        dest="master_server_id",
        type=server_id,
        metavar="ID",
        help="read this server's heartbeat; needed in a chain (default: the replica's own source)",
    )
    add(
        "--heartbeat-timezone",
        type=timezone,
        metavar="ZONE",
        help="IANA time zone of the heartbeat writers, where they run without --utc (default UTC)",
    )
    add(
        "--delay-mode",
        choices=("auto", "native", "external"),
        default=_DEFAULTS.delay_mode,
        metavar="MODE",
        help="who delays: the server itself (native), pt-slave-delay (external), or find out (auto, the default)",
    )
    add(
        "--no-local-heartbeat",
        dest="local_heartbeat",
        action="store_false",
        help="the replica has no heartbeat of its own, since it must not be written to",
    )


# Every limit in seconds: its field of Limits, further names of its option, and what it is for.
_SECONDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("min_delay_time", (), "the delay may not be shorter"),
    ("max_delay_time", (), "the delay may not be longer"),
    ("max_seconds_behind", (), "age of the replica's own heartbeat; also how long IO thread or source may be silent"),
    ("max_relay_behind", (), "how long the applied position may stand still"),
    ("max_master_behind", ("--max-source-behind",), "how long the fetched position may stand still"),
    ("max_last_seen", (), "age of the worker's last look, with --sampling worker"),
    ("max_backup_behind", (), "how long a backup may run, and hold an alarm back"),
    ("max_deshard_behind", (), "how long a deshard may run, and hold an alarm back"),
    ("max_recovery_time", (), "how long after a job the line may be out of bounds"),
    ("max_trend_time", (), "how long a line that is on its way back may be out of bounds"),
)


def add_judging_options(parser: argparse.ArgumentParser) -> None:
    """The limits: what `limits_from` reads."""
    add = parser.add_argument_group("limits", DURATION_HELP).add_argument
    for field, aliases, purpose in _SECONDS:
        default = getattr(_DEFAULTS, field)
        in_words = f"{plain(default)}, or {plain(default / 3600)}h" if default >= 3600 else plain(default)
        add(
            option(field),
            *aliases,
            dest=field,
            type=duration,
            default=default,
            metavar="TIME",
            help=f"{purpose} (default {in_words})",
        )
    add(
        "--max-job-behind",
        dest="job_limits",
        action="append",
        type=job_limit,
        metavar="KIND=TIME",
        help="a further kind of job, and how long one may run and hold an alarm back; repeatable",
    )
    add(
        "--job-stops-server",
        dest="job_stops_server",
        action="append",
        type=filled,
        metavar="KIND",
        help="the server may be down during jobs of this kind; repeatable (default: none)",
    )
    add = parser.add_argument_group("the trend").add_argument
    add(
        "--window",
        type=positive_duration,
        default=_DEFAULTS.window,
        metavar="TIME",
        help=f"how far back the line is fitted (default {plain(_DEFAULTS.window)})",
    )
    add(
        "--fit",
        choices=("segment", "window"),
        default=_DEFAULTS.fit,
        metavar="HOW",
        help="segment: the latest straight stretch of the window (default); window: all of it",
    )
    add(
        "--min-recovery-slope",
        type=number,
        default=_DEFAULTS.min_recovery_slope,
        metavar="SLOPE",
        help="seconds of delay per second towards the range that count as recovering"
        f" (default {plain(_DEFAULTS.min_recovery_slope)})",
    )
    add(
        "--min-correlation",
        type=number,
        default=_DEFAULTS.min_correlation,
        metavar="R",
        help=f"correlation that a slope needs to be believed, 0 to 1 (default {plain(_DEFAULTS.min_correlation)})",
    )


def add_history_option(parser: argparse._ActionsContainer) -> None:
    """Where the history is; None stands for the default, which `history.open_history` knows."""
    parser.add_argument(
        "--history",
        type=filled,
        metavar="WHERE",
        help="SQLite file, or mysql://USER@HOST/DATABASE?defaults-file=FILE for a shared one"
        " (default $CHECK_DELAYED_REPL_HISTORY, else a file in the state folder)",
    )


# --- from arguments to values ---


def target_from(args: argparse.Namespace) -> Target:
    """The target that `add_connection_options` asked for."""
    return Target(**{field: getattr(args, field) for field in Target._fields})


def limits_from(args: argparse.Namespace) -> Limits:
    """The limits that `add_judging_options` asked for, with delay mode and local heartbeat where those were asked too.

    Raises UsageError, naming the option, where they make no sense together. A kind given twice: the last one counts.
    """
    given = {field: getattr(args, field) for field in Limits._fields if hasattr(args, field)}
    given["job_limits"] = tuple(dict(given.get("job_limits") or ()).items())
    given["job_stops_server"] = tuple(dict.fromkeys(given.get("job_stops_server") or ()))
    try:
        return Limits(**given).checked()
    except LimitError as error:
        raise UsageError(str(error)) from None


def replica_name(args: argparse.Namespace) -> str:
    """The name in the history: --replica, or `host:port` or the socket, plus `#channel` where one is named.

    Raises UsageError where the option file that has host and port cannot be understood.
    """
    if args.replica:
        return str(args.replica)
    # Left to those who do not name it.
    from check_delayed_repl.observe.connection import server_name
    from check_delayed_repl.observe.optionfile import OptionFileError

    try:
        return server_name(target_from(args))
    except OptionFileError as error:
        raise UsageError(f"--defaults-file: {error}") from None
