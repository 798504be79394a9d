"""Which replicas a worker looks at: one from the options, or many from a TOML file.

    [defaults]                      # for every replica that does not say otherwise
    user = "monitor"
    defaults-file = "/etc/check_delayed_repl/my.cnf"
    interval = "10s"

    [[replica]]                     # one table for each replica
    host = "db7.example.com"

    [[replica]]
    replica = "orders"              # its name in the history
    socket = "/run/mysqld/mysqld.sock"
    channel = "orders"
    no-local-heartbeat = true

Keys are the names of the command's own connection options, and `interval`. Numbers may be numbers, times may be numbers
of seconds or text such as "10s", switches are true or false, everything else is text. Options on the command line count
for every replica that the file does not tell otherwise.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any, NamedTuple

from check_delayed_repl.observe.target import Target
from check_delayed_repl.options import (
    DEFAULT_TIMEOUT,
    Parser,
    UsageError,
    add_connection_options,
    port,
    positive_duration,
    replica_name,
    server_id,
    target_from,
)
from check_delayed_repl.words import plain

DEFAULT_INTERVAL = 10.0
MIN_INTERVAL = 0.1
MAX_INTERVAL = 86400.0


class Watch(NamedTuple):
    """A replica to look at."""

    name: str
    """Its name in the history."""
    target: Target
    timeout: float = DEFAULT_TIMEOUT
    """Seconds that one look may take; never longer than the interval."""
    interval: float = DEFAULT_INTERVAL
    """Seconds from one look to the next."""


def interval(text: str) -> float:
    """An interval in seconds, as an argparse type."""
    value = positive_duration(text)
    if not MIN_INTERVAL <= value <= MAX_INTERVAL:
        raise argparse.ArgumentTypeError(f"{text!r} is not between {plain(MIN_INTERVAL)} s and a day")
    return value


def add_interval_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--interval",
        type=interval,
        default=DEFAULT_INTERVAL,
        metavar="TIME",
        help=f"time from one look to the next (default {plain(DEFAULT_INTERVAL)})",
    )


def one(args: argparse.Namespace) -> list[Watch]:
    """The one replica that the options name. Raises UsageError."""
    return [Watch(replica_name(args), target_from(args), args.timeout, args.interval)]


def many(path: str, args: argparse.Namespace) -> list[Watch]:
    """The replicas of a TOML file, in its order; `args` holds what counts where the file is silent.

    Raises UsageError: one line that names the file, the replica and the key.
    """
    if args.replica:
        raise UsageError("--replica: not together with --config; give each replica its own name there")
    document = _document(path)
    for key in document:
        if key not in ("defaults", "replica"):
            raise UsageError(f"{path}: {key!r}: there are only [defaults] and [[replica]]")
    defaults, tables = document.get("defaults", {}), document.get("replica", [])
    if not isinstance(defaults, dict):
        raise UsageError(f"{path}: defaults: must be a table, [defaults]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: replica: must be tables, [[replica]], one for each replica")
    if not tables:
        raise UsageError(f"{path}: there is no [[replica]]")
    if "replica" in defaults:
        raise UsageError(f"{path}: [defaults]: replica: a name can only be one replica's own")
    parser = _parser()
    base = _applied(parser, defaults, args, f"{path}: [defaults]")
    watches: list[Watch] = []
    places: dict[str, int] = {}
    for place, table in enumerate(tables, 1):
        which = f"{path}: replica {place}"
        found = _applied(parser, table, base, which)
        try:
            watch = one(found)[0]
        except UsageError as error:
            raise UsageError(f"{which}: {error}") from None
        if watch.name in places:
            raise UsageError(
                f"{which}: its name {watch.name!r} is that of replica {places[watch.name]}: set another with replica ="
            )
        places[watch.name] = place
        watches.append(watch)
    return watches


def _document(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"--config: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        # The parser's message may go on to quote the line, and with it a password.
        where = str(error).rpartition("(")[2].rstrip(")") if "(at " in str(error) else "no UTF-8 text"
        raise UsageError(f"{path}: this is not TOML ({where})") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: this is not TOML") from None


def _parser() -> Parser:
    """The options that a table may set: the same as on the command line, with the same checks."""
    parser = Parser("worker", add_help=False)
    add_connection_options(parser)
    add_interval_option(parser)
    return parser


def _applied(parser: Parser, table: dict[str, Any], base: argparse.Namespace, which: str) -> argparse.Namespace:
    """A copy of `base` with the table's settings in it. Raises UsageError."""
    found = copy.copy(base)
    arguments: list[str] = []
    seen: set[str] = set()
    actions = parser._option_string_actions  # noqa: SLF001  argparse has no public way to ask
    for key, value in table.items():
        option = "--" + key.replace("_", "-")
        action = actions.get(option)
        if action is None:
            raise UsageError(f"{which}: {key!r}: there is no such key")
        if action.dest in seen:
            raise UsageError(f"{which}: {key}: given twice, under two names")
        seen.add(action.dest)
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise UsageError(f"{which}: {key}: must be true or false")
            setattr(found, action.dest, action.const if value else not action.const)
            continue
        arguments.append(f"{option}={_text(action, key, value, which)}")
    try:
        return parser.parse_args(arguments, found)
    except UsageError as error:
        raise UsageError(f"{which}: {error}") from None


def _text(action: argparse.Action, key: str, value: object, which: str) -> str:
    """A value as the command line would have it. Raises UsageError where it is of the wrong type."""
    if action.type in (port, server_id):
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError(f"{which}: {key}: must be a whole number")
        return str(value)
    if action.dest in ("timeout", "interval"):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return plain(value)
        if isinstance(value, str):
            return value
        raise UsageError(f"{which}: {key}: must be a number of seconds, or text such as '10s'")
    if not isinstance(value, str):
        raise UsageError(f"{which}: {key}: must be text")
    return value
