"""What a run of looks adds up to, beyond the delays: since when things stand still, run, wait or have changed."""

from __future__ import annotations

from check_delayed_repl.records import Position, Sample

WAITING = ("Connecting", "Preparing")


class Observed:
    """Folds looks, in order of arrival. Every `*_since` is the t of a look; None: not so, or never seen."""

    __slots__ = (
        "native",
        "sql_delay_max",
        "heartbeat",
        "heartbeat_since",
        "heartbeat_relay_log",
        "passed_by_s",
        "running_since",
        "drained_since",
        "source_log",
        "source_log_since",
        "relay_log",
        "relay_log_since",
        "io_running",
        "sql_running",
        "io_waiting_since",
        "local",
        "source_changed",
        "source_changed_since",
    )

    def __init__(self, sql_delay: int | None = None) -> None:
        """`sql_delay`: the largest setting of earlier looks."""
        self.native = bool(sql_delay and sql_delay > 0)
        """The server itself has been seen to delay."""
        self.sql_delay_max = sql_delay
        self.heartbeat: tuple[int | None, float] | None = None
        """The source's newest heartbeat: whose row it is, and its ts; not the greatest, where a clock was set back."""
        self.heartbeat_since: float | None = None
        """When that heartbeat was first seen."""
        self.heartbeat_relay_log: Position | None = None
        """The applied position at that look."""
        self.passed_by_s = 0.0
        """By how much changes applied since then are younger than that heartbeat, as the server itself counts."""
        self.running_since: float | None = None
        """Since when no look finds replication disturbed: a thread stopped or connecting, or the server gone."""
        self.drained_since: float | None = None
        """Since when every look finds both threads running, all relay log read and no delay pending."""
        self.source_log: Position | None = None
        self.source_log_since: float | None = None
        self.relay_log: Position | None = None
        self.relay_log_since: float | None = None
        self.io_running: bool | None = None
        self.sql_running: bool | None = None
        self.io_waiting_since: float | None = None
        self.local: tuple[float | None, bool] | None = None
        """The local heartbeat's age, and whether its row was missing, at the newest look that asked for it."""
        self.source_changed: int | None = None
        """The new source, while another server's heartbeat still serves for it."""
        self.source_changed_since: float | None = None

    def add(self, s: Sample) -> None:
        t = s.t
        if s.error == "server-down":
            self.io_running = self.sql_running = False
        if s.sql_delay is not None:
            if s.sql_delay > 0:
                self.native = True
            if self.sql_delay_max is None or s.sql_delay > self.sql_delay_max:
                self.sql_delay_max = s.sql_delay
        if s.local is not None or s.local_missing:
            self.local = (s.local, s.local_missing)
        if s.ts is not None:
            heartbeat = (s.heartbeat_id, s.ts)
            known = self.heartbeat
            # A writer whose clock was set back goes on from an earlier time, and is alive all the same.
            if known is None or known[0] != heartbeat[0] or s.ts > known[1] or (s.ts < known[1] and self._is_later(t)):
                self.heartbeat, self.heartbeat_since, self.heartbeat_relay_log = heartbeat, t, s.relay_log
                self.passed_by_s = 0.0
        if (s.error is not None or s.io is not None) and (s.io != "Yes" or (self.native and s.sql != "Yes")):
            self.running_since, self.passed_by_s = None, 0.0
        else:
            self.running_since = t if self.running_since is None else self.running_since
            moved = s.relay_log is not None and self.heartbeat_relay_log not in (None, s.relay_log)
            if moved and s.delay is not None and s.seconds_behind is not None:
                self.passed_by_s = max(self.passed_by_s, s.delay - s.seconds_behind)
        if s.source_id is not None:
            if s.heartbeat_id is None or s.heartbeat_id == s.source_id:
                self.source_changed = self.source_changed_since = None
            elif self.source_changed != s.source_id:
                self.source_changed, self.source_changed_since = s.source_id, t
        if s.io is not None:
            running = s.io == "Yes"
            if running and self.io_running is False:
                self.source_log_since = t
            self.io_running = running
            if s.io in WAITING and not s.io_errno:
                if self.io_waiting_since is None:
                    self.io_waiting_since = t
            else:
                self.io_waiting_since = None
        if s.sql is not None:
            running = s.sql == "Yes"
            if running and self.sql_running is False:
                self.relay_log_since = t
            self.sql_running = running
        if s.source_log is not None and s.source_log != self.source_log:
            self.source_log, self.source_log_since = s.source_log, t
        if s.relay_log is not None and s.relay_log != self.relay_log:
            self.relay_log, self.relay_log_since = s.relay_log, t
        if s.error is not None and s.io is None:
            self.drained_since = None
        if s.io is not None:
            read_all = s.source_log is not None and s.source_log == s.relay_log
            if s.io == "Yes" == s.sql and read_all and s.sql_remaining is None:
                if self.drained_since is None:
                    self.drained_since = t
            else:
                self.drained_since = None

    def _is_later(self, t: float) -> bool:
        """Later than the look that saw the newest heartbeat: no straggler, that has seen an older one."""
        return self.heartbeat_since is None or t > self.heartbeat_since

    def dump(self) -> list[object]:
        return [getattr(self, name) for name in self.__slots__]

    def load(self, values: list[object]) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            setattr(self, name, tuple(value) if isinstance(value, list) else value)
