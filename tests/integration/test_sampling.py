"""One sample of a real replica: the same whatever is preset there, and it says which server it was taken of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.observe.target import Target
from check_delayed_repl.records import Sample

from .checking import CHECK, SCALED, Scene, run, until
from .servers import DELAY_S, MONITOR, ROOT_PASSWORD, Kit, Pair, Server, literal

PRESET = [
    "SET sql_select_limit = 1",
    "SET time_zone = '+05:00'",
    "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT'",
    "SET sql_big_selects = 0, max_join_size = 1",
    "SET autocommit = 0",
    "SET autocommit = 0; SELECT COUNT(*) FROM percona.heartbeat",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    "SET NAMES latin1; SET character_set_results = 'utf16'",
    "SET net_write_timeout = 1, lc_messages = 'de_DE'",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
]
PRESET_OF = {
    "mysql": ["SET max_execution_time = 1"],
    "mysql56": [],
    "mariadb": ["SET max_statement_time = 0.001", "SET system_versioning_asof = '2020-01-01 00:00:00'"],
}


@pytest.fixture
def settled(fault_pair: Pair) -> Pair:
    """On every family: what a session may set differs most between the oldest and the newest."""
    return fault_pair.settle()


def target(server: Server, who: tuple[str, str] = MONITOR) -> Target:
    return Target(host=server.host, port=server.port, user=who[0], password=who[1])


def healthy(sample: Sample) -> None:
    assert sample.error is None, sample.message
    assert sample.delay is not None
    assert DELAY_S - 1 <= sample.delay <= DELAY_S + 6
    assert sample.local is not None
    assert -0.5 <= sample.local <= 6


@contextmanager
def preset(server: Server, name: str, value: str | int) -> Iterator[None]:
    before = server.value(f"SELECT @@GLOBAL.{name}")
    server.sql(f"SET GLOBAL {name} = {literal(value)}")
    try:
        yield
    finally:
        server.sql(f"SET GLOBAL {name} = {literal(before)}")


def test_nothing_that_is_preset_changes_a_sample(settled: Pair) -> None:
    replica = settled.replica
    for statement in [*PRESET, *PRESET_OF[settled.family if settled.family in PRESET_OF else settled.kind]]:
        with preset(replica, "init_connect", statement), closing(Observer(target(replica))) as observer:
            first = observer.sample(time.monotonic() + 10, None)
            healthy(first)
            time.sleep(1.5)
            second = observer.sample(time.monotonic() + 10, first)
            healthy(second)
            # No snapshot of the connection's first moment.
            assert second.ts is not None
            assert first.ts is not None
            assert second.ts > first.ts, statement
    set_to: dict[str, str | int] = {"sql_select_limit": 1, "time_zone": "+05:00", "sql_mode": "ANSI_QUOTES"}
    for name, value in (set_to | {"autocommit": 0}).items():
        with preset(replica, name, value), closing(Observer(target(replica))) as observer:
            healthy(observer.sample(time.monotonic() + 10, None))


def test_which_server_it_is(settled: Pair) -> None:
    seen = []
    for server in (settled.replica, settled.replica.restart()):
        with closing(Observer(target(server))) as observer:
            sample = observer.sample(time.monotonic() + 10, None)
            seen.append(sample.server)
        if settled.kind == "mysql":
            assert sample.server == f"uuid:{server.value('SELECT @@GLOBAL.server_uuid')}"
        else:
            uid = {row["Variable_name"]: row["Value"] for row in server.rows("SHOW GLOBAL VARIABLES LIKE 'server_uid'")}
            found = uid.get("server_uid", "unknown")
            named = f"id:{server.server_id}/3306" if found == "unknown" else f"uid:{found}/{server.server_id}/3306"
            assert sample.server == named
    assert seen[0] == seen[1]


def test_a_timestamp_column_is_not_moved_by_a_zone(settled: Pair) -> None:
    replica = settled.replica
    replica.unlogged(
        "CREATE DATABASE IF NOT EXISTS stamped",
        "DROP TABLE IF EXISTS stamped.hb",
        "CREATE TABLE stamped.hb (server_id INT PRIMARY KEY, ts TIMESTAMP(6) NOT NULL)",
        "REPLACE INTO stamped.hb VALUES (1, NOW(6) - INTERVAL 10 SECOND), (2, NOW(6))",
    )
    try:
        for zone in (None, "Europe/Berlin"):
            where = target(replica, ("root", ROOT_PASSWORD))
            observer = Observer(where._replace(heartbeat_table="stamped.hb", heartbeat_timezone=zone))
            healthy(observer.sample(time.monotonic() + 10, None))
            observer.close()
    finally:
        replica.unlogged("DROP DATABASE stamped")


def test_no_password_of_a_statement_that_failed_is_printed(scene: Scene) -> None:
    """A replica quotes the statement, and MariaDB with all that is in it."""
    secret = "hb-secret-9x"
    scene.pair.replica.unlogged("CREATE USER twice@'%' IDENTIFIED BY 'another'")
    scene.pair.source.sql(f"CREATE USER twice@'%' IDENTIFIED BY '{secret}'")
    told = until(scene.inline, lambda outcome: outcome.condition == "sql-error", 60, "sql-error")
    printed = [told.text]
    assert scene.pair.kind == "mysql" or "twice" in printed[0]
    where = [*scene.reaching(CHECK), *scene.named(), *SCALED]
    commands = (
        ("check_delayed_repl", *where, "-vvv"),
        ("check_delayed_repl", *where, "--output", "json"),
        ("check_delayed_repl.tool", "diagnose", *where),
        ("check_delayed_repl.tool", "diagnose", *where, "--output", "json"),
        ("check_delayed_repl.tool", "history", "export", *scene.named()),
    )
    printed += [run("-m", *command)[1] for command in commands]
    assert not [text for text in printed if secret in text or len(text) < 100]


@pytest.mark.mysql
def test_a_password_leaves_only_inside_tls_or_by_a_socket(kit: Kit) -> None:
    """The server asks for the whole password where it has not cached the account's hash."""
    replica = kit.shared_pair("mysql").settle().replica
    where = target(replica)

    def asked(tried: Target) -> Sample:
        replica.unlogged("FLUSH PRIVILEGES")
        return Observer(tried).sample(time.monotonic() + 10, None)

    refused = asked(where._replace(ssl_mode="disabled"))
    assert refused.error == "connect-failed"
    assert "use --ssl-mode required" in str(refused.message)
    healthy(asked(where))
    healthy(asked(where._replace(host=None, port=None, socket=str(replica.socket))))
