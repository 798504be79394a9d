"""Has every replica judged as its samples are stored, and hands the verdicts to all targets."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from check_delayed_repl.configfile import Publish, Replica
from check_delayed_repl.history import HistoryUnavailable
from check_delayed_repl.judge.outcome import Finding, State, Trend, Verdict
from check_delayed_repl.publish import openmetrics
from check_delayed_repl.publish.commandfile import CommandFile
from check_delayed_repl.publish.icinga2 import Icinga
from check_delayed_repl.publish.judging import Judging
from check_delayed_repl.publish.mailbox import Mailbox
from check_delayed_repl.publish.result import Result, Subject, subject

LEASE_S = 30.0
"""Of several workers on one history, the one that renewed its lease within this time publishes."""
RENEW_S = 10.0
JUDGE_S = 1.0
"""Verdicts are made anew at least this often, whether samples arrive or not."""
FILE_S = 5.0
"""The metrics file is written at most this often, unless a state changes."""


class Publisher(threading.Thread):
    """Judges and publishes until it is told to finish."""

    def __init__(
        self,
        where: str | None,
        replicas: Sequence[Replica],
        settings: Publish,
        log: Callable[[str], None],
    ) -> None:
        """Raises OSError, ValueError or ImportError where a target cannot be set up."""
        super().__init__(name="publisher", daemon=True)
        self._judging = Judging(where)
        self._settings = settings
        self._log = log
        self._lock = threading.Condition()
        self._subjects = [subject(replica, settings) for replica in replicas]
        self._stored = False
        self._ending = False
        self._trouble = ""
        """Why the history cannot be written; empty where it can."""
        self._results: dict[str, Result] = {}
        self._published: dict[str, tuple[float, State, str]] = {}
        self._errors = dict.fromkeys(["history", "prometheus-file"], 0)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{time.monotonic_ns()}"
        self._mine_until = 0.0
        self._renew_at = 0.0
        self._write_at = 0.0
        self._mailboxes = [Mailbox(target, log) for target in _targets(settings)]
        self._stop_serving = (
            openmetrics.serve(settings.prometheus_listen, self._families) if settings.prometheus_listen else None
        )
        for mailbox in self._mailboxes:
            mailbox.start()

    # --- told by the worker

    def stored(self) -> None:
        """Samples have been stored."""
        with self._lock:
            self._trouble = ""
            self._stored = True
            self._lock.notify()

    def not_stored(self, trouble: str) -> None:
        """The history cannot be written."""
        with self._lock:
            self._trouble = trouble
            self._stored = True
            self._lock.notify()

    def replace(self, replicas: Sequence[Replica], settings: Publish) -> None:
        """Other replicas, other limits or other names of objects. Where results go to stays as it was."""
        with self._lock:
            self._subjects = [subject(replica, settings) for replica in replicas]
            self._stored = True
            self._lock.notify()

    def finish(self, within_s: float) -> None:
        """Judges once more, hands over what waits, and ends."""
        until = time.monotonic() + within_s
        with self._lock:
            self._ending = True
            self._lock.notify()
        self.join(within_s)
        for mailbox in self._mailboxes:
            mailbox.finish(max(0.05, until - time.monotonic()))
        if self._stop_serving is not None:
            self._stop_serving()

    # --- the thread

    def run(self) -> None:
        ending = False
        while not ending:
            with self._lock:
                self._lock.wait_for(lambda: self._stored or self._ending, JUDGE_S)
                self._stored = False
                ending, trouble, subjects = self._ending, self._trouble, list(self._subjects)
            try:
                self._judge(subjects, trouble)
                self._write_metrics()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next round may do better
                self._log(f"publishing: internal error, {type(error).__name__}: {error}")
                self._judging.close()
        self._end()

    def _judge(self, subjects: list[Subject], trouble: str) -> None:
        """A verdict on every replica; those that are due go to the mailboxes."""
        verdicts: dict[str, Verdict] = {}
        try:
            if not trouble:
                verdicts = self._judging.verdicts(subjects)
        except HistoryUnavailable as error:
            trouble = str(error)
        self._errors["history"] += bool(trouble)
        mine = self._lease(trouble)
        results: dict[str, Result] = {}
        for each in subjects:
            last = self._results.get(each.name)
            verdict = _unavailable(trouble, last) if trouble else verdicts.get(each.name)
            if verdict is not None:
                results[each.name] = Result(each, verdict)
            elif last is not None:
                results[each.name] = last
        self._results = results if mine else {}
        for result in self._results.values():
            self._publish(result)

    def _publish(self, result: Result) -> None:
        name, verdict = result.subject.name, result.verdict
        now = time.monotonic()
        last = self._published.get(name)
        same = last is not None and last[1:] == (verdict.state, verdict.condition)
        if last is not None and same and now - last[0] < self._settings.publish_interval:
            return
        if not same:
            self._write_at = 0.0
        self._published[name] = (now, verdict.state, verdict.condition)
        for mailbox in self._mailboxes:
            mailbox.put(result)

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
                self._published.clear()
            self._mine_until = now + LEASE_S if mine else 0.0
            self._renew_at = now + (RENEW_S if mine else JUDGE_S)
        return now < self._mine_until

    def _end(self) -> None:
        if time.monotonic() < self._mine_until:
            with suppress(HistoryUnavailable):
                self._judging.lease(self._holder, 0.0)
        self._judging.close()

    # --- metrics

    def _families(self) -> list[openmetrics.Family]:
        """Current metrics; called by the server's threads too."""
        errors, dropped = dict.fromkeys(["prometheus-file"], self._errors["prometheus-file"]), {}
        for mailbox in self._mailboxes:
            errors[mailbox.name] = mailbox.errors
            dropped[mailbox.name] = mailbox.dropped
        counts = openmetrics.WorkerCounts(len(self._subjects), errors, dropped, self._errors["history"])
        return openmetrics.families(list(self._results.values()), counts)

    def _write_metrics(self) -> None:
        path = self._settings.prometheus_file
        now = time.monotonic()
        if path is None or now < self._write_at:
            return
        self._write_at = now + FILE_S
        try:
            openmetrics.write_file(path, self._families())
        except OSError as error:
            if not self._errors["prometheus-file"]:
                self._log(f"prometheus-file: {path}: {error.strerror}")
            self._errors["prometheus-file"] += 1


def _targets(settings: Publish) -> list[CommandFile | Icinga]:
    targets: list[CommandFile | Icinga] = []
    if settings.nagios_command_file:
        targets.append(CommandFile(settings.nagios_command_file))
    if settings.icinga2_url:
        password = ""
        if settings.icinga2_password_file:
            with open(settings.icinga2_password_file, encoding="utf-8") as file:
                password = file.readline().rstrip("\n")
        targets.append(
            Icinga(
                settings.icinga2_url,
                settings.icinga2_user or "",
                password,
                settings.icinga2_ca,
                settings.publish_interval,
            )
        )
    return targets


def _unavailable(trouble: str, last: Result | None) -> Verdict:
    """What is said where the history is out of reach. The newest sample stays, so that its age can be told."""
    finding = Finding(State.CRITICAL, "history-unavailable", trouble)
    sample = last.verdict.sample if last else None
    return Verdict(time.time(), (finding,), Trend(), sample, (), {}, None, None, None, None)
