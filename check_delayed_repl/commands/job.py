"""`delayed-repl job`: records planned work that may disturb the delay line, such as backups.

Job lines are only ever appended. Who may read the history is told of mistakes (an id that was never started, a job
that is over already); who may only INSERT into a shared one writes what is known, and the judge puts it together.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from contextlib import suppress

from check_delayed_repl.arguments import UsageError, count_of, job_kind
from check_delayed_repl.commands import complain
from check_delayed_repl.history import (
    LOCATION_VARIABLE,
    History,
    HistoryUnavailable,
    holds_password,
    open_existing,
    open_history,
)
from check_delayed_repl.limits import BUILT_IN_KINDS, RESCUE
from check_delayed_repl.options import HISTORY, WAIT, Option, add_actions, add_config_option, add_options
from check_delayed_repl.records import ALL_JOBS, CHANNEL_SEPARATOR, JobLine, merge_into, outlasts_all
from check_delayed_repl.words import clean, moment

HELP = "record planned work, such as a backup: start, finish, void, run, list"

START_WAIT_S = 1.0
"""How long `run` waits for its start to be recorded before it starts the command all the same."""
POLL_S = 1.0
"""Seconds after which `job run` asks whether its command is still there, should nobody have told it of its end."""
RETRY_S = 5.0
"""How long `run` waits before it tries again to record its start."""
CLOCK_SLACK_S = 5.0
CANNOT_RUN = 126
NOT_FOUND = 127
LISTED = 20


ACTIONS = {
    "start": "record that a job starts now, and print its id",
    "finish": "record that a job is finished now",
    "void": "take a wrong record back: the job never was",
    "run": """run a command and record its start and end
It exits as the command does, and passes signals on to it. A history that cannot be written is
told on standard error and never stops the command.""",
    "list": "show the jobs of a replica, those that run last",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start, finish, void, run_command, list_command = commands = add_actions(parser, "job_command", ACTIONS)
    finish.usage, void.usage = "%(prog)s ID [options]", "%(prog)s ID|--all [options]"
    run_command.usage = "%(prog)s [options] -- COMMAND [ARGUMENT ...]"
    void.add_argument("--all", action="store_true", help="take back every job recorded so far, in one line")
    finish.add_argument("id", type=_job_id, metavar="ID", help="what `job start` printed")
    void.add_argument("id", type=_job_id, nargs="?", metavar="ID", help="what `job start` printed")
    for command in commands:
        add_config_option(command, command, "name")
        add_options(command, HISTORY, _REPLICA, WAIT, *(_LIST if command is list_command else ()))
        needed = command in (start, run_command)
        command.add_argument("--kind", required=needed, type=job_kind, metavar="KIND", help=_KIND)
    run_command.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command, after --")


def _job_id(text: str) -> str:
    # Whatever else a hostile writer called it, a wrong record must be open to be ended.
    if text == ALL_JOBS:
        raise argparse.ArgumentTypeError(f"{text!r} is no job's id: void --all ends all of them")
    return text


_KIND = "backup, deshard, or a kind that the check knows from --max-job-behind"
_NAME = "the replica's name in the history; without its channel it stands for all its channels"
_REPLICA = Option("--replica", f"{_NAME}; needed where the configuration file does not have one replica alone", "NAME")
_LIST = (
    Option("--limit", f"show N jobs at most (default {LISTED}; 0: all)", "N", count_of("jobs", 0)),
    Option("--output", "text (default), or json: one object a line", "FORMAT", choices=("text", "json")),
)


def run(args: argparse.Namespace) -> int:
    if not args.replica and not (args.job_command == "run" and args.notes):
        raise UsageError("--replica: whose job is it? Give the replica's name in the history")
    if args.job_command == "run":
        command = args.command[1:] if args.command[:1] == ["--"] else args.command
        if not any(command[:1]):
            raise UsageError("COMMAND: which command is to be run? It comes after --")
        return _run(args, command)
    if args.job_command == "void" and (args.id is not None) == args.all:
        raise UsageError("ID: give one job's id, or --all for every job recorded so far")
    with _opened(args) as history:
        {"start": _start, "finish": _end, "void": _end, "list": _list}[args.job_command](history, args)
    return 0


def _opened(args: argparse.Namespace) -> History:
    if not args.replica:
        raise HistoryUnavailable("no --replica, and the configuration file cannot be used")
    opened = open_history if args.job_command in ("start", "run") else open_existing
    return opened(args.history, time.monotonic() + args.timeout)


def _start(history: History, args: argparse.Namespace) -> None:
    _warn_of_mistakes(history, args)
    job = _new_id(args.kind)
    now = history.now()
    history.add_job(args.replica, JobLine(now, job, args.kind, now))
    try:
        print(job, flush=True)
    except OSError as error:
        # Nobody could ever finish it.
        history.add_job(args.replica, JobLine(history.now(), job, args.kind, now, void=True))
        raise HistoryUnavailable(f"the job's id cannot be printed ({error.strerror}), so no job is recorded") from None


def _end(history: History, args: argparse.Namespace) -> None:
    """Finishes a job, or takes one or all back."""
    now, void = history.now(), args.job_command == "void"
    if void and args.all:
        if not history.readable:
            raise HistoryUnavailable(
                "void --all needs an account that may read the history: use the worker's, not the job writer's"
            )
        if next(history.job_lines(args.replica), None) is None:
            raise HistoryUnavailable(f"no jobs are recorded for {args.replica}")
        history.add_job(args.replica, JobLine(now, ALL_JOBS, void=True))
        rescues: dict[str, JobLine] = {}
        with suppress(HistoryUnavailable):  # a flood takes long to read, and what counts is written
            for _, line in history.job_lines(args.replica):
                if line.kind == RESCUE or line.id in rescues:
                    merge_into(rescues, line)
        if going_on := [key for key, line in rescues.items() if outlasts_all(line) and not line.void]:
            complain(f"rescues go on: {', '.join(going_on[-5:])} (ended by rescue resume, or job void ID)")
        return
    if not history.readable:
        # The judge adds the kind and the start from the line that `start` wrote.
        history.add_job(args.replica, JobLine(now, args.id, args.kind, None, None if void else now, void))
        return
    jobs = _jobs(history, args.replica, args.id)
    if args.id not in jobs:
        jobs = _jobs(history, args.replica)  # a line without an id has got a name, too
    if args.id not in jobs:
        running = [key for key, (_, line) in jobs.items() if _status(line, now) == "running"]
        hint = f"running: {', '.join(running[-5:])}" if running else "none is running"
        raise HistoryUnavailable(f"no job {args.id} is recorded for {args.replica} ({hint})")
    name, line = jobs[args.id]
    if args.kind is not None and line.kind is not None and line.kind != args.kind:
        raise HistoryUnavailable(f"job {args.id} is of kind {line.kind}, not {args.kind}")
    if line.void:
        raise HistoryUnavailable(f"job {args.id} is void already")
    if not void and line.finished_at is not None and line.finished_at <= now and not line.unreadable:
        raise HistoryUnavailable(f"job {args.id} is finished already, since {moment(line.finished_at)}")
    began, finished_at = line.started_at, line.finished_at
    if not void:
        # Clocks are set back by a little now and then; that alone does not make a record wrong.
        finished_at = began if began is not None and now < began <= now + CLOCK_SLACK_S else now
    kind = line.kind if line.kind is not None else args.kind
    history.add_job(name, JobLine(now, args.id, kind, began, finished_at, void))


def _jobs(history: History, replica: str, job: str | None = None) -> dict[str, tuple[str, JobLine]]:
    """The replica's jobs by their ids, or one of them, in order of their first lines: each as it reads now, with the
    name that it was recorded under, which is the replica's or its server's."""
    lines: dict[str, JobLine] = {}
    names: dict[str, str] = {}
    for name, line in history.job_lines(replica, () if job is None else (job, ALL_JOBS)):
        merge_into(lines, line)
        if not (line.void and line.id == ALL_JOBS):
            names.setdefault(line.id, name)
    return {key: (name, lines[key]) for key, name in names.items()}


def _warn_of_mistakes(history: History, args: argparse.Namespace) -> None:
    """A job on a misspelt name would be recorded where no check takes it for its own; one of a kind that no check
    knows holds nothing back."""
    for warning in history.warnings:
        complain(f"warning: {warning}")
    kinds = set(BUILT_IN_KINDS)
    if args.fleet is not None:
        with suppress(UsageError):  # a mistake in a table is told by the check
            kinds |= args.fleet.kinds()
    if history.readable:
        known = history.replicas()
        if not any(name == args.replica or name.startswith(args.replica + CHANNEL_SEPARATOR) for name in known):
            names = ", ".join([*known[:5], *(["..."] if len(known) > 5 else [])]) or "none yet"
            complain(
                f"warning: the history has no samples of a replica {args.replica} (it knows {names}); the job is"
                " recorded all the same"
            )
        kinds |= history.kinds(args.replica)
    if args.kind not in kinds and (history.readable or args.fleet is not None):
        complain(
            f"warning: no check knows jobs of kind {args.kind} (known: {', '.join(sorted(kinds))}), so this one holds"
            f" no alarm back; give the check --max-job-behind {args.kind}=TIME"
        )


def _new_id(kind: str) -> str:
    """An id that nobody else gives: kind, time, chance."""
    return f"{kind}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(4).hex()}"


def _status(line: JobLine, now: float) -> str:
    if line.void:
        return "void"
    if line.unreadable or line.kind is None or line.started_at is None:
        return "invalid"
    if line.finished_at is None or line.finished_at > now:
        return "running"
    return "invalid" if line.finished_at < line.started_at else "finished"


def _list(history: History, args: argparse.Namespace) -> None:
    now = history.now()
    jobs = [(name, line) for name, line in _jobs(history, args.replica).values() if args.kind in (None, line.kind)]
    if args.output != "json" and not jobs:
        print(f"no jobs are recorded for {clean(args.replica)}")
        return
    jobs.sort(key=lambda job: _status(job[1], now) == "running")
    shown = jobs[-(LISTED if args.limit is None else args.limit) :]
    if args.output == "json":
        import json

        for name, line in shown:
            status = _status(line, now)
            end = {"running": now, "finished": line.finished_at}.get(status)
            document = {
                "id": line.id,
                "kind": line.kind,
                "replica": name,
                "started_at": line.started_at,
                "finished_at": line.finished_at,
                "seconds": None if end is None else end - (line.started_at or 0.0),
                "status": status,
                "reason": line.unreadable,
            }
            print(json.dumps(document))
    else:
        rows = [("ID", "KIND", "REPLICA", "STARTED", "FINISHED", "STATUS")]
        for name, line in shown:
            began, ended = ("-" if t is None else moment(t) for t in (line.started_at, line.finished_at))
            reason = f": {line.unreadable}" if line.unreadable else ""
            rows.append((line.id, line.kind or "-", name, began, ended, _status(line, now) + reason))
        cells = [[clean(cell, 200) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(jobs) > len(shown):
        say = complain if args.output == "json" else print
        say(f"and {len(jobs) - len(shown)} more (--limit 0 shows them all)")


class _Recording(threading.Thread):
    """Records a job beside the command that runs: its start at once, or as soon as the history can be written."""

    def __init__(self, args: argparse.Namespace) -> None:
        # A daemon: a history that hangs in the kernel must not keep this process from ending.
        super().__init__(daemon=True)
        self._args = args
        self._job = _new_id(args.kind)
        self._began = time.monotonic()
        self._over = threading.Event()
        self.problem = ""
        """Why the newest try failed."""
        self.recorded = False
        self.tried = threading.Event()
        try:
            self.start()
        except RuntimeError as error:
            self.problem = f"{error}: raise TasksMax= or ulimit -u"
            self.tried.set()

    def run(self) -> None:
        while not self._over.is_set():
            self.problem = self._add()
            self.recorded = not self.problem
            self.tried.set()
            if self.recorded or self._over.wait(RETRY_S):
                return

    def _add(self, ended: float | None = None) -> str:
        """A line of the job, with its end where it has one; times are this process's own. Returns why there is none."""
        try:
            with _opened(self._args) as history:
                if not self.tried.is_set():
                    with suppress(HistoryUnavailable):
                        _warn_of_mistakes(history, self._args)
                now, here = history.now(), time.monotonic()
                finished_at = None if ended is None else now - (here - ended)
                line = JobLine(now, self._job, self._args.kind, now - (here - self._began), finished_at)
                history.add_job(self._args.replica, line)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not pass for the command's own failure
            return str(error) if isinstance(error, HistoryUnavailable) else f"{type(error).__name__}: {error}"
        return ""

    def end(self) -> None:
        """Records the whole job, whether or not its start is recorded."""
        ended = time.monotonic()
        self._over.set()
        with suppress(RuntimeError):  # it could not be started
            self.join(self._args.timeout + START_WAIT_S)
        # A line may yet arrive. Writing now could put the end before the start, and the job would run for ever.
        if problem := "the history hangs" if self.is_alive() else self._add(ended):
            kind, what = self._args.kind, f"the end of job {self._job} is not recorded"
            complain(f"warning: {what if self.recorded else f'this {kind} is not recorded at all'}: {problem}")


def _run(args: argparse.Namespace, command: list[str]) -> int:
    """Runs `command` with both its ends recorded; returns its exit status as a shell would say it."""
    passed_on: set[int] = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else the command's exit status would be lost
    # Blocked, signals wait until the command is there to have them; the thread below inherits this.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, passed_on | {signal.SIGCHLD})
    try:
        recording = _Recording(args)
        recording.tried.wait(START_WAIT_S)
        if not recording.recorded:
            problem = recording.problem or f"the history has not answered within {START_WAIT_S:g} s"
            complain(
                f"warning: the start of this {args.kind} is not recorded yet, the command runs all the same: {problem}"
            )
        status = _run_command(command, passed_on, mask)
        recording.end()
    finally:
        while signal.sigtimedwait(passed_on | {signal.SIGCHLD}, 0):
            pass  # meant for the command, which is gone
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return status


def _run_command(command: list[str], passed_on: set[int], mask: set[int]) -> int:
    sys.stdout.flush()
    try:
        child = os.posix_spawnp(
            command[0],
            command,
            _environment(),
            setsigmask=mask,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these; the command must not
        )
    except OSError as error:
        complain(f"{command[0]} cannot be run: {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError | NotADirectoryError) else CANNOT_RUN
    while True:
        # Whoever calls this from a program with other threads may have SIGCHLD taken by one of them: ask anyway.
        received = signal.sigtimedwait(passed_on | {signal.SIGCHLD}, POLL_S)
        if received is None or received.si_signo == signal.SIGCHLD:
            gone, status = os.waitpid(child, os.WNOHANG)
            if gone:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif received.si_code <= 0:
            # Sent by a process. The terminal's own (Ctrl-C) have reached the command too, being in the same group.
            with suppress(ProcessLookupError):
                os.kill(child, received.si_signo)


def _environment() -> dict[str, str]:
    """The command's: as it is here, but without a password that is none of its business."""
    where = os.environ.get(LOCATION_VARIABLE, "")
    return {key: value for key, value in os.environ.items() if key != LOCATION_VARIABLE or not holds_password(where)}
