"""The other actions of `delayed-repl rescue`, from the server's state to what is said."""

from __future__ import annotations

import time

import msgspec

from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.rescue import find, plan, ready, standing, tables
from check_delayed_repl.rescue.base import Action
from check_delayed_repl.rescue.plan import Plan, Refusal, Waiting
from check_delayed_repl.rescue.record import Facts, Record, RecordError
from check_delayed_repl.rescue.relaylog import Transaction
from check_delayed_repl.rescue.run import Failed, Runner, current, lock, wait
from check_delayed_repl.rescue.standing import FIND, FREEZE, GRANTS, SEE, Next
from check_delayed_repl.rescue.state import State, channels, identity, named, read
from check_delayed_repl.rescue.statements import ANY
from check_delayed_repl.words import one_line, plain, plural, size, span, utc

LISTED = 20
"""Transactions that find shows where nobody says how many."""


class Gone(Failed):
    """The server has no such channel."""


class Rescue(Action):
    """find, forward, resume, status or ready."""

    _state: State
    _record: Record
    _facts: Facts | None = None
    """As they were last, of a rescue that is over too."""

    @property
    def _active(self) -> Facts | None:
        """The facts of a rescue that is not over."""
        return self._facts if self._facts and self._facts.phase != "resumed" else None

    def _act(self) -> bool | None:
        self._session.connect()
        try:
            self._look()
        except Gone as gone:
            return self._gone(gone)
        done: bool | None = getattr(self, f"_{self._args.action}")(self._state)
        return done

    def _look(self) -> None:
        """Reads the state of the channel that is named, or of the only one, and the record. Raises Gone and Failed."""
        args, every, name = self._args, channels(self._session), self._target.channel
        listed = ", ".join(one.name or "''" for one in every)
        if name is None and len(every) > 1:
            same = [args.action, *filter(None, [getattr(args, "target", None)])]
            same += ["--before", plain(args.before)] if getattr(args, "before", None) is not None else []
            same += ["--execute"] if getattr(args, "execute", False) else []
            self._next(Next("one of", tuple(same)), *(one.name for one in every))
            raise Failed(f"there are {len(every)} channels: name one with --channel: {listed}")
        chosen = named(every, name)
        if not every:
            raise Gone("no replication channel is configured on this server")
        if not chosen:
            raise Gone(f"there is no channel {name!r}: there are {listed}")
        self._state = read(self._session, chosen[0])
        self._record = Record(self._folder, self._state.identity, chosen[0].name)
        try:
            self._facts = self._record.load()
        except RecordError as error:
            if args.action in ("forward", "resume"):
                raise
            if args.action != "ready":
                self._report.reasons.append(f"the record is of no use: {error}")

    def _search(self) -> find.Search:
        return find.Search(self._session, self._state, self._active, self._fetched(self._state))

    def _show_facts(self, facts: Facts | None) -> None:
        if facts is None:
            self._voice.say("There is no record of a rescue.")
            return
        delay = "unknown" if facts.delay is None else f"{facts.delay} s"
        how = "GTID" if facts.gtid else "file and position"
        io = "ran" if facts.fetching else "was stopped"
        target = f", target {facts.target}" if facts.target else ""
        self._voice.say(
            f"From the record: {facts.phase}, begun {utc(facts.started)}; before that the delay was {delay},"
            f" by {how}, and the IO thread {io}{target}."
        )

    def _find(self, _: State) -> None:
        args, voice = self._args, self._voice
        self._say_times()
        sought, parents = tables.sought(self._session, self._state, self._tables)
        wanted = find.Filter(tuple(sought), tuple(args.kind or ()), args.since, args.until, bool(args.all))
        listing = self._search().listed(wanted, LISTED if args.limit is None else args.limit)
        voice.found(listing)
        if voice.as_json:
            return
        voice.mind(filter(None, (*parents, *tables.renamed(self._state), standing.overtaken(self._state))))
        if any(ANY in one.transaction.tables for one in listing.found):
            voice.mind([f"{ANY} stands where the tables that a statement changes cannot be known"])
        if listing.found:
            one = listing.found[0].transaction
            self._next(Next("the plan for the first of these", ("forward", one.name)))
        else:
            for table in tables.here(self._session, self._state, self._tables):
                if why := tables.unknown(self._session, table, listing.scan.tables):
                    voice.say(f"Mistyped? {why}.")
            self._tables = []
            self._next(Next("everything that waits", ("find", "--all", "--limit", "0")) if listing.first else SEE)
        voice.say()
        voice.next(self._report.next)

    # --- forward ---

    def _forward(self, state: State) -> bool:
        args, voice, report, active = self._args, self._voice, self._report, self._active
        self._say_times()
        search = self._search()
        found = search.locate(args.target, args.before or 0.0)
        if args.target is None and found.target is None:
            raise Failed(f"nothing of {utc(args.before)} or later waits here, or its time is unknown")
        name = args.target or (found.target.name if found.target else "")
        self._stand(state, active, found.first)
        planned = plan.forward(state, active, name, found)
        self._tables = tables.here(self._session, state, self._tables)
        waiting = [*found.tables, *tables.called(state, found.tables, here=True)]
        doubts = {table: tables.unknown(self._session, table, waiting) for table in self._tables}
        if any(doubts.values()):
            self._tables = [table for table, why in doubts.items() if not why]
            raise Refusal("; ".join(filter(None, doubts.values())), FIND)
        if planned.join and args.execute:
            assert state.channel.until is not None
            voice.say("A forward is on its way; waiting for it.")
            wait(self._session, state.channel.name, state.channel.until, voice)
            self._look()
            return self._forward(self._state)
        assert found.target is not None
        moment = search.of(found.target)
        self._show_facts(active)
        self._show_plan(found, found.target, moment, planned)
        denied = [table for table in self._tables if tables.access(self._session, table) == "denied"]
        voice.mind(tables.renamed(state) if self._tables else ())
        voice.mind(f"this account may not read {table}: the dump and --verify need SELECT on it" for table in denied)
        report.dump = tables.dump_command(state, self._call.client, self._tables)
        if not args.execute:
            report.statements = [step.sql for step in planned.steps]
            if any(step.until for step in planned.steps):
                voice.mind(["by hand, wait after each UNTIL until the SQL thread has stopped"])
            if args.verify:
                voice.say(f"And then COUNT and CHECKSUM TABLE of {', '.join(self._tables)}.")
            do_it = Next("do it", ("forward", name, "--execute"))
            self._next(do_it if planned.steps else standing.next_step(state, active, found.first))
            return True
        if planned.steps or active is None or (active.phase, active.target) != ("forwarded", name):
            self._roll(name, found.target, moment, planned)
        self._look()
        first = find.oldest(self._session, self._state, self._facts)
        if first is None or not first.named(name):
            raise Failed(
                f"the server does not stand in front of {name}: it stands at {first.source if first else 'the end'}"
            )
        self._stand(self._state, self._facts, first)
        voice.say(f"Forwarded to just before {name}, at {first.source}, and held there.")
        self._next(standing.next_step(self._state, self._facts, first))
        return self._verify() if args.verify else True

    def _verify(self) -> bool:
        """Whether every table could be counted. The forward is done all the same."""
        report = self._report
        for table in self._tables:
            try:
                rows = [*tables.verified(self._session, table)]
                report.tables += rows
                if not rows:
                    report.reasons.append(f"{table} is not verified: this account sees no table there")
            except Refused as error:
                report.reasons.append(f"{table} is not verified ({error})")
        return not report.reasons

    def _show_plan(self, found: Waiting, target: Transaction, moment: find.Moment, planned: Plan) -> None:
        voice = self._voice
        voice.say(
            f"Target: {target.kind} of {', '.join(target.tables) or 'no table'}, {moment}, at {target.source},"
            f" in the relay log at {target.relay}."
        )
        seconds = max(1.0, found.size / 50e6, found.transactions / 2000)
        voice.say(
            f"To apply before it: {plural(found.transactions, 'transaction')}, {size(found.size)},"
            f" perhaps {span(seconds)} (the applier's own speed decides)."
        )
        voice.mind(planned.notes)
        if not planned.steps:
            voice.say("The server stands there already, and is held: nothing to do.")

    def _roll(self, name: str, target: Transaction, moment: find.Moment, planned: Plan) -> None:
        self._take()
        facts = self._begin(self._record, self._state)
        facts.phase, facts.target = "forwarding", name
        facts.target_time, facts.target_place = moment.time, str(target.source)
        self._record.save(facts)
        self._note_job(facts, finished=False)
        runner = self._runner(facts, self._record)
        try:
            runner.run(planned)
        except (Failed, Refused, SampleFailed):
            self._stay(runner, facts)
            raise
        facts.phase, facts.place = "forwarded", facts.target_place
        runner.save()

    def _take(self) -> None:
        """Takes the lock. Raises Refusal where the server or the record is not what the plan was made for: a place that
        is set anew would let what has been applied meanwhile be applied a second time."""
        lock(self._session, self._state.channel.name)
        was, now = self._state.channel, current(self._session, self._state.channel.name)
        same = (now.sql, now.delay, now.until, now.gtid) == (was.sql, was.delay, was.until, was.gtid)
        if not same or (now.sql == "No" and now.relay != was.relay) or self._record.load() != self._facts:
            raise Refusal("somebody has acted here meanwhile")

    def _stay(self, runner: Runner, facts: Facts) -> None:
        """What has failed halfway ends held all the same, or it is said."""
        session, report, planned = self._session, self._report, Plan()
        try:
            if not session.connection.open:
                session.connect()
            state = read(session, current(session, facts.channel))
            first = find.oldest(session, state, facts)
            if first and report.done and state.channel.sql == "No":
                planned = plan.stay(state, facts, first)
                runner.run(planned)
                state = read(session, current(session, facts.channel))
            self._stand(state, facts, first)
        except (Failed, Refused, SampleFailed) as error:
            report.held = False
            report.reasons.append(f"it could not be held: {error}")
            report.statements = [step.sql for step in planned.steps]
        if not report.held:
            report.reasons.append("NOT HELD: any START, and a restart of the server, applies what waits here")

    # --- resume ---

    def _resume(self, state: State) -> bool:
        args, voice, report, active = self._args, self._voice, self._report, self._active
        scan = self._scanned(state)
        first = scan.first
        self._stand(state, self._facts, first)
        if self._facts and report.phase == "resumed" and args.new_delay in (None, state.channel.delay):
            voice.say("Resumed already: nothing to do.")
            return True
        delay = args.new_delay
        beside, keeping = self._beside(state)
        persisted = bool(keeping) or bool(active and active.persisted)
        known = msgspec.structs.replace(active, persisted=persisted) if active else None
        planned = plan.resume(state, known, first, delay, scan.end, scan.gap, beside)
        self._show_facts(active)
        wanted = delay if delay is not None else active.delay if active else None
        voice.say(f"The delay will be {wanted} s again.")
        if active and active.target and not standing.passed(state, active, first):
            voice.say(self._due(active, wanted))
        voice.mind(planned.notes)
        if not args.execute:
            report.statements = [step.sql for step in planned.steps]
            self._next(Next("do it", ("resume", "--execute")))
            return True
        self._take()
        active = active or self._begin(self._record, state)
        before, active.delay, active.persisted = active.delay, wanted, persisted
        self._record.save(active)
        runner = self._runner(active, self._record)
        try:
            if planned.steps and planned.steps[0].name == plan.STOP_BOTH and state.channel.sql != "No":
                # Only what stands still has a place: what was applied meanwhile must not be applied a second time.
                runner.run(Plan(planned.steps[:1]))
                state = read(self._session, current(self._session, state.channel.name))
                if error := plan.pending(state):
                    # Of right before the stop: only a start takes it away, and shows it again where it is not mended.
                    report.reasons.append(error)
                    state = state._replace(channel=state.channel._replace(sql_errno=0))
                scan = self._scanned(state)
                first = scan.first
                planned = plan.resume(state, active, first, delay, scan.end, scan.gap, beside)
            runner.run(planned)
        except (Failed, Refusal, Refused) as error:
            active.delay = before
            runner.save()
            if report.done:
                self._next(Next("replication STANDS STILL now; once that is mended", ("resume", "--execute")))
            raise Failed(str(error)) from None
        channel = current(self._session, state.channel.name)
        if channel.sql == "No" or channel.delay != wanted:
            raise Failed(f"the SQL thread does not run, or the delay is {channel.delay} s: {channel.sql_error}")
        if plan.TAKE_BACK in (step.name for step in planned.steps):
            active.persisted = False
            for record, facts in keeping:
                facts.persisted = False
                record.save(facts)
        self._end(self._record, active, others=not self._active)
        self._stand(read(self._session, channel), active, first)
        voice.say("Replication goes on.")
        return True

    def _scanned(self, state: State) -> find.Scan:
        """All that waits where the end of it matters, else the oldest."""
        scan = find.Scan(self._session, state, self._active)
        for _ in scan:
            if not state.pins:
                break
        return scan

    def _due(self, facts: Facts, delay: int | None) -> str:
        if facts.target_time is None or delay is None:
            return f"When {facts.target} will be applied here is not known."
        left = facts.target_time + delay - self._state.now
        at = "AT ONCE: its delay is over" if left <= 0 else f"about {utc(facts.target_time + delay)}, in {span(left)}"
        return f"{facts.target} will be applied here {at}."

    def _end(self, record: Record, facts: Facts, others: bool = False) -> None:
        facts.phase = "resumed"
        facts.steps.append((round(time.time(), 3), "resume", "done"))
        self._note_job(facts, finished=True, others=others)
        record.save(facts)

    def _gone(self, gone: Gone) -> bool:
        """There is no such channel: somebody has promoted the server, or made it forget its source. Raises Gone where
        no rescue is in progress."""
        args, report = self._args, self._report
        record = Record(self._folder, identity(self._session), self._target.channel or "")
        facts = record.load()
        if facts is None or facts.phase == "resumed":
            raise gone
        report.phase = "normal"
        self._voice.say(f"A rescue is in progress, but {gone}: somebody has said RESET ... ALL.")
        self._show_facts(facts)
        if args.action == "resume" and args.execute:
            self._end(record, facts)
            report.phase = "resumed"
            self._voice.say("The rescue is over: its record and its job have ended. Nothing was started.")
            if facts.persisted:
                report.reasons.append(
                    "a restart will start no replication here, as the rescue has set it; once no other rescue goes on"
                    f" here, this takes it back: {plan.take_back(self._session.say)}"
                )
            return True
        report.reasons.append("what waited here is gone; it can only be fetched again, from a source that still has it")
        self._next(Next("end the rescue's record and job, which starts nothing", ("resume", "--execute")))
        return args.action in ("status", "resume")

    # --- status and ready ---

    def _status(self, state: State) -> bool:
        voice, report, active, channel = self._voice, self._report, self._active, state.channel
        first = find.oldest(self._session, state, active)
        self._stand(state, self._facts, first)
        held = "" if report.phase in ("normal", "resumed") else ", held" if state.held else ", NOT HELD"
        voice.say(f"Phase: {report.phase}{held}.")
        voice.say(
            f"SQL thread {channel.sql}, IO thread {channel.io}, delay {channel.delay} s,"
            f" applied up to {report.position or 'an unknown place'}, relay log at {channel.relay}."
        )
        self._show_facts(self._facts)
        report.reasons += [one_line(line) for line in standing.differences(state, self._facts, first)]
        for t, name, what in self._facts.steps if self._facts else ():
            voice.say(f"  {utc(t)}  {name}: {what}")
        for danger, statements in standing.by_hand(state, active, first):
            voice.say(f"{danger}:")
            voice.statements(statements)
        if report.phase == "forwarded":
            self._tables = tables.here(self._session, state, self._tables)
            there = [name for name in self._tables if tables.access(self._session, name) != "absent"]
            report.reasons += [f"there is no {name} here" for name in self._tables if name not in there]
            report.dump = tables.dump_command(state, self._call.client, there)
        self._next(standing.next_step(state, active, first))
        return True

    def _ready(self, state: State) -> bool:
        args, report = self._args, self._report
        checks = [*ready.checks(self._session, state), ready.can_keep(self._record)]
        given = {field: getattr(args, f"source_{field}") for field in ("host", "port", "socket", "user", "password")}
        given["defaults_file"] = args.source_defaults_file
        if any(given.values()):
            source = self._target._replace(**given, defaults_group="client", channel=None)
            checks.append(ready.source_logs(source, args.timeout, state.channel.applied.file))
        else:
            why = "whether the source still has its binary logs is not known (give --source-...)"
            checks.append(ready.Check("warn", why))
        for check in checks:
            self._voice.say(f"[{check.level}] {check.text}")
        self._stand(state, None, None)
        fine = all(one.level != "FAIL" for one in checks)
        if self._voice.as_json:
            report.reasons += [one_line(f"{one.level}: {one.text}") for one in checks if one.level != "ok"]
        self._voice.say("A rescue would work here." if fine else "A rescue would NOT work here.")
        self._next(GRANTS if plan.missing(state) else FREEZE._replace(text="on the bad day"))
        return fine
