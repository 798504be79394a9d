"""Samples of servers that are none, or not kind: small listeners that are silent, drip, flood, lie or curse.

What a real server says is tested with real servers; this is what none of them would do for a test.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import run_python, wait_until
from listeners import (
    BEATS_ANSWER,
    CAPABILITIES,
    HEALTHY,
    PASSWORD,
    SSL,
    STATUS_ANSWER,
    Talk,
    asked_for_status,
    error,
    greeting,
    heard,
    listening,
    logged_in,
    okay,
    packet,
    saying,
    speaking,
    table,
)

from check_delayed_repl.observe import connection as connection_module
from check_delayed_repl.observe.connection import ask, connect
from check_delayed_repl.observe.failures import ConnectFailed
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.observe.target import Target
from check_delayed_repl.observe.wire import Connection, PyMySQLConnection
from check_delayed_repl.records import Sample


def sampled(target: Target, seconds: float = 0.6) -> Sample:
    observer = Observer(target)
    before = time.monotonic()
    sample = observer.sample(before + seconds, None)
    assert time.monotonic() - before < max(seconds, 0.0) + 1.2
    observer.close()
    if sample.message is not None:
        assert PASSWORD not in sample.message
        assert sample.message.isprintable()
        assert len(sample.message) < 700
    return sample


def refused(talk: Talk, says: str, seconds: float = 0.6, received: list[bytes] | None = None, **changes: Any) -> None:
    """A sample of a server that treats its caller so fails for the reason that `says`, once all is received."""
    with listening(talk) as target:
        sample = sampled(target._replace(**changes), seconds)
        wait_until(lambda: received is None or received)
    assert sample.error == "connect-failed"
    assert says in str(sample.message)


def sent(*turns: bytes, says: str, **changes: Any) -> bytes:
    """What such a server gets to hear after the last of its turns."""
    received: list[bytes] = []
    refused(saying(*turns, into=received), says, received=received, **changes)
    return received[0]


# --- the deadline ---


def test_a_server_that_falls_silent_at_any_point() -> None:
    asked = (greeting(), okay(2), okay(1))
    for said, when in (
        ((), "logging in"),
        ((greeting()[:20],), "logging in"),
        ((greeting(),), "logging in"),
        ((greeting(), okay(2)), "preparing the session"),
        ((*asked, STATUS_ANSWER[:-9]), "reading the replication status"),
    ):
        with listening(saying(*said)) as target:
            sample = sampled(target, 0.4)
        assert sample.error == "timeout"
        assert sample.message == f"127.0.0.1:{target.port}: no answer within 0.4 s ({when})"


def test_an_interrupted_question_gets_no_answer_later() -> None:
    with listening(saying(greeting(), okay(2))) as target:
        connection = connect(target, time.monotonic() + 60, raw=True)
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(KeyboardInterrupt):
                ask(connection, "SELECT 1", "asking")
        finally:
            signal.signal(signal.SIGALRM, before)
        assert not connection.open


def test_a_question_after_the_end_is_told_why_it_ended() -> None:
    with listening(saying(greeting(), okay(2))) as target:
        connection = connect(target, time.monotonic() + 60, raw=True)
        for seconds, purpose in ((0.1, "asking"), (60.0, "tidying up")):
            connection.until(time.monotonic() + seconds)
            with pytest.raises(ConnectFailed, match=r"no answer within 0\.1 s \(asking\)"):
                ask(connection, "SELECT 1", purpose)


def test_a_full_queue_of_connections(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        for _ in range(8):
            caller = stack.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(path)
        assert sampled(Target(socket=path, user="monitor")).error == "timeout"


def test_a_deadline_that_has_passed(tmp_path: Path) -> None:
    with listening(HEALTHY) as target:
        assert sampled(target, -1.0).error == "timeout"
        assert sampled(target._replace(host="localhost"), 0.0).error == "timeout"
    assert sampled(Target(socket=str(tmp_path / "s.sock"), user="u"), -1.0).error == "timeout"


def test_a_name_service_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hang(*_: object, **__: object) -> None:
        asked.append(1)
        time.sleep(1.5)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    for _ in range(3):
        assert sampled(Target(host="db.example", user="u"), 0.2).message == (
            "db.example:3306: no answer within 0.2 s (resolving the host's name)"
        )
    assert len(asked) == 1


# --- too much, and nonsense ---


def flooding(begin: bytes, again: bytes) -> Talk:
    def talk(caller: socket.socket) -> None:
        asked_for_status(caller)
        caller.sendall(begin)
        number = begin.count(b"def") + 3
        many = 4096 // len(again) + 1
        while True:
            caller.sendall(b"".join(packet(number + place, again) for place in range(many)))
            number += many

    return talk


@pytest.mark.parametrize("row", [b"\x01a", b"\xfc\xff\x3f" + b"a" * 0x3FFF], ids=["many small rows", "large rows"])
def test_an_answer_without_end(row: bytes) -> None:
    refused(flooding(table([b"a"])[:-9], row), "reply too large (reading the replication status)", 20.0)


def test_a_packet_that_claims_to_be_huge() -> None:
    refused(lambda caller: caller.sendall(b"\xff\xff\xff\0" + b"x" * 100), "reply too large")


def test_a_file_that_the_server_asks_for_is_not_sent() -> None:
    asked_for = packet(1, b"\xfb/etc/passwd")
    # Nothing more than goodbye.
    assert sent(greeting(), okay(2), asked_for, says="") in (b"", b"\x01\0\0\0\x01")


# --- errors in the server's words ---


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (1040, "too many connections"),
        (1045, "access denied: check --user, --password and the option file"),
        (1129, "this host is blocked"),
        (1130, "this host is not allowed"),
        (4321, "the server refused the connection (error 4321"),
    ],
)
def test_a_server_that_refuses(code: int, says: str) -> None:
    curse = f"for {PASSWORD} \x1b[31m\r\nOK|x=1 ‮".encode() + b"\xff" + b"x" * 5000
    for said in (error(0, code, curse), greeting() + error(2, code, curse)):
        for words in (says, "for *** ?[31m OK|x=1"):
            refused(saying(said), words)


def test_errors_of_the_status_and_the_heartbeats() -> None:
    with listening(speaking(okay(1), STATUS_ANSWER, error(1, 1146, b"no table"))) as target:
        sample = sampled(target)
    # What was seen before stays in the sample.
    assert (sample.error, sample.io, sample.source_log) == ("heartbeat-missing", "Yes", ("bin.000001", 900))
    says = "the session cannot be prepared (error 1193: unknown variable)"
    refused(speaking(error(1, 1193, b"unknown variable")), says)


# --- a server that works ---


def test_a_sample(tmp_path: Path) -> None:
    with listening(HEALTHY) as target, listening(HEALTHY, path=str(tmp_path / "s.sock")) as local:
        for one in (target, local):
            sample = sampled(one)
            assert sample._replace(t=0.0) == Sample(
                t=0.0,
                delay=3.25,
                ts=1795395600.0,
                source_id=1,
                heartbeat_id=1,
                local=1.25,
                io="Yes",
                sql="Yes",
                io_errno=0,
                sql_errno=0,
                source_log=("bin.000001", 900),
                relay_log=("bin.000001", 800),
                relay_log_space=4096,
                sql_delay=3,
                seconds_behind=3,
                filters=(),
                relay_limited=False,
            )
            assert abs(sample.t - time.time()) < 1
        assert sampled(target._replace(local_heartbeat=False)).local is None
        assert sampled(target._replace(master_server_id=5)).error == "heartbeat-missing"
        assert sampled(target._replace(heartbeat_timezone="Europe/Berlin")).delay == 3603.25
        assert sampled(target._replace(heartbeat_timezone="Mars/Olympus")).error == "heartbeat-unreadable"


def with_beats(*rows: list[bytes | None]) -> Talk:
    return speaking(okay(1), STATUS_ANSWER, table([b"server_id", b"ts", b"clock", b"own"], *rows))


def test_heartbeats_that_cannot_be_used() -> None:
    clock, own = b"1795395603.250000", b"2"
    good = b"2026-11-23T01:00:00"
    with listening(with_beats([b"1", None, clock, own], [b"2", good, clock, own])) as target:
        sample = sampled(target)
    assert (sample.error, sample.delay, sample.local) == ("heartbeat-unreadable", None, 3.25)
    assert sample.message == "percona.heartbeat: the ts of server 1 is no time: NULL"
    with listening(with_beats([b"1", good, clock, own], [b"2", b"<b>\0", clock, own])) as target:
        sample = sampled(target)
    assert (sample.error, sample.delay, sample.local) == ("heartbeat-unreadable", 3.25, None)
    assert sample.message == "percona.heartbeat: the ts of this server's own row is no time: '<b>?'"
    with listening(with_beats([b"1", good, clock, own])) as target:
        sample = sampled(target)
    assert (sample.error, sample.delay, sample.local_missing) == (None, 3.25, True)
    before = Sample(t=0.0, source_id=3, heartbeat_id=3)
    for rows, says, source in (([b"3", b"2"], None, 1), ([b"2"], "heartbeat-missing", None)):
        with listening(with_beats(*([row, good, clock, own] for row in rows))) as target:
            sample = Observer(target).sample(time.monotonic() + 1, before)
        # While it cannot be decided that the source has changed, the sample does not say so.
        assert (sample.error, sample.source_id) == (says, source)


def test_a_connection_is_kept_and_made_again() -> None:
    logins: list[int] = []

    def leaves_after_a_sample(caller: socket.socket) -> None:
        logins.append(1)
        logged_in(caller)
        for answer in (okay(1), STATUS_ANSWER, BEATS_ANSWER):
            heard(caller)
            caller.sendall(answer)
        caller.shutdown(socket.SHUT_RDWR)

    def stays(caller: socket.socket) -> None:
        logins.append(1)
        HEALTHY(caller)

    with listening(leaves_after_a_sample, stays) as target:
        observer = Observer(target)
        for expected in (1, 2, 2, 2):
            assert observer.sample(time.monotonic() + 1, None).delay == 3.25
            assert len(logins) == expected
        observer.close()


def test_a_server_that_stops_in_the_middle_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def stops() -> None:
            caller, _ = listener.accept()
            logged_in(caller)
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            heard(caller)
            caller.sendall(error(1, 1053, b"Server shutdown in progress"))
            caller.close()

        threading.Thread(target=stops, daemon=True).start()
        sample = sampled(Target(host="127.0.0.1", port=listener.getsockname()[1], user="u"), 3.0)
    assert sample.error == "server-down"
    assert "connection refused" in str(sample.message)


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert sampled(Target(host="127.0.0.1", port=port, user="u")).error == "server-down"
    assert sampled(Target(host="localhost", port=port, user="u")).error == "server-down"
    path = tmp_path / "s.sock"
    assert sampled(Target(socket=str(path), user="u")).error == "server-down"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    assert sampled(Target(socket=str(path), user="u")).error == "server-down"
    path.unlink()
    path.write_text("")
    assert sampled(Target(socket=str(path), user="u")).error in ("server-down", "connect-failed")
    assert sampled(Target(socket="/" + "x" * 200, user="u")).error == "connect-failed"
    assert sampled(Target(host="no such host", user="u"), 5.0).error == "connect-failed"
    assert sampled(Target(host="a" * 300, user="u"), 5.0).error == "connect-failed"
    assert sampled(Target(host="x", user="u", defaults_file=str(tmp_path / "gone.cnf"))).error == "connect-failed"
    assert sampled(Target(host="127.0.0.1", port=port, user="u\0v")).error == "connect-failed"


def test_nobody_else_s_socket_is_taken_for_the_server_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "mysql.sock")
    monkeypatch.setattr(connection_module, "SOCKETS", (str(tmp_path / "gone"), path))
    target = Target(host="localhost", user="monitor", password=PASSWORD)
    with listening(HEALTHY, path=path):
        assert sampled(target).delay == 3.25
        monkeypatch.setattr(connection_module, "_ANYBODYS", str(tmp_path))
        assert sampled(target).delay == 3.25, "our own"
        named: list[str] = ["nobody", "mysql"]
        monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_name=named.pop(0)))
        real = os.lstat
        monkeypatch.setattr(os, "lstat", lambda at: SimpleNamespace(st_uid=1) if at == path else real(at))
        assert sampled(target).delay is None
        assert sampled(target).delay == 3.25, "the server's"


# --- TLS ---


@pytest.mark.parametrize("mode", ["required", "verify-ca", "verify-identity"])
def test_no_login_without_the_tls_that_was_asked_for(mode: str) -> None:
    assert sent(greeting(), says="TLS failed: the server offers no TLS", ssl_mode=mode) == b""


@pytest.mark.parametrize("mode", [None, "preferred", "required"])
def test_no_login_where_the_server_offers_tls_and_cannot(mode: str | None) -> None:
    received: list[bytes] = []

    def talk(caller: socket.socket) -> None:
        caller.sendall(greeting(capabilities=CAPABILITIES | SSL))
        received.append(heard(caller))
        caller.recv(5)
        caller.sendall(b"\x15\x03\x01\0\x02\x02\x28")
        time.sleep(0.1)

    # It may be the client's certificate that the server does not like.
    refused(talk, "check --ssl-mode, --ssl-ca and --ssl-cert", ssl_mode=mode)
    assert len(received[0]) == 32  # the wish for TLS, without a user's name


def test_tls_files_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for settings, says in (
        ({"ssl_mode": "verify-ca", "ssl_ca": str(tmp_path / "gone.pem")}, "--ssl-ca"),
        ({"ssl_mode": "verify-ca", "ssl_ca": str(tmp_path / "empty.pem")}, "--ssl-ca"),
        ({"ssl_cert": str(tmp_path / "empty.pem")}, "--ssl-cert"),
        ({"ssl_key": str(tmp_path / "empty.pem")}, "--ssl-key without --ssl-cert"),
    ):
        refused(saying(greeting(capabilities=CAPABILITIES | SSL)), says, **settings)


@pytest.mark.parametrize("plugin", [b"mysql_clear_password", b"dialog", b"mysql_old_password"])
def test_no_password_in_clear_text(plugin: bytes) -> None:
    asked_for = packet(2, b"\xfe" + plugin + b"\0\x02Password: \0")
    assert PASSWORD.encode() not in sent(greeting(), asked_for, says="use --ssl-mode required")


# --- what it costs ---


def test_a_sample_over_a_plain_connection_loads_no_tls(tmp_path: Path) -> None:
    code = """
import sys, time
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.observe.target import Target
print(Observer(Target(socket=sys.argv[1], user="u", password="p")).sample(time.monotonic() + 5, None).delay)
print(*sorted({"ssl", "traceback", "cryptography", "logging", "dataclasses", "inspect", "zoneinfo"} & set(sys.modules)))
print(*sorted({"hashlib", "_hashlib", "configparser", "getpass"} & set(sys.modules)))
import hashlib, pymysql.connections
print(pymysql.connections.ssl.SSLContext.__name__, pymysql._auth.hashlib.sha512 is hashlib.sha512)
"""
    with listening(HEALTHY, path=str(tmp_path / "s.sock")) as target:
        done = run_python("-c", code, str(target.socket))
    assert done.stderr == ""
    assert done.stdout == "3.25\n\n\nSSLContext True\n"


KEY = b"-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMSl\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("switched", [False, True])
@pytest.mark.parametrize("plugin", [b"caching_sha2_password", b"sha256_password"])
def test_no_password_under_a_key_that_the_other_side_offers(plugin: bytes, switched: bool) -> None:
    turns = [greeting(plugin=b"mysql_native_password" if switched else plugin)]
    if switched:
        turns.append(packet(2, b"\xfe" + plugin + b"\0" + b"C" * 20 + b"\0"))
    if plugin.startswith(b"caching"):
        turns.append(packet(2 * len(turns), b"\x01\x04"))
    elif not switched:
        turns.append(packet(2, b"\x01" + KEY))
    assert sent(*turns, says="use --ssl-mode required", seconds=2.0) == b""


@pytest.mark.parametrize(
    ("plugin", "says"),
    [
        (b"client_ed25519", f"PyNaCl: install it ({sys.executable} -m pip install PyNaCl)"),
        (b"parsec", "authentication method parsec is not supported"),
    ],
)
def test_an_authentication_method_that_is_not_there(plugin: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nacl", None)
    refused(saying(greeting(), packet(2, b"\xfe" + plugin + b"\0" + b"D" * 32)), says, 2.0)


def test_an_account_of_another_method_than_the_server_greets_with_in_the_oldest_pymysql(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(PyMySQLConnection, "_process_auth", lambda _, plugin, packet: asked.append((plugin, packet)))
    Connection._process_auth(Connection.__new__(Connection), b"mysql_native_password", "packet")
    assert asked == [(b"mysql_native_password", "packet")]


@pytest.mark.parametrize("many", [100_000, 400])
def test_an_unkind_answer_takes_little_memory(many: int) -> None:
    code = """
import resource, sys, time
from check_delayed_repl.observe import wire
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.observe.target import Target
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sample = Observer(Target(host="127.0.0.1", port=int(sys.argv[1]), user="u")).sample(time.monotonic() + 20, None)
print("reply too large" in sample.message, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000)
"""

    def talk(caller: socket.socket) -> None:
        asked_for_status(caller)
        whole = table([b"a"])
        column = whole[9 : 9 + int.from_bytes(whole[5:8], "little")]
        caller.sendall(packet(1, b"\xfd" + struct.pack("<I", many)[:3]))
        caller.sendall(b"".join(packet(number, column) for number in range(2, many + 2)))
        caller.sendall(packet(many + 2, b"\xfe\0\0\x02\0"))
        for number in range(many + 3, many + 8000):
            caller.sendall(packet(number, b"\x02ab" * many))

    with listening(talk) as target:
        done = run_python("-c", code, str(target.port))
    assert (done.stderr, done.stdout) == ("", "True True\n")
