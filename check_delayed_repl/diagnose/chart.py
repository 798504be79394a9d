"""The delay line drawn with characters: a braille character has two by four dots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

from rich.text import Text

from check_delayed_repl import words
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.judge.findings import heartbeat_usable
from check_delayed_repl.judge.outcome import JobView
from check_delayed_repl.judge.straight import Point

LABELS = 12
"""Columns to the left of the drawing."""
TRIM = 0.97
"""Share of the delays that the scale is sure to hold: one wild sample may not flatten all others."""
GAP = 4.0
"""Usual distances between two samples: beyond it nothing is drawn between them."""
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""By column and row within a character."""

Cells = defaultdict[tuple[int, int], int]
"""(row, column) → dots; row -1 is above the drawing."""


class Scale(NamedTuple):
    """What the drawing's edges stand for: times and delays in seconds."""

    left: float
    right: float
    low: float
    high: float


def scale_of(p: Diagnosis) -> Scale:
    """Bounds, fitted lines and the delays, but for the few that lie far off."""
    delays = sorted(d for _, d in points(p))
    low, high = p.limits.min_delay_time, p.limits.max_delay_time
    if delays:
        usual = max(high, delays[min(len(delays) - 1, int(len(delays) * TRIM))])
        high = usual if delays[-1] > 2.0 * usual else max(high, delays[-1])
        low = min(low, delays[0])
    for segment in p.segments:
        high = max(high, min(max(segment.begins, segment.ends), 2.0 * high))
    room = max(0.08 * (high - low), 0.02 * high, 1.0)
    bottom = max(0.0, low - room) if low >= 0 else low - room
    return Scale(p.since, max(p.verdict.at, p.since + 1.0), bottom, high + room)


def points(p: Diagnosis) -> list[Point]:
    return [(s.t, s.delay) for s in p.samples if s.delay is not None and heartbeat_usable(s)]


def drawn_jobs(p: Diagnosis) -> list[tuple[JobView, float, float]]:
    """The jobs that have a part in what is drawn, each with its beginning and its end or now."""
    found = []
    for job in p.verdict.jobs:
        end = p.verdict.at if job.status == "active" or job.finished_at is None else job.finished_at
        if job.status != "invalid" and job.started_at is not None and end >= p.since:
            found.append((job, job.started_at, end))
    return found


def chart(p: Diagnosis, width: int, height: int) -> list[Text]:
    """Rows for samples, bounds and fit; the axis of time; then a row each for fit, kinds of job and failed samples."""
    scale, columns = scale_of(p), width - LABELS - 1

    def place(point: Point) -> tuple[float, float]:
        """In dots, from the top left."""
        x = (point[0] - scale.left) / (scale.right - scale.left) * (2 * columns - 1)
        return x, (scale.high - point[1]) / (scale.high - scale.low) * (4 * height - 1)

    def drawn(lines: Iterable[tuple[Point, Point]]) -> Cells:
        cells: Cells = defaultdict(int)
        for start, end in lines:
            (x0, y0), (x1, y1) = place(start), place(end)
            steps = ceil(min(max(abs(x1 - x0), abs(y1 - y0)), 16.0 * columns * height)) or 1
            for i in range(steps + 1):
                column, x = divmod(floor(x0 + (x1 - x0) * i / steps + 0.5), 2)
                row, y = divmod(floor(y0 + (y1 - y0) * i / steps + 0.5), 4)
                if 0 <= column < columns:
                    cells[max(row, -1), column] |= DOTS[x][y]
        return cells

    seen = drawn(_joined(points(p)))
    fit = drawn(((s.start, s.begins), (s.end, s.ends)) for s in p.segments[-1:])
    top, bottom = (round(place((0.0, d))[1]) // 4 for d in (p.limits.max_delay_time, p.limits.min_delay_time))
    labels = {height - 1: scale.low, 0: scale.high, bottom: p.limits.min_delay_time, top: p.limits.max_delay_time}

    def cell(row: int, column: int) -> tuple[str, str]:
        if row == 0 and seen[-1, column]:
            return "▲", "bad"
        dots, line = seen[row, column], fit[row, column]
        if dots or line:
            outside = dots and not top <= row <= bottom
            return chr(0x2800 + (dots | line)), "bad" if outside else "fit" if line else ""
        return ("╌", "bound") if row in (top, bottom) else (" ", "")

    lines = []
    for row in range(height):
        label = f"{words.span(labels[row]) if row in labels else '':>{LABELS - 1}} "
        head = (label, "bound" if row in (top, bottom) else "dim"), ("┤" if row in labels else "│", "dim")
        lines.append(Text.assemble(*head, *(cell(row, column) for column in range(columns))))
    return [*lines, *_axis(scale, columns), *_rows(p, scale, columns)]


def _joined(points: list[Point]) -> list[tuple[Point, Point]]:
    """The lines to draw: from each delay to the next one, or to itself where the next is far away."""
    steps = sorted(b[0] - a[0] for a, b in pairwise(points))
    usual = steps[len(steps) // 2] if steps else 0.0
    found = [(a, a if b[0] - a[0] > GAP * usual else b) for a, b in pairwise(points)]
    return found + [(last, last) for last in points[-1:]]


def _axis(scale: Scale, columns: int) -> list[Text]:
    times = (scale.left, (scale.left + scale.right) / 2, scale.right)
    first, middle, last = (words.clock(t, scale.right, scale.right - scale.left < words.SOON) for t in times)
    room = columns + 1 - len(first) - len(last)
    text = first + (middle if len(middle) + 2 <= room else "").center(room) + last
    return [Text(" " * LABELS + "└" + "─" * columns, "dim"), Text(" " * LABELS + text, "dim")]


def _rows(p: Diagnosis, scale: Scale, columns: int) -> list[Text]:
    """The straight stretches, with their slopes where there is room, and where they break; jobs; failed samples."""

    def column(t: float) -> int:
        return min(columns - 1, max(0, floor((t - scale.left) / (scale.right - scale.left) * columns)))

    rows: dict[tuple[str, str], list[str]] = {}

    def put(label: str, style: str, start: int, text: str) -> None:
        rows.setdefault((label, style), [" "] * columns)[start : start + len(text)] = text

    for one in p.segments:
        if one.end >= scale.left:
            start, room = column(one.start), column(one.end) - column(one.start) - 1
            slope = f" {words.slope(one.slope)} "
            put("fit", "fit", start, f"├{(slope if len(slope) <= room - 2 else '').center(room, '─')}┤")
    for job, began, ended in drawn_jobs(p):
        put(words.shown(job.kind), "band", column(began), "█" * (column(ended) - column(began) + 1))
    for sample in p.samples:
        if sample.error is not None:
            put("failed", "bad", column(sample.t), "x")
    names = [label if len(label) < LABELS else f"{label[: LABELS - 2]}…" for label, _ in rows]
    return [
        Text.assemble(f"{name:<{LABELS}} ", ("".join(cells[:columns]).rstrip(), style))
        for name, ((_, style), cells) in zip(names, rows.items(), strict=True)
    ]
