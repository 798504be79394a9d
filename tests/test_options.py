"""Arguments: what is understood, and one line that names the option for everything else."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from check_delayed_repl import options
from check_delayed_repl.arguments import UsageError, duration, moment
from check_delayed_repl.limits import Limits, option
from check_delayed_repl.plugin import build_parser


def parse(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(arguments)


def limits(*arguments: str) -> Limits:
    return options.limits_from(parse(*arguments))


def test_durations() -> None:
    texts = "0 60 1.5 90s 90m 1.5h 30d 1e3 .5"
    assert [duration(text) for text in texts.split()] == [0, 60, 1.5, 90, 5400, 5400, 2592000, 1000, 0.5]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1 h",
        *["s", "h", "1w", "1H", "nan", "inf", "-1", "-5m", "1_000", "٣", "0x10", "1e999", "9e307d", "1h30m", "--"],
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)


def test_moments() -> None:
    assert moment("1700000000.5") == 1700000000.5
    assert moment("1700000000") == moment("2023-11-14T22:13:20") == moment("2023-11-14 23:13:20+01:00") == 1.7e9
    assert moment("2026-01-01") == 1767225600.0
    assert abs(moment("2d") - (time.time() - 2 * 86400)) < 5
    for text in ("", "yesterday", "10", "25:00", "-5d"):
        with pytest.raises(argparse.ArgumentTypeError):
            moment(text)


@pytest.mark.parametrize("hour", [0, 12, 23])
def test_a_time_of_day_is_the_last_one_that_was(hour: int) -> None:
    found = datetime.fromtimestamp(moment(f"{hour}:30"), UTC)
    assert (found.hour, found.minute) == (hour, 30)
    assert timedelta() <= datetime.now(UTC) - found < timedelta(days=1, minutes=1)


def test_nothing_given_means_the_defaults() -> None:
    assert limits() == Limits()
    target = options.target_from(parse())
    assert (target.heartbeat_table, target.defaults_group) == ("percona.heartbeat", "client")
    assert target.local_heartbeat


def test_every_limit_has_an_option_that_reaches_it() -> None:
    for field in Limits._fields[:12]:
        assert getattr(limits("--min-delay-time", "0", option(field), "0.25"), field) == 0.25
    given = "--window 1m --fit window --delay-mode native --no-local-heartbeat --max-job-behind schema_change=2h"
    given_all = limits(*given.split(), "--job-stops-server", "backup", "--job-stops-server", "schema_change")
    assert given_all == Limits(
        window=60.0,
        fit="window",
        delay_mode="native",
        local_heartbeat=False,
        job_limits=(("schema_change", 7200.0),),
        job_stops_server=("backup", "schema_change"),
    )


def test_every_connection_option_reaches_the_target() -> None:
    file = str(Path(__file__))
    given = "-H db -P 3307 -S /s -u me -p secret --defaults-group g --ssl-mode VERIFY_CA --ssl-ca ca --ssl-cert cert"
    given += " --ssl-key key --channel c --heartbeat-table ops.hb --master-server-id 7"
    given += " --heartbeat-timezone Europe/Berlin --no-local-heartbeat"
    target = options.target_from(parse(*given.split(), "--defaults-file", file))
    assert target == (
        *("db", 3307, "/s", "me", "secret", file, "g", "verify-ca", "ca", "cert", "key"),
        *("c", "ops.hb", 7, "Europe/Berlin", False),
    )


def test_source_is_spelt_both_ways_and_the_last_one_given_counts() -> None:
    assert limits("--max-source-behind", "5").max_master_behind == 5
    assert parse("--master-server-id", "1", "--source-server-id", "2").master_server_id == 2
    assert parse("-H", "a", "--host", "b").host == "b"
    assert limits("--max-job-behind", "x=1", "--max-job-behind", "x=2").job_limits == (("x", 2.0),)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--min-delay-time", "9001"], "--min-delay-time"),
        (["--max-delay-time", "5m"], "--min-delay-time"),
        (["--max-backup-behind", "-1"], "--max-backup-behind"),
        (["--max-last-seen", "nan"], "--max-last-seen"),
        (["--max-trend-time", "inf"], "--max-trend-time"),
        (["--max-relay-behind"], "--max-relay-behind"),
        (["--window", "0"], "--window"),
        (["--min-recovery-slope", "-0.1"], "--min-recovery-slope"),
        (["--min-correlation", "1.1"], "--min-correlation"),
        (["--max-job-behind", "schema"], "--max-job-behind"),
        (["--max-job-behind", "=5"], "--max-job-behind"),
        (["--max-job-behind", "a b=5"], "--max-job-behind"),
        (["--max-job-behind", "backup=5"], "--max-job-behind"),
        (["--max-job-behind", "trend=5"], "--max-job-behind"),
        (["--job-stops-server", "other"], "--job-stops-server"),
        (["-P", "0"], "--port"),
        (["-P", "65536"], "--port"),
        (["-H", "a\nb"], "--host"),
        (["-t", "0"], "--timeout"),
        (["-t", "2d"], "--timeout"),
        (["--ssl-mode", "sometimes"], "--ssl-mode"),
        (["--heartbeat-table", "heartbeat"], "--heartbeat-table"),
        (["--heartbeat-table", "a.b; DROP"], "--heartbeat-table"),
        (["--master-server-id", "0"], "--master-server-id"),
        (["--master-server-id", "4294967296"], "--master-server-id"),
        (["--heartbeat-timezone", "Mars/Olympus"], "--heartbeat-timezone"),
        (["--heartbeat-timezone", "../../etc/passwd"], "--heartbeat-timezone"),
        (["--defaults-file", "/does/not/exist"], "--defaults-file"),
        (["--history", ""], "--history"),
        (["--max-backup", "5"], "--max-backup"),
        (["--max-relay-behind", ""], "--max-relay-behind"),
        (["--window", "-5"], "--window"),
        (["--fit", "curve"], "--fit"),
        (["--min-recovery-slope", "NaN"], "--min-recovery-slope"),
        (["--min-correlation", "half"], "--min-correlation"),
        (["--max-job-behind", "x=-5"], "--max-job-behind"),
        (["-P", "x"], "--port"),
        (["-H", ""], "--host"),
        (["--heartbeat-table", "a.b.c"], "--heartbeat-table"),
        (["--heartbeat-timezone", ""], "--heartbeat-timezone"),
        (["--delay-mode", "perhaps"], "--delay-mode"),
        (["--replica", ""], "--replica"),
        (["--sampling", "both"], "--sampling"),
        (["--output", "xml"], "--output"),
        (["--no-such-option"], "--no-such-option"),
        (["-x"], "-x"),
    ],
)
def test_nonsense_is_a_usage_error_that_names_the_option(arguments: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=f"(^|/){named}[/:]") as caught:
        limits(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", ["--pasword=geheim", "-p two geheim", "--password two -- geheim", "-ygeheim", "-p geheim --window 0"]
)
def test_a_usage_error_never_quotes_what_may_be_a_password(arguments: str) -> None:
    with pytest.raises(UsageError) as caught:
        limits(*arguments.split())
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["-H", "db1"], "db1:3306"),
        (["-H", "db1", "-P", "3307", "--channel", "orders"], "db1:3307#orders"),
        (["-S", "/run/x.sock"], "/run/x.sock"),
        (["-S", "/run/x.sock", "--channel", "c"], "/run/x.sock#c"),
        (["-H", "db1", "--replica", "nightly"], "nightly"),
    ],
)
def test_the_name_in_the_history(arguments: list[str], name: str) -> None:
    assert options.replica_name(parse(*arguments)) == name


def test_the_name_follows_the_option_file(tmp_path: Path) -> None:
    file = tmp_path / "my.cnf"
    file.write_text("[client]\nhost=db9\nport=3310\n")
    assert options.replica_name(parse("--defaults-file", str(file))) == "db9:3310"


def test_an_option_file_that_cannot_be_understood_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--defaults-file"):
        options.replica_name(parse("--defaults-file", str(tmp_path)))
