"""What a rescue meets beside the plain case: nothing is lost, and the truth is said."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import pytest

from .rescuing import MISTAKES, Scene, pair_for_rescues
from .servers import Family, Kit, Pair, wait_until
from .test_rescue import chosen, scene

__all__ = ["chosen", "scene"]


@pytest.fixture(scope="module", params=["gtid", pytest.param("pos", marks=pytest.mark.long)])
def rescue_pair(request: pytest.FixtureRequest, kit: Kit, chosen: Family) -> Iterator[Pair]:
    made = pair_for_rescues(kit, chosen, request.param == "gtid")
    yield made
    made.close()


RESCUER = ("rescuer", "rescuer-secret")


def test_a_dry_run_and_a_plan_write_nothing(scene: Scene) -> None:
    scene.source.sql(MISTAKES["drop"], "CREATE USER hb@localhost IDENTIFIED BY 'hb-secret'", "DROP USER hb@localhost")
    wait_until(lambda: len(scene.find("--all", "--limit", "0")) >= 3, 20, "it is fetched")
    scene.replica.sql("SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log = 1")
    assert scene.json("freeze", "--dry-run")["done"] == []
    scene.run("ready")
    everything = scene.run("find", "--all", "--limit", "0")
    scene.json("status")
    target = scene.find("--kind", "drop", "--table", "app.orders")[0]["target"]
    scene.run("forward", target)
    scene.run("resume", "--delay", "9")
    scene.replica.sql("SET GLOBAL general_log = 0")
    log = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type = 'Query'"
    asked = {str(row[0]).split()[0].upper() for row in scene.replica.sql(log) if "general_log" not in str(row[0])}
    assert asked <= {"SELECT", "SHOW", "SET"}, asked
    assert not scene.history.exists()
    assert not scene.state_folder.exists()
    assert "IDENTIFIED" in everything.out.upper()
    assert "hb-secret" not in everything.out
    assert "$A$00" not in everything.out


def test_a_record_that_cannot_be_written_or_was_changed(scene: Scene) -> None:
    scene.source.sql(MISTAKES["drop"])
    scene.state_folder.mkdir(mode=0o755)
    frozen = scene.json("freeze")
    assert (frozen["phase"], frozen["held"]) == ("frozen", False)
    assert "the delay was 90 s" in " ".join(frozen["reasons"])
    assert scene.replica.threads()[1] == "No"
    scene.state_folder.chmod(0o700)
    scene.json("freeze")
    target = scene.find("--kind", "drop")[0]["target"]
    (path,) = scene.state_folder.glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"delay": "1; DROP TABLE app.stock"}))
    for command in (("forward", target, "--execute"), ("resume", "--execute")):
        refused = scene.json(*command, code=1)
        assert refused["done"] == []
        assert "somebody has changed it" in " ".join(refused["reasons"])
    assert "somebody has changed it" in " ".join(scene.json("status")["reasons"])
    path.unlink()
    refused = scene.json("resume", "--execute", code=1)
    if not scene.mariadb:  # held
        assert "--delay" in " ".join(refused["reasons"])
    assert scene.json("resume", "--execute", "--delay", "90")["phase"] == "resumed"


def test_the_history_knows_of_it(scene: Scene) -> None:
    scene.history.touch()
    scene.source.sql(MISTAKES["drop"])
    scene.json("freeze")
    (job,) = scene.jobs()
    assert (job["kind"], job["status"]) == ("rescue", "running")
    scene.json("resume", "--execute")
    (job,) = scene.jobs()
    assert job["status"] == "finished"


def test_named_channels(scene: Scene) -> None:
    replica, source = scene.replica, scene.source
    replica.forget_replication()
    replica.replicate_from(source, 3600, "one")
    if scene.mariadb:
        replica.sql("CHANGE MASTER 'two' TO MASTER_HOST='nowhere', MASTER_USER='x'", "START SLAVE 'two' SQL_THREAD")
    else:
        elsewhere = "SOURCE_HOST='nowhere', SOURCE_USER='x', SOURCE_DELAY=60 FOR CHANNEL 'two'"
        replica.sql(f"CHANGE REPLICATION SOURCE TO {elsewhere}", "START REPLICA SQL_THREAD FOR CHANNEL 'two'")
    wait_until(lambda: replica.threads("one") == ("Yes", "Yes"), 30, "it runs")
    tables = scene.tables(source)
    source.sql(MISTAKES["drop"])
    time.sleep(0.5)
    for command in (("find",), ("forward", "0-1-9", "--execute"), ("resume", "--execute")):
        refused = scene.json(*command, code=1)
        assert "there are 2 channels" in " ".join(refused["reasons"])
    frozen = scene.json("freeze")
    assert frozen["phase"] == "frozen"
    assert [replica.threads(name)[1] for name in ("one", "two")] == ["No", "No"]
    (drop,) = scene.find("--channel", "one", "--kind", "drop", "--table", "app.orders")
    replica.drop_databases()
    done = scene.json("forward", drop["target"], "--execute", "--channel", "one")
    assert done["phase"] == "forwarded"
    assert scene.tables(replica) == tables
    assert scene.json("status", "--channel", "two")["phase"] == "frozen"


@pytest.mark.mariadb
def test_a_freeze_that_something_undoes_again_and_again(scene: Scene) -> None:
    """As pt-slave-delay does: --keep stops it again every second."""
    scene.source.sql(MISTAKES["drop"])
    keeping = scene.start("freeze", "--keep")
    try:
        wait_until(lambda: scene.replica.threads()[1] == "No", 20, "it is frozen")
        time.sleep(1)
        scene.replica.start_sql()
        wait_until(lambda: scene.replica.threads()[1] == "No", 20, "it is frozen again")
    finally:
        keeping.send_signal(signal.SIGINT)
        assert keeping.wait(20) == 0


def test_two_operators(scene: Scene) -> None:
    scene.source.sql(MISTAKES["drop"])
    scene.json("freeze")
    target = scene.find("--kind", "drop")[0]["target"]
    with scene.replica.session() as other:
        other("SELECT GET_LOCK('check_delayed_repl.rescue.', 0)")
        refused = scene.json("forward", target, "--execute", code=1)
        assert "another rescue acts here: connection" in " ".join(refused["reasons"])
        assert "root from" in " ".join(refused["reasons"])
        assert scene.json("freeze")["phase"] == "frozen"
    assert scene.json("forward", target, "--execute")["phase"] == "forwarded"


def test_an_account_of_its_own(scene: Scene) -> None:
    for right in scene.rescuer(RESCUER):
        scene.login = RESCUER
        scene.replica.unlogged(right)
    assert scene.run("ready").code == 0, scene.run("ready")
    with scene.load():
        time.sleep(0.5)
        before = scene.make(MISTAKES["delete"])
        time.sleep(0.3)
    frozen = scene.json("freeze")
    assert frozen["held"] is (not scene.mariadb), frozen
    target = scene.find("--table", "app.orders")[0]["target"]
    assert scene.json("forward", target, "--execute")["phase"] == "forwarded"
    assert scene.tables(scene.replica) == before
    assert scene.json("resume", "--execute")["phase"] == "resumed"


def test_rights_that_are_missing_are_named_before_anything_is_done(scene: Scene) -> None:
    scene.replica.unlogged(
        "CREATE USER poor@'%' IDENTIFIED BY 'poor-secret'",
        "GRANT REPLICATION CLIENT ON *.* TO poor@'%'"
        if not scene.mariadb
        else "GRANT SLAVE MONITOR ON *.* TO poor@'%'",
    )
    scene.login = ("poor", "poor-secret")
    ready = scene.run("ready")
    assert ready.code == 1
    assert "lacks" in ready.out
    refused = scene.json("freeze", code=1)
    assert refused["done"] == []
    assert refused["statements"][0].startswith("STOP ")
