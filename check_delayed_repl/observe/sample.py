"""One look at a replica: connect (or go on with the connection), read the status, then the heartbeats."""

from __future__ import annotations

import math
import time

from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.observe import heartbeat
from check_delayed_repl.observe.connection import (
    Answer,
    ConnectFailed,
    Refused,
    SampleFailed,
    ask,
    connect,
    settings,
)
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.observe.replication import ReplicationStatus, read_status
from check_delayed_repl.observe.target import Target
from check_delayed_repl.records import Sample

if TYPE_CHECKING:
    from datetime import tzinfo
    from typing import Any

    from check_delayed_repl.observe.wire import Connection

# The whole session in one statement: times in UTC, no snapshot that outlives a statement, bytes that are UTF-8, and an
# end to waiting for a lock, so that looks at a locked table do not pile up on the server.
_SESSION = (
    "SET SESSION time_zone = '+00:00', autocommit = 1, character_set_results = 'utf8mb4', lock_wait_timeout = {lock_s}"
)

RETRIES = 2
RETRY_AFTER_S = 0.2
"""A server that is about to stop, or has just begun, closes connections for a moment: the next try knows more."""


class Observer:
    """Looks at one target, again and again, over one connection. Not for use by two threads at once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection: Connection | None = None
        self._statement: str | None = None
        self._where = ""
        self._secret = ""

    def __repr__(self) -> str:
        return f"Observer({self._where!r})"

    def sample(self, deadline: float, previous: Sample | None) -> Sample:
        """What is to be seen now, or why nothing is: never raises, and returns at `deadline` (a time.monotonic()).

        `previous` is the newest earlier sample of this replica that has a delay or a source, or None.
        """
        budget = deadline - time.monotonic()
        tries = 0
        while True:
            seen: dict[str, Any] = {}
            reused = self._connection is not None
            try:
                self._look(deadline, budget, previous, seen)
            except SampleFailed as failure:
                if isinstance(failure, ConnectFailed):
                    self.close()
                    if failure.lost and (reused or tries < RETRIES) and self._wait(deadline, 0 if reused else tries):
                        tries += not reused
                        continue
                seen.update(error=failure.condition, message=failure.message)
            return Sample(**{"t": time.time(), **seen})

    @staticmethod
    def _wait(deadline: float, tries: int) -> bool:
        """Waits before another try; False where no time is left for one."""
        pause = RETRY_AFTER_S * tries
        if deadline - time.monotonic() <= pause + RETRY_AFTER_S:
            return False
        time.sleep(pause)
        return True

    def close(self) -> None:
        """Ends the connection; a further look makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self, deadline: float, budget: float, previous: Sample | None, seen: dict[str, Any]) -> None:
        """Puts what it sees into `seen`, as fields of Sample. Raises SampleFailed."""
        zone = _zone(self._target.heartbeat_timezone)
        connection = self._connected(deadline, budget)

        def asking(sql: str, purpose: str) -> Answer:
            return ask(connection, sql, purpose, self._where, budget, self._secret)

        status, self._statement = read_status(
            asking, connection.server_version, self._target.channel, self._statement, self._secret
        )
        seen.update(_of_status(status))
        beats = heartbeat.read_heartbeats(asking, self._target.heartbeat_table, self._secret)
        seen["t"] = time.time()
        self._of_heartbeats(status, beats, zone, previous, seen)

    def _connected(self, deadline: float, budget: float) -> Connection:
        if self._connection is not None:
            self._connection.until(deadline)
            return self._connection
        try:
            found = settings(self._target)
        except OptionFileError as error:
            raise ConnectFailed("connect-failed", str(error)) from None
        self._where, self._secret = found.where, found.password
        self._connection = connect(self._target, deadline, raw=True)
        session = _SESSION.format(lock_s=max(1, math.ceil(budget)))
        try:
            ask(self._connection, session, "preparing the session", self._where, budget, self._secret)
        except Refused as error:
            raise ConnectFailed(
                "connect-failed",
                f"{self._where}: the session cannot be prepared (error {error.number}: {error.text})",
            ) from None
        return self._connection

    def _of_heartbeats(
        self,
        status: ReplicationStatus,
        beats: heartbeat.Heartbeats,
        zone: tzinfo | None,
        previous: Sample | None,
        seen: dict[str, Any],
    ) -> None:
        """Adds delay and local heartbeat to `seen`. Raises SampleFailed."""
        table = self._target.heartbeat_table
        expected = previous.delay if previous else None
        given = self._target.master_server_id
        # After a failover that no heartbeat has answered yet, a look that fails must not hide that the source changed.
        source_id = given or status.source_id or (previous.source_id if previous else None)
        if source_id and (given or not heartbeat.changing(source_id, previous)):
            seen["source_id"] = source_id
        if self._target.local_heartbeat:
            self._of_local(beats, zone, previous, seen)

        def read(server_id: int) -> float | None:
            found = heartbeat.age(beats.beats[server_id], zone, expected)
            return found[1] if found else None

        choice = heartbeat.choose(status.source_id, given, beats, previous, read)
        rows = beats.beats[choice.heartbeat_id]
        found = heartbeat.age(rows, zone, expected)
        if found is None:
            raise SampleFailed(
                "heartbeat-unreadable",
                f"{table}: the ts of server {choice.heartbeat_id} is no time: {heartbeat.shown(rows, self._secret)}",
            )
        seen.update(source_id=choice.source_id, heartbeat_id=choice.heartbeat_id, delay=found[0], ts=found[1])
        if self._target.local_heartbeat and "local" not in seen and not seen.get("local_missing"):
            rows = beats.beats[beats.own_id or 0]
            raise SampleFailed(
                "heartbeat-unreadable",
                f"{table}: the ts of this server's own row is no time: {heartbeat.shown(rows, self._secret)}",
            )

    @staticmethod
    def _of_local(
        beats: heartbeat.Heartbeats, zone: tzinfo | None, previous: Sample | None, seen: dict[str, Any]
    ) -> None:
        """Adds the local heartbeat's age, or that there is none; nothing where its row is no time."""
        rows = beats.beats.get(beats.own_id) if beats.own_id is not None else None
        if rows is None:
            seen["local_missing"] = True
        elif (found := heartbeat.age(rows, zone, previous.local if previous else None)) is not None:
            seen["local"] = found[0]


def _of_status(status: ReplicationStatus) -> dict[str, Any]:
    """The status as fields of Sample; error texts only where there is an error."""
    fields = status._asdict()
    del fields["channel"], fields["source_id"]
    for thread in ("io", "sql"):
        fields[f"{thread}_error"] = fields[f"{thread}_error"] or None
    return fields


def _zone(name: str | None) -> tzinfo | None:
    """The heartbeat writers' time zone; None for UTC. Raises SampleFailed where there is no such zone here."""
    if name is None:
        return None
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise SampleFailed(
            "heartbeat-unreadable", f"--heartbeat-timezone {name!r} is no time zone that this machine knows"
        ) from None
