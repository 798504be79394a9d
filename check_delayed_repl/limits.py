"""The limits that a replica is judged by, with the article's production values as defaults."""

from __future__ import annotations

import re

from check_delayed_repl.light import NamedTuple

RESCUE = "rescue"
"""The kind of job that says: a rescue is in progress. It has no limit and grants nothing."""
BUILT_IN_KINDS = ("backup", "deshard", RESCUE)
KIND_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}\Z")
RESERVED_KINDS = frozenset({"recovery", "trend", "worker", "local_heartbeat", "source_log", "relay_log"})


class Limits(NamedTuple):
    """All times in seconds. `options.limits_from` refuses nonsense."""

    max_seconds_behind: float = 60.0
    max_relay_behind: float = 28800.0
    max_master_behind: float = 1800.0
    max_backup_behind: float = 64800.0
    max_deshard_behind: float = 32400.0
    max_last_seen: float = 60.0
    min_delay_time: float = 5400.0
    max_delay_time: float = 9000.0
    max_recovery_time: float = 21600.0
    max_trend_time: float = 9000.0
    min_recovery_slope: float = 0.1
    min_correlation: float = 0.5
    window: float = 600.0
    fit: str = "segment"
    """`segment` fits the latest straight stretch of the window, `window` always the whole of it."""
    job_limits: tuple[tuple[str, float], ...] = ()
    """Kinds of job beside backup and deshard, each with the seconds that one may run."""
    job_stops_server: tuple[str, ...] = ()
    """Kinds of job during which the server itself may be down."""
    allowed_filters: tuple[str, ...] = ()
    """Replication filters that are meant, each `COLUMN=VALUE` as the status shows it."""
    delay_mode: str = "auto"
    """`native` where the server delays, `external` where pt-slave-delay does, `auto` to tell from SQL_Delay."""
    local_heartbeat: bool = True
    """False where the replica must not be written to and so has no heartbeat of its own."""

    @property
    def kinds(self) -> dict[str, float]:
        """Every kind of job that holds alarms back, with the seconds that one may run; built-in kinds first."""
        return {"backup": self.max_backup_behind, "deshard": self.max_deshard_behind, **dict(self.job_limits)}

    @property
    def budgets(self) -> dict[str, tuple[float, str]]:
        """Exception → the seconds for which it may hold an alarm back, and the option that sets them."""
        return {
            **{kind: (seconds, kind_option(kind)) for kind, seconds in self.kinds.items()},
            "recovery": (self.max_recovery_time, "--max-recovery-time"),
            "trend": (self.max_trend_time, "--max-trend-time"),
        }


def option(field: str) -> str:
    """The command-line option that sets a field of Limits."""
    return "--" + field.replace("_", "-")


def kind_option(kind: str) -> str:
    """The command-line option that limits how long a job of this kind may run."""
    return f"--max-{kind}-behind" if kind in BUILT_IN_KINDS else "--max-job-behind"
