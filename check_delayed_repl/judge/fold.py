"""The fold: records in order of arrival → what this episode has been held for, and the verdict at any moment.

Everything that a verdict rests on follows from the records alone. `dump` and `load` only save the folding of old ones.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from math import sqrt

from check_delayed_repl.judge.facts import (
    Fact,
    hard_facts,
    heartbeat_usable,
    holdable_facts,
    log_ages,
    source_changed,
)
from check_delayed_repl.judge.jobs import RECOVERY, Jobs, JobsNow
from check_delayed_repl.judge.observed import Observed
from check_delayed_repl.judge.outcome import Finding, State, Verdict
from check_delayed_repl.judge.trend import NO_FIT, Fit, Point, fit
from check_delayed_repl.judge.verdict import (
    IN_RANGE,
    REAL_VALUE_SAMPLES,
    Situation,
    lasting,
    line_verdict,
    side_of,
    worst_first,
)
from check_delayed_repl.limits import Limits, kind_option
from check_delayed_repl.records import JobLine, Record, Sample
from check_delayed_repl.words import plain

FOLD_VERSION = 6
"""Changes with the rules: a cache that an older judge left is worth nothing."""

MIN_FITTED = 6
"""Where fewer samples than these fall in the window, it reaches back to the sixth newest..."""
MAX_REACH = 3600.0
"""...but no further than this, in seconds."""
MAX_CLOCK_STEP = 2.0
"""Seconds that a stored sample may lie after now."""


class Fold:
    """One replica's records, folded under one set of limits."""

    def __init__(self, limits: Limits, sql_delay: int | None = None) -> None:
        """`sql_delay`: the largest setting that was seen before the records that are to be added."""
        self.limits = limits
        self._jobs = Jobs(limits)
        self._arriving: list[JobLine] = []
        self._seen = Observed(sql_delay)
        self._points: list[Point] = []
        self._latest: tuple[float, ...] = ()
        self._last: Sample | None = None
        self._clock = float("-inf")
        """The greatest t so far: time as it is charged."""
        self._runs: dict[str, float] = {}
        """Kind → since when a job of it has been active at every look."""
        self._side = IN_RANGE
        """Where the line was at the newest look that did not fail."""
        self._in_range_since: float | None = None
        self._recovered: tuple[float, float] | None = None
        """The latest stretch in range that was longer than a window."""
        self._episode_since: float | None = None
        self._episode_arrival: int | None = None
        self._job_held = False
        self._held: dict[str, float] = {}
        self._holding: tuple[str, ...] = ()
        """What the time since the newest look is charged to."""
        self._fitted: tuple[float, Fit | None] | None = None
        """The fit at the newest look, so that judging at that very moment need not make it again."""

    # --- folding

    def add(self, record: Record, arrival: int | None = None) -> None:
        """The next record, in order of arrival."""
        if isinstance(record, JobLine):
            self._arriving.append(record)
            return
        t = record.t
        since = self._clock
        if t > since:
            self._charge(self._held, t)
            self._clock = t
        if self._arriving:
            self._arrive(since, t)
        self._jobs.forget(self._clock)
        self._last = record
        self._seen.add(record)
        if heartbeat_usable(record):
            assert record.delay is not None
            self._latest = (*self._latest, record.delay)[-REAL_VALUE_SAMPLES:]
            insort(self._points, (t, record.delay))
        self._fitted = None
        self._judge_sample(record, arrival)
        if t < self._clock:
            self._fitted = None  # what is trimmed now may lie in the window that ends at t
        self._trim()

    def _arrive(self, since: float, t: float) -> None:
        """Job lines take effect with the look after them.

        Whoever judged in between did so by lines that have been taken back since. What those granted is charged too, or
        a writer could start a job after every look and end it before the next for ever.
        """
        brief: set[str] = set()
        for line in self._arriving:
            self._jobs.add(line, self._clock)
            brief |= self._jobs.grants(line.id, since, t)
        self._arriving.clear()
        if t > since > float("-inf"):
            now = self._jobs.at(t)
            charged_later = {*now.active, *self._holding, *([RECOVERY] if now.completed else [])}
            for exception in brief - charged_later:
                self._held[exception] = self._held.get(exception, 0.0) + t - since

    def _trim(self) -> None:
        horizon = self._clock - self.reach
        if self._points and self._points[0][0] < horizon:
            del self._points[: bisect_left(self._points, (horizon, float("-inf")))]

    @property
    def reach(self) -> float:
        """Seconds before the newest sample that a trend may reach back to."""
        return max(self.limits.window, MAX_REACH)

    def _charge(self, held: dict[str, float], until: float) -> None:
        if self._holding and until > self._clock:
            for exception in self._holding:
                held[exception] = held.get(exception, 0.0) + until - self._clock

    def _judge_sample(self, sample: Sample, arrival: int | None) -> None:
        """What this look does to the episode."""
        t = sample.t
        jobs = self._jobs.at(t)
        self._runs = {kind: self._runs.get(kind, self._clock) for kind in jobs.active}
        holdable = holdable_facts(sample, self._seen, self.limits, t)
        failed = sample.error is not None
        if not failed and not holdable and self._surely_in_range(t):
            self._in_range(t)
            return
        self._fitted = (t, self._fit(t))
        now_fit = self._fitted[1] or NO_FIT
        side = side_of(now_fit, self._side, self.limits)
        if not failed:
            if side == IN_RANGE:
                self._in_range(t, ends_episode=not holdable)
            else:
                self._side = side
                self._in_range_since = None
            if (side != IN_RANGE or holdable) and self._episode_since is None:
                self._episode_since, self._episode_arrival = self._clock, arrival
        self._holding = ()
        line = line_verdict(self._situation(now_fit, side, jobs, self._held, t), self.limits)
        granted = lasting(jobs, self._held, self.limits)
        if self._episode_since is not None:
            self._holding = line.holding
        elif any(self._held_state(fact, granted, sample) for fact in holdable):
            self._holding = tuple(jobs.active)
        if self._holding and self._holding != ("trend",):
            self._job_held = True

    def _surely_in_range(self, t: float) -> bool:
        """The line is in range wherever a fit through any of the window's samples may end.

        A least-squares line's end is a weighted mean of its samples, the weights' sizes adding up to no more than the
        square root of their number, see `spread`. It spares the fit where the line is calm.
        """
        delays = [d for _, d in self._window(t)]
        return bool(delays) and self._spans_range(delays, spread(len(delays)))

    def stays_in_range(self, t: float, delays: Sequence[float]) -> bool:
        """The line is in range beyond doubt at every one of the next samples, the first of which is taken at `t`."""
        delays = [d for _, d in self._window(t)] + list(delays)
        # What a later window has of these is part of their range, and one sample alone spreads more than a few.
        return self._spans_range(delays, max(spread(1), spread(len(delays))))

    def _spans_range(self, delays: Sequence[float], ranges: float) -> bool:
        """All that lies so many ranges from the middle of these delays is within the bounds."""
        low, high = min(delays), max(delays)
        middle, reach = (low + high) / 2.0, (high - low) * ranges + 1e-6
        return self.limits.min_delay_time <= middle - reach and middle + reach <= self.limits.max_delay_time

    def _in_range(self, t: float, ends_episode: bool = True) -> None:
        self._side = IN_RANGE
        if self._in_range_since is None:
            self._in_range_since = t
        if t - self._in_range_since > self.limits.window:
            self._recovered = (self._in_range_since, t)
        if ends_episode:
            self._episode_since = self._episode_arrival = None
            self._job_held = False
            self._held = {}
            self._holding = ()

    # --- folding many calm looks at once

    @property
    def last(self) -> Sample | None:
        """The newest look."""
        return self._last

    @property
    def episode_arrival(self) -> int | None:
        """The arrival of the sample that began the episode which is going on."""
        return self._episode_arrival

    @property
    def seen(self) -> Observed:
        """What the looks so far add up to; not to be changed."""
        return self._seen

    @property
    def holding(self) -> tuple[str, ...]:
        """The exceptions that the time until the next look is charged to."""
        return self._holding

    @property
    def in_episode(self) -> bool:
        return self._episode_since is not None

    def calm_at(self, sample: Sample) -> bool:
        """This look, the newest one, found nothing wrong and the line in range beyond doubt, and no job is active."""
        t = sample.t
        return not (
            sample.error is not None
            or t < self._clock
            or self._runs
            or self._arriving
            or self.in_episode
            or holdable_facts(sample, self._seen, self.limits, t)
            or not self._surely_in_range(t)
        )

    def at_rest(self, t: float) -> bool:
        """No episode, nothing charged, and from `t` on no job that is active or has to be reported.

        Then a look in range that finds nothing wrong only moves the time, the window and what has been seen.
        """
        return not (
            self._arriving
            or self._holding
            or self._held
            or self._job_held
            or self.in_episode
            or any(job.status != "completed" for job in self._jobs.at(t).views)
        )

    def pass_over(self, samples: Sequence[Sample]) -> None:
        """What `add` of each of these samples comes to.

        The fold must be `at_rest`, and every sample later than the one before it, without a finding, and in range
        beyond doubt.
        """
        for sample in samples:
            self._seen.add(sample)
        last = self._last = samples[-1]
        self._clock = last.t
        self._jobs.forget(last.t)
        self._runs = {}
        points = [(s.t, s.delay) for s in samples if s.delay is not None]
        self._latest = (*self._latest, *[d for _, d in points[-REAL_VALUE_SAMPLES:]])[-REAL_VALUE_SAMPLES:]
        self._points += points
        self._fitted = None
        self._in_range(samples[0].t)
        self._in_range(last.t)
        self._trim()

    # --- judging

    def verdict(self, now: float, *, worker: bool = False, with_messages: bool = True) -> Verdict:
        """The judgement at `now`, which changes nothing. `worker`: somebody else looks, and must be seen to.

        Where only states and conditions are asked for (not `with_messages`), the trend and the texts that rest on it
        are left at a guess if the line is in range beyond doubt: fitting it is most of the work.
        """
        limits = self.limits
        sample = self._last
        if sample is None:
            missing = Finding(
                State.CRITICAL,
                "worker-missing",
                f"No sample of this replica has ever been recorded (limit {plain(limits.max_last_seen)} seconds, "
                "--max-last-seen): is delayed-repl worker running, and is the name right (--replica)?",
            )
            return Verdict(now, (missing,), NO_FIT.trend, None, (), {}, None, None, None, None)
        job_book = self._jobs
        if self._arriving:
            job_book = Jobs(limits)
            job_book.load(self._jobs.dump())
            for line in self._arriving:
                job_book.add(line, now)
        jobs = job_book.at(now)
        held = dict(self._held)
        self._charge(held, now)
        findings = self._sample_findings(sample, jobs, held, now)
        age = max(0.0, now - self._clock)
        if worker and age > limits.max_last_seen:
            findings.append(
                Finding(
                    State.CRITICAL,
                    "worker-missing",
                    f"Worker was last seen {plain(age, 0)} seconds ago "
                    f"(limit {plain(limits.max_last_seen)}, --max-last-seen)",
                )
            )
        if with_messages or not self._surely_in_range(now):
            now_fit = self._fit(now) or self._last_known()
        else:
            now_fit = NO_FIT._replace(trend=NO_FIT.trend._replace(intercept=self._window(now)[-1][1]))
        side = side_of(now_fit, self._side, limits)
        if now_fit.trend.intercept is not None or lasting(jobs, held, limits):
            finding = line_verdict(self._situation(now_fit, side, jobs, held, now), limits).finding
            findings.append(finding._replace(message=finding.message + self._last_known_when(now)))
        if not findings:
            findings.append(Finding(State.UNKNOWN, "internal-error", "Nothing is known about the delay"))
        source_age, relay_age = log_ages(self._seen, now)
        return Verdict(
            now,
            worst_first(findings),
            now_fit.trend,
            sample,
            jobs.views,
            {name: held.get(name, 0.0) for name in (*limits.kinds, "recovery", "trend")},
            age,
            source_age,
            relay_age,
            self._episode_since,
        )

    def _sample_findings(self, sample: Sample, jobs: JobsNow, held: dict[str, float], now: float) -> list[Finding]:
        limits = self.limits
        findings = [Finding(State.CRITICAL, *fact) for fact in hard_facts(sample, self._seen, limits)]
        findings += self._job_findings(jobs, now)
        if self._clock > now + MAX_CLOCK_STEP:
            findings.append(
                Finding(
                    State.CRITICAL,
                    "clock-stepped",
                    f"Clock stepped: a stored sample lies {plain(self._clock - now, 0)} seconds in the future (limit "
                    f"{plain(MAX_CLOCK_STEP)}); wait for it, or take it out with delayed-repl history prune --future",
                )
            )
        # What a look saw is accounted for by the jobs of then, too: one that has just finished caused it all the same.
        granted = lasting(jobs, held, limits) + lasting(self._jobs.at(sample.t), held, limits)
        for fact in holdable_facts(sample, self._seen, limits, now):
            is_held = self._held_state(fact, granted, sample)
            findings.append(Finding(State.WARNING if is_held else State.CRITICAL, *fact, is_held))
        changed = source_changed(sample, self._seen, limits)
        if changed:
            findings.append(Finding(State.WARNING, *changed))
        return findings

    def _job_findings(self, jobs: JobsNow, now: float) -> list[Finding]:
        findings = []
        for kind, claimed in jobs.active.items():
            limit = self.limits.kinds[kind]
            running = max(claimed, max(now, self._clock) - self._runs.get(kind, now))
            if running > limit:
                findings.append(
                    Finding(
                        State.CRITICAL,
                        "job-overrun",
                        f"Job overrun: {kind} is running for {plain(running, 0)} seconds "
                        f"(limit {plain(limit)}, {kind_option(kind)})",
                    )
                )
        findings.extend(
            Finding(
                State.WARNING,
                "job-record-invalid",
                f"Job record {job.id} is invalid and grants nothing: {job.reason} (delayed-repl job void ends it)",
            )
            for job in jobs.views
            if job.status == "invalid"
        )
        return findings

    def _held_state(self, fact: Fact, granted: tuple[str, ...], sample: Sample) -> bool:
        """A job accounts for this fact."""
        server_may_stop = any(kind in self.limits.job_stops_server for kind in granted)
        if fact.condition == "server-down":
            return server_may_stop
        if fact.condition == "source-log-stale":
            # What is not fetched because a job stopped the thread, or the server that it runs in.
            stopped = sample.io == "No" and not sample.io_errno
            return bool(granted) and (stopped or (sample.error == "server-down" and server_may_stop))
        return bool(granted)

    def _situation(self, now_fit: Fit, side: int, jobs: JobsNow, held: dict[str, float], now: float) -> Situation:
        recovered = False
        if jobs.completed and self._recovered:
            start, end = self._recovered
            recovered = end - max(start, now - jobs.completed[1]) > self.limits.window
        return Situation(now_fit, side, self._latest, jobs, recovered, held, self._job_held)

    def _window(self, now: float) -> list[Point]:
        points = self._points
        end = bisect_right(points, (now, float("inf")))
        start = bisect_left(points, (now - self.limits.window, float("-inf")), 0, end)
        if end - start < MIN_FITTED:
            reach = bisect_left(points, (now - self.reach, float("-inf")), 0, end)
            start = max(min(start, end - MIN_FITTED), min(start, reach))
        return points[start:end]

    def _fit(self, now: float) -> Fit | None:
        """The trend at `now`; None where no sample is left to fit."""
        if self._fitted is not None and self._fitted[0] == now:
            return self._fitted[1]
        points = self._window(now)
        return fit(points, self.limits.window, self.limits.fit == "segment") if points else None

    def _last_known_when(self, now: float) -> str:
        """What to add to a text about a delay that the newest look did not see."""
        if self._last is None or self._last.error is None or not self._points:
            return ""
        return f"; last known {plain(max(0.0, now - self._points[-1][0]), 0)} seconds ago"

    def _last_known(self) -> Fit:
        if not self._latest:
            return NO_FIT
        return NO_FIT._replace(trend=NO_FIT.trend._replace(intercept=self._latest[-1]))

    def line(self, now: float) -> tuple[Sequence[Point], Fit, int]:
        """What `verdict` judges the delay line by: the window's samples, their fit, and which side of the bounds it is
        on."""
        now_fit = self._fit(now) or self._last_known()
        return self._window(now), now_fit, side_of(now_fit, self._side, self.limits)

    # --- the cache

    def dump(self) -> str:
        """All but the window's samples, which the history has, as JSON."""
        return json.dumps(
            {
                "version": FOLD_VERSION,
                "limits": repr(self.limits),
                "jobs": self._jobs.dump(),
                "arriving": self._arriving,
                "seen": self._seen.dump(),
                "latest": self._latest,
                "last": self._last,
                "clock": self._clock if self._last else None,
                "runs": self._runs,
                "side": self._side,
                "in_range_since": self._in_range_since,
                "recovered": self._recovered,
                "episode_since": self._episode_since,
                "episode_arrival": self._episode_arrival,
                "job_held": self._job_held,
                "held": self._held,
                "holding": self._holding,
            },
            separators=(",", ":"),
        )

    @classmethod
    def load(cls, text: str, limits: Limits) -> Fold | None:
        """A dumped fold, wanting `restore` of its samples; None where this judge cannot go on from it."""
        try:
            data = json.loads(text)
            if data["version"] != FOLD_VERSION or data["limits"] != repr(limits) or data["last"] is None:
                return None
            fold = cls(limits)
            fold._jobs.load(data["jobs"])
            fold._arriving = [JobLine(*fields) for fields in data["arriving"]]
            fold._seen.load(data["seen"])
            fold._latest = tuple(data["latest"])
            fold._last = Sample._make(tuple(v) if isinstance(v, list) else v for v in data["last"])
            fold._clock = data["clock"]
            fold._runs = data["runs"]
            fold._side = data["side"]
            fold._in_range_since = data["in_range_since"]
            fold._recovered = tuple(data["recovered"]) if data["recovered"] else None
            fold._episode_since = data["episode_since"]
            fold._episode_arrival = data["episode_arrival"]
            fold._job_held = data["job_held"]
            fold._held = data["held"]
            fold._holding = tuple(data["holding"])
        except (ValueError, KeyError, TypeError):
            return None
        return fold

    @property
    def clock(self) -> float:
        """The greatest t folded so far."""
        return self._clock

    def restore(self, samples: Iterable[Sample]) -> None:
        """Give a loaded fold the samples that it had folded, from `clock - reach` on."""
        self._points = sorted((s.t, s.delay) for s in samples if s.delay is not None and heartbeat_usable(s))


def spread(samples: int) -> float:
    """How far from the middle of so many samples' range a fit's end may lie, its error included, in ranges.

    For m of them fitted that is root(m) / 2 + 4.9 / root(m) at most, which is largest for all of them or for three.
    """
    root = sqrt(samples)
    return max(4.0, root / 2.0 + 5.0 / root)


def judge(records: Iterable[Record], limits: Limits, now: float, *, worker: bool = False) -> Verdict:
    """The verdict on records in order of arrival, at one moment."""
    fold = Fold(limits)
    for record in records:
        fold.add(record)
    return fold.verdict(now, worker=worker)
