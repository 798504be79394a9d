"""The other actions of `delayed-repl rescue`, from the server's state to what is said."""

from __future__ import annotations

import time
from collections.abc import Iterator

from check_delayed_repl.observe.connection import Refused
from check_delayed_repl.rescue import find, plan, ready
from check_delayed_repl.rescue.base import Action
from check_delayed_repl.rescue.plan import Plan, Refusal, Waiting
from check_delayed_repl.rescue.record import Facts, Record, RecordError
from check_delayed_repl.rescue.relaylog import Place, Transaction
from check_delayed_repl.rescue.report import clock, dump_command, quoted, when
from check_delayed_repl.rescue.run import Failed, current, lock
from check_delayed_repl.rescue.state import Session, State, read
from check_delayed_repl.words import one_line, plural, size, span


class Rescue(Action):
    """find, forward, resume, status or ready."""

    def _act(self) -> bool | None:
        session = self._session = Session(self._target, self._args.timeout)
        session.prepare()
        done: bool | None = getattr(self, f"_{self._args.action}")(session)
        return done

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
            for table in args.tables:
                try:
                    rows = [*self._verified(session, table)]
                    report.tables += rows
                    if not rows:
                        report.reasons.append(f"{table} is not verified: this account sees no table there")
                except Refused as error:
                    # The forward is done all the same.
                    report.reasons.append(f"{table} is not verified (error {error.number}: {error.text})")
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

    def _verified(self, session: Session, table: str) -> Iterator[dict[str, object]]:
        database, _, name = table.partition(".")
        names = [name]
        if name == "*":
            tables = f"SHOW FULL TABLES FROM {quoted(database)} WHERE Table_type = 'BASE TABLE'"
            names = [(row[0] or b"").decode() for row in session.ask(tables, "listing tables").rows]
        for each in names:
            one = f"{quoted(database)}.{quoted(each)}"
            count = session.ask(f"SELECT COUNT(*) FROM {one}", "counting", patience=86400).rows  # noqa: S608
            checksum = session.ask(f"CHECKSUM TABLE {one}", "checksumming", patience=86400).rows[0][1]
            yield {
                "name": f"{database}.{each}",
                "count": int(count[0][0] or 0),
                "checksum": int(checksum) if checksum else None,
            }

    # --- resume ---

    def _resume(self, session: Session) -> bool:
        args, voice, report = self._args, self._voice, self._report
        state = self._one(session)
        record, facts = self._record(state)
        over = facts is not None and facts.phase == "resumed"
        active = None if over else facts
        first: Transaction | None = None
        end: Place | None = None
        for one in find.scan(session, state, active):
            first, end = first or one, one.source_end
            if not state.pins:
                break
        self._stand(state, facts, first)
        if over and facts is not None and report.phase == "resumed" and args.delay in (None, facts.delay):
            voice.say("Resumed already: nothing is to be done.")
            return True
        delay = None if args.delay is None else round(args.delay)
        planned = plan.resume(state, active, first, delay, end)
        if isinstance(planned, Refusal):
            return self._refuse(planned)
        self._show_facts(active)
        wanted = delay if delay is not None else active.delay if active else None
        voice.say(f"The delay will be {wanted} s again.")
        if active and active.target and active.target_time is not None and wanted is not None:
            due = active.target_time + wanted
            at = "AT ONCE: its delay is over" if due <= state.now else f"about {clock(due)}, in {span(due - state.now)}"
            voice.say(f"{active.target} will be applied here {at}.")
        elif active and active.target:
            voice.say(f"When {active.target} will be applied here is not known.")
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
