"""Channels and named connections; and the shared history on a real server."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from check_delayed_repl.records import Sample

from .checking import CHECK, JOB, SCALED, WORKER, Scene, changes, check, make_account, now, revoked, story, tool
from .conftest import title_of
from .servers import Family, Kit, Pair, Server, account, wait_until


def test_channels_and_named_connections(pair: Pair, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pair.heal(channel="orders")
    scene = Scene(pair, tmp_path, title_of(request))
    replica = pair.replica
    unnamed = ["--history", scene.history, *SCALED]
    server = f"{replica.host}:{replica.port}"
    only = check(*scene.check_options, *unnamed)
    assert only.what == ("OK", "in-range"), "the only one need not be named"
    assert check(*scene.check_options, *unnamed, "--channel", "orders").what == ("OK", "in-range")
    wrong = check(*scene.check_options, *unnamed, "--channel", "billing")
    assert wrong.what == ("CRITICAL", "not-a-replica")
    assert "'billing'" in wrong.message
    assert "there are: orders" in wrong.message

    replica._change_source({"HOST": "elsewhere", "PORT": 3306, "USER": "nobody", "PASSWORD": ""}, "billing")
    several = check(*scene.check_options, *unnamed)
    assert several.what == ("CRITICAL", "not-a-replica")
    assert "billing, orders" in several.message
    assert "--channel" in several.message
    with scene.worker(f"{server}#orders", options=("--channel", "orders")):
        look = ("--channel", "orders")
        scene.expect("OK", "in-range", 20, *look, name=f"{server}#orders")
        # One that was never started has not even met its source.
        stopped = check(*scene.check_options, *unnamed, "--channel", "billing")
        assert stopped.state == "CRITICAL"
        assert {"io-stopped", "heartbeat-missing"} & set(stopped.conditions)
        # A job on the server counts for all its channels.
        job = scene.start(name=server)
        assert check(*scene.check_options, *unnamed, *look).what == ("WARNING", "active-backup")
        assert scene.judged(*look, name=f"{server}#orders").what == ("WARNING", "active-backup")
        scene.finish(job, name=server)
        replica.stop_sql("orders")
        scene.expect("CRITICAL", "sql-stopped", 10, *look, name=f"{server}#orders")
        replica.start_sql("orders")
        scene.expect("OK", "in-range", 20, *look, name=f"{server}#orders")
    known = tool("job", "list", "--history", scene.history, "--replica", f"{server}#orders")
    assert job in known


def test_no_channel_at_all(scene: Scene) -> None:
    """A source is no replica, even with everything else in place."""
    source = scene.pair.source
    make_account(source, CHECK, "check")
    look = ["--defaults-file", str(scene.option_file(CHECK)), "-H", source.host, "-P", str(source.port)]
    outcome = check(*look, "--history", scene.history, *SCALED)
    assert outcome.what == ("CRITICAL", "not-a-replica")
    source.unlogged(f"DROP USER {account(CHECK)}")


@pytest.fixture
def keeper(kit: Kit, family: Family) -> Iterator[Server]:
    """A server for the shared history."""
    server = kit.server(family, name="keeper")
    yield server
    server.close()


def test_a_shared_history(scene: Scene, keeper: Server) -> None:
    """Worker, check and job writer on three accounts of their own, as `grants` makes them."""

    def url(who: tuple[str, str]) -> str:
        file = scene.option_file(who)
        return f"mysql://{who[0]}@{keeper.host}:{keeper.port}/delayed?defaults-file={file}"

    for who, role in ((WORKER, "worker"), (JOB, "job")):
        make_account(keeper, who, role, url(who), only="history")
    grants = make_account(keeper, CHECK, "check", url(CHECK), only="history")
    scene.history = url(CHECK)
    scene.worker_history = url(WORKER)
    scene.job_history = url(JOB)

    with scene.worker():
        scene.expect("OK", "in-range", 20)
        assert scene.inline().what == ("OK", "in-range")
        job = scene.start()
        assert scene.judged().what == ("WARNING", "active-backup")
        document = scene.judged_json()
        assert [entry["id"] for entry in document["jobs"]] == [job]
        scene.look_after(now())
        scene.finish(job)
        assert scene.judged().what == ("OK", "in-range")

        every_right_is_needed(scene, keeper, grants)
        # The job writer may do what it must, and no more.
        with keeper.session(*JOB) as session:
            for table in ("job", "sample", "replica", "counter"):
                with pytest.raises(Exception, match="denied"):
                    session(f"SELECT * FROM delayed.{table}")

        keeper.pause()
        try:
            outcome = scene.inline("--timeout", "3")
            assert outcome.condition == "history-unavailable"
            assert outcome.state == "CRITICAL"
            assert outcome.seconds < 4
        finally:
            keeper.unpause()
        keeper.kill()
        outcome = scene.judged()
        assert outcome.what == ("CRITICAL", "history-unavailable")
        assert CHECK[0] in outcome.message
        time.sleep(3)
        keeper.start()
        # What the worker saw meanwhile is brought in: ten seconds of looks, less what a busy machine leaves out.
        wait_until(lambda: longest_gap(scene) < 6, 40, "there is no gap in the history", interval_s=1)
        scene.expect("OK", "in-range", 20)
    moments = scene.replay()
    first = next(place for place, moment in enumerate(moments) if moment.state == "OK")
    assert changes(moments[first:]) == [
        ("OK", "in-range"),
        ("WARNING", "active-backup"),
        ("OK", "in-range"),
    ], story(moments)


def every_right_is_needed(scene: Scene, keeper: Server, grants: list[str]) -> None:
    """Without any one of the check's rights to the history, it says so; but for the one that it can do without."""
    assert len(grants) == 6
    for grant in grants:
        table = re.search(r"`delayed`\.`(\w+)`", grant)
        assert table
        keeper.unlogged(revoked(grant))
        outcome = scene.inline()
        if table[1] == "schema_version":
            assert outcome.what == ("OK", "in-range"), "the worker has read it, too"
        else:
            assert outcome.what == ("CRITICAL", "history-unavailable"), grant
            assert "in-range" in outcome.conditions, "what can be told without a history is told"
        keeper.unlogged(grant)
    assert scene.inline().what == ("OK", "in-range")


def longest_gap(scene: Scene) -> float:
    times = [record.t for record in scene.recording() if isinstance(record, Sample)]
    return max(later - earlier for earlier, later in pairwise(times))
