"""How many checks a satellite executes: Icinga 2's own scheduler, and many replicas that a worker looks at.

    python -m tests.bench.capacity [SERVICES [INTERVAL [SECONDS]]]      (from the repository's root)

Needs a Docker engine and the images that tests/run makes. Prints checks a second, how late they were, and the CPU time
that they took: one real replica, watched under many names. The machine is one container; what its processes use is
counted by its control group, and the worker's part by the kernel's account of its process.
"""

from __future__ import annotations

import sys
import time

from tests.integration.icinga import Icinga
from tests.integration.monitoring import Site, Station, example, make_accounts
from tests.integration.servers import Kit, wait_until

TICKS_A_SECOND = 100


def worker_s(station: Station) -> float:
    """CPU seconds of the worker so far."""
    text = station.run("cat /proc/$(pgrep -of '[d]elayed-repl worker')/stat").output
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def machine_s(station: Station) -> float:
    """CPU seconds of everything on the machine so far."""
    return float(station.container.stats(stream=False)["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def measure(kit: Kit, services: int, interval: float, seconds: float) -> None:
    pair = kit.pair("mariadb")
    site = Site(kit)
    try:
        make_accounts(pair)
        station = site.station(pair, "satellite", api=True)
        station.worker(*(f"db7/r{number}" for number in range(services)), interval=interval)
        icinga = Icinga(station)
        icinga.set_up_alone()
        folder = "/etc/icinga2/conf.d"
        station.put(f"{folder}/command.conf", example("icinga2/command.conf"))
        changed = {"_interval = 1m": f"_interval = {interval:g}s"}
        station.put(f"{folder}/services.conf", example("icinga2/services.conf", **changed))
        replicas = "".join(f'  vars.delayed_replicas["r{n}"] = {{ sampling = "worker" }}\n' for n in range(services))
        station.put(f"{folder}/host.conf", f'object Host "db7" {{\n  check_command = "dummy"\n{replicas}}}\n')
        icinga.start()

        def status() -> dict[str, float]:
            found: dict[str, float] = icinga.get("status/CIB")[0]["status"]
            return found

        icinga.answered(lambda: status()["num_services_pending"] == 0 or None, 300, "every replica was checked once")
        wait_until(
            lambda: station.run("pgrep -f '[d]elayed-repl worker'", check=False).status == 0, 10, "a worker runs"
        )
        began, machine, worker = time.monotonic(), machine_s(station), worker_s(station)
        time.sleep(seconds)
        took, machine, worker = time.monotonic() - began, machine_s(station) - machine, worker_s(station) - worker
        found = status()
        a_second = found["active_service_checks_1min"] / 60
        each = (machine - worker) / (a_second * took)
        print(
            f"{services} services every {interval:g} s: {a_second:.1f} checks a second,"
            f" {found['avg_latency']:.3f} s late on average, {found['max_latency']:.3f} s at most\n"
            f"CPU: {1000 * each:.0f} ms a check with its part of Icinga's own,"
            f" {1000 * worker / took * interval / services:.1f} ms a look of the worker\n"
            f"one core executes {60 / each:.0f} checks a minute"
        )
    finally:
        site.close()


def main(services: str = "120", interval: str = "10", seconds: str = "60") -> None:
    kit = Kit()
    try:
        measure(kit, int(services), float(interval), float(seconds))
    finally:
        kit.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
