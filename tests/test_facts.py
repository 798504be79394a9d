"""What is found at a sample itself: every text whole, and every limit at its last second and the first one after."""

from __future__ import annotations

from typing import Any

import pytest
from judge_builders import CALM, LIMITS, sample

from check_delayed_repl.judge.findings import (
    Fact,
    beside_findings,
    hard_facts,
    heartbeat_usable,
    holdable_facts,
    native,
)
from check_delayed_repl.judge.observed import Observed
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Sample


def seen(*samples: Sample) -> Observed:
    """What the samples add up to."""
    observed = Observed()
    for each in samples:
        observed.add(each)
    return observed


def hard(*samples: Sample, limits: Limits = LIMITS) -> list[Fact]:
    return list(hard_facts(samples[-1], seen(*samples), limits))


def holdable(*samples: Sample, limits: Limits = LIMITS, now: float | None = None) -> list[Fact]:
    last = samples[-1]
    return list(holdable_facts(last, seen(*samples), limits, last.t if now is None else now))


def beside(*samples: Sample, limits: Limits = LIMITS) -> list[Finding]:
    return list(beside_findings(samples[-1], seen(*samples), limits))


# --- never held back


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
    assert hard(sample(10.0, error=error)) == [Fact(error, text)]
    assert hard(sample(10.0, error=error, message="in words")) == [Fact(error, f"{text}: in words")]


def test_a_server_that_is_down_is_left_to_the_jobs() -> None:
    assert hard(sample(10.0, error="server-down", message="refused")) == []


IN_WORDS: list[tuple[dict[str, Any], Fact]] = [
    ({"io": "no"}, Fact("status-unreadable", "IO thread is in a state that is not known: 'no'")),
    ({"sql": "yes"}, Fact("status-unreadable", "SQL thread is in a state that is not known: 'yes'")),
    ({"sql": "Connecting"}, Fact("status-unreadable", "SQL thread is in a state that is not known: 'Connecting'")),
    ({"io_errno": 2003, "io_error": "no route"}, Fact("io-error", "IO thread reports error 2003: no route")),
    ({"io_errno": 2003}, Fact("io-error", "IO thread reports error 2003: no text")),
    ({"sql_errno": 1062, "sql_error": "twice"}, Fact("sql-error", "SQL thread reports error 1062: twice")),
    ({"sql_errno": 1062}, Fact("sql-error", "SQL thread reports error 1062: no text")),
    ({"delay": 1.25e10 + 0.4}, Fact("heartbeat-unreadable", "Heartbeat is 12500000000 seconds old: no such time")),
    (
        {"delay": -7200.26},
        Fact(
            "heartbeat-from-future",
            "Source's heartbeat lies 7200.3 seconds ahead of the replica's clock (limit 1): the clocks disagree, or "
            "heartbeats are not in UTC (--heartbeat-timezone)",
        ),
    ),
    (
        {"local": -3.14},
        Fact(
            "heartbeat-from-future",
            "Local heartbeat lies 3.1 seconds ahead of the replica's clock (limit 1): the clocks disagree, or "
            "heartbeats are not in UTC (--heartbeat-timezone)",
        ),
    ),
]


@pytest.mark.parametrize(("wrong", "fact"), IN_WORDS)
def test_what_is_never_held_back_in_words(wrong: dict[str, Any], fact: Fact) -> None:
    assert hard(sample(10.0, **wrong)) == [fact]


def test_all_that_is_wrong_with_both_threads_is_said() -> None:
    found = hard(sample(10.0, io="?", sql="!", io_errno=1, sql_errno=2, delay=-2.0, local=-2.0))
    assert [fact.condition for fact in found] == [
        "status-unreadable",
        "status-unreadable",
        "io-error",
        "sql-error",
        "heartbeat-from-future",
        "heartbeat-from-future",
    ]


@pytest.mark.parametrize("io", ["Yes", "No", "Connecting", "Preparing"])
def test_states_of_an_io_thread_that_are_known(io: str) -> None:
    assert hard(sample(10.0, io=io, sql="No")) == []


@pytest.mark.parametrize(
    ("delay", "usable"),
    [(None, False), (-1.001, False), (-1.0, True), (0.0, True), (1e10, True), (1.0001e10, False)],
)
def test_a_delay_that_a_trend_may_be_fitted_to(delay: float | None, usable: bool) -> None:
    assert heartbeat_usable(sample(10.0, delay)) == usable
    if delay is not None:
        assert (hard(sample(10.0, delay)) == []) == usable


@pytest.mark.parametrize(
    ("mode", "delayed", "expected"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("native", False, True),
        ("native", True, True),
        ("external", True, False),
        ("external", False, False),
    ],
)
def test_whether_the_server_itself_delays(mode: str, delayed: bool, expected: bool) -> None:
    observed = seen(sample(0.0, sql_delay=7200 if delayed else 0))
    assert native(observed, LIMITS._replace(delay_mode=mode)) == expected


# --- the delay setting


def test_a_lost_setting_in_words() -> None:
    assert hard(sample(0.0, sql_delay=7200), sample(10.0, sql_delay=0)) == [
        Fact(
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


# --- a source that changed


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
        Fact(
            "heartbeat-missing",
            "Heartbeat is missing: no row of source 2 for 9001 seconds since it took over (limit 9000, "
            "--max-delay-time); the newest is server 1's",
        )
    ]


# --- the source's dead heartbeat

DRAINED: dict[str, Any] = {
    "ts": 1.0,
    "io": "Yes",
    "sql": "Yes",
    "source_log": ("b", 5),
    "relay_log": ("b", 5),
}


def passed_by(t: float, **more: Any) -> Sample:
    """The heartbeat stands still since 0 while changes that are a minute and a second younger are applied."""
    at = {"ts": 1.0, "io": "Yes", "sql": "Yes", "relay_log": ("b", int(t)), "seconds_behind": int(CALM + t) - 61}
    return sample(t, CALM + t, **at | more)


def test_a_dead_heartbeat_in_words() -> None:
    assert hard(passed_by(0.0), passed_by(61.4)) == [
        Fact(
            "source-heartbeat-dead",
            "Source's heartbeat has not advanced for 61 seconds, though later changes were applied (limit 60, "
            "--max-seconds-behind): is pt-heartbeat running on the source?",
        )
    ]
    assert hard(sample(1000.0, **DRAINED), sample(1061.4, **DRAINED)) == [
        Fact(
            "source-heartbeat-dead",
            "Source's heartbeat has not advanced for 61 seconds, though nothing is left to apply (limit 60, "
            "--max-seconds-behind): is pt-heartbeat running on the source?",
        )
    ]


ALIVE: list[tuple[str, list[Sample]]] = [
    ("for as long as it may", [passed_by(0.0), passed_by(60.0)]),
    ("changes are younger by no more than the limit", [passed_by(0.0), passed_by(61.0, seconds_behind=int(CALM) + 1)]),
    ("drained for as long as it may be", [sample(1000.0, **DRAINED), sample(1060.0, **DRAINED)]),
    (
        "replication runs again for as long as the limit",
        [passed_by(0.0), passed_by(10.0, io="No"), passed_by(20.0), passed_by(80.0)],
    ),
    (
        "drained for as long as the limit, though the heartbeat is older",
        [sample(0.0, **DRAINED | {"sql_remaining": 1}), sample(10.0, **DRAINED), sample(70.0, **DRAINED)],
    ),
    (
        "a heartbeat that is as old as the limit, though all has been drained for longer",
        [sample(0.0, **DRAINED | {"ts": 0.5}), sample(10.0, **DRAINED), sample(70.0, **DRAINED)],
    ),
]


@pytest.mark.parametrize("samples", [samples for _, samples in ALIVE], ids=[name for name, _ in ALIVE])
def test_a_heartbeat_that_is_not_dead(samples: list[Sample]) -> None:
    assert hard(*samples) == []


@pytest.mark.parametrize(
    "samples",
    [
        [passed_by(0.0), passed_by(10.0, io="No"), passed_by(20.0), passed_by(81.0)],
        [sample(0.0, **DRAINED | {"sql_remaining": 1}), sample(10.0, **DRAINED), sample(71.0, **DRAINED)],
        [sample(0.0, **DRAINED | {"ts": 0.5}), sample(10.0, **DRAINED), sample(71.0, **DRAINED)],
    ],
)
def test_the_same_heartbeat_a_second_later(samples: list[Sample]) -> None:
    assert [fact.condition for fact in hard(*samples)] == ["source-heartbeat-dead"]


# --- held by a job

WORDS_OF_THE_HELD: list[tuple[list[Sample], Fact]] = [
    ([sample(10.0, error="server-down")], Fact("server-down", "Server is down")),
    ([sample(10.0, error="server-down", message="refused")], Fact("server-down", "Server is down: refused")),
    ([sample(10.0, io="No")], Fact("io-stopped", "IO thread is stopped: no changes are fetched from the source")),
    (
        [sample(1000.0, io="Preparing"), sample(1061.4, io="Connecting")],
        Fact("io-stopped", "IO thread has been Connecting for 61 seconds (limit 60, --max-seconds-behind)"),
    ),
    (
        [sample(0.0, sql_delay=7200), sample(10.0, sql="No")],
        Fact("sql-stopped", "SQL thread is stopped: no changes are applied"),
    ),
    (
        [sample(10.0, local_missing=True)],
        Fact(
            "local-heartbeat-stale",
            "Local heartbeat has no row: run a second pt-heartbeat on the replica itself, or give --no-local-heartbeat "
            "where it must not be written to",
        ),
    ),
    (
        [sample(10.0, local=60.26)],
        Fact(
            "local-heartbeat-stale",
            "Local heartbeat is 60.3 seconds old (limit 60, --max-seconds-behind): is pt-heartbeat running on the "
            "replica?",
        ),
    ),
    (
        [sample(0.0, source_log=("b", 1)), sample(1801.4, source_log=("b", 1))],
        Fact(
            "source-log-stale",
            "Nothing was fetched from the source for 1801 seconds (limit 1800, --max-master-behind)",
        ),
    ),
    (
        [sample(0.0, relay_log=("b", 1)), sample(28801.4, relay_log=("b", 1))],
        Fact(
            "relay-log-stale",
            "Nothing was applied from the relay log for 28801 seconds (limit 28800, --max-relay-behind)",
        ),
    ),
]


@pytest.mark.parametrize(("samples", "fact"), WORDS_OF_THE_HELD)
def test_what_a_job_may_hold_back_in_words(samples: list[Sample], fact: Fact) -> None:
    assert holdable(*samples) == [fact]


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
    assert seen(sample(10.0, source_log=("b", 1))).log_ages(40.0) == (30.0, None)
    assert seen(sample(10.0, relay_log=("b", 1))).log_ages(40.0) == (None, 30.0)


def test_an_age_counts_from_a_sample_at_time_nought_as_well() -> None:
    assert seen(sample(0.0, source_log=("b", 1), relay_log=("b", 1))).log_ages(40.0) == (40.0, 40.0)
