"""Faults, caused for real and watched: detected, how soon, and back to OK by itself.

A test takes `watched` (see conftest.py): a healthy pair with a worker that takes a sample of it every second, and the
check seen OK. It causes a fault, looks closer, and mends it; the rest is done here::

    @on("mariadb", "mysql")
    @essential
    def test_duplicate_key(watched: Watched) -> None:
        with watched.fault("1.1", "SQL thread: duplicate key", "sql-error", within=16) as it:
            ...  # cause it
            outcome = it.detected()
            ...  # look closer, at `outcome` or with `watched`
            it.mending()
            ...  # mend it
        with watched.twin("1.1", "another row is written"):
            ...

Nobody touches the worker or the history meanwhile: leaving the block waits until the check says OK again. What was
seen in every sample is then read from the recording, and a row goes to the table of faults (fault_table.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from . import fault_table
from .checking import Commands, Moment, Outcome, Scene, story, until
from .servers import Family, Pair, wait_until

BUSY_S = 60.0
"""How much later than `within` the check may say so on a busy machine, where the worker takes fewer samples than one a
second; as few of them must do as there are seconds in `within`."""
SETTLED = 3
"""How many samples in a row must be OK before a fault counts as mended."""

on = pytest.mark.on
"""``@on("mariadb", "mysql56")``: the test runs on these families alone."""
essential = pytest.mark.essential
"""The test belongs to the plain run, on one MySQL and one MariaDB; ``@essential("mysql")``: on that one alone."""


class Fault:
    """One fault while it is there: when it was caused, seen and mended, on the samples' clock."""

    def __init__(
        self,
        scene: Commands,
        conditions: str | tuple[str, ...],
        within: float,
        state: str = "CRITICAL",
        options: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        self.scene = scene
        self.state = state
        self.conditions = (conditions,) if isinstance(conditions, str) else conditions
        self.within = within
        self.options = tuple(options)
        self.name = name
        self.cause_t = 0.0
        self.told_t: float | None = None
        """When the check was first seen to say so, and what."""
        self.told = ""
        self.looked_t = 0.0
        """When it was last seen to say so."""
        self.mending_t: float | None = None

    def caused(self) -> None:
        """The cause is now, and not only where the check is first asked."""
        self.cause_t = time.time()

    def mending(self) -> None:
        """From now on the check may say OK: call it before the first mending step where that takes its time."""
        self.mending_t = time.time()

    def detected(self) -> Outcome:
        """Run the check until it says so. What comes before is the cause."""
        self.cause_t = self.cause_t or time.time()
        outcome = self.scene.expect(self.state, self.conditions, self.within, *self.options, name=self.name)
        self.looked_t = time.time()
        self.told_t = self.told_t or self.looked_t
        self.told = self.told or outcome.condition
        return outcome

    def stays(self, seconds: float) -> None:
        """Until that time has passed, every run of the check has the fault's state."""
        self.scene.stays(seconds, self.state, *self.options)

    def says(self, outcome: Outcome) -> bool:
        return outcome.state == self.state and outcome.condition in self.conditions

    def wait_for(self, accepted: Callable[[Outcome], bool], within_s: float, what: str) -> Outcome:
        """Run the check until its outcome is accepted; raises NotInTime with what it said instead."""
        return until(lambda: self.scene.judged(*self.options, name=self.name), accepted, within_s, what)


class Watched(Scene):
    """A scene whose worker runs, ready for faults."""

    @property
    def family(self) -> Family:
        return self.pair.family

    @property
    def version(self) -> str:
        """The replica's, such as 10.11.6."""
        return ".".join(map(str, self.replica.version))

    @contextmanager
    def fault(
        self,
        number: str,
        title: str,
        condition: str | tuple[str, ...],
        *,
        within: float,
        state: str = "CRITICAL",
        options: Sequence[str] = (),
        back: float = 40,
        through: float = 0,
        name: str | None = None,
    ) -> Iterator[Fault]:
        """What stands in the block causes a fault, sees it detected (`Fault.detected`) and mends it.

        `within` seconds after the cause a sample must tell it: the delay that the limits ask for, and one more. From
        then on until it is mended no sample may be OK; `back` seconds later the check must be OK again. What the fault
        has left in the delay line is passed `through` seconds after mending: OK before does not count.
        """
        it = Fault(self, condition, within, state, options, name)
        yield it
        mended = time.time()
        assert it.told_t is not None, "the test has not asked whether the fault is detected"

        def recovered(outcome: Outcome) -> bool:
            if time.time() < mended + through or outcome.what != ("OK", "in-range"):
                return False
            last = self.replay(*options, name=name)[-SETTLED:]
            return all(moment.state == "OK" and moment.t > mended for moment in last)

        it.wait_for(recovered, back, "OK again")
        moments = self.replay(*options, name=name)
        first, samples = detection(it, moments, mended)
        late = f"detected after {first - it.cause_t:.1f} s, by the {samples}th sample\n{story(moments)}"
        assert first - it.cause_t <= within + BUSY_S, late
        assert samples <= within + 2, late
        assert_never_ok(it, moments, first, mended)
        back_s = recovery(moments, it.mending_t or mended, mended)
        assert back_s <= back + BUSY_S, f"OK again {back_s:.1f} s after mending\n{story(moments)}"
        seen = next((m.condition for m in moments if m.t == first), it.conditions[0])
        fault_table.write(
            fault_table.Row(number, title, self.family, self.version, state, seen, first - it.cause_t, samples, back_s)
        )

    @contextmanager
    def twin(
        self,
        number: str,
        title: str,
        *,
        state: str | tuple[str, ...] = "OK",
        options: Sequence[str] = (),
        name: str | None = None,
        watch: float = 3,
    ) -> Iterator[None]:
        """What stands in the block is the situation without the fault: no sample in it, or in the `watch` seconds after
        it, is anything but `state`. What passes the delay line first needs a `watch` that is longer than the line.
        """
        states = (state,) if isinstance(state, str) else state
        begun = time.time()
        yield
        end = time.time() + watch

        def watched() -> list[Moment] | None:
            moments = self.replay(*options, name=name)
            return moments if moments and moments[-1].t >= end else None

        wait_until(watched, watch + 10, "the worker goes on taking samples", interval_s=0.5)
        outcome = self.judged(*options, name=name)
        moments = [moment for moment in self.replay(*options, name=name) if moment.t > begun]
        seen = {moment.state for moment in moments} | {outcome.state}
        assert seen <= set(states), f"{outcome.text}\n{story(moments)}"
        fault_table.write(
            fault_table.Row(number, title, self.family, self.version, ", ".join(sorted(seen)), "", twin=True)
        )


@contextmanager
def watching(pair: Pair, folder: Path, title: str, *options: str) -> Iterator[Watched]:
    watched = Watched(pair, folder, title)
    with watched.worker(options=options):
        watched.expect("OK", "in-range", 60)
        yield watched


Watching = Callable[..., AbstractContextManager[Watched]]
"""`watching` of a test's own folder and title: for a pair, with further options of the worker."""


def detection(it: Fault, moments: Sequence[Moment], mended: float) -> tuple[float, int]:
    """The first moment after the cause that told the fault, and how many samples that took.

    What only the check can see (that the worker is gone, say) is in no recording: then it is when the check told it.
    """
    after = [moment for moment in moments if it.cause_t < moment.t <= mended]
    for number, moment in enumerate(after, 1):
        if moment.state == it.state and moment.condition in it.conditions:
            return moment.t, number
    assert it.told_t is not None
    return it.told_t, 1


def assert_never_ok(it: Fault, moments: Sequence[Moment], first: float, mended: float) -> None:
    """From the first sample that told the fault until it was being mended, no sample was OK.

    Where the test does not say when it began to mend, the samples at the end of the block may be OK, if they follow the
    last run of the check in it.
    """
    during = [moment for moment in moments if first < moment.t < (it.mending_t or mended)]
    if it.mending_t is None:
        while during and during[-1].state == "OK" and during[-1].t > it.looked_t:
            during.pop()
    assert not any(moment.state == "OK" for moment in during), f"OK while the fault was there\n{story(during)}"


def recovery(moments: Sequence[Moment], mending: float, mended: float) -> float:
    """Seconds from mending to the sample from which on all are OK; 0 where that came before the end of mending."""
    later = [moment for moment in moments if moment.t > mending]
    for number, moment in enumerate(later):
        if all(following.state == "OK" for following in later[number:]):
            return max(0.0, moment.t - mended)
    raise AssertionError(f"the last sample after mending is not OK\n{story(later)}")
