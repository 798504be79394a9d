"""The options that a person gave, to be repeated in every command that is printed: fit to be pasted again."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from check_delayed_repl.history import LOCATION_VARIABLE, is_url, without_password
from check_delayed_repl.options import ADDRESS, HEARTBEATS, LIMITS, LOGIN, TREND, Option, target_from

_CLIENTS = ("defaults_file", "host", "port", "socket", "user", "ssl_ca")
"""Fields of the arguments whose options the servers' own clients have too."""
PASSWORD = '--password="$PASSWORD"'  # noqa: S105  what stands in the place of one


class Call(NamedTuple):
    """The options that a person gave, to be repeated in commands that are proposed. Passwords are left out."""

    connection: tuple[str, ...] = ()
    judging: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    client: tuple[str, ...] = ()
    """The same connection for the servers' own client."""
    kept: str | None = None
    """Where the history is, by whatever named it."""
    table: str = "percona.heartbeat"
    channel: str | None = None
    worker: bool = False
    """A worker takes the samples: nothing here connects to the replica."""

    @property
    def config(self) -> str | None:
        return self.file[1] if self.file else None

    @property
    def file(self) -> tuple[str, ...]:
        """The configuration file, where there is one: all that commands need which do not connect."""
        return self.connection[:2] if self.connection[:1] == ("--config",) else ()

    @property
    def reaches(self) -> bool:
        """The options say how to get to the replica. Without a worker, the default is meant if they do not."""
        return not self.worker or bool(self.client or self.file)


def call_from(args: argparse.Namespace) -> Call:
    """What was given, fit to be pasted again. A password is left to the shell."""
    target = target_from(args)
    connection: list[str] = ["--config", args.config] if args.config else []
    connection += _given(args, (*ADDRESS, *LOGIN, *HEARTBEATS))
    there = target
    if target.host in ("localhost", None) and target.port and not target.socket and not target.defaults_file:
        there = target._replace(host="127.0.0.1")  # at that name, MySQL's client takes the socket whatever the port
    theirs = {field: value for field in _CLIENTS if (value := getattr(there, field)) is not None}
    client = [f"--{field.replace('_', '-')}={value}" for field, value in theirs.items()]
    if target.password is not None:
        client.append(PASSWORD)
        connection += [] if "password" not in args.given else [PASSWORD]
    if args.replica:
        connection += ["--replica", args.replica]
    history = without_password(args.history) if args.history else None
    if history and not is_url(history):
        history = os.path.abspath(history)  # whoever pastes it may stand in another folder
    return Call(
        tuple(connection),
        tuple(_given(args, (*LIMITS, *TREND))),
        ("--history", history) if history and not (args.config and "history" not in args.given) else (),
        tuple(client),
        args.history or os.environ.get(LOCATION_VARIABLE),
        target.heartbeat_table,
        target.channel,
        getattr(args, "sampling", None) == "worker",
    )


def _given(args: argparse.Namespace, options: Iterable[Option]) -> list[str]:
    """Those of the options that the command line gave, but for a password."""
    found: list[str] = []
    for one in options:
        value = args.given.get(one.field)
        if value is None or one.field == "password":
            continue
        if one.field == "defaults_file":
            found.insert(0, f"--defaults-file={value}")
        else:
            found += one.spelled(value)
    return found


def joined(given: Iterable[str]) -> str:
    """Words for a shell; the stand-in for a password is left for the shell to fill in."""
    return " ".join(word if word == PASSWORD else _quoted(word) for word in given)


def _quoted(word: str) -> str:
    """For bash and its like where something in it cannot be printed."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(c: str) -> str:
    if c.isprintable() and c not in "'\\":
        return c
    return "".join(f"\\x{byte:02x}" for byte in c.encode("utf-8", "surrogateescape"))
