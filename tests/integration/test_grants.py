"""`delayed-repl grants` on servers that make it hard: password policies, SQL modes, odd names; piped in twice."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from check_delayed_repl.tool import run

from .servers import ROOT_PASSWORD, Family, Kit, Server, literal, wait_until

pytestmark = pytest.mark.essential

HARD = ("--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "--binlog-format=STATEMENT")
POLICY = {
    "mysql": ["INSTALL COMPONENT 'file://component_validate_password'", "SET GLOBAL validate_password.policy = STRONG"]
}
"""The other images have no plugin that checks passwords."""
ROLES = ("check", "worker", "heartbeat", "rescue")
TABLE = "beats-of$here.it$s"


@pytest.fixture
def server(kit: Kit, fault_family: Family) -> Iterator[Server]:
    made = kit.server(fault_family, *HARD, name="hard")
    made.sql("DO 0", *POLICY.get(fault_family, ()))
    yield made
    made.close()


def granted(server: Server, capsys: pytest.CaptureFixture[str], *options: str, table: str = TABLE) -> str:
    login = ("-H", server.host, "-P", str(server.port), "-u", "root", f"-p{ROOT_PASSWORD}")
    roles = (word for role in ROLES for word in ("--for", role))
    assert run(["grants", *login, *roles, "--heartbeat-table", table, *options]) == 0
    return capsys.readouterr().out


def piped(server: Server, text: str) -> str:
    login = f"[client]\nuser = root\npassword = {ROOT_PASSWORD}\nsocket = /run/mysqld/mysqld.sock\n"
    server.put_files({"/root/.my.cnf": login}, mode=0o600)
    server.put_files({"/tmp/accounts.sql": text})
    client = "mariadb" if server.kind == "mariadb" else "mysql"
    return server.run(f"{client} < /tmp/accounts.sql").output


def logs_in(server: Server, user: str, password: str) -> list[str]:
    with server.session(user, password) as run_sql:
        return [str(row[0]) for row in run_sql("SHOW GRANTS")]


def test_piped_twice(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    for on in ("replica", "source"):
        for user, host in server.sql("SELECT user, host FROM mysql.user WHERE user LIKE 'delay%'"):
            server.unlogged(f"DROP USER {literal(user)}@{literal(host)}")
        for host in ("%", "2001:db8::1", "o'host", "192.0.2.0/255.255.255.0"):
            text = granted(server, capsys, "--on", on, "--account-host", host)
            again = granted(server, capsys, "--on", on, "--account-host", host)
            for script in (text, text, again):
                piped(server, script)
            secrets = dict(re.findall(r"user = (.*)\n--   password = (.*)\n", text))
            assert len(secrets) == len(ROLES)
            if host == "%":
                for user, password in secrets.items():
                    assert logs_in(server, user, password), user
                if on == "source":
                    log = server.run("cat $(find /var/lib /data -name 'bin.0*' 2>/dev/null)").output
                    assert not [user for user, password in secrets.items() if password in log]
        named = server.sql("SELECT DISTINCT host FROM mysql.user WHERE user = 'delay_check'")
        assert len(named) == 4


@pytest.mark.essential("mariadb")
def test_on_a_source_it_stops_no_replica(kit: Kit, fault_family: Family, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither one that filters by database, nor one that lacks an account which the source was given by itself."""
    only = [f"--replicate-do-db={name}" for name in ("percona", "app")]
    pair = kit.pair(fault_family, delay=0, heartbeats=False, replica_options=only)
    pair.source.unlogged("CREATE USER delay_check@'%' IDENTIFIED BY 'aA1-of-the-source-alone'")
    for _ in range(2):
        text = granted(pair.source, capsys, "--account-host", "%", table="percona.heartbeat")
        for script in (text, text):
            piped(pair.source, script)
    pair.source.sql("INSERT INTO percona.heartbeat (ts, server_id) VALUES ('2026-01-01T00:00:00', 1)")
    wait_until(lambda: pair.replica.value("SELECT server_id FROM percona.heartbeat") == 1, 20, "the row arrives")
    assert pair.replica.threads() == ("Yes", "Yes")
    pair.close()
