"""How well alarms are raised, in small: `python -m tests.simulator` tells it at length.

Everything is seeded, so that what passes here once passes always.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from simulator import rows, score
from simulator.years import Incident, Year

from check_delayed_repl.backtest.replay import Replay
from check_delayed_repl.history.recording import dumps, read
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.records import JobLine, Sample

LINES = int(os.environ.get("ALARM_QUALITY_LINES", "20"))
"""Random lines a row."""
DAYS = int(os.environ.get("ALARM_QUALITY_DAYS", "2"))
"""Days of each replica."""


@pytest.mark.parametrize("name", rows.ROWS)
def test_every_line_of_a_row_keeps_its_promise(name: str) -> None:
    broken = [f"{f.number}: {f.drawn}; at {f.broken.t:.0f} {f.broken.condition}" for f in rows.run(name, LINES)]
    assert not broken


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("bump-in-range", 140),
        ("bump-in-range", 181),
        ("ragged", 112),
        ("ragged", 128),
        ("ragged", 282),
        ("turn", 78),
        ("lost-from-saw-tooth", 10),
        ("leak", 193),
    ],
)
def test_lines_that_were_once_judged_wrongly(name: str, number: int) -> None:
    seed = f"{name}/{number}"
    line = rows.ROWS[name].draw(Random(seed))
    assert line.broken(rows.judge(line, seed)) is None


STORIES = Path(__file__).parent / "golden" / "lines.txt"


def story(name: str, number: int) -> str:
    """What the judge says of one line, and what its fits add up to: any change of the trend changes it."""
    seed = f"{name}/{number}"
    judged = rows.judge(rows.ROWS[name].draw(Random(seed)), seed)
    said = [f"{j.t:.0f} {j.condition}" for i, j in enumerate(judged) if not i or j.condition != judged[i - 1].condition]
    slope, correlation = sum(j.slope or 0.0 for j in judged), sum(j.correlation or 0.0 for j in judged)
    fits = f"fitted {sum(j.samples for j in judged)}, slopes {slope:.6f}, correlations {correlation:.6f}"
    return f"{name}/{number}: {'; '.join(said)} | {fits}"


def stories() -> list[str]:
    return [story(name, number) for name in rows.ROWS for number in range(6)]


def test_lines_are_judged_as_they_were() -> None:
    """After a change that is meant: python tests/test_alarm_quality.py writes them anew, to be read before kept."""
    assert stories() == STORIES.read_text().splitlines()


@pytest.mark.parametrize("replica", range(4))
def test_a_replicas_days_have_no_false_page_and_no_missed_incident(replica: int) -> None:
    year = Year(replica, DAYS, incident_every=2.0, seed="small")
    ours = score.Score()
    ours.add(year, score.judge(year)[score.OURS])
    assert [(f.alarm.begin, f.alarm.condition) for f in ours.false] == []
    assert ours.missed == []


# --- the simulator itself


def test_a_seed_gives_the_same_records_again() -> None:
    first, second = (list(Year(1, 1, seed="x")) for _ in range(2))
    assert first == second
    assert first != list(Year(1, 1, seed="y"))


def test_records_are_a_recording() -> None:
    records = list(Year(3, 1, seed="x"))
    assert list(read(dumps(record) + "\n" for record in records)) == records


def test_days_have_what_they_should() -> None:
    records = list(Year(0, 2, incident_every=1.0, seed="x"))
    samples = [r for r in records if isinstance(r, Sample)]
    assert len(samples) == pytest.approx(2 * 8640, abs=400)
    assert all(a.t < b.t for a, b in pairwise(samples))
    jobs = [r for r in records if isinstance(r, JobLine)]
    assert {job.kind for job in jobs if not job.void} >= {"backup"}


def test_a_real_delay_rises_by_no_more_than_a_second_a_second() -> None:
    samples = [r for r in Year(0, 2, seed="x") if isinstance(r, Sample) and r.delay is not None]
    for a, b in pairwise(samples):
        assert a.delay is not None
        assert b.delay is not None
        assert b.delay - a.delay <= b.t - a.t + 3.1


def test_alarms_are_scored_against_what_happened() -> None:
    year = Year(0, 365, seed="x")
    found, missed, cut = Incident("found"), Incident("missed"), Incident("cut short")
    found.begin, found.end = 1000.0, 2000.0
    missed.begin, missed.end = 5000.0, 6000.0
    cut.begin = 9000.0
    year.incidents = [found, missed, cut]
    result = score.Score()
    alarms = [score.Alarm(100.0, 200.0), score.Alarm(1030.0, 1500.0), score.Alarm(1600.0, 1700.0)]
    result.add(year, [*alarms, score.Alarm(9500.0, 9600.0)])
    assert result.found == {"found": [30.0]}
    assert [incident.kind for _, _, incident in result.missed] == ["missed"]
    assert [page.alarm.begin for page in result.false] == [100.0]
    assert result.pages == 4


def test_an_alarm_that_was_on_before_counts_from_the_beginning() -> None:
    year = Year(0, 365, seed="x")
    incident = Incident("leak")
    incident.begin, incident.end = 1000.0, 2000.0
    year.incidents = [incident]
    result = score.Score()
    result.add(year, [score.Alarm(900.0, 1100.0)])
    assert (result.found, result.false) == ({"leak": [0.0]}, [])


def test_bells_ring_once_for_one_time_in_critical() -> None:
    bell = score.Bell()
    for t, critical in ((0.0, False), (10.0, True), (20.0, True), (30.0, False), (40.0, True)):
        bell.see(t, critical)
    bell.stop(50.0)
    assert bell.alarms == [score.Alarm(10.0, 30.0), score.Alarm(40.0, 50.0)]


def test_the_projects_own_rule_is_the_judge_itself() -> None:
    year = Year(2, 1, seed="x")
    alarms = score.judge(year)[score.OURS]
    rulings = list(Replay(year.profile.limits).feed(Year(2, 1, seed="x")))
    entries = [
        b.t
        for a, b in zip([None, *rulings], rulings, strict=False)
        if b.state == State.CRITICAL and (not a or a.state != b.state)
    ]
    assert [alarm.begin for alarm in alarms] == entries


if __name__ == "__main__":
    STORIES.write_text("".join(f"{line}\n" for line in stories()))
