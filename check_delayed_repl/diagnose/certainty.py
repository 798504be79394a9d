"""How far a fitted line can be trusted: confidence intervals, and a second opinion. Imports scipy where it needs it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import NamedTuple

from check_delayed_repl.judge.trend import Point

CONFIDENCE = 0.95
MOST_COMPARED = 500
"""Theil-Sen compares every pair of samples: more of them than this are thinned out first."""
SAME_SLOPE = 0.01
"""s/s: two slopes that differ by less agree, for nobody would do anything else."""


class Certainty(NamedTuple):
    """What is known of a slope, all in seconds of delay per second."""

    slope: float
    """Least squares."""
    low: float
    high: float
    """The confidence interval of that."""
    theil_sen: float | None
    """The median of the slopes between any two samples, where it disagrees: then a few samples bend the line."""


class Spread(NamedTuple):
    """When a line crosses a bound, with CONFIDENCE; times in seconds since 1970, None where there is no end to it."""

    earliest: float | None
    latest: float | None


def certainty(points: Sequence[Point]) -> Certainty:
    """The slope through points at three or more distinct times."""
    from scipy import stats

    # From the last time and the first delay: large numbers would cost digits.
    x, y = [t - points[-1][0] for t, _ in points], [d - points[0][1] for _, d in points]
    line = stats.linregress(x, y)
    slope = float(line.slope)
    half = float(line.stderr) * _quantile(len(points))
    step = -(-len(points) // MOST_COMPARED)
    other, _, other_low, other_high = map(float, stats.theilslopes(y[::step], x[::step], CONFIDENCE))
    agree = abs(other - slope) <= SAME_SLOPE or (abs(other - slope) <= half and other_low <= slope <= other_high)
    return Certainty(slope, slope - half, slope + half, None if agree or not isfinite(other) else other)


def crossing(points: Sequence[Point], bound: float) -> Spread:
    """When the line through points may cross `bound` (seconds of delay), by Fieller's method.

    Where the slope might as well be none, there is no telling: both ends are None.
    """
    n, t_end = len(points), points[-1][0]
    x = [t - t_end for t, _ in points]
    mean_x, mean_y = sum(x) / n, sum(d for _, d in points) / n
    u, v = [t - mean_x for t in x], [d - mean_y for _, d in points]
    sxx = sum(a * a for a in u)
    slope = sum(a * b for a, b in zip(u, v, strict=True)) / sxx
    scatter = _quantile(n) ** 2 * sum((b - slope * a) ** 2 for a, b in zip(u, v, strict=True)) / (n - 2)
    a = slope * slope - scatter / sxx
    if a <= 0:
        return Spread(None, None)
    # Where the line's confidence band meets the bound: (off + slope u)² = scatter (1/n + u²/sxx), u from the mean.
    off = mean_y - bound
    root = sqrt(max(0.0, off * off * scatter / sxx + a * scatter / n))
    ends = sorted(((-off * slope - root) / a, (-off * slope + root) / a))
    return Spread(t_end + mean_x + ends[0], t_end + mean_x + ends[1])


def _quantile(n: int) -> float:
    """Student's t, two-sided, for a line through n points."""
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 2))
