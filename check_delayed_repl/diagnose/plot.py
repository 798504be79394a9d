"""A picture as a drawing in a file, for a ticket or a post-mortem. Legible in black and white: every line has a dash
pattern of its own, every area a hatch, and each is named where it stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from check_delayed_repl import words
from check_delayed_repl.diagnose.chart import drawn_jobs, points, scale_of
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.words import clean, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which everybody can tell apart.
BLACK, ORANGE, BLUE, GREEN, VERMILION, PURPLE = "#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7"
AREAS = ((PURPLE, "////"), (ORANGE, "\\\\\\\\"), (GREEN, "xxxx"), (BLUE, "...."))
LINE_LENGTH = 110
STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
"""Seconds between two marks of the axis of delays."""


def draw(p: Diagnosis, file: str) -> None:
    """Writes `file`, a .png or .svg, in this machine's time zone. Raises ImportError and OSError."""
    from matplotlib import dates
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    zone = datetime.now(UTC).astimezone().tzinfo
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes: Any = figure.add_subplot()
    scale, verdict = scale_of(p), p.verdict
    _jobs(axes, p)
    _delays(axes, p, scale.low, scale.high)
    _fits(axes, p)
    axes.set_xlim(_at(scale.left), _at(scale.right))
    axes.set_ylim(scale.low, scale.high)
    locator = dates.AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]
    height = scale.high - scale.low
    axes.yaxis.set_major_locator(MultipleLocator(next((s for s in STEPS if height / s <= 8), height / 4)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: span(value)))
    axes.set_ylabel("delay")
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    about = f"{verdict.state.name} {words.shown(verdict.condition)}: {words.shown(p.replica)}"
    title = f"{about}, {words.moment(verdict.at)}\n{clean(verdict.message, LINE_LENGTH)}"
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=10)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.08), ncols=4, fontsize=8, frameon=False)
    figure.savefig(file, dpi=110)


def _at(t: float) -> Any:
    return datetime.fromtimestamp(t, UTC)


def _delays(axes: Axes, p: Diagnosis, low: float, top: float) -> None:
    """Samples, those that lie too high and those that failed; and the bounds."""
    seen = [(_at(t), delay) for t, delay in points(p)]
    marker = "." if len(seen) <= 400 else None
    times, delays = [t for t, _ in seen], [d for _, d in seen]
    axes.plot(times, delays, color=BLACK, linewidth=0.8, marker=marker, markersize=3, label="delay, as seen")
    for where, y, mark, colour, label in (
        ([t for t, d in seen if d > top], top, "^", BLACK, "off the scale"),
        ([_at(s.t) for s in p.samples if s.error is not None], low, "x", VERMILION, "sample failed"),
    ):
        if where:
            axes.plot(where, [y] * len(where), mark, color=colour, clip_on=False, label=label)
    for value, name in ((p.limits.max_delay_time, "maximum"), (p.limits.min_delay_time, "minimum")):
        axes.axhline(value, color=VERMILION, linestyle=(0, (6, 3)), linewidth=1.1)
        axes.text(0.005, value, f"{name} {span(value)}", transform=axes.get_yaxis_transform(), va="bottom", fontsize=8)


def _fits(axes: Axes, p: Diagnosis) -> None:
    """The straight stretches: the newest one is what is judged."""
    for number, one in enumerate(reversed([s for s in p.segments if s.end >= p.since])):
        label = f"fitted: {words.slope(one.slope)}" if number == 0 else "fitted before" if number == 1 else None
        width, style = (2.6, "solid") if number == 0 else (1.4, "dotted")
        times = [_at(one.start), _at(one.end)]
        axes.plot(times, [one.begins, one.ends], color=BLUE, linewidth=width, linestyle=style, alpha=0.75, label=label)
        if one.start > p.since:
            axes.axvline(_at(one.start), color=BLUE, linewidth=0.7, linestyle="dotted")


def _jobs(axes: Axes, p: Diagnosis) -> None:
    jobs = drawn_jobs(p)
    kinds = list(dict.fromkeys(job.kind for job, _, _ in jobs))
    for number, (job, began, ended) in enumerate(jobs):
        name = None if job.kind in {j.kind for j, _, _ in jobs[:number]} else words.shown(job.kind).replace("$", r"\$")
        colour, hatch = AREAS[kinds.index(job.kind) % len(AREAS)]
        area: Any = {"facecolor": colour, "alpha": 0.18, "hatch": hatch, "edgecolor": colour, "linewidth": 0}
        axes.axvspan(_at(max(began, p.since)), _at(ended), label=name, **area)
