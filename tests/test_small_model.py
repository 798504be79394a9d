"""Every order of events of a small model: a few samples, a few job lines, and nothing left to chance.

Samples are ten seconds apart and limits a tick or two, so that every budget can be opened, spent, refunded (if it could
be) and outlived within the tree. A branch ends where the episode has had its CRITICAL, for all that could follow
within it is less than what was already promised; branches that stay quiet are followed to the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import pytest
from adversary import Account, clone

from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State, Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Sample

TICK = 10.0
DEPTH = int(os.environ.get("SMALL_MODEL_DEPTH", "4"))
"""Samples in a row, where all job lines are tried at each of them: one more takes six times as long."""
BASE = Limits(
    max_backup_behind=TICK,
    max_deshard_behind=TICK,
    min_delay_time=100.0,
    max_delay_time=200.0,
    max_recovery_time=0.0,
    max_trend_time=0.0,
    max_seconds_behind=1000.0,
    window=60.0,
)

Lines = Callable[[float], list[JobLine]]
Sampling = Callable[[float, float], Sample]

WRITES: dict[str, Lines] = {
    "nothing": lambda _: [],
    "start backup": lambda now: [JobLine(now, "a", "backup", now)],
    "finish backup": lambda now: [JobLine(now, "a", None, None, now)],
    "backup done": lambda now: [JobLine(now, f"done{now}", "backup", now, now)],
    "start deshard": lambda now: [JobLine(now, "d", "deshard", now)],
    "both again": lambda now: [JobLine(now, "a", "backup", now), JobLine(now, "d", "deshard", now)],
    "void": lambda now: [JobLine(now, "a", void=True), JobLine(now, "d", void=True)],
}
"""What a writer of jobs may do before a sample."""

SAMPLES: dict[str, Sampling] = {
    "in": lambda t, _: Sample(t, 150.0),
    "out": lambda t, _: Sample(t, 230.0),
    "falling": lambda t, delay: Sample(t, delay - 4.0),
    "stopped": lambda t, _: Sample(t, 150.0, io="No"),
    "failed": lambda t, _: Sample(t, None, "server-down"),
    "broken": lambda t, _: Sample(t, None, "timeout"),
}
"""What may be seen."""


class Node(NamedTuple):
    fold: Fold
    account: Account
    now: float
    delay: float
    way: tuple[str, ...]


def start(limits: Limits, prefix: Sequence[float]) -> Node:
    fold, account = Fold(limits), Account(limits)
    now = 1e6
    for delay in prefix:
        now += TICK
        sample = Sample(now, delay)
        fold.add(sample)
        account.follow(sample, fold.verdict(now))
    return Node(fold, account, now, prefix[-1], ())


def step(node: Node, write: str, seen: str, after: float = TICK) -> tuple[Node, Verdict]:
    fold, account = clone(node.fold), node.account.clone()
    for line in WRITES[write](node.now):
        fold.add(line)
    sample = SAMPLES[seen](node.now + after, node.delay)
    fold.add(sample)
    verdict = fold.verdict(sample.t)
    way = (*node.way, f"{write}, {seen}: {verdict.state.name} {verdict.condition}")
    try:
        account.follow(sample, verdict)
    except AssertionError as error:
        raise AssertionError(f"{error}\n" + "\n".join(way)) from None
    delay = sample.delay if sample.delay is not None else node.delay
    return Node(fold, account, sample.t, delay, way), verdict


def explore(
    root: Node, writes: Sequence[str], seen: Sequence[str], depth: int, after: Sequence[float] = (TICK,)
) -> tuple[int, int]:
    """Every path of that depth through the model, but for what follows a CRITICAL: (samples, longest quiet path)."""
    count = quiet = 0
    open_nodes = [root]
    for so_far in range(depth):
        following = []
        for node, write, sample, gap in product(open_nodes, writes, seen, after):
            count += 1
            then, verdict = step(node, write, sample, gap)
            if verdict.state != State.CRITICAL:
                following.append(then)
        open_nodes = following
        if following:
            quiet = so_far + 1
    return count, quiet


LIMITS = {
    "nothing lasts": BASE,
    "backup lasts": BASE._replace(max_backup_behind=2 * TICK),
    "recovery lasts": BASE._replace(max_recovery_time=TICK),
    "trend lasts": BASE._replace(max_trend_time=TICK),
    "server may stop": BASE._replace(job_stops_server=("backup",), max_recovery_time=TICK),
}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_every_order_of_job_lines_on_a_line_that_stays_out(limits: Limits) -> None:
    root = start(limits, [150.0] * 3)
    count, quiet = explore(root, list(WRITES), ["out"], DEPTH)
    assert count > 200
    assert quiet >= 3  # the bound is not only kept: what is granted is granted


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_every_order_of_samples_under_jobs(limits: Limits) -> None:
    root = start(limits, [150.0] * 3)
    assert explore(root, ["nothing", "start backup", "backup done"], list(SAMPLES), 3)[0] > 500


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_every_order_of_job_lines_from_a_line_that_recovers(limits: Limits) -> None:
    root = start(limits._replace(max_trend_time=5 * TICK), [260.0 - 4.0 * i for i in range(6)])
    assert explore(root, list(WRITES), ["falling", "out"], 4)[0] > 100


def test_every_order_of_gaps_and_steps_back() -> None:
    root = start(LIMITS["backup lasts"], [150.0] * 3)
    writes = ["nothing", "start backup", "backup done", "both again"]
    assert explore(root, writes, ["out", "failed"], 3, after=(0.0, TICK, 30.0, -1.0))[0] > 500
