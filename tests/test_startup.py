"""What a check loads is part of its interface: it runs every minute, for every replica, for years.

The lists are whole, so that whatever comes in anew is noticed, and can be weighed.
"""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from check_delayed_repl import history
from check_delayed_repl.records import Sample

ROOT = Path(__file__).resolve().parent.parent

DUMP = """
import os, sys
before = set(sys.modules)
from check_delayed_repl import plugin
status = plugin.run({arguments!r})
with open({file!r}, "w") as file:
    file.write(repr((status, sorted(set(sys.modules) - before))))
os._exit(0)
"""

OWN = {
    "check_delayed_repl",
    "check_delayed_repl.history",
    "check_delayed_repl.history.sqlite",
    "check_delayed_repl.history.tables",
    "check_delayed_repl.judge",
    "check_delayed_repl.judge.fold",
    "check_delayed_repl.judge.jobs",
    "check_delayed_repl.judge.facts",
    "check_delayed_repl.history.folding",
    "check_delayed_repl.judge.observed",
    "check_delayed_repl.judge.outcome",
    "check_delayed_repl.judge.trend",
    "check_delayed_repl.judge.verdict",
    "check_delayed_repl.judge.line",
    "check_delayed_repl.judge.window",
    "check_delayed_repl.conditions",
    "check_delayed_repl.config",
    "check_delayed_repl.light",
    "check_delayed_repl.limits",
    "check_delayed_repl.observe",
    "check_delayed_repl.observe.target",
    "check_delayed_repl.options",
    "check_delayed_repl.plugin",
    "check_delayed_repl.records",
    "check_delayed_repl.report",
    "check_delayed_repl.words",
    "check_delayed_repl.report.metrics",
    "check_delayed_repl.report.nagios",
}
OWN_INLINE = OWN | {
    "check_delayed_repl.observe.address",
    "check_delayed_repl.observe.heartbeat",
    "check_delayed_repl.observe.lean",
    "check_delayed_repl.observe.optionfile",
    "check_delayed_repl.observe.replication",
    "check_delayed_repl.observe.sample",
    "check_delayed_repl.observe.connection",
    "check_delayed_repl.observe.wire",
}
LIBRARIES = {
    "nagiosplugin.performance",
    "nagiosplugin.state",
}
# Beside what a bare interpreter has loaded already. Other versions' libraries import one another differently.
STANDARD = {
    *(
        "argparse",
        "bisect",
        "collections",
        "contextlib",
        "copyreg",
        "datetime",
        "enum",
        "errno",
        "functools",
        "gettext",
    ),
    *("importlib", "itertools", "json", "keyword", "locale", "math", "numbers", "operator", "re", "reprlib", "sqlite3"),
    *("types", "warnings", "zlib"),
}
STANDARD_INLINE = STANDARD | {
    *("array", "configparser", "decimal", "getpass", "hashlib", "pwd", "select", "selectors", "socket", "struct"),
    "termios",
}
HEAVY = {
    "asyncio",
    "dataclasses",
    "email",
    "inspect",
    "logging",
    "numpy",
    "scipy",
    "ssl",
    "subprocess",
    "tempfile",
    "typing",
    "urllib",
}


def loaded(tmp_path: Path, *arguments: str) -> tuple[int, set[str]]:
    """Exit status, and the names of the modules that a check loads beside those of a bare interpreter."""
    file = tmp_path / "modules"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})" + DUMP.format(arguments=list(arguments), file=str(file))
    subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True)
    status, modules = ast.literal_eval(file.read_text())
    return status, set(modules)


def sorted_out(modules: set[str]) -> tuple[set[str], set[str], set[str]]:
    """Our own modules, other people's, and the standard library's public ones (top names alone)."""
    own = {name for name in modules if name.partition(".")[0] == "check_delayed_repl"}
    standard = {name for name in modules if name.partition(".")[0] in sys.stdlib_module_names}
    tops = {name.partition(".")[0] for name in standard}
    return own, modules - own - standard, {name for name in tops if not name.startswith("_")}


@pytest.fixture
def sampled(tmp_path: Path) -> str:
    file = str(tmp_path / "history.db")
    store = history.open_history(file, time.monotonic() + 10)
    now = time.time()
    store.add_samples(("db1", Sample(now - age, delay=7203.0)) for age in range(580, -1, -10))
    store.close()
    return file


@pytest.fixture
def full_server() -> Iterator[int]:
    """The port of a server that answers as MySQL does while it has no connection left."""
    packet = b"\xff" + (1040).to_bytes(2, "little") + b"Too many connections"

    def answer() -> None:
        with server.accept()[0] as connection:
            connection.sendall(len(packet).to_bytes(3, "little") + b"\0" + packet)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def test_what_a_check_of_a_worker_s_samples_loads(tmp_path: Path, sampled: str) -> None:
    status, modules = loaded(tmp_path, "--replica", "db1", "--sampling", "worker", "--history", sampled)
    own, libraries, standard = sorted_out(modules)
    assert status == 0
    assert own == OWN
    assert libraries == LIBRARIES
    assert standard & HEAVY == set()
    assert standard <= STANDARD or sys.version_info[:2] != (3, 11)


def test_what_an_inline_check_loads(tmp_path: Path, sampled: str, full_server: int) -> None:
    where = ("-H", "127.0.0.1", "-P", str(full_server), "-u", "u", "--replica", "db1")
    status, modules = loaded(tmp_path, *where, "--history", sampled)
    own, libraries, standard = sorted_out(modules)
    assert status == 2
    assert own == OWN_INLINE
    assert {name.partition(".")[0] for name in libraries} == {"nagiosplugin", "pymysql"}
    assert {name for name in libraries if name.startswith("nagiosplugin")} == LIBRARIES
    assert standard & HEAVY == set()
    assert standard <= STANDARD_INLINE or sys.version_info[:2] != (3, 11)


def test_numpy_and_scipy_stay_out(tmp_path: Path, sampled: str) -> None:
    for output in ("text", "json"):
        _, modules = loaded(
            tmp_path, "--replica", "db1", "--sampling", "worker", "--history", sampled, "--output", output, "-vvv"
        )
        assert {name.partition(".")[0] for name in modules} & {"numpy", "scipy"} == set()


def test_the_package_itself_costs_nothing() -> None:
    code = "import sys; before = set(sys.modules); import check_delayed_repl; print(sorted(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "['check_delayed_repl']\n"


def test_nagiosplugin_can_still_be_imported_in_full() -> None:
    code = (
        "from check_delayed_repl.report import nagios\n"
        "import sys; assert 'nagiosplugin' not in sys.modules and 'logging' not in sys.modules\n"
        "import nagiosplugin; assert nagiosplugin.Performance is nagios.Performance and nagiosplugin.Check"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
