"""`delayed-repl rescue`: stops in time, finds the mistake in what waits, applies all before it, and stops there."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from check_delayed_repl.arguments import UsageError, count_of, moment, server_delay
from check_delayed_repl.options import (
    HISTORY,
    OUTPUT,
    SOURCE,
    Option,
    add_actions,
    add_config_option,
    add_connection_options,
    add_options,
)
from check_delayed_repl.rescue.statements import KINDS

HELP = "get lost data back: freeze, find the mistake, forward to just before it, resume"

ACTIONS = {
    "ready": "say whether a rescue would work here now; changes nothing",
    "freeze": "stop applying at once, without a question",
    "find": "show what waits, the most destructive changes first; changes nothing",
    "forward": "apply everything before a target, and stop in front of it",
    "resume": "let replication go on with the delay that there was",
    "status": "say where a rescue stands, and the one safe next step; changes nothing",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, one in zip(ACTIONS, add_actions(parser, "action", ACTIONS), strict=True):
        if name == "forward":
            one.usage = "%(prog)s [TARGET] [options]"
            target = "a GTID or FILE:POS, as find prints it"
            one.add_argument("target", nargs="?", type=_target, metavar="TARGET", help=target)
        add_options(one.add_argument_group(_TITLES.get(name, "what to do")), *_OPTIONS[name])
        add_options(one.add_argument_group("output and records"), HISTORY, _STATE, OUTPUT)
        add_config_option(one, one.add_argument_group("the configuration file"), "rescue")
        add_connection_options(one)


def _table(text: str) -> str:
    """`DB.TABLE` or `DB.*`: whatever a server takes for a name, as it stands."""
    database, _, name = text.partition(".")
    if not (0 < len(database) <= 64 and 0 < len(name) <= 64 and "\0" not in text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form DB.TABLE")
    return text


def _target(text: str) -> str:
    from check_delayed_repl.rescue.record import TARGET

    if re.match(TARGET, text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} can be no target: give a GTID or FILE:POS, as rescue find prints it")


def _tables(about: str, kind: Callable[[str], str] = _table) -> Option:
    return Option("--table", f"{about}; repeatable", "DB.TABLE", kind, "tables", repeatable=True)


_STATE = Option("--state", "where the record of a rescue is (default: beside the history)", "DIR")
_EXECUTE = Option("--execute", "do it (default: show the plan)", switch=True)
_BRING_BACK = _tables("a table to bring back: says how to dump it")
_OPTIONS = {
    "ready": SOURCE,
    "freeze": (
        Option("--dry-run", "show the statements, and change nothing", switch=True),
        Option("--keep", "stop again every second until interrupted", dest="stop_again", switch=True),
        Option("--let-finish", "let the transaction that is being applied finish (MySQL)", switch=True),
        # These are read once it has stopped: what is wrong with them must not keep anybody from stopping.
        _tables("say whether changes of this table still wait", str),
        Option("--before", "say whether what came at this time (UTC, or with +02:00) still waits", "TIME", str),
    ),
    "find": (
        _tables("changes of this table (DB.* for all of a database)"),
        Option("--kind", f"{', '.join(KINDS)}; repeatable", "KIND", choices=KINDS, repeatable=True),
        Option("--since", "of this time or later (UTC, or with +02:00)", "TIME", moment),
        Option("--until", "of this time or earlier", "TIME", moment),
        Option("--limit", "at most so many (default 20; 0: all)", "N", count_of("transactions", 0)),
        Option("--all", "harmless ones too", switch=True),
    ),
    "forward": (
        Option("--before", "in place of TARGET: the first change of this time (UTC, or with +02:00)", "TIME", moment),
        _EXECUTE,
        _BRING_BACK,
        Option("--verify", "COUNT and CHECKSUM TABLE of each --table afterwards", switch=True),
    ),
    # Not the delay that is meant, which a configuration file may say.
    "resume": (
        _EXECUTE,
        Option("--delay", "the delay to set (default: what it was)", "TIME", server_delay(0), "new_delay"),
    ),
    "status": (_BRING_BACK,),
}
_TITLES = {
    "ready": "the source, to see whether it still has its binary logs",
    "find": "what to show",
    "status": "what to show",
}


def run(args: argparse.Namespace) -> int:
    """Runs the action: 0 done or planned, 1 refused or failed."""
    if args.action == "freeze":
        from check_delayed_repl.rescue.freeze import Freeze

        read_questions(args)
        return Freeze(args).run()
    from check_delayed_repl.rescue.actions import Rescue

    if args.action == "forward" and (args.target is None) == (args.before is None):
        raise UsageError("TARGET: which one? Give a GTID, FILE:POS or --before TIME")
    if args.action == "forward" and args.verify and not args.tables:
        raise UsageError("--verify: of which table? Name it with --table")
    return Rescue(args).run()


def read_questions(args: argparse.Namespace) -> None:
    """Reads what a freeze is asked for; `unclear` says what is wrong with what cannot be read."""
    args.unclear = []

    def read(kind: Callable[[str], Any], text: str) -> Any:
        try:
            return kind(text)
        except argparse.ArgumentTypeError as error:
            args.unclear.append(str(error))

    args.tables = [name for text in args.tables or () if (name := read(_table, text))]
    args.before = None if args.before is None else read(moment, args.before)
