"""Folding: judging changes nothing, and a fold that was saved goes on as if it never had been."""

from __future__ import annotations

import json
import math

import pytest
from judge_builders import LIMITS, finding, folded, job, judged, sample, samples, verdicts

from check_delayed_repl.judge.fold import FOLD_VERSION, Fold, judge
from check_delayed_repl.judge.line import ABOVE, IN_RANGE
from check_delayed_repl.judge.outcome import Finding, State, Trend, Verdict
from check_delayed_repl.judge.trend import NO_FIT
from check_delayed_repl.judge.window import spread
from check_delayed_repl.records import Record, Sample

OUT = 20000.0

NIGHT: list[Record] = [
    *samples(0.0, 700.0, io="Yes", sql="Yes", sql_delay=7200, source_id=1, heartbeat_id=1, local=0.5, ts=1.0),
    job(700.0),
    *samples(710.0, 1500.0, lambda t: 6500.0 + t * 2.0, io="Yes", sql="No", source_log=("b", 1), relay_log=("b", 1)),
    sample(1510.0, error="timeout", message="no answer"),
    sample(1520.0, error="server-down"),
    job(None, 1525.0, kind=None),
    job(1525.0, 1500.0, name="wrong"),
    *samples(1530.0, 2400.0, lambda t: 9500.0 - (t - 1530.0), io="Connecting", sql="Yes", source_id=2, heartbeat_id=1),
    sample(2390.0, 1e9),
    *samples(2410.0, 2900.0, OUT, io="Yes", sql="Yes", source_log=("b", 2)),
    *samples(2910.0, 3200.0, lambda t: 7200.0 + t % 60.0, source_id=2, heartbeat_id=2),
]


def test_judge_folds_and_judges() -> None:
    assert judge(NIGHT, LIMITS, 3200.0) == judged(NIGHT, now=3200.0)
    assert judge(samples(0.0, 10.0), LIMITS, 500.0, worker=True).condition == "worker-missing"
    assert judge(samples(0.0, 10.0), LIMITS, 500.0).condition == "in-range"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        "{}",
        '{"version":0}',
        json.dumps({"version": FOLD_VERSION, "limits": repr(LIMITS), "last": None}),
        json.dumps({"version": FOLD_VERSION, "limits": repr(LIMITS), "last": [1.0]}),
        "{" * 100,
    ],
)
def test_a_cache_that_makes_no_sense_is_worth_nothing(text: str) -> None:
    assert Fold.load(text, LIMITS) is None


def test_a_cache_of_another_judge_or_other_limits_is_worth_nothing() -> None:
    text = folded(samples(0.0, 100.0)).dump()
    assert Fold.load(text, LIMITS) is not None
    assert Fold.load(text, LIMITS._replace(window=601.0)) is None
    old = json.loads(text) | {"version": FOLD_VERSION - 1}
    assert Fold.load(json.dumps(old), LIMITS) is None


def test_a_cache_is_given_the_samples_of_the_server_that_answers_now_and_no_others() -> None:
    records = [*samples(0.0, 50.0, server="uuid:a"), *samples(60.0, 100.0, server="uuid:b")]
    fold = folded(records)
    loaded = Fold.load(fold.dump(), LIMITS)
    loaded.restore(records)
    assert loaded.verdict(100.0) == fold.verdict(100.0)


def test_a_fold_keeps_the_samples_of_its_reach_alone() -> None:
    assert folded([]).reach == 3600.0
    assert Fold(LIMITS._replace(window=7200.0)).reach == 7200.0
    fold = folded(samples(0.0, 10000.0))
    assert len(fold._window.points) == 361


def test_a_fold_does_not_grow_with_a_line_in_order() -> None:
    def size(fold: Fold) -> int:
        return len(fold.dump())

    fold = folded(samples(0.0, 1000.0, io="Yes", sql="Yes"))
    first = size(fold)
    for each in samples(1010.0, 20000.0, io="Yes", sql="Yes"):
        fold.add(each)
    assert size(fold) <= first + 20


def test_the_episodes_arrival_is_that_of_its_first_sample() -> None:
    fold = Fold(LIMITS)
    for number, each in enumerate([*samples(0.0, 50.0), *samples(60.0, 200.0, OUT)], 1):
        fold.add(each, number)
    since = fold.verdict(200.0).episode_since
    assert fold.episode_arrival == since / 10.0 + 1


def test_of_a_replica_that_nobody_has_looked_at_nothing_is_known() -> None:
    text = (
        "No sample of this replica has ever been recorded (limit 60 seconds, --max-last-seen): is delayed-repl worker "
        "running, and is the name right (--replica)?"
    )
    missing = Finding(State.CRITICAL, "worker-missing", text)
    for fold in (folded([]), folded([job(0.0)])):
        assert fold.verdict(7.0) == Verdict(7.0, (missing,), Trend(), None, (), {}, None, None, None, None)


def said(verdict: Verdict, condition: str) -> str:
    return finding(verdict, condition).message


def test_a_late_worker_in_words() -> None:
    fold = folded([sample(1000.0), job(1000.0), sample(1000.0)])
    late = fold.verdict(1061.4, worker=True)
    assert said(late, "worker-missing") == "Worker was last seen 61 seconds ago (limit 60, --max-last-seen)"
    assert (late.state, late.worker_age) == (State.CRITICAL, pytest.approx(61.4))
    assert finding(fold.verdict(1060.0, worker=True), "worker-missing") is None
    assert finding(fold.verdict(1060.1, worker=True), "worker-missing") is not None
    assert folded([sample(1000.0)]).verdict(990.0).worker_age == 0.0


def test_a_clock_that_stepped_in_words() -> None:
    stepped = folded([sample(1000.0)]).verdict(900.6)
    assert said(stepped, "clock-stepped") == (
        "Clock stepped: a stored sample lies 99 seconds in the future (limit 2); wait for it, or take it out with "
        "delayed-repl history prune --future"
    )


def test_an_overrun_and_an_invalid_record_in_words() -> None:
    wrong = job(100.0, 99.0, name="wrong")
    verdict = folded([sample(0.0), job(-64800.0), wrong, sample(1.4)]).verdict(1.4)
    assert said(verdict, "job-overrun") == (
        "Job overrun: backup has been running for 64801 seconds (limit 64800, --max-backup-behind)"
    )
    assert said(verdict, "job-record-invalid") == (
        "Job record wrong is invalid and grants nothing: finishes before it starts (delayed-repl job void ends it)"
    )


def test_what_is_said_where_nothing_is_known() -> None:
    assert folded([Sample(0.0)]).verdict(0.0).findings == (
        Finding(State.UNKNOWN, "internal-error", "Nothing is known about the delay"),
    )


def test_a_delay_that_the_newest_sample_did_not_see_is_said_to_be_old() -> None:
    failed = sample(70.0, error="timeout")
    records = [*samples(0.0, 50.0), failed]
    assert said(folded(records).verdict(90.6), "in-range").endswith(", slope 0; last known 41 seconds ago")
    assert "last known" not in said(folded(records[:-1]).verdict(90.0), "in-range")
    assert said(folded([*samples(0.0, 50.0), sample(50.0, error="timeout")]).verdict(40.0), "in-range").endswith(
        "; last known 0 seconds ago"
    )


def test_a_delay_stays_known_when_its_sample_is_too_old_to_fit() -> None:
    fold = folded([*samples(0.0, 50.0, OUT), sample(60.0, error="timeout"), sample(9000.0, error="timeout")])
    verdict = fold.verdict(9000.0)
    assert verdict.trend == Trend(None, OUT, None, 0, 0.0)
    assert said(verdict, "delay-out-of-bounds").endswith("--min-recovery-slope)")
    assert fold.line(9000.0)[1:] == (NO_FIT._replace(trend=verdict.trend), ABOVE)


def test_a_job_on_a_replica_of_which_nothing_is_known_is_said_all_the_same() -> None:
    verdict = folded([Sample(0.0), job(0.0), Sample(10.0)]).verdict(15.4)
    assert verdict.message == "Active backup: running 15 seconds (limit 64800), --max-backup-behind; unknown"


def test_the_line_is_what_the_verdict_rests_on() -> None:
    fold = folded(samples(0.0, 1000.0, OUT))
    points, its_fit, side = fold.line(1000.0)
    assert list(points) == [(10.0 * i, OUT) for i in range(40, 101)]
    assert its_fit.trend == fold.verdict(1000.0).trend
    assert side == ABOVE
    calm = folded(samples(0.0, 1000.0))
    assert calm.line(1000.0)[1].trend == calm.verdict(1000.0).trend == Trend(0.0, 7200.0, 0.0, 61, 600.0)


@pytest.mark.parametrize("worker", [False, True])
def test_without_words_the_findings_are_the_same(worker: bool) -> None:
    fold = Fold(LIMITS)
    for record in NIGHT:
        fold.add(record)
        for now in (fold.clock, fold.clock + 61.0) if isinstance(record, Sample) else ():
            plain, with_messages = (fold.verdict(now, worker=worker, with_messages=w) for w in (False, True))
            assert [(f.state, f.condition, f.held) for f in plain.findings] == [
                (f.state, f.condition, f.held) for f in with_messages.findings
            ]
            assert plain.held == with_messages.held


def test_an_episode_of_a_held_finding_begins_and_ends_with_it() -> None:
    records: list[Record] = [sample(0.0), job(0.0), *samples(10.0, 40.0, io="No"), sample(50.0, io="Yes")]
    since = [verdict.episode_since for verdict in verdicts(records)]
    assert since == [None, 10.0, 10.0, 10.0, 10.0, None]


def test_a_finding_that_a_failed_sample_hides_goes_on_being_held() -> None:
    stopped = [sample(10.0, io="No"), sample(20.0, error="timeout"), sample(40.0, io="No")]
    last = judged([sample(0.0), job(0.0), *stopped])
    assert (last.episode_since, last.held["backup"]) == (10.0, 30.0)


def test_a_failed_sample_that_a_job_accounts_for_is_charged_though_it_begins_no_episode() -> None:
    limits = LIMITS._replace(job_stops_server=("backup",))
    down = [sample(t, error="server-down") for t in (10.0, 20.0, 30.0)]
    verdict = folded([sample(0.0), job(0.0), *down], limits).verdict(35.0)
    assert (verdict.episode_since, verdict.held["backup"]) == (None, 25.0)


def test_a_trend_that_held_is_no_job_that_held() -> None:
    """A line that recovers by itself, stops, and recovers again, is held by its trend both times."""
    records = [
        *samples(0.0, 300.0, lambda t: 12000.0 - 2.0 * t),
        *samples(310.0, 800.0, 11400.0),
        *samples(810.0, 1100.0, lambda t: 11400.0 - 2.0 * (t - 800.0)),
    ]
    conditions = [verdict.condition for verdict in verdicts(records)]
    assert conditions[-1] == "recovering-above-maximum"
    assert "recovery-exceeded" not in conditions


def test_judging_and_folding_say_the_same_of_the_line() -> None:
    """A line that leaves its range by a little and comes back as slowly: it is back when the episode ends."""
    records = samples(0.0, 3000.0, lambda t: 9015.0 - abs(t - 1500.0) * 0.02 + (t // 10.0 % 2.0) * 3.0)
    fold, seen = Fold(LIMITS), []
    for record in records:
        fold.add(record)
        verdict = fold.verdict(record.t)
        out = verdict.episode_since is not None
        assert (verdict.condition == "in-range") == (not out) == (fold.line(record.t)[2] == IN_RANGE)
        seen.append(out)
    assert (seen[0], any(seen), seen[-1]) == (False, True, False)


@pytest.mark.parametrize("again", range(560, 640, 10))
def test_a_line_that_has_recovered_stays_news_however_often_it_comes_back(again: int) -> None:
    """In range for more than a window after the job; lost; in range for about a window; lost again."""
    back = 1210.0 + again
    records: list[Record] = [sample(0.0), job(0.0), sample(10.0), job(0.0, 10.0), *samples(20.0, 1000.0)]
    records += [*samples(1010.0, 1200.0, OUT), *samples(1210.0, back), *samples(back + 10.0, back + 200.0, OUT)]
    assert folded(records).verdict(back + 200.0).condition == "delay-out-of-bounds"


def test_a_sample_without_a_delay_ends_no_episode_however_long_ago_the_last_delay_was() -> None:
    assert folded([*samples(0.0, 100.0, OUT), Sample(9000.0)]).verdict(9000.0).episode_since == 0.0


def test_what_is_not_fetched_is_held_by_a_job_that_stopped_the_server_alone() -> None:
    """Beside a thread that is stopped, of which there is a table elsewhere."""
    limits = LIMITS._replace(job_stops_server=("backup",))
    for error, of, held in (("server-down", limits, True), ("timeout", limits, False), ("server-down", LIMITS, False)):
        seen = [sample(0.0, io="Yes", source_log=("b", 1)), job(0.0), sample(1900.0, error=error)]
        assert finding(folded(seen, of).verdict(1900.0), "source-log-stale").held == held


def test_time_that_has_not_come_yet_is_not_given_back() -> None:
    fold = folded([sample(0.0, OUT), job(0.0), sample(10.0, OUT), sample(40.0, OUT)])
    assert [fold.verdict(now).held["backup"] for now in (0.0, 39.0, 40.0, 41.0)] == [30.0, 30.0, 30.0, 31.0]


def test_no_fit_ends_further_off_than_its_spread() -> None:
    assert [spread(n) for n in (1, 3, 36, 100)] == pytest.approx([5.5, 4.0, 4.0, 5.5])
    assert spread(61) == pytest.approx(math.sqrt(61) / 2 + 5 / math.sqrt(61))


@pytest.mark.parametrize(("inside", "sure"), [(4.0 * spread(61) + 0.1, True), (4.0 * spread(61) - 0.1, False)])
@pytest.mark.parametrize(("bound", "way"), [(5400.0, 1.0), (9000.0, -1.0)])
def test_a_fit_is_spared_where_it_cannot_end_out_of_bounds(bound: float, way: float, inside: float, sure: bool) -> None:
    """Samples four seconds apart, and their middle so far inside the bound."""
    fold = folded(samples(0.0, 600.0, lambda t: bound + way * inside + (2.0 if t % 20.0 else -2.0)))
    assert fold._window.surely_in_range(600.0) == sure


def test_a_calm_line_is_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = folded(samples(0.0, 600.0, lambda t: 7200.0 + t % 3.0))
    monkeypatch.setattr("check_delayed_repl.judge.window.fit", None)
    for each in samples(610.0, 900.0):
        fold.add(each)
    assert fold.verdict(900.0, with_messages=False).condition == "in-range"


def test_a_setting_from_before_the_records_counts() -> None:
    fold = Fold(LIMITS, 7200)
    fold.add(sample(0.0, sql_delay=0))
    assert fold.verdict(0.0).condition == "delay-setting-lost"
