"""What is published, without the programs that it is published to: those are in tests/integration/test_published.py."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from math import isfinite
from pathlib import Path
from types import SimpleNamespace
from urllib.request import urlopen

import hostile
import pytest
from conftest import ROOT, wait_until
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from check_delayed_repl import plugin
from check_delayed_repl.config import parsed, replicas
from check_delayed_repl.configfile import Publish, Replica
from check_delayed_repl.history import open_history
from check_delayed_repl.history.folding import judged
from check_delayed_repl.history.pruning import prune_future
from check_delayed_repl.judge.fold import judge
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.observe.target import Target
from check_delayed_repl.publish import judging as judging_module
from check_delayed_repl.publish import openmetrics
from check_delayed_repl.publish import publisher as module
from check_delayed_repl.publish.commandfile import LINE_BYTES, CommandFile, line
from check_delayed_repl.publish.judging import Judging
from check_delayed_repl.publish.mailbox import Delivery, Mailbox
from check_delayed_repl.publish.publisher import Publisher
from check_delayed_repl.publish.result import Result, host_of, named
from check_delayed_repl.records import JobLine, Sample, job_names
from check_delayed_repl.tool import command_parser

T = 1_700_000_000.0
LIMITS = Limits(job_limits=(("migration", 600.0),))


def published(name: str = "db1", limits: Limits = LIMITS, **others: object) -> Replica:
    replica = Replica(name, Target(host="db1.example"), limits=limits)._replace(**others)  # type: ignore[arg-type]
    return named([replica], Publish())[0]


def result(name: str = "db1", delay: float = 7200.0, **seen: object) -> Result:
    sample = Sample(T, delay, server="uuid:a-b", sql_delay=7200, local=0.5, relay_log_space=4096, **seen)  # type: ignore[arg-type]
    job = JobLine(T - 30.0, "m1", "migration", T - 30.0)
    return Result(published(name), judge([job, sample], LIMITS, T + 1.0))


def test_the_metrics_of_a_replica() -> None:
    found = openmetrics.families([result()], 1, {"icinga2": 2}, {"icinga2": 1}, 3)
    lines = openmetrics.text(found).splitlines()
    values = [row.removeprefix("delayed_repl_") for row in lines if not row.startswith("#")]
    assert values[:12] == [
        'state{replica="db1"} 1',
        'condition{replica="db1",condition="active-migration"} 1',
        'delay_seconds{replica="db1"} 7200.0',
        'intercept_seconds{replica="db1"} 7200.0',
        'min_delay_seconds{replica="db1"} 5400.0',
        'max_delay_seconds{replica="db1"} 9000.0',
        'sql_delay_seconds{replica="db1"} 7200',
        'local_heartbeat_age_seconds{replica="db1"} 0.5',
        'relay_log_bytes{replica="db1"} 4096',
        'held_seconds{replica="db1",exception="backup"} 0.0',
        'held_seconds{replica="db1",exception="deshard"} 0.0',
        'held_seconds{replica="db1",exception="migration"} 0.0',
    ]
    assert 'job_age_seconds{replica="db1",kind="migration"} 31.0' in values
    assert f'last_sample_timestamp_seconds{{replica="db1"}} {T}' in values
    assert 'info{replica="db1",host="db1.example",port="3306",channel="",server="uuid:a-b"} 1' in values
    assert values[-5:-1] == [
        "replicas 1",
        'publish_errors_total{target="icinga2"} 2',
        'publish_dropped_total{target="icinga2"} 1',
        "history_errors_total 3",
    ]
    named = [row.split()[2] for row in lines if row.startswith("# TYPE")]
    assert len(named) == len(set(named)) == sum(row.startswith("# HELP") for row in lines)


@given(st.text(max_size=20), st.floats(allow_nan=True))
@example('a"b\\c\nd{}|;\x1b\u2028\r', 7200.0)
def test_any_name_and_number_gives_lines_that_can_be_read(name: str, delay: float) -> None:
    text = openmetrics.text(openmetrics.families([result(name, delay)], 0, {}, {}, 0))
    read = {family.name: family.samples for family in text_string_to_metric_families(text)}
    (state,) = read["delayed_repl_state"]
    assert state.labels == {"replica": name}
    values = [one.value for samples in read.values() for one in samples]
    assert all(isfinite(value) for value in values)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_metrics_are_served(host: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(openmetrics, "SILENT_S", 2.0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host.strip("[]"), 0), family=family) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no such address")
    found = openmetrics.families([result("a\n")], 1, {}, {}, 0)
    openmetrics.serve(f"{host}:{port}", lambda: found)
    with urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'delayed_repl_state{replica="a\\n"} 1.0' in text.splitlines()
    some = "?name[]=delayed_repl_state&name[]=delayed_repl_history_errors_total"
    with urlopen(f"http://{host}:{port}/metrics{some}", timeout=10) as answer:
        shown = [one for one in answer.read().decode().splitlines() if not one.startswith("#")]
    assert shown == ['delayed_repl_state{replica="a\\n"} 1.0', "delayed_repl_history_errors_total 0.0"]
    with socket.create_connection((host.strip("[]"), port), timeout=20) as silent:
        assert silent.recv(1) == b""
    start = threading.Thread.start

    def scarce(thread: threading.Thread) -> None:
        if "process_request_thread" in str(getattr(thread, "_target", None)):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    for _ in range(2):
        with urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
            assert answer.read().decode() == text, "where no thread is left, too"
    assert capfd.readouterr().err == ""


def test_who_drips_gives_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmetrics, "CALLERS", 2)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = probe.getsockname()
    openmetrics.serve("{}:{}".format(*address), list)
    with contextlib.ExitStack() as stack:
        dripping = []
        for _ in range(4):
            one = stack.enter_context(socket.create_connection(address, timeout=openmetrics.SILENT_S / 2))
            one.sendall(b"G")
            dripping.append(one)
        assert [one.recv(1) for one in dripping[:2]] == [b"", b""]
        dripping[3].sendall(b"ET /metrics HTTP/1.0\r\n\r\n")
        assert dripping[3].recv(4) == b"HTTP"


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "delayed_repl.prom"
    for count in (1, 2):
        openmetrics.write_file(str(path), openmetrics.families([], count, {}, {}, 0))
        assert f"delayed_repl_replicas {count}\n" in path.read_text()
    assert os.listdir(tmp_path) == ["delayed_repl.prom"]
    assert path.stat().st_mode & 0o777 == 0o644
    link = tmp_path / "link.prom"
    link.symlink_to(path)
    openmetrics.write_file(str(link), [])
    assert not link.is_symlink()
    assert path.read_text(), "a link is replaced, not followed"
    link.unlink()
    with pytest.raises(OSError, match="No such file"):
        openmetrics.write_file(str(tmp_path / "gone" / "x.prom"), [])


def test_a_package_that_is_missing_is_installed_where_the_worker_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ValueError, match=re.escape(f": {sys.executable} -m pip install prometheus_client")):
        openmetrics.find("127.0.0.1:9306")


def test_the_example_for_nagios_names_its_own_service() -> None:
    text = (ROOT / "examples" / "nagios" / "published.cfg").read_text()
    (named,) = re.findall('object-service = "(.+)"', text)
    assert re.findall(r"service_description +(.+)", text) == [named]


def test_a_line_for_nagios() -> None:
    written = line(result()).decode()
    stamp, written = written[1:].split("] ", 1)
    assert int(stamp) == pytest.approx(time.time(), abs=5), "a shared history's clock, which Nagios does not go by"
    assert written.startswith(
        "PROCESS_SERVICE_CHECK_RESULT;db1.example;delayed replication db1;1;"
        "DELAYED_REPL WARNING - Active migration: running 31 seconds (limit 600"
    )
    assert " | delay=7200s;;5400:9000 " in written
    assert "\\n[WARNING active-migration]" in written
    assert written.count("\n") == 1
    assert written.endswith("\n")


@given(st.text(min_size=1, max_size=3000), st.text(max_size=300), st.integers(0, 40))
def test_a_line_fits_and_keeps_its_perfdata(message: str, name: str, jobs: int) -> None:
    sample = Sample(T, error="connect-failed", message=message)
    lines = [JobLine(T, f"job {place} {message}", "backup", T) for place in range(jobs)]
    one = Result(published(name)._replace(object_service="s;\n" + name[:100]), judge([*lines, sample], LIMITS, T))
    written = line(one)
    assert len(written) <= LINE_BYTES
    assert written.count(b"\n") == 1
    assert written.split(b" | ", 1)[1].startswith(b"delay=U ")
    assert one.output().partition("\n")[0].rpartition(" ")[2].encode() in written
    assert written.count(b";") >= 4


def test_a_line_with_more_perfdata_than_fits_keeps_its_text() -> None:
    kinds = tuple((f"kind-of-job-number-{place}", 600.0) for place in range(60))
    limits = LIMITS._replace(job_limits=kinds)
    verdict = judge([Sample(T, error="connect-failed", message="refused")], limits, T)
    written = line(Result(published("db1")._replace(limits=limits), verdict))
    assert 4000 < len(written) <= LINE_BYTES
    text, _, rest = written.partition(b" | ")
    assert text.endswith(b"refused")
    perfdata = rest.partition(b"\\n")[0].split()
    assert len(perfdata) > 100
    assert {re.sub(rb"\S+=(U|0s?)(;\S*)?", b"", part) for part in perfdata} == {b""}


def test_object_names() -> None:
    replica = Replica("db1#orders", Target(host="db1.example", channel="orders"), limits=LIMITS)
    (found,) = named([replica], Publish(object_service="delayed {replica}"))
    assert (found.object_host, found.object_service) == ("db1.example", "delayed db1#orders")
    (own,) = named([replica._replace(object_host="h-{host}", object_service="s")], Publish())
    assert (own.object_host, own.object_service) == ("h-db1.example", "s")
    assert host_of(Target(socket="/run/mysqld/mysqld.sock")) == socket.gethostname()


class Away:
    """A target that takes nothing until it is told to."""

    name = "away"

    def __init__(self) -> None:
        self.back = threading.Event()
        self.tried = threading.Event()
        self.taken: list[Result] = []

    def deliver(self, results: list[Result]) -> Delivery:
        if not self.back.is_set():
            self.tried.set()
            return Delivery(results, "not here")
        self.taken += results
        return Delivery()


def test_a_target_that_is_away_gets_the_newest_result_of_each_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("check_delayed_repl.publish.mailbox.RETRY_S", (0.02, 0.05))
    target, said = Away(), list[str]()
    mailbox = Mailbox(target, said.append)
    mailbox.start()
    mailbox.put(result("a", 7000.0))
    assert target.tried.wait(10)
    mailbox.put(result("b", 7100.0))
    mailbox.put(result("a", 7300.0))
    target.back.set()
    deadline = time.monotonic() + 10
    while len(target.taken) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    mailbox.finish(10)
    assert sorted((one.replica.name, one.verdict.sample and one.verdict.sample.delay) for one in target.taken) == [
        ("a", 7300.0),
        ("b", 7100.0),
    ]
    assert mailbox.dropped == 1
    assert mailbox.errors >= 1
    assert [text.partition(":")[2].partition(";")[0].strip() for text in said] == ["not here", "takes results again"]


def test_a_pipe_that_nobody_reads_makes_nobody_wait(tmp_path: Path) -> None:
    path = tmp_path / "nagios.cmd"
    target = CommandFile(str(path))
    assert target.deliver([result()]).trouble == f"{path}: No such file or directory"
    os.mkfifo(path)
    gone = target.deliver([result()])
    assert (gone.trouble, len(gone.rest)) == (f"{path}: Nagios is not running", 1)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    many = [result(f"db{place}") for place in range(200)]
    full = target.deliver(many)
    assert full.trouble == f"{path}: the pipe is full: Nagios does not read"
    taken = os.read(reader, 1 << 20)
    assert 0 < len(full.rest) < len(many)
    assert taken.count(b"\n") == len(many) - len(full.rest)
    assert target.deliver(full.rest[:3]).rest == []
    os.close(reader)
    path.unlink()
    path.write_text("")
    assert "not a named pipe" in target.deliver([result()]).trouble
    assert path.read_text() == ""


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_what_is_published_is_what_the_check_says(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any records, in any pieces, with restarts, changes of limits and samples that are taken back between them.

    A replica is judged as soon as anything arrives for it, and those for which nothing does cost nothing.
    """
    where = str(tmp_path_factory.mktemp("history") / "h.db")
    lines = {name: hostile.recording(data.draw(st.integers(0, 2**32)), 6) for name in ("a", "b#c", "b#d")}
    followed = tuple(published(name) for name in lines)
    judging = Judging(where)
    with contextlib.closing(open_history(where, time.monotonic() + 60)) as history:
        judging.verdicts(followed)
        while any(lines.values()):
            name = data.draw(st.sampled_from([name for name, rest in lines.items() if rest]))
            count = data.draw(st.integers(5, 90))
            piece, lines[name] = lines[name][:count], lines[name][count:]
            concerned = {name}
            for record in piece:
                # A job on the server's own name applies to its channels.
                stored = data.draw(st.sampled_from(job_names(name) if isinstance(record, JobLine) else (name,)))
                history.add_records(stored, [record])
                concerned |= {each for each in ("a", "b#c", "b#d") if stored in job_names(each)}
            now = max(record.t for record in piece) + data.draw(st.sampled_from([0.0, 5.0, 90.0]))
            event = data.draw(st.sampled_from(["go on", "go on", "go on", "restart", "limits", "take back"]))
            if event == "restart":
                judging.close()
            elif event == "limits":
                limits = Limits(max_backup_behind=data.draw(st.sampled_from([20.0, 64800.0])))
                followed = tuple(each._replace(limits=limits) for each in followed)
            elif event == "take back":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(history, "now", lambda: now - 40.0)  # noqa: B023 - used at once
                    prune_future(history)
            found = judging.verdicts(followed, due=(), now=now)
            if event == "go on":
                assert set(found) == concerned
            assert set(found) >= concerned
            for each in followed:
                if each.name in found:
                    assert found[each.name] == judged(history, each.name, each.limits, now, worker=True)
            assert set(judging.verdicts(followed, now=now)) == {"a", "b#c", "b#d"}
    judging.close()


def test_an_older_copy_of_the_history_in_its_place(tmp_path: Path) -> None:
    where = str(tmp_path / "h.db")
    judging, followed = Judging(where), (published("a"),)
    with contextlib.closing(open_history(where, time.monotonic() + 60)) as history:
        history.add_records("a", [Sample(T + place, 7200.0) for place in range(9)])
        judging.verdicts(followed)
        history._write(lambda: history._run("DELETE FROM sample WHERE arrival > 4"))
        history._write(lambda: history._run("UPDATE counter SET arrival = 4"))
        history.add_records("a", [Sample(T + 9, 7200.0)])
        assert judging.verdicts(followed, now=T + 10)["a"] == judged(history, "a", LIMITS, T + 10, worker=True)
    judging.close()


def test_a_damaged_sample_is_in_no_other_replica_s_way(tmp_path: Path) -> None:
    where = str(tmp_path / "h.db")
    judging, followed = Judging(where), (published("a"), published("b"))
    with contextlib.closing(open_history(where, time.monotonic() + 60)) as history:
        for name in ("a", "b"):
            history.add_records(name, [Sample(T + place, 7200.0) for place in range(9)])
        values = (("'abc'", State.CRITICAL), ("7200", State.OK))
        for (value, state), now in zip(values, (T + 10, T + 12), strict=True):
            history._write(partial(history._run, f"UPDATE sample SET delay = {value} WHERE arrival = 4"))
            found = judging.verdicts(followed, now=now)
            assert (found["a"].state, found["b"].state) == (state, State.OK)
            assert (found["a"].condition == "history-unavailable") == (state == State.CRITICAL)
            assert judging.verdicts(followed, due=(), now=now) == {}, "it is tried again when it is due"
            history.add_records("b", [Sample(now, 7200.0)])
            assert set(judging.verdicts(followed, due=(), now=now)) == {"b"}
        history.add_records("a", [Sample(T + 13, 7200.0)])
        last = "(SELECT MAX(arrival) FROM sample)"
        history._write(partial(history._run, f"UPDATE sample SET delay = 'abc' WHERE arrival = {last}"))
        found = judging.verdicts(followed, due=(), now=T + 13)
        assert {name: one.condition for name, one in found.items()} == {"a": "history-unavailable", "b": "in-range"}
    judging.close()


def test_folds_are_kept_for_whoever_judges_next(tmp_path: Path) -> None:
    where = str(tmp_path / "h.db")
    judging, followed = Judging(where), (published("a"),)
    with contextlib.closing(open_history(where, time.monotonic() + 60)) as history:
        for place in range(61):
            history.add_records("a", [Sample(T + 10.0 * place, 7200.0)])
            judging.verdicts(followed, due=())
        arrival = history.place()[0]
        with sqlite3.connect(where) as connection:
            ((kept,),) = connection.execute("SELECT arrival FROM fold")
        connection.close()
        assert kept == arrival
    judging.close()


def test_a_long_history_is_read_over_several_rounds_and_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records arrive meanwhile, and none is missed."""
    ticks = itertools.count()
    monkeypatch.setattr(judging_module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    monkeypatch.setattr(judging_module, "TIMEOUT_S", 1e12)
    monkeypatch.setattr(judging_module, "CATCH_UP_S", 6.0)
    monkeypatch.setattr("check_delayed_repl.history.folding.PIECE", 50)
    judging, followed = Judging(str(tmp_path / "h.db")), (published("long"), published("also long"), published("short"))
    with contextlib.closing(open_history(str(tmp_path / "h.db"), time.monotonic() + 60)) as history:
        for name, length in (("long", 1000), ("also long", 1000), ("short", 5)):
            history.add_records(name, [Sample(T + 10.0 * place, 7200.0, sql="No") for place in range(length)])
        said: list[set[str]] = []
        while not said or len(said[-1]) < 3:
            now = T + 10.0 * (1000 + len(said))
            history.add_records("long", [JobLine(now, f"job{len(said)}", "backup", now), Sample(now, 7200.0)])
            found = judging.verdicts(followed, now=now)
            said.append(set(found))
            for name, verdict in found.items():
                assert verdict == judged(history, name, LIMITS, now, worker=True)
    assert "short" in said[2]
    assert len(said) > 5
    judging.close()


def test_the_text_and_perfdata_are_the_checks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For every replica of a file with limits of its own, jobs, channels and failed samples."""
    config = tmp_path / "config.toml"
    config.write_text(
        "history = 'h.db'\n[publish]\nprometheus-file = 'x.prom'\n[defaults]\nhost = 'h'\nmax-last-seen = 90\n"
        "max-job-behind = { migration = 600 }\n"
        "[[replica]]\nreplica = 'well'\n[[replica]]\nreplica = 'h'\nchannel = ''\nmin-delay-time = 8000\n"
        "[[replica]]\nreplica = 'h#orders'\ndelay = '1h'\n"
        "[[replica]]\nreplica = 'failed'\n[[replica]]\nreplica = 'never'\n"
    )
    config.chmod(0o600)
    args = parsed(command_parser("worker")[0], ["--config", str(config)])
    every = named(replicas(args), args.fleet.publish)
    now = time.time()
    monkeypatch.setattr("check_delayed_repl.history.sqlite.time.time", lambda: now)
    with open_history(str(tmp_path / "h.db"), time.monotonic() + 60) as history:
        for age in range(900, 1, -10):
            seen = Sample(now - age, 7200.0 + age % 30, local=0.4, io="Yes", sql="Yes", sql_delay=7200, source_id=1)
            history.add_samples([(name, seen) for name in ("well", "h", "h#orders")])
            history.add_samples([("failed", Sample(now - age, error="timeout", message="no answer | in\ntime"))])
        for name, kind in (("h", "backup"), ("h#orders", "migration")):
            history.add_job(name, JobLine(now - 50, f"job of {name}", kind, now - 50))
        history.add_samples([(name, Sample(now - 1, 7201.0, local=0.4)) for name in ("well", "h", "h#orders")])
    judging = Judging(str(tmp_path / "h.db"))
    conditions = set()
    for name, verdict in judging.verdicts(every).items():
        (replica,) = (each for each in every if each.name == name)
        status = plugin.run(["--config", str(config), "--replica", name, "--sampling", "worker"])
        assert (status, capsys.readouterr().out) == (int(verdict.state), Result(replica, verdict).output())
        conditions.add(verdict.condition)
    judging.close()
    assert conditions == {"in-range", "active-backup", "timeout", "worker-missing"}


INTERVAL_S = 1.0
QUICKLY = Limits(max_backup_behind=3.0)


class Monitor:
    name = "monitor"

    def __init__(self) -> None:
        self.taken: list[Result] = []

    def deliver(self, results: list[Result]) -> Delivery:
        self.taken += results
        return Delivery()


class Fleet:
    """A publisher of two replicas, and the history that it follows."""

    def __init__(self, folder: Path, monitor: Monitor) -> None:
        self.where = str(folder / "link")
        self.kept = folder / "h.db"
        self.metrics = folder / "fleet.prom"
        self.said: list[str] = []
        self.monitor = monitor
        self.history = open_history(str(self.kept), time.monotonic() + 60)
        self.lead_to(self.kept)
        settings = Publish(prometheus_file=str(self.metrics), publish_interval=INTERVAL_S)
        replicas = (published("a", limits=QUICKLY), published("b", limits=QUICKLY))
        self.publisher = Publisher(self.where, replicas, settings, self.said.append)

    def sample(self, name: str, delay: float = 7200.0) -> None:
        self.history.deadline = time.monotonic() + 60
        self.history.add_samples([(name, Sample(time.time(), delay))])
        self.publisher.stored()

    def lead_to(self, place: Path) -> None:
        """Have what the publisher reads be this, in one step."""
        Path(self.where + ".new").symlink_to(place)
        Path(self.where + ".new").replace(self.where)

    def newest(self) -> dict[str, str]:
        return {one.replica.name: one.verdict.condition for one in self.monitor.taken}

    def expect(self, **conditions: str) -> None:
        wait_until(lambda: self.newest() == conditions, self.newest)


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(module, "ROUND_S", 0.05)
    monkeypatch.setattr(module, "ASK_S", 0.1)
    monkeypatch.setattr(module, "FILE_S", 0.1)
    monkeypatch.setattr(module, "targets", lambda _: [monitor])
    monitor = Monitor()
    made = Fleet(tmp_path, monitor)
    made.publisher.start()
    for name in "ab":
        made.sample(name)
    made.expect(a="in-range", b="in-range")
    yield made
    made.publisher.finish(10)
    made.history.close()


def test_at_each_change_and_at_least_every_interval(fleet: Fleet) -> None:
    fleet.monitor.taken.clear()
    fleet.sample("a", 60.0)
    wait_until(lambda: fleet.newest().get("a") == "delay-out-of-bounds", fleet.newest)
    began = time.monotonic()
    wait_until(lambda: sum(one.replica.name == "b" for one in fleet.monitor.taken) >= 3)
    assert time.monotonic() - began > 1.5 * INTERVAL_S


def test_the_first_sample_of_a_replica_is_waited_for(fleet: Fleet) -> None:
    slow, quick = Limits(), Limits(max_last_seen=1.0)
    before = fleet.publisher._replicas
    fleet.history.add_samples([("again", Sample(time.time() - 300, 7200.0))])
    later = (published("new", limits=slow), published("again", limits=slow), published("never", limits=quick))
    fleet.publisher.replace((*before, *later))
    fleet.expect(a="in-range", b="in-range", never="worker-missing")
    fleet.sample("new")
    fleet.sample("again")
    fleet.expect(a="in-range", b="in-range", never="worker-missing", new="in-range", again="in-range")
    said = {one.verdict.condition for one in fleet.monitor.taken if one.replica.name in ("new", "again")}
    assert said == {"in-range"}


def test_while_a_first_sample_is_waited_for_an_old_one_is_not_said_to_be_right(fleet: Fleet) -> None:
    seen = time.time() - 2.5
    fleet.history.add_samples([("again", Sample(seen, 7200.0))])
    fleet.publisher.replace((*fleet.publisher._replicas, published("again", limits=Limits(max_last_seen=4.0))))
    fleet.expect(a="in-range", b="in-range", again="in-range")
    wait_until(lambda: time.time() > seen + 4.0 + 2 * module.ROUND_S)
    fleet.monitor.taken.clear()
    fleet.expect(a="in-range", b="in-range", again="worker-missing")
    assert {one.verdict.condition for one in fleet.monitor.taken if one.replica.name == "again"} == {"worker-missing"}


def test_a_job_of_others_and_its_budget_are_seen_without_a_sample(fleet: Fleet) -> None:
    now = time.time()
    fleet.history.add_job("a", JobLine(now, "b1", "backup", now))
    fleet.sample("a")
    fleet.expect(a="active-backup", b="in-range")
    fleet.expect(a="job-overrun", b="in-range")


def test_a_history_that_is_out_of_reach_is_told_of_every_replica(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publisher.stored("history h.db is locked")
    fleet.expect(a="history-unavailable", b="history-unavailable")
    assert "delayed_repl_history_errors_total" in fleet.metrics.read_text()
    # Its age can still be told.
    assert fleet.monitor.taken[-1].verdict.sample is not None
    fleet.publisher.stored()
    fleet.expect(a="in-range", b="in-range")
    fleet.lead_to(tmp_path)
    fleet.expect(a="history-unavailable", b="history-unavailable")
    fleet.lead_to(fleet.kept)
    fleet.expect(a="in-range", b="in-range")


def test_what_was_judged_before_stands_for_nothing_while_a_long_history_is_read(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, folding = [True], judging_module.folding

    def long(*what: object) -> Iterator[None]:
        while reading:
            time.sleep(0.01)
            yield
        return (yield from folding(*what))  # type: ignore[arg-type]

    monkeypatch.setattr(judging_module, "folding", long)
    monkeypatch.setattr(judging_module, "CATCH_UP_S", 0.05)
    monkeypatch.setattr(module, "AGED_S", 0.5)
    fleet.publisher.replace(tuple(published(name, limits=LIMITS) for name in "ab"))
    wait_until(lambda: "delayed_repl_state" not in fleet.metrics.read_text(), fleet.metrics.read_text)
    fleet.monitor.taken.clear()
    time.sleep(2 * INTERVAL_S)
    assert fleet.monitor.taken == []
    reading.clear()
    fleet.expect(a="in-range", b="in-range")


def test_a_fault_of_the_judge_is_no_ok(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("check_delayed_repl.judge.fold.Fold.verdict", lambda *_, **__: 1 / 0)
        fleet.expect(a="internal-error", b="internal-error")
        time.sleep(0.5)
    told = ["publishing: internal error, ZeroDivisionError: division by zero"]
    assert fleet.said == told
    fleet.expect(a="in-range", b="in-range")
    with monkeypatch.context() as broken:
        broken.setattr(fleet.publisher, "_publish", lambda _: {}["one of publishing"])
        wait_until(lambda: len(fleet.said) > 1)
        # No verdict of before may stand.
        wait_until(lambda: "delayed_repl_state" not in fleet.metrics.read_text())
    assert fleet.said == [*told, "publishing: internal error, KeyError: 'one of publishing'"]
    fleet.monitor.taken.clear()
    fleet.expect(a="in-range", b="in-range")


def test_a_lease_from_the_future_is_that_of_a_clock_that_was_stepped(fleet: Fleet) -> None:
    with closing(sqlite3.connect(fleet.where, timeout=60)) as connection, connection:
        connection.execute("UPDATE counter SET publisher = 'gone', publisher_until = ?", (time.time() + 3600,))
    fleet.publisher._renew_at = 0.0
    fleet.monitor.taken.clear()
    fleet.expect(a="in-range", b="in-range")


def test_a_metrics_file_that_cannot_be_written_is_told_and_so_is_its_end(fleet: Fleet) -> None:
    fleet.metrics.unlink()
    fleet.metrics.mkdir()
    wait_until(lambda: fleet.said)
    fleet.metrics.rmdir()
    wait_until(lambda: len(fleet.said) == 2)
    path = f"prometheus-file: {fleet.metrics}"
    assert fleet.said == [f"{path}: Is a directory", f"{path}: is written again"]
    wait_until(lambda: 'publish_errors_total{target="prometheus-file"}' in fleet.metrics.read_text())
    assert [each for each in fleet.metrics.parent.iterdir() if each.name.startswith(".")] == []
