"""How far a fitted line can be trusted: confidence intervals, and a second opinion. Imports scipy where it needs it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt
from typing import NamedTuple

from check_delayed_repl.judge.trend import Point

CONFIDENCE = 0.95
MOST_COMPARED = 500
"""Theil-Sen looks at every pair of samples: more of them than this are thinned out first."""
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
    """The slope through points at three or more distinct times. Raises ImportError where scipy is not installed."""
    from scipy import stats

    x, y = _centred(points)
    line = stats.linregress(x, y)
    slope = float(line.slope)
    half = float(line.stderr) * _quantile(len(points))
    low, high = slope - half, slope + half
    step = -(-len(points) // MOST_COMPARED)
    other, other_low, other_high, *_ = _theil_sen(x[::step], y[::step])
    agree = abs(other - slope) <= SAME_SLOPE or (low <= other <= high and other_low <= slope <= other_high)
    return Certainty(slope, low, high, None if agree or not isfinite(other) else other)


def _theil_sen(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """(slope, low, high)"""
    from scipy import stats

    found = stats.theilslopes(y, x, CONFIDENCE)
    return float(found[0]), float(found[2]), float(found[3])


def crossing(points: Sequence[Point], bound: float) -> Spread:
    """When the line through points may cross `bound` (seconds of delay), by Fieller's method.

    Where the slope might as well be none, there is no telling: both ends are None. Raises ImportError as above.
    """
    x, y = _centred(points)
    n = len(points)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    sxx = sum((v - mean_x) ** 2 for v in x)
    sxy = sum((v - mean_x) * (w - mean_y) for v, w in zip(x, y, strict=True))
    slope = sxy / sxx
    left = sum((w - mean_y - slope * (v - mean_x)) ** 2 for v, w in zip(x, y, strict=True))
    scatter = _quantile(n) ** 2 * left / (n - 2)
    a = slope * slope - scatter / sxx
    if a <= 0:
        return Spread(None, None)
    # Where the line's confidence band meets the bound: (off + slope u)² = scatter (1/n + u²/sxx), u from the mean.
    off = mean_y - (bound - points[0][1])
    root = sqrt(max(0.0, off * off * scatter / sxx + a * scatter / n))
    ends = sorted(((-off * slope - root) / a, (-off * slope + root) / a))
    base = points[-1][0] + mean_x
    return Spread(base + ends[0], base + ends[1])


def _centred(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Times from the last one, delays from the first one's: large numbers would cost digits."""
    t_end, base = points[-1][0], points[0][1]
    return [t - t_end for t, _ in points], [d - base for _, d in points]


def _quantile(n: int) -> float:
    """Student's t, two-sided, for a line through n points."""
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 2))
