"""What a rescue meets beside the plain case: nothing is lost, and the truth is said."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pymysql
import pytest

from .rescuing import DELAY_S, HELD_S, MISTAKES, TABLES, Scene, pair_for_rescues, ran
from .servers import ROOT_PASSWORD, Family, Kit, Pair, literal, wait_until
from .test_rescue import scene

__all__ = ["scene"]


@pytest.fixture(scope="module", params=["gtid", pytest.param("pos", marks=pytest.mark.long)])
def rescue_pair(request: pytest.FixtureRequest, kit: Kit, family: Family) -> Iterator[Pair]:
    made = pair_for_rescues(kit, family, request.param == "gtid")
    yield made
    made.close()


RESCUER = ("rescuer", "rescuer-secret")


def test_a_dry_run_and_a_plan_write_nothing(scene: Scene) -> None:
    scene.source.sql(MISTAKES["drop"], "CREATE USER hb@localhost IDENTIFIED BY 'hb-secret'", "DROP USER hb@localhost")
    scene.fetched()
    scene.replica.sql("SET GLOBAL log_output = 'TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log = 1")
    assert scene.json("freeze", "--dry-run")["done"] == []
    scene.run("ready")
    everything = scene.run("find", "--all", "--limit", "0")
    scene.json("status")
    target = scene.target("--kind", "drop", "--table", "app.orders")
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
    ready = scene.run("ready")
    assert (ready.code, "must be a folder of mode 0700" in ready.out) == (1, True), ready
    frozen = scene.json("freeze")
    assert (frozen["phase"], frozen["held"]) == ("frozen", not scene.pins)
    assert "the delay was 90 s" in " ".join(frozen["reasons"])
    ((job, status),) = scene.jobs().items()
    assert status == "running"
    assert f"{job} is the job to finish" in " ".join(frozen["reasons"])
    assert scene.replica.threads()[1] == "No"
    scene.state_folder.chmod(0o700)
    scene.json("freeze")
    target = scene.target("--kind", "drop")
    (path,) = scene.state_folder.glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"delay": "1; DROP TABLE app.stock"}))
    for command in (("forward", target, "--execute"), ("resume", "--execute")):
        assert "somebody has changed it" in scene.refused(*command)
    assert "somebody has changed it" in " ".join(scene.json("status")["reasons"])
    path.unlink()
    refused = scene.json("resume", "--execute", code=1)
    if not scene.mariadb:  # held
        assert "--delay" in " ".join(refused["reasons"])
    assert scene.json("resume", "--execute", "--delay", "90")["phase"] == "resumed"


@pytest.mark.long
def test_a_forward_that_fails_halfway_is_held_where_it_stands(scene: Scene) -> None:
    """Its record cannot be written any more; a row is missing; its terminal is gone."""
    row = "id = 7"
    scene.source.sql(f"UPDATE app.stock SET n = 0 WHERE {row}", "INSERT INTO app.stock (v, n) VALUES ('x', 1)")
    before = scene.make(MISTAKES["drop"])
    scene.fetched()
    (saved,) = scene.replica.sql(f"SELECT id, v, n FROM app.stock WHERE {row}")
    scene.replica.unlogged(f"DELETE FROM app.stock WHERE {row}")
    scene.json("freeze")
    target = scene.target("--kind", "drop")
    failed = scene.json("forward", target, "--execute", code=1)
    assert (failed["phase"], failed["held"]) == ("forwarding", True), failed
    assert "1032" in " ".join(failed["reasons"])
    assert int(scene.status()["SQL_Delay"]) == HELD_S
    scene.replica.unlogged(f"INSERT INTO app.stock VALUES ({saved[0]}, {literal(saved[1])}, {saved[2]})")
    # The reader of what goes on and the disk of the record are lost right behind the first statement.
    lost = (
        "import os, signal, sys\n"
        "from check_delayed_repl.rescue import record, run\n"
        "ask = run.Session.ask\n"
        "def lose(self, sql, *more, **others):\n"
        "    if sql.startswith('START '):\n"
        "        os.close(terminal)\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "        record.os.fsync = full\n"
        "    return ask(self, sql, *more, **others)\n"
        "def full(_):\n"
        "    raise OSError(28, 'No space left on device')\n"
        "terminal, inside = os.openpty()\n"
        "os.dup2(inside, 2)\n"
        "os.close(inside)\n"
        "run.Session.ask = lose\n"
        "from check_delayed_repl import tool\n"
        "sys.exit(tool.run(sys.argv[1:]))\n"
    )
    done = ran([sys.executable, "-c", lost, *scene.command("forward", target, "--execute")[3:]])
    assert done.code == 0, done
    assert "the record cannot be kept any more: " in done.out
    scene.stands("forwarded", True)
    assert scene.tables(scene.replica) == before


@pytest.mark.long
def test_a_forward_whose_connection_is_ended_says_that_nothing_holds(scene: Scene) -> None:
    scene.source.sql("INSERT INTO app.stock (v, n) VALUES ('x', 1)")
    before = scene.make(MISTAKES["drop"])
    scene.fetched()
    scene.json("freeze")
    target = scene.target("--kind", "drop")
    with scene.replica.session() as locks:
        locks("LOCK TABLES app.stock WRITE")
        forward = scene.start("forward", target, "--execute")
        wait_until(lambda: scene.status()["Until_Condition"] == "Relay", 60, "the server rolls forward")
        ours = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'root' AND ID NOT IN (CONNECTION_ID(), {})"
        for (number,) in scene.replica.sql(ours.format(locks("SELECT CONNECTION_ID()")[0][0])):
            with suppress(pymysql.err.MySQLError):  # it is gone already
                scene.replica.sql(f"KILL {number}")
        said, _ = forward.communicate(timeout=60)
        assert (forward.returncode, "NOT HELD: any START" in said) == (1, True), said
    wait_until(lambda: scene.replica.threads()[1] == "No", 60, "the server has stopped in front of the target")
    assert scene.rescued(before, "--kind", "drop") == target


def test_every_command_that_is_printed_can_be_pasted(scene: Scene) -> None:
    """From ready to the end, on one of two channels, with a table whose name is none for a shell."""
    replica, source, table = scene.replica, scene.source, "app.it's `a` $(touch x) näme"
    sql = "app.`it's ``a`` $(touch x) näme`"
    source.sql(f"CREATE TABLE {sql} (i INT PRIMARY KEY)", f"INSERT INTO {sql} VALUES (1)")
    replica.forget_replication()
    replica.drop_databases()
    replica.replicate_from(source, 0, "o'ne")
    scene.equal()
    replica.set_delay(DELAY_S, "o'ne")
    wait_until(lambda: replica.threads("o'ne") == ("Yes", "Yes"), 20, "both threads run")
    if scene.mariadb:
        replica.sql("CHANGE MASTER 'two' TO MASTER_HOST='nowhere', MASTER_USER='x'", "START SLAVE 'two' SQL_THREAD")
    else:
        replica.sql("CHANGE REPLICATION SOURCE TO SOURCE_HOST='nowhere', SOURCE_USER='x' FOR CHANNEL 'two'")
        replica.sql("START REPLICA SQL_THREAD FOR CHANNEL 'two'")
    source.sql(f"INSERT INTO {sql} VALUES (2)", f"DROP TABLE {sql}")
    replica.wait_fetched(source, "o'ne")
    refused = scene.run("ready")
    assert refused.code == 1
    assert refused.out.count("delayed-repl rescue ready ") == 2
    for command in (("find",), ("forward", "0-1-9", "--execute"), ("resume", "--execute")):
        assert "there are 2 channels" in scene.refused(*command)
    frozen = scene.run("freeze", "--table", table)
    assert f"In time: drop of {table} waits" in frozen.out
    assert [replica.threads(name)[1] for name in ("o'ne", "two")] == ["No", "No"]
    assert scene.json("freeze", "--channel", "TWO")["phase"] == "frozen", "a server takes any letter case"
    found = scene.paste(frozen.out.partition("--channel two")[0].rpartition("\n")[0])
    assert f"  drop  {table}" in found.out, found
    planned = scene.paste(found.out)
    assert "START " in planned.out, planned
    done = scene.paste(planned.out)
    assert "held there" in done.out, done
    assert "foreign keys" in done.out
    assert replica.value(f"SELECT COUNT(*) FROM {sql}") == 2
    again = scene.paste(scene.run("status", "--channel", "o'ne", "--table", table).out)
    (dump,) = [line for line in done.out.splitlines() if "dump --host=" in line]
    code, output = replica.container.exec_run(["bash", "-c", f"cd /tmp; {scene.inside(dump)}"])
    assert code == 0, output
    assert source.value(f"SELECT COUNT(*) FROM {sql.replace('app', 'app_rescue')}") == 2
    assert "will be applied here" in again.out, again
    resumed = scene.paste(again.out)
    assert "Replication goes on" in resumed.out, resumed
    assert int(replica.status("o'ne")["SQL_Delay"]) == DELAY_S


def test_a_skip_by_hand_is_understood(scene: Scene) -> None:
    scene.history.touch()
    scene.source.sql(MISTAKES["drop"], "INSERT INTO app.stock (v, n) VALUES ('x', 1)")
    scene.json("freeze")
    assert [*scene.jobs().values()] == ["running"]
    target = scene.target("--kind", "drop")
    assert "RESET" not in scene.run("status").out
    with scene.replica.session() as other:
        other("SELECT GET_LOCK('check_delayed_repl.rescue.', 0)")
        refused = scene.json("forward", target, "--execute", code=1)
        assert re.search(r"another rescue acts here: connection \d+, root from", " ".join(refused["reasons"]))
        assert scene.json("freeze")["phase"] == "frozen"
    scene.history.unlink()
    scene.history.touch()
    scene.json("forward", target, "--execute")
    assert [*scene.jobs().values()] == ["running"], "noted again"
    scene.replica.sql(*scene.by_hand("To go on without"))
    status = scene.stands("frozen", True)
    assert "skipped by hand" in status["reasons"]
    assert "\n" not in status["next"]
    assert "too late" in scene.refused("forward", target, "--execute")
    assert "skipped by hand" in scene.paste(status["next"]).out
    scene.source.sql("DELETE FROM app.lines")
    scene.fetched()
    scene.json("freeze")
    assert " rescue find " in scene.json("status")["next"], "whoever freezes again fears for something else"
    assert scene.json("resume", "--execute", "--delay", "1")["phase"] == "resumed"
    wait_until(
        lambda: scene.tables(scene.replica)["app.stock"] == scene.tables(scene.source)["app.stock"], 30, "the rest"
    )
    assert "app.orders" in scene.tables(scene.replica)
    assert scene.replica.threads() == ("Yes", "Yes")
    assert [*scene.jobs().values()] == ["finished"]


def test_a_change_and_a_reset_by_hand(scene: Scene) -> None:
    """What waited is thrown away; it is said, and fetched again before anything goes on."""
    replica, word = scene.replica, "SLAVE" if scene.mariadb else "REPLICA"
    scene.source.sql(MISTAKES["drop"], "INSERT INTO app.stock (v, n) VALUES ('x', 1)")
    scene.fetched()
    scene.json("freeze")
    scene.json("forward", scene.target("--kind", "drop"), "--execute")
    change = "CHANGE MASTER TO MASTER_DELAY = 3" if scene.mariadb else "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 3"
    for spoil in (change, f"RESET {word}"):
        replica.sql(f"STOP {word}", spoil)
        reasons = " ".join(scene.json("status")["reasons"])
        if again := re.search(
            r"CHANGE \w+(?: SOURCE)? TO \w+_LOG_FILE = '.*?', \w+_LOG_POS = \d+(?:, MASTER_USE_GTID = no)?", reasons
        ):
            assert scene.json("resume", "--execute", code=1)["done"] == []
            replica.sql(again[0])
        else:
            assert re.search("thrown away|fetched again", reasons), reasons
    resumed = scene.json("resume", "--execute", "--delay", "2")
    assert resumed["phase"] == "resumed"
    scene.equal()
    assert replica.threads() == ("Yes", "Yes")
    replica.sql(f"STOP {word}")
    scene.json("freeze")
    replica.sql(f"RESET {word} ALL")
    status = scene.json("status")
    assert "what waited here is gone" in " ".join(status["reasons"])
    assert "The rescue is over" in scene.paste(status["next"]).out


@pytest.mark.long
def test_a_promotion_leaves_nothing_behind_unsaid(scene: Scene) -> None:
    """What a forward has persisted would keep whatever replicates here later from starting."""
    if scene.mariadb:
        pytest.skip("it has nothing to persist")
    scene.source.sql("INSERT INTO app.stock (v, n) VALUES ('x', 1)", MISTAKES["drop"])
    scene.fetched()
    scene.json("freeze")
    scene.json("forward", scene.target("--kind", "drop"), "--execute")
    scene.replica.sql("STOP REPLICA", "RESET REPLICA ALL")
    (reason,) = scene.json("resume", "--execute")["reasons"]
    scene.replica.sql(reason.split("takes it back: ")[1])
    assert not scene.replica.sql("SELECT * FROM performance_schema.persisted_variables")


def test_a_freeze_whose_reader_is_gone_and_a_relay_log_that_is_torn(scene: Scene) -> None:
    replica = scene.replica
    before = scene.tables(scene.source)
    scene.source.sql(MISTAKES["drop"], "INSERT INTO app.stock (v, n) VALUES ('x', 1)")
    scene.fetched()
    freeze = scene.start("freeze")
    assert freeze.stdout is not None
    freeze.stdout.close()
    freeze.wait(30)
    scene.stands("frozen", not scene.mariadb)
    assert "begun" in scene.run("status").out, "it is recorded"
    replica.sql("FLUSH RELAY LOGS")
    torn = 'cd /var/lib/mysql; : > "$(ls relay.0* | tail -n 1)"'
    replica.container.exec_run(["bash", "-c", torn])
    assert "NOT ALL OF IT: relay.0" in scene.run("find").out
    scene.rescued(before, "--kind", "drop")


def test_transactions_of_every_kind(scene: Scene) -> None:
    """Compressed ones, one that spans relay log files, XA, tagged GTIDs, several tables and databases at once."""
    source, random = scene.source, "(SELECT GROUP_CONCAT(RAND(), RAND() SEPARATOR '') FROM app.orders)"
    compress, tag = "SET GLOBAL log_bin_compress = ON", "DO 0"
    if not scene.mariadb:
        compress = "SET SESSION binlog_transaction_compression = ON"
        tag = "SET GTID_NEXT = 'AUTOMATIC:rescue'" if source.gtid else tag
    source.sql(
        *(compress, "SET SESSION group_concat_max_len = 1000000"),
        *("CREATE TABLE app.big (v LONGTEXT)", "BEGIN", *[f"INSERT INTO app.big VALUES ({random})"] * 150, "COMMIT"),
        *("XA START 'x'", "DELETE FROM app.stock", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"),
    )
    tables = (*TABLES, "app.big")
    before = scene.tables(source, tables)
    source.sql(tag, "DELETE FROM app.lines WHERE id < 50", "DROP TABLE app.stock, app.lines", "DROP DATABASE other")
    source.sql(compress.replace("= ON", "= OFF"), "SET SESSION sql_log_bin = 0", "DROP TABLE app.big")
    scene.fetched()
    scene.json("freeze")
    several, everything = scene.find("--kind", "drop")
    assert (several["tables"], everything["tables"]) == (["app.stock", "app.lines"], ["other.*"])
    (lines,) = scene.find("--table", "app.lines", "--kind", "delete")
    (big,) = scene.find("--table", "app.big", "--kind", "insert", "--all")
    assert big["events"] > 300
    assert ":rescue:" in lines["target"] or scene.mariadb or not source.gtid
    assert scene.json("forward", lines["target"], "--execute")["phase"] == "forwarded"
    assert scene.tables(scene.replica, tables) == before
    assert before["app.stock"] == (0, 0)


def test_a_freeze_that_something_undoes_again_and_again(scene: Scene) -> None:
    """As a backup's end does, or pt-slave-delay, or a restart: --keep stops it again every second."""
    scene.source.sql(MISTAKES["drop"])
    keeping = scene.start("freeze", "--keep")
    try:
        wait_until(lambda: scene.replica.threads()[1] == "No", 60, "it is frozen")
        time.sleep(1)
        if scene.mariadb:
            scene.replica.start_sql()
        else:  # another place in the relay log, and nothing applied
            scene.replica.restart()
        wait_until(lambda: scene.replica.threads()[1] == "No", 60, "it is frozen again")
        time.sleep(2)
    finally:
        keeping.send_signal(signal.SIGINT)
        said, _ = keeping.communicate(timeout=60)
    assert keeping.returncode == 0, said
    assert "stopped again" in said
    assert "CHANGES HAVE BEEN APPLIED" not in said


def test_an_account_of_its_own(scene: Scene) -> None:
    for right in scene.rescuer(RESCUER):
        scene.login = RESCUER
        scene.replica.unlogged(right)
    ready = scene.run("ready")
    assert ready.code == 0, ready
    assert "it needs SELECT there" in ready.out
    before = scene.blunder("delete")
    with scene.replica.session() as other:
        other("SELECT 1")
        said = scene.run("freeze").out
    assert "Connected too, whether they may start it is hidden from this account: root@" in said
    assert scene.json("freeze")["held"] is (not scene.mariadb)
    target = scene.target("--table", "app.orders")
    planned = scene.run("forward", target, "--table", "app.orders", "--verify").out
    assert "may not read app.orders: the dump and --verify need SELECT" in planned
    assert "And then COUNT and CHECKSUM TABLE of app.orders." in planned
    mistyped = scene.json("forward", target, "--execute", "--table", "app.ordres", code=1)
    assert "this account may not see whether it is here: did you mean app.orders?" in mistyped["reasons"][0]
    assert mistyped["done"] == []
    done = scene.json("forward", target, "--execute", "--table", "app.*", "--verify", code=1)
    assert (done["phase"], done["tables"]) == ("forwarded", [])
    assert "app.* is not verified" in done["reasons"][0]
    assert scene.tables(scene.replica) == before
    scene.login = ("root", ROOT_PASSWORD)
    done = scene.json("forward", target, "--execute", "--table", "app.*", "--verify")
    assert {one["name"]: (one["count"], one["checksum"]) for one in done["tables"]} == {
        name: before[name] for name in before if name.startswith("app.")
    }
    scene.login = RESCUER
    assert scene.json("resume", "--execute")["phase"] == "resumed"


def test_an_account_that_may_only_stop(scene: Scene) -> None:
    """It is stopped, recorded and held; what that could not do is said."""
    if scene.mariadb:
        pytest.skip("MariaDB rolls back by itself")
    scene.login = ("stopper", "stopper-secret")
    scene.replica.unlogged(
        "CREATE USER stopper@'%' IDENTIFIED BY 'stopper-secret'",
        "GRANT REPLICATION_SLAVE_ADMIN, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO stopper@'%'",
    )
    scene.source.sql(MISTAKES["drop"])
    frozen = scene.run("freeze")
    assert frozen.code == 0, frozen
    assert "it has been FINISHED, not rolled back: this account may not kill" in frozen.out
    assert "HELD: neither START nor a restart" in frozen.out


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
    assert not scene.history.exists()
    assert not scene.state_folder.exists()
    # Nor is it one of those who could start replication again.
    scene.login = ("root", ROOT_PASSWORD)
    with scene.replica.session("poor", "poor-secret") as poor, scene.replica.session() as root:
        poor("SELECT 1")
        root("SELECT 1")
        said = scene.run("freeze").out
        assert "Connected too, may start it: root@" in said
        assert "poor@" not in said


def test_times_and_a_statement_of_any_size(scene: Scene) -> None:
    """Two mistakes, told apart by their times; the statement of the first is larger than any usual answer."""
    before = scene.tables(scene.source)
    with scene.beating():
        scene.shorten()
        began = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        wait_until(lambda: scene.replica.value("SELECT MAX(ts) FROM percona.heartbeat") > began, 60, "one is applied")
        scene.replica.set_delay(DELAY_S)
        with scene.source.session() as run:
            if not scene.mariadb:
                run("SET SESSION binlog_rows_query_log_events = ON")
            run(f"DELETE FROM app.lines WHERE v <> '{'x' * (9 << 20)}'")
        time.sleep(10)
        between = time.time()
        time.sleep(10)
        scene.source.sql(MISTAKES["drop"])
        scene.fetched()
        scene.json("freeze")
        drop, delete = scene.find()
        assert (delete["kind"], delete["tables"]) == ("delete", ["app.lines"])
        assert delete["statement"].startswith("DELETE FROM app.lines WHERE v <> 'xxx")
        assert delete["bytes"] > 9 << 20
        assert [one["target"] for one in scene.find("--since", str(between))] == [drop["target"]]
        assert [one["target"] for one in scene.find("--until", str(between))] == [delete["target"]]
        assert scene.json("forward", "--before", str(between), "--execute")["phase"] == "forwarded"
        assert scene.tables(scene.replica) == before | {"app.lines": (0, 0)}
        assert [one["target"] for one in scene.find()] == [drop["target"]]
        assert "too late" in scene.json("freeze", "--before", str(between - 3600))["reasons"][0]
        assert scene.run("freeze", "--table", "app.never").out.startswith(
            "Perhaps too late, not fetched yet or mistyped"
        )
        assert "--table" not in scene.run("find", "--table", "app.stock").out.partition("everything that waits:")[2]
        assert scene.run("freeze", "--table", "app.stock").out.startswith("Perhaps too late, or not fetched yet")


def test_what_the_log_does_not_say_plainly(scene: Scene) -> None:
    """A statement in another character set, behind SET STATEMENT, of another table than its first one, by a key."""
    source = scene.source
    source.sql(
        "CREATE TABLE app.`bücher` (i INT PRIMARY KEY)",
        "CREATE TABLE app.parents (i INT PRIMARY KEY)",
        "CREATE TABLE app.children (p INT, FOREIGN KEY (p) REFERENCES app.parents (i) ON DELETE CASCADE)",
        "INSERT INTO app.parents VALUES (1)",
        "INSERT INTO app.children VALUES (1)",
    )
    scene.shorten()
    wait_until(lambda: scene.tables(scene.replica, ["app.children"]) != {}, 60, "the tables are here")
    scene.replica.set_delay(DELAY_S)
    with source.connect(charset="latin1", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE app.`bücher`")
        cursor.execute("DELETE FROM app.parents")
        cursor.execute("SET SESSION binlog_format = 'STATEMENT'")
        cursor.execute("UPDATE app.stock s JOIN app.orders o USING (id) SET o.v = ''")
        if scene.mariadb:
            cursor.execute("SET STATEMENT max_statement_time = 9 FOR TRUNCATE app.lines")
    scene.fetched()
    for table, said in (
        ("app.bücher", "Perhaps in time: truncate of app.b"),
        ("app.children", "In time: delete of app.parents"),
        ("app.orders", "In time: update of app.stock, app.orders"),
        *([("app.lines", "In time: truncate of app.lines")] if scene.mariadb else []),
    ):
        assert said in scene.run("freeze", "--table", table).out
        assert said.split()[-1].split(",")[0] in scene.run("find", "--table", table).out
    with scene.replica.session() as locks:
        locks("LOCK TABLES app.children WRITE")
        assert "In time: delete of app.parents" in scene.run("freeze", "--table", "app.children").out


@pytest.mark.long
def test_an_xa_commit_of_what_was_prepared_here_before(scene: Scene) -> None:
    """The rows are still there, and what it does nobody can tell from what waits."""
    scene.shorten()
    with scene.source.session() as run:
        for statement in ("XA START 'a'", "DELETE FROM app.orders", "XA END 'a'", "XA PREPARE 'a'"):
            run(statement)
        wait_until(lambda: scene.replica.sql("XA RECOVER") != [], 60, "it is prepared here")
        scene.replica.set_delay(DELAY_S)
        run("XA COMMIT 'a'")
    scene.fetched()
    assert "Perhaps in time: other of *.* waits" in scene.run("freeze", "--table", "app.orders").out
    said = scene.run("find", "--table", "app.orders").out
    assert "XA COMMIT X'61'" in said, said
    assert scene.replica.value("SELECT COUNT(*) FROM app.orders") == 200
    scene.json("resume", "--execute", "--delay", "1")
    wait_until(lambda: scene.replica.sql("XA RECOVER") == [], 60, "it is committed here")
    assert scene.replica.value("SELECT COUNT(*) FROM app.orders") == 0


def test_a_heartbeat_that_is_dead_tells_no_time(scene: Scene) -> None:
    last = time.time()
    time.sleep(6)
    scene.source.sql(MISTAKES["drop"])
    scene.fetched()
    said = scene.run("freeze", "--before", str(last + 3)).out
    assert said.startswith("Whether it is too late cannot be told"), said


def test_times_from_the_history(scene: Scene) -> None:
    """Where no heartbeat tells a time, the places do that were seen to be fetched."""
    user, password = scene.login
    check = [sys.executable, "-m", "check_delayed_repl", "-H", scene.replica.host, "-P", str(scene.replica.port)]
    check += ["-u", user, "-p", password, "--history", str(scene.history), "--replica", "replica"]
    made_at: list[float] = []
    for statement in (
        "INSERT INTO app.stock (v, n) VALUES ('x', 1)",
        MISTAKES["drop"],
        "INSERT INTO app.stock (v, n) VALUES ('y', 1)",
    ):
        subprocess.run(check, capture_output=True, timeout=60, check=False)
        made_at.append(time.time())
        scene.source.sql(statement)
        time.sleep(1)
    subprocess.run(check, capture_output=True, timeout=60, check=False)
    (drop,) = scene.find("--kind", "drop", "--heartbeat-table", "percona.none")
    assert drop["time"] is not None
    assert abs(drop["time"] - made_at[1]) <= drop["time_error"] + 1


def test_ready_asks_the_source_for_its_logs(scene: Scene) -> None:
    source = scene.source
    there = ("--source-host", source.host, "--source-port", str(source.port), "--source-user", "root")
    assert (
        "the source still has its binary logs from bin.000001"
        in scene.run("ready", *there, "--source-password", ROOT_PASSWORD).out
    )
    source.sql("INSERT INTO app.stock (v, n) VALUES ('x', 1)", "FLUSH BINARY LOGS")
    time.sleep(1)
    source.sql("PURGE BINARY LOGS TO 'bin.000002'")
    assert "exists here alone" in scene.run("ready", *there, "--source-password", ROOT_PASSWORD).out
    assert "is not known" in scene.run("ready", *there, "--source-password", "wrong").out


def joined(forward: subprocess.Popen[str]) -> None:
    """Waits until a forward says that one is on its way, which it waits for; nothing follows until that is done."""
    assert forward.stdout is not None
    said: list[str] = []
    while not said or "waiting for it" not in said[-1]:
        said.append(forward.stdout.readline())
        assert said[-1], said


def test_a_forward_that_is_interrupted_goes_on_and_is_joined(scene: Scene) -> None:
    before = scene.blunder("delete")
    scene.json("freeze")
    target = scene.target("--table", "app.orders")
    with scene.replica.session() as locks:
        locks("LOCK TABLES app.stock WRITE")
        for number in (signal.SIGKILL, signal.SIGINT):
            forward = scene.start("forward", target, "--execute")
            wait_until(lambda: scene.status()["Until_Condition"] == "Relay", 20, "the server rolls forward")
            if number == signal.SIGINT:
                joined(forward)
            forward.send_signal(number)
            said, _ = forward.communicate(timeout=60)
            assert forward.returncode in (1, -9), said
            assert number == signal.SIGKILL or "the server has begun it goes on with" in said
            status = scene.json("status")
            assert (status["phase"], target in status["next"]) == ("forwarding", True)
        forward = scene.start("forward", target, "--execute")
        joined(forward)
    said, _ = forward.communicate(timeout=120)
    assert forward.returncode == 0, said
    assert scene.tables(scene.replica) == before
    scene.stands("forwarded", True)


@pytest.mark.long
def test_a_resume_without_a_record_ends_the_rescue_for_the_monitor(scene: Scene) -> None:
    scene.history.touch()
    scene.json("freeze")
    assert [*scene.jobs().values()] == ["running"]
    shutil.rmtree(scene.state_folder)
    assert scene.json("resume", "--execute", "--delay", "30")["phase"] == "resumed"
    assert set(scene.jobs().values()) == {"finished"}


def test_a_delay_that_is_set_when_the_rescue_is_over_or_that_somebody_has_set(scene: Scene) -> None:
    scene.history.touch()
    scene.json("freeze")
    scene.json("resume", "--execute")
    assert scene.json("resume", "--execute")["done"] == []
    for delay in (30, 40):
        done = scene.json("resume", "--execute", "--delay", str(delay))
        assert (done["phase"], int(scene.status()["SQL_Delay"])) == ("resumed", delay)
        assert set(scene.jobs().values()) == {"finished"}
        assert scene.json("resume", "--execute", "--delay", str(delay))["done"] == []
    scene.json("freeze")
    scene.replica.set_delay(50)  # by hand, as somebody who has never heard of the record
    since = "the delay was 40 s when this rescue began, and somebody has set it to 50 s since"
    assert since in " ".join(scene.json("status")["reasons"])
    assert since in scene.run("resume").out
    assert since in " ".join(scene.json("freeze")["reasons"])
    scene.json("resume", "--execute")
    assert int(scene.status()["SQL_Delay"]) == 50


@pytest.mark.long
def test_an_alter_that_comes_in_two_is_skipped_with_its_second_half(scene: Scene) -> None:
    if not scene.mariadb:
        pytest.skip("only MariaDB writes it so")
    scene.source.sql("SET binlog_alter_two_phase = ON", "ALTER TABLE app.orders DROP COLUMN n, ALGORITHM=COPY")
    scene.source.sql("INSERT INTO app.stock (v, n) VALUES ('behind it', 1)")
    wait_until(
        lambda: len(scene.find("--all", "--limit", "0")) == 3, 60, "both halves are fetched, and what comes then"
    )
    scene.json("freeze")
    (found,) = scene.find("--table", "app.orders")
    scene.json("forward", found["target"], "--execute")
    scene.replica.sql(*scene.by_hand("To go on without"))
    scene.json("resume", "--execute")
    scene.shorten()
    wait_until(lambda: scene.replica.value("SELECT COUNT(*) FROM app.stock") == 201, 60, "what comes behind is applied")
    assert scene.replica.sql("SHOW COLUMNS FROM app.orders LIKE 'n'")


def test_a_database_that_has_another_name_here(scene: Scene) -> None:
    """Whichever name is given: what waits has the source's, what is dumped this server's."""
    replica = scene.replica
    rewrite, none = "CHANGE REPLICATION FILTER REPLICATE_REWRITE_DB = ({})", ""
    pair = "(app, shop)"
    if scene.mariadb:
        rewrite, pair = "SET GLOBAL replicate_rewrite_db = '{}'", "app->shop"
    replica.unlogged("CREATE DATABASE shop", *(f"RENAME TABLE {t} TO shop.{t[4:]}" for t in TABLES if t[:4] == "app."))
    replica.unlogged("DROP DATABASE app")
    replica.stop_sql()
    replica.sql(rewrite.format(pair))
    replica.start_sql()
    try:
        scene.source.sql("USE app", "INSERT INTO orders (v, n) VALUES ('x', 1)")
        before = scene.tables(scene.source, ["app.orders"])["app.orders"]
        scene.source.sql("USE app", "DROP TABLE orders")
        scene.fetched()
        frozen = scene.run("freeze", "--table", "shop.orders")
        assert "In time: drop of app.orders waits" in frozen.out, frozen
        assert "other names here" in frozen.out
        (target,) = {scene.target("--kind", "drop", "--table", name) for name in ("app.orders", "shop.orders")}
        assert "Mistyped" not in scene.run("find", "--table", "app.lines").out
        done = scene.json("forward", target, "--execute", "--verify", "--table", "app.orders")
        assert done["tables"] == [{"name": "shop.orders", "count": before[0], "checksum": before[1]}]
        assert " shop orders " in done["dump"]
        replica.unlogged(*scene.rescuer(RESCUER))
        scene.login = RESCUER  # who may not read a table
        assert " shop orders " in scene.json("status", "--table", "app.orders")["dump"]
    finally:
        replica.stop_sql()
        replica.sql(rewrite.format(none))


def test_the_way_back_to_gtids(scene: Scene) -> None:
    """To the letter, as resume says it: nothing that waits is lost."""
    if not (scene.mariadb and scene.replica.gtid):
        pytest.skip("only MariaDB leaves GTIDs")
    scene.source.sql(MISTAKES["truncate"], "INSERT INTO app.stock (v, n) VALUES ('x', 1)")
    scene.fetched()
    scene.json("freeze")
    scene.json("forward", scene.target("--table", "app.orders"), "--execute")
    said = scene.run("resume", "--execute", "--delay", "4").out
    (steps,) = re.findall(r"only then: (STOP SLAVE; .*; START SLAVE)\.", said)
    scene.source.sql("INSERT INTO app.stock (v, n) VALUES ('fetched after it', 1)")
    scene.equal()
    assert scene.replica.value("SELECT @@gtid_slave_pos") == scene.source.value("SELECT @@gtid_binlog_pos")
    scene.source.sql("INSERT INTO app.stock (v, n) VALUES ('waits meanwhile', 1)")
    scene.fetched()
    scene.replica.sql(*steps.split("; "))
    status = scene.status()
    assert (status["Using_Gtid"], status["SQL_Delay"]) == ("Slave_Pos", 4)
    scene.source.sql("INSERT INTO app.stock (v, n) VALUES ('z', 1)")
    scene.equal()
    assert scene.replica.threads() == ("Yes", "Yes")


@pytest.mark.long
def test_a_freeze_with_pt_slave_delay_alive(scene: Scene) -> None:
    if not scene.mariadb:
        pytest.skip("pt-slave-delay does not work with it")
    scene.replica.set_delay(0)
    with scene.load():
        scene.pair.slave_delay.start()
        try:
            wait_until(lambda: scene.replica.threads()[1] == "No", 30, "pt-slave-delay delays")
            time.sleep(12)
            before = scene.make(MISTAKES["drop"])
            keeping = scene.start("freeze", "--keep")
            time.sleep(7)
        finally:
            scene.pair.slave_delay.stop()
        time.sleep(1.5)
        keeping.send_signal(signal.SIGINT)
        said, _ = keeping.communicate(timeout=20)
    assert keeping.returncode == 0, said
    assert "by its name a tool that may start replication" in said
    assert "slave_delay@" in said
    assert "somebody had started it" in said or "CHANGES HAVE BEEN APPLIED" in said
    assert scene.replica.threads()[1] == "No"
    scene.rescued(before, "--kind", "drop")


@pytest.mark.long
@pytest.mark.mysql
def test_a_relay_log_that_is_encrypted(kit: Kit, tmp_path: Path) -> None:
    """It is read by way of the server, which has the key."""
    pair = pair_for_rescues(kit, "mysql", True)
    try:
        container = pair.replica.container
        for path, text in (
            ("/usr/sbin/mysqld.my", '{"components": "file://component_keyring_file"}'),
            ("/usr/lib/mysql/plugin/component_keyring_file.cnf", '{"path": "/var/lib/mysql/keys", "read_only": false}'),
        ):
            container.exec_run(["bash", "-c", f"echo '{text}' > {path}"])
        pair.replica.restart()
        made = Scene(pair, tmp_path)
        made.set_up()
        made.replica.sql("SET GLOBAL binlog_encryption = ON")
        before = made.tables(made.source)
        made.source.sql(MISTAKES["drop"])
        wait_until(lambda: made.find("--kind", "drop"), 20, "it is fetched")
        beginning = 'cd /var/lib/mysql; head -c 4 "$(ls relay.0* | tail -n 1)"'
        assert container.exec_run(["bash", "-c", beginning])[1] == b"\xfdbin", "it is encrypted"
        made.json("freeze")
        made.rescued(before, "--kind", "drop")
    finally:
        pair.close()


@pytest.mark.long
def test_half_a_gigabyte(scene: Scene) -> None:
    """Found within ten seconds, with 100 MiB of memory, and never a lock of more than half a second."""
    source, replica = scene.source, scene.replica
    replica.set_delay(3600)
    replica.sql("SET GLOBAL max_relay_log_size = 1073741824")  # MariaDB takes 0 for 4096: a file for each transaction
    source.sql(
        "CREATE TABLE app.big (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT)",
        "CREATE PROCEDURE app.fill(n INT) WHILE n > 0 DO"
        " INSERT INTO app.big (v) VALUES (REPEAT('x', 5000)); SET n = n - 1; END WHILE",
    )
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: source.sql("CALL app.fill(25000)"), range(4)))
    source.sql(MISTAKES["drop"])
    wait_until(lambda: int(scene.status()["Relay_Log_Space"]) > 500e6, 120, "it is fetched")
    time.sleep(2)
    scene.json("freeze")
    took: list[float] = []
    found = threading.Event()

    def ask() -> None:
        with replica.session() as run:
            while not found.wait(0.01):
                began = time.monotonic()
                run("SHOW ALL SLAVES STATUS" if scene.mariadb else "SHOW REPLICA STATUS")
                took.append(time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    measured = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:]);"
        " used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        " print(used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)"
    )
    began = time.monotonic()
    command = [sys.executable, "-c", measured, *scene.command("find", "--table", "app.orders")]
    try:
        done = ran(command)
    finally:
        seconds = time.monotonic() - began
        found.set()
        asking.join()
        replica.sql("SET GLOBAL max_relay_log_size = 262144")
    said = done.out
    assert "drop  app.orders" in said, done
    cpu, memory = float(said.split()[-2]), int(said.split()[-1])
    print(f"{seconds:.1f} s, {cpu:.1f} s of CPU, {memory} MiB, {max(took):.2f} s at most for a status")
    # On a busy machine it takes longer, but not more of it.
    assert (cpu < 10, memory < 100, max(took) < 0.5) == (True, True, True)
