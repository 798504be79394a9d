"""SQL for the accounts that delayed-repl needs, each with what it needs alone. Pure: nothing is asked or run.

Every script may be run twice: what is there already is left alone.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple

from check_delayed_repl.observe.dialect import quoted
from check_delayed_repl.observe.heartbeat import identifier, table_name
from check_delayed_repl.setup.asking import Facts

POSITION_COLUMNS = {"file", "position"}
"""Columns of a heartbeat table for which pt-heartbeat asks for the server's own binary log."""
APPLIED_COLUMNS = {*("relay_master_log_file", "exec_master_log_pos"), *("relay_source_log_file", "exec_source_log_pos")}
"""Columns for which it asks for the replication status."""


class Role(NamedTuple):
    """What an account is for. Its name and its option file are called the same everywhere."""

    user: str
    file: str
    """Its option file, in FOLDER."""
    purpose: str


FOLDER = "/etc/check_delayed_repl"
CHECK = Role("delay_check", "monitor.cnf", "check_delayed_repl")
WORKER = Role("delay_worker", "worker.cnf", "delayed-repl worker")
JOB = Role("delay_job", "history.cnf", "whoever records jobs: delayed-repl job")
BEAT = Role("delay_beat", "heartbeat-source.cnf", "pt-heartbeat on the source: the unit pt-heartbeat-source")
LOCAL_BEAT = Role("delay_beat_local", "heartbeat-replica.cnf", "the replica's own heartbeat: pt-heartbeat-replica")
RESCUE = Role("delay_rescue", "rescue.cnf", "delayed-repl rescue")


def password() -> str:
    """A new random one of 24 characters: something of every kind that a server's policy may ask for, and 120 bits of
    what neither SQL nor an option file takes for anything but itself."""
    return f"aA1-{secrets.token_urlsafe(15)}"


class Account(NamedTuple):
    """One account. `secret` is None where it is there already, with a password of its own."""

    role: Role
    user: str
    host: str
    secret: str | None

    @property
    def name(self) -> str:
        return f"{quoted(self.user)}@{quoted(self.host)}"

    def option_file(self, socket: str = "") -> list[str]:
        login = (
            f"password = {self.secret}" if self.secret else "# password = that of the account, which was there already"
        )
        mark = "'" if '"' in self.user else '"'
        plain = self.user == self.user.strip(" '\"") and "#" not in self.user
        user = self.user if plain else f"{mark}{self.user}{mark}"
        return ["[client]", *([f"socket = {socket}"] if socket else []), f"user = {user}", login]

    def sql(self, server: Facts, rights: list[str], logged: bool) -> list[str]:
        """Makes it, unless it is there, and gives it its rights, each `RIGHTS ON OBJECT`. Where the binary log has what
        is run (`logged`), and this server would write the password into it as it stands, it is given as a hash."""
        grants = [f"GRANT {right} TO {self.name};" for right in rights]
        if self.secret is None:
            return grants
        by = f"BY {quoted(self.secret)}"
        if logged and server.checks_passwords and server.on("strict_password_validation"):
            grants.append(
                "-- This server checks passwords and takes no hash: its binary log has this one as it stands."
            )
        elif logged and (server.dialect.mariadb or server.old):
            by = f"BY PASSWORD {quoted(native_hash(self.secret))}"
        if not server.old:
            return [f"CREATE USER IF NOT EXISTS {self.name} IDENTIFIED {by};", *grants]
        where = f"User = {quoted(self.user)} AND Host = {quoted(self.host)}"
        there = f"(SELECT COUNT(*) FROM mysql.user WHERE {where}) > 0"  # noqa: S608
        return [
            f"SET @make = IF({there}, 'DO 0', {quoted(f'CREATE USER {self.name} IDENTIFIED {by}')});",
            "PREPARE make FROM @make;",
            "EXECUTE make;",
            "DEALLOCATE PREPARE make;",
            *grants,
        ]


def native_hash(secret: str) -> str:
    """What mysql_native_password keeps of a password."""
    inner = hashlib.sha1(secret.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()


def heartbeat_table(dotted: str, there: bool = False) -> list[str]:
    """Makes the table of heartbeats, unless it is there.

    It has no columns for positions: pt-heartbeat then does without the privileges, and the statements of a server's
    version, to find them out. Filters by database go by the default one: what follows goes where heartbeats go.
    """
    columns = "ts VARCHAR(26) NOT NULL, server_id INT UNSIGNED NOT NULL PRIMARY KEY"
    database = identifier(dotted.split(".")[0])
    made = f"CREATE TABLE IF NOT EXISTS {table_name(dotted)} ({columns}) ENGINE=InnoDB;"
    use = f"USE {database};"
    return [use] if there else [f"CREATE DATABASE IF NOT EXISTS {database};", use, made]


def rights(role: Role, server: Facts, dotted: str) -> list[str]:
    """What an account takes on a server with this table of heartbeats, each as `RIGHTS ON OBJECT`.

    A rescuer may not read data: that is given by `READING`.
    """
    if role == RESCUE:
        return _rescue_rights(server, dotted)
    if role in (BEAT, LOCAL_BEAT):
        return _heartbeat_rights(server, dotted, replica=role == LOCAL_BEAT)
    return [f"SELECT (server_id, ts) ON {table_name(dotted)}", f"{server.dialect.privilege} ON *.*"]


def _heartbeat_rights(server: Facts, dotted: str, replica: bool) -> list[str]:
    """Of pt-heartbeat. On a replica its rows stay out of the binary log, and read_only must not keep them out of the
    table."""
    rights, columns, read_only = [], server.columns or frozenset(), server.on("read_only")
    if columns & POSITION_COLUMNS:
        rights.append(
            "REPLICATION CLIENT" if not server.dialect.mariadb or server.before(10, 5, 2) else "BINLOG MONITOR"
        )
    if columns & APPLIED_COLUMNS:
        rights.append(server.dialect.privilege)
    if replica and server.dialect.mariadb:
        rights += ["READ_ONLY ADMIN"] * read_only + ["BINLOG ADMIN"]
    elif replica and needs_super(server):
        rights.append("SUPER")
    elif replica:
        rights += ["CONNECTION_ADMIN"] * read_only + ["SESSION_VARIABLES_ADMIN"]
    wide = [f"{', '.join(dict.fromkeys(rights))} ON *.*"] if rights else []
    return [f"SELECT, INSERT, UPDATE ON {table_name(dotted)}", *wide]


def needs_super(server: Facts) -> bool:
    """Whether a local heartbeat takes SUPER on this replica: older MySQLs have no lesser right to set sql_log_bin."""
    return not server.dialect.mariadb and server.before(8, 0, 14)


READING = "SELECT, SHOW VIEW, TRIGGER"
"""What a dump takes, with --single-transaction and without GTIDs; SELECT alone counts and compares."""


def _rescue_rights(server: Facts, dotted: str) -> list[str]:
    if server.dialect.mariadb:
        return [
            "SLAVE MONITOR, REPLICATION SLAVE ADMIN, CONNECTION ADMIN, PROCESS ON *.*",
            f"SELECT ON {table_name(dotted)}",
        ]
    rights = ["REPLICATION CLIENT", "REPLICATION SLAVE", "PROCESS"]
    if server.before(8, 0, 0):
        rights.append("SUPER")
    else:
        rights += ["REPLICATION_SLAVE_ADMIN", "SYSTEM_VARIABLES_ADMIN", "PERSIST_RO_VARIABLES_ADMIN"]
        rights += ["CONNECTION_ADMIN", *([] if server.before(8, 0, 16) else ["SYSTEM_USER"])]
    read = ("performance_schema.*", "mysql.slave_worker_info", table_name(dotted))
    return [f"{', '.join(rights)} ON *.*", *(f"SELECT ON {tables}" for tables in read)]


def in_utf8(lines: list[str]) -> list[str]:
    """The lines for a client that takes them for what its locale says, such as Latin-1 in cron."""
    return lines if all(map(str.isascii, lines)) else ["SET NAMES utf8mb4;", *lines]


def unlogged(lines: list[str]) -> list[str]:
    """The lines, kept out of the server's binary log."""
    stop = "-- Where this is refused, stop: the rest would get into the binary log, and a client at a prompt goes on."
    return [stop, "SET SESSION sql_log_bin = 0;", *lines, "SET SESSION sql_log_bin = 1;"]
