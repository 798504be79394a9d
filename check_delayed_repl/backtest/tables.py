"""What a backtest shows: JSON Lines for programs, tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from rich.table import Table

from check_delayed_repl.backtest.replay import StateChange, Summary
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.options import LIMITS, REPLICA_IS, TREND, value_text
from check_delayed_repl.words import clean, span, utc

ROWS_SHOWN = 1000
"""Of a recording that changes its state more often, the first so many rows are shown."""
PAGES_SHOWN = 20
"""Pages that a comparison lists one by one."""
STYLES = {State.OK: "green", State.WARNING: "yellow", State.CRITICAL: "red", State.UNKNOWN: "magenta"}


# --- for programs


def verdict_line(change: StateChange) -> str:
    """One verdict as a JSON object on a line."""
    message = clean(change.message)
    return _line(type="verdict", t=change.t, state=change.state.name, condition=change.condition, message=message)


def summary_line(summary: Summary) -> str:
    """What all of it adds up to, as a JSON object on a line."""
    return _line(type="summary", samples=summary.samples, seconds=_by_state(summary.seconds), pages=len(summary.pages))


def comparison_line(before: tuple[Limits, Summary], after: tuple[Limits, Summary]) -> str:
    """Two sets of limits side by side, as a JSON object on a line."""
    return _line(
        type="comparison",
        limits={name: list(values) for name, *values in _differences(before[0], after[0])},
        before=_summed(before[1]),
        after=_summed(after[1]),
    )


def _summed(summary: Summary) -> dict[str, object]:
    return {
        "samples": summary.samples,
        "seconds": _by_state(summary.seconds),
        "longest": _by_state(summary.longest),
        "pages": len(summary.pages),
        "paged_by": dict(summary.paged_by),
        "held": {name: round(seconds, 6) for name, seconds in summary.held.items()},
        "most_held": {name: round(seconds, 6) for name, seconds in summary.most_held.items()},
    }


def _by_state(seconds: dict[State, float]) -> dict[str, float]:
    return {state.name: round(seconds[state], 6) for state in State}


def _line(**fields: object) -> str:
    return json.dumps(fields, allow_nan=False) + "\n"


# --- for people: what rich prints one after the other


def timeline(changes: Iterable[StateChange], summary: Summary) -> Iterator[Table | str]:
    """One row for each stretch of the same state and condition, in order."""
    table = _table("from (UTC)", ">for", "state", "condition")
    before: StateChange | None = None
    left_out = 0
    for change in changes:
        if before is not None:
            if table.row_count < ROWS_SHOWN:
                _add_stretch(table, before, change.t)
            else:
                left_out += 1
        before = change
    if before is None or summary.end is None:
        yield "The recording has no samples."
        return
    _add_stretch(table, before, summary.end)
    yield table
    if left_out:
        yield f"and {left_out} more before the last one: --output json has them all"
    yield f"\n{_extent(summary)}\n"
    table = _table("state", ">in all", ">share", ">longest")
    for state in _shown_states(summary):
        seconds = summary.seconds[state]
        row = (state.name, span(seconds), _share(seconds, summary), span(summary.longest[state]))
        table.add_row(*row, style=STYLES[state])
    yield table
    yield f"\npages: {len(summary.pages)}{summary.by_condition()}"


def _add_stretch(table: Table, change: StateChange, end: float) -> None:
    length = span(max(0.0, end - change.t))
    table.add_row(_moment(change.t), length, change.state.name, change.condition, style=STYLES[change.state])


def held(limits: Limits, summary: Summary) -> Iterator[Table | str]:
    """What alarms were held back for, and how much of each budget that took."""
    if summary.held:
        table = _table("held back for", ">in all", ">most in one episode", ">limit", "option")
        for name, (budget, named) in limits.budgets.items():
            if name in summary.held:
                seconds = (summary.held[name], summary.most_held.get(name, 0.0), budget)
                table.add_row(name, *map(span, seconds), named)
        yield ""
        yield table


def comparison(before: tuple[Limits, Summary], after: tuple[Limits, Summary]) -> Iterator[Table | str]:
    """Two sets of limits side by side."""
    both = (before[1], after[1])
    if before[1].end is None:
        yield "The recording has no samples."
        return
    yield f"{_extent(before[1])}\n"
    states = sorted({state for summary in both for state in _shown_states(summary)})
    budgets = [limits.budgets for limits, _ in (before, after)]
    held = [name for name in {**budgets[0], **budgets[1]} if any(name in summary.held for summary in both)]
    differences = list(_differences(before[0], after[0]))
    paged_by = [condition for condition, _ in (both[0].paged_by | both[1].paged_by).most_common()]
    rows: list[tuple[str, list[str]]] = [
        ("limits", []),
        *[(f"  {name}", [_setting(value) for value in values]) for name, *values in differences],
        *([] if differences else [("  the same", [])]),
        ("pages", [str(len(summary.pages)) for summary in both]),
        *[(f"  {condition}", [str(summary.paged_by[condition]) for summary in both]) for condition in paged_by],
        ("time in each state", []),
        *[(f"  {s.name}", [f"{span(x.seconds[s])} ({_share(x.seconds[s], x)})" for x in both]) for s in states],
        ("longest time in each state", []),
        *[(f"  {s.name}", [span(summary.longest[s]) for summary in both]) for s in states],
    ]
    if held:
        rows.append(("most held back in one episode", []))
    for name in held:
        most = [span(summary.most_held.get(name, 0.0)) for summary in both]
        limits = [f" of {span(budget[name][0])}" if name in budget else "" for budget in budgets]
        rows.append((f"  {name}", [time + limit for time, limit in zip(most, limits, strict=True)]))
    table = _table("", ">before", ">after")
    for name, values in rows:
        table.add_row(name, *values)
    yield table
    if any(summary.pages for summary in both):
        yield ""
        yield _pages(*both)


def _pages(old: Summary, new: Summary) -> Table:
    by_time: dict[float, list[str]] = {}
    for column, summary in enumerate((old, new)):
        for page in summary.pages:
            by_time.setdefault(page.t, ["-", "-"])[column] = page.condition
    table = _table("page at (UTC)", "before", "after")
    shown = sorted(by_time)[:PAGES_SHOWN]
    for t in shown:
        table.add_row(_moment(t), *by_time[t])
    rest = [sum(page.t > shown[-1] for page in summary.pages) for summary in (old, new)]
    if any(rest):
        table.add_row("and more:", *map(str, rest))
    return table


def _table(*columns: str) -> Table:
    """A table without lines; `>` before a column's title sets it to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return table


def _moment(t: float) -> str:
    return utc(t).removesuffix(" UTC")


def _extent(summary: Summary) -> str:
    begin, end = summary.begin or 0.0, summary.end or 0.0
    return f"{summary.samples} samples from {_moment(begin)} to {_moment(end)} UTC, {span(end - begin)}"


def _shown_states(summary: Summary) -> list[State]:
    """UNKNOWN is only shown where it came up."""
    return [s for s in State if s is not State.UNKNOWN or s is summary.state or summary.seconds[s]]


def _share(seconds: float, summary: Summary) -> str:
    whole = (summary.end or 0.0) - (summary.begin or 0.0)
    return f"{100.0 * seconds / whole:.1f} %" if whole > 0 else "-"


def _differences(before: Limits, after: Limits) -> Iterator[tuple[str, object, object]]:
    """The options whose settings differ, each with both."""
    names = {each.field: f"--{each.keys[0]}" for each in (*LIMITS, *TREND, *REPLICA_IS)}
    for field, old, new in zip(Limits._fields, before, after, strict=True):
        if old != new:
            if field == "local_heartbeat":
                old, new = not old, not new
            yield names.get(field, field), old, new


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(value_text, value)) or "none" if isinstance(value, tuple) else value_text(value)
