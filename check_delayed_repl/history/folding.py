"""A replica's history → the verdict on it, folding only what has arrived since the last time.

The folding of what came before is kept in the history. That is a cache: the records alone decide, and deleting it
changes no verdict.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice
from time import monotonic

from check_delayed_repl.history import History
from check_delayed_repl.history.codec import checksum
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Record

PIECE = 2_000
"""Records that are folded without a break."""
SAVE_EVERY = 20_000
"""Records folded between two saves, so that a long first folding is not lost to a timeout."""
BLOCK = 64
LEAST_BLOCK = 20
"""Records that are folded together, and so many at least that it is worth finding out whether all of them are calm."""
WORTH_KEEPING = 1_000
WORTH_KEEPING_S = 300.0
"""Records, and seconds of samples, that are folded again and again rather than kept: a save is a transaction."""
WORTH_LEAVING_OUT = 5_000
"""Samples that are folded before anything cleverer would have begun."""
LOOKBACKS = (3600.0, 86400.0, 4 * 86400.0)
"""Seconds of the newest samples in which to find the line well in range, should it not always be so."""


def judged(
    history: History, replica: str, limits: Limits, now: float | None = None, *, worker: bool = False
) -> Verdict:
    """The verdict at `now`, by default the history's own. `worker`: somebody else takes samples, and must be seen to.

    Raises HistoryUnavailable where the history cannot be read, or not all of it before its deadline.
    """
    fold, _ = folded(history, replica, limits)
    return fold.verdict(history.now() if now is None else now, worker=worker)


def folded(history: History, replica: str, limits: Limits) -> tuple[Fold, int]:
    """All that has arrived, folded, and the last arrival number among it. Raises as `judged` does."""
    work = folding(history, replica, limits)
    while True:
        try:
            next(work)
        except StopIteration as end:
            found: tuple[Fold, int] = end.value
            return found


def folding(history: History, replica: str, limits: Limits) -> Generator[None, None, tuple[Fold, int]]:
    """As `folded`, piece by piece: whoever has others to see to may go on later, under another deadline."""
    fold, arrival = yield from _kept(history, replica, limits)
    unsaved, kept = 0, fold.clock
    while piece := _piece(history, replica, arrival):
        for first in range(0, len(piece), BLOCK):
            _add(fold, piece[first : first + BLOCK])
        arrival, unsaved = piece[-1][0], unsaved + len(piece)
        if len(piece) < PIECE:
            break
        if unsaved >= SAVE_EVERY and monotonic() < history.deadline:
            keep(history, replica, fold, arrival)
            unsaved, kept = 0, fold.clock
        piece.clear()  # a thousand may wait for their turn
        yield
    if unsaved >= WORTH_KEEPING or fold.clock - kept >= WORTH_KEEPING_S:
        keep(history, replica, fold, arrival)
    return fold, arrival


def _piece(history: History, replica: str, after: int) -> list[tuple[int, Record]]:
    """The records that follow; all that are left, where they are fewer than PIECE."""
    return list(islice(history.records(replica, after), PIECE))


def _add(fold: Fold, block: list[tuple[int, Record]]) -> None:
    """Folds records, all at once where they are calm."""
    if len(block) >= LEAST_BLOCK:
        # Left to those who have much to fold.
        from check_delayed_repl.judge.calm import add

        add(fold, block)
        return
    for arrival, record in block:
        fold.add(record, arrival)


def keep(history: History, replica: str, fold: Fold, arrival: int) -> None:
    """Keeps the folding of all up to `arrival` for whoever judges this replica by the same limits."""
    kinds = [kind for kind, _ in fold.limits.job_limits]
    history.save_fold(replica, _key(fold.limits), arrival, fold.dump(), fold.episode_arrival, kinds)


def _key(limits: Limits) -> str:
    return checksum(repr(limits))


def _kept(history: History, replica: str, limits: Limits) -> Generator[None, None, tuple[Fold, int]]:
    kept = history.load_fold(replica, _key(limits))
    if kept is not None and (fold := Fold.load(kept[1], limits)) is not None:
        fold.restore(history.delays(replica, fold.clock - fold.reach, kept[0]))
        return fold, kept[0]
    return (yield from _begun_late(history, replica, limits)) or (Fold(limits), 0)


def _begun_late(history: History, replica: str, limits: Limits) -> Generator[None, None, tuple[Fold, int] | None]:
    """A fold that began late in a long history and is as good as the whole one by now, and the last arrival in it."""
    newest = history.newest_sample_t(replica)
    if newest is None:
        return None
    from check_delayed_repl.judge.resume import LateFold, late_reach

    needed = late_reach(limits) + limits.max_recovery_time
    for room in LOOKBACKS:
        found = history.first_since(replica, newest - needed - room)
        if found is None:
            continue
        first, first_t = found
        past = history.past(replica, first)
        if past.samples < WORTH_LEAVING_OUT:
            return None
        late, arrival = LateFold(limits, past, first_t), first - 1
        while not late.cannot_converge and (piece := _piece(history, replica, arrival)):
            for start in range(0, len(piece), BLOCK):
                block = piece[start : start + BLOCK]
                if late.add(block):
                    return late.fold, block[-1][0]
            arrival = piece[-1][0]
            piece.clear()
            yield
    return None
