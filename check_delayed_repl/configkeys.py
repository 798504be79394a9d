"""What the configuration file may hold, table by table, beside what the commands have as options too."""

from __future__ import annotations

import argparse
import re

from check_delayed_repl.arguments import filled, port, positive_duration
from check_delayed_repl.light import NamedTuple
from check_delayed_repl.options import CONNECTION, HEARTBEATS, HISTORY, INTERVAL, KEEP, LIMITS, SAMPLING, TREND, Option


def template(text: str) -> str:
    """The name of an object in the monitor: text with `{replica}` and `{host}` in it."""
    if re.search("[{}]", re.sub(r"{{|}}|{replica}|{host}", "", text)):
        raise argparse.ArgumentTypeError(f"{text!r} may hold {{replica}} and {{host}} alone in braces")
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no name: it has line breaks or control characters in it")
    return filled(text)


def address(text: str) -> str:
    host, colon, number_ = text.rpartition(":")
    if not colon or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form HOST:PORT")
    port(number_)
    return text


def https_url(text: str) -> str:
    found = re.fullmatch(r"https://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::([0-9]+))?/?", text, re.ASCII)
    if not found:
        # It may hold a password.
        raise argparse.ArgumentTypeError("is not of the form https://HOST or https://HOST:PORT")
    if found[2]:
        port(found[2])
    return text


OBJECTS = (
    Option("--object-host", "name of the monitor's host object ({replica}, {host})", "NAME", template),
    Option("--object-service", "name of the monitor's service object ({replica}, {host})", "NAME", template),
)
REPLICA_KEYS = (
    *CONNECTION,
    *HEARTBEATS,
    *LIMITS,
    *TREND,
    SAMPLING,
    INTERVAL,
    Option("--rescue-defaults-file", "option file with the account of delayed-repl rescue", "FILE"),
    *OBJECTS,
)
TOP_KEYS = (HISTORY, KEEP)
PUBLISH_KEYS = (
    Option("--prometheus-file", "a .prom file for the node exporter's textfile collector", "FILE"),
    Option("--prometheus-listen", "serve /metrics here", "HOST:PORT", address),
    Option("--nagios-command-file", "Nagios Core's external command file", "FILE"),
    Option("--publish-interval", "longest time between two results of a replica", "TIME", positive_duration),
    Option("--icinga2-url", "Icinga 2's API; several are tried in turn", "URL", https_url, repeatable=True),
    Option("--icinga2-user", "user of the API", "USER"),
    Option("--icinga2-password-file", "file that holds the API user's password", "FILE"),
    Option("--icinga2-ca", "certificates of the authorities to trust", "FILE"),
    *OBJECTS,
)


class Publish(NamedTuple):
    """Where a worker is to publish verdicts: the table [publish]. None or empty: not there."""

    prometheus_file: str | None = None
    prometheus_listen: str | None = None
    nagios_command_file: str | None = None
    publish_interval: float = 60.0
    icinga2_url: tuple[str, ...] = ()
    icinga2_user: str | None = None
    icinga2_password_file: str | None = None
    icinga2_ca: str | None = None
    object_host: str = "{host}"
    object_service: str = "delayed replication {replica}"

    @property
    def wanted(self) -> bool:
        return bool(self.prometheus_file or self.prometheus_listen or self.nagios_command_file or self.icinga2_url)
