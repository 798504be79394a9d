"""Rescues that something breaks into: the tool or the server is killed, somebody says START."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .rescuing import DELAY_S, MISTAKES, ROOT, Scene, pair_for_rescues
from .servers import REPLICATION, ROOT_PASSWORD, Kit, wait_until
from .test_rescue_edges import RESCUER, rescue_pair, scene

__all__ = ["rescue_pair", "scene"]


def test_the_tool_is_killed_before_and_after_every_statement(scene: Scene) -> None:
    before = scene.blunder("delete")
    scene.json("freeze")
    target = scene.target()
    steps = []
    for number in range(40):
        step = scene.kill_at(1 + number % 2, "forward", target, "--execute")
        if not step:
            break
        steps.append(step)
        assert scene.json("status")["phase"] in ("frozen", "forwarding", "forwarded"), steps
    assert len(set(steps)) >= 6, steps
    assert scene.tables(scene.replica) == before
    scene.stands("forwarded", True)
    while scene.kill_at(2, "resume", "--execute"):
        pass
    assert int(scene.status()["SQL_Delay"]) == DELAY_S
    assert scene.replica.threads() == ("Yes", "Yes")
    scene.shorten()
    scene.equal()


def test_the_server_is_killed(scene: Scene) -> None:
    """Exact where the server can be kept from starting replication by itself, else exact or too late, and said."""
    assert killed(scene) or scene.mariadb


@pytest.mark.long
@pytest.mark.mariadb
@pytest.mark.parametrize("gtid", [True, False], ids=["gtid", "pos"])
def test_a_mariadb_with_skip_slave_start_is_killed(kit: Kit, tmp_path: Path, gtid: bool) -> None:
    pair = pair_for_rescues(kit, "mariadb", gtid, "--skip-slave-start")
    try:
        made = Scene(pair, tmp_path)
        made.set_up()
        assert killed(made)
        if gtid:
            killed_while_one_domain_waits(made, "0")
            killed_while_one_domain_waits(made, "1")
    finally:
        pair.close()


def killed_while_one_domain_waits(scene: Scene, other: str) -> None:
    """kill -9 of one that has not stopped fetching since it was set up, and so forgets what it had fetched; where the
    `other` domain is another one, it has been applied beyond what waits, and that is forgotten too."""
    scene.set_up(0)
    shutil.rmtree(scene.state_folder)
    scene.source.sql("CREATE TABLE app.s (id INT PRIMARY KEY, n INT)", "INSERT INTO app.s VALUES (0, 0), (1, 0)")
    scene.source.sql("SET SESSION gtid_domain_id = 1", "INSERT INTO app.s VALUES (2, 0)")
    wait_until(lambda: scene.replica.value("SELECT COUNT(*) FROM app.s") == 3, 30, "it is there")
    with scene.replica.session() as locks:
        locks("BEGIN")
        locks("SELECT * FROM app.s WHERE id = 0 FOR UPDATE")
        scene.source.sql(
            *("SET SESSION binlog_format = 'STATEMENT'", "UPDATE app.s SET n = n + 1 WHERE id = 0"),
            *(f"SET gtid_domain_id = {other}", "UPDATE app.s SET n = n + 1 WHERE id = 1"),
        )
        before = scene.make(MISTAKES["drop"])
        rows = scene.source.sql("SELECT * FROM app.s")
        scene.fetched()
        applied = "SELECT n FROM app.s WHERE id = 1"
        wait_until(lambda: other == "0" or scene.replica.value(applied) == 1, 30, "it is applied beyond")
        scene.replica.kill()
    scene.replica.start()
    assert scene.json("freeze")["phase"] == "frozen"
    assert not scene.stands("frozen", False)["reasons"]
    if other != "0":
        for command in (("forward", scene.target("--kind", "drop"), "--execute"), ("resume", "--delay", "9")):
            why = scene.refused(*command)
            assert "applied twice" in why
        scene.replica.sql(why.split(": ")[-1].partition(";")[0])
        scene.fetched()
    scene.rescued(before, "--kind", "drop")
    assert scene.replica.sql("SELECT * FROM app.s") == rows


def killed(scene: Scene) -> bool:
    """kill -9 while frozen, forwarding and held; False where a restart has applied the target, which is said."""
    before = scene.blunder("delete")
    frozen = scene.json("freeze")
    assert frozen["held"] is (not scene.mariadb), frozen
    scene.replica.kill()
    scene.replica.start()
    wait_until(lambda: scene.mariadb or scene.status(), 20, "the replica knows its source")
    status = scene.json("status")
    assert status["phase"] in ("frozen", "normal")
    assert status["held"] is (not scene.mariadb)
    assert scene.json("freeze")["phase"] == "frozen"
    target = scene.target("--table", "app.orders")
    with scene.replica.session() as locks:
        locks("LOCK TABLES app.stock WRITE")
        forward = scene.start("forward", target, "--execute")
        wait_until(lambda: scene.status()["Until_Condition"] == "Relay", 20, "the server rolls forward")
        time.sleep(0.5)
        scene.replica.kill()
        said, _ = forward.communicate(timeout=60)
        assert forward.returncode == 1, said
    scene.replica.start()
    time.sleep(1)
    again = scene.run("forward", target, "--execute", "--output", "json")
    if again.code:
        if "too late" not in again.out:
            scene.json("freeze")
            again = scene.run("forward", target, "--execute", "--output", "json")
        if again.code:
            assert scene.mariadb
            assert "too late" in " ".join(again.object["reasons"]), again
            return False
    assert scene.tables(scene.replica) == before
    scene.replica.kill()
    scene.replica.start()
    time.sleep(1)
    scene.stands("forwarded", True)
    assert scene.tables(scene.replica) == before
    assert scene.json("forward", target, "--execute")["phase"] == "forwarded"
    assert scene.json("resume", "--execute")["phase"] == "resumed"
    return True


def test_a_freeze_in_the_middle_of_the_mistake(scene: Scene) -> None:
    """As the account that `grants` makes: the applier is ended, though it waits for a lock."""
    scene.shorten()
    scene.replica.unlogged(*scene.rescuer(RESCUER))
    scene.login = RESCUER
    scene.replica.stop_sql()
    before = scene.tables(scene.source)
    scene.source.sql(MISTAKES["delete"])
    scene.fetched()
    with scene.replica.session() as locks:
        # The applier comes as far as the last row.
        locks("BEGIN")
        locks("SELECT * FROM app.orders ORDER BY id DESC LIMIT 1 FOR UPDATE")
        scene.replica.start_sql()
        waits = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' AND trx_rows_modified > 100"
        wait_until(lambda: scene.replica.sql(waits), 20, "it is being applied")
        frozen = scene.json("freeze")
    assert frozen["phase"] == "frozen"
    assert scene.tables(scene.replica) == before
    scene.rescued(before, "--table", "app.orders")
    assert scene.json("resume", "--execute", "--delay", "1")["phase"] == "resumed"
    wait_until(lambda: scene.tables(scene.replica)["app.orders"][0] == 0, 60, "it is applied then")


@pytest.mark.long
@pytest.mark.mariadb
def test_a_freeze_of_one_of_two_connections_tells_of_the_other(scene: Scene) -> None:
    """Both apply, and wait for locks: the one is rolled back, and so is the other, which may stop with an error."""
    if not scene.mariadb:
        pytest.skip("appliers of its channels can be told apart")
    replica, source, before = scene.replica, scene.source, scene.tables(scene.source)["app.orders"]
    file, pos = source.sql("SHOW MASTER STATUS")[0][:2]
    replica.forget_replication()
    source.container.reload()
    (network,) = source.container.attrs["NetworkSettings"]["Networks"].values()
    user, password = REPLICATION
    waits = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    with replica.session() as one, replica.session() as another:
        for run, table in ((one, "app.orders"), (another, "other.notes")):
            run("BEGIN")
            run(f"SELECT * FROM {table} ORDER BY id DESC LIMIT 1 FOR UPDATE")
        source.sql("USE app", "DELETE FROM app.orders", "USE other", "DELETE FROM other.notes")
        for number, name, host, database in ((1, "a", source.name, "app"), (2, "b", network["IPAddress"], "other")):
            replica.sql(
                f"CHANGE MASTER '{name}' TO MASTER_HOST='{host}', MASTER_USER='{user}', MASTER_PASSWORD='{password}',"
                f" MASTER_USE_GTID=no, MASTER_LOG_FILE='{file}', MASTER_LOG_POS={pos}",
                f"SET GLOBAL {name}.replicate_do_db = '{database}'",
                f"START SLAVE '{name}'",
            )
            wait_until(lambda number=number: replica.value(waits) == number, 20, "it is being applied")
            replica.stop_io(name)  # a source sends to one of them at a time
        frozen = scene.run("freeze", "--channel", "a")
    assert scene.tables(replica)["app.orders"] == before
    assert "may have been of channel 'b' too" in frozen.out, frozen
    replica.sql("START SLAVE 'b' SQL_THREAD")
    wait_until(lambda: scene.tables(replica)["other.notes"][0] == 0, 20, "it goes on")


def test_what_keeps_two_channels_stopped_is_taken_back_by_the_last(scene: Scene) -> None:
    """A restart would start what another channel's forward has not come to the end of."""
    if scene.mariadb:
        pytest.skip("it can keep nothing stopped")
    kept = "SELECT 1 FROM performance_schema.persisted_variables WHERE VARIABLE_NAME = 'skip_replica_start'"
    # As an earlier rescue leaves it that a restart has come between: it holds until the next restart.
    scene.replica.sql("SET PERSIST_ONLY skip_replica_start = ON")
    scene.replica.stop()
    scene.replica.start()
    scene.replica.sql("RESET PERSIST skip_replica_start", "START REPLICA")
    scene.replica.sql(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'nowhere', SOURCE_LOG_FILE = 'bin.000001', SOURCE_LOG_POS = 4"
        " FOR CHANNEL 'b'",
        "START REPLICA FOR CHANNEL 'b'",
    )
    scene.source.sql("INSERT INTO app.stock (v, n) VALUES ('x', 1)", MISTAKES["drop"])
    scene.fetched()
    scene.json("freeze")
    this = ("--channel", "")
    scene.json("forward", scene.target("--kind", "drop", *this), "--execute", *this)
    assert scene.replica.sql(kept)
    said = scene.run("resume", "--execute", *this)
    assert "until the rescue of channel 'b' is over" in said.out, said
    assert scene.replica.sql(kept)
    scene.json("freeze", *this)
    scene.json("resume", "--execute", *this)
    assert scene.replica.sql(kept)
    scene.json("resume", "--execute", "--channel", "b")
    assert not scene.replica.sql(kept)
    scene.replica.sql("SET PERSIST_ONLY skip_replica_start = ON")  # somebody else's own
    scene.json("freeze")
    scene.json("resume", "--execute", *this)
    scene.json("resume", "--execute", "--channel", "b")
    assert scene.replica.sql(kept)


def test_somebody_says_start(scene: Scene) -> None:
    """A backup's end or an orchestrator while frozen and while forwarded: held, it does nothing; else it is told."""
    before = scene.blunder("truncate")
    scene.json("freeze")
    if scene.mariadb:
        scene.replica.start_sql()
    else:
        dump = f"mysqldump -h replica -uroot -p{ROOT_PASSWORD} --dump-replica=2 --single-transaction other > /dev/null"
        code, said = scene.replica.container.exec_run(["bash", "-c", dump])
        assert code == 0, said
        assert scene.replica.threads()[1] == "Yes"
    status = scene.json("status")
    if scene.mariadb:
        assert status["phase"] == "normal"
        assert "somebody has started it" in " ".join(status["reasons"])
    else:
        assert (status["phase"], status["held"]) == ("frozen", True)
    target = scene.target("--table", "app.orders")
    if scene.mariadb:
        assert "SQL thread runs" in scene.refused("forward", target, "--execute")
        scene.json("freeze")
    scene.rescued(before, "--table", "app.orders")
    scene.replica.start_all()
    time.sleep(1)
    assert scene.tables(scene.replica) == before
    scene.stands("forwarded", True)
    assert scene.json("forward", target, "--execute")["done"] == []


def meanwhile(scene: Scene, what: str, *command: str) -> str:
    """What a command says that plans, and before its first step, something happens: a statement of Python."""
    script = (
        "import subprocess, sys, time\n"
        "from check_delayed_repl.rescue import actions\n"
        "lock = actions.lock\n"
        "def late(*given):\n"
        f"    {what}\n"
        "    lock(*given)\n"
        "actions.lock = late\n"
        "from check_delayed_repl import tool\n"
        "sys.exit(tool.run(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", script, *scene.command(*command)[3:]]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False).stdout


def test_what_somebody_has_applied_since_the_plan_is_not_applied_again(scene: Scene) -> None:
    """Two operators at once: the place that the second one would set is one of before."""
    scene.source.sql("CREATE TABLE app.s (n INT) ENGINE=InnoDB", "INSERT INTO app.s VALUES (0)")
    scene.shorten()
    wait_until(lambda: scene.replica.value("SELECT n FROM app.s") == 0, 30, "it is there")
    scene.replica.set_delay(DELAY_S)
    scene.source.sql("SET SESSION binlog_format = 'STATEMENT'", "UPDATE app.s SET n = n + 1", MISTAKES["drop"])
    scene.fetched()
    scene.json("freeze")
    forward = ("forward", scene.find("--kind", "drop")[0]["target"], "--execute")
    said = meanwhile(scene, f"subprocess.run({scene.command(*forward)!r}, check=True)", *forward)
    assert "Refused, and nothing was changed:\n  - somebody has acted here meanwhile" in said, said
    assert scene.replica.value("SELECT n FROM app.s") == 1
    assert scene.json("status")["phase"] == "forwarded"


def test_a_resume_while_changes_are_being_applied(scene: Scene) -> None:
    """What is applied between the plan and the stop has moved the place."""
    if not scene.pins:
        pytest.skip("it names no place")
    scene.replica.set_delay(2)
    with scene.load():
        scene.more()
        said = meanwhile(scene, "time.sleep(2.5)", "resume", "--delay", "10", "--execute")
        assert "Replication goes on" in said, said
    scene.shorten()
    wait_until(lambda: scene.tables(scene.replica) == scene.tables(scene.source), 60, "all of it is applied, once")


def test_a_resume_that_fails_once_it_has_stopped_says_how_to_start(scene: Scene) -> None:
    if not scene.pins:
        pytest.skip("it stops but one thread, and right before the change")
    torn = "actions.Rescue._scanned = lambda *_: (_ for _ in ()).throw(actions.Refused(1, 'torn'))"
    said = meanwhile(scene, torn, "resume", "--delay", "60", "--execute")
    assert scene.replica.threads() == ("No", "No")
    assert "torn" in said
    assert "STANDS STILL" in said
    assert scene.paste(said).code == 0
    assert scene.replica.threads() == ("Yes", "Yes")
    assert int(scene.status()["SQL_Delay"]) == 60


def test_a_resume_leaves_nothing_stopped_for_an_error_of_right_before_its_stop(scene: Scene) -> None:
    """Only a start takes such an error away."""
    if not scene.pins:
        pytest.skip("it stops but one thread, and right before the change")
    scene.source.sql("CREATE TABLE app.u (n INT PRIMARY KEY)")
    scene.shorten()
    scene.equal()
    wait_until(lambda: scene.replica.value("SELECT COUNT(*) FROM app.u") == 0, 30, "it is there")
    scene.replica.sql("SET SESSION sql_log_bin = 0", "INSERT INTO app.u VALUES (1)")
    scene.replica.set_delay(4)
    scene.source.sql("INSERT INTO app.u VALUES (1)")
    slow = "save = actions.Record.save; actions.Record.save = lambda *given: (time.sleep(3), save(*given))"
    said = meanwhile(scene, slow, "resume", "--delay", "50", "--execute")
    assert "an SQL error is pending (error 1062)" in said
    assert scene.replica.threads() == ("Yes", "Yes")
    assert int(scene.status()["SQL_Delay"]) == 50


@pytest.mark.parametrize("fetching", [True, pytest.param(False, marks=pytest.mark.long)])
def test_an_sql_error_that_has_been_mended(scene: Scene, fetching: bool) -> None:
    """Only a start takes it away, and is not to apply what waits behind it."""
    if fetching and not scene.mariadb:
        pytest.skip("the hold takes it away")
    scene.replica.set_delay(2)
    scene.source.sql("CREATE TABLE app.u (n INT PRIMARY KEY)")
    wait_until(lambda: scene.replica.sql("SHOW TABLES FROM app LIKE 'u'"), 30, "it is there")
    scene.replica.unlogged("INSERT INTO app.u VALUES (1)")
    scene.source.sql("INSERT INTO app.u VALUES (1)")
    before = scene.make(MISTAKES["drop"])
    wait_until(lambda: scene.replica.threads()[1] == "No", 30, "the SQL thread has stopped")
    if not fetching:
        scene.replica.stop_io()
    scene.json("freeze")
    target = scene.target("--kind", "drop")
    scene.replica.unlogged("DELETE FROM app.u")
    assert "an SQL error is pending" in scene.refused("resume", "--execute")
    refused = scene.json("forward", target, "--execute", code=1)
    scene.replica.sql(refused["reasons"][0].split("applies nothing: ")[1])
    wait_until(lambda: scene.replica.threads()[1] == "No", 30, "it has stopped again")
    assert scene.replica.value("SELECT COUNT(*) FROM app.u") == 0
    assert scene.paste(refused["next"]).code == 0
    assert scene.tables(scene.replica) == before
    assert scene.replica.value("SELECT COUNT(*) FROM app.u") == 1
    scene.stands("forwarded", True)
    assert scene.json("resume", "--execute", "--delay", "1")["phase"] == "resumed"
    wait_until(lambda: "app.orders" not in scene.tables(scene.replica), 30, "the rest is applied")


@pytest.mark.long
def test_a_gap_that_appliers_have_left(scene: Scene) -> None:
    """Without GTIDs, what waits behind the oldest may have been applied: that is no "In time"."""
    if scene.mariadb or scene.replica.gtid:
        pytest.skip("there it is known what has been applied")
    source, replica = scene.source, scene.replica
    replica.sql(
        *("STOP REPLICA SQL_THREAD", "SET PERSIST replica_preserve_commit_order = OFF"),
        *("SET PERSIST_ONLY skip_replica_start = ON", "START REPLICA SQL_THREAD"),
    )
    scene.shorten()
    # Behind the first ones of all, they are applied side by side.
    source.sql("UPDATE app.stock SET n = -1 WHERE id = 8", "DELETE FROM app.lines WHERE id = 10")
    scene.equal()
    with replica.session() as locks:
        locks("BEGIN")
        locks("SELECT * FROM app.stock WHERE id = 7 FOR UPDATE")
        source.sql("UPDATE app.stock SET n = -1 WHERE id = 7", "DELETE FROM app.lines WHERE id < 9")
        wait_until(lambda: scene.tables(replica)["app.lines"][0] < 199, 5, "it is applied before the older one")
        scene.fetched()
        replica.kill()
    replica.start()
    frozen = scene.run("freeze", "--table", "app.lines")
    assert "Whether it is too late cannot be told: delete of app.lines" in frozen.out, frozen
    assert "In time" not in frozen.out
    target = scene.target("--table", "app.lines")
    assert "with a gap" in scene.run("status").out
    replica.sql(scene.refused("forward", target, "--execute").split("do this again: ")[1])
    wait_until(lambda: replica.threads()[1] == "No", 30, "it is filled")
    assert "too late" in scene.refused("forward", target, "--execute")
    scene.equal()


@pytest.mark.long
def test_a_backup_that_starts_replication_at_its_end(scene: Scene) -> None:
    """One that began before the freeze: --safe-slave-backup starts the SQL thread that it has stopped."""
    if not scene.mariadb:
        pytest.skip("mariadb-backup")
    scene.replica.set_delay(3600)
    before = scene.tables(scene.source)
    scene.source.sql(MISTAKES["drop"])
    container = scene.replica.container
    backup = (
        f"mariadb-backup --backup --safe-slave-backup --throttle=20 --target-dir=/tmp/backup -uroot -p{ROOT_PASSWORD}"
    )
    container.exec_run(["bash", "-c", f"{backup} & echo $! > /tmp/backup.pid; wait; rm -r /tmp/backup"], detach=True)
    wait_until(lambda: scene.replica.threads()[1] == "No", 30, "the backup has stopped it", interval_s=0.02)
    container.exec_run(["bash", "-c", "kill -STOP $(cat /tmp/backup.pid)"])
    assert scene.json("freeze")["phase"] == "frozen"
    container.exec_run(["bash", "-c", "kill -CONT $(cat /tmp/backup.pid)"])
    wait_until(lambda: scene.replica.threads()[1] == "Yes", 60, "the backup has started it")
    status = scene.json("status")
    assert "somebody has started it" in " ".join(status["reasons"])
    assert scene.paste(status["next"]).code == 0
    scene.rescued(before, "--kind", "drop")


def test_what_cannot_be_a_target(scene: Scene) -> None:
    scene.source.sql("INSERT INTO app.stock (v, n) VALUES ('x', 1)", MISTAKES["drop"])
    scene.json("freeze")
    drop = scene.find("--kind", "drop")[0]
    file, _, pos = drop["source_position"].rpartition(":")
    tables = scene.tables(scene.replica)
    absent = drop["gtid"][:-1] + "99999" if drop["gtid"] else f"{file}:{int(pos) + 1}"
    for target in (absent, f"{file}:{int(pos) + 1}", f"{file}:99999999"):
        refused = scene.json("forward", target, "--execute", code=1)
        assert (refused["phase"], refused["done"]) == ("frozen", [])
        assert "does not wait" in " ".join(refused["reasons"])
    late = [f"{file}:4"]
    if drop["gtid"]:
        late.append(
            drop["gtid"].rpartition(":" if ":" in drop["gtid"] else "-")[0] + (":1" if ":" in drop["gtid"] else "-1")
        )
    for target in late:
        assert "too late" in scene.refused("forward", target, "--execute")
    assert scene.tables(scene.replica) == tables
    assert scene.run("forward", "nonsense").code == 3
    assert scene.run("forward").code == 3


def test_a_source_that_is_gone_and_an_io_thread_that_gave_up(scene: Scene) -> None:
    """CHANGE with both threads stopped would throw away what waits; with the source gone that would be for ever."""
    before = scene.blunder("drop")
    scene.lose_source()
    scene.replica.stop_io()
    scene.json("freeze")
    waiting = [one["target"] for one in scene.find("--all", "--limit", "0")]
    target = scene.rescued(before, "--kind", "drop")
    left = [one["target"] for one in scene.find("--all", "--limit", "0")]
    assert left == sorted(set(waiting) & set(left), key=left.index)
    assert target in left
    assert scene.json("resume", "--execute", "--delay", "1")["phase"] == "resumed"
    wait_until(lambda: "app.orders" not in scene.tables(scene.replica), 30, "the rest is applied")


def test_a_source_that_has_lost_its_logs(scene: Scene) -> None:
    """The IO thread stops with an error; what waits here is kept all the same."""
    if scene.mariadb:
        pytest.skip("its statements name the place anyway")
    before = scene.tables(scene.source)
    scene.source.sql(MISTAKES["drop"], "INSERT INTO app.stock (v, n) VALUES ('x', 1)")
    scene.fetched()
    scene.replica.stop_io()
    scene.source.sql("RESET BINARY LOGS AND GTIDS")
    scene.replica.start_io()
    wait_until(lambda: scene.replica.threads()[0] == "No", 30, "the IO thread has stopped")
    assert scene.json("freeze")["held"] is False
    scene.rescued(before, "--kind", "drop")
    assert scene.json("resume", "--execute", "--delay", "1")["phase"] == "resumed"
    wait_until(lambda: "app.orders" not in scene.tables(scene.replica), 30, "the rest is applied")
    assert scene.tables(scene.replica)["app.stock"] == scene.tables(scene.source)["app.stock"]
