"""What a backtest shows: JSON Lines for programs, tables of 80 columns for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from check_delayed_repl.backtest.replay import StateChange, Summary
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits, kind_option, option
from check_delayed_repl.words import clean, plain

PAGES_SHOWN = 20
"""Pages that a comparison lists one by one."""


# --- for programs


def verdict_line(ruling: StateChange) -> str:
    """One ruling as a JSON object on a line."""
    return _line(
        type="verdict",
        t=ruling.t,
        state=ruling.state.name,
        condition=ruling.condition,
        message=clean(ruling.message),
    )


def summary_line(tally: Summary) -> str:
    """What all of it adds up to, as a JSON object on a line."""
    return _line(type="summary", samples=tally.samples, seconds=_by_state(tally.seconds), pages=tally.pages)


def comparison_line(before: tuple[Limits, Summary], after: tuple[Limits, Summary]) -> str:
    """Two sets of limits side by side, as a JSON object on a line."""
    return _line(
        type="comparison",
        limits={name: list(values) for name, *values in _differences(before[0], after[0])},
        before=_tallied(before[1]),
        after=_tallied(after[1]),
    )


def _tallied(tally: Summary) -> dict[str, object]:
    return {
        "samples": tally.samples,
        "seconds": _by_state(tally.seconds),
        "longest": _by_state(tally.longest),
        "pages": tally.pages,
        "paged_by": dict(tally.paged_by),
        "held": {name: round(seconds, 6) for name, seconds in tally.held.items()},
        "most_held": {name: round(seconds, 6) for name, seconds in tally.most_held.items()},
    }


def _by_state(seconds: dict[State, float]) -> dict[str, float]:
    return {state.name: round(seconds[state], 6) for state in State}


def _line(**fields: object) -> str:
    return json.dumps(fields, allow_nan=False) + "\n"


# --- for people


class Table:
    """One row for each stretch of the same state and condition, in order, each told when it is over."""

    def __init__(self) -> None:
        self._open: StateChange | None = None

    def rows(self, ruling: StateChange) -> Iterator[str]:
        """The rows that `ruling` completes."""
        if self._open is None:
            yield f"{'from (UTC)':<21}{'for':>10}  {'state':<10}condition\n"
        else:
            yield self._row(self._open, ruling.t - self._open.t)
        self._open = ruling

    def end(self, tally: Summary) -> Iterator[str]:
        """The last row, and what all of it adds up to."""
        if self._open is None or tally.begin is None or tally.end is None:
            yield "The recording has no samples.\n"
            return
        yield self._row(self._open, tally.end - self._open.t)
        yield f"\n{_extent(tally)}\n\n"
        yield f"{'state':<12}{'in all':>12}{'share':>10}{'longest':>12}\n"
        whole = tally.end - tally.begin
        seconds, longest = tally.seconds, tally.longest
        for state in _shown_states(tally):
            share = _share(seconds[state], whole)
            yield f"{state.name:<12}{span(seconds[state]):>12}{share:>10}{span(longest[state]):>12}\n"
        by = ", ".join(f"{count} {condition}" for condition, count in tally.paged_by.most_common())
        yield f"\npages: {tally.pages}{f' ({by})' if by else ''}\n"

    @staticmethod
    def _row(ruling: StateChange, seconds: float) -> str:
        # Each is a name of the project's own, but for what a kind of job is called: nothing that could break a row.
        return f"{moment(ruling.t):<21}{span(max(0.0, seconds)):>10}  {ruling.state.name:<10}{ruling.condition}\n"


def held_rows(limits: Limits, tally: Summary) -> Iterator[str]:
    """What alarms were held back for, and how much of each budget that took."""
    if not tally.held:
        return
    yield f"\n{'held back for':<14}{'in all':>10}{'most in one episode':>22}{'limit':>10}  option\n"
    for name, budget, named in _budgets(limits):
        if name in tally.held:
            most = span(tally.most_held.get(name, 0.0))
            yield f"{name:<14.14}{span(tally.held[name]):>10}{most:>22}{span(budget):>10}  {named}\n"


def comparison_rows(before: tuple[Limits, Summary], after: tuple[Limits, Summary]) -> Iterator[str]:
    """Two sets of limits side by side."""
    (old_limits, old), (new_limits, new) = before, after
    if old.begin is None or old.end is None:
        yield "The recording has no samples.\n"
        return
    yield f"{_extent(old)}\n\n"
    yield _pair("limits", "before", "after")
    differences = list(_differences(old_limits, new_limits))
    for name, *values in differences:
        yield _pair(f"  {name}", *(_setting(value) for value in values))
    if not differences:
        yield "  the same\n"
    yield "\n"
    yield _pair("pages", str(old.pages), str(new.pages))
    for condition, _ in (old.paged_by | new.paged_by).most_common():
        yield _pair(f"  {condition}", str(old.paged_by[condition]), str(new.paged_by[condition]))
    states = sorted({*_shown_states(old), *_shown_states(new)})
    whole = old.end - (old.begin or 0.0)
    yield "\ntime in each state\n"
    for state in states:
        yield _pair(
            f"  {state.name}",
            *(f"{span(t.seconds[state])} ({_share(t.seconds[state], whole)})" for t in (old, new)),
        )
    yield "\nlongest time in each state\n"
    for state in states:
        yield _pair(f"  {state.name}", span(old.longest[state]), span(new.longest[state]))
    if old.held or new.held:
        yield "\nalarms held back for, in all\n"
        names = list(dict.fromkeys(name for limits in (old_limits, new_limits) for name, _, _ in _budgets(limits)))
        names = [name for name in names if name in old.held or name in new.held]
        for name in names:
            yield _pair(f"  {name}", span(old.held.get(name, 0.0)), span(new.held.get(name, 0.0)))
        yield "\nmost of its limit in one episode\n"
        for name in names:
            yield _pair(f"  {name}", _used(name, old_limits, old), _used(name, new_limits, new))
    yield from _page_rows(old, new)


def _page_rows(old: Summary, new: Summary) -> Iterator[str]:
    if not old.pages and not new.pages:
        return
    by_time: dict[float, list[str]] = {}
    for column, tally in enumerate((old, new)):
        for page in tally.first_pages:
            by_time.setdefault(page.t, ["-", "-"])[column] = page.condition
    yield f"\n{'page at (UTC)':<23}{'before':<26}after\n"
    # Where one side was cut short, what comes later would look as if it were missing there.
    known = [tally.first_pages[-1].t for tally in (old, new) if tally.pages > len(tally.first_pages)]
    until = min(known, default=float("inf"))
    shown = [t for t in sorted(by_time) if t <= until][:PAGES_SHOWN]
    for t in shown:
        yield f"{moment(t):<23}{by_time[t][0]:<26}{by_time[t][1]}\n"
    rest = [tally.pages - sum(page.t <= shown[-1] for page in tally.first_pages) for tally in (old, new)]
    if any(rest):
        yield f"{'and more:':<23}{rest[0]:<26}{rest[1]}\n"


def _pair(name: str, before: str, after: str) -> str:
    return f"{name:<32}{before:>22}{after:>22}".rstrip() + "\n"


def _extent(tally: Summary) -> str:
    assert tally.begin is not None
    assert tally.end is not None
    length = span(tally.end - tally.begin)
    return f"{tally.samples} samples from {moment(tally.begin)} to {moment(tally.end)} UTC, {length}"


def _shown_states(tally: Summary) -> list[State]:
    """UNKNOWN is only shown where it came up."""
    return [state for state in State if state is not State.UNKNOWN or state is tally.state or tally.seconds[state]]


def _share(seconds: float, whole: float) -> str:
    return f"{100.0 * seconds / whole:.1f} %" if whole > 0 else "-"


def _used(name: str, limits: Limits, tally: Summary) -> str:
    budgets = {budget_name: budget for budget_name, budget, _ in _budgets(limits)}
    most = span(tally.most_held.get(name, 0.0))
    return f"{most} of {span(budgets[name])}" if name in budgets else most


def _budgets(limits: Limits) -> list[tuple[str, float, str]]:
    """Every exception with its budget and the option that sets it."""
    return [
        *((kind, seconds, kind_option(kind)) for kind, seconds in limits.kinds.items()),
        ("recovery", limits.max_recovery_time, "--max-recovery-time"),
        ("trend", limits.max_trend_time, "--max-trend-time"),
    ]


_OPTIONS = {"job_limits": "--max-job-behind", "local_heartbeat": "--no-local-heartbeat"}


def _differences(before: Limits, after: Limits) -> Iterator[tuple[str, object, object]]:
    """The options whose settings differ, each with both."""
    for field, old, new in zip(Limits._fields, before, after, strict=True):
        if old != new:
            if field == "local_heartbeat":
                old, new = not old, not new
            yield _OPTIONS.get(field, option(field)), old, new


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, tuple):
        entries = [f"{entry[0]}={plain(entry[1])}" if isinstance(entry, tuple) else str(entry) for entry in value]
        return " ".join(entries) or "none"
    return str(value)


def moment(t: float) -> str:
    """A time in UTC to the second, or as a number where no calendar has it."""
    try:
        return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{t:.6g}"


def span(seconds: float) -> str:
    """A length of time, in the two largest units that it has: 3d 4h, 5m 10s, 12s."""
    if seconds >= 1e11:
        return f"{seconds / 86400.0:.1e}d"
    whole = round(seconds)
    for unit, size, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{unit} {rest}{lesser}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"
