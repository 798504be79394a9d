"""Asks a server, as an administrator, what it is. Reads, and changes nothing."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

from check_delayed_repl.observe.connection import ask, connect
from check_delayed_repl.observe.dialect import Dialect, rows_of
from check_delayed_repl.observe.failures import Refused
from check_delayed_repl.observe.heartbeat import table_name
from check_delayed_repl.observe.target import Target
from check_delayed_repl.words import clean

if TYPE_CHECKING:
    from check_delayed_repl.observe.wire import Connection

VARIABLES = (
    *("server_id", "hostname", "socket", "datadir", "read_only", "super_read_only", "log_bin"),
    *("strict_password_validation", "partial_revokes"),
)
VALIDATING = (
    "SELECT PLUGIN_NAME FROM information_schema.PLUGINS"
    " WHERE PLUGIN_TYPE = 'PASSWORD VALIDATION' AND PLUGIN_STATUS = 'ACTIVE'"
)
ADVANCE_S = 2.2
"""Seconds between two readings of the heartbeats: a row that has changed by then has a writer."""

RECENT_S = 30.0
"""So young a row has a writer too, which may write less often."""
NEWEST = {"mysql": "9.7.0", "mariadb": "11.8.0-MariaDB"}
"""By what its client is called: the version that a server is taken for where it is not known."""
Row = dict[str, str]
"""As `rows_of` gives it."""


class Facts(NamedTuple):
    """What a server told of itself."""

    version: str
    came_from: str
    """The host part of the account that we are to it: where our connection comes from, in lower case as it keeps it."""
    variables: Row
    binlog: Row
    """Its own binary log's status; empty where there is none."""
    beats: dict[int, float | None]
    """Rows of the heartbeat table: server id and age in seconds, None where `ts` is no time."""
    advancing: frozenset[int] = frozenset()
    """The server ids whose rows have a writer."""
    columns: frozenset[str] | None = None
    """Of the heartbeat table; None where there is none."""
    statuses: tuple[Row, ...] | None = None
    """Its replication channels; empty on a server that is no replica, None where they may not be read."""
    accounts: frozenset[tuple[str, str]] = frozenset()
    """Users and hosts of accounts, as far as they may be read."""
    checks_passwords: bool = False
    """It has a plugin that validates new passwords."""

    @property
    def dialect(self) -> Dialect:
        return Dialect(self.version)

    @property
    def shown(self) -> str:
        return clean(self.dialect.name, 80)

    def before(self, *numbers: int) -> bool:
        """Older than this version; False where its own is not known."""
        return (0, 0, 0) < self.dialect.numbers < numbers

    @property
    def old(self) -> bool:
        """A MySQL 5.6: CREATE USER does not know IF NOT EXISTS."""
        return not self.dialect.mariadb and self.before(5, 7, 0)

    def on(self, variable: str) -> bool:
        return self.variables.get(variable, "").upper() in ("ON", "1", "YES")

    @property
    def server_id(self) -> int:
        return int(self.variables.get("server_id") or 0)

    @property
    def beats_here(self) -> bool:
        """Its own heartbeat is written."""
        age = self.beats.get(self.server_id)
        return self.server_id in self.advancing or (age is not None and -1.0 <= age <= RECENT_S)

    @property
    def socket(self) -> str:
        path = self.variables.get("socket", "")
        return path if not path or path[0] in "/@" else f"{self.variables.get('datadir', '').rstrip('/')}/{path}"


def unasked(version: str, **variables: str) -> Facts:
    """A server of which no more is known."""
    return Facts(version, "localhost", variables, {}, {})


class Wanted(NamedTuple):
    """What the servers do not tell."""

    name: str
    """The replica's name, everywhere."""
    address: dict[str, str | int]
    """How the check reaches it and reads its heartbeats: keys of the configuration file."""
    delay: float | None
    """Seconds; None: what the server is set to."""
    external: bool
    """pt-slave-delay does it."""
    local: bool
    """A heartbeat of the replica's own is wanted."""
    table: str
    account_host: str | None
    """Where the check connects from; None: where init did."""
    tool_version: tuple[int, int, int]
    """pt-heartbeat's; zeros where it is not installed here."""
    bin: str
    """The folder of our programs."""
    user: str
    """Whom the monitor runs checks as."""

    def source_id(self, status: Row) -> int:
        """The server whose heartbeat is read: the replica's source, or one further up. 0 where it is not known."""
        return int(self.address.get("master-server-id") or status.get("source_server_id") or 0)


def facts(target: Target, timeout: float, watch_s: float = ADVANCE_S) -> Facts:
    """What the server says; heartbeats are read twice, `watch_s` seconds apart, or not at all where that is 0.

    Raises SampleFailed, or Refused where it does not even tell its version.
    """
    with closing(connect(target, time.monotonic() + timeout, raw=True)) as connection:
        answer = ask(connection, "SELECT VERSION() AS version, USER() AS account", "asking for its version")
        [who] = rows_of(answer)
        told = unasked(who["version"])
        listed = ", ".join(f"'{name}'" for name in VARIABLES)
        found = _first(connection, "variables", f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})")
        binlog = _first(connection, "the binary log's status", "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
        everywhere = ["SHOW ALL SLAVES STATUS"] if told.dialect.mariadb else []
        channels = _first(connection, "the status", *everywhere, "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
        columns = _first(connection, "the heartbeat table", f"SHOW COLUMNS FROM {table_name(target.heartbeat_table)}")
        users = _first(connection, "accounts", "SELECT User AS user, Host AS host FROM mysql.user")
        told = told._replace(
            came_from=who["account"].rpartition("@")[2].lower() or "localhost",
            variables={row["variable_name"].lower(): row["value"] for row in found or ()},
            binlog=binlog[0] if binlog else {},
            statuses=None if channels is None else tuple(channels),
            checks_passwords=bool(_first(connection, "plugins", VALIDATING)),
            columns=frozenset(row["field"].lower() for row in columns) if columns else None,
            accounts=frozenset((row["user"], row["host"]) for row in users or ()),
        )
        return _with_heartbeats(connection, told, target.heartbeat_table, watch_s)


def _first(connection: Connection, what: str, *statements: str) -> list[Row] | None:
    """The answer to the first statement that the server knows and allows; None where there is none."""
    for statement in statements:
        with suppress(Refused):
            return rows_of(ask(connection, statement, f"reading {what}"))
    return None


def _with_heartbeats(connection: Connection, told: Facts, dotted: str, watch_s: float) -> Facts:
    if not watch_s or told.columns is None or not {"ts", "server_id"} <= told.columns:
        return told
    age = "UNIX_TIMESTAMP() - TIMESTAMPDIFF(SECOND, '1970-01-01', ts) AS age"
    reading = f"SELECT server_id, ts, {age} FROM {table_name(dotted)} ORDER BY server_id LIMIT 1000"  # noqa: S608
    before = {row["server_id"]: row["ts"] for row in _first(connection, "heartbeats", reading) or ()}
    if not before:
        return told
    time.sleep(watch_s)
    after = _first(connection, "heartbeats", reading) or []
    return told._replace(
        beats={int(row["server_id"]): float(row["age"]) if row["age"] else None for row in after},
        advancing=frozenset(
            int(row["server_id"]) for row in after if before.get(row["server_id"], row["ts"]) != row["ts"]
        ),
    )
