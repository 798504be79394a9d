"""`delayed-repl status`: the fleet in one table of 80 columns, worst first, as the check judges each."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import pytest
from conftest import Command, Terminal, remember

from check_delayed_repl import history
from check_delayed_repl.records import JobLine, Sample


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    """Five replicas: in range, on their way back from below, lost, in a backup, and not sampled."""
    lines = {
        "well": lambda age: 7203.0 + age % 3,
        "back/orders": lambda age: 4000.0 - age + age % 3,
        "lost": lambda age: 9600.0 - age + age % 3,
        "dumped": lambda age: 7200.0 + age % 3,
    }
    for name, delay in lines.items():
        remember(tmp_path / "h.db", name, delay, range(590, -1, -10))
    store = history.open_history(str(tmp_path / "h.db"), time.monotonic() + 30)
    now = time.time()
    store.add_job("dumped", JobLine(now, "b1", "backup", now - 60))
    store.add_sample("dumped", Sample(now, delay=7200.0))
    store.close()
    path = tmp_path / "config.toml"
    tables = "".join(f"[[replica]]\nreplica = '{name}'\nhost = 'h'\n" for name in (*lines, "never"))
    path.write_text(f"history = 'h.db'\n{tables}")
    path.chmod(0o600)
    return str(path)


def test_worst_first_in_80_columns(tool: Command, fleet: str) -> None:
    run = tool("status", "--config", fleet)
    assert (run.returncode, run.stderr) == (0, "")
    rows = [line for line in run.stdout.splitlines() if line.strip()]
    assert max(map(len, rows)) <= 80
    found = [line.split()[:3] for line in rows[1:] if line.split()[0] in ("OK", "WARNING", "CRITICAL")]
    assert found == [
        ["CRITICAL", "never", "worker-missing"],
        ["CRITICAL", "lost", "delay-out-of-bounds"],
        ["WARNING", "dumped", "active-backup"],
        ["WARNING", "back/orders", "recovering-below-minimum"],
        ["OK", "well", "in-range"],
    ]
    of = {row.split()[1]: row for row in rows[1:]}
    assert "away" in of["lost"]
    assert " back " in of["back/orders"]
    assert "backup" in of["dumped"].split()
    assert of["never"].split()[-1] == "never"


def test_as_the_check_and_for_programs(tool: Command, plugin: Command, fleet: str) -> None:
    run = tool("status", "--config", fleet, "--output", "json", "--exit-code")
    assert run.returncode == 2
    document = json.loads(run.stdout)
    assert document["config"] == fleet
    for row in document["replicas"]:
        check = plugin(*("--config", fleet, "--replica", row["replica"], "--sampling", "worker", "--output", "json"))
        judged = json.loads(check.stdout)
        assert (row["state"], row["condition"]) == (judged["state"], judged["condition"])
    rows = {row["replica"]: row for row in document["replicas"]}
    assert rows["back/orders"]["direction"] == "towards"
    assert rows["back/orders"]["back_at"] == pytest.approx(rows["back/orders"]["at"] + 1400, abs=30)
    assert rows["lost"]["direction"] == "away"
    assert rows["dumped"]["jobs"] == ["backup"]
    assert rows["never"]["last_sample"] is None


@pytest.mark.parametrize("form", ["text", "json"])
def test_again_and_again_into_a_pipe(fleet: str, form: str) -> None:
    words = [sys.executable, "-m", "check_delayed_repl.tool", "status", "--config", fleet]
    words += ["--output", form, "--watch", "--interval", "0.1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        late = threading.Timer(60, process.kill)
        late.start()
        assert sum("never" in line for line in islice(process.stdout, 20 if form == "text" else 2)) >= 2
        late.cancel()
        process.terminate()


def test_again_and_again_on_a_terminal_s_other_screen(fleet: str) -> None:
    terminal = Terminal("status", "--config", fleet, "--watch", "--interval", "0.1")
    for _ in range(2):
        terminal.said = b"" if b"well" in terminal.said else terminal.said
        terminal.read_until(b"well")
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until(b"\x1b[?1049ldelayed-repl: interrupted")
    terminal.close()


def test_without_a_file_every_replica_of_the_history(tool: Command, fleet: str, tmp_path: Path) -> None:
    where = str(tmp_path / "h.db")
    rows = json.loads(tool("status", "--history", where, "--output", "json").stdout)["replicas"]
    assert {row["replica"] for row in rows} == {"well", "back/orders", "lost", "dumped"}
    run = tool("status", "--history", where, "--max-delay-time", "3h", "--min-delay-time", "1h", "--exit-code")
    assert run.returncode == 1
    run = tool("status", "--history", str(tmp_path / "gone.db"))
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"delayed-repl: --history: {tmp_path}/gone.db: there is no such file\n"


def test_a_damaged_sample_is_in_no_other_replica_s_way(tool: Command, fleet: str) -> None:
    with sqlite3.connect(Path(fleet).with_name("h.db")) as other:
        other.execute(
            "UPDATE sample SET delay = 'abc' WHERE replica = (SELECT number FROM replica WHERE name = 'lost')"
        )
    other.close()
    rows = json.loads(tool("status", "--config", fleet, "--output", "json").stdout)["replicas"]
    found = {row["replica"]: row["condition"] for row in rows}
    assert (found["lost"], found["well"]) == ("history-unavailable", "in-range")
    assert "is corrupt" in next(row["message"] for row in rows if row["replica"] == "lost")
    (shown,) = [row for row in tool("status", "--config", fleet).stdout.splitlines() if "history-unavailable" in row]
    assert "never" not in shown


def test_long_words_are_folded_into_their_columns(tool: Command, tmp_path: Path) -> None:
    name = "replica-with-a-long-name." * 4
    remember(tmp_path / "h.db", name, lambda _: 7200.0, range(1))
    head, *rows = tool("status", "--history", str(tmp_path / "h.db")).stdout.splitlines()
    begin, end = head.index("replica"), head.index("condition") - 1
    assert "".join(row[begin:end].strip() for row in rows) == name
    assert max(map(len, rows)) <= 80
