"""A fleet of checks: many replicas judged by one process, and as many checks as Icinga 2 runs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .contenders import BIN, LIMITS, NAME, ROOT, WORKER, sampled
from .histories import HOUR, Fed
from .measure import Contender, Launcher, Use, medians, one_run

REPLICAS = 100


class Batch(NamedTuple):
    """One process for each replica, and one for all of them; each judges the same looks."""

    each: Use
    together: Use


def batch(runs: int, say: Callable[[str], None]) -> Batch:
    """Judges a hundred replicas, one new look each, in both ways."""
    say(f"{REPLICAS} replicas, judged by one process")
    launcher = Launcher()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = f"{folder}/history.db"
        fleet = [Fed(path, HOUR, f"{NAME}{number}") for number in range(REPLICAS)]
        single = Contender(WORKER, sampled(path, "--replica", fleet[0].name))
        script = str(Path(__file__).with_name("batch.py"))
        together = Contender("all by one process", (f"{BIN}/python", script, path, *LIMITS))
        each, all_of_them = [], []
        for place in range(runs + 1):
            for replica in fleet:
                replica.feed_now()
            uses = one_run(launcher, single), one_run(launcher, together)
            if place:  # the first ones judge all that there is
                each.append(uses[0])
                all_of_them.append(uses[1])
    launcher.close()
    return Batch(medians(each), medians(all_of_them))


def icinga(say: Callable[[str], None]) -> str:
    """What Icinga 2 executes in a container, in its own words; why not, where there is no engine or no image."""
    say("Icinga 2 in a container, some minutes")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.capacity"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        return f"Not measured (tests/run makes the images that it takes): {reason}\n"
    return done.stdout
