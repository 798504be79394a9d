"""What is measured: the two ways to check, the checks beside it, and the floors that no Python program gets below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .measure import Contender
from .servers import PASSWORD, USER, Server

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".bench" / "measured" / "bin"
PLUGINS = "/usr/lib/nagios/plugins"

WORKER, INLINE = "worker-sampled check", "inline check"
BARE, CLIENT = "Python alone", "Python, PyMySQL, the same queries"
SLAVE, SHELL = "check_mysql -S (C)", "pmp-check-mysql-replication-delay (shell)"
HEALTH, HEARTBEAT = "check_mysql_health --mode slave-lag (Perl)", "pt-heartbeat --check (Perl)"
OURS = (WORKER, INLINE)
FLOORS = (BARE, CLIENT)
PEERS = (SLAVE, SHELL, HEALTH, HEARTBEAT)

NAME = "replica"
"""The replica's name in every history."""
DELAY_S = 20
LIMITS = ("--min-delay-time", "10", "--max-delay-time", "60")

_CLIENT = """
import pymysql
connection = pymysql.connect(**{where!r}, user={user!r}, password={password!r}, autocommit=True)
cursor = connection.cursor()
cursor.execute("SET SESSION time_zone = '+00:00', lock_wait_timeout = 10")
cursor.execute("SHOW ALL SLAVES STATUS")
status = cursor.fetchall()
cursor.execute("SELECT server_id, ts, UNIX_TIMESTAMP(SYSDATE(6)), @@global.server_id FROM percona.heartbeat")
assert status and cursor.fetchall()
connection.close()
"""


class Where:
    """A way to a server, in every client's own words: its socket, or a port on this machine."""

    def __init__(self, socket: str = "", port: int = 0, password: str = PASSWORD) -> None:
        self._login = (USER, password)
        self._socket = socket
        self._port = str(port)

    def _words(self, host: str, port: str, socket: str, user: str, password: str) -> Sequence[str]:
        where = (socket, self._socket) if self._socket else (host, "127.0.0.1", port, self._port)
        return (*where, user, self._login[0], password, self._login[1])

    def ours(self, history: str, *more: str) -> Sequence[str]:
        """The inline check."""
        words = self._words("-H", "-P", "-S", "-u", "-p")
        return (f"{BIN}/check_delayed_repl", *words, "--history", history, "--replica", NAME, *LIMITS, *more)

    def client(self) -> Sequence[str]:
        """The floor of an inline check."""
        place = {"unix_socket": self._socket} if self._socket else {"host": "127.0.0.1", "port": int(self._port)}
        return (f"{BIN}/python", "-c", _CLIENT.format(where=place, user=self._login[0], password=self._login[1]))

    def slave(self) -> Sequence[str]:
        """check_mysql."""
        return (f"{PLUGINS}/check_mysql", "-S", *self._words("-H", "-P", "-s", "-u", "-p"))

    def shell(self) -> Sequence[str]:
        """The shell peer, as it reads the same heartbeats, with a lower bound too."""
        words = self._words("-H", "-P", "-S", "-l", "-p")
        limits = ("-m", "10", "-w", "50", "-c", "60")
        return (
            f"{PLUGINS}/pmp-check-mysql-replication-delay",
            *words,
            "-T",
            "percona.heartbeat",
            "-u",
            "-s",
            "1",
            *limits,
        )

    def health(self) -> Sequence[str]:
        """check_mysql_health."""
        words = self._words("--hostname", "--port", "--socket", "--username", "--password")
        limits = ("--warning", "50", "--critical", "60")
        return (f"{PLUGINS}/check_mysql_health", *words, "--mode", "slave-lag", *limits)

    def heartbeat(self) -> Sequence[str]:
        """pt-heartbeat."""
        where = f"S={self._socket}" if self._socket else f"h=127.0.0.1,P={self._port}"
        login = f"u={self._login[0]},p={self._login[1]}"
        return (
            "/usr/bin/pt-heartbeat",
            f"{where},{login}",
            "-D",
            "percona",
            "--check",
            "--utc",
            "--master-server-id",
            "1",
        )


def sampled(history: str, *more: str) -> Sequence[str]:
    """The check of what a worker saw."""
    return (
        *(f"{BIN}/check_delayed_repl", "--sampling", "worker", "--history", history, "--replica", NAME),
        *LIMITS,
        *more,
    )


def peers(where: Where, expected: tuple[int, ...] | None = (0,), timeout: float = 60) -> Iterator[Contender]:
    """The checks beside it."""
    yield Contender(SLAVE, where.slave(), expected, timeout)
    yield Contender(SHELL, where.shell(), expected, timeout)
    yield Contender(HEALTH, where.health(), expected, timeout)
    yield Contender(HEARTBEAT, where.heartbeat(), expected, timeout)


def everyone(where: Where, worker_history: str, inline_history: str) -> Iterator[Contender]:
    """Floors, both ways to check, and peers, on a healthy replica."""
    yield Contender(BARE, (f"{BIN}/python", "-c", "pass"))
    yield Contender(CLIENT, where.client())
    yield Contender(WORKER, sampled(worker_history))
    yield Contender(INLINE, where.ours(inline_history))
    yield from peers(where)


def by_socket(server: Server) -> Where:
    return Where(socket=server.socket)


def by_port(port: int, password: str = PASSWORD) -> Where:
    return Where(port=port, password=password)
