"""What the wheel carries beside the package: man pages and shell completion, from the commands' own parsers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from check_delayed_repl import options
from check_delayed_repl.conditions import CONDITIONS
from check_delayed_repl.tool import COMMANDS

COMPLETE = r"""
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
function=$(complete -p "$1" | sed 's/.*-F \([^ ]*\) .*/\1/')
"$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what is installed below the prefix. Making it takes nothing that is not needed to build."""
    folder = tmp_path_factory.mktemp("prefix")
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "sys.modules |= dict.fromkeys(['numpy', 'scipy', 'matplotlib', 'pymysql', 'nagiosplugin'])\n"
        "from pathlib import Path; from hatch_build import documents\n"
        f"for name, text in documents().items(): path = Path({str(folder)!r}, name); "
        "path.parent.mkdir(parents=True, exist_ok=True); path.write_text(text)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return folder / "share"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["check_delayed_repl", "--min-d"], {"--min-delay-time"}),
        (["check_delayed_repl", "--delay-mode", ""], {"auto", "native", "external"}),
        (["check_delayed_repl", "--defaults-file", "pypro"], {"pyproject.toml"}),
        (["delayed-repl", "wo"], {"worker"}),
        (["delayed-repl", "job", "r"], {"run"}),
        (["delayed-repl", "job", "run", "--ki"], {"--kind"}),
    ],
)
def test_bash_offers(documents: Path, words: list[str], offered: set[str]) -> None:
    script = documents / "bash-completion" / "completions" / words[0]
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", str(script), *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert set(done.stdout.split()) == offered


def test_every_command_and_option_has_its_place_on_a_man_page(documents: Path) -> None:
    pages = {path.name: path.read_text().replace("\\-", "-") for path in documents.glob("man/man*/*")}
    assert {f"delayed-repl-{name}.1" for name in COMMANDS} < pages.keys()
    for each in (*options.CONNECTION, *options.HEARTBEATS, *options.LIMITS, *options.TREND, options.CONFIG):
        assert f"--{each.keys[0]}" in pages["check_delayed_repl.1"]
    for condition in CONDITIONS:
        assert condition.title in pages["delayed-repl-conditions.7"]


def test_the_check_command_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "examples/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0), "stale: run python examples/generate.py"
