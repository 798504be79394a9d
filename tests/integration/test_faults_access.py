"""The way in is closed while the worker runs: privileges, passwords, accounts, TLS. Group 12 of the faults.

A session that is open outlives most of this on every server, so the worker's is ended too; without the fault, it would
not be missed.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pymysql

from .checking import CHECK, WORKER, granted, make_account, revoked
from .matrix import Watched, essential, on
from .servers import Server, Tls, account, literal

SLACK_S = 5.0
"""A look, the next one where a session has just ended, and a busy machine."""
WITH_TLS = ("mysql", "mariadb", "mariadb118")
"""Families whose TLS today's clients speak."""
SHORT_S = 8
"""For how long a certificate is valid that is to expire: time enough to have a server load it."""
NEW_PASSWORD = WORKER[1] + "-and-new"
"""Holds the old one, for which every output is searched."""


def end_sessions(server: Server, who: tuple[str, str] = WORKER) -> None:
    """End the sessions of an account, as a server does that has been restarted or reloaded."""
    for (session,) in server.sql(f"SELECT id FROM information_schema.processlist WHERE user = {literal(who[0])}"):
        with suppress(pymysql.err.MySQLError):  # it may have ended by itself
            server.sql(f"KILL {int(session)}")


def grants_of(server: Server, who: tuple[str, str], role: str) -> tuple[str, str]:
    """The GRANT statements that give an account the replication status, and the heartbeat table."""
    statements = granted(server.kind, ".".join(map(str, server.version)), role, None, who[0]).replica
    grants = [statement for statement in statements if statement.startswith("GRANT ")]
    (table,) = [grant for grant in grants if "heartbeat" in grant]
    (status,) = [grant for grant in grants if grant != table]
    return status, table


@essential
def test_privileges_are_withdrawn(watched: Watched) -> None:
    replica = watched.replica
    status, table = grants_of(replica, WORKER, "worker")
    with watched.fault(
        "12.1", "Access: SELECT on the heartbeat table withdrawn", "heartbeat-missing", within=SLACK_S
    ) as it:
        replica.unlogged(revoked(table))
        it.caused()
        assert "GRANT SELECT ON percona.heartbeat" in it.detected().message
        it.mending()
        replica.unlogged(table)
    with watched.twin("12.1", "another account's is withdrawn"):
        other = grants_of(replica, CHECK, "check")[1]
        replica.unlogged(revoked(other), other)

    with watched.fault(
        "12.2", "Access: privilege for the replication status withdrawn", "status-unreadable", within=SLACK_S
    ) as it:
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
    replica, file = watched.replica, watched.scene.option_file(WORKER)
    old = file.read_text()
    new = old.replace(WORKER[1], NEW_PASSWORD)
    with watched.fault("12.3", "Access: password changed", "connect-failed", within=SLACK_S) as it:
        set_password(replica, NEW_PASSWORD)
        end_sessions(replica)
        it.caused()
        assert "access denied" in it.detected().message
        it.mending()
        file.write_text(new)
    with watched.twin("12.3", "it is changed in the option file, too"):
        set_password(replica, WORKER[1])
        file.write_text(old)
        end_sessions(replica)

    with watched.fault("12.4", "Access: account dropped", "connect-failed", within=SLACK_S) as it:
        replica.unlogged(f"DROP USER {account(WORKER)}")
        end_sessions(replica)
        it.caused()
        assert "access denied" in it.detected().message
        it.mending()
        make_account(replica, WORKER, "worker")
    with watched.twin("12.4", "another account is dropped"):
        replica.unlogged(f"DROP USER {account(CHECK)}")
        end_sessions(replica)
    make_account(replica, CHECK, "check")


def set_password(server: Server, password: str) -> None:
    """Give the worker's account another password."""
    if server.kind == "mysql" and server.version < (5, 7):
        server.unlogged(f"SET PASSWORD FOR {account(WORKER)} = PASSWORD({literal(password)})")
    else:
        server.unlogged(f"ALTER USER {account(WORKER)} IDENTIFIED BY {literal(password)}")


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
    scene, replica = watched.scene, watched.replica
    with scene.worker("in-clear", options=("--ssl-mode", "disabled")):
        scene.expect("OK", "in-range", 60, name="in-clear")
        with (
            watched.fault("12.5", "Access: TLS demanded", "connect-failed", within=SLACK_S, name="in-clear") as it,
            watched.twin("12.5", "the worker uses TLS where it can"),
            tls_demanded(replica),
        ):
            it.caused()
            assert "--ssl-mode required" in it.detected().message
            it.mending()


@on(*WITH_TLS)
def test_certificates(watched: Watched) -> None:
    """A worker that verifies the server's certificate, while authorities and certificates change."""
    pair, scene, replica = watched.pair, watched.scene, watched.replica
    ca = scene.folder / "ca.pem"
    shutil.copy(pair.tls.ca, ca)
    with scene.worker("verifying", options=("--ssl-mode", "verify-ca", "--ssl-ca", str(ca))):
        scene.expect("OK", "in-range", 60, name="verifying")
        with watched.fault(
            "12.6", "Access: certificate of another authority", "connect-failed", within=SLACK_S, name="verifying"
        ) as it:
            shutil.copy(pair.tls.other_ca, ca)
            end_sessions(replica)
            it.caused()
            assert "TLS failed" in it.detected().message
            it.mending()
            shutil.copy(pair.tls.ca, ca)
        with watched.twin("12.6", "both authorities are trusted", name="verifying"):
            ca.write_bytes(pair.tls.ca.read_bytes() + pair.tls.other_ca.read_bytes())
            end_sessions(replica)

        with watched.fault(
            "12.7", "Access: server's certificate expired", "connect-failed", within=SLACK_S, name="verifying"
        ) as it:
            # A server that has one loaded does not mind that it expires; a new one takes none that has.
            serve(replica, signed(pair.tls, scene.folder, valid_s=SHORT_S))
            time.sleep(SHORT_S)
            end_sessions(replica)
            it.caused()
            assert "expired" in it.detected().message
            assert scene.judged().what == ("OK", "in-range"), "who does not verify does not mind"
            it.mending()
            serve(replica, pair.tls.server_cert)
        with watched.twin("12.7", "it is renewed", name="verifying"):
            serve(replica, signed(pair.tls, scene.folder, valid_s=86400))
    serve(replica, pair.tls.server_cert)


def signed(tls: Tls, folder: Path, valid_s: float) -> Path:
    """A certificate for the server's key that is valid for so many seconds from now."""
    made = folder / f"for-{valid_s:g}-seconds.pem"
    (folder / "index").touch()
    (folder / "ca.cnf").write_text(
        f"[ca]\ndefault_ca = ours\n[ours]\ndatabase = {folder}/index\nnew_certs_dir = {folder}\nrand_serial = yes\n"
        "unique_subject = no\ndefault_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n"
    )
    end = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + valid_s))
    subprocess.run(
        [
            *("openssl", "ca", "-config", str(folder / "ca.cnf"), "-batch", "-notext", "-in", "server.csr"),
            *("-cert", "ca.pem", "-keyfile", "ca-key.pem", "-extfile", "server.ext", "-enddate", end),
            *("-out", str(made)),
        ],
        cwd=tls.folder,
        check=True,
        capture_output=True,
    )
    return made


def serve(server: Server, certificate: Path) -> None:
    """Have a running server use another certificate, and end the worker's sessions."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(certificate, arcname="server-cert.pem")
    server.container.put_archive("/tls", archive.getvalue())
    if server.kind == "mariadb":
        server.sql("FLUSH SSL")
    else:
        server.sql("ALTER INSTANCE RELOAD TLS")
    end_sessions(server)
