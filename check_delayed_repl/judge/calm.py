"""Blocks of samples that are so calm that the judge need not be asked about each.

In a calm block everything that the status says is as it was at the sample before, which was found in order; what should
move has moved in time; and the delay is in range beyond doubt. That is enough for every verdict in it to be OK, though
it is not needed for it: the judge is asked about whatever is not calm, so nothing here decides otherwise than it would.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter, lt

from check_delayed_repl.judge.findings import MAX_AHEAD
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.records import Record, Sample

STILL = attrgetter(
    *("error", "source_id", "heartbeat_id", "local_missing", "io", "io_errno", "sql_errno", "sql_delay"),
    *("server", "filters", "relay_limited"),
)
"""What stands still while nothing happens: any change is for the judge to see."""


def add(fold: Fold, block: Sequence[tuple[int, Record]]) -> list[Sample]:
    """Folds the next records, each with its arrival number; gives back those that were folded at once, being calm."""
    records = [record for _, record in block]
    if samples := pass_over(fold, records):
        return samples
    for arrival, record in block:
        fold.add(record, arrival)
    return []


def pass_over(fold: Fold, block: Sequence[Record]) -> list[Sample]:
    """Folds these records at once and gives them back, where all are samples and no verdict among them can be anything
    but OK, given that the one before them is; else it does nothing."""
    samples = [record for record in block if isinstance(record, Sample)]
    return samples if len(samples) == len(block) and _calm(samples, fold) and fold.pass_over(samples) else []


def _calm(block: Sequence[Sample], fold: Fold) -> bool:
    """Nothing in these samples is out of the ordinary but, perhaps, the delays."""
    last, seen, limits = fold.last, fold.seen, fold.limits
    times = [s.t for s in block]
    if last is None or last.error is not None or seen.relay_limited_since is not None:
        return False
    if times[0] <= fold.clock or not all(map(lt, times, times[1:])) or None in [s.delay for s in block]:
        return False
    if {*map(STILL, block)} != {STILL(last)} or last.io not in (None, "Yes"):
        return False
    threads = {last.sql, *[s.sql for s in block]}
    if len(threads) > 1 and (seen.native or limits.delay_mode == "native" or not threads <= {"Yes", "No"}):
        return False
    ages = [s.local for s in block if s.local is not None]
    if ages and limits.local_heartbeat:
        fresh = len(ages) == len(block) and min(ages) >= -MAX_AHEAD and max(ages) <= limits.max_seconds_behind
        if not fresh:
            return False
    heartbeat = seen.heartbeat and seen.heartbeat[1]
    return all(
        column.count(None) == len(column)
        if since is None
        else times[-1] - since <= limit or _longest_still(times, column, since, before) <= limit
        for column, since, before, limit in (
            ([s.ts for s in block], seen.heartbeat_since, heartbeat, limits.max_seconds_behind),
            ([s.source_log for s in block], seen.source_log_since, seen.source_log, limits.max_master_behind),
            ([s.relay_log for s in block], seen.relay_log_since, seen.relay_log, limits.max_relay_behind),
        )
    )


def _longest_still(times: Sequence[float], column: Sequence[object], since: float, before: object) -> float:
    """The longest time in seconds for which a value was not seen to move, having moved to `before` at `since`."""
    moves = [since]
    for t, value in zip(times, column, strict=True):
        if value != before and value is not None:
            before = value
            moves.append(t)
    moves.append(times[-1])
    return max(after - before for before, after in pairwise(moves))
