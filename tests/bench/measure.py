"""Runs of commands, measured as whole processes: CPU, wall, memory. In turn, so that what slows the machine down for a
while slows down all of them."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

LAUNCHER = """
import os, sys, time
began = time.perf_counter()
child = os.fork()
if child == 0:
    os.chdir("/")
    os.dup2(2, 1)
    os.execve(sys.argv[1], sys.argv[1:], {"PATH": os.defpath + ":/usr/sbin", "LANG": "C.UTF-8", "HOME": "/root"})
_, status, used = os.wait4(child, 0)
took = 1000 * (time.perf_counter() - began)
print([os.waitstatus_to_exitcode(status), 1000 * (used.ru_utime + used.ru_stime), took, used.ru_maxrss / 1024])
"""
"""Starts a command from a process that is small, so that its own memory is not taken for the command's."""


class Use(NamedTuple):
    """What one run used, its children included."""

    status: int
    cpu_ms: float
    """User and system time."""
    wall_ms: float
    peak_mib: float
    """Most memory in use, of the process or of one of its children, whichever had more."""


def use_of(argv: Sequence[str]) -> Use:
    """One measured run, which must end with 0."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *argv], capture_output=True, text=True, timeout=900, check=True
    )
    use = Use(*json.loads(done.stdout))
    assert not use.status, f"{' '.join(argv)} ended with {use.status}\n{done.stderr}"
    return use


def interleaved(commands: Mapping[str, Sequence[str]], rounds: int, pace_s: float) -> dict[str, Use]:
    """Medians by name; rounds begin `pace_s` apart. The first one warms up, and does not count."""
    uses: dict[str, list[Use]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        began = time.monotonic()
        for name, argv in commands.items():
            use = use_of(argv)
            if number:
                uses[name].append(use)
        time.sleep(max(0.0, pace_s - (time.monotonic() - began)))
    return {name: Use(*map(statistics.median, zip(*found, strict=True))) for name, found in uses.items()}


MISSED: list[str] = []
"""Promises that were not kept."""


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A Markdown table, its first column to the left and the others to the right."""
    for line in (head, ["---", *["--:"] * (len(head) - 1)], *rows):
        print(f"| {' | '.join(line)} |")
    print(flush=True)


def promise(what: str, value: float, least: float | None = None, most: float | None = None) -> None:
    """Print a number that something was promised of."""
    kept = (least is None or value >= least) and (most is None or value <= most)
    bound = f"at least {least:,g}" if most is None else f"at most {most:g}"
    print(f"- {what}: {value:,.2f}, promised {bound}{'' if kept else ' (MISSED)'}", flush=True)
    if not kept:
        MISSED.append(what)
