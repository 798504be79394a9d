"""What may go from a history, and what has to stay for those who judge later."""

# Statements are put together from the words of this package alone; values are always parameters.
# What a history keeps from the rest of the program is open to its own package.
# ruff: noqa: S608, SLF001

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import islice

from check_delayed_repl.history.codec import job_from, numbers
from check_delayed_repl.history.database import HistoryUnavailable
from check_delayed_repl.history.tables import EPISODE_MEMORY_S, FUTURE_S, NOTABLE, History
from check_delayed_repl.records import ALL_JOBS, HELD_S, LARGEST, JobLine, job_names, merge_job, outlasts_all

STEP = 500
"""Rows removed in one transaction, so that others need not wait for long."""
RUNNING_S = 3600.0
DAY = 86400.0
_DELAY = f"CASE WHEN sql_delay BETWEEN 1 AND {HELD_S - 1} THEN sql_delay ELSE 0 END"


def prune(history: History, keep_s: float, replica: str | None = None, at_most: int = LARGEST) -> int:
    """Removes samples older than `keep_s` seconds and job lines of jobs long done; returns how many lines went.

    What later judgements need stays: unfinished jobs, of the old samples the one with the largest sql_delay, the newest
    with a delay or a source id, and everything since a day before an episode that is going on. It works in small steps,
    so that others can write in between; `at_most` lines are removed. Raises HistoryUnavailable.
    """
    cutoff = history.now() - keep_s
    gone = 0
    for number, old in _old(history, replica, cutoff):
        arrivals = old[: at_most - gone]
        if not arrivals:
            break
        began = time.monotonic()
        if number is None:
            history._write(partial(history._delete_jobs, arrivals))
        else:
            these = f"WHERE replica = ? AND arrival IN ({numbers(arrivals)})"
            history._write(partial(history._run, f"DELETE FROM sample {these}", (number,)))
        gone += len(arrivals)
        time.sleep(min(0.1, time.monotonic() - began) if len(arrivals) == STEP else 0.0)
    if history._select("SELECT 1 FROM fold WHERE saved_at < ? LIMIT 1", (cutoff,)):
        history._write(partial(history._run, "DELETE FROM fold WHERE saved_at < ?", (cutoff,)))
    return gone


def prune_meanwhile(history: History, keep_s: float, at_most: int, replica: str | None = None) -> str:
    """What whoever samples prunes beside that. What there is no time for is left to another time; returns what will be
    in the way then too, such as a privilege that is missing or a row that is damaged, or nothing.

    Nothing goes before samples have come for an hour by the clock that is to say what is old: it may have jumped ahead.
    """
    try:
        now = history.now()
        for _, name, _ in history.marks(replica):
            first = history.first_since(name, now - DAY)
            if first is not None and first[1] <= now - RUNNING_S:
                prune(history, keep_s, replica, at_most)
                break
    except HistoryUnavailable as error:
        if time.monotonic() < history.deadline:
            return f"old samples stay: {error}"
    return ""


def _old(history: History, replica: str | None, cutoff: float) -> Iterator[tuple[int | None, list[int]]]:
    """Arrivals of rows that may go, some at a time: of samples of the replica with this number, or of job lines.

    Those of before are to be gone by then.
    """
    kept: dict[str, tuple[float, int]] = {}
    """By name of jobs: all with t at or after the first, or that arrived at or after the second, stays."""
    for number, name, newest in history.marks(replica):
        since, before = _kept_since(history, number, cutoff)
        for each in job_names(name):
            other_since, other_before = kept.get(each, (cutoff, LARGEST))
            kept[each] = min(since, other_since), min(before, other_before)
        notable = history._select(f"SELECT {_DELAY}, arrival FROM sample {NOTABLE}", (number, newest))
        slowest = max(notable, default=(0, 0))
        spared = {arrival for _, arrival in notable}
        while rows := history._select(
            f"SELECT {_DELAY}, arrival FROM sample {history.by_t} WHERE replica = ? AND t < ? AND arrival < ?"
            f" AND arrival NOT IN ({numbers([*spared, slowest[1]])}) ORDER BY t LIMIT ?",
            (number, since, before, STEP),
        ):
            # Of all that go, the newest with the largest setting stays.
            rows.append(slowest)
            slowest = max((row for row in rows if row[0]), default=(0, 0))
            if others := [arrival for _, arrival in rows if arrival not in (0, slowest[1], *spared)]:
                yield number, others
    over = _jobs_over(history, replica, kept, cutoff)
    while some := list(islice(over, STEP)):
        yield None, some


def _kept_since(history: History, number: int, cutoff: float) -> tuple[float, int]:
    """An episode that is going on keeps what arrived since it began, and what was a day before."""
    ((begin,),) = history._select(
        "SELECT MIN(episode_arrival + 0) FROM fold WHERE replica = ? AND saved_at >= ?",
        (number, history.now() - EPISODE_MEMORY_S),
    )
    if begin is None:
        return cutoff, LARGEST - 1
    first = "SELECT t + 0 FROM sample WHERE replica = ? AND arrival >= ? ORDER BY arrival LIMIT 1"
    return min([cutoff, *(t - EPISODE_MEMORY_S for (t,) in history._select(first, (number, begin)))]), begin


def _jobs_over(
    history: History, replica: str | None, kept: dict[str, tuple[float, int]], cutoff: float
) -> Iterator[int]:
    """The arrivals of those lines whose jobs, by their last lines, were over before what is kept of their names."""
    names, upto = (replica,) if replica is not None else (), history.place()[0]
    left: dict[str, dict[str, JobLine | None]] = {name: {} for name in kept}
    """By name, the ids of those that are not over, and of a rescue that goes on the job itself."""
    for row in history._all_jobs(names, upto):
        if (jobs := left.get(row[1])) is not None:
            line, (since, before) = job_from(row), kept[row[1]]
            job = merge_job(jobs.pop(line.id, None), line)
            done = line.void or line.unreadable or (line.finished_at is not None and line.finished_at < since)
            if not (done and line.t < since and row[0] < before):
                jobs[line.id] = job if outlasts_all(job) else None
            elif line.void and line.id == ALL_JOBS:
                left[row[1]] = {key: rescue for key, rescue in jobs.items() if rescue}
    for row in history._all_jobs(names, upto):
        line = job_from(row)
        # Under a name that no replica has, whoever may record jobs may record any number of them.
        if line.id not in left[row[1]] if row[1] in left else line.t < cutoff:
            yield row[0]


def prune_future(history: History, replica: str | None = None) -> int:
    """Removes samples from the future, left by a clock that was stepped; returns how many went."""
    limit = history.now() + FUTURE_S
    return sum(history._write(partial(_take_back, history, limit, number)) for number, *_ in history.marks(replica))


def _take_back(history: History, limit: float, number: int) -> int:
    gone = history._run("DELETE FROM sample WHERE replica = ? AND t > ?", (number, limit))
    if gone:
        history._run("DELETE FROM fold WHERE replica = ?", (number,))
        history._run("UPDATE counter SET epoch = epoch + 1 WHERE id = 1")
    return gone
