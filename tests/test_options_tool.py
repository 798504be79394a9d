"""`delayed-repl` finds its commands, and says in one line what is wrong with a call."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT, Command

from check_delayed_repl.tool import COMMANDS


def test_help_lists_every_command(tool: Command) -> None:
    run = tool("--help")
    assert (run.returncode, run.stderr) == (0, "")
    for name in COMMANDS:
        assert f" {name} {import_module(f'check_delayed_repl.commands.{name}').HELP} " in " ".join(run.stdout.split())


def test_version(tool: Command) -> None:
    run = tool("-V")
    assert (run.returncode, run.stdout, run.stderr) == (0, "delayed-repl 1.0.0\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "which command? One of "),
        (["--debug"], "which command? One of "),
        (["dance"], "'dance': no such command (see --help)"),
        (["diagnos"], "'diagnos': no such command: did you mean diagnose?"),
        (["--port", "1"], "--port: no such option (see --help)"),
        (["worker", "--pasword=geheim"], "--pasword: no such option: did you mean --password?"),
        (["worker", "--interval", "0"], "--interval: "),
    ],
)
def test_wrong_usage_is_one_line_on_standard_error(tool: Command, arguments: list[str], complaint: str) -> None:
    run = tool(*arguments)
    assert (run.returncode, run.stdout) == (3, "")
    [line] = run.stderr.splitlines()
    assert line.startswith(f"delayed-repl: {complaint}")
    assert "geheim" not in line


def test_a_full_disk_is_said_and_a_reader_that_left_is_not() -> None:
    command = [sys.executable, "-m", "check_delayed_repl.tool", "--help"]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (1, "delayed-repl: cannot write the output: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (run.returncode, run.stderr) == (1, "")
