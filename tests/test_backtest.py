"""`delayed-repl backtest`: what it prints, for programs and for people, and how it says what is wrong."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import tracemalloc
from collections import deque
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, Terminal, run_module

from check_delayed_repl.backtest.replay import Replay, StateChange, Summary
from check_delayed_repl.commands import backtest
from check_delayed_repl.history.recording import dumps, read
from check_delayed_repl.judge.fold import Fold, judge
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample

T = 1_700_000_000.0


def calm_line(count: int, start: float = T, delay: float = 7200.0) -> list[Record]:
    return [Sample(start + 10.0 * i, delay + i % 3 * 0.5) for i in range(count)]


@pytest.fixture
def night() -> list[Record]:
    """Two hours of calm, a backup that stops the line for an hour, and the way back; then a line that is lost."""
    records = calm_line(720)
    start = T + 7200.0
    records.append(JobLine(start, "b1", "backup", start))
    records += [Sample(start + 10.0 * i, 7200.0 + 10.0 * i) for i in range(360)]
    records.append(JobLine(start + 3600.0, "b1", "backup", start, start + 3600.0))
    back = start + 3600.0
    records += [Sample(back + 10.0 * i, 10800.0 - 100.0 * i) for i in range(36)]
    records += calm_line(360, back + 360.0)
    records += calm_line(60, back + 3960.0, delay=3000.0)
    return records


def written(path: Path, records: list[Record]) -> str:
    path.write_text("".join(dumps(record) + "\n" for record in records))
    return str(path)


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_json_is_a_verdict_for_each_change_and_a_summary(tool: Command, tmp_path: Path, night: list[Record]) -> None:
    run = tool("backtest", written(tmp_path / "night.jsonl", night), "--output", "json")
    assert (run.returncode, run.stderr) == (0, "")
    *verdicts, summary = lines(run.stdout)
    assert [(v["t"] - T, v["state"], v["condition"]) for v in verdicts] == [
        (0.0, "OK", "in-range"),
        (7200.0, "WARNING", "active-backup"),
        (10800.0, "WARNING", "backup-recovery-window"),
        (pytest.approx(11000.0, abs=60.0), "OK", "in-range"),
        (14770.0, "CRITICAL", "line-drained"),
    ]
    assert all(list(v) == ["type", "t", "state", "condition", "message"] and v["type"] == "verdict" for v in verdicts)
    assert verdicts[0]["message"].startswith("Replication delay 7200 seconds is within 5400 to 9000")
    back = verdicts[3]["t"] - T
    assert summary == {
        "type": "summary",
        "samples": 720 + 360 + 36 + 360 + 60,
        "seconds": {"OK": 7200.0 + 14770.0 - back, "WARNING": back - 7200.0, "CRITICAL": 580.0, "UNKNOWN": 0.0},
        "pages": 1,
    }


def test_every_sample_is_what_the_check_would_have_said(tool: Command, tmp_path: Path, night: list[Record]) -> None:
    run = tool("backtest", written(tmp_path / "night.jsonl", night), "--every", "--output", "json")
    *verdicts, _ = lines(run.stdout)
    fold = Fold(Limits())
    expected = []
    for record in night:
        fold.add(record)
        if isinstance(record, Sample):
            verdict = fold.verdict(record.t)
            expected.append((record.t, verdict.state.name, verdict.condition))
    assert [(v["t"], v["state"], v["condition"]) for v in verdicts] == expected
    assert verdicts[-1]["message"] == judge(night, Limits(), verdicts[-1]["t"]).message


def changes_of(records: list[Record], limits: Limits | None = None) -> list[StateChange]:
    return list(Replay(limits or Limits()).feed(records))


def summary_of(records: list[Record], limits: Limits | None = None) -> Summary:
    course = Replay(limits or Limits())
    deque(course.feed(records), 0)
    return course.summary


def test_limits_are_options(tool: Command, tmp_path: Path) -> None:
    path = written(tmp_path / "calm.jsonl", calm_line(10))
    run = tool("backtest", path, "--output", "json", "--max-delay-time", "1.9h")
    assert [v.get("state") for v in lines(run.stdout)] == ["CRITICAL", None]


def test_a_gap_counts_to_the_state_before_it() -> None:
    records = [*calm_line(10), *calm_line(10, T + 5000.0, delay=100.0), *calm_line(1, T + 9000.0)]
    seconds = summary_of(records).seconds
    assert seconds[State.OK] == 5000.0
    assert seconds[State.CRITICAL] == 4000.0


def test_a_clock_that_is_set_back_does_not_count_twice() -> None:
    records = [*calm_line(100), *calm_line(100, T + 500.0), *calm_line(100, T + 1500.0)]
    assert sum(summary_of(records).seconds.values()) == 1500.0 + 990.0


def test_a_recording_that_begins_critical_begins_with_a_page() -> None:
    found = summary_of(calm_line(10, delay=100.0))
    assert (len(found.pages), dict(found.paged_by)) == (1, {"delay-out-of-bounds": 1})


def test_from_one_critical_condition_to_another_is_no_page() -> None:
    records: list[Record] = [Sample(T, error="timeout"), Sample(T + 10.0, error="connect-failed")]
    records += [*calm_line(9, T + 20.0), Sample(T + 200.0, error="timeout")]
    found = summary_of(records)
    assert [change.condition for change in changes_of(records)] == ["timeout", "connect-failed", "in-range", "timeout"]
    assert (len(found.pages), dict(found.paged_by)) == (2, {"timeout": 2})


def test_what_was_held_is_added_up(night: list[Record]) -> None:
    found = summary_of(night)
    assert set(found.held) == {"backup", "recovery"}
    # Out of bounds from 9000 seconds on, which is half of the hour that the line stood still.
    assert found.held["backup"] == pytest.approx(1800.0, abs=30.0)
    assert found.most_held == found.held


def test_text_from_a_recording_is_made_harmless(tool: Command, tmp_path: Path) -> None:
    path = written(tmp_path / "evil.jsonl", [Sample(T, error="timeout", message="a\x1b[31m|b\nc")])
    run = tool("backtest", path, "--output", "json")
    assert "a?[31m/b c" in lines(run.stdout)[0]["message"]


# --- for people


TABLE = """\
from (UTC)                  for  state     condition
2023-11-14 22:13:20         2 h  OK        in-range
2023-11-15 00:13:20         1 h  WARNING   active-backup
2023-11-15 01:13:20       3 min  WARNING   backup-recovery-window
2023-11-15 01:16:20   1 h 3 min  OK        in-range
2023-11-15 02:19:30  9 min 40 s  CRITICAL  line-drained

1536 samples from 2023-11-14 22:13:20 to 2023-11-15 02:29:10 UTC, 4 h 16 min

state         in all   share     longest
OK         3 h 3 min  71.6 %         2 h
WARNING    1 h 3 min  24.6 %   1 h 3 min
CRITICAL  9 min 40 s   3.8 %  9 min 40 s

pages: 1 (1 line-drained)

held back for       in all  most in one episode  limit  option
backup         29 min 50 s          29 min 50 s   18 h  --max-backup-behind
recovery             3 min                3 min    6 h  --max-recovery-time
"""


def test_the_table(tool: Command, tmp_path: Path, night: list[Record]) -> None:
    run = tool("backtest", written(tmp_path / "night.jsonl", night))
    assert (run.returncode, run.stderr, run.stdout) == (0, "", TABLE)


def test_a_recording_without_rest_fills_no_memory_and_no_screen(tool: Command, tmp_path: Path) -> None:
    records: list[Record] = [
        Sample(T + i, 7200.0 if i % 2 else None, None if i % 2 else "timeout") for i in range(2002)
    ]
    text = tool("backtest", written(tmp_path / "restless.jsonl", records)).stdout
    assert "\nand 1001 more before the last one: --output json has them all\n" in text
    assert len(text.splitlines()) < 1020


def test_an_empty_recording(tool: Command, tmp_path: Path) -> None:
    path = written(tmp_path / "empty.jsonl", [])
    assert tool("backtest", path).stdout == "The recording has no samples.\n"
    assert lines(tool("backtest", path, "--output", "json").stdout) == [
        {"type": "summary", "samples": 0, "seconds": dict.fromkeys(State.__members__, 0.0), "pages": 0}
    ]


@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_s_width_is_kept_to(tmp_path: Path, night: list[Record], columns: int) -> None:
    path = written(tmp_path / "night.jsonl", night)
    terminal = Terminal("backtest", path, columns=columns, stderr=subprocess.DEVNULL)
    terminal.read_until(None)
    assert terminal.process.wait(60) == 0
    terminal.close()
    rows = re.sub(r"\x1b\[[0-9;]*m", "", terminal.said.decode()).splitlines()
    assert max(map(len, rows)) <= columns
    assert columns < 80 or TABLE.splitlines() == [row.rstrip() for row in rows]


def test_times_that_no_calendar_has(tool: Command, tmp_path: Path) -> None:
    run = tool("backtest", written(tmp_path / "far.jsonl", [Sample(1e300, 7200.0), Sample(2e300, error="timeout")]))
    assert (run.returncode, run.stderr) == (0, "")
    assert "t=1e+300 " in run.stdout


# --- other limits


def test_two_sets_of_limits_side_by_side(tool: Command, tmp_path: Path, night: list[Record]) -> None:
    path = written(tmp_path / "night.jsonl", night)
    limits = tmp_path / "strict.toml"
    limits.write_text('max-backup-behind = "30m"\nmin_delay_time = 2900\nmax-job-behind = {dump = "2h"}\n')
    run = tool("backtest", path, "--compare", str(limits))
    assert (run.returncode, run.stderr) == (0, "")
    text = run.stdout
    rows = [" ".join(line.split()) for line in text.splitlines()]
    for row in (
        "--max-backup-behind 64800 1800",
        "--min-delay-time 5400 2900",
        "--max-job-behind none dump=7200",
        "pages 1 1",
        "line-drained 1 0",
        "job-overrun 0 1",
        "CRITICAL 9 min 40 s (3.8 %) 29 min 50 s (11.7 %)",
        "backup 29 min 50 s of 18 h 29 min 50 s of 30 min",
        "2023-11-15 00:43:30 - job-overrun",
        "2023-11-15 02:19:30 line-drained -",
    ):
        assert row in rows, row
    assert max(map(len, text.splitlines())) <= 80


def test_two_sets_of_limits_for_programs(tool: Command, tmp_path: Path, night: list[Record]) -> None:
    path = written(tmp_path / "night.jsonl", night)
    limits = tmp_path / "lax.toml"
    limits.write_text("min-delay-time = 0\n")
    run = tool("backtest", path, "--compare", str(limits), "--output", "json", "--fit", "window")
    *_, summary, comparison = lines(run.stdout)
    assert summary["pages"] == comparison["before"]["pages"] == 1
    assert comparison["type"] == "comparison"
    assert comparison["limits"] == {"--min-delay-time": [5400.0, 0.0]}
    assert comparison["before"]["seconds"] == summary["seconds"]
    assert (comparison["after"]["pages"], comparison["after"]["paged_by"]) == (0, {})


def test_a_file_of_limits_stands_on_top_of_the_options(tmp_path: Path) -> None:
    from check_delayed_repl.arguments import Parser

    parser = Parser("backtest")
    backtest.add_arguments(parser)
    arguments = ["-", "--window", "5m", "--max-job-behind", "dump=1h", "--max-job-behind", "copy=2h"]
    args = parser.parse_args(arguments)
    path = tmp_path / "limits.toml"
    path.write_text("delay = '1h'\nmax-source-behind = 99\nmax-job-behind = ['dump=3h']\njob-stops-server = 'dump'\n")
    hour = Limits(min_delay_time=2700, max_delay_time=4500)
    assert backtest.limits_of(str(path), args) == hour._replace(
        window=300.0, max_master_behind=99.0, job_limits=(("dump", 10800.0),), job_stops_server=("dump",)
    )
    assert args.job_limits == [("dump", 3600.0), ("copy", 7200.0)], "the options' own limits are left alone"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("host = 'h'", "'host': there is no such key"),
        ("max-delay-time = nan", "max-delay-time: "),
        ("max-delay-time = 1", "--min-delay-time: 5400 is greater than --max-delay-time 1"),
        ("job-stops-server = 'dump'", "--job-stops-server: 'dump' is no known kind of job"),
        ("\xff", "this is not TOML ("),
    ],
)
def test_a_wrong_file_of_limits_is_wrong_usage(tool: Command, tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "limits.toml"
    path.write_bytes(text.encode("latin-1"))
    run = tool("backtest", "-", "--compare", str(path))
    assert (run.returncode, run.stdout) == (3, "")
    [line] = run.stderr.splitlines()
    assert line.startswith(f"delayed-repl: --compare: {path}: {complaint}")


def test_a_bad_line_is_named_after_all_before_it(tool: Command, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(dumps(record) + "\n" for record in calm_line(10)) + '{"type":"sample","t":17\n')
    run = tool("backtest", str(path), "--every", "--output", "json")
    assert run.returncode == 1
    assert [verdict["t"] for verdict in lines(run.stdout)] == [T + 10.0 * i for i in range(10)]
    [line] = run.stderr.splitlines()
    assert line.startswith(f"delayed-repl: {path}:11: not JSON (")


def test_standard_input(night: list[Record]) -> None:
    text = "".join(dumps(record) + "\n" for record in night)
    command = ("check_delayed_repl.tool", "backtest", "-")
    run = run_module(*command, stdin=text + "x\n")
    assert run.returncode == 1
    assert run.stderr.startswith(f"delayed-repl: standard input:{len(night) + 1}: not JSON")
    run = run_module(*command, stdin=text)
    assert (run.returncode, run.stderr) == (0, "")
    assert "pages: 1" in run.stdout


@pytest.mark.parametrize(("name", "problem"), [("nothing.jsonl", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(tool: Command, tmp_path: Path, name: str, problem: str) -> None:
    run = tool("backtest", str(tmp_path / name))
    assert (run.returncode, run.stdout) == (1, "")
    [line] = run.stderr.splitlines()
    assert line.startswith(f"delayed-repl: {tmp_path / name}: {problem}")


def test_a_history_says_the_same_as_its_recording(tool: Command, tmp_path: Path, night: list[Record]) -> None:
    path = written(tmp_path / "night.jsonl", night)
    history = str(tmp_path / "history.db")
    assert tool("history", "import", path, "--history", history, "--replica", "db1").returncode == 0
    from_file = tool("backtest", path, "--output", "json")
    assert len(from_file.stdout.splitlines()) == 6
    for arguments in (["--replica", "db1"], []):
        assert tool("backtest", "--history", history, "--output", "json", *arguments).stdout == from_file.stdout
    run = tool("backtest", "--replica", "db1", CHECK_DELAYED_REPL_HISTORY=history)
    assert "pages: 1" in run.stdout


def test_a_history_is_not_made_by_asking_for_it(tool: Command, tmp_path: Path) -> None:
    run = tool("backtest", "--history", str(tmp_path / "typo.db"))
    assert (run.returncode, run.stderr) == (1, f"delayed-repl: --history: {tmp_path}/typo.db: there is no such file\n")
    run = tool("backtest", "--replica", "db1", CHECK_DELAYED_REPL_HISTORY=str(tmp_path / "typo.db"))
    assert (run.returncode, run.stderr) == (1, f"delayed-repl: --history: {tmp_path}/typo.db: there is no such file\n")
    assert not [*tmp_path.iterdir()]


def test_memory_does_not_grow_with_the_recording() -> None:
    peaks = []
    for count in (20_000, 60_000):
        line = b'{"type":"sample","t":%d.0,"delay":%d.5}\n'
        file = BytesIO(b"".join(line % (1_700_000_000 + 10 * i, 7200 + i % 3) for i in range(count)))
        gc.collect()
        tracemalloc.start()
        deque(Replay(Limits()).feed(read(file)), 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("full", [False, True])
def test_a_calm_line_is_replayed_without_asking_the_judge(monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    """How fast that is shows the bench; this shows, without chance, that it can be fast."""
    more = {"io": "Yes", "sql": "Yes", "io_errno": 0, "sql_errno": 0, "sql_delay": 7200, "server": "uuid:a"}
    records: list[Record] = calm_line(9999)
    if full:
        records = [
            s._replace(ts=s.t - 7200.0, local=0.6, source_log=("b", i + 900), relay_log=("b", i), filters=(), **more)
            for i, s in enumerate(records)
            if isinstance(s, Sample)
        ]
    judged = []
    plain = Fold.verdict

    def verdict(fold: Fold, now: float, **others: Any) -> Any:
        judged.append(now)
        return plain(fold, now, **others)

    monkeypatch.setattr(Fold, "verdict", verdict)
    assert summary_of(records).samples == 9999
    assert len(judged) < 200
