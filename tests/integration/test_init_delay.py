"""The delay that `delayed-repl init` has set on a replica without one: nothing that waits is fetched again or lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from check_delayed_repl.tool import run

from .conftest import EVERY_FAMILY
from .servers import ROOT_PASSWORD, Family, Kit, wait_until

DELAY_S = 6
EVERY_PAIR = [
    pytest.param(family, gtid, marks=[getattr(pytest.mark, family), pytest.mark.long], id=f"{family}-{how}")
    for family in EVERY_FAMILY
    for gtid, how in ((False, "position"), (True, "gtid"))
]


@pytest.mark.parametrize(("family", "gtid"), EVERY_PAIR)
def test_what_waits_is_kept(kit: Kit, family: Family, gtid: bool, tmp_path: Path) -> None:
    pair = kit.pair(family, delay=0, gtid=gtid, heartbeats=False)
    source, replica = pair.source, pair.replica
    count = "SELECT COUNT(*) FROM app.t"
    source.sql("CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, word VARCHAR(200)) ENGINE=InnoDB")
    wait_until(lambda: "app" in str(replica.sql("SHOW DATABASES")), 20, "the table is there")

    # What waits is in the relay log alone: the source has it no more.
    replica.stop_sql()
    source.sql(*(f"INSERT INTO app.t VALUES ({n}, REPEAT('x', 100))" for n in range(200)))
    source.sql("FLUSH LOGS")
    newest = source.rows("SHOW BINARY LOGS")[-1]["Log_name"]
    replica.wait_fetched(source)
    source.sql(f"PURGE BINARY LOGS TO '{newest}'")
    assert replica.value(count) == 0

    replica.read_only()
    there = [f"--source-{name}={value}" for name, value in (("host", source.host), ("port", source.port))]
    login = ["-H", replica.host, "-P", str(replica.port), "-u", "root", f"-p{ROOT_PASSWORD}"]
    folder = tmp_path / "setup"
    assert run(["init", *login, *there, "--delay", str(DELAY_S), "--to", str(folder)]) == 0
    login_file = f"[client]\nuser = root\npassword = {ROOT_PASSWORD}\nsocket = /run/mysqld/mysqld.sock\n"
    replica.put_files({"/root/.my.cnf": login_file}, mode=0o600)
    replica.put_files({f"/root/{file.name}": file.read_text() for file in folder.glob("set-delay.*")})
    [line] = re.findall(r"(?m)^ +(.* set-delay\..*)$", (folder / "README.txt").read_text())
    for _ in range(2):
        replica.run(f"cd /root && {line}")
        status = replica.status()
        assert status["SQL_Delay"] == DELAY_S
        wait_until(lambda: replica.threads() == ("Yes", "Yes"), 20, "it goes on")
    source.sql("INSERT INTO app.t VALUES (1000, 'last')")
    wait_until(lambda: replica.value(count) == 201, 40, "all of it arrives")
    checksum = "CHECKSUM TABLE app.t"
    assert replica.sql(checksum) == source.sql(checksum)
    assert replica.status()["Last_SQL_Errno"] == 0
    pair.close()
