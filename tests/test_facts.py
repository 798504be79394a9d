"""What is found at a sample itself: every text whole, and every limit at its last second and the first one after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from judge_builders import CALM, LIMITS, sample

from check_delayed_repl.conditions import BESIDE, names
from check_delayed_repl.judge.findings import heartbeat_usable, holdable_findings, native, sample_findings
from check_delayed_repl.judge.observed import Observed
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Sample


def seen(*samples: Sample) -> Observed:
    observed = Observed()
    for each in samples:
        observed.add(each)
    return observed


def critical(condition: str, message: str) -> Finding:
    return Finding(State.CRITICAL, condition, message)


def hard(*samples: Sample, limits: Limits = LIMITS) -> list[Finding]:
    found = sample_findings(samples[-1], seen(*samples), limits)
    return [finding for finding in found if finding.condition not in names(BESIDE)]


def holdable(*samples: Sample, limits: Limits = LIMITS, now: float | None = None) -> list[Finding]:
    last = samples[-1]
    return list(holdable_findings(last, seen(*samples), limits, last.t if now is None else now))


def beside(*samples: Sample, limits: Limits = LIMITS) -> list[Finding]:
    found = sample_findings(samples[-1], seen(*samples), limits)
    return [finding for finding in found if finding.condition in names(BESIDE)]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("connect-failed", "Cannot connect to the replica"),
        ("timeout", "The replica did not answer in time (--timeout)"),
        ("not-a-replica", "Not a replica"),
        ("status-unreadable", "Replication status cannot be read"),
        ("heartbeat-missing", "Heartbeat is missing"),
        ("heartbeat-unreadable", "Heartbeat cannot be read"),
        ("no-hint-for-this", "No hint for this"),
    ],
)
def test_a_sample_that_failed_says_why(error: str, text: str) -> None:
    assert hard(sample(10.0, error=error)) == [critical(error, text)]
    assert hard(sample(10.0, error=error, message="in words")) == [critical(error, f"{text}: in words")]


def test_a_server_that_is_down_is_left_to_the_jobs() -> None:
    assert hard(sample(10.0, error="server-down", message="refused")) == []


DISAGREE = "(limit 1): the clocks disagree, or heartbeats are not in UTC (--heartbeat-timezone)"
IN_WORDS: list[tuple[dict[str, Any], str, str]] = [
    ({"io": "no"}, "status-unreadable", "IO thread is in a state that is not known: 'no'"),
    ({"sql": "yes"}, "status-unreadable", "SQL thread is in a state that is not known: 'yes'"),
    ({"sql": "Connecting"}, "status-unreadable", "SQL thread is in a state that is not known: 'Connecting'"),
    ({"io_errno": 2003, "io_error": "no route"}, "io-error", "IO thread reports error 2003: no route"),
    ({"io_errno": 2003}, "io-error", "IO thread reports error 2003: no text"),
    ({"sql_errno": 1062, "sql_error": "twice"}, "sql-error", "SQL thread reports error 1062: twice"),
    ({"sql_errno": 1062}, "sql-error", "SQL thread reports error 1062: no text"),
    ({"delay": 1.25e10 + 0.4}, "heartbeat-unreadable", "Heartbeat is 12500000000 seconds old: no such time"),
    (
        *({"delay": -7200.26}, "heartbeat-from-future"),
        f"Source's heartbeat lies 7200.3 seconds ahead of the replica's clock {DISAGREE}",
    ),
    (
        *({"local": -3.14}, "heartbeat-from-future"),
        f"Local heartbeat lies 3.1 seconds ahead of the replica's clock {DISAGREE}",
    ),
]


@pytest.mark.parametrize(("wrong", "condition", "text"), IN_WORDS)
def test_what_is_never_held_back_in_words(wrong: dict[str, Any], condition: str, text: str) -> None:
    assert hard(sample(10.0, **wrong)) == [critical(condition, text)]


def test_all_that_is_wrong_with_both_threads_is_said() -> None:
    found = hard(sample(10.0, io="?", sql="!", io_errno=1, sql_errno=2, delay=-2.0, local=-2.0))
    wanted = ["status-unreadable"] * 2 + ["io-error", "sql-error"] + ["heartbeat-from-future"] * 2
    assert [fact.condition for fact in found] == wanted


def test_states_of_an_io_thread_that_are_known() -> None:
    for io in ("Yes", "No", "Connecting", "Preparing"):
        assert hard(sample(10.0, io=io, sql="No")) == []


@pytest.mark.parametrize(
    ("delay", "usable"), [(None, False), (-1.001, False), (-1.0, True), (0.0, True), (1e10, True), (1.0001e10, False)]
)
def test_a_delay_that_a_trend_may_be_fitted_to(delay: float | None, usable: bool) -> None:
    assert heartbeat_usable(sample(10.0, delay)) == usable
    if delay is not None:
        assert (hard(sample(10.0, delay)) == []) == usable


@pytest.mark.parametrize(
    ("mode", "delayed", "expected"),
    [("auto", True, True), ("auto", False, False), ("native", False, True), ("external", True, False)],
)
def test_whether_the_server_itself_delays(mode: str, delayed: bool, expected: bool) -> None:
    observed = seen(sample(0.0, sql_delay=7200 if delayed else 0))
    assert native(observed, LIMITS._replace(delay_mode=mode)) == expected


def test_a_lost_setting_in_words() -> None:
    assert hard(sample(0.0, sql_delay=7200), sample(10.0, sql_delay=0)) == [
        critical(
            "delay-setting-lost",
            "Delay setting is lost: the server is set to delay by 0 seconds, it was 7200 before (minimum 5400, "
            "--min-delay-time)",
        )
    ]


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (7200, 5399, True),
        (7200, 5400, False),  # less, but long enough: somebody's will
        (3600, 3599, True),  # never was long enough, and is less now
        (3600, 3600, False),
        (3600, 7200, False),
        (7200, None, False),
    ],
)
def test_a_setting_is_lost_below_the_minimum_and_below_what_it_was(before: int, after: int | None, lost: bool) -> None:
    assert bool(hard(sample(0.0, sql_delay=before), sample(10.0, sql_delay=after))) == lost


def failover(took: float) -> tuple[Sample, ...]:
    """Samples until so many seconds after the first one that names the new source."""
    return (
        sample(0.0, source_id=1, heartbeat_id=1),
        sample(100.0, source_id=2, heartbeat_id=1),
        sample(100.0 + took, source_id=2, heartbeat_id=1),
    )


def test_a_changed_source_is_a_warning_for_as_long_as_a_delay_may_be_and_a_missing_heartbeat_after() -> None:
    for took in (0.0, 8999.4, 9000.0):
        assert hard(*failover(took)) == []
        assert beside(*failover(took)) == [
            Finding(
                State.WARNING,
                "source-changed",
                "Source changed to server 2: until its heartbeat arrives, server 1's is used, for "
                f"{took:.0f} seconds so far (limit 9000, --max-delay-time)",
            )
        ]
    assert beside(*failover(9001.4)) == []
    assert hard(*failover(9001.4)) == [
        critical(
            "heartbeat-missing",
            "Heartbeat is missing: no row of source 2 for 9001 seconds since it took over (limit 9000, "
            "--max-delay-time); the newest is server 1's",
        )
    ]


DRAINED: dict[str, Any] = {"ts": 1.0, "io": "Yes", "sql": "Yes", "source_log": ("b", 5), "relay_log": ("b", 5)}


def passed_by(t: float, **more: Any) -> Sample:
    """The heartbeat stands still since 0 while changes that are a minute and a second younger are applied."""
    at = {"ts": 1.0, "io": "Yes", "sql": "Yes", "relay_log": ("b", int(t)), "seconds_behind": int(CALM + t) - 61}
    return sample(t, CALM + t, **at | more)


def test_a_dead_heartbeat_in_words() -> None:
    for seen, though in (
        ([passed_by(0.0), passed_by(61.4)], "later changes were applied"),
        ([sample(1000.0, **DRAINED), sample(1061.4, **DRAINED)], "nothing is left to apply"),
    ):
        text = (
            f"Source's heartbeat has not advanced for 61 seconds, though {though} (limit 60, --max-seconds-behind): is"
            " pt-heartbeat running on the source?"
        )
        assert hard(*seen) == [critical("source-heartbeat-dead", text)]


def drained(t: float, **more: Any) -> Sample:
    return sample(t, **DRAINED | more)


@pytest.mark.parametrize(
    ("before", "at", "limit"),
    [
        ([passed_by(0.0)], passed_by, 60.0),
        ([passed_by(0.0), passed_by(10.0, io="No"), passed_by(20.0)], passed_by, 80.0),  # since it runs again
        ([drained(1000.0)], drained, 1060.0),
        ([drained(0.0, sql_remaining=1), drained(10.0)], drained, 70.0),  # since it is drained
        ([drained(0.0, ts=0.5), drained(10.0)], drained, 70.0),  # since the heartbeat has moved
    ],
)
def test_a_heartbeat_is_dead_after_the_limit(before: list[Sample], at: Callable[..., Sample], limit: float) -> None:
    assert hard(*before, at(limit)) == []
    dead = [*before, at(limit + 1.0)]
    assert [fact.condition for fact in hard(*dead)] == ["source-heartbeat-dead"]
    stopped = [*dead, at(limit + 2.0, io="No")]
    assert (hard(*stopped), seen(*stopped).dead_s) == ([], 61.0), "still proved dead"
    assert seen(*stopped, at(limit + 3.0, ts=2.0)).dead_s == 0.0


def test_changes_that_are_younger_by_no_more_than_the_limit_prove_nothing() -> None:
    assert hard(passed_by(0.0), passed_by(61.0, seconds_behind=int(CALM) + 1)) == []


# --- held by a job

NO_LOCAL = "--no-local-heartbeat where it must not be written to"
STOPPED = "thread is stopped: no changes are"
WORDS_OF_THE_HELD: list[tuple[list[Sample], str, str]] = [
    ([sample(10.0, error="server-down")], "server-down", "Server is down"),
    ([sample(10.0, error="server-down", message="refused")], "server-down", "Server is down: refused"),
    ([sample(10.0, io="No")], "io-stopped", f"IO {STOPPED} fetched from the source"),
    (
        *([sample(1000.0, io="Preparing"), sample(1061.4, io="Connecting")], "io-stopped"),
        "IO thread has been Connecting for 61 seconds (limit 60, --max-seconds-behind)",
    ),
    ([sample(0.0, sql_delay=7200), sample(10.0, sql="No")], "sql-stopped", f"SQL {STOPPED} applied"),
    (
        *([sample(10.0, local_missing=True)], "local-heartbeat-stale"),
        f"Local heartbeat has no row: run a second pt-heartbeat on the replica itself, or give {NO_LOCAL}",
    ),
    (
        *([sample(10.0, local=60.26)], "local-heartbeat-stale"),
        "Local heartbeat is 60.3 seconds old (limit 60, --max-seconds-behind): is pt-heartbeat running on the replica?",
    ),
    (
        *([sample(0.0, source_log=("b", 1)), sample(1801.4, source_log=("b", 1))], "source-log-stale"),
        "Nothing was fetched from the source for 1801 seconds (limit 1800, --max-master-behind)",
    ),
    (
        *([sample(0.0, relay_log=("b", 1)), sample(28801.4, relay_log=("b", 1))], "relay-log-stale"),
        "Nothing was applied from the relay log for 28801 seconds (limit 28800, --max-relay-behind)",
    ),
]


@pytest.mark.parametrize(("samples", "condition", "text"), WORDS_OF_THE_HELD)
def test_what_a_job_may_hold_back_in_words(samples: list[Sample], condition: str, text: str) -> None:
    assert holdable(*samples) == [critical(condition, text)]


@pytest.mark.parametrize(
    "samples",
    [
        [sample(0.0, io="Connecting"), sample(60.0, io="Connecting")],
        [sample(0.0, io="Connecting"), sample(61.0, io="Connecting", io_errno=2003)],  # is an io-error
        [sample(0.0, io="Connecting"), sample(61.0)],  # did not see the thread
        [sample(0.0, io="No", io_errno=1236)],
        [sample(0.0, sql_delay=7200), sample(10.0, sql="No", sql_errno=1062)],
        [sample(0.0, sql="No")],
        [sample(0.0, local=60.0)],
        [sample(0.0, source_log=("b", 1)), sample(1800.0, source_log=("b", 1))],
        [sample(0.0, relay_log=("b", 1)), sample(28800.0, relay_log=("b", 1))],
    ],
)
def test_what_is_just_in_order(samples: list[Sample]) -> None:
    assert holdable(*samples) == []


def test_a_missing_row_is_said_once_whatever_age_comes_with_it() -> None:
    found = holdable(sample(10.0, local_missing=True, local=1e6))
    assert [fact.message.split(":")[0] for fact in found] == ["Local heartbeat has no row"]


@pytest.mark.parametrize(
    ("asked", "fact"),
    [
        ({"local": 60.0}, None),
        ({"local": 70.0}, "Local heartbeat is 70 seconds old"),
        ({"local_missing": True}, "Local heartbeat has no row"),
    ],
)
def test_a_sample_that_did_not_ask_for_the_local_heartbeat_says_nothing_new(
    asked: dict[str, Any], fact: str | None
) -> None:
    said = [] if fact is None else [fact]
    for samples in ([sample(0.0, **asked)], [sample(0.0, **asked), sample(10.0)]):
        assert [found.message.split(" (")[0].split(":")[0] for found in holdable(*samples)] == said
    assert holdable(sample(0.0, **asked), sample(10.0, error="timeout")) == []
    assert holdable(sample(0.0, **asked), sample(10.0, local=1.0)) == []
    assert holdable(sample(0.0, **asked), sample(10.0), limits=LIMITS._replace(local_heartbeat=False)) == []


def test_logs_go_stale_between_samples() -> None:
    still = sample(0.0, source_log=("b", 1), relay_log=("b", 1))
    assert holdable(still, now=1800.0) == []
    assert [fact.condition for fact in holdable(still, now=1801.0)] == ["source-log-stale"]
    assert [fact.condition for fact in holdable(still, now=28801.0)] == ["source-log-stale", "relay-log-stale"]


def test_an_age_is_never_negative_and_each_log_has_its_own() -> None:
    observed = seen(sample(10.0, source_log=("b", 1)), sample(25.0, relay_log=("b", 1)))
    assert observed.log_ages(40.0) == (30.0, 15.0)
    assert observed.log_ages(20.0) == (10.0, 0.0)
    assert observed.log_ages(5.0) == (0.0, 0.0)
    assert seen(sample(0.0, source_log=("b", 1), relay_log=("b", 1))).log_ages(40.0) == (40.0, 40.0)
    assert seen(sample(10.0, source_log=("b", 1))).log_ages(40.0) == (30.0, None)
    assert seen(sample(10.0, relay_log=("b", 1))).log_ages(40.0) == (None, 30.0)
