"""A verdict as one JSON object, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.report.metrics import metrics
from check_delayed_repl.words import clean


def render(verdict: Verdict, limits: Limits, replica: str, config: str | None = None, notes: Sequence[str] = ()) -> str:
    """One object on one line, ending with a newline. What is unknown is null; times are seconds since 1970, UTC."""
    # Only those who ask for JSON pay for it.
    import json

    document = {
        "state": verdict.state.name,
        "condition": verdict.condition,
        "findings": [
            {"state": finding.state.name, "condition": finding.condition, "message": clean(finding.message)}
            for finding in verdict.findings
        ],
        "trend": verdict.trend._asdict(),
        "metrics": {metric.label: metric.value for metric in metrics(verdict, limits)},
        "limits": limits._asdict() | {"job_limits": dict(limits.job_limits)},
        "jobs": [job._asdict() for job in verdict.jobs],
        "replica": replica,
        "config": config,
        "notes": notes,
        "at": verdict.at,
    }
    return json.dumps(_fit(document), allow_nan=False) + "\n"


def _fit(value: object) -> object:
    """The same with its texts cleaned, and null where a number is none."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _fit(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_fit(entry) for entry in value]
    return value
