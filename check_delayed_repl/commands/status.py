"""`delayed-repl status`: every replica in one table, worst first, judged as the check would with --sampling worker."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import nullcontext
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from check_delayed_repl import options
from check_delayed_repl.arguments import positive_duration
from check_delayed_repl.conditions import rank
from check_delayed_repl.config import replicas
from check_delayed_repl.history import HistoryUnavailable, open_existing
from check_delayed_repl.history.folding import folded
from check_delayed_repl.judge.line import back_in_range
from check_delayed_repl.judge.outcome import Finding, State, Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.words import clean, clock, short

if TYPE_CHECKING:
    from rich.text import Text

HELP = "every replica in one table, worst first"

HEAD = ("state", "replica", "condition", "delay", "line", "job", "sample")
ALIGNED = ("<", "<", "<", ">", "<", "<", ">")
UNREADABLE = "history-unavailable"
WIDEST = {"condition": 24, "line": 10, "job": 7}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Judges every replica of the configuration file, or of the history where there is none, by the\n"
        "samples that the history has, as the check does with --sampling worker. Connects to no replica."
    )
    group = parser.add_argument_group("which replicas")
    options.add_config_option(parser, group, "many")
    options.add_options(group, options.HISTORY, options.WAIT)
    group = parser.add_argument_group("how to show them")
    options.OUTPUT.add_to(group)
    group.add_argument("--exit-code", action="store_true", help="exit as the check would for the worst of them")
    group.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    group.add_argument(
        "--interval", type=positive_duration, default=5.0, metavar="TIME", help="how often, with --watch (default 5s)"
    )
    options.add_judging_options(parser)


def run(args: argparse.Namespace) -> int:
    """Shows the table: 0, or with --exit-code the worst state."""
    from rich.console import Console
    from rich.live import Live

    # A pipe has no width of its own.
    console = Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 80)
    live = args.watch and args.output != "json" and sys.stdout.isatty()
    with Live(console=console, screen=True, auto_refresh=False) if live else nullcontext() as view:
        while True:
            rows = _rows(args)
            if args.output == "json":
                print(json.dumps({"replicas": [row for _, row in rows], "config": args.config}))
            elif view is not None:
                view.update(_table(rows, console.width), refresh=True)
            else:
                console.print(_table(rows, console.width), soft_wrap=True)
            sys.stdout.flush()
            if not args.watch:
                break
            time.sleep(args.interval)
    worst = max((verdict.state for verdict, _ in rows), key=lambda state: state.severity, default=State.UNKNOWN)
    return int(worst) if args.exit_code else 0


def _rows(args: argparse.Namespace) -> list[tuple[Verdict, dict[str, Any]]]:
    """Each replica's verdict, and what is shown of it; worst first. Raises HistoryUnavailable."""
    with open_existing(args.history, time.monotonic() + args.timeout) as history:
        if args.fleet is not None:
            wanted = [(replica.name, replica.limits) for replica in replicas(args)]
        else:
            wanted = [(name, options.limits_from(args)) for name in history.replicas()]
        rows, failed = [], 0
        for name, limits in wanted:
            history.deadline = time.monotonic() + args.timeout
            try:
                fold, _ = folded(history, name, limits)
                # The table has no texts, and without them a line in range is told at a tenth of the cost.
                verdict = fold.verdict(history.now(), worker=True, with_messages=args.output == "json")
            except HistoryUnavailable as error:
                failed += 1
                # A damaged row says nothing of the other replicas; to wait for each of them would take too long.
                if failed == len(wanted) or time.monotonic() >= history.deadline:
                    raise
                verdict = Verdict(time.time(), (Finding(State.CRITICAL, UNREADABLE, str(error)),))
            rows.append((verdict, _row(name, verdict, limits)))
    return sorted(rows, key=lambda row: (-row[0].state.severity, rank(row[0].condition), row[1]["replica"]))


def _row(name: str, verdict: Verdict, limits: Limits) -> dict[str, Any]:
    """As programs get it. `direction` is that of a line out of range at a known slope: `towards` it, `away` from it or
    `steady`; `back_at` when the line is back at that slope, in seconds since 1970."""
    sample, at, slope = verdict.sample, verdict.trend.intercept, verdict.trend.slope
    direction = back_at = None
    if at is not None and slope is not None and not limits.min_delay_time <= at <= limits.max_delay_time:
        if abs(slope) < limits.min_recovery_slope or not slope:
            direction = "steady"
        elif (slope > 0) == (at < limits.min_delay_time):
            direction, back_at = "towards", verdict.at + back_in_range(verdict.trend, slope, limits)
        else:
            direction = "away"
    return {
        "replica": name,
        "state": verdict.state.name,
        "condition": verdict.condition,
        "message": clean(verdict.message),
        "delay": at if sample is None or sample.delay is None else sample.delay,
        "slope": slope,
        "direction": direction,
        "back_at": back_at,
        "jobs": list(dict.fromkeys(job.kind for job in verdict.jobs if job.status == "active")),
        "last_sample": None if sample is None else sample.t,
        "at": verdict.at,
    }


def _table(rows: list[tuple[Verdict, dict[str, Any]]], width: int) -> Text:
    """A line for each replica, or more where its words are too long for their columns. rich's own table takes most of
    a second for a thousand replicas."""
    from rich.text import Text

    from check_delayed_repl.backtest.tables import STYLES

    if not rows:
        return Text("no replicas yet: nobody has taken samples into this history")
    cells = [_cells(*row) for row in rows]
    longest = (max(map(len, column)) for column in zip(HEAD, *cells, strict=True))
    widths = [min(length, WIDEST.get(title, length)) for title, length in zip(HEAD, longest, strict=True)]
    # The name has what is left.
    widths[1] = max(10, min(widths[1], width - sum(widths) + widths[1] - len(widths) + 1))
    table = Text()
    for row, line in zip((None, *rows), (HEAD, *cells), strict=True):
        pieces = [
            [cell[at : at + most] for at in range(0, len(cell), most)] for cell, most in zip(line, widths, strict=True)
        ]
        for number, (state, *others) in enumerate(zip_longest(*pieces, fillvalue="")):
            style = "bold" if row is None else STYLES[row[0].state]
            table.append(state.ljust(widths[0]), style if number == 0 else "")
            padded = (f"{text:{to}{most}}" for text, to, most in zip(others, ALIGNED[1:], widths[1:], strict=True))
            table.append(f" {' '.join(padded)}".rstrip() + "\n")
    table.rstrip()
    return table


def _cells(verdict: Verdict, row: dict[str, Any]) -> tuple[str, ...]:
    back = row["back_at"]
    return (
        row["state"],
        clean(row["replica"], 100),
        row["condition"],
        "" if row["delay"] is None else short(row["delay"]),
        row["direction"] or "" if back is None else f"back {clock(back, verdict.at)}",
        clean(", ".join(row["jobs"]), 40),
        "never" * (row["condition"] != UNREADABLE) if verdict.worker_age is None else short(verdict.worker_age),
    )
