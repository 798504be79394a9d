"""What a rescue must remember of a replica: facts, never statements, in one file for each server and channel.

The file is written and synced before and after every statement, so that whoever comes next knows what was under way.
What is read from it may have been changed by anybody, and is checked.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from typing import Annotated, Literal

import msgspec

from check_delayed_repl.records import HELD_S

_MAX_BYTES = 1 << 20

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
TARGET = (
    rf"\A(?:{_UUID}(?::[a-zA-Z_]\w{{0,31}})?:\d{{1,19}}"  # MySQL's GTIDs
    r"|\d{1,10}-\d{1,10}-\d{1,20}"  # MariaDB's
    r"|[^\s:'\"/\\]{1,200}\.\d{1,19}:\d{1,19})\Z"
)
"""What can name a transaction."""

Time = Annotated[float, msgspec.Meta(ge=0, lt=1e11)]
"""Seconds since 1970, by the server's clock."""
Word = Annotated[str, msgspec.Meta(pattern=r"\A[\w ./:@#-]{0,300}\Z")]
Target = Annotated[str, msgspec.Meta(pattern=TARGET)]
Spot = Annotated[str, msgspec.Meta(pattern=r"\A[^\s:'\"\\\\]{1,200}:\d{1,19}\Z")]


class RecordError(Exception):
    """The record cannot be read, trusted or written: one line that says why."""


class Facts(msgspec.Struct, forbid_unknown_fields=True):
    """One rescue. What is read is checked against these types and ranges."""

    server: Annotated[str, msgspec.Meta(min_length=1)]
    """The server's identity."""
    channel: str
    phase: Literal["frozen", "forwarding", "forwarded", "resumed"]
    started: Time
    delay: Annotated[int, msgspec.Meta(ge=0, lt=HELD_S)] | None
    """The delay before, in seconds; None where it was not known any more."""
    gtid: bool
    """It asked its source by GTID."""
    fetching: bool
    """Its IO thread ran."""
    persisted: bool = False
    """This rescue has made it stay stopped after a restart."""
    target: Target | None = None
    target_time: Time | None = None
    target_place: Spot | None = None
    place: Spot | None = None
    """Everything before it had been applied when a freeze or a forward ended. Like the target's, in the source's binary
    log: `FILE:POS`."""
    job: Word = ""
    """The id of the job in the history."""
    steps: list[tuple[Time, Word, Literal["begun", "done", "failed"]]] = []
    """What was done, in order."""


class Record:
    """The file of one server and channel in a folder."""

    def __init__(self, folder: str, server: str, channel: str) -> None:
        key = f"{server}#{channel.lower()}"
        name = re.sub(r"[^\w.-]+", "-", key)[:80]
        self._folder = folder
        self._server, self._channel = server, channel
        self.path = os.path.join(folder, f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.json")

    def load(self) -> Facts | None:
        """None where there is none. Raises RecordError."""
        try:
            self._check_folder()
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror}") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise RecordError(f"{self.path}: must be a file of mode 0600 that belongs to you")
            facts = msgspec.json.decode(os.read(descriptor, _MAX_BYTES), type=Facts)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RecordError(f"{self.path}: somebody has changed it: {error}") from None
        finally:
            os.close(descriptor)
        if (facts.server, facts.channel.lower()) != (self._server, self._channel.lower()):
            raise RecordError(f"{self.path}: it is of another server or channel: somebody has changed it")
        return facts

    def save(self, facts: Facts) -> None:
        """Written whole and synced. Raises RecordError."""
        new = f"{self.path}.new"
        try:
            if not os.path.lexists(self._folder):
                os.makedirs(os.path.dirname(self._folder) or ".", mode=0o700, exist_ok=True)
                os.mkdir(self._folder, 0o700)
            self._check_folder()
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(facts), indent=1))
                file.flush()
                os.fsync(descriptor)
            os.replace(new, self.path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise RecordError(f"{error.filename or self._folder}: {error.strerror}") from None

    def try_out(self) -> None:
        """Raises RecordError where none could be read or written now. Writes nothing."""
        self.load()
        there = self._folder
        while not os.path.lexists(there):
            there = os.path.dirname(there)
        if not os.access(there, os.W_OK | os.X_OK):
            raise RecordError(f"{there}: this user may not write there")
        if not os.statvfs(there).f_bavail:
            raise RecordError(f"{there}: the disk is full")

    def _check_folder(self) -> None:
        found = os.lstat(self._folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise RecordError(f"{self._folder}: must be a folder of mode 0700 that belongs to you, and no link")
