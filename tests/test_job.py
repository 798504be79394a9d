"""`delayed-repl job`: what is recorded, and that a backup is never stopped or changed by it."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Command, Terminal, run_module, run_python, wait_until

from check_delayed_repl.history import History, open_history
from check_delayed_repl.records import JobLine, Record, Sample, merge_job

R = "db1:3306"
TOOL = [sys.executable, "-m", "check_delayed_repl.tool", "job"]
NOT_YET = "delayed-repl: warning: the start of this backup is not recorded yet, the command runs all the same"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def where(tmp_path: Path) -> str:
    path = str(tmp_path / "history.db")
    with opened(path) as history:
        history.add_sample(R, Sample(time.time(), 1.0))
    return path


def opened(where: str) -> History:
    return open_history(where, time.monotonic() + 10)


def add(where: str, *records: Record) -> None:
    with opened(where) as history:
        history.add_records(R, records)


def lines(where: str, replica: str = R) -> list[JobLine]:
    with opened(where) as history:
        return [line for _, line in history.job_lines(replica)]


def job(where: str, replica: str = R) -> JobLine:
    """The one job that is recorded, as it reads now."""
    found: JobLine | None = None
    for line in lines(where, replica):
        assert found is None or found.id == line.id
        found = merge_job(found, line)
    return found


# --- start, finish, void ---


def test_a_life(tool: Command, where: str) -> None:
    common = ("--history", where, "--replica", R)
    before = time.time()
    done = tool("job", "start", *common, "--kind", "deshard")
    assert (done.returncode, done.stderr) == (0, "")
    name = done.stdout.removesuffix("\n")
    assert name.startswith("deshard-")
    done = tool("job", "finish", name, *common)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    first, second = lines(where)
    assert (second.id, second.kind, second.started_at) == (name, "deshard", first.started_at) == first[1:4]
    assert (first.started_at or 0) >= before
    assert first.finished_at is None
    assert first.started_at <= second.finished_at <= time.time()
    done = tool("job", "finish", name, *common)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"delayed-repl: job {name} is finished already, since 20")
    assert tool("job", "void", name, *common).returncode == 0
    assert job(where).void
    for action in ("void", "finish"):
        done = tool("job", action, name, *common)
        assert (done.returncode, done.stderr) == (1, f"delayed-repl: job {name} is void already\n")
    assert len(lines(where)) == 3


def test_an_unknown_id(tool: Command, where: str) -> None:
    common = ("--history", where, "--replica", R)
    done = tool("job", "finish", "b1", *common)
    assert (done.returncode, done.stderr) == (1, f"delayed-repl: no job b1 is recorded for {R} (none is running)\n")
    name = tool("job", "start", *common, "--kind", "backup").stdout.strip()
    done = tool("job", "void", "b1", *common)
    assert (done.returncode, done.stderr) == (1, f"delayed-repl: no job b1 is recorded for {R} (running: {name})\n")
    done = tool("job", "finish", name, *common, "--kind", "deshard")
    assert (done.returncode, done.stderr) == (1, f"delayed-repl: job {name} is of kind backup, not deshard\n")
    assert len(lines(where)) == 1


def test_a_job_of_the_server_is_finished_where_it_was_recorded(tool: Command, where: str) -> None:
    with opened(where) as history:
        history.add_sample("db2#a", Sample(time.time(), 1.0))
    done = tool("job", "start", "--history", where, "--replica", "db2", "--kind", "backup")
    assert (done.returncode, done.stderr) == (0, "")
    assert tool("job", "finish", done.stdout.strip(), "--history", where, "--replica", "db2#a").returncode == 0
    assert job(where, "db2").finished_at is not None


def test_a_name_without_samples_is_warned_about(tool: Command, where: str) -> None:
    done = tool("job", "start", "--history", where, "--replica", "db1", "--kind", "backup")
    assert done.returncode == 0
    assert done.stderr == (
        f"delayed-repl: warning: the history has no samples of a replica db1 (it knows {R});"
        " the job is recorded all the same\n"
    )
    assert len(lines(where, "db1")) == 1


# --- list ---


def test_list(tool: Command, where: str) -> None:
    assert tool("job", "list", "--history", where, "--replica", R).stdout == f"no jobs are recorded for {R}\n"
    t = 1700000000.0
    add(
        where,
        JobLine(t, "b2", "deshard", t),
        JobLine(t, "b1", "backup", t, t + 60),
        JobLine(t, "b3", "backup", t, None, True),
        JobLine(t, "bad\x1b[31m\n|", None, None, unreadable="started_at 'x' is no number"),
        JobLine(t, "b4", "backup", t, t - 1),
        JobLine(t, "b5", "backup", 1e300, 1e301),
    )
    done = run_module("check_delayed_repl.tool", "job", "list", "--history", where, "--replica", R, TZ="Europe/Berlin")
    assert (done.returncode, done.stderr) == (0, "")
    began = "2023-11-14 23:13:20 CET"
    assert [re.split(" {2,}", line) for line in done.stdout.splitlines()] == [
        ["ID", "KIND", "REPLICA", "STARTED", "FINISHED", "STATUS"],
        ["b1", "backup", R, began, "2023-11-14 23:14:20 CET", "finished"],
        ["b3", "backup", R, began, "-", "void"],
        ["bad?[31m /", "-", R, "-", "-", "invalid: started_at 'x' is no number"],
        ["b4", "backup", R, began, "2023-11-14 23:13:19 CET", "invalid"],
        ["b2", "deshard", R, began, "-", "running"],
        ["b5", "backup", R, "t=1e+300", "t=1e+301", "running"],
    ]
    assert len({line.index("backup") for line in done.stdout.splitlines() if "backup" in line}) == 1
    done = tool("job", "list", "--history", where, "--replica", R, "--output", "json", "--kind", "deshard")
    (shown,) = (json.loads(line) for line in done.stdout.splitlines())
    assert shown.pop("seconds") > 1e7
    last = {"finished_at": None, "status": "running", "reason": None}
    assert shown == {"id": "b2", "kind": "deshard", "replica": R, "started_at": t, **last}


def test_whatever_it_is_called_a_wrong_record_can_be_ended(tool: Command, where: str) -> None:
    names = ("", "x" * 255, "a b", "'", "%", "-")
    common = ("--history", where, "--replica", R)
    add(where, *(JobLine(1.0, name, "nonsense", 1.0) for name in names))
    with sqlite3.connect(where) as database:
        database.execute("UPDATE job SET id = NULL WHERE id = '-'")
    database.close()
    listed = tool("job", "list", *common, "--output", "json").stdout.splitlines()
    shown = [json.loads(line)["id"] for line in listed]
    assert len(shown) == len(names)
    for name in shown:
        assert tool("job", "void", *common, "--", name).stderr == ""
    listed = tool("job", "list", *common, "--output", "json").stdout.splitlines()
    assert {json.loads(line)["status"] for line in listed} == {"void"}


def test_a_flood_is_listed_in_part_and_ended_with_one_line(tool: Command, plugin: Command, where: str) -> None:
    common = ("--history", where, "--replica", R)
    add(where, *(JobLine(1.0, f"j{number}", "backup", time.time()) for number in range(5_000)))
    add(where, Sample(time.time(), 1.0))
    assert "[CRITICAL job-records-flooded]" in plugin(*common, "--sampling", "worker").stdout
    done = tool("job", "list", *common)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:-1]] == [f"j{n}" for n in range(4_980, 5_000)]
    assert done.stdout.endswith("\nand 4980 more (--limit 0 shows them all)\n")
    done = tool("job", "list", *common, "--limit", "2", "--output", "json")
    assert (done.stdout.count("\n"), done.stderr) == (2, "delayed-repl: and 4998 more (--limit 0 shows them all)\n")
    assert tool("job", "list", *common, "--limit", "0").stdout.count("\n") == 5_001
    done = tool("job", "void", "--all", *common)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert lines(where)[5_000:] == [lines(where)[-1]._replace(id="*", kind=None, void=True)]
    add(where, Sample(time.time(), 1.0))
    assert "job" not in plugin(*common, "--sampling", "worker").stdout.partition("\n")[0].partition("|")[0]
    name = tool("job", "start", *common, "--kind", "backup").stdout.strip()
    done = tool("job", "list", *common)
    assert [line.split()[-1] for line in done.stdout.splitlines()[1:-1]] == ["void"] * 19 + ["running"]
    assert tool("job", "finish", "j5", *common).stderr == "delayed-repl: job j5 is void already\n"
    assert tool("job", "finish", name, *common).returncode == 0
    rescue = tool("job", "start", *common, "--kind", "rescue").stdout.strip()
    says = f"delayed-repl: rescues go on: {rescue} (ended by rescue resume, or job void ID)\n"
    assert tool("job", "void", "--all", *common).stderr == says
    assert tool("job", "list", *common).stdout.splitlines()[-2].split()[-1] == "running"
    assert tool("job", "void", rescue, *common).returncode == 0
    done = tool("job", "void", "--all", "--history", where, "--replica", "db2")
    assert (done.returncode, done.stderr) == (1, "delayed-repl: no jobs are recorded for db2\n")


CUT_SHORT = """
import sys
from check_delayed_repl import tool
from check_delayed_repl.history import HistoryUnavailable
from check_delayed_repl.history.tables import History
def cut_short(*asked, whole=History.job_lines):
    yield next(whole(*asked))
    raise HistoryUnavailable("no time was left")
History.job_lines = cut_short
sys.argv[1:] = ["job", "void", "--all", "--history", {where!r}, "--replica", {replica!r}]
tool.main()
"""


def test_a_flood_that_takes_too_long_to_read_is_ended_all_the_same(where: str) -> None:
    add(where, *(JobLine(1.0, f"j{number}", "backup", 1.0) for number in range(3)))
    done = run_python("-c", CUT_SHORT.format(where=where, replica=R))
    assert (done.returncode, done.stderr) == (0, "")
    assert lines(where)[-1][1:] == JobLine(1.0, "*", void=True)[1:]


# --- what must not go wrong unseen ---


UNKNOWN_KIND = (
    "delayed-repl: warning: no check knows jobs of kind snapshot (known: backup, deshard, rescue), so this one holds no"
    " alarm back; give the check --max-job-behind snapshot=TIME\n"
)


def test_a_kind_that_no_check_knows_is_warned_about(tool: Command, where: str, tmp_path: Path) -> None:
    common = ("--history", where, "--replica", R, "--kind", "snapshot")
    assert tool("job", "start", *common).stderr == UNKNOWN_KIND
    assert tool("job", "run", *common, "--", "true").stderr == UNKNOWN_KIND
    check = ("--history", where, "--replica", R, "--sampling", "worker")
    run_module("check_delayed_repl", *check)
    assert tool("job", "start", *common).stderr == UNKNOWN_KIND, "the check that judges here does not know it"
    run_module("check_delayed_repl", *check, "--max-job-behind", "snapshot=1h")
    assert tool("job", "start", *common).stderr == ""
    config = tmp_path / "config.toml"
    config.write_text('[defaults.max-job-behind]\ncopy = "1h"\n[[replica]]\nreplica = "db1:3306"\n')
    assert tool("job", "start", *common[:4], "--kind", "copy", "--config", str(config)).stderr == ""
    assert "(known: backup, copy, " in tool("job", "start", *common[:4], "--kind", "x", "--config", str(config)).stderr


def shell(script: str, where: str) -> subprocess.CompletedProcess[str]:
    environment = ENVIRONMENT | {"JOB": " ".join(TOOL), "WITH": f"--history {where} --replica {R} --kind backup"}
    return subprocess.run(
        ["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("to", ["/dev/full", "&-"])
def test_an_id_that_nobody_gets_is_no_job(where: str, to: str) -> None:
    done = shell(f"$JOB start $WITH >{to}", where)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("delayed-repl: the job's id cannot be printed (")
    assert done.stderr.endswith("), so no job is recorded\n")
    assert job(where).void


@pytest.mark.parametrize("script", ["start $WITH --replica typo", "run $WITH --replica typo -- echo x"])
def test_without_standard_error_nothing_else_is_written_to(where: str, script: str) -> None:
    done = shell(f"$JOB {script} 2>&-", where)
    assert done.returncode == 0
    assert done.stdout in ("x\n", lines(where, "typo")[0].id + "\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_nobody_s(where: str, closed: str) -> None:
    """What is printed must not end in the file that happens to be opened next."""
    assert shell(f"$JOB run $WITH -- sh -c 'echo out; echo err >&2; :' {closed}", where).returncode == 0
    assert job(where).finished_at is not None


def test_a_password_is_not_handed_on_to_the_command(where: str) -> None:
    for place, shown in (("mysql://me:s3cret@127.0.0.1:1/h", ""), ("mysql:/me:s3cret@h/d", ""), (where, where)):
        command = ("--replica", R, "--kind", "backup", "sh", "-c", "echo $CHECK_DELAYED_REPL_HISTORY")
        done = run_module("check_delayed_repl.tool", "job", "run", *command, CHECK_DELAYED_REPL_HISTORY=place)
        assert done.stdout == shown + "\n"
        assert "s3cret" not in done.stderr


# --- run ---


def run(where: str, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    options = ("--history", where, "--replica", R, "--kind", "backup")
    return run_module("check_delayed_repl.tool", "job", "run", *options, *command, stdin=stdin)


def test_run_records_both_ends_and_is_invisible(where: str) -> None:
    script = 'cat; echo "$0 $1" >&2; sleep 0.3; exit 7'
    done = run(where, "--", "sh", "-c", script, "-x", "--replica", stdin="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "-x --replica\n")
    first, last = lines(where)
    assert first.finished_at is None
    assert (last.id, last.kind) == (first.id, "backup")
    assert abs(first.started_at - last.started_at) < 0.1
    assert 0.3 <= last.finished_at - last.started_at < 10


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("true",), 0),
        (("--", "sh", "-c", "kill -9 $$"), 137),
        (("--", "sh", "-c", "kill -TERM $$"), 143),
        (("--", "/no/such/command"), 127),
        (("--", "no-such-command-anywhere"), 127),
        (("--", "/etc/passwd"), 126),
        (("--", "/"), 126),
    ],
)
def test_run_records_both_ends_whatever_the_fate(where: str, command: tuple[str, ...], status: int) -> None:
    done = run(where, *command)
    assert (done.returncode, done.stdout) == (status, "")
    if status in (126, 127):
        assert done.stderr.startswith(f"delayed-repl: {command[1]} cannot be run: ")
        assert done.stderr.count("\n") == 1
    else:
        assert done.stderr == ""
    assert job(where).finished_at is not None


def started(where: str, script: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*TOOL, "run", "--history", where, "--replica", R, "--kind", "backup", "--", sys.executable, "-c", script],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


COUNT_SIGNALS = """
import signal, sys, time
got = []
for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGQUIT"):
    signal.signal(getattr(signal, name), lambda number, _: got.append(signal.Signals(number).name))
print("ready", flush=True)
end = time.monotonic() + 20
while time.monotonic() < end and (not got or got[-1] != "SIGUSR1"):
    time.sleep(0.05)
time.sleep(0.3)
print(*got, flush=True)
sys.exit(5)
"""


def test_run_passes_signals_on(where: str) -> None:
    process = started(where, COUNT_SIGNALS)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        process.send_signal(number)
        time.sleep(0.2)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (5, "SIGTERM SIGINT SIGHUP SIGQUIT SIGUSR1\n", "")
    assert job(where).finished_at is not None


def test_the_terminal_s_interrupt_reaches_the_command_once(where: str) -> None:
    script = COUNT_SIGNALS.replace('got[-1] != "SIGUSR1"', "False")
    command = ("job", "run", "--history", where, "--replica", R, "--kind", "backup", "--", sys.executable, "-c", script)
    terminal = Terminal(*command)
    terminal.read_until(b"ready")
    os.write(terminal.screen, b"\x03")
    terminal.read_until(None)
    assert terminal.process.wait(60) == 5
    terminal.close()
    assert terminal.said.count(b"SIGINT") == 1


def test_run_leaves_the_command_s_signals_as_they_were(where: str) -> None:
    script = (
        "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []) or 'none');"
        # Without the two that the C library keeps for itself.
        "print(int(open('/proc/self/status').read().split('SigIgn:')[1].split()[0], 16) & 0x7FFFFFFF)"
    )
    direct = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run(where, "--", sys.executable, "-c", script).stdout == direct.stdout


def test_a_command_that_reads_a_closed_pipe_dies_of_it(where: str) -> None:
    assert run(where, "--", "bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}").stdout == "y\n141\n"


def test_a_history_that_cannot_be_written_does_not_stop_the_command(tmp_path: Path) -> None:
    done = run(str(tmp_path), "--", "sh", "-c", "echo done; exit 4")
    assert (done.returncode, done.stdout) == (4, "done\n")
    problem = f"history {tmp_path} is no file: name a file with --history"
    first, second = done.stderr.splitlines()
    assert first == f"{NOT_YET}: {problem}"
    assert second == f"delayed-repl: warning: this backup is not recorded at all: {problem}"


SPOILT = """
import sys, threading
from check_delayed_repl import tool
from check_delayed_repl.commands import job
def spoilt(*_):
    {fault}
{what} = spoilt
sys.argv[1:] = ["job", "run", "--history", {where!r}, "--replica", {replica!r}, "--kind", "backup", "--", *{command!r}]
tool.main()
"""


@pytest.mark.parametrize(
    ("what", "fault", "problem", "recorded"),
    [
        ("job._Recording.start", "raise RuntimeError('none left')", "none left: raise TasksMax= or ulimit -u", True),
        ("job.open_history", "raise ImportError('libsqlite3')", "ImportError: libsqlite3", False),
    ],
)
def test_no_fault_of_recording_is_the_command_s(
    where: str, what: str, fault: str, problem: str, recorded: bool
) -> None:
    command = ["sh", "-c", "echo done; exit 4"]
    done = run_python("-c", SPOILT.format(what=what, fault=fault, where=where, replica=R, command=command))
    assert (done.returncode, done.stdout) == (4, "done\n")
    first, *others = done.stderr.splitlines()
    assert first == f"{NOT_YET}: {problem}"
    assert others == ([] if recorded else [f"delayed-repl: warning: this backup is not recorded at all: {problem}"])
    assert [line.finished_at is not None for line in lines(where)] == [True] * recorded


@pytest.fixture
def locked(where: str) -> Iterator[sqlite3.Connection]:
    holder = sqlite3.connect(where, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    yield holder
    holder.close()


def test_a_history_that_is_locked_does_not_delay_the_command(where: str, locked: sqlite3.Connection) -> None:
    process = started(where, "import time; print('ready', flush=True); time.sleep(2)")
    assert process.poll() is None
    began = time.time()
    locked.execute("COMMIT")
    wait_until(lambda: lines(where))
    (line,) = lines(where)
    assert line.finished_at is None, "the start is recorded as soon as that can be"
    assert began - 3 < line.started_at < began
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err == f"{NOT_YET}: the history has not answered within 1 s\n"
    assert job(where).finished_at is not None


def test_an_end_that_cannot_be_recorded_is_told(where: str) -> None:
    done = run(where, "-t", "1", "--", "sh", "-c", f"rm {where}*; mkdir {where}; exit 3")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("delayed-repl: warning: the end of job backup-")
    assert line.endswith(f"is not recorded: history {where} is no file: name a file with --history")


def test_only_the_end_can_be_recorded(where: str) -> None:
    broken = f"{where}.broken"
    os.rename(where, broken)
    os.mkdir(where)
    done = run(where, "--", "sh", "-c", f"sleep 0.5; rmdir {where}; mv {broken} {where}")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    (line,) = lines(where)
    assert line.kind == "backup"
    assert 0.5 <= line.finished_at - line.started_at < 10
