"""What is shipped: both commands, and nothing that is not the program; and the picture of the dashboard."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
import zipfile

import pytest
from conftest import ROOT

import check_delayed_repl
from check_delayed_repl.tool import COMMANDS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, by way of the source distribution, as `python -m build` makes it."""
    folder = tmp_path_factory.mktemp("dist")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    [file] = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_holds_the_package_and_its_documents_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    version = check_delayed_repl.__version__
    info, data = (f"check_delayed_repl-{version}.{kind}" for kind in ("dist-info", "data/data/share"))
    files = [*(ROOT / "check_delayed_repl").rglob("*.py"), *(ROOT / "check_delayed_repl").rglob("templates/*")]
    sources = {str(path.relative_to(ROOT)) for path in files}
    commands = ("check_delayed_repl", "delayed-repl")
    assert set(wheel.namelist()) == {
        *sources,
        "check_delayed_repl/py.typed",
        *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")),
        *(f"{data}/man/man1/{name}.1" for name in (*commands, *(f"delayed-repl-{name}" for name in COMMANDS))),
        f"{data}/man/man7/delayed-repl-conditions.7",
        *(f"{data}/bash-completion/completions/{name}" for name in commands),
        *(f"{data}/zsh/site-functions/_{name}" for name in commands),
    }


def test_the_wheel_gives_both_commands(wheel: zipfile.ZipFile) -> None:
    [entries] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert wheel.read(entries).decode().split("\n")[:3] == [
        "[console_scripts]",
        "check_delayed_repl = check_delayed_repl.__main__:main",
        "delayed-repl = check_delayed_repl.tool:main",
    ]


def test_the_metadata(wheel: zipfile.ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    metadata = wheel.read(name).decode()
    assert "License-Expression: Apache-2.0\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    for library in ("PyMySQL", "nagiosplugin", "msgspec", "scipy"):
        assert re.search(rf"^Requires-Dist: {library}.*>=", metadata, re.MULTILINE | re.IGNORECASE)


def test_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        assert ">=" in requirement


def test_the_changelog_knows_the_version() -> None:
    assert f"\n## [{check_delayed_repl.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_license_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.lstrip().startswith("Apache License\n")
    assert "END OF TERMS AND CONDITIONS" in text


GRAFANA = ROOT / "examples" / "grafana"


def test_the_picture_is_what_is_drawn_of_the_dashboard() -> None:
    drawing = runpy.run_path(str(GRAFANA / "picture.py"))
    answers = json.loads((GRAFANA / "answers.json").read_text())
    assert set(answers) == {target["expr"] for panel in drawing["panels"]() for target in panel["targets"]}
    wanted = drawing["picture"](answers)
    assert (GRAFANA.parent / "pictures" / "dashboard.svg").read_text() == wanted, "run examples/grafana/picture.py"
    assert len(wanted) < 60_000
