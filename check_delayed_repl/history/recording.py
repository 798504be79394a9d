"""Recordings: samples and job lines as JSON Lines, in order of arrival, both ways.

A recording is what `delayed-repl history export` writes and what `history import` and `backtest` read. Reading is
strict about samples, since what was observed is the truth, and lenient about jobs, since anybody may write those: a
job line whose times or kind make no sense is kept, marked as unreadable, for the judge to report. A line that cannot
be told apart as either is an error with its line number, never a line skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from typing import IO, Annotated, Any, get_type_hints

from msgspec import NODEFAULT, UNSET, Meta, Struct, UnsetType, ValidationError, convert, defstruct
from msgspec.json import Decoder
from msgspec.structs import astuple

from check_delayed_repl.conditions import HARD, HOLDABLE, names
from check_delayed_repl.records import LARGEST, Position, Record, Sample, job_line
from check_delayed_repl.words import clean

RECORDED_ERRORS = frozenset(names(HARD, HOLDABLE))
"""What a failed sample may give as its reason: the names of the conditions that are CRITICAL."""

LONGEST_LINE = 1 << 20
"""Bytes. A line of a recording has some hundred; what is read from a pipe may have no end."""
BLOCK = 1 << 17
"""Bytes that are read at a time; fewer than LONGEST_LINE."""

_FAR = 1.7976931348623157e308
Number = Annotated[float, Meta(ge=-_FAR, le=_FAR)]
Whole = Annotated[int, Meta(ge=-LARGEST, le=LARGEST - 1)]


class RecordingError(ValueError):
    """A line that cannot be read. `line` counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


_READ_AS: dict[object, Any] = {
    float: Number,
    float | None: Number | None,
    int | None: Whole | None,
    Position | None: tuple[str, Whole] | None,
    tuple[str, ...] | None: tuple[str, ...] | dict[str, str] | None,
}
_KEYS = {name: _READ_AS.get(kind, kind) for name, kind in get_type_hints(Sample).items()}
_KEYS["local"] = Number | UnsetType | None
_DEFAULTS = {"t": NODEFAULT, **Sample._field_defaults, "local": UNSET}

_SampleLine: Any = defstruct(
    "_SampleLine",
    [(name, kind, _DEFAULTS[name]) for name, kind in _KEYS.items()],
    tag_field="type",
    tag="sample",
    rename={"local_missing": ""},
    gc=False,
)
"""The keys of a sample's line are its fields; others may be there and are not read. There is none for `local_missing`:
a `local` of null says it."""


class _Job(Struct, tag_field="type", tag="job", gc=False):
    """The keys of a job's line, whose values may be anything."""

    t: Number
    id: str
    kind: Any = None
    started_at: Any = None
    finished_at: Any = None
    void: Any = None
    unreadable: Any = None


class _Bare(Struct, tag_field="type", tag="sample", forbid_unknown_fields=True, gc=False):
    """A sample that saw a delay and nothing else: most lines of a long recording may be such."""

    t: Number
    delay: Number


_REST = tuple(Sample(0.0))[2:]

_decode = Decoder(_SampleLine | _Job).decode
_decode_bare = Decoder(_Bare).decode


def read(source: IO[bytes]) -> Iterator[Record]:
    """The records of a recording, one at a time; a few hundred kilobytes are held, however long it is.

    Raises RecordingError at the first line that cannot be read, once what stands before it has been given out. Empty
    lines may only stand at the end.
    """
    for batch in batches(source):
        yield from batch


def batches(source: IO[bytes]) -> Iterator[list[Record]]:
    """The same, some hundred or thousand records at a time."""
    number = empty = 0
    for lines in _lines(source):
        records: list[Record] = []
        record: Record | None
        try:
            for line in lines:
                number += 1
                if len(line) > LONGEST_LINE:
                    raise RecordingError(number, f"longer than {LONGEST_LINE >> 20} MiB")
                try:
                    record = _record(_decode_bare(line) if line.count(b",") == 2 else _decode(line))
                except (ValueError, RecursionError):
                    if not line.strip():
                        empty = empty or number
                        continue
                    record = None
                if empty:
                    raise RecordingError(empty, "empty, with more lines after it")
                records.append(record or _record_in_detail(line, number))
        except RecordingError:
            yield records
            raise
        yield records


def _lines(source: IO[bytes]) -> Iterator[list[bytes]]:
    """The lines of a file, some at a time; what is too long for one is cut, and the last."""
    rest = b""
    while data := source.read(BLOCK):
        *lines, rest = (rest + data).split(b"\n")
        yield lines
        if len(rest) > LONGEST_LINE:
            break
    if rest:
        yield [rest]


def _record(line: Any) -> Record:
    """Raises ValueError, saying what is wrong."""
    if isinstance(line, _Bare):
        return tuple.__new__(Sample, (line.t, line.delay, *_REST))  # half the time of Sample(…)
    if isinstance(line, _Job):
        return job_line(line.t, line.id, line.kind, line.started_at, line.finished_at, line.void, line.unreadable)
    if line.error is not None:
        if line.error not in RECORDED_ERRORS:
            raise ValueError(f"error {line.error!r} is not the name of a condition that is CRITICAL")
    elif line.delay is None:
        raise ValueError("a sample with neither delay nor error")
    if isinstance(line.filters, dict):
        line.filters = tuple(f"{column}={value}" for column, value in line.filters.items())
    if line.filters and not all("=" in entry[1:] for entry in line.filters):
        raise ValueError("filters: expected texts of the form COLUMN=VALUE")
    if line.local is None:
        line.local_missing = True
    elif line.local is UNSET:
        line.local = None
    return tuple.__new__(Sample, astuple(line))


def _record_in_detail(line: bytes, number: int) -> Record:
    """The record of a line that is out of the ordinary, such as 7200.0 where a whole number belongs, or what is wrong.

    NaN and half a surrogate pair are no JSON, but Python writes and reads them.
    """
    try:
        value = json.loads(line.decode().rstrip(), parse_int=_whole, parse_float=_real)
        return _record(convert(value, _SampleLine | _Job))
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except RecursionError:
        problem = "not JSON that can be read: nested too deeply"
    except json.JSONDecodeError as error:
        problem = f"not JSON ({error.msg} at column {error.colno})"
    except ValidationError as error:
        what, _, where = str(error).replace("`", "").partition(" - at $")
        what = "number out of range" if "=" in what else what[0].lower() + what[1:]
        problem = f"{where.lstrip('.')}: {what}" if where else what
    except ValueError as error:
        problem = str(error)
    raise RecordingError(number, clean(problem, 200))


def _whole(text: str) -> float:
    return int(text) if len(text) < 300 else float(text)  # int() refuses thousands of digits


def _real(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def dumps(record: Record) -> str:
    """One line of a recording, without its newline. `read` gives back an equal record."""
    line: dict[str, object] = {"type": "sample" if isinstance(record, Sample) else "job"}
    for name, value in zip(record._fields, record, strict=True):
        if name == "local_missing":
            if value:
                line["local"] = None
        elif isinstance(value, float) and not isfinite(value):
            pass  # there is no JSON for it, and it was no observation
        elif (value is not None and name != "void") or value or name in ("kind", "started_at", "finished_at"):
            line[name] = value
    return json.dumps(line, separators=(",", ":"))
