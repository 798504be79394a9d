"""The numbers that go with a verdict, by the labels of the perfdata, in their fixed order."""

from __future__ import annotations

from check_delayed_repl.judge.findings import MAX_AHEAD
from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.light import NamedTuple
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Sample
from check_delayed_repl.words import plain

MOST = 20
"""Findings, and jobs, that any output lists."""


class Metric(NamedTuple):
    """One number. `value` is None where unknown; `unit` is "s", "B" or none."""

    label: str
    value: float | None
    unit: str = ""
    critical: str = ""
    """The range outside which it is CRITICAL, as the plugin guidelines write ranges; empty where nothing judges it."""


def metrics(verdict: Verdict, limits: Limits) -> list[Metric]:
    """Every metric, always all of them and in this order; kinds of job that were added come last.

    Whatever is no finite number counts as unknown, so that neither NaN nor infinity can be printed. A kind of job of
    which none is active has the age 0; that is only known where the verdict knows of holds, so where there was a
    history to judge.
    """
    sample = verdict.sample or Sample(verdict.at)
    trend = verdict.trend
    delays = f"{plain(limits.min_delay_time)}:{plain(limits.max_delay_time)}"
    kinds = limits.kinds
    ages = dict.fromkeys(kinds, 0.0) | active_ages(verdict) if verdict.held else {}

    def age(kind: str) -> Metric:
        return Metric(f"{kind}_age", ages.get(kind), "s", plain(kinds[kind]))

    def held(exception: str, limit: float) -> Metric:
        return Metric(f"{exception}_held", verdict.held.get(exception), "s", plain(limit))

    found = [
        Metric("delay", sample.delay, "s", delays),
        Metric("intercept", trend.intercept, "s", delays),
        Metric("slope", trend.slope),
        Metric("correlation", trend.correlation),
        Metric("samples", trend.samples if verdict.held else None),
        Metric("local_heartbeat_age", sample.local, "s", f"{plain(-MAX_AHEAD)}:{plain(limits.max_seconds_behind)}"),
        Metric("source_log_age", verdict.source_log_age, "s", plain(limits.max_master_behind)),
        Metric("relay_log_age", verdict.relay_log_age, "s", plain(limits.max_relay_behind)),
        Metric("relay_log_space", sample.relay_log_space, "B"),
        Metric("worker_age", verdict.worker_age, "s", plain(limits.max_last_seen)),
        age("backup"),
        age("deshard"),
        held("backup", limits.max_backup_behind),
        held("deshard", limits.max_deshard_behind),
        held("recovery", limits.max_recovery_time),
        held("trend", limits.max_trend_time),
        # No range: what counts as lost depends on what the server was set to before.
        Metric("sql_delay", sample.sql_delay, "s"),
    ]
    for kind, limit in limits.job_limits:
        found += [age(kind), held(kind, limit)]
    return [m if m.value is not None and abs(m.value) < 1e20 else m._replace(value=None) for m in found]


def active_ages(verdict: Verdict) -> dict[str, float]:
    """Kind → seconds that the longest-running active job of it has run."""
    ages: dict[str, float] = {}
    for job in verdict.jobs:
        if job.status == "active" and job.running is not None:
            ages[job.kind] = max(ages.get(job.kind, 0.0), job.running)
    return ages
