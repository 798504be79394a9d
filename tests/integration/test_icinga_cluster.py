"""Icinga 2 on many machines, with the files of examples/icinga2/distributed: a master, two satellites that share their
work, and an agent on the replica's host. The master is asked what it knows of checks that others executed.

The satellites' workers share a history in a database of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from .checking import CHECK, WORKER, make_account
from .icinga import API_ACCOUNT, CERTIFICATES, TELL, Icinga
from .monitoring import (
    HISTORY,
    LIMITS,
    PLUGIN_FOLDER,
    TOOL,
    USER,
    Site,
    Station,
    example,
    make_accounts,
    option_file,
    perfdata,
)
from .servers import Kit, Pair, wait_until
from .test_icinga import dsl, limits

pytestmark = [pytest.mark.monitoring, pytest.mark.long]

SATELLITES = ("satellite1", "satellite2")
NODES = ("master", *SATELLITES, "db7")
INTERVAL_S = 2.0
"""Of every check: in the examples it is a minute, or half of one."""
DISTRIBUTED = "icinga2/distributed"
ZONES = f"{DISTRIBUTED}/zones.d"
ORDERS = "delayed replication orders"
CUSTOMERS = "delayed replication customers"
SILENCE_S = 75.0
"""After so long without a word Icinga takes a connection for dead: 60 s, asked for every 10."""


def url(who: tuple[str, str]) -> str:
    name = "history" if who == CHECK else "history-worker"
    return f"mysql://{who[0]}@history/delayed_repl?defaults-file=/etc/check_delayed_repl/{name}.cnf"


class Cluster(NamedTuple):
    master: Icinga
    satellites: dict[str, Icinga]
    agent: Icinga
    started: float


def make_certificates(nodes: dict[str, Icinga]) -> None:
    """An authority on the master, and a certificate that it signs for every node."""
    master = nodes["master"].station
    each = (
        "icinga2 pki new-cert --cn $name --key $name.key --csr $name.csr"
        " && icinga2 pki sign-csr --csr $name.csr --cert $name.crt || exit 1"
    )
    master.run(
        "install -d -o nagios -g nagios /var/lib/icinga2/ca /tmp/pki && cd /tmp/pki && icinga2 pki new-ca"
        f" && for name in {' '.join(nodes)}; do {each}; done && cp /var/lib/icinga2/ca/ca.crt ."
    )
    made = master.fetch("/tmp/pki")
    for name, node in nodes.items():
        files = (f"{name}.key", f"{name}.crt", "ca.crt")
        node.station.put({f"{CERTIFICATES}/{file}": made[file] for file in files}, user=USER, mode=0o600)


def configure(nodes: dict[str, Icinga]) -> None:
    """The files of the examples, every machine's where it belongs, with names, limits and intervals changed."""
    zones = example(f"{DISTRIBUTED}/zones.conf", **{".example.com": ""})
    for name, node in nodes.items():
        station = node.station
        constants = station.read("/etc/icinga2/constants.conf")
        files = {
            "constants.conf": f'{constants}\nconst NodeName = "{name}"\n',
            "zones.conf": zones,
            "features-enabled/api.conf": example(f"{DISTRIBUTED}/features.conf"),
        }
        station.put({f"/etc/icinga2/{file}": text for file, text in files.items()})
        if name != "master":
            station.run("icinga2 feature disable notification")
    master = nodes["master"].station
    listener = {"accept_config = true": "", "accept_commands = true": ""}

    production = '\t\tmin_delay_time = "90m"\n\t\tmax_delay_time = "150m"\n'
    hosts = {
        production: "".join(f"\t\t{name} = {dsl(value)}\n" for name, value in limits().items()),
        "delay_check@history.example.com/delayed_repl": f"{CHECK[0]}@history/delayed_repl",
        'address = "db7.example.com"': 'address = "replica"',
        'address = "db8.example.com"': 'address = "replica"',
    }
    minutely = {"_interval = 1m": f"_interval = {INTERVAL_S:g}s"}
    halfminutely = {"_interval = 30s": f"_interval = {INTERVAL_S:g}s"}
    files = {
        "../features-enabled/api.conf": example(f"{DISTRIBUTED}/features.conf", **listener),
        "../conf.d/tests.conf": API_ACCOUNT + TELL,
        "global-templates/command.conf": example("icinga2/command.conf"),
        "global-templates/services.conf": example("icinga2/services.conf", **minutely),
        "global-templates/agents.conf": example(f"{ZONES}/global-templates/agents.conf", **halfminutely),
        "master/health.conf": example(f"{ZONES}/master/health.conf", **minutely),
        "dc1/hosts.conf": example(f"{ZONES}/dc1/hosts.conf", **minutely, **hosts),
    }
    master.put({os.path.normpath(f"/etc/icinga2/zones.d/{path}"): text for path, text in files.items()})


@pytest.fixture(scope="module")
def cluster(site: Site, line: Pair, kit: Kit) -> Iterator[Cluster]:
    line.settle()
    with ThreadPoolExecutor(5) as pool:
        keeping = pool.submit(kit.server, "mariadb", name="history")

        def station(name: str) -> Station:
            beside = line.replica.container if name == "db7" else None
            return site.station(line, name, api=name == "master", beside=beside)

        machines = dict(zip(NODES, pool.map(station, NODES), strict=True))
        keeper = keeping.result()
    make_accounts(line)
    for who, role in ((WORKER, "worker"), (CHECK, "check")):
        make_account(keeper, who, role, url(who), only="history")
    keeper_network = kit.client.networks.get(keeper.network.id)
    for name in SATELLITES:
        keeper_network.connect(machines[name].container)
        for who in (WORKER, CHECK):
            file = url(who).partition("defaults-file=")[2]
            machines[name].put({file: option_file(who)}, user=USER, mode=0o600)
        machines[name].worker("db8/customers", history=url(WORKER))
    nodes = {name: Icinga(machine) for name, machine in machines.items()}
    make_certificates(nodes)
    configure(nodes)
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(Icinga.start, nodes.values()))
    satellites = {name: nodes[name] for name in SATELLITES}
    yield Cluster(nodes["master"], satellites, nodes["db7"], time.monotonic())
    for machine in machines.values():
        machine.close()
    keeper.close()


def test_the_agent_executes_and_the_master_knows(cluster: Cluster) -> None:
    found = cluster.master.expect("db7", ORDERS, "OK", "DELAYED_REPL OK - Replication delay", 90)
    result = found["last_check_result"]
    assert result["check_source"] == "db7"
    assert found["zone"] == "dc1"
    command = result["command"]
    assert command[0] == f"{PLUGIN_FOLDER}/check_delayed_repl"
    assert command[command.index("--socket") + 1] == "/run/mysqld/mysqld.sock"
    pairs = dict(text.split("=", 1) for text in result["performance_data"])
    assert pairs["delay"].endswith("s;;6:16")
    # The history is the agent's own.
    exported = f"{TOOL} history export --history {HISTORY} --replica db7/orders"
    assert cluster.agent.station.run(exported, user=USER).output.count('"sample"') >= 1
    cluster.master.expect("db7", "agent", "OK", "", 30)
    cluster.master.expect("dc1", "satellites", "OK", "", 30)


def test_satellites_share_a_history_and_judge_the_same(cluster: Cluster) -> None:
    found = cluster.master.expect("db8", CUSTOMERS, "OK", "DELAYED_REPL OK - Replication delay", 60)
    assert found["last_check_result"]["check_source"] in SATELLITES
    options = f"--sampling worker --replica db8/customers --history '{url(CHECK)}' {LIMITS}"

    def judge(satellite: Icinga) -> list[str]:
        ran = satellite.station.run(f"{PLUGIN_FOLDER}/check_delayed_repl {options}", user=USER)
        return ran.output.splitlines()

    def agreed() -> list[str] | None:
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(judge, cluster.satellites.values())
        pairs = [perfdata(lines[0].partition(" | ")[2]) for lines in (one, other)]
        for pair in pairs:
            del pair["worker_age"], pair["source_log_age"], pair["relay_log_age"]  # how long ago, seen from now
        text = [lines[0].partition(" | ")[0] for lines in (one, other)]
        # Between the two a sample may have been added; then they are asked again.
        return one if text[0] == text[1] and pairs[0] == pairs[1] and one[1:] == other[1:] else None

    wait_until(agreed, 30, "both satellites judge the same samples alike")
    exported = f"{TOOL} history export --replica db8/customers --history '{url(CHECK)}'"
    samples = cluster.satellites["satellite1"].station.run(exported, user=USER).output.count('"sample"')
    time.sleep(4)
    after = cluster.satellites["satellite2"].station.run(exported, user=USER).output.count('"sample"')
    assert after - samples >= 5, "two workers take a sample a second each"


def test_an_agent_that_is_cut_off_is_told_of(cluster: Cluster, line: Pair, kit: Kit) -> None:
    cluster.master.expect("db7", "agent", "OK", "", 30)
    network = kit.client.networks.get(line.network.id)
    network.disconnect(cluster.agent.station.container)
    cut = time.monotonic()
    found = cluster.master.expect("db7", "agent", "CRITICAL", "is not connected", SILENCE_S + 2 * INTERVAL_S + 20)
    assert found["state_type"] == 1
    assert time.monotonic() - cut < SILENCE_S + 2 * INTERVAL_S + 20
    # What does not need the agent goes on.
    assert cluster.master.service("db8", CUSTOMERS)["state"] == 0
    network.connect(cluster.agent.station.container, aliases=["db7"])
    cluster.master.expect("db7", "agent", "OK", "", 60)
    again = cluster.master.executed("db7", ORDERS, time.time(), 60)
    assert again["last_check_result"]["check_source"] == "db7"


def test_a_lost_satellites_checks_move_to_the_other(cluster: Cluster) -> None:
    # Right after its start a satellite that is alone waits for the other.
    time.sleep(max(0.0, cluster.started + 62 - time.monotonic()))
    executing = cluster.master.service("db8", CUSTOMERS)["last_check_result"]["check_source"]
    (left,) = (name for name in SATELLITES if name != executing)
    lost = time.time()
    # The machine with all that runs on it: Icinga, the worker.
    cluster.satellites[executing].station.container.kill()
    found = cluster.master.executed("db8", CUSTOMERS, lost + 1, 60)
    took = time.time() - lost
    assert found["last_check_result"]["check_source"] == left
    assert found["state"] == 0, found["last_check_result"]["output"]
    assert took < 45
    # The history goes on, by the worker that is left.
    age = perfdata(" ".join(found["last_check_result"]["performance_data"]))["worker_age"]
    assert float(age.partition("s")[0]) < 6
    # The zone is still there, for the master and for the agent.
    cluster.master.expect("dc1", "satellites", "OK", "", 10)
    # Which the other satellite commands.
    cluster.master.executed("db7", ORDERS, lost + 5, 60)
