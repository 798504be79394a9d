"""What is stored of a sample and of a job line, in which columns, and how it is read back; alike in both databases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from zlib import crc32

from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.records import LARGEST, JobLine, Sample, job_line

if TYPE_CHECKING:
    from typing import Any, TypeAlias

Row: TypeAlias = "tuple[Any, ...]"

NAME_LENGTH = 255
KIND_LENGTH = 64
TEXT_LENGTH = 1000
LIST_LENGTH = 16_000
"""Longer texts are cut when they are stored."""

_SAMPLE = """t REAL NOT NULL, delay REAL, error WORD, message TEXT, ts REAL, source_id WHOLE, heartbeat_id WHOLE,
    local_age REAL, local_missing FLAG NOT NULL, io_thread WORD, sql_thread WORD, io_errno WHOLE, io_error TEXT,
    sql_errno WHOLE, sql_error TEXT, source_file NAME, source_pos WHOLE, relay_file NAME, relay_pos WHOLE,
    relay_log_space WHOLE, sql_delay WHOLE, sql_remaining WHOLE, seconds_behind WHOLE, server NAME, io_state NAME,
    filters LIST, relay_limited FLAG"""
COLUMNS = tuple((column, kind) for column, kind, *_ in map(str.split, _SAMPLE.split(",")))
"""What is stored of a sample: its fields in their order, but with the file and the place of each of the two logs."""
LAYOUT = {
    "counter": "id WHOLE NOT NULL PRIMARY KEY, arrival WHOLE NOT NULL, epoch WHOLE NOT NULL, publisher LABEL,"
    " publisher_until REAL",
    "replica": "number ID, name LABEL NOT NULL UNIQUE, delay_arrival WHOLE, slowest WHOLE NOT NULL",
    "sample": f"replica WHOLE NOT NULL, arrival WHOLE NOT NULL, {_SAMPLE}, PRIMARY KEY (replica, arrival)",
    "fold": "replica WHOLE NOT NULL, judge LABEL NOT NULL, arrival WHOLE NOT NULL, folded FOLD NOT NULL,"
    " saved_at REAL NOT NULL, episode_arrival WHOLE, kinds LIST, PRIMARY KEY (replica, judge)",
}
"""The columns of the tables that both kinds of database have alike."""
ADDED = {
    "counter": ("publisher LABEL", "publisher_until REAL"),
    "sample": ("server NAME", "io_state NAME", "filters LIST", "relay_limited FLAG"),
    "fold": ("episode_arrival WHOLE", "kinds LIST"),
}
"""The columns that the first release's tables lack."""


def in_types(types: dict[str, str], *statements: str) -> tuple[str, ...]:
    """Statements in a database's own types: above, those stand in capitals."""
    return tuple(re.sub("[A-Z]+", lambda word: types.get(word[0], word[0]), statement) for statement in statements)


JOB_COLUMNS = "t, id, kind, started_at, finished_at, void, unreadable"
_LOGS, _MISSING, _FILTERS, _LIMITED = map(
    Sample._fields.index, ("source_log", "local_missing", "filters", "relay_limited")
)
_NOWHERE = (None, None)


# --- values: whatever was seen must fit into a column ---


def text(value: str, length: int = TEXT_LENGTH) -> str:
    """A text that every history can store."""
    value = value[:length]
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def name(value: str) -> str:
    """The name of a replica or a job, as it is stored."""
    return text(value, NAME_LENGTH)


def whole(value: int) -> int:
    """A whole number that every history can store; beyond 64 bits all are equally absurd."""
    return min(max(value, -LARGEST), LARGEST - 1)


def finite(value: float) -> float | None:
    """NaN and infinity were no observation."""
    return value if isfinite(value) else None


def decoded(value: bytes | None) -> str:
    """A text that was read as bytes, whatever they are."""
    return str(value or b"", "utf-8", "replace")


def checksum(text: str) -> str:
    """Eight characters, by which texts are told apart."""
    return f"{crc32(text.encode()):08x}"


def numbers(values: Iterable[int]) -> str:
    """A list of whole numbers, for a statement."""
    return ", ".join(str(value + 0) for value in values)


_STORED: dict[str, Callable[[Any], object]] = {
    "WHOLE": whole,
    "REAL": finite,
    "FLAG": int,
    "TEXT": text,
    "WORD": lambda value: text(value, KIND_LENGTH),
    "NAME": name,
    "LIST": lambda values: text("\n".join(value.replace("\n", " ") for value in values), LIST_LENGTH),
}
_OF_SAMPLE = tuple(_STORED[kind] for _, kind in COLUMNS)
_OF_JOB = tuple(_STORED[kind] for kind in ("NAME", "WORD", "REAL", "REAL", "FLAG", "TEXT"))


def _stored(values: Sequence[object], stores: Sequence[Callable[[Any], object]]) -> list[object]:
    return [None if value is None else store(value) for value, store in zip(values, stores, strict=True)]


def sample_values(sample: Sample) -> list[object]:
    """A sample's COLUMNS."""
    logs = (*(sample.source_log or _NOWHERE), *(sample.relay_log or _NOWHERE))
    return _stored((*sample[:_LOGS], *logs, *sample[_LOGS + 2 :]), _OF_SAMPLE)


def job_values(line: JobLine) -> list[object]:
    """A job line's columns from id to unreadable."""
    return _stored(line[1:], _OF_JOB)


_TYPES: dict[str, Any] = {"WHOLE": int, "REAL": (float, int), "FLAG": int}
_READ_AS = tuple(_TYPES.get(kind, str) for _, kind in COLUMNS)
_known_types: set[tuple[type, ...]] = set()


def sample_from(row: Row) -> Sample:
    """The sample of a row of COLUMNS. Raises TypeError where a value is of a type that nobody ever wrote."""
    types = tuple(map(type, row))
    if types not in _known_types:
        for (column, _), value, kind in zip(COLUMNS, row, _READ_AS, strict=True):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"{column} of a sample is a {type(value).__name__}")
        _known_types.add(types)
    source_file, source_pos, relay_file, relay_pos = row[_LOGS : _LOGS + 4]
    source = None if source_pos is None else (source_file, source_pos)
    relay = None if relay_pos is None else (relay_file, relay_pos)
    seen = [*row[:_LOGS], source, relay, *row[_LOGS + 4 :]]
    seen[_MISSING] = bool(seen[_MISSING])
    if seen[_FILTERS] is not None:
        seen[_FILTERS] = tuple(seen[_FILTERS].split("\n")) if seen[_FILTERS] else ()
    if seen[_LIMITED] is not None:
        seen[_LIMITED] = bool(seen[_LIMITED])
    return Sample._make(seen)


def job_from(row: Row) -> JobLine:
    """The job line of a row (arrival, replica, t, id, …, unreadable), whoever wrote it."""
    arrival, _, t, job, kind, started_at, finished_at, void, unreadable = row
    problem = unreadable
    if not isinstance(t, int | float):
        t, problem = 0.0, "no time of writing"
    if not isinstance(job, str):
        job, problem = f"line {arrival}", "no id"
    return job_line(float(t), job, kind, started_at, finished_at, void, problem)
