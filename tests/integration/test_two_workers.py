"""Two workers on one shared history, as on a pair of satellites: one publishes, either may die, and both agree."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from listeners import PASSWORD, listening, living

from .checking import ROOT
from .servers import ROOT_PASSWORD, Kit, Server, wait_until

LEASE_S = 30
NAMES = ("a", "b#c", "b#d")


class Satellite:
    """A worker that publishes to a file of its own."""

    def __init__(self, folder: Path, name: str, history: str, port: int) -> None:
        self._file = folder / f"{name}.prom"
        self.config = folder / f"{name}.toml"
        self._log = folder / f"{name}.log"
        tables = "".join(f'[[replica]]\nreplica = "{each}"\n' for each in NAMES)
        self.config.write_text(
            f'history = "{history}"\n[publish]\nprometheus-file = "{self._file}"\n[defaults]\nhost = "127.0.0.1"\n'
            f'port = {port}\nuser = "monitor"\npassword = "{PASSWORD}"\ninterval = 1\ntimeout = 3\n'
            f"min-delay-time = 1\nmax-delay-time = 60\nwindow = 15\nmax-last-seen = 20\n{tables}"
        )
        self.config.chmod(0o600)
        self.start()

    def start(self) -> None:
        self._file.unlink(missing_ok=True)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "check_delayed_repl.tool", "worker", "--config", str(self.config)],
                cwd=ROOT,
                stderr=log,
            )

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def said(self) -> dict[str, str]:
        """The conditions that it publishes now, by replica."""
        with suppress(FileNotFoundError):
            if time.time() - self._file.stat().st_mtime < 15:
                found = re.findall(
                    r'(?m)^delayed_repl_condition\{replica="(.*)",condition="(.*)"\} 1$', self._file.read_text()
                )
                return dict(found)
        return {}

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture(params=["mariadb", pytest.param("mysql", marks=pytest.mark.long)])
def keeper(kit: Kit, request: pytest.FixtureRequest) -> Iterator[Server]:
    server = kit.server(request.param, name=f"shared-{request.param}")
    server.sql("CREATE DATABASE shared_history")
    yield server
    server.close()


def test_one_publishes_either_may_die_and_both_agree(keeper: Server, tmp_path: Path) -> None:
    history = f"mysql://root:{ROOT_PASSWORD}@127.0.0.1:{keeper.port}/shared_history"
    ok = dict.fromkeys(NAMES, "in-range")
    with listening(living()) as target:
        assert target.port is not None
        both = [Satellite(tmp_path, name, history, target.port) for name in ("first", "second")]

        def publishing() -> list[Satellite]:
            return [each for each in both if each.said() == ok]

        try:
            wait_until(publishing, 60, "one of them publishes")
            (chosen,) = publishing()
            (other,) = (each for each in both if each is not chosen)
            time.sleep(12)  # a lease is renewed
            assert chosen.said() == ok
            assert other.said() == {}, "both publish"

            chosen.kill()
            began = time.monotonic()
            wait_until(lambda: other.said() == ok, LEASE_S + 15, "the other takes over")
            assert time.monotonic() - began > 5, "the lease was not held"
            chosen.start()
            time.sleep(5)
            assert chosen.said() == {}, "both publish"

            # Without a history nobody knows who is to publish: both say so, rather than nobody.
            keeper.stop()
            gone = dict.fromkeys(NAMES, "history-unavailable")
            wait_until(lambda: [each.said() for each in both] == [gone, gone], 60, "both tell of the history")
            keeper.start()
            wait_until(
                lambda: sorted(map(str, (each.said() for each in both))) == sorted(map(str, ({}, ok))), 60, "one"
            )
            for each in both:
                assert "the history can be written again" in each.log()
                command = [sys.executable, "-m", "check_delayed_repl.tool", "status", "--output", "json", "--config"]
                run = subprocess.run([*command, each.config], cwd=ROOT, capture_output=True, text=True, check=True)
                rows = json.loads(run.stdout)["replicas"]
                assert {row["replica"]: row["condition"] for row in rows} == ok
        finally:
            for each in both:
                each.kill()
                print(each.log())
