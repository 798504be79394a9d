"""The operator's face: `delayed-repl COMMAND`. Each command is a module of its own, imported when it is called.

Such a module has `HELP`, one line; `add_arguments(parser)`; and `run(args)`, which returns the exit status: 0, 1 on
failure, 3 on wrong usage, or what a command that it ran returned.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType

from check_delayed_repl.arguments import HELP_WIDTH, Parser, UsageError, did_you_mean
from check_delayed_repl.commands import PROG, CommandFailed, complain
from check_delayed_repl.config import parsed
from check_delayed_repl.history import HistoryUnavailable

COMMANDS = (
    *("worker", "job", "history", "backtest", "diagnose", "watch"),
    *("status", "explain", "init", "grants", "rescue"),
)
"""In the order of the help."""

FAILURE = 1
USAGE = 3

DESCRIPTION = """\
Looks after intentionally delayed replicas, beside check_delayed_repl: takes samples, records
planned jobs, keeps the history, explains what is wrong and says which privileges are needed."""

EPILOG = f"{PROG} COMMAND --help explains a command. Exit status: 0, 1 on failure, 3 on wrong usage."


def main() -> None:
    _occupy_descriptors()
    status = run(sys.argv[1:])
    try:
        print(end="", flush=True)
    except OSError as error:
        # A reader that went away (`| head`) need not be told.
        if not isinstance(error, BrokenPipeError) and status == 0:
            complain(f"cannot write the output: {error.strerror}")
        status = status or FAILURE
        # The interpreter would flush again while it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _occupy_descriptors() -> None:
    """Keeps files that are opened later from becoming standard streams that were closed. Writing to such a standard
    output fails as it did; standard error says nothing."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def run(argv: Sequence[str]) -> int:
    """Runs one command and returns the exit status; errors go to standard error, one line each."""
    arguments = list(argv)
    debug = arguments[:1] == ["--debug"]
    try:
        return _run(arguments[1:] if debug else arguments)
    except SystemExit:  # --help or --version
        return 0
    except UsageError as error:
        complain(str(error))
        return USAGE
    except (HistoryUnavailable, CommandFailed) as error:
        complain(str(error))
    except BrokenPipeError:
        pass
    except KeyboardInterrupt:
        complain("interrupted")
    except OSError as error:
        if debug:
            raise
        complain(f"{error.filename or 'cannot write the output'}: {error.strerror or error}")
    except Exception as error:
        if debug:
            raise
        text = "" if isinstance(error, UnicodeError) else f": {error}"
        complain(f"internal error, {type(error).__name__}{text} ({PROG} --debug COMMAND shows where)")
    return FAILURE


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        top_parser().parse_args(arguments)
        raise UsageError(f"which command? One of {', '.join(COMMANDS)} (see --help)")
    name = arguments[0]
    if name not in COMMANDS:
        raise UsageError(f"{name!r}: no such command{did_you_mean(name, COMMANDS)}")
    parser, command = command_parser(name)
    args = parsed(parser, arguments[1:])
    for note in args.notes:
        complain(f"warning: {note}")
    status: int = command.run(args)
    return status


def top_parser() -> Parser:
    """For --help and --version: lists the commands, each in its own module's words."""
    from textwrap import fill

    entries = [(f"  {name:<12}", _load(name).HELP) for name in COMMANDS]
    lines = [fill(text, HELP_WIDTH, initial_indent=start, subsequent_indent=" " * 14) for start, text in entries]
    description = "\n".join([DESCRIPTION, "", "commands:", *lines])
    parser = Parser(
        PROG, "%(prog)s [--debug] COMMAND [options]", add_help=False, description=description, epilog=EPILOG
    )
    group = parser.add_argument_group("options")
    group.add_argument("--debug", action="store_true", help="show where an internal error happened")
    parser.add_help_options(group)
    return parser


def command_parser(name: str) -> tuple[Parser, ModuleType]:
    command = _load(name)
    parser = Parser(f"{PROG} {name}", description=command.HELP)
    command.add_arguments(parser)
    return parser, command


def _load(name: str) -> ModuleType:
    # Not at the top: each command brings imports of its own.
    from importlib import import_module

    return import_module(f"check_delayed_repl.commands.{name}")


if __name__ == "__main__":
    main()
