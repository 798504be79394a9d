"""Passive results for Nagios Core, through its external command file: a named pipe."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from check_delayed_repl.publish.mailbox import NotDelivered
from check_delayed_repl.publish.result import Result

LINE_BYTES = 4096
"""What a pipe takes in one piece, so that no line of two writers gets mixed up with another."""


def line(result: Result) -> bytes:
    """One external command, at most LINE_BYTES long: long output is cut first, perfdata only where it would be longer
    than that with the text alone, as with dozens of kinds of job."""
    replica, verdict = result
    first, _, rest = result.output().rstrip("\n").partition("\n")
    words, bar, perfdata = first.partition(" | ")
    head = f"[{int(verdict.at)}] PROCESS_SERVICE_CHECK_RESULT;{_field(replica.object_host)};"
    head += f"{_field(replica.object_service)};{int(verdict.state)};"
    room = LINE_BYTES - len(head.encode()) - 1
    said = _cut(words, room)
    room -= len(said)
    tail = (bar + perfdata).encode()
    if len(tail) > room:
        tail = tail[:room].rpartition(b" ")[0]
    # Nagios turns the two characters \n into a line break.
    long_output = _cut("\\n" + rest.replace("\n", "\\n"), room - len(tail)) if rest else b""
    return head.encode() + said + tail + long_output.removesuffix(b"\\") + b"\n"


def _field(name: str | None) -> str:
    """An object's name, which can hold no semicolon and no line break."""
    return "".join("_" if c == ";" or not c.isprintable() else c for c in name or "")


def _cut(text: str, room: int) -> bytes:
    return text.encode()[: max(0, room)].decode(errors="ignore").encode()


class CommandFile:
    """The pipe. A Nagios that does not read makes nobody wait."""

    name = "nagios-command-file"

    def __init__(self, path: str) -> None:
        """Raises ValueError where something else is there. A Nagios that is not running has none."""
        self._path = path
        with suppress(OSError):
            if not stat.S_ISFIFO(os.stat(path).st_mode):
                raise ValueError(f"{self.name}: {path}: not a named pipe: is this Nagios' command_file?")

    def deliver(self, results: list[Result]) -> dict[str, str]:
        """Writes a line for each; none is wanted by nobody. Raises NotDelivered."""
        try:
            # Without a reader this fails at once, rather than wait for one.
            pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            reason = "Nagios is not running" if error.errno == errno.ENXIO else error.strerror
            raise NotDelivered(f"{self._path}: {reason}", results) from None
        try:
            if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
                raise NotDelivered(f"{self._path}: not a named pipe: is this Nagios' command_file?", results)
            for place, result in enumerate(results):
                try:
                    os.write(pipe, line(result))
                except OSError as error:
                    full = error.errno in (errno.EAGAIN, errno.EWOULDBLOCK)
                    reason = "the pipe is full: Nagios does not read" if full else error.strerror
                    raise NotDelivered(f"{self._path}: {reason}", results[place:]) from None
        finally:
            os.close(pipe)
        return {}

    def close(self) -> None:
        """Nothing stays open."""
