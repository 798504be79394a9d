"""Heartbeat rows: their times, and which of them is the source's."""

from __future__ import annotations

import doctest
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_delayed_repl.observe import heartbeat
from check_delayed_repl.observe.connection import Answer
from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.observe.heartbeat import Heartbeats, age, choose, read_heartbeats, times
from check_delayed_repl.records import Sample

BERLIN = ZoneInfo("Europe/Berlin")
CLOCK = 1_795_399_200.0


def test_examples() -> None:
    assert doctest.testmod(heartbeat) == (0, 3)


NO_TIMES = """\
|NULL|2026-11-23|2026-11-23T01:58|2026-11-23T01:58:58.|2026-11-23T01:58:58Z|2026-11-23T01:58:60|2026-11-23T24:00:00
|2026-02-29T00:00:00|0000-00-00 00:00:00|0001-01-01 00:00:00|1999-12-31 23:59:59|9999-12-31 23:59:59
|2026-11-23T01:58:58.0000000000| 2026-11-23T01:58:58|2026-11-23t01:58:58|\uff12\uff10\uff12\uff16-11-23T01:58:58
|-026-11-23T01:58:58"""


@pytest.mark.parametrize(
    "ts", [None, b"\xff\xfe", b"2026-11-23T01:58:58\n", *NO_TIMES.replace("\n", "").encode().split(b"|")]
)
def test_what_is_no_time(ts: bytes | None) -> None:
    assert times(ts, None) == []
    assert times(ts, BERLIN) == []


@given(st.datetimes(datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("2199-12-31")), st.sampled_from("T "))
def test_every_time_is_read_as_it_was_written(moment: datetime, separator: str) -> None:
    ts = moment.isoformat(separator).encode()
    assert times(ts, None) == [moment.replace(tzinfo=UTC).timestamp()]


def test_a_time_zone() -> None:
    assert times(b"2026-07-01T12:00:00", BERLIN) == times(b"2026-07-01T10:00:00", None)
    # 2026-10-25 03:00 CEST is 02:00 CET: this hour comes twice.
    twice = times(b"2026-10-25T02:30:00", BERLIN)
    assert twice == [*times(b"2026-10-25T00:30:00", None), *times(b"2026-10-25T01:30:00", None)]


@pytest.mark.parametrize("true_delay", [0.0, 600.0, 3600.0, 7200.0])
def test_the_repeated_hour_is_read_as_the_delay_before_says(true_delay: float) -> None:
    start = datetime(2026, 10, 24, 23, 0, tzinfo=UTC)
    expected: float | None = true_delay
    for minute in range(0, 240, 5):
        written = start + timedelta(minutes=minute)
        ts = written.astimezone(BERLIN).strftime("%Y-%m-%dT%H:%M:%S").encode()
        found = age(ts, written.timestamp() + true_delay, BERLIN, expected)
        assert found == (true_delay, written.timestamp())
        expected = found[0]


def test_without_a_delay_before_the_smallest_that_is_not_negative_counts() -> None:
    written = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    assert age(b"2026-10-25T02:30:00", written + 600.0, BERLIN, None) == (600.0, written)


def beats(*ids: int, own_id: int = 2) -> Heartbeats:
    """Rows of these servers, the first one the newest."""
    rows: dict[int, bytes | None] = {one: f"2026-11-23T01:00:{59 - place:02}".encode() for place, one in enumerate(ids)}
    return Heartbeats(own_id if ids else None, rows, CLOCK)


def chosen(
    status_id: int, rows: Heartbeats, previous: Sample | None = None, given_id: int | None = None
) -> tuple[int, int]:
    ages = {one: age(found, CLOCK, None, None) for one, found in rows.beats.items()}
    return choose(status_id, given_id, rows.own_id, ages, previous)


def sample(source_id: int | None, heartbeat_id: int | None = None) -> Sample:
    return Sample(t=0.0, delay=1.0, source_id=source_id, heartbeat_id=heartbeat_id)


def test_the_row_of_the_status_source() -> None:
    assert chosen(1, beats(2, 1, 3)) == (1, 1)
    assert chosen(1, beats(2, 3, 1), sample(1, 1)) == (1, 1)


def test_the_row_that_is_named() -> None:
    assert chosen(1, beats(1, 2, 7), given_id=7) == (7, 7)
    assert chosen(9, beats(1, 2, 7), sample(1, 1), given_id=7) == (7, 7)
    says = r"of server 8 \(named by --master-server-id\).*server 1, 2 \(this server\), 7"
    with pytest.raises(SampleFailed, match=says):
        chosen(1, beats(1, 2, 7), given_id=8)


def test_id_0_is_the_last_known_one() -> None:
    assert chosen(0, beats(2, 1, 3), sample(1, 1)) == (1, 1)
    with pytest.raises(SampleFailed, match="names no source") as caught:
        chosen(0, beats(2, 1))
    assert caught.value.condition == "heartbeat-missing"
    with pytest.raises(SampleFailed, match="names no source"):
        chosen(0, beats(2, 1), sample(None))


def test_a_failover_from_first_to_last() -> None:
    # The status names 3 at once; its row is not there yet.
    first = chosen(3, beats(2, 1), sample(1, 1))
    assert first == (3, 1)
    # Nor the next time, nor while the replica was restarted and the status says 0.
    second = chosen(3, beats(2, 1), sample(*first))
    assert second == (3, 1)
    assert chosen(0, beats(2, 1), sample(*second)) == (3, 1)
    # An old row of 3 is there, from an earlier time as a source: the newest foreign one still serves.
    assert chosen(3, beats(2, 1, 3), sample(*second)) == (3, 1)
    # It has arrived.
    third = chosen(3, beats(2, 3, 1), sample(*second))
    assert third == (3, 3)
    # And now it must stay, even if another row is newer for a while; and back again.
    assert chosen(3, beats(2, 1, 3), sample(*third)) == (3, 3)
    assert chosen(1, beats(2, 1), sample(*first)) == (1, 1)
    with pytest.raises(SampleFailed, match="no heartbeat of server 3"):
        chosen(3, beats(2, 1), sample(*third))


def test_in_a_failover_the_row_of_another_channel_does_not_serve() -> None:
    assert chosen(3, beats(2, 5, 1), sample(1, 1)) == (3, 1)
    assert chosen(3, beats(5, 2, 3, 1), sample(3, 1)) == (3, 3)
    assert chosen(3, beats(5, 2, 3), sample(3, 1)) == (3, 3)
    assert chosen(3, beats(5, 2), sample(1, 1)) == (3, 5), "but where there is no other"
    assert chosen(3, beats(5, 2, 3, 4, 1), sample(4, 1)) == (3, 3), "two failovers in a row"


def test_after_a_failover_between_two_that_both_write_the_new_ones_row_serves() -> None:
    rows = beats(2, 1, 3)
    (of_old, *_), (of_new, *_) = (times(rows.beats[one], None) for one in (1, 3))
    assert chosen(3, rows, sample(1, 1)._replace(ts=of_new - 1)) == (3, 1), "at first it is told that it changed"
    assert chosen(3, rows, sample(3, 1)._replace(ts=of_new - 1)) == (3, 3)
    assert chosen(3, rows, sample(3, 1)._replace(ts=of_new)) == (3, 1), "it has not been written since"
    assert of_new < of_old


def test_in_a_failover_rows_that_are_no_time_do_not_serve() -> None:
    rows = beats(2, 9, 1)
    rows.beats[9] = b"garbage"
    assert chosen(3, rows, sample(1, 1)) == (3, 1)


def test_a_failover_without_any_foreign_row() -> None:
    for rows, says in ((beats(2), "no heartbeat|has no row"), (beats(), "the table is empty")):
        with pytest.raises(SampleFailed, match=says) as caught:
            chosen(3, rows, sample(1, 1))
        assert caught.value.condition == "heartbeat-missing"


def answering(*rows: tuple[bytes | None, ...]) -> heartbeat.Ask:
    def ask(sql: str, purpose: str) -> Answer:
        assert "`percona`.`heart``beat`" in sql
        assert purpose == "reading the heartbeats"
        return Answer(["server_id", "ts", "clock", "own"], list(rows))

    return ask


def test_rows_are_read() -> None:
    ask = answering((b"1", b"a", b"1795399200", b"2"), (b"2", None, b"1795399200.000001", b"2"))
    assert read_heartbeats(ask, "percona.heart`beat") == Heartbeats(2, {1: b"a", 2: None}, 1795399200.000001)
    assert read_heartbeats(answering(), "percona.heart`beat") == Heartbeats(None, {}, 0.0)


@pytest.mark.parametrize(
    "row",
    [
        *((server, b"", b"1795399200", b"2") for server in (None, b"", b"-1", b"1e5")),
        *((b"1", b"", clock, b"2") for clock in (None, b"0", b"nan", b"99999999999999999")),
        *((b"1", b"", b"1795399200", own) for own in (None, b"\xff")),
        (b"1",),
    ],
)
def test_garbage_is_a_finding(row: tuple[bytes | None, ...]) -> None:
    with pytest.raises(SampleFailed) as caught:
        read_heartbeats(answering(row), "percona.heart`beat")
    assert caught.value.condition == "heartbeat-unreadable"
    assert caught.value.message.isprintable()


def test_another_table_is_named() -> None:
    row = (b"1", b"2026-11-23T01:00:00", b"1795399200", b"2")
    assert len(read_heartbeats(answering(*[row] * heartbeat.MAX_ROWS), "percona.heart`beat").beats) == 1
    with pytest.raises(SampleFailed, match="has more than 30000 rows") as caught:
        read_heartbeats(answering(*[row] * (heartbeat.MAX_ROWS + 1)), "percona.heart`beat")
    assert caught.value.condition == "heartbeat-unreadable"


@pytest.mark.parametrize("row", [(b"geheim", b"t", b"1.0", b"2"), (b"1", b"t", b"geheim", b"2")])
def test_our_password_is_not_repeated(row: tuple[bytes | None, ...]) -> None:
    with pytest.raises(SampleFailed, match=r"'\*\*\*'"):
        read_heartbeats(answering(row), "percona.heart`beat", "geheim")
    assert heartbeat.shown(b"my geheim", "geheim") == "'my ***'"


@pytest.mark.parametrize(
    ("number", "condition", "says"),
    [
        (1146, "heartbeat-missing", "there is no table percona.heartbeat"),
        (1049, "heartbeat-missing", "there is no table percona.heartbeat"),
        (1142, "heartbeat-missing", "GRANT SELECT ON percona.heartbeat"),
        (1143, "heartbeat-missing", "GRANT SELECT ON percona.heartbeat"),
        (1044, "heartbeat-missing", "GRANT SELECT ON percona.heartbeat"),
        (1054, "heartbeat-unreadable", "lacks the columns server_id and ts"),
        (1205, "timeout", "is locked"),
        (1969, "timeout", "time limit for statements"),
        (3024, "timeout", "time limit for statements"),
        (145, "heartbeat-unreadable", "ask the server's error log (error 145: the server's words)"),
        (1226, "heartbeat-unreadable", "raise the account's limits (error 1226"),
    ],
)
def test_what_the_server_refuses(number: int, condition: str, says: str) -> None:
    def ask(_: str, __: str) -> Answer:
        raise Refused(number, "the server's words")

    with pytest.raises(SampleFailed) as caught:
        read_heartbeats(ask, "percona.heartbeat")
    assert caught.value.condition == condition
    assert says in caught.value.message
