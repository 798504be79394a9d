"""Seeds from real servers: what a look asks for and is answered, byte for byte and as rows.

`python -m tests.fuzz.capture FAMILY…` makes a pair in containers and writes its answers into the corpus: a healthy
replica, one whose source refuses its password, and one whose SQL thread stands still.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from check_delayed_repl.observe import wire
from check_delayed_repl.observe.connection import Answer, ask, connect
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.observe.target import Target

CORPUS = Path(__file__).parent / "corpus"


def capture(family: str) -> None:
    from tests.integration.servers import HEARTBEAT_TABLE, MONITOR, REPLICATION, Kit, wait_until

    kit = Kit()
    try:
        pair: Any = kit.pair(family)  # type: ignore[arg-type]
        replica = pair.replica
        version = ".".join(str(part) for part in replica.version[:2])
        target = Target(socket=str(replica.socket), user=MONITOR[0], password=MONITOR[1])
        name = f"{family}-{version}"
        conversation(target, f"{name}")
        rows(target, f"{name}", HEARTBEAT_TABLE)
        replica.stop_sql()
        rows(target, f"{name}-sql-stopped", HEARTBEAT_TABLE)
        replica.change_source(PASSWORD="wrong")
        wait_until(lambda: int(replica.status()["Last_IO_Errno"]) != 0, 60, "the source refuses")
        rows(target, f"{name}-io-error", HEARTBEAT_TABLE)
        replica.change_source(PASSWORD=REPLICATION[1])
        replica.forget_replication()
        rows(target, f"{name}-no-replica", HEARTBEAT_TABLE)
    finally:
        kit.close()


def conversation(target: Target, name: str) -> None:
    """All bytes that the server says during one look, the greeting included."""
    heard = bytearray()
    plain = wire.Wire.recv_into

    def listening(self: wire.Wire, buffer: memoryview) -> int:
        count = plain(self, buffer)
        heard.extend(buffer[:count])
        return count

    wire.Wire.recv_into = listening  # type: ignore[method-assign]
    try:
        sample = Observer(target).sample(time.monotonic() + 10, None)
    finally:
        wire.Wire.recv_into = plain  # type: ignore[method-assign]
    assert sample.error is None, sample
    save("wire", f"{name}.bin", bytes(heard))


def rows(target: Target, name: str, table: str) -> None:
    """Status and heartbeats, as rows."""
    connection = connect(target, time.monotonic() + 10, raw=True)

    def asking(sql: str, purpose: str) -> Answer:
        return ask(connection, sql, purpose)

    answers: list[Answer] = []

    def kept(ask: Callable[[str, str], Answer]) -> Callable[[str, str], Answer]:
        def one(sql: str, purpose: str) -> Answer:
            answers.append(ask(sql, purpose))
            return answers[-1]

        return one

    from check_delayed_repl.observe.connection import SampleFailed
    from check_delayed_repl.observe.heartbeat import read_heartbeats
    from check_delayed_repl.observe.replication import read_status

    for read in (
        lambda: read_status(kept(asking), connection.server_version, None),
        lambda: read_heartbeats(kept(asking), table),
    ):
        try:
            read()
        except SampleFailed as failure:
            print(f"{name}: {failure.message}")
    connection.close()
    save("look", f"{name}.json", json.dumps([as_text(answers[0]), as_text(answers[-1])], indent=1).encode() + b"\n")


def as_text(answer: Answer) -> dict[str, object]:
    def shown(value: bytes | None) -> str | None:
        return None if value is None else value.decode("latin-1")

    return {"columns": answer.columns, "rows": [[shown(value) for value in row] for row in answer.rows]}


def save(folder: str, name: str, data: bytes) -> None:
    path = CORPUS / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    for one in sys.argv[1:]:
        capture(one)
