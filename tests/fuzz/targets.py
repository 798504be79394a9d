"""What is fuzzed: one function for each kind of input that a stranger has a say in.

A target takes bytes, gives them to the code that reads such input, and asserts what must hold whatever they are: an
answer or the foreseen error, nothing else; words that are safe to print; nothing that looks well when it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import tempfile
import time
from datetime import tzinfo
from io import BytesIO
from math import isfinite
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch
from zoneinfo import ZoneInfo

import check_delayed_repl.observe.wire  # noqa: F401  not within a deadline
from check_delayed_repl import options as line
from check_delayed_repl.arguments import Parser, UsageError, duration
from check_delayed_repl.configfile import File, read_toml
from check_delayed_repl.history import HistoryUnavailable
from check_delayed_repl.history.mysql import parse_url
from check_delayed_repl.history.recording import RecordingError, dumps, read
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.observe import connection as server
from check_delayed_repl.observe import heartbeat
from check_delayed_repl.observe import sample as observing
from check_delayed_repl.observe.address import settings
from check_delayed_repl.observe.connection import Answer
from check_delayed_repl.observe.optionfile import OptionFileError, read_options
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.observe.target import Target
from check_delayed_repl.records import Record, Sample
from check_delayed_repl.report import document as as_json
from check_delayed_repl.report import nagios
from tests.adversary import SAMPLE_ERRORS

CORPUS = Path(__file__).parent / "corpus"
SECRET = "pw-7h-secret"
LIMITS = Limits(min_delay_time=1.0, max_delay_time=20.0, job_limits=(("dump", 60.0),))
MOMENT = 1_795_395_603.25
"""The server's clock in the seeds, and the sampler's where a sample is made up."""
MOST_RECORDS = 400
"""Of one recording, so many are judged."""

_FILE = Path(tempfile.gettempdir()) / f"delayed-repl-fuzz-{os.getpid()}"


ROW, FIELD, NULL = b"\x1e", b"\x1f", b"\xfb"


def packed(columns: list[str], rows: list[list[bytes | None]]) -> bytes:
    """An answer as bytes that mutate well: names, then rows."""
    lines = [FIELD.join(name.encode() for name in columns)]
    lines += [FIELD.join(NULL if value is None else value for value in row) for row in rows]
    return ROW.join(lines)


def unpacked(data: bytes) -> Answer:
    first, *lines = data.split(ROW)
    columns = [name.decode("utf-8", "replace") for name in first.split(FIELD)]
    return Answer(columns, [tuple(None if value == NULL else value for value in line.split(FIELD)) for line in lines])


TABLES = b"\x1d"


def from_json(text: bytes) -> bytes:
    """A captured status and its heartbeats as one input of `sample`."""

    def raw(value: str | None) -> bytes | None:
        return None if value is None else value.encode("latin-1")

    tables = json.loads(text)
    return TABLES.join(packed(one["columns"], [[raw(value) for value in row] for row in one["rows"]]) for one in tables)


def sample(data: bytes) -> None:
    """Status and heartbeats, from the rows to the printed line."""
    status, _, beats = data.partition(TABLES)
    answers = {"reading the replication status": unpacked(status), "reading the heartbeats": unpacked(beats)}
    identity = Answer(["uuid"], [(SECRET.encode(),)])
    connection = SimpleNamespace(secret=SECRET, server_version="9.7.0", host="h", where="h", address=None, budget=1)

    def asked(_: object, __: str, purpose: str) -> Answer:
        return answers.get(purpose, Answer([], []))

    for previous in (None, Sample(MOMENT - 10, delay=3.0, source_id=7, heartbeat_id=8, local=0.5)):
        with (
            patch.object(observing, "connect", lambda *_, **__: connection),
            patch.object(observing, "ask", asked),
            patch.object(observing, "ask_together", lambda *asking: [asked(*asking), identity]),
        ):
            taken = Observer(Target(user="monitor", password=SECRET)).sample(time.monotonic() + 60, previous)
        _well_formed(taken)
        _judged([*([previous] if previous else []), taken._replace(t=MOMENT)], unpacked(status))


def _well_formed(sample: Sample) -> None:
    """A sample is fit to be kept and printed."""
    for text in (sample.message, sample.io_error, sample.sql_error, sample.server, *(sample.filters or ())):
        assert text is None or (text.isprintable() and len(text) < 1000), text
        assert text is None or SECRET not in text
    assert sample.error is None or sample.error in SAMPLE_ERRORS
    assert sample.error or sample.delay is not None
    for number in (sample.t, sample.delay, sample.ts, sample.local):
        assert number is None or isfinite(number)


def _judged(samples: list[Sample], status: Answer) -> None:
    """Judged and printed, and OK only where both threads run without an error."""
    fold = Fold(LIMITS)
    for sample in samples:
        fold.add(sample)
    verdict = fold.verdict(samples[-1].t)
    _printable(nagios.render(verdict, LIMITS, 2))
    json.loads(as_json.render(verdict, LIMITS, "r"))
    if verdict.state is State.OK:
        last = samples[-1]
        assert last.error is None
        assert last.delay is not None
        assert LIMITS.min_delay_time <= last.delay <= LIMITS.max_delay_time
        names = [name.lower().replace("slave", "replica") for name in status.columns]
        row = dict(zip(names, status.rows[0], strict=False))
        # A thread that is connecting has a while to do so.
        assert (row["replica_io_running"] or b"").lower() in (b"yes", b"connecting", b"preparing")
        assert int(row["last_io_errno"] or b"1") == int(row["last_sql_errno"] or b"1") == 0


def _printable(text: str) -> None:
    """What is printed is safe to log and to show in a web page, and holds no password."""
    first, *others = text.splitlines()
    assert first.count("|") == 1
    assert SECRET not in text
    for shown in (first.partition("|")[0], *others):
        assert shown.isprintable()
        assert not set(shown) & set("<>`|"), shown
        assert len(shown) <= 4000


def _one_line(error: object) -> None:
    """What is wrong, in one line and without a password."""
    assert "\n" not in str(error)
    assert SECRET not in str(error)


def times(data: bytes) -> None:
    """A heartbeat's `ts`: a time between the years that make sense, or none."""
    zones: tuple[tzinfo | None, ...] = (None, ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia"))
    for zone in zones:
        found = heartbeat.times(data, zone)
        assert found == sorted(found)
        assert all(9e8 < one < 7.3e9 for one in found)
        age = heartbeat.age(data, MOMENT, zone, 5.0)
        assert (age is None) == (not found)
    shown = heartbeat.shown(data, "")
    assert shown.isprintable()
    assert len(shown) <= 120


def wire(data: bytes) -> None:
    """All that a server says during a sample, byte for byte: over the network, and on a local socket."""
    for target in (Target(host="h", ssl_mode="disabled"), Target(host="h"), Target(socket="s")):
        _hear(data, target._replace(user="monitor", password=SECRET))


def packets(data: bytes) -> None:
    """The same, framed as it should be, for what a server says is only read where packets are whole.

    A turn of the server's is the number of its first packet and then the packets' contents.
    """
    said = bytearray()
    for turn in data.split(TURN):
        for place, payload in enumerate(turn[1:].split(PACKET), turn[:1][0] if turn else 0):
            said += len(payload).to_bytes(3, "little") + bytes([place % 256]) + payload
    wire(bytes(said))


TURN, PACKET = b"\xf5TURN", b"\xf5PACK"


def framed(data: bytes) -> bytes:
    """What a server said, byte for byte, as an input of `packets`."""
    turns: list[bytes] = []
    last = -2
    while len(data) >= 4:
        length, number = int.from_bytes(data[:3], "little"), data[3]
        payload, data = data[4 : 4 + length], data[4 + length :]
        if number == last + 1:
            turns[-1] += PACKET + payload
        else:
            turns.append(bytes([number]) + payload)
        last = number
    return TURN.join(turns)


def _hear(data: bytes, target: Target) -> None:
    client, other = socket.socketpair()
    with client, other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        other.sendall(data)
        other.shutdown(socket.SHUT_WR)
        with patch.object(server, "_reach", lambda *_: (client, None)):
            observer = Observer(target)
            began = time.monotonic()
            # A deadline so near that a sample that is closed on is not tried again.
            sample = observer.sample(began + 0.05, None)
            assert time.monotonic() - began < 30
            observer.close()
    _well_formed(sample)


def optionfile(data: bytes) -> None:
    """An option file: its group, or what is wrong, without a value of it."""
    _FILE.write_bytes(data)
    try:
        for group in ("client", "monitoring"):
            try:
                found = read_options(str(_FILE), (group,))
                assert found is None or all("=" not in name and "\n" not in name for name in found)
                used = settings(Target(defaults_file=str(_FILE), defaults_group=group))
                assert 0 < used.port < 65536
            except OptionFileError as error:
                # It quotes nothing of the file but names, of files and of options for TLS.
                named = re.search(rb"(?im)^\W*(!.*|[^=\n]*(ssl|tls)[^=\n]*)" + SECRET.encode(), data)
                _one_line(str(error).replace(SECRET, "") if named else error)
    finally:
        _FILE.unlink(missing_ok=True)


def recording(data: bytes) -> None:
    """A recording: records that survive being written and read again, are kept, and can be judged."""
    records: list[Record] = []
    number = 0
    try:
        records.extend(read(BytesIO(data)))
    except RecordingError as error:
        _one_line(error)
        number = error.line
    assert 0 <= number <= data.count(b"\n") + 1
    again = list(read(BytesIO("\n".join(map(dumps, records)).encode())))
    assert again == records
    fold = Fold(LIMITS)
    for record in records[:MOST_RECORDS]:
        fold.add(record)
        if isinstance(record, Sample):
            verdict = fold.verdict(record.t)
            if record.error is not None:
                assert verdict.state is not State.OK
    ends = [record.t for record in records[:MOST_RECORDS] if isinstance(record, Sample)]
    if ends:
        _printable(nagios.render(fold.verdict(ends[-1]), LIMITS, 2))


def config(data: bytes) -> None:
    """A configuration file: replicas, or one line about what is wrong."""
    _FILE.write_bytes(data)
    try:
        file = File(str(_FILE), read_toml(str(_FILE), "--config")[0])
        _ = file.publish
        replicas = file.replicas({})
        assert len({replica.name for replica in replicas}) == len(replicas) > 0
        for replica in replicas:
            assert 0.1 <= replica.interval <= 86400
            assert replica.timeout > 0
            assert replica.target.port is None or 0 < replica.target.port < 65536
    except UsageError as error:
        _one_line(error)
    finally:
        _FILE.unlink(missing_ok=True)


def options(data: bytes) -> None:
    """Arguments, one to a line: limits that make sense, or one line that names an option and no password."""
    parser = Parser("fuzz", add_help=False)
    line.add_connection_options(parser)
    line.add_judging_options(parser)
    try:
        arguments = [os.fsdecode(one) for one in data.split(b"\n")]
        args = parser.parse_args(["--password", SECRET, *arguments])
        limits = line.limits_from(args)
        assert limits.min_delay_time <= limits.max_delay_time
        assert all(isfinite(value) and value >= 0 for value in limits[:12])
        assert args.timeout is None or 0 < args.timeout <= 86400
        line.target_from(args)
        assert line.replica_name(args)
    except UsageError as error:
        _one_line(error)
    for text in data.decode("utf-8", "replace").split("\n"):
        try:
            assert 0 <= duration(text) < float("inf")
        except argparse.ArgumentTypeError as error:
            _one_line(error)


def url(data: bytes) -> None:
    """The URL of a shared history."""
    text = f"mysql://me:{SECRET}@{os.fsdecode(data)}"
    try:
        target, database, name = parse_url(text)
        assert database
        assert target.password != "" or SECRET not in text
        assert SECRET not in name
    except HistoryUnavailable as error:
        _one_line(error)


TARGETS = {one.__name__: one for one in (sample, times, wire, packets, optionfile, recording, config, options, url)}


def seeds(name: str) -> dict[str, bytes]:
    """Every input of the corpus for a target, by file name."""
    found = {}
    for path in sorted((CORPUS / name).glob("*")):
        data = path.read_bytes()
        found[path.name] = from_json(data) if path.suffix == ".json" else data
    if name == "packets":
        found |= {file: framed(data) for file, data in seeds("wire").items()}
    return found
