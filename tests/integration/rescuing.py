"""A disaster on a real pair, amid other writes, and the commands that get the data back."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from check_delayed_repl.setup.accounts import RESCUE, Account, rights
from check_delayed_repl.setup.asking import unasked

from .checking import ROOT, tool
from .servers import ROOT_PASSWORD, Family, Kit, Pair, Server, account, literal, wait_until

DELAY_S = 90
TABLES = ("app.orders", "app.lines", "app.stock", "other.notes")
MISTAKES = {
    "drop": "DROP TABLE app.orders",
    "delete": "DELETE FROM app.orders",
    "truncate": "TRUNCATE app.orders",
}
HELD_S = 2147483647

State = dict[str, tuple[int, int]]
"""COUNT and CHECKSUM TABLE of each table."""


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def beat() -> str:
    ts = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"REPLACE INTO percona.heartbeat (ts, server_id) VALUES ({literal(ts)}, 1)"


@contextmanager
def threads(*actions: Callable[[threading.Event], None]) -> Iterator[None]:
    """Meanwhile, each of these in a thread, until its event."""
    done = threading.Event()
    made = [threading.Thread(target=action, args=(done,), daemon=True) for action in actions]
    for thread in made:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in made:
            thread.join(30)


def ran(command: list[str], **environment: str) -> Result:
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=180, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


class Scene:
    """One pair, set up anew for each test, and a rescuer."""

    def __init__(self, pair: Pair, folder: Path, login: tuple[str, str] = ("root", ROOT_PASSWORD)) -> None:
        self.pair, self.login = pair, login
        self.source, self.replica = pair.source, pair.replica
        self.state_folder = folder / "state"
        self.history = folder / "history.db"
        self.mariadb = pair.kind == "mariadb"
        self.pins = self.mariadb or pair.family == "mysql56"
        """A freeze cannot be held at once."""
        self._writing = threading.Lock()
        self._number = self._written = self._beats = 0

    # The servers

    def set_up(self, delay: int = DELAY_S) -> None:
        """An empty pair with tables, rows in them and a heartbeat, all of it on both servers."""
        for server in (self.source, self.replica):
            server.start()
            server.calm()
        self.replica.forget_replication()
        if self.pair.family == "mysql":
            self.replica.sql("RESET PERSIST")
        self.replica.drop_databases()
        self.source.drop_databases()
        self.source.reset_logs()
        statements = ["CREATE DATABASE app", "CREATE DATABASE other", "CREATE DATABASE percona"]
        statements += [
            f"CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(250), n INT NOT NULL) ENGINE=InnoDB"
            for table in TABLES
        ]
        statements.append(
            "CREATE TABLE percona.heartbeat (ts VARCHAR(26) NOT NULL, server_id INT UNSIGNED PRIMARY KEY)"
        )
        for table in TABLES:
            rows = ", ".join(f"(REPEAT('{n}', 50), {n})" for n in range(200))
            statements.append(f"INSERT INTO {table} (v, n) VALUES {rows}")
        self.source.sql(*statements)
        self.source.sql(beat())
        self.replica.replicate_from(self.source, 0)
        self.equal()
        if delay:
            self.replica.set_delay(delay)
            wait_until(lambda: self.replica.threads() == ("Yes", "Yes"), 20, "both threads run")

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Meanwhile, a heartbeat at each whole second, as pt-heartbeat writes them."""

        def beats(done: threading.Event) -> None:
            while not done.wait(1.0 - time.time() % 1.0):
                with suppress(Exception), self.source.session() as run:
                    while not done.wait(1.0 - time.time() % 1.0):
                        run(beat())
                        self._beats += 1

        with threads(beats):
            yield

    @contextmanager
    def load(self) -> Iterator[None]:
        """Meanwhile, four sessions write into every table, and a heartbeat."""

        def write(number: int, done: threading.Event) -> None:
            with suppress(Exception), self.source.session() as run:
                while not done.wait(0.01):
                    with self._writing:
                        table = TABLES[number % len(TABLES)]
                        with suppress(Exception):
                            if number % 3:
                                run(f"INSERT INTO {table} (v, n) VALUES (REPEAT('{number % 10}', 200), {number})")
                            else:
                                run(f"UPDATE {table} SET n = n + 1, v = '{number}' WHERE id = {1 + number % 199}")
                            self._written += 1
                    number += 7

        with threads(*(partial(write, seed) for seed in range(4))), self.beating():
            yield

    def more(self) -> None:
        """Until the load has written into every table many times, and a heartbeat."""
        written, beats = self._written + 60, self._beats + 1
        wait_until(lambda: self._written >= written and self._beats >= beats, 60, "more is written")

    def blunder(self, mistake: str) -> State:
        """A mistake amid other writes; the tables right before it."""
        with self.load():
            self.more()
            before = self.make(MISTAKES[mistake])
            self.more()
        return before

    def make(self, mistake: str) -> State:
        """The tables right before the mistake, which is made with nothing in between."""
        with self._writing:
            before = self.tables(self.source)
            self.source.sql(mistake)
        return before

    def tables(self, server: Server, names: Sequence[str] = TABLES) -> State:
        with server.session() as run:
            return {
                name: (int(run(f"SELECT COUNT(*) FROM {name}")[0][0]), int(run(f"CHECKSUM TABLE {name}")[0][1] or 0))
                for name in names
                if run(f"SHOW TABLES FROM {name.split('.')[0]} LIKE '{name.split('.')[1]}'")
            }

    def equal(self, within_s: float = 60) -> None:
        """Waits until the replica has all that the source has."""
        wait_until(lambda: self.tables(self.replica) == self.tables(self.source), within_s, "all is equal")

    def lose_source(self) -> None:
        self.source.kill()
        wait_until(lambda: self.replica.threads()[0] != "Yes", 30, "the replica has noticed")

    def fetched(self) -> None:
        self.replica.wait_fetched(self.source)

    def status(self) -> dict[str, Any]:
        return self.replica.status(self.pair.channel)

    # The commands

    def command(self, *arguments: str) -> list[str]:
        action, *rest = arguments
        user, password = self.login
        return [
            *(sys.executable, "-m", "check_delayed_repl.tool", "--debug", "rescue", action),
            *("-H", self.replica.host, "-P", str(self.replica.port), "-u", user, "-p", password),
            *("--state", str(self.state_folder), "--history", str(self.history), "--replica", "replica", *rest),
        ]

    def run(self, *arguments: str) -> Result:
        return ran(self.command(*arguments))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        result = self.run(*arguments, "--output", "json")
        assert result.code == code, (arguments, result)
        return result.object

    def refused(self, *arguments: str) -> str:
        """Why a command does nothing."""
        result = self.json(*arguments, code=1)
        assert not result.get("done"), result
        return " ".join(result["reasons"])

    def stands(self, phase: str, held: bool) -> dict[str, Any]:
        """What status says, which is this."""
        status = self.json("status")
        assert (status["phase"], status["held"]) == (phase, held), status
        return status | {"reasons": " ".join(status["reasons"])}

    def target(self, *found: str) -> str:
        """What is found first."""
        return str(self.find(*found)[0]["target"])

    def paste(self, text: str) -> Result:
        """Runs the command that stands last in what was printed, as a shell reads it."""
        command = [line[line.index("delayed-repl ") :] for line in text.splitlines() if "delayed-repl " in line][-1]
        command = command.replace("delayed-repl", f"{sys.executable} -m check_delayed_repl.tool --debug", 1)
        return ran(["sh", "-c", command], PASSWORD=self.login[1])

    def by_hand(self, beginning: str) -> list[str]:
        """The statements that status prints behind a line with this beginning."""
        lines = iter(self.run("status").out.splitlines())
        assert any(line.startswith(beginning) for line in lines), beginning
        return [line.strip().rstrip(";") for line in itertools.takewhile(lambda one: one.startswith("    "), lines)]

    def find(self, *arguments: str) -> list[dict[str, Any]]:
        result = self.run("find", "--output", "json", *arguments)
        assert result.code == 0, result
        return [json.loads(line) for line in result.out.splitlines()]

    def rescued(self, before: State, *found: str) -> str:
        """Goes forward to what is found first, and is held there with these tables; the target."""
        target = self.target(*found)
        done = self.json("forward", target, "--execute")
        assert (done["phase"], done["held"]) == ("forwarded", True), done
        assert self.tables(self.replica) == before
        return target

    def jobs(self) -> dict[str, str]:
        """Which jobs are recorded, all of them rescues: id → status."""
        said = tool("job", "list", "--output", "json", "--replica", "replica", "--history", str(self.history))
        jobs = [json.loads(line) for line in said.splitlines()]
        assert {job["kind"] for job in jobs} <= {"rescue"}
        return {job["id"]: job["status"] for job in jobs}

    def rescuer(self, login: tuple[str, str]) -> list[str]:
        """Statements that make an account with the rights that `grants --for rescue` gives."""
        server = unasked(str(self.replica.value("SELECT VERSION()")))
        return [
            f"DROP USER IF EXISTS {account(login)}",
            *Account(RESCUE, login[0], "%", login[1]).sql(
                server, rights(RESCUE, server, "percona.heartbeat"), logged=False
            ),
        ]

    def kill_at(self, number: int, *arguments: str) -> str:
        """Runs a command that is killed right before a statement (1, 3, ...) or right behind one (2, 4, ...); what it
        was about, empty where the command came to its end.
        """
        script = (
            "import os, sys\n"
            "from check_delayed_repl.rescue import run\n"
            "note = run.Runner.note\n"
            f"left = [{number}]\n"
            "def killed(self, name, what):\n"
            "    left[0] -= 1\n"
            "    if what == 'begun': note(self, name, what)\n"
            "    if not left[0]:\n"
            "        print(name, what, file=sys.stderr, flush=True)\n"
            "        os._exit(9)\n"
            "    if what != 'begun': note(self, name, what)\n"
            "run.Runner.note = killed\n"
            "from check_delayed_repl import tool\n"
            "sys.exit(tool.run(sys.argv[1:]))\n"
        )
        done = ran([sys.executable, "-c", script, *self.command(*arguments)[3:]])
        assert done.code in (0, 9), done
        return done.err.strip() if done.code == 9 else ""

    def inside(self, dump: str) -> str:
        """The dump command that a forward has printed, as it is to be run inside the replica's container."""
        here = f'--host={self.replica.host} --port={self.replica.port} --user={self.login[0]} --password="$PASSWORD"'
        assert here in dump
        login = f"-u root -p{ROOT_PASSWORD}"
        return dump.replace(here, f"-h replica {login}").replace("-u USER -p", login)

    def load_back(self, dump: str, mistake: str) -> None:
        """Runs the dump command that a forward has printed, inside the replica's container, and merges the table."""
        command = self.inside(dump)
        if self.pair.family == "mysql56":  # whose image has no client
            self.source.sql(
                "CREATE DATABASE app_rescue",
                str(self.replica.sql("SHOW CREATE TABLE app.orders")[0][1]).replace(
                    "CREATE TABLE `orders`", "CREATE TABLE app_rescue.orders"
                ),
            )
            rows = ", ".join(f"({i}, {literal(v)}, {n})" for i, v, n in self.replica.sql("SELECT * FROM app.orders"))
            self.source.sql(f"INSERT INTO app_rescue.orders VALUES {rows}")
        else:
            code, output = self.replica.container.exec_run(["bash", "-c", f"set -o pipefail; {command}"])
            assert code == 0, output
        if mistake == "drop":
            self.source.sql("RENAME TABLE app_rescue.orders TO app.orders")
        else:
            self.source.sql("REPLACE INTO app.orders SELECT * FROM app_rescue.orders")

    def shorten(self) -> None:
        """A delay of nothing, with the relay log kept."""
        row = self.status()
        self.replica.stop_all()
        if self.pins:
            place = f"RELAY_LOG_FILE='{row['Relay_Log_File']}', RELAY_LOG_POS={row['Relay_Log_Pos']}"
            self.replica.sql(f"CHANGE MASTER TO MASTER_DELAY=0, {place}")
        else:
            self.replica.start_io()
            wait_until(lambda: self.replica.threads()[0] == "Yes", 20, "the IO thread runs")
            self.replica.sql("CHANGE REPLICATION SOURCE TO SOURCE_DELAY=0")
        self.replica.start_all()


def pair_for_rescues(kit: Kit, family: Family, gtid: bool, *replica_options: str) -> Pair:
    """Two servers, the replica with parallel appliers, for `Scene.set_up` to make a pair of."""
    optimistic = ["--slave-parallel-mode=optimistic"] if family.startswith("mariadb") else []
    # What is set must be there after kill -9.
    durable = ("--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1")
    options = [*optimistic, *durable, "--max-relay-log-size=262144", *replica_options]
    pair = Pair(kit, family, gtid=gtid, parallel=4, heartbeats=False, replica_options=options)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Server.start, (pair.source, pair.replica)))
    for server in (pair.source, pair.replica):
        server.make_accounts(heartbeats=False)
    return pair
