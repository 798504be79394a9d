"""Runs of commands, measured: CPU, wall, memory, and what they say on the wire."""

from __future__ import annotations

import marshal
import os
import selectors
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin", "LANG": "C.UTF-8", "HOME": "/root"}
"""What commands find, much as a monitoring daemon starts them."""
LONGEST_S = 900.0


class Use(NamedTuple):
    """What one run used, its children included."""

    status: int | None
    """Exit status; None where it had to be killed."""
    cpu_ms: float
    """User and system time."""
    wall_ms: float
    peak_mib: float
    """Most memory in use, of the process or of one of its children, whichever had more."""
    output: str


class Wire(NamedTuple):
    """What one run says over TCP."""

    sent: int
    """Bytes from client to server."""
    received: int
    trips: int
    """How often the client waits for the server, beside the connection's own beginning."""


class Launcher:
    """Starts commands from a process that is small, so that its own memory is not taken for theirs."""

    def __init__(self) -> None:
        code = Path(__file__).with_name("launcher.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, argv: Sequence[str], timeout: float = LONGEST_S) -> Use:
        """One run. A command that does not end within `timeout` seconds is killed with its children."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = marshal.dumps((list(argv), ENVIRONMENT, timeout))
        self._process.stdin.write(len(order).to_bytes(4, "little") + order)
        self._process.stdin.flush()
        size = int.from_bytes(self._process.stdout.read(4), "little")
        status, cpu_s, wall_s, peak_kib, output = marshal.loads(self._process.stdout.read(size))
        return Use(status, 1000 * cpu_s, 1000 * wall_s, peak_kib / 1024, output.decode(errors="replace"))

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class Contender(NamedTuple):
    """A command to be measured."""

    name: str
    argv: Sequence[str]
    expected: tuple[int, ...] | None = (0,)
    """Statuses that it may end with: a check that fails for another reason is measured in vain. None: any."""
    timeout: float = LONGEST_S


class WrongStatus(Exception):
    """A command did not do what is to be measured."""


def one_run(launcher: Launcher, contender: Contender) -> Use:
    """One measured run. Raises WrongStatus."""
    use = launcher.run(contender.argv, contender.timeout)
    if contender.expected is not None and use.status not in contender.expected:
        raise WrongStatus(f"{contender.name} ended with {use.status}: {' '.join(contender.argv)}\n{use.output}")
    return use


def medians(uses: Sequence[Use]) -> Use:
    """The median of each number; status and output are the last run's."""
    return Use(
        uses[-1].status,
        statistics.median(use.cpu_ms for use in uses),
        statistics.median(use.wall_ms for use in uses),
        statistics.median(use.peak_mib for use in uses),
        uses[-1].output,
    )


class Interleaved:
    """Runs of several commands in turn, so that what slows the machine down for a while slows down all of them."""

    def __init__(self, launcher: Launcher, contenders: Sequence[Contender]) -> None:
        self._launcher = launcher
        self._contenders = contenders
        self._uses: Mapping[str, list[Use]] = {contender.name: [] for contender in contenders}

    def warm_up(self) -> None:
        """One run of each that does not count."""
        for contender in self._contenders:
            one_run(self._launcher, contender)

    def round(self) -> None:
        """One run of each."""
        for contender in self._contenders:
            self._uses[contender.name].append(one_run(self._launcher, contender))

    @property
    def results(self) -> dict[str, Use]:
        """The medians so far, by name."""
        return {name: medians(uses) for name, uses in self._uses.items()}


class Relay:
    """Stands between clients and a server, and counts what they say."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sent = self._received = self._trips = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def count(self, launcher: Launcher, contender: Contender) -> Wire:
        """What one run of a command that connects to `port` says."""
        self._sent = self._received = self._trips = 0
        one_run(launcher, contender)
        return Wire(self._sent, self._received, self._trips)

    def close(self) -> None:
        """No more connections."""
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        server_speaks = False
        with client, socket.create_connection(("127.0.0.1", self._server)) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector = selectors.DefaultSelector()
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in selector.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is client:
                        self._sent += len(data)
                        server_speaks = False
                    else:
                        self._received += len(data)
                        self._trips += not server_speaks
                        server_speaks = True
                    key.data.sendall(data)


def machine() -> str:
    """What this runs on, by cores and memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores and {memory:.0f} GiB of memory"
