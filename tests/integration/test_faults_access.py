"""The way in is closed while the worker runs: privileges, passwords, accounts, TLS. Group 12 of the faults.

A session that is open outlives most of this on every server, so the worker's is ended too; without the fault, it would
not be missed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .breaking import set_password
from .checking import CHECK, WORKER, make_account, revoked, statements_for
from .matrix import Watched, essential, on
from .servers import Certificate, Server, account

SLACK_S = 5.0
"""A sample, the next one where a session has just ended, and a busy machine."""
WITH_TLS = ("mysql", "mariadb", "mariadb118")
"""Families whose TLS today's clients speak."""
SHORT_S = 8
"""For how long a certificate is valid that is to expire: time enough to have a server load it."""
NEW_PASSWORD = WORKER[1] + "-and-new"
"""Holds the old one, for which every output is searched."""


def end_sessions(server: Server) -> None:
    server.end_sessions(WORKER[0])


def grants_of(server: Server, who: tuple[str, str], role: str) -> tuple[str, str]:
    """The GRANT statements that give an account the replication status, and the heartbeat table."""
    grants = [each for each in statements_for(server, who, role) if each.startswith("GRANT ")]
    (table,) = [grant for grant in grants if "heartbeat" in grant]
    (status,) = [grant for grant in grants if grant != table]
    return status, table


@essential
def test_privileges_are_withdrawn(watched: Watched) -> None:
    replica = watched.replica
    status, table = grants_of(replica, WORKER, "worker")
    title = "Access: SELECT on the heartbeat table withdrawn"
    with watched.fault("12.1", title, "heartbeat-missing", within=SLACK_S) as it:
        replica.unlogged(revoked(table))
        assert "GRANT SELECT ON percona.heartbeat" in it.detected().message
        it.mending()
        replica.unlogged(table)
    with watched.twin("12.1", "another account's is withdrawn"):
        other = grants_of(replica, CHECK, "check")[1]
        replica.unlogged(revoked(other), other)

    title = "Access: privilege for the replication status withdrawn"
    with watched.fault("12.2", title, "status-unreadable", within=SLACK_S) as it:
        replica.unlogged(revoked(status))
        end_sessions(replica)
        it.caused()
        needed = "REPLICATION CLIENT" if replica.kind == "mysql" else "SLAVE MONITOR"
        assert f"GRANT {needed} ON *.*" in it.detected().message
        it.mending()
        replica.unlogged(status)
        end_sessions(replica)
    with watched.twin("12.2", "the session is ended, and no privilege withdrawn"):
        end_sessions(replica)


@essential
def test_a_password_is_changed(watched: Watched) -> None:
    """The worker takes the new one from the option file, without a restart."""
    replica, file = watched.replica, watched.option_file(WORKER)
    old = file.read_text()
    new = old.replace(WORKER[1], NEW_PASSWORD)
    with watched.fault("12.3", "Access: password changed", "connect-failed", within=SLACK_S) as it:
        set_password(replica, WORKER, NEW_PASSWORD)
        end_sessions(replica)
        assert "access denied" in it.detected().message
        it.mending()
        file.write_text(new)
    with watched.twin("12.3", "it is changed in the option file, too"):
        set_password(replica, WORKER, WORKER[1])
        file.write_text(old)
        end_sessions(replica)

    with watched.fault("12.4", "Access: account dropped", "connect-failed", within=SLACK_S) as it:
        replica.unlogged(f"DROP USER {account(WORKER)}")
        end_sessions(replica)
        assert "access denied" in it.detected().message
        it.mending()
        make_account(replica, WORKER, "worker")
    with watched.twin("12.4", "another account is dropped"):
        replica.unlogged(f"DROP USER {account(CHECK)}")
        end_sessions(replica)
    make_account(replica, CHECK, "check")


@contextmanager
def tls_demanded(server: Server) -> Iterator[None]:
    """Meanwhile the server lets nobody in without TLS."""
    server.sql("SET GLOBAL require_secure_transport = ON")
    end_sessions(server)
    try:
        yield
    finally:
        server.sql("SET GLOBAL require_secure_transport = OFF")


@on(*WITH_TLS)
def test_tls_is_demanded(watched: Watched) -> None:
    """Of two workers, one may not use it."""
    replica = watched.replica
    with watched.worker("in-clear", options=("--ssl-mode", "disabled")):
        watched.expect("OK", "in-range", 60, name="in-clear")
        with (
            watched.fault("12.5", "Access: TLS demanded", "connect-failed", within=SLACK_S, name="in-clear") as it,
            watched.twin("12.5", "the worker uses TLS where it can"),
            tls_demanded(replica),
        ):
            assert "--ssl-mode required" in it.detected().message
            it.mending()


@on(*WITH_TLS)
def test_certificates(watched: Watched) -> None:
    """A worker that verifies the server's certificate, while authorities and certificates change."""
    pair, replica = watched.pair, watched.replica
    ca = watched.folder / "ca.pem"
    shutil.copy(pair.kit.tls.ca, ca)
    with watched.worker("verifying", options=("--ssl-mode", "verify-ca", "--ssl-ca", str(ca))):
        watched.expect("OK", "in-range", 60, name="verifying")
        title = "Access: certificate of another authority"
        with watched.fault("12.6", title, "connect-failed", within=SLACK_S, name="verifying") as it:
            shutil.copy(pair.kit.tls.other_ca, ca)
            end_sessions(replica)
            assert "TLS failed" in it.detected().message
            it.mending()
            shutil.copy(pair.kit.tls.ca, ca)
        with watched.twin("12.6", "both authorities are trusted", name="verifying"):
            ca.write_bytes(pair.kit.tls.ca.read_bytes() + pair.kit.tls.other_ca.read_bytes())
            end_sessions(replica)

        title = "Access: server's certificate expired"
        with watched.fault("12.7", title, "connect-failed", within=SLACK_S, name="verifying") as it:
            # A server that has one loaded does not mind that it expires; a new one takes none that has.
            serve(replica, pair.kit.tls.issue("short", SHORT_S))
            time.sleep(SHORT_S)
            end_sessions(replica)
            assert "expired" in it.detected().message
            assert watched.judged().what == ("OK", "in-range"), "who does not verify does not mind"
            it.mending()
            serve(replica, pair.kit.tls.server)
        with watched.twin("12.7", "it is renewed", name="verifying"):
            serve(replica, pair.kit.tls.issue("renewed"))
    serve(replica, pair.kit.tls.server)


def serve(server: Server, certificate: Certificate) -> None:
    """Have a running server use another certificate, and end the worker's sessions."""
    server.put_files({f"/tls/server-{what}.pem": file.read_bytes() for what, file in certificate._asdict().items()})
    server.sql("FLUSH SSL" if server.kind == "mariadb" else "ALTER INSTANCE RELOAD TLS")
    end_sessions(server)
