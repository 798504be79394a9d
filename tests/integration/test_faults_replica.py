"""The replica is killed, hangs, restarts, has no connection left, no room for its relay log, or is read-only."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .breaking import crowded, disk_filled, kill_everybody
from .checking import WORKER
from .matrix import Watched, Watching, essential, on
from .servers import Family, Heartbeat, Kit, Pair, Server

GONE = ("server-down", "connect-failed")
"""The engine may still hold the port of a server that is about to start or end."""


def test_replica_is_killed(watched: Watched) -> None:
    replica = watched.replica
    with watched.twin("4.1", "everybody is disconnected"):
        kill_everybody(replica)
    with watched.fault("4.1", "Replica: killed", GONE, within=4, back=60) as it:
        replica.kill()
        it.detected()
        assert watched.inline().condition in GONE
        replica.start()


def test_replica_restarts(watched: Watched) -> None:
    replica = watched.replica
    with watched.twin("4.3", "its tables and logs are opened anew"):
        replica.sql("FLUSH TABLES", "FLUSH LOGS")
    with watched.fault("4.3", "Replica: restarting", GONE, within=15, back=60) as it:
        replica.stop()
        it.detected()
        it.mending()
        replica.start()


def test_replica_hangs(watched: Watched) -> None:
    replica = watched.replica
    with watched.twin("4.2", "it hangs for less than a sample may take"):
        for _ in range(3):
            replica.pause()
            time.sleep(0.2)
            replica.unpause()
            time.sleep(1)
    with watched.fault("4.2", "Replica: hung", "timeout", within=6) as it:
        replica.pause()
        try:
            it.detected()
            assert watched.inline("--timeout", "3").what == ("CRITICAL", "timeout")
        finally:
            replica.unpause()


@essential
def test_out_of_connections(watched: Watched) -> None:
    replica = watched.replica
    with watched.twin("4.4", "hardly a connection is left"), crowded(replica) as crowd:
        crowd.make_room(3)
        crowd.end_sessions(WORKER[0])
        assert watched.inline().what == ("OK", "in-range")
        time.sleep(2)
    title = "Replica: out of connections"
    with watched.fault("4.4", title, "connect-failed", within=6) as it, crowded(replica) as crowd:
        # Who samples by a connection of its own is let in no more; the worker, once it has lost its own.
        assert watched.inline().condition == "connect-failed"
        crowd.shut_out(WORKER[0])
        outcome = it.detected()
        assert "1040" in outcome.message or "oo many connections" in outcome.message


@essential
@on("mysql", "mariadb", "mariadb118")
def test_read_only(watched: Watched) -> None:
    read_only_is_told_by_the_local_heartbeat(watched, "4.6", "read_only")


@essential
@on("mysql")
def test_super_read_only(watched: Watched) -> None:
    read_only_is_told_by_the_local_heartbeat(watched, "4.7", "super_read_only")


def read_only_is_told_by_the_local_heartbeat(watched: Watched, number: str, setting: str) -> None:
    """The check itself needs no right to write; it misses the local heartbeat, unless told that there is none."""
    title = f"Replica: {setting}, and its local heartbeat cannot be written"
    with watched.fault(number, title, "local-heartbeat-stale", within=9) as it:
        with watched.twin(number, "the same with --no-local-heartbeat", options=("--no-local-heartbeat",), watch=1):
            watched.replica.sql(f"SET GLOBAL {setting} = ON")
            it.detected()
            assert watched.inline(name="aside").condition == "local-heartbeat-stale"
            assert watched.inline("--no-local-heartbeat", name="aside").what == ("OK", "in-range")
        watched.replica.sql("SET GLOBAL read_only = OFF")


@on("mysql56")
def test_read_only_for_all_but_the_heartbeat(watched: Watched) -> None:
    """Where the heartbeat's account must have SUPER, read_only does not concern it."""
    with watched.twin("4.6", "read_only, but not for accounts with SUPER", watch=6):
        watched.replica.sql("SET GLOBAL read_only = ON")
    watched.replica.sql("SET GLOBAL read_only = OFF")


RELAY_LOGS = "/relay-logs"


@pytest.fixture
def cramped(kit: Kit, fault_family: Family, watch: Watching) -> Iterator[Watched]:
    """As `watched`, with the relay logs on a disk of four megabytes."""
    pair = Pair(kit, fault_family)
    pair.replica = Server(
        *(kit, fault_family, "replica", 2, pair.network, f"--relay-log={RELAY_LOGS}/relay"),
        tmpfs={RELAY_LOGS: "size=4m,mode=1777"},
    )
    pair.local_heartbeat = Heartbeat(pair.replica, local=True)
    try:
        with watch(pair.heal()) as ready:
            yield ready
    finally:
        pair.close()


def test_relay_log_disk_is_full(cramped: Watched) -> None:
    """The server waits for space, a minute at a time; some answer nobody meanwhile who asks for the status."""
    replica = cramped.replica
    with cramped.twin("4.5", "a disk that is nearly full"), disk_filled(replica, RELAY_LOGS, spare_kib=400):
        time.sleep(4)
    conditions = ("timeout", "io-error", "io-stopped", "source-heartbeat-dead", "delay-out-of-bounds")
    title = "Replica: the disk with its relay log is full"
    with cramped.fault("4.5", title, conditions, within=20, back=110) as it, disk_filled(replica, RELAY_LOGS):
        it.detected()
        assert cramped.inline("--timeout", "3").state == "CRITICAL"
