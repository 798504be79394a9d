"""Keeps time: which replica is to be sampled when. No dead or slow replica delays another.

A sample's deadline lies before the replica's next sample. Each sample has a thread of its own, which costs less than
a hundredth of it.
"""

from __future__ import annotations

import contextlib
import heapq
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count as counted

from check_delayed_repl.configfile import Replica
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.records import Sample
from check_delayed_repl.worker.journal import log, notify, watchdog_s
from check_delayed_repl.worker.writer import Writer

BACKOFF_FACTOR = 6
BACKOFF_MAX_S = 60.0
STOP_S = 0.7
"""How long samples on their way are waited for at the end; the history gets as much again."""

Newest = Mapping[str, "Sample | None"]
"""The newest sample of each replica that tells a delay or a source, as far as the history has one."""


class Scheduler:
    """Who is to be sampled when."""

    def __init__(self, replicas: Sequence[Replica], newest: Newest, writer: Writer, count: int | None = None) -> None:
        self._writer = writer
        self._count = count
        self._sampled = {each.name: _Sampled(each, newest.get(each.name), writer, count) for each in replicas}
        self._due: list[tuple[float, int, _Sampled]] = []
        self._order = counted()
        # Unlike a threading.Event, a signal handler may use it at any moment.
        self._incoming: queue.SimpleQueue[tuple[list[Replica], Newest] | None] = queue.SimpleQueue()
        self._stopping = False
        self._watchdog_s = watchdog_s()

    def stop(self) -> None:
        """Ends `run` soon. May be called from a signal handler."""
        self._stopping = True
        self._incoming.put(None)

    def replace(self, replicas: list[Replica], newest: Newest) -> None:
        """Other replicas from now on; `newest` of those that come. May be called from any thread."""
        self._incoming.put((replicas, newest))

    def run(self) -> int:
        """Samples until `stop`, or until every replica has been sampled often enough; returns the exit status."""
        self._writer.start()
        log(f"taking samples of {_named(self._sampled.values())}")
        notify("READY=1")
        try:
            self._keep_time()
        finally:
            notify("STOPPING=1")
        lost = self._finish()
        log(f"stopped; {lost} samples are lost, because the history could not be written" if lost else "stopped")
        return 1 if lost else 0

    def _keep_time(self) -> None:
        alive = time.monotonic()
        self._enter(self._sampled.values())
        while not self._stopping:
            now = time.monotonic()
            if self._watchdog_s and now >= alive:
                notify("WATCHDOG=1")
                alive = now + self._watchdog_s
            due = self._due
            while due and due[0][0] <= now:
                moment, _, sampled = heapq.heappop(due)
                following = None if sampled.gone else sampled.turn(moment, now)
                if following is not None:
                    heapq.heappush(due, (following, next(self._order), sampled))
            if not due and not any(sampled.busy for sampled in self._sampled.values()):
                return
            wake = due[0][0] if due else now + 0.05
            if self._watchdog_s:
                wake = min(wake, alive)
            with contextlib.suppress(queue.Empty):
                incoming = self._incoming.get(timeout=max(0.0, min(wake - time.monotonic(), 60.0)))
                if incoming is not None:
                    self._replace(*incoming)

    def _enter(self, entering: Collection[_Sampled]) -> None:
        """Spreads them over the interval, so that a thousand replicas are a steady trickle of samples."""
        start = time.monotonic()
        for place, sampled in enumerate(entering):
            moment = start + sampled.replica.interval * place / len(entering)
            heapq.heappush(self._due, (moment, next(self._order), sampled))

    def _replace(self, replicas: list[Replica], newest: Newest) -> None:
        before, self._sampled = self._sampled, {}
        entering = []
        for replica in replicas:
            sampled = before.get(replica.name)
            if sampled is not None and sampled.takes(replica):
                del before[replica.name]
            else:
                previous = newest.get(replica.name) if sampled is None else sampled.previous
                sampled = _Sampled(replica, previous, self._writer, self._count)
                entering.append(sampled)
            self._sampled[replica.name] = sampled
        for sampled in before.values():
            sampled.leave()
        self._enter(entering)
        log(f"read the configuration again: taking samples of {_named(self._sampled.values())}")

    def _finish(self) -> int:
        """Lets samples on their way end, writes what is left, says goodbye; returns how many samples are lost."""
        deadline = time.monotonic() + STOP_S
        while any(sampled.busy for sampled in self._sampled.values()) and time.monotonic() < deadline:
            # Not by sleep, which fails where a library that fakes clocks has it wake in the past.
            with contextlib.suppress(queue.Empty):
                self._incoming.get(timeout=0.01)
        lost = self._writer.finish(STOP_S if self._stopping else None)
        for sampled in self._sampled.values():
            if not sampled.busy and time.monotonic() < deadline + STOP_S:
                sampled.observer.close()
        return lost


class _Sampled:
    """One replica that is sampled: when its turn is, and what was seen last."""

    def __init__(self, replica: Replica, previous: Sample | None, writer: Writer, count: int | None) -> None:
        self.replica = replica
        self.observer = Observer(replica.target)
        self.previous = previous
        """The newest sample with a delay or a source."""
        self.busy = False
        """A sample is on its way."""
        self.gone = False
        """It is none of the replicas any more."""
        self._writer = writer
        self._left = count
        self._failures = 0
        self._failure: Sample | None = None
        self._try_again = 0.0
        self._condition: str | None = None

    def takes(self, replica: Replica) -> bool:
        """Whether it can go on as this replica: at the same place, as often as before."""
        if (replica.target, replica.interval) != (self.replica.target, self.replica.interval):
            return False
        self.replica = replica
        return True

    def leave(self) -> None:
        """It is sampled no more; a sample that is on its way closes the connection when it is done."""
        self.gone = True
        if not self.busy:
            self.observer.close()

    def turn(self, moment: float, now: float) -> float | None:
        """It was due at `moment`: takes a sample, and says when it is due again; None for never."""
        interval = self.replica.interval
        if self.busy:
            # Its deadline has passed or is about to; the sample to come is not given up for that.
            return now + min(0.05, interval / 4)
        if self._failure is not None and now < self._try_again:
            self._keep(self._failure._replace(t=time.time()))
        else:
            self.busy = True
            _in_a_thread(self._sample)
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                return None
        # After a machine's sleep, turns that were missed are not made up for.
        behind = max(0.0, now - moment)
        return moment + interval * (1 + behind // interval)

    def _sample(self) -> None:
        """One sample, in a thread of its own."""
        deadline = time.monotonic() + min(self.replica.timeout, self.replica.interval)
        try:
            sample = self.observer.sample(deadline, self.previous)
        except Exception as error:  # noqa: BLE001  one replica's surprise must not end the others' samples
            sample = Sample(t=time.time(), error="status-unreadable", message=f"internal error, {type(error).__name__}")
            with contextlib.suppress(Exception):
                self.observer.close()
        self._after(sample)
        self._keep(sample)
        self.busy = False
        if self.gone:
            self.observer.close()

    def _after(self, sample: Sample) -> None:
        """Reconnecting is delayed, more and more, where it takes time or the server counts it as an attack.

        A server that is down costs nothing to ask, and is asked every time.
        """
        if sample.delay is not None or sample.source_id is not None:
            self.previous = sample
        if sample.error not in ("connect-failed", "timeout"):
            self._failures, self._failure = 0, None
            return
        interval = self.replica.interval
        pause = min(interval * min(2 ** min(self._failures, 10), BACKOFF_FACTOR), max(BACKOFF_MAX_S, interval))
        self._failures += 1
        # A little less than a whole number of intervals, so that the turn at its end is not missed by a moment.
        self._try_again = time.monotonic() + pause - interval / 2
        self._failure = Sample(t=sample.t, error=sample.error, message=sample.message)

    def _keep(self, sample: Sample) -> None:
        if self.gone:
            return  # another may have its name by now
        if sample.error != self._condition:
            self._condition = sample.error
            log(
                f"{self.replica.name}: {sample.error}: {sample.message}"
                if sample.error
                else f"{self.replica.name}: sampled again"
            )
        self._writer.put(self.replica.name, sample)


def _in_a_thread(work: Callable[[], None]) -> None:
    try:
        threading.Thread(target=work, name="sample", daemon=True).start()
    except RuntimeError:
        # The machine has no thread left: late is better than never.
        work()


def _named(all_sampled: Collection[_Sampled]) -> str:
    names = [f"{sampled.replica.name} every {sampled.replica.interval:g} s" for sampled in all_sampled]
    return names[0] if len(names) == 1 else f"{len(names)} replicas"
