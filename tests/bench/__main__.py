"""The command behind tests/bench/run."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.integration.pair import Pair
from tests.integration.server import MONITOR, Server, account
from tests.integration.servers import Kit

from . import recordings
from .fleet import fleet
from .measure import MISSED, Use, interleaved, promise, say, table, use_of

PARTS = ("checks", "ages", "fleet", "backtest")
HELP = """\
Measures what is promised of the cost of checks, a worker and a backtest, in one run with other people's checks, on real
MariaDB servers in containers.

  checks    both ways to check, and with a file of 50 replicas, beside the peers, on a healthy replica
  ages      a worker-sampled check with histories of an hour, a day and a month
  fleet     workers with 10 to 5,000 replicas, a tenth of them hung, that publish to a textfile and to Icinga 2; beside
            check processes, and `delayed-repl status`
  backtest  files of calm lines, bare and with all keys

What the peers need is installed where this runs as root on Debian. Use a machine that does nothing else. The table goes
to standard output, progress to standard error; exit status 1 where a promise is missed."""

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".bench" / "measured" / "bin"
PLUGINS = "/usr/lib/nagios/plugins"
WORKER, INLINE, CONFIGURED = "worker-sampled check", "inline check", "worker-sampled check, --config of 50"
SHELL, HEALTH, BARE = "pmp-check-mysql-replication-delay (shell)", "check_mysql_health (Perl)", "Python alone"
LIMITS = ("--min-delay-time", "10", "--max-delay-time", "60")
NAME = "replica"
MANY = 300_000
"""Lines of a recording."""


def check(*options: str) -> list[str]:
    return [f"{BIN}/check_delayed_repl", "--replica", NAME, *LIMITS, *options]


def tool(*arguments: str) -> list[str]:
    return [f"{BIN}/delayed-repl", *arguments]


def reaching(server: Server) -> list[str]:
    return ["-S", str(server.socket), "-u", MONITOR[0], "-p", MONITOR[1]]


@contextmanager
def working(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(tool("worker", *arguments), stderr=subprocess.DEVNULL, cwd="/")
    try:
        time.sleep(3)
        yield process
    finally:
        process.terminate()
        process.wait()


def checks(pair: Pair, folder: Path, rounds: int) -> None:
    """Both ways to check, beside the peers, each of which finds a sample that it has not judged yet."""
    replica = pair.replica
    replica.unlogged(f"GRANT BINLOG MONITOR ON *.* TO {account(MONITOR)}")
    history, socket, (user, password) = str(folder / "checks.db"), str(replica.socket), MONITOR
    config = folder / "config.toml"
    names = (NAME, *(f"other{number}" for number in range(49)))
    config.write_text("".join(f'[[replica]]\nreplica = "{name}"\nsocket = "{socket}"\n' for name in names))
    config.chmod(0o600)
    commands = {
        BARE: [f"{BIN}/python", "-c", "pass"],
        WORKER: check("--sampling", "worker", "--history", history),
        CONFIGURED: check("--sampling", "worker", "--history", history, "--config", str(config)),
        INLINE: check(*reaching(replica), "--history", str(folder / "inline.db")),
        SHELL: [
            *(f"{PLUGINS}/pmp-check-mysql-replication-delay", "-S", socket, "-l", user, "-p", password, "-u"),
            *("-T", "percona.heartbeat", "-s", "1", "-m", "5", "-w", "50", "-c", "60"),
        ],
        HEALTH: [
            *(f"{PLUGINS}/check_mysql_health", "--socket", socket, "--username", user, "--password", password),
            *("--mode", "slave-lag", "--warning", "50", "--critical", "60"),
        ],
    }
    with working(*reaching(replica), "--replica", NAME, "--history", history, "--interval", "5"):
        say(f"{rounds} rounds of {len(commands)} commands")
        found = interleaved(commands, rounds, 5)
    head = ("", "CPU ms", "wall ms", "MiB")
    table(head, ([name, *(f"{number:.1f}" for number in use[1:])] for name, use in found.items()))
    promised(found)


def promised(found: Mapping[str, Use]) -> None:
    promise("CPU, worker-sampled ÷ shell peer", found[WORKER].cpu_ms / found[SHELL].cpu_ms, most=1)
    promise("CPU, inline ÷ check_mysql_health", found[INLINE].cpu_ms / found[HEALTH].cpu_ms, most=1)
    for name in (WORKER, INLINE):
        promise(f"memory, {name} ÷ check_mysql_health", found[name].peak_mib / found[HEALTH].peak_mib, most=1)
    promise("ms that a file of 50 replicas costs", found[CONFIGURED].cpu_ms - found[WORKER].cpu_ms, most=10)


def ages(pair: Pair, folder: Path, rounds: int) -> None:
    """A history's age costs nothing."""
    commands = {}
    histories = []
    for name, samples in {"an hour": 360, "a day": 8640, "a month": 259_200}.items():
        say(f"a history of {name}")
        history = str(folder / f"{samples}.db")
        file = recordings.write(folder / "recording", samples, time.time())
        subprocess.run(tool("history", "import", str(file), "--replica", NAME, "--history", history), check=True)
        commands[f"with {name} behind it"] = check(
            "--sampling", "worker", "--history", history, "--max-delay-time", "1d"
        )
        histories.append(history)
    workers = [working(*reaching(pair.replica), "--replica", NAME, "--history", path) for path in histories]
    with workers[0], workers[1], workers[2]:
        found = interleaved(commands, rounds, 5)
    head = ("worker-sampled check", "CPU ms", "wall ms", "MiB")
    table(head, ([name, *(f"{number:.1f}" for number in use[1:])] for name, use in found.items()))
    young, *_, old = found.values()
    promise("CPU, a month ÷ an hour", old.cpu_ms / young.cpu_ms, most=1.1)


def backtest(folder: Path) -> None:
    """Lines a second of a file, the tool's own start-up included."""
    for title, bare, least in (("bare", True, 500_000), ("with all keys", False, 250_000)):
        say(f"a backtest of {MANY:,} lines, {title}")
        file = recordings.write(folder / "recording", MANY, 1_700_000_000, bare, nights=False)
        argv = tool("backtest", str(file), "--max-delay-time", "1d", "--min-delay-time", "1")
        best = min(use_of(argv).cpu_ms for _ in range(5))
        promise(f"samples a second of a calm line, {title}", 1000 * MANY / best, least=least)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)} (default all)")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="interleaved runs of each command (20)")
    parser.add_argument("--minutes", type=float, default=1, metavar="M", help="how long each worker is watched (1)")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    parts = set(args.parts or PARTS)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"On a machine with {os.cpu_count()} cores and {memory:.0f} GiB of memory.\n", flush=True)
    kit = Kit()
    try:
        folder = kit.folder()
        if "backtest" in parts:
            backtest(folder)
        if parts - {"backtest"}:
            say("starting a source and its replica")
            pair = kit.pair("mariadb", delay=recordings.DELAY_S)
            for name, part in {"checks": checks, "ages": ages}.items():
                if name in parts:
                    part(pair, folder, args.rounds)
            if "fleet" in parts:
                fleet(kit, pair, args.minutes)
    finally:
        kit.close()
    return 1 if MISSED else 0


if __name__ == "__main__":
    sys.exit(main())
