"""Every replica's verdict, from what has arrived since the last time.

It reads back from the history what arrived (others' samples and job lines too, one query for all), folds it with the
check's own judge, and says what `check_delayed_repl --sampling worker` would say now.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress

from check_delayed_repl.history import History, HistoryUnavailable, open_history
from check_delayed_repl.history.folding import folded
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.publish.result import Subject
from check_delayed_repl.records import job_names

TIMEOUT_S = 10.0
"""For one round with the history."""
CATCH_UP_S = 1.0
"""Seconds of a round for replicas that were not followed so far: a long history takes a while to fold."""


class _Followed:
    """A replica's fold, and the last arrival in it."""

    def __init__(self, fold: Fold, arrival: int, limits: Limits) -> None:
        self.fold = fold
        self.arrival = arrival
        self.limits = limits


class Judging:
    """Follows a history. For one thread."""

    def __init__(self, where: str | None) -> None:
        self._where = where
        self._history: History | None = None
        self._followed: dict[str, _Followed] = {}
        self._arrival = 0

    def verdicts(self, subjects: Iterable[Subject], now: float | None = None) -> dict[str, Verdict]:
        """The verdict on each replica at `now`, by default the history's own; those whose history is still being read
        are left out. Raises HistoryUnavailable; the next call begins anew then."""
        subjects = list(subjects)
        try:
            history = self._opened()
            self._take_in(history, subjects)
            self._catch_up(history, subjects)
            now = history.now() if now is None else now
        except HistoryUnavailable:
            self.close()
            raise
        return {
            each.name: self._followed[each.name].fold.verdict(now, worker=True)
            for each in subjects
            if each.name in self._followed
        }

    def lease(self, holder: str, seconds: float) -> bool:
        """As the history's own. Raises HistoryUnavailable."""
        history = self._opened()
        try:
            return history.lease(holder, seconds)
        except HistoryUnavailable:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the history, and of all that was read from it."""
        history, self._history = self._history, None
        self._followed.clear()
        if history is not None:
            with suppress(Exception):
                history.close()

    def _opened(self) -> History:
        if self._history is None:
            self._history = open_history(self._where, time.monotonic() + TIMEOUT_S)
            self._arrival = self._history.newest_arrival()
        self._history.deadline = time.monotonic() + TIMEOUT_S
        return self._history

    def _take_in(self, history: History, subjects: list[Subject]) -> None:
        """Folds what has arrived into all that are followed already under these limits."""
        by_name: dict[str, list[_Followed]] = {}
        before, self._followed = self._followed, {}
        for each in subjects:
            followed = before.get(each.name)
            if followed is not None and followed.limits == each.limits:
                self._followed[each.name] = followed
                for name in job_names(each.name):
                    by_name.setdefault(name, []).append(followed)
        for arrival, name, record in history.arrived(self._arrival):
            for followed in by_name.get(name, ()):
                if arrival > followed.arrival:
                    followed.fold.add(record, arrival)
                    followed.arrival = arrival
            self._arrival = arrival

    def _catch_up(self, history: History, subjects: list[Subject]) -> None:
        """Folds the whole history of those that are not followed yet, as many as there is time for."""
        until = time.monotonic() + CATCH_UP_S
        for each in subjects:
            if each.name not in self._followed and time.monotonic() < until:
                history.deadline = time.monotonic() + TIMEOUT_S
                fold, arrival = folded(history, each.name, each.limits)
                self._followed[each.name] = _Followed(fold, arrival, each.limits)
