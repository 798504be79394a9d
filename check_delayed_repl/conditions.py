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
    """As printed, with KIND where a kind of job stands."""
    kind: str
    """HARD, HOLDABLE, LINE, BESIDE or FAULT."""
    title: str
    """A few words, with which most texts of its findings begin."""
    state: str = ""
    """The state that it puts the service into, in words, where that is not its kind's."""


CONDITIONS = (
    Condition("connect-failed", HARD, "Cannot connect to the replica"),
    Condition("timeout", HARD, "The replica did not answer in time (--timeout)"),
    Condition("not-a-replica", HARD, "Not a replica"),
    Condition("status-unreadable", HARD, "Replication status cannot be read"),
    Condition("io-error", HARD, "IO thread reports an error"),
    Condition("sql-error", HARD, "SQL thread reports an error"),
    Condition("heartbeat-missing", HARD, "Heartbeat is missing"),
    Condition("heartbeat-unreadable", HARD, "Heartbeat cannot be read"),
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
    Condition("server-down", HOLDABLE, "Server is down"),
    Condition("io-stopped", HOLDABLE, "IO thread is not running"),
    Condition("sql-stopped", HOLDABLE, "SQL thread is stopped"),
    Condition("local-heartbeat-stale", HOLDABLE, "Local heartbeat is stale"),
    Condition("source-log-stale", HOLDABLE, "Nothing was fetched from the source"),
    Condition("relay-log-stale", HOLDABLE, "Nothing was applied from the relay log"),
    Condition("active-KIND", LINE, "Active job"),
    Condition("in-range", LINE, "Replication delay is in range", state="OK"),
    Condition("KIND-recovery-window", LINE, "In recovery window"),
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

MEANINGS = {
    "connect-failed": "The replica cannot be reached, refuses the account, or is not a MySQL server. Nothing is "
    "known about the delay line until this works again.",
    "timeout": "The server, or the network on the way to it, hangs. Whether replication goes on meanwhile is not "
    "known.",
    "not-a-replica": "No replication is configured on this server, or not the channel that was asked for. Nothing "
    "is protected here.",
    "status-unreadable": "The account lacks a privilege, or the status makes no sense. Without the status, a dead "
    "IO thread shows only once the whole delay line has drained.",
    "io-error": "Nothing is fetched from the source any more, so the newest changes are on the source alone. The "
    "delay line goes on draining until it is empty.",
    "sql-error": "A change could not be applied, and none after it is. The delay grows by a second a second.",
    "heartbeat-missing": "There is no heartbeat table, no row of the source in it, or no privilege to read it. "
    "Without the source's heartbeat the delay cannot be measured.",
    "heartbeat-unreadable": "The heartbeat's ts is not a time. Without it the delay cannot be measured.",
    "heartbeat-from-future": "The clocks disagree, or heartbeats are not written in UTC (--heartbeat-timezone). "
    "Every delay that is measured is wrong by as much.",
    "source-heartbeat-dead": "Replication works, but nobody writes the source's heartbeat. The measured delay grows "
    "although the real one does not: nothing is known about the delay line.",
    "worker-missing": "The verdict is based on samples of a worker, and the last one is too old, or there was never "
    "one. What has happened since is not known.",
    "delay-setting-lost": "The server itself delays, and is now set to a shorter delay than the minimum. RESET "
    "REPLICA does this silently. What has waited is being applied, and with it any mistake that is still to be "
    "stopped.",
    "job-overrun": "A job has been active for longer than its kind may be: it hangs, or it ended without saying so. "
    "It holds no alarm back any more.",
    "job-records-flooded": "There are more jobs on record than can be meant. None of them holds an alarm back until "
    "they are cleared (delayed-repl job void --all) or old enough. Somebody or something writes job records in a "
    "loop.",
    "replica-ambiguous": "Samples come now from one server and now from another, so nothing that is said of the one "
    "holds for the other. Each replica needs an address of its own.",
    "rescue-in-progress": "Somebody has stopped this replica to save what a mistake on the source has destroyed. "
    "Starting replication would apply the mistake here too.",
    "clock-stepped": "The history holds a sample from the future: a clock was set back, or was wrong. Ages cannot "
    "be trusted until the clock has passed that sample.",
    "history-unavailable": "The history cannot be read or written. Without it there is no trend, and jobs are not "
    "known.",
    "server-down": "Nothing listens at the replica's address. Held only for kinds of job that stop the server "
    "(--job-stops-server).",
    "io-stopped": "No changes are fetched, so the newest ones are on the source alone. The delay line drains until "
    "it is empty.",
    "sql-stopped": "No changes are applied, and the delay grows by a second a second.",
    "local-heartbeat-stale": "The replica's own heartbeat is not written any more. Either its writer has died, or "
    "nothing can be written or read here now; then the other heartbeat cannot be trusted either.",
    "source-log-stale": "The fetched position has not moved for long. The source is idle, or the connection to it "
    "is dead without anybody having noticed.",
    "relay-log-stale": "The applied position has not moved for long. The SQL thread is stopped, or stuck in one "
    "change.",
    "active-KIND": "Planned work is going on. Whatever it does to the delay line is held at WARNING within its "
    "time limit.",
    "in-range": "The replica is as far behind its source as it is meant to be.",
    "KIND-recovery-window": "The delay is out of bounds because of a job that has finished, and has some time "
    "to come back.",
    "recovery-exceeded": "The delay has been out of bounds for longer than the job or the trend that explained it "
    "can account for.",
    "recovering-real-value": "The fitted line is still out of bounds, the newest delays themselves are not.",
    "line-drained": "The delay line has been emptied: what waited in it was applied all at once, and with it any "
    "mistake that was still to be stopped. It fills again by a second a second. No job explains this: a job makes "
    "a line longer.",
    "recovering-below-minimum": "The delay is too short, and grows back towards its range.",
    "recovering-above-maximum": "The delay is too long, and falls back towards its range.",
    "delay-out-of-bounds": "The delay is too short or too long, nothing planned explains it, and it does not come "
    "back. Too short: a mistake reaches this replica sooner than it can be stopped. Too long: the replica is "
    "stuck, or cannot keep up.",
    "source-changed": "The replica follows another source now, whose first heartbeat is still waiting in the delay "
    "line. Until it arrives, the newest heartbeat of another server is used.",
    "job-record-invalid": "A job record makes no sense and holds no alarm back. delayed-repl job void ends it.",
    "replica-changed": "Another server answers under this name than before: it was replaced, or the name was moved. "
    "Trend and log ages start over.",
    "replication-filtered": "Heartbeats arrive, but some of the data does not: what the filters leave out is not "
    "protected here. Filters that are meant are named with --allow-filter.",
    "relay-space-limited": "The IO thread waits until relay logs have been applied and removed "
    "(relay_log_space_limit). Until then the newest changes are on the source alone.",
    "io-unstable": "The network to the source is bad, or two replicas have the same server id and throw each other "
    "out.",
    "usage": "The command line or the configuration is wrong. Nothing was judged.",
    "internal-error": "The plugin failed because of a mistake in its own code. Nothing was judged; -vvv shows where.",
}
"""What each means and why it matters, in two or three sentences."""

_BY_NAME = {condition.name: condition for condition in CONDITIONS}
_RANKS = {condition.name: rank for rank, condition in enumerate(CONDITIONS)}


def names(*kinds: str) -> tuple[str, ...]:
    """The names of all conditions of these kinds, in order of rank."""
    return tuple(condition.name for condition in CONDITIONS if condition.kind in kinds)


def general(name: str) -> str:
    """`active-KIND` for `active-backup`, `KIND-recovery-window` for `backup-recovery-window`, others as they are."""
    if f"{name}-".startswith("active-"):
        return "active-KIND"
    return "KIND-recovery-window" if f"-{name}".endswith("-recovery-window") else name


def find(name: str) -> Condition | None:
    """The condition of this name, also where it has a kind of job in it; None where there is none."""
    return _BY_NAME.get(general(name))


def rank(name: str) -> int:
    """Of several findings that are equally bad, the one with the least rank is the service's condition. One that only a
    newer version knows, from a history that both use, comes last."""
    return _RANKS.get(general(name), len(_RANKS))
