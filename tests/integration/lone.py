"""Faults that no server need be broken for: a made-up replica, a real worker that takes samples of it, the real check.

What befalls the worker, its history, or the way to the replica is caused for real. Nobody mends more than the fault:
the worker is not restarted, unless its death is the fault.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path

from listeners import PASSWORD

from check_delayed_repl.observe.target import Target

from . import checking, fault_table, matrix
from .checking import Commands, Outcome
from .servers import wait_until

NAME = "db7"
INTERVAL_S = 2.0
"""From one sample of the worker to the next."""
LAST_SEEN_S = 8.0
TIMEOUT_S = 4.0
"""The check's and the worker's --timeout."""
MEMORY_MIB = 60.0
"""What a check may take, whoever answers it."""
LONGEST = 8000
"""Characters of output, whatever a peer says."""

SMALL = (
    *("--min-delay-time", "1", "--max-delay-time", "20", "--max-seconds-behind", "5", "--window", "10"),
    *("--max-last-seen", str(LAST_SEEN_S)),
)
"""Limits for a made-up replica, which is five seconds late."""


class Lone(Commands):
    """A replica at `target`, and a history at `history`."""

    who = ("monitor", PASSWORD)
    limits = SMALL
    timeout = TIMEOUT_S

    def __init__(self, target: Target, history: str, folder: Path) -> None:
        super().__init__(folder, NAME, history)
        self.target = target
        self.family = fault_table.ANY
        """Whose server the history is on."""
        self.version = ""
        self.worker_history = history
        """Where the worker keeps it, if it names it in another way than the check."""

    def reaching(self, who: tuple[str, str] = who) -> list[str]:
        target = self.target
        place = ["-S", target.socket] if target.socket else ["-H", str(target.host), "-P", str(target.port)]
        return ["--defaults-file", str(self.option_file(who)), *place]

    def check(self, name: str | None, *options: str) -> Outcome:
        outcome = super().check(name, *options)
        assert outcome.memory <= MEMORY_MIB, f"the check took {outcome.memory:.0f} MiB"
        safe(outcome.text)
        return outcome

    def worker(
        self, *options: str, log: str = "worker.log", **environment: str
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """A worker. In the end it is asked to end, and does so at once, unless it is dead."""
        common = ("--history", self.worker_history, "--interval", f"{INTERVAL_S:g}", "--timeout", f"{TIMEOUT_S:g}")
        arguments = (*common, *(options or (*self.reaching(), "--replica", NAME)))
        return checking.worker(*arguments, log=self.folder / log, prefix=self.prefix, **environment)

    def fleet(self, replicas: Mapping[str, Target], interval: float = INTERVAL_S) -> list[str]:
        """Options of a worker that takes samples of all these."""
        places = {name: f'host = "{target.host}"\nport = {target.port}' for name, target in replicas.items()}
        login = ('user = "monitor"', f'password = "{PASSWORD}"')
        return checking.fleet(self.folder, places, *login, f"interval = {interval}")

    def complete(self, begin: float) -> None:
        """No sample is missing since `begin`, once the worker has written what it kept in memory."""
        end = time.time()
        wait_until(lambda: self.samples()[-1].t > end, 40, "the worker writes again")
        times = [sample.t for sample in self.samples() if sample.t >= begin]
        gap = max(later - earlier for earlier, later in pairwise([begin, *times]))
        assert gap <= 6 * INTERVAL_S, f"nothing for {gap:.1f} s: {self.said()}"

    def stays_ok(self, seconds: float) -> None:
        self.stays(seconds, "OK")

    @contextmanager
    def fault(
        self,
        number: str,
        title: str,
        condition: str | tuple[str, ...],
        twin: str,
        *,
        within: float,
        back: float = 15,
        options: Sequence[str] = (),
    ) -> Iterator[matrix.Fault]:
        """What stands in the block causes a fault, sees it detected and mends it; its row goes to the table."""
        it = matrix.Fault(self, condition, within, options=options)
        yield it
        mended = time.time()
        assert it.told_t is not None
        self.expect("OK", "in-range", back)
        seconds = it.told_t - it.cause_t
        samples = max(1, round(seconds / INTERVAL_S))
        back_s = time.time() - mended
        fault_table.record(
            *(number, title, twin, it.told, "CRITICAL", seconds, samples, back_s),
            family=self.family,
            version=self.version,
        )


def safe(text: str) -> None:
    """The output may be logged and shown in a web page: no control characters, no markup, not too long."""
    assert len(text) <= LONGEST
    first, *others = text.removesuffix("\n").split("\n")
    assert first.count("|") == 1, first
    for line in (first.partition("|")[0], *others):
        assert line.isprintable(), repr(line)
        assert not set(line) & set('|<>`\\"'), line


def memory_of(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
