"""A healthy line, watched for two minutes; and, on the same pair meanwhile, everything that must not disturb it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

from check_delayed_repl.records import Sample

from .checking import (
    CHECK,
    SCALED,
    Outcome,
    Scene,
    changes,
    check,
    make_account,
    now,
    revoked,
    story,
    tool,
)
from .servers import MONITOR, account, literal, wait_until

WATCH_S = 120.0
INTERVAL_S = 2.0
"""Between two looks; a look has as long for an answer, on a machine that is busy with other tests."""
PROBE = ("probe", "probe-secret-7h")
"""An account to take privileges from, so that the others keep theirs."""


def test_a_healthy_line_is_ok_for_two_minutes_whatever_is_asked_meanwhile(scene: Scene) -> None:
    steps: list[Callable[[Scene], None]] = [
        text_and_json_agree,
        two_processes_share_the_history,
        a_job_that_overruns_in_range,
        another_kind_of_job,
        a_job_run_as_a_command,
        every_privilege_is_needed_and_named,
        tls,
        wrong_ways_in,
    ]
    with scene.worker(interval=INTERVAL_S):
        scene.expect("OK", "in-range", 20)
        begin = now()
        failures = []
        for step in steps:
            try:
                step(scene)
            except Exception as error:  # noqa: BLE001 - the other steps and the watch are to be heard of, too
                error.add_note(f"in {step.__name__}")
                failures.append(error)
        while now() < begin + WATCH_S:
            assert scene.judged().what == ("OK", "in-range")
            time.sleep(5)
        end = now()
    moments = [moment for moment in scene.replay() if begin < moment.t < end]
    assert len(moments) > 0.9 * WATCH_S / INTERVAL_S, story(moments)
    assert changes(moments) == [("OK", "in-range")], story(moments)
    if failures:
        raise ExceptionGroup("on the quiet line", failures)


def text_and_json_agree(scene: Scene) -> None:
    """Both forms say the same of the same looks, but for what depends on the moment."""
    scene = scene.aside("forms")
    for _ in range(4):
        scene.inline()
    # A slope that jitter over so short a time cannot feign.
    tight = ("--max-delay-time", "8", "--min-delay-time", "1", "--min-recovery-slope", "100")
    for options in ((), tight):
        text, document = scene.judged(*options), scene.judged_json(*options)
        assert document["state"] == text.state
        assert [(found["state"], found["condition"]) for found in document["findings"]] == [
            (found.state, found.condition) for found in text.findings
        ]
        assert list(document["metrics"]) == list(text.perfdata)
        for label in ("delay", "intercept", "slope", "samples", "local_heartbeat_age", "sql_delay"):
            value = float(text.perfdata[label].partition(";")[0].rstrip("s"))
            assert document["metrics"][label] == pytest.approx(value, abs=1e-5), label
        assert document["replica"] == scene.name
        assert document["limits"]["max_delay_time"] == (8 if options else 16)
    assert text.what == ("CRITICAL", "delay-out-of-bounds")
    assert "--max-delay-time" in text.message


def two_processes_share_the_history(scene: Scene) -> None:
    """An inline check puts its looks among the worker's; both find the line in range."""
    begin = now()
    for _ in range(5):
        assert scene.inline().what == ("OK", "in-range")
        assert scene.judged().what == ("OK", "in-range")
    # More than the five: the worker's own looks, too.
    wait_until(
        lambda: sum(isinstance(record, Sample) and record.t > begin for record in scene.recording()) >= 8,
        10,
        "the looks of both are in the history",
    )


def a_job_that_overruns_in_range(scene: Scene) -> None:
    scene = scene.aside("overrun")
    scene.inline()
    began = now()
    job = scene.start()
    limit = ("--max-backup-behind", "4")
    first = scene.inline(*limit)
    assert first.what == ("WARNING", "active-backup")
    assert first.message.startswith("Active backup: running ")
    overrun = scene.expect("CRITICAL", "job-overrun", 15, *limit, look=scene.inline)
    assert now() > began + 4
    assert "limit 4" in overrun.message
    assert "--max-backup-behind" in overrun.message
    assert scene.inline().what == ("WARNING", "active-backup"), "under the other limit it has not overrun"
    tool("job", "void", job, "--history", scene.history, "--replica", scene.name)
    assert scene.inline(*limit).what == ("OK", "in-range")


def another_kind_of_job(scene: Scene) -> None:
    scene = scene.aside("kinds")
    scene.inline()
    job = scene.start("reindex")
    known = ("--max-job-behind", "reindex=1m")
    outcome = scene.inline(*known)
    assert outcome.what == ("WARNING", "active-reindex")
    assert float(outcome.perfdata["reindex_age"].partition("s;")[0]) > 0
    unknown = scene.inline()
    assert unknown.what == ("WARNING", "job-record-invalid")
    assert job in unknown.message
    scene.finish(job)
    assert scene.inline(*known).what == ("OK", "in-range")


def a_job_run_as_a_command(scene: Scene) -> None:
    """`job run` records both ends around a real command, here the check itself: it sees the job that it is."""
    scene = scene.aside("command")
    scene.inline()
    printed = tool(
        *("job", "run", "--history", scene.history, "--replica", scene.name, "--kind", "deshard", "--"),
        *("sh", "-c", '"$@"; exit $(($? - 1))', "sh"),
        *(sys.executable, "-m", "check_delayed_repl", *scene.check_options),
        *("--history", scene.history, "--replica", scene.name, *SCALED),
    )
    assert printed.startswith("DELAYED_REPL WARNING - Active deshard: running ")
    assert scene.inline().what == ("OK", "in-range")


def every_privilege_is_needed_and_named(scene: Scene) -> None:
    """The account that `grants` makes can do all that the check needs; without any one of its rights, the check names
    the one that is missing."""
    aside, replica = scene.aside("privileges"), scene.pair.replica
    grants = make_account(replica, PROBE, "check")
    aside.check_account = PROBE
    assert aside.inline().what == ("OK", "in-range")

    status = "REPLICATION CLIENT" if scene.pair.family == "mysql" else "SLAVE MONITOR"
    table = "GRANT SELECT ON percona.heartbeat"
    named = {"status-unreadable": f"GRANT {status} ON *.*", "heartbeat-missing": table}
    for grant in grants:
        condition = "heartbeat-missing" if "heartbeat" in grant else "status-unreadable"
        replica.unlogged(revoked(grant))
        outcome = aside.inline()
        assert outcome.what == ("CRITICAL", condition), grant
        assert named.pop(condition) in outcome.message
        assert aside.inline("--no-local-heartbeat").what == ("CRITICAL", condition), grant
        replica.unlogged(grant)
        assert aside.inline().what == ("OK", "in-range")
    assert not named, "every right was taken away once"

    if scene.pair.family == "mariadb":
        # What other servers call the privilege is another one here, and not enough.
        (grant,) = [grant for grant in grants if "SLAVE MONITOR" in grant]
        replica.unlogged(revoked(grant), f"GRANT REPLICATION CLIENT ON *.* TO {account(PROBE)}")
        outcome = aside.inline()
        assert outcome.what == ("CRITICAL", "status-unreadable")
        assert "SLAVE MONITOR" in outcome.message
    replica.unlogged(f"DROP USER {account(PROBE)}")


def tls(scene: Scene) -> None:
    """Every mode, against a replica that lets nobody in without TLS."""
    scene = scene.aside("tls")
    replica, material = scene.pair.replica, scene.pair.tls
    replica.unlogged(
        f"CREATE USER 'bearer'@'%' IDENTIFIED BY {literal(PROBE[1])} REQUIRE X509",
        "GRANT SELECT ON percona.heartbeat TO 'bearer'@'%'",
        f"GRANT {'REPLICATION CLIENT' if scene.pair.family == 'mysql' else 'SLAVE MONITOR'} ON *.* TO 'bearer'@'%'",
        "SET GLOBAL require_secure_transport = ON",
    )
    try:
        by_name = [option if option != replica.host else "localhost" for option in scene.check_options]

        def look(*options: str, connection: list[str] | None = None) -> Outcome:
            return check(
                *(connection or scene.check_options),
                "--history",
                scene.history,
                "--replica",
                scene.name,
                *SCALED,
                *options,
            )

        ok, refused = ("OK", "in-range"), ("CRITICAL", "connect-failed")
        assert look().what == ok
        plain = look("--ssl-mode", "disabled")
        assert plain.what == refused
        assert "--ssl-mode" in plain.message
        assert look("--ssl-mode", "preferred").what == ok
        assert look("--ssl-mode", "required").what == ok
        assert look("--ssl-mode", "verify-ca", "--ssl-ca", str(material.ca)).what == ok
        for mode in ("verify-ca", "verify-identity"):
            wrong = look("--ssl-mode", mode, "--ssl-ca", str(material.other_ca), connection=by_name)
            assert wrong.what == refused
            assert "TLS failed" in wrong.message
            assert "--ssl-ca" in wrong.message
        assert look("--ssl-mode", "VERIFY_IDENTITY", "--ssl-ca", str(material.ca), connection=by_name).what == ok
        misnamed = look("--ssl-mode", "verify-identity", "--ssl-ca", str(material.ca))
        assert misnamed.what == refused
        assert "TLS failed" in misnamed.message
        missing = look("--ssl-mode", "verify-ca", "--ssl-ca", str(scene.folder / "no-such.pem"))
        assert missing.what == refused
        assert "no-such.pem" in missing.message

        bearer = scene.connection_options(("bearer", PROBE[1]))
        pair_of_files = ("--ssl-cert", str(material.client_cert), "--ssl-key", str(material.client_key))
        assert look("--ssl-mode", "required", *pair_of_files, connection=bearer).what == ok
        without = look("--ssl-mode", "required", connection=bearer)
        assert without.what == refused
        assert "access denied" in without.message
    finally:
        replica.unlogged("SET GLOBAL require_secure_transport = OFF", "DROP USER 'bearer'@'%'")


def wrong_ways_in(scene: Scene) -> None:
    """A wrong password, a user that is not there, a table that is not there, an id that has no heartbeat."""
    scene = scene.aside("wrong")
    replica = scene.pair.replica
    there = ("-H", replica.host, "-P", str(replica.port), "--history", scene.history, "--replica", scene.name, *SCALED)
    for user in (CHECK[0], "nobody"):
        outcome = check(*there, "-u", user, "-p", "wrong-7h")
        assert outcome.what == ("CRITICAL", "connect-failed")
        assert "access denied" in outcome.message
        assert "wrong-7h" not in outcome.text
    assert check(*there, "-u", MONITOR[0], "-p", MONITOR[1]).state == "OK", "a password on the command line serves, too"
    absent = check(*there, "-u", MONITOR[0], "-p", MONITOR[1], "--heartbeat-table", "percona.nothing")
    assert absent.what == ("CRITICAL", "heartbeat-missing")
    assert "percona.nothing" in absent.message
    other = scene.inline("--master-server-id", "77")
    assert other.what == ("CRITICAL", "heartbeat-missing")
    assert "server 1, 2 (this server)" in other.message
    assert scene.inline("--source-server-id", "1").what == ("OK", "in-range")
