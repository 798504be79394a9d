"""The commands against real servers: run as processes, as the accounts that `delayed-repl grants` makes, and watched
over time.

A test takes a `Scene` (see conftest.py): a healthy pair, a history of its own, the check and the worker with limits
that are scaled to a delay of ten seconds. What happens between two checks is not lost: the worker looks every second,
and `Scene.replay` judges the recording at every look, under any limits, so that a test can say "WARNING throughout".

Where the environment variable CHECK_DELAYED_REPL_RECORDINGS names a folder, every recording is kept there.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from check_delayed_repl.history.recording import read
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.options import Parser, add_connection_options, add_judging_options, limits_from
from check_delayed_repl.records import Record, Sample

from .servers import ROOT_PASSWORD, NotInTime, Pair, Server, wait_until

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS_VARIABLE = "CHECK_DELAYED_REPL_RECORDINGS"

CHECK = ("delay_check", "check-secret-7h")
WORKER = ("delay_worker", "worker-secret-7h")
JOB = ("delay_job", "job-secret-7h")
SECRETS = (CHECK[1], WORKER[1], JOB[1], ROOT_PASSWORD)

SCALED = (
    *("--min-delay-time", "6", "--max-delay-time", "16", "--max-seconds-behind", "5"),
    *("--max-relay-behind", "60", "--max-master-behind", "60", "--max-last-seen", "6"),
    *("--max-backup-behind", "2m", "--max-deshard-behind", "2m", "--max-recovery-time", "60"),
    *("--max-trend-time", "40", "--window", "15"),
)
"""Limits for a pair that is delayed by ten seconds, and looks a second apart."""

LINE = re.compile(r"DELAYED_REPL (OK|WARNING|CRITICAL|UNKNOWN) - (.*?)(?: \| (.*))?")
FINDING = re.compile(r"\[(OK|WARNING|CRITICAL|UNKNOWN) ([a-z-]+)\] (.*)")


class Found(NamedTuple):
    """One finding, as printed."""

    state: str
    condition: str
    message: str


class Outcome(NamedTuple):
    """What one run of the check printed."""

    state: str
    findings: list[Found]
    """Worst first."""
    text: str
    """All of standard output."""
    perfdata: dict[str, str]
    seconds: float
    """How long the process took."""

    @property
    def condition(self) -> str:
        return self.findings[0].condition

    @property
    def message(self) -> str:
        return self.findings[0].message

    @property
    def conditions(self) -> list[str]:
        return [finding.condition for finding in self.findings]

    @property
    def what(self) -> tuple[str, str]:
        """State and condition."""
        return self.state, self.condition


class Moment(NamedTuple):
    """The verdict at one recorded look."""

    t: float
    state: str
    condition: str
    findings: tuple[str, ...]
    """`STATE condition`, worst first."""
    sample: Sample


def run(module: str, *arguments: str, timeout: float = 60) -> tuple[subprocess.CompletedProcess[str], float]:
    """A command of this working copy as a process, and how many seconds it took. No password may be in its output."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr, "a password was printed"
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done, time.monotonic() - started


def check(*arguments: str) -> Outcome:
    """Run the check; its output is of the right form, and its exit status is the state's."""
    done, seconds = run("check_delayed_repl", *arguments)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    match = LINE.fullmatch(lines[0])
    assert match, done.stdout
    state, text, perfdata = match.groups()
    assert done.returncode == State[state], done.stdout
    findings = [Found(*found.groups()) for line in lines[1:] if (found := FINDING.fullmatch(line))]
    assert findings, done.stdout
    assert findings[0].state == state
    assert findings[0].message.startswith(text.removesuffix("...")), done.stdout
    labels = dict(item.split("=", 1) for item in (perfdata or "").split())
    return Outcome(state, findings, done.stdout, labels, seconds)


def check_json(*arguments: str) -> dict[str, Any]:
    """Run the check with `--output json`; the object, whose state is the exit status."""
    done, _ = run("check_delayed_repl", "--output", "json", *arguments)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == State[found["state"]]
    assert found["condition"] == found["findings"][0]["condition"]
    return found


def tool(*arguments: str) -> str:
    """Run delayed-repl; what it printed."""
    done, _ = run("check_delayed_repl.tool", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def limits_of(options: Iterable[str]) -> Limits:
    """The limits that these options of the check stand for."""
    parser = Parser("test")
    add_connection_options(parser)
    add_judging_options(parser)
    return limits_from(parser.parse_args(list(options)))


class Grants(NamedTuple):
    """The statements that `delayed-repl grants` prints, by the server that they are for."""

    replica: tuple[str, ...]
    history: tuple[str, ...]


@cache
def granted(family: str, version: str, role: str, history: str | None = None, user: str | None = None) -> Grants:
    """The SQL for one role's account, which has the password `<password>` in place of a random one."""
    text = tool(
        *("grants", "--family", family, "--server-version", version, "--account-host", "%", "--for", role),
        *(("--history", history) if history else ()),
        *(("--account-user", user) if user else ()),
    )
    text = re.sub(r"(IDENTIFIED BY ('+))[^']*'", r"\1<password>'", text)
    on_replica, _, on_history = text.partition("-- On the server of the shared history")

    def statements(part: str) -> tuple[str, ...]:
        plain = "\n".join(line for line in part.splitlines()[1:] if not line.startswith("--"))
        return tuple(statement.strip().removesuffix(";") for statement in plain.split(";\n") if statement.strip())

    return Grants(statements(on_replica), statements(on_history))


def make_account(
    server: Server, who: tuple[str, str], role: str, history: str | None = None, only: str = "replica"
) -> list[str]:
    """Make an account as if new, with the SQL that `delayed-repl grants` prints; its GRANT statements.

    With `only="history"` the server is the one of the shared history at the mysql:// URL `history`.
    """
    version = ".".join(map(str, server.version))
    grants = granted(server.kind, version, role, history, who[0])
    statements = grants.history if only == "history" else grants.replica
    assert any("<password>" in statement for statement in statements)
    server.drop_account(who)
    server.sql(*(statement.replace("<password>", who[1]) for statement in statements))
    return [statement for statement in statements if statement.startswith("GRANT ")]


def revoked(grant: str) -> str:
    """The statement that takes back what a GRANT gives."""
    return grant.replace("GRANT ", "REVOKE ", 1).replace(" TO ", " FROM ", 1)


class Scene:
    """A healthy pair, the accounts on it, a history, and limits to judge by."""

    def __init__(self, pair: Pair, folder: Path, title: str, accounts: bool = True) -> None:
        if accounts:
            make_account(pair.replica, CHECK, "check")
            make_account(pair.replica, WORKER, "worker")
        self.pair = pair
        self.folder = folder
        self.title = title
        self.history = str(folder / "history.db")
        self.worker_history: str | None = None
        """Where the worker and the job writer keep it, if they name it in another way than the check."""
        self.job_history: str | None = None
        self.name = "orders-delayed"
        self.by_socket = False
        """Whether the commands reach the replica by its Unix socket, as if they ran beside it."""
        self.check_account = CHECK

    def aside(self, title: str) -> Scene:
        """Another history on the same pair, with the same accounts."""
        folder = self.folder / title
        folder.mkdir()
        return Scene(self.pair, folder, f"{self.title}-{title}", accounts=False)

    def connection_options(self, who: tuple[str, str]) -> list[str]:
        """Options that reach the replica, the password out of sight of the process list."""
        replica = self.pair.replica
        where = ["-S", str(replica.socket)] if self.by_socket else ["-H", replica.host, "-P", str(replica.port)]
        return ["--defaults-file", str(self.option_file(who)), *where]

    @property
    def check_options(self) -> list[str]:
        """Options that reach the replica as the check's account."""
        return self.connection_options(self.check_account)

    def option_file(self, who: tuple[str, str]) -> Path:
        file = self.folder / f"{who[0]}.cnf"
        if not file.exists():
            file.write_text(f"[client]\nuser = {who[0]}\npassword = {who[1]}\n")
            file.chmod(0o600)
        return file

    # Checking

    def inline(self, *options: str, name: str | None = None) -> Outcome:
        """A check that looks at the replica itself."""
        return check(*self.check_options, *self._judging(name, options))

    def judged(self, *options: str, name: str | None = None) -> Outcome:
        """A check that judges what the worker saw."""
        return check("--sampling", "worker", *self._judging(name, options))

    def judged_json(self, *options: str, name: str | None = None) -> dict[str, Any]:
        return check_json("--sampling", "worker", *self._judging(name, options))

    def _judging(self, name: str | None, options: Sequence[str]) -> list[str]:
        return ["--history", self.history, "--replica", name or self.name, *SCALED, *options]

    def expect(
        self,
        state: str,
        condition: str,
        within_s: float,
        *options: str,
        name: str | None = None,
        look: Callable[..., Outcome] | None = None,
    ) -> Outcome:
        """Run the check (`judged`, or `look`) until it says so."""
        runs: list[tuple[str, str]] = []

        def says() -> Outcome | None:
            outcome = (look or self.judged)(*options, name=name)
            if not runs or runs[-1] != outcome.what:
                runs.append(outcome.what)
            return outcome if outcome.what == (state, condition) else None

        try:
            return wait_until(says, within_s, f"{state} {condition}", interval_s=0.5)
        except NotInTime as error:
            raise NotInTime(f"{error}; the check said {runs}") from None

    # Jobs

    def start(self, kind: str = "backup", name: str | None = None) -> str:
        """Record that a job starts; its id."""
        return tool("job", "start", *self._recording(name), "--kind", kind).strip()

    def finish(self, job: str, name: str | None = None) -> float:
        """Record that a job is finished; when."""
        tool("job", "finish", job, *self._recording(name))
        return time.time()

    def _recording(self, name: str | None) -> list[str]:
        return ["--history", self.job_history or self.history, "--replica", name or self.name]

    # The worker

    @contextmanager
    def worker(self, *names: str, interval: float = 1, options: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
        """A worker that looks at the replica under each name, from a TOML file where there are several.

        It ends with status 0 soon after SIGTERM, unless the test has killed it, and prints no password.
        """
        names = names or (self.name,)
        arguments = ["worker", "--history", self.worker_history or self.history, "--interval", str(interval), *options]
        connection = self.connection_options(WORKER)
        if len(names) == 1:
            arguments += [*connection, "--replica", names[0]]
        else:
            config = self.folder / "fleet.toml"
            replica = self.pair.replica
            config.write_text(
                f'[defaults]\ndefaults-file = "{self.option_file(WORKER)}"\n'
                + (f'socket = "{replica.socket}"\n' if self.by_socket else f'host = "{replica.host}"\n')
                + ("" if self.by_socket else f"port = {replica.port}\n")
                + "".join(f'[[replica]]\nreplica = "{name}"\n' for name in names)
            )
            arguments += ["--config", str(config)]
        log = self.folder / "worker.log"
        with log.open("a") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "check_delayed_repl.tool", *arguments],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=stream,
                stderr=stream,
                text=True,
            )
        killed = False
        try:
            yield process
            killed = process.poll() is not None
            if not killed:
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == 0, log.read_text()
            else:
                assert process.returncode == -signal.SIGKILL, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            said = log.read_text()
            assert not any(secret in said for secret in SECRETS), "the worker has printed a password"
            assert "Traceback" not in said, said
            for name in names:
                self.keep(name)

    # What was seen

    def recording(self, name: str | None = None) -> list[Record]:
        """All that the history has of a replica, by way of `history export`."""
        return list(read(io.BytesIO(self._exported(name or self.name).encode())))

    def look_after(self, t: float) -> None:
        """Wait until the worker has looked later than `t`: what comes and goes between two looks leaves no trace."""

        def looked() -> bool:
            return any(isinstance(record, Sample) and record.t > t for record in self.recording())

        wait_until(looked, 15, "a look has followed")

    def _exported(self, name: str) -> str:
        return tool("history", "export", "--history", self.history, "--replica", name)

    def keep(self, name: str) -> None:
        """Put a recording into the folder that the environment names, for tests without servers to replay."""
        folder = os.environ.get(RECORDINGS_VARIABLE)
        if folder:
            file = Path(folder) / f"{self.pair.family}-{self.title}-{name}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._exported(name))

    def replay(self, *options: str, name: str | None = None) -> list[Moment]:
        """The verdict at every look of a recording, as a check right then would have printed it."""
        fold = Fold(limits_of([*SCALED, *options]))
        moments = []
        for record in self.recording(name):
            fold.add(record)
            if isinstance(record, Sample):
                verdict = fold.verdict(record.t, worker=True)
                findings = tuple(f"{finding.state.name} {finding.condition}" for finding in verdict.findings)
                moments.append(Moment(record.t, verdict.state.name, verdict.condition, findings, record))
        return moments


def changes(moments: Iterable[Moment]) -> list[tuple[str, str]]:
    """State and condition, once for every run of moments that have the same."""
    found: list[tuple[str, str]] = []
    for moment in moments:
        if not found or found[-1] != moment[1:3]:
            found.append(moment[1:3])
    return found


def story(moments: Iterable[Moment]) -> str:
    """Every change with its time and delay, for a failed assertion."""
    lines = []
    before = None
    for moment in moments:
        if moment.findings != before:
            before = moment.findings
            sample = moment.sample
            seen = f"delay {sample.delay}" if sample.error is None else f"{sample.error}: {sample.message}"
            lines.append(f"{moment.t:.2f} {', '.join(moment.findings)} ({seen}, local {sample.local})")
    return "\n".join(lines)


def between(moments: Iterable[Moment], begin: float, end: float = float("inf")) -> list[Moment]:
    """The moments of a stretch of time; there must be some."""
    found = [moment for moment in moments if begin < moment.t < end]
    assert found, "no look falls in that time"
    return found


def assert_only(moments: Sequence[Moment], *states: str) -> None:
    """No moment has another state than these."""
    assert {moment.state for moment in moments} <= set(states), story(moments)


def assert_only_conditions(moments: Sequence[Moment], *conditions: str) -> None:
    """No moment has another condition than these."""
    assert {moment.condition for moment in moments} <= set(conditions), story(moments)


@contextmanager
def held_line(server: Server, server_id: int = 1) -> Iterator[None]:
    """Hold the source's heartbeat row, as a slow transaction would: both threads run, and the delay grows by 1 s/s."""
    with server.session() as session:
        session("BEGIN")
        session(f"SELECT ts FROM percona.heartbeat WHERE server_id = {server_id} FOR UPDATE")
        yield
        session("ROLLBACK")


def now() -> float:
    """The time that samples are stamped with."""
    return time.time()
