"""The commands' arguments with the configuration file's values among them. What the file holds: `configfile`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from check_delayed_repl.arguments import Parser, UsageError
from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.options import DEFAULTS

if TYPE_CHECKING:
    from check_delayed_repl.configfile import File, Replica, Table, Values

DEFAULT_FILE = "/etc/check_delayed_repl/config.toml"
VARIABLE = "CHECK_DELAYED_REPL_CONFIG"


def parsed(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with the configuration file's values in the place of what the command line does not give.

    Beside the parser's own, the result has `config`, the path of the file that was used, and `fleet`, its content (both
    None where there is none); `given`, what the command line gave, by field; and `notes`, one line each about what is
    not right but does not stop the command. A parser says by its default `picks` what it needs of the configuration
    file:

    - `one`: one replica's options; where there are several, --replica must name one
    - `rescue`: the same, with the rescuer's login
    - `any`: the history, and a replica's options where --replica names one of the file's
    - `name`: the history, and the replica's name where the file has one alone
    - `history`: the history alone
    - `many`: the history; `replicas` gives the rest

    Raises UsageError.
    """
    args = parser.parse_args(argv)
    given = {field: value for field, value in vars(args).items() if value is not None}
    args.fleet, args.given, args.notes = None, given, []
    for field, value in DEFAULTS.items():
        if getattr(args, field, value) is None:
            setattr(args, field, value)
    path = _path(args)
    if path is not None:
        try:
            _fill(args, path)
        except UsageError as error:
            # A backup is never stopped for the sake of its record.
            if getattr(args, "job_command", None) != "run":
                raise
            args.config = None
            args.notes.append(str(error))
    if getattr(args, "defaults_file", None) is not None:
        from check_delayed_repl.observe.optionfile import exposed

        args.notes += filter(None, [exposed(args.defaults_file)])
    return args


def reread(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of `parsed`, with the configuration file read again. Raises UsageError."""
    if args.fleet is None:
        raise UsageError("there is no configuration file to read again")
    again = argparse.Namespace(**vars(args))
    _fill(again, args.config)
    return again


def _path(args: argparse.Namespace) -> str | None:
    if not hasattr(args, "config"):
        return None
    path: str | None = args.config or os.environ.get(VARIABLE)
    if path:
        return path
    addressed = any(getattr(args, field, None) is not None for field in ("host", "socket", "defaults_file"))
    if addressed:
        return None
    try:
        os.stat(DEFAULT_FILE)
    except PermissionError:
        pass  # which is told where it is read
    except OSError:
        return None
    return DEFAULT_FILE


def _fill(args: argparse.Namespace, path: str) -> None:
    """Puts the file's values into the arguments, where the command line does not give them."""
    # Left to those who have a file.
    from check_delayed_repl.configfile import File, merged, read_toml

    given: Values = args.given
    document, found = read_toml(path, "--config" if "config" in given else "configuration file")
    file = File(path, document)
    shown = file.checked(found)
    if shown:
        # A worker's file that was named is read all the same where a password shows, as in the first release.
        if not ("config" in given and args.picks == "many"):
            raise UsageError(shown)
        args.notes.append(shown)
    args.config, args.fleet = path, file
    values: Values = {"history": file.history, "keep": file.keep}
    table = _picked(args, file)
    if table is not None:
        values["replica"] = args.replica or file.name(table)
    if args.picks in ("one", "rescue", "any"):
        values |= merged(file.defaults.values, {} if table is None else table.values, given)
    if args.picks == "rescue" and "rescue_defaults_file" in values:
        values |= dict.fromkeys({"user", "password"} - given.keys())
        values["defaults_file"] = given.get("defaults_file", values["rescue_defaults_file"])
    for field, value in values.items():
        # What only other commands have is none of this one's.
        if field not in given and hasattr(args, field) and value is not None:
            setattr(args, field, value)


def _picked(args: argparse.Namespace, file: File) -> Table | None:
    """The table of the replica that the command is about; None: none of the file's. Raises UsageError."""
    if args.picks in ("many", "history"):
        return None
    table = None
    if args.replica is not None:
        table = file.find(args.replica)
    elif len(file.tables) == 1:
        table = file.tables[0]
    if table is None and file.tables and args.picks in ("one", "rescue"):
        if args.replica is None:
            raise UsageError(f"--replica: which one? {file.path} has {', '.join(file.names())}")
        raise UsageError(f"--replica: no replica {args.replica!r}; {_known(args, file)}")
    return table


def _known(args: argparse.Namespace, file: File) -> str:
    """The names that somebody may have meant."""
    import time
    from contextlib import suppress

    from check_delayed_repl.history import HistoryUnavailable, open_existing

    known = f"{file.path} has {', '.join(file.names())}"
    where = args.history or file.history
    if where:
        with suppress(HistoryUnavailable), open_existing(where, time.monotonic() + min(args.timeout, 2.0)) as history:
            known += f"; the history has {', '.join(history.replicas()) or 'none yet'}"
    return known


def replicas(args: argparse.Namespace) -> list[Replica]:
    """Every replica that the arguments name: those of the file, or the one of the options. Raises UsageError.

    For a file with several replicas, connection options on the command line are defaults.
    """
    from check_delayed_repl.configfile import replica_from

    file: File | None = args.fleet
    if file is None:
        return [replica_from(args)]
    if len(file.tables) > 1:
        for field in ("host", "port", "socket", "channel", "replica"):
            if field in args.given:
                raise UsageError(f"--{field}: not together with the {len(file.tables)} replicas of {file.path}")
    return file.replicas(args.given)
