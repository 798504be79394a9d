"""A pytest plugin that tries mutants: tests are collected once, and each mutant runs in a process forked from there."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from types import CodeType, FrameType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from .mutants import Mutant

MEMORY = 4 << 30
"""Bytes that a trial may take: a mutant that gathers for ever is one that was noticed."""


class Trials:
    """Runs the tests as they are, then those that call a mutant's function with the mutant in its place.

    First the quick tests on every mutant; then, on those that `doubt` says may not be left at that, the other tests.
    """

    def __init__(
        self,
        mutants: Iterable[Mutant],
        slow: Collection[str],
        doubt: Callable[[Mutant], bool],
        tell: Callable[[Mutant, str | None], None],
    ) -> None:
        self.mutants = mutants
        self.slow = slow
        """Files of tests that are not quick."""
        self.doubt = doubt
        self.tell = tell
        """Is told the test that notices a mutant, or None where none does."""
        self.seconds: dict[str, float] = {}
        """Test → CPU time that it takes."""
        self.failed = ""
        """Why nothing could be tried."""

    def pytest_configure(self) -> None:
        from hypothesis import HealthCheck, Phase, settings

        # The same examples every time, and no time spent on making a failing one smaller.
        settings.register_profile(
            "mutation",
            derandomize=True,
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            self.failed = "tests cannot be collected"
            raise session.Failed(self.failed)
        quick = [item for item in session.items if item.path.name not in self.slow]
        left = [mutant for mutant in self._survivors(quick, self.mutants) if self.doubt(mutant)]
        if left:
            for _ in self._survivors([item for item in session.items if item not in quick], left):
                pass
        return True

    def _survivors(self, items: Sequence[pytest.Item], mutants: Iterable[Mutant]) -> Iterator[Mutant]:
        """The mutants that none of the tests notices."""
        called = {item: set(self._called(item)) for item in items}
        callers: dict[CodeType, list[pytest.Item]] = {}
        # Those that call least first: they are likely to be about the function.
        for item in sorted(items, key=lambda item: (len(called[item]), self.seconds[item.nodeid])):
            for code in called[item]:
                callers.setdefault(code, []).append(item)
        gc.collect()
        gc.freeze()  # so that a trial need not copy the memory of all that was collected
        for mutant in mutants:
            tests = callers.get(mutant.target().__code__, [])
            killer = self._try(mutant, tests)
            self.tell(mutant, killer.nodeid if killer else None)
            if killer is None:
                yield mutant
            else:
                # What noticed one change to a function is likely to notice the next.
                tests.insert(0, tests.pop(tests.index(killer)))

    def _called(self, item: pytest.Item) -> Iterator[CodeType]:
        """The judge's functions that a test calls; it is run as it is for that, and timed."""
        called: set[CodeType] = set()

        def see(frame: FrameType, event: str, _: Any) -> None:
            if event == "call":
                called.add(frame.f_code)

        sys.setprofile(see)
        begin = time.process_time()
        passed = _passes(item)
        self.seconds[item.nodeid] = time.process_time() - begin
        sys.setprofile(None)
        if not passed:
            self.failed = f"{item.nodeid} fails without any mutant"
            raise item.session.Failed(self.failed)
        for code in called:
            if f"{os.sep}judge{os.sep}" in code.co_filename:
                yield code

    def _try(self, mutant: Mutant, tests: list[pytest.Item]) -> pytest.Item | None:
        """The test that notices the mutant."""
        reading, writing = os.pipe()
        with warnings.catch_warnings(action="ignore"):
            child = os.fork()
        if not child:
            os.close(reading)
            self._run_with(mutant, tests, writing)
        os.close(writing)
        with open(reading, "rb") as pipe:
            *_, last = b"", *pipe.read().split()
        _, status = os.waitpid(child, 0)
        return None if status == 0 else tests[int(last)]

    def _run_with(self, mutant: Mutant, tests: list[pytest.Item], telling: int) -> None:
        """In a process of its own, which this ends: status 0 where no test notices the mutant."""
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        gc.disable()
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        mutant.take_over()
        for i, item in enumerate(tests):
            os.write(telling, b" %d" % i)
            # A mutant that never ends is one that was noticed. CPU time: the machine may be busy.
            signal.setitimer(signal.ITIMER_PROF, 2.0 + 5.0 * self.seconds[item.nodeid])
            try:
                passed = _passes(item)
            except BaseException:  # noqa: BLE001 - whatever it is, it was noticed
                passed = False
            if not passed:
                os._exit(1)
        os._exit(0)


def _passes(item: pytest.Item) -> bool:
    return all(not report.failed for report in runtestprotocol(item, log=False, nextitem=None))
