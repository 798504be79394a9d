"""The Nagios and Icinga face: options → observe → remember → judge → report → exit code. Wiring only.

Whatever happens, one run prints one status line on standard output and ends within --timeout.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import allocate_lock, start_new_thread
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from check_delayed_repl import options
from check_delayed_repl.arguments import Parser, UsageError
from check_delayed_repl.config import parsed
from check_delayed_repl.judge.outcome import Finding, State, Verdict
from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.limits import Limits
from check_delayed_repl.words import plain

if TYPE_CHECKING:
    from typing import NoReturn

DESCRIPTION = """\
Monitors an intentionally delayed MySQL or MariaDB replica: that the delay is within its limits
and stays so, that heartbeats arrive, that both threads run, and that planned jobs (backups) and
the recovery after them keep within their limits."""

EPILOG = """\
Exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (wrong usage or an internal error).

The first line names what matters most and the option that sets the limit. The lines after it
give every finding as [STATE condition], the trend, the jobs, and for how long each has held an
alarm back."""

VERBOSE_HELP = "-v adds the limits in force, -vv the raw observation, -vvv a traceback of an internal error"

PRUNE_EVERY = 3600.0
"""An inline check deletes old samples at its first sample in every such period, in seconds."""
PRUNE_AT_MOST = 10_000
"""Lines that it deletes at a time."""
GRACE = 0.3
"""Seconds past --timeout after which the watchdog ends a run that hangs where no deadline reaches, such as a disk."""
RESERVE = 1.0
"""Seconds of --timeout, or a tenth of it where that is less, that taking a sample leaves for storing and judging it."""


def build_parser() -> Parser:
    parser = Parser(
        "check_delayed_repl", "%(prog)s -H HOST [options]", add_help=False, description=DESCRIPTION, epilog=EPILOG
    )
    options.add_config_option(parser, parser.add_argument_group("the configuration file"), "one")
    options.add_connection_options(parser)
    options.add_judging_options(parser)
    group = parser.add_argument_group("history and output")
    options.add_options(group, options.HISTORY, options.SAMPLING, options.KEEP, options.OUTPUT)
    group.add_argument("-v", "--verbose", action="count", default=0, help=VERBOSE_HELP)
    parser.add_help_options(group)
    return parser


def main() -> NoReturn:
    """The command. Ends the process at once: no thread that still waits for a server may keep it alive."""
    os._exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """One check: prints to standard output and returns the exit code. Raises nothing."""
    started = time.monotonic()
    try:
        args = parsed(build_parser(), argv)
        limits = options.limits_from(args)
        if args.sampling != "worker":
            options.check_keep(args.keep, limits)
        replica = options.replica_name(args)
        return _check(args, limits, replica, started + args.timeout)
    except SystemExit:  # --help or --version
        return _print("", State.UNKNOWN)
    except UsageError as error:
        from check_delayed_repl.report.nagios import render_line

        return _print(render_line(State.UNKNOWN, str(error)), State.UNKNOWN)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - nothing may go unsaid
        # In the installation or in printing itself: those of a check are dealt with there.
        reason = error.msg if isinstance(error, ImportError) else type(error).__name__
        return _print(f"DELAYED_REPL UNKNOWN - Internal error: {reason}\n", State.UNKNOWN)


def _check(args: Namespace, limits: Limits, replica: str, deadline: float) -> int:
    """From valid arguments to the printed verdict and its exit code."""
    render = _renderer(args, limits, replica)
    watchdog = _Watchdog(args.timeout, deadline, render)
    trace = ""
    try:
        if args.sampling == "worker":
            verdict = _judge_worker(args, limits, replica, deadline, watchdog)
        else:
            verdict = _sample_and_judge(args, limits, replica, deadline, watchdog)
        output = render(verdict)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - nothing may go unsaid
        verdict = _unjudged(State.UNKNOWN, "internal-error", _describe(error, args.password))
        output = render(verdict)
        if args.output != "json":
            output = output.partition("\n")[0] + "\n"
            if args.verbose >= 3:
                trace = _trace(error, args.password)
    watchdog.call_off()
    return _print(output + trace, verdict.state)


def _renderer(args: Namespace, limits: Limits, replica: str) -> Callable[[Verdict], str]:
    if args.output == "json":
        from check_delayed_repl.report import document

        return lambda verdict: document.render(verdict, limits, replica, args.config, args.notes)
    from check_delayed_repl.report import nagios

    def render(verdict: Verdict) -> str:
        more = [f"note: {note}" for note in args.notes]
        if args.verbose and args.config:
            more.append(f"configuration file: {args.config}")
        return nagios.render(verdict, limits, args.verbose, more)

    return render


def _judge_worker(args: Namespace, limits: Limits, replica: str, deadline: float, watchdog: _Watchdog) -> Verdict:
    """The verdict on the worker's samples."""
    from check_delayed_repl.history import HistoryUnavailable, open_history
    from check_delayed_repl.history.folding import judged

    watchdog.doing = "reading the history"
    try:
        with open_history(args.history, deadline) as history:
            args.notes += history.warnings
            return judged(history, replica, limits, worker=True)
    except HistoryUnavailable as error:
        return _unjudged(State.CRITICAL, "history-unavailable", str(error))


def _sample_and_judge(args: Namespace, limits: Limits, replica: str, deadline: float, watchdog: _Watchdog) -> Verdict:
    """One sample, added to the history, and the verdict on the whole.

    A history that fails does not keep the check from taking a sample, as long as there is time: who is called at night
    wants to know of both.
    """
    from check_delayed_repl.history import HistoryUnavailable, open_history
    from check_delayed_repl.history.folding import judged
    from check_delayed_repl.judge.findings import worst_first
    from check_delayed_repl.judge.fold import judge
    from check_delayed_repl.observe.sample import Observer

    sample_deadline = deadline - min(RESERVE, args.timeout / 10)
    trouble = ""
    previous = last_t = None
    with ExitStack() as closing:
        watchdog.doing = "opening the history"
        try:
            history = closing.enter_context(open_history(args.history, deadline))
            args.notes += history.warnings
            previous = history.newest_sample(replica)
            last_t = history.newest_sample_t(replica)
        except HistoryUnavailable as error:
            trouble = str(error)
            if time.monotonic() >= sample_deadline:
                return _unjudged(State.CRITICAL, "history-unavailable", trouble)

        watchdog.doing = "taking a sample"
        observer = Observer(options.target_from(args))
        sample = observer.sample(sample_deadline, previous)
        observer.close()

        try:
            if not trouble:
                watchdog.doing = "writing the history"
                sample = history.add_sample(replica, sample)
                watchdog.doing = "judging the history"
                verdict = judged(history, replica, limits)
                if last_t is None or last_t // PRUNE_EVERY != sample.t // PRUNE_EVERY:
                    from check_delayed_repl.history.pruning import prune_meanwhile

                    watchdog.doing = "pruning the history"
                    refused = prune_meanwhile(history, args.keep, PRUNE_AT_MOST, replica)
                    args.notes += [refused] if refused else []
                return verdict
        except HistoryUnavailable as error:
            trouble = str(error)
    # What one sample tells without any history, beside the finding that there is none.
    alone = judge([sample], limits, sample.t)
    unavailable = Finding(State.CRITICAL, "history-unavailable", trouble)
    return Verdict(alone.at, worst_first([unavailable, *alone.findings]), alone.trend, alone.sample)


def _unjudged(state: State, condition: str, message: str) -> Verdict:
    """A verdict where nothing could be judged: one finding, and every number unknown."""
    finding = Finding(state, condition, message)
    return Verdict(time.time(), (finding,))


class _Watchdog:
    """Ends the process with CRITICAL where the check hangs past every deadline. `doing` says what it hangs in.

    A thread, because a signal's handler would wait for the call that hangs; a bare one, because the threading module
    would be one more to import.
    """

    def __init__(self, timeout: float, deadline: float, render: Callable[[Verdict], str]) -> None:
        self.doing = "starting"
        self._ending = allocate_lock()
        with suppress(RuntimeError):  # no thread is left: a check without a watchdog says more than none
            start_new_thread(self._watch, (timeout, deadline, render))

    def call_off(self) -> None:
        """From here on the check prints its verdict itself."""
        self._ending.acquire()

    def _watch(self, timeout: float, deadline: float, render: Callable[[Verdict], str]) -> None:
        time.sleep(max(0.0, deadline + GRACE - time.monotonic()))
        self._ending.acquire()
        message = f"No answer within {plain(timeout)} seconds (--timeout): the check hangs while {self.doing}"
        verdict = _unjudged(State.CRITICAL, "timeout", message)
        os._exit(_print(render(verdict), verdict.state))


def _describe(error: BaseException, password: str | None) -> str:
    """An unforeseen error in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted"
    # The text of a UnicodeError quotes what could not be encoded, which may be part of a password.
    text = "" if isinstance(error, UnicodeError) else str(error)
    return _without(password, f"Internal error, {type(error).__name__}: {text} (-vvv shows where)")


def _trace(error: BaseException, password: str | None) -> str:
    from traceback import format_exception

    from check_delayed_repl.words import clean

    lines = "".join(format_exception(error)).splitlines()
    return "".join(f"{clean(_without(password, line))}\n" for line in lines)


def _without(password: str | None, text: str) -> str:
    return text.replace(password, "***") if password else text


def _print(text: str, state: State) -> int:
    """Prints, and returns the exit code: the state's, or UNKNOWN's where an OK could not be printed."""
    try:
        stream = sys.stdout
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except (OSError, ValueError, AttributeError):
        return int(state or State.UNKNOWN)
    return int(state)
