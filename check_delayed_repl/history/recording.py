"""Recordings: samples and job lines as JSON Lines, in order of arrival, both ways.

A recording is what `delayed-repl history export` writes and what `history import` and `backtest` read. Reading is
strict about samples, since what was observed is the truth, and lenient about jobs, since anybody may write those: a
job line whose times or kind make no sense is kept, marked as unreadable, for the judge to report. A line that cannot
be told apart as either is an error with its line number, never a line skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from math import isfinite

from check_delayed_repl.conditions import HARD, HOLDABLE, names
from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.records import JobLine, Position, Record, Sample

if TYPE_CHECKING:
    from typing import Any

RECORDED_ERRORS = frozenset(names(HARD, HOLDABLE))
"""What a failed look may give as its reason: the names of the conditions that are CRITICAL."""

LARGEST = 2**63
"""Whole numbers lie in [-LARGEST, LARGEST): what every history can store."""

_FLOATS = ("delay", "ts")
_WHOLE = (
    "source_id",
    "heartbeat_id",
    "io_errno",
    "sql_errno",
    "relay_log_space",
    "sql_delay",
    "sql_remaining",
    "seconds_behind",
)
_TEXTS = ("message", "io", "sql", "io_error", "sql_error", "server", "io_state")
_POSITIONS = ("source_log", "relay_log")

# A sample with t and delay alone is by far the most common line of a long recording: it is built from this tail.
_BARE = tuple(Sample(0.0))[2:]
_RARE = frozenset({"server", "io_state", "filters", "relay_limited"})
_FAR = 1.7976931348623157e308


class RecordingError(ValueError):
    """A line that cannot be read. `line` counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


class _Unreadable(ValueError):
    """What is wrong with a line, whose number the caller knows."""


def read(lines: Iterable[str] | Iterable[bytes]) -> Iterator[Record]:
    """The records of a recording, one at a time; nothing is kept, however long it is.

    `lines` is any iterable of lines, such as a file; opened as bytes, a line that is not UTF-8 is told by its number.
    Raises RecordingError at the first line that cannot be read. Empty lines may only stand at the end.
    """
    scan = json.JSONDecoder().raw_decode
    new = tuple.__new__
    bare = _BARE
    number = 0
    empty = 0
    source = iter(lines)
    while True:
        try:
            line: Any = next(source)
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise RecordingError(number + 1, f"this line or one after it is not UTF-8 ({error.reason})") from None
        number += 1
        try:
            if line.__class__ is bytes:
                line = line.decode()
            value, end = scan(line)
            if line[end:] not in ("\n", "") and line[end:].strip(" \t\r\n"):
                raise _Unreadable("more than one JSON value")
        except _Unreadable as error:
            raise RecordingError(number, str(error)) from None
        except (ValueError, RecursionError) as error:
            if isinstance(error, UnicodeDecodeError):
                raise RecordingError(number, "not UTF-8") from None
            text = line.strip(" \t\r\n")
            if not text:
                empty = empty or number
                continue
            value = _scan_slowly(text, number)
        if empty:
            raise RecordingError(empty, "empty, with more lines after it")
        if value.__class__ is not dict:
            raise RecordingError(number, "no JSON object")
        if len(value) == 3:
            t = value.get("t")
            delay = value.get("delay")
            if (
                t.__class__ is float
                and delay.__class__ is float
                and -_FAR <= t <= _FAR
                and -_FAR <= delay <= _FAR
                and value.get("type") == "sample"
            ):
                yield new(Sample, (t, delay, *bare))
                continue
        record: Record | None = _plain_sample(value)
        if record is None:
            try:
                record = _record(value)
            except _Unreadable as error:
                raise RecordingError(number, str(error)) from None
        yield record


def dumps(record: Record) -> str:
    """One line of a recording, without its newline. `read` gives back an equal record."""
    line: dict[str, object]
    if isinstance(record, Sample):
        line = {"type": "sample", "t": record.t}
        for name in ("delay", "error", "message", "ts", "source_id", "heartbeat_id"):
            _put(line, name, getattr(record, name))
        if record.local is None and record.local_missing:
            line["local"] = None
        else:
            _put(line, "local", record.local)
        for name in Sample._fields[9:]:
            _put(line, name, getattr(record, name))
    else:
        line = {
            "type": "job",
            "t": record.t,
            "id": record.id,
            "kind": record.kind,
            "started_at": record.started_at,
            "finished_at": record.finished_at,
        }
        if record.void:
            line["void"] = True
        if record.unreadable is not None:
            line["unreadable"] = record.unreadable
    return json.dumps(line, separators=(",", ":"))


def job_line(
    t: float,
    job: str,
    kind: object,
    started_at: object,
    finished_at: object,
    void: object = None,
    unreadable: object = None,
) -> JobLine:
    """A job line from values of any type, whoever wrote them: what makes no sense is said in `unreadable`.

    A kind or start of None stands for one that an earlier line of the same job gives.
    """
    problems = [unreadable] if isinstance(unreadable, str) and unreadable else []
    if kind is not None and not isinstance(kind, str):
        problems.append(f"kind {_shown(kind)} is no text")
    start, problem = _time_or_problem("started_at", started_at)
    problems += problem
    finish, problem = _time_or_problem("finished_at", finished_at)
    problems += problem
    if void is not None and not isinstance(void, bool) and void not in (0, 1):
        problems.append(f"void {_shown(void)} is neither true nor false")
    return JobLine(
        t=t,
        id=job,
        kind=kind if isinstance(kind, str) else None,
        started_at=start,
        finished_at=finish,
        void=void is True or void == 1,
        unreadable="; ".join(problems) or None,
    )


def _scan_slowly(text: str, number: int) -> Any:
    """The JSON value of a line that the quick scanner refused: it has spaces before it, or is wrong."""
    try:
        return json.loads(text)
    except RecursionError:
        raise RecordingError(number, "not JSON that can be read: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise RecordingError(number, f"not JSON ({error.msg} at column {error.colno})") from None
    except ValueError:
        raise RecordingError(number, "a number with too many digits") from None


def _record(value: dict[str, Any]) -> Record:
    kind = value.get("type")
    if kind == "sample":
        return _sample(value)
    if kind == "job":
        t = _number("t", value.get("t"))
        if not isinstance(value.get("id"), str):
            raise _Unreadable("a job without an id" if value.get("id") is None else "a job's id is no text")
        return job_line(
            t,
            value["id"],
            value.get("kind"),
            value.get("started_at"),
            value.get("finished_at"),
            value.get("void"),
            value.get("unreadable"),
        )
    if kind is None:
        raise _Unreadable("no type: sample or job")
    raise _Unreadable(f"type {_shown(kind)} is neither sample nor job")


_NUMBERS_OR_NOTHING = frozenset({float, type(None)})
_WHOLE_OR_NOTHING = frozenset({int, type(None)})
_TEXT_OR_NOTHING = frozenset({str, type(None)})


def _plain_sample(value: dict[str, Any]) -> Sample | None:
    """The sample of a line that is in order and reports no error, as nearly all are; None: look closer.

    It says in one go what `_sample` says key by key, some three times as fast.
    """
    get = value.get
    t = get("t")
    if get("type") != "sample" or t.__class__ is not float or "error" in value or not _RARE.isdisjoint(value):
        return None
    delay = get("delay")
    ts = get("ts")
    local = get("local")
    source_id = get("source_id")
    heartbeat_id = get("heartbeat_id")
    io_errno = get("io_errno")
    sql_errno = get("sql_errno")
    space = get("relay_log_space")
    sql_delay = get("sql_delay")
    remaining = get("sql_remaining")
    behind = get("seconds_behind")
    message = get("message")
    io = get("io")
    sql = get("sql")
    io_error = get("io_error")
    sql_error = get("sql_error")
    source_log = get("source_log")
    relay_log = get("relay_log")
    wholes = (source_id, heartbeat_id, io_errno, sql_errno, space, sql_delay, remaining, behind)
    if not (
        delay.__class__ is float
        and -_FAR <= t <= _FAR
        and -_FAR <= delay <= _FAR
        and {ts.__class__, local.__class__} <= _NUMBERS_OR_NOTHING
        and (ts is None or -_FAR <= ts <= _FAR)
        and (local is None or -_FAR <= local <= _FAR)
        and {number.__class__ for number in wholes} <= _WHOLE_OR_NOTHING
        and {message.__class__, io.__class__, sql.__class__, io_error.__class__, sql_error.__class__}
        <= _TEXT_OR_NOTHING
    ):
        return None
    for number in wholes:
        if number is not None and not -LARGEST <= number < LARGEST:
            return None
    if source_log is not None:
        if source_log.__class__ is not list or len(source_log) != 2:
            return None
        file, place = source_log
        if file.__class__ is not str or place.__class__ is not int or not 0 <= place < LARGEST:
            return None
        source_log = (file, place)
    if relay_log is not None:
        if relay_log.__class__ is not list or len(relay_log) != 2:
            return None
        file, place = relay_log
        if file.__class__ is not str or place.__class__ is not int or not 0 <= place < LARGEST:
            return None
        relay_log = (file, place)
    return tuple.__new__(
        Sample,
        (
            t,
            delay,
            None,
            message,
            ts,
            source_id,
            heartbeat_id,
            local,
            local is None and "local" in value,
            io,
            sql,
            io_errno,
            io_error,
            sql_errno,
            sql_error,
            source_log,
            relay_log,
            space,
            sql_delay,
            remaining,
            behind,
            None,
            None,
            None,
            None,
        ),
    )


def _sample(value: dict[str, Any]) -> Sample:
    seen: dict[str, Any] = {}
    for name, raw in value.items():
        if raw is None:
            if name == "local":
                seen["local_missing"] = True
        elif name in _FLOATS or name == "local":
            seen[name] = _number(name, raw)
        elif name in _WHOLE:
            seen[name] = _whole(name, raw)
        elif name in _TEXTS:
            if not isinstance(raw, str):
                raise _Unreadable(f"{name} {_shown(raw)} is no text")
            seen[name] = raw
        elif name in _POSITIONS:
            seen[name] = _position(name, raw)
        elif name == "filters":
            seen[name] = _filters(raw)
        elif name == "relay_limited":
            if not isinstance(raw, bool):
                raise _Unreadable(f"relay_limited {_shown(raw)} is neither true nor false")
            seen[name] = raw
        elif name == "error":
            if not isinstance(raw, str) or raw not in RECORDED_ERRORS:
                raise _Unreadable(f"error {_shown(raw)} is not the name of a condition that is CRITICAL")
            seen[name] = raw
    t = _number("t", value.get("t"))
    if "delay" not in seen and "error" not in seen:
        raise _Unreadable("a sample with neither delay nor error")
    return Sample(t, **seen)


def _number(name: str, raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise _Unreadable(f"no {name}" if raw is None else f"{name} {_shown(raw)} is no number")
    try:
        number = float(raw)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise _Unreadable(f"{name} {_shown(raw)} is not a finite number")
    return number


def _whole(name: str, raw: object) -> int:
    number = _number(name, raw)
    # 7200.0 is whole as well; a large int must not go through a float.
    whole = raw if isinstance(raw, int) else int(number)
    if not number.is_integer() or not -LARGEST <= whole < LARGEST:
        raise _Unreadable(f"{name} {_shown(raw)} is not a whole number of 64 bits")
    return whole


def _position(name: str, raw: object) -> Position:
    if not isinstance(raw, list) or len(raw) != 2 or not isinstance(raw[0], str):
        raise _Unreadable(f"{name} {_shown(raw)} is not [file, position]")
    return raw[0], _whole(f"{name}'s position", raw[1])


def _filters(raw: object) -> tuple[str, ...]:
    """A list of "COLUMN=VALUE", or an object {COLUMN: VALUE}."""
    if isinstance(raw, dict) and all(isinstance(value, str) for value in raw.values()):
        return tuple(f"{column}={value}" for column, value in raw.items())
    if isinstance(raw, list) and all(isinstance(entry, str) and "=" in entry[1:] for entry in raw):
        return tuple(raw)
    raise _Unreadable(f"filters {_shown(raw)} is no list of COLUMN=VALUE")


def _time_or_problem(name: str, raw: object) -> tuple[float | None, list[str]]:
    if raw is None:
        return None, []
    try:
        return _number(name, raw), []
    except _Unreadable as error:
        return None, [str(error)]


def _put(line: dict[str, object], name: str, value: object) -> None:
    """Adds what was seen; NaN and infinity have no JSON, and were no observation."""
    if value is not None and not (isinstance(value, float) and not isfinite(value)):
        line[name] = value


def _shown(raw: object) -> str:
    """A value from a stranger, short enough for one line."""
    try:
        text = ascii(raw)
    except (ValueError, RecursionError):  # an integer with more digits than Python prints
        text = "of its kind"
    return text if len(text) <= 60 else text[:57] + "..."
