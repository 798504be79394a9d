"""Replica-years: a replica with its nights and days, and incidents whose moments are known.

A replica is a small machine, stepped every ten seconds. Changes of the source are fetched, wait, and are applied; what
was applied last was written on the source at `applied`, so the true delay is now less `applied`. What happens to the
machine is a plan of events: ordinary ones, which must not page anybody, and incidents, which must.

Ordinary: heartbeat jitter, pt-slave-delay's saw-tooth, nightly backups in five manners with catch-ups in four,
deshards, load spikes that stay in range, dips and spikes of up to a minute, restarts of the source, gaps in the
sampling, another server of the same name, an IO thread that flaps, a single wild sample now and then.

Incidents: a slow leak, a lost delay setting, a dead heartbeat, a dead IO thread behind a full relay log, a stopped SQL
thread, pt-slave-delay dead, job records gone wrong, a line lost after a harmless backup, a line drained between two
samples, a flood of jobs, two servers behind one name, a filter, a relay log at its limit. An incident begins when
something is wrong that an operator has not said to tolerate: when the delay leaves its range, when a thread that should
run stops, when the source's heartbeat stops to arrive, when a job is past its limit. It ends two minutes after the line
is back in range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Position, Record, Sample

EVERY = 10.0
HOUR, DAY = 3600.0, 86400.0
START = 1.7e9
WILD_EVERY = 60.0 * DAY
"""Seconds between two samples that are simply wrong."""
AFTERMATH = 120.0
"""Seconds after the line is back in range that still belong to an incident."""

LIMITS = Limits()
LOW, HIGH = LIMITS.min_delay_time, LIMITS.max_delay_time


class Incident:
    """Something that somebody should be told of."""

    def __init__(self, kind: str, due: float | None = None) -> None:
        self.kind = kind
        self.begin: float | None = None
        """When it began; None while nothing is wrong yet."""
        self.due = due
        """When it begins at the latest, whatever the line does; None: when the line is out."""
        self.back: float | None = None
        """Since when the line is back, once somebody has mended it."""
        self.end: float | None = None


class Profile(NamedTuple):
    """What kind of replica this is."""

    native: bool
    """The server itself delays; else pt-slave-delay does."""
    delay: float
    """Seconds that it is set to be late."""
    manner: str
    """How its backups are made: what they stop."""
    catch_up: float
    """Seconds of the source's changes that it applies in one, when it has fallen behind."""
    ragged: bool
    """Its catch-ups pause for up to a minute, again and again."""
    jitter: float

    @property
    def limits(self) -> Limits:
        """What its operator would have set."""
        return LIMITS._replace(job_stops_server=("backup",) if self.manner == "server" else ())

    def __str__(self) -> str:
        delayer = "native" if self.native else "pt-slave-delay"
        return (
            f"{delayer} {self.delay:.0f} s, backup stops {self.manner}, catches up at {self.catch_up:g}x"
            f"{', ragged' if self.ragged else ''}"
        )


MANNERS = ("sql", "both", "lock", "load", "server")


def profile(rng: Random, number: int) -> Profile:
    native = number % 2 == 0
    edge = HIGH - 72.0 if not native else HIGH - 15.0
    return Profile(
        native=native,
        delay=rng.choice((7200.0, 7200.0, 6000.0, LOW + 12.0, edge)),
        manner=MANNERS[number // 2 % len(MANNERS)],
        catch_up=rng.choice((2.0, 5.0, 20.0, 1000.0)),
        ragged=rng.random() < 0.4,
        jitter=rng.choice((0.75, 1.5)),
    )


class Machine:
    """The replica. An event changes its fields; `step` lets time pass."""

    def __init__(self, kind: Profile, rng: Random) -> None:
        self.profile = kind
        self.rng = rng
        self.now = START
        self.applied = START - kind.delay
        self.target = kind.delay
        self.sql_delay = int(kind.delay) if kind.native else 0
        self.slope = 0.0
        """How fast the target moves, s/s."""
        self.speed = kind.catch_up
        self.stuck = False
        """Nothing is applied, whatever the thread says."""
        self.sql_runs = True
        self.io = "Yes"
        self.fetching = True
        self.fetched = START
        self.writer_died: float | None = None
        """When the source's heartbeat writer died..."""
        self.writer_mended: float | None = None
        """...and when it was started again."""
        self.local_died: float | None = None
        self.down = False
        self.server = "uuid:a"
        self.doubled = False
        """Every sixth sample is of another server, which is not delayed."""
        self.flapping = False
        """The IO thread is thrown out again and again."""
        self.filters: tuple[str, ...] = ()
        self.relay_limited = False
        self.silent = False
        """Nobody samples."""
        self.manager = True
        """pt-slave-delay is alive."""
        self.resting = False
        self.pause = 0.0
        self.run = 0.0

    @property
    def delay(self) -> float:
        return self.now - self.applied

    @property
    def waits(self) -> bool:
        """pt-slave-delay has stopped the SQL thread: it lets it run once a minute, until it has caught up."""
        return not self.profile.native and self.manager and self.resting

    def step(self) -> None:
        self.now += EVERY
        self.target += self.slope * EVERY
        if self.fetching and not self.down:
            self.fetched = self.now
        if self.stuck or self.down or not self.sql_runs:
            return
        wanted = self.now - self.target
        if int(self.now / EVERY) % 6 == 0:
            self.resting = False
        if self.waits:
            return
        behind = wanted - self.applied
        if self.profile.ragged and behind > 120.0 and self.speed >= 1.5:
            if self.pause > 0.0:
                self.pause -= EVERY
                return
            self.run -= EVERY
            if self.run <= 0.0:
                # As much is made good between two pauses as a pause loses, and more.
                self.pause = self.rng.choice((0.0, 20.0, 50.0))
                self.run = max(self.rng.uniform(60.0, 240.0), 2.0 * self.pause / (self.speed - 1.0))
        if behind > 0.0:
            self.applied = min(wanted, self.applied + self.speed * EVERY, self.fetched)
        self.resting = self.applied >= min(wanted, self.fetched)

    def sample(self) -> Sample | None:
        """What a sampler sees now, or that it sees nothing."""
        if self.silent:
            return None
        if self.down:
            return Sample(self.now, None, "server-down", "connection refused")
        rng, kind = self.rng, self.profile
        place = int(self.now / EVERY)
        if self.doubled and place % 6 == 5:
            return Sample(self.now, 0.3, ts=self.now - 0.3, io="Yes", sql="Yes", sql_delay=0, server="uuid:other")
        jitter = rng.uniform(-kind.jitter, kind.jitter)
        beat = self.applied
        if self.writer_died is not None and self.writer_died < beat < (self.writer_mended or beat + 1.0):
            beat, jitter = self.writer_died, 0.0  # a row that nobody writes stands still
        delay = self.now - beat + jitter
        sql = self.sql_runs and not self.waits
        local = rng.uniform(0.0, 1.0) if self.local_died is None else self.now - self.local_died
        behind = int(self.now - self.applied) if sql and self.io == "Yes" else None
        pending = int(max(0.0, self.target - self.delay)) if kind.native and sql and not self.stuck else None
        return Sample(
            t=self.now,
            delay=delay,
            ts=beat - jitter,
            source_id=1,
            heartbeat_id=1,
            local=local,
            io="Connecting" if self.flapping and place % 3 == 0 else self.io,
            sql="Yes" if sql else "No",
            io_errno=0,
            sql_errno=0,
            source_log=position(self.fetched),
            relay_log=position(self.applied),
            sql_delay=self.sql_delay,
            sql_remaining=pending,
            seconds_behind=behind,
            server=self.server,
            filters=self.filters,
            relay_limited=self.relay_limited,
        )


def position(t: float) -> Position:
    """Where the source writes at a time: a kilobyte a second, a file an hour."""
    file, seconds = divmod(t, HOUR)
    return f"bin.{int(file):06d}", int(seconds * 1000.0)


Change = Callable[[Machine], None]


class Event(NamedTuple):
    t: float
    change: Change | None
    job: JobLine | None = None
    incident: Incident | None = None
    """One that may begin now."""
    over: Incident | None = None
    """One that somebody has mended; it ends when the line is back."""


def put(**fields: object) -> Change:
    def change(machine: Machine) -> None:
        for name, value in fields.items():
            setattr(machine, name, value)

    return change


class Year:
    """One replica's days, to be iterated over once: its records, with its incidents noted on the way."""

    def __init__(self, number: int, days: int, incident_every: float = 4.0, seed: str = "") -> None:
        """`incident_every` in days. The same numbers and seed always give the same records."""
        self.rng = Random(f"replica/{seed}/{number}")
        self.number = number
        self.days = days
        self.incident_every = incident_every
        self.profile = profile(self.rng, number)
        self.incidents: list[Incident] = []

    # --- the plan

    def _day(self, number: int) -> list[Event]:
        rng, kind = self.rng, self.profile
        midnight = START + number * DAY
        wrong = number > 0 and rng.random() < 1.0 / self.incident_every
        deshard = not wrong and rng.random() < 0.06
        chosen = rng.choice(INCIDENTS[kind.native]) if wrong else ""
        events: list[Event] = []
        backup_job = f"backup-{number}"
        begin = midnight + HOUR + rng.uniform(0.0, 1800.0)
        if chosen == "job never finished":
            events += self._never_finished(begin, backup_job)
        else:
            longest = 4.0 * HOUR if kind.catch_up > 2.0 else 3.0 * HOUR
            end = begin + rng.uniform(0.5 * HOUR, longest)
            harmless = chosen == "lost after a backup"
            if harmless:
                end = begin + 600.0
            events += self._backup(begin, end, backup_job, quick=harmless)
            if harmless:
                events += self._lost_line(end + rng.uniform(1.2, 2.0) * HOUR, chosen)
            elif chosen:
                events += PLANS[chosen](self, midnight + 12.0 * HOUR + rng.uniform(0.0, HOUR), chosen)
            elif deshard:
                events += self._deshard(midnight + 12.0 * HOUR, f"deshard-{number}")
            else:
                events += self._load_spike(midnight + 12.0 * HOUR)
        if not wrong and not deshard:
            events += self._bumps(midnight + 17.0 * HOUR, midnight + 24.0 * HOUR)
            events += self._oddities(midnight + 17.0 * HOUR, midnight + 24.0 * HOUR)
        events.sort(key=lambda event: event.t)
        return events

    def _backup(self, begin: float, end: float, name: str, quick: bool = False) -> list[Event]:
        stops: dict[str, tuple[Change, Change]] = {
            "sql": (put(sql_runs=False), put(sql_runs=True)),
            "both": (put(sql_runs=False, io="No", fetching=False), put(sql_runs=True, io="Yes", fetching=True)),
            "lock": (lock, put(stuck=False, local_died=None)),
            "load": (put(speed=0.7), put(speed=self.profile.catch_up)),
            "server": (put(down=True), put(down=False)),
        }
        stop, go = stops[self.profile.manner]
        if quick:
            stop = go = put()
        start = JobLine(begin, name, "backup", begin)
        finish = JobLine(end, name, "backup", begin, end)
        return [
            Event(begin - 5.0, None, start),
            Event(begin + 5.0, stop),
            Event(end - 15.0, go),
            Event(end, None, finish),
        ]

    def _deshard(self, begin: float, name: str) -> list[Event]:
        # Slow enough to leave the range, and done early enough to be back before the night's backup.
        end = begin + self.rng.uniform(1.0, 4.0) * HOUR
        speed = self.rng.uniform(0.3, 0.9) if self.profile.catch_up > 2.0 else self.rng.uniform(0.6, 0.95)
        return [
            Event(begin - 5.0, None, JobLine(begin, name, "deshard", begin)),
            Event(begin + 5.0, put(speed=speed)),
            Event(end - 15.0, put(speed=self.profile.catch_up)),
            Event(end, None, JobLine(end, name, "deshard", begin, end)),
        ]

    def _load_spike(self, begin: float) -> list[Event]:
        room = HIGH - self.profile.delay - 80.0
        rise = self.rng.uniform(0.1, 1.0)
        if room < 60.0:
            return []
        lasts = min(room / rise, self.rng.uniform(300.0, 2.0 * HOUR))
        return [Event(begin, put(speed=1.0 - rise)), Event(begin + lasts, put(speed=self.profile.catch_up))]

    def _bumps(self, begin: float, end: float) -> list[Event]:
        """Dips and spikes of up to a minute, a quarter of an hour apart at least."""
        events = []
        t = begin + self.rng.uniform(0.0, HOUR)
        while t < end - HOUR:
            if self.rng.random() < 0.5:
                events.append(Event(t, ahead(self.rng.uniform(5.0, 60.0))))
            else:
                # Whole steps, of which the last is the one that ends it.
                steps = self.rng.randrange(1, 6)
                events += [Event(t, put(stuck=True)), Event(t + steps * EVERY, put(stuck=False))]
            t += 900.0 + self.rng.expovariate(1.0 / (2.0 * HOUR))
        return events

    def _oddities(self, begin: float, end: float) -> list[Event]:
        rng = self.rng
        events: list[Event] = []
        for chance, lasts, odd, usual in (
            (0.15, (10.0, 50.0), put(io="Connecting", fetching=False), put(io="Yes", fetching=True)),
            (0.15, (60.0, 1800.0), put(silent=True), put(silent=False)),
            (0.07, (60.0, 3000.0), put(flapping=True), put(flapping=False)),
        ):
            t = rng.uniform(begin, end - HOUR)
            if rng.random() < chance:
                events += [Event(t, odd), Event(t + rng.uniform(*lasts), usual)]
        t = rng.uniform(begin, end - HOUR)
        if rng.random() < 0.03:
            events.append(Event(t, put(server=f"uuid:{t}")))
        return events

    # --- incidents

    def _incident(self, kind: str, due: float | None = None) -> Incident:
        incident = Incident(kind, due)
        self.incidents.append(incident)
        return incident

    def _leak(self, begin: float, kind: str) -> list[Event]:
        rng = self.rng
        down = rng.random() < 0.5
        gap = self.profile.delay - LOW if down else HIGH - self.profile.delay
        rate = max(rng.choice((0.01, 0.02, 0.05, 0.1, 0.3)), gap / rng.uniform(1800.0, 3.0 * HOUR))
        lasts = gap / rate + max(1800.0, 100.0 / rate)
        tight = put(slope=0.0, target=self.profile.delay)
        return self._between(begin, lasts, kind, put(slope=-rate if down else rate), tight)

    def _between(
        self, begin: float, lasts: float, kind: str, wrong: Change, right: Change, due: float | None = None
    ) -> list[Event]:
        """Something is wrong for a while, until somebody mends it."""
        incident = self._incident(kind, due)
        return [Event(begin, wrong, incident=incident), Event(begin + lasts, right, over=incident)]

    def _setting_lost(self, begin: float, kind: str) -> list[Event]:
        delay = self.profile.delay
        lost, found = put(sql_delay=0, target=0.0), put(sql_delay=int(delay), target=delay)
        return self._between(begin, HOUR, kind, lost, found, begin)

    def _manager_dead(self, begin: float, kind: str) -> list[Event]:
        """pt-slave-delay dies while the thread runs: nothing holds it back any more."""
        dead, alive = put(manager=False, target=0.0), put(manager=True, target=self.profile.delay)
        return self._between(begin, HOUR, kind, dead, alive)

    def _stopped(self, begin: float, kind: str) -> list[Event]:
        """The SQL thread is stopped and nobody starts it: with native delay that is wrong at once."""
        due, lasts = begin if self.profile.native else None, HIGH - self.profile.delay + HOUR
        return self._between(begin, lasts, kind, put(sql_runs=False), put(sql_runs=True), due)

    def _lost_line(self, begin: float, kind: str) -> list[Event]:
        """Threads run, and nothing is applied."""
        return self._between(begin, HIGH - self.profile.delay + HOUR, kind, put(stuck=True), put(stuck=False))

    def _drained(self, begin: float, kind: str) -> list[Event]:
        """The delay is set to nothing for a moment, between two samples, and back."""
        incident = self._incident(kind)
        return [Event(begin, ahead(DAY), incident=incident), Event(begin + 60.0, None, over=incident)]

    def _flooded(self, begin: float, kind: str) -> list[Event]:
        """Somebody writes jobs in a loop."""
        incident = self._incident(kind, begin)
        lines = [JobLine(begin, f"flood-{i}", "backup", begin) for i in range(2100)]
        return [
            *(Event(begin, None, line) for line in lines),
            Event(begin, None, incident=incident),
            Event(begin + HOUR, None, JobLine(begin + HOUR, "*", void=True), over=incident),
        ]

    def _wrong_for(self, begin: float, kind: str) -> list[Event]:
        """Something that shows in the status alone."""
        field, wrong, right, tolerated, lasts = {
            "two servers": ("doubled", True, False, 60.0, HOUR),
            "filter": ("filters", ("Replicate_Do_DB=percona",), (), 0.0, HOUR),
            "relay log full": ("relay_limited", True, False, LIMITS.max_master_behind, 2.0 * HOUR),
        }[kind]
        wrongly, rightly = put(**{str(field): wrong}), put(**{str(field): right})
        return self._between(begin, lasts, kind, wrongly, rightly, begin + tolerated)

    def _io_dead(self, begin: float, kind: str) -> list[Event]:
        """Nothing is fetched any more, while hours of changes still wait to be applied."""
        state = {"IO thread stopped": "No", "IO thread cannot connect": "Connecting", "IO thread hangs": "Yes"}[kind]
        return self._between(
            begin, 3.0 * HOUR, kind, put(io=state, fetching=False), put(io="Yes", fetching=True), begin
        )

    def _heartbeat_dead(self, begin: float, kind: str) -> list[Event]:
        """The writer dies; here that shows when its last row has come through the delay line."""
        incident = self._incident(kind, begin + self.profile.delay)
        mended = begin + 1.5 * HOUR
        return [
            Event(begin, put(writer_died=begin, writer_mended=None), incident=incident),
            Event(mended, put(writer_mended=mended)),
            # The new rows have to come through the delay line as well.
            Event(mended + self.profile.delay + 60.0, None, over=incident),
        ]

    def _never_finished(self, begin: float, name: str) -> list[Event]:
        """The backup dies and leaves its job open and the SQL thread stopped: tolerated up to the job's limit."""
        incident = self._incident("job never finished", begin + LIMITS.max_backup_behind)
        end = begin + LIMITS.max_backup_behind + HOUR
        return [
            Event(begin - 5.0, None, JobLine(begin, name, "backup", begin), incident=incident),
            Event(begin + 5.0, put(sql_runs=False)),
            # Who mends it lends it a faster disk as well, or it would not be back before the next backup.
            Event(end - 20.0, put(sql_runs=True, speed=50.0), over=incident),
            Event(end, None, JobLine(end, name, void=True)),
            Event(end + 2.0 * HOUR, put(speed=self.profile.catch_up)),
        ]

    def _bad_record(self, begin: float, kind: str) -> list[Event]:
        """Somebody stops the SQL thread for a job whose record makes no sense."""
        rng = self.rng
        line = rng.choice(
            (
                JobLine(begin, f"bad-{begin}", "backup", begin, begin - 60.0),
                JobLine(begin, f"bad-{begin}", "backup", begin + 3600.0 * 24, begin + 3600.0 * 30),
                JobLine(begin, f"bad-{begin}", "bakcup", begin),
                JobLine(begin, f"bad-{begin}", unreadable="started_at 'noon' is no number"),
            )
        )
        events = self._stopped(begin + 10.0, kind)
        return [Event(begin, None, line), *events, Event(events[-1].t, None, line._replace(void=True))]

    # --- the course

    def __iter__(self) -> Iterator[Record]:
        machine = Machine(self.profile, self.rng)
        waiting: list[Incident] = []
        ending: list[Incident] = []
        wild_in = self.rng.expovariate(EVERY / WILD_EVERY)
        for day in range(self.days):
            events = self._day(day)
            at = 0
            for _ in range(int(DAY / EVERY)):
                machine.step()
                now = machine.now
                while at < len(events) and events[at].t <= now:
                    event = events[at]
                    at += 1
                    if event.change:
                        event.change(machine)
                    if event.job:
                        yield event.job
                    if event.incident:
                        waiting.append(event.incident)
                    if event.over:
                        ending.append(event.over)
                inside = LOW <= machine.delay <= HIGH
                for incident in waiting[:]:
                    if (incident.due is not None and now >= incident.due) or (incident.due is None and not inside):
                        incident.begin = now
                        waiting.remove(incident)
                for incident in ending:
                    if incident.back is not None and now - incident.back >= AFTERMATH:
                        incident.end = now
                    incident.back = (incident.back or now) if inside else None
                ending = [incident for incident in ending if incident.end is None]
                waiting = [incident for incident in waiting if incident.end is None]
                sample = machine.sample()
                if sample is None:
                    continue
                wild_in -= 1.0
                if wild_in < 0.0 and sample.delay is not None:
                    wild_in = self.rng.expovariate(EVERY / WILD_EVERY)
                    sample = sample._replace(
                        delay=self.rng.choice((0.0, 1e6, sample.delay + self.rng.uniform(-4e3, 4e3)))
                    )
                yield sample


def lock(machine: Machine) -> None:
    """A read lock: threads run, nothing is written, the local heartbeat least of all."""
    machine.stuck = True
    machine.local_died = machine.now


def ahead(seconds: float) -> Change:
    """Changes are applied too early for once; the line is back when their time has come."""

    def change(machine: Machine) -> None:
        machine.applied = min(machine.applied + seconds, machine.now)

    return change


PLANS: dict[str, Callable[[Year, float, str], list[Event]]] = {
    "leak": Year._leak,
    "line lost": Year._lost_line,
    "lost after a backup": Year._lost_line,
    "heartbeat dead": Year._heartbeat_dead,
    "IO thread stopped": Year._io_dead,
    "IO thread cannot connect": Year._io_dead,
    "IO thread hangs": Year._io_dead,
    "SQL thread stopped": Year._stopped,
    "job record wrong": Year._bad_record,
    "job never finished": Year._never_finished,
    "line drained": Year._drained,
    "job flood": Year._flooded,
    "two servers": Year._wrong_for,
    "filter": Year._wrong_for,
    "relay log full": Year._wrong_for,
    "delay setting lost": Year._setting_lost,
    "pt-slave-delay dead": Year._manager_dead,
}
"""What may go wrong, and what happens then."""
INCIDENTS = {
    native: [kind for kind in PLANS if kind != other]
    for native, other in ((True, "pt-slave-delay dead"), (False, "delay setting lost"))
}
"""With native delay or without → what may go wrong."""
