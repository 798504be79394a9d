"""The commands against real servers: run as processes, as the accounts that `delayed-repl grants` makes, and watched
over time.

A test takes a `Scene` (see conftest.py): a healthy pair, a history of its own, the check and the worker with limits
that are scaled to a delay of ten seconds. What happens between two checks is not lost: the worker takes a sample every
second, and `Scene.replay` judges the recording at every sample, under any limits, so that a test can say "WARNING
throughout".

Where the environment variable CHECK_DELAYED_REPL_RECORDINGS names a folder, every recording is kept there.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

from listeners import PASSWORD

from check_delayed_repl.arguments import Parser
from check_delayed_repl.history import open_history
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.options import add_connection_options, add_judging_options, limits_from
from check_delayed_repl.records import Record, Sample

from .servers import ROOT_PASSWORD, NotInTime, Pair, Server, wait_until

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS_VARIABLE = "CHECK_DELAYED_REPL_RECORDINGS"

CHECK = ("delay_check", "check-secret-7h")
WORKER = ("delay_worker", "worker-secret-7h")
JOB = ("delay_job", "job-secret-7h")
SECRETS = (CHECK[1], WORKER[1], JOB[1], ROOT_PASSWORD, PASSWORD)

SCALED = (
    *("--min-delay-time", "6", "--max-delay-time", "16", "--max-seconds-behind", "5"),
    *("--max-relay-behind", "60", "--max-master-behind", "60", "--max-last-seen", "6"),
    *("--max-backup-behind", "2m", "--max-deshard-behind", "2m", "--max-recovery-time", "60"),
    *("--max-trend-time", "40", "--window", "15"),
)
"""Limits for a pair that is delayed by ten seconds, and samples a second apart."""

LINE = re.compile(r"DELAYED_REPL (OK|WARNING|CRITICAL|UNKNOWN) - (.*?)(?: \| .*)?")
FINDING = re.compile(r"\[(OK|WARNING|CRITICAL|UNKNOWN) ([a-z-]+)\] (.*)")

MEASURED = """
import os, sys, time
began = time.monotonic()
from check_delayed_repl.plugin import run
status = run(sys.argv[1:])
took = time.monotonic() - began
with open("/proc/self/status") as file:
    peak = next(line for line in file if line.startswith("VmHWM")).split()[1]
print(took, int(peak) / 1024, file=sys.stderr, flush=True)
os._exit(status)
"""


class Found(NamedTuple):
    state: str
    condition: str
    message: str


class Outcome(NamedTuple):
    state: str
    findings: list[Found]
    """Worst first."""
    text: str
    """All of standard output."""
    memory: float = 0
    """The most that it took, in MiB; 0 where it could not tell."""

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
        return self.state, self.condition


class Moment(NamedTuple):
    """The verdict at one recorded sample."""

    t: float
    state: str
    condition: str
    findings: tuple[str, ...]
    """`STATE condition`, worst first."""
    sample: Sample


def environment(**more: str) -> dict[str, str]:
    """That of a process which runs this working copy."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"} | more


def run(*command: str, prefix: Sequence[str] = ()) -> tuple[int, str, str]:
    """Python with these arguments: its status and both outputs, which hold no password and no traceback."""
    done = subprocess.run(
        [*prefix, sys.executable, *command], env=environment(), capture_output=True, timeout=240, check=False
    )
    said, errors = done.stdout.decode(), done.stderr.decode()
    harmless(said + errors)
    return done.returncode, said, errors


def harmless(text: str) -> None:
    """What was printed holds no password, and no traceback."""
    assert not any(secret in text for secret in SECRETS), "a password was printed"
    assert "Traceback" not in text, text


def check(*options: str, timeout: float = 10, prefix: Sequence[str] = ()) -> Outcome:
    """Run the check; its output is of the right form, its exit status is the state's, and it is back in its timeout."""
    began = time.monotonic()
    status, text, measured = run("-c", MEASURED, *options, prefix=prefix)
    lines = text.splitlines()
    match = LINE.fullmatch(lines[0]) if lines else None
    assert match, text + measured
    state, short = match.groups()
    assert status == State[state], text
    findings = [Found(*found.groups()) for line in lines[1:] if (found := FINDING.fullmatch(line))]
    assert findings, text
    assert findings[0].state == state
    assert findings[0].message.startswith(short.removesuffix("...")), text
    own, memory = map(float, measured.split() or (time.monotonic() - began, 0))
    # Beside its timeout it takes time to start and to end, more of it on a busy machine.
    assert own <= timeout + 2, f"the check took {own:.1f} s"
    return Outcome(state, findings, text, memory)


def tool(*arguments: str) -> str:
    status, said, errors = run("-m", "check_delayed_repl.tool", *arguments)
    assert status == 0, errors
    return said


@contextmanager
def worker(
    *arguments: str, log: Path, prefix: Sequence[str] = (), **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`delayed-repl worker`, which prints into `log`. It ends well soon after SIGTERM, where nobody has killed it."""
    with log.open("ab") as stream:
        command = [*prefix, sys.executable, "-m", "check_delayed_repl.tool", "worker", *arguments]
        process = subprocess.Popen(command, env=environment(**variables), stdout=stream, stderr=stream)
    try:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text(errors="replace")
        else:
            assert process.returncode == -signal.SIGKILL, log.read_text(errors="replace")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        harmless(log.read_text(errors="replace"))


@cache
def limits_of(options: tuple[str, ...]) -> Limits:
    parser = Parser("test")
    add_connection_options(parser)
    add_judging_options(parser)
    return limits_from(parser.parse_args(list(options)))


def judged_at_each(records: Iterable[Record], options: Sequence[str]) -> list[Moment]:
    """The verdict at every sample of a recording, as a worker-sampled check right then would have printed it."""
    fold = Fold(limits_of(tuple(options)))
    moments = []
    for record in records:
        fold.add(record)
        if isinstance(record, Sample):
            verdict = fold.verdict(record.t, worker=True)
            findings = tuple(f"{finding.state.name} {finding.condition}" for finding in verdict.findings)
            moments.append(Moment(record.t, verdict.state.name, verdict.condition, findings, record))
    return moments


def until(run: Callable[[], Outcome], accepted: Callable[[Outcome], bool], within_s: float, what: str) -> Outcome:
    """Run the check until its outcome is accepted; raises NotInTime with what it said instead."""
    said: list[tuple[str, str]] = []

    def accepted_one() -> Outcome | None:
        outcome = run()
        if not said or said[-1] != outcome.what:
            said.append(outcome.what)
        return outcome if accepted(outcome) else None

    try:
        return wait_until(accepted_one, within_s, what, interval_s=0.6)
    except NotInTime as error:
        raise NotInTime(f"{error}; the check said {said}") from None


# Accounts


@cache
def granted(family: str, version: str, role: str, history: str | None = None, user: str | None = None) -> str:
    return tool(
        *("grants", "--family", family, "--server-version", version, "--account-host", "%", "--for", role),
        *(("--history", history) if history else ()),
        *(("--account-user", user) if user else ()),
    )


def statements_for(
    server: Server, who: tuple[str, str], role: str, history: str | None = None, only: str = "replica"
) -> list[str]:
    """The statements that make an account, with its own password."""
    text = granted(server.kind, ".".join(map(str, server.version)), role, history, who[0])
    parts = text.partition("-- On the server of the shared history")
    plain = "\n".join(line for line in parts[2 if only == "history" else 0].splitlines()[1:] if line[:2] != "--")
    found = [statement.strip().removesuffix(";") for statement in plain.split(";\n") if statement.strip()]
    return [re.sub(r"(IDENTIFIED BY '+)[^']*'", rf"\g<1>{who[1]}'", statement) for statement in found]


def make_account(
    server: Server, who: tuple[str, str], role: str, history: str | None = None, only: str = "replica"
) -> list[str]:
    """Make an account as if new, with the SQL that `delayed-repl grants` prints; its GRANT statements.

    With `only="history"` the server is the one of the shared history at the mysql:// URL `history`.
    """
    statements = statements_for(server, who, role, history, only)
    server.drop_account(who)
    server.sql(*statements)
    return [statement for statement in statements if statement.startswith("GRANT ")]


def revoked(grant: str) -> str:
    return grant.replace("GRANT ", "REVOKE ", 1).replace(" TO ", " FROM ", 1)


class Commands:
    """The check and the worker on one replica, with a history."""

    who = CHECK
    limits: tuple[str, ...] = SCALED
    timeout: float = 10
    prefix: tuple[str, ...] = ()
    """What the commands are started by, such as setpriv with its options."""

    def __init__(self, folder: Path, name: str, history: str) -> None:
        self.folder = folder
        self.name = name
        """The replica's, in the history."""
        self.history = history

    def reaching(self, who: tuple[str, str]) -> list[str]:
        """Options that reach the replica, the password out of sight of the process list."""
        raise NotImplementedError

    def option_file(self, who: tuple[str, str]) -> Path:
        """An account's option file, once it is written."""
        file = self.folder / f"{who[0]}.cnf"
        if not file.exists():
            file.write_text(f"[client]\nuser = {who[0]}\npassword = {who[1]}\n")
            file.chmod(0o600)
        return file

    def named(self, name: str | None = None) -> list[str]:
        """Options that name the history, and the replica in it."""
        return ["--history", self.history, "--replica", name or self.name]

    # Checking

    def inline(self, *options: str, name: str | None = None, who: tuple[str, str] | None = None) -> Outcome:
        """A check that takes a sample itself."""
        return self.check(name, *self.reaching(who or self.who), *options)

    def judged(self, *options: str, name: str | None = None) -> Outcome:
        """A check that judges the worker's samples."""
        return self.check(name, "--sampling", "worker", *options)

    def check(self, name: str | None, *options: str) -> Outcome:
        timeout = float(options[options.index("--timeout") + 1]) if "--timeout" in options else self.timeout
        common = (*self.named(name), "--timeout", f"{timeout:g}", *self.limits)
        return check(*common, *options, timeout=timeout, prefix=self.prefix)

    def expect(
        self,
        state: str,
        condition: str | tuple[str, ...],
        within_s: float,
        *options: str,
        name: str | None = None,
    ) -> Outcome:
        """Run the worker-sampled check until it says so, or one of several conditions."""
        conditions = (condition,) if isinstance(condition, str) else condition

        def says(outcome: Outcome) -> bool:
            return outcome.state == state and outcome.condition in conditions

        what = f"{state} {' or '.join(conditions)}"
        try:
            return until(lambda: self.judged(*options, name=name), says, within_s, what)
        except NotInTime as error:
            raise NotInTime(f"{error}; the worker said {self.said()}") from None

    def stays(self, seconds: float, state: str, *options: str) -> None:
        """Every run of the worker-sampled check in that time has this state."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            outcome = self.judged(*options)
            assert outcome.state == state, f"{outcome.text}\n{self.said()}"
            time.sleep(0.3)  # a check each moment would take a core, and tell no more

    # What was seen

    def said(self, log: str = "worker.log") -> str:
        return (self.folder / log).read_text(errors="replace") if (self.folder / log).exists() else ""

    def recording(self, name: str | None = None) -> list[Record]:
        """All that the history has of a replica. It is asked for again and again: a process would take too long."""
        with open_history(self.history, time.monotonic() + 60) as history:
            return [record for _, record in history.records(name or self.name)]

    def samples(self, name: str | None = None) -> list[Sample]:
        return [record for record in self.recording(name) if isinstance(record, Sample)]

    def replay(self, *options: str, name: str | None = None) -> list[Moment]:
        return judged_at_each(self.recording(name), [*self.limits, *options])


class Scene(Commands):
    """A healthy pair, the accounts on it, a history, and limits to judge by."""

    def __init__(self, pair: Pair, folder: Path, title: str) -> None:
        super().__init__(folder, "orders-delayed", str(folder / "history.db"))
        make_account(pair.replica, CHECK, "check")
        make_account(pair.replica, WORKER, "worker")
        self.pair, self.source, self.replica = pair, pair.source, pair.replica
        self.title = title
        self.by_socket = False
        """Whether the commands reach the replica by its Unix socket, as if they ran beside it."""

    def reaching(self, who: tuple[str, str] = CHECK) -> list[str]:
        replica = self.replica
        where = ["-S", str(replica.socket)] if self.by_socket else ["-H", replica.host, "-P", str(replica.port)]
        return ["--defaults-file", str(self.option_file(who)), *where]

    # Jobs

    def job(self, action: str, *arguments: str) -> str:
        return tool("job", action, *arguments, *self.named()).strip()

    def start(self, kind: str = "backup") -> str:
        """Record that a job starts; its id."""
        return self.job("start", "--kind", kind)

    def finish(self, job: str) -> float:
        self.job("finish", job)
        return time.time()

    # The worker

    @contextmanager
    def worker(
        self, *names: str, interval: float = 1, options: Sequence[str] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that takes samples of the replica under each name."""
        names = names or (self.name,)
        arguments = ["--history", self.history, "--interval", str(interval), *options]
        if len(names) == 1:
            arguments += [*self.reaching(WORKER), "--replica", names[0]]
        else:
            replica = self.replica
            tcp = f'host = "{replica.host}"\nport = {replica.port}'
            where = f'socket = "{replica.socket}"' if self.by_socket else tcp
            login = f'defaults-file = "{self.option_file(WORKER)}"'
            arguments += fleet(self.folder, dict.fromkeys(names, where), login)
        try:
            with worker(*arguments, log=self.folder / "worker.log") as process:
                yield process
        finally:
            for name in names:
                self.keep(name)

    def look_after(self, t: float) -> None:
        """Wait until a sample is later than `t`: what comes and goes between two samples leaves no trace."""
        wait_until(lambda: self.samples()[-1].t > t, 15, "a sample has followed")

    def keep(self, name: str) -> None:
        """Put a recording into the folder that the environment names, for tests without servers to replay."""
        if folder := os.environ.get(RECORDINGS_VARIABLE):
            file = Path(folder) / f"{self.pair.family}-{self.title}-{name}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(tool("history", "export", *self.named(name)))


def fleet(folder: Path, replicas: Mapping[str, str], *defaults: str) -> list[str]:
    """Options of a worker that takes samples of many replicas: TOML for each by name, and for all."""
    tables = (f'[[replica]]\nreplica = "{name}"\n{more}' for name, more in replicas.items())
    file = folder / "fleet.toml"
    file.write_text("\n".join(("[defaults]", *defaults, *tables, "")))
    return ["--config", str(file)]


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
    assert found, "no sample falls in that time"
    return found


def assert_only(moments: Sequence[Moment], *allowed: str) -> None:
    """No moment has another state, or condition, than these."""
    assert all({moment.state, moment.condition} & set(allowed) for moment in moments), story(moments)


@contextmanager
def held_line(server: Server, server_id: int = 1) -> Iterator[None]:
    """Hold the source's heartbeat row, as a slow transaction would: both threads run, and the delay grows by 1 s/s."""
    with server.session() as session:
        session("BEGIN")
        session(f"SELECT ts FROM percona.heartbeat WHERE server_id = {server_id} FOR UPDATE")
        yield
        session("ROLLBACK")
