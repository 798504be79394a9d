"""Replicas' verdicts, from what has arrived since the last time.

It reads back from the history what arrived (others' samples and job lines too, one query for all), folds it with the
check's own judge, and says what `check_delayed_repl --sampling worker` would say now.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress

from check_delayed_repl.configfile import Replica
from check_delayed_repl.history import History, HistoryUnavailable, open_history
from check_delayed_repl.history.folding import WORTH_KEEPING_S, folding, keep
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import Finding, State, Verdict
from check_delayed_repl.records import job_names

TIMEOUT_S = 10.0
"""For one round with the history."""
CATCH_UP_S = 1.0
"""Seconds of a round for replicas that were not followed so far: a long history takes a while to fold."""
KEEP_AT_ONCE = 5
"""Folds that one round keeps in the history, so that others, and the next start, have little to fold."""


class _Followed:
    """A replica's fold, and the last arrival in it."""

    def __init__(self, replica: Replica, fold: Fold, arrival: int) -> None:
        self.replica = replica
        self.fold = fold
        self.arrival = arrival
        self.kept = fold.clock
        """Up to which time the history has it, or nearly so."""


class Judging:
    """Follows a history. For one thread."""

    def __init__(self, where: str | None) -> None:
        self._where = where
        self._history: History | None = None
        self._replicas: Sequence[Replica] = ()
        self._followed: dict[str, _Followed] = {}
        self._by_name: dict[str, list[_Followed]] = {}
        """Who is concerned by records of a name: a job on a server's name applies to its channels."""
        self._behind: deque[tuple[Replica, Generator[None, None, tuple[Fold, int]] | None]] = deque()
        """Those whose history is still to be read, and what reads it, once that was begun."""
        self._unreadable: dict[str, tuple[Replica, str]] = {}
        """Those whose own records cannot be read, and why; tried again when they are due."""
        self._place = (0, 0)
        """The last arrival that was read, and the history's epoch then."""

    def verdicts(
        self, replicas: Sequence[Replica], due: Collection[str] | None = None, now: float | None = None
    ) -> dict[str, Verdict]:
        """The verdicts at `now` (by default the history's own) on those replicas that something has arrived for, and
        on those that are `due` (None: all); those whose history is still being read are left out.

        Raises HistoryUnavailable; the next call begins anew then.
        """
        with self._reading() as history:
            self._follow(replicas)
            again = [name for name in self._unreadable if due is None or name in due]
            self._behind += [(self._unreadable.pop(name)[0], None) for name in again]
            changed: set[str] = set()
            try:
                changed = self._take_in(history)
            except HistoryUnavailable:
                # A damaged record tells on its own replica alone, unless nothing can be read at all.
                self._begin_anew(history.place())
                self._follow(replicas)
            changed |= self._catch_up(history)
            now = history.now() if now is None else now
        wanted = self._followed if due is None else changed.union(due)
        found = {name: self._followed[name].fold.verdict(now, worker=True) for name in wanted if name in self._followed}
        for name in changed.intersection(self._unreadable):
            _, trouble = self._unreadable[name]
            found[name] = Verdict(now, (Finding(State.CRITICAL, "history-unavailable", trouble),))
        return found

    def lease(self, holder: str, seconds: float) -> bool:
        """As the history's own. Raises HistoryUnavailable."""
        with self._reading() as history:
            return history.lease(holder, seconds)

    def close(self) -> None:
        """Lets go of the history."""
        history, self._history = self._history, None
        if history is not None:
            with suppress(Exception):
                history.close()

    @contextmanager
    def _reading(self) -> Iterator[History]:
        """The history; where it could not be read, it and all that was read from it begin anew."""
        try:
            before = self._history
            history = self._history = before or open_history(self._where, time.monotonic() + TIMEOUT_S)
            history.deadline = time.monotonic() + TIMEOUT_S
            place = history.place()
            if before is None or place[1] != self._place[1] or place[0] < self._place[0]:
                # Samples have been taken back, or an older copy is in its place: the folds have what it has not.
                self._begin_anew(place)
            yield history
        except HistoryUnavailable:
            self.close()
            raise

    def _begin_anew(self, place: tuple[int, int]) -> None:
        self._replicas, self._followed, self._place = (), {}, place

    def _follow(self, replicas: Sequence[Replica]) -> None:
        """Goes on with all that are followed already under the same limits; the others are behind."""
        if replicas is self._replicas:
            return
        before, self._followed, self._by_name = self._followed, {}, {}
        self._behind = deque()
        self._unreadable.clear()
        for each in replicas:
            followed = before.get(each.name)
            if followed is not None and followed.replica.limits == each.limits:
                self._enter(each, followed)
            else:
                self._behind.append((each, None))
        self._replicas = replicas

    def _enter(self, replica: Replica, followed: _Followed) -> None:
        self._followed[replica.name] = followed
        for name in job_names(replica.name):
            self._by_name.setdefault(name, []).append(followed)

    def _take_in(self, history: History) -> set[str]:
        """Folds what has arrived; returns whom it concerns."""
        changed = set()
        to_keep = KEEP_AT_ONCE
        last, epoch = self._place
        for arrival, name, record in history.arrived(last):
            for followed in self._by_name.get(name, ()):
                if arrival > followed.arrival:
                    followed.fold.add(record, arrival)
                    followed.arrival = arrival
                    changed.add(followed.replica.name)
                    if to_keep and followed.fold.clock - followed.kept >= WORTH_KEEPING_S:
                        to_keep -= 1
                        keep(history, followed.replica.name, followed.fold, arrival)
                        followed.kept = followed.fold.clock
            self._place = arrival, epoch
        return changed

    def _catch_up(self, history: History) -> set[str]:
        """Folds the whole history of those that are behind, as far as there is time; returns who is not any more."""
        until = time.monotonic() + CATCH_UP_S
        caught_up = set()
        while self._behind and time.monotonic() < until:
            each, begun = self._behind.popleft()
            work = begun or folding(history, each.name, each.limits)
            try:
                while time.monotonic() < until:
                    history.deadline = time.monotonic() + TIMEOUT_S
                    next(work)
            except StopIteration as end:
                self._enter(each, _Followed(each, *end.value))
                caught_up.add(each.name)
            except HistoryUnavailable as error:
                history.place()  # else nothing can be read, of no replica
                self._unreadable[each.name] = each, str(error)
                caught_up.add(each.name)
            else:
                # A long one gives way to all that are not begun yet, and no more then.
                (self._behind.appendleft if begun else self._behind.append)((each, work))
        return caught_up
