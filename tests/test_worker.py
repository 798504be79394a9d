"""The worker as a process: it takes samples on time, keeps them, and ends when it is told to."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from argparse import Namespace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Command, wait_until
from listeners import HEALTHY, PASSWORD, dripping, error, greeting, listening, living, silent

from check_delayed_repl.commands.worker import _newest
from check_delayed_repl.configfile import Replica
from check_delayed_repl.history import open_history
from check_delayed_repl.observe.target import Target
from check_delayed_repl.records import Sample
from check_delayed_repl.worker import scheduler
from check_delayed_repl.worker import writer as writer_module
from check_delayed_repl.worker.writer import Writer

NAME = "db7"


class Worker(NamedTuple):
    process: subprocess.Popen[str]
    log: Path


def started(history: Path, *options: str, named: bool = True, **environment: str) -> Worker:
    log = history.parent.with_suffix(".log")
    with log.open("w") as err:
        where = ["--history", str(history)] if named else []
        command = [sys.executable, "-m", "check_delayed_repl.tool", "worker", *where, *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=err, text=True, env={**os.environ, **environment}
        )
    return Worker(process, log)


def said_by(worker: Worker) -> list[str]:
    return worker.log.read_text().splitlines()


def ended(worker: Worker) -> tuple[int, list[str]]:
    try:
        out, _ = worker.process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.communicate()
        raise
    err = worker.log.read_text()
    assert out == ""
    assert "Traceback" not in err
    assert PASSWORD not in err
    return worker.process.returncode, err.splitlines()


def told_to_end(worker: Worker, number: int = signal.SIGTERM) -> tuple[int, list[str]]:
    worker.process.send_signal(number)
    return ended(worker)


def kept(history: Path, replica: str = NAME) -> list[Sample]:
    with open_history(str(history), time.monotonic() + 5) as opened:
        return [record for _, record in opened.records(replica) if isinstance(record, Sample)]


def reaching(target: Target) -> list[str]:
    place = ["-S", target.socket] if target.socket else ["-H", str(target.host), "-P", str(target.port)]
    return [*place, "-u", "monitor", f"-p{PASSWORD}", "--replica", NAME]


def in_toml(name: str, target: Target) -> str:
    return f'[[replica]]\nreplica = "{name}"\nhost = "127.0.0.1"\nport = {target.port}\n'


def test_so_many_samples_and_no_more(tmp_path: Path) -> None:
    history = tmp_path / "h.db"
    with listening(HEALTHY) as target:
        status, lines = ended(started(history, *reaching(target), "--count", "3", "--interval", "1"))
    assert (status, lines) == (
        0,
        ["delayed-repl: worker: taking samples of db7 every 1 s", "delayed-repl: worker: stopped"],
    )
    samples = kept(history)
    assert [sample.delay for sample in samples] == [3.25] * 3
    for one, other in pairwise(samples):
        assert one.t < other.t  # one that is late on a busy machine does not put off the next


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(tmp_path: Path, number: int) -> None:
    history, ear = tmp_path / "h.db", tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, listening(HEALTHY) as target:
        notified.bind(str(ear))
        notified.settimeout(10)
        worker = started(history, *reaching(target), NOTIFY_SOCKET=str(ear), WATCHDOG_USEC="200000")
        heard = [notified.recv(100) for _ in range(4)]
        status, lines = told_to_end(worker, number)
        while b"STOPPING=1" not in heard:
            heard.append(notified.recv(100))
    assert heard[0] == b"READY=1"
    assert heard.count(b"WATCHDOG=1") >= 3
    assert status == 0
    assert lines[-1] == "delayed-repl: worker: stopped"
    # The sample that had just been taken is not lost.
    assert len(kept(history)) == 1


def test_a_signal_that_the_system_hands_to_another_thread_is_heard(tmp_path: Path) -> None:
    with listening(HEALTHY) as target:
        worker = started(tmp_path / "h.db", *reaching(target), "--interval", "60")
        wait_until(lambda: (tmp_path / "h.db").exists() and kept(tmp_path / "h.db"))
        number = worker.process.pid
        thread = max(map(int, os.listdir(f"/proc/{number}/task")))
        assert thread != number
        ctypes.CDLL(None).tgkill(number, thread, signal.SIGTERM)
        worker.process.wait(30)
        assert ended(worker)[0] == 0


def test_it_ends_in_the_middle_of_a_sample(tmp_path: Path) -> None:
    called = threading.Event()

    def mute(caller: socket.socket) -> None:
        called.set()
        silent(caller)

    with listening(mute) as target:
        worker = started(tmp_path / "h.db", *reaching(target), "--timeout", "60", "--interval", "60")
        assert called.wait(30)
        assert told_to_end(worker)[0] == 0


def test_dead_and_slow_replicas_delay_no_other(tmp_path: Path) -> None:
    history, config = tmp_path / "h.db", tmp_path / "fleet.toml"
    failing = ("dead0", "dead39", "slow7")
    with listening(silent) as dead, listening(dripping(greeting())) as slow, listening(HEALTHY) as well:
        tables = [f'[defaults]\nuser = "monitor"\npassword = "{PASSWORD}"\ninterval = 1\ntimeout = "20s"\n']
        tables += [in_toml(f"dead{number}", dead) for number in range(40)]
        tables += [in_toml(f"slow{number}", slow) for number in range(20)]
        tables += [in_toml("well", well)]
        config.write_text("".join(tables))
        worker = started(history, "--config", str(config))
        # One after the other, sixty of them would take a minute for each sample of this one.
        wait_until(lambda: len(kept(history, "well")) >= 5)
        # A failed sample is recorded at every interval too.
        wait_until(lambda: all(len(kept(history, name)) >= 3 for name in failing))
        status, lines = told_to_end(worker)
    assert status == 0
    assert {sample.delay for sample in kept(history, "well") if sample.error != "timeout"} == {3.25}
    for name in failing:
        failed = kept(history, name)
        assert {sample.error for sample in failed} == {"timeout"}
        assert "no answer within 1 s" in str(failed[0].message)
    # One line when it begins, not one for each sample.
    assert sum("dead7: timeout" in line for line in lines) == 1


def test_backoff_delays_reconnecting_alone(tmp_path: Path) -> None:
    logins: list[int] = []

    def refuse(caller: socket.socket) -> None:
        logins.append(1)
        caller.sendall(error(0, 1045, b"Access denied"))

    with listening(refuse) as target:
        ended(started(tmp_path / "h.db", *reaching(target), "--interval", "0.1", "--count", "24"))
    samples = kept(tmp_path / "h.db")
    assert len(samples) == 24
    # A busy machine is late: some then find no answer in time.
    refused = [str(sample.message) for sample in samples if sample.error != "timeout"]
    assert all("access denied" in message for message in refused)
    assert 2 <= len(logins) <= 9
    for one, other in pairwise(samples):
        assert one.t < other.t


def test_a_server_that_is_down_is_asked_every_time_and_seen_at_once_when_it_is_back(tmp_path: Path) -> None:
    history, path = tmp_path / "h.db", str(tmp_path / "s.sock")
    worker = started(history, *reaching(Target(socket=path)), "--interval", "0.5")
    wait_until(lambda: history.exists() and len(kept(history)) >= 4)
    with listening(HEALTHY, path=path):
        back = time.time()
        wait_until(lambda: sum(sample.error is None for sample in kept(history)) >= 3)
        status, lines = told_to_end(worker)
    assert status == 0
    down = [sample for sample in kept(history) if sample.error == "server-down"]
    # None says only that it was not tried; and none was taken after the server was back, but one on its way.
    assert {sample.message for sample in down} == {f"{path}: there is no such socket: the server does not run"}
    assert len(down) >= 4
    assert sum(sample.t > back for sample in down) <= 1
    said = [line.split(": ", 2)[2] for line in lines[1:-1]]
    assert said[0] == f"db7: server-down: {path}: there is no such socket: the server does not run"
    assert said[-1] == "db7: sampled again"


def test_samples_are_kept_while_the_history_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    with listening(HEALTHY) as target:
        worker = started(folder / "h.db", *reaching(target), "--interval", "0.2")
        wait_until(lambda: any("sampling goes on" in line for line in said_by(worker)))
        time.sleep(1.0)  # for some that have to wait
        folder.mkdir()
        there = time.time()
        wait_until(lambda: (folder / "h.db").exists() and len(kept(folder / "h.db")) >= 20)
        status, lines = told_to_end(worker)
    assert status == 0
    assert sum("sampling goes on" in line for line in lines) == 1
    assert sum("can be written again" in line for line in lines) == 1
    samples = kept(folder / "h.db")
    # They have the times that they were made at.
    assert sum(sample.t < there for sample in samples) >= 2
    for one, other in pairwise(samples):
        assert one.t < other.t


def test_a_replica_without_a_thread_gets_one_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a container's limit of processes is reached for a moment."""
    start, refused = threading.Thread.start, list[threading.Thread]()

    def refusing(thread: threading.Thread) -> None:
        """Refuses the first two, and for good, as Python does from 3.13 on."""
        if thread.name == "sample" and (thread in refused or len(refused) < 2):
            assert refused.count(thread) < 9
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    monkeypatch.setattr(scheduler, "BEAT_S", 0.05)
    with listening(HEALTHY) as target:
        replicas = [Replica(name, target, interval=0.1) for name in ("a", "b")]
        writer = Writer(str(tmp_path / "h.db"), 30.0, 1e9)
        assert scheduler.Scheduler(replicas, {}, writer, 1).run() == 0
    assert len(kept(tmp_path / "h.db", "a")) == len(kept(tmp_path / "h.db", "b")) == 1
    said = capsys.readouterr().err
    assert said.count("a and perhaps others are not sampled: can't start new thread: raise TasksMax= or ulimit") == 1


def test_samples_that_are_lost_are_told(tmp_path: Path) -> None:
    with listening(HEALTHY) as target:
        status, lines = ended(
            started(tmp_path / "gone" / "h.db", *reaching(target), "--count", "2", "--interval", "0.1", "-t", "1")
        )
    assert status == 1
    assert lines[-1] == "delayed-repl: worker: stopped; 2 samples are lost, because the history could not be written"


def test_the_oldest_samples_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_WAITING", 1000)
    writer = Writer(str(tmp_path / "h.db"), 30.0, 1e9)
    now = time.time()
    for place in range(1003):
        writer.put(NAME, Sample(t=now + place * 1e-5, delay=float(place)))
    writer.start()
    assert writer.finish(None) == 3
    samples = kept(tmp_path / "h.db")
    assert len(samples) == 1000
    assert samples[0].delay == 3.0


def test_what_was_known_before_a_restart_is_known_after_it(tmp_path: Path) -> None:
    history = tmp_path / "h.db"
    with open_history(str(history), time.monotonic() + 5) as opened:
        # Since that sample the source has changed, and its heartbeat is on its way.
        opened.add_sample(NAME, Sample(t=time.time() - 5, delay=9.0, source_id=3, heartbeat_id=3))
    with listening(HEALTHY) as target:
        assert ended(started(history, *reaching(target), "--count", "1"))[0] == 0
    newest = kept(history)[-1]
    assert (newest.source_id, newest.heartbeat_id) == (1, 1)


def test_the_file_is_read_again(tmp_path: Path) -> None:
    """Replicas come and go by SIGHUP, and limits change, without a restart; a file that is wrong is told, and changes
    nothing; however many signals come, the worker goes on."""
    config = tmp_path / "config.toml"
    history, metrics = tmp_path / "history.db", tmp_path / "fleet.prom"

    def write(*names: str, minimum: float = 1.0) -> None:
        tables = "".join(f'[[replica]]\nreplica = "{name}"\nhost = "127.0.0.1"\nport = {port}\n' for name in names)
        config.write_text(
            f'history = "{history}"\n[publish]\nprometheus-file = "{metrics}"\n[defaults]\nuser = "u"\n'
            f"interval = 0.3\ntimeout = 10\nmax-delay-time = 99\nmin-delay-time = {minimum}\n{tables}"
        )
        config.chmod(0o600)

    def grows(*names: str) -> None:
        before = {name: len(kept(history, name)) for name in names}
        wait_until(lambda: all(len(kept(history, name)) > count + 3 for name, count in before.items()))

    def published(condition: str, *names: str) -> bool:
        text = metrics.read_text() if metrics.exists() else ""
        return all(f'delayed_repl_condition{{replica="{name}",condition="{condition}"}} 1' in text for name in names)

    def read_again(says: str) -> None:
        worker.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any(says in line for line in said_by(worker)), lambda: said_by(worker))

    with listening(HEALTHY) as target:
        port = target.port
        write("a", "b")
        worker = started(history, "--config", str(config), named=False)
        wait_until(lambda: history.exists() and published("in-range", "a", "b"))
        assert "taking samples of 2 replicas" in said_by(worker)[0]
        write("b", "c", minimum=50)
        read_again("read the configuration again")
        wait_until(lambda: published("delay-out-of-bounds", "b", "c"))
        assert 'replica="a"' not in metrics.read_text()
        before = len(kept(history, "a"))
        grows("b", "c")
        assert len(kept(history, "a")) <= before + 3, "what was on its way"
        config.write_text("[[replicas]]\n")
        read_again("'replicas': there is no such key")
        assert "nothing is changed" in said_by(worker)[-1]
        write("b", "c")
        config.write_text('keep = "4h"\n' + config.read_text().replace("timeout", "window = 18000\ntimeout"))
        read_again("--keep: 14400 seconds is less than a trend may reach back; nothing is changed")
        for _ in range(300):
            worker.process.send_signal(signal.SIGHUP)
        threads = re.search(r"Threads:\s+(\d+)", Path(f"/proc/{worker.process.pid}/status").read_text())
        assert int(threads[1]) < 30
        grows("c")
        write("d")
        worker.process.send_signal(signal.SIGHUP)
        wait_until(lambda: published("in-range", "d"))
        changed = "[publish]\npublish-interval = 9\nobject-host = 'x'\n"
        text = config.read_text().replace("history.db", "other.db")
        config.write_text(text.replace("[publish]\n", f"keep = '40d'\n{changed}"))
        read_again("history, keep, [publish]: what has changed there takes effect with a restart")
        assert told_to_end(worker)[0] == 0


def test_what_was_on_its_way_is_not_kept_under_a_name_that_is_another_s_now(tmp_path: Path) -> None:
    config, history = tmp_path / "config.toml", tmp_path / "h.db"
    asked, answer, left = threading.Event(), threading.Event(), threading.Event()

    def late(caller: socket.socket) -> None:
        asked.set()
        answer.wait(60)
        try:
            living(7.0)(caller)
        finally:
            left.set()

    with listening(late) as old, listening(HEALTHY) as new:
        worker = None
        for target in (old, new):
            config.write_text(
                f'history = "{history}"\n[defaults]\nuser = "u"\ninterval = 6\ntimeout = 6\n{in_toml(NAME, target)}'
            )
            config.chmod(0o600)
            if worker is None:
                worker = started(history, "--config", str(config))
                assert asked.wait(60)
        worker.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(kept(history)) == 1)
        answer.set()
        assert left.wait(60)
        assert told_to_end(worker)[0] == 0
    assert [sample.delay for sample in kept(history)] == [3.25]


@pytest.mark.parametrize(
    ("publish", "says"),
    [
        ("prometheus-listen = '127.0.0.1:{taken}'", "prometheus-listen: 127.0.0.1:{taken}: Address already in use"),
        ("prometheus-listen = '192.0.2.1:9306'", "prometheus-listen: 192.0.2.1:9306: Cannot assign requested address"),
        ("prometheus-listen = 'nowhere.invalid:9306'", "prometheus-listen: nowhere.invalid:9306: "),
        ("nagios-command-file = '/etc/passwd'", "nagios-command-file: /etc/passwd: not a named pipe"),
        ("icinga2-url = []\nicinga2-user = 'u'", "icinga2-url: is missing"),
        ("{icinga}icinga2-ca = 'gone.pem'", "icinga2-ca: {folder}/gone.pem: No such file or directory"),
        ("{icinga}icinga2-ca = 'config.toml'", "icinga2-ca: {folder}/config.toml: no certificate in it"),
        ("{icinga}icinga2-password-file = 'gone'", "icinga2-password-file: {folder}/gone: No such file or directory"),
        ("{icinga}icinga2-password-file = 'pipe'", "icinga2-password-file: {folder}/pipe: it is not a file"),
        ("{icinga}icinga2-password-file = '.'", "icinga2-password-file: {folder}/.: Is a directory"),
        ("{icinga}object-service = 's'", "object-service: a and b are both 's' of host 'h': have {{replica}} in it"),
        ("{icinga}object-service = '{{replica}} {{0}}'", "object-service: .* may hold .*alone in braces"),
        ('{icinga}object-host = "a\\nb"', "object-host: .* is no name: it has line breaks"),
    ],
)
def test_what_cannot_be_published_to_is_told_at_the_start(
    tmp_path: Path, tool: Command, publish: str, says: str
) -> None:
    config = tmp_path / "config.toml"
    (tmp_path / "secret").write_text("s\n")
    os.mkfifo(tmp_path / "pipe")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = {"taken": taken.getsockname()[1], "folder": tmp_path}
        icinga = "icinga2-url = 'https://h'\nicinga2-user = 'u'\n"
        icinga += "" if "password-file" in publish else "icinga2-password-file = 'secret'\n"
        tables = "".join(f"[[replica]]\nreplica = '{name}'\nhost = 'h'\n" for name in "ab")
        config.write_text(f"history = 'h.db'\n[publish]\n{publish.format(icinga=icinga, **words)}\n{tables}")
        config.chmod(0o600)
        run = tool("worker", "--config", str(config))
    assert (run.returncode, run.stdout) == (3, "")
    assert re.search(says.format(**words), run.stderr)
    assert run.stderr.count("\n") <= 2


def test_a_damaged_sample_is_in_no_other_replica_s_way(tmp_path: Path) -> None:
    where = str(tmp_path / "h.db")
    with open_history(where, time.monotonic() + 30) as history:
        history.add_samples([(name, Sample(1.0, 1.0, source_id=7)) for name in ("a", "b")])
        history._write(lambda: history._run("UPDATE sample SET source_id = 'damaged' WHERE replica = 1"))
    sampled = [Replica(name, Target()) for name in ("a", "b")]
    newest = _newest(Namespace(history=where, timeout=5.0), sampled)
    assert {name: sample and sample.source_id for name, sample in newest.items()} == {"b": 7}
