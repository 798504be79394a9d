"""What real servers did: recordings of the integration tests' own runs, replayed.

tests/recordings/ has one file a scenario and a family of servers, as `delayed-repl history export` wrote it; addresses
are made general. Those named `-unannounced` are of the same time as the one without, with no job recorded.
`stories.txt` has what the judge said of each, and what of it matters is asserted here by itself.

    CHECK_DELAYED_REPL_RECORDINGS=FOLDER tests/run --integration    keeps the recordings of a run in a folder
    python tests/test_real_recordings.py                            writes stories.txt anew, to be read before kept
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pytest

from check_delayed_repl.arguments import Parser
from check_delayed_repl.backtest.replay import Replay
from check_delayed_repl.history.recording import read
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.options import add_connection_options, add_judging_options, limits_from
from check_delayed_repl.records import JobLine, Record, Sample

FOLDER = Path(__file__).parent / "recordings"
STORIES = FOLDER / "stories.txt"
NAMES = sorted(file.stem for file in FOLDER.glob("*.jsonl"))

SCALED = (
    *("--min-delay-time", "6", "--max-delay-time", "16", "--max-seconds-behind", "5"),
    *("--max-relay-behind", "60", "--max-master-behind", "60", "--max-last-seen", "6"),
    *("--max-backup-behind", "2m", "--max-deshard-behind", "2m", "--max-recovery-time", "60"),
    *("--max-trend-time", "40", "--window", "15"),
)
"""The replicas are delayed by ten seconds and sampled every second."""
SPECIAL = {
    "a-backup-stops-the-server": ("--job-stops-server", "backup"),
    "failover-to-another-source": ("--max-delay-time", "20", "--max-job-behind", "failover=60"),
    "the-delay-setting-is-lost-and-set-again": ("--min-delay-time", "8"),
    "pt-slave-delay-dies": ("--max-delay-time", "22"),
    "a-job-is-forgotten": ("--max-backup-behind", "8", "--max-deshard-behind", "8"),
}
"""Scenario → further options that it is about."""


class Moment(NamedTuple):
    seconds: float
    state: str
    condition: str


def records(name: str) -> list[Record]:
    with (FOLDER / f"{name}.jsonl").open("rb") as lines:
        return list(read(lines))


def limits_of(name: str, *options: str) -> Limits:
    parser = Parser("test")
    add_connection_options(parser)
    add_judging_options(parser)
    scenario = name.split("-", 1)[1].removesuffix("-unannounced")
    return limits_from(parser.parse_args([*SCALED, *SPECIAL.get(scenario, ()), *options]))


def samples(name: str, *options: str) -> Iterator[tuple[Sample, Verdict]]:
    """Every sample, and what a check at that moment would have said."""
    fold = Fold(limits_of(name, *options))
    for record in records(name):
        fold.add(record)
        if isinstance(record, Sample):
            yield record, fold.verdict(record.t, worker=True)


def moments(name: str, *options: str) -> list[Moment]:
    found: list[Moment] = []
    begin = None
    for sample, verdict in samples(name, *options):
        begin = sample.t if begin is None else begin
        if not found or found[-1][1:] != (verdict.state.name, verdict.condition):
            found.append(Moment(round(sample.t - begin, 1), verdict.state.name, verdict.condition))
    return found


def story(name: str) -> str:
    return f"{name}\n" + "".join(f"  {m.seconds:6.1f} {m.state:8} {m.condition}\n" for m in moments(name))


def told() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in STORIES.read_text().splitlines(keepends=True):
        if not line.startswith(" "):
            name = line.strip()
            found[name] = ""
        found[name] += line
    return found


def test_every_recording_has_its_story() -> None:
    assert sorted(told()) == NAMES
    assert {name.split("-", 1)[0] for name in NAMES} == {"mysql", "mysql56", "mariadb", "mariadb118"}


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_judged_as_it_was_told(name: str) -> None:
    assert story(name) == told()[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_quick_way_and_a_kept_folding_say_the_same(name: str) -> None:
    limits = limits_of(name)
    every = list(Replay(limits, every=True).feed(records(name)))
    plain = [next(run) for _, run in groupby(every, lambda each: (each.state, each.condition))]
    assert list(Replay(limits).feed(records(name))) == plain
    fold, kept = Fold(limits), Fold(limits)
    seen: list[Sample] = []
    for record in records(name):
        fold.add(record)
        kept.add(record)
        if isinstance(record, JobLine):
            continue
        seen.append(record)
        loaded = Fold.load(kept.dump(), limits)
        loaded.restore(seen)
        assert loaded.verdict(record.t) == fold.verdict(record.t)
        kept = copy.deepcopy(loaded)


@pytest.mark.parametrize("family", ["mysql", "mariadb"])
class TestWhatMatters:
    """Of each scenario, what a person who is woken or left asleep by it would ask for."""

    @pytest.mark.parametrize(
        "what", ["holds-a-read-lock", "stops-both-threads", "stops-the-server", "stops-the-sql-thread"]
    )
    def test_a_backup_wakes_nobody_but_an_unannounced_one_does(self, family: str, what: str) -> None:
        name = f"{family}-a-backup-{what}"
        states = {m.state for m in moments(name)}
        assert states == {"OK", "WARNING"}
        assert moments(name)[-1].state == "OK"
        assert "CRITICAL" in {m.state for m in moments(f"{name}-unannounced")}

    def test_a_line_lost_after_a_harmless_backup_is_news(self, family: str) -> None:
        seen = moments(f"{family}-a-line-lost-after-a-harmless-backup", "--window", "8")
        assert "CRITICAL" in {m.state for m in seen}

    def test_a_slow_transaction_is_no_dead_heartbeat(self, family: str) -> None:
        name = f"{family}-a-slow-transaction-is-no-dead-heartbeat"
        conditions = {finding.condition for _, verdict in samples(name) for finding in verdict.findings}
        assert "delay-out-of-bounds" in conditions
        assert "source-heartbeat-dead" not in conditions


@pytest.mark.parametrize("name", ["mysql-a-clock-that-is-wrong", "mysql56-a-clock-that-is-wrong"])
def test_a_clock_that_was_set_back_is_no_dead_heartbeat(name: str) -> None:
    """The source's clock is 30 s ahead for a while and then 30 s behind, its heartbeat being written all the time."""
    conditions = {finding.condition for _, verdict in samples(name) for finding in verdict.findings}
    assert {"heartbeat-from-future", "delay-out-of-bounds"} <= conditions
    assert "source-heartbeat-dead" not in conditions


def test_a_sample_that_does_not_ask_for_the_local_heartbeat_is_no_good_news() -> None:
    """Another check, with --no-local-heartbeat, samples in between while the local heartbeat is stale."""
    name = "mysql-a-sample-that-does-not-ask-for-the-local-heartbeat"
    assert [sample.local for sample, _ in samples(name)].count(None) == 1
    assert [m.condition for m in moments(name)] == ["in-range", "local-heartbeat-stale", "in-range"]
    assert {m.state for m in moments(name, "--no-local-heartbeat")} == {"OK"}


@pytest.mark.parametrize("family", ["mariadb", "mariadb118", "mysql56"])
def test_pt_slave_delay_is_missed(family: str) -> None:
    """First it dies with the SQL thread stopped, then, started again, with the thread running."""
    found = moments(f"{family}-pt-slave-delay-dies")
    assert [m.state for m in found if m.condition != "delay-out-of-bounds"] == ["OK", "CRITICAL"] * 2 + ["OK"]
    assert "line-drained" in {m.condition for m in found}


if __name__ == "__main__":
    STORIES.write_text("".join(map(story, NAMES)))
