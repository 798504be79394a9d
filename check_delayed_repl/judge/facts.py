"""The findings about a sample itself: that it failed, or what it saw of threads, heartbeats, logs and settings.

Hard ones are CRITICAL whatever else is going on; holdable ones are what a planned job brings with it, and are held at
WARNING while one is active and its budget lasts.
"""

from __future__ import annotations

from check_delayed_repl.conditions import find
from check_delayed_repl.judge.observed import CHANGES_KEPT, DAY, LOSSES_KEPT, WAITING, Observed
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.light import NamedTuple
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Sample
from check_delayed_repl.words import plain

MAX_AHEAD = 1.0
"""Seconds that a heartbeat may lie ahead of the replica's clock."""
WENT_BACK_FOR = 3600.0
"""Seconds for which it is told that another server answers again."""
MOST_NAMED = 5
"""Filters that a text names."""
MAX_CREDIBLE_DELAY = 1e10
"""Seconds (three centuries): a delay beyond it is no delay but a ts that is no time."""


class Fact(NamedTuple):
    """Something wrong with a sample."""

    condition: str
    message: str


def heartbeat_usable(sample: Sample) -> bool:
    """The delay is one that a trend may be fitted to."""
    return sample.delay is not None and -MAX_AHEAD <= sample.delay <= MAX_CREDIBLE_DELAY


def native(seen: Observed, limits: Limits) -> bool:
    """The server itself delays, so its SQL thread runs all the time."""
    return seen.native if limits.delay_mode == "auto" else limits.delay_mode == "native"


def hard_facts(s: Sample, seen: Observed, limits: Limits) -> list[Fact]:
    """What is CRITICAL about the newest sample, whatever job is running."""
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
    facts += _source_missing(s, seen, limits)
    facts += _dead_heartbeat(s, seen, limits)
    facts += _lost_setting(s, seen, limits)
    facts += _ambiguous(s, seen)
    return facts


def _from_future(whose: str, ahead: float) -> Fact:
    return Fact(
        "heartbeat-from-future",
        f"{whose} lies {plain(ahead, 1)} seconds ahead of the replica's clock (limit {plain(MAX_AHEAD)}): "
        "the clocks disagree, or heartbeats are not in UTC (--heartbeat-timezone)",
    )


def _lost_setting(s: Sample, seen: Observed, limits: Limits) -> list[Fact]:
    """RESET REPLICA silently sets the delay to 0; a smaller setting that is long enough is somebody's will."""
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


def _source_missing(s: Sample, seen: Observed, limits: Limits) -> list[Fact]:
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
    if since is None or max(seen.overtaken_s, seen.idle_s) <= limit:
        return []
    why = "later changes were applied" if seen.overtaken_s > limit else "nothing is left to apply"
    return [
        Fact(
            "source-heartbeat-dead",
            f"Source's heartbeat has not advanced for {plain(s.t - since, 0)} seconds, though {why} "
            f"(limit {plain(limit)}, --max-seconds-behind): is pt-heartbeat running on the source?",
        )
    ]


def _ambiguous(s: Sample, seen: Observed) -> list[Fact]:
    """More than one server answers: an identity came back, or changes again and again."""
    today = [(t, server) for t, server in seen.changes if s.t - t <= DAY]
    went_back = seen.went_back is not None and s.t - seen.went_back <= WENT_BACK_FOR
    if not today or not (went_back or len(today) >= CHANGES_KEPT):
        return []
    others = list(dict.fromkeys(server for _, server in today if server != seen.server))
    return [
        Fact(
            "replica-ambiguous",
            f"Several servers answer under this name: now {seen.server}, {plain(s.t - today[-1][0], 0)} seconds ago "
            f"{', '.join(others)}: give each replica an address of its own",
        )
    ]


def beside_findings(s: Sample, seen: Observed, limits: Limits) -> list[Finding]:
    """What stands beside the verdict on the line, mostly at WARNING."""
    findings = []
    since = seen.source_changed_since
    if since is not None and s.t - since <= limits.max_delay_time:
        findings.append(
            Finding(
                State.WARNING,
                "source-changed",
                f"Source changed to server {seen.source_changed}: until its heartbeat arrives, server "
                f"{s.heartbeat_id}'s is used, for {plain(s.t - since, 0)} seconds so far "
                f"(limit {plain(limits.max_delay_time)}, --max-delay-time)",
            )
        )
    if seen.changes and s.t - seen.changes[-1][0] <= limits.max_delay_time:
        changed, before = seen.changes[-1]
        findings.append(
            Finding(
                State.WARNING,
                "replica-changed",
                f"Replica changed: {seen.server} answers under this name, {plain(s.t - changed, 0)} seconds ago it was "
                f"{before}; trend and ages have begun anew (told for {plain(limits.max_delay_time)} seconds, "
                "--max-delay-time)",
            )
        )
    filters = [f for f in s.filters or () if f not in limits.allowed_filters]
    if filters:
        new = [f for f in filters if f not in (seen.filters or ())]
        named = ", ".join(filters[:MOST_NAMED]) + (
            f" and {len(filters) - MOST_NAMED} more" if len(filters) > MOST_NAMED else ""
        )
        findings.append(
            Finding(
                State.CRITICAL if new else State.WARNING,
                "replication-filtered",
                f"Replication is filtered: what {named} leaves out is not protected here"
                f"{', and it has not always been so' if new else ''} (--allow-filter COLUMN=VALUE where it is meant)",
            )
        )
    since = seen.relay_limited_since
    if s.relay_limited and since is not None:
        lasted = s.t - since
        findings.append(
            Finding(
                State.CRITICAL if lasted > limits.max_master_behind else State.WARNING,
                "relay-space-limited",
                f"Relay log is at its size limit for {plain(lasted, 0)} seconds (limit "
                f"{plain(limits.max_master_behind)}, --max-master-behind): the newest changes are on the source alone "
                "(relay_log_space_limit on the replica)",
            )
        )
    if len(seen.io_losses) == LOSSES_KEPT and s.t - seen.io_losses[0] <= limits.window:
        findings.append(
            Finding(
                State.WARNING,
                "io-unstable",
                f"IO thread keeps losing its connection: {LOSSES_KEPT} times in {plain(s.t - seen.io_losses[0], 0)} "
                f"seconds without an error (window {plain(limits.window)}, --window): is the network bad, or has "
                "another replica the same server id?",
            )
        )
    return findings


def remarks(s: Sample, seen: Observed, limits: Limits, out: bool, setting_fitted: bool) -> str:
    """What the server's own settings add to the text about the line. `setting_fitted`: some sample found the server
    set to a delay within the bounds."""
    said = ""
    setting = s.sql_delay
    if out and setting is not None and not setting_fitted and native(seen, limits):
        said = f"; the server is set to delay by {setting} seconds: do the limits fit this replica?"
    if setting is not None and s.sql_remaining is not None and s.sql_remaining > setting + limits.max_seconds_behind:
        said += (
            f"; the next change waits for {s.sql_remaining} more seconds (SQL_Remaining_Delay), far above the "
            f"setting of {setting} (SQL_Delay): it is from the future"
        )
    return said


def holdable_facts(s: Sample, seen: Observed, limits: Limits, now: float) -> list[Fact]:
    """What is CRITICAL about the newest sample, unless a job accounts for it."""
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
                        f"IO thread has been {s.io} for {plain(waited, 0)} seconds "
                        f"(limit {plain(limits.max_seconds_behind)}, --max-seconds-behind)",
                    )
                )
    if s.sql == "No" and not s.sql_errno and native(seen, limits):
        facts.append(Fact("sql-stopped", "SQL thread is stopped: no changes are applied"))
    if limits.local_heartbeat:
        age, missing = s.local, s.local_missing
        if s.error is None and age is None and not missing and seen.local:
            # Somebody else's sample, who did not ask for it: it says nothing new.
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
    source_age, relay_age = seen.log_ages(now)
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
