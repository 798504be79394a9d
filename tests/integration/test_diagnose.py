"""`delayed-repl diagnose` against real servers: what it says, and that what it proposes can be pasted there and loses
nothing of what waits in the relay log.

Where the environment variable CHECK_DELAYED_REPL_RECORDINGS names a folder, the screens are kept there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from check_delayed_repl.observe.dialect import Dialect, Place

from .checking import RECORDINGS_VARIABLE, SCALED, Scene, run, tool
from .matrix import Watched, on
from .servers import DELAY_S, ROOT_PASSWORD, Family, Kit, Pair, Server, wait_until

LONG_S = 600
"""A delay that lasts longer than the test."""
CHANGES = 20


def diagnosed(scene: Scene, *options: str) -> dict[str, Any]:
    """The diagnosis as JSON; the screen is kept."""
    where = [*scene.reaching(), *scene.named(), *SCALED, *options]
    shown = tool("diagnose", *where)
    found: dict[str, Any] = json.loads(tool("diagnose", *where, "--output", "json"))
    folder = os.environ.get(RECORDINGS_VARIABLE)
    if folder:
        name = f"{scene.title}-{scene.pair.family}-{found['condition']}.txt"
        (Path(folder) / name).write_text(shown)
    assert max(map(len, shown.splitlines()[:15])) <= 80
    return found


def proposed(found: dict[str, Any]) -> list[str]:
    """The statements that are proposed, in their order."""
    commands = [c for finding in found["findings"] for step in finding["next"] for c in step["commands"]]
    return [command for command in commands if command.endswith((";", "\\G"))]


def pasted(replica: Server, found: dict[str, Any]) -> list[str]:
    """Runs every statement that is proposed, as a client would; returns them."""
    statements = proposed(found)
    replica.sql(*(statement.removesuffix(";").removesuffix("\\G") for statement in statements))
    return statements


def test_a_healthy_replica_without_any_history(scene: Scene) -> None:
    found = json.loads(tool("diagnose", *scene.reaching(), *SCALED, "--for", "5s", "--output", "json"))
    assert (found["state"], found["condition"]) == ("OK", "in-range")
    assert found["certainty"]["low"] <= found["trend"]["slope"] <= found["certainty"]["high"]
    assert ("MariaDB" in found["server"]["version"]) == (scene.pair.kind == "mariadb")
    assert DELAY_S - 2 <= found["protected"]["applied"] - found["at"] <= DELAY_S + 3
    assert found["freeze"].startswith("delayed-repl rescue freeze --defaults-file=")
    assert not Path(scene.history).exists()


def test_watching_a_stopped_thread_that_is_started_by_what_is_proposed(scene: Scene) -> None:
    with scene.worker():
        scene.expect("OK", "in-range", 20)
        where = [*scene.reaching(), *scene.named(), *SCALED]
        frames = tool("watch", *where, "--interval", "1", "--count", "2")
        assert frames.count(" OK  in-range") == frames.count("Delay of the last") == 2
        for thread, stop in (("sql", scene.pair.replica.stop_sql), ("io", scene.pair.replica.stop_io)):
            stop()
            scene.expect("CRITICAL", f"{thread}-stopped", 10)
            found = diagnosed(scene)
            assert found["condition"] == f"{thread}-stopped"
            if thread == "sql":
                assert found["protected"]["applied"] is None
            pasted(scene.pair.replica, found)
            wait_until(lambda: scene.pair.replica.threads() == ("Yes", "Yes"), 10, "both threads run")


# --- nothing is lost


class Line:
    """A replica with changes that wait for a long delay, and a history that has seen it healthy."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair, self.replica = pair, pair.replica
        history = str(folder / "history.db")
        self.options = [
            *("-H", self.replica.host, "-P", str(self.replica.port), "-u", "root", "-p", ROOT_PASSWORD),
            *("--no-local-heartbeat", "--history", history, "--replica", "orders", "--delay", str(LONG_S)),
        ]
        table = "CREATE TABLE percona.heartbeat (ts VARCHAR(26) NOT NULL, server_id INT UNSIGNED PRIMARY KEY)"
        self.replica.unlogged("CREATE DATABASE percona", table)
        run("check_delayed_repl", *self.options)
        pair.source.sql("CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)")
        pair.source.sql(*(f"INSERT INTO app.t VALUES ({number})" for number in range(CHANGES)))
        wait_until(lambda: self.waiting() == CHANGES, 20, "the changes wait in the relay log")

    def diagnosed(self) -> dict[str, Any]:
        """The pair has no heartbeats, so that a sample fails once it has seen the status."""
        found: dict[str, Any] = json.loads(tool("diagnose", *self.options, "--output", "json"))
        return found

    def waiting(self) -> int:
        """How many of the changes are in the relay log, all of whose files are read."""
        status = self.replica.status()
        base, _, number = str(status["Relay_Log_File"]).rpartition(".")
        found = 0
        for place in range(int(number), int(number) + 20):
            try:
                rows = self.replica.rows(f"SHOW RELAYLOG EVENTS IN '{base}.{place:0{len(number)}}'")
            except pymysql.MySQLError:
                break
            found += sum("(app.t)" in str(row["Info"]) for row in rows if row["Event_type"] == "Table_map")
        return found

    def lose_delay(self) -> None:
        """The delay is set to 0 with the SQL thread stopped, and what waits is kept: the test's own part."""
        self.replica.stop_sql()
        dialect = Dialect(str(self.replica.value("SELECT VERSION()")))
        status = self.replica.status()
        gtid = status.get("Auto_Position") in (1, "1")
        place = Place(status["Relay_Log_File"], int(status["Relay_Log_Pos"]), gtid)
        *statements, _ = dialect.set_delay(0, place)
        self.replica.sql(*statements)
        if dialect.mariadb and self.replica.gtid:
            # As an administrator would do it who knows how: back to GTID with the IO thread's place forgotten.
            self.replica.sql("CHANGE MASTER TO MASTER_USE_GTID = slave_pos", "START SLAVE IO_THREAD")
        else:
            self.replica.start_io()
        wait_until(lambda: self.waiting() == CHANGES, 20, "the changes wait again")


@pytest.fixture(
    params=[
        pytest.param((True, "alive"), id="gtid-alive", marks=pytest.mark.long),
        pytest.param((True, "dead"), id="gtid-dead", marks=pytest.mark.essential("mariadb")),
        pytest.param((False, "alive"), id="pos-alive", marks=pytest.mark.long),
        pytest.param((False, "dead"), id="pos-dead", marks=pytest.mark.long),
    ]
)
def lined(kit: Kit, fault_family: Family, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Line]:
    gtid, source = request.param
    made = kit.pair(fault_family, delay=LONG_S, gtid=gtid, heartbeats=False)
    line = Line(made, tmp_path)
    line.lose_delay()
    if source == "dead":
        made.source.kill()
    yield line
    made.close()


def test_a_lost_delay_is_set_again_and_stopped_threads_start_and_nothing_that_waits_is_lost(lined: Line) -> None:
    replica = lined.replica
    found = lined.diagnosed()
    assert found["findings"][0]["condition"] == "delay-setting-lost"
    statements = pasted(replica, found)
    assert any(f"DELAY = {LONG_S}" in statement for statement in statements)
    assert replica.status()["SQL_Delay"] == LONG_S
    assert replica.threads()[1] == "Yes"
    assert replica.threads()[0] in ("Yes", "Connecting")
    assert lined.waiting() == CHANGES
    assert not replica.sql("SHOW DATABASES LIKE 'app'"), "nothing has been applied"

    # The same with both threads stopped, and the delay as it should be.
    replica.stop_all()
    found = lined.diagnosed()
    conditions = {finding["condition"] for finding in found["findings"]}
    assert "sql-stopped" in conditions
    assert conditions & {"io-stopped", "io-error"}
    pasted(replica, found)
    wait_until(lambda: replica.threads()[1] == "Yes" and replica.threads()[0] != "No", 10, "both threads run")
    assert replica.status()["SQL_Delay"] == LONG_S
    assert lined.waiting() == CHANGES
    assert not replica.sql("SHOW DATABASES LIKE 'app'"), "nothing has been applied"


@on("mariadb", "mysql56", "mariadb118")
@pytest.mark.long
def test_a_pt_slave_delay_that_has_died_is_named(external: Watched) -> None:
    scene, wide = external, ("--max-delay-time", "22")
    external.pair.slave_delay.terminate()  # which lets the SQL thread run
    scene.expect("CRITICAL", "delay-out-of-bounds", 60, *wide)

    def named() -> dict[str, Any] | None:
        found = diagnosed(scene, *wide)
        return found if found["now"] and "pt-slave-delay" in found["now"]["text"] else None

    found = wait_until(named, 30, "diagnose names pt-slave-delay")
    assert any(step["commands"][:1] == ["pgrep -af pt-slave-delay"] for step in found["findings"][0]["next"])
    pasted(external.replica, found)
    assert external.replica.threads()[1] == "No", "what is left of the line stays"
