"""Rules that judge a replica, the pages that each sends, and how that compares with what really happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from check_delayed_repl.backtest.replay import Replay
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.records import Record, Sample

from .years import DAY, HIGH, LOW, Incident, Profile, Year

EARLY = 120.0
"""Seconds before an incident's beginning from which a page is taken to be for it: a trend may see it coming."""

OURS = "check_delayed_repl"


PEERS: dict[str, Callable[[Sample], bool]] = {
    "heartbeat above maximum": lambda sample: sample.delay is None or sample.delay > HIGH,
    "heartbeat out of bounds": lambda sample: sample.delay is None or not LOW <= sample.delay <= HIGH,
    "both threads run": lambda sample: sample.io != "Yes" or sample.sql != "Yes",
}
"""The rules that other checks judge by."""
RULES = (OURS, *PEERS)


class Alarm(NamedTuple):
    """A time in CRITICAL: seconds since 1970, the end being the first sample that finds it over."""

    begin: float
    end: float
    condition: str = ""


class Bell:
    """Turns samples that are CRITICAL or not into alarms."""

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []
        self._since: tuple[float, str] | None = None

    def see(self, t: float, critical: bool, condition: str = "") -> None:
        if critical and self._since is None:
            self._since = t, condition
        elif not critical and self._since is not None:
            self.alarms.append(Alarm(self._since[0], t, self._since[1]))
            self._since = None


class FalsePage(NamedTuple):
    replica: int
    profile: Profile
    alarm: Alarm


class Score:
    def __init__(self) -> None:
        self.years = 0.0
        self.pages = 0
        """All of them, false or not."""
        self.false: list[FalsePage] = []
        self.found: dict[str, list[float]] = {}
        """Kind of incident → seconds from its beginning to its page."""
        self.missed: list[tuple[int, Profile, Incident]] = []

    def add(self, year: Year, alarms: Sequence[Alarm]) -> None:
        self.years += year.days * DAY / (365.0 * DAY)
        self.pages += len(alarms)
        real = [(i, i.begin, i.end) for i in year.incidents if i.begin is not None and i.end is not None]
        for incident, begin, end in real:
            times = [max(0.0, alarm.begin - begin) for alarm in alarms if alarm.begin <= end and alarm.end > begin]
            if times:
                self.found.setdefault(incident.kind, []).append(min(times))
            else:
                self.missed.append((year.number, year.profile, incident))
        for alarm in alarms:
            # An incident that the recording's end cuts short excuses its page, but is not counted as found or missed.
            if not any(
                i.begin is not None and i.begin - EARLY <= alarm.begin and (i.end is None or alarm.begin <= i.end)
                for i in year.incidents
            ):
                self.false.append(FalsePage(year.number, year.profile, alarm))

    @property
    def times(self) -> list[float]:
        return [seconds for kind in self.found.values() for seconds in kind]

    def kind_line(self, kind: str) -> str:
        """Found of all, median and worst seconds."""
        found = self.found.get(kind, [])
        missed = sum(incident.kind == kind for _, _, incident in self.missed)
        times = f"{median(found):.0f} / {max(found):.0f} s" if found else "-"
        return f"{len(found)} of {len(found) + missed}, {times}"


def judge(year: Year) -> dict[str, list[Alarm]]:
    """Every rule's alarms on one replica's days; the project's own from the very same judge as the check's."""
    bells = {rule: Bell() for rule in RULES}
    latest = 0.0

    def watched() -> Iterator[Record]:
        nonlocal latest
        for record in year:
            if isinstance(record, Sample):
                latest = record.t
                for rule, wrong in PEERS.items():
                    bells[rule].see(latest, wrong(record))
            yield record

    for ruling in Replay(year.profile.limits).feed(watched()):
        bells[OURS].see(ruling.t, ruling.state == State.CRITICAL, ruling.condition)
    for bell in bells.values():
        bell.see(latest, False)
    return {rule: bell.alarms for rule, bell in bells.items()}


def table(scores: dict[str, Score]) -> str:
    """What each rule has done, and what became of each kind of incident."""
    missed = {incident.kind for score in scores.values() for _, _, incident in score.missed}
    kinds = sorted(missed | {kind for score in scores.values() for kind in score.found})
    lines = [
        f"{'rule':<26}{'false pages':>14}{'incidents':>11}{'missed':>8}{'median':>9}{'worst':>9}{'pages per':>11}",
        f"{'':<26}{'a year':>14}{'':>11}{'':>8}{'to page':>9}{'to page':>9}{'incident':>11}",
    ]
    for rule, score in scores.items():
        times = score.times
        lines.append(
            f"{rule:<26}{len(score.false) / score.years:>14.2f}{len(times) + len(score.missed):>11}"
            f"{len(score.missed):>8}{_seconds(median(times) if times else None):>9}"
            f"{_seconds(max(times) if times else None):>9}"
            f"{(score.pages - len(score.false)) / max(1, len(times)):>11.1f}"
        )
    lines += ["", "found of all, median / worst time to page", ""]
    lines.append(f"{'incident':<26}" + "".join(f"{rule:>28}" for rule in scores))
    lines += [f"{kind:<26}" + "".join(f"{score.kind_line(kind):>28}" for score in scores.values()) for kind in kinds]
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"
