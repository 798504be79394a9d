"""What every container of the tests has: a process that can be killed or hung, files, and commands run in it.

Nothing here sleeps for a fixed time: `wait_until` waits for a condition, with a deadline that a busy machine keeps.
Nothing rests on what the engine's exec prints, of which a busy engine loses the beginning or the end now and then: what
a command prints goes to a file in the container, and that is fetched.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

# Containers are removed by their label instead (see images.sweep): Ryuk's image cannot be had everywhere.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

import pymysql
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

if TYPE_CHECKING:
    from .servers import Kit

UNREACHABLE = (pymysql.err.MySQLError, OSError)

SLOW = 4
ENGINE_S = 300
"""How long a busy engine may take to answer."""

T = TypeVar("T")


class NotInTime(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(condition: Callable[[], T | None], deadline_s: float, what: str, *, interval_s: float = 0.2) -> T:
    """Wait until `condition` gives something true, and return it. The deadline is a quiet machine's: where other work
    takes all the cores, it is as well that this waits SLOW times as long.

    An error of the server counts as not yet and is told where the deadline passes, together with the last value. Raises
    NotInTime.
    """
    end = time.monotonic() + SLOW * deadline_s
    last: object = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except UNREACHABLE as error:
            last = error
        if time.monotonic() >= end:
            raise NotInTime(f"{what}: not within {deadline_s:g} s (last seen: {last!r})")
        time.sleep(interval_s)


@contextmanager
def meanwhile(action: Callable[[], object], interval_s: float) -> Iterator[None]:
    """Do something again and again for as long as the block lasts; a server that is down for a while is no error."""
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(interval_s):
            with suppress(*UNREACHABLE):
                action()

    thread = threading.Thread(target=go_on, name="meanwhile", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(90)


def free_port() -> int:
    """A TCP port that nothing uses. It lies below the ports that the system hands out by itself, so that it is still
    free when a stopped server comes back."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port
    raise RuntimeError("no free TCP port between 20000 and 32000")


class Ran(NamedTuple):
    status: int
    output: str


class Machine:
    """A container, once it is `launched`; `_made` tells a subclass's."""

    def __init__(self, kit: Kit, name: str, network: Network) -> None:
        self.kit = kit
        self.name = name
        """Its name in the containers' network."""
        self.network = network
        self._wrapped: DockerContainer | None = None
        self._runs = itertools.count()

    def _made(self) -> DockerContainer:
        """The container, to be started: `_from` an image, with what it needs."""
        raise NotImplementedError

    def _from(self, image: str, **settings: Any) -> DockerContainer:
        """A container of an image; `settings` go to the engine."""
        made = DockerContainer(self.kit.image(image), docker_client_kw={"timeout": ENGINE_S})
        return made.with_kwargs(labels=self.kit.labels, **settings)

    @property
    def launched(self) -> bool:
        return self._wrapped is not None

    @property
    def container(self) -> Any:
        assert self._wrapped is not None, f"{self.name} was not launched"
        return self._wrapped.get_wrapped_container()

    @property
    def running(self) -> bool:
        """Whether the process exists (a hung one does)."""
        if self.launched:
            self.container.reload()
        return self.launched and bool(self.container.attrs["State"]["Running"])

    def go(self) -> None:
        """Running, whatever was done to the process; returns before it has done anything."""
        if self._wrapped is None:
            self._wrapped = self._made().with_network(self.network).with_network_aliases(self.name)
            self._wrapped.start()
        elif self.running:
            self.unpause()
        else:
            self.container.start()

    def kill(self, signal: str = "SIGKILL") -> None:
        if self.running:
            self.container.kill(signal=signal)
            wait_until(lambda: not self.running, 20, f"{self.name} has ended")

    def pause(self) -> None:
        """Hang the process (SIGSTOP): connections are accepted and never answered."""
        self.container.kill(signal="SIGSTOP")

    def unpause(self) -> None:
        self.container.kill(signal="SIGCONT")

    def logs(self, lines: int = 40) -> str:
        return str(self.container.logs(tail=lines).decode(errors="replace")) if self.launched else ""

    def close(self) -> None:
        if self._wrapped is not None:
            self._wrapped.stop()
            self._wrapped = None

    # Inside

    def run(self, command: str, *, user: str = "root", check: bool = True) -> Ran:
        """Run a command line by sh, to its end. With `check` it must succeed."""
        said = f"/var/tmp/said.{next(self._runs)}"
        engine = self.kit.client.api
        script = ["sh", "-c", f"({command}\n) >{said} 2>&1"]
        number = engine.exec_create(self.container.id, script, user=user)["Id"]
        engine.exec_start(number, detach=True)
        wait_until(lambda: not engine.exec_inspect(number)["Running"], 150, f"{command} ends", interval_s=0.05)
        status = engine.exec_inspect(number)["ExitCode"]
        output = self.read(said)
        assert not check or status == 0, f"{command}: {status}\n{output}"
        return Ran(status, output)

    def spawn(self, command: str, log: str, *, user: str = "root") -> None:
        """Run a command line by sh in the background, with its output in a file."""
        self.container.exec_run(["sh", "-c", f"exec {command} >>{log} 2>&1"], user=user, detach=True)

    def fetch(self, path: str) -> dict[str, str]:
        """The text of a file, or of every file of a folder, by name; on any disk but a tmpfs."""
        stream, _ = self.container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            return {
                member.name.rpartition("/")[2]: file.read().decode(errors="replace")
                for member in archive.getmembers()
                if member.isfile() and (file := archive.extractfile(member))
            }

    def read(self, path: str) -> str:
        """A file's text; raises docker.errors.NotFound where there is none."""
        (text,) = self.fetch(path).values()
        return text

    def put_files(self, files: Mapping[str, str | bytes], owner: tuple[int, int] = (0, 0), mode: int = 0o644) -> None:
        """Write files by their paths, and the folders that lead to them."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path, text in files.items():
                data = text.encode() if isinstance(text, str) else text
                info = tarfile.TarInfo(path.lstrip("/"))
                info.size, info.mode, info.mtime = len(data), mode, int(time.time())
                info.uid, info.gid = owner
                archive.addfile(info, io.BytesIO(data))
        assert self.container.put_archive("/", stream.getvalue())
