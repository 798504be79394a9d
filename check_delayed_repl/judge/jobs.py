"""Job records → which jobs are active, which have completed, which are not to be believed. Trusts none of them."""

from __future__ import annotations

from math import inf

from check_delayed_repl.judge.outcome import JobView
from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.limits import KIND_PATTERN, RESCUE, Limits
from check_delayed_repl.records import ALL_JOBS, JobLine, merge_job, outlasts_all

if TYPE_CHECKING:
    from typing import Any

MAX_START_AHEAD = 60.0
"""Seconds that a job's start may lie ahead of now, and count as now: clocks differ a little between machines."""
MAX_STARTED_BEFORE = 86400.0
"""Seconds that a rescue's claimed start may lie before its record; else it counts from when that has arrived."""
CENTURIES = 1e10
"""Seconds: a job that began longer ago than this did not."""
MAX_JOBS = 2000
"""Jobs of one replica that are considered; more than that are a flood..."""
RESCUES = 20
"""...in which a rescue must not go under: so many find a place beyond it, and outlast the voiding of all."""

RECOVERY = "recovery"
"""The exception that a completed job gives a reason for."""


class Job(NamedTuple):
    """A job as its lines so far have it."""

    line: JobLine
    arrived: float
    """The clock of the samples when its newest line took effect; infinite before that."""
    explains: bool
    """The line had not been lost before the job's first line arrived: what comes after may be the job's doing."""


class JobsNow(NamedTuple):
    """The jobs at one moment."""

    active: dict[str, float]
    """Kind → seconds that its longest-running active job has run by its own claim."""
    completed: tuple[str, float] | None
    """Kind and seconds since it finished, of the job that finished last among those that explain anything, where that
    is within max-recovery-time."""
    views: tuple[JobView, ...]
    """Every job that could still matter."""
    explained: bool = False
    """One of the active ones explains what comes after it."""
    rescue: float | None = None
    """Since when a rescue has been in progress."""
    flooded: bool = False
    """There are so many records that none grants anything."""


NO_JOBS = JobsNow({}, None, ())


class Jobs:
    """The job lines that have arrived, folded by id, as far as they could still matter.

    At most MAX_JOBS are kept. Of those beyond, it is only known how many have no end, and when the last of the others
    is over.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kinds = limits.kinds
        self._live: dict[str, Job] = {}
        self._clock = -inf
        """Of the newest sample; lines since then have no effect yet."""
        self._beyond_open = 0
        self._beyond_until = -inf

    def copy(self) -> Jobs:
        other = Jobs(self._limits)
        vars(other).update(vars(self))
        other._live = dict(self._live)
        return other

    def add(self, line: JobLine, explains: bool = True) -> None:
        """A line has arrived; it takes effect with the next sample."""
        earlier = self._live.get(line.id)
        if line.void and line.id == ALL_JOBS:
            rescues = [job for job in self._live.values() if outlasts_all(job.line)]
            self._live = {job.line.id: job for job in rescues[:RESCUES]}
            self._beyond_open, self._beyond_until = 0, -inf
        elif line.void and earlier is not None:
            del self._live[line.id]
        elif earlier is not None:
            self._live[line.id] = Job(merge_job(earlier.line, line), inf, earlier.explains)
        elif line.void:
            self._beyond_open = max(0, self._beyond_open - 1)
        elif len(self._live) < MAX_JOBS or (line.kind == RESCUE and len(self._live) < MAX_JOBS + RESCUES):
            self._live[line.id] = Job(line, inf, explains)
        elif line.finished_at is None:
            self._beyond_open += 1
        else:
            self._beyond_open = max(0, self._beyond_open - 1)
            self._beyond_until = max(self._beyond_until, line.finished_at + self._limits.max_recovery_time)

    def sampled(self, clock: float) -> None:
        """A sample follows: what has arrived takes effect, and jobs that can never matter again are dropped."""
        self._clock = clock
        window = self._limits.max_recovery_time
        for job_id, job in [*self._live.items()]:
            line, arrived = job.line, min(job.arrived, clock)
            over = line.finished_at is not None and clock - line.finished_at > window
            if over and (clock - arrived > window or not self._invalid(line, clock)):
                del self._live[job_id]
            elif arrived < job.arrived:
                self._live[job_id] = job._replace(arrived=arrived)

    def at(self, now: float) -> JobsNow:
        """What holds at `now`. A record that the newest sample found invalid is so until the next one."""
        flooded = self._beyond_open > 0 or now <= self._beyond_until
        if not self._live:
            return NO_JOBS._replace(flooded=flooded)
        sampled = min(now, self._clock)
        active: dict[str, float] = {}
        completed: tuple[str, float] | None = None
        explained = False
        rescue: float | None = None
        views = []
        window = self._limits.max_recovery_time
        for line, arrived, explains in self._live.values():
            if flooded and line.kind != RESCUE:
                continue
            reason = self._invalid(line, sampled)
            running = line.finished_at is None or line.finished_at > now
            if reason:
                if running or now - arrived <= window:
                    views.append(
                        JobView(line.id, line.kind or "?", "invalid", line.started_at, line.finished_at, None, reason)
                    )
                continue
            kind, started = line.kind, line.started_at
            assert kind is not None
            assert started is not None
            if running:
                claimed = max(0.0, now - started)
                views.append(JobView(line.id, kind, "active", started, line.finished_at, claimed))
                if kind == RESCUE:
                    seen = started if arrived - started <= MAX_STARTED_BEFORE else min(arrived, now)
                    rescue = seen if rescue is None else min(rescue, seen)
                else:
                    active[kind] = max(claimed, active.get(kind, 0.0))
                    explained = explained or explains
                continue
            assert line.finished_at is not None
            since = now - line.finished_at
            if since <= window and kind != RESCUE:
                if explains and (completed is None or since < completed[1]):
                    completed = (kind, since)
                views.append(JobView(line.id, kind, "completed", started, line.finished_at, line.finished_at - started))
        in_order = {kind: active[kind] for kind in self._kinds if kind in active}
        return JobsNow(in_order, completed, tuple(views), explained, rescue, flooded)

    def _invalid(self, job: JobLine, now: float) -> str:
        """Why a record grants nothing; empty where it is sound."""
        if job.unreadable:
            return job.unreadable
        if job.kind is None or job.started_at is None:
            return "finishes a job that never started"
        if job.kind not in self._kinds and job.kind != RESCUE:
            if not KIND_PATTERN.match(job.kind):
                return f"kind {job.kind!r} cannot name a kind of job"
            return f"kind {job.kind!r} has no limit (--max-job-behind {job.kind}=SECONDS gives it one)"
        if job.finished_at is not None and job.finished_at < job.started_at:
            return "finishes before it starts"
        if job.started_at > now + MAX_START_AHEAD:
            return f"starts {min(job.started_at - now, CENTURIES):.0f} seconds in the future"
        if job.started_at < now - CENTURIES:
            return "starts centuries ago"
        return ""

    def dump(self) -> list[object]:
        return [self._clock, self._beyond_open, self._beyond_until, list(self._live.values())]

    @classmethod
    def load(cls, limits: Limits, values: list[Any]) -> Jobs:
        """Raises TypeError or ValueError where these are not what `dump` gave."""
        jobs = cls(limits)
        jobs._clock, jobs._beyond_open, jobs._beyond_until, rows = values
        for fields, arrived, explains in rows:
            line = JobLine(*fields)
            jobs._live[line.id] = Job(line, arrived, explains)
        return jobs
