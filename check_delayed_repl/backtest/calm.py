"""Many looks at once: which of them are so calm that the judge need not be asked about each.

A look is calm where it is like the one before it, which was found in order, where what should move has moved, and where
the line is in range beyond doubt. That is enough for its verdict to be OK, though it is not needed for it: whatever is
not calm goes to the judge. So nothing here decides anything that the judge would decide otherwise, and tests hold that
against it look by look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import eq, is_, ne
from typing import Any

import numpy as np
from numpy.typing import NDArray

from check_delayed_repl.judge.facts import MAX_AHEAD, MAX_CREDIBLE_DELAY, native
from check_delayed_repl.judge.fold import MIN_FITTED, Fold, spread
from check_delayed_repl.records import Sample

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

ALIKE = (
    *("error", "io", "io_errno", "sql_errno", "local_missing", "sql_delay", "source_id", "heartbeat_id"),
    *("server", "filters", "relay_limited"),
)
"""What stands still from one calm look to the next: any change is for the judge to see."""
KNOWN_ALIKE = ("ts", "local", "sql", "source_log", "relay_log")
"""What may move, but is either seen in both looks or in neither."""


class Looks:
    """Looks in order of arrival, as columns. Index 0 is the look before them, which is not theirs."""

    def __init__(
        self,
        samples: Sequence[Sample],
        t: Floats,
        delay: Floats,
        alike: Flags,
        *,
        ts: Floats | None = None,
        local: Floats | None = None,
        source_log_moves: Flags | None = None,
        relay_log_moves: Flags | None = None,
        sql_runs: Flags | None = None,
        sql_moves: Flags | None = None,
        drained_moves: Flags | None = None,
    ) -> None:
        """All arrays have the length of `samples`. NaN: not seen. None for a whole column: never seen, or never so."""
        self.samples = samples
        self.t = t
        """Seconds since 1970."""
        self.delay = delay
        self.alike = alike
        """Later than all looks before, with a delay that makes sense, and like the one before in what stands still."""
        self.ts = ts
        self.local = local
        self.source_log_moves = source_log_moves
        self.relay_log_moves = relay_log_moves
        self.sql_runs = sql_runs
        self.sql_moves = sql_moves
        """Where the SQL thread was started or stopped: normal where pt-slave-delay makes the delay."""
        self.drained_moves = drained_moves
        """Where the delay line ran empty or filled again."""

    @classmethod
    def of(cls, looks: Sequence[Sample], before: Sample | None) -> Looks:
        """`before` is the look before the first of `looks`; None where there was none, and then none is like it."""
        samples = [looks[0] if before is None else before, *looks]
        columns: Any = Sample._make(zip(*samples, strict=True))
        t, delay = _floats(columns.t), _floats(columns.delay)
        alike = credible(t, delay)
        for name in ALIKE:
            column = getattr(columns, name)
            if _varies(column):
                alike[1:] &= _flags(map(eq, column[1:], column))
        for name in KNOWN_ALIKE:
            column = getattr(columns, name)
            if 0 < column.count(None) < len(column):
                alike &= ~moves_of(_flags(map(is_, column, repeat(None))))
        sql_runs = sql_moves = None
        if _varies(columns.sql):
            sql_runs, sql_moves = _flags(map(eq, columns.sql, repeat("Yes"))), _moves(columns.sql)
            if sql_moves is not None and not {"Yes", "No", None}.issuperset(columns.sql):
                alike &= ~sql_moves
        drained = None
        if _any(columns.io) and None in columns.sql_remaining:
            drained = _flags(map(eq, columns.source_log, columns.relay_log))
            drained &= _flags(map(is_, columns.sql_remaining, repeat(None)))
            drained &= _flags(map(eq, columns.sql, repeat("Yes")))
        return cls(
            samples,
            t,
            delay,
            alike,
            ts=_floats(columns.ts) if _any(columns.ts) else None,
            local=_floats(columns.local) if _any(columns.local) else None,
            source_log_moves=_moves(columns.source_log),
            relay_log_moves=_moves(columns.relay_log),
            sql_runs=sql_runs,
            sql_moves=sql_moves,
            drained_moves=None if drained is None else moves_of(drained),
        )


def credible(t: Floats, delay: Floats) -> Flags:
    """Looks later than all before them, with a delay that makes sense; the first one is not."""
    found = np.zeros(len(t), bool)
    found[1:] = t[1:] > np.maximum.accumulate(t)[:-1]
    found &= (delay >= -MAX_AHEAD) & (delay <= MAX_CREDIBLE_DELAY)
    return found


def moves_of(column: NDArray[Any]) -> Flags:
    """Where a value is another than in the look before."""
    moves = np.zeros(len(column), bool)
    moves[1:] = column[1:] != column[:-1]
    return moves


def alike_runs(looks: Looks, least: int) -> list[tuple[int, int]]:
    """Runs [start, end) of at least `least` looks, each like the one before it."""
    edges = np.flatnonzero(np.diff(looks.alike.astype(np.int8), append=0))
    # alike[0] is False, so edges alternate: a rise before each run, a fall at its last look.
    return [(a + 1, b + 1) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True) if b - a >= least]


def calm(looks: Looks, start: int, end: int, fold: Fold) -> Flags:
    """Which looks of a run [start, end) are calm, shape (end - start,), provided the look before the run was in order.

    `fold` has folded everything before the run.
    """
    seen, limits = fold.seen, fold.limits
    t, delay = looks.t[start:end], looks.delay[start:end]
    if seen.io_waiting_since is not None or t[0] <= fold.clock:
        return np.zeros(end - start, bool)
    found = _surely_in_range(t, delay, fold)
    if looks.sql_moves is not None and native(seen, limits):
        found &= ~looks.sql_moves[start:end]
    if limits.local_heartbeat and looks.local is not None and not np.isnan(looks.local[start]):
        local = looks.local[start:end]
        found &= (local >= -MAX_AHEAD) & (local <= limits.max_seconds_behind)
    for since, moves, limit in (
        (seen.heartbeat_since, _advances(looks, start, end, fold), limits.max_seconds_behind),
        (seen.source_log_since, _part(looks.source_log_moves, start, end), limits.max_master_behind),
        (seen.relay_log_since, _part(looks.relay_log_moves, start, end), limits.max_relay_behind),
    ):
        if since is not None:
            found &= t - _last_moved(since, moves, t) <= limit
    return found


def pass_over(looks: Looks, start: int, end: int, fold: Fold) -> None:
    """Fold the calm looks [start, end) all at once; the fold must be at rest, and have folded all before them."""
    traces = {start, end - 1}
    for moves in (looks.source_log_moves, looks.relay_log_moves, looks.drained_moves, _restarts(looks)):
        last = _last(_part(moves, start, end))
        if last is not None:
            # With the look before it, the move is seen for what it is.
            traces |= {start + max(0, last - 1), start + last}
    if looks.ts is not None:
        # Whether changes pass a heartbeat by is told by every look after its last advance.
        traces |= set(range(start + (_last(_advances(looks, start, end, fold)) or 0), end))
    t = looks.t
    oldest = int(np.searchsorted(t[start:end], t[end - 1] - fold.reach)) + start
    oldest = max(start, min(oldest, end - 3))
    points = list(zip(t[oldest:end].tolist(), looks.delay[oldest:end].tolist(), strict=True))
    fold.pass_over(float(t[start]), [looks.samples[i] for i in sorted(traces)], points)


def _advances(looks: Looks, start: int, end: int, fold: Fold) -> Flags | None:
    """Where the source's heartbeat is another than before."""
    known = fold.seen.heartbeat
    if looks.ts is None or known is None or np.isnan(looks.ts[start]):
        return None
    ts = looks.ts[start:end]
    moves: Flags = ts != np.concatenate(((known[1],), ts[:-1]))
    return moves


def _restarts(looks: Looks) -> Flags | None:
    """Where the SQL thread runs and did not run before."""
    if looks.sql_runs is None or looks.sql_moves is None:
        return None
    return looks.sql_runs & looks.sql_moves


def _last_moved(since: float, moves: Flags | None, t: Floats) -> Floats | float:
    """When it last moved, at each of the looks."""
    if moves is None:
        return since
    moved = np.maximum.accumulate(np.where(moves, np.arange(1, len(t) + 1), 0))
    return np.concatenate(((since,), t))[moved]


def _surely_in_range(t: Floats, delay: Floats, fold: Fold) -> Flags:
    """Where the fold is sure that the line is in range, as it says itself for one look; shape of `t`."""
    before = np.array(fold.points, dtype=np.float64).reshape(-1, 2)
    times, delays = np.concatenate((before[:, 0], t)), np.concatenate((before[:, 1], delay))
    ends = np.arange(len(before) + 1, len(times) + 1)
    starts = np.searchsorted(times, t - fold.limits.window)
    few = ends - starts < MIN_FITTED
    if few.any():
        reach = np.searchsorted(times, t - fold.reach)
        starts = np.where(few, np.maximum(np.minimum(starts, ends - MIN_FITTED), np.minimum(starts, reach)), starts)
    low, high = _extremes(delays, starts, ends)
    counts = ends - starts
    spreads = np.array([spread(max(1, n)) for n in range(int(counts.max()) + 1)])
    middle, reach_s = (low + high) / 2.0, (high - low) * spreads[counts] + 1e-6
    found: Flags = (fold.limits.min_delay_time <= middle - reach_s) & (middle + reach_s <= fold.limits.max_delay_time)
    return found


def _extremes(values: Floats, starts: Indices, ends: Indices) -> tuple[Floats, Floats]:
    """Least and greatest of values[starts[i]:ends[i]], none of them empty, for every i."""
    low, high = np.empty(len(starts)), np.empty(len(starts))
    lengths = ends - starts
    least = greatest = values
    step = 1
    # least[i] is the least of values[i : i + step]; two such overlapping stretches cover a window of up to 2 * step.
    while True:
        here = np.flatnonzero((lengths >= step) & (lengths < 2 * step))
        if len(here):
            first, second = starts[here], ends[here] - step
            low[here] = np.minimum(least[first], least[second])
            high[here] = np.maximum(greatest[first], greatest[second])
        if 2 * step > lengths.max():
            return low, high
        least = np.minimum(least[:-step], least[step:])
        greatest = np.maximum(greatest[:-step], greatest[step:])
        step *= 2


def _varies(column: tuple[object, ...]) -> bool:
    return column.count(column[0]) < len(column)


def _any(column: tuple[object, ...]) -> bool:
    return column.count(None) < len(column)


def _floats(column: tuple[float | None, ...]) -> Floats:
    """NaN for None."""
    return np.array(column, dtype=np.float64)


def _flags(values: Iterable[bool]) -> Flags:
    return np.fromiter(values, dtype=np.bool_)


def _moves(column: tuple[object, ...]) -> Flags | None:
    """Where a value is another than in the look before; None where it never is."""
    if not _varies(column):
        return None
    return _flags((False, *map(ne, column[1:], column)))


def _part(moves: Flags | None, start: int, end: int) -> Flags | None:
    return None if moves is None else moves[start:end]


def _last(moves: Flags | None) -> int | None:
    """The index of the last one that is set."""
    if moves is None:
        return None
    found = len(moves) - 1 - int(np.argmax(moves[::-1]))
    return found if moves[found] else None
