"""What waits in a replica's relay log, read through SHOW RELAYLOG EVENTS: transactions, one after the other.

The server holds a lock while it answers, so events are asked for in pages, as many as take a quarter of a second. A
page is cut where a transaction begins: the events inside a compressed one (MySQL) all show the same place, that of
the event behind it, and to read on from there would lose those that the page did not hold.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from check_delayed_repl.observe.failures import Refused
from check_delayed_repl.rescue import statements
from check_delayed_repl.rescue.statements import KINDS, Effect

SMALLEST_PAGE, SMALL_PAGE, FIRST_PAGE, MAX_PAGE = 2, 20, 500, 20_000
"""Events. A small page is read whatever the size of its statements."""
PAGE_S = 0.25
PAGE_BYTES = 2 << 20
KEPT_TEXT = 4096
"""Characters of a statement that are kept."""

Row = tuple[bytes | None, ...]
"""Log_name, Pos, Event_type, Server_id, End_log_pos, Info: as the server sends them."""
Page = Callable[[str, int, int, int], list[Row] | None]
"""(file, from position, events to skip, limit) → events; None where there is no such file."""


class TooMuch(Exception):
    """A page whose statements are too large to be read together."""


class Unreadable(Refused):
    """The server cannot read a file of its own relay log: after a crash, one may be empty or end within an event."""


class Place(NamedTuple):
    """A place in the relay log, or in the source's binary log."""

    file: str
    pos: int

    def __str__(self) -> str:
        return f"{self.file}:{self.pos}"

    @property
    def order(self) -> tuple[int, int]:
        """Sorts the places of one log, whose files are numbered."""
        number = self.file.rpartition(".")[2]
        return (int(number) if number.isdecimal() else 0, self.pos)


NOWHERE = Place("", 0)


@dataclass(slots=True)
class Transaction:
    """One transaction of the relay log, or what is there of it."""

    gtid: str | None
    relay: Place
    """Its first byte in the relay log."""
    source: Place
    """Its first byte in the source's binary log."""
    end: Place = NOWHERE
    """Behind its last byte in the relay log."""
    source_end: Place = NOWHERE
    kind: str = "other"
    """One of statements.KINDS, the most destructive of what it does."""
    destructive: bool = False
    tables: dict[str, None] = field(default_factory=dict)
    """Their names, in order."""
    events: int = 0
    size: int = 0
    """Bytes in the relay log."""
    statement: str | None = None
    """Its most destructive statement, where the log has the text. Not masked."""
    whole: bool = False
    """False where its end is missing: it is still being fetched, or the connection broke in the middle of it."""
    beats: int = 0
    """How many heartbeats of the source wait before it."""
    beat_ts: str | None = None
    """What the last heartbeat before it says, where the log has the text."""
    framed: bool = False
    """It goes on until a COMMIT."""
    packed: bool = False
    """It is compressed."""
    announces: bool = False
    """The first half of an ALTER in two, or one that is taken back: without the second half it changes nothing."""
    text: str | None = None
    """The statement that the row events being read are of."""

    @property
    def name(self) -> str:
        """Its GTID, else its place in the source's binary log."""
        return self.gtid or str(self.source)

    def named(self, target: str) -> bool:
        """Whether `target` names it: by its GTID, or by its place in the source's binary log."""
        return target.lower() == (self.gtid or "").lower() or target == str(self.source)

    def add(self, effect: Effect, statement: str | None) -> None:
        """Something else that it does."""
        self.tables.update(dict.fromkeys(effect.tables))
        new, mine = _rank(effect.destructive, effect.kind), _rank(self.destructive, self.kind)
        if new < mine:
            self.kind, self.destructive, self.statement = effect.kind, effect.destructive, statement
        elif new == mine:
            self.statement = self.statement or statement


def _rank(destructive: bool, kind: str) -> tuple[bool, int]:
    """The most destructive first."""
    return (not destructive, KINDS.index(kind))


_CONTROL = frozenset(
    b"Format_desc Previous_gtids Gtid_list Binlog_checkpoint Rotate Stop Heartbeat Heartbeat_v2 Start_encryption"
    b" Start_v3 Ignorable Incident Unknown".split()
)
_ROWS = {b"Write_rows": "insert", b"Update_rows": "update", b"Partial_up": "update", b"Delete_rows": "delete"}
_QUERIES = (b"Query", b"Execute_load_query")
_STATEMENTS = (b"Annotate_rows", b"Rows_query")
_GTID = re.compile(rb"GTID_NEXT= '(.*:.*)'|\bGTID (\d+-\d+-\d+)")
_ANNOUNCES = re.compile(rb" (?:START|ROLLBACK) ALTER\b")
_TABLE = re.compile(rb"\((.*)\)\Z", re.DOTALL)
_TS = re.compile(r"'(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?)'")


def _is_start(kind: bytes | None) -> bool:
    """Whether an event of this kind begins a transaction; without GTIDs (MySQL 5.6) there is none."""
    return kind is not None and kind.startswith((b"Gtid", b"Anonymous_Gtid")) and kind != b"Gtid_list"


class Reader:
    """Reads transactions, with one page in memory and one transaction.

    `server_id` is the replica's own; `source` the source's binary log at the place where reading is to start, as far as
    the status tells; `heartbeat_table` is `DB.TABLE`.
    """

    def __init__(self, page: Page, server_id: int, source: Place, heartbeat_table: str) -> None:
        self._page = page
        self._limit = FIRST_PAGE
        self._own_id = str(server_id).encode()
        self._source = source
        self._heartbeats = heartbeat_table.lower()
        self._open: Transaction | None = None
        self._prepared: dict[bytes, Transaction] = {}
        """By the name that its XA COMMIT, a transaction of its own, has too."""
        self._beats = 0
        self._beat_ts: str | None = None
        self._next: str | None = None
        self.end = NOWHERE
        """How far the relay log has been read: at last its end."""
        self.broken = ""
        """Why it could not be read to its end."""

    def transactions(self, start: Place) -> Iterator[Transaction]:
        """Everything from `start` on, which must be the place of an event, to the end of the relay log."""
        file: str | None = start.file
        pos = start.pos
        self.end = start
        if pos > 4:
            for row in self._page(start.file, 4, 0, 8) or ():
                self._control(row, row[2] or b"")
        while file is not None:
            self._next = None
            rows, full = self._fetch(file, pos, 0)
            if rows is None or (pos == 4 and not rows):
                break  # behind a RESET, MySQL shows any file as an empty one
            yield from self._file(file, pos, rows, full)
            if self._open is not None:
                self._open.size += self.end.pos - (self._open.relay.pos if self._open.relay.file == file else 4)
            file, pos = None if self.broken else self._next or _following(file), 4
        if self._open is not None:
            yield self._close(self.end, whole=False)

    def _fetch(self, file: str, pos: int, skip: int) -> tuple[list[Row] | None, bool]:
        """A page, and whether there may be more. Its limit follows from what the last one took."""
        limit, began = self._limit, time.monotonic()
        try:
            rows = self._page(file, pos, skip, limit)
        except TooMuch:
            self._limit = max(SMALL_PAGE, limit // 8)
            return self._fetch(file, pos, skip)
        except Unreadable as error:
            if limit > SMALLEST_PAGE:
                self._limit = max(SMALLEST_PAGE, limit // 8)
                return self._fetch(file, pos, skip)
            self.broken = f"{file} cannot be read behind {pos}, and neither can what follows it: {error.text}"
            with suppress(Unreadable):
                return self._page(file, pos, skip, 1) or [], False
            return [], False
        if rows is None or len(rows) < limit:
            return rows, False
        took = max(time.monotonic() - began, 1e-3)
        size = sum(len(row[5] or b"") for row in rows) + 40 * limit
        self._limit = max(SMALLEST_PAGE, min(MAX_PAGE, int(limit * min(4, PAGE_S / took, PAGE_BYTES / size))))
        return rows, True

    def _file(self, file: str, pos: int, rows: list[Row], full: bool) -> Iterator[Transaction]:
        """The transactions that end in one file, whose first page is there."""
        skip = 0
        while full:
            first = 0 if skip else 1
            cut = next((at for at in range(len(rows) - 1, first - 1, -1) if _is_start(rows[at][2])), None)
            packed = (self._open and self._open.packed) or any(row[2] == b"Transaction_payload" for row in rows)
            if cut is None and packed:
                # Its events have no places of their own: they are counted from where the transaction begins.
                yield from self._take(file, rows, None)
                skip += len(rows)
            else:
                cut = len(rows) - 1 if cut is None else cut
                yield from self._take(file, rows[:cut], rows[cut])
                pos, skip = _int(rows[cut][1]), 0
            more, full = self._fetch(file, pos, skip)
            rows = more or []
        yield from self._take(file, rows, None)

    def _take(self, file: str, rows: list[Row], following: Row | None) -> Iterator[Transaction]:
        """Takes events in; `following` is the one behind them, where it is known."""
        for at, row in enumerate(rows):
            kind = row[2] or b""
            pos, end = _int(row[1]), _int(row[4])
            behind = rows[at + 1] if at + 1 < len(rows) else following
            packed = self._open is not None and self._open.packed and not _is_start(kind)
            self.end = Place(file, _int(behind[1]) if behind else pos if packed else pos + self._length(row, end))
            if kind in _CONTROL:
                self._control(row, kind)
                continue
            if _is_start(kind):
                if self._open is not None:
                    yield self._close(Place(file, pos), whole=False)
                self._begin(row, kind, Place(file, pos), end)
            else:
                if self._open is None:
                    self._begin(row, kind, Place(file, pos), end)
                self._event(row, kind)
            if end and row[3] != self._own_id:
                self._source = Place(self._source.file, end)
            if self._open is not None and self._over(row, kind):
                yield self._close(self.end, whole=True)

    def _length(self, row: Row, end: int) -> int:
        """Of an event that no other one follows yet."""
        if row[3] == self._own_id:
            return end - _int(row[1])
        return max(0, end - self._source.pos) if end else 0

    def _control(self, row: Row, kind: bytes) -> None:
        if kind == b"Rotate":
            file, _, pos = (row[5] or b"").decode("utf-8", "replace").partition(";pos=")
            if row[3] == self._own_id:
                self._next = file
            elif self._source.file != file:
                self._source = Place(file, int(pos) if pos.isdecimal() else 4)

    def _begin(self, row: Row, kind: bytes, place: Place, end: int) -> None:
        info = row[5] or b""
        gtid = None
        if _is_start(kind) and (found := _GTID.search(info)):
            gtid = (found[1] or found[2]).decode("ascii", "replace")
        # The place at its end and its length are sure, whatever events the source has not sent before it.
        begins = end - (self.end.pos - place.pos) if self.end.pos > place.pos else self._source.pos
        self._open = Transaction(gtid, place, Place(self._source.file, begins), events=int(_is_start(kind)))
        self._open.framed = info.startswith((b"BEGIN", b"XA START"))
        self._open.announces = _ANNOUNCES.search(info) is not None

    def _event(self, row: Row, kind: bytes) -> None:
        open_ = self._open
        assert open_ is not None
        open_.events += 1
        for prefix, does in _ROWS.items():
            if kind.startswith(prefix):
                open_.add(Effect(does, (), does in ("delete", "update")), open_.text)
                return
        info = row[5] or b""
        if kind == b"Table_map":
            if found := _TABLE.search(info):
                open_.tables[found[1].decode("utf-8", "replace")] = None
        elif kind.startswith(_QUERIES):
            if info.startswith((b"BEGIN", b"XA START")):
                open_.framed = True
                return
            text = info.decode("utf-8", "replace")
            effect = statements.effect(text)
            if prepared := self._prepared.pop(info.removeprefix(b"XA COMMIT "), None):
                open_.add(Effect(prepared.kind, tuple(prepared.tables), prepared.destructive), prepared.statement)
            elif effect is not None:
                open_.add(effect, statements.split(text)[1][:KEPT_TEXT])
        elif kind in _STATEMENTS:
            open_.text = info[:KEPT_TEXT].decode("utf-8", "replace").removeprefix("# ")  # MySQL shows it as a comment
        elif kind == b"Transaction_payload":
            open_.packed = True
        elif kind == b"XA_prepare":
            self._prepared[info.removeprefix(b"XA PREPARE ")] = open_

    def _over(self, row: Row, kind: bytes) -> bool:
        """Whether the open transaction ends with this event."""
        if kind in (b"Xid", b"XA_prepare"):
            return True
        if not kind.startswith(b"Query"):
            return False
        info = row[5] or b""
        if self._open is not None and self._open.framed:
            return info.startswith((b"COMMIT", b"ROLLBACK")) and not info.startswith(b"ROLLBACK TO")
        return True

    def _close(self, end: Place, whole: bool) -> Transaction:
        done, self._open = self._open, None
        assert done is not None
        done.end, done.source_end, done.whole = end, self._source, whole
        done.size += end.pos - (done.relay.pos if end.file == done.relay.file else 4)
        done.beats, done.beat_ts = self._beats, self._beat_ts
        done.destructive = done.destructive and not done.announces
        if list(map(str.lower, done.tables)) == [self._heartbeats] and done.kind in ("insert", "update"):
            done.destructive = False
            if whole:
                self._beats += 1
                if found := _TS.search(done.statement or ""):
                    self._beat_ts = found[1]
        return done


def next_start(page: Page, place: Place) -> Place | None:
    """Where the first transaction at `place` or behind it begins; None where none waits."""
    file: str | None = place.file
    pos = place.pos
    while file is not None and (rows := page(file, pos, 0, 20)) is not None and (rows or pos > 4):
        for row in rows:
            if row[2] not in _CONTROL:
                return Place(file, _int(row[1]))
        file, pos = (file, _int(rows[-1][1])) if len(rows) == 20 else (_following(file), 4)
    return None


def begins_at(page: Page, wanted: Transaction) -> bool:
    """Whether this very transaction begins at exactly its place in the relay log: read anew."""
    rows = page(wanted.relay.file, wanted.relay.pos, 0, 2) or []
    if not rows or _int(rows[0][1]) != wanted.relay.pos:
        return False
    if wanted.gtid:
        found = _GTID.search(rows[0][5] or b"")
        return _is_start(rows[0][2]) and bool(found and (found[1] or found[2]).decode() == wanted.gtid)
    end = _int(rows[1][1]) if len(rows) > 1 else wanted.end.pos  # the last event of all, and all of the transaction
    return _int(rows[0][4]) - (end - wanted.relay.pos) == wanted.source.pos


def _int(value: bytes | None) -> int:
    return int(value) if value and value.isdigit() else 0


def _following(file: str) -> str | None:
    """The file behind this one, where the log does not name it: the server was killed while it wrote."""
    stem, dot, number = file.rpartition(".")
    return f"{stem}.{int(number) + 1:0{len(number)}}" if dot and number.isdecimal() else None
