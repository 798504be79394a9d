"""Looks at a replica and reads its history, for as long as a person watches.

What it sees is kept nowhere; only the judge's cache of what the history has may be.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from typing import TYPE_CHECKING

from check_delayed_repl import words
from check_delayed_repl.diagnose.dialect import Dialect
from check_delayed_repl.diagnose.picture import Call, Diagnosis, picture
from check_delayed_repl.diagnose.server import dialect_of
from check_delayed_repl.history import LOCATION_VARIABLE, History, HistoryUnavailable, default_file, open_history
from check_delayed_repl.history.folding import folded
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.limits import Limits, kind_option, option
from check_delayed_repl.observe.target import Target
from check_delayed_repl.options import target_from
from check_delayed_repl.records import JobLine, Sample
from check_delayed_repl.words import plain

if TYPE_CHECKING:
    from check_delayed_repl.observe.sample import Observer

UNREACHED = ("connect-failed", "timeout", "server-down")
"""Looks that failed before the server could say anything."""
SEVERAL = 5
"""Names of replicas that are listed where the one that was asked for is not known."""


class Session:
    """One replica, under one set of limits. Not for use by two threads at once, but for `look`."""

    def __init__(self, args: argparse.Namespace, limits: Limits, replica: str, worker: bool, span: float) -> None:
        """`worker`: somebody else looks, and must be seen to. `span`: seconds of history that are drawn."""
        self.limits = limits
        self.replica = replica
        self.fold = Fold(limits)
        self.samples: list[Sample] = []
        self.own = 0
        """How many looks this session took."""
        self._own_t: list[float] = []
        self.trouble: str | None = None
        """Why the history cannot be read."""
        self._args = args
        self._worker = worker
        self._span = span
        self._timeout: float = args.timeout
        self._target = target_from(args)
        self._call = call_from(args, self._target, limits)
        self._history: History | None = None
        self._arrival = 0
        self._jobs: list[JobLine] = []
        self._unnumbered: set[JobLine] = set()
        self._others_t: float | None = None
        """When somebody else last looked."""
        self._previous: Sample | None = None
        self._observer: Observer | None = None
        self._asked = False
        self._dialect: Dialect | None = None
        self._where = ""
        self._known: list[str] = []

    # --- the history

    def open(self) -> None:
        """Reads what the history has; what keeps it from being read becomes a finding."""
        try:
            self._where = self._args.history or os.environ.get(LOCATION_VARIABLE) or default_file()
            if "://" not in self._where and not os.path.exists(self._where):
                return
            history = open_history(self._where, self._until())
            try:
                self.fold, self._arrival = folded(history, self.replica, self.limits)
                history.deadline = self._until()
                now = history.now()
                self.samples = history.window(self.replica, now - self._span, self._arrival)
                self._previous = history.newest_sample(self.replica)
                self._others_t = history.newest_sample_t(self.replica)
                self._jobs = [line for _, line in history.job_lines(self.replica)]
                if self._others_t is None:
                    self._known = history.replicas()
            except HistoryUnavailable:
                history.close()
                raise
            self._history = history
        except HistoryUnavailable as error:
            self._lose(error)
        self.refresh()

    def _lose(self, error: HistoryUnavailable) -> None:
        self.trouble = str(error)
        if self._history is not None:
            self._history.close()
            self._history = None

    @property
    def sampled(self) -> bool:
        """The history has samples of this replica."""
        return self._others_t is not None

    @property
    def has_slope(self) -> bool:
        """There is enough to see which way the line goes."""
        return self.fold.verdict(self.now()).trend.slope is not None

    def refresh(self) -> None:
        """Reads what has arrived in the history since."""
        if self._history is None:
            return
        self._history.deadline = self._until()
        try:
            for number, record in self._history.records(self.replica, self._arrival):
                # Job lines that no sampler has seen yet come without a number, at every reading again.
                if number == 0 and isinstance(record, JobLine):
                    if record in self._unnumbered:
                        continue
                    self._unnumbered.add(record)
                self.fold.add(record, number or None)
                self._arrival = max(self._arrival, number)
                if isinstance(record, Sample):
                    self.samples.append(record)
                    self._others_t = max(record.t, self._others_t or record.t)
            self._jobs = [line for _, line in self._history.job_lines(self.replica)]
        except HistoryUnavailable as error:
            self._lose(error)

    # --- looking

    def sample(self) -> Sample:
        """One look. It changes nothing here, so another thread may wait for it."""
        if self._observer is None:
            from check_delayed_repl.observe.sample import Observer

            self._observer = Observer(self._target)
        sample = self._observer.sample(self._until(), self._previous)
        if not self._asked and sample.error not in UNREACHED:
            self._asked = True
            self._dialect = dialect_of(self._target, self._timeout, self._until())
        return sample

    def look_and_add(self) -> Sample:
        """A look, and what has arrived in the history meanwhile."""
        sample = self.sample()
        self.refresh()
        self.add(sample)
        return sample

    def add(self, sample: Sample) -> None:
        """A look that this session took, at this very moment."""
        sample = sample._replace(t=self.now() - max(0.0, time.time() - sample.t))
        self.own += 1
        self._own_t.append(sample.t)
        self.fold.add(sample)
        self.samples.append(sample)
        if sample.delay is not None or sample.source_id is not None:
            self._previous = sample

    def now(self) -> float:
        """By the history's clock, where there is one."""
        if self._history is not None:
            self._history.deadline = self._until()
            try:
                return self._history.now()
            except HistoryUnavailable as error:
                self._lose(error)
        return time.time()

    def _until(self) -> float:
        return time.monotonic() + self._timeout

    def close(self) -> None:
        if self._observer is not None:
            self._observer.close()
        if self._history is not None:
            self._history.close()

    # --- showing

    def picture(self, since: float | None = None) -> Diagnosis:
        """What there is to be seen now, drawn from `since` on, by default as far back as the trend may reach."""
        now = self.now()
        self._own_t = [t for t in self._own_t if t >= now - self.limits.window]
        self.samples = [s for s in self.samples if s.t >= now - max(self._span, self.limits.window)]
        if since is None:
            since = now - self.limits.window
            oldest = min((s.t for s in self.samples), default=since)
            # A line that has only just begun to be watched need not be drawn in a corner.
            since = min(max(since, oldest), now - 10.0)
        more = []
        if self.trouble is not None:
            more.append(Finding(State.CRITICAL, "history-unavailable", self.trouble))
        age = None
        if self._worker:
            more += worker_findings(self._others_t, self.limits, now)
            age = None if self._others_t is None else max(0.0, now - self._others_t)
        return picture(
            self.fold,
            now,
            replica=self.replica,
            samples=self.samples,
            since=since,
            jobs=self._jobs,
            more=more,
            worker_age=age,
            dialect=self._dialect,
            call=self._call,
            trust=self._trust(now),
        )

    def _trust(self, now: float) -> list[str]:
        found = []
        if self.sampled:
            window = self.limits.window
            own = sum(t >= now - window for t in self._own_t)
            looks = words.plural(sum(s.t >= now - window for s in self.samples), "look")
            text = f"It rests on {looks} of the last {words.span(window)}, {own} of them taken just now"
            if self._others_t is not None:
                text += f"; the newest that was in the history is {words.span(max(0.0, now - self._others_t))} old"
            found.append(f"{text}.")
        else:
            taken = [s.t for s in self.samples]
            span = f" in {words.span(taken[-1] - taken[0])}" if len(taken) > 1 else ""
            found.append(
                f"It rests on {words.plural(self.own, 'look')}{span} alone. Jobs, budgets, earlier settings and for "
                "how long the logs have stood still are not known, and a slope over so short a time may turn."
            )
            if self._known:
                names = ", ".join(words.shown(name) for name in self._known[:SEVERAL])
                rest = "" if len(self._known) <= SEVERAL else f" and {len(self._known) - SEVERAL} more"
                found.append(
                    f"The history has nothing of {words.shown(self.replica)}. It knows: {names}{rest} (--replica)."
                )
            elif self._args.history and self.trouble is None:
                found.append("There is no history at the place that --history names, or nothing in it.")
        return found


def worker_findings(newest_t: float | None, limits: Limits, now: float) -> list[Finding]:
    """What the judge says of a worker that last looked at `newest_t`, or never."""
    fold = Fold(limits)
    if newest_t is not None:
        fold.add(Sample(newest_t))
    return [f for f in fold.verdict(now, worker=True).findings if f.condition == "worker-missing"]


# --- the options, to be repeated


_CONNECTION = (
    ("--defaults-file", "defaults_file", None),
    ("--defaults-group", "defaults_group", "client"),
    ("-H", "host", None),
    ("-P", "port", None),
    ("-S", "socket", None),
    ("-u", "user", None),
    ("--ssl-mode", "ssl_mode", None),
    ("--ssl-ca", "ssl_ca", None),
    ("--ssl-cert", "ssl_cert", None),
    ("--ssl-key", "ssl_key", None),
    ("--channel", "channel", None),
    ("--heartbeat-table", "heartbeat_table", "percona.heartbeat"),
    ("--master-server-id", "master_server_id", None),
    ("--heartbeat-timezone", "heartbeat_timezone", None),
)
"""Option, field of Target, and the value that need not be repeated."""
_CLIENT = ("defaults_file", "host", "port", "socket", "user", "ssl_ca")
PASSWORD = '--password="$PASSWORD"'  # noqa: S105  what stands in the place of one
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")


def call_from(args: argparse.Namespace, target: Target, limits: Limits) -> Call:
    """What was given, fit to be pasted again. A password is left to the shell."""
    connection: list[str] = []
    client: list[str] = []
    for name, field, usual in _CONNECTION:
        value = getattr(target, field)
        if value is None or value == usual:
            continue
        # The servers' own clients want the option file first, and in one word.
        given = [f"{name}={value}"] if field == "defaults_file" else [name, str(value)]
        connection += given
        if field in _CLIENT:
            client += given
    if target.password is not None:
        connection.append(PASSWORD)
        client.append(PASSWORD)
    if not target.local_heartbeat:
        connection.append("--no-local-heartbeat")
    if args.replica:
        connection += ["--replica", args.replica]
    history = ("--history", _URL_PASSWORD.sub(r"\1@", args.history)) if args.history else ()
    return Call(tuple(connection), _judging(limits), history, tuple(client), target.heartbeat_table)


def _judging(limits: Limits) -> tuple[str, ...]:
    """The limits that are not the defaults."""
    usual = Limits()
    found: list[str] = []
    for field, value in limits._asdict().items():
        if value == getattr(usual, field) or field == "local_heartbeat":
            continue
        if field == "job_limits":
            for kind, seconds in value:
                found += [kind_option(kind), f"{kind}={plain(seconds)}"]
        elif field == "job_stops_server":
            for kind in value:
                found += [option(field), kind]
        else:
            found += [option(field), value if isinstance(value, str) else plain(value)]
    return tuple(found)
