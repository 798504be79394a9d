"""`delayed-repl explain`: what a condition means and what to do, without any server; and the man page of the same."""

from __future__ import annotations

import argparse
from textwrap import fill

from check_delayed_repl import __version__
from check_delayed_repl.conditions import BESIDE, CONDITIONS, FAULT, HARD, HOLDABLE, Condition, find
from check_delayed_repl.options import HELP_WIDTH, UsageError, did_you_mean

HELP = "what a condition means and what to do about it, without asking a server"

SPELT = {"active": "active-KIND", "recovery-window": "KIND-recovery-window"}
"""Conditions that have a kind of job in their names."""
_CRITICAL_LINES = ("recovery-exceeded", "line-drained", "delay-out-of-bounds")
_STATES = {
    HARD: "CRITICAL, whatever else is going on",
    HOLDABLE: "CRITICAL; WARNING while a job is active and its time limit lasts",
    BESIDE: "WARNING",
    FAULT: "UNKNOWN",
}
_WORSE = {
    "replication-filtered": "WARNING; CRITICAL where an earlier sample was without the filter",
    "relay-space-limited": "WARNING; CRITICAL after --max-master-behind",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [CONDITION] [options]"
    parser.add_argument(
        "condition", nargs="?", metavar="CONDITION", help="its name, as the check prints it; without it, all are listed"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the explanation, or the list: 0."""
    if args.condition is None:
        for condition in CONDITIONS:
            print(f"{spelt(condition):<26} {state(condition).partition(',')[0].partition(';')[0]:<9} {condition.title}")
        print("\ndelayed-repl explain CONDITION says what one means and what to do.")
        return 0
    found = find(args.condition)
    if found is None:
        known = [spelt(condition) for condition in CONDITIONS]
        hint = did_you_mean(args.condition, known, ": delayed-repl explain lists them")
        raise UsageError(f"CONDITION: {args.condition!r} is none{hint}")
    print(f"{spelt(found)}: {found.title}\nState: {state(found)}\n\n{fill(found.meaning, HELP_WIDTH)}")
    from check_delayed_repl.diagnose.advice import general_steps

    steps = general_steps(found.name)
    if steps:
        print("\nWhat to do:")
    for number, (text, commands) in enumerate(steps, 1):
        print(fill(text, HELP_WIDTH, initial_indent=f"{number:>3}. ", subsequent_indent="     "))
        for command in commands:
            print(f"       {command}")
    print("\nFor a replica of yours: delayed-repl diagnose. The time limits: man check_delayed_repl.")
    return 0


def spelt(condition: Condition) -> str:
    return SPELT.get(condition.name, condition.name)


def state(condition: Condition) -> str:
    """The state that it puts the service into, in words."""
    if condition.name in _WORSE:
        return _WORSE[condition.name]
    if condition.kind in _STATES:
        return _STATES[condition.kind]
    return "OK" if condition.name == "in-range" else "CRITICAL" if condition.name in _CRITICAL_LINES else "WARNING"


def man_page() -> str:
    """delayed-repl-conditions(7)."""
    from check_delayed_repl.diagnose.advice import general_steps

    lines = [
        f'.TH DELAYED\\-REPL\\-CONDITIONS 7 "" "check_delayed_repl {__version__}" "check_delayed_repl"',
        ".SH NAME",
        "delayed\\-repl\\-conditions \\- what check_delayed_repl reports, and what to do",
        ".SH DESCRIPTION",
        "Of several findings that are equally bad, the first one of this list names the service's condition.",
        "\\fBdelayed\\-repl explain\\fR(1) shows the same.",
        ".SH CONDITIONS",
    ]
    for condition in CONDITIONS:
        lines += [
            f'.SS "{_roff(spelt(condition))}"',
            _roff(condition.title) + ".",
            f"State: {_roff(state(condition))}.",
        ]
        lines += [".PP", _roff(condition.meaning)]
        for text, commands in general_steps(condition.name):
            lines += [".IP \\(bu 2", _roff(text)]
            if commands:
                lines += [".nf", *map(_roff, commands), ".fi"]
    return "\n".join(
        [*lines, ".SH SEE ALSO", "\\fBcheck_delayed_repl\\fR(1), \\fBdelayed\\-repl\\-diagnose\\fR(1)", ""]
    )


def _roff(text: str) -> str:
    """Text that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text
