"""The history as five tables, alike in SQLite and MySQL: what is stored, and every statement that both understand.

    replica   one row per replica: its number, its name, and where its notable samples are
    sample    one row per sample, by (replica, arrival), with a second way in by (replica, t)
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
from math import isfinite
from operator import itemgetter

from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.records import ALL_JOBS, LARGEST, JobLine, Past, Record, Sample, job_line, job_names

if TYPE_CHECKING:
    from typing import Any, TypeAlias, TypeVar

    _Result = TypeVar("_Result")

Row: TypeAlias = "tuple[Any, ...]"

FUTURE_S = 2.0
"""A stored sample that lies further ahead than this, in seconds, shows that a clock was stepped."""
NAME_LENGTH = 255
KIND_LENGTH = 64
TEXT_LENGTH = 1000
LIST_LENGTH = 16_000
"""Longer texts are cut when they are stored."""

# The types of columns, as `History.types` has them for each kind of database.
WHOLE, REAL, FLAG, TEXT, WORD, NAME, LIST = "WHOLE", "REAL", "FLAG", "TEXT", "WORD", "NAME", "LIST"

COLUMNS = (
    ("t", REAL),
    ("delay", REAL),
    ("error", WORD),
    ("message", TEXT),
    ("ts", REAL),
    ("source_id", WHOLE),
    ("heartbeat_id", WHOLE),
    ("local_age", REAL),
    ("local_missing", FLAG),
    ("io_thread", WORD),
    ("sql_thread", WORD),
    ("io_errno", WHOLE),
    ("io_error", TEXT),
    ("sql_errno", WHOLE),
    ("sql_error", TEXT),
    ("source_file", NAME),
    ("source_pos", WHOLE),
    ("relay_file", NAME),
    ("relay_pos", WHOLE),
    ("relay_log_space", WHOLE),
    ("sql_delay", WHOLE),
    ("sql_remaining", WHOLE),
    ("seconds_behind", WHOLE),
    ("server", NAME),
    ("io_state", NAME),
    ("filters", LIST),
    ("relay_limited", FLAG),
)
"""What is stored of a sample: its fields in their order, but with the file and the place of each of the two logs."""
JOB_COLUMNS = "t, id, kind, started_at, finished_at, void, unreadable"
_LOGS, _MISSING, _FILTERS, _LIMITED = map(
    Sample._fields.index, ("source_log", "local_missing", "filters", "relay_limited")
)
_NOWHERE = (None, None)
_NEW = ("server", "io_state", "filters", "relay_limited")

_CACHE_WAIT_S = 0.5
"""A cache is not worth a longer wait."""
_PRUNE_STEP = 500
"""Rows removed in one transaction, so that others need not wait for long."""
_EPISODE_MEMORY_S = 86400.0
"""A kept fold younger than this says whether an episode is going on; and so long before an episode all is kept."""


class HistoryUnavailable(Exception):
    """The history cannot be read or written. The message is one line that says what to do; it holds no password."""


class History:
    """An append-only log of samples and job lines. Every method raises HistoryUnavailable, and nothing else.

    A subclass provides the connection, the clock and the types. One thread at a time may use it.
    """

    deadline: float
    """Until when calls may take, by time.monotonic(). A process that goes on and on sets it anew before each call."""
    name: str
    """Where the history is, fit to be printed."""
    readable: bool
    """False where this account may INSERT job lines and nothing else: then only `now` and `add_job` work."""
    warnings: list[str]
    """What is wrong with it without keeping it from being used, one line each."""

    version = 2
    """Of the tables' layout."""
    errors: tuple[type[Exception], ...]
    """What the driver raises, whatever is wrong."""
    mark = "?"
    """The driver's mark for a parameter."""
    by_t: str
    """How a statement is told to use the index by (replica, t)."""
    chunk = 2000
    """Rows read at a time, so that memory does not grow with the history."""

    def __init__(self, name: str, deadline: float) -> None:
        self.name = name
        self.deadline = deadline
        self.readable = True
        self.warnings = []
        self._connection: Any = None
        self._numbers: dict[str, int] = {}
        self._epoch: int | None = None

    # --- what a kind of database has in its own way ---

    def now(self) -> float:
        """The history's own clock: seconds since 1970, UTC."""
        raise NotImplementedError

    def _ready(self) -> None:
        """Sees to it that there is a connection, for a stretch of work until the deadline."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Begins a transaction that holds the lock on `counter`."""
        raise NotImplementedError

    def _unavailable(self, error: Exception) -> HistoryUnavailable:
        """What to say of an error, and what to do about it."""
        raise NotImplementedError

    def _undone(self, _error: Exception) -> bool:
        """Whether the server has undone a transaction for another's sake, so that it may be tried again."""
        return False

    def _read_as(self, column: str, _kind: str) -> str:
        """How a column of this type is read."""
        return column

    def _write_as(self, _kind: str) -> str:
        """How a value is written into a column of this type."""
        return "?"

    def _stamp(self) -> Callable[[Sample], Sample]:
        """What gives a sample its time, by the history's clock."""
        return lambda sample: sample

    def _adopt(self, arrival: int, _names: Sequence[str]) -> int:
        """Gives numbers after `arrival` to job lines that wait for one, of these names first; returns the last one."""
        return arrival

    def _waiting(self, _names: Sequence[str], _after: int, _ids: Sequence[str]) -> Iterable[Row]:
        """The job lines that have no arrival number, or got one after `_after`."""
        return ()

    def _prepare(self, _samples: Sequence[Sequence[object]]) -> None:
        """What has to be there before these rows of samples can be stored."""

    # --- the connection ---

    def close(self) -> None:
        """Lets go of file or connection."""
        connection, self._connection = self._connection, None
        self._numbers.clear()
        if connection is not None:
            with suppress(*self.errors):
                connection.close()

    def _read(self, work: Callable[[], _Result]) -> _Result:
        """Runs `work`, which only reads."""
        try:
            self._ready()
            return work()
        except HistoryUnavailable:
            raise
        except self.errors as error:
            raise self._unavailable(error) from None

    def _write(self, work: Callable[[], _Result]) -> _Result:
        """Runs `work` in a transaction that holds the lock on `counter`."""
        for last in (False, True):
            try:
                self._ready()
                self._begin()
                result = work()
                self._connection.commit()
            except HistoryUnavailable:
                self._roll_back()
                raise
            except self.errors as error:
                # The reason is looked for first: a lost connection is forgotten when rolling back fails.
                failure = self._unavailable(error)
                self._roll_back()
                if last or not self._undone(error):
                    raise failure from None
            except BaseException:
                self._roll_back()
                raise
            else:
                return result
        raise AssertionError

    def _roll_back(self) -> None:
        self._numbers.clear()  # those given in this transaction are not
        if self._connection is not None:
            try:
                self._connection.rollback()
            except self.errors:
                self.close()

    def _execute(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(statement.replace("?", self.mark), *([tuple(parameters)] if parameters else ()))
        return cursor

    def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        return list(self._execute(statement, parameters).fetchall())

    def _run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Runs a statement that changes something; returns how many rows it changed."""
        return int(self._execute(statement, parameters).rowcount)

    def _run_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        self._connection.cursor().executemany(statement.replace("?", self.mark), rows)

    def _select(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        return self._read(lambda: self._rows(statement, parameters))

    def _change(self, statement: str, parameters: Sequence[object] = ()) -> int:
        return self._write(lambda: self._run(statement, parameters))

    # --- writing ---

    def add_sample(self, replica: str, sample: Sample) -> Sample:
        """Appends a sample and returns it as stored: a shared history stamps `t` with its own clock."""
        return self.add_samples([(replica, sample)])[0]

    def add_samples(self, samples: Iterable[tuple[str, Sample]]) -> list[Sample]:
        """Appends many samples, each with its replica's name, in one transaction."""
        pairs = list(samples)

        def work() -> list[Sample]:
            stamp = self._stamp()
            stored = [(replica, stamp(sample)) for replica, sample in pairs]
            self._append(stored)
            return [sample for _, sample in stored]

        return self._write(work) if pairs else []

    def add_job(self, replica: str, line: JobLine) -> None:
        """Appends a job line. In a shared history it needs the right to INSERT alone."""
        self._write(lambda: self._append([(replica, line)]))

    def add_records(self, replica: str, records: Iterable[Record]) -> int:
        """Appends records with their own times, as an import does, in one transaction; returns how many."""
        lines = [(replica, record) for record in records]
        if lines:
            self._write(lambda: self._append(lines))
        return len(lines)

    def _append(self, records: Sequence[tuple[str, Record]]) -> None:
        """Gives arrival numbers and stores; within a transaction."""
        replicas = {replica for replica, _ in records}
        names = sorted({name for replica in replicas for name in job_names(replica)})
        arrival = self._adopt(self._last_arrival(), names)
        samples: list[Row] = []
        jobs: list[Row] = []
        notable: set[int] = set()
        delays: dict[int, set[int]] = {}
        for replica, record in records:
            arrival += 1
            if not isfinite(record.t):
                raise HistoryUnavailable(f"history {self.name}: a time of {record.t} cannot be kept")
            if isinstance(record, Sample):
                number = self._number(replica)
                samples.append((number, arrival, *sample_values(record)))
                if record.delay is not None or record.source_id is not None:
                    notable.add(number)
                if record.sql_delay:
                    delays.setdefault(whole(record.sql_delay), set()).add(number)
            else:
                jobs.append((text(replica, NAME_LENGTH), arrival, record.t, *job_values(record)))
        if samples:
            self._prepare(samples)
            places = ", ".join(self._write_as(kind) for _, kind in COLUMNS)
            columns = ", ".join(column for column, _ in COLUMNS)
            self._run_many(f"INSERT INTO sample (replica, arrival, {columns}) VALUES (?, ?, {places})", samples)
            self._mark(arrival, notable, delays)
        if jobs:
            self._run_many(
                f"INSERT INTO job (replica, arrival, {JOB_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", jobs
            )
        self._run("UPDATE counter SET arrival = ? WHERE id = 1", (arrival,))

    def _mark(self, arrival: int, notable: set[int], delays: dict[int, set[int]]) -> None:
        """Notes that the replicas' notable samples stand at `arrival` or shortly before; within a transaction."""
        if notable:
            self._run(f"UPDATE replica SET delay_arrival = ? WHERE number IN ({numbers(notable)})", (arrival,))
        for delay, those in delays.items():
            where = f"number IN ({numbers(those)}) AND slowest < ?"
            self._run(f"UPDATE replica SET slowest = ?, slowest_arrival = ? WHERE {where}", (delay, arrival, delay))

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

    def _samples(self, rest: str, parameters: Sequence[object]) -> list[tuple[int, int, Sample]]:
        """Samples, each with its arrival and its replica's number; `rest` follows FROM sample."""
        columns = ", ".join(self._read_as(column, kind) for column, kind in COLUMNS)
        statement = f"SELECT arrival, replica, {columns} FROM sample {rest}"
        return self._read(lambda: [(row[0], row[1], sample_from(row[2:])) for row in self._rows(statement, parameters)])

    def records(self, replica: str, after: int = 0) -> Iterator[tuple[int, Record]]:
        """Everything that arrived after `after`, in order of arrival, each with its arrival number.

        Job lines under every name that applies to the replica are among it, but those that have no number yet: they
        have not arrived.
        """
        # In this order: who is not known yet has no samples up to there.
        upto, number = self.newest_arrival(), self._read(lambda: self._known(replica))
        known = {} if number is None else {number: replica}
        return ((arrival, record) for arrival, _, record in self._merged(known, job_names(replica), after, upto))

    def arrived(self, after: int) -> Iterator[tuple[int, str, Record]]:
        """Everything of all replicas that arrived after `after`, in order, each with the name it was stored under."""
        upto, rows = self.newest_arrival(), self._select("SELECT number, name FROM replica")
        return self._merged({int(number): str(name) for number, name in rows}, (), after, upto)

    def newest_arrival(self) -> int:
        """The last arrival number that was given."""
        return self._read(self._last_arrival)

    def _merged(
        self, known: dict[int, str], names: Sequence[str], after: int, upto: int
    ) -> Iterator[tuple[int, str, Record]]:
        """Samples of the replicas with these numbers and job lines under these names (none: any), in pieces."""
        while after < upto:
            records: list[tuple[int, str, Record]] = []
            end = upto
            if known:
                where = f"WHERE replica IN ({numbers(known)}) AND arrival > ? AND arrival <= ? ORDER BY arrival LIMIT ?"
                samples = self._samples(where, (after, upto, self.chunk))
                records += ((arrival, known[number], sample) for arrival, number, sample in samples)
                if len(samples) == self.chunk:
                    end = samples[-1][0]
            jobs = self._jobs(names, after, end)
            if len(jobs) == self.chunk:
                end = jobs[-1][0]
            records += ((row[0], row[1], job_from(row)) for row in jobs)
            records.sort(key=itemgetter(0))
            for record in records:
                if record[0] > end:
                    break
                yield record
            after = end

    def job_lines(self, replica: str, ids: Sequence[str] = ()) -> Iterator[tuple[str, JobLine]]:
        """The job lines alone, in order of arrival, each with the name that it was recorded under; `ids`: no others.

        Lines of a shared history that have no arrival number yet come last.
        """
        upto = self._read(self._last_arrival)
        for row in self._all_jobs(job_names(replica), upto, ids):
            yield row[1], job_from(row)
        for row in self._waiting(job_names(replica), upto, ids):
            yield row[1], job_from(row)

    def _all_jobs(self, names: Sequence[str], upto: int, ids: Sequence[str] = ()) -> Iterator[Row]:
        after = 0
        while rows := self._jobs(names, after, upto, ids):
            yield from rows
            after = rows[-1][0]

    def _jobs(self, names: Sequence[str], after: int, upto: int, ids: Sequence[str] = ()) -> list[Row]:
        """The first job lines under these names, and with these ids; any, where none are given."""
        chosen, values = self._chosen(names, ids)
        return self._select(
            f"SELECT arrival, replica, {JOB_COLUMNS} FROM job WHERE {chosen}arrival > ? AND arrival <= ?"
            " ORDER BY arrival LIMIT ?",
            (*values, after, upto, self.chunk),
        )

    def _chosen(self, names: Sequence[str], ids: Sequence[str]) -> tuple[str, list[str]]:
        """The beginning of a condition that chooses names and ids of jobs, and its values."""
        statement = "".join(
            f"{column} IN ({', '.join('?' * len(values))}) AND "
            for column, values in (("replica", names), ("id", ids))
            if values
        )
        return statement, [text(value, NAME_LENGTH) for value in (*names, *ids)]

    def window(self, replica: str, since_t: float, upto: int) -> list[Sample]:
        """The samples with t >= since_t that arrived at `upto` or before, in order of arrival."""
        number = self._read(lambda: self._known(replica))
        rest = f"{self.by_t} WHERE replica = ? AND t >= ? AND arrival <= ? ORDER BY arrival"
        return [sample for _, _, sample in self._samples(rest, (number, since_t, min(upto, LARGEST - 1)))]

    def delays(self, replica: str, since_t: float, upto: int) -> list[Sample]:
        """The samples of `window` with `t` and `delay` alone, in any order: much cheaper where there are many."""
        number = self._read(lambda: self._known(replica))
        rows = self._select(
            f"SELECT t, delay FROM sample {self.by_t} WHERE replica = ? AND t >= ? AND arrival <= ?",
            (number, since_t, min(upto, LARGEST - 1)),
        )
        return [Sample(t, delay) for t, delay in rows]

    def first_since(self, replica: str, t: float) -> tuple[int, float] | None:
        """Arrival and time of the earliest sample that was taken at `t` or later."""
        number = self._read(lambda: self._known(replica))
        rows = self._select(
            f"SELECT arrival, t FROM sample {self.by_t} WHERE replica = ? AND t >= ? ORDER BY t LIMIT 1", (number, t)
        )
        return (int(rows[0][0]), float(rows[0][1])) if rows else None

    def past(self, replica: str, before: int) -> Past:
        """What is left of everything that arrived before the number `before`."""
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
        """The newest sample with a delay or a source id: what the next sample wants to know of the past."""
        for number, _, arrival, *_ in self._marks(replica):
            found = self._samples(_NOTABLE, (number, arrival))
            return found[0][2] if found else None
        return None

    def newest_sample_t(self, replica: str) -> float | None:
        """When the newest sample was taken, failed ones included; None where there is none."""
        number = self._read(lambda: self._known(replica))
        rows = self._select("SELECT t FROM sample WHERE replica = ? ORDER BY arrival DESC LIMIT 1", (number,))
        return float(rows[0][0]) if rows else None

    def replicas(self) -> list[str]:
        """The names of all replicas that there are samples of."""
        rows = self._select(
            "SELECT name FROM replica WHERE EXISTS"
            " (SELECT 1 FROM sample WHERE sample.replica = replica.number) ORDER BY name"
        )
        return [str(row[0]) for row in rows]

    def kinds(self, replica: str) -> set[str]:
        """The kinds of job, beside those built in, that checks which judged this replica in the last day know."""
        rows = self._select(
            "SELECT name, kinds FROM fold JOIN replica ON number = fold.replica WHERE saved_at >= ?",
            (self.now() - _EPISODE_MEMORY_S,),
        )
        return {kind for name, kinds in rows if replica in job_names(name) for kind in (kinds or "").split()}

    # --- the judge's fold ---

    def load_fold(self, replica: str, key: str) -> tuple[int, str] | None:
        """The judge's fold as it was kept under this key: the last arrival folded in, and its text."""
        self._epoch = int(self._select("SELECT epoch FROM counter WHERE id = 1")[0][0])
        number = self._read(lambda: self._known(replica))
        rows = self._select("SELECT arrival, folded FROM fold WHERE replica = ? AND judge = ?", (number, key))
        return (int(rows[0][0]), str(rows[0][1])) if rows else None

    def save_fold(
        self, replica: str, key: str, arrival: int, text: str, episode_arrival: int | None, kinds: Iterable[str] = ()
    ) -> None:
        """Keeps the judge's fold. It is a cache: that it cannot be kept is no error.

        `episode_arrival`: where the episode that is going on began, which pruning must not take away. `kinds`: the
        kinds of job that this judge knows beside those built in.
        """

        def work() -> None:
            epoch = int(self._rows("SELECT epoch FROM counter WHERE id = 1")[0][0])
            number = self._known(replica)
            # A fold over samples that have been taken back since it was begun must not come to stay.
            if number is None or (self._epoch is not None and epoch != self._epoch):
                return
            self._run(
                "REPLACE INTO fold (replica, judge, arrival, folded, saved_at, episode_arrival, kinds)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (number, key, arrival, text, self.now(), episode_arrival, " ".join(kinds)),
            )

        deadline = self.deadline
        self.deadline = min(deadline, time.monotonic() + _CACHE_WAIT_S)
        with suppress(HistoryUnavailable):
            self._write(work)
        self.deadline = deadline

    # --- who publishes ---

    def lease(self, holder: str, seconds: float) -> bool:
        """Whether `holder` is the one that publishes, now and for so many seconds; 0 seconds give that back."""

        def work() -> bool:
            now = self.now()
            changed = self._run(
                "UPDATE counter SET publisher = ?, publisher_until = ?"
                " WHERE id = 1 AND (publisher = ? OR publisher_until IS NULL OR publisher_until <= ?)",
                (text(holder, NAME_LENGTH), now + seconds, text(holder, NAME_LENGTH), now),
            )
            return changed > 0

        return self._write(work)

    # --- pruning ---

    def prune(self, keep_s: float, replica: str | None = None, at_most: int = LARGEST) -> int:
        """Removes samples older than `keep_s` seconds and job lines of jobs long done; returns how many lines went.

        What later judgements need stays: unfinished jobs, the sample with the largest sql_delay, the newest with a
        delay or a source id, and everything since a day before an episode that is going on. It works in small steps,
        so that others can write in between; `at_most` lines are removed.
        """
        cutoff = self.now() - keep_s
        gone = 0
        for table, key, old in self._old(replica, cutoff):
            arrivals = old[: at_most - gone]
            if not arrivals:
                break
            began = time.monotonic()
            self._change(f"DELETE FROM {table} WHERE replica = ? AND arrival IN ({numbers(arrivals)})", (key,))
            gone += len(arrivals)
            time.sleep(min(0.1, time.monotonic() - began) if len(arrivals) == _PRUNE_STEP else 0.0)
        if self._select("SELECT 1 FROM fold WHERE saved_at < ? LIMIT 1", (cutoff,)):
            self._change("DELETE FROM fold WHERE saved_at < ?", (cutoff,))
        return gone

    def _old(self, replica: str | None, cutoff: float) -> Iterator[tuple[str, int | str, list[int]]]:
        """Rows that may go, some at a time: table, replica and arrivals. Those of before are to be gone by then."""
        kept: dict[str, tuple[float, int]] = {}
        """By name of replica: all with t at or after the first, or that arrived at or after the second, stays."""
        for number, name, newest, slowest, slowest_arrival in self._marks(replica):
            since, before = kept[name] = self._kept_since(number, cutoff)
            spared = [row[0] for row in self._samples(_NOTABLE, (number, newest))]
            spared += [row[0] for row in self._samples(_SLOWEST, (number, slowest_arrival, slowest))]
            while rows := self._select(
                f"SELECT arrival FROM sample {self.by_t} WHERE replica = ? AND t < ? AND arrival < ?"
                f"{' AND arrival <> ?' * len(spared)} ORDER BY t LIMIT ?",
                (number, since, before, *spared, _PRUNE_STEP),
            ):
                yield "sample", number, [row[0] for row in rows]
        names = [row[0] for row in self._select("SELECT DISTINCT replica FROM job")] if replica is None else [replica]
        for name in names:
            limits = [(cutoff, LARGEST), *(limit for known, limit in kept.items() if name in job_names(known))]
            over = self._jobs_over(name, min(since for since, _ in limits), min(before for _, before in limits))
            for first in range(0, len(over), _PRUNE_STEP):
                yield "job", name, over[first : first + _PRUNE_STEP]

    def _marks(self, replica: str | None) -> list[Row]:
        """Number, name and marks of a replica, or of all."""
        where, values = ("", []) if replica is None else (" WHERE name = ?", [text(replica, NAME_LENGTH)])
        return self._select(f"SELECT number, name, delay_arrival, slowest, slowest_arrival FROM replica{where}", values)

    def _kept_since(self, number: int, cutoff: float) -> tuple[float, int]:
        """An episode that is going on keeps what arrived since it began, and what was a day before."""
        ((begin,),) = self._select(
            "SELECT MIN(episode_arrival) FROM fold WHERE replica = ? AND saved_at >= ?",
            (number, self.now() - _EPISODE_MEMORY_S),
        )
        if begin is None:
            return cutoff, LARGEST - 1
        where = "WHERE replica = ? AND arrival >= ? ORDER BY arrival LIMIT 1"
        first = self._samples(where, (number, begin))
        return (min(cutoff, first[0][2].t - _EPISODE_MEMORY_S) if first else cutoff), int(begin)

    def _jobs_over(self, name: str, cutoff: float, before: int) -> list[int]:
        """The arrivals of the lines of jobs that were over before `cutoff` and `before`, by their last lines."""
        lines: dict[str, list[int]] = {}
        over: set[str] = set()
        for row in self._all_jobs((name,), LARGEST - 1):
            line = job_from(row)
            lines.setdefault(line.id, []).append(row[0])
            done = line.void or line.unreadable or (line.finished_at is not None and line.finished_at < cutoff)
            if done and line.t < cutoff and row[0] < before:
                over.update(lines if line.void and line.id == ALL_JOBS else (line.id,))
            else:
                over.discard(line.id)
        return sorted(arrival for job in over for arrival in lines[job])

    def prune_future(self, replica: str | None = None) -> int:
        """Removes samples from the future, left by a clock that was stepped; returns how many went."""
        limit = self.now() + FUTURE_S
        gone = 0
        for number, *_ in self._marks(replica):

            def take_back(number: int = number) -> int:
                return self._take_back(number, limit)

            gone += self._write(take_back)
        return gone

    def _take_back(self, number: int, limit: float) -> int:
        """Removes a replica's samples with t > limit; within a transaction."""
        gone = self._run("DELETE FROM sample WHERE replica = ? AND t > ?", (number, limit))
        if gone:
            self._run("DELETE FROM fold WHERE replica = ?", (number,))
            self._run("UPDATE counter SET epoch = epoch + 1 WHERE id = 1")
            ((slowest,),) = self._rows("SELECT MAX(sql_delay) FROM sample WHERE replica = ?", (number,))
            self._run(
                "UPDATE replica SET slowest = ?, slowest_arrival = ? WHERE number = ?",
                (slowest or 0, self._last_arrival(), number),
            )
        return gone


_NOTABLE = (
    "WHERE replica = ? AND arrival <= ? AND (delay IS NOT NULL OR source_id IS NOT NULL) ORDER BY arrival DESC LIMIT 1"
)
_SLOWEST = "WHERE replica = ? AND arrival <= ? AND sql_delay = ? ORDER BY arrival DESC LIMIT 1"


# --- values: whatever was seen must fit into a column ---


def text(value: str, length: int = TEXT_LENGTH) -> str:
    """A text that every history can store."""
    if len(value) > length:
        value = value[:length]
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def whole(value: int) -> int:
    """A whole number that every history can store; beyond 64 bits all are equally absurd."""
    return min(max(value, -LARGEST), LARGEST - 1)


def finite(value: float) -> float | None:
    """NaN and infinity were no observation."""
    return value if isfinite(value) else None


def numbers(values: Iterable[int]) -> str:
    """A list of whole numbers, for a statement."""
    return ", ".join(str(int(value)) for value in values)


_STORED: dict[str, Callable[[Any], object]] = {
    WHOLE: whole,
    REAL: finite,
    FLAG: int,
    TEXT: text,
    WORD: lambda value: text(value, KIND_LENGTH),
    NAME: lambda value: text(value, NAME_LENGTH),
    LIST: lambda values: text("\n".join(value.replace("\n", " ") for value in values), LIST_LENGTH),
}
_STORE = tuple(_STORED[kind] for _, kind in COLUMNS)


def sample_values(sample: Sample) -> list[object]:
    """A sample's COLUMNS."""
    logs = (*(sample.source_log or _NOWHERE), *(sample.relay_log or _NOWHERE))
    seen = (*sample[:_LOGS], *logs, *sample[_LOGS + 2 :])
    return [None if value is None else store(value) for value, store in zip(seen, _STORE, strict=True)]


def sample_from(row: Row) -> Sample:
    """The sample of a row of COLUMNS."""
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


def job_values(line: JobLine) -> Row:
    """A job line's columns from id to unreadable."""
    return (
        text(line.id, NAME_LENGTH),
        None if line.kind is None else text(line.kind, KIND_LENGTH),
        None if line.started_at is None else finite(line.started_at),
        None if line.finished_at is None else finite(line.finished_at),
        int(line.void),
        None if line.unreadable is None else text(line.unreadable),
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


# --- the layout ---


def layout(types: dict[str, str]) -> dict[str, str]:
    """The columns of the tables that both kinds of database have alike, in a database's own types."""
    number, real = types[WHOLE], types[REAL]
    sample = (
        f"{column} {types[kind]}{' NOT NULL' if column in ('t', 'local_missing') else ''}" for column, kind in COLUMNS
    )
    return {
        "counter": f"id {number} NOT NULL PRIMARY KEY, arrival {number} NOT NULL, epoch {number} NOT NULL,"
        f" publisher {types['KEY']}, publisher_until {real}",
        "replica": f"number {types['ID']}, name {types['KEY']} NOT NULL UNIQUE, delay_arrival {number},"
        f" slowest {number} NOT NULL, slowest_arrival {number}",
        "sample": f"replica {number} NOT NULL, arrival {number} NOT NULL, {', '.join(sample)},"
        " PRIMARY KEY (replica, arrival)",
        "fold": f"replica {number} NOT NULL, judge {types['KEY']} NOT NULL, arrival {number} NOT NULL,"
        f" folded {types['FOLD']} NOT NULL, saved_at {real} NOT NULL, episode_arrival {number}, kinds {types['LIST']},"
        " PRIMARY KEY (replica, judge)",
    }


def added_columns(types: dict[str, str]) -> dict[str, list[str]]:
    """What the first release's tables lack, by table."""
    return {
        "counter": [f"ADD COLUMN publisher {types['KEY']}", f"ADD COLUMN publisher_until {types[REAL]}"],
        "sample": [f"ADD COLUMN {column} {types[kind]}" for column, kind in COLUMNS if column in _NEW],
        "fold": [f"ADD COLUMN episode_arrival {types[WHOLE]}", f"ADD COLUMN kinds {types[LIST]}"],
    }
