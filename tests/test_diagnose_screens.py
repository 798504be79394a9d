"""The screens of `delayed-repl diagnose`, one at least for every condition.

`python tests/test_diagnose_screens.py` draws them anew.
"""

from __future__ import annotations

import sys
from datetime import UTC
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pytest
from diagnose_scenes import SCENES

from check_delayed_repl.conditions import BESIDE, HARD, HOLDABLE, LINE, names
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.diagnose.screen import Line, coloured, plain, to_ascii
from check_delayed_repl.diagnose.text import WIDTH, Pen, frame, screen

GOLDEN = Path(__file__).parent / "golden" / "diagnose"
FRAMES = ("backup-recovery-window", "recovering-below-minimum", "sql-stopped", "in-range")
"""Of these the live view is kept too."""
UNDRAWN = {
    "job-records-flooded",
    "replica-ambiguous",
    "rescue-in-progress",
    "line-drained",
    "replica-changed",
    "replication-filtered",
    "relay-space-limited",
    "io-unstable",
}
"""New conditions that have no scene yet."""


def drawn(picture: Diagnosis) -> str:
    return plain(screen(picture, Pen(zone=UTC)))


def framed(picture: Diagnosis) -> str:
    return plain(frame(picture, Pen(zone=UTC), 40))


def plotted(picture: Diagnosis) -> str:
    return to_ascii(plain(screen(picture, Pen(zone=UTC, unicode=False))))


def golden() -> dict[str, str]:
    """File name → what it should hold."""
    files = {f"{name.replace(' ', '-')}.txt": drawn(build()) for name, build in SCENES.items()}
    files |= {f"watch-{name}.txt": framed(SCENES[name]()) for name in FRAMES}
    files["ascii.txt"] = plotted(SCENES["backup-recovery-window"]())
    return files


def test_every_condition_has_a_screen() -> None:
    conditions = set(names(HARD, HOLDABLE, LINE, BESIDE)) - UNDRAWN
    conditions = conditions - {"active", "recovery-window"} | {
        "active-backup",
        "active-deshard",
        "backup-recovery-window",
    }
    assert conditions - {name.partition(" ")[0] for name in SCENES} == set()


@pytest.mark.parametrize("name", SCENES)
def test_the_scene_is_what_it_is_called(name: str) -> None:
    condition = name.partition(" ")[0]
    assert condition in {finding.condition for finding in SCENES[name]().verdict.findings}


def test_the_screens_are_the_golden_ones() -> None:
    wanted = golden()
    stale = [
        name for name, text in wanted.items() if not (GOLDEN / name).exists() or (GOLDEN / name).read_text() != text
    ]
    assert stale == [], "look at the changes, then run python tests/test_diagnose_screens.py"
    assert {path.name for path in GOLDEN.iterdir()} == set(wanted)


def is_command(line: Line) -> bool:
    return any(style == "command" for _, style in line)


@pytest.mark.parametrize("name", SCENES)
def test_a_screen_is_80_columns_wide_but_for_what_is_to_be_pasted(name: str) -> None:
    lines = screen(SCENES[name](), Pen(zone=UTC))
    assert max(sum(len(text) for text, _ in line) for line in lines if not is_command(line)) <= WIDTH


@pytest.mark.parametrize("name", SCENES)
def test_colours_change_no_text(name: str) -> None:
    import re

    lines = screen(SCENES[name](), Pen(zone=UTC))
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured(lines))
    assert [line.rstrip() for line in bare.splitlines()] == plain(lines).splitlines()


@pytest.mark.parametrize("name", SCENES)
def test_a_frame_fits_its_terminal(name: str) -> None:
    for rows in (24, 40, 60):
        assert len(frame(SCENES[name](), Pen(zone=UTC), rows)) <= rows


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for old in GOLDEN.iterdir():
        old.unlink()
    for file, text in golden().items():
        (GOLDEN / file).write_text(text)
