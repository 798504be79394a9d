"""Judging that begins in the middle of a long history, at a place that nothing older reaches beyond.

Folding a month's records takes a while, and is done once for every set of limits. But a fold forgets: the trend reaches
back an hour at most, a sample in range ends the episode and all that was charged to it, and a job is over for good once
it was finished for longer than max-recovery-time. So a fold that begins late comes to say what the whole one says, once

* everything it is given lies later than everything it is not given, and no older job is open or has just finished;
* a sample well in range has come after more samples than a trend reaches back to: the line's side is the same;
* another has come max-recovery-time later: whatever a job is still to claim, it claims for a time that both have seen;
* what the older samples had left in `Observed` has been seen anew: heartbeat, positions, threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from check_delayed_repl.judge.calm import add, pass_over
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.observed import DAY, RELAY_FREE, Observed
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Past, Record, Sample


class LateFold:
    """A fold that begins after a replica's `past`, with the first sample after it."""

    def __init__(self, limits: Limits, past: Past, first_t: float) -> None:
        self.fold = Fold(limits, past.sql_delay)
        self._limits = limits
        self._past = past
        self._first_t = first_t
        self._known: float | None = None
        """Since when it is known which server this is, if it was known before."""
        self._settled: float | None = None
        """When the line's side was beyond doubt for the first time."""
        self.cannot_converge = past.newest_t is not None and past.newest_t >= first_t
        self._older_jobs = {line.id: line for line in past.jobs}
        ends = [line.finished_at for line in self._older_jobs.values() if not line.void]
        self._over = max((inf if end is None else end for end in ends), default=-inf)
        """When the last of these is over: never, while one is open."""

    def add(self, block: Sequence[tuple[int, Record]]) -> bool:
        """The next records, each with its arrival number; whether the fold now is as good as the whole one."""
        for _, record in block:
            if isinstance(record, JobLine):
                # What it is merged with depends on when its older lines were forgotten.
                self.cannot_converge = self.cannot_converge or record.id in self._older_jobs
            elif self._known is None and (self._past.bare or record.server is not None):
                self._known = record.t
        samples = pass_over(self.fold, [record for _, record in block])
        if not samples:
            # One calm sample at its end is enough.
            for arrival, record in block[:-1]:
                self.fold.add(record, arrival)
            samples = add(self.fold, block[-1:])
        if not samples:
            return False
        if not self._past.bare and any(map(_says_little, samples)):
            # An older release's samples: what more those before them said is never seen anew.
            self.cannot_converge = True
        first, last = samples[0], samples[-1]
        if self._settled is None and self._known is not None and first.t > self._known + late_reach(self._limits):
            self._settled = first.t
        return (
            not self.cannot_converge
            and self._settled is not None
            and last.t - self._settled >= self._limits.max_recovery_time
            and last.t - self._over > self._limits.max_recovery_time
            and self._seen_anew(last, self.fold.seen)
        )

    def _seen_anew(self, s: Sample, seen: Observed) -> bool:
        """Nothing in what has been seen would be otherwise if older samples had been seen too."""
        if seen.local is None and self._past.local:
            return False
        if self._past.sql_delay and not (s.sql_delay and self.fold.setting_fitted):
            return False
        if _says_little(s):
            return self._past.bare
        since, running = seen.heartbeat_since, seen.running_since
        return (
            since is not None
            and since > self._first_t
            and (running is None or running <= since)
            and (seen.source_log_since or 0.0) > self._first_t
            and (seen.relay_log_since or 0.0) > self._first_t
            and seen.drained_since is None
            and seen.source_changed is None
            and not seen.changes
            and not seen.filters
            and seen.relay_limited_since is None
            and seen.relay_free >= RELAY_FREE
            and s.io == "Yes"
        )


def _says_little(s: Sample) -> bool:
    return None in (s.ts, s.source_id, s.io, s.sql, s.source_log, s.relay_log, s.server, s.filters, s.relay_limited)


def late_reach(limits: Limits) -> float:
    """Seconds that a trend, an earlier identity of the server, or what is said of it, reaches back."""
    return max(Fold(limits).reach, DAY, limits.max_delay_time)
