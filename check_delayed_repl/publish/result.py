"""A replica that is published, and one published verdict on it. Plain data."""

from __future__ import annotations

from typing import NamedTuple

from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.limits import Limits
from check_delayed_repl.report import nagios


class Subject(NamedTuple):
    """A replica whose verdicts are published."""

    name: str
    """Its name in the history."""
    limits: Limits
    host: str = ""
    """Host name, or path of the socket."""
    port: int | None = None
    channel: str | None = None
    object_host: str = ""
    """The name of its host object in Nagios or Icinga."""
    object_service: str = ""
    """The name of its service object there."""


class Result(NamedTuple):
    """One verdict on one replica, ready to be published."""

    subject: Subject
    verdict: Verdict

    def output(self) -> str:
        """The text that a check prints: the first line with the perfdata, then the long output."""
        return nagios.render(self.verdict, self.subject.limits)


def object_name(template: str, subject: Subject) -> str:
    """`{replica}` and `{host}` of a template, filled in."""
    return template.replace("{replica}", subject.name).replace("{host}", subject.host)
