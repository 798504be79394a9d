"""`python -m tests.simulator`: how well alarms are raised, by the project and by simpler rules.

python -m tests.simulator [years] [--replicas N] [--days N] [--jobs N]      alarms over replica-years
python -m tests.simulator rows [--lines N] [ROW ...]                        the promises about the trend
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pool

from . import rows, score
from .years import START, Year

SHOWN = 20
"""False pages that are told one by one."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulator", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    years = commands.add_parser("years", help="alarms over replica-years (the default)")
    for one in (parser, years):
        one.add_argument("--replicas", type=int, default=10)
        one.add_argument("--days", type=int, default=73, help="days of each replica (73: five make a year)")
        one.add_argument("--incident-every", type=float, default=4.0, help="days between incidents, on average")
        one.add_argument("--seed", default="")
        one.add_argument("--jobs", type=int, default=1, help="processes that share the work")
    promises = commands.add_parser("rows", help="the promises about the trend")
    promises.add_argument("row", nargs="*", choices=[[], *rows.ROWS])
    promises.add_argument("--lines", type=int, default=300)
    args = parser.parse_args(arguments)
    if args.command == "rows":
        return show_rows(args.row or list(rows.ROWS), args.lines)
    replicas = [Year(number, args.days, args.incident_every, args.seed) for number in range(args.replicas)]
    return show_years(replicas, args.jobs)


def show_rows(names: list[str], lines: int) -> int:
    """Each row's lines and how many kept its promise; 1 where any did not."""
    broken = 0
    print(f"{'on the line':<52}{'promise':<54}{'kept':>12}")
    for name in names:
        failures = list(rows.run(name, lines))
        broken += len(failures)
        row = rows.ROWS[name]
        print(f"{row.title:<52}{row.promise:<54}{f'{lines - len(failures)} of {lines}':>12}", flush=True)
        for failure in failures:
            bad = failure.broken
            print(
                f"    {name}/{failure.number}: {failure.drawn}; at {bad.t:.1f} a delay of {bad.delay:.1f} is "
                f"{bad.state.name} {bad.condition}"
            )
    return 1 if broken else 0


def judged(year: Year) -> tuple[Year, dict[str, list[score.Alarm]]]:
    """A replica's days, with the incidents in them, and every rule's alarms."""
    return year, score.judge(year)


def show_years(years: Sequence[Year], jobs: int) -> int:
    """Every rule's pages over these replicas' days; 1 where an incident was missed or false pages are too many."""
    scores = {rule: score.Score() for rule in score.RULES}
    began = time.monotonic()
    # Ctrl-C ends it early, with what is known by then.
    with Pool(jobs, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool, suppress(KeyboardInterrupt):
        for done, (year, found) in enumerate(pool.imap_unordered(judged, years), 1):
            for rule, alarms in found.items():
                scores[rule].add(year, alarms)
            print(f"\r{done} of {len(years)} replicas", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    ours = scores[score.OURS]
    print(f"{ours.years:.2f} replica-years, a sample every 10 s ({time.monotonic() - began:.0f} s)\n")
    print(score.table(scores))
    for page in ours.false[:SHOWN]:
        when = page.alarm.begin - START
        print(
            f"\nfalse: replica {page.replica} ({page.profile}), day {when // 86400:.0f}, {when % 86400 / 3600:.3f} h, "
            f"for {page.alarm.end - page.alarm.begin:.0f} s: {page.alarm.condition}",
            end="",
        )
    if len(ours.false) > SHOWN:
        print(f"\n... and {len(ours.false) - SHOWN} more", end="")
    for number, profile, incident in ours.missed:
        when = (incident.begin or START) - START
        print(f"\nmissed: replica {number} ({profile}), day {when // 86400:.0f}: {incident.kind}", end="")
    print()
    return 1 if ours.missed or len(ours.false) > ours.years / 10.0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
