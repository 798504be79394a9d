"""The kit itself: what scenario tests rely on is there, on servers of both families."""

from __future__ import annotations

import ssl
import time

import pymysql
import pytest

from .servers import DELAY_S, MONITOR, ROOT_PASSWORD, Kit, NotInTime, Pair, wait_until


def test_a_condition_that_never_comes_true_is_told_with_what_was_seen() -> None:
    with pytest.raises(NotInTime, match=r"^the moon is blue: not within 0 s \(last seen: ''\)$"):
        wait_until(lambda: "", 0, "the moon is blue")


def test_a_healthy_pair_is_late_by_its_delay(healthy: Pair) -> None:
    ages = healthy.heartbeats()
    assert set(ages) == {1, 2}
    assert DELAY_S - 0.5 <= ages[1] <= DELAY_S + 2.5
    assert -0.5 <= ages[2] <= 2.5
    assert healthy.replica.threads() == ("Yes", "Yes")
    assert healthy.replica.status()["SQL_Delay"] == DELAY_S


def test_the_replicas_heartbeat_leaves_no_errant_transaction(healthy: Pair) -> None:
    replica = healthy.replica
    if healthy.family == "mysql":
        uuid = replica.value("SELECT @@server_uuid")
        assert str(uuid) not in replica.executed()
    else:
        # The last part of a GTID but one is the server that wrote it.
        assert "0-2-" not in replica.executed()


def test_the_monitor_may_look_and_no_more(healthy: Pair) -> None:
    with healthy.replica.session(*MONITOR) as run:
        assert len(run("SELECT server_id, ts FROM percona.heartbeat")) == 2
        status = "SHOW REPLICA STATUS" if healthy.family == "mysql" else "SHOW ALL SLAVES STATUS"
        assert len(run(status)) == 1
        with pytest.raises(pymysql.err.MySQLError):
            run("DELETE FROM percona.heartbeat")


def test_a_stopped_sql_thread_lets_the_delay_grow_and_healing_ends_it(healthy: Pair) -> None:
    healthy.replica.stop_sql()
    assert healthy.replica.threads() == ("Yes", "No")
    wait_until(lambda: (healthy.seen_delay() or 0) > DELAY_S + 4, 20, "the delay has grown")
    healthy.replica.start_sql()
    wait_until(lambda: not healthy.trouble(), 20, "the replica has caught up")
    healthy.replica.stop_io()
    assert healthy.replica.threads() == ("No", "Yes")
    healthy.replica.stop_all()
    assert healthy.replica.threads() == ("No", "No")
    healthy.heal()
    assert healthy.trouble() == ""


def test_a_heartbeat_that_stops_grows_old(healthy: Pair) -> None:
    healthy.local_heartbeat.stop()
    wait_until(lambda: healthy.heartbeats()[2] > 3, 20, "the local heartbeat is old")
    healthy.heartbeat.stop()
    wait_until(lambda: (healthy.seen_delay() or 0) > DELAY_S + 3, 30, "the source's heartbeat is old")


def test_a_killed_replica_refuses_and_comes_back_on_the_same_port(healthy: Pair) -> None:
    port = healthy.replica.port
    healthy.replica.kill()
    with pytest.raises(pymysql.err.OperationalError, match=r"2003.*refused"):
        healthy.replica.connect()
    healthy.replica.start()
    assert healthy.replica.port == port
    wait_until(lambda: not healthy.trouble(), 30, "the replica replicates again, with its heartbeat")


def test_a_hung_replica_does_not_answer(healthy: Pair) -> None:
    healthy.replica.pause()
    started = time.monotonic()
    with pytest.raises(pymysql.err.OperationalError, match="timed out"):
        healthy.replica.connect(connect_timeout=1, read_timeout=1)
    assert time.monotonic() - started < 5
    healthy.replica.unpause()
    healthy.replica.wait_ready(10)


def test_a_read_lock_is_held_for_as_long_as_its_session(healthy: Pair) -> None:
    with healthy.replica.session() as run:
        run("FLUSH TABLES WITH READ LOCK")
        wait_until(lambda: healthy.heartbeats()[2] > 3, 20, "the local heartbeat waits for the lock")
    wait_until(lambda: not healthy.trouble(), 30, "the replica goes on")


def test_the_delay_can_be_changed(healthy: Pair) -> None:
    healthy.replica.set_delay(4)
    assert healthy.replica.status()["SQL_Delay"] == 4
    wait_until(lambda: (healthy.seen_delay() or 99) < 7, 20, "the delay has shrunk")
    assert healthy.replica.threads() == ("Yes", "Yes")


def test_a_named_channel(healthy: Pair) -> None:
    healthy.heal(channel="orders")
    assert list(healthy.replica.statuses()) == ["orders"]
    healthy.replica.stop_sql("orders")
    assert healthy.replica.threads("orders") == ("Yes", "No")
    assert healthy.replica.status() == {}


def test_failover_to_another_source(healthy: Pair) -> None:
    second = healthy.fail_over()
    row = healthy.replica.status()
    assert row.get("Source_Host", row.get("Master_Host")) == second.name
    wait_until(lambda: 3 in healthy.heartbeats(), DELAY_S + 20, "the new source's heartbeat has arrived")
    healthy.heal()
    assert set(healthy.heartbeats()) == {1, 2}


def test_writes_on_the_source_arrive_one_delay_later(healthy: Pair) -> None:
    with healthy.write_load(rows_per_s=50):
        wait_until(
            lambda: healthy.replica.sql("SHOW DATABASES LIKE 'load_test'"), DELAY_S + 10, "the database is there"
        )
        wait_until(
            lambda: int(healthy.replica.value("SELECT COUNT(*) FROM load_test.rows_written")) > 20, 20, "rows arrive"
        )


def test_a_replica_in_error_and_a_source_without_its_logs_are_healed(healthy: Pair) -> None:
    healthy.replica.unlogged("DROP DATABASE percona")
    wait_until(lambda: healthy.replica.threads()[1] == "No", 30, "the SQL thread fails")
    assert healthy.replica.status()["Last_SQL_Errno"] != 0
    healthy.source.sql("FLUSH BINARY LOGS")
    newest = healthy.source.rows("SHOW BINARY LOGS")[-1]["Log_name"]
    healthy.source.sql(f"PURGE BINARY LOGS TO '{newest}'")
    healthy.heal()
    assert healthy.replica.threads() == ("Yes", "Yes")


def test_tls_can_be_required_and_verified(healthy: Pair) -> None:
    replica, tls = healthy.replica, healthy.tls
    replica.sql("SET GLOBAL require_secure_transport = ON")
    with pytest.raises(pymysql.err.OperationalError):
        replica.connect(ssl=None, ssl_disabled=True)
    verified = ssl.create_default_context(cafile=str(tls.ca))
    pymysql.connect(host="localhost", port=replica.port, user="root", password=ROOT_PASSWORD, ssl=verified).close()
    with pytest.raises(pymysql.err.OperationalError, match="certificate verify failed"):
        replica.connect(ssl=verified)  # by its address, which is not in the certificate
    other = ssl.create_default_context(cafile=str(tls.other_ca))
    other.check_hostname = False
    with pytest.raises(pymysql.err.OperationalError, match="certificate verify failed"):
        replica.connect(ssl=other)


def test_a_server_alone_takes_further_options(kit: Kit) -> None:
    server = kit.server("mariadb", "--max-connections=33")
    try:
        assert server.value("SELECT @@max_connections") == 33
        assert server.statuses() == {}
    finally:
        server.close()
