"""`delayed-repl init`: asks a replica and its source what they are, and writes a folder with all that monitoring takes.

It changes nothing on any server.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from check_delayed_repl.arguments import UsageError, filled, server_delay
from check_delayed_repl.commands import CommandFailed, complain
from check_delayed_repl.observe.address import from_file, settings
from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.observe.replication import chosen, version_numbers
from check_delayed_repl.observe.target import Target
from check_delayed_repl.options import ADDRESS, HEARTBEATS, LOGIN, NAME, SOURCE, add_options, listed, target_from
from check_delayed_repl.setup.asking import Facts, Row, Wanted, facts
from check_delayed_repl.setup.folder import Impossible, folder
from check_delayed_repl.setup.hindrances import warnings

PROGRAMS = "/opt/check_delayed_repl/bin"
"""Where the README has them installed."""
HELP = "the way in: ask a replica and its source, and write a folder with all that monitoring takes"
DESCRIPTION = """\
Asks the replica, and its source, as an administrator what they are, and writes a folder: numbered
steps, SQL, option files, pt-heartbeat's units, and configuration for the check and the monitor. Run
it where the check will run. Nothing is changed on any server."""

SOURCE_DEFAULTS = (
    "By default, host and port as the replica's status names them, and the same login.\n"
    "In a chain, the first source, which --master-server-id names."
)
[WRITTEN] = listed(
    """
--delay TIME         how late the replica is to be, where the server is set to no delay yet
--account-host HOST  where the check connects from (default: where this command does, as the replica sees it)
""",
    delay={"type": server_delay(1)},
    account_host={"type": str.lower},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    add_options(parser.add_argument_group("the replica, as its administrator"), *ADDRESS, *LOGIN, NAME)
    add_options(parser.add_argument_group("its heartbeats"), *HEARTBEATS)
    group = parser.add_argument_group("its source, as its administrator", SOURCE_DEFAULTS)
    add_options(group, *SOURCE)
    group = parser.add_argument_group("what to write")
    group.add_argument(
        "--to", required=True, type=filled, metavar="DIR", help="the folder, which must not be there yet"
    )
    add_options(group, *WRITTEN)


def run(args: argparse.Namespace) -> int:
    """Writes the folder: 0; 1 where the replica cannot be asked or no folder would work."""
    if os.path.lexists(args.to):
        raise UsageError(f"--to: {args.to} is there already")
    if "\\" in (args.account_host or ""):
        raise UsageError("--account-host: a backslash cannot be part of an account's name")
    target = target_from(args)
    try:
        replica = facts(target, args.timeout)
        status = _channel(replica, args.channel)
        wanted = _wanted(args, target, replica, status)
        source = _source(args, target, status, wanted.source_id(status))
        found = folder(replica, source, status, wanted)
        told = warnings(replica, source, status, wanted) + _closed(wanted.bin)
    except (SampleFailed, Refused, Impossible) as error:
        raise CommandFailed(str(error)) from None
    _write(args.to, found)
    for text in told:
        complain(f"warning: {text}")
    print(f"{args.to}: {len(found)} files. Nothing was changed on any server; begin with {args.to}/README.txt")
    return 0


def _channel(replica: Facts, channel: str | None) -> Row:
    """The status of the channel. Raises Impossible and SampleFailed."""
    if replica.statuses is None:
        raise Impossible("no privilege to read the replication status: init is run as an administrator")
    names = [row.get("channel_name") or row.get("connection_name", "") for row in replica.statuses]
    place = chosen(names, channel)
    return replica.statuses[place] | {"channel_name": names[place]}


def _wanted(args: argparse.Namespace, target: Target, replica: Facts, status: Row) -> Wanted:
    found = settings(target)
    address: dict[str, str | int] = {"socket": found.socket} if found.socket else {"host": found.host}
    if not found.socket and found.port != 3306:
        address["port"] = found.port
    if not found.socket and found.ssl_mode != "preferred":
        address["ssl-mode"] = found.ssl_mode
        address |= {"ssl-ca": os.path.abspath(found.ssl_ca)} if found.ssl_ca else {}
    heartbeats = {"master-server-id": target.master_server_id, "heartbeat-timezone": target.heartbeat_timezone}
    address |= {key: value for key, value in heartbeats.items() if value is not None}
    here = found.socket or found.host in ("localhost", "127.0.0.1", "::1")
    host = replica.variables.get("hostname") if here else found.host
    channel = status.get("channel_name")
    name = args.replica or (host or found.host) + (f"/{channel}" if channel else "")
    if not re.fullmatch(r"\w[\w.:/#@-]*", name):
        raise UsageError(
            f"--replica: {name!r} will not do: letters, digits and . : / # @ _ - alone, since it names objects in the"
            " monitor too"
        )
    return Wanted(
        name,
        address,
        args.delay,
        args.delay_mode == "external",
        args.local_heartbeat is not False,
        target.heartbeat_table,
        args.account_host,
        _tool_version(),
        _programs(),
        _monitor_user(),
    )


def _source(args: argparse.Namespace, target: Target, status: Row, known: int) -> Facts | None:
    """What the source says, whose id is `known`; None, with a line on standard error, where it does not answer."""
    socket = args.source_socket
    there = target._replace(
        host=None if socket else args.source_host or status.get("source_host"),
        port=None if socket else args.source_port or int(status.get("source_port") or 3306),
        socket=socket,
    )
    if args.source_defaults_file:
        there = there._replace(defaults_file=args.source_defaults_file)
        with suppress(OptionFileError):  # which is told below
            named = from_file(there)
            # A user that it names takes the place of the replica's login whole.
            if "user" in named or "password" in named:
                there = there._replace(user=None if "user" in named else there.user, password=None)
    login = {"user": args.source_user, "password": args.source_password}
    there = there._replace(**{field: value for field, value in login.items() if value is not None})
    try:
        found = facts(there, args.timeout)
    except (SampleFailed, Refused) as error:
        complain(f"warning: the source: {error}")
        return None
    if known and found.server_id != known:
        complain(
            f"warning: the source: {there.host or there.socket} has server id {found.server_id}, not {known}: left out;"
            " --source-host and --master-server-id name the one whose heartbeat is read"
        )
        return None
    return found


def _tool_version() -> tuple[int, int, int]:
    """pt-heartbeat's version; zeros where it is not installed here."""
    asked = ["pt-heartbeat", "--version"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0, 0)
    return version_numbers(said.rpartition(" ")[2])


def _programs() -> str:
    """The folder of the check: where this command is."""
    for started in (os.path.realpath(sys.argv[0]), sys.executable):
        where = os.path.dirname(started)
        if os.path.isfile(os.path.join(where, "check_delayed_repl")):
            return where
    return PROGRAMS


def _monitor_user() -> str:
    """Whom the monitor runs checks as, where it is installed here."""
    for name in ("nagios", "icinga", "nrpe"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return "nagios"


def _closed(folder: str) -> list[str]:
    """A warning, where others than its owner cannot reach the check."""
    for part in (folder, *map(str, Path(folder).parents)):
        if os.path.isdir(part) and not os.stat(part).st_mode & stat.S_IXOTH:
            return [f"the monitor's user cannot enter {part}, where the check is: install it elsewhere, as into /opt"]
    return []


def _write(where: str, found: dict[str, str]) -> None:
    """The folder, whole or not at all. Raises OSError."""
    os.mkdir(where, 0o700)
    os.chmod(where, 0o700)
    try:
        for name, text in found.items():
            path = os.path.join(where, name)
            with open(path, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(text)
    except BaseException:
        shutil.rmtree(where, ignore_errors=True)
        raise
