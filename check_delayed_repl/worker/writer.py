"""Writes samples to the history, many at a time, and keeps them while it cannot be written."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from check_delayed_repl.history import History, HistoryUnavailable, open_history
from check_delayed_repl.history.pruning import prune_meanwhile
from check_delayed_repl.records import Sample
from check_delayed_repl.worker.journal import log

if TYPE_CHECKING:
    from check_delayed_repl.publish.publisher import Publisher

MAX_WAITING = 50_000
"""Samples kept in memory while the history cannot be written: more than five days of one replica at 10 s."""
BATCH = 2_000
GATHER_S = 0.2
"""How long samples are gathered before they are written together."""
RETRY_S = (1.0, 30.0)
"""How long to wait before a history that failed is tried again: at first, and at most."""
PRUNE_EVERY_S = 600.0
PRUNE_AT_MOST = 100_000


class Writer(threading.Thread):
    """Writes what was seen, many samples at a time, and remembers it while the history cannot be written."""

    def __init__(self, where: str | None, timeout: float, keep_s: float, publisher: Publisher | None = None) -> None:
        super().__init__(name="history", daemon=True)
        self._where = where
        self._timeout = timeout
        self._keep_s = keep_s
        self._publisher = publisher
        self._waiting: deque[tuple[str, Sample]] = deque()
        self._lost = 0
        self._ending = threading.Event()
        self._until = inf
        """When to give up, once told to finish."""
        self._failed = False
        self._refused = ""
        """Why nothing can be pruned."""
        self._history: History | None = None
        self._prune_at = time.monotonic() + PRUNE_EVERY_S / 10

    def put(self, name: str, sample: Sample) -> None:
        """Takes a sample to be written; never waits."""
        self._waiting.append((name, sample))

    def finish(self, within_s: float | None) -> int:
        """Writes what is left, in the given time (None: in that of a sample); returns how many samples are lost."""
        self._until = time.monotonic() + (self._timeout if within_s is None else within_s)
        self._ending.set()
        self.join(max(0.0, self._until - time.monotonic()) + 0.1)
        return len(self._waiting) + self._lost

    def run(self) -> None:
        pause = GATHER_S
        while not self._ending.wait(pause) or (self._waiting and time.monotonic() < self._until):
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self._lost += 1
            try:
                self._write()
                pause = GATHER_S
            except Exception as error:  # noqa: BLE001  whatever it is, samples are kept until it can be written
                known = isinstance(error, HistoryUnavailable)
                self._fail(str(error) if known else f"internal error, {type(error).__name__}: {error}")
                pause = min(max(2 * pause, RETRY_S[0]), RETRY_S[1])
                if self._ending.is_set():
                    # Not by sleep, which fails where a library that fakes clocks has it wake in the past.
                    threading.Event().wait(0.05)
        self._forget()

    def _write(self) -> None:
        """Writes all that waits. Raises HistoryUnavailable, and then still has all that was not written."""
        if self._history is None:
            self._history = open_history(self._where, self._deadline())
            for warning in self._history.warnings:
                log(f"warning: {warning}")
        history = self._history
        while self._waiting:
            batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]
            history.deadline = self._deadline()
            history.add_samples(batch)
            for _ in batch:
                self._waiting.popleft()
            if self._failed:
                log("the history can be written again" + (f"; {self._lost} samples are lost" if self._lost else ""))
                self._failed = False
            if self._publisher is not None:
                self._publisher.stored()
        now = time.monotonic()
        if now >= self._prune_at and not self._ending.is_set():
            self._prune_at = now + PRUNE_EVERY_S
            history.deadline = self._deadline()
            refused = prune_meanwhile(history, self._keep_s, PRUNE_AT_MOST)
            if refused and refused != self._refused:
                log(refused)
            self._refused = refused

    def _deadline(self) -> float:
        return min(time.monotonic() + self._timeout, self._until)

    def _fail(self, text: str) -> None:
        """One line for each time that the history begins to fail."""
        if not self._failed:
            log(f"{text}; sampling goes on, and samples are kept in memory until it can be written")
            self._failed = True
        if self._publisher is not None:
            self._publisher.stored(text)
        self._forget()

    def _forget(self) -> None:
        """Closes the history; the next write opens it again."""
        history, self._history = self._history, None
        if history is not None:
            with contextlib.suppress(Exception):
                history.close()
