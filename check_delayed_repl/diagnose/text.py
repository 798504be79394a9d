"""A picture as one screen for a person. Decides nothing: what holds is the judge's, what it means is the advice's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import tzinfo
from textwrap import wrap

from check_delayed_repl import words
from check_delayed_repl.diagnose.advice import Advice, Step, advice
from check_delayed_repl.diagnose.certainty import CONFIDENCE, Spread
from check_delayed_repl.diagnose.chart import chart
from check_delayed_repl.diagnose.picture import Budget, Diagnosis, Outlook, Protection
from check_delayed_repl.diagnose.screen import Line, visible
from check_delayed_repl.judge.outcome import Finding, JobView, State
from check_delayed_repl.records import Sample
from check_delayed_repl.words import clean, plain

WIDTH = 80
HEIGHT = 11
"""Rows of the drawing, without its axis."""
BAR = 24
"""Columns of a budget's bar."""
BADGES = {State.OK: "ok", State.WARNING: "warning", State.CRITICAL: "critical", State.UNKNOWN: "unknown"}
COLOURS = {State.OK: "good", State.WARNING: "caution", State.CRITICAL: "bad", State.UNKNOWN: "bad"}
NO_END = "no telling when"
NO_BREAK = "\u00a0"
_UNIT = re.compile(r"(?<=[0-9]) (s|s/s|min|h|d|[KMGT]?i?B)\b")


class Pen:
    """How this screen writes: its width, its time zone, and whether it may leave ASCII."""

    def __init__(self, width: int = WIDTH, zone: tzinfo | None = None, unicode: bool = True) -> None:
        self.width, self.zone, self.unicode = width, zone, unicode

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

    def clock(self, t: float, now: float, seconds: bool = False) -> str:
        return words.clock(t, now, self.zone, seconds)


def screen(picture: Diagnosis, pen: Pen | None = None) -> list[Line]:
    """Everything: the verdict and why, what is protected, the line, budgets, the replica, next steps."""
    pen = pen or Pen()
    lines = _header(picture, pen)
    lines += _why(picture, pen)
    lines += [[], *_protected(picture, pen)]
    lines += [[], *_drawing(picture, pen, HEIGHT)]
    lines += _line(picture, pen)
    lines += [[], *_budgets(picture, pen), *_jobs(picture, pen)]
    lines += [[], *_replica(picture, pen)]
    lines += [[], *_next(picture, pen)]
    if picture.trust:
        lines += [[], [("How far to trust this", "bold")]]
        for sentence in picture.trust:
            lines += pen.text(clean(sentence), "  ")
    return lines


def frame(picture: Diagnosis, pen: Pen, rows: int | None = None) -> list[Line]:
    """What one waits in front of: the verdict, countdowns, the line and the budgets, in `rows` rows if need be."""
    head = _header(picture, pen)
    head += pen.text(clean(picture.verdict.message))
    head += [[], *_countdowns(picture, pen)]
    tail = [[], *_budgets(picture, pen), [], *_threads(picture, pen)]
    others = picture.verdict.findings[1:]
    if others:
        tail.append([])
        for finding in others:
            tail += _finding(finding, pen)
    around = 5
    height = HEIGHT if rows is None else max(5, min(2 * HEIGHT, rows - len(head) - len(tail) - around - 1))
    lines = [*head, [], *_drawing(picture, pen, height), *tail]
    return lines if rows is None else lines[:rows]


# --- the verdict


def _header(p: Diagnosis, pen: Pen) -> list[Line]:
    state = p.verdict.state
    badge, condition = f" {state.name} ", f" {words.shown(p.verdict.condition)}"
    right = f"{words.shown(p.replica)} · {words.moment(p.verdict.at, pen.zone)}"
    room = pen.width - len(badge) - len(condition) - len(right)
    if room >= 2:
        return [[(badge, BADGES[state]), (condition, "bold"), (" " * room, ""), (right, "dim")], []]
    return [[(badge, BADGES[state]), (condition, "bold")], [(right, "dim")], []]


def _why(p: Diagnosis, pen: Pen) -> list[Line]:
    first, *others = p.verdict.findings
    lines = pen.text(_sentence(clean(first.message)))
    lines += pen.text(advice(first.condition, p).meaning)
    for finding in others:
        lines += [[], *_finding(finding, pen)]
        if finding.state != State.OK:
            lines += pen.text(advice(finding.condition, p).meaning, "  ")
    return lines


def _finding(finding: Finding, pen: Pen) -> list[Line]:
    """`STATE condition: text`, the state in colour."""
    held = " (held by a job)" if finding.held else ""
    name = f"{finding.state.name} {words.shown(finding.condition)}{held}: "
    lines = pen.text(f"{name}{_sentence(clean(finding.message))}", hanging="  ")
    text = lines[0][0][0]
    state = finding.state.name
    lines[0] = [(state, COLOURS[finding.state]), (text[len(state) :], "")]
    return lines


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


# --- what is protected


def _protected(p: Diagnosis, pen: Pen) -> list[Line]:
    found = p.protection
    if found is None:
        return [
            [("Protected now: ", "bold"), ("unknown, because the delay is.", "")],
        ]
    now = p.verdict.at
    since = pen.clock(found.since, now, seconds=True)
    lines = pen.text(
        f"Protected now: what was changed on the source after {since} has not been applied here. "
        f"{_mistake(found, now, pen)}"
    )
    if p.verdict.sample is not None and p.verdict.sample.io == "No" and not found.outdated:
        lines += pen.text("Since the IO thread is stopped, later changes have not even been fetched.", "  ")
    head = lines[0][0][0]
    mark = len("Protected now: ")
    lines[0] = [(head[:mark], "bold"), (head[mark:], "")]
    return lines


def _mistake(found: Protection, now: float, pen: Pen) -> str:
    if found.outdated:
        return f"That was measured at {pen.clock(found.at, now, seconds=True)}; what happened since is not known."
    if found.applied is None:
        return "Nothing is applied until the SQL thread is started."
    soon = found.applied - now < words.SOON
    at, left = pen.clock(found.applied, now, soon), words.span(found.applied - now)
    how = "at the earliest, as the line is getting shorter, " if found.shortening else ""
    return f"A mistake made now ({pen.clock(now, now, soon)}) is applied here {how}at {at}: {left} left to stop it."


# --- the line


def _drawing(p: Diagnosis, pen: Pen, height: int) -> list[Line]:
    looks = sum(s.delay is not None for s in p.samples)
    title = f"Delay of the last {words.span(p.verdict.at - p.since)}, {words.plural(looks, 'look')}"
    return [[(title, "bold")], *chart(p, pen.width, height, pen.zone, pen.unicode)]


def _line(p: Diagnosis, pen: Pen) -> list[Line]:
    trend = p.verdict.trend
    if trend.intercept is None:
        return pen.text("The line is unknown: no delay was measured in the window.")
    where = f"{plain(trend.intercept, 1)} s"
    if abs(trend.intercept) >= 100:
        where += f" ({words.span(trend.intercept)})"
    if trend.slope is None or trend.correlation is None:
        looks = words.plural(trend.samples, "look")
        return pen.text(f"The line is at {where}. {looks} in the window: too few for a slope.")
    looks = f"fitted to {words.plural(trend.samples, 'look')} of {words.span(trend.span)}"
    lines = pen.text(
        f"The line is at {where}, slope {words.slope(trend.slope)}{_interval(p)}, "
        f"correlation {plain(trend.correlation, 2)}, {looks}."
    )
    if p.certainty is not None and p.certainty.theil_sen is not None:
        lines += pen.text(
            f"Between most pairs of looks the slope is {words.slope(p.certainty.theil_sen)} (Theil-Sen): a few looks "
            "bend the fitted line."
        )
    if p.outlook is not None:
        lines += pen.text(_outlook(p.outlook, p.verdict.at, pen), style="bold" if p.outlook.back else "")
    elif p.side:
        lines += pen.text("It is not on its way back into range.")
    return lines


def _interval(p: Diagnosis) -> str:
    found = p.certainty
    if found is None:
        return ""
    low, high = (words.slope(end).removesuffix(" s/s") for end in (found.low, found.high))
    return f" ({CONFIDENCE:.0%} sure: {low} to {high})" if low != high else ""


def _outlook(outlook: Outlook, now: float, pen: Pen) -> str:
    at = f"{pen.clock(outlook.t, now, outlook.t - now < words.SOON)}, in {words.span(max(0.0, outlook.t - now))}"
    if outlook.back:
        text = f"Back in range at {at}"
    else:
        text = f"Out of range at {at}, should it go on like this: {outlook.option} {plain(outlook.bound)}"
    if outlook.spread is None:
        return f"{text}, at about {words.slope(outlook.slope)}."
    return f"{text} ({CONFIDENCE:.0%} sure: {_spread(outlook.spread, now, pen)})."


def _spread(spread: Spread, now: float, pen: Pen) -> str:
    if spread.earliest is None or spread.latest is None:
        return NO_END
    early, late = max(now, spread.earliest), max(now, spread.latest)
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


def _budgets(p: Diagnosis, pen: Pen) -> list[Line]:
    since = p.verdict.episode_since
    now = p.verdict.at
    if since is None and not any(b.held or b.ends for b in p.budgets):
        limits = ", ".join(f"{words.shown(b.name)} {words.span(b.limit)}" for b in p.budgets)
        return pen.text(f"No alarm is held back. It could be, for: {limits}.")
    began = "" if since is None else f" since {pen.clock(since, now, seconds=True)}"
    lines: list[Line] = [[(f"Alarm held back in this episode{began}, and how long it may be", "bold")]]
    return lines + [_bar(budget, now, pen) for budget in p.budgets]


def _bar(budget: Budget, now: float, pen: Pen) -> Line:
    share = 1.0 if budget.held >= budget.limit else budget.held / budget.limit
    filled = min(BAR, round(share * BAR) or (1 if budget.held > 0 else 0))
    name = words.shown(budget.name)
    text = f" {words.span(budget.held)} of {words.span(budget.limit)}"
    if budget.ends is not None:
        text += f", spent at {pen.clock(budget.ends, now, budget.ends - now < words.SOON)}"
    elif budget.held > budget.limit:
        text += ", spent"
    style = "bad" if budget.held > budget.limit else "caution" if budget.ends is not None else ""
    return [(f"  {name:<10} ", ""), ("█" * filled, style or "dim"), ("░" * (BAR - filled), "dim"), (text, style)]


def _jobs(p: Diagnosis, pen: Pen) -> list[Line]:
    lines: list[Line] = []
    for job in p.verdict.jobs:
        lines += pen.text(_job(job, p, pen), "  ", hanging="    ")
    return lines


def _job(job: JobView, p: Diagnosis, pen: Pen) -> str:
    now = p.verdict.at
    name = f"{words.shown(job.kind)} {words.shown(job.id)}"
    if job.status == "invalid":
        return f"{name}: invalid, {clean(job.reason)}"
    started = "" if job.started_at is None else pen.clock(job.started_at, now, seconds=True)
    if job.status == "active":
        return f"{name}: running for {words.span(job.running)}, since {started}"
    text = f"{name}: ran for {words.span(job.running)}"
    if job.finished_at is not None:
        closes = pen.clock(job.finished_at + p.limits.max_recovery_time, now)
        text += f" until {pen.clock(job.finished_at, now, seconds=True)}; recovery window closes {closes}"
    return text


# --- the replica


def _replica(p: Diagnosis, pen: Pen) -> list[Line]:
    name = "Replica" if p.dialect is None else f"Replica: {words.shown(p.dialect.name)}"
    if p.dialect is not None and p.dialect.channel:
        name += f", {'connection' if p.dialect.mariadb else 'channel'} {words.shown(p.dialect.channel)}"
    lines: list[Line] = [[(name, "bold")], *_threads(p, pen)]
    look = _last_seen(p)
    if look is None:
        return lines
    lines += _entry("relay log", ", ".join(_relay_log(p, look)), pen)
    lines += _entry("delay", _setting(p, look), pen)
    beats = []
    if look.delay is not None:
        whose = "" if look.heartbeat_id is None else f" (server {look.heartbeat_id})"
        beats.append(f"source's{whose} {plain(look.delay, 1)} s old")
    if look.local is not None:
        beats.append(f"own {plain(look.local, 1)} s old")
    elif look.local_missing:
        beats.append("own missing")
    lines += _entry("heartbeats", ", ".join(beats) or words.UNKNOWN, pen)
    return lines


def _threads(p: Diagnosis, pen: Pen) -> list[Line]:
    look = p.verdict.sample
    if look is None:
        return _entry("look", "none yet", pen)
    lines = []
    if look.error is not None:
        lines += _entry("look", f"failed at {pen.clock(look.t, p.verdict.at, seconds=True)}", pen, "bad")
        look = _last_seen(p) or look
        if look.error is None:
            lines += _entry("as seen at", pen.clock(look.t, p.verdict.at, seconds=True), pen)
    if look.io is None and look.sql is None:
        return lines or _entry("threads", words.UNKNOWN, pen)
    for name, state, number, place, age, moved in (
        ("IO", look.io, look.io_errno, look.source_log, p.verdict.source_log_age, "fetched"),
        ("SQL", look.sql, look.sql_errno, look.relay_log, p.verdict.relay_log_age, "applied"),
    ):
        text = words.shown(state or words.UNKNOWN)
        if number:
            text += f", error {number}"
        if name == "SQL" and look.sql_remaining is not None:
            text += f", waits {words.span(look.sql_remaining)}"
        where = "" if place is None else f"{moved} {words.shown(place[0])}:{place[1]}"
        if place is not None and age is not None:
            where += f", still for {words.span(age)}" if age >= 1 else ", moving"
        style = "" if state == "Yes" and not number else "bad" if state == "No" or number else "caution"
        lines += _entry(f"{name} thread", f"{text:<22} {where}".rstrip(), pen, style)
    return lines


def _last_seen(p: Diagnosis) -> Sample | None:
    """The newest look that saw something: that may be one before the newest, where that failed."""
    look = p.verdict.sample
    if look is None or look.error is None or look.io is not None:
        return look
    return next((s for s in reversed(p.samples) if s.error is None), None)


def _relay_log(p: Diagnosis, look: Sample) -> Iterable[str]:
    if look.relay_log_space is not None:
        yield f"{words.size(look.relay_log_space)} on disk"
    if look.source_log is not None and look.source_log == look.relay_log:
        yield "all applied"
    elif look.delay is not None:
        # What is fetched and not applied: the delay, less what has not come since the source was last heard.
        yield f"{words.span(max(0.0, look.delay - (p.verdict.source_log_age or 0.0)))} of changes waiting"
    elif look.relay_log_space is None:
        yield words.UNKNOWN


def _setting(p: Diagnosis, look: Sample) -> str:
    within = f"allowed: {plain(p.limits.min_delay_time)} to {plain(p.limits.max_delay_time)} s"
    if not p.native and look.sql is None:
        return f"{words.UNKNOWN}; {within}"
    if not p.native:
        return f"not by the server itself; {within}"
    now = "not seen" if look.sql_delay is None else f"set to {look.sql_delay} s"
    before = p.sql_delay_before
    if before is not None and look.sql_delay is not None and before > look.sql_delay:
        now += f", {before} s before"
    return f"{now}; {within}"


def _entry(label: str, text: str, pen: Pen, style: str = "") -> list[Line]:
    lines = pen.text(f"{label:<11}{text}", "  ", hanging=" " * 13)
    if style:
        first = lines[0][0][0]
        lines[0] = [(first[:13], ""), (first[13:], style)]
    return lines


# --- next steps


def _next(p: Diagnosis, pen: Pen) -> list[Line]:
    found: list[tuple[Finding, Advice]] = []
    for finding in p.verdict.findings:
        # Held by a job: it will go with the job.
        if not any(finding.condition == other.condition for other, _ in found) and not finding.held:
            found.append((finding, advice(finding.condition, p)))
    # Where something else is wrong as well, that the line is as it should be is no step.
    steps = [(f, a) for f, a in found if a.steps and (f.state != State.OK or len(found) == 1)]
    lines: list[Line] = [[("Next", "bold")]]
    for finding, explained in steps:
        if len(steps) > 1:
            lines.append([("  ", ""), (words.shown(finding.condition), COLOURS[finding.state])])
        for step in explained.steps:
            lines += _step(step, pen)
    return lines


def _step(step: Step, pen: Pen) -> list[Line]:
    lines = pen.text(step.text, "  - ", hanging="    ")
    # A command stays on its line, however long: it is there to be pasted.
    return lines + [[("      ", ""), (visible(command), "command")] for command in step.commands]
