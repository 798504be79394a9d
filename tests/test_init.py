"""What `delayed-repl init` writes, by tables: what servers tell, and what follows from it. Real ones are elsewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from check_delayed_repl.arguments import Parser
from check_delayed_repl.commands import init
from check_delayed_repl.configfile import File
from check_delayed_repl.observe.target import Target
from check_delayed_repl.options import target_from
from check_delayed_repl.setup.asking import Facts, Wanted
from check_delayed_repl.setup.folder import Impossible, folder, unit
from check_delayed_repl.setup.hindrances import lost_heartbeats, warnings

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

COLUMNS = frozenset({"ts", "server_id"})
OLD_COLUMNS = COLUMNS | {"file", "position", "relay_master_log_file", "exec_master_log_pos"}
STATUS = {"source_host": "db1", "source_port": "3306", "source_server_id": "1", "sql_delay": "7200"}
WANTED = Wanted("db7", {"host": "db7"}, None, False, True, "percona.heartbeat", None, (0, 0, 0), "/opt/bin", "nagios")


def server(version: str, server_id: int, **others: object) -> Facts:
    """A server without heartbeats; variables are those of `others` in upper case, fields those in lower case."""
    variables = {"server_id": str(server_id), "log_bin": "ON", "socket": "/run/mysqld/mysqld.sock"}
    variables |= {name.lower(): str(value) for name, value in others.items() if name.isupper()}
    told = Facts(version, "10.0.0.9", variables, {}, {}, statuses=(), accounts=frozenset({("root", "localhost")}))
    return told._replace(**{name: value for name, value in others.items() if name.islower()})


def written(
    replica: Facts, source: Facts | None = None, wanted: Wanted = WANTED, **status: str
) -> tuple[dict[str, str], str]:
    """The files, and all statements that are to be run on the replica."""
    found = folder(replica, source, STATUS | status, wanted)
    names = {"README.txt", "source.sql", "replica.sql", "monitor.cnf", "config.toml", "nagios.cfg", "icinga2.conf"}
    assert set(found) >= names
    return found, found["replica.sql"]


CREATES = "CREATE USER IF NOT EXISTS 'delay_beat'@'localhost' IDENTIFIED BY"
PLAIN, HASHED = f"{CREATES} '", f"{CREATES} PASSWORD '*"
ADMINS = "CONNECTION_ADMIN, SESSION_VARIABLES_ADMIN"


@pytest.mark.parametrize(
    ("version", "creates", "bypass"),
    [
        ("5.6.51-log", "''delay_beat''@''localhost'' IDENTIFIED BY PASSWORD ''*", "SUPER"),
        ("5.7.44", PLAIN, "SUPER"),
        ("8.0.36", PLAIN, ADMINS),
        ("9.7.0", PLAIN, ADMINS),
        ("10.5.23-MariaDB", HASHED, "READ_ONLY ADMIN, BINLOG ADMIN"),
        ("11.8.2-MariaDB", HASHED, "READ_ONLY ADMIN, BINLOG ADMIN"),
    ],
)
def test_every_family_from_nothing(version: str, creates: str, bypass: str) -> None:
    files, on_replica = written(server(version, 2, READ_ONLY="ON"), server(version, 1))
    assert creates in files["source.sql"]
    assert "sql_log_bin" not in files["source.sql"]
    assert on_replica.splitlines()[1].startswith("-- Where this is refused, stop")
    assert on_replica.splitlines()[2] == "SET SESSION sql_log_bin = 0;"
    assert "'delay_check'@'10.0.0.9'" in on_replica
    assert f"GRANT {bypass} ON *.* TO 'delay_beat_local'@'localhost';" in on_replica
    # Whatever is made on the source arrives on the replica: no name is made on both, but the table, IF NOT EXISTS.
    made = {name: set(re.findall(r"'(delay_\w+)'", files[name])) for name in ("source.sql", "replica.sql")}
    assert made["source.sql"] & made["replica.sql"] == set()
    assert "\nCREATE DATABASE `" not in files["source.sql"], "but IF NOT EXISTS"
    assert "\n-- GRANT SELECT, SHOW VIEW, TRIGGER ON *.* TO 'delay_rescue'@'10.0.0.9';\n" in on_replica, (
        "a line of its own"
    )
    assert "sql_log_bin=0" in files["pt-heartbeat-replica.service"]
    assert "--check-read-only" not in "".join(files.values())
    for name in ("heartbeat-source", "heartbeat-replica", "monitor"):
        secret = re.findall("password = (.*)", files[f"{name}.cnf"])[0]
        assert len(secret) == 24
    config = tomllib.loads(files["config.toml"])
    assert config["replica"] == [{"replica": "db7", "host": "db7", "delay": "2h"}]
    assert len(File("/etc/x/config.toml", config).tables) == 1


def test_a_server_that_checks_passwords_takes_no_hash() -> None:
    strict = {"checks_passwords": True, "STRICT_PASSWORD_VALIDATION": "ON"}
    files, _ = written(server("10.11.6-MariaDB", 2), server("10.11.6-MariaDB", 1, **strict))
    [secret] = re.findall("password = (.*)", files["heartbeat-source.cnf"])
    assert f"IDENTIFIED BY '{secret}'" in files["source.sql"]
    assert "-- This server checks passwords and takes no hash: its binary log has this one" in files["source.sql"]


def test_a_replica_that_nothing_can_be_written_to() -> None:
    files, on_replica = written(server("9.7.0", 2, SUPER_READ_ONLY="ON", READ_ONLY="ON"), server("9.7.0", 1))
    assert on_replica.splitlines()[1:] == ["-- There is nothing to do."]
    assert "'delay_check'@'10.0.0.9'" in files["source.sql"]
    assert "heartbeat-replica.cnf" not in files
    assert tomllib.loads(files["config.toml"])["replica"][0]["no-local-heartbeat"] is True
    assert "Wait for one delay" in files["README.txt"]
    assert "access denied: its account is still in the delay line" in files["README.txt"]


def test_what_the_source_makes_passes_filters_by_database() -> None:
    """They go by the default database: without one, --replicate-do-db leaves table and accounts out."""
    for columns, first in ((None, "CREATE DATABASE IF NOT EXISTS"), (COLUMNS, "USE `percona`;")):
        sql = written(server("9.7.0", 2), server("9.7.0", 1, columns=columns))[0]["source.sql"]
        assert sql.splitlines()[1].startswith(first)
        assert sql.index("USE `percona`;") < sql.index("CREATE USER")
        assert sql.count("CREATE TABLE", 0, sql.index("USE `percona`;")) == 0


def test_what_is_there_already_is_left_alone() -> None:
    there = {"accounts": {("delay_check", "10.0.0.9"), ("delay_rescue", "10.0.0.9")}, "columns": OLD_COLUMNS}
    beats = {1: 7201.0, 2: 0.5}
    replica = server("10.11.6-MariaDB", 2, READ_ONLY="ON", beats=beats, advancing=frozenset(beats), **there)
    source = server("10.11.6-MariaDB", 1, columns=OLD_COLUMNS, beats={1: 0.5}, advancing=frozenset({1}))
    files, on_replica = written(replica, source)
    assert "There is nothing to do" in files["source.sql"]
    assert "There is nothing to do" in on_replica
    assert not [name for name in files if "heartbeat" in name]
    for name in ("monitor.cnf", "rescue.cnf"):
        assert "password = that of the account" in files[name]
        assert f"was there already: put its password into {name}" in files["README.txt"]
    assert "before the GRANT" not in files["README.txt"], "there is none"
    assert "`delayed-repl grants --for rescue --reads 'DB.*'` says how." in files["README.txt"]
    assert "before the GRANT in replica.sql, and run it again." in written(server("8.4.3", 2))[0]["README.txt"]
    assert "It is written already" in files["README.txt"]


def test_an_account_that_one_server_alone_has() -> None:
    """Made outside the binary log of a source that was a replica, it never arrives."""
    beat, check = ("delay_beat", "localhost"), ("delay_check", "10.0.0.9")
    replica = server("8.4.3", 2, accounts=frozenset({beat}))
    files, on_replica = written(replica, server("8.4.3", 1, accounts=frozenset({check})))
    assert "CREATE USER IF NOT EXISTS 'delay_beat'@'localhost'" in files["source.sql"]
    assert "delay_check" not in on_replica, "it may be in the delay line, without IF NOT EXISTS"
    assert "The source alone has it so far." in files["README.txt"]
    files, _ = written(server("5.6.51", 2, accounts=frozenset({beat})), server("5.6.51", 1))
    assert "CREATE USER" not in files["source.sql"], "it would stop replication with 1396"


def test_accounts_that_may_not_be_read() -> None:
    """New passwords, which accounts that are there already would not get, must not be installed unseen."""
    for accounts, told in ((frozenset[tuple[str, str]](), True), (frozenset({("root", "%")}), False)):
        found = warnings(server("8.4.3", 2, accounts=accounts), server("8.4.3", 1), STATUS, WANTED)
        assert any("The replica's accounts may not be read" in text for text in found) == told


def test_the_monitor_can_read_its_file_and_each_replica_has_one() -> None:
    for name, own in (("db7", "db7"), ("db7/a:b", "db7_a_b")):
        wanted = WANTED._replace(name=name)
        steps = written(server("8.4.3", 2), server("8.4.3", 1), wanted)[0]["README.txt"]
        assert "First take out of it what is there" in steps
        assert f" install -m 0644 nagios.cfg /etc/nagios4/conf.d/{own}.cfg\n" in steps
        assert f" install -m 0644 icinga2.conf /etc/icinga2/conf.d/{own}.conf\n" in steps


def test_the_files_of_a_second_replica_have_names_of_their_own() -> None:
    steps = written(server("8.4.3", 2), server("8.4.3", 1))[0]["README.txt"]
    before, _, after = steps.partition("install -m 0644 config.toml")
    assert "install\n   monitor.cnf, and in the next step rescue.cnf, under those names" in before
    assert "rescue.cnf /etc/check_delayed_repl/rescue.cnf" in after


def test_a_table_that_is_on_its_way_is_not_made_twice() -> None:
    source = server("8.4.3", 1, columns=OLD_COLUMNS)
    files, on_replica = written(server("8.4.3", 2, READ_ONLY="ON"), source)
    assert "CREATE TABLE" not in on_replica + files["source.sql"]
    assert "Wait until percona.heartbeat has come through replication" in files["README.txt"]
    # A table with positions takes the rights to read them, and a pt-heartbeat that knows how.
    assert "GRANT REPLICATION CLIENT ON *.* TO 'delay_beat'" in files["source.sql"]
    assert "pt-heartbeat must be 3.7.0 or newer" in files["README.txt"]
    new = WANTED._replace(tool_version=(3, 7, 1))
    assert "pt-heartbeat must be" not in written(server("8.4.3", 2), source, new)[0]["README.txt"]


def test_a_source_that_does_not_answer() -> None:
    files, _ = written(server("10.11.6-MariaDB", 2, READ_ONLY="ON"))
    assert files["source.sql"].startswith("-- On the source (11.8.0-MariaDB), which did not answer")
    assert "The source (server id 1) did not answer" in files["README.txt"]
    # Its heartbeat, as old as the delay, comes through: it is written.
    replica = server("10.11.6-MariaDB", 2, columns=COLUMNS, beats={1: 7230.0})
    assert "heartbeat-source.cnf" not in written(replica)[0]


def test_replication_that_is_stopped() -> None:
    """No heartbeat would arrive: said first of all."""
    threads = {"replica_io_running": "Connecting", "replica_sql_running": "No"}
    files, _ = written(server("9.7.0", 2), server("9.7.0", 1), **threads)
    assert "Nothing is applied: the replica's SQL thread is stopped." in files["README.txt"]
    assert "Nothing is fetched" not in files["README.txt"]


def test_a_heartbeat_that_is_written_now_and_then() -> None:
    source = server("9.7.0", 1, columns=COLUMNS, beats={1: 9.0})
    assert "pt-heartbeat-source.service" not in written(server("9.7.0", 2), source)[0]
    source = source._replace(beats={1: 900.0})
    assert "pt-heartbeat-source.service" in written(server("9.7.0", 2), source)[0]


SHOWN = """\
*************************** 1. row ***************************
              Master_Log_File: bin.000002
          Read_Master_Log_Pos: 9000
               Relay_Log_File: relay.000007
                Relay_Log_Pos: 431
        Relay_Master_Log_File: bin.000002
          Exec_Master_Log_Pos: 1000
"""


PLACE = "RELAY_LOG_FILE = 'relay.000007', RELAY_LOG_POS = 431"
THREADS = ["STOP REPLICA SQL_THREAD", "START REPLICA IO_THREAD", "START REPLICA SQL_THREAD"]
STOP, FETCH, APPLY = (f"{statement} FOR CHANNEL 'a';" for statement in THREADS)
SET_DELAY = {
    "9.7.0": [STOP, FETCH, "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 3600 FOR CHANNEL 'a';", APPLY],
    "8.0.22": [STOP, FETCH, "CHANGE MASTER TO MASTER_DELAY = 3600 FOR CHANNEL 'a';", APPLY],
    "10.11.6-MariaDB": [
        "STOP SLAVE 'a'; SHOW SLAVE 'a' STATUS",
        f"CHANGE MASTER 'a' TO MASTER_DELAY = 3600, {PLACE};",
        "START SLAVE 'a';",
    ],
    "5.6.51": [
        "STOP SLAVE; SHOW SLAVE STATUS",
        f"CHANGE MASTER TO MASTER_DELAY = 3600, {PLACE}, MASTER_AUTO_POSITION = 0;",
        "START SLAVE;",
    ],
}


@pytest.mark.parametrize("version", SET_DELAY)
def test_a_delay_that_has_to_be_set(version: str, tmp_path: Path) -> None:
    """Which statements are run. One that names no place throws away what waits, on servers that need to be told it."""
    wanted, statements, old = WANTED._replace(delay=3600.0), SET_DELAY[version], version == "5.6.51"
    status = {"auto_position": "1"} if old else {"channel_name": "a"}
    files, _ = written(server(version, 2), server(version, 1), wanted, sql_delay="0", **status)
    assert 'delay = "1h"' in files["config.toml"]
    if "set-delay.sql" in files:
        assert files["set-delay.sql"].splitlines() == statements
        assert "mysql < set-delay.sql" in files["README.txt"]
        return
    [asked] = re.findall(r' -E -e "(.*)" \| awk -f set-delay.awk \| ', files["README.txt"])
    script = tmp_path / "set-delay.awk"
    script.write_text(files["set-delay.awk"])

    def said(shown: str) -> list[str]:
        done = subprocess.run(["awk", "-f", script], input=shown, capture_output=True, text=True, check=True)
        return [asked, *done.stdout.splitlines()]

    assert said(SHOWN) == statements
    # By GTID and with nothing waiting there is nothing to keep, and GTIDs are kept.
    drained = SHOWN.replace("9000", "1000")
    for by_gtid in ("Using_Gtid: Slave_Pos", "Auto_Position: 1"):
        assert said(SHOWN + by_gtid) == statements
        assert f", {PLACE}" not in said(drained + by_gtid)[1]
    assert said(f"{drained}Using_Gtid: No") == statements
    # Where no place is to be seen, replication goes on all the same.
    assert said("") == [asked, statements[-1]]
    assert ("back to GTID" in files["README.txt"]) == old


def test_pt_slave_delay() -> None:
    wanted = WANTED._replace(delay=3600.0, external=True)
    files, _ = written(server("5.7.44", 2), server("5.7.44", 1), wanted, sql_delay="0")
    assert "CHANGE MASTER" not in files["README.txt"]
    assert 'delay-mode = "external"' in files["config.toml"]


def test_programs_in_a_folder_that_a_shell_would_take_apart() -> None:
    files, _ = written(server("9.7.0", 2), server("9.7.0", 1), WANTED._replace(bin="/it's my/bin"))
    commands = [line.split() for line in files["README.txt"].splitlines() if "my/bin" in line]
    commands += [line.split()[1:] for line in files["nagios.cfg"].splitlines() if "my/bin" in line]
    folders = [
        word.rpartition("/bin")[0] for words in commands for word in shlex.split(" ".join(words)) if "my" in word
    ]
    assert folders == ["/it's my"] * 4
    assert '[ "/it\'s my/bin/check_delayed_repl", ' in files["icinga2.conf"]


@pytest.mark.parametrize(
    ("status", "wanted", "columns", "says"),
    [
        ({"sql_delay": "0"}, WANTED, None, "--delay: the server is set to no delay"),
        ({}, WANTED._replace(delay=60.0), None, "--delay: the server is set to 2 h already"),
        ({"channel_name": 'a"b'}, WANTED, None, "--channel: its name has quotes"),
        ({"channel_name": "a!b"}, WANTED, None, "--channel: its name has quotes"),
        ({}, WANTED, frozenset({"id", "ts"}), "--heartbeat-table: percona.heartbeat on the replica has no columns"),
    ],
)
def test_what_cannot_be(status: dict[str, str], wanted: Wanted, columns: frozenset[str] | None, says: str) -> None:
    with pytest.raises(Impossible, match=says):
        written(server("8.4.3", 2, columns=columns), None, wanted, **status)


@pytest.mark.parametrize(
    ("status", "binlog", "lost"),
    [
        ({}, {}, False),
        ({"replicate_do_db": "percona,orders"}, {"binlog_do_db": "percona"}, False),
        ({"replicate_do_db": "orders"}, {}, True),
        ({"replicate_ignore_db": "percona"}, {}, True),
        ({}, {"binlog_do_db": "orders"}, True),
        ({}, {"binlog_ignore_db": "mysql,percona"}, True),
        ({"replicate_do_table": "orders.item"}, {}, True),
        ({"replicate_do_table": "orders.item", "replicate_wild_do_table": "perc%.%"}, {}, False),
        ({"replicate_wild_ignore_table": r"percona.heart\_beat"}, {}, False),
        ({"replicate_wild_ignore_table": "percona.heartbea_"}, {}, True),
        ({"replicate_ignore_table": "percona.heartbeat"}, {}, True),
        ({"replicate_ignore_server_ids": "7"}, {}, False),
        ({"replicate_rewrite_db": "(a,b),(percona,other)"}, {}, True),
        ({"replicate_rewrite_db": "percona->other,a->b"}, {}, True),
        ({"replicate_rewrite_db": "(other,percona),(my_percona,a)"}, {}, False),
        ({"replicate_rewrite_db": "a->percona,b->c"}, {}, False),
    ],
)
def test_filters_that_keep_heartbeats_out(status: dict[str, str], binlog: dict[str, str], lost: bool) -> None:
    assert bool(lost_heartbeats(status, binlog, "percona.heartbeat")) == lost
    source = server("8.4.3", 1, binlog=binlog)
    found, _ = written(server("8.4.3", 2), source, **status)
    assert ("Heartbeats will not arrive" in found["README.txt"]) == lost
    assert ("allow-filter" in found["config.toml"]) == bool(status)


def test_filters_that_keep_accounts_from_a_replica_that_is_sealed() -> None:
    for status, lost in (
        ({"replicate_wild_ignore_table": "mysql.%"}, True),
        ({"replicate_wild_do_table": "percona.%,app.%"}, True),
        ({"replicate_wild_do_table": "percona.%,mysql.%"}, False),
        ({"replicate_do_db": "percona,app", "replicate_ignore_db": "mysql"}, False),  # by the default database
    ):
        for sealed in ("ON", "OFF"):
            found, _ = written(server("8.4.3", 2, SUPER_READ_ONLY=sealed), server("8.4.3", 1), **status)
            assert ("Accounts will not arrive" in found["README.txt"]) == (lost and sealed == "ON")
            assert "Heartbeats will not arrive" not in found["README.txt"]


def test_an_option_file_of_the_source_brings_its_own_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Target] = []
    files = {"whole": "user = you\npassword = y\n", "user": "user = you\n", "password": "password = y\n", "none": ""}
    for name, text in files.items():
        (tmp_path / name).write_text(f"[client]\n{text}port = 3306\n")
    monkeypatch.setattr(init, "facts", lambda target, _: asked.append(target) or server("8.4.3", 1))
    for options in ([], ["--source-user", "me"], *(["--source-defaults-file", str(tmp_path / name)] for name in files)):
        parser = Parser("delayed-repl init")
        init.add_arguments(parser)
        args = parser.parse_args(["-H", "db7", "-u", "root", "-p", "x", "--to", "new", *options])
        assert init._source(args, target_from(args), STATUS, 1) is not None
    assert [(one.host, one.user, one.password) for one in asked] == [
        *(("db1", "root", "x"), ("db1", "me", "x"), ("db1", None, None), ("db1", None, None)),
        *(("db1", "root", None), ("db1", "root", "x")),
    ]


def test_heartbeats_of_another_time_zone_are_named() -> None:
    source = server("8.4.3", 1, columns=COLUMNS, beats={1: -7199.0}, advancing=frozenset({1}))
    [text] = warnings(server("8.4.3", 2, columns=COLUMNS, beats={1: 1.0}), source, STATUS, WANTED)
    assert "2 h off" in text
    assert "heartbeat-timezone" in text


def test_a_source_that_was_or_is_a_replica() -> None:
    """Its own heartbeat was written outside its binary log: the row is not on the replica, and never will be."""
    source = server("8.4.3", 1, columns=COLUMNS, beats={1: 0.5}, advancing=frozenset({1}))
    replica = server("8.4.3", 2, columns=COLUMNS, beats={2: 0.5})
    [text] = warnings(replica, source, STATUS, WANTED)
    assert "another --heartbeat-table" in text
    assert warnings(replica._replace(beats={1: 7200.0}), source, STATUS, WANTED) == []

    chained = source._replace(statuses=(STATUS,), beats={}, advancing=frozenset())
    [text] = warnings(replica, chained, STATUS, WANTED)
    assert "--source-host FIRST --master-server-id ID; where the two replicate each other, with" in text
    wanted = WANTED._replace(address={"host": "db7", "master-server-id": 1})
    assert warnings(replica, chained, STATUS, wanted) == [], "two that replicate each other"


def test_the_first_source_of_a_chain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its heartbeat is made where there is none, and nothing on the server in the middle."""
    wanted = WANTED._replace(address={"host": "db7", "master-server-id": 9})
    replica = server("8.4.3", 2, columns=COLUMNS, beats={2: 0.5})
    for first in (None, server("8.4.3", 9)):
        files, _ = written(replica, first, wanted)
        assert "CREATE TABLE IF NOT EXISTS `percona`.`heartbeat`" in files["source.sql"]
        assert "heartbeat-missing" in files["README.txt"]
        assert "pt-heartbeat-source.service" in files
        assert tomllib.loads(files["config.toml"])["replica"][0]["master-server-id"] == 9
    assert "The source (server id 9) did not answer" in written(replica, None, wanted)[0]["README.txt"]
    files, _ = written(replica._replace(beats={2: 0.5, 9: 7201.0}), None, wanted)
    assert files["source.sql"].endswith("-- There is nothing to do.\n"), "it is written, and has its table"

    monkeypatch.setattr(init, "facts", lambda *_: server("8.4.3", 1))
    parser = Parser("delayed-repl init")
    init.add_arguments(parser)
    args = parser.parse_args(["-H", "db7", "--master-server-id", "9", "--to", "new"])
    assert init._source(args, target_from(args), STATUS, 9) is None
    assert "db1 has server id 1, not 9: left out; --source-host and --master-server-id" in capsys.readouterr().err


def test_what_init_is_told_of_heartbeats_is_in_the_configuration() -> None:
    parser = Parser()
    init.add_arguments(parser)
    told = ["-H", "db7", "--master-server-id", "9", "--heartbeat-timezone", "Europe/Berlin", "--to", "x"]
    args = parser.parse_args([*told, "--account-host", "Mon.Example.COM"])
    assert args.account_host == "mon.example.com", "as servers keep it"
    wanted = init._wanted(args, target_from(args), server("8.4.3", 2), STATUS)
    assert wanted.address == {"host": "db7", "master-server-id": 9, "heartbeat-timezone": "Europe/Berlin"}


def test_what_init_is_told_of_tls_is_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check must not trust less than init did, nor try what init was told not to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "admin.cnf").write_text("[client]\nssl-ca = /etc/ca.pem\n")
    verified = {"ssl-mode": "verify-identity", "ssl-ca": f"{tmp_path}/ca.pem"}
    for options, tls in (
        (["-H", "db7"], {}),
        (["-H", "db7", "--ssl-mode", "disabled"], {"ssl-mode": "disabled"}),
        (["-H", "db7", "--ssl-mode", "verify-identity", "--ssl-ca", "ca.pem"], verified),
        (["-H", "db7", "--defaults-file", "admin.cnf"], {"ssl-mode": "verify-ca", "ssl-ca": "/etc/ca.pem"}),
        (["-S", "/run/s", "--ssl-mode", "required"], {}),
    ):
        parser = Parser()
        init.add_arguments(parser)
        args = parser.parse_args([*options, "--to", "x"])
        wanted = init._wanted(args, target_from(args), server("8.4.3", 2, HOSTNAME="db7"), STATUS)
        assert {key: value for key, value in wanted.address.items() if key[:3] == "ssl"} == tls
        files, _ = written(server("8.4.3", 2), server("8.4.3", 1), wanted)
        assert tls.items() <= tomllib.loads(files["config.toml"])["replica"][0].items()
        assert File("/etc/x/config.toml", tomllib.loads(files["config.toml"])).tables


def test_a_socket_that_a_unit_would_not_see() -> None:
    """Its user is a dynamic one, whose /tmp is its own."""
    for socket, bound in (("/tmp/mysql.sock", True), ("/var/tmp/m/my-1.sock", True), ("/run/mysqld/tmp/s", False)):
        files, _ = written(server("8.4.3", 2), server("8.4.3", 1, SOCKET=socket))
        assert (f"\nBindPaths=-{socket}\n" in files["pt-heartbeat-source.service"]) == bound
        assert "BindPaths" not in files["pt-heartbeat-replica.service"]
        assert f"socket = {socket}\n" in files["heartbeat-source.cnf"]


def test_the_units_are_those_of_the_examples() -> None:
    for which in ("source", "replica"):
        text = (EXAMPLES / "systemd" / f"pt-heartbeat-{which}.service").read_text()
        assert text == unit(which, "percona.heartbeat")
