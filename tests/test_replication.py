"""The replication status: both families of names, and whatever a server may say that cannot be believed."""

from __future__ import annotations

import pytest

from check_delayed_repl.arguments import replication_filter
from check_delayed_repl.observe.connection import Answer, Ask
from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.observe.replication import (
    SHOW_ALL_SLAVES,
    SHOW_REPLICA,
    SHOW_SLAVE,
    Status,
    parse_status,
    privilege,
    read_status,
)

MARIADB = "5.5.5-10.11.6-MariaDB-0+deb12u1-log"
OLD = {
    "Connection_name": b"",
    "Slave_IO_State": b"Waiting for master to send event",
    "Master_Log_File": b"bin.000007",
    "Read_Master_Log_Pos": b"3522",
    "Relay_Log_File": b"relay.000002",
    "Relay_Log_Pos": b"55",
    "Relay_Master_Log_File": b"bin.000006",
    "Slave_IO_Running": b"Yes",
    "Slave_SQL_Running": b"No",
    "Exec_Master_Log_Pos": b"779",
    "Relay_Log_Space": b"4096",
    "Seconds_Behind_Master": None,
    "Last_IO_Errno": b"0",
    "Last_IO_Error": b"",
    "Last_SQL_Errno": b"1032",
    "Last_SQL_Error": b"Could not execute\nUpdate_rows",
    "Master_Server_Id": b"1",
    "SQL_Delay": b"7200",
    "SQL_Remaining_Delay": None,
}
NEW = {
    name.replace("Master", "Source").replace("Slave", "Replica").replace("Connection_name", "Channel_Name"): value
    for name, value in OLD.items()
}
SEEN = {
    "io": "Yes",
    "sql": "No",
    "io_errno": 0,
    "io_error": None,
    "sql_errno": 1032,
    "sql_error": "Could not execute Update_rows",
    "source_log": ("bin.000007", 3522),
    "relay_log": ("bin.000006", 779),
    "relay_log_space": 4096,
    "sql_delay": 7200,
    "sql_remaining": None,
    "seconds_behind": None,
    "io_state": "Waiting for master to send event",
    "filters": (),
    "relay_limited": False,
}
READ = Status("", 1, SEEN)


def answer(*rows: dict[str, bytes | None]) -> Answer:
    return Answer(list(rows[0]), [tuple(row.values()) for row in rows])


@pytest.mark.parametrize("row", [OLD, NEW])
def test_both_families_in_any_order(row: dict[str, bytes | None]) -> None:
    assert parse_status(answer(row), None) == READ
    assert parse_status(answer(dict(reversed(row.items()))), None) == READ


def test_a_server_that_cannot_delay() -> None:
    row = {name: value for name, value in OLD.items() if not name.startswith("SQL_")}
    assert parse_status(answer(row), None) == READ._replace(seen=SEEN | {"sql_delay": None})


def test_a_full_relay_log() -> None:
    for who in ("slave SQL thread to free enough", "replica SQL thread to free enough", "replica SQL thread to free"):
        state = f"Waiting for the {who} relay log space"
        seen = parse_status(answer({**NEW, "Replica_IO_State": state.encode()}), None).seen
        assert (seen["relay_limited"], seen["io_state"]) == (True, state)


def test_replication_filters() -> None:
    filters: dict[str, bytes | None] = {
        "Replicate_Do_DB": b"",
        "Replicate_Wild_Do_Table": b"shop\\_1.%,log.a|b",
        "Replicate_Ignore_Table": None,
        "Replicate_Rewrite_DB": b"(a,b)",
        "Replicate_Do_Domain_Ids": b"3",
        "Replicate_Ignore_Server_Ids": b"x" * 5000,
    }
    found = parse_status(answer({**OLD, **filters}), None).seen["filters"]
    # As the server shows them, so that they can be allowed by name.
    wild, *others, long = found
    assert wild == "Replicate_Wild_Do_Table=shop\\_1.%,log.a|b"
    assert others == ["Replicate_Rewrite_DB=(a,b)", "Replicate_Do_Domain_Ids=3"]
    assert len(long) < 500


def test_no_part_of_a_filter_is_lost() -> None:
    def seen(value: str) -> str:
        (entry,) = parse_status(answer({**OLD, "Replicate_Ignore_Table": value.encode()}), None).seen["filters"]
        return str(entry)

    many = ",".join(f"shop.temporary_table_{n:02}" for n in range(30))
    assert seen(many) == f"Replicate_Ignore_Table={many}"
    assert seen("a.b  c") == "Replicate_Ignore_Table=a.b  c"
    for value in (many, "x" * 5000):
        assert seen(value) != seen(f"{value},shop.orders")
        # What the command line takes is the same.
        assert replication_filter(f"Replicate_Ignore_Table={value}") == seen(value)
    assert len(seen("x" * 100_000)) < 500


def test_no_position_yet() -> None:
    row = {**OLD, "Master_Log_File": b"", "Read_Master_Log_Pos": b"4"}
    assert parse_status(answer(row), None).seen["source_log"] is None


def test_channels() -> None:
    rows = [
        {**NEW, "Channel_Name": name, "Source_Server_Id": server} for name, server in ((b"a", b"5"), (b"B\xc3", b"6"))
    ]
    both = answer(*rows)
    assert parse_status(both, "a").source_id == 5
    assert parse_status(both, "A").source_id == 5
    with pytest.raises(SampleFailed, match="there are 2 channels: name one with --channel: a, B") as caught:
        parse_status(both, None)
    assert caught.value.condition == "not-a-replica"
    with pytest.raises(SampleFailed, match="there is no channel 'x'; check --channel; there are: a, B"):
        parse_status(both, "x")
    with pytest.raises(SampleFailed, match="no replication channel is configured"):
        parse_status(Answer([], []), None)
    # The one without a name has a name for it.
    assert parse_status(answer(OLD, {**OLD, "Connection_name": b"x"}), "").channel == ""


BAD: dict[str, tuple[bytes | None, ...]] = {
    "Slave_IO_Running": (None, b"", b"Maybe"),
    "Slave_SQL_Running": (None, b"Connecting"),
    "Master_Server_Id": (None, b"-1", b"one"),
    "Last_IO_Errno": (None,),
    "Last_SQL_Errno": (b"\xff", b"1e3"),
    "Read_Master_Log_Pos": (b"-5",),
    "Exec_Master_Log_Pos": (None, b"9" * 30, "\uff17".encode()),
    "Relay_Log_Space": (b"",),
    "Seconds_Behind_Master": (b"", b"18446744073709551616"),
    "SQL_Delay": (None, b"-7200", b"nan"),
    "SQL_Remaining_Delay": (b"soon",),
}


@pytest.mark.parametrize("column", BAD)
def test_absurd_values_and_missing_columns_are_a_finding(column: str) -> None:
    rows = [{**OLD, column: value} for value in BAD[column]]
    if not column.startswith("SQL_"):
        rows.append({name: value for name, value in OLD.items() if name != column})
    for row in rows:
        with pytest.raises(SampleFailed, match=None if column in row else "it has no") as caught:
            parse_status(answer(row), None)
        assert caught.value.condition == "status-unreadable"
        assert caught.value.message.isprintable()


def test_a_row_that_ends_early_is_a_finding() -> None:
    whole = answer({**OLD, "Replicate_Do_DB": b"shop"})
    with pytest.raises(SampleFailed, match="it has no replicate_do_db"):
        parse_status(whole._replace(rows=[whole.rows[0][:-1]]), None)


def test_our_password_is_not_repeated() -> None:
    row = {**OLD, "Last_IO_Error": b"using password: geheim"}
    assert parse_status(answer(row), None, "geheim").seen["io_error"] == "using password: ***"
    with pytest.raises(SampleFailed, match=r"replica_io_running is 'Yes\*\*\*'"):
        parse_status(answer({**OLD, "Slave_IO_Running": b"Yesgeheim"}), None, "geheim")
    both = answer({**OLD, "Connection_name": b"geheim"}, {**OLD, "Connection_name": b"x"})
    with pytest.raises(SampleFailed, match=r"name one with --channel: \*\*\*, x"):
        parse_status(both, None, "geheim")


def server(**answers: Answer | int) -> tuple[Ask, list[str]]:
    """A server that knows some statements (by their second word), and what it has been asked."""
    asked: list[str] = []

    def ask(sql: str, _: str) -> Answer:
        asked.append(sql)
        reply = answers.get(sql.split()[1], 1064)
        if isinstance(reply, int):
            raise Refused(reply, "the server's words")
        return reply

    return ask, asked


@pytest.mark.parametrize(
    ("version", "answers", "asked"),
    [
        (MARIADB, {"ALL": answer(OLD)}, [SHOW_ALL_SLAVES]),
        ("8.0.22", {"REPLICA": answer(NEW)}, [SHOW_REPLICA]),
        ("9.7.0", {"REPLICA": answer(NEW)}, [SHOW_REPLICA]),
        ("5.6.24-log", {"SLAVE": answer(OLD)}, [SHOW_SLAVE]),
        # Servers that call themselves otherwise.
        ("8.4.0-proxy", {"ALL": answer(OLD)}, [SHOW_REPLICA, SHOW_SLAVE, SHOW_ALL_SLAVES]),
        ("8.4.0-proxy", {"SLAVE": Answer([], []), "ALL": answer(OLD)}, [SHOW_REPLICA, SHOW_SLAVE, SHOW_ALL_SLAVES]),
        ("", {"REPLICA": answer(NEW)}, [SHOW_SLAVE, SHOW_REPLICA]),
    ],
)
def test_the_statement_that_the_server_knows(version: str, answers: dict[str, Answer], asked: list[str]) -> None:
    ask, log = server(**answers)
    assert read_status(ask, version, None) == READ
    assert log == asked


@pytest.mark.parametrize(
    ("version", "needed"),
    [
        (MARIADB, "SLAVE MONITOR"),
        ("11.8.2-MariaDB", "SLAVE MONITOR"),
        ("5.5.5-10.5.8-MariaDB", "REPLICATION SLAVE ADMIN"),
        ("10.4.1-MariaDB", "REPLICATION CLIENT"),
        ("8.4.3", "REPLICATION CLIENT"),
        ("5.6.24", "REPLICATION CLIENT"),
    ],
)
def test_the_privilege_that_is_missing_is_named(version: str, needed: str) -> None:
    assert privilege(version) == needed
    ask, _ = server(ALL=1227, REPLICA=1227, SLAVE=1227)
    with pytest.raises(SampleFailed, match=f"GRANT {needed} ON") as caught:
        read_status(ask, version, None)
    assert caught.value.condition == "status-unreadable"


def test_other_refusals() -> None:
    for number, advice in ((1205, "ask the server's error log"), (1820, "the account's password has expired")):
        ask, _ = server(ALL=number)
        with pytest.raises(SampleFailed, match=rf"SHOW ALL SLAVES STATUS failed: {advice} \(error {number}"):
            read_status(ask, MARIADB, None)
    ask, log = server()
    with pytest.raises(SampleFailed, match="knows no statement"):
        read_status(ask, "1", None)
    assert len(log) == 3
