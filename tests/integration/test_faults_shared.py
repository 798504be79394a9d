"""What may befall a shared history's server. Worker and check have the accounts that `delayed-repl grants` makes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from listeners import PASSWORD, Moody, listening, living

from .checking import CHECK, JOB, WORKER, make_account, tool
from .lone import INTERVAL_S, LAST_SEEN_S, NAME, Lone
from .matrix import essential, on

if TYPE_CHECKING:
    from .servers import Family, Kit, Server

MISSED_S = LAST_SEEN_S + 2 * INTERVAL_S + 6
DATABASE = "shared_history"


@pytest.fixture
def keeper(kit: Kit, fault_family: Family) -> Server:
    """The server of the shared history."""
    return kit.shared_server(fault_family)


@pytest.fixture
def replica() -> Moody:
    """A healthy replica; its SQL thread stands still once it is not well any more."""
    return Moody(living(Replica_SQL_Running=b"No"))


@pytest.fixture
def shared(keeper: Server, replica: Moody, tmp_path: Path) -> Iterator[Lone]:
    """A made-up replica whose history is on that server, empty and with two accounts as if new."""
    keeper.sql(f"DROP DATABASE IF EXISTS {DATABASE}")
    with listening(replica) as target:
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


BUDGETS = [
    word
    for what in ("backup-behind", "deshard-behind", "recovery-time", "trend-time")
    for word in (f"--max-{what}", "5")
]
"""Nothing holds an alarm back for longer than these together."""
OVERSPENT = ("job-overrun", "recovery-exceeded", "sql-stopped")


@contextmanager
def job_writer(shared: Lone, keeper: Server) -> Iterator[Callable[..., None]]:
    """Inserts the starts of backups under a name, with the account that `grants` makes."""
    where = url(keeper, JOB, shared.folder)
    make_account(keeper, JOB, "job", where, only="history")
    with keeper.connect(*JOB, database=DATABASE) as connection:

        def write(name: str, first: int, count: int) -> None:
            connection.cursor().executemany(
                "INSERT INTO job (replica, id, kind, started_at) VALUES (%s, %s, 'backup', %s)",
                [(name, f"j{number}", time.time()) for number in range(first, first + count)],
            )

        yield write


@on("mysql", "mariadb", "mariadb118")
@essential("mariadb")
def test_flood_under_another_name(shared: Lone, replica: Moody, keeper: Server) -> None:
    """While the numbering of job lines is kept busy, somebody starts a backup again and again."""
    with job_writer(shared, keeper) as write:
        write("elsewhere", 0, 500)
        shared.stays_ok(2)
        with shared.fault(
            "9.28", "Shared history: flood of job lines under another name, jobs without end under this one", OVERSPENT,
            "a few hundred lines", within=4 * 5 + MISSED_S,
        ) as it:  # fmt: skip
            write("elsewhere", 500, 20_000)
            write(NAME, 0, 1)
            replica.turn(False)
            it.caused()
            shared.expect("WARNING", "active-backup", 10, *BUDGETS)
            over = threading.Event()

            def go_on() -> None:
                number = 1
                while not over.wait(0.3):
                    write(NAME, number, 1)
                    number += 1

            writer = threading.Thread(target=go_on, daemon=True)
            writer.start()
            it.detected(*BUDGETS)
            it.stays(3, *BUDGETS)
            over.set()
            writer.join(30)
            replica.turn(True)
            void_all(shared, keeper)


@on("mysql", "mariadb", "mariadb118")
@essential("mysql")
def test_flood_under_this_name(shared: Lone, replica: Moody, keeper: Server) -> None:
    with job_writer(shared, keeper) as write:
        write(NAME, 0, 20)
        shared.expect("WARNING", "active-backup", 10)
        void_all(shared, keeper)
        shared.expect("OK", "in-range", 10)
        with shared.fault(
            "9.29", "Shared history: flood of job lines under the replica's name", "job-records-flooded", "twenty jobs",
            within=30,
        ) as it:  # fmt: skip
            begin = time.time()
            write(NAME, 20, 20_000)
            outcome = it.detected()
            assert len(outcome.text) < 4000
            it.stays(1)
            shared.complete(begin)
            keeper.sql(f"DELETE FROM {DATABASE}.job WHERE arrival IS NULL")
            void_all(shared, keeper)


def void_all(shared: Lone, keeper: Server) -> None:
    """By an account that may read."""
    tool("job", "void", "--all", "--history", url(keeper, WORKER, shared.folder), "--replica", NAME)


@contextmanager
def locked(keeper: Server) -> Iterator[None]:
    """Somebody holds the lock that whoever stores a sample needs, and does nothing."""
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
    server.start()
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
