"""Job records: what they grant, for how long, and what they cannot get however they are written."""

from __future__ import annotations

import pytest
from judge_builders import LIMITS, finding, job, judged, sample, samples, states, verdicts

from check_delayed_repl.judge.jobs import MAX_JOBS, NO_JOBS, Jobs, JobsNow
from check_delayed_repl.judge.outcome import JobView, State
from check_delayed_repl.records import JobLine, Record

OUT = 20000.0
HELD: list[Record] = [sample(0.0, OUT), job(0.0), sample(10.0, OUT)]
"""A line that is lost, and a backup that holds it from the second sample on."""
VOID = job(None, kind=None, void=True)


def jobs_at(now: float, *lines: JobLine, arrived: float = 0.0) -> JobsNow:
    """What holds at `now` once the lines have arrived."""
    jobs = Jobs(LIMITS._replace(job_limits=(("index", 40.0),)))
    for line in lines:
        jobs.add(line)
    jobs.sampled(arrived)
    jobs.sampled(now)
    return jobs.at(now)


def test_a_job_runs_from_its_start_until_it_has_finished() -> None:
    assert jobs_at(150.0, job(100.0)).active == {"backup": 50.0}
    assert jobs_at(150.0, job(100.0)).views[0][:4] == ("b1", "backup", "active", 100.0)
    done = jobs_at(250.0, job(100.0), job(100.0, 200.0))
    assert done.active == {}
    assert done.completed == ("backup", 50.0)
    assert done.views[0][2:6] == ("completed", 100.0, 200.0, 100.0)
    assert jobs_at(150.0, job(150.0 - 1e10)).active == {"backup": 1e10}, "not yet centuries ago"


def test_a_later_line_with_the_same_id_replaces_the_earlier_one() -> None:
    assert jobs_at(150.0, job(100.0), job(20.0, kind="deshard")).active == {"deshard": 130.0}


def test_a_finish_takes_kind_and_start_from_the_line_before() -> None:
    done = jobs_at(250.0, job(100.0, kind="index"), job(None, 200.0, kind=None))
    assert done.completed == ("index", 50.0)


def test_a_void_job_never_was() -> None:
    assert jobs_at(150.0, job(100.0), VOID) == NO_JOBS
    assert jobs_at(150.0, VOID) == NO_JOBS
    assert jobs_at(150.0, job(100.0), VOID, job(140.0)).active == {"backup": 10.0}


def test_a_finish_in_the_future_is_still_active() -> None:
    now = jobs_at(150.0, job(100.0, 151.0))
    assert now.active == {"backup": 50.0}
    assert jobs_at(151.0, job(100.0, 151.0)).active == {}


def test_kinds_stand_in_the_order_of_their_limits_and_the_longest_claim_counts() -> None:
    now = jobs_at(
        150.0, job(100.0, kind="index", name="i"), job(140.0, kind="backup", name="a"), job(90.0, name="b"), job(120.0)
    )
    assert list(now.active.items()) == [("backup", 60.0), ("index", 50.0)]


def test_the_one_that_finished_last_opens_the_recovery_window() -> None:
    lines = (job(0.0, 300.0, name="x", kind="deshard"), job(0.0, 200.0, name="y"), job(0.0, 100.0, name="z"))
    assert jobs_at(400.0, *lines).completed == ("deshard", 100.0)


@pytest.mark.parametrize(("since", "open_"), [(21600.0, True), (21600.1, False)])
def test_a_completed_job_counts_for_as_long_as_recovery_may_take(since: float, open_: bool) -> None:
    assert (jobs_at(100.0 + since, job(0.0, 100.0)).completed is not None) == open_


def test_what_is_shown_of_each_job() -> None:
    now = jobs_at(
        150.0,
        job(100.0, 160.0, name="running"),
        job(200.0, name="about to start", kind="index"),
        job(90.0, 120.0, name="done", kind="deshard"),
        job(100.0, 99.0, name="wrong"),
        job(None, 120.0, name="lone", kind=None),
        job(0.0, 10.0, name="long done"),
        arrived=150.0,
    )
    assert now.views == (
        JobView("running", "backup", "active", 100.0, 160.0, 50.0),
        JobView("about to start", "index", "active", 200.0, None, 0.0),
        JobView("done", "deshard", "completed", 90.0, 120.0, 30.0),
        JobView("wrong", "backup", "invalid", 100.0, 99.0, None, "finishes before it starts"),
        JobView("lone", "?", "invalid", None, 120.0, None, "finishes a job that never started"),
        JobView("long done", "backup", "completed", 0.0, 10.0, 10.0),
    )


INVALID = [
    (job(100.0, 99.0), "finishes before it starts"),
    (job(100.0, kind="rebuild"), "kind 'rebuild' has no limit (--max-job-behind rebuild=SECONDS gives it one)"),
    (job(100.0, kind=""), "kind '' cannot name a kind of job"),
    (job(None, kind=None), "never started"),
    (job(None, 120.0, kind=None), "never started"),
    (job(None, kind="backup"), "never started"),
    (job(100.0, kind=None), "never started"),
    (JobLine(0.0, "b1", "backup", None, None, unreadable="started_at 'x' is no number"), "started_at 'x'"),
    (job(210.1), "starts 60 seconds in the future"),
    (job(1e300), "starts 10000000000 seconds in the future"),
    (job(-1e300), "starts centuries ago"),
]


def test_a_start_up_to_a_minute_ahead_counts_as_now() -> None:
    assert jobs_at(150.0, job(210.0)).active == {"backup": 0.0}


def test_a_start_too_far_ahead_counts_once_its_time_has_come() -> None:
    assert jobs_at(150.0, job(300.0)).active == {}
    assert jobs_at(240.0, job(300.0)).active == {"backup": 0.0}
    assert jobs_at(310.0, job(300.0)).active == {"backup": 10.0}


@pytest.mark.parametrize(("line", "reason"), INVALID)
def test_an_invalid_record_is_a_warning(line: JobLine, reason: str) -> None:
    verdict = judged([sample(140.0), line, sample(150.0)])
    assert (verdict.state, verdict.condition) == (State.WARNING, "job-record-invalid")
    assert reason in verdict.message
    assert "b1" in verdict.message
    assert "job void" in verdict.message


def test_an_invalid_record_that_claims_to_be_done_is_reported_for_as_long_as_recovery_may_take() -> None:
    wrong = job(100.0, 50.0)
    for since, reported in ((21600.0, True), (21610.0, False)):
        records: list[Record] = [sample(100.0), wrong, sample(110.0), sample(110.0 + since)]
        assert (finding(judged(records), "job-record-invalid") is not None) == reported


def test_an_invalid_record_that_claims_to_run_is_reported_until_it_is_void() -> None:
    records: list[Record] = [sample(100.0), job(100.0, kind="rebuild"), sample(110.0), sample(1e6)]
    assert judged(records).condition == "job-record-invalid"
    assert judged([*records, job(None, kind=None, void=True), sample(1e6 + 10.0)]).condition == "in-range"


def test_an_unreadable_line_takes_away_what_the_job_had() -> None:
    records = [*HELD, JobLine(15.0, "b1", unreadable="not JSON"), sample(20.0, OUT)]
    assert [v.state for v in verdicts(records)] == [State.CRITICAL, State.WARNING, State.CRITICAL]


def test_a_job_holds_for_its_limit_and_no_longer() -> None:
    limits = LIMITS._replace(max_backup_behind=100.0)
    records: list[Record] = [sample(0.0, OUT)]
    # The job is void every other sample, so that neither its claim nor its run ever overruns.
    for t in range(0, 300, 10):
        records += [VOID, sample(t + 5.0, OUT), job(t + 5.0), sample(t + 10.0, OUT)]
    changes = states(records, limits)
    assert max(v.held["backup"] for v in verdicts(records, limits)) == 105.0
    assert changes[-2:] == [(210.0, State.WARNING, "active-backup"), (215.0, State.CRITICAL, "recovery-exceeded")]


@pytest.mark.parametrize(
    ("more", "held"),
    [
        ([sample(20.0, error="timeout"), sample(500.0, OUT)], 490.0),
        ([sample(30.0, OUT), sample(20.0, OUT), sample(40.0, OUT)], 30.0),  # a clock that steps back
        # Nothing that is written later refunds what was spent.
        ([sample(30.0, OUT), job(25.0), sample(40.0, OUT)], 30.0),
        ([sample(30.0, OUT), job(-1000.0), sample(40.0, OUT)], 30.0),
        ([sample(30.0, OUT), VOID, sample(40.0, OUT)], 30.0),
        ([sample(30.0, OUT), job(0.0, 20.0), sample(40.0, OUT)], 30.0),
        ([sample(30.0, OUT), job(0.0, 20.0), job(20.0, name="b2"), sample(40.0, OUT)], 30.0),
        ([sample(30.0, OUT), job(29.0, 5000.0), sample(40.0, OUT)], 30.0),
    ],
)
def test_what_is_charged(more: list[Record], held: float) -> None:
    for others in ([], [job(0.0, name="d", kind="deshard")]):
        charged = judged([HELD[0], *others, *HELD[1:], *more]).held
        assert (charged["deshard"] > 0.0, charged["recovery"]) == (bool(others), 0.0)
        assert charged["backup"] == held


def test_a_kind_whose_budget_is_spent_is_charged_on_while_another_one_holds() -> None:
    limits = LIMITS._replace(max_backup_behind=20.0, job_limits=())
    records: list[Record] = [sample(0.0, OUT), job(0.0), job(0.0, name="d", kind="deshard"), *samples(10.0, 60.0, OUT)]
    verdict = judged(records, limits)
    assert verdict.held["backup"] == 50.0
    assert [f.condition for f in verdict.findings] == ["job-overrun", "active-deshard"]


def test_a_budget_is_one_episodes() -> None:
    records = [*HELD, sample(30.0, OUT), *samples(40.0, 140.0)]
    assert judged(records).held["backup"] == 0.0
    assert judged(records).episode_since is None
    assert judged([*records, *samples(150.0, 250.0, OUT)]).held["backup"] < 110.0


def test_a_line_takes_effect_with_the_sample_after_it_and_never_before() -> None:
    lost = samples(0.0, 100.0, OUT)
    assert judged([*lost, job(101.0)], now=109.0).condition == "delay-out-of-bounds"
    assert judged([*lost, job(101.0), sample(110.0, OUT)], now=111.0).condition == "active-backup"
    held = [*lost, job(101.0), sample(110.0, OUT)]
    assert judged([*held, VOID], now=115.0).condition == "active-backup"
    assert judged([*held, VOID, sample(120.0, OUT)]).state == State.CRITICAL


@pytest.mark.parametrize(("running", "state"), [(64800.0, State.WARNING), (64801.0, State.CRITICAL)])
def test_a_job_that_claims_to_run_for_longer_than_its_limit_is_critical_in_range(running: float, state: State) -> None:
    assert judged([sample(0.0), job(100.0 - running), sample(100.0)]).state == state
    index = LIMITS._replace(job_limits=(("index", 50.0),))
    message = judged([sample(0.0), job(0.0, kind="index"), sample(51.0)], index).message
    assert message == "Job overrun: index has been running for 51 seconds (limit 50, --max-job-behind)"


def test_an_unbroken_run_of_jobs_of_a_kind_is_one_run() -> None:
    limits = LIMITS._replace(max_backup_behind=100.0)
    records: list[Record] = [sample(0.0)]
    for t in range(0, 200, 10):
        records += [job(t - 5.0, name=f"b{t}"), sample(t + 10.0)]
        records.append(job(t - 5.0, t + 10.0, name=f"b{t}"))
    changes = states(records, limits)
    assert changes[1:3] == [(10.0, State.WARNING, "active-backup"), (120.0, State.CRITICAL, "job-overrun")]


def test_a_run_is_broken_by_one_sample_without_a_job_of_the_kind() -> None:
    limits = LIMITS._replace(max_backup_behind=100.0)
    records: list[Record] = [sample(0.0), job(0.0), *samples(10.0, 90.0), job(0.0, 95.0), sample(100.0)]
    records += [job(105.0, name="b2"), *samples(110.0, 200.0)]
    assert not any(finding(v, "job-overrun") for v in verdicts(records, limits))


def test_a_run_goes_on_through_failed_samples() -> None:
    limits = LIMITS._replace(max_backup_behind=100.0)
    records = [sample(0.0), job(0.0), sample(10.0), sample(60.0, error="server-down"), job(60.0), sample(111.0)]
    assert "101 seconds (limit 100" in finding(judged(records, limits), "job-overrun").message


def test_the_recovery_window_opens_when_the_job_finishes_and_shuts_when_the_line_is_back() -> None:
    records: list[Record] = [sample(0.0), job(0.0), *samples(10.0, 100.0, OUT), job(0.0, 105.0)]
    records += [*samples(110.0, 200.0, OUT), *samples(210.0, 400.0)]
    assert states(records) == [
        (0.0, State.OK, "in-range"),
        (10.0, State.WARNING, "active-backup"),
        (110.0, State.WARNING, "backup-recovery-window"),
        (220.0, State.OK, "in-range"),  # two samples far off one way tell a cliff from a wild sample
    ]


def test_a_job_that_claims_to_have_just_finished_again_and_again_gets_one_recovery_budget() -> None:
    limits = LIMITS._replace(max_recovery_time=100.0)
    records: list[Record] = [sample(0.0, OUT)]
    for t in range(0, 300, 10):
        records += [job(t - 1.0, float(t)), sample(t + 10.0, OUT)]
    assert states(records, limits)[1:] == [
        (10.0, State.WARNING, "backup-recovery-window"),
        (120.0, State.CRITICAL, "recovery-exceeded"),
    ]


@pytest.mark.parametrize(
    ("in_range_for", "condition"), [(580.0, "backup-recovery-window"), (590.0, "delay-out-of-bounds")]
)
def test_a_line_that_recovered_for_longer_than_a_window_and_is_lost_again_is_news(
    in_range_for: float, condition: str
) -> None:
    """Counted from its finish, ten seconds before; and the first sample far off is on trial, so still in range."""
    records: list[Record] = [sample(0.0), job(0.0), *samples(10.0, 50.0), job(0.0, 50.0)]
    records += samples(60.0, 60.0 + in_range_for)
    records += samples(70.0 + in_range_for, 170.0 + in_range_for, OUT)
    assert judged(records).condition == condition


def test_time_in_range_before_the_job_finished_is_no_recovery() -> None:
    records: list[Record] = [*samples(0.0, 2000.0), job(2000.0), *samples(2010.0, 2100.0), job(2000.0, 2100.0)]
    records += samples(2110.0, 2210.0, OUT)
    assert judged(records).condition == "backup-recovery-window"


def test_another_job_opens_a_recovery_window_of_its_own() -> None:
    records: list[Record] = [sample(0.0), job(0.0), sample(10.0), job(0.0, 10.0), *samples(20.0, 1000.0)]
    records += [job(1000.0, name="b2"), sample(1010.0), job(1000.0, 1010.0, name="b2"), *samples(1020.0, 1120.0, OUT)]
    assert judged(records).condition == "backup-recovery-window"


def test_a_recovery_that_a_job_held_before_is_not_held_by_its_trend_as_well() -> None:
    limits = LIMITS._replace(max_recovery_time=100.0)
    verdict = judged([*HELD, job(0.0, 10.0), *samples(20.0, 400.0, lambda t: OUT - 3.0 * t)], limits)
    assert (verdict.state, verdict.condition) == (State.CRITICAL, "recovery-exceeded")
    assert verdict.message.startswith("Replication delay intercept recovery exceeded window")


def test_a_job_that_was_forgotten_and_finishes_again_grants_nothing() -> None:
    records = [sample(0.0), job(0.0, 5.0), sample(10.0), sample(50000.0), job(None, 50000.0, kind=None)]
    verdict = judged([*records, sample(50010.0, OUT)])
    assert verdict.state == State.CRITICAL
    assert finding(verdict, "job-record-invalid") is not None


def test_a_flood_lasts_though_all_the_jobs_that_found_a_place_are_over() -> None:
    jobs = Jobs(LIMITS)
    for i in range(MAX_JOBS + 1):
        jobs.add(job(0.0, 5.0 if i < MAX_JOBS else None, name=f"j{i}"))
    jobs.sampled(10.0)
    jobs.sampled(1e6)
    assert jobs.at(1e6) == NO_JOBS._replace(flooded=True)
