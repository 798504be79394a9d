"""`delayed-repl rescue`: stops in time, finds the mistake in what waits, applies all before it, and stops there."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from check_delayed_repl.arguments import UsageError, duration, filled, whole
from check_delayed_repl.options import HISTORY, add_config_option, add_connection_options
from check_delayed_repl.rescue.statements import KINDS

HELP = "get lost data back: freeze, find the mistake, forward to just before it, resume"

_GTID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?::[a-zA-Z_]\w{0,31})?:\d{1,19}|\d+-\d+-\d+")
_PLACE = re.compile(r"[^\s:'\"/\\]{1,200}\.\d+:\d{1,19}")

ACTIONS = {
    "ready": "say whether a rescue would work here now; changes nothing",
    "freeze": "stop applying at once, without a question",
    "find": "show what waits, the most destructive changes first; changes nothing",
    "forward": "apply everything before a target, and stop in front of it",
    "resume": "let replication go on with the delay that there was",
    "status": "say where a rescue stands, and the one safe next step; changes nothing",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s ACTION [options]"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    for name, about in ACTIONS.items():
        usage = "%(prog)s [TARGET] [options]" if name == "forward" else None
        one = actions.add_parser(name, help=about, usage=usage, description=f"{about[0].upper()}{about[1:]}.")
        _ADDERS[name](one)
        group = one.add_argument_group("output and records")
        HISTORY.add_to(group)
        group.add_argument(
            "--state", type=filled, metavar="DIR", help="where the record of a rescue is (default: beside the history)"
        )
        group.add_argument(
            "--output", choices=("text", "json"), default="text", metavar="FORMAT", help="text (default) or json"
        )
        add_config_option(one, one.add_argument_group("the configuration file"), "rescue")
        add_connection_options(one)


def _add_ready(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the source, to see whether it still has its binary logs")
    for name, metavar in (("host", "HOST"), ("socket", "FILE"), ("user", "USER"), ("password", "PASSWORD")):
        group.add_argument(f"--source-{name}", type=filled, metavar=metavar)
    group.add_argument("--source-port", type=lambda value: whole(value, 1, 65535, "a port"), metavar="PORT")
    group.add_argument("--source-defaults-file", type=filled, metavar="FILE")


def _add_freeze(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to do")
    group.add_argument("--dry-run", action="store_true", help="show the statements, and change nothing")
    group.add_argument("--keep", action="store_true", help="stop again every second until interrupted")
    group.add_argument(
        "--let-finish", action="store_true", help="let the transaction that is being applied finish (MySQL)"
    )
    # What is wrong with these must not keep anybody from stopping.
    about = "say whether changes of this table still wait; repeatable"
    group.add_argument(
        "--table", action="append", dest="tables", type=_or_unclear(_table), metavar="DB.TABLE", help=about
    )
    about = "say whether what came at this time still waits"
    group.add_argument("--before", type=_or_unclear(moment), metavar="TIME", help=about)


def _add_find(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to show")
    _add_table(group, "changes of this table (DB.* for all of a database); repeatable")
    group.add_argument("--kind", action="append", choices=KINDS, metavar="KIND", help=f"{', '.join(KINDS)}; repeatable")
    group.add_argument("--since", type=moment, metavar="TIME", help="of this time or later")
    group.add_argument("--until", type=moment, metavar="TIME", help="of this time or earlier")
    group.add_argument(
        "--limit",
        type=lambda value: whole(value, 0, 10**9, "a number of transactions"),
        default=20,
        metavar="N",
        help="at most so many (default 20; 0: all)",
    )
    group.add_argument("--all", action="store_true", help="harmless ones too")


def _add_forward(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", nargs="?", type=_target, metavar="TARGET", help="a GTID or FILE:POS, as find prints it"
    )
    group = parser.add_argument_group("what to do")
    group.add_argument(
        "--before", type=moment, metavar="TIME", help="in place of TARGET: the first change of this time"
    )
    group.add_argument("--execute", action="store_true", help="do it (default: show the plan)")
    _add_table(group, "a table to bring back: says how to dump it; repeatable")
    group.add_argument("--verify", action="store_true", help="COUNT and CHECKSUM TABLE of each --table afterwards")


def _add_resume(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to do")
    group.add_argument("--execute", action="store_true", help="do it (default: show the plan)")
    group.add_argument("--delay", type=duration, metavar="TIME", help="the delay to set (default: what it was)")


def _add_status(parser: argparse.ArgumentParser) -> None:
    _add_table(parser.add_argument_group("what to show"), "a table to bring back: says how to dump it; repeatable")


_ADDERS = {
    "ready": _add_ready,
    "freeze": _add_freeze,
    "find": _add_find,
    "forward": _add_forward,
    "resume": _add_resume,
    "status": _add_status,
}


def _add_table(group: argparse._ArgumentGroup, about: str) -> None:
    group.add_argument("--table", action="append", dest="tables", type=_table, metavar="DB.TABLE", help=about)


class Unclear(str):
    """Why an option's value cannot be read."""

    __slots__ = ()


def _or_unclear(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """The option's type, with Unclear in the place of an error."""

    def read(text: str) -> Any:
        try:
            return kind(text)
        except argparse.ArgumentTypeError as error:
            return Unclear(error)

    return read


def _table(text: str) -> str:
    """`DB.TABLE` or `DB.*`: whatever a server takes for a name, as it stands."""
    database, _, name = text.partition(".")
    if not (0 < len(database) <= 64 and 0 < len(name) <= 64 and "\0" not in text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form DB.TABLE")
    return text


def _target(text: str) -> str:
    if _GTID.fullmatch(text) or _PLACE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} can be no target: give a GTID or FILE:POS, as rescue find prints it")


def moment(text: str) -> float:
    """Seconds since 1970, from these or from `2026-11-23 10:41:05`, in UTC unless a zone is named."""
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text, re.ASCII):
        return float(text)
    if re.fullmatch(r"\d\d?:\d\d(:\d\d(\.\d+)?)?", text, re.ASCII):
        # A time of day alone: the last time that it was.
        now = datetime.now(UTC)
        text = f"{now.date()}T{text.zfill(5) if len(text) < 6 else text}"
        with contextlib.suppress(ValueError):
            found = datetime.fromisoformat(text).replace(tzinfo=UTC)
            return (found if found <= now else found - timedelta(days=1)).timestamp()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: give seconds since 1970, or 2026-11-23T10:41:05 (UTC, or with +01:00 behind it)"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def run(args: argparse.Namespace) -> int:
    """Runs the action: 0 done or planned, 1 refused or failed."""
    if args.action == "freeze":
        from check_delayed_repl.rescue.freeze import Freeze

        asked = [*(args.tables or ()), args.before]
        args.unclear = [str(value) for value in asked if isinstance(value, Unclear)]
        args.tables = [name for name in args.tables or () if not isinstance(name, Unclear)]
        args.before = None if isinstance(args.before, Unclear) else args.before
        return Freeze(args, state_folder(args)).run()
    from check_delayed_repl.rescue.actions import Rescue

    if args.action == "forward" and (args.target is None) == (args.before is None):
        raise UsageError("TARGET: which one? Give a GTID, FILE:POS or --before TIME")
    if args.action == "forward" and args.verify and not args.tables:
        raise UsageError("--verify: of which table? Name it with --table")
    return Rescue(args, state_folder(args)).run()


def state_folder(args: argparse.Namespace) -> str:
    """Where records are: --state, else `rescue` beside the history's default file."""
    if args.state:
        return os.path.abspath(str(args.state))
    from check_delayed_repl.history import default_file
    from check_delayed_repl.rescue.record import FOLDER

    return os.path.join(os.path.dirname(default_file()), FOLDER)
