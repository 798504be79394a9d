"""What to do about each condition: one table, by condition, and what follows from what.

Whether a condition holds is the judge's to say, what it means stands with the conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from check_delayed_repl import conditions
from check_delayed_repl.conditions import HARD, HOLDABLE, LINE, MEANINGS
from check_delayed_repl.diagnose import steps as s
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.diagnose.steps import Step
from check_delayed_repl.given import Call
from check_delayed_repl.history import is_url
from check_delayed_repl.judge.line import BELOW
from check_delayed_repl.judge.outcome import Finding, State, Verdict
from check_delayed_repl.limits import Limits, kind_option


class Advice(NamedTuple):
    """One finding with what to do about it."""

    finding: Finding
    meaning: str
    steps: tuple[Step, ...]
    """For the replica at hand, with its words filled in."""
    consequences: tuple[Finding, ...] = ()
    """What follows from it, and needs no steps of its own."""


def advise(p: Diagnosis) -> list[Advice]:
    """Every finding once, as a cause or among the consequences of one: the deepest causes first."""
    left = list(p.verdict.findings)
    found: list[Advice] = []
    for name in dict.fromkeys((*CONSEQUENCES, *(finding.condition for finding in left))):
        own = [f for f in left if f.condition == name]
        if own:
            following = CONSEQUENCES.get(name, frozenset()) - {name}
            follow = tuple(f for f in left if conditions.general(f.condition) in following and f.state != State.OK)
            left = [f for f in left if f.condition != name and conditions.general(f.condition) not in following]
            meaning = MEANINGS.get(conditions.general(name), "")
            # What a job holds needs no steps: it goes with the job.
            found.append(Advice(own[0], meaning, () if own[0].held else steps_for(name, p), follow))
            found += [Advice(finding, meaning, ()) for finding in own[1:]]
    return found


def steps_for(condition: str, p: Diagnosis) -> tuple[Step, ...]:
    """What to do about one condition on this replica, with its words filled in."""
    known = s.words_for(p)
    found: list[Step] = []
    for one in STEPS.get(conditions.general(condition), ()):
        found += [one] if isinstance(one, Step) else one(p)
    return tuple(step.filled(known) for step in found if step.when(p))


def general_steps(condition: str) -> tuple[Step, ...]:
    """What to do about a condition on any replica."""
    nothing = Verdict(0.0, ())
    return steps_for(
        condition, Diagnosis("NAME", nothing, Limits(), call=Call(("-H", "HOST"), client=("--host=HOST",)))
    )


PROCESSES = "SHOW FULL PROCESSLIST;"
IDENTITY = "SELECT @@hostname, @@port, @@server_id, @@version;"
GRANTS = "delayed-repl grants --for check{connection}{history}"
LIST_JOBS = "delayed-repl job list{replica}{history}"
WATCH = Step("Wait, and watch it come back:", "delayed-repl watch{connection}{judging}{history}")
SHOW_ROWS = Step(
    "See whose heartbeats there are, and whether ts is in UTC:", "SELECT server_id, ts, UTC_TIMESTAMP(6) FROM {table};"
)
WRITER_RUNS = "pgrep -af pt-heartbeat"
FIND_WRITER = Step("On the source, see whether pt-heartbeat runs:", WRITER_RUNS)
UNIT = "unit of delayed-repl init, or of examples/systemd"
START_WRITER = Step(f"If not, start it there ({UNIT}):", "systemctl restart pt-heartbeat-source")
NAME_SOURCE = Step(
    "Server {server}'s heartbeat is newer. If that is the source, give --master-server-id {server}.",
    when=lambda p: bool(s.newer_ids(p)),
)
FIND_FILTERS = Step(
    "If it runs and no row arrives, look for filters: here ({filters}), and binlog_do_db and binlog_ignore_db on the "
    "source:",
    "{status}",
)
ZONE = Step("A wrong time zone? Use pt-heartbeat --utc, or --heartbeat-timezone ZONE.", when=s.zone_is_wrong)
CLOCKS = "date -u; chronyc tracking"
CATCHING_UP = (
    Step("See whether both threads run, and what the SQL thread does:", "{status}"),
    Step("See what slows it down (locks, long queries, a busy disk):", PROCESSES),
)
ON_PURPOSE = "Unless it was stopped to save what a mistake destroyed, go on applying:"


def _out_of_bounds(p: Diagnosis) -> tuple[Step, ...]:
    seen, below = p.seen, p.side == BELOW
    if seen is not None and s.limits_do_not_fit(p):
        must_stop = p.dialect is not None and p.dialect.needs_place and not s.stopped(p)
        return (
            Step(
                "If {setting} is meant, give every command the limits for it:",
                f"delayed-repl diagnose{{connection}} --delay {seen.sql_delay}{{sampling}}{{history}}",
            ),
            Step("If not, set the one that is meant:", "{stop_sql}") if must_stop else Step("If not:"),
            *s.set_delay(p, s.meant_delay(p)),
        )
    if s.zone_is_wrong(p):
        return (ZONE, SHOW_ROWS)
    if seen is not None and seen.sql is not None and not p.native:
        again = f"pt-slave-delay --defaults-file /etc/mysql/slave-delay.cnf --delay {s.meant_delay(p)} --daemonize"
        auto = p.limits.delay_mode == "auto"
        tool = not auto or p.dialect is None or p.dialect.slave_delay
        until = "pt-slave-delay does it again" if tool else "the delay is set again"
        steps = [Step(f"Stop applying until {until}:", "{stop_sql}", lambda p: below and not s.stopped(p))]
        if auto and seen.sql_delay is not None:
            # Of a setting that was lost before the history began, nobody can tell. Before anything starts the thread.
            first, *others = s.set_delay(p, s.meant_delay(p))
            about = f"If the server itself is meant to delay, which it does not: {first.text}"
            steps += [first._replace(text=about), *others]
        if tool:
            steps += [
                Step("pt-slave-delay applies this delay. See whether it runs:", "pgrep -af pt-slave-delay"),
                Step("If it has died, start it again:", again),
            ]
        return (*steps, *(() if below else CATCHING_UP))
    if below:
        return (
            Step("Stop applying, so that the line grows meanwhile:", "{stop_sql}", lambda p: not s.stopped(p)),
            Step("See whether the delay is still set (SQL_Delay), and what else applies changes:", "{status}"),
            *s.start("SQL_THREAD", "Once it is right:")(p),
        )
    return (
        *CATCHING_UP,
        Step("If planned work is the cause, record it:", "delayed-repl job start --kind backup{replica}{history}"),
    )


def _unless_meant(p: Diagnosis) -> tuple[Step, ...]:
    first, *others = s.set_delay(p, s.meant_delay(p))
    about = f"If {{setting}} is not meant, and it was not stopped to save what a mistake destroyed: {first.text}"
    return (first._replace(text=about), *others)


STEPS: dict[str, tuple[Step | Callable[[Diagnosis], tuple[Step, ...]], ...]] = {
    "connect-failed": (
        Step("Try the same by hand{elsewhere}:", "{login}"),
        Step(
            "If access is denied, this prints the SQL for an account that has what it needs, with an administrator's "
            "-u and -p put behind it:",
            GRANTS,
        ),
    ),
    "timeout": (
        Step(
            "On the replica's host: is it overloaded, out of disk space or stopped?",
            "uptime; df -h; systemctl status {service}",
        ),
        Step("If it answers there, see what it is busy with:", PROCESSES),
    ),
    "not-a-replica": (
        Step("List the channels, then name one of them with --channel:", "{every_status}"),
        Step("If replication was removed (RESET), set it up again, with its delay."),
    ),
    "status-unreadable": (
        Step("It needs {privilege}. This prints the SQL for an account that has it:", GRANTS),
        Step("As an administrator, see what the check would read:", "{status}"),
    ),
    "io-error": (
        Step("Last_IO_Error names the cause (network, account, binary logs gone):", "{status}"),
        s.start("IO_THREAD", "Once the cause is removed:"),
    ),
    "sql-error": (
        Step("Read the whole error, and the change that it names:", "{applier_errors}"),
        Step("Repair what differs: skipping the change would make the difference permanent."),
        s.start("SQL_THREAD", "Once the cause is removed:"),
    ),
    "heartbeat-missing": (SHOW_ROWS, NAME_SOURCE, FIND_WRITER, START_WRITER, FIND_FILTERS),
    "heartbeat-unreadable": (SHOW_ROWS, Step("Only pt-heartbeat may write to the table. See who does:", PROCESSES)),
    "heartbeat-from-future": (ZONE, Step("Compare the clocks of source and replica, on both:", CLOCKS), SHOW_ROWS),
    "source-heartbeat-dead": (NAME_SOURCE, FIND_WRITER, START_WRITER, FIND_FILTERS),
    "worker-missing": (
        Step("Where the worker runs, see why it does not:", "systemctl status 'delayed-repl*'"),
        Step("Or run it by hand:", "delayed-repl worker --count 3{worker}{history}", lambda p: p.call.reaches),
    ),
    "delay-setting-lost": (
        Step("Stop applying at once, to keep what is left:", "{stop_sql}", lambda p: not s.stopped(p)),
        lambda p: s.set_delay(p, p.sql_delay_before or s.meant_delay(p)),
    ),
    "job-overrun": (
        Step("See which jobs are recorded, and whether they still run:", LIST_JOBS),
        lambda p: (Step("If one is over and only its end was never recorded:", s.jobs(p, "active", "finish", 1)),),
        lambda p: tuple(
            Step(f"If it is right that it takes that long, raise {kind_option(kind)} on the check.")
            for kind in dict.fromkeys(job.kind for job in p.verdict.jobs if job.status == "active")
        ),
    ),
    "job-records-flooded": (
        Step("See who writes them:", LIST_JOBS),
        Step(
            "Once that has stopped, clear them, and record again what still runs:",
            "delayed-repl job void --all{replica}{history}",
        ),
    ),
    "replica-ambiguous": (
        Step("Ask several times which server answers here:", IDENTITY),
        Step("Give each replica an address and a --replica name of its own: no proxy, no name with several addresses."),
    ),
    "rescue-in-progress": (
        Step("Do not start replication. See where it stands:", "delayed-repl rescue status{connection}{history}"),
    ),
    "clock-stepped": (
        Step("See whether the clock is right{elsewhere}:", CLOCKS),
        Step("If so, remove the samples from the future:", "delayed-repl history prune --future{replica}{history}"),
    ),
    "history-unavailable": (
        Step("The message names the cause, and what to do.", when=lambda p: is_url(p.call.kept or "")),
        Step(
            "The message names the cause. See the file, its folder and its disk:",
            "{see_file}",
            lambda p: not is_url(p.call.kept or ""),
        ),
    ),
    "server-down": (
        Step("On the replica's host, see why:", "journalctl -u {service} -n 50; systemctl status {service}"),
        Step("Start it again:", "systemctl start {service}"),
    ),
    "io-stopped": (
        s.start("IO_THREAD", "Start fetching again, unless a backup has stopped it:"),
        Step("If it stays Connecting, the status or the error log says why:", "{status}"),
    ),
    "sql-stopped": (
        # Before the START: behind it, the place that is named would be an old one.
        lambda p: _unless_meant(p) if s.limits_do_not_fit(p) else (),
        s.start("SQL_THREAD", ON_PURPOSE),
    ),
    "local-heartbeat-stale": (
        ZONE,
        Step("On the replica, see whether its own pt-heartbeat runs:", WRITER_RUNS),
        Step(
            f"If not, start it there ({UNIT}; delayed-repl grants --for heartbeat has the rights of its account):",
            "systemctl restart pt-heartbeat-replica",
        ),
        Step("If it runs, see what holds it up (a read lock, a full disk):", PROCESSES),
        Step("If the replica must not be written to, give --no-local-heartbeat to the check."),
    ),
    "source-log-stale": (
        FIND_WRITER,
        # With the SQL thread stopped too, a MariaDB in GTID mode would throw away what waits.
        Step(
            "If it runs, and the SQL thread too, reconnect the replica:",
            "{stop_io}\n{start_io}",
            lambda p: not s.stopped(p),
        ),
    ),
    "relay-log-stale": (
        Step("See what the SQL thread does, and what it waits for:", PROCESSES),
        Step("See the status:", "{status}"),
        lambda p: s.start("SQL_THREAD", ON_PURPOSE)(p) if s.stopped(p) else (),
    ),
    "active-KIND": (Step("Nothing, unless it should be over by now:", LIST_JOBS),),
    "KIND-recovery-window": (WATCH,),
    "recovery-exceeded": (*CATCHING_UP, Step("If it is right that it takes so long, raise {spent} on the check.")),
    "recovering-real-value": (WATCH,),
    "line-drained": (
        Step("If a mistake was to be stopped, it has been applied: restore a backup."),
        Step("Find out what emptied it (a delay set to 0 for a moment, START … UNTIL, a new replica):", "{status}"),
        WATCH,
    ),
    "recovering-below-minimum": (WATCH,),
    "recovering-above-maximum": (WATCH,),
    "delay-out-of-bounds": (_out_of_bounds,),
    "source-changed": (
        Step("On the new source, make sure that pt-heartbeat runs:", "systemctl enable --now pt-heartbeat-source"),
    ),
    "job-record-invalid": (
        lambda p: (Step("Void it, and record it again if the job still runs:", s.jobs(p, "invalid", "void", 3)),),
    ),
    "replica-changed": (Step("Make sure that this is the replica that is meant:", IDENTITY),),
    "replication-filtered": (
        Step("If these filters are meant, name each with --allow-filter COLUMN=VALUE."),
        Step("If not, find out who set them, and rebuild what they left out: it is missing here.", "{status}"),
    ),
    "relay-space-limited": (
        Step("See the limit:", "SHOW GLOBAL VARIABLES LIKE 'relay_log_space_limit';"),
        Step("Raise it in the option file for the next restart: it must hold all changes of the delay and of a job."),
    ),
    "io-unstable": (
        Step("Compare the server ids of all replicas of this source, here and there:", IDENTITY),
        Step("See what the IO thread says, and read the error log:", "{status}"),
    ),
    "internal-error": (Step("Run the check itself:", "check_delayed_repl -vvv{connection}{judging}{history}"),),
}
"""By condition, without its kind of job."""

_LINE = frozenset(conditions.names(LINE)) - {"active-KIND"}
_BLIND = _LINE | {"source-log-stale", "relay-log-stale", "source-changed", "io-unstable", "local-heartbeat-stale"}
"""What is only the last that was known, once nothing is seen any more."""

CONSEQUENCES: dict[str, frozenset[str]] = {
    "rescue-in-progress": frozenset(conditions.names(HARD, HOLDABLE, LINE, conditions.BESIDE)),
    "replica-ambiguous": _BLIND | {"replica-changed", "clock-stepped"},
    "connect-failed": _BLIND,
    "timeout": _BLIND,
    "server-down": _BLIND | {"io-stopped", "sql-stopped"},
    "not-a-replica": _BLIND,
    "status-unreadable": _BLIND,
    "worker-missing": _BLIND,
    "clock-stepped": _BLIND,
    # To start a thread before the delay is set would empty the line.
    "delay-setting-lost": _LINE | {"sql-stopped", "io-stopped", "relay-log-stale", "source-log-stale"},
    "source-heartbeat-dead": _LINE | {"source-log-stale", "relay-log-stale"},
    "heartbeat-missing": _LINE,
    "heartbeat-unreadable": _LINE,
    "heartbeat-from-future": _LINE | {"source-heartbeat-dead"},
    "sql-error": _LINE | {"relay-log-stale"},
    "io-error": frozenset({"source-log-stale", "io-unstable"}),
    "sql-stopped": _LINE | {"relay-log-stale"},
    "io-stopped": frozenset({"source-log-stale", "io-unstable"}),
    "relay-space-limited": frozenset({"source-log-stale"}),
    "job-records-flooded": frozenset({"job-record-invalid", "job-overrun"}),
}
"""Cause → conditions that follow from it. The deepest causes come first."""
