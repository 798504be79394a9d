"""A password leaves this host over TCP only inside TLS, and no server makes a sample take much memory."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time

import pytest
from conftest import wait_until
from listeners import asked_for_status, greeting, listening, packet, saying, table

from check_delayed_repl.observe.sample import Observer

KEY = b"-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMSl\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("switched", [False, True])
@pytest.mark.parametrize("plugin", [b"caching_sha2_password", b"sha256_password"])
def test_no_password_under_a_key_that_the_other_side_offers(plugin: bytes, switched: bool) -> None:
    received: list[bytes] = []
    turns = [greeting(plugin=b"mysql_native_password" if switched else plugin)]
    if switched:
        turns.append(packet(2, b"\xfe" + plugin + b"\0" + b"C" * 20 + b"\0"))
    if plugin.startswith(b"caching"):
        turns.append(packet(2 * len(turns), b"\x01\x04"))
    elif not switched:
        turns.append(packet(2, b"\x01" + KEY))
    with listening(saying(*turns, into=received)) as target:
        sample = Observer(target).sample(time.monotonic() + 2, None)
        wait_until(lambda: received)
    assert sample.error == "connect-failed"
    assert "use --ssl-mode required" in str(sample.message)
    assert received == [b""]


@pytest.mark.parametrize(
    ("plugin", "says"),
    [
        (b"client_ed25519", "client_ed25519 needs the Python package PyNaCl"),
        (b"parsec", "authentication method parsec is not supported"),
    ],
)
def test_an_authentication_method_that_is_not_there(plugin: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nacl", None)
    with listening(saying(greeting(), packet(2, b"\xfe" + plugin + b"\0" + b"D" * 32))) as target:
        assert says in str(Observer(target).sample(time.monotonic() + 2, None).message)


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
        done = subprocess.run(
            [sys.executable, "-c", code, str(target.port)], capture_output=True, text=True, timeout=60
        )
    assert (done.stderr, done.stdout) == ("", "True True\n")
