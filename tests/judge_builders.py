"""Records made by hand, and the judge run over them: what the judge's tests are written with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import Finding, State, Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample

LIMITS = Limits()
"""The defaults: 5400 to 9000 seconds of delay."""

CALM = 7200.0
"""A delay in the middle of the default range."""


def sample(t: float, delay: float | None = CALM, **seen: Any) -> Sample:
    """A sample that succeeded, unless `error` is given: then it has no delay."""
    return Sample(t, None if "error" in seen else delay, **seen)


def samples(
    start: float, end: float, delay: float | Callable[[float], float] = CALM, every: float = 10.0, **seen: Any
) -> list[Sample]:
    """Samples every so many seconds in [start, end], the end included where it falls on one."""
    count = int((end - start) / every + 1e-9) + 1
    times = [start + every * i for i in range(count)]
    return [sample(t, delay(t) if callable(delay) else delay, **seen) for t in times]


def job(
    started_at: float | None,
    finished_at: float | None = None,
    *,
    kind: str | None = "backup",
    name: str = "b1",
    void: bool = False,
) -> JobLine:
    """A job's line, said to be written when it says that the job began (or ended)."""
    t = finished_at if finished_at is not None else started_at if started_at is not None else 0.0
    return JobLine(t, name, kind, started_at, finished_at, void)


def folded(records: Iterable[Record], limits: Limits = LIMITS) -> Fold:
    """A fold of records in order of arrival."""
    fold = Fold(limits)
    for record in records:
        fold.add(record)
    return fold


def judged(records: Iterable[Record], limits: Limits = LIMITS, now: float | None = None) -> Verdict:
    """The verdict after the last record, at the time of the newest sample unless `now` is given."""
    fold = folded(records, limits)
    return fold.verdict(fold.clock if now is None else now)


def verdicts(records: Iterable[Record], limits: Limits = LIMITS) -> Iterator[Verdict]:
    """The verdict at each sample, at its own t."""
    fold = Fold(limits)
    for record in records:
        fold.add(record)
        if isinstance(record, Sample):
            yield fold.verdict(record.t)


def finding(verdict: Verdict, condition: str) -> Finding | None:
    """The finding of that name, where the verdict has it."""
    return next((f for f in verdict.findings if f.condition == condition), None)


def states(records: Iterable[Record], limits: Limits = LIMITS) -> list[tuple[float, State, str]]:
    """(t, state, condition) of the first sample, and of every one where they change."""
    changes: list[tuple[float, State, str]] = []
    for verdict in verdicts(records, limits):
        if not changes or changes[-1][1:] != (verdict.state, verdict.condition):
            changes.append((verdict.at, verdict.state, verdict.condition))
    return changes
