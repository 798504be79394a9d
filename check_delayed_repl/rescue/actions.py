"""The other actions of `delayed-repl rescue`, from the server's state to what is said."""

from __future__ import annotations

import time
from collections.abc import Iterator

from check_delayed_repl.observe.connection import Refused
from check_delayed_repl.rescue import find, plan, ready, standing, tables
from check_delayed_repl.rescue.base import SEE, TEXTS, Action, Gone
from check_delayed_repl.rescue.plan import Plan, Refusal, Waiting
from check_delayed_repl.rescue.record import Facts, Record, RecordError
from check_delayed_repl.rescue.relaylog import Transaction
from check_delayed_repl.rescue.report import clock, when
from check_delayed_repl.rescue.run import Failed, current, lock
from check_delayed_repl.rescue.standing import Next
from check_delayed_repl.rescue.state import Session, State, identity, read
from check_delayed_repl.words import one_line, plural, size, span


class Rescue(Action):
    """find, forward, resume, status or ready."""

    def _act(self) -> bool | None:
        session = self._session = Session(self._target, self._args.timeout)
        session.prepare()
        done: bool | None = getattr(self, f"_{self._args.action}")(session)
        return done

    def _find(self, session: Session) -> bool | None:
        args, voice = self._args, self._voice
        state = self._one(session)
        try:
            _, facts = self._record(state)
        except RecordError:
            facts = None
        clock_ = find.times(session, state, self._fetched(state))
        wanted = find.Filter(tuple(self._tables), tuple(args.kind or ()), args.since, args.until, args.all)
        listing = find.listed(session, state, facts, clock_, wanted, args.limit)
        found = listing.found
        voice.found(listing)
        if voice.as_json:
            return None
        for table in () if found else wanted.tables:
            if why := tables.unknown(session, table, listing.scan.tables):
                voice.say(f"Mistyped? {why}.")
        if found:
            one = found[0].transaction
            self._next(Next("the plan for the first of these", ("forward", one.gtid or str(one.source))))
        elif listing.first is None:
            self._next(SEE)
        else:
            self._next(Next("everything that waits", ("find", "--all", "--limit", "0")))
        voice.say(f"\nNext: {self._report.next}")
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
            doubts = {table: tables.unknown(session, table, found.tables) for table in self._tables}
            if isinstance(planned, Plan) and any(doubts.values()):
                self._tables = [table for table, why in doubts.items() if not why]
                planned = Refusal("; ".join(filter(None, doubts.values())), ("find",))
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
        for table in self._tables:
            if tables.access(session, table) == "denied":
                voice.say(f"Mind: this account may not read {table}: the dump and --verify need SELECT on it.")
        report.dump = tables.dump_command(state, self._target, self._tables)
        if not args.execute:
            report.statements = [step.sql for step in planned.steps]
            if args.verify:
                voice.say(f"And then COUNT and CHECKSUM TABLE of {', '.join(self._tables)}.")
            self._next(
                Next("do it", ("forward", name, "--execute"))
                if planned.steps
                else standing.next_step(state, active, found.first)
            )
            return True
        if planned.steps or active is None or (active.phase, active.target) != ("forwarded", name):
            self._roll(session, state, record, active, name, found.target, moment, planned)
        state = self._one(session)
        facts = record.load()
        first = find.oldest(session, state, facts)
        if first is None or not first.named(name):
            raise Failed(
                f"the server does not stand in front of {name}: it stands at {first.source if first else 'the end'}"
            )
        self._stand(state, facts, first)
        voice.say(f"Forwarded to just before {name}, at {first.source}, and held there.")
        self._next(standing.next_step(state, facts, first))
        return self._verify(session) if args.verify else True

    def _verify(self, session: Session) -> bool:
        """Whether every table could be counted. The forward is done all the same."""
        report = self._report
        for table in self._tables:
            try:
                rows = [*tables.verified(session, table)]
                report.tables += rows
                if not rows:
                    report.reasons.append(f"{table} is not verified: this account sees no table there")
            except Refused as error:
                report.reasons.append(f"{table} is not verified (error {error.number}: {error.text})")
        return not report.reasons

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
                f"{facts.target}, the target so far, waits before {name} and would be applied: skip it first"
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
            voice.say("The server stands there already, and is held: nothing to do.")

    def _roll(
        self,
        session: Session,
        state: State,
        record: Record,
        facts: Facts | None,
        name: str,
        target: Transaction,
        moment: find.Moment,
        planned: Plan,
    ) -> None:
        self._lock(session, state)
        fresh = facts is None
        facts = facts or self._begin(record, state)
        facts.phase, facts.target = "forwarding", name
        facts.target_time, facts.target_place = moment.time, str(target.source)
        record.save(facts)
        if fresh:
            self._note_job(facts, finished=False)
        self._runner(session, state, facts, record).run(planned)
        facts.phase, facts.place = "forwarded", facts.target_place
        record.save(facts)

    def _lock(self, session: Session, state: State) -> None:
        if holder := lock(session, state.channel.name):
            raise Failed(f"another rescue acts here: {holder}")

    def _new_facts(self, state: State) -> Facts:
        channel = state.channel
        return Facts(state.identity, channel.name, "forwarding", state.now, None, channel.gtid, channel.io != "No")

    # --- resume ---

    def _resume(self, session: Session) -> bool:
        args, voice, report = self._args, self._voice, self._report
        try:
            state = self._one(session)
        except Gone as gone:
            return self._gone(session, gone)
        record, facts = self._record(state)
        over = facts is not None and facts.phase == "resumed"
        active = None if over else facts
        scan = find.Scan(session, state, active)
        for _ in scan:
            if not state.pins:
                break
        first, end = scan.first, scan.end
        self._stand(state, facts, first)
        if over and facts is not None and report.phase == "resumed" and args.delay in (None, facts.delay):
            voice.say("Resumed already: nothing to do.")
            return True
        delay = None if args.delay is None else round(args.delay)
        planned = plan.resume(state, active, first, delay, end)
        if isinstance(planned, Refusal):
            return self._refuse(planned)
        self._show_facts(active)
        wanted = delay if delay is not None else active.delay if active else None
        voice.say(f"The delay will be {wanted} s again.")
        if active and active.target and not standing.passed(state, active, first):
            voice.say(self._due(active, wanted, state.now))
        for note in planned.notes:
            voice.say(f"Mind: {note}.")
        if not args.execute:
            report.statements = [step.sql for step in planned.steps]
            self._next(Next("do it", ("resume", "--execute")))
            return True
        self._lock(session, state)
        active = active or self._begin(record, state)
        if active.delay is None or delay is not None:
            active.delay = wanted
        self._runner(session, state, active, record).run(planned)
        channel = current(session, state.channel.name)
        if channel.sql == "No" or channel.delay != wanted:
            raise Failed(f"the SQL thread does not run, or the delay is {channel.delay} s: {channel.sql_error}")
        self._end(record, active)
        self._stand(read(session, channel), active, first)
        voice.say("Replication goes on.")
        return True

    def _due(self, facts: Facts, delay: int | None, now: float) -> str:
        if facts.target_time is None or delay is None:
            return f"When {facts.target} will be applied here is not known."
        due = facts.target_time + delay
        at = "AT ONCE: its delay is over" if due <= now else f"about {clock(due)}, in {span(due - now)}"
        return f"{facts.target} will be applied here {at}."

    def _end(self, record: Record, facts: Facts) -> None:
        facts.phase = "resumed"
        facts.steps.append((round(time.time(), 3), "resume", "done"))
        record.save(facts)
        self._note_job(facts, finished=True)

    def _gone(self, session: Session, gone: Gone) -> bool:
        """There is no such channel: somebody has promoted the server, or made it forget its source. Raises Failed."""
        report = self._report
        record = Record(self._folder, identity(session), self._target.channel or "")
        facts = record.load()
        if facts is None or facts.phase == "resumed":
            raise gone
        report.phase = "normal"
        self._voice.say(f"A rescue is in progress, but {gone}: somebody has said RESET ... ALL.")
        self._show_facts(facts)
        if self._args.action == "resume" and self._args.execute:
            self._end(record, facts)
            report.phase = "resumed"
            self._voice.say("The rescue is over: its record and its job have ended. Nothing was started.")
            return True
        report.reasons.append("what waited here is gone; it can only be fetched again, from a source that still has it")
        self._next(Next("end the rescue's record and job, which starts nothing", ("resume", "--execute")))
        return True

    # --- status and ready ---

    def _status(self, session: Session) -> bool:
        voice, report = self._voice, self._report
        try:
            state = self._one(session)
        except Gone as gone:
            return self._gone(session, gone)
        facts: Facts | None = None
        try:
            _, facts = self._record(state)
        except RecordError as error:
            report.reasons.append(f"the record is of no use: {error}")
        active = facts if facts is not None and facts.phase != "resumed" else None
        first = find.oldest(session, state, active)
        self._stand(state, facts, first)
        channel = state.channel
        held = "" if report.phase in ("normal", "resumed") else ", held" if state.held else ", NOT HELD"
        voice.say(f"Phase: {report.phase}{held}.")
        voice.say(
            f"SQL thread {channel.sql}, IO thread {channel.io}, delay {channel.delay} s,"
            f" applied up to {report.position or 'an unknown place'}, relay log at {channel.relay}."
        )
        self._show_facts(facts)
        report.reasons += [one_line(line) for line in standing.differences(state, facts, first)]
        for when_, name, what in facts.steps if facts else ():
            voice.say(f"  {clock(when_)}  {name}: {what}")
        for danger, statements in standing.by_hand(state, active, first):
            voice.say(f"{danger}:")
            voice.statements(statements)
        if report.phase == "forwarded":
            there = [name for name in self._tables if tables.access(session, name) != "absent"]
            report.reasons += [f"there is no {name} here" for name in self._tables if name not in there]
            report.dump = tables.dump_command(state, self._target, there)
        self._next(standing.next_step(state, active, first))
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
        if plan.missing(state):
            self._next(Next(TEXTS["grants"], ("grants", "--for", "rescue")))
        else:
            self._next(Next("on the bad day", ("freeze",)))
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
