"""Made-up recordings that begin calm and in which anything may happen."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample

LIMITS = Limits(
    max_seconds_behind=25,
    max_relay_behind=90,
    max_master_behind=60,
    max_backup_behind=300,
    max_deshard_behind=100,
    min_delay_time=100,
    max_delay_time=200,
    max_recovery_time=200,
    max_trend_time=150,
    window=60,
)
T = 1_700_000_000.0

# What a hostile recording may have in one sample, or from one sample on.
ODDITIES: dict[str, list[Any]] = {
    "error": ["timeout", "server-down", "heartbeat-missing"],
    "delay": [None, -5.0, 0.0, 99.9, 100.0, 104.0, 150.0, 196.0, 200.0, 200.1, 900.0, 1e12, -1e300, 1e300],
    "ts": [None, T - 500.0, T + 1e6],
    "source_id": [None, 2],
    "heartbeat_id": [None, 2],
    "local": [None, -0.9, -2.0, 24.9, 25.1, 1e300],
    "local_missing": [True],
    "io": [None, "No", "Connecting", "Preparing", "yes", ""],
    "sql": [None, "No", "Perhaps"],
    "io_errno": [None, 1236],
    "sql_errno": [None, 1032],
    "source_log": [None, ("bin.000001", 4), ("bin.000009", 4)],
    "relay_log": [None, ("bin.000001", 4), ("bin.000009", 4)],
    "sql_delay": [None, 0, 120, 150, 10**12],
    "sql_remaining": [None, 7, 10**6],
    "server": [None, "uuid:b", "uuid:c", "id:1/3306"],
    "filters": [None, ("Replicate_Do_DB=a",)],
    "relay_limited": [None, True],
    "seconds_behind": [None, 0, 150],
}
FROZEN = ("ts", "source_log", "relay_log")
"""What may stand still for a while, as everything may that moves."""
STEPS = [0.0, 1e-6, 1.0, 9.99, 10.0, 10.01, 25.0, 61.0, 70.0, 400.0, 4000.0, -1.0, -2.5, -30.0, -5000.0]


def calm(t: float, delay: float = 150.0, **seen: Any) -> Sample:
    """A sample of a replica that is well, in all that is not `seen` otherwise."""
    usual = Sample(
        t,
        delay,
        ts=t - delay,
        source_id=1,
        heartbeat_id=1,
        local=0.5,
        io="Yes",
        sql="Yes",
        source_log=("bin.1", int(t)),
        relay_log=("bin.1", int(t) - 150),
        sql_delay=150,
        sql_remaining=3,
        seconds_behind=150,
        server="uuid:a",
        filters=(),
        relay_limited=False,
    )
    return usual._replace(**seen)


class Line:
    """A made-up replica: calm by default, odd where told to."""

    def __init__(self, chance: random.Random, bare: bool, external: bool, native: bool) -> None:
        self._random = chance
        self._bare = bare
        self._external = external
        self._sql_delay = 150 if native else None
        self.t = T
        self.level = 150.0
        self.jitter = 1.5
        self.leak = 0.0
        self.odd: dict[str, Any] = {}
        self.noise: tuple[str, ...] = ()
        """Fields that are odd now and then."""
        self.frozen: tuple[str, ...] = ()
        self.thaw = 0.0
        """How likely a frozen field moves at a sample all the same."""
        self._position = 1000
        self._held: dict[str, Any] = {}

    def sample(self, step: float = 10.0, **once: Any) -> Sample:
        self.t += step
        self.level += self.leak * step
        delay = self.level + self._random.random() * self.jitter
        self._position += self._random.choice([0, 100, 2000])
        sample = Sample(self.t, delay)
        if not self._bare:
            sample = calm(
                self.t,
                delay,
                local=self._random.random(),
                sql="No" if self._external and self._random.random() < 0.7 else "Yes",
                io_errno=0,
                sql_errno=0,
                source_log=("bin.000002", self._position + self._random.choice([0, 0, 500])),
                relay_log=("bin.000002", self._position),
                sql_delay=self._sql_delay,
                sql_remaining=self._random.choice([None, 3]),
            )
        for name in FROZEN:
            if name in self.frozen and self._random.random() >= self.thaw:
                sample = sample._replace(**{name: self._held.get(name)})
            self._held[name] = getattr(sample, name)
        noise = {name: self._random.choice(ODDITIES[name]) for name in self.noise if self._random.random() < 0.1}
        return sample._replace(**{**self.odd, **noise, **once})


def recording(seed: int, length: int) -> list[Record]:
    """Some hundred samples that begin calm, and in which anything may happen, `length` times.

    Chance, rather than a strategy, draws what happens: a strategy's favourites are short and plain.
    """
    chance = random.Random(seed)
    line = Line(chance, chance.random() < 0.2, chance.random() < 0.4, chance.random() < 0.5)
    records: list[Record] = [line.sample() for _ in range(10)]
    for _ in range(length):
        match chance.choice(
            ["once", "from now", "step", "level", "freeze", "noise", "job", "jobs", "stutter", "sparse"]
        ):
            case "once":
                name = chance.choice(sorted(ODDITIES))
                records.append(line.sample(**{name: chance.choice(ODDITIES[name])}))
            case "from now":
                name = chance.choice(sorted(ODDITIES))
                line.odd[name] = chance.choice(ODDITIES[name])
            case "sparse":
                records += [line.sample(chance.choice([10.0, 31.0, 61.0, 700.0])) for _ in range(30)]
            case "noise":
                line.noise = tuple(chance.sample(sorted(ODDITIES), chance.randrange(3)))
            case "step":
                records.append(line.sample(chance.choice(STEPS)))
            case "level":
                line.level = chance.choice([90.0, 100.0, 103.0, 110.0, 150.0, 190.0, 196.0, 250.0])
                line.jitter = chance.choice([0.0, 0.1, 1.5, 5.0, 20.0])
                line.leak = chance.choice([0.0, 0.0, 0.02, -0.02, 1.0, -1.0])
            case "freeze":
                line.frozen = tuple(chance.sample(FROZEN, chance.randrange(4)))
                line.thaw = chance.choice([0.0, 0.2, 0.5])
            case "job":
                records.append(job(chance, line.t))
            case "jobs":
                kind = chance.choice(["backup", "deshard", "dump"])
                records.append(JobLine(line.t, "j", kind, line.t))
                records += [line.sample() for _ in range(chance.randrange(50))]
                records.append(JobLine(line.t, "j", kind, line.t - 60.0, line.t + chance.choice([-1.0, 0.0, 50.0])))
            case "stutter":
                records += [line.sample(0.0) for _ in range(chance.randrange(1, 5))]
        step = chance.choice([10.0, 10.0, 10.0, 1.0, 20.0, 65.0])
        records += [line.sample(step) for _ in range(chance.choice([0, 1, 8, 9, 30, 60]))]
        if chance.random() < 0.5:
            line.odd, line.noise, line.frozen = {}, (), ()
            line.level, line.leak, line.jitter = 150.0, 0.0, chance.choice([1.5, 1.5, 8.0])
    return records


def job(chance: random.Random, t: float) -> JobLine:
    """Anything that anybody may have written."""
    near = [None, t - 1e6, t - 100.0, t, t + 30.0, t + 61.0, t + 1e6]
    return JobLine(
        t,
        chance.choice(["j", "k"]),
        chance.choice(["backup", "deshard", "dump", None]),
        chance.choice(near),
        chance.choice(near),
        chance.random() < 0.4,
        chance.choice([None, None, "started_at 'soon' is no number"]),
    )


SEEDS = st.integers(0, 2**32)
LENGTHS = st.integers(1, 20)
