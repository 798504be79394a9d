"""The commands of delayed-repl, one a file, and how all of them say what is wrong."""

from __future__ import annotations

import sys
from contextlib import suppress

from check_delayed_repl.words import clean

PROG = "delayed-repl"


class CommandFailed(Exception):
    """A command cannot do what it was called for: exit status 1. The message is one line."""


def complain(text: str) -> None:
    """One line on standard error, if anybody reads it."""
    with suppress(OSError, ValueError):
        print(f"{PROG}: {clean(text)}", file=sys.stderr, flush=True)
