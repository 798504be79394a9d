"""What breaks on a real replica without anybody meaning it to: threads, heartbeats, the source, the delay's setting."""

from __future__ import annotations

import time

from .checking import (
    Scene,
    assert_only,
    assert_only_conditions,
    between,
    changes,
    held_line,
    now,
    story,
)
from .servers import HEARTBEAT_TABLE, REPLICATION, wait_until

BELOW = ("WARNING", "recovering-below-minimum")
EXCEEDED = ("CRITICAL", "recovery-exceeded")


def test_threads_that_stop_and_threads_that_fail(scene: Scene) -> None:
    """Each with its condition, and back to OK after each."""
    source, replica = scene.pair.source, scene.pair.replica
    source.sql("CREATE DATABASE IF NOT EXISTS clash", "CREATE TABLE IF NOT EXISTS clash.entry (id INT PRIMARY KEY)")
    with scene.worker():
        scene.expect("OK", "in-range", 20)

        replica.stop_io()
        scene.expect("CRITICAL", "io-stopped", 10)
        assert scene.inline().what == ("CRITICAL", "io-stopped")
        replica.start_io()
        scene.expect("OK", "in-range", 20)

        replica.stop_sql()
        scene.expect("CRITICAL", "sql-stopped", 10)
        # Where something beside the server delays, it is what stops this thread all the time.
        assert scene.judged("--delay-mode", "external").what == ("OK", "in-range")
        replica.start_sql()
        scene.expect("OK", "in-range", 20)

        replica.change_source(PASSWORD="wrong-7h")
        outcome = scene.expect("CRITICAL", "io-error", 20)
        assert outcome.message.startswith("IO thread reports error 1045: ")
        assert "wrong-7h" not in outcome.text
        replica.change_source(PASSWORD=REPLICATION[1])
        scene.expect("OK", "in-range", 30)

        # A row that is there already, written to the replica by mistake.
        wait_until(lambda: replica.sql("SHOW TABLES FROM clash"), 30, "the table is replicated")
        number = int(now())
        replica.unlogged(f"INSERT INTO clash.entry VALUES ({number})")
        source.sql(f"INSERT INTO clash.entry VALUES ({number})")
        outcome = scene.expect("CRITICAL", "sql-error", 25)
        assert outcome.message.startswith("SQL thread reports error 1062: ")
        # No job accounts for an error.
        job = scene.start()
        outcome = scene.inline()
        assert outcome.what == ("CRITICAL", "sql-error")
        assert "active-backup" in outcome.conditions
        scene.finish(job)
        replica.unlogged(f"DELETE FROM clash.entry WHERE id = {number}")
        replica.start_sql()
        scene.expect("OK", "in-range", 30)


def test_both_heartbeats_stop_in_turn(scene: Scene) -> None:
    pair = scene.pair
    with scene.worker():
        scene.expect("OK", "in-range", 20)

        # The source's is missed only once the delay line has drained, so that there is time for the other meanwhile.
        pair.heartbeat.stop()
        stopped = now()
        pair.local_heartbeat.stop()
        outcome = scene.expect("CRITICAL", "local-heartbeat-stale", 15)
        assert "--max-seconds-behind" in outcome.message
        assert scene.judged("--no-local-heartbeat").what == ("OK", "in-range")
        pair.local_heartbeat.start()
        restarted = now()
        outcome = scene.expect("CRITICAL", "source-heartbeat-dead", 30)
        assert "is pt-heartbeat running on the source?" in outcome.message
        dead = now()

        # Now with changes that go on passing by.
        with pair.write_load():

            def passed_by() -> bool:
                outcome = scene.judged()
                return outcome.condition == "source-heartbeat-dead" and "later changes were applied" in outcome.message

            wait_until(passed_by, 30, "the dead heartbeat is told by what was applied after it")
            job = scene.start()
            assert scene.judged().what == ("CRITICAL", "source-heartbeat-dead"), "no job accounts for it"
            scene.finish(job)
        pair.heartbeat.start()
        scene.expect("OK", "in-range", 40)
    moments = scene.replay()
    assert {moment.condition for moment in between(moments, stopped, restarted)} == {
        "in-range",
        "local-heartbeat-stale",
    }
    assert_only(between(moments, dead, dead + 10), "CRITICAL")


def test_a_slow_transaction_is_no_dead_heartbeat(scene: Scene) -> None:
    """Both threads run and the heartbeat stands still, but so does the applied position."""
    with scene.worker():
        scene.expect("OK", "in-range", 20)
        with held_line(scene.pair.replica):
            scene.expect("CRITICAL", "delay-out-of-bounds", 25)
            wait_until(lambda: (scene.pair.seen_delay() or 0) > 20, 20, "the delay has grown")
            released = now()
        scene.expect("OK", "in-range", 20)
    moments = scene.replay()
    assert not any("source-heartbeat-dead" in finding for moment in moments for finding in moment.findings)
    assert between(moments, released - 2, released)[-1].condition == "delay-out-of-bounds"


def test_heartbeats_that_are_missing_or_nonsense(scene: Scene) -> None:
    """Rows, the table, and times, taken away and put back; a job that is active accounts for none of it."""
    pair, replica = scene.pair, scene.pair.replica
    assert scene.inline().what == ("OK", "in-range")
    job = scene.start()
    pair.local_heartbeat.stop()
    replica.stop_sql()
    replica.unlogged(f"CREATE TABLE percona.kept AS SELECT * FROM {HEARTBEAT_TABLE}")

    def put_back() -> None:
        replica.unlogged(f"REPLACE INTO {HEARTBEAT_TABLE} SELECT * FROM percona.kept")

    def told(condition: str, *words: str, options: tuple[str, ...] = ()) -> None:
        outcome = scene.inline(*options)
        assert outcome.what == ("CRITICAL", condition), outcome.text
        for word in words:
            assert word in outcome.message

    replica.unlogged(f"DELETE FROM {HEARTBEAT_TABLE} WHERE server_id = 1")
    told("heartbeat-missing", "no heartbeat of server 1", "server 2 (this server)", "--master-server-id")
    replica.unlogged(f"DELETE FROM {HEARTBEAT_TABLE}")
    told("heartbeat-missing", "the table is empty")
    replica.unlogged(f"RENAME TABLE {HEARTBEAT_TABLE} TO percona.elsewhere")
    told("heartbeat-missing", "percona.heartbeat", "--heartbeat-table")
    replica.unlogged(f"RENAME TABLE percona.elsewhere TO {HEARTBEAT_TABLE}")
    put_back()

    for server in (1, 2):
        for nonsense in ("soon", "", "0000-00-00 00:00:00", "2026-02-31T00:00:00"):
            replica.unlogged(f"UPDATE {HEARTBEAT_TABLE} SET ts = '{nonsense}' WHERE server_id = {server}")
            told("heartbeat-unreadable", "no time", repr(nonsense))
        put_back()
        replica.unlogged(
            f"UPDATE {HEARTBEAT_TABLE} SET ts = DATE_FORMAT(UTC_TIMESTAMP() + INTERVAL 2 HOUR, '%Y-%m-%dT%H:%i:%s')"
            f" WHERE server_id = {server}"
        )
        told("heartbeat-from-future", "--heartbeat-timezone")
        put_back()

    replica.unlogged("DROP TABLE percona.kept")
    replica.start_sql()
    pair.local_heartbeat.start()
    wait_until(lambda: not pair.trouble(), 20, "the line is there again")
    scene.finish(job)
    scene.expect("OK", "in-range", 25, look=scene.inline)


def test_failover_to_another_source(scene: Scene) -> None:
    """The old source's heartbeat serves until the new one's has come through the delay line."""
    pair = scene.pair
    pair.add_second()
    limits = ("--max-delay-time", "20", "--max-job-behind", "failover=60")
    with scene.worker():
        scene.expect("OK", "in-range", 20, *limits)
        job = scene.start("failover")
        began = now()
        pair.fail_over()
        changed = scene.finish(job)
        outcome = scene.expect("WARNING", "source-changed", 5, *limits)
        assert "Source changed to server 3" in outcome.message
        assert "server 1's serves" in outcome.message
        assert "--max-delay-time" in outcome.message
        assert scene.inline(*limits).what == ("WARNING", "source-changed"), "another process finds the same"
        scene.expect("OK", "in-range", 30, *limits)
        arrived = now()
        # The named one's heartbeat counts, whoever the source is.
        assert scene.inline("--master-server-id", "3", *limits).what == ("OK", "in-range")
    moments = scene.replay(*limits)
    assert_only(between(moments, began), "OK", "WARNING")
    # On a busy machine the catching-up after the failover, which is recorded as a job, may still be going on.
    assert_only_conditions(between(moments, changed, arrived), "source-changed", "in-range", "failover-recovery-window")
    samples = [moment.sample for moment in moments if moment.sample.error is None]
    assert {(sample.source_id, sample.heartbeat_id) for sample in samples} == {(1, 1), (3, 1), (3, 3)}


def test_a_new_source_without_a_heartbeat_is_missed_after_the_longest_delay(scene: Scene) -> None:
    pair = scene.pair
    pair.add_second()
    assert scene.inline().what == ("OK", "in-range")
    pair.fail_over(heartbeat=False)
    assert "source-changed" in scene.inline().conditions
    outcome = scene.expect("CRITICAL", "heartbeat-missing", 40, look=scene.inline)
    assert "source 3" in outcome.message


def test_the_delay_setting_is_lost_and_set_again(scene: Scene) -> None:
    """Resetting replication forgets the delay without a word; once set again, the line fills from below."""
    replica = scene.pair.replica
    limits = ("--min-delay-time", "8")
    impatient = (*limits, "--max-trend-time", "2")
    with scene.worker():
        scene.expect("OK", "in-range", 20, *limits)
        replica.stop_all()
        replica.sql("RESET SLAVE" if scene.pair.family == "mariadb" else "RESET REPLICA")
        replica.start_all()
        outcome = scene.expect("CRITICAL", "delay-setting-lost", 15, *limits)
        assert "it was 10 before" in outcome.message
        wait_until(lambda: (scene.pair.seen_delay() or 99) < 2, 20, "the line has drained")
        time.sleep(4)  # so that the line lies flat
        lost = now()
        replica.set_delay(10)
        filling = now()
        scene.expect("OK", "in-range", 30, *limits)
    moments = between(scene.replay(*limits), filling)
    found = changes(moments)
    assert BELOW in found, story(moments)
    assert found[found.index(BELOW) :] == [BELOW, ("OK", "in-range")], story(moments)
    assert_only_conditions(moments, "delay-out-of-bounds", "recovering-below-minimum", "recovery-exceeded", "in-range")
    assert_only(between(scene.replay(*limits), lost - 3, lost), "CRITICAL")
    moments = between(scene.replay(*impatient), filling)
    assert EXCEEDED in changes(moments), story(moments)
    assert moments[-1].state == "OK"
