"""The verdict as JSON."""

from __future__ import annotations

import json

from check_delayed_repl.judge.outcome import Finding, JobView, State, Trend, Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.report.document import render


def test_every_key(healthy: Verdict) -> None:
    verdict = healthy._replace(
        findings=(*healthy.findings, Finding(State.WARNING, "job-record-invalid", "Job <odd>\n| is invalid")),
        jobs=(JobView("b1", "backup", "active", 1699997000.0, None, 3600.0),),
    )
    text = render(verdict, Limits(job_limits=(("schema", 60.0),)), "db1:3306")
    assert text.count("\n") == 1
    document = json.loads(text)
    assert list(document) == [
        *("state", "condition", "findings", "trend", "metrics", "limits", "jobs", "replica", "config", "notes", "at")
    ]
    assert (document["state"], document["condition"]) == ("OK", "in-range")
    assert document["findings"][1] == {
        "state": "WARNING",
        "condition": "job-record-invalid",
        "message": "Job (odd) / is invalid",
    }
    assert document["trend"] == {
        "slope": 0.000123,
        "intercept": 7203.125,
        "correlation": 0.01,
        "samples": 60,
        "span": 590.0,
    }
    assert document["metrics"]["delay"] == 7203.5
    assert document["metrics"]["backup_age"] == 3600
    assert document["metrics"]["schema_held"] is None
    assert list(document["metrics"])[-3:] == ["sql_delay", "schema_age", "schema_held"]
    assert document["limits"]["min_delay_time"] == 5400
    assert document["limits"]["job_limits"] == {"schema": 60.0}
    assert document["jobs"] == [
        {
            "id": "b1",
            "kind": "backup",
            "status": "active",
            "started_at": 1699997000.0,
            "finished_at": None,
            "running": 3600.0,
            "reason": "",
        }
    ]
    assert (document["replica"], document["at"]) == ("db1:3306", 1700000600.0)


def test_what_is_no_number_is_null() -> None:
    nan, infinite = float("nan"), float("inf")
    finding = Finding(State.CRITICAL, "timeout", "no answer")
    verdict = Verdict(1.0, (finding,), Trend(nan, infinite, None), None, (), {}, nan, infinite, None, None)
    document = json.loads(render(verdict, Limits(), "x"), parse_constant=lambda name: f"not JSON: {name}")
    assert document["trend"]["slope"] is document["trend"]["intercept"] is None
    assert set(document["metrics"].values()) == {None}
