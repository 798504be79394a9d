"""A verdict as one JSON object, for programs."""

from __future__ import annotations

from math import isfinite

from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.limits import Limits
from check_delayed_repl.report.metrics import MOST, metrics
from check_delayed_repl.words import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def render(verdict: Verdict, limits: Limits, replica: str, config: str | None = None, notes: Sequence[str] = ()) -> str:
    """One object on one line, ending with a newline. What is unknown is null; times are seconds since 1970, UTC.

    At most MOST findings and jobs are listed; only where there are more, `left_out` counts the others of each.
    """
    # Only those who ask for JSON pay for it.
    import json

    document = {
        "state": verdict.state.name,
        "condition": verdict.condition,
        "findings": [
            {"state": finding.state.name, "condition": finding.condition, "message": finding.message}
            for finding in verdict.findings[:MOST]
        ],
        "trend": verdict.trend._asdict(),
        "metrics": {metric.label: metric.value for metric in metrics(verdict, limits)},
        "limits": limits._asdict() | {"job_limits": dict(limits.job_limits)},
        "jobs": [job._asdict() for job in verdict.jobs[:MOST]],
        "replica": replica,
        "config": config,
        "notes": notes,
        "at": verdict.at,
    }
    left_out = {"findings": len(verdict.findings) - MOST, "jobs": len(verdict.jobs) - MOST}
    if any(count > 0 for count in left_out.values()):
        document["left_out"] = {name: max(0, count) for name, count in left_out.items()}
    return json.dumps(fit(document, clean), allow_nan=False) + "\n"


def fit(value: object, text: Callable[[str], str]) -> object:
    """The same with its texts made fit by `text`, and null where a number is none."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: fit(entry, text) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [fit(entry, text) for entry in value]
    return value
