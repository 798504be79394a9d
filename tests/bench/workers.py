"""A worker with a thousand replicas: how punctual, how cheap, and what it does when some of their servers hang."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .contenders import BIN
from .servers import PASSWORD, USER, Server, Servers

REPLICAS = 1000
SERVERS = 10
"""Real servers, each watched under a hundred names."""
INTERVAL_S = 10
SETTLE_S = 3 * INTERVAL_S
"""Connections are made, and threads started, before anything is counted."""
DAY = 86400


class Watched(NamedTuple):
    """What a worker did for a while."""

    seconds: float
    looks: int
    failed: int
    """Looks that saw no delay."""
    cpu_s: float
    late_s: tuple[float, ...]
    """How late looks were, behind a clock of their replica's own: 50th, 95th and 99th percentile, and the latest."""
    rss_mib: float
    """Most memory that it had in use."""
    threads: int
    """Most threads that it had."""
    connections: int
    """Connections to the servers that answer, as they count them."""
    bytes_per_day: float
    """What one replica adds to the history in a day."""


def measure(minutes: float, say: Callable[[str], None]) -> dict[str, Watched]:
    """All servers well, and then a tenth of them hung, for so many minutes each."""
    say(f"starting a source and {SERVERS} replicas")
    _allow_files()
    servers = Servers(SERVERS, delay_s=5, max_connections=2 * REPLICAS // SERVERS)
    try:
        return _watch(servers, 60 * minutes, say)
    finally:
        for replica in servers.replicas:
            replica.go_on()
        servers.close()


def _watch(servers: Servers, seconds: float, say: Callable[[str], None]) -> dict[str, Watched]:
    config, history = servers.folder / "worker.toml", servers.folder / "worker.db"
    config.write_text(_config(servers.replicas))
    process = subprocess.Popen(
        [f"{BIN}/delayed-repl", "worker", "--config", str(config), "--history", str(history)],
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        worker = Worker(process.pid, history, servers.replicas)
        time.sleep(SETTLE_S)
        say(f"{REPLICAS} replicas for {seconds:g} seconds")
        well = worker.during(seconds, servers.replicas)
        hung, answering = servers.replicas[0], servers.replicas[1:]
        hung.hang()
        time.sleep(SETTLE_S)
        say(f"the same, with one server of {SERVERS} hung")
        return {"all well": well, "a tenth hung": worker.during(seconds, answering)}
    finally:
        process.kill()
        process.wait()


def _config(replicas: Sequence[Server]) -> str:
    lines = [f'[defaults]\nhost = "127.0.0.1"\nuser = "{USER}"\npassword = "{PASSWORD}"\ninterval = {INTERVAL_S}\n']
    # One after the other through the servers, so that each server's looks are spread over the interval.
    for number in range(REPLICAS):
        port = replicas[number % len(replicas)].port
        lines.append(f'[[replica]]\nreplica = "{port}/{number}"\nport = {port}\n')
    return "\n".join(lines)


class Worker:
    """A worker that runs, as the kernel and its history know it."""

    def __init__(self, pid: int, history: Path, replicas: Sequence[Server]) -> None:
        self._pid = pid
        self._history = history
        self._replicas = replicas

    def during(self, seconds: float, answering: Sequence[Server]) -> Watched:
        """What it does in the seconds to come; lateness is that of the looks at the servers that answer."""
        began, cpu_s, size = time.time(), self._cpu_s(), self._bytes()
        peaks = [(0.0, 0)]
        while time.time() < began + seconds:
            time.sleep(1)
            peaks.append(self._memory_and_threads())
        ended = time.time()
        cpu_s, size = self._cpu_s() - cpu_s, self._bytes() - size
        looks = self._looks(began, ended)
        ports = tuple(f"{server.port}/" for server in answering)
        late = sorted(
            lateness
            for name, times in looks.items()
            if name.startswith(ports)
            for lateness in _behind([t for t, seen in times if seen])
        )
        count = sum(map(len, looks.values()))
        return Watched(
            ended - began,
            count,
            sum(not seen for times in looks.values() for _, seen in times),
            cpu_s,
            (*(late[int(len(late) * part)] for part in (0.5, 0.95, 0.99)), late[-1]),
            max(memory for memory, _ in peaks),
            max(threads for _, threads in peaks),
            sum(self._connections(server) for server in answering),
            size / count * DAY / INTERVAL_S,
        )

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _memory_and_threads(self) -> tuple[float, int]:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{self._pid}/status").read_text().splitlines())
        return int(lines["VmRSS"].split()[0]) / 1024, int(lines["Threads"])

    def _bytes(self) -> int:
        """What the history takes, without what waits in the log beside it."""
        with sqlite3.connect(self._history) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
            size = int(connection.execute("PRAGMA page_size").fetchone()[0])
        connection.close()
        return pages * size

    def _looks(self, began: float, ended: float) -> dict[str, list[tuple[float, bool]]]:
        """By name: when each look was, and whether it saw a delay."""
        found = defaultdict(list)
        with sqlite3.connect(self._history) as connection:
            for name, t, delay in connection.execute(
                "SELECT name, t, delay FROM sample JOIN replica ON replica.number = sample.replica"
                " WHERE t >= ? AND t < ? ORDER BY t",
                (began, ended),
            ):
                found[name].append((t, delay is not None))
        connection.close()
        return found

    @staticmethod
    def _connections(server: Server) -> int:
        return int(server.sql(f"SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{USER}'")[0][0])


def _behind(times: Sequence[float]) -> list[float]:
    """How late each look was: behind a clock that strikes every ten seconds, and never after a look."""
    strikes = [t - INTERVAL_S * round((t - times[0]) / INTERVAL_S) for t in times]
    return [strike - min(strikes) for strike in strikes]


def _allow_files() -> None:
    """Servers inherit the limit: a thousand connections are a thousand files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2**16), hard))
