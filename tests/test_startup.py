"""What a check loads is part of its interface: it runs every minute, for every replica, for years."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from graphlib import TopologicalSorter

from conftest import ROOT, run_python

PACKAGE = ROOT / "check_delayed_repl"

DUMP = """
import os, sys
sys.path.insert(0, {root!r})
from check_delayed_repl import __main__, plugin, words
words._masked_sql = None  # nothing that a calm check prints may need the pattern, which is dear to compile
status = plugin.run({arguments!r})
print(repr((status, sorted(sys.modules))), file=sys.stderr, flush=True)
os._exit(0)
"""
HEAVY = {
    *("asyncio", "dataclasses", "difflib", "email", "inspect", "logging", "matplotlib", "msgspec", "numpy", "rich"),
    *("scipy", "ssl", "subprocess", "tempfile", "tomllib", "typing", "urllib", "zoneinfo"),
    # what argparse imports
    *("gettext", "locale"),
    # nagiosplugin as a whole
    *("nagiosplugin", "nagiosplugin.check", "nagiosplugin.runtime"),
    *(f"check_delayed_repl.{room}" for room in ("backtest", "commands", "diagnose", "publish", "rescue", "worker")),
}
"""What no check may load: it costs more than the rest together, or belongs to other commands."""


def loaded(*arguments: str) -> tuple[int, set[str]]:
    code = DUMP.format(root=str(ROOT), arguments=list(arguments))
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    status, modules = ast.literal_eval(done.stderr)
    return status, set(modules)


def test_a_worker_sampled_check_loads_nothing_heavy(sampled: str) -> None:
    for output in ("text", "json"):
        options = ("--replica", "db1", "--sampling", "worker", "--history", sampled, "--output", output, "-vvv")
        status, modules = loaded(*options)
        assert status == 0
        assert modules & (HEAVY | {"pymysql", "socket"}) == set()


def test_an_inline_check_loads_nothing_heavy(sampled: str) -> None:
    status, modules = loaded("-H", "127.0.0.1", "-P", "1", "-u", "u", "--replica", "db1", "--history", sampled)
    assert status == 2
    assert modules & HEAVY == set()


def test_nagiosplugin_can_still_be_imported_in_full() -> None:
    code = "from check_delayed_repl.report import nagios; import nagiosplugin; assert nagiosplugin.Check"
    assert run_python("-c", code).stderr == ""


def imports() -> Mapping[str, set[str]]:
    """The modules of this package that each of them imports, at its top or later."""
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in PACKAGE.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for module, file in modules.items():
        package = module.removesuffix(".__init__") if file.name == "__init__.py" else module.rpartition(".")[0]
        wanted = found.setdefault(module.removesuffix(".__init__"), set())
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                parts = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
                base = ".".join([*parts, *([node.module] if node.module else [])])
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    wanted.add(inner if inner in modules or f"{inner}.__init__" in modules else base)
    return {module: {each for each in wanted if each in found} - {module} for module, wanted in found.items()}


def test_imports_run_one_way() -> None:
    TopologicalSorter(imports()).prepare()  # raises CycleError, which names a circle
