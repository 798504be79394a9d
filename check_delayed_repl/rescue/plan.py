"""Which statements bring a rescue on, from where the server stands: pure, so that every case can be tried.

A plan never holds a statement that throws away what waits in the relay log. CHANGE does that where both threads are
stopped, unless it names a place in the relay log (MariaDB, MySQL 5.6) or the IO thread runs (newer MySQL). MariaDB with
GTIDs does it at START after both were stopped; naming a place turns GTIDs off for the channel, and it is kept.
"""

from __future__ import annotations

from typing import NamedTuple

from check_delayed_repl.observe.dialect import Dialect, quoted
from check_delayed_repl.rescue.record import Facts
from check_delayed_repl.rescue.relaylog import Place, Transaction
from check_delayed_repl.rescue.state import HELD_S, Channel, Gtids, State

KILLED = 1317
"""The error that an applier stops with when it is killed, as freeze does."""
SQL, IO, BOTH = "SQL_THREAD", "IO_THREAD", ""


class Step(NamedTuple):
    name: str
    """What the record calls it."""
    sql: str
    needs_io: bool = False
    """The IO thread must be running right before: otherwise the statement would throw the relay log away."""
    until: Transaction | None = None
    """Read again right before; then the step lasts until the SQL thread has stopped in front of it."""


class Plan(NamedTuple):
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    """What one must know before."""
    join: bool = False
    """The server is on its way to where a forward sent it: wait for that, then plan again."""


class Refusal(NamedTuple):
    reasons: tuple[str, ...]


class Waiting(NamedTuple):
    """What a scan of the relay log has found for a target."""

    first: Transaction | None = None
    """The oldest that has not been applied."""
    target: Transaction | None = None
    matches: int = 0
    """How many transactions are named so."""
    applied: bool = False
    """The target has been applied."""
    beyond: bool = False
    """Parallel appliers have applied something behind the target already."""
    repeated: bool = False
    """The server's own place lies before what it has applied, as after a crash."""
    cut: Transaction | None = None
    """The oldest that a delay of `cut_delay` still holds; None where times are not known or nothing older waits."""
    cut_delay: int = 0
    transactions: int = 0
    size: int = 0
    """Transactions and bytes before the target."""
    end: Place | None = None
    """How far the relay log goes, in the source's binary log."""


def talk(state: State) -> Dialect:
    return Dialect(state.version, state.channel.name)


def _skip_variable(state: State) -> str:
    return "skip_replica_start" if state.numbers >= (8, 0, 26) else "skip_slave_start"


def phase(state: State, facts: Facts | None, first: Transaction | None) -> str:
    """Where a rescue stands, by the server: normal, frozen, forwarding, forwarded or resumed."""
    begun = facts is not None and facts.phase in ("forwarding", "forwarded")
    there = bool(facts and facts.target and first and first.named(facts.target))
    if state.channel.sql != "No":
        if state.channel.until:
            return "forwarding"
        if state.held:
            return "forwarded" if there and begun else "frozen"
        return "resumed" if facts and facts.phase == "resumed" else "normal"
    if begun:
        return "forwarded" if there else "forwarding"
    return "frozen"


def missing(state: State) -> list[str]:
    """The rights that acting needs and the account has not."""
    if state.rights is None or {"ALL PRIVILEGES", "SUPER"} & state.rights:
        return []
    if state.mariadb:
        needed = {"REPLICATION SLAVE ADMIN", "SLAVE MONITOR"}
    else:
        needed = {"REPLICATION SLAVE", "REPLICATION CLIENT"}
        needed.add("REPLICATION_SLAVE_ADMIN" if state.numbers >= (8, 0, 0) else "SUPER")
    return sorted(needed - state.rights)


def hold(state: State) -> Plan | Refusal:
    """Behind a freeze: the delay that nothing comes through, where it is safe to set it at once."""
    channel = state.channel
    if state.held:
        return Plan()
    if state.pins:
        return Refusal(("this server can set its delay only with both threads stopped: forward does it",))
    if channel.sql != "No" or not channel.io_lives:
        what = "the SQL thread runs" if channel.sql != "No" else "the IO thread does not run, or is about to give up"
        return Refusal((f"{what}: to set the delay now could throw the relay log away",))
    return Plan((Step("hold", talk(state).change(HELD_S), needs_io=True),))


def forward(state: State, facts: Facts | None, name: str, found: Waiting) -> Plan | Refusal:
    """Applies everything before the target, and ends held in front of it."""
    channel, target = state.channel, found.target
    if found.applied or (target is None and _executed(state, name, found.first)):
        return Refusal((f"too late: {name} has been applied here",))
    if target is None:
        return Refusal(
            (f"{name} does not wait in the relay log: it is not fetched yet, or there is no such transaction",)
        )
    there = found.first is not None and found.first.relay == target.relay
    if there and state.held and found.matches > 1:
        return Plan()
    if found.matches > 1:
        return Refusal((f"{name} is not unique: {found.matches} transactions in the relay log are named so",))
    if not target.whole:
        return Refusal((f"{name} is not whole: its end has not been fetched",))
    if found.beyond:
        return Refusal(
            (f"parallel appliers have applied transactions behind {name}: the gap cannot be filled exactly",)
        )
    if lacking := missing(state):
        return Refusal((f"the account lacks {', '.join(lacking)}: see delayed-repl grants --for rescue",))
    running = channel.sql != "No"
    if running and not state.held:
        if channel.until and channel.until.order <= target.relay.order:
            return Plan(join=True)
        return Refusal(
            (f"the SQL thread runs again, and {name} has not been applied yet: run delayed-repl rescue freeze",)
        )
    if channel.sql_errno not in (0, KILLED) and not (found.repeated and facts and facts.phase == "forwarding"):
        return Refusal((f"an SQL error is pending (error {channel.sql_errno}): {channel.sql_error}",))
    assert found.first is not None
    if state.pins:
        return _forward_pinned(state, facts, found, there)
    return _forward_running(state, found, there)


def _forward_running(state: State, found: Waiting, there: bool) -> Plan | Refusal:
    """MySQL from 5.7 on: the delay is changed beside the running IO thread."""
    channel, say, target = state.channel, talk(state), found.target
    assert target is not None
    steps: list[Step] = []
    notes: list[str] = []
    if there and state.held:
        return Plan()
    if channel.sql != "No":
        steps.append(Step("stop applier", say.stop(SQL)))
    if not channel.io_lives:
        if channel.io_errno and channel.tries_left is None:
            return Refusal((_stuck(channel),))
        if channel.io != "No":
            # It is about to give up: begun anew, it has all its tries before it.
            steps.append(Step("stop fetching", say.stop(IO)))
        steps.append(Step("start fetching", say.start(IO)))
    if not there:
        safe = bool(state.stays_stopped)
        if not safe and state.may_persist:
            steps.append(Step("stay stopped after a restart", f"SET PERSIST_ONLY {_skip_variable(state)} = ON"))
            safe = True
        if not safe:
            notes.append(_risk(found))
        now = channel.delay
        for delay, stop in _passes(found, target, safe):
            if now != delay:
                steps.append(Step("set the delay", say.change(delay), needs_io=True))
                now = delay
            steps.append(Step("roll", say.start(SQL, stop.relay), until=stop))
    steps.append(Step("hold", say.change(HELD_S), needs_io=True))
    return Plan(tuple(steps), tuple(notes))


def _forward_pinned(state: State, facts: Facts | None, found: Waiting, there: bool) -> Plan:
    """MariaDB and MySQL 5.6: both threads are stopped, and each CHANGE names the place where the relay log goes on."""
    channel, say, target = state.channel, talk(state), found.target
    assert target is not None
    assert found.first is not None
    fetching = facts.fetching if facts else channel.io != "No"
    steps: list[Step] = []
    notes: list[str] = []
    if fetching and (twice := _fetches_twice(channel, found.end)):
        fetching = False
        notes.append(twice)
    if not (there and state.held):
        if channel.sql != "No" or channel.io != "No":
            steps.append(Step("stop both", say.stop()))
        place = found.first.relay
        if not there:
            notes.append(_risk(found))
            now = (channel.delay, channel.relay, channel.gtid)
            for delay, stop in _passes(found, target, safe=False):
                if now != (delay, place, False):
                    steps.append(Step("set the delay", say.change(delay, place, channel.gtid)))
                steps.append(Step("roll", say.start(SQL, stop.relay), until=stop))
                place, now = stop.relay, (delay, stop.relay, False)
        steps.append(Step("hold", say.change(HELD_S, target.relay, channel.gtid)))
        if fetching:
            steps.append(Step("start fetching", say.start(IO)))
    elif fetching and channel.io == "No":
        steps.append(Step("start fetching", say.start(IO)))
    if channel.gtid:
        notes.append("the channel leaves GTIDs for file and position: the relay log is kept that way")
    return Plan(tuple(steps), tuple(notes))


def _stuck(channel: Channel) -> str:
    return (
        "the IO thread is stopped by an error, and to set the delay without it would throw the relay log away"
        f" (error {channel.io_errno}: {channel.io_error})"
    )


def _passes(found: Waiting, target: Transaction, safe: bool) -> list[tuple[int, Transaction]]:
    """Delays, each with where its pass ends: first one that still holds the target, where a restart could apply it."""
    first = [] if safe or found.cut is None else [(found.cut_delay, found.cut)]
    return [*first, (0, target)]


def _risk(found: Waiting) -> str:
    risk = "a restart of the server while it rolls forward would apply the target, unless its option file has"
    if found.cut is not None:
        return f"{risk} skip-slave-start; a first pass with a delay of {found.cut_delay} s still holds the target"
    return f"{risk} skip-slave-start (it cannot be asked for that)"


def _executed(state: State, name: str, first: Transaction | None) -> bool:
    """Whether a target that does not wait has been applied before."""
    file, _, pos = name.rpartition(":")
    if "." in file:
        place = Place(file, int(pos))
        if first is not None:
            return place.order < first.source.order
        return place.order < (state.channel.fetched if state.mariadb else state.channel.applied).order
    try:
        return state.executed.has(name) or Gtids.of(state.slave_pos).has(name)
    except ValueError:
        return False


def _fetches_twice(channel: Channel, end: Place | None) -> str:
    """Why not to start an IO thread that a crash has let forget what it had fetched; empty where it has not."""
    if end is None or channel.io != "No" or channel.fetched.order >= end.order:
        return ""
    return (
        f"the IO thread is not started: it would go on at {channel.fetched} and fetch twice what is here up to {end}."
        " Start it only when all that waits has been applied, with CHANGE MASTER TO"
        f" MASTER_LOG_FILE={quoted(end.file)}, MASTER_LOG_POS={end.pos} before"
    )


def resume(
    state: State, facts: Facts | None, first: Transaction | None, delay: int | None, end: Place | None = None
) -> Plan | Refusal:
    """Replication goes on with the delay that there was before: `delay`, or the recorded one."""
    channel, say = state.channel, talk(state)
    wanted = delay if delay is not None else facts.delay if facts else None
    if wanted is None:
        return Refusal(("there is no record of the delay that was set before: say it with --delay TIME",))
    if channel.until:
        return Refusal(("a forward is on its way: wait for it, or freeze",))
    if channel.sql_errno not in (0, KILLED):
        return Refusal((f"an SQL error is pending (error {channel.sql_errno}): {channel.sql_error}",))
    if lacking := missing(state):
        return Refusal((f"the account lacks {', '.join(lacking)}: see delayed-repl grants --for rescue",))
    fetching = facts.fetching if facts else True
    steps: list[Step] = []
    notes: list[str] = []
    running = channel.sql != "No"
    if state.pins and fetching and (twice := _fetches_twice(channel, end)):
        fetching = False
        notes.append(twice)
    if running and channel.delay == wanted:
        pass
    elif state.pins and (channel.delay != wanted or (channel.io == "No" and channel.gtid)):
        if running or channel.io != "No":
            steps.append(Step("stop both", say.stop()))
        place = first.relay if first else channel.relay
        steps.append(Step("set the delay", say.change(wanted, place, channel.gtid)))
        steps.append(Step("start", say.start(BOTH if fetching else SQL)))
    else:
        if channel.delay != wanted:
            if running:
                steps.append(Step("stop applier", say.stop(SQL)))
            if not channel.io_lives:
                if channel.io_errno and channel.tries_left is None:
                    return Refusal((_stuck(channel),))
                if channel.io != "No":
                    steps.append(Step("stop fetching", say.stop(IO)))
                steps.append(Step("start fetching", say.start(IO)))
            steps.append(Step("set the delay", say.change(wanted), needs_io=True))
        steps.append(Step("start", say.start(BOTH if fetching and channel.io == "No" else SQL)))
    if facts and facts.persisted and state.stays_stopped:
        steps.append(Step("start again after a restart", f"RESET PERSIST {_skip_variable(state)}"))
    if state.mariadb and facts and facts.gtid and (steps or not channel.gtid):
        notes.append(talk(state).back_to_gtid())
    return Plan(tuple(steps), tuple(notes))


def by_hand(state: State, target: Transaction | None) -> list[str]:
    """For a person: how to skip the target or to promote this server, and what that may cost."""
    say = talk(state)
    lines: list[str] = []
    if target is not None:
        if target.gtid and not state.mariadb and state.channel.gtid:
            skip = [f"SET GTID_NEXT='{target.gtid}'", "BEGIN", "COMMIT", "SET GTID_NEXT='AUTOMATIC'"]
        else:
            skip = [say.stop(), say.change(HELD_S, target.end), say.start(IO)]
        lines.append(
            f"To skip {target.gtid or target.source}: {'; '.join(skip)}; then resume. What comes after it may fail:"
            " 1062 after a TRUNCATE (the source gave ids out again), 1050 for a table that was made anew"
        )
    lines.append(
        f"To promote this server: {say.stop()}; RESET {say.replica}{say.before} ALL{say.behind};"
        " SET GLOBAL read_only=0. RESET throws away all that waits here: apply what is wanted first. Fence the old"
        " source: it has the mistake and all since"
    )
    return lines
