"""What examples/generate.py writes is fresh, and bash completes by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPLETION = ROOT / "examples" / "completion"

COMPLETE = r"""
set -f
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p "$1" | sed 's/.*-F \([^ ]*\) .*/\1/')
"$function"
printf '%s\n' "${COMPREPLY[@]}"
"""


def completed(*words: str, folder: Path = ROOT) -> list[str]:
    """What bash offers for the last of these words."""
    script = COMPLETION / f"{words[0]}.bash"
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", str(script), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_the_files_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "examples/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0), "stale: run python examples/generate.py"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["check_delayed_repl", "--min-d"], ["--min-delay-time"]),
        (["check_delayed_repl", "--delay-mode", ""], ["auto", "native", "external"]),
        (["check_delayed_repl", "--delay-mode", "n"], ["native"]),
        (["check_delayed_repl", "--sampling", "=", "w"], ["worker"]),
        (["check_delayed_repl", "--sampling", "="], ["inline", "worker"]),
        (["check_delayed_repl", "--ssl-mode", "verify"], ["verify-ca", "verify-identity"]),
        (["check_delayed_repl", "--host", ""], [""]),
        (["check_delayed_repl", "--replica", "db7", "--channel", "--m"], [""]),
        (["delayed-repl", "wo"], ["worker"]),
        (["delayed-repl", "job", "r"], ["run"]),
        (["delayed-repl", "job", "run", "--ki"], ["--kind"]),
        (["delayed-repl", "job", "run", "--kind", "b"], ["backup"]),
        (["delayed-repl", "history", "prune", "--fu"], ["--future"]),
        (["delayed-repl", "history", "export", "--fu"], [""]),
        (["delayed-repl", "grants", "--family", ""], ["mysql", "mariadb"]),
        (["delayed-repl", "--de"], ["--debug"]),
    ],
)
def test_bash_offers(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_bash_offers_files_and_commands(tmp_path: Path) -> None:
    (tmp_path / "db7.cnf").touch()
    (tmp_path / "db8.cnf").touch()
    assert sorted(completed("check_delayed_repl", "--defaults-file", "db", folder=tmp_path)) == ["db7.cnf", "db8.cnf"]
    assert sorted(completed("check_delayed_repl", "--history", "=", "db", folder=tmp_path)) == ["db7.cnf", "db8.cnf"]
    command = ["delayed-repl", "job", "run", "--replica", "db7", "--kind", "backup", "--"]
    assert "bash" in completed(*command, "bas")
    assert completed(*command, "cat", "db7", folder=tmp_path) == ["db7.cnf"]
    assert completed(*command, "cat", "--min-d") == [""]


def test_every_option_has_its_place_on_a_man_page() -> None:
    for page, command in (("check_delayed_repl", ""), ("delayed-repl-worker", "worker"), ("delayed-repl-job", "job")):
        text = (ROOT / "examples" / "man" / f"{page}.1").read_text()
        words = completed((command and "delayed-repl") or page, *filter(None, [command]), "--")
        for word in words:
            if word.startswith("--") and (command != "job" or word not in ("--help", "--version")):
                assert word.replace("-", "\\-") in text, (page, word)
