"""Job records that are wrong, forgotten, or written to keep alarms away. Group 8 of the faults.

A job in these tests may run for eight seconds, and two minutes where it is not about its length.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from .checking import ROOT, Scene, run, tool
from .matrix import Watched, essential
from .servers import meanwhile, wait_until

SHORT_S = 8.0
SHORT = ("--max-backup-behind", "8", "--max-deshard-behind", "8")
SLACK_S = 5.0
"""A sample, and a busy machine."""
QUIET = ("OK", "WARNING")
"""What a job that is recorded as it should be may lead to."""
OVERSPENT = ("job-overrun", "recovery-exceeded", "sql-stopped", "delay-out-of-bounds")
"""What is told once no exception holds any more."""


def void_the_one(scene: Scene) -> None:
    """Take back the record of the one job that is recorded as running."""
    listed = map(json.loads, scene.job("list", "--output", "json").splitlines())
    (job,) = [entry["id"] for entry in listed if entry["status"] == "running"]
    scene.job("void", job)


@contextmanager
def running(scene: Scene) -> Iterator[subprocess.Popen[bytes]]:
    """`delayed-repl job run` around a command that takes its time, in a process group of its own, once it is recorded
    as started. Whatever is left of the group is killed at the end."""
    recording = (*scene.named(), "--kind", "backup")
    process = subprocess.Popen(
        [sys.executable, "-m", "check_delayed_repl.tool", "job", "run", *recording, "--", "sleep", "600"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        wait_until(lambda: "running" in tool("job", "list", *recording), 20, "the start of the job is recorded")
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def by_another_clock(scene: Scene, ahead_s: float, *arguments: str) -> str:
    """`delayed-repl job` on a machine whose clock is wrong; what it printed."""
    wrong = (
        f"import sys, time; right = time.time; time.time = lambda: right() + {ahead_s}\n"
        "from check_delayed_repl.tool import main; main()"
    )
    status, said, errors = run("-c", wrong, "job", *arguments, *scene.named())
    assert status == 0, errors
    return said.strip()


def insert(scene: Scene, job: str, kind: str, started_at: float, finished_at: float | None) -> None:
    """Put a job line into the history by hand, past all that the commands see to."""
    with closing(sqlite3.connect(scene.history, timeout=20, isolation_level=None)) as history:
        history.execute("BEGIN IMMEDIATE")
        history.execute("UPDATE counter SET arrival = arrival + 1")
        history.execute(
            "INSERT INTO job (replica, arrival, t, id, kind, started_at, finished_at, void)"
            " SELECT ?, arrival, ?, ?, ?, ?, ?, 0 FROM counter",
            (scene.name, time.time(), job, kind, started_at, finished_at),
        )
        history.execute("COMMIT")


def test_a_job_is_forgotten(watched: Watched) -> None:
    """Nothing is wrong with the line, but a job that runs for ever would hold every alarm back."""
    with watched.fault("8.1", "Job: never finished", "job-overrun", within=SHORT_S + SLACK_S, options=SHORT) as it:
        job = watched.start()
        assert "--max-backup-behind" in it.detected().message
        watched.finish(job)
    with watched.twin("8.1", "it is finished in time", state=QUIET, options=SHORT):
        watched.finish(watched.start())

    title = "Job: one of two at once never finished"
    with watched.fault("8.2", title, "job-overrun", within=SHORT_S + SLACK_S, options=SHORT) as it:
        done, forgotten = watched.start("backup"), watched.start("deshard")
        it.caused()
        watched.finish(done)
        outcome = it.detected()
        assert outcome.message.startswith("Job overrun: deshard ")
        assert "--max-deshard-behind" in outcome.message
        watched.finish(forgotten)
    with watched.twin("8.2", "both are finished", state=QUIET, options=SHORT):
        for job in [watched.start("backup"), watched.start("deshard")]:
            watched.finish(job)


def test_job_run_is_killed(watched: Watched) -> None:
    replica = watched.replica
    title = "Job: `job run` killed with SIGKILL"
    with watched.fault("8.3", title, "job-overrun", within=SHORT_S + SLACK_S, options=SHORT) as it:
        with running(watched) as process:
            it.caused()
            process.kill()
            process.wait()
            it.detected()
        void_the_one(watched)
    with watched.twin("8.3", "it is ended with SIGTERM", state=QUIET, options=SHORT):
        with running(watched) as process:
            process.terminate()
            assert process.wait(20) == 128 + signal.SIGTERM, "as a shell says it"
        assert "running" not in watched.job("list")

    title = "Job: machine lost during a backup"
    with watched.fault("8.4", title, "job-overrun", within=SHORT_S + SLACK_S, options=SHORT) as it:
        with running(watched) as process:
            it.caused()
            replica.stop_sql()
            os.killpg(process.pid, signal.SIGKILL)
            it.detected()
        stopped = "[CRITICAL sql-stopped]"  # with nothing to hold it back
        it.wait_for(lambda outcome: stopped in outcome.text, 20, "the thread is told of, too")
        it.mending()
        void_the_one(watched)
        replica.start_sql()
    started_again = watched.twin("8.4", "the backup starts the thread again", state=QUIET, options=SHORT, watch=8)
    with started_again, running(watched) as process:
        replica.stop_sql()
        time.sleep(2)
        replica.start_sql()
        process.terminate()
        process.wait(20)


@essential("mariadb")
def test_records_that_are_rewritten(watched: Watched) -> None:
    """Whoever writes the records wants no alarm for ever, though the SQL thread stands still."""
    replica = watched.replica
    title = "Job: record rewritten to start now, again and again"
    with watched.fault("8.5", title, OVERSPENT, within=SHORT_S + SLACK_S, options=SHORT) as it:
        insert(watched, "anew", "backup", time.time(), None)
        with meanwhile(lambda: insert(watched, "anew", "backup", time.time(), None), 0.4):
            replica.stop_sql()
            it.detected()
            time.sleep(5)
            assert it.says(watched.judged(*SHORT)), "nor is there any hope of its being held again"
            it.mending()
        watched.job("void", "anew")
        replica.start_sql()
    with watched.twin("8.5", "the start is corrected once", state=QUIET, options=SHORT):
        began = time.time()
        insert(watched, "corrected", "backup", began, None)
        insert(watched, "corrected", "backup", began - 2, None)
        watched.finish("corrected")

    limits = ("backup-behind", "deshard-behind", "recovery-time", "trend-time")
    budgets = [word for limit in limits for word in (f"--max-{limit}", "4")]
    title = "Job: new records, ended and opened, again and again"
    with watched.fault("8.6", title, OVERSPENT, within=4 * 5 + SLACK_S, options=budgets) as it:
        jobs: list[tuple[str, str]] = []

        def end_and_open() -> None:
            if jobs:
                insert(watched, *jobs[-1], time.time() - 0.4, time.time())
            jobs.append((f"new{len(jobs)}", ("backup", "deshard")[len(jobs) % 2]))
            insert(watched, *jobs[-1], time.time(), None)

        with meanwhile(end_and_open, 0.4):
            wait_until(lambda: jobs, 5, "the first record is written")
            replica.stop_sql()
            it.detected()
            it.mending()
        watched.job("void", jobs[-1][0])
        replica.start_sql()
    with watched.twin("8.6", "a few jobs in turn", state=QUIET, options=budgets):
        for kind in ("backup", "deshard", "backup"):
            watched.finish(watched.start(kind))


def test_clocks_of_others(watched: Watched) -> None:
    """The machine that records a job has a clock of its own."""
    replica = watched.replica
    with watched.fault("8.7", "Job: recorded by a clock 2 h ahead", "sql-stopped", within=1 + SLACK_S) as it:
        job = by_another_clock(watched, 7200, "start", "--kind", "backup")
        replica.stop_sql()
        assert "job-record-invalid" in it.detected().conditions, "it grants nothing"
        it.mending()
        watched.job("void", job)
        replica.start_sql()
    with watched.twin("8.7", "it is 3 s ahead", state=QUIET):
        job = by_another_clock(watched, 3, "start", "--kind", "backup")
        by_another_clock(watched, 3, "finish", job)

    with watched.fault("8.8", "Job: recorded by a clock two days behind", "job-overrun", within=1 + SLACK_S) as it:
        job = by_another_clock(watched, -172800, "start", "--kind", "backup")
        it.detected()
        watched.job("void", job)
    with watched.twin("8.8", "it is 20 s behind", state=QUIET):
        job = by_another_clock(watched, -20, "start", "--kind", "backup")
        by_another_clock(watched, -20, "finish", job)

    title = "Job: finished before it started"
    with watched.fault("8.9", title, "job-record-invalid", state="WARNING", within=1 + SLACK_S) as it:
        insert(watched, "backwards", "backup", time.time(), time.time() - 10)
        assert "grants nothing" in it.detected().message
        watched.job("void", "backwards")
    with watched.twin("8.9", "finished as soon as it started", state=QUIET):
        insert(watched, "at-once", "backup", time.time(), time.time())
