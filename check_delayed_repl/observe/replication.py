"""Replication status of one channel, from any server: columns are matched by name, in either family of names."""

from __future__ import annotations

import re
from collections.abc import Callable

from check_delayed_repl.light import NamedTuple
from check_delayed_repl.observe.connection import Answer, Refused, SampleFailed, scrubbed
from check_delayed_repl.records import Position
from check_delayed_repl.words import one_line

SHOW_ALL_SLAVES = "SHOW ALL SLAVES STATUS"
"""All connections of a MariaDB; plain SHOW SLAVE STATUS shows the one without a name alone."""
SHOW_REPLICA = "SHOW REPLICA STATUS"
"""All channels of MySQL 8.0.22 and newer."""
SHOW_SLAVE = "SHOW SLAVE STATUS"
"""All channels of an older MySQL."""

IO_STATES = ("Yes", "No", "Connecting", "Preparing")
SQL_STATES = ("Yes", "No")

_SYNTAX_ERROR = 1064
_NO_PRIVILEGE = (1044, 1045, 1142, 1227)
_LARGEST = 1 << 64
_SIGNED = re.compile(r"-?[0-9]{1,20}", re.ASCII)

Ask = Callable[[str, str], Answer]
"""Asks a statement, for a purpose in words. Raises Refused, or SampleFailed where there is no answer."""


class ReplicationStatus(NamedTuple):
    """One channel. Positions are in the source's coordinates, times in seconds."""

    channel: str
    source_id: int
    """0 where the server does not know it: after a restart while the source is down."""
    io: str
    sql: str
    io_errno: int
    io_error: str
    sql_errno: int
    sql_error: str
    source_log: Position | None
    relay_log: Position | None
    relay_log_space: int | None
    sql_delay: int | None
    sql_remaining: int | None
    seconds_behind: int | None
    io_state: str = ""
    """The IO thread's state in the server's words."""
    filters: tuple[str, ...] = ()
    """Every replication filter, `COLUMN=VALUE` as the server names and shows them."""
    relay_limited: bool = False
    """The IO thread waits for the SQL thread to free relay log space."""


def read_status(
    ask: Ask, version: str, channel: str | None, statement: str | None = None, secret: str = ""
) -> tuple[ReplicationStatus, str]:
    """The status of the channel, and the statement that showed it (to begin with the next time).

    `version` is what the server calls itself; it only decides what is tried first. Raises SampleFailed with
    `not-a-replica` or `status-unreadable`, or whatever `ask` raises where there is no answer.
    """
    statements = [statement] if statement else []
    statements += [one for one in _order(version) if one != statement]
    answer: Answer | None = None
    used = statements[0]
    for one in statements:
        try:
            answer = ask(one, "reading the replication status")
        except Refused as error:
            if error.number == _SYNTAX_ERROR:
                continue
            if error.number in _NO_PRIVILEGE:
                needed = privilege(version)
                raise SampleFailed(
                    "status-unreadable",
                    f"no privilege to read the replication status: GRANT {needed} ON *.* TO the monitoring user"
                    f" (error {error.number}: {error.text})",
                ) from None
            raise SampleFailed(
                "status-unreadable", f"{one} failed (error {error.number}: {error.text}): ask the server's error log"
            ) from None
        used = one
        # A MariaDB that calls itself otherwise shows nothing here if its connections have names.
        if answer.rows:
            break
    if answer is None:
        raise SampleFailed("status-unreadable", "the server knows no statement that shows the replication status")
    return parse_status(answer, channel, secret), used


def is_mariadb(version: str) -> bool:
    """Whether a server that calls itself so is a MariaDB."""
    return "mariadb" in version.lower()


def version_numbers(version: str) -> tuple[int, int, int]:
    """`(10, 5, 9)` of `5.5.5-10.5.9-MariaDB-log` (the way a MariaDB calls itself to old clients); zeros if unknown."""
    numbers = re.match(r"([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})", version.removeprefix("5.5.5-"), re.ASCII)
    return (int(numbers[1]), int(numbers[2]), int(numbers[3])) if numbers else (0, 0, 0)


def privilege(version: str) -> str:
    """The least privilege that shows the replication status on a server of this version."""
    if is_mariadb(version):
        numbers = version_numbers(version)
        if numbers >= (10, 5, 9) or numbers == (0, 0, 0):
            return "SLAVE MONITOR"
        if numbers >= (10, 5, 2):
            return "REPLICATION SLAVE ADMIN"
    return "REPLICATION CLIENT"


def _order(version: str) -> tuple[str, ...]:
    if is_mariadb(version):
        return (SHOW_ALL_SLAVES, SHOW_SLAVE)
    if version_numbers(version) < (8, 0, 22):
        return (SHOW_SLAVE, SHOW_REPLICA, SHOW_ALL_SLAVES)
    return (SHOW_REPLICA, SHOW_SLAVE, SHOW_ALL_SLAVES)


Row = dict[str, bytes | None]


class _Unreadable(Exception):
    """A value that the status cannot have."""

    def __init__(self, column: str, value: bytes | None) -> None:
        super().__init__(column)
        self.column = column
        self.value = value


def parse_status(answer: Answer, channel: str | None, secret: str = "") -> ReplicationStatus:
    """The channel's row; the only one where `channel` is None. Raises SampleFailed."""
    named = [column for column in answer.columns if column.lower().startswith("replicate_")]
    names = [_plain_name(column) for column in answer.columns]
    rows = [dict(zip(names, row, strict=False)) for row in answer.rows]
    row = _choose(rows, channel, secret)
    try:
        return _status(row, named, secret)
    except _Unreadable as odd:
        shown = (
            "NULL" if odd.value is None else repr(one_line(scrubbed(odd.value.decode("utf-8", "replace"), secret), 60))
        )
        raise SampleFailed(
            "status-unreadable", f"the replication status cannot be understood: {odd.column} is {shown}"
        ) from None


def _status(row: Row, filters: list[str], secret: str) -> ReplicationStatus:
    state = _text(row, "replica_io_state") if "replica_io_state" in row else ""
    return ReplicationStatus(
        channel=_channel(row),
        source_id=_whole(row, "source_server_id"),
        io=_state(row, "replica_io_running", IO_STATES),
        sql=_state(row, "replica_sql_running", SQL_STATES),
        io_errno=_whole(row, "last_io_errno"),
        io_error=scrubbed(_text(row, "last_io_error"), secret),
        sql_errno=_whole(row, "last_sql_errno"),
        sql_error=scrubbed(_text(row, "last_sql_error"), secret),
        source_log=_position(row, "source_log_file", "read_source_log_pos", secret),
        relay_log=_position(row, "relay_source_log_file", "exec_source_log_pos", secret),
        relay_log_space=_whole(row, "relay_log_space"),
        # Servers that cannot delay by themselves have neither of these columns.
        sql_delay=_whole(row, "sql_delay") if "sql_delay" in row else None,
        sql_remaining=_maybe(row, "sql_remaining_delay") if "sql_remaining_delay" in row else None,
        seconds_behind=_maybe(row, "seconds_behind_source"),
        io_state=scrubbed(state, secret),
        filters=tuple(
            f"{one_line(column, 64)}={scrubbed(_text(row, column.lower()), secret)}"
            for column in filters
            if _text(row, column.lower()).strip()
        ),
        relay_limited="relay log space" in state.lower(),
    )


def _plain_name(column: str) -> str:
    """A column's name in the newer family: `Slave_IO_Running` and `Replica_IO_Running` are the same column."""
    return column.lower().replace("master", "source").replace("slave", "replica")


def _channel(row: Row) -> str:
    """The channel that a row tells of: MySQL's name for it or MariaDB's; empty for the one without a name."""
    return (row.get("channel_name") or row.get("connection_name") or b"").decode("utf-8", "replace")


def _choose(rows: list[Row], channel: str | None, secret: str) -> Row:
    if not rows:
        raise SampleFailed(
            "not-a-replica", "no replication channel is configured on this server: check --host, or set it up again"
        )
    there = [_channel(row) for row in rows]
    listed = ", ".join(one_line(scrubbed(name, secret), 64) or "'' (the one without a name)" for name in there)
    if channel is None:
        if len(rows) > 1:
            raise SampleFailed(
                "not-a-replica", f"there are {len(rows)} channels: name one with --channel: {one_line(listed)}"
            )
        return rows[0]
    # The servers do not tell upper from lower case here.
    fitting = [row for row, name in zip(rows, there, strict=True) if name == channel]
    fitting = fitting or [row for row, name in zip(rows, there, strict=True) if name.lower() == channel.lower()]
    if not fitting:
        raise SampleFailed(
            "not-a-replica",
            f"there is no channel {one_line(channel, 64)!r}; check --channel; there are: {one_line(listed)}",
        )
    return fitting[0]


def _value(row: Row, column: str) -> bytes | None:
    if column not in row:
        raise SampleFailed("status-unreadable", f"the replication status cannot be understood: it has no {column}")
    return row[column]


def _text(row: Row, column: str) -> str:
    return (_value(row, column) or b"").decode("utf-8", "replace")


def _whole(row: Row, column: str) -> int:
    """A number that is there and not negative."""
    number = _maybe(row, column)
    if number is None or number < 0:
        raise _Unreadable(column, row[column])
    return number


def _maybe(row: Row, column: str) -> int | None:
    """A number, or None where the server says NULL."""
    value = _value(row, column)
    if value is None:
        return None
    text = value.decode("utf-8", "replace")
    if not _SIGNED.fullmatch(text) or abs(int(text)) >= _LARGEST:
        raise _Unreadable(column, value)
    return int(text)


def _state(row: Row, column: str, states: tuple[str, ...]) -> str:
    value = _value(row, column)
    text = (value or b"").decode("utf-8", "replace").capitalize()
    if text not in states:
        raise _Unreadable(column, value)
    return text


def _position(row: Row, file_column: str, place_column: str, secret: str) -> Position | None:
    """A place in the source's binary log; None where the server has not named a file yet."""
    file = one_line(scrubbed(_text(row, file_column), secret), 255)
    place = _whole(row, place_column)
    return (file, place) if file else None
