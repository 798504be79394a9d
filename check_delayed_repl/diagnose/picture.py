"""All that a screen, a drawing or a document of one replica shows, put together from a fold. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import NamedTuple

from check_delayed_repl.diagnose.server import Server
from check_delayed_repl.given import Call
from check_delayed_repl.judge.findings import native, worst_first
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.line import IN_RANGE, recovering
from check_delayed_repl.judge.outcome import Finding, Verdict
from check_delayed_repl.judge.protection import Protection, protection
from check_delayed_repl.judge.straight import Point
from check_delayed_repl.judge.trend import Fit, fit
from check_delayed_repl.limits import Limits, option
from check_delayed_repl.observe.dialect import Dialect, Place
from check_delayed_repl.records import Sample

CONFIDENCE = 0.95
MOST_COMPARED = 500
"""Theil-Sen compares every pair of samples: more of them than this are thinned out first."""
SAME_SLOPE = 0.01
"""s/s: two slopes that differ by less agree, for nobody would do anything else."""
MOST_SEGMENTS = 12
FAR = 86400.0
"""Seconds: nobody wants to know of a bound that is reached later than that."""


class Segment(NamedTuple):
    """A straight stretch of the line: from (start, begins) to (end, ends), times and delays in seconds."""

    start: float
    end: float
    begins: float
    ends: float
    slope: float


class Certainty(NamedTuple):
    """What is known of a slope, all in seconds of delay per second."""

    slope: float
    """Least squares."""
    low: float
    high: float
    """The confidence interval of that."""
    theil_sen: float | None
    """The median of the slopes between any two samples, where it disagrees: then a few samples bend the line."""


class Outlook(NamedTuple):
    """When the line reaches a bound, should it go on as it does."""

    back: bool
    """Back in range; False: out of it."""
    bound: float
    """Seconds of delay."""
    option: str
    slope: float
    t: float
    spread: tuple[float, float | None] | None
    """The earliest and the latest time, by the slope's confidence interval; the latest is None where there is no end to
    it. None where the slope is not that of the fitted line, but of what came before it or of the whole window."""


class Budget(NamedTuple):
    """How long an exception has held this episode, and how long it may: seconds."""

    name: str
    held: float
    limit: float
    option: str
    ends: float | None
    """When it is spent, while it is being charged."""


class Diagnosis(NamedTuple):
    """One replica at one moment."""

    replica: str
    verdict: Verdict
    limits: Limits
    samples: tuple[Sample, ...] = ()
    """What is drawn, by time, failed samples included."""
    since: float = 0.0
    """The drawing reaches from here to the time of judging."""
    segments: tuple[Segment, ...] = ()
    """The straight stretches of the window, in order; the last one is the fit that is judged."""
    side: int = IN_RANGE
    """BELOW, IN_RANGE or ABOVE: where the line is judged to be."""
    certainty: Certainty | None = None
    outlook: Outlook | None = None
    recovery_ends: float | None = None
    """When the recovery window of the job that finished last closes."""
    budgets: tuple[Budget, ...] = ()
    protection: Protection | None = None
    native: bool = True
    """The server itself delays."""
    sql_delay_before: int | None = None
    """The largest delay setting that was ever seen, in seconds."""
    server: Server | None = None
    """None where it was not asked, or did not answer."""
    call: Call = Call()
    confidence: tuple[str, ...] = ()
    """What all this is based on, a sentence each."""

    @property
    def dialect(self) -> Dialect | None:
        return None if self.server is None else self.server.dialect

    @property
    def place(self) -> Place | None:
        return None if self.server is None else self.server.place

    @property
    def seen(self) -> Sample | None:
        """The newest sample that saw the replica's status, or a delay: not the verdict's, if that failed."""
        newest = self.verdict.sample
        if newest is None or newest.error is None or newest.io is not None:
            return newest
        return next((s for s in reversed(self.samples) if s.error is None), None)

    def has(self, *conditions: str) -> bool:
        return any(finding.condition in conditions for finding in self.verdict.findings)


def picture(
    fold: Fold,
    now: float,
    replica: str,
    samples: Iterable[Sample],
    since: float,
    more: Sequence[Finding] = (),
    server: Server | None = None,
    call: Call = Call(),  # noqa: B008  it cannot change
    confidence: Iterable[str] = (),
) -> Diagnosis:
    """What there is to be seen at `now`.

    `samples` are those to be drawn, `more` findings that do not come from the fold.
    """
    limits, verdict = fold.limits, fold.verdict(now, worker=call.worker)
    if more:
        # What the fold could not judge is not unknown, and a worker not gone, but said by what was added.
        said = ("internal-error", "worker-missing", *(m.condition for m in more))
        own = [f for f in verdict.findings if f.condition not in said]
        verdict = verdict._replace(findings=worst_first([*more, *own]))
    points, now_fit, side = fold.line(now)
    stretch = now_fit.stretch
    known = certainty(stretch) if now_fit.trend.slope is not None else None
    finished = [j.finished_at for j in verdict.jobs if j.status == "completed" and j.finished_at is not None]
    found = Diagnosis(
        replica,
        verdict,
        limits,
        samples=tuple(sorted((s for s in samples if since <= s.t <= now), key=lambda s: s.t)),
        since=since,
        segments=_segments(points, limits),
        side=side,
        certainty=known,
        outlook=_outlook(stretch[-1][0], now_fit, side, known, limits, now) if stretch else None,
        recovery_ends=max(finished) + limits.max_recovery_time if finished else None,
        budgets=_budgets(verdict, fold.holding, limits, now),
        native=native(fold.seen, limits),
        sql_delay_before=fold.seen.sql_delay_max,
        server=server,
        call=call,
        confidence=tuple(confidence),
    )
    return found._replace(protection=protection(verdict, found.seen, found.native))


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


def _segments(points: Sequence[Point], limits: Limits) -> tuple[Segment, ...]:
    """The fit, and what would have been fitted before each break."""
    found: list[Segment] = []
    left = list(points)
    while left and len(found) < (MOST_SEGMENTS if limits.fit == "segment" else 1):
        fitted = fit(left, limits.window, limits.fit == "segment")
        start, end = fitted.stretch[0][0], fitted.stretch[-1][0]
        slope, intercept = fitted.trend.slope, fitted.trend.intercept
        if slope is not None and intercept is not None:
            found.append(Segment(start, end, intercept - slope * (end - start), intercept, slope))
        left = [p for p in left if p[0] < start]
    return tuple(reversed(found))


def _outlook(
    newest: float, now_fit: Fit, side: int, known: Certainty | None, limits: Limits, now: float
) -> Outlook | None:
    """`newest`: the time of the newest fitted sample."""
    trend, height = now_fit.trend, now_fit.trend.intercept
    if side == IN_RANGE:
        # A line in range is only said to leave it where that is sure.
        sure = known is not None and not known.low <= 0 <= known.high and not now_fit.young
        slope = trend.slope if sure and abs(trend.correlation or 0.0) >= limits.min_correlation else None
    else:
        slope = recovering(now_fit, side, limits)
    if slope is None or height is None:
        return None
    upper = (slope > 0) == (side == IN_RANGE)
    bound, name = (limits.max_delay_time, "max_delay_time") if upper else (limits.min_delay_time, "min_delay_time")

    def reached(at_slope: float) -> float | None:
        return max(now, newest + (bound - height) / at_slope) if at_slope * slope > 0 else None

    t, spread = reached(slope) or now, None
    if side == IN_RANGE and t - now > FAR:
        return None
    if known is not None and slope == trend.slope:
        fast, slow = (known.high, known.low) if slope > 0 else (known.low, known.high)
        spread = (reached(fast) or now, reached(slow))
    return Outlook(side != IN_RANGE, bound, option(name), slope, t, spread)


def _budgets(verdict: Verdict, holding: tuple[str, ...], limits: Limits, now: float) -> tuple[Budget, ...]:
    budgets = []
    for name, (limit, setting) in limits.budgets.items():
        held = verdict.held.get(name, 0.0)
        ends = now + limit - held if name in holding and held <= limit else None
        budgets.append(Budget(name, held, limit, setting, ends))
    return tuple(budgets)
