"""One TOML file for every command: which replicas there are, and each one's options. examples/config.toml has all keys.

Keys are the names of the options, and each value is read by its option's own rule. Numbers may be numbers, times may
be numbers of seconds or text such as "10s", switches are true or false, repeatable options are lists, everything else
is text. The command line beats a replica's table, and that beats [defaults].
"""

from __future__ import annotations

import argparse
import os
import re
import stat
from contextlib import contextmanager, suppress
from functools import cached_property

from check_delayed_repl import options
from check_delayed_repl.arguments import UsageError, did_you_mean, filled, port, positive_duration, unreadable
from check_delayed_repl.history import holds_password
from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.limits import Limits
from check_delayed_repl.observe.optionfile import read_file, shown_to_all
from check_delayed_repl.observe.target import Target
from check_delayed_repl.options import Option
from check_delayed_repl.words import pasted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

DEFAULT_INTERVAL = 10.0
MAX_BYTES = 16 << 20

NUMERIC = ("TIME", "PORT", "ID", "SLOPE", "R", "KIND=TIME")
"""What may stand as bare numbers, by what an option calls its value."""
_URL_PATHS = re.compile(r"[?&](defaults-file|socket|ssl-ca|ssl-cert|ssl-key)=(?!/|@|%2F|%40|&|$)", re.IGNORECASE)
"""What comes before a relative path in the URL of a history."""


def template(text: str) -> str:
    """The name of an object in the monitor: text with `{replica}` and `{host}` in it."""
    if re.search("[{}]", re.sub(r"{{|}}|{replica}|{host}", "", text)):
        raise argparse.ArgumentTypeError(f"{text!r} may hold {{replica}} and {{host}} alone in braces")
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no name: it has line breaks or control characters in it")
    return filled(text)


def address(text: str) -> str:
    host, colon, number_ = text.rpartition(":")
    if not colon or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form HOST:PORT")
    port(number_)
    return text


def https_url(text: str) -> str:
    found = re.fullmatch(r"https://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::([0-9]+))?/?", text, re.ASCII)
    if not found:
        # It may hold a password.
        raise argparse.ArgumentTypeError("is not of the form https://HOST or https://HOST:5665")
    if found[2]:
        port(found[2])
    return text


OBJECTS = (
    Option("--object-host", "name of the monitor's host object ({replica}, {host})", "NAME", template),
    Option("--object-service", "name of the monitor's service object ({replica}, {host})", "NAME", template),
)
REPLICA_KEYS = (
    *options.CONNECTION,
    *options.HEARTBEATS,
    *options.LIMITS,
    *options.TREND,
    options.SAMPLING,
    options.INTERVAL,
    Option("--rescue-defaults-file", "option file with the account of delayed-repl rescue", "FILE"),
    *OBJECTS,
)
TOP_KEYS = (options.HISTORY, options.KEEP)
PUBLISH_KEYS = (
    Option("--prometheus-file", "a .prom file for the node exporter's textfile collector", "FILE"),
    Option("--prometheus-listen", "serve /metrics here", "HOST:PORT", address),
    Option("--nagios-command-file", "Nagios Core's external command file", "FILE"),
    Option("--publish-interval", "longest time between two results of a replica", "TIME", positive_duration),
    Option("--icinga2-url", "Icinga 2's API; several are tried in turn", "URL", https_url, repeatable=True),
    Option("--icinga2-user", "user of the API", "USER"),
    Option("--icinga2-password-file", "file that holds the API user's password", "FILE"),
    Option("--icinga2-ca", "certificates of the authorities to trust", "FILE"),
    *OBJECTS,
)


def by_key(options: Iterable[Option]) -> dict[str, Option]:
    return {key: each for each in options for key in each.keys}


_TOP, _REPLICA, _PUBLISH = map(by_key, (TOP_KEYS, REPLICA_KEYS, PUBLISH_KEYS))


class Publish(NamedTuple):
    """Where a worker is to publish verdicts: the table [publish]. None or empty: not there."""

    prometheus_file: str | None = None
    prometheus_listen: str | None = None
    nagios_command_file: str | None = None
    publish_interval: float = 60.0
    icinga2_url: tuple[str, ...] = ()
    icinga2_user: str | None = None
    icinga2_password_file: str | None = None
    icinga2_ca: str | None = None
    object_host: str = "{host}"
    object_service: str = "delayed replication {replica}"

    @property
    def wanted(self) -> bool:
        return bool(self.prometheus_file or self.prometheus_listen or self.nagios_command_file or self.icinga2_url)


class Replica(NamedTuple):
    """One replica: how to reach it and how to judge it."""

    name: str
    target: Target
    timeout: float = options.DEFAULTS["timeout"]
    """Seconds that one sample may take; never longer than the interval."""
    interval: float = DEFAULT_INTERVAL
    """Seconds from one sample to the next."""
    limits: Limits = Limits()
    object_host: str | None = None
    object_service: str | None = None
    """Its objects' names in the monitor, as templates; None: as in [publish]."""


Values = dict[str, "Any"]
"""Fields of the parsed arguments, and what one layer (command line, table) sets them to."""


class Table:
    """A table of a file, with its keys checked. Its values are read where they are needed, so that a mistake in one
    replica's table does not silence another's check."""

    def __init__(
        self, raw: dict[str, Any], known: dict[str, Option], which: str, folder: str = "", others: str = ""
    ) -> None:
        """`which` names it in messages; relative paths count from `folder`; `others` are keys beside the known ones.

        Raises UsageError where a key is none of the options' names.
        """
        for key in raw:
            if key.replace("_", "-") not in known:
                hint = did_you_mean(key, known, f": there are {', '.join(known)}{others}" if others else "")
                raise UsageError(f"{which}: {key!r}: there is no such key{hint}")
        self.raw = raw
        self.which = which
        self._known = known
        self._folder = folder

    @cached_property
    def values(self) -> Values:
        """By the fields that they set. Raises UsageError."""
        values: Values = {}
        for key, raw in self.raw.items():
            each = self._known[key.replace("_", "-")]
            if each.field in values:
                raise UsageError(f"{self.which}: {key}: given twice, under two names")
            try:
                values[each.field] = _value(each, raw, self._folder)
            except (argparse.ArgumentTypeError, ValueError) as error:
                raise UsageError(f"{self.which}: {key}: {error}") from None
        return values


class File:
    """A configuration file."""

    def __init__(self, path: str, document: dict[str, Any]) -> None:
        """Raises UsageError."""
        self.path = path
        folder = os.path.dirname(os.path.abspath(path))
        replicas = document.pop("replica", [])
        defaults, publish = document.pop("defaults", {}), document.pop("publish", {})
        for name, value in (("defaults", defaults), ("publish", publish)):
            if not isinstance(value, dict):
                raise UsageError(f"{path}: {name}: must be a table, [{name}]")
        if not isinstance(replicas, list) or not all(isinstance(entry, dict) for entry in replicas):
            raise UsageError(f"{path}: replica: must be tables, [[replica]], one for each replica")
        if "replica" in defaults:
            raise UsageError(f"{path}: [defaults]: replica: a name can only be one replica's own")
        top = Table(document, _TOP, path, folder, ", [defaults], [[replica]], [publish]").values
        self.history: str | None = top.get("history")
        self.keep: float | None = top.get("keep")
        self.tables = [
            Table(raw, _REPLICA, f"{path}: replica {number}", folder) for number, raw in enumerate(replicas, 1)
        ]
        """Of the replicas, without what [defaults] sets."""
        self.defaults = Table(defaults, _REPLICA, f"{path}: [defaults]", folder)
        self._publish = Table(publish, _PUBLISH, f"{path}: [publish]", folder)

    @property
    def publish(self) -> Publish:
        """Raises UsageError."""
        values = self._publish.values
        found = Publish(**values | {"icinga2_url": tuple(values.get("icinga2_url", ()))})
        if found.icinga2_url and not (found.icinga2_user and found.icinga2_password_file):
            raise UsageError(f"{self._publish.which}: icinga2-url: needs icinga2-user and icinga2-password-file too")
        if not found.icinga2_url and (found.icinga2_user or found.icinga2_password_file or found.icinga2_ca):
            raise UsageError(f"{self._publish.which}: icinga2-url: is missing, and nothing would be published there")
        return found

    def checked(self, found: os.stat_result) -> str:
        """What is wrong where everybody can read a password in it; else nothing. Raises UsageError where somebody else
        could have written it."""
        if found.st_uid not in (0, os.geteuid()):
            raise UsageError(f"{self.path}: belongs to user {found.st_uid}: must be root's or your own")
        if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IWOTH:
            raise UsageError(f"{self.path}: everybody may write to it: chmod o-w {pasted(self.path)}")
        passwords = any("password" in table.raw for table in (self.defaults, *self.tables))
        passwords = passwords or holds_password(self.history or "")
        return shown_to_all(self.path) if passwords and found.st_mode & stat.S_IROTH else ""

    def name(self, table: Table) -> str:
        """A replica's name in the history. Raises UsageError."""
        given = table.raw.get("replica")
        if isinstance(given, str):
            return given
        with _told_of(table.which):
            return options.replica_name(argparse.Namespace(**merged(self.defaults.values, table.values)))

    def names(self) -> list[str]:
        """The names of all replicas, in order. Raises UsageError: one line that names file and replica."""
        numbers: dict[str, int] = {}
        for number, table in enumerate(self.tables, 1):
            name = self.name(table)
            if name in numbers:
                raise UsageError(
                    f"{table.which}: its name {name!r} is that of replica {numbers[name]}: set another with replica ="
                )
            numbers[name] = number
        return list(numbers)

    def kinds(self) -> set[str]:
        """The kinds of job that any table gives a limit to. Raises UsageError."""
        keys = ("max-job-behind", "max_job_behind")
        raw = ({key: table.raw[key] for key in keys if key in table.raw} for table in (self.defaults, *self.tables))
        limits = [Table(table, _REPLICA, self.path).values for table in raw]
        return {kind for values in limits for kind, _ in values.get("job_limits", ())}

    def find(self, name: str) -> Table | None:
        """The table of the replica of this name. What is wrong with other replicas does not matter."""
        for table in self.tables:
            with suppress(UsageError):
                if self.name(table) == name:
                    return table
        return None

    def replicas(self, given: Values) -> list[Replica]:
        """Every replica, in order. What is `given` counts where the file is silent; before it, for one replica alone.
        Raises UsageError."""
        if not self.tables:
            raise UsageError(f"{self.path}: there is no [[replica]]")
        found = []
        for table, name in zip(self.tables, self.names(), strict=True):
            layers = (self.defaults.values, table.values)
            values = merged(*layers, given) if len(self.tables) == 1 else merged(given, *layers)
            with _told_of(table.which):
                found.append(replica_from(argparse.Namespace(**values | {"replica": name})))
        return found


def _value(each: Option, raw: object, folder: str) -> Any:
    """A value as its option reads it. Raises ArgumentTypeError."""
    if each.metavar is None:
        if not isinstance(raw, bool):
            raise argparse.ArgumentTypeError("must be true or false")
        return each.switch if raw else not each.switch
    if each.repeatable:
        if isinstance(raw, dict):
            raw = [f"{kind}={_text(each, entry, folder)}" for kind, entry in raw.items()]
        entries = raw if isinstance(raw, list) else [raw]
        return [each.type(_text(each, entry, folder)) for entry in entries]
    value = each.type(_text(each, raw, folder))
    if each.choices and value not in each.choices:
        raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(each.choices)}")
    return value


def _text(each: Option, raw: object, folder: str) -> str:
    """A value as the command line would have it; paths count from the file's folder."""
    numeric = each.metavar in NUMERIC
    if numeric and isinstance(raw, int | float) and not isinstance(raw, bool):
        return str(raw)
    if not isinstance(raw, str):
        raise argparse.ArgumentTypeError("must be a number or text" if numeric else "must be text")
    if each is options.HISTORY and ":/" in raw:
        # Left to those who have such a history, which needs it too.
        from urllib.parse import quote

        return _URL_PATHS.sub(lambda before: f"{before[0]}{quote(folder)}/", raw)
    path = each.metavar == "FILE" or each is options.HISTORY
    return os.path.join(folder, raw) if path and raw and raw[0] != "@" else raw


def read_toml(path: str, option: str) -> tuple[dict[str, Any], os.stat_result]:
    """A TOML file's content and whose it is. Raises UsageError."""
    import tomllib

    try:
        text, found = read_file(path, MAX_BYTES)
    except PermissionError:
        raise UsageError(f"{option}: {unreadable(path)}") from None
    except OSError as error:
        raise UsageError(f"{option}: cannot read {path}: {error.strerror}") from None
    try:
        return tomllib.loads(text.decode()), found
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # The parser's message may go on to quote the line, and with it a password.
        where = str(error).rpartition("(")[2].rstrip(")") if "(at " in str(error) else "no UTF-8 text"
        raise UsageError(f"{option}: {path}: this is not TOML ({where})") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{option}: {path}: this is not TOML") from None


def merged(*layers: Values) -> Values:
    """What counts, of layers from the farthest to the nearest.

    A nearer address replaces a farther one whole; a nearer delay replaces farther bounds, and bounds a farther delay.
    """
    found: Values = {}
    complete = False
    """Whether the port belongs to an address of a farther layer, and not to every address."""
    for layer in layers:
        if "host" in layer or "socket" in layer:
            for field in ("host", "socket", *(["port"] if complete else [])):
                found.pop(field, None)
            complete = True
        elif "port" in layer:
            found.pop("socket", None)
        if "delay" in layer:
            found.pop("min_delay_time", None)
            found.pop("max_delay_time", None)
        elif "min_delay_time" in layer and "max_delay_time" in layer:
            found.pop("delay", None)
        found |= layer
    return found


def replica_from(args: argparse.Namespace) -> Replica:
    """The one replica that the arguments name. Raises UsageError."""
    settings = options.values_of(args, ("timeout", "interval", "object_host", "object_service"))
    return Replica(options.replica_name(args), options.target_from(args), limits=options.limits_from(args), **settings)


def limits_of(path: str, args: argparse.Namespace) -> Limits:
    """The limits in a TOML file of limits alone, on top of those of the arguments. Raises UsageError."""
    document, found = read_toml(path, "--compare")
    which = f"--compare: {path}"
    if not found.st_size:  # as a --suggest that failed leaves what it was written to
        raise UsageError(f"{which}: is empty")
    values = Table(document, by_key((*options.LIMITS, *options.TREND, *options.REPLICA_IS)), which).values
    fields = {each.field for each in _REPLICA.values()}
    base = options.values_of(args, fields)
    with _told_of(which):
        return options.limits_from(argparse.Namespace(**merged(base, values)))


@contextmanager
def _told_of(which: str) -> Iterator[None]:
    """Usage errors in it name the table that they are about."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{which}: {str(error).removeprefix(f'{which}: ')}") from None
