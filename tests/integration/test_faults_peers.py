"""Who answers is not MySQL, or not sane: the check is back in time, the worker lives, and what is printed is safe."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from listeners import (
    BEATS_ANSWER,
    CAPABILITIES,
    PASSWORD,
    SSL,
    STATUS,
    STATUS_ANSWER,
    Moody,
    Talk,
    asked_for_status,
    error,
    greeting,
    heard,
    listening,
    okay,
    packet,
    silent,
    speaking,
    table,
)

from .checking import Outcome
from .fault_table import record
from .lone import INTERVAL_S, Lone, memory_of
from .matrix import essential
from .servers import wait_until

CURSE = (
    b"\x1b]0;owned\x07\x1b[2J\r\nOK - all is well | delay=1s\n[OK in-range] fine\0<script>alert(1)</script>"
    b"<img src=x onerror=`id`> $(reboot) %s%n \xe2\x80\xae\xff " + PASSWORD.encode() + b" "
)
HUGE = CURSE * (1_000_000 // len(CURSE))
WORKER_MEMORY_MIB = 150.0
"""For a worker with all of these peers at once."""


def then_nothing(*said: bytes) -> Talk:
    """Says this, and then keeps the line."""

    def talk(caller: socket.socket) -> None:
        for words in said:
            caller.sendall(words)
        caller.recv(1)
        time.sleep(60)

    return talk


def endless(caller: socket.socket) -> None:
    while True:
        caller.sendall(b"\x5a" * 65536)


def dripping(caller: socket.socket) -> None:
    """A byte a second, all of it right."""
    for byte in greeting():
        caller.sendall(bytes([byte]))
        time.sleep(1)


def endless_rows(caller: socket.socket) -> None:
    asked_for_status(caller)
    caller.sendall(table([b"a"])[:-9])
    number = 4
    while True:
        caller.sendall(b"".join(packet(number + place, b"\xfc\xff\x3f" + b"a" * 0x3FFF) for place in range(16)))
        number += 16


def hanging_up(caller: socket.socket) -> None:
    caller.shutdown(socket.SHUT_RDWR)


def tls_without_end(caller: socket.socket) -> None:
    caller.sendall(greeting(capabilities=CAPABILITIES | SSL))
    heard(caller)
    caller.sendall(b"\x16\x03\x03\x40\0")
    time.sleep(60)


def absurd(caller: socket.socket) -> None:
    """A version, capabilities and a way to log in that nobody has ever heard of."""
    caller.sendall(
        greeting(b"99999999999999999999.-1.\xff" + CURSE.replace(b"\0", b""), 0xFFFFFFFF & ~SSL, b"no|\x1b[1m<b>")
    )
    heard(caller)
    caller.sendall(packet(2, b"\xfe" + b"no|\x1b[1m<b>" * 20 + b"\0" + b"A" * 20 + b"\0"))
    time.sleep(60)


def with_status(**columns: bytes | None) -> bytes:
    status = STATUS | {name.encode(): value for name, value in columns.items()}
    return table(list(status), list(status.values()))


def with_beats(*rows: list[bytes | None]) -> Talk:
    return speaking(okay(1), STATUS_ANSWER, table([b"server_id", b"ts", b"clock", b"own"], *rows))


CUT = CURSE[:200]
TWO_CHANNELS = table([*STATUS, b"Channel_Name"], [*STATUS.values(), CUT], [*STATUS.values(), b"b"])
FRESH: list[bytes | None] = [b"1", b"2026-11-23T01:00:00", b"1795395603.25", b"2"]
CURSED: list[bytes | None] = [b"2", CUT, b"1795395603.25", b"2"]
LOGIN, SESSION = greeting(), okay(1)
NO_COLUMNS = table(list(STATUS), list(STATUS.values())[:3])
NULLS = table(list(STATUS), [None] * len(STATUS))
SQL_ERROR = with_status(Last_SQL_Errno=b"1062", Last_SQL_Error=CUT, Replica_SQL_Running=b"No")
TWO_FIELDS = table([b"server_id", b"ts"], [b"1", b"2026-11-23T01:00:00"])
CLEARTEXT = packet(2, b"\xfemysql_clear_password\0")
WIDE = table([b"a"], [HUGE[:60000]] * 16)
NOT_MYSQL, NO_STATUS, NO_BEAT = ("connect-failed",), ("status-unreadable",), ("heartbeat-unreadable",)
LATE, FLOOD = ("timeout",), ("connect-failed", "timeout")

PEERS: dict[str, tuple[str, Talk, tuple[str, ...]]] = {
    "10.1": ("accepts and says nothing", silent, LATE),
    "10.2": ("hangs up at once", hanging_up, NOT_MYSQL),
    "10.3": ("speaks HTTP", then_nothing(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>" + CURSE * 3), NOT_MYSQL),
    "10.4": ("sends half a packet", then_nothing(LOGIN[:20]), LATE),
    "10.5": ("sends an endless stream", endless, NOT_MYSQL),
    "10.6": ("drips a byte a second", dripping, LATE),
    "10.7": ("refuses with a hostile text", then_nothing(error(0, 1045, CURSE)), NOT_MYSQL),
    "10.8": ("refuses with a hostile text of 1 MB", then_nothing(error(0, 4321, HUGE)), NOT_MYSQL),
    "10.9": ("greets with an absurd version and login", absurd, NOT_MYSQL),
    "10.10": ("never ends its TLS handshake", tls_without_end, LATE),
    "10.11": ("wants the password in clear text", then_nothing(LOGIN + CLEARTEXT), NOT_MYSQL),
    "10.12": ("answers with rows without end", endless_rows, FLOOD),
    "10.13": ("answers with a row of 1 MB", speaking(SESSION, WIDE), NO_STATUS),
    "10.14": ("asks for a file", speaking(SESSION, packet(1, b"\xfb/etc/passwd")), NOT_MYSQL),
    "10.15": ("answers with fewer columns than it names", speaking(SESSION, NO_COLUMNS), (*NOT_MYSQL, *NO_STATUS)),
    "10.16": ("answers with NULLs", speaking(SESSION, NULLS), NO_STATUS),
    "10.17": ("has channels with hostile names", speaking(SESSION, TWO_CHANNELS), ("not-a-replica",)),
    "10.18": ("refuses the status with a hostile text", speaking(SESSION, error(1, 1227, HUGE)), NO_STATUS),
    "10.19": ("has an SQL thread with a hostile error", speaking(SESSION, SQL_ERROR, BEATS_ANSWER), ("sql-error",)),
    "10.20": ("has a heartbeat that is a hostile text", with_beats(FRESH, CURSED), NO_BEAT),
    "10.21": ("has heartbeats of too few columns", speaking(SESSION, STATUS_ANSWER, TWO_FIELDS), NO_BEAT),
    "10.22": ("has a heartbeat of NULLs", with_beats([None, None, None, None]), NO_BEAT),
}
"""By number: what the peer does, how, and what may be told of it."""


@contextlib.contextmanager
def peer(number: str, folder: Path) -> Iterator[tuple[Moody, Lone]]:
    moody = Moody(PEERS[number][1])
    with listening(moody) as target:
        yield moody, Lone(target, str(folder / "h.db"), folder)


@essential
@pytest.mark.parametrize("number", PEERS, ids=[title.replace(" ", "-") for title, _, _ in PEERS.values()])
def test_check(number: str, tmp_path: Path) -> None:
    """The check that takes samples itself: well, hostile, well again."""
    _, _, conditions = PEERS[number]
    with peer(number, tmp_path) as (moody, lone):
        assert lone.inline().what == ("OK", "in-range")
        moody.turn(well=False)
        for options in ((), ("-vv",)):
            told(lone.inline(*options), conditions)
        moody.turn(well=True)
        assert lone.inline().what == ("OK", "in-range")


def told(outcome: Outcome, conditions: tuple[str, ...]) -> None:
    assert outcome.state == "CRITICAL"
    assert outcome.what[1] in conditions, outcome.text
    assert len(outcome.text.partition("|")[0]) < 1200, "the first line stays short"


@essential
def test_worker(tmp_path: Path) -> None:
    """One worker with all of them, and a replica that is well all the time."""
    with contextlib.ExitStack() as stack:
        moods = {number: Moody(talk) for number, (_, talk, _) in PEERS.items()}
        targets = {number: stack.enter_context(listening(moody)) for number, moody in moods.items()}
        targets["well"] = stack.enter_context(listening(Moody(silent)))
        lone = Lone(targets["well"], str(tmp_path / "h.db"), tmp_path)
        worker = stack.enter_context(lone.worker(*lone.fleet(targets)))

        def all_well(since: float) -> bool:
            return all(recovered(lone, number, since) is not None for number in PEERS)

        wait_until(lambda: all_well(0), 40, "all peers are seen to be well", interval_s=1)
        turned = time.time()
        for moody in moods.values():
            moody.turn(well=False)
        wait_until(
            lambda: all(len(since(lone, number, turned)) >= 8 for number in PEERS), 40, "eight samples", interval_s=1
        )
        mended = time.time()
        for moody in moods.values():
            moody.turn(well=True)
        wait_until(lambda: all_well(mended), 40, "all peers are well again", interval_s=1)
        memory = memory_of(worker)
        assert memory <= WORKER_MEMORY_MIB, f"the worker took {memory:.0f} MiB"
        assert worker.poll() is None
    for number in PEERS:
        row(lone, number, turned, mended)
    well = lone.samples("well")
    assert {sample.error for sample in well} == {None}
    assert max(later.t - earlier.t for earlier, later in pairwise(well)) < 4 * INTERVAL_S


def since(lone: Lone, name: str, begin: float) -> list[tuple[float, str, str]]:
    return [moment[:3] for moment in lone.replay(name=name) if moment.t > begin]


def recovered(lone: Lone, name: str, begin: float) -> float | None:
    """The first sample after `begin` from which on at least two are OK and none is anything else."""
    samples = since(lone, name, begin)
    for place, (t, _, _) in enumerate(samples):
        rest = samples[place:]
        if len(rest) >= 2 and all(state == "OK" for _, state, _ in rest):
            return t
    return None


def row(lone: Lone, number: str, turned: float, mended: float) -> None:
    """One peer's fault as the worker saw it: told at once and until it is over."""
    title, _, conditions = PEERS[number]
    during = [sample for sample in since(lone, number, turned) if sample[0] < mended]
    place, (first, state, condition) = next(
        (place, sample) for place, sample in enumerate(during, 1) if sample[2] in conditions
    )
    assert state == "CRITICAL"
    # The sample that was on its way when the peer turned may have seen it well.
    assert place <= 3, f"{title}: {during}"
    assert all(state == "CRITICAL" for _, state, _ in during[place:]), f"{title}: {during}"
    back = recovered(lone, number, mended)
    assert back is not None
    found = ("CRITICAL", first - turned, place, back - mended)
    record(number, f"The peer {title}", "it answers as a replica does", condition, *found)
