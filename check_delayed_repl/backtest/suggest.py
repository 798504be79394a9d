"""Limits that fit a recording, with the reason for each: `backtest --suggest`.

Calm times say what is usual here, jobs how long they take. A limit is suggested looser than the one given only where
what is usual breaks that, and no suggestion may keep quiet what was an incident: both sets of limits are replayed, and
where an alarm of the given ones is missed without such a reason, the suggestion is taken back. How long logs may stand
still or a recovery may take is not taken from a few days: a weekend, or the next backup, would break it.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from math import ceil, floor, inf
from statistics import median
from typing import Any, NamedTuple

from check_delayed_repl.backtest.replay import Replay, StateChange, Summary
from check_delayed_repl.judge.findings import heartbeat_usable
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import BUILT_IN_KINDS, Limits, option
from check_delayed_repl.records import ALL_JOBS, JobLine, Record, merge_into
from check_delayed_repl.words import clean, option_time, plain, plural, span, utc

LEAST_SAMPLES = 60
LEAST_WINDOWS = 6
"""A shorter calm time than so many windows says nothing about what is usual."""
LISTED = 10
"""Times out of the ordinary that are listed one by one."""
LONGEST_HEARTBEAT_S = 600.0
"""Nobody writes heartbeats less often: what is older is no interval but a writer that stands still."""
QUIET, DISTURBED, JOB = 0, 1, 2


class NothingToSuggest(Exception):
    """Why there is nothing that limits could be taken from, in one line."""


class Excursion(NamedTuple):
    """A time away from the usual delay that no job explains: from when until when, and between which delays."""

    begin: float
    end: float
    low: float
    high: float


class Suggestion(NamedTuple):
    name: str
    """A field of Limits, or a kind of job that is not built in."""
    value: float
    reason: str
    explains: tuple[str, ...] = ()
    """Looser than what is given, for this reason: the CRITICAL conditions that it may rightly end."""


class Seen:
    """What a recording shows of its replica, whatever the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.times, self.delays, self.settings = array("d"), array("d"), array("d")
        """Of all samples that saw a delay; the server's own delay, -1 where it is not known."""
        self.quiet = bytearray()
        """What was going on at each of these: QUIET, DISTURBED (a thread that does not run) or JOB."""
        self.ages, self.beats = array("d"), array("d")
        """Ages of the local heartbeat, and how long each of the source's was the newest, while all was quiet."""
        self.jobs: dict[str, JobLine] = {}
        self._beat: tuple[float | None, float, float] | None = None
        """The source's newest heartbeat, since when it was that, and until when it was seen so, while all is quiet."""
        self._running: dict[str, float] = {}
        """Job → until when it is believed to run."""

    def add(self, record: Record) -> None:
        """The next record, in order of arrival."""
        if isinstance(record, JobLine):
            job = merge_into(self.jobs, record)
            limit = self._limits.kinds.get(job.kind or "")
            self._running.pop(job.id, None)
            if job.void and job.id == ALL_JOBS:
                self._running.clear()
            if limit is not None and job.started_at is not None and job.finished_at is None and not job.void:
                self._running[job.id] = job.started_at + limit
            return
        s, t = record, record.t
        beat, self._beat = self._beat or (s.ts, t, t), None
        if not heartbeat_usable(s) or s.delay is None:
            return
        job_runs = any(until > t for until in self._running.values())
        runs = not (s.error or s.io_errno or s.sql_errno) and s.io in (None, "Yes")
        runs = runs and (s.sql in (None, "Yes") or not s.sql_delay)
        self.times.append(t)
        self.delays.append(s.delay)
        self.settings.append(-1.0 if s.sql_delay is None else s.sql_delay)
        self.quiet.append(JOB if job_runs else QUIET if runs else DISTURBED)
        if self.quiet[-1] != QUIET:
            return
        if s.local is not None:
            self.ages.append(s.local)
        ts, since, until = beat
        if s.ts != ts:
            self.beats.append(until - since)
            since = t
        self._beat = (s.ts, since, t)

    def usual(self) -> tuple[float, float, list[float]]:
        """The usual delay: its middle, how far from that is still usual, and all that are in calm times, in order.

        Raises NothingToSuggest.
        """
        setting = Counter(self.settings).most_common(1)[0][0] if self.settings else -1.0
        quiet = [i for i, q in enumerate(self.quiet) if q == QUIET and self.settings[i] in (setting, -1.0)]
        length = self.times[quiet[-1]] - self.times[quiet[0]] if quiet else 0.0
        least = LEAST_WINDOWS * self._limits.window
        if len(quiet) < LEAST_SAMPLES or length < least:
            raise NothingToSuggest(
                f"too short to take limits from: {plural(len(quiet), 'sample')} without a job or a fault in "
                f"{span(length)} (at least {LEAST_SAMPLES} in {span(least)} are needed)"
            )
        delays = [self.delays[i] for i in quiet]
        middle = median(delays)
        noise = median(abs(d - middle) for d in delays)
        reach = max(min(9.0 * noise, middle / 2.0), middle / 10.0, 2.0)
        calm = sorted(d for d in delays if abs(d - middle) <= reach)
        if 2 * len(calm) < len(delays) or (setting > 0 and abs(middle - setting) > setting / 4.0):
            what = f"the server is set to {span(setting)}" if setting > 0 else "half of the time it is far from that"
            raise NothingToSuggest(f"no calm time to take limits from: the delay is around {span(middle)}, but {what}")
        return middle, reach, calm

    def excursions(self, middle: float, reach: float) -> list[Excursion]:
        """The times of more than a minute away from the usual delay, but for jobs and the ways back from them."""
        found = []
        for away, run in groupby(range(len(self.delays)), lambda i: abs(self.delays[i] - middle) > reach):
            first, *_, last = [*run] * 2
            delays = self.delays[first : last + 1]
            end = self.times[min(last + 1, len(self.times) - 1)]
            if away and end - self.times[first] > 60.0 and JOB not in self.quiet[max(0, first - 1) : last + 1]:
                found.append(Excursion(self.times[first], end, min(delays), max(delays)))
        return found


def suggestion(batches: Callable[[], Iterable[list[Record]]], given: Limits) -> Iterator[str]:
    """The lines of a TOML file for `--compare`. `batches` gives the recording, several times.

    Raises NothingToSuggest, and whatever `batches` raises.
    """
    seen = Seen(given)
    before, old = _replayed(batches(), given, seen.add)
    middle, reach, calm = seen.usual()
    away = seen.excursions(middle, reach)
    left_out: list[str] = []
    fit = [*_bounds(given, middle, calm, away), *_jobs(given, seen, left_out), *_heartbeats(given, seen)]
    for chosen in (fit, [one for one in fit if one.explains]):
        limits = _with(given, chosen)
        after, new = _replayed(batches(), limits)
        missed = [one for one in old if not _overlaps(one[0], one[1], new)]
        if {condition for *_, condition in missed} <= {condition for one in chosen for condition in one.explains}:
            break
    else:
        raise NothingToSuggest("no other limits tell of all that those given do")
    if chosen is not fit:
        left_out.append("stricter limits, with which an alarm of those given would have been missed")
    yield f"# Limits that fit {plural(before.samples, 'sample')} from {utc(before.begin)} to {utc(before.end)}."
    yield f"# With the limits given: {_paged(before)}. With these: {_paged(after)}."
    for one in chosen:
        if one.name in Limits._fields and one.value != getattr(given, one.name):
            time = option_time(one.value)
            value = time[:-1] if time.endswith("s") else f'"{time}"'
            yield f"\n# {one.reason}\n{option(one.name)[2:]} = {value}"
        elif one.name not in Limits._fields:
            yield f"\n# {one.reason}"
    if limits.job_limits != given.job_limits:
        yield f"max-job-behind = {[f'{kind}={plain(limit)}' for kind, limit in limits.job_limits]}"
    yield "\n# What is not here stays as it is given."
    for condition, count in Counter(condition for *_, condition in missed).items():
        yield f"# No longer told, for the reasons above: {condition}, {plural(count, 'time')}."
    if away or left_out:
        yield "# Left out, since it is not usual:"
    yield from (f"#   {text}" for text in left_out)
    for one_ in sorted(sorted(away, key=lambda e: e.begin - e.end)[:LISTED]):
        told = "CRITICAL" if _overlaps(one_.begin, one_.end, new) else "not CRITICAL"
        delays = f"{plain(one_.low, 0)} to {plain(one_.high, 0)} s"
        yield f"#   {utc(one_.begin)}, for {span(one_.end - one_.begin)}: a delay of {delays}; {told} with these limits"
    if len(away) > LISTED:
        yield f"#   and {len(away) - LISTED} shorter ones"


def _replayed(
    batches: Iterable[list[Record]], limits: Limits, see: Callable[[Record], None] = lambda _: None
) -> tuple[Summary, list[tuple[float, float, str]]]:
    """What a replay comes to; and from when until when it was CRITICAL, and by which condition."""
    course = Replay(limits)
    changes: list[StateChange] = []
    for batch in batches:
        for record in batch:
            see(record)
        changes += course.feed(batch)
    ends = [*[change.t for change in changes[1:]], inf]
    critical = [(c.t, end, c.condition) for c, end in zip(changes, ends, strict=False) if c.state is State.CRITICAL]
    return course.summary, critical


def _overlaps(begin: float, end: float, critical: Iterable[tuple[float, float, str]]) -> bool:
    return any(since < end and begin < until for since, until, _ in critical)


def _with(given: Limits, chosen: Iterable[Suggestion]) -> Limits:
    values: dict[str, Any] = {one.name: one.value for one in chosen}
    kinds = tuple((kind, values.pop(kind, limit)) for kind, limit in given.job_limits)
    return given._replace(**values, job_limits=kinds)


# --- the limits


def _bounds(given: Limits, middle: float, calm: Sequence[float], away: Sequence[Excursion]) -> Iterator[Suggestion]:
    low, high = calm[len(calm) // 200], calm[-1 - len(calm) // 200]
    room = max(middle / 10.0, high - low, min(10.0, middle / 2.0))
    step = 60.0 if middle >= 3600.0 else 10.0 if middle >= 600.0 else 1.0
    usual = f"99 of 100 calm samples are at {plain(low, 0)} to {plain(high, 0)} s; {plain(room, 0)} s of room"
    line = ("delay-out-of-bounds", "recovery-exceeded", "line-drained")
    # What lasts longer than a window is an incident: a bound lies between it and what is usual.
    incidents = [one for one in away if one.end - one.begin > given.window]
    least = max(floor((low - room) / step) * step, middle / 4.0)
    least = max([least, *[ceil((low + one.low) / 2.0) for one in incidents if least <= one.low < low]])
    # A bound that most of what is usual keeps to is right, and what breaks it is not usual.
    fits = given.min_delay_time <= calm[len(calm) // 4]
    yield Suggestion("min_delay_time", max(least, given.min_delay_time) if fits else least, usual, () if fits else line)
    most = ceil((high + room) / step) * step
    most = min([most, *[floor((high + one.high) / 2.0) for one in incidents if high < one.high <= most]])
    fits = given.max_delay_time >= calm[-1 - len(calm) // 4]
    yield Suggestion("max_delay_time", min(most, given.max_delay_time) if fits else most, usual, () if fits else line)


def _jobs(given: Limits, seen: Seen, left_out: list[str]) -> Iterator[Suggestion]:
    runs: dict[str, list[float]] = defaultdict(list)
    for job in seen.jobs.values():
        if job.void or job.unreadable or job.kind is None or job.started_at is None:
            continue
        if job.kind not in given.kinds or job.finished_at is None or job.finished_at < job.started_at:
            why = "has no end" if job.kind in given.kinds else "is of a kind that no limit is given for"
            left_out.append(clean(f"{job.kind} {job.id}, which {why}", 120))
        else:
            runs[job.kind].append(job.finished_at - job.started_at)
    for kind, times in runs.items():
        limit = given.kinds[kind]
        # Of many runs one may be three times as long as is usual; of a few, nobody knows what is.
        usual = [time for time in times if time <= (3.0 * median(times) if len(times) >= 3 else limit)]
        if len(usual) < len(times):
            left_out.append(f"{len(times) - len(usual)} of {plural(len(times), kind)}, up to {span(max(times))} long")
        if usual:
            looser = max(usual) > limit
            value = ceil((1.5 * max(usual) + 600.0) / 300.0) * 300.0
            yield Suggestion(
                f"max_{kind}_behind" if kind in BUILT_IN_KINDS else kind,
                value if looser else min(value, limit),
                f"{plural(len(usual), kind)}, the longest {span(max(usual))}; half as long again, and ten minutes",
                ("job-overrun", "delay-out-of-bounds", "recovery-exceeded") if looser else (),
            )


def _heartbeats(given: Limits, seen: Seen) -> Iterator[Suggestion]:
    # An age that grows from nothing to an interval is half of one in the middle.
    beat = max(2.0 * median(seen.ages or [0.0]), median(seen.beats or [0.0]))
    if beat <= LONGEST_HEARTBEAT_S and 1.5 * beat > given.max_seconds_behind:
        reason = f"a heartbeat, or a sample of one, comes every {span(beat)}; three times that"
        told = ("local-heartbeat-stale", "source-heartbeat-dead", "io-stopped")
        yield Suggestion("max_seconds_behind", ceil(3.0 * beat / 10.0) * 10.0, reason, told)


def _paged(summary: Summary) -> str:
    return plural(len(summary.pages), "page") + summary.by_condition()
