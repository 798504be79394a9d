"""What each condition means to a person, and what to do next: one table, by condition.

Whether a condition holds is never decided here: the judge's findings say so. What is proposed is printed, not run.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import NamedTuple

from check_delayed_repl.conditions import find
from check_delayed_repl.diagnose.dialect import EITHER, EITHER_NAMES, Dialect
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.judge.outcome import JobView
from check_delayed_repl.judge.verdict import ABOVE, BELOW
from check_delayed_repl.limits import kind_option, option
from check_delayed_repl.words import clean


class Step(NamedTuple):
    """Something to do."""

    text: str
    commands: tuple[str, ...] = ()
    """To be pasted, a line each: SQL where they end with `;` or `\\G`, otherwise a shell's."""


class Advice(NamedTuple):
    meaning: str
    """A sentence or two."""
    steps: tuple[Step, ...] = ()


def advice(condition: str, picture: Diagnosis) -> Advice:
    """For a finding of this picture, by its condition."""
    if condition.startswith("active-"):
        return _active(picture, condition.removeprefix("active-"))
    if condition.endswith("-recovery-window"):
        return _recovery_window(picture, condition.removesuffix("-recovery-window"))
    if condition in TABLE:
        return TABLE[condition](picture)
    known = find(condition)
    return Advice(known.meaning if known else "")


# --- what commands are made of


def _sql(p: Diagnosis, say: Callable[[Dialect], str]) -> tuple[str, ...]:
    """A statement in the server's words; in everybody's, each marked, where it is not known which server it is."""
    return _sqls(p, lambda dialect: [say(dialect)])


def _sqls(p: Diagnosis, say: Callable[[Dialect], list[str]]) -> tuple[str, ...]:
    if p.dialect is not None:
        return tuple(say(p.dialect))
    channel = p.replica.partition("#")[2]
    lines: list[str] = []
    for name, dialect in zip(EITHER_NAMES, EITHER, strict=True):
        statements = say(dialect._replace(channel=channel))
        lines += [f"-- {name}:", *statements]
    return tuple(lines)


def _tool(p: Diagnosis, *words: str, connection: bool = False, judging: bool = False) -> str:
    """A call of delayed-repl for the same replica."""
    options = (*(p.call.connection if connection else ()), *(p.call.judging if judging else ()), *p.call.history)
    return shlex.join(("delayed-repl", *words)) + _rest(options)


def _job(p: Diagnosis, action: str, job: JobView | None = None, *words: str) -> str:
    """A call of delayed-repl job. Its record's id was written by others: it may look like an option."""
    identity = () if job is None else (job.id,)
    first, last = ((), ("--", *identity)) if job is not None and job.id.startswith("-") else (identity, ())
    return _join(("delayed-repl", "job", action, *first, "--replica", p.replica, *words, *p.call.history, *last))


def _rest(options: tuple[str, ...]) -> str:
    return f" {_join(options)}" if options else ""


def _join(words: tuple[str, ...]) -> str:
    """Words for a shell; the stand-in for a password is left for the shell to fill in."""
    return " ".join(word if '"$' in word else shlex.quote(word) for word in words)


def _client(p: Diagnosis, *words: str) -> str:
    name = p.dialect.client if p.dialect is not None else "mysql"
    return " ".join(filter(None, (name, _join(p.call.client), shlex.join(words))))


def _service(p: Diagnosis) -> str:
    return p.dialect.service if p.dialect is not None else "mysql"


def _heartbeat(p: Diagnosis, local: bool) -> str:
    database, _, table = p.call.table.partition(".")
    named = "" if table == "heartbeat" else f" --table {table}"
    own = " --set-vars sql_log_bin=0 --check-read-only" if local else ""
    file = "--defaults-file /etc/mysql/heartbeat.cnf"
    return f"pt-heartbeat {file} -D {database}{named} --update --utc --interval 1 --daemonize{own}"


def _rows(p: Diagnosis) -> str:
    return f"SELECT server_id, ts, UTC_TIMESTAMP(6) FROM {p.call.table};"  # noqa: S608  printed, not run


def _watch(p: Diagnosis) -> Step:
    return Step("Wait, and see it come back:", (_tool(p, "watch", connection=True, judging=True),))


def _status(p: Diagnosis, text: str = "See what the server says about it:") -> Step:
    return Step(text, _sql(p, Dialect.status))


def _jobs(p: Diagnosis, status: str) -> list[JobView]:
    return [job for job in p.verdict.jobs if job.status == status]


NOTHING = Step("Nothing is to be done.")
MISTAKE = "If somebody stopped it to save what a mistake on the source has destroyed, leave it stopped."


# --- the look


def _connect_failed(p: Diagnosis) -> Advice:
    return Advice(
        "Nothing can be said about the delay line while the replica cannot be asked.",
        (
            Step("Try the same by hand, from here:", (_client(p, "-e", "SELECT 1"),)),
            Step(
                "Where access is denied, this prints the SQL for an account that has what it needs:",
                (_tool(p, "grants", "--for", "check", connection=True),),
            ),
        ),
    )


def _timeout(p: Diagnosis) -> Advice:
    return Advice(
        "The server, or the way to it, hangs. Whether replication goes on meanwhile is not known.",
        (
            Step(
                "On the replica's host, see whether it is overloaded, out of disk space or stopped:",
                (f"uptime; df -h; systemctl status {_service(p)}",),
            ),
            Step("If it answers there, see what it is busy with:", ("SHOW FULL PROCESSLIST;",)),
        ),
    )


def _not_a_replica(p: Diagnosis) -> Advice:
    return Advice(
        "There is no such delay line on this server: a wrong host or channel, or replication was removed.",
        (
            Step("List what is there, then name one of these with --channel:", _sql(p, Dialect.every_status)),
            Step("If replication was removed (RESET), set it up again, with its delay."),
        ),
    )


def _status_unreadable(p: Diagnosis) -> Advice:
    needed = p.dialect.privilege if p.dialect is not None else "REPLICATION CLIENT"
    return Advice(
        f"Without the replication status a dead thread goes unnoticed for hours. It takes {needed}.",
        (
            Step(
                "This prints the SQL for an account that has what it needs:",
                (_tool(p, "grants", "--for", "check", connection=True),),
            ),
            _status(p, "As an administrator, see what the check would read:"),
        ),
    )


def _io_error(p: Diagnosis) -> Advice:
    return Advice(
        "Nothing new is fetched. What has been fetched is still applied, so the delay looks right until the relay log "
        "is empty.",
        (
            _status(p, "Last_IO_Error names the cause (network, account, binary logs that are gone):"),
            Step("Once the cause is removed:", _sql(p, lambda d: d.start("IO_THREAD"))),
        ),
    )


def _sql_error(p: Diagnosis) -> Advice:
    errors = p.dialect.applier_errors() if p.dialect is not None else None
    see = (errors,) if errors else _sql(p, Dialect.status)
    return Advice(
        "A change could not be applied: the replica differs from its source, or ran out of something. Skipping the "
        "change makes the difference permanent.",
        (
            Step("Read the whole error, and the change that it names:", see),
            Step("Once the cause is removed:", _sql(p, lambda d: d.start("SQL_THREAD"))),
        ),
    )


def _heartbeat_missing(p: Diagnosis) -> Advice:
    return Advice(
        "Without the source's heartbeat the delay is unknown.",
        (
            Step("On the replica, see whose heartbeats there are:", (_rows(p),)),
            Step("On the source, start the writer if it does not run:", (_heartbeat(p, local=False),)),
            Step("In a chain, name the server whose heartbeat counts: --master-server-id ID"),
        ),
    )


def _heartbeat_unreadable(p: Diagnosis) -> Advice:
    return Advice(
        "The heartbeat's time cannot be understood, so the delay is unknown.",
        (
            Step("See what stands there, and who writes it:", (_rows(p),)),
            Step("Only pt-heartbeat may write to the table:", (_heartbeat(p, local=False),)),
        ),
    )


def _heartbeat_from_future(p: Diagnosis) -> Advice:
    return Advice(
        "A delay cannot be negative: clocks disagree, or heartbeats carry a local time. Every delay is wrong by as "
        "much.",
        (
            Step("Compare the clocks of source and replica, on both:", ("date -u; chronyc tracking",)),
            Step(
                "See whether ts is in UTC. Let writers run with --utc, or say their zone with --heartbeat-timezone:",
                (_rows(p),),
            ),
        ),
    )


def _source_heartbeat_dead(p: Diagnosis) -> Advice:
    return Advice(
        "Replication works, but its heartbeat has stopped: the delay that is measured grows without being one.",
        (
            Step("On the source, see whether the writer runs:", ("pgrep -af pt-heartbeat",)),
            Step("If not, start it:", (_heartbeat(p, local=False),)),
        ),
    )


def _worker_missing(p: Diagnosis) -> Advice:
    return Advice(
        "Nobody has been looking at the replica, so nobody would have noticed.",
        (
            Step("Where the worker runs, see why it does not:", ("systemctl status 'delayed-repl*'",)),
            Step(
                "Or run it by hand to see what it says:",
                (_tool(p, "worker", "--count", "3", connection=True),),
            ),
        ),
    )


def _delay_setting_lost(p: Diagnosis) -> Advice:
    before = p.sql_delay_before or int(p.limits.min_delay_time)
    # With GTID positions it throws away what it has fetched when both threads stop.
    again = p.dialect is not None and p.dialect.mariadb
    fetched = " (with GTID positions, MariaDB fetches everything again: the source must still have it)" if again else ""
    return Advice(
        "The server no longer holds changes back (RESET does that without a word): the delay line drains, and with it "
        "goes the protection.",
        (
            Step("Stop applying at once, to keep what is left of the line:", _sql(p, lambda d: d.stop("SQL_THREAD"))),
            Step(f"Then set the delay again and go on{fetched}:", _sqls(p, lambda d: d.set_delay(before))),
        ),
    )


def _job_overrun(p: Diagnosis) -> Advice:
    active = _jobs(p, "active")
    longest = max(active, key=lambda job: job.running or 0.0, default=None)
    steps = [Step("See which jobs are recorded, and whether they still run:", (_job(p, "list"),))]
    if longest is not None:
        steps.append(
            Step(
                "If it is over and only its end was never recorded:",
                (_job(p, "finish", longest, "--kind", longest.kind),),
            )
        )
        setting = kind_option(longest.kind)
        steps.append(Step(f"If it is right that it takes that long, raise {setting} on the check."))
    return Advice("Planned work takes longer than it may. It holds back no alarm any more.", tuple(steps))


def _clock_stepped(p: Diagnosis) -> Advice:
    return Advice(
        "Ages and slopes mean nothing while what was seen lies ahead of the clock.",
        (
            Step("See whether the clock is right, here and where the worker runs:", ("date -u; chronyc tracking",)),
            Step(
                "If it is right now, take the samples from the future out:",
                (_tool(p, "history", "prune", "--future", "--replica", p.replica),),
            ),
        ),
    )


def _history_unavailable(p: Diagnosis) -> Advice:
    given = p.call.history
    where = given[-1] if given and "://" not in given[-1] else ""
    steps = [Step("The message names the cause: permission, disk space, a lock or damage.")]
    if where:
        file = shlex.quote(where)
        steps.append(Step("See the file, its folder and its disk:", (f"ls -la {file}*; df -h $(dirname {file})",)))
    return Advice("Without its history the check knows neither trend nor jobs.", tuple(steps))


def _server_down(p: Diagnosis) -> Advice:
    service = _service(p)
    return Advice(
        "The server does not run. Nothing is applied, and nothing is fetched either: what the source's binary logs do "
        "not keep for so long is lost to this replica.",
        (
            Step("On the replica's host, see why:", (f"journalctl -u {service} -n 50; systemctl status {service}",)),
            Step("Start it again:", (f"systemctl start {service}",)),
        ),
    )


def _io_stopped(p: Diagnosis) -> Advice:
    return Advice(
        "Nothing new is fetched. The delay looks right until the relay log is empty, hours later.",
        (
            Step("Start fetching again, unless a backup has stopped it:", _sql(p, lambda d: d.start("IO_THREAD"))),
            _status(p, "If it stays Connecting, the status or the error log says why:"),
        ),
    )


def _sql_stopped(p: Diagnosis) -> Advice:
    return Advice(
        f"Nothing is applied: the delay grows by a second every second. {MISTAKE}",
        (Step("Unless somebody stopped it on purpose, go on applying:", _sql(p, lambda d: d.start("SQL_THREAD"))),),
    )


def _local_heartbeat_stale(p: Diagnosis) -> Advice:
    return Advice(
        "The replica's own heartbeat is not written: its writer is dead, or something keeps it from writing (a read "
        "lock, a full disk).",
        (
            Step("On the replica, start the writer if it does not run:", (_heartbeat(p, local=True),)),
            Step("If it runs, see what holds it up:", ("SHOW FULL PROCESSLIST;",)),
            Step("Where the replica must not be written to: --no-local-heartbeat on the check."),
        ),
    )


def _source_log_stale(p: Diagnosis) -> Advice:
    return Advice(
        "The source writes a heartbeat every second, and none arrives: a connection that is dead without knowing, or a "
        "source that no longer writes.",
        (
            Step("Let the replica connect anew:", _sqls(p, lambda d: [d.stop("IO_THREAD"), d.start("IO_THREAD")])),
            Step("On the source, see whether the heartbeat's writer runs:", ("pgrep -af pt-heartbeat",)),
        ),
    )


def _relay_log_stale(p: Diagnosis) -> Advice:
    return Advice(
        "Nothing has been applied for long: the SQL thread is stopped, waits for a lock, or has one very large change.",
        (
            Step("See what the SQL thread does:", ("SHOW FULL PROCESSLIST;",)),
            _status(p),
            Step(f"If it is stopped: {MISTAKE} Otherwise:", _sql(p, lambda d: d.start("SQL_THREAD"))),
        ),
    )


# --- the line


def _active(p: Diagnosis, kind: str) -> Advice:
    return Advice(
        f"Planned work ({clean(kind, 40)}) is going on. What comes of it is held at WARNING while its budget lasts.",
        (Step("Nothing is to be done, unless it should be over by now:", (_job(p, "list"),)),),
    )


def _in_range(_: Diagnosis) -> Advice:
    return Advice("The delay line is as long as it should be.", (NOTHING,))


def _recovery_window(p: Diagnosis, kind: str) -> Advice:
    return Advice(
        f"The line was left out of range by planned work ({clean(kind, 40)}), and is given time to come back.",
        (_watch(p),),
    )


def _recovery_exceeded(p: Diagnosis) -> Advice:
    spent = [b.option for b in p.budgets if b.held > b.limit] or [option("max_recovery_time")]
    return Advice(
        "The line has been on its way back for longer than it may: catching up is too slow, or has stopped.",
        (
            _status(p, "See whether both threads run, and what the SQL thread does:"),
            Step("See what slows it down (locks, long queries, a busy disk):", ("SHOW FULL PROCESSLIST;",)),
            Step(f"If it is right that it takes so long, raise {' or '.join(spent)} on the check."),
        ),
    )


def _recovering(p: Diagnosis) -> Advice:
    return Advice("The line is out of range, and on its way back.", (_watch(p),))


def _out_of_bounds(p: Diagnosis) -> Advice:
    found = {finding.condition for finding in p.verdict.findings}
    if p.side == BELOW and "delay-setting-lost" in found:
        return Advice("The line is too short, and does not grow.")
    if p.side == BELOW:
        return Advice(
            "The line is too short, and does not grow: a mistake would arrive here sooner than it should.",
            (
                Step("Stop applying, so that the line grows while you look:", _sql(p, lambda d: d.stop("SQL_THREAD"))),
                _status(p, "See whether the delay is still set (SQL_Delay):"),
                Step("Once it is right:", _sql(p, lambda d: d.start("SQL_THREAD"))),
            ),
        )
    stopped = p.verdict.sample is not None and p.verdict.sample.sql == "No"
    steps = [
        _status(p, "See whether both threads run, and what the SQL thread does:"),
        Step("See what slows it down (locks, long queries, a busy disk):", ("SHOW FULL PROCESSLIST;",)),
    ]
    if stopped and not found & {"sql-stopped", "sql-error"}:
        steps.insert(0, Step(f"Go on applying. {MISTAKE}", _sql(p, lambda d: d.start("SQL_THREAD"))))
    steps.append(Step("If planned work is the cause, say so:", (_job(p, "start", None, "--kind", "backup"),)))
    meaning = "The line is too long, and does not shorten." if p.side == ABOVE else "The line is out of range."
    return Advice(f"{meaning} What is restored from here is older than it should be.", tuple(steps))


# --- beside these


def _job_record_invalid(p: Diagnosis) -> Advice:
    invalid = _jobs(p, "invalid")
    return Advice(
        "Somebody recorded a job that makes no sense. It holds back no alarm.",
        tuple(Step("Take it back, and record it anew if it runs:", (_job(p, "void", job),)) for job in invalid[:3]),
    )


def _source_changed(p: Diagnosis) -> Advice:
    return Advice(
        "After a failover the new source's first heartbeat takes as long as the delay. Until then the old one serves.",
        (Step("On the new source, make sure that the writer runs:", (_heartbeat(p, local=False),)),),
    )


def _internal_error(p: Diagnosis) -> Advice:
    return Advice(
        "Nothing could be judged.",
        (Step("Ask the check itself, with all that it can say:", (_check(p),)),),
    )


def _check(p: Diagnosis) -> str:
    return "check_delayed_repl" + _rest((*p.call.connection, *p.call.judging, *p.call.history)) + " -vvv"


TABLE: dict[str, Callable[[Diagnosis], Advice]] = {
    "connect-failed": _connect_failed,
    "timeout": _timeout,
    "not-a-replica": _not_a_replica,
    "status-unreadable": _status_unreadable,
    "io-error": _io_error,
    "sql-error": _sql_error,
    "heartbeat-missing": _heartbeat_missing,
    "heartbeat-unreadable": _heartbeat_unreadable,
    "heartbeat-from-future": _heartbeat_from_future,
    "source-heartbeat-dead": _source_heartbeat_dead,
    "worker-missing": _worker_missing,
    "delay-setting-lost": _delay_setting_lost,
    "job-overrun": _job_overrun,
    "clock-stepped": _clock_stepped,
    "history-unavailable": _history_unavailable,
    "server-down": _server_down,
    "io-stopped": _io_stopped,
    "sql-stopped": _sql_stopped,
    "local-heartbeat-stale": _local_heartbeat_stale,
    "source-log-stale": _source_log_stale,
    "relay-log-stale": _relay_log_stale,
    "in-range": _in_range,
    "recovery-exceeded": _recovery_exceeded,
    "recovering-real-value": _recovering,
    "recovering-below-minimum": _recovering,
    "recovering-above-maximum": _recovering,
    "delay-out-of-bounds": _out_of_bounds,
    "job-record-invalid": _job_record_invalid,
    "source-changed": _source_changed,
    "internal-error": _internal_error,
}
"""Every condition but those that carry a kind of job in their names."""
