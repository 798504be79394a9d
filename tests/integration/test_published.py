"""A worker hands its verdicts to a real Nagios Core and a real Icinga 2, by the files of examples/.

A worker that is gone is CRITICAL by the monitor's own doing; a monitor that was away gets the newest results.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from .icinga import CERTIFICATES, TELL, Icinga
from .monitoring import USER, Publishing, Site, Station, example
from .servers import Pair
from .test_nagios import Nagios

pytestmark = pytest.mark.monitoring

SECRET = "not-a-real-one"
THOUSAND = 1000
PIPE = "/var/lib/nagios4/rw/nagios.cmd"


# --- Nagios Core


@pytest.fixture(scope="module")
def nagios(site: Site, line: Pair) -> Iterator[tuple[Nagios, Publishing]]:
    published = example("nagios/published.cfg", **{"freshness_threshold             180": "freshness_threshold 9"})
    names = 'object-host = "db8"\nobject-service = "Delayed replication published"'
    with site.watching(line, "nagios") as station:
        station.put({"/etc/nagios4/conf.d/published.cfg": published})
        yield Nagios(station), Publishing(station, f'nagios-command-file = "{PIPE}"', {"db8": names})


def test_nagios_is_told_at_each_change(nagios: tuple[Nagios, Publishing], line: Pair) -> None:
    made, _ = nagios
    service = "Delayed replication published"
    found = made.expect("db8", "OK", "DELAYED_REPL OK - Replication delay", 60, service)
    assert found["check_type"] == "1", "not passive"
    assert found["performance_data"].startswith("delay=")
    assert r"\ntrend: " in found["long_plugin_output"]
    line.replica.stop_sql()
    made.expect("db8", "CRITICAL", "[CRITICAL sql-stopped]", 15, service)
    line.replica.start_sql()
    made.expect("db8", "OK", "DELAYED_REPL OK", 60, service)


def test_nagios_that_does_not_read_gets_the_newest_results_once_it_is_back(
    nagios: tuple[Nagios, Publishing], line: Pair
) -> None:
    made, worker = nagios
    service = "Delayed replication published"
    made.expect("db8", "OK", "", 60, service)
    made.station.run("pkill nagios4 && while pgrep -x nagios4; do sleep 0.1; done")
    worker.expect("the newest result of each replica is kept until it is back")
    line.replica.stop_sql()
    time.sleep(4)  # results that nobody takes
    made.station.spawn("nagios4 /etc/nagios4/nagios.cfg", "/var/log/nagios4/started.log", user=USER)
    made.expect("db8", "CRITICAL", "[CRITICAL sql-stopped]", 60, service)
    worker.expect("takes results again")
    line.replica.start_sql()
    made.expect("db8", "OK", "", 60, service)


def test_a_worker_that_is_gone_is_critical_in_nagios(nagios: tuple[Nagios, Publishing]) -> None:
    made, worker = nagios
    service = "Delayed replication published"
    made.expect("db8", "OK", "", 60, service)
    worker.kill()
    found = made.expect("db8", "CRITICAL", "[CRITICAL worker-missing]", 60, service)
    assert found["check_type"] == "0", "not Nagios' own check"
    worker.start()
    made.expect("db8", "OK", "", 60, service)


# --- Icinga 2


@pytest.fixture(autouse=True)
def running(line: Pair) -> Iterator[None]:
    """No test leaves its fault to the next one."""
    yield
    line.replica.start_all()


@pytest.fixture(scope="module")
def icinga(site: Site, line: Pair) -> Iterator[tuple[Icinga, Publishing]]:
    sooner = {"check_interval = 3m": "check_interval = 9s", "retry_interval = 1m": "retry_interval = 2s"}
    published = example("icinga2/published.conf", **sooner, **{"change this": SECRET})
    files = {"command.conf": example("icinga2/command.conf"), "published.conf": published, "tests.conf": TELL + HOSTS}
    with site.watching(line, "icinga", api=True) as station:
        station.put({"/etc/check_delayed_repl/icinga.secret": f"{SECRET}\n"}, user=USER, mode=0o600)
        made = Icinga(station).start_alone(files)
        yield made, Publishing(station, to_icinga(station), {"db7/a": "", "stranger": ""})


HOSTS = f"""
object Host "db7" {{
  check_command = "dummy"
  vars.published_replicas = [ "db7/a" ]
}}
object Host "fleet" {{
  check_command = "dummy"
  vars.thousand = []
  for (number in range({THOUSAND})) {{ vars.thousand.add("n" + number) }}
}}
apply Service "thousand " for (name in host.vars.thousand) {{
  import "delayed-replication-published"
  enable_active_checks = false
  assign where host.vars.thousand
}}
"""


def to_icinga(station: Station) -> str:
    return (
        f'icinga2-url = ["https://{station.name}:1", "https://{station.name}:5665"]\nicinga2-user = "delayed-repl"\n'
        f'icinga2-password-file = "icinga.secret"\nicinga2-ca = "{CERTIFICATES}/ca.crt"\nobject-host = "db7"'
    )


def test_icinga_is_told_at_each_change(icinga: tuple[Icinga, Publishing], line: Pair) -> None:
    """The address that does not answer, and the replica that Icinga has no object for, hold nobody up."""
    made, _ = icinga
    service = "delayed replication db7/a"
    found = made.expect("db7", service, "OK", "DELAYED_REPL OK - Replication delay", 60)
    result = found["last_check_result"]
    assert result["active"] is False
    assert result["ttl"] == 9
    assert result["check_source"]
    assert result["performance_data"][0].startswith("delay=")
    assert "|" not in result["output"]
    line.replica.stop_sql()
    made.expect("db7", service, "CRITICAL", "[CRITICAL sql-stopped]", 15)
    line.replica.start_sql()
    made.expect("db7", service, "OK", "DELAYED_REPL OK", 60)


def test_icinga_that_was_away_gets_the_newest_result(icinga: tuple[Icinga, Publishing], line: Pair) -> None:
    made, worker = icinga
    service = "delayed replication db7/a"
    made.expect("db7", service, "OK", "", 60)
    made.kill()
    worker.expect("the newest result of each replica is kept until it is back")
    line.replica.stop_sql()
    made.start()
    made.expect("db7", service, "CRITICAL", "[CRITICAL sql-stopped]", 90)
    # Icinga itself may have found it so first, since nobody had told it anything for so long.
    made.answered(
        lambda: made.service("db7", service)["last_check_result"]["active"] is False, 90, "the worker's result is there"
    )
    line.replica.start_sql()
    made.expect("db7", service, "OK", "", 60)


def test_a_worker_that_is_gone_is_critical_in_icinga(icinga: tuple[Icinga, Publishing]) -> None:
    made, worker = icinga
    service = "delayed replication db7/a"
    made.expect("db7", service, "OK", "", 60)
    worker.kill()
    found = made.expect("db7", service, "CRITICAL", "[CRITICAL worker-missing]", 60)
    assert found["last_check_result"]["active"] is True
    worker.start()
    made.expect("db7", service, "OK", "", 60)


@pytest.mark.long
def test_a_thousand_services_have_their_newest_results_after_a_restart(
    icinga: tuple[Icinga, Publishing], line: Pair
) -> None:
    made, _ = icinga
    line.replica.sql(f"SET GLOBAL max_connections = {THOUSAND + 100}")
    publish = to_icinga(made.station).replace("db7", "fleet").replace(":1", ":5665", 1)
    publish += '\nobject-service = "thousand {replica}"'
    replicas = {f"n{number}": "interval = 10\nmax-last-seen = 60" for number in range(THOUSAND)}
    worker = Publishing(made.station, publish, replicas, "thousand", "/var/lib/check_delayed_repl/thousand.db", 60)

    def states() -> dict[int, int]:
        """How many services are in which state by a passive result that is good for three publish-intervals."""
        found = made.get("objects/services", filter='host.name == "fleet"', attrs=["state", "last_check_result"])
        results = [(each["attrs"]["state"], each["attrs"]["last_check_result"]) for each in found]
        return Counter(state for state, result in results if result and not result["active"] and result["ttl"] == 180)

    try:
        made.answered(lambda: states().get(0) == THOUSAND or None, 90, "all services are OK")
        made.kill()
        line.replica.stop_sql()
        worker.expect("the newest result of each replica is kept until it is back")
        time.sleep(12)  # every replica is found to be stopped meanwhile
        made.start()
        made.answered(lambda: states().get(2) == THOUSAND or None, 120, "all services are CRITICAL")
    finally:
        worker.kill()
