"""Records, in order of arrival, through the judge: what the check would have said at each sample, and in all.

It is the check's own judge that is asked. Where samples are calm it is spared the asking, see `calm`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, cast

from check_delayed_repl.judge.calm import calm
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample

BLOCK = 64
"""Samples that are looked at together for being calm."""
PAGES_KEPT = 100
"""Pages that a summary remembers one by one; it counts them all."""


class StateChange(NamedTuple):
    """What the check would have said at one sample."""

    t: float
    """The sample's own time, seconds since 1970, UTC."""
    state: State
    condition: str
    message: str


class Page(NamedTuple):
    """An entry into CRITICAL."""

    t: float
    condition: str


class Summary:
    """What a replay adds up to. All times in seconds; the time from a sample to the next counts to the earlier one."""

    def __init__(self) -> None:
        self.samples = 0
        self.begin: float | None = None
        """The first sample's t."""
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
        """The next sample is at `t`; until then the exceptions `holding` hold."""
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
        """A sample was judged, after `time_passes` up to it."""
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

    def calm(self, t: float, count: int) -> None:
        """So many samples more of the same, up to `t`."""
        self.samples += count
        self.end = t


class Replay:
    """One recording under one set of limits."""

    def __init__(self, limits: Limits, every: bool = False, *, fast: bool = True) -> None:
        """`every`: a StateChange for every sample. Without `fast`, the judge is asked about every sample."""
        self.fold = Fold(limits)
        self.summary = Summary()
        self._every = every
        self._fast = fast and not every

    def feed(self, records: Sequence[Record]) -> Iterator[StateChange]:
        """What there is to tell of the next records, in order of arrival."""
        for start in range(0, len(records), BLOCK):
            block = records[start : start + BLOCK]
            if not (self._fast and self._pass_over(block)):
                for record in block:
                    if isinstance(record, JobLine):
                        self.fold.add(record)
                    else:
                        yield from self._judged(record)

    def _pass_over(self, block: Sequence[Record]) -> bool:
        """Folds these records at once, if they are samples of a calm time."""
        if self.summary.state is not State.OK or {*map(type, block)} != {Sample}:
            return False
        samples = cast(Sequence[Sample], block)
        if not calm(samples, self.fold):
            return False
        self.fold.pass_over(samples)
        self.summary.calm(samples[-1].t, len(samples))
        return True

    def _judged(self, sample: Sample) -> Iterator[StateChange]:
        fold, summary, t = self.fold, self.summary, sample.t
        summary.time_passes(t, fold.holding)
        fold.add(sample)
        verdict = fold.verdict(t, with_messages=self._every)
        state, condition = verdict.state, verdict.condition
        changed = state is not summary.state or condition != summary.condition
        summary.sample(t, state, condition, fold.episode_since is not None)
        if self._every:
            yield StateChange(t, state, condition, verdict.message)
        elif changed:
            yield StateChange(t, state, condition, fold.verdict(t).message)


def in_batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The same, some hundred at a time."""
    source = iter(records)
    while batch := list(islice(source, 1024)):
        yield batch


def replay(
    records: Iterable[Record], limits: Limits, every: bool = False, *, fast: bool = True
) -> Iterator[StateChange | Summary]:
    """The verdicts on records in order of arrival under these limits, and at last what they add up to.

    There is a StateChange for the first sample and whenever state or condition changes, or with `every` for each
    sample. `fast` off asks the judge about each, which changes nothing but the time that it takes.
    """
    course = Replay(limits, every, fast=fast)
    for batch in in_batches(records):
        yield from course.feed(batch)
    yield course.summary
