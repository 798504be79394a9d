"""The promises about the trend, one family of random lines for each.

A line is a true delay as a function of time. It is sampled every 10 s, as a heartbeat with up to 1.5 s of jitter shows
it, and judged at every sample under the default limits. What is promised of a line stands beside what draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random
from typing import NamedTuple

from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State, Trend
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Sample

LIMITS = Limits()
LOW, HIGH = LIMITS.min_delay_time, LIMITS.max_delay_time
EVERY = 10.0
"""Seconds between two samples."""
JITTER = 1.5
"""Seconds by which a heartbeat may show a delay wrongly."""
CALM_MARGIN = 10.0
"""Seconds inside the bounds that a line in range is at least."""
SETTLED = 120.0
"""Seconds in which the judge may make out a line's slope that it has never seen before."""


class Judged(NamedTuple):
    """One sample of a line, and its verdict."""

    t: float
    delay: float
    state: State
    condition: str
    trend: Trend


class Line(NamedTuple):
    drawn: str
    """What was drawn, in words: enough to tell what is special about it."""
    delay: Callable[[float], float]
    """The true delay at a time, both in seconds."""
    end: float
    """Samples are taken from 0 to here."""
    broken: Callable[[list[Judged]], Judged | None]
    """The first sample at which the row's promise is broken; None where it is kept."""
    wild: tuple[int, float] | None = None
    """A sample's number, and the value that stands there in place of the delay."""
    start: float = 0.0


class Row(NamedTuple):
    title: str
    promise: str
    draw: Callable[[Random], Line]


class Failure(NamedTuple):
    number: int
    drawn: str
    broken: Judged


def jitters(rng: Random) -> Callable[[float], float]:
    """One of the ways in which the delay that heartbeats show differs from the true one, in seconds, by time.

    All have a mean of nothing: a heartbeat that is always late by the same is a part of the delay.
    """
    way = rng.randrange(5)
    if way == 0:
        return lambda _: rng.uniform(-JITTER / 2.0, JITTER / 2.0)
    if way == 1:
        return lambda _: rng.uniform(-JITTER, JITTER)
    if way == 2:
        return lambda _: rng.choice((-JITTER / 2.0, JITTER / 2.0))
    if way == 3:
        return lambda _: max(-JITTER, min(JITTER, rng.gauss(0.0, JITTER / 3.0)))
    # A heartbeat a second, and samples that drift through that second: a saw-tooth of its own.
    phase, drift = rng.random(), rng.uniform(0.001, 0.05)
    return lambda t: (phase + t / EVERY * drift) % 1.0 - 0.5 + rng.uniform(-0.25, 0.25)


def judge(line: Line, seed: str, with_wild: bool = True) -> list[Judged]:
    """The line's samples, and what the judge says at each of them."""
    rng = Random(seed)
    jitter = jitters(rng)
    fold = Fold(LIMITS)
    judged: list[Judged] = []
    t = line.start + rng.uniform(0.0, EVERY)
    while t < line.end:
        delay = line.delay(t) + jitter(t)
        if with_wild and line.wild is not None and len(judged) == line.wild[0]:
            delay = line.wild[1]
        fold.add(Sample(t, delay))
        verdict = fold.verdict(t)
        judged.append(Judged(t, delay, verdict.state, verdict.condition, verdict.trend))
        t += EVERY
    return judged


def run(name: str, lines: int) -> Iterator[Failure]:
    """Draws that many lines of a row and yields those whose promise was broken."""
    row = ROWS[name]
    for number in range(lines):
        seed = f"{name}/{number}"
        line = row.draw(Random(seed))
        judged = judge(line, seed)
        if line.wild is None:
            broken = line.broken(judged)
        else:
            broken = _disturbed(judged, judge(line, seed, with_wild=False), line.wild[0])
        if broken is not None:
            yield Failure(number, line.drawn, broken)


def _first(judged: list[Judged], wrong: Callable[[Judged], bool]) -> Judged | None:
    return next((j for j in judged if wrong(j)), None)


def _disturbed(judged: list[Judged], calm: list[Judged], wild: int) -> Judged | None:
    for i, (with_it, without) in enumerate(zip(judged, calm, strict=True)):
        if with_it[2:4] != without[2:4] and not wild <= i <= wild + 2:
            return with_it
    return None


def _ok(judged: list[Judged]) -> Judged | None:
    return _first(judged, lambda j: j.state != State.OK)


def _critical(since: float, until: float) -> Callable[[list[Judged]], Judged | None]:
    """The promise that it is told between these times, and from then on."""

    def broken(judged: list[Judged]) -> Judged | None:
        in_time = [j for j in judged if since <= j.t <= until]
        if not any(j.state == State.CRITICAL for j in in_time):
            return in_time[-1]
        return _first(judged, lambda j: j.t >= until and j.state != State.CRITICAL)

    return broken


def _in_range(rng: Random, room_above: float = 0.0) -> float:
    """A delay in range, often just so; with room above it for what the line adds."""
    low, high = LOW + CALM_MARGIN, HIGH - CALM_MARGIN - room_above
    return rng.choice((low, high, rng.uniform(low, high)))


# --- calm lines


def quiet(rng: Random) -> Line:
    base = _in_range(rng)
    return Line(f"at {base:.1f}", lambda _: base, 1500.0, _ok)


def saw_tooth(rng: Random) -> Line:
    height = rng.choice((60.0, rng.uniform(5.0, 60.0)))
    base = _in_range(rng, height)
    rise = rng.choice((height, rng.uniform(height, 4.0 * height)))
    rest = rng.choice((0.0, rng.uniform(0.0, 120.0)))
    fall = rng.choice((0.5, rng.uniform(0.5, 10.0)))
    period = rise + fall + rest
    phase = rng.uniform(0.0, period)

    def delay(t: float) -> float:
        x = (t + phase) % period
        if x < rise:
            return base + height * x / rise
        return base + max(0.0, height * (1.0 - (x - rise) / fall))

    return Line(f"{height:.1f} s high from {base:.1f}, rises for {rise:.0f} s, rests {rest:.0f} s", delay, 1500.0, _ok)


# --- dips and spikes


def _bump(rng: Random, room: float) -> tuple[Callable[[float], float], str]:
    """A dip or spike: what it adds at a time, and words. A line that rises by itself leaves a dip `room` s/s to come
    back with."""
    begin = rng.uniform(700.0, 760.0)
    lasts = rng.choice((60.0, rng.uniform(5.0, 60.0)))
    if rng.random() < 0.5:
        depth = rng.choice((1.0, rng.uniform(0.3, 1.0))) * lasts * room
        back = depth / room
        bottom = rng.choice((0.0, lasts - back))

        def dip(t: float) -> float:
            x = t - begin
            if not 0.0 <= x < lasts:
                return 0.0
            return -depth if x < bottom else -max(0.0, depth - room * (x - bottom))

        return dip, f"dip of {depth:.0f} s for {lasts:.0f} s at {begin:.0f}"
    height = rng.choice((1.0, rng.uniform(0.3, 1.0))) * lasts * room

    def spike(t: float) -> float:
        x = t - begin
        return min(height, room * x) if 0.0 <= x < lasts else 0.0

    return spike, f"spike of {height:.0f} s for {lasts:.0f} s at {begin:.0f}"


def bump_in_range(rng: Random) -> Line:
    base = _in_range(rng)
    bump, words = _bump(rng, 1.0)
    return Line(f"at {base:.1f}, {words}", lambda t: base + bump(t), 1500.0, _ok)


def bump_on_saw_tooth(rng: Random) -> Line:
    """A tooth's own rise carries a spike further up, and a dip makes a tooth rise from further down."""
    height = rng.choice((60.0, rng.uniform(20.0, 60.0)))
    base = _in_range(rng, height)
    interval = rng.choice((60.0, rng.uniform(height, 1.3 * height)))
    phase = rng.uniform(0.0, interval)
    begin = rng.uniform(700.0, 760.0)
    lasts = rng.choice((50.0, rng.uniform(5.0, 50.0)))
    speed = rng.choice((5.0, 20.0, 100.0))
    stops = rng.random() < 0.5

    def tooth(t: float) -> float:
        return base + height * ((t + phase) % interval) / interval

    # A spike: nothing is applied, and then all of it at some speed. A dip: too much is applied, and then nothing.
    top = tooth(begin)

    def delay(t: float) -> float:
        x = t - begin
        if x < 0.0:
            return tooth(t)
        if not stops:
            return min(tooth(t), max(base + height, tooth(t)) - lasts + x) if x < lasts else tooth(t)
        return top + x if x < lasts else max(tooth(t), top + lasts - speed * (x - lasts))

    words = (
        f"teeth of {height:.0f} s in {interval:.0f} s, {'spike' if stops else 'dip'} of {lasts:.0f} s at {begin:.0f}"
    )
    return Line(words, delay, 1500.0, _ok)


def lost_from_saw_tooth(rng: Random) -> Line:
    """The SQL thread stops, or whatever stops it dies, on a line of teeth."""
    height = rng.choice((60.0, rng.uniform(20.0, 60.0)))
    base = _in_range(rng, height)
    phase = rng.uniform(0.0, height)
    begin = rng.uniform(700.0, 760.0)
    stops = rng.random() < 0.5
    speed = 1.0 if stops else -rng.choice((1.0, 5.0, 100.0, 1e6))

    def tooth(t: float) -> float:
        return base + (t + phase) % height

    start = tooth(begin)
    crossing = begin + ((HIGH if stops else LOW) - start) / speed

    def delay(t: float) -> float:
        return tooth(t) if t < begin else max(0.0, start + speed * (t - begin))

    words = f"teeth of {height:.0f} s from {base:.1f}, then {speed:g} s/s at {begin:.0f}, crosses at {crossing:.0f}"
    broken = _critical(crossing - EVERY, crossing + 65.0)
    return Line(words, delay, crossing + 400.0, broken, start=max(0.0, crossing - 2500.0))


def bump_while_recovering(rng: Random) -> Line:
    if rng.random() < 0.5:
        slope, start = -rng.uniform(0.15, 1.0), HIGH + 2000.0
    else:
        slope, start = rng.uniform(0.15, 0.6), LOW - 1500.0
    bump, words = _bump(rng, 1.0 - max(0.0, slope))

    def broken(judged: list[Judged]) -> Judged | None:
        return _first(judged, lambda j: j.t >= SETTLED and j.state == State.CRITICAL)

    return Line(f"slope {slope:.3f}, {words}", lambda t: start + slope * t + bump(t), 1500.0, broken)


# --- one wild sample


def wild(rng: Random) -> Line:
    way = rng.choice(("in range", "at the edge", "saw-tooth", "recovering", "out above", "out below"))
    base = {"in range": 7200.0, "at the edge": rng.choice((LOW + CALM_MARGIN, HIGH - CALM_MARGIN))}.get(way, 7200.0)
    slope = 0.0
    if way == "recovering":
        base, slope = HIGH + 2000.0, -rng.uniform(0.2, 1.0)
    elif way == "out above":
        base = HIGH + rng.choice((200.0, rng.uniform(5.0, 3000.0)))
    elif way == "out below":
        base = LOW - rng.choice((200.0, rng.uniform(5.0, 3000.0)))
    tooth = rng.uniform(10.0, 60.0) if way == "saw-tooth" else 0.0
    anything = (0.0, rng.uniform(0.0, 1e5), 1e9)
    value = rng.choice((*anything, base + rng.uniform(-300.0, 300.0), base + rng.uniform(-30, 30)))
    number = rng.choice((rng.randrange(10), rng.randrange(120)))

    def delay(t: float) -> float:
        return base + slope * t + (t % tooth if tooth else 0.0)

    return Line(f"{way}, sample {number} is {value:.1f}", delay, 1300.0, lambda _: None, (number, value))


# --- the line comes back, or is lost


def cliff(rng: Random) -> Line:
    begin = rng.uniform(700.0, 760.0)
    before = rng.choice(("recovering", "critical", "in range"))
    top = rng.uniform(LOW + 500.0, HIGH - CALM_MARGIN) if before == "in range" else HIGH + rng.uniform(800.0, 40000.0)
    slope = {"recovering": -rng.uniform(0.15, 1.0), "critical": 1.0, "in range": 0.0}[before]
    ceiling = top if before == "in range" else HIGH - CALM_MARGIN
    bottom = rng.uniform(LOW + CALM_MARGIN, ceiling)
    lasts = rng.choice((1.0, rng.uniform(5.0, 60.0)))
    curve = rng.choice((1.0, 2.0, 0.5))

    def delay(t: float) -> float:
        if t < begin:
            return top + slope * (t - begin)
        if t < begin + lasts:
            return top + (bottom - top) * float(((t - begin) / lasts) ** curve)
        return bottom

    def broken(judged: list[Judged]) -> Judged | None:
        for earlier, j in pairwise(judged):
            if j.state == State.CRITICAL != earlier.state and j.t >= SETTLED:
                return j
        return _first(judged, lambda j: j.t >= begin + lasts + 120.0 and j.state != State.OK)

    words = f"{before}, from {top:.0f} to {bottom:.0f} in {lasts:.0f} s (power {curve:g}) at {begin:.0f}"
    return Line(words, delay, 1500.0, broken)


def lost(rng: Random) -> Line:
    begin = rng.uniform(700.0, 760.0)
    out_by = rng.choice((rng.uniform(4.0, 60.0), rng.uniform(61.5, 3000.0)))
    far = out_by > 60.0
    base = rng.choice((LOW + CALM_MARGIN, HIGH - CALM_MARGIN, rng.uniform(LOW + CALM_MARGIN, HIGH - CALM_MARGIN)))
    if rng.random() < 0.6:
        speed = rng.choice((1e6, 10.0 ** rng.uniform(-0.5, 2.0)))
        bound, way = LOW, -1.0
    else:
        speed = rng.choice((1.0, rng.uniform(0.3, 1.0)))
        bound, way = HIGH, 1.0
    goal = bound + way * out_by
    crossing = begin + abs(base - bound) / speed
    # From here on: where the line ends far out, from when it is a minute's delay out, jitter included.
    since = begin + (abs(base - bound) + 60.0 + JITTER) / speed if far else crossing
    limit = since + (60.0 if far else 80.0)

    def delay(t: float) -> float:
        return base if t < begin else way * min(way * goal, way * base + speed * (t - begin))

    words = f"from {base:.0f} to {out_by:.1f} s {'above' if way > 0 else 'below'} at {speed:.2f} s/s, at {begin:.0f}"
    return Line(words, delay, limit + 400.0, _critical(crossing - EVERY, limit))


def drained(rng: Random) -> Line:
    """All that waits is applied at once, between two samples, and the line grows again by a second a second."""
    begin = rng.uniform(700.0, 760.0)
    above = rng.random() < 0.3
    base = HIGH + rng.uniform(100.0, 20000.0) if above else _in_range(rng)
    slope = -rng.uniform(0.2, 1.0) if above else 0.0
    bottom = rng.choice((0.0, 0.0, rng.uniform(0.0, LOW - 200.0)))
    lasts = rng.choice((0.1, 2.0, rng.uniform(0.1, 10.0)))
    since, until = begin + 60.0, begin + 1.5 * LIMITS.window

    def delay(t: float) -> float:
        if t < begin:
            return base + slope * (t - begin)
        return bottom + max(0.0, t - begin - lasts)

    def broken(judged: list[Judged]) -> Judged | None:
        return _first(
            judged,
            lambda j: (
                (since <= j.t <= until and delay(j.t) < LOW - 5.0 and j.state != State.CRITICAL)
                or (j.t >= until + 120.0 and delay(j.t) < LOW - 30.0 and j.condition != "recovering-below-minimum")
            ),
        )

    words = f"from {base:.0f} to {bottom:.0f} in {lasts:.1f} s at {begin:.0f}, then growing"
    return Line(words, delay, until + 400.0, broken)


def leak(rng: Random) -> Line:
    rate = rng.choice((0.01, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.1, 0.2, 0.5, 1.0))
    down = rng.random() < 0.5 and rate < 1.0
    gap = rng.uniform(10.0, 60.0 if rate < 0.1 else 400.0)
    begin = 700.0
    crossing = begin + gap / rate
    base, way = (LOW + gap, -1.0) if down else (HIGH - gap, 1.0)

    def delay(t: float) -> float:
        return base + way * rate * max(0.0, t - begin)

    def broken(judged: list[Judged]) -> Judged | None:
        first = _first(judged, lambda j: j.state == State.CRITICAL)
        if first is None:
            return judged[-1]
        if not crossing - 60.0 <= first.t <= crossing + 60.0:
            return first
        return _first(judged, lambda j: j.t > first.t and j.state != State.CRITICAL)

    words = f"{rate} s/s {'down' if down else 'up'} from {gap:.1f} s inside, crosses at {crossing:.0f}"
    return Line(words, delay, crossing + 600.0, broken, start=max(0.0, crossing - 2500.0))


# --- slopes


def turn(rng: Random) -> Line:
    at = rng.uniform(700.0, 760.0)
    if rng.random() < 0.6:
        away = rng.choice((1.0, rng.uniform(0.15, 1.0)))
        towards = -rng.choice((rng.uniform(0.15, 1.0), rng.uniform(1, 8)))
        base, room = HIGH + 9000.0, 9000.0
    else:
        away = -rng.choice((rng.uniform(0.15, 1.0), rng.uniform(1, 3)))
        towards = rng.choice((1.0, rng.uniform(0.15, 1.0)))
        base, room = LOW - 600.0, 600.0
    back = rng.random() < 0.5
    first, then = (away, towards) if back else (towards, away)
    end = min(at + 400.0, at + room / abs(towards) - 5.0) if back else at + 400.0
    wanted = State.WARNING if back else State.CRITICAL
    other = State.CRITICAL if back else State.WARNING

    def delay(t: float) -> float:
        return base + (first if t < at else then) * (t - at)

    def broken(judged: list[Judged]) -> Judged | None:
        return _first(
            judged,
            lambda j: (
                (j.t >= at + 120.0 and j.state != wanted)
                or (max(150.0, start + 150.0) < j.t < at and not LOW <= delay(j.t) <= HIGH and j.state != other)
            ),
        )

    # A line that fell below its range while it was watched has been drained: another row.
    start = at - room * 0.9 / abs(away) if back and base < LOW else 0.0
    words = f"from {first:.2f} to {then:.2f} s/s at {at:.0f}, at a delay of {base:.0f}"
    return Line(words, delay, end, broken, start=max(0.0, start))


def ragged(rng: Random) -> Line:
    top = HIGH + rng.uniform(5000.0, 40000.0)
    speed = rng.choice((rng.uniform(1.5, 5.0), rng.uniform(5.0, 60.0)))
    corners = [(0.0, top), (120.0, top - 120.0)]
    while corners[-1][0] < 3000.0 and corners[-1][1] > HIGH + 200.0:
        t, y = corners[-1]
        rises = rng.uniform(5.0, 60.0)
        corners.append((t + rises, y + rises))
        falls_by = speed * rng.uniform(0.7, 1.4)
        falls = max(rng.uniform(20.0, 200.0), 1.3 * rises / falls_by)
        corners.append((t + rises + falls, y + rises - falls_by * falls))
    end = next((t for t, y in corners if y < HIGH + 100.0), corners[-1][0])

    def delay(t: float) -> float:
        for (t0, y0), (t1, y1) in pairwise(corners):
            if t0 <= t < t1:
                return y0 + (y1 - y0) * (t - t0) / (t1 - t0)
        return corners[-1][1]

    def broken(judged: list[Judged]) -> Judged | None:
        return _first(judged, lambda j: j.t >= SETTLED and delay(j.t) > HIGH + 5.0 and j.state != State.WARNING)

    return Line(f"falls at about {speed:.1f} s/s from {top:.0f}", delay, end, broken)


ROWS = {
    "quiet": Row("quiet, in range", "OK, always", quiet),
    "saw-tooth": Row("pt-slave-delay's saw-tooth of up to 60 s, in range", "OK, always", saw_tooth),
    "bump-in-range": Row("a dip or spike of up to 60 s, in range", "OK throughout", bump_in_range),
    "bump-on-saw-tooth": Row("a dip or spike of up to a minute on a saw-tooth", "OK throughout", bump_on_saw_tooth),
    "bump-recovering": Row("a dip or spike of up to 60 s, while recovering", "never CRITICAL", bump_while_recovering),
    "wild": Row("one wild sample", "disturbs at most three verdicts", wild),
    "cliff": Row("a cliff back into range", "never worse; OK again within 120 s", cliff),
    "lost": Row("the line is lost", "CRITICAL within 60 s, or 80 s where it is just out", lost),
    "lost-from-saw-tooth": Row("a saw-tooth is lost", "CRITICAL within 65 s", lost_from_saw_tooth),
    "drained": Row("drained between two samples", "CRITICAL within 60 s, for one and a half windows", drained),
    "leak": Row("a leak, or a stopped SQL thread, across a bound", "CRITICAL within 60 s, no flapping", leak),
    "turn": Row("the slope turns, out of bounds", "recognised within 120 s", turn),
    "ragged": Row("a ragged catch-up", "recovering", ragged),
}
"""The name of each row on the command line → the row."""
