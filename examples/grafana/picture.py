#!/usr/bin/env python3
"""Draws examples/pictures/dashboard.svg: dashboard.json's first panels, as a Prometheus has answered their queries.

python examples/grafana/picture.py                draw the answers that are in answers.json
python examples/grafana/picture.py --story FILE   write six hours of five made-up replicas as OpenMetrics, for
                                                  promtool tsdb create-blocks-from openmetrics FILE FOLDER
python examples/grafana/picture.py --ask URL      ask a Prometheus that has them, and keep its answers in answers.json
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from check_delayed_repl.configfile import Replica  # noqa: E402
from check_delayed_repl.judge.fold import Fold  # noqa: E402
from check_delayed_repl.limits import Limits  # noqa: E402
from check_delayed_repl.observe.target import Target  # noqa: E402
from check_delayed_repl.publish import openmetrics  # noqa: E402
from check_delayed_repl.publish.result import Result  # noqa: E402
from check_delayed_repl.records import JobLine, Record, Sample  # noqa: E402
from check_delayed_repl.words import short  # noqa: E402

END = 1_764_064_800.0
LASTS_S = 6 * 3600
STEP_S = 120
REPLICA = "orders"
PANELS = ("Critical", "Unknown", "Warning", "OK", "Fleet, worst first", "Delay and its bounds", "State", "Conditions")
COLORS = {0: "#56a64b", 1: "#e0a100", 2: "#d8343c", 3: "#8f3bb8"}
LINES = ("#1f78c1", "#8ab8e0", "#d8343c", "#d8343c", "#999999")
STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
UNIT = 40
"""Pixels of a unit of the dashboard's grid."""


# --- the story


def records(name: str) -> Iterator[Record]:
    """One replica's six hours: a backup that stops the line of `orders`, a thread that nobody starts again, calm."""
    chance = random.Random(name)  # noqa: S311 - made up
    since, until = END - 4 * 3600, END - 3 * 3600
    delay = 7200.0
    for place in range(LASTS_S // 30):
        t = END - LASTS_S + 30 * place
        backup = name == REPLICA and since <= t < until
        if name == REPLICA and t == since:
            yield JobLine(t, "nightly", "backup", t)
        if name == REPLICA and t == until:
            yield JobLine(t, "nightly", finished_at=t)
        stopped = backup or (name == "billing" and t >= END - 2400)
        delay = delay + 30 if stopped else max(7200.0, delay - 20)
        yield Sample(
            t, delay + chance.random(), local=0.5, io="Yes", sql="No" if stopped else "Yes", sql_delay=7200, server="a"
        )


def story() -> str:
    """OpenMetrics with times; the samples of a metric stand together."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in (REPLICA, "billing", "archive", "reports", "sessions"):
        fold = Fold(Limits())
        for record in records(name):
            fold.add(record)
            if isinstance(record, Sample) and record.t % 60 == 0:
                result = Result(Replica(name, Target(name)), fold.verdict(record.t + 1, worker=True))
                for line in openmetrics.text(openmetrics.families([result], 5, {}, {}, 0)).splitlines():
                    if f'replica="{name}"' in line:
                        found[line.partition("{")[0]].append(f"{line} {record.t}")
    return "\n".join(line for lines in found.values() for line in lines) + "\n# EOF\n"


# --- the answers


def ask(url: str) -> dict[str, Any]:
    """What a Prometheus says to the panels' queries: over time for those that show time, else at the end."""
    answers = {}
    for panel in panels():
        for target in panel["targets"]:
            over_time = "time" in panel["type"]
            query = {"query": target["expr"].replace("$replica", REPLICA)}
            query |= {"start": END - LASTS_S, "end": END, "step": STEP_S} if over_time else {"time": END}
            path = "query_range" if over_time else "query"
            with urlopen(f"{url}/api/v1/{path}?{urlencode(query)}", timeout=30) as answer:  # noqa: S310 - as given
                result = json.load(answer)["data"]["result"]
            answers[target["expr"]] = [
                {
                    "labels": {key: value for key, value in each["metric"].items() if key in ("replica", "condition")},
                    "values": [[t, round(float(value), 3)] for t, value in each.get("values", [each.get("value")])],
                }
                for each in result
            ]
    return answers


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((HERE / "dashboard.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["title"] in PANELS]


# --- the picture


def picture(answers: dict[str, Any]) -> str:
    """An SVG of the panels where dashboard.json puts them."""
    shown = panels()
    parts, bottom = [], 0
    for panel in shown:
        place = panel["gridPos"]
        y = place["y"] - (place["y"] > 12)  # without the row's title between
        x, y, width, height = place["x"] * UNIT, y * UNIT, place["w"] * UNIT - 8, place["h"] * UNIT - 8
        bottom = max(bottom, y + height)
        found = [answers[target["expr"]] for target in panel["targets"]]
        draw = {"stat": stat, "table": table, "timeseries": lines, "state-timeline": timeline}[panel["type"]]
        title = panel["title"] if place["y"] < 13 else f"{REPLICA}: {panel['title']}"
        parts.append(
            f'<g transform="translate({x + 4},{y + 4})"><rect width="{width}" height="{height}" fill="#fff"'
            f' stroke="#d5d7da" rx="3"/><text x="10" y="20" font-weight="bold">{escape(title)}</text>'
            f"{draw(found, width, height)}</g>"
        )
    size = f'width="{24 * UNIT}" height="{bottom + 8}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * UNIT} {bottom + 8}" {size}'
        f' font-family="sans-serif" font-size="13"><rect {size} fill="#f4f5f5"/>{"".join(parts)}</svg>\n'
    )


def stat(found: list[Any], width: int, height: int) -> str:
    value = int(found[0][0]["values"][0][1]) if found[0] else 0
    return f'<text x="{width / 2}" y="{height - 30}" font-size="56" text-anchor="middle">{value}</text>'


def table(found: list[Any], _width: int, _height: int) -> str:
    """One row for each series of the first query, with its values in the others."""
    if "condition" in found[0][0]["labels"]:
        rows = [[(each["labels"]["condition"], "#222")] for each in found[0]]
    else:
        rows = [[(head, "#777") for head in ("replica", "state", "delay", "slope", "protected", "last sample")]]
        for each in found[0]:
            name, state = each["labels"]["replica"], int(each["values"][0][1])
            others = [value_of(answer, name) for answer in found[1:]]
            shown = [*(short(value) for value in others[:1]), f"{others[1]:+.2f} s/s", *map(short, others[2:])]
            rows.append([(name, "#222"), (STATES[state], COLORS[state]), *((text, "#222") for text in shown)])
    return "".join(
        f'<text x="{10 + 155 * column}" y="{50 + 30 * row}" fill="{color}">{escape(text)}</text>'
        for row, cells in enumerate(rows)
        for column, (text, color) in enumerate(cells)
    )


def value_of(answer: list[Any], name: str) -> float:
    return next((float(each["values"][0][1]) for each in answer if each["labels"]["replica"] == name), 0.0)


def lines(found: list[Any], width: int, height: int) -> str:
    """Series over time; seconds from 0 up."""
    top, left, right, bottom = 36, 60, width - 30, height - 28
    most = 1.1 * max(value for answer in found for each in answer for _, value in each["values"])

    def at(t: float, value: float) -> str:
        x = left + (right - left) * (t - END + LASTS_S) / LASTS_S
        return f"{x:.0f},{bottom - (bottom - top) * value / most:.0f}"

    drawn = []
    for hour in range(LASTS_S // 3600 + 1):
        x, _, _ = at(END - LASTS_S + 3600 * hour, 0).partition(",")
        drawn.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle" fill="#777">{hour + 4:02}:00</text>')
    for hours in range(int(most // 3600) + 1):
        y = at(END, 3600 * hours).partition(",")[2]
        drawn.append(f'<path d="M{left},{y}H{right}" stroke="#eee"/><text x="14" y="{y}" fill="#777">{hours} h</text>')
    for answer, color in zip(found, LINES, strict=True):
        for each in answer:
            points = " ".join(at(t, value) for t, value in each["values"])
            drawn.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
    return "".join(drawn)


def timeline(found: list[Any], width: int, height: int) -> str:
    """One bar, a colour for each state."""
    drawn = []
    for t, value in found[0][0]["values"]:
        x = 10 + (width - 20) * (t - END + LASTS_S) / (LASTS_S + STEP_S)
        step = (width - 20) * STEP_S / LASTS_S
        drawn.append(
            f'<rect x="{x:.1f}" y="40" width="{step:.1f}" height="{height - 60}" fill="{COLORS[int(value)]}"/>'
        )
    return "".join(drawn)


def main(arguments: list[str]) -> None:
    kept = HERE / "answers.json"
    if arguments[:1] == ["--story"]:
        Path(arguments[1]).write_text(story())
    elif arguments[:1] == ["--ask"]:
        kept.write_text(json.dumps(ask(arguments[1]), separators=(",", ":")) + "\n")
    else:
        (HERE.parent / "pictures" / "dashboard.svg").write_text(picture(json.loads(kept.read_text())))


if __name__ == "__main__":
    main(sys.argv[1:])
