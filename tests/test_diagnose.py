"""`delayed-repl diagnose`: what its words, intervals and proposals rest on, and the command itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command
from diagnose_scenes import CALL, KEPT, NOW, SCENES, jitter, line, scene, seen
from judge_builders import job

from check_delayed_repl import history, words
from check_delayed_repl.diagnose import document as diagnosis
from check_delayed_repl.diagnose import plot
from check_delayed_repl.diagnose.advice import advice
from check_delayed_repl.diagnose.certainty import certainty, crossing
from check_delayed_repl.diagnose.dialect import Dialect
from check_delayed_repl.diagnose.picture import Diagnosis
from check_delayed_repl.diagnose.screen import plain
from check_delayed_repl.diagnose.text import Pen, screen
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.judge.trend import fit
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Sample
from check_delayed_repl.tool import run

# --- words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "unknown"),
        (float("nan"), "unknown"),
        (0.0, "0 s"),
        (0.64, "0.6 s"),
        (9.96, "10 s"),
        (74.4, "74 s"),
        (99.6, "1 min 40 s"),
        (120, "2 min"),
        (725, "12 min 5 s"),
        (3599.6, "1 h"),
        (11520, "3 h 12 min"),
        (86399, "1 d"),
        (183600, "2 d 3 h"),
        (-45, "-45 s"),
    ],
)
def test_spans(seconds: float | None, said: str) -> None:
    assert words.span(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(24, "24s"), (720, "12m"), (9000, "2h30m"), (64800, "18h"), (864000, "10d"), (-20, "-20s")]
)
def test_axis_labels(seconds: float, said: str) -> None:
    assert words.short(seconds) == said


def test_moments() -> None:
    assert words.clock(NOW - 60, NOW, UTC) == "10:40"
    assert words.clock(NOW - 60, NOW, UTC, seconds=True) == "10:40:00"
    assert words.clock(NOW - 86400, NOW, UTC) == "Nov 22 10:41"
    assert words.clock(NOW - 400 * 86400, NOW, UTC) == "2025-10-19 10:41"
    assert words.clock(1e300, NOW, UTC) == "t=1e+300"
    assert words.countdown(36061) == "10:01:01"
    assert words.size(123456789) == "118 MiB"


# --- certainty


def noisy(slope: float, count: int = 60, every: float = 10.0, height: float = 9500.0) -> list[tuple[float, float]]:
    return [(NOW - every * (count - 1 - i), height + slope * every * i + jitter(NOW + every * i)) for i in range(count)]


def test_the_interval_is_scipys() -> None:
    from scipy import stats

    points = noisy(-0.5)
    found = certainty(points)
    line_of = stats.linregress([t - NOW for t, _ in points], [d for _, d in points])
    assert found.slope == pytest.approx(line_of.slope, abs=1e-9)
    half = stats.t.ppf(0.975, 58) * line_of.stderr
    assert (found.low, found.high) == pytest.approx((line_of.slope - half, line_of.slope + half), abs=1e-9)
    assert found.low < -0.5 < found.high
    assert found.theil_sen is None


def test_theil_sen_speaks_up_where_a_few_samples_bend_the_line() -> None:
    points = noisy(0.0)
    bent = [(t, d + 2000.0) if i > 54 else (t, d) for i, (t, d) in enumerate(points)]
    found = certainty(bent)
    assert found.slope > 1.0
    assert found.theil_sen == pytest.approx(0.0, abs=0.01)


def test_a_long_stretch_is_thinned_out_for_theil_sen() -> None:
    start = time.monotonic()
    found = certainty(noisy(-0.1, count=20_000, every=1.0))
    assert time.monotonic() - start < 5
    assert found.slope == pytest.approx(-0.1, abs=1e-4)


def test_a_crossing_lies_between_its_ends() -> None:
    points = noisy(-0.5)
    trend = fit(points, 600.0).trend
    assert trend.slope is not None
    assert trend.intercept is not None
    expected = NOW + (9000.0 - trend.intercept) / trend.slope
    found = crossing(points, 9000.0)
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest < expected < found.latest
    assert found.latest - found.earliest < 5.0


def test_a_crossing_of_a_level_line_has_no_end() -> None:
    found = crossing(noisy(0.0), 9000.0)
    assert (found.earliest, found.latest) == (None, None)


# --- what the picture says


def text_of(picture: Diagnosis) -> str:
    return plain(screen(picture, Pen(zone=UTC)))


def joined(picture: Diagnosis) -> str:
    return " ".join(text_of(picture).split())


def test_a_mistake_now_arrives_one_delay_later() -> None:
    found = SCENES["in-range"]().protection
    assert found is not None
    assert found.since == pytest.approx(NOW - 7200, abs=2)
    assert found.applied == pytest.approx(NOW + 7200, abs=2)


def test_a_line_that_drains_brings_it_forward() -> None:
    # 3600 s long and 60 s/s shorter: gone in a minute.
    found = SCENES["delay-setting-lost"]().protection
    assert found is not None
    assert found.applied == pytest.approx(NOW + 3600 / 61, abs=1)


def test_a_line_that_catches_up_is_held_back_by_the_server() -> None:
    found = SCENES["recovering-above-maximum"]().protection
    assert found is not None
    assert found.applied == NOW + 7200


def test_a_stopped_applier_applies_nothing_unless_pt_slave_delay_stopped_it() -> None:
    assert "Nothing is applied until the SQL thread is started." in joined(SCENES["sql-stopped"]())
    assert "A mistake made now (10:41) is applied here" in joined(SCENES["in-range pt-slave-delay"]())


def test_a_failed_look_promises_nothing() -> None:
    found = SCENES["server-down"]().protection
    assert found is not None
    assert found.applied is None
    assert "what happened since is not known" in joined(SCENES["server-down"]())


def test_a_dead_heartbeat_measures_nothing() -> None:
    assert SCENES["source-heartbeat-dead"]().protection is None


def test_the_fit_is_the_judges() -> None:
    picture = SCENES["delay-out-of-bounds below"]()
    last = picture.segments[-1]
    trend = picture.verdict.trend
    assert (last.slope, last.ends, last.end - last.start) == (trend.slope, trend.intercept, trend.span)
    assert len(picture.segments) == 2
    assert picture.segments[0].end < last.start


def test_a_budget_that_is_charged_says_when_it_is_spent() -> None:
    budgets = {budget.name: budget for budget in SCENES["active-backup"]().budgets}
    assert budgets["backup"].ends == NOW + 64800 - 3600
    assert budgets["recovery"].ends is None


def test_a_finding_that_was_added_takes_its_place() -> None:
    picture = SCENES["history-unavailable"]()
    assert (picture.verdict.state, picture.verdict.condition) == (State.CRITICAL, "history-unavailable")


# --- proposals


@pytest.mark.parametrize(
    ("dialect", "start", "status", "delay"),
    [
        (
            Dialect("9.7.0", "o'b"),
            "START REPLICA SQL_THREAD FOR CHANNEL 'o''b';",
            "SHOW REPLICA STATUS FOR CHANNEL 'o''b'\\G",
            [
                "STOP REPLICA SQL_THREAD FOR CHANNEL 'o''b';",
                "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 7200 FOR CHANNEL 'o''b';",
                "START REPLICA SQL_THREAD FOR CHANNEL 'o''b';",
            ],
        ),
        (
            Dialect("8.0.22"),
            "START REPLICA SQL_THREAD;",
            "SHOW REPLICA STATUS\\G",
            ["STOP REPLICA SQL_THREAD;", "CHANGE MASTER TO MASTER_DELAY = 7200;", "START REPLICA SQL_THREAD;"],
        ),
        (
            Dialect("5.7.44-log", "c"),
            "START SLAVE SQL_THREAD FOR CHANNEL 'c';",
            "SHOW SLAVE STATUS FOR CHANNEL 'c'\\G",
            [
                "STOP SLAVE SQL_THREAD FOR CHANNEL 'c';",
                "CHANGE MASTER TO MASTER_DELAY = 7200 FOR CHANNEL 'c';",
                "START SLAVE SQL_THREAD FOR CHANNEL 'c';",
            ],
        ),
        (
            Dialect("5.6.24"),
            "START SLAVE SQL_THREAD;",
            "SHOW SLAVE STATUS\\G",
            ["STOP SLAVE;", "CHANGE MASTER TO MASTER_DELAY = 7200;", "START SLAVE;"],
        ),
        (
            Dialect("5.5.5-10.11.6-MariaDB", "c"),
            "START SLAVE 'c' SQL_THREAD;",
            "SHOW SLAVE 'c' STATUS\\G",
            ["STOP SLAVE 'c';", "CHANGE MASTER 'c' TO MASTER_DELAY = 7200;", "START SLAVE 'c';"],
        ),
        (
            Dialect("11.8.2-MariaDB"),
            "START SLAVE SQL_THREAD;",
            "SHOW ALL SLAVES STATUS\\G",
            ["STOP SLAVE;", "CHANGE MASTER TO MASTER_DELAY = 7200;", "START SLAVE;"],
        ),
    ],
)
def test_statements_are_in_the_servers_words(dialect: Dialect, start: str, status: str, delay: list[str]) -> None:
    assert dialect.start("SQL_THREAD") == start
    assert dialect.status() == status
    assert dialect.set_delay(7200) == delay


def test_an_unknown_server_gets_everybodys_words() -> None:
    picture = scene(line(io="No"), None, replica="db1:3306#orders")
    commands = advice("io-stopped", picture).steps[0].commands
    assert commands == (
        "-- MySQL 8.0.22 and later:",
        "START REPLICA IO_THREAD FOR CHANNEL 'orders';",
        "-- older MySQL:",
        "START SLAVE IO_THREAD FOR CHANNEL 'orders';",
        "-- MariaDB:",
        "START SLAVE 'orders' IO_THREAD;",
    )


@pytest.mark.parametrize("name", ["$(reboot)", "a'b; reboot #", "--help", "\x1b[2Jx\n; reboot"])
def test_a_hostile_job_cannot_take_over_the_commands(name: str) -> None:
    records = [*line(end=-310), job(NOW - 300, NOW - 400, name=name), *line(start=-300)]
    picture = scene(records, call=KEPT)
    [command] = advice("job-record-invalid", picture).steps[0].commands
    said = subprocess.run(
        ["bash", "-c", f"delayed-repl() {{ printf '%s\\0' \"$@\"; }}; {command}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")[:-1]
    assert name in said
    if name.startswith("-"):
        assert said[-2:] == ["--", name]
    shown = text_of(picture)
    assert "\x1b" not in shown
    assert all(text.isprintable() for text in shown.splitlines())


def test_hostile_server_text_is_harmless() -> None:
    hostile = "\x1b]0;owned\x07\n\n|x" + "y" * 5000
    picture = scene([*line(end=-10), seen(NOW, 7200.0, sql="No", sql_errno=1, sql_error=hostile)])
    shown = text_of(picture)
    assert all(text.isprintable() for text in shown.splitlines())


def test_absurd_numbers_are_drawn() -> None:
    samples = [*line(end=-20), seen(NOW - 10, 1e9), seen(NOW, 7200.0)]
    shown = text_of(scene(samples))
    assert "▲" in shown
    for delay in (float("inf"), 1e300, -1e300, 0.0):
        text_of(scene([*line(end=-10), seen(NOW, delay)]))
    text_of(scene([seen(NOW, 7200.0)] * 3))


# --- JSON and drawings


def reject(constant: str) -> None:
    raise AssertionError(constant)


@pytest.mark.parametrize("name", SCENES)
def test_json_says_what_the_screen_says(name: str) -> None:
    picture = SCENES[name]()
    text = diagnosis.render(picture)
    assert text.count("\n") == 1
    found = json.loads(text, parse_constant=reject)
    assert (found["state"], found["condition"]) == (picture.verdict.state.name, picture.verdict.condition)
    assert {"trend", "metrics", "limits", "jobs", "replica", "at", "budgets", "protected", "trust"} <= set(found)
    assert all(finding["meaning"] for finding in found["findings"])


@pytest.mark.parametrize("name", ["in-range", "backup-recovery-window", "connect-failed", "internal-error"])
def test_drawings(tmp_path: Path, name: str) -> None:
    for ending, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        file = tmp_path / f"line{ending}"
        plot.draw(SCENES[name](), str(file), UTC)
        assert file.read_bytes().startswith(magic)


def test_the_same_picture_gives_the_same_drawing(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.svg" for number in (1, 2)]
    for file in files:
        plot.draw(SCENES["active-backup"](), str(file), UTC)
    assert files[0].read_bytes() == files[1].read_bytes()


# --- the command


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`delayed-repl` without a process of its own, which would have to load scipy anew."""

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        status = run(arguments)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, printed.out, printed.err)

    return call


@pytest.fixture
def nobody() -> list[str]:
    """Options for a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return ["-H", "127.0.0.1", "-P", str(port), "-u", "monitor", "-p", "geheim!"]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A history with ten quiet minutes of db1, and a backup that is over."""
    file = tmp_path / "history.db"
    store = history.open_history(str(file), time.monotonic() + 10)
    now = time.time()
    store.add_samples(
        ("db1", Sample(now - age, delay=7203.0 + age % 3, io="Yes", sql="Yes")) for age in range(600, 0, -10)
    )
    store.add_job("db1", JobLine(now, "b1", "backup", now - 400, now - 300))
    store.close()
    return file


def test_the_history_alone(told: Command, kept: Path) -> None:
    done = told("diagnose", "--no-look", "--history", str(kept), "--replica", "db1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(" OK  in-range")
    assert "\nbackup  " in done.stdout
    assert "\x1b" not in done.stdout


def test_a_terminal_that_knows_no_more_than_ascii(tool: Command, kept: Path) -> None:
    where = ("--no-look", "--history", str(kept), "--replica", "db1")
    done = tool("diagnose", *where, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_ascii_and_colours_on_request(told: Command, kept: Path) -> None:
    where = ("--no-look", "--history", str(kept), "--replica", "db1")
    assert told("diagnose", *where, "--ascii").stdout.isascii()
    assert "\x1b[" in told("diagnose", *where, "--color", "always", NO_COLOR="1").stdout


def test_what_it_sees_is_kept_nowhere(told: Command, kept: Path, nobody: list[str]) -> None:
    before = told("history", "export", "--history", str(kept)).stdout
    told("diagnose", *nobody, "--history", str(kept), "--replica", "db1")
    assert told("history", "export", "--history", str(kept)).stdout == before


def test_a_server_that_is_down(told: Command, nobody: list[str], tmp_path: Path) -> None:
    start = time.monotonic()
    nowhere = str(tmp_path / "none.db")
    done = told("diagnose", *nobody, "--history", nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith((" CRITICAL  server-down", " CRITICAL  connect-failed"))
    assert "geheim" not in done.stdout
    assert "mysql -H 127.0.0.1" in done.stdout or "systemctl" in done.stdout
    assert "There is no history at the place that --history names" in " ".join(done.stdout.split())
    assert not Path(nowhere).exists()
    assert time.monotonic() - start < 15
    assert told("diagnose", *nobody, "--history", nowhere, "--exit-code").returncode == 2


def test_json_of_a_server_that_is_down(told: Command, nobody: list[str], tmp_path: Path) -> None:
    done = told("diagnose", *nobody, "--history", str(tmp_path / "none.db"), "--output", "json")
    found = json.loads(done.stdout)
    assert found["state"] == "CRITICAL"
    assert "geheim" not in done.stdout


def test_a_worker_that_is_gone(told: Command, tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    store = history.open_history(str(file), time.monotonic() + 10)
    now = time.time()
    store.add_samples(("db1", Sample(now - age, delay=7203.0)) for age in range(900, 300, -10))
    store.close()
    where = ("--no-look", "--history", str(file), "--replica", "db1", "--exit-code")
    done = told("diagnose", *where, "--sampling", "worker")
    assert done.returncode == 2
    assert "worker-missing" in done.stdout
    assert "worker-missing" not in told("diagnose", *where).stdout


def test_a_name_that_the_history_does_not_know(told: Command, kept: Path, nobody: list[str]) -> None:
    done = told("diagnose", *nobody, "--history", str(kept), "--replica", "db2")
    assert "The history has nothing of db2. It knows: db1 (--replica)." in " ".join(done.stdout.split())
    done = told("diagnose", "--no-look", "--history", str(kept), "--replica", "db2")
    assert done.returncode == 1
    assert done.stderr == "delayed-repl: the history has nothing of db2, and --no-look forbids to look\n"


def test_a_damaged_history(told: Command, nobody: list[str], tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    file.write_bytes(b"not a database" * 1000)
    done = told("diagnose", *nobody, "--history", str(file))
    assert done.returncode == 0
    assert "CRITICAL" in done.stdout
    assert "history-unavailable" in done.stdout
    assert told("diagnose", "--no-look", "--replica", "db1", "--history", str(file)).returncode == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--plot", "line.pdf"), "--plot: 'line.pdf' ends neither in .png nor in .svg"),
        (("--for", "10", "--no-look"), "--for: there is nothing to look at with --no-look"),
        (("--for", "soon"), "--for: 'soon' is not a time: give seconds, or a number with s, m, h or d"),
        (("--interval", "0"), "--interval: '0' is not more than 0 seconds"),
        (("--min-delay-time", "9h"), "--min-delay-time: 32400 is greater than --max-delay-time 9000"),
    ],
)
def test_wrong_usage(told: Command, options: tuple[str, ...], said: str) -> None:
    done = told("diagnose", "-H", "db1", *options)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"delayed-repl: {said}\n")


def test_a_plot_in_the_command(told: Command, kept: Path, tmp_path: Path) -> None:
    where = ("--no-look", "--history", str(kept), "--replica", "db1")
    file = tmp_path / "line.svg"
    assert told("diagnose", *where, "--since", "24h", "--plot", str(file)).returncode == 0
    assert file.read_bytes().startswith(b"<?xml")
    done = told("diagnose", *where, "--plot", str(tmp_path / "no" / "line.svg"))
    assert done.returncode == 1
    assert done.stderr == f"delayed-repl: --plot: {tmp_path}/no/line.svg: No such file or directory\n"


def test_matplotlib_is_optional(kept: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from check_delayed_repl.tool import run\n"
        f"sys.exit(run(['diagnose', '--no-look', '--history', {str(kept)!r}, '--replica', 'db1', '--plot', 'x.png']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "delayed-repl: --plot: matplotlib is not installed: pip install 'check-delayed-repl[plot]'\n"
    )
    assert done.stdout.startswith(" OK  in-range")


def test_scipy_may_be_missing(kept: Path) -> None:
    code = (
        "import sys; sys.modules['scipy'] = None\n"
        "from check_delayed_repl.tool import run\n"
        f"sys.exit(run(['diagnose', '--no-look', '--history', {str(kept)!r}, '--replica', 'db1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "scipy is not installed" in " ".join(done.stdout.split())


def test_options_are_repeated_in_proposals_without_the_password(nobody: list[str], told: Command, kept: Path) -> None:
    given = ("--max-delay-time", "100m", "--history", str(kept), "--replica", "db1")
    found: dict[str, Any] = json.loads(told("diagnose", *nobody, *given, "--output", "json").stdout)
    commands = [c for f in found["findings"] for step in f["next"] for c in step["commands"]]
    [watch] = [c for c in commands if "delayed-repl watch" in c]
    assert watch == (
        f'delayed-repl watch -H 127.0.0.1 -P {nobody[3]} -u monitor --password="$PASSWORD" --replica db1'
        f" --max-delay-time 6000 --history {kept}"
    )


# --- watch


def test_watch_prints_frames_where_there_is_no_terminal(told: Command, kept: Path, nobody: list[str]) -> None:
    done = told(
        *("watch", *nobody, "--history", str(kept), "--replica", "db1", "--interval", "0.2", "--count", "2"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Delay of the last") == 2
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("ends", ["q", "\x03", "SIGTERM"])
def test_watch_leaves_the_terminal_as_it_was(tmp_path: Path, nobody: list[str], ends: str) -> None:
    import pty
    import select
    import signal
    import termios

    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "check_delayed_repl.tool", "watch", *nobody),
            *("--history", str(tmp_path / "none.db"), "--interval", "0.5"),
        ],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0),
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
    )
    seen_text = b""

    def read_until(wanted: bytes) -> None:
        nonlocal seen_text
        end = time.monotonic() + 20
        while wanted not in seen_text and time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                seen_text += os.read(ours, 65536)
        assert wanted in seen_text

    try:
        read_until(b"Delay of the last")
        if ends == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            os.write(ours, ends.encode())
        read_until(b"\x1b[?1049l")
        assert process.wait(10) == 0
        assert termios.tcgetattr(theirs) == before
        assert b"\x1b[?1049h" in seen_text
        assert b"Traceback" not in seen_text
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_limits_that_are_not_the_defaults_are_repeated() -> None:
    from check_delayed_repl.diagnose.session import _judging

    limits = Limits(job_limits=(("dump", 3600.0),), job_stops_server=("backup",), fit="window", window=300.0)
    assert _judging(limits) == (
        *("--window", "300", "--fit", "window", "--max-job-behind", "dump=3600", "--job-stops-server", "backup"),
    )
    assert _judging(Limits()) == ()
    assert CALL.judging == ()
