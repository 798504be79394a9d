"""The fold: records in order of arrival → what this episode has been held for, and the verdict at any moment.

Everything that a verdict rests on follows from the records alone. `dump` and `load` only save the folding of old ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from math import inf

from check_delayed_repl.judge.findings import (
    heartbeat_usable,
    holdable_findings,
    is_held,
    job_findings,
    remarks,
    sample_findings,
    sampling_findings,
    worst_first,
)
from check_delayed_repl.judge.jobs import Jobs, JobsNow
from check_delayed_repl.judge.line import (
    ABOVE,
    BELOW,
    DRAINED_DEPTH,
    DRAINED_SAMPLES,
    DRAINED_WINDOWS,
    IN_RANGE,
    REAL_VALUE_SAMPLES,
    TREND,
    LineVerdict,
    Situation,
    lasting,
    line_verdict,
    side_of,
)
from check_delayed_repl.judge.observed import Observed, tuples
from check_delayed_repl.judge.outcome import Finding, State, Trend, Verdict
from check_delayed_repl.judge.straight import Point
from check_delayed_repl.judge.trend import NO_FIT, Fit
from check_delayed_repl.judge.window import Window
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample
from check_delayed_repl.words import plain

FOLD_VERSION = 17
"""Changes with the rules: a cache that an older judge left is worth nothing."""
MIN_UP = 3
"""Samples that show a line to be up without a trend."""
LOST_SHARE = 0.1
"""Of the window: a line that has been out for longer was lost before a job that begins now."""


class Fold:
    """One replica's records, folded under one set of limits."""

    def __init__(self, limits: Limits, sql_delay: int | None = None) -> None:
        """`sql_delay`: the largest setting that was seen before the records that are to be added."""
        self.limits = limits
        self._jobs = Jobs(limits)
        self._arriving: Jobs | None = None
        """The jobs as they will be with the next sample, where lines have arrived since the newest one."""
        self.seen = Observed(sql_delay)
        self._window = Window(limits)
        self._latest: tuple[float, ...] = ()
        self.last: Sample | None = None
        self.clock = -inf
        """The greatest t so far: time as it is charged."""
        self._runs: dict[str, float] = {}
        """Kind → since when a job of it has been active at every sample."""
        self._side = IN_RANGE
        """Where the line was at the newest sample that did not fail."""
        self._in_range_since: float | None = None
        self._recovered: tuple[float, float] | None = None
        """The latest stretch in range that was longer than a window."""
        self._lost_since: float | None = None
        """Since when the line has been out with no job's exception holding."""
        self.was_up = False
        """It has been in or above its range since it last drained, going by a trend or by all of a window."""
        self._drained: tuple[float, int] | None = None
        """When the line was first found to have fallen far below its range, and how many samples ago."""
        self.setting_fitted = False
        """The server was set to a delay within the bounds once."""
        self.episode_since: float | None = None
        self.episode_arrival: int | None = None
        self._job_held = False
        self._held: dict[str, float] = {}
        self.holding: tuple[str, ...] = ()
        """What the time since the newest sample is charged to."""

    # --- folding

    def add(self, record: Record, arrival: int | None = None) -> None:
        """The next record, in order of arrival. A job line takes effect with the sample after it, never before.

        A sample from before the newest one, as a worker brings that was cut off, tells what was, not what is: it counts
        where a trend reaches back to it, and for the largest delay setting.
        """
        if isinstance(record, JobLine):
            if self._arriving is None:
                self._arriving = self._jobs.copy()
            lost = self._lost_since is not None and self.clock - self._lost_since > LOST_SHARE * self.limits.window
            self._arriving.add(record, explains=not lost)
            return
        t = record.t
        if t < self.clock:
            self.seen.add_setting(record.sql_delay)
            if record.delay is not None and heartbeat_usable(record) and t >= self.seen.begun:
                self._window.add(t, record.delay)
                self._window.trim(self.clock - self.reach)
            return
        self._charge(self._held, t)
        self.clock = t
        if self._arriving is not None:
            self._jobs, self._arriving = self._arriving, None
        self._jobs.sampled(t)
        self.last = record
        jobs = self._jobs.at(t)
        setting = self.seen.sql_delay
        changed = self.seen.add(record, bool(jobs.active))
        if changed:
            self._window.trim(t)
            self._latest = ()
            self._in_range_since = None
        if record.sql_delay is not None:
            fits = self.limits.min_delay_time <= record.sql_delay <= self.limits.max_delay_time
            self.setting_fitted = self.setting_fitted or fits
            if fits and not changed and setting not in (None, record.sql_delay):
                # Nobody who writes job lines can change that: what follows is judged by itself.
                self._end_episode()
        if heartbeat_usable(record):
            assert record.delay is not None
            self._latest = (*self._latest, record.delay)[-REAL_VALUE_SAMPLES:]
            self._window.add(t, record.delay)
        self._judge_sample(record, jobs, arrival)
        self._window.trim(t - self.reach)

    def _charge(self, held: dict[str, float], until: float) -> None:
        if self.holding and until > self.clock:
            for exception in self.holding:
                held[exception] = held.get(exception, 0.0) + until - self.clock

    def _judge_sample(self, sample: Sample, jobs: JobsNow, arrival: int | None) -> None:
        """What this sample does to the episode."""
        t, limits = sample.t, self.limits
        self._runs = {kind: self._runs.get(kind, self.clock) for kind in jobs.active}
        holdable = list(holdable_findings(sample, self.seen, limits, t))
        points, now_fit, side = self.line(t, exact=False)
        if sample.error is None:
            if side != BELOW and not self.was_up:
                all_up = len(points) >= MIN_UP and all(d >= limits.min_delay_time for _, d in points)
                self.was_up = now_fit.trend.slope is not None or all_up
            if side == IN_RANGE:
                self._in_range(t, ends_episode=not holdable)
                if not holdable:
                    return
            else:
                self._out(side, now_fit.trend)
            if self.episode_since is None:
                self.episode_since, self.episode_arrival = self.clock, arrival
        line = self._judge_line(now_fit, side, jobs, self._held, t)
        self.holding = line.holding if line and self.episode_since is not None else ()
        granted = lasting(jobs, self._held, limits)
        if any(is_held(found, granted, sample, limits) for found in holdable):
            self.holding = tuple(jobs.active)
        by_job = bool(self.holding) and self.holding != (TREND,)
        if by_job and (jobs.explained or not jobs.active):
            self._job_held = True
        if side == IN_RANGE or by_job:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = self.clock

    def _in_range(self, t: float, ends_episode: bool = True) -> None:
        self._side = IN_RANGE
        self._drained = self._lost_since = None
        if self._in_range_since is None:
            self._in_range_since = t
        if t - self._in_range_since > self.limits.window:
            self._recovered = (self._in_range_since, t)
        if ends_episode:
            self._end_episode()

    def _out(self, side: int, trend: Trend) -> None:
        self._side = side
        self._in_range_since = None
        if side == ABOVE:
            self._drained = None
            return
        if self._drained is not None:
            since, samples = self._drained
            self._drained = (since, samples + 1)
        least = self.limits.min_delay_time
        deep = least - min(DRAINED_DEPTH, least / 10.0)
        # One sample alone, after the sampling or the server was gone for long, may be a wild one.
        if self.was_up and trend.samples > 1 and trend.intercept is not None and trend.intercept < deep:
            self.was_up, self._drained = False, (self.clock, 0)

    def _end_episode(self) -> None:
        self.episode_since = self.episode_arrival = None
        self._job_held = False
        self._held = {}
        self.holding = ()

    @property
    def reach(self) -> float:
        """Seconds before the newest sample that a trend may reach back to."""
        return self._window.reach

    def pass_over(self, samples: Sequence[Sample]) -> bool:
        """Does what `add` of each of these samples comes to, where the fold is at rest; else it does nothing. Whether
        it is: no episode, nothing charged, no job that is active or has to be reported, and the line in range beyond
        doubt, where it stays with these delays.

        Every sample must be later than the one before it, without a finding, and of the same server with the same
        settings.
        """
        points = [(s.t, s.delay) for s in samples if s.delay is not None]
        delays = [d for _, d in points]
        jobs = self._jobs.at(samples[0].t)
        if (
            not self.was_up
            or self._arriving is not None
            or self.holding
            or self._held
            or self._job_held
            or self.episode_since is not None
            or jobs.flooded
            or any(job.status != "completed" for job in jobs.views)
            or not self._window.surely_in_range(samples[0].t, delays)
        ):
            return False
        self.seen.pass_over(samples)
        last = self.last = samples[-1]
        self.clock = last.t
        self._jobs.sampled(last.t)
        self._runs = {}
        self._latest = (*self._latest, *delays[-REAL_VALUE_SAMPLES:])[-REAL_VALUE_SAMPLES:]
        self._window.points += points
        self._in_range(samples[0].t)
        self._in_range(last.t)
        self._window.trim(last.t - self.reach)
        return True

    # --- judging

    def verdict(self, now: float, *, worker: bool = False, with_messages: bool = True) -> Verdict:
        """The judgement at `now`, which changes nothing. `worker`: somebody else samples, and must be seen to.

        Where only states and conditions are asked for (not `with_messages`), the trend and the texts that rest on it
        may be a guess.
        """
        limits, sample, seen = self.limits, self.last, self.seen
        if sample is None:
            return Verdict(now, (*sampling_findings(None, now, worker, limits),))
        jobs = self._jobs.at(now)
        held = dict(self._held)
        self._charge(held, now)
        observed_to = max(now, self.clock)
        runs = {kind: observed_to - since for kind, since in self._runs.items()}
        findings = [
            *sample_findings(sample, seen, limits),
            *job_findings(jobs, runs, limits),
            *sampling_findings(self.clock, now, worker, limits),
        ]
        # What a sample saw is accounted for by the jobs of then, too: one that has just finished caused it.
        granted = lasting(jobs, held, limits) + lasting(self._jobs.at(sample.t), held, limits)
        for found in holdable_findings(sample, seen, limits, now):
            by_job = is_held(found, granted, sample, limits)
            findings.append(found._replace(state=State.WARNING, held=True) if by_job else found)
        _, now_fit, side = self.line(now, exact=with_messages)
        line = self._judge_line(now_fit, side, jobs, held, now)
        if line:
            said = remarks(sample, seen, limits, side != IN_RANGE, self.setting_fitted) + self._last_known_when(now)
            findings.append(line.finding._replace(message=line.finding.message + said))
        if not findings:
            findings.append(Finding(State.UNKNOWN, "internal-error", "Nothing is known about the delay"))
        return Verdict(
            now,
            worst_first(findings),
            now_fit.trend,
            sample,
            jobs.views,
            {name: held.get(name, 0.0) for name in (*limits.kinds, "recovery", TREND)},
            max(0.0, now - self.clock),
            *seen.log_ages(now),
            self.episode_since,
            seen.dead_s > limits.max_seconds_behind,
        )

    def _judge_line(
        self, now_fit: Fit, side: int, jobs: JobsNow, held: dict[str, float], now: float
    ) -> LineVerdict | None:
        """None where nothing is known of the line: then nothing is said of it, and nothing holds."""
        if now_fit.trend.intercept is None and not lasting(jobs, held, self.limits):
            return None
        recovered = drained = False
        if jobs.completed and self._recovered:
            start, end = self._recovered
            recovered = end - max(start, now - jobs.completed[1]) > self.limits.window
        if self._drained is not None and side == BELOW:
            since, samples = self._drained
            drained = samples <= DRAINED_SAMPLES or now - since <= DRAINED_WINDOWS * self.limits.window
        situation = Situation(now_fit, side, self._latest, jobs, recovered, held, self._job_held, drained)
        return line_verdict(situation, self.limits)

    def line(self, now: float, exact: bool = True) -> tuple[Sequence[Point], Fit, int]:
        """What the delay line is judged by: the window's samples, their fit, and which side of the bounds it is on.

        Fitting is most of the work: where it need not be `exact`, and the line is in range beyond doubt, the fit is
        left at a guess.
        """
        points = self._window.at(now)
        if not exact and self._window.surely_in_range(now):
            return points, NO_FIT._replace(trend=Trend(intercept=points[-1][1])), IN_RANGE
        now_fit = self._window.fit(points)
        if not points and self._latest:
            now_fit = NO_FIT._replace(trend=Trend(intercept=self._latest[-1]))
        return points, now_fit, side_of(now_fit, self._side, self.limits)

    def _last_known_when(self, now: float) -> str:
        """What to add to a text about a delay that the newest sample did not see."""
        if self.last is None or self.last.error is None or not self._window.points:
            return ""
        return f"; last known {plain(max(0.0, now - self._window.points[-1][0]), 0)} seconds ago"

    # --- the cache

    def dump(self) -> str:
        """All but the window's samples, which the history has, as JSON."""
        state = vars(self) | {
            "version": FOLD_VERSION,
            "limits": repr(self.limits),
            "_window": None,
            "seen": vars(self.seen),
            "_jobs": self._jobs.dump(),
            "_arriving": self._arriving and self._arriving.dump(),
        }
        return json.dumps(state, separators=(",", ":"))

    @classmethod
    def load(cls, text: str, limits: Limits) -> Fold | None:
        """A dumped fold, wanting `restore` of its samples; None where this judge cannot go on from it."""
        fold = cls(limits)
        try:
            state = json.loads(text)
            if state["version"] != FOLD_VERSION or state["limits"] != repr(limits):
                return None
            fold.seen.load(state["seen"])
            state |= {
                "limits": limits,
                "_window": fold._window,
                "seen": fold.seen,
                "_jobs": Jobs.load(limits, state["_jobs"]),
                "_arriving": state["_arriving"] and Jobs.load(limits, state["_arriving"]),
                "last": Sample._make(map(tuples, state["last"])),
            }
            for name in vars(fold):
                setattr(fold, name, tuples(state[name]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return fold

    def restore(self, samples: Iterable[Sample]) -> None:
        """Give a loaded fold the samples that it had folded, from `clock - reach` on."""
        points = [(s.t, s.delay) for s in samples if s.delay is not None and heartbeat_usable(s)]
        self._window.points = sorted(point for point in points if point[0] >= self.seen.begun)


def judge(records: Iterable[Record], limits: Limits, now: float, *, worker: bool = False) -> Verdict:
    """The verdict on records in order of arrival, at one moment."""
    fold = Fold(limits)
    for record in records:
        fold.add(record)
    return fold.verdict(now, worker=worker)
