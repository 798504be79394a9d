"""A picture as a drawing in a file, for a ticket or a post-mortem. Legible in black and white: every line has a dash
pattern of its own, every area a hatch, and each is named where it stands."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any

from check_delayed_repl import words
from check_delayed_repl.diagnose.chart import scale_of
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.judge.facts import heartbeat_usable
from check_delayed_repl.words import clean, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which everybody can tell apart.
BLACK, ORANGE, BLUE, GREEN, VERMILION, PURPLE = "#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7"
BANDS = ((PURPLE, "////"), (ORANGE, "\\\\\\\\"), (GREEN, "xxxx"), (BLUE, "...."))
LINE_LENGTH = 110
STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


class Missing(Exception):
    """matplotlib is not installed. The message says how to get it."""


def draw(picture: Diagnosis, file: str, zone: tzinfo | None = None) -> None:
    """Writes `file`, a .png or .svg. `zone` None is this machine's. Raises Missing, and OSError as writing does."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise Missing("--plot: matplotlib is not installed: pip install 'check-delayed-repl[plot]'") from None
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "delayed-repl"  # the same picture gives the same file
    from matplotlib import dates
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    zone = zone or datetime.now(UTC).astimezone().tzinfo
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes = figure.add_subplot()
    scale = scale_of(picture)

    def at(t: float) -> datetime:
        return datetime.fromtimestamp(t, UTC)

    _bands(axes, picture, at)
    _bounds(axes, picture)
    _delays(axes, picture, at, scale.low, scale.high)
    _fits(axes, picture, at)
    axes.set_xlim(at(scale.left), at(scale.right))  # type: ignore[arg-type]
    axes.set_ylim(scale.low, scale.high)
    locator = dates.AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]
    axes.yaxis.set_major_locator(MultipleLocator(_step(scale.high - scale.low)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.span(value)))
    axes.set_ylabel("delay")
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    verdict = picture.verdict
    axes.set_title(
        f"{verdict.state.name} {words.shown(verdict.condition)}: {words.shown(picture.replica)}, "
        f"{words.moment(verdict.at, zone)}\n{clean(verdict.message, LINE_LENGTH)}".replace("$", r"\$"),
        loc="left",
        fontsize=10,
    )
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.08), ncols=4, fontsize=8, frameon=False)
    options: dict[str, Any] = {"metadata": {"Date": None}} if file.lower().endswith(".svg") else {"dpi": 110}
    figure.savefig(file, **options)


def _step(span: float) -> float:
    """Seconds between two marks of the axis of delays: a round time, and at most eight of them."""
    return next((step for step in STEPS if span / step <= 8), span / 4)


def _delays(axes: Axes, picture: Diagnosis, at: Any, low: float, top: float) -> None:
    seen = [(s.t, s.delay) for s in picture.samples if s.delay is not None and heartbeat_usable(s)]
    axes.plot(
        [at(t) for t, _ in seen],
        [d for _, d in seen],
        color=BLACK,
        linewidth=0.8,
        marker="." if len(seen) <= 400 else None,
        markersize=3,
        label="delay, as seen",
    )
    above = [t for t, d in seen if d > top]
    if above:
        axes.plot([at(t) for t in above], [top] * len(above), "^", color=BLACK, clip_on=False, label="off the scale")
    failed = [s.t for s in picture.samples if s.error is not None]
    if failed:
        axes.plot(
            [at(t) for t in failed], [low] * len(failed), "x", color=VERMILION, clip_on=False, label="sample failed"
        )


def _bounds(axes: Axes, picture: Diagnosis) -> None:
    limits = picture.limits
    for value, name in ((limits.max_delay_time, "maximum"), (limits.min_delay_time, "minimum")):
        axes.axhline(value, color=VERMILION, linestyle=(0, (6, 3)), linewidth=1.1)
        axes.annotate(
            f"{name} {plain(value)} s",
            (0.005, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
        )


def _fits(axes: Axes, picture: Diagnosis, at: Any) -> None:
    for number, segment in enumerate(reversed(picture.segments)):
        if segment.end < picture.since:
            continue
        newest = number == 0
        axes.plot(
            [at(segment.start), at(segment.end)],
            [segment.begins, segment.ends],
            color=BLUE,
            linewidth=2.6 if newest else 1.4,
            linestyle="solid" if newest else "dotted",
            alpha=0.75,
            label=f"fitted: {words.slope(segment.slope)}" if newest else ("fitted before" if number == 1 else None),
        )
        if segment.start > picture.since:
            axes.axvline(at(segment.start), color=BLUE, linewidth=0.7, linestyle="dotted")


def _bands(axes: Axes, picture: Diagnosis, at: Any) -> None:
    kinds = list(dict.fromkeys(band.kind for band in picture.bands))
    named: set[str] = set()
    for band in picture.bands:
        colour, hatch = BANDS[kinds.index(band.kind) % len(BANDS)]
        end = picture.verdict.at if band.end is None else band.end
        axes.axvspan(
            at(max(band.start, picture.since)),
            at(end),
            facecolor=colour,
            alpha=0.18,
            hatch=hatch,
            edgecolor=colour,
            linewidth=0,
            label=None if band.kind in named else words.shown(band.kind).replace("$", r"\$"),
        )
        named.add(band.kind)
