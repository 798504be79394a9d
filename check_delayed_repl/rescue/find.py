"""What waits on the replica, and since when: a scan of the relay log, with times."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from check_delayed_repl.observe import heartbeat
from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.rescue.plan import Waiting
from check_delayed_repl.rescue.record import Facts
from check_delayed_repl.rescue.relaylog import Place, Reader, Transaction
from check_delayed_repl.rescue.state import NO_SUCH_FILE, Session, State, pager
from check_delayed_repl.rescue.statements import ANY, KINDS
from check_delayed_repl.rescue.tables import touches
from check_delayed_repl.words import plain, utc

BEAT_S = 1.0
"""pt-heartbeat's own interval."""
ERROR_S = 2.0
MARGIN_S = (5.0, 600.0)
"""How long a delay that still holds the target must go on doing so, in seconds: at least, and at most."""
MOST_TABLES = 10_000


class Moment(NamedTuple):
    """When a transaction was committed on the source, in seconds since 1970; at any time where that is not known."""

    time: float | None
    error: float | None
    """How far off that may be, in seconds."""

    @property
    def earliest(self) -> float:
        return -math.inf if self.time is None else self.time - (self.error or 0.0)

    @property
    def latest(self) -> float:
        return math.inf if self.time is None else self.time + (self.error or 0.0)

    def __str__(self) -> str:
        """`2026-11-23 10:41:05 UTC (±2 s)`."""
        return "time unknown" if self.time is None else f"{utc(self.time)} (±{plain(self.error or 0, 0)} s)"


UNKNOWN = Moment(None, None)


class Found(NamedTuple):
    """A transaction that waits, with its time."""

    transaction: Transaction
    moment: Moment


class Filter(NamedTuple):
    """What a person looks for."""

    tables: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    harmless: bool = False

    def fits(self, one: Transaction, moment: Moment) -> bool:
        return (
            (one.destructive or self.harmless or one.kind in self.kinds)
            and (not self.kinds or one.kind in self.kinds)
            and (not self.tables or touches(one.tables, self.tables))
            and (self.since is None or moment.latest >= self.since)
            and (self.until is None or moment.earliest <= self.until)
        )


class Scan(Waiting):
    """All that waits, in order; what its fields say is of what has been read so far. Iterating raises Refused and
    SampleFailed.
    """

    def __init__(self, session: Session, state: State, facts: Facts | None) -> None:
        super().__init__()
        channel = state.channel
        page, beats = pager(session, channel.name), session.target.heartbeat_table
        self._reader = Reader(page, state.server_id, channel.applied, beats)
        self._state, self._facts = state, facts
        self.count = self.total = self.beats = 0
        """Transactions, their bytes, and heartbeats among them."""
        self._applied_beats = 0

    def __iter__(self) -> Iterator[Transaction]:
        return (one for one, waits in self.all() if waits)

    def all(self) -> Iterator[tuple[Transaction, bool]]:
        """Each with whether it waits; not so where it has been applied though it stands behind the server's place."""
        for one in self._reader.transactions(self._state.channel.relay):
            if self.first is None:
                self._applied_beats = one.beats
            one.beats -= self._applied_beats
            self.beats, self.end = one.beats, one.source_end
            waits = one.gtid is None or not _applied(self._state, self._facts, one.gtid, self.first is not None)
            if waits:
                self.first = self.first or one
                self.count += 1
                self.total += one.size
                if len(self.tables) < MOST_TABLES:
                    self.tables.update(one.tables)
            elif self.first is not None:
                self.gap = self.gap or one.name
            yield one, waits
        self.broken = self._reader.broken


def oldest(session: Session, state: State, facts: Facts | None) -> Transaction | None:
    """The first that waits. Raises Refused where what waits cannot be read, and SampleFailed."""
    scan = Scan(session, state, facts)
    first = next(iter(scan), None)
    if first is None and scan.broken:
        raise Refused(NO_SUCH_FILE, scan.broken)
    return first


def _applied(state: State, facts: Facts | None, gtid: str, begun: bool) -> bool:
    """Whether a transaction behind the server's own place has been applied all the same."""
    if not state.mariadb:
        return state.executed.has(gtid)
    if state.put_back:
        return state.slave_pos.has(gtid) or (state.changes_server_at(gtid) and state.executed.has(gtid))
    # After a crash in a forward, MariaDB's place is behind what it has applied. Its binary log tells.
    return not begun and facts is not None and facts.phase == "forwarding" and state.executed.has(gtid)


class Listing(NamedTuple):
    """What waits and fits, the most destructive first, of all that was scanned."""

    found: list[Found]
    scan: Scan
    first: Found | None


class Search:
    """Looks for transactions in what waits, and gives them their times: by the heartbeats that wait before them, else
    by the history's fetched places.
    """

    def __init__(
        self, session: Session, state: State, facts: Facts | None, fetched: Iterable[tuple[Place, float]]
    ) -> None:
        """`fetched` are places in the source's log, each with when it was seen to be fetched. Reads the applied
        heartbeat, and raises SampleFailed where there is no answer.
        """
        self._session, self._state, self._facts = session, state, facts
        self._fetched = sorted((place.order, t) for place, t in fetched)
        self._interval, self._error = BEAT_S, ERROR_S
        self._beats = 0
        """Heartbeats that wait, once they have been counted."""
        target = session.target
        self._zone = heartbeat.zone_of(target.heartbeat_timezone)
        self._applied: float | None = None
        """The time of the heartbeat that was applied last."""
        self._or_applied: float | None = None
        """The other one that this may be, in the hour that a time zone repeats."""
        try:
            beats = heartbeat.read_heartbeats(session.ask, target.heartbeat_table)
            self._zone = None if beats.utc else self._zone
            ts = beats.beats.get(target.master_server_id or state.channel.source_id)
            if applied := heartbeat.times(ts, self._zone):
                delay = facts.delay if facts else None
                due = beats.clock - (state.channel.delay if delay is None else delay)
                self._applied, *other = sorted(applied, key=lambda time: abs(time - due))
                self._or_applied = next(iter(other), None)
        except (SampleFailed, Refused):
            if not session.connection.open:
                raise

    def of(self, one: Transaction) -> Moment:
        counted = None if self._applied is None else self._applied + (one.beats + 0.5) * self._interval
        if one.beat_ts is not None and (found := heartbeat.times(one.beat_ts.encode(), self._zone)):
            time = min(found, key=lambda time: abs(time - (counted or 0.0)))
            # Behind the last one, the heartbeat may be dead.
            error = ERROR_S if one.beats < self._beats else max(ERROR_S, self._state.now - time)
            if len(found) > 1 and (counted is None or self._error >= abs(found[1] - found[0])):
                error += found[1] - found[0]
            return Moment(time + self._interval / 2, error)
        if counted is not None:
            return Moment(counted, self._error)
        at = bisect_left(self._fetched, (one.source_end.order, 0.0))
        if 0 < at < len(self._fetched):
            before, after = self._fetched[at - 1][1], self._fetched[at][1]
            if after >= before:
                return Moment((before + after) / 2, (after - before) / 2)
        return UNKNOWN

    def listed(self, wanted: Filter, limit: int) -> Listing:
        """At most `limit`, where it is not 0; what names the tables that are wanted comes before what may touch any."""
        timed = wanted.since is not None or wanted.until is not None
        if timed:
            self._count_beats()
        scan = Scan(self._session, self._state, self._facts)

        def ranked() -> Iterator[tuple[tuple[int, ...], Transaction]]:
            for one in scan:
                if wanted.fits(one, UNKNOWN) and (not timed or wanted.fits(one, self.of(one))):
                    scan.matches += 1
                    named = touches(one.tables.keys() - {ANY}, wanted.tables)
                    yield (not named, *_rank(one, scan.count)), one

        kept = heapq.nsmallest(limit, ranked()) if limit else sorted(ranked())
        self._calibrate(scan.beats)
        found = [Found(one, self.of(one)) for _, one in kept]
        return Listing(found, scan, Found(scan.first, self.of(scan.first)) if scan.first else None)

    def locate(self, name: str | None, before: float) -> Waiting:
        """Finds a target by its name; without one, the first transaction that may be of the time `before` or later."""
        marks: list[Transaction] = []
        if name is None:
            self._count_beats()
        scan = Scan(self._session, self._state, self._facts)
        for one, waits in scan.all():
            if name is None:
                moment = self.of(one)
                named = moment.time is not None and moment.latest >= before
            else:
                named = one.named(name)
            if not waits:
                scan.repeated = scan.repeated or (scan.first is None and self._state.mariadb)
                scan.beyond = scan.beyond or scan.target is not None
                scan.applied = scan.applied or (named and name is not None)
            elif named and (name is not None or scan.target is None):
                scan.matches += 1
                scan.target = scan.target or one
            elif scan.target is None:
                scan.transactions, scan.size = scan.count, scan.total
                if self._facts and self._facts.target and one.named(self._facts.target):
                    scan.passes = self._facts.target
                if not marks or marks[-1].beats != one.beats:
                    marks.append(one)
        if name is not None:
            self._calibrate(scan.beats)
        self._cut(scan, marks)
        return scan

    def _cut(self, found: Waiting, marks: list[Transaction]) -> None:
        """Adds where a delay that still holds the target gets to, with a margin for somebody to come and see."""
        state, facts = self._state, self._facts
        moment = self.of(found.target) if found.target else UNKNOWN
        if moment.time is None:
            return
        usual = (facts.delay or 0) if facts else 0 if state.held else state.channel.delay
        margin = min(max(usual / 12, MARGIN_S[0]), MARGIN_S[1])
        delay = math.ceil(state.now - moment.time + (moment.error or 0.0) + margin)
        due = state.now - delay - 1
        cut = next((one for one in marks if (t := self.of(one).time) is not None and t > due), None)
        if delay > 0 and cut and found.first and cut.relay != found.first.relay:
            found.cut, found.cut_delay = cut, delay

    def _count_beats(self) -> None:
        """Counts the heartbeats that wait, where times decide what is taken."""
        scan = Scan(self._session, self._state, self._facts)
        for _ in scan:
            pass
        self._calibrate(scan.beats)

    def _calibrate(self, beats: int) -> None:
        """All `beats` heartbeats that wait have been counted. Where fetching goes on, the last of them is of now, and
        their interval follows; where none waits, the applied one tells nothing of what came after it.
        """
        self._beats = beats
        if self._applied is None:
            return
        if self._state.channel.io != "Yes":
            self._applied = self._applied if beats else None
            if self._applied is not None and self._or_applied is not None:
                self._error = ERROR_S + abs(self._applied - self._or_applied)
            return
        if self._or_applied is not None:
            now = self._state.now
            self._applied = min(self._applied, self._or_applied, key=lambda t: abs(now - t - beats * BEAT_S))
            self._or_applied = None
        span = self._state.now - self._applied
        if beats >= 10 and abs(span - beats * BEAT_S) > span / 10:
            # More than one a second is another interval; fewer are one of whole seconds, or a heartbeat with gaps.
            self._interval = span / beats if span < beats * BEAT_S else math.floor(span / beats * 1.05)
        self._error = max(ERROR_S, 2 * self._interval, abs(span - beats * self._interval))


def _rank(one: Transaction, number: int) -> tuple[int, int, int]:
    """Sorts what destroys most to the front: by kind, DELETE and UPDATE by size; then the rest in its order."""
    if not one.destructive:
        return (len(KINDS), 0, number)
    if one.kind in ("delete", "update"):
        return (KINDS.index("delete"), -one.size, number)
    return (KINDS.index(one.kind), 0, number)
