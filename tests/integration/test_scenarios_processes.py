"""Processes that are killed or hang: the worker and the replica. The check always comes back in time, with a state."""

from __future__ import annotations

from itertools import pairwise

from .checking import Scene, assert_only, between, changes, check, now, story
from .servers import wait_until


def test_the_worker_is_killed(scene: Scene) -> None:
    nobody = scene.judged(name="never-seen")
    assert nobody.what == ("CRITICAL", "worker-missing")
    with scene.worker() as worker:
        scene.expect("OK", "in-range", 20)
        worker.kill()
        worker.wait()
        killed = now()
        outcome = scene.expect("CRITICAL", "worker-missing", 15)
        assert now() > killed + 5
        assert outcome.message.startswith("Worker was last seen ")
        assert "--max-last-seen" in outcome.message
        assert float(outcome.perfdata["worker_age"].partition("s;")[0]) > 6
        job = scene.start()
        assert scene.judged().what == ("CRITICAL", "worker-missing"), "no job accounts for it"
        scene.finish(job)
    # The next one goes on where it ended.
    with scene.worker():
        scene.expect("OK", "in-range", 20)
    moments = scene.replay()
    assert moments[-1].state == "OK"
    assert max(later.t - earlier.t for earlier, later in pairwise(moments)) > 6, "nobody looked meanwhile"


def test_the_replica_is_killed(scene: Scene) -> None:
    replica = scene.pair.replica
    by_port = (*scene.check_options, "--history", str(scene.folder / "other.db"))
    scene.by_socket = True
    with scene.worker():
        scene.expect("OK", "in-range", 20)
        replica.kill()
        killed = now()
        outcome = scene.expect("CRITICAL", "server-down", 10)
        assert "refused" in outcome.message
        assert scene.inline("--job-stops-server", "backup").what == ("CRITICAL", "server-down"), "there is no job"
        outcome = check(*by_port)
        assert outcome.what == ("CRITICAL", "server-down")
        assert outcome.conditions == ["server-down"]
        wait_until(lambda: now() > killed + 5, 10, "the worker has looked a few times")
        dead = now()
        replica.start()
        scene.expect("OK", "in-range", 40)
    moments = scene.replay()
    assert_only(between(moments, killed + 1.5, dead), "CRITICAL")
    assert {moment.sample.error for moment in between(moments, killed + 1.5, dead)} == {"server-down"}
    assert {moment.sample.error for moment in moments} == {None, "server-down"}, story(moments)


def test_the_replica_hangs(scene: Scene) -> None:
    """A stopped process accepts connections and never answers: the check is back within its timeout."""
    replica = scene.pair.replica
    with scene.worker():
        scene.expect("OK", "in-range", 20)
        job = scene.start()
        replica.pause()
        hung = now()
        try:
            for seconds in (2, 4):
                outcome = scene.inline("--timeout", str(seconds), "--job-stops-server", "backup")
                assert outcome.what == ("CRITICAL", "timeout"), "no job accounts for it"
                assert "o answer within" in outcome.message
                # Beside its timeout, a process takes time to start and to end, more of it on a busy machine.
                assert outcome.seconds < seconds + 2
            scene.expect("CRITICAL", "timeout", 10)
            wait_until(lambda: now() > hung + 5, 10, "the worker has looked a few times")
        finally:
            ended = now()
            replica.unpause()
        scene.finish(job)
        scene.expect("OK", "in-range", 30)
    moments = between(scene.replay(), hung + 1.5, ended)
    assert changes(moments) == [("CRITICAL", "timeout")], story(moments)
    # A failed look at every interval, too.
    assert len(moments) >= 3
