"""Recordings: what is read is what was written, and what cannot be read is told by its line."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_delayed_repl.conditions import SAMPLE_ERRORS
from check_delayed_repl.history.recording import LARGEST, RECORDED_ERRORS, RecordingError, dumps, read
from check_delayed_repl.records import JobLine, Record, Sample

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
        1700000010.0,
        7203.4,
        ts=1699992806.6,
        source_id=1,
        local=0.6,
        io="Yes",
        sql="Yes",
        io_errno=0,
        sql_errno=0,
        source_log=("bin.000001", 3522),
        relay_log=("bin.000001", 779),
        sql_delay=7200,
        sql_remaining=3,
        seconds_behind=7201,
    ),
    Sample(1700000020.0, error="timeout", message="no answer within 10 s"),
    JobLine(1700000030.0, "b1", "backup", 1700000030.0),
]

finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-LARGEST, LARGEST - 1)
places = st.none() | st.tuples(st.text(), whole)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    error = draw(st.none() | st.sampled_from(sorted(RECORDED_ERRORS)))
    local = draw(st.none() | finite)
    return Sample(
        t=draw(finite),
        delay=draw(finite if error is None else st.none() | finite),
        error=error,
        message=draw(st.none() | st.text()),
        ts=draw(st.none() | finite),
        source_id=draw(st.none() | whole),
        heartbeat_id=draw(st.none() | whole),
        local=local,
        local_missing=local is None and draw(st.booleans()),
        io=draw(st.none() | st.text()),
        sql=draw(st.none() | st.text()),
        io_errno=draw(st.none() | whole),
        io_error=draw(st.none() | st.text()),
        sql_errno=draw(st.none() | whole),
        sql_error=draw(st.none() | st.text()),
        source_log=draw(places),
        relay_log=draw(places),
        relay_log_space=draw(st.none() | whole),
        sql_delay=draw(st.none() | whole),
        sql_remaining=draw(st.none() | whole),
        seconds_behind=draw(st.none() | whole),
        server=draw(st.none() | st.text()),
        io_state=draw(st.none() | st.text()),
        filters=draw(
            st.none() | st.lists(st.sampled_from(["Replicate_Do_DB=a", "Replicate_Ignore_DB=b,c"])).map(tuple)
        ),
        relay_limited=draw(st.none() | st.booleans()),
    )


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


@given(samples())
def test_the_quick_way_and_the_careful_way_agree(sample: Sample) -> None:
    line = json.loads(dumps(sample))
    careful = json.dumps(line | {"message": sample.message, "something_new": {"deep": [1]}})
    assert list(read([careful])) == [sample]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
    st.sampled_from([*Sample._fields, *JobLine._fields, "type"]),
    st.sampled_from(RECORDS),
)
def test_any_value_anywhere_gives_a_record_or_an_error_with_its_line(value: object, field: str, record: Record) -> None:
    line = json.dumps(json.loads(dumps(record)) | {field: value})
    try:
        got = list(read([EXAMPLE.splitlines()[0], line]))
    except RecordingError as error:
        problem = error
    else:
        assert len(got) == 2
        assert list(read([dumps(got[1])])) == [got[1]]
        return
    assert problem.line == 2
    assert str(problem).startswith("line 2: ")
    assert "\n" not in str(problem)
    assert len(str(problem)) < 300


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "not JSON (Expecting value at column 1)"),
        ("[1]", "no JSON object"),
        ("null", "no JSON object"),
        ('{"type":"sample","t":1.0,"delay":1.0} {}', "more than one JSON value"),
        ('{"type":"sample","t":1.0,"delay":1.0', "not JSON (Expecting ',' delimiter at column 37)"),
        ('{"t":1.0,"delay":1.0}', "no type: sample or job"),
        ('{"type":"verdict","t":1.0}', "type 'verdict' is neither sample nor job"),
        ('{"type":["sample"],"t":1.0,"delay":1.0}', "type ['sample'] is neither sample nor job"),
        ('{"type":"sample","delay":1.0}', "no t"),
        ('{"type":"sample","t":null,"delay":1.0}', "no t"),
        ('{"type":"sample","t":true,"delay":1.0}', "t True is no number"),
        ('{"type":"sample","t":"1","delay":1.0}', "t '1' is no number"),
        ('{"type":"sample","t":NaN,"delay":1.0}', "t nan is not a finite number"),
        ('{"type":"sample","t":1e999,"delay":1.0}', "t inf is not a finite number"),
        ('{"type":"sample","t":1.0,"delay":-Infinity}', "delay -inf is not a finite number"),
        ('{"type":"sample","t":1.0,"delay":1' + "0" * 400 + "}", "delay 1" + "0" * 56 + "... is not a finite number"),
        ('{"type":"sample","t":1.0,"delay":1' + "0" * 5000 + "}", "a number with too many digits"),
        ('{"type":"sample","t":1.0,"delay":[1.0]}', "delay [1.0] is no number"),
        ('{"type":"sample","t":1.0}', "a sample with neither delay nor error"),
        ('{"type":"sample","t":1.0,"delay":null,"error":null}', "a sample with neither delay nor error"),
        ('{"type":"sample","t":1.0,"error":"in-range"}', "error 'in-range' is not the name of a condition"),
        ('{"type":"sample","t":1.0,"error":1}', "error 1 is not the name of a condition"),
        ('{"type":"sample","t":1.0,"delay":1.0,"local":"x"}', "local 'x' is no number"),
        ('{"type":"sample","t":1.0,"delay":1.0,"io":1}', "io 1 is no text"),
        ('{"type":"sample","t":1.0,"delay":1.0,"io_errno":1.5}', "io_errno 1.5 is not a whole number of 64 bits"),
        ('{"type":"sample","t":1.0,"delay":1.0,"io_errno":false}', "io_errno False is no number"),
        ('{"type":"sample","t":1.0,"delay":1.0,"sql_delay":9223372036854775808}', "sql_delay 9223372036854775808 is"),
        ('{"type":"sample","t":1.0,"delay":1.0,"source_log":"bin.1"}', "source_log 'bin.1' is not [file, position]"),
        ('{"type":"sample","t":1.0,"delay":1.0,"relay_log":["b",null]}', "no relay_log's position"),
        ('{"type":"sample","t":1.0,"delay":1.0,"server":7}', "server 7 is no text"),
        ('{"type":"sample","t":1.0,"delay":1.0,"io_state":[]}', "io_state [] is no text"),
        ('{"type":"sample","t":1.0,"delay":1.0,"filters":"a=b"}', "filters 'a=b' is no list of COLUMN=VALUE"),
        ('{"type":"sample","t":1.0,"delay":1.0,"filters":["a"]}', "filters ['a'] is no list of COLUMN=VALUE"),
        ('{"type":"sample","t":1.0,"delay":1.0,"filters":{"a":1}}', "filters {'a': 1} is no list of COLUMN=VALUE"),
        ('{"type":"sample","t":1.0,"delay":1.0,"relay_limited":1}', "relay_limited 1 is neither true nor false"),
        ('{"type":"job","t":1.0,"kind":"backup","started_at":1.0}', "a job without an id"),
        ('{"type":"job","t":1.0,"id":7,"kind":"backup","started_at":1.0}', "a job's id is no text"),
        ('{"type":"job","t":"now","id":"b1"}', "t 'now' is no number"),
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


def test_whole_numbers_and_floats_are_what_the_field_is() -> None:
    (sample,) = read(['{"type":"sample","t":1700000000,"delay":7200,"sql_delay":7200.0,"local":null}'])
    assert repr(sample) == repr(Sample(1700000000.0, 7200.0, sql_delay=7200, local_missing=True))


def test_filters_are_read_as_a_list_and_as_an_object() -> None:
    start = '{"type":"sample","t":1.0,"delay":1.0,'
    as_list, as_object, none = read(
        [
            start + '"filters":["Replicate_Do_DB=a=b"]}',
            start + '"filters":{"Replicate_Do_DB":"a=b"}}',
            start + '"filters":[]}',
        ]
    )
    assert as_list == as_object == Sample(1.0, 1.0, filters=("Replicate_Do_DB=a=b",))
    assert none == Sample(1.0, 1.0, filters=())
    assert dumps(as_object).endswith('"filters":["Replicate_Do_DB=a=b"]}')


def test_local_absent_is_not_judged_and_null_is_missing() -> None:
    absent, missing = read(
        ['{"type":"sample","t":1.0,"delay":1.0}', '{"type":"sample","t":1.0,"delay":1.0,"local":null}']
    )
    assert isinstance(absent, Sample)
    assert isinstance(missing, Sample)
    assert (absent.local_missing, missing.local_missing) == (False, True)


def test_empty_lines_may_stand_at_the_end_alone() -> None:
    line = EXAMPLE.splitlines(keepends=True)[0]
    assert len(list(read([line, "\n", "  \r\n", ""]))) == 1
    with pytest.raises(RecordingError, match=r"^line 2: empty, with more lines after it$"):
        list(read([line, "\n", line]))
    assert len(list(read([line.rstrip() + "\r\n", "  " + line]))) == 2


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(RecordingError, match=r"^line 2: not UTF-8$"):
        list(read([b'{"type":"sample","t":1.0,"delay":1.0}\n', b'{"type":"sample","t":1.0,"delay":1.0,"io":"\xff"}\n']))


def test_text_files_that_are_no_text(tmp_path: object) -> None:
    path = f"{tmp_path}/recording"
    with open(path, "wb") as file:
        file.write(b"\xff\n")
    with open(path, encoding="utf-8") as text, pytest.raises(RecordingError, match="is not UTF-8"):
        list(read(text))


def test_no_number_that_json_does_not_have_is_written() -> None:
    assert dumps(Sample(1.0, math.nan, ts=math.inf, error="timeout")) == '{"type":"sample","t":1.0,"error":"timeout"}'


def test_every_error_of_a_look_can_be_recorded() -> None:
    assert set(SAMPLE_ERRORS) <= RECORDED_ERRORS


def test_memory_does_not_grow_with_the_recording() -> None:
    def lines() -> Iterator[str]:
        for number in range(20_000):
            yield f'{{"type":"sample","t":{number}.5,"delay":7200.25}}\n'

    tracemalloc.start()
    try:
        assert sum(1 for _ in read(lines())) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
