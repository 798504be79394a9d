"""`backtest --suggest`: limits that fit, that say why, and that keep no incident quiet."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Command, run_module

from check_delayed_repl.arguments import Parser
from check_delayed_repl.backtest.replay import Replay
from check_delayed_repl.backtest.suggest import NothingToSuggest, suggestion
from check_delayed_repl.commands import backtest
from check_delayed_repl.configfile import limits_of
from check_delayed_repl.history.recording import dumps
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Record, Sample

T = 1_700_000_000.0
HOUR = 3600.0
LIMITS = Limits()


def line(
    hours: float, delay: float, at: Callable[[float, float], float] = lambda _, d: d, step: float = 60.0
) -> Iterator[Sample]:
    """A sample every `step` seconds of a replica that is delayed natively; `at` makes a delay another one."""
    for i in range(int(hours * HOUR / step)):
        t = step * i
        d = at(t, delay + i % 4 * 0.5)
        yield Sample(
            T + t, d, ts=T + t - d, source_id=1, local=0.5, io="Yes", sql="Yes", io_errno=0, sql_errno=0,
            source_log=("b", i), relay_log=("b", i), sql_delay=round(delay),
        )  # fmt: skip


def with_backup(samples: Iterator[Sample], begin: float, hours: float, job: str = "b1") -> Iterator[Record]:
    """The same, with the record of a backup among them."""
    end = begin + hours * HOUR
    told = [JobLine(T + begin, job, "backup", T + begin), JobLine(T + end, job, "backup", T + begin, T + end)]
    for sample in samples:
        while told and told[0].t <= sample.t:
            yield told.pop(0)
        yield sample


def held_up(begin: float, hours: float, rate: float = 2.0) -> Callable[[float, float], float]:
    """Nothing is applied for so many hours; then the line comes back at `rate` seconds a second."""

    def at(t: float, d: float) -> float:
        grown = min(max(0.0, t - begin), hours * HOUR)
        return d + max(0.0, grown - rate * max(0.0, t - begin - hours * HOUR))

    return at


def text_of(records: list[Record], limits: Limits = LIMITS) -> str:
    return "".join(line + "\n" for line in suggestion(lambda: [records], limits))


def suggested(tmp_path: Path, records: list[Record], limits: Limits = LIMITS) -> Limits:
    """The limits as --compare reads them."""
    (tmp_path / "limits.toml").write_text(text_of(records, limits))
    parser = Parser("backtest")
    backtest.add_arguments(parser)
    args = parser.parse_args(["-"])
    for field, value in limits._asdict().items():
        setattr(args, field, value)
    return limits_of(str(tmp_path / "limits.toml"), args)


def critical(records: list[Record], limits: Limits) -> list[tuple[float, float]]:
    """When it was CRITICAL, in hours since T."""
    found: list[tuple[float, float]] = []
    since = None
    for change in Replay(limits).feed(records):
        hours = (change.t - T) / HOUR
        if since is not None:
            found.append((since, hours))
        since = hours if change.state is State.CRITICAL else None
    return found if since is None else [*found, (since, 1e9)]


NIGHT = """\
# Limits that fit 2880 samples from 2023-11-14 22:13:20 UTC to 2023-11-16 22:12:20 UTC.
# With the limits given: 1 page (1 line-drained). With these: 1 page (1 line-drained).

# 99 of 100 calm samples are at 7200 to 7202 s; 720 s of room
min-delay-time = "107m"

# 99 of 100 calm samples are at 7200 to 7202 s; 720 s of room
max-delay-time = "133m"

# 1 backup, the longest 2 h; half as long again, and ten minutes
max-backup-behind = "190m"

# What is not here stays as it is given.
# Left out, since it is not usual:
#   2023-11-16 04:13:20 UTC, for 20 min: a delay of 0 to 0 s; CRITICAL with these limits
"""


def night() -> list[Record]:
    """Two days with a backup that holds the line up in the first night, and a line that is lost in the second."""
    held = held_up(5 * HOUR, 2.0)
    return list(
        with_backup(line(48, 7200.0, lambda t, d: 0.0 if 30 <= t / HOUR < 30 + 1 / 3 else held(t, d)), 5 * HOUR, 2.0)
    )


def test_what_is_suggested(tool: Command, tmp_path: Path) -> None:
    path = tmp_path / "night.jsonl"
    path.write_text("".join(dumps(record) + "\n" for record in night()))
    run = tool("backtest", str(path), "--suggest")
    assert (run.returncode, run.stderr, run.stdout) == (0, "", NIGHT)
    (tmp_path / "limits.toml").write_text(run.stdout)
    compared = tool("backtest", str(path), "--compare", str(tmp_path / "limits.toml"))
    assert (compared.returncode, compared.stderr) == (0, "")


INCIDENTS: dict[str, Callable[[float], Callable[[float, float], float]]] = {
    "drained": lambda _: lambda t, d: 0.0 if 10 <= t / HOUR < 12 else d,
    "stuck": lambda delay: held_up(10 * HOUR, 2 + delay / HOUR / 5, 4.0),
    "shorter by a seventh": lambda _: lambda t, d: d * 6 / 7 if 10 <= t / HOUR < 14 else d,
    "longer by a seventh": lambda _: lambda t, d: d * 8 / 7 if 10 <= t / HOUR < 14 else d,
    "longer by a third": lambda _: lambda t, d: d * 4 / 3 if 10 <= t / HOUR < 14 else d,
    "at the end": lambda _: lambda t, d: d / 2 if t / HOUR >= 22 else d,
}


@pytest.mark.parametrize("delay", [30.0, 7200.0])
@pytest.mark.parametrize("incident", INCIDENTS)
@pytest.mark.parametrize("share", [None, 0.1])
def test_no_incident_is_kept_quiet(tmp_path: Path, delay: float, incident: str, share: float | None) -> None:
    records: list[Record] = list(line(24, delay, INCIDENTS[incident](delay)))
    given = LIMITS
    if share is not None:
        given = given._replace(min_delay_time=delay * (1 - share), max_delay_time=delay * (1 + share) + 3.0)
    told = critical(records, suggested(tmp_path, records, given))
    begin = 22.0 if incident == "at the end" else 10.0
    if delay > 30.0 or "seventh" not in incident:
        assert any(begin < end for _, end in told)
    assert not [since for since, _ in told if since < begin - 0.1], "what is usual is not told"
    if share is not None:
        for since, end in critical(records, given):
            assert any(b < end and since < e for b, e in told), "what was told with limits that fit is told with these"


@pytest.mark.parametrize("runs", [1, 3])
def test_backups_that_are_always_longer_than_may_be_want_another_limit(tmp_path: Path, runs: int) -> None:
    limits = Limits(max_backup_behind=HOUR)
    records: Iterator[Record] = iter(line(24 * runs + 6, 7200.0))
    for night_ in range(runs):
        records = with_backup(records, (24 * night_ + 3) * HOUR, 2.0, f"b{night_}")  # type: ignore[arg-type]
    given = list(records)
    assert critical(given, limits)
    found = suggested(tmp_path, given, limits)
    if runs == 1:
        # One run is no habit: it may be an incident.
        assert found.max_backup_behind == HOUR
        assert "1 of 1 backup, up to 2 h long" in text_of(given, limits)
    else:
        assert found.max_backup_behind == 11400.0
        assert not critical(given, found)


def test_a_backup_that_hung_is_left_out(tmp_path: Path) -> None:
    records: Iterator[Record] = iter(line(24 * 5, 7200.0))
    for night_, hours in enumerate((2.0, 2.1, 9.0, 1.9)):
        records = with_backup(records, (24 * night_ + 3) * HOUR, hours, f"b{night_}")  # type: ignore[arg-type]
    given = list(records)
    assert suggested(tmp_path, given).max_backup_behind == 12000.0
    assert "#   1 of 4 backups, up to 9 h long\n" in text_of(given)


def test_jobs_of_further_kinds(tmp_path: Path) -> None:
    records = [
        r._replace(kind="dump", id=f"d|{r.id}") if isinstance(r, JobLine) else r
        for r in with_backup(line(12, 7200.0), HOUR, 0.5)
    ]
    assert "#   dump d/b1, which is of a kind that no limit is given for\n" in text_of(records)
    found = suggested(tmp_path, records, Limits(job_limits=(("dump", 7200.0), ("copy", 60.0))))
    assert found.job_limits == (("dump", 3300.0), ("copy", 60.0))


def test_heartbeats_that_come_seldom_get_room(tmp_path: Path) -> None:
    records: list[Record] = [
        s._replace(delay=s.delay + i % 9 * 10, ts=(s.ts or 0.0) - i % 9 * 10, local=i % 9 * 10.0)
        for i, s in enumerate(line(3, 7200.0, step=10.0))
        if s.delay is not None
    ]
    assert critical(records, Limits())
    found = suggested(tmp_path, records)
    assert found.max_seconds_behind == 240.0
    assert not critical(records, found)


SHORT, RESTLESS = "too short to take limits from:", "no calm time to take limits from: the delay is around"
WILD = [Sample(s.t, i % 7 * 1000.0) for i, s in enumerate(line(3, 7200.0))]


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([], f"{SHORT} 0 samples without a job or a fault in 0 s (at least 60 in 1 h are needed)"),
        (list(line(0.5, 7200.0)), f"{SHORT} 30 samples without a job or a fault in 29 min"),
        (list(with_backup(line(3, 7200.0), 60.0, 2.9)), f"{SHORT} 6 samples"),
        ([s._replace(io="No") for s in line(3, 7200.0)], f"{SHORT} 0 samples"),
        ([s._replace(sql_delay=3600) for s in line(3, 7200.0)], f"{RESTLESS} 2 h, but the server is set to 1 h"),
        (WILD, f"{RESTLESS} 50 min, but half of the time it is far from that"),
    ],
)
def test_where_nothing_can_be_suggested(records: list[Record], problem: str) -> None:
    with pytest.raises(NothingToSuggest) as caught:
        text_of(records)
    assert str(caught.value).startswith(problem)


def test_how_it_is_called(tool: Command, tmp_path: Path) -> None:
    text = "".join(dumps(record) + "\n" for record in night())
    path = tmp_path / "night.jsonl"
    path.write_text(text)
    assert run_module("check_delayed_repl.tool", "backtest", "-", "--suggest", stdin=text).stdout == NIGHT
    history = str(tmp_path / "h.db")
    tool("history", "import", str(path), "--history", history, "--replica", "db1")
    assert tomllib.loads(tool("backtest", "--history", history, "--suggest").stdout) == tomllib.loads(NIGHT)
    path.write_text(text[:2000].rpartition("\n")[0] + "\nnonsense\n")
    run = tool("backtest", str(path), "--suggest")
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (1, "", 1)
    path.write_text(text.partition("\n")[0])
    run = tool("backtest", str(path), "--suggest")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"delayed-repl: {path}: too short to take limits from: 1 sample without")
    for other in ("--every", "--output=json"):
        run = tool("backtest", str(path), "--suggest", other)
        assert (run.returncode, run.stdout) == (3, "")
        assert run.stderr.startswith("delayed-repl: --suggest: not together with --compare, --every or --output json")


def test_all_records_voided_are_as_each_one_voided() -> None:
    def told(voided: str) -> str:
        began = T + 10 * HOUR
        jobs = [JobLine(began, "b1", "backup", began), JobLine(began + 60, voided, void=True)]
        return text_of(sorted([*jobs, *line(48, 7200.0, at=held_up(10 * HOUR, 0.2))], key=lambda record: record.t))

    assert told("*") == told("b1")
