"""Records, in order of arrival, through the judge: what the check would have said at each look, and what it adds up to.

It is the check's own judge that is asked. Where looks are calm it is spared the asking, see `calm`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample

if TYPE_CHECKING:
    from typing import IO

    from check_delayed_repl.backtest.calm import Looks

BATCH = 4096
"""Records that are held at a time, however long the recording."""
MIN_CALM = 8
"""Fewer looks in a row than these are not worth looking at together."""
PAGES_KEPT = 100
"""Pages that a tally remembers one by one; it counts them all."""


class StateChange(NamedTuple):
    """What the check would have said at one look."""

    t: float
    """The look's own time, seconds since 1970, UTC."""
    state: State
    condition: str
    message: str


class Page(NamedTuple):
    """An entry into CRITICAL."""

    t: float
    condition: str


class Summary:
    """What a replay adds up to. All times in seconds; the time from a look to the next counts to the earlier one."""

    def __init__(self) -> None:
        self.samples = 0
        self.begin: float | None = None
        """The first look's t."""
        self.end: float | None = None
        """The greatest t so far: a clock that was set back does not count twice."""
        self.state: State | None = None
        self.condition = ""
        self.pages = 0
        self.first_pages: list[Page] = []
        """The first PAGES_KEPT of them."""
        self.paged_by: Counter[str] = Counter()
        """Condition → how many pages it led to."""
        self.held: dict[str, float] = defaultdict(float)
        """Exception → seconds that an alarm was held back for it."""
        self.most_held: dict[str, float] = {}
        """Exception → the same, in the episode where it was most: what its budget is compared with."""
        self._seconds = dict.fromkeys(State, 0.0)
        self._longest = dict.fromkeys(State, 0.0)
        self._since = 0.0
        """Since when the state is what it is."""
        self._episode_held: dict[str, float] = defaultdict(float)

    @property
    def seconds(self) -> dict[State, float]:
        """Seconds in each state."""
        return self._with_now(self._seconds, lambda before, now: before + now)

    @property
    def longest(self) -> dict[State, float]:
        """The longest time in each state without a break."""
        return self._with_now(self._longest, max)

    def _with_now(self, past: dict[State, float], join: Callable[[float, float], float]) -> dict[State, float]:
        if self.state is None or self.end is None:
            return dict(past)
        return past | {self.state: join(past[self.state], self.end - self._since)}

    def time_passes(self, t: float, holding: tuple[str, ...]) -> None:
        """The next look is at `t`; until then the exceptions `holding` hold."""
        if self.end is None:
            self.begin = self.end = self._since = t
        if t <= self.end:
            return
        for exception in holding:
            self.held[exception] += t - self.end
            self._episode_held[exception] += t - self.end
            self.most_held[exception] = max(self.most_held.get(exception, 0.0), self._episode_held[exception])
        self.end = t

    def sample(self, t: float, state: State, condition: str, in_episode: bool) -> None:
        """A look was judged, after `time_passes` up to it."""
        self.samples += 1
        if not in_episode:
            self._episode_held.clear()
        self.condition = condition
        if state is self.state:
            return
        self._seconds, self._longest, self._since = self.seconds, self.longest, self.end or 0.0
        self.state = state
        if state is State.CRITICAL:
            self.pages += 1
            self.paged_by[condition] += 1
            if len(self.first_pages) < PAGES_KEPT:
                self.first_pages.append(Page(t, condition))

    def calm_looks(self, t: float, count: int) -> None:
        """So many looks more of the same, up to `t`."""
        self.samples += count
        self.end = t


class Replay:
    """One recording under one set of limits, fed in batches."""

    def __init__(self, limits: Limits, every: bool = False, *, hurry: bool = True) -> None:
        """`every`: rule on every look, not only on changes. Without `hurry`, the judge is asked about every look."""
        self.fold = Fold(limits)
        self.tally = Summary()
        self._every = every
        self._hurry = hurry and not every

    def job(self, line: JobLine) -> None:
        """A job line has arrived."""
        self.fold.add(line)

    def looks(self, looks: Looks) -> Iterator[StateChange]:
        """Looks have arrived, after the one that was fed last; the rulings on them that are to be told."""
        from check_delayed_repl.backtest.calm import alike_runs, calm

        done = 1
        for start, end in alike_runs(looks, MIN_CALM) if self._hurry else ():
            yield from self._plainly(looks.samples, done, start)
            done = start
            if self._in_order():
                yield from self._run(looks, start, end, calm(looks, start, end, self.fold).tolist())
                done = end
        yield from self._plainly(looks.samples, done, len(looks.samples))

    def _run(self, looks: Looks, start: int, end: int, calm: list[bool]) -> Iterator[StateChange]:
        """The looks [start, end), each like the one before it."""
        from check_delayed_repl.backtest.calm import pass_over

        i = start
        while i < end:
            j = i
            while j < end and calm[j - start]:
                j += 1
            while i < j and not (self._in_order() and self.fold.at_rest(looks.samples[i].t)):
                yield from self._plainly(looks.samples, i, i + 1)
                i += 1
            if i < j:
                pass_over(looks, i, j, self.fold)
                self.tally.calm_looks(looks.samples[j - 1].t, j - i)
            if j < end:
                yield from self._plainly(looks.samples, j, j + 1)
            i = j + 1

    def _in_order(self) -> bool:
        return self.tally.state is State.OK

    def _plainly(self, samples: Sequence[Sample], start: int, end: int) -> Iterator[StateChange]:
        """The judge rules on every look."""
        fold, tally = self.fold, self.tally
        for i in range(start, end):
            sample = samples[i]
            t = sample.t
            tally.time_passes(t, fold.holding)
            fold.add(sample)
            verdict = fold.verdict(t, with_messages=self._every)
            state, condition = verdict.state, verdict.condition
            changed = state is not tally.state or condition != tally.condition
            tally.sample(t, state, condition, fold.in_episode)
            if self._every:
                yield StateChange(t, state, condition, verdict.message)
            elif changed:
                yield StateChange(t, state, condition, fold.verdict(t).message)


Batch = list["JobLine | Looks"]


def batches(records: Iterable[Record]) -> Iterator[Batch]:
    """Records in order of arrival as job lines and looks, some thousands at a time.

    Where reading a record fails, what came before it is given out first, and then the error is raised.
    """
    from check_delayed_repl.backtest.calm import Looks

    before: Sample | None = None
    source = iter(records)
    error: Exception | None = None
    while error is None:
        held: list[Record] = []
        try:
            for record in islice(source, BATCH):
                held.append(record)  # noqa: PERF402  what was read before an error must not be lost
        except Exception as problem:  # noqa: BLE001  raised again below
            error = problem
        batch: Batch = []
        for kind, group in groupby(held, type):
            if kind is JobLine:
                batch.extend(group)  # type: ignore[arg-type]
            else:
                samples: list[Sample] = list(group)  # type: ignore[arg-type]
                batch.append(Looks.of(samples, before))
                before = samples[-1]
        if not held and error is None:
            return
        yield batch
    raise error


def batches_of(file: IO[bytes], one_by_one: bool = False) -> Iterator[Batch]:
    """The same of a recording's file; with `one_by_one` in the way that is best where every look is judged anyway."""
    if one_by_one:
        from check_delayed_repl.history.recording import read

        return batches(read(file))
    from check_delayed_repl.backtest.shapes import Reader

    return Reader().parts(file)


def replay(
    records: Iterable[Record] | str | PathLike[str], limits: Limits, every: bool = False, *, hurry: bool = True
) -> Iterator[StateChange | Summary]:
    """The rulings on a recording under these limits, and at last what they add up to.

    `records` is the path of a recording, or records in order of arrival. There is a ruling for the first look and
    whenever state or condition changes, or with `every` for each look. `hurry` off asks the judge about each look,
    which changes nothing but the time that it takes. Raises OSError and recording.RecordingError.
    """
    if isinstance(records, str | PathLike):
        with open(records, "rb") as file:
            yield from _replay(batches_of(file, every or not hurry), Replay(limits, every, hurry=hurry))
    else:
        yield from _replay(batches(records), Replay(limits, every, hurry=hurry))


def _replay(parts: Iterable[Batch], course: Replay) -> Iterator[StateChange | Summary]:
    for batch in parts:
        for part in batch:
            if isinstance(part, JobLine):
                course.job(part)
            else:
                yield from course.looks(part)
    yield course.tally
