"""`delayed-repl rescue freeze`: stops first, then records, holds where that is safe, and says what is true."""

from __future__ import annotations

import argparse
import signal
import time

from check_delayed_repl.history import HistoryUnavailable
from check_delayed_repl.observe.connection import Refused, SampleFailed
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.observe.replication import is_mariadb
from check_delayed_repl.options import replica_name
from check_delayed_repl.records import JobLine, merge_job
from check_delayed_repl.rescue import find, plan, ready, standing, tables
from check_delayed_repl.rescue.base import KIND, Action
from check_delayed_repl.rescue.plan import Plan, Refusal
from check_delayed_repl.rescue.record import Facts, Record, RecordError
from check_delayed_repl.rescue.relaylog import Place, Transaction
from check_delayed_repl.rescue.report import clock, when
from check_delayed_repl.rescue.run import Failed, Runner, Stopped, current, lock, stop_now, stop_statement
from check_delayed_repl.rescue.standing import Next
from check_delayed_repl.rescue.state import HELD_S, Channel, Session, State, channels, read
from check_delayed_repl.words import one_line, span

KEEP_S = 1.0
_SYNTAX = 1064
PASTE = ("STOP REPLICA SQL_THREAD", "STOP SLAVE SQL_THREAD", "STOP ALL SLAVES SQL_THREAD")
"""For MySQL from 8.0.22 on, for older ones, for MariaDB."""


class Freeze(Action):
    """Refuses nothing that a stop would help."""

    def __init__(self, args: argparse.Namespace, folder: str) -> None:
        super().__init__(args, folder)
        self._late: list[str] = []
        """Why it is too late for what somebody fears for."""

    def _act(self) -> bool:
        args, report, voice = self._args, self._report, self._voice
        began = time.monotonic()
        try:
            session = self._session = Session(self._target, args.timeout)
            if args.dry_run:
                return self._dry_freeze(session)
            stopped = self._stop(session)
        except (Refused, SampleFailed, OptionFileError) as error:
            reason = f"error {error.number}: {error.text}" if isinstance(error, Refused) else str(error)
            voice.say("NOT stopped. Paste one of these into a client on the replica:")
            report.reasons.append(reason)
            report.statements = (
                [stop_statement(self._session.version, self._target.channel)] if self._session else [*PASTE]
            )
            return False
        report.done = stopped.statements
        if self._tables or args.before is not None:
            # Whether it is too late comes first, and is known last.
            voice.progress("stopped; looking for what was asked for")
            voice.keep()
        try:
            voice.say(f"Stopped after {time.monotonic() - began:.2f} s:")
            voice.statements(stopped.statements)
            for unclear in args.unclear:
                voice.say(f"Not looked for: {unclear}.")
            session.prepare()
            voice.say(self._fate(stopped, is_mariadb(session.version)))
            for channel in self._channels(session):
                try:
                    self._frozen(session, channel)
                except Refused as error:
                    report.reasons.append(f"what waits cannot be told (error {error.number}: {error.text})")
        finally:
            voice.progress("")
            voice.release(*(f"{reason[0].upper()}{reason[1:]}." for reason in self._late))
            report.reasons[:0] = self._late if voice.as_json else []
        if report.phase == "unknown" and not self._channels(session):
            report.reasons.append("no replication channel is configured on this server: there was nothing to stop")
            return False
        report.held = {HELD_S} == {one.delay for one in self._channels(session)}
        for line in ready.who_could_start(session, self._active_jobs()):
            voice.say(line)
        names = [one.name for one in self._channels(session)]
        self._next(standing.FIND, *(names if len(names) > 1 else ()))
        if args.keep:
            self._keep(session)
        return True

    def _channels(self, session: Session) -> list[Channel]:
        return [one for one in channels(session) if self._target.channel in (None, one.name)]

    def _fate(self, stopped: Stopped, mariadb: bool) -> str:
        """What has become of the transaction that was being applied."""
        if self._args.let_finish and not mariadb:
            return "What was being applied has been finished."
        if stopped.refused and not mariadb:
            return (
                "If something was being applied, it has been FINISHED, not rolled back: this account may not kill"
                f" appliers ({stopped.refused})."
            )
        if mariadb or len(stopped.statements) > 1:
            return "What was being applied has been rolled back; DDL and tables without transactions cannot be."
        return "No transaction had to be rolled back."

    def _stop(self, session: Session) -> Stopped:
        channel, finish = self._target.channel, self._args.let_finish
        try:
            return stop_now(session, channel, finish, self._voice.say)
        except Refused as error:
            if error.number != _SYNTAX:
                raise
        # A proxy greets with a version of its own.
        session.prepare()
        return stop_now(session, channel, finish, self._voice.say)

    def _dry_freeze(self, session: Session) -> bool:
        session.prepare()
        report = self._report
        self._next(Next("stop", ("freeze",)))
        report.statements = [stop_statement(session.version, self._target.channel)]
        for channel in channels(session):
            if self._target.channel not in (None, channel.name):
                continue
            state = read(session, channel)
            held = plan.hold(state._replace(channel=channel._replace(sql="No")))
            if isinstance(held, Plan):
                report.statements += [step.sql for step in held.steps]
            self._stand(state, None, None)
        self._voice.say("freeze would run:")
        return True

    def _frozen(self, session: Session, channel: Channel) -> None:
        """After the stop: records, holds where that is safe, and says what is true of one channel."""
        voice, report = self._voice, self._report
        state = read(session, channel)
        name = f"Channel {channel.name!r}: " if channel.name else ""
        facts: Facts | None = None
        record = Record(self._folder, state.identity, channel.name)
        held = "held before" if state.held else "NOT HELD: any START, and a restart of the server, undoes this"
        try:
            facts = self._begin(record, state)
            holder = lock(session, channel.name)
            if holder:
                raise Failed(f"another rescue acts here: {holder}")
            planned = plan.hold(state)
            if isinstance(planned, Refusal):
                raise Failed(planned.reason)
            runner = Runner(session, state, facts, record, voice.say, voice.progress)
            runner.run(planned)
            report.done += runner.done
            held = f"HELD: neither START nor a restart applies anything here (the delay is {HELD_S} s)"
        except RecordError as error:
            voice.say(f"{name}The record cannot be kept: {error}. Note down: the delay was {channel.delay} s.")
            report.reasons.append(f"the record cannot be kept: {error}; the delay was {channel.delay} s")
        except Failed as error:
            report.reasons.append(f"not held: {error}")
        voice.say(f"{name}{held}.")
        if facts is not None:
            self._note_job(facts, finished=False)
        state = read(session, current(session, channel.name))
        clock_ = find.times(session, state, self._fetched(state))
        first = find.oldest(session, state, facts)
        self._stand(state, facts, first)
        if first is None:
            voice.say(f"{name}Nothing waits: all that was fetched has been applied.")
        else:
            moment = clock_.of(first)
            ago = f", {span(state.now - moment.time)} ago" if moment.time is not None else ""
            voice.say(f"{name}The oldest waiting change: {when(moment)}{ago}, at {first.source}.")
        voice.say(f"{name}{ready.room(state, clock_.of(first).time if first else None)}")
        if state.channel.sql_errno and state.channel.sql_errno != plan.KILLED:
            voice.say(f"{name}An SQL error stands: {one_line(state.channel.sql_error)}")
        self._look_for(session, state, facts, clock_, first)

    def _look_for(
        self, session: Session, state: State, facts: Facts | None, clock_: find.Times, first: Transaction | None
    ) -> None:
        """Whether what somebody fears for still waits."""
        args, voice = self._args, self._voice
        left = "What is left to try: backups, other replicas, the source's binary logs"
        if args.before is not None:
            moment = clock_.of(first) if first else find.UNKNOWN
            if moment.time is None:
                voice.say("Whether it is too late cannot be told: times are unknown.")
            elif moment.time - (moment.error or 0) > args.before:
                self._late.append(f"too late: changes of {clock(args.before)} have been applied here. {left}")
            else:
                voice.say(f"In time: changes of {clock(args.before)} have not been applied here.")
        if self._tables:
            listing = find.listed(session, state, facts, clock_, find.Filter(tuple(self._tables)), 1)
            if listing.found:
                one = listing.found[0].transaction
                voice.say(f"In time: {one.kind} of {', '.join(one.tables)} waits, as {one.gtid or one.source}.")
            else:
                doubts = {name: tables.unknown(session, name, listing.scan.tables) for name in self._tables}
                wrong = [why for why in doubts.values() if why]
                self._tables = [name for name, why in doubts.items() if not why]
                self._late.append(
                    f"too late, {'not fetched yet or mistyped' if wrong else 'or not fetched yet'}: nothing that"
                    f" destroys {', '.join(doubts)} waits here{' (' + '; '.join(wrong) + ')' if wrong else ''}. {left}"
                )

    def _active_jobs(self) -> list[str]:
        """Planned work that is going on, by the history."""
        history = self._history()
        if history is None:
            return []
        try:
            jobs: dict[str, JobLine] = {}
            for _, line in history.job_lines(replica_name(self._args)) if history.readable else ():
                jobs[line.id] = merge_job(jobs.get(line.id), line)
            return [
                f"{line.kind} {line.id}"
                for line in jobs.values()
                if line.finished_at is None and not line.void and line.kind != KIND
            ]
        except HistoryUnavailable:
            return []
        finally:
            history.close()

    def _keep(self, session: Session) -> None:
        """Stops again and again, where something else starts again and again: pt-slave-delay, a backup's end."""
        voice = self._voice
        voice.say("Stopping again every second, until interrupted (Ctrl-C). End the program that starts it again: each")
        voice.say("time, changes can be applied for up to a second. pt-slave-delay goes on with what it thinks is due.")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        seen: dict[str, Place] = {}
        try:
            while True:
                time.sleep(KEEP_S)
                try:
                    if not session.connection.open:
                        session.connect()
                        session.prepare()
                    every = self._channels(session)
                    if any(one.sql != "No" for one in every):
                        self._report.done += self._stop(session).statements
                        voice.say(f"{clock(time.time())}: somebody had started it; stopped again")
                    for one in every:
                        if one.relay.order > seen.setdefault(one.name, one.relay).order:
                            voice.say(f"{clock(time.time())}: CHANGES HAVE BEEN APPLIED meanwhile, up to {one.applied}")
                        seen[one.name] = one.relay
                except SampleFailed as error:
                    voice.say(f"{clock(time.time())}: {error}")
        except KeyboardInterrupt:
            voice.say("No more stopping.")
