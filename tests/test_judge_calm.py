"""The quick way through calm times comes to what the judge says sample by sample, on hostile recordings as well."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hostile import LIMITS, Line, T, recording
from hypothesis import example, given, settings
from hypothesis import strategies as st

from check_delayed_repl.backtest.replay import Replay, StateChange
from check_delayed_repl.judge.calm import add
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample


def both(records: list[Record], limits: Limits, size: int = 4096) -> Iterator[tuple[Any, Any]]:
    """What the two ways say after each `size` records: changes, summary, and what the judge goes on from."""
    quick, plain = Replay(limits), Replay(limits, every=True)
    told: StateChange | None = None
    for start in range(0, len(records), size):
        piece = records[start : start + size]
        changes = []
        for each in plain.feed(piece):
            if told is None or (each.state, each.condition) != (told.state, told.condition):
                changes.append(each)
            told = each
        yield (list(quick.feed(piece)), state_of(quick)), (changes, state_of(plain))


def state_of(way: Replay) -> tuple[Any, ...]:
    told = way.summary
    return vars(told) | {"s": told.seconds, "l": told.longest}, way.fold.dump(), list(way.fold._window.points)


VARIANTS = [
    LIMITS,
    LIMITS._replace(fit="window"),
    LIMITS._replace(window=300.0, max_seconds_behind=70.0),
    LIMITS._replace(window=5000.0, max_seconds_behind=0.0),
    LIMITS._replace(delay_mode="native"),
    LIMITS._replace(delay_mode="external", local_heartbeat=False),
    LIMITS._replace(min_delay_time=150.0, max_delay_time=150.0),
    LIMITS._replace(min_delay_time=0.0, max_delay_time=1e300, max_recovery_time=0.0, max_trend_time=0.0),
    LIMITS._replace(job_limits=(("dump", 100.0),), job_stops_server=("dump",)),
]


@settings(deadline=None)
@example(1008, 8, 7, LIMITS)
@given(st.integers(0, 2**32), st.integers(1, 20), st.sampled_from([1, 7, 64, 4096]), st.sampled_from(VARIANTS))
def test_the_quick_way_is_the_judge(seed: int, length: int, size: int, limits: Limits) -> None:
    for quick, plain in both(recording(seed, length), limits, size):
        assert quick == plain


def line(count: int, **columns: Any) -> list[Record]:
    """Calm samples with nothing but `columns` out of the ordinary, each a value or what gives one for a sample."""
    chance = random.Random(1)
    made = Line(chance, bare=False, external=columns.pop("external", False), native=False)
    records: list[Record] = []
    for i in range(count):
        fields = {name: value(i) if callable(value) else value for name, value in columns.items()}
        records.append(made.sample(fields.pop("step", 10.0), **{"sql_remaining": 3, **fields}))
    return records


def moving(i: int) -> tuple[str, int]:
    return "bin.000002", i


def stuck(i: int) -> tuple[str, int]:
    return moving(min(i, 30))


def bent(end: int, pace: int = 1) -> Callable[[int], float]:
    """A delay that falls by 15 a sample, or more slowly, and from `end` on stands still just inside the bounds."""
    return lambda i: 190.0 if i < end - 5 * pace else 103.0 if i >= end else 103.0 + 15.0 * (end - i) / pace


@pytest.mark.parametrize(
    ("columns", "condition", "changes"),
    [
        (
            {"io": lambda i: "Connecting" if i > 30 else "Yes", "source_log": lambda i: ("bin.000002", min(i, 30))},
            "io-stopped",
            {},
        ),
        ({"local": lambda i: 26.0 if i == 33 else 0.5}, "local-heartbeat-stale", {}),
        ({"local": lambda i: -1.5 if i == 33 else 0.5}, "heartbeat-from-future", {}),
        ({"source_log": stuck}, "source-log-stale", {}),
        ({"relay_log": stuck}, "relay-log-stale", {}),
        ({"ts": lambda i: T + min(i, 30), "seconds_behind": 0}, "source-heartbeat-dead", {}),
        ({"sql": lambda i: "No" if i > 30 else "Yes", "sql_delay": 150}, "sql-stopped", {}),
        ({"sql_delay": lambda i: 50 if i > 30 else 150}, "delay-setting-lost", {}),
        ({"heartbeat_id": lambda i: 2 if i > 30 else 1}, "source-changed", {}),
        ({"io_errno": lambda i: 1236 if i == 33 else 0}, "io-error", {}),
        ({"delay": lambda i: 150.0 + max(0, i - 30)}, "delay-out-of-bounds", {}),
        ({"server": lambda i: "uuid:b" if i > 30 else "uuid:a"}, "replica-changed", {}),
        ({"server": lambda i: "uuid:b" if 30 < i < 50 else "uuid:a"}, "replica-ambiguous", {}),
        ({"filters": lambda i: ("Replicate_Do_DB=a",) if i > 30 else ()}, "replication-filtered", {}),
        ({"relay_limited": lambda i: i > 30}, "relay-space-limited", {}),
        ({"io": lambda i: "Connecting" if i in (31, 33, 35) else "Yes"}, "io-unstable", {}),
        ({"delay": lambda i: 10.0 if i == 33 else 150.0}, None, {}),
        # Within the last minute lie fewer than six samples: the window reaches back to those before the gaps.
        ({"delay": lambda i: 196.0 if i < 34 else 198.9, "step": lambda i: 61.0 if i > 30 else 10.0}, None, {}),
        ({"delay": lambda i: 150.0 if i % 9 else 190.0}, None, {}),
        ({"external": True, "relay_log": lambda i: ("bin.000002", min(i, 30) // 3)}, None, {}),
        ({"relay_log": moving, "source_log": moving, "sql_remaining": None}, None, {}),
        ({"sql": lambda i: "Perhaps" if i == 33 else "No", "external": True}, "status-unreadable", {}),
        ({"delay": lambda i: 1e12 if i == 33 else 150.0}, "heartbeat-unreadable", {"max_delay_time": 1e300}),
        ({"delay": lambda i: -1.5 if i == 33 else 150.0}, "heartbeat-from-future", {"min_delay_time": 0.0}),
        # Three samples are the newest ones, however long ago.
        ({"step": lambda i: 4000.0 if i > 30 else 10.0}, None, {}),
        # The newest samples are in range, but the line that goes through older ones is not.
        ({"delay": bent(40), "step": lambda i: 61.0 if i > 30 else 10.0}, "recovering-real-value", {"fit": "window"}),
        ({"delay": bent(60, 5)}, "recovering-real-value", {"fit": "window", "window": 300.0}),
        # A clock that is set back, by a little and by more.
        ({"step": lambda i: -1.0 if i == 33 else 10.0}, None, {}),
        ({"step": lambda i: {33: -1.0, 34: 0.5}.get(i, 10.0)}, None, {}),
        ({"step": lambda i: -100.0 if i == 33 else 10.0}, "clock-stepped", {}),
    ],
)
def test_what_the_judge_finds_on_a_calm_line_is_found(
    columns: dict[str, Any], condition: str | None, changes: dict[str, Any]
) -> None:
    records = line(120, **columns)
    limits = LIMITS._replace(**changes)
    [(quick, plain)] = both(records, limits)
    assert quick == plain
    assert condition in [None, *(change.condition for change in quick[0])]
    for size in (1, 5, 7, 31, 34):
        for quick, plain in both(records, limits, size):
            assert quick == plain


def test_samples_that_failed_are_not_calm_though_they_saw_a_delay() -> None:
    """Folded at once, as a first check does, or one by one: what a failed sample saw shows no line to be in range."""
    limits = LIMITS._replace(max_recovery_time=5000.0, fit="window")
    delays = [150.0] * 192 + [5000.0] * 3
    records: list[Record] = [Sample(T + 10.0 * i, delay) for i, delay in enumerate(delays)]
    records[64:192] = [r._replace(error="status-unreadable") for r in records[64:192] if isinstance(r, Sample)]
    records.insert(64, JobLine(T + 640.0, "b", "backup", T + 600.0, T + 639.0))
    numbered = [*enumerate(records, 1)]
    at_once, one_by_one = Fold(limits), Fold(limits)
    for start in range(0, len(numbered), 64):
        add(at_once, numbered[start : start + 64])
    for number, record in numbered:
        one_by_one.add(record, number)
    assert one_by_one.verdict(one_by_one.clock).condition == "backup-recovery-window"
    assert at_once.dump() == one_by_one.dump()
