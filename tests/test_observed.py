"""What a run of samples adds up to: since when each thing stands still, runs, waits or has changed."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from judge_builders import CALM, sample

from check_delayed_repl.judge.observed import Observed
from check_delayed_repl.records import Sample

RUNNING: dict[str, Any] = {"io": "Yes", "sql": "Yes"}
DRAINED: dict[str, Any] = RUNNING | {"source_log": ("b", 5), "relay_log": ("b", 5)}


def observed(*samples: Sample) -> Observed:
    result = Observed()
    for each in samples:
        result.add(each)
    return result


def run(*seen: dict[str, Any]) -> Observed:
    """Samples ten seconds apart, the first at 10."""
    return observed(*(sample(10.0 * i, **one) for i, one in enumerate(seen, 1)))


def test_a_server_that_once_delayed_is_one_that_delays() -> None:
    assert not run({}, {"sql_delay": 0}, {"sql_delay": -5}).native
    assert run({"sql_delay": 1}, {"sql_delay": 0}, {}).native


def test_the_largest_setting_is_remembered() -> None:
    assert run({}).sql_delay_max is None
    assert run({"sql_delay": 0}).sql_delay_max == 0
    assert Observed(60).sql_delay_max == 60
    assert [Observed(setting).native for setting in (None, 0, -5, 1)] == [False, False, False, True]
    assert run({"sql_delay": 60}, {"sql_delay": 7200}, {"sql_delay": 0}, {}).sql_delay_max == 7200


def test_a_heartbeat_counts_from_the_sample_that_first_saw_it() -> None:
    still = run({"ts": 5.0, "relay_log": ("b", 1)}, {"ts": 5.0, "relay_log": ("b", 2)}, {}, {"ts": 5.0})
    assert (still.heartbeat, still.heartbeat_since, still.heartbeat_relay_log) == ((None, 5.0), 10.0, ("b", 1))
    moved = run({"ts": 5.0, "relay_log": ("b", 1)}, {"ts": 6.0, "relay_log": ("b", 2)})
    assert (moved.heartbeat, moved.heartbeat_since, moved.heartbeat_relay_log) == ((None, 6.0), 20.0, ("b", 2))


def test_a_heartbeat_that_goes_back_is_another() -> None:
    """A writer whose clock was set back is alive."""
    back = observed(sample(10.0, ts=5.0), sample(20.0, ts=4.0))
    assert (back.heartbeat, back.heartbeat_since) == ((None, 4.0), 20.0)


def test_another_servers_row_is_another_heartbeat_however_old() -> None:
    other = run({"ts": 5.0, "heartbeat_id": 1}, {"ts": 4.0, "heartbeat_id": 2})
    assert (other.heartbeat, other.heartbeat_since) == ((2, 4.0), 20.0)


def at(position: int, behind: int | None, **more: Any) -> dict[str, Any]:
    """Both threads run, the heartbeat stands still, and the applied position is this one."""
    return RUNNING | {"ts": 5.0, "relay_log": ("b", position), "seconds_behind": behind} | more


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([at(1, 7000)], 0.0),  # nothing was applied since the heartbeat
        ([at(1, 7000), at(1, 7000)], 0.0),
        ([at(1, 7000), at(2, 7000)], CALM - 7000.0),
        ([at(1, 7000), at(2, 7000), at(3, 7100)], CALM - 7000.0),  # the most that was seen
        ([at(1, 7000), at(2, 7100), at(3, 7000)], CALM - 7000.0),
        ([at(1, 7000), at(2, 9000)], 0.0),  # never less than nothing
        ([at(1, 7000), at(2, None)], 0.0),
        ([at(1, 7000), at(2, 7000, delay=None)], 0.0),
        ([at(1, 7000), at(2, 7000), at(3, 7000, ts=6.0)], 0.0),  # a new heartbeat counts anew
        ([at(1, 7000, relay_log=None), at(2, 7000)], 0.0),  # unknown where it stood
        ([at(1, 7000), at(2, 7000, relay_log=None)], 0.0),
        ([at(1, 7000), at(2, 7000), at(2, 7000, io="No")], 0.0),
        ([at(1, 7000), at(2, 7000), {"error": "timeout"}], 0.0),
        ([at(1, 7000), at(2, 7000), {}], CALM - 7000.0),  # a sample that saw no thread disturbs nothing
    ],
)
def test_by_how_much_the_heartbeat_is_passed_by(samples: list[dict[str, Any]], expected: float) -> None:
    assert run(*samples).passed_by_s == expected


@pytest.mark.parametrize(
    ("samples", "since"),
    [
        ([RUNNING], 10.0),
        ([RUNNING, RUNNING], 10.0),
        ([{}], 10.0),
        ([RUNNING, RUNNING | {"io": "Connecting"}], None),
        ([RUNNING, RUNNING | {"io": "No"}, RUNNING], 30.0),
        ([RUNNING, {"error": "timeout"}], None),
        ([RUNNING, {"error": "server-down"}, RUNNING], 30.0),
        ([RUNNING, RUNNING | {"error": "heartbeat-missing"}], 10.0),  # the threads were seen, and run
        ([RUNNING, RUNNING | {"sql": "No"}], 10.0),  # pt-slave-delay's way
        ([RUNNING | {"sql_delay": 7200}, RUNNING], 10.0),
        ([RUNNING | {"sql_delay": 7200}, RUNNING | {"sql": "No"}], None),
        ([RUNNING | {"sql_delay": 7200}, {"io": "Yes"}], None),
    ],
)
def test_since_when_replication_runs_undisturbed(samples: list[dict[str, Any]], since: float | None) -> None:
    assert run(*samples).running_since == since


@pytest.mark.parametrize(
    ("samples", "since"),
    [
        ([DRAINED], 10.0),
        ([DRAINED, DRAINED], 10.0),
        ([DRAINED, {}], 10.0),  # saw no status
        ([DRAINED, {"error": "timeout"}], None),
        ([DRAINED, DRAINED | {"error": "heartbeat-missing"}], 10.0),
        ([DRAINED, DRAINED | {"io": "No"}], None),
        ([DRAINED, DRAINED | {"sql": "No"}], None),
        ([DRAINED, DRAINED | {"sql": None}], None),
        ([DRAINED, DRAINED | {"io": "Connecting", "sql": "Connecting"}], None),
        ([DRAINED, DRAINED | {"relay_log": ("b", 4)}], None),
        ([DRAINED, RUNNING], None),  # positions unknown
        ([DRAINED, DRAINED | {"sql_remaining": 0}], None),
        ([DRAINED, DRAINED | {"sql_remaining": 3}, DRAINED], 30.0),
    ],
)
def test_since_when_the_relay_log_is_drained(samples: list[dict[str, Any]], since: float | None) -> None:
    assert run(*samples).drained_since == since


def test_what_the_newest_sample_saw_that_asked_for_the_local_heartbeat() -> None:
    assert run({}).local is None
    assert run({"local": 3.0}, {}).local == (3.0, False)
    assert run({"local": 3.0}, {"local_missing": True}, {}).local == (None, True)
    assert run({"local_missing": True}, {"local": 0.0}).local == (0.0, False)


@pytest.mark.parametrize(("thread", "log"), [("io", "source_log"), ("sql", "relay_log")])
def test_since_when_a_position_stands_still(thread: str, log: str) -> None:
    def since(*samples: dict[str, Any]) -> object:
        return getattr(run(*samples), f"{log}_since")

    here, there = {log: ("b", 1)}, {log: ("b", 2)}
    yes, no = {thread: "Yes"}, {thread: "No"}
    assert since({}) is None
    assert since(here, here) == 10.0
    assert since(here, {}, here) == 10.0
    assert since(here, there) == 20.0
    assert since(here, there, here) == 30.0
    assert since(here | no, here | no) == 10.0
    assert since(here | no, here | yes, here | yes) == 20.0
    assert since(here, here | yes) == 10.0  # it had not been seen to stand
    assert since(here | yes, {"error": "server-down"}, here | yes) == 30.0
    assert since(here | yes, {"error": "timeout"}, here | yes) == 10.0
    assert since(here | no, here, here | yes) == 30.0
    assert getattr(run(here, there, {}), log) == ("b", 2)


@pytest.mark.parametrize(
    ("samples", "since"),
    [
        ([{"io": "Connecting"}], 10.0),
        ([{"io": "Connecting"}, {"io": "Preparing"}], 10.0),
        ([{"io": "Connecting"}, {}], 10.0),
        ([{"io": "Connecting"}, {"io": "Yes"}], None),
        ([{"io": "Connecting"}, {"io": "No"}], None),
        ([{"io": "Connecting"}, {"io": "Connecting", "io_errno": 2003}], None),
        ([{"io": "Connecting", "io_errno": 0}], 10.0),
        ([{"io": "Connecting"}, {"io": "Yes"}, {"io": "Connecting"}], 30.0),
    ],
)
def test_since_when_the_io_thread_waits(samples: list[dict[str, Any]], since: float | None) -> None:
    assert run(*samples).io_waiting_since == since


@pytest.mark.parametrize(
    ("ids", "changed"),
    [
        ([(1, 1)], (None, None)),
        ([(1, None)], (None, None)),
        ([(None, 1)], (None, None)),
        ([(1, 1), (2, 1)], (2, 20.0)),
        ([(1, 1), (2, 1), (2, 1)], (2, 20.0)),
        ([(1, 1), (2, 1), (None, None)], (2, 20.0)),
        ([(1, 1), (2, 1), (3, 1)], (3, 30.0)),
        ([(1, 1), (2, 1), (2, 2)], (None, None)),
        ([(1, 1), (2, 1), (2, None)], (None, None)),
    ],
)
def test_a_source_has_changed_until_its_own_heartbeat_serves(
    ids: list[tuple[int | None, int | None]], changed: tuple[int | None, float | None]
) -> None:
    seen = run(*({"source_id": source, "heartbeat_id": heartbeat} for source, heartbeat in ids))
    assert (seen.source_changed, seen.source_changed_since) == changed


def test_what_was_observed_goes_through_a_cache_unchanged() -> None:
    before = run(DRAINED | {"ts": 5.0, "heartbeat_id": 1, "source_id": 2, "sql_delay": 7200}, {"io": "Connecting"})
    after = Observed()
    after.load(json.loads(json.dumps(vars(before))))
    assert vars(after) == vars(before)
    assert after.heartbeat == (1, 5.0)
    for one in (before, after):
        one.add(sample(30.0, **DRAINED))
    assert vars(after) == vars(before)


def test_a_cache_with_a_field_too_few_or_too_many_is_refused() -> None:
    values = vars(Observed())
    for wrong in ({}, values | {"more": None}):
        with pytest.raises(TypeError):
            Observed().load(wrong)


def test_what_is_passed_over_leaves_the_same_behind() -> None:
    """On lines with few values for each thing, so that it comes back to what it was."""
    pick = random.Random(7).choice
    for _ in range(4000):
        still = {"io": pick(("Yes", "Yes", None)), "sql": pick(("Yes", "Yes", "No")), "delay": 6500.0}
        still |= {"sql_delay": pick((60, None)), "relay_limited": pick((False, None))}
        local, remaining, beat, place = (
            pick(((0.5,), (0.5, 0.6, None))),
            pick(((5,), (5, None), (None,))),
            (1, 2),
            (1, 2),
        )
        if pick((True, False)):
            beat, place = (1, 2, None), (1, 2, None)
        samples = []
        for i in range(9):
            ts, fetched, applied = pick(beat), pick(place), pick(place)
            seen = {"local": pick(local), "sql_remaining": pick(remaining), "seconds_behind": pick((30, 6000))}
            logs = {"source_log": fetched and ("b", fetched), "relay_log": applied and ("b", applied)}
            samples.append(sample(10.0 * i, ts=ts, **still, **seen, **logs))
        before = pick((1, 2))
        quick, plain = observed(*samples[:before]), observed(*samples)
        quick.pass_over(samples[before:])
        assert vars(quick) == vars(plain)


def test_what_was_never_there_is_passed_over_too() -> None:
    moving = [sample(10.0 * i, ts=1.0 * i, local=0.5, relay_log=("b", i)) for i in range(9)]
    bare = [Sample(10.0 * i, CALM) for i in range(9)]
    for samples in (moving, bare, [*bare[:2], *moving[2:]], [*moving[:8], bare[8]]):
        quick, plain = observed(samples[0]), observed(*samples)
        quick.pass_over(samples[1:])
        assert vars(quick) == vars(plain)
