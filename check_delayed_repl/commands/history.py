"""`delayed-repl history`: takes recordings out of the history and into it, and removes what is old."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from math import inf
from typing import IO, TYPE_CHECKING

from check_delayed_repl.arguments import duration, filled, moment
from check_delayed_repl.commands import complain
from check_delayed_repl.history import History, HistoryUnavailable, one_replica, open_existing, open_history
from check_delayed_repl.history.pruning import prune, prune_future
from check_delayed_repl.options import HISTORY, WAIT, Option, add_actions, add_config_option, add_options
from check_delayed_repl.records import JobLine, Record, Sample, merge_job

if TYPE_CHECKING:
    from typing import TextIO

HELP = "take recordings out of the history and into it, remove what is old: export, import, prune"

_BATCH = 1000


ACTIONS = {
    "export": "write a replica's recording: JSON Lines in order of arrival",
    "import": """append a recording to the history, under the name of --replica
If any line of it cannot be read, nothing is imported.""",
    "prune": """remove old samples and jobs that are long over, or samples from the future
What judging needs stays: unfinished jobs, the largest delay setting, the newest sample, and
everything of an episode that is going on.""",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    export, load, pruning = add_actions(parser, "history_command", ACTIONS)
    load.usage = "%(prog)s FILE [options]"
    load.add_argument("file", type=filled, metavar="FILE", help="the recording; - is standard input")
    load.add_argument("--replica", required=True, type=filled, metavar="NAME", help="the name to import it under")
    for command, options in ((export, _EXPORT), (load, ()), (pruning, _PRUNE)):
        add_config_option(command, command, "history")
        add_options(command, HISTORY, *options, WAIT)


_WHEN = "2026-07-01T12:00:00 (UTC unless it says +02:00), seconds since 1970, or a time ago with s, m, h or d"
_EXPORT = (
    Option("--replica", "the replica; needed where the history knows several", "NAME"),
    Option("--since", f"leave out older samples: {_WHEN}", "WHEN", moment),
    Option("--until", f"leave out newer samples: {_WHEN}", "WHEN", moment),
    Option("-o --output-file", "write to FILE (default: standard output)", "FILE"),
)
_FUTURE = "remove samples that lie ahead of the clock, left by a clock that was stepped"
_PRUNE = (
    Option("--replica", "this replica alone (default: all)", "NAME"),
    Option("--keep", "remove what is older than this (default 30d)", "TIME", duration),
    Option("--future", _FUTURE, switch=True),
)


def run(args: argparse.Namespace) -> int:
    if args.history_command == "import":
        _import(args)
        return 0
    with _opened(args) as history:
        _export(history, args) if args.history_command == "export" else _prune(history, args)
    return 0


def _opened(args: argparse.Namespace) -> History:
    opened = open_history if args.history_command == "import" else open_existing
    history = opened(args.history, time.monotonic() + args.timeout)
    for warning in history.warnings:
        complain(f"warning: {warning}")
    return history


def _export(history: History, args: argparse.Namespace) -> None:
    replica = args.replica or one_replica(history, None)
    since = -inf if args.since is None else args.since
    until = inf if args.until is None else args.until
    lines = _recording(history, replica, since, until, args.timeout)
    # Before a file is begun: the first line proves that the history can be read.
    first = next(lines, None)
    if first is None:
        one_replica(history, replica)
    lines = chain([] if first is None else [first], lines)
    if args.output_file is None:
        _write(lines, sys.stdout)
    else:
        _write_file(args.output_file, lines)


def _recording(history: History, replica: str, since: float, until: float, wait_s: float) -> Iterator[str]:
    """The lines of a recording, with every job line complete."""
    from check_delayed_repl.history.recording import dumps

    jobs: dict[str, JobLine] = {}
    for _, record in history.records(replica):
        if isinstance(record, Sample):
            if since <= record.t <= until:
                yield dumps(record)
        else:
            # A job that began before --since may run on after it, so the lines of jobs are only cut at the end.
            record = jobs[record.id] = merge_job(jobs.get(record.id), record)
            if record.t <= until:
                yield dumps(record)
        # A long history takes as long as it takes, and whoever reads what is written may pause.
        history.deadline = time.monotonic() + wait_s


def _write(lines: Iterator[str], file: TextIO) -> None:
    file.writelines(line + "\n" for line in lines)
    file.flush()


def _write_file(path: str, lines: Iterator[str]) -> None:
    """Writes a file that is either complete or not there; where a link leads, such as /dev/stdout, it is written to."""
    special = os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path))
    part = path if special else f"{path}.part{os.getpid()}"
    try:
        with open(part, "w", encoding="ascii") as file:
            _write(lines, file)
        if not special:
            os.replace(part, path)
    except OSError as error:
        raise HistoryUnavailable(f"-o: cannot write {path}: {error.strerror}") from None
    finally:
        if not special and os.path.exists(part):
            os.unlink(part)


def _import(args: argparse.Namespace) -> None:
    from check_delayed_repl.history.recording import RecordingError, read

    with _readable_twice(args.file) as file:
        begin: float | None = None
        try:
            # All of it is read before any of it is stored.
            for record in read(file):
                if begin is None and isinstance(record, Sample):
                    begin = record.t
        except RecordingError as error:
            raise HistoryUnavailable(f"{_named(args.file)}: {error}: nothing was imported") from None
        except OSError as error:
            raise HistoryUnavailable(f"{_named(args.file)} cannot be read: {error.strerror}") from None
        file.seek(0)
        with _opened(args) as history:
            newest = history.newest_sample_t(args.replica)
            if begin is not None and newest is not None and begin < newest:
                raise HistoryUnavailable(
                    f"--replica: the history has later samples of {args.replica} than the recording begins with,"
                    " and what is imported arrives after them: import it under another name"
                )
            counted: Counter[type[Record]] = Counter()
            records = read(file)
            try:
                # In small steps, so that others can write in between.
                while batch := list(islice(records, _BATCH)):
                    history.deadline = time.monotonic() + args.timeout
                    history.add_records(args.replica, batch)
                    counted.update(map(type, batch))
            except RecordingError as error:
                raise HistoryUnavailable(f"{_named(args.file)} was changed while it was imported: {error}") from None
    print(f"imported {counted[Sample]} samples and {counted[JobLine]} job lines as {args.replica}")


def _readable_twice(path: str) -> IO[bytes]:
    """The recording, in a form that can be read twice."""
    import shutil
    import tempfile

    try:
        source: IO[bytes] = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115 - the caller closes it
        if path != "-" and source.seekable():
            return source
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        shutil.copyfileobj(source, copy)
        copy.seek(0)
    except OSError as error:
        raise HistoryUnavailable(f"{_named(path)} cannot be read: {error.strerror}") from None
    return copy


def _named(path: str) -> str:
    return "standard input" if path == "-" else path


def _prune(history: History, args: argparse.Namespace) -> None:
    if args.replica is not None:
        one_replica(history, args.replica)
    if args.future:
        gone = prune_future(history, args.replica)
        print(f"removed {gone} samples from the future")
        if "keep" not in args.given:
            return
    gone, step = 0, _BATCH
    while step == _BATCH:
        history.deadline = time.monotonic() + args.timeout
        step = prune(history, args.keep, args.replica, _BATCH)
        gone += step
    print(f"removed {gone} lines")
