"""Why there is no sample: what a server refused, what ended a connection to it."""

from __future__ import annotations

from check_delayed_repl.words import MASK, one_line, span

MAX_TEXT = 400


class SampleFailed(Exception):
    """A sample that cannot go on. `condition` is a condition's name, `message` one line."""

    def __init__(self, condition: str, message: str) -> None:
        super().__init__(message)
        self.condition = condition
        self.message = message


class ConnectFailed(SampleFailed):
    """No connection, or none any more: `connect-failed`, `timeout` or `server-down`.

    Of kind `lost` where the other side went away in the middle: it may be about to stop, or may have closed an idle
    connection; `flood` where an answer was too large.
    """

    def __init__(self, condition: str, message: str, kind: str = "") -> None:
        super().__init__(condition, message)
        self.kind = kind


class Refused(Exception):
    """The server answered a statement with an error."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.number = number
        self.text = text
        """One line, free of control characters."""

    def __str__(self) -> str:
        return f"error {self.number}: {self.text}"


def scrubbed(text: str, secret: str) -> str:
    """Text from a server on one line, without anybody's password, ours first."""
    return one_line(text.replace(secret, MASK) if secret else text, MAX_TEXT)


def late(where: str, budget: float, purpose: str) -> ConnectFailed:
    """What to raise at a deadline, `budget` seconds after `purpose` was begun."""
    return ConnectFailed("timeout", f"{where}: no answer within {span(max(round(budget, 1), 0.0))} ({purpose})")
