"""The actions of `delayed-repl rescue`, from the server's state to what is said."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Iterator, Sequence

from check_delayed_repl.history import LOCATION_VARIABLE, History, HistoryUnavailable, default_file, open_history
from check_delayed_repl.observe.connection import Refused, SampleFailed
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.options import replica_name, target_from
from check_delayed_repl.records import JobLine, merge_job
from check_delayed_repl.rescue import find, plan, ready
from check_delayed_repl.rescue.plan import Plan, Refusal, Waiting
from check_delayed_repl.rescue.record import Facts, Record, RecordError
from check_delayed_repl.rescue.relaylog import Place, Transaction
from check_delayed_repl.rescue.report import Report, Voice, clock, dump_command, quoted, when
from check_delayed_repl.rescue.run import Failed, Runner, current, lock, stop_now, stop_statement
from check_delayed_repl.rescue.state import HELD_S, Channel, Session, State, channels, read
from check_delayed_repl.words import one_line, plural, size, span

KIND = "rescue"
HISTORY_S = 3.0
"""How long the history may keep a rescue waiting."""
FETCHED_S = 3 * 86400.0
"""How far back the history's fetched places are of use."""
KEEP_S = 1.0
_SYNTAX, _DENIED, _LOST = 1064, (1044, 1045, 1142, 1227), "the server went away"
PASTE = (
    "STOP REPLICA SQL_THREAD",
    "STOP SLAVE SQL_THREAD",
    "STOP ALL SLAVES SQL_THREAD",
)
"""For MySQL from 8.0.22 on, for older ones, for MariaDB."""


class Rescue:
    """One command."""

    def __init__(self, args: argparse.Namespace, folder: str) -> None:
        self._args = args
        self._folder = folder
        self._target = target_from(args)
        self._voice = Voice(args.output == "json")
        self._report = Report()
        self._session: Session | None = None

    def run(self) -> int:
        """The exit status: 0 done or planned, 1 refused or failed."""
        report = self._report
        try:
            if self._args.action == "freeze":
                done = self._freeze()
            else:
                session = self._session = Session(self._target, self._args.timeout)
                session.prepare()
                done = getattr(self, f"_{self._args.action}")(session)
        except KeyboardInterrupt:
            report.reasons.append(
                "interrupted: what the server has begun it goes on with, up to where it was told to stop"
            )
            report.next = "delayed-repl rescue status"
            done = False
        except Refused as error:
            report.reasons.append(f"error {error.number}: {error.text}")
            done = False
        except (SampleFailed, OptionFileError, Failed, RecordError) as error:
            report.reasons.append(getattr(error, "message", None) or str(error))
            report.next = report.next or "delayed-repl rescue status"
            done = False
        finally:
            if self._session is not None:
                self._session.close()
        if done is not None:
            self._voice.finish(report)
        return 0 if done or done is None else 1

    # --- what the actions share ---

    def _one(self, session: Session) -> State:
        """The state of the channel that is named, or of the only one. Raises Failed."""
        every = channels(session)
        name = self._target.channel
        if not every:
            raise Failed("no replication channel is configured on this server")
        if name is None and len(every) > 1:
            listed = ", ".join(one.name or "''" for one in every)
            raise Failed(f"there are {len(every)} channels: name one with --channel: {listed}")
        for one in every:
            if name is None or one.name.lower() == name.lower():
                return read(session, one)
        raise Failed(f"there is no channel {name!r}: there are {', '.join(one.name or repr('') for one in every)}")

    def _record(self, state: State) -> tuple[Record, Facts | None]:
        """The record, and its facts unless it is of a rescue that is over. Raises RecordError."""
        record = Record(self._folder, state.identity, state.channel.name)
        return record, record.load()

    def _history(self, create: bool = False) -> History | None:
        """The history, where it is there, or named and to be created; None, with a word, where it cannot be used."""
        where = self._args.history or os.environ.get(LOCATION_VARIABLE)
        try:
            if not (where and (create or "://" in where)) and not os.path.exists(where or default_file()):
                return None
            return open_history(self._args.history, time.monotonic() + HISTORY_S)
        except HistoryUnavailable as error:
            self._voice.say(f"The history cannot be used: {error}")
            return None

    def _fetched(self, state: State) -> list[tuple[Place, float]]:
        """Places in the source's log, each with when the history has seen it fetched."""
        history = self._history()
        if history is None:
            return []
        try:
            if not history.readable:
                return []
            samples = history.window(replica_name(self._args), state.now - FETCHED_S, 1 << 62)
            return [(Place(*one.source_log), one.t) for one in samples if one.source_log]
        except HistoryUnavailable as error:
            self._voice.say(f"The history cannot be read: {error}")
            return []
        finally:
            history.close()

    def _note_job(self, facts: Facts, finished: bool) -> None:
        """Tells the history that a rescue is in progress, or over."""
        history = self._history(create=True)
        if history is None:
            return
        try:
            now = history.now()
            started = min(facts.started, now)
            history.add_job(replica_name(self._args), JobLine(now, facts.job, KIND, started, now if finished else None))
        except HistoryUnavailable as error:
            self._voice.say(f"The history does not know of it: {error}")
        finally:
            history.close()

    def _show_facts(self, facts: Facts | None) -> None:
        if facts is None:
            self._voice.say("There is no record of a rescue.")
            return
        delay = "unknown" if facts.delay is None else f"{facts.delay} s"
        how = "GTID" if facts.gtid else "file and position"
        io = "ran" if facts.fetching else "was stopped"
        target = f", target {facts.target}" if facts.target else ""
        self._voice.say(
            f"From the record: {facts.phase} since {clock(facts.started)}; before it the delay was {delay}, by {how},"
            f" and the IO thread {io}{target}."
        )

    def _stand(self, state: State, facts: Facts | None, first: Transaction | None) -> None:
        """Where the server stands, into the report."""
        report = self._report
        report.phase = plan.phase(state, facts, first)
        report.held = state.held
        report.position = str(first.source if first else state.channel.fetched)

    def _refuse(self, refusal: Refusal) -> bool:
        self._voice.say("Refused, and nothing was changed:")
        self._report.reasons += [one_line(reason) for reason in refusal.reasons]
        self._report.next = "delayed-repl rescue status"
        return False

    def _runner(self, session: Session, state: State, facts: Facts, record: Record) -> Runner:
        runner = Runner(session, state, facts, record, self._voice.say, self._voice.progress)
        self._report.done = runner.done
        return runner

    # --- freeze ---

    def _freeze(self) -> bool:
        args, report, voice = self._args, self._report, self._voice
        began = time.monotonic()
        try:
            session = self._session = Session(self._target, args.timeout)
            if args.dry_run:
                return self._dry_freeze(session)
            done = self._stop(session)
        except (Refused, SampleFailed, OptionFileError) as error:
            reason = f"error {error.number}: {error.text}" if isinstance(error, Refused) else str(error)
            voice.say("NOT stopped. Paste one of these into a client on the replica:")
            report.reasons.append(reason)
            report.statements = (
                [stop_statement(self._session.version, self._target.channel)] if self._session else [*PASTE]
            )
            return False
        report.done = done
        voice.say(f"Stopped after {time.monotonic() - began:.2f} s:")
        voice.statements(done)
        session.prepare()
        every = [one for one in channels(session) if self._target.channel in (None, one.name)]
        report.held = bool(every)
        for channel in every:
            self._frozen(session, channel)
        for line in ready.who_could_start(session, self._active_jobs()):
            voice.say(line)
        report.next = "delayed-repl rescue find, then delayed-repl rescue forward TARGET --execute"
        if args.keep:
            self._keep(session)
        return True

    def _stop(self, session: Session) -> list[str]:
        args = self._args

        def again() -> Session:
            return Session(self._target, args.timeout)

        try:
            return stop_now(session, self._target.channel, args.let_finish, again)
        except Refused as error:
            if error.number != _SYNTAX:
                raise
        # A proxy greets with a version of its own.
        session.prepare()
        return stop_now(session, self._target.channel, args.let_finish, again)

    def _dry_freeze(self, session: Session) -> bool:
        session.prepare()
        report = self._report
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
        held = False
        try:
            facts = self._begin(record, state)
            holder = lock(session, channel.name)
            if holder:
                raise Failed(f"another rescue acts here: {holder}")
            planned = plan.hold(state)
            if isinstance(planned, Refusal):
                raise Failed(planned.reasons[0])
            runner = Runner(session, state, facts, record, voice.say, voice.progress)
            runner.run(planned)
            report.done += runner.done
            held = True
            voice.say(f"{name}HELD: neither START nor a restart applies anything here (the delay is {HELD_S} s).")
        except RecordError as error:
            voice.say(f"{name}The record cannot be kept: {error}. Note down: the delay was {channel.delay} s.")
            report.reasons.append(f"the record cannot be kept: {error}; the delay was {channel.delay} s")
            voice.say(f"{name}NOT HELD: any START, and a restart of the server, undoes this.")
        except Failed as error:
            report.reasons.append(f"not held: {error}")
            voice.say(f"{name}NOT HELD, any START, and a restart of the server, undoes this: {error}.")
        report.held = report.held and held
        if facts is not None:
            self._note_job(facts, finished=False)
        state = read(session, current(session, channel.name))
        clock_ = find.times(session, state, self._fetched(state))
        first = next(find.scan(session, state, facts), None)
        self._stand(state, facts, first)
        report.held = held and report.held
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

    def _begin(self, record: Record, state: State) -> Facts:
        """The facts of the rescue that goes on, or of one that begins now. Raises RecordError."""
        facts = record.load()
        if facts is not None and facts.phase != "resumed":
            return facts
        if facts is not None:
            record.put_aside(facts)
        channel = state.channel
        delay = None if state.held else channel.delay
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(state.now))
        facts = Facts(
            server=state.identity,
            channel=channel.name,
            phase="frozen",
            started=state.now,
            delay=delay,
            gtid=channel.gtid,
            fetching=channel.io != "No",
            job=f"{KIND}-{moment}-{os.urandom(2).hex()}" + ("" if delay is None else f"-delay-{delay}"),
        )
        facts.steps.append((round(time.time(), 3), "freeze", "done"))
        record.save(facts)
        return facts

    def _look_for(
        self, session: Session, state: State, facts: Facts | None, clock_: find.Times, first: Transaction | None
    ) -> None:
        """Whether what somebody fears for still waits."""
        args, voice, report = self._args, self._voice, self._report
        late = "What is left: backups, other replicas, the source's binary logs"
        if args.before is not None:
            moment = clock_.of(first) if first else find.UNKNOWN
            if moment.time is None:
                voice.say("Whether it is too late cannot be told: times are unknown.")
            elif moment.time - (moment.error or 0) > args.before:
                report.reasons.append(f"too late: changes of {clock(args.before)} have been applied here. {late}")
            else:
                voice.say(f"In time: changes of {clock(args.before)} have not been applied here.")
        if args.tables:
            _, found = find.listed(session, state, facts, clock_, find.Filter(tuple(args.tables)), 1)
            if found:
                one = found[0].transaction
                voice.say(f"In time: {one.kind} of {', '.join(one.tables)} waits, as {one.gtid or one.source}.")
            else:
                report.reasons.append(
                    f"too late, or not fetched yet: nothing that destroys {', '.join(args.tables)} waits here. {late}"
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
        self._voice.say("Stopping again every second, until interrupted (Ctrl-C).")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            while True:
                time.sleep(KEEP_S)
                running = [one for one in channels(session) if one.sql != "No"]
                if any(self._target.channel in (None, one.name) for one in running):
                    self._voice.say(f"{clock(time.time())}: somebody had started it; stopped again")
                    self._report.done += stop_now(session, self._target.channel, self._args.let_finish, lambda: session)
        except KeyboardInterrupt:
            self._voice.say("No more stopping.")

    # --- find ---

    def _find(self, session: Session) -> bool | None:
        args = self._args
        state = self._one(session)
        try:
            _, facts = self._record(state)
        except RecordError:
            facts = None
        clock_ = find.times(session, state, self._fetched(state))
        kinds = tuple(args.kind or ())
        wanted = find.Filter(tuple(args.tables or ()), kinds, args.since, args.until, args.all)
        summary, found = find.listed(session, state, facts, clock_, wanted, args.limit)
        self._voice.found(summary, found)
        if found and args.output != "json":
            self._voice.say("\nNext: delayed-repl rescue forward TARGET (shows the plan), then with --execute")
        return None

    # --- forward ---

    def _forward(self, session: Session) -> bool:
        args, voice, report = self._args, self._voice, self._report
        while True:
            state = self._one(session)
            record, facts = self._record(state)
            active = facts if facts is not None and facts.phase != "resumed" else None
            clock_ = find.times(session, state, self._fetched(state))
            found = find.locate(session, state, active, clock_, args.target, args.before)
            name = args.target or self._named(found, args.before)
            planned = plan.forward(state, active, name, found)
            self._stand(state, active, found.first)
            if isinstance(planned, Plan) and active and active.target and active.target != name:
                planned = self._other_target(session, state, active, clock_, name, planned)
            if isinstance(planned, Refusal):
                return self._refuse(planned)
            if not planned.join or not args.execute:
                break
            voice.say("A forward is on its way; waiting for it.")
            assert state.channel.until is not None
            waiter = self._runner(session, state, active or self._new_facts(state), record)
            waiter.wait(state.channel.until)
        assert found.target is not None
        moment = clock_.of(found.target)
        self._show_facts(active)
        self._show_plan(found, moment, planned)
        report.dump = dump_command(state, self._target, args.tables or ())
        if not args.execute:
            report.statements = [step.sql for step in planned.steps]
            report.next = (
                f"delayed-repl rescue forward {name} --execute" if planned.steps else "delayed-repl rescue resume"
            )
            return True
        if planned.steps or active is None or (active.phase, active.target) != ("forwarded", name):
            self._roll(session, state, record, active, name, moment, planned)
        state = self._one(session)
        first = next(find.scan(session, state, active), None)
        if first is None or not first.named(name):
            raise Failed(
                f"the server does not stand in front of {name}: it stands at {first.source if first else 'the end'}"
            )
        self._stand(state, record.load(), first)
        voice.say(f"Forwarded to just before {name}, at {first.source}, and held there.")
        if args.verify:
            report.tables = [self._verified(session, table) for table in args.tables]
        report.next = (
            "dump what was lost, load it into a schema beside the old one on the source, compare with what is there now"
            " and merge; then delayed-repl rescue resume"
        )
        return True

    def _named(self, found: Waiting, before: float | None) -> str:
        if found.target is None:
            raise Failed(f"nothing of {clock(before or 0)} or later waits here, or its time is unknown")
        return found.target.gtid or str(found.target.source)

    def _other_target(
        self, session: Session, state: State, facts: Facts, clock_: find.Times, name: str, planned: Plan
    ) -> Plan | Refusal:
        """One target at a time: an earlier one that still waits would be applied on the way to this one."""
        assert facts.target is not None
        earlier = find.locate(session, state, facts, clock_, facts.target)
        new = find.locate(session, state, facts, clock_, name)
        if earlier.target and new.target and earlier.target.relay.order < new.target.relay.order:
            return Refusal(
                (f"{facts.target}, the target so far, waits before {name} and would be applied: skip it first",)
            )
        return planned

    def _show_plan(self, found: Waiting, moment: find.Moment, planned: Plan) -> None:
        voice = self._voice
        assert found.target is not None
        target = found.target
        voice.say(
            f"Target: {target.kind} of {', '.join(target.tables) or 'no table'}, {when(moment)}, at {target.source},"
            f" in the relay log at {target.relay}."
        )
        seconds = max(found.size / 50e6, found.transactions / 2000)
        voice.say(
            f"To apply before it: {plural(found.transactions, 'transaction')}, {size(found.size)},"
            f" perhaps {span(max(1.0, seconds))} (the applier's own speed decides)."
        )
        for note in planned.notes:
            voice.say(f"Mind: {note}.")
        if not planned.steps:
            voice.say("The server stands there already, and is held: nothing is to be done.")

    def _roll(
        self,
        session: Session,
        state: State,
        record: Record,
        facts: Facts | None,
        name: str,
        moment: find.Moment,
        planned: Plan,
    ) -> None:
        holder = lock(session, state.channel.name)
        if holder:
            raise Failed(f"another rescue acts here: {holder}")
        fresh = facts is None
        facts = facts or self._begin(record, state)
        facts.phase, facts.target = "forwarding", name
        facts.target_time = moment.time
        record.save(facts)
        if fresh:
            self._note_job(facts, finished=False)
        self._runner(session, state, facts, record).run(planned)
        facts.phase = "forwarded"
        if state.mariadb:
            facts.slave_pos = session.variable("gtid_slave_pos") or ""
        record.save(facts)

    def _new_facts(self, state: State) -> Facts:
        channel = state.channel
        return Facts(state.identity, channel.name, "forwarding", state.now, None, channel.gtid, channel.io != "No")

    def _verified(self, session: Session, table: str) -> dict[str, object]:
        name = quoted(table)
        count = session.ask(f"SELECT COUNT(*) FROM {name}", "counting", patience=86400).rows  # noqa: S608
        checksum = session.ask(f"CHECKSUM TABLE {name}", "checksumming", patience=86400).rows
        return {
            "name": table,
            "count": int(count[0][0] or 0),
            "checksum": int(checksum[0][1] or 0) if checksum[0][1] else None,
        }

    # --- resume ---

    def _resume(self, session: Session) -> bool:
        args, voice, report = self._args, self._voice, self._report
        state = self._one(session)
        record, facts = self._record(state)
        over = facts is not None and facts.phase == "resumed"
        active = None if over else facts
        first = next(find.scan(session, state, active), None)
        self._stand(state, facts, first)
        if over and facts is not None and report.phase == "resumed" and args.delay in (None, facts.delay):
            voice.say("Resumed already: nothing is to be done.")
            return True
        delay = None if args.delay is None else round(args.delay)
        planned = plan.resume(state, active, first, delay)
        if isinstance(planned, Refusal):
            return self._refuse(planned)
        self._show_facts(active)
        wanted = delay if delay is not None else active.delay if active else None
        voice.say(f"The delay will be {wanted} s again.")
        if active and active.target and active.target_time is not None and wanted is not None:
            due = active.target_time + wanted
            at = "AT ONCE: its delay is over" if due <= state.now else f"about {clock(due)}, in {span(due - state.now)}"
            voice.say(f"{active.target} will be applied here {at}.")
        for note in planned.notes:
            voice.say(f"Mind: {note}.")
        if not args.execute:
            report.statements = [step.sql for step in planned.steps]
            report.next = "delayed-repl rescue resume --execute"
            return True
        holder = lock(session, state.channel.name)
        if holder:
            raise Failed(f"another rescue acts here: {holder}")
        active = active or self._begin(record, state)
        if active.delay is None or delay is not None:
            active.delay = wanted
        self._runner(session, state, active, record).run(planned)
        channel = current(session, state.channel.name)
        if channel.sql == "No" or channel.delay != wanted:
            raise Failed(f"the SQL thread does not run, or the delay is {channel.delay} s: {channel.sql_error}")
        active.phase = "resumed"
        active.steps.append((round(time.time(), 3), "resume", "done"))
        record.save(active)
        self._note_job(active, finished=True)
        self._stand(read(session, channel), active, first)
        voice.say("Replication goes on.")
        return True

    # --- status and ready ---

    def _status(self, session: Session) -> bool:
        args, voice, report = self._args, self._voice, self._report
        state = self._one(session)
        facts: Facts | None = None
        try:
            _, facts = self._record(state)
        except RecordError as error:
            report.reasons.append(f"the record is of no use: {error}")
        active = facts if facts is not None and facts.phase != "resumed" else None
        first = next(find.scan(session, state, active), None)
        self._stand(state, facts, first)
        channel = state.channel
        voice.say(f"Phase: {report.phase}{', held' if state.held else ', NOT HELD'}.")
        voice.say(
            f"SQL thread {channel.sql}, IO thread {channel.io}, delay {channel.delay} s,"
            f" applied up to {report.position}, relay log at {channel.relay}."
        )
        self._show_facts(facts)
        report.reasons += [one_line(line) for line in ready.differences(state, facts, report.phase, first)]
        for when_, name, what in facts.steps if facts else ():
            voice.say(f"  {clock(when_)}  {name}: {what}")
        report.dump = dump_command(state, self._target, args.tables or ()) if report.phase == "forwarded" else None
        report.next = ready.next_step(report.phase, active, state.held)
        if active is not None:
            for line in plan.by_hand(state, first if report.phase == "forwarded" else None):
                voice.say(line)
        return True

    def _ready(self, session: Session) -> bool:
        state = self._one(session)
        checks = [*ready.checks(session, state), *self._source(state)]
        for check in checks:
            self._voice.say(f"[{check.level}] {check.text}")
        report = self._report
        report.reasons += [one_line(f"{one.level}: {one.text}") for one in checks if one.level != "ok"]
        self._stand(state, None, None)
        fine = all(one.level != "FAIL" for one in checks)
        if not self._voice.as_json:
            self._voice.say("A rescue would work here." if fine else "A rescue would NOT work here.")
            report.reasons = []
        return fine

    def _source(self, state: State) -> Iterator[ready.Check]:
        args = self._args
        given = {field: getattr(args, f"source_{field}") for field in ("host", "port", "socket", "user", "password")}
        given["defaults_file"] = args.source_defaults_file
        if all(value is None for value in given.values()):
            yield ready.Check("warn", "whether the source still has its binary logs is not known (give --source-...)")
            return
        target = self._target._replace(**given, defaults_group="client", channel=None)
        yield ready.source_logs(target, args.timeout, state)


__all__: Sequence[str] = ["Rescue"]
