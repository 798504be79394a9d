"""Ways to break real servers: sessions ended, connections used up, networks cut or slowed down. And how to start over.

What a server can do by itself (stop, hang, be killed) is in servers.py.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pymysql

from .checking import Scene
from .server import end_sessions
from .servers import HEARTBEAT_TABLE, MONITOR, Pair, Server, account, literal, wait_until

THROUGH_S = 13
"""Seconds until a sample has seen what a change on the source did on the replica."""
TOO_MANY_CONNECTIONS = 1040
FEW_CONNECTIONS = 20
"""What a crowded server may have at most."""


def kill_everybody(server: Server) -> None:
    """End every client's session but this one's own; who is meant to be there comes back."""
    for (user,) in server.sql(
        "SELECT DISTINCT user FROM information_schema.processlist WHERE command <> 'Daemon'"
        " AND user NOT IN ('system user', 'event_scheduler', 'root')"
    ):
        server.end_sessions(str(user))


def set_password(server: Server, who: tuple[str, str], password: str) -> None:
    """Give an account of MONITOR's kind another password. Sessions that are open stay open."""
    if server.family == "mysql56":
        server.unlogged(f"SET PASSWORD FOR {account(who)} = PASSWORD({literal(password)})")
    else:
        server.unlogged(f"ALTER USER {account(who)} IDENTIFIED BY {literal(password)}")


class Crowd:
    """Sessions that take all the connections that a server has for accounts without special rights."""

    def __init__(self, server: Server, run: Callable[[str], list[tuple[Any, ...]]]) -> None:
        """`run`: root's own session, open all the time: the server forgets one that has ended a moment later only."""
        self._server, self._run = server, run
        self._sessions: list[pymysql.Connection[Any]] = []

    def fill(self) -> None:
        while True:
            try:
                self._sessions.append(self._server.connect(*MONITOR))
            except pymysql.err.OperationalError as error:
                if error.args[0] != TOO_MANY_CONNECTIONS:
                    raise
                return

    def make_room(self, sessions: int) -> None:
        for _ in range(sessions):
            self._sessions.pop().close()

    def shut_out(self, user: str) -> None:
        """Take the place of every session of that user."""

        query = f"SELECT 1 FROM information_schema.processlist WHERE user = {literal(user)}"

        alone = 0

        def gone() -> bool:
            # The place of a session that has ended is free a moment later.
            nonlocal alone
            self.end_sessions(user)
            self.fill()
            alone = 0 if self._run(query) else alone + 1
            return alone >= 10

        wait_until(gone, 30, f"{user} is shut out", interval_s=0.03)

    def end_sessions(self, user: str) -> None:
        end_sessions(self._run, user)

    def leave(self) -> None:
        while self._sessions:
            self._sessions.pop().close()


@contextmanager
def crowded(server: Server) -> Iterator[Crowd]:
    """Few connections, all of them taken; root can still connect. As before afterwards."""
    with server.session() as run:
        [(before,)] = run("SELECT @@GLOBAL.max_connections")
        run(f"SET GLOBAL max_connections = {FEW_CONNECTIONS}")
        crowd = Crowd(server, run)
        try:
            crowd.fill()
            yield crowd
        finally:
            crowd.leave()
            run(f"SET GLOBAL max_connections = {before}")


@contextmanager
def reconnecting_after(server: Server, seconds: int) -> Iterator[None]:
    """The IO thread misses its source after so many seconds of silence, in place of a minute or an hour."""
    name = "replica_net_timeout" if server._modern else "slave_net_timeout"
    before = int(server.value(f"SELECT @@GLOBAL.{name}"))

    def set_to(value: int) -> None:
        server.sql(f"SET GLOBAL {name} = {value}")
        server.stop_io()
        server.start_io()

    set_to(seconds)
    try:
        yield
    finally:
        set_to(before)


@contextmanager
def disconnected(server: Server) -> Iterator[None]:
    """The server's network cable is pulled out."""
    network = server.kit.client.networks.get(server.network.id)
    network.disconnect(server.container.id)
    try:
        yield
    finally:
        network.connect(server.container.id, aliases=[server.name])


@contextmanager
def disk_filled(server: Server, folder: str, spare_kib: int = 0) -> Iterator[None]:
    """Somebody puts a file into the folder that leaves so much of its disk free; later it is gone again."""
    server.run(
        f"free=$(df -k --output=avail {folder} | tail -n 1);"
        f" dd if=/dev/zero of={folder}/ballast bs=1k count=$((free - {spare_kib}))"
    )
    try:
        yield
    finally:
        server.run(f"rm {folder}/ballast")


class Relay:
    """A narrow or a long line to a server: what the server says arrives late, what it is told does not.

    `rate` is in bytes a second (None: any), `latency` in seconds.
    """

    CHUNK = 16_384

    def __init__(self, server: Server) -> None:
        self.rate: float | None = None
        self.latency = 0.0
        self._server = server
        self._listener = socket.create_server(("0.0.0.0", 0))
        self._open: list[socket.socket] = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        settings = server.kit.client.networks.get(server.network.id).attrs["IPAM"]["Config"]
        self.host = str(settings[0]["Gateway"])
        """Where containers in the server's network find it."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                try:
                    server = socket.create_connection((self._server.host, self._server.port), 5)
                except OSError:
                    caller.close()
                    continue
                server.settimeout(None)
                self._open += [caller, server]
                for ends in ((caller, server, False), (server, caller, True)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, late: bool) -> None:
        with suppress(OSError):
            while data := source.recv(self._piece() if late else self.CHUNK):
                if late:
                    rate = self.rate
                    time.sleep(self.latency + (len(data) / rate if rate else 0))
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _piece(self) -> int:
        """What passes in half a second, so that another rate takes effect soon."""
        rate = self.rate
        return max(1, min(self.CHUNK, int(rate / 2))) if rate else self.CHUNK

    def close(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def by_relay(pair: Pair) -> Iterator[Relay]:
    with ExitStack() as after:
        relay = Relay(pair.source)
        after.callback(relay.close)
        after.callback(pair.replica.change_source, HOST=pair.source.name, PORT=3306)
        pair.replica.change_source(HOST=relay.host, PORT=relay.port)
        pair.wait_healthy(40)
        yield relay


def start_over(pair: Pair) -> None:
    """Set up replication anew, from what the source has now: what it has no binary logs of is let go."""
    source, replica = pair.source, pair.replica
    pair.whole = False
    has = source.executed()
    replica.forget_replication()
    replica.sql(f"SET GLOBAL {'gtid_slave_pos' if replica.kind == 'mariadb' else 'gtid_purged'} = {literal(has)}")
    replica.replicate_from(source, pair.delay)


def replicated(replica: Server, query: str) -> None:
    wait_until(lambda: replica.sql(query), 60, f"the replica has applied what {query} finds")


def delay_above(scene: Scene, seconds: float) -> None:
    wait_until(lambda: (scene.pair.seen_delay() or 0) > seconds, seconds + 20, f"the delay is above {seconds:g} s")


def heartbeats_move(pair: Pair) -> None:
    """Wait until the source's heartbeat is written again: the writer finds its way back by itself."""
    query = f"SELECT ts FROM {HEARTBEAT_TABLE} WHERE server_id = {pair.source.server_id}"
    before = pair.source.value(query)
    wait_until(lambda: pair.source.value(query) != before, 60, "the source's heartbeat is written again")
