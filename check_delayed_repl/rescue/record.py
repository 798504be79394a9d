"""What a rescue must remember of a replica: facts, never statements, in one file for each server and channel.

The file is written and synced before and after every statement, so that whoever comes next knows what was under way.
What is read from it may have been changed by anybody, and is checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import asdict, dataclass, field
from typing import Any

from check_delayed_repl.rescue.state import HELD_S

PHASES = ("frozen", "forwarding", "forwarded", "resumed")
FOLDER = "rescue"
_TARGET = re.compile(r"[\w.:-]{1,300}")
_GTIDS = re.compile(r"[0-9,-]{0,2000}")
_MAX_BYTES = 1 << 20


class RecordError(Exception):
    """The record cannot be read, trusted or written: one line that says why."""


@dataclass
class Facts:
    """One rescue."""

    server: str
    """The server's identity."""
    channel: str
    phase: str
    started: float
    """Seconds since 1970, by the server's clock, as all times here."""
    delay: int | None
    """The delay before, in seconds; None where it was not known any more."""
    gtid: bool
    """It asked its source by GTID."""
    fetching: bool
    """Its IO thread ran."""
    persisted: bool = False
    """This rescue has made it stay stopped after a restart."""
    target: str | None = None
    target_time: float | None = None
    slave_pos: str = ""
    """MariaDB's gtid_slave_pos right after the forward."""
    job: str = ""
    """The id of the job in the history."""
    steps: list[list[Any]] = field(default_factory=list)
    """[time, name, `begun`, `done` or `failed`] each, in order."""

    def checked(self) -> Facts:
        """Itself; raises RecordError where a value cannot be."""
        for name, fits in (
            ("server", isinstance(self.server, str) and bool(self.server)),
            ("channel", isinstance(self.channel, str)),
            ("phase", self.phase in PHASES),
            ("started", _is_time(self.started)),
            ("delay", self.delay is None or (_is_whole(self.delay) and 0 <= self.delay < HELD_S)),
            ("gtid", isinstance(self.gtid, bool)),
            ("fetching", isinstance(self.fetching, bool)),
            ("persisted", isinstance(self.persisted, bool)),
            ("target", self.target is None or bool(isinstance(self.target, str) and _TARGET.fullmatch(self.target))),
            ("target_time", self.target_time is None or _is_time(self.target_time)),
            ("slave_pos", isinstance(self.slave_pos, str) and bool(_GTIDS.fullmatch(self.slave_pos))),
            ("job", isinstance(self.job, str) and len(self.job) <= 128 and self.job.isprintable()),
            ("steps", isinstance(self.steps, list) and all(_is_step(step) for step in self.steps)),
        ):
            if not fits:
                raise RecordError(f"its {name} cannot be")
        return self


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_step(step: object) -> bool:
    return (
        isinstance(step, list)
        and len(step) == 3
        and _is_time(step[0])
        and all(isinstance(part, str) and part.isprintable() for part in step[1:])
    )


class Record:
    """The file of one server and channel in a folder."""

    def __init__(self, folder: str, server: str, channel: str) -> None:
        key = f"{server}#{channel}"
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
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise RecordError(
                    f"{self.path}: must be a file that belongs to you and that nobody else may read or write"
                )
            data = file.read(_MAX_BYTES)
        try:
            facts = Facts(**json.loads(data)).checked()
        except (ValueError, TypeError, RecordError) as error:
            what = str(error) if isinstance(error, RecordError) else "it is not what was written"
            raise RecordError(f"{self.path}: {what}: somebody has changed it") from None
        if (facts.server, facts.channel) != (self._server, self._channel):
            raise RecordError(f"{self.path}: it is of another server or channel: somebody has changed it")
        return facts

    def save(self, facts: Facts) -> None:
        """Written whole and synced. Raises RecordError."""
        new = f"{self.path}.new"
        try:
            self._make_folder()
            self._check_folder()
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(facts), file, indent=1)
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

    def put_aside(self, facts: Facts) -> None:
        """Keeps the record of a rescue that is over under the time of its beginning."""
        try:
            os.replace(self.path, self.path.removesuffix(".json") + f"-{int(facts.started)}.json")
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror}") from None

    def _make_folder(self) -> None:
        if not os.path.lexists(self._folder):
            os.makedirs(os.path.dirname(self._folder) or ".", mode=0o700, exist_ok=True)
            os.mkdir(self._folder, 0o700)

    def _check_folder(self) -> None:
        found = os.lstat(self._folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise RecordError(f"{self._folder}: must be a folder of mode 0700 that belongs to you, and no link")
