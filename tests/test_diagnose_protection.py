"""What is called protected: the least that any witness says, unknown where they contradict each other."""

from __future__ import annotations

from typing import Any

import pytest
from diagnose_scenes import NOW, SCENES, line, scene, seen

from check_delayed_repl.judge.protection import protected_s

STILL = ("bin.000001", 4)


def peer(**other: Any) -> Any:
    """Five samples, a second apart, of a replica with a delay of 8 s; `age` of the heartbeat at the last one."""
    age, grows = other.pop("age"), other.pop("grows", False)
    usual = {"sql_delay": 8, "sql_remaining": None, "local": 0.5, "ts": None}
    return scene([seen(NOW - i, age - (i if grows else 0), **usual | other) for i in range(4, -1, -1)])


@pytest.mark.parametrize(
    ("about", "other", "least"),
    [
        ("a dead writer, nothing left to apply", {"age": 109.0, "grows": True, "seconds_behind": 0}, 8),
        (
            "the same, positions equal",
            {"age": 109.0, "grows": True, "seconds_behind": 0, "source_log": STILL, "relay_log": STILL},
            8,
        ),
        ("a dead writer, changes go on", {"age": 133.0, "grows": True, "seconds_behind": 8, "sql_remaining": 1}, 8),
        ("an honest lag", {"age": 100.0, "seconds_behind": 100}, 100),
        ("healthy", {"age": 8.4, "seconds_behind": 7, "sql_remaining": 1}, 8),
        ("a lag that only the server sees", {"age": 100.0, "seconds_behind": 60}, 60),
        ("a dead writer while the IO thread connects", {"age": 500.0, "seconds_behind": None, "io": "Connecting"}, 8),
        ("an applier that has stopped", {"age": 300.0, "seconds_behind": None, "sql": "No"}, 300),
        ("an event from the future", {"age": 8.4, "seconds_behind": 0, "sql_remaining": 293}, 8),
        ("no delay at all, and yet old", {"age": 100.0, "seconds_behind": 0, "sql_delay": 0}, None),
        ("a delay that is negative", {"age": -3600.0, "seconds_behind": 8}, None),
    ],
)
def test_the_least_witness_counts(about: str, other: dict[str, Any], least: float | None) -> None:
    picture = peer(**other)
    assert protected_s(picture.verdict) == (None if least is None else pytest.approx(least, abs=0.01)), about
    found = picture.protection
    if least is None:
        assert found is None
    elif other.get("sql") == "No":
        assert found.applied is None
    else:
        assert found.applied - picture.verdict.at == pytest.approx(least, abs=0.01)


def test_a_dead_heartbeat_leaves_the_servers_own_word() -> None:
    picture = SCENES["source-heartbeat-dead"]()
    assert picture.verdict.trend.intercept > 7400
    assert protected_s(picture.verdict) == 7200
    words = {"seconds_behind": None, "sql_delay": None, "sql_remaining": None}
    assert protected_s(scene([s._replace(**words) for s in picture.samples]).verdict) is not None  # nobody knows better


def test_a_line_that_catches_up_is_held_back_by_the_server() -> None:
    found = SCENES["recovering-above-maximum"]().protection
    assert found.applied == NOW + 7200


@pytest.mark.parametrize("name", ["server-down", "worker-missing"])
def test_what_is_no_longer_seen_promises_nothing(name: str) -> None:
    found = SCENES[name]().protection
    assert found.outdated
    assert found.applied is None


def test_pt_slave_delay_stops_the_applier_all_the_time() -> None:
    assert SCENES["in-range pt-slave-delay"]().protection.applied is not None
    assert scene(line(sql="No", sql_remaining=None)).protection.applied is None


def test_a_heartbeat_that_was_dead_before_the_applier_failed_promises_nothing() -> None:
    """Its age then still says how long its writer has been dead, and not how late the applied changes were."""
    dead = [seen(NOW - 10 * i, 508.0 - 10 * i, ts=NOW - 508, sql_delay=8, seconds_behind=0) for i in range(12, 4, -1)]
    for s in ({"sql": "No", "sql_errno": 1062}, {"sql": "No"}, {"io": "No", "sql": "No"}):
        failed = seen(NOW, 508.0, ts=NOW - 508, sql_delay=8, seconds_behind=None, **s)
        verdict = scene([*dead, failed]).verdict
        assert verdict.heartbeat_dead
        assert protected_s(verdict) is None
    again = scene([*dead, failed, seen(NOW, 9.0, ts=NOW - 9, sql_delay=8, seconds_behind=9)]).verdict
    assert not again.heartbeat_dead
    assert protected_s(again) == 8
