"""A source and its delayed replica, with pt-heartbeat on both: made healthy again whatever a test has done to them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import docker.errors
from testcontainers.core.container import DockerContainer

from .machine import UNREACHABLE, Machine, NotInTime, wait_until
from .server import HEARTBEAT, HEARTBEAT_TABLE, Family, Kind, Server, account, literal, thread_states

if TYPE_CHECKING:
    from .servers import Kit

DELAY_S = 10
"""How long a healthy replica is delayed, in seconds."""
TROUBLE = (NotInTime, *UNREACHABLE, docker.errors.APIError)
SLAVE_DELAY = ("slave_delay", "slave-delay-secret")
SLAVE_DELAY_INTERVAL_S = 3
"""How often pt-slave-delay acts: the delay is a saw-tooth between DELAY_S and a second more than both together."""


class Companion(Machine):
    """A program of Percona's toolkit in a container of its own, beside a server."""

    program = "heartbeat"

    def __init__(self, server: Server) -> None:
        super().__init__(server.kit, f"{self.program}-{server.name}", server.network)
        self.server = server

    def _with(self, **environment: str) -> DockerContainer:
        return self._from(f"heartbeat-{self.server.family}", entrypoint=[self.program]).with_envs(**environment)

    def start(self) -> None:
        """Start it, where it does not run; returns before it has done anything."""
        self.go()

    def stop(self) -> None:
        self.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Heartbeat(Companion):
    """A pt-heartbeat, which writes to one server once a second.

    It starts pt-heartbeat again a second after it has lost its server. A `local` one stays out of the binary log.
    `clock` is how far its clock is off, such as +30s; `zone` a compiled time zone that it writes the local time of.
    """

    def __init__(
        self,
        server: Server,
        *,
        local: bool = False,
        table: str = HEARTBEAT_TABLE,
        clock: str = "",
        zone: Path | None = None,
    ) -> None:
        super().__init__(server)
        self.local, self.table, self.clock, self.zone = local, table, clock, zone

    def _made(self) -> DockerContainer:
        made = self._with(
            HEARTBEAT_HOST=self.server.name,
            HEARTBEAT_USER=HEARTBEAT[0],
            HEARTBEAT_PASSWORD=HEARTBEAT[1],
            HEARTBEAT_TABLE=self.table,
            HEARTBEAT_LOCAL="yes" if self.local else "no",
            HEARTBEAT_CLOCK=self.clock,
        )
        if self.zone is not None:
            made.with_volume_mapping(str(self.zone.parent), "/zones", "ro")
            made.with_envs(HEARTBEAT_UTC="no", TZ=f":/zones/{self.zone.name}")
        return made


class SlaveDelay(Companion):
    """A pt-slave-delay, which keeps one replica DELAY_S late by stopping and starting its SQL thread in turn.

    Killed (`stop`), it leaves the SQL thread as it is, which is stopped sooner or later.
    """

    program = "slave-delay"

    def _made(self) -> DockerContainer:
        return self._with(
            SLAVE_DELAY_HOST=self.server.name,
            SLAVE_DELAY_USER=SLAVE_DELAY[0],
            SLAVE_DELAY_PASSWORD=SLAVE_DELAY[1],
            SLAVE_DELAY=str(DELAY_S),
            SLAVE_DELAY_INTERVAL=str(SLAVE_DELAY_INTERVAL_S),
        )

    def start(self) -> None:
        """Start it, its account made anew. The SQL thread must run: it would not start otherwise."""
        if not self.running:
            self.server.drop_account(SLAVE_DELAY)
            rights = "SUPER, REPLICATION CLIENT"
            if self.server.kind == "mariadb":
                rights = "REPLICATION SLAVE ADMIN, SLAVE MONITOR"
            self.server.unlogged(
                f"CREATE USER {account(SLAVE_DELAY)} IDENTIFIED BY {literal(SLAVE_DELAY[1])}",
                f"GRANT {rights} ON *.* TO {account(SLAVE_DELAY)}",
            )
        self.go()

    def terminate(self) -> None:
        """End it cleanly: it lets the SQL thread run."""
        self.kill("SIGTERM")


class Pair:
    """A source (server id 1), its delayed replica (id 2), and a heartbeat on each.

    All of it runs in a network of its own, where the servers' names are `source`, `replica` and `second`. `Kit.pair`
    tells what the arguments are.
    """

    def __init__(
        self,
        kit: Kit,
        family: Family,
        *,
        delay: int = DELAY_S,
        gtid: bool = True,
        parallel: int = 0,
        heartbeats: bool = True,
        replica_options: Sequence[str] = (),
    ) -> None:
        self.kit = kit
        self.family: Family = family
        self.usual_delay = delay
        self.delay = delay
        self.heartbeats_run = heartbeats
        self.channel = ""
        """The channel that replicates from the source; empty is the default one."""
        self.network = kit.network()
        appliers = "replica-parallel-workers" if family == "mysql" else "slave-parallel-workers"
        if parallel:
            replica_options = (f"--{appliers}={parallel}", *replica_options)
        self.source = Server(kit, family, "source", 1, self.network, gtid=gtid)
        self.replica = Server(kit, family, "replica", 2, self.network, *replica_options, gtid=gtid)
        self.kind: Kind = self.source.kind
        self.heartbeat = Heartbeat(self.source)
        self.local_heartbeat = Heartbeat(self.replica, local=True)
        self.slave_delay = SlaveDelay(self.replica)
        self.whole = True
        """The source's binary logs have all that it ever did, as a new server needs that replicates from the start."""
        self.second: Server | None = None
        """A second source (id 3), once `add_second` was called."""
        self.second_heartbeat: Heartbeat | None = None

    # What is seen

    def heartbeats(self) -> dict[int, float]:
        """Age in seconds of every heartbeat row as the replica has it, by server id."""
        with self.replica.session() as run:
            rows = run(f"SELECT server_id, ts FROM {HEARTBEAT_TABLE}")
            ((now,),) = run("SELECT UTC_TIMESTAMP(6)")
        return {int(server): (now - _moment(str(ts))).total_seconds() for server, ts in rows}

    def seen_delay(self, server_id: int = 1) -> float | None:
        return self.heartbeats().get(server_id)

    def trouble(self) -> str:
        """Why the pair is not healthy; empty where it is."""
        statuses = self.replica.statuses()
        if list(statuses) != [self.channel]:
            return f"the replica's channels are {list(statuses)}"
        row = statuses[self.channel]
        io, sql = thread_states(row)
        if (io, sql) != ("Yes", "Yes"):
            return f"IO thread {io} ({row['Last_IO_Error']}), SQL thread {sql} ({row['Last_SQL_Error']})"
        if int(row["SQL_Delay"]) != self.delay:
            return f"the delay is set to {row['SQL_Delay']}"
        if not self.heartbeats_run:
            return ""
        ages = self.heartbeats()
        if set(ages) != {1, 2}:
            return f"there are heartbeats of {sorted(ages)}"
        if not self.delay - 0.5 <= ages[1] <= self.delay + 2.5:
            return f"the source's heartbeat is {ages[1]:.1f} s old"
        if not -0.5 <= ages[2] <= 2.5:
            return f"the local heartbeat is {ages[2]:.1f} s old"
        return ""

    def wait_healthy(self, deadline_s: float) -> None:
        """Wait until the line is established: threads run, the delay is what it should be, both heartbeats are fresh.

        Raises NotInTime with what is missing.
        """
        last = ""

        def healthy() -> bool:
            nonlocal last
            last = self.trouble()
            return not last

        try:
            wait_until(healthy, deadline_s, "the pair is healthy", interval_s=0.4)
        except NotInTime as error:
            raise NotInTime(f"{error}; {last}") from None

    # Making it healthy

    def settle(self) -> Pair:
        """Healthy, with no time spent on healing where it is, or soon will be, by itself."""
        if self.delay == self.usual_delay and not self.channel and self.second is None and self.whole:
            with suppress(*TROUBLE):
                for server in (self.source, self.replica):
                    server.calm()
                self.wait_healthy(2)
                return self
        return self.heal()

    def heal(self, delay: int | None = None, channel: str = "") -> Pair:
        """Healthy from scratch, whatever was done before: the replica forgets everything and replays the source's
        binary log, which takes a second or two. Where that does not do, the source starts anew too, and at last both
        servers are thrown away and made again.
        """
        self.delay = self.usual_delay if delay is None else delay
        self.channel = channel
        self.slave_delay.close()
        self.drop_second()
        trouble: Exception | None = None
        for prepare, set_up in (
            (Server.start, self._reset_replica),
            (Server.start, self._set_up),
            (Server.recreate, self._set_up),
        ):
            try:
                with ThreadPoolExecutor(2) as pool:
                    list(pool.map(prepare, (self.source, self.replica)))
                set_up()
                self.wait_healthy(20 + (self.delay if self.heartbeats_run else 0))
            except TROUBLE as error:
                trouble = error
            else:
                return self
        raise NotInTime(f"the pair cannot be healed: {trouble}")

    def _set_up(self) -> None:
        """An empty source with a heartbeat, and a replica of it."""
        self.whole = True
        self.heartbeat.stop()
        self.source.calm()
        self.source.drop_databases()
        self.source.forget_replication()
        self.source.make_accounts(self.heartbeats_run)
        if self.heartbeats_run:
            # Known to the replica too, which starts from nothing.
            self.source.sql("CREATE DATABASE IF NOT EXISTS percona")
            self.heartbeat.start()
            written = f"SELECT ts FROM {HEARTBEAT_TABLE}"
            wait_until(lambda: self.source.sql(written), 30, "the source's heartbeat is written")
            self.source.make_monitor()
        self._reset_replica()

    def _reset_replica(self) -> None:
        """A replica that knows nothing yet of a source that has all of its binary logs."""
        first_log = self.source.rows("SHOW BINARY LOGS")[0]["Log_name"]
        if not self.whole or not str(first_log).endswith(".000001"):
            raise NotInTime("binary logs were purged: there is nothing left to replay")
        self.source.calm()
        self.local_heartbeat.stop()
        replica = self.replica
        replica.calm()
        replica.forget_replication()
        replica.drop_databases()
        replica.make_accounts(self.heartbeats_run)
        if self.heartbeats_run:
            self.heartbeat.start()
            # The check's account needs the table, and the table needs the columns of this pt-heartbeat's version.
            create = self.source.rows(f"SHOW CREATE TABLE {HEARTBEAT_TABLE}")[0]["Create Table"]
            replica.unlogged("USE percona", str(create))
            replica.make_monitor()
        replica.replicate_from(self.source, self.delay, self.channel)
        if self.heartbeats_run:
            self.local_heartbeat.start()

    def delay_from_outside(self) -> Pair:
        """Healthy, and delayed by pt-slave-delay in place of the server itself; until the next `settle` or `heal`."""
        self.heal(delay=0)
        self.slave_delay.start()
        try:
            wait_until(lambda: (self.seen_delay() or 0) >= DELAY_S - 1, 40, "pt-slave-delay delays")
        except NotInTime as error:
            raise NotInTime(f"{error}\n{self.slave_delay.logs()}") from None
        return self

    # Beyond one source

    def add_second(self) -> Server:
        """A second source (server id 3) that replicates the first one without delay, ready to take its place."""
        if self.second is None:
            second = Server(self.kit, self.family, "second", 3, self.network)
            self.second = second
            second.start()
            second.forget_replication()
            second.make_accounts()
            second.replicate_from(self.source, 0)
            second.wait_for(self.source.executed(), 30)
            self.second_heartbeat = Heartbeat(second)
        return self.second

    def fail_over(self) -> Server:
        """The second source takes the place of the first: heartbeats move to it, and the replica follows it.

        The replica's status then names the new source at once, and its first heartbeat arrives one delay later.
        """
        second = self.add_second()
        assert self.second_heartbeat is not None
        self.heartbeat.stop()
        second.wait_for(self.source.executed(), 30)
        second.stop_all()
        second.replication("RESET", "ALL")
        self.second_heartbeat.start()
        self.replica.change_source(self.channel, HOST=second.name)
        return second

    def drop_second(self) -> None:
        for machine in (self.second_heartbeat, self.second):
            if machine is not None:
                machine.close()
        self.second = self.second_heartbeat = None

    def close(self) -> None:
        """Remove the servers, the heartbeats and the network: an engine has some thirty of them to give."""
        self.drop_second()
        for machine in (self.slave_delay, self.heartbeat, self.local_heartbeat, self.source, self.replica):
            machine.close()
        with suppress(docker.errors.APIError):  # somebody else's machine is still in it, or it is gone
            self.network.remove()


def _moment(text: str) -> datetime:
    """A heartbeat's ts, written with --utc, as a naive time in UTC."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
