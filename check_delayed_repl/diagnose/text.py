"""A picture as one screen for a person. Decides nothing: what holds is the judge's, what to do the advice's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from textwrap import wrap

from rich.text import Text

from check_delayed_repl import words
from check_delayed_repl.diagnose.advice import advise
from check_delayed_repl.diagnose.chart import chart
from check_delayed_repl.diagnose.picture import CONFIDENCE, Budget, Diagnosis, Outlook
from check_delayed_repl.diagnose.screen import visible
from check_delayed_repl.diagnose.steps import freeze
from check_delayed_repl.judge.outcome import Finding, JobView, State
from check_delayed_repl.records import Position, Sample
from check_delayed_repl.report.metrics import MOST
from check_delayed_repl.words import clean, plain, shown, span

WIDTH = 80
HEIGHT = 11
"""Rows of the drawing, without its axis."""
LEAST_HEIGHT = 6
LONGEST = 400
"""Characters of a message on the first screen; a server's own text may be longer."""
BAR = 24
"""Columns of a budget's bar."""
COLOURS = {State.OK: "good", State.WARNING: "caution", State.CRITICAL: "bad", State.UNKNOWN: "bad"}
NO_BREAK = "\u00a0"
_UNIT = re.compile(r"(?<=[0-9]) (s|s/s|min|h|d|[KMGT]?i?B)\b")
_SECONDS = re.compile(
    r"(?P<before>\b(?:limit|minimum|maximum|within|held for|of|was) |\bto (?=[0-9.]+ \(-))?"
    r"(?P<n>-?[0-9]++(?:\.[0-9]++)?)(?! (?:s|min|h|d)\b)"
    r"(?P<after> seconds?\b(?! (?:of|a|every)\b)| to (?P<high>[0-9.]+)(?= \(-))?"
)


def humane(text: str) -> str:
    """Seconds as people say them: `10656.4 seconds` is `2 h 58 min`."""

    def said(found: re.Match[str]) -> str:
        before, after, high = found["before"] or "", found["after"] or "", found["high"]
        if not before and not after.startswith(" second"):
            return found[0]
        rest = f" to {span(float(high))}" if high else "" if after.startswith(" second") else after
        return f"{before}{span(float(found['n']))}{rest}"

    return _SECONDS.sub(said, text)


def sentence(message: str, length: int = words.MAX_LENGTH) -> str:
    """A finding's message for a person."""
    text = humane(clean(message, length))
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


class Screen:
    """One picture as lines of text, in a width and this machine's time zone."""

    def __init__(self, p: Diagnosis, width: int = WIDTH) -> None:
        self.p, self.now, self.width = p, p.verdict.at, width
        self.advice = advise(p)

    def brief(self) -> list[Text]:
        """The verdict, one thing to do now, and what is protected: at most 24 lines."""
        first, *others = self.p.verdict.findings
        own = next(a for a in self.advice if first == a.finding or first in a.consequences)
        lines = self._header()
        lines += self._text(own.meaning if first == own.finding else f"It follows from {shown(own.finding.condition)}.")
        lines += [Text(), *self._now(), *self._protected()]
        also = [f"{f.state.name} {shown(f.condition)}" for f in others if f.state != State.OK]
        rest = f" and {len(also) - 5} more" if len(also) > 5 else ""
        return lines + (self._text(f"Also: {', '.join(also[:5])}{rest}.", hanging="  ") if also else [])

    def whole(self) -> list[Text]:
        """Everything: the above, then the line, budgets, the replica, all findings with their steps."""
        parts = [
            self.brief(),
            [*self._drawing(HEIGHT), *self._line()],
            [*self._budgets(), *self._jobs()],
            self._replica(),
            self._next(),
        ]
        if self.p.confidence:
            about = [line for each in self.p.confidence for line in self._text(clean(each), "  ")]
            parts.append([Text("Confidence", "bold"), *about])
        stop = freeze(self.p)
        if stop:
            day = "After a mistake on the source, stop this replica before it applies it:"
            parts.append([*self._text(day), *_commands([stop])])
        return [line for part in parts for line in (Text(), *part)][1:]

    def frame(self, rows: int) -> list[Text]:
        """What one waits in front of, in `rows` rows: whole parts, the most important ones first, as many as fit."""
        verdict = self.p.verdict
        lines = self._header() + (self._now() if verdict.state == State.CRITICAL else [])
        for part in (
            self._countdowns(),
            self._drawing(HEIGHT if rows > 2 * HEIGHT + 8 else LEAST_HEIGHT),
            self._threads(),
            self._budgets() if self._used() else [],
            [line for finding in verdict.findings[1:] for line in self._finding(finding)],
        ):
            if part and len(lines) + len(part) < rows:
                lines += [Text(), *part]
        return lines[:rows]

    # --- how it is written

    def _text(self, text: str, indent: str = "", style: str = "", hanging: str | None = None) -> list[Text]:
        found = wrap(
            _UNIT.sub(f"{NO_BREAK}\\1", visible(text)),
            self.width,
            initial_indent=indent,
            subsequent_indent=indent if hanging is None else hanging,
            break_on_hyphens=False,
        )
        return [Text(line.replace(NO_BREAK, " "), style) for line in found]

    def _labelled(self, label: str, text: str, style: str = "bold", rest: str = "", hanging: str = "  ") -> list[Text]:
        """Wrapped text that begins with a label in a style of its own."""
        lines = self._text(f"{label}{text}", hanging=hanging)
        lines[0] = Text.assemble((lines[0].plain[: len(label)], style), lines[0].plain[len(label) :])
        for number, line in enumerate(lines):
            line.stylize(rest, 0 if number else len(label))
        return lines

    def _clock(self, t: float, seconds: bool = True) -> str:
        return words.clock(t, self.now, seconds)

    def _soon(self, t: float) -> str:
        """With seconds where it is soon."""
        return self._clock(t, t - self.now < words.SOON)

    # --- the verdict

    def _header(self) -> list[Text]:
        verdict = self.p.verdict
        left = Text.assemble((f" {verdict.state.name} ", verdict.state.name), (f" {shown(verdict.condition)}", "bold"))
        right = Text(f"{shown(self.p.replica)} · {words.moment(self.now)}", "dim")
        room = self.width - len(left) - len(right)
        head = [left, right] if room < 2 else [Text.assemble(left, " " * room, right)]
        return [*head, Text(), *self._text(sentence(verdict.message, LONGEST))]

    def _now(self) -> list[Text]:
        """One thing: the first step about the deepest cause. Red where it is urgent."""
        state = self.p.verdict.state
        step = next((a.steps[0] for a in self.advice if a.steps and a.finding.state != State.OK), None)
        if step is None:
            return self._labelled("Do now: ", "nothing.") if state == State.OK else []
        style = "urgent" if state == State.CRITICAL else "bold"
        return [*self._labelled("Do now: ", step.text, style, style), *_commands(step.commands[:6])]

    def _finding(self, finding: Finding, indent: str = "") -> list[Text]:
        """`STATE condition: text`, the state in colour."""
        held = " (held by a job)" if finding.held else ""
        text = f" {shown(finding.condition)}{held}: {sentence(finding.message)}"
        return self._labelled(f"{indent}{finding.state.name}", text, COLOURS[finding.state], hanging=f"{indent}  ")

    def _protected(self) -> list[Text]:
        found, sample = self.p.protection, self.p.verdict.sample
        if found is None:
            return self._labelled("Protected: ", "unknown. Rely on nothing here until the delay is known.")
        if found.outdated:
            rest = f"That was measured at {self._clock(found.at)}; what has happened since is not known."
        elif found.applied is None:
            rest = "Nothing is applied until the SQL thread is started."
        else:
            how = " at the earliest (the line is getting shorter)" if found.shortening else ""
            now = self._clock(self.now, found.applied - self.now < words.SOON)
            at, left = self._soon(found.applied), span(found.applied - self.now)
            rest = f"A mistake made now ({now}) is applied here at {at}{how}: {left} left to stop it."
        text = f"what was changed on the source after {self._clock(found.since)} is not applied here yet. {rest}"
        lines = self._labelled("Protected: ", text)
        if sample is not None and sample.io == "No" and not found.outdated:
            lines += self._text("With the IO thread stopped, newer changes have not even been fetched.", "  ")
        return lines

    # --- the line

    def _drawing(self, height: int) -> list[Text]:
        p = self.p
        count = sum(s.delay is not None for s in p.samples)
        if not count:
            return []
        title = f"Delay of the last {span(self.now - p.since)}, {words.plural(count, 'sample')}"
        return [Text(title, "bold"), *chart(p, self.width, height)]

    def _line(self) -> list[Text]:
        p, trend, known = self.p, self.p.verdict.trend, self.p.certainty
        if trend.intercept is None:
            return self._text("The line is unknown: no delay was measured in the window.")
        at, samples = f"The line is at {span(trend.intercept)}", words.plural(trend.samples, "sample")
        if trend.slope is None or trend.correlation is None:
            return self._text(f"{at}. {samples} in the window: too few for a slope.")
        low, high = (words.slope(end).removesuffix(" s/s") for end in (known.low, known.high)) if known else ("", "")
        sure = f" ({CONFIDENCE:.0%} sure: {low} to {high})" if low != high else ""
        about = f"correlation {plain(trend.correlation, 2)}, fitted to {samples} over {span(trend.span)}"
        lines = self._text(f"{at}, slope {words.slope(trend.slope)}{sure}, {about}.")
        if known is not None and known.theil_sen is not None:
            between = f"Between most pairs of samples the slope is {words.slope(known.theil_sen)} (Theil-Sen)"
            lines += self._text(f"{between}: a few samples bend the fitted line.")
        if p.outlook is not None:
            lines += self._text(self._outlook(p.outlook), style="bold" if p.outlook.back else "")
        elif p.side:
            lines += self._text("It is not on its way back into range.")
        return lines

    def _outlook(self, found: Outlook) -> str:
        at = f"at {self._soon(found.t)}, in {span(max(0.0, found.t - self.now))}"
        text = f"Back in range {at}"
        if not found.back:
            text = f"Out of range {at}, if it goes on like this: {found.option} {span(found.bound)}"
        if found.spread is None:
            return f"{text}, at about {words.slope(found.slope)}."
        return f"{text} ({CONFIDENCE:.0%} sure: {self._spread(found)})."

    def _spread(self, found: Outlook) -> str:
        """Between which times the line reaches the bound."""
        if found.spread is None:
            return "about"
        early, late = found.spread
        if late is None:
            return "no telling when"
        seconds = late - early < words.SOON
        return f"{self._clock(early, seconds)} to {self._clock(late, seconds)}"

    def _countdowns(self) -> list[Text]:
        p, lines = self.p, []

        def wait(what: str, t: float | None, more: str = "") -> None:
            left = "-:--:--" if t is None else words.countdown(t - self.now)
            rest = f"   {'' if t is None else f'at {self._clock(t)}':<12} {more}".rstrip()
            lines.append(Text.assemble(f"  {what:<28}", (f"{left:>10}", "bold"), (rest, "dim")))

        if p.outlook is not None:
            wait("back in range" if p.outlook.back else "out of range", p.outlook.t, self._spread(p.outlook))
        elif p.side:
            wait("back in range", None, "it is not on its way back")
        if p.recovery_ends is not None:
            wait("recovery window closes", p.recovery_ends)
        for budget in p.budgets:
            if budget.ends is not None:
                wait(f"{shown(budget.name)} budget is spent", budget.ends)
        if p.protection is not None and p.protection.applied is not None:
            wait("a mistake made now arrives", p.protection.applied)
        return lines

    # --- budgets and jobs

    def _used(self) -> list[Budget]:
        return [budget for budget in self.p.budgets if budget.held or budget.ends]

    def _budgets(self) -> list[Text]:
        used, since = self._used(), self.p.verdict.episode_since
        limits = ", ".join(f"{shown(b.name)} {span(b.limit)}" for b in self.p.budgets if b not in used)
        if not used:
            return self._text(f"No alarm is held back. The limits: {limits}.")
        began = "" if since is None else f" since {self._clock(since)}"
        lines = [Text(f"Alarm held back in this episode{began}, and how long it may be", "bold")]
        return [*lines, *map(self._bar, used), *(self._text(f"not used: {limits}", "  ", "dim") if limits else [])]

    def _bar(self, budget: Budget) -> Text:
        share = 1.0 if budget.held >= budget.limit else budget.held / budget.limit
        filled = min(BAR, round(share * BAR) or (1 if budget.held > 0 else 0))
        text, style = f" {span(budget.held)} of {span(budget.limit)}", ""
        if budget.ends is not None:
            text, style = f"{text}, spent at {self._soon(budget.ends)}", "caution"
        elif budget.held > budget.limit:
            text, style = f"{text}, spent", "bad"
        bar = (("█" * filled, style or "dim"), ("░" * (BAR - filled), "dim"))
        return Text.assemble(f"  {shown(budget.name):<10} ", *bar, (text, style))

    def _jobs(self) -> list[Text]:
        jobs = self.p.verdict.jobs
        lines = [line for job in jobs[:MOST] for line in self._text(self._job(job), "  ", hanging="    ")]
        return lines + ([Text(f"  and {len(jobs) - MOST} more jobs")] if len(jobs) > MOST else [])

    def _job(self, job: JobView) -> str:
        """When it ran, by its own claim."""
        text = f"ran for {span(job.running)}"
        if job.status == "invalid":
            text = f"invalid, {clean(job.reason)}"
        elif job.status == "active" and job.started_at is not None:
            text = f"running for {span(job.running)}, since {self._clock(job.started_at)}"
        elif job.finished_at is not None:
            closes = self._clock(job.finished_at + self.p.limits.max_recovery_time, False)
            text += f" until {self._clock(job.finished_at)}; recovery window closes {closes}"
        return f"{shown(job.kind)} {shown(job.id)}: {text}"

    # --- the replica

    def _replica(self) -> list[Text]:
        p, s = self.p, self.p.seen
        name = "Replica" if p.dialect is None else f"Replica: {shown(p.dialect.name)}"
        if p.dialect is not None and p.dialect.channel:
            name += f", {'connection' if p.dialect.mariadb else 'channel'} {shown(p.dialect.channel)}"
        lines = [Text(name, "bold"), *self._threads()]
        if s is None:
            return lines
        space = [] if s.relay_log_space is None else [f"{words.size(s.relay_log_space)} on disk"]
        if s.source_log is not None and s.source_log == self._applied(s):
            space.append("all applied")
        elif s.delay is not None:
            # What is fetched and not applied: the delay, less what has not come since the source was last heard.
            space.append(f"{span(max(0.0, s.delay - (p.verdict.source_log_age or 0.0)))} of changes waiting")
        setting = f"set to {span(s.sql_delay)}" if p.native or s.sql is None else "not by the server itself"
        if p.native and (p.sql_delay_before or 0) > (s.sql_delay or 0):
            setting += f", {span(p.sql_delay_before)} before"
        source = "" if s.heartbeat_id is None else f" (server {s.heartbeat_id})"
        delay, own = (words.UNKNOWN if age is None else f"{span(age)} old" for age in (s.delay, s.local))
        lines += self._entry("relay log", ", ".join(space) or words.UNKNOWN)
        allowed = f"{span(p.limits.min_delay_time)} to {span(p.limits.max_delay_time)}"
        lines += self._entry("delay", f"{setting}; allowed: {allowed}")
        lines += self._entry("heartbeats", f"source's{source} {delay}, own {'missing' if s.local_missing else own}")
        return lines + (self._entry("filters", ", ".join(map(words.filter_name, s.filters))) if s.filters else [])

    def _applied(self, s: Sample) -> Position | None:
        """None where MariaDB may show the fetched place instead: after CHANGE has named a place in the relay log, until
        a change is applied."""
        waits = s.sql != "Yes" or s.sql_remaining is not None
        doubted = self.p.dialect is not None and self.p.dialect.mariadb and waits and s.relay_log == s.source_log
        return None if doubted else s.relay_log

    def _motion(self, s: Sample, log: str, age: float) -> str:
        """Whether a place in a log moves, or for how long it has not: nothing of one that was seen only once. The
        judge's `age` leaves out all waiting for the delay, and a server waits too while one of its appliers hangs."""
        for before in reversed([one for one in self.p.samples if one.t < s.t and getattr(one, log) is not None]):
            if getattr(before, log) != getattr(s, log):
                return f", still for {span(age)}" if age >= 1 else ", moving"
            age = max(age, s.t - before.t)
        return f", still for {span(age)}" if age >= 1 else ""

    def _threads(self) -> list[Text]:
        newest, seen, verdict = self.p.verdict.sample, self.p.seen, self.p.verdict
        if newest is None:
            return self._entry("sample", "none yet")
        lines = []
        if newest.error is not None:
            lines += self._entry("sample", f"failed at {self._clock(newest.t)}", "bad")
        if seen is not None and seen is not newest:
            lines += self._entry("as seen at", self._clock(seen.t))
        s = seen or newest
        for name, state, number, log, place, age, moved in (
            ("IO", s.io, s.io_errno, "source_log", s.source_log, verdict.source_log_age, "fetched"),
            ("SQL", s.sql, s.sql_errno, "relay_log", self._applied(s), verdict.relay_log_age, "applied"),
        ):
            text = (state or words.UNKNOWN) + (f", error {number}" if number else "")
            if name == "SQL" and s.sql_remaining is not None:
                text += f", waits {span(s.sql_remaining)}"
            if place is not None:
                text += f"; {moved} {shown(place[0])}:{place[1]}{self._motion(s, log, age or 0.0)}"
            style = "" if state == "Yes" and not number else "bad" if state == "No" or number else "caution"
            lines += self._entry(f"{name} thread", text, style)
        return lines

    def _entry(self, label: str, text: str, style: str = "") -> list[Text]:
        return self._labelled(f"  {label:<11}", clean(text), "", style, hanging=" " * 13)

    # --- next steps

    def _next(self) -> list[Text]:
        """One list: each cause, what follows from it, and what to do."""
        advice = [a for a in self.advice if a.finding.state != State.OK]
        lines = [Text("Next", "bold"), *([] if advice else self._text("Nothing to do.", "  - "))]
        for one in advice[:MOST]:
            if one.finding == self.p.verdict.findings[0]:
                lines.append(Text.assemble("  ", (f"{one.finding.state.name} {shown(one.finding.condition)}", "bold")))
            else:
                lines += [*self._finding(one.finding, "  "), *self._text(one.meaning, "    ")]
            for finding in one.consequences[:MOST]:
                lines += self._text(f"follows from it: {finding.state.name} {shown(finding.condition)}", "    ")
            for step in one.steps:
                lines += [*self._text(step.text, "  - ", hanging="    "), *_commands(step.commands)]
        return lines + ([Text(f"  and {len(advice) - MOST} more findings")] if len(advice) > MOST else [])


def _commands(commands: Iterable[str]) -> list[Text]:
    # A command stays on its line, however long: it is there to be pasted.
    return [Text.assemble("      ", (visible(command), "command")) for command in commands]
