"""The delay's setting is lost, the SQL thread stops or is stuck, and how the line comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .breaking import THROUGH_S, delay_above, replicated
from .checking import Scene, assert_only, between, changes
from .matrix import Watched, Watching, essential, on
from .servers import Family, Kit, Pair, Server, meanwhile

SLOW_ON_THE_REPLICA = "SLEEP(IF(@@GLOBAL.server_id = 2, {}, 0))"
"""An expression that takes so many seconds where a statement is applied, and none on the source."""
ANNOUNCED = ("OK", "WARNING")
"""What a check may say while a job is recorded."""


@contextmanager
def job(scene: Scene, kind: str = "backup") -> Iterator[None]:
    """A job that is recorded from before the block until after it, and seen as such."""
    number = scene.start(kind)
    scene.expect("WARNING", f"active-{kind}", 20)
    yield
    scene.finish(number)


def test_delay_setting(watched: Watched) -> None:
    replica = watched.replica
    with watched.fault("5.2", "Delay: set to 0", "delay-setting-lost", within=4) as it:
        replica.set_delay(0)
        it.detected()
        replica.set_delay(watched.pair.delay)
    with watched.fault("5.1", "Delay: lost by resetting the replica", "delay-setting-lost", within=4) as it:
        replica.stop_all()
        replica.sql("RESET REPLICA" if replica._modern else "RESET SLAVE")
        replica.start_all()
        assert "it was 10 before" in it.detected().message
        assert watched.inline().condition == "delay-setting-lost"
        replica.set_delay(watched.pair.delay)
    with watched.twin("5.2", "set to another delay in range, as a job", state=ANNOUNCED, watch=5), job(watched):
        replica.set_delay(9)
    with watched.twin("5.1", "stopped and started, as a job", state=ANNOUNCED, watch=3), job(watched):
        replica.stop_all()
        replica.start_all()


@essential
def test_drained_between_two_samples(watched: Watched) -> None:
    """What waited is applied at once, and the delay is back at the next sample: a backup does not account for it."""
    replica = watched.replica
    with watched.twin("5.9", "for so long to a little less, and back", state=ANNOUNCED, watch=5), job(watched):
        replica.set_delay(9)
        time.sleep(2)
        replica.set_delay(watched.pair.delay)
    watched.expect("OK", "in-range", 30)
    title = "Delay: to 0 for two seconds and back, while a backup runs"
    with watched.fault("5.9", title, "line-drained", within=20) as it, job(watched):
        it.caused()
        replica.set_delay(0)
        time.sleep(2)
        replica.set_delay(watched.pair.delay)
        assert "running" in it.detected().text, "the backup"
        it.mending()


def test_sql_thread_is_stopped(watched: Watched) -> None:
    """By hand; and for so long that it has to catch up, which it does at once."""
    replica = watched.replica
    with watched.fault("5.3", "SQL thread: stopped by hand", "sql-stopped", within=4) as it:
        replica.stop_sql()
        it.detected()
        assert watched.inline().condition == "sql-stopped"
        replica.start_sql()
    title = "SQL thread: stopped for long, then a cliff"
    with watched.fault("5.7", title, ("sql-stopped", "delay-out-of-bounds"), within=4, back=20) as it:
        replica.stop_sql()
        it.detected()
        delay_above(watched, 34)
        assert "delay-out-of-bounds" in watched.judged().conditions
        it.mending()
        replica.start_sql()
    falling = changes(between(watched.replay(), it.mending_t or 0))
    first = next(number for number, (state, _) in enumerate(falling) if state != "CRITICAL")
    assert all(state != "CRITICAL" for state, _ in falling[first:]), falling
    with (
        watched.twin("5.3", "the same, as a job", state=ANNOUNCED),
        watched.twin("5.7", "the same, as a job", state=ANNOUNCED, watch=0),
        job(watched),
    ):
        replica.stop_sql()
        delay_above(watched, 20)
        replica.start_sql()


def test_stuck_behind_a_long_alter(watched: Watched) -> None:
    """Both threads run, and the next change waits for a lock on its table."""
    source, replica = watched.source, watched.replica
    source.sql("CREATE DATABASE IF NOT EXISTS stuck")
    source.sql("DROP TABLE IF EXISTS stuck.entry", "CREATE TABLE stuck.entry (id INT PRIMARY KEY)")
    replicated(replica, "SHOW TABLES FROM stuck LIKE 'entry'")
    with watched.twin("5.5", "an ALTER that waits for nobody", watch=THROUGH_S):
        source.sql("ALTER TABLE stuck.entry ADD COLUMN first INT")
    title = "SQL thread: stuck in a long ALTER TABLE"
    with watched.fault("5.5", title, "delay-out-of-bounds", within=21) as it, replica.session() as reader:
        reader("BEGIN")
        reader("SELECT * FROM stuck.entry")
        source.sql("ALTER TABLE stuck.entry ADD COLUMN second INT")
        assert "--max-delay-time" in it.detected().message
        assert watched.inline().condition == "delay-out-of-bounds"
        reader("ROLLBACK")


@pytest.fixture
def by_database(kit: Kit, fault_family: Family, watch: Watching) -> Iterator[Watched]:
    """As `watched`, with an applier for each database."""
    pair = Pair(kit, fault_family, parallel=2)
    try:
        with watch(pair.heal()) as ready:
            yield ready
    finally:
        pair.close()


@on("mysql56")
def test_stuck_in_one_database(by_database: Watched) -> None:
    """The heartbeats, in another database, pass it by, and the server goes on waiting for the delay of each."""
    source, replica = by_database.source, by_database.replica
    source.sql("CREATE DATABASE IF NOT EXISTS stuck", "DROP TABLE IF EXISTS stuck.entry")
    source.sql("CREATE TABLE stuck.entry (id INT PRIMARY KEY)", "INSERT INTO stuck.entry VALUES (1)")
    replicated(replica, "SELECT 1 FROM stuck.entry")
    options = ("--max-relay-behind", "15")
    with (
        by_database.twin("5.10", "a change to another row", options=options, watch=THROUGH_S),
        replica.session() as run,
    ):
        run("BEGIN")
        run("SELECT * FROM stuck.entry WHERE id = 1 FOR UPDATE")
        source.sql("INSERT INTO stuck.entry VALUES (2)")
    title = "SQL thread: stuck in one of several databases"
    with (
        by_database.fault("5.10", title, "relay-log-stale", within=40, options=options) as it,
        replica.session() as run,
    ):
        run("BEGIN")
        run("SELECT * FROM stuck.entry WHERE id = 1 FOR UPDATE")
        source.sql("DELETE FROM stuck.entry WHERE id = 1")
        assert (by_database.pair.seen_delay() or 0) < 14
        it.detected()
        run("ROLLBACK")


def test_stuck_behind_a_read_lock(watched: Watched) -> None:
    replica = watched.replica
    with watched.twin("5.4", "the lock is held for two seconds", watch=5), replica.session() as session:
        session("FLUSH TABLES WITH READ LOCK")
        time.sleep(2)
        session("UNLOCK TABLES")
    title = "SQL thread: stuck behind a read lock"
    with watched.fault("5.4", title, "local-heartbeat-stale", within=9) as it, replica.session() as session:
        session("FLUSH TABLES WITH READ LOCK")
        it.detected()
        delay_above(watched, 17)
        it.wait_for(lambda outcome: "delay-out-of-bounds" in outcome.conditions, 15, "the line is out as well")
        assert watched.inline().condition == "local-heartbeat-stale"
        session("UNLOCK TABLES")


def test_stuck_in_a_huge_transaction(watched: Watched) -> None:
    """Which the replica takes twenty seconds for."""
    source, replica = watched.source, watched.replica
    source.sql(
        "CREATE DATABASE IF NOT EXISTS huge",
        "DROP TABLE IF EXISTS huge.entry",
        "CREATE TABLE huge.entry (id INT PRIMARY KEY AUTO_INCREMENT, value INT NOT NULL)",
        "INSERT INTO huge.entry (value) VALUES " + ", ".join(["(0)"] * 200),
    )
    replicated(replica, "SELECT 1 FROM huge.entry")
    with watched.twin("5.6", "a transaction of two seconds", watch=THROUGH_S + 2):
        update_slowly(source, 2)
    with watched.fault("5.6", "SQL thread: one huge transaction", "delay-out-of-bounds", within=21) as it:
        update_slowly(source, 20)
        it.detected()
        it.mending()


def update_slowly(source: Server, seconds: float) -> None:
    """Update two hundred rows in one transaction that takes the replica so long."""
    nap = SLOW_ON_THE_REPLICA.format(seconds / 200)
    source.sql("SET SESSION binlog_format = 'STATEMENT'", f"UPDATE huge.entry SET value = value + 1 + {nap}")


def test_catches_up_slowly_under_write_load(watched: Watched) -> None:
    """The delay falls by some tenths of a second each second: out of bounds, and on its way back."""
    replica = watched.replica
    options = ("--max-trend-time", "120")
    with heavy_load(watched.source):
        with watched.twin("5.8", "the same load", watch=THROUGH_S + 5):
            pass
        title = "SQL thread: catches up slowly under write load"
        condition = "recovering-above-maximum"
        with watched.fault("5.8", title, condition, state="WARNING", within=12, options=options, back=90) as it:
            replica.stop_sql()
            delay_above(watched, 36)
            replica.start_sql()
            it.detected()
            # On a busy machine the line may be back by then.
            assert watched.inline(*options).what in (("WARNING", condition), ("OK", "in-range"))
    moments = watched.replay(*options)
    first = next(moment.t for moment in moments if moment.t > it.cause_t and moment.condition == condition)
    assert_only(between(moments, first), "OK", "WARNING")


@contextmanager
def heavy_load(source: Server) -> Iterator[None]:
    """Meanwhile, writes that keep the replica busy for half of the time."""
    source.sql(
        "CREATE DATABASE IF NOT EXISTS heavy",
        "CREATE TABLE IF NOT EXISTS heavy.entry (id INT PRIMARY KEY AUTO_INCREMENT, value INT NOT NULL)",
    )
    insert = f"INSERT INTO heavy.entry (value) VALUES ({SLOW_ON_THE_REPLICA.format(0.25)})"
    with meanwhile(lambda: source.sql("SET SESSION binlog_format = 'STATEMENT'", insert), 0.5):
        yield
