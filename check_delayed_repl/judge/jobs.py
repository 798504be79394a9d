"""Job records → which jobs are active, which have completed, which are not to be believed. Trusts none of them."""

from __future__ import annotations

from check_delayed_repl.judge.outcome import JobView
from check_delayed_repl.light import NamedTuple
from check_delayed_repl.limits import KIND_PATTERN, Limits
from check_delayed_repl.records import JobLine, merge_job

MAX_START_AHEAD = 60.0
"""Seconds that a job's start may lie ahead of now, and count as now: clocks differ a little between machines."""


RECOVERY = "recovery"
"""The exception that a completed job gives a reason for."""


class JobsNow(NamedTuple):
    """The jobs at one moment."""

    active: dict[str, float]
    """Kind → seconds that its longest-running active job has run by its own claim."""
    completed: tuple[str, float] | None
    """Kind and seconds since it finished, of the job that finished last, where that is within max-recovery-time."""
    views: tuple[JobView, ...]
    """Every job that could still matter."""


NO_JOBS = JobsNow({}, None, ())


class Jobs:
    """The job lines that have arrived, folded by id, as far as they could still matter."""

    __slots__ = ("_limits", "_kinds", "_live")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kinds = limits.kinds
        self._live: dict[str, tuple[JobLine, float]] = {}

    def __len__(self) -> int:
        return len(self._live)

    def add(self, line: JobLine, arrived: float) -> None:
        """A line has arrived; `arrived` is when, as observed rather than as claimed."""
        earlier = self._live.get(line.id)
        if line.void:
            self._live.pop(line.id, None)
        else:
            self._live[line.id] = (merge_job(earlier[0] if earlier else None, line), arrived)

    def forget(self, now: float) -> None:
        """Drop the jobs that can never matter again."""
        window = self._limits.max_recovery_time
        over = [
            job_id
            for job_id, (job, arrived) in self._live.items()
            if job.finished_at is not None and now - job.finished_at > window and now - arrived > window
        ]
        for job_id in over:
            del self._live[job_id]

    def at(self, now: float) -> JobsNow:
        """What holds at `now`."""
        if not self._live:
            return NO_JOBS
        active: dict[str, float] = {}
        completed: tuple[str, float] | None = None
        views = []
        window = self._limits.max_recovery_time
        for job, arrived in self._live.values():
            reason = self._invalid(job, now)
            running = job.finished_at is None or job.finished_at > now
            if reason:
                if running or now - arrived <= window:
                    views.append(
                        JobView(job.id, job.kind or "?", "invalid", job.started_at, job.finished_at, None, reason)
                    )
                continue
            kind, started = job.kind, job.started_at
            assert kind is not None
            assert started is not None
            if running:
                claimed = max(0.0, now - started)
                active[kind] = max(claimed, active.get(kind, 0.0))
                views.append(JobView(job.id, kind, "active", started, job.finished_at, claimed))
                continue
            assert job.finished_at is not None
            since = now - job.finished_at
            if since <= window:
                if completed is None or since < completed[1]:
                    completed = (kind, since)
                views.append(JobView(job.id, kind, "completed", started, job.finished_at, job.finished_at - started))
        return JobsNow({kind: active[kind] for kind in self._kinds if kind in active}, completed, tuple(views))

    def grants(self, job_id: str, *moments: float) -> set[str]:
        """The exceptions that this job gives a reason for at any of these moments: its kind, or `recovery`."""
        if job_id not in self._live:
            return set()
        job, _ = self._live[job_id]
        found: set[str] = set()
        for now in moments:
            if self._invalid(job, now):
                continue
            if job.finished_at is None or job.finished_at > now:
                assert job.kind is not None
                found.add(job.kind)
            elif now - job.finished_at <= self._limits.max_recovery_time:
                found.add(RECOVERY)
        return found

    def _invalid(self, job: JobLine, now: float) -> str:
        """Why a record grants nothing; empty where it is sound."""
        if job.unreadable:
            return job.unreadable
        if job.kind is None or job.started_at is None:
            return "finishes a job that never started"
        if job.kind not in self._kinds:
            if not KIND_PATTERN.match(job.kind):
                return f"kind {job.kind!r} cannot name a kind of job"
            return f"kind {job.kind!r} has no limit (--max-job-behind {job.kind}=SECONDS gives it one)"
        if job.finished_at is not None and job.finished_at < job.started_at:
            return "finishes before it starts"
        if job.started_at > now + MAX_START_AHEAD:
            return f"starts {job.started_at - now:.0f} seconds in the future"
        return ""

    def dump(self) -> list[list[object]]:
        return [[*job, arrived] for job, arrived in self._live.values()]

    def load(self, rows: list[list[object]]) -> None:
        for *fields, arrived in rows:
            line = JobLine(*fields)  # type: ignore[arg-type]
            self._live[line.id] = (line, arrived)  # type: ignore[assignment]
