"""The kept fold: whatever is kept of it, and whenever, the verdict is that of the records alone."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from check_delayed_repl.history import open_history
from check_delayed_repl.history.codec import checksum
from check_delayed_repl.history.folding import judged
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Sample

NAME = "db1"
T0 = 1700000000.0
LIMITS = Limits()


def sample(place: int, delay: float = 7200.0) -> Sample:
    t = T0 + 10 * place
    return Sample(t, delay, ts=t - delay, source_id=1, heartbeat_id=1, local=0.5, io="Yes", sql="Yes", sql_delay=7200)


def conditions(verdict: Verdict) -> list[str]:
    return [finding.condition for finding in verdict.findings]


def test_a_job_line_outlives_a_check_that_comes_before_the_next_sample(tmp_path: Path) -> None:
    history = open_history(str(tmp_path / "history.db"), time.monotonic() + 60)
    for place in range(6):
        history.add_sample(NAME, sample(place))
    now = T0 + 51
    assert conditions(judged(history, NAME, LIMITS, now)) == ["in-range"]
    history.add_job(NAME, JobLine(now, "a", "backup", now))
    for _ in range(2):
        assert conditions(judged(history, NAME, LIMITS, now)) == ["in-range"]
    history.add_sample(NAME, sample(6))
    assert conditions(judged(history, NAME, LIMITS, now + 10)) == ["active-backup"]
    history.add_job(NAME, JobLine(now + 11, "a", "backup", now, now + 11))
    for _ in range(2):
        assert conditions(judged(history, NAME, LIMITS, now + 11)) == ["active-backup"]
    history.add_sample(NAME, sample(7))
    assert conditions(judged(history, NAME, LIMITS, now + 20)) == ["in-range"]
    history.close()


@pytest.mark.parametrize(
    "damage",
    [
        *("folded = REPLACE(folded, 'null', '[]')", "folded = CAST(X'FF41' AS TEXT)", "folded = X'FF00'"),
        *("folded = 5", "folded = ''", "folded = 'SEAL' || 'NESTED'", "folded = 'SEAL' || '{}'"),
        *("arrival = arrival + 50", "arrival = 'abc'", "arrival = CAST(X'FF41' AS TEXT)", "arrival = 9e999"),
    ],
)
def test_a_kept_fold_that_is_damaged_changes_no_verdict(tmp_path: Path, damage: str) -> None:
    path = str(tmp_path / "history.db")
    history = open_history(path, time.monotonic() + 60)
    history.add_records(NAME, [sample(place) for place in range(100)])
    assert conditions(judged(history, NAME, LIMITS, T0 + 991)) == ["in-range"]
    with sqlite3.connect(path) as other:
        ((key, arrival),) = other.execute("SELECT judge, arrival FROM fold")
        for word, text in (("NESTED", "[" * 100_000), ("{}", "{}")):
            if word in damage:
                damage = damage.replace(word, text).replace("SEAL", checksum(f"{arrival}{text}"))
        assert other.execute(f"UPDATE fold SET {damage}").rowcount == 1
    other.close()
    history.add_sample(NAME, sample(100)._replace(sql="No", sql_errno=1032))
    assert conditions(judged(history, NAME, LIMITS, T0 + 1001)) == ["sql-error", "in-range"]
    assert history.load_fold(NAME, key) is not None, "the next one finds one that is whole"
    history.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["sample", "wild", "start", "finish", "void", "check"]), min_size=3, max_size=25))
def test_checks_in_between_change_no_verdict(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    """A check may come between any two records, and keep the fold as it is then."""
    history = open_history(str(tmp_path_factory.mktemp("fold") / "h.db"), time.monotonic() + 60)
    place, job = 0, 0
    for step in steps:
        now = T0 + 10 * place + 1
        if step in ("sample", "wild"):
            place += 1
            history.add_sample(NAME, sample(place, 7200.0 if step == "sample" else 20000.0))
        elif step == "check":
            judged(history, NAME, LIMITS, now)
        else:
            job += step == "start"
            finished = now if step == "finish" else None
            history.add_job(NAME, JobLine(now, f"job{job}", "backup", now - 1, finished, step == "void"))
    now = T0 + 10 * place + 2
    afresh = Fold(LIMITS)
    for _, record in history.records(NAME):
        afresh.add(record)
    assert judged(history, NAME, LIMITS, now) == afresh.verdict(now)
    history.close()
