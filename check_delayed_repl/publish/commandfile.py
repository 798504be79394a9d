"""Passive results for Nagios Core, through its external command file: a named pipe."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress

from check_delayed_repl.publish.mailbox import Delivery
from check_delayed_repl.publish.result import Result

LINE_BYTES = 4096
"""What a pipe takes in one piece, so that no line of two writers gets mixed up with another."""
NO_PIPE = "not a named pipe: is this Nagios' command_file?"
REASONS = {errno.ENXIO: "Nagios is not running", errno.EAGAIN: "the pipe is full: Nagios does not read"}


def line(result: Result) -> bytes:
    """One external command, at most LINE_BYTES long: long output is cut first, perfdata only where it would be longer
    than that with the text alone, as with dozens of kinds of job."""
    replica, verdict = result
    first, _, rest = result.output().rstrip("\n").partition("\n")
    words, bar, perfdata = first.partition(" | ")
    # By this machine's clock, which is Nagios' own: a shared history's may be ahead, and what is from the future never
    # gets stale.
    head = f"[{int(time.time())}] PROCESS_SERVICE_CHECK_RESULT;{_field(replica.object_host)};"
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
                raise ValueError(f"{self.name}: {path}: {NO_PIPE}")

    def deliver(self, results: list[Result]) -> Delivery:
        """Writes a line for each."""
        done = Delivery(results)
        try:
            # Without a reader this fails at once, rather than wait for one.
            pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
                    raise OSError(errno.EINVAL, NO_PIPE)
                while done.rest:
                    os.write(pipe, line(done.rest[0]))
                    del done.rest[0]
            finally:
                os.close(pipe)
        except OSError as error:
            done.trouble = f"{self._path}: {REASONS.get(error.errno or 0, error.strerror)}"
        return done
