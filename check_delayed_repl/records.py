"""What is remembered about a replica: samples and job lines. Plain data, no behaviour that decides.

Everything here is immutable, cheap to import and free of I/O, so that the observing rooms, the history and the judge
can all speak of the same things.
"""

from __future__ import annotations

from math import isfinite

from check_delayed_repl.light import NamedTuple
from check_delayed_repl.limits import RESCUE

Position = tuple[str, int]
"""A place in the source's binary log: file name and byte position."""

LARGEST = 2**63
"""Whole numbers lie in [-LARGEST, LARGEST): what every history can store."""

ALL_JOBS = "*"
"""The id of a line that, being void, ends every job of the replica that arrived before it."""
HELD_S = 2_147_483_647
"""The largest delay that a server can be set to: with it, nothing is applied until somebody says so."""

CHANNEL_SEPARATOR = "#"
"""Stands between a replica's name and its channel: ``db1:3306#orders``."""


class Sample(NamedTuple):
    """One sample of a replica: what was seen, or why it failed. What is None was not seen and is not judged."""

    t: float
    """When, on the sampler's clock: seconds since 1970, UTC."""
    delay: float | None = None
    """Replica's clock minus the source's heartbeat as applied there, in seconds. Never clamped."""
    error: str | None = None
    """Why the sample failed: the name of a condition."""
    message: str | None = None
    """The failure in words. Text from a server: untrusted."""
    ts: float | None = None
    """The source's heartbeat, seconds since 1970, UTC."""
    source_id: int | None = None
    """Server id of the channel's source (the last known one where the server says 0)."""
    heartbeat_id: int | None = None
    """Server id of the row that served as the source's heartbeat; differs from source_id after a failover."""
    local: float | None = None
    """Age of the local heartbeat in seconds."""
    local_missing: bool = False
    """The local heartbeat was asked for and no row was there."""
    io: str | None = None
    """IO thread: Yes, No, Connecting or Preparing."""
    sql: str | None = None
    """SQL thread: Yes or No."""
    io_errno: int | None = None
    io_error: str | None = None
    sql_errno: int | None = None
    sql_error: str | None = None
    source_log: Position | None = None
    """Fetched position, in the source's coordinates."""
    relay_log: Position | None = None
    """Applied position, in the source's coordinates."""
    relay_log_space: int | None = None
    """Bytes of relay log on the replica's disk."""
    sql_delay: int | None = None
    """The delay that the server itself is set to, in seconds."""
    sql_remaining: int | None = None
    """Seconds that the SQL thread still waits before its next event; None where it is not waiting."""
    seconds_behind: int | None = None
    """The server's own Seconds_Behind_*: misleading, kept as a second witness."""
    server: str | None = None
    """The server's identity, `KIND:VALUE`: `uuid:…` (MySQL), `uid:UID/ID/PORT` or `id:ID/PORT` (MariaDB)."""
    io_state: str | None = None
    """The IO thread's state text. Text from a server: untrusted."""
    filters: tuple[str, ...] | None = None
    """The replication filters in force, each `COLUMN=VALUE`, as the status names them; empty: none."""
    relay_limited: bool | None = None
    """The IO thread waits for relay log space to be freed."""


class JobLine(NamedTuple):
    """As of its arrival, the job with this id reads so. Written by anybody, so untrusted.

    A later line with the same id replaces it; where the later one leaves out kind and start (a writer that may insert
    but not read), `merge_job` fills them in.
    """

    t: float
    """When the line was written, by its writer's clock."""
    id: str
    kind: str | None = None
    started_at: float | None = None
    """Seconds since 1970, UTC; None where unknown or unreadable."""
    finished_at: float | None = None
    """None while the job runs."""
    void: bool = False
    """The record was wrong: the job never was."""
    unreadable: str | None = None
    """What about the line could not be understood, in words."""


Record = Sample | JobLine


class Past(NamedTuple):
    """What is left of a replica's older records where judging begins after them."""

    samples: int
    """How many there are."""
    newest_t: float | None
    """The greatest `t` among them."""
    sql_delay: int | None
    """The largest delay setting, but for those that hold a replica for good, where there is another."""
    local: bool
    """Whether a local heartbeat was ever asked for."""
    bare: bool
    """Nothing but delays and failures was ever seen."""
    jobs: tuple[JobLine, ...]
    """All job lines, in order of arrival."""


def job_line(
    t: float, job: str, kind: object, started_at: object, finished_at: object, void: object, unreadable: object
) -> JobLine:
    """A job line from values of any type, whoever wrote them: what makes no sense is said in `unreadable`.

    A kind or start of None stands for one that an earlier line of the same job gives.
    """
    problems = [unreadable] if isinstance(unreadable, str) and unreadable else []
    if kind is not None and not isinstance(kind, str):
        problems.append(f"kind {_shown(kind)} is no text")
    start = _time("started_at", started_at, problems)
    finish = _time("finished_at", finished_at, problems)
    if void is not None and not isinstance(void, bool) and void not in (0, 1):
        problems.append(f"void {_shown(void)} is neither true nor false")
    return JobLine(
        t,
        job,
        kind if isinstance(kind, str) else None,
        start,
        finish,
        void is True or void == 1,
        "; ".join(problems) or None,
    )


def _time(name: str, raw: object, problems: list[str]) -> float | None:
    """Seconds since 1970, or None and one problem more."""
    if raw is None:
        return None
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        problems.append(f"{name} {_shown(raw)} is no number")
    # A whole number may be too large for a float.
    elif not isfinite(raw) if isinstance(raw, float) else abs(raw) > LARGEST:
        problems.append(f"{name} {_shown(raw)} is not a finite number")
    else:
        return float(raw)
    return None


def _shown(raw: object) -> str:
    """A value from a stranger, short enough for one line."""
    try:
        text = ascii(raw)
    except (ValueError, RecursionError):  # a whole number with more digits than Python prints
        text = "of its kind"
    return text if len(text) <= 60 else text[:57] + "..."


def merge_job(earlier: JobLine | None, line: JobLine) -> JobLine:
    """The job as it reads once `line` has arrived after `earlier`."""
    if earlier is None or line.unreadable:
        return line
    return line._replace(
        kind=line.kind if line.kind is not None else earlier.kind,
        started_at=line.started_at if line.started_at is not None else earlier.started_at,
    )


def merge_into(jobs: dict[str, JobLine], line: JobLine) -> JobLine:
    """Takes the next line into the jobs by id; returns its job."""
    if line.void and line.id == ALL_JOBS:
        jobs.update({key: job._replace(void=True) for key, job in jobs.items() if not outlasts_all(job)})
    job = jobs[line.id] = merge_job(jobs.get(line.id), line)
    return job


def outlasts_all(line: JobLine) -> bool:
    """Voiding all jobs, which takes no id, does not end this one: a rescue that goes on."""
    return line.kind == RESCUE and line.finished_at is None


def job_names(replica: str) -> tuple[str, ...]:
    """The names under which a job for this replica may be recorded: its own, and its server's without the channel."""
    server, separator, _ = replica.rpartition(CHANNEL_SEPARATOR)
    return (replica, server) if separator else (replica,)
