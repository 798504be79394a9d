"""What steps are made of: what is known of a replica, in words and in commands to be pasted, with the options given.

What is proposed is printed, not run. It loses nothing of what waits, and is safe when it is followed to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import inf
from typing import NamedTuple

from check_delayed_repl import words
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.diagnose.screen import visible
from check_delayed_repl.given import joined
from check_delayed_repl.judge.outcome import JobView
from check_delayed_repl.observe.dialect import EITHER, Dialect
from check_delayed_repl.observe.heartbeat import table_name

HOUR = 3600.0
HOUR_SLACK = 90.0
"""Seconds by which an age may differ from whole hours and still come from a time zone."""


class Step(NamedTuple):
    """Something to do. `{words}` in it are those of `words_for`."""

    text: str
    commands: str | tuple[str, ...] = ""
    """To be pasted, a line each: SQL where they end with `;` or `\\G`, otherwise a shell's. A tuple stays as it is."""
    when: Callable[[Diagnosis], bool] = lambda _: True

    def filled(self, known: dict[str, str]) -> Step:
        lines = self.commands if isinstance(self.commands, tuple) else self.commands.format_map(known).splitlines()
        text = self.text.format_map(known)
        # Where there is nothing to be pasted, it is a sentence of its own.
        return Step(text if lines else re.sub(":$", ".", text), tuple(lines))


# --- what is known of this replica


def stopped(p: Diagnosis) -> bool:
    return p.seen is not None and p.seen.sql == "No"


def stuck(p: Diagnosis) -> bool:
    """The IO thread has stopped with an error, and not while it tried to connect: started again, it would not last."""
    s = p.seen
    connecting = s is not None and re.search("attempt|retries", s.io_error or "")
    return s is not None and s.io == "No" and bool(s.io_errno) and not connecting


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
    used = None if p.seen is None else p.seen.heartbeat_id
    rows = p.server.heartbeats if p.server is not None else ()
    least = inf if p.seen is None or used is None or p.seen.delay is None else p.seen.delay - 60.0
    return [server for server, age in rows if server != used and -60.0 < age < least]


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


# --- words and commands


STATEMENTS: dict[str, Callable[[Dialect], str]] = {
    "status": Dialect.status,
    "every_status": lambda d: Dialect(d.version).status(),
    "applier_errors": Dialect.applier_errors,
    "start_sql": lambda d: d.start("SQL_THREAD"),
    "stop_sql": lambda d: d.stop("SQL_THREAD"),
    "start_io": lambda d: d.start("IO_THREAD"),
    "stop_io": lambda d: d.stop("IO_THREAD"),
}


def words_for(p: Diagnosis) -> dict[str, str]:
    """What stands for each word of a step. Options begin with a blank; what there is nothing to say of is empty."""
    seen, call = p.seen, p.call
    client = p.dialect.client if p.dialect is not None else family(p).lower() or "mysql"
    spent = [b.option for b in p.budgets if b.held > b.limit] or ["--max-recovery-time or --max-trend-time"]
    sampling = " --sampling worker" if call.worker else ""
    file = joined((call.kept or "FILE",))
    return {
        "privilege": p.dialect.privilege if p.dialect is not None else "REPLICATION CLIENT (MariaDB: SLAVE MONITOR)",
        "setting": words.span(None if seen is None else seen.sql_delay),
        "spent": " or ".join(spent),
        "filters": words.clean(
            ", ".join(map(words.filter_name, (seen.filters if seen else None) or ())) or "none that is known", 200
        ),
        "server": str(next(iter(newer_ids(p)), "ID")),
        "elsewhere": " where the worker runs" if call.worker else "",
        "service": client,
        "table": table_name(call.table),
        "connection": options(call.connection),
        "judging": options(call.judging) + sampling,
        "sampling": sampling,
        "history": options(call.history),
        "replica": options((*call.file, "--replica", p.replica)),
        # A file with several replicas is a worker's whole.
        "worker": options(call.file or call.connection),
        "login": f"{client}{options(call.client)} -e 'SELECT 1'" if call.reaches else "",
        "see_file": f'ls -la -- {file}*; df -h -- "$(dirname -- {file})"',
    } | {name: _sql(p, say) for name, say in STATEMENTS.items()}


def options(given: Iterable[str]) -> str:
    """Words for a shell, a blank before each."""
    return "".join(f" {joined((word,))}" for word in given)


def family(p: Diagnosis) -> str:
    """MySQL or MariaDB, as the identity that was seen last has it; empty where none was."""
    identity = next((s.server for s in reversed(p.samples) if s.server), "")
    return {"uuid": "MySQL", "uid": "MariaDB", "id": "MariaDB"}.get(identity.partition(":")[0], "")


def _sql(p: Diagnosis, say: Callable[[Dialect], str]) -> str:
    """A statement in the server's words; in everybody's, each marked, where it is not known which server it is."""
    if p.dialect is not None:
        return visible(ended(say(p.dialect)))
    given = p.call.channel
    channel = p.replica.partition("#")[2] if given is None else given
    said: dict[str, list[str]] = {}
    for name, dialect in EITHER.items():
        if family(p) in name:
            statement = ended(say(Dialect(dialect.version, channel, given is not None)))
            said.setdefault(visible(statement), []).append(name)
    return "\n".join(f"-- {', '.join(names)}:\n{statement}" for statement, names in said.items())


def ended(statement: str) -> str:
    """As a client wants it."""
    return statement if statement.endswith("\\G") else f"{statement};"


def jobs(p: Diagnosis, status: str, action: str, most: int) -> tuple[str, ...]:
    """Calls for the jobs of this status, the longest first. Ids were written by others: one may look like an option."""
    found = sorted((j for j in p.verdict.jobs if j.status == status), key=lambda j: -(j.running or 0.0))[:most]
    found = found or [JobView("ID", "KIND", status, None, None, None)]
    file, kept = p.call.file, p.call.history
    given = [
        (*file, "--replica", p.replica, *(("--kind", j.kind) if action == "finish" else ()), *kept, "--", j.id)
        for j in found
    ]
    return tuple(f"delayed-repl job {action}{options(each)}" for each in given)


def freeze(p: Diagnosis) -> str | None:
    """What stops this replica before a mistake is applied; None where nothing is applied, or that is not known."""
    seen = p.seen
    if seen is None or seen is not p.verdict.sample or not p.call.reaches or seen.sql is None:
        return None
    if (p.native and seen.sql != "Yes") or p.has("rescue-in-progress"):
        return None
    return f"delayed-repl rescue freeze{options((*p.call.connection, *p.call.history))}"


# --- statements that change what the server does


BY_POSITION = Step(
    "MariaDB asks its source by position from then on (Using_Gtid: No). Do not go back to GTID with MASTER_USE_GTID "
    "while changes wait: they would be skipped without an error."
)
ASK_THERE = (
    "delayed-repl diagnose, where it may connect to the replica, prints how to do that without losing what waits."
)


ANEW = (
    "The server has forgotten what it had fetched. A START throws away what waits, and fetches it anew: see first that "
    "the source still has its binary logs since then. If not, delayed-repl rescue saves it"
)


def forgetful(p: Diagnosis) -> bool:
    """A MariaDB by GTID that was killed, and would die of a place in the relay log: of its source's, it has none."""
    both = p.seen is not None and p.seen.source_log is None and (p.seen.io, p.seen.sql) == ("No", "No")
    return both and p.dialect is not None and p.dialect.mariadb and p.place is not None and p.place.gtid


def start(thread: str, text: str) -> Callable[[Diagnosis], tuple[Step, ...]]:
    """Starts a thread. A MariaDB in GTID mode throws away what waits if both were stopped, unless it is told where."""

    def steps(p: Diagnosis) -> tuple[Step, ...]:
        seen, dialect, place = p.seen, p.dialect, p.place
        mariadb = dialect is None or dialect.mariadb
        plain = Step(text, "{start_sql}" if thread == "SQL_THREAD" else "{start_io}")
        if seen is None:
            return (
                Step(f"Where both threads of a MariaDB stand still, a START alone may lose what waits. {ASK_THERE}"),
                plain,
            )
        if seen.io != "No" or seen.sql != "No" or not mariadb or (place and not place.gtid):
            return (plain,)
        if dialect is None or place is None:
            return (Step(f"{text.rstrip(':')}. {ASK_THERE}"),)
        if thread == "IO_THREAD" and p.has("sql-stopped", "sql-error"):
            return (Step(f"{text.rstrip(':')}, together with the SQL thread: see there."),)
        both = "" if thread == "SQL_THREAD" else thread
        if forgetful(p):
            return (Step(f"{ANEW}. {text}", (ended(dialect.start(both)),)),)
        there = (ended(dialect.change_at(seen.sql_delay, place)), ended(dialect.start(both)))
        return (Step(text, there), BY_POSITION)

    return steps


def set_delay(p: Diagnosis, seconds: int) -> tuple[Step, ...]:
    """Sets the server's own delay. Some servers must be told where the stopped SQL thread is, to keep what waits."""
    to = f"the delay to {words.span(seconds)} and go on"
    then = f"{'Set' if stopped(p) else 'Then set'} {to}"
    dialect, place = p.dialect, p.place
    if dialect is None:
        return (Step(f"{then}. {ASK_THERE}"),)
    again = "delayed-repl diagnose{connection}{judging}{history}"
    if dialect.needs_place and (place is None or not stopped(p)):
        return (Step(f"Then run this again: it prints how to set {to} from where the SQL thread stands:", again),)
    if not dialect.needs_place and stuck(p):
        only = "Not while the IO thread stops with an error: what waits would be lost. Once it runs"
        return (Step(f"{only}, run this again: it prints how to set {to}:", again),)
    if forgetful(p):
        return (Step(f"{ANEW}. {then}:", tuple(map(ended, dialect.set_delay(seconds, None)))),)
    statements = dialect.set_delay(seconds, place)
    unless = ", unless it has run since" if dialect.needs_place else ", keeping what waits"
    if not dialect.needs_place and p.seen is not None and p.seen.io == "No":
        unless += ": see that the IO thread runs before the CHANGE, or all of it is lost"
        statements.insert(2, dialect.status())
    found = Step(f"{then}{unless}:", tuple(map(ended, statements)))
    return (found, BY_POSITION) if dialect.mariadb and place is not None and place.gtid else (found,)
