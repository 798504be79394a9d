"""`delayed-repl grants`: the SQL that makes least-privilege accounts, for the servers that are there.

It is printed, not run: accounts are the DBA's business.
"""

from __future__ import annotations

import argparse
import os
import re

from check_delayed_repl import options
from check_delayed_repl.arguments import UsageError, table
from check_delayed_repl.commands import CommandFailed
from check_delayed_repl.history import LOCATION_VARIABLE
from check_delayed_repl.observe.heartbeat import identifier, table_name
from check_delayed_repl.observe.replication import is_mariadb
from check_delayed_repl.options import listed
from check_delayed_repl.setup import accounts
from check_delayed_repl.setup.accounts import Account
from check_delayed_repl.setup.asking import NEWEST, Facts, unasked
from check_delayed_repl.setup.hindrances import IN_THE_MIDDLE, lost_heartbeats
from check_delayed_repl.words import clean

HELP = "print the SQL for least-privilege accounts: check, worker, job writer, heartbeat writer, rescuer"

ROLES = {
    "check": accounts.CHECK,
    "worker": accounts.WORKER,
    "job": accounts.JOB,
    "heartbeat": accounts.LOCAL_BEAT,
    "rescue": accounts.RESCUE,
}
USUAL = ("check", "worker", "job")
_VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,3})?([-+~.].*)?", re.ASCII)

# What each role does with each table of a shared history. A `job` line's arrival number is given by those who store
# samples; whoever records jobs may not set it, nor read or change anything.
_CHECK_RIGHTS = {
    "schema_version": "SELECT",
    "counter": "SELECT, UPDATE",
    "replica": "SELECT, INSERT, UPDATE",
    "sample": "SELECT, INSERT, DELETE",
    "job": "SELECT, UPDATE (arrival, t), DELETE",
    "fold": "SELECT, INSERT, DELETE",
}
_HISTORY_RIGHTS = {
    "check": _CHECK_RIGHTS,
    "worker": _CHECK_RIGHTS | {"job": "SELECT, INSERT, UPDATE (arrival, t), DELETE"},
}


def _version(text: str) -> str:
    if not _VERSION.fullmatch(text) or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no server's version, such as 10.11.6 or 8.4.3")
    return text


def _readable(text: str) -> str:
    """`DB.TABLE`, `DB.*` or `*.*`, as SQL has it."""
    if text == "*.*":
        return text
    if text.endswith(".*"):
        return f"{identifier(table(f'{text[:-2]}.x')[:-2])}.*"
    return table_name(table(text))


_ACCOUNTS, _UNASKED = listed(
    """
--for {check,worker,job,heartbeat,rescue}
                          whose account: check, worker, job, heartbeat (of the server that is asked), rescue; repeatable
                          (default: check, worker and job)
--account-user NAME       the account's name (default delay_ROLE)
--account-host HOST       where it connects from (default: where this command does, as the server sees it; localhost
                          for pt-heartbeat and without asking; %% on a shared history's server)
--reads DB.TABLE          with --for rescue: what its account may count and dump too, DB.* and *.* as well; repeatable

--family {mysql,mariadb}  the server's family; nothing is connected to
--server-version X.Y.Z    its version (default: the newest)
--on {replica,source}     what it is (default: what it says; without asking, a replica)
""",
    reads={"type": _readable, "repeatable": True},
    server_version={"type": _version},
    account_host={"type": str.lower},
    **{"for": {"dest": "roles", "repeatable": True}},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_connection_options(parser)
    group = parser.add_argument_group("the accounts")
    options.add_options(group, *_ACCOUNTS, options.HISTORY)
    options.add_config_option(parser, group, "any")
    options.add_options(parser.add_argument_group("without asking the server"), *_UNASKED)


def _granted(what: str, server: Facts) -> str:
    """In the name of a whole database, the server takes % and _ for any characters, unless it knows partial revokes."""
    if what == "*.*" or not what.endswith(".*") or server.on("partial_revokes"):
        return what
    return re.sub(r"(?<!\\)[%_]", r"\\\g<0>", what)


def run(args: argparse.Namespace) -> int:
    """Prints the SQL: 0; 1 where the server cannot be asked."""
    roles = tuple(role for role in ROLES if role in (args.roles or USUAL))
    if args.account_user and len(roles) > 1:
        raise UsageError("--account-user: say with --for whose account has this name")
    if "\\" in (args.account_user or "") + (args.account_host or ""):
        raise UsageError("--account-user, --account-host: a backslash cannot be part of an account's name")
    if args.reads and "rescue" not in roles:
        raise UsageError("--reads: is for --for rescue")
    where = args.history or os.environ.get(LOCATION_VARIABLE) or ""
    shared = where if where[:8].lower() == "mysql://" else None
    lines = [
        "-- Accounts for check_delayed_repl. An account that is there already is left as it is, password and all:",
        "-- leave its option file as it is then, too.",
    ]
    here = tuple(role for role in roles if role != "job")
    if here:
        server = _told(args) or _asked(args)
        lines += ["-- Two parts, for two servers: do not run both on one."] if shared else []
        lines += accounts.in_utf8(_on_server(server, here, args))
    if shared:
        lines += accounts.in_utf8(_on_history(shared, tuple(role for role in roles if role in USUAL), args))
    elif set(roles) & set(USUAL):
        lines += [
            "",
            "-- The history is a file: no account is needed for it. Whoever takes samples, checks or records jobs",
            "-- must be able to write the file and its folder: put their users into one group that owns the folder",
            "-- with mode 2770.",
        ]
    print("\n".join(lines))
    return 0


def _told(args: argparse.Namespace) -> Facts | None:
    """The server as the options describe it; None where it is to be asked."""
    if args.family is None and args.server_version is None:
        return None
    version: str = args.server_version or NEWEST[args.family]
    if not is_mariadb(version):
        if args.family is None:
            raise UsageError("--server-version: needs --family too")
        version += "-MariaDB" if args.family == "mariadb" else ""
    elif args.family == "mysql":
        raise UsageError(f"--server-version: {version!r} is a MariaDB's, and --family says mysql")
    return unasked(version, read_only="ON")


def _asked(args: argparse.Namespace) -> Facts:
    """The server as it describes itself."""
    from check_delayed_repl.observe.failures import Refused, SampleFailed
    from check_delayed_repl.setup.asking import facts

    file = args.fleet
    if (
        file is not None
        and len(file.tables) > 1
        and not args.given.keys() & {"host", "socket"}
        and file.find(args.replica) is None
    ):
        raise UsageError(f"--replica: which one? {file.path} has {', '.join(file.names())}")
    if "user" in args.given:
        # An administrator's login takes the place of the check's whole.
        for field in {"password", "defaults_file"} - args.given.keys():
            setattr(args, field, None)
    name = options.replica_name(args)
    try:
        return facts(options.target_from(args), args.timeout, watch_s=0.0)
    except (SampleFailed, Refused, ValueError) as error:
        text = str(error) if isinstance(error, SampleFailed) else f"{name}: does not tell its version"
        raise CommandFailed(f"{text}; log in as an administrator (-u), or describe the server (--family)") from None


def _on_server(server: Facts, roles: tuple[str, ...], args: argparse.Namespace) -> list[str]:
    dotted = options.target_from(args).heartbeat_table
    # What may not be read is taken for a replica: there, nothing must get into the binary log.
    replica = server.statuses != () if args.on is None else args.on == "replica"
    sealed = replica and server.on("super_read_only")
    logged = sealed or not replica
    there = server.columns is not None
    lines = accounts.heartbeat_table(dotted, there) if logged or not there else []
    if lines and not logged:
        lines.insert(0, "-- Where the source has this table already, wait until it comes through replication instead.")
    for name in roles:
        if name == "heartbeat" and sealed:
            lines += ["", "-- No heartbeat of its own can be written here: give --no-local-heartbeat to the check."]
            continue
        role = accounts.BEAT if name == "heartbeat" and not replica else ROLES[name]
        user = args.account_user or role.user
        host = args.account_host or ("localhost" if name == "heartbeat" else server.came_from)
        longest = 80 if server.dialect.mariadb else 16 if server.old else 32
        if len(user) > longest:
            raise UsageError(f"--account-user: {server.shown} takes {longest} characters at most")
        rights = accounts.rights(role, server, dotted)
        if name == "rescue":
            rights += [f"{accounts.READING} ON {_granted(what, server)}" for what in args.reads or ()]
        account = Account(role, user, host, None if (user, host) in server.accounts else accounts.password())
        made = account.sql(server, rights, logged)
        if account.secret is None and not replica:
            made = [f"-- {line}" for line in made]
            made.insert(0, "-- A replica that does not have it would stop at this (1410, 1133), one delay later:")
        lines += [*_option_file(account, role.file), *made]
        if name == "rescue" and not args.reads:
            lines.append("-- It may not count or dump what was saved: grants --for rescue --reads 'DB.*' lets it.")
    if sealed:
        note = "Run this on its source: it is super_read_only, and accounts come through replication, one delay later."
        return ["", f"-- For the replica ({server.shown}). {note}", *lines]
    if not replica:
        told = [f"Heartbeats will not arrive: {reason}." for reason in lost_heartbeats({}, server.binlog, dotted)]
        told += [IN_THE_MIDDLE] if server.statuses else []
        note = "What is made here comes to its replicas, with their delay: do not make it there by hand."
        return ["", f"-- On the source ({server.shown}). {note}", *(f"-- {text}" for text in told), *lines]
    return [
        "",
        f"-- On the replica ({server.shown}).",
        "-- Not into its binary log, where what is made here would be a change that the source does not have.",
        *accounts.unlogged([*lines, ""]),
    ]


def _on_history(url: str, roles: tuple[str, ...], args: argparse.Namespace) -> list[str]:
    from check_delayed_repl.history.mysql import JOB_WRITER_COLUMNS, KEYS_OF_ITS_OWN, SCHEMA, parse_url

    _, database, shown = parse_url(url)
    lines = [
        "",
        f"-- On the server of the shared history {clean(shown)}.",
        "-- Rights to a table can only be given once it is there.",
        f"CREATE DATABASE IF NOT EXISTS {identifier(database)} CHARACTER SET utf8mb4;",
        f"USE {identifier(database)};",
    ]
    for statement in SCHEMA:
        if statement == KEYS_OF_ITS_OWN:
            lines.append("-- Only a server older than MySQL 8.0.13 or MariaDB 10.2.1 must do without:")
        lines.append(re.sub(r"\s+", " ", statement) + ";")
    for name in roles:
        rights = _HISTORY_RIGHTS.get(name, {"job": f"INSERT ({', '.join(JOB_WRITER_COLUMNS)})"})
        user = args.account_user or ROLES[name].user
        account = Account(ROLES[name], user, args.account_host or "%", accounts.password())
        grants = [f"{right} ON {identifier(database)}.{identifier(table)}" for table, right in rights.items()]
        # The server of a shared history is at least as new as IF NOT EXISTS.
        made = account.sql(unasked("8.0.0"), grants, logged=False)
        lines += [*_option_file(account, f"{accounts.JOB.file}, which the URL names: ?defaults-file=…"), *made]
    return lines


def _option_file(account: Account, file: str) -> list[str]:
    about = ["", f"-- For {account.role.purpose}. Mode 0640, {accounts.FOLDER}/{file}"]
    return [*about, *(f"--   {line}" for line in account.option_file())]
