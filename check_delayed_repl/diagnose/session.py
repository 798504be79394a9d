"""Takes samples of a replica and reads its history, for as long as a person watches.

What it sees is kept nowhere; only the judge's cache of what the history has may be.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from check_delayed_repl import words
from check_delayed_repl.diagnose.picture import Diagnosis, picture
from check_delayed_repl.diagnose.server import Server, ask_server
from check_delayed_repl.given import call_from
from check_delayed_repl.history import History, HistoryUnavailable, can_be_made, is_there, open_history
from check_delayed_repl.history.folding import folded
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.options import limits_from, replica_name, target_from
from check_delayed_repl.records import Record, Sample

if TYPE_CHECKING:
    from check_delayed_repl.observe.sample import Observer

UNREACHED = ("connect-failed", "timeout", "server-down")
"""Samples that failed before the server could say anything."""
SEVERAL = 5
"""Names of replicas that are listed where the one that was asked for is not known."""


class Session:
    """One replica, under one set of limits. For one thread at a time, but that `each` needs no turn."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Raises UsageError."""
        self.limits = limits_from(args)
        self.replica = replica_name(args)
        self.worker: bool = args.sampling == "worker"
        """Somebody else takes the samples: none is taken here, and theirs must not be too old."""
        self.fold = Fold(self.limits)
        self.samples: list[Sample] = []
        self.own: list[float] = []
        """When this session took samples."""
        self.trouble: str | None = None
        """Why the history cannot be read."""
        self._args = args
        self._span: float = max(args.since or 0.0, self.limits.window)
        """Seconds of history that are drawn, or fitted."""
        self._target = target_from(args)
        self._call = call_from(args)
        self._history: History | None = None
        self._arrival = 0
        self._waiting: set[Record] = set()
        """Job lines that no sample has followed yet: they come without a number, at every reading again."""
        self._others_t: float | None = None
        """When somebody else last took a sample."""
        self._previous: Sample | None = None
        self._observer: Observer | None = None
        self._server: Server | None = None
        self._known: list[str] = []

    # --- the history

    def __enter__(self) -> Self:
        """Reads what the history has; what keeps it from being read becomes a finding."""
        with self._reading():
            if is_there(self._args.history) or not can_be_made(self._args.history):  # which is told
                history = self._history = open_history(self._args.history, self._until())
                self.fold, self._arrival = folded(history, self.replica, self.limits)
                history.deadline = self._until()
                self.samples = history.window(self.replica, history.now() - self._span, self._arrival)
                self._previous = history.newest_sample(self.replica)
                self._others_t = history.newest_sample_t(self.replica)
                if self._others_t is None:
                    self._known = history.replicas()
        return self

    def __exit__(self, *_: object) -> None:
        if self._observer is not None:
            self._observer.close()
        if self._history is not None:
            self._history.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Gives the history time. One that cannot be read is let go of."""
        try:
            if self._history is not None:
                self._history.deadline = self._until()
            yield
        except HistoryUnavailable as error:
            self.trouble = str(error)
            if self._history is not None:
                self._history.close()
                self._history = None

    @property
    def sampled(self) -> bool:
        return self._others_t is not None

    def _refresh(self) -> None:
        """Reads what has arrived in the history since."""
        with self._reading():
            for number, record in self._history.records(self.replica, self._arrival) if self._history else ():
                if number:
                    self._arrival = number
                elif record in self._waiting:
                    continue
                else:
                    self._waiting.add(record)  # a job line that takes effect with the next sample, which may be ours
                self.fold.add(record, number or None)
                if isinstance(record, Sample):
                    self.samples.append(record)
                    self._others_t = max(record.t, self._others_t or record.t)

    # --- sampling

    def each(self, interval: float) -> Iterator[Sample | None]:
        """A sample each interval, None where a worker takes them. One that takes too long is not made up for."""
        start = time.monotonic()
        while True:
            yield None if self.worker else self._sample()
            turns = int((time.monotonic() - start) / interval) + 1
            time.sleep(max(0.0, start + turns * interval - time.monotonic()))

    def _sample(self) -> Sample:
        """One sample. It changes nothing that is shown, so another thread may wait for it."""
        if self._observer is None:
            from check_delayed_repl.observe.sample import Observer

            self._observer = Observer(self._target)
        sample = self._observer.sample(self._until(), self._previous)
        if sample.error not in UNREACHED and (self._server is None or sample.sql == "No"):
            # Where a stopped SQL thread stands is asked for with every sample: it may have run in between.
            before = self._server and self._server._replace(place=None)
            self._server = ask_server(self._target, self._until()) or before
        return sample

    def take(self, sample: Sample | None) -> None:
        """A sample that this session took at this very moment, if any, and what has arrived in the history since."""
        self._refresh()
        if sample is None:
            return
        sample = sample._replace(t=self.now() - max(0.0, time.time() - sample.t))
        self.own.append(sample.t)
        self.fold.add(sample)
        self.samples.append(sample)
        if sample.delay is not None or sample.source_id is not None:
            self._previous = sample

    def now(self) -> float:
        """By the history's clock, where there is one."""
        with self._reading():
            if self._history is not None:
                return self._history.now()
        return time.time()

    def _until(self) -> float:
        return time.monotonic() + float(self._args.timeout)

    # --- showing

    def picture(self) -> Diagnosis:
        """What there is to be seen now."""
        now, drawn = self.now(), self._args.since
        self.samples = [s for s in self.samples if s.t >= now - self._span]
        since = now - (drawn or self.limits.window)
        if drawn is None:
            # A line that has only just begun to be watched need not be drawn in a corner.
            since = min(max(since, min((s.t for s in self.samples), default=since)), now - 10.0)
        more = [] if self.trouble is None else [Finding(State.CRITICAL, "history-unavailable", self.trouble)]
        about = (now, self.replica, self.samples, since, more, self._server, self._call)
        return picture(self.fold, *about, [*self._based_on(now), *self._args.notes])

    def _based_on(self, now: float) -> Iterator[str]:
        if self._others_t is not None:
            since = now - self.limits.window
            taken = "" if self.worker else f", {sum(t >= since for t in self.own)} of them taken just now"
            count = words.plural(sum(s.t >= since for s in self.samples), "sample")
            age = words.span(max(0.0, now - self._others_t))
            window = words.span(self.limits.window)
            yield f"Based on {count} of the last {window}{taken}; the newest in the history is {age} old."
        elif self.own:
            taken = words.plural(len(self.own), "sample")
            yield f"Based on {taken} alone: jobs, earlier settings and since when the logs stand still are not known."
        if self._known:
            names = ", ".join(words.shown(name) for name in self._known[:SEVERAL])
            rest = "" if len(self._known) <= SEVERAL else f" and {len(self._known) - SEVERAL} more"
            yield f"The history has nothing of {words.shown(self.replica)}. It knows: {names}{rest} (--replica)."
        elif self._others_t is None and (self._args.history or self.worker) and self.trouble is None:
            yield "There is no history there, or nothing in it (--history)."
        if self._args.config:
            yield f"Options are from {self._args.config}."
