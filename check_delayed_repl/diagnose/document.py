"""A picture as one JSON object: what the check's own JSON has, and what a person is told beside it."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from check_delayed_repl.diagnose.advice import advice
from check_delayed_repl.diagnose.picture import Diagnosis, Outlook
from check_delayed_repl.diagnose.screen import visible
from check_delayed_repl.report import document
from check_delayed_repl.words import clean


def render(picture: Diagnosis) -> str:
    """One object on one line, ending with a newline. What is unknown is null; times are seconds since 1970, UTC."""
    found: dict[str, Any] = json.loads(document.render(picture.verdict, picture.limits, clean(picture.replica)))
    for finding, own in zip(found["findings"], picture.verdict.findings, strict=True):
        told = advice(own.condition, picture)
        finding["held"] = own.held
        finding["meaning"] = told.meaning
        finding["next"] = [
            {"text": step.text, "commands": [visible(command) for command in step.commands]} for step in told.steps
        ]
    certain = picture.certainty
    found["certainty"] = None if certain is None else certain._asdict()
    found["segments"] = [segment._asdict() for segment in picture.segments]
    found["outlook"] = None if picture.outlook is None else _outlook(picture.outlook)
    found["recovery_ends"] = picture.recovery_ends
    found["budgets"] = [budget._asdict() for budget in picture.budgets]
    protection = picture.protection
    found["protected"] = None if protection is None else protection._asdict()
    dialect = picture.dialect
    found["server"] = None if dialect is None else {key: clean(value) for key, value in dialect._asdict().items()}
    found["since"] = picture.since
    found["trust"] = [clean(sentence) for sentence in picture.trust]
    return json.dumps(_finite(found), allow_nan=False) + "\n"


def _outlook(outlook: Outlook) -> dict[str, Any]:
    spread = None if outlook.spread is None else outlook.spread._asdict()
    return outlook._asdict() | {"spread": spread}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return value
