"""The options that both faces share: checked here, so that whatever gets past can be used as it is.

Every option stands once, as data: the command line, the configuration file and the documentation are made from it.
Every mistake is a UsageError with one line that names the option; the two commands print it each in its own way and
exit with 3. No message ever quotes a value that could be a password.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Sequence

from check_delayed_repl import __version__
from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.limits import BUILT_IN_KINDS, KIND_PATTERN, RESCUE, RESERVED_KINDS, Limits, kind_option, option
from check_delayed_repl.observe.target import SSL_MODES, Target
from check_delayed_repl.records import CHANNEL_SEPARATOR
from check_delayed_repl.words import plain

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

HELP_WIDTH = 96
"""Columns of --help, whatever the terminal's width: the text stands in the README too."""

DEFAULTS = {"timeout": 10.0, "keep": 30 * 86400.0}
"""What counts where neither the command line nor a file says anything. Others' defaults stand in Target and Limits."""
MAX_TIMEOUT = 86400.0
DURATION_HELP = "A time is a number of seconds, or a number with s, m, h or d: 5400 is the same as 90m or 1.5h."

_NUMBER = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)([smhd]?)", re.ASCII)
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
        # argparse's own usage would list every option. A given width also saves importing shutil.
        super().__init__(
            prog,
            usage or "%(prog)s [options]",
            description,
            epilog,
            add_help=False,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, 2, 34, HELP_WIDTH),
            **others,
        )
        self.color = False  # Python 3.14 would colour the help
        if add_help:
            self.add_help_options(self)

    def add_help_options(self, group: argparse._ActionsContainer) -> None:
        group.add_argument("-h", "--help", action="help", help="show this text and exit")
        group.add_argument("-V", "--version", action=_ShowVersion, nargs=0, help="show the version and exit")

    def print_help(self, file: object = None) -> NoReturn:  # noqa: ARG002
        raise HelpRequested(self.format_help())

    def add_subparsers(self, **others: Any) -> Any:
        # argparse would take the usage text for the name.
        others.setdefault("prog", self.prog)
        return super().add_subparsers(**others)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        known, extra = self.parse_known_args(args, namespace)
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


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        raise HelpRequested(f"{parser.prog.partition(' ')[0]} {__version__}\n")


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


def _number(text: str, units: dict[str, float], what: str) -> float:
    found = _NUMBER.fullmatch(text)
    if not found or found[2] not in units:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    value = float(found[1]) * units[found[2]]
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is {'negative' if value < 0 else 'too large'}")
    return value


def correlation(text: str) -> float:
    """A number from 0 to 1."""
    value = number(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is greater than 1")
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


def interval(text: str) -> float:
    """Seconds from one sample to the next."""
    value = positive_duration(text)
    if not 0.1 <= value <= 86400.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0.1 s and a day")
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


def job_kind(text: str) -> str:
    """The name of a kind of job."""
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
    return text


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
    from pwd import getpwuid

    try:
        user, group = getpwuid(os.geteuid()).pw_name, getgrgid(os.getegid()).gr_name
    except KeyError:
        user, group = str(os.geteuid()), str(os.getegid())
    parts = os.path.abspath(path).split("/")[1:-1]
    for folder in ("/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)):
        if not os.access(folder, os.X_OK, effective_ids=True):
            return f"{path}: user {user} may not enter {folder}: chmod a+x {folder}"
    return f"{path}: user {user} may not read it: chgrp {group} {path}; chmod 640 {path}"


# --- the options ---


class Option(NamedTuple):
    """One option, on the command line or as a key of the configuration file."""

    names: str
    """All its spellings, short ones first: `-H --host`. Without `--`, the long ones are the file's keys."""
    help: str
    metavar: str | None = None
    """What stands for its value; None: a switch."""
    type: Callable[[str], Any] = filled
    dest: str = ""
    choices: tuple[str, ...] | None = None
    repeatable: bool = False
    switch: bool = False
    """What a switch sets `dest` to."""

    @property
    def keys(self) -> list[str]:
        return [name[2:] for name in self.names.split() if name.startswith("--")]

    @property
    def field(self) -> str:
        """The attribute of the parsed arguments that holds its value."""
        return self.dest or self.keys[0].replace("-", "_")

    def add_to(self, group: argparse._ActionsContainer) -> None:
        names = self.names.split()
        if self.metavar is None:
            action = "store_true" if self.switch else "store_false"
            group.add_argument(*names, dest=self.field, action=action, default=None, help=self.help)
            return
        made = group.add_argument(
            *names,
            dest=self.field,
            action="append" if self.repeatable else "store",
            type=self.type,
            choices=self.choices,
            metavar=self.metavar,
            help=self.help,
        )
        if self.metavar == "FILE":
            made.complete = COMPLETE_FILE  # type: ignore[attr-defined]


COMPLETE_FILE = {"bash": "_shtab_compgen_files", "zsh": "_files"}
"""What shell completion offers for a file, as shtab wants it said."""

# What is not given is None.
ADDRESS = (
    Option("-H --host", "host name or address; beats a socket from an option file", "HOST"),
    Option("-P --port", "TCP port (default 3306)", "PORT", port),
    Option("-S --socket", "connect through this Unix socket", "FILE"),
)
LOGIN = (
    Option("-u --user", "user to log in as", "USER"),
    Option(
        "-p --password", "password; shows in the process list, so better put it into a --defaults-file", "PASSWORD", str
    ),
    Option(
        "--defaults-file",
        "option file to read host, port, socket, user, password and ssl-* from; command-line options take precedence",
        "FILE",
        option_file,
    ),
    Option("--defaults-group", "group of the option file (default client)", "GROUP"),
    Option("--ssl-mode", f"{', '.join(SSL_MODES)} (default preferred)", "MODE", ssl_mode, choices=SSL_MODES),
    Option("--ssl-ca", "certificates of the authorities to trust", "FILE"),
    Option("--ssl-cert", "the client's certificate", "FILE"),
    Option("--ssl-key", "the client's key", "FILE"),
    Option(
        "--channel",
        "replication channel (MySQL) or connection name (MariaDB); needed where there are several ('' for the one "
        "without a name)",
        "NAME",
        channel,
    ),
    Option(
        "-t --timeout",
        "one deadline for name resolution, connection, queries and history together"
        f" (default {plain(DEFAULTS['timeout'])})",
        "TIME",
        timeout,
    ),
)
NAME = Option(
    "--replica",
    f"name in the history (default HOST:PORT or the socket, with {CHANNEL_SEPARATOR}CHANNEL if one is named);"
    " picks one of the --config file",
    "NAME",
)
REPLICA_IS = (
    Option(
        "--delay-mode",
        "what applies the delay: the server itself (native), pt-slave-delay (external); detected automatically (auto, "
        "the default)",
        "MODE",
        choices=("auto", "native", "external"),
    ),
    Option(
        "--no-local-heartbeat",
        "the replica has no heartbeat of its own, since it must not be written to",
        dest="local_heartbeat",
    ),
)
HEARTBEATS = (
    Option("--heartbeat-table", "table that pt-heartbeat writes (default percona.heartbeat)", "DB.TABLE", table),
    Option(
        "--master-server-id --source-server-id",
        "read this server's heartbeat; needed in a chain (default: the replica's own source)",
        "ID",
        server_id,
    ),
    Option(
        "--heartbeat-timezone",
        "IANA time zone of the heartbeat writers, where they run without --utc (default UTC)",
        "ZONE",
        timezone,
    ),
    *REPLICA_IS,
)
CONNECTION = (*ADDRESS, *LOGIN, NAME)


def _seconds(field: str, purpose: str, alias: str = "") -> Option:
    default = getattr(_DEFAULTS, field)
    in_words = f"{plain(default)}, or {plain(default / 3600)}h" if default >= 3600 else plain(default)
    return Option(f"{option(field)} {alias}", f"{purpose} (default {in_words})", "TIME", duration, field)


LIMITS = (
    Option(
        "--delay",
        "the delay that is meant: allows three to five quarters of it, and raises --max-trend-time and"
        " --max-relay-behind to fit where they are not given",
        "TIME",
        positive_duration,
    ),
    _seconds("min_delay_time", "the delay may not be shorter"),
    _seconds("max_delay_time", "the delay may not be longer"),
    _seconds(
        "max_seconds_behind",
        "age of the replica's own heartbeat, and how long the IO thread or the source may be silent; must be longer"
        " than the interval of heartbeats and of checks",
    ),
    _seconds("max_relay_behind", "how long the applied position may stand still"),
    _seconds("max_master_behind", "how long the fetched position may stand still", "--max-source-behind"),
    _seconds("max_last_seen", "age of the worker's last sample, with --sampling worker"),
    _seconds("max_backup_behind", "how long a backup may run, and hold an alarm back"),
    _seconds("max_deshard_behind", "how long a deshard may run, and hold an alarm back"),
    _seconds("max_recovery_time", "how long after a job the line may be out of bounds"),
    _seconds("max_trend_time", "how long a line that is on its way back may be out of bounds"),
    Option(
        "--max-job-behind",
        "a further kind of job, and how long one may run and hold an alarm back; repeatable",
        "KIND=TIME",
        job_limit,
        "job_limits",
        repeatable=True,
    ),
    Option(
        "--job-stops-server",
        "the server may be down during jobs of this kind; repeatable (default: none)",
        "KIND",
        repeatable=True,
    ),
    Option(
        "--allow-filter",
        "a replication filter that is meant, as the status shows it: Replicate_Ignore_DB=scratch; repeatable",
        "COLUMN=VALUE",
        replication_filter,
        "allowed_filters",
        repeatable=True,
    ),
)
TREND = (
    Option(
        "--window", f"how far back the line is fitted (default {plain(_DEFAULTS.window)})", "TIME", positive_duration
    ),
    Option(
        "--fit",
        "segment: the latest straight stretch of the window (default); window: all of it",
        "HOW",
        choices=("segment", "window"),
    ),
    Option(
        "--min-recovery-slope",
        "seconds of delay per second towards the range that count as recovering"
        f" (default {plain(_DEFAULTS.min_recovery_slope)})",
        "SLOPE",
        number,
    ),
    Option(
        "--min-correlation",
        f"correlation that a slope needs to be believed, 0 to 1 (default {plain(_DEFAULTS.min_correlation)})",
        "R",
        correlation,
    ),
)
HISTORY = Option(
    "--history",
    "SQLite file, or mysql://USER@HOST/DATABASE?defaults-file=FILE for a shared one"
    " (default $CHECK_DELAYED_REPL_HISTORY, else a file in the state folder)",
    "WHERE",
)
SAMPLING = Option(
    "--sampling",
    "inline: take a sample of the replica now (default); worker: judge the samples of delayed-repl worker, without"
    " connecting",
    "HOW",
    choices=("inline", "worker"),
)
OUTPUT = Option("--output", "text (default) or json", "FORMAT", choices=("text", "json"))
WAIT = Option("-t --timeout", f"how long the history may take (default {plain(DEFAULTS['timeout'])})", "TIME", timeout)
KEEP = Option("--keep", "delete samples older than this (default 30d)", "TIME", positive_duration)
INTERVAL = Option("--interval", "time from one sample to the next (default 10)", "TIME", interval)
CONFIG = Option(
    "--config",
    "TOML file with replicas and their options (default $CHECK_DELAYED_REPL_CONFIG; where neither it nor -H, -S or"
    " --defaults-file is given, /etc/check_delayed_repl/config.toml if it is there)",
    "FILE",
)


def add_options(group: argparse._ActionsContainer, *options: Option) -> None:
    for each in options:
        each.add_to(group)


def add_actions(parser: argparse.ArgumentParser, dest: str, actions: dict[str, str]) -> list[argparse.ArgumentParser]:
    """A parser for each action of a command, in order. What one does begins with the line that a list of them says."""
    parser.usage = "%(prog)s ACTION [options]"
    commands = parser.add_subparsers(dest=dest, metavar="ACTION", required=True, title="actions")
    made = []
    for name, about in actions.items():
        first, _, more = about.partition("\n")
        text = f"{first[0].upper()}{first[1:]}.\n{more}".rstrip()
        made.append(commands.add_parser(name, help=first, description=text))
    return made


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Which replica it is and how to log in: what `target_from` and `replica_name` read."""
    add_options(parser.add_argument_group("the replica"), *CONNECTION)
    add_options(parser.add_argument_group("its heartbeats"), *HEARTBEATS)


def add_judging_options(parser: argparse.ArgumentParser) -> None:
    """The limits: what `limits_from` reads."""
    add_options(parser.add_argument_group("limits", DURATION_HELP), *LIMITS)
    add_options(parser.add_argument_group("the trend"), *TREND)


def add_config_option(parser: argparse.ArgumentParser, group: argparse._ActionsContainer, picks: str) -> None:
    """The configuration file, and what of it the command needs: see `config.parsed`."""
    CONFIG.add_to(group)
    parser.set_defaults(picks=picks)


def add_history_option(group: argparse._ActionsContainer) -> None:
    """Where the history is; None stands for the default, which `history.open_history` knows."""
    HISTORY.add_to(group)


# --- from arguments to values ---


def _given(args: argparse.Namespace, fields: Iterable[str]) -> dict[str, Any]:
    return {field: value for field in fields if (value := getattr(args, field, None)) is not None}


def target_from(args: argparse.Namespace) -> Target:
    """The target that `add_connection_options` asked for."""
    return Target(**_given(args, Target._fields))


SHORTEST_WINDOW = 20.0
"""Seconds: what --delay makes the window for the shortest delays."""


def limits_from(args: argparse.Namespace) -> Limits:
    """The limits that `add_judging_options` asked for, with delay mode and local heartbeat where those were asked too.

    Raises UsageError, naming the option, where they make no sense together. A kind given twice: the last one counts.
    """
    given = _given(args, Limits._fields)
    delay: float | None = getattr(args, "delay", None)
    if delay is not None:
        # The proportions of two hours with the default limits.
        given = {
            "min_delay_time": 0.75 * delay,
            "max_delay_time": 1.25 * delay,
            "max_trend_time": max(_DEFAULTS.max_trend_time, 1.25 * delay),
            "max_relay_behind": max(_DEFAULTS.max_relay_behind, 4 * delay),
            # What lasts a tenth of the window may be left out as a dip: that must not be a whole short line.
            "window": max(SHORTEST_WINDOW, min(_DEFAULTS.window, delay / 2)),
        } | given
    given["job_limits"] = tuple(dict(given.get("job_limits", ())).items())
    for repeatable in ("job_stops_server", "allowed_filters"):
        given[repeatable] = tuple(dict.fromkeys(given.get(repeatable, ())))
    limits = Limits(**given)
    low, high = limits.min_delay_time, limits.max_delay_time
    if low > high:
        raise UsageError(f"--min-delay-time: {plain(low)} is greater than --max-delay-time {plain(high)}")
    for kind in limits.job_stops_server:
        if kind not in limits.kinds:
            raise UsageError(f"--job-stops-server: {kind!r} is no known kind of job")
    return limits


def replica_name(args: argparse.Namespace) -> str:
    """The name in the history: --replica, or `host:port` or the socket, plus `#channel` where one is named.

    Raises UsageError where the option file that has host and port cannot be understood.
    """
    if args.replica:
        return str(args.replica)
    # Left to those who do not name it.
    from check_delayed_repl.observe.address import server_name
    from check_delayed_repl.observe.optionfile import OptionFileError

    try:
        return server_name(target_from(args))
    except OptionFileError as error:
        raise UsageError(f"--defaults-file: {error}") from None
