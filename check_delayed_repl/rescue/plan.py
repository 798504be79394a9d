"""Which statements bring a rescue on, from where the server stands: pure, so that every case can be tried.

A plan never holds a statement that throws away what waits in the relay log. CHANGE does that where both threads are
stopped, unless it names a place in the relay log (MariaDB, MySQL 5.6) or the IO thread runs (newer MySQL). MariaDB with
GTIDs does it at START after both were stopped; naming a place turns GTIDs off for the channel, and it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from check_delayed_repl.observe.dialect import Dialect, quoted
from check_delayed_repl.records import HELD_S
from check_delayed_repl.rescue.record import Facts
from check_delayed_repl.rescue.relaylog import Place, Transaction
from check_delayed_repl.rescue.standing import (
    FREEZE,
    GRANTS,
    SEE,
    Next,
    executed,
    forgotten,
    other_delay,
    passed,
    skipped_or_lost,
)
from check_delayed_repl.rescue.state import Channel, State, in_variables

KILLED = 1317
"""The error that an applier stops with when it is killed, as freeze does."""
SQL, IO, BOTH = "SQL_THREAD", "IO_THREAD", ""
STOP_BOTH = "stop both"
STAY_STOPPED = "stay stopped after a restart"
"""The step that only a resume takes back."""
TAKE_BACK = "start again after a restart"


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


class Refusal(Exception):
    """There is no safe plan, for a reason in one line; `then` comes next."""

    def __init__(self, reason: str, then: Next = SEE) -> None:
        super().__init__(reason)
        self.then = then


@dataclass
class Waiting:
    """What a scan of the relay log has found for a target."""

    first: Transaction | None = None
    """The oldest that has not been applied."""
    target: Transaction | None = None
    matches: int = 0
    """How many transactions are named so, or fit what is looked for."""
    applied: bool = False
    """The target has been applied."""
    beyond: bool = False
    """Parallel appliers have applied something behind the target already."""
    gap: str = ""
    """What has been applied behind the oldest that waits."""
    passes: str = ""
    """An earlier forward's target, which waits before this one."""
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
    tables: set[str] = field(default_factory=set)
    """What all that waits is about."""
    broken: str = ""
    """Why not all of it could be read."""


def gaps(say: Dialect) -> str:
    """What to do about a gap, in place of the server's own words, which are to consider RESET."""
    return (
        "parallel appliers have left a gap: what waits behind the oldest may have been applied already. Never RESET: it"
        " throws away ALL that waits. First see whether the mistake is the oldest: then copy its table now, as it is"
        " here. Else fill the gap, wait until the SQL thread has stopped, and do this again:"
        f" START {say.replica} SQL_THREAD UNTIL SQL_AFTER_MTS_GAPS{say.behind}"
    )


def take_back(say: Dialect) -> str:
    """Lets replication start after a restart again."""
    return f"RESET PERSIST IF EXISTS skip_{in_variables(say.numbers)}_start"


def missing(state: State) -> list[str]:
    """The rights that acting needs and the account has not."""
    if state.mariadb:
        return state.lacks("REPLICATION SLAVE ADMIN", "SLAVE MONITOR")
    admin = "REPLICATION_SLAVE_ADMIN" if state.say.numbers >= (8, 0, 0) else "SUPER"
    return state.lacks("REPLICATION SLAVE", "REPLICATION CLIENT", admin)


def pending(state: State) -> str:
    """The SQL error that must be mended first; empty where there is none."""
    channel = state.channel
    if channel.sql_errno in (0, KILLED):
        return ""
    return f"an SQL error is pending (error {channel.sql_errno}): {channel.sql_error}"


def _take_away(state: State, first: Transaction | None) -> str:
    """What makes a stopped server forget its SQL error, and applies nothing: a start that ends at once, and so does not
    begin fetching anew; where that would, CHANGE."""
    channel, place = state.channel, first.relay if first else state.channel.relay
    if state.mariadb and channel.gtid and channel.io == "No":
        return state.say.change(channel.delay, place)
    return state.say.start(SQL, place)


def _check(state: State, first: Transaction | None, then: Next, repeated: bool = False) -> None:
    """No plan without the rights for it, or while an SQL error is pending. `repeated`: one that comes of what has been
    applied before, as after a crash, is none."""
    if lacking := missing(state):
        raise Refusal(f"the account lacks {', '.join(lacking)}", GRANTS)
    if (error := pending(state)) and not repeated:
        more = f"once that is mended, this takes the error away, and applies nothing: {_take_away(state, first)}"
        raise Refusal(f"{error}; {more}", then)


def _refuse_to_pass_over(state: State, first: Transaction | None, gap: str) -> None:
    """Wherever it goes on, MariaDB passes over all up to what it remembers: of another server, that may be what has not
    been applied."""
    if gap and first and state.restarted:
        raise Refusal(
            f"the server was restarted, and has forgotten that {gap}, behind {first.name}, has been applied: it would"
            " be applied twice. Only where the source still has its binary logs since, as this throws away what waits"
            f" here and fetches anew, by GTID, what has not been applied: {state.say.start(IO)}; then do this again"
        )
    if state.put_back and first and first.gtid and state.changes_server_at(first.gtid):
        raise Refusal(
            f"{first.gtid} is of another server than the last one applied, and MariaDB could pass over it: let the SQL"
            " thread apply it, then freeze again"
        )


class _Steps:
    """Puts a plan together: `delay` and `place` are those that the steps so far have set."""

    def __init__(self, state: State, end: Place | None) -> None:
        self.found: list[Step] = []
        self._channel, self._say, self._pins = state.channel, state.say, state.pins
        # By GTID, a MariaDB that is killed may have forgotten what it had fetched: once it goes on by a place in the
        # relay log, it dies of a source's log without a name.
        self._fetched = end if state.mariadb and not state.channel.fetched.file else None
        self._now: tuple[int, Place | None] = (
            self._channel.delay,
            self._channel.relay if self._pins and not self._channel.gtid else None,
        )

    def add(self, name: str, sql: str, needs_io: bool = False, until: Transaction | None = None) -> None:
        self.found.append(Step(name, sql, needs_io, until))

    def prepare(self) -> None:
        """Lets stand still what must before the delay is set, and run what must."""
        channel, say = self._channel, self._say
        if self._pins:
            if channel.sql != "No" or channel.io != "No":
                self.add(STOP_BOTH, say.stop())
            return
        if channel.sql != "No":
            self.add("stop applier", say.stop(SQL))
        if not channel.io_lives:
            if channel.io != "No":
                # It is about to give up: begun anew, it has all its tries before it.
                self.add("stop fetching", say.stop(IO))
            self.add("start fetching", say.start(IO))

    def delay(self, name: str, seconds: int, place: Place | None) -> None:
        """Sets the delay, with the place where the relay log goes on where this server must be told it."""
        wanted = (seconds, place if self._pins else None)
        if wanted != self._now:
            sql = self._say.change(seconds, wanted[1], self._channel.gtid, self._fetched)
            self.add(name, sql, needs_io=not self._pins)
        self._now = wanted

    def roll(self, stop: Transaction) -> None:
        self.add("roll", self._say.start(SQL, stop.relay), until=stop)


def hold(state: State) -> Plan:
    """Behind a freeze: the delay that nothing comes through, where it is safe to set it at once; else Refusal."""
    channel = state.channel
    if state.held:
        return Plan()
    if state.pins:
        raise Refusal("this server can set its delay only with both threads stopped: forward does it")
    if channel.sql != "No" or not channel.io_lives:
        what = "the SQL thread runs" if channel.sql != "No" else "the IO thread does not run, or is about to give up"
        raise Refusal(f"{what}: to set the delay now could throw the relay log away")
    return Plan((Step("hold", state.say.change(HELD_S), needs_io=True),))


def forward(state: State, facts: Facts | None, name: str, found: Waiting) -> Plan:
    """Applies everything before the target, and ends held in front of it. Raises Refusal."""
    channel, target = state.channel, found.target
    if found.applied or (target is None and executed(state, name, found.first)):
        raise Refusal(f"too late: {name} has been applied here, or skipped by hand")
    if target is None:
        why = found.broken or "it is not fetched yet, or there is no such transaction"
        raise Refusal(f"{name} does not wait in the relay log: {why}")
    there = found.first is not None and found.first.relay == target.relay
    if there and state.held and found.matches > 1:
        return Plan()
    if found.matches > 1:
        raise Refusal(f"{name} is not unique: {found.matches} transactions in the relay log are named so")
    if not target.whole:
        raise Refusal(f"{name} is not whole: its end has not been fetched")
    if found.beyond:
        raise Refusal(f"parallel appliers have applied transactions behind {name}: the gap cannot be filled exactly")
    if state.ahead and target.source.order < state.ahead.order:
        raise Refusal(gaps(state.say))
    if found.passes:
        raise Refusal(f"{found.passes}, the target so far, waits before {name} and would be applied: skip it first")
    if channel.sql != "No" and not state.held:
        if channel.until and channel.until.order <= target.relay.order:
            return Plan(join=True)
        raise Refusal(f"the SQL thread runs again, and {name} has not been applied yet", FREEZE)
    then = Next("after that", ("forward", name, "--execute"))
    _check(state, found.first, then, bool(found.repeated and facts and facts.phase == "forwarding"))
    assert found.first is not None
    _refuse_to_pass_over(state, found.first, found.gap)
    return _forward(state, facts, found, found.first, target)


def stay(state: State, facts: Facts | None, first: Transaction) -> Plan:
    """Holds the server where it stands, in front of the oldest that waits, as a forward to there would."""
    return _forward(state, facts, Waiting(first=first), first, first)


def _forward(state: State, facts: Facts | None, found: Waiting, first: Transaction, target: Transaction) -> Plan:
    channel, steps, notes = state.channel, _Steps(state, found.end), list[str]()
    fetching = state.pins and (facts.fetching if facts else channel.io != "No")
    if state.stuck:
        fetching = False
        notes.append(f"the IO thread stays stopped, as it is by error {channel.io_errno}: {channel.io_error}")
    if fetching and (twice := _fetches_twice(channel, found.end)):
        fetching = False
        notes.append(twice)
    there = first.relay == target.relay
    if not (there and state.held):
        steps.prepare()
        if not there:
            safe = bool(state.stays_stopped)
            if not safe and state.may_persist:
                steps.add(STAY_STOPPED, f"SET PERSIST_ONLY skip_{in_variables(state.say.numbers)}_start = ON")
                safe = True
            if not safe:
                notes.append(_risk(found))
            place = first.relay
            if not safe and found.cut is not None:
                # A delay that still holds the target, as far as that gets: a restart meanwhile does not apply it.
                steps.delay("set the delay", found.cut_delay, place)
                steps.roll(found.cut)
                place = found.cut.relay
            steps.delay("set the delay", 0, place)
            steps.roll(target)
        steps.delay("hold", HELD_S, target.relay)
    if fetching and (steps.found or channel.io == "No"):
        steps.add("start fetching", state.say.start(IO))
    if state.pins and channel.gtid:
        notes.append("the channel leaves GTIDs for file and position: the relay log is kept that way")
    return Plan(tuple(steps.found), tuple(notes))


def _risk(found: Waiting) -> str:
    risk = "a restart of the server while it rolls forward would apply the target, unless its option file has"
    if found.cut is not None:
        return f"{risk} skip-slave-start; a first pass with a delay of {found.cut_delay} s still holds the target"
    return f"{risk} skip-slave-start (it cannot be asked for that)"


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
    state: State,
    facts: Facts | None,
    first: Transaction | None,
    delay: int | None,
    end: Place | None = None,
    gap: str = "",
    beside: Sequence[str] = (),
) -> Plan:
    """Replication goes on with the delay that there was before: `delay`, or the recorded one; `beside` are other
    channels whose rescues go on. Raises Refusal.
    """
    channel, steps, notes = state.channel, _Steps(state, end), list[str]()
    wanted = delay if delay is not None else facts.delay if facts else None
    if wanted is None:
        raise Refusal("there is no record of the delay that was set before: say it with --delay TIME")
    if channel.until:
        raise Refusal("a forward is on its way: wait for it, or freeze")
    _check(state, first, Next("after that", ("resume", "--execute")))
    if lost := forgotten(state, facts, first):
        raise Refusal(lost)
    behind = passed(state, facts, first)
    if facts and behind and channel.relay.pos == 4 and skipped_or_lost(state, facts, first):
        raise Refusal(behind)
    fetching = facts.fetching if facts else True
    if state.pins and fetching and (twice := _fetches_twice(channel, end)):
        fetching = False
        notes.append(twice)
    if channel.sql == "No" or channel.delay != wanted:
        change = channel.delay != wanted or (state.pins and channel.io == "No" and channel.gtid)
        if change:
            _refuse_to_pass_over(state, first, gap)
            steps.prepare()
            # What RESET has left empty holds nothing that a place could keep.
            steps.delay(
                "set the delay", wanted, first.relay if first else channel.relay if channel.fetched.file else None
            )
        both = fetching and (channel.io == "No" or (change and state.pins))
        steps.add("start", state.say.start(BOTH if both else SQL))
    if facts and facts.persisted and state.stays_stopped and beside:
        names = ", ".join(map(repr, beside))
        notes.append(f"after a restart replication stays stopped until the rescue of channel {names} is over")
    elif facts and facts.persisted and state.stays_stopped:
        steps.add(TAKE_BACK, take_back(state.say))
    placed = any(step.name == "set the delay" for step in steps.found)
    by_gtid = channel.gtid or (facts is not None and facts.gtid)
    if by_gtid and state.pins and (placed or not channel.gtid) and channel.fetched.file:
        notes.append(state.say.back_to_gtid())
    notes += filter(None, (behind, "" if delay is not None else other_delay(state, facts)))
    return Plan(tuple(steps.found), tuple(notes))
