"""How well alarms are raised, in small: `python -m tests.simulator` tells it at length.

Everything is seeded, so that what passes here once passes always.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from simulator import rows, score
from simulator.years import Year

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
    slope, correlation = sum(j.trend.slope or 0.0 for j in judged), sum(j.trend.correlation or 0.0 for j in judged)
    fits = f"fitted {sum(j.trend.samples for j in judged)}, slopes {slope:.6f}, correlations {correlation:.6f}"
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


if __name__ == "__main__":
    STORIES.write_text("".join(f"{line}\n" for line in stories()))
