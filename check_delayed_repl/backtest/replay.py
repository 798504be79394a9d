"""Records, in order of arrival, through the judge: what the check would have said at each sample, and in all.

It is the check's own judge that is asked. Where samples are calm it is spared the asking, see `pass_over`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from check_delayed_repl.judge.calm import pass_over
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample

BLOCK = 64
"""Samples that are looked at together for being calm."""


class StateChange(NamedTuple):
    """What the check would have said at one sample."""

    t: float
    """The sample's own time, seconds since 1970, UTC."""
    state: State
    condition: str
    message: str


class Summary:
    """What a replay adds up to. All times in seconds; the time from a sample to the next counts to the earlier one."""

    def __init__(self) -> None:
        self.samples = 0
        self.begin: float | None = None
        self.end: float | None = None
        """The greatest t so far: a clock that was set back does not count twice."""
        self.state: State | None = None
        self.condition = ""
        self.pages: list[StateChange] = []
        """The entries into CRITICAL."""
        self.held: dict[str, float] = defaultdict(float)
        """Exception → seconds that an alarm was held back for it."""
        self.most_held: dict[str, float] = {}
        """Exception → the same, in the episode where it was most: what its budget is compared with."""
        self._changes: list[tuple[float, State]] = []
        """From when on it was in which state."""
        self._episode_held: dict[str, float] = defaultdict(float)

    @property
    def seconds(self) -> dict[State, float]:
        return {state: sum(self._lasted(state), 0.0) for state in State}

    @property
    def longest(self) -> dict[State, float]:
        """The longest time in each state without a break."""
        return {state: max(self._lasted(state), default=0.0) for state in State}

    def _lasted(self, state: State) -> list[float]:
        """The seconds of each time in this state."""
        ends = [*(begin for begin, _ in self._changes[1:]), self.end or 0.0]
        return [end - begin for (begin, one), end in zip(self._changes, ends, strict=False) if one is state]

    @property
    def paged_by(self) -> Counter[str]:
        """Condition → how many pages it led to."""
        return Counter(page.condition for page in self.pages)

    def by_condition(self) -> str:
        """The same in words to go behind a number of pages, with a blank before them; empty where there are none."""
        by = ", ".join(f"{count} {condition}" for condition, count in self.paged_by.most_common())
        return f" ({by})" if by else ""

    def add(self, found: StateChange, held_by: tuple[str, ...], in_episode: bool) -> None:
        """A sample was judged. `held_by`: the exceptions that have held since the one before it."""
        t, before = found.t, self.state
        self.state, self.condition = found.state, found.condition
        if self.end is None:
            self.begin = self.end = t
        if t > self.end:
            for exception in held_by:
                self.held[exception] += t - self.end
                self._episode_held[exception] += t - self.end
                self.most_held[exception] = max(self.most_held.get(exception, 0.0), self._episode_held[exception])
            self.end = t
        self.samples += 1
        if not in_episode:
            self._episode_held.clear()
        if found.state is not before:
            self._changes.append((self.end, found.state))
            if found.state is State.CRITICAL:
                self.pages.append(found)


class Replay:
    """One recording under one set of limits."""

    def __init__(self, limits: Limits, every: bool = False) -> None:
        """`every`: a StateChange for every sample, not only for the first and where state or condition changes."""
        self.fold = Fold(limits)
        self.summary = Summary()
        self._every = every

    def feed(self, records: Iterable[Record]) -> Iterator[StateChange]:
        """What there is to tell of the next records, in order of arrival."""
        source, summary = iter(records), self.summary
        while block := list(islice(source, BLOCK)):
            if not self._every and summary.state is State.OK and (samples := pass_over(self.fold, block)):
                # So many more of the same.
                summary.samples += len(samples)
                summary.end = samples[-1].t
                continue
            for record in block:
                if isinstance(record, JobLine):
                    self.fold.add(record)
                else:
                    yield from self._judged(record)

    def _judged(self, sample: Sample) -> Iterator[StateChange]:
        fold, summary, t = self.fold, self.summary, sample.t
        held_by = fold.holding
        fold.add(sample)
        verdict = fold.verdict(t, with_messages=self._every)
        changed = (verdict.state, verdict.condition) != (summary.state, summary.condition)
        if changed and not self._every:
            verdict = fold.verdict(t)
        found = StateChange(t, verdict.state, verdict.condition, verdict.message)
        summary.add(found, held_by, fold.episode_since is not None)
        if changed or self._every:
            yield found
