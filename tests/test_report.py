"""The plugin's output, whole lines, and the verdict as JSON."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_delayed_repl.judge.outcome import Finding, JobView, State, Trend, Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import Sample
from check_delayed_repl.report.document import render as render_document
from check_delayed_repl.report.nagios import render, render_line

HEALTHY = (
    "DELAYED_REPL OK - Replication delay 7203.1 seconds is within 5400 to 9000 |"
    " delay=7203.5s;;5400:9000 intercept=7203.125s;;5400:9000 slope=0.000123 correlation=0.01 samples=60"
    " local_heartbeat_age=0.6s;;-1:60 source_log_age=1s;;1800 relay_log_age=3.25s;;28800 relay_log_space=123456789B"
    " worker_age=2.5s;;60 backup_age=0s;;64800 deshard_age=0s;;32400 backup_held=0s;;64800 deshard_held=0s;;32400"
    " recovery_held=0s;;21600 trend_held=0s;;9000 sql_delay=7200s"
)
NOTHING_KNOWN = (
    " | delay=U intercept=U slope=U correlation=U samples=U local_heartbeat_age=U source_log_age=U relay_log_age=U"
    " relay_log_space=U worker_age=U backup_age=U deshard_age=U backup_held=U deshard_held=U recovery_held=U"
    " trend_held=U sql_delay=U"
)

LIMITS = (
    "limits: --max-seconds-behind 60 --max-relay-behind 28800 --max-master-behind 1800 --max-backup-behind 64800"
    " --max-deshard-behind 32400 --max-last-seen 60 --min-delay-time 5400 --max-delay-time 9000"
    " --max-recovery-time 21600 --max-trend-time 9000 --min-recovery-slope 0.1 --min-correlation 0.5"
    " --window 600 --fit segment "
)


def unjudged(finding: Finding) -> Verdict:
    return Verdict(1700000000.0, (finding,), Trend(), None, (), {}, None, None, None, None)


def test_a_quiet_line(healthy: Verdict) -> None:
    assert render(healthy, Limits()).splitlines() == [
        HEALTHY,
        "[OK in-range] Replication delay 7203.1 seconds is within 5400 to 9000",
        "trend: intercept 7203.1 s, slope 0.0001 s/s, correlation 0.01, 60 samples over 590 s",
        "held: backup 0 s, deshard 0 s, recovery 0 s, trend 0 s (no episode)",
    ]


def test_a_backup_night(healthy: Verdict) -> None:
    verdict = healthy._replace(
        findings=(
            Finding(State.CRITICAL, "io-error", "IO thread reports error 1236: could not find first log <file> | name"),
            Finding(State.WARNING, "active-backup", "Active backup: running 3600 seconds (limit 64800)"),
        ),
        trend=Trend(1.0, 10800.0, 1.0, 60, 590.0),
        jobs=(
            JobView("b1", "backup", "active", 1699997000.0, None, 3600.0),
            JobView("d|1", "deshard", "completed", 1699990000.0, 1699991000.0, 1000.0),
            JobView("s1", "schema", "active", 1699999600.0, None, 1000.0),
            JobView("odd", "oven", "invalid", 1e300, None, None, "unknown kind"),
        ),
        held={"backup": 120.5, "deshard": 0.0, "schema": 3.0, "recovery": 0.0, "trend": 0.0},
        episode_since=1700000480.0,
    )
    limits = Limits(job_limits=(("schema", 7200.0),), job_stops_server=("backup",), local_heartbeat=False)
    lines = render(verdict, limits, 1).splitlines()
    assert lines[0].startswith(
        "DELAYED_REPL CRITICAL - IO thread reports error 1236: could not find first log (file) / name | delay=7203.5s"
    )
    assert lines[0].endswith(" sql_delay=7200s schema_age=1000s;;7200 schema_held=3s;;7200")
    assert " backup_age=3600s;;64800 deshard_age=0s;;32400 backup_held=120.5s;;64800 " in lines[0]
    assert lines[1:] == [
        "[CRITICAL io-error] IO thread reports error 1236: could not find first log (file) / name",
        "[WARNING active-backup] Active backup: running 3600 seconds (limit 64800)",
        "trend: intercept 10800 s, slope 1 s/s, correlation 1, 60 samples over 590 s",
        "job b1: backup, active, started 2023-11-14 21:23:20 UTC, running 3600 s",
        "job d/1: deshard, completed, started 2023-11-14 19:26:40 UTC, finished 2023-11-14 19:43:20 UTC, ran 1000 s",
        "job s1: schema, active, started 2023-11-14 22:06:40 UTC, running 1000 s",
        "job odd: oven, invalid, started t=1e+300 (unknown kind)",
        (
            "held: backup 120.5 s, deshard 0 s, schema 3 s, recovery 0 s, trend 0 s"
            " (episode since 2023-11-14 22:21:20 UTC)"
        ),
        LIMITS + "--max-job-behind schema=7200 --job-stops-server backup --delay-mode auto --no-local-heartbeat",
    ]


def test_vv_shows_the_sample(healthy: Verdict) -> None:
    assert [line for line in render(healthy, Limits(), 2).splitlines() if line.startswith("sample")] == [
        "sample: t 1700000600 (2023-11-14 22:23:20 UTC)",
        "sample: delay 7203.5",
        "sample: ts 1699993396.5",
        "sample: source_id 1",
        "sample: local 0.6",
        "sample: io Yes",
        "sample: sql Yes",
        "sample: io_errno 0",
        "sample: sql_errno 0",
        "sample: source_log bin.000001:3522",
        "sample: relay_log bin.000001:779",
        "sample: relay_log_space 123456789",
        "sample: sql_delay 7200",
    ]


def test_vv_shows_filters_and_the_server_and_no_password(healthy: Verdict) -> None:
    sample = healthy.sample._replace(
        server="uuid:1-2",
        filters=("Replicate_Do_DB=a", "Replicate_Ignore_DB=b"),
        relay_limited=True,
        sql_error="Query: 'create user hb@h identified by 'hbpw''",
    )
    text = render(healthy._replace(sample=sample), Limits(), 2)
    for said in ("server uuid:1-2", "filters Replicate_Do_DB=a, Replicate_Ignore_DB=b", "relay_limited True"):
        assert f"\nsample: {said}\n" in text
    assert "hbpw" not in text


def test_a_flood_of_jobs_and_findings_is_cut_short(healthy: Verdict) -> None:
    many = 20_000
    flooded = healthy._replace(
        findings=(Finding(State.WARNING, "job-record-invalid", "Job record is invalid"),) * many,
        jobs=tuple(JobView(f"b{n}", "backup", "active", 1699997000.0, None, 3600.0) for n in range(many)),
    )
    lines = render(flooded, Limits()).splitlines()
    assert len(lines) == 1 + 21 + 1 + 21 + 1
    assert (lines[21], lines[43]) == ("and 19980 more findings", "and 19980 more jobs")
    assert lines[0].partition(" | ")[2].count("=") == HEALTHY.partition(" | ")[2].count("=")
    document = json.loads(render_document(flooded, Limits(), "db1"))
    assert (len(document["findings"]), len(document["jobs"])) == (20, 20)
    assert document["left_out"] == {"findings": 19980, "jobs": 19980}


def test_nothing_known() -> None:
    assert render(unjudged(Finding(State.CRITICAL, "history-unavailable", "no space")), Limits(), 2).splitlines() == [
        "DELAYED_REPL CRITICAL - no space" + NOTHING_KNOWN,
        "[CRITICAL history-unavailable] no space",
        "trend: unknown, no delay is known",
        "held: unknown",
        LIMITS + "--delay-mode auto",
        "sample: none",
    ]


def test_a_failed_sample_leaves_its_numbers_unknown(healthy: Verdict) -> None:
    failed = healthy._replace(sample=Sample(1700000600.0, error="timeout", message="no answer within 10 s"))
    line = render(failed, Limits()).splitlines()[0]
    assert " delay=U intercept=7203.125s" in line
    assert " local_heartbeat_age=U " in line
    assert line.endswith(" sql_delay=U")


def test_too_few_samples_for_a_trend(healthy: Verdict) -> None:
    lines = render(healthy._replace(trend=Trend(None, 7203.5, None, 2, 10.0)), Limits()).splitlines()
    assert " slope=U correlation=U samples=2 " in lines[0]
    assert lines[2] == "trend: too few samples; the delay is 7203.5 s"


def test_a_critical_is_not_hidden_by_an_unknown(healthy: Verdict) -> None:
    both = (Finding(State.CRITICAL, "sql-error", "A"), Finding(State.UNKNOWN, "internal-error", "B"))
    assert render(healthy._replace(findings=both), Limits()).startswith("DELAYED_REPL CRITICAL - A | ")


@pytest.mark.parametrize("state", list(State))
def test_a_line_alone(state: State) -> None:
    assert render_line(state, "--port: 'a|b'\nno") == f"DELAYED_REPL {state.name} - --port: 'a/b' no\n"


def test_the_first_line_of_a_long_text_fits_nrpe(healthy: Verdict) -> None:
    endless = healthy._replace(findings=(Finding(State.CRITICAL, "sql-error", "word " * 10_000),))
    first, long_output = render(endless, Limits()).splitlines()[:2]
    assert len(first) < 1024
    assert len(long_output) <= 1000


NUMBER = st.none() | st.floats()


@given(value=NUMBER, second=NUMBER, text=st.text(min_size=1), size=st.none() | st.integers())
def test_any_verdict_is_a_line_that_nagios_understands(
    value: float | None, second: float | None, text: str, size: int | None
) -> None:
    """Plain decimals or U, in the one order; a single bar; nothing that begins another line."""
    trend = Trend(value, second, value, 3, 20.0) if value is not None else Trend(None, second, None)
    verdict = Verdict(
        at=1700000000.0,
        findings=(Finding(State.WARNING, "source-changed", text),),
        trend=trend,
        sample=Sample(1700000000.0, delay=value, local=second, relay_log_space=size, sql_delay=size),
        jobs=(JobView(text, "backup", "active", value, second, value, text),),
        held={"backup": 1.0, "deshard": 0.0, "recovery": 0.0, "trend": 0.0},
        worker_age=value,
        source_log_age=second,
        relay_log_age=value,
        episode_since=second,
    )
    output = render(verdict, Limits(), 2)
    assert output.count("|") == 1
    assert all(line.isprintable() for line in output.splitlines())
    assert output.count("\n") == len(output.splitlines())
    perfdata = output.splitlines()[0].partition(" | ")[2].split(" ")
    assert [entry.partition("=")[0] for entry in perfdata] == [
        entry.partition("=")[0] for entry in HEALTHY.partition(" | ")[2].split(" ")
    ]
    for entry in perfdata:
        assert re.fullmatch(r"\w+=(U|-?[0-9]+(\.[0-9]+)?[sB]?(;;(-1:)?[0-9]+(:[0-9]+)?)?)", entry), entry


def test_every_key(healthy: Verdict) -> None:
    verdict = healthy._replace(
        findings=(*healthy.findings, Finding(State.WARNING, "job-record-invalid", "Job <odd>\n| is invalid")),
        jobs=(JobView("b1", "backup", "active", 1699997000.0, None, 3600.0),),
    )
    text = render_document(verdict, Limits(job_limits=(("schema", 60.0),)), "db1:3306")
    assert text.count("\n") == 1
    document = json.loads(text)
    keys = "state condition findings trend metrics limits jobs replica config notes at"
    assert " ".join(document) == keys
    assert (document["state"], document["condition"]) == ("OK", "in-range")
    finding = {"state": "WARNING", "condition": "job-record-invalid", "message": "Job (odd) / is invalid"}
    assert document["findings"][1] == finding
    line = {"slope": 0.000123, "intercept": 7203.125, "correlation": 0.01}
    assert document["trend"] == line | {"samples": 60, "span": 590.0}
    assert document["metrics"]["delay"] == 7203.5
    assert document["metrics"]["backup_age"] == 3600
    assert document["metrics"]["schema_held"] is None
    assert list(document["metrics"])[-3:] == ["sql_delay", "schema_age", "schema_held"]
    assert document["limits"]["min_delay_time"] == 5400
    assert document["limits"]["job_limits"] == {"schema": 60.0}
    job = {"id": "b1", "kind": "backup", "status": "active", "started_at": 1699997000.0}
    assert document["jobs"] == [job | {"finished_at": None, "running": 3600.0, "reason": ""}]
    assert (document["replica"], document["at"]) == ("db1:3306", 1700000600.0)


def test_what_is_no_number_is_null() -> None:
    nan, infinite = float("nan"), float("inf")
    finding = Finding(State.CRITICAL, "timeout", "no answer")
    verdict = Verdict(1.0, (finding,), Trend(nan, infinite, None), None, (), {}, nan, infinite, None, None)
    document = json.loads(render_document(verdict, Limits(), "x"), parse_constant=lambda name: f"not JSON: {name}")
    assert document["trend"]["slope"] is document["trend"]["intercept"] is None
    assert set(document["metrics"].values()) == {None}
