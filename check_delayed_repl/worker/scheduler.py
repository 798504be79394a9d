"""Keeps time: which replica is to be sampled when. No dead or slow replica delays another.

Each replica has a thread of its own. A sample's deadline lies before the replica's next sample.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from math import inf

from check_delayed_repl.configfile import Replica
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.records import Sample
from check_delayed_repl.worker.journal import log, notify, watchdog_s
from check_delayed_repl.worker.writer import Writer

BACKOFF_FACTOR = 6
BACKOFF_MAX_S = 60.0
STOP_S = 0.7
"""How long samples on their way are waited for at the end; the history gets as much again."""
BEAT_S = 1.0
"""How long a signal may go unheard, which the system may hand to any thread; and how often a thread is asked for where
there was none left for a replica."""

Newest = Mapping[str, "Sample | None"]
"""The newest sample of each replica that tells a delay or a source, as far as the history has one."""


class Scheduler:
    """Who is sampled."""

    def __init__(self, replicas: Sequence[Replica], newest: Newest, writer: Writer, count: int | None = None) -> None:
        self.writer = writer
        self.count = count
        self._samplers: dict[str, _Sampler] = {}
        self._first = replicas, newest
        # Unlike a threading.Event, a signal handler may use it at any moment.
        self.incoming: queue.SimpleQueue[tuple[Sequence[Replica], Newest] | None] = queue.SimpleQueue()
        self._stopping = False
        self._short = ""
        """Why some replicas have no thread; empty where all have one."""

    def stop(self) -> None:
        """Ends `run` soon. May be called from a signal handler."""
        self._stopping = True
        self.incoming.put(None)

    def replace(self, replicas: list[Replica], newest: Newest) -> None:
        """Other replicas from now on; `newest` of those that come. May be called from any thread."""
        self.incoming.put((replicas, newest))

    def run(self) -> int:
        """Samples until `stop`, or until every replica has been sampled often enough; returns the exit status."""
        self.writer.start()
        log(f"taking samples of {_named(self._first[0])}")
        self._replace(*self._first)
        notify("READY=1")
        try:
            self._wait()
        finally:
            notify("STOPPING=1")
        lost = self._finish()
        log(f"stopped; {lost} samples are lost, because the history could not be written" if lost else "stopped")
        return 1 if lost or self._short else 0

    def _wait(self) -> None:
        alive_s = watchdog_s()
        while not self._stopping and any(sampler.left for sampler in self._samplers.values()):
            if alive_s:
                notify("WATCHDOG=1")
            self._start()
            with contextlib.suppress(queue.Empty):
                incoming = self.incoming.get(timeout=min(alive_s or BEAT_S, BEAT_S))
                if incoming is not None:
                    self._replace(*incoming)
                    log(f"read the configuration again: taking samples of {_named(incoming[0])}")

    def _replace(self, replicas: Sequence[Replica], newest: Newest) -> None:
        before, self._samplers = self._samplers, {}
        entering = []
        for replica in replicas:
            sampler = before.get(replica.name)
            where = (replica.target, replica.interval)
            if sampler is not None and where == (sampler.replica.target, sampler.replica.interval):
                sampler.replica = replica
                del before[replica.name]
            else:
                previous = newest.get(replica.name) if sampler is None else sampler.previous
                sampler = _Sampler(replica, previous, self)
                entering.append(sampler)
            self._samplers[replica.name] = sampler
        for sampler in before.values():
            sampler.gone = True
            sampler.ending.set()
        start = time.monotonic()
        for place, sampler in enumerate(entering):
            # Spread over the interval, so that a thousand replicas are a steady trickle of samples.
            sampler.due = start + sampler.replica.interval * place / len(entering)

    def _start(self) -> None:
        """Starts those that have no thread yet; where the machine has none left, they are tried again."""
        short = ""
        for name, sampler in self._samplers.items():
            if sampler.thread is None and not short:
                try:
                    sampler.start()
                except RuntimeError as error:
                    short = f"{name} and perhaps others are not sampled: {error}: raise TasksMax= or ulimit -u"
        if short and not self._short:
            log(short)
        self._short = short

    def _finish(self) -> int:
        """Lets samples on their way end, writes what is left; returns how many samples are lost."""
        deadline = time.monotonic() + STOP_S
        for sampler in self._samplers.values():
            sampler.ending.set()
        for sampler in self._samplers.values():
            if sampler.thread is not None:
                sampler.thread.join(max(0.0, deadline - time.monotonic()))
        return self.writer.finish(STOP_S if self._stopping else None)


class _Sampler:
    """Samples one replica again and again, from `due` on."""

    def __init__(self, replica: Replica, previous: Sample | None, scheduler: Scheduler) -> None:
        self.replica = replica
        self.thread: threading.Thread | None = None
        self.previous = previous
        """The newest sample with a delay or a source."""
        self.left = inf if scheduler.count is None else scheduler.count
        """Samples that are still to be taken."""
        self.due = 0.0
        """When the next one is, by time.monotonic()."""
        self.ending = threading.Event()
        self.gone = False
        """It is none of the replicas any more."""
        self._scheduler = scheduler
        self._observer = Observer(replica.target)
        self._failure: Sample | None = None
        self._pause = self._try_again = 0.0
        self._condition: str | None = None

    def start(self) -> None:
        """Raises RuntimeError where the machine has no thread left."""
        # Another one for each try: from Python 3.13 on, one that could not be started never can.
        thread = threading.Thread(target=self._run, name="sample", daemon=True)
        thread.start()
        self.thread = thread

    def _run(self) -> None:
        while self.left and not self.ending.wait(max(0.0, self.due - time.monotonic())):
            # After a machine's sleep, turns that were missed are not made up for.
            behind = max(0.0, time.monotonic() - self.due)
            self.due += self.replica.interval * (1 + behind // self.replica.interval)
            if self._failure is not None and time.monotonic() < self._try_again:
                self._keep(self._failure._replace(t=time.time()))
            else:
                self._keep(self._sample())
            self.left -= 1
        self._scheduler.incoming.put(None)
        self._observer.close()

    def _sample(self) -> Sample:
        deadline = time.monotonic() + min(self.replica.timeout, self.replica.interval)
        try:
            sample = self._observer.sample(deadline, self.previous)
        except Exception as error:  # noqa: BLE001  one replica's surprise must not end its samples
            sample = Sample(t=time.time(), error="status-unreadable", message=f"internal error, {type(error).__name__}")
            with contextlib.suppress(Exception):
                self._observer.close()
        if sample.delay is not None or sample.source_id is not None:
            self.previous = sample
        self._put_off(sample)
        return sample

    def _put_off(self, sample: Sample) -> None:
        """Reconnecting is delayed, more and more, where it takes time or the server counts it as an attack.

        A server that is down costs nothing to ask, and is asked every time.
        """
        if sample.error not in ("connect-failed", "timeout"):
            self._pause, self._failure = 0.0, None
            return
        interval = self.replica.interval
        self._pause = min(max(2 * self._pause, interval), BACKOFF_FACTOR * interval, max(BACKOFF_MAX_S, interval))
        # A little less than a whole number of intervals, so that the turn at its end is not missed by a moment.
        self._try_again = time.monotonic() + self._pause - interval / 2
        self._failure = Sample(t=sample.t, error=sample.error, message=sample.message)

    def _keep(self, sample: Sample) -> None:
        if self.gone:
            return  # another may have its name by now
        if sample.error != self._condition:
            self._condition = sample.error
            told = f"{sample.error}: {sample.message}" if sample.error else "sampled again"
            log(f"{self.replica.name}: {told}")
        self._scheduler.writer.put(self.replica.name, sample)


def _named(replicas: Sequence[Replica]) -> str:
    names = [f"{replica.name} every {replica.interval:g} s" for replica in replicas]
    return names[0] if len(names) == 1 else f"{len(names)} replicas"
