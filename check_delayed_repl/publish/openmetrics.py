"""Verdicts as Prometheus metrics: families of samples, the text format, and a server for them.

Names, units, HELP and TYPE follow Prometheus' conventions: base units, `_total` for counters, no value where nothing
is known.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from math import isfinite, nan
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

from check_delayed_repl import __version__
from check_delayed_repl.judge.protection import protected_s
from check_delayed_repl.publish.result import Result, host_of
from check_delayed_repl.records import Sample
from check_delayed_repl.report.metrics import active_ages
from check_delayed_repl.words import clean

PREFIX = "delayed_repl_"
SILENT_S = 10.0
"""How long somebody who asks for the metrics may be silent in the middle of it."""
CALLERS = 32
"""How many may ask at the same time: for one more, the oldest is hung up on."""


class Family(NamedTuple):
    """A metric with all its samples."""

    name: str
    kind: str
    """gauge or counter"""
    help: str
    samples: list[tuple[dict[str, str], float]]


_METRICS = (
    ("state", "State of the replica: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."),
    ("condition", "1 for each condition that is found; others are absent."),
    ("delay_seconds", "Age of the source's newest heartbeat as the replica has applied it."),
    ("intercept_seconds", "Current delay as the trend sees it."),
    ("slope_ratio", "Slope of the delay: seconds of delay per second."),
    ("min_delay_seconds", "Lower bound of the delay."),
    ("max_delay_seconds", "Upper bound of the delay."),
    ("sql_delay_seconds", "Delay that the server itself is set to."),
    ("local_heartbeat_age_seconds", "Age of the replica's own heartbeat."),
    ("source_log_age_seconds", "Time since the fetched position was last seen to change."),
    ("relay_log_age_seconds", "Time since the applied position was last seen to change."),
    ("relay_log_bytes", "Relay log on the replica's disk."),
    ("held_seconds", "Time that this episode has been held at WARNING, by exception."),
    ("held_limit_seconds", "Time that an episode may be held at WARNING, by exception."),
    ("job_age_seconds", "How long the oldest active job of a kind has been running."),
    ("protected_seconds", "How old a mistake on the source may be and still be stopped here."),
    ("last_sample_timestamp_seconds", "When the newest sample was taken."),
    ("info", "Where the replica is: always 1."),
    ("replicas", "Replicas that this worker takes samples of."),
    ("publish_errors_total", "Attempts to hand over verdicts that failed."),
    ("publish_dropped_total", "Verdicts that were never handed over."),
    ("history_errors_total", "Attempts to read or write the history that failed."),
    ("build_info", "The worker's version: always 1."),
)
"""Of each replica, and from `replicas` on of the worker itself. What ends in `_total` is a counter, else a gauge."""


def families(
    results: Iterable[Result], replicas: int, errors: dict[str, int], dropped: dict[str, int], history_errors: int
) -> list[Family]:
    """Every metric of these verdicts and of the worker itself; families without a sample are left out.

    `replicas`: how many the worker takes samples of. By target, `errors`: how often handing over failed; `dropped`:
    results that a newer one replaced before they could be handed over, or that nobody wanted.
    """
    found: dict[str, Family] = {}
    for name, text in _METRICS:
        found[name] = Family(PREFIX + name, _kind(name), text, [])
    for result in results:
        for name, value, labels in _samples(result):
            if value is not None and isfinite(value):
                found[name].samples.append(({"replica": result.replica.name, **labels}, value))
    found["replicas"].samples.append(({}, replicas))
    for name, counts in (("publish_errors_total", errors), ("publish_dropped_total", dropped)):
        found[name].samples.extend(({"target": target}, count) for target, count in sorted(counts.items()))
    found["history_errors_total"].samples.append(({}, history_errors))
    found["build_info"].samples.append(({"version": __version__}, 1))
    return [family for family in found.values() if family.samples]


def _kind(name: str) -> str:
    return "counter" if name.endswith("_total") else "gauge"


def _samples(result: Result) -> Iterator[tuple[str, float | None, dict[str, str]]]:
    """Metrics of one verdict, each with its labels beside the replica; None where nothing is known."""
    replica, verdict = result
    target, limits, trend = replica.target, replica.limits, verdict.trend
    sample = verdict.sample or Sample(nan)
    for condition in dict.fromkeys(finding.condition for finding in verdict.findings):
        yield "condition", 1, {"condition": condition}
    for exception, (limit, _) in limits.budgets.items():
        yield "held_seconds", verdict.held.get(exception), {"exception": exception}
        yield "held_limit_seconds", limit, {"exception": exception}
    for kind, age in active_ages(verdict).items():
        yield "job_age_seconds", age, {"kind": clean(kind, 32)}
    values = {
        "state": int(verdict.state),
        "intercept_seconds": trend.intercept,
        "slope_ratio": trend.slope,
        "min_delay_seconds": limits.min_delay_time,
        "max_delay_seconds": limits.max_delay_time,
        "source_log_age_seconds": verdict.source_log_age,
        "relay_log_age_seconds": verdict.relay_log_age,
        "delay_seconds": sample.delay,
        "sql_delay_seconds": sample.sql_delay,
        "local_heartbeat_age_seconds": sample.local,
        "relay_log_bytes": sample.relay_log_space,
        "last_sample_timestamp_seconds": sample.t,
        "protected_seconds": protected_s(verdict),
    }
    for name, value in values.items():
        yield name, value, {}
    port = "" if target.socket and not target.host else str(target.port or 3306)
    where = {"host": host_of(target), "port": port, "channel": target.channel or ""}
    yield "info", 1, {**where, "server": clean(sample.server or "")}


def text(found: Sequence[Family]) -> str:
    """Families in Prometheus' text format."""
    lines: list[str] = []
    for family in found:
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        for labels, value in family.samples:
            inside = ",".join(f'{name}="{_escaped(label)}"' for name, label in labels.items())
            number = str(value) if isinstance(value, int) else repr(float(value))
            lines.append(f"{family.name}{{{inside}}} {number}" if inside else f"{family.name} {number}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def write_file(path: str, found: Sequence[Family]) -> None:
    """Replaces the file at once, so that a reader sees the old or the new one whole. Raises OSError."""
    folder = os.path.dirname(os.path.abspath(path))
    # The textfile collector reads *.prom alone, so it never sees the one that is being written.
    with NamedTemporaryFile("w", encoding="utf-8", dir=folder, prefix=".delayed_repl.", delete=False) as file:
        try:
            file.write(text(found))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def find(address: str) -> tuple[str, int]:
    """Host and port of an address to serve at. Raises ValueError where nothing can be served there."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise ValueError(f"prometheus-listen: {error}: {sys.executable} -m pip install prometheus_client") from None

    host, _, port = address.rpartition(":")
    try:
        socket.getaddrinfo(host.strip("[]"), int(port))
    except OSError as error:
        raise ValueError(f"prometheus-listen: {address}: {error.strerror}") from None
    return host.strip("[]"), int(port)


def serve(address: str, current: Callable[[], Sequence[Family]]) -> None:
    """Serves the current families as `/metrics` at `HOST:PORT` until the process ends, in threads of its own.

    Raises ValueError where that cannot be.
    """
    host, port = find(address)
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

    class Current(Collector):
        def describe(self) -> Iterable[Any]:
            """Without it, whoever asks for some alone (`?name[]=`) would get none."""
            return [Metric(PREFIX + name.removesuffix("_total"), text, _kind(name)) for name, text in _METRICS]

        def collect(self) -> Iterable[Any]:
            for family in current():
                metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
                for labels, value in family.samples:
                    metric.add_sample(family.name, labels, value)
                yield metric

    registry = CollectorRegistry()
    registry.register(Current())
    server: Any
    try:
        server, _ = start_http_server(port, host, registry)
    except OSError as error:
        raise ValueError(f"prometheus-listen: {address}: {error.strerror}") from None
    # Of one that connects and says nothing, no thread and no descriptor is kept for ever.
    server.RequestHandlerClass.timeout = SILENT_S
    server.handle_error = lambda *_: None
    threaded, close = server.process_request, server.shutdown_request
    callers: deque[Any] = deque()

    def answer(caller: Any, address: Any) -> None:
        callers.append(caller)
        if len(callers) > CALLERS:  # who drips is never silent
            with suppress(OSError, IndexError):
                callers.popleft().shutdown(socket.SHUT_RDWR)
        try:
            threaded(caller, address)
        except RuntimeError:
            # The machine has no thread left: one after the other, then.
            server.process_request_thread(caller, address)

    def end(caller: Any) -> None:
        with suppress(ValueError):
            callers.remove(caller)
        close(caller)

    server.process_request, server.shutdown_request = answer, end
