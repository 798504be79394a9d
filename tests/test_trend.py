"""The trend: what plain least squares is, when it is the whole window, and every promised row of lines."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from judge_builders import LIMITS, folded, judged, look, looks
from scipy import stats

from check_delayed_repl.judge.trend import (
    NO_FIT,
    NO_TREND,
    Point,
    _after_bend,
    _band,
    _is_bump,
    _jitter,
    _Line,
    _marks,
    _noise,
    _rank_correlation,
    _slope_error,
    _straight,
    _straight_end,
    _tolerance,
    _within_teeth,
    fit,
    fitted,
    least_squares,
)

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


def assert_is_linregress(points: list[Point], slope: float, intercept: float, correlation: float) -> None:
    """Equal to scipy's to 1e-9 of the size of the delays, as slope and intercept carry them."""
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
    assert correlation == pytest.approx(expected.rvalue, abs=1e-9)


@given(windows())
def test_least_squares_is_linregress(points: list[Point]) -> None:
    assume(points[0][0] < points[-1][0])
    assume(len({d for _, d in points}) > 1)
    trend = least_squares(points)
    assert trend.slope is not None
    assert trend.intercept is not None
    assert trend.correlation is not None
    assert_is_linregress(points, trend.slope, trend.intercept, trend.correlation)
    assert (trend.samples, trend.span) == (len(points), points[-1][0] - points[0][0])


def test_samples_of_a_tenth_of_a_second_make_a_line_as_well() -> None:
    trend = least_squares([(0.1 * i, 7200.0 + 0.5 * i) for i in range(4)])
    assert (trend.slope, trend.intercept) == pytest.approx((5.0, 7201.5))


def test_times_too_close_to_tell_apart_make_a_level_line_at_the_mean() -> None:
    assert least_squares([(0.0, 1.0), (1e-200, 4.0)]) == (0.0, 2.5, 0.0, 2, 1e-200)


def test_a_correlation_is_never_more_than_perfect() -> None:
    for i in range(1, 100):
        for slope in (0.01 * i, -0.01 * i):
            correlation = least_squares([(10.0 * k, 7200.0 + slope * 10.0 * k) for k in range(61)]).correlation
            assert correlation is not None
            assert 0.999 < abs(correlation) <= 1.0


@given(windows(least=3))
def test_the_whole_window_is_fitted_where_that_is_asked_for(points: list[Point]) -> None:
    assume(len({t for t, _ in points}) >= 3)
    assume(len({d for _, d in points}) > 1)
    trend = fit(points, 600.0, segment=False).trend
    assert trend.slope is not None
    assert trend.intercept is not None
    assert trend.correlation is not None
    assert trend.samples == len(points)
    assert_is_linregress(points, trend.slope, trend.intercept, trend.correlation)


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
        points = [(10.0 * i, 7200.0 + slope * 10.0 * i + rng.uniform(-jitter, jitter)) for i in range(61)]
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
    alone = NO_FIT._replace(trend=NO_TREND._replace(intercept=7000.0, samples=1))
    assert fit([(5.0, 7000.0)], 600.0, segment) == alone


def test_nothing_is_fitted_to_nothing() -> None:
    assert fit([], 600.0) == NO_FIT


@given(windows(least=1), st.booleans(), st.sampled_from((0.001, 6.0, 60.0, 600.0, 86400.0)))
def test_any_window_has_a_fit_whose_numbers_are_numbers(points: list[Point], segment: bool, window: float) -> None:
    result = fit(points, window, segment)
    trend = result.trend
    assert trend.intercept is not None
    assert math.isfinite(trend.intercept)
    assert trend.slope is None or math.isfinite(trend.slope)
    assert trend.correlation is None or -1.0 <= trend.correlation <= 1.0
    assert 1 <= trend.samples <= len(points)
    assert 0.0 <= trend.span <= points[-1][0] - points[0][0]
    assert result.end_error >= 0.0


@pytest.mark.parametrize("segment", [True, False])
def test_times_too_close_to_tell_apart_are_no_trend_and_no_fault(segment: bool) -> None:
    fit([(0.0, 1.0), (1e-200, 2.0), (2e-200, 5.0)], 600.0, segment)


# --- which samples are in the window


def test_the_window_holds_its_first_and_last_moment() -> None:
    assert judged(looks(0.0, 1000.0)).trend.samples == 61
    assert judged(looks(0.0, 1000.0)).trend.span == 600.0


@pytest.mark.parametrize(
    ("every", "samples", "span"),
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
    every: float, samples: int, span: float
) -> None:
    trend = judged(looks(0.0, 40 * every, every=every)).trend
    assert (trend.samples, trend.span) == (samples, span)


def test_a_longer_window_than_an_hour_is_kept() -> None:
    limits = LIMITS._replace(window=7200.0)
    assert judged(looks(0.0, 9000.0, every=60.0), limits).trend.span == 7200.0


@pytest.mark.parametrize("delay", [-1.1, -5000.0, 1.1e10])
def test_samples_with_a_heartbeat_finding_are_not_fitted(delay: float) -> None:
    records = [*looks(0.0, 300.0), look(310.0, delay)]
    trend = judged(records).trend
    assert (trend.samples, trend.intercept) == (31, 7200.0)


def test_failed_looks_are_not_fitted() -> None:
    assert judged([*looks(0.0, 300.0), look(310.0, error="timeout")]).trend.samples == 31


def test_the_intercept_is_at_the_newest_fitted_sample() -> None:
    records = looks(0.0, 300.0, lambda t: 7000.0 + t)
    verdict = judged(records, now=420.0)
    assert verdict.trend.intercept == pytest.approx(7300.0)
    assert verdict.trend.slope == pytest.approx(1.0)


def test_samples_after_now_are_not_fitted() -> None:
    assert folded(looks(0.0, 600.0)).verdict(300.0).trend.samples == 31


def test_samples_out_of_order_are_fitted_in_order_of_time() -> None:
    in_order = looks(0.0, 300.0, lambda t: 7000.0 + t)
    shuffled = [*in_order]
    Random(1).shuffle(shuffled)
    assert judged(shuffled, now=300.0).trend == judged(in_order, now=300.0).trend


# --- the latest straight stretch


def test_a_cliff_is_not_fitted_across() -> None:
    records = [*looks(0.0, 300.0, 40000.0), *looks(310.0, 500.0, 7200.0)]
    trend = judged(records).trend
    assert trend.intercept == pytest.approx(7200.0)
    assert trend.samples == 20
    assert judged(records, LIMITS._replace(fit="window")).trend.samples == 51


def test_a_turn_is_not_fitted_across() -> None:
    records = looks(0.0, 600.0, lambda t: 9500.0 + abs(t - 400.0))
    trend = judged(records).trend
    assert trend.slope == pytest.approx(1.0, abs=0.02)
    assert trend.intercept == pytest.approx(9700.0, abs=2.0)


def test_one_wild_sample_is_left_out() -> None:
    records = looks(0.0, 600.0)
    records[30] = records[30]._replace(delay=90000.0)
    trend = judged(records).trend
    assert (trend.slope, trend.intercept, trend.samples) == (0.0, 7200.0, 60)


def test_the_fit_of_a_whole_window_is_misled_by_one_wild_sample() -> None:
    records = looks(0.0, 600.0)
    records[30] = records[30]._replace(delay=90000.0)
    trend = judged(records, LIMITS._replace(fit="window")).trend
    assert trend.samples == 61
    assert trend.intercept != pytest.approx(7200.0, abs=100.0)


@pytest.mark.parametrize(
    ("depth", "lasts", "left_out"),
    [
        (300.0, 10.0, True),  # one sample alone never wins
        (300.0, 20.0, False),  # a rise of 1 s/s could not undo that in a minute
        (50.0, 20.0, True),
        (50.0, 30.0, False),  # nor this in what is left of the minute
        (10.0, 60.0, True),
        (10.0, 70.0, False),
    ],
)
def test_a_dip_is_left_out_until_it_has_lasted_too_long(depth: float, lasts: float, left_out: bool) -> None:
    records = looks(0.0, 600.0 + lasts - 10.0, lambda t: 7200.0 - (depth if t >= 600.0 else 0.0))
    assert (judged(records).trend.intercept == pytest.approx(7200.0)) == left_out


# --- the shortcut that spares the fit


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_calm_line_is_judged_as_if_every_sample_were_fitted(data: st.DataObject) -> None:
    low, high = data.draw(st.sampled_from(((5400.0, 9000.0), (7190.0, 7215.0), (7195.0, 7206.0))))
    limits = LIMITS._replace(min_delay_time=low, max_delay_time=high, window=data.draw(st.sampled_from((60.0, 600.0))))
    delays = data.draw(st.lists(st.floats(7190.0, 7210.0) | st.floats(7199.0, 7201.5), min_size=1, max_size=40))
    quick, slow = folded([], limits), folded([], limits)
    monkeypatched: Any = slow
    monkeypatched._surely_in_range = lambda _: False
    for i, delay in enumerate(delays):
        for one in (quick, slow):
            one.add(look(10.0 * i, delay), i)
        assert quick.dump() == slow.dump()


# --- the parts, against what statistics has for them


def ragged(count: int, seed: int, every: float = 10.0) -> list[Point]:
    """Noise on a slope, at uneven times."""
    rng = Random(seed)
    times = [every * i + rng.uniform(0.0, 0.7 * every) for i in range(count)]
    return [(t, 7200.0 - 0.3 * t + rng.gauss(0.0, 2.0)) for t in times]


@pytest.mark.parametrize("sigma", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("slope", [-5.0, 0.0, 1.0])
def test_noise_is_a_standard_deviation_whatever_the_slope_and_the_times(sigma: float, slope: float) -> None:
    rng = Random(1)
    times = [10.0 * i + rng.uniform(0.0, 8.0) for i in range(4000)]
    points = [(t, 7200.0 + slope * t + rng.gauss(0.0, sigma)) for t in times]
    assert _noise(points) == pytest.approx(sigma, rel=0.05)


def test_noise_is_told_by_seven_samples_between_two_others() -> None:
    zigzag = [(10.0 * i, 7200.0 + i % 2) for i in range(9)]
    assert _noise(zigzag) == pytest.approx(1.4826 / math.sqrt(1.5))
    assert _noise(zigzag[:8]) == 0.0


def test_samples_of_one_moment_tell_no_noise() -> None:
    assert _noise([(0.0, 7200.0 + i % 2) for i in range(30)]) == 0.0


def test_falls_are_no_noise_where_that_is_asked_for() -> None:
    """A fall of five every third sample spoils all the rest, unless it is left out; one of just five is not more."""
    teeth = [(10.0 * i, 7200.0 - 5.0 * (i // 3)) for i in range(60)]
    assert _noise(teeth) > 1.0
    assert _noise(teeth, 5.0) == _noise(teeth)
    assert _noise(teeth, 4.9) == 0.0


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_a_running_line_foretells_what_least_squares_does(count: int) -> None:
    points = ragged(count, count)
    line = _Line(points[0])
    for point in points[1:]:
        line.add(*point)
    x, y = zip(*points, strict=True)
    expected = stats.linregress(x, y)
    mean = sum(x) / count
    for t in (x[-1], x[-1] + 10.0, x[0], mean):
        foretold, slope, width = line.at(t)
        assert foretold == pytest.approx(expected.intercept + expected.slope * t)
        assert slope == pytest.approx(expected.slope)
        assert width == pytest.approx(math.sqrt(1.0 + 1.0 / count + (t - mean) ** 2 / sum((v - mean) ** 2 for v in x)))


def test_samples_of_a_tenth_of_a_second_tell_a_slope_and_its_error() -> None:
    points = [(0.1 * i, 7200.0 + 0.5 * i + i % 2) for i in range(4)]
    line = _Line(points[0])
    for point in points[1:]:
        line.add(*point)
    x, y = zip(*points, strict=True)
    expected = stats.linregress(x, y)
    assert line.at(0.0)[:2] == pytest.approx((expected.intercept, expected.slope))
    assert _slope_error(points, least_squares(points), 0.0) == pytest.approx(expected.stderr)


def test_a_running_line_of_one_moment_foretells_its_mean_and_is_not_sure() -> None:
    line = _Line((5.0, 7000.0))
    assert line.at(15.0) == (7000.0, 0.0, math.inf)
    line.add(5.0, 7010.0)
    assert line.at(15.0) == (7005.0, 0.0, math.inf)


def test_the_error_of_a_slope_is_the_standard_error_or_what_the_noise_makes_of_it() -> None:
    points = ragged(20, 3)
    x, y = zip(*points, strict=True)
    error = stats.linregress(x, y).stderr
    assert _slope_error(points, least_squares(points), 0.0) == pytest.approx(error)
    width = math.sqrt(sum((v - sum(x) / len(x)) ** 2 for v in x))
    assert _slope_error(points, least_squares(points), 50.0) == pytest.approx(50.0 / width)


@given(st.lists(st.integers(0, 9).map(float), min_size=2, max_size=30))
def test_the_correlation_of_ranks_is_spearmans(values: list[float]) -> None:
    if len(set(values)) < 2:
        assert _rank_correlation(values) == 0.0
    else:
        assert _rank_correlation(values) == pytest.approx(stats.spearmanr(range(len(values)), values).statistic)


def test_an_intercepts_error_is_that_of_the_end_of_a_line_through_evenly_spaced_samples() -> None:
    rng = Random(4)
    points = [(10.0 * i, 7200.0 + rng.uniform(-1.5, 1.5)) for i in range(61)]
    n = len(points)
    t_end, mean = points[-1][0], sum(t for t, _ in points) / n
    leverage = 1.0 / n + (t_end - mean) ** 2 / sum((t - mean) ** 2 for t, _ in points)
    assert fit(points, 600.0).end_error == pytest.approx(_noise(points) * math.sqrt(leverage))


@given(windows(least=1), st.booleans(), st.sampled_from((6.0, 60.0, 600.0)))
def test_what_is_fitted_is_what_the_fit_says_it_is(points: list[Point], segment: bool, window: float) -> None:
    drawn = fitted(points, window, segment)
    trend = fit(points, window, segment).trend
    assert (len(drawn), drawn[-1][0] - drawn[0][0]) == (trend.samples, trend.span)
    assert set(drawn) <= set(points)
    if not segment:
        assert drawn == points


def test_nothing_is_fitted_of_nothing() -> None:
    assert fitted([], 600.0) == []


# --- straightness


@pytest.mark.parametrize(("off", "straight"), [(2.999, True), (3.001, False)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_line_is_straight_where_no_sample_is_off_by_more_than_the_tolerance(
    off: float, straight: bool, sign: float
) -> None:
    # The middle one of many is off its own line by all but a hundredth.
    points = [(10.0 * i, 7200.0 + 0.5 * i) for i in range(101)]
    points[50] = (500.0, 7225.0 + sign * off / (1.0 - 1.0 / 101.0))
    assert _straight(points, 3.0) == straight


def test_samples_of_one_moment_are_straight() -> None:
    assert _straight([(5.0, 7000.0), (5.0, 9000.0)], 3.0)


def test_samples_of_which_some_are_of_one_moment_are_straight_as_others_are() -> None:
    assert not _straight([(0.0, 7000.0), (10.0, 7000.0), (10.0, 9000.0)], 3.0)
    assert not _straight([(0.0, 7000.0), (0.0, 9000.0), (10.0, 8000.0)], 3.0)


def test_the_straight_end_begins_after_the_last_sample_that_is_off() -> None:
    points = [(10.0 * i, 7200.0 + 0.5 * i) for i in range(30)]
    assert _straight_end(points, 3.0) == points
    for broken in (0, 10, 26):
        moved = [(t, d + (40.0 if i <= broken else 0.0)) for i, (t, d) in enumerate(points)]
        assert _straight_end(moved, 3.0) == points[broken + 1 :]


def test_the_straight_end_takes_a_sample_within_the_tolerance_of_where_the_rest_foretells_it() -> None:
    end = [(10.0 * i, 7200.0) for i in range(1, 6)]
    width = math.sqrt(1.0 + 1.0 / 5.0 + 30.0**2 / 1000.0)
    for off, taken in ((3.0 * width - 0.001, True), (3.0 * width + 0.001, False)):
        for sign in (1.0, -1.0):
            assert (len(_straight_end([(0.0, 7200.0 + sign * off), *end], 3.0)) == 6) == taken


# --- bends


@pytest.mark.parametrize("start", [0.0, 1.7e9])
@pytest.mark.parametrize("at", [10, 20, 30, 48])
@pytest.mark.parametrize("turn", [0.1, -0.1, 1.0])
def test_a_stretch_is_cut_at_its_bend(at: int, turn: float, start: float) -> None:
    """Noise of a second at most, in a fixed pattern; the bend shows by two minutes after it."""
    points = [(start + 10.0 * i, 7200.0 + 0.5 * (i % 3) + turn * 10.0 * max(0, i - at)) for i in range(61)]
    cut = _after_bend(points, 600.0)
    assert abs(len(points) - len(cut) - at) <= 3
    assert cut == points[len(points) - len(cut) :]


def left_over(points: list[Point]) -> float:
    x, y = zip(*points, strict=True)
    slope, intercept, *_ = stats.linregress(x, y)
    return float(sum((d - intercept - slope * t) ** 2 for t, d in points))


@pytest.mark.parametrize("seed", range(60))
def test_a_bend_is_where_two_lines_leave_least_over(seed: int) -> None:
    """Short windows of small numbers, in which nothing is too small to matter."""
    rng = Random(seed)
    n = rng.randrange(8, 20)
    turn, at = rng.uniform(-3.0, 3.0), rng.randrange(n)
    points = [(0.5 * i, 7200.0 + turn * 0.5 * max(0, i - at) + rng.gauss(0.0, 0.2)) for i in range(n)]
    window = 0.5 * n
    whole = left_over(points)
    cuts = [k for k in range(3, n - 3) if points[-1][0] - points[k][0] >= 0.2 * window]
    best, cut = min((left_over(points[:k]) + left_over(points[k:]), k) for k in cuts)
    bends = whole / n > 0.01 and (whole - best) / 2.0 > 20.0 * max(best / (n - 4), 0.01)
    assert _after_bend(points, window) == (points[cut:] if bends else points)


def test_a_bend_counts_once_the_line_has_gone_on_for_a_fifth_of_the_window() -> None:
    for after, cut in ((12, True), (11, False)):
        # A step rather than a turn, so that it is plain where the line parts.
        points = [(10.0 * i, 7200.0 + 0.1 * (i % 3) + (5.0 if i >= 40 else 0.0)) for i in range(41 + after)]
        assert (len(_after_bend(points, 600.0)) == after + 1) == cut


def test_no_bend_is_seen_in_so_few_samples_or_so_little() -> None:
    def bent(count: int, turn: float) -> list[Point]:
        return [(10.0 * i, 7200.0 + turn * 10.0 * max(0, i - count // 2)) for i in range(count)]

    assert len(_after_bend(bent(8, 1.0), 100.0)) < 8
    assert len(_after_bend(bent(7, 1.0), 100.0)) == 7
    assert len(_after_bend(bent(40, 0.01), 600.0)) < 40
    assert len(_after_bend(bent(40, 0.001), 600.0)) == 40


@pytest.mark.parametrize(("mean_square", "seen"), [(0.0098, False), (0.0102, True)])
def test_a_line_that_lies_within_a_tenth_of_a_second_of_straight_has_no_bend(mean_square: float, seen: bool) -> None:
    shape = [(10.0 * i, float(max(0, i - 30))) for i in range(61)]
    scale = math.sqrt(mean_square / (left_over(shape) / 61.0))
    points = [(t, 7200.0 + scale * d) for t, d in shape]
    assert (len(_after_bend(points, 600.0)) < 61) == seen


# --- young stretches, pauses and what came before them


def test_a_stretch_is_young_until_it_has_lasted_a_trial() -> None:
    for lasts, young in ((50.0, True), (60.0, False)):
        points = [(10.0 * i, 7200.0) for i in range(int(lasts / 10.0) + 1)]
        result = fit(points, 600.0)
        assert result.young == young
        assert not fit(points, 600.0, segment=False).young


def test_a_young_stretch_knows_what_came_before_it_and_the_whole_window() -> None:
    falls = [(10.0 * i, 12000.0 - 20.0 * i) for i in range(41)]
    stands = [(400.0 + 10.0 * i, 11200.0 + 10.0 * i) for i in range(1, 6)]
    result = fit([*falls, *stands], 600.0)
    assert (result.trend.samples, result.trend.slope, result.young) == (6, 1.0, True)
    assert result.before.slope == pytest.approx(-2.0)
    assert result.whole == least_squares([*falls, *stands])
    straight = fit(falls, 600.0)
    assert (straight.before, straight.whole, straight.low_marks, straight.high_marks) == (NO_TREND,) * 4


# --- water marks


def test_water_marks_are_the_extremes_of_the_two_latest_stretches_of_time() -> None:
    """A minute and a half each. Every sample counts as the median of itself and its neighbours."""
    older = [(10.0 * i, 9000.0 + d) for i, d in enumerate((20, 20, 20, 20, 5, 5, 5, 40, 40, 40))]
    newer = [(100.0 + 10.0 * i, 8000.0 + d) for i, d in enumerate((30, 30, 30, 70, 70, 70, 10, 10, 10))]
    low, high = _marks([*older, *newer], 600.0)
    # From 9005 at 40 to 8010 at 160, and from 9040 at 70 to 8070 at 130.
    assert low.slope == pytest.approx((8010.0 - 9005.0) / (160.0 - 40.0))
    assert high.slope == pytest.approx((8070.0 - 9040.0) / (130.0 - 70.0))
    assert (low.intercept, high.intercept) == (8010.0, 8070.0)
    assert low.correlation == high.correlation
    assert low.correlation is not None
    assert low.correlation < -0.6
    assert (low.samples, low.span) == (17, 160.0)


def test_what_is_older_than_two_marks_is_no_part_of_them() -> None:
    old = [(10.0 * i, 1000.0) for i in range(-10, 1)]
    low, high = _marks([*old, *((10.0 * i, 9000.0) for i in range(1, 19))], 600.0)
    assert (low.slope, low.intercept, high.slope, high.intercept) == (0.0, 9000.0, 0.0, 9000.0)


def test_a_mark_ends_with_the_sample_that_is_as_old_as_it_is_long() -> None:
    older = [*((10.0 * i, 9000.0) for i in range(8)), (80.0, 9030.0), (90.0, 9060.0)]
    high = _marks([*older, *((10.0 * i, 9500.0) for i in range(10, 19))], 600.0)[1]
    assert high.slope == pytest.approx((9500.0 - 9060.0) / (100.0 - 90.0))


def test_two_wild_samples_of_one_moment_are_no_water_mark() -> None:
    level = [(10.0 * i, 9000.0) for i in range(19)]
    low, _ = _marks([*level[:5], (45.0, 0.0), (45.0, 0.0), *level[5:]], 600.0)
    assert (low.slope, low.intercept) == (0.0, 9000.0)


def test_a_sample_that_stands_alone_is_no_water_mark() -> None:
    level = [(10.0 * i, 9000.0) for i in range(19)]
    for at in (3, 15):
        for value in (0.0, 1e6):
            wild = [*level]
            wild[at] = (10.0 * at, value)
            low, high = _marks(wild, 600.0)
            assert (low.slope, low.intercept, high.slope, high.intercept) == (0.0, 9000.0, 0.0, 9000.0)


def test_there_are_no_water_marks_of_too_few_samples() -> None:
    for first, known in ((0, True), (1, True), (2, False)):
        assert (_marks([(30.0 * i, 9000.0) for i in range(first, 7)], 600.0) != (NO_TREND, NO_TREND)) == known
    assert _marks([(60.0 * i, 9000.0) for i in range(7)], 600.0) == (NO_TREND, NO_TREND)
    assert _marks([(0.0, 9000.0)] * 9, 600.0) == (NO_TREND, NO_TREND)


# --- on trial: what is off the line, and for how long it may be


def after(slope: float, offs: list[float], on: int = 61, last: float = 0.0) -> list[Point]:
    """A line of so many samples, the newest one `last` above it, and then samples that are off it by so much."""
    line = [(10.0 * i, 7200.0 + slope * 10.0 * i) for i in range(on + len(offs))]
    above = [*([0.0] * (on - 1)), last, *offs]
    return [(t, d + off) for (t, d), off in zip(line, above, strict=True)]


@pytest.mark.parametrize(
    ("slope", "offs", "left_out"),
    [
        (0.0, [4.0], True),
        (0.0, [-4.0], True),
        (0.0, [1e6], True),  # one sample alone never wins
        # Dips: a minute at most, and no deeper than a rise of 1 s/s makes up for in what is left of it.
        (0.0, [-53.0] * 2, True),
        (0.0, [-53.1] * 2, False),
        (0.0, [-43.0] * 3, True),
        (0.0, [-43.1] * 3, False),
        (0.0, [-10.0] * 6, True),
        (0.0, [-10.0] * 7, False),
        # On a line that rises by itself, a dip is made up for more slowly; on one that falls, faster.
        (0.5, [-28.0] * 2, True),
        (0.5, [-28.1] * 2, False),
        (-0.5, [-78.0] * 2, True),
        (-0.5, [-78.1] * 2, False),
        (1.0, [-4.0] * 2, False),
        # Spikes: no higher than a rise of 1 s/s makes them.
        (0.0, [23.0] * 2, True),
        (0.0, [23.1] * 2, False),
        (0.5, [13.0] * 2, True),
        (0.5, [13.1] * 2, False),
        # They began earlier by as long as that rise took, less what may be jitter.
        (0.0, [10.0] * 6, True),
        (0.0, [10.0] * 7, False),
        (0.0, [11.0] * 5, True),
        (0.0, [11.0] * 6, False),
        (0.0, [10.9] * 6, True),
        (0.0, [5.0] + [12.0] * 5, True),  # by the first of them
        # A line that falls fast moves on while one waits for samples to come back to it.
        (-0.99, [-10.0] * 2, True),
        (-1.01, [-10.0], True),
        (-1.01, [-10.0] * 2, False),
        # What comes back was a dip or a spike, and what follows it is a new one.
        (0.0, [-10.0] * 6 + [0.0] + [-10.0] * 6, True),
        (0.0, [10.0] * 6 + [0.0] + [10.0] * 6, True),
    ],
)
def test_samples_on_trial_are_left_out_until_they_win(slope: float, offs: list[float], left_out: bool) -> None:
    points = after(slope, offs)
    on = [p for p, off in zip(points, [*([0.0] * 61), *offs], strict=True) if off == 0.0]
    assert (fitted(points, 600.0) == on) == left_out


@pytest.mark.parametrize(
    ("last", "off", "left_out"),
    [(2.0, 24.5, True), (2.0, 25.5, False), (-2.0, 22.5, True), (-2.0, 23.5, False)],
)
def test_a_spike_may_have_begun_before_the_last_sample_on_the_line(last: float, off: float, left_out: bool) -> None:
    points = after(0.0, [off] * 2, last=last)
    assert (fitted(points, 600.0) == points[:61]) == left_out


@pytest.mark.parametrize(
    ("times", "left_out"),
    [
        ([30.0, 40.0], True),
        ([30.0, 40.0, 50.0], False),
        ([30.0, 35.0, 40.0], True),  # as many samples, but not as long
        ([30.0, 40.0, 49.9], True),
        ([30.0, 50.1], True),  # as long, but not as many samples
    ],
)
def test_a_trial_that_outlasts_a_young_stretch_wins(times: list[float], left_out: bool) -> None:
    on = [(1000.0, 7200.0), (1010.0, 7200.0), (1020.0, 7200.0)]
    assert (fitted([*on, *((1000.0 + t, 7190.0) for t in times)], 600.0) == on) == left_out


def test_a_dip_that_turns_into_a_spike_began_with_the_dip() -> None:
    line = after(0.0, [])
    for last, left_out in ((669.9, True), (670.0, False)):
        off = [(610.0, 7190.0), *((t, 7210.0) for t in (620.0, 630.0, 640.0, 650.0, 660.0, last))]
        assert (fitted([*line, *off], 600.0) == line) == left_out


@pytest.mark.parametrize(("off", "on"), [(3.05, True), (3.15, False)])
def test_a_sample_is_on_the_line_within_the_tolerance_and_what_the_line_is_unsure_by(off: float, on: bool) -> None:
    """A wild sample before it, lest the whole be taken for straight."""
    points = after(0.0, [off])
    points[30] = (300.0, 9000.0)
    assert (fitted(points, 600.0)[-1] == points[-1]) == on


def test_the_third_sample_may_be_a_wild_one() -> None:
    points = [(0.0, 7200.0), (10.0, 7200.0), (20.0, 9000.0)]
    assert fitted(points, 600.0) == points[:2]


def test_samples_that_won_are_a_line_of_their_own_and_tried_alike() -> None:
    first = after(0.0, [-100.0] * 20)
    assert fitted(first, 600.0) == first[61:]
    assert fitted([*first, (810.0, 7200.0), (820.0, 7100.0)], 600.0) == [*first[61:], (820.0, 7100.0)]
    young = after(0.0, [-500.0, -500.0, 300.0])
    assert fitted(young, 600.0) == young[61:63]
    risen = after(0.0, [-10.0] * 7 + [13.5] * 2)  # by more than 1 s/s and the tolerance, from the new line
    assert fitted(risen, 600.0) == risen[-2:]


@pytest.mark.parametrize(
    ("slope", "count", "known"),
    [(-0.5, 3, False), (-0.5, 4, True), (0.0, 3, False), (0.0, 4, True), (0.5, 6, False), (0.5, 7, True)],
)
def test_a_stretch_that_lasted_is_remembered_and_one_that_rises_only_when_it_was_no_mere_pause(
    slope: float, count: int, known: bool
) -> None:
    points = after(slope, [-500.0] * 2, on=count)
    before = fit(points, 600.0).before
    assert before == (least_squares(points[:count]) if known else NO_TREND)


def test_two_samples_are_no_stretch_to_remember_and_three_are() -> None:
    cliff = [(50.0, 2000.0), (60.0, 1990.0)]
    two, three = [(0.0, 7000.0), (40.0, 6980.0)], [(0.0, 7000.0), (20.0, 6990.0), (40.0, 6980.0)]
    assert fit([*two, *cliff], 600.0).before == NO_TREND
    assert fit([*three, *cliff], 600.0).before == least_squares(three)


@pytest.mark.parametrize(
    ("every", "count", "pausing", "young"),
    [
        (10.0, 6, True, True),
        (10.0, 7, True, False),
        (10.0, 8, True, False),
        (12.0, 7, False, False),  # 72 seconds
        (10.0, 9, False, False),
    ],
)
def test_a_stretch_is_young_for_a_minute_and_may_be_a_pause_for_a_little_longer(
    every: float, count: int, pausing: bool, young: bool
) -> None:
    cliff = [*((every * i, 40000.0) for i in range(30)), *((every * (30 + i), 7200.0 + i % 2) for i in range(count))]
    result = fit(cliff, 600.0)
    assert result.trend.samples == count
    assert result.whole == (least_squares(cliff) if pausing else NO_TREND)
    assert result.young == young
    assert (result.slope_error > 0.0) == young
    assert result.low_marks != NO_TREND


@pytest.mark.parametrize(("noise", "tolerance", "jitter"), [(0.0, 3.0, 1.0), (0.6, 3.0, 1.5), (2.0, 9.0, 5.0)])
def test_what_is_noise_grows_with_the_noise(noise: float, tolerance: float, jitter: float) -> None:
    assert (_tolerance(noise), _jitter(noise)) == pytest.approx((tolerance, jitter))


# --- saw-teeth


def test_a_band_reaches_from_the_second_lowest_bottom_to_the_second_highest_top() -> None:
    teeth = [7250.0, 7200.0, 7260.0, 7190.0, 7255.0, 7203.0, 7245.0, 7100.0, 7300.0, 7205.0, 7240.0]
    assert _band(teeth, 3.0) == (7190.0, 7260.0)


def test_there_is_no_band_of_fewer_than_three_teeth() -> None:
    teeth = [7200.0, 7250.0] * 4
    assert _band(teeth[:8], 3.0) == (7200.0, 7250.0)
    assert _band(teeth[:7], 3.0) is None  # the third fall has not ended
    assert _band(teeth[1:7], 3.0) is None
    assert _band([], 3.0) is None


def test_falls_within_the_tolerance_are_no_teeth_and_a_fall_in_steps_is_one() -> None:
    assert _band([7203.0, 7200.0] * 8, 3.0) is None
    assert _band([7250.0, 7230.0, 7200.0] * 4 + [7250.0], 3.0) == (7200.0, 7250.0)
    assert _band([7250.0, 7247.0, 7200.0] * 4 + [7250.0], 3.0) == (7200.0, 7247.0)


def test_small_rises_are_part_of_a_tooth() -> None:
    assert _band([7248.0, 7250.0, 7200.0] * 4 + [7250.0], 3.0) == (7200.0, 7250.0)
    assert _band([7250.0, 7200.0, 7201.0, 7202.0] * 4, 3.0) == (7200.0, 7250.0)


def test_tops_lie_above_all_bottoms_but_one() -> None:
    """A slope with noise on it falls time and again, but from ever other heights."""
    assert _band([7260.0, 7200.0, 7202.0, 7140.0, 7142.0, 7080.0, 7082.0, 7020.0, 7022.0], 3.0) is None
    for top, found in ((7213.1, True), (7213.0, False)):
        teeth = [7260.0, 7210.0, 7260.0, 7210.0, top, 7200.0, top, 7200.0, top, 7200.0, top]
        assert (_band(teeth, 3.0) is not None) == found


BUMPS: list[tuple[list[Point], bool]] = [
    ([(100.0, 0.0)], True),  # one sample alone
    ([(100.0, 1e6)], True),
    # Below: for less than a minute, and no deeper than what is left of it makes up for.
    ([(100.0, 7150.0), (110.0, 7147.0)], True),
    ([(100.0, 7150.0), (110.0, 7146.9)], False),
    ([(100.0, 7190.0), (159.0, 7196.0)], True),
    ([(100.0, 7190.0), (160.0, 7199.0)], False),
    # Above: for less than a minute, with the time that it took to rise from the band's edge, less what may be jitter.
    ([(100.0, 7265.0), (155.0, 7265.0)], True),
    ([(100.0, 7265.0), (156.0, 7265.0)], False),
    ([(100.0, 7261.0), (159.0, 7261.0)], True),
    ([(100.0, 7261.0), (160.0, 7261.0)], False),
    # One that is falling back may take as long again.
    ([(100.0, 7261.0), (150.0, 7290.0), (219.0, 7286.9)], True),
    ([(100.0, 7261.0), (150.0, 7290.0), (219.0, 7287.0)], False),
    ([(100.0, 7261.0), (150.0, 7290.0), (220.0, 7286.9)], False),
    # No higher than a rise of 1 s/s since the newest sample within the band.
    ([(100.0, 7270.0), (110.0, 7283.0)], True),
    ([(100.0, 7270.0), (110.0, 7283.1)], False),
]


@pytest.mark.parametrize(("trial", "bump"), BUMPS)
def test_what_is_off_a_saw_tooths_band_is_a_dip_or_a_spike_for_a_minute(trial: list[Point], bump: bool) -> None:
    kept = [(70.0, 7230.0), (80.0, 7240.0), (90.0, 7260.0)]
    assert _is_bump(trial, kept, 7200.0, 7260.0, 60.0, 0.0) == bump


def test_a_spike_before_any_sample_within_the_band_may_be_of_any_height() -> None:
    assert _is_bump([(100.0, 7261.0), (110.0, 9000.0)], [], 7200.0, 7260.0, 60.0, 0.0)


def saw(count: int, height: float = 50.0, every: float = 10.0) -> list[Point]:
    """Teeth of a minute: up by a sixth of the height with every sample but the sixth, which is the bottom again."""
    return [(every * i, 7200.0 + height / 5.0 * (i % 6)) for i in range(count)]


def test_a_saw_tooth_loses_its_bumps_and_nothing_else() -> None:
    points = saw(61)
    assert list(_within_teeth(points, 600.0, 0.0)) == points
    for where in (20, 44, 60):
        for value in (7100.0, 7300.0):
            wild = [*points]
            wild[where] = (10.0 * where, value)
            assert list(_within_teeth(wild, 600.0, 0.0)) == [p for p in points if p[0] != 10.0 * where]


def test_what_rises_faster_than_a_delay_can_is_no_bump_of_a_saw_tooth() -> None:
    wild = saw(61)
    wild[44:46] = [(440.0, 7260.0), (450.0, 7310.0)]
    assert list(_within_teeth(wild, 600.0, 0.0)) == wild


def test_a_thread_that_has_stopped_is_a_bump_for_a_minute() -> None:
    """Samples rise from the last bottom on, and through the band's edge at 600; jitter may be a second of that."""
    points = [*saw(55), *((10.0 * i, 7200.0 + 10.0 * (i - 54)) for i in range(55, 67))]
    assert list(_within_teeth(points[:66], 600.0, 0.0)) == points[:60]
    assert list(_within_teeth(points, 600.0, 0.0)) == points


@pytest.mark.parametrize(("value", "within"), [(7197.0, True), (7196.9, False), (7253.0, True), (7253.1, False)])
def test_a_band_is_as_wide_as_its_teeth_and_the_noise(value: float, within: bool) -> None:
    points = saw(61)
    points[58] = (580.0, value)
    assert (len(_within_teeth(points, 600.0, 0.0)) == 61) == within


@pytest.mark.parametrize(("count", "teeth"), [(25, False), (26, True)])
def test_a_saw_tooth_is_one_by_teeth_that_are_older_than_a_trial(count: int, teeth: bool) -> None:
    """The third tooth's fall ends at 190."""
    points = saw(count)
    points[22] = (220.0, 7300.0)
    assert (len(_within_teeth(points, 600.0, 0.0)) == count - 1) == teeth


def test_three_falls_are_enough() -> None:
    points = [*saw(20), *((10.0 * i, 7240.0) for i in range(20, 25)), (250.0, 7400.0)]
    assert list(_within_teeth(points, 600.0, 0.0)) == points[:25]


def test_short_teeth_are_not_taken_for_noise() -> None:
    points = [(10.0 * i, 7200.0 + 10.0 * (i % 3)) for i in range(61)]
    points[58] = (580.0, 7260.0)
    assert len(_within_teeth(points, 600.0, _noise(points))) == 60


@pytest.mark.parametrize(("height", "teeth"), [(72.0, True), (72.5, False)])
def test_teeth_are_no_higher_than_a_little_more_than_a_minute(height: float, teeth: bool) -> None:
    points = [*saw(61, height)]
    points[58] = (580.0, 6000.0)
    assert (len(_within_teeth(points, 600.0, 0.0)) == 60) == teeth
