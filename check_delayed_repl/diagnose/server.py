"""Asks a replica what it is, so that the statements proposed for it are in its own words."""

from __future__ import annotations

from check_delayed_repl.diagnose.dialect import Dialect
from check_delayed_repl.observe.connection import Answer, Refused, SampleFailed, ask, connect, settings
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.observe.replication import read_status
from check_delayed_repl.observe.target import Target


def dialect_of(target: Target, budget: float, deadline: float) -> Dialect | None:
    """Its version, and the channel that is looked at; None where it does not say by `deadline`, a time.monotonic().

    `budget` is how many seconds there are until then.
    """
    try:
        found = settings(target)
        connection = connect(target, deadline, raw=True)
    except (OptionFileError, SampleFailed):
        return None

    def asking(sql: str, purpose: str) -> Answer:
        return ask(connection, sql, purpose, found.where, budget, found.password)

    channel = target.channel or ""
    try:
        # A proxy greets with a version of its own.
        version = (asking("SELECT VERSION()", "asking for its version").rows[0][0] or b"").decode("utf-8", "replace")
        try:
            status, _ = read_status(asking, version, target.channel, secret=found.password)
        except (SampleFailed, Refused):
            return Dialect(version, channel)
        return Dialect(version, status.channel)
    except (SampleFailed, Refused, IndexError):
        return None
    finally:
        connection.close()
