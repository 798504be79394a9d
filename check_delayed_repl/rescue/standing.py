"""Where a rescue stands, by the server and not by its record, and what comes next. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from check_delayed_repl.records import HELD_S
from check_delayed_repl.rescue.record import Facts
from check_delayed_repl.rescue.relaylog import Place, Transaction
from check_delayed_repl.rescue.state import State


class Next(NamedTuple):
    """The one safe next step."""

    text: str
    command: tuple[str, ...]
    """The action of a rescue, or another command, and what follows it."""


SEE = Next("see where it stands", ("status",))
FREEZE = Next("stop it again at once", ("freeze",))
FIND = Next("find the mistake in what waits", ("find",))
GRANTS = Next("as an administrator, run what this prints", ("grants", "--for", "rescue"))


def phase(state: State, facts: Facts | None, first: Transaction | None) -> str:
    """normal, frozen, forwarding, forwarded or resumed; `first` is the oldest transaction that waits."""
    begun = facts is not None and facts.phase in ("forwarding", "forwarded")
    there = bool(facts and facts.target and first and first.named(facts.target))
    if state.channel.sql != "No":
        if state.channel.until:
            return "forwarding"
        if state.held:
            return "forwarded" if there and begun else "frozen"
        return "resumed" if facts and facts.phase == "resumed" else "normal"
    if begun and there:
        return "forwarded"
    return "forwarding" if begun and first and not passed(state, facts, first) else "frozen"


def passed(state: State, facts: Facts | None, first: Transaction | None) -> str:
    """How it may be that the server stands behind the target; empty where it does not."""
    if facts is None or facts.target is None or (first and first.named(facts.target)):
        return ""
    target = facts.target
    if not executed(state, target, first, facts.target_place):
        return ""
    if not skipped_or_lost(state, facts, first):
        return f"the server stands behind {target}: it has been applied here, or skipped by hand"
    return (
        f"{target} has NOT been applied here: it was skipped by hand, or a CHANGE by hand has thrown away all that"
        f" waited. If that, set the place again before anything is started: {_place_again(state, facts)}"
    )


def skipped_or_lost(state: State, facts: Facts, first: Transaction | None) -> bool:
    """MariaDB jumps to the end of what was fetched where CHANGE sets the delay and no place; what it has applied by
    GTID, where its binary log has that, tells."""
    target = facts.target
    return bool(
        target and first is None and state.mariadb and state.executed.knows(target) and not state.executed.has(target)
    )


def _place_again(state: State, facts: Facts) -> str:
    file, _, pos = (facts.place or ":0").rpartition(":")
    return state.say.go_on_at(file, int(pos))


def executed(state: State, name: str, first: Transaction | None, at: str | None = None) -> bool:
    """Whether a target that does not wait has been applied before. `at` is its place in the source's binary log."""
    channel = state.channel
    if "." not in name and not (at and state.mariadb):
        return state.executed.has(name) or state.slave_pos.has(name)
    file, _, pos = (at or name).rpartition(":")
    place = Place(file, int(pos))
    if first is not None:
        return place.order < first.source.order
    return place.order < (channel.fetched if state.mariadb else channel.applied).order


def forgotten(state: State, facts: Facts | None, first: Transaction | None) -> str:
    """Why nothing may be started where RESET has let the replica forget its place in the source's binary log.

    By GTID, a MariaDB that was killed may have forgotten it too, but not what waits. After RESET, it goes by
    gtid_slave_pos, which names what was *fetched* where it went by file and position before.
    """
    channel = state.channel
    by_gtid = facts is not None and facts.gtid and facts.phase == "frozen" if state.mariadb else channel.gtid
    if first or channel.fetched.file or by_gtid:
        return ""
    text = (
        "somebody has said RESET: the replica has forgotten its place in the source's binary log, and START would fetch"
        f" {'only what is new, and lose all that waited' if state.mariadb else 'everything from the beginning'}"
    )
    if facts is None or not facts.place:
        return f"{text}. Set the place by hand first"
    return (
        f"{text}. This rescue has applied everything before {facts.place}. If nothing was applied since, set that"
        f" first: {_place_again(state, facts)}"
    )


def overtaken(state: State) -> str:
    """How it may be that what waits has been applied all the same; empty where it does not."""
    if state.ahead is None:
        return ""
    if state.ahead.file:
        return (
            f"parallel appliers have got up to {state.ahead}, with a gap: what waits before that may have been applied"
            " already"
        )
    return (
        "parallel appliers may have applied already what waits, as after a crash: mysql.slave_worker_info, which would"
        " tell, cannot be read or is not used (relay_log_info_repository)"
    )


def differences(state: State, facts: Facts | None, first: Transaction | None) -> Iterator[str]:
    """Where the server is not what the record says, and how that may have come."""
    channel = state.channel
    if channel.sql_errno:
        yield f"the SQL thread stopped with error {channel.sql_errno}: {channel.sql_error}"
    if state.ahead and state.ahead.file:
        yield overtaken(state)
    if facts is None:
        return
    now = phase(state, facts, first)
    if facts.phase != now:
        yield f"the record says {facts.phase}, the server says {now}"
    if facts.phase == "resumed":
        return
    target = facts.target
    if behind := passed(state, facts, first):
        yield behind
    if channel.sql != "No" and not state.held and not channel.until:
        late = "" if target is None or behind else f": {target} has not been applied yet"
        yield f"the SQL thread runs: somebody has started it{late}"
    if first is None and not channel.fetched.file:
        yield forgotten(state, facts, first) or (
            "somebody has said RESET: what waited is no longer here, and is fetched again once the IO thread runs, if"
            " the source still has it"
        )
    elif first is None and facts.phase != "frozen" and not behind:
        yield f"{target} is not in the relay log: a CHANGE or RESET by hand has thrown away what waited"
    if not state.held and facts.phase == "forwarded":
        yield f"somebody has set the delay to {channel.delay} s: nothing holds {target or 'the target'}"
    elif other := other_delay(state, facts):
        yield other
    if state.held and facts.phase == "frozen" and facts.delay is None:
        yield "nobody knows what the delay was: resume needs --delay"


def other_delay(state: State, facts: Facts | None) -> str:
    """Where the delay is neither what the record says nor one that a rescue sets; else empty."""
    delay = state.channel.delay
    if facts is None or facts.delay in (None, delay) or state.held or facts.phase not in ("frozen", "forwarded"):
        return ""
    return (
        f"the delay was {facts.delay} s when this rescue began, and somebody has set it to {delay} s since:"
        " resume --delay says which is meant"
    )


def next_step(state: State, facts: Facts | None, first: Transaction | None) -> Next:
    """`facts` are those of a rescue that is not over."""
    now, target = phase(state, facts, first), facts.target if facts else None
    behind = passed(state, facts, first)
    if now in ("normal", "resumed"):
        if facts is None:
            return FREEZE._replace(text="nothing to do; on the bad day")
        if behind:
            return Next("restore the delay, and end the rescue", ("resume",))
        return FREEZE
    if forgotten(state, facts, first):
        return Next("set that place by hand; then", ("resume",))
    if facts and behind and skipped_or_lost(state, facts, first):
        return Next("set that place by hand, unless it was skipped; then", ("resume",))
    if behind or (first is None and not state.channel.fetched.file):
        return Next("let replication go on, which ends the rescue", ("resume",))
    if now == "frozen":
        return FIND if first else Next("nothing waits; let replication go on, which ends the rescue", ("resume",))
    if now == "forwarding" or not state.held:
        return Next("forward again: it goes on from here", ("forward", target or "TARGET", "--execute"))
    return Next("bring back what was lost, compare, merge; then", ("resume",))


_SKIP = (
    "To go on without {}, for good: what comes after it may fail (1062 after a TRUNCATE, whose ids the source has given"
    " out again; 1050 for a table that was made anew). Skip it, then resume"
)
_PROMOTE = (
    "To promote this server, where the source is lost: RESET throws away ALL that still waits here, for good. Skip the"
    " target and resume first, unless nothing behind it is wanted. Fence the old source: it has the mistake and all"
    " since. Take the dashes away to run it"
)


def by_hand(state: State, facts: Facts | None, first: Transaction | None) -> Iterator[tuple[str, list[str]]]:
    """How to skip the target, and how to promote this server, only where either makes sense: the dangers, and the
    statements for a person to run with a client."""
    if facts is None or state.channel.sql != "No":
        return
    say, forwarded = state.say, phase(state, facts, first) == "forwarded"
    if forwarded and first is not None and not first.announces:
        if first.gtid and not state.mariadb and state.channel.gtid:
            skip = [f"SET GTID_NEXT='{first.gtid}'", "BEGIN", "COMMIT", "SET GTID_NEXT='AUTOMATIC'"]
        else:
            skip = [say.stop(), say.change(HELD_S, first.end), say.start("IO_THREAD")]
        yield _SKIP.format(first.name), skip
    if forwarded or (first is None and state.channel.fetched.file and not skipped_or_lost(state, facts, first)):
        reset = f"RESET {say.replica}{say.before} ALL{say.behind}"
        yield _PROMOTE, [f"-- {one}" for one in (say.stop(), reset, "SET GLOBAL read_only = 0")]
