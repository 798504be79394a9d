"""Backups on a real replica: what a recorded one holds back and for how long, and the same without a record.

One worker looks at the replica under two names, of which a backup is recorded for one alone: so every disturbance is
judged twice. What other limits would have made of it is told from the recording.
"""

from __future__ import annotations

import time

from .checking import (
    Moment,
    Scene,
    assert_only,
    assert_only_conditions,
    between,
    changes,
    held_line,
    now,
    story,
)
from .servers import wait_until

SILENT = "orders-unannounced"
"""The replica's name in the history for which no job is recorded."""

OK = ("OK", "in-range")
ACTIVE = ("WARNING", "active-backup")
RECOVERY = ("WARNING", "backup-recovery-window")
EXCEEDED = ("CRITICAL", "recovery-exceeded")


def from_ok(moments: list[Moment]) -> list[Moment]:
    """Without the first looks, which are too few for a verdict."""
    first = next(place for place, moment in enumerate(moments) if moment.state == "OK")
    return moments[first:]


def wait_for_delay(scene: Scene, seconds: float) -> None:
    wait_until(lambda: (scene.pair.seen_delay() or 0) > seconds, 30, f"the delay is longer than {seconds:g} s")


def established(scene: Scene) -> None:
    for name in (scene.name, SILENT):
        scene.expect("OK", "in-range", 20, name=name)


def test_a_backup_stops_the_sql_thread_and_the_line_recovers(scene: Scene) -> None:
    replica = scene.pair.replica
    overrun = ("--max-backup-behind", "4")
    hasty = ("--max-recovery-time", "3")
    with scene.worker(scene.name, SILENT):
        established(scene)
        job = scene.start()
        began = now()
        replica.stop_sql()
        scene.expect("CRITICAL", "sql-stopped", 10, name=SILENT)
        wait_for_delay(scene, 18)
        time.sleep(1.5)
        outcome = scene.judged()
        assert outcome.what == ACTIVE
        assert "sql-stopped" in outcome.conditions
        assert "--max-delay-time" in outcome.message
        assert float(outcome.perfdata["delay"].partition("s;")[0]) > 17
        late = scene.judged(*overrun)
        assert late.what == ("CRITICAL", "job-overrun")
        assert "delay-out-of-bounds" in late.conditions or "recovery-exceeded" in late.conditions
        silent = scene.judged(name=SILENT)
        assert silent.what == ("CRITICAL", "sql-stopped")
        assert "delay-out-of-bounds" in silent.conditions
        # A slow transaction keeps the line from recovering at once.
        with held_line(replica):
            replica.start_sql()
            finished = scene.finish(job)
            outcome = scene.expect("WARNING", "backup-recovery-window", 5)
            assert "completed" in outcome.message
            assert "--max-recovery-time" in outcome.message
            scene.expect("CRITICAL", "delay-out-of-bounds", 5, name=SILENT)
            scene.expect(*EXCEEDED, 12, *hasty)
            assert scene.judged().what == RECOVERY
            released = now()
        scene.expect("OK", "in-range", 15)
        scene.expect("OK", "in-range", 15, *hasty)
        scene.expect("OK", "in-range", 15, *overrun)
        scene.expect("OK", "in-range", 15, name=SILENT)

    moments = from_ok(scene.replay())
    assert changes(moments) == [OK, ACTIVE, RECOVERY, OK], story(moments)
    assert_only_conditions(between(moments, began, finished - 1), "active-backup")
    assert_only_conditions(between(moments, finished, released), "backup-recovery-window")
    # Exceeded once it is, and until the line is back.
    moments = from_ok(scene.replay(*hasty))
    assert changes(moments) == [OK, ACTIVE, RECOVERY, EXCEEDED, OK], story(moments)
    # The overrun holds nothing, from the moment that the limit has passed until the job is finished.
    moments = from_ok(scene.replay(*overrun))
    assert changes(moments) == [OK, ACTIVE, ("CRITICAL", "job-overrun"), RECOVERY, OK], story(moments)
    # And without any record.
    moments = from_ok(scene.replay(name=SILENT))
    assert changes(moments)[:3] == [OK, ("CRITICAL", "sql-stopped"), ("CRITICAL", "delay-out-of-bounds")], story(
        moments
    )
    assert_only(between(moments, began + 1.5, released), "CRITICAL")
    assert moments[-1].state == "OK"


def test_a_backup_stops_both_threads(scene: Scene) -> None:
    replica = scene.pair.replica
    with scene.worker(scene.name, SILENT):
        established(scene)
        job = scene.start()
        began = now()
        replica.stop_all()
        silent = scene.expect("CRITICAL", "io-stopped", 10, name=SILENT)
        assert "sql-stopped" in silent.conditions
        wait_for_delay(scene, 18)
        time.sleep(1.5)
        outcome = scene.judged()
        assert outcome.what == ACTIVE
        assert {"io-stopped", "sql-stopped"} <= set(outcome.conditions)
        replica.start_all()
        started = now()
        scene.finish(job)
        scene.expect("OK", "in-range", 25)
        scene.expect("OK", "in-range", 25, name=SILENT)
    moments = from_ok(scene.replay())
    assert_only(moments, "OK", "WARNING")
    assert_only_conditions(between(moments, began, started), "active-backup")
    assert_only_conditions(between(moments, started), "active-backup", "backup-recovery-window", "in-range")
    assert_only(between(scene.replay(name=SILENT), began + 1.5, started), "CRITICAL")


def test_a_backup_holds_a_read_lock(scene: Scene) -> None:
    replica = scene.pair.replica
    with scene.worker(scene.name, SILENT):
        established(scene)
        job = scene.start()
        with replica.session() as session:
            began = now()
            session("FLUSH TABLES WITH READ LOCK")
            scene.expect("CRITICAL", "local-heartbeat-stale", 20, name=SILENT)
            wait_for_delay(scene, 18)
            time.sleep(1.5)
            outcome = scene.judged()
            assert outcome.what == ACTIVE
            assert "local-heartbeat-stale" in outcome.conditions
            silent = scene.judged(name=SILENT)
            assert silent.what == ("CRITICAL", "local-heartbeat-stale")
            assert "delay-out-of-bounds" in silent.conditions
            locked = now()
            session("UNLOCK TABLES")
        wait_until(lambda: scene.pair.heartbeats()[2] < 2, 15, "the local heartbeat is written again")
        scene.finish(job)
        scene.expect("OK", "in-range", 25)
        scene.expect("OK", "in-range", 25, name=SILENT)
    moments = from_ok(scene.replay())
    assert_only(moments, "OK", "WARNING")
    assert_only_conditions(between(moments, began, locked), "active-backup")
    assert_only(between(scene.replay(name=SILENT), locked - 1.5, locked), "CRITICAL")


def test_a_backup_stops_the_server(scene: Scene) -> None:
    """The worker looks by the socket, as on the replica itself."""
    scene.by_socket = True
    replica = scene.pair.replica
    may_stop = ("--job-stops-server", "backup")
    with scene.worker(scene.name, SILENT):
        established(scene)
        job = scene.start()
        began = now()
        replica.stop()
        outcome = scene.expect("CRITICAL", "server-down", 10)
        assert str(replica.socket) in outcome.message
        outcome = scene.judged(*may_stop)
        assert outcome.what == ACTIVE
        assert "server-down" in outcome.conditions
        assert scene.judged(*may_stop, name=SILENT).what == ("CRITICAL", "server-down")
        assert scene.inline(*may_stop, name=SILENT).what == ("CRITICAL", "server-down")
        time.sleep(4)
        stopped = now()
        replica.start()
        wait_until(lambda: not scene.pair.trouble(), 30, "the replica replicates again, with its heartbeat")
        finished = scene.finish(job)
        scene.expect("OK", "in-range", 25, *may_stop)
        scene.expect("OK", "in-range", 25, *may_stop, name=SILENT)
        scene.look_after(finished)
    moments = from_ok(scene.replay(*may_stop))
    assert changes(moments)[:2] == [OK, ACTIVE], story(moments)
    assert_only(moments, "OK", "WARNING")
    assert changes(moments)[-1] == OK, story(moments)
    assert_only_conditions(between(moments, began, stopped), "active-backup")
    # Any other job does not account for a server that is down.
    assert_only_conditions(between(scene.replay(), stopped - 3, stopped), "server-down")


def test_a_line_lost_after_a_harmless_backup_is_told_at_once(scene: Scene) -> None:
    """A line that has recovered, here by never having been out, is not covered by the recovery window."""
    window = ("--window", "8")
    with scene.worker():
        scene.expect("OK", "in-range", 20, *window)
        job = scene.start()
        scene.expect("WARNING", "active-backup", 5, *window)
        finished = scene.finish(job)
        scene.expect("OK", "in-range", 5, *window)
        wait_until(lambda: now() > finished + 10, 12, "the line has been in range for longer than a window")
        assert scene.judged(*window).what == OK
        lost = now()
        with held_line(scene.pair.replica):
            outcome = scene.expect("CRITICAL", "delay-out-of-bounds", 20, *window)
            assert outcome.conditions == ["delay-out-of-bounds"]
            assert "held: backup 0 s" in outcome.text
            time.sleep(3)
            # Within one window the same backup would still account for it.
            assert scene.judged("--window", "60").what == RECOVERY
            released = now()
        scene.expect("OK", "in-range", 15, *window)
    moments = [moment for moment in scene.replay(*window) if finished + 0.5 < moment.t < released]
    assert changes(moments) == [OK, ("CRITICAL", "delay-out-of-bounds")], story(moments)
    assert between(moments, lost)[-1].state == "CRITICAL"
