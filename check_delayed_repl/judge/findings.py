"""The findings: about a sample, about jobs, worker and clock; what a job accounts for; and the order among them.

Some are CRITICAL whatever else is going on; holdable ones are what a planned job brings with it, and are held at
WARNING while one is active and its budget lasts.
"""

from __future__ import annotations

from collections.abc import Iterator

from check_delayed_repl.conditions import find, rank
from check_delayed_repl.judge.jobs import MAX_JOBS, JobsNow
from check_delayed_repl.judge.observed import CHANGES_KEPT, DAY, LOSSES_KEPT, WAITING, Observed
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.limits import Limits, kind_option, option
from check_delayed_repl.records import HELD_S, Sample
from check_delayed_repl.words import filter_name, plain, shown, utc

MAX_AHEAD = 1.0
"""Seconds that a heartbeat may lie ahead of the replica's clock."""
WENT_BACK_FOR = 3600.0
"""Seconds for which it is told that another server answers again."""
MOST_NAMED = 5
"""Filters that a text names."""
MAX_CLOCK_STEP = 2.0
"""Seconds that a stored sample may lie after now."""
MOST_INVALID = 5
"""Invalid job records that a verdict names one by one."""
MAX_CREDIBLE_DELAY = 1e10
"""Seconds (three centuries): a delay beyond it is no delay but a ts that is no time."""


def heartbeat_usable(sample: Sample) -> bool:
    """The delay is one that a trend may be fitted to."""
    return sample.delay is not None and -MAX_AHEAD <= sample.delay <= MAX_CREDIBLE_DELAY


def native(seen: Observed, limits: Limits) -> bool:
    """The server itself delays, so its SQL thread runs all the time."""
    return seen.native if limits.delay_mode == "auto" else limits.delay_mode == "native"


def limit(limits: Limits, name: str) -> str:
    """A limit and the option that sets it, as texts name them."""
    return f"limit {plain(getattr(limits, name))}, {option(name)}"


def _critical(condition: str, message: str) -> Finding:
    return Finding(State.CRITICAL, condition, message)


def sample_findings(s: Sample, seen: Observed, limits: Limits) -> Iterator[Finding]:
    """What is wrong with the newest sample, whatever job is running: CRITICAL for the most part."""
    if s.error is not None and s.error != "server-down":
        known = find(s.error)
        condition = s.error if known else shown(s.error)
        title = known.title if known else condition.replace("-", " ").capitalize()
        yield _critical(condition, f"{title}: {s.message}" if s.message else title)
    for name, state in (("IO", s.io), ("SQL", s.sql)):
        if state is not None and state not in ("Yes", "No", *(WAITING if name == "IO" else ())):
            yield _critical("status-unreadable", f"{name} thread is in a state that is not known: {state!r}")
    if s.io_errno:
        yield _critical("io-error", f"IO thread reports error {s.io_errno}: {s.io_error or 'no text'}")
    if s.sql_errno:
        yield _critical("sql-error", f"SQL thread reports error {s.sql_errno}: {s.sql_error or 'no text'}")
    if s.delay is not None and s.delay > MAX_CREDIBLE_DELAY:
        yield _critical("heartbeat-unreadable", f"Heartbeat is {plain(s.delay, 0)} seconds old: no such time")
    for whose, age in (("Source's", s.delay), ("Local", s.local if limits.local_heartbeat else None)):
        if age is not None and age < -MAX_AHEAD:
            yield _critical(
                "heartbeat-from-future",
                f"{whose} heartbeat lies {plain(-age, 1)} seconds ahead of the replica's clock (limit "
                f"{plain(MAX_AHEAD)}): the clocks disagree, or heartbeats are not in UTC (--heartbeat-timezone)",
            )
    yield from _heartbeat_findings(s, seen, limits)
    largest = seen.sql_delay_max or (HELD_S if seen.native else 0)
    # RESET REPLICA sets it to 0 without a word; a smaller setting that is long enough is somebody's will.
    if s.sql_delay is not None and s.sql_delay < min(limits.min_delay_time, largest) and native(seen, limits):
        yield _critical(
            "delay-setting-lost",
            f"Delay setting is lost: the server is set to delay by {s.sql_delay} seconds, it was {largest} before "
            f"(minimum {plain(limits.min_delay_time)}, --min-delay-time)",
        )
    yield from _identity_findings(s, seen, limits)
    allowed = limits.allowed_filters
    filters = [f for f in s.filters or () if f not in allowed and not (allowed and filter_name(f) in allowed)]
    if filters:
        new = any(f not in (seen.filters or ()) for f in filters)
        named = ", ".join(map(filter_name, filters[:MOST_NAMED]))
        if len(filters) > MOST_NAMED:
            named += f" and {len(filters) - MOST_NAMED} more"
        yield Finding(
            State.CRITICAL if new else State.WARNING,
            "replication-filtered",
            f"Replication is filtered: what {named} leaves out is not protected here"
            f"{', and it has not always been so' if new else ''} (--allow-filter COLUMN=VALUE where it is meant)",
        )
    if s.relay_limited and seen.relay_limited_since is not None:
        lasted = s.t - seen.relay_limited_since
        yield Finding(
            State.CRITICAL if lasted > limits.max_master_behind else State.WARNING,
            "relay-space-limited",
            f"Relay log is at its size limit for {plain(lasted, 0)} seconds ({limit(limits, 'max_master_behind')}): "
            "the newest changes are on the source alone (relay_log_space_limit on the replica)",
        )
    if len(seen.io_losses) == LOSSES_KEPT and s.t - seen.io_losses[0] <= limits.window:
        yield Finding(
            State.WARNING,
            "io-unstable",
            f"IO thread keeps losing its connection: {LOSSES_KEPT} times in {plain(s.t - seen.io_losses[0], 0)} "
            f"seconds without an error (window {plain(limits.window)}, --window): is the network bad, or has "
            "another replica the same server id?",
        )


def _heartbeat_findings(s: Sample, seen: Observed, limits: Limits) -> Iterator[Finding]:
    """The source's own heartbeat does not arrive: the source is a new one, or its writer is dead."""
    if seen.source_changed_since is not None:
        passed_s = s.t - seen.source_changed_since
        took, bound = plain(passed_s, 0), limit(limits, "max_delay_time")
        if passed_s > limits.max_delay_time:
            yield _critical(
                "heartbeat-missing",
                f"Heartbeat is missing: no row of source {seen.source_changed} for {took} seconds since it took over "
                f"({bound}); the newest is server {s.heartbeat_id}'s",
            )
        else:
            yield Finding(
                State.WARNING,
                "source-changed",
                f"Source changed to server {seen.source_changed}: until its heartbeat arrives, server "
                f"{s.heartbeat_id}'s is used, for {took} seconds so far ({bound})",
            )
    # Changes still arrive though ts stands still, or none are left to wait for.
    since, longest = seen.heartbeat_since, limits.max_seconds_behind
    if since is not None and max(seen.overtaken_s, seen.idle_s) > longest:
        why = "later changes were applied" if seen.overtaken_s > longest else "nothing is left to apply"
        yield _critical(
            "source-heartbeat-dead",
            f"Source's heartbeat has not advanced for {plain(s.t - since, 0)} seconds, though {why} "
            f"({limit(limits, 'max_seconds_behind')}): is pt-heartbeat running on the source?",
        )


def _identity_findings(s: Sample, seen: Observed, limits: Limits) -> Iterator[Finding]:
    """Another server answers than before, or several do: an identity came back, or changes again and again."""
    if not seen.changes:
        return
    changed, before = seen.changes[-1]
    ago = f"{plain(s.t - changed, 0)} seconds ago"
    today = [server for t, server in seen.changes if s.t - t <= DAY]
    went_back = seen.went_back is not None and s.t - seen.went_back <= WENT_BACK_FOR
    if today and (went_back or len(today) >= CHANGES_KEPT):
        others = ", ".join(dict.fromkeys(server for server in today if server != seen.server))
        yield _critical(
            "replica-ambiguous",
            f"Several servers answer under this name: now {seen.server}, {ago} {others}: give each replica an address "
            "of its own",
        )
    if s.t - changed <= limits.max_delay_time:
        yield Finding(
            State.WARNING,
            "replica-changed",
            f"Replica changed: {seen.server} answers under this name, {ago} it was {before}; trend and ages have begun "
            f"anew (told for {plain(limits.max_delay_time)} seconds, --max-delay-time)",
        )


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


def holdable_findings(s: Sample, seen: Observed, limits: Limits, now: float) -> Iterator[Finding]:
    """What is CRITICAL about the newest sample, unless a job accounts for it."""
    if s.error == "server-down":
        yield _critical("server-down", f"Server is down: {s.message}" if s.message else "Server is down")
    if not s.io_errno:
        if s.io == "No":
            yield _critical("io-stopped", "IO thread is stopped: no changes are fetched from the source")
        elif seen.io_waiting_since is not None and s.io in WAITING:
            waited = s.t - seen.io_waiting_since
            if waited > limits.max_seconds_behind:
                yield _critical(
                    "io-stopped",
                    f"IO thread has been {s.io} for {plain(waited, 0)} seconds ({limit(limits, 'max_seconds_behind')})",
                )
    if s.sql == "No" and not s.sql_errno and native(seen, limits):
        yield _critical("sql-stopped", "SQL thread is stopped: no changes are applied")
    if limits.local_heartbeat:
        age, missing = s.local, s.local_missing
        if s.error is None and age is None and not missing and seen.local:
            # Somebody else's sample, who did not ask for it: it says nothing new.
            age, missing = seen.local
        if missing:
            yield _critical(
                "local-heartbeat-stale",
                "Local heartbeat has no row: run a second pt-heartbeat on the replica itself, "
                "or give --no-local-heartbeat where it must not be written to",
            )
        elif age is not None and age > limits.max_seconds_behind:
            yield _critical(
                "local-heartbeat-stale",
                f"Local heartbeat is {plain(age, 1)} seconds old ({limit(limits, 'max_seconds_behind')}): "
                "is pt-heartbeat running on the replica?",
            )
    source_age, relay_age = seen.log_ages(now)
    for which, what, passed_s, name in (
        ("source", "fetched from the source", source_age, "max_master_behind"),
        ("relay", "applied from the relay log", relay_age, "max_relay_behind"),
    ):
        if passed_s is not None and passed_s > getattr(limits, name):
            yield _critical(
                f"{which}-log-stale", f"Nothing was {what} for {plain(passed_s, 0)} seconds ({limit(limits, name)})"
            )


def job_findings(jobs: JobsNow, seen_active: dict[str, float], limits: Limits) -> Iterator[Finding]:
    """`seen_active`: kind → seconds for which an unbroken run of active jobs has been observed."""
    for kind, claimed in jobs.active.items():
        longest = limits.kinds[kind]
        running = max(claimed, seen_active.get(kind, 0.0))
        if running > longest:
            yield _critical(
                "job-overrun",
                f"Job overrun: {kind} has been running for {plain(running, 0)} seconds "
                f"(limit {plain(longest)}, {kind_option(kind)})",
            )
    if jobs.flooded:
        yield _critical(
            "job-records-flooded",
            f"Too many job records: more than {MAX_JOBS} jobs are on record, and none of them holds an alarm back "
            "until delayed-repl job void --all, or time, has cleared them",
        )
    if jobs.rescue is not None:
        yield _critical("rescue-in-progress", f"Frozen by rescue since {utc(jobs.rescue)}: do not start replication")
    invalid = [job for job in jobs.views if job.status == "invalid"]
    for job in invalid[:MOST_INVALID]:
        text = f"Job record {job.id} is invalid and grants nothing: {job.reason} (delayed-repl job void ends it)"
        yield Finding(State.WARNING, "job-record-invalid", text)
    if len(invalid) > MOST_INVALID:
        text = f"and {len(invalid) - MOST_INVALID} more job records are invalid"
        yield Finding(State.WARNING, "job-record-invalid", text)


def sampling_findings(newest_t: float | None, now: float, worker: bool, limits: Limits) -> Iterator[Finding]:
    """About when samples were taken. `newest_t`: the newest one's t, None where there is none; `worker`: somebody else
    takes them."""
    if newest_t is None:
        yield _critical(
            "worker-missing",
            f"No sample of this replica has ever been recorded (limit {plain(limits.max_last_seen)} seconds, "
            "--max-last-seen): is delayed-repl worker running, and is the name right (--replica)?",
        )
    elif newest_t > now + MAX_CLOCK_STEP:
        yield _critical(
            "clock-stepped",
            f"Clock stepped: a stored sample lies {plain(newest_t - now, 0)} seconds in the future "
            f"(limit {plain(MAX_CLOCK_STEP)}); wait for it, or take it out with delayed-repl history prune --future",
        )
    elif worker and now - newest_t > limits.max_last_seen:
        text = f"Worker was last seen {plain(now - newest_t, 0)} seconds ago ({limit(limits, 'max_last_seen')})"
        yield _critical("worker-missing", text)


def is_held(found: Finding, granted: tuple[str, ...], sample: Sample, limits: Limits) -> bool:
    """A job of the kinds `granted` accounts for this one of `holdable_findings`."""
    server_may_stop = any(kind in limits.job_stops_server for kind in granted)
    if found.condition == "server-down":
        return server_may_stop
    if found.condition == "source-log-stale":
        # What is not fetched because a job stopped the thread, or the server that it runs in.
        stopped = sample.io == "No" and not sample.io_errno
        return bool(granted) and (stopped or (sample.error == "server-down" and server_may_stop))
    return bool(granted)


def worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """Findings in the order in which they matter: the first one names the service's state and condition."""
    return tuple(sorted(findings, key=lambda f: (-f.state.severity, f.held, rank(f.condition))))
