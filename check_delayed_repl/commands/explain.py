"""`delayed-repl explain`: what a condition means and what to do, without any server."""

from __future__ import annotations

import argparse
from textwrap import fill

from check_delayed_repl.arguments import UsageError, did_you_mean
from check_delayed_repl.conditions import BESIDE, CONDITIONS, FAULT, HARD, HOLDABLE, LINE, MEANINGS, Condition, find

HELP = "what a condition means and what to do about it, without asking a server"

_STATES = {
    HARD: "CRITICAL, whatever else is going on",
    HOLDABLE: "CRITICAL; WARNING while a job is active and its time limit lasts",
    LINE: "WARNING",
    BESIDE: "WARNING",
    FAULT: "UNKNOWN",
}
WIDTH = 72
"""Columns: a man page has the same text, indented."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [CONDITION] [options]"
    parser.add_argument(
        "condition", nargs="?", metavar="CONDITION", help="its name, as the check prints it; without it, all are listed"
    )


def run(args: argparse.Namespace) -> int:
    if args.condition is None:
        for condition in CONDITIONS:
            print(f"{condition.name:<26} {state(condition).partition(',')[0].partition(';')[0]:<9} {condition.title}")
        print("\ndelayed-repl explain CONDITION says what one means and what to do.")
        return 0
    found = find(args.condition)
    if found is None:
        known = [condition.name for condition in CONDITIONS]
        hint = did_you_mean(args.condition, known, ": delayed-repl explain lists them")
        raise UsageError(f"CONDITION: {args.condition!r} is none{hint}")
    print(f"{found.name}: {explained(found)}")
    print("\nFor a replica of yours: delayed-repl diagnose. The time limits: man check_delayed_repl.")
    return 0


def explained(condition: Condition) -> str:
    """What it means, and what to do about it on any replica."""
    from check_delayed_repl.diagnose.advice import general_steps

    meaning = fill(MEANINGS[condition.name], WIDTH, break_on_hyphens=False)
    lines = [condition.title, f"State: {state(condition)}", "", meaning]
    steps = general_steps(condition.name)
    if steps:
        lines += ["", "What to do:"]
    for number, (text, commands, _) in enumerate(steps, 1):
        start = f"{number:>3}. "
        lines.append(fill(text, WIDTH, initial_indent=start, subsequent_indent="     ", break_on_hyphens=False))
        lines += [f"       {command}" for command in commands]
    return "\n".join(lines)


def state(condition: Condition) -> str:
    """The state that it puts the service into, in words."""
    return condition.state or _STATES[condition.kind]
