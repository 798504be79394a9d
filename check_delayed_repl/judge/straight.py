"""Straight lines through samples, and what is noise around them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

from check_delayed_repl.judge.outcome import Trend

Point = tuple[float, float]
"""(t, delay), seconds both."""
MIN_TOLERANCE = 3.0
"""Seconds off the line that are noise however quiet the line: a heartbeat a second, read at any moment of it."""
NOISE_WIDTH = 4.5
"""Standard deviations of noise that are still noise."""
LEAST_JITTER = 1.0
JITTER_WIDTH = 2.5
"""Seconds, and standard deviations of noise, that one sample lies above the true delay at most, or nearly so."""
MIN_NOISE_SAMPLES = 7
"""One wild sample spoils three of these, which must not be half of them."""
BEND_SHARE = 0.2
"""Of the window: how long a line must go on after a bend: two trials, so that no dip or spike passes for one."""
MIN_BEND = 20.0
"""How much better than one line two must be, as an F statistic, for a stretch to be cut: noise alone reaches 12 once in
a thousand windows."""
QUIETEST = 0.1
"""Seconds: no line is so quiet that less than this is a bend."""


def least_squares(points: Sequence[Point]) -> Trend:
    """The line through points at two or more distinct times, as scipy.stats.linregress has it, x = 0 at the last."""
    n = len(points)
    t_end = points[-1][0]
    base = points[0][1]
    mean_x = sum([t - t_end for t, _ in points]) / n
    mean_y = sum([d - base for _, d in points]) / n
    sxx = sxy = syy = 0.0
    for t, d in points:
        x = t - t_end - mean_x
        y = d - base - mean_y
        sxx += x * x
        sxy += x * y
        syy += y * y
    span = t_end - points[0][0]
    if sxx <= 0.0 or not any(d != base for _, d in points):
        return Trend(0.0, base + mean_y, 0.0, n, span)
    slope = sxy / sxx
    scale = sqrt(sxx) * sqrt(syy)
    correlation = max(-1.0, min(1.0, sxy / scale)) if scale > 0 else 0.0
    return Trend(slope, base + mean_y - slope * mean_x, correlation, n, span)


class Line:
    """A stretch's running least-squares sums, so that one more sample costs the same however long the stretch."""

    __slots__ = ("n", "sx", "sy", "sxx", "sxy", "t0", "d0")

    def __init__(self, points: Sequence[Point]) -> None:
        self.t0, self.d0 = points[0]
        self.n = 1
        self.sx = self.sy = self.sxx = self.sxy = 0.0
        for t, d in points[1:]:
            self.add(t, d)

    def add(self, t: float, d: float) -> None:
        x = t - self.t0
        y = d - self.d0
        self.n += 1
        self.sx += x
        self.sy += y
        self.sxx += x * x
        self.sxy += x * y

    def at(self, t: float) -> tuple[float, float, float]:
        """(delay that the line foretells at t, its slope, how much wider than the noise that guess is)."""
        n = self.n
        spread = self.sxx - self.sx * self.sx / n
        if spread <= 0.0:
            return self.d0 + self.sy / n, 0.0, inf
        slope = (self.sxy - self.sx * self.sy / n) / spread
        x = t - self.t0 - self.sx / n
        return self.d0 + self.sy / n + slope * x, slope, sqrt(1.0 + 1.0 / n + x * x / spread)


def noise_of(points: Sequence[Point], fall: float = inf) -> float:
    """Standard deviation of the jitter: how far samples lie from between their neighbours, so that breaks, being few,
    do not count; nor do falls by more than `fall` from one sample to the next."""
    apart = []
    for (t0, d0), (t1, d1), (t2, d2) in zip(points, points[1:], points[2:], strict=False):
        if t2 > t0 and d0 - d1 <= fall and d1 - d2 <= fall:
            w = (t1 - t0) / (t2 - t0)
            apart.append(abs(d1 - d0 - w * (d2 - d0)) / sqrt(1.0 + w * w + (1.0 - w) * (1.0 - w)))
    if len(apart) < MIN_NOISE_SAMPLES:
        return 0.0
    apart.sort()
    return 1.4826 * apart[len(apart) // 2]


def tolerance_of(noise: float) -> float:
    """Seconds off the line that are noise."""
    return max(MIN_TOLERANCE, NOISE_WIDTH * noise)


def jitter_of(noise: float) -> float:
    """Seconds that one sample lies above the true delay at most, or nearly so."""
    return max(LEAST_JITTER, JITTER_WIDTH * noise)


def _residuals(points: Sequence[Point], trend: Trend) -> list[float]:
    """Seconds by which each lies above the line through all of them."""
    slope, intercept = trend.slope or 0.0, trend.intercept or 0.0
    t_end = points[-1][0]
    return [d - intercept - slope * (t - t_end) for t, d in points]


def is_straight(points: Sequence[Point], tolerance: float) -> bool:
    if points[0][0] == points[-1][0]:
        return True
    return all(abs(off) <= tolerance for off in _residuals(points, least_squares(points)))


def straight_end(points: Sequence[Point], tolerance: float) -> list[Point]:
    """The longest straight run of samples that ends with the newest."""
    line = Line(points[-1:])
    start = len(points) - 1
    while start > 0:
        t, d = points[start - 1]
        foretold, _, width = line.at(t)
        if abs(d - foretold) > tolerance * width:
            break
        line.add(t, d)
        start -= 1
    return list(points[start:])


def after_bend(points: Sequence[Point], window: float) -> Sequence[Point]:
    """What follows the stretch's last bend, where it has one that a trial's time confirms; all of it otherwise."""
    n = len(points)
    if n < 8:
        return points
    t_end, base = points[-1][0], points[0][1]
    sums = [(0.0, 0.0, 0.0, 0.0, 0.0)]
    sx = sy = sxx = sxy = syy = 0.0
    for t, d in points:
        x, y = t - t_end, d - base
        sx, sy, sxx, sxy, syy = sx + x, sy + y, sxx + x * x, sxy + x * y, syy + y * y
        sums.append((sx, sy, sxx, sxy, syy))

    def left_over(start: int, end: int) -> float:
        """Sum of the squared residuals of the line through points[start:end]."""
        m = end - start
        (ax, ay, axx, axy, ayy), (bx, by, bxx, bxy, byy) = sums[start], sums[end]
        x, y = bx - ax, by - ay
        vx = bxx - axx - x * x / m
        cov = bxy - axy - x * y / m
        vy = byy - ayy - y * y / m
        return max(0.0, vy - cov * cov / vx) if vx > 0 else max(0.0, vy)

    whole = left_over(0, n)
    if whole / n <= QUIETEST * QUIETEST:
        return points
    best, cut = whole, 0
    for k in range(3, n - 3):
        if t_end - points[k][0] < BEND_SHARE * window:
            break
        parts = left_over(0, k) + left_over(k, n)
        if parts < best:
            best, cut = parts, k
    spread = max(best / (n - 4), QUIETEST * QUIETEST)
    if cut and (whole - best) / 2.0 > MIN_BEND * spread:
        return points[cut:]
    return points


def slope_error_of(points: Sequence[Point], trend: Trend, noise: float) -> float:
    n = len(points)
    t_end = points[-1][0]
    mean_x = sum([t - t_end for t, _ in points]) / n
    sxx = sum([(t - t_end - mean_x) ** 2 for t, _ in points])
    left = sum([off**2 for off in _residuals(points, trend)])
    deviation = max(noise, sqrt(left / (n - 2)))
    return deviation / sqrt(sxx) if sxx > 0.0 else inf


def rank_correlation(values: Sequence[float]) -> float:
    """Spearman's, of values with their order: a fall is a fall, whether a slope or a cliff."""
    n = len(values)
    order = sorted(range(n), key=values.__getitem__)
    ranks = [0.0] * n
    i = 0
    while i < n:
        j = i
        while j + 1 < n and values[order[j + 1]] == values[order[i]]:
            j += 1
        for k in order[i : j + 1]:
            ranks[k] = (i + j) / 2.0
        i = j + 1
    return least_squares([(float(k), rank) for k, rank in enumerate(ranks)]).correlation or 0.0
