"""The SQLite history: what every history promises, and what can happen to a file."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import Command, run_python
from test_history_contract import CONTRACT, FIRST_RELEASE, Promise, R, full, stored, written_on

import check_delayed_repl.history as history_module
import check_delayed_repl.history.sqlite as sqlite_module
from check_delayed_repl.history import HistoryUnavailable, open_history
from check_delayed_repl.history.folding import judged
from check_delayed_repl.history.pruning import prune, prune_future, prune_meanwhile
from check_delayed_repl.history.sqlite import SQLiteHistory
from check_delayed_repl.limits import Limits
from check_delayed_repl.records import JobLine, Sample

handles: list[SQLiteHistory] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while handles:
        handles.pop().close()


def soon(seconds: float = 10) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "history.db")


def opened(path: str, seconds: float = 10) -> SQLiteHistory:
    handles.append(SQLiteHistory(path, soon(seconds)))
    return handles[-1]


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_contract(promise: Promise, path: str) -> None:
    promise(lambda: opened(path, 300))


# --- where it is ---


def test_the_environment_names_the_default(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_DELAYED_REPL_HISTORY", path)
    assert open_history(None, soon()).name == path
    assert open_history(path + "2", soon()).name == path + "2"


def test_a_personal_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHECK_DELAYED_REPL_HISTORY", raising=False)
    monkeypatch.setattr(history_module, "STATE_FOLDER", str(tmp_path / "none"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    history = open_history(None, soon())
    assert history.name == str(tmp_path / "state" / "check_delayed_repl" / "history.db")
    assert stat.S_IMODE(os.stat(os.path.dirname(history.name)).st_mode) == 0o700
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_history(None, soon()).name == f"{tmp_path}/home/.local/state/check_delayed_repl/history.db"


def test_the_shared_state_folder_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHECK_DELAYED_REPL_HISTORY", raising=False)
    shared = tmp_path / "lib"
    monkeypatch.setattr(history_module, "STATE_FOLDER", str(shared))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    first, second = open_history(None, soon()), open_history(None, soon())
    assert first.name == second.name == f"{shared}/history.db"
    if shared.stat().st_gid == 0:
        (warning,) = first.warnings
        assert warning.endswith(f"the monitoring user cannot use it: chgrp -R nagios {shared}; chmod 2770 {shared}")
    assert second.warnings == []
    assert stat.S_IMODE(shared.stat().st_mode) == 0o2770
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert open_history(None, soon()).name == f"{shared}/history.db"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_the_group_shares_the_file_and_its_companions(path: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        history = opened(path)
        history.add_sample(R, full(1.0))
    finally:
        os.umask(before)
    for name in (path, path + "-wal", path + "-shm"):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o660, name


# --- what can be wrong with it ---


def failure(path: str, seconds: float = 5) -> str:
    with pytest.raises(HistoryUnavailable) as caught:
        opened(path, seconds).add_sample(R, full(1.0))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("where", ["./me@db", "mysql.db", "mysql/h.db", "a%20b?c#d.db", "db1:3306.db", "{}/x@y//h.db"])
def test_odd_names_of_files(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(where.format(tmp_path))
    path.parent.mkdir(parents=True, exist_ok=True)
    open_history(where.format(tmp_path), soon()).close()
    assert path.exists()


def test_what_is_no_history(tmp_path: Path, path: str) -> None:
    Path(path).write_text("# my notes\n" * 100)
    os.mkfifo(tmp_path / "pipe")
    new = "create it, or name another file with --history"
    old = "move it and its -wal and -shm away, and a new one is begun, or restore a copy"
    for place, says in (
        (f"{tmp_path}/no/h.db", f"history {tmp_path}/no/h.db: there is no folder {tmp_path}/no: {new}"),
        (path, f"history {path} is no SQLite database: {old}"),
        (f"{tmp_path}/pipe", f"history {tmp_path}/pipe is no file: name a file with --history"),
        (f"{path}\0x", "cannot be opened"),
        (path + "x" * 5000, "cannot be "),
    ):
        assert says in failure(place)
    Path(path).write_text("")
    opened(path).add_sample(R, full(1.0))
    assert stored(opened(path)) == [full(1.0)], "an empty file is a new one"


def test_links(path: str, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    os.symlink(target, path)
    assert failure(path) == (
        f"history {path} is a link to a file that is not there: remove the link, or create the file"
    )
    assert not target.exists()
    target.touch()
    opened(path).add_sample(R, full(1.0))
    assert stored(opened(str(target))) == [full(1.0)]
    precious = tmp_path / "precious"
    for end in ("-wal", "-shm", "-journal"):
        for link in (os.link, os.symlink):
            precious.write_text("precious")
            Path(f"{target}{end}").unlink(missing_ok=True)
            link(precious, f"{target}{end}")
            told = f"history {path}: {target}{end} is a link: see who made it, and remove it"
            assert failure(path) == told
            assert precious.read_text() == "precious"
        precious.unlink()
        assert failure(path) == told, "a link to nothing"
        os.unlink(f"{target}{end}")
        assert not precious.exists()


def test_what_is_beside_it_may_go_at_any_moment(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that ends its transaction removes its journal."""
    opened(path).add_sample(R, full(1.0))
    lstat = os.lstat

    def lstat_and_gone(place: str) -> os.stat_result:
        found = lstat(place)
        if place.endswith("-journal"):
            os.unlink(place)
        return found

    Path(f"{path}-journal").touch()
    monkeypatch.setattr(os, "lstat", lstat_and_gone)
    monkeypatch.setattr(os.path, "exists", lambda _: True)
    assert stored(opened(path)) == [full(1.0)]
    assert not Path(f"{path}-journal").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can make a file for another user")
def test_a_link_that_somebody_else_made(path: str, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    target.touch()
    os.symlink(target, path)
    os.lchown(path, 65534, 65534)
    assert failure(path) == f"history {path} is a link made by user nobody: name the file itself"


def test_what_everybody_may_write_to_is_warned_of(path: str, tmp_path: Path, tool: Command, plugin: Command) -> None:
    assert opened(path).warnings == []
    os.chmod(path, 0o666)
    written = f"history {path} may be written by everybody: chmod o-w {path}"
    assert opened(path).warnings == [written]
    assert f"\nnote: {written}\n" in plugin("--sampling", "worker", "--replica", R, "--history", path).stdout
    assert tool("history", "prune", "--history", path).stderr == f"delayed-repl: warning: {written}\n"
    started = tool("job", "start", "--history", path, "--replica", R, "--kind", "backup")
    assert started.stderr.splitlines()[0] == f"delayed-repl: warning: {written}"
    os.chmod(path, 0o660)
    (blank := tmp_path / "a b").mkdir(mode=0o700)
    assert opened(str(blank / "c d.db")).warnings == []
    os.chmod(blank / "c d.db", 0o666)
    assert opened(str(blank / "c d.db")).warnings[0].endswith(f": chmod o-w '{blank}/c d.db'")
    tmp_path.chmod(0o777)
    replaced = f"history {path} may be replaced by everybody, who may write to its folder: chmod o-w {tmp_path}"
    assert opened(path).warnings == [replaced]
    link = tmp_path.parent / "link.db"
    link.symlink_to(path)
    assert opened(str(link)).warnings == [replaced.replace(f"history {path}", f"history {link}")]
    deep = tmp_path / "private"
    deep.mkdir(mode=0o700)
    assert opened(f"{deep}/h.db").warnings == [replaced.replace(f"history {path}", f"history {deep}/h.db")]
    tmp_path.chmod(0o1777)
    assert opened(path).warnings == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can make a file for another user")
@pytest.mark.parametrize("whose", ["", "-wal", "-journal", "folder"])
def test_what_somebody_else_put_where_everybody_may_write_is_warned_of(whose: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    folder = tmp_path / "folder"
    folder.mkdir()
    path = str(folder / "h.db" if whose == "folder" else tmp_path / "h.db")
    opened(path).close()
    theirs = folder if whose == "folder" else Path(path + whose)
    theirs.touch()
    os.chown(theirs, 65534, 65534)
    told = f"history {path} may be replaced by user nobody, whose {theirs} is: name another file with --history"
    assert opened(path).warnings == [told]


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can make a file for another user")
def test_what_root_creates_is_for_the_folder_s_owner(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    os.chown(folder, 65534, 65533)
    history = opened(f"{folder}/shared.db")
    history.add_sample(R, full(1.0))
    assert history.warnings == []
    for name in ("shared.db", "shared.db-wal", "shared.db-shm"):
        found = (folder / name).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65533, 0o660)


def test_another_program_s_database(path: str) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE sample (x)")
    other.close()
    assert failure(path) == f"history {path} is another program's database: name another file with --history"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 2")
    other.close()
    assert "another program's" in failure(path)


def test_a_newer_schema(path: str) -> None:
    opened(path)._connection.execute("PRAGMA user_version = 99")
    says = f"history {path} has schema version 99, and this program knows up to 2: upgrade this program"
    assert failure(path) == says


def test_no_more_room_than_it_has_been_given(path: str) -> None:
    """As under a quota, of which its disk says nothing."""
    history = opened(path)
    history.add_sample(R, full(1.0))
    history._connection.execute(f"PRAGMA max_page_count = {os.path.getsize(path) // 4096}")
    with pytest.raises(HistoryUnavailable, match=r"cannot be used: no space left: make room on its disk$"):
        history.add_records(R, [full(float(number), message="x" * 900) for number in range(500)])
    assert stored(history) == [full(1.0)]


def test_a_file_of_the_first_release_is_read_and_written_on(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(path) as old:
        old.executescript((FIRST_RELEASE / "sqlite.sql").read_text())
    steps = (*sqlite_module.FROM_FIRST_RELEASE, "DROP TABLE nowhere")
    monkeypatch.setattr(sqlite_module, "FROM_FIRST_RELEASE", steps)
    assert "no such table: nowhere" in failure(path)
    assert old.execute("PRAGMA user_version").fetchone() == (1,), "all of it or nothing"
    old.close()
    monkeypatch.undo()
    written_on(opened(path))


@pytest.mark.parametrize(
    ("column", "kept"),
    [
        # Of samples that are folded already, times and delays alone are read again.
        *(("t", True), ("delay", True), ("t", False), ("delay", False)),
        *(("local_age", False), ("source_pos", False), ("sql_delay", False), ("message", False)),
    ],
)
def test_a_value_of_a_type_that_nobody_wrote_is_no_fault_of_the_check(path: str, column: str, kept: bool) -> None:
    with opened(path) as history:
        now = time.time()
        samples = [Sample(now - 700 + 10 * n, 7200.0, local=0.5, source_log=("b.1", n)) for n in range(70)]
        history.add_records(R, samples)
        if kept:
            assert judged(history, R, Limits()).state == 0
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE sample SET {column} = X'FF00' WHERE arrival = (SELECT MAX(arrival) FROM sample)")
    other.close()
    with opened(path) as history, pytest.raises(HistoryUnavailable, match="is corrupt"):
        judged(history, R, Limits())


@pytest.mark.parametrize("value", ["CAST(X'FF41' AS TEXT)", "X'FF00'", "'abc'", "9e999", "5"])
@pytest.mark.parametrize("column", ["replica.name", "replica.delay_arrival", "fold.kinds", "fold.episode_arrival"])
def test_a_damaged_row_is_in_nobody_else_s_way(path: str, column: str, value: str, tool: Command) -> None:
    now = time.time()
    with opened(path) as history:
        for name in ("aa", R):
            history.add_records(name, [Sample(now - age, 7200.0, local=0.5) for age in range(900, -1, -10)])
            history.add_sample(name, Sample(now - 9e6, 7200.0))
            assert judged(history, name, Limits()).state == 0
    table, _, of_table = column.partition(".")
    with sqlite3.connect(path) as other:
        one = "number = 1" if table == "replica" else "replica = 1"
        assert other.execute(f"UPDATE {table} SET {of_table} = {value} WHERE {one}").rowcount == 1
    other.close()
    with opened(path) as history:
        assert judged(history, R, Limits()).state == 0
    given = ("--history", path)
    shown = tool("status", *given).stdout.splitlines()
    assert [row.split()[0] for row in shown if f" {R} " in row] == ["OK"]
    for words in (("job", "start", "--kind", "backup", "--replica", R), ("history", "prune")):
        ran = tool(*words, *given)
        assert (ran.returncode, "error" in ran.stderr) == (0, False), ran.stderr


def test_what_is_damaged_and_keeps_old_records_from_being_pruned_is_told(path: str) -> None:
    history = opened(path)
    history.add_records(R, [Sample(history.now() - age, 1.0) for age in (1e7, 7200.0, 1.0)])
    history.add_job(R, JobLine(1.0, "b", "backup", 1.0, 2.0))
    history._write(partial(history._run, "UPDATE job SET id = CAST(X'FF41' AS TEXT)"))
    told = prune_meanwhile(history, 1e6, 1000)
    assert told.startswith(f"old samples stay: history {path} is corrupt (")


def test_a_sample_whose_replica_is_damaged(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite finds it by a tree that is whole, and reads another number, or none, in the row."""
    history = opened(path)
    history.add_sample(R, full(1.0))
    monkeypatch.setattr(history, "_samples", lambda *_: [(1, None, full(1.0))])
    assert stored(history) == [full(1.0)]
    assert [name for _, name, _ in history.arrived(0)] == [""]


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_gives_one_line_or_its_records(path: str, seed: int) -> None:
    with opened(path) as history:
        history.add_records(R, [full(float(number)) for number in range(500)])
    chance = random.Random(seed)
    content = bytearray(Path(path).read_bytes())
    if seed % 3 == 0:
        content = content[: chance.randrange(len(content))]
    for _ in range(chance.randrange(1, 2000)):
        if content:
            content[chance.randrange(len(content))] = chance.randrange(256)
    Path(path).write_bytes(content)
    texts = []
    for call in (
        lambda h: list(h.records(R)),
        lambda h: h.add_sample(R, full(1.0)),
        lambda h: h.window(R, 0.0, 10**6),
        lambda h: h.newest_sample(R),
        lambda h: list(h.job_lines(R)),
        lambda h: prune(h, 1.0),
        lambda h: prune_future(h),
        lambda h: h.load_fold(R, "k"),
    ):
        try:
            history = opened(path)
            try:
                call(history)
            finally:
                history.close()
        except HistoryUnavailable as error:
            texts.append(str(error))
    assert not [text for text in texts if "\n" in text]


def test_locked_past_the_deadline(path: str) -> None:
    opened(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    text = failure(path, 0.5)
    assert 0.3 < time.monotonic() - began < 15
    assert text == (
        f"history {path} is locked by another process and stayed so until the deadline:"
        f" see who uses it with fuser {path}"
    )
    reader = opened(path)
    assert stored(reader) == [], "reading needs no lock"
    began = time.monotonic()
    reader.save_fold(R, "k", 1, "kept or not, no error", None)
    assert time.monotonic() - began < 15, "a cache is not waited for"
    holder.execute("COMMIT")
    holder.close()


WITHOUT_FILES = """
import resource, sys, time
import check_delayed_repl.history.sqlite, pwd
from check_delayed_repl.history import HistoryUnavailable, open_history
first = open_history(sys.argv[1], time.monotonic() + 10)
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    open_history(sys.argv[3], time.monotonic() + 10)
except HistoryUnavailable as error:
    print(error)
"""


def test_out_of_file_descriptors(path: str) -> None:
    opened(path).close()
    for other in (path, path + "new"):
        said = set()
        for limit in range(3, 9):
            said.add(run_python("-c", WITHOUT_FILES, path, str(limit), other).stdout)
        assert any("this process has too many files open: raise its limit (ulimit -n)" in text for text in said)
        assert all("too many files open" in text or not text for text in said), said


def test_a_disk_that_is_full_is_named_whatever_sqlite_says(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history = opened(path)
    disk = os.statvfs(os.path.dirname(path))
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    for free, flag, said in (
        (0, 0, "no space left: make room on its disk"),
        (10**6, os.ST_RDONLY, "its file system is read-only"),
        (10**6, 0, "input/output error: check its disk (disk I/O error)"),
    ):
        now = os.statvfs_result((*disk[:4], free, *disk[5:8], flag, disk[9]))
        monkeypatch.setattr(os, "statvfs", lambda _, now=now: now)
        assert str(history._unavailable(error)) == f"history {path} cannot be used: {said}"


USE = """
import os, sys, time
import sqlite3, pwd, check_delayed_repl.history.sqlite
from check_delayed_repl.history import HistoryUnavailable, open_history
from check_delayed_repl.records import Sample
if os.geteuid() == 0:  # root passes every permission
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(pwd.getpwuid(os.geteuid()).pw_name)
try:
    history = open_history(sys.argv[1], time.monotonic() + 5)
    print(len(list(history.records("db1:3306"))))
    history.save_fold("db1:3306", "k", 1, "{}", None)
    history.add_sample("db1:3306", Sample(1.0, 1.0))
except HistoryUnavailable as error:
    print(error)
"""


def test_permissions(tmp_path: Path, path: str) -> None:
    def use(path: str) -> str:
        user, _, rest = run_python("-c", USE, path).stdout.partition("\n")
        return rest.replace(user, "USER")

    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o755)
    files = [path, path + "-wal", path + "-shm"]
    history = opened(path)
    history.add_sample(R, full(1.0))
    for name in files:
        os.chmod(name, 0)
    assert use(path) == f"history {path} cannot be read: permission denied: user USER must be in the file's group\n"
    for name in files:
        os.chmod(name, 0o444)
    lacking = (
        f"history {path} cannot be written: user USER needs the permission to write the file, its -wal and -shm"
        " beside it, and its folder\n"
    )
    assert use(path) == f"1\n{lacking}", "reading alone works while somebody else has it open"
    history.close()
    tmp_path.chmod(0o555)
    assert use(path) == lacking
    assert "cannot be created: Permission denied: check the folder's permissions for user USER" in use(path + "2")
    tmp_path.chmod(0o755)


def test_replaced_while_it_is_opened(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(path + ".kept").add_sample(R, full(1.0))
    connect = sqlite3.connect

    def slowly(*what: object, **more: object) -> sqlite3.Connection:
        connection = connect(*what, **more)  # type: ignore[call-overload]
        os.replace(path + ".kept", path)
        return connection  # type: ignore[no-any-return]

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", slowly)
        history = opened(path)
    with pytest.raises(HistoryUnavailable, match="was deleted or replaced while in use"):
        history.place()


def test_what_the_server_undoes_is_tried_again_until_the_deadline(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several writers on a busy server may make a deadlock of it more than once."""
    history, refusals = opened(path), [1, 2, 3]

    def begin() -> None:
        if refusals:
            refusals.pop()
            raise sqlite3.OperationalError("deadlock")
        history._execute("BEGIN IMMEDIATE")

    monkeypatch.setattr(history, "_begin", begin)
    monkeypatch.setattr(history, "_undone", lambda _: True)
    history.add_sample(R, full(1.0))
    assert stored(opened(path)) == [full(1.0)]
    monkeypatch.setattr(history, "_begin", lambda: history._execute("no statement"))
    history.deadline = soon(0.2)
    with pytest.raises(HistoryUnavailable):
        history.add_sample(R, full(2.0))


def test_deleted_while_in_use(path: str) -> None:
    history = opened(path)
    history.add_sample(R, full(1.0))
    for name in (path, path + "-wal", path + "-shm"):
        os.unlink(name)
    with pytest.raises(HistoryUnavailable, match="was deleted or replaced while in use"):
        history.add_sample(R, full(2.0))
    history.add_sample(R, full(3.0))
    assert stored(opened(path)) == [full(3.0)] == stored(history)


# --- cost ---


def test_verdict_cost_does_not_grow_with_age(path: str) -> None:
    history = opened(path, 120)
    for start in range(0, 20_000, 10_000):
        history.add_records(R, [Sample(float(start + number), 1.0) for number in range(10_000)])
    connection = history._connection
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(step, 10)
    assert len(history.window(R, 19_940.0, 10**9)) == 60
    assert len(list(history.records(R, 19_990))) == 10
    assert history.newest_sample(R) == Sample(19_999.0, 1.0)
    assert history.newest_sample_t(R) == 19_999.0
    history.add_sample(R, Sample(20_000.0, 1.0))
    assert steps * 10 < 10_000


def test_a_day_of_samples_is_small(path: str) -> None:
    history = opened(path, 120)
    for step in range(8640):
        place = ("mysql-bin.000123", step * 12345)
        seen = full(1.7e9 + step * 10 + 0.123456, io="Yes", sql="Yes", source_log=place, relay_log=place, sql_error="")
        history.add_samples([("r0", seen), ("r1", seen)])
    history.close()
    assert os.path.getsize(path) / 2 < 1_200_000
