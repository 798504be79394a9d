"""The trend: what plain least squares is, when it is the whole window, and every promised row of lines."""

from __future__ import annotations

import itertools
import math
from random import Random
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from judge_builders import LIMITS, folded, judged, sample, samples
from scipy import stats

from check_delayed_repl.judge.straight import Point, is_straight, least_squares, rank_correlation
from check_delayed_repl.judge.trend import NO_FIT, NO_TREND, fit
from check_delayed_repl.records import Sample

finite_delays = st.floats(-1.0, 1e10)
gaps = st.floats(0.0, 600.0).map(lambda gap: 0.0 if gap < 1e-3 else gap)


@st.composite
def windows(draw: st.DrawFn, least: int = 2) -> list[Point]:
    """Samples in order of time: a line or anything, near the epoch or far from it, evenly spaced or not."""
    start = draw(st.sampled_from((0.0, 1.7e9)))
    steps = draw(st.lists(gaps, min_size=least - 1, max_size=40))
    delays = draw(st.lists(finite_delays, min_size=len(steps) + 1, max_size=len(steps) + 1))
    if draw(st.booleans()):
        slope = draw(st.floats(-50.0, 1.0))
        delays = [7200.0 + slope * sum(steps[:i]) + delay % 1.5 for i, delay in enumerate(delays)]
    times = [start + sum(steps[:i]) for i in range(len(delays))]
    return list(zip(times, delays, strict=True))


@given(windows())
@example([(0.0, 0.0), (1.0, 5e-324)])
def test_least_squares_is_linregress(points: list[Point]) -> None:
    """Equal to scipy's to 1e-9 of the size of the delays, as slope and intercept carry them."""
    assume(points[0][0] < points[-1][0])
    assume(len({d for _, d in points}) > 1)
    slope, intercept, correlation, *others = least_squares(points)
    assert others == [len(points), points[-1][0] - points[0][0]]
    t_end = points[-1][0]
    x = [t - t_end for t, _ in points]
    # scipy squares what it is given: away from a common height, small differences would be lost in that alone.
    base = points[0][1]
    y = [d - base for _, d in points]
    expected = stats.linregress(x, y)
    height = max(map(abs, y))
    width = math.sqrt(sum((v - sum(x) / len(x)) ** 2 for v in x) / len(x))
    reach = max(map(abs, x)) / width
    assert slope == pytest.approx(expected.slope, rel=1e-9, abs=1e-9 * height / width)
    assert intercept == pytest.approx(base + expected.intercept, rel=1e-9, abs=1e-9 * height * reach)
    # Of delays whose differences are too small to be squared, scipy knows none.
    assert correlation == pytest.approx(0.0 if math.isnan(expected.rvalue) else expected.rvalue, abs=1e-9)


def test_times_too_close_to_tell_apart_make_a_level_line_at_the_mean() -> None:
    assert least_squares([(0.0, 1.0), (1e-200, 4.0)]) == (0.0, 2.5, 0.0, 2, 1e-200)
    for segment in (True, False):
        fit([(0.0, 1.0), (1e-200, 2.0), (2e-200, 5.0)], 600.0, segment)


def test_a_correlation_is_never_more_than_perfect() -> None:
    for i in range(1, 100):
        for slope in (0.01 * i, -0.01 * i):
            correlation = least_squares([(10.0 * k, 7200.0 + slope * 10.0 * k) for k in range(61)]).correlation
            assert 0.999 < abs(correlation) <= 1.0


@given(windows(least=3))
def test_the_whole_window_is_fitted_where_that_is_asked_for(points: list[Point]) -> None:
    assume(len({t for t, _ in points}) >= 3)
    assert fit(points, 600.0, segment=False).trend == least_squares(points)


@given(st.floats(-1.0, 1e10), st.integers(3, 60), st.booleans())
def test_a_level_line_has_no_slope_and_no_correlation(delay: float, count: int, segment: bool) -> None:
    trend = fit([(10.0 * i, delay) for i in range(count)], 600.0, segment).trend
    assert trend == (0.0, delay, 0.0, count, 10.0 * (count - 1))


@pytest.mark.parametrize("segment", [True, False])
@pytest.mark.parametrize("jitter", [0.0, 0.75, 1.5])
@pytest.mark.parametrize("slope", [-0.9, -0.1, -0.01, 0.0, 0.01, 0.1, 0.5, 1.0])
def test_a_straight_line_with_noise_is_fitted_by_plain_least_squares_over_the_whole_window(
    slope: float, jitter: float, segment: bool
) -> None:
    for seed in range(25):
        rng = Random(seed)
        height = 1e9 if seed % 5 == 4 else 7200.0
        points = [(10.0 * i, height + slope * 10.0 * i + rng.uniform(-jitter, jitter)) for i in range(61)]
        assert fit(points, 600.0, segment).trend == least_squares(points), seed


@pytest.mark.parametrize(
    ("points", "delay"),
    [
        ([(0.0, 7000.0)], 7000.0),
        ([(0.0, 7000.0), (10.0, 7100.0)], 7100.0),
        ([(0.0, 7000.0), (0.0, 7050.0), (10.0, 7100.0)], 7100.0),
        ([(0.0, 7000.0), (10.0, 7100.0), (10.0, 7150.0)], 7150.0),
        ([(5.0, 7000.0 + i) for i in range(7)], 7006.0),
        ([(float(i // 6), 7000.0 + i) for i in range(12)], 7011.0),
        ([(5.0, 7000.0 + i) for i in range(12)], 7011.0),
    ],
)
@pytest.mark.parametrize("segment", [True, False])
def test_fewer_than_three_distinct_times_make_no_trend(points: list[Point], delay: float, segment: bool) -> None:
    trend = fit(points, 600.0, segment).trend
    assert (trend.slope, trend.correlation) == (None, None)
    assert trend.intercept == delay


@pytest.mark.parametrize("segment", [True, False])
def test_one_sample_tells_the_delay_and_nothing_else(segment: bool) -> None:
    alone = NO_FIT._replace(trend=NO_TREND._replace(intercept=7000.0, samples=1), stretch=[(5.0, 7000.0)])
    assert fit([(5.0, 7000.0)], 600.0, segment) == alone


def test_nothing_is_fitted_to_nothing() -> None:
    assert fit([], 600.0) == NO_FIT


@given(windows(least=1), st.booleans(), st.sampled_from((0.001, 6.0, 60.0, 600.0, 86400.0)))
def test_any_window_has_a_fit_whose_numbers_are_numbers(points: list[Point], segment: bool, window: float) -> None:
    result = fit(points, window, segment)
    trend = result.trend
    assert math.isfinite(trend.intercept)
    assert trend.slope is None or math.isfinite(trend.slope)
    assert trend.correlation is None or -1.0 <= trend.correlation <= 1.0
    assert 1 <= trend.samples <= len(points)
    assert 0.0 <= trend.span <= points[-1][0] - points[0][0]
    assert result.end_error >= 0.0
    drawn = result.stretch
    assert (len(drawn), drawn[-1][0] - drawn[0][0]) == (trend.samples, trend.span)
    assert set(drawn) <= set(points)
    assert segment or drawn == points


def test_the_window_holds_its_first_and_last_moment() -> None:
    assert judged(samples(0.0, 1000.0)).trend.samples == 61
    assert judged(samples(0.0, 1000.0)).trend.span == 600.0


@pytest.mark.parametrize(
    ("every", "fitted_samples", "span"),
    [
        (100.0, 7, 600.0),
        (120.0, 6, 600.0),  # 0, 120, ..., 600: six
        (150.0, 6, 750.0),  # five in the window: one more
        (300.0, 6, 1500.0),
        (700.0, 6, 3500.0),
        (900.0, 5, 3600.0),  # an hour at most
        (1800.0, 3, 3600.0),
        (1801.0, 2, 1801.0),
        (3601.0, 1, 0.0),
    ],
)
def test_a_thin_window_reaches_back_to_the_sixth_newest_sample_but_no_further_than_an_hour(
    every: float, fitted_samples: int, span: float
) -> None:
    trend = judged(samples(0.0, 40 * every, every=every)).trend
    assert (trend.samples, trend.span) == (fitted_samples, span)


def test_a_longer_window_than_an_hour_is_kept() -> None:
    limits = LIMITS._replace(window=7200.0)
    assert judged(samples(0.0, 9000.0, every=60.0), limits).trend.span == 7200.0


@pytest.mark.parametrize("last", [sample(310.0, d) for d in (-1.1, -5000.0, 1.1e10)] + [sample(310.0, error="timeout")])
def test_samples_that_failed_or_have_a_heartbeat_finding_are_not_fitted(last: Sample) -> None:
    trend = judged([*samples(0.0, 300.0), last]).trend
    assert (trend.samples, trend.intercept) == (31, 7200.0)


def test_the_intercept_is_at_the_newest_fitted_sample() -> None:
    records = samples(0.0, 300.0, lambda t: 7000.0 + t)
    verdict = judged(records, now=420.0)
    assert verdict.trend.intercept == pytest.approx(7300.0)
    assert verdict.trend.slope == pytest.approx(1.0)


def test_samples_after_now_are_not_fitted() -> None:
    assert folded(samples(0.0, 600.0)).verdict(300.0).trend.samples == 31


def test_samples_out_of_order_are_fitted_in_order_of_time() -> None:
    in_order = samples(0.0, 300.0, lambda t: 7000.0 + t)
    shuffled = [*in_order]
    Random(1).shuffle(shuffled)
    assert judged(shuffled, now=300.0).trend == judged(in_order, now=300.0).trend


def test_a_cliff_is_not_fitted_across() -> None:
    records = [*samples(0.0, 300.0, 40000.0), *samples(310.0, 500.0, 7200.0)]
    trend = judged(records).trend
    assert trend.intercept == pytest.approx(7200.0)
    assert trend.samples == 20
    twins_first = judged([records[0], *records[:-10]]).trend
    assert (twins_first.intercept, twins_first.samples) == (7200.0, 10)
    assert judged(records, LIMITS._replace(fit="window")).trend.samples == 51


def test_a_turn_is_not_fitted_across() -> None:
    records = samples(0.0, 600.0, lambda t: 9500.0 + abs(t - 400.0))
    trend = judged(records).trend
    assert trend.slope == pytest.approx(1.0, abs=0.02)
    assert trend.intercept == pytest.approx(9700.0, abs=2.0)


def test_one_wild_sample_is_left_out() -> None:
    records = samples(0.0, 600.0)
    records[30] = records[30]._replace(delay=90000.0)
    trend = judged(records).trend
    assert (trend.slope, trend.intercept, trend.samples) == (0.0, 7200.0, 60)
    misled = judged(records, LIMITS._replace(fit="window")).trend
    assert (misled.samples, misled.intercept != pytest.approx(7200.0, abs=100.0)) == (61, True)


@pytest.mark.parametrize(
    ("depth", "lasts", "left_out"),
    [
        (300.0, 10.0, True),  # one sample alone never wins
        (300.0, 20.0, False),  # a rise of 1 s/s could not undo that in a minute
        (50.0, 20.0, True),
        (53.0, 20.0, True),
        (53.1, 20.0, False),
        (50.0, 30.0, False),  # nor this in what is left of the minute
        (10.0, 60.0, True),
        (10.0, 70.0, False),
        (-23.0, 20.0, True),
        (-23.1, 20.0, False),  # a spike: no line rises so far in twenty seconds
    ],
)
def test_a_dip_or_a_spike_is_left_out_until_it_has_lasted_too_long(depth: float, lasts: float, left_out: bool) -> None:
    records = samples(0.0, 600.0 + lasts - 10.0, lambda t: 7200.0 - (depth if t >= 600.0 else 0.0))
    assert (judged(records).trend.intercept == pytest.approx(7200.0)) == left_out


@pytest.mark.parametrize(
    ("teeth", "spike", "left_out"),
    [
        (10, [7260.0] * 6, True),
        (10, [7261.0] * 6, False),  # it rose for ten seconds before, which makes a minute
        (10, [7273.0] * 2, True),
        (10, [7274.0] * 2, False),  # nothing rises by more than a second a second
        (10, [*[7260.0] * 11, 7254.0], True),  # one that falls again may last for two minutes
        (10, [*[7260.0] * 12, 7254.0], False),
        (10, [*[7260.0] * 11, 7257.0], False),  # by no more than noise
        (10, [7147.0] * 2, True),
        (10, [7146.0] * 2, False),  # a rise of 1 s/s could not undo that in what is left of the minute
        (4, [7260.0] * 6, True),
        (3, [7260.0] * 6, False),  # two falls are no saw-tooth
    ],
)
def test_a_spike_or_a_dip_on_a_saw_tooth_is_left_out_until_it_has_lasted_too_long(
    teeth: int, spike: list[float], left_out: bool
) -> None:
    """As pt-slave-delay makes it: a minute's changes gather, and are applied at once."""
    delays = [*[7200.0 + 10.0 * (i % 6) for i in range(6 * teeth)], *spike]
    points = [(10.0 * i, delay) for i, delay in enumerate(delays)]
    assert (not set(points[6 * teeth :]) & set(fit(points, 600.0).stretch)) == left_out


@pytest.mark.parametrize(
    ("lasts", "slope", "before"),
    [
        (20.0, -0.2, -0.5),
        (30.0, -0.2, -0.2),
        (20.0, 0.0, -0.5),
        (30.0, 0.0, 0.0),
        (50.0, 0.5, -0.5),  # a line on its way down may pause for up to a minute, and rises then
        (60.0, 0.5, 0.5),
    ],
)
def test_the_stretch_before_a_young_one_is_the_latest_that_was_no_mere_pause(
    lasts: float, slope: float, before: float
) -> None:
    """Between cliffs: a line that falls for long, another one for so long, and one that has just begun."""
    delays = [30000.0 - 5.0 * i for i in range(21)]
    delays += [25000.0 + slope * 10.0 * i for i in range(int(lasts / 10.0) + 1)]
    delays += [20000.0 - 5.0 * i for i in range(3)]
    found = fit([(10.0 * i, delay) for i, delay in enumerate(delays)], 600.0)
    assert (found.trend.samples, found.young, found.before.slope) == (3, True, pytest.approx(before))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_calm_line_is_judged_as_if_every_sample_were_fitted(data: st.DataObject) -> None:
    low, high = data.draw(st.sampled_from(((5400.0, 9000.0), (7190.0, 7215.0), (7195.0, 7206.0))))
    limits = LIMITS._replace(min_delay_time=low, max_delay_time=high, window=data.draw(st.sampled_from((60.0, 600.0))))
    delays = data.draw(st.lists(st.floats(7190.0, 7210.0) | st.floats(7199.0, 7201.5), min_size=1, max_size=40))
    quick, slow = folded([], limits), folded([], limits)
    monkeypatched: Any = slow._window
    monkeypatched.surely_in_range = lambda *_: False
    for i, delay in enumerate(delays):
        for one in (quick, slow):
            one.add(sample(10.0 * i, delay), i)
        assert quick.dump() == slow.dump()


def test_a_ragged_catch_up_has_lower_and_lower_marks() -> None:
    """No straight stretch of it lasts; its low- and high-water marks fall all the same."""
    falls = itertools.accumulate(10.0 if i % 6 < 3 else -200.0 for i in range(61))
    ragged = [(10.0 * i, 20000.0 + fallen) for i, fallen in enumerate(falls)]
    found = fit(ragged, 600.0)
    assert found.trend.samples < len(ragged)
    calm = [sorted(delay for _, delay in ragged[i - 1 : i + 2])[1] for i in range(43, 60)]
    correlation = pytest.approx(stats.spearmanr(range(17), calm).statistic)
    assert found.low_marks == (-12.0, 14310.0, correlation, 17, 160.0)
    assert found.high_marks == (pytest.approx(-32.0 / 3.0), 15070.0, correlation, 17, 160.0)
    wild = [(570.0, delay) for delay in (1.0, 2.0, 90001.0, 90002.0)]  # more than one, but of one moment
    disturbed = fit(sorted([*ragged, *wild]), 600.0)
    assert disturbed.low_marks[:2] == found.low_marks[:2]
    assert disturbed.high_marks[:2] == found.high_marks[:2]
    assert fit([(t, 7200.0) for t, _ in ragged], 600.0).low_marks == NO_TREND


@pytest.mark.parametrize(
    "points",
    [
        [(0.0, 10.0), (0.0, 20.0), (9.0, 10.0)],
        [(0.0, 10.0), (9.0, 10.0), (9.0, 20.0)],
        [(0.0, 9.0), (1.0, 99.0), (9.0, 0.0)],  # a delay is no time
    ],
)
def test_some_samples_of_one_moment_do_not_make_a_line_straight(points: list[Point]) -> None:
    assert not is_straight(points, 3.0)


@pytest.mark.parametrize("values", [[1.0, 1.0, 2.0, 3.0], [3.0, 3.0, 1.0, 2.0, 1.0]])
def test_the_correlation_of_ranks_is_spearmans(values: list[float]) -> None:
    assert rank_correlation(values) == pytest.approx(stats.spearmanr(range(len(values)), values).statistic)
    assert rank_correlation(values[:1] * 5) == 0.0
