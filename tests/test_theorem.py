"""No job record, no way of sampling and no delay keeps the judge quiet for longer than the limits allow.

`THEOREM_EXAMPLES=5000 pytest tests/test_theorem.py` searches for longer than the usual run does.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
from adversary import LIMITS, SAMPLE_ERRORS, Account, budgets, clone
from hostile import ODDITIES
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from check_delayed_repl.judge import jobs
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State, Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample

EXAMPLES = int(os.environ.get("THEOREM_EXAMPLES", "120"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

START = 1.7e9

steps = st.sampled_from((10.0,) * 12 + (0.0, 0.5, 1.0, 2.0, 30.0, 60.0, 300.0, -0.5, -2.0, -3.0, -100.0))
offsets = st.sampled_from(
    (None, -1e9, -1000.0, -150.0, -80.0, -30.0, -10.0, 0.0, 5.0, 59.0, 60.0, 61.0, 200.0, 1e9, 1e300)
)
kinds = st.sampled_from(("backup", "deshard", "index", "backup", "deshard", "index", "rebuild", "rescue", "", None))
names = st.sampled_from(("a", "b", "c", "", "*"))


@st.composite
def job_lines(draw: st.DrawFn) -> tuple[str, str | None, float | None, float | None, bool, str | None]:
    """(id, kind, start and finish relative to now, void, what is unreadable): mostly plausible, sometimes anything."""
    return (
        draw(names),
        draw(kinds),
        draw(offsets),
        draw(st.one_of(st.none(), offsets)),
        draw(st.sampled_from((False,) * 5 + (True,))),
        draw(st.sampled_from((None,) * 5 + ("started_at 'now' is no number",))),
    )


delays = st.one_of(
    st.sampled_from((150.0, 100.0, 200.0, 99.0, 201.0, 250.0, 40.0, 5000.0, 0.0)),
    st.floats(90.0, 110.0),
    st.floats(0.0, 300.0),
    st.sampled_from((-1.0, -1.5, -1e6, 1e10, 1.1e10, 1e300)),
)
odd = {name: st.sampled_from(values) for name, values in ODDITIES.items() if name not in ("error", "delay")}
facts = st.one_of(st.just({}), st.just({}), st.fixed_dictionaries({}, optional=odd))

TIGHTER: tuple[dict[str, Any], ...] = (
    {"max_seconds_behind": 10.0},
    {"max_relay_behind": 50.0, "max_master_behind": 20.0},
    {"max_backup_behind": 20.0},
    {"max_deshard_behind": 0.0},
    {"job_limits": (("index", 10.0),)},
    {"min_delay_time": 120.0},
    {"max_delay_time": 180.0},
    {"max_recovery_time": 20.0},
    {"max_trend_time": 10.0},
    {"min_recovery_slope": 0.5, "min_correlation": 0.9},
    {"job_stops_server": ()},
    {
        "max_seconds_behind": 0.0,
        "max_backup_behind": 0.0,
        "max_deshard_behind": 0.0,
        "job_limits": (("index", 0.0),),
        "max_recovery_time": 0.0,
        "max_trend_time": 0.0,
        "min_delay_time": 130.0,
        "max_delay_time": 170.0,
    },
)


class Adversary(RuleBasedStateMachine):
    """Everything that can be done to a judge, one thing after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.delay = 150.0
        self.fold = Fold(LIMITS)
        self.strict = Fold(LIMITS)
        self.records: list[Record] = []
        self.account = Account(LIMITS)
        self.verdict: Verdict | None = None
        self.arrival = 0
        self.cap = jobs.MAX_JOBS
        jobs.MAX_JOBS = 30  # so that floods are cheap

    def teardown(self) -> None:
        jobs.MAX_JOBS = self.cap

    @initialize(tighter=st.sampled_from(TIGHTER))
    def begin(self, tighter: dict[str, Any]) -> None:
        self.strict = Fold(LIMITS._replace(**tighter))

    def _add(self, record: Record) -> None:
        self.arrival += 1
        self.records.append(record)
        for fold in (self.fold, self.strict):
            fold.add(record, self.arrival)

    def _sample(self, sample: Sample) -> None:
        self.now = sample.t
        self._add(sample)
        before = self.fold.dump()
        verdict = self.fold.verdict(sample.t)
        assert self.fold.verdict(sample.t) == verdict
        assert self.fold.dump() == before, "judging changed what is judged"
        self.account.follow(sample, verdict)
        # A flood is over sooner where jobs matter for less long.
        if any(f.state == State.CRITICAL and f.condition != "job-records-flooded" for f in verdict.findings):
            assert self.strict.verdict(sample.t).state != State.OK, "a tighter limit turned CRITICAL into OK"
        self.verdict = verdict

    @rule(step=steps, delay=delays, seen=facts)
    def sample(self, step: float, delay: float, seen: dict[str, Any]) -> None:
        self.delay = delay
        self._sample(Sample(self.now + step, delay, **seen))

    @rule(steps=st.lists(steps, min_size=1, max_size=12), slope=st.sampled_from((-5.0, -1.0, -0.2, 0.0, 0.0, 0.2, 1.0)))
    def line(self, steps: list[float], slope: float) -> None:
        """A line that goes on in its own way, from wherever it is."""
        if not -1.0 <= self.delay <= 1e4:
            self.delay = 230.0
        for step in steps:
            self.delay = max(0.0, self.delay + slope * step)
            self._sample(Sample(self.now + step, self.delay, io="Yes", sql="Yes", sql_delay=150))

    @rule(step=steps, error=st.sampled_from((*SAMPLE_ERRORS, "server-down", "server-down")), times=st.integers(1, 6))
    def fail(self, step: float, error: str, times: int) -> None:
        for _ in range(times):
            self._sample(Sample(self.now + step, None, error, "in words"))

    @rule(lines=st.lists(job_lines(), min_size=1, max_size=4))
    def write(self, lines: list[tuple[str, str | None, float | None, float | None, bool, str | None]]) -> None:
        for name, kind, start, finish, void, unreadable in lines:
            started = None if start is None else self.now + start
            finished = None if finish is None else self.now + finish
            self._add(JobLine(self.now, name, kind, started, finished, void, unreadable))

    @rule(kind=st.sampled_from(("backup", "deshard", "index")), ago=st.sampled_from((0.0, 5.0, 50.0)))
    def restart(self, kind: str, ago: float) -> None:
        """An endless chain: the job ends, and the same one begins again, just now."""
        self._add(JobLine(self.now, "a", kind, self.now - ago, self.now))
        self._add(JobLine(self.now, "a", kind, self.now - ago))

    @rule(count=st.integers(1, 40), kind=st.sampled_from(("backup", "deshard", "index", "rebuild")), done=st.booleans())
    def flood(self, count: int, kind: str, done: bool) -> None:
        for i in range(count):
            self._add(JobLine(self.now, f"flood{i}", kind, self.now - i, self.now if done else None))

    @rule()
    def void_all(self) -> None:
        self._add(JobLine(self.now, "*", void=True))
        if self.verdict is not None:
            self._sample(Sample(self.fold.clock, None, "timeout"))
            assert {job.kind for job in self.verdict.jobs} <= {"rescue"}

    @precondition(lambda self: self.records and isinstance(self.records[-1], Sample))
    @rule()
    def reload(self) -> None:
        """The cache is written, and read by the next process."""
        text = self.fold.dump()
        fold = Fold.load(text, LIMITS)
        since = fold.clock - fold.reach
        fold.restore([r for r in self.records if isinstance(r, Sample) and r.t >= since])
        assert fold.dump() == text
        assert fold.verdict(self.now) == self.fold.verdict(self.now)
        self.fold = fold

    @precondition(lambda self: self.records and isinstance(self.records[-1], Sample))
    @rule()
    def forget_cache(self) -> None:
        """The cache is deleted: everything is folded again."""
        fold = Fold(LIMITS)
        for number, record in enumerate(self.records, 1):
            fold.add(record, number)
        assert fold.dump() == self.fold.dump()
        assert fold.verdict(self.now) == self.fold.verdict(self.now)

    @rule(later=st.sampled_from((-1000.0, -2.0, 0.0, 5.0, 100.0, 1e6)), worker=st.booleans())
    def ask_at_another_time(self, later: float, worker: bool) -> None:
        before = self.fold.dump()
        verdict = self.fold.verdict(self.now + later, worker=worker)
        assert verdict.findings
        assert self.fold.dump() == before
        if self.verdict is not None and self.fold.clock > self.now + later + 2.0:
            assert verdict.state == State.CRITICAL

    @precondition(lambda self: self.verdict is not None)
    @rule(kind=st.sampled_from(("backup", "index")), done=st.booleans())
    def write_between(self, kind: str, done: bool) -> None:
        """Lines that no sample has followed yet change nothing, whatever they claim and however many there are."""
        before = self.fold.verdict(self.now + 1.0)
        for i in range(3):
            self._add(JobLine(self.now, f"between{i}", kind, self.now, self.now if done else None))
        assert self.fold.verdict(self.now + 1.0) == before

    @invariant()
    def a_cache_of_other_limits_is_worth_nothing(self) -> None:
        if self.verdict is not None:
            assert Fold.load(self.fold.dump(), LIMITS._replace(max_trend_time=49.0)) is None


Adversary.TestCase.settings = SETTINGS
TestAdversary = Adversary.TestCase


def test_an_intercept_out_of_bounds_is_an_episode_where_no_sample_can_be_fitted() -> None:
    """A clock that went back: no sample lies before the newest one, whose own delay makes no sense."""
    machine = Adversary()
    machine.begin({"max_seconds_behind": 10.0})
    machine.line(steps=[10.0, 10.0, 10.0], slope=-1.0)
    machine.sample(step=10.0, delay=90.0, seen={})
    machine.fail(step=-100.0, error="connect-failed", times=1)
    machine.sample(step=10.0, delay=-1.5, seen={})
    machine.teardown()


def candidates(now: float, rng: Random) -> list[list[JobLine]]:
    """What the adversary may write before the next sample."""
    chosen: list[list[JobLine]] = [[]]
    for kind in LIMITS.kinds:
        chosen.append([JobLine(now, kind, kind, now)])
        chosen.append([JobLine(now, kind, kind, now, now)])
        chosen.append([JobLine(now, f"{kind}{rng.random()}", kind, now - 1.0, now)])
        chosen.append([JobLine(now, kind, void=True)])
    chosen.append([JobLine(now, kind, void=True) for kind in LIMITS.kinds])
    chosen.append([JobLine(now, kind, kind, now) for kind in LIMITS.kinds])
    chosen.append([JobLine(now, "x", "backup", now + 59.0, now + 1e6)])
    rng.shuffle(chosen)
    return chosen


def quiet_for(rng: Random, every: tuple[float, ...], limits: Limits) -> tuple[float, float]:
    """How long an adversary who tries everything before each sample keeps an episode free of CRITICAL, and the longest
    interval: it writes job lines, and moves the delay as it likes, though never back into range."""
    now = START
    fold, account = Fold(limits), Account(limits)
    for i in range(7):
        sample = Sample(now + 10.0 * i, 230.0 - 4.0 * i)
        fold.add(sample)
        account.follow(sample, fold.verdict(sample.t))
    begun = fold.verdict(fold.clock).episode_since
    now, delay, longest = fold.clock, 206.0, 10.0
    while True:
        step = rng.choice(every)
        for lines in candidates(now, rng):
            for moved in rng.sample((delay, delay - 0.2 * step, delay + step, 230.0, 150.0, 60.0), 6):
                trial = clone(fold)
                for line in lines:
                    trial.add(line)
                sample = Sample(now + step, max(moved, 0.0))
                trial.add(sample)
                verdict = trial.verdict(sample.t)
                if verdict.state != State.CRITICAL and verdict.episode_since == begun:
                    break
            else:
                continue
            break
        else:
            return now - begun, longest
        account.follow(sample, verdict)
        fold, now, delay, longest = trial, sample.t, sample.delay or 0.0, max(longest, step)
        assert now - begun < 1e5, "for ever"


@pytest.mark.parametrize("every", [(10.0,), (1.0, 10.0, 30.0), (10.0, 0.0, 100.0)])
@pytest.mark.parametrize("seed", range(max(2, EXAMPLES // 40)))
def test_no_adversary_outlasts_the_sum_of_the_budgets(seed: int, every: tuple[float, ...]) -> None:
    quiet, longest = quiet_for(Random(seed), every, LIMITS)
    bound = budgets(LIMITS)
    assert quiet <= sum(bound.values()) + len(bound) * longest + 1e-6
    # The adversary is worth its name: it gets most of what there is to be had.
    assert quiet >= 0.6 * max(LIMITS.kinds.values())


def test_a_planned_change_of_the_delay_begins_anew_where_a_failed_sample_was_held() -> None:
    state = Adversary()
    state.begin(tighter={"max_seconds_behind": 10.0})
    state.restart(ago=0.0, kind="backup")
    state.line(slope=-5.0, steps=[10.0])
    state.fail(error="server-down", step=10.0, times=1)
    state.sample(delay=150.0, seen={"io": "No", "sql_delay": 100}, step=10.0)
    state.teardown()


def test_another_servers_setting_is_no_planned_change() -> None:
    """Seen as the adversary's account has it: what was held goes on."""
    state = Adversary()
    state.begin(tighter={"max_seconds_behind": 10.0})
    state.sample(delay=150.0, seen={"server": "uuid:a", "sql_delay": 150}, step=10.0)
    state.restart(ago=0.0, kind="backup")
    state.sample(delay=150.0, seen={"server": "uuid:a", "io": "No"}, step=10.0)
    state.sample(delay=150.0, seen={"server": "uuid:b", "io": "No", "sql_delay": 100}, step=10.0)
    state.teardown()
