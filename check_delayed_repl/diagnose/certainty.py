"""How far a fitted line can be trusted: confidence intervals, and a second opinion. Imports scipy where it needs it."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from check_delayed_repl.judge.straight import Point

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


def certainty(points: Sequence[Point]) -> Certainty:
    """The slope through points at three or more distinct times."""
    from scipy import stats

    # From the last time and the first delay: large numbers would cost digits.
    x, y = [t - points[-1][0] for t, _ in points], [d - points[0][1] for _, d in points]
    line = stats.linregress(x, y)
    slope = float(line.slope)
    half = float(line.stderr) * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(points) - 2))
    step = -(-len(points) // MOST_COMPARED)
    other, _, other_low, other_high = map(float, stats.theilslopes(y[::step], x[::step], CONFIDENCE))
    agree = abs(other - slope) <= SAME_SLOPE or (abs(other - slope) <= half and other_low <= slope <= other_high)
    return Certainty(slope, slope - half, slope + half, None if agree or not isfinite(other) else other)
