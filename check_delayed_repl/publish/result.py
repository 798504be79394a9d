"""A replica that is published, and one published verdict on it. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from socket import gethostname
from typing import NamedTuple

from check_delayed_repl.configfile import Replica
from check_delayed_repl.configkeys import Publish
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


def subjects(replicas: Sequence[Replica], settings: Publish) -> tuple[Subject, ...]:
    """What is published. Raises ValueError where two replicas would change one service's state in turn."""
    found = tuple(map(subject, replicas, repeat(settings)))
    names: dict[tuple[str, str], str] = {}
    for each in found if settings.nagios_command_file or settings.icinga2_url else ():
        other = names.setdefault((each.object_host, each.object_service), each.name)
        if other != each.name:
            raise ValueError(
                f"object-service: {other} and {each.name} are both {each.object_service!r} of host"
                f" {each.object_host!r}: have {{replica}} in it"
            )
    return found


def subject(replica: Replica, settings: Publish) -> Subject:
    """What is published of a replica of the configuration file, with its objects' names filled in."""
    target = replica.target
    # A replica that is reached by a socket is on this machine.
    host = target.host or (gethostname() if target.socket else "localhost")
    names = {"replica": replica.name, "host": host}
    return Subject(
        replica.name,
        replica.limits,
        host,
        None if target.socket and not target.host else target.port or 3306,
        target.channel,
        (replica.object_host or settings.object_host).format(**names),
        (replica.object_service or settings.object_service).format(**names),
    )
