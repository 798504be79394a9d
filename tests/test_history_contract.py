"""What every kind of history promises. Each promise is a function of `Open`, which opens one and the same history.

Run for SQLite and for MySQL by the tests beside this file; `CONTRACT` holds all of them.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from check_delayed_repl.history import History, HistoryUnavailable
from check_delayed_repl.history.codec import Row, checksum
from check_delayed_repl.history.pruning import prune, prune_future, prune_meanwhile
from check_delayed_repl.history.recording import read
from check_delayed_repl.records import LARGEST, JobLine, Past, Record, Sample

Open = Callable[[], History]
Promise = Callable[[Open], None]

FIRST_RELEASE = Path(__file__).with_name("first_release")
R = "db1:3306"


def full(t: float, **changes: object) -> Sample:
    """A sample with everything seen."""
    seen = Sample(
        t,
        7203.123456789,
        ts=t - 7203.123456789,
        source_id=1,
        heartbeat_id=2,
        local=0.6000001,
        io="Yes",
        sql="No",
        io_errno=0,
        io_error="",
        sql_errno=1062,
        sql_error="Duplicate entry 'ü☃\U0001f600\n' \\ \0 %s ?",
        source_log=("bin.000002", 4),
        relay_log=("bin.000001", 2**40),
        relay_log_space=2**45,
        sql_delay=7200,
        sql_remaining=0,
        seconds_behind=7201,
        server="uuid:3e11fa47-71ca-11e1-9e33-c80aa9429562",
        io_state="Waiting for source to send event",
        filters=("Replicate_Do_DB=percona", "Replicate_Wild_Ignore_Table=a%.%"),
        relay_limited=False,
    )
    return seen._replace(**changes)  # type: ignore[arg-type]


def stored(history: History, replica: str = R) -> list[Record]:
    return [record for _, record in history.records(replica)]


def written_on(history: History) -> None:
    """A history of the first release: all that was recorded in it is there, and more can be."""
    with (FIRST_RELEASE / "recording.jsonl").open("rb") as file:
        old = list(read(file))
    assert stored(history) == old
    assert history.newest_sample(R) == Sample(1700000060.0, 12.5)
    history.load_fold(R, "k")
    history.save_fold(R, "k", 9, "{}", 3, ["snapshot"])
    assert history.kinds(R) == {"snapshot"}
    history.add_records(R, [full(1700000070.0)])
    assert stored(history) == [*old, full(1700000070.0)]
    assert history.newest_sample(R) == full(1700000070.0)


def arrivals(history: History, replica: str = R) -> list[int]:
    return [arrival for arrival, _ in history.records(replica)]


def empty_history_knows_nothing(open_: Open) -> None:
    history = open_()
    assert stored(history) == []
    assert list(history.job_lines(R)) == []
    assert history.window(R, 0, 10**9) == []
    assert history.newest_sample(R) is None
    assert history.newest_sample_t(R) is None
    assert history.replicas() == []
    assert history.load_fold(R, "k") is None
    assert prune(history, 0) == 0
    assert prune_future(history) == 0
    assert history.readable
    assert abs(history.now() - time.time()) < 60
    history.close()


def records_come_back_as_they_were(open_: Open) -> None:
    history = open_()
    t = 1700000000.123457
    lines: list[Record] = [
        full(t),
        Sample(t, 0.1 + 0.2),
        Sample(t, -1e300, local_missing=True, io="Connecting", sql="gone fishing", sql_error="x" * 1000),
        Sample(t, error="timeout", message="no answer", filters=(), relay_limited=True),
        Sample(t, error="io-error", message=""),
        Sample(t + 0.5, 1.0, source_log=("", 0), relay_log=("bin", LARGEST - 1), sql_delay=-LARGEST),
        JobLine(t, "b1", "backup", t - 0.25),
        JobLine(t, "b1", "backup", t - 0.25, t),
        JobLine(t, "b1", void=True),
        JobLine(t, "", "ü" * 20, 1e300, -1e300, unreadable="nonsense"),
    ]
    history.add_records(R, lines)
    assert stored(history) == lines
    assert [repr(record) for record in stored(open_())] == [repr(record) for record in lines]
    assert [line for _, line in history.job_lines(R)] == lines[6:]


def what_does_not_fit_is_cut_and_never_an_error(open_: Open) -> None:
    history = open_()
    long = {"message": "m" * 5000, "source_log": ("f" * 5000, -(2**70)), "io": "\ud800" + "x" * 500}
    odd = Sample(1.5, math.nan, error="timeout", ts=math.inf, source_id=2**70, **long)
    history.add_records(R, [odd, JobLine(1.5, "i" * 300, "k" * 300, math.inf, math.nan)])
    sample, line = stored(history)
    assert isinstance(sample, Sample)
    assert isinstance(line, JobLine)
    assert (sample.delay, sample.ts, sample.source_id) == (None, None, LARGEST - 1)
    assert sample.message == "m" * 1000
    assert sample.source_log[1] == -LARGEST
    assert (line.started_at, line.finished_at) == (None, None)
    with pytest.raises(HistoryUnavailable, match="cannot be kept"):
        history.add_records(R, [Sample(math.nan, 1.0)])
    assert len(stored(history)) == 2


def arrivals_rise_over_samples_and_jobs_of_all_replicas(open_: Open) -> None:
    history, other = open_(), open_()
    for number in range(5):
        history.add_records("a", [Sample(1000.0 + number, 1.0)])
        other.add_records("b", [Sample(500.0 - number, 2.0), JobLine(1.0, f"j{number}", "backup", 1.0)])
    mine, theirs = list(history.records("a")), list(history.records("b"))
    numbers = sorted(arrival for arrival, _ in mine + theirs)
    assert len(set(numbers)) == 15
    assert [arrival for arrival, _ in theirs] == sorted(arrival for arrival, _ in theirs)
    after = mine[2][0]
    assert list(history.records("a", after)) == mine[3:]
    assert list(history.records("b", theirs[4][0])) == theirs[5:]
    assert history.replicas() == ["a", "b"]


def what_arrives_is_read_for_all_replicas_at_once(open_: Open) -> None:
    history = open_()
    assert (history.place()[0], list(history.arrived(0))) == (0, [])
    for number in range(10):
        history.add_records(f"db{number % 3}", [Sample(float(number), 1.0)])
    before = history.place()[0]
    assert [arrival for arrival, _, _ in history.arrived(0)] == list(range(1, before + 1)) == list(range(1, 11))
    history.add_records("db2#a", [full(1.0)])
    history.add_job("elsewhere", JobLine(history.now(), "x", "backup", 1.0))
    history.add_records("new", [full(2.0)])
    assert [(name, type(record).__name__) for _, name, record in history.arrived(before)] == [
        ("db2#a", "Sample"),
        ("elsewhere", "JobLine"),
        ("new", "Sample"),
    ]
    assert [record for _, name, record in history.arrived(0) if name == "db1"] == stored(history, "db1")
    assert history.place()[0] == before + 3


def a_replica_that_comes_while_it_is_read_is_not_missed(open_: Open) -> None:
    history, other = open_(), open_()
    history.add_records("db0", [Sample(1.0, 1.0)])
    known = history.marks

    def come(replica: str | None) -> list[Row]:
        rows = known(replica)
        other.add_records(R, [Sample(1.0, 1.0), JobLine(1.0, "b1", "backup", 1.0)])
        return rows

    history.marks = come  # type: ignore[method-assign]
    seen = list(history.records(R))
    history.marks = known  # type: ignore[method-assign]
    assert seen + list(history.records(R, seen[-1][0] if seen else 0)) == list(history.records(R))
    assert len(list(history.records(R))) == 2


def long_histories_are_read_in_pieces(open_: Open) -> None:
    history = open_()
    lines: list[Record] = [
        Sample(float(number), 1.0) if number % 4 else JobLine(float(number), f"j{number}", "backup", float(number))
        for number in range(4700)
    ]
    history.add_records(R, lines)
    assert stored(history) == lines
    flood: list[Record] = [JobLine(float(number), "x", "backup", 1.0) for number in range(4500)]
    history.add_records("flooded", [Sample(1.0, 1.0), *flood, Sample(2.0, 2.0)])
    assert stored(history, "flooded") == [Sample(1.0, 1.0), *flood, Sample(2.0, 2.0)]


def jobs_of_the_server_apply_to_its_channels(open_: Open) -> None:
    history = open_()
    history.add_sample("db1#a", Sample(history.now(), 1.0))
    history.add_job("db1", JobLine(history.now(), "server", "backup", 1.0))
    history.add_job("db1#a", JobLine(history.now(), "channel", "backup", 1.0))
    history.add_job("db1#b", JobLine(history.now(), "other", "backup", 1.0))
    history.add_sample("db1#a", Sample(history.now(), 2.0))
    jobs = [(name, line.id) for name, line in history.job_lines("db1#a")]
    assert jobs == [("db1", "server"), ("db1#a", "channel")]
    assert [type(record).__name__ for record in stored(history, "db1#a")] == ["Sample", "JobLine", "JobLine", "Sample"]
    assert [line.id for _, line in history.job_lines("db1")] == ["server"]
    assert history.replicas() == ["db1#a"], "a name with jobs alone is no replica that somebody takes samples of"


def the_window_is_exact_whatever_the_clock_did(open_: Open) -> None:
    history = open_()
    times = [100.0, 110.0, 500.0, 120.0, 130.0, 120.0, 90.0, 120.0, 140.0]
    history.add_records(R, [Sample(t, t + place) for place, t in enumerate(times)])
    all_of_them = list(history.records(R))
    for since, history.chunk in itertools.product((0.0, 95.0, 120.0, 131.0, 501.0), (1, 2, 500)):
        for upto, _ in all_of_them:
            expected = [record for arrival, record in all_of_them if arrival <= upto and record.t >= since]
            assert history.window(R, since, upto) == expected
            assert sorted(history.delays(R, since, upto)) == sorted(Sample(s.t, s.delay) for s in expected)
    assert history.window(R, 0.0, 2**80) == [record for _, record in all_of_them]
    assert history.newest_sample_t(R) == 140.0


def what_is_left_of_older_records_is_told(open_: Open) -> None:
    history = open_()
    history.add_records("db8", [full(10.0, ts=900.0, sql_delay=99999)])
    job = JobLine(120.0, "b1", "backup", 100.0)
    lines = [Sample(100.0, 5.0), Sample(140.0, 7.0), job, full(110.0, ts=70.0, sql_delay=50), Sample(150.0, 1.0)]
    history.add_records(R, lines)
    first = arrivals(history)
    assert history.past(R, first[0]) == Past(0, None, None, False, True, ())
    assert history.past(R, first[3]) == Past(2, 140.0, None, False, True, (job,))
    assert history.past(R, first[4]) == Past(3, 140.0, 50, True, False, (job,))
    assert history.first_since(R, 105.0) == (first[3], 110.0)
    assert history.first_since(R, 140.0) == (first[1], 140.0)
    assert history.first_since(R, 150.5) is None
    assert history.first_since("nobody", 0.0) is None
    assert history.past("nobody", 2**40).samples == 0


def the_newest_sample_is_the_newest_that_saw_something(open_: Open) -> None:
    history = open_()
    history.add_records(R, [Sample(1.0, error="timeout")])
    assert history.newest_sample(R) is None
    assert history.newest_sample_t(R) == 1.0
    history.add_records(R, [full(2.0), full(3.0), Sample(4.0, error="timeout")])
    assert history.newest_sample(R) == full(3.0)
    history.add_records(R, [Sample(5.0, error="heartbeat-missing", source_id=7), Sample(6.0, error="timeout")])
    assert history.newest_sample(R) == Sample(5.0, error="heartbeat-missing", source_id=7)
    history.add_records(R, [Sample(7.0, 1.0)])
    assert open_().newest_sample(R) == Sample(7.0, 1.0)
    assert history.newest_sample_t(R) == 7.0


def samples_get_a_time_and_come_back(open_: Open) -> None:
    history = open_()
    before = history.now()
    sample = history.add_sample(R, full(time.time()))
    assert before - 1 <= sample.t <= history.now() + 1
    assert stored(history) == [sample]
    many = history.add_samples([(f"r{number}", full(time.time())) for number in range(450)])
    assert [stored(history, f"r{number}") for number in range(0, 450, 50)] == [[many[n]] for n in range(0, 450, 50)]
    assert [history.newest_sample(f"r{number}") for number in range(0, 450, 30)] == many[::30]
    assert history.add_samples([]) == []


def job_lines_are_those_of_exactly_this_name(open_: Open) -> None:
    history = open_()
    for name in (R, f"{R} ", f"{R}\t", R.upper(), "späß", "späß "):
        history.add_records(name, [JobLine(1.0, "b1", "backup", 1.0), JobLine(1.0, "b1 ", "backup", 1.0)])
    for name in (R, "späß"):
        assert [line.id for _, line in history.job_lines(name)] == ["b1", "b1 "]
        assert [line.id for _, line in history.job_lines(name, ["b1"])] == ["b1"]
        assert len(stored(history, name)) == 2
    assert len(list(history.arrived(0))) == 12


def samples_with_the_longest_texts_can_be_read(open_: Open) -> None:
    history = open_()
    seen = full(1.0, filters=(f"Replicate_Do_Table={'t' * 20_000}",), sql_error="e" * 2000, io_error="e" * 2000)
    history.add_records(R, [seen._replace(t=float(number)) for number in range(600)])
    assert len(stored(history)) == len(history.window(R, 0.0, 10**9)) == 600


def folds_are_kept_for_each_key(open_: Open) -> None:
    history = open_()
    history.save_fold(R, "k", 1, "nobody knows this replica", None)
    assert history.load_fold(R, "k") is None
    history.add_records(R, [Sample(1.0, 1.0)])
    history.save_fold(R, "k", 1, "a" * 100_000, None)
    history.save_fold(R, "other", 2, "b", None)
    assert open_().load_fold(R, "k") == (1, "a" * 100_000)
    history.save_fold(R, "k", 3, "ü", None)
    assert history.load_fold(R, "k") == (3, "ü")
    assert history.load_fold(R, "other") == (2, "b")
    assert history.load_fold("unknown", "k") is None
    for damage in ("arrival = arrival + 1", "folded = 'x'", "folded = HEX(folded)"):
        history.save_fold(R, "k", 3, "ü", None)
        history._write(partial(history._run, f"UPDATE fold SET {damage} WHERE judge = 'k'"))
        assert history.load_fold(R, "k") is None, "one that is damaged passes for none"
    history.save_fold(R, "k", 3, "ü", None)
    long = "a" * 15_000_000  # what whoever may record jobs can make of it, by the longest names
    history._write(
        partial(history._run, "UPDATE fold SET folded = ? WHERE judge = 'k'", (checksum(f"3{long}") + long,))
    )
    assert history.load_fold(R, "k") == (3, long)
    assert history.load_fold(R, "other") == (2, "b")


def pruning_removes_what_is_old_and_spares_what_judging_needs(open_: Open) -> None:
    history = open_()
    now = history.now()
    old = now - 1000
    history.add_records(
        R,
        [
            full(old, sql_delay=9000),
            *(full(old + number, sql_delay=3600) for number in range(1, 1700)),
            JobLine(old, "frozen", "rescue", old),
            JobLine(old, "*", void=True),
            JobLine(old, "done", "backup", old),
            JobLine(old + 1, "done", "backup", old, old + 1),
            JobLine(old, "open", "backup", old),
            JobLine(old, "late", "backup", old),
            JobLine(now, "late", "backup", old, now),
            JobLine(old, "void", "backup", old),
            JobLine(old, "void", "backup", old, None, True),
            JobLine(old, "reopened", "backup", old, old),
            JobLine(old + 2, "reopened", "backup", old),
        ],
    )
    history.add_records(R, [Sample(now - 1, error="timeout")])
    history.add_records("gone", [full(old), full(old + 1), Sample(old + 2, error="timeout")])
    newest = arrivals(history)[-1]
    before = len(arrivals(history))
    removed = prune(history, 500.0)
    left = stored(history)
    samples = [record for record in left if isinstance(record, Sample)]
    # Those that were 1000 s to 500 s old went, but for the one with the largest delay setting.
    assert samples[0] == full(old, sql_delay=9000)
    assert all(sample.t >= old + 499 for sample in samples[1:])
    assert samples[-1].error == "timeout"
    assert {record.id for record in left if isinstance(record, JobLine)} == {"open", "late", "reopened", "frozen"}
    assert len([record for record in left if isinstance(record, JobLine)]) == 6
    assert stored(history, "gone") == [full(old + 1)]
    assert removed == before - len(left) + 2
    assert history.newest_sample("gone") == full(old + 1)
    assert prune(history, 560.0) == 0, "what is left is younger, however long this takes"
    assert prune(history, 0.0, "unknown") == 0
    history.add_records(R, [Sample(now, 1.0)])
    assert arrivals(history)[-1] > newest, "arrival numbers are never given twice"


def of_many_old_samples_the_one_with_the_largest_setting_stays(open_: Open) -> None:
    history = open_()
    history.add_records(R, [full(float(place), sql_delay=min(place, 700) % 700) for place in range(1200)])
    history.add_records(R, [Sample(history.now(), 1.0)])
    for _ in range(2):
        prune(history, 10.0)
        assert [(sample.t, sample.sql_delay) for sample in history.window(R, 0.0, 10**9)][:-1] == [(699.0, 699)]


def job_lines_under_any_number_of_names_go_together(open_: Open) -> None:
    history = open_()
    now = history.now()
    old = now - 1000
    history.add_records("db1#a", [Sample(now, 1.0), JobLine(old, "channel", "backup", old)])
    history.add_records("db1", [JobLine(old, "server", "backup", old)])
    for number in range(60):
        history.add_records(f"nobody{number}", [JobLine(old, "x", "backup", old)])
    history.add_records("nobody0", [JobLine(now, "young", "backup", old)])
    asked: list[str] = []
    ask, history._rows = history._rows, lambda *given: asked.append(given[0]) or ask(*given)  # type: ignore[func-returns-value, method-assign]
    assert prune(history, 500.0) == 60
    assert len(asked) < 20
    assert [line.id for _, line in history.job_lines("db1#a")] == ["channel", "server"]
    assert [line.id for _, line in history.job_lines("nobody0")] == ["young"]


def whoever_samples_prunes_by_no_clock_that_has_just_jumped(open_: Open) -> None:
    history = open_()
    now, day = history.now(), 86400.0
    ages = (40 * day, 20 * day, 7200.0, 1.0)
    history.add_records(R, [Sample(now - age, 1.0) for age in ages])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "now", lambda: now + 31 * day)
        history.add_records(R, [Sample(now + 31 * day, 1.0)])
        assert prune_meanwhile(history, 30 * day, 1000) == ""
        assert len(stored(history)) == 5
    deadline, history.deadline = history.deadline, time.monotonic() - 1
    assert prune_meanwhile(history, 30 * day, 1000) == "", "there will be time later"
    history.deadline = deadline
    prune_meanwhile(history, 30 * day, 1000)
    assert [record.t for record in stored(history)] == [*(now - age for age in ages[1:]), now + 31 * day]


def pruning_everything_does_not_reuse_arrivals(open_: Open) -> None:
    history = open_()
    history.add_records(R, [Sample(1.0, error="timeout"), JobLine(1.0, "x", "backup", 1.0, 2.0)])
    last = arrivals(history)[-1]
    assert prune(history, 10.0) == 2
    assert stored(history) == []
    open_().add_records(R, [Sample(2.0, 1.0)])
    assert arrivals(history) == [last + 1]


def pruning_a_little_at_a_time(open_: Open) -> None:
    history = open_()
    history.add_records(R, [Sample(float(number), error="timeout") for number in range(100)])
    history.add_records(R, [JobLine(1.0, "x", "backup", 1.0, 2.0)])
    assert prune(history, 10.0, R, at_most=30) == 30
    assert [record.t for record in stored(history)][:1] == [30.0]
    assert prune(history, 10.0, R, at_most=0) == 0
    assert prune(history, 10.0, R, at_most=1000) == 71


def pruning_does_not_refund_an_episode(open_: Open) -> None:
    history = open_()
    now = history.now()
    day = 86400.0
    history.add_records(R, [Sample(now - 10 * day + number, 1.0) for number in range(10)])
    history.add_records(R, [JobLine(now - 5 * day, "during", "backup", now - 5 * day, now - 4.9 * day)])
    history.add_records(R, [Sample(now - 5 * day + number, 1.0) for number in range(10)])
    begin = arrivals(history)[10]
    history.save_fold(R, "other", begin, "{}", None)
    history.save_fold(R, "k", begin, "{}", begin)
    assert prune(history, 2 * day) == 10
    assert len(stored(history)) == 11
    assert history.load_fold(R, "k") is not None
    history.save_fold(R, "k", begin, "{}", None)
    assert prune(history, 2 * day) == 10
    assert len(stored(history)) == 1, "the newest sample stays"


def folds_that_nobody_uses_are_dropped(open_: Open) -> None:
    history = open_()
    history.add_records(R, [Sample(history.now(), 1.0)])
    history.save_fold(R, "k", 1, "{}", None)
    prune(history, 100.0)
    assert history.load_fold(R, "k") == (1, "{}")
    prune(history, -100.0)
    assert history.load_fold(R, "k") is None


def samples_from_the_future_can_be_taken_back(open_: Open) -> None:
    history, other = open_(), open_()
    now = history.now()
    left = [full(now - 20, sql_delay=100), full(now - 10, sql_delay=50)]
    history.add_records(R, [left[0], full(now + 1000, sql_delay=9000), left[1], Sample(now + 500, 1.0)])
    history.add_records("other", [Sample(now, 1.0)])
    history.save_fold(R, "k", 4, "{}", None)
    history.save_fold("other", "k", 5, "{}", None)
    assert other.load_fold(R, "k") == (4, "{}")
    assert prune_future(history) == 2
    assert stored(history) == left
    assert history.newest_sample(R) == left[1]
    assert history.load_fold(R, "k") is None
    assert history.load_fold("other", "k") == (5, "{}")
    other.save_fold(R, "k", 4, "{}", None)
    assert history.load_fold(R, "k") is None, "a fold over what was taken back does not come to stay"
    other.load_fold(R, "k")
    other.save_fold(R, "k", 4, "new", None)
    assert history.load_fold(R, "k") == (4, "new")
    assert prune_future(history) == 0
    prune(history, 15.0)
    assert stored(history) == left


def a_deadline_that_has_passed_is_told(open_: Open) -> None:
    history = open_()
    history.deadline = time.monotonic() - 1
    for call in (lambda: history.add_sample(R, Sample(1.0, 1.0)), history.replicas, lambda: list(history.records(R))):
        with pytest.raises(HistoryUnavailable, match="no time was left"):
            call()
    history.deadline = time.monotonic() + 10
    assert history.replicas() == []


def many_writers_at_once_lose_nothing(open_: Open) -> None:
    workers, each = 6, 25
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            history = open_()
            for count in range(each):
                history.add_samples([(R, Sample(time.time(), float(number * each + count))), ("o", full(time.time()))])
                history.add_job(R, JobLine(history.now(), f"{number}-{count}", "backup", 1.0))
            history.close()
        except Exception as error:  # noqa: BLE001 - told by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    reader = open_()
    seen: list[tuple[int, Record]] = []
    while any(thread.is_alive() for thread in threads):
        seen += list(reader.records(R, seen[-1][0] if seen else 0))
    for thread in threads:
        thread.join()
    assert not failures
    reader.add_records("end", [Sample(1.0, 1.0)])
    seen += list(reader.records(R, seen[-1][0] if seen else 0))
    # Who follows the arrival numbers has seen everything, in the same order as who reads it all at once.
    assert seen == list(reader.records(R))
    assert [arrival for arrival, _ in seen] == sorted({arrival for arrival, _ in seen})
    assert {record.delay for _, record in seen if isinstance(record, Sample)} == {*map(float, range(workers * each))}
    assert len([record for _, record in seen if isinstance(record, JobLine)]) == workers * each


def one_of_several_workers_publishes(open_: Open) -> None:
    one, other = open_(), open_()
    assert one.lease("one", 30.0)
    assert one.lease("one", 30.0)
    assert not other.lease("other", 30.0)
    assert one.lease("one", 0.0)
    assert other.lease("other", 30.0)
    assert not one.lease("one", 30.0)


CONTRACT: list[Promise] = [one for one in [*vars().values()] if getattr(one, "__annotations__", {}).get("open_")]
"""Every function above that is given how to open a history."""
