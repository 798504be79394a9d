"""Replication status of one channel, from any server: columns are matched by name, in either family of names."""

from __future__ import annotations

import re

from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.observe.connection import ADVICE, Answer, Ask
from check_delayed_repl.observe.failures import Refused, SampleFailed, scrubbed
from check_delayed_repl.words import MASK, filter_kept, one_line

if TYPE_CHECKING:
    from typing import Any

SHOW_ALL_SLAVES = "SHOW ALL SLAVES STATUS"
"""All connections of a MariaDB; plain SHOW SLAVE STATUS shows the one without a name alone."""
SHOW_REPLICA = "SHOW REPLICA STATUS"
"""All channels of MySQL 8.0.22 and newer."""
SHOW_SLAVE = "SHOW SLAVE STATUS"
"""All channels of an older MySQL."""

# Fields of a sample, by the column that tells them, and what may stand there: one of these words, `text`, a number that
# is not negative (`whole`), or any `number` or NULL. Columns have plain names: Slave_IO_Running is replica_io_running.
_FIELDS: dict[str, tuple[str, str | tuple[str, ...]]] = {
    "io": ("replica_io_running", ("Yes", "No", "Connecting", "Preparing")),
    "sql": ("replica_sql_running", ("Yes", "No")),
    "io_errno": ("last_io_errno", "whole"),
    "io_error": ("last_io_error", "text"),
    "sql_errno": ("last_sql_errno", "whole"),
    "sql_error": ("last_sql_error", "text"),
    "relay_log_space": ("relay_log_space", "whole"),
    "sql_delay": ("sql_delay", "whole"),
    "sql_remaining": ("sql_remaining_delay", "number"),
    "seconds_behind": ("seconds_behind_source", "number"),
    "io_state": ("replica_io_state", "text"),
    "source_id": ("source_server_id", "whole"),
}
_MAY_BE_ABSENT = ("sql_delay", "sql_remaining", "io_state")
"""Servers that cannot delay by themselves have neither of the first two."""
_POSITIONS = {
    "source_log": ("source_log_file", "read_source_log_pos"),
    "relay_log": ("relay_source_log_file", "exec_source_log_pos"),
}

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
            advice = ADVICE.get(error.number, "ask the server's error log")
            text = f"{one} failed: {advice} ({error})"
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


def parse_status(answer: Answer, channel: str | None, secret: str = "") -> Status:
    """The channel's row; the only one where `channel` is None. Raises SampleFailed."""
    plain = [column.lower().replace("master", "source").replace("slave", "replica") for column in answer.columns]
    rows = [dict(zip(plain, values, strict=False)) for values in answer.rows]
    # MySQL's name for it or MariaDB's; empty for the one without a name.
    names = [_decoded(row.get("channel_name") or row.get("connection_name")) for row in rows]
    place = chosen(names, channel, secret)
    row = rows[place]
    seen: dict[str, Any] = {
        field: _read(row, column, kind, secret) if column in row or field not in _MAY_BE_ABSENT else None
        for field, (column, kind) in _FIELDS.items()
    }
    for field, (file_column, column) in _POSITIONS.items():
        file = one_line(_read(row, file_column, "text", secret) or "", 255)
        position = _read(row, column, "whole", secret)
        seen[field] = (file, position) if file else None  # which the server has not named yet
    filters = []
    for column, name in zip(answer.columns, plain, strict=True):
        if column.lower().startswith("replicate_") and (text := _read(row, name, "raw", secret)):
            # As it is, so that it can be told from any other.
            text = text.replace("\n", " ").replace(secret or MASK, MASK)
            filters.append(filter_kept(f"{one_line(column, 64)}={text}"))
    seen["filters"] = tuple(filters)
    seen["relay_limited"] = "relay log space" in (seen["io_state"] or "").lower()
    return Status(names[place], seen.pop("source_id"), seen)


def _read(row: dict[str, bytes | None], column: str, kind: str | tuple[str, ...], secret: str) -> Any:
    problem = f"it has no {column}"
    if column in row:
        value, text = row[column], _decoded(row[column])
        if kind == "raw":
            return text
        if kind == "text":
            return scrubbed(text, secret) or None
        if kind == "number" and value is None:
            return None
        if isinstance(kind, tuple):
            if text.capitalize() in kind:
                return text.capitalize()
        elif _SIGNED.fullmatch(text) and abs(int(text)) < _LARGEST and (kind == "number" or int(text) >= 0):
            return int(text)
        problem = f"{column} is {'NULL' if value is None else repr(one_line(scrubbed(text, secret), 60))}"
    raise SampleFailed("status-unreadable", f"the replication status cannot be understood: {problem}")


def _decoded(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


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
