"""The delay line's own verdict: one row of one table, the first that fits."""

from __future__ import annotations

from check_delayed_repl.judge.jobs import RECOVERY, JobsNow
from check_delayed_repl.judge.outcome import Finding, State, Trend
from check_delayed_repl.judge.trend import Fit
from check_delayed_repl.light import NamedTuple
from check_delayed_repl.limits import Limits, kind_option
from check_delayed_repl.words import plain

BELOW, IN_RANGE, ABOVE = -1, 0, 1

DRAINED_DEPTH = 60.0
"""Seconds below the minimum, or a tenth of it where that is less: a line that has fallen so deep has been drained."""
DRAINED_WINDOWS = 1.5
DRAINED_SAMPLES = 3
"""For how long that is told, in windows, and for how many more samples at least: for who checks now and then."""

TREND = "trend"
RECOVERING = "Replication delay intercept recovering"
EXCEEDED = "Replication delay intercept recovery exceeded window"

REAL_VALUE_SAMPLES = 3
"""How many of the newest delays must lie in range to count as the real value."""
REAL_VALUE_MARGIN = 2.0
"""Seconds inside the bounds that they must lie, or a tenth of the range where that is less."""


class Situation(NamedTuple):
    """All that the delay line is judged by, at one moment."""

    fit: Fit
    side: int
    """BELOW, ABOVE or IN_RANGE: where the line is."""
    latest: tuple[float, ...]
    """The newest delays, at most REAL_VALUE_SAMPLES of them."""
    jobs: JobsNow
    recovered: bool
    """The line has been in range for longer than a window since the last job finished."""
    held: dict[str, float]
    """Seconds held so far in this episode, by exception."""
    job_held: bool
    """A job that explains it, or the recovery after one, has held this episode before."""
    drained: bool
    """Not long ago the line fell far below its range."""


class LineVerdict(NamedTuple):
    finding: Finding
    holding: tuple[str, ...]
    """The exceptions that this moment is charged to, should it belong to an episode."""


def lasting(jobs: JobsNow, held: dict[str, float], limits: Limits) -> tuple[str, ...]:
    """Kinds with an active job whose budget in this episode is not spent."""
    kinds = limits.kinds
    return tuple(kind for kind in jobs.active if held.get(kind, 0.0) <= kinds[kind])


def line_verdict(now: Situation, limits: Limits) -> LineVerdict:
    """The first row of the table that fits."""
    fit, jobs, held = now.fit, now.jobs, now.held
    trend = fit.trend
    granted = lasting(jobs, held, limits)
    line = describe(trend, now.side, limits)
    if now.drained:
        moves = "" if trend.slope is None else f", slope now {plain(trend.slope, 3)}"
        text = f"Replication delay fell below the minimum: {line}; what waited here has been applied{moves}"
        return _said(State.CRITICAL, "line-drained", text)
    if granted:
        kind = granted[0]
        text = f"Active {kind}: running {jobs.active[kind]:.0f} seconds (limit {plain(limits.kinds[kind])}), "
        return _said(State.WARNING, f"active-{kind}", f"{text}{kind_option(kind)}; {line}", *jobs.active)
    if now.side == IN_RANGE:
        return _said(State.OK, "in-range", f"Replication delay {line}")
    window = f"limit {plain(limits.max_recovery_time)}, --max-recovery-time"
    recovery_left = held.get(RECOVERY, 0.0) <= limits.max_recovery_time
    if jobs.completed and not now.recovered and recovery_left:
        kind, since = jobs.completed
        text = (
            f"Replication delay intercept is out of bounds, currently in recovery window for {kind} which "
            f"completed {since:.0f} seconds ago ({window}); {line}"
        )
        return _said(State.WARNING, f"{kind}-recovery-window", text, RECOVERY)
    if now.job_held:
        why = f"held for {plain(held[RECOVERY], 0)} seconds" if not recovery_left else "none is open any more"
        return _said(State.CRITICAL, "recovery-exceeded", f"{EXCEEDED}: {why} ({window}); {line}")
    trend_held = held.get(TREND, 0.0)
    trend_left = trend_held <= limits.max_trend_time
    budget = f"held for {plain(trend_held, 0)} of {plain(limits.max_trend_time)} seconds, --max-trend-time"
    if trend_left and _real_value_in_range(now.latest, limits):
        text = f"{RECOVERING} - real value within range: {plain(now.latest[-1], 1)} seconds; {line}; {budget}"
        return _said(State.WARNING, "recovering-real-value", text, TREND)
    slope = recovering(fit, now.side, limits)
    if slope is not None and not trend_left:
        text = (
            f"{EXCEEDED}: recovering with slope {plain(slope, 3)} for {plain(trend_held, 0)} seconds "
            f"(limit {plain(limits.max_trend_time)}, --max-trend-time); {line}"
        )
        return _said(State.CRITICAL, "recovery-exceeded", text)
    if slope is not None:
        side = "below minimum" if slope > 0 else "above maximum"
        text = (
            f"{RECOVERING} - {side} with slope {plain(slope, 3)}: {line}; "
            f"back in range in {plain(back_in_range(trend, slope, limits), 0)} seconds at this slope; {budget}"
        )
        return _said(State.WARNING, f"recovering-{side.replace(' ', '-')}", text, TREND)
    movement = "no trend yet" if trend.slope is None else f"slope {plain(trend.slope, 3)}"
    text = (
        f"Replication delay intercept is out of bounds, and slope does not indicate recovery: {line}; {movement} "
        f"(recovery needs at least {plain(limits.min_recovery_slope)} s/s towards the range, --min-recovery-slope)"
    )
    return _said(State.CRITICAL, "delay-out-of-bounds", text)


def _said(state: State, condition: str, text: str, *holding: str) -> LineVerdict:
    return LineVerdict(Finding(state, condition, text), holding)


def describe(trend: Trend, side: int, limits: Limits) -> str:
    """Where the line is, and the bound that it breaks."""
    a = trend.intercept
    if a is None:
        return "unknown"
    low, high = plain(limits.min_delay_time), plain(limits.max_delay_time)
    if side == BELOW:
        return f"{plain(a, 1)} seconds is {_relation(a, limits.min_delay_time)} minimum {low} (--min-delay-time)"
    if side == ABOVE:
        return f"{plain(a, 1)} seconds is {_relation(a, limits.max_delay_time)} maximum {high} (--max-delay-time)"
    slope = "" if trend.slope is None else f", slope {plain(trend.slope, 3)}"
    return f"{plain(a, 1)} seconds is within {low} to {high} (--min-delay-time, --max-delay-time){slope}"


def _relation(value: float, bound: float) -> str:
    return "below the" if value < bound - 0.05 else "above the" if value > bound + 0.05 else "at the"


def side_of(now_fit: Fit, before: int, limits: Limits) -> int:
    """Where the line is: out of bounds where its intercept is, the bounds themselves being in range.

    A line that was out stays out until its intercept is back by more than it is uncertain by, so that a slow leak
    across a bound does not flap.
    """
    a = now_fit.trend.intercept
    if a is None:
        return before
    margin = 2.0 * now_fit.end_error
    if a < limits.min_delay_time or (before == BELOW and a < limits.min_delay_time + margin):
        return BELOW
    if a > limits.max_delay_time or (before == ABOVE and a > limits.max_delay_time - margin):
        return ABOVE
    return IN_RANGE


def recovering(fit: Fit, side: int, limits: Limits) -> float | None:
    """The slope at which the line moves back to its range; None where it does not, or not fast and straight enough."""
    way = -side

    def towards(trend: Trend) -> bool:
        return (
            trend.slope is not None
            and trend.correlation is not None
            and trend.slope * way > 0.0
            and trend.slope * way >= limits.min_recovery_slope
            and abs(trend.correlation) >= limits.min_correlation
        )

    if towards(fit.trend):
        slope = fit.trend.slope
        assert slope is not None
        if not fit.young or slope * way - limits.min_recovery_slope + 1e-9 >= 2.0 * fit.slope_error:
            return slope
    if fit.young and towards(fit.before) and _breaks_bound(fit.before, side, limits):
        return fit.before.slope
    if towards(fit.whole) and _breaks_bound(fit.whole, side, limits):
        return fit.whole.slope
    marks = fit.high_marks if side == BELOW else fit.low_marks
    return marks.slope if towards(marks) and (marks.correlation or 0.0) * way > 0 else None


def _breaks_bound(trend: Trend, side: int, limits: Limits) -> bool:
    a = trend.intercept
    return a is not None and (a < limits.min_delay_time if side == BELOW else a > limits.max_delay_time)


def back_in_range(trend: Trend, slope: float, limits: Limits) -> float:
    """Seconds until the line is back in range at this slope."""
    assert trend.intercept is not None
    bound = limits.min_delay_time if slope > 0 else limits.max_delay_time
    return max(0.0, (bound - trend.intercept) / slope)


def _real_value_in_range(latest: tuple[float, ...], limits: Limits) -> bool:
    low, high = limits.min_delay_time, limits.max_delay_time
    margin = min(REAL_VALUE_MARGIN, (high - low) / 10.0)
    return len(latest) == REAL_VALUE_SAMPLES and all(low + margin <= d <= high - margin for d in latest)
