"""The verdict, row by row: what is found at a sample, what a job holds back, and which finding comes first."""

from __future__ import annotations

from typing import Any

import pytest
from judge_builders import CALM, LIMITS, finding, job, judged, sample, samples, states

from check_delayed_repl.judge.findings import worst_first
from check_delayed_repl.judge.jobs import NO_JOBS, JobsNow
from check_delayed_repl.judge.line import (
    ABOVE,
    BELOW,
    IN_RANGE,
    LineVerdict,
    Situation,
    back_in_range,
    describe,
    line_verdict,
    recovering,
    side_of,
)
from check_delayed_repl.judge.outcome import Finding, State, Trend, Verdict
from check_delayed_repl.judge.trend import NO_FIT, NO_TREND, Fit
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Record, Sample

NATIVE: dict[str, Any] = {"io": "Yes", "sql": "Yes", "sql_delay": 7200}
OUT = 20000.0
STARTED = job(0.0)


def only(verdict: Verdict, condition: str) -> Finding:
    """The finding of that name, which must be there and lead."""
    assert verdict.condition == condition
    return verdict.findings[0]


HARD: list[tuple[str, list[Record]]] = [
    ("connect-failed", [sample(10.0, error="connect-failed", message="access denied")]),
    ("status-unreadable", [sample(10.0, sql="")]),
    ("io-error", [sample(10.0, io="No", io_errno=1236)]),
    ("sql-error", [sample(10.0, sql="No", sql_errno=1062, sql_delay=7200)]),
    ("heartbeat-unreadable", [sample(10.0, 1.1e10)]),
    ("heartbeat-from-future", [sample(10.0, -1.01)]),
    (
        "source-heartbeat-dead",
        [sample(t, CALM + t, ts=1.0, relay_log=("b", int(t)), seconds_behind=7100) for t in (10.0, 40.0, 71.0)],
    ),
    ("delay-setting-lost", [sample(10.0, **NATIVE), sample(20.0, sql_delay=0)]),
    ("job-overrun", [job(-64801.0), sample(10.0)]),
    ("clock-stepped", [sample(1000.0), sample(10.0)]),
]


def test_a_condition_that_no_version_had_yet_is_critical_and_fit_to_print() -> None:
    verdict = judged([sample(0.0), sample(10.0, error="disk-\x1b[31mfull\n", message="no room")])
    assert only(verdict, "disk-?[31mfull") == Finding(State.CRITICAL, "disk-?[31mfull", "Disk ?[31mfull: no room")


LONG_AGO = sample(28900.0, relay_log=("b", 3), sql="Yes")


def test_a_relay_log_that_stands_still_is_held_by_any_job() -> None:
    for jobs, held in (([], False), ([STARTED], True)):
        found = finding(judged([sample(0.0, relay_log=("b", 3), sql="Yes"), *jobs, LONG_AGO]), "relay-log-stale")
        assert found.held == held


@pytest.mark.parametrize(("condition", "records"), HARD)
@pytest.mark.parametrize("under_a_job", [False, True])
def test_what_is_never_held_back(condition: str, records: list[Record], under_a_job: bool) -> None:
    before: list[Record] = [sample(0.0), *([STARTED] if under_a_job else [])]
    last = records[-1]
    assert isinstance(last, Sample)
    first = only(judged([*before, *records], now=last.t), condition)
    assert (first.state, first.held) == (State.CRITICAL, False)


def test_a_dead_heartbeat_stays_dead_while_pt_slave_delay_waits() -> None:
    """Its SQL thread runs once a minute, and only then does the server say how far behind it is."""
    records: list[Record] = []
    for i in range(40):
        runs = i % 6 == 0
        records.append(
            sample(
                10.0 * i,
                CALM + 10.0 * i,
                ts=1.0,
                io="Yes",
                sql="Yes" if runs else "No",
                relay_log=("b", i // 6),
                seconds_behind=int(CALM) if runs else None,
                sql_delay=0,
            )
        )
    changes = states(records)
    assert [condition for _, _, condition in changes] == ["in-range", "source-heartbeat-dead"]


def test_a_local_heartbeat_is_not_judged_where_there_is_none() -> None:
    limits = LIMITS._replace(local_heartbeat=False)
    cases: list[dict[str, Any]] = [{"local": -5.0}, {"local": 500.0}, {"local_missing": True}]
    for seen in cases:
        assert judged([sample(10.0, **seen)], limits).state == State.OK


@pytest.mark.parametrize(("ahead", "stepped"), [(2.0, False), (2.1, True), (1e9, True)])
def test_a_sample_from_the_future_is_a_clock_that_stepped(ahead: float, stepped: bool) -> None:
    verdict = judged([sample(0.0), sample(10.0 + ahead), sample(10.0)], now=10.0)
    assert (verdict.condition == "clock-stepped") == stepped
    assert judged([sample(0.0), sample(10.0 + ahead), sample(11.0 + ahead)]).state == State.OK


# --- held by a job

HELD: list[tuple[str, list[dict[str, Any]]]] = [
    ("io-stopped", [{"io": "No"}]),
    ("io-stopped", [{"io": "Preparing"}] * 4 + [{"io": "Connecting"}] * 4),
    ("sql-stopped", [NATIVE, NATIVE | {"sql": "No"}]),
    ("local-heartbeat-stale", [{"local": 60.1}]),
    ("local-heartbeat-stale", [{"local_missing": True}]),
]


@pytest.mark.parametrize(("condition", "seen"), HELD)
def test_what_a_job_holds_back(condition: str, seen: list[dict[str, Any]]) -> None:
    records: list[Record] = [sample(10.0 * i, **one) for i, one in enumerate(seen, 1)]
    first = only(judged([sample(0.0), *records]), condition)
    assert (first.state, first.held) == (State.CRITICAL, False)
    under_a_job = judged([sample(0.0), job(0.0), *records])
    held = finding(under_a_job, condition)
    assert (held.state, held.held, held.message) == (State.WARNING, True, first.message)
    assert (under_a_job.state, under_a_job.condition) == (State.WARNING, "active-backup")


def test_an_error_is_said_once_and_not_as_a_stopped_thread_too() -> None:
    verdict = judged([sample(0.0, **NATIVE), sample(10.0, io="No", io_errno=1, sql="No", sql_errno=2)])
    assert [f.condition for f in verdict.findings] == ["io-error", "sql-error", "in-range"]


def test_a_server_that_is_down_is_held_for_the_jobs_that_stop_it_alone() -> None:
    down = sample(10.0, error="server-down", message="connection refused")
    limits = LIMITS._replace(job_stops_server=("deshard",))
    for line, of, state in (
        (None, limits, State.CRITICAL),
        (job(0.0), limits, State.CRITICAL),
        (job(0.0, kind="deshard"), LIMITS, State.CRITICAL),
        (job(0.0, kind="deshard"), limits, State.WARNING),
    ):
        verdict = judged([sample(0.0), *([line] if line else []), down], of)
        assert verdict.state == state
        found = finding(verdict, "server-down")
        assert found.held == (state == State.WARNING)
        assert "connection refused" in found.message


def logs(until: float, **seen: Any) -> list[Sample]:
    return samples(0.0, until, every=100.0, source_log=("b", 7), relay_log=("b", 3), **seen)


@pytest.mark.parametrize(
    ("seen", "held"),
    [
        ({"io": "No"}, True),
        ({"io": "No", "io_errno": 0}, True),
        ({"io": "Yes"}, False),
        ({"io": "Connecting"}, False),
        ({}, False),
        ({"io": "No", "io_errno": 1236}, False),
    ],
)
def test_a_stale_source_log_is_held_while_the_io_thread_is_stopped_without_error(
    seen: dict[str, Any], held: bool
) -> None:
    records: list[Record] = [*logs(1800.0), STARTED, sample(1900.0, source_log=("b", 7), **seen)]
    found = finding(judged(records), "source-log-stale")
    assert found.held == held
    assert found.state == (State.WARNING if held else State.CRITICAL)


# --- the delay line, by records


def test_a_sample_that_failed_neither_ends_nor_starts_an_episode() -> None:
    out = samples(0.0, 100.0, OUT)
    failed = [sample(t, error="timeout") for t in (110.0, 120.0)]
    assert judged([*out, *failed]).episode_since == 0.0
    assert judged([*out, *failed, sample(130.0, OUT)]).episode_since == 0.0
    assert judged([*samples(0.0, 100.0), *failed]).episode_since is None


def test_one_sample_in_range_and_in_order_ends_an_episode() -> None:
    records: list[Record] = [sample(0.0), STARTED, *samples(10.0, 100.0, io="No")]
    assert judged(records).held["backup"] == 90.0
    after = judged([*records, sample(110.0, io="Yes")])
    assert (after.episode_since, after.held["backup"]) == (None, 0.0)


# --- the delay line, row by row


def fitted(slope: float, intercept: float, correlation: float) -> Fit:
    return NO_FIT._replace(
        trend=Trend(slope, intercept, correlation, 61, 600.0), young=False, slope_error=0.0, before=NO_TREND
    )


def row(fit: Fit, side: int, limits: Limits = LIMITS, **more: Any) -> LineVerdict:
    situation = Situation(fit, side, (), NO_JOBS, False, {}, False, False)._replace(**more)
    return line_verdict(situation, limits)


ACTIVE = JobsNow({"backup": 10.0, "deshard": 5.0}, ("backup", 1.0), ())
SPENT = {"backup": 64801.0, "deshard": 32401.0}
OVER = {"recovery": 21600.1}
DONE = JobsNow({}, ("deshard", 1.0), ())
LEVEL = fitted(0.0, 9500.0, 0.0)
FALLING = fitted(-0.5, 9500.0, -0.9)
RISING = fitted(0.5, 5000.0, 0.9)
INSIDE = (7000.0, 7001.0, 7002.0)
BOTH = ("backup", "deshard")
OK, W, C = State.OK, State.WARNING, State.CRITICAL


@pytest.mark.parametrize(
    ("fit", "side", "more", "condition", "state", "holding"),
    [
        (LEVEL, ABOVE, {"jobs": ACTIVE}, "active-backup", W, BOTH),
        (LEVEL, IN_RANGE, {"jobs": ACTIVE}, "active-backup", W, BOTH),
        (LEVEL, ABOVE, {"jobs": ACTIVE, "held": {"backup": 64800.0}}, "active-backup", W, BOTH),
        (LEVEL, ABOVE, {"jobs": ACTIVE, "held": {"backup": 64800.1}}, "active-deshard", W, BOTH),
        (LEVEL, ABOVE, {"jobs": ACTIVE, "held": SPENT}, "backup-recovery-window", W, ("recovery",)),
        (LEVEL, IN_RANGE, {}, "in-range", OK, ()),
        (LEVEL, IN_RANGE, {"jobs": DONE}, "in-range", OK, ()),
        (LEVEL, ABOVE, {"jobs": DONE}, "deshard-recovery-window", W, ("recovery",)),
        (FALLING, ABOVE, {"jobs": DONE}, "deshard-recovery-window", W, ("recovery",)),
        (LEVEL, ABOVE, {"jobs": DONE, "held": {"recovery": 21600.0}}, "deshard-recovery-window", W, ("recovery",)),
        (LEVEL, ABOVE, {"jobs": DONE, "recovered": True}, "delay-out-of-bounds", C, ()),
        (FALLING, ABOVE, {"jobs": DONE, "recovered": True}, "recovering-above-maximum", W, ("trend",)),
        (FALLING, ABOVE, {"job_held": True}, "recovery-exceeded", C, ()),
        (FALLING, ABOVE, {"jobs": DONE, "held": OVER, "job_held": True}, "recovery-exceeded", C, ()),
        (LEVEL, ABOVE, {"latest": INSIDE, "job_held": True}, "recovery-exceeded", C, ()),
        (LEVEL, ABOVE, {"latest": INSIDE}, "recovering-real-value", W, ("trend",)),
        (FALLING, ABOVE, {"latest": INSIDE}, "recovering-real-value", W, ("trend",)),
        (LEVEL, ABOVE, {"latest": INSIDE[1:]}, "delay-out-of-bounds", C, ()),
        (LEVEL, ABOVE, {"latest": (8998.0, 8998.0, 8998.0)}, "recovering-real-value", W, ("trend",)),
        (LEVEL, ABOVE, {"latest": (8998.0, 8998.1, 8998.0)}, "delay-out-of-bounds", C, ()),
        (LEVEL, ABOVE, {"latest": (5402.0, 5402.0, 5402.0)}, "recovering-real-value", W, ("trend",)),
        (LEVEL, ABOVE, {"latest": (5402.0, 5402.0, 5401.9)}, "delay-out-of-bounds", C, ()),
        (LEVEL, ABOVE, {"latest": INSIDE, "held": {"trend": 9000.0}}, "recovering-real-value", W, ("trend",)),
        (LEVEL, ABOVE, {"latest": INSIDE, "held": {"trend": 9000.1}}, "delay-out-of-bounds", C, ()),
        (FALLING, ABOVE, {}, "recovering-above-maximum", W, ("trend",)),
        (RISING, BELOW, {}, "recovering-below-minimum", W, ("trend",)),
        (FALLING, ABOVE, {"held": {"trend": 9000.0}}, "recovering-above-maximum", W, ("trend",)),
        (FALLING, ABOVE, {"held": {"trend": 9000.1}}, "recovery-exceeded", C, ()),
        (LEVEL, ABOVE, {"held": {"trend": 9000.1}}, "delay-out-of-bounds", C, ()),
        (fitted(-0.1, 9500.0, -0.5), ABOVE, {}, "recovering-above-maximum", W, ("trend",)),
        (fitted(-0.0999, 9500.0, -0.5), ABOVE, {}, "delay-out-of-bounds", C, ()),
        (fitted(-0.1, 9500.0, -0.4999), ABOVE, {}, "delay-out-of-bounds", C, ()),
        (fitted(0.1, 5000.0, 0.5), BELOW, {}, "recovering-below-minimum", W, ("trend",)),
        (fitted(0.0999, 5000.0, 0.5), BELOW, {}, "delay-out-of-bounds", C, ()),
        (fitted(0.1, 5000.0, 0.4999), BELOW, {}, "delay-out-of-bounds", C, ()),
        (fitted(0.5, 9500.0, 0.9), ABOVE, {}, "delay-out-of-bounds", C, ()),
        (fitted(1.0, 200.0, 0.9), BELOW, {"drained": True}, "line-drained", C, ()),
        (fitted(1.0, 200.0, 0.9), BELOW, {"drained": True, "jobs": ACTIVE}, "line-drained", C, ()),
        (fitted(-0.5, 5000.0, -0.9), BELOW, {}, "delay-out-of-bounds", C, ()),
    ],
)
def test_the_first_row_that_fits(
    fit: Fit, side: int, more: dict[str, Any], condition: str, state: State, holding: tuple[str, ...]
) -> None:
    found = row(fit, side, **more)
    assert (found.finding.condition, found.finding.state, found.holding) == (condition, state, holding)


def test_the_real_value_of_a_narrow_range_has_a_narrow_margin() -> None:
    limits = LIMITS._replace(min_delay_time=100.0, max_delay_time=105.0)
    for most, condition in ((104.5, "recovering-real-value"), (104.52, "delay-out-of-bounds")):
        found = row(fitted(0.0, 110.0, 0.0), ABOVE, limits, latest=(100.5, most, 102.0))
        assert found.finding.condition == condition


def test_the_worst_comes_first_and_what_is_held_last() -> None:
    findings = [
        Finding(State.OK, "in-range", ""),
        Finding(State.WARNING, "io-stopped", "", held=True),
        Finding(State.WARNING, "active-index", ""),
        Finding(State.UNKNOWN, "internal-error", ""),
        Finding(State.CRITICAL, "delay-out-of-bounds", ""),
        Finding(State.WARNING, "job-record-invalid", ""),
        Finding(State.WARNING, "index-recovery-window", ""),
    ]
    assert [f.condition for f in worst_first(findings)] == [
        "delay-out-of-bounds",
        "internal-error",
        "active-index",
        "index-recovery-window",
        "job-record-invalid",
        "io-stopped",
        "in-range",
    ]


def test_everything_that_is_wrong_is_said() -> None:
    records: list[Record] = [
        sample(0.0, **NATIVE, source_log=("b", 1), relay_log=("b", 1)),
        sample(40000.0, OUT, io="No", sql="No", sql_delay=0, local=100.0, source_log=("b", 1), relay_log=("b", 1)),
    ]
    assert [f.condition for f in judged(records).findings] == [
        "delay-setting-lost",
        "io-stopped",
        "sql-stopped",
        "local-heartbeat-stale",
        "source-log-stale",
        "relay-log-stale",
        "delay-out-of-bounds",
    ]


def test_what_is_absent_is_not_judged() -> None:
    assert [f.condition for f in judged([sample(0.0)]).findings] == ["in-range"]
    assert [f.condition for f in judged([sample(0.0), sample(1e6)], Limits()).findings] == ["in-range"]


# --- the delay line in words

ABOVE_MAXIMUM = "9500 seconds is above the maximum 9000 (--max-delay-time)"
BELOW_MINIMUM = "5000 seconds is below the minimum 5400 (--min-delay-time)"
INDEX = LIMITS._replace(job_limits=(("index", 40.0),))
HELD_SO_FAR: dict[str, Any] = {"held": {"trend": 12.4}}


@pytest.mark.parametrize(
    ("intercept", "side", "text"),
    [
        (5399.94, BELOW, "5399.9 seconds is below the minimum 5400 (--min-delay-time)"),
        (5399.96, BELOW, "5400 seconds is at the minimum 5400 (--min-delay-time)"),
        (5400.04, BELOW, "5400 seconds is at the minimum 5400 (--min-delay-time)"),
        (5400.06, BELOW, "5400.1 seconds is above the minimum 5400 (--min-delay-time)"),
        (9000.06, ABOVE, "9000.1 seconds is above the maximum 9000 (--max-delay-time)"),
        (8999.96, ABOVE, "9000 seconds is at the maximum 9000 (--max-delay-time)"),
        (8999.94, ABOVE, "8999.9 seconds is below the maximum 9000 (--max-delay-time)"),
    ],
)
def test_a_line_that_is_still_out_within_its_margin_is_not_said_to_be_where_it_is_not(
    intercept: float, side: int, text: str
) -> None:
    assert describe(NO_TREND._replace(intercept=intercept), side, LIMITS) == text


def test_a_line_is_at_a_bound_from_a_twentieth_of_a_second_on() -> None:
    limits = LIMITS._replace(min_delay_time=0.0, max_delay_time=0.0)
    for side in (BELOW, ABOVE):
        for at in (-0.05, 0.05):
            assert "is at the m" in describe(NO_TREND._replace(intercept=at), side, limits)


UNKNOWN = NO_FIT._replace(trend=NO_TREND._replace(intercept=7200.04))
WITHIN = "is within 5400 to 9000 (--min-delay-time, --max-delay-time)"
OUT_OF_BOUNDS = "Replication delay intercept is out of bounds, and slope does not indicate recovery:"
NEEDED = "(recovery needs at least 0.1 s/s towards the range, --min-recovery-slope)"
EXCEEDED = "Replication delay intercept recovery exceeded window:"
RECOVERING = "Replication delay intercept recovering -"
IN_WINDOW = "Replication delay intercept is out of bounds, currently in recovery window for"
AT_THIS, BUDGET = "seconds at this slope; held for", "of 9000 seconds, --max-trend-time"
WORDS = [
    (LEVEL, ABOVE, {"jobs": JobsNow({"backup": 10.4}, None, ())},
     f"Active backup: running 10 seconds (limit 64800), --max-backup-behind; {ABOVE_MAXIMUM}"),
    (NO_FIT, IN_RANGE, {"jobs": JobsNow({"index": 10.4}, None, ())},
     "Active index: running 10 seconds (limit 40), --max-job-behind; unknown"),
    (UNKNOWN, IN_RANGE, {}, f"Replication delay 7200 seconds {WITHIN}"),
    (fitted(-0.1234, 7200.06, -0.9), IN_RANGE, {}, f"Replication delay 7200.1 seconds {WITHIN}, slope -0.123"),
    (LEVEL, ABOVE, {"jobs": JobsNow({}, ("index", 5.4), ())},
     f"{IN_WINDOW} index which completed 5 seconds ago (limit 21600, --max-recovery-time); {ABOVE_MAXIMUM}"),
    (LEVEL, ABOVE, {"job_held": True, "held": {"recovery": 21600.4}},
     f"{EXCEEDED} held for 21600 seconds (limit 21600, --max-recovery-time); {ABOVE_MAXIMUM}"),
    (LEVEL, ABOVE, {"job_held": True, "held": {"recovery": 21600.0}},
     f"{EXCEEDED} none is open any more (limit 21600, --max-recovery-time); {ABOVE_MAXIMUM}"),
    (LEVEL, ABOVE, {"latest": (7000.0, 7001.0, 7002.26)} | HELD_SO_FAR,
     f"{RECOVERING} real value within range: 7002.3 seconds; {ABOVE_MAXIMUM}; held for 12 {BUDGET}"),
    (fitted(-0.1234, 9500.0, -0.9), ABOVE, HELD_SO_FAR,
     f"{RECOVERING} above maximum with slope -0.123: {ABOVE_MAXIMUM}; back in range in 4052 {AT_THIS} 12 {BUDGET}"),
    (fitted(0.1234, 5000.0, 0.9), BELOW, {},
     f"{RECOVERING} below minimum with slope 0.123: {BELOW_MINIMUM}; back in range in 3241 {AT_THIS} 0 {BUDGET}"),
    (fitted(-0.1234, 9500.0, -0.9), ABOVE, {"held": {"trend": 9000.4}},
     f"{EXCEEDED} recovering with slope -0.123 for 9000 seconds (limit 9000, --max-trend-time); {ABOVE_MAXIMUM}"),
    (NO_FIT._replace(trend=NO_TREND._replace(intercept=5000.0)), BELOW, {},
     f"{OUT_OF_BOUNDS} {BELOW_MINIMUM}; no trend yet {NEEDED}"),
    (fitted(0.0456, 9500.0, 0.9), ABOVE, {}, f"{OUT_OF_BOUNDS} {ABOVE_MAXIMUM}; slope 0.046 {NEEDED}"),
]  # fmt: skip


@pytest.mark.parametrize(("fit", "side", "more", "text"), WORDS)
def test_each_row_in_words(fit: Fit, side: int, more: dict[str, Any], text: str) -> None:
    assert row(fit, side, INDEX, **more).finding.message == text


def test_a_limit_of_nothing_holds_at_the_moment_itself() -> None:
    none = LIMITS._replace(max_backup_behind=0.0, max_recovery_time=0.0, max_trend_time=0.0)

    def condition(fit: Fit, jobs: JobsNow, held: dict[str, float]) -> str:
        return row(fit, ABOVE, none, jobs=jobs, held=held).finding.condition

    running, done = JobsNow({"backup": 0.0}, None, ()), JobsNow({}, ("backup", 0.0), ())
    assert condition(LEVEL, running, {}) == "active-backup"
    assert condition(LEVEL, running, {"backup": 0.1}) == "delay-out-of-bounds"
    assert condition(LEVEL, done, {}) == "backup-recovery-window"
    assert condition(LEVEL, done, {"recovery": 0.1}) == "delay-out-of-bounds"
    assert condition(FALLING, NO_JOBS, {}) == "recovering-above-maximum"
    assert condition(FALLING, NO_JOBS, {"trend": 0.1}) == "recovery-exceeded"


@pytest.mark.parametrize(
    ("intercept", "before", "side"),
    [
        (5399.9, IN_RANGE, BELOW),
        (5400.0, IN_RANGE, IN_RANGE),
        (9000.0, IN_RANGE, IN_RANGE),
        (9000.1, IN_RANGE, ABOVE),
        # Uncertain by three seconds: a line that was out is back once it is six inside.
        (5405.9, BELOW, BELOW),
        (5406.0, BELOW, IN_RANGE),
        (5405.9, ABOVE, IN_RANGE),
        (5405.9, IN_RANGE, IN_RANGE),
        (8994.1, ABOVE, ABOVE),
        (8994.0, ABOVE, IN_RANGE),
        (8994.1, BELOW, IN_RANGE),
        (8994.1, IN_RANGE, IN_RANGE),
        (9500.0, BELOW, ABOVE),
        (5000.0, ABOVE, BELOW),
        (None, ABOVE, ABOVE),
        (None, BELOW, BELOW),
        (None, IN_RANGE, IN_RANGE),
    ],
)
def test_a_line_that_was_out_is_back_only_beyond_doubt(intercept: float | None, before: int, side: int) -> None:
    fit = NO_FIT._replace(trend=NO_TREND._replace(intercept=intercept), end_error=3.0)
    assert side_of(fit, before, LIMITS) == side


def towards(slope: float | None, intercept: float | None = None, correlation: float | None = None) -> Trend:
    """A trend with as good a correlation as its direction can have, unless another is given."""
    sure = None if slope is None else -1.0 if slope < 0 else 1.0
    return Trend(slope, intercept, sure if correlation is None else correlation, 61, 600.0)


STILL = towards(0.0, 9500.0, 0.0)
OLD = NO_FIT._replace(trend=STILL, young=False, slope_error=0.0)
YOUNG = NO_FIT._replace(trend=STILL, young=True, slope_error=0.1)


@pytest.mark.parametrize(
    ("fit", "side", "slope"),
    [
        (NO_FIT, ABOVE, None),
        (OLD, ABOVE, None),
        (OLD._replace(trend=towards(-0.3)), ABOVE, -0.3),
        (OLD._replace(trend=towards(-0.3, correlation=0.6)), ABOVE, -0.3),  # as far from nothing, either way
        (OLD._replace(trend=Trend(-0.3, 9500.0, None)), ABOVE, None),
        # A young stretch: its slope counts where it is sure.
        (YOUNG._replace(trend=towards(-0.3)), ABOVE, -0.3),
        (YOUNG._replace(trend=towards(0.3)), BELOW, 0.3),
        (YOUNG._replace(trend=towards(-0.299)), ABOVE, None),
        (YOUNG._replace(trend=towards(0.299)), BELOW, None),
        (YOUNG._replace(trend=towards(-0.3), slope_error=0.101), ABOVE, None),
        (OLD._replace(trend=towards(-0.3), slope_error=0.101), ABOVE, -0.3),
        # While it is young, the stretch before it speaks for the line, where it was out itself.
        (YOUNG._replace(before=towards(-0.2, 9000.1)), ABOVE, -0.2),
        (YOUNG._replace(before=towards(-0.2, 9000.0)), ABOVE, None),
        (YOUNG._replace(before=towards(0.2, 5399.9)), BELOW, 0.2),
        (YOUNG._replace(before=towards(0.2, 5400.0)), BELOW, None),
        (YOUNG._replace(before=towards(-0.2)), ABOVE, None),
        (YOUNG._replace(before=towards(0.2, 9000.1)), ABOVE, None),
        (YOUNG._replace(before=towards(-0.09, 9000.1)), ABOVE, None),
        (OLD._replace(before=towards(-0.2, 9000.1)), ABOVE, None),
        # The whole window, while the stretch may be a mere pause.
        (OLD._replace(whole=towards(-0.2, 9000.1)), ABOVE, -0.2),
        (OLD._replace(whole=towards(-0.2, 9000.0)), ABOVE, None),
        (OLD._replace(whole=towards(0.2, 5399.9)), BELOW, 0.2),
        (OLD._replace(whole=towards(0.2, 5400.0)), BELOW, None),
        (OLD._replace(whole=towards(-0.09, 9000.1)), ABOVE, None),
        # Low-water marks of a line above its range, high-water marks of one below.
        (OLD._replace(low_marks=towards(-0.2)), ABOVE, -0.2),
        (OLD._replace(high_marks=towards(-0.2)), ABOVE, None),
        (OLD._replace(high_marks=towards(0.2)), BELOW, 0.2),
        (OLD._replace(low_marks=towards(0.2)), BELOW, None),
        (OLD._replace(low_marks=towards(-0.2, correlation=0.9)), ABOVE, None),  # the ranks say otherwise
        (OLD._replace(high_marks=towards(0.2, correlation=-0.9)), BELOW, None),
    ],
)
def test_at_which_slope_a_line_recovers(fit: Fit, side: int, slope: float | None) -> None:
    assert recovering(fit, side, LIMITS) == slope


def test_marks_that_say_nothing_are_no_recovery_however_little_is_asked_for() -> None:
    limits = LIMITS._replace(min_correlation=0.0)
    assert recovering(OLD._replace(low_marks=towards(-0.2, correlation=0.0)), ABOVE, limits) is None
    assert recovering(OLD._replace(high_marks=towards(0.2, correlation=0.0)), BELOW, limits) is None


def test_a_level_line_does_not_recover_however_little_is_asked_for() -> None:
    limits = LIMITS._replace(min_recovery_slope=0.0, min_correlation=0.0)
    for level in (OLD, OLD._replace(low_marks=towards(0.0, correlation=-0.9))):
        assert recovering(level, ABOVE, limits) is None
    assert recovering(OLD._replace(trend=towards(-1e-6)), ABOVE, limits) == -1e-6
    verdict = judged(samples(0.0, 600.0, 20000.0), limits)
    assert (verdict.state, verdict.condition) == (State.CRITICAL, "delay-out-of-bounds")


@pytest.mark.parametrize(
    ("intercept", "slope", "seconds"),
    [(9500.0, -0.5, 1000.0), (5000.0, 0.5, 800.0), (8990.0, -0.5, 0.0), (5410.0, 0.5, 0.0), (9000.0, -0.5, 0.0)],
)
def test_when_a_line_is_back_in_range(intercept: float, slope: float, seconds: float) -> None:
    assert back_in_range(towards(slope, intercept), slope, LIMITS) == seconds
