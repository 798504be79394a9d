"""What a run of samples adds up to, beyond the delays: since when things stand still, run, wait or have changed."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from check_delayed_repl.records import HELD_S, Position, Sample

WAITING = ("Connecting", "Preparing")
CHANGES_KEPT = 5
"""Changes of identity that are remembered: one more than a day may have."""
LOSSES_KEPT = 3
"""Losses of the IO thread that are remembered: so many make it unstable."""
DAY = 86400.0
RELAY_FREE = 3
"""After so many samples in a row without it, the relay log is at its limit no more."""
BARE = Sample(0.0)[2:]
"""A sample of a delay alone, without time and delay."""


class Observed:
    """Folds samples, in order of time. Every `*_since` is the t of a sample; None: not so, or never seen."""

    def __init__(self, sql_delay: int | None = None) -> None:
        """`sql_delay`: the largest setting of earlier samples."""
        self.native = bool(sql_delay and sql_delay > 0)
        """The server itself has been seen to delay."""
        self.sql_delay_max = sql_delay if sql_delay is None or sql_delay < HELD_S else None
        self.server: str | None = None
        """The identity that was seen last."""
        self.changes: tuple[tuple[float, str], ...] = ()
        """When the identity changed, and what it was before; the newest CHANGES_KEPT."""
        self.went_back: float | None = None
        """When the identity last changed to one that it had been within a day before."""
        self.filters: tuple[str, ...] | None = None
        """The replication filters that every sample has shown that showed any status."""
        self._begin(-inf)

    def _begin(self, t: float) -> None:
        """What rests on one server's having been watched for some time."""
        self.begun = t
        """What is older was another server's."""
        self.sql_delay: int | None = None
        """The newest setting."""
        self.heartbeat: tuple[int | None, float] | None = None
        """The source's newest heartbeat: whose row it is, and its ts; not the greatest, where a clock was set back."""
        self.heartbeat_since: float | None = None
        """When that heartbeat was first seen."""
        self.heartbeat_relay_log: Position | None = None
        """The applied position at that sample."""
        self.passed_by_s = 0.0
        """By how much changes applied since then are younger than that heartbeat, as the server itself counts."""
        self.overtaken_s = 0.0
        """For how long replication has run without that heartbeat's advancing while younger changes were applied, or by
        how much they were younger, where that is less."""
        self.idle_s = 0.0
        """For how long there has been nothing left to apply, and that heartbeat has not advanced."""
        self.dead_s = 0.0
        """The longest of these: what has proved its writer dead does so until it advances."""
        self.running_since: float | None = None
        """Since when no sample finds replication disturbed: a thread stopped or connecting, or the server gone."""
        self.drained_since: float | None = None
        """Since when every sample finds both threads running, all relay log read and no delay pending."""
        self.source_log: Position | None = None
        self.source_log_since: float | None = None
        self.relay_log: Position | None = None
        self.relay_log_since: float | None = None
        self.delayed_s = 0.0
        """For how long the server has waited for its delay since then, and has ended waiting."""
        self.delaying_since: float | None = None
        """Since when the SQL thread waits for the server's delay to be over."""
        self.io_running: bool | None = None
        self.sql_running: bool | None = None
        self.io_waiting_since: float | None = None
        self.io_losses: tuple[float, ...] = ()
        """When the IO thread was found lost without an error and with no job active; the newest LOSSES_KEPT."""
        self.relay_limited_since: float | None = None
        """Since when the IO thread waits for relay log space."""
        self.relay_free = 0
        """So many samples in a row have not found it so."""
        self.local: tuple[float | None, bool] | None = None
        """The local heartbeat's age, and whether its row was missing, at the newest sample that asked for it."""
        self.source_changed: int | None = None
        """The new source, while another server's heartbeat still serves for it."""
        self.source_changed_since: float | None = None

    def add(self, s: Sample, job_active: bool = False) -> bool:
        """The next sample; whether it is of another server than the one before it."""
        changed = s.server is not None and s.server != self.server and self._identify(s.server, s.t)
        if s.error == "server-down":
            self.io_running = self.sql_running = False
        if s.sql_delay is not None:
            self.sql_delay = s.sql_delay
            self.add_setting(s.sql_delay)
        if s.filters is not None and s.filters != self.filters:
            self.filters = s.filters if self.filters is None else tuple(f for f in self.filters if f in s.filters)
        if s.local is not None or s.local_missing:
            self.local = (s.local, s.local_missing)
        if s.source_id is not None:
            if s.heartbeat_id is None or s.heartbeat_id == s.source_id:
                self.source_changed = self.source_changed_since = None
            elif self.source_changed != s.source_id:
                self.source_changed, self.source_changed_since = s.source_id, s.t
        if s.relay_limited is not None:
            # Now and then a thread that waits is found at work, on what it has just been given room for.
            self.relay_free = 0 if s.relay_limited else self.relay_free + 1
            if s.relay_limited:
                self.relay_limited_since = self.relay_limited_since or s.t
            elif self.relay_free >= RELAY_FREE:
                self.relay_limited_since = None
        self._heartbeat(s)
        self._threads(s, job_active)
        self._unmoved(s.t)
        self._logs(s)
        return changed

    def pass_over(self, samples: Sequence[Sample]) -> None:
        """Does what `add` of each of these comes to, where nothing but ages and positions differs among them.

        The first one tells since when all that is as it is. Where everything that may move has moved from one sample to
        the next, nothing is left of those between.
        """
        first = samples[0]
        if first[2:] == BARE and [s[2:] for s in samples].count(BARE) == len(samples):
            rest = len(samples)  # Of samples that saw a delay and nothing else, the first one says it all.
        else:
            rest = next((at for at in range(len(samples) - 2, 0, -1) if _all_moved(*samples[at : at + 2])), 1)
            self.relay_free += (rest - 1) * (first.relay_limited is not None)
        for s in (first, *samples[rest:]):
            self.add(s)

    def add_setting(self, sql_delay: int | None) -> None:
        """The server was set to this once, whenever that was."""
        if sql_delay is not None:
            self.native = self.native or sql_delay > 0
            # What holds a replica for good, as a rescue does, was never meant as a delay.
            if sql_delay < HELD_S and (self.sql_delay_max is None or sql_delay > self.sql_delay_max):
                self.sql_delay_max = sql_delay

    def _identify(self, server: str, t: float) -> bool:
        """The identity is another one; of another kind, as after an upgrade, it says nothing."""
        before, self.server = self.server, server
        if before is None or _kind(before) != _kind(server):
            return False
        self.changes = (*self.changes, (t, before))[-CHANGES_KEPT:]
        if any(left == server and t - since <= DAY for since, left in self.changes):
            self.went_back = t
        self._begin(t)
        return True

    def _heartbeat(self, s: Sample) -> None:
        t = s.t
        if s.ts is not None:
            heartbeat = (s.heartbeat_id, s.ts)
            # An earlier ts is another one too: a writer whose clock was set back is alive all the same.
            if heartbeat != self.heartbeat:
                self.heartbeat, self.heartbeat_since, self.heartbeat_relay_log = heartbeat, t, s.relay_log
                self.passed_by_s = self.dead_s = 0.0
        if (s.error is not None or s.io is not None) and (s.io != "Yes" or (self.native and s.sql != "Yes")):
            self.running_since, self.passed_by_s = None, 0.0
            return
        self.running_since = _since(self.running_since, t)
        moved = s.relay_log is not None and self.heartbeat_relay_log not in (None, s.relay_log)
        if moved and s.delay is not None and s.seconds_behind is not None:
            self.passed_by_s = max(self.passed_by_s, s.delay - s.seconds_behind)

    def _unmoved(self, t: float) -> None:
        since, running, drained = self.heartbeat_since, self.running_since, self.drained_since
        self.overtaken_s = self.idle_s = 0.0
        if since is not None and running is not None:
            self.overtaken_s = min(t - max(since, running), self.passed_by_s)
        if since is not None and drained is not None:
            self.idle_s = t - max(since, drained)
        self.dead_s = max(self.dead_s, self.overtaken_s, self.idle_s)

    def _threads(self, s: Sample, job_active: bool) -> None:
        t = s.t
        if s.io is not None:
            running = s.io == "Yes"
            if running and self.io_running is False:
                self.source_log_since = t
            # What was fetched since the sample before tells that it ran meanwhile, whatever that one saw.
            ran = self.io_running or (None not in (s.source_log, self.source_log) and s.source_log != self.source_log)
            if ran and not running and not s.io_errno and not job_active:
                self.io_losses = (*self.io_losses, t)[-LOSSES_KEPT:]
            self.io_running = running
            waits = s.io in WAITING and not s.io_errno
            self.io_waiting_since = _since(None if ran else self.io_waiting_since, t) if waits else None
            read_all = s.source_log is not None and s.source_log == s.relay_log
            drained = running and s.sql == "Yes" and read_all and s.sql_remaining is None
            self.drained_since = _since(self.drained_since, t) if drained else None
        elif s.error is not None:
            self.drained_since = None

    def _logs(self, s: Sample) -> None:
        t = s.t
        if s.source_log is not None and s.source_log != self.source_log:
            self.source_log, self.source_log_since = s.source_log, t
        waits = delaying(s) if s.error is None or s.sql is not None else self.delaying_since is not None
        moved = s.relay_log is not None and s.relay_log != self.relay_log
        if moved:
            self.relay_log = s.relay_log
        if s.sql is not None:
            moved = moved or (s.sql == "Yes" and self.sql_running is False)
            self.sql_running = s.sql == "Yes"
        if moved:
            self.relay_log_since, self.delayed_s, self.delaying_since = t, 0.0, t if waits else None
        elif waits and self.delaying_since is None:
            self.delaying_since = t
        elif self.delaying_since is not None and not waits:
            self.delayed_s += t - self.delaying_since
            self.delaying_since = None

    def log_ages(self, now: float) -> tuple[float | None, float | None]:
        """Seconds since the fetched and the applied position were last seen to move, or their thread to start again;
        the latter without the time that the server waited for its delay, which is no longer than that for one place:
        behind an applier that is stuck, the others go on waiting."""
        source = None if self.source_log is None else max(0.0, now - (self.source_log_since or 0.0))
        if self.relay_log is None:
            return source, None
        delayed_s = self.delayed_s + (0.0 if self.delaying_since is None else max(0.0, now - self.delaying_since))
        return source, max(0.0, now - (self.relay_log_since or 0.0) - min(delayed_s, self.sql_delay or 0.0))

    def load(self, values: dict[str, object]) -> None:
        """Takes the attributes of another one, as JSON gives them back. Raises TypeError where they are not that."""
        if values.keys() != vars(self).keys():
            raise TypeError("not what was seen")
        for name, value in values.items():
            setattr(self, name, tuples(value))


def delaying(s: Sample) -> bool:
    """The SQL thread waits for the server's delay to be over, and for no longer than that."""
    return s.sql_remaining is not None and s.sql_delay is not None and s.sql_remaining <= s.sql_delay


def _all_moved(before: Sample, s: Sample) -> bool:
    """Heartbeat and positions have moved on, there is more to apply, and `s` has asked for all there is to ask for."""
    return (
        before.ts != s.ts
        and before.source_log != s.source_log
        and before.relay_log != s.relay_log
        and None not in (before.ts, s.ts, before.source_log, s.source_log, before.relay_log, s.relay_log, s.local)
        and (s.source_log != s.relay_log or s.sql_remaining is not None)
    )


def _since(before: float | None, t: float) -> float:
    """Since when something is so that is so at `t`, where it has been since `before`."""
    return t if before is None else before


def _kind(identity: str) -> str:
    kind, colon, _ = identity.partition(":")
    return kind if colon else ""


def tuples(value: object) -> object:
    """What JSON made lists of."""
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value
