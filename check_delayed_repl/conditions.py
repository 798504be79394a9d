"""Every condition that the check can report, once: plain data, from which all other lists of conditions are made.

CONDITIONS stands in order of rank: of several findings that are equally bad, the first one here names the service's
condition.
"""

from __future__ import annotations

from check_delayed_repl.light import NamedTuple

HARD = "hard"
"""CRITICAL whatever else is going on."""
HOLDABLE = "holdable"
"""CRITICAL, but held at WARNING while a job is active and its budget lasts."""
LINE = "line"
"""What the delay line itself is judged to be: one of these a verdict."""
BESIDE = "beside"
"""Stands beside the others, mostly at WARNING."""
FAULT = "fault"
"""UNKNOWN: nothing could be judged."""


class Condition(NamedTuple):
    name: str
    """As printed; `active` and `recovery-window` stand for `active-KIND` and `KIND-recovery-window`."""
    kind: str
    """HARD, HOLDABLE, LINE, BESIDE or FAULT."""
    title: str
    """A few words, with which most texts of its findings begin. What it means: `diagnose.meanings`."""
    fails: bool = False
    """A failed sample may give it as its reason."""
    state: str = ""
    """The state that it puts the service into, in words, where that is not its kind's."""


CONDITIONS = (
    Condition("connect-failed", HARD, "Cannot connect to the replica", fails=True),
    Condition("timeout", HARD, "The replica did not answer in time (--timeout)", fails=True),
    Condition("not-a-replica", HARD, "Not a replica", fails=True),
    Condition("status-unreadable", HARD, "Replication status cannot be read", fails=True),
    Condition("io-error", HARD, "IO thread reports an error"),
    Condition("sql-error", HARD, "SQL thread reports an error"),
    Condition("heartbeat-missing", HARD, "Heartbeat is missing", fails=True),
    Condition("heartbeat-unreadable", HARD, "Heartbeat cannot be read", fails=True),
    Condition("heartbeat-from-future", HARD, "Heartbeat lies ahead of the replica's clock"),
    Condition("source-heartbeat-dead", HARD, "Source's heartbeat has not advanced"),
    Condition("worker-missing", HARD, "Worker was not seen"),
    Condition("delay-setting-lost", HARD, "Delay setting is lost"),
    Condition("job-overrun", HARD, "Job overrun"),
    Condition("job-records-flooded", HARD, "Too many job records"),
    Condition("replica-ambiguous", HARD, "Several servers answer under this name"),
    Condition("rescue-in-progress", HARD, "Frozen by rescue"),
    Condition("clock-stepped", HARD, "Clock stepped"),
    Condition("history-unavailable", HARD, "History is unavailable"),
    Condition("server-down", HOLDABLE, "Server is down", fails=True),
    Condition("io-stopped", HOLDABLE, "IO thread is not running"),
    Condition("sql-stopped", HOLDABLE, "SQL thread is stopped"),
    Condition("local-heartbeat-stale", HOLDABLE, "Local heartbeat is stale"),
    Condition("source-log-stale", HOLDABLE, "Nothing was fetched from the source"),
    Condition("relay-log-stale", HOLDABLE, "Nothing was applied from the relay log"),
    Condition("active", LINE, "Active job"),
    Condition("in-range", LINE, "Replication delay is in range", state="OK"),
    Condition("recovery-window", LINE, "In recovery window"),
    Condition("recovery-exceeded", LINE, "Replication delay intercept recovery exceeded window", state="CRITICAL"),
    Condition("recovering-real-value", LINE, "Replication delay intercept recovering - real value within range"),
    Condition("line-drained", LINE, "Replication delay fell below the minimum", state="CRITICAL"),
    Condition("recovering-below-minimum", LINE, "Replication delay intercept recovering - below minimum"),
    Condition("recovering-above-maximum", LINE, "Replication delay intercept recovering - above maximum"),
    Condition("delay-out-of-bounds", LINE, "Replication delay intercept is out of bounds", state="CRITICAL"),
    Condition("source-changed", BESIDE, "Source changed"),
    Condition("job-record-invalid", BESIDE, "Job record is invalid"),
    Condition("replica-changed", BESIDE, "Replica changed"),
    Condition(
        "replication-filtered",
        BESIDE,
        "Replication is filtered",
        state="WARNING; CRITICAL where an earlier sample was without the filter",
    ),
    Condition(
        "relay-space-limited",
        BESIDE,
        "Relay log is at its size limit",
        state="WARNING; CRITICAL after --max-master-behind",
    ),
    Condition("io-unstable", BESIDE, "IO thread keeps losing its connection"),
    Condition("usage", FAULT, "Wrong usage"),
    Condition("internal-error", FAULT, "Internal error"),
)

_BY_NAME = {condition.name: condition for condition in CONDITIONS}
_RANKS = {condition.name: rank for rank, condition in enumerate(CONDITIONS)}


def names(*kinds: str) -> tuple[str, ...]:
    """The names of all conditions of these kinds, in order of rank."""
    return tuple(condition.name for condition in CONDITIONS if condition.kind in kinds)


SAMPLE_ERRORS = tuple(condition.name for condition in CONDITIONS if condition.fails)
"""The conditions that a sample may fail with."""


def general(name: str) -> str:
    """`active` for `active-backup`, `recovery-window` for `backup-recovery-window`, any other name as it is."""
    if name.startswith("active-"):
        return "active"
    if name.endswith("-recovery-window"):
        return "recovery-window"
    return name


def find(name: str) -> Condition | None:
    """The condition of this name, also where it has a kind of job in it; None where there is none."""
    return _BY_NAME.get(general(name))


def rank(name: str) -> int:
    """Of several findings that are equally bad, the one with the least rank is the service's condition."""
    return _RANKS[general(name)]
