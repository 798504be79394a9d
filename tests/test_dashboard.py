"""The picture of the dashboard: drawn from a Prometheus' answers to the dashboard's own queries."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

GRAFANA = Path(__file__).parents[1] / "examples" / "grafana"


def test_the_picture_is_what_is_drawn_of_the_dashboard() -> None:
    drawing = runpy.run_path(str(GRAFANA / "picture.py"))
    answers = json.loads((GRAFANA / "answers.json").read_text())
    assert set(answers) == {target["expr"] for panel in drawing["panels"]() for target in panel["targets"]}
    wanted = drawing["picture"](answers)
    assert (GRAFANA.parent / "pictures" / "dashboard.svg").read_text() == wanted, "run examples/grafana/picture.py"
    assert len(wanted) < 60_000
