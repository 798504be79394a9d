"""`delayed-repl worker`: takes samples of replicas for ever, keeps them, and publishes the verdicts."""

from __future__ import annotations

import argparse
import queue
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from check_delayed_repl import options
from check_delayed_repl.arguments import UsageError, count_of
from check_delayed_repl.config import replicas, reread
from check_delayed_repl.configfile import Replica
from check_delayed_repl.history import HistoryUnavailable, open_history
from check_delayed_repl.options import Option
from check_delayed_repl.records import Sample
from check_delayed_repl.words import plural
from check_delayed_repl.worker.journal import log
from check_delayed_repl.worker.scheduler import STOP_S, Scheduler
from check_delayed_repl.worker.writer import Writer

if TYPE_CHECKING:
    from check_delayed_repl.publish.publisher import Publisher

HELP = "take samples of replicas again and again, keep them, and publish the verdicts"

CONFIG_HELP = """\
Options on the command line count for every replica of a --config file that the file does not
tell otherwise; where it has one replica alone, they take precedence.
SIGHUP reads the file again. The worker ends on SIGTERM or SIGINT. Under systemd, Type=notify
and WatchdogSec= may be used."""

_STACK_BYTES = 512 * 1024
_LEAST_FILES = 256


_CHECK = Option("--check", "check the configuration file and end", switch=True)
_COUNT = Option("--count", "end after N samples of each replica (default: never end)", "N", count_of("samples"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_connection_options(parser)
    group = parser.add_argument_group("the worker")
    options.add_config_option(parser, group, "many")
    options.add_options(group, _CHECK, options.HISTORY, options.INTERVAL, options.KEEP, _COUNT)
    parser.epilog = CONFIG_HELP


def run(args: argparse.Namespace) -> int:
    """Samples until it is told to stop: 0; 1 where samples were lost because the history could not be written."""
    sampled = _sampled(args)
    if args.check:
        return _checked(args, sampled)
    _allow_files(2 * len(sampled) + _LEAST_FILES)
    threading.stack_size(_STACK_BYTES)
    publisher = _publisher(args, sampled)
    writer = Writer(args.history, max(replica.timeout for replica in sampled), args.keep, publisher)
    scheduler = Scheduler(sampled, _newest(args, sampled), writer, args.count)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: scheduler.stop())
    wanted: queue.SimpleQueue[None] = queue.SimpleQueue()
    signal.signal(signal.SIGHUP, lambda *_: wanted.put(None))
    threading.Thread(target=_reload, args=(args, scheduler, publisher, wanted), daemon=True).start()
    if publisher is not None:
        publisher.start()
    try:
        return scheduler.run()
    finally:
        if publisher is not None:
            publisher.finish(STOP_S)


def _sampled(args: argparse.Namespace) -> list[Replica]:
    """The replicas to be sampled. Raises UsageError."""
    found = replicas(args)
    for replica in found:
        options.check_keep(args.keep, replica.limits)
    return found


def _checked(args: argparse.Namespace, sampled: list[Replica]) -> int:
    """Says that the file is right: 0. What is wrong with it has been said by then."""
    if args.fleet is None:
        raise UsageError("--check: there is no configuration file")
    from check_delayed_repl.publish.publisher import targets

    _named(args, sampled)
    try:
        targets(args.fleet.publish)
    except ValueError as error:
        raise UsageError(f"[publish]: {error}") from None
    print(f"{args.config}: right; {plural(len(sampled), 'replica')}: {', '.join(replica.name for replica in sampled)}")
    return 0


def _publisher(args: argparse.Namespace, sampled: list[Replica]) -> Publisher | None:
    """Who publishes the verdicts, where the configuration file says to. Raises UsageError."""
    settings = args.fleet.publish if args.fleet is not None else None
    if settings is None or not settings.wanted:
        return None
    # Left to those who publish.
    from check_delayed_repl.publish.publisher import Publisher

    try:
        return Publisher(args.history, _named(args, sampled), settings, log)
    except ValueError as error:
        raise UsageError(f"[publish]: {error}") from None


def _named(args: argparse.Namespace, sampled: list[Replica]) -> tuple[Replica, ...]:
    """The replicas with the names of their objects in the monitor. Raises UsageError."""
    from check_delayed_repl.publish.result import named

    try:
        return named(sampled, args.fleet.publish)
    except ValueError as error:
        raise UsageError(f"{args.config}: {error}") from None


def _reload(
    args: argparse.Namespace, scheduler: Scheduler, publisher: Publisher | None, wanted: queue.SimpleQueue[None]
) -> None:
    """Reads the configuration file again whenever that is `wanted`. A file that is wrong changes nothing."""
    while True:
        wanted.get()
        try:
            again = reread(args)
            sampled = _sampled(again)
            published = _named(again, sampled)
            _allow_files(2 * len(sampled) + _LEAST_FILES)
            scheduler.replace(sampled, _newest(args, sampled))
            if publisher is not None:
                publisher.replace(published)
            if changed := _only_at_the_start(args, again):
                log(f"{', '.join(changed)}: what has changed there takes effect with a restart")
        except UsageError as error:
            log(f"{error}; nothing is changed")
        except Exception as error:  # noqa: BLE001  the worker goes on as it is
            log(f"internal error, {type(error).__name__}: {error}; nothing is changed")


def _only_at_the_start(args: argparse.Namespace, again: argparse.Namespace) -> list[str]:
    """What the file says otherwise now, and is not taken over."""
    before, after = (each.fleet.publish._replace(object_host="", object_service="") for each in (args, again))
    changed = {key: getattr(args, key) != getattr(again, key) for key in ("history", "keep")}
    return [key for key, other in {**changed, "[publish]": before != after}.items() if other]


def _newest(args: argparse.Namespace, sampled: list[Replica]) -> dict[str, Sample | None]:
    """What the history knows of replicas that are to be sampled, if it can be read."""
    found: dict[str, Sample | None] = {}
    with suppress(HistoryUnavailable), open_history(args.history, time.monotonic() + args.timeout) as history:
        for replica in sampled:
            with suppress(HistoryUnavailable):  # a damaged sample says nothing of the others
                found[replica.name] = history.newest_sample(replica.name)
    return found


def _allow_files(wanted: int) -> None:
    """Every replica takes a connection: many more than a process may open by default."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < wanted:
        log(f"only {most} files may be open, {wanted} would be safe: raise LimitNOFILE= or ulimit -n")
