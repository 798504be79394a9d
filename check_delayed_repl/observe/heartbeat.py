"""Heartbeat rows: reading them, their times, and which of them is the source's."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo

from check_delayed_repl.light import NamedTuple
from check_delayed_repl.observe.connection import ADVICE, Ask
from check_delayed_repl.observe.failures import Refused, SampleFailed, scrubbed
from check_delayed_repl.records import Sample
from check_delayed_repl.words import one_line

# SYSDATE and not NOW: a statement that had to wait for a lock must not read a clock from before its rows.
# Columns beside these two differ between versions of pt-heartbeat.
_HEARTBEATS = (
    "SELECT server_id, ts, UNIX_TIMESTAMP(SYSDATE(6)), @@global.server_id, {identity} FROM {table} ORDER BY ts"
    " LIMIT {limit}"
)
MAX_ROWS = 30_000
"""Rows of a table that may yet be one of heartbeats."""

_NO_TABLE = (1049, 1051, 1109, 1146)
_NO_PRIVILEGE = (1044, 1045, 1142, 1143, 1227, 1370)
_NO_COLUMN = 1054
_LOCKED = 1205
_TOO_LONG = (1969, 3024)
_TIMESTAMP = 7
"""The protocol's number for a column of type TIMESTAMP."""

_TS = re.compile(r"2[01][0-9]{2}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})? *", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
# 0 is what a server says of a time that it cannot tell.
_CLOCK = re.compile(r"[1-9][0-9]{0,11}(\.[0-9]{1,9})?", re.ASCII)


class Heartbeats(NamedTuple):
    """The whole table."""

    own_id: int | None
    """The server's own id; None where the table is empty."""
    beats: dict[int, bytes | None]
    """By server id, a row's `ts`: the newest where the table lacks its primary key."""
    clock: float
    """The server's own when they were read, seconds since 1970; 0 where the table is empty."""
    server: bytes | None = None
    """Which server answered, as it was asked for; None where it does not say."""
    utc: bool = False
    """`ts` is a TIMESTAMP: it is in UTC, whatever the writer's time zone."""


def identifier(name: str) -> str:
    """An identifier of SQL."""
    return "`" + name.replace("`", "``") + "`"


def table_name(dotted: str) -> str:
    """`db`.`table` of db.table."""
    database, _, name = dotted.partition(".")
    return f"{identifier(database)}.{identifier(name)}"


def read_heartbeats(ask: Ask, table: str, secret: str = "", identity: str = "NULL") -> Heartbeats:
    """All heartbeat rows of `database.table`; `identity` is an expression that tells the server.

    Raises SampleFailed with `heartbeat-missing` or `heartbeat-unreadable`, without the `secret` in its words.
    """
    try:
        statement = _HEARTBEATS.format(identity=identity, table=table_name(table), limit=MAX_ROWS + 1)
        answer = ask(statement, "reading the heartbeats")
    except Refused as error:
        raise _refused(error, table) from None
    if len(answer.rows) > MAX_ROWS:
        raise SampleFailed(
            "heartbeat-unreadable",
            f"{table} has more than {MAX_ROWS} rows, where pt-heartbeat keeps one for each server: check"
            " --heartbeat-table, or give it its primary key",
        )
    own_id: int | None = None
    server: bytes | None = None
    clock = 0.0
    beats: dict[int, bytes | None] = {}
    for row in answer.rows:
        if len(row) < 4:
            raise SampleFailed("heartbeat-unreadable", f"{table}: a row of {len(row)} columns in place of 5")
        server_id = _numeric(_NUMBER, row[0], secret, f"{table}: a row's server_id is", ", not a number")
        own_id = int(_numeric(_NUMBER, row[3], secret, "the server's own id is", ", not a number"))
        server = row[4] if len(row) > 4 else None
        clock = float(_numeric(_CLOCK, row[2], secret, "the server's clock reads"))
        beats[int(server_id)] = row[1]
    return Heartbeats(own_id, beats, clock, server, answer.types[1:2] == (_TIMESTAMP,))


def _refused(error: Refused, table: str) -> SampleFailed:
    text = f"({error})"
    if error.number in _NO_TABLE:
        return SampleFailed(
            "heartbeat-missing",
            f"there is no table {table}: check --heartbeat-table, or create it with pt-heartbeat --create-table {text}",
        )
    if error.number in _NO_PRIVILEGE:
        return SampleFailed(
            "heartbeat-missing",
            f"no SELECT privilege on {table}, or no such table: check --heartbeat-table,"
            f" or GRANT SELECT ON {table} TO the monitoring user {text}",
        )
    if error.number == _NO_COLUMN:
        return SampleFailed(
            "heartbeat-unreadable",
            f"{table} lacks the columns server_id and ts: it was made for an old pt-heartbeat, or for something else;"
            f" make a new one with pt-heartbeat --create-table {text}",
        )
    if error.number == _LOCKED:
        return SampleFailed("timeout", f"{table} is locked: find out by whom {text}")
    if error.number in _TOO_LONG:
        return SampleFailed(
            "timeout",
            f"{table}: the server's time limit for statements ended this one: raise max_statement_time or"
            f" max_execution_time for the monitoring user, or find out what keeps the server busy {text}",
        )
    advice = ADVICE.get(error.number, "ask the server's error log")
    return SampleFailed("heartbeat-unreadable", f"{table} cannot be read: {advice} {text}")


Ages = dict[int, "tuple[float, float] | None"]
"""By server id, the newest heartbeat: its age in seconds and its time; None where its `ts` is no time."""


def choose(
    status_id: int, given_id: int | None, own_id: int | None, ages: Ages, previous: Sample | None
) -> tuple[int, int]:
    """Which server is the source, and whose row serves as its heartbeat.

    `status_id` is the source's id by the replication status (0: unknown there), `given_id` the one that the user names,
    `own_id` this server's, and `previous` the newest earlier sample with a source. Raises SampleFailed with
    `heartbeat-missing`, naming the ids that are there.
    """
    source_id = given_id or status_id or (previous.source_id if previous else None)
    if not source_id:
        raise SampleFailed(
            "heartbeat-missing",
            "the replication status names no source (the replica was restarted while its source is down) and no"
            f" earlier sample knows it: name it with --master-server-id; there are heartbeats of {_ids(own_id, ages)}",
        )
    if given_id is None and previous is not None and changing(source_id, previous):
        foreign = [(found[1], one) for one, found in ages.items() if one != own_id and found is not None]
        # The old source's row serves until the new one's is newer. Another channel's may be newer than both for ever.
        line = (source_id, previous.source_id, previous.heartbeat_id)
        if foreign:
            # Where both are written all the time, the old one's may be a little newer for ever: its clock is ahead.
            own = ages.get(source_id) if previous.source_id == source_id else None
            if own is not None and previous.ts is not None and own[1] > previous.ts:
                return source_id, source_id
            return source_id, max([row for row in foreign if row[1] in line] or foreign)[1]
    if source_id not in ages:
        which = "named by --master-server-id"
        if given_id is None:
            which = "the source of this channel; in a chain, name the top with --master-server-id"
        raise SampleFailed(
            "heartbeat-missing",
            f"there is no heartbeat of server {source_id} ({which}); there are heartbeats of {_ids(own_id, ages)}",
        )
    return source_id, source_id


def changing(source_id: int, previous: Sample | None) -> bool:
    """Whether the source has changed since `previous`, or had changed then and its heartbeat was still on its way."""
    if previous is None or previous.source_id is None:
        return False
    if previous.source_id != source_id:
        return True
    return previous.heartbeat_id is not None and previous.heartbeat_id != previous.source_id


def _ids(own_id: int | None, ages: Ages) -> str:
    if not ages:
        return "no server: the table is empty"
    shown = [f"{one} (this server)" if one == own_id else str(one) for one in sorted(ages)]
    return one_line("server " + ", ".join(shown))


def times(ts: bytes | None, zone: tzinfo | None) -> list[float]:
    """The times that a `ts` may stand for, in seconds since 1970, the earlier one first: one, or none where it is no
    time, or two in the hour that a time zone repeats. `zone` None is UTC.

    >>> times(b"2026-11-23T01:58:58.000830", None)
    [1795399138.00083]
    >>> times(b"2026-11-23 01:58:58", None)
    [1795399138.0]
    >>> times(b"0000-00-00 00:00:00", None)
    []
    """
    text = (ts or b"").decode("ascii", "replace")
    try:
        if not _TS.fullmatch(text):
            return []
        moment = datetime.fromisoformat(text.rstrip(" ")).replace(tzinfo=zone or UTC)
    except ValueError:
        return []
    found = [moment.timestamp()]
    if zone is not None and (second_time := moment.replace(fold=1).timestamp()) != found[0]:
        found.append(second_time)
    return sorted(found)


def zone_of(name: str | None) -> tzinfo | None:
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


def age(ts: bytes | None, clock: float, zone: tzinfo | None, expected: float | None) -> tuple[float, float] | None:
    """The age in seconds of a `ts` by this clock, and its time. None where it is no time.

    Where a `ts` may stand for two times, the one counts whose age is nearest to `expected`; without that, the one
    whose age is the smallest that is not negative.
    """
    ages = [(round(clock - time, 6), time) for time in times(ts, zone)]
    if expected is not None:
        return min(ages, key=lambda found: abs(found[0] - expected), default=None)
    return min(ages, key=lambda found: (found[0] < -1, abs(found[0])), default=None)


def shown(value: bytes | None, secret: str) -> str:
    """A value in quotes, or NULL, for people."""
    return "NULL" if value is None else repr(one_line(scrubbed(value.decode("ascii", "replace"), secret), 40))


def _numeric(pattern: re.Pattern[str], value: bytes | None, secret: str, before: str, after: str = "") -> str:
    text = "" if value is None else value.decode("ascii", "replace")
    if not pattern.fullmatch(text):
        raise SampleFailed("heartbeat-unreadable", f"{before} {shown(value, secret)}{after}")
    return text
