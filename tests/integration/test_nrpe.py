"""The check on the replica's own host, run by the real NRPE daemon with the line of examples/nrpe, and asked for by the
real check_nrpe from another machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .machine import Ran
from .monitoring import HISTORY, LABELS, PLUGIN_FOLDER, TOOL, USER, Site, Station, example, perfdata
from .servers import Pair, wait_until

pytestmark = pytest.mark.monitoring

NEIGHBOURS = "allowed_hosts=127.0.0.1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
SMALL_PACKET = 1024
"""Bytes of a version 2 packet's answer, with the zero byte that ends it."""


@pytest.fixture(scope="module")
def agent(site: Site, line: Pair) -> Iterator[Station]:
    """The replica's host, with its socket and the daemon."""
    with site.watching(line, "db7", beside=line.replica.container) as station:
        station.configure('socket = "/run/mysqld/mysqld.sock"')
        station.put({"/etc/nagios/nrpe.d/check_delayed_repl.cfg": example("nrpe/check_delayed_repl.cfg")})
        main = station.read("/etc/nagios/nrpe.cfg")
        station.put({"/etc/nagios/nrpe.cfg": main.replace("allowed_hosts=127.0.0.1,::1", NEIGHBOURS)})
        station.run(f"install -d -o {USER} -g {USER} /run/nagios")
        station.spawn("nrpe -c /etc/nagios/nrpe.cfg -f", "/tmp/nrpe.log", user=USER)
        yield station


@pytest.fixture(scope="module")
def asking(site: Site, line: Pair, agent: Station) -> Iterator[Station]:
    """The machine that asks."""
    station = site.station(line, "asking")
    wait_until(lambda: station.run(f"{PLUGIN_FOLDER}/check_nrpe -H db7", check=False).status == 0, 20, "NRPE answers")
    yield station
    station.close()


def ask(asking: Station, *options: str, command: str = "check_delayed_repl") -> Ran:
    line = f"{PLUGIN_FOLDER}/check_nrpe -H db7 -t 20:CRITICAL {' '.join(options)} -c {command}"
    return asking.run(line, user=USER, check=False)


def test_the_whole_output_arrives(asking: Station) -> None:
    wait_until(lambda: ask(asking).output.startswith("DELAYED_REPL OK - "), 40, "OK")
    for _ in range(3):
        ran = ask(asking)
    assert ran.status == 0
    first, *rest = ran.output.splitlines()
    text, _, numbers = first.partition(" | ")
    assert text.startswith("DELAYED_REPL OK - Replication delay")
    assert tuple(perfdata(numbers)) == LABELS
    assert rest[0].startswith("[OK in-range] ")
    assert rest[1].startswith("trend: intercept")


def test_a_small_packet_carries_what_matters(asking: Station, line: Pair) -> None:
    """Version 2 packets hold 1,023 bytes: state, finding, and whole pairs of perfdata."""
    line.replica.stop_sql()
    try:
        wait_until(lambda: "CRITICAL" in ask(asking, "-2").output, 20, "CRITICAL")
        ran = ask(asking, "-2")
    finally:
        line.replica.start_sql()
    assert ran.status == 2
    assert len(ran.output.encode()) <= SMALL_PACKET
    first = ran.output.splitlines()[0]
    text, _, numbers = first.partition(" | ")
    assert text.startswith("DELAYED_REPL CRITICAL - SQL thread is stopped")
    assert tuple(perfdata(numbers)) == LABELS


def test_the_workers_samples(agent: Station, asking: Station) -> None:
    agent.run(
        f"{TOOL} worker --defaults-file /etc/check_delayed_repl/worker.cnf --socket /run/mysqld/mysqld.sock"
        f" --replica db7 --history {HISTORY} --interval 0.5 --count 4",
        user=USER,
    )
    ran = ask(asking, command="check_delayed_repl_by_worker")
    assert ran.status in (0, 1), ran.output  # the line may be on its way back from the test before
    assert "worker_age=U" not in ran.output


def test_no_argument_comes_over_the_network(asking: Station) -> None:
    ran = ask(asking, command="check_delayed_repl -a --help")
    assert ran.status == 3
    assert "NRPE: Unable to read output" not in ran.output
    assert "usage" not in ran.output
