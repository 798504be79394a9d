"""A verdict into the plugin's output, by means of nagiosplugin's objects. Decides nothing.

nagiosplugin's own Check and Runtime are left out on purpose: they take UNKNOWN for worse than CRITICAL, sort the
perfdata, print exponents, and move the perfdata off the first line where the output is verbose.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

from check_delayed_repl.judge.outcome import JobView, State, Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.options import LIMITS, REPLICA_IS, TREND
from check_delayed_repl.report.metrics import MOST, Metric, metrics
from check_delayed_repl.words import clean, filter_name, plain, utc


def _import_parts() -> None:
    """Loads those of nagiosplugin's modules that are used here without running the package's initialiser.

    That one brings the library's runtime, cookies and log reader, and with them logging, tempfile, shutil and json:
    20 ms of CPU time, as much as all the rest of a check. A later `import nagiosplugin` gets the package in full.
    """
    if "nagiosplugin" in sys.modules:
        return
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec("nagiosplugin")
    if spec is None or spec.submodule_search_locations is None:
        return  # not installed: the imports below say so
    package = ModuleType("nagiosplugin")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["nagiosplugin"] = package
    try:
        import nagiosplugin.performance
        import nagiosplugin.state  # noqa: F401
    finally:
        del sys.modules["nagiosplugin"]


_import_parts()

from nagiosplugin.performance import Performance  # noqa: E402
from nagiosplugin.state import Critical, Ok, Unknown, Warn  # noqa: E402

NAME = "DELAYED_REPL"
STATES = {State.OK: Ok, State.WARNING: Warn, State.CRITICAL: Critical, State.UNKNOWN: Unknown}

TEXT_LENGTH = 480
"""Characters of the first line's text: with the perfdata behind it, it fits into the 1,024 bytes that NRPE passes."""


def render(verdict: Verdict, limits: Limits, verbosity: int = 0, more: Sequence[str] = ()) -> str:
    """The plugin's whole output: `DELAYED_REPL STATE - text | perfdata`, then findings, trend, jobs and holds, a line
    each, with `more` at the end; from verbosity 1 the limits, from 2 the newest sample. Ends with a newline."""
    status = _status(verdict.state, clean(verdict.message, TEXT_LENGTH))
    findings = [f"[{finding.state.name} {finding.condition}] {finding.message}" for finding in verdict.findings]
    lines = [
        *_at_most(findings, "findings"),
        _trend_line(verdict),
        *_at_most([_job_line(job) for job in verdict.jobs], "jobs"),
        _held_line(verdict),
    ]
    if verbosity >= 1:
        lines.append("limits: " + " ".join(_limit_options(limits)))
    if verbosity >= 2:
        lines += _sample_lines(verdict)
    perfdata = " ".join(str(_performance(metric)) for metric in metrics(verdict, limits))
    return "\n".join([f"{status} | {perfdata}", *(clean(line) for line in (*lines, *more))]) + "\n"


def _at_most(lines: list[str], what: str) -> list[str]:
    """No output lists more, whoever has flooded the history."""
    return lines if len(lines) <= MOST else [*lines[:MOST], f"and {len(lines) - MOST} more {what}"]


def render_line(state: State, text: str) -> str:
    """A status line alone, for what happens before there are limits to print: wrong usage."""
    return _status(state, clean(text)) + "\n"


def _status(state: State, text: str) -> str:
    return f"{NAME} {str(STATES[state]).upper()} - {text}"


def _performance(metric: Metric) -> Performance:
    if metric.value is None:
        return Performance(metric.label, "U")
    # Microseconds are the finest that a server tells.
    value = str(metric.value) if isinstance(metric.value, int) else plain(metric.value, 6)
    return Performance(metric.label, value, metric.unit, crit=metric.critical)


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{plain(value, 1)} s"


def _trend_line(verdict: Verdict) -> str:
    trend = verdict.trend
    if trend.intercept is None:
        return "trend: unknown, no delay is known"
    if trend.slope is None or trend.correlation is None:
        return f"trend: too few samples; the delay is {_seconds(trend.intercept)}"
    return (
        f"trend: intercept {_seconds(trend.intercept)}, slope {plain(trend.slope, 4)} s/s,"
        f" correlation {plain(trend.correlation, 2)}, {trend.samples} samples over {_seconds(trend.span)}"
    )


def _job_line(job: JobView) -> str:
    text = f"job {clean(job.id, 64)}: {job.kind}, {job.status}, started {utc(job.started_at)}"
    if job.finished_at is not None:
        text += f", finished {utc(job.finished_at)}"
    if job.running is not None:
        text += f", {'running' if job.status == 'active' else 'ran'} {_seconds(job.running)}"
    return f"{text} ({job.reason})" if job.reason else text


def _held_line(verdict: Verdict) -> str:
    if not verdict.held:
        return "held: unknown"
    since = "no episode" if verdict.episode_since is None else f"episode since {utc(verdict.episode_since)}"
    return f"held: {', '.join(f'{name} {_seconds(held)}' for name, held in verdict.held.items())} ({since})"


def _limit_options(limits: Limits) -> list[str]:
    """The limits as the options that give them, fit to be pasted into another command."""
    options = {one.field: one for one in (*LIMITS, *TREND, *REPLICA_IS)}
    return [word for field, value in limits._asdict().items() for word in options[field].spelled(value)]


def _sample_lines(verdict: Verdict) -> list[str]:
    if verdict.sample is None:
        return ["sample: none"]
    seen = verdict.sample._asdict()
    lines = [f"sample: t {plain(seen.pop('t'))} ({utc(verdict.sample.t)})"]
    for field, value in seen.items():
        if isinstance(value, tuple):
            parts = ", ".join(map(filter_name, value)) if field == "filters" else ":".join(map(str, value))
            value = parts or "none"
        if value is not None and value is not False:
            lines.append(f"sample: {field} {plain(value) if isinstance(value, float) else value}")
    return lines
