"""What waits for a target: the newest result of each replica, so that a target that is away costs no memory.

Each target has a thread that takes what waits and hands it over; where that fails, it keeps what is newest and tries
again later. Nobody else waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from check_delayed_repl.publish.result import Result

POLL_S = 0.1
"""How often a target's thread sees whether there is something to hand over."""
RETRY_S = (1.0, 30.0)
"""Seconds before a target that failed is tried again: at first, and at most."""
AT_ONCE = 256
"""Results that are handed over before newer ones are looked for."""
MOST_TOLD = 20


class Delivery:
    """What has become of results that were handed over."""

    def __init__(self, rest: Sequence[Result] = (), trouble: str = "") -> None:
        self.rest = list(rest)
        """Those that were not taken, and are to be sent again."""
        self.trouble = trouble
        """Why the first of them was not taken."""
        self.unwanted: dict[str, str] = {}
        """Why some are wanted by nobody, however often they are sent, by replica."""


class Target(Protocol):
    """Whoever results are handed to."""

    name: str

    def deliver(self, results: list[Result]) -> Delivery:
        """Hands results over."""


class Mailbox(threading.Thread):
    """One target's thread, and the results that wait for it."""

    def __init__(self, target: Target, log: Callable[[str], None]) -> None:
        super().__init__(name=target.name, daemon=True)
        self.errors = 0
        self.dropped = 0
        self._target = target
        self._log = log
        self._waiting: dict[str, Result] = {}
        self._lock = threading.Lock()
        self._unwanted: set[str] = set()
        """The replicas that nobody wanted results of, as far as they have been told."""
        self._ending = threading.Event()
        self._failing = False

    def put(self, result: Result) -> None:
        """A newer result of a replica takes the place of one that still waits."""
        with self._lock:
            self.dropped += self._waiting.pop(result.replica.name, None) is not None
            self._waiting[result.replica.name] = result

    def finish(self, within_s: float) -> None:
        """Tries once more to hand over what waits, and ends."""
        self._ending.set()
        self.join(within_s)

    def run(self) -> None:
        pause = 0.0
        while not self._ending.wait(pause or POLL_S) or (self._waiting and not pause):
            with self._lock:
                batch = [self._waiting.pop(name) for name in list(self._waiting)[:AT_ONCE]]
            pause = self._deliver(batch, pause) if batch else 0.0

    def _deliver(self, batch: list[Result], pause: float) -> float:
        """Returns how long to wait before the next try; 0 where all went well."""
        try:
            done = self._target.deliver(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other targets and the worker go on
            done = Delivery(batch, f"internal error, {type(error).__name__}: {error}")
        for name, reason in done.unwanted.items():
            # The first few are told, each once.
            if name not in self._unwanted and len(self._unwanted) < MOST_TOLD:
                self._unwanted.add(name)
                self._log(f"{self._target.name}: {reason}; others go on")
        with self._lock:
            newer = self._waiting
            self.dropped += len(done.unwanted) + sum(result.replica.name in newer for result in done.rest)
            self._waiting = {result.replica.name: result for result in done.rest} | newer
        if done.rest and not self._failing:
            text = f"{done.trouble}; the newest result of each replica is kept until it is back"
            self._log(f"{self._target.name}: {text}")
        elif self._failing and not done.rest:
            self._log(f"{self._target.name}: takes results again")
        self._failing = bool(done.rest)
        if not done.rest:
            return 0.0
        self.errors += 1
        return min(max(2 * pause if len(done.rest) == len(batch) else 0.0, RETRY_S[0]), RETRY_S[1])
