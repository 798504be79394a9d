"""Nagios Core runs the check with the files of examples/nagios, and what it does is read from its own files: the state
from status.dat, who was told from what its notification command wrote.

Three hosts stand for the one replica: db7 is sampled inline, db8 judges what the worker saw, db9 is told its results.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from . import icinga
from .monitoring import HISTORY, LABELS, PLUGIN_FOLDER, TOOL, USER, Site, Station, example, perfdata
from .servers import Pair, wait_until

pytestmark = pytest.mark.monitoring

SERVICE = "Delayed replication"
WORKER = ("localhost", "Delayed replication worker")
TOLD = "/var/lib/nagios4/told.log"

CONFIG = {
    "interval_length": "1",
    "status_update_interval": "1",
    "check_result_reaper_frequency": "1",
    "service_freshness_check_interval": "1",
    "additional_freshness_latency": "1",
    "use_syslog": "0",
    "enable_predictive_host_dependency_checks": "0",
}
"""A unit of time is a second, and files are written at once."""

DAYS = "\n    ".join(f"{day} 00:00-24:00" for day in icinga.DAYS)
OWN = rf"""
define host {{
    host_name               localhost
    address                 127.0.0.1
    check_command           check-host-alive
    check_interval          5
    max_check_attempts      3
    check_period            24x7
    notification_period     24x7
    contact_groups          delayed-replication-oncall
}}
define timeperiod {{
    timeperiod_name 24x7
    alias           always
    {DAYS}
}}
define command {{
    command_name    notify-service-by-email
    command_line    /bin/echo "$CONTACTNAME$|$NOTIFICATIONTYPE$|$HOSTNAME$|$SERVICEDESC$|$SERVICESTATE$" >> {TOLD}
}}
define command {{
    command_name    notify-host-by-email
    command_line    /bin/echo "$CONTACTNAME$|$NOTIFICATIONTYPE$|$HOSTNAME$||$HOSTSTATE$" >> {TOLD}
}}
define command {{
    command_name    check-host-alive
    command_line    $USER1$/check_dummy 0 alive
}}
"""


class Nagios:
    def __init__(self, station: Station) -> None:
        self.station = station
        folder = "/etc/nagios4/conf.d"
        changed: dict[str, dict[str, str]] = {
            "templates": {"freshness_threshold             180": "freshness_threshold 8"},
            "replicas": {"db7.example.com": "replica", "db8.example.com": "replica"},
        }
        files = {
            name: example(f"nagios/{name}.cfg", **changed.get(name, {}))
            for name in ("commands", "contacts", "templates", "replicas")
        }
        station.put({f"{folder}/{name}.cfg": text for name, text in {**files, "own": OWN}.items()})
        main = station.read("/etc/nagios4/nagios.cfg")
        main = re.sub(r"(?m)^cfg_(file|dir)=.*\n", "", main) + f"cfg_dir={folder}\n"
        for name, value in CONFIG.items():
            assert re.search(rf"(?m)^{name}=", main), name
            main = re.sub(rf"(?m)^{name}=.*", f"{name}={value}", main)
        station.put({"/etc/nagios4/nagios.cfg": main})
        station.run(
            "install -d -o nagios -g nagios /var/run/nagios4 /var/lib/nagios4/rw /var/lib/nagios4/spool/checkresults"
        )
        checked = station.run("nagios4 -v /etc/nagios4/nagios.cfg", user=USER, check=False).output
        assert "Total Warnings: 0" in checked, checked
        assert "Total Errors:   0" in checked, checked
        station.spawn("nagios4 /etc/nagios4/nagios.cfg", "/var/log/nagios4/started.log", user=USER)

    def status(self, host: str, service: str = SERVICE) -> dict[str, str]:
        for block in re.findall(
            r"(?ms)^servicestatus \{\n(.*?)^\t\}", self.station.read("/var/lib/nagios4/status.dat")
        ):
            found = dict(line.strip().split("=", 1) for line in block.splitlines() if "=" in line)
            if (found["host_name"], found["service_description"]) == (host, service):
                return found
        return {}

    def all_told(self) -> list[tuple[str, ...]]:
        """Everybody who was told anything: contact, kind, host, service and state."""
        return [tuple(line.split("|")) for line in self.station.read(TOLD).splitlines()]

    def told(self) -> list[tuple[str, ...]]:
        """The same, without the passive service, which nobody has told anything at first."""
        return [told for told in self.all_told() if told[2] != "db9"]

    def pages(self, host: str, service: str = SERVICE) -> list[tuple[str, str, str]]:
        return [(told[0], told[1], told[4]) for told in self.all_told() if told[2:4] == (host, service)]

    def expect(self, host: str, state: str, text: str, within_s: float, service: str = SERVICE) -> dict[str, str]:
        """Wait until a service has this hard state, with this in its output, long or short."""
        code = str(("OK", "WARNING", "CRITICAL", "UNKNOWN").index(state))

        def there() -> dict[str, str] | None:
            found = self.status(host, service)
            right = found.get("current_state") == code and found["has_been_checked"] == "1"
            whole = found.get("plugin_output", "") + found.get("long_plugin_output", "")
            return found if right and text in whole else None

        try:
            found = wait_until(there, within_s, f"{host}: {state} {text}", interval_s=0.5)
        except AssertionError as error:
            log = self.station.read("/var/log/nagios4/nagios.log")
            raise AssertionError(f"{error}\n{self.status(host, service)}\n{log[-6000:]}") from None
        assert found is not None
        assert found["state_type"] == "1", "a soft state"
        return found

    @contextmanager
    def only_states(self, *states: str) -> Iterator[None]:
        """Meanwhile, by Nagios' own log, the replica's services enter no other states."""
        log = "/var/log/nagios4/nagios.log"
        before = len(self.station.read(log))
        yield
        entered = re.findall(r"SERVICE ALERT: db[78];[^;]*;([A-Z]+);", self.station.read(log)[before:])
        assert set(entered) <= set(states), self.station.read(log)[before:]


@pytest.fixture(scope="module")
def nagios(site: Site, line: Pair) -> Iterator[Nagios]:
    with site.watching(line, "nagios") as station:
        station.worker("db8")
        yield Nagios(station)


def job(nagios: Nagios, action: str) -> str:
    return nagios.station.run(f"{TOOL} job {action} --history {HISTORY} 2>&1", user=USER).output.strip()


@pytest.fixture(autouse=True)
def calm(nagios: Nagios, line: Pair) -> None:
    """Whatever a test before has left: the line is healthy and no job is running."""
    # Healing the pair would end the sessions of checks that look at it, and drop their accounts.
    if line.trouble():
        line.replica.start_all()
        line.wait_healthy(40)
    for host in ("db7", "db8"):
        for each in job(nagios, f"list --replica {host} --output json").splitlines():
            if '"status": "running"' in each:
                job(nagios, f"finish {json.loads(each)['id']} --replica {host}")
    if not nagios.station.run("pgrep -f '/[d]elayed-repl worker'", check=False).output:
        nagios.station.worker("db8")


def test_healthy_is_ok_and_nobody_is_told(nagios: Nagios) -> None:
    for host in ("db7", "db8"):
        found = nagios.expect(host, "OK", "DELAYED_REPL OK - Replication delay", 60)
        assert tuple(perfdata(found["performance_data"])) == LABELS
        assert "[OK in-range]" in found["long_plugin_output"]
    assert perfdata(nagios.status("db8")["performance_data"])["worker_age"] != "U"
    nagios.expect(*WORKER[:1], "OK", "PROCS OK", 10, WORKER[1])
    assert nagios.told() == []


def test_a_backup_pages_nobody(nagios: Nagios, line: Pair) -> None:
    for host in ("db7", "db8"):
        nagios.expect(host, "OK", "", 20)
    with nagios.only_states("OK", "WARNING"):
        jobs = {host: job(nagios, f"start --replica {host} --kind backup") for host in ("db7", "db8")}
        line.replica.stop_sql()
        for host in jobs:
            nagios.expect(host, "WARNING", "[WARNING sql-stopped]", 10)
        wait_until(lambda: (line.seen_delay() or 0) > 17.5, 20, "the line is out of bounds")
        for host in jobs:
            nagios.expect(host, "WARNING", "Active backup: running", 10)
        line.replica.start_sql()  # as a backup does before it ends
        wait_until(lambda: line.replica.threads() == ("Yes", "Yes"), 10, "both threads run")
        for host, name in jobs.items():
            job(nagios, f"finish {name} --replica {host}")
        for host in jobs:
            nagios.expect(host, "OK", "", 40)
    assert nagios.told() == []


def test_an_overrun_pages_once_and_its_end_is_told_once(nagios: Nagios, line: Pair) -> None:
    for host in ("db7", "db8"):
        nagios.expect(host, "OK", "", 20)
    jobs = {host: job(nagios, f"start --replica {host} --kind backup") for host in ("db7", "db8")}
    line.replica.stop_sql()
    for host in jobs:
        nagios.expect(host, "WARNING", "Active backup", 10)
    assert nagios.told() == []
    for host in jobs:
        nagios.expect(host, "CRITICAL", "[CRITICAL job-overrun]", 45)
    wait_until(lambda: nagios.pages("db7") and nagios.pages("db8"), 10, "somebody is called")
    time.sleep(4)  # more checks that say so
    page = ("dba-oncall", "PROBLEM", "CRITICAL")
    assert nagios.pages("db7") == nagios.pages("db8") == [page]
    line.replica.start_sql()
    for host, name in jobs.items():
        job(nagios, f"finish {name} --replica {host}")
    for host in jobs:
        nagios.expect(host, "OK", "", 60)
    recovery = ("dba-oncall", "RECOVERY", "OK")
    wait_until(lambda: len(nagios.told()) >= 4, 10, "the recovery is told")
    time.sleep(3)
    assert nagios.pages("db7") == nagios.pages("db8") == [page, recovery]


def test_a_dead_worker_is_one_call_not_one_for_each_replica(nagios: Nagios) -> None:
    nagios.expect("db8", "OK", "", 20)
    before = nagios.told()
    nagios.station.kill_worker()
    nagios.expect(*WORKER[:1], "CRITICAL", "PROCS CRITICAL", 10, WORKER[1])
    nagios.expect("db8", "CRITICAL", "[CRITICAL worker-missing]", 20)
    assert nagios.status("db7")["current_state"] == "0", "it does without the worker"
    time.sleep(3)
    page = ("dba-oncall", "PROBLEM", *WORKER, "CRITICAL")
    assert nagios.told() == [*before, page]
    nagios.station.worker("db8")
    nagios.expect("db8", "OK", "", 20)
    recovery = ("dba-oncall", "RECOVERY", *WORKER, "OK")
    wait_until(lambda: recovery in nagios.told()[len(before) :], 30, "its recovery is told")


def test_a_passive_result_arrives_whole_and_silence_is_a_problem(nagios: Nagios) -> None:
    station = nagios.station
    station.put({"/usr/local/bin/submit-passive": example("nagios/submit-passive")}, mode=0o755)
    command = f"{PLUGIN_FOLDER}/check_delayed_repl --replica db9"
    submit = f"submit-passive db9 '{SERVICE}' -- {command}"
    wait_until(lambda: station.run(submit, user=USER, check=False).status == 0, 30, "the check is OK")
    found = nagios.expect("db9", "OK", "DELAYED_REPL OK - Replication delay", 10)
    assert tuple(perfdata(found["performance_data"])) == LABELS
    assert found["long_plugin_output"].startswith("[OK in-range] Replication delay")
    assert r"\ntrend: " in found["long_plugin_output"]
    assert found["check_type"] == "1", "not passive"

    before = len(nagios.pages("db9"))
    found = nagios.expect("db9", "CRITICAL", "No passive result has arrived in time", 30)
    wait_until(lambda: len(nagios.pages("db9")) > before, 10, "somebody is called")
    assert nagios.pages("db9")[-1] == ("dba-oncall", "PROBLEM", "CRITICAL")

    failed = station.run("NAGIOS_COMMAND_FILE=/nowhere submit-passive db9 x -- true", check=False)
    assert failed.status == 3
    assert failed.output == "submit-passive: /nowhere is no pipe: does Nagios run, and accept external commands?\n"
    assert station.run("submit-passive db9", check=False).status == 3
