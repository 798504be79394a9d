"""What may befall a shared history's server. Worker and check have the accounts that `delayed-repl grants` makes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from listeners import Moody, listening, living

from .checking import CHECK, JOB, WORKER, make_account, revoked, statements_for, tool
from .lone import INTERVAL_S, LAST_SEEN_S, NAME, Lone
from .matrix import essential, on
from .servers import Server, meanwhile, wait_until

if TYPE_CHECKING:
    from .servers import Family, Kit

pytestmark = on("mysql", "mariadb", "mariadb118")

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
        lone = kept_by(keeper, Lone(target, url(keeper, CHECK, tmp_path), tmp_path))
        with lone.worker():
            lone.expect("OK", "in-range", 40)
            yield lone
        for who in (CHECK, WORKER):
            assert who[1] not in lone.said()


def kept_by(keeper: Server, lone: Lone) -> Lone:
    lone.worker_history = url(keeper, WORKER, lone.folder)
    lone.family, lone.version = keeper.family, ".".join(map(str, keeper.version))
    make_account(keeper, WORKER, "worker", lone.worker_history, only="history")
    make_account(keeper, CHECK, "check", lone.history, only="history")
    return lone


def url(keeper: Server, who: tuple[str, str], folder: Path) -> str:
    file = folder / f"{who[0]}.cnf"
    file.write_text(f"[client]\nuser={who[0]}\npassword={who[1]}\n")
    return f"mysql://{who[0]}@{keeper.host}:{keeper.port}/{DATABASE}?defaults-file={file}"


@contextmanager
def killed(keeper: Server, _: Lone) -> Iterator[None]:
    keeper.kill()
    yield
    keeper.start()


@contextmanager
def hung(keeper: Server, _: Lone) -> Iterator[None]:
    keeper.pause()
    try:
        yield
    finally:
        keeper.unpause()


@contextmanager
def dropped(keeper: Server, shared: Lone) -> Iterator[None]:
    """Nothing is left of it, and the worker may not make it: it goes on once somebody has."""
    keeper.sql(f"DROP DATABASE {DATABASE}")
    yield
    kept_by(keeper, shared)


@contextmanager
def without_privileges(keeper: Server, shared: Lone) -> Iterator[None]:
    statements = statements_for(keeper, WORKER, "worker", shared.worker_history, "history")
    grants = [statement for statement in statements if statement.startswith("GRANT ")]
    keeper.sql(*map(revoked, grants))
    yield
    keeper.sql(*grants)


@contextmanager
def locked(keeper: Server, _: Lone) -> Iterator[None]:
    """Somebody holds the lock that whoever stores a sample needs, and does nothing."""
    with keeper.session() as session:
        session("BEGIN")
        session(f"SELECT * FROM {DATABASE}.counter FOR UPDATE")
        yield
        session("ROLLBACK")


Broken = Callable[[Server, Lone], AbstractContextManager[None]]


def by_sql(cause: str, mend: str) -> Broken:
    @contextmanager
    def broken(keeper: Server, _: Lone) -> Iterator[None]:
        keeper.sql(cause)
        yield
        keeper.sql(mend)

    return broken


def briefly(broken: Broken, seconds: float) -> Callable[[Server, Lone], None]:
    def harmless(keeper: Server, shared: Lone) -> None:
        with broken(keeper, shared):
            time.sleep(seconds)

    return harmless


def sql(*statements: str) -> Callable[[Server, Lone], object]:
    return lambda keeper, _: keeper.sql(*statements)


class Case(NamedTuple):
    title: str
    condition: str
    broken: Broken
    """Broken when it is entered, mended when it is left."""
    twin: str
    harmless: Callable[[Server, Lone], object]
    inline: str = "history-unavailable"
    """What a check that takes a sample itself says; nothing where it is not concerned."""
    said: str = ""


SAMPLE = f"{DATABASE}.sample"
READ_ONLY = by_sql("SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF")
RENAMED = by_sql(f"RENAME TABLE {SAMPLE} TO {SAMPLE}_hidden", f"RENAME TABLE {SAMPLE}_hidden TO {SAMPLE}")
UNAVAILABLE, MISSING = "history-unavailable", "worker-missing"
CASES = {
    "9.20": Case("its server killed", UNAVAILABLE, killed, "restarted", lambda keeper, _: keeper.restart()),
    "9.21": Case("its server hangs", UNAVAILABLE, hung, "hung for half a second", briefly(hung, 0.5), "timeout"),
    "9.22": Case(
        *("its server made read_only", MISSING, READ_ONLY, "read_only set to OFF", sql("SET GLOBAL read_only = OFF")),
        said="name a server that can be written to",
    ),
    "9.23": Case(
        *("a table gone", UNAVAILABLE, RENAMED, "a table made anew", sql(f"ALTER TABLE {SAMPLE} ENGINE = InnoDB")),
        said="a table is missing",
    ),
    "9.24": Case(
        *("its database dropped", UNAVAILABLE, dropped, "another database dropped"),
        sql("CREATE DATABASE other", "DROP DATABASE other"),
    ),
    "9.25": Case(
        *("the worker's privileges gone", MISSING, without_privileges, "granted again", sql("FLUSH PRIVILEGES")),
        inline="",
    ),
    "9.26": Case("locked by a stuck session", MISSING, locked, "locked for a second", briefly(locked, 1)),
}
ESSENTIAL = ("9.20", "9.21", "9.23", "9.25")


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=essential if number in ESSENTIAL else ()) for number in CASES]
)
def test_broken(shared: Lone, keeper: Server, number: str) -> None:
    case = CASES[number]
    case.harmless(keeper, shared)
    over = time.time()
    wait_until(lambda: shared.samples()[-1].t > over, 40, "the worker has written since")
    shared.stays_ok(1)
    title = f"Shared history: {case.title}"
    with shared.fault(number, title, case.condition, case.twin, within=MISSED_S, back=60) as it:
        begin = time.time()
        with case.broken(keeper, shared):
            told = it.detected().message
            it.stays(1)
            if case.inline:
                inline = shared.inline()
                assert inline.what in (("CRITICAL", UNAVAILABLE), ("CRITICAL", case.inline)), inline.text
                told += inline.message
            assert case.said in told
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


def void_all(shared: Lone, keeper: Server) -> None:
    """By an account that may read."""
    tool("job", "void", "--all", "--history", url(keeper, WORKER, shared.folder), "--replica", NAME)


@essential("mariadb")
def test_flood_under_another_name(shared: Lone, replica: Moody, keeper: Server) -> None:
    """While the numbering of job lines is kept busy, somebody starts a backup again and again."""
    title = "Shared history: flood of job lines under another name, jobs without end under this one"
    with job_writer(shared, keeper) as write:
        write("elsewhere", 0, 500)
        shared.stays_ok(2)
        within, twin = 4 * 5 + MISSED_S, "a few hundred lines"
        with shared.fault("9.28", title, OVERSPENT, twin, within=within, options=BUDGETS) as it:
            write("elsewhere", 500, 20_000)
            write(NAME, 0, 1)
            replica.turn(False)
            it.caused()
            shared.expect("WARNING", "active-backup", 10, *BUDGETS)
            numbers = count(1)
            with meanwhile(lambda: write(NAME, next(numbers), 1), 0.3):
                it.detected()
                it.stays(3)
            replica.turn(True)
            void_all(shared, keeper)


@essential("mysql")
def test_flood_under_this_name(shared: Lone, replica: Moody, keeper: Server) -> None:
    title = "Shared history: flood of job lines under the replica's name"
    with job_writer(shared, keeper) as write:
        write(NAME, 0, 20)
        shared.expect("WARNING", "active-backup", 10)
        void_all(shared, keeper)
        shared.expect("OK", "in-range", 10)
        with shared.fault("9.29", title, "job-records-flooded", "twenty jobs", within=30) as it:
            begin = time.time()
            write(NAME, 20, 20_000)
            assert len(it.detected().text) < 4000
            it.stays(1)
            shared.complete(begin)
            keeper.sql(f"DELETE FROM {DATABASE}.job WHERE arrival IS NULL")
            void_all(shared, keeper)


@pytest.fixture
def small(kit: Kit, fault_family: Family) -> Iterator[Server]:
    """A server on a disk of its own, without a binary log."""
    place = (f"small-{fault_family}", 9, kit.network(), "--skip-log-bin")
    server = Server(kit, fault_family, *place, tmpfs={"/var/lib/mysql": "size=500m"})
    yield server.start()
    server.close()


@on("mysql", "mariadb")  # MariaDB 11.8 was seen to end itself, and its data on the small disk with it
def test_disk_full(small: Server, tmp_path: Path) -> None:
    with listening(living()) as target:
        lone = Lone(target, url(small, WORKER, tmp_path), tmp_path)
        lone.family, lone.version = small.family, ".".join(map(str, small.version))
        make_account(small, WORKER, "worker", lone.history, only="history")
        # Many, so that room is needed all the time.
        names = (NAME, *(f"r{number}" for number in range(40)))
        with lone.worker(*lone.fleet(dict.fromkeys(names, target), interval=0.2)):
            lone.expect("OK", "in-range", 40)
            fill(small, "count=1000")
            lone.stays_ok(2)
            title = "Shared history: its server's disk full"
            with lone.fault("9.27", title, MISSING, "nearly full", within=60, back=90) as it:
                begin = time.time()
                fill(small, "")
                lone.expect("CRITICAL", MISSING, 60)
                it.detected()
                it.stays(1)
                small.container.exec_run("rm /var/lib/mysql/filler")
            lone.complete(begin)


def fill(server: Server, count: str) -> None:
    """Takes room from a server's disk, all of it where nothing is said."""
    server.container.exec_run(["sh", "-c", f"dd if=/dev/zero of=/var/lib/mysql/filler bs=4k {count} 2>/dev/null; true"])
