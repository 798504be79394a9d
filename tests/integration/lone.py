"""Faults that no server need be broken for: a made-up replica, a real worker that takes samples of it, the real check.

What befalls the worker, its history, or the way to the replica is caused for real. Nobody mends more than the fault:
the worker is not restarted, unless its death is the fault.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path

from listeners import PASSWORD

from check_delayed_repl.history import open_history
from check_delayed_repl.observe.target import Target
from check_delayed_repl.records import Sample

from . import checking, matrix
from .checking import Moment, Outcome, judged_at_each, option_file
from .fault_table import ANY
from .servers import NotInTime, wait_until

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


class Lone:
    """A replica at `target`, and a history at `where`."""

    def __init__(self, target: Target, where: str, folder: Path) -> None:
        self.target = target
        self.where = where
        self.family = ANY
        """Whose server the history is on."""
        self.version = ""
        self.worker_where = where
        """Where the worker keeps it, if it names it in another way than the check."""
        self.folder = folder
        self.prefix: tuple[str, ...] = ()
        """What the commands are started by, such as setpriv with its options."""

    def _reaching(self) -> list[str]:
        target = self.target
        place = ["-S", target.socket] if target.socket else ["-H", str(target.host), "-P", str(target.port)]
        file = option_file(self.folder / "client.cnf", ("monitor", PASSWORD))
        return ["--defaults-file", str(file), *place, "--replica", NAME]

    # The check

    def inline(self, *options: str) -> Outcome:
        """A check that takes a sample itself."""
        return self._check(*self._reaching(), *options)

    def judged(self, *options: str) -> Outcome:
        """A check that judges the worker's samples."""
        return self._check("--sampling", "worker", "--replica", NAME, *options)

    def _check(self, *options: str) -> Outcome:
        common = ("--history", self.where, "--timeout", f"{TIMEOUT_S:g}", *SMALL)
        outcome = checking.check(*common, *options, timeout=TIMEOUT_S, prefix=self.prefix)
        assert outcome.memory <= MEMORY_MIB, f"the check took {outcome.memory:.0f} MiB"
        safe(outcome.text)
        return outcome

    def expect(self, state: str, condition: str | tuple[str, ...], within_s: float, *options: str) -> Outcome:
        """Runs the worker-sampled check until it says so."""
        conditions = (condition,) if isinstance(condition, str) else condition

        def says(outcome: Outcome) -> bool:
            return outcome.state == state and outcome.condition in conditions

        try:
            return checking.until(lambda: self.judged(*options), says, within_s, f"{state} {condition}")
        except NotInTime as error:
            raise NotInTime(f"{error}; the worker said {self.said()}") from None

    # The worker

    def worker(
        self, *options: str, log: str = "worker.log", ends: int = 0, **environment: str
    ) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """A worker. In the end it is asked to end, and does so at once, with status `ends`, unless it is dead."""
        common = ("--history", self.worker_where, "--interval", f"{INTERVAL_S:g}", "--timeout", f"{TIMEOUT_S:g}")
        arguments = (*common, *(options or self._reaching()))
        return checking.worker(*arguments, log=self.folder / log, ends=ends, prefix=self.prefix, **environment)

    def said(self, log: str = "worker.log") -> str:
        """What the worker printed."""
        return (self.folder / log).read_text(errors="replace") if (self.folder / log).exists() else ""

    # What was seen

    def samples(self, name: str = NAME) -> list[Sample]:
        """All samples in the history."""
        history = open_history(self.where, time.monotonic() + 30)
        try:
            return [record for _, record in history.records(name) if isinstance(record, Sample)]
        finally:
            history.close()

    def complete(self, begin: float) -> None:
        """No sample is missing since `begin`, once the worker has written what it kept in memory."""
        end = time.time()
        wait_until(lambda: self.samples()[-1].t > end, 40, "the worker writes again")
        times = [sample.t for sample in self.samples() if sample.t >= begin]
        gap = max(later - earlier for earlier, later in pairwise([begin, *times]))
        assert gap <= 6 * INTERVAL_S, f"nothing for {gap:.1f} s: {self.said()}"

    def moments(self, name: str = NAME) -> list[Moment]:
        """The verdict at every sample."""
        return judged_at_each(self.samples(name), SMALL)

    # Faults

    @contextmanager
    def fault(
        self, number: str, title: str, condition: str | tuple[str, ...], twin: str, *, within: float, back: float = 15
    ) -> Iterator[LoneFault]:
        """What stands in the block causes a fault, sees it detected and mends it; its row goes to the table."""
        it = LoneFault(self, (condition,) if isinstance(condition, str) else condition, within)
        yield it
        mended = time.time()
        assert it.detected_t is not None
        self.expect("OK", "in-range", back)
        seconds = it.detected_t - it.cause_t
        matrix.record(
            number,
            title,
            condition=it.condition,
            seconds=seconds,
            samples=max(1, round(seconds / INTERVAL_S)),
            back_s=time.time() - mended,
            twin=twin,
            family=self.family,
            version=self.version,
        )

    def stays_ok(self, seconds: float, *options: str) -> None:
        """No run of the check in that time says anything but OK."""
        self.stays(lambda outcome: outcome.what == ("OK", "in-range"), seconds, *options)

    def stays(self, right: Callable[[Outcome], bool], seconds: float, *options: str) -> None:
        """Every run of the worker-sampled check in that time is right."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            outcome = self.judged(*options)
            assert right(outcome), f"{outcome.text}\n{self.said()}"
            time.sleep(0.3)  # a check each moment would take a core, and tell no more


class LoneFault:
    """One fault while it is there."""

    def __init__(self, lone: Lone, conditions: tuple[str, ...], within: float) -> None:
        self._lone = lone
        self._conditions = conditions
        self._within = within
        self.cause_t = time.time()
        self.detected_t: float | None = None
        self.condition = conditions[0]

    def caused(self) -> None:
        """The cause is now, and not at the entry of the block."""
        self.cause_t = time.time()

    def detected(self, *options: str) -> Outcome:
        """Runs the worker-sampled check until it tells the fault."""
        outcome = self._lone.expect("CRITICAL", self._conditions, self._within, *options)
        self.detected_t = time.time()
        self.condition = outcome.condition
        return outcome

    def stays(self, seconds: float, *options: str) -> None:
        """Until that time has passed, every run of the check is CRITICAL."""
        self._lone.stays(lambda outcome: outcome.state == "CRITICAL", seconds, *options)


def safe(text: str) -> None:
    """The output may be logged and shown in a web page: no control characters, no markup, not too long."""
    assert len(text) <= LONGEST
    first, *others = text.removesuffix("\n").split("\n")
    assert first.count("|") == 1, first
    for line in (first.partition("|")[0], *others):
        assert line.isprintable(), repr(line)
        assert not set(line) & set('|<>`\\"'), line


def memory_of(process: subprocess.Popen[bytes]) -> float:
    """The most memory that a running process has taken, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
