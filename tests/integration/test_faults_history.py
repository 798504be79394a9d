"""What may befall the worker and the SQLite history: nothing is ever OK that is not, and nothing written is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from listeners import listening, living

from .checking import ROOT, tool
from .fault_table import record
from .lone import INTERVAL_S, LAST_SEEN_S, Lone
from .matrix import essential
from .servers import wait_until

MISSED_S = LAST_SEEN_S + 2 * INTERVAL_S + 4
"""Until a worker is missed, a busy machine's time included."""
AT_ONCE_S = 8.0
"""Until a history that cannot be read is told: one run of the check, on a busy machine."""
UNWRITTEN = ("history-unavailable", "worker-missing")


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Lone]:
    """A healthy made-up replica, and a history in a folder of its own."""
    (tmp_path / "state").mkdir()
    with listening(living()) as target:
        yield Lone(target, str(tmp_path / "state" / "history.db"), tmp_path)


@pytest.fixture
def running(lone: Lone) -> Iterator[tuple[Lone, subprocess.Popen[bytes]]]:
    """The same with a worker, and the check seen OK."""
    with lone.worker() as worker:
        lone.expect("OK", "in-range", 30)
        yield lone, worker


Running = tuple[Lone, "subprocess.Popen[bytes]"]


def companions(lone: Lone) -> list[Path]:
    """The history's file and the two beside it."""
    return [Path(lone.history + end) for end in ("", "-wal", "-shm")]


# --- the worker ---


@essential
def test_worker_killed(running: Running) -> None:
    lone, worker = running
    with ExitStack() as stack:
        twin = "killed and started again at once"
        with lone.fault("9.1", "Worker killed", "worker-missing", twin, within=MISSED_S) as it:
            worker.kill()
            worker.wait()
            assert "--max-last-seen" in it.detected().message
            it.stays(1)
            second = stack.enter_context(lone.worker(log="second.log"))
        second.kill()
        stack.enter_context(lone.worker(log="third.log"))
        lone.stays_ok(LAST_SEEN_S + 1)


@essential
def test_worker_stuck(running: Running) -> None:
    lone, worker = running
    with lone.fault("9.2", "Worker stuck (SIGSTOP)", "worker-missing", "stuck for a second", within=MISSED_S) as it:
        worker.send_signal(signal.SIGSTOP)
        it.detected()
        it.stays(1)
        worker.send_signal(signal.SIGCONT)
    worker.send_signal(signal.SIGSTOP)
    lone.stays_ok(1)
    worker.send_signal(signal.SIGCONT)
    lone.stays_ok(2)


@contextmanager
def stepped_clock(lone: Lone) -> Iterator[Callable[[float], None]]:
    """A worker whose clock can be stepped, by so many seconds from the machine's; the check seen OK."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("a worker's clock is stepped by libfaketime: apt-get install faketime")
    control = lone.folder / "clock"

    def step(seconds: float) -> None:
        # In one move: the worker may read it at any moment.
        part = control.with_suffix(".part")
        part.write_text(f"{seconds:+.1f}\n")
        part.replace(control)

    step(0)
    with lone.worker(
        LD_PRELOAD=str(found[0]),
        FAKETIME_TIMESTAMP_FILE=str(control),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        FAKETIME_DISABLE_SHM="1",
    ):
        lone.expect("OK", "in-range", 30)
        yield step


@essential
def test_clock_stepped_ahead(lone: Lone) -> None:
    with stepped_clock(lone) as step:
        fault = ("9.3", "Worker's clock stepped ahead", "clock-stepped", "ahead by a second")
        with lone.fault(*fault, within=AT_ONCE_S, back=30) as it:
            step(8)
            it.detected()
            it.stays(1)
            step(0)
        step(1)
        lone.stays_ok(3)
        step(0)
        lone.stays_ok(2)
        # By an hour: it would be told for an hour, were the samples not taken out.
        step(3600)
        lone.expect("CRITICAL", "clock-stepped", AT_ONCE_S)
        step(0)
        wait_until(lambda: lone.samples()[-1].t < time.time() + 60, 60, "none of then is on its way any more")
        tool("history", "prune", "--future", "--history", lone.history)
        lone.expect("OK", "in-range", AT_ONCE_S)


def test_clock_stepped_behind(lone: Lone) -> None:
    with stepped_clock(lone) as step:
        fault = ("9.4", "Worker's clock stepped behind", "worker-missing", "behind by a second")
        with lone.fault(*fault, within=MISSED_S, back=30) as it:
            step(-3600)
            it.detected()
            it.stays(1)
            step(0)
        step(-1)
        lone.stays_ok(3)


def test_two_workers(running: Running) -> None:
    """No fault: each sample is kept, and told once."""
    lone, _ = running
    with lone.worker(log="second.log"):
        began = time.time()
        lone.stays_ok(6)
        samples = [sample for sample in lone.samples() if sample.t > began]
    lone.stays_ok(LAST_SEEN_S)
    assert len(samples) > 1.4 * 6 / INTERVAL_S
    intact(lone)
    record("9.5", "Two workers at once", "one worker", "in-range", "OK")


def ask(lone: Lone, statement: str) -> Any:
    """The first row of what somebody else asks the history's file."""
    with closing(sqlite3.connect(lone.history, timeout=20)) as other:
        return other.execute(statement).fetchone()


def intact(lone: Lone) -> None:
    assert ask(lone, "PRAGMA integrity_check") == ("ok",)


# --- the file ---


def flip_pages(lone: Lone) -> None:
    """Damages the head of every page but the first."""
    ask(lone, "PRAGMA wal_checkpoint(TRUNCATE)")
    with Path(lone.history).open("r+b") as file:
        for start in range(4096, os.path.getsize(lone.history), 4096):
            file.seek(start)
            file.write(random.Random(start).randbytes(64))


def flip_head(lone: Lone) -> None:
    ask(lone, "PRAGMA wal_checkpoint(TRUNCATE)")
    with Path(lone.history).open("r+b") as file:
        file.write(b"# my notes\n")


def halve(lone: Lone) -> None:
    ask(lone, "PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(lone.history, os.path.getsize(lone.history) // 2)


def empty(lone: Lone) -> None:
    os.truncate(lone.history, 0)


@pytest.mark.parametrize(
    ("number", "title", "damage"),
    [
        pytest.param("9.6", "History corrupt: pages overwritten", flip_pages, marks=essential),
        ("9.7", "History corrupt: its head overwritten", flip_head),
        ("9.8", "History cut to half of its size", halve),
        ("9.9", "History cut to nothing", empty),
    ],
)
def test_damaged(running: Running, number: str, title: str, damage: Callable[[Lone], None]) -> None:
    lone, _ = running
    moved = lone.folder / "moved"
    moved.mkdir()
    # The twin first: it is packed anew while it is in use.
    ask(lone, "VACUUM")
    lone.stays_ok(2)
    with lone.fault(number, title, UNWRITTEN, "packed anew (VACUUM) while in use", within=MISSED_S) as it:
        damage(lone)
        it.detected()
        it.stays(1)
        inline = lone.inline()
        assert inline.state == "CRITICAL"
        for file in companions(lone):
            if file.exists():
                shutil.move(file, moved)
    intact(lone)


@essential
def test_deleted(running: Running) -> None:
    lone, _ = running
    lone.stays_ok(1)
    tool("history", "prune", "--keep", "1", "--history", lone.history)
    lone.stays_ok(1)
    with lone.fault("9.10", "History deleted while in use", UNWRITTEN, "pruned", within=AT_ONCE_S) as it:
        for file in companions(lone):
            file.unlink(missing_ok=True)
        it.detected()


def test_folder_deleted(running: Running) -> None:
    """Samples are kept in memory for as long as there is nowhere to write them."""
    lone, _ = running
    folder = Path(lone.history).parent
    fault = ("9.11", "History's folder deleted", "history-unavailable", "another file in it deleted")
    with lone.fault(*fault, within=AT_ONCE_S) as it:
        shutil.rmtree(folder)
        gone = time.time()
        it.detected()
        it.stays(2)
        folder.mkdir()
    lone.complete(gone)
    (folder / "other").touch()
    (folder / "other").unlink()
    lone.stays_ok(1)


@pytest.fixture
def bound(lone: Lone) -> Lone:
    """Commands that are bound by permissions: root alone would not be."""
    if os.geteuid() == 0:
        drop = "-dac_override,-dac_read_search,-fowner"
        lone.prefix = ("setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}")
        if shutil.which("setpriv") is None:
            pytest.skip("root without root's rights needs setpriv, of the package util-linux")
    return lone


@essential
def test_read_only(bound: Lone) -> None:
    """The worker is started again, and may no longer write."""
    with bound.worker():
        bound.expect("OK", "in-range", 30)
    with bound.worker(log="twin.log"):
        bound.stays_ok(2)
    fault = ("9.12", "History read-only for the worker", UNWRITTEN, "started again, and may write")
    with ExitStack() as stack:
        with bound.fault(*fault, within=MISSED_S) as it, read_only(bound):
            started = time.time()
            second = stack.enter_context(bound.worker(log="second.log"))
            it.detected()
            it.stays(2)
            inline = bound.inline()
            assert inline.what == ("CRITICAL", "history-unavailable")
            assert "needs the permission to write" in inline.message
        bound.complete(started + START_S)
        assert second.poll() is None


@contextmanager
def read_only(lone: Lone) -> Iterator[None]:
    """Nobody may write to the history, or beside it."""
    folder = Path(lone.history).parent
    files = [file for file in companions(lone) if file.exists()]
    for file in files:
        file.chmod(0o444)
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)
        for file in files:
            file.chmod(0o664)


START_S = 2.0
"""A worker's first sample after it was started."""


@contextmanager
def small_disk(lone: Lone, size: str) -> Iterator[Path]:
    """A disk of its own for the history."""
    folder = lone.folder / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a small disk can only be mounted by root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@essential
def test_disk_full(lone: Lone) -> None:
    with small_disk(lone, "3m") as disk:
        lone.history = lone.worker_history = str(disk / "history.db")
        with lone.worker():
            lone.expect("OK", "in-range", 30)
            (disk / "twin").write_bytes(b"x" * (1 << 20))
            lone.stays_ok(2)
            with lone.fault("9.13", "History's disk full", UNWRITTEN, "nearly full", within=MISSED_S) as it:
                full = time.time()
                with filling(disk / "filler"):
                    it.detected()
                    it.stays(1)
                    inline = lone.inline()
                    assert inline.what == ("CRITICAL", "history-unavailable")
                    assert "no space left" in inline.message
                (disk / "filler").unlink()
            lone.complete(full)
        intact(lone)


@contextmanager
def filling(path: Path) -> Iterator[None]:
    """Somebody who takes every free byte of a disk, again and again."""
    done = threading.Event()

    def fill() -> None:
        with path.open("ab", buffering=0) as file:
            while not done.is_set():
                with suppress(OSError):
                    while True:
                        file.write(b"x" * 512)
                done.wait(0.01)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)


@contextmanager
def held(lone: Lone) -> Iterator[None]:
    """Another process has the history's lock, and does nothing."""
    with closing(sqlite3.connect(lone.history, timeout=30, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield


@essential
def test_locked(running: Running) -> None:
    """In this mode of SQLite readers go on while somebody writes, so it is the worker that is missed."""
    lone, _ = running
    with held(lone):
        time.sleep(1)
    lone.stays_ok(1)
    fault = ("9.14", "History locked by a stuck process", "worker-missing", "locked for a second")
    with lone.fault(*fault, within=MISSED_S) as it:
        locked = time.time()
        with held(lone):
            it.detected()
            it.stays(1)
            inline = lone.inline()
            # On a busy machine the check's own watchdog may be faster than the history's deadline.
            assert inline.what in (("CRITICAL", "history-unavailable"), ("CRITICAL", "timeout"))
            assert "is locked by another process" in inline.message or "the history" in inline.message
    lone.complete(locked)


def test_newer_schema(running: Running) -> None:
    """Another program of tomorrow has brought the file to its own schema."""
    lone, _ = running
    fault = ("9.15", "History of a newer schema", "history-unavailable", "of this schema, used by another")
    with lone.fault(*fault, within=AT_ONCE_S) as it:
        (version,) = ask(lone, "PRAGMA user_version")
        ask(lone, "PRAGMA user_version = 99")
        assert "upgrade this program" in it.detected().message
        it.stays(1)
        ask(lone, f"PRAGMA user_version = {version}")
    with closing(sqlite3.connect(lone.history, timeout=20)) as other:
        other.execute("SELECT COUNT(*) FROM sample").fetchone()
        lone.stays_ok(1)


def test_older_schema(lone: Lone) -> None:
    """No fault: a worker takes over a file of the first release, and a check meanwhile."""
    with closing(sqlite3.connect(lone.history)) as other:
        other.executescript((ROOT / "tests" / "first_release" / "sqlite.sql").read_text())
    with lone.worker():
        lone.expect("OK", "in-range", 30)
        lone.stays_ok(1)
    intact(lone)
    record("9.16", "History of an older schema: brought up to date", "of this schema", "in-range", "OK")


# --- killed at any moment ---

REPLICAS = 10
QUICK_S = 0.1
"""Between two samples of the worker that is killed."""
WRITTEN_S = 0.2 + 3 * QUICK_S + 4.0
"""From a sample to its place in the history, on a busy machine."""
BORN_S = 15.0
"""From the start of a worker to its first sample, on a busy machine."""


@essential
def test_killed_at_random(lone: Lone) -> None:
    killed(lone, 20, "some")


@pytest.mark.long
@pytest.mark.parametrize("part", range(5))
def test_killed_at_random_100_times_more(lone: Lone, part: int) -> None:
    killed(lone, 100, f"part {part}")


def killed(lone: Lone, times: int, seed: str) -> None:
    """Kills a worker again and again: every sample that somebody has seen stays, and only the dead time is missing."""
    chance = random.Random(seed)
    names = [f"r{number}" for number in range(REPLICAS)]
    options = lone.fleet(dict.fromkeys(names, lone.target), QUICK_S)
    seen: dict[str, dict[int, float]] = {name: {} for name in names}
    births, deaths = [], []
    for place in range(times):
        births.append(time.time())
        with lone.worker(*options) as worker:
            # Every fourth may be killed while it starts, and every second of the others while it writes.
            if place % 4:
                wait_for_sample(lone, births[-1])
            time.sleep(chance.uniform(0.0, 1.0))
            if place % 4 in (1, 3):
                wait_for_write(Path(lone.history + "-wal"))
            compare(lone, seen)
            worker.kill()
            deaths.append(time.time())
            worker.wait()
        compare(lone, seen)
        if place % 20 == 19:
            intact(lone)
    for name in names:
        samples = sorted(seen[name].values())
        assert len(samples) > times / 2, "most workers live long enough to sample"
        for last, first in pairwise(samples):
            if first - last > WRITTEN_S:
                assert any(last <= death <= last + WRITTEN_S for death in deaths), f"{name}: lost samples after {last}"
                assert any(birth <= first <= birth + BORN_S for birth in births), f"{name}: no samples until {first}"


def wait_for_sample(lone: Lone, born: float) -> None:
    """Waits for a sample that was taken after that time."""
    wait_until(lambda: newest(lone) > born, 60, "the worker takes samples", interval_s=0.05)


def newest(lone: Lone) -> float:
    """When the newest sample was taken; 0 where there is none."""
    if not ask(lone, "PRAGMA user_version")[0]:
        return 0.0
    return float(ask(lone, "SELECT COALESCE(MAX(t), 0) FROM sample")[0])


def wait_for_write(path: Path) -> None:
    """Waits for the moment in which the worker writes."""

    def mark() -> tuple[int, int]:
        try:
            found = path.stat()
        except OSError:
            return 0, 0
        return found.st_size, found.st_mtime_ns

    before = mark()
    end = time.monotonic() + 2
    while mark() == before and time.monotonic() < end:
        pass


def compare(lone: Lone, seen: dict[str, dict[int, float]]) -> None:
    """Reads all: what was there once must be there for ever. Adds what is new."""
    there: dict[str, dict[int, float]] = {name: {} for name in seen}
    if Path(lone.history).exists():
        with closing(sqlite3.connect(lone.history, timeout=20)) as other:
            if other.execute("PRAGMA user_version").fetchone()[0]:
                samples = "SELECT name, arrival, t FROM sample JOIN replica ON replica.number = sample.replica"
                for name, arrival, t in other.execute(samples):
                    there[name][arrival] = t
    for name in seen:
        assert seen[name].items() <= there[name].items(), f"{name} has lost samples"
    seen.update(there)
