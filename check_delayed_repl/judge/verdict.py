"""Findings about jobs, worker and clock; what a job accounts for; and the order among all findings."""

from __future__ import annotations

from collections.abc import Iterator

from check_delayed_repl.conditions import rank
from check_delayed_repl.judge.facts import Fact, limit
from check_delayed_repl.judge.jobs import MAX_JOBS, JobsNow
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.limits import Limits, kind_option
from check_delayed_repl.records import Sample
from check_delayed_repl.words import moment, plain

MAX_CLOCK_STEP = 2.0
"""Seconds that a stored sample may lie after now."""
MOST_INVALID = 5
"""Invalid job records that a verdict names one by one."""


def job_findings(jobs: JobsNow, seen_active: dict[str, float], limits: Limits) -> Iterator[Finding]:
    """`seen_active`: kind → seconds for which an unbroken run of active jobs has been observed."""
    for kind, claimed in jobs.active.items():
        longest = limits.kinds[kind]
        running = max(claimed, seen_active.get(kind, 0.0))
        if running > longest:
            yield Finding(
                State.CRITICAL,
                "job-overrun",
                f"Job overrun: {kind} has been running for {plain(running, 0)} seconds "
                f"(limit {plain(longest)}, {kind_option(kind)})",
            )
    if jobs.flooded:
        yield Finding(
            State.CRITICAL,
            "job-records-flooded",
            f"Too many job records: more than {MAX_JOBS} jobs are on record, and none of them holds an alarm back "
            "until delayed-repl job void --all, or time, has cleared them",
        )
    if jobs.rescue is not None:
        from datetime import UTC

        text = f"Frozen by rescue since {moment(jobs.rescue, UTC)}: do not start replication"
        yield Finding(State.CRITICAL, "rescue-in-progress", text)
    invalid = [job for job in jobs.views if job.status == "invalid"]
    for job in invalid[:MOST_INVALID]:
        text = f"Job record {job.id} is invalid and grants nothing: {job.reason} (delayed-repl job void ends it)"
        yield Finding(State.WARNING, "job-record-invalid", text)
    if len(invalid) > MOST_INVALID:
        text = f"and {len(invalid) - MOST_INVALID} more job records are invalid"
        yield Finding(State.WARNING, "job-record-invalid", text)


def worker_missing(age: float | None, limits: Limits) -> Finding:
    """`age`: seconds since the newest sample; None where there never was one."""
    text = f"Worker was last seen {plain(age or 0.0, 0)} seconds ago ({limit(limits, 'max_last_seen')})"
    if age is None:
        text = (
            f"No sample of this replica has ever been recorded (limit {plain(limits.max_last_seen)} seconds, "
            "--max-last-seen): is delayed-repl worker running, and is the name right (--replica)?"
        )
    return Finding(State.CRITICAL, "worker-missing", text)


def clock_stepped(ahead: float) -> Finding:
    """A stored sample lies `ahead` seconds in the future."""
    text = (
        f"Clock stepped: a stored sample lies {plain(ahead, 0)} seconds in the future "
        f"(limit {plain(MAX_CLOCK_STEP)}); wait for it, or take it out with delayed-repl history prune --future"
    )
    return Finding(State.CRITICAL, "clock-stepped", text)


def is_held(fact: Fact, granted: tuple[str, ...], sample: Sample, limits: Limits) -> bool:
    """A job of the kinds `granted` accounts for this holdable fact."""
    server_may_stop = any(kind in limits.job_stops_server for kind in granted)
    if fact.condition == "server-down":
        return server_may_stop
    if fact.condition == "source-log-stale":
        # What is not fetched because a job stopped the thread, or the server that it runs in.
        stopped = sample.io == "No" and not sample.io_errno
        return bool(granted) and (stopped or (sample.error == "server-down" and server_may_stop))
    return bool(granted)


def worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """Findings in the order in which they matter: the first one names the service's state and condition."""
    return tuple(sorted(findings, key=lambda f: (-f.state.severity, f.held, rank(f.condition))))
