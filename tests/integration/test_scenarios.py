"""A night with a backup, and a quiet line, on real pairs: what is held back, for how long, and what disturbs nothing.

One worker takes samples of the replica under two names, of which a backup is recorded for one alone: so every
disturbance is judged twice. What other limits would have made of it is told from the recording.
"""

from __future__ import annotations

import re
import time

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
    held_line,
    make_account,
    revoked,
    story,
    tool,
    until,
)
from .servers import Family, Kit, account, literal, wait_until

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
        began = time.time()
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
            released = time.time()
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
        scene.look_after(time.time())
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
def test_every_mode_of_tls(scene: Scene) -> None:
    """Against a replica that lets nobody in without it."""
    replica, material = scene.pair.replica, scene.pair.kit.tls
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


def test_a_shared_history_by_the_accounts_that_grants_makes(scene: Scene, kit: Kit, family: Family) -> None:
    """Worker, check and job writer on three accounts of their own, each of which has what it needs and no more."""
    keeper = kit.shared_server(family)
    keeper.sql("DROP DATABASE IF EXISTS `delayed`")

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
