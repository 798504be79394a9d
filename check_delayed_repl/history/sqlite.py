"""The default history: one SQLite file, used by many processes at once.

The file is in WAL mode, so that readers never wait and a writer waits for other writers alone, until the deadline.
Whoever is killed in the middle of writing leaves nothing half done. One replica sampled every 10 s takes about 1 MB a
day; the file does not shrink when it is pruned, the room is used again.

The file is created with mode 0660, and SQLite gives its two companions (`-wal`, `-shm`) the same: every user who
writes must be in the file's group and must be allowed to write in its folder (mode 2770 makes new files belong to the
folder's group).
"""

# Statements are put together from the words of this package alone; values are always parameters.
# ruff: noqa: S608

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Sequence
from contextlib import suppress

from check_delayed_repl.history.codec import ADDED, COLUMNS, LAYOUT, in_types
from check_delayed_repl.history.database import HistoryUnavailable
from check_delayed_repl.history.tables import History
from check_delayed_repl.words import pasted, user_name

APPLICATION_ID = 0x64526570  # dRep
"""Marks the file as a history, so that another program's database is not taken for one."""

TYPES = {
    "ID": "INTEGER PRIMARY KEY",
    "LABEL": "TEXT",
    "FOLD": "TEXT",
    "WHOLE": "INTEGER",
    "FLAG": "INTEGER",
    "WORD": "",  # the first release kept usual words as numbers there
    "NAME": "INTEGER",  # the same few texts come again and again: each is stored once, in table word
    "LIST": "INTEGER",
}
SCHEMA = in_types(
    TYPES,
    f"CREATE TABLE counter ({LAYOUT['counter']})",
    "INSERT INTO counter (id, arrival, epoch) VALUES (1, 0, 0)",
    f"CREATE TABLE replica ({LAYOUT['replica']})",
    f"CREATE TABLE sample ({LAYOUT['sample']}) WITHOUT ROWID",
    "CREATE INDEX sample_t ON sample (replica, t)",
    "CREATE TABLE word (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE job (
        replica TEXT NOT NULL, arrival INTEGER NOT NULL, t REAL, id TEXT, kind TEXT, started_at REAL,
        finished_at REAL, void INTEGER, unreadable TEXT, PRIMARY KEY (replica, arrival)
    ) WITHOUT ROWID""",
    "CREATE INDEX job_arrival ON job (arrival)",
    f"CREATE TABLE fold ({LAYOUT['fold']}) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
FROM_FIRST_RELEASE = in_types(
    TYPES,
    *(f"ALTER TABLE {table} ADD COLUMN {column}" for table, columns in ADDED.items() for column in columns),
    "ALTER TABLE log_file RENAME TO word",
    "UPDATE replica SET delay_arrival = MAX(COALESCE(delay_arrival, 0), COALESCE(source_arrival, 0))",
    "CREATE INDEX job_arrival ON job (arrival)",
)

_FIRST_RELEASE_WORDS = {
    "error": "timeout connect-failed not-a-replica status-unreadable heartbeat-missing heartbeat-unreadable"
    " server-down",
    "io_thread": "No Yes Connecting Preparing",
    "sql_thread": "No Yes Connecting Preparing",
}

_NUMBERED = ("NAME", "LIST")
_LONGEST_WAIT_MS = 86_400_000
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_FILES = 5
"""How many files SQLite may open for a database."""
_FULL_BYTES = 65_536
"""A disk with less room than this is full."""


def _read_as(column: str, kind: str) -> str:
    if kind in _NUMBERED:
        return f"(SELECT name FROM word WHERE number = {column})"
    if kind == "WORD":
        words = enumerate(_FIRST_RELEASE_WORDS[column].split())
        cases = " ".join(f"WHEN {number} THEN '{word}'" for number, word in words)
        return f"CASE {column} {cases} ELSE CAST({column} AS TEXT) END"
    return column


class SQLiteHistory(History):
    """The history in the file `path`, which is created if it is not there."""

    errors = (sqlite3.Error, ValueError, TypeError, AttributeError, OverflowError)  # values that nobody ever wrote
    by_t = "INDEXED BY sample_t"
    columns = ", ".join(_read_as(column, kind) for column, kind in COLUMNS)
    binary = "BLOB"
    places = ", ".join("(SELECT number FROM word WHERE name = ?)" if kind in _NUMBERED else "?" for _, kind in COLUMNS)

    def __init__(self, path: str, deadline: float) -> None:
        super().__init__(path, deadline)
        self._file: tuple[int, int] | None = None
        self._read(lambda: None)

    def now(self) -> float:
        return time.time()

    def _prepare(self, samples: Sequence[Sequence[object]]) -> None:
        places = [2 + place for place, (_, kind) in enumerate(COLUMNS) if kind in _NUMBERED]
        words = {row[place] for row in samples for place in places} - {None}
        self._run_many("INSERT OR IGNORE INTO word (name) VALUES (?)", [(word,) for word in words])

    # --- the connection ---

    def _begin(self) -> None:
        self._execute("BEGIN IMMEDIATE")

    def _ready(self) -> None:
        if self._connection is None:
            self._open()
        elif self._identity() != self._file:
            self.close()
            raise self._wrong("was deleted or replaced while in use: the next try uses what is there then")
        else:
            self._execute(f"PRAGMA busy_timeout = {self._wait_ms()}")

    def _open(self) -> None:
        """Connects to the file that is there now, waiting no longer than the deadline."""
        wait_s = self._wait_ms() / 1000
        self._find_file()
        # Before it is opened: one that takes its place meanwhile is noticed at the next try.
        self._file = self._identity()
        path = os.path.abspath(self.name).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        # rw: SQLite itself must not create anything. Autocommit: transactions begin where this module says so.
        connection = sqlite3.connect(
            f"file://{path}?mode=rw", timeout=wait_s, isolation_level=None, check_same_thread=False, uri=True
        )
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != self.version:
                self._migrate(connection)
            elif connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise self._foreign()
            # A commit survives the death of any process; a power cut may take the last samples, and no harm done.
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _find_file(self) -> None:
        """Sees to it that a file is there that may be opened."""
        try:
            found = os.lstat(self.name)
            if stat.S_ISLNK(found.st_mode):
                # Whoever may write to the folder could lead root to any file.
                if found.st_uid not in (0, os.geteuid()):
                    raise self._wrong(f"is a link made by user {user_name(found.st_uid)}: name the file itself")
                found = os.stat(self.name)
        except FileNotFoundError:
            if os.path.islink(self.name):
                raise self._wrong(
                    "is a link to a file that is not there: remove the link, or create the file"
                ) from None
            self._create_file()
            return
        except (OSError, ValueError) as error:
            raise self._wrong(
                f"cannot be opened: {_in_words(error)}: check the path and its permissions for user {user_name()}"
            ) from None
        if not stat.S_ISREG(found.st_mode):
            raise self._wrong("is no file: name a file with --history")
        if not os.access(self.name, os.R_OK):
            raise self._wrong(f"cannot be read: permission denied: user {user_name()} must be in the file's group")
        self._warn_of_strangers(found.st_mode)

    def _warn_of_strangers(self, mode: int) -> None:
        """Tells who else may write to the file, or put another one in its place."""
        if mode & stat.S_IWOTH:
            self.warnings.append(f"history {self.name} may be written by everybody: chmod o-w {pasted(self.name)}")
        real = os.path.realpath(self.name)
        for end in ("-wal", "-shm", "-journal"):
            with suppress(OSError):
                beside = os.lstat(real + end)
                if not stat.S_ISREG(beside.st_mode) or beside.st_nlink > 1:
                    raise HistoryUnavailable(
                        f"history {self.name}: {real}{end} is a link: see who made it, and remove it"
                    )
        replaced = {}
        for place in (os.path.abspath(self.name), real, f"{real}-wal", f"{real}-shm", f"{real}-journal"):
            with suppress(OSError):  # SQLite's own files come and go; a folder above may be closed to this user
                while (folder := os.path.dirname(place)) != place:
                    owner, around = os.lstat(place).st_uid, os.stat(folder).st_mode
                    if around & stat.S_IWOTH and not around & stat.S_ISVTX:
                        replaced[folder] = f"everybody, who may write to its folder: chmod o-w {pasted(folder)}"
                    elif around & stat.S_IWOTH and owner not in (0, os.geteuid()):
                        replaced[folder] = (
                            f"user {user_name(owner)}, whose {place} is: name another file with --history"
                        )
                    place = folder
        self.warnings += (f"history {self.name} may be replaced by {who}" for who in replaced.values())

    def _create_file(self) -> None:
        """Creates the file, still empty, for the group to share; somebody else may be quicker."""
        folder = os.path.dirname(self.name) or "."
        try:
            handle = os.open(self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o660)
        except FileExistsError:
            return
        except FileNotFoundError:
            raise HistoryUnavailable(
                f"history {self.name}: there is no folder {folder}: create it, or name another file with --history"
            ) from None
        except OSError as error:
            raise self._wrong(
                f"cannot be created: {_in_words(error)}: check the folder's permissions"
                f" for user {user_name()}, and its disk"
            ) from None
        try:
            with suppress(OSError):  # a file system without permissions
                os.fchmod(handle, 0o660)  # the umask must not lock the group out
                if os.geteuid() == 0:
                    around = os.stat(folder)
                    os.fchown(handle, around.st_uid, around.st_gid)
            self._warn_of_strangers(0)
        finally:
            os.close(handle)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Brings an empty file, or one of an older version, to this version's layout; many may try at once."""
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself where a deadlock were possible.
                if (error.sqlite_errorcode & 0xFF) not in _BUSY or time.monotonic() + 0.02 > self.deadline:
                    raise
            time.sleep(0.02)
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            used = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            if used and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise self._foreign()
            if version > self.version:
                raise self._too_new(version)
            steps = FROM_FIRST_RELEASE if used else SCHEMA
            for step in steps if version < self.version else ():
                connection.execute(step)
            connection.execute(f"PRAGMA user_version = {self.version}")

    def _foreign(self) -> HistoryUnavailable:
        return self._wrong("is another program's database: name another file with --history")

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.name)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _wait_ms(self) -> int:
        return int(min(1000 * self._left_s() + 1, _LONGEST_WAIT_MS))

    # --- what is wrong ---

    def _unavailable(self, error: BaseException) -> HistoryUnavailable:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return self._wrong(
                "is locked by another process and stayed so until the deadline:"
                f" see who uses it with fuser {pasted(self.name)}"
            )
        self.close()
        if code in _CORRUPT or not code:
            what = "is no SQLite database" if code == sqlite3.SQLITE_NOTADB else f"is corrupt ({error})"
            return self._wrong(f"{what}: move it and its -wal and -shm away, and a new one is begun, or restore a copy")
        trouble = _NO_SPACE if code == sqlite3.SQLITE_FULL else self._trouble()
        if trouble is not None:
            return self._wrong(f"cannot be used: {trouble}")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
            return self._wrong(
                f"cannot be written: user {user_name()} needs the permission to write the file,"
                " its -wal and -shm beside it, and its folder"
            )
        if code == sqlite3.SQLITE_IOERR:
            return self._wrong(f"cannot be used: input/output error: check its disk ({error})")
        return self._wrong(f"cannot be used: {error}")

    def _trouble(self) -> str | None:
        """What the system knows of an error that SQLite tells in a few words."""
        handles: list[int] = []
        try:
            handles += (os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(_FILES))
            disk = os.statvfs(os.path.dirname(self.name) or ".")
        except OSError as error:
            return _in_words(error)
        finally:
            for handle in handles:
                os.close(handle)
        if disk.f_flag & os.ST_RDONLY:
            return _WORDS[errno.EROFS]
        full = disk.f_bavail * disk.f_frsize < _FULL_BYTES or (disk.f_files and not disk.f_favail)
        return _NO_SPACE if full else None


_NO_SPACE = "no space left: make room on its disk"
_WORDS = {
    errno.EMFILE: "this process has too many files open: raise its limit (ulimit -n)",
    errno.ENFILE: "this machine has too many files open: raise fs.file-max",
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: "the disk quota is used up: make room on its disk",
    errno.EROFS: "its file system is read-only",
    errno.EIO: "input/output error: check its disk",
}


def _in_words(error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return _WORDS.get(number or 0) or getattr(error, "strerror", None) or str(error)
