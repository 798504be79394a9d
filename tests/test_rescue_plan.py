"""Statements for every server, mode and phase; and nothing where a statement would lose what waits."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rescue_builders import UUID, channel, facts, state, transaction

from check_delayed_repl.history import open_history
from check_delayed_repl.observe.connection import Answer
from check_delayed_repl.observe.dialect import Dialect
from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.records import HELD_S, Sample
from check_delayed_repl.rescue import base, run
from check_delayed_repl.rescue.base import Action
from check_delayed_repl.rescue.find import Found, Listing, Moment, Scan
from check_delayed_repl.rescue.plan import Plan, Refusal, Step, Waiting, forward, hold, resume, stay
from check_delayed_repl.rescue.ready import checks
from check_delayed_repl.rescue.record import Facts, Record, RecordError
from check_delayed_repl.rescue.relaylog import Place, Row
from check_delayed_repl.rescue.report import Report, Voice
from check_delayed_repl.rescue.run import Failed, Runner, Stopped
from check_delayed_repl.rescue.standing import by_hand, differences, next_step, overtaken, phase
from check_delayed_repl.rescue.state import Gtids, Session, State, read
from check_delayed_repl.rescue.tables import access, called, here

MYSQL, MARIADB, OLD = "9.7.4", "10.11.6-MariaDB-log", "5.6.24"
UNTIL = "UNTIL RELAY_LOG_FILE = 'relay.000002', RELAY_LOG_POS = 900"
PLACE = "RELAY_LOG_FILE = 'relay.000002', RELAY_LOG_POS"
PERSIST = "SET PERSIST_ONLY skip_replica_start = ON"
CHANGE = "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = "


def waiting(server: State, **changes: object) -> Waiting:
    """Number 9 is the target, and 5 the oldest that waits."""
    usual = Waiting(first=transaction(5), target=transaction(9), matches=1, transactions=4, size=400)
    return replace(usual, **changes)  # type: ignore[arg-type]


def statements(planned: Plan) -> list[str]:
    return [step.sql for step in planned.steps]


FORWARD = [
    pytest.param(
        state(MYSQL), facts(), {},
        [PERSIST, f"{CHANGE}0", f"START REPLICA SQL_THREAD {UNTIL}", f"{CHANGE}{HELD_S}"],
        id="mysql",
    ),
    pytest.param(
        state(MYSQL, io="No"), facts(), {},
        ["START REPLICA IO_THREAD", PERSIST, f"{CHANGE}0", f"START REPLICA SQL_THREAD {UNTIL}", f"{CHANGE}{HELD_S}"],
        id="mysql: the IO thread is started, or CHANGE would purge",
    ),
    pytest.param(
        state(MYSQL, io="Connecting", tries_left=1), facts(), {},
        ["STOP REPLICA IO_THREAD", "START REPLICA IO_THREAD", PERSIST, f"{CHANGE}0",
         f"START REPLICA SQL_THREAD {UNTIL}", f"{CHANGE}{HELD_S}"],
        id="mysql: an IO thread that is about to give up gets its tries again",
    ),
    pytest.param(
        state(MYSQL, io="No", io_errno=13114, io_error="purged"), facts(), {},
        [PERSIST, f"{CHANGE}0, {PLACE} = 500, SOURCE_AUTO_POSITION = 0", f"START REPLICA SQL_THREAD {UNTIL}",
         f"{CHANGE}{HELD_S}, {PLACE} = 900, SOURCE_AUTO_POSITION = 0"],
        id="mysql: an IO thread that its source has nothing for any more, and the place keeps the relay log",
    ),
    pytest.param(
        state(MYSQL, delay=0)._replace(stays_stopped=True), facts(phase="forwarding", target="x"), {},
        [f"START REPLICA SQL_THREAD {UNTIL}", f"{CHANGE}{HELD_S}"],
        id="mysql: begun before",
    ),
    pytest.param(
        state(MYSQL, sql="Yes", delay=HELD_S), facts(), {},
        ["STOP REPLICA SQL_THREAD", PERSIST, f"{CHANGE}0", f"START REPLICA SQL_THREAD {UNTIL}", f"{CHANGE}{HELD_S}"],
        id="mysql: restarted while held",
    ),
    pytest.param(
        state("5.7.44"), facts(), {"cut": transaction(7), "cut_delay": 3000},
        ["CHANGE MASTER TO MASTER_DELAY = 3000", f"START SLAVE SQL_THREAD UNTIL {PLACE} = 700",
         "CHANGE MASTER TO MASTER_DELAY = 0", f"START SLAVE SQL_THREAD {UNTIL}",
         f"CHANGE MASTER TO MASTER_DELAY = {HELD_S}"],
        id="mysql 5.7: cannot be kept from starting, so a delay holds the target first",
    ),
    pytest.param(
        state(MARIADB), facts(), {},
        ["STOP SLAVE", f"CHANGE MASTER TO MASTER_DELAY = 0, {PLACE} = 500", f"START SLAVE SQL_THREAD {UNTIL}",
         f"CHANGE MASTER TO MASTER_DELAY = {HELD_S}, {PLACE} = 900", "START SLAVE IO_THREAD"],
        id="mariadb",
    ),
    pytest.param(
        state(MARIADB), facts(fetching=False), {"cut": transaction(7), "cut_delay": 3000},
        ["STOP SLAVE", f"CHANGE MASTER TO MASTER_DELAY = 3000, {PLACE} = 500",
         f"START SLAVE SQL_THREAD UNTIL {PLACE} = 700",
         f"CHANGE MASTER TO MASTER_DELAY = 0, {PLACE} = 700", f"START SLAVE SQL_THREAD {UNTIL}",
         f"CHANGE MASTER TO MASTER_DELAY = {HELD_S}, {PLACE} = 900"],
        id="mariadb: a delay that holds the target first; the IO thread was stopped before",
    ),
    pytest.param(
        state(MARIADB, name="o'n", io="No", gtid=False), facts(), {"target": transaction(5)},
        [f"CHANGE MASTER 'o''n' TO MASTER_DELAY = {HELD_S}, {PLACE} = 500", "START SLAVE 'o''n' IO_THREAD"],
        id="mariadb: there, and not held; a named connection",
    ),
    pytest.param(
        state(MARIADB, sql_errno=1062, io="No", gtid=False, delay=0), facts(phase="forwarding"), {"repeated": True},
        [f"CHANGE MASTER TO MASTER_DELAY = 0, {PLACE} = 500", f"START SLAVE SQL_THREAD {UNTIL}",
         f"CHANGE MASTER TO MASTER_DELAY = {HELD_S}, {PLACE} = 900", "START SLAVE IO_THREAD"],
        id="mariadb: crashed in the forward, its place is behind what it has applied",
    ),
    pytest.param(
        state(MARIADB, io="No", fetched=Place("bin.000001", 800)), facts(), {"end": Place("bin.000001", 1200)},
        [f"CHANGE MASTER TO MASTER_DELAY = 0, {PLACE} = 500", f"START SLAVE SQL_THREAD {UNTIL}",
         f"CHANGE MASTER TO MASTER_DELAY = {HELD_S}, {PLACE} = 900"],
        id="mariadb: an IO thread that would fetch twice is not started",
    ),
    pytest.param(
        state(OLD), facts(), {},
        ["STOP SLAVE", f"CHANGE MASTER TO MASTER_DELAY = 0, {PLACE} = 500, MASTER_AUTO_POSITION = 0",
         f"START SLAVE SQL_THREAD {UNTIL}",
         f"CHANGE MASTER TO MASTER_DELAY = {HELD_S}, {PLACE} = 900, MASTER_AUTO_POSITION = 0", "START SLAVE IO_THREAD"],
        id="mysql 5.6",
    ),
    pytest.param(
        state(MYSQL, name="c1", delay=HELD_S), facts(), {"target": transaction(5)}, [], id="there, and held"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("server", "record", "changes", "expected"), FORWARD)
def test_forward(server: State, record: Facts, changes: dict[str, object], expected: list[str]) -> None:
    assert statements(forward(server, record, "x", waiting(server, **changes))) == expected


@pytest.mark.parametrize(
    ("server", "changes", "reason"),
    [
        (state(), {"target": None, "matches": 0}, "does not wait"),
        (state(), {"target": None, "applied": True}, "too late"),
        (state(), {"matches": 2}, "not unique"),
        (state(), {"target": replace(transaction(9), whole=False)}, "not whole"),
        (state(), {"beyond": True}, "cannot be filled"),
        (state(sql="Yes"), {}, "the SQL thread runs again, and x has not been applied"),
        (state(MARIADB, sql="Yes"), {"target": transaction(5)}, "the SQL thread runs"),
        (state(sql_errno=1062, sql_error="Duplicate"), {}, "error 1062"),
        (state(MARIADB, sql_errno=1062), {"repeated": True}, "error 1062"),
        (state()._replace(rights=frozenset({"REPLICATION CLIENT"})), {}, "lacks REPLICATION SLAVE"),
        (state(), {"passes": "0-1-7"}, "0-1-7, the target so far, waits before x"),
    ],
)  # fmt: skip
def test_forward_refuses(server: State, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        forward(server, facts(), "x", waiting(server, **changes))


@pytest.mark.parametrize(
    ("name", "late"),
    [("bin.000001:400", True), ("bin.000001:950", False), ("bin.000002:4", False)]
    + [(f"a45875fe-e914-11f1-913a-0242ac1a0002:{number}", number < 5) for number in (3, 77)],
)
def test_what_does_not_wait_has_been_applied_or_is_not_there(name: str, late: bool) -> None:
    with pytest.raises(Refusal, match="too late" if late else "does not wait"):
        forward(state(), facts(), name, waiting(state(), target=None, matches=0))


def test_the_channel_without_a_name_is_named_where_there_are_others() -> None:
    """MySQL would mean all of them, or refuse."""
    server = state(MYSQL, alone=False)
    every = [*statements(forward(server, facts(), "T", waiting(server))), *statements(resume(server, facts(), None, 1))]
    assert all(one.endswith(" FOR CHANNEL ''") for one in every if not one.startswith("SET PERSIST")), every
    assert not any("CHANNEL" in one for one in statements(forward(state(MYSQL), facts(), "T", waiting(server))))


def test_a_forward_on_its_way_is_joined() -> None:
    server = state(sql="Yes", until=Place("relay.000002", 900), delay=0)
    assert forward(server, facts(phase="forwarding"), "x", waiting(server)) == Plan(join=True)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (state(), [f"{CHANGE}{HELD_S}"]),
        (state(io="Connecting", tries_left=8), [f"{CHANGE}{HELD_S}"]),
        (state(delay=HELD_S), []),
        (state(io="No"), None),
        (state(io="Connecting", tries_left=1), None),
        (state(sql="Yes"), None),
        (state(MARIADB), None),
        (state(OLD), None),
    ],
)
def test_hold_only_where_nothing_can_be_lost(server: State, expected: list[str] | None) -> None:
    with pytest.raises(Refusal) if expected is None else nullcontext():
        assert statements(hold(server)) == expected


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (state(MYSQL, delay=0), [f"{CHANGE}{HELD_S}"]),
        (state(MARIADB, delay=0, gtid=False),
         ["STOP SLAVE", f"CHANGE MASTER TO MASTER_DELAY = {HELD_S}, {PLACE} = 500", "START SLAVE IO_THREAD"]),
        (state(MARIADB, delay=HELD_S, gtid=False), []),
    ],
)  # fmt: skip
def test_what_failed_halfway_is_held_in_front_of_the_oldest(server: State, expected: list[str]) -> None:
    assert statements(stay(server, facts(phase="forwarding"), transaction(5))) == expected


@pytest.mark.parametrize(
    ("server", "record", "delay", "expected"),
    [
        (state(), facts(), None, ["START REPLICA SQL_THREAD"]),
        (state(delay=HELD_S), facts(), None, [f"{CHANGE}7200", "START REPLICA SQL_THREAD"]),
        (state(delay=HELD_S, sql="Yes"), facts(), None,
         ["STOP REPLICA SQL_THREAD", f"{CHANGE}7200", "START REPLICA SQL_THREAD"]),
        (state(delay=HELD_S, io="No")._replace(stays_stopped=True), facts(persisted=True), 60,
         ["START REPLICA IO_THREAD", f"{CHANGE}60", "START REPLICA", "RESET PERSIST IF EXISTS skip_replica_start"]),
        (state(MARIADB), facts(), None, ["START SLAVE SQL_THREAD"]),
        (state(MARIADB, io="No"), facts(), None,
         [f"CHANGE MASTER TO MASTER_DELAY = 7200, {PLACE} = 500", "START SLAVE"]),
        (state(MARIADB, delay=HELD_S, gtid=False), facts(), None,
         ["STOP SLAVE", f"CHANGE MASTER TO MASTER_DELAY = 7200, {PLACE} = 500", "START SLAVE"]),
        (state(delay=HELD_S), None, None, None),
        (state(delay=HELD_S), None, 60, [f"{CHANGE}60", "START REPLICA SQL_THREAD"]),
        (state(sql_errno=1062), facts(), None, None),
        (state(sql_errno=1317), facts(), None, ["START REPLICA SQL_THREAD"]),
        (state(delay=HELD_S, io="No", io_errno=1236), facts(), None,
         [f"{CHANGE}7200, {PLACE} = 500, SOURCE_AUTO_POSITION = 0", "START REPLICA"]),
    ],
)  # fmt: skip
def test_resume(server: State, record: Facts | None, delay: int | None, expected: list[str] | None) -> None:
    with pytest.raises(Refusal) if expected is None else nullcontext():
        assert statements(resume(server, record, transaction(5), delay)) == expected


def test_no_plan_holds_a_change_that_purges() -> None:
    """Without a place in the relay log, CHANGE needs the IO thread; with one, both threads are stopped before."""
    for version in (MYSQL, "8.0.22", "5.7.44", OLD, MARIADB, "11.8.2-MariaDB"):
        for io in ("Yes", "No", "Connecting"):
            server = state(version, io=io)
            for planned in (
                forward(server, facts(), "x", waiting(server)),
                resume(server, facts(delay=60), transaction(5), None),
            ):
                stopped = io == "No"
                for step in planned.steps:
                    if step.sql.startswith("CHANGE"):
                        assert step.needs_io or (stopped and "RELAY_LOG_POS" in step.sql), step
                    stopped = (stopped or step.sql == "STOP SLAVE") and not step.sql.endswith("IO_THREAD")


@pytest.mark.parametrize(
    ("server", "record", "expected"),
    [
        (state(sql="Yes"), None, "normal"),
        (state(sql="Yes"), facts(phase="frozen"), "normal"),
        (state(sql="Yes"), facts(phase="resumed"), "resumed"),
        (state(sql="Yes", delay=HELD_S), facts(phase="frozen"), "frozen"),
        (state(sql="Yes", until=Place("relay.000002", 900)), facts(phase="forwarding"), "forwarding"),
        (state(), None, "frozen"),
        (state(), facts(phase="resumed"), "frozen"),
        (state(), facts(phase="forwarding", target="bin.000001:900"), "forwarding"),
        (state(), facts(phase="forwarding", target="bin.000001:500"), "forwarded"),
        (state(delay=HELD_S, sql="Yes"), facts(phase="forwarded", target="bin.000001:500"), "forwarded"),
    ],
)
def test_the_phase_is_the_servers(server: State, record: Facts | None, expected: str) -> None:
    assert phase(server, record, transaction(5)) == expected


ROLLED = {"phase": "forwarded", "target": "bin.000001:400", "target_place": "bin.000001:400", "place": "bin.000001:400"}
RESET = {"fetched": Place("", 4), "applied": Place("", 0), "relay": Place("", 4)}


@pytest.mark.parametrize(
    ("server", "record", "oldest", "now", "said", "step"),
    [
        (state(delay=HELD_S), facts(**ROLLED | {"target": "bin.000001:500"}), 5, "forwarded", None, ("resume",)),
        (state(delay=HELD_S), facts(**ROLLED), 5, "frozen", "applied here, or skipped by hand", ("resume",)),
        (state(MARIADB, delay=HELD_S), facts(**ROLLED), None, "frozen", "applied here, or skipped", ("resume",)),
        (state(MARIADB, delay=3), facts(**ROLLED | {"target": "0-1-5"}), None, "frozen",
         "has NOT been applied here", ("resume",)),
        (state(sql="Yes", delay=0), facts(**ROLLED), 5, "normal", "somebody has started it", ("resume",)),
        (state(sql="Yes"), facts(), 5, "normal", "somebody has started it", ("freeze",)),
        (state(delay=60), facts(**ROLLED | {"target": "bin.000001:500"}), 5, "forwarded", "set the delay to 60 s",
         ("forward", "bin.000001:500", "--execute")),
        (state(delay=0, **RESET), facts(), None, "frozen", "is fetched again", ("resume",)),
        (state(delay=0, gtid=False, **RESET), facts(**ROLLED), None, "frozen",
         "SOURCE_LOG_FILE = 'bin.000001', SOURCE_LOG_POS = 400", ("resume",)),
        (state(), facts(**ROLLED | {"target": f"{UUID}:9", "target_place": "bin.000001:900"}), None, "frozen",
         "thrown away what waited", ("resume",)),
        (state(), facts(), 5, "frozen", None, ("find",)),
        (state(sql="Yes"), None, 5, "normal", None, ("freeze",)),
    ],
)  # fmt: skip
def test_what_somebody_did_by_hand_is_said_and_there_is_a_way_out(
    server: State, record: Facts | None, oldest: int | None, now: str, said: str | None, step: tuple[str, ...]
) -> None:
    first = transaction(oldest) if oldest else None
    assert phase(server, record, first) == now
    told = "; ".join(differences(server, record, first))
    assert (said or "") in told
    assert told or said is None
    assert next_step(server, record, first).command == step
    if step == ("resume",) and server.channel.fetched.file:
        resume(server, record, first, None)  # and refuses nothing


def test_a_delay_that_somebody_has_set_since_is_told() -> None:
    said = "the delay was 7200 s when this rescue began, and somebody has set it to 60 s since"
    for version in (MYSQL, MARIADB):
        for sql in ("Yes", "No"):
            now = state(version, sql=sql, delay=60)
            assert any(said in note for note in resume(now, facts(), transaction(5), None).notes)
            assert not any(said in note for note in resume(now, facts(), transaction(5), 60).notes)
            assert any(said in line for line in differences(now, facts(), transaction(5)))
        for delay, phase_of in ((7200, "frozen"), (HELD_S, "frozen"), (0, "forwarding")):
            now = state(version, delay=delay)
            notes = resume(now, facts(phase=phase_of), transaction(5), None).notes
            assert not any("somebody has set it" in note for note in notes)


def test_what_waited_and_was_thrown_away_is_not_passed_over() -> None:
    jumped = state(MARIADB, delay=3, gtid=False, relay=Place("relay.000001", 4))
    with pytest.raises(Refusal, match=r"CHANGE MASTER TO MASTER_LOG_FILE = 'bin\.000001', MASTER_LOG_POS = 400"):
        resume(jumped, facts(**ROLLED | {"target": "0-1-5"}), None, None)
    back = state(MARIADB, delay=3, gtid=False, relay=Place("relay.000001", 4), fetched=Place("bin.000001", 400))
    assert statements(resume(back, facts(**ROLLED | {"target": "0-1-5"}), None, None))[-1] == "START SLAVE"


@pytest.mark.parametrize("names", ["(app,shop),(x,y)", "x->y,app->shop"])
def test_names_of_databases_that_are_renamed(names: str) -> None:
    server = state(MYSQL, renamed=names)
    assert called(server, ["app.t", "shop.u", "other.v", "y.*"], here=True) == ["shop.t"]
    assert called(server, ["app.t", "shop.u", "other.v", "y.*"], here=False) == ["app.u", "x.*"]
    assert called(state(MYSQL), ["app.t"], here=True) == []


@pytest.mark.parametrize(("number", "there"), [(1146, "shop.t"), (1142, "shop.t"), (0, "app.t")])
def test_a_source_s_name_is_not_one_here_where_this_account_may_read_nothing(number: int, there: str) -> None:
    class Asked:
        connection = SimpleNamespace(open=True)

        def ask(self, sql: str, _: str) -> Answer:
            if number and sql.startswith("SELECT"):
                raise Refused(number, "refused")
            return Answer([], [])

    server = state(MARIADB, renamed="app->shop")
    assert here(cast("Session", Asked()), server, ["app.t", "shop.u"]) == [there, "shop.u"]


def test_what_a_killed_mariadb_has_forgotten() -> None:
    """By GTID: what it had fetched, of which it would die; and what it has applied behind the oldest that waits."""
    server = state(MARIADB, io="No", events=0, **RESET)
    assert server.channel.gtid
    first, target, end = transaction(5, mariadb=True), transaction(9, mariadb=True), Place("bin.000001", 9000)
    found = waiting(server, first=first, target=target, end=end, gap="1-1-9")
    rolled = statements(forward(server, facts(), "0-1-9", found))
    assert "MASTER_LOG_FILE = 'bin.000001', MASTER_LOG_POS = 9000, RELAY_LOG_FILE" in rolled[0]
    domains = server._replace(slave_pos=Gtids.of("0-1-4,1-1-9"))
    remembers = domains._replace(channel=domains.channel._replace(events=5))
    assert statements(forward(remembers, facts(), "0-1-9", found)) == rolled
    assert resume(remembers, facts(), first, 60, end, found.gap).steps
    why = r"1-1-9, behind 0-1-5, .*applied twice.*START SLAVE IO_THREAD"
    with pytest.raises(Refusal, match=why):
        forward(domains, facts(), "0-1-9", found)
    with pytest.raises(Refusal, match=why):
        resume(domains, facts(), first, 60, end, found.gap)


def test_what_reset_has_made_forget_its_place_is_not_started() -> None:
    for version in (MYSQL, MARIADB, OLD):
        with pytest.raises(Refusal, match=r"bin\.000001:400"):
            resume(state(version, gtid=False, delay=0, **RESET), facts(**ROLLED), None, None)
        if version == MARIADB:  # gtid_slave_pos names what was fetched
            with pytest.raises(Refusal, match=r"MASTER_USE_GTID = no\Z"):
                resume(state(version, gtid=True, delay=0, **RESET), facts(**ROLLED), None, None)
        again = resume(state(version, delay=0, io="No", **RESET), facts(), None, None)
        assert "RELAY_LOG" not in " ".join(statements(again)), "there is none"


def test_what_destroys_comes_after_its_danger_and_cannot_be_pasted_by_accident() -> None:
    rolled = facts(**ROLLED | {"target": "bin.000001:500"})
    for version in (MYSQL, MARIADB, OLD):
        for record, oldest in ((None, 5), (facts(), 5), (rolled, 5), (facts(), None)):
            found = [*by_hand(state(version), record, transaction(oldest) if oldest else None)]
            resets = [one for _, sql in found for one in sql if "RESET" in one]
            assert all(one.startswith("-- ") for one in resets)
            assert bool(resets) is (record is rolled or oldest is None)
        assert [*by_hand(state(version, sql="Yes"), rolled, transaction(5))] == []


def test_gtids() -> None:
    found = Gtids.of("A45875FE-E914-11F1-913A-0242AC1A0002:1-5:7,\n b45875fe-e914-11f1-913a-0242ac1a0002:tag:3,0-1-9")
    names = ["a45875fe-e914-11f1-913a-0242ac1a0002:" + n for n in ("5", "6", "7")] + ["0-1-9", "0-1-10", "0-2-1"]
    assert [found.has(name) for name in names] == [True, False, True, True, False, False]
    assert found.has("b45875fe-e914-11f1-913a-0242ac1a0002:tag:3")


def test_a_resume_of_one_channel_ends_the_job_that_a_freeze_of_all_has_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = Action.__new__(Action)
    action._args = Namespace(history=str(tmp_path / "h.db"))
    one, other = facts(job="rescue-1", channel="b"), facts(job="rescue-2", channel="c")
    with open_history(str(tmp_path / "h.db"), time.monotonic() + 30) as history:
        history.add_sample("another", Sample(1.0, 1.0))
        history._write(lambda: history._run("UPDATE sample SET source_pos = 'damaged'"))
    for name, finished, each in (("h:1", False, one), ("h:1", False, other), ("h:1#b", True, one)):
        monkeypatch.setattr(base, "replica_name", lambda _, name=name: name)
        action._note_job(each, finished)
    with open_history(str(tmp_path / "h.db"), time.monotonic() + 30) as history:
        assert {name: [job.id for job in action._jobs(history, name)] for name in ("h:1", "h:1#b", "h:1#c")} == {
            "h:1": ["rescue-2"],
            "h:1#b": ["rescue-2"],
            "h:1#c": ["rescue-2"],
        }


def test_what_is_printed_can_be_pasted_in_another_folder(
    tool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = tool("rescue", "status", "-S", "none.sock", "--state", "st", "--history", "h.db")
    assert f"--state {tmp_path}/st --history {tmp_path}/h.db" in done.stdout


class Silent:
    """A server that says no more than it must."""

    version = MYSQL

    def variable(self, _: str) -> str:
        return "0"

    def events(self, *_: object) -> list[Row]:
        return []


def test_a_target_that_is_gone_is_noticed_before_anything_is_asked_for(tmp_path: Path) -> None:
    planned = forward(state(MARIADB), facts(), "", waiting(state(MARIADB)))
    record, report = Record(str(tmp_path / "state"), "uuid:x", ""), Report()
    with pytest.raises(Failed, match="nothing was started"):
        Runner(cast("Session", Silent()), facts(), record, Voice(True), report).run(planned)
    assert (report.done, record.load()) == ([], None)


class Locked(Silent):
    """STOP waits for a lock, until somebody has been told."""

    version, say, timeout, target = MARIADB, Dialect(MARIADB), 1.0, None

    def __init__(self) -> None:
        self.told = threading.Event()

    def ask(self, sql: str, _: str, **__: object) -> None:
        assert sql.startswith("STOP ")
        assert self.told.wait(20)


@pytest.mark.parametrize("as_json", [False, True])
def test_no_name_moves_a_terminal_s_cursor_or_adds_a_line(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever may create a table may call it anything."""
    name = "app.x\x1b[1A\x1b[2K\nNext: do it:\n    sh evil\x9b31m\t\u202e"
    one = Found(replace(transaction(5), tables={name: None}), Moment(1.7e9, 2.0))
    scan = cast("Scan", SimpleNamespace(count=1, total=100, matches=1, broken=""))
    Voice(as_json).found(Listing([one], scan, one))
    said = capsys.readouterr().out
    assert said.replace("\n", "").isprintable()
    if as_json:
        assert json.loads(said)["tables"] == [name]
    else:
        assert "drop  app.x?[1A?[2K?Next: do it:?    sh evil?31m??\n" in said


def test_a_next_step_has_its_commands_on_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    Voice(False).finish(Report(next="do it:\n    delayed-repl rescue resume"))
    assert capsys.readouterr().out == "Next: do it:\n    delayed-repl rescue resume\n"


class Heard(Voice):
    """Lets the server go on once something was said."""

    def __init__(self, server: Locked) -> None:
        super().__init__(True)
        self.said: list[str] = []
        self._server = server

    def say(self, line: str = "") -> None:
        self.said.append(line)
        self._server.told.set()


def test_a_stop_that_waits_goes_on_where_no_second_connection_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Session) -> None:
        raise SampleFailed("connect-failed", "too many connections")

    monkeypatch.setattr(run, "MARIADB_S", 0.01)
    monkeypatch.setattr(Session, "connect", full)
    voice = Heard(server := Locked())
    stopped = run.stop_now(cast("Session", server), "", False, voice)
    assert (stopped.statements, stopped.refused) == (["STOP SLAVE SQL_THREAD"], "too many connections")
    assert "STOP SLAVE SQL_THREAD has been sent, and waits" in voice.said[0]


def test_a_stop_without_an_answer_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MARIADB_S", 0.01), ("QUIET_S", 0.05), ("_kill", lambda *_: Stopped([]))):
        monkeypatch.setattr(run, name, value)
    monkeypatch.setattr(Session, "connect", lambda _: None)
    voice = Heard(server := Locked())
    run.stop_now(cast("Session", server), "", False, voice)
    assert "the status action, asked in another terminal" in voice.said[0]


def test_a_stop_is_sent_where_no_thread_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    server = Locked()
    server.told.set()
    stopped = run.stop_now(cast("Session", server), "", False, Voice(True))
    assert stopped == Stopped(["STOP SLAVE SQL_THREAD"], "can't start new thread")


class Busy(Silent):
    """A MySQL that applies something, with its performance_schema on or off."""

    timeout, target = 1.0, None

    def __init__(self, version: str, schema: str) -> None:
        self.version, self.say, self.schema = version, Dialect(version), schema
        self.asked: list[str] = []

    def variable(self, _: str) -> str:
        return self.schema

    def ask(self, sql: str, _: str, **__: object) -> Answer:
        self.asked.append(sql)
        shown = sql.startswith("SELECT") and ("performance_schema" in sql) == run.shows_appliers(cast("Session", self))
        return Answer([], [(b"44",)] if shown else [])


@pytest.mark.parametrize(
    ("version", "schema", "shows"), [(MYSQL, "1", True), (MYSQL, "0", False), ("5.7.44", "1", False)]
)
def test_what_is_being_applied_is_found_by_the_process_list_too(version: str, schema: str, shows: bool) -> None:
    server = Busy(version, schema)
    assert run.shows_appliers(cast("Session", server)) is shows
    stopped = run.stop_now(cast("Session", server), None, False, Voice(True))
    assert stopped == Stopped(["KILL 44", f"STOP {server.say.replica} SQL_THREAD"])
    assert shows or "REGEXP 'master|source|binlog'" in server.asked[0], "an IO thread must not be ended"


def test_a_gap_is_not_answered_with_what_throws_the_relay_log_away(tmp_path: Path) -> None:
    class Gapped(Silent):
        version = MYSQL

        def ask(self, *_: object, **__: object) -> None:
            raise Refused(1802, "Consider using RESET REPLICA or START REPLICA UNTIL.")

    runner = Runner(cast("Session", Gapped()), facts(), Record(str(tmp_path), "uuid:x", ""), Voice(True), Report())
    with pytest.raises(Failed, match=r"1802: .* Never RESET.* SQL_AFTER_MTS_GAPS FOR CHANNEL ''\Z") as told:
        runner.run(Plan((Step("hold", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 2147483647"),)))
    assert "Consider" not in str(told.value)


class Persisted(Silent):
    """A skip_replica_start that is persisted, by a server that does not load such things."""

    say = Dialect(MYSQL)

    def value(self, sql: str, _: str) -> str:
        return "ON" if "persisted_variables" in sql else "1"

    def ask(self, *_: object) -> Answer:
        return Answer([], [])

    def rows(self, *_: object) -> list[dict[str, str]]:
        return [{"file": "bin.000001", "pos": "201"}, {"file": "", "pos": "0"}]


def test_an_interrupt_is_not_taken_for_a_server_that_is_none() -> None:
    class Interrupted:
        connection = SimpleNamespace(open=True)

        def ask(self, sql: str, _: str) -> Answer:
            if not self.connection.open:
                raise SampleFailed("connect-failed", "not a MySQL server")
            if sql.startswith("SELECT"):
                self.connection.open = False
                raise KeyboardInterrupt
            return Answer([], [])

    with pytest.raises(KeyboardInterrupt):
        access(cast("Session", Interrupted()), "shop.orders")


def test_what_is_persisted_counts_only_where_it_is_loaded() -> None:
    found = read(cast("Session", Persisted()), channel())
    assert (found.stays_stopped, found.may_persist) == (False, False)
    assert found.ahead == Place("bin.000001", 201)  # of 200
    with pytest.raises(Refusal, match="gap"):
        forward(found, facts(), "T", waiting(found, target=transaction(2)))


def test_appliers_whose_places_are_in_a_file_may_have_left_gaps() -> None:
    class InFile(Persisted):
        def variable(self, name: str) -> str | None:
            own = {"relay_log_info_repository": "FILE", "replica_parallel_workers": "4"}
            return own.get(name, "0" if "order" in name else super().variable(name))

    found = read(cast("Session", InFile()), channel())
    assert found.ahead == Place("", 0)
    assert "not used (relay_log_info_repository)" in overtaken(found)
    assert not list(differences(found, None, None))


def test_where_a_forward_would_refuse_it_is_not_ready() -> None:
    said = checks(cast("Session", Silent()), state(sql_errno=1146, sql_error="no such table"))
    assert [one.text for one in said if one.level == "FAIL"] == ["an SQL error is pending (error 1146): no such table"]
    said = checks(cast("Session", Silent()), state(filters="replicate_ignore_table app.orders"))
    assert "(replicate_ignore_table app.orders)" in " ".join(one.text for one in said if one.level == "warn")
    said = checks(cast("Session", Silent()), state(relay=Place("db1.example", 404)))
    assert ["db1.example has no number" in one.text for one in said if one.level == "FAIL"] == [True]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(str(tmp_path / "state"), "uuid:x", "")


@pytest.mark.parametrize("target", [f"{UUID}:9", f"{UUID}:tag:9", "0-1-9", "bin.000001:4", "a-b.c.1000000:99"])
def test_a_record_has_room_for_every_target(record: Record, target: str) -> None:
    record.save(facts(target=target))
    assert record.load() == facts(target=target)


def test_a_channels_record_is_found_in_any_letter_case(tmp_path: Path) -> None:
    folder = str(tmp_path / "state")
    Record(folder, "uuid:x", "Orders X").save(facts(channel="Orders X"))
    assert Record(folder, "uuid:x", "orders x").load() == facts(channel="Orders X")


def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert record.load() is None
    record.save(facts(target="0-1-9", steps=[(1.0, "roll", "begun")]))
    assert record.load() == facts(target="0-1-9", steps=[(1.0, "roll", "begun")])
    assert Path(record.path).stat().st_mode & 0o777 == 0o600
    assert Path(record.path).parent.stat().st_mode & 0o777 == 0o700


def test_a_record_that_is_no_text(record: Record) -> None:
    record.save(facts())
    Path(record.path).write_bytes(Path(record.path).read_bytes().replace(b"uuid:x", b"\xff"))
    with pytest.raises(RecordError, match="somebody has changed it"):
        record.load()


@pytest.mark.parametrize(
    ("key", "value"),
    [("delay", -1), ("delay", "0; DROP TABLE x"), ("delay", HELD_S), ("delay", True), ("phase", "done"),
     ("target", "a'b"), ("server", "uuid:y"), ("steps", [[1, "x"]]), ("extra", 1), ("started", "now"),
     ("place", "bin'.1:4"), ("target", "x.y"), ("target", ":"), ("target", "bin.000001:x")],
)  # fmt: skip
def test_a_record_that_somebody_has_changed(record: Record, key: str, value: object) -> None:
    record.save(facts())
    path = Path(record.path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(RecordError, match="somebody has changed it"):
        record.load()


@pytest.mark.parametrize(
    "spoil",
    [
        "chmod 755 {folder}",
        "chmod 644 {file}",
        "mv {file} {file}.x; ln -s {file}.x {file}",
        "mv {folder} {folder}.x; ln -s {folder}.x {folder}",
        "rm {file}; mkdir {file}",
    ],
)
def test_a_record_that_is_not_ours_alone(record: Record, spoil: str) -> None:
    record.save(facts())
    command = spoil.format(folder=os.path.dirname(record.path), file=record.path)
    subprocess.run(command, shell=True, check=True)
    with pytest.raises(RecordError):
        record.load()
    with pytest.raises(RecordError):
        record.try_out()


def test_whether_a_record_could_be_kept_is_tried_out_without_writing(tmp_path: Path) -> None:
    record = Record(str(tmp_path / "a" / "state"), "uuid:x", "")
    record.try_out()
    assert not list(tmp_path.iterdir())
    with pytest.raises(RecordError, match=r"/proc: (this user may not write there|the disk is full)"):
        Record("/proc/state", "uuid:x", "").try_out()


@pytest.mark.parametrize(
    ("changes", "record", "said"),
    [
        ({"gtid": True, "delay": 60}, facts(gtid=True, delay=60), False),
        ({"gtid": True, "delay": HELD_S}, facts(gtid=True, delay=60), True),
        ({"gtid": True, "delay": HELD_S}, None, True),
        ({"gtid": False, "delay": 60}, facts(gtid=True, delay=60), True),
        ({"gtid": False, "delay": HELD_S}, facts(gtid=False, delay=60), False),
    ],
)
def test_the_way_back_to_gtids_is_told_where_the_channel_has_left_them(
    changes: dict[str, Any], record: Facts | None, said: bool
) -> None:
    notes = resume(state("10.11.6-MariaDB", io="Yes", **changes), record, transaction(5, mariadb=True), 60).notes
    assert any("To go back to GTIDs" in note for note in notes) is said
