"""The command behind tests/bench/run."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator

from . import fleet, tables, workers
from .checks import PACE_S, Bench
from .contenders import ROOT
from .histories import AGES
from .measure import machine

PARTS = ("checks", "ages", "failures", "worker", "fleet")
HELP = """\
Measures what checks and a worker cost, beside other people's checks and as ratios to them, on real MariaDB servers.

  checks    both ways to check, the floors under them, and the peers, on a healthy replica
  ages      both ways to check with histories of an hour, a day, a month and a year
  failures  the same where something is wrong
  worker    a thousand replicas, then with a tenth of the servers hung
  fleet     many replicas judged by one process, and checks that Icinga 2 runs in a container

What the peers need is installed where this runs as root on Debian. Use a machine that does nothing else: all of it
takes an hour. Tables go to standard output, progress to standard error."""

MARKED = re.compile(r"(?<=<!-- cost -->\n).*(?=<!-- /cost -->)", re.DOTALL)
"""Where the README keeps the tables."""


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main() -> None:
    args = _arguments()
    sections = [f"On a machine with {machine()}; what {' '.join(['tests/bench/run', *args.parts])} says.\n"]
    for section in _sections(args):
        print(section, flush=True)
        sections.append(section)
    if args.readme:
        readme = ROOT / "README.md"
        readme.write_text(MARKED.sub(lambda _: "\n" + "\n".join(sections) + "\n", readme.read_text()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default all)")
    add("--runs", type=int, default=30, metavar="N", help="interleaved runs of each command (30)")
    add("--pace", type=float, default=PACE_S, metavar="SECONDS", help="from one round to the next (10)")
    add("--ages", default="4", choices="1234", metavar="N", help="how many of the histories, from an hour on (4)")
    add("--minutes", type=float, default=10, metavar="M", help="how long the worker is watched, each time (10)")
    add("--readme", action="store_true", help="write all of it into the README, between its marks")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if args.readme and args.parts:
        parser.error("--readme: the README has all parts")
    if args.runs < 1 or args.minutes <= 0 or args.pace < 0:
        parser.error("--runs and --minutes must be more than 0, and --pace not less")
    return args


def _sections(args: argparse.Namespace) -> Iterator[str]:
    """What was measured, part by part."""
    parts = args.parts or PARTS
    if {"checks", "ages", "failures"} & set(parts):
        bench = Bench(args.runs, args.pace, say)
        try:
            costs = bench.healthy()
            yield tables.healthy(costs, args.runs)
            if "ages" in parts:
                yield tables.aged(bench.aged(list(AGES)[: int(args.ages)]))
            if "failures" in parts:
                yield tables.failing(bench.failing(), costs)
        finally:
            bench.close()
    if "worker" in parts:
        yield tables.worker(workers.measure(args.minutes, say))
    if "fleet" in parts:
        yield tables.fleet(fleet.batch(args.runs, say), fleet.icinga(say))


if __name__ == "__main__":
    main()
