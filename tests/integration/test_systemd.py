"""The units of examples/systemd under a real systemd: as it reads them, and as it runs them, beside a real replica."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from .monitoring import CONFIG, EXAMPLES, HISTORY, LIMITS, PLUGIN_FOLDER, TOOL, USER, Site, Station, example
from .servers import Pair, account, literal, wait_until

pytestmark = pytest.mark.monitoring

UNITS = "/etc/systemd/system"
BACKUP = ("backup", "backup-secret-7h")
EXPOSURE_LIMIT = 1.5
"""systemd's own measure, from 0 (nothing is exposed) to 10."""

METRICS = "/var/lib/prometheus/node-exporter/delayed_repl.prom"
WORKER_CONFIG = f"""\
history = "{HISTORY}"
[publish]
prometheus-file = "{METRICS}"
[[replica]]
replica = "db7"
socket = "/run/mysqld/mysqld.sock"
defaults-file = "/etc/check_delayed_repl/worker.cnf"
interval = 1
"""


def job(station: Station, kind: str = "backup") -> list[dict[str, Any]]:
    listed = station.run(f"{TOOL} job list --history {HISTORY} --replica db7 --output json", user=USER).output
    found = [json.loads(line) for line in listed.splitlines()]
    return [each for each in found if each["kind"] == kind]


def judge(station: Station) -> str:
    command = f"{PLUGIN_FOLDER}/check_delayed_repl --sampling worker --replica db7 --history {HISTORY} {LIMITS}"
    return station.run(command, user=USER, check=False).output


@pytest.fixture(scope="module")
def machine(site: Site, line: Pair) -> Iterator[Station]:
    """The replica's host, run by systemd, with all the units, none of them started."""
    with site.watching(line, "db7", systemd=True, beside=line.replica.container) as station:
        for path in sorted((EXAMPLES / "systemd").rglob("*.*")):
            if path.is_file():
                station.put({f"{UNITS}/{path.relative_to(EXAMPLES / 'systemd')}": path.read_text()})
        station.put({CONFIG: WORKER_CONFIG})
        station.run("systemctl daemon-reload")
        yield station


def test_systemd_finds_nothing_to_say_about_the_units(machine: Station) -> None:
    # What the units call and this machine lacks: other backup programs, manuals that are not installed here.
    machine.run("ln -sf /bin/true /usr/bin/xtrabackup; ln -sf /bin/true /usr/bin/mysqldump")
    names = sorted(path.name for path in (EXAMPLES / "systemd").glob("*.*") if path.is_file())
    assert {"delayed-repl-worker.service", "delayed-repl-prune.service", "delayed-repl-prune.timer"} < set(names)
    for name in names:
        found = machine.run(f"systemd-analyze verify --man=no {UNITS}/{name}", check=False)
        assert (found.status, found.output) == (0, ""), name


def test_little_is_exposed(machine: Station) -> None:
    for name in ("delayed-repl-worker", "delayed-repl-prune"):
        report = machine.run(f"systemd-analyze security --no-pager --offline=true {UNITS}/{name}.service").output
        figure = re.search(r"Overall exposure level for .*: ([0-9.]+)", report)
        assert figure, report
        assert float(figure[1]) <= EXPOSURE_LIMIT, report


def test_the_worker_runs_as_hardened_as_it_is(machine: Station) -> None:
    machine.run(f"chown {USER} $(dirname {METRICS}) && systemctl start delayed-repl-worker")
    wait_until(lambda: judge(machine).startswith("DELAYED_REPL OK"), 30, "the check judges what the worker saw")
    wait_until(lambda: 'delayed_repl_state{replica="db7"}' in machine.read(METRICS), 10, "it publishes its metrics")
    shown = machine.run("systemctl show delayed-repl-worker -p Type,StatusErrno,NRestarts,ActiveState,MainPID").output
    assert "ActiveState=active" in shown, "it has said that it is ready"
    assert "NRestarts=0" in shown
    pid = re.search(r"MainPID=(\d+)", shown)
    assert pid
    status = machine.run(f"cat /proc/{pid[1]}/status").output
    assert re.search(r"(?m)^Seccomp:\s+2$", status), "system calls are filtered"
    assert re.search(r"(?m)^CapBnd:\s+0+$", status), "nothing is privileged"
    assert re.search(r"(?m)^NoNewPrivs:\s+1$", status)
    # Killed, it is back by itself.
    machine.run(f"kill -9 {pid[1]}")
    wait_until(lambda: "NRestarts=1" in machine.run("systemctl show delayed-repl-worker").output, 20, "it is restarted")
    wait_until(lambda: judge(machine).startswith("DELAYED_REPL OK"), 30, "the check judges what the worker saw")
    journal = machine.run("journalctl -u delayed-repl-worker --no-pager -o cat").output
    assert "taking samples of db7 every 1 s" in journal


def test_a_mariabackup_of_the_replica_is_recorded(machine: Station, line: Pair) -> None:
    machine.run("systemctl start delayed-repl-worker")
    line.replica.unlogged(
        f"DROP USER IF EXISTS {account(BACKUP)}",
        f"CREATE USER {account(BACKUP)} IDENTIFIED BY {literal(BACKUP[1])}",
        "GRANT RELOAD, PROCESS, LOCK TABLES, REPLICA MONITOR, REPLICATION SLAVE ADMIN, BINLOG MONITOR, SLAVE MONITOR,"
        f" CONNECTION ADMIN ON *.* TO {account(BACKUP)}",
    )
    client = f"[client]\nuser = {BACKUP[0]}\npassword = {BACKUP[1]}\nsocket = /run/mysqld/mysqld.sock\n"
    client += "[mariabackup]\ndatadir = /var/lib/mysql\n"
    machine.put({"/etc/backup/backup.cnf": client}, user="mysql", mode=0o600)
    client = machine.run("mariabackup --version 2>&1").output
    if f" {line.replica.version[0]}.{line.replica.version[1]}." not in client:
        pytest.skip(f"mariabackup copies the files of its own version alone: {client.strip()}")
    before = len(job(machine))
    ran = machine.run("systemctl start mariabackup", check=False)
    assert ran.status == 0, machine.run("journalctl -u mariabackup --no-pager -o cat").output[-3000:]
    recorded = job(machine)[before:]
    assert [each["status"] for each in recorded] == ["finished"]
    assert recorded[0]["replica"] == "db7"
    assert recorded[0]["seconds"] > 0
    # A real backup: with the source's position, and fit to be prepared.
    folder = "/var/lib/backup/mariabackup.service"
    assert "gtid_slave_pos" in machine.read(f"{folder}/xtrabackup_slave_info")
    journal = machine.run("journalctl -u mariabackup --no-pager -o cat").output
    assert "Slave is safe to backup" in journal
    assert "Starting slave SQL thread" in journal, "it was stopped meanwhile"
    assert "completed OK!" in journal
    assert BACKUP[1] not in journal
    prepared = machine.run(f"mariabackup --prepare --target-dir={folder}", user="mysql")
    assert "completed OK!" in prepared.output
    assert line.replica.threads() == ("Yes", "Yes")
    wait_until(lambda: judge(machine).startswith("DELAYED_REPL OK"), 40, "OK")


def test_any_backup_service_can_be_wrapped(machine: Station) -> None:
    """By the drop-in that knows nothing of its command: it runs, it fails, and there is no history to be had."""
    machine.run("systemctl start delayed-repl-worker")
    wait_until(lambda: judge(machine).startswith("DELAYED_REPL"), 20, "there is a history")
    service = "[Service]\nType=oneshot\nUser=mysql\nExecStart=/bin/sh -c '{}'\n"
    drop_in = example("systemd/any-backup.service.d/delayed-repl.conf")
    nowhere = drop_in.replace(f"--config {CONFIG}", "--history /proc/nowhere/history.db")
    commands = {"brief": "until [ -e /var/tmp/enough ]; do sleep 0.1; done", "failing": "exit 7"}
    for name, command in {**commands, "alone": "touch /var/tmp/done"}.items():
        unit = f"{UNITS}/{name}.service"
        machine.put({unit: service.format(command), f"{unit}.d/own.conf": nowhere if name == "alone" else drop_in})
    machine.run("systemctl daemon-reload")

    before = len(job(machine))
    machine.run("systemctl start --no-block brief")
    wait_until(lambda: [each["status"] for each in job(machine)[before:]] == ["running"], 10, "it is running")
    active = "DELAYED_REPL WARNING - Active backup: running"
    wait_until(lambda: judge(machine).startswith(active), 10, "it counts from the next sample on")
    machine.run("touch /var/tmp/enough")
    wait_until(lambda: [each["status"] for each in job(machine)[before:]] == ["finished"], 60, "it is over")

    assert machine.run("systemctl start failing", check=False).status != 0
    wait_until(lambda: [each["status"] for each in job(machine)[before:]] == ["finished"] * 2, 10, "it is over")
    assert "ExecMainStatus=7" in machine.run("systemctl show failing").output

    assert machine.run("systemctl start alone").status == 0
    assert machine.run("test -e /var/tmp/done").status == 0


def test_the_timer_prunes(machine: Station) -> None:
    machine.run("systemctl start delayed-repl-worker")
    wait_until(lambda: judge(machine).startswith("DELAYED_REPL"), 20, "there is a history")
    old = '{"type":"sample","t":1700000000.0,"delay":7203.1}\\n{"type":"sample","t":1700000010.0,"delay":7203.4}\\n'
    imported = f"printf '{old}' | {TOOL} history import - --replica old --history {HISTORY}"
    machine.run(imported, user=USER)
    export = f"{TOOL} history export --replica old --history {HISTORY} | grep -c sample"
    assert machine.run(export, user=USER).output.strip() == "2"
    machine.run("systemctl enable --now delayed-repl-prune.timer")
    assert "delayed-repl-prune.timer" in machine.run("systemctl list-timers --no-pager").output
    ran = machine.run("systemctl start delayed-repl-prune", check=False)
    assert ran.status == 0, machine.run("journalctl -u delayed-repl-prune --no-pager -o cat").output
    assert machine.run(export, user=USER, check=False).output.strip() == "1", "the newest sample stays"


def test_it_stops_cleanly(machine: Station) -> None:
    machine.run("systemctl start delayed-repl-worker")
    machine.run("systemctl stop delayed-repl-worker")
    shown = machine.run("systemctl show delayed-repl-worker -p Result,ExecMainStatus,ActiveState").output
    assert "Result=success" in shown
    assert "ActiveState=inactive" in shown
