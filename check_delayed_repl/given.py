"""The options that a person gave, to be repeated in every command that is printed: fit to be pasted again."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from check_delayed_repl.history import LOCATION_VARIABLE, HistoryUnavailable, default_file, is_url, without_password
from check_delayed_repl.observe.address import settings
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.observe.target import Target
from check_delayed_repl.options import ADDRESS, HEARTBEATS, LIMITS, LOGIN, TREND, Option, target_from

_CLIENTS = ("host", "port", "socket", "user", "ssl_ca", "ssl_cert", "ssl_key")
"""Fields of the arguments whose options the servers' own clients have too."""
_TLS = {
    "disabled": "--loose-skip-ssl",
    "preferred": "--loose-skip-ssl-verify-server-cert",
    "required": "--loose-ssl --loose-skip-ssl-verify-server-cert",
    "verify-ca": "--loose-ssl",
    "verify-identity": "--loose-ssl-verify-server-cert",
}
"""What MariaDB's client, which does not know --ssl-mode, has for it."""


class Shell(str):
    """A word as a shell is to read it."""

    __slots__ = ()


PASSWORD = Shell('--password="$PASSWORD"')  # what stands in the place of one


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
    connection: list[str] = ["--config", _whole(args.config)] if args.config else []
    connection += _given(args, (*ADDRESS, *LOGIN, *HEARTBEATS))
    client = _client(target)
    if target.password is not None:
        client.append(PASSWORD)
        connection += [] if "password" not in args.given else [PASSWORD]
    if args.replica:
        connection += ["--replica", args.replica]
    kept = args.history or os.environ.get(LOCATION_VARIABLE)
    if kept and not is_url(kept):
        kept = _whole(kept)
    place = without_password(kept or "")
    if kept and place != kept and not args.history:
        place = Shell(f'"${LOCATION_VARIABLE}"')  # its password, too, is left to the shell
    default = None
    with suppress(HistoryUnavailable):
        default = default_file()
    by_file = args.config and args.history and "history" not in args.given
    return Call(
        tuple(connection),
        tuple(_given(args, (*LIMITS, *TREND))),
        ("--history", place) if kept and not by_file else (),
        tuple(client),
        kept or default,
        target.heartbeat_table,
        target.channel,
        getattr(args, "sampling", None) == "worker",
    )


def _client(target: Target) -> list[str]:
    """The same way in for a client of either family: what only one of them knows is loose, which makes it a warning."""
    given = {field: value for field in _CLIENTS if (value := getattr(target, field)) is not None}
    given |= {field: _whole(given[field]) for field in ("socket", "ssl_ca", "ssl_cert", "ssl_key") if field in given}
    file, more = target.defaults_file, []
    try:
        there = settings(target)
        if there.socket is not None:
            given.pop("port", None)
        elif there.host == "localhost":
            more = ["--protocol=TCP"]  # at that name, they take the socket whatever the port
    except OptionFileError:
        pass  # theirs to complain of as well
    if target.ssl_mode:
        mode = target.ssl_mode.replace("-", "_").upper()
        more += [f"--loose-ssl-mode={mode}", *_TLS[target.ssl_mode].split()]
    words = [f"--{field.replace('_', '-')}={value}" for field, value in given.items()]
    if file is None:
        return [*words, *more]
    if target.defaults_group == "client":
        return [f"--defaults-file={_whole(file)}", *words, *more]
    # They read no other group: for them it is called so.
    group = re.sub(r"[][\\.*^$/]", r"\\\g<0>", target.defaults_group)
    renamed = shlex.join(["sed", f"s/^ *\\[/[not-/; s/^\\[not-{group} *\\]/[client]/", _whole(file)])
    return [Shell(f"--defaults-file=<({renamed})"), *words, *more]


def _whole(path: str) -> str:
    """A file by its whole path: whoever pastes it may stand in another folder."""
    return path if path.startswith("@") else os.path.abspath(path)


def _given(args: argparse.Namespace, options: Iterable[Option]) -> list[str]:
    """Those of the options that the command line gave, but for a password."""
    found: list[str] = []
    for one in options:
        value = args.given.get(one.field)
        if value is None or one.field == "password":
            continue
        if one.metavar == "FILE":
            value = _whole(value)
        if one.field == "defaults_file":
            found.insert(0, f"--defaults-file={value}")
        else:
            found += one.spelled(value)
    return found


def joined(given: Iterable[str]) -> str:
    """Words for a shell; what is a shell's already is left as it is."""
    return " ".join(word if isinstance(word, Shell) else _quoted(word) for word in given)


def _quoted(word: str) -> str:
    """For bash and its like where something in it cannot be printed."""
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escaped, word))}'"


def _escaped(c: str) -> str:
    if c.isprintable() and c not in "'\\":
        return c
    return "".join(f"\\x{byte:02x}" for byte in c.encode("utf-8", "surrogateescape"))
