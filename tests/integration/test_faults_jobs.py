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
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .checking import ROOT, Outcome, Scene, now, tool
from .matrix import Watched, essential
from .servers import wait_until

SHORT_S = 8.0
SHORT = ("--max-backup-behind", "8", "--max-deshard-behind", "8")
SLACK_S = 5.0
"""A sample, and a busy machine."""
QUIET = ("OK", "WARNING")
"""What a job that is recorded as it should be may lead to."""
OVERSPENT = ("job-overrun", "recovery-exceeded", "sql-stopped", "delay-out-of-bounds")
"""What is told once no exception holds any more."""


def void(scene: Scene, job: str) -> None:
    """Take a record back."""
    tool("job", "void", job, "--history", scene.history, "--replica", scene.name)


def only_job(scene: Scene) -> str:
    """The id of the one job that is recorded as running."""
    listed = tool("job", "list", "--history", scene.history, "--replica", scene.name, "--output", "json")
    (job,) = [entry["id"] for entry in map(json.loads, listed.splitlines()) if entry["status"] == "running"]
    return str(job)


@contextmanager
def running(scene: Scene) -> Iterator[subprocess.Popen[bytes]]:
    """`delayed-repl job run` around a command that takes its time, in a process group of its own, once it is recorded
    as started. Whatever is left of the group is killed at the end."""
    recording = ("--history", scene.history, "--replica", scene.name, "--kind", "backup")
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
    done = subprocess.run(
        [sys.executable, "-c", wrong, "job", *arguments, "--history", scene.history, "--replica", scene.name],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def insert(scene: Scene, job: str, kind: str, started_at: float, finished_at: float | None) -> None:
    """Put a job line into the history by hand, past all that the commands see to."""
    history = sqlite3.connect(scene.history, timeout=20, isolation_level=None)
    try:
        history.execute("BEGIN IMMEDIATE")
        history.execute("UPDATE counter SET arrival = arrival + 1")
        history.execute(
            "INSERT INTO job (replica, arrival, t, id, kind, started_at, finished_at, void)"
            " SELECT ?, arrival, ?, ?, ?, ?, ?, 0 FROM counter",
            (scene.name, time.time(), job, kind, started_at, finished_at),
        )
        history.execute("COMMIT")
    finally:
        history.close()


def test_a_job_is_forgotten(watched: Watched) -> None:
    """Nothing is wrong with the line, but a job that runs for ever would hold every alarm back."""
    scene = watched.scene
    with watched.fault("8.1", "Job: never finished", "job-overrun", within=SHORT_S + SLACK_S, options=SHORT) as it:
        job = scene.start()
        it.caused()
        assert "--max-backup-behind" in it.detected().message
        scene.finish(job)
    with watched.twin("8.1", "it is finished in time", state=QUIET, options=SHORT):
        scene.finish(scene.start())

    with watched.fault(
        "8.2", "Job: one of two at once never finished", "job-overrun", within=SHORT_S + SLACK_S, options=SHORT
    ) as it:
        done, forgotten = scene.start("backup"), scene.start("deshard")
        it.caused()
        scene.finish(done)
        outcome = it.detected()
        assert outcome.message.startswith("Job overrun: deshard ")
        assert "--max-deshard-behind" in outcome.message
        scene.finish(forgotten)
    with watched.twin("8.2", "both are finished", state=QUIET, options=SHORT):
        jobs = scene.start("backup"), scene.start("deshard")
        for job in jobs:
            scene.finish(job)


def test_job_run_is_killed(watched: Watched) -> None:
    scene, replica = watched.scene, watched.replica
    with watched.fault(
        "8.3", "Job: `job run` killed with SIGKILL", "job-overrun", within=SHORT_S + SLACK_S, options=SHORT
    ) as it:
        with running(scene) as process:
            it.caused()
            process.kill()
            process.wait()
            it.detected()
        void(scene, only_job(scene))
    with watched.twin("8.3", "it is ended with SIGTERM", state=QUIET, options=SHORT):
        with running(scene) as process:
            process.terminate()
            assert process.wait(20) == 128 + signal.SIGTERM, "as a shell says it"
        assert "running" not in tool("job", "list", "--history", scene.history, "--replica", scene.name)

    with watched.fault(
        "8.4", "Job: machine lost during a backup", "job-overrun", within=SHORT_S + SLACK_S, options=SHORT
    ) as it:
        with running(scene) as process:
            it.caused()
            replica.stop_sql()
            os.killpg(process.pid, signal.SIGKILL)
            it.detected()
        it.wait_for(sql_stopped, 20, "the thread is told of, too")
        it.mending()
        void(scene, only_job(scene))
        replica.start_sql()
    started_again = watched.twin("8.4", "the backup starts the thread again", state=QUIET, options=SHORT, watch=8)
    with started_again, running(scene) as process:
        replica.stop_sql()
        time.sleep(2)
        replica.start_sql()
        process.terminate()
        process.wait(20)


def sql_stopped(outcome: Outcome) -> bool:
    """Whether it is told, with nothing to hold it back."""
    return any(found[:2] == ("CRITICAL", "sql-stopped") for found in outcome.findings)


@contextmanager
def written_again_and_again(write: Callable[[int], None]) -> Iterator[None]:
    """Meanwhile somebody writes job lines, a few for each sample."""
    over = threading.Event()

    def go_on() -> None:
        number = 0
        while not over.wait(0.4):
            write(number)
            number += 1

    writer = threading.Thread(target=go_on, name="hostile", daemon=True)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join(30)


@essential("mariadb")
def test_records_that_are_rewritten(watched: Watched) -> None:
    """Whoever writes the records wants no alarm for ever, though the SQL thread stands still."""
    scene, replica = watched.scene, watched.replica
    with watched.fault(
        "8.5", "Job: record rewritten to start now, again and again", OVERSPENT, within=SHORT_S + SLACK_S, options=SHORT
    ) as it:
        insert(scene, "anew", "backup", now(), None)
        with written_again_and_again(lambda _: insert(scene, "anew", "backup", now(), None)):
            replica.stop_sql()
            it.caused()
            it.detected()
            time.sleep(5)
            assert it.says(scene.judged(*SHORT)), "nor is there any hope of its being held again"
            it.mending()
        void(scene, "anew")
        replica.start_sql()
    with watched.twin("8.5", "the start is corrected once", state=QUIET, options=SHORT):
        began = now()
        insert(scene, "corrected", "backup", began, None)
        insert(scene, "corrected", "backup", began - 2, None)
        scene.finish("corrected")

    limits = ("backup-behind", "deshard-behind", "recovery-time", "trend-time")
    budgets = [word for limit in limits for word in (f"--max-{limit}", "4")]
    with watched.fault(
        "8.6", "Job: new records, ended and opened, again and again", OVERSPENT, within=4 * 5 + SLACK_S, options=budgets
    ) as it:
        jobs: list[tuple[str, str]] = []

        def end_and_open(number: int) -> None:
            if jobs:
                insert(scene, *jobs[-1], now() - 0.4, now())
            jobs.append((f"new{number}", ("backup", "deshard")[number % 2]))
            insert(scene, *jobs[-1], now(), None)

        with written_again_and_again(end_and_open):
            wait_until(lambda: jobs, 5, "the first record is written")
            replica.stop_sql()
            it.caused()
            it.detected()
            it.mending()
        void(scene, jobs[-1][0])
        replica.start_sql()
    with watched.twin("8.6", "a few jobs in turn", state=QUIET, options=budgets):
        for kind in ("backup", "deshard", "backup"):
            scene.finish(scene.start(kind))


def test_clocks_of_others(watched: Watched) -> None:
    """The machine that records a job has a clock of its own."""
    scene, replica = watched.scene, watched.replica
    with watched.fault("8.7", "Job: recorded by a clock 2 h ahead", "sql-stopped", within=1 + SLACK_S) as it:
        job = by_another_clock(scene, 7200, "start", "--kind", "backup")
        replica.stop_sql()
        it.caused()
        outcome = it.detected()
        assert "job-record-invalid" in outcome.conditions, "it grants nothing"
        it.mending()
        void(scene, job)
        replica.start_sql()
    with watched.twin("8.7", "it is 3 s ahead", state=QUIET):
        job = by_another_clock(scene, 3, "start", "--kind", "backup")
        by_another_clock(scene, 3, "finish", job)

    with watched.fault("8.8", "Job: recorded by a clock two days behind", "job-overrun", within=1 + SLACK_S) as it:
        job = by_another_clock(scene, -172800, "start", "--kind", "backup")
        it.caused()
        it.detected()
        void(scene, job)
    with watched.twin("8.8", "it is 20 s behind", state=QUIET):
        job = by_another_clock(scene, -20, "start", "--kind", "backup")
        by_another_clock(scene, -20, "finish", job)

    with watched.fault(
        "8.9", "Job: finished before it started", "job-record-invalid", state="WARNING", within=1 + SLACK_S
    ) as it:
        insert(scene, "backwards", "backup", now(), now() - 10)
        it.caused()
        assert "grants nothing" in it.detected().message
        void(scene, "backwards")
    with watched.twin("8.9", "finished as soon as it started", state=QUIET):
        insert(scene, "at-once", "backup", now(), now())
