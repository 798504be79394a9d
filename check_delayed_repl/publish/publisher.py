"""Has every replica judged as its samples are stored, and hands the verdicts to all targets."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from ssl import SSLError

from check_delayed_repl.configfile import Publish, Replica
from check_delayed_repl.history import HistoryUnavailable
from check_delayed_repl.judge.outcome import Finding, State, Verdict
from check_delayed_repl.observe.optionfile import MAX_BYTES, read_file
from check_delayed_repl.publish import openmetrics
from check_delayed_repl.publish.commandfile import CommandFile
from check_delayed_repl.publish.icinga2 import Icinga
from check_delayed_repl.publish.judging import Judging
from check_delayed_repl.publish.mailbox import Mailbox, Target
from check_delayed_repl.publish.result import Result

LEASE_S = 30.0
"""Of several workers on one history, the one that renewed its lease within this time publishes."""
RENEW_S, ASK_S = 10.0, 1.0
"""How often the lease is renewed; and asked for, while it is another's."""
ROUND_S = 0.5
"""Between two rounds of judging."""
AGED_S = 15.0
"""A verdict is made anew with every record that arrives, and where none does, at least this often. One that is twice as
old, because a long history is being read by other limits, is handed over no more: the monitor notices the silence."""
FILE_S = 5.0
"""The metrics file is written at most this often, unless a state changes."""


class _Latest:
    """The newest verdict on a replica, and what was handed over of it; times by time.monotonic()."""

    def __init__(self) -> None:
        self.result: Result | None = None
        self.since = time.monotonic()
        self.judged = -inf
        self.published = -inf
        self.said: tuple[State, str] | None = None
        """State and condition that were handed over last."""


class Publisher(threading.Thread):
    """Judges and publishes until it is told to finish."""

    def __init__(
        self, where: str | None, replicas: tuple[Replica, ...], settings: Publish, log: Callable[[str], None]
    ) -> None:
        """Raises ValueError or ImportError where a target cannot be set up."""
        super().__init__(name="publisher", daemon=True)
        self._judging = Judging(where)
        self._settings = settings
        self._log = log
        self._replicas = replicas
        self._ending = threading.Event()
        self._trouble = ""
        """Why the history cannot be written; empty where it can."""
        self._told = ""
        self._latest: dict[str, _Latest] = {}
        self._history_errors = self._file_errors = 0
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{time.monotonic_ns()}"
        self._mine = False
        self._mine_until = 0.0
        self._renew_at = 0.0
        self._write_at = 0.0
        self._mailboxes = [Mailbox(target, log) for target in targets(settings)]
        self._file_fails = False
        if settings.prometheus_listen:
            openmetrics.serve(settings.prometheus_listen, self._families)
        for mailbox in self._mailboxes:
            mailbox.start()

    # --- told by the worker

    def stored(self, trouble: str = "") -> None:
        """Samples have been stored, or the history cannot be written, and why."""
        self._trouble = trouble

    def replace(self, replicas: tuple[Replica, ...]) -> None:
        """Other replicas, other limits or other names of objects. Where results go to stays as it was."""
        self._replicas = replicas

    def finish(self, within_s: float) -> None:
        """Judges once more, hands over what waits, and ends."""
        until = time.monotonic() + within_s
        self._ending.set()
        self.join(within_s)
        for mailbox in self._mailboxes:
            mailbox.finish(max(0.05, until - time.monotonic()))

    # --- the thread

    def run(self) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(ROUND_S)
            for step in (self._round, self._write_metrics):
                try:
                    step()
                except Exception as error:  # noqa: BLE001 - the next round may do better; old verdicts must not stand
                    self._latest = {}
                    self._write_at = 0.0
                    self._tell(f"{type(error).__name__}: {error}")
        if time.monotonic() < self._mine_until:
            with suppress(HistoryUnavailable):
                self._judging.lease(self._holder, 0.0)
        self._judging.close()

    def _round(self) -> None:
        replicas, trouble, condition = self._replicas, self._trouble, "history-unavailable"
        verdicts: dict[str, Verdict] = {}
        try:
            if not trouble:
                verdicts = self._judging.verdicts(replicas, self._due(replicas))
        except HistoryUnavailable as error:
            trouble = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not pass for what was judged before
            condition, trouble = "internal-error", f"{type(error).__name__}: {error}"
            self._judging.close()
            self._tell(trouble)
        self._history_errors += bool(trouble)
        self._mine = self._lease(trouble)
        now = time.monotonic()
        taken = {each.name: self._latest.get(each.name) or _Latest() for each in replicas}
        for each in replicas:
            latest = taken[each.name]
            if trouble:
                # To be judged anew in the next round.
                latest.result, latest.judged = Result(each, _unknown(condition, trouble, latest.result)), -inf
            elif each.name in verdicts:
                if verdicts[each.name].condition == "worker-missing" and now - latest.since < each.limits.max_last_seen:
                    latest.result = None  # this one has just begun: its first sample is on its way
                    continue
                latest.result, latest.judged = Result(each, verdicts[each.name]), now
            elif -inf < latest.judged < now - 2 * AGED_S:
                latest.result = None
        # At once: whoever asks for the metrics meanwhile gets the whole fleet.
        self._latest = taken
        if self._mine:
            for latest in taken.values():
                self._publish(latest)

    def _tell(self, fault: str) -> None:
        """Of many that are alike, the first."""
        if fault != self._told:
            self._log(f"publishing: internal error, {fault}")
        self._told = fault

    def _due(self, replicas: tuple[Replica, ...]) -> list[str]:
        """The replicas to be judged whether anything has arrived for them or not."""
        now, never = time.monotonic(), _Latest()
        unpublished = now - self._settings.publish_interval if self._mine else -inf
        return [
            each.name
            for each in replicas
            if (latest := self._latest.get(each.name, never)).judged <= now - AGED_S or latest.published < unpublished
        ]

    def _publish(self, latest: _Latest) -> None:
        """Hands a verdict over where it says something new, or where the last one was long ago."""
        if latest.result is None:
            return
        now, verdict = time.monotonic(), latest.result.verdict
        said = (verdict.state, verdict.condition)
        if said != latest.said:
            self._write_at = 0.0
        elif now - latest.published < self._settings.publish_interval:
            return
        latest.published, latest.said = now, said
        for mailbox in self._mailboxes:
            mailbox.put(latest.result)

    def _lease(self, trouble: str) -> bool:
        """Whether this worker is the one that publishes. Without a history, everybody is: noise beats silence."""
        now = time.monotonic()
        if trouble:
            return True
        if now >= self._renew_at:
            try:
                mine = self._judging.lease(self._holder, LEASE_S)
            except HistoryUnavailable:
                return True
            if mine and now >= self._mine_until:
                self._latest.clear()
            self._mine_until = now + LEASE_S if mine else 0.0
            self._renew_at = now + (RENEW_S if mine else ASK_S)
        return now < self._mine_until

    # --- metrics

    def _families(self) -> list[openmetrics.Family]:
        """Current metrics; called by the server's threads too."""
        errors = {"prometheus-file": self._file_errors} | {box.name: box.errors for box in self._mailboxes}
        dropped = {box.name: box.dropped for box in self._mailboxes}
        results = [latest.result for latest in list(self._latest.values()) if latest.result] if self._mine else []
        return openmetrics.families(results, len(self._replicas), errors, dropped, self._history_errors)

    def _write_metrics(self) -> None:
        path = self._settings.prometheus_file
        now = time.monotonic()
        if path is None or now < self._write_at:
            return
        self._write_at = now + FILE_S
        trouble = ""
        try:
            openmetrics.write_file(path, self._families())
        except OSError as error:
            trouble = error.strerror or str(error)
            self._file_errors += 1
        if bool(trouble) != self._file_fails:
            self._log(f"prometheus-file: {path}: {trouble or 'is written again'}")
        self._file_fails = bool(trouble)


def targets(settings: Publish) -> list[Target]:
    """Whom results are pushed to. Raises ValueError for what cannot be published to."""
    found: list[Target] = []
    if settings.prometheus_listen:
        openmetrics.find(settings.prometheus_listen)
    if settings.nagios_command_file:
        found.append(CommandFile(settings.nagios_command_file))
    if settings.icinga2_url:
        path = settings.icinga2_password_file or ""
        try:
            password = read_file(path, MAX_BYTES)[0].decode().partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"icinga2-password-file: {path}: {getattr(error, 'strerror', 'no text')}") from None
        user, ca, interval = settings.icinga2_user or "", settings.icinga2_ca, settings.publish_interval
        try:
            found.append(Icinga(settings.icinga2_url, user, password, ca, interval))
        except OSError as error:
            reason = error.strerror if error.filename or not isinstance(error, SSLError) else "no certificate in it"
            raise ValueError(f"icinga2-ca: {ca}: {reason}") from None
        except ValueError as error:
            raise ValueError(f"icinga2-url: {error}") from None
    return found


def _unknown(condition: str, trouble: str, last: Result | None) -> Verdict:
    """What is said where nothing can be judged. The newest sample stays, so that its age can be told."""
    state = State.UNKNOWN if condition == "internal-error" else State.CRITICAL
    return Verdict(time.time(), (Finding(state, condition, trouble),), sample=last.verdict.sample if last else None)
