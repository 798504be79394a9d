"""What an adversary may do to the judge, and an account, kept apart from the judge's own, of what it got by it.

The promises, for every sequence of job lines whatever:

* An exception holds an episode for no longer than its limit and one sampling interval.
* An episode that lasts longer than the sum of all limits, and one longest sampling interval for each, has a CRITICAL.
* What is never held back is CRITICAL, whatever job is running.
* A line that is out of bounds is never OK.
"""

from __future__ import annotations

import copy

from check_delayed_repl.conditions import HARD, names
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State, Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Sample

LIMITS = Limits(
    max_seconds_behind=30.0,
    max_relay_behind=200.0,
    max_master_behind=150.0,
    max_backup_behind=100.0,
    max_deshard_behind=60.0,
    min_delay_time=100.0,
    max_delay_time=200.0,
    max_recovery_time=80.0,
    max_trend_time=50.0,
    window=60.0,
    job_limits=(("index", 40.0),),
    job_stops_server=("backup", "index"),
)
"""Small enough that every budget is spent within a few dozen samples."""

SAMPLE_ERRORS = (
    *("connect-failed", "timeout", "not-a-replica", "status-unreadable"),
    *("heartbeat-missing", "heartbeat-unreadable", "server-down"),
)
"""The conditions that a sample may fail with."""

SLACK = 1e-6
"""Seconds: sums of times are not exact."""


def budgets(limits: Limits) -> dict[str, float]:
    """Each exception → the seconds that it may hold one episode."""
    return {**limits.kinds, "recovery": limits.max_recovery_time, "trend": limits.max_trend_time}


def exceptions_of(verdict: Verdict, limits: Limits) -> tuple[str, ...]:
    """What the verdict's finding about the line holds the episode by: all active kinds where a job is active."""
    for finding in verdict.findings:
        condition = finding.condition
        if finding.held or condition.startswith("active-"):
            return tuple(
                kind for kind in limits.kinds if any(j.kind == kind for j in verdict.jobs if j.status == "active")
            )
        if condition.endswith("-recovery-window"):
            return ("recovery",)
        if condition.startswith("recovering-"):
            return ("trend",)
    return ()


def is_hard(sample: Sample) -> bool:
    """The sample itself shows what nothing may hold back."""
    return bool(
        (sample.error is not None and sample.error != "server-down")
        or sample.io_errno
        or sample.sql_errno
        or (sample.delay is not None and not -1.0 <= sample.delay <= 1e10)
        or (sample.local is not None and sample.local < -1.0)
    )


def kind(identity: str) -> str:
    """What kind of identity it is: another kind, as after an upgrade, is no other server."""
    return identity.rpartition(":")[0].partition(":")[0]


class Account:
    """Follows the verdicts at the samples, one by one, and raises AssertionError where a promise is broken."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.budgets = budgets(limits)
        self.clock: float | None = None
        self.holding: tuple[str, ...] = ()
        self.held: dict[str, float] = {}
        self.longest = 0.0
        self.passed = 0.0
        """Seconds since the latest sample at which all was well."""
        self.begun: float | None = None
        self.episode: float | None = None
        self.critical = False
        self.setting: int | None = None
        """The server's own delay setting."""
        self.server: str | None = None

    def clone(self) -> Account:
        other = copy.copy(self)
        other.held = dict(self.held)
        return other

    def follow(self, sample: Sample, verdict: Verdict) -> None:
        """The next sample, and the verdict at its t. One from before the newest sample tells nothing of what is."""
        if self.clock is not None and sample.t < self.clock:
            return
        passed = 0.0 if self.clock is None else sample.t - self.clock
        self.clock = sample.t
        self.longest = max(self.longest, passed)
        self.passed += passed
        for exception in self.holding:
            self.held[exception] = self.held.get(exception, 0.0) + passed
        failed = sample.error is not None
        anew = self.episode is not None and verdict.episode_since != self.episode
        if sample.server is not None:
            if self.server is not None and kind(self.server) == kind(sample.server) and self.server != sample.server:
                self.setting = None  # that of another server is no change of this one's
            self.server = sample.server
        if sample.sql_delay is not None:
            # A planned change of the delay begins anew, also what was held while no episode had begun yet.
            fits = self.limits.min_delay_time <= sample.sql_delay <= self.limits.max_delay_time
            anew = anew or (fits and self.setting not in (None, sample.sql_delay))
            self.setting = sample.sql_delay
        self.episode = verdict.episode_since
        if anew or (not failed and verdict.episode_since is None):
            self.held, self.longest, self.passed, self.critical, self.begun = {}, 0.0, 0.0, False, None
        if verdict.episode_since is not None and self.begun is None:
            self.begun, self.longest, self.critical = self.clock, 0.0, False
        held_back = any(f.held for f in verdict.findings)
        in_episode = verdict.episode_since is not None
        self.holding = exceptions_of(verdict, self.limits) if in_episode or held_back else ()
        self.critical = self.critical or verdict.state == State.CRITICAL
        self._promises(sample, verdict, failed)

    def _promises(self, sample: Sample, verdict: Verdict, failed: bool) -> None:
        for exception, limit in self.budgets.items():
            held = self.held.get(exception, 0.0)
            assert abs(verdict.held[exception] - held) <= SLACK * (1.0 + held), exception
            holds = any(f.state == State.WARNING for f in verdict.findings) and exception in self.holding
            several = len(self.holding) > 1
            assert not holds or several or held <= limit + SLACK, f"{exception} still holds after {held} seconds"
        if self.holding:
            assert any(self.held.get(e, 0.0) <= self.budgets[e] + SLACK for e in self.holding), (
                "all spent, and it holds"
            )
        if self.begun is not None and self.clock is not None:
            bound = sum(self.budgets.values()) + len(self.budgets) * self.longest
            lasted = self.clock - self.begun
            assert self.critical or lasted <= bound + SLACK, f"no CRITICAL in {lasted} seconds (bound {bound})"
        if is_hard(sample):
            assert verdict.state == State.CRITICAL
            assert any(f.condition in names(HARD) and not f.held for f in verdict.findings)
        a = verdict.trend.intercept
        if not failed and a is not None and not self.limits.min_delay_time <= a <= self.limits.max_delay_time:
            assert verdict.state != State.OK
            assert verdict.episode_since is not None
        if verdict.state == State.OK:
            assert verdict.episode_since is None
            assert not failed


def clone(fold: Fold) -> Fold:
    """A fold that goes its own way from here; cheaper than a deep copy."""
    other = copy.copy(fold)
    for name, value in vars(fold).items():
        if isinstance(value, list | dict):
            setattr(other, name, value.copy())
    other._jobs = fold._jobs.copy()
    other._arriving = fold._arriving and fold._arriving.copy()
    other.seen = copy.copy(fold.seen)
    other._window = copy.copy(fold._window)
    other._window.points = fold._window.points.copy()
    return other
