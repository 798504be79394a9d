"""`delayed-repl rescue freeze`: stops first, then records, holds where that is safe, and says what is true."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

from check_delayed_repl.history import History
from check_delayed_repl.observe.dialect import Dialect
from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.options import replica_name
from check_delayed_repl.records import HELD_S
from check_delayed_repl.rescue import find, plan, ready, tables
from check_delayed_repl.rescue.base import KIND, Action
from check_delayed_repl.rescue.plan import Refusal
from check_delayed_repl.rescue.record import Record, RecordError
from check_delayed_repl.rescue.relaylog import Place
from check_delayed_repl.rescue.run import Failed, Stopped, current, lock, shows_appliers, stop_now, stop_statement
from check_delayed_repl.rescue.standing import FIND, Next, other_delay, overtaken, passed
from check_delayed_repl.rescue.state import Channel, State, channels, named, read
from check_delayed_repl.rescue.statements import ANY
from check_delayed_repl.words import one_line, span, utc

KEEP_S = 1.0
PASTE = ("STOP REPLICA SQL_THREAD", "STOP SLAVE SQL_THREAD", "STOP ALL SLAVES SQL_THREAD")
"""For MySQL from 8.0.22 on, for older ones, for MariaDB."""
LEFT = "What is left to try: backups, other replicas, the source's binary logs"


class Freeze(Action):
    """Refuses nothing that a stop would help."""

    def _act(self) -> bool:
        args, report, voice, session = self._args, self._report, self._voice, self._session
        began = time.monotonic()
        try:
            with suppress(Refused):  # what could not be prepared keeps nobody from stopping
                session.connect()
            if args.dry_run:
                return self._dry_freeze()
            stopped = self._stop()
        except (Refused, SampleFailed, OptionFileError) as error:
            voice.say("NOT stopped. Paste one of these into a client on the replica:")
            report.reasons.append(str(error))
            known = session.version
            report.statements = [stop_statement(known, self._target.channel)] if known else [*PASTE]
            return False
        report.done = stopped.statements
        self._late: list[str] = []
        """Why it is, or may be, too late for what somebody fears for: it comes first, and is known last."""
        if self._tables or args.before is not None:
            voice.progress("stopped; looking for what was asked for")
            voice.keep()
        try:
            voice.say(f"Stopped after {time.monotonic() - began:.2f} s:")
            voice.statements(stopped.statements)
            for unclear in args.unclear:
                voice.say(f"Not looked for: {unclear}.")
            self._say_times()
            voice.say(self._fate(stopped, session.say.mariadb))
            every = self._channels()
            for channel in every:
                try:
                    self._frozen(channel)
                except Refused as error:
                    report.reasons.append(f"what waits cannot be told ({error})")
        finally:
            voice.progress("")
            voice.release(*(f"{reason[0].upper()}{reason[1:]}." for reason in self._late))
            report.reasons[:0] = self._late if voice.as_json else []
        if not every:
            report.reasons.append("no replication channel is configured on this server: there was nothing to stop")
            return False
        if len(stopped.statements) > 1 and not shows_appliers(session):
            names = {one.name for one in channels(session)} - {one.name for one in every}
            report.reasons += [
                f"what was ended may have been of channel {name!r} too, as this server does not tell appliers apart:"
                " look whether it stands still, and once it may go on:"
                f" {Dialect(session.version, name).start(plan.SQL)}"
                for name in sorted(names)
            ]
        report.held = {HELD_S} == {one.delay for one in self._channels()}
        for line in ready.who_could_start(session, self._active_jobs()):
            voice.say(line)
        self._next(FIND, *(one.name for one in every if len(every) > 1))
        if args.stop_again:
            self._keep()
        return True

    def _channels(self) -> list[Channel]:
        return named(channels(self._session), self._target.channel)

    def _stop(self) -> Stopped:
        return stop_now(self._session, self._target.channel, bool(self._args.let_finish), self._voice)

    def _fate(self, stopped: Stopped, mariadb: bool) -> str:
        """What has become of the transaction that was being applied."""
        if self._args.let_finish and not mariadb:
            return "What was being applied has been finished."
        if stopped.refused:
            # MariaDB rolls back by itself what waits for nothing.
            has = "may have" if mariadb else "has"
            return (
                f"If something was being applied, it {has} been FINISHED, not rolled back: this account may not kill"
                f" appliers ({stopped.refused})."
            )
        if mariadb or len(stopped.statements) > 1:
            what = "What was being applied" if len(stopped.statements) > 1 else "If something was being applied, it"
            return f"{what} has been rolled back; DDL and tables without transactions cannot be."
        return "No transaction had to be rolled back."

    def _dry_freeze(self) -> bool:
        report = self._report
        self._next(Next("stop", ("freeze",)))
        report.statements = [stop_statement(self._session.version, self._target.channel)]
        for channel in self._channels():
            state = read(self._session, channel)
            with suppress(Refusal):
                held = plan.hold(state._replace(channel=channel._replace(sql="No")))
                report.statements += [step.sql for step in held.steps]
            self._stand(state, None, None)
        self._voice.say("freeze would run:")
        return True

    def _frozen(self, channel: Channel) -> None:
        """After the stop: records, holds where that is safe, and says what is true of one channel."""
        session, voice, report = self._session, self._voice, self._report
        state = read(session, channel)
        name = f"Channel {channel.name!r}: " if channel.name else ""
        kept: Record | None = None
        try:
            record = Record(self._folder, state.identity, channel.name)
            facts, kept = self._begin(record, state), record
        except RecordError as error:
            facts = self._first_facts(state)
            was = "set by a freeze before" if facts.delay is None else f"{facts.delay} s"
            report.reasons.append(
                f"the record cannot be kept: {error}. Note down: the delay was {was}, and {facts.job} is the job to"
                " finish at the end"
            )
        held = "held before" if state.held else "NOT HELD: any START, and a restart of the server, undoes this"
        runner = self._runner(facts, kept)
        try:
            lock(session, channel.name)
            if other := other_delay(state, facts):
                report.reasons.append(other)
                facts.delay = channel.delay or facts.delay
            facts.fetching = facts.fetching or channel.io != "No"
            runner.save()
            runner.run(plan.hold(state))
            held = f"HELD: neither START nor a restart applies anything here (the delay is {HELD_S} s)"
        except (Failed, Refusal) as error:
            report.reasons.append(f"not held: {error}")
        voice.say(f"{name}{held}.")
        self._note_job(facts, finished=False)
        state = read(session, current(session, channel.name))
        search = find.Search(session, state, facts, self._fetched(state))
        first = find.oldest(session, state, facts)
        if first and passed(state, facts, first):
            # A rescue that was not ended has had that one: whoever freezes now fears for something else.
            facts.phase, facts.gtid, facts.place = "frozen", state.channel.gtid, str(first.source)
            facts.target = facts.target_time = facts.target_place = None
            runner.save()
        self._stand(state, facts, first)
        listing = None
        if self._tables or self._args.before is not None:
            sought, parents = tables.sought(session, state, self._tables)
            listing = search.listed(find.Filter(tuple(sought)), 1)
            voice.mind([*parents, *ready.filtered(state)])
        moment = search.of(first) if first else find.UNKNOWN
        if first is None:
            voice.say(f"{name}Nothing waits: all that was fetched has been applied.")
        elif listing or moment.time is None:
            ago = f", {span(state.now - moment.time)} ago" if moment.time is not None else ""
            voice.say(f"{name}The oldest waiting change: {moment}{ago}, at {first.source}.")
        else:  # whether the heartbeat went on is not known before all that waits has been read
            voice.say(f"{name}The oldest waiting change: {utc(moment.earliest)} or later, at {first.source}.")
        voice.say(f"{name}{ready.room(session, state, moment.time)}")
        if state.channel.sql_errno and state.channel.sql_errno != plan.KILLED:
            voice.say(f"{name}An SQL error stands: {one_line(state.channel.sql_error)}")
        if listing and first is None:
            self._late.append(f"{name}too late, or not fetched yet: nothing waits here. {LEFT}")
        elif listing:
            if self._args.before is not None:
                self._look_for_time(name, state, moment, self._args.before)
            if self._tables:
                self._look_for_tables(name, state, listing, sought)

    def _look_for_time(self, name: str, state: State, oldest: find.Moment, before: float) -> None:
        if oldest.latest <= before and state.ahead and state.ahead.file:
            self._late.append(f"{name}whether it is too late cannot be told: {overtaken(state)}")
        elif oldest.latest <= before:
            self._voice.say(f"{name}In time: changes of {utc(before)} have not been applied here.")
            self._voice.mind([overtaken(state)] if state.ahead else ())
        elif oldest.earliest > before:
            self._late.append(f"{name}too late: changes of {utc(before)} have been applied here. {LEFT}")
        else:
            self._late.append(f"{name}whether it is too late cannot be told: the oldest waiting change: {oldest}")

    def _look_for_tables(self, name: str, state: State, listing: find.Listing, sought: list[str]) -> None:
        if listing.found:
            one = listing.found[0].transaction
            sure = tables.touches(one.tables.keys() - {ANY}, sought)
            in_time = "In time" if sure else "Perhaps in time"
            waits = f"{one.kind} of {', '.join(one.tables)} waits, as {one.name}"
            if state.ahead and one.source.order < state.ahead.order:
                self._late.append(f"{name}whether it is too late cannot be told: {waits}, but {overtaken(state)}")
            else:
                self._voice.say(f"{name}{in_time}: {waits}.")
                self._voice.mind([overtaken(state)] if state.ahead and not state.ahead.file else ())
            return
        here = tables.here(self._session, state, self._tables)
        doubts = {table: tables.unknown(self._session, table, listing.scan.tables) for table in here}
        wrong = "; ".join(filter(None, doubts.values()))
        broken = f" NOT ALL OF IT can be read: {listing.scan.broken}." if listing.scan.broken else ""
        self._late.append(
            f"{name}perhaps too late, {'not fetched yet or mistyped' if wrong else 'or not fetched yet'}: nothing that"
            f" waits here is seen to destroy {', '.join(doubts)}{f' ({wrong})' if wrong else ''}. A view, a trigger or"
            f" a foreign key may hide it: look at what is here, and at all that waits.{broken} {LEFT}"
        )

    def _active_jobs(self) -> list[str]:
        """Planned work that is going on, by the history."""

        def active(history: History) -> list[str]:
            going_on = self._jobs(history, replica_name(self._args))
            return [f"{line.kind} {line.id}" for line in going_on if line.kind != KIND]

        return self._from_history(active, [])

    def _keep(self) -> None:
        """Stops again and again, where something else starts again and again: pt-slave-delay, a backup's end."""
        session, voice = self._session, self._voice
        voice.say("Stopping again every second, until interrupted (Ctrl-C). End the program that starts it again: each")
        voice.say("time, changes can be applied for up to a second. pt-slave-delay goes on with what it thinks is due.")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        seen: dict[str, Place] = {}
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(KEEP_S)
                try:
                    if not session.connection.open:
                        session.connect()
                    every = self._channels()
                    if any(one.sql != "No" for one in every):
                        self._report.done += self._stop().statements
                        voice.say(f"{utc(time.time())}: somebody had started it; stopped again")
                    for one in every:
                        if one.applied != seen.setdefault(one.name, one.applied):
                            voice.say(f"{utc(time.time())}: CHANGES HAVE BEEN APPLIED meanwhile, up to {one.applied}")
                        seen[one.name] = one.applied
                except SampleFailed as error:
                    voice.say(f"{utc(time.time())}: {error}")
        voice.say("No more stopping.")
