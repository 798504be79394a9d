"""`delayed-repl history export|import|prune`, as a person calls them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
from conftest import ROOT, Command, run_module
from test_recording import EXAMPLE, RECORDS

from check_delayed_repl.history import open_history
from check_delayed_repl.history.recording import read
from check_delayed_repl.records import JobLine, Record, Sample

R = "db1:3306"
UNKNOWN = "--replica: the history knows no replica x"


@pytest.fixture
def where(tmp_path: Path) -> str:
    return str(tmp_path / "history.db")


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "recording.jsonl"
    path.write_text(EXAMPLE)
    return str(path)


def store(where: str, replica: str, *records: Record) -> None:
    with open_history(where, time.monotonic() + 10) as history:
        history.add_records(replica, records)


def test_import_and_export_are_each_other_s_reverse(tool: Command, where: str, recording: str) -> None:
    done = tool("history", "import", recording, "--history", where, "--replica", R)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"imported 3 samples and 1 job lines as {R}\n", "")
    done = tool("history", "export", "--history", where)
    assert (done.returncode, done.stdout, done.stderr) == (0, EXAMPLE, "")


def test_export_writes_complete_job_lines(tool: Command, where: str) -> None:
    jobs = [JobLine(2.0, "b1", "backup", 2.0), JobLine(3.0, "b1", finished_at=3.0), JobLine(4.0, "b1", void=True)]
    store(where, R, Sample(1.0, 1.0), *jobs)
    done = tool("history", "export", "--history", where)
    assert list(read(BytesIO(done.stdout.encode()))) == [
        Sample(1.0, 1.0),
        JobLine(2.0, "b1", "backup", 2.0),
        JobLine(3.0, "b1", "backup", 2.0, 3.0),
        JobLine(4.0, "b1", "backup", 2.0, None, True),
    ]


def test_export_of_a_stretch_keeps_the_jobs_that_began_before(tool: Command, where: str) -> None:
    day = 1767225600.0  # 2026-01-01T00:00:00Z
    store(
        where,
        R,
        *(Sample(day + hour * 3600, float(hour)) for hour in range(5)),
        JobLine(day + 100, "b1", "backup", day + 100),
        *(Sample(day + hour * 3600, float(hour)) for hour in range(5, 10)),
        JobLine(day + 9.5 * 3600, "b1", "backup", day + 100, day + 9.5 * 3600),
    )
    stretch = ("--since", "2026-01-01T06:00:00", "--until", "2026-01-01T09:00:00+01:00")
    done = tool("history", "export", "--history", where, *stretch)
    records = list(read(BytesIO(done.stdout.encode())))
    assert [record.delay for record in records if isinstance(record, Sample)] == [6.0, 7.0, 8.0]
    assert [record.finished_at for record in records if isinstance(record, JobLine)] == [None]


def test_export_to_a_file(tool: Command, where: str, recording: str, tmp_path: Path) -> None:
    store(where, R, *RECORDS)
    out = tmp_path / "out.jsonl"
    done = tool("history", "export", "--history", where, "-o", str(out))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert out.read_text() == EXAMPLE
    done = tool("history", "export", "--history", where, "-o", str(tmp_path / "no" / "out"))
    assert done.returncode == 1
    assert done.stderr == f"delayed-repl: -o: cannot write {tmp_path}/no/out: No such file or directory\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.db", "out.jsonl", "recording.jsonl"]
    assert tool("history", "export", "--history", where, "-o", "/dev/null").returncode == 0
    link = tmp_path / "link"
    link.symlink_to(out)
    out.write_text("")
    assert tool("history", "export", "--history", where, "-o", str(link)).returncode == 0
    assert (link.is_symlink(), out.read_text()) == (True, EXAMPLE)
    done = run_module("check_delayed_repl.tool", "history", "export", "--history", where, "-o", "/dev/stdout")
    assert done.stdout == EXAMPLE


def test_export_asks_which_replica(tool: Command, where: str) -> None:
    store(where, "a", Sample(1.0, 1.0))
    store(where, "b#c", Sample(1.0, 1.0))
    done = tool("history", "export", "--history", where)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "delayed-repl: --replica: say which replica of the history (it knows: a, b#c)\n"
    done = tool("history", "export", "--history", where, "--replica", "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"delayed-repl: {UNKNOWN} (it knows: a, b#c)\n"
    done = tool("history", "export", "--history", where + "2")
    complaint = f"delayed-repl: --history: {where}2: there is no such file\n"
    assert (done.returncode, done.stderr) == (1, complaint)


def test_export_into_a_pipe_that_closes(where: str) -> None:
    store(where, R, *(Sample(float(number), 1.0) for number in range(20_000)))
    command = f"{sys.executable} -m check_delayed_repl.tool history export --history {where} | head -n 1"
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ)
    )
    assert (done.stdout, done.stderr) == ('{"type":"sample","t":0.0,"delay":1.0}\n', "")


def test_import_is_all_or_nothing(tool: Command, where: str, recording: str) -> None:
    lines = [f'{{"type":"sample","t":{number}.0,"delay":1.0}}\n' for number in range(3000)]
    with open(recording, "w", encoding="ascii") as file:
        file.writelines([*lines, '{"type":"sample","t":NaN,"delay":1.0}\n'])
    done = tool("history", "import", recording, "--history", where, "--replica", R)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"delayed-repl: {recording}: line 3001: t: number out of range: nothing was imported\n")
    assert not os.path.exists(where)
    with open(recording, "w", encoding="ascii") as file:
        file.writelines(lines)
    done = tool("history", "import", recording, "--history", where, "--replica", R)
    assert done.stdout == f"imported 3000 samples and 0 job lines as {R}\n"
    assert tool("history", "export", "--history", where).stdout == "".join(lines)


def test_import_of_a_line_without_end_takes_no_memory(where: str, recording: str) -> None:
    with open(recording, "ab") as file:
        file.truncate(1 << 28)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))\n"
        "from check_delayed_repl.tool import run; sys.exit(run(sys.argv[1:]))"
    )
    for name in (recording, "-"):
        with open(recording, "rb") as file:
            done = subprocess.run(
                [sys.executable, "-c", script, "history", "import", name, "--history", where, "--replica", R],
                cwd=ROOT, stdin=file, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
        named = "standard input" if name == "-" else recording
        assert done.returncode == 1
        assert done.stderr == f"delayed-repl: {named}: line 5: longer than 1 MiB: nothing was imported\n"


def test_import_does_not_go_back_behind_what_is_there(tool: Command, where: str, recording: str) -> None:
    assert tool("history", "import", recording, "--history", where, "--replica", R).returncode == 0
    done = tool("history", "import", recording, "--history", where, "--replica", R)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"delayed-repl: --replica: the history has later samples of {R} than the recording begins"
    )
    assert tool("history", "import", recording, "--history", where, "--replica", "other").returncode == 0


def test_import_of_what_is_no_file(tool: Command, where: str, tmp_path: Path) -> None:
    done = tool("history", "import", f"{tmp_path}/none", "--history", where, "--replica", R)
    assert done.returncode == 1
    assert done.stderr == f"delayed-repl: {tmp_path}/none cannot be read: No such file or directory\n"
    done = tool("history", "import", str(tmp_path), "--history", where, "--replica", R)
    assert (done.returncode, done.stderr) == (1, f"delayed-repl: {tmp_path} cannot be read: Is a directory\n")


@pytest.mark.parametrize(
    "command",
    ["history export", "history prune", "history prune --future", "job list", "job finish x", "job void x"],
)
def test_a_mistyped_history_is_not_made(tool: Command, tmp_path: Path, command: str) -> None:
    """A timer that prunes nothing would go on for ever, and root's file would lock the check out."""
    file = tmp_path / "none.db"
    done = tool(*command.split(), "--replica", "db1", "--history", str(file))
    assert (done.returncode, done.stderr) == (1, f"delayed-repl: --history: {file}: there is no such file\n")
    assert not file.exists()


def test_prune(tool: Command, where: str) -> None:
    now = time.time()
    store(where, R, *(Sample(now - day * 86400, 1.0) for day in range(40, -1, -1)), Sample(now + 5000, 1.0))
    done = tool("history", "prune", "--history", where)
    assert (done.returncode, done.stdout, done.stderr) == (0, "removed 11 lines\n", "")
    assert tool("history", "prune", "--history", where, "--keep", "10d12h").returncode == 3
    assert tool("history", "prune", "--history", where, "--keep", "10.5d").stdout == "removed 19 lines\n"
    assert tool("history", "prune", "--history", where, "--future").stdout == "removed 1 samples from the future\n"
    done = tool("history", "prune", "--history", where, "--replica", "x")
    assert (done.returncode, done.stderr) == (1, f"delayed-repl: {UNKNOWN} (it knows: {R})\n")
    done = tool("history", "prune", "--history", where, "--future", "--keep", "5.5d", "--replica", R)
    assert done.stdout == "removed 0 samples from the future\nremoved 5 lines\n"


def test_the_timer_leaves_what_the_file_retains(tool: Command, where: str, tmp_path: Path) -> None:
    now = time.time()
    store(where, R, *(Sample(now - days * 86400, 7200.0) for days in (100, 60, 59, 0)))
    unit = (ROOT / "examples" / "systemd" / "delayed-repl-prune.service").read_text()
    (command,) = (line.split()[1:] for line in unit.splitlines() if line.startswith("ExecStart="))
    config = tmp_path / "config.toml"
    config.write_text(f'history = "{where}"\nkeep = "90d"\n[[replica]]\nhost = "db1"\n')
    config.chmod(0o600)
    done = tool(*(str(config) if word.endswith("/config.toml") else word for word in command))
    assert done.stdout == "removed 1 lines\n"
