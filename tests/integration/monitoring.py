"""Machines to run monitoring on, in containers: Nagios Core, Icinga 2, NRPE and systemd from Debian's packages, with
the plugin installed as the README says and the files of examples/.

A `Station` is one such machine in a pair's network, where the servers are called `source` and `replica`. What a test
may change of an example file is what its reader has to change: names, limits, and the unit of time (a second).
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker.errors
from testcontainers.core.container import DockerContainer

from .checking import CHECK, JOB, ROOT, WORKER, make_account
from .machine import Machine, Ran
from .servers import Kit, Pair, free_port, wait_until

EXAMPLES = ROOT / "examples"
VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
HOME = "/opt/check_delayed_repl"
PLUGIN = f"{HOME}/bin/check_delayed_repl"
TOOL = f"{HOME}/bin/delayed-repl"
PLUGIN_FOLDER = "/usr/lib/nagios/plugins"
HISTORY = "/var/lib/check_delayed_repl/history.db"
CONFIG = "/etc/check_delayed_repl/config.toml"
LIBRARIES = ("PyMySQL", "nagiosplugin", "msgspec", "rich", "markdown-it-py", "mdurl", "pygments", "prometheus_client")
USER = "nagios"
"""Who runs checks, on Debian: under Nagios Core, Icinga 2 and NRPE alike."""
SECRETS = (CHECK[1], WORKER[1], JOB[1])

LIMITS = (
    "--min-delay-time 6 --max-delay-time 16 --max-seconds-behind 8 --max-relay-behind 60 --max-master-behind 60"
    " --max-last-seen 8 --max-backup-behind 30 --max-recovery-time 60 --max-trend-time 40 --window 15"
)
"""For a pair that is delayed by ten seconds."""
LABELS = (
    *("delay", "intercept", "slope", "correlation", "samples", "local_heartbeat_age", "source_log_age"),
    *("relay_log_age", "relay_log_space", "worker_age", "backup_age", "deshard_age", "backup_held", "deshard_held"),
    *("recovery_held", "trend_held", "sql_delay"),
)


def limits_by_name() -> dict[str, str]:
    return dict(re.findall(r"--(\S+) (\S+)", LIMITS))


def example(name: str, **replaced: str) -> str:
    """The text of a file below examples/, with every key of `replaced` exchanged for its value; all must occur."""
    text = (EXAMPLES / name).read_text()
    for old, new in replaced.items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text


def install(kit: Kit, image: str, folder: Path) -> None:
    """Install the project into `folder` by pip, as it will be found at HOME in a container.

    Libraries are those of the tests' environment, for the container's Python. numpy and scipy, which no check and no
    worker loads, are left out.
    """
    python = kit.client.containers.run(image, ["python3", "-c", VERSION], labels=kit.labels, remove=True)
    wheels = kit.folder()
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    project = ("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT))
    libraries = (
        *("download", "--no-deps", "--only-binary", ":all:", "--python-version", python.decode().strip()),
        *("--platform", f"manylinux2014_{platform.machine()}", "--dest", str(wheels)),
        *(f"{name}=={importlib.metadata.version(name)}" for name in LIBRARIES),
    )
    for arguments in (project, libraries):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    script = (
        f"cp -a /opt/empty-environment/. {HOME}/"
        f" && {HOME}/bin/python -m pip install --quiet --no-index --no-deps --disable-pip-version-check /wheels/*.whl"
        f" && {HOME}/bin/python -m compileall -q {HOME}/lib && chmod -R a+rwX {HOME}"
    )
    kit.client.containers.run(
        image,
        ["sh", "-c", script],
        volumes={str(folder): {"bind": HOME, "mode": "rw"}, str(wheels): {"bind": "/wheels", "mode": "ro"}},
        labels=kit.labels,
        remove=True,
    )


class Site:
    """What all stations share: the installed plugin, and the numbers of the machines' users."""

    def __init__(self, kit: Kit, shared: Path) -> None:
        """`shared` is a folder that all processes of a run have: the first one installs for all."""
        self.kit = kit
        self.folder = shared / "site"
        image = kit.image("monitoring")
        with (shared / "site.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.folder.exists():
                part = shared / f"site-{os.getpid()}"
                part.mkdir(mode=0o755)
                install(kit, image, part)
                part.rename(self.folder)
        script = f"for name in root mysql {USER}; do echo $name $(id -u $name) $(id -g $name); done"
        told = kit.client.containers.run(image, ["sh", "-c", script], labels=kit.labels, remove=True).decode()
        self.ids = {name: (int(user), int(group)) for name, user, group in map(str.split, told.splitlines())}
        self._stations: list[Station] = []

    def station(self, pair: Pair, name: str, **options: Any) -> Station:
        """A machine in the pair's network; `options` are Station's."""
        station = Station(self, pair, name, **options)
        self._stations.append(station)
        station.set_up()
        return station

    @contextmanager
    def watching(self, pair: Pair, name: str, **options: Any) -> Iterator[Station]:
        """The same, for a healthy pair with the check's and the worker's accounts."""
        pair.settle()
        make_accounts(pair)
        station = self.station(pair, name, **options)
        yield station
        station.close()

    def close(self) -> None:
        for station in self._stations:
            station.close()


class Station(Machine):
    """One machine with the monitoring programs, the plugin, and the accounts' option files.

    It has a published port for Icinga's API (`api`), stands on a server's own machine with its files and socket
    (`beside` its container), or is run by `systemd`.
    """

    def __init__(
        self, site: Site, pair: Pair, name: str, *, systemd: bool = False, beside: Any = None, api: bool = False
    ) -> None:
        super().__init__(site.kit, name, pair.network)
        self.site = site
        self.systemd = systemd
        self.beside = beside
        self.api_port = free_port() if api else 0

    def _made(self) -> DockerContainer:
        settings: dict[str, Any] = {"hostname": self.name}
        if self.beside is not None:
            settings["volumes_from"] = [self.beside.id]
        command = ["sleep", "infinity"]
        if self.systemd:
            # systemd as the first process: it mounts, and rules over the container's own control groups.
            settings |= {
                "cap_add": ["SYS_ADMIN", "SYS_PTRACE"],
                "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
                "cgroupns": "private",
                "stop_signal": "SIGRTMIN+3",
            }
            remount = "for folder in /sys/fs/cgroup /sys/fs/cgroup/systemd; do mount -o remount,rw $folder; done"
            command = ["sh", "-c", f"({remount}) 2>/dev/null; exec /sbin/init"]
        else:
            settings["init"] = True
        made = self._from("monitoring", **settings).with_command(command)
        if self.systemd:
            made.with_env("container", "docker")
            made.tmpfs.update({"/run": "", "/run/lock": "", "/tmp": ""})
        if self.api_port:
            made.with_bind_ports(5665, self.api_port)
        return made.with_volume_mapping(str(self.site.folder), HOME, "ro")

    def set_up(self) -> None:
        """Up, with the plugin where the others are, and the option files."""
        self.go()
        if self.systemd:
            wait_until(self._systemd_is_up, 60, "systemd is up")
        self.run(
            f"install -d -o {USER} -g {USER} -m 2770 /var/lib/check_delayed_repl /etc/check_delayed_repl"
            f" && ln -s {PLUGIN} {PLUGIN_FOLDER}/check_delayed_repl"
        )
        files = {"monitor.cnf": option_file(CHECK), "worker.cnf": option_file(WORKER)}
        self.put({f"/etc/check_delayed_repl/{name}": text for name, text in files.items()}, user=USER, mode=0o600)
        self.configure('host = "replica"')

    def _systemd_is_up(self) -> bool:
        # Where the machine's kernel gives out no more of what watches files, it ends at once.
        assert self.running, f"systemd has ended on {self.name}\n{self.logs()}"
        return self.run("systemctl is-system-running", check=False).output in ("running\n", "degraded\n")

    def configure(self, *lines: str) -> None:
        """The configuration file, with the tests' limits; `lines` follow [defaults]."""
        limits = (f"{option} = {value}" for option, value in limits_by_name().items())
        defaults = ("[defaults]", 'defaults-file = "monitor.cnf"', *limits, *lines)
        self.put({CONFIG: "\n".join((f'history = "{HISTORY}"', *defaults, ""))})

    def run(self, command: str, *, user: str = "root", check: bool = True) -> Ran:
        """As Machine.run; no password may be printed."""
        ran = super().run(command, user=user, check=check)
        assert not any(secret in ran.output for secret in SECRETS), "a password was printed"
        return ran

    def put(self, files: Mapping[str, str | bytes], *, user: str = "root", mode: int = 0o644) -> None:
        """Write files by their paths, owned by a user of `Site.ids`, and the folders that lead to them."""
        self.put_files(files, self.site.ids[user], mode)

    def read(self, path: str) -> str:
        with suppress(docker.errors.NotFound):
            return super().read(path)
        return ""

    def worker(self, *names: str, history: str = HISTORY, interval: float = 1) -> None:
        """Start a worker that takes samples of the replica under each of these names."""
        replicas = "".join(f'[[replica]]\nreplica = "{name}"\n' for name in names)
        defaults = '[defaults]\nhost = "replica"\ndefaults-file = "/etc/check_delayed_repl/worker.cnf"\n'
        self.put({"/etc/check_delayed_repl/worker.toml": f"{defaults}interval = {interval:g}\n{replicas}"})
        config = "--config /etc/check_delayed_repl/worker.toml"
        self.spawn(f"{TOOL} worker {config} --history '{history}'", "/tmp/worker.log", user=USER)

    def kill_worker(self) -> None:
        # By its whole path: Nagios, too, looks for processes with these words, in processes that have them.
        self.run("pkill -9 -f '/[d]elayed-repl worker'")


def _published(publish: str, replicas: dict[str, str], history: str, interval: float) -> str:
    """A publishing worker's file: its table [publish], and what stands in each replica's table."""
    limits = "\n".join(f"{option} = {value}" for option, value in limits_by_name().items())
    tables = "".join(f'[[replica]]\nreplica = "{name}"\n{more}\n' for name, more in replicas.items())
    return (
        f'history = "{history}"\n[publish]\npublish-interval = {interval:g}\n{publish}\n'
        f'[defaults]\nhost = "replica"\ndefaults-file = "worker.cnf"\ninterval = 1\n{limits}\n{tables}'
    )


class Publishing:
    """A publishing worker on a station."""

    def __init__(
        self,
        station: Station,
        publish: str,
        replicas: dict[str, str],
        name: str = "config",
        history: str = HISTORY,
        interval: float = 3,
    ) -> None:
        self.station = station
        self.config = f"/etc/check_delayed_repl/{name}.toml"
        self.log = f"/tmp/{name}.log"
        station.put({self.config: _published(publish, replicas, history, interval)}, user=USER, mode=0o600)
        self.start()

    def start(self) -> None:
        self.station.spawn(f"{TOOL} worker --config {self.config}", self.log, user=USER)

    def kill(self) -> None:
        self.station.run(f"pkill -9 -f '[w]orker --config {self.config}'")

    def expect(self, text: str) -> None:
        """Wait until its log says this, and take the log away."""
        wait_until(lambda: text in self.station.read(self.log), 30, f"the worker says: {text}")
        self.station.run(f": >{self.log}")


def option_file(who: tuple[str, str]) -> str:
    return f"[client]\nuser = {who[0]}\npassword = {who[1]}\n"


def make_accounts(pair: Pair) -> None:
    make_account(pair.replica, CHECK, "check")
    make_account(pair.replica, WORKER, "worker")


def perfdata(text: str) -> dict[str, str]:
    """Perfdata by label; each pair is whole."""
    found = {}
    for item in text.split():
        label, equals, value = item.partition("=")
        assert equals, f"half a pair: {item!r}"
        assert value, f"half a pair: {item!r}"
        found[label] = value
    return found
