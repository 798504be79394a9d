"""A picture as one JSON object: what the check's own JSON has, and what a person is told beside it."""

from __future__ import annotations

import json
from typing import Any

from check_delayed_repl.diagnose.advice import advise
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.diagnose.screen import visible
from check_delayed_repl.diagnose.steps import freeze
from check_delayed_repl.judge.outcome import Finding
from check_delayed_repl.report import document
from check_delayed_repl.report.metrics import MOST
from check_delayed_repl.words import clean


def render(p: Diagnosis) -> str:
    """One object on one line, ending with a newline. What is unknown is null; times are seconds since 1970, UTC.

    `findings` stand in the order in which to act: causes first, each followed by what follows from it (`cause`).
    """
    found: dict[str, Any] = json.loads(document.render(p.verdict, p.limits, p.replica, p.call.config))
    findings: list[dict[str, Any]] = []
    for one in advise(p):
        steps = [{"text": step.text, "commands": [visible(c) for c in step.commands]} for step in one.steps]
        findings.append(_finding(one.finding, one.meaning, None, steps))
        findings += [_finding(finding, "", one.finding.condition, []) for finding in one.consequences]
    found["findings"] = findings[:MOST]
    found["now"] = next((f["next"][0] for f in findings if f["next"] and f["state"] != "OK"), None)
    found["freeze"] = freeze(p)
    found["certainty"] = None if p.certainty is None else p.certainty._asdict()
    found["segments"] = [segment._asdict() for segment in p.segments]
    found["outlook"] = None if p.outlook is None else p.outlook._asdict()
    found["recovery_ends"] = p.recovery_ends
    found["budgets"] = [budget._asdict() for budget in p.budgets]
    found["protected"] = None if p.protection is None else p.protection._asdict()
    found["server"] = None if p.dialect is None else {"version": p.dialect.version, "channel": p.dialect.channel}
    found["since"] = p.since
    found["trust"] = list(p.confidence)  # as the first release called it
    return json.dumps(document.fit(found, visible), allow_nan=False) + "\n"


def _finding(finding: Finding, meaning: str, cause: str | None, steps: list[dict[str, Any]]) -> dict[str, Any]:
    told = {"state": finding.state.name, "message": clean(finding.message), "meaning": meaning, "cause": cause}
    return finding._asdict() | told | {"next": steps}
