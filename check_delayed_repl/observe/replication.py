"""Replication status of one channel, from any server: columns are matched by name, in either family of names."""

from __future__ import annotations

import re

from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.observe.connection import Answer, Ask, Refused, SampleFailed, scrubbed
from check_delayed_repl.records import Position
from check_delayed_repl.words import MASK, filter_kept, one_line

if TYPE_CHECKING:
    from typing import Any

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


class Status(NamedTuple):
    """One channel's replication status."""

    channel: str
    source_id: int
    """0 where the server does not know it: after a restart while the source is down."""
    seen: dict[str, Any]
    """The fields of a Sample that it tells, but for the source's id."""


def read_status(ask: Ask, version: str, channel: str | None, secret: str = "") -> Status:
    """The status of the channel.

    `version` is what the server calls itself; it only decides what is tried first. Raises SampleFailed with
    `not-a-replica` or `status-unreadable`, or whatever `ask` raises where there is no answer.
    """
    answer: Answer | None = None
    own = SHOW_SLAVE if version_numbers(version) < (8, 0, 22) else SHOW_REPLICA
    own = SHOW_ALL_SLAVES if is_mariadb(version) else own
    for one in dict.fromkeys((own, SHOW_SLAVE, SHOW_REPLICA, SHOW_ALL_SLAVES)):
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
                    f" ({error})",
                ) from None
            text = f"{one} failed ({error}): ask the server's error log"
            raise SampleFailed("status-unreadable", text) from None
        # A MariaDB that calls itself otherwise shows nothing here if its connections have names.
        if answer.rows:
            break
    if answer is None:
        raise SampleFailed("status-unreadable", "the server knows no statement that shows the replication status")
    return parse_status(answer, channel, secret)


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


class _Row:
    """A channel's row of the status, by plain names of columns: `Slave_IO_Running` is `replica_io_running` here.

    Raises SampleFailed where a value is none that the status can have.
    """

    def __init__(self, columns: list[str], values: tuple[bytes | None, ...], secret: str) -> None:
        plain = (column.lower().replace("master", "source").replace("slave", "replica") for column in columns)
        self._values = dict(zip(plain, values, strict=False))
        self._secret = secret
        name = self._values.get("channel_name") or self._values.get("connection_name") or b""
        self.channel = name.decode("utf-8", "replace")
        """MySQL's name for it or MariaDB's; empty for the one without a name."""

    def __contains__(self, column: str) -> bool:
        return column in self._values

    def raw(self, column: str) -> str:
        """A value, empty for NULL."""
        if column not in self._values:
            raise _unreadable(f"it has no {column}")
        return (self._values[column] or b"").decode("utf-8", "replace")

    def text(self, column: str) -> str:
        return scrubbed(self.raw(column), self._secret)

    def filter(self, column: str) -> str:
        """A replication filter as it is, `COLUMN=VALUE`, so that it can be told from any other; empty for none."""
        text = self.raw(column.lower()).replace("\n", " ")
        entry = f"{one_line(column, 64)}={text.replace(self._secret, MASK) if self._secret else text}"
        return filter_kept(entry) if text else ""

    def state(self, column: str, states: tuple[str, ...]) -> str:
        found = self.raw(column).capitalize()
        if found not in states:
            raise self._odd(column)
        return found

    def maybe(self, column: str) -> int | None:
        """A number, or None where the server says NULL."""
        text = self.raw(column)
        if self._values[column] is None:
            return None
        if not _SIGNED.fullmatch(text) or abs(int(text)) >= _LARGEST:
            raise self._odd(column)
        return int(text)

    def whole(self, column: str) -> int:
        """A number that is there and not negative."""
        number = self.maybe(column)
        if number is None or number < 0:
            raise self._odd(column)
        return number

    def position(self, file_column: str, place_column: str) -> Position | None:
        """A place in the source's binary log; None where the server has not named a file yet."""
        file, place = one_line(self.text(file_column), 255), self.whole(place_column)
        return (file, place) if file else None

    def _odd(self, column: str) -> SampleFailed:
        shown = "NULL" if self._values[column] is None else repr(one_line(self.text(column), 60))
        return _unreadable(f"{column} is {shown}")


def _unreadable(problem: str) -> SampleFailed:
    return SampleFailed("status-unreadable", f"the replication status cannot be understood: {problem}")


def parse_status(answer: Answer, channel: str | None, secret: str = "") -> Status:
    """The channel's row; the only one where `channel` is None. Raises SampleFailed."""
    rows = [_Row(answer.columns, values, secret) for values in answer.rows]
    row = rows[chosen([row.channel for row in rows], channel, secret)]
    filters = [column for column in answer.columns if column.lower().startswith("replicate_")]
    state = row.text("replica_io_state") if "replica_io_state" in row else ""
    seen = {
        "io": row.state("replica_io_running", IO_STATES),
        "sql": row.state("replica_sql_running", SQL_STATES),
        "io_errno": row.whole("last_io_errno"),
        "io_error": row.text("last_io_error") or None,
        "sql_errno": row.whole("last_sql_errno"),
        "sql_error": row.text("last_sql_error") or None,
        "source_log": row.position("source_log_file", "read_source_log_pos"),
        "relay_log": row.position("relay_source_log_file", "exec_source_log_pos"),
        "relay_log_space": row.whole("relay_log_space"),
        # Servers that cannot delay by themselves have neither of these columns.
        "sql_delay": row.whole("sql_delay") if "sql_delay" in row else None,
        "sql_remaining": row.maybe("sql_remaining_delay") if "sql_remaining_delay" in row else None,
        "seconds_behind": row.maybe("seconds_behind_source"),
        "io_state": state or None,
        "filters": tuple(filter(None, map(row.filter, filters))),
        "relay_limited": "relay log space" in state.lower(),
    }
    return Status(row.channel, row.whole("source_server_id"), seen)


def chosen(names: list[str], channel: str | None, secret: str = "") -> int:
    """The place of the channel that is meant: of the only one where `channel` is None. Raises SampleFailed."""
    if not names:
        raise SampleFailed(
            "not-a-replica", "no replication channel is configured on this server: check --host, or set it up again"
        )
    shown = [one_line(scrubbed(name, secret), 64) or "'' (the one without a name)" for name in names]
    listed = one_line(", ".join(shown))
    if channel is None:
        if len(names) > 1:
            raise SampleFailed("not-a-replica", f"there are {len(names)} channels: name one with --channel: {listed}")
        return 0
    # The servers do not tell upper from lower case here.
    fitting = [place for place, name in enumerate(names) if name == channel]
    fitting = fitting or [place for place, name in enumerate(names) if name.lower() == channel.lower()]
    if not fitting:
        raise SampleFailed(
            "not-a-replica", f"there is no channel {one_line(channel, 64)!r}; check --channel; there are: {listed}"
        )
    return fitting[0]
