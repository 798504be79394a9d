"""What is fuzzed: one function for each kind of input that a stranger has a say in.

A target takes bytes, gives them to the code that reads such input, and asserts what must hold whatever they are: an
answer or the foreseen error, nothing else; words that are safe to print; nothing that looks well when it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from datetime import tzinfo
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from check_delayed_repl.conditions import SAMPLE_ERRORS
from check_delayed_repl.history import HistoryUnavailable
from check_delayed_repl.judge.fold import Fold
from check_delayed_repl.judge.outcome import State
from check_delayed_repl.limits import Limits
from check_delayed_repl.observe import connection as server
from check_delayed_repl.observe import heartbeat
from check_delayed_repl.observe.address import settings
from check_delayed_repl.observe.connection import Answer, SampleFailed
from check_delayed_repl.observe.lean import load_pymysql
from check_delayed_repl.observe.optionfile import OptionFileError, read_options
from check_delayed_repl.observe.replication import read_status
from check_delayed_repl.observe.sample import Observer
from check_delayed_repl.observe.target import Target
from check_delayed_repl.options import (
    HelpRequested,
    Parser,
    UsageError,
    add_connection_options,
    add_judging_options,
    duration,
    limits_from,
    replica_name,
    target_from,
)
from check_delayed_repl.records import JobLine, Record, Sample

CORPUS = Path(__file__).parent / "corpus"
SECRET = "pw-7h-secret"
LIMITS = Limits(min_delay_time=1.0, max_delay_time=20.0, job_limits=(("dump", 60.0),)).checked()
MOMENT = 1_795_395_603.25
"""The server's clock in the seeds, and the sampler's where a look is made up."""
MOST_RECORDS = 400
"""Of one recording, so many are judged."""

_FILE = Path(tempfile.gettempdir()) / f"delayed-repl-fuzz-{os.getpid()}"


class Fuzzed(NamedTuple):
    """One target."""

    name: str
    run: Callable[[bytes], None]
    modules: tuple[str, ...]
    """Whose lines a long run counts."""
    words: tuple[bytes, ...]
    """What such input is made of: mutations use it."""
    longest: int = 4096
    """Bytes of one input."""


# --- rows ---

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
    """A captured status and its heartbeats as one input of `look`."""

    def raw(value: str | None) -> bytes | None:
        return None if value is None else value.encode("latin-1")

    tables = json.loads(text)
    return TABLES.join(packed(one["columns"], [[raw(value) for value in row] for row in one["rows"]]) for one in tables)


def look(data: bytes) -> None:
    """Status and heartbeats, from the rows to the printed line."""
    status, _, beats = data.partition(TABLES)
    answers = {"reading the replication status": unpacked(status), "reading the heartbeats": unpacked(beats)}

    def asking(_: str, purpose: str) -> Answer:
        return answers[purpose]

    for previous in (None, Sample(MOMENT - 10, delay=3.0, source_id=7, heartbeat_id=8, local=0.5)):
        sample = _seen(asking, previous)
        _well_formed(sample)
        _judged([*([previous] if previous else []), sample], answers["reading the replication status"])


def _seen(asking: heartbeat.Ask, previous: Sample | None) -> Sample:
    """What a look makes of these answers."""
    from check_delayed_repl.observe.sample import _of_status

    observer = Observer(Target(user="monitor", password=SECRET))
    observer._secret = SECRET
    seen: dict[str, object] = {}
    try:
        status, _ = read_status(asking, "9.7.0", None, secret=SECRET)
        seen.update(_of_status(status))
        beats = heartbeat.read_heartbeats(asking, "percona.heartbeat", SECRET)
        observer._of_heartbeats(status, beats, None, previous, seen)
    except SampleFailed as failure:
        seen.update(error=failure.condition, message=failure.message)
    return Sample(**{"t": MOMENT, **seen})  # type: ignore[arg-type]


def _well_formed(sample: Sample) -> None:
    """A sample is fit to be kept and printed."""
    for text in (sample.message, sample.io_error, sample.sql_error):
        assert text is None or (text.isprintable() and len(text) < 1000), text
        assert text is None or SECRET not in text
    assert sample.error is None or sample.error in SAMPLE_ERRORS
    assert sample.error or sample.delay is not None
    for number in (sample.t, sample.delay, sample.ts, sample.local):
        assert number is None or isfinite(number)


def _judged(samples: list[Sample], status: Answer) -> None:
    """Judged and printed, and OK only where both threads run without an error."""
    from check_delayed_repl.report import document, nagios

    fold = Fold(LIMITS)
    for sample in samples:
        fold.add(sample)
    verdict = fold.verdict(samples[-1].t)
    _printable(nagios.render(verdict, LIMITS, 2))
    json.loads(document.render(verdict, LIMITS, "r"))
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
    for line in (first.partition("|")[0], *others):
        assert line.isprintable()
        assert not set(line) & set("<>`|"), line
        assert len(line) <= 4000


def _one_line(error: Exception) -> None:
    """What is wrong, in one line and without a password."""
    assert "\n" not in str(error)
    assert SECRET not in str(error)


# --- heartbeat times ---


def times(data: bytes) -> None:
    """A heartbeat's `ts`: a time between the years that make sense, or none."""
    from zoneinfo import ZoneInfo

    zones: tuple[tzinfo | None, ...] = (None, ZoneInfo("Europe/Berlin"), ZoneInfo("Pacific/Apia"))
    for zone in zones:
        found = heartbeat.times(data, zone)
        assert found == sorted(found)
        assert all(9e8 < one < 7.3e9 for one in found)
        age = heartbeat.age([heartbeat.Beat(data, MOMENT)], zone, 5.0)
        assert (age is None) == (not found)
    shown = heartbeat.shown([heartbeat.Beat(data, MOMENT)])
    assert shown.isprintable()
    assert len(shown) <= 120


# --- the server's side of the protocol ---


def wire(data: bytes) -> None:
    """All that a server says during a look, byte for byte: over the network, and on a local socket."""
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
        reach = server._reach
        server._reach = lambda *_: (client, target.socket is not None)
        try:
            observer = Observer(target)
            began = time.monotonic()
            # A deadline so near that a look that is closed on is not tried again.
            sample = observer.sample(began + 0.05, None)
            assert time.monotonic() - began < 2
            observer.close()
        finally:
            server._reach = reach
    _well_formed(sample)


# --- files ---


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
                _without_values(str(error), data)
    finally:
        _FILE.unlink(missing_ok=True)


def _without_values(message: str, data: bytes) -> None:
    """An error's one line, which quotes nothing of the file but names of files."""
    assert "\n" not in message
    if not any(SECRET.encode() in line and line.strip()[:1] == b"!" for line in data.split(b"\n")):
        assert SECRET not in message


def recording(data: bytes) -> None:
    """A recording: records that survive being written and read again, are kept, and can be judged."""
    from check_delayed_repl.history.recording import RecordingError, dumps, read

    lines = data.splitlines(keepends=True)
    records: list[Record] = []
    number = 0
    try:
        records.extend(read(iter(lines)))
    except RecordingError as error:
        _one_line(error)
        number = error.line
    assert 0 <= number <= len(lines)
    again = list(read([dumps(record) + "\n" for record in records]))
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
        from check_delayed_repl.report import nagios

        _printable(nagios.render(fold.verdict(ends[-1]), LIMITS, 2))


def store(data: bytes) -> None:
    """A recording that is imported and exported again says the same, in as far as it fits into a history."""
    from check_delayed_repl.history.recording import RecordingError, read
    from check_delayed_repl.history.sqlite import SQLiteHistory

    try:
        records = list(read(data.splitlines(keepends=True)))[:50]
    except RecordingError:
        return
    with tempfile.TemporaryDirectory(prefix="delayed-repl-fuzz-") as folder:
        history = SQLiteHistory(f"{folder}/h.db", time.monotonic() + 10)
        try:
            count = history.add_records("r", records)
            kept = [record for _, record in history.records("r")]
            assert count == len(kept) == len(records)
            for given, found in zip(records, kept, strict=True):
                assert type(given) is type(found)
                if isinstance(given, Sample) and isinstance(found, Sample):
                    assert (given.t, given.delay, given.error) == (found.t, found.delay, found.error)
                    assert (given.source_id, given.sql_delay) == (found.source_id, found.sql_delay)
                elif isinstance(given, JobLine) and isinstance(found, JobLine):
                    assert (given.started_at, given.finished_at, given.void) == (
                        found.started_at,
                        found.finished_at,
                        found.void,
                    )
            history.newest_sample("r")
            history.prune(1.0)
            history.prune_future()
        finally:
            history.close()


def fleet(data: bytes) -> None:
    """A configuration file: replicas, or one line about what is wrong."""
    from check_delayed_repl.configfile import File, read_toml

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


# --- the command line ---


def options(data: bytes) -> None:
    """Arguments, one to a line: limits that make sense, or one line that names an option and no password."""
    parser = Parser("fuzz", add_help=False)
    add_connection_options(parser)
    add_judging_options(parser)
    try:
        arguments = [os.fsdecode(one) for one in data.split(b"\n")]
        args = parser.parse_args(["--password", SECRET, *arguments])
        limits = limits_from(args)
        assert limits.min_delay_time <= limits.max_delay_time
        assert all(isfinite(value) and value >= 0 for value in limits[:12])
        assert 0 < args.timeout <= 86400
        target_from(args)
        assert replica_name(args)
    except UsageError as error:
        _one_line(error)
    except HelpRequested:
        pass
    for text in data.decode("utf-8", "replace").split("\n"):
        try:
            assert 0 <= duration(text) < float("inf")
        except argparse.ArgumentTypeError as error:
            _one_line(error)


def url(data: bytes) -> None:
    """The URL of a shared history."""
    from check_delayed_repl.history.mysql import parse_url

    text = f"mysql://me:{SECRET}@{os.fsdecode(data)}"
    try:
        target, database, name = parse_url(text)
        assert database
        assert target.password != "" or SECRET not in text
        assert SECRET not in name
    except HistoryUnavailable as error:
        _one_line(error)


def _words(text: str) -> tuple[bytes, ...]:
    """Words that stand between blanks; an escape such as \\n or \\x20 is one byte."""
    return tuple(word.encode("ascii").decode("unicode_escape").encode("latin-1") for word in text.split())


_STATUS = _words(r"""
    Replica_IO_Running Replica_SQL_Running Slave_IO_Running Slave_SQL_Running Source_Server_Id Master_Server_Id
    Source_Log_File Read_Source_Log_Pos Relay_Source_Log_File Exec_Source_Log_Pos Relay_Log_Space Seconds_Behind_Source
    Seconds_Behind_Master Last_IO_Errno Last_IO_Error Last_SQL_Errno Last_SQL_Error SQL_Delay SQL_Remaining_Delay
    Channel_Name Connection_name \xfb Yes No Connecting Preparing 0 -1 1 18446744073709551616 1e9
    2026-11-23T01:00:00.000000 2026-11-23\x2001:00:00 0000-00-00\x2000:00:00 <b>|\x1b[31m\n \xff\xfe
    1795395603.250000 pw-7h-secret \x1d \x1e \x1f
""")
_TS = _words(r"2026- T . 02-29 24:00 \xd9\xa1")
_BYTES = _words(r"\xfe \xff \xfb \xfc\xff\xff \0\0")
_PACKETS = _words(r"""
    \xf5TURN \xf5TURN\x01 \xf5PACK \xfe\0\0\x02\0 \0\0\0\x02\0\0\0 \xff\x15\x04#28000
    \xfecaching_sha2_password\0 \xfedialog\0 \x01\x04 \x01\x03 \xfb/etc/passwd
""")
_CNF = _words(r"""
    [client]\n [monitoring]\n pw-7h-secret password= user= port= socket= ssl-mode= !include\x20 !includedir\x20
    skip-ssl\n loose- # ' " \\ \n = protocol=tcp\n
""")
_JSON = _words(r"""
    {"type":"sample","t": "delay": "error":"timeout" {"type":"job","t":1.0,"id":"j","kind":"backup", "started_at":
    "finished_at":null "source_log":["bin.000001",4] 1e308 -1e308 NaN [[[[ "\\ud800" 9223372036854775808 }\n ,
    \xe2\x80\xa8 null true
""")
_TOML = _words(r"""
    [[replica]]\n [defaults]\n host= port= interval= timeout= replica= "x"\n 3306\n 1e400\n nan\n true\n
    1979-05-27\n [1]\n \'\'\' ssl-mode= socket= password= defaults-file=
""")
_ARGUMENTS = _words(r"""
    --max-delay-time\n --window= --min-correlation= --max-job-behind\nx=1 -t\n 1e9 nan 0x1 1_0 \xc2\xb2 -P\n
    --heartbeat-table\n --help\n 1.5h -- -H\nh\n --heartbeat-timezone\n../ --job-stops-server\nbackup\n
""")
_URL = _words("/ ? & ssl-mode= % [ ] defaults-file= #")

_OBSERVE = ("observe/replication", "observe/heartbeat", "observe/sample")
_WIRE = ("observe/wire", "observe/server")
_RECORDING = ("history/recording", "judge/fold", "judge/verdict", "judge/jobs")

TARGETS = {
    fuzzed.name: fuzzed
    for fuzzed in (
        Fuzzed("look", look, _OBSERVE, _STATUS),
        Fuzzed("times", times, ("observe/heartbeat",), _TS, 64),
        Fuzzed("wire", wire, _WIRE, _BYTES, 1 << 14),
        Fuzzed("packets", packets, _WIRE, _PACKETS, 1 << 14),
        Fuzzed("optionfile", optionfile, ("observe/optionfile", "observe/server"), _CNF),
        Fuzzed("recording", recording, _RECORDING, _JSON),
        Fuzzed("store", store, ("history/sqlite", "history/tables"), _JSON),
        Fuzzed("fleet", fleet, ("fleet",), _TOML),
        Fuzzed("options", options, ("options", "limits"), _ARGUMENTS, 512),
        Fuzzed("url", url, ("history/mysql",), _URL, 256),
    )
}


def seeds(name: str) -> dict[str, bytes]:
    """Every input of the corpus for a target, by file name."""
    found = {}
    for path in sorted((CORPUS / name).glob("*")):
        data = path.read_bytes()
        found[path.name] = from_json(data) if path.suffix == ".json" else data
    if name == "packets":
        found |= {file: framed(data) for file, data in seeds("wire").items()}
    if name == "store":
        found |= seeds("recording")
    return found


load_pymysql()
