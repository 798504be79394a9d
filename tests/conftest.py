"""What tests of every room may use: the commands as processes, and verdicts made by hand."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from check_delayed_repl.history import open_history
from check_delayed_repl.judge.outcome import Finding, State, Trend, Verdict
from check_delayed_repl.records import Sample
from check_delayed_repl.tool import run

ROOT = Path(__file__).resolve().parent.parent

# What runs by default is the same every time. A random search is asked for, and what it finds becomes an example.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("random", print_blob=True)
settings.load_profile("random" if os.environ.get("CHECK_DELAYED_REPL_RANDOM") else "fixed")

os.environ["TZ"] = "UTC"  # times are shown in the machine's time zone
time.tzset()

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def run_python(*arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python on this working copy as a process of its own, wherever it is called from."""
    return subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_module(module: str, *arguments: str, **others: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", module, *arguments, **others)


def wait_until(true: Callable[[], object], seen: Callable[[], object] = str) -> None:
    """Waits for a minute at most; what was `seen` instead is told."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"it did not happen in time: {seen()}"
        time.sleep(0.02)


class Terminal:
    """A call of delayed-repl at a terminal of its own, and all that it `said` there."""

    def __init__(self, *arguments: str, columns: int = 80, stderr: int | None = None) -> None:
        self.screen, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.said = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "check_delayed_repl.tool", *arguments],
            env={name: value for name, value in os.environ.items() if name != "COLUMNS"}
            | {"TERM": "xterm", "PYTHONPATH": str(ROOT)},
            stdin=inner,
            stdout=inner,
            stderr=inner if stderr is None else stderr,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(inner)

    def read_until(self, wanted: bytes | None) -> None:
        """None: until its end, which on a terminal is an error."""
        with contextlib.suppress(OSError):
            while (wanted is None or wanted not in self.said) and select.select([self.screen], [], [], 30)[0]:
                self.said += os.read(self.screen, 65536)
        assert wanted is None or wanted in self.said, self.said

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)


def remember(where: Path | str, name: str, delay: Callable[[int], float], ages: range, **seen: object) -> None:
    """Samples of a replica in the history of this file, so many seconds old."""
    with open_history(str(where), time.monotonic() + 30) as history:
        now = time.time()
        history.add_samples((name, Sample(now - age, delay(age), **seen)) for age in ages)


@pytest.fixture
def plugin() -> Command:
    """`plugin("-H", "db")` runs check_delayed_repl."""
    return lambda *arguments, **environment: run_module("check_delayed_repl", *arguments, **environment)


@pytest.fixture
def tool(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`tool("job", "list")` runs delayed-repl in this process: another one would have to load everything anew."""

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            status = run(arguments)
        return subprocess.CompletedProcess(arguments, status, *capfd.readouterr())

    return call


@pytest.fixture
def sampled(tmp_path: Path) -> str:
    """A history in which a worker saw a quiet line of the replica db1 until now."""
    file = str(tmp_path / "history.db")
    remember(file, "db1", lambda age: 7203.0 + age % 3 / 2, range(580, -1, -10))
    return file


@pytest.fixture
def healthy() -> Verdict:
    """A quiet line of two hours, everything known."""
    return Verdict(
        at=1700000600.0,
        findings=(Finding(State.OK, "in-range", "Replication delay 7203.1 seconds is within 5400 to 9000"),),
        trend=Trend(0.000123, 7203.125, 0.01, 60, 590.0),
        sample=Sample(
            1700000600.0,
            delay=7203.5,
            ts=1699993396.5,
            source_id=1,
            local=0.6,
            io="Yes",
            sql="Yes",
            io_errno=0,
            sql_errno=0,
            source_log=("bin.000001", 3522),
            relay_log=("bin.000001", 779),
            relay_log_space=123456789,
            sql_delay=7200,
        ),
        jobs=(),
        held={"backup": 0.0, "deshard": 0.0, "recovery": 0.0, "trend": 0.0},
        worker_age=2.5,
        source_log_age=1.0,
        relay_log_age=3.25,
        episode_since=None,
    )
