"""What a replica says of itself, as far as a rescue must know it: read in a few statements, nothing is changed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from check_delayed_repl.observe.connection import SESSION_TIMES, Answer, ask, connect
from check_delayed_repl.observe.dialect import Dialect, by_gtid, not_understood, quoted, rows_of
from check_delayed_repl.observe.failures import ConnectFailed, Refused
from check_delayed_repl.observe.target import Target
from check_delayed_repl.records import HELD_S
from check_delayed_repl.rescue.relaylog import NOWHERE, SMALL_PAGE, Place, Row, TooMuch, Unreadable
from check_delayed_repl.words import one_line

if TYPE_CHECKING:
    from check_delayed_repl.observe.wire import Connection

KEPT_BYTES = 16384
"""Of an event's row: its statement may be as large as the server takes."""
NO_SUCH_FILE = 1220
_SESSION = (
    "SET SESSION time_zone = '+00:00', sql_mode = '', autocommit = 1, sql_select_limit = 18446744073709551615,"
    " character_set_results = NULL, lock_wait_timeout = 60, completion_type = 0" + SESSION_TIMES
)
"""MariaDB would put a `?` into a statement of a client with another character set."""


class Gtids(NamedTuple):
    """A set of GTIDs: MySQL's `uuid:1-5:7, …`, or of MariaDB's `0-1-57, …` everything up to these."""

    intervals: dict[str, tuple[tuple[int, int], ...]]

    @classmethod
    def of(cls, text: str) -> Gtids:
        """Raises ValueError."""
        found: dict[str, tuple[tuple[int, int], ...]] = {}
        for part in filter(None, re.split(r"[,\s]+", text.strip())):
            if re.fullmatch(r"\d+-\d+-\d+", part):
                stream, _, last = part.rpartition("-")
                found[stream] = ((0, int(last)),)
                continue
            stream, *rest = part.lower().split(":")
            prefix = stream
            for piece in rest:
                if not piece[0].isdigit():
                    stream = f"{prefix}:{piece}"
                    continue
                first, _, last = piece.partition("-")
                found[stream] = (*found.get(stream, ()), (int(first), int(last or first)))
        return cls(found)

    def has(self, gtid: str) -> bool:
        stream, number = _parted(gtid)
        return number.isdecimal() and any(
            first <= int(number) <= last for first, last in self.intervals.get(stream, ())
        )

    def knows(self, gtid: str) -> bool:
        """Whether it has anything of the same server."""
        return _parted(gtid)[0] in self.intervals


def _parted(gtid: str) -> tuple[str, str]:
    stream, _, number = gtid.lower().rpartition(":" if ":" in gtid else "-")
    return stream, number


class Channel(NamedTuple):
    """The replication status of one channel."""

    name: str
    io: str
    """Yes, No, Connecting or Preparing."""
    sql: str
    io_errno: int
    io_error: str
    sql_errno: int
    sql_error: str
    source: str
    """`host:port`."""
    source_id: int
    relay: Place
    """How far the relay log has been applied."""
    applied: Place
    """The same in the source's binary log. MariaDB shows the fetched place here once a relay log place was set."""
    fetched: Place
    delay: int
    until: Place | None
    """Where the running SQL thread is to stop by itself, in the relay log."""
    gtid: bool
    """The channel asks its source by GTID, not by file and position."""
    tries_left: int | None
    """How often the IO thread will try to reach its source before it gives up; None where it does not say."""
    relay_space: int
    alone: bool = True
    """There is no other channel on this server."""
    events: int | None = None
    """How many the SQL thread has executed since the server was started, where it says (MariaDB)."""
    filters: str = ""
    """What is not applied here, as the status has it."""
    renamed: str = ""
    """Databases that are applied under another name: MariaDB's `app->shop,…`, MySQL's `(app,shop),…`."""

    @property
    def io_lives(self) -> bool:
        """The IO thread runs, and will not end in the moment that a statement takes."""
        return self.io != "No" and (self.tries_left is None or self.tries_left >= 2)


class State(NamedTuple):
    """The server, and one channel of it."""

    version: str
    identity: str
    server_id: int
    now: float
    """The server's clock, seconds since 1970."""
    channel: Channel
    executed: Gtids
    """What has been applied: MySQL's executed set, MariaDB's binary log state. Empty where there is none."""
    slave_pos: Gtids
    """MariaDB's gtid_slave_pos, else empty."""
    stays_stopped: bool | None
    """Whether replication stays stopped after a restart; None where the server does not tell (MariaDB)."""
    may_persist: bool
    """Whether this server can be made to stay stopped after a restart, by this account."""
    rights: frozenset[str] | None
    """The account's rights on everything; None where they cannot be told."""
    ahead: Place | None = None
    """Without GTIDs: how far in the source's log parallel appliers have left gaps; without a file: not known."""

    @property
    def say(self) -> Dialect:
        """How to talk to this channel."""
        return Dialect(self.version, self.channel.name, not self.channel.alone)

    @property
    def mariadb(self) -> bool:
        return self.say.mariadb

    @property
    def stuck(self) -> bool:
        """The IO thread has stopped with an error, and starting it would not last."""
        channel = self.channel
        return channel.io == "No" and bool(channel.io_errno) and channel.tries_left is None

    @property
    def pins(self) -> bool:
        """CHANGE keeps the relay log only where it names a place in it, with both threads stopped."""
        return self.say.needs_place or self.stuck

    @property
    def put_back(self) -> bool:
        """By GTIDs of several domains: MariaDB's STOP puts the place back to the beginning of a relay log, and
        remembers what was applied last of each."""
        return self.mariadb and self.channel.gtid and len(self.slave_pos.intervals) > 1

    @property
    def restarted(self) -> bool:
        """...and since a restart it remembers nothing."""
        return self.put_back and self.channel.events == 0

    def changes_server_at(self, gtid: str) -> bool:
        """Whether what was applied last of this GTID's domain is of another server."""
        domain = f"{gtid.partition('-')[0]}-"
        return not self.slave_pos.knows(gtid) and any(one.startswith(domain) for one in self.slave_pos.intervals)

    @property
    def held(self) -> bool:
        return self.channel.delay == HELD_S

    def lacks(self, *rights: str) -> list[str]:
        """Those of these that the account has not, as far as that can be told."""
        if self.rights is None or {"ALL PRIVILEGES", "SUPER"} & self.rights:
            return []
        return sorted(set(rights) - self.rights)


class Session:
    """The connection of one command. `timeout` is how long the server may take for one answer, in seconds."""

    connection: Connection

    def __init__(self, target: Target, timeout: float) -> None:
        self.target, self.timeout = target, timeout
        self.version = ""
        """What the server calls itself; empty before the first connection."""

    @property
    def say(self) -> Dialect:
        """How to talk to this server."""
        return Dialect(self.version)

    def connect(self) -> None:
        """Begins anew. Raises SampleFailed and OptionFileError; and Refused where there is a connection, but not all of
        the session is as we want it."""
        self.connection = connect(self.target, time.monotonic() + self.timeout, raw=True)
        self.version = self.connection.server_version
        # A proxy greets with a version of its own.
        self.version = self.value("SELECT VERSION()", "asking for its version") or self.version
        self.ask(_SESSION, "preparing the session")

    def ask(self, sql: str, purpose: str, patience: float = 0.0) -> Answer:
        """Raises Refused, or SampleFailed where there is no answer within the timeout or `patience`."""
        budget = max(self.timeout, patience)
        self.connection.until(time.monotonic() + budget)
        return ask(self.connection, sql, purpose)

    def rows(self, sql: str, purpose: str) -> list[dict[str, str]]:
        return rows_of(self.ask(sql, purpose))

    def events(self, sql: str, limit: int) -> list[Row]:
        """Rows whose last value may be of any size, cut to what is of use. Raises TooMuch where many are large: the
        server sends them under a lock."""
        connection = self.connection
        connection.until(time.monotonic() + self.timeout)
        if limit <= SMALL_PAGE:
            connection.bytes_left = 1 << 62
        connection.keep = KEPT_BYTES
        try:
            return list(ask(connection, sql, "reading the relay log").rows)
        except ConnectFailed as failure:
            if limit > SMALL_PAGE and failure.kind == "flood":
                self.connect()
                raise TooMuch from None
            raise
        finally:
            connection.keep = None

    def value(self, sql: str, purpose: str) -> str | None:
        rows = self.ask(sql, purpose).rows
        return None if not rows or rows[0][0] is None else rows[0][0].decode("utf-8", "replace")

    def variable(self, name: str) -> str | None:
        """A global variable; None where the server does not know it."""
        try:
            return self.value(f"SELECT @@GLOBAL.{name}", f"reading {name}") or ""
        except Refused:
            return None

    def close(self) -> None:
        if self.version:
            self.connection.close()


def channels(session: Session) -> list[Channel]:
    """Every channel. Raises Refused and SampleFailed."""
    say = session.say
    statement = "SHOW ALL SLAVES STATUS" if say.mariadb else f"SHOW {say.replica} STATUS"
    rows = session.rows(statement, "reading the replication status")
    return [_channel(row)._replace(alone=len(rows) == 1) for row in rows]


def named(every: list[Channel], name: str | None) -> list[Channel]:
    """Those that `name` means, as a server takes it; all where it is None."""
    return [one for one in every if name is None or one.name.lower() == name.lower()]


def _channel(row: dict[str, str]) -> Channel:
    tries = re.search(r"(?:attempt|retries:?) (\d+)(?:/(\d+))?", row.get("last_io_error", ""))
    last = int((tries[2] if tries else "") or row.get("source_retry_count") or 0)
    until = Place(row.get("until_log_file", ""), _int(row.get("until_log_pos")))
    return Channel(
        name=row.get("channel_name") or row.get("connection_name") or "",
        io=row["replica_io_running"],
        sql=row["replica_sql_running"],
        io_errno=_int(row.get("last_io_errno")),
        io_error=row.get("last_io_error", ""),
        sql_errno=_int(row.get("last_sql_errno")),
        sql_error=row.get("last_sql_error", ""),
        source=f"{row['source_host']}:{row['source_port']}",
        source_id=_int(row.get("source_server_id")),
        relay=Place(row["relay_log_file"], _int(row["relay_log_pos"])),
        applied=Place(row["relay_source_log_file"], _int(row["exec_source_log_pos"])),
        fetched=Place(row["source_log_file"], _int(row["read_source_log_pos"])),
        delay=_int(row.get("sql_delay")),
        until=until if row.get("until_condition") == "Relay" and row["replica_sql_running"] != "No" else None,
        gtid=by_gtid(row),
        tries_left=last - int(tries[1]) if tries and last and row["replica_io_running"] != "Yes" else None,
        relay_space=_int(row.get("relay_log_space")),
        events=_int(row["executed_log_entries"]) if "executed_log_entries" in row else None,
        filters="; ".join(
            f"{name} {value}"
            for name, value in row.items()
            if value and re.fullmatch("replicate_(?!rewrite).*(db|table)", name)
        ),
        renamed=row.get("replicate_rewrite_db", ""),
    )


def _int(value: str | None) -> int:
    return int(value) if value and value.isdecimal() else 0


def identity(session: Session) -> str:
    """What changes when another server answers under the same name. Raises SampleFailed."""
    variable = session.variable
    server_id, port = variable("server_id") or "0", variable("port") or "0"
    if not session.say.mariadb:
        return f"uuid:{variable('server_uuid') or server_id}"
    uid = variable("server_uid")
    return f"uid:{uid}/{server_id}/{port}" if uid and uid != "unknown" else f"id:{server_id}/{port}"


def read(session: Session, channel: Channel) -> State:
    """The server's state with `channel` in it. Raises Refused and SampleFailed."""
    variable = session.variable
    mariadb, numbers = session.say.mariadb, session.say.numbers
    executed = variable("gtid_binlog_state" if mariadb else "gtid_executed") or ""
    rights = _rights(session)
    stays, may_persist = None if mariadb else False, False
    if not mariadb and numbers >= (8, 0, 0):
        skip = f"skip_{in_variables(numbers)}_start"
        stays = variable(skip) == "1"
        if variable("persisted_globals_load") == "1":
            # What was persisted at the start and has been taken back since holds no longer than this run of the server.
            kept = (
                "SELECT IF(VARIABLE_SOURCE = 'PERSISTED' AND VARIABLE_VALUE IS NULL, 'OFF', VARIABLE_VALUE)"  # noqa: S608
                " FROM performance_schema.variables_info LEFT JOIN performance_schema.persisted_variables"
                f" USING (VARIABLE_NAME) WHERE VARIABLE_NAME = '{skip}'"
            )
            with suppress(Refused):
                stays = (session.value(kept, "reading what is persisted") or str(stays)).upper() in ("ON", "TRUE")
            needed = {"SYSTEM_VARIABLES_ADMIN", "PERSIST_RO_VARIABLES_ADMIN"}
            may_persist = rights is None or "ALL PRIVILEGES" in rights or needed <= rights
    clock = session.value("SELECT UNIX_TIMESTAMP(SYSDATE(6))", "reading its clock")
    try:
        now, applied = float(clock or 0), Gtids.of(executed)
    except ValueError as error:
        raise not_understood(one_line(str(error), 100)) from None
    return State(
        version=session.version,
        identity=identity(session),
        server_id=_int(variable("server_id")),
        now=now,
        channel=channel,
        executed=applied,
        slave_pos=Gtids.of(variable("gtid_slave_pos") or "" if mariadb else ""),
        stays_stopped=stays,
        may_persist=may_persist,
        rights=rights,
        ahead=_ahead(session, channel),
    )


def _ahead(session: Session, channel: Channel) -> Place | None:
    if session.say.mariadb or channel.sql != "No" or session.variable("gtid_mode") == "ON":
        return None
    of_channel = "" if session.say.needs_place else f" WHERE channel_name = {quoted(channel.name)}"
    sql = f"SELECT master_log_name AS file, master_log_pos AS pos FROM mysql.slave_worker_info{of_channel}"  # noqa: S608
    rows = None
    with suppress(Refused):
        rows = session.rows(sql, "asking how far the appliers have got")
    if rows is None or session.variable("relay_log_info_repository") == "FILE":
        word = in_variables(session.say.numbers)
        several = _int(session.variable(f"{word}_parallel_workers")) > 1
        return NOWHERE if several and session.variable(f"{word}_preserve_commit_order") != "1" else None
    furthest = max((Place(row["file"], _int(row["pos"])) for row in rows), key=lambda one: one.order, default=NOWHERE)
    return furthest if furthest.order > channel.applied.order else None


def in_variables(numbers: tuple[int, int, int]) -> str:
    """What a MySQL of this version calls itself in the names of variables."""
    return "replica" if numbers >= (8, 0, 26) else "slave"


def _rights(session: Session) -> frozenset[str] | None:
    """The account's rights on everything, its roles' where they are active."""
    try:
        answer = session.ask("SHOW GRANTS", "reading its own grants")
    except Refused:
        return None
    rights: set[str] = set()
    for row in answer.rows:
        found = re.match(r"GRANT (.*?) ON \*\.\* TO ", (row[0] or b"").decode("utf-8", "replace"))
        rights |= set(found[1].split(",") if found else ())
    return frozenset(right.strip() for right in rights)


def pager(session: Session, channel: str) -> Callable[[str, int, int, int], list[Row] | None]:
    """What a relaylog.Reader reads pages with."""
    # Without its name MariaDB shows no event of a named connection, and no error.
    say = Dialect(session.version, channel, named=True)

    def page(file: str, pos: int, skip: int, limit: int) -> list[Row] | None:
        sql = f"SHOW RELAYLOG{say.before} EVENTS IN {quoted(file)} FROM {pos} LIMIT {skip}, {limit}{say.behind}"
        try:
            return session.events(sql, limit)
        except Refused as error:
            if error.number != NO_SUCH_FILE:
                raise
            if "find target log" in error.text:
                return None
            raise Unreadable(error.number, error.text) from None

    return page
