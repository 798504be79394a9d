"""Machines to run monitoring on, in containers: Nagios Core, Icinga 2, NRPE and systemd from Debian's packages, with
the plugin installed as the README says and the files of examples/.

A `Station` is one such machine in a pair's network, where the servers are called `source` and `replica`. What a test
may change of an example file is what its reader has to change: names, limits, and the unit of time (a second).
"""

from __future__ import annotations

import importlib.metadata
import io
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from testcontainers.core.container import DockerContainer

from .checking import CHECK, JOB, ROOT, WORKER, make_account
from .servers import Kit, Pair, free_port, wait_until

EXAMPLES = ROOT / "examples"
IMAGE_VARIABLE = "CHECK_DELAYED_REPL_MONITORING_IMAGE"
HOME = "/opt/check_delayed_repl"
PLUGIN = f"{HOME}/bin/check_delayed_repl"
TOOL = f"{HOME}/bin/delayed-repl"
PLUGIN_FOLDER = "/usr/lib/nagios/plugins"
HISTORY = "/var/lib/check_delayed_repl/history.db"
USER = "nagios"
"""Who runs checks, on Debian: under Nagios Core, Icinga 2 and NRPE alike."""
END = "said-it-all"
SECRETS = (CHECK[1], WORKER[1], JOB[1])

LIMITS = (
    "--min-delay-time 6 --max-delay-time 16 --max-seconds-behind 8 --max-relay-behind 60 --max-master-behind 60"
    " --max-last-seen 8 --max-backup-behind 30 --max-recovery-time 60 --max-trend-time 40 --window 15"
)
"""For a pair that is delayed by ten seconds."""
PRODUCTION_LIMITS = "--min-delay-time 90m --max-delay-time 150m"
"""What stands in the examples in place of LIMITS."""
LABELS = (
    *("delay", "intercept", "slope", "correlation", "samples", "local_heartbeat_age", "source_log_age"),
    *("relay_log_age", "relay_log_space", "worker_age", "backup_age", "deshard_age", "backup_held", "deshard_held"),
    *("recovery_held", "trend_held", "sql_delay"),
)

T = TypeVar("T")


class Ran(NamedTuple):
    """What a command in a container did."""

    status: int
    output: str


def example(name: str, **replaced: str) -> str:
    """The text of a file below examples/, with every key of `replaced` exchanged for its value; all must occur."""
    text = (EXAMPLES / name).read_text()
    for old, new in replaced.items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text


def monitoring_image() -> str:
    """The image with the monitoring programs."""
    return os.environ.get(IMAGE_VARIABLE) or "check-delayed-repl-monitoring:latest"


def install(kit: Kit, image: str, folder: Path) -> None:
    """Install the project into `folder` by pip, as it will be found at HOME in a container.

    What it depends on comes from the tests' own environment: no index need be reachable. numpy and scipy, which no
    check and no worker loads, are left out.
    """
    with tempfile.TemporaryDirectory() as name:
        wheels = Path(name)
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel"),
                *("--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels / "wheels"), str(ROOT)),
            ],
            check=True,
            capture_output=True,
        )
        for name in ("PyMySQL", "nagiosplugin"):
            for file in importlib.metadata.files(name) or ():
                if ".." in file.parts or file.suffix == ".pyc":
                    continue  # scripts and bytecode
                target = wheels / "site-packages" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
        script = (
            f"cp -a /opt/empty-environment/. {HOME}/"
            f" && cp -r /wheels/site-packages/. {HOME}/lib/python3*/site-packages/"
            f" && {HOME}/bin/python -m pip install --quiet --no-index --no-deps --disable-pip-version-check"
            f" /wheels/wheels/*.whl && {HOME}/bin/python -m compileall -q {HOME}/lib && chmod -R a+rX {HOME}"
        )
        kit.client.containers.run(
            image,
            ["sh", "-c", script],
            volumes={str(folder): {"bind": HOME, "mode": "rw"}, str(wheels): {"bind": "/wheels", "mode": "ro"}},
            labels=kit.labels,
            remove=True,
        )


class Site:
    """What all stations share: the image and the installed plugin."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.image = monitoring_image()
        self._folder = Path(tempfile.mkdtemp(prefix="delayed-repl-plugin-"))
        self._folder.chmod(0o755)
        install(kit, self.image, self._folder)
        self._stations: list[Station] = []
        script = f"for name in root mysql {USER}; do id -u $name; id -g $name; done"
        numbers = kit.client.containers.run(self.image, ["sh", "-c", script], labels=kit.labels, remove=True).split()
        numbers = list(map(int, numbers))
        self.ids = dict(zip(("root", "mysql", USER), zip(numbers[::2], numbers[1::2], strict=True), strict=True))
        """Numbers of users and their groups on the machines."""

    def station(self, pair: Pair, name: str, **options: Any) -> Station:
        """A machine in the pair's network; `options` are Station's."""
        station = Station(self, pair, name, **options)
        self._stations.append(station)
        return station

    @property
    def folder(self) -> Path:
        return self._folder

    def close(self) -> None:
        """Remove every station, and the plugin."""
        for station in self._stations:
            station.close()
        # What pip wrote is root's, as the container ran as root.
        with suppress(Exception):
            self.kit.client.containers.run(
                self.image,
                ["sh", "-c", f"rm -rf {HOME}/* {HOME}/.[!.]*"],
                volumes={str(self._folder): {"bind": HOME, "mode": "rw"}},
                labels=self.kit.labels,
                remove=True,
            )
        shutil.rmtree(self._folder, ignore_errors=True)


class Station:
    """One machine with the monitoring programs, the plugin, and the accounts' option files."""

    def __init__(
        self, site: Site, pair: Pair, name: str, *, systemd: bool = False, beside: Any = None, api: bool = False
    ) -> None:
        self.site = site
        self.pair = pair
        self.name = name
        self.api_port = free_port() if api else 0
        self._runs = itertools.count()
        wrapped = (
            DockerContainer(site.image)
            .with_network(pair.network)
            .with_network_aliases(name)
            .with_volume_mapping(str(site.folder), HOME, "ro")
        )
        settings: dict[str, Any] = {"labels": site.kit.labels, "hostname": name}
        if api:
            wrapped.with_bind_ports(5665, self.api_port)
        if beside is not None:
            # On the server's own machine: its files and its socket.
            settings["volumes_from"] = [beside.id]
        if systemd:
            # systemd as the first process: it mounts, and rules over the container's own control groups.
            settings |= {
                "cap_add": ["SYS_ADMIN", "SYS_PTRACE"],
                "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
                "cgroupns": "private",
                "stop_signal": "SIGRTMIN+3",
            }
            wrapped.with_env("container", "docker")
            for folder in ("/run", "/run/lock", "/tmp"):
                wrapped.with_tmpfs_mount(folder)
            start = (
                "for folder in /sys/fs/cgroup /sys/fs/cgroup/systemd; do"
                " mount -o remount,rw $folder 2>/dev/null; done; exec /sbin/init"
            )
            wrapped.with_command(["sh", "-c", start])
        else:
            settings["init"] = True
            wrapped.with_command(["sleep", "infinity"])
        self._wrapped: DockerContainer | None = wrapped.with_kwargs(**settings)
        wrapped.start()
        if systemd:
            wait_until(
                lambda: self.run("systemctl is-system-running", check=False).output.strip() in ("running", "degraded"),
                60,
                "systemd is up",
            )
        self.run(
            f"install -d -o {USER} -g {USER} -m 2770 /var/lib/check_delayed_repl /etc/check_delayed_repl"
            f" && ln -s {PLUGIN} {PLUGIN_FOLDER}/check_delayed_repl"
        )
        files = {"monitor.cnf": option_file(CHECK), "worker.cnf": option_file(WORKER)}
        self.put_all({f"/etc/check_delayed_repl/{name}": text for name, text in files.items()}, owner=USER, mode=0o600)

    @cached_property
    def container(self) -> Any:
        """The Docker library's own object."""
        assert self._wrapped is not None
        return self._wrapped.get_wrapped_container()

    def run(self, command: str, *, user: str = "root", check: bool = True) -> Ran:
        """Run a command line by sh. With `check` it must succeed."""
        # A busy engine now and then loses what a process that has ended soon has printed: it is kept in a file as well.
        kept = f"/tmp/said.{next(self._runs)}"
        script = f"({command}\n) >{kept} 2>&1; status=$?; cat {kept}; echo {END}; exit $status"
        done = self.container.exec_run(["sh", "-c", script], user=user)
        output = done.output.decode(errors="replace")
        while not output.endswith(f"{END}\n"):
            again = self.container.exec_run(["sh", "-c", f"cat {kept}; echo {END}"])
            output = again.output.decode(errors="replace")
        output = output.removesuffix(f"{END}\n")
        assert not any(secret in output for secret in SECRETS if "cat " not in command), "a password was printed"
        assert not check or done.exit_code == 0, f"{command}: {done.exit_code}\n{output}"
        return Ran(done.exit_code, output)

    def spawn(self, command: str, log: str, *, user: str = "root") -> None:
        """Run a command line by sh in the background, with its output in a file."""
        self.container.exec_run(["sh", "-c", f"exec {command} >>{log} 2>&1"], user=user, detach=True)

    def put(self, path: str, text: str, *, owner: str = "root", mode: int = 0o644) -> None:
        """Write a file, and the folders that lead to it."""
        self.put_all({path: text}, owner=owner, mode=mode)

    def put_all(self, files: dict[str, str], *, owner: str = "root", mode: int = 0o644) -> None:
        """Write files, and the folders that lead to them."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path, text in files.items():
                info = tarfile.TarInfo(path.lstrip("/"))
                data = text.encode()
                info.size, info.mode, info.mtime = len(data), mode, int(time.time())
                info.uid, info.gid = self.site.ids[owner]
                archive.addfile(info, io.BytesIO(data))
        assert self.container.put_archive("/", stream.getvalue())

    def fetch(self, folder: str) -> dict[str, str]:
        """Every file of a folder: name to text."""
        stream, _ = self.container.get_archive(folder)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            return {
                member.name.rpartition("/")[2]: file.read().decode()
                for member in archive.getmembers()
                if member.isfile() and (file := archive.extractfile(member))
            }

    def read(self, path: str) -> str:
        """A file's text; empty where there is none."""
        return self.run(f"cat {shlex.quote(path)} 2>/dev/null", check=False).output

    def worker(self, *names: str, history: str = HISTORY, interval: float = 1) -> None:
        """Start a worker that looks at the replica under each of these names."""
        replicas = "".join(f'[[replica]]\nreplica = "{name}"\n' for name in names)
        defaults = '[defaults]\nhost = "replica"\ndefaults-file = "/etc/check_delayed_repl/worker.cnf"\n'
        self.put("/etc/check_delayed_repl/worker.toml", f"{defaults}interval = {interval:g}\n{replicas}")
        config = "--config /etc/check_delayed_repl/worker.toml"
        self.spawn(f"{TOOL} worker {config} --history '{history}'", "/tmp/worker.log", user=USER)

    def kill_worker(self) -> None:
        """End the worker at once (SIGKILL)."""
        self.run("kill -9 $(pgrep -f '[d]elayed-repl worker')")

    def close(self) -> None:
        """Remove the machine."""
        if self._wrapped is not None:
            self._wrapped.stop()
            self._wrapped = None


def option_file(who: tuple[str, str]) -> str:
    return f"[client]\nuser = {who[0]}\npassword = {who[1]}\n"


def make_accounts(pair: Pair) -> None:
    """The check's and the worker's accounts on the replica."""
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
