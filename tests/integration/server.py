"""One real MySQL or MariaDB server in a container: root's SQL, its replication, and how it is made clean again."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pymysql
import pymysql.cursors
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from .machine import UNREACHABLE, Machine, NotInTime, free_port, wait_until

if TYPE_CHECKING:
    from .servers import Kit

Kind = Literal["mysql", "mariadb"]
Family = Literal["mysql", "mariadb", "mysql56", "mariadb118"]
"""A kind of server, and an old or a new one of it where a number follows."""

ROOT_PASSWORD = "root-secret"
MONITOR = ("monitor", "monitor-secret")
"""The check's account, with the least rights that it needs."""
HEARTBEAT = ("heartbeat", "heartbeat-secret")
REPLICATION = ("repl", "repl-secret")
HEARTBEAT_TABLE = "percona.heartbeat"

OPTIONS = (
    *("--log-bin=bin", "--relay-log=relay", "--binlog-format=ROW"),
    # Made for tests: small, and no waiting for the disk.
    *("--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=OFF"),
    "--sync-binlog=0",
)
FAMILY_OPTIONS = {
    "mysql": ("--log-replica-updates=ON", "--loose-mysqlx=OFF", "--loose-innodb-redo-log-capacity=8M"),
    "mysql56": ("--log-slave-updates=ON", "--innodb-log-file-size=8M"),
    "mariadb": ("--log-slave-updates=ON",),
    "mariadb118": ("--log-slave-updates=ON",),
}
TLS_OPTIONS = ("--ssl-ca=/tls/ca.pem", "--ssl-cert=/tls/server-cert.pem", "--ssl-key=/tls/server-key.pem")
CALM_SETTINGS = {
    "super_read_only": "OFF",
    "read_only": "OFF",
    "offline_mode": "OFF",
    "require_secure_transport": "OFF",
    "max_connections": "151",
}
SYSTEM_DATABASES = ("information_schema", "mysql", "performance_schema", "sys")
SYSTEM_ACCOUNTS = ("root", "mariadb.sys", "mysql", "mysql.infoschema", "mysql.session", "mysql.sys", "healthcheck")


def literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def account(who: tuple[str, str]) -> str:
    """An account of MONITOR's kind as SQL, from anywhere."""
    return f"{literal(who[0])}@'%'"


def thread_states(row: dict[str, Any]) -> tuple[str | None, str | None]:
    """The IO and the SQL thread of a status row, whichever names it uses."""
    return (
        row.get("Replica_IO_Running", row.get("Slave_IO_Running")),
        row.get("Replica_SQL_Running", row.get("Slave_SQL_Running")),
    )


def end_sessions(run: Callable[[str], list[tuple[Any, ...]]], user: str) -> None:
    for (number,) in run(f"SELECT id FROM information_schema.processlist WHERE user = {literal(user)}"):
        with suppress(pymysql.err.MySQLError):  # it may have ended by itself
            run(f"KILL {number}")


class Server(Machine):
    """A server in a container. Its port on the test's side stays the same for as long as it lives.

    SQL is run as root. `channel` is a MySQL channel or a MariaDB connection name; empty is the default one. `tmpfs` are
    small disks in the container: folder → mount options, such as ``size=1m``. They are empty again after a stop.
    `gtid`: as a replica it replicates by GTID, or by file and position.
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
        super().__init__(kit, name, network)
        self.tmpfs = dict(tmpfs or {})
        self.gtid = gtid
        self.family: Family = family
        self.kind: Kind = "mariadb" if family.startswith("mariadb") else "mysql"
        self.server_id = server_id
        self.port = free_port()
        self.host = "127.0.0.1"
        self._socket_folder = kit.folder(0o777)  # the server runs as a user of its container's
        self._options = options
        self._version: tuple[int, ...] | None = None

    # The process

    def _made(self) -> DockerContainer:
        prefix = self.kind.upper()
        options = [f"--server-id={self.server_id}", *OPTIONS, *FAMILY_OPTIONS[self.family]]
        if self.kind == "mysql":
            on = "ON" if self.gtid else "OFF"
            options += [f"--gtid-mode={on}", f"--enforce-gtid-consistency={on}"]
        if self.family != "mysql56":  # whose TLS nobody speaks any more
            options += TLS_OPTIONS
        made = (
            self._from(self.family, hostname=self.name)
            .with_env(f"{prefix}_ROOT_PASSWORD", ROOT_PASSWORD)
            .with_env(f"{prefix}_INITDB_SKIP_TZINFO", "1")
            .with_command([*options, *self._options])
            .with_bind_ports(3306, self.port)
            .with_volume_mapping(str(self._socket_folder), "/run/mysqld", "rw")
        )
        made.tmpfs.update(self.tmpfs)
        for file in (self.kit.tls.ca, *self.kit.tls.server):
            made.with_copy_into_container(file, f"/tls/{file.name}")
        return made

    @property
    def socket(self) -> Path:
        """The server's Unix socket, where the engine runs on this machine.

        Whoever connects by it finds a server that is about to stop or start refusing, as on a machine of its own. A
        published port may be served by the engine's proxy, which accepts for as long as the container is there.
        """
        return self._socket_folder / "mysqld.sock"

    def wait_ready(self) -> Server:
        """Wait until the server answers root; raises NotInTime with the end of its log."""

        def answers() -> bool:
            if not self.running:
                raise NotInTime(f"{self.name} has ended")
            return bool(self.sql("SELECT 1"))

        try:
            wait_until(answers, 60, f"{self.name} answers")
        except NotInTime as error:
            raise NotInTime(f"{error}\n{self.logs()}") from None
        return self

    def start(self) -> Server:
        """Up and answering, whatever was done to the process, with the data that it has."""
        self.go()
        return self.wait_ready()

    def stop(self) -> None:
        self.container.stop(timeout=60)

    def restart(self) -> Server:
        self.stop()
        return self.start()

    def recreate(self) -> Server:
        """Throw the server and its data away and launch a new one in its place."""
        self.close()
        return self.start()

    def close(self) -> None:
        super().close()
        with suppress(OSError):  # without the container's server, and as the socket's folder may be another user's
            self.socket.unlink(missing_ok=True)

    # SQL

    def connect(self, user: str = "root", password: str = ROOT_PASSWORD, **options: Any) -> pymysql.Connection[Any]:
        """A connection, in autocommit mode and with a timeout. `options` go to PyMySQL."""
        settings: dict[str, Any] = {"connect_timeout": 10, "read_timeout": 60, "autocommit": True, "charset": "utf8mb4"}
        if self.family == "mysql":
            # MySQL takes a password only over TLS, unless an RSA exchange is possible.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            settings["ssl"] = context
        return pymysql.connect(host=self.host, port=self.port, user=user, password=password, **settings | options)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in one session as root; the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        with self.session() as run:
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
            with suppress(*UNREACHABLE):
                connection.close()

    def unlogged(self, *statements: str) -> list[tuple[Any, ...]]:
        """As `sql`, and out of the binary log, so that no replica sees it and no transaction is errant."""
        return self.sql("SET SESSION sql_log_bin = 0", *statements)

    @property
    def version(self) -> tuple[int, ...]:
        if self._version is None:
            text = str(self.value("SELECT VERSION()"))
            self._version = tuple(int(part) for part in text.split("-")[0].split(".")[:3])
        return self._version

    # Replication

    @property
    def _modern(self) -> bool:
        """Whether the server says REPLICA and SOURCE."""
        return self.kind == "mysql" and self.version >= (8, 0, 23)

    def replication(self, verb: str, what: str = "", channel: str = "") -> None:
        """START, STOP or RESET replication: `what` is empty (both threads), SQL_THREAD, IO_THREAD, or ALL."""
        if self.kind == "mariadb":
            self.sql(f"{verb} SLAVE {literal(channel) if channel else ''} {what}")
        else:
            role = "REPLICA" if self._modern else "SLAVE"
            self.sql(f"{verb} {role} {what} {f'FOR CHANNEL {literal(channel)}' if channel else ''}")

    stop_sql = partialmethod(replication, "STOP", "SQL_THREAD")
    start_sql = partialmethod(replication, "START", "SQL_THREAD")
    stop_io = partialmethod(replication, "STOP", "IO_THREAD")
    start_io = partialmethod(replication, "START", "IO_THREAD")
    stop_all = partialmethod(replication, "STOP", "")
    start_all = partialmethod(replication, "START", "")

    def replicate_from(self, source: Server, delay: int, channel: str = "") -> None:
        """Make this a replica of `source`, `delay` seconds late: from wherever its GTIDs have got to, or without them
        from the beginning of the source's first binary log."""
        user, password = REPLICATION
        options: dict[str, str | int] = {"HOST": source.name, "PORT": 3306, "USER": user, "PASSWORD": password}
        options |= {"CONNECT_RETRY": 1, "DELAY": delay}
        if not self.gtid:
            options |= {"LOG_FILE": "bin.000001", "LOG_POS": 4}
        if self.kind == "mysql":
            options |= {"AUTO_POSITION": int(self.gtid), "RETRY_COUNT": 86400}
        self._change_source(options, channel, anew=True)
        self.start_all(channel)

    def change_source(self, channel: str = "", **options: str | int) -> None:
        """CHANGE MASTER, or what it is called here, with the threads stopped meanwhile and started after.

        Options go by the name after MASTER_ or SOURCE_: ``change_source(PASSWORD="wrong")``.
        """
        self.stop_all(channel)
        self._change_source(options, channel)
        self.start_all(channel)

    def _change_source(self, options: Mapping[str, str | int], channel: str, anew: bool = False) -> None:
        role = "SOURCE" if self._modern else "MASTER"
        parts = [f"{role}_{name} = {literal(value)}" for name, value in options.items()]
        if anew and self.kind == "mariadb":
            parts.append(f"MASTER_USE_GTID = {'slave_pos' if self.gtid else 'no'}")
        if anew and self.kind == "mysql" and self.version >= (8,):
            parts.append(f"GET_{role}_PUBLIC_KEY = 1")
        what = ", ".join(parts)
        if self.kind == "mariadb":
            self.sql(f"CHANGE MASTER {literal(channel) if channel else ''} TO {what}")
        else:
            verb = "CHANGE REPLICATION SOURCE TO" if self._modern else "CHANGE MASTER TO"
            self.sql(f"{verb} {what} {f'FOR CHANNEL {literal(channel)}' if channel else ''}")

    def set_delay(self, seconds: int, channel: str = "") -> None:
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
        return thread_states(self.status(channel))

    def reset_logs(self) -> None:
        """Throw the binary logs and GTIDs away, as if there had never been any."""
        modern = self.kind == "mysql" and self.version >= (8, 2)
        self.sql("RESET BINARY LOGS AND GTIDS" if modern else "RESET MASTER")

    def forget_replication(self) -> None:
        """Stop and remove every channel, and forget every GTID and binary log: this server never replicated."""
        for channel in sorted(self.statuses(), reverse=True):  # without a name is last: MySQL takes it for all
            self.stop_all(channel)
            self.replication("RESET", "ALL", channel)
        self.reset_logs()
        if self.kind == "mariadb":
            self.sql("SET GLOBAL gtid_slave_pos = ''")

    def executed(self) -> str:
        """The GTIDs that this server has written or applied."""
        name = "gtid_executed" if self.kind == "mysql" else "gtid_binlog_pos"
        return str(self.value(f"SELECT @@GLOBAL.{name}") or "")

    def wait_for(self, gtids: str, deadline_s: float) -> None:
        """Wait until these GTIDs (of `executed`) are applied here."""
        applied = f"SELECT GTID_SUBSET({literal(gtids)}, @@GLOBAL.gtid_executed)"
        if self.kind == "mariadb":
            applied = f"SELECT MASTER_GTID_WAIT({literal(gtids)}, 0) = 0"
        wait_until(lambda: self.value(applied), deadline_s, f"{self.name} has applied {gtids}")

    def wait_fetched(self, source: Server, channel: str = "") -> None:
        """Wait until all that the source has written is in the relay log."""
        newest = self.kind == "mysql" and self.version >= (8, 2)
        end = source.rows("SHOW BINARY LOG STATUS" if newest else "SHOW MASTER STATUS")[0]
        role = "Source" if self._modern else "Master"

        def fetched() -> bool:
            row = self.status(channel)
            place = row[f"{role}_Log_File"], int(row[f"Read_{role}_Log_Pos"])
            return place >= (end["File"], int(end["Position"]))

        wait_until(fetched, 60, f"{self.name} has fetched all that {source.name} has written")

    # Making it clean

    def make_accounts(self, heartbeats: bool = True) -> None:
        """The accounts for replication and for `heartbeats`, as if new; every other one but root's is dropped.

        Not in the binary log: each server has its own, so that a replica has them before it replicates.
        """
        spared = ", ".join(map(literal, SYSTEM_ACCOUNTS))
        others = self.sql(f"SELECT user, host FROM mysql.user WHERE user NOT IN ({spared})")
        statements = [f"DROP USER {literal(user)}@{literal(host)}" for user, host in others]
        statements += [
            f"CREATE USER {account(REPLICATION)} IDENTIFIED BY {literal(REPLICATION[1])}",
            f"GRANT REPLICATION SLAVE ON *.* TO {account(REPLICATION)}",
        ]
        if heartbeats:
            rights = "REPLICATION CLIENT, SLAVE MONITOR, BINLOG ADMIN"
            if self.kind == "mysql":
                admin = "SESSION_VARIABLES_ADMIN" if self.version >= (8, 0, 14) else "SUPER"
                rights = f"REPLICATION CLIENT, {admin}"
            statements += [
                "CREATE DATABASE IF NOT EXISTS percona",
                f"CREATE USER {account(HEARTBEAT)} IDENTIFIED BY {literal(HEARTBEAT[1])}",
                f"GRANT {rights} ON *.* TO {account(HEARTBEAT)}",
                f"GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON percona.* TO {account(HEARTBEAT)}",
            ]
        self.unlogged(*statements)

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
        if self.value(f"SELECT 1 FROM mysql.user WHERE user = {literal(who[0])} AND host = '%'"):
            self.unlogged(f"DROP USER {account(who)}")

    def end_sessions(self, user: str) -> None:
        with self.session() as run:
            end_sessions(run, user)

    def calm(self) -> None:
        """End every session but replication's and the heartbeat's, and put global settings back."""
        spared = ", ".join(map(literal, ("system user", "event_scheduler", REPLICATION[0], HEARTBEAT[0])))
        with self.session() as run:
            for name, value in CALM_SETTINGS.items():
                if run(f"SHOW GLOBAL VARIABLES LIKE '{name}'"):
                    run(f"SET GLOBAL {name} = {value}")
            for (session,) in run(
                "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()"
                f" AND user NOT IN ({spared}) AND command <> 'Daemon'"
            ):
                with suppress(pymysql.err.MySQLError):  # it may have ended by itself
                    run(f"KILL {session}")

    def read_only(self) -> None:
        """Read-only for everybody without special rights; on MySQL super_read_only, for root as well (`calm` ends it).
        It stays so after a restart where the server can keep settings."""
        self.sql("SET PERSIST super_read_only = ON" if self.family == "mysql" else "SET GLOBAL read_only = ON")

    def drop_databases(self) -> None:
        """Drop every database but the server's own, out of the binary log."""
        names = [str(name) for (name,) in self.sql("SHOW DATABASES") if name not in SYSTEM_DATABASES]
        self.unlogged(*(f"DROP DATABASE `{name}`" for name in names))
