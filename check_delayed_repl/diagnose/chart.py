"""The delay line drawn with characters: braille dots where the terminal has them, asterisks where it has not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

from check_delayed_repl import words
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.diagnose.screen import Line
from check_delayed_repl.judge.facts import heartbeat_usable
from check_delayed_repl.judge.outcome import JobView
from check_delayed_repl.judge.trend import Point
from check_delayed_repl.records import Sample

LABELS = 12
"""Columns to the left of the drawing."""
TRIM = 0.97
"""Share of the delays that the scale is sure to hold: one wild sample may not flatten all others."""
GAP = 4.0
"""Usual distances between two samples: beyond it nothing is drawn between them."""

# Braille dots by column (0, 1) and row (0 to 3) within a character.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


class Scale(NamedTuple):
    """What the drawing's edges stand for: times and delays in seconds."""

    left: float
    right: float
    low: float
    high: float
    cut: bool
    """There are delays above `high`."""


def scale_of(picture: Diagnosis) -> Scale:
    """Bounds, fitted lines and the delays, but for the few that lie far off."""
    limits = picture.limits
    delays = sorted(s.delay for s in picture.samples if s.delay is not None and heartbeat_usable(s))
    low, high = limits.min_delay_time, limits.max_delay_time
    cut = False
    if delays:
        usual = max(high, delays[min(len(delays) - 1, int(len(delays) * TRIM))])
        cut = delays[-1] > 2.0 * usual
        high = usual if cut else max(high, delays[-1])
        low = min(low, delays[0])
    for segment in picture.segments:
        high = max(high, min(max(segment.begins, segment.ends), 2.0 * high))
    room = max(0.08 * (high - low), 0.02 * high, 1.0)
    bottom = max(0.0, low - room) if low >= 0 else low - room
    return Scale(picture.since, max(picture.verdict.at, picture.since + 1.0), bottom, high + room, cut)


def chart(picture: Diagnosis, width: int, height: int, zone: tzinfo | None, unicode: bool) -> list[Line]:
    """Rows for samples, bounds and fit; the axis of time; then a row each for fit, kinds of job and failed samples."""
    scale = scale_of(picture)
    columns = width - LABELS - 1
    canvas = _Canvas(columns, height, scale, unicode)
    for limit in (picture.limits.min_delay_time, picture.limits.max_delay_time):
        canvas.bound(limit)
    for segment in picture.segments[-1:]:
        canvas.line((segment.start, segment.begins), (segment.end, segment.ends), fit=True)
    for before, after in _joined(picture.samples):
        canvas.line(before, after)
    lines = canvas.rows(picture.limits.min_delay_time, picture.limits.max_delay_time)
    lines += _axis(scale, columns, zone)
    lines += _fit_row(picture, scale, columns)
    lines += _job_rows(picture, scale, columns)
    lines += _failed_row(picture, scale, columns)
    return lines


def _joined(samples: Sequence[Sample]) -> list[tuple[Point, Point]]:
    """The lines to draw: from each delay to the next one, or to itself where the next is far away."""
    points = [(s.t, s.delay) for s in samples if s.delay is not None and heartbeat_usable(s)]
    steps = sorted(b[0] - a[0] for a, b in pairwise(points))
    usual = steps[len(steps) // 2] if steps else 0.0
    found = []
    for before, after in pairwise(points):
        far = after[0] - before[0] > GAP * usual
        found.append((before, before if far else after))
    if points:
        found.append((points[-1], points[-1]))
    return found


class _Canvas:
    """A grid of characters, each of two by four dots in braille, of one dot in ASCII."""

    def __init__(self, columns: int, rows: int, scale: Scale, unicode: bool) -> None:
        self._columns, self._rows, self._scale, self._unicode = columns, rows, scale, unicode
        self._across, self._down = (2, 4) if unicode else (1, 1)
        self._seen = [[0] * columns for _ in range(rows)]
        self._fit = [[0] * columns for _ in range(rows)]
        self._bounds: set[int] = set()
        self._above: set[int] = set()

    def _x(self, t: float) -> float:
        scale = self._scale
        return (t - scale.left) / (scale.right - scale.left) * (self._columns * self._across - 1)

    def _y(self, d: float) -> float:
        scale = self._scale
        return (scale.high - d) / (scale.high - scale.low) * (self._rows * self._down - 1)

    def row_of(self, d: float) -> int:
        return round(self._y(d)) // self._down

    def bound(self, d: float) -> None:
        self._bounds.add(self.row_of(d))

    def line(self, start: Point, end: Point, fit: bool = False) -> None:
        """A straight line between two points."""
        x0, y0, x1, y1 = self._x(start[0]), self._y(start[1]), self._x(end[0]), self._y(end[1])
        steps = ceil(min(max(abs(x1 - x0), abs(y1 - y0)), 4.0 * self._columns * self._rows))
        grid = self._fit if fit else self._seen
        for i in range(steps + 1):
            share = i / steps if steps else 0.0
            self._dot(grid, x0 + share * (x1 - x0), y0 + share * (y1 - y0))

    def _dot(self, grid: list[list[int]], x: float, y: float) -> None:
        column, dot_x = divmod(floor(x + 0.5), self._across)
        row, dot_y = divmod(floor(y + 0.5), self._down)
        if not 0 <= column < self._columns:
            return
        if row < 0:
            if grid is self._seen:
                self._above.add(column)
            return
        if row < self._rows:
            grid[row][column] |= _DOTS[dot_x][dot_y] if self._unicode else 1

    def rows(self, low: float, high: float) -> list[Line]:
        """Top to bottom, with labels at the bounds and at both ends."""
        scale = self._scale
        labels = {self._rows - 1: scale.low, 0: scale.high}
        labels |= {self.row_of(low): low, self.row_of(high): high}
        lines: list[Line] = []
        within = range(self.row_of(high), self.row_of(low) + 1)
        for row in range(self._rows):
            label = words.span(labels[row]) if row in labels else ""
            style = "bound" if row in self._bounds else "dim"
            line: Line = [(f"{label:>{LABELS - 1}} ", style), ("┤" if label else "│", "dim")]
            for column in range(self._columns):
                line.append(self._cell(row, column, row in within))
            lines.append(_merged(line))
        return lines

    def _cell(self, row: int, column: int, within: bool) -> tuple[str, str]:
        seen, fit = self._seen[row][column], self._fit[row][column]
        if row == 0 and column in self._above:
            return "▲", "bad"
        if seen or fit:
            style = "bad" if seen and not within else "fit" if fit else ""
            if self._unicode:
                return chr(0x2800 + (seen | fit)), style
            return "*" if seen else "+", style
        return ("╌", "bound") if row in self._bounds else (" ", "")


def _merged(line: Line) -> Line:
    """Neighbours of the same style as one piece."""
    found: Line = []
    for text, style in line:
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + text, style)
        else:
            found.append((text, style))
    return found


def _axis(scale: Scale, columns: int, zone: tzinfo | None) -> list[Line]:
    middle = (scale.left + scale.right) / 2
    seconds = scale.right - scale.left < words.SOON
    labels = [words.clock(t, scale.right, zone, seconds) for t in (scale.left, middle, scale.right)]
    room = columns + 1 - sum(map(len, labels))
    if room < 2:
        labels[1] = ""
        room = columns + 1 - sum(map(len, labels))
    left = max(0, (columns + 1 - len(labels[1])) // 2 - len(labels[0]))
    gaps = (left, max(0, room - left))
    text = labels[0] + " " * gaps[0] + labels[1] + " " * gaps[1] + labels[2]
    return [[(" " * LABELS + "└" + "─" * columns, "dim")], [(" " * LABELS + text, "dim")]]


def _column(t: float, scale: Scale, columns: int) -> int:
    return min(columns - 1, max(0, floor((t - scale.left) / (scale.right - scale.left) * columns)))


def _row(label: str, cells: list[str], style: str) -> Line:
    name = label if len(label) < LABELS else f"{label[: LABELS - 2]}…"
    return [(f"{name:<{LABELS}} ", ""), ("".join(cells).rstrip(), style)]


def _fit_row(picture: Diagnosis, scale: Scale, columns: int) -> list[Line]:
    """The straight stretches, with their slopes where there is room; a break is where one ends and the next begins."""
    cells = [" "] * columns
    shown = [s for s in picture.segments if s.end >= scale.left]
    for segment in shown:
        start, end = _column(segment.start, scale, columns), _column(segment.end, scale, columns)
        cells[start : end + 1] = "─" * (end + 1 - start)
        cells[start], cells[end] = "├", "┤"
        label = f" {words.slope(segment.slope)} "
        if len(label) <= end - start - 3:
            at = start + (end - start + 1 - len(label)) // 2
            cells[at : at + len(label)] = label
    return [_row("fit", cells, "fit")] if shown else []


def drawn_jobs(picture: Diagnosis) -> list[tuple[JobView, float, float]]:
    """The jobs that have a part in what is drawn, each with its beginning and its end or now."""
    now = picture.verdict.at
    found = [(j, j.started_at, now if j.status == "active" else j.finished_at or now) for j in picture.verdict.jobs]
    return [
        (job, began, ended)
        for job, began, ended in found
        if job.status != "invalid" and began is not None and ended >= picture.since
    ]


def _job_rows(picture: Diagnosis, scale: Scale, columns: int) -> list[Line]:
    lines = []
    jobs = drawn_jobs(picture)
    for kind in dict.fromkeys(job.kind for job, _, _ in jobs):
        cells = [" "] * columns
        for job, began, ended in jobs:
            if job.kind == kind:
                start, end = _column(began, scale, columns), _column(ended, scale, columns)
                cells[start : end + 1] = "█" * (end + 1 - start)
        lines.append(_row(words.shown(kind), cells, "band"))
    return lines


def _failed_row(picture: Diagnosis, scale: Scale, columns: int) -> list[Line]:
    cells = [" "] * columns
    failed = [s for s in picture.samples if s.error is not None]
    for sample in failed:
        cells[_column(sample.t, scale, columns)] = "x"
    return [_row("failed", cells, "bad")] if failed else []
