"""`delayed-repl diagnose`: the check's judgement, explained to a person, and what to do next."""

from __future__ import annotations

import argparse
import sys
import time

from check_delayed_repl import options
from check_delayed_repl.arguments import UsageError, duration, positive_duration
from check_delayed_repl.commands import CommandFailed, complain
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.diagnose.screen import console, joined
from check_delayed_repl.diagnose.session import Session
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.options import Option

HELP = "explain what is wrong, what is protected, and what to do next"

OWN_SAMPLING = 30.0
"""Seconds of sampling where no history tells which way the line goes."""
PLOTS = (".png", ".svg")


_SAMPLES = (
    Option(
        "--no-sample --no-look",
        "do not connect to the replica: explain what the history has, whoever took those samples",
        switch=True,
    ),
    Option(
        "--for",
        "how long to take samples (default: until it is clear which way the line goes, which is at once where the"
        " history tells, else 30s); they are kept nowhere",
        "TIME",
        duration,
        "sampling_time",
    ),
)
_SHOWING = (
    Option("--brief", "only the verdict, what to do now and what is protected", switch=True),
    options.OUTPUT,
    Option("--plot", "draw the line into this .png or .svg file too; needs matplotlib", "FILE"),
    Option(
        "--exit-code",
        "exit as the check would (0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN) instead of 0 for any judgement",
        switch=True,
    ),
)
_SINCE = Option("--since", "how much of the history to draw (default: the window)", "TIME", positive_duration)
_COLOR = Option(
    "--color",
    "auto: in a terminal that has colours, unless NO_COLOR is set (default); always; never",
    "WHEN",
    choices=("auto", "always", "never"),
)
_ASCII = Option("--ascii", "draw with ASCII characters only", switch=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared_options(parser, 1.0, _SAMPLES, _SHOWING)


def add_shared_options(
    parser: argparse.ArgumentParser, interval: float, samples: tuple[Option, ...], showing: tuple[Option, ...] = ()
) -> None:
    """Those of diagnose and watch alike, with more about samples and about how to show it."""
    options.add_config_option(parser, parser.add_argument_group("the configuration file"), "one")
    options.add_connection_options(parser)
    options.add_judging_options(parser)
    how_often = f"how often to take a sample (default {interval:g}s)"
    every = Option("--interval", how_often, "TIME", positive_duration)
    group = parser.add_argument_group("samples")
    options.add_options(group, options.HISTORY, options.SAMPLING, _SINCE, every, *samples)
    title = "how to show it (times are local; TZ=UTC before the command makes them UTC)"
    options.add_options(parser.add_argument_group(title), _COLOR, _ASCII, *showing)
    parser.set_defaults(interval=interval, color="auto")


def run(args: argparse.Namespace) -> int:
    """Prints the diagnosis: 0; 1 where nothing could be judged, or the drawing could not be made."""
    connects = not args.no_sample and args.sampling != "worker"
    if not connects and args.sampling_time is not None:
        raise UsageError("--for: no sample is taken with --no-sample or --sampling worker")
    if args.plot and not args.plot.lower().endswith(PLOTS):
        raise UsageError(f"--plot: {args.plot!r} ends neither in .png nor in .svg")
    with Session(args) as session:
        if connects:
            _sample(session, args)
        elif args.no_sample and not session.sampled:
            raise CommandFailed(
                session.trouble or f"the history has nothing of {session.replica}, and --no-sample takes no sample"
            )
        picture = session.picture()
    status = _plot(picture, args.plot) if args.plot else 0
    _show(picture, args)
    if args.exit_code:
        return int(picture.verdict.state)
    return 1 if picture.verdict.state == State.UNKNOWN else status


def _sample(session: Session, args: argparse.Namespace) -> None:
    """Takes one sample, or as many as it takes; Ctrl-C ends it early."""
    from rich.console import Console

    start = time.monotonic()
    end = OWN_SAMPLING if args.sampling_time is None else args.sampling_time
    # What goes on is shown where somebody is there to see it.
    with Console(stderr=True).status("taking a sample") as shown:
        try:
            for sample in session.each(args.interval):
                session.take(sample)
                passed = time.monotonic() - start
                if passed + args.interval > end + 0.1 or (args.sampling_time is None and _is_clear(session)):
                    return
                shown.update(f"taking samples: {passed:.0f} of {end:.0f} s (Ctrl-C ends it early)")
        except KeyboardInterrupt:
            if not session.own:
                raise


def _is_clear(session: Session) -> bool:
    """A first sample that fails, or what the history has, is enough."""
    if len(session.own) == 1 and session.samples[-1].error is not None:
        return True
    return session.sampled and session.fold.verdict(session.now()).trend.slope is not None


def _show(picture: Diagnosis, args: argparse.Namespace) -> None:
    if args.output == "json":
        from check_delayed_repl.diagnose import document as diagnosis

        print(diagnosis.render(picture), end="")
        return
    from check_delayed_repl.diagnose.text import Screen

    screen = Screen(picture)
    console(args.color).print(joined(screen.brief() if args.brief else screen.whole(), args.ascii), soft_wrap=True)


def _plot(picture: Diagnosis, file: str) -> int:
    from check_delayed_repl.diagnose import plot

    try:
        plot.draw(picture, file)
        return 0
    except ImportError:
        complain(f"--plot: matplotlib is not installed: {sys.executable} -m pip install matplotlib")
    except OSError as error:
        complain(f"--plot: {file}: {error.strerror or error}")
    return 1
