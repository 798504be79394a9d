"""A worker that samples, judges and publishes a fleet: to a textfile and to a real Icinga 2, beside check processes."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from tests.integration.icinga import CERTIFICATES, Icinga
from tests.integration.monitoring import PLUGIN, TOOL, USER, Publishing, Site, Station, example, make_accounts
from tests.integration.pair import Pair
from tests.integration.servers import Kit

from .measure import promise, say, table

SIZES = (10, 100, 1000, 5000)
CHIEF = 1000
"""The size that something is promised of."""
INTERVAL_S = 10
PUBLISH_S = 60
WARM_UP_S = 40
"""Every replica is connected to, sampled and published within that."""
HUNG = 10
"""One of so many replicas accepts connections and never says a word."""
CHECKS = 60
"""Check processes that are measured."""
SECRET = "not-a-real-one"

HANGS = '\nhost = "127.0.0.1"\nport = 3399'
SILENT = """
import collections, socket
server = socket.create_server(("127.0.0.1", 3399), backlog=4096)
kept = collections.deque(maxlen=2000)
while True:
    kept.append(server.accept()[0])
"""
LATENESS = """
import collections, json, sqlite3, sys
history, since = sys.argv[1], float(sys.argv[2])
times = collections.defaultdict(list)
rows = sqlite3.connect(history).execute("SELECT replica, t, error FROM sample WHERE t >= ?", (since,))
count = 0
for replica, t, error in rows:
    count += 1
    if error is None:
        times[replica].append(t)
late = []
for found in times.values():
    phases = [(t - found[0] + 5) % 10 - 5 for t in found]
    late += [phase - min(phases) for phase in phases]
late.sort()
print(json.dumps({"samples": count, "p99": late[int(len(late) * 0.99)] if late else 0}))
"""
MEASURED = """
import json, resource, subprocess, sys
for argv in json.load(sys.stdin):
    subprocess.run(argv, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024}))
"""
OBJECTS = f"""
object Host "fleet" {{
  check_command = "dummy"
  vars.names = []
  for (number in range({max(SIZES)})) {{ vars.names.add("n" + number) }}
}}
apply Service "fleet " for (name in host.vars.names) {{
  import "delayed-replication-published"
  enable_active_checks = false
  assign where host.vars.names
}}
"""


class Cost(NamedTuple):
    """What a worker used while it was watched."""

    replicas: int
    share: float
    """Of one core."""
    samples: int
    taken: float
    """Samples ÷ those that were due."""
    p99_s: float
    """How much later than due a sample of a replica that answers was stored with its values."""
    mib: float
    delivered: int
    """Services that have a result of the worker's."""


def fleet(kit: Kit, pair: Pair, minutes: float) -> None:
    """Workers of every size in turn, then check processes and `status` on the history of the last one."""
    make_accounts(pair)
    pair.replica.sql(f"SET GLOBAL max_connections = {max(SIZES) + 200}")
    site = Site(kit, kit.folder())
    station = site.station(pair, "fleet", api=True)
    icinga = started_icinga(station)
    station.put({"/tmp/silent.py": SILENT, "/tmp/lateness.py": LATENESS, "/tmp/measured.py": MEASURED})
    station.spawn("python3 /tmp/silent.py", "/tmp/silent.log")
    costs = [watched(station, icinga, size, minutes) for size in SIZES]
    table(
        ("replicas", "of one core", "CPU ms a sample", "p99 late, s", "MiB", "KiB a replica", "services in Icinga"),
        (
            [
                f"{each.replicas:,}",
                f"{each.share:.3f}",
                f"{1000 * each.share * 60 * minutes / max(1, each.samples):.2f}",
                f"{each.p99_s:.2f}",
                f"{each.mib:.0f}",
                f"{1024 * (each.mib - costs[0].mib) / max(1, each.replicas - costs[0].replicas):.0f}",
                f"{each.delivered:,}",
            ]
            for each in costs
        ),
    )
    chief, last = next(each for each in costs if each.replicas == CHIEF), costs[-1]
    history = history_of(last.replicas)
    judging = [PLUGIN, "--sampling", "worker", "--history", history, "--replica"]
    one = measured(station, *([*judging, f"n{number}"] for number in range(1, 1 + CHECKS)))
    status = measured(station, [TOOL, "status", "--config", f"/etc/check_delayed_repl/{name_of(last.replicas)}.toml"])
    checks = CHIEF * one["cpu_s"] / CHECKS / 60
    head = (f"{CHIEF:,} replicas judged once a minute", "of one core")
    table(head, [["by check processes", f"{checks:.3f}"], ["by the worker, which samples too", f"{chief.share:.3f}"]])
    table(
        (f"delayed-repl status of {last.replicas:,}", ""),
        [["CPU s", f"{status['cpu_s']:.2f}"], ["MiB", f"{status['mib']:.0f}"]],
    )
    promise("of one core, for 1,000 replicas sampled, judged and published", chief.share, most=0.25)
    promise("samples that were taken ÷ those that were due", chief.taken, least=0.98)
    promise("seconds late, of 99 samples in 100, a tenth of the servers hung", chief.p99_s, most=1)
    promise("services that have a result ÷ replicas", chief.delivered / CHIEF, least=1)
    proportion = (last.share / last.replicas) / (chief.share / chief.replicas)
    promise(f"cost of a replica, of {last.replicas:,} ÷ of {CHIEF:,}", proportion, most=1.25)
    site.close()


def started_icinga(station: Station) -> Icinga:
    published = example("icinga2/published.conf", **{"change this": SECRET})
    station.put({"/etc/check_delayed_repl/icinga.secret": f"{SECRET}\n"}, user=USER, mode=0o600)
    files = {"command.conf": example("icinga2/command.conf"), "published.conf": published, "fleet.conf": OBJECTS}
    return Icinga(station).start_alone(files)


def name_of(size: int) -> str:
    return f"fleet{size}"


def history_of(size: int) -> str:
    return f"/var/lib/check_delayed_repl/{name_of(size)}.db"


def watched(station: Station, icinga: Icinga, size: int, minutes: float) -> Cost:
    """A worker of so many replicas, of which a tenth hangs."""
    say(f"a worker of {size:,} replicas for {minutes:g} minutes")
    publish = (
        f'prometheus-file = "/tmp/{name_of(size)}.prom"\nicinga2-url = ["https://{station.name}:5665"]\n'
        f'icinga2-user = "delayed-repl"\nicinga2-password-file = "icinga.secret"\n'
        f'icinga2-ca = "{CERTIFICATES}/ca.crt"\nobject-host = "fleet"\nobject-service = "fleet {{replica}}"'
    )
    every = f"interval = {INTERVAL_S}\nmax-last-seen = 60"
    replicas = {f"n{number}": every + (HANGS if number % HUNG == 0 else "") for number in range(size)}
    began = time.time()
    worker = Publishing(station, publish, replicas, name_of(size), history_of(size), PUBLISH_S)
    time.sleep(WARM_UP_S)
    pid = station.run(f"pgrep -f '[w]orker --config {worker.config}' | head -1").output.strip()
    before, since = used(station, pid)[0], time.time()
    time.sleep(60 * minutes)
    (cpu, mib), took = used(station, pid), time.time() - since
    worker.kill()
    ran = station.run(f"python3 /tmp/lateness.py {history_of(size)} {since}").output
    found = json.loads(ran)
    services = icinga.get("objects/services", filter='host.name == "fleet"', attrs=["last_check"])
    return Cost(
        size,
        (cpu - before) / took,
        found["samples"],
        found["samples"] / (size * took / INTERVAL_S),
        found["p99"],
        mib,
        sum(each["attrs"]["last_check"] > began for each in services),
    )


def used(station: Station, pid: str) -> tuple[float, float]:
    """CPU seconds of a process so far, and the most memory that it had, in MiB."""
    stat, _, status = station.run(f"cat /proc/{pid}/stat; echo; cat /proc/{pid}/status").output.partition("\n")
    ticks = stat.rpartition(")")[2].split()
    hertz = int(station.run("getconf CLK_TCK").output)
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(ticks[11]) + int(ticks[12])) / hertz, int(peak.split()[1]) / 1024


def measured(station: Station, *commands: list[str]) -> dict[str, float]:
    """CPU seconds of all these commands together, and the memory of the greatest."""
    station.put({"/tmp/commands.json": json.dumps(commands)})
    found: dict[str, float] = json.loads(station.run("python3 /tmp/measured.py </tmp/commands.json", user=USER).output)
    return found
