"""The shared history: its URL, and its promises on a private MariaDB server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from test_history_contract import CONTRACT, Promise, R, full, stored
from test_history_mysql_contract import MYSQL_CONTRACT, MySQLPromise, Server, keep

from check_delayed_repl.history import HistoryUnavailable, open_history
from check_delayed_repl.history.mysql import parse_url
from check_delayed_repl.observe.target import Target

# --- the URL ---


@pytest.mark.parametrize(
    ("url", "target", "name"),
    [
        ("mysql://db/h", Target(host="db"), "mysql://db/h"),
        (
            "mysql://me:p%40ss%2F%23@db.example:3307/h-1",
            Target(host="db.example", port=3307, user="me", password="p@ss/#"),
            "mysql://me@db.example:3307/h-1",
        ),
        (
            "MySQL://me@[::1]/h?defaults-file=/etc/my.cnf&defaults-group=hist",
            Target(host="::1", user="me", defaults_file="/etc/my.cnf", defaults_group="hist"),
            "mysql://me@[::1]/h",
        ),
        (
            "mysql:///h?socket=/run/s%20k&ssl-mode=VERIFY_CA&ssl-ca=/ca&ssl-cert=/c&ssl-key=/k",
            Target(socket="/run/s k", ssl_mode="verify-ca", ssl_ca="/ca", ssl_cert="/c", ssl_key="/k"),
            "mysql:///h",
        ),
        ("mysql://me:@db/h", Target(host="db", user="me", password=""), "mysql://me@db/h"),
    ],
)
def test_url(url: str, target: Target, name: str) -> None:
    assert parse_url(url) == (target, "h-1" if "h-1" in url else "h", name)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://",
        "mysql://db",
        "mysql://db/",
        "mysql://db/a/b",
        "mysql://db/a`b",
        "mysql://db:port/h",
        "mysql://db:99999/h",
        "mysql://me:s3cret/x@db/h",
        "mysql://me:s3cret#x@db/h",
        "mysql://me:s3cret@db/h?password=s3cret",
        "mysql://me:s3cret@db/h?s3cret",
        "mysql://me:s3cret@db/h?ssl-mode=s3cret",
        "mysql://me:s3cret@db/h#x",
        "mysql://me:s3cret@[db/h",
    ],
)
def test_a_url_that_is_none_is_told_without_its_password(url: str) -> None:
    with pytest.raises(HistoryUnavailable, match="the history's URL") as caught:
        open_history(url, time.monotonic() + 1)
    assert "s3cret" not in str(caught.value)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(HistoryUnavailable, match=f"^history mysql://me@127.0.0.1:{port}/h: .*refused") as caught:
        open_history(f"mysql://me:s3cret@127.0.0.1:{port}/h", time.monotonic() + 5)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(HistoryUnavailable, match="no answer within"):
            open_history(f"mysql://me:s3cret@127.0.0.1:{silent.getsockname()[1]}/h", time.monotonic() + 0.5)
        assert time.monotonic() - began < 3


def test_a_defaults_file_that_is_not_there() -> None:
    with pytest.raises(HistoryUnavailable, match=r"/no/such\.cnf"):
        open_history("mysql://me@127.0.0.1/h?defaults-file=/no/such.cnf", time.monotonic() + 5)


# --- a real server ---


class Private(Server):
    """A server of our own: its process can be stopped, too."""

    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    """A private MariaDB server on an unprivileged port."""
    binary = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    install = shutil.which("mariadb-install-db")
    assert binary, "these tests need MariaDB: apt-get install mariadb-server"
    assert install, "these tests need MariaDB: apt-get install mariadb-server"
    folder = tmp_path_factory.mktemp("mariadb")
    data = folder / "data"
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        binary,
        "--no-defaults",
        f"--datadir={data}",
        f"--socket={folder / 's'}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=0",
        f"--pid-file={folder / 'pid'}",
    ]
    if os.geteuid() == 0:
        command.append("--user=root")
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:
        found = Private("127.0.0.1", port, "admin", "adm1n")
        found.process = process
        try:
            wait_for(folder, process)
            yield found
            found.fresh()
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(30)


def wait_for(folder: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not (folder / "s").exists():
        assert process.poll() is None, (folder / "log").read_text(errors="replace")[-2000:]
        assert time.monotonic() < end, "MariaDB does not start"
        time.sleep(0.05)
    connection = pymysql.connect(unix_socket=str(folder / "s"), user="root")
    with connection.cursor() as cursor:
        cursor.execute("CREATE USER admin@'%' IDENTIFIED BY 'adm1n'")
        cursor.execute("GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION")
    connection.close()


@pytest.mark.integration
@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
def test_contract(promise: Promise, server: Server) -> None:
    keep(server, promise)


@pytest.mark.integration
@pytest.mark.parametrize("promise", MYSQL_CONTRACT, ids=lambda promise: promise.__name__)
def test_mysql_contract(promise: MySQLPromise, server: Server) -> None:
    server.fresh()
    promise(server)


def wait_until_stopped(pid: int) -> None:
    """A stop signal takes effect a moment after it was sent, thread by thread."""
    deadline = time.monotonic() + 10
    while not all(
        task.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "T"
        for task in Path(f"/proc/{pid}/task").iterdir()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.integration
def test_a_server_that_hangs(server: Private) -> None:
    server.fresh()
    history = server.open()
    history.add_records(R, [full(1.0)])
    server.process.send_signal(signal.SIGSTOP)
    try:
        wait_until_stopped(server.process.pid)
        history.deadline = time.monotonic() + 1
        began = time.monotonic()
        with pytest.raises(HistoryUnavailable, match="no answer until the deadline"):
            history.add_sample(R, full(2.0))
        with pytest.raises(HistoryUnavailable, match=r"no answer|no time was left"):
            history.replicas()
        assert time.monotonic() - began < 4
    finally:
        server.process.send_signal(signal.SIGCONT)
    history.deadline = time.monotonic() + 10
    assert full(1.0) in stored(history)
    history.close()
