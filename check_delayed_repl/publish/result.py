"""One published verdict on one replica, and the names that the monitor knows replicas by."""

from __future__ import annotations

from collections.abc import Sequence
from socket import gethostname
from typing import NamedTuple

from check_delayed_repl.configfile import Publish, Replica
from check_delayed_repl.judge.outcome import Verdict
from check_delayed_repl.observe.target import Target
from check_delayed_repl.report import nagios


class Result(NamedTuple):
    """One verdict on one replica, ready to be published."""

    replica: Replica
    verdict: Verdict

    def output(self) -> str:
        """The text that a check prints: the first line with the perfdata, then the long output."""
        return nagios.render(self.verdict, self.replica.limits)


def named(replicas: Sequence[Replica], settings: Publish) -> tuple[Replica, ...]:
    """The replicas with their objects' names filled in.

    Raises ValueError where two of them would change one service's state in turn.
    """
    found = []
    services: dict[tuple[str, str], str] = {}
    for each in replicas:
        words = {"replica": each.name, "host": host_of(each.target)}
        host = (each.object_host or settings.object_host).format(**words)
        service = (each.object_service or settings.object_service).format(**words)
        other = services.setdefault((host, service), each.name)
        if other != each.name and (settings.nagios_command_file or settings.icinga2_url):
            raise ValueError(
                f"object-service: {other} and {each.name} are both {service!r} of host {host!r}: have {{replica}} in it"
            )
        found.append(each._replace(object_host=host, object_service=service))
    return tuple(found)


def host_of(target: Target) -> str:
    """The host that a replica is on; one that is reached by a socket is on this machine."""
    return target.host or (gethostname() if target.socket else "localhost")
