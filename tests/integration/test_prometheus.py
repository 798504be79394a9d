"""A real Prometheus takes the metrics of a worker, from its own port and from the node exporter's textfile collector,
with the files of examples/prometheus. Every alert fires on its fault on a real replica, and only then."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .monitoring import EXAMPLES, HISTORY, TOOL, USER, Publishing, Site, Station, example
from .servers import Pair, wait_until

pytestmark = pytest.mark.monitoring

TEXTFILES = "/var/lib/prometheus/node-exporter"
WITHIN_S = 60.0
FASTER = {
    "for: 1h": "for: 3s",
    "for: 5m": "for: 3s",
    "for: 1m": "for: 3s",
    "for: 10m": "for: 3s",
    "> 120": "> 10",
    "[5m]": "[10s]",
    "[10m]": "[10s]",
}
"""A unit of time is a second."""


class Prometheus:
    """Prometheus at work beside a worker."""

    def __init__(self, station: Station) -> None:
        self.station = station
        station.run(f"chown {USER} {TEXTFILES}; mkfifo -m 666 /tmp/nagios.cmd")
        # Somebody reads what goes to Nagios, until a test ends that.
        station.spawn("sh -c 'exec cat <>/tmp/nagios.cmd'", "/tmp/nagios.log")
        station.spawn("prometheus-node-exporter --web.listen-address=127.0.0.1:9100", "/tmp/exporter.log")
        publish = (
            f'prometheus-listen = "127.0.0.1:9306"\nprometheus-file = "{TEXTFILES}/delayed_repl.prom"\n'
            'nagios-command-file = "/tmp/nagios.cmd"'
        )
        self.worker = Publishing(station, publish, {"db7": ""})

    def take_from(self, job: str) -> None:
        """Prometheus with one of the example's two jobs, and nothing that it knew before."""
        scrape = example("prometheus/scrape.yml", **{"_interval: 15s": "_interval: 1s"})
        head, _, jobs = scrape.partition("scrape_configs:\n")
        (chosen,) = [text for text in re.split(r"(?m)^(?=  - job_name)", jobs) if f"job_name: {job}\n" in text]
        files = {
            "/tmp/prometheus/prometheus.yml": f"{head}scrape_configs:\n{chosen}",
            "/tmp/prometheus/alerts.yml": example("prometheus/alerts.yml", **FASTER),
        }
        self.station.put(files)
        self.station.run("pkill -x prometheus && while pgrep -x prometheus; do sleep 0.1; done; rm -rf /tmp/tsdb; true")
        command = "prometheus --config.file=/tmp/prometheus/prometheus.yml --storage.tsdb.path=/tmp/tsdb"
        self.station.spawn(f"{command} --web.listen-address=127.0.0.1:9090", "/tmp/prometheus.log")
        self.wait(lambda: self.ask("delayed_repl_state"), "the metrics are there")

    def ask(self, query: str) -> list[dict[str, Any]]:
        command = f"promtool query instant -o json http://127.0.0.1:9090 '{query}'"
        ran = self.station.run(command, check=False)
        found: list[dict[str, Any]] = json.loads(ran.output) if ran.status == 0 else []
        return found

    def firing(self) -> set[str]:
        return {found["metric"]["alertname"] for found in self.ask('ALERTS{alertstate="firing"}')}

    def wait(self, true: Any, what: str) -> None:
        try:
            wait_until(true, WITHIN_S, what, interval_s=0.5)
        except AssertionError as error:
            said = {name: self.station.read(f"/tmp/{name}.log")[-1500:] for name in ("config", "prometheus")}
            alerts = self.ask("ALERTS")
            raise AssertionError(f"{error}\nalerts: {alerts}\n{said}") from None

    def expect(self, *alerts: str) -> None:
        """Wait until these alerts fire, and no others."""
        self.wait(lambda: self.firing() == set(alerts), f"firing: {', '.join(alerts) or 'none'}")


@pytest.fixture(scope="module")
def prometheus(site: Site, line: Pair) -> Iterator[Prometheus]:
    with site.watching(line, "prometheus") as station:
        made = Prometheus(station)
        made.take_from("delayed-repl")
        yield made
        line.replica.start_all()


def test_the_metrics_are_well_formed(prometheus: Prometheus) -> None:
    run = prometheus.station.run
    run(f"promtool check metrics <{TEXTFILES}/delayed_repl.prom")
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9306/metrics').read().decode(), end='')"
    run(f'/opt/check_delayed_repl/bin/python -c "{fetch}" | promtool check metrics')
    rules = (Path(__file__).parents[1] / "prometheus" / "alerts_test.yml").read_text()
    prometheus.station.put({"/tmp/rules/alerts.yml": example("prometheus/alerts.yml"), "/tmp/rules/test.yml": rules})
    run("cd /tmp/rules && promtool test rules test.yml")
    prometheus.station.put({"/tmp/rules/scrape.yml": example("prometheus/scrape.yml")})
    run("cd /tmp/rules && promtool check config scrape.yml")


def test_a_stopped_replica_and_a_job(prometheus: Prometheus, line: Pair) -> None:
    prometheus.expect()
    line.replica.stop_sql()
    prometheus.expect("DelayedReplicaCritical")
    (found,) = prometheus.ask('delayed_repl_condition{condition="sql-stopped"}')
    assert found["metric"]["replica"] == "db7"
    line.replica.start_sql()
    prometheus.expect()
    job = f"{TOOL} job {{}} --history {HISTORY} --replica db7"
    number = prometheus.station.run(job.format("start --kind backup"), user=USER).output.strip()
    prometheus.expect("DelayedReplicaWarning")
    every_query_of_the_dashboard_is_answered(prometheus)
    prometheus.station.run(job.format(f"finish {number}"), user=USER)
    prometheus.expect()


def every_query_of_the_dashboard_is_answered(prometheus: Prometheus) -> None:
    dashboard = json.loads((EXAMPLES / "grafana" / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(queries) > 20
    for query in queries:
        assert prometheus.ask(query.replace("$replica", "db7").replace("[5m]", "[10s]")), query
    (variable,) = [each for each in dashboard["templating"]["list"] if each["type"] == "query"]
    assert variable["query"]["query"] == "label_values(delayed_repl_state, replica)"


def test_a_history_that_is_locked_and_a_nagios_that_is_gone(prometheus: Prometheus) -> None:
    prometheus.expect()
    lock = f"import sqlite3, time; c = sqlite3.connect('{HISTORY}'); c.execute('BEGIN EXCLUSIVE'); time.sleep(3600)"
    prometheus.station.spawn(f'/opt/check_delayed_repl/bin/python -c "{lock}"', "/tmp/lock.log", user=USER)
    prometheus.wait(
        lambda: prometheus.firing() >= {"DelayedReplHistoryErrors", "DelayedReplicaCritical"}, "the history is told"
    )
    assert prometheus.ask('delayed_repl_condition{condition="history-unavailable"}')
    prometheus.station.run("pkill -f 'BEGIN EXCLUSIV[E]'")
    prometheus.expect()
    prometheus.station.run("pkill -x cat")
    prometheus.expect("DelayedReplPublishErrors")
    prometheus.station.spawn("sh -c 'exec cat <>/tmp/nagios.cmd'", "/tmp/nagios.log")
    prometheus.expect()


def test_a_worker_that_is_gone(prometheus: Prometheus) -> None:
    prometheus.expect()
    prometheus.station.kill_worker()
    prometheus.expect("DelayedReplWorkerMissing")
    # The node exporter still has the file: there, the age of the newest sample tells.
    prometheus.take_from("node")
    prometheus.expect("DelayedReplicaNotSampled")
    prometheus.worker.start()
    prometheus.expect()
