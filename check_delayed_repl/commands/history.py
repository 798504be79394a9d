"""`delayed-repl history`: takes recordings out of the history and into it, and removes what is old."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from math import inf
from typing import IO, TYPE_CHECKING

from check_delayed_repl.history import History, HistoryUnavailable, open_history
from check_delayed_repl.history.pruning import prune, prune_future
from check_delayed_repl.options import (
    HISTORY,
    WAIT,
    Option,
    add_config_option,
    duration,
    filled,
    number,
)
from check_delayed_repl.records import JobLine, Record, Sample, merge_job

if TYPE_CHECKING:
    from typing import TextIO

HELP = "take recordings out of the history and into it, remove what is old: export, import, prune"

KEEP_S = 30 * 86400.0
_BATCH = 1000


class Failed(HistoryUnavailable):
    """What was asked for cannot be done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s ACTION [options]"
    commands = parser.add_subparsers(dest="history_command", metavar="ACTION", required=True, title="actions")
    export = commands.add_parser(
        "export",
        help="write a replica's recording, as JSON Lines",
        description="Writes what the history knows of a replica as a recording: JSON Lines in order of arrival.",
    )
    load = commands.add_parser(
        "import",
        help="append a recording to the history",
        usage="%(prog)s FILE [options]",
        description="Appends a recording to the history, under the name of --replica. If any line of it cannot be\n"
        "read, nothing is imported.",
    )
    load.add_argument("file", type=filled, metavar="FILE", help="the recording; - is standard input")
    load.add_argument("--replica", required=True, type=filled, metavar="NAME", help="the name to import it under")
    pruning = commands.add_parser(
        "prune",
        help="remove old samples, or samples from the future",
        description="Removes old samples, and jobs that are long over. What judging needs stays: unfinished jobs, the\n"
        "largest delay setting, the newest sample, and everything of an episode that is going on.",
    )
    for command, options in ((export, _EXPORT), (load, ()), (pruning, _PRUNE)):
        add_config_option(command, command, "history")
        for option in (HISTORY, *options, WAIT):
            option.add_to(command)


_WHEN = "2026-07-01T12:00:00 (UTC unless it says +02:00), seconds since 1970, or a time ago with s, m, h or d"


def moment(text: str) -> float:
    """A time: ISO 8601, seconds since 1970, or how long ago."""
    if text[-1:] in ("s", "m", "h", "d"):
        return time.time() - duration(text)
    try:
        return number(text)
    except argparse.ArgumentTypeError:
        pass
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: give 2026-07-01T12:00:00, seconds since 1970, or a time ago such as 2d"
        ) from None


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
    """Runs the action; returns the exit status."""
    if args.history_command == "import":
        _import(args)
        return 0
    history = _opened(args)
    try:
        _export(history, args) if args.history_command == "export" else _prune(history, args)
    finally:
        history.close()
    return 0


def _opened(args: argparse.Namespace) -> History:
    history = open_history(args.history, time.monotonic() + args.timeout)
    for warning in history.warnings:
        print(f"delayed-repl: warning: {warning}", file=sys.stderr)
    return history


# --- export ---


def _export(history: History, args: argparse.Namespace) -> None:
    replica = args.replica or _only_replica(history)
    since = -inf if args.since is None else args.since
    until = inf if args.until is None else args.until
    lines = _recording(history, replica, since, until, args.timeout)
    # Before a file is begun: the first line proves that the history can be read.
    first = next(lines, None)
    if first is None and args.replica is not None and replica not in history.replicas():
        known = ", ".join(history.replicas()) or "none"
        raise Failed(f"--replica: the history knows no replica {replica} (it knows: {known})")
    if args.output_file is None:
        _write(first, lines, sys.stdout)
    else:
        _write_file(args.output_file, first, lines)


def _only_replica(history: History) -> str:
    known = history.replicas()
    if len(known) == 1:
        return known[0]
    if not known:
        raise Failed(f"history {history.name} knows no replica yet")
    raise Failed(f"--replica: the history knows several, say which: {', '.join(known)}")


def _recording(history: History, replica: str, since: float, until: float, wait_s: float) -> Iterator[str]:
    """The lines of a recording, with every job line complete."""
    from check_delayed_repl.history.recording import dumps

    jobs: dict[str, JobLine] = {}
    for _, record in _patiently(history, history.records(replica), wait_s):
        if isinstance(record, Sample):
            if since <= record.t <= until:
                yield dumps(record)
        else:
            # A job that began before --since may run on after it, so the lines of jobs are only cut at the end.
            record = jobs[record.id] = merge_job(jobs.get(record.id), record)
            if record.t <= until:
                yield dumps(record)


def _patiently(history: History, records: Iterable[tuple[int, Record]], wait_s: float) -> Iterator[tuple[int, Record]]:
    """The same, with the deadline always ahead: a long history takes as long as it takes."""
    for record in records:
        yield record
        # Whoever reads what is written may have paused for long.
        history.deadline = time.monotonic() + wait_s


def _write(first: str | None, lines: Iterator[str], file: TextIO) -> None:
    if first is not None:
        file.write(first + "\n")
    file.writelines(line + "\n" for line in lines)
    file.flush()


def _write_file(path: str, first: str | None, lines: Iterator[str]) -> None:
    """Writes a file that is either complete or not there."""
    special = os.path.exists(path) and not os.path.isfile(path)
    part = path if special else f"{path}.part{os.getpid()}"
    try:
        with open(part, "w", encoding="ascii") as file:
            _write(first, lines, file)
        if not special:
            os.replace(part, path)
    except OSError as error:
        raise Failed(f"-o: cannot write {path}: {error.strerror}") from None
    finally:
        if not special and os.path.exists(part):
            os.unlink(part)


# --- import ---


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
            raise Failed(f"{_named(args.file)}: {error}: nothing was imported") from None
        except OSError as error:
            raise Failed(f"{_named(args.file)} cannot be read: {error.strerror}") from None
        file.seek(0)
        history = _opened(args)
        try:
            newest = history.newest_sample_t(args.replica)
            if begin is not None and newest is not None and begin < newest:
                raise Failed(
                    f"--replica: the history has later samples of {args.replica} than the recording begins with,"
                    " and what is imported arrives after them: import it under another name"
                )
            samples, jobs = _append(history, args.replica, read(file), args.timeout)
        except RecordingError as error:
            raise Failed(f"{_named(args.file)} was changed while it was imported: {error}") from None
        finally:
            history.close()
    print(f"imported {samples} samples and {jobs} job lines as {args.replica}")


def _append(history: History, replica: str, records: Iterator[Record], wait_s: float) -> tuple[int, int]:
    """Stores in small steps, so that others can write in between; returns how many samples and job lines."""
    from itertools import islice

    samples = jobs = 0
    while batch := list(islice(records, _BATCH)):
        history.deadline = time.monotonic() + wait_s
        history.add_records(replica, batch)
        count = sum(isinstance(record, Sample) for record in batch)
        samples += count
        jobs += len(batch) - count
    return samples, jobs


def _readable_twice(path: str) -> IO[bytes]:
    """The recording, in a form that can be read twice."""
    try:
        if path != "-":
            file: IO[bytes] = open(path, "rb")  # noqa: SIM115 - the caller closes it
            if file.seekable():
                return file
            source = file
        else:
            source = sys.stdin.buffer
        import shutil
        import tempfile

        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        shutil.copyfileobj(source, copy)
        copy.seek(0)
    except OSError as error:
        raise Failed(f"{_named(path)} cannot be read: {error.strerror}") from None
    return copy


def _named(path: str) -> str:
    return "standard input" if path == "-" else path


# --- prune ---


def _prune(history: History, args: argparse.Namespace) -> None:
    if args.replica is not None and args.replica not in history.replicas():
        raise Failed(f"--replica: the history knows no replica {args.replica}")
    if args.future:
        gone = prune_future(history, args.replica)
        print(f"removed {gone} samples from the future")
        if args.keep is None:
            return
    keep_s = KEEP_S if args.keep is None else args.keep
    gone = 0
    while True:
        history.deadline = time.monotonic() + args.timeout
        step = prune(history, keep_s, args.replica, _BATCH)
        gone += step
        if step < _BATCH:
            break
    print(f"removed {gone} lines")
