"""What the shared history promises on top of the common contract, for any server that it may live on.

`run_all(server)` keeps every promise against a running server; `MYSQL_CONTRACT` holds them one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import pymysql
import pytest
from test_history_contract import CONTRACT, Promise, R, full, stored

from check_delayed_repl.history import HistoryUnavailable, open_history
from check_delayed_repl.history.mysql import JOB_WRITER_COLUMNS, SCHEMA_VERSION, MySQLHistory
from check_delayed_repl.records import JobLine, Sample

DATABASE = "shared_history"
SECRET = "s3cret/#@:%+ü"


OPENED: list[MySQLHistory] = []


class Server(NamedTuple):
    """A MySQL or MariaDB server, with an account that may do anything there."""

    host: str
    port: int
    user: str
    password: str

    def connect(self, user: str | None = None, password: str | None = None, database: str | None = None) -> Any:
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=user or self.user,
            password=(self.password if password is None else password).encode(),
            database=database,
            autocommit=True,
        )

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements as administrator; returns the last one's rows."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def fresh(self) -> None:
        """Drops the history's database, and who is still connected to it."""
        while OPENED:
            OPENED.pop().close()
        for (connection,) in self.sql(f"SELECT id FROM information_schema.processlist WHERE db = '{DATABASE}'"):
            with suppress(pymysql.MySQLError):
                self.sql(f"KILL {connection}")
        self.sql(f"DROP DATABASE IF EXISTS {DATABASE}")

    def url(self, user: str | None = None, password: str | None = None, database: str = DATABASE) -> str:
        name = quote(user or self.user, safe="")
        secret = quote(self.password if password is None else password, safe="")
        return f"mysql://{name}:{secret}@{self.host}:{self.port}/{database}"

    def open(self, user: str | None = None, password: str | None = None, seconds: float = 60) -> MySQLHistory:
        history = open_history(self.url(user, password), time.monotonic() + seconds)
        assert isinstance(history, MySQLHistory)
        OPENED.append(history)
        return history

    def account(self, user: str, *grants: str) -> None:
        """An account with these privileges and no others."""
        self.sql(
            f"DROP USER IF EXISTS {user}@'%'",
            f"CREATE USER {user}@'%' IDENTIFIED BY '{SECRET}'",
            *(f"GRANT {grant} TO {user}@'%'" for grant in grants),
        )


MySQLPromise = Callable[[Server], None]
MYSQL_CONTRACT: list[MySQLPromise] = []


def promise(function: MySQLPromise) -> MySQLPromise:
    MYSQL_CONTRACT.append(function)
    return function


def keep(server: Server, common: Promise) -> None:
    """Keeps a promise of the common contract, in a new database."""
    server.fresh()
    common(server.open)


def run_all(server: Server) -> None:
    """Everything, one after another."""
    for common in CONTRACT:
        keep(server, common)
    for own in MYSQL_CONTRACT:
        server.fresh()
        own(server)
    server.fresh()


def insert_only(server: Server, user: str = "jobwriter") -> None:
    server.account(user, f"INSERT ({', '.join(JOB_WRITER_COLUMNS)}) ON {DATABASE}.job")


@promise
def an_account_that_may_only_insert_jobs_can_record_them(server: Server) -> None:
    owner = server.open()
    owner.add_sample(R, Sample(time.time(), 1.0))
    insert_only(server)
    writer = server.open("jobwriter", SECRET)
    assert not writer.readable
    began = writer.now()
    assert abs(began - owner.now()) < 5
    writer.add_job(R, JobLine(began, "b1", "backup", began))
    assert stored(owner)[-1] == JobLine(stored(owner)[-1].t, "b1", "backup", began)
    assert began - 1 <= stored(owner)[-1].t <= owner.now()
    writer.add_job(R, JobLine(began, "b1", finished_at=began + 1))
    for refused in (
        lambda: list(writer.records(R)),
        writer.replicas,
        lambda: writer.add_sample(R, Sample(1.0, 1.0)),
        lambda: writer.prune(1.0),
    ):
        with pytest.raises(HistoryUnavailable, match="the account lacks a privilege: "):
            refused()
    writer.save_fold(R, "k", 1, "{}")
    writer.add_job(R, JobLine(began, "b1", void=True))
    assert [line.id for _, line in owner.job_lines(R)] == ["b1"] * 3
    assert [(line.finished_at, line.void) for _, line in owner.job_lines(R)] == [
        (None, False),
        (began + 1, False),
        (None, True),
    ]
    writer.close()
    owner.close()


@promise
def a_line_that_is_committed_late_arrives_late(server: Server) -> None:
    owner, reader = server.open(), server.open()
    insert_only(server)
    early = owner.add_sample(R, full(time.time()))
    hostile = server.connect("jobwriter", SECRET, DATABASE)
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
    waiting = list(reader.records(R, judged[-1][0]))
    assert [(arrival, record.id) for arrival, record in waiting if isinstance(record, JobLine)] == [(0, "sneaky")]
    last = owner.add_sample(R, full(time.time()))
    after = list(reader.records(R, judged[-1][0]))
    assert [arrival for arrival, _ in after] == [judged[-1][0] + 1, judged[-1][0] + 2]
    assert after[1][1] == last
    assert list(reader.records(R)) == judged + after
    hostile.close()
    owner.close()
    reader.close()


@promise
def hostile_rows_are_job_lines_like_others(server: Server) -> None:
    owner = server.open()
    insert_only(server)
    hostile = server.connect("jobwriter", SECRET, DATABASE)
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
        cursor.execute("INSERT INTO job (replica, id, written_at) VALUES ('x', 'y', '2001-01-01')")
    hostile.close()
    for adopted in (False, True):
        lines = [record for _, record in owner.records(R) if isinstance(record, JobLine)]
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
    owner.close()


@promise
def a_flood_of_job_lines_does_not_stop_the_samples(server: Server) -> None:
    owner = server.open()
    insert_only(server)
    hostile = server.connect("jobwriter", SECRET, DATABASE)
    hostile.cursor().executemany(
        "INSERT INTO job (replica, id, kind, started_at) VALUES (%s, %s, 'backup', 1)",
        [(R, f"flood{number}") for number in range(1300)],
    )
    hostile.close()
    samples = [owner.add_sample(R, full(time.time())) for _ in range(4)]
    records = stored(owner)
    assert [record for record in records if isinstance(record, Sample)] == samples
    assert [record.id for record in records if isinstance(record, JobLine)] == [f"flood{n}" for n in range(1300)]
    owner.close()


@promise
def times_are_the_server_s_own(server: Server) -> None:
    owner = server.open()
    now = owner.now()
    hour_ahead = owner.add_sample(R, Sample(time.time() + 3600, 1.0))
    year_behind = owner.add_sample(R, Sample(time.time() - 3e7, 1.0))
    late = owner.add_sample(R, Sample(time.time() - 5, 1.0))
    assert abs(hour_ahead.t - now) < 5
    assert abs(year_behind.t - now) < 5
    assert abs(late.t - (now - 5)) < 4
    owner.close()


@promise
def a_lost_connection_is_made_again(server: Server) -> None:
    owner = server.open()
    owner.add_sample(R, full(time.time()))

    def kill() -> None:
        assert owner._connection is not None
        server.sql(f"KILL {owner._connection.thread_id()}")  # type: ignore[no-untyped-call]
        time.sleep(0.2)

    kill()
    with pytest.raises(HistoryUnavailable, match=r"connection was lost|Connection was killed"):
        owner.add_sample(R, full(time.time()))
    owner.add_sample(R, full(time.time()))
    kill()
    time.sleep(1)
    owner.add_sample(R, full(time.time()))
    assert len(stored(owner)) == 3
    owner.close()


@promise
def a_lock_is_waited_for_until_the_deadline(server: Server) -> None:
    owner = server.open()
    holder = server.connect(database=DATABASE)
    holder.begin()
    holder.cursor().execute("SELECT * FROM counter FOR UPDATE")
    owner.deadline = time.monotonic() + 1
    began = time.monotonic()
    with pytest.raises(HistoryUnavailable, match="no answer until the deadline"):
        owner.add_sample(R, full(time.time()))
    assert time.monotonic() - began < 3
    owner.deadline = time.monotonic() + 30
    owner.add_job(R, JobLine(1.0, "b1", "backup", 1.0))
    assert [record.id for record in stored(owner) if isinstance(record, JobLine)] == ["b1"]
    holder.rollback()
    holder.close()
    owner.add_sample(R, full(time.time()))
    owner.close()


@promise
def what_is_missing_is_told(server: Server) -> None:
    server.account("stranger")
    with pytest.raises(HistoryUnavailable, match=r"history mysql://stranger@.*denied") as caught:
        server.open("stranger", SECRET)
    assert SECRET not in str(caught.value)
    with pytest.raises(HistoryUnavailable, match="access denied") as caught:
        server.open("stranger", "wr0ng-guess")
    assert "wr0ng-guess" not in str(caught.value)
    server.sql(f"CREATE DATABASE {DATABASE}")
    server.account("reader", f"SELECT ON {DATABASE}.*")
    with pytest.raises(HistoryUnavailable, match="has no tables of this version yet, and this account may not create"):
        server.open("reader", SECRET)
    server.account("owner", f"ALL ON {DATABASE}.*")
    owner = server.open("owner", SECRET)
    owner.add_sample(R, full(time.time()))
    reader = server.open("reader", SECRET)
    assert len(stored(reader)) == 1
    assert reader.replicas() == [R]
    with pytest.raises(HistoryUnavailable, match="the account lacks a privilege"):
        reader.add_sample(R, full(time.time()))
    reader.save_fold(R, "k", 1, "no error")
    server.sql(f"UPDATE {DATABASE}.schema_version SET version = 99")
    with pytest.raises(
        HistoryUnavailable, match=f"has schema version 99, and this program knows up to {SCHEMA_VERSION}: upgrade"
    ):
        server.open("owner", SECRET)
    server.sql(f"UPDATE {DATABASE}.schema_version SET version = {SCHEMA_VERSION}", f"DROP TABLE {DATABASE}.sample")
    with pytest.raises(HistoryUnavailable, match="a table is missing"):
        stored(owner)
    owner.close()
    reader.close()
    server.sql(*(f"DROP USER {user}@'%'" for user in ("stranger", "reader", "owner")))


@promise
def a_server_that_is_read_only_is_told(server: Server) -> None:
    server.open().close()
    server.account("owner", f"ALL ON {DATABASE}.*")
    owner = server.open("owner", SECRET)
    server.sql("SET GLOBAL read_only = 1")
    try:
        with pytest.raises(HistoryUnavailable, match=r"cannot be written: .*read.only"):
            owner.add_sample(R, full(time.time()))
    finally:
        server.sql("SET GLOBAL read_only = 0")
    owner.add_sample(R, full(time.time()))
    owner.close()


@promise
def an_older_schema_is_migrated(server: Server) -> None:
    from check_delayed_repl.history import mysql

    server.open().add_records(R, [full(1.0)])
    version, migrations = mysql.SCHEMA_VERSION, mysql.MIGRATIONS
    mysql.SCHEMA_VERSION = version + 1
    mysql.MIGRATIONS = {version: ("ALTER TABLE sample ADD COLUMN mood TEXT",)}
    try:
        assert stored(server.open()) == [full(1.0)]
        assert stored(server.open()) == [full(1.0)]
    finally:
        mysql.SCHEMA_VERSION, mysql.MIGRATIONS = version, migrations
    assert server.sql(f"SELECT version FROM {DATABASE}.schema_version") == [(version + 1,)]


@promise
def the_job_commands_work_with_insert_alone(server: Server) -> None:
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    from check_delayed_repl.tool import run

    owner = server.open()
    sample = owner.add_sample(R, full(time.time()))
    insert_only(server)
    common = ["--history", server.url("jobwriter", SECRET), "--replica", R]
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert run(["job", "start", *common, "--kind", "backup"]) == 0
        name = out.getvalue().strip()
        assert run(["job", "finish", name, *common]) == 0
        assert run(["job", "run", *common, "--kind", "backup", "--", "true"]) == 0
        assert err.getvalue() == ""
        assert run(["job", "list", *common]) == 1
    assert "the account lacks a privilege" in err.getvalue()
    assert SECRET not in err.getvalue()
    lines = [line for _, line in owner.job_lines(R)]
    assert [line.id for line in lines[:2]] == [name, name]
    started_at, finished_at = lines[0].started_at, lines[1].finished_at
    assert started_at is not None
    assert finished_at is not None
    assert sample.t <= started_at <= finished_at <= owner.now()
    assert (lines[1].kind, lines[1].started_at) == (None, None)
    assert lines[3].finished_at is not None
