"""Real servers in containers: a source, its delayed replica, pt-heartbeat on both, and the means to break them.

The layers, from the ground up: `machine` is a container, `server` a MySQL or MariaDB server in one, `pair` a source, a
replica and their heartbeats, which `Pair.heal()` makes healthy again whatever a test has done to them. `Kit`, in here,
makes them, knows the images, the TLS material and the run's label, and removes everything at the end.

A test gets a healthy pair from the fixture `settled` (see conftest.py), for each family in turn, and need not clean up.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import docker.errors
import docker.types
import trustme
from testcontainers.core.network import Network

from . import images

# Tests take all of this from here.
from .machine import UNREACHABLE, NotInTime, free_port, meanwhile, wait_until  # noqa: F401
from .pair import DELAY_S, Heartbeat, Pair  # noqa: F401
from .server import HEARTBEAT, HEARTBEAT_TABLE, MONITOR, REPLICATION, ROOT_PASSWORD, Family, Server, account, literal  # noqa: F401

RUN_VARIABLE = "CHECK_DELAYED_REPL_TEST_RUN"
"""Environment variable that holds the run's id, so that whoever started the run can clean up after it."""
NAMES = ("localhost", "source", "replica", "second")


class Certificate(NamedTuple):
    """Files of a certificate and its key."""

    cert: Path
    key: Path


class Tls:
    """A certificate authority and what it signed, as files.

    The server's certificate is valid for `localhost` and the servers' names in the containers' network, and not for
    127.0.0.1: verify-identity passes by the name and fails by the address. Nothing here is signed by `other_ca`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.ca, self.other_ca = folder / "ca.pem", folder / "other-ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))
        trustme.CA().cert_pem.write_to_path(str(self.other_ca))
        self.server, self.client = self.issue("server"), self.issue("client")

    def issue(self, name: str, valid_s: float = 30 * 86400) -> Certificate:
        """A certificate that is valid for so many seconds from now; its files are called after `name`."""
        issued = self._authority.issue_cert(
            *NAMES, common_name=name, not_after=datetime.now(UTC) + timedelta(seconds=valid_s)
        )
        made = Certificate(self._folder / f"{name}-cert.pem", self._folder / f"{name}-key.pem")
        made.cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        made.key.write_bytes(issued.private_key_pem.bytes())
        return made


class Kit:
    """Makes servers and removes them all at the end. Raises images.Missing where no engine answers."""

    def __init__(self) -> None:
        self.client = images.client()
        self.run = os.environ.setdefault(RUN_VARIABLE, f"{os.getpid()}-{int(time.time())}")
        self.labels = {images.LABEL: self.run}
        self._folder = Path(tempfile.mkdtemp(prefix="delayed-repl-tests-"))
        self._folder.chmod(0o755)
        self.tls = Tls(self.folder())
        self._networks: list[Network] = []
        self._made: list[Pair | Server] = []
        self._shared_pairs: dict[Family, Pair] = {}
        self._shared_servers: dict[Family, Server] = {}

    def folder(self, mode: int = 0o755) -> Path:
        """A new folder, gone at the end."""
        made = Path(tempfile.mkdtemp(dir=self._folder))
        made.chmod(mode)
        return made

    def image(self, name: str) -> str:
        """The image of a family's servers, of its pt-heartbeat (heartbeat-FAMILY), or one for monitoring."""
        return images.need(name)

    def network(self) -> Network:
        """A network of its own for a pair: of the engine's choice, or one of ours where it has no more to give."""
        settings: dict[str, Any] = {"labels": self.labels}
        for _ in range(30):
            network = Network(docker_network_kw=settings)
            with suppress(docker.errors.APIError):
                self._networks.append(network.create())
                return network
            part = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"
            pool = docker.types.IPAMPool(subnet=f"{part}.0/24", gateway=f"{part}.1")
            settings["ipam"] = docker.types.IPAMConfig(pool_configs=[pool])
        raise images.Missing("the Docker engine has no network left to give")

    @cached_property
    def _shared_network(self) -> Network:
        return self.network()

    def pair(self, family: Family, **options: Any) -> Pair:
        """A pair of its own in a network of its own, up and healthy; `pair.close()` removes it before the kit does.

        `options` are Pair's:

        - `delay` in seconds (10).
        - `gtid`: replication by GTID (True), or by file and position.
        - `parallel`: how many parallel appliers the replica has (0: as many as the server has by itself).
        - `heartbeats`: both pt-heartbeats run, and the accounts for them and for the check are there (True); or there
          is neither, as before anybody has set up monitoring.
        - `replica_options`: further options of the replica's server.

        ``pair.replica.read_only()`` makes a replica read-only, as production has it, ``pair.replica.kill()`` is kill
        -9 and ``start()`` or ``restart()`` bring a server back with its data; ``pair.source.kill()`` loses the source.
        """
        pair = Pair(self, family, **options)
        self._made.append(pair)
        return pair.heal()

    def shared_pair(self, family: Family) -> Pair:
        if family not in self._shared_pairs:
            self._shared_pairs[family] = self.pair(family)
        return self._shared_pairs[family]

    def server(self, family: Family, *options: str, name: str = "alone", **settings: Any) -> Server:
        """A server alone, answering, with further server options; `settings` are Server's."""
        server = Server(self, family, name, 9, self._shared_network, *options, **settings)
        self._made.append(server)
        return server.start()

    def shared_server(self, family: Family) -> Server:
        """The one server alone of a family that tests share for their histories: running, and calm."""
        if family not in self._shared_servers:
            self._shared_servers[family] = self.server(family, name=f"keeper-{family}")
        server = self._shared_servers[family].start()
        server.calm()
        return server

    def close(self) -> None:
        for thing in self._made:
            thing.close()
        for network in self._networks:
            with suppress(docker.errors.APIError):  # a pair has removed it
                network.remove()
        shutil.rmtree(self._folder, ignore_errors=True)
