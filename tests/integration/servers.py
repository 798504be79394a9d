"""Real servers in containers: a source, its delayed replica, pt-heartbeat on both, and the means to break them.

The layers, from the ground up:

- `wait_until` waits for a condition, with a deadline; nothing here sleeps for a fixed time.
- `Server` is one MySQL or MariaDB server in a container: root's SQL, its replication, its process (stop, kill, hang).
- `Heartbeat` is one pt-heartbeat in a container, writing to one server; `SlaveDelay` one pt-slave-delay.
- `Pair` is a source, a replica delayed by the server itself, and a heartbeat on each. `Pair.heal()` makes it healthy
  again whatever a test has done to it.
- `Kit` makes them, knows the images, the TLS material and the run's label, and removes everything at the end.

A test gets a healed pair from the fixture `healthy` (see conftest.py), for each family in turn::

    def test_stopped(healthy: Pair) -> None:
        healthy.replica.stop_sql()
        ...  # run the check with healthy.options
        # no cleaning up: the next test's fixture heals the pair

Images are named by the environment (tests/run sets it): CHECK_DELAYED_REPL_{FAMILY}_IMAGE and
CHECK_DELAYED_REPL_{FAMILY}_HEARTBEAT_IMAGE, where FAMILY is MYSQL, MARIADB, MYSQL56 or MARIADB118. An official image
serves as well as one built from docker/.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

# Containers are removed by their label instead (see `remove_labelled`): Ryuk's image cannot be had everywhere.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

import docker.errors
import pymysql
import pymysql.cursors
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

import docker

Kind = Literal["mysql", "mariadb"]
Family = Literal["mysql", "mariadb", "mysql56", "mariadb118"]
"""A kind of server, and an old or a new one of it where a number follows."""

LABEL = "check-delayed-repl.tests"
"""Label of every container and network made here; its value is the run's id."""
RUN_VARIABLE = "CHECK_DELAYED_REPL_TEST_RUN"
"""Environment variable that holds the run's id, so that whoever started the run can clean up after it."""

ROOT_PASSWORD = "root-secret"
MONITOR = ("monitor", "monitor-secret")
"""The check's account, with the least rights that it needs."""
HEARTBEAT = ("heartbeat", "heartbeat-secret")
REPLICATION = ("repl", "repl-secret")
SLAVE_DELAY = ("slave_delay", "slave-delay-secret")
_MARIADB_SLAVE_DELAY_RIGHTS = "REPLICATION SLAVE ADMIN, SLAVE MONITOR"

DELAY_S = 10
"""How long a healthy replica is delayed, in seconds."""
SLAVE_DELAY_INTERVAL_S = 3
"""How often pt-slave-delay looks: the delay is a saw-tooth between DELAY_S and a second more than both together."""
HEARTBEAT_TABLE = "percona.heartbeat"
GENERAL_LOG_FILE = "/var/lib/mysql/general.log"
GENERAL_LOG = ("--general-log=ON", "--log-output=FILE", f"--general-log-file={GENERAL_LOG_FILE}")
"""Options of a server whose statements are read with `Server.asked`."""

_SYSTEM_DATABASES = ("information_schema", "mysql", "performance_schema", "sys")
_SYSTEM_ACCOUNTS = ("root", "mariadb.sys", "mysql", "mysql.infoschema", "mysql.session", "mysql.sys", "healthcheck")
_UNREACHABLE = (pymysql.err.MySQLError, OSError)

T = TypeVar("T")


class NotInTime(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(
    condition: Callable[[], T | None], deadline_s: float, what: str, *, interval_s: float = 0.2, retry: bool = True
) -> T:
    """Wait until `condition` gives something true, and return it.

    An error of the server counts as not yet (unless `retry` is False) and is told where the deadline passes, together
    with the last value. Raises NotInTime.
    """
    end = time.monotonic() + deadline_s
    last: object = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except _UNREACHABLE as error:
            if not retry:
                raise
            last = error
        if time.monotonic() >= end:
            raise NotInTime(f"{what}: not within {deadline_s:g} s (last seen: {last!r})")
        time.sleep(interval_s)


def literal(value: str | int) -> str:
    """A value as SQL text, for the statements that take no parameters."""
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


class Tls(NamedTuple):
    """Files of a certificate authority and what it signed.

    The server's certificate is valid for `localhost` and the servers' names in the containers' network, and not for
    127.0.0.1: verify-identity passes by the name and fails by the address.
    """

    folder: Path
    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    """Signed by the CA too, for accounts that REQUIRE X509."""
    client_key: Path
    other_ca: Path
    """Another authority, that signed nothing here: verify-ca must fail with it."""


def make_tls(folder: Path, names: Sequence[str] = ("localhost", "source", "replica", "second")) -> Tls:
    """Make TLS material with openssl; raises subprocess.CalledProcessError."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for authority in ("ca", "other-ca"):
        openssl(
            *("req", "-x509", *key, "-keyout", f"{authority}-key.pem", "-out", f"{authority}.pem", "-days", "30"),
            *("-subj", f"/CN=delayed-repl tests {authority}", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
    for role in ("server", "client"):
        (folder / f"{role}.ext").write_text(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
            f"extendedKeyUsage={role}Auth\nsubjectAltName=" + ",".join(f"DNS:{name}" for name in names) + "\n"
        )
        openssl("req", "-new", *key, "-keyout", f"{role}-key.pem", "-out", f"{role}.csr", "-subj", f"/CN={role}")
        openssl(
            *("x509", "-req", "-in", f"{role}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial"),
            *("-out", f"{role}-cert.pem", "-days", "30", "-extfile", f"{role}.ext"),
        )
    return Tls(
        folder,
        folder / "ca.pem",
        folder / "server-cert.pem",
        folder / "server-key.pem",
        folder / "client-cert.pem",
        folder / "client-key.pem",
        folder / "other-ca.pem",
    )


def free_port() -> int:
    """A TCP port that nothing uses. It lies below the ports that the system hands out by itself, so that it is still
    free when a stopped server comes back."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no free TCP port between 20000 and 32000")


def kind_of(family: Family) -> Kind:
    """Whose SQL a family understands."""
    return "mariadb" if family.startswith("mariadb") else "mysql"


class Server:
    """A server in a container. Its port on the test's side stays the same for as long as it lives.

    SQL is run as root. `channel` is a MySQL channel or a MariaDB connection name; empty is the default one. `tmpfs` are
    small disks in the container: folder → mount options, such as ``size=1m``. They are empty again after a stop.
    """

    def __init__(
        self,
        kit: Kit,
        family: Family,
        name: str,
        server_id: int,
        network: Network,
        *options: str,
        tmpfs: Mapping[str, str] | None = None,
        gtid: bool = True,
    ) -> None:
        self.kit = kit
        self.tmpfs = dict(tmpfs or {})
        self.gtid = gtid
        """Whether it replicates by GTID (as a replica), or by file and position."""
        self.family: Family = family
        self.kind: Kind = kind_of(family)
        self.name = name
        """The server's name in the containers' network."""
        self.server_id = server_id
        self.port = free_port()
        self.host = "127.0.0.1"
        self._socket_folder = kit.socket_folder()
        self._network = network
        self._options = options
        self._container: DockerContainer | None = None
        self._version: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        return f"<{self.family} {self.name} at {self.host}:{self.port}>"

    # The process

    def launch(self) -> Server:
        """Make the container and start it; returns before the server answers (`wait_ready` waits)."""
        prefix = self.kind.upper()
        options = [
            f"--server-id={self.server_id}",
            "--log-bin=bin",
            "--relay-log=relay",
            "--binlog-format=ROW",
            # Made for tests: small, and no waiting for the disk.
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=OFF",
            "--sync-binlog=0",
        ]
        if self.kind == "mysql":
            on = "ON" if self.gtid else "OFF"
            options += [f"--gtid-mode={on}", f"--enforce-gtid-consistency={on}"]
        if self.family == "mysql":
            options += ["--log-replica-updates=ON", "--loose-mysqlx=OFF", "--loose-innodb-redo-log-capacity=8M"]
        else:
            options += ["--log-slave-updates=ON"]
        if self.family == "mysql56":
            options += ["--innodb-log-file-size=8M"]
        else:  # whose TLS nobody speaks any more
            options += ["--ssl-ca=/tls/ca.pem", "--ssl-cert=/tls/server-cert.pem", "--ssl-key=/tls/server-key.pem"]
        self._container = (
            DockerContainer(self.kit.image(self.family))
            .with_env(f"{prefix}_ROOT_PASSWORD", ROOT_PASSWORD)
            .with_env(f"{prefix}_INITDB_SKIP_TZINFO", "1")
            .with_command([*options, *self._options])
            .with_bind_ports(3306, self.port)
            .with_volume_mapping(str(self._socket_folder), "/run/mysqld", "rw")
            .with_network(self._network)
            .with_network_aliases(self.name)
            .with_kwargs(labels=self.kit.labels, hostname=self.name)
        )
        self._container.tmpfs.update(self.tmpfs)
        for file in (self.kit.tls.ca, self.kit.tls.server_cert, self.kit.tls.server_key):
            self._container.with_copy_into_container(file, f"/tls/{file.name}")
        self._container.start()
        self.host = self._container.get_container_host_ip()
        if self.host == "localhost":
            self.host = "127.0.0.1"
        return self

    @property
    def socket(self) -> Path:
        """The server's Unix socket, where the engine runs on this machine.

        Whoever connects by it finds a server that is about to stop or start refusing, as on a machine of its own. A
        published port may be served by the engine's proxy, which accepts for as long as the container is there.
        """
        return self._socket_folder / "mysqld.sock"

    @property
    def container(self) -> Any:
        """The Docker library's own object."""
        if self._container is None:
            raise RuntimeError(f"{self.name} was not launched")
        return self._container.get_wrapped_container()

    @property
    def running(self) -> bool:
        """Whether the process exists (a hung one does)."""
        self.container.reload()
        return bool(self.container.attrs["State"]["Running"])

    def wait_ready(self, deadline_s: float = 90) -> Server:
        """Wait until the server answers root; raises NotInTime with the end of its log."""

        def answers() -> bool:
            if not self.running:
                raise NotInTime(f"{self.name} ended:\n{self.logs(40)}")
            return bool(self.sql("SELECT 1"))

        try:
            wait_until(answers, deadline_s, f"{self.name} answers")
        except NotInTime as error:
            raise NotInTime(f"{error}\n{self.logs(40)}") from None
        return self

    def stop(self) -> None:
        """Shut the server down cleanly. Its port then refuses connections."""
        self.container.stop(timeout=60)

    def kill(self) -> None:
        """End the server at once (SIGKILL). Its port then refuses connections."""
        self.container.kill()
        wait_until(lambda: not self.running, 20, f"{self.name} is dead")

    def start(self, deadline_s: float = 90) -> Server:
        """Start a stopped or killed server and wait until it answers."""
        self.container.start()
        return self.wait_ready(deadline_s)

    def restart(self) -> Server:
        """Shut down and start."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Hang the server (SIGSTOP): connections are accepted and never answered."""
        self.container.kill(signal="SIGSTOP")

    def unpause(self) -> None:
        """Let a hung server go on."""
        self.container.kill(signal="SIGCONT")

    def revive(self, deadline_s: float = 90) -> Server:
        """Up and answering, whatever was done to the process."""
        if self._container is None:
            self.launch()
        elif self.running:
            self.unpause()
        else:
            self.container.start()
        return self.wait_ready(deadline_s)

    def recreate(self) -> Server:
        """Throw the server and its data away and launch a new one in its place."""
        self.close()
        return self.launch()

    def logs(self, lines: int | Literal["all"] = "all") -> str:
        """The end of the server's log."""
        return str(self.container.logs(tail=lines).decode(errors="replace"))

    def read(self, path: str) -> str:
        """The text of a file in the container, on any disk but a `tmpfs`."""
        stream, _ = self.container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            member = archive.extractfile(archive.getmembers()[0])
            assert member is not None, f"{path} is no file"
            return member.read().decode(errors="replace")

    def asked(self) -> list[str]:
        """Every statement that clients have sent, in order; needs GENERAL_LOG among the server's options."""
        return re.findall(r"(?m)^[^\t]*\t+ *\d+ (?:Query|Execute)\t(.*)$", self.read(GENERAL_LOG_FILE))

    def close(self) -> None:
        """Remove the container and its data."""
        if self._container is not None:
            self._container.stop()
            self._container = None
        with suppress(OSError):  # without the container's server, and as the socket's folder may be another user's
            self.socket.unlink(missing_ok=True)

    # SQL

    def connect(self, user: str = "root", password: str = ROOT_PASSWORD, **options: Any) -> pymysql.Connection[Any]:
        """A connection, in autocommit mode and with a timeout. `options` go to PyMySQL."""
        settings: dict[str, Any] = {"connect_timeout": 5, "read_timeout": 60, "autocommit": True, "charset": "utf8mb4"}
        if self.family == "mysql":
            # MySQL takes a password only over TLS, unless an RSA exchange is possible.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            settings["ssl"] = context
        settings.update(options)
        return pymysql.connect(host=self.host, port=self.port, user=user, password=password, **settings)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in one session as root; the rows of the last one."""
        with self.session() as run:
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                rows = run(statement)
            return rows

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """Run one statement as root; its rows by column name."""
        with self.connect() as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute(statement)
            return [dict(row) for row in cursor.fetchall()]

    def value(self, statement: str) -> Any:
        """The first column of the first row, or None."""
        rows = self.sql(statement)
        return rows[0][0] if rows else None

    @contextmanager
    def session(
        self, user: str = "root", password: str = ROOT_PASSWORD, **options: Any
    ) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
        """A session that stays open, as a function that runs a statement; for locks and transactions::

        with replica.session() as run:
            run("FLUSH TABLES WITH READ LOCK")
            ...  # the lock is held here
        """
        connection = self.connect(user, password, **options)
        try:

            def run(statement: str) -> list[tuple[Any, ...]]:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                    return [tuple(row) for row in cursor.fetchall()]

            yield run
        finally:
            with suppress(*_UNREACHABLE):
                connection.close()

    def unlogged(self, *statements: str) -> list[tuple[Any, ...]]:
        """As `sql`, and out of the binary log, so that no replica sees it and no transaction is errant."""
        return self.sql("SET SESSION sql_log_bin = 0", *statements)

    @property
    def version(self) -> tuple[int, ...]:
        """For instance (9, 7, 4)."""
        if self._version is None:
            text = str(self.value("SELECT VERSION()"))
            self._version = tuple(int(part) for part in text.split("-")[0].split(".")[:3])
        return self._version

    # Replication

    @property
    def _modern(self) -> bool:
        """Whether the server says REPLICA and SOURCE."""
        return self.kind == "mysql" and self.version >= (8, 0, 23)

    def replication(self, verb: str, threads: str = "", channel: str = "") -> None:
        """START or STOP replication: `threads` is empty (both), SQL_THREAD or IO_THREAD."""
        if self.kind == "mariadb":
            self.sql(f"{verb} SLAVE {literal(channel) if channel else ''} {threads}")
        else:
            role = "REPLICA" if self._modern else "SLAVE"
            self.sql(f"{verb} {role} {threads} {f'FOR CHANNEL {literal(channel)}' if channel else ''}")

    def stop_sql(self, channel: str = "") -> None:
        """Stop the SQL thread."""
        self.replication("STOP", "SQL_THREAD", channel)

    def start_sql(self, channel: str = "") -> None:
        """Start the SQL thread."""
        self.replication("START", "SQL_THREAD", channel)

    def stop_io(self, channel: str = "") -> None:
        """Stop the IO thread."""
        self.replication("STOP", "IO_THREAD", channel)

    def start_io(self, channel: str = "") -> None:
        """Start the IO thread."""
        self.replication("START", "IO_THREAD", channel)

    def stop_all(self, channel: str = "") -> None:
        """Stop both threads."""
        self.replication("STOP", "", channel)

    def start_all(self, channel: str = "") -> None:
        """Start both threads."""
        self.replication("START", "", channel)

    def replicate_from(self, source: Server, delay: int, channel: str = "", start: bool = True) -> None:
        """Make this a replica of `source`, `delay` seconds late: from wherever its GTIDs have got to, or without them
        from the beginning of the source's first binary log."""
        options: dict[str, str | int] = {
            "HOST": source.name,
            "PORT": 3306,
            "USER": REPLICATION[0],
            "PASSWORD": REPLICATION[1],
            "CONNECT_RETRY": 1,
            "DELAY": delay,
        }
        if not self.gtid:
            options |= {"LOG_FILE": "bin.000001", "LOG_POS": 4}
        self._change_source({"use": True, **options}, channel)
        if start:
            self.start_all(channel)

    def change_source(self, channel: str = "", **options: str | int) -> None:
        """CHANGE MASTER, or what it is called here, with the threads stopped meanwhile and started after.

        Options go by the name after MASTER_ or SOURCE_: ``change_source(PASSWORD="wrong")``.
        """
        self.stop_all(channel)
        self._change_source(dict(options), channel)
        self.start_all(channel)

    def _change_source(self, options: dict[str, Any], channel: str) -> None:
        anew = options.pop("use", False)
        if anew and self.kind == "mysql":
            options.update({"AUTO_POSITION": int(self.gtid), "RETRY_COUNT": 86400})
        role = "SOURCE" if self._modern else "MASTER"
        parts = [f"{role}_{name} = {literal(value)}" for name, value in options.items()]
        if anew and self.kind == "mariadb":
            parts.append(f"MASTER_USE_GTID = {'slave_pos' if self.gtid else 'no'}")
        if anew and self.kind == "mysql" and self.version >= (8,):
            parts.append("GET_SOURCE_PUBLIC_KEY = 1" if self._modern else "GET_MASTER_PUBLIC_KEY = 1")
        what = ", ".join(parts)
        if self.kind == "mariadb":
            self.sql(f"CHANGE MASTER {literal(channel) if channel else ''} TO {what}")
        else:
            verb = "CHANGE REPLICATION SOURCE TO" if self._modern else "CHANGE MASTER TO"
            self.sql(f"{verb} {what} {f'FOR CHANNEL {literal(channel)}' if channel else ''}")

    def set_delay(self, seconds: int, channel: str = "") -> None:
        """Change the delay. Both threads run afterwards."""
        self.change_source(channel, DELAY=seconds)

    def statuses(self) -> dict[str, dict[str, Any]]:
        """Every channel's status row by column name, by channel."""
        if self.kind == "mariadb":
            return {str(row["Connection_name"]): row for row in self.rows("SHOW ALL SLAVES STATUS")}
        rows = self.rows("SHOW REPLICA STATUS" if self._modern else "SHOW SLAVE STATUS")
        return {str(row.get("Channel_Name", "")): row for row in rows}

    def status(self, channel: str = "") -> dict[str, Any]:
        """One channel's status row by column name, as the server names them; empty where there is no such channel."""
        return self.statuses().get(channel, {})

    def threads(self, channel: str = "") -> tuple[str | None, str | None]:
        """State of the IO and the SQL thread: Yes, No, Connecting or Preparing; None where there is no such channel."""
        return thread_states(self.status(channel))

    def forget_replication(self) -> None:
        """Stop and remove every channel, and forget every GTID and binary log: this server never replicated."""
        if self.kind == "mariadb":
            for channel in self.statuses():
                self.sql(f"STOP SLAVE {literal(channel)}", f"RESET SLAVE {literal(channel)} ALL")
            self.sql("RESET MASTER", "SET GLOBAL gtid_slave_pos = ''")
        else:
            role = "REPLICA" if self._modern else "SLAVE"
            self.sql(f"STOP {role}", f"RESET {role} ALL")
            self.sql("RESET BINARY LOGS AND GTIDS" if self.version >= (8, 2) else "RESET MASTER")

    def executed(self) -> str:
        """The GTIDs that this server has written or applied."""
        name = "gtid_executed" if self.kind == "mysql" else "gtid_binlog_pos"
        return str(self.value(f"SELECT @@GLOBAL.{name}") or "")

    def wait_for(self, gtids: str, deadline_s: float) -> None:
        """Wait until these GTIDs (of `executed`) are applied here."""
        if self.family == "mysql56":
            applied = f"SELECT GTID_SUBSET({literal(gtids)}, @@GLOBAL.gtid_executed)"
            wait_until(lambda: self.value(applied), deadline_s, f"{self.name} has applied {gtids}")
            return
        function = "WAIT_FOR_EXECUTED_GTID_SET" if self.kind == "mysql" else "MASTER_GTID_WAIT"
        result = self.value(f"SELECT {function}({literal(gtids)}, {deadline_s:g})") if gtids else 0
        if result != 0:
            raise NotInTime(f"{self.name} has not applied {gtids} within {deadline_s:g} s")

    # Making it clean

    def make_accounts(self, heartbeats: bool = True) -> None:
        """The accounts for replication and for `heartbeats`, as if new; every other one but root's is dropped.

        Not in the binary log: each server has its own, so that a replica has them before it replicates.
        """
        accounts = self.sql(
            "SELECT user, host FROM mysql.user WHERE user NOT IN (" + ", ".join(map(literal, _SYSTEM_ACCOUNTS)) + ")"
        )
        statements = [f"DROP USER {literal(user)}@{literal(host)}" for user, host in accounts]
        if self.kind == "mysql":
            admin = "SESSION_VARIABLES_ADMIN" if self.version >= (8, 0, 14) else "SUPER"
            heartbeat_rights = f"REPLICATION CLIENT, {admin}"
        else:
            heartbeat_rights = "REPLICATION CLIENT, SLAVE MONITOR, BINLOG ADMIN"
        statements += [
            f"CREATE USER {account(REPLICATION)} IDENTIFIED BY {literal(REPLICATION[1])}",
            f"GRANT REPLICATION SLAVE ON *.* TO {account(REPLICATION)}",
        ]
        self.unlogged(*statements)
        if not heartbeats:
            return
        statements = [
            f"CREATE USER {account(HEARTBEAT)} IDENTIFIED BY {literal(HEARTBEAT[1])}",
            f"GRANT {heartbeat_rights} ON *.* TO {account(HEARTBEAT)}",
            f"GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON percona.* TO {account(HEARTBEAT)}",
        ]
        self.unlogged("CREATE DATABASE IF NOT EXISTS percona", *statements)

    def make_monitor(self) -> None:
        """The check's account, with the least rights that it needs. The heartbeat table must exist."""
        rights = "REPLICATION CLIENT" if self.kind == "mysql" else "SLAVE MONITOR"
        self.drop_account(MONITOR)
        self.unlogged(
            f"CREATE USER {account(MONITOR)} IDENTIFIED BY {literal(MONITOR[1])}",
            f"GRANT {rights} ON *.* TO {account(MONITOR)}",
            f"GRANT SELECT ON {HEARTBEAT_TABLE} TO {account(MONITOR)}",
        )

    def drop_account(self, who: tuple[str, str]) -> None:
        """Drop an account of MONITOR's kind, if it is there."""
        if self.value(f"SELECT 1 FROM mysql.user WHERE user = {literal(who[0])} AND host = '%'"):
            self.unlogged(f"DROP USER {account(who)}")

    def calm(self) -> None:
        """End every session but replication's and the heartbeat's, and put global settings back."""
        settings = {
            "super_read_only": "OFF",
            "require_secure_transport": "OFF",
            "max_connections": "151",
            "read_only": "OFF",
            "offline_mode": "OFF",
        }
        with self.session() as run:
            for name, value in settings.items():
                if run(f"SHOW GLOBAL VARIABLES LIKE '{name}'"):
                    run(f"SET GLOBAL {name} = {value}")
            spared = ", ".join(map(literal, ("system user", "event_scheduler", REPLICATION[0], HEARTBEAT[0])))
            for (session,) in run(
                "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() "
                f"AND user NOT IN ({spared}) AND command NOT IN ('Daemon')"
            ):
                with suppress(pymysql.err.MySQLError):  # it may have ended by itself
                    run(f"KILL {int(session)}")

    def read_only(self) -> None:
        """Read-only for everybody without special rights; on MySQL super_read_only, for root as well (`calm` ends it).
        It stays so after a restart where the server can keep settings."""
        if self.family == "mysql":
            self.sql("SET PERSIST super_read_only = ON")
        else:
            self.sql("SET GLOBAL read_only = ON")

    def drop_databases(self) -> None:
        """Drop every database but the server's own, out of the binary log."""
        names = [str(name) for (name,) in self.sql("SHOW DATABASES") if name not in _SYSTEM_DATABASES]
        self.unlogged(*(f"DROP DATABASE `{name}`" for name in names))


def thread_states(row: dict[str, Any]) -> tuple[str | None, str | None]:
    """The IO and the SQL thread of a status row, whichever names it uses."""
    return (
        row.get("Replica_IO_Running", row.get("Slave_IO_Running")),
        row.get("Replica_SQL_Running", row.get("Slave_SQL_Running")),
    )


def account(who: tuple[str, str]) -> str:
    """An account of MONITOR's kind as SQL, from anywhere."""
    return f"{literal(who[0])}@'%'"


class Companion:
    """A program in a container of its own, beside a server."""

    program = "heartbeat"

    def __init__(self, kit: Kit, server: Server, network: Network) -> None:
        self.kit = kit
        self.server = server
        self._network = network
        self._container: DockerContainer | None = None

    def _made(self) -> DockerContainer:
        """The container, to be started."""
        raise NotImplementedError

    @property
    def container(self) -> Any:
        """The Docker library's own object."""
        if self._container is None:
            raise RuntimeError(f"{type(self).__name__} of {self.server.name} was not started")
        return self._container.get_wrapped_container()

    @property
    def running(self) -> bool:
        if self._container is None:
            return False
        self.container.reload()
        return bool(self.container.attrs["State"]["Running"])

    def start(self) -> None:
        """Start it, where it does not run; returns before it has done anything."""
        if self._container is None:
            self._container = (
                self._made().with_network(self._network).with_kwargs(labels=self.kit.labels, entrypoint=[self.program])
            )
            self._container.start()
        elif not self.running:
            self.container.start()
        else:
            self.container.kill(signal="SIGCONT")

    def stop(self) -> None:
        """End it at once (SIGKILL)."""
        self._end("SIGKILL")

    def _end(self, signal: str) -> None:
        if self.running:
            self.container.kill(signal=signal)
            wait_until(lambda: not self.running, 20, f"{type(self).__name__} of {self.server.name} has ended")

    def logs(self) -> str:
        """What it has said."""
        return "" if self._container is None else str(self.container.logs().decode(errors="replace"))

    def close(self) -> None:
        """Remove the container."""
        if self._container is not None:
            self._container.stop()
            self._container = None


class Heartbeat(Companion):
    """A pt-heartbeat, which writes to one server once a second.

    It starts pt-heartbeat again a second after it has lost its server. A `local` one stays out of the binary log.
    `environment` is added to what docker/heartbeat/entrypoint.sh is told, `arguments` go to pt-heartbeat.
    """

    def __init__(
        self,
        kit: Kit,
        server: Server,
        network: Network,
        *arguments: str,
        local: bool,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(kit, server, network)
        self.local = local
        self.arguments = arguments
        self.environment = environment or {}

    def _made(self) -> DockerContainer:
        return (
            DockerContainer(self.kit.heartbeat_image(self.server.family))
            .with_envs(
                HEARTBEAT_HOST=self.server.name,
                HEARTBEAT_USER=HEARTBEAT[0],
                HEARTBEAT_PASSWORD=HEARTBEAT[1],
                HEARTBEAT_TABLE=HEARTBEAT_TABLE,
                HEARTBEAT_LOCAL="yes" if self.local else "no",
                **self.environment,
            )
            .with_command(list(self.arguments))
        )


class SlaveDelay(Companion):
    """A pt-slave-delay, which keeps one replica DELAY_S late by stopping and starting its SQL thread in turn.

    Killed (`stop`), it leaves the SQL thread as it is, which is stopped sooner or later.
    """

    program = "slave-delay"

    def _made(self) -> DockerContainer:
        return DockerContainer(self.kit.heartbeat_image(self.server.family)).with_envs(
            SLAVE_DELAY_HOST=self.server.name,
            SLAVE_DELAY_USER=SLAVE_DELAY[0],
            SLAVE_DELAY_PASSWORD=SLAVE_DELAY[1],
            SLAVE_DELAY=str(DELAY_S),
            SLAVE_DELAY_INTERVAL=str(SLAVE_DELAY_INTERVAL_S),
        )

    def start(self) -> None:
        """Start it, its account made anew. The SQL thread must run: it would not start otherwise."""
        if not self.running:
            self.server.drop_account(SLAVE_DELAY)
            rights = "SUPER, REPLICATION CLIENT" if self.server.kind == "mysql" else _MARIADB_SLAVE_DELAY_RIGHTS
            self.server.unlogged(
                f"CREATE USER {account(SLAVE_DELAY)} IDENTIFIED BY {literal(SLAVE_DELAY[1])}",
                f"GRANT {rights} ON *.* TO {account(SLAVE_DELAY)}",
            )
        super().start()

    def terminate(self) -> None:
        """End it cleanly (SIGTERM): it lets the SQL thread run."""
        self._end("SIGTERM")


class Pair:
    """A source (server id 1), its delayed replica (id 2), and a heartbeat on each.

    All of it runs in a network of its own, where the servers' names are `source`, `replica` and `second`. `Kit.pair`
    tells what the arguments are.
    """

    def __init__(
        self,
        kit: Kit,
        family: Family,
        *,
        delay: int = DELAY_S,
        gtid: bool = True,
        parallel: int = 0,
        heartbeats: bool = True,
        source_options: Sequence[str] = (),
        replica_options: Sequence[str] = (),
    ) -> None:
        self.kit = kit
        self.family: Family = family
        self.kind: Kind = kind_of(family)
        self.usual_delay = delay
        self.delay = delay
        self.heartbeats_run = heartbeats
        self.channel = ""
        """The channel that replicates from the source; empty is the default one."""
        self.network = kit.network()
        appliers = "replica-parallel-workers" if family == "mysql" else "slave-parallel-workers"
        if parallel:
            replica_options = (f"--{appliers}={parallel}", *replica_options)
        self.source = Server(kit, family, "source", 1, self.network, *source_options, gtid=gtid)
        self.replica = Server(kit, family, "replica", 2, self.network, *replica_options, gtid=gtid)
        self.heartbeat = Heartbeat(kit, self.source, self.network, local=False)
        self.local_heartbeat = Heartbeat(kit, self.replica, self.network, local=True)
        self.slave_delay = SlaveDelay(kit, self.replica, self.network)
        self.whole = True
        """The source's binary logs have all that it ever did, as a new server needs that replicates from the start."""
        self.second: Server | None = None
        """A second source (id 3), once `add_second` was called."""
        self.second_heartbeat: Heartbeat | None = None

    @property
    def tls(self) -> Tls:
        return self.kit.tls

    @property
    def options(self) -> list[str]:
        """The connection options with which a check looks at the replica as the least-privilege user."""
        return [
            *("--host", self.replica.host, "--port", str(self.replica.port)),
            *("--user", MONITOR[0], "--password", MONITOR[1]),
            *(("--channel", self.channel) if self.channel else ()),
        ]

    # What is seen

    def heartbeats(self) -> dict[int, float]:
        """Age in seconds of every heartbeat row as the replica has it, by server id."""
        with self.replica.session() as run:
            rows = run(f"SELECT server_id, ts FROM {HEARTBEAT_TABLE}")
            ((now,),) = run("SELECT UTC_TIMESTAMP(6)")
        return {int(server): (now - _moment(str(ts))).total_seconds() for server, ts in rows}

    def seen_delay(self, server_id: int = 1) -> float | None:
        """The replica's delay by the source's heartbeat, in seconds; None where there is no row."""
        return self.heartbeats().get(server_id)

    def trouble(self) -> str:
        """Why the pair is not healthy; empty where it is."""
        statuses = self.replica.statuses()
        if list(statuses) != [self.channel]:
            return f"the replica's channels are {list(statuses)}"
        row = statuses[self.channel]
        io, sql = thread_states(row)
        if (io, sql) != ("Yes", "Yes"):
            return f"IO thread {io} ({row['Last_IO_Error']}), SQL thread {sql} ({row['Last_SQL_Error']})"
        if int(row["SQL_Delay"]) != self.delay:
            return f"the delay is set to {row['SQL_Delay']}"
        if not self.heartbeats_run:
            return ""
        ages = self.heartbeats()
        if set(ages) != {1, 2}:
            return f"there are heartbeats of {sorted(ages)}"
        if not self.delay - 0.5 <= ages[1] <= self.delay + 2.5:
            return f"the source's heartbeat is {ages[1]:.1f} s old"
        if not -0.5 <= ages[2] <= 2.5:
            return f"the local heartbeat is {ages[2]:.1f} s old"
        return ""

    def wait_healthy(self, deadline_s: float) -> None:
        """Wait until the line is established: threads run, the delay is what it should be, both heartbeats are fresh.

        Raises NotInTime with what is missing.
        """
        try:
            wait_until(lambda: not self.trouble(), deadline_s, "the pair is healthy", interval_s=0.4)
        except NotInTime as error:
            raise NotInTime(f"{error}; {self._last_trouble()}") from None

    def _last_trouble(self) -> str:
        try:
            return self.trouble()
        except _UNREACHABLE as error:
            return str(error)

    # Making it healthy

    def settle(self) -> Pair:
        """Healthy, with no time spent on healing where it is, or soon will be, by itself."""
        if self.delay == self.usual_delay and not self.channel and self.second is None and self.whole:
            with suppress(NotInTime, *_UNREACHABLE, docker.errors.APIError):
                for server in (self.source, self.replica):
                    server.calm()
                self.wait_healthy(5)
                return self
        return self.heal()

    def heal(self, delay: int | None = None, channel: str = "") -> Pair:
        """Healthy from scratch, whatever was done before: the replica forgets everything and replays the source's
        binary log, which takes a second or two. Where that does not do, the source starts anew too, and at last both
        servers are thrown away and made again.
        """
        self.delay = self.usual_delay if delay is None else delay
        self.channel = channel
        self.slave_delay.close()
        self.drop_second()
        attempts = (self._heal_replica, self._heal_both, self._make_anew)
        for number, attempt in enumerate(attempts):
            try:
                if attempt():
                    self.wait_healthy(self.delay + 30)
                    return self
            except (NotInTime, *_UNREACHABLE, docker.errors.APIError):
                if number == len(attempts) - 1:
                    raise
        raise NotInTime("the pair cannot be healed")

    def _heal_replica(self) -> bool:
        if not self.kit.launched(self):
            return False
        self._each(lambda server: server.revive())
        first_log = self.source.rows("SHOW BINARY LOGS")[0]["Log_name"]
        if not self.whole or not str(first_log).endswith(".000001"):
            return False  # binary logs were purged: there is nothing left to replay
        self.source.calm()
        if self.heartbeats_run:
            self.heartbeat.start()
        self._reset_replica()
        return True

    def _heal_both(self) -> bool:
        if not self.kit.launched(self):
            return False
        self._each(lambda server: server.revive())
        self._set_up()
        return True

    def _make_anew(self) -> bool:
        self._each(lambda server: server.recreate().wait_ready())
        self._set_up()
        return True

    def _each(self, action: Callable[[Server], object]) -> None:
        """Do something to both servers at once."""
        with ThreadPoolExecutor(2) as pool:
            for result in [pool.submit(action, server) for server in (self.source, self.replica)]:
                result.result()

    def _set_up(self) -> None:
        """An empty source with a heartbeat, and a replica of it."""
        self.whole = True
        self.heartbeat.stop()
        self.source.calm()
        self.source.drop_databases()
        self.source.forget_replication()
        self.source.make_accounts(self.heartbeats_run)
        if not self.heartbeats_run:
            self._reset_replica()
            return
        # Known to the replica too, which starts from nothing.
        self.source.sql("CREATE DATABASE IF NOT EXISTS percona")
        self.heartbeat.start()
        wait_until(
            lambda: self.source.sql(f"SELECT ts FROM {HEARTBEAT_TABLE}"), 30, "the source's heartbeat is written"
        )
        self.source.make_monitor()
        self._reset_replica()

    def _reset_replica(self) -> None:
        self.local_heartbeat.stop()
        replica = self.replica
        replica.calm()
        replica.forget_replication()
        replica.drop_databases()
        replica.make_accounts(self.heartbeats_run)
        if not self.heartbeats_run:
            replica.replicate_from(self.source, self.delay, self.channel)
            return
        # The check's account needs the table, and the table needs the columns of this pt-heartbeat's version.
        create = self.source.rows(f"SHOW CREATE TABLE {HEARTBEAT_TABLE}")[0]["Create Table"]
        replica.unlogged("USE percona", str(create))
        replica.make_monitor()
        replica.replicate_from(self.source, self.delay, self.channel)
        self.local_heartbeat.start()

    def delay_from_outside(self) -> Pair:
        """Healthy, and delayed by pt-slave-delay in place of the server itself; until the next `settle` or `heal`."""
        self.heal(delay=0)
        self.slave_delay.start()
        try:
            wait_until(lambda: (self.seen_delay() or 0) >= DELAY_S - 1, 40, "pt-slave-delay delays")
        except NotInTime as error:
            raise NotInTime(f"{error}\n{self.slave_delay.logs()}") from None
        return self

    # Beyond one source

    def add_second(self) -> Server:
        """A second source (server id 3) that replicates the first one without delay, ready to take its place."""
        if self.second is None:
            second = Server(self.kit, self.family, "second", 3, self.network)
            self.second = second
            second.launch().wait_ready()
            second.forget_replication()
            second.make_accounts()
            second.replicate_from(self.source, 0)
            second.wait_for(self.source.executed(), 30)
            self.second_heartbeat = Heartbeat(self.kit, second, self.network, local=False)
        return self.second

    def fail_over(self, heartbeat: bool = True) -> Server:
        """The second source takes the place of the first: heartbeats move to it, and the replica follows it.

        The replica's status then names the new source at once, and its first heartbeat arrives one delay later; never,
        where nobody has thought of the `heartbeat`.
        """
        second = self.add_second()
        assert self.second_heartbeat is not None
        self.heartbeat.stop()
        second.wait_for(self.source.executed(), 30)
        second.stop_all()
        if self.kind == "mariadb":
            second.sql("RESET SLAVE ALL")
        else:
            second.sql("RESET REPLICA ALL" if second.version >= (8, 0, 23) else "RESET SLAVE ALL")
        if heartbeat:
            self.second_heartbeat.start()
        self.replica.change_source(self.channel, HOST=second.name)
        return second

    def drop_second(self) -> None:
        """Remove the second source."""
        if self.second_heartbeat is not None:
            self.second_heartbeat.close()
            self.second_heartbeat = None
        if self.second is not None:
            self.second.close()
            self.second = None

    @contextmanager
    def write_load(self, rows_per_s: float = 20) -> Iterator[None]:
        """Meanwhile, insert into load_test.rows on the source."""
        self.source.sql(
            "CREATE DATABASE IF NOT EXISTS load_test",
            "CREATE TABLE IF NOT EXISTS load_test.rows_written"
            " (id BIGINT AUTO_INCREMENT PRIMARY KEY, written VARCHAR(255) NOT NULL) ENGINE = InnoDB",
        )
        done = threading.Event()

        def write() -> None:
            while not done.wait(1 / rows_per_s):
                try:
                    with self.source.session() as run:
                        while not done.wait(1 / rows_per_s):
                            run("INSERT INTO load_test.rows_written (written) VALUES (REPEAT('x', 200))")
                except _UNREACHABLE:
                    continue  # the test has the source down; go on once it is back

        writer = threading.Thread(target=write, name="write load", daemon=True)
        writer.start()
        try:
            yield
        finally:
            done.set()
            writer.join(70)

    def close(self) -> None:
        """Remove the servers, the heartbeats and the network."""
        self.drop_second()
        self.slave_delay.close()
        self.heartbeat.close()
        self.local_heartbeat.close()
        self.source.close()
        self.replica.close()


def _moment(text: str) -> datetime:
    """A heartbeat's ts, written with --utc, as a naive time in UTC."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


class Kit:
    """Makes servers and removes them all at the end. Raises docker.errors.DockerException where no engine answers."""

    def __init__(self) -> None:
        self.client = docker.from_env()
        self.client.ping()
        self.run = os.environ.setdefault(RUN_VARIABLE, f"{os.getpid()}-{int(time.time())}")
        self.labels = {LABEL: self.run}
        self._folder = Path(tempfile.mkdtemp(prefix="delayed-repl-tests-"))
        self._folder.chmod(0o755)
        self._numbers = itertools.count(1)
        self.tls = make_tls(self._folder)
        self._networks: list[Network] = []
        self._shared: Network | None = None
        self._servers: list[Server] = []
        self._pairs: list[Pair] = []
        self._shared_pairs: dict[Family, Pair] = {}

    def socket_folder(self) -> Path:
        """A new folder for a server's socket; a server runs as a user of its container's."""
        folder = self._folder / f"socket{next(self._numbers)}"
        folder.mkdir(mode=0o755)
        folder.chmod(0o777)
        return folder

    def image(self, family: Family) -> str:
        """The image that a family's servers are made from."""
        default = f"check-delayed-repl-{family}:latest"
        return os.environ.get(f"CHECK_DELAYED_REPL_{family.upper()}_IMAGE") or default

    def heartbeat_image(self, family: Family) -> str:
        """The pt-heartbeat that a family's servers get: a new one for new servers, an old one for the others."""
        default = f"check-delayed-repl-heartbeat-{family}:latest"
        return os.environ.get(f"CHECK_DELAYED_REPL_{family.upper()}_HEARTBEAT_IMAGE") or default

    def network(self) -> Network:
        """A network of its own for a pair."""
        network = Network(docker_network_kw={"labels": self.labels}).create()
        self._networks.append(network)
        return network

    def pair(self, family: Family, **options: Any) -> Pair:
        """A pair of its own in a network of its own, up and healthy; `pair.close()` removes it before the kit does.

        `options` are Pair's:

        - `delay` in seconds (10).
        - `gtid`: replication by GTID (True), or by file and position.
        - `parallel`: how many parallel appliers the replica has (0: as many as the server has by itself).
        - `heartbeats`: both pt-heartbeats run, and the accounts for them and for the check are there (True); or there
          is neither, as before anybody has set up monitoring.
        - `source_options`, `replica_options`: further options of the servers, such as those of GENERAL_LOG, after which
          ``pair.replica.asked()`` has every statement that was sent.

        For a fixture of tests that break what they get::

            @pytest.fixture
            def rescued(kit: Kit, family: Family) -> Iterator[Pair]:
                made = kit.pair(family, delay=20, gtid=False, parallel=4, replica_options=GENERAL_LOG)
                yield made
                made.close()

        ``pair.replica.read_only()`` makes a replica read-only, as production has it, ``pair.replica.kill()`` is kill
        -9 and ``start()`` or ``restart()`` bring a server back with its data; ``pair.source.kill()`` loses the source.
        """
        pair = Pair(self, family, **options)
        self._pairs.append(pair)
        return pair.heal()

    def shared_pair(self, family: Family) -> Pair:
        """The one pair of a family that tests share; made when first asked for."""
        if family not in self._shared_pairs:
            self._shared_pairs[family] = self.pair(family)
        return self._shared_pairs[family]

    def launched(self, pair: Pair) -> bool:
        """Whether both servers of a pair exist."""
        return all(server._container is not None for server in (pair.source, pair.replica))

    def server(self, family: Family, *options: str, name: str = "alone", server_id: int = 9) -> Server:
        """A server alone, answering, with further server options."""
        if self._shared is None:
            self._shared = self.network()
        server = Server(self, family, name, server_id, self._shared, *options)
        self._servers.append(server)
        return server.launch().wait_ready()

    def close(self) -> None:
        """Remove everything that was made."""
        for thing in (*self._pairs, *self._servers):
            thing.close()
        for network in self._networks:
            network.remove()
        shutil.rmtree(self._folder, ignore_errors=True)
        self.client.close()


def remove_labelled(run: str) -> None:
    """Remove the containers and networks of a run, whoever forgot them."""
    client = docker.from_env()
    try:
        chosen = {"label": f"{LABEL}={run}"}
        for container in client.containers.list(all=True, filters=chosen, ignore_removed=True):
            with suppress(docker.errors.APIError):  # somebody else may be removing it
                container.remove(force=True, v=True)
        for network in client.networks.list(filters=chosen):
            with suppress(docker.errors.APIError):
                network.remove()
    finally:
        client.close()
