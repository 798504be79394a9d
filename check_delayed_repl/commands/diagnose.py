"""`delayed-repl diagnose`: one look for a person, the same judgement as the check's, explained."""

from __future__ import annotations

import argparse
import sys
import time

from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.diagnose.session import Session
from check_delayed_repl.diagnose.terminal import add_screen_options, knows_unicode, rendered
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.options import (
    SAMPLING,
    UsageError,
    add_config_option,
    add_connection_options,
    add_history_option,
    add_judging_options,
    duration,
    filled,
    limits_from,
    positive_duration,
    replica_name,
)

HELP = "look now, and explain: what is wrong, what is protected, and what to do next"

OWN_SAMPLING = 30.0
"""Seconds of looking where no history tells which way the line goes."""
PLOTS = (".png", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_option(parser, parser.add_argument_group("the configuration file"), "one")
    add_connection_options(parser)
    add_judging_options(parser)
    group = parser.add_argument_group("what to look at")
    add_history_option(group)
    SAMPLING.add_to(group)
    group.add_argument(
        "--no-look", action="store_true", help="do not connect to the replica: explain what the history has"
    )
    group.add_argument(
        "--for",
        dest="looking",
        type=duration,
        metavar="TIME",
        help="look again and again for so long (default: until it is clear which way the line goes, which is at once"
        " where the history tells, else for 30s); what is seen is kept nowhere",
    )
    group.add_argument(
        "--interval", type=positive_duration, default=1.0, metavar="TIME", help="how often, with --for (default 1s)"
    )
    group.add_argument(
        "--since", type=positive_duration, metavar="TIME", help="draw so much of the history (default: the window)"
    )
    group = parser.add_argument_group("how to show it (times are local; TZ=UTC before the command makes them UTC)")
    group.add_argument(
        "--output", choices=("text", "json"), default="text", metavar="FORMAT", help="text (default) or json"
    )
    group.add_argument(
        "--plot", type=filled, metavar="FILE", help="draw the line into a .png or .svg too; needs matplotlib"
    )
    add_screen_options(group)
    group.add_argument(
        "--exit-code",
        action="store_true",
        help="exit as the check would (0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN) instead of 0 for any judgement",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the diagnosis: 0; 1 where nothing could be judged, or the drawing could not be made."""
    limits = limits_from(args)
    replica = replica_name(args)
    _check(args)
    window = limits.window if args.since is None else max(args.since, limits.window)
    session = Session(args, limits, replica, args.sampling == "worker", window)
    try:
        session.open()
        if not args.no_look:
            _look(session, args)
        elif not session.sampled:
            return _fail(session.trouble or f"the history has nothing of {replica}, and --no-look forbids to look")
        now = session.now()
        picture = session.picture(None if args.since is None else now - args.since)
    finally:
        session.close()
    status = 0
    if args.plot:
        status = _plot(picture, args.plot)
    _show(picture, args)
    if args.exit_code:
        return int(picture.verdict.state)
    return 1 if picture.verdict.state == State.UNKNOWN else status


def _check(args: argparse.Namespace) -> None:
    if args.no_look and args.looking is not None:
        raise UsageError("--for: there is nothing to look at with --no-look")
    if args.plot and not args.plot.lower().endswith(PLOTS):
        raise UsageError(f"--plot: {args.plot!r} ends neither in .png nor in .svg")


def _look(session: Session, args: argparse.Namespace) -> None:
    """Looks once, or for as long as it takes; Ctrl-C ends it early."""
    start = time.monotonic()
    progress = _Progress()
    try:
        progress.show("looking")
        sample = session.look_and_add()
        end = OWN_SAMPLING if args.looking is None else args.looking
        turn = 1
        while turn * args.interval <= end + 1e-9:
            # Where nobody said for how long: a first look that fails, or a history that tells the rest, is enough.
            failed = session.own == 1 and sample.error is not None
            if args.looking is None and (failed or (session.sampled and session.has_slope)):
                break
            _wait(start + turn * args.interval, start, end, progress)
            sample = session.look_and_add()
            # A look that took long leaves out those that would have been meanwhile.
            turn = max(turn + 1, int((time.monotonic() - start) / args.interval) + 1)
    except KeyboardInterrupt:
        if not session.own:
            raise
    finally:
        progress.clear()


def _wait(until: float, start: float, end: float, progress: _Progress) -> None:
    while (left := until - time.monotonic()) > 0:
        progress.show(f"looking: {time.monotonic() - start:.0f} of {end:.0f} s (Ctrl-C ends it early)")
        time.sleep(min(left, 0.5))


class _Progress:
    """A line that says what goes on, where somebody is there to see it."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        if self._on:
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text)

    def clear(self) -> None:
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)


def _show(picture: Diagnosis, args: argparse.Namespace) -> None:
    if args.output == "json":
        from check_delayed_repl.diagnose import document as diagnosis

        print(diagnosis.render(picture), end="")
        return
    from check_delayed_repl.diagnose.text import Pen, screen

    print(rendered(screen(picture, Pen(unicode=knows_unicode(args))), args), end="")


def _plot(picture: Diagnosis, file: str) -> int:
    from check_delayed_repl.diagnose import plot

    try:
        plot.draw(picture, file)
    except plot.Missing as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"--plot: {file}: {error.strerror or error}")
    return 0


def _fail(text: str) -> int:
    from check_delayed_repl.words import clean

    print(f"delayed-repl: {clean(text)}", file=sys.stderr)
    return 1
