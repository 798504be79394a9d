"""Samples of one window → the trend: the straight line through its latest straight stretch.

A delay line that catches up falls by hours within seconds, and its slope turns in an instant when the SQL thread stops
or starts. One line across such a break predicts nonsense, so the fit covers the latest straight stretch alone:

* A stretch is walked forward sample by sample, with its least-squares line and a tolerance taken from the samples'
  own noise. A sample off the line goes on trial.
* A sample back on the line ends the trial: what was off was a wild sample, a dip or a spike, and is left out.
* The samples on trial win, and the straight end of the line so far becomes the stretch, once they have lasted a tenth
  of the window, or could not be on the way back in that time any more (a delay rises at most one second a second), or
  outlast a stretch that is itself that young, or the line falls too fast to wait for. One sample alone wins only
  where nothing was sampled for long before it.
* A stretch that bends, too gently for any sample to be off, is cut at the bend.
* On a saw-tooth, each tooth of which is a stretch, the teeth's band stands for the line: samples outside it go on trial
  in the same way, for a spike on top of a tooth looks like a thread that has stopped.

Where no sample is off, all of this comes to plain least squares over the whole window.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf, sqrt

from check_delayed_repl.judge.outcome import Trend
from check_delayed_repl.judge.straight import (
    MIN_TOLERANCE,
    Line,
    Point,
    after_bend,
    is_straight,
    jitter_of,
    least_squares,
    noise_of,
    rank_correlation,
    slope_error_of,
    straight_end,
    tolerance_of,
)
from check_delayed_repl.light import NamedTuple

TRIAL_SHARE = 0.1
"""Of the window: how long samples stay on trial."""
STEEP = -1.0
"""s/s: a line that falls faster is no place to wait for samples to come back to, for it moves on too far meanwhile."""
MIN_TEETH = 3
"""So many teeth within a window make a saw-tooth of it..."""
TOOTH_SHARE = 1.2
"""...where they are no higher than this, in trials: pt-slave-delay lets a minute's changes gather."""
PAUSE_SHARE = 0.12
"""Of the window: how long a ragged line's pause, or what looks like one, may last."""
MARK_SHARE = 0.15
"""Of the window: how long one water mark lasts; longer than a trial, so that a ragged line's every pause is bridged."""


class Fit(NamedTuple):
    """What the samples of one window say."""

    trend: Trend
    end_error: float
    """Standard error of the intercept, s."""
    slope_error: float
    """Standard error of the slope, s/s; infinite where it is anybody's guess."""
    young: bool
    """The stretch is younger than a trial: its slope counts only where it is sure."""
    before: Trend
    """The last stretch before this one that was no mere pause."""
    whole: Trend
    """All of the window's samples, while the stretch may still be a mere pause."""
    low_marks: Trend
    """How the line's low-water marks move: slope and correlation over the two latest; no slope where there are none."""
    high_marks: Trend
    """The same for its high-water marks."""
    stretch: Sequence[Point]
    """The samples that the trend is of."""


NO_TREND = Trend()
NO_FIT = Fit(NO_TREND, 0.0, inf, True, NO_TREND, NO_TREND, NO_TREND, NO_TREND, ())


def fit(points: Sequence[Point], window: float, segment: bool = True) -> Fit:
    """The trend of a window's samples, in order of time; `segment` False fits them all, whatever they look like."""
    if not points:
        return NO_FIT
    noise = noise_of(points)
    before = NO_TREND
    if segment:
        points = _within_teeth(points, window, noise)
        stretch, before = _stretch(points, window, noise)
        stretch = after_bend(stretch, window)
    else:
        stretch = points
    marks = (NO_TREND, NO_TREND) if len(stretch) == len(points) else _marks(points, window)
    n, span = len(stretch), stretch[-1][0] - stretch[0][0]
    pausing = segment and n < len(points) and span < PAUSE_SHARE * window
    whole = least_squares(points) if pausing else NO_TREND
    if len({t for t, _ in stretch}) < 3:
        return Fit(Trend(None, points[-1][1], None, n, span), 0.0, inf, True, before, whole, *marks, stretch)
    trend = least_squares(stretch)
    young = segment and trend.span < TRIAL_SHARE * window
    slope_error = slope_error_of(stretch, trend, noise) if young else 0.0
    end_error = noise * sqrt((4.0 * n - 2.0) / (n * (n + 1.0)))
    return Fit(trend, end_error, slope_error, young, before, whole, *marks, stretch)


def _within_teeth(points: Sequence[Point], window: float, noise: float) -> Sequence[Point]:
    """A saw-tooth without its dips and spikes; any other line as it is."""
    if sum(1 for (_, d0), (_, d1) in pairwise(points) if d1 < d0 - MIN_TOLERANCE) < MIN_TEETH:
        return points
    # Short teeth look like noise where their falls are not left out.
    noise = min(noise, noise_of(points, MIN_TOLERANCE))
    tolerance = tolerance_of(noise)
    trial_time = TRIAL_SHARE * window
    band = _band([d for t, d in points if t <= points[-1][0] - trial_time], tolerance)
    if band is None or band[1] - band[0] > TOOTH_SHARE * trial_time:
        return points
    low, high = band
    kept: list[Point] = []
    trial: list[Point] = []
    for point in (*points, None):
        if point is not None and not low - tolerance <= point[1] <= high + tolerance:
            trial.append(point)
            continue
        if trial and not _is_bump(trial, kept, low, high, trial_time, noise):
            kept += trial
        trial = []
        if point is not None:
            kept.append(point)
    return kept


def _band(delays: Sequence[float], tolerance: float) -> tuple[float, float] | None:
    """How low and how high a saw-tooth's teeth reach; None where there are no teeth.

    Tops lie above bottoms, whichever tooth they are of: a noisy slope has none. One dip and one spike do not count.
    """
    tops: list[float] = []
    bottoms: list[float] = []
    fell = False
    for before, now in pairwise(delays):
        falls = now < before - tolerance
        if falls and not fell:
            tops.append(before)
        elif fell and not falls:
            bottoms.append(before)
        fell = falls
    if min(len(tops), len(bottoms)) < MIN_TEETH:
        return None
    tops.sort()
    bottoms.sort()
    return (bottoms[1], tops[-2]) if tops[1] > bottoms[-2] + tolerance else None


def _is_bump(
    trial: Sequence[Point], kept: Sequence[Point], low: float, high: float, trial_time: float, noise: float
) -> bool:
    """Samples off a saw-tooth's band are a dip or a spike so far: neither too long for one, nor too deep or steep."""
    if len(trial) == 1:
        return True
    (begin, first), (end, last) = trial[0], trial[-1]
    lasted = end - begin
    if last < low:
        return lasted < trial_time - 1e-6 and low - last <= trial_time - lasted + tolerance_of(noise)
    # It rose through the band's edge that much earlier.
    lasted += max(0.0, first - high - jitter_of(noise))
    if kept and last > kept[-1][1] + end - kept[-1][0] + tolerance_of(noise):
        return False
    falls_back = last < trial[-2][1] - tolerance_of(noise)
    return lasted < (2.0 if falls_back else 1.0) * trial_time - 1e-6


def _stretch(points: Sequence[Point], window: float, noise: float) -> tuple[Sequence[Point], Trend]:
    """The latest straight stretch, and the line of the one before it."""
    tolerance = tolerance_of(noise)
    if len(points) < 3 or is_straight(points, tolerance):
        return points, NO_TREND
    end = after_bend(points, window)
    if len(end) < len(points) and is_straight(end, tolerance):
        return end, NO_TREND
    trial_time = TRIAL_SHARE * window
    stretch = [points[0]]
    line = Line(stretch)
    trial: list[Point] = []
    first_off = last_off = 0.0
    before = NO_TREND
    for i in range(1, len(points)):
        t, d = points[i]
        foretold, slope, width = line.at(t)
        off = d - foretold
        if abs(off) <= tolerance * width:
            stretch.append(points[i])
            line.add(t, d)
            last_off = off
            trial.clear()
            continue
        if not trial:
            first_off = off
        trial.append(points[i])
        gap = t - stretch[-1][0]
        # Nobody knows where the line went while nothing was sampled for longer than all that it rests on.
        unseen = gap > max(window, stretch[-1][0] - stretch[0][0])
        if len(trial) < 2 and not unseen:
            continue
        lasted = t - trial[0][0]
        rise = max(0.0, 1.0 - slope)
        if off < 0:
            lost = -off > rise * (trial_time - lasted) + tolerance
        else:
            # It may have begun to rise before the newest sample on the line, as far as that lies above the line; and
            # it has, where its first sample off the line is higher than the time between allows.
            lost = off > rise * gap + max(0.0, last_off) + tolerance
            lasted += max(0.0, first_off - jitter_of(noise))
        stale = slope < STEEP
        outlasts = len(trial) >= len(stretch) and lasted >= stretch[-1][0] - stretch[0][0] - 1e-6
        if unseen or lost or stale or lasted >= trial_time - 1e-6 or outlasts:
            if len(stretch) > 2:
                ended = least_squares(stretch)
                # A line on its way down may pause for up to a trial, and rises then.
                if ended.span >= (trial_time if slope > 0 else trial_time / 2.0):
                    before = ended
            stretch = straight_end(points[: i + 1], tolerance)
            line = Line(stretch)
            last_off = 0.0
            trial.clear()
    return stretch, before


def _marks(points: Sequence[Point], window: float) -> tuple[Trend, Trend]:
    """Low- and high-water marks: the extremes of the two latest stretches of time, single wild samples left out.

    A ragged catch-up falls, pauses and falls again; no straight stretch of it lasts, but its lows get ever lower.
    """
    t_end = points[-1][0]
    length = MARK_SHARE * window
    calm: list[Point] = []
    for (t0, d0), (t1, d1), (t2, d2) in zip(points, points[1:], points[2:], strict=False):
        if t1 > t_end - 2 * length and t0 < t1 < t2:
            calm.append((t1, sorted((d0, d1, d2))[1]))
    older = [p for p in calm if p[0] <= t_end - length]
    newer = [p for p in calm if p[0] > t_end - length]
    if len(older) < 2 or len(newer) < 2:
        return NO_TREND, NO_TREND
    correlation = rank_correlation([d for _, d in calm])
    marks = []
    for extreme in (min, max):
        (t0, d0), (t1, d1) = (extreme(part, key=lambda p: p[1]) for part in (older, newer))
        slope = (d1 - d0) / (t1 - t0) if t1 > t0 else 0.0
        marks.append(Trend(slope, d1, correlation, len(calm), calm[-1][0] - calm[0][0]))
    return marks[0], marks[1]
