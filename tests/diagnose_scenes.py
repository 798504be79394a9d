"""A replica in each condition that there is, recorded by hand: what the golden screens are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from judge_builders import folded, job, sample

from check_delayed_repl.diagnose.picture import Diagnosis, picture
from check_delayed_repl.diagnose.server import Server
from check_delayed_repl.given import Call
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.limits import Limits
from check_delayed_repl.observe.dialect import Dialect, Place
from check_delayed_repl.records import JobLine, Record, Sample

NOW = 1795430460.0
"""2026-11-23 10:41:00 UTC."""
CALL = Call(("-H", "db1"), client=("--host=db1",))
KEPT = Call(("-H", "db1"), history=("--history", "/srv/history.db"), kept="/srv/history.db", client=("--host=db1",))
MYSQL, OLD_MYSQL, OLDEST_MYSQL = Dialect("9.7.0", "orders"), Dialect("8.0.21"), Dialect("5.6.24")
MARIADB, NAMED_MARIADB = Dialect("10.11.6-MariaDB"), Dialect("11.8.2-MariaDB", "orders")
CONFIDENCE = (
    "Based on 61 samples of the last 10 min, 1 of them taken just now; the newest in the history is 4 s old.",
)

Delay = float | Callable[[float], float]
STILL = ("bin.000121", 9)
ORDERS = "db1:3306#orders"


def jitter(t: float) -> float:
    """What reading a heartbeat a second at any moment of it adds to a delay: 0 to 0.9 s, the same at every run."""
    return (t / 10 * 7 % 10) / 10


def seen(t: float, delay: float | None, **other: Any) -> Sample:
    """A sample of a replica that delays by itself; what `other` says is different."""
    moving = int(t - NOW + 100000)
    usual = {
        "ts": None if delay is None else t - delay,
        "source_id": 1,
        "heartbeat_id": 1,
        "local": 0.4,
        "io": "Yes",
        "sql": "Yes",
        "io_errno": 0,
        "sql_errno": 0,
        "source_log": ("bin.000123", 4 * moving),
        "relay_log": ("bin.000121", 4 * moving),
        "relay_log_space": 123456789,
        "sql_delay": 7200,
        "sql_remaining": 1,
        "seconds_behind": None if delay is None or other.get("sql") == "No" else max(0, int(min(delay, 1e9))),
    }
    return sample(t, delay, **usual | other)


def line(
    delay: Delay = 7200.0, start: float = -600.0, end: float = 0.0, every: float = 10.0, **other: Any
) -> list[Sample]:
    """Samples from `start` to `end`, seconds before NOW; `delay` may depend on them."""
    times = [start + i * every for i in range(int((end - start) / every + 1e-9) + 1)]
    delays = [delay(at) if callable(delay) else delay for at in times]
    return [seen(NOW + at, d + jitter(NOW + at), **other) for at, d in zip(times, delays, strict=True)]


def scene(
    records: Iterable[Record],
    dialect: Dialect | None = MARIADB,
    *,
    limits: Limits | None = None,
    call: Call = CALL,
    more: Iterable[Finding] = (),
    now: float = NOW,
    span: float = 600.0,
    replica: str = "db1:3306",
    confidence: tuple[str, ...] = CONFIDENCE,
    place: Place | None = None,
) -> Diagnosis:
    kept = list(records)
    return picture(
        folded(kept, limits or Limits()),
        now,
        replica=replica,
        samples=[r for r in kept if isinstance(r, Sample)],
        since=now - span,
        more=more,
        server=None if dialect is None else Server(dialect, place),
        call=call,
        confidence=confidence,
    )


def _wrong(error: str, message: str, dialect: Dialect | None = None, **options: Any) -> Callable[[], Diagnosis]:
    """A quiet line, and then a sample that fails."""
    return lambda: scene([*line(end=-10), Sample(NOW, error=error, message=message)], dialect, **options)


def _odd(dialect: Dialect, since: float = -300.0, delay: Delay = 7200.0, **other: Any) -> Callable[[], Diagnosis]:
    """A quiet line, and from `since` on something about the samples that is wrong."""
    return lambda: scene([*line(end=since - 10), *line(delay, start=since, **other)], dialect)


def _rising(t: float, since: float) -> float:
    return 7200.0 + max(0.0, t - since)


def _job_at(started: float, finished: float | None = None, kind: str = "backup", name: str = "b1") -> JobLine:
    return job(NOW + started, None if finished is None else NOW + finished, kind=kind, name=name)


def _active(kind: str, dialect: Dialect, **options: Any) -> Callable[[], Diagnosis]:
    """Planned work for an hour, with the SQL thread stopped."""

    def build() -> Diagnosis:
        before = line(start=-5400, end=-3610)
        during = line(lambda t: _rising(t, -3600), start=-3600, sql="No", relay_log=STILL, sql_remaining=None)
        return scene([*before, _job_at(-3600, None, kind), *during], dialect, span=5400, call=KEPT, **options)

    return build


def _after_backup(ran: float, catching_up: float, slope: float, limits: Limits | None = None) -> Diagnosis:
    """A backup of `ran` seconds that ended `catching_up` seconds ago."""
    start = -ran - catching_up
    top = 7200.0 + ran
    records: list[Record] = [
        *line(start=start - 1200, end=start - 60, every=60),
        _job_at(start),
        *line(lambda t: _rising(t, start), start=start, end=-catching_up - 60, every=60, sql="No", sql_remaining=None),
        _job_at(start, -catching_up),
        *line(lambda t: top + slope * (t + catching_up), start=-catching_up, every=60, sql_remaining=None),
    ]
    return scene(records, MYSQL, limits=limits, span=ran + catching_up + 1200, call=KEPT, replica=ORDERS)


def _overrun() -> Diagnosis:
    records = [*line(start=-600, end=-310), _job_at(-5400), *line(start=-300)]
    return scene(records, MYSQL, limits=Limits(max_backup_behind=3600), call=KEPT, replica=ORDERS)


def _invalid() -> Diagnosis:
    records: list[Record] = [*line(end=-310), _job_at(-300, -400, name="night-7"), *line(start=-300)]
    return scene(records, MARIADB, call=KEPT)


def _worker_missing() -> Diagnosis:
    about = ("Based on 28 samples of the last 10 min; the newest in the history is 6 min old.",)
    return scene(line(end=-330), None, call=KEPT._replace(worker=True), confidence=about)


def _dead_writer() -> Diagnosis:
    stopped = NOW - 300 - 7200

    def dead(at: float) -> Sample:
        t = NOW + at
        return seen(t, t - stopped, ts=stopped, seconds_behind=7201 if at < -200 else 7000)

    return scene([*line(end=-310), *[dead(10.0 * i) for i in range(-30, 1)]], MARIADB)


def _told(condition: str, state: State, message: str, **other: Any) -> Callable[[], Diagnosis]:
    """A quiet line beside a finding that takes more than a few samples to come to."""
    return lambda: scene(line(**other), MARIADB, call=KEPT, more=[Finding(state, condition, message)])


def _lost_and_stopped() -> Diagnosis:
    """The delay was reset, and somebody has stopped the SQL thread since."""
    records = [
        *line(end=-70),
        *line(lambda t: 7200 - 60 * (t + 60), start=-60, end=-30, sql_delay=0, sql_remaining=None),
        *line(lambda t: 5400 + t + 30, start=-20, sql_delay=0, sql="No", relay_log=STILL, sql_remaining=None),
    ]
    return scene(records, NAMED_MARIADB, place=Place("relay-bin.000007", 90210, gtid=True))


SCENES: dict[str, Callable[[], Diagnosis]] = {
    "in-range": lambda: scene(line(), MARIADB),
    "in-range leaking": lambda: scene(line(lambda t: 8500 + 0.05 * t), MYSQL, replica=ORDERS),
    "in-range pt-slave-delay": lambda: scene(
        line(lambda t: 7200 + t % 60, sql_delay=None, sql="No", sql_remaining=None), OLDEST_MYSQL
    ),
    "in-range delay alone": lambda: scene([sample(NOW + 10.0 * i) for i in range(-60, 1)], None),
    "active-backup": _active("backup", MARIADB),
    "active-deshard": _active("deshard", MYSQL),
    "active-migration": _active("migration", OLD_MYSQL, limits=Limits(job_limits=(("migration", 7200.0),))),
    "backup-recovery-window": lambda: _after_backup(7200, 1800, -0.8),
    "recovery-exceeded": lambda: _after_backup(7200, 3600, -0.2, Limits(max_recovery_time=1800)),
    "recovery-exceeded trend": lambda: scene(
        line(lambda t: 9500 - 0.11 * t, start=-3600, every=30), limits=Limits(max_trend_time=1800), span=3600
    ),
    "recovering-real-value": lambda: scene([*line(9012.0, end=-30), *line(8985.0, start=-20)]),
    "recovering-below-minimum": lambda: scene(line(lambda t: 4000 + t)),
    "recovering-above-maximum": lambda: scene(line(lambda t: 10000 - 2.5 * t, sql_remaining=None), MYSQL),
    "delay-out-of-bounds": lambda: scene(line(lambda t: 9400 + 0.9 * t, sql_remaining=None), OLD_MYSQL),
    "delay-out-of-bounds limits": lambda: scene(line(31.0, sql_delay=30, seconds_behind=30), MARIADB),
    "delay-out-of-bounds pt-slave-delay": lambda: scene(
        line(lambda t: 9400 + t, sql_delay=None, sql="No", sql_remaining=None), OLDEST_MYSQL
    ),
    "delay-out-of-bounds hours": lambda: scene(line(10800.0, seconds_behind=7200, source_log=("bin.000124", 4))),
    "delay-out-of-bounds below": lambda: scene(line(3000.0, sql_remaining=None), MARIADB),
    "line-drained": _odd(MARIADB, -120, lambda t: 7200 + 40 * (-120 - t), sql_remaining=None),
    "connect-failed": _wrong(
        "connect-failed", "db1:3306: access denied for user 'monitor'@'10.0.0.7' (error 1045)", None
    ),
    "timeout": _wrong("timeout", "db1:3306: no answer within 10 s (reading the heartbeats)", MARIADB),
    "not-a-replica": _wrong("not-a-replica", "there are 2 channels: name one with --channel: orders, stock", MYSQL),
    "status-unreadable": _wrong("status-unreadable", "no privilege to read the replication status", MARIADB),
    "io-error": _odd(NAMED_MARIADB, io="Connecting", io_errno=2003, io_error="error reconnecting to 'repl@db0:3306'"),
    "sql-error": _odd(
        *(MYSQL, -300, lambda t: _rising(t, -300)), sql="No", sql_errno=1062, sql_error="Duplicate", sql_remaining=None
    ),
    "heartbeat-missing": _wrong("heartbeat-missing", "percona.heartbeat has no row of server 1", MYSQL),
    "heartbeat-unreadable": _wrong("heartbeat-unreadable", "the ts of server 1 is no time: '0000-00-00'", OLD_MYSQL),
    "heartbeat-from-future": _odd(MARIADB, delay=-3600.0),
    "source-heartbeat-dead": _dead_writer,
    "worker-missing": _worker_missing,
    "delay-setting-lost": _odd(
        MYSQL, -60, lambda t: 7200 - 60 * (t + 60), sql_delay=0, sql_remaining=None, seconds_behind=3600
    ),
    "delay-setting-lost mariadb": _odd(
        NAMED_MARIADB, -60, lambda t: 7200 - 60 * (t + 60), sql_delay=0, sql_remaining=None, seconds_behind=3600
    ),
    "delay-setting-lost stopped": _lost_and_stopped,
    "job-overrun": _overrun,
    "job-records-flooded": _told("job-records-flooded", State.CRITICAL, "Too many job records: more than 2000 jobs"),
    "replica-ambiguous": _told("replica-ambiguous", State.CRITICAL, "Several servers answer under this name"),
    "rescue-in-progress": _told(
        "rescue-in-progress", State.CRITICAL, "Frozen by rescue since 10:12: do not start replication", sql="No"
    ),
    "clock-stepped": lambda: scene(line(end=120), call=KEPT),
    "history-unavailable": _told(
        "history-unavailable", State.CRITICAL, "history /srv/history.db: cannot be written: no space left on device"
    ),
    "server-down": _wrong("server-down", "db1:3306: connection refused", None, replica=ORDERS),
    "io-stopped": _odd(MARIADB, io="No", source_log=STILL),
    "sql-stopped": _odd(MYSQL, delay=lambda t: _rising(t, -300), sql="No", relay_log=STILL, sql_remaining=None),
    "local-heartbeat-stale": _odd(MARIADB, -10, local=314.2),
    "source-log-stale": lambda: scene(line(start=-2400, every=30, source_log=STILL), MYSQL, replica=ORDERS),
    "relay-log-stale": lambda: scene(
        line(start=-2400, every=30, relay_log=STILL, sql_remaining=None),
        OLD_MYSQL,
        limits=Limits(max_relay_behind=1800),
    ),
    "job-record-invalid": _invalid,
    "source-changed": lambda: scene([*line(end=-310), *line(start=-300, source_id=3)], MYSQL, replica=ORDERS),
    "replica-changed": _told("replica-changed", State.WARNING, "Replica changed: another server answers"),
    "replication-filtered": _told(
        "replication-filtered", State.WARNING, "Replication is filtered", filters=("Replicate_Do_DB=percona",)
    ),
    "relay-space-limited": _told("relay-space-limited", State.WARNING, "Relay log is at its limit", relay_limited=True),
    "io-unstable": _told("io-unstable", State.WARNING, "IO thread keeps losing its connection"),
    "internal-error": lambda: scene([sample(NOW, None, io="Yes")], None, confidence=()),
}
"""Name → picture. The first word of the name is the condition that the scene is about."""
SCENES = {name: cache(build) for name, build in SCENES.items()}
