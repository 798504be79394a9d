"""The SQL for least-privilege accounts. That it suffices, and that less does not, is tested with real servers."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from listeners import HEALTHY, PASSWORD, error, listening, okay, speaking, table

from check_delayed_repl.observe.target import Target
from check_delayed_repl.setup import asking
from check_delayed_repl.setup.asking import Facts
from check_delayed_repl.tool import run

MYSQL = """\
-- Accounts for check_delayed_repl. An account that is there already is left as it is, password and all:
-- leave its option file as it is then, too.

-- On the replica (MySQL 8.4.3).
-- Not into its binary log, where what is made here would be a change that the source does not have.
-- Where this is refused, stop: the rest would get into the binary log, and a client at a prompt goes on.
SET SESSION sql_log_bin = 0;
-- Where the source has this table already, wait until it comes through replication instead.
CREATE DATABASE IF NOT EXISTS `percona`;
USE `percona`;
CREATE TABLE IF NOT EXISTS `percona`.`heartbeat` (ts VARCHAR(26) NOT NULL, server_id INT UNSIGNED NOT NULL PRIMARY KEY)\
 ENGINE=InnoDB;

-- For check_delayed_repl. Mode 0640, /etc/check_delayed_repl/monitor.cnf
--   [client]
--   user = delay_check
--   password = RANDOM
CREATE USER IF NOT EXISTS 'delay_check'@'localhost' IDENTIFIED BY 'RANDOM';
GRANT SELECT (server_id, ts) ON `percona`.`heartbeat` TO 'delay_check'@'localhost';
GRANT REPLICATION CLIENT ON *.* TO 'delay_check'@'localhost';

-- For the replica's own heartbeat: pt-heartbeat-replica. Mode 0640, /etc/check_delayed_repl/heartbeat-replica.cnf
--   [client]
--   user = delay_beat_local
--   password = RANDOM
CREATE USER IF NOT EXISTS 'delay_beat_local'@'localhost' IDENTIFIED BY 'RANDOM';
GRANT SELECT, INSERT, UPDATE ON `percona`.`heartbeat` TO 'delay_beat_local'@'localhost';
GRANT CONNECTION_ADMIN, SESSION_VARIABLES_ADMIN ON *.* TO 'delay_beat_local'@'localhost';

SET SESSION sql_log_bin = 1;

-- The history is a file: no account is needed for it. Whoever takes samples, checks or records jobs
-- must be able to write the file and its folder: put their users into one group that owns the folder
-- with mode 2770.
"""


@pytest.fixture(autouse=True)
def no_history_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHECK_DELAYED_REPL_HISTORY", raising=False)


def granted(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert run(["grants", *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert PASSWORD not in out
    return out


def test_everything(capsys: pytest.CaptureFixture[str]) -> None:
    out = granted(capsys, "--family", "mysql", "--server-version", "8.4.3", "--for", "check", "--for", "heartbeat")
    secrets = re.findall("password = (.*)", out)
    assert len({*secrets}) == 2
    assert all(len(secret) == 24 and f"IDENTIFIED BY '{secret}'" in out for secret in secrets)
    for secret in secrets:
        out = out.replace(secret, "RANDOM")
    assert out == MYSQL


MAY_READ = "GRANT SELECT, SHOW VIEW, TRIGGER ON"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("mariadb", "GRANT SLAVE MONITOR ON *.*"),
        ("mariadb --server-version 10.11.6-MariaDB", "GRANT SLAVE MONITOR ON *.*"),
        ("mariadb --server-version 10.5.8", "GRANT REPLICATION SLAVE ADMIN ON *.*"),
        ("mysql", "GRANT REPLICATION CLIENT ON *.*"),
        ("mysql --server-version 5.6.24", "'CREATE USER ''delay_check''@''localhost'' IDENTIFIED"),
        ("mysql --server-version 5.7.40 --for heartbeat", "GRANT SUPER ON *.*"),
        ("mariadb --for heartbeat", "GRANT READ_ONLY ADMIN, BINLOG ADMIN ON *.*"),
        ("mariadb --for heartbeat --on source", "@'localhost' IDENTIFIED BY PASSWORD '*"),
        ("mariadb --for rescue", "GRANT SLAVE MONITOR, REPLICATION SLAVE ADMIN, CONNECTION ADMIN, PROCESS ON *.*"),
        ("mysql --for rescue", "REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, PERSIST_RO"),
        ("mysql --server-version 8.0.11 --for rescue", "CONNECTION_ADMIN ON *.* TO"),
        ("mysql --for rescue", "-- It may not count or dump what was saved: grants --for rescue --reads"),
        ("mysql --for rescue --reads app.*", f"{MAY_READ} `app`.* TO 'delay_rescue'"),
        ("mariadb --for rescue --reads app_x.*", f"{MAY_READ} `app\\_x`.* TO 'delay_rescue'"),
        ("mariadb --for rescue --reads app_x.a_b", f"{MAY_READ} `app_x`.`a_b` TO 'delay_rescue'"),
        ("mysql --for rescue --reads a$b.t", f"{MAY_READ} `a$b`.`t` TO"),
        ("mysql --heartbeat-table meta.beat", "ON `meta`.`beat` TO"),
        ("mysql --for check --account-user o'neil --account-host 10.%", "TO 'o''neil'@'10.%';"),
        ("mysql --for check --account-user núl", "SET NAMES utf8mb4;\n\n-- On the replica"),
        ("mysql --for check --account-user a#b", '--   user = "a#b"\n'),
        ('mysql --for check --account-user "a#b', "--   user = '\"a#b'\n"),
    ],
)
def test_servers_and_accounts(capsys: pytest.CaptureFixture[str], options: str, line: str) -> None:
    assert line in granted(capsys, "--family", *options.split())


def test_a_shared_history(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"mysql://root:{PASSWORD}@h/lines"
    out = granted(capsys, "--family", "mysql", "--history", url)
    assert "CREATE DATABASE IF NOT EXISTS `lines`" in out
    for who, kept in itertools.product(("check", "worker"), ("sample", "fold")):
        assert f"GRANT SELECT, INSERT, DELETE ON `lines`.`{kept}` TO 'delay_{who}'@'%';" in out
    # Whoever records jobs may add lines, but not say when they arrived, nor look or change.
    out = granted(capsys, "--for", "job", "--history", url)
    grants = [line for line in out.splitlines() if line.startswith("GRANT")]
    assert grants == [
        "GRANT INSERT (replica, id, kind, started_at, finished_at, void) ON `lines`.`job` TO 'delay_job'@'%';"
    ]
    assert "On the replica" not in out


def test_the_server_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [table([b"version", b"account"], [b"5.5.5-10.11.6-MariaDB\n", b"root@10.0.0.7"])]
    answers += [error(1, 1064, b"no")] * 6
    with listening(speaking(*answers)) as target:
        out = granted(capsys, "-H", "127.0.0.1", "-P", str(target.port), "-u", "x", f"-p{PASSWORD}", "--for", "check")
    assert "-- On the replica (10.11.6-MariaDB)." in out
    assert "GRANT SLAVE MONITOR ON *.* TO 'delay_check'@'10.0.0.7';" in out


def test_the_configuration_file_says_where_and_not_who(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login in it is the check's: an administrator's takes its place whole."""
    asked: list[Target] = []
    known = frozenset({("delay_worker", "10.0.0.7"), ("delay_worker", "db8.example.com")})

    def facts(target: Target, *_: object, **__: object) -> Facts:
        asked.append(target)
        return Facts("9.7.0", "10.0.0.7", {}, {}, {}, accounts=known)

    monkeypatch.setattr(asking, "facts", facts)
    path = tmp_path / "config.toml"
    login = f"user = 'delay_check'\npassword = '{PASSWORD}'\nheartbeat-table = 'meta.beat'\n"
    path.write_text(f"[defaults]\n{login}[[replica]]\nreplica = 'db7'\nhost = 'h7'\n[[replica]]\nhost = 'db8'\n")
    path.chmod(0o600)
    config = ("--config", str(path))
    out = granted(capsys, *config, "--replica", "db7", "-u", "root", "--for", "check")
    assert "ON `meta`.`beat` TO 'delay_check'@'10.0.0.7';" in out
    for host in ((), ("--account-host", "10.0.0.7"), ("--account-host", "DB8.Example.COM")):
        out = granted(capsys, *config, "--replica", "db7", "--for", "worker", *host)
        assert "--   # password = that of the account, which was there already\n" in out, "hosts are in lower case"
        asked.pop()
    granted(capsys, *config, "--replica", "db7", "--for", "worker")
    granted(capsys, *config, "-H", "new")
    assert [(to.host, to.user, to.password) for to in asked] == [
        ("h7", "root", None),
        ("h7", "delay_check", PASSWORD),
        ("new", "delay_check", PASSWORD),
    ]
    for name in ((), ("--replica", "db9")):
        assert run(["grants", *config, *name]) == 3
        assert "--replica: which one? " in capsys.readouterr().err
    # Where nothing is asked, several are no obstacle.
    assert "GRANT" in granted(capsys, *config, "--family", "mysql")


def test_a_replica_that_nothing_can_be_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    variables = table([b"Variable_name", b"Value"], [b"super_read_only", b"ON"], [b"read_only", b"ON"])
    answers = [table([b"version", b"account"], [b"9.7.0", b"root@10.0.0.7"]), variables, *[error(1, 1064, b"no")] * 6]
    with listening(speaking(*answers)) as target:
        login = ("-H", "127.0.0.1", "-P", str(target.port), "-u", "x", "--for", "check", "--for", "heartbeat")
        out = granted(capsys, *login)
    assert "Run this on its source: it is super_read_only" in out
    assert "sql_log_bin" not in out
    assert "'delay_beat_local'" not in out
    assert "-- No heartbeat of its own can be written here: give --no-local-heartbeat" in out


def test_a_source(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made there goes into its binary log: it must reach every replica, and stop none."""
    told = Facts("9.7.0", "10.0.0.7", {}, {}, {}, columns=frozenset({"ts", "server_id"}), statuses=())
    known = frozenset({("delay_check", "10.0.0.7")})
    filtered, chained = {"binlog_ignore_db": "percona"}, ({"channel_name": ""},)
    for facts in (told, told._replace(accounts=known, binlog=filtered, statuses=chained)):
        monkeypatch.setattr(asking, "facts", lambda *_, facts=facts, **__: facts)
        roles = ("--for", "check", "--for", "heartbeat", "--on", "source")
        out = granted(capsys, "-H", "x", *roles)
        # Replicas filter by the default database, and need not have an account that is there already.
        run = [line for line in out.splitlines() if line and not line.startswith("--")]
        assert run[0] == "USE `percona`;"
        assert "What is made here comes to its replicas" in out
        assert ("GRANT REPLICATION CLIENT ON *.* TO 'delay_check'@'10.0.0.7';" in run) == (not facts.accounts)
        assert ("\n-- GRANT REPLICATION CLIENT ON *.* TO 'delay_check'" in out) == bool(facts.accounts)
        assert ("-- Heartbeats will not arrive: the source's binlog_ignore_db names percona." in out) == bool(
            facts.binlog
        )
        assert ("-- The source is a replica itself" in out) == bool(facts.statuses)


def test_a_server_that_cannot_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for talk in (
        lambda caller: caller.sendall(error(0, 1045, b"no")),
        speaking(error(1, 1045, b"no")),
        speaking(okay(1)),
    ):
        with listening(talk) as target:
            assert run(["grants", "-H", "127.0.0.1", "-P", str(target.port), "-u", "x", f"-p{PASSWORD}"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"delayed-repl: 127.0.0.1:{target.port}: ")
        assert err.endswith("; log in as an administrator (-u), or describe the server (--family)\n")
        assert PASSWORD not in err
    # What it says of itself is not trusted to be a version.
    with listening(HEALTHY, HEALTHY) as target:
        assert run(["grants", "-H", "127.0.0.1", "-P", str(target.port), "-u", "x"]) in (0, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--server-version 8.4.3", "--server-version: needs --family too"),
        ("--family oracle", "--family"),
        ("--family mysql --server-version new", "--server-version: 'new' is no server's version"),
        ("--family mysql --server-version 10.5.9-MariaDB", "--server-version: '10.5.9-MariaDB' is a MariaDB's"),
        ("--account-user x --family mysql", "--account-user: say with --for"),
        ("--for root", "--for"),
        ("--family mysql --reads app.*", "--reads: is for --for rescue"),
        ("--family mysql --for rescue --reads app", "--reads: 'app' is not of the form"),
        (
            "--family mysql --server-version 5.6.51 --for rescue --account-user of_17_characters_",
            "--account-user: MySQL 5.6.51 takes 16 characters at most",
        ),
        ("--for job --account-user a\\b --history mysql://x@h/d", "a backslash"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], options: str, says: str) -> None:
    assert run(["grants", *options.split()]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
