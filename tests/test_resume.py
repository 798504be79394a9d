"""A fold that begins late says what the whole one says, from the sample on at which it claims to."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest
from hostile import LENGTHS, LIMITS, SEEDS, T, calm, recording
from hypothesis import example, given, settings
from hypothesis import strategies as st

from check_delayed_repl.history import folding as judgement
from check_delayed_repl.history import open_history
from check_delayed_repl.judge import findings, observed, resume, window
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.resume import LateFold
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import HELD_S, JobLine, Past, Record, Sample

QUICK = LIMITS._replace(max_recovery_time=120)
BLOCK = 2


@pytest.fixture(autouse=True)
def short_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "MAX_REACH", 90.0)
    monkeypatch.setattr(resume, "DAY", 90.0)
    monkeypatch.setattr(observed, "DAY", 90.0)
    monkeypatch.setattr(findings, "DAY", 90.0)
    monkeypatch.setattr(findings, "WENT_BACK_FOR", 60.0)


def past_of(records: list[Record]) -> Past:
    samples = [r for r in records if isinstance(r, Sample)]
    fields = ("source_id", "io", "sql", "source_log", "relay_log", "server", "relay_limited", "filters")
    seen = [value for s in samples for field in fields if (value := getattr(s, field)) is not None]
    beats = [s.ts for s in samples if s.ts is not None]
    delays = [s.sql_delay for s in samples if s.sql_delay is not None]
    jobs = tuple(r for r in records if isinstance(r, JobLine))
    setting = max([delay for delay in delays if delay < HELD_S] or delays, default=None)
    newest = max((s.t for s in samples), default=None)
    local = any(s.local is not None or s.local_missing for s in samples)
    bare = not (seen or beats or delays)
    return Past(len(samples), newest, setting, local, bare, jobs)


def compared(records: list[Record], cut: int, limits: Limits) -> int:
    """How many samples a fold from `cut` on was as good as the whole one for; each is compared."""
    first = next((r for r in records[cut:] if isinstance(r, Sample)), None)
    if first is None:
        return 0
    late = LateFold(limits, past_of(records[:cut]), first.t)
    whole = Fold(limits)
    for record in records[:cut]:
        whole.add(record)
    good = False
    samples = 0
    numbered = [*enumerate(records)][cut:]
    for start in range(0, len(numbered), BLOCK):
        block = numbered[start : start + BLOCK]
        for number, record in block:
            whole.add(record, number)
            if good:
                late.fold.add(record, number)
                samples += 1
                same(late.fold, whole, record.t)
        if not good and late.add(block):
            good = True
            same(late.fold, whole, block[-1][1].t)
    return samples


def same(late: Fold, whole: Fold, t: float) -> None:
    for now in (t, whole.clock, whole.clock + 1.0, whole.clock + 45.0):
        assert late.verdict(now, worker=True) == whole.verdict(now, worker=True)


@settings(max_examples=120, deadline=None)
@example(599, 2, 0.5, LIMITS)
@example(431492, 10, 0.25, LIMITS)
@example(3962, 2, 0.25, QUICK)
@example(56569258, 19, 0.21484375, LIMITS)
@example(1930715460, 13, 0.19501661034767276, QUICK._replace(max_recovery_time=0))
@given(SEEDS, LENGTHS, st.floats(0.0, 1.0), st.sampled_from([LIMITS, QUICK, QUICK._replace(max_recovery_time=0)]))
def test_a_late_fold_is_as_good_as_it_claims(seed: int, length: int, where: float, limits: Limits) -> None:
    records = recording(seed, length) + [
        r if isinstance(r, Sample) else r._replace(id=f"later-{r.id}") for r in later(recording(seed + 1, length))
    ]
    compared(records, int(where * len(records)), limits)


def later(records: list[Record]) -> list[Record]:
    """The same, a day later, heartbeats and all."""
    moved: list[Record] = []
    for r in records:
        if isinstance(r, Sample):
            moved.append(r._replace(t=r.t + 86400.0, ts=None if r.ts is None else r.ts + 86400.0))
        else:
            started = None if r.started_at is None else r.started_at + 86400.0
            finished = None if r.finished_at is None else r.finished_at + 86400.0
            moved.append(r._replace(t=r.t + 86400.0, started_at=started, finished_at=finished))
    return moved


def test_it_claims_so_often_enough_to_be_tested() -> None:
    claimed = 0
    for seed in range(80):
        records = recording(seed, 6) + later(recording(seed + 1000, 6))
        claimed += compared(records, len(records) // 2, QUICK) > 0
    assert claimed >= 20


CALM: list[Record] = [calm(T + 10.0 * i) for i in range(100)]


def is_good(before: list[Record], after: list[Record] = CALM) -> bool:
    return compared(before + after, len(before), QUICK) > 0


def test_a_calm_line_is_enough() -> None:
    assert is_good([])
    assert is_good([calm(T - 10.0 * i) for i in range(50, 0, -1)])


def test_a_calm_sample_now_and_then_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "BLOCK", 16)
    samples = [calm(T + 10.0 * i) for i in range(160)]
    after: list[Record] = [s._replace(error="timeout") if i % 10 == 3 else s for i, s in enumerate(samples)]
    assert is_good([], after)


@pytest.mark.parametrize(
    "older",
    [
        calm(T + 50.0),  # a clock that was stepped
        JobLine(T - 10.0, "a", "backup", T - 10.0),  # a job that still runs
        JobLine(T - 10.0, "a", "backup", T - 20.0, T + 2000.0),  # or claims to
        JobLine(T - 10.0, "a", unreadable="what"),
    ],
)
def test_what_is_left_out_may_still_matter(older: Record) -> None:
    first = calm(T - 20.0)
    assert not is_good([first, older])


def test_a_heartbeat_from_the_future_is_forgotten() -> None:
    assert is_good([calm(T - 20.0, ts=T + 5000.0)])


def test_a_local_heartbeat_that_nobody_asks_for_any_more_is_not_forgotten() -> None:
    silent: list[Record] = [calm(r.t, local=None) for r in CALM if isinstance(r, Sample)]
    assert is_good([calm(T - 20.0, local=None)], silent)
    assert not is_good([calm(T - 20.0)], silent)
    assert is_good([calm(T - 20.0)], [*CALM[:5], *silent[5:]])


def test_a_job_that_is_over_does_not_matter() -> None:
    first = calm(T - 500.0)
    for line in (JobLine(T - 10.0, "a", "backup", T - 300.0, T - 100.0), JobLine(T - 10.0, "a", void=True)):
        assert is_good([first, line])
        # Unless more is said of it.
        more = JobLine(T + 100.0, "a", "backup", T + 90.0)
        assert not is_good([first, line], [*CALM[:10], more, *CALM[10:]])


def test_the_largest_delay_setting_is_known() -> None:
    before: list[Record] = [calm(T - 20.0, sql_delay=170)]
    lowered: list[Record] = [calm(r.t, sql_delay=120) for r in CALM if isinstance(r, Sample)]
    lost: list[Record] = [calm(T + 1000.0, sql_delay=0)]
    assert compared(before + lowered + lost, 1, QUICK) > 0


def test_a_line_that_is_never_calm_is_folded_whole() -> None:
    assert not is_good([], [r._replace(delay=50.0) for r in CALM if isinstance(r, Sample)])
    assert not is_good([], [r._replace(sql="No") for r in CALM if isinstance(r, Sample)])


@pytest.mark.parametrize("bare", [False, True])
def test_a_long_history_is_not_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: bool
) -> None:
    monkeypatch.setattr(judgement, "WORTH_LEAVING_OUT", 500)
    monkeypatch.setattr(judgement, "LOOKBACKS", (100.0, 2000.0))
    history = open_history(str(tmp_path / "h.db"), time.monotonic() + 60)
    chance = random.Random(1)
    samples = [calm(T + 10.0 * i) for i in range(2000)]
    records: list[Record] = [Sample(s.t, s.delay) if bare else s for s in samples]
    # A backup by the way, and the line away from its range at its end: only the second, longer way back finds it calm.
    records[700:700] = [JobLine(T + 7000.0, "b", "backup", T + 7000.0, T + 7050.0)]
    records[-40:] = [r._replace(delay=150.0 + chance.random() * 400.0) for r in records[-40:] if isinstance(r, Sample)]
    history.add_records("db1", records)
    added: list[Record] = []
    add = Fold.add
    monkeypatch.setattr(Fold, "add", lambda self, r, a=None: (added.append(r), add(self, r, a))[1])
    now = records[-1].t + 1.0
    late = judgement.judged(history, "db1", QUICK, now)
    assert len(added) < 1200
    whole = Fold(QUICK)
    for number, record in history.records("db1"):
        whole.add(record, number)
    assert late == whole.verdict(now)
    history.close()
