"""The findings about a look itself: that it failed, or what it saw of threads, heartbeats, logs and settings.

Hard ones are CRITICAL whatever else is going on; holdable ones are what a planned job brings with it, and are held at
WARNING while one is active and its budget lasts.
"""

from __future__ import annotations

from check_delayed_repl.conditions import find
from check_delayed_repl.judge.observed import WAITING, Observed
from check_delayed_repl.light import NamedTuple
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Sample
from check_delayed_repl.words import plain

MAX_AHEAD = 1.0
"""Seconds that a heartbeat may lie ahead of the replica's clock."""
MAX_CREDIBLE_DELAY = 1e10
"""Seconds (three centuries): a delay beyond it is no delay but a ts that is no time."""


class Fact(NamedTuple):
    """Something wrong with a look."""

    condition: str
    message: str


def heartbeat_usable(sample: Sample) -> bool:
    """The delay is one that a trend may be fitted to."""
    return sample.delay is not None and -MAX_AHEAD <= sample.delay <= MAX_CREDIBLE_DELAY


def native(seen: Observed, limits: Limits) -> bool:
    """The server itself delays, so its SQL thread runs all the time."""
    return seen.native if limits.delay_mode == "auto" else limits.delay_mode == "native"


def hard_facts(s: Sample, seen: Observed, limits: Limits) -> list[Fact]:
    """What is CRITICAL about the newest look, whatever job is running."""
    facts = []
    if s.error is not None and s.error != "server-down":
        known = find(s.error)
        title = known.title if known else s.error.replace("-", " ").capitalize()
        facts.append(Fact(s.error, f"{title}: {s.message}" if s.message else title))
    for name, state in (("IO", s.io), ("SQL", s.sql)):
        if state is not None and state not in ("Yes", "No", *(WAITING if name == "IO" else ())):
            facts.append(Fact("status-unreadable", f"{name} thread is in a state that is not known: {state!r}"))
    if s.io_errno:
        facts.append(Fact("io-error", f"IO thread reports error {s.io_errno}: {s.io_error or 'no text'}"))
    if s.sql_errno:
        facts.append(Fact("sql-error", f"SQL thread reports error {s.sql_errno}: {s.sql_error or 'no text'}"))
    if s.delay is not None:
        if s.delay > MAX_CREDIBLE_DELAY:
            facts.append(Fact("heartbeat-unreadable", f"Heartbeat is {plain(s.delay, 0)} seconds old: no such time"))
        elif s.delay < -MAX_AHEAD:
            facts.append(_from_future("Source's heartbeat", -s.delay))
    if limits.local_heartbeat and s.local is not None and s.local < -MAX_AHEAD:
        facts.append(_from_future("Local heartbeat", -s.local))
    facts += _source_change(s, seen, limits)
    facts += _dead_heartbeat(s, seen, limits)
    facts += _lost_setting(s, seen, limits)
    return facts


def _from_future(whose: str, ahead: float) -> Fact:
    return Fact(
        "heartbeat-from-future",
        f"{whose} lies {plain(ahead, 1)} seconds ahead of the replica's clock (limit {plain(MAX_AHEAD)}): "
        "the clocks disagree, or heartbeats are not in UTC (--heartbeat-timezone)",
    )


def _lost_setting(s: Sample, seen: Observed, limits: Limits) -> list[Fact]:
    """RESET REPLICA sets the delay to 0 without a word; a smaller setting that is long enough is somebody's will."""
    before = seen.sql_delay_max
    if s.sql_delay is None or before is None or not native(seen, limits):
        return []
    if s.sql_delay >= min(limits.min_delay_time, before):
        return []
    return [
        Fact(
            "delay-setting-lost",
            f"Delay setting is lost: the server is set to delay by {s.sql_delay} seconds, it was {before} before "
            f"(minimum {plain(limits.min_delay_time)}, --min-delay-time)",
        )
    ]


def _source_change(s: Sample, seen: Observed, limits: Limits) -> list[Fact]:
    since = seen.source_changed_since
    if since is None or s.t - since <= limits.max_delay_time:
        return []
    return [
        Fact(
            "heartbeat-missing",
            f"Heartbeat is missing: no row of source {seen.source_changed} for {plain(s.t - since, 0)} seconds since "
            f"it took over (limit {plain(limits.max_delay_time)}, --max-delay-time); "
            f"the newest is server {s.heartbeat_id}'s",
        )
    ]


def _dead_heartbeat(s: Sample, seen: Observed, limits: Limits) -> list[Fact]:
    """The source's writer is dead: ts stands still, though changes still arrive or none are left to wait for."""
    since = seen.heartbeat_since
    limit = limits.max_seconds_behind
    if since is None:
        return []
    running = seen.running_since
    passed_by = running is not None and s.t - max(since, running) > limit and seen.passed_by_s > limit
    drained = seen.drained_since is not None and s.t - max(since, seen.drained_since) > limit
    if not (passed_by or drained):
        return []
    why = "later changes were applied" if passed_by else "nothing is left to apply"
    return [
        Fact(
            "source-heartbeat-dead",
            f"Source's heartbeat is dead: it stands still for {plain(s.t - since, 0)} seconds though {why} "
            f"(limit {plain(limit)}, --max-seconds-behind): is pt-heartbeat running on the source?",
        )
    ]


def source_changed(s: Sample, seen: Observed, limits: Limits) -> Fact | None:
    """Another server's heartbeat serves, because the new source's first one is still in the delay line."""
    since = seen.source_changed_since
    if since is None or s.t - since > limits.max_delay_time:
        return None
    return Fact(
        "source-changed",
        f"Source changed to server {seen.source_changed}, whose first heartbeat has yet to come through the delay "
        f"line: server {s.heartbeat_id}'s serves for {plain(s.t - since, 0)} seconds "
        f"(limit {plain(limits.max_delay_time)}, --max-delay-time)",
    )


def log_ages(seen: Observed, now: float) -> tuple[float | None, float | None]:
    """Seconds since the fetched and the applied position were last seen to move, or their thread to start again."""
    source = None if seen.source_log is None else max(0.0, now - (seen.source_log_since or 0.0))
    relay = None if seen.relay_log is None else max(0.0, now - (seen.relay_log_since or 0.0))
    return source, relay


def holdable_facts(s: Sample, seen: Observed, limits: Limits, now: float) -> list[Fact]:
    """What is CRITICAL about the newest look, unless a job accounts for it."""
    facts = []
    if s.error == "server-down":
        facts.append(Fact("server-down", f"Server is down: {s.message}" if s.message else "Server is down"))
    if not s.io_errno:
        if s.io == "No":
            facts.append(Fact("io-stopped", "IO thread is stopped: no changes are fetched from the source"))
        elif seen.io_waiting_since is not None and s.io in WAITING:
            waited = s.t - seen.io_waiting_since
            if waited > limits.max_seconds_behind:
                facts.append(
                    Fact(
                        "io-stopped",
                        f"IO thread is {s.io} for {plain(waited, 0)} seconds "
                        f"(limit {plain(limits.max_seconds_behind)}, --max-seconds-behind)",
                    )
                )
    if s.sql == "No" and not s.sql_errno and native(seen, limits):
        facts.append(Fact("sql-stopped", "SQL thread is stopped: no changes are applied"))
    if limits.local_heartbeat:
        age, missing = s.local, s.local_missing
        if s.error is None and age is None and not missing and seen.local:
            # Somebody else's look, who did not ask for it: it says nothing new.
            age, missing = seen.local
        if missing:
            facts.append(
                Fact(
                    "local-heartbeat-stale",
                    "Local heartbeat has no row: run a second pt-heartbeat on the replica itself, "
                    "or give --no-local-heartbeat where it must not be written to",
                )
            )
        elif age is not None and age > limits.max_seconds_behind:
            facts.append(
                Fact(
                    "local-heartbeat-stale",
                    f"Local heartbeat is {plain(age, 1)} seconds old "
                    f"(limit {plain(limits.max_seconds_behind)}, --max-seconds-behind): "
                    "is pt-heartbeat running on the replica?",
                )
            )
    source_age, relay_age = log_ages(seen, now)
    if source_age is not None and source_age > limits.max_master_behind:
        facts.append(
            Fact(
                "source-log-stale",
                f"Nothing was fetched from the source for {plain(source_age, 0)} seconds "
                f"(limit {plain(limits.max_master_behind)}, --max-master-behind)",
            )
        )
    if relay_age is not None and relay_age > limits.max_relay_behind:
        facts.append(
            Fact(
                "relay-log-stale",
                f"Nothing was applied from the relay log for {plain(relay_age, 0)} seconds "
                f"(limit {plain(limits.max_relay_behind)}, --max-relay-behind)",
            )
        )
    return facts
