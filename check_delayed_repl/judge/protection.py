"""What a delayed replica is for: how old a mistake on the source may be and still be stopped here.

Pure, and cheap to import: what a person is shown and what is published as a metric come from the same function.
"""

from __future__ import annotations

from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.light import NamedTuple
from check_delayed_repl.records import Sample

NOTICEABLE = 0.01
"""s/s: a line that shortens by less is as good as still."""
SLACK = 5.0
"""Seconds by which a heartbeat may be old although the server has applied everything without a delay."""
NOT_A_MEASURE = frozenset({"heartbeat-from-future", "replica-ambiguous", "clock-stepped"})
"""With these, the delays that were measured contradict something else that is known."""


class Protection(NamedTuple):
    """All times in seconds since 1970, UTC."""

    since: float
    """What was changed on the source from here on has not been applied here yet."""
    applied: float | None
    """When a change that is made now is applied here at the earliest; None: unknown, or not before somebody acts."""
    shortening: bool
    """The line gets shorter, which brings that forward."""
    at: float
    """When this was measured."""
    outdated: bool
    """The newest sample saw no delay: what has happened since is not known."""


def protected_s(verdict: Verdict) -> float | None:
    """Seconds that a mistake may be old and still be stopped; None where the newest sample does not tell."""
    sample = verdict.sample
    return None if sample is None or sample.delay is None else _least_delay(verdict, sample)


def _least_delay(verdict: Verdict, sample: Sample) -> float | None:
    """The least delay in seconds that any witness knows of: the heartbeats' fitted line, and what the server itself
    says in `sample`. None where they contradict each other.

    Heartbeats alone are not enough: with a dead writer they grow old while changes go on being applied.
    """
    # The line may leave out the newest samples as a dip; what it protects is gone all the same.
    known = [delay for delay in (verdict.trend.intercept, sample.delay) if delay is not None]
    found = {finding.condition for finding in verdict.findings}
    if not known or min(known) < 0 or found & NOT_A_MEASURE:
        return None
    delay = min(known)
    server = _server_delay(sample)
    if server is None:
        return None if verdict.heartbeat_dead else delay
    if server == 0 and not sample.sql_delay and delay > SLACK:
        return None  # nothing waits and nothing is held back, and yet the heartbeat is old: one of them is wrong
    return min(delay, server)


def _server_delay(s: Sample) -> float | None:
    """What the server's own columns say; None where they say nothing, as with the SQL thread stopped."""
    if s.sql != "Yes":
        return None
    held_back = None if s.sql_delay is None else float(max(0, s.sql_delay))
    behind = s.seconds_behind
    if s.sql_remaining is not None and held_back:
        return held_back  # it waits for the delay to pass: nothing older is left to apply
    if behind is None:
        return held_back or None  # after it connects again, it holds new changes back for so long and no longer
    # With nothing left to apply, the next change is held back for the delay; else Seconds_Behind is the true lag.
    return held_back or 0.0 if behind <= 0 else float(behind)


def protection(verdict: Verdict, sample: Sample | None, native: bool) -> Protection | None:
    """From the newest sample that saw a delay, which may be an older one than the verdict's. `native`: the server
    itself delays, so that its SQL thread does not stop and start all the time. None: unknown."""
    seconds = None if sample is None else _least_delay(verdict, sample)
    if sample is None or seconds is None:
        return None
    newest = verdict.sample
    outdated = newest is None or newest.delay is None or any(f.condition == "worker-missing" for f in verdict.findings)
    slope = verdict.trend.slope or 0.0
    wait, shortening = seconds, slope < -NOTICEABLE
    if shortening:
        # The change has the whole line before it, and no less than what the server itself holds every change back for.
        wait = max(min(float(sample.sql_delay or 0), seconds), seconds / (1.0 - slope))
    applied = None if outdated or (native and sample.sql == "No") else verdict.at + wait
    return Protection(sample.t - seconds, applied, shortening, sample.t, outdated)
