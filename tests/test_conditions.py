"""The list of conditions that every other list is made from, and `delayed-repl explain`, which tells it."""

from __future__ import annotations

import pytest
from conftest import Command

from check_delayed_repl.commands.explain import state
from check_delayed_repl.conditions import (
    BESIDE,
    CONDITIONS,
    FAULT,
    HARD,
    HOLDABLE,
    LINE,
    MEANINGS,
    find,
    rank,
)


def test_the_list_has_every_condition(tool: Command) -> None:
    run = tool("explain")
    assert (run.returncode, run.stderr) == (0, "")
    rows = {line.split()[0]: line for line in run.stdout.splitlines() if line}
    assert all(condition.title in rows[condition.name] for condition in CONDITIONS)
    assert max(map(len, run.stdout.splitlines())) < 110


@pytest.mark.parametrize("name", [condition.name for condition in CONDITIONS] + ["active-dump", "dump-recovery-window"])
def test_each_is_explained(capsys: pytest.CaptureFixture[str], name: str) -> None:
    from check_delayed_repl.tool import run

    assert run(["explain", name]) == 0
    said = " ".join(capsys.readouterr().out.split())
    condition = find(name)
    assert f"{condition.name}: {condition.title} State: {state(condition)} {MEANINGS[condition.name]}" in said


def test_a_name_that_is_mistyped(tool: Command) -> None:
    run = tool("explain", "line-drain")
    assert (run.returncode, run.stdout) == (3, "")
    assert run.stderr == "delayed-repl: CONDITION: 'line-drain' is none: did you mean line-drained?\n"
    assert "delayed-repl explain lists them" in tool("explain", "qqq").stderr


def test_the_kinds_follow_one_another_in_rank() -> None:
    order = [HARD, HOLDABLE, LINE, BESIDE, FAULT]
    kinds = [order.index(condition.kind) for condition in CONDITIONS]
    assert kinds == sorted(kinds)
    assert [rank(condition.name) for condition in CONDITIONS] == list(range(len(CONDITIONS)))


def test_a_kind_of_job_in_a_name_is_understood() -> None:
    for name in ("active-backup", "active-KIND", "active-x-recovery-window"):
        assert (found := find(name)) is not None
        assert found.name == "active-KIND"
    assert (found := find("snapshot-recovery-window")) is not None
    assert found.name == "KIND-recovery-window"
    assert rank("active-backup") < rank("backup-recovery-window")
    assert find("no-such-condition") is None
    assert rank("no-such-condition") == len(CONDITIONS)
