"""Small servers for tests: enough of the protocol to log in, and every way to be unkind.

What a real server says is tested with real servers; this is what none of them would do for a test.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, repeat

from check_delayed_repl.observe.target import Target

PASSWORD = "geheim-7"
SSL, PLUGIN_AUTH = 1 << 11, 1 << 19
CAPABILITIES = 0x00FFF7FF & ~SSL | PLUGIN_AUTH

Talk = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(*talks: Talk, path: str | None = None, host: str = "127.0.0.1", port: int = 0) -> Iterator[Target]:
    """A server that treats its first caller as the first talk says, and so on; the last one for all that follow."""
    if path is None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
        target = Target(host=host, port=listener.getsockname()[1], user="monitor", password=PASSWORD)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        target = Target(socket=path, user="monitor", password=PASSWORD)
    callers: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                callers.append(caller)
                threading.Thread(
                    target=one, args=(caller, talks[min(len(callers), len(talks)) - 1]), daemon=True
                ).start()

    def one(caller: socket.socket, talk: Talk) -> None:
        with contextlib.suppress(OSError):
            talk(caller)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield target
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(2)  # first, so that nobody is let in after this
        for caller in callers:
            caller.close()


# --- what a server says, in its own words ---


def packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number % 256]) + payload


def greeting(
    version: bytes = b"8.4.0", capabilities: int = CAPABILITIES, plugin: bytes = b"mysql_native_password"
) -> bytes:
    return packet(
        0,
        b"\x0a" + version + b"\0" + struct.pack("<I", 7) + b"A" * 8 + b"\0"
        + struct.pack("<HBHHB", capabilities & 0xFFFF, 45, 2, capabilities >> 16, 21)
        + b"\0" * 10 + b"B" * 12 + b"\0" + plugin + b"\0",
    )  # fmt: skip


def error(number: int, code: int, text: bytes) -> bytes:
    return packet(number, b"\xff" + struct.pack("<H", code) + b"#HY000" + text)


def okay(number: int) -> bytes:
    return packet(number, b"\0\0\0\x02\0\0\0")


def heard(caller: socket.socket) -> bytes:
    head = caller.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        raise OSError
    return caller.recv(int.from_bytes(head[:3], "little"), socket.MSG_WAITALL)


def text(value: bytes | None) -> bytes:
    if value is None:
        return b"\xfb"
    return (bytes([len(value)]) if len(value) < 251 else b"\xfc" + struct.pack("<H", len(value))) + value


def table(
    columns: list[bytes], *rows: list[bytes | None], kinds: Iterable[int] = (), after: int = 0, more: bool = False
) -> bytes:
    """A table. `kinds`: types of its columns. It follows packet `after`; where there is `more`, another follows it."""
    parts = [bytes([len(columns)])]
    for column, kind in zip(columns, chain(kinds, repeat(253)), strict=False):
        parts.append(text(b"def") + text(b"") * 3 + text(column) + text(b""))
        parts[-1] += struct.pack("<BHIBHBH", 12, 45, 255, kind, 0, 0, 0)
    parts.append(b"\xfe\0\0\x02\0")
    parts += [b"".join(text(value) for value in row) for row in rows]
    parts.append(b"\xfe\0\0\x0a\0" if more else b"\xfe\0\0\x02\0")
    return b"".join(packet(number, part) for number, part in enumerate(parts, after + 1))


def logged_in(caller: socket.socket, version: bytes = b"8.4.0") -> None:
    caller.sendall(greeting(version))
    heard(caller)
    caller.sendall(okay(2))


def asked_for_status(caller: socket.socket) -> None:
    """A sample up to its first question."""
    logged_in(caller)
    heard(caller)
    caller.sendall(okay(1))
    heard(caller)


def saying(*turns: bytes, into: list[bytes] | None = None) -> Talk:
    """Says these, hears a packet between each two, and says nothing more; what comes then is kept."""

    def talk(caller: socket.socket) -> None:
        for number, turn in enumerate(turns):
            if number:
                heard(caller)
            caller.sendall(turn)
        received = caller.recv(1000)
        if into is not None:
            into.append(received)

    return talk


silent = saying()


def speaking(*answers: bytes) -> Talk:
    """Logs in and answers one statement after the other, the last answer for all that follow."""

    def talk(caller: socket.socket) -> None:
        logged_in(caller)
        rest = list(answers)
        while heard(caller):
            caller.sendall(rest.pop(0) if len(rest) > 1 else rest[0])

    return talk


STATUS = {
    b"Replica_IO_Running": b"Yes",
    b"Replica_SQL_Running": b"Yes",
    b"Source_Server_Id": b"1",
    b"Source_Log_File": b"bin.000001",
    b"Read_Source_Log_Pos": b"900",
    b"Relay_Source_Log_File": b"bin.000001",
    b"Exec_Source_Log_Pos": b"800",
    b"Relay_Log_Space": b"4096",
    b"Seconds_Behind_Source": b"3",
    b"Last_IO_Errno": b"0",
    b"Last_IO_Error": b"",
    b"Last_SQL_Errno": b"0",
    b"Last_SQL_Error": b"",
    b"SQL_Delay": b"3",
    b"SQL_Remaining_Delay": None,
}
STATUS_ANSWER = table(list(STATUS), list(STATUS.values()))
BEATS_ANSWER = table(
    [b"server_id", b"ts", b"clock", b"own"],
    [b"1", b"2026-11-23T01:00:00.000000", b"1795395603.250000", b"2"],
    [b"2", b"2026-11-23 01:00:02", b"1795395603.250000", b"2"],
)


def replica(status: Callable[[], bytes], beats: Callable[[], bytes]) -> Talk:
    """Answers for every sample, for as long as it is asked."""

    def talk(caller: socket.socket) -> None:
        logged_in(caller)
        while statement := heard(caller):
            caller.sendall(status() if b"SHOW" in statement else beats() if b"SELECT" in statement else okay(1))

    return talk


HEALTHY = replica(lambda: STATUS_ANSWER, lambda: BEATS_ANSWER)


def living(delay: float = 5.0, **said: bytes) -> Talk:
    """A healthy replica whose line moves: its clock is this machine's, and its source writes all the time.

    `said`: columns of its status that read otherwise.
    """

    def status() -> bytes:
        place, delayed = int(time.time() * 100) % 10**9, b"%d" % delay
        row = STATUS | {
            b"Read_Source_Log_Pos": b"%d" % (place + 100),
            b"Exec_Source_Log_Pos": b"%d" % place,
            **dict.fromkeys((b"SQL_Delay", b"Seconds_Behind_Source"), delayed),
            b"SQL_Remaining_Delay": b"1",
            **{name.encode(): value for name, value in said.items()},
        }
        return table(list(row), list(row.values()))

    def beats() -> bytes:
        clock = time.time()
        rows = [[one, stamp(clock - age), b"%.6f" % clock, b"2"] for one, age in ((b"1", delay), (b"2", 0.5))]
        return table([b"server_id", b"ts", b"clock", b"own"], *rows)

    return replica(status, beats)


def stamp(t: float) -> bytes:
    """A time as pt-heartbeat writes it."""
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").encode()


class Moody:
    """A peer that is well, or treats its callers as `unkind` says; whenever it changes, it hangs up on them all."""

    def __init__(self, unkind: Talk, kind: Talk | None = None) -> None:
        self._unkind = unkind
        self._kind = kind or living()
        self._callers: list[socket.socket] = []
        self.well = True

    def __call__(self, caller: socket.socket) -> None:
        self._callers.append(caller)
        (self._kind if self.well else self._unkind)(caller)

    def turn(self, well: bool) -> None:
        self.well = well
        callers, self._callers = self._callers, []
        for caller in callers:
            with contextlib.suppress(OSError):
                caller.shutdown(socket.SHUT_RDWR)


def dripping(what: bytes) -> Talk:
    def talk(caller: socket.socket) -> None:
        for byte in what:
            caller.sendall(bytes([byte]))
            time.sleep(0.05)

    return talk
