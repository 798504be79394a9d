"""What a judgement is made of: states, findings, the trend and the verdict. Plain data."""

from __future__ import annotations

from enum import IntEnum

from check_delayed_repl.light import NamedTuple
from check_delayed_repl.records import Sample


class State(IntEnum):
    """A service's state; the number is the plugin's exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def severity(self) -> int:
        """Which of several states is the worst: UNKNOWN must not hide a CRITICAL."""
        return (0, 1, 3, 2)[self]


class Finding(NamedTuple):
    """One thing that the judge has to say."""

    state: State
    condition: str
    message: str
    held: bool = False
    """Would be CRITICAL, were it not for a job."""


class Trend(NamedTuple):
    """The line through the latest straight stretch of the window; x = 0 at its newest sample."""

    slope: float | None = None
    """Seconds of delay per second; None where there is no trend."""
    intercept: float | None = None
    """The current delay as the line sees it, in seconds; None where no delay is known."""
    correlation: float | None = None
    samples: int = 0
    """How many samples were fitted."""
    span: float = 0.0
    """Seconds from the oldest to the newest of them."""


class JobView(NamedTuple):
    """A job as it stands at the time of judging."""

    id: str
    kind: str
    status: str
    """active, completed or invalid"""
    started_at: float | None
    finished_at: float | None
    running: float | None
    """Seconds that an active job has run, by its own claim; how long a completed one ran."""
    reason: str = ""
    """Why the record is invalid."""


class Verdict(NamedTuple):
    """The judgement at one moment; with its findings alone where nothing could be judged."""

    at: float
    findings: tuple[Finding, ...]
    """Worst first; the first one gives state and condition."""
    trend: Trend = Trend()
    sample: Sample | None = None
    """The newest sample, or None where there was none."""
    jobs: tuple[JobView, ...] = ()
    """Active and invalid ones, and those whose recovery window is not over."""
    held: dict[str, float] = {}  # noqa: RUF012 - never changed
    """Seconds that this episode has been held under each exception: every kind of job, `recovery` and `trend`. Empty
    where no history tells."""
    worker_age: float | None = None
    source_log_age: float | None = None
    relay_log_age: float | None = None
    episode_since: float | None = None
    """When the episode began; None outside one."""
    heartbeat_dead: bool = False
    """The source's heartbeat has not advanced since its writer was proved dead."""

    @property
    def state(self) -> State:
        return self.findings[0].state

    @property
    def condition(self) -> str:
        return self.findings[0].condition

    @property
    def message(self) -> str:
        return self.findings[0].message
