"""A picture as one screen for a person. Decides nothing: what holds is the judge's, what to do the advice's."""

from __future__ import annotations

import re
from datetime import tzinfo
from textwrap import wrap

from check_delayed_repl import words
from check_delayed_repl.diagnose.advice import Advice, advise
from check_delayed_repl.diagnose.certainty import CONFIDENCE
from check_delayed_repl.diagnose.chart import chart
from check_delayed_repl.diagnose.picture import Budget, Diagnosis, Outlook
from check_delayed_repl.diagnose.protection import Protection
from check_delayed_repl.diagnose.screen import Line, visible
from check_delayed_repl.diagnose.steps import freeze
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.report.metrics import MOST
from check_delayed_repl.words import clean, plain, span

WIDTH = 80
HEIGHT = 11
"""Rows of the drawing, without its axis."""
LONGEST = 400
"""Characters of a message on the first screen; a server's own text may be longer."""
BAR = 24
"""Columns of a budget's bar."""
BADGES = {State.OK: "ok", State.WARNING: "warning", State.CRITICAL: "critical", State.UNKNOWN: "unknown"}
COLOURS = {State.OK: "good", State.WARNING: "caution", State.CRITICAL: "bad", State.UNKNOWN: "bad"}
NO_BREAK = "\u00a0"
_UNIT = re.compile(r"(?<=[0-9]) (s|s/s|min|h|d|[KMGT]?i?B)\b")
_SECONDS = re.compile(
    r"(?P<before>\b(?:limit|minimum|maximum|within|held for|of|was) |\bto (?=[0-9.]+ \(-))?"
    r"(?P<n>-?[0-9]++(?:\.[0-9]++)?)(?! (?:s|min|h|d)\b)"
    r"(?P<after> seconds?\b(?! (?:of|a|every)\b)| to (?P<high>[0-9.]+)(?= \(-))?"
)


class Pen:
    """How this screen writes: its width and its time zone, None for this machine's."""

    def __init__(self, width: int = WIDTH, zone: tzinfo | None = None) -> None:
        self.width, self.zone = width, zone

    def text(self, text: str, indent: str = "", style: str = "", hanging: str | None = None) -> list[Line]:
        """Wrapped text."""
        found = wrap(
            _UNIT.sub(f"{NO_BREAK}\\1", visible(text)),
            self.width,
            initial_indent=indent,
            subsequent_indent=indent if hanging is None else hanging,
            break_on_hyphens=False,
        )
        return [[(line.replace(NO_BREAK, " "), style)] for line in found]

    def labelled(self, label: str, text: str, style: str = "bold", rest: str = "", hanging: str = "  ") -> list[Line]:
        """Wrapped text that begins with a label in a style of its own."""
        lines = self.text(f"{label}{text}", hanging=hanging, style=rest)
        lines[0] = [(label, style), (lines[0][0][0][len(label) :], rest)]
        return lines

    def clock(self, t: float, now: float, seconds: bool = False) -> str:
        return words.clock(t, now, self.zone, seconds)


def brief(p: Diagnosis, pen: Pen | None = None) -> list[Line]:
    """The verdict, one thing to do now, and what is protected: at most 24 lines."""
    pen = pen or Pen()
    advice = advise(p)
    first = p.verdict.findings[0]
    lines = _header(p, pen)
    lines += pen.text(_sentence(humane(clean(first.message, LONGEST))))
    own = next(a for a in advice if first == a.finding or first in a.consequences)
    lines += pen.text(own.meaning if first == own.finding else f"It follows from {words.shown(own.finding.condition)}.")
    lines += [[], *_now(advice, p, pen), *_protected(p, pen)]
    others = [f"{f.state.name} {words.shown(f.condition)}" for f in p.verdict.findings[1:] if f.state != State.OK]
    if others:
        rest = f" and {len(others) - 5} more" if len(others) > 5 else ""
        lines += pen.text(f"Also: {', '.join(others[:5])}{rest}.", hanging="  ")
    return lines


def screen(p: Diagnosis, pen: Pen | None = None) -> list[Line]:
    """Everything: the above, then the line, budgets, the replica, all findings with their steps."""
    pen = pen or Pen()
    lines = brief(p, pen)
    lines += [[], *_drawing(p, pen, HEIGHT), *_line(p, pen)]
    lines += [[], *_budgets(p, pen), *_jobs(p, pen)]
    lines += [[], *_replica(p, pen)]
    lines += [[], *_next(p, pen)]
    if p.confidence:
        lines += [[], [("Confidence", "bold")]]
        for sentence in p.confidence:
            lines += pen.text(clean(sentence), "  ")
    stop = freeze(p)
    if stop:
        lines += [[], *pen.text("On the day of a mistake on the source, before it is applied here:"), _command(stop)]
    return lines


def frame(p: Diagnosis, pen: Pen, rows: int) -> list[Line]:
    """What one waits in front of, in `rows` rows: whole parts, the most important ones first, as many as fit."""
    head = _header(p, pen) + pen.text(_sentence(humane(clean(p.verdict.message, LONGEST))))
    if p.verdict.state == State.CRITICAL:
        head += _now(advise(p), p, pen)
    lines = [*head, [], *_countdowns(p, pen)]
    others = [line for f in p.verdict.findings[1:] for line in _finding(f, pen)]
    parts = [part for part in (_threads(p, pen), _budgets(p, pen) if _is_held(p) else [], others) if part]
    room = rows - len(lines) - 1
    around = len(_drawing(p, pen, 5)) - 5
    drawn = room >= around + 5
    left = room - (around + 5 if drawn else 0)
    chosen = []
    for part in parts:
        if len(part) + 1 <= left:
            chosen += [[], *part]
            left -= len(part) + 1
    if drawn:
        lines += [[], *_drawing(p, pen, min(2 * HEIGHT, 5 + left))]
    return [*lines, *chosen][:rows]


def humane(text: str) -> str:
    """Seconds as people say them: `10656.4 seconds` is `2 h 58 min`."""

    def said(found: re.Match[str]) -> str:
        before, after, high = found["before"] or "", found["after"] or "", found["high"]
        if not before and not after.startswith(" second"):
            return found[0]
        rest = f" to {span(float(high))}" if high else "" if after.startswith(" second") else after
        return f"{before}{span(float(found['n']))}{rest}"

    return _SECONDS.sub(said, text)


# --- the verdict


def _header(p: Diagnosis, pen: Pen) -> list[Line]:
    state = p.verdict.state
    badge, condition = f" {state.name} ", f" {words.shown(p.verdict.condition)}"
    right = f"{words.shown(p.replica)} · {words.moment(p.verdict.at, pen.zone)}"
    room = pen.width - len(badge) - len(condition) - len(right)
    if room >= 2:
        return [[(badge, BADGES[state]), (condition, "bold"), (" " * room, ""), (right, "dim")], []]
    return [[(badge, BADGES[state]), (condition, "bold")], [(right, "dim")], []]


def _now(advice: list[Advice], p: Diagnosis, pen: Pen) -> list[Line]:
    """One thing: the first step about the deepest cause. Red where it is urgent."""
    step = next((a.steps[0] for a in advice if a.steps and a.finding.state != State.OK), None)
    if step is None:
        return pen.labelled("Do now: ", "nothing.") if p.verdict.state == State.OK else []
    style = "urgent" if p.verdict.state == State.CRITICAL else "bold"
    return [*pen.labelled("Do now: ", step.text, style, style), *(_command(c) for c in step.commands[:6])]


def _finding(finding: Finding, pen: Pen, indent: str = "") -> list[Line]:
    """`STATE condition: text`, the state in colour."""
    held = " (held by a job)" if finding.held else ""
    text = f" {words.shown(finding.condition)}{held}: {_sentence(humane(clean(finding.message)))}"
    return pen.labelled(f"{indent}{finding.state.name}", text, COLOURS[finding.state], hanging=f"{indent}  ")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


def _command(text: str) -> Line:
    # A command stays on its line, however long: it is there to be pasted.
    return [("      ", ""), (visible(text), "command")]


# --- what is protected


def _protected(p: Diagnosis, pen: Pen) -> list[Line]:
    found, now = p.protection, p.verdict.at
    if found is None:
        return pen.labelled("Protected: ", "unknown. Rely on nothing here until the delay is known.")
    text = f"what was changed on the source after {pen.clock(found.since, now, seconds=True)} is not applied here yet. "
    lines = pen.labelled("Protected: ", text + _mistake(found, now, pen))
    if p.verdict.sample is not None and p.verdict.sample.io == "No" and not found.outdated:
        lines += pen.text("With the IO thread stopped, newer changes have not even been fetched.", "  ")
    return lines


def _mistake(found: Protection, now: float, pen: Pen) -> str:
    if found.outdated:
        return f"That was measured at {pen.clock(found.at, now, seconds=True)}; what has happened since is not known."
    if found.applied is None:
        return "Nothing is applied until the SQL thread is started."
    soon = found.applied - now < words.SOON
    at, left = pen.clock(found.applied, now, soon), span(found.applied - now)
    how = "at the earliest, as the line is getting shorter, " if found.shortening else ""
    return f"A mistake made now ({pen.clock(now, now, soon)}) is applied here {how}at {at}: {left} left to stop it."


# --- the line


def _drawing(p: Diagnosis, pen: Pen, height: int) -> list[Line]:
    count = sum(s.delay is not None for s in p.samples)
    title = f"Delay of the last {span(p.verdict.at - p.since)}, {words.plural(count, 'sample')}"
    return [[(title, "bold")], *chart(p, pen.width, height, pen.zone)]


def _line(p: Diagnosis, pen: Pen) -> list[Line]:
    trend = p.verdict.trend
    if trend.intercept is None:
        return pen.text("The line is unknown: no delay was measured in the window.")
    samples = words.plural(trend.samples, "sample")
    if trend.slope is None or trend.correlation is None:
        return pen.text(f"The line is at {span(trend.intercept)}. {samples} in the window: too few for a slope.")
    sure = ""
    if p.certainty is not None:
        low, high = (words.slope(end).removesuffix(" s/s") for end in (p.certainty.low, p.certainty.high))
        sure = f" ({CONFIDENCE:.0%} sure: {low} to {high})" if low != high else ""
    lines = pen.text(
        f"The line is at {span(trend.intercept)}, slope {words.slope(trend.slope)}{sure}, "
        f"correlation {plain(trend.correlation, 2)}, fitted to {samples} of {span(trend.span)}."
    )
    if p.certainty is not None and p.certainty.theil_sen is not None:
        lines += pen.text(
            f"Between most pairs of samples the slope is {words.slope(p.certainty.theil_sen)} (Theil-Sen): a few "
            "samples bend the fitted line."
        )
    if p.outlook is not None:
        lines += pen.text(_outlook(p.outlook, p.verdict.at, pen), style="bold" if p.outlook.back else "")
    elif p.side:
        lines += pen.text("It is not on its way back into range.")
    return lines


def _outlook(outlook: Outlook, now: float, pen: Pen) -> str:
    at = f"{pen.clock(outlook.t, now, outlook.t - now < words.SOON)}, in {span(max(0.0, outlook.t - now))}"
    text = f"Back in range at {at}" if outlook.back else f"Out of range at {at}, if it goes on like this"
    if not outlook.back:
        text += f": {outlook.option} {span(outlook.bound)}"
    if outlook.spread is None:
        return f"{text}, at about {words.slope(outlook.slope)}."
    return f"{text} ({CONFIDENCE:.0%} sure: {_spread(outlook.spread, now, pen)})."


def _spread(spread: tuple[float, float | None], now: float, pen: Pen) -> str:
    early, late = spread
    if late is None:
        return "no telling when"
    seconds = late - early < words.SOON
    return f"{pen.clock(early, now, seconds)} to {pen.clock(late, now, seconds)}"


def _countdowns(p: Diagnosis, pen: Pen) -> list[Line]:
    now = p.verdict.at
    found: list[tuple[str, float | None, str]] = []
    if p.outlook is not None:
        spread = f"{_spread(p.outlook.spread, now, pen)}" if p.outlook.spread else "about"
        found.append(("back in range" if p.outlook.back else "out of range", p.outlook.t, spread))
    elif p.side:
        found.append(("back in range", None, "it is not on its way back"))
    if p.recovery_ends is not None:
        found.append(("recovery window closes", p.recovery_ends, ""))
    found += [(f"{words.shown(b.name)} budget is spent", b.ends, "") for b in p.budgets if b.ends is not None]
    if p.protection is not None and p.protection.applied is not None:
        found.append(("a mistake made now arrives", p.protection.applied, ""))
    lines: list[Line] = []
    for what, t, more in found:
        left = "-:--:--" if t is None else words.countdown(t - now)
        at = "" if t is None else f"at {pen.clock(t, now, seconds=True)}"
        lines.append([(f"  {what:<28}", ""), (f"{left:>10}", "bold"), (f"   {at:<12} {more}".rstrip(), "dim")])
    return lines or [[("  nothing to wait for", "dim")]]


# --- budgets and jobs


def _is_held(p: Diagnosis) -> bool:
    return any(b.held or b.ends for b in p.budgets)


def _budgets(p: Diagnosis, pen: Pen) -> list[Line]:
    since, now = p.verdict.episode_since, p.verdict.at
    limits = ", ".join(f"{words.shown(b.name)} {span(b.limit)}" for b in p.budgets if not (b.held or b.ends))
    if not _is_held(p):
        return pen.text(f"No alarm is held back. It could be, for: {limits}.")
    began = "" if since is None else f" since {pen.clock(since, now, seconds=True)}"
    lines: list[Line] = [[(f"Alarm held back in this episode{began}, and how long it may be", "bold")]]
    lines += [_bar(budget, now, pen) for budget in p.budgets if budget.held or budget.ends]
    return lines + (pen.text(f"not used: {limits}", "  ", "dim") if limits else [])


def _bar(budget: Budget, now: float, pen: Pen) -> Line:
    share = 1.0 if budget.held >= budget.limit else budget.held / budget.limit
    filled = min(BAR, round(share * BAR) or (1 if budget.held > 0 else 0))
    text = f" {span(budget.held)} of {span(budget.limit)}"
    if budget.ends is not None:
        text += f", spent at {pen.clock(budget.ends, now, budget.ends - now < words.SOON)}"
    elif budget.held > budget.limit:
        text += ", spent"
    style = "bad" if budget.held > budget.limit else "caution" if budget.ends is not None else ""
    name = f"  {words.shown(budget.name):<10} "
    return [(name, ""), ("█" * filled, style or "dim"), ("░" * (BAR - filled), "dim"), (text, style)]


def _jobs(p: Diagnosis, pen: Pen) -> list[Line]:
    """When each ran, by its own claim."""
    now, lines = p.verdict.at, []
    for job in p.verdict.jobs[:MOST]:
        text = f"ran for {span(job.running)}"
        if job.status == "invalid":
            text = f"invalid, {clean(job.reason)}"
        elif job.status == "active" and job.started_at is not None:
            text = f"running for {span(job.running)}, since {pen.clock(job.started_at, now, seconds=True)}"
        elif job.finished_at is not None:
            closes = pen.clock(job.finished_at + p.limits.max_recovery_time, now)
            text += f" until {pen.clock(job.finished_at, now, seconds=True)}; recovery window closes {closes}"
        lines += pen.text(f"{words.shown(job.kind)} {words.shown(job.id)}: {text}", "  ", hanging="    ")
    return lines + ([[(f"  and {len(p.verdict.jobs) - MOST} more jobs", "")]] if len(p.verdict.jobs) > MOST else [])


# --- the replica


def _replica(p: Diagnosis, pen: Pen) -> list[Line]:
    name = "Replica" if p.dialect is None else f"Replica: {words.shown(p.dialect.name)}"
    if p.dialect is not None and p.dialect.channel:
        name += f", {'connection' if p.dialect.mariadb else 'channel'} {words.shown(p.dialect.channel)}"
    lines: list[Line] = [[(name, "bold")], *_threads(p, pen)]
    s = p.seen
    if s is None:
        return lines
    space = [] if s.relay_log_space is None else [f"{words.size(s.relay_log_space)} on disk"]
    if s.source_log is not None and s.source_log == s.relay_log:
        space.append("all applied")
    elif s.delay is not None:
        # What is fetched and not applied: the delay, less what has not come since the source was last heard.
        space.append(f"{span(max(0.0, s.delay - (p.verdict.source_log_age or 0.0)))} of changes waiting")
    setting = f"set to {span(s.sql_delay)}" if p.native or s.sql is None else "not by the server itself"
    if p.native and (p.sql_delay_before or 0) > (s.sql_delay or 0):
        setting += f", {span(p.sql_delay_before)} before"
    source = "" if s.heartbeat_id is None else f" (server {s.heartbeat_id})"
    delay, own = (words.UNKNOWN if age is None else f"{span(age)} old" for age in (s.delay, s.local))
    for label, text in (
        ("relay log", ", ".join(space) or words.UNKNOWN),
        ("delay", f"{setting}; allowed: {span(p.limits.min_delay_time)} to {span(p.limits.max_delay_time)}"),
        ("heartbeats", f"source's{source} {delay}, own {'missing' if s.local_missing else own}"),
        ("filters", ", ".join(s.filters or ())),
    ):
        lines += _entry(label, text, pen) if text else []
    return lines


def _threads(p: Diagnosis, pen: Pen) -> list[Line]:
    newest, seen = p.verdict.sample, p.seen
    if newest is None:
        return _entry("sample", "none yet", pen)
    lines = []
    if newest.error is not None:
        lines += _entry("sample", f"failed at {pen.clock(newest.t, p.verdict.at, seconds=True)}", pen, "bad")
    if seen is not None and seen is not newest:
        lines += _entry("as seen at", pen.clock(seen.t, p.verdict.at, seconds=True), pen)
    s = seen or newest
    for name, state, number, place, age, moved in (
        ("IO", s.io, s.io_errno, s.source_log, p.verdict.source_log_age, "fetched"),
        ("SQL", s.sql, s.sql_errno, s.relay_log, p.verdict.relay_log_age, "applied"),
    ):
        text = (state or words.UNKNOWN) + (f", error {number}" if number else "")
        if name == "SQL" and s.sql_remaining is not None:
            text += f", waits {span(s.sql_remaining)}"
        if place is not None:
            still = ", moving" if (age or 0.0) < 1 else f", still for {span(age)}"
            text += f"; {moved} {words.shown(place[0])}:{place[1]}{still}"
        style = "" if state == "Yes" and not number else "bad" if state == "No" or number else "caution"
        lines += _entry(f"{name} thread", text, pen, style)
    return lines


def _entry(label: str, text: str, pen: Pen, style: str = "") -> list[Line]:
    return pen.labelled(f"  {label:<11}", clean(text), "", style, hanging=" " * 13)


# --- next steps


def _next(p: Diagnosis, pen: Pen) -> list[Line]:
    """One list: each cause, what follows from it, and what to do."""
    advice = [a for a in advise(p) if a.finding.state != State.OK]
    lines: list[Line] = [[("Next", "bold")]]
    for one in advice[:MOST]:
        if one.finding == p.verdict.findings[0]:
            lines.append([("  ", ""), (f"{one.finding.state.name} {words.shown(one.finding.condition)}", "bold")])
        else:
            lines += [*_finding(one.finding, pen, "  "), *pen.text(one.meaning, "    ")]
        for finding in one.consequences[:MOST]:
            lines += pen.text(f"so also {finding.state.name} {words.shown(finding.condition)}", "    ")
        for step in one.steps:
            lines += [*pen.text(step.text, "  - ", hanging="    "), *(_command(c) for c in step.commands)]
    if len(advice) > MOST:
        lines += [[(f"  and {len(advice) - MOST} more findings", "")]]
    return lines if advice else [*lines, *pen.text("  - Nothing to do.")]
