"""What waits for a target: the newest result of each replica, so that a target that is away costs no memory.

Each target has a thread that takes what waits and hands it over; where that fails, it keeps what is newest and tries
again later. Nobody else waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from check_delayed_repl.publish.result import Result

RETRY_S = (1.0, 30.0)
"""Seconds before a target that failed is tried again: at first, and at most."""
AT_ONCE = 256
"""Results that are handed over before newer ones are looked for."""
MOST_TOLD = 20


class NotDelivered(Exception):
    """The target is away, or does not take all. `rest` are the results that it did not take, to be tried again."""

    def __init__(self, message: str, rest: Iterable[Result], unwanted: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.rest = list(rest)
        self.unwanted = unwanted or {}
        """As of `deliver`."""


class Target(Protocol):
    """Whoever results are handed to."""

    name: str

    def deliver(self, results: list[Result]) -> dict[str, str]:
        """Hands results over; returns why some are wanted by nobody, by replica. Raises NotDelivered."""

    def close(self) -> None:
        """Lets go of what is open."""


class Mailbox(threading.Thread):
    """One target's thread, and the results that wait for it."""

    def __init__(self, target: Target, log: Callable[[str], None]) -> None:
        super().__init__(name=target.name, daemon=True)
        self.errors = 0
        self.dropped = 0
        self._target = target
        self._log = log
        self._waiting: dict[str, Result] = {}
        self._changed = threading.Condition()
        self._unwanted: set[str] = set()
        """The replicas that nobody wanted results of, as far as they have been told."""
        self._ending = False
        self._failing = False

    def put(self, result: Result) -> None:
        """A newer result of a replica takes the place of one that still waits."""
        with self._changed:
            self.dropped += self._waiting.pop(result.replica.name, None) is not None
            self._waiting[result.replica.name] = result
            self._changed.notify()

    def finish(self, within_s: float) -> None:
        """Tries once more to hand over what waits, and ends."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self.join(within_s)

    def run(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                if pause:
                    self._changed.wait_for(lambda: self._ending, pause)
                else:
                    self._changed.wait_for(lambda: self._waiting or self._ending)
                if self._ending and (pause or not self._waiting):
                    break
                names = list(self._waiting)[:AT_ONCE]
                batch = [self._waiting.pop(name) for name in names]
            pause = self._deliver(batch, pause)
        self._target.close()

    def _deliver(self, batch: list[Result], pause: float) -> float:
        """Returns how long to wait before the next try; 0 where all went well."""
        try:
            self._drop(self._target.deliver(batch))
        except NotDelivered as error:
            self._drop(error.unwanted)
            self._keep(error.rest)
            return self._failed(str(error), pause if len(error.rest) == len(batch) else 0.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other targets and the worker go on
            self._keep(batch)
            return self._failed(f"internal error, {type(error).__name__}: {error}", pause)
        if self._failing:
            self._failing = False
            self._log(f"{self._target.name}: takes results again")
        return 0.0

    def _drop(self, unwanted: Mapping[str, str]) -> None:
        """Counts what nobody wanted; tells the first few, each once."""
        self.dropped += len(unwanted)
        for name, reason in unwanted.items():
            if name not in self._unwanted and len(self._unwanted) < MOST_TOLD:
                self._unwanted.add(name)
                self._log(f"{self._target.name}: {reason}; others go on")

    def _keep(self, results: list[Result]) -> None:
        """Puts back what was not taken, unless a newer result of the same replica has come."""
        with self._changed:
            newer = self._waiting
            self.dropped += sum(result.replica.name in newer for result in results)
            self._waiting = {result.replica.name: result for result in results} | newer

    def _failed(self, text: str, pause: float) -> float:
        self.errors += 1
        if not self._failing:
            self._failing = True
            self._log(f"{self._target.name}: {text}; the newest result of each replica is kept until it is back")
        return min(max(2 * pause, RETRY_S[0]), RETRY_S[1])
