"""Judges every replica as its samples are stored, and hands the verdicts to all targets.

A thread of the worker's own, with its own connection to the history: it reads back what arrived (others' samples and
job lines too), folds it with the check's judge, and says what `check_delayed_repl --sampling worker` would say now.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from check_delayed_repl.configfile import Publish, Replica
from check_delayed_repl.history import History, HistoryUnavailable, open_history
from check_delayed_repl.history.folding import folded
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import Finding, State, Trend, Verdict
from check_delayed_repl.publish import openmetrics
from check_delayed_repl.publish.commandfile import CommandFile
from check_delayed_repl.publish.icinga2 import Icinga
from check_delayed_repl.publish.mailbox import Mailbox
from check_delayed_repl.publish.result import Result, Subject, subject
from check_delayed_repl.records import job_names

LEASE_S = 30.0
"""Of several workers on one history, the one that renewed its lease within this time publishes."""
RENEW_S = 10.0
JUDGE_S = 1.0
"""Verdicts are made anew at least this often, whether samples arrive or not."""
FILE_S = 5.0
"""The metrics file is written at most this often, unless a state changes."""
TIMEOUT_S = 10.0


class _Followed:
    """A replica's fold, and the last arrival in it."""

    def __init__(self, fold: Fold, arrival: int) -> None:
        self.fold = fold
        self.arrival = arrival


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
        self._where = where
        self._settings = settings
        self._log = log
        self._lock = threading.Condition()
        self._subjects = [subject(replica, settings) for replica in replicas]
        self._outdated: set[str] = set()
        """Replicas whose limits have changed since they were folded."""
        self._stored = False
        self._ending = False
        self._trouble = ""
        """Why the history cannot be written; empty where it can."""
        self._history: History | None = None
        self._followed: dict[str, _Followed] = {}
        self._arrival = 0
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
            before = {each.name: each for each in self._subjects}
            self._subjects = [subject(replica, settings) for replica in replicas]
            for each in self._subjects:
                if each.name in before and each.limits != before[each.name].limits:
                    self._outdated.add(each.name)
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
                for name in self._outdated:
                    self._followed.pop(name, None)
                self._outdated.clear()
            try:
                self._judge(subjects, trouble)
                self._write_metrics()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next round may do better
                self._log(f"publishing: internal error, {type(error).__name__}: {error}")
                self._close()
        self._release()
        self._close()

    def _judge(self, subjects: list[Subject], trouble: str) -> None:
        """A verdict on every replica; those that are due go to the mailboxes."""
        now = time.time()
        try:
            if not trouble:
                now = self._fold(subjects)
        except HistoryUnavailable as error:
            trouble = str(error)
            self._close()
        mine = self._lease()
        if trouble:
            self._errors["history"] += 1
        known = {each.name for each in subjects}
        results = {name: result for name, result in self._results.items() if name in known}
        for each in subjects:
            followed = self._followed.get(each.name)
            if trouble:
                verdict = _unavailable(now, trouble, results.get(each.name))
            elif followed is not None:
                verdict = followed.fold.verdict(now, worker=True)
            else:
                continue  # its history is still being read
            result = results[each.name] = Result(each, verdict)
            if mine:
                self._publish(result)
        self._results = results if mine else {}

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

    def _fold(self, subjects: list[Subject]) -> float:
        """Takes in all that has arrived; returns the history's time. Raises HistoryUnavailable."""
        history = self._history
        if history is None:
            history = self._history = open_history(self._where, time.monotonic() + TIMEOUT_S)
            self._followed.clear()
            self._arrival = history.newest_arrival()
        history.deadline = time.monotonic() + TIMEOUT_S
        by_name: dict[str, list[_Followed]] = {}
        for each in subjects:
            followed = self._followed.get(each.name)
            if followed is not None:
                for name in job_names(each.name):
                    by_name.setdefault(name, []).append(followed)
        for arrival, name, record in history.arrived(self._arrival):
            for followed in by_name.get(name, ()):
                if arrival > followed.arrival:
                    followed.fold.add(record, arrival)
                    followed.arrival = arrival
            self._arrival = arrival
        # Folding a long history for the first time takes a while: meanwhile the others are not kept waiting.
        until = time.monotonic() + JUDGE_S
        for each in subjects:
            if each.name not in self._followed and time.monotonic() < until:
                history.deadline = time.monotonic() + TIMEOUT_S
                self._followed[each.name] = _Followed(*folded(history, each.name, each.limits))
        history.deadline = time.monotonic() + TIMEOUT_S
        return history.now()

    def _lease(self) -> bool:
        """Whether this worker is the one that publishes. Without a history, everybody is: noise beats silence."""
        now = time.monotonic()
        if self._history is None:
            return True
        if now >= self._renew_at:
            try:
                if self._history.lease(self._holder, LEASE_S):
                    if now >= self._mine_until:
                        self._published.clear()
                    self._mine_until = now + LEASE_S
                else:
                    self._mine_until = 0.0
                self._renew_at = now + (RENEW_S if self._mine_until else JUDGE_S)
            except HistoryUnavailable:
                self._close()
                return True
        return now < self._mine_until

    def _release(self) -> None:
        if self._history is not None and time.monotonic() < self._mine_until:
            with suppress(HistoryUnavailable):
                self._history.lease(self._holder, 0.0)

    def _close(self) -> None:
        history, self._history = self._history, None
        if history is not None:
            with suppress(Exception):
                history.close()

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


def _unavailable(now: float, trouble: str, last: Result | None) -> Verdict:
    """What is said where the history is out of reach. The newest sample stays, so that its age can be told."""
    finding = Finding(State.CRITICAL, "history-unavailable", trouble)
    sample = last.verdict.sample if last else None
    return Verdict(now, (finding,), Trend(), sample, (), {}, None, None, None, None)
