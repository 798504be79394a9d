"""`delayed-repl backtest`: a recording, or a history, judged again under any limits."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from check_delayed_repl import options
from check_delayed_repl.arguments import UsageError, filled
from check_delayed_repl.commands import CommandFailed
from check_delayed_repl.configfile import limits_of
from check_delayed_repl.history import one_replica, open_existing
from check_delayed_repl.limits import Limits
from check_delayed_repl.options import Option
from check_delayed_repl.records import Record

if TYPE_CHECKING:
    from rich.console import RenderableType

HELP = "judge a recording or a history again, under any limits: pages, and time in each state"

_REPLICA = Option("--replica", "the replica; needed where the history knows several", "NAME")
_SHOWN = (
    Option("--every", "every sample's verdict, not only where it changes", switch=True),
    Option(
        "--compare",
        "compare with the limits in this file: the names of the options below without their dashes,"
        ' such as max-delay-time = "3h"; what it does not set is taken from this command line',
        "LIMITS.toml",
    ),
    Option(
        "--suggest", "limits that fit this recording, as a file for --compare, with the reason for each", switch=True
    ),
    Option("--output", "table (default) or json", "FORMAT", choices=("table", "json")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s FILE | - | --history WHERE [options]"
    parser.description = (
        "Judges every sample of a recording at its own time, as the check would have done with these limits.\n"
        "A page is an entry into CRITICAL; the time from one sample to the next counts to the earlier one's\n"
        "state."
    )
    about_file = "a recording (history export writes one); - is standard input"
    parser.add_argument("file", nargs="?", type=filled, metavar="FILE", help=about_file)
    group = parser.add_argument_group("instead of a file")
    options.add_options(group, options.HISTORY, _REPLICA, options.WAIT)
    options.add_config_option(parser, group, "any")
    options.add_options(parser.add_argument_group("what to show"), *_SHOWN)
    options.add_judging_options(parser)
    options.add_options(parser.add_argument_group("the replica was"), *options.REPLICA_IS)


def run(args: argparse.Namespace) -> int:
    limits = options.limits_from(args)
    others = [limits_of(args.compare, args)] if args.compare else []
    if args.file is not None and args.history is not None and (args.fleet is None or "history" in args.given):
        raise UsageError("--history: not together with FILE")
    if args.file is not None and args.replica is not None and args.fleet is None:
        raise UsageError("--replica: names a replica of a history, not of FILE")
    if args.file is None and args.history is None and args.replica is None:
        raise UsageError("FILE: give a recording, - for standard input, or --history")
    if args.every and others and args.output != "json":
        raise UsageError("--every: with --compare, only --output json has room for it")
    if args.suggest and (args.every or others or args.output == "json"):
        raise UsageError("--suggest: not together with --compare, --every or --output json")
    from check_delayed_repl.history.recording import RecordingError

    try:
        if args.suggest:
            _suggest(limits, args)
        else:
            _show(limits, others, args)
    except RecordingError as error:
        sys.stdout.flush()
        raise CommandFailed(f"{_named(args)}:{error.line}: {error.problem}") from None
    return 0


def _show(limits: Limits, others: list[Limits], args: argparse.Namespace) -> None:
    """Replays under the limits, and the one other set where there is one, in one pass; writes what there is to tell."""
    from check_delayed_repl.backtest import tables
    from check_delayed_repl.backtest.replay import Replay, StateChange

    course = Replay(limits, bool(args.every))
    compared = [(one, Replay(one)) for one in others]

    def changes() -> Iterator[StateChange]:
        for batch in _batches(args):
            yield from course.feed(batch)
            for _, other in compared:
                deque(other.feed(batch), 0)

    before = (limits, course.summary)
    write = sys.stdout.write
    if args.output == "json":
        for change in changes():
            write(tables.verdict_line(change))
        write(tables.summary_line(course.summary))
        for one, other in compared:
            write(tables.comparison_line(before, (one, other.summary)))
    elif compared:
        deque(changes(), 0)
        for one, other in compared:
            _print(tables.comparison(before, (one, other.summary)))
    else:
        _print(tables.timeline(changes(), course.summary))
        _print(tables.held(limits, course.summary))


def _suggest(limits: Limits, args: argparse.Namespace) -> None:
    from check_delayed_repl.backtest.suggest import NothingToSuggest, suggestion

    # It is gone through several times.
    kept = [*_batches(args)] if args.file == "-" else None
    try:
        for line in [*suggestion(lambda: _batches(args) if kept is None else kept, limits)]:
            print(line)
    except NothingToSuggest as nothing:
        raise CommandFailed(f"{_named(args)}: {nothing}") from None


def _print(parts: Iterable[RenderableType]) -> None:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    # What is no terminal has no width of its own, and no row is to be broken there, or filled up with blanks.
    console = Console(width=None if terminal else 160, markup=False, highlight=False, emoji=False)
    for part in parts:
        if terminal:
            console.print(part)
        else:
            with console.capture() as printed:
                console.print(part)
            sys.stdout.writelines(line.rstrip() + "\n" for line in printed.get().splitlines())


def _named(args: argparse.Namespace) -> str:
    return "standard input" if args.file == "-" else args.file or args.replica or "the history"


def _batches(args: argparse.Namespace) -> Iterator[list[Record]]:
    """The records, some hundred at a time. Raises HistoryUnavailable, OSError and RecordingError."""
    from check_delayed_repl.history.recording import batches

    if args.file is None:
        with open_existing(args.history, time.monotonic() + args.timeout) as history:
            records = (record for _, record in history.records(one_replica(history, args.replica)))
            while batch := list(islice(records, 1024)):
                yield batch
                # Judging takes its time, which is not the history's.
                history.deadline = time.monotonic() + args.timeout
        return
    # JSON on the same terminal would run through the bar.
    watched = sys.stderr is not None and sys.stderr.isatty() and not (args.output == "json" and sys.stdout.isatty())
    standard_input = args.file == "-"
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(open(0 if standard_input else args.file, "rb", closefd=not standard_input))
        size = os.fstat(file.fileno()).st_size if file.seekable() else 0
        if size and watched:
            from rich.console import Console
            from rich.progress import wrap_file

            bar = wrap_file(file, size, description="", console=Console(stderr=True), transient=True)
            file = stack.enter_context(bar)
        yield from batches(file)
