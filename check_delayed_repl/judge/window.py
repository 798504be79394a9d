"""The delays that a trend may reach back to, and the trend of those in the window at any moment."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from math import inf, sqrt

from check_delayed_repl.judge.straight import Point
from check_delayed_repl.judge.trend import NO_FIT, Fit, fit
from check_delayed_repl.limits import Limits

MIN_FITTED = 6
"""Where fewer samples than these fall in the window, it reaches back to the sixth newest..."""
MAX_REACH = 3600.0
"""...but no further than this, in seconds."""


class Window:
    """The newest delays, in order of time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.reach = max(limits.window, MAX_REACH)
        """Seconds before the newest sample that a trend may reach back to."""
        self.points: list[Point] = []
        self._fitted: tuple[Sequence[Point], Fit] = ((), NO_FIT)
        """What was fitted last, so that judging right after a sample need not fit the same samples again."""

    def add(self, t: float, delay: float) -> None:
        insort(self.points, (t, delay))

    def trim(self, horizon: float) -> None:
        """Drop what is older."""
        if self.points and self.points[0][0] < horizon:
            del self.points[: bisect_left(self.points, (horizon, -inf))]

    def at(self, now: float) -> list[Point]:
        """The samples that a trend at `now` is of."""
        points = self.points
        end = bisect_right(points, (now, inf))
        start = bisect_left(points, (now - self._limits.window, -inf), 0, end)
        if end - start < MIN_FITTED:
            reach = bisect_left(points, (now - self.reach, -inf), 0, end)
            start = max(min(start, end - MIN_FITTED), min(start, reach))
        return points[start:end]

    def fit(self, points: Sequence[Point]) -> Fit:
        """The trend of the samples of one moment, as `at` gives them."""
        if points != self._fitted[0]:
            self._fitted = (points, fit(points, self._limits.window, self._limits.fit == "segment"))
        return self._fitted[1]

    def surely_in_range(self, now: float, coming: Sequence[float] = ()) -> bool:
        """The line is in range wherever a fit through any of the window's samples may end; and so it stays at every one
        of the next samples, where these are the delays `coming`, the first of them at `now`.

        A least-squares line's end is a weighted mean of its samples, the weights' sizes adding up to no more than the
        square root of their number, see `spread`. It spares the fit where the line is calm.
        """
        # What a later window has of the delays that come is part of their range.
        delays = [*[d for _, d in self.at(now)], *coming]
        if not delays:
            return False
        # One sample alone, which a later window may have, spreads more than a few.
        ranges = max(spread(len(delays)), spread(1) if coming else 0.0)
        low, high = min(delays), max(delays)
        middle, reach = (low + high) / 2.0, (high - low) * ranges + 1e-6
        return self._limits.min_delay_time <= middle - reach and middle + reach <= self._limits.max_delay_time


def spread(samples: int) -> float:
    """How far from the middle of so many samples' range a fit's end may lie, its error included, in ranges.

    For m of them fitted that is root(m) / 2 + 4.9 / root(m) at most, which is largest for all of them or for three.
    """
    root = sqrt(samples)
    return max(4.0, root / 2.0 + 5.0 / root)
