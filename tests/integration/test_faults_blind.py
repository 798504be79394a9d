"""What no heartbeat tells: a name that means another server, changes left out or left behind, a name shared by two.

Group 13 of the faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from check_delayed_repl.records import Sample

from .checking import WORKER, worker
from .matrix import Watched, Watching, essential, on
from .servers import DELAY_S, Family, Kit, Server, meanwhile, wait_until

SLACK_S = 5.0
FILTERED = "Replicate_Do_DB=percona"
MOVED_S = 60.0
"""Within which a worker must have resolved its replica's name again, and have gone to where it means now."""
NAME = "moving.example"
LIMIT = ("--relay-log-space-limit=400000", "--max-relay-log-size=65536")


def set_filter(replica: Server, database: str) -> None:
    """Apply changes of this database alone; of all where it is empty."""
    replica.stop_all()
    if replica.kind == "mariadb":
        replica.sql(f"SET GLOBAL replicate_do_db = '{database}'")
    else:
        replica.sql(f"CHANGE REPLICATION FILTER REPLICATE_DO_DB = ({database})")
    replica.start_all()


@essential
@on("mysql", "mariadb", "mariadb118")
def test_a_replication_filter(watched: Watched) -> None:
    """Heartbeats arrive, data does not."""
    with watched.fault("13.1", "Blind: a replication filter", "replication-filtered", within=SLACK_S) as it:
        set_filter(watched.replica, "percona")
        assert FILTERED in it.detected().text
        with watched.twin("13.1", "it is allowed by name", options=("--allow-filter", FILTERED)):
            wait_until(lambda: watched.judged("--allow-filter", FILTERED).state == "OK", 30, "OK")
        it.mending()
        set_filter(watched.replica, "")


@pytest.fixture
def limited(kit: Kit, fault_family: Family, watch: Watching) -> Iterator[Watched]:
    """As `watched`, with room for a few seconds of relay log."""
    pair = kit.pair(fault_family, replica_options=LIMIT)
    with watch(pair) as ready:
        yield ready
    pair.close()


@essential("mysql")
def test_the_relay_log_is_at_its_limit(limited: Watched) -> None:
    """The delay is right, and the newest changes are on the source alone."""
    source = limited.source
    source.sql("CREATE DATABASE full", "CREATE TABLE full.t (i INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB)")

    def writing(rows: int) -> object:
        return source.sql(*["INSERT INTO full.t (b) VALUES (REPEAT('x', 20000))"] * rows)

    with (
        limited.twin("13.2", "less is written than fits", watch=DELAY_S + 3),
        meanwhile(lambda: writing(1), 1.0),
    ):
        wait_until(lambda: source.value("SELECT COUNT(*) FROM full.t") > DELAY_S, 60, "so much is written")
    title = "Blind: the relay log at its limit"
    with limited.fault("13.2", title, "relay-space-limited", within=40, state="WARNING", back=60) as it:
        with meanwhile(lambda: writing(4), 0.5):
            assert "Relay log is at its size limit" in it.detected().text
        it.mending()


class Hosts:
    """What names mean to one process and its children: a file that stands where /etc/hosts is."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.prefix = ("unshare", "-m", "sh", "-c", f'mount --bind {file} /etc/hosts && exec "$@"', "sh")
        self.means(None)

    def means(self, address: str | None) -> None:
        """NAME means this from now on; nothing where that is None."""
        line = f"{address} {NAME}\n" if address else ""
        self._file.write_text(f"127.0.0.1 localhost\n{line}")


def address_of(server: Server) -> str:
    server.container.reload()
    (network,) = server.container.attrs["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


@essential("mariadb")
def test_a_name_that_moves(watched: Watched) -> None:
    """The old server goes on, and so would a connection to it."""
    hosts = Hosts(watched.folder / "hosts")
    hosts.means(address_of(watched.replica))
    arguments = ("--history", watched.history, "--interval", "1", "--defaults-file", str(watched.option_file(WORKER)))
    where = ("-H", NAME, "-P", "3306", "--replica", "by-name")
    with worker(*arguments, *where, log=watched.folder / "by-name.log", prefix=hosts.prefix):
        watched.expect("OK", "in-range", 60, name="by-name")
        with watched.twin("13.3", "nobody answers for the name", name="by-name", watch=MOVED_S):
            hosts.means(None)
        hosts.means(address_of(watched.replica))
        conditions = ("not-a-replica", "connect-failed")
        title = "Blind: the replica's name means its source"
        with watched.fault("13.3", title, conditions, within=MOVED_S, back=MOVED_S + 30, name="by-name") as it:
            hosts.means(address_of(watched.source))
            it.detected()
            it.mending()
            hosts.means(address_of(watched.replica))


def lose(watched: Watched) -> None:
    """A sample finds the IO thread connecting, without an error: a source that hangs accepts, and says nothing."""

    def seen() -> str | None:
        records = watched.recording()
        return records[-1].io if records and isinstance(records[-1], Sample) else None

    watched.source.pause()
    try:
        watched.replica.stop_io()
        watched.replica.start_io()
        wait_until(lambda: seen() == "Connecting", 20, "a sample finds it connecting")
    finally:
        watched.source.unpause()
    wait_until(lambda: seen() == "Yes", 60, "a sample finds it running")


@essential("mysql")
@on("mysql", "mariadb", "mariadb118")
def test_an_io_thread_that_is_lost_again_and_again(watched: Watched) -> None:
    """As on a bad network, or with two replicas that have one server id."""
    window = ("--window", "60")
    # CRITICAL where a sample finds it just stopped.
    with watched.twin("13.5", "it is lost twice", state=("OK", "CRITICAL"), options=window):
        lose(watched)
        lose(watched)
    title = "Blind: the IO thread loses its connection again and again"
    with watched.fault("13.5", title, "io-unstable", within=30, state="WARNING", back=90, options=window) as it:
        lose(watched)
        it.detected()
        it.mending()
