"""Carries plans out: records, runs, verifies, one statement after the other."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from typing import Literal, NamedTuple

from check_delayed_repl.observe.dialect import Dialect
from check_delayed_repl.observe.dialect import quoted as text
from check_delayed_repl.observe.failures import Refused
from check_delayed_repl.rescue.plan import STAY_STOPPED, Plan, Step, gaps
from check_delayed_repl.rescue.record import Facts, Record, RecordError
from check_delayed_repl.rescue.relaylog import Place, begins_at, next_start
from check_delayed_repl.rescue.report import Report, Voice
from check_delayed_repl.rescue.state import Channel, Session, channels, pager

LOCK = "check_delayed_repl.rescue"
BUSY_S = 0.2
"""How long a STOP may take before appliers are killed (again)."""
MARIADB_S = 1.0
"""...on MariaDB, which rolls back by itself."""
QUIET_S = 5.0
"""How long a STOP may go without an answer, and nothing be said of it."""
POLL_S = 0.1
NO_SUCH_THREAD = 1094
GAPS = 1802


class Failed(Exception):
    """A step did not do what it was to do: one line."""


class Stopped(NamedTuple):
    statements: list[str]
    refused: str = ""
    """Why appliers could not be killed, so that what they were applying has been finished."""


def stop_now(session: Session, channel: str | None, finish: bool, voice: Voice) -> Stopped:
    """Stops the SQL thread, of every channel where none is named, at once.

    A transaction that is being applied is rolled back: MariaDB does so by itself, unless the applier waits for a lock;
    MySQL would finish it first. So appliers are killed; not with `finish`. Raises Refused and SampleFailed.
    """
    statement, mariadb = stop_statement(session.version, channel), session.say.mariadb
    stopped = Stopped([]) if mariadb or finish else _kill(session, channel)
    over, began = threading.Event(), time.monotonic()

    def go_on_killing() -> None:
        """A transaction began in between, or its applier waits."""
        nonlocal stopped
        other, pause, said = Session(session.target, session.timeout), MARIADB_S if mariadb else BUSY_S, False
        while not over.wait(pause):
            pause = BUSY_S
            try:
                if not other.version:
                    with suppress(Refused):
                        other.connect()
                more = _kill(other, channel)
            except Exception as error:  # noqa: BLE001  the next time, a connection may be free
                other.close()
                other, more = Session(session.target, session.timeout), Stopped([], str(error) or type(error).__name__)
            refused = more.refused or ("" if more.statements else stopped.refused)
            stopped = Stopped([*stopped.statements, *more.statements], refused)
            if (refused or time.monotonic() - began > QUIET_S) and not said and not over.is_set():
                said = True
                why = f"The applier cannot be ended ({refused})."
                if not refused:
                    why = "Or its answer was lost: the status action, asked in another terminal, says what is true."
                voice.say(
                    f"{statement} has been sent, and waits for what is being applied, perhaps for a lock that somebody"
                    f" holds: end that session. {why}"
                )
        other.close()

    killing = threading.Thread(target=go_on_killing, daemon=True)
    try:
        if not finish:
            killing.start()
    except RuntimeError as error:  # No thread is free: the STOP comes first.
        stopped = Stopped(stopped.statements, str(error))
    try:
        session.ask(statement, "stopping the SQL thread", patience=86400)
    finally:
        over.set()
    if killing.ident:
        killing.join(BUSY_S)
    return Stopped([*dict.fromkeys(stopped.statements), statement], stopped.refused)


def stop_statement(version: str, channel: str | None) -> str:
    say = Dialect(version, channel or "", channel is not None)
    if say.mariadb and channel is None:
        return "STOP ALL SLAVES SQL_THREAD"
    return say.stop("SQL_THREAD")


def shows_appliers(session: Session) -> bool:
    """Whether the server shows which of its threads are appliers, and of which channel: newer MySQL, unless its
    performance_schema is off."""
    say = session.say
    return not say.mariadb and say.numbers >= (8, 0, 0) and session.variable("performance_schema") == "1"


def _kill(session: Session, channel: str | None) -> Stopped:
    """Ends appliers that are in the middle of a transaction, or wait for a lock, as far as the account may."""
    kill = "KILL"
    busy = "(STATE NOT LIKE 'Waiting%' OR STATE LIKE 'Waiting for%lock') AND STATE NOT LIKE '%has read all relay log%'"
    if shows_appliers(session):
        names = (f"'thread/sql/{word}_{part}'" for word in ("replica", "slave") for part in ("worker", "sql"))
        sql = (
            "SELECT PROCESSLIST_ID FROM performance_schema.threads"  # noqa: S608
            f" WHERE PROCESSLIST_ID IS NOT NULL AND NAME IN ({', '.join(names)})"
            f" AND {busy.replace('STATE', 'PROCESSLIST_STATE')}"
        )
        if channel is not None:
            sql += (
                " AND THREAD_ID IN (SELECT THREAD_ID FROM performance_schema.replication_applier_status_by_worker"  # noqa: S608
                f" WHERE LOWER(CHANNEL_NAME) = {text(channel.lower())})"
            )
    else:
        # What an IO thread does has one of these words in it.
        who = "USER = 'system user' AND STATE NOT REGEXP 'master|source|binlog'"
        if session.say.mariadb:
            # Its error is then that of a query, which nobody needs to clear.
            kill, who = "KILL QUERY", "COMMAND IN ('Slave_worker', 'Slave_SQL')"
        sql = f"SELECT ID FROM information_schema.PROCESSLIST WHERE {who} AND {busy}"  # noqa: S608
    done: list[str] = []
    try:
        for row in session.ask(sql, "looking for busy appliers").rows:
            statement = f"{kill} {int(row[0] or 0)}"
            session.ask(statement, "rolling back what is being applied")
            done.append(statement)
    except (Refused, ValueError) as error:  # whatever it is, the STOP is to be sent
        if not isinstance(error, Refused) or error.number != NO_SUCH_THREAD:
            return Stopped(done, str(error))
    return Stopped(done)


def lock(session: Session, channel: str) -> None:
    """Takes the lock of one who acts. Raises Failed where somebody else has it."""
    name = text(f"{LOCK}.{channel}"[:64])
    if session.value(f"SELECT GET_LOCK({name}, 0)", "taking the lock") == "1":
        return
    holder = session.value(f"SELECT IS_USED_LOCK({name})", "asking who has the lock") or "?"
    connected = session.rows("SHOW PROCESSLIST", "asking who has the lock")
    who = [f", {row['user']} from {row['host']}" for row in connected if row["id"] == holder]
    raise Failed("".join([f"another rescue acts here: connection {holder}", *who]))


def current(session: Session, name: str) -> Channel:
    """The channel as it is now."""
    for channel in channels(session):
        if channel.name == name:
            return channel
    raise Failed("the channel is not there any more")


class Runner:
    """Carries out plans on one channel, and adds to the report what it has executed. `record` is None where none can be
    kept."""

    def __init__(self, session: Session, facts: Facts, record: Record | None, voice: Voice, report: Report) -> None:
        self._session, self._channel = session, facts.channel
        self._facts, self._record, self._voice, self._report = facts, record, voice, report

    def run(self, plan: Plan) -> None:
        """Raises Failed and SampleFailed (the server went away). A terminal that goes away ends nothing."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for step in plan.steps:
            self._look_again(step)
        for step in plan.steps:
            self._step(step)

    def note(self, name: str, what: Literal["begun", "done", "failed"]) -> None:
        """Writes down that a step has begun, is done or has failed."""
        self._facts.steps.append((round(time.time(), 3), name, what))
        self.save()

    def save(self) -> None:
        """What has been begun goes on without a record too: it ends in safety."""
        try:
            if self._record:
                self._record.save(self._facts)
        except RecordError as error:
            self._record = None
            self._report.reasons.append(f"the record cannot be kept any more: {error}")

    def _look_again(self, step: Step) -> None:
        if step.until and not begins_at(pager(self._session, self._channel), step.until):
            raise Failed(f"the target is not at {step.until.relay} any more: nothing was started")

    def _step(self, step: Step) -> None:
        session = self._session
        self._voice.say(f"{step.sql};")
        if step.needs_io:
            self._need_io()
        self._look_again(step)
        if step.name == STAY_STOPPED:
            self._facts.persisted = True
        self.note(step.name, "begun")
        try:
            session.ask(step.sql, step.name, patience=3600)
        except Refused as error:
            self.note(step.name, "failed")
            say = Dialect(session.version, self._channel, named=True)
            why = str(error) if error.number != GAPS else f"error {GAPS}: {gaps(say)}"
            raise Failed(f"{step.sql}: {why}") from None
        self._report.done.append(step.sql)
        if step.until:
            wait(session, self._channel, step.until.relay, self._voice)
        self.note(step.name, "done")

    def _need_io(self) -> None:
        end = time.monotonic() + 5
        while not (channel := current(self._session, self._channel)).io_lives and time.monotonic() < end:
            time.sleep(POLL_S)
        if not channel.io_lives or channel.sql != "No":
            what = "the IO thread does not run" if channel.sql == "No" else "the SQL thread runs again"
            raise Failed(f"{what}: to set the delay now could throw the relay log away")


def wait(session: Session, name: str, stop: Place, voice: Voice) -> None:
    """Until the channel's SQL thread has stopped in front of `stop`. Raises Failed where it stopped elsewhere."""
    began, start = time.monotonic(), current(session, name).relay
    while (channel := current(session, name)).sql != "No":
        took, rest = time.monotonic() - began, ""
        left, applied = stop.pos - channel.relay.pos, channel.relay.pos - start.pos
        if channel.relay.file == stop.file:
            rest = f", {left} bytes left" + (f", about {left * took / applied:.0f} s" if applied > 0 else "")
        voice.progress(f"at {channel.relay}, {took:.0f} s so far{rest}")
        time.sleep(POLL_S)
    voice.progress("")
    if channel.sql_errno:
        raise Failed(f"the SQL thread stopped with error {channel.sql_errno}: {channel.sql_error}")
    if stop not in (channel.relay, next_start(pager(session, name), channel.relay)):
        where = "before" if channel.relay.order < stop.order else "BEHIND"
        raise Failed(f"the SQL thread stopped {where} the target, at {channel.relay} in place of {stop}")
