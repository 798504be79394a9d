"""The shared history on real servers: what every history promises, and what this one promises beside."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pymysql
import pytest
from test_history_contract import CONTRACT, FIRST_RELEASE, Promise, R, full, stored, written_on

from check_delayed_repl.history import HistoryUnavailable, open_history
from check_delayed_repl.history.mysql import JOB_WRITER_COLUMNS, MySQLHistory
from check_delayed_repl.history.pruning import prune, prune_meanwhile
from check_delayed_repl.records import JobLine, Sample
from check_delayed_repl.tool import run

from .servers import ROOT_PASSWORD, wait_until

if TYPE_CHECKING:
    from .servers import Family, Kit, Server

DATABASE = "promised_history"
SECRET = "s3cret/#@:%+ü"


class Shared:
    """The history's database on a server, made anew for each test."""

    def __init__(self, server: Server, after: ExitStack) -> None:
        self.server = server
        self.sql = server.sql
        self._after = after
        after.callback(self.sql, f"DROP DATABASE IF EXISTS {DATABASE}")

    def url(self, user: str = "root", password: str = ROOT_PASSWORD) -> str:
        return f"mysql://{user}:{quote(password, safe='')}@{self.server.host}:{self.server.port}/{DATABASE}"

    def open(self, user: str = "root", password: str = ROOT_PASSWORD, seconds: float = 300) -> MySQLHistory:
        history = open_history(self.url(user, password), time.monotonic() + seconds)
        assert isinstance(history, MySQLHistory)
        return self._after.enter_context(history)

    def account(self, user: str, *grants: str) -> None:
        self.sql(
            f"DROP USER IF EXISTS {user}@'%'",
            f"CREATE USER {user}@'%' IDENTIFIED BY '{SECRET}'",
            *(f"GRANT {grant} TO {user}@'%'" for grant in grants),
        )
        self._after.callback(self.sql, f"DROP USER IF EXISTS {user}@'%'")

    def job_writer(self) -> None:
        self.account("jobwriter", f"INSERT ({', '.join(JOB_WRITER_COLUMNS)}) ON {DATABASE}.job")

    def hostile(self) -> pymysql.Connection[Any]:
        return self.server.connect("jobwriter", password=SECRET.encode(), database=DATABASE)  # type: ignore[arg-type]


@pytest.fixture
def shared(kit: Kit, family: Family) -> Iterator[Shared]:
    with ExitStack() as after:
        yield Shared(kit.shared_server(family), after)


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_contract(promise: Promise, shared: Shared) -> None:
    promise(shared.open)


def test_a_line_that_is_committed_late_arrives_late(shared: Shared) -> None:
    owner, reader = shared.open(), shared.open()
    shared.job_writer()
    early = owner.add_sample(R, full(time.time()))
    hostile = shared.hostile()
    cursor = hostile.cursor()
    hostile.begin()
    cursor.execute("INSERT INTO job (replica, id, kind, started_at) VALUES (%s, 'sneaky', 'backup', 1)", (R,))
    owner.deadline = time.monotonic() + 5
    began = time.monotonic()
    second = owner.add_sample(R, full(time.time()))
    owner.add_job(R, JobLine(owner.now(), "honest", "backup", 2.0))
    third = owner.add_sample(R, full(time.time()))
    assert time.monotonic() - began < 3, "an open transaction holds nobody up"
    judged = list(reader.records(R))
    assert [record for _, record in judged if isinstance(record, Sample)] == [early, second, third]
    assert [record.id for _, record in judged if isinstance(record, JobLine)] == ["honest"]
    assert [record for _, record in judged][2].id == "honest"  # type: ignore[union-attr]
    hostile.commit()
    assert list(reader.records(R, judged[-1][0])) == [], "without a number it has not arrived"
    assert [line.id for _, line in reader.job_lines(R)] == ["honest", "sneaky"]
    last = owner.add_sample(R, full(time.time()))
    after = list(reader.records(R, judged[-1][0]))
    assert [arrival for arrival, _ in after] == [judged[-1][0] + 1, judged[-1][0] + 2]
    assert after[1][1] == last
    assert list(reader.records(R)) == judged + after
    hostile.close()


def test_hostile_rows_are_job_lines_like_others(shared: Shared) -> None:
    owner = shared.open()
    shared.job_writer()
    hostile = shared.hostile()
    cursor = hostile.cursor()
    cursor.execute("SET SESSION timestamp = 2100000000, sql_mode = ''")
    rows: list[tuple[object, ...]] = [
        (R, None, None, None, None, None),
        (R, "x" * 1000, "k" * 1000, 1e308, -1e308, 127),
        (R, "", "", -0.0, 1e-308, -1),
        (R, "späß\0\n\x1b[31m", "'; DROP TABLE job; --", 2**63, 5, 1),
        (R, "date", "backup", "2026-01-01 00:00:00", "never", "yes"),
        (None, "no replica", "backup", 1, None, 0),
        ("x" * 300, "long", "backup", 1, None, 0),
        (R, "ok", "backup", 1, None, 0),
    ]
    for row in rows:
        cursor.execute(
            "INSERT INTO job (replica, id, kind, started_at, finished_at, void) VALUES (%s, %s, %s, %s, %s, %s)", row
        )
    with pytest.raises(pymysql.MySQLError, match="denied"):
        cursor.execute("INSERT INTO job (replica, id, arrival) VALUES ('x', 'y', 1)")
    with pytest.raises(pymysql.MySQLError, match="denied"):
        cursor.execute("INSERT INTO job (replica, id, seq) VALUES ('x', 'y', 1)")
    hostile.close()
    for adopted in (False, True):
        lines = [line for _, line in owner.job_lines(R)]
        assert len(lines) == 6
        assert lines[0].unreadable == "no id"
        assert len(lines[1].id) == 255
        assert lines[1].unreadable == "void 127 is neither true nor false"
        assert lines[3].void
        assert lines[5] == JobLine(lines[5].t, "ok", "backup", 1.0)
        if adopted:
            assert all(line.t <= owner.now() for line in lines), "a writer's clock cannot be in the future"
        else:
            owner.add_sample(R, full(time.time()))


PRESET = (
    "insert_id = 9223372036854775807",
    "insert_id = 18446744073709551615",
    "insert_id = -1",
    "auto_increment_increment = 65535, auto_increment_offset = 65535",
    "timestamp = 1",
    "timestamp = 4000000000",
    "sql_mode = '', timestamp = 2147483647.5",
)
"""What a session may set that says how its rows are numbered and what their time is."""


SESSION_PRESET = (
    "autocommit = 0",
    "completion_type = 1",
    "completion_type = 2",
    "sql_select_limit = 2",
    "sql_big_selects = 0, max_join_size = 1",
    "sql_safe_updates = 1",
    "SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
)
"""What init_connect may do to every session that is not an administrator's."""


@pytest.mark.parametrize("release", ["first", "this"])
def test_what_a_writer_s_session_sets_neither_uses_up_keys_nor_makes_times(shared: Shared, release: str) -> None:
    if release == "first":
        made = (FIRST_RELEASE / "mysql.sql").read_text().split(";\n")[:-1]
        shared.sql(f"CREATE DATABASE {DATABASE}", f"USE {DATABASE}", *made)
        shared.sql(f"USE {DATABASE}", f"SET {PRESET[0]}", "INSERT INTO job (id) VALUES ('spent')")
    owner = shared.open()
    owner.add_sample(R, full(time.time()))
    while prune(owner, 3600):
        pass
    began = owner.now()
    shared.job_writer()
    refused = 0
    for number, preset in enumerate(PRESET):
        with shared.hostile() as hostile:
            try:
                hostile.cursor().execute(f"SET SESSION {preset}")
                hostile.cursor().execute(
                    "INSERT INTO job (replica, id, kind, started_at, finished_at) VALUES (%s, %s, 'backup', 1, 2)",
                    (R, f"forged{number}"),
                )
            except pymysql.MySQLError:
                refused += 1
        shared.open("jobwriter", SECRET).add_job(R, JobLine(began, f"honest{number}", "backup", began))
        shared.open("jobwriter", SECRET).add_job(R, JobLine(began, f"honest{number}", finished_at=began))
    owner.add_sample(R, full(time.time()))
    assert prune(owner, 3600) == 0, "no line claims to be an old one"
    lines = [record for _, record in owner.records(R) if isinstance(record, JobLine) and record.id != "spent"]
    honest = [line for line in lines if line.id.startswith("honest")]
    assert [line.id for line in honest] == [f"honest{number}" for number in range(len(PRESET)) for _ in range(2)]
    assert [line.finished_at for line in honest] == [None, began] * len(PRESET)
    assert len(lines) == len(honest) + len(PRESET) - refused
    assert all(began <= line.t <= owner.now() for line in lines)


def test_a_transaction_that_a_writer_holds_open_is_in_nobody_s_way(shared: Shared) -> None:
    owner = shared.open(seconds=10)
    shared.job_writer()
    with shared.hostile() as hostile:
        # With these, MariaDB fills a table that is empty in one go, and locks all of it.
        hostile.cursor().execute("SET SESSION unique_checks = 0, foreign_key_checks = 0")
        hostile.begin()
        hostile.cursor().execute("INSERT INTO job (replica, id) VALUES (%s, 'held')", (R,))
        shared.open("jobwriter", SECRET, seconds=10).add_job(R, JobLine(1.0, "b1", "backup", 1.0))
        owner.add_sample(R, full(time.time()))
        assert ids(owner) == ["b1"]


def flood(shared: Shared, *names: str, lines: int = 5_000) -> None:
    """Job lines in plenty, as the writer of jobs writes them."""
    with shared.hostile() as hostile, hostile.cursor() as cursor:
        for name in names:
            cursor.executemany(
                "INSERT INTO job (replica, id, kind, started_at) VALUES (%s, %s, 'backup', 1)",
                [(name, f"flood{number}") for number in range(lines)],
            )


def ids(history: MySQLHistory, replica: str = R) -> list[str]:
    return [record.id for _, record in history.records(replica) if isinstance(record, JobLine)]


def waiting(shared: Shared) -> int:
    return int(shared.sql(f"SELECT COUNT(*) FROM {DATABASE}.job WHERE arrival IS NULL")[0][0])


@pytest.mark.essential("mariadb")
def test_a_flood_under_other_names_delays_no_line(shared: Shared) -> None:
    owner = shared.open()
    shared.job_writer()
    flood(shared, "elsewhere", "db2")
    with shared.hostile() as hostile:
        insert = "INSERT INTO job (replica, id, kind, started_at) VALUES (%s, %s, 'backup', 1)"
        hostile.cursor().executemany(insert, [("db1", "server"), ("db1#a", "channel"), ("db1", "again")])
    fleet = [f"r{number}" for number in range(200)]
    owner.add_samples([(name, full(time.time())) for name in ("db1#a", "db2", *fleet)])
    assert ids(owner, "db1#a") == ["server", "channel", "again"], "at the first sample after them"
    assert ids(owner, "db2")[:20] == [f"flood{number}" for number in range(20)]
    assert waiting(shared) > 9_000


@pytest.mark.essential("mysql")
def test_a_flood_under_the_watched_name_does_not_slow_the_samples(shared: Shared) -> None:
    owner = shared.open()
    shared.job_writer()
    flood(shared, R)
    samples = [owner.add_sample(R, full(time.time())) for _ in range(4)]
    records = stored(owner)
    assert [record for record in records if isinstance(record, Sample)] == samples
    assert ids(owner) == [f"flood{number}" for number in range(2000)], "some at each sample, in their order"
    assert next(line.id for _, line in owner.job_lines(R)) == "flood0"


def test_nothing_that_is_preset_changes_what_is_kept_and_read(shared: Shared, family: Family) -> None:
    shared.open()
    shared.job_writer()
    shared.account("storer", f"ALL ON {DATABASE}.*")
    extra = "max_statement_time = 0.001" if family == "mariadb" else "max_execution_time = 1"
    for number, preset in enumerate((*SESSION_PRESET, extra)):
        shared.sql(f"SET GLOBAL init_connect = 'SET {preset}'")
        try:
            storing, reading = (shared.open("storer", SECRET) for _ in range(2))
            writing = shared.open("jobwriter", SECRET)
        finally:
            shared.sql("SET GLOBAL init_connect = ''")
        name = f"r{number}"
        for count in range(1, 4):
            writing.add_job(name, JobLine(1.0, f"b{count}", "backup", 1.0))
            storing.add_sample(name, full(time.time()))
            storing.lease("anybody", 0)
            assert len(list(reading.records(name))) == 2 * count, preset
            assert len(list(shared.open().records(name))) == 2 * count, preset


def test_times_are_the_server_s_own(shared: Shared) -> None:
    owner = shared.open()
    now = owner.now()
    hour_ahead = owner.add_sample(R, Sample(time.time() + 3600, 1.0))
    year_behind = owner.add_sample(R, Sample(time.time() - 3e7, 1.0))
    assert abs(hour_ahead.t - now) < 5
    assert abs(year_behind.t - now) < 5
    # What a worker has kept while the history could not be written has its own time.
    for age in (5, 3 * 86400):
        late = owner.add_sample(R, Sample(time.time() - age, 1.0))
        assert abs(late.t - (now - age)) < 4


def test_a_lost_connection_is_made_again(shared: Shared) -> None:
    owner = shared.open()
    owner.add_sample(R, full(time.time()))

    def kill() -> None:
        assert owner._connection is not None
        number = owner._connection.thread_id()  # type: ignore[no-untyped-call]
        shared.sql(f"KILL {number}")
        gone = f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {number}"
        wait_until(lambda: not shared.sql(gone), 60, "the connection has ended")

    kill()
    owner._used = time.monotonic()  # on a busy machine, too, it has been used a moment ago
    with pytest.raises(HistoryUnavailable, match=r"connection was lost|Connection was killed"):
        owner.add_sample(R, full(time.time()))
    owner.add_sample(R, full(time.time()))
    kill()
    time.sleep(1)
    owner.add_sample(R, full(time.time()))
    assert len(stored(owner)) == 3


def test_a_lock_is_waited_for_until_the_deadline(shared: Shared) -> None:
    owner = shared.open()
    holder = shared.server.connect(database=DATABASE)
    holder.begin()
    holder.cursor().execute("SELECT * FROM counter FOR UPDATE")
    owner.deadline = time.monotonic() + 1
    began = time.monotonic()
    with pytest.raises(HistoryUnavailable, match="no answer until the deadline"):
        owner.add_sample(R, full(time.time()))
    assert time.monotonic() - began < 3
    owner.deadline = time.monotonic() + 30
    owner.add_job(R, JobLine(1.0, "b1", "backup", 1.0))
    assert [line.id for _, line in owner.job_lines(R)] == ["b1"]
    holder.rollback()
    holder.close()
    owner.add_sample(R, full(time.time()))


def test_what_is_missing_is_told(shared: Shared) -> None:
    shared.account("stranger")
    with pytest.raises(HistoryUnavailable, match=r"history mysql://stranger@.*denied") as caught:
        shared.open("stranger", SECRET)
    assert SECRET not in str(caught.value)
    with pytest.raises(HistoryUnavailable, match="access denied") as caught:
        shared.open("stranger", "wr0ng-guess")
    assert "wr0ng-guess" not in str(caught.value)
    shared.sql(f"CREATE DATABASE {DATABASE}")
    shared.account("reader", f"SELECT ON {DATABASE}.*")
    with pytest.raises(HistoryUnavailable, match="has no tables of this version yet, and this account may not create"):
        shared.open("reader", SECRET)
    shared.account("owner", f"ALL ON {DATABASE}.*")
    owner = shared.open("owner", SECRET)
    owner.add_sample(R, full(time.time()))
    reader = shared.open("reader", SECRET)
    assert len(stored(reader)) == 1
    assert reader.replicas() == [R]
    with pytest.raises(HistoryUnavailable, match="the account lacks a privilege"):
        reader.add_sample(R, full(time.time()))
    reader.save_fold(R, "k", 1, "no error", None)
    shared.sql(f"UPDATE {DATABASE}.schema_version SET version = 99")
    with pytest.raises(HistoryUnavailable, match="has schema version 99, and this program knows up to 2: upgrade"):
        shared.open("owner", SECRET)
    shared.sql(f"UPDATE {DATABASE}.schema_version SET version = 2", f"DROP TABLE {DATABASE}.sample")
    with pytest.raises(HistoryUnavailable, match="a table is missing"):
        stored(owner)


def test_what_may_not_be_deleted_is_told(shared: Shared) -> None:
    owner = shared.open()
    owner.add_records(R, [Sample(owner.now() - age, 1.0) for age in (9e6, 8e6, 7200.0, 1.0)])
    shared.account("sampler", f"SELECT, INSERT, UPDATE ON {DATABASE}.*")
    sampler = shared.open("sampler", SECRET)
    assert prune_meanwhile(sampler, 86400.0, 1000).startswith("old samples stay: history mysql://sampler@")
    assert prune_meanwhile(owner, 86400.0, 1000) == ""
    assert len(stored(owner)) == 2


@pytest.mark.parametrize("role", ["check", "worker"])
def test_what_grants_gives_is_enough_to_sample_to_judge_and_to_prune(
    shared: Shared, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shared.open()
    assert run(["grants", "--family", "mysql", "--history", shared.url(), "--for", role]) == 0
    printed = re.findall(rf"GRANT (.* ON `{DATABASE}`.*) TO 'delay_{role}'", capsys.readouterr().out)
    shared.account("sampler", *printed)
    history = shared.open("sampler", SECRET)
    now = history.now()
    history.add_records(R, [Sample(now - age, 1.0) for age in (9e6, 8e6, 7200.0, 1.0)])
    history.save_fold(R, "k", 1, "folded", None)
    assert history.load_fold(R, "k") == (1, "folded")
    assert history.lease("me", 30.0)
    assert prune_meanwhile(history, 86400.0, 1000) == ""
    assert len(stored(history)) == 2


def test_a_transaction_that_is_held_open_does_not_hold_up_pruning(shared: Shared) -> None:
    owner = shared.open(seconds=10)
    now = owner.now()
    owner.add_records(R, [Sample(now, 1.0), *(JobLine(1.0, f"b{number}", "backup", 1.0, 2.0) for number in range(50))])
    shared.job_writer()
    with shared.hostile() as hostile:
        hostile.begin()
        hostile.cursor().execute("INSERT INTO job (replica, id) VALUES (%s, 'held')", (R,))
        assert prune(owner, 3600.0) == 50


def test_tables_of_the_first_release_are_upgraded_by_whoever_may(shared: Shared) -> None:
    shared.sql(
        f"CREATE DATABASE {DATABASE}", f"USE {DATABASE}", *(FIRST_RELEASE / "mysql.sql").read_text().split(";\n")[:-1]
    )
    shared.account("reader", f"SELECT, INSERT, UPDATE, DELETE ON {DATABASE}.*")
    with pytest.raises(
        HistoryUnavailable,
        match=r"has tables of an older version \(1\), and this account may not change them: ALTER command denied .*"
        "run `delayed-repl history prune --future --timeout 1h` once on this --history with an account that may CREATE,"
        " ALTER and UPDATE there",
    ):
        shared.open("reader", SECRET)
    # As if somebody had been killed half-way.
    shared.sql(f"ALTER TABLE {DATABASE}.fold ADD COLUMN episode_arrival BIGINT, ADD COLUMN kinds TEXT")
    written_on(shared.open())
    written = shared.open("reader", SECRET)
    assert len(stored(written)) == 10


def test_the_job_commands_work_with_insert_alone(shared: Shared) -> None:
    owner = shared.open()
    sample = owner.add_sample(R, full(time.time()))
    shared.job_writer()
    common = ["--history", shared.url("jobwriter", SECRET), "--replica", R]
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert run(["job", "start", *common, "--kind", "backup"]) == 0
        name = out.getvalue().strip()
        assert run(["job", "finish", name, *common]) == 0
        assert run(["job", "run", *common, "--kind", "backup", "--", "true"]) == 0
        assert err.getvalue() == ""
        assert run(["job", "list", *common]) == 1
        assert run(["job", "void", "--all", *common]) == 1
    assert "the account lacks a privilege" in err.getvalue()
    assert err.getvalue().splitlines()[-1] == (
        "delayed-repl: void --all needs an account that may read the history: use the worker's, not the job writer's"
    )
    assert SECRET not in err.getvalue()
    lines = [line for _, line in owner.job_lines(R)]
    assert [line.id for line in lines[:2]] == [name, name]
    started_at, finished_at = lines[0].started_at, lines[1].finished_at
    assert started_at is not None
    assert finished_at is not None
    assert sample.t <= started_at <= finished_at <= owner.now()
    assert (lines[1].kind, lines[1].started_at) == (None, None)
    assert lines[3].finished_at is not None


def test_an_option_file_that_everybody_may_read_is_warned_of(shared: Shared, tmp_path: Path) -> None:
    file = tmp_path / "history.cnf"
    file.write_text(f"[client]\nuser=root\npassword={ROOT_PASSWORD}\n")
    url = f"mysql://{shared.server.host}:{shared.server.port}/{DATABASE}?defaults-file={file}"
    for mode, warnings in (
        (0o644, [f"{file}: has a password, and everybody may read it: chmod 640 {file}"]),
        (0o640, []),
    ):
        file.chmod(mode)
        history = open_history(url, time.monotonic() + 60)
        assert history.warnings == warnings
        history.close()
