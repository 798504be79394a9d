"""Faults that no server need be broken for: a made-up replica, a real worker that looks at it, and the real check.

What befalls the worker, its history, or the way to the replica is caused for real. Nobody mends more than the fault:
the worker is not restarted, unless its death is the fault.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from listeners import PASSWORD

from check_delayed_repl.history import open_history
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.limits import Limits
from check_delayed_repl.observe.target import Target
from check_delayed_repl.records import Sample

from . import matrix
from .checking import FINDING, ROOT, Found, Moment, limits_of
from .fault_table import ANY
from .servers import NotInTime, wait_until

NAME = "db7"
INTERVAL_S = 0.5
"""From one look of the worker to the next."""
LAST_SEEN_S = 3.0
TIMEOUT_S = 2.0
"""The check's and the worker's --timeout."""
START_S = 3.0
"""What a process may take to start and to end on a busy machine, beside its --timeout and a second."""
MEMORY_MIB = 60.0
"""What a check may take, whoever answers it."""
LONGEST = 8000
"""Characters of output, whatever a peer says."""

SMALL = (
    *("--min-delay-time", "1", "--max-delay-time", "20", "--max-seconds-behind", "5", "--window", "10"),
    *("--max-last-seen", str(LAST_SEEN_S)),
)
"""Limits for a made-up replica, which is five seconds late."""

_MEASURED = """
import os, sys, time
began = time.monotonic()
from check_delayed_repl.plugin import run
status = run(sys.argv[1:])
took = time.monotonic() - began
with open("/proc/self/status") as file:
    peak = next(line for line in file if line.startswith("VmHWM")).split()[1]
print(took, int(peak) / 1024, file=sys.stderr, flush=True)
os._exit(status)
"""


class Outcome(NamedTuple):
    """One run of the check."""

    state: str
    findings: list[Found]
    """Worst first."""
    text: str
    seconds: float
    """By its own clock, where it could tell."""
    memory: float
    """The most that it took, in MiB; 0 where it could not tell."""

    @property
    def what(self) -> tuple[str, str]:
        return self.state, self.findings[0].condition

    @property
    def message(self) -> str:
        return self.findings[0].message


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
        file = self.folder / "client.cnf"
        file.write_text(f"[client]\nuser=monitor\npassword={PASSWORD}\n")
        file.chmod(0o600)
        target = self.target
        place = ["-S", target.socket] if target.socket else ["-H", str(target.host), "-P", str(target.port)]
        return ["--defaults-file", str(file), *place, "--replica", NAME]

    # The check

    def inline(self, *options: str) -> Outcome:
        """A check that looks itself."""
        return self._check(*self._reaching(), *options)

    def judged(self, *options: str) -> Outcome:
        """A check that judges what the worker saw."""
        return self._check("--sampling", "worker", "--replica", NAME, *options)

    def _check(self, *options: str) -> Outcome:
        return checked(
            "--history",
            self.where,
            "--timeout",
            str(TIMEOUT_S),
            *SMALL,
            *options,
            timeout=TIMEOUT_S,
            prefix=self.prefix,
        )

    def expect(self, state: str, condition: str | tuple[str, ...], within_s: float, *options: str) -> Outcome:
        """Runs the worker-sampled check until it says so."""
        conditions = (condition,) if isinstance(condition, str) else condition
        said: list[tuple[str, str]] = []

        def looks() -> Outcome | None:
            outcome = self.judged(*options)
            if not said or said[-1] != outcome.what:
                said.append(outcome.what)
            return outcome if outcome.state == state and outcome.what[1] in conditions else None

        try:
            return wait_until(looks, within_s, f"{state} {' or '.join(conditions)}", interval_s=0.1)
        except NotInTime as error:
            raise NotInTime(f"{error}; the check said {said}; the worker said {self.said()}") from None

    # The worker

    @contextmanager
    def worker(
        self, *options: str, log: str = "worker.log", ends: int = 0, **environment: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker. In the end it is asked to end, and does so at once, with status `ends`, unless it is dead."""
        with (self.folder / log).open("ab") as stream:
            process = subprocess.Popen(
                [
                    *(*self.prefix, sys.executable, "-m", "check_delayed_repl.tool", "worker"),
                    *("--history", self.worker_where, "--interval", str(INTERVAL_S), "--timeout", str(TIMEOUT_S)),
                    *(options or self._reaching()),
                ],
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                stdout=stream,
                stderr=stream,
            )
        try:
            yield process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == ends, self.said(log)
            else:
                assert process.returncode == -signal.SIGKILL, self.said(log)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            said = self.said(log)
            assert "Traceback" not in said, said
            assert PASSWORD not in said

    def said(self, log: str = "worker.log") -> str:
        """What the worker printed."""
        return (self.folder / log).read_text(errors="replace") if (self.folder / log).exists() else ""

    # What was seen

    def samples(self, name: str = NAME) -> list[Sample]:
        """All looks in the history."""
        history = open_history(self.where, time.monotonic() + 10)
        try:
            return [record for _, record in history.records(name) if isinstance(record, Sample)]
        finally:
            history.close()

    def complete(self, begin: float) -> None:
        """No look is missing since `begin`, once the worker has written what it kept in memory."""
        end = time.time()
        wait_until(lambda: self.samples()[-1].t > end, 40, "the worker writes again")
        looks = [sample.t for sample in self.samples() if sample.t >= begin]
        gap = max(later - earlier for earlier, later in pairwise([begin, *looks]))
        assert gap <= 6 * INTERVAL_S, f"nothing for {gap:.1f} s: {self.said()}"

    def moments(self, name: str = NAME) -> list[Moment]:
        """The verdict at every look."""
        fold = Fold(small_limits())
        moments = []
        for sample in self.samples(name):
            fold.add(sample)
            verdict = fold.verdict(sample.t, worker=True)
            findings = tuple(f"{finding.state.name} {finding.condition}" for finding in verdict.findings)
            moments.append(Moment(sample.t, verdict.state.name, verdict.condition, findings, sample))
        return moments

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
            looks=max(1, round(seconds / INTERVAL_S)),
            back_s=time.time() - mended,
            twin=twin,
            family=self.family,
            version=self.version,
        )

    def stays_ok(self, seconds: float, *options: str) -> None:
        """No run of the check in that time says anything but OK."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            outcome = self.judged(*options)
            assert outcome.what == ("OK", "in-range"), f"{outcome.text}\n{self.said()}"
            time.sleep(0.1)


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
        self.condition = outcome.what[1]
        return outcome

    def stays(self, seconds: float, *options: str) -> None:
        """Until that time has passed, every run of the check is CRITICAL."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            outcome = self._lone.judged(*options)
            assert outcome.state == "CRITICAL", outcome.text
            time.sleep(0.1)


def small_limits() -> Limits:
    return limits_of(SMALL)


def checked(*options: str, timeout: float, prefix: Sequence[str] = ()) -> Outcome:
    """Runs the check as a process: it ends in time, takes little memory, and what it prints is safe."""
    began = time.monotonic()
    done = subprocess.run(
        [*prefix, sys.executable, "-c", _MEASURED, *options],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        timeout=timeout + 60,
        check=False,
    )
    seconds = time.monotonic() - began
    said = done.stderr.decode().split()
    own, memory = (float(said[0]), float(said[1])) if len(said) == 2 else (seconds, 0.0)
    assert len(said) in (0, 2), done.stderr.decode()
    assert own <= timeout + 1 + (0 if said else START_S), f"the check took {own:.1f} s"
    assert seconds <= timeout + 1 + START_S, f"the process took {seconds:.1f} s"
    assert memory <= MEMORY_MIB, f"the check took {memory:.0f} MiB"
    text = done.stdout.decode()
    safe(text)
    state = text.split()[1]
    assert done.returncode == ["OK", "WARNING", "CRITICAL", "UNKNOWN"].index(state), text
    findings = [Found(*match.groups()) for line in text.splitlines()[1:] if (match := FINDING.fullmatch(line))]
    assert findings, text
    return Outcome(state, findings, text, own, memory)


def safe(text: str) -> None:
    """The output may be logged and shown in a web page: no control characters, no markup, no password, not too long."""
    assert len(text) <= LONGEST
    assert PASSWORD not in text
    assert "Traceback" not in text
    first, *others = text.removesuffix("\n").split("\n")
    assert first.count("|") == 1, first
    for line in (first.partition("|")[0], *others):
        assert line.isprintable(), repr(line)
        assert not set(line) & set('|<>`\\"'), line


def memory_of(process: subprocess.Popen[bytes]) -> float:
    """The most memory that a running process has taken, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
