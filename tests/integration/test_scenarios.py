"""A night with a backup, and a quiet line, on real pairs: what is held back, for how long, and what disturbs nothing.

One worker takes samples of the replica under two names, of which a backup is recorded for one alone: so every
disturbance is judged twice. What other limits would have made of it is told from the recording.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from .checking import (
    CHECK,
    JOB,
    WORKER,
    Moment,
    Outcome,
    Scene,
    assert_only,
    between,
    changes,
    check,
    held_line,
    make_account,
    now,
    revoked,
    story,
    tool,
    until,
)
from .servers import Family, Kit, Server, account, literal, wait_until

SILENT = "orders-unannounced"
"""The replica's name in the history for which no job is recorded."""
OK = ("OK", "in-range")
ACTIVE = ("WARNING", "active-backup")
RECOVERY = ("WARNING", "backup-recovery-window")
EXCEEDED = ("CRITICAL", "recovery-exceeded")
PROBE = ("probe", "probe-secret-7h")
"""An account to take privileges from, so that the others keep theirs."""


def from_ok(moments: list[Moment]) -> list[Moment]:
    """Without the first samples, which are too few for a verdict."""
    first = next(place for place, moment in enumerate(moments) if moment.state == "OK")
    return moments[first:]


def established(scene: Scene) -> None:
    """Both names are OK: each by samples of its own."""
    for name in (scene.name, SILENT):
        scene.expect(*OK, 20, name=name)


def test_a_backup_stops_the_sql_thread_and_the_line_recovers(scene: Scene) -> None:
    replica = scene.pair.replica
    overrun = ("--max-backup-behind", "4")
    hasty = ("--max-recovery-time", "3")
    with scene.worker(scene.name, SILENT):
        established(scene)
        job = scene.start()
        began = now()
        replica.stop_sql()
        scene.expect("CRITICAL", "sql-stopped", 10, name=SILENT)
        # Each name has samples of its own, so that one may show it before the other.
        assert (
            until(scene.judged, lambda outcome: "sql-stopped" in outcome.conditions, 40, "sql-stopped").what == ACTIVE
        )
        wait_until(lambda: (scene.pair.seen_delay() or 0) > 20, 60, "the delay is longer than 20 s")
        scene.expect("CRITICAL", "job-overrun", 10, *overrun)
        # A slow transaction keeps the line from recovering at once.
        with held_line(replica):
            replica.start_sql()
            finished = scene.finish(job)
            outcome = scene.expect(*RECOVERY, 5)
            assert "--max-recovery-time" in outcome.message
            scene.expect("CRITICAL", "delay-out-of-bounds", 5, name=SILENT)
            scene.expect(*EXCEEDED, 12, *hasty)
            released = now()
        for options, name in (((), None), (hasty, None), (overrun, None), ((), SILENT)):
            scene.expect(*OK, 15, *options, name=name)

    moments = from_ok(scene.replay())
    assert changes(moments) == [OK, ACTIVE, RECOVERY, OK], story(moments)
    assert_only(between(moments, began + 2, finished - 2), "active-backup")
    # Exceeded once it is, and until the line is back.
    moments = from_ok(scene.replay(*hasty))
    assert changes(moments) == [OK, ACTIVE, RECOVERY, EXCEEDED, OK], story(moments)
    # The overrun holds nothing, from the moment that the limit has passed until the job is finished.
    moments = from_ok(scene.replay(*overrun))
    assert changes(moments)[:3] == [OK, ACTIVE, ("CRITICAL", "job-overrun")], story(moments)
    # And without any record.
    moments = from_ok(scene.replay(name=SILENT))
    assert_only(between(moments, began + 2, released), "CRITICAL")
    assert moments[-1].state == "OK"


def test_a_backup_stops_the_server(scene: Scene) -> None:
    """The worker takes its samples by the socket, as on the replica itself."""
    scene.by_socket = True
    replica = scene.pair.replica
    may_stop = ("--job-stops-server", "backup")
    with scene.worker(scene.name, SILENT):
        established(scene)
        job = scene.start()
        scene.look_after(now())
        replica.stop()
        outcome = scene.expect("CRITICAL", "server-down", 10)
        assert str(replica.socket) in outcome.message
        outcome = scene.judged(*may_stop)
        assert outcome.what == ACTIVE
        assert "server-down" in outcome.conditions
        scene.expect("CRITICAL", "server-down", 10, *may_stop, name=SILENT)
        replica.start()
        wait_until(lambda: not scene.pair.trouble(), 90, "the replica replicates again, with its heartbeat")
        finished = scene.finish(job)
        scene.expect(*OK, 25, *may_stop)
        scene.look_after(finished)
    moments = from_ok(scene.replay(*may_stop))
    assert changes(moments)[:2] == [OK, ACTIVE], story(moments)
    assert_only(moments, "OK", "WARNING")
    assert changes(moments)[-1] == OK, story(moments)
    assert ("CRITICAL", "server-down") in changes(scene.replay()), "no other job accounts for a server that is down"


@pytest.mark.essential("mariadb")
def test_a_quiet_line_is_ok_whatever_is_asked_meanwhile(scene: Scene) -> None:
    steps: list[Callable[[Scene], None]] = [every_privilege_is_needed_and_named, wrong_ways_in, tls]
    with scene.worker(interval=2):
        scene.expect(*OK, 20)
        begin = now()
        for step in steps:
            step(scene)
        wait_until(lambda: now() > begin + 30, 60, "half a minute has passed")
        assert scene.judged().what == OK
        end = now()
    moments = between(scene.replay(), begin, end)
    assert changes(moments) == [OK], story(moments)


def every_privilege_is_needed_and_named(scene: Scene) -> None:
    """The account that `grants` makes can do all that the check needs; without any one of its rights, the check names
    the one that is missing."""
    aside, replica = scene.aside("privileges"), scene.pair.replica
    grants = make_account(replica, PROBE, "check")
    assert aside.inline(who=PROBE).what == OK
    status = "REPLICATION CLIENT" if scene.pair.family == "mysql" else "SLAVE MONITOR"
    named = {"status-unreadable": f"GRANT {status} ON *.*", "heartbeat-missing": "GRANT SELECT ON percona.heartbeat"}
    for grant in grants:
        condition = "heartbeat-missing" if "heartbeat" in grant else "status-unreadable"
        replica.unlogged(revoked(grant))
        outcome = aside.inline(who=PROBE)
        assert outcome.what == ("CRITICAL", condition), grant
        assert named.pop(condition) in outcome.message
        replica.unlogged(grant)
        assert aside.inline(who=PROBE).what == OK
    assert not named, "every right was taken away once"
    if scene.pair.family == "mariadb":
        # What other servers call the privilege is another one here, and not enough.
        (grant,) = [grant for grant in grants if "SLAVE MONITOR" in grant]
        replica.unlogged(revoked(grant), f"GRANT REPLICATION CLIENT ON *.* TO {account(PROBE)}")
        outcome = aside.inline(who=PROBE)
        assert outcome.what == ("CRITICAL", "status-unreadable")
        assert "SLAVE MONITOR" in outcome.message
    replica.drop_account(PROBE)


def wrong_ways_in(scene: Scene) -> None:
    """A wrong password, a user that is not there, a table that is not there, an id that has no heartbeat."""
    scene = scene.aside("wrong")
    replica = scene.pair.replica
    for user in (CHECK[0], "nobody"):
        outcome = check(
            "-H", replica.host, "-P", str(replica.port), "-u", user, "-p", "wrong-7h", "--history", scene.history
        )
        assert outcome.what == ("CRITICAL", "connect-failed")
        assert "access denied" in outcome.message
        assert "wrong-7h" not in outcome.text
    absent = scene.inline("--heartbeat-table", "percona.nothing")
    assert absent.what == ("CRITICAL", "heartbeat-missing")
    assert "percona.nothing" in absent.message
    other = scene.inline("--master-server-id", "77")
    assert other.what == ("CRITICAL", "heartbeat-missing")
    assert "server 1, 2 (this server)" in other.message
    assert scene.inline("--source-server-id", "1").what == OK


def tls(scene: Scene) -> None:
    """Every mode, against a replica that lets nobody in without TLS."""
    scene = scene.aside("tls")
    replica, material = scene.pair.replica, scene.pair.tls
    replica.unlogged(
        f"CREATE USER {account(PROBE)} IDENTIFIED BY {literal(PROBE[1])} REQUIRE X509",
        f"GRANT SELECT ON percona.heartbeat TO {account(PROBE)}",
        f"GRANT {'REPLICATION CLIENT' if scene.pair.kind == 'mysql' else 'SLAVE MONITOR'} ON *.* TO {account(PROBE)}",
        "SET GLOBAL require_secure_transport = ON",
    )

    def seen(mode: str, *options: str, by_name: bool = False, who: tuple[str, str] = CHECK) -> Outcome:
        where = ("--host", "localhost") if by_name else ()
        return scene.inline("--ssl-mode", mode, *where, *options, who=who)

    ours, others = ("--ssl-ca", str(material.ca)), ("--ssl-ca", str(material.other_ca))
    client = ("--ssl-cert", str(material.client.cert), "--ssl-key", str(material.client.key))
    try:
        assert seen("preferred").what == OK
        assert seen("required").what == OK
        assert seen("verify-ca", *ours).what == OK
        assert seen("VERIFY_IDENTITY", *ours, by_name=True).what == OK
        assert seen("required", *client, who=PROBE).what == OK
        for outcome, word in (
            (seen("disabled"), "--ssl-mode"),
            (seen("verify-ca", *others), "TLS failed"),
            (seen("verify-identity", *others, by_name=True), "TLS failed"),
            (seen("verify-identity", *ours), "TLS failed"),  # by its address, which is not in the certificate
            (seen("verify-ca", "--ssl-ca", str(scene.folder / "no-such.pem")), "no-such.pem"),
            (seen("required", who=PROBE), "access denied"),
        ):
            assert outcome.what == ("CRITICAL", "connect-failed"), outcome.text
            assert word in outcome.message
    finally:
        replica.unlogged("SET GLOBAL require_secure_transport = OFF")
        replica.drop_account(PROBE)


@pytest.fixture
def keeper(kit: Kit, family: Family) -> Iterator[Server]:
    """A server for the shared history."""
    server = kit.server(family, name="keeper")
    yield server
    server.close()


def test_a_shared_history_by_the_accounts_that_grants_makes(scene: Scene, keeper: Server) -> None:
    """Worker, check and job writer on three accounts of their own, each of which has what it needs and no more."""

    def url(who: tuple[str, str]) -> str:
        file = scene.option_file(who)
        return f"mysql://{who[0]}@{keeper.host}:{keeper.port}/delayed?defaults-file={file}"

    for who, role in ((WORKER, "worker"), (JOB, "job")):
        make_account(keeper, who, role, url(who), only="history")
    grants = make_account(keeper, CHECK, "check", url(CHECK), only="history")
    scene.history = url(WORKER)
    with scene.worker():
        scene.history = url(CHECK)
        scene.expect(*OK, 20)
        wait_until(lambda: scene.inline().what == OK, 60, "the check's own sample is judged with the worker's")
        record = ("--history", url(JOB), "--replica", scene.name)
        job = tool("job", "start", *record, "--kind", "backup").strip()
        scene.expect(*ACTIVE, 5)
        tool("job", "finish", job, *record)
        scene.expect(*OK, 5)
        for grant in grants:
            table = re.search(r"`delayed`\.`(\w+)`", grant)
            if table and table[1] != "schema_version":  # which the worker has read, too
                keeper.unlogged(revoked(grant))
                outcome = scene.inline()
                assert outcome.what == ("CRITICAL", "history-unavailable"), grant
                assert "in-range" in outcome.conditions, "what can be told without a history is told"
                keeper.unlogged(grant)
        assert scene.inline().what == OK
        with keeper.session(*JOB) as session:
            for (table,) in keeper.sql("SHOW TABLES FROM `delayed`"):
                with pytest.raises(Exception, match="denied"):
                    session(f"SELECT * FROM `delayed`.{table}")
