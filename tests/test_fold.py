"""Folding: judging changes nothing, and a fold that was saved goes on as if it never had been."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judge_builders import LIMITS, folded, job, judged, look, looks, verdicts

from check_delayed_repl.history import open_history
from check_delayed_repl.history.recording import dumps, read
from check_delayed_repl.judge.fold import FOLD_VERSION, Fold, judge
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.judgement import judged as judged_from
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Record, Sample

OUT = 20000.0

NIGHT: list[Record] = [
    *looks(0.0, 700.0, io="Yes", sql="Yes", sql_delay=7200, source_id=1, heartbeat_id=1, local=0.5, ts=1.0),
    job(700.0),
    *looks(710.0, 1500.0, lambda t: 6500.0 + t * 2.0, io="Yes", sql="No", source_log=("b", 1), relay_log=("b", 1)),
    look(1510.0, error="timeout", message="no answer"),
    look(1520.0, error="server-down"),
    job(None, 1525.0, kind=None),
    job(1525.0, 1500.0, name="wrong"),
    *looks(1530.0, 2400.0, lambda t: 9500.0 - (t - 1530.0), io="Connecting", sql="Yes", source_id=2, heartbeat_id=1),
    look(2390.0, 1e9),
    *looks(2410.0, 2900.0, OUT, io="Yes", sql="Yes", source_log=("b", 2)),
    *looks(2910.0, 3200.0, lambda t: 7200.0 + t % 60.0, source_id=2, heartbeat_id=2),
]


def reloaded(fold: Fold, records: list[Record], limits: Limits = LIMITS) -> Fold:
    """What another process makes of the fold once it has been saved, and of the samples that the history keeps."""
    other = Fold.load(fold.dump(), limits)
    assert other is not None
    other.restore(r for r in records if isinstance(r, Sample) and r.t >= fold.clock - fold.reach)
    return other


@pytest.mark.parametrize(
    "limits", [LIMITS, LIMITS._replace(max_backup_behind=300.0, max_recovery_time=100.0, window=60.0)]
)
def test_saving_and_loading_after_any_sample_changes_nothing(limits: Limits) -> None:
    straight, kept = Fold(limits), Fold(limits)
    for i, record in enumerate(NIGHT):
        straight.add(record, i)
        kept.add(record, i)
        if isinstance(record, Sample):
            kept = reloaded(kept, NIGHT[: i + 1], limits)
            assert kept.verdict(record.t) == straight.verdict(record.t)
            assert kept.dump() == straight.dump()


def test_saving_and_loading_after_a_job_line_changes_nothing() -> None:
    records: list[Record] = [*looks(0.0, 100.0, OUT), job(100.0)]
    fold = folded(records)
    assert fold.verdict(105.0).condition == "active-backup"
    assert reloaded(fold, records).verdict(105.0).condition == "active-backup"


def test_a_job_line_that_a_check_has_read_counts_at_the_next_check_as_well(tmp_path: Path) -> None:
    history = open_history(str(tmp_path / "history.db"), time.monotonic() + 60.0)
    try:
        for sample in looks(1e9, 1e9 + 100.0, OUT):
            history.add_sample("db", sample)
        history.add_job("db", job(1e9 + 100.0))
        conditions = [judged_from(history, "db", LIMITS, 1e9 + 105.0).condition for _ in range(2)]
        history.add_sample("db", look(1e9 + 110.0, OUT))
        conditions.append(judged_from(history, "db", LIMITS, 1e9 + 110.0).condition)
        assert conditions == ["active-backup"] * 3
    finally:
        history.close()


def test_job_lines_between_two_samples_grant_no_more_than_their_budget() -> None:
    """A writer that starts its job right after each sample and takes it back right before the next."""
    limits = LIMITS._replace(max_backup_behind=100.0)
    fold = folded(looks(0.0, 100.0, OUT), limits)
    asked = []
    for i in range(11, 200):
        fold.add(job(10.0 * i - 9.0))
        asked.append(fold.verdict(10.0 * i - 5.0).state)
        fold.add(job(None, kind=None, void=True))
        fold.add(look(10.0 * i, OUT))
    assert asked.count(State.WARNING) * 10.0 <= 100.0 + 10.0


def test_jobs_that_are_done_between_two_samples_grant_no_more_than_the_recovery_budget() -> None:
    limits = LIMITS._replace(max_recovery_time=100.0)
    fold = folded(looks(0.0, 100.0, OUT), limits)
    asked = []
    for i in range(11, 200):
        fold.add(job(10.0 * i - 9.0, 10.0 * i - 8.0))
        asked.append(fold.verdict(10.0 * i - 5.0).state)
        fold.add(job(None, kind=None, void=True))
        fold.add(look(10.0 * i, OUT))
    assert asked.count(State.WARNING) * 10.0 <= 100.0 + 10.0


def test_judging_changes_nothing() -> None:
    fold = folded(NIGHT[:150])
    before = fold.dump()
    for now in (fold.clock - 500.0, fold.clock, fold.clock + 5.0, fold.clock + 1e7):
        assert fold.verdict(now) == fold.verdict(now)
        fold.verdict(now, worker=True)
    assert fold.dump() == before


def test_judging_between_samples_changes_nothing_that_follows() -> None:
    asked, silent = Fold(LIMITS), Fold(LIMITS)
    for record in NIGHT:
        asked.add(record)
        silent.add(record)
        asked.verdict(record.t)
    assert asked.dump() == silent.dump()


def test_a_recording_of_the_records_is_judged_alike() -> None:
    again = list(read(dumps(record) + "\n" for record in NIGHT))
    assert again == NIGHT
    assert list(verdicts(again)) == list(verdicts(NIGHT))


def test_judge_folds_and_judges() -> None:
    assert judge(NIGHT, LIMITS, 3200.0) == judged(NIGHT, now=3200.0)
    assert judge(looks(0.0, 10.0), LIMITS, 500.0, worker=True).condition == "worker-missing"


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
    text = folded(looks(0.0, 100.0)).dump()
    assert Fold.load(text, LIMITS) is not None
    assert Fold.load(text, LIMITS._replace(window=601.0)) is None
    old = json.loads(text) | {"version": FOLD_VERSION - 1}
    assert Fold.load(json.dumps(old), LIMITS) is None


def test_a_cache_of_nothing_is_worth_nothing() -> None:
    assert Fold.load(Fold(LIMITS).dump(), LIMITS) is None


def test_a_fold_keeps_the_samples_of_its_reach_alone() -> None:
    assert folded([]).reach == 3600.0
    assert Fold(LIMITS._replace(window=7200.0)).reach == 7200.0
    fold = folded(looks(0.0, 10000.0))
    assert len(fold._points) == 361


def test_a_fold_does_not_grow_with_a_line_in_order() -> None:
    def size(fold: Fold) -> int:
        return len(fold.dump())

    fold = folded(looks(0.0, 1000.0, io="Yes", sql="Yes"))
    first = size(fold)
    for sample in looks(1010.0, 20000.0, io="Yes", sql="Yes"):
        fold.add(sample)
    assert size(fold) <= first + 20


def test_the_episodes_arrival_is_that_of_its_first_sample() -> None:
    fold = Fold(LIMITS)
    for number, sample in enumerate([*looks(0.0, 50.0), *looks(60.0, 200.0, OUT)], 1):
        fold.add(sample, number)
    data = json.loads(fold.dump())
    assert data["episode_since"] == fold.verdict(200.0).episode_since
    assert data["episode_arrival"] == data["episode_since"] / 10.0 + 1


values = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(values, st.none() | values, st.sampled_from((None, "timeout", "server-down"))), max_size=15))
def test_no_recording_is_a_fault(rows: list[tuple[float, float | None, str | None]]) -> None:
    records: list[Record] = [Sample(t, delay, error) for t, delay, error in rows]
    for verdict in verdicts(records):
        assert verdict.findings
        assert all("\n" not in f.message for f in verdict.findings)
