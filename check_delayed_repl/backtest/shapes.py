"""The lines of a recording, thousands at once: what `history.recording` reads one by one, some times as fast.

Nearly all lines of a recording differ in their digits alone. A line's *shape* is the line with every run of digits
written as one 0; it says all about the line but its numbers. So a shape is understood once, and of all lines that have
it only the numbers are read, by numpy. Lines of which the shape is not understood, or that are in any way out of the
ordinary, are left to `history.recording`: it alone says what a line means, and what is wrong with one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import IO, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from check_delayed_repl.backtest.calm import Flags, Floats, Indices, Looks, credible, moves_of
from check_delayed_repl.history.recording import RecordingError, read
from check_delayed_repl.records import JobLine, Record, Sample

Bytes = NDArray[np.uint8]
Whole = NDArray[np.int64]

BLOCK = 1 << 20
"""Bytes that are read at a time."""
LONGEST_LINE = 16 << 20
"""Bytes: nobody's recording, but what may be read without end from a device or a pipe."""
MIN_ALIKE = 16
"""Fewer lines in a row than these are not worth reading together."""
MAX_SHAPES = 1000
"""Shapes remembered: a recording has a handful."""

MAX_DIGITS = 18
"""Of a whole number that surely fits into 64 bits."""
EXACT = 2**53
"""Up to here a double holds every whole number, so that dividing one by a power of ten rounds once, as it should."""
ABSENT = -(2**63)
"""In place of a whole number that is not there."""

FLOATS = ("t", "delay", "ts", "local")
WHOLES = ("source_id", "heartbeat_id", "io_errno", "sql_errno", "sql_delay", "sql_remaining")
UNUSED_WHOLES = ("relay_log_space", "seconds_behind")
STATES = ("io", "sql")
UNUSED_TEXTS = ("message", "io_error", "sql_error")
POSITIONS = ("source_log", "relay_log")

_FIRST = 1000
_FLOAT = re.compile(r"(-?)(\d{4})\.(\d{4})\Z")
_WHOLE = re.compile(r"(-?)(\d{4})\Z")
_RUN = re.compile(r"\d{4}")


class _Number(str):
    """A JSON number as it is written."""

    __slots__ = ()


class Layout(NamedTuple):
    """Where the values of a line are. A run is the index of a run of digits in the line."""

    floats: dict[str, tuple[bool, int, int]]
    """Name → negative, run before the point, run behind it."""
    wholes: dict[str, tuple[bool, int]]
    """Name → negative, run."""
    states: dict[str, str]
    positions: dict[str, tuple[str, tuple[int, ...], int]]
    """Name → the log's name without its digits, its runs, the run of the position."""
    leading: tuple[int, ...]
    """Runs that a number begins with: no 0 may stand before another digit there."""


def layout_of(shape: bytes) -> Layout | None:
    """What a shape says; None where it is not an ordinary look's, or not one at all."""
    if not shape.isascii() or b"\\" in shape or shape.count(b"0") >= _FIRST:
        return None
    # Each run gets a number of its own, and is found by it again.
    number = count(_FIRST)
    try:
        pairs = json.loads(
            re.sub(b"0", lambda _: b"%d" % next(number), shape),
            object_pairs_hook=tuple,
            parse_int=_Number,
            parse_float=_Number,
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, tuple) or len(dict(pairs)) < len(pairs) or ("type", "sample") not in pairs:
        return None
    found = Layout({}, {}, {}, {}, ())
    leading: list[int] = []
    for name, value in pairs:
        if not _placed(name, value, found, leading):
            return None
    if "t" not in found.floats or "delay" not in found.floats:
        return None
    return found._replace(leading=tuple(leading))


def _placed(name: str, value: Any, found: Layout, leading: list[int]) -> bool:
    """Puts a value's place into the layout; False where it is out of the ordinary."""
    if isinstance(value, _Number):
        if name in FLOATS and (match := _FLOAT.match(value)):
            before, behind = int(match[2]) - _FIRST, int(match[3]) - _FIRST
            found.floats[name] = (match[1] == "-", before, behind)
            leading.append(before)
            return True
        if name in (*WHOLES, *UNUSED_WHOLES) and (match := _WHOLE.match(value)):
            run = int(match[2]) - _FIRST
            found.wholes[name] = (match[1] == "-", run)
            leading.append(run)
            return True
        return False
    if isinstance(value, str):
        if name in STATES and not _RUN.search(value):
            found.states[name] = value
            return True
        return name in ("type", *UNUSED_TEXTS)
    if name not in POSITIONS or not isinstance(value, list) or len(value) != 2:
        return False
    log, place = value
    if isinstance(log, _Number) or not isinstance(log, str) or not isinstance(place, _Number):
        return False
    match = _WHOLE.match(place)
    if match is None or match[1]:
        return False
    runs = tuple(int(run) - _FIRST for run in _RUN.findall(log))
    found.positions[name] = (_RUN.sub("0", log), runs, int(match[2]) - _FIRST)
    leading.append(int(match[2]) - _FIRST)
    return True


class Lines(Sequence[Sample]):
    """The samples of some lines, each read when it is asked for. Index 0, the look before, is the first one again."""

    def __init__(self, data: bytes, starts: list[int], ends: list[int]) -> None:
        """Lines of `data`, from starts[i] to ends[i]; all of them are known to be samples."""
        self._data = data
        self._starts = [starts[0], *starts]
        self._ends = [ends[0], *ends]

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        record = next(read([self._data[self._starts[index] : self._ends[index]]]))
        assert isinstance(record, Sample)
        return record


class _Block:
    """Some lines' bytes, and where their digits are."""

    def __init__(self, data: bytes) -> None:
        """`data` ends with a newline."""
        self.data = data
        self.bytes: Bytes = np.frombuffer(data, np.uint8)
        digits = (self.bytes - np.uint8(48)) < 10
        first = digits.copy()
        first[1:] &= ~digits[:-1]
        last = digits.copy()
        last[:-1] &= ~digits[1:]
        self.run_starts: Indices = np.flatnonzero(first)
        self.run_lengths: Indices = np.flatnonzero(last) + 1 - self.run_starts
        written = np.where(digits, np.uint8(48), self.bytes)[first | ~digits]
        self.shapes = written.tobytes().split(b"\n")[:-1]
        self.line_ends: Indices = np.flatnonzero(self.bytes == 10) + 1

    def value(self, starts: Indices, lengths: Indices) -> Whole:
        """The numbers that runs of at most MAX_DIGITS digits stand for."""
        value = np.zeros(len(starts), np.int64)
        ends = starts + lengths
        for place in range(int(lengths.max(initial=0))):
            digit = self.bytes[ends - 1 - place].astype(np.int64) - 48
            value += np.where(lengths > place, digit, 0) * 10**place
        return value


class Reader:
    """Reads blocks of lines; remembers the shapes that it has met."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}
        self._layouts: list[Layout | None] = []
        self._runs: list[int] = []

    def parts(self, file: IO[bytes]) -> Iterator[list[JobLine | Looks]]:
        """A recording's job lines and looks, in order of arrival, a block at a time.

        Raises RecordingError as `read` does, once all that stands before the bad line has been given out.
        """
        from check_delayed_repl.backtest.replay import batches

        done = 0
        for data in _blocks(file):
            block = _Block(data)
            codes = self._codes(block.shapes)
            ends = block.line_ends.tolist()
            starts = [0, *ends[:-1]]
            plain = 0
            for start, end, looks in self._together(block, codes, starts, ends):
                # What lies between two runs of ordinary lines is read line by line.
                lines = [data[starts[i] : ends[i]] for i in range(plain, start)]
                if any(not line.strip() for line in lines):
                    rest = chain([data[starts[plain] :]], _blocks(file, len(ends) - plain))
                    yield from batches(_renumbered(chain.from_iterable(map(_split, rest)), done + plain))
                    return
                yield from batches(_renumbered(lines, done + plain))
                if looks is not None:
                    yield [looks]
                plain = end
            done += len(ends)

    def _codes(self, shapes: list[bytes]) -> Indices:
        """The number of each line's shape."""
        known = self._known
        if len(known) > MAX_SHAPES:
            known.clear()
            self._layouts.clear()
            self._runs.clear()
        for shape in set(shapes).difference(known):
            known[shape] = len(self._layouts)
            self._layouts.append(layout_of(shape))
            self._runs.append(shape.count(b"0"))
        return np.array([known[shape] for shape in shapes], np.intp)

    def _together(
        self, block: _Block, codes: Indices, starts: list[int], ends: list[int]
    ) -> Iterator[tuple[int, int, Looks | None]]:
        """Runs [start, end) of lines that can be read together, and at last an empty one at the block's end."""
        columns = _Columns(block, codes, self._layouts, np.array(self._runs, np.intp))
        edges = np.flatnonzero(np.diff(columns.sound.astype(np.int8), prepend=0, append=0)).tolist()
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start >= MIN_ALIKE:
                yield start, end, columns.looks(start, end, Lines(block.data, starts[start:end], ends[start:end]))
        yield len(codes), len(codes), None


class _Columns:
    """The values of a block's lines."""

    def __init__(self, block: _Block, codes: Indices, layouts: list[Layout | None], runs: Indices) -> None:
        self._block = block
        lines = len(codes)
        self.sound = np.zeros(lines, bool)
        """Lines that are understood."""
        self._floats = {name: np.full(lines, np.nan) for name in FLOATS}
        self._wholes: dict[str, Whole] = {}
        self._states: dict[str, Indices] = {}
        self._state_names: list[str | None] = [None]
        self._positions: dict[str, Whole] = {}
        """Log's number among the names without digits, up to two runs of digits in its name with their lengths, place;
        shape (lines, 6)."""
        self._logs: list[str] = [""]
        counts = runs[codes]
        offsets = np.cumsum(counts) - counts
        for code in np.unique(codes).tolist():
            layout = layouts[code]
            if layout is not None:
                which = np.flatnonzero(codes == code)
                self._fill(which, offsets[which], layout)

    def _fill(self, which: Indices, offsets: Indices, layout: Layout) -> None:
        """Puts in the lines `which`, whose first runs are `offsets`."""
        block = self._block
        lines = len(self.sound)
        sound = np.ones(len(which), bool)

        def run(index: int) -> tuple[Indices, Indices]:
            lengths = block.run_lengths[offsets + index]
            sound[lengths > MAX_DIGITS] = False
            return block.run_starts[offsets + index], np.minimum(lengths, MAX_DIGITS)

        for index in layout.leading:
            starts, lengths = run(index)
            sound &= (lengths == 1) | (block.bytes[starts] != 48)
        for name, (negative, before, behind) in layout.floats.items():
            self._floats[name][which] = self._decimal(negative, *run(before), *run(behind))
        for name, (negative, index) in layout.wholes.items():
            if name in WHOLES:
                whole = block.value(*run(index))
                self._wholes.setdefault(name, np.full(lines, ABSENT))[which] = -whole if negative else whole
        for name, state in layout.states.items():
            if state not in self._state_names:
                self._state_names.append(state)
            self._states.setdefault(name, np.zeros(lines, np.intp))[which] = self._state_names.index(state)
        for name, (log, runs, place) in layout.positions.items():
            if len(runs) > 2:
                sound[:] = False
                continue
            if log not in self._logs:
                self._logs.append(log)
            rows = np.zeros((len(which), 6), np.int64)
            rows[:, 0] = self._logs.index(log)
            for column, index in enumerate(runs):
                starts, lengths = run(index)
                rows[:, 1 + 2 * column] = block.value(starts, lengths)
                rows[:, 2 + 2 * column] = lengths
            rows[:, 5] = block.value(*run(place))
            self._positions.setdefault(name, np.zeros((lines, 6), np.int64))[which] = rows
        self.sound[which] = sound

    def _decimal(self, negative: bool, starts: Indices, lengths: Indices, behind: Indices, places: Indices) -> Floats:
        """Decimal numbers as `float` reads them: digits before the point and behind it."""
        digits = lengths + places
        short = digits <= MAX_DIGITS
        scale = 10 ** np.where(short, places, 0)
        whole = self._block.value(starts, np.where(short, lengths, 0)) * scale
        whole += self._block.value(behind, np.where(short, places, 0))
        numbers: Floats = whole / scale
        long = np.flatnonzero(~short | (whole > EXACT))
        if len(long):
            data, begins, ends = self._block.data, starts[long].tolist(), (behind + places)[long].tolist()
            numbers[long] = [float(data[begin:end]) for begin, end in zip(begins, ends, strict=True)]
        return -numbers if negative else numbers

    def looks(self, start: int, end: int, samples: Lines) -> Looks:
        """The lines [start, end), which are all sound."""
        floats = {name: _led(column[start:end]) for name, column in self._floats.items()}
        # The first look, which stands before itself here, is not later than that, and so not like it.
        alike = credible(floats["t"], floats["delay"])
        for column in (*self._wholes.items(), *self._states.items()):
            if column[0] not in ("sql", "sql_remaining"):
                alike &= ~moves_of(_led(column[1][start:end]))
        for name in ("ts", "local"):
            alike &= ~moves_of(np.isnan(floats[name]))
        logs = {name: _led(rows[start:end]) for name, rows in self._positions.items()}
        for rows in logs.values():
            alike &= ~moves_of(rows[:, 0] == 0)
        sql = _led(self._states["sql"][start:end]) if "sql" in self._states else np.zeros(end - start + 1, np.intp)
        running = sql == self._state_names.index("Yes") if "Yes" in self._state_names else np.zeros(len(sql), bool)
        moves = moves_of(sql)
        for i in np.unique(sql[moves | np.roll(moves, -1)]).tolist():
            if self._state_names[i] not in ("Yes", "No"):
                # Only from running to stopped and back is ordinary.
                alike &= ~(moves & ((sql == i) | (np.concatenate((sql[:1], sql[:-1])) == i)))
        drained = np.zeros(len(sql), bool)
        if len(logs) == 2:
            drained = running & (logs["source_log"] == logs["relay_log"]).all(axis=1)
            if "sql_remaining" in self._wholes:
                drained &= _led(self._wholes["sql_remaining"][start:end]) == ABSENT
        return Looks(
            samples,
            floats["t"],
            floats["delay"],
            alike,
            ts=floats["ts"],
            local=floats["local"],
            source_log_moves=_moved(logs.get("source_log")),
            relay_log_moves=_moved(logs.get("relay_log")),
            sql_runs=running,
            sql_moves=moves,
            drained_moves=moves_of(drained),
        )


def _led(column: NDArray[Any]) -> NDArray[Any]:
    """With the first one twice: once for the look before, which is not known."""
    return np.concatenate((column[:1], column))


def _moved(rows: Whole | None) -> Flags | None:
    if rows is None:
        return None
    moves = np.zeros(len(rows), bool)
    moves[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return moves


def _blocks(file: IO[bytes], number: int = 0) -> Iterator[bytes]:
    """The file in pieces that end with a line's end; a newline is put where the last line has none.

    `number` is that of lines before it, for the one complaint that there may be.
    """
    while data := file.read(BLOCK):
        if not data.endswith(b"\n"):
            tail = file.readline(LONGEST_LINE)
            data += tail
            if len(tail) == LONGEST_LINE and not tail.endswith(b"\n"):
                raise RecordingError(number + data.count(b"\n") + 1, f"longer than {LONGEST_LINE >> 20} MiB")
            if not data.endswith(b"\n"):
                data += b"\n"
        yield data
        number += data.count(b"\n")


def _split(data: bytes) -> list[bytes]:
    return data.split(b"\n")[:-1]


def _renumbered(lines: Any, before: int) -> Iterator[Record]:
    """Records of lines before which there are `before` others."""
    try:
        yield from read(lines)
    except RecordingError as error:
        raise RecordingError(error.line + before, error.problem) from None
