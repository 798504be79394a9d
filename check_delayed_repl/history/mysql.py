"""The shared history: tables in a MySQL (5.7 or later) or MariaDB database, `mysql://user@host:port/database`.

Behind a `?` may follow defaults-file, defaults-group, socket, ssl-mode, ssl-ca, ssl-cert and ssl-key, joined by `&`.
A password may stand in the URL, with special characters percent-encoded, but is better kept in the defaults file.

All times are this server's own: clocks of the many hosts that write here need not agree.

Writers of jobs need INSERT on JOB_WRITER_COLUMNS alone and are not trusted. They may hold a transaction open for as
long as they like and commit it late, and set their session's clock and next AUTO_INCREMENT. So their lines get neither
arrival number nor time from them. Whoever stores samples, and is trusted, gives both to the lines that have been
committed by then, under the same lock: nothing that is committed later can come to stand before a sample that has been
judged. Keys come from UUID_SHORT, which nobody can use up.
"""

# Statements are put together from the words of this module alone; values are always parameters.
# PyMySQL raises whatever a broken answer makes it stumble over, so all of it is caught and put into words.
# ruff: noqa: S608, BLE001

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from check_delayed_repl.history import codec
from check_delayed_repl.history.database import HistoryUnavailable
from check_delayed_repl.history.tables import History
from check_delayed_repl.observe.connection import SESSION, SESSION_TIMES, connect
from check_delayed_repl.observe.failures import ConnectFailed, Refused, scrubbed
from check_delayed_repl.observe.optionfile import exposed
from check_delayed_repl.observe.target import SSL_MODES, Target
from check_delayed_repl.records import JobLine, Sample

if TYPE_CHECKING:
    from check_delayed_repl.observe.wire import Connection

JOB_WRITER_COLUMNS = ("replica", "id", "kind", "started_at", "finished_at", "void")
"""The columns of table `job` that a writer of jobs must be allowed to INSERT."""
TABLES = ("schema_version", "counter", "replica", "sample", "job", "fold")

TYPES = {
    "ID": "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY",
    "LABEL": "VARCHAR(255)",
    "FOLD": "MEDIUMTEXT",
    "WHOLE": "BIGINT",
    "REAL": "DOUBLE",
    "FLAG": "TINYINT",
    "TEXT": "VARCHAR(1000)",
    "WORD": "VARCHAR(64)",
    "NAME": "VARCHAR(255)",
    "LIST": "TEXT",
}
_OPTIONS = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
KEYS_OF_ITS_OWN = "ALTER TABLE job MODIFY seq BIGINT UNSIGNED NOT NULL DEFAULT (UUID_SHORT())"
"""A server older than MySQL 8.0.13 or MariaDB 10.2.1 does not understand this, and must do without: there, whoever may
INSERT may also use up all keys (SET insert_id)."""
NEVER_EMPTY = "INSERT IGNORE INTO job (seq, arrival) VALUES (0, 0)"
"""A row that nobody reads: MariaDB lets a session lock a table that is empty (unique_checks = 0)."""
SCHEMA = codec.in_types(
    TYPES,
    f"CREATE TABLE IF NOT EXISTS counter ({codec.LAYOUT['counter']}) {_OPTIONS}",
    f"CREATE TABLE IF NOT EXISTS replica ({codec.LAYOUT['replica']}) {_OPTIONS}",
    f"CREATE TABLE IF NOT EXISTS sample ({codec.LAYOUT['sample']}, KEY sample_t (replica, t)) {_OPTIONS}",
    """CREATE TABLE IF NOT EXISTS job (
        seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, replica VARCHAR(255), arrival BIGINT, t DOUBLE,
        id VARCHAR(255), kind VARCHAR(64), started_at DOUBLE, finished_at DOUBLE, void TINYINT,
        unreadable VARCHAR(1000), KEY job_arrival (arrival), KEY job_replica (replica, arrival)
    ) """
    + _OPTIONS,
    KEYS_OF_ITS_OWN,
    NEVER_EMPTY,
    f"CREATE TABLE IF NOT EXISTS fold ({codec.LAYOUT['fold']}, KEY fold_saved (saved_at)) {_OPTIONS}",
    f"CREATE TABLE IF NOT EXISTS schema_version (id INT NOT NULL PRIMARY KEY, version INT NOT NULL) {_OPTIONS}",
    "INSERT IGNORE INTO counter (id, arrival, epoch) VALUES (1, 0, 0)",
    # Comes last: where it stands, all the others do.
    f"INSERT IGNORE INTO schema_version (id, version) VALUES (1, {History.version})",
)
FROM_FIRST_RELEASE = codec.in_types(
    TYPES,
    *(f"ALTER TABLE {table} ADD COLUMN ({', '.join(columns)})" for table, columns in codec.ADDED.items()),
    KEYS_OF_ITS_OWN,
    NEVER_EMPTY,
    "UPDATE replica SET delay_arrival = GREATEST(COALESCE(delay_arrival, 0), COALESCE(source_arrival, 0))",
    f"UPDATE schema_version SET version = {History.version} WHERE id = 1",
)

_SESSION = (
    f"{SESSION}, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', sql_safe_updates = 0{SESSION_TIMES}",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE",
)
_NOW = "SELECT UNIX_TIMESTAMP(NOW(6))"

_NO_SELECT = (1142, 1143)
_NO_TABLE = 1146
_NO_DATABASE = "error 1049"
_TRY_AGAIN = (1213, 1020)
_MAY_NOT = (1044, 1142, 1143, 1227, 1370)
_ADDED_BEFORE = 1060
_SYNTAX = 1064
_CAUSES = {
    **dict.fromkeys(_MAY_NOT, ": the account lacks a privilege: {}: see delayed-repl grants"),
    **dict.fromkeys((1021, 1114), " cannot be written: no space left: {}: make room on its server"),
    **dict.fromkeys((1290, 1792, 1836), " cannot be written: {}: name a server that can be written to"),
    _NO_TABLE: ": a table is missing: {}: restore it, or drop them all",
    1205: " is locked by another connection: see SHOW PROCESSLIST there",
}
"""What to say of an error by its number; {} is what the server said."""
_IDLE_S = 1.0
_ADOPTED_AT_ONCE = 500
_SHARE = 20
_NAMES_AT_ONCE = 100
_LATE_S = 40 * 86400.0
"""A sample that is stored so many seconds after it was taken still keeps its time; beyond that a clock was stepped."""

URL_FORM = "mysql://user@host:port/database?defaults-file=FILE"


class MySQLHistory(History):
    """The history at `url`. Connects at once, and again where a connection was lost."""

    errors = (Exception,)  # PyMySQL raises whatever a broken answer makes it stumble over
    mark = "%s"
    by_t = "FORCE INDEX (sample_t)"
    binary = "BINARY"
    chunk = 500  # the connection refuses answers above some megabytes, and texts may be long

    def __init__(self, url: str, deadline: float) -> None:
        self._target, self._database, name = parse_url(url)
        super().__init__(name, deadline)
        self._used = 0.0
        self._read(lambda: None)
        if self._target.defaults_file is not None:
            self.warnings += filter(None, [exposed(self._target.defaults_file)])

    def now(self) -> float:
        return float(self._select(_NOW)[0][0])

    def add_job(self, replica: str, line: JobLine) -> None:
        columns = [*JOB_WRITER_COLUMNS, "unreadable"][: None if line.unreadable else -1]
        values = (codec.name(replica), *codec.job_values(line))[: len(columns)]
        statement = f"INSERT INTO job ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        # Without the lock: this must work for those who may not even read the counter.
        self._read(lambda: self._run(statement, values))

    # --- the connection ---

    def _begin(self) -> None:
        self._connection.begin()
        # A locking read: what is read after it, in this transaction, is as new as the lock.
        self._rows("SELECT arrival FROM counter WHERE id = 1 FOR UPDATE")

    def _undone(self, error: BaseException) -> bool:
        return _number(error) in _TRY_AGAIN

    def _ready(self) -> None:
        self._left_s()
        idle = time.monotonic() - self._used
        self._used = time.monotonic()
        if self._connection is not None:
            self._connection.until(self.deadline)
            try:
                if idle >= _IDLE_S:
                    self._connection.ping(reconnect=False)
                return
            except Exception as error:
                # The server closes connections that are idle for long, and all of them when it restarts.
                failure = self._failure(error)
                self.close()
                if time.monotonic() >= self.deadline:
                    raise failure from None
        try:
            self._connection = self._reach()
            for statement in _SESSION:
                self._run(statement)
            self._check_layout()
            self._connection.until(self.deadline)
        except Exception as error:
            failure = self._failure(error)
            self.close()
            raise failure from None

    def _reach(self) -> Connection:
        """A connection to the database, which is created if it is not there."""
        try:
            return connect(self._target, self.deadline, self._database)
        except ConnectFailed as failure:
            if _NO_DATABASE not in failure.message:
                raise
        connection = self._connection = connect(self._target, self.deadline)
        self._change_layout(f"CREATE DATABASE IF NOT EXISTS `{self._database}` CHARACTER SET utf8mb4")
        connection.select_db(self._database)
        return connection

    def _check_layout(self) -> None:
        """Sees to it that the tables are there, in this version's layout; many may try at once."""
        version = 0
        try:
            rows = self._rows("SELECT version FROM schema_version WHERE id = 1")
            version = int(rows[0][0]) if rows else 0
        except Exception as error:
            self.readable = _number(error) not in _NO_SELECT
            if not self.readable:
                return
            if _number(error) != _NO_TABLE:
                raise
        if version > self.version:
            raise self._too_new(version)
        try:
            steps = FROM_FIRST_RELEASE if version else SCHEMA
            for statement in steps if version < self.version else ():
                self._change_layout(statement)
        except Exception as error:
            if _number(error) not in _MAY_NOT:
                raise
            what = (
                f"has tables of an older version ({version}), and this account may not change them"
                if version
                else "has no tables of this version yet, and this account may not create them"
            )
            raise self._wrong(
                f"{what}: {self._said(error)}: run `delayed-repl history prune --future --timeout 1h`"
                " once on this --history with an account that may CREATE, ALTER and UPDATE there"
            ) from None

    def _change_layout(self, statement: str) -> None:
        """Without a word on what is there already: somebody else may be at it, or was killed half-way."""
        try:
            self._run(statement)
        except Exception as error:
            too_old = statement == KEYS_OF_ITS_OWN and _number(error) == _SYNTAX
            if _number(error) != _ADDED_BEFORE and not too_old:
                raise

    def _said(self, error: BaseException) -> str:
        """The server's words, without our password."""
        text = str(error.args[-1]) if error.args else type(error).__name__
        return scrubbed(text, self._connection.secret if self._connection is not None else "")

    def _unavailable(self, error: BaseException) -> HistoryUnavailable:
        where = f"history {self.name}"
        connection = self._connection
        number = _number(error)
        what = self._said(error)
        if connection is None or not connection.open or number is None:
            self.close()
        if isinstance(error, ConnectFailed) and connection is None:
            return HistoryUnavailable(f"{where}: {error.message}")
        if isinstance(error, ConnectFailed) and error.condition == "timeout":
            return HistoryUnavailable(f"{where}: no answer until the deadline: see what its server is busy with")
        if isinstance(error, ConnectFailed):
            return HistoryUnavailable(f"{where}: the connection was lost: see whether its server runs")
        return HistoryUnavailable(f"{where}{_CAUSES.get(number or 0, ' cannot be used: {}').format(what)}")

    # --- what a server of others' writers needs ---

    def _stamped(self, samples: list[tuple[str, Sample]]) -> list[tuple[str, Sample]]:
        now, here = float(self._rows(_NOW)[0][0]), time.time()

        def stamped(sample: Sample) -> Sample:
            age = here - sample.t
            return sample._replace(t=round(now - age, 6) if 0 <= age <= _LATE_S else now)

        return [(replica, stamped(sample)) for replica, sample in samples]

    def _adopt(self, arrival: int, names: Sequence[str]) -> int:
        rest = self._rows("SELECT seq FROM job WHERE arrival IS NULL ORDER BY seq LIMIT ?", (_ADOPTED_AT_ONCE,))
        if not rest:
            return arrival
        # Each name has its share, so that a flood under one of them delays none of the others.
        share = max(_SHARE, _ADOPTED_AT_ONCE // max(1, len(names)))
        of_name = "(SELECT seq FROM job WHERE replica = ? AND arrival IS NULL ORDER BY seq LIMIT ?)"
        own: list[codec.Row] = []
        for first in range(0, len(names), _NAMES_AT_ONCE):
            some = names[first : first + _NAMES_AT_ONCE]
            values = [value for name in some for value in (codec.name(name), share)]
            own += self._rows(" UNION ALL ".join([of_name] * len(some)), values)
        waiting = list(dict.fromkeys([*sorted(own), *rest]))[: max(_ADOPTED_AT_ONCE, len(own))]
        numbered = [(seq, arrival + place) for place, (seq,) in enumerate(waiting, 1)]
        for first in range(0, len(numbered), _ADOPTED_AT_ONCE):
            part = numbered[first : first + _ADOPTED_AT_ONCE]
            self._run(
                f"UPDATE {_line_by_line(part)} SET job.arrival = given.arrival, job.t = UNIX_TIMESTAMP(NOW(6))",
                [value for pair in part for value in pair],
            )
        return arrival + len(numbered)

    def _delete_jobs(self, arrivals: Sequence[int]) -> None:
        some = self._rows(f"SELECT seq, arrival FROM job WHERE arrival IN ({codec.numbers(arrivals)})")
        if some:
            self._run(f"DELETE job FROM {_line_by_line(some)}", [value for pair in some for value in pair])

    def _chosen(self, names: Sequence[str], ids: Sequence[str]) -> tuple[str, list[str]]:
        statement, values = super()._chosen(names, ids)
        # These servers leave blanks at the end out when they compare text.
        exact = re.sub(r"(replica|id) IN", r"CAST(\1 AS BINARY) IN", statement)
        return statement + exact, values * 2

    def _waiting(self, names: Sequence[str], after: int, ids: Sequence[str]) -> list[codec.Row]:
        chosen, values = self._chosen(names, ids)
        columns = codec.JOB_COLUMNS.replace("t,", "COALESCE(t, UNIX_TIMESTAMP(NOW(6))) + 0E0,", 1)
        return self._select(
            f"SELECT seq, replica, {columns} FROM job WHERE {chosen}(arrival IS NULL OR arrival > ?)"
            " ORDER BY arrival IS NULL, arrival, seq LIMIT ?",
            (*values, after, _ADOPTED_AT_ONCE),
        )


def _line_by_line(some: Sequence[object]) -> str:
    """Job lines by their primary keys, each with its arrival: none that is not committed yet can be in the way."""
    given = " UNION ALL ".join(["SELECT ? AS seq, ? AS arrival"] + ["SELECT ?, ?"] * (len(some) - 1))
    return f"({given}) AS given STRAIGHT_JOIN job FORCE INDEX (PRIMARY) ON job.seq = given.seq"


def _number(error: BaseException) -> int | None:
    """Of an error that the server answered with; None for any other."""
    return error.number if isinstance(error, Refused) else None


def parse_url(url: str) -> tuple[Target, str, str]:
    """Target, database and printable name of a `mysql://` URL. Raises HistoryUnavailable, never quoting the URL."""
    from urllib.parse import parse_qsl, unquote, urlsplit

    wrong = HistoryUnavailable(
        f"the history's URL is not of the form {URL_FORM} (special characters in it must be percent-encoded)"
    )
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise wrong from None
    database = unquote(parts.path.removeprefix("/"))
    if parts.fragment or not re.fullmatch(r"[\w$-]{1,64}", database):
        raise wrong
    if re.search(r"[:@;,\s/]", unquote(parts.username or "")):
        raise wrong  # a password in the wrong place, more likely than a user of such a name
    options: dict[str, str] = {}
    for key, value in query:
        if key not in ("defaults-file", "defaults-group", "socket", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key"):
            shown = key if re.fullmatch(r"[a-z-]{1,30}", key) else "an option"
            raise HistoryUnavailable(f"the history's URL has {shown}, which is not known: its form is {URL_FORM}")
        options[key.replace("-", "_")] = value
    if "ssl_mode" in options:
        options["ssl_mode"] = options["ssl_mode"].lower().replace("_", "-")
        if options["ssl_mode"] not in SSL_MODES:
            raise HistoryUnavailable(f"the history's URL has an ssl-mode that is none of {', '.join(SSL_MODES)}")
    target = Target(
        host=unquote(parts.hostname) if parts.hostname else None,
        port=port,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password is not None else None,
        **options,  # type: ignore[arg-type]
    )
    user, at, host = parts.netloc.rpartition("@")
    return target, database, f"mysql://{user.partition(':')[0]}{at}{host}/{database}"
