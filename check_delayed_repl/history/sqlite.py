"""The default history: one SQLite file, used by many processes at once.

The file is in WAL mode, so that readers never wait and a writer waits for other writers alone, until the deadline.
Whoever is killed in the middle of writing leaves nothing half done. One replica looked at every 10 s takes about
1 MB a day; the file does not shrink when it is pruned, the room is used again.

The file is created with mode 0660, and SQLite gives its two companions (`-wal`, `-shm`) the same: every user who
writes must be in the file's group and must be allowed to write in its folder (mode 2770 makes new files belong to the
folder's group).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf

from check_delayed_repl.conditions import CONDITIONS
from check_delayed_repl.history import HistoryUnavailable
from check_delayed_repl.history.tables import (
    NAME_LENGTH,
    Row,
    Tables,
    finite_or_none,
    text,
    text_or_none,
    whole_or_none,
)
from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.records import Position, Sample

if TYPE_CHECKING:
    from typing import TypeVar

    _Result = TypeVar("_Result")

SCHEMA_VERSION = 1
APPLICATION_ID = 0x64526570  # dRep
"""Marks the file as a history, so that another program's database is not taken for one."""

SCHEMA = (
    """CREATE TABLE replica (
        number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, delay_arrival INTEGER, source_arrival INTEGER,
        slowest INTEGER NOT NULL, slowest_arrival INTEGER
    )""",
    # Columns without a type hold what they are given: a number for a usual word, the text itself for any other.
    """CREATE TABLE sample (
        replica INTEGER NOT NULL, arrival INTEGER NOT NULL, t REAL NOT NULL, delay REAL, error, message TEXT, ts REAL,
        source_id INTEGER, heartbeat_id INTEGER, local_age REAL, local_missing INTEGER, io_thread, sql_thread,
        io_errno INTEGER, io_error TEXT, sql_errno INTEGER, sql_error TEXT, source_file INTEGER, source_pos INTEGER,
        relay_file INTEGER, relay_pos INTEGER, relay_log_space INTEGER, sql_delay INTEGER, sql_remaining INTEGER,
        seconds_behind INTEGER, PRIMARY KEY (replica, arrival)
    ) WITHOUT ROWID""",
    "CREATE INDEX sample_t ON sample (replica, t)",
    # The same few file names come again and again: each is stored once.
    "CREATE TABLE log_file (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE job (
        replica TEXT NOT NULL, arrival INTEGER NOT NULL, t REAL, id TEXT, kind TEXT, started_at REAL,
        finished_at REAL, void INTEGER, unreadable TEXT, PRIMARY KEY (replica, arrival)
    ) WITHOUT ROWID""",
    """CREATE TABLE fold (
        replica INTEGER NOT NULL, judge TEXT NOT NULL, arrival INTEGER NOT NULL, folded TEXT NOT NULL,
        saved_at REAL NOT NULL, PRIMARY KEY (replica, judge)
    ) WITHOUT ROWID""",
    "CREATE TABLE counter (id INTEGER PRIMARY KEY, arrival INTEGER NOT NULL, epoch INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (1, 0, 0)",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

MIGRATIONS: dict[int, tuple[str, ...]] = {}
"""Statements that lead from a schema version to the one after it."""

# Usual words as small numbers. Only ever add at the end: the numbers are in people's files.
_WORDS = ("No", "Yes", "Connecting", "Preparing")
_WORD_CODES = {word: code for code, word in enumerate(_WORDS)}
_ERROR_CODES = {condition.name: condition.code for condition in CONDITIONS if condition.code is not None}
_ERRORS = {code: name for name, code in _ERROR_CODES.items()}

_LONGEST_WAIT_MS = 86_400_000
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SQLiteHistory(Tables):
    """The history in the file `path`, which is created if it is not there. One thread at a time may use it."""

    by_t = "INDEXED BY sample_t"
    job_t = "t"

    def __init__(self, path: str, deadline: float) -> None:
        super().__init__(path, deadline)
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._log_numbers: dict[str, int] = {}
        self._log_names: dict[int, str] = {}
        self._read(lambda: None)

    def now(self) -> float:
        return time.time()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._forget()
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    # --- the connection ---

    def _read(self, work: Callable[[], _Result]) -> _Result:
        try:
            self._ready()
            return work()
        except (sqlite3.Error, ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            raise self._unavailable(error) from None

    def _write(self, work: Callable[[], _Result]) -> _Result:
        try:
            connection = self._ready()
            connection.execute("BEGIN IMMEDIATE")
            result = work()
            connection.execute("COMMIT")
        except HistoryUnavailable:
            self._roll_back()
            raise
        except (sqlite3.Error, ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
            self._roll_back()
            raise self._unavailable(error) from None
        except BaseException:
            self._roll_back()
            raise
        return result

    def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        assert self._connection is not None
        return self._connection.execute(statement, parameters).fetchall()

    def _run(self, statement: str, parameters: Sequence[object] = ()) -> int:
        assert self._connection is not None
        return self._connection.execute(statement, parameters).rowcount

    def _run_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        assert self._connection is not None
        self._connection.executemany(statement, rows)

    def _ready(self) -> sqlite3.Connection:
        """The connection, opened if need be, to the file that is there now, waiting no longer than the deadline."""
        connection = self._connection
        if connection is None:
            return self._open()
        if self._identity() != self._file:
            self.close()
            raise HistoryUnavailable(
                f"history {self.name} was deleted or replaced while in use: the next try uses what is there then"
            )
        connection.execute(f"PRAGMA busy_timeout = {self._wait_ms()}")
        return connection

    def _open(self) -> sqlite3.Connection:
        self._create_file()
        wait_s = self._wait_ms() / 1000
        # Autocommit: transactions begin where this module says so.
        connection = sqlite3.connect(self._path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        try:
            self._check_schema(connection)
            # A commit survives the death of any process; a power cut may take the last looks, and no harm done.
            connection.execute("PRAGMA synchronous = NORMAL")
            self._file = self._identity()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _create_file(self) -> None:
        try:
            kind = os.stat(self._path).st_mode
        except FileNotFoundError:
            self._create_empty()
            return
        except (OSError, ValueError) as error:
            raise HistoryUnavailable(
                f"history {self.name} cannot be opened: {getattr(error, 'strerror', None) or error}:"
                f" check the path and its permissions for user {_user()}"
            ) from None
        if not stat.S_ISREG(kind):
            raise HistoryUnavailable(f"history {self.name} is no file: name a file with --history")
        if not os.access(self._path, os.R_OK):
            raise HistoryUnavailable(
                f"history {self.name} cannot be read: permission denied: user {_user()} must be in the file's group"
            )

    def _create_empty(self) -> None:
        """Creates the file, still empty, for the group to share; somebody else may be quicker."""
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)
        except FileExistsError:
            return
        except FileNotFoundError:
            folder = os.path.dirname(self._path) or "."
            raise HistoryUnavailable(
                f"history {self.name}: there is no folder {folder}: create it, or name another file with --history"
            ) from None
        except OSError as error:
            raise HistoryUnavailable(
                f"history {self.name} cannot be created: {error.strerror}: check the folder's permissions"
                f" for user {_user()}, and its disk"
            ) from None
        with suppress(OSError):  # a file system without permissions
            os.fchmod(handle, 0o660)  # the umask must not lock the group out
        os.close(handle)

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            self._migrate(connection)
        elif connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise self._foreign()

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Brings an empty file, or one of an older version, to this version's schema; many may try at once."""
        _until(self.deadline, lambda: connection.execute("PRAGMA journal_mode = WAL"))
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            used = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            if used and owner != APPLICATION_ID:
                raise self._foreign()
            if version > SCHEMA_VERSION:
                raise HistoryUnavailable(
                    f"history {self.name} has schema version {version}, and this program knows up to"
                    f" {SCHEMA_VERSION}: upgrade this program"
                )
            if not used:
                steps: tuple[str, ...] = SCHEMA
            else:
                steps = tuple(step for old in range(version, SCHEMA_VERSION) for step in MIGRATIONS[old])
            for step in steps:
                connection.execute(step)
            if version != SCHEMA_VERSION:
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _foreign(self) -> HistoryUnavailable:
        return HistoryUnavailable(
            f"history {self.name} is another program's database: name another file with --history"
        )

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _wait_ms(self) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise HistoryUnavailable(f"history {self.name}: no time was left to use it: raise --timeout")
        return _LONGEST_WAIT_MS if left == inf else min(int(left * 1000) + 1, _LONGEST_WAIT_MS)

    def _roll_back(self) -> None:
        self._forget()
        connection = self._connection
        if connection is not None and connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                self.close()

    def _forget(self) -> None:
        """Numbers given within a transaction that did not last must not be used."""
        self._numbers.clear()
        self._log_numbers.clear()
        self._log_names.clear()

    def _unavailable(self, error: Exception) -> HistoryUnavailable:
        """What to say of an error, and what to do about it."""
        where = f"history {self.name}"
        extended = getattr(error, "sqlite_errorcode", None)
        code = None if extended is None else extended & 0xFF
        if code in _BUSY:
            return HistoryUnavailable(
                f"{where} is locked by another process and stayed so until the deadline:"
                f" see who uses it with fuser {self.name}"
            )
        if code in _CORRUPT or not isinstance(error, sqlite3.Error):
            self.close()
            what = "is no SQLite database" if code == sqlite3.SQLITE_NOTADB else f"is corrupt ({error})"
            return HistoryUnavailable(f"{where} {what}: move it away, and a new one is begun, or restore a copy")
        if code == sqlite3.SQLITE_FULL:
            return HistoryUnavailable(f"{where} cannot be written: no space left: make room on its disk")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            self.close()
            return HistoryUnavailable(
                f"{where} cannot be written: user {_user()} needs the permission to write the file,"
                " its -wal and -shm beside it, and its folder"
            )
        self.close()
        if code == sqlite3.SQLITE_CANTOPEN:
            return HistoryUnavailable(
                f"{where} cannot be opened: user {_user()} needs the permission to write the file and its folder"
            )
        if code == sqlite3.SQLITE_IOERR:
            return HistoryUnavailable(f"{where} cannot be used: input/output error: check its disk ({error})")
        return HistoryUnavailable(f"{where} cannot be used: {error}")

    # --- rows ---

    def _stamp(self) -> Callable[[Sample], Sample]:
        return lambda sample: sample

    def _encode(self, sample: Sample) -> Row:
        source_file, source_pos = self._place(sample.source_log)
        relay_file, relay_pos = self._place(sample.relay_log)
        return (
            sample.t,
            finite_or_none(sample.delay),
            _coded(sample.error, _ERROR_CODES),
            text_or_none(sample.message),
            finite_or_none(sample.ts),
            whole_or_none(sample.source_id),
            whole_or_none(sample.heartbeat_id),
            finite_or_none(sample.local),
            int(sample.local_missing),
            _coded(sample.io, _WORD_CODES),
            _coded(sample.sql, _WORD_CODES),
            whole_or_none(sample.io_errno),
            text_or_none(sample.io_error),
            whole_or_none(sample.sql_errno),
            text_or_none(sample.sql_error),
            source_file,
            source_pos,
            relay_file,
            relay_pos,
            whole_or_none(sample.relay_log_space),
            whole_or_none(sample.sql_delay),
            whole_or_none(sample.sql_remaining),
            whole_or_none(sample.seconds_behind),
        )

    def _decode(self, row: Row) -> Sample:
        _, t, delay, error, message, ts, source_id, heartbeat_id, local, local_missing, io, sql, *rest = row
        io_errno, io_error, sql_errno, sql_error, source_file, source_pos, relay_file, relay_pos, *numbers = rest
        names = self._log_names
        return Sample(
            t,
            delay,
            _ERRORS[error] if error.__class__ is int else error,
            message,
            ts,
            source_id,
            heartbeat_id,
            local,
            bool(local_missing),
            _WORDS[io] if io.__class__ is int else io,
            _WORDS[sql] if sql.__class__ is int else sql,
            io_errno,
            io_error,
            sql_errno,
            sql_error,
            None if source_pos is None else (names.get(source_file) or self._log_name(source_file), source_pos),
            None if relay_pos is None else (names.get(relay_file) or self._log_name(relay_file), relay_pos),
            *numbers,
        )

    def _place(self, position: Position | None) -> tuple[int | None, int | None]:
        if position is None:
            return None, None
        name = text(position[0], NAME_LENGTH)
        number = self._log_numbers.get(name)
        if number is None:
            self._run("INSERT OR IGNORE INTO log_file (name) VALUES (?)", (name,))
            number = self._log_numbers[name] = self._rows("SELECT number FROM log_file WHERE name = ?", (name,))[0][0]
            if len(self._log_numbers) > 10_000:  # a process that lives for months
                self._log_numbers = {name: number}
        return number, whole_or_none(position[1])

    def _log_name(self, number: int) -> str:
        name: str = self._rows("SELECT name FROM log_file WHERE number = ?", (number,))[0][0]
        if len(self._log_names) > 10_000:
            self._log_names.clear()
        self._log_names[number] = name
        return name


def _coded(value: str | None, codes: dict[str, int]) -> int | str | None:
    if value is None:
        return None
    code = codes.get(value)
    return text(value, 100) if code is None else code


def _until(deadline: float, attempt: Callable[[], object]) -> None:
    """Tries until it is no longer locked: SQLite does not wait by itself where a deadlock were possible."""
    while True:
        try:
            attempt()
            return
        except sqlite3.OperationalError as error:
            if (error.sqlite_errorcode & 0xFF) not in _BUSY or time.monotonic() + 0.02 > deadline:
                raise
        time.sleep(0.02)


def _user() -> str:
    """Who this process is, for messages about permissions."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
