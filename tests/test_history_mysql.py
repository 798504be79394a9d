"""The shared history: its URL, and servers that are none. What it promises is tested with real ones."""

from __future__ import annotations

import os
import socket
import time
from math import inf
from pathlib import Path

import pytest
from listeners import error, greeting, heard, listening, logged_in, okay, saying

from check_delayed_repl.history import HistoryUnavailable, open_history, without_password
from check_delayed_repl.history.mysql import parse_url
from check_delayed_repl.observe.target import Target


@pytest.mark.parametrize(
    ("url", "target", "name"),
    [
        ("mysql://db/h", Target(host="db"), "mysql://db/h"),
        (
            *("mysql://me:p%40ss%2F%23@db:3307/h-1", Target("db", 3307, user="me", password="p@ss/#")),
            "mysql://me@db:3307/h-1",
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
        assert time.monotonic() - began < 15

    def silent_later(caller: socket.socket) -> None:
        logged_in(caller)
        heard(caller)
        caller.sendall(okay(1))
        time.sleep(2)

    with listening(silent_later) as target, pytest.raises(HistoryUnavailable, match="d: no answer until the deadline"):
        open_history(f"mysql://me:s3cret@127.0.0.1:{target.port}/d", time.monotonic() + 0.5)


def test_a_server_that_falls_silent_while_nothing_is_asked() -> None:
    may_not_read = error(1, 1142, b"SELECT command denied")
    with listening(saying(greeting(), okay(2), okay(1), okay(1), okay(1), may_not_read)) as target:
        history = open_history(f"mysql://me:s3cret@127.0.0.1:{target.port}/d", time.monotonic() + 30)
        history._used = -inf  # type: ignore[attr-defined]
        history.deadline = time.monotonic() + 0.3
        with pytest.raises(HistoryUnavailable, match="d: no answer until the deadline"):
            history.now()


def test_a_defaults_file_that_is_not_there() -> None:
    with pytest.raises(HistoryUnavailable, match=r"/no/such\.cnf"):
        open_history("mysql://me@127.0.0.1/h?defaults-file=/no/such.cnf", time.monotonic() + 5)


@pytest.mark.parametrize(
    "meant",
    [
        *(f"mysql://{rest}" for rest in ("", "db", "db/", "db/a/b", "db/a`b", "db:port/h", "db:99999/h", "me:s3cret")),
        *(f"mysql://me:s3cret{rest}" for rest in ("/x@db/h", "#x@db/h", "@[db/h", "@db/h#x", "@db/h?s3cret")),
        *(f"mysql://me:s3cret@db/h?{rest}=s3cret" for rest in ("password", "ssl-mode")),
        *(f"mysql://{rest}:s3cret@h:1/db" for rest in ("u@x", "u/x")),
        *(f"{scheme}me:s3cret@db/x" for scheme in ("postgres://", "mysql:/", "MYSQL//", "mysql:", "mysql;//", "")),
        *(f"{scheme}me:s3cret@db/x" for scheme in ("my sql://", "'mysql://", " mysql://")),
        *("mysql//db/x", "mariadb:db/x"),
    ],
)
def test_what_is_meant_as_a_url_and_is_none(meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    says = "the history's URL" if meant.startswith("mysql://") else r"neither a file nor a URL .* with its folder: \./"
    with pytest.raises(HistoryUnavailable, match=says) as caught:
        open_history(meant, time.monotonic() + 1)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in without_password(meant)
    assert os.listdir() == [], "nor a file"


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("mysql://u:geheim@h:3306/db?socket=@x&ssl-mode=required", "mysql://u@h:3306/db?socket=@x&ssl-mode=required"),
        ("mysql://u@h/db?defaults-file=/a:b@c", "mysql://u@h/db?defaults-file=/a:b@c"),
        ("mysql://127.0.0.1:1/db?defaults-file=/x@y", "mysql://127.0.0.1:1/db?defaults-file=/x@y"),
        ("mysql://[::1]:3306/db", "mysql://[::1]:3306/db"),
        ("mysql://u:geh@eim@h/db", "mysql://u@h/db"),
        ("./a:b@c.db", "./a:b@c.db"),
        ("/var/lib/history.db", "/var/lib/history.db"),
    ],
)
def test_a_place_is_printed_without_its_password(given: str, printed: str) -> None:
    assert without_password(given) == printed
