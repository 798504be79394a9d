"""Asks a replica what no sample keeps: what it calls itself, where its SQL thread stands, whose heartbeats it has."""

from __future__ import annotations

import re
from contextlib import closing, suppress
from typing import NamedTuple

from check_delayed_repl.observe import heartbeat
from check_delayed_repl.observe.connection import SESSION, Answer, Ask, ask, connect
from check_delayed_repl.observe.dialect import Dialect, Place, by_gtid, rows_of
from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.observe.replication import read_status
from check_delayed_repl.observe.target import Target


class Server(NamedTuple):
    """One channel of one replica, as it was asked beside a sample."""

    dialect: Dialect
    place: Place | None = None
    """Of the SQL thread; None where the status does not tell."""
    heartbeats: tuple[tuple[int, float], ...] = ()
    """(server id, age in seconds) of every heartbeat row but the server's own, the newest first."""


def ask_server(target: Target, deadline: float) -> Server | None:
    """As much as it says by `deadline`, a time.monotonic(); None where it says nothing."""
    server: Server | None = None
    answers: list[Answer] = []

    def asking(sql: str, purpose: str) -> Answer:
        answers.append(ask(connection, sql, purpose))
        return answers[-1]

    with suppress(SampleFailed, Refused, IndexError), closing(connect(target, deadline, raw=True)) as connection:
        with suppress(Refused):
            asking(SESSION, "preparing the session")
        # A proxy greets with a version of its own.
        version = (asking("SELECT VERSION()", "asking for its version").rows[0][0] or b"").decode("utf-8", "replace")
        server = Server(Dialect(version, target.channel or "", target.channel is not None))
        status = read_status(asking, version, target.channel, connection.secret)
        dialect = Dialect(version, status.channel, target.channel is not None)
        server = Server(dialect, _place(answers[-1], status.channel))
        server = server._replace(heartbeats=_heartbeats(asking, target))
    return server


def _place(answer: Answer, channel: str) -> Place | None:
    """From the status of all channels."""
    for row in rows_of(answer):
        if (row.get("channel_name") or row.get("connection_name") or "") == channel:
            file, position = row.get("relay_log_file", ""), row.get("relay_log_pos", "")
            if file.isprintable() and 0 < len(file) <= 512 and re.fullmatch("[0-9]{1,20}", position):
                return Place(file, int(position), by_gtid(row))
    return None


def _heartbeats(asking: Ask, target: Target) -> tuple[tuple[int, float], ...]:
    found = heartbeat.read_heartbeats(asking, target.heartbeat_table)
    zone = None if found.utc else heartbeat.zone_of(target.heartbeat_timezone)
    ages = {server: heartbeat.age(ts, found.clock, zone, None) for server, ts in found.beats.items()}
    others = ((server, age[0]) for server, age in ages.items() if age is not None and server != found.own_id)
    return tuple(sorted(others, key=lambda one: one[1]))
