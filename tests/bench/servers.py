"""MariaDB servers as plain processes in a folder of their own: a source, delayed replicas, heartbeats on all."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql

USER, PASSWORD = "monitor", "only-for-measuring"
MARIADBD = shutil.which("mariadbd", path=os.environ.get("PATH", "") + ":/usr/sbin") or "/usr/sbin/mariadbd"
ACCOUNTS = (
    "SET SESSION sql_log_bin = 0",
    f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'",
    f"GRANT SLAVE MONITOR, BINLOG MONITOR, REPLICATION SLAVE ON *.* TO '{USER}'@'%'",
    "CREATE DATABASE percona",
    (
        "CREATE TABLE percona.heartbeat (ts varchar(26) NOT NULL, server_id int unsigned NOT NULL PRIMARY KEY,"
        " file varchar(255), position bigint unsigned, relay_master_log_file varchar(255),"
        " exec_master_log_pos bigint unsigned) ENGINE=InnoDB"
    ),
    # pt-heartbeat --check writes.
    f"GRANT SELECT, INSERT, UPDATE ON percona.* TO '{USER}'@'%'",
)


def wait_until(done: Callable[[], object], seconds: float, what: str) -> None:
    """Waits for a condition. Raises TimeoutError that says `what`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} seconds: {what}")
        time.sleep(0.1)


class Servers:
    """One source and its replicas, all ended and removed by `close`."""

    def __init__(self, replicas: int, delay_s: int, max_connections: int = 151) -> None:
        # Short: a socket's path may have a hundred characters.
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._empty = self.folder / "empty"
        self._max_connections = max_connections
        self.servers: list[Server] = []
        try:
            self._install()
            self.source = self._server(1, "--log-bin=bin", "--binlog-format=ROW")
            self.replicas = [self._server(2 + number) for number in range(replicas)]
            for server in self.servers:
                server.wait_ready()
            for replica in self.replicas:
                replica.replicate(self.source, delay_s)
            for server in self.servers:
                server.beat()
            for replica in self.replicas:
                wait_until(replica.sees_source, delay_s + 30, f"server {replica.id} has its source's heartbeat")
        except BaseException:
            self.close()
            raise

    def _install(self) -> None:
        """An empty data folder, to be copied for each server."""
        subprocess.run(
            [
                *("mariadb-install-db", "--no-defaults", f"--datadir={self._empty}", "--skip-test-db"),
                *("--auth-root-authentication-method=normal", f"--user={_me()}", "--innodb-log-file-size=8M"),
            ],
            check=True,
            capture_output=True,
        )

    def _server(self, number: int, *options: str) -> Server:
        folder = self.folder / str(number)
        shutil.copytree(self._empty, folder)
        server = Server(folder, number, f"--max-connections={self._max_connections}", *options)
        self.servers.append(server)
        return server

    def close(self) -> None:
        """Ends every process and removes the folder."""
        for server in self.servers:
            server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Server:
    """A mariadbd, and the pt-heartbeat that writes to it."""

    def __init__(self, folder: Path, number: int, *options: str) -> None:
        self.id = number
        self.socket = str(folder / "s")
        self.port = free_port()
        self._log = folder / "log"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._server = self._start(
            *(MARIADBD, "--no-defaults", f"--user={_me()}", f"--datadir={folder}", f"--socket={self.socket}"),
            *(f"--pid-file={folder}/pid", f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"),
            *(f"--server-id={number}", "--relay-log=relay", "--innodb-flush-log-at-trx-commit=0"),
            *("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--back-log=1000", *options),
        )

    def _start(self, *argv: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._processes.append(process)
        return process

    def wait_ready(self) -> None:
        """Waits until it answers, and makes the accounts."""

        def answers() -> bool:
            if self._server.poll() is not None:
                raise RuntimeError(f"mariadbd does not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            try:
                self.sql("SELECT 1")
            except pymysql.err.OperationalError:
                return False
            return True

        wait_until(answers, 120, f"server {self.id} answers")
        self.sql(*ACCOUNTS)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements as root; the rows of the last one."""
        with pymysql.connect(unix_socket=self.socket, user="root", read_timeout=60) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            connection.commit()
            return list(cursor.fetchall())

    def replicate(self, source: Server, delay_s: int) -> None:
        """Makes this a replica of `source`, `delay_s` seconds late."""
        self.sql(
            f"CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {source.port}, MASTER_USER = '{USER}',"
            f" MASTER_PASSWORD = '{PASSWORD}', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1,"
            f" MASTER_DELAY = {delay_s}",
            "START SLAVE",
        )

    def beat(self) -> None:
        """Starts a pt-heartbeat."""
        self._start(
            *("pt-heartbeat", f"S={self.socket},u=root", "--database", "percona", "--table", "heartbeat"),
            *("--utc", "--update", "--interval", "1"),
        )

    def sees_source(self) -> bool:
        """Whether its source's heartbeat has come through the delay line."""
        return bool(self.sql("SELECT 1 FROM percona.heartbeat WHERE server_id = 1"))

    def hang(self) -> None:
        """Lets it answer nobody (SIGSTOP)."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends `hang`."""
        self._server.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends its processes at once."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
