"""`delayed-repl worker`: looks at replicas for ever, and keeps what it saw.

One thread keeps time, one writes the history, and looks have threads of their own: as many as are being waited for at
the moment, so that no dead or slow replica delays another. A look's deadline lies before the replica's next look.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import math
import os
import queue
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from check_delayed_repl.config import replicas
from check_delayed_repl.configfile import Replica as Watch
from check_delayed_repl.history import HistoryUnavailable, open_history
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.options import (
    INTERVAL,
    KEEP,
    UsageError,
    add_config_option,
    add_connection_options,
    add_history_option,
    add_options,
    whole,
)
from check_delayed_repl.records import Sample
from check_delayed_repl.words import clean, plural

if TYPE_CHECKING:
    from check_delayed_repl.history import History

HELP = "look at replicas again and again, and keep what was seen"

CONFIG_HELP = """\
Options on the command line count for every replica of a --config file that the file does not
tell otherwise; where it has one replica alone, they take precedence.
SIGHUP reads the file again. The worker ends on SIGTERM or SIGINT. Under systemd, Type=notify
and WatchdogSec= may be used."""

MAX_WAITING = 50_000
"""Looks kept in memory while the history cannot be written: more than five days of one replica at 10 s."""
BATCH = 2_000
GATHER_S = 0.2
"""How long looks are gathered before they are written together."""
LATE_S = 1800.0
"""A look that waited longer than this to be written is late, see Writer._keep."""
RETRY_S = (1.0, 30.0)
"""How long to wait before a history that failed is tried again: at first, and at most."""
KEEP_S = 30 * 86400.0
PRUNE_EVERY_S = 600.0
PRUNE_AT_MOST = 100_000
BACKOFF_FACTOR = 6
BACKOFF_MAX_S = 60.0
LOAD_S = 10.0
STOP_S = 0.7
"""How long looks on their way are waited for at the end; the history gets as much again."""
IDLE_S = 60.0
_STACK_BYTES = 512 * 1024
_LEAST_FILES = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_connection_options(parser)
    group = parser.add_argument_group("the worker")
    add_config_option(parser, group, "many")
    group.add_argument("--check", action="store_true", help="check the configuration file and end")
    add_history_option(group)
    add_options(group, INTERVAL, KEEP)
    group.add_argument(
        "--count", type=_count, metavar="N", help="end after N looks at each replica (default: never end)"
    )
    parser.epilog = CONFIG_HELP


def _count(text: str) -> int:
    return whole(text, 1, 10**9, "a number of looks")


def run(args: argparse.Namespace) -> int:
    """Looks until it is told to stop: 0; 1 where looks were lost because the history could not be written."""
    watches = replicas(args)
    if args.check:
        return _checked(args, watches)
    _allow_files(2 * len(watches) + _LEAST_FILES)
    threading.stack_size(_STACK_BYTES)
    writer = Writer(
        args.history, max(watch.timeout for watch in watches), args.keep or KEEP_S, [watch.name for watch in watches]
    )
    worker = Worker(watches, writer, args.count)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
    return worker.run()


def _checked(args: argparse.Namespace, watches: list[Watch]) -> int:
    """Says that the file is right: 0. What is wrong with it has been said by then."""
    if args.fleet is None:
        raise UsageError("--check: there is no configuration file")
    _ = args.fleet.publish
    print(f"{args.config}: right; {plural(len(watches), 'replica')}: {', '.join(watch.name for watch in watches)}")
    return 0


class Worker:
    """Keeps time: who is to be looked at when."""

    def __init__(self, watches: list[Watch], writer: Writer, count: int | None = None) -> None:
        self._replicas = [_Replica(watch, writer, count) for watch in watches]
        self._writer = writer
        self._pool = _Pool()
        self._stopping = _Stop()
        self._watchdog_s = _watchdog_s()

    def stop(self) -> None:
        """Ends `run` soon. May be called from a signal handler."""
        self._stopping.set()

    def run(self) -> int:
        """Looks until `stop`, or until every replica has been looked at often enough; returns the exit status."""
        self._writer.start()
        for replica, previous in zip(self._replicas, self._writer.newest_looks(self._stopping), strict=True):
            replica.previous = previous
        log(f"looking at {_named(self._replicas)}")
        notify("READY=1")
        try:
            self._keep_time()
        finally:
            notify("STOPPING=1")
        lost = self._finish()
        log(f"stopped; {lost} looks are lost, because the history could not be written" if lost else "stopped")
        return 1 if lost else 0

    def _keep_time(self) -> None:
        start = time.monotonic()
        # Spread over the interval, so that a thousand replicas are a steady trickle of looks.
        due = [
            (start + replica.watch.interval * place / len(self._replicas), place)
            for place, replica in enumerate(self._replicas)
        ]
        heapq.heapify(due)
        alive = start
        while not self._stopping:
            now = time.monotonic()
            if self._watchdog_s and now >= alive:
                notify("WATCHDOG=1")
                alive = now + self._watchdog_s
            while due and due[0][0] <= now:
                moment, place = heapq.heappop(due)
                following = self._replicas[place].turn(moment, now, self._pool)
                if following is not None:
                    heapq.heappush(due, (following, place))
            if not due and not any(replica.busy for replica in self._replicas):
                return
            wake = due[0][0] if due else now + 0.05
            if self._watchdog_s:
                wake = min(wake, alive)
            self._stopping.wait(max(0.0, min(wake - time.monotonic(), 60.0)))

    def _finish(self) -> int:
        """Lets looks on their way end, writes what is left, says goodbye; returns how many looks are lost."""
        deadline = time.monotonic() + STOP_S
        while any(replica.busy for replica in self._replicas) and time.monotonic() < deadline:
            time.sleep(0.01)
        lost = self._writer.finish(STOP_S if self._stopping else None)
        for replica in self._replicas:
            if not replica.busy and time.monotonic() < deadline + STOP_S:
                replica.observer.close()
        return lost


class _Stop:
    """True once it is set. Unlike a threading.Event, a signal handler may set it at any moment."""

    def __init__(self) -> None:
        self._set = False
        self._ear, self._mouth = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._ear, select.POLLIN)

    def __bool__(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        with contextlib.suppress(OSError):
            os.write(self._mouth, b".")

    def wait(self, timeout_s: float) -> None:
        """Waits until it is set, but not longer than that."""
        # Rounded up: a wait that ends too early would be taken up again and again.
        self._poll.poll(math.ceil(timeout_s * 1000))

    def close(self) -> None:
        os.close(self._ear)
        os.close(self._mouth)


class _Replica:
    """One replica: when its turn is, and what was seen last."""

    def __init__(self, watch: Watch, writer: Writer, count: int | None) -> None:
        self.watch = watch
        self.observer = Observer(watch.target)
        self.previous: Sample | None = None
        """The newest look with a delay or a source."""
        self.busy = False
        """A look is on its way."""
        self._writer = writer
        self._left = count
        self._failures = 0
        self._failure: Sample | None = None
        self._try_again = 0.0
        self._condition: str | None = None

    def turn(self, moment: float, now: float, pool: _Pool) -> float | None:
        """It was due at `moment`: looks, and says when it is due again; None for never."""
        interval = self.watch.interval
        if self.busy:
            # Its deadline has passed or is about to; the look to come is not given up for that.
            return now + min(0.05, interval / 4)
        if self._failure is not None and now < self._try_again:
            self._keep(self._failure._replace(t=time.time()))
        else:
            self.busy = True
            pool.submit(self._look)
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                return None
        # After a machine's sleep, turns that were missed are not made up for.
        behind = max(0.0, now - moment)
        return moment + interval * (1 + behind // interval)

    def _look(self) -> None:
        """One look, in a thread of its own."""
        deadline = time.monotonic() + min(self.watch.timeout, self.watch.interval)
        try:
            sample = self.observer.sample(deadline, self.previous)
        except Exception as error:  # noqa: BLE001  one replica's surprise must not end the others' looks
            sample = Sample(t=time.time(), error="status-unreadable", message=f"internal error, {type(error).__name__}")
            with contextlib.suppress(Exception):
                self.observer.close()
        self._after(sample)
        self._keep(sample)
        self.busy = False

    def _after(self, sample: Sample) -> None:
        """Reconnecting is delayed, more and more, where it takes time or the server counts it as an attack.

        A server that is down costs nothing to ask, and is asked every time.
        """
        if sample.delay is not None or sample.source_id is not None:
            self.previous = sample
        if sample.error not in ("connect-failed", "timeout"):
            self._failures, self._failure = 0, None
            return
        interval = self.watch.interval
        pause = min(interval * min(2 ** min(self._failures, 10), BACKOFF_FACTOR), max(BACKOFF_MAX_S, interval))
        self._failures += 1
        # A little less than a whole number of intervals, so that the turn at its end is not missed by a moment.
        self._try_again = time.monotonic() + pause - interval / 2
        self._failure = Sample(t=sample.t, error=sample.error, message=sample.message)

    def _keep(self, sample: Sample) -> None:
        if sample.error != self._condition:
            self._condition = sample.error
            log(
                f"{self.watch.name}: {sample.error}: {sample.message}"
                if sample.error
                else f"{self.watch.name}: seen again"
            )
        self._writer.put(self.watch.name, sample)


class _Pool:
    """Threads for looks: a new one where all others are busy. There is at most one look at a replica at a time."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        """Waiting threads that no work has been promised to."""

    def submit(self, work: Callable[[], None]) -> None:
        with self._lock:
            waiting = self._idle > 0
            self._idle -= waiting
        if waiting:
            self._work.put(work)
            return
        try:
            threading.Thread(target=self._run, args=(work,), name="look", daemon=True).start()
        except RuntimeError:
            # The machine has no thread left: late is better than never.
            work()

    def _run(self, work: Callable[[], None]) -> None:
        while True:
            work()
            with self._lock:
                self._idle += 1
            try:
                work = self._work.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._idle > 0:
                        self._idle -= 1
                        return
                # Work was promised to this thread in the last moment.
                work = self._work.get()


class Writer(threading.Thread):
    """Writes what was seen, many looks at a time, and remembers it while the history cannot be written."""

    def __init__(self, where: str | None, timeout: float, keep_s: float, names: list[str]) -> None:
        super().__init__(name="history", daemon=True)
        self._where = where
        self._timeout = timeout
        self._keep_s = keep_s
        self._names = names
        self._waiting: deque[tuple[str, Sample]] = deque()
        self._first = 0
        """How many looks have left the front of the queue, written or not."""
        self._lost = 0
        self._changed = threading.Condition()
        self._ending: float | None = None
        """When to give up, once told to finish."""
        self._newest: list[Sample | None] | None = None
        self._read = threading.Event()
        self._failed = False
        self._history: History | None = None
        self._prune_at = time.monotonic() + PRUNE_EVERY_S / 10

    def put(self, name: str, sample: Sample) -> None:
        """Takes a look to be written; never waits."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self._first += 1
                self._lost += 1
            self._waiting.append((name, sample))
            self._changed.notify()

    def newest_looks(self, stopping: _Stop) -> list[Sample | None]:
        """The newest look at each replica that tells a delay or a source; waits for the history, but not for long."""
        deadline = time.monotonic() + LOAD_S
        while not self._read.wait(0.05) and not stopping and time.monotonic() < deadline:
            pass
        return self._newest or [None] * len(self._names)

    def finish(self, within_s: float | None) -> int:
        """Writes what is left, in the given time (None: in that of a look); returns how many looks are lost."""
        with self._changed:
            self._ending = time.monotonic() + (self._timeout if within_s is None else within_s)
            self._changed.notify()
        self.join(max(0.0, self._ending - time.monotonic()) + 0.1)
        return len(self._waiting) + self._lost

    def run(self) -> None:
        pause = 0.0
        while self._wait(pause):
            try:
                self._write()
                pause = 0.0
            except HistoryUnavailable as error:
                pause = self._failure(str(error), pause)
            except Exception as error:  # noqa: BLE001  whatever it is, looks are kept until it can be written
                pause = self._failure(f"internal error, {type(error).__name__}: {error}", pause)
            self._read.set()
        self._forget()

    def _wait(self, pause: float) -> bool:
        """Waits until there is something to do; False where it is over."""
        with self._changed:
            if pause and self._ending is None:
                self._changed.wait_for(lambda: self._ending is not None, pause)
            elif pause:
                self._changed.wait(0.05)
            elif self._newest is not None:
                self._changed.wait_for(lambda: self._waiting or self._ending is not None, PRUNE_EVERY_S / 10)
                if self._ending is None and self._waiting:
                    self._changed.wait_for(lambda: self._ending is not None, GATHER_S)
            if self._ending is None:
                return True
            return bool(self._waiting) and time.monotonic() < self._ending

    def _write(self) -> None:
        """Writes all that waits. Raises HistoryUnavailable, and then still has all that was not written."""
        history = self._ready()
        while self._waiting:
            with self._changed:
                first = self._first
                batch = list(islice(self._waiting, BATCH))
            history.deadline = self._deadline()
            batch = self._keep(history, batch)
            with self._changed:
                # While the batch was written, the queue may have had to let go of some of it.
                self._lost -= self._first - first
                for _ in range(first + len(batch) - self._first):
                    self._waiting.popleft()
                self._first = first + len(batch)
            self._recovered()
        now = time.monotonic()
        if now >= self._prune_at and self._ending is None:
            self._prune_at = now + PRUNE_EVERY_S
            history.deadline = self._deadline()
            history.prune(self._keep_s, at_most=PRUNE_AT_MOST)

    @staticmethod
    def _keep(history: History, batch: list[tuple[str, Sample]]) -> list[tuple[str, Sample]]:
        """Stores the looks from the front of `batch` on that can be stored in one transaction; returns them.

        A shared history has its own clock, and takes a look's age for true up to a limit alone. Looks that waited for
        longer are brought in with their times, corrected by what the two clocks differ in now.
        """
        now = time.time()
        name, sample = batch[0]
        if now - sample.t <= LATE_S:
            batch = list(takewhile(lambda pair: now - pair[1].t <= LATE_S, batch))
            history.add_samples(batch)
            return batch
        batch = list(takewhile(lambda pair: pair[0] == name and now - pair[1].t > LATE_S, batch))
        ahead = history.now() - time.time()
        # Clocks that differ by next to nothing are the same clock.
        ahead = ahead if abs(ahead) > 0.01 else 0.0
        history.add_records(name, [sample._replace(t=sample.t + ahead) for _, sample in batch])
        return batch

    def _ready(self) -> History:
        """The history, open, with the newest looks read from it."""
        if self._history is None:
            self._history = open_history(self._where, self._deadline())
        if self._newest is None:
            newest: list[Sample | None] = []
            for name in self._names:
                self._history.deadline = self._deadline()
                newest.append(self._history.newest_sample(name))
            self._newest = newest
            self._recovered()
        return self._history

    def _deadline(self) -> float:
        return min(time.monotonic() + self._timeout, self._ending or float("inf"))

    def _failure(self, text: str, pause: float) -> float:
        """One line for each time that the history begins to fail; returns how long to wait before the next try."""
        if not self._failed:
            log(f"{text}; looking goes on, and looks are kept in memory until it can be written")
            self._failed = True
        self._forget()
        return min(max(2 * pause, RETRY_S[0]), RETRY_S[1])

    def _recovered(self) -> None:
        if self._failed:
            lost = f"; {self._lost} looks are lost" if self._lost else ""
            log(f"the history can be written again{lost}")
            self._failed = False

    def _forget(self) -> None:
        """Closes the history; the next write opens it again."""
        history, self._history = self._history, None
        if history is not None:
            with contextlib.suppress(Exception):
                history.close()


def log(text: str) -> None:
    """One line for one event; systemd's journal adds the time."""
    with contextlib.suppress(OSError, ValueError):
        print(f"delayed-repl: worker: {clean(text)}", file=sys.stderr, flush=True)


def notify(text: str) -> None:
    """Tells systemd, where it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    import socket

    if address[0] == "@":
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        sock.sendto(text.encode(), address)


def _watchdog_s() -> float:
    """How often systemd wants to hear from this process, halved; 0 for never."""
    try:
        wanted = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        mine = int(os.environ.get("WATCHDOG_PID", str(os.getpid()))) == os.getpid()
    except ValueError:
        return 0.0
    return wanted if mine and wanted > 0 else 0.0


def _named(replicas: Iterable[_Replica]) -> str:
    names = [f"{replica.watch.name} every {replica.watch.interval:g} s" for replica in replicas]
    return names[0] if len(names) == 1 else f"{len(names)} replicas"


def _allow_files(wanted: int) -> None:
    """Every replica takes a connection: many more than a process may open by default."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    if allowed < wanted:
        log(f"only {allowed} files may be open, {wanted} would be safe: raise LimitNOFILE= or ulimit -n")
