"""The source is killed, hangs, loses its binary logs, or is another server from now on."""

from __future__ import annotations

import time

from .breaking import THROUGH_S, heartbeats_move, kill_everybody, start_over
from .checking import between, story
from .matrix import Watched, essential
from .servers import REPLICATION


@essential("mysql")
def test_source_is_killed(watched: Watched) -> None:
    source = watched.source
    with watched.twin("3.1", "everybody is disconnected", watch=THROUGH_S):
        kill_everybody(source)
    with watched.fault("3.1", "Source: killed", "io-error", within=8, back=60, through=THROUGH_S) as it:
        source.kill()
        it.detected()
        assert watched.inline().condition == "io-error"
        source.start()
        heartbeats_move(watched.pair)


def test_source_hangs(watched: Watched) -> None:
    """The connection is still there, so that the IO thread finds nothing wrong with it: the heartbeat tells."""
    source = watched.source
    with watched.twin("3.2", "it hangs for two seconds", watch=THROUGH_S):
        source.pause()
        time.sleep(2)
        source.unpause()
    conditions = ("source-heartbeat-dead", "delay-out-of-bounds", "io-error", "io-stopped")
    with watched.fault("3.2", "Source: hung", conditions, within=20, back=60, through=THROUGH_S) as it:
        source.pause()
        it.detected()
        assert watched.inline().state == "CRITICAL"
        source.unpause()
        heartbeats_move(watched.pair)


def test_source_loses_its_binary_logs(watched: Watched) -> None:
    source = watched.source
    with watched.twin("3.3", "new binary logs beside the old ones", watch=THROUGH_S):
        source.sql("FLUSH BINARY LOGS")
        source.sql("FLUSH BINARY LOGS")
    title = "Source: restarted with empty binary logs"
    with watched.fault("3.3", title, "io-error", within=8, back=60, through=THROUGH_S) as it:
        source.end_sessions(REPLICATION[0])
        source.reset_logs()
        source.restart()
        it.caused()
        outcome = it.wait_for(lambda outcome: "1236" in outcome.message, 30, "error 1236")
        assert outcome.what == ("CRITICAL", "io-error")
        it.detected()
        heartbeats_move(watched.pair)
        start_over(watched.pair)


def test_failover(watched: Watched) -> None:
    """The old source's heartbeat serves until the new one's has come through the delay line."""
    pair = watched.pair
    # Heartbeats pause while they move from one source to the other.
    options = ("--max-delay-time", "40", "--max-job-behind", "failover=60")
    address = pair.source.container.attrs["NetworkSettings"]["Networks"][pair.network.name]["IPAddress"]
    job = watched.start("failover")
    with watched.twin("3.4", "the same source by another name", state=("OK", "WARNING"), options=options):
        pair.replica.change_source(HOST=address)
        watched.expect("WARNING", "active-failover", 30, *options)
    watched.finish(job)
    watched.expect("OK", "in-range", 30, *options)
    pair.add_second()
    title = "Source: replaced by another server with another id"
    with watched.fault("3.4", title, "source-changed", state="WARNING", within=6, options=options, back=30) as it:
        pair.fail_over()
        assert "Source changed to server 3" in it.detected().message
        assert watched.inline(*options).condition == "source-changed"
    moments = between(watched.replay(*options), it.cause_t + 2)
    assert {moment.state for moment in moments} <= {"OK", "WARNING"}, story(moments)
