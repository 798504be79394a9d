"""examples/quickstart, as a reader runs it: on the programs of this machine, with a source and a replica of its own."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

QUICKSTART = ROOT / "examples" / "quickstart"

pytestmark = pytest.mark.integration

WARNING = "[WARNING recovering-below-minimum] "
OK = "[OK in-range] "
ENOUGH_S = 600
"""Seconds for installing packages, where some are missing, and for all the rest."""


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder for temporary files, with a path short enough for sockets; nothing may be left in it."""
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/qs.XXXXXX"], text=True).strip())
    # The servers run as somebody else.
    folder.chmod(0o711)
    yield folder
    for stop in folder.glob("*/stop"):
        subprocess.run([stop], check=False)
    subprocess.run(["rm", "-rf", folder], check=True)


def quickstart(*options: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [QUICKSTART, *options],
        cwd="/",
        env=os.environ | {"TMPDIR": str(place)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ENOUGH_S,
        check=False,
    )


def running(place: Path) -> list[str]:
    """The command lines that name something in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(f"{place}/" in word for word in words):
            found.append(shlex.join(words))
    return found


def outputs(text: str) -> list[list[str]]:
    return [part.splitlines() for part in text.split("\n\n") if "DELAYED_REPL " in part]


def command(text: str) -> str:
    """The check's command line as printed, fit for a shell."""
    found = re.search(r"^\$ ((?:.*\\\n)*.*)\n", text, re.MULTILINE)
    assert found, text
    return found[1]


def test_shows_the_line_fill_and_leaves_nothing(place: Path) -> None:
    done = quickstart(place=place)
    assert done.returncode == 0, done.stdout
    assert f"$ {place}/quickstart." in done.stdout
    shown = outputs(done.stdout)
    # The first one stands right below the command.
    shown[0] = shown[0][next(i for i, line in enumerate(shown[0]) if line.startswith("DELAYED_REPL ")) :]
    first, second = shown
    assert first[0].startswith(
        "DELAYED_REPL WARNING - Replication delay intercept recovering - below minimum with slope "
    )
    assert first[1].startswith(WARNING)
    assert second[0].startswith("DELAYED_REPL OK - Replication delay ")
    assert second[1].startswith(OK)
    assert [line for line in second[1:] if line.startswith("[")] == [second[1]]
    assert done.stdout.endswith("quickstart: the delay line is established\n")
    assert list(place.iterdir()) == []
    assert running(place) == []


@pytest.mark.long
def test_kept_it_answers_breaks_and_stops(place: Path) -> None:
    done = quickstart("--keep", place=place)
    assert done.returncode == 0, done.stdout
    [folder] = place.iterdir()
    assert f"  cd {folder}\n" in done.stdout

    def check(*options: str) -> tuple[int, str]:
        ran = subprocess.run([folder / "check", *options], capture_output=True, text=True, timeout=120, check=False)
        return ran.returncode, ran.stdout

    pasted = subprocess.run(command(done.stdout), shell=True, cwd="/", capture_output=True, text=True, check=False)
    assert (pasted.returncode, pasted.stdout.splitlines()[1].startswith(OK)) == (0, True), pasted.stdout + pasted.stderr
    assert check("-v")[1].splitlines()[-1].startswith("limits: ")
    [look] = re.findall(r"^  (diagnose .*?)   ", done.stdout, re.MULTILINE)
    words = ["venv/bin/delayed-repl", *look.split(), "--brief"]
    looked = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert looked.stdout.startswith(" OK  in-range "), looked

    [stop_applying] = re.findall(r"^  (.* -e 'STOP SLAVE SQL_THREAD')", done.stdout, re.MULTILINE)
    subprocess.run(stop_applying, shell=True, cwd=folder, check=True)
    assert becomes(check, 2, "[CRITICAL sql-stopped] ")
    subprocess.run(stop_applying.replace("STOP SLAVE SQL_THREAD", "START SLAVE"), shell=True, cwd=folder, check=True)
    assert becomes(check, 0, OK)

    [kill] = re.findall(r"^  (kill \$\(.*pid/)heartbeat-source\)", done.stdout, re.MULTILINE)
    subprocess.run(f"{kill}worker)", shell=True, cwd=folder, check=True)
    assert becomes(check, 2, "[CRITICAL worker-missing] ")
    subprocess.run([folder / "start", "worker"], check=True)
    assert becomes(check, 0, OK)
    assert subprocess.run([folder / "start", "x"], capture_output=True, check=False).returncode == 3

    subprocess.run(f"{kill.replace('kill', 'kill -STOP')}replica)", shell=True, cwd=folder, check=True)
    assert becomes(check, 2, "[CRITICAL timeout] ")
    # A server that a signal has stopped is stopped all the same.
    subprocess.run([folder / "stop"], check=True, timeout=120)
    assert running(place) == []
    assert list(place.iterdir()) == []


def becomes(check: object, status: int, line: str) -> bool:
    """Within two minutes the check ends with this status and has a line that begins like that."""
    assert callable(check)
    end = time.monotonic() + 120
    while time.monotonic() < end:
        ended, text = check()
        if ended == status and any(found.startswith(line) for found in text.splitlines()):
            return True
        time.sleep(0.5)
    return False


@pytest.mark.long
@pytest.mark.parametrize(("when", "number"), [("starting", signal.SIGTERM), ("DELAYED_REPL", signal.SIGINT)])
def test_an_end_before_its_time_leaves_nothing(place: Path, when: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        [QUICKSTART],
        env=os.environ | {"TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert any(when in line for line in process.stdout)
        time.sleep(0.5)
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(60) == 128 + number
    assert running(place) == []
    assert list(place.iterdir()) == []


def test_wrong_usage(place: Path) -> None:
    done = quickstart("--kepe", place=place)
    text = "quickstart: unknown option '--kepe' (see examples/quickstart --help)\n"
    assert (done.returncode, done.stdout) == (3, text)
