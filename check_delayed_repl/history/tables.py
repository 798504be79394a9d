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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from math import isfinite
from operator import itemgetter

from check_delayed_repl.history import codec
from check_delayed_repl.history.database import Database, HistoryUnavailable
from check_delayed_repl.records import HELD_S, LARGEST, JobLine, Past, Record, Sample, job_names

FUTURE_S = 2.0
"""A stored sample that lies further ahead than this, in seconds, shows that a clock was stepped."""
LONGEST_LEASE_S = 60.0
_CACHE_WAIT_S = 0.5
"""A cache is not worth a longer wait."""
NOTABLE = (
    "WHERE replica = ? AND arrival <= ? AND (delay IS NOT NULL OR source_id IS NOT NULL) ORDER BY arrival DESC LIMIT 1"
)
EPISODE_MEMORY_S = 86400.0
"""A kept fold younger than this says whether an episode is going on; and so long before an episode all is kept."""
_COLUMNS = ", ".join(column for column, _ in codec.COLUMNS)
_OF = "replica = (SELECT number FROM replica WHERE name = ?)"


class History(Database):
    """An append-only log of samples and job lines. Every method raises HistoryUnavailable, and nothing else.

    A subclass provides the connection, the clock and the types. One thread at a time may use it.
    """

    version = 2
    """Of the tables' layout."""
    by_t: str
    """How a statement is told to use the index by (replica, t)."""
    chunk = 2000
    """Rows read at a time, so that memory does not grow with the history."""
    _epoch: int | None = None
    """The history's, when a fold was loaded."""

    def _too_new(self, version: int) -> HistoryUnavailable:
        return self._wrong(
            f"has schema version {version}, and this program knows up to {self.version}: upgrade this program"
        )

    # --- what a kind of database has in its own way ---

    columns = _COLUMNS
    """How a sample's columns are read."""
    places = ", ".join("?" for _ in codec.COLUMNS)
    """How their values are written."""
    binary: str
    """The type to read a text as that may have been damaged and be none any more."""

    def _stamped(self, samples: list[tuple[str, Sample]]) -> list[tuple[str, Sample]]:
        """Samples, each with its replica's name, with their times by the history's clock."""
        return samples

    def _adopt(self, arrival: int, _names: Sequence[str]) -> int:
        """Gives numbers after `arrival` to job lines that wait for one, of these names first; returns the last one."""
        return arrival

    def _waiting(self, _names: Sequence[str], _after: int, _ids: Sequence[str]) -> Iterable[codec.Row]:
        """The job lines that have no arrival number, or got one after `_after`."""
        return ()

    def _prepare(self, _samples: Sequence[Sequence[object]]) -> None:
        """What has to be there before these rows of samples can be stored."""

    def _delete_jobs(self, arrivals: Sequence[int]) -> None:
        self._run(f"DELETE FROM job WHERE arrival IN ({codec.numbers(arrivals)})")

    # --- writing ---

    def add_sample(self, replica: str, sample: Sample) -> Sample:
        """Appends a sample and returns it as stored: a shared history stamps `t` with its own clock."""
        return self.add_samples([(replica, sample)])[0]

    def add_samples(self, samples: Iterable[tuple[str, Sample]]) -> list[Sample]:
        """Appends many samples, each with its replica's name, in one transaction."""
        named = list(samples)

        def work() -> list[Sample]:
            stored = self._stamped(named)
            self._append(stored)
            return [sample for _, sample in stored]

        return self._write(work) if named else []

    def add_job(self, replica: str, line: JobLine) -> None:
        """Appends a job line. In a shared history it needs the right to INSERT alone."""
        self.add_records(replica, [line])

    def add_records(self, replica: str, records: Iterable[Record]) -> None:
        """Appends records with their own times, as an import does, in one transaction."""
        lines = [(replica, record) for record in records]
        self._write(lambda: self._append(lines))

    def _append(self, records: Sequence[tuple[str, Record]]) -> None:
        """Gives arrival numbers and stores; within a transaction."""
        replicas = {replica for replica, _ in records}
        names = sorted({name for replica in replicas for name in job_names(replica)})
        arrival = self._adopt(self._counter()[0], names)
        samples: list[codec.Row] = []
        jobs: list[codec.Row] = []
        notable: set[int] = set()
        for replica, record in records:
            arrival += 1
            if not isfinite(record.t):
                raise HistoryUnavailable(f"history {self.name}: a time of {record.t} cannot be kept")
            if isinstance(record, Sample):
                number = self._number(replica)
                samples.append((number, arrival, *codec.sample_values(record)))
                if record.delay is not None or record.source_id is not None:
                    notable.add(number)
            else:
                jobs.append((codec.name(replica), arrival, record.t, *codec.job_values(record)))
        if samples:
            self._prepare(samples)
            self._run_many(f"INSERT INTO sample (replica, arrival, {_COLUMNS}) VALUES (?, ?, {self.places})", samples)
        if notable:
            # They stand there or shortly before.
            self._run(f"UPDATE replica SET delay_arrival = ? WHERE number IN ({codec.numbers(notable)})", (arrival,))
        if jobs:
            self._run_many(
                f"INSERT INTO job (replica, arrival, {codec.JOB_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", jobs
            )
        self._run("UPDATE counter SET arrival = ? WHERE id = 1", (arrival,))

    def _counter(self) -> tuple[int, int]:
        ((arrival, epoch),) = self._rows("SELECT arrival, epoch FROM counter WHERE id = 1")
        return int(arrival), int(epoch)

    def _number(self, replica: str) -> int:
        """The replica's number, given now if it has none; within a transaction."""
        if replica not in self._numbers:
            name = (codec.name(replica),)
            known = self._rows("SELECT number FROM replica WHERE name = ?", name)
            if not known:
                # The first release's tables want to know of a slowest sample.
                self._run("INSERT INTO replica (name, slowest) VALUES (?, 0)", name)
                known = self._rows("SELECT number FROM replica WHERE name = ?", name)
            self._numbers[replica] = int(known[0][0])
        return self._numbers[replica]

    # --- reading ---

    def _samples(self, rest: str, parameters: Sequence[object]) -> list[tuple[int, int, Sample]]:
        """Samples, each with its arrival and its replica's number; `rest` follows FROM sample."""
        statement = f"SELECT arrival, replica, {self.columns} FROM sample {rest}"
        return self._read(
            lambda: [(row[0], row[1], codec.sample_from(row[2:])) for row in self._rows(statement, parameters)]
        )

    def records(self, replica: str, after: int = 0) -> Iterator[tuple[int, Record]]:
        """Everything that arrived after `after`, in order of arrival, each with its arrival number.

        Job lines under every name that applies to the replica are among it, but those that have no number yet: they
        have not arrived.
        """
        return ((arrival, record) for arrival, _, record in self._arrived(replica, job_names(replica), after))

    def arrived(self, after: int) -> Iterator[tuple[int, str, Record]]:
        """Everything of all replicas that arrived after `after`, in order, each with the name it was stored under."""
        return self._arrived(None, (), after)

    def place(self) -> tuple[int, int]:
        """The last arrival number that was given, and the epoch."""
        return self._read(self._counter)

    def _arrived(self, replica: str | None, names: Sequence[str], after: int) -> Iterator[tuple[int, str, Record]]:
        """Samples of the replica (None: all), and job lines under these names (none: any), read in pieces."""
        # In this order: who is not known yet has no samples up to there.
        upto = self.place()[0]
        known = {number: name for number, name, _ in self.marks(replica)}
        where = f"WHERE replica IN ({codec.numbers(known)}) AND arrival > ? AND arrival <= ? ORDER BY arrival LIMIT ?"
        while after < upto:
            samples = self._samples(where, (after, upto, self.chunk)) if known else []
            jobs = self._jobs(names, after, upto)
            # Where a piece is full, there may be more of its kind behind it.
            end = min([upto, *(piece[-1][0] for piece in (samples, jobs) if len(piece) == self.chunk)])
            records: list[tuple[int, str, Record]] = [(row[0], row[1], codec.job_from(row)) for row in jobs]
            records += ((arrival, known.get(number, ""), sample) for arrival, number, sample in samples)
            yield from sorted((record for record in records if record[0] <= end), key=itemgetter(0))
            after = end

    def job_lines(self, replica: str, ids: Sequence[str] = ()) -> Iterator[tuple[str, JobLine]]:
        """The job lines alone, in order of arrival, each with the name that it was recorded under; `ids`: no others.

        Lines of a shared history that have no arrival number yet come last.
        """
        names, upto = job_names(replica), self.place()[0]
        for row in chain(self._all_jobs(names, upto, ids), self._waiting(names, upto, ids)):
            yield row[1], codec.job_from(row)

    def _all_jobs(self, names: Sequence[str], upto: int, ids: Sequence[str] = ()) -> Iterator[codec.Row]:
        after = 0
        while rows := self._jobs(names, after, upto, ids):
            yield from rows
            after = rows[-1][0]

    def _jobs(self, names: Sequence[str], after: int, upto: int, ids: Sequence[str] = ()) -> list[codec.Row]:
        """The first job lines under these names, and with these ids; any, where none are given."""
        chosen, values = self._chosen(names, ids)
        return self._select(
            f"SELECT arrival, replica, {codec.JOB_COLUMNS} FROM job WHERE {chosen}arrival > ? AND arrival <= ?"
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
        return statement, [codec.name(value) for value in (*names, *ids)]

    def window(self, replica: str, since_t: float, upto: int) -> list[Sample]:
        """The samples with t >= since_t that arrived at `upto` or before, in order of arrival."""
        places = "t >= ? AND (t > ? OR arrival > ?) AND arrival <= ?"
        rest = f"{self.by_t} WHERE {_OF} AND {places} ORDER BY t, arrival LIMIT ?"
        found: list[tuple[int, int, Sample]] = []
        t, arrival, last = since_t, -LARGEST, min(upto, LARGEST - 1)
        while piece := self._samples(rest, (codec.name(replica), t, t, arrival, last, self.chunk)):
            found += piece
            if len(piece) < self.chunk:
                break
            arrival, t = piece[-1][0], piece[-1][2].t
        return [sample for _, _, sample in sorted(found, key=itemgetter(0))]

    def delays(self, replica: str, since_t: float, upto: int) -> list[Sample]:
        """The samples of `window` with `t` and `delay` alone, in any order: much cheaper where there are many."""
        rows = self._select(
            f"SELECT t, delay FROM sample {self.by_t} WHERE {_OF} AND t >= ? AND arrival <= ?",
            (codec.name(replica), since_t, min(upto, LARGEST - 1)),
        )
        return self._read(lambda: [Sample(t + 0.0, None if delay is None else delay + 0.0) for t, delay in rows])

    def first_since(self, replica: str, t: float) -> tuple[int, float] | None:
        """Arrival and time of the earliest sample that was taken at `t` or later."""
        rows = self._select(
            f"SELECT arrival, t FROM sample {self.by_t} WHERE {_OF} AND t >= ? ORDER BY t LIMIT 1",
            (codec.name(replica), t),
        )
        return self._read(lambda: (int(rows[0][0]), float(rows[0][1]))) if rows else None

    def past(self, replica: str, before: int) -> Past:
        """What is left of everything that arrived before the number `before`."""
        ((samples, newest_t, sql_delay, local, missing, *seen),) = self._select(
            f"SELECT COUNT(*), MAX(t),"
            f" COALESCE(MAX(CASE WHEN sql_delay < {HELD_S} THEN sql_delay END), MAX(sql_delay)),"
            " MAX(local_age), MAX(local_missing), MAX(ts), MAX(source_id), MAX(source_pos), MAX(relay_pos),"
            " MAX(io_thread), MAX(sql_thread), MAX(server), MAX(relay_limited), MAX(filters) FROM sample"
            f" WHERE {_OF} AND arrival < ?",
            (codec.name(replica), before),
        )
        newest_t = self._read(lambda: newest_t and float(newest_t))
        jobs = tuple(codec.job_from(row) for row in self._all_jobs(job_names(replica), before - 1))
        bare = sql_delay is None and seen == [None] * len(seen)
        return Past(samples, newest_t, sql_delay, local is not None or bool(missing), bare, jobs)

    def newest_sample(self, replica: str) -> Sample | None:
        """The newest sample with a delay or a source id: what the next sample wants to know of the past."""
        marks = self.marks(replica)
        found = self._samples(NOTABLE, (marks[0][0], marks[0][2])) if marks else []
        return found[0][2] if found else None

    def newest_sample_t(self, replica: str) -> float | None:
        """When the newest sample was taken, failed ones included; None where there is none."""
        rows = self._select(f"SELECT t FROM sample WHERE {_OF} ORDER BY arrival DESC LIMIT 1", (codec.name(replica),))
        return self._read(lambda: float(rows[0][0])) if rows else None

    def replicas(self) -> list[str]:
        """The names of all replicas that there are samples of."""
        rows = self._select(
            f"SELECT CAST(name AS {self.binary}) FROM replica WHERE EXISTS"
            " (SELECT 1 FROM sample WHERE sample.replica = replica.number) ORDER BY name"
        )
        return [codec.decoded(name) for (name,) in rows]

    def kinds(self, replica: str) -> set[str]:
        """The kinds of job, beside those built in, that checks which judged this replica in the last day know."""
        rows = self._select(
            f"SELECT CAST(name AS {self.binary}), CAST(kinds AS {self.binary})"
            " FROM fold JOIN replica ON number = fold.replica WHERE saved_at >= ?",
            (self.now() - EPISODE_MEMORY_S,),
        )
        read = [(codec.decoded(name), codec.decoded(kinds)) for name, kinds in rows]
        return {kind for name, kinds in read if replica in job_names(name) for kind in kinds.split()}

    def marks(self, replica: str | None) -> list[codec.Row]:
        """Number and name of a replica, or of all, and where its newest sample with a delay or a source id is."""
        where, values = ("", []) if replica is None else (" WHERE name = ?", [codec.name(replica)])
        rows = self._select(
            f"SELECT number, CAST(name AS {self.binary}), delay_arrival + 0 FROM replica{where}", values
        )
        return self._read(lambda: [(int(number), codec.decoded(name), newest) for number, name, newest in rows])

    # --- the judge's fold ---

    def load_fold(self, replica: str, key: str) -> tuple[int, str] | None:
        """The judge's fold as it was kept under this key: the last arrival folded in, and its text.

        One that is damaged, in whatever way, passes for none: the records decide.
        """
        _, self._epoch = self.place()
        rows = self._select(
            f"SELECT arrival + 0, CAST(folded AS {self.binary}) FROM fold WHERE {_OF} AND judge = ?",
            (codec.name(replica), key),
        )
        for arrival, folded in rows:
            text = codec.decoded(folded)
            if text.startswith(codec.checksum(f"{arrival}{text[8:]}")):
                return arrival, text[8:]
        return None

    def save_fold(
        self, replica: str, key: str, arrival: int, text: str, episode_arrival: int | None, kinds: Iterable[str] = ()
    ) -> None:
        """Keeps the judge's fold. It is a cache: that it cannot be kept is no error.

        `episode_arrival`: where the episode that is going on began, which pruning must not take away. `kinds`: the
        kinds of job that this judge knows beside those built in.
        """

        sealed = codec.checksum(f"{arrival}{text}") + text

        def work() -> None:
            _, epoch = self._counter()
            # A fold over samples that have been taken back since it was begun must not come to stay.
            known = self._rows("SELECT number FROM replica WHERE name = ?", (codec.name(replica),))
            if known and self._epoch in (None, epoch):
                # Not by REPLACE … SELECT, of which a server that logs statements warns each time.
                self._run(
                    "REPLACE INTO fold (replica, judge, arrival, folded, saved_at, episode_arrival, kinds)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (known[0][0], key, arrival, sealed, self.now(), episode_arrival, " ".join(kinds)),
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
                " WHERE id = 1 AND (publisher = ? OR publisher_until IS NULL OR publisher_until NOT BETWEEN ? AND ?)",
                # One that ends later than any does was given before a clock was stepped.
                (codec.name(holder), now + seconds, codec.name(holder), now, now + LONGEST_LEASE_S),
            )
            return changed > 0

        return self._write(work)
