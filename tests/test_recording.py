"""Recordings: what is read is what was written, and what cannot be read is told by its line."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator

import pytest
from adversary import SAMPLE_ERRORS
from hypothesis import given
from hypothesis import strategies as st

from check_delayed_repl.history import recording
from check_delayed_repl.history.recording import LONGEST_LINE, RECORDED_ERRORS, RecordingError, dumps
from check_delayed_repl.records import LARGEST, JobLine, Record, Sample

EXAMPLE = """\
{"type":"sample","t":1700000000.0,"delay":7203.1}
{"type":"sample","t":1700000010.0,"delay":7203.4,"ts":1699992806.6,"source_id":1,"local":0.6,"io":"Yes","sql":"Yes",\
"io_errno":0,"sql_errno":0,"source_log":["bin.000001",3522],"relay_log":["bin.000001",779],"sql_delay":7200,\
"sql_remaining":3,"seconds_behind":7201}
{"type":"sample","t":1700000020.0,"error":"timeout","message":"no answer within 10 s"}
{"type":"job","t":1700000030.0,"id":"b1","kind":"backup","started_at":1700000030.0,"finished_at":null}
"""

RECORDS: list[Record] = [
    Sample(1700000000.0, 7203.1),
    Sample(
        *(1700000010.0, 7203.4, None, None, 1699992806.6, 1, None, 0.6, False, "Yes", "Yes", 0, None, 0, None),
        *(("bin.000001", 3522), ("bin.000001", 779), None, 7200, 3, 7201),
    ),
    Sample(1700000020.0, error="timeout", message="no answer within 10 s"),
    JobLine(1700000030.0, "b1", "backup", 1700000030.0),
]


def read(lines: Iterable[str | bytes]) -> Iterator[Record]:
    """The records of a file with these lines."""
    given = (line.encode() if isinstance(line, str) else line for line in lines)
    return recording.read(io.BytesIO(b"\n".join(line.removesuffix(b"\n") for line in given)))


finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-LARGEST, LARGEST - 1)
places = st.none() | st.tuples(st.text(), whole)


FIELDS = {
    **dict.fromkeys(("message", "io", "io_error", "sql", "sql_error", "server", "io_state"), st.none() | st.text()),
    **dict.fromkeys(("source_id", "heartbeat_id", "io_errno", "sql_errno", "relay_log_space"), st.none() | whole),
    **dict.fromkeys(("sql_delay", "sql_remaining", "seconds_behind"), st.none() | whole),
    **dict.fromkeys(("source_log", "relay_log"), places),
    **dict.fromkeys(("ts", "local"), st.none() | finite),
    "filters": st.none() | st.lists(st.sampled_from(["Replicate_Do_DB=a", "Replicate_Ignore_DB=b,c"])).map(tuple),
    "relay_limited": st.none() | st.booleans(),
}


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    error = draw(st.none() | st.sampled_from(sorted(RECORDED_ERRORS)))
    delay = draw(finite if error is None else st.none() | finite)
    seen = {name: draw(values) for name, values in FIELDS.items()}
    missing = seen["local"] is None and draw(st.booleans())
    return Sample(draw(finite), delay, error, local_missing=missing, **seen)


jobs = st.builds(
    JobLine,
    t=finite,
    id=st.text(),
    kind=st.none() | st.text(),
    started_at=st.none() | finite,
    finished_at=st.none() | finite,
    void=st.booleans(),
    unreadable=st.none() | st.text(min_size=1),
)


def test_the_example_is_read_and_written_again() -> None:
    assert list(read(EXAMPLE.splitlines(keepends=True))) == RECORDS
    assert list(read(EXAMPLE.encode().splitlines(keepends=True))) == RECORDS
    assert "".join(dumps(record) + "\n" for record in RECORDS) == EXAMPLE


@given(st.lists(samples() | jobs, max_size=3))
def test_round_trip(records: list[Record]) -> None:
    lines = [dumps(record) + "\n" for record in records]
    assert all(line.count("\n") == 1 and line.isascii() for line in lines)
    back = list(read(lines))
    assert back == records
    assert [type(record) for record in back] == [type(record) for record in records]
    assert [repr(record) for record in back] == [repr(record) for record in records], "0 and -0.0, 1 and True"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "not JSON (Expecting value at column 1)"),
        ("[1]", "expected object, got array"),
        ('{"type":"sample","t":1.0,"delay":1.0', "not JSON (Expecting ',' delimiter at column 37)"),
        ('{"t":1.0,"delay":1.0}', "object missing required field type"),
        ('{"type":"verdict","t":1.0}', "type: invalid value 'verdict'"),
        ('{"type":["sample"],"t":1.0,"delay":1.0}', "type: expected str, got list"),
        ('{"type":"sample","delay":1.0}', "object missing required field t"),
        ('{"type":"sample","t":null,"delay":1.0}', "t: expected float, got null"),
        ('{"type":"sample","t":NaN,"delay":1.0}', "t: number out of range"),
        ('{"type":"sample","t":1.0,"delay":1' + "0" * 5000 + "}", "delay: number out of range"),
        ('{"type":"sample","t":1.0}', "a sample with neither delay nor error"),
        ('{"type":"sample","t":1.0,"error":"in-range"}', "error 'in-range' is not the name of a condition"),
        ('{"type":"sample","t":1.0,"delay":1.0,"local":"x"}', "local: expected float / null, got str"),
        ('{"type":"sample","t":1.0,"delay":1.0,"io_errno":1.5}', "io_errno: expected int / null, got float"),
        ('{"type":"sample","t":1.0,"delay":1.0,"sql_delay":9223372036854775808}', "sql_delay: number out of range"),
        ('{"type":"sample","t":1.0,"delay":1.0,"source_log":"bin.1"}', "source_log: expected array / null, got str"),
        ('{"type":"sample","t":1.0,"delay":1.0,"relay_log":["b",null]}', "relay_log[1]: expected int, got null"),
        ('{"type":"sample","t":1.0,"delay":1.0,"filters":"a=b"}', "filters: expected object / array / null, got str"),
        ('{"type":"sample","t":1.0,"delay":1.0,"filters":["a"]}', "filters: expected texts of the form COLUMN=VALUE"),
        ('{"type":"job","t":1.0,"kind":"backup","started_at":1.0}', "object missing required field id"),
        ('{"type":"job","t":1.0,"id":7,"kind":"backup","started_at":1.0}', "id: expected str, got int"),
        ("[" * 100_000, "not JSON that can be read: nested too deeply"),
        ("\ufeff" + EXAMPLE.splitlines()[0], "not JSON (Unexpected UTF-8 BOM"),
    ],
)
def test_a_line_that_cannot_be_read(line: str, problem: str) -> None:
    for form in ([line + "\n"], [line.encode() + b"\n"]):
        with pytest.raises(RecordingError) as caught:
            list(read(form))
        assert str(caught.value).startswith(f"line 1: {problem}")


@pytest.mark.parametrize(
    ("fields", "unreadable"),
    [
        ('"kind":"backup","started_at":"noon"', "started_at 'noon' is no number"),
        ('"kind":"backup","started_at":NaN', "started_at nan is not a finite number"),
        ('"kind":"backup","started_at":1e999', "started_at inf is not a finite number"),
        ('"kind":"backup","started_at":true', "started_at True is no number"),
        ('"kind":"backup","started_at":1.0,"finished_at":[2]', "finished_at [2] is no number"),
        ('"kind":7,"started_at":1.0', "kind 7 is no text"),
        ('"kind":"backup","started_at":1.0,"void":"yes"', "void 'yes' is neither true nor false"),
        ('"kind":{},"started_at":{}', "kind {} is no text; started_at {} is no number"),
    ],
)
def test_a_job_line_that_makes_no_sense_is_kept_for_the_judge(fields: str, unreadable: str) -> None:
    (line,) = read(['{"type":"job","t":1.0,"id":"b1",' + fields + "}"])
    assert isinstance(line, JobLine)
    assert line.unreadable == unreadable
    assert list(read([dumps(line)])) == [line]


def test_a_job_line_may_leave_to_an_earlier_one_what_that_said() -> None:
    lines = ['{"type":"job","t":2.0,"id":"b1","finished_at":2.0}', '{"type":"job","t":3,"id":"b1","void":true}']
    assert list(read(lines)) == [JobLine(2.0, "b1", finished_at=2.0), JobLine(3.0, "b1", void=True)]


def test_whole_numbers_and_floats_are_what_the_field_is_and_a_local_of_null_is_missing() -> None:
    (sample,) = read(['{"type":"sample","t":1700000000,"delay":7200,"sql_delay":7200.0,"local":null}'])
    assert repr(sample) == repr(Sample(1700000000.0, 7200.0, sql_delay=7200, local_missing=True))


def test_filters_are_read_as_a_list_and_as_an_object() -> None:
    start = '{"type":"sample","t":1.0,"delay":1.0,'
    written = ('["Replicate_Do_DB=a=b"]', '{"Replicate_Do_DB":"a=b"}', "[]")
    as_list, as_object, none = read([f'{start}"filters":{filters}}}' for filters in written])
    assert as_list == as_object == Sample(1.0, 1.0, filters=("Replicate_Do_DB=a=b",))
    assert none == Sample(1.0, 1.0, filters=())
    assert dumps(as_object).endswith('"filters":["Replicate_Do_DB=a=b"]}')


def test_empty_lines_may_stand_at_the_end_alone() -> None:
    line = EXAMPLE.splitlines(keepends=True)[0]
    assert len(list(read([line, "\n", "  \r\n", ""]))) == 1
    with pytest.raises(RecordingError, match=r"^line 2: empty, with more lines after it$"):
        list(read([line, "\n", line]))
    assert len(list(read([line.rstrip() + "\r\n", "  " + line]))) == 2


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(RecordingError, match=r"^line 2: not UTF-8$"):
        list(read([b'{"type":"sample","t":1.0,"delay":1.0}\n', b'{"type":"sample","t":1.0,"delay":1.0,"io":"\xff"}\n']))


class Endless(io.RawIOBase):
    """What a device or a pipe may give: a line without end."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        data = (self._start + b"0" * size)[:size]
        self._start = b""
        self.given += size
        return data


def test_a_line_without_end_is_not_read_for_ever() -> None:
    source = Endless(EXAMPLE.encode())
    records = recording.read(source)  # type: ignore[arg-type]
    assert [next(records) for _ in RECORDS] == RECORDS
    with pytest.raises(RecordingError, match=r"^line 5: longer than 1 MiB$"):
        next(records)
    assert source.given < 2 * LONGEST_LINE


def test_a_line_may_be_as_long_as_is_allowed() -> None:
    line = b'{"type":"sample","t":1.0,"delay":1.0,"later":"%s"}'
    fits = line % (b"x" * (LONGEST_LINE - len(line) + 2))
    assert len(list(read([fits, fits]))) == 2
    with pytest.raises(RecordingError, match=r"^line 2: longer than 1 MiB$"):
        list(read([fits, fits + b" ", fits]))


def test_no_number_that_json_does_not_have_is_written() -> None:
    assert dumps(Sample(1.0, math.nan, ts=math.inf, error="timeout")) == '{"type":"sample","t":1.0,"error":"timeout"}'


def test_every_error_of_a_sample_can_be_recorded() -> None:
    assert set(SAMPLE_ERRORS) <= RECORDED_ERRORS
