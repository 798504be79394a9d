"""`delayed-repl explain`: every condition, by the name that the check prints, without a server."""

from __future__ import annotations

import pytest
from conftest import Command

from check_delayed_repl.commands.explain import state
from check_delayed_repl.conditions import CONDITIONS, MEANINGS, find


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
