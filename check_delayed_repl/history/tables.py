"""The history as five tables, the same for SQLite and MySQL: every statement that both understand stands here.

    replica   one row per replica: its number, its name, and where its notable samples are
    sample    one row per look, by (replica, arrival), with a second way in by (replica, t)
    job       one row per job line, by the name that the job was recorded under
    fold      the judge's fold, kept to save work
    counter   the last arrival number given, and the epoch, which changes when samples are taken back

Arrival numbers are given under a lock that is held until the transaction ends, so they become visible in their order:
who has read up to a number has missed nothing before it. They are never given twice, not even after pruning.
"""

# Statements are put together from the words of this module alone; values are always parameters.
# ruff: noqa: S608

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from math import isfinite

from check_delayed_repl.history import FUTURE_S, HistoryUnavailable
from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.records import LARGEST, JobLine, Past, Record, Sample, job_line, job_names

if TYPE_CHECKING:
    from typing import Any, TypeAlias, TypeVar

    _Result = TypeVar("_Result")

Row: TypeAlias = "tuple[Any, ...]"

SAMPLE_COLUMNS = (
    "t, delay, error, message, ts, source_id, heartbeat_id, local_age, local_missing, io_thread, sql_thread,"
    " io_errno, io_error, sql_errno, sql_error, source_file, source_pos, relay_file, relay_pos, relay_log_space,"
    " sql_delay, sql_remaining, seconds_behind"
)
_INSERT_SAMPLE = (
    f"INSERT INTO sample (replica, arrival, {SAMPLE_COLUMNS})"
    f" VALUES ({', '.join('?' * (3 + SAMPLE_COLUMNS.count(',')))})"
)
_MARK = (
    "UPDATE replica SET delay_arrival = COALESCE(?, delay_arrival), source_arrival = COALESCE(?, source_arrival),"
    " slowest_arrival = CASE WHEN ? >= slowest THEN ? ELSE slowest_arrival END,"
    " slowest = CASE WHEN ? >= slowest THEN ? ELSE slowest END WHERE number = ?"
)
_INSERT_JOB = (
    "INSERT INTO job (replica, arrival, t, id, kind, started_at, finished_at, void, unreadable)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

NAME_LENGTH = 255
KIND_LENGTH = 64
TEXT_LENGTH = 1000
"""Longer texts are cut when they are stored."""

_CACHE_WAIT_S = 0.5
"""A cache is not worth a longer wait."""
_PRUNE_STEP = 500
"""Rows removed in one transaction, so that others need not wait for long."""
_EPISODE_MEMORY_S = 86400.0
"""A kept fold younger than this says whether an episode is going on; and so long before an episode all is kept."""


class Mark(NamedTuple):
    """Which of a replica's samples are notable: their arrivals."""

    delay_arrival: int | None
    """The newest with a delay."""
    source_arrival: int | None
    """The newest with a source id."""
    slowest: int
    """The largest sql_delay; -1 where none was seen."""
    slowest_arrival: int | None
    """The newest sample with that."""


_NO_MARK = Mark(None, None, -1, None)


class Tables:
    """A History over these tables. A subclass provides the connection, the clock and the types."""

    by_t: str
    """How a statement is told to use the index by (replica, t)."""
    chunk = 2000
    """Rows read at a time, so that memory does not grow with the history."""
    job_t: str
    """The expression for when a job line was written."""

    def __init__(self, name: str, deadline: float) -> None:
        self.name = name
        self.deadline = deadline
        self.readable = True
        self._numbers: dict[str, int] = {}
        self._epoch: int | None = None

    # --- what a subclass provides ---

    def now(self) -> float:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def _read(self, work: Callable[[], _Result]) -> _Result:
        """Runs `work`, which only reads, with errors turned into HistoryUnavailable."""
        raise NotImplementedError

    def _write(self, work: Callable[[], _Result]) -> _Result:
        """Runs `work` in a transaction that holds the lock on `counter`."""
        raise NotImplementedError

    def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        raise NotImplementedError

    def _run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Runs a statement that changes something; returns how many rows it changed."""
        raise NotImplementedError

    def _run_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        raise NotImplementedError

    def _encode(self, sample: Sample) -> Row:
        """A sample's SAMPLE_COLUMNS."""
        raise NotImplementedError

    def _decode(self, row: Row) -> Sample:
        """The sample of a row of SAMPLE_COLUMNS."""
        raise NotImplementedError

    def _stamp(self) -> Callable[[Sample], Sample]:
        """What gives a sample its time, by the history's clock."""
        raise NotImplementedError

    def _adopt(self, arrival: int) -> int:
        """Gives arrival numbers after `arrival` to lines that have none yet; returns the last one given."""
        return arrival

    def _unnumbered(self, _names: Sequence[str], _after: int) -> list[Row]:
        """The job lines that have no arrival number, or got one after `_after`."""
        return []

    # --- writing ---

    def add_sample(self, replica: str, sample: Sample) -> Sample:
        return self.add_samples([(replica, sample)])[0]

    def add_samples(self, samples: Iterable[tuple[str, Sample]]) -> list[Sample]:
        pairs = list(samples)

        def work() -> list[Sample]:
            stamp = self._stamp()
            stored = [(replica, stamp(sample)) for replica, sample in pairs]
            self._append(stored)
            return [sample for _, sample in stored]

        return self._write(work) if pairs else []

    def add_job(self, replica: str, line: JobLine) -> None:
        self._write(lambda: self._append([(replica, line)]))

    def add_records(self, replica: str, records: Iterable[Record]) -> int:
        lines = [(replica, record) for record in records]
        if lines:
            self._write(lambda: self._append(lines))
        return len(lines)

    def _append(self, records: Sequence[tuple[str, Record]]) -> None:
        """Gives arrival numbers and stores; within a transaction."""
        arrival = self._adopt(self._last_arrival())
        samples: list[Row] = []
        jobs: list[Row] = []
        marks: dict[int, Mark] = {}
        for replica, record in records:
            arrival += 1
            if not isfinite(record.t):
                raise HistoryUnavailable(f"history {self.name}: a time of {record.t} cannot be kept")
            if isinstance(record, Sample):
                number = self._number(replica)
                samples.append((number, arrival, *self._encode(record)))
                mark = marks.get(number, _NO_MARK)
                slowness = whole(record.sql_delay) if record.sql_delay else -1
                slower = slowness >= mark.slowest
                marks[number] = Mark(
                    arrival if record.delay is not None else mark.delay_arrival,
                    arrival if record.source_id is not None else mark.source_arrival,
                    slowness if slower else mark.slowest,
                    arrival if slower else mark.slowest_arrival,
                )
            else:
                jobs.append((text(replica, NAME_LENGTH), arrival, record.t, *job_values(record)))
        if samples:
            self._run_many(_INSERT_SAMPLE, samples)
            self._mark(marks)
        if jobs:
            self._run_many(_INSERT_JOB, jobs)
        self._run("UPDATE counter SET arrival = ? WHERE id = 1", (arrival,))

    def _mark(self, marks: dict[int, Mark]) -> None:
        """Notes where the notable samples are, by the replicas' numbers; within a transaction."""
        for number, (with_delay, with_source, slowest, arrival) in marks.items():
            self._run(_MARK, (with_delay, with_source, slowest, arrival, slowest, slowest, number))

    def _last_arrival(self) -> int:
        return int(self._rows("SELECT arrival FROM counter WHERE id = 1")[0][0])

    def _number(self, replica: str) -> int:
        """The replica's number, given now if it has none; within a transaction."""
        number = self._known(replica)
        if number is None:
            self._run("INSERT INTO replica (name, slowest) VALUES (?, 0)", (text(replica, NAME_LENGTH),))
            number = self._known(replica)
            assert number is not None
        return number

    def _known(self, replica: str) -> int | None:
        number = self._numbers.get(replica)
        if number is None:
            rows = self._rows("SELECT number FROM replica WHERE name = ?", (text(replica, NAME_LENGTH),))
            if not rows:
                return None
            number = self._numbers[replica] = int(rows[0][0])
        return number

    # --- reading ---

    def _select(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        return self._read(lambda: self._rows(statement, parameters))

    def _change(self, statement: str, parameters: Sequence[object] = ()) -> int:
        return self._write(lambda: self._run(statement, parameters))

    def _samples(self, statement: str, parameters: Sequence[object]) -> list[tuple[int, Sample]]:
        """The samples of a statement that selects arrival and SAMPLE_COLUMNS."""
        return self._read(lambda: [(row[0], self._decode(row)) for row in self._rows(statement, parameters)])

    def records(self, replica: str, after: int = 0) -> Iterator[tuple[int, Record]]:
        names = job_names(replica)
        upto, number = self._read(lambda: (self._last_arrival(), self._known(replica)))
        while True:
            samples: list[tuple[int, Sample]] = []
            if number is not None:
                samples = self._samples(
                    f"SELECT arrival, {SAMPLE_COLUMNS} FROM sample"
                    " WHERE replica = ? AND arrival > ? AND arrival <= ? ORDER BY arrival LIMIT ?",
                    (number, after, upto, self.chunk),
                )
            end = upto if len(samples) < self.chunk else samples[-1][0]
            jobs = self._jobs(names, after, end)
            if len(jobs) == self.chunk:
                end = jobs[-1][0]
            job = 0
            for arrival, sample in samples:
                if arrival > end:
                    break
                while job < len(jobs) and jobs[job][0] < arrival:
                    yield jobs[job][0], job_from(jobs[job])
                    job += 1
                yield arrival, sample
            for row in jobs[job:]:
                yield row[0], job_from(row)
            if end >= upto:
                break
            after = end
        for row in self._unnumbered(names, upto):
            yield 0, job_from(row)

    def job_lines(self, replica: str) -> Iterator[tuple[str, JobLine]]:
        names = job_names(replica)
        upto = self._read(self._last_arrival)
        for row in self._all_jobs(names, upto):
            yield row[1], job_from(row)
        for row in self._unnumbered(names, upto):
            yield row[1], job_from(row)

    def _all_jobs(self, names: Sequence[str], upto: int) -> Iterator[Row]:
        after = 0
        while True:
            rows = self._jobs(names, after, upto)
            yield from rows
            if len(rows) < self.chunk:
                return
            after = rows[-1][0]

    def _jobs(self, names: Sequence[str], after: int, upto: int) -> list[Row]:
        return self._select(
            f"SELECT arrival, replica, {self.job_t}, id, kind, started_at, finished_at, void, unreadable FROM job"
            f" WHERE replica IN ({', '.join('?' * len(names))}) AND arrival > ? AND arrival <= ?"
            " ORDER BY arrival LIMIT ?",
            (*(text(name, NAME_LENGTH) for name in names), after, upto, self.chunk),
        )

    def window(self, replica: str, since_t: float, upto: int) -> list[Sample]:
        number = self._read(lambda: self._known(replica))
        if number is None:
            return []
        rows = self._samples(
            f"SELECT arrival, {SAMPLE_COLUMNS} FROM sample {self.by_t}"
            " WHERE replica = ? AND t >= ? AND arrival <= ? ORDER BY arrival",
            (number, since_t, min(upto, LARGEST - 1)),
        )
        return [sample for _, sample in rows]

    def delays(self, replica: str, since_t: float, upto: int) -> list[Sample]:
        number = self._read(lambda: self._known(replica))
        rows = self._select(
            f"SELECT t, delay FROM sample {self.by_t} WHERE replica = ? AND t >= ? AND arrival <= ?",
            (number, since_t, min(upto, LARGEST - 1)),
        )
        return [Sample(t, delay) for t, delay in rows]

    def first_since(self, replica: str, t: float) -> tuple[int, float] | None:
        number = self._read(lambda: self._known(replica))
        rows = self._select(
            f"SELECT arrival, t FROM sample {self.by_t} WHERE replica = ? AND t >= ? ORDER BY t LIMIT 1", (number, t)
        )
        return (int(rows[0][0]), float(rows[0][1])) if rows else None

    def past(self, replica: str, before: int) -> Past:
        number = self._read(lambda: self._known(replica))
        ((samples, newest_t, sql_delay, local, missing, *seen),) = self._select(
            "SELECT COUNT(*), MAX(t), MAX(sql_delay), MAX(local_age), MAX(local_missing), MAX(ts), MAX(source_id),"
            " MAX(source_pos), MAX(relay_pos), MAX(io_thread), MAX(sql_thread) FROM sample"
            " WHERE replica = ? AND arrival < ?",
            (number, before),
        )
        jobs = tuple(job_from(row) for row in self._all_jobs(job_names(replica), before - 1))
        bare = sql_delay is None and seen == [None] * len(seen)
        return Past(samples, newest_t, sql_delay, local is not None or bool(missing), bare, jobs)

    def newest_sample(self, replica: str) -> Sample | None:
        rows = self._select(
            "SELECT number, delay_arrival, source_arrival FROM replica WHERE name = ?", (text(replica, NAME_LENGTH),)
        )
        if not rows:
            return None
        number, with_delay, with_source = rows[0]
        newest = self._samples(
            f"SELECT arrival, {SAMPLE_COLUMNS} FROM sample WHERE replica = ? AND arrival = ?",
            (number, max(with_delay or 0, with_source or 0)),
        )
        return newest[0][1] if newest else None

    def newest_sample_t(self, replica: str) -> float | None:
        number = self._read(lambda: self._known(replica))
        rows = self._select("SELECT t FROM sample WHERE replica = ? ORDER BY arrival DESC LIMIT 1", (number,))
        return float(rows[0][0]) if rows else None

    def replicas(self) -> list[str]:
        rows = self._select(
            "SELECT name FROM replica WHERE EXISTS"
            " (SELECT 1 FROM sample WHERE sample.replica = replica.number) ORDER BY name"
        )
        return [str(row[0]) for row in rows]

    # --- the judge's fold ---

    def load_fold(self, replica: str, key: str) -> tuple[int, str] | None:
        self._epoch = int(self._select("SELECT epoch FROM counter WHERE id = 1")[0][0])
        number = self._read(lambda: self._known(replica))
        rows = self._select("SELECT arrival, folded FROM fold WHERE replica = ? AND judge = ?", (number, key))
        return (int(rows[0][0]), str(rows[0][1])) if rows else None

    def save_fold(self, replica: str, key: str, arrival: int, text: str) -> None:
        def work() -> None:
            epoch = int(self._rows("SELECT epoch FROM counter WHERE id = 1")[0][0])
            number = self._known(replica)
            # A fold over samples that have been taken back since it was begun must not come to stay.
            if number is None or (self._epoch is not None and epoch != self._epoch):
                return
            self._run(
                "REPLACE INTO fold (replica, judge, arrival, folded, saved_at) VALUES (?, ?, ?, ?, ?)",
                (number, key, arrival, text, self.now()),
            )

        deadline = self.deadline
        self.deadline = min(deadline, time.monotonic() + _CACHE_WAIT_S)
        with suppress(HistoryUnavailable):
            self._write(work)
        self.deadline = deadline

    # --- pruning ---

    def prune(self, keep_s: float, replica: str | None = None, at_most: int | None = None) -> int:
        now = self.now()
        gone = 0
        kept_since: dict[str, tuple[float, int]] = {}
        for number, name, *notable in self._pruned_replicas(replica):
            cutoff, before = kept_since[name] = self._kept_since(number, now, now - keep_s)
            spared = [arrival for arrival in notable if arrival is not None]
            gone += self._prune_samples(number, cutoff, before, spared, None if at_most is None else at_most - gone)
        for name in self._pruned_names(replica, now - keep_s):
            cutoff, before = now - keep_s, LARGEST - 1
            for known, (known_cutoff, known_before) in kept_since.items():
                if name in job_names(known):
                    cutoff, before = min(cutoff, known_cutoff), min(before, known_before)
            gone += self._prune_jobs(name, cutoff, before, None if at_most is None else at_most - gone)
        if self._select("SELECT 1 FROM fold WHERE saved_at < ? LIMIT 1", (now - keep_s,)):
            self._change("DELETE FROM fold WHERE saved_at < ?", (now - keep_s,))
        return gone

    def _pruned_replicas(self, replica: str | None) -> list[Row]:
        columns = "number, name, delay_arrival, source_arrival, slowest_arrival"
        if replica is None:
            return self._select(f"SELECT {columns} FROM replica")
        return self._select(f"SELECT {columns} FROM replica WHERE name = ?", (text(replica, NAME_LENGTH),))

    def _kept_since(self, number: int, now: float, cutoff: float) -> tuple[float, int]:
        """All with t at or after the first, or that arrived at or after the second, stays for the judge."""
        import json

        begins: list[int] = []
        for (folded,) in self._select(
            "SELECT folded FROM fold WHERE replica = ? AND saved_at >= ?", (number, now - _EPISODE_MEMORY_S)
        ):
            try:
                begin = json.loads(folded)["episode_arrival"]
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            if isinstance(begin, int):
                begins.append(begin)
        if not begins:
            return cutoff, LARGEST - 1
        begin = min(begins)
        rows = self._select(
            "SELECT t FROM sample WHERE replica = ? AND arrival >= ? ORDER BY arrival LIMIT 1", (number, begin)
        )
        return (min(cutoff, float(rows[0][0]) - _EPISODE_MEMORY_S) if rows else cutoff), begin

    def _prune_samples(
        self, number: int, cutoff: float, before: int, spared: Sequence[int], at_most: int | None
    ) -> int:
        def old(count: int) -> list[int]:
            rows = self._select(
                f"SELECT arrival FROM sample {self.by_t} WHERE replica = ? AND t < ? AND arrival < ?"
                f"{' AND arrival <> ?' * len(spared)} ORDER BY t LIMIT ?",
                (number, cutoff, before, *spared, count),
            )
            return [row[0] for row in rows]

        return self._remove(old, "sample", number, at_most)

    def _pruned_names(self, replica: str | None, cutoff: float) -> list[str]:
        """The names with job lines that may be too old."""
        if replica is None:
            return [str(row[0]) for row in self._select("SELECT DISTINCT replica FROM job") if row[0] is not None]
        for row in self._all_jobs((replica,), LARGEST - 1):
            return [replica] if job_from(row).t < cutoff else []
        return []

    def _prune_jobs(self, name: str, cutoff: float, before: int, at_most: int | None) -> int:
        """Removes the lines of jobs that were over before `cutoff` and `before`, by their last lines."""
        arrivals: dict[str, list[int]] = {}
        over: set[str] = set()
        for row in self._all_jobs((name,), LARGEST - 1):
            line = job_from(row)
            arrivals.setdefault(line.id, []).append(row[0])
            done = line.void or line.unreadable or (line.finished_at is not None and line.finished_at < cutoff)
            if done and line.t < cutoff and row[0] < before:
                over.add(line.id)
            else:
                over.discard(line.id)
        rest = iter(sorted(arrival for job in over for arrival in arrivals[job]))

        def next_ones(count: int) -> list[int]:
            return list(islice(rest, count))

        return self._remove(next_ones, "job", name, at_most)

    def _remove(self, some: Callable[[int], list[int]], table: str, replica: int | str, at_most: int | None) -> int:
        """Removes the rows whose arrivals `some` gives, in small steps, leaving others time in between."""
        gone = 0
        while at_most is None or gone < at_most:
            count = _PRUNE_STEP if at_most is None else min(_PRUNE_STEP, at_most - gone)
            arrivals = some(count)
            if not arrivals:
                break
            began = time.monotonic()
            self._change(
                f"DELETE FROM {table} WHERE replica = ? AND arrival IN ({', '.join('?' * len(arrivals))})",
                (replica, *arrivals),
            )
            gone += len(arrivals)
            if len(arrivals) < count:
                break
            time.sleep(min(0.1, time.monotonic() - began))
        return gone

    def prune_future(self, replica: str | None = None) -> int:
        limit = self.now() + FUTURE_S
        gone = 0
        for number, *_ in self._pruned_replicas(replica):

            def take_back(number: int = number) -> int:
                return self._take_back(number, limit)

            gone += self._write(take_back)
        return gone

    def _take_back(self, number: int, limit: float) -> int:
        """Removes a replica's samples with t > limit; within a transaction."""
        rows = self._rows(f"SELECT arrival FROM sample {self.by_t} WHERE replica = ? AND t > ?", (number, limit))
        if not rows:
            return 0
        arrivals = [row[0] for row in rows]
        for first in range(0, len(arrivals), _PRUNE_STEP):
            part = arrivals[first : first + _PRUNE_STEP]
            self._run(
                f"DELETE FROM sample WHERE replica = ? AND arrival IN ({', '.join('?' * len(part))})", (number, *part)
            )
        self._run("DELETE FROM fold WHERE replica = ?", (number,))
        self._run("UPDATE counter SET epoch = epoch + 1 WHERE id = 1")
        newest = "SELECT MAX(arrival) FROM sample WHERE replica = ? AND"
        with_delay = self._rows(f"{newest} delay IS NOT NULL", (number,))[0][0]
        with_source = self._rows(f"{newest} source_id IS NOT NULL", (number,))[0][0]
        slowest = self._rows(
            "SELECT sql_delay, arrival FROM sample WHERE replica = ? AND sql_delay > 0"
            " ORDER BY sql_delay DESC, arrival DESC LIMIT 1",
            (number,),
        )
        self._run(
            "UPDATE replica SET delay_arrival = ?, source_arrival = ?, slowest = ?, slowest_arrival = ?"
            " WHERE number = ?",
            (with_delay, with_source, *(slowest[0] if slowest else (0, None)), number),
        )
        return len(arrivals)


# --- values: whatever was seen must fit into a column ---


def text(value: str, length: int = TEXT_LENGTH) -> str:
    """A text that every history can store."""
    if len(value) > length:
        value = value[:length]
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def text_or_none(value: str | None, length: int = TEXT_LENGTH) -> str | None:
    return None if value is None else text(value, length)


def whole(value: int) -> int:
    """A whole number that every history can store; beyond 64 bits all are equally absurd."""
    return value if -LARGEST <= value < LARGEST else (LARGEST - 1 if value > 0 else -LARGEST)


def whole_or_none(value: int | None) -> int | None:
    return None if value is None else whole(value)


def finite_or_none(value: float | None) -> float | None:
    """NaN and infinity were no observation."""
    return value if value is None or isfinite(value) else None


def job_values(line: JobLine) -> Row:
    """A job line's columns from id to unreadable."""
    return (
        text(line.id, NAME_LENGTH),
        text_or_none(line.kind, KIND_LENGTH),
        finite_or_none(line.started_at),
        finite_or_none(line.finished_at),
        int(line.void),
        text_or_none(line.unreadable),
    )


def job_from(row: Row) -> JobLine:
    """The job line of a row (arrival, replica, t, id, …, unreadable), whoever wrote it."""
    arrival, _, t, name, kind, started_at, finished_at, void, unreadable = row
    problem = unreadable
    if not isinstance(t, int | float):
        t, problem = 0.0, "no time of writing"
    if not isinstance(name, str):
        name, problem = f"line {arrival}", "no id"
    return job_line(float(t), name, kind, started_at, finished_at, void, problem)
