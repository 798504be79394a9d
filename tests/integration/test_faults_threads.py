"""The replica's threads fail: what the SQL thread cannot apply, and what keeps the IO thread from its source."""

from __future__ import annotations

import time

from .breaking import (
    THROUGH_S,
    by_relay,
    crowded,
    delay_above,
    disconnected,
    heartbeats_move,
    reconnecting_after,
    replicated,
    set_password,
    start_over,
)
from .matrix import Watched, essential
from .servers import HEARTBEAT_TABLE, REPLICATION, literal


def test_missing_table(watched: Watched) -> None:
    source, replica = watched.source, watched.replica
    source.sql("CREATE DATABASE IF NOT EXISTS clash", "CREATE TABLE IF NOT EXISTS clash.gone (id INT PRIMARY KEY)")
    replicated(replica, "SHOW TABLES FROM clash LIKE 'gone'")
    with watched.fault("1.2", "SQL thread: missing table", "sql-error", within=THROUGH_S + 2) as it:
        replica.unlogged("DROP TABLE clash.gone")
        source.sql(f"INSERT INTO clash.gone VALUES ({int(time.time())})")
        assert it.detected().message.startswith("SQL thread reports error 1146: ")
        assert watched.inline().condition == "sql-error"
        replica.unlogged("CREATE TABLE clash.gone (id INT PRIMARY KEY)")
        replica.start_sql()
    with watched.twin("1.2", "the table is dropped on both", watch=THROUGH_S):
        source.sql("DROP TABLE clash.gone")


def test_duplicate_key(watched: Watched) -> None:
    source, replica = watched.source, watched.replica
    source.sql("CREATE DATABASE IF NOT EXISTS clash", "CREATE TABLE IF NOT EXISTS clash.entry (id INT PRIMARY KEY)")
    replicated(replica, "SHOW TABLES FROM clash LIKE 'entry'")
    number = int(time.time())
    with watched.twin("1.1", "rows with other keys are there", watch=THROUGH_S):
        replica.unlogged(f"INSERT INTO clash.entry VALUES ({number})")
        source.sql(f"INSERT INTO clash.entry VALUES ({number + 1})")
    with watched.fault("1.1", "SQL thread: duplicate key", "sql-error", within=THROUGH_S + 2) as it:
        source.sql(f"INSERT INTO clash.entry VALUES ({number})")
        assert it.detected().message.startswith("SQL thread reports error 1062: ")
        job = watched.start()
        assert watched.inline().condition == "sql-error", "no job accounts for it"
        watched.finish(job)
        replica.unlogged(f"DELETE FROM clash.entry WHERE id = {number}")
        replica.start_sql()


def test_memory_table_after_a_restart(watched: Watched) -> None:
    """A MEMORY table is empty after a restart, so that there is no row to update."""
    replica = watched.replica
    with watched.twin("1.3", "a MEMORY table, and no restart", watch=5):
        replica.unlogged(f"ALTER TABLE {HEARTBEAT_TABLE} ENGINE = MEMORY")
    rows = ", ".join(
        f"({row[0]}, {literal(str(row[1]))})" for row in replica.sql(f"SELECT server_id, ts FROM {HEARTBEAT_TABLE}")
    )
    with watched.fault("1.3", "SQL thread: MEMORY heartbeat table after a restart", "sql-error", within=5) as it:
        replica.restart()
        assert it.detected().message.startswith("SQL thread reports error 1032: ")
        replica.unlogged(
            f"ALTER TABLE {HEARTBEAT_TABLE} ENGINE = InnoDB",
            f"INSERT IGNORE INTO {HEARTBEAT_TABLE} (server_id, ts) VALUES {rows}",
        )
        replica.start_sql()


@essential
def test_source_lets_nobody_in(watched: Watched) -> None:
    """The IO thread loses its connection, and gets no new one."""
    source, (user, password) = watched.source, REPLICATION
    with (
        watched.twin("2.1", "the connection is lost"),
        watched.twin("2.5", "hardly a connection is left", watch=0),
        crowded(source) as crowd,
    ):
        crowd.make_room(2)
        crowd.end_sessions(user)
        time.sleep(3)
    with watched.fault("2.1", "IO thread: wrong password", "io-error", within=6) as it:
        set_password(source, REPLICATION, "changed-7h")
        source.end_sessions(user)
        assert it.detected().message.startswith("IO thread reports error 1045: ")
        assert watched.inline().condition == "io-error"
        set_password(source, REPLICATION, password)
    title = "IO thread: the source refuses connections"
    with watched.fault("2.5", title, "io-error", within=6) as it, crowded(source) as crowd:
        crowd.shut_out(user)
        assert it.detected().message.startswith("IO thread reports error 1040: ")


def test_the_network_is_cut(watched: Watched) -> None:
    source = watched.source
    with reconnecting_after(watched.replica, 4):
        watched.expect("OK", "in-range", 30)
        with watched.twin("2.3", "the network is cut for a second", watch=THROUGH_S), disconnected(source):
            time.sleep(1)
        conditions = ("io-error", "io-stopped")
        title = "IO thread: the network is cut"
        with watched.fault("2.3", title, conditions, within=12, back=60, through=THROUGH_S) as it:
            with disconnected(source):
                it.detected()
            heartbeats_move(watched.pair)


def test_the_network_is_slow(watched: Watched) -> None:
    with by_relay(watched.pair) as relay:
        watched.expect("OK", "in-range", 40)
        with watched.twin("2.4", "the network delays by less than the replica does", watch=8):
            relay.latency = 1
        relay.latency = 0
        title = "IO thread: the network is too slow for the changes"
        with watched.fault("2.4", title, "delay-out-of-bounds", within=26) as it:
            relay.rate = 40
            it.detected()
            delay_above(watched, 18)
            assert watched.inline().state == "CRITICAL"
            relay.rate = None


@essential
def test_logs_are_purged(watched: Watched) -> None:
    """Binary logs go that the replica has yet to fetch."""
    source, replica = watched.source, watched.replica

    def purge() -> None:
        source.sql("FLUSH BINARY LOGS")
        newest = source.rows("SHOW BINARY LOGS")[-1]["Log_name"]
        source.sql(f"PURGE BINARY LOGS TO {literal(str(newest))}")

    with watched.twin("2.2", "logs are purged that the replica has fetched"):
        source.sql("FLUSH BINARY LOGS")
        time.sleep(2)
        purge()
    with watched.fault("2.2", "IO thread: the source's logs are purged", "io-error", within=5, through=THROUGH_S) as it:
        replica.stop_io()
        heartbeats_move(watched.pair)
        source.sql("FLUSH BINARY LOGS")
        heartbeats_move(watched.pair)  # which ends the thread that still reads for the replica
        purge()
        replica.start_io()
        assert "1236" in it.detected().message
        start_over(watched.pair)
