"""Which server it is that answers: its identity, its address, and names that come to mean another server."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from conftest import run_python
from listeners import (
    HEALTHY,
    STATUS,
    STATUS_ANSWER,
    Talk,
    error,
    heard,
    listening,
    logged_in,
    okay,
    speaking,
    stamp,
    table,
)

from check_delayed_repl.observe import names
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.observe.target import Target
from check_delayed_repl.records import Sample

NOON = 1795348800.0
UUIDS = b"11111111-e915-11f1-96e9-0242ac1c0002", b"22222222-e915-11f1-96e9-0242ac1c0002"
MARIADB, MYSQL = b"5.5.5-10.11.18-MariaDB", b"8.4.0"


def sampled(target: Target, seconds: float = 2.0) -> Sample:
    observer = Observer(target)
    sample = observer.sample(time.monotonic() + seconds, None)
    observer.close()
    return sample


def answering(version: bytes, with_status: bytes | None, with_beats: bytes | None, kind: int = 253) -> Talk:
    """A replica that says who it is, in either statement; None where it cannot. `kind` is the type of `ts`."""

    def talk(caller: socket.socket) -> None:
        logged_in(caller, version)
        while statement := heard(caller):
            if b"SHOW" in statement and b"SELECT" in statement and with_status is not None:
                first = table(list(STATUS), list(STATUS.values()), more=True)
                caller.sendall(first + table([b"who"], [with_status], after=first[-6]))
            elif b"SHOW" in statement:
                caller.sendall(STATUS_ANSWER)
            elif b"SELECT" in statement:
                names = [b"server_id", b"ts", b"clock", b"own", b"who"]
                beats = ((b"1", stamp(NOON - 3.25)), (b"2", stamp(NOON - 1)))
                rows = [[*beat, b"%.6f" % NOON, b"2", with_beats] for beat in beats]
                caller.sendall(table(names, *rows, kinds=[3, kind, 246, 8]))
            else:
                caller.sendall(okay(1))

    return talk


@pytest.mark.parametrize(
    ("version", "said", "server"),
    [
        (MYSQL, UUIDS[0], "uuid:" + UUIDS[0].decode()),
        (MARIADB, b"zBC/kK8eA=/9/3306", "uid:zBC/kK8eA=/9/3306"),
        (MARIADB, b"unknown/9/3306", "id:9/3306"),
        (MARIADB, b"/9/3306", "id:9/3306"),
        (MARIADB, b"9/3306", "id:9/3306"),
        (MYSQL, None, None),
    ],
)
def test_a_servers_identity(version: bytes, said: bytes | None, server: str | None) -> None:
    with listening(answering(version, said, said)) as target:
        sample = sampled(target)
    assert (sample.error, sample.delay, sample.server) == (None, 3.25, server)


def test_two_servers_behind_one_address() -> None:
    with listening(answering(MYSQL, *UUIDS)) as target:
        sample = sampled(target)
    assert (sample.error, sample.delay, sample.server) == ("status-unreadable", None, None)
    assert str(sample.message).startswith(
        f"two servers answer here: uuid:{UUIDS[0].decode()} with the replication status, uuid:{UUIDS[1].decode()} with"
    )
    # One that does not say is not another one.
    for talk in (answering(MYSQL, UUIDS[0], None), answering(MYSQL, None, UUIDS[0])):
        with listening(talk) as target:
            assert sampled(target).delay == 3.25


@pytest.mark.parametrize(
    ("version", "shown", "server"),
    [
        (MYSQL, {b"port": b"3306", b"server_id": b"9", b"server_uuid": UUIDS[0]}, UUIDS[0]),
        (MARIADB, {b"port": b"3306", b"server_id": b"9", b"server_uid": b"zBC/kK8eA="}, b"zBC/kK8eA=/9/3306"),
        (MARIADB, {b"port": b"3306", b"server_id": b"9"}, b"9/3306"),
        (MYSQL, None, UUIDS[0]),
    ],
)
def test_behind_a_proxy_that_takes_one_statement_at_a_time(
    version: bytes, shown: dict[bytes, bytes] | None, server: bytes
) -> None:
    def splitting(says: bytes) -> Talk:
        def talk(caller: socket.socket) -> None:
            logged_in(caller, version)
            while statement := heard(caller):
                if b";" in statement or (b"VARIABLES" in statement and b"SHOW" in statement and shown is None):
                    caller.sendall(error(1, 1235, b"one at a time"))
                elif b"SHOW GLOBAL VARIABLES" in statement:
                    caller.sendall(table([b"Variable_name", b"Value"], *(list(one) for one in (shown or {}).items())))
                elif b"SHOW" in statement:
                    caller.sendall(STATUS_ANSWER)
                elif b"SELECT" in statement:
                    rows = [[one, stamp(NOON - 1), b"%.6f" % NOON, b"2", says] for one in (b"1", b"2")]
                    caller.sendall(table([b"server_id", b"ts", b"clock", b"own", b"who"], *rows))
                else:
                    caller.sendall(okay(1))

        return talk

    with listening(splitting(server)) as target:
        observer = Observer(target)
        for _ in range(2):
            sample = observer.sample(time.monotonic() + 2, None)
            assert (sample.error, (sample.server or "").partition(":")[2]) == (None, server.decode())
        observer.close()
    with listening(splitting(b"another/7/3306")) as target:
        sample = sampled(target)
    assert "two servers answer here" in str(sample.message) or shown is None


def test_an_address_with_a_zone() -> None:
    with listening(HEALTHY, host="::1") as target:
        assert sampled(target._replace(host="::1%1")).delay == 3.25
    assert "cannot be resolved" not in str(sampled(Target(host="fe80::1%lo", user="u")).message)
    assert sampled(Target(host="fe80::1%nowhere", user="u"), 5.0).error == "connect-failed"


def test_no_file_descriptor_is_left() -> None:
    code = """
import os, resource, socket, time
from check_delayed_repl.observe import names
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.observe.target import Target
server = socket.create_server(("127.0.0.1", 0))
there = Target(host="127.0.0.1", port=server.getsockname()[1], user="u")
used = len(os.listdir("/proc/self/fd")) - 1
targets = (there, Target(socket="/nowhere", user="u"), Target(host="db.x", user="u"))
# With one left there is none to load the driver from.
for left, target in [(1, there), *((0, target) for target in targets)]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + left,) * 2)
    sample = Observer(target).sample(time.monotonic() + 5, None)
    print(sample.error, "out of file descriptors" in sample.message)
"""
    done = run_python("-c", code)
    assert (done.stderr, done.stdout) == ("", "connect-failed True\n" * 4)


class Resolver:
    """Stands for the system's resolver: one address, none, an error, or nothing at all for a while."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: str | OSError | threading.Event | None = "127.0.0.1"

    def __call__(self, host: str, *_: object, **__: object) -> list[object]:
        self.asked.append(host)
        answer = self.answer
        if isinstance(answer, threading.Event):
            answer.wait(10)
            raise OSError
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, 0))] if answer else []


def test_a_name_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    for setting, value in (("AGAIN_S", 0.02), ("FRESH_S", 0.01), ("_names", {})):
        monkeypatch.setattr(names, setting, value)
    elsewhere = speaking(okay(1), table([b"x"]))
    with listening(HEALTHY) as here, listening(elsewhere, host="127.0.0.2", port=here.port or 0):
        observers = [Observer(here._replace(host="db.example")) for _ in range(5)]

        def found() -> set[str | None]:
            return {observer.sample(time.monotonic() + 5, None).error for observer in observers}

        assert found() == {None}
        hanging = threading.Event()
        for nothing in (OSError(-3, "Temporary failure in name resolution"), None, hanging):
            resolver.answer = nothing
            asked = len(resolver.asked)
            for _ in range(3):
                time.sleep(names.AGAIN_S)
                assert found() == {None}
            assert len(resolver.asked) > asked
        hanging.set()
        resolver.answer = "127.0.0.2"
        deadline = time.monotonic() + 30
        while found() != {"not-a-replica"}:
            assert time.monotonic() < deadline
        resolver.answer = "127.0.0.1"
        time.sleep(3 * names.AGAIN_S)
        monkeypatch.setattr(names, "MOMENT_S", 10)
        assert found() == {None}, "at once, where the connection was not used for long"
        for observer in observers:
            observer.close()
        assert set(resolver.asked) == {"db.example"}


def test_a_name_is_asked_for_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver()
    resolver.answer = hanging = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(names, "_names", {})
    deadline = time.monotonic() + 0.2
    errors: list[str | None] = []
    threads = [
        threading.Thread(
            target=lambda port: errors.append(
                Observer(Target(host="db.example", port=port, user="u")).sample(deadline, None).error
            ),
            args=(port,),
        )
        for port in range(3306, 3326)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    hanging.set()
    assert errors == ["timeout"] * 20
    assert resolver.asked == ["db.example"]


def test_a_name_is_asked_for_where_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, start = Resolver(), threading.Thread.start
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    for setting, value in (("AGAIN_S", 0.0), ("FRESH_S", 0.0), ("_names", {})):
        monkeypatch.setattr(names, setting, value)

    def scarce(thread: threading.Thread) -> None:
        if thread.name == "resolver":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with listening(HEALTHY) as target:
        observer = Observer(target._replace(host="db.example"))
        errors = [observer.sample(time.monotonic() + 5, None).error for _ in range(2)]
        resolver.answer = "127.0.0.2"
        errors.append(observer.sample(time.monotonic() + 5, None).error)
        observer.close()
    assert errors == [None, None, "server-down"], "an open connection follows its name"
    resolver.answer = OSError(-2, "Name or service not known")
    failed = sampled(Target(host="db.example", port=1, user="u"))
    assert (failed.error, "Name or service not known" in str(failed.message)) == ("connect-failed", True)
