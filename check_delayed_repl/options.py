"""The options of all commands. Each stands once, as data: command line, file and documentation are made from it.

What gets past them can be used as it is: a limit or a target is checked here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from check_delayed_repl import arguments
from check_delayed_repl.arguments import UsageError
from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.limits import Limits
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
        how: dict[str, Any] = {"dest": self.field, "default": None, "help": self.help}
        if self.metavar is None:
            how["action"] = "store_true" if self.switch else "store_false"
        else:
            how["action"] = "append" if self.repeatable else "store"
            metavar = None if self.metavar[0] == "{" else self.metavar  # choices are listed by argparse itself
            how |= {"type": self.type, "choices": self.choices, "metavar": metavar}
        made = group.add_argument(*self.names.split(), **how)
        if self.metavar == "FILE":
            # As shtab, which makes the shells' completion, wants it said.
            made.complete = {"bash": "_shtab_compgen_files", "zsh": "_files"}  # type: ignore[attr-defined]


def value_text(value: object) -> str:
    """A value of an option as it would be given."""
    if isinstance(value, tuple):
        return f"{value[0]}={plain(value[1])}"  # a kind of job and its limit
    return plain(value) if isinstance(value, float) else str(value)


_READ: dict[str, Callable[[str], Any]] = {
    "COLUMN=VALUE": arguments.replication_filter,
    "DB.TABLE": arguments.table,
    "ID": arguments.server_id,
    "KIND=TIME": arguments.job_limit,
    "PORT": arguments.port,
    "R": arguments.correlation,
    "SLOPE": arguments.number,
    "TIME": arguments.duration,
    "ZONE": arguments.timezone,
}
"""How a value is read, by what stands for it; all others are text."""


def listed(text: str, **more: dict[str, Any]) -> list[tuple[Option, ...]]:
    """Groups of options, from text that reads as --help does. An empty line ends a group; a line that begins with a
    blank goes on with the one before it; `{this,that}` is what may be chosen.

    `more` has what else is to be said of an option, by its key. The defaults of limits are added to the texts.
    """
    groups = text.strip().replace("\n ", "  ").split("\n\n")
    return [tuple(_option(entry, more) for entry in group.split("\n")) for group in groups]


def _option(entry: str, more: dict[str, dict[str, Any]]) -> Option:
    spelling, _, about = entry.partition("  ")
    names = spelling.split()
    metavar = None if names[-1].startswith("-") else names.pop()
    spelling = " ".join(names)
    key = spelling.partition("--")[2].partition(" ")[0].replace("-", "_")
    how = {"type": _READ.get(metavar or "", arguments.filled)} | more.get(key, {})
    if metavar and metavar[0] == "{":
        how["choices"] = tuple(metavar[1:-1].split(","))
    about = " ".join(about.split())
    default = getattr(_DEFAULTS, key, None)
    if isinstance(default, float):
        hours = f", or {plain(default / 3600)}h" if default >= 3600 else ""
        about += f" (default {plain(default)}{hours})"
    return Option(spelling, about, metavar, **how)


# What is not given is None.
ADDRESS, LOGIN, (NAME,), _BEATS, REPLICA_IS, LIMITS, TREND, SOURCE, _OTHERS, (WAIT,) = listed(
    f"""
-H --host HOST               host name or address; beats a socket from an option file
-P --port PORT               TCP port (default 3306)
-S --socket FILE             connect through this Unix socket

-u --user USER               user to log in as
-p --password PASSWORD       password; shows in the process list, so better put it into a --defaults-file
--defaults-file FILE         option file to read host, port, socket, user, password and ssl-* from; command-line
                             options take precedence
--defaults-group GROUP       group of the option file (default client)
--ssl-mode MODE              {", ".join(SSL_MODES)} (default preferred)
--ssl-ca FILE                certificates of the authorities to trust
--ssl-cert FILE              the client's certificate
--ssl-key FILE               the client's key
--channel NAME               replication channel (MySQL) or connection name (MariaDB); needed where there are several
                             ('' for the one without a name)
-t --timeout TIME            one deadline for name resolution, connection, queries and history together
                             (default {plain(DEFAULTS["timeout"])})

--replica NAME               name in the history (default HOST:PORT or the socket, with {CHANNEL_SEPARATOR}CHANNEL if
                             one is named); picks one of the --config file

--heartbeat-table DB.TABLE   table that pt-heartbeat writes (default percona.heartbeat)
--master-server-id --source-server-id ID
                             read this server's heartbeat; needed in a chain (default: the replica's own source)
--heartbeat-timezone ZONE    IANA time zone of the heartbeat writers, where they run without --utc (default UTC)

--delay-mode MODE            what applies the delay: the server itself (native), pt-slave-delay (external); detected
                             automatically (auto, the default)
--no-local-heartbeat         the replica has no heartbeat of its own, since it must not be written to

--delay TIME                 the delay that is meant: allows three to five quarters of it, and raises --max-trend-time
                             and --max-relay-behind to fit where they are not given
--min-delay-time TIME        the delay may not be shorter
--max-delay-time TIME        the delay may not be longer
--max-seconds-behind TIME    age of the replica's own heartbeat, and how long the IO thread or the source may be
                             silent; must be longer than the interval of heartbeats and of checks
--max-relay-behind TIME      how long the applied position may stand still
--max-master-behind --max-source-behind TIME
                             how long the fetched position may stand still
--max-last-seen TIME         age of the worker's last sample, with --sampling worker
--max-backup-behind TIME     how long a backup may run, and hold an alarm back
--max-deshard-behind TIME    how long a deshard may run, and hold an alarm back
--max-recovery-time TIME     how long after a job the line may be out of bounds
--max-trend-time TIME        how long a line that is on its way back may be out of bounds
--max-job-behind KIND=TIME   a further kind of job, and how long one may run and hold an alarm back; repeatable
--job-stops-server KIND      the server may be down during jobs of this kind; repeatable (default: none)
--allow-filter COLUMN=VALUE  a replication filter that is meant, as the status shows it:
                             Replicate_Ignore_DB=scratch; repeatable

--window TIME                how far back the line is fitted
--fit HOW                    segment: the latest straight stretch of the window (default); window: all of it
--min-recovery-slope SLOPE   seconds of delay per second towards the range that count as recovering
--min-correlation R          correlation that a slope needs to be believed, 0 to 1

--source-host HOST           the source's host
--source-port PORT           TCP port there
--source-socket FILE         connect to the source through this Unix socket
--source-user USER           user there
--source-password PASSWORD   password there; better put it into an option file
--source-defaults-file FILE  option file for the source

--history WHERE              SQLite file, or mysql://USER@HOST/DATABASE?defaults-file=FILE for a shared one
                             (default $CHECK_DELAYED_REPL_HISTORY, else a file in the state folder)
--sampling HOW               inline: take a sample of the replica now (default); worker: judge the samples of
                             delayed-repl worker, without connecting
--output FORMAT              text (default) or json
--keep TIME                  delete samples older than this (default 30d)
--interval TIME              time from one sample to the next (default 10)
--config FILE                TOML file with replicas and their options (default $CHECK_DELAYED_REPL_CONFIG; where
                             neither it nor -H, -S or --defaults-file is given, /etc/check_delayed_repl/config.toml if
                             it is there)

-t --timeout TIME            how long the history may take (default {plain(DEFAULTS["timeout"])})
""",
    password={"type": str},
    defaults_file={"type": arguments.option_file},
    ssl_mode={"type": arguments.ssl_mode, "choices": SSL_MODES},
    channel={"type": arguments.channel},
    timeout={"type": arguments.timeout},
    delay_mode={"choices": ("auto", "native", "external")},
    no_local_heartbeat={"dest": "local_heartbeat"},
    delay={"type": arguments.positive_duration},
    max_job_behind={"dest": "job_limits", "repeatable": True},
    job_stops_server={"repeatable": True},
    allow_filter={"dest": "allowed_filters", "repeatable": True},
    window={"type": arguments.positive_duration},
    fit={"choices": ("segment", "window")},
    source_password={"type": str},
    source_defaults_file={"type": arguments.option_file},
    sampling={"choices": ("inline", "worker")},
    output={"choices": ("text", "json")},
    keep={"type": arguments.positive_duration},
    interval={"type": arguments.interval},
)
HISTORY, SAMPLING, OUTPUT, KEEP, INTERVAL, CONFIG = _OTHERS
CONNECTION = (*ADDRESS, *LOGIN, NAME)
HEARTBEATS = (*_BEATS, *REPLICA_IS)


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


def values_of(args: argparse.Namespace, fields: Iterable[str]) -> dict[str, Any]:
    """Those of the fields that are set."""
    return {field: value for field in fields if (value := getattr(args, field, None)) is not None}


def target_from(args: argparse.Namespace) -> Target:
    """The target that `add_connection_options` asked for."""
    return Target(**values_of(args, Target._fields))


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
    given = values_of(args, Limits._fields)
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
    if name := getattr(args, "replica", None):
        return str(name)
    # Left to those who do not name it.
    from check_delayed_repl.observe.address import server_name
    from check_delayed_repl.observe.optionfile import OptionFileError

    try:
        return server_name(target_from(args))
    except OptionFileError as error:
        raise UsageError(f"--defaults-file: {error}") from None
