"""What steps are made of: commands with the options that were given, and statements that lose nothing of what waits.

What is proposed is printed, not run, and safe when it is followed to the letter.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from typing import NamedTuple

from check_delayed_repl import words
from check_delayed_repl.diagnose.dialect import EITHER, Dialect, Place
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.given import joined
from check_delayed_repl.judge.outcome import JobView

Commands = Callable[[Diagnosis], Iterable[str]]
HOUR = 3600.0
HOUR_SLACK = 90.0
"""Seconds by which an age may differ from whole hours and still come from a time zone."""


class Step(NamedTuple):
    """Something to do."""

    text: str
    """`{words}` in it are those of `words_for`."""
    commands: Commands = lambda _: ()
    """To be pasted, a line each: SQL where they end with `;` or `\\G`, otherwise a shell's."""
    when: Callable[[Diagnosis], bool] = lambda _: True


def words_for(p: Diagnosis) -> dict[str, str]:
    seen = p.seen
    spent = [b.option for b in p.budgets if b.held > b.limit] or ["--max-recovery-time or --max-trend-time"]
    newer = newer_ids(p)
    return {
        "privilege": p.dialect.privilege if p.dialect is not None else "REPLICATION CLIENT (MariaDB: SLAVE MONITOR)",
        "setting": words.span(None if seen is None else seen.sql_delay),
        "spent": " or ".join(spent),
        "filters": words.clean(", ".join((seen.filters if seen else None) or ()) or "none that is known", 200),
        "server": str(newer[0]) if newer else "ID",
        "elsewhere": " where the worker runs" if p.call.worker else "",
    }


# --- what is known of this replica


def stopped(p: Diagnosis) -> bool:
    return p.seen is not None and p.seen.sql == "No"


def meant_delay(p: Diagnosis) -> int:
    """The delay that the limits are for, in seconds."""
    return round((p.limits.min_delay_time + p.limits.max_delay_time) / 2)


def limits_do_not_fit(p: Diagnosis) -> bool:
    """The server is set to a delay outside the bounds, and has never been seen with another one."""
    setting = p.seen.sql_delay if p.seen is not None else None
    within = p.limits.min_delay_time <= (setting or 0) <= p.limits.max_delay_time
    return bool(setting) and setting == p.sql_delay_before and not within


def newer_ids(p: Diagnosis) -> list[int]:
    """Servers whose heartbeats are newer than the one that is used by more than a minute, the newest first."""
    used = None if p.seen is None or p.seen.heartbeat_id is None else p.seen.delay
    rows = p.server.heartbeats if p.server is not None else ()
    return [server for server, age in rows if (used is None or age < used - 60.0) and age > -60.0]


def zone_is_wrong(p: Diagnosis) -> bool:
    """A heartbeat lies in the future, or is older than the server itself says, by whole hours."""
    s = p.seen
    if s is None:
        return False
    expected = max(s.seconds_behind or 0, s.sql_delay or 0)
    behind = s.delay is not None and (s.delay < 0 or (s.seconds_behind is not None and s.sql == "Yes"))
    # One that has died grows older, past whole hours too.
    own = [x.local for x in p.samples if x.local is not None]
    return (behind and _whole_hours((s.delay or 0.0) - expected)) or (bool(own) and _whole_hours(own[0], own[-1]))


def _whole_hours(*seconds: float) -> bool:
    """One at least and 14 at most, as a time zone makes it."""
    return all(0.5 < abs(s) / HOUR < 14.5 and abs((s + HOUR / 2) % HOUR - HOUR / 2) <= HOUR_SLACK for s in seconds)


# --- commands


def nothing(_: Diagnosis) -> Iterable[str]:
    return ()


def ended(statement: str) -> str:
    """As a client wants it."""
    return statement if statement.endswith("\\G") else f"{statement};"


def sql(say: Callable[[Dialect], str]) -> Commands:
    """A statement in the server's words; in everybody's, each marked, where it is not known which server it is."""

    def commands(p: Diagnosis) -> Iterable[str]:
        if p.dialect is not None:
            return (ended(say(p.dialect)),)
        identity = next((s.server for s in reversed(p.samples) if s.server), "")
        family = {"uuid": "MySQL", "uid": "MariaDB", "id": "MariaDB"}.get(identity.partition(":")[0], "")
        channel = p.replica.partition("#")[2]
        found = (
            (f"-- {name}:", ended(say(d._replace(channel=channel)))) for name, d in EITHER.items() if family in name
        )
        return [line for pair in found for line in pair]

    return commands


def plain_sql(text: str) -> Commands:
    return lambda p: (text.format(table=p.call.table),)


def shell(line: str) -> Commands:
    """A line for a shell on the replica's or the source's host."""
    return lambda p: (line.format(service=p.dialect.client if p.dialect is not None else "mysql"),)


def ours(line: str, connection: bool = False, judging: bool = False) -> Commands:
    """One of our commands for the same replica, with the options that were given."""

    def commands(p: Diagnosis) -> Iterable[str]:
        given = [*line.split(), *(p.call.connection if connection else ("--replica", p.replica))]
        if judging:
            given += [*p.call.judging, *(("--sampling", "worker") if p.call.worker else ())]
        return (joined([*given, *p.call.history]),)

    return commands


DIAGNOSE = ours("delayed-repl diagnose", connection=True, judging=True)


def jobs(status: str, action: str, most: int) -> Commands:
    """Calls for the jobs of this status, the longest first. Ids were written by others: one may look like an option."""

    def commands(p: Diagnosis) -> Iterable[str]:
        found = sorted((j for j in p.verdict.jobs if j.status == status), key=lambda j: -(j.running or 0.0))
        return [one(p, job) for job in found[:most]]

    def one(p: Diagnosis, job: JobView) -> str:
        kind = ("--kind", job.kind) if action == "finish" else ()
        return joined(("delayed-repl", "job", action, "--replica", p.replica, *kind, *p.call.history, "--", job.id))

    return commands


def heartbeat(own: str = "") -> Commands:
    """Starts a heartbeat's writer."""

    def commands(p: Diagnosis) -> Iterable[str]:
        database, _, table = p.call.table.partition(".")
        named = "" if table == "heartbeat" else f" --table {table}"
        file = "--defaults-file /etc/mysql/heartbeat.cnf"
        return (f"pt-heartbeat {file} -D {database}{named} --update --utc --interval 1 --daemonize{own}",)

    return commands


def client(p: Diagnosis) -> Iterable[str]:
    name = p.dialect.client if p.dialect is not None else "mysql"
    return (joined((name, *p.call.client, "-e", "SELECT 1")),) if p.call.reaches else ()


def history_file(p: Diagnosis) -> Iterable[str]:
    where = p.call.history[-1] if p.call.history and "://" not in p.call.history[-1] else ""
    file = shlex.quote(where)
    return (f"ls -la {file}*; df -h $(dirname {file})",) if where else ()


def freeze(p: Diagnosis) -> str | None:
    """What stops this replica before a mistake is applied; None where nothing is applied, or that is not known."""
    seen = p.seen
    if seen is None or seen is not p.verdict.sample or not p.call.reaches or seen.sql is None:
        return None
    if (p.native and seen.sql != "Yes") or p.has("rescue-in-progress"):
        return None
    return next(iter(ours("delayed-repl rescue freeze", connection=True)(p)))


# --- statements that change what the server does


BY_POSITION = Step(
    "MariaDB asks its source by position from then on (Using_Gtid: No). Do not go back to GTID with MASTER_USE_GTID "
    "while changes wait: they would be skipped without an error."
)
ASK_THERE = (
    "delayed-repl diagnose, where it may connect to the replica, prints how to do that without losing what waits."
)
STOP_SQL = sql(lambda d: d.stop("SQL_THREAD"))


def restart_io(p: Diagnosis) -> Iterable[str]:
    return [*sql(lambda d: d.stop("IO_THREAD"))(p), *sql(lambda d: d.start("IO_THREAD"))(p)]


def _place(p: Diagnosis) -> Place | None:
    return p.server.place if p.server is not None else None


def start(thread: str, text: str) -> Callable[[Diagnosis], tuple[Step, ...]]:
    """Starts a thread. A MariaDB in GTID mode throws away what waits if both were stopped, unless it is told where."""

    def steps(p: Diagnosis) -> tuple[Step, ...]:
        seen, dialect, place = p.seen, p.dialect, _place(p)
        mariadb = dialect is None or dialect.mariadb
        if seen is None or seen.io != "No" or seen.sql != "No" or not mariadb or (place and not place.gtid):
            return (Step(text, sql(lambda d: d.start(thread))),)
        if dialect is None or place is None:
            return (Step(f"{text.rstrip(':')}. {ASK_THERE}"),)
        if thread == "IO_THREAD" and p.has("sql-stopped", "sql-error"):
            return (Step(f"{text.rstrip(':')}, together with the SQL thread: see there."),)
        both = "" if thread == "SQL_THREAD" else thread
        return (
            Step(text, lambda _: [ended(dialect.change_at(seen.sql_delay, place)), ended(dialect.start(both))]),
            BY_POSITION,
        )

    return steps


def set_delay(p: Diagnosis, seconds: int) -> tuple[Step, ...]:
    """Sets the server's own delay. Some servers must be told where the stopped SQL thread is, to keep what waits."""
    then = f"{'Set' if stopped(p) else 'Then set'} the delay to {words.span(seconds)} and go on"
    dialect, place = p.dialect, _place(p)
    if dialect is None:
        return (Step(f"{then}. {ASK_THERE}"),)
    if dialect.needs_place and (place is None or not stopped(p)):
        return (Step(f"{then}: run this again, it then knows the place to go on from and loses nothing:", DIAGNOSE),)
    unless = ", unless it has run since" if dialect.needs_place else ", keeping what waits"
    found = Step(f"{then}{unless}:", lambda _: [ended(one) for one in dialect.set_delay(seconds, place)])
    return (found, BY_POSITION) if dialect.mariadb and place is not None and place.gtid else (found,)
