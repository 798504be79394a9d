"""`delayed-repl diagnose` and `watch` as commands: histories, options, terminals."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, Terminal, remember

from check_delayed_repl import history
from check_delayed_repl.config import parsed
from check_delayed_repl.diagnose import session
from check_delayed_repl.diagnose.server import Server
from check_delayed_repl.observe.dialect import Dialect, Place
from check_delayed_repl.records import JobLine, Sample
from check_delayed_repl.tool import command_parser


@pytest.fixture
def nobody() -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return ["-H", "127.0.0.1", "-P", str(port), "-u", "monitor", "-p", "geheim!"]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A history with ten quiet minutes of db1, and a backup that is over."""
    file = tmp_path / "history.db"
    remember(file, "db1", lambda age: 7203.0 + age % 3, range(600, 0, -10), io="Yes", sql="Yes")
    store = history.open_history(str(file), time.monotonic() + 10)
    now = time.time()
    store.add_job("db1", JobLine(now, "b1", "backup", now - 400, now - 300))
    store.add_sample("db1", Sample(now, delay=7203.0, io="Yes", sql="Yes"))
    store.close()
    return file


def test_the_history_alone(tool: Command, kept: Path) -> None:
    done = tool("diagnose", "--no-sample", "--history", str(kept), "--replica", "db1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(" OK  in-range")
    assert "\nbackup  " in done.stdout
    assert "\x1b" not in done.stdout


def test_a_terminal_that_knows_no_more_than_ascii(tool: Command, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", paper)
    done = tool("diagnose", "--no-sample", "--history", str(kept), "--replica", "db1")
    assert (done.returncode, done.stderr) == (0, "")
    paper.seek(0)
    assert paper.read().startswith(" OK  in-range")


def test_ascii_and_colours_on_request(tool: Command, kept: Path) -> None:
    where = ("--no-sample", "--history", str(kept), "--replica", "db1")
    assert tool("diagnose", *where, "--ascii").stdout.isascii()
    assert "\x1b[" in tool("diagnose", *where, "--color", "always", NO_COLOR="1").stdout


def test_what_it_sees_is_kept_nowhere(tool: Command, kept: Path, nobody: list[str]) -> None:
    before = tool("history", "export", "--history", str(kept)).stdout
    tool("diagnose", *nobody, "--history", str(kept), "--replica", "db1")
    assert tool("history", "export", "--history", str(kept)).stdout == before


def test_a_server_that_is_down(tool: Command, nobody: list[str], tmp_path: Path) -> None:
    start = time.monotonic()
    nowhere = str(tmp_path / "none.db")
    done = tool("diagnose", *nobody, "--history", nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith((" CRITICAL  server-down", " CRITICAL  connect-failed"))
    assert "geheim" not in done.stdout
    assert "mysql --host=127.0.0.1" in done.stdout or "systemctl" in done.stdout
    assert "There is no history there, or nothing in it (--history)." in " ".join(done.stdout.split())
    assert not Path(nowhere).exists()
    assert time.monotonic() - start < 15
    assert tool("diagnose", *nobody, "--history", nowhere, "--exit-code").returncode == 2


def test_a_worker_that_is_gone(tool: Command, tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    remember(file, "db1", lambda _: 7203.0, range(900, 300, -10))
    where = ("--no-sample", "--history", str(file), "--replica", "db1", "--exit-code")
    done = tool("diagnose", *where, "--sampling", "worker")
    assert done.returncode == 2
    assert "worker-missing" in done.stdout
    assert "worker-missing" not in tool("diagnose", *where).stdout


def test_a_name_that_the_history_does_not_know(tool: Command, kept: Path, nobody: list[str]) -> None:
    done = tool("diagnose", *nobody, "--history", str(kept), "--replica", "db2")
    assert "The history has nothing of db2. It knows: db1 (--replica)." in " ".join(done.stdout.split())
    done = tool("diagnose", "--no-sample", "--history", str(kept), "--replica", "db2")
    assert done.returncode == 1
    assert done.stderr == "delayed-repl: the history has nothing of db2, and --no-sample takes no sample\n"


def test_a_damaged_history(tool: Command, nobody: list[str], tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    file.write_bytes(b"not a database" * 1000)
    done = tool("diagnose", *nobody, "--history", str(file))
    assert done.returncode == 0
    assert "CRITICAL" in done.stdout
    assert "history-unavailable" in done.stdout
    assert tool("diagnose", "--no-sample", "--replica", "db1", "--history", str(file)).returncode == 1
    done = tool("diagnose", "--replica", "db1", "--history", str(file), "--sampling", "worker")
    assert done.stdout.startswith(" CRITICAL  history-unavailable ")
    assert "worker" not in done.stdout, "whether one samples is not known"


@pytest.mark.parametrize("name", ["no/history.db", "n" * 300])
def test_a_history_that_cannot_be_made_or_looked_at(
    tool: Command, nobody: list[str], tmp_path: Path, name: str
) -> None:
    """The check is CRITICAL for it: without it, diagnose knows no jobs either."""
    done = tool("diagnose", *nobody, "--history", str(tmp_path / name), "--output", "json")
    found = {each["condition"]: each["message"] for each in json.loads(done.stdout)["findings"]}
    with pytest.raises(history.HistoryUnavailable) as told:
        history.open_history(str(tmp_path / name), time.monotonic() + 5)
    assert found["history-unavailable"] == str(told.value)


def test_an_old_place_of_the_sql_thread_is_never_named(nobody: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have run since, and a CHANGE to where it was would apply twice what has been applied."""
    stopped = Sample(time.time(), 7200.0, io="No", sql="No")
    asked = iter((Server(Dialect("11.4.0-MariaDB"), Place("relay.7", 9, gtid=True)), None))
    monkeypatch.setattr(session, "ask_server", lambda *_: next(asked))
    monkeypatch.setattr("check_delayed_repl.observe.sample.Observer.sample", lambda *_: stopped)
    with session.Session(parsed(command_parser("diagnose")[0], nobody)) as watching:
        for place in (Place("relay.7", 9, gtid=True), None):
            watching.take(next(watching.each(1.0)))
            assert watching.picture().place == place
        assert watching.picture().dialect is not None


def test_what_can_be_made_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(history.LOCATION_VARIABLE, raising=False)
    assert history.can_be_made(str(tmp_path / "history.db"))
    assert not history.can_be_made(str(tmp_path / "no" / "history.db"))
    monkeypatch.setattr("check_delayed_repl.history.default_file", lambda: str(tmp_path / "no" / "history.db"))
    assert history.can_be_made(None), "with its folder"


def test_a_plot_in_the_command(tool: Command, kept: Path, tmp_path: Path) -> None:
    where = ("--no-sample", "--history", str(kept), "--replica", "db1")
    file = tmp_path / "line.svg"
    assert tool("diagnose", *where, "--since", "24h", "--plot", str(file)).returncode == 0
    assert file.read_bytes().startswith(b"<?xml")
    done = tool("diagnose", *where, "--plot", str(tmp_path / "no" / "line.svg"))
    assert done.returncode == 1
    assert done.stderr == f"delayed-repl: --plot: {tmp_path}/no/line.svg: No such file or directory\n"


def test_matplotlib_is_optional(tool: Command, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    done = tool("diagnose", "--no-sample", "--history", str(kept), "--replica", "db1", "--plot", "x.png")
    assert done.returncode == 1
    assert done.stderr == (
        f"delayed-repl: --plot: matplotlib is not installed: {sys.executable} -m pip install matplotlib\n"
    )
    assert done.stdout.startswith(" OK  in-range")


@pytest.fixture
def recovering(tmp_path: Path) -> Path:
    """A history of db1 with ten minutes of a line that grows back."""
    file = tmp_path / "worker.db"
    remember(file, "db1", lambda age: 3000.0 - age, range(600, 0, -10), io="Yes", sql="Yes", server="uuid:a")
    return file


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that nobody may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening
        with pytest.raises(BlockingIOError):
            listening.accept()


def proposed(tool: Command, *options: str) -> list[str]:
    found: dict[str, Any] = json.loads(tool("diagnose", *options, "--output", "json").stdout)
    return [command for finding in found["findings"] for step in finding["next"] for command in step["commands"]]


def test_a_workers_samples_are_read_without_connecting(
    tool: Command, recovering: Path, listener: socket.socket
) -> None:
    """Every command carries the options that were given, but a password."""
    there = ("-H", "127.0.0.1", "-P", str(listener.getsockname()[1]), "-u", "monitor", "-p", "geheim!")
    given = ("--replica", "db1", "--max-delay-time", "100m", "--history", str(recovering), "--sampling", "worker")
    done = tool("diagnose", *there, *given)
    assert done.stdout.startswith(" WARNING  recovering-below-minimum")
    assert "geheim" not in done.stdout
    assert proposed(tool, *there, *given) == [
        (
            f'delayed-repl watch {" ".join(there[:-2])} --password="$PASSWORD" --replica db1 --max-delay-time 6000'
            f" --sampling worker --history {recovering}"
        )
    ]
    frames = tool("watch", *there, *given, "--interval", "0.1", "--count", "2")
    assert frames.stdout.count("recovering-below-minimum") == 2
    assert proposed(tool, *given) == [
        f"delayed-repl watch --replica db1 --max-delay-time 6000 --sampling worker --history {recovering}"
    ]


def test_options_of_a_file_are_the_files(tool: Command, recovering: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        f'history = "{recovering}"\n[defaults]\nsampling = "worker"\nuser = "monitor"\npassword = "geheim!"\n'
        '[[replica]]\nreplica = "db1"\nhost = "192.0.2.1"\nmax-delay-time = "100m"\n'
    )
    file.chmod(0o600)
    given = ("--max-job-behind", "dump=1h", "--window", "5m", "--job-stops-server", "dump")
    assert proposed(tool, "--config", str(file), *given) == [
        (
            f"delayed-repl watch --config {file} --replica db1 --max-job-behind dump=3600 --job-stops-server dump"
            " --window 300 --sampling worker"
        )
    ]
    recovering.write_bytes(b"junk" * 100)
    see = f'ls -la -- {recovering}*; df -h -- "$(dirname -- {recovering})"'
    assert see in proposed(tool, "--config", str(file))


def test_brief_is_the_first_screen_alone(tool: Command, recovering: Path) -> None:
    given = ("--replica", "db1", "--history", str(recovering), "--sampling", "worker")
    text = tool("diagnose", *given, "--brief").stdout
    assert tool("diagnose", *given).stdout.startswith(text[:40])
    assert len(text.splitlines()) <= 24
    assert "Protected: " in text
    assert "Confidence" not in text


@pytest.mark.parametrize("ends", ["\x03", "SIGTERM"])
def test_watch_leaves_the_terminal_as_it_was(tmp_path: Path, nobody: list[str], ends: str) -> None:
    terminal = Terminal("watch", *nobody, "--history", str(tmp_path / "none.db"), "--interval", "0.5")
    before = termios.tcgetattr(terminal.screen)
    try:
        terminal.read_until(b"CRITICAL")
        if ends == "SIGTERM":
            terminal.process.terminate()
        else:
            os.write(terminal.screen, ends.encode())
        terminal.read_until(b"\x1b[?1049l")
        assert terminal.process.wait(10) == 0
        assert termios.tcgetattr(terminal.screen) == before
        assert b"\x1b[?1049h" in terminal.said
        assert b"Traceback" not in terminal.said
    finally:
        terminal.close()
