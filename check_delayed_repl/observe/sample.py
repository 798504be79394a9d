"""One sample of a replica: connect (or go on with the connection), read the status, then the heartbeats."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial

from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.observe import heartbeat
from check_delayed_repl.observe.connection import SESSION, SESSION_TIMES, Answer, ask, ask_together, connect
from check_delayed_repl.observe.failures import ConnectFailed, Refused, SampleFailed, scrubbed
from check_delayed_repl.observe.replication import is_mariadb, read_status
from check_delayed_repl.observe.target import Target
from check_delayed_repl.records import Sample

if TYPE_CHECKING:
    from datetime import tzinfo
    from typing import Any

    from check_delayed_repl.observe.wire import Connection

# There is an end to waiting for a lock, so that samples of a locked table do not pile up on the server.
_SESSION = SESSION + ", sql_mode = '', lock_wait_timeout = {lock_s}"
# Where a server, or a proxy before it, does not let one set these, a sample can do without.
_SESSION_TOO = (
    ", net_read_timeout = 30, net_write_timeout = 60, lc_messages = 'en_US', lc_time_names = 'en_US'"
    "/*M!100304 , system_versioning_asof = DEFAULT */" + SESSION_TIMES
)

# What tells one server from another, by kind. A MariaDB's uid came late, and its server id may be another's too.
_IDENTITIES = {
    "uuid": "@@global.server_uuid",
    "uid": "CONCAT_WS('/', (SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_VARIABLES"
    " WHERE VARIABLE_NAME = 'SERVER_UID'), @@global.server_id, @@global.port)",
}
_VARIABLES = {"uuid": (b"server_uuid",), "uid": (b"server_uid", b"server_id", b"port")}
_SHOW_VARIABLES = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'server_id', 'port')"
"""For the same without a SELECT, which a proxy may hand to another server than a SHOW."""

RETRIES = 2
RETRY_AFTER_S = 0.2
"""A server that is about to stop, or has just begun, closes connections for a moment: the next try knows more."""


class Observer:
    """Takes samples of one target, over one connection. Not for use by two threads at once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: Connection | None = None
        self._identities: list[str] = []
        """The kinds of identity that this server may have, the likely one first."""
        self._together = True
        """Statements may be asked together."""

    def sample(self, deadline: float, previous: Sample | None) -> Sample:
        """What is to be seen now, or why nothing is: never raises, and returns at `deadline` (a time.monotonic()).

        `previous` is the newest earlier sample of this replica that has a delay or a source, or None.
        """
        tries = 0
        while True:
            seen: dict[str, Any] = {}
            try:
                self._sample(deadline, previous, seen)
            except SampleFailed as failure:
                if isinstance(failure, ConnectFailed):
                    self.close()
                    pause = RETRY_AFTER_S * tries
                    left = deadline - time.monotonic()
                    if failure.kind == "lost" and tries < RETRIES and left > pause + RETRY_AFTER_S:
                        time.sleep(pause)
                        tries += 1
                        continue
                seen.update(error=failure.condition, message=failure.message)
            return Sample(**{"t": time.time(), **seen})

    def close(self) -> None:
        """Ends the connection; a further sample makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _sample(self, deadline: float, previous: Sample | None, seen: dict[str, Any]) -> None:
        """Puts what it sees into `seen`, as fields of Sample. Raises SampleFailed."""
        zone = heartbeat.zone_of(self._target.heartbeat_timezone)
        connection = self._connected(deadline)
        secret = connection.secret
        servers: list[str] = []
        asking = partial(ask, connection)

        def asking_who(sql: str, purpose: str) -> Answer:
            """Asks for the status, and who answers; nobody but a strange proxy minds two statements together."""
            if not self._identities:
                return asking(sql, purpose)
            kind = self._identities[0]
            if self._together:
                try:
                    first, *others = ask_together(connection, f"{sql}; SELECT {_IDENTITIES[kind]}", purpose)
                    if others and others[0].rows:
                        servers.append(self._identity(others[0].rows[0][0], secret))
                    else:
                        del self._identities[0]
                    return first
                except Refused:
                    pass
            first = asking(sql, purpose)
            self._together = False
            with suppress(Refused):
                rows = asking(_SHOW_VARIABLES, "asking who answers").rows
                values = {row[0]: row[1] or b"" for row in rows if len(row) == 2}
                found = (values[name] for name in _VARIABLES[kind] if name in values)
                servers.append(self._identity(b"/".join(found), secret))
            return first

        status = read_status(asking_who, connection.server_version, self._target.channel, secret)
        seen.update(status.seen, server=next(filter(None, servers), None))
        identity = _IDENTITIES[self._identities[0]] if self._identities else "NULL"
        beats = heartbeat.read_heartbeats(asking, self._target.heartbeat_table, secret, identity)
        seen["t"] = time.time()
        first, second = seen["server"], self._identity(beats.server, secret)
        seen["server"] = first or second or None
        if first and second and first != second:
            seen.clear()
            raise SampleFailed(
                "status-unreadable",
                f"two servers answer here: {first} with the replication status, {second} with the heartbeats:"
                " connect to the replica itself, not to a proxy",
            )
        # A TIMESTAMP arrives in the session's time zone, UTC, whatever zone it was written in.
        self._of_heartbeats(status.source_id, beats, None if beats.utc else zone, previous, seen, secret)

    def _identity(self, value: bytes | None, secret: str) -> str:
        """`KIND:VALUE`; empty where the server has none."""
        text = scrubbed((value or b"").decode("utf-8", "replace"), secret)
        if text and self._identities[:1] == ["uid"]:
            # No uid: server id and port alone, or behind a word for it.
            uid = "/".join(text.split("/")[:-2])
            return f"uid:{text}" if uid not in ("", "unknown") else f"id:{text.removeprefix(uid).lstrip('/')}"
        return f"uuid:{text}" if text else ""

    def _connected(self, deadline: float) -> Connection:
        connection = self._connection
        if connection is not None and _still_there(connection):
            connection.until(deadline)
            return connection
        self.close()
        connection = self._connection = connect(self._target, deadline, raw=True)
        self._identities = sorted(_IDENTITIES, reverse=not is_mariadb(connection.server_version))
        self._together = True
        session = _SESSION.format(lock_s=max(1, math.ceil(connection.budget)))
        for statement in (session + _SESSION_TOO, session):
            try:
                ask(connection, statement, "preparing the session")
                return connection
            except Refused as error:
                text = f"{connection.where}: the session cannot be prepared ({error})"
        raise ConnectFailed("connect-failed", text)

    def _of_heartbeats(
        self,
        status_id: int,
        beats: heartbeat.Heartbeats,
        zone: tzinfo | None,
        previous: Sample | None,
        seen: dict[str, Any],
        secret: str,
    ) -> None:
        """Adds delay and local heartbeat to `seen`. Raises SampleFailed."""
        given, own_id = self._target.master_server_id, beats.own_id
        delay, local = (previous.delay, previous.local) if previous else (None, None)
        if delay is None:
            delay = seen["sql_delay"] or seen["seconds_behind"]
        ages = {
            one: heartbeat.age(ts, beats.clock, zone, local if one == own_id else delay)
            for one, ts in beats.beats.items()
        }
        # After a failover that no heartbeat has answered yet, a sample that fails must not hide the change.
        source_id = given or status_id or (previous.source_id if previous else None)
        if source_id and (given or not heartbeat.changing(source_id, previous)):
            seen["source_id"] = source_id
        wrong = ""
        if self._target.local_heartbeat:
            if own_id is None or own_id not in ages:
                seen["local_missing"] = True
            elif (own := ages[own_id]) is not None:
                seen["local"] = own[0]
            else:
                wrong = f"this server's own row is no time: {heartbeat.shown(beats.beats[own_id], secret)}"
        source_id, heartbeat_id = heartbeat.choose(status_id, given, own_id, ages, previous)
        found = ages[heartbeat_id]
        if found is None:
            wrong = f"server {heartbeat_id} is no time: {heartbeat.shown(beats.beats[heartbeat_id], secret)}"
        else:
            seen.update(source_id=source_id, heartbeat_id=heartbeat_id, delay=found[0], ts=found[1])
        if wrong:
            raise SampleFailed("heartbeat-unreadable", f"{self._target.heartbeat_table}: the ts of {wrong}")


def _still_there(connection: Connection) -> bool:
    """Whether the host's name still means the server that this connection goes to."""
    address = connection.address
    if address is None or connection.host in ("localhost", address[1][0]):
        return True
    from check_delayed_repl.observe.names import still_there

    return still_there(connection.host, address)
