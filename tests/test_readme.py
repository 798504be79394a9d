"""The README says what the commands say. `python tests/test_readme.py` pastes the help texts in anew."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from contextlib import redirect_stdout
from io import StringIO

import pytest
from conftest import ROOT

from check_delayed_repl import plugin, tool
from check_delayed_repl.commands.explain import state
from check_delayed_repl.conditions import BESIDE, CONDITIONS, FAULT, HARD, HOLDABLE, LINE
from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.report.metrics import metrics
from check_delayed_repl.tool import COMMANDS

README = ROOT / "README.md"
COMMAND_LINES = ("check_delayed_repl", "delayed-repl", *(f"delayed-repl {name}" for name in COMMANDS))
ACTION_LINES = (
    *(f"delayed-repl job {action}" for action in ("start", "finish", "void", "run", "list")),
    *(f"delayed-repl history {action}" for action in ("export", "import", "prune")),
    *(f"delayed-repl rescue {action}" for action in ("ready", "freeze", "find", "forward", "resume", "status")),
)


def help_of(command_line: str) -> str:
    command, *rest = command_line.split()
    with redirect_stdout(StringIO()) as said:
        (plugin if command == "check_delayed_repl" else tool).run([*rest, "--help"])
    return said.getvalue()


def conditions() -> str:
    """Every condition in a few words, by how it is held."""
    heads = {
        HARD: "**CRITICAL whatever job is running**",
        HOLDABLE: "**CRITICAL, held at WARNING while a job is active and its budget lasts**",
        LINE: "**The delay line**",
        BESIDE: "**Beside these, WARNING at first**",
        FAULT: "**UNKNOWN**",
    }
    paragraphs = []
    for kind, head in heads.items():
        entries = []
        for condition in CONDITIONS:
            if condition.kind == kind:
                of_line = f", {state(condition).partition(';')[0]}" if kind == LINE else ""
                entries.append(f"`{condition.name}` ({condition.title}{of_line})")
        paragraphs.append(textwrap.fill(f"{head}: {'; '.join(entries)}.", 140, break_on_hyphens=False))
    return "\n\n".join(paragraphs) + "\n"


def pasted(text: str) -> str:
    """The text with what the program says between its markers."""
    helped = "".join(f"    {line}".rstrip() + "\n" for line in help_of("check_delayed_repl").splitlines())
    for name, content in {"help:check_delayed_repl": helped, "conditions": conditions()}.items():
        start, end = f"<!-- {name}:start -->\n", f"<!-- {name}:end -->"
        before, marker, rest = text.partition(start)
        assert marker, f"no place for {name}"
        text = f"{before}{start}\n{content}\n{end}{rest.partition(end)[2]}"
    return text


def test_what_is_pasted_is_current() -> None:
    text = README.read_text()
    assert pasted(text) == text, "stale: run python tests/test_readme.py"
    assert text.count("\n") <= 400


@pytest.mark.parametrize("command_line", [*COMMAND_LINES, *ACTION_LINES])
def test_the_help_fits_a_terminal(command_line: str) -> None:
    text = help_of(command_line)
    assert text.startswith(f"usage: {command_line} ")
    assert max(map(len, text.splitlines())) <= 100


def test_every_label_is_explained(healthy: Verdict) -> None:
    text = README.read_text()
    assert [metric.label for metric in metrics(healthy, Limits()) if f"`{metric.label}`" not in text] == []


def test_every_option_that_it_names_exists() -> None:
    text = README.read_text()
    prose = re.sub(r"<!-- help:.*?:end -->", "", text, flags=re.DOTALL)
    prose = re.sub(r"<!-- cost -->.*<!-- /cost -->", "", prose, flags=re.DOTALL)  # names other checks' options
    prose = re.sub(r"^    pt-heartbeat.*\n(?:.*--set-vars.*\n)?", "", prose, flags=re.MULTILINE)
    theirs = {"--utc", "--check-read-only", "--create-table", "--create-table-engine"}
    known = "\n".join(help_of(command_line) for command_line in (*COMMAND_LINES, *ACTION_LINES))
    for command in (["tests/run"], *([sys.executable, "-m", f"tests.{name}"] for name in ("fuzz", "simulator"))):
        known += subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"--[a-z][a-z-]+[a-z]", prose)) - theirs
    assert [option for option in sorted(named) if option not in known] == []


if __name__ == "__main__":
    README.write_text(pasted(README.read_text()))
