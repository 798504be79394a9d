"""What the judge makes of drained lines, late jobs, floods, planned changes, other servers, filters and limits."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hostile import LENGTHS, SEEDS, recording
from hypothesis import given, settings
from judge_builders import LIMITS, finding, folded, job, judged, sample, samples, states, verdicts

from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.jobs import MAX_JOBS
from check_delayed_repl.judge.outcome import State, Verdict
from check_delayed_repl.records import JobLine, Record, Sample
from check_delayed_repl.words import clean, filter_name

OUT = 20000.0
C, W, OK = State.CRITICAL, State.WARNING, State.OK


def conditions(verdict: Verdict) -> set[str]:
    return {f.condition for f in verdict.findings}


def drained(every: float, until: float = 4000.0, begin: float = 2000.0) -> list[Sample]:
    """A calm line that is emptied between two samples and grows again."""
    return [*samples(0.0, begin, every=every), *samples(begin + every, until, lambda t: t - begin, every)]


@pytest.mark.parametrize("every", [3.0, 10.0, 60.0, 300.0, 400.0])
@pytest.mark.parametrize("jobs", [[], [job(0.0)], [job(0.0), job(0.0, name="d", kind="deshard")]])
def test_a_drained_line_is_critical_for_a_window_and_a_half_and_three_samples_more(
    every: float, jobs: list[JobLine]
) -> None:
    begin, seen = max(700.0, 7 * every), []
    until = begin + max(1500.0, 11 * every)
    for verdict in verdicts([*jobs, *drained(every, until, begin)]):
        if verdict.condition == "line-drained":
            assert verdict.message.startswith("Replication delay fell below the minimum: ")
            seen.append(verdict.at)
    assert seen[0] <= begin + max(60.0, 2 * every)
    assert seen == [seen[0] + every * i for i in range(len(seen))]
    assert seen[-1] - seen[0] >= max(900.0 - every, 3 * every)
    assert seen[-1] - seen[0] <= max(900.0, 3 * every)
    later = judged([*jobs, *drained(every, until, begin)])
    assert (later.state, later.condition) == (W, "active-backup" if jobs else "recovering-below-minimum")


@pytest.mark.parametrize(
    ("line", "was"),
    [
        (samples(0.0, 900.0, lambda t: 3000.0 + t), False),  # it fills for the first time
        ([sample(0.0), sample(10.0), *samples(20.0, 900.0, lambda t: t)], False),  # two samples are no line
        ([*samples(0.0, 600.0), *samples(610.0, 650.0, 7150.0), *samples(660.0, 900.0)], False),
        ([*samples(0.0, 600.0), sample(9000.0, 0.0), *samples(9010.0, 9100.0)], False),  # a wild one after a long gap
        ([*samples(0.0, 600.0), sample(9000.0, 0.0), *samples(9010.0, 9100.0, 10.0)], True),
        ([*samples(0.0, 600.0, 5420.0), *samples(610.0, 900.0, 5380.0)], False),  # less than a minute below
        ([*samples(0.0, 600.0, OUT), *samples(610.0, 900.0, lambda t: t - 600.0)], True),  # from above
        ([*samples(0.0, 600.0), *samples(610.0, 3000.0, lambda t: 7200.0 - (t - 600.0))], True),  # step by step
    ],
)
def test_which_lines_have_been_drained(line: list[Sample], was: bool) -> None:
    assert any(verdict.condition == "line-drained" for verdict in verdicts(line)) == was


def test_a_minute_below_is_a_tenth_of_a_short_minimum() -> None:
    limits = LIMITS._replace(min_delay_time=100.0, max_delay_time=200.0)
    line = [*samples(0.0, 600.0, 150.0), *samples(610.0, 700.0, 85.0)]
    assert judged(line, limits).condition == "line-drained"


def dump(start: float, finish: float, name: str = "b1") -> list[Record]:
    return [job(start, name=name), *samples(start, finish, OUT), job(start, finish, name=name)]


@pytest.mark.parametrize("lost_for", [50.0, 100.0])
@pytest.mark.parametrize("afterwards", [True, False])
def test_a_job_does_not_explain_what_was_there_before_it(lost_for: float, afterwards: bool) -> None:
    end = 620.0 + lost_for
    records: list[Record] = [*samples(0.0, 600.0), *samples(610.0, end, OUT)]
    records += [job(end, end)] if afterwards else dump(end, end + 20.0)
    verdict = judged([*records, *samples(end + 30.0, end + 200.0, OUT)])
    assert verdict.condition == ("backup-recovery-window" if lost_for < 60.0 else "delay-out-of-bounds")


def test_a_line_that_comes_back_after_a_late_job_is_held_by_its_trend() -> None:
    records: list[Record] = [*samples(0.0, 300.0, OUT), *dump(300.0, 400.0)]
    records += samples(410.0, 900.0, lambda t: OUT - 2.0 * (t - 400.0))
    assert judged(records).condition == "recovering-above-maximum"


def test_two_jobs_back_to_back_still_have_their_window() -> None:
    records: list[Record] = [*samples(0.0, 600.0), *dump(600.0, 900.0), *dump(910.0, 1200.0, "b2")]
    assert judged([*records, *samples(1210.0, 1300.0, OUT)]).condition == "backup-recovery-window"
    records = [*samples(0.0, 600.0), *dump(600.0, 900.0), *samples(910.0, 1200.0, OUT), *dump(1210.0, 1300.0, "b2")]
    verdict = judged([*records, *samples(1310.0, 1400.0, OUT)])
    assert (verdict.condition, verdict.held["recovery"] > 300.0) == ("backup-recovery-window", True)


def test_a_planned_change_of_the_delay_begins_a_new_episode() -> None:
    lost = [*samples(0.0, 600.0, sql_delay=7200), *samples(610.0, 1000.0, OUT, sql_delay=7200)]
    records: list[Record] = [*lost[:60], job(600.0), *lost[60:]]
    held = judged(records)
    assert (held.held["backup"] > 300.0, held.episode_since) == (True, 620.0)
    changed = judged([*records, sample(1010.0, OUT, sql_delay=8000)])
    assert (changed.held["backup"], changed.episode_since) == (0.0, 1010.0)
    for setting in (7200, None, 0, 20000):
        same = judged([*records, sample(1010.0, OUT, sql_delay=setting)])
        assert (same.held["backup"] > 300.0, same.episode_since) == (True, 620.0)
    other = [s._replace(server="uuid:a") if isinstance(s, Sample) else s for s in records]
    assert judged([*other, sample(1010.0, OUT, sql_delay=8000, server="uuid:b")]).held["backup"] > 300.0


def test_a_flood_grants_nothing_until_it_is_cleared() -> None:
    def flood(count: int, finished: float | None = None) -> list[Record]:
        return [job(500.0, finished, name=f"j{i}") for i in range(count)]

    lost = samples(0.0, 600.0)
    assert judged([*lost, *flood(2000), *samples(610.0, 700.0, OUT)]).condition == "active-backup"
    flooded: list[Record] = [*lost, *flood(2001), *samples(610.0, 700.0, OUT)]
    verdict = judged(flooded)
    assert verdict.condition == "job-records-flooded"
    assert conditions(verdict) == {"job-records-flooded", "delay-out-of-bounds"}
    assert verdict.held["backup"] == 0.0
    assert len(folded([*lost, *flood(5_000), *samples(610.0, 700.0)]).dump()) < 400_000
    for rescues, is_flood in ((20, False), (21, True)):
        frozen = [job(500.0, kind="rescue", name=f"r{i}") for i in range(rescues)]
        beside = judged([*lost, *flood(2000), *frozen, sample(610.0)])
        assert ("job-records-flooded" in conditions(beside)) == is_flood
    cleared = [*flooded, JobLine(700.0, "*", void=True), sample(710.0, OUT)]
    assert conditions(judged(cleared)) == {"delay-out-of-bounds"}
    finished = [*lost, *flood(3000, 500.0), sample(610.0)]
    assert judged(finished).condition == "job-records-flooded"
    assert judged([*finished, sample(500.0 + 21600.0)]).condition == "job-records-flooded"
    assert judged([*finished, sample(500.0 + 21601.0)]).condition == "in-range"


def test_no_more_invalid_records_are_named_than_anybody_reads() -> None:
    records: list[Record] = [sample(0.0), *(job(0.0, kind="x", name=f"j{i}") for i in range(1500)), sample(10.0)]
    verdict = judged(records)
    assert len(verdict.findings) <= 20
    assert "and 1495 more job records are invalid" in {f.message for f in verdict.findings}


def test_a_rescue_is_critical_and_grants_nothing() -> None:
    frozen: list[Record] = [*samples(0.0, 600.0), job(600.0, kind="rescue", name="r"), *samples(610.0, 900.0, OUT)]
    verdict = judged(frozen)
    assert verdict.findings[0].message == "Frozen by rescue since 1970-01-01 00:10:00 UTC: do not start replication"
    assert conditions(verdict) == {"rescue-in-progress", "delay-out-of-bounds"}
    assert "rescue" not in verdict.held
    over = judged([*frozen, job(600.0, 905.0, kind="rescue", name="r"), sample(910.0, OUT)])
    assert conditions(over) == {"delay-out-of-bounds"}
    assert over.jobs == (), "of no interest any more"
    day = 86400.0
    odd = [*samples(9 * day, 9 * day + 600.0), job(1.0, kind="rescue", name="r"), sample(9 * day + 610.0)]
    assert "since 1970-01-10 00:10:10 UTC" in judged(odd).findings[0].message, "not since what it claims"
    late: list[Record] = [sample(day), job(10.0, kind="rescue", name="r"), sample(day + 10.0)]
    assert "since 1970-01-01 00:00:10 UTC" in judged(late).findings[0].message, "a day before its record, it counts"
    flood: list[Record] = [job(0.0, name=f"j{i}") for i in range(2500)]
    assert "rescue-in-progress" in conditions(judged([*flood, *frozen]))


def test_a_rescue_outlasts_the_voiding_of_all_jobs() -> None:
    """Who may do no more than write job lines knows no ids, and so ends no rescue."""
    all_void = JobLine(615.0, "*", void=True)
    frozen: list[Record] = [*samples(0.0, 600.0), job(600.0, kind="rescue", name="r"), sample(610.0)]
    flood: list[Record] = [job(600.0, kind="rescue", name=f"r{i}") for i in range(2500)]
    assert conditions(judged([*frozen, all_void, sample(620.0)])) == {"rescue-in-progress", "in-range"}
    void = job(None, kind=None, void=True, name="r")
    assert conditions(judged([*frozen, all_void, void, sample(620.0)])) == {"in-range"}
    cleared = judged([*frozen, *flood, sample(614.0), all_void, sample(620.0), job(620.0), sample(630.0)])
    assert conditions(cleared) == {"rescue-in-progress", "active-backup"}, "and a flood of them is cleared"


def of(server: str | None, start: float, end: float, delay: float = 7200.0, **seen: Any) -> list[Sample]:
    return samples(start, end, delay, server=server, **seen)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("uuid:a", "uuid:b", True),
        ("a", "b", True),
        ("uuid:a", "uid:a", False),
        ("a", "uuid:b", False),
        ("uuid:a", None, False),
        (None, "uuid:b", False),
    ],
)
def test_another_identity_of_the_same_kind_is_another_server(
    before: str | None, after: str | None, changed: bool
) -> None:
    records = [*of(before, 0.0, 100.0), *of(after, 110.0, 200.0)]
    assert ("replica-changed" in conditions(judged(records))) == changed


def test_a_changed_server_is_a_warning_for_one_max_delay_time_and_all_begins_anew() -> None:
    records: list[Record] = [
        *of("uuid:a", 0.0, 3000.0, 7000.0, source_log=("b", 1), relay_log=("b", 1), sql_delay=7200),
        *of("uuid:b", 3010.0, 3020.0, 7300.0, source_log=("b", 1), relay_log=("b", 1), sql_delay=7200),
    ]
    verdict = judged(records)
    assert (verdict.trend.samples, verdict.source_log_age, verdict.relay_log_age) == (2, 10.0, 10.0)
    changed = finding(verdict, "replica-changed")
    assert changed.state == W
    for age, told in ((9000.0, True), (9001.0, False)):
        later = judged([*records, sample(3010.0 + age, server="uuid:b")])
        assert ("replica-changed" in conditions(later)) == told


def test_a_changed_server_neither_ends_an_episode_nor_hides_that_the_line_fell() -> None:
    held: list[Record] = [*of("uuid:a", 0.0, 600.0), job(600.0), *of("uuid:a", 610.0, 900.0, OUT)]
    verdict = judged([*held, *of("uuid:b", 910.0, 960.0, OUT)])
    assert (verdict.held["backup"] > 300.0, verdict.episode_since) == (True, 620.0)
    drained = judged([*of("uuid:a", 0.0, 600.0), *of("uuid:b", 610.0, 660.0, 100.0)])
    assert drained.condition == "line-drained"
    lost = judged([*of("uuid:a", 0.0, 100.0, sql_delay=7200), sample(110.0, server="uuid:b", sql_delay=60)])
    assert lost.condition == "delay-setting-lost"


def test_servers_that_answer_in_turn_are_ambiguous() -> None:
    """One every 10 s in range, the other every minute with next to no delay: passed for wild samples once."""
    records = [
        sample(10.0 * i, 0.3 if i % 6 == 5 else 7200.0, server="uuid:b" if i % 6 == 5 else "uuid:a") for i in range(60)
    ]
    seen = [(v.at, v.condition) for v in verdicts(records)]
    assert seen[:5] == [(10.0 * i, "in-range") for i in range(5)]
    assert {condition for at, condition in seen if at >= 60.0} == {"replica-ambiguous"}
    calm = [*records, *of("uuid:a", 600.0, 4300.0)]
    assert states(calm)[-1][2] != "in-range"  # more than four changes in a day


def test_how_often_and_how_long_ago_a_name_may_change() -> None:
    def after(*servers: str, every: float = 20000.0, later: float = 0.0) -> bool:
        records = [sample(every * i, server=f"uuid:{server}") for i, server in enumerate(servers)]
        last = records[-1]
        return "replica-ambiguous" in conditions(judged([*records, last._replace(t=last.t + later)]))

    assert after("a", "b", "a", every=100.0)
    assert after("a", "b", "a", every=100.0, later=3600.0)
    assert not after("a", "b", "a", every=100.0, later=3601.0)
    assert not after("a", "b", "a", every=90000.0)  # moved back the next day
    assert not after(*"abcde", every=100.0)
    assert after(*"abcdef", every=100.0)
    assert not after(*"abcdef", every=25000.0)


LONG = ",".join(f"shop.table_{n:02}" for n in range(40))


@pytest.mark.parametrize(
    ("before", "now", "allowed", "state"),
    [
        ((), (), (), None),
        (None, ("Do_DB=a",), (), W),
        (("Do_DB=a",), ("Do_DB=a",), (), W),
        (("Do_DB=a", "Do_Table=b.c"), ("Do_DB=a",), (), W),
        ((), ("Do_DB=a",), (), C),
        (("Do_DB=a",), ("Do_DB=a", "Do_Table=b.c"), (), C),
        (("Do_DB=a",), ("Do_DB=a,b",), (), C),
        ((), ("Do_DB=a",), ("Do_DB=a",), None),
        ((), ("Do_DB=a",), ("Do_DB=A",), C),
        ((), (r"Do_Table=a\_b.%",), (r"Do_Table=a\_b.%",), None),
        ((), (r"Do_Table=a\_b.%",), (filter_name(r"Do_Table=a\_b.%"),), None),
        ((), (r"Do_Table=a\_b.%",), ("Do_Table=a/_b.%",), C),
        ((), ("Do_Table=a.$b",), (filter_name("Do_Table=a.&b"),), C),
        ((), (f"Do_Table={LONG}",), (filter_name(f"Do_Table={LONG}"),), None),
        ((), (f"Do_Table={LONG},a.b",), (filter_name(f"Do_Table={LONG}"),), C),
        ((f"Do_Table={LONG}",), (f"Do_Table={LONG},a.b",), (), C),
        (("Do_DB=a",), None, (), None),
    ],
)
def test_replication_that_is_filtered(
    before: tuple[str, ...] | None, now: tuple[str, ...] | None, allowed: tuple[str, ...], state: State | None
) -> None:
    records = [*samples(0.0, 50.0, filters=before), sample(60.0, error="timeout"), *samples(70.0, 90.0, filters=now)]
    verdict = judged(records, LIMITS._replace(allowed_filters=allowed))
    found = finding(verdict, "replication-filtered")
    assert (found and found.state) == state
    if found is not None and now is not None:
        assert filter_name(now[-1]) in found.message == clean(found.message)
        assert verdict.state == state


@pytest.mark.parametrize(("lasts", "state"), [(0.0, W), (1800.0, W), (1810.0, C)])
def test_a_relay_log_at_its_limit(lasts: float, state: State) -> None:
    verdict = judged([*samples(0.0, 90.0, relay_limited=False), *samples(100.0, 100.0 + lasts, relay_limited=True)])
    assert "relay-space-limited" in conditions(verdict)
    assert verdict.state == state
    assert judged([*samples(0.0, 90.0, relay_limited=True), sample(100.0, relay_limited=False)]).state == OK


@pytest.mark.parametrize(("free", "state"), [(1, C), (2, C), (3, W)])
def test_a_relay_log_at_its_limit_whose_thread_is_found_at_work_now_and_then(free: int, state: State) -> None:
    records = [sample(10.0 * i, relay_limited=not 50 <= i < 50 + free) for i in range(1, 190)]
    found = finding(judged(records), "relay-space-limited")
    assert found.state == state


def flapping(**lost: Any) -> list[Sample]:
    return [sample(10.0 * i, **({"io": "Yes"} if i % 3 else {"io": "Connecting"} | lost)) for i in range(1, 10)]


def test_an_io_thread_that_is_lost_again_and_again() -> None:
    verdict = judged(flapping())
    assert (verdict.state, verdict.condition) == (W, "io-unstable")
    assert judged(flapping()[:-1]).state == OK
    assert "io-unstable" not in conditions(judged(flapping(io_errno=2003)))
    assert "io-unstable" not in conditions(judged([sample(0.0), job(0.0), *flapping()]))
    assert "io-unstable" in conditions(judged([*flapping(), sample(630.0, io="Yes")]))
    assert "io-unstable" not in conditions(judged([*flapping(), sample(631.0, io="Yes")]))


def test_an_io_thread_that_fetches_between_samples_and_is_lost_at_each() -> None:
    """As with two replicas of one server id: it is never seen running for long, and never stopped for long either."""

    def lost(t: float, place: int) -> Sample:
        return sample(t, io="Connecting", sql="Yes", source_log=("b", place), relay_log=("b", 1))

    moving = [lost(10.0 * i, i) for i in range(20)]
    assert (judged(moving).state, judged(moving).condition) == (W, "io-unstable")
    assert judged([lost(10.0 * i, 1) for i in range(20)]).condition == "io-stopped"


def test_the_relay_logs_age_stands_still_while_the_server_waits_for_its_delay() -> None:
    here: dict[str, Any] = {"relay_log": ("b", 1), "sql": "Yes", "sql_delay": 7200}
    waiting = [sample(100.0, **here, sql_remaining=7000), sample(200.0, **here, sql_remaining=6900)]
    fold = folded([sample(0.0, **here), *waiting])
    assert [fold.verdict(now).relay_log_age for now in (200.0, 300.0)] == [100.0, 100.0]
    fold.add(sample(300.0, error="timeout"))
    fold.add(sample(400.0, **here))
    assert [fold.verdict(now).relay_log_age for now in (400.0, 450.0)] == [100.0, 150.0]
    fold.add(sample(500.0, **here, sql_remaining=7201))
    assert fold.verdict(510.0).relay_log_age == 210.0
    fold.add(sample(600.0, **here | {"relay_log": ("b", 2)}, sql_remaining=5))
    assert fold.verdict(700.0).relay_log_age == 0.0


@pytest.mark.parametrize("ended", [(), (7000.0, 14000.0), (2000.0, 5000.0)])
def test_waiting_for_the_delay_hides_a_stuck_applier_no_longer_than_the_delay(ended: tuple[float, ...]) -> None:
    """Appliers of databases: behind the one that is stuck, the others take up what is next, and wait for it in turn."""
    here: dict[str, Any] = {"relay_log": ("b", 1), "sql": "Yes", "sql_delay": 7200}
    waits = [sample(t, **here, sql_remaining=None if t in ended else 5) for t in range(0, 20000, 1000)]
    fold = folded(waits)
    assert fold.verdict(19000.0).relay_log_age == 19000.0 - 7200.0
    fold.add(sample(20000.0, **here | {"relay_log": ("b", 2)}, sql_remaining=7100))
    assert fold.verdict(27000.0).relay_log_age == 0.0


def test_times_of_waiting_for_the_delay_add_up() -> None:
    here: dict[str, Any] = {"relay_log": ("b", 1), "sql": "Yes", "sql_delay": 7200}
    fold = folded([sample(t, **here, sql_remaining=None if t in (20.0, 50.0) else 5) for t in (0.0, 20.0, 30.0, 50.0)])
    assert fold.verdict(60.0).relay_log_age == 60.0 - 20.0 - 20.0
    fold.add(sample(60.0, **here, sql_remaining=5))
    assert fold.verdict(60.5).relay_log_age == 60.0 - 20.0 - 20.0
    fold.add(sample(61.0, **here | {"sql_delay": 0}, sql_remaining=0))
    assert fold.verdict(70.0).relay_log_age == 70.0


def test_limits_that_do_not_fit_the_server_are_asked_about() -> None:
    said = "the server is set to delay by 30 seconds: do the limits fit this replica?"
    for delays, delay, asked in (
        ((30,), 31.0, True),
        ((0, 30), 31.0, True),
        ((7200, 30), 31.0, False),
        ((30,), 7200.0, False),
        ((0,), 31.0, False),
    ):
        records = [sample(10.0 * i, delay, sql_delay=setting) for i, setting in enumerate(delays)]
        records += samples(100.0, 200.0, delay, sql_delay=delays[-1])
        assert (said in judged(records).message) == asked


def test_a_change_from_the_future_is_told_while_the_line_is_in_range() -> None:
    verdict = judged(samples(0.0, 100.0, sql_delay=7200, sql_remaining=7500))
    assert verdict.state == OK
    assert "7500 more seconds (SQL_Remaining_Delay), far above the setting of 7200 (SQL_Delay)" in verdict.message
    assert "Remaining" not in judged(samples(0.0, 100.0, sql_delay=7200, sql_remaining=7260)).message


def test_jobs_beyond_a_flood_are_counted_out_again_one_by_one() -> None:
    records = [sample(0.0), *(job(0.0, name=f"j{i}") for i in range(2003)), JobLine(0.0, "*", "backup", 0.0)]
    for left, name in ((4, ""), (3, "j2000"), (2, "j2001"), (1, "j2002"), (0, "*")):
        if name == "*":
            records.append(job(0.0, 5.0, name="another"))
        elif name:
            records.append(job(None, kind=None, void=True, name=name))
        flooded = "job-records-flooded" in conditions(judged([*records, sample(10.0)]))
        assert flooded == (left > 0 or name == "*")
    assert judged([*records, sample(22000.0)]).condition == "active-backup"


def test_the_hold_of_a_rescue_was_never_meant_as_a_delay() -> None:
    """What a rescue sets so that nothing is applied is no setting that can be lost."""
    held: dict[str, Any] = {"sql_delay": 2_147_483_647, "sql": "No"}
    set_again: dict[str, Any] = {"sql_delay": 7200, "sql": "Yes"}
    records = [sample(0.0, **set_again), sample(10.0, **held), sample(20.0, **set_again)]
    assert "delay-setting-lost" not in conditions(judged(records))
    lost = finding(judged([*records, sample(30.0, sql_delay=0, sql="Yes")]), "delay-setting-lost")
    assert "it was 7200 before" in lost.message
    for setting, is_lost in ((0, True), (3600, False)):
        begun_held = judged([sample(0.0, **held), sample(10.0, 3600.0, sql_delay=setting, sql="Yes")])
        assert ("delay-setting-lost" in conditions(begun_held)) == is_lost


@pytest.mark.parametrize(
    ("every", "gap", "state"),
    [
        (10.0, 1480.0, OK),
        (10.0, 601.0, OK),
        (10.0, 600.0, C),
        (10.0, 590.0, C),
        (200.0, 801.0, OK),
        (200.0, 800.0, C),
        (300.0, 300.0, C),
    ],
)
def test_a_line_is_not_where_it_was_before_a_long_gap(every: float, gap: float, state: State) -> None:
    """The end of a spike is all that was known; regular samples are no gaps, however far between."""
    begin = 1e6
    end = begin + 5.0 * every
    spike = samples(begin, end, lambda t: 9040.0 + (t - begin) / every, every)
    assert judged([*spike, sample(end + gap, 8930.0)]).state == state


def test_late_samples_are_not_the_newest_one() -> None:
    """A worker that was cut off brings what it saw: neither does that hide what is, nor is what was told as new."""
    moving = [sample(10.0 * i, io="Yes", sql="Yes", sql_delay=7200, source_log=("b", i)) for i in range(60)]
    fine, stuck = moving[-1], moving[-1]
    stopped = fine._replace(t=600.0, sql="No")
    assert "sql-stopped" in conditions(judged([*moving, stopped, *moving[20:]], now=605.0))
    assert conditions(judged([*moving, moving[20]._replace(delay=None, error="timeout")], now=600.0)) == {"in-range"}
    for late in ([], moving[-10:-1]):
        assert judged([*moving, stuck._replace(t=900.0), *late], now=900.0).source_log_age == 310.0
    other = moving[20]._replace(server="uuid:b")
    assert conditions(judged([*[s._replace(server="uuid:a") for s in moving], other], now=600.0)) == {"in-range"}


@settings(max_examples=30, deadline=None)
@given(SEEDS, LENGTHS)
def test_what_is_too_late_for_the_trend_changes_nothing(seed: int, length: int) -> None:
    chance = random.Random(seed)
    fold, bothered = Fold(LIMITS), Fold(LIMITS)
    seen: list[Sample] = []
    for record in recording(seed, length):
        fold.add(record)
        bothered.add(record)
        seen += [record] if isinstance(record, Sample) else []
        late = [s for s in seen if s.t < fold.clock - fold.reach]
        if late:
            bothered.add(chance.choice(late))
            assert bothered.dump() == fold.dump()
            assert bothered.verdict(fold.clock) == fold.verdict(fold.clock)


def test_rules_in_words() -> None:
    many = [f"Do_DB={n}" for n in range(7)]
    always = [sample(0.0, filters=("Do_DB=a",)), sample(10.0, filters=("Do_DB=a",))]
    filtered = [sample(0.0, filters=()), sample(10.0, filters=tuple(many))]
    changed = [*samples(0.0, 90.0, server="uuid:a"), sample(100.0, server="uuid:b"), sample(120.0, server="uuid:b")]
    back = [sample(10.0 * i, server=f"uuid:{name}") for i, name in enumerate("abcaa")]
    flood = [*(job(float(n), name=f"j{n}") for n in range(MAX_JOBS + 1)), sample(5000.0)]

    def said(records: list[Any], condition: str) -> str:
        return finding(judged(records), condition).message

    assert said(always, "replication-filtered") == (
        "Replication is filtered: what Do_DB=a leaves out is not protected here"
        " (--allow-filter COLUMN=VALUE where it is meant)"
    )
    assert said(filtered, "replication-filtered") == (
        "Replication is filtered: what Do_DB=0, Do_DB=1, Do_DB=2, Do_DB=3, Do_DB=4 and 2 more leaves out is not"
        " protected here, and it has not always been so (--allow-filter COLUMN=VALUE where it is meant)"
    )
    assert said(changed, "replica-changed") == (
        "Replica changed: uuid:b answers under this name, 20 seconds ago it was uuid:a; trend and ages have begun anew"
        " (told for 9000 seconds, --max-delay-time)"
    )
    assert said(back, "replica-ambiguous") == (
        "Several servers answer under this name: now uuid:a, 10 seconds ago uuid:b, uuid:c:"
        " give each replica an address of its own"
    )
    assert said(flapping(), "io-unstable") == (
        "IO thread keeps losing its connection: 3 times in 60 seconds without an error (window 600, --window):"
        " is the network bad, or has another replica the same server id?"
    )
    assert said(flood, "job-records-flooded") == (
        "Too many job records: more than 2000 jobs are on record, and none of them holds an alarm back until"
        " delayed-repl job void --all, or time, has cleared them"
    )
    assert said([sample(0.0), job(-1e300), sample(10.0)], "job-record-invalid") == (
        "Job record b1 is invalid and grants nothing: starts centuries ago (delayed-repl job void ends it)"
    )


def test_a_server_that_never_delayed_has_lost_no_setting() -> None:
    limits = LIMITS._replace(delay_mode="native")
    assert "delay-setting-lost" not in conditions(judged(samples(0.0, 90.0, sql_delay=0), limits))
