"""The plugin as a process: exit codes, whole lines, and an end in time whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, Command, run_python

from check_delayed_repl import history
from check_delayed_repl.records import Sample

LABELS = (
    *("delay", "intercept", "slope", "correlation", "samples", "local_heartbeat_age", "source_log_age"),
    *("relay_log_age", "relay_log_space", "worker_age", "backup_age", "deshard_age", "backup_held", "deshard_held"),
    *("recovery_held", "trend_held", "sql_delay"),
)
NO_SOCKET = ("-S", "/does/not/exist.sock", "--replica", "db1")


def labels(line: str) -> tuple[str, ...]:
    return tuple(entry.partition("=")[0] for entry in line.partition(" | ")[2].split(" "))


def first_line(run: subprocess.CompletedProcess[str]) -> str:
    assert run.stderr == ""
    assert "Traceback" not in run.stdout
    return run.stdout.splitlines()[0]


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "history.db")


@pytest.mark.parametrize("option", ["-h", "--help", "-V", "--version"])
def test_help_and_version_are_no_ok(plugin: Command, option: str) -> None:
    run = plugin(option)
    assert (run.returncode, run.stderr) == (3, "")
    assert run.stdout.startswith("usage: check_delayed_repl " if "h" in option else "check_delayed_repl 1.")


def test_help_does_not_depend_on_the_terminal(plugin: Command) -> None:
    assert plugin("-h", COLUMNS="40").stdout == plugin("-h", COLUMNS="200", FORCE_COLOR="1", LANG="de_DE.UTF-8").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--min-delay-time 3h", "--min-delay-time: 10800 is greater than --max-delay-time 9000"),
        ("--fit", "--fit: expected one argument"),
        ("--max-trend", "--max-trend: no such option: did you mean --max-trend-time?"),
        ("--keep 5m", "--keep: 300 seconds is less than a trend may reach back"),
    ],
)
def test_wrong_usage_is_one_line(plugin: Command, arguments: str, says: str) -> None:
    run = plugin("-H", "db1", *arguments.split())
    assert (run.returncode, run.stdout, run.stderr) == (3, f"DELAYED_REPL UNKNOWN - {says}\n", "")


def test_a_quiet_line_as_the_worker_saw_it(plugin: Command, sampled: str) -> None:
    run = plugin("-H", "db1", "--replica", "db1", "--sampling", "worker", "--history", sampled)
    line = first_line(run)
    assert line.startswith("DELAYED_REPL OK - Replication delay 720")
    assert labels(line) == LABELS
    assert " samples=59 " in line
    assert run.returncode == 0
    run = plugin("--replica", "db1", "--sampling", "worker", "--history", sampled, "--output", "json", "-v")
    document = json.loads(run.stdout)
    assert (run.returncode, document["state"], document["replica"]) == (0, "OK", "db1")
    assert tuple(document["metrics"]) == LABELS


def test_a_server_that_is_down_is_said_and_remembered(plugin: Command, sampled: str) -> None:
    run = plugin(*NO_SOCKET, "--history", sampled)
    line = first_line(run)
    assert line.startswith("DELAYED_REPL CRITICAL - ")
    assert "[CRITICAL server-down]" in run.stdout
    assert " delay=U intercept=720" in line
    assert run.returncode == 2
    with history.open_history(sampled, time.monotonic() + 10) as store:
        *_, (_, newest) = store.records("db1")
    assert isinstance(newest, Sample)
    assert newest.error == "server-down"


def test_a_history_that_fails_does_not_hide_the_replica(plugin: Command, tmp_path: Path) -> None:
    run = plugin(*NO_SOCKET, "--history", str(tmp_path))
    line = first_line(run)
    assert line.startswith("DELAYED_REPL CRITICAL - ")
    assert "[CRITICAL history-unavailable]" in run.stdout
    assert "[CRITICAL server-down]" in run.stdout
    assert labels(line) == LABELS
    assert run.returncode == 2


def test_a_history_that_fails_the_worker_s_judge(plugin: Command, tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    file.write_text("this is no database" * 1000)
    run = plugin("--replica", "db1", "--sampling", "worker", "--history", str(file))
    assert "[CRITICAL history-unavailable]" in run.stdout
    assert first_line(run).count("=U") == len(LABELS)
    assert run.returncode == 2


PATCHED = """
import sys, time
from check_delayed_repl import history, plugin
def broken(*_):
    {fault}
history.open_history = broken
sys.argv[1:] = {arguments!r}
plugin.main()
"""


def patched(fault: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python("-c", PATCHED.format(fault=fault, arguments=list(arguments)))


@pytest.mark.parametrize("sampling", ["inline", "worker"])
def test_the_watchdog_ends_what_no_deadline_reaches(sampling: str) -> None:
    started = time.monotonic()
    run = patched("time.sleep(20)", *NO_SOCKET, "-t", "1", "--sampling", sampling)
    assert time.monotonic() - started < 15
    line = first_line(run)
    assert line.startswith(
        "DELAYED_REPL CRITICAL - No answer within 1 seconds (--timeout): the check hangs while "
        + ("opening" if sampling == "inline" else "reading")
        + " the history | delay=U "
    )
    assert labels(line) == LABELS
    assert run.returncode == 2


def test_a_fault_of_its_own_is_one_line_unless_asked() -> None:
    fault = "raise LookupError('odd: geheim\\n| really')"
    run = patched(fault, *NO_SOCKET, "-p", "geheim")
    assert run.returncode == 3
    [line] = run.stdout.splitlines()
    assert line.startswith(
        "DELAYED_REPL UNKNOWN - Internal error, LookupError: odd: *** / really (-vvv shows where) | "
    )
    assert labels(line) == LABELS
    assert run.stderr == ""
    asked = patched(fault, *NO_SOCKET, "-p", "geheim", "-vvv")
    assert asked.stdout.splitlines()[0] == line
    assert "in broken" in asked.stdout
    assert "geheim" not in asked.stdout
    document = json.loads(patched(fault, *NO_SOCKET, "--output", "json", "-vvv").stdout)
    assert (document["state"], document["condition"]) == ("UNKNOWN", "internal-error")


def test_where_no_thread_is_left_there_is_no_watchdog(sampled: str) -> None:
    """As at a limit of processes: the verdict counts all the same."""
    fault = "def none(*_): raise RuntimeError"
    check = ["--replica", "db1", "--sampling", "worker", "--history", sampled]
    program = f"import sys\nfrom check_delayed_repl import plugin\n{fault}\nplugin.start_new_thread = none\n"
    run = run_python("-c", f"{program}sys.argv[1:] = {check!r}\nplugin.main()")
    assert first_line(run).startswith("DELAYED_REPL OK - ")
    assert run.returncode == 0


def test_an_interrupt_is_one_line() -> None:
    run = patched("raise KeyboardInterrupt", *NO_SOCKET)
    assert run.stdout.startswith("DELAYED_REPL UNKNOWN - Interrupted | ")
    assert (run.returncode, run.stderr) == (3, "")


def test_text_that_the_terminal_cannot_show(plugin: Command, file: str) -> None:
    for environment in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}):
        run = plugin("-S", "/tmp/dür.sock", "--history", file, **environment)
        assert (run.returncode, run.stderr) == (2, "")
        assert "/tmp/d" in run.stdout


def test_an_ok_that_cannot_be_printed_is_none(sampled: str) -> None:
    check = "-m check_delayed_repl --replica db1 --sampling worker --history"
    command = [sys.executable, *check.split(), sampled]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    with open("/dev/full", "w") as full:
        run = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (run.returncode, run.stderr) == (3, b"")
    run = subprocess.run(command, cwd=ROOT, preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE, check=False)
    assert (run.returncode, run.stderr) == (3, b"")


def test_an_inline_check_takes_old_samples_out(plugin: Command, file: str) -> None:
    store = history.open_history(file, time.monotonic() + 10)
    now = time.time()
    store.add_sample("db1", Sample(now - 40 * 86400, delay=7203.0))
    store.add_sample("db1", Sample(now - 2 * 3600, delay=7203.0))
    plugin(*NO_SOCKET, "--history", file)
    times = [record.t for _, record in store.records("db1")]
    store.close()
    assert len(times) == 2
    assert min(times) > now - 3 * 3600
