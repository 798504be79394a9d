"""The options of all commands. Each stands once, as data: command line, file and documentation are made from it.

What gets past them can be used as it is: a limit or a target is checked here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from check_delayed_repl import arguments
from check_delayed_repl.arguments import UsageError
from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.limits import Limits, option
from check_delayed_repl.observe.target import SSL_MODES, Target
from check_delayed_repl.records import CHANNEL_SEPARATOR
from check_delayed_repl.words import plain

if TYPE_CHECKING:
    from typing import Any

LEAST_KEPT = 3600.0
"""Seconds that a trend may reach back, or its window where that is longer."""
DEFAULTS = {"timeout": 10.0, "keep": 30 * 86400.0}
"""What counts where neither the command line nor a file says anything. Others' defaults stand in Target and Limits."""
DURATION_HELP = "A time is a number of seconds, or a number with s, m, h or d: 5400 is the same as 90m or 1.5h."
_DEFAULTS = Limits()


class Option(NamedTuple):
    """One option, on the command line or as a key of the configuration file."""

    names: str
    """All its spellings, short ones first: `-H --host`. Without `--`, the long ones are the file's keys."""
    help: str
    metavar: str | None = None
    """What stands for its value; None: a switch."""
    type: Callable[[str], Any] = arguments.filled
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

    def spelled(self, value: Any) -> list[str]:
        """The option with this value, as words of a command line."""
        name, entries = self.names.split()[0], value if self.repeatable else [value]
        if self.metavar is None:
            return [name] if value == self.switch else []
        return [word for each in entries for word in (name, value_text(each))]

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


def value_text(value: object) -> str:
    """A value of an option as it would be given."""
    if isinstance(value, tuple):
        return f"{value[0]}={plain(value[1])}"  # a kind of job and its limit
    return plain(value) if isinstance(value, float) else str(value)


COMPLETE_FILE = {"bash": "_shtab_compgen_files", "zsh": "_files"}
"""What shell completion offers for a file, as shtab wants it said."""

# What is not given is None.
ADDRESS = (
    Option("-H --host", "host name or address; beats a socket from an option file", "HOST"),
    Option("-P --port", "TCP port (default 3306)", "PORT", arguments.port),
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
        arguments.option_file,
    ),
    Option("--defaults-group", "group of the option file (default client)", "GROUP"),
    Option("--ssl-mode", f"{', '.join(SSL_MODES)} (default preferred)", "MODE", arguments.ssl_mode, choices=SSL_MODES),
    Option("--ssl-ca", "certificates of the authorities to trust", "FILE"),
    Option("--ssl-cert", "the client's certificate", "FILE"),
    Option("--ssl-key", "the client's key", "FILE"),
    Option(
        "--channel",
        "replication channel (MySQL) or connection name (MariaDB); needed where there are several ('' for the one "
        "without a name)",
        "NAME",
        arguments.channel,
    ),
    Option(
        "-t --timeout",
        "one deadline for name resolution, connection, queries and history together"
        f" (default {plain(DEFAULTS['timeout'])})",
        "TIME",
        arguments.timeout,
    ),
)
SOURCE = (
    Option("--source-host", "the source's host", "HOST"),
    Option("--source-port", "TCP port there", "PORT", arguments.port),
    Option("--source-socket", "connect to the source through this Unix socket", "FILE"),
    Option("--source-user", "user there", "USER"),
    Option("--source-password", "password there; better put it into an option file", "PASSWORD", str),
    Option("--source-defaults-file", "option file for the source", "FILE", arguments.option_file),
)
"""Those of a replica's source, where it is asked too."""
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
    Option(
        "--heartbeat-table", "table that pt-heartbeat writes (default percona.heartbeat)", "DB.TABLE", arguments.table
    ),
    Option(
        "--master-server-id --source-server-id",
        "read this server's heartbeat; needed in a chain (default: the replica's own source)",
        "ID",
        arguments.server_id,
    ),
    Option(
        "--heartbeat-timezone",
        "IANA time zone of the heartbeat writers, where they run without --utc (default UTC)",
        "ZONE",
        arguments.timezone,
    ),
    *REPLICA_IS,
)
CONNECTION = (*ADDRESS, *LOGIN, NAME)


def _seconds(field: str, purpose: str, alias: str = "") -> Option:
    default = getattr(_DEFAULTS, field)
    in_words = f"{plain(default)}, or {plain(default / 3600)}h" if default >= 3600 else plain(default)
    return Option(f"{option(field)} {alias}", f"{purpose} (default {in_words})", "TIME", arguments.duration, field)


LIMITS = (
    Option(
        "--delay",
        "the delay that is meant: allows three to five quarters of it, and raises --max-trend-time and"
        " --max-relay-behind to fit where they are not given",
        "TIME",
        arguments.positive_duration,
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
        arguments.job_limit,
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
        arguments.replication_filter,
        "allowed_filters",
        repeatable=True,
    ),
)
TREND = (
    Option(
        "--window",
        f"how far back the line is fitted (default {plain(_DEFAULTS.window)})",
        "TIME",
        arguments.positive_duration,
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
        arguments.number,
    ),
    Option(
        "--min-correlation",
        f"correlation that a slope needs to be believed, 0 to 1 (default {plain(_DEFAULTS.min_correlation)})",
        "R",
        arguments.correlation,
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
WAIT = Option(
    "-t --timeout", f"how long the history may take (default {plain(DEFAULTS['timeout'])})", "TIME", arguments.timeout
)
KEEP = Option("--keep", "delete samples older than this (default 30d)", "TIME", arguments.positive_duration)
INTERVAL = Option("--interval", "time from one sample to the next (default 10)", "TIME", arguments.interval)
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
    # Without `prog`, argparse takes the usage text for the name.
    commands = parser.add_subparsers(dest=dest, metavar="ACTION", required=True, title="actions", prog=parser.prog)
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


# --- from arguments to values ---


def _given(args: argparse.Namespace, fields: Iterable[str]) -> dict[str, Any]:
    return {field: value for field in fields if (value := getattr(args, field, None)) is not None}


def target_from(args: argparse.Namespace) -> Target:
    """The target that `add_connection_options` asked for."""
    return Target(**_given(args, Target._fields))


SHORTEST_WINDOW = 20.0
"""Seconds: what --delay makes the window for the shortest delays."""


def check_keep(keep: float, limits: Limits) -> None:
    """Raises UsageError where samples are needed for longer than they are to be kept."""
    if keep < max(limits.window, LEAST_KEPT):
        raise UsageError(f"--keep: {plain(keep)} seconds is less than a trend may reach back")


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
