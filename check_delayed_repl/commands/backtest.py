"""`delayed-repl backtest`: a recording, or a history, judged again under any limits."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from check_delayed_repl.configfile import limits_of
from check_delayed_repl.history import HistoryUnavailable, open_history
from check_delayed_repl.limits import Limits
from check_delayed_repl.options import (
    DEFAULT_TIMEOUT,
    REPLICA_IS,
    UsageError,
    add_config_option,
    add_history_option,
    add_judging_options,
    add_options,
    filled,
    limits_from,
    timeout,
)
from check_delayed_repl.records import Record

HELP = "judge a recording or a history again, under any limits: pages, and time in each state"

PROGRESS_AFTER = 1.0
"""Seconds before progress is shown, and between two showings."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s FILE | - | --history WHERE [options]"
    parser.description = (
        "Judges every look of a recording at its own time, as the check would have done with these limits.\n"
        "A page is an entry into CRITICAL; the time from one look to the next counts to the earlier one's\n"
        "state."
    )
    parser.add_argument(
        "file",
        nargs="?",
        type=filled,
        metavar="FILE",
        help="a recording (history export writes one); - is standard input",
    )
    group = parser.add_argument_group("instead of a file")
    add_history_option(group)
    group.add_argument(
        "--replica", type=filled, metavar="NAME", help="the replica; needed where the history knows several"
    )
    group.add_argument(
        "-t",
        "--timeout",
        type=timeout,
        default=DEFAULT_TIMEOUT,
        metavar="TIME",
        help="how long each step may wait for the history (default 10)",
    )
    add_config_option(parser, group, "any")
    group = parser.add_argument_group("what to show")
    group.add_argument("--every", action="store_true", help="every look's verdict, not only where it changes")
    group.add_argument(
        "--compare",
        type=filled,
        metavar="LIMITS.toml",
        help="compare with the limits in this file: the names of the options below without their dashes,"
        ' such as max-delay-time = "3h"; what it does not set is as given here',
    )
    group.add_argument(
        "--output", choices=("table", "json"), default="table", metavar="FORMAT", help="table (default) or json"
    )
    add_judging_options(parser)
    add_options(parser.add_argument_group("the replica was"), *REPLICA_IS)


def run(args: argparse.Namespace) -> int:
    """Replays and shows it; returns the exit status."""
    limits = limits_from(args)
    others = limits_of(args.compare, args) if args.compare else None
    if args.file is not None and args.history is not None and (args.fleet is None or "history" in args.given):
        raise UsageError("--history: not together with FILE")
    if args.file is not None and args.replica is not None and args.fleet is None:
        raise UsageError("--replica: names a replica of a history, not of FILE")
    if args.file is None and args.history is None and args.replica is None:
        raise UsageError("FILE: give a recording, - for standard input, or --history")
    if args.every and others is not None and args.output == "table":
        raise UsageError("--every: with --compare, only --output json has room for it")
    progress = Progress()
    try:
        if args.file is None:
            from check_delayed_repl.backtest.replay import in_batches

            _show(in_batches(_from_history(args)), limits, others, args, progress)
            return 0
        return _from_file(args, lambda batches: _show(batches, limits, others, args, progress), progress)
    finally:
        progress.clear()


def _show(
    batches: Iterable[list[Record]], limits: Limits, others: Limits | None, args: argparse.Namespace, progress: Progress
) -> None:
    """Replays under one or two sets of limits, in one pass, and writes what there is to tell as soon as it is known."""
    from check_delayed_repl.backtest import tables as report
    from check_delayed_repl.backtest.replay import Replay

    write = sys.stdout.write
    course = Replay(limits, args.every)
    other = None if others is None else Replay(others)
    table = report.Table()
    for batch in batches:
        for change in course.feed(batch):
            progress.clear()
            if args.output == "json":
                write(report.verdict_line(change))
            elif other is None:
                sys.stdout.writelines(table.rows(change))
        if other is not None:
            deque(other.feed(batch), 0)
        progress.show(course.summary.samples, course.summary.end)
    progress.clear()
    before = (limits, course.summary)
    if args.output == "json":
        write(report.summary_line(course.summary))
        if other is not None and others is not None:
            write(report.comparison_line(before, (others, other.summary)))
    elif other is not None and others is not None:
        sys.stdout.writelines(report.comparison_rows(before, (others, other.summary)))
    else:
        sys.stdout.writelines(table.end(course.summary))
        sys.stdout.writelines(report.held_rows(limits, course.summary))


# --- where records come from


def _from_file(args: argparse.Namespace, show: Callable[[Iterable[list[Record]]], None], progress: Progress) -> int:
    from check_delayed_repl.history.recording import RecordingError, batches

    standard_input = args.file == "-"
    with open(0 if standard_input else args.file, "rb", closefd=not standard_input) as file:
        if file.seekable():
            size = os.fstat(file.fileno()).st_size
            if size:
                progress.share = lambda: file.tell() / size
        try:
            show(batches(file))
        except RecordingError as error:
            progress.clear()
            from check_delayed_repl.words import clean

            name = "standard input" if standard_input else args.file
            sys.stdout.flush()
            print(f"delayed-repl: {clean(f'{name}:{error.line}: {error.problem}')}", file=sys.stderr)
            return 1
    return 0


def _from_history(args: argparse.Namespace) -> Iterator[Record]:
    """Records of one replica; raises HistoryUnavailable."""
    if args.history is not None and "://" not in args.history and not os.path.exists(args.history):
        # Opening it would make a new one.
        raise HistoryUnavailable(f"--history: {args.history}: there is no such file")
    history = open_history(args.history, time.monotonic() + args.timeout)
    try:
        known = history.replicas()
        replica = args.replica
        if replica is None and len(known) == 1:
            replica = known[0]
        if replica not in known:
            names = ", ".join(known) or "none"
            what = f"the history knows no replica {replica}" if replica else "say which replica of the history"
            raise HistoryUnavailable(f"--replica: {what} (it knows: {names})")
        for _, record in history.records(replica):
            yield record
            # Judging takes its time, which is not the history's.
            history.deadline = time.monotonic() + args.timeout
    finally:
        history.close()


# --- progress


class Progress:
    """A line on a terminal's standard error that says how far a long replay has come; nothing anywhere else."""

    def __init__(self) -> None:
        self.share: Callable[[], float] | None = None
        """How much of it is done, from 0 to 1, where that can be known."""
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + PROGRESS_AFTER
        self._shown = False

    def show(self, samples: int, t: float | None) -> None:
        """Says it, if it is time to. `t` is where the replay is."""
        if not self._terminal or time.monotonic() < self._next:
            return
        from check_delayed_repl.backtest.tables import moment

        self._next = time.monotonic() + PROGRESS_AFTER
        share = "" if self.share is None else f"{100.0 * min(1.0, self.share()):3.0f} %, "
        sys.stderr.write(f"\r\033[K{share}{samples} samples, up to {moment(t or 0.0)} UTC")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Takes the line away, before anything else is written."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
            self._shown = False
