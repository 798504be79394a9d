"""Reading thousands of lines at once says what reading them one by one says, whatever the lines look like."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hostile import LENGTHS, LIMITS, SEEDS, Line, recording, summed
from hypothesis import given, settings
from hypothesis import strategies as st

from check_delayed_repl.backtest import shapes
from check_delayed_repl.backtest.calm import Looks
from check_delayed_repl.backtest.replay import Replay, batches
from check_delayed_repl.backtest.shapes import Reader, layout_of
from check_delayed_repl.history.recording import RecordingError, dumps, read
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample

FULL = (
    b'{"type":"sample","t":1700000010.0,"delay":7203.4,"ts":1699992806.6,"source_id":1,"local":0.6,"io":"Yes","sql":"Yes",'
    b'"io_errno":0,"sql_errno":0,"source_log":["bin.000001",3522],"relay_log":["bin.000001",779],"sql_delay":7200,'
    b'"sql_remaining":3,"seconds_behind":7201}'
)


def shape_of(line: bytes) -> bytes:
    """As the reader writes it: every run of digits as one 0."""
    return shapes._Block(line + b"\n").shapes[0]


def test_a_shape_is_a_line_without_its_digits() -> None:
    assert shape_of(b'{"t":17.50,"a":["bin.000120",-3]}') == b'{"t":0.0,"a":["bin.0",-0]}'


def test_the_lines_of_an_export_are_understood() -> None:
    layout = layout_of(shape_of(FULL))
    assert layout is not None
    assert layout.floats == {
        "t": (False, 0, 1),
        "delay": (False, 2, 3),
        "ts": (False, 4, 5),
        "local": (False, 7, 8),
    }
    assert layout.states == {"io": "Yes", "sql": "Yes"}
    assert layout.positions == {"source_log": ("bin.0", (11,), 12), "relay_log": ("bin.0", (13,), 14)}


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"job","t":1.0,"id":"b1"}',
        b'{"type":"sample","t":1.0,"error":"timeout"}',
        b'{"type":"sample","t":1,"delay":2.0}',
        b'{"type":"sample","t":1.0e9,"delay":2.0}',
        b'{"type":"sample","t":1.0,"delay":NaN}',
        b'{"type":"sample","t":1.0,"delay":2.0,"t":3.0}',
        b'{"type":"sample","t":1.0,"delay":2.0,"local":null}',
        b'{"type":"sample","t":1.0,"delay":2.0,"io":null}',
        b'{"type":"sample","t":1.0,"delay":2.0,"io":"Yes1"}',
        b'{"type":"sample","t":1.0,"delay":2.0,"source_log":["bin",-1]}',
        b'{"type":"sample","t":1.0,"delay":2.0,"source_log":["b\\u0061",1]}',
        b'{"type":"sample","t":1.0,"delay":2.0,"unknown":1}',
        b'{"type":"sample","t":1.0,"delay":2.0} {}',
        b'{"type":"sample","t":1.0,"delay":2.0,}',
        b'["type","sample"]',
        b"",
        b"\xff",
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_others(line: bytes) -> None:
    assert layout_of(shape_of(line)) is None


# Every way in which a digit may stand where it must not, or a number may be hard to read.
NUMBERS = (
    *("0.0", "-0.0", "00.5", "01.5", "5.0", "-5.0", ".5", "5.", "-", "1-2", "1.2.3", "4", "7200", "04", "-4"),
    *("1e3", "1.5e3", "1E400", "NaN", "Infinity", "null", "true"),
    *("1700000000.1234567", "1700000000.12345678", "9007199254740993.0", "9007199254740992.5", "0.30000004"),
    *("123456789012345678.5", "1234567890123456789.5", "0.123456789012345678", "0.1234567890123456789"),
    *("7203.000000000000001", "123456789012345678", "1234567890123456789", "12345678901234567890"),
)
FIELDS = ("t", "delay", "ts", "local", "source_id", "sql_delay", "sql_remaining", "seconds_behind")


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Recordings most of whose lines are ordinary, and some of which are not, or are none at all."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    line = Line(chance, chance.random() < 0.3, chance.random() < 0.3, chance.random() < 0.5)
    spaced = chance.random() < 0.2
    lines = []
    for _ in range(draw(st.integers(0, 120))):
        text = dumps(line.look(jitter(chance)))
        if spaced:
            text = json.dumps(json.loads(text))
        lines.append(text.encode())
    for _ in range(draw(st.integers(0, 4))):
        i = chance.randrange(len(lines) or 1)
        lines[i : i + 1] = [broken(chance, line) for line in lines[i : i + 1]]
    end = chance.choice([b"", b"\n", b"\n\n", b"\r\n", b"\n \n\n"])
    return chance.choice([b"\n", b"\n", b"\n", b"\r\n"]).join(lines) + end


def jitter(chance: random.Random) -> float:
    return 10.0 + chance.choice([0.0, chance.random() * 0.01])


def broken(chance: random.Random, line: bytes) -> bytes:
    """Something else in the place of a line, which may be broken already."""
    try:
        if not isinstance(json.loads(line), dict):
            return line
    except ValueError:
        return line
    match chance.choice(["number", "number", "byte", "insert", "cut", "order", "other"]):
        case "number":
            value = json.loads(line, parse_float=str, parse_int=str)
            text = line.decode()
            name = chance.choice(FIELDS)
            old = value.get(name)
            number = chance.choice(NUMBERS)
            if old is None:
                return text.replace("}", f',"{name}":{number}}}').encode()
            return text.replace(f'"{name}":{old}', f'"{name}":{number}').encode()
        case "byte":
            i = chance.randrange(len(line))
            return line[:i] + bytes([chance.choice(b'0123456789.,-"{}[]: nYe\\\t\x00\xff')]) + line[i + 1 :]
        case "insert":
            i = chance.randrange(len(line))
            return line[:i] + bytes([chance.choice(b'0019.,-"{}[]: \n')]) + line[i:]
        case "cut":
            return line[: chance.randrange(len(line))]
        case "order":
            pairs = list(json.loads(line).items())
            chance.shuffle(pairs)
            return json.dumps(dict(pairs)).encode()
        case _:
            return chance.choice(
                [
                    b'{"type":"job","t":1700000000.0,"id":"j","kind":"backup","started_at":1700000000.0}',
                    b"",
                    b" ",
                    b"{}",
                    b"1",
                ]
            )


Outcome = tuple[list[Record], tuple[int, str] | None]


def one_by_one(text: bytes) -> Outcome:
    records: list[Record] = []
    try:
        for record in read(io.BytesIO(text)):
            records.append(record)  # noqa: PERF402  what was read before an error counts
    except RecordingError as error:
        return records, (error.line, error.problem)
    return records, None


def together(text: bytes) -> tuple[Outcome, list[Looks]]:
    records: list[Record] = []
    looks = []
    try:
        for batch in Reader().parts(io.BytesIO(text)):
            for part in batch:
                if isinstance(part, JobLine):
                    records.append(part)
                else:
                    records += part.samples[1:]
                    looks.append(part)
    except RecordingError as error:
        return (records, (error.line, error.problem)), looks
    return (records, None), looks


@pytest.fixture(params=[300, 4000, shapes.BLOCK], ids=str)
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "BLOCK", request.param)
    monkeypatch.setattr(shapes, "MIN_ALIKE", 2)


@pytest.mark.usefixtures("_blocks")
@settings(max_examples=60, deadline=None)
@given(texts())
def test_the_records_and_the_complaints_are_the_same(text: bytes) -> None:
    found, looks = together(text)
    assert found == one_by_one(text)
    for part in looks:
        for name in ("t", "delay", "ts", "local"):
            column = getattr(part, name)
            if column is not None:
                expected = np.array([getattr(sample, name) for sample in part.samples], dtype=float)
                assert np.array_equal(column, expected, equal_nan=True)


def test_lines_are_read_together_at_all() -> None:
    text = b"".join(FULL.replace(b"1700000010", b"%d" % (1_700_000_000 + i)) + b"\n" for i in range(100))
    _, [looks] = together(text)
    assert isinstance(looks.samples, shapes.Lines)
    assert len(looks.samples) == 101
    assert looks.alike.tolist() == [False, False, *[True] * 99]


@pytest.mark.usefixtures("_blocks")
@settings(max_examples=40, deadline=None)
@given(SEEDS, LENGTHS, st.sampled_from([LIMITS, LIMITS._replace(delay_mode="external", max_seconds_behind=70.0)]))
def test_the_replay_of_a_file_is_the_judge(seed: int, length: int, limits: Limits) -> None:
    records = [r for r in recording(seed, length) if not isinstance(r, Sample) or r.delay is not None or r.error]
    text = "".join(dumps(record) + "\n" for record in records).encode()
    assert replayed(Reader().parts(io.BytesIO(text)), Replay(limits)) == replayed(
        batches(read(io.BytesIO(text))), Replay(limits, hurry=False)
    )


def replayed(parts: Iterator[list[JobLine | Looks]], course: Replay) -> Any:
    rulings: list[Any] = []
    for batch in parts:
        for part in batch:
            if isinstance(part, JobLine):
                course.job(part)
            else:
                rulings += course.looks(part)
    return rulings, summed(course.tally), course.fold.dump(), list(course.fold.points)


def test_a_line_without_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            buffer[:] = b"0" * len(buffer)
            return len(buffer)

    monkeypatch.setattr(shapes, "LONGEST_LINE", 1 << 16)
    with pytest.raises(RecordingError, match="line 1: longer than"):
        list(Reader().parts(io.BufferedReader(Endless())))


def test_memory_of_shapes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MAX_SHAPES", 10)
    monkeypatch.setattr(shapes, "BLOCK", 200)
    reader = Reader()
    text = b"".join(
        b'{"type":"sample","t":%d.5,"delay":7200.0,"message":"%s"}\n' % (i, b"x" * (i % 50)) for i in range(200)
    )
    parts = reader.parts(io.BytesIO(text))
    assert sum(len(part.samples) - 1 for batch in parts for part in batch if isinstance(part, Looks)) == 200
    assert len(reader._known) < 20
