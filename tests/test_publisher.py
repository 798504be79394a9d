"""When verdicts are handed over, whatever becomes of the history, the clock or the judge."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import wait_until
from test_publish import published

from check_delayed_repl.configfile import Publish
from check_delayed_repl.history import open_history
from check_delayed_repl.limits import Limits
from check_delayed_repl.publish import publisher as module
from check_delayed_repl.publish.mailbox import Delivery
from check_delayed_repl.publish.publisher import Publisher
from check_delayed_repl.publish.result import Result
from check_delayed_repl.records import JobLine, Sample

INTERVAL_S = 1.0
LIMITS = Limits(max_backup_behind=3.0)


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
        self.where = str(folder / "h.db")
        self.metrics = folder / "fleet.prom"
        self.said: list[str] = []
        self.monitor = monitor
        self.history = open_history(self.where, time.monotonic() + 60)
        settings = Publish(prometheus_file=str(self.metrics), publish_interval=INTERVAL_S)
        replicas = (published("a", limits=LIMITS), published("b", limits=LIMITS))
        self.publisher = Publisher(self.where, replicas, settings, self.said.append)

    def sample(self, name: str, delay: float = 7200.0) -> None:
        self.history.deadline = time.monotonic() + 60
        self.history.add_samples([(name, Sample(time.time(), delay))])
        self.publisher.stored()

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
    moments = [one.verdict.at for one in fleet.monitor.taken if one.replica.name == "b"]
    assert all(later - earlier > 0.5 * INTERVAL_S for earlier, later in pairwise(moments))


def test_a_job_of_others_and_its_budget_are_seen_without_a_sample(fleet: Fleet) -> None:
    now = time.time()
    fleet.history.add_job("a", JobLine(now, "b1", "backup", now))
    fleet.sample("a")
    fleet.expect(a="active-backup", b="in-range")
    fleet.expect(a="job-overrun", b="in-range")


def test_a_history_that_is_out_of_reach_is_told_of_every_replica(fleet: Fleet) -> None:
    fleet.publisher.stored("history h.db is locked")
    fleet.expect(a="history-unavailable", b="history-unavailable")
    assert "delayed_repl_history_errors_total" in fleet.metrics.read_text()
    # Its age can still be told.
    assert fleet.monitor.taken[-1].verdict.sample is not None
    fleet.publisher.stored()
    fleet.expect(a="in-range", b="in-range")
    Path(fleet.where).rename(fleet.where + ".away")
    Path(fleet.where).mkdir()
    fleet.expect(a="history-unavailable", b="history-unavailable")
    Path(fleet.where).rmdir()
    Path(fleet.where + ".away").rename(fleet.where)
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
