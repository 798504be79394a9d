"""What may befall a shared history's server. Worker and check have the accounts that `delayed-repl grants` makes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from listeners import PASSWORD, listening, living

from .checking import CHECK, WORKER, make_account
from .lone import INTERVAL_S, LAST_SEEN_S, Lone
from .matrix import essential, on

if TYPE_CHECKING:
    from .servers import Family, Kit, Server

MISSED_S = LAST_SEEN_S + 2 * INTERVAL_S + 6
DATABASE = "shared_history"


@pytest.fixture(scope="module")
def keeper(kit: Kit, fault_family: Family) -> Iterator[Server]:
    """The server of the shared history."""
    server = kit.server(fault_family, name=f"keeper-{fault_family}")
    yield server
    server.close()


@pytest.fixture
def shared(keeper: Server, tmp_path: Path) -> Iterator[Lone]:
    """A made-up replica whose history is on that server, empty and with two accounts as if new."""
    keeper.revive()
    keeper.calm()
    keeper.sql(f"DROP DATABASE IF EXISTS {DATABASE}")
    with listening(living()) as target:
        lone = Lone(target, url(keeper, CHECK, tmp_path), tmp_path)
        lone.worker_where = url(keeper, WORKER, tmp_path)
        lone.family = keeper.family
        lone.version = ".".join(map(str, keeper.version))
        make_account(keeper, WORKER, "worker", lone.worker_where, only="history")
        make_account(keeper, CHECK, "check", lone.where, only="history")
        with lone.worker():
            lone.expect("OK", "in-range", 40)
            yield lone
        for who in (CHECK, WORKER):
            assert who[1] not in lone.said()


def url(keeper: Server, who: tuple[str, str], folder: Path) -> str:
    file = folder / f"{who[0]}.cnf"
    file.write_text(f"[client]\nuser={who[0]}\npassword={who[1]}\n")
    return f"mysql://{who[0]}@{keeper.host}:{keeper.port}/{DATABASE}?defaults-file={file}"


@on("mysql", "mariadb", "mariadb118")
@essential
def test_down(shared: Lone, keeper: Server) -> None:
    keeper.restart()
    shared.expect("OK", "in-range", 30)
    with shared.fault(
        "9.20", "Shared history: its server killed", "history-unavailable", "restarted", within=MISSED_S, back=60
    ) as it:
        begin = time.time()
        keeper.kill()
        it.detected()
        it.stays(1)
        assert shared.inline().what == ("CRITICAL", "history-unavailable")
        keeper.start()
    shared.complete(begin)


@on("mysql", "mariadb", "mariadb118")
@essential
def test_hung(shared: Lone, keeper: Server) -> None:
    keeper.pause()
    time.sleep(0.5)
    keeper.unpause()
    shared.stays_ok(1)
    with shared.fault(
        "9.21", "Shared history: its server hangs", "history-unavailable", "hung for half a second", within=MISSED_S
    ) as it:
        begin = time.time()
        keeper.pause()
        try:
            it.detected()
            it.stays(1)
            inline = shared.inline()
            assert inline.state == "CRITICAL"
        finally:
            keeper.unpause()
    shared.complete(begin)


@on("mysql", "mariadb", "mariadb118")
def test_read_only(shared: Lone, keeper: Server) -> None:
    with shared.fault(
        "9.22", "Shared history: its server made read_only", "worker-missing", "read_only set to OFF", within=MISSED_S
    ) as it:
        begin = time.time()
        keeper.sql("SET GLOBAL read_only = ON")
        it.detected()
        it.stays(1)
        inline = shared.inline()
        assert inline.what == ("CRITICAL", "history-unavailable")
        assert "name a server that can be written to" in inline.message
        keeper.sql("SET GLOBAL read_only = OFF")
    shared.complete(begin)
    keeper.sql("SET GLOBAL read_only = OFF")
    shared.stays_ok(1)


@on("mysql", "mariadb", "mariadb118")
@essential
def test_table_gone(shared: Lone, keeper: Server) -> None:
    keeper.sql(f"ALTER TABLE {DATABASE}.sample ENGINE = InnoDB")
    shared.stays_ok(1)
    with shared.fault(
        "9.23", "Shared history: a table gone", "history-unavailable", "a table made anew", within=MISSED_S
    ) as it:
        begin = time.time()
        keeper.sql(f"RENAME TABLE {DATABASE}.sample TO {DATABASE}.hidden")
        assert "a table is missing" in it.detected().message
        it.stays(1)
        keeper.sql(f"RENAME TABLE {DATABASE}.hidden TO {DATABASE}.sample")
    shared.complete(begin)


@on("mysql", "mariadb", "mariadb118")
def test_database_gone(shared: Lone, keeper: Server) -> None:
    """Nothing is left of it, and the worker may not make it: it goes on once somebody has."""
    with shared.fault(
        "9.24", "Shared history: its database dropped", "history-unavailable", "another database dropped",
        within=MISSED_S,
    ) as it:  # fmt: skip
        begin = time.time()
        keeper.sql(f"DROP DATABASE {DATABASE}")
        it.detected()
        it.stays(1)
        make_account(keeper, WORKER, "worker", shared.worker_where, only="history")
        make_account(keeper, CHECK, "check", shared.where, only="history")
    shared.complete(begin)
    keeper.sql("CREATE DATABASE other", "DROP DATABASE other")
    shared.stays_ok(1)


@on("mysql", "mariadb", "mariadb118")
@essential
def test_privileges_gone(shared: Lone, keeper: Server) -> None:
    keeper.sql("FLUSH PRIVILEGES")
    shared.stays_ok(1)
    grants = make_account(keeper, WORKER, "worker", shared.worker_where, only="history")
    shared.expect("OK", "in-range", 20)
    with shared.fault(
        "9.25", "Shared history: the worker's privileges gone", "worker-missing", "granted again", within=MISSED_S
    ) as it:
        begin = time.time()
        keeper.sql(*(grant.replace("GRANT ", "REVOKE ", 1).replace(" TO ", " FROM ", 1) for grant in grants))
        it.detected()
        it.stays(1)
        keeper.sql(*grants)
    shared.complete(begin)


@contextmanager
def locked(keeper: Server) -> Iterator[None]:
    """Somebody holds the lock that whoever stores a look needs, and does nothing."""
    with keeper.session() as session:
        session("BEGIN")
        session(f"SELECT * FROM {DATABASE}.counter FOR UPDATE")
        yield
        session("ROLLBACK")


@on("mysql", "mariadb", "mariadb118")
def test_locked(shared: Lone, keeper: Server) -> None:
    with locked(keeper):
        time.sleep(1)
    shared.stays_ok(1)
    with shared.fault(
        "9.26", "Shared history: locked by a stuck session", "worker-missing", "locked for a second", within=MISSED_S
    ) as it:
        begin = time.time()
        with locked(keeper):
            it.detected()
            it.stays(1)
            assert shared.inline().what == ("CRITICAL", "history-unavailable")
    shared.complete(begin)


@on("mysql", "mariadb", "mariadb118")
def test_worker_killed(shared: Lone) -> None:
    """Another worker beside the one that goes on: what it wrote stays, and it leaves no lock behind."""
    chance = random.Random(9)
    for _ in range(10):
        with shared.worker(log="another.log") as another:
            time.sleep(chance.uniform(0.2, 1.5))
            before = set(shared.samples())
            another.kill()
            another.wait()
        assert before <= set(shared.samples())
        assert shared.judged().what == ("OK", "in-range")


@pytest.fixture
def small(kit: Kit, fault_family: Family) -> Iterator[Server]:
    """A server on a disk of its own, without a binary log."""
    from .servers import Server

    server = Server(
        kit,
        fault_family,
        f"small-{fault_family}",
        9,
        kit.network(),
        "--skip-log-bin",
        tmpfs={"/var/lib/mysql": "size=500m"},
    )
    server.launch().wait_ready()
    yield server
    server.close()


@on("mysql", "mariadb")  # MariaDB 11.8 was seen to end itself, and its data on the small disk with it
def test_disk_full(small: Server, tmp_path: Path) -> None:
    with listening(living()) as target:
        lone = Lone(target, url(small, WORKER, tmp_path), tmp_path)
        lone.family, lone.version = small.family, ".".join(map(str, small.version))
        make_account(small, WORKER, "worker", lone.where, only="history")
        config = tmp_path / "fleet.toml"
        # Many, so that room is needed all the time.
        config.write_text(
            f'[defaults]\nuser = "monitor"\npassword = "{PASSWORD}"\ninterval = 0.2\nhost = "127.0.0.1"\n'
            f"port = {target.port}\n"
            + "".join(f'[[replica]]\nreplica = "{name}"\n' for name in ("db7", *(f"r{number}" for number in range(40))))
        )
        with lone.worker("--config", str(config)):
            lone.expect("OK", "in-range", 40)
            fill(small, "count=1000")
            lone.stays_ok(2)
            with lone.fault(
                "9.27", "Shared history: its server's disk full", "worker-missing", "nearly full", within=60, back=90
            ) as it:
                begin = time.time()
                fill(small, "")
                lone.expect("CRITICAL", "worker-missing", 60)
                it.caused()
                it.detected()
                it.stays(1)
                small.container.exec_run("rm /var/lib/mysql/filler")
            lone.complete(begin)


def fill(server: Server, count: str) -> None:
    """Takes room from a server's disk, all of it where nothing is said."""
    server.container.exec_run(["sh", "-c", f"dd if=/dev/zero of=/var/lib/mysql/filler bs=4k {count} 2>/dev/null; true"])
