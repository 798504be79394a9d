"""`delayed-repl` finds its commands, and says in one line what is wrong with a call."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT, Command

from check_delayed_repl.arguments import UsageError
from check_delayed_repl.commands.rescue import read_questions
from check_delayed_repl.config import parsed
from check_delayed_repl.tool import COMMANDS, command_parser


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
        ("", "which command? One of "),
        ("dance", "'dance': no such command (see --help)"),
        ("diagnos", "'diagnos': no such command: did you mean diagnose?"),
        ("--port 1", "--port: no such option (see --help)"),
        ("worker --pasword=geheim", "--pasword: no such option: did you mean --password?"),
        ("job", "the following arguments are required: ACTION"),
        ("job start --replica db1", "the following arguments are required: --kind"),
        ("job start --kind backup", "--replica: whose job is it?"),
        ("job start --replica db1 --kind two/words", "--kind: 'two/words' cannot name a kind of job"),
        ("job start --replica db1 --kind trend", "--kind: 'trend' cannot name a kind of job"),
        ("job finish --replica db1", "the following arguments are required: ID"),
        ("job void --replica db1", "ID: give one job's id, or --all"),
        ("job void --replica db1 *", "ID: '*' is no job's id: void --all ends all of them"),
        ("job run --replica db1 --kind backup", "COMMAND: which command is to be run? It comes after --"),
        ("job run --replica db1 --kind backup --", "COMMAND: which command is to be run?"),
        ("job list", "--replica: whose job is it?"),
        ("history", "the following arguments are required: ACTION"),
        ("history import x", "the following arguments are required: --replica"),
        ("history export --since yesterday", "--since: 'yesterday' is no time"),
        ("history prune --keep nan", "--keep: 'nan' is not a time"),
        ("history frobnicate", "ACTION: invalid choice: 'frobnicate'"),
        ("diagnose --plot line.pdf", "--plot: 'line.pdf' ends neither in .png nor in .svg"),
        ("diagnose -H db1 --for 10 --no-sample", "--for: no sample is taken with --no-sample or --sampling worker"),
        ("--debug", "which command? One of "),
        ("worker --interval 0", "--interval: "),
        ("job list --replica db1 --output xml", "--output: invalid choice: 'xml'"),
        ("history export --until -5d", "--until: "),
        ("history prune --timeout 0", "-t/--timeout: "),
        ("diagnose -H db1 --for soon", "--for: 'soon' is not a time: give seconds, or a number with s, m, h or d"),
        ("diagnose -H db1 --interval 0", "--interval: '0' is not more than 0 seconds"),
        ("diagnose -H db1 --min-delay-time 9h", "--min-delay-time: 32400 is greater than --max-delay-time 9000"),
        ("backtest - --window 0", "--window: "),
        ("backtest - --output xml", "--output: "),
        ("backtest - --compare /nowhere.toml", "--compare: cannot read /nowhere.toml: No such file"),
        ("backtest", "FILE: give a recording, - for standard input, or --history"),
        ("backtest - --history h.db", "--history: not together with FILE"),
        ("backtest - --replica db1", "--replica: names a replica of a history, not of FILE"),
        ("backtest - --min-delay-time 3h", "--min-delay-time: "),
    ],
)
def test_wrong_usage_is_one_line_on_standard_error(tool: Command, arguments: str, complaint: str) -> None:
    run = tool(*arguments.split())
    assert (run.returncode, run.stdout) == (3, "")
    [line] = run.stderr.splitlines()
    assert line.startswith(f"delayed-repl: {complaint}")
    assert "geheim" not in line


HISTORIES = ["job start --kind backup", "job finish x", "job void x", "job list", "history export", "history prune"]


@pytest.mark.parametrize("arguments", HISTORIES)
def test_a_history_that_cannot_be_used_is_one_line(tool: Command, tmp_path: Path, arguments: str) -> None:
    run = tool(*arguments.split(), "--history", str(tmp_path), "--replica", "db1")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"delayed-repl: history {tmp_path} is no file: name a file with --history\n"


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


def test_what_is_wrong_with_a_question_does_not_keep_a_freeze_from_stopping() -> None:
    parser, _ = command_parser("rescue")
    args = parser.parse_args(["freeze", "-H", "h", "--table", "orders", "--table", "app.stock", "--before", "noon"])
    read_questions(args)
    assert (args.tables, args.before) == (["app.stock"], None)
    assert "'orders' is not of the form" in args.unclear[0]
    assert "'noon' is no time" in args.unclear[1]


def test_the_delay_that_is_meant_is_not_taken_for_the_one_to_set(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[[replica]]\nreplica = "db7"\nhost = "db7"\ndelay = "2h"\n')
    config.chmod(0o600)
    parser, _ = command_parser("rescue")
    assert parsed(parser, ["resume", "--config", str(config)]).new_delay is None
    assert parsed(parser, ["resume", "--config", str(config), "--delay", "1h"]).new_delay == 3600


@pytest.mark.parametrize("delay", ["1e12", "1e400", "2147483647", "-1", "nan"])
def test_no_delay_that_a_server_cannot_have(delay: str) -> None:
    parser, _ = command_parser("rescue")
    with pytest.raises(UsageError, match="--delay"):
        parsed(parser, ["resume", f"--delay={delay}"])
    parser, _ = command_parser("init")
    with pytest.raises(UsageError, match="--delay"):
        parsed(parser, [f"--delay={delay}"])
