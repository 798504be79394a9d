"""What a person is shown and told: screens, advice, JSON, drawings. `python tests/test_diagnose.py` draws the golden
screens anew.
"""

from __future__ import annotations

import json
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from diagnose_scenes import NOW, SCENES, line, scene, seen

from check_delayed_repl.judge.protection import protected_s

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from conftest import ROOT
from diagnose_scenes import (
    KEPT,
    MARIADB,
    MYSQL,
    NAMED_MARIADB,
    OLD_MYSQL,
    OLDEST_MYSQL,
    STILL,
    jitter,
)
from judge_builders import job
from rich.text import Text

from check_delayed_repl import conditions, words
from check_delayed_repl.commands.explain import explained
from check_delayed_repl.config import parsed
from check_delayed_repl.diagnose import document as diagnosis
from check_delayed_repl.diagnose import plot
from check_delayed_repl.diagnose.advice import advise, general_steps, steps_for
from check_delayed_repl.diagnose.picture import Diagnosis, certainty
from check_delayed_repl.diagnose.screen import to_ascii
from check_delayed_repl.diagnose.server import _place
from check_delayed_repl.diagnose.steps import freeze, set_delay
from check_delayed_repl.diagnose.text import WIDTH, Screen, humane
from check_delayed_repl.given import Call, call_from
from check_delayed_repl.given import joined as in_shell
from check_delayed_repl.history import LOCATION_VARIABLE
from check_delayed_repl.judge.outcome import Finding, State
from check_delayed_repl.limits import Limits
from check_delayed_repl.observe.connection import Answer
from check_delayed_repl.observe.dialect import Dialect, Place
from check_delayed_repl.observe.optionfile import read_options
from check_delayed_repl.plugin import build_parser
from check_delayed_repl.records import Sample
from check_delayed_repl.tool import command_parser

GOLDEN = Path(__file__).parent / "golden" / "diagnose"
KEPT_SCREENS = (
    "in-range",
    "in-range leaking",
    "active-backup",
    "backup-recovery-window",
    "delay-out-of-bounds limits",
    "delay-setting-lost",
    "delay-setting-lost stopped",
    "connect-failed",
    "source-heartbeat-dead",
    "sql-stopped",
    "rescue-in-progress",
    "internal-error",
)
"""Those that show a different thing each."""
KEPT_FRAMES = ("backup-recovery-window", "recovering-below-minimum", "sql-stopped")


def screen(p: Diagnosis) -> list[Text]:
    return Screen(p).whole()


def plain(lines: list[Text]) -> str:
    return "".join(f"{line.plain.rstrip()}\n" for line in lines)


def styles(lines: list[Text]) -> list[tuple[str, str]]:
    """(text, style) of each styled piece."""
    return [(line.plain[s.start : s.end], str(s.style)) for line in lines for s in line.spans]


def golden() -> dict[str, str]:
    """File name → what it should hold."""
    files = {f"{name.replace(' ', '-')}.txt": plain(screen(SCENES[name]())) for name in KEPT_SCREENS}
    files |= {f"watch-{name}.txt": plain(Screen(SCENES[name]()).frame(23)) for name in KEPT_FRAMES}
    files["ascii.txt"] = to_ascii(plain(screen(SCENES["backup-recovery-window"]())))
    return files


def joined(lines: list[Text]) -> str:
    return " ".join(plain(lines).split())


# --- words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no answer within 10 s", "no answer within 10 s"),
        ("completed 1800 seconds ago (limit 21600, --m)", "completed 30 min ago (limit 6 h, --m)"),
        ("error 1236 of server 1", "error 1236 of server 1"),
        ("recovery needs at least 0.1 s/s", "recovery needs at least 0.1 s/s"),
    ],
)
def test_times_have_one_human_form(text: str, said: str) -> None:
    assert humane(text) == said


def test_moments() -> None:
    assert words.clock(NOW - 60, NOW) == "10:40"
    assert words.clock(NOW - 60, NOW, seconds=True) == "10:40:00"
    assert words.clock(NOW - 86400, NOW) == "Nov 22 10:41"
    assert words.clock(NOW - 400 * 86400, NOW) == "2025-10-19 10:41"
    assert words.clock(1e300, NOW) == "t=1e+300"
    assert words.countdown(36061) == "10:01:01"
    assert words.size(123456789) == "118 MiB"
    assert [words.span(s) for s in (0.04, 22.5, 74.0, 99.96)] == ["0 s", "22.5 s", "74 s", "1 min 40 s"]


# --- certainty


def noisy(slope: float, count: int = 60, every: float = 10.0, height: float = 9500.0) -> list[tuple[float, float]]:
    return [(NOW - every * (count - 1 - i), height + slope * every * i + jitter(NOW + every * i)) for i in range(count)]


def test_the_interval_is_scipys() -> None:
    from scipy import stats

    points = noisy(-0.5)
    found = certainty(points)
    line_of = stats.linregress([t - NOW for t, _ in points], [d for _, d in points])
    half = stats.t.ppf(0.975, 58) * line_of.stderr
    assert (found.low, found.high) == pytest.approx((line_of.slope - half, line_of.slope + half), abs=1e-9)
    assert found.low < -0.5 < found.high
    assert found.theil_sen is None


def test_theil_sen_speaks_up_where_a_few_samples_bend_the_line() -> None:
    bent = [(t, d + 2000.0) if i > 54 else (t, d) for i, (t, d) in enumerate(noisy(0.0))]
    found = certainty(bent)
    assert found.slope > 1.0
    assert found.theil_sen == pytest.approx(0.0, abs=0.01)


def test_the_time_of_the_return_lies_between_its_ends() -> None:
    outlook = SCENES["recovering-above-maximum"]().outlook
    early, late = outlook.spread
    assert early < outlook.t < late < early + 30.0
    assert outlook.t == pytest.approx(NOW + 400, abs=5)
    leak = SCENES["in-range leaking"]().outlook
    assert (leak.back, leak.option) == (False, "--max-delay-time")
    assert SCENES["in-range"]().outlook is None


# --- screens


def test_every_condition_has_a_scene() -> None:
    shown = {conditions.general(finding.condition) for build in SCENES.values() for finding in build().verdict.findings}
    assert {condition.name for condition in conditions.CONDITIONS} - shown == {"usage"}


@pytest.mark.parametrize("name", SCENES)
def test_a_screen(name: str) -> None:
    """It is about what it is called; 80 columns but for what is to be pasted; first things first, and briefly."""
    picture = SCENES[name]()
    assert picture.has(name.partition(" ")[0])
    lines, first = screen(picture), Screen(picture).brief()
    assert (
        max(len(plain([one])) - 1 for one in lines if "command" not in [style for _, style in styles([one])]) <= WIDTH
    )
    assert lines[: len(first)] == first
    assert len(first) <= 24
    text = plain(first)
    assert f" {picture.verdict.state.name}  {words.shown(picture.verdict.condition)}" in text
    assert text.count("Protected: ") == text.count("Do now: ") == 1
    urgent = [style for piece, style in styles(first) if piece == "Do now: "]
    assert urgent == ["urgent" if picture.verdict.state == State.CRITICAL else "bold"]
    [do_now] = [one for one in text.splitlines() if one.startswith("Do now: ")]
    assert do_now.endswith((":", ".", "?")), "one line"


@pytest.mark.parametrize("name", SCENES)
def test_a_frame_fits_its_terminal_and_cuts_no_sentence(name: str) -> None:
    picture = SCENES[name]()
    for rows in (23, 40, 60):
        lines = Screen(picture).frame(rows)
        assert len(lines) <= rows
        assert " ".join(humane(words.clean(picture.verdict.message)).split()) in joined(lines)


def test_the_screens_are_the_golden_ones() -> None:
    wanted = golden()
    stale = [
        name for name, text in wanted.items() if not (GOLDEN / name).exists() or (GOLDEN / name).read_text() != text
    ]
    assert stale == [], "read the changes, then run python tests/test_diagnose.py"
    assert {path.name for path in GOLDEN.iterdir()} == set(wanted)


def test_the_readmes_pictures_are_what_is_drawn() -> None:
    made = runpy.run_path(str(ROOT / "examples" / "screens"))
    for name, build in made["SCREENS"].items():
        wanted = made["svg"](Screen(build()).whole())
        assert (ROOT / "examples" / "pictures" / f"{name}.svg").read_text() == wanted, "run examples/screens"


def test_samples_out_of_range_have_another_colour() -> None:
    drawn = styles(screen(SCENES["delay-setting-lost"]()))
    assert {"bad", "fit"} <= {style for piece, style in drawn if 0x2800 < ord(piece[0]) <= 0x28FF}
    assert "bad" not in [style for _, style in styles(screen(SCENES["in-range"]()))]


def test_hostile_server_text_is_harmless() -> None:
    hostile = "\x1b]0;owned\x07\n\n|x IDENTIFIED BY 'geheim'" + "y" * 5000
    shown = plain(screen(scene([*line(end=-10), seen(NOW, 7200.0, sql="No", sql_errno=1, sql_error=hostile)])))
    assert all(text.isprintable() for text in shown.splitlines())
    assert "geheim" not in shown


def test_absurd_numbers_are_drawn() -> None:
    assert "▲" in plain(screen(scene([*line(end=-20), seen(NOW - 10, 1e9), seen(NOW, 7200.0)])))
    for delay in (float("inf"), 1e300, -1e300, 0.0):
        screen(scene([*line(end=-10), seen(NOW, delay)]))
    screen(scene([seen(NOW, 7200.0)] * 3))


def test_the_fit_is_the_judges() -> None:
    picture = SCENES["line-drained"]()
    last, trend = picture.segments[-1], picture.verdict.trend
    assert (last.slope, last.ends, last.end - last.start) == (trend.slope, trend.intercept, trend.span)
    assert len(picture.segments) == 2
    assert picture.segments[0].end < last.start


# --- advice


def commands(picture: Diagnosis) -> list[str]:
    return [command for one in advise(picture) for step in one.steps for command in step.commands]


def texts(picture: Diagnosis) -> str:
    return " ".join(step.text for one in advise(picture) for step in one.steps)


@pytest.mark.parametrize(
    ("dialect", "start", "status", "back_to_gtid"),
    [
        (
            *(Dialect("9.7.0", "o'b"), "START REPLICA SQL_THREAD FOR CHANNEL 'o''b'"),
            *("SHOW REPLICA STATUS FOR CHANNEL 'o''b'\\G", "CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = 1"),
        ),
        (
            *(Dialect("5.7.44-log", "c"), "START SLAVE SQL_THREAD FOR CHANNEL 'c'"),
            *("SHOW SLAVE STATUS FOR CHANNEL 'c'\\G", "CHANGE MASTER TO MASTER_AUTO_POSITION = 1"),
        ),
        (
            *(Dialect("9.7.0", named=True), "START REPLICA SQL_THREAD FOR CHANNEL ''"),
            *("SHOW REPLICA STATUS FOR CHANNEL ''\\G", "CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION = 1"),
        ),
        (
            *(Dialect("5.5.5-10.11.6-MariaDB", "c"), "START SLAVE 'c' SQL_THREAD"),
            *("SHOW SLAVE 'c' STATUS\\G", "CHANGE MASTER 'c' TO MASTER_USE_GTID = slave_pos"),
        ),
    ],
)
def test_statements_are_in_the_servers_words(dialect: Dialect, start: str, status: str, back_to_gtid: str) -> None:
    """The change of a delay, and all around it, is tested where it is set."""
    assert dialect.start("SQL_THREAD") == start
    assert dialect.status() == status
    assert f"; {back_to_gtid}" in dialect.back_to_gtid()


@pytest.mark.parametrize(
    ("identity", "families"),
    [
        (None, ["MySQL 8.0.22 and later", "older MySQL", "MariaDB"]),
        ("uuid:1-2", ["MySQL 8.0.22 and later", "older MySQL"]),
        ("id:2/3306", ["MariaDB"]),
    ],
)
def test_an_unknown_server_gets_everybodys_words(identity: str | None, families: list[str]) -> None:
    picture = scene(line(io="No", server=identity), None, replica="db1:3306#orders")
    said = steps_for("io-stopped", picture)[0].commands
    assert [one for one in said if one.startswith("--")] == [f"-- {name}:" for name in families]
    every = {"START REPLICA IO_THREAD FOR CHANNEL 'orders';", "START SLAVE IO_THREAD FOR CHANNEL 'orders';"}
    assert set(said[1::2]) <= {*every, "START SLAVE 'orders' IO_THREAD;"}


def test_an_unknown_server_is_told_of_the_channel_that_was_given() -> None:
    picture = scene(line(io="No"), None, replica="db1", call=Call(channel="orders", worker=True))
    said = steps_for("io-stopped", picture)[0].commands
    assert said[1::2][-1] == "START SLAVE 'orders' IO_THREAD;"
    nameless = steps_for("io-stopped", picture._replace(call=Call(channel="")))[0].commands
    assert nameless[1] == "START REPLICA IO_THREAD FOR CHANNEL '';"


@pytest.mark.parametrize("name", SCENES)
def test_nothing_that_is_proposed_throws_away_what_waits(name: str) -> None:
    """MariaDB and 5.6 purge the relay log on a change of the delay that names no place; MySQL without an IO thread."""
    for dialect in (MARIADB, NAMED_MARIADB, MYSQL, OLD_MYSQL, OLDEST_MYSQL):
        picture = SCENES[name]()
        server = picture.server._replace(dialect=dialect) if picture.server is not None else None
        said = commands(picture._replace(server=server))
        for number, command in enumerate(said):
            if command.startswith("CHANGE") and server is not None:
                assert "RELAY_LOG_FILE" in command or "IO_THREAD" in "".join(said[number - 2 : number]), said
        assert not any("RESET" in command or "check-read-only" in command for command in said)


@pytest.mark.parametrize(
    ("errno", "text", "changes"),
    [
        (0, None, True),
        (2003, "Error connecting to source. This was attempt 3/86400, with a delay of 60 seconds", True),
        (13117, "Fatal error: source and replica have equal MySQL server ids", False),
    ],
)
def test_mysqls_delay_is_set_while_the_io_thread_runs_alone(errno: int, text: str | None, changes: bool) -> None:
    """One that ends again at once, in the moment between two statements, leaves none of what it has fetched."""
    lost = [*line(end=-310), *line(start=-300, io="No", sql="No", io_errno=errno, io_error=text, sql_delay=0)]
    said = [step for step in steps_for("delay-setting-lost", scene(lost, MYSQL)) if step.commands]
    assert any("CHANGE" in command for step in said for command in step.commands) == changes
    if changes:
        assert "see that the IO thread runs before the CHANGE" in said[-1].text
        assert said[-1].commands[2].startswith("SHOW REPLICA STATUS")


def test_a_delay_that_was_lost_comes_back_with_the_place_where_the_applier_stopped() -> None:
    running = SCENES["delay-setting-lost mariadb"]()
    assert commands(running) == ["STOP SLAVE 'orders' SQL_THREAD;", "delayed-repl diagnose -H db1"]
    unasked = SCENES["delay-setting-lost stopped"]()._replace(server=None, call=Call(worker=True))
    assert not any("CHANGE" in command for command in commands(unasked))


@pytest.mark.parametrize("position", [b"", b"-4", b"4 ", b"9" * 5000])
def test_a_position_that_is_none_is_no_place(position: bytes) -> None:
    columns = ["Relay_Log_File", "Relay_Log_Pos"]
    assert _place(Answer(columns, [[b"relay.000002", b"4711"]]), "") == Place("relay.000002", 4711)
    assert _place(Answer(columns, [[b"relay.000002", position]]), "") is None


def test_a_thread_starts_without_losing_what_waits() -> None:
    """MariaDB in GTID mode throws it away if both threads were stopped, unless it is told where to go on."""
    place = Place("relay.000002", 4711, gtid=True)
    both = scene(line(io="No", sql="No", relay_log=STILL, sql_remaining=None), MARIADB, place=place)
    first = steps_for("sql-stopped", both)[0].commands
    assert first == (
        "CHANGE MASTER TO MASTER_DELAY = 7200, RELAY_LOG_FILE = 'relay.000002', RELAY_LOG_POS = 4711;",
        "START SLAVE;",
    )
    assert not steps_for("io-stopped", both)[0].commands, "they start together"
    killed = scene(line(io="No", sql="No", source_log=None, relay_log=STILL, sql_remaining=None), MARIADB, place=place)
    (anew,) = [step for step in steps_for("sql-stopped", killed) if step.commands == ("START SLAVE;",)]
    assert "the source still has its binary logs" in anew.text
    assert "RELAY_LOG" not in str(steps_for("sql-stopped", killed))
    (lost,) = set_delay(killed, 7200)
    assert lost.commands == ("STOP SLAVE;", "CHANGE MASTER TO MASTER_DELAY = 7200;", "START SLAVE;")
    assert "throws away" in lost.text
    for place_known in (place._replace(gtid=False), None):
        picture = scene(line(io="No", sql="No", relay_log=STILL, sql_remaining=None), MARIADB, place=place_known)
        told = steps_for("sql-stopped", picture)[0]
        assert told.commands == (("START SLAVE SQL_THREAD;",) if place_known else ())
        assert place_known or "without losing" in told.text


@pytest.mark.parametrize(
    ("dialect", "thread", "believed"),
    [
        (MARIADB, {"sql": "No", "sql_remaining": None}, False),
        (MARIADB, {"sql_remaining": 7000}, False),
        (MARIADB, {"sql_remaining": None}, True),
        (MYSQL, {"sql": "No", "sql_remaining": None}, True),
    ],
)
def test_the_place_that_mariadb_shows_behind_a_forward_is_not_believed(
    dialect: Dialect, thread: dict[str, Any], believed: bool
) -> None:
    fetched = ("bin.000123", 9)
    said = plain(screen(scene(line(source_log=fetched, relay_log=fetched, **thread), dialect)))
    assert ("all applied" in said, "applied bin.000123:9" in said) == (believed, believed)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (SCENES["delay-out-of-bounds pt-slave-delay"], "pt-slave-delay --defaults-file"),
        (SCENES["local-heartbeat-stale"], "systemctl restart pt-heartbeat-replica"),
        (SCENES["delay-out-of-bounds hours"], "--heartbeat-timezone"),
        (SCENES["heartbeat-from-future"], "--heartbeat-timezone"),
        (lambda: scene(line(local=7200.3)), "--heartbeat-timezone"),
        (lambda: scene([*line(end=-10), *line(start=0, local=7200.3)]), "pgrep -af pt-heartbeat"),
        (SCENES["heartbeat-missing"], "look for filters: here (none that is known), and binlog_do_db"),
        (SCENES["replication-filtered"], "--allow-filter"),
    ],
)
def test_the_cause_is_named(picture: Any, said: str) -> None:
    assert said in texts(picture()) + " ".join(commands(picture()))


@pytest.mark.parametrize(
    ("dialect", "mode", "changes", "tool"),
    [
        (MYSQL, "auto", "SOURCE_DELAY = 7200", False),  # which pt-slave-delay does not know
        (NAMED_MARIADB, "auto", "MASTER_DELAY = 7200, RELAY_LOG_FILE = 'relay.7', RELAY_LOG_POS = 9", True),
        (MARIADB, "external", "", True),
        (MYSQL, "external", "", True),
    ],
)
def test_no_delay_at_all_is_not_taken_for_pt_slave_delays(
    dialect: Dialect, mode: str, changes: str, tool: bool
) -> None:
    """Without a history, nobody can tell a server's own delay that was lost."""
    lost = line(60.0, sql="No", sql_delay=0, sql_remaining=None)
    picture = scene(lost, dialect, limits=Limits(delay_mode=mode), place=Place("relay.7", 9))
    said = commands(picture)
    assert ("If the server itself is meant to delay, which it does not: Set the" in texts(picture)) == bool(changes)
    assert any("_DELAY" in each for each in said) == bool(changes)
    assert any(changes in each for each in said)
    assert any(each.startswith("pt-slave-delay") for each in said) == tool


@pytest.mark.parametrize(("identity", "client"), [("uid:x", "mariadb"), ("uuid:x", "mysql"), (None, "mysql")])
def test_the_client_is_that_of_the_family_that_was_seen(identity: str | None, client: str) -> None:
    """A server that does not answer does not say what it is; where MariaDB is, there may be no program called mysql."""
    for condition in ("connect-failed", "server-down"):
        failed = Sample(NOW, error=condition, message="db1:3306")
        said = commands(scene([*line(end=-10, server=identity), failed], None))
        assert said[0].startswith((f"{client} --host=db1", f"journalctl -u {client} "))


def starts_applying(command: str) -> bool:
    return (command.startswith("START ") and "IO_THREAD" not in command) or command.startswith("pt-slave-delay ")


def stopped_at(setting: int) -> Diagnosis:
    stood = {"sql": "No", "sql_remaining": None, "sql_delay": setting}
    return scene(line(100.0, **stood), MARIADB, place=Place("relay.7", 9, gtid=True))


@pytest.mark.parametrize("picture", [lambda: stopped_at(0), lambda: stopped_at(30), *SCENES.values()])
def test_no_place_is_named_behind_what_starts_the_sql_thread(picture: Any) -> None:
    """Done in their order, the steps would apply twice what has been applied since."""
    said = commands(picture())
    places = [number for number, each in enumerate(said) if "RELAY_LOG_FILE" in each]
    assert not any(starts_applying(each) for each in said[: max(places, default=0)])


def test_the_delay_that_is_meant_is_set_where_the_sql_thread_is_stopped() -> None:
    for setting in (0, 30):
        assert any("MASTER_DELAY = 7200, RELAY_LOG_FILE" in each for each in commands(stopped_at(setting)))


def test_nobody_reconnects_a_replica_whose_sql_thread_is_stopped() -> None:
    """A MariaDB in GTID mode would throw away what waits: explain does not know which one it is."""
    (step,) = (each for each in general_steps("source-log-stale") if any("STOP" in line for line in each.commands))
    assert step.text == "If it runs, and the SQL thread too, reconnect the replica:"


def test_another_servers_fresh_heartbeat_is_named() -> None:
    picture = SCENES["source-heartbeat-dead"]()
    assert "--master-server-id" not in texts(picture)
    fresh = picture._replace(server=picture.server._replace(heartbeats=((7, 7200.0), (1, 7500.0))))
    assert "Server 7's heartbeat is newer. If that is the source, give --master-server-id 7." in texts(fresh)
    used = picture._replace(server=picture.server._replace(heartbeats=((picture.seen.heartbeat_id or 0, 7200.0),)))
    assert "--master-server-id" not in texts(used), "never the one that is used"


def test_steps_for_many_findings_of_a_condition_are_said_once() -> None:
    records = [*line(end=-310), *(job(NOW - 300, NOW - 400, name=f"j{n}") for n in range(6)), *line(start=-300)]
    said = texts(scene(records, call=KEPT)) + "".join(commands(scene(records, call=KEPT)))
    assert said.count("job void") == 3


def pasted(command: str, *programs: str) -> list[str]:
    """The words that these programs get when a command is pasted into a shell."""
    functions = "".join(f"{name}() {{ printf '%s\\0' {name} \"$@\"; }}; " for name in programs)
    ran = subprocess.run(["bash", "-c", functions + command], capture_output=True, text=True, check=True)
    return ran.stdout.split("\0")[:-1]


def test_what_is_typed_for_a_folder_with_a_blank_in_its_name() -> None:
    call = KEPT._replace(kept="/a b/-h.db")
    (command,) = [c for c in commands(SCENES["history-unavailable"]()._replace(call=call)) if "df " in c]
    assert pasted(command, "ls", "df") == ["ls", "-la", "--", "/a b/-h.db*", "df", "-h", "--", "/a b"]


@pytest.mark.parametrize(
    "name",
    [
        *("bell\x07", "a\nb", "z\u200bw", "it's \\ \x1b[2J"),
        *("$(reboot)", '"$(echo x)"', "a'b; reboot #", "--help", "\x1b[2Jx\n; reboot"),
    ],
)
def test_a_hostile_job_can_be_voided_and_cannot_take_over_the_commands(name: str) -> None:
    picture = scene([*line(end=-310), job(NOW - 300, NOW - 400, name=name), *line(start=-300)], call=KEPT)
    [command] = steps_for("job-record-invalid", picture)[0].commands
    assert command.isprintable()
    assert pasted(command, "delayed-repl")[-2:] == ["--", name]
    assert all(text.isprintable() for text in plain(screen(picture)).splitlines())


def test_a_table_of_any_name_can_be_looked_at() -> None:
    picture = SCENES["heartbeat-missing"]()._replace(call=Call(table="mon-x.beats"))
    assert "SELECT server_id, ts, UTC_TIMESTAMP(6) FROM `mon-x`.`beats`;" in commands(picture)


def test_every_condition_has_general_steps() -> None:
    for condition in conditions.CONDITIONS:
        steps = general_steps(condition.name)
        assert bool(steps) == (condition.name not in ("usage", "in-range"))
        assert not any("{" in text for step in steps for text in (step.text, *step.commands))
        starts = [number for number, step in enumerate(steps) if step.commands and "START" in step.commands[-1]]
        if starts and condition.name != "source-log-stale":  # where the SQL thread runs
            assert "MariaDB" in steps[starts[0] - 1].text, "it is not known whether both threads are stopped"


@pytest.mark.parametrize("condition", conditions.CONDITIONS, ids=lambda condition: condition.name)
def test_every_step_is_a_whole_sentence_with_and_without_what_it_names(condition: conditions.Condition) -> None:
    calls = (Call(), KEPT, Call(kept="mysql://me@db/history"), Call(worker=True), Call(("--config", "c.toml")))
    pictures = [build()._replace(call=call) for build in SCENES.values() for call in calls]
    told = [general_steps(condition.name), *(steps_for(condition.name, picture) for picture in pictures)]
    for step in {step[:2] for steps in told for step in steps}:
        assert all(step[1]), step
        assert step[0].endswith((":", "?", "missing here.") if step[1] else "."), step
    lines = explained(condition).splitlines()
    for above, below in zip(lines, [*lines[1:], ""], strict=True):
        assert not above.endswith(":") or below.startswith("       ") or above == "What to do:", above


def test_the_bad_days_line_has_the_options_that_were_given() -> None:
    picture = SCENES["in-range"]()
    assert freeze(picture._replace(call=Call(worker=True))) is None, "how to get there is not known"
    given = Call(("--config", "/etc/c.toml", "--replica", "db1"), worker=True)
    assert freeze(picture._replace(call=given)) == "delayed-repl rescue freeze --config /etc/c.toml --replica db1"
    assert freeze(SCENES["sql-stopped"]()) is None


FULL = Call(
    (
        *("-H", "db1", "-P", "3307", "-u", "m", "--defaults-group", "g", "--ssl-mode", "required", "--channel", "c"),
        *("--heartbeat-table", "a.b", "--master-server-id", "7", "--heartbeat-timezone", "UTC"),
        *("--delay-mode", "native", "--no-local-heartbeat", "--replica", "db1"),
    ),
    ("--max-delay-time", "9000", "--max-job-behind", "dump=3600"),
    ("--history", "/srv/history.db"),
)
FILED = Call(("--config", "/etc/c.toml", "--replica", "db1"), client=("--host=db1",))


@pytest.mark.parametrize("name", SCENES)
def test_every_command_of_ours_is_one_that_we_take(name: str) -> None:
    for call in (FULL, FULL._replace(worker=True), FILED):
        picture = SCENES[name]()._replace(call=call)
        for command in [*commands(picture), freeze(picture) or "delayed-repl explain"]:
            program, *words_of_it = shlex.split(command) if not command.endswith((";", "\\G")) else ["sql"]
            if call is FILED and program == "delayed-repl" and words_of_it[0] != "explain":
                assert ("--config" in words_of_it, "--replica" in words_of_it) == (True, words_of_it[0] != "worker")
            if program == "check_delayed_repl":
                build_parser().parse_args(words_of_it)
            elif program == "delayed-repl":
                command_parser(words_of_it[0])[0].parse_args(words_of_it[1:])


@pytest.mark.parametrize(
    ("given", "client"),
    [
        # At localhost MySQL's own client takes the socket, whatever the port.
        ("-H localhost -P 3307", "--host=localhost --port=3307 --protocol=TCP"),
        ("-P 3307", "--port=3307 --protocol=TCP"),
        ("-H localhost", "--host=localhost"),
        ("-S /s -P 3307", "--socket=/s"),
        ("-S @s", "--socket=@s"),
        ("-S s", "--socket={folder}/s"),
        ("--defaults-file=plain -P 3307", "--defaults-file={folder}/plain --port=3307 --protocol=TCP"),
        ("--defaults-file=port", "--defaults-file={folder}/port --protocol=TCP"),
        ("--defaults-file=port -H db1", "--defaults-file={folder}/port --host=db1"),
        (
            "--defaults-file=two --defaults-group a.b",
            r"--defaults-file=<(sed 's/^ *\[/[not-/; s/^\[not-a\.b *\]/[client]/' {folder}/two)",
        ),
        (
            "-H db1 --ssl-mode required",
            "--host=db1 --loose-ssl-mode=REQUIRED --loose-ssl --loose-skip-ssl-verify-server-cert",
        ),
        ("-H db1 --ssl-mode disabled", "--host=db1 --loose-ssl-mode=DISABLED --loose-skip-ssl"),
        (
            "--ssl-mode verify-identity --ssl-ca c --ssl-cert d",
            "--ssl-ca={folder}/c --ssl-cert={folder}/d --loose-ssl-mode=VERIFY_IDENTITY --loose-ssl-verify-server-cert",
        ),
    ],
)
def test_the_servers_own_client_goes_where_the_check_does(
    given: str, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(LOCATION_VARIABLE, "history.db")
    Path("plain").write_text("[client]\nuser=monitor\n")
    Path("port").write_text("[client]\nport=3307\n")
    Path("two").write_text("[client]\nhost=other\n\n [a.b]\nhost=db1\npassword=geheim!\n[axb]\nhost=other\n")
    call = call_from(parsed(command_parser("diagnose")[0], given.split()))
    assert in_shell(call.client) == client.replace("{folder}", str(tmp_path))
    assert call.history == ("--history", f"{tmp_path}/history.db")
    monkeypatch.chdir("/")
    monkeypatch.delenv(LOCATION_VARIABLE)
    pasted = parsed(command_parser("diagnose")[0], [*call.connection, *call.history])
    assert call_from(pasted) == call, "in another folder, by another user"
    if "sed" in client:
        shell = ["bash", "-c", f"cat {in_shell(call.client).partition('=')[2]}"]
        read = tmp_path / "read"
        read.write_bytes(subprocess.run(shell, stdout=subprocess.PIPE, check=True).stdout)
        assert read_options(str(read), ("client",)) == {"host": "db1", "password": "geheim!"}


def test_a_password_in_the_environments_history_is_left_to_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the command that is pasted was refused, where one without --history went well."""
    for url, word in (
        ("mysql://me:geheim!@db1/h?ssl-mode=required", f'"${LOCATION_VARIABLE}"'),
        ("mysql://me@db1/h?defaults-file=/f", "'mysql://me@db1/h?defaults-file=/f'"),
    ):
        monkeypatch.setenv(LOCATION_VARIABLE, url)
        call = call_from(parsed(command_parser("diagnose")[0], ["-H", "db1"]))
        assert in_shell(call.history) == f"--history {word}"


def peer(**other: Any) -> Any:
    """Five samples, a second apart, of a replica with a delay of 8 s; `age` of the heartbeat at the last one."""
    age, grows = other.pop("age"), other.pop("grows", False)
    usual = {"sql_delay": 8, "sql_remaining": None, "local": 0.5, "ts": None}
    return scene([seen(NOW - i, age - (i if grows else 0), **usual | other) for i in range(4, -1, -1)])


@pytest.mark.parametrize(
    ("about", "other", "least"),
    [
        ("a dead writer, nothing left to apply", {"age": 109.0, "grows": True, "seconds_behind": 0}, 8),
        ("a dead writer, changes go on", {"age": 133.0, "grows": True, "seconds_behind": 8, "sql_remaining": 1}, 8),
        ("an honest lag", {"age": 100.0, "seconds_behind": 100}, 100),
        ("healthy", {"age": 8.4, "seconds_behind": 7, "sql_remaining": 1}, 8),
        ("a lag that only the server sees", {"age": 100.0, "seconds_behind": 60}, 60),
        ("a dead writer while the IO thread connects", {"age": 500.0, "seconds_behind": None, "io": "Connecting"}, 8),
        ("an applier that has stopped", {"age": 300.0, "seconds_behind": None, "sql": "No"}, 300),
        ("an event from the future", {"age": 8.4, "seconds_behind": 0, "sql_remaining": 293}, 8),
        ("no delay at all, and yet old", {"age": 100.0, "seconds_behind": 0, "sql_delay": 0}, None),
        ("a delay that is negative", {"age": -3600.0, "seconds_behind": 8}, None),
    ],
)
def test_the_least_witness_counts(about: str, other: dict[str, Any], least: float | None) -> None:
    picture = peer(**other)
    assert protected_s(picture.verdict) == (None if least is None else pytest.approx(least, abs=0.01)), about
    found = picture.protection
    if least is None:
        assert found is None
    elif other.get("sql") == "No":
        assert found.applied is None
    else:
        assert found.applied - picture.verdict.at == pytest.approx(least, abs=0.01)


def test_a_dead_heartbeat_leaves_the_servers_own_word() -> None:
    picture = SCENES["source-heartbeat-dead"]()
    assert picture.verdict.trend.intercept > 7400
    assert protected_s(picture.verdict) == 7200
    words = {"seconds_behind": None, "sql_delay": None, "sql_remaining": None}
    assert protected_s(scene([s._replace(**words) for s in picture.samples]).verdict) is not None  # nobody knows better


def test_a_line_that_catches_up_is_held_back_by_the_server() -> None:
    found = SCENES["recovering-above-maximum"]().protection
    assert found.applied == NOW + 7200


@pytest.mark.parametrize("name", ["server-down", "worker-missing"])
def test_what_is_no_longer_seen_promises_nothing(name: str) -> None:
    found = SCENES[name]().protection
    assert found.outdated
    assert found.applied is None


def test_pt_slave_delay_stops_the_applier_all_the_time() -> None:
    assert SCENES["in-range pt-slave-delay"]().protection.applied is not None
    assert scene(line(sql="No", sql_remaining=None)).protection.applied is None


def test_a_heartbeat_that_was_dead_before_the_applier_failed_promises_nothing() -> None:
    """Its age then still says how long its writer has been dead, and not how late the applied changes were."""
    dead = [seen(NOW - 10 * i, 508.0 - 10 * i, ts=NOW - 508, sql_delay=8, seconds_behind=0) for i in range(12, 4, -1)]
    for s in ({"sql": "No", "sql_errno": 1062}, {"sql": "No"}, {"io": "No", "sql": "No"}):
        failed = seen(NOW, 508.0, ts=NOW - 508, sql_delay=8, seconds_behind=None, **s)
        verdict = scene([*dead, failed]).verdict
        assert verdict.heartbeat_dead
        assert protected_s(verdict) is None
    again = scene([*dead, failed, seen(NOW, 9.0, ts=NOW - 9, sql_delay=8, seconds_behind=9)]).verdict
    assert not again.heartbeat_dead
    assert protected_s(again) == 8


# --- JSON and drawings


@pytest.mark.parametrize("name", SCENES)
def test_json_says_what_the_screen_says(name: str) -> None:
    picture = SCENES[name]()
    text = diagnosis.render(picture)
    assert text.count("\n") == 1
    found = json.loads(text, parse_constant=pytest.fail)
    assert (found["state"], found["condition"]) == (picture.verdict.state.name, picture.verdict.condition)
    assert {"trend", "metrics", "limits", "jobs", "replica", "at", "budgets", "protected", "trust"} <= set(found)
    assert all(finding["meaning"] or finding["cause"] for finding in found["findings"])
    assert not any(finding["next"] for finding in found["findings"] if finding["cause"])


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        # A server waits for its delay while one of its parallel appliers hangs: the judge does not count that.
        (line(relay_log=STILL), "applied bin.000121:9, still for 10 min"),
        ([*line(end=-30), *line(start=-20, relay_log=STILL)], "applied bin.000121:9, still for 20 s"),
        (line(start=0, sql="No", sql_errno=1032, relay_log=STILL), "error 1032, waits 1 s; applied bin.000121:9"),
        (line(start=-10), "applied bin.000121:400000, moving"),
    ],
    ids=["hangs", "hangs since", "seen once", "moves"],
)
def test_a_place_moves_where_it_was_seen_to_move(samples: list[Any], said: str) -> None:
    lines = [text.strip() for text in plain(screen(scene(samples))).splitlines()]
    assert next(text for text in lines if text.startswith("SQL thread") and "; " in text).endswith(said)


def test_a_flood_is_cut_short_everywhere() -> None:
    many = [Finding(State.WARNING, "job-record-invalid", f"Job record {n} is invalid") for n in range(5000)]
    picture = scene(line(), more=many)
    text = plain(screen(picture))
    assert len(text.splitlines()) < 150
    assert "and 4980 more findings" in text
    assert len(diagnosis.render(picture)) < 30_000


@pytest.mark.parametrize("name", ["backup-recovery-window", "internal-error"])
def test_drawings(tmp_path: Path, name: str) -> None:
    for ending, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        file = tmp_path / f"line{ending}"
        plot.draw(SCENES[name](), str(file))
        assert file.read_bytes().startswith(magic)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for old in GOLDEN.iterdir():
        old.unlink()
    for file, text in golden().items():
        (GOLDEN / file).write_text(text)
