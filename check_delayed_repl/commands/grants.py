"""`delayed-repl grants`: the SQL that makes least-privilege accounts, for the servers that are there.

It is printed, not run: accounts are the DBA's business.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from typing import NamedTuple

from check_delayed_repl.history import LOCATION_VARIABLE
from check_delayed_repl.observe.replication import is_mariadb, privilege, version_numbers
from check_delayed_repl.options import (
    UsageError,
    add_connection_options,
    add_history_option,
    filled,
    replica_name,
    target_from,
)
from check_delayed_repl.words import clean

HELP = "print the SQL for least-privilege accounts: the check's, the worker's, the job writer's"

ROLES = ("check", "worker", "job")
PASSWORD = "<password>"  # noqa: S105  what stands in the place of one
_PURPOSE = {
    "check": "check_delayed_repl itself",
    "worker": "delayed-repl worker",
    "job": "whoever records jobs: delayed-repl job",
}
_VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,3})?([-+~.].*)?", re.ASCII)
_NEWEST = {"mysql": "9.7.0", "mariadb": "11.8.0-MariaDB"}

# What each role does with each table of a shared history. A `job` line's arrival number is given by those who store
# samples; whoever records jobs may not set it, nor read or change anything.
_HISTORY_RIGHTS: dict[str, dict[str, str]] = {
    "check": {
        "schema_version": "SELECT",
        "counter": "SELECT, UPDATE",
        "replica": "SELECT, INSERT, UPDATE",
        "sample": "SELECT, INSERT",
        "job": "SELECT, UPDATE (arrival, t)",
        "fold": "SELECT, INSERT, DELETE",
    },
    "worker": {
        "schema_version": "SELECT",
        "counter": "SELECT, UPDATE",
        "replica": "SELECT, INSERT, UPDATE",
        "sample": "SELECT, INSERT, DELETE",
        "job": "SELECT, UPDATE (arrival, t), DELETE",
        "fold": "SELECT, DELETE",
    },
}


class Server(NamedTuple):
    """What the SQL is for."""

    version: str
    """As the server calls itself: with `MariaDB` in it where it is one."""

    @property
    def mariadb(self) -> bool:
        return is_mariadb(self.version)

    @property
    def shown(self) -> str:
        family = "" if self.mariadb else "MySQL "
        return clean(f"{family}{self.version.removeprefix('5.5.5-')}", 80)

    @property
    def create_user(self) -> str:
        """CREATE USER, without an error where the account is there already, if the server knows how."""
        if not self.mariadb and (0, 0, 0) < version_numbers(self.version) < (5, 7, 0):
            return "CREATE USER"
        return "CREATE USER IF NOT EXISTS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_connection_options(parser)
    group = parser.add_argument_group("the accounts")
    group.add_argument(
        "--for", dest="roles", action="append", choices=ROLES, help="whose account; repeatable (default: all three)"
    )
    group.add_argument("--account-user", type=filled, metavar="NAME", help="the account's name (default delay_ROLE)")
    group.add_argument(
        "--account-host",
        type=filled,
        metavar="HOST",
        help="where it connects from (default localhost on the replica, %% on a shared history's server)",
    )
    add_history_option(group)
    group = parser.add_argument_group("without asking the server")
    group.add_argument("--family", choices=tuple(_NEWEST), help="the replica's family; nothing is connected to")
    group.add_argument("--server-version", type=_version, metavar="X.Y.Z", help="its version (default: the newest)")


def _version(text: str) -> str:
    if not _VERSION.fullmatch(text) or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no server's version, such as 10.11.6 or 8.4.3")
    return text


def run(args: argparse.Namespace) -> int:
    """Prints the SQL: 0; 1 where the server cannot be asked."""
    roles = tuple(role for role in ROLES if role in (args.roles or ROLES))
    if args.account_user and len(roles) > 1:
        raise UsageError("--account-user: say with --for whose account has this name")
    where = args.history or os.environ.get(LOCATION_VARIABLE) or ""
    shared = where if where[:8].lower() == "mysql://" else None
    lines = [f"-- Accounts for check_delayed_repl. Put real passwords in the place of {PASSWORD}."]
    watching = tuple(role for role in roles if role != "job")
    if watching:
        server = _told(args) or _asked(args)
        if server is None:
            return 1
        lines += _on_replica(server, watching, args)
    if shared:
        lines += _on_history(shared, roles, args)
    else:
        lines += [
            "",
            "-- The history is a file: no account is needed for it. Whoever looks, checks or records jobs must be able",
            "-- to write the file and its folder: put their users into one group that owns the folder with mode 2770.",
        ]
    print("\n".join(lines))
    return 0


def _told(args: argparse.Namespace) -> Server | None:
    """The server as the options describe it; None where it is to be asked."""
    version: str | None = args.server_version
    if args.family is None and version is None:
        return None
    family = args.family or ("mariadb" if version and is_mariadb(version) else None)
    if family is None:
        raise UsageError("--server-version: needs --family too")
    if version is None:
        return Server(_NEWEST[family])
    if family == "mysql" and is_mariadb(version):
        raise UsageError(f"--server-version: {version!r} is a MariaDB's, and --family says mysql")
    return Server(version if is_mariadb(version) or family == "mysql" else f"{version}-MariaDB")


def _asked(args: argparse.Namespace) -> Server | None:
    """The server as it describes itself; None, with a line on standard error, where it does not answer."""
    import sys

    from check_delayed_repl.observe.connection import Refused, SampleFailed, ask, connect, settings

    name = replica_name(args)
    target = target_from(args)
    deadline = time.monotonic() + args.timeout
    try:
        connection = connect(target, deadline, raw=True)
        try:
            # A proxy greets with a version of its own.
            found = settings(target)
            answer = ask(
                connection, "SELECT VERSION()", "asking for its version", found.where, args.timeout, found.password
            )
            version = (answer.rows[0][0] or b"").decode("utf-8", "replace")
        finally:
            connection.close()
    except (SampleFailed, Refused, IndexError) as error:
        text = error.message if isinstance(error, SampleFailed) else f"{name}: does not tell its version"
        print(f"delayed-repl: {clean(text)}; or describe the server with --family", file=sys.stderr)
        return None
    return Server(version)


def _on_replica(server: Server, roles: tuple[str, ...], args: argparse.Namespace) -> list[str]:
    database, _, table = target_from(args).heartbeat_table.partition(".")
    lines = [
        "",
        f"-- On the replica ({server.shown}).",
        "-- Not into its binary log, where an account made here would be a change that the source does not have.",
        "SET SESSION sql_log_bin = 0;",
    ]
    for role in roles:
        account = _account(role, args, "localhost")
        lines += [
            "",
            f"-- For {_PURPOSE[role]}.",
            _create(server, account),
            f"GRANT SELECT (server_id, ts) ON {_name(database)}.{_name(table)} TO {account};",
            f"GRANT {privilege(server.version)} ON *.* TO {account};",
        ]
    return [*lines, "", "SET SESSION sql_log_bin = 1;"]


def _on_history(url: str, roles: tuple[str, ...], args: argparse.Namespace) -> list[str]:
    from check_delayed_repl.history.mysql import JOB_WRITER_COLUMNS, SCHEMA, parse_url

    _, database, name = parse_url(url)
    lines = [
        "",
        f"-- On the server of the shared history {clean(name)}.",
        "-- Rights to a table can only be given once it is there.",
        f"CREATE DATABASE IF NOT EXISTS {_name(database)} CHARACTER SET utf8mb4;",
        f"USE {_name(database)};",
        *(re.sub(r"\s+", " ", statement) + ";" for statement in SCHEMA),
    ]
    for role in roles:
        account = _account(role, args, "%")
        rights = _HISTORY_RIGHTS.get(role, {"job": f"INSERT ({', '.join(JOB_WRITER_COLUMNS)})"})
        lines += [
            "",
            f"-- For {_PURPOSE[role]}.",
            # The server of a shared history is at least as new as this statement.
            f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY {_text(PASSWORD)};",
            *(f"GRANT {right} ON {_name(database)}.{_name(table)} TO {account};" for table, right in rights.items()),
        ]
    return lines


def _create(server: Server, account: str) -> str:
    return f"{server.create_user} {account} IDENTIFIED BY {_text(PASSWORD)};"


def _account(role: str, args: argparse.Namespace, host: str) -> str:
    # MySQL 5.6 knows names of up to 16 characters alone.
    return f"{_text(args.account_user or f'delay_{role}')}@{_text(args.account_host or host)}"


def _text(value: str) -> str:
    """A string of SQL, whatever the server's modes: both servers read a doubled quote in all of them."""
    if "\\" in value:
        raise UsageError("--account-user, --account-host: a backslash cannot be part of an account's name")
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    """An identifier of SQL."""
    return "`" + value.replace("`", "``") + "`"
