"""What every action of `delayed-repl rescue` does: connects, reads record and history, and says how it ended."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

from check_delayed_repl.given import call_from, joined
from check_delayed_repl.history import LOCATION_VARIABLE, History, HistoryUnavailable, default_file, open_history
from check_delayed_repl.observe.connection import Refused, SampleFailed
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.options import replica_name, target_from
from check_delayed_repl.records import CHANNEL_SEPARATOR, JobLine
from check_delayed_repl.rescue.plan import Refusal
from check_delayed_repl.rescue.record import Facts, Record, RecordError
from check_delayed_repl.rescue.relaylog import Place, Transaction
from check_delayed_repl.rescue.report import Report, Voice, clock
from check_delayed_repl.rescue.run import Failed, Runner
from check_delayed_repl.rescue.standing import Next, phase
from check_delayed_repl.rescue.state import Session, State, channels, read
from check_delayed_repl.words import one_line, plain

KIND = "rescue"
HISTORY_S = 3.0
"""How long the history may keep a rescue waiting."""
FETCHED_S = 3 * 86400.0
"""How far back the history's fetched places are of use."""


TEXTS = {
    "grants": "as an administrator, run what this prints",
    "freeze": "stop it again at once",
    "find": "find it in what waits",
    "status": "see where it stands",
}
SEE = Next(TEXTS["status"], ("status",))
TAKE_TABLES = ("find", "forward", "status")


class Gone(Failed):
    """The server has no such channel."""


class Action:
    """One command."""

    def __init__(self, args: argparse.Namespace, folder: str) -> None:
        self._args = args
        self._folder = folder
        self._target = target_from(args)
        self._call = call_from(args, self._target)
        self._tables: list[str] = getattr(args, "tables", None) or []
        self._voice = Voice(args.output == "json")
        self._report = Report()
        self._session: Session | None = None

    def _act(self) -> bool | None:
        """Whether it is done or planned; None where all has been said. Raises what `run` turns into reasons."""
        raise NotImplementedError

    def run(self) -> int:
        """The exit status: 0 done or planned, 1 refused or failed."""
        report = self._report
        try:
            done = self._act()
        except KeyboardInterrupt:
            report.reasons.append(
                "interrupted: what the server has begun it goes on with, up to where it was told to stop"
            )
            self._next(SEE)
            done = False
        except Refused as error:
            report.reasons.append(f"error {error.number}: {error.text}")
            done = False
        except (SampleFailed, OptionFileError, Failed, RecordError) as error:
            report.reasons.append(getattr(error, "message", None) or str(error))
            if not report.next:
                self._next(SEE)
            done = False
        finally:
            if self._session is not None:
                self._session.close()
        if done is not None:
            self._voice.finish(report)
        return 0 if done or done is None else 1

    def _ours(self, words: Sequence[str], channel: str | None = None) -> str:
        """A command for the same replica, with the options that this one was given. `words`: of a rescue's action and
        what follows it, or of another command."""
        args = self._args
        if words[0] == "grants":
            return joined(("delayed-repl", *words, *self._call.client))
        more = [word for name in self._tables for word in ("--table", name)] if words[0] in TAKE_TABLES else []
        if words[0] == "forward" and getattr(args, "verify", False):
            more.append("--verify")
        if words[0] == "resume" and getattr(args, "delay", None) is not None:
            more += ["--delay", plain(args.delay)]
        more += [*self._call.connection, *(("--channel", channel) if channel is not None else ())]
        more += [*(("--state", args.state) if args.state else ()), *self._call.history]
        return joined(("delayed-repl", "rescue", *words, *more))

    def _next(self, step: Next, *channels: str) -> None:
        """The next step into the report; for each of several channels, where none was named."""
        lines = [self._ours(step.command, name) for name in channels] or [self._ours(step.command)]
        self._report.next = "\n    ".join([f"{step.text}:", *lines])

    def _one(self, session: Session) -> State:
        """The state of the channel that is named, or of the only one. Raises Gone and Failed."""
        every = channels(session)
        name = self._target.channel
        if name is None and len(every) > 1:
            args = self._args
            same = [args.action, *filter(None, [getattr(args, "target", None)])]
            same += ["--before", plain(args.before)] if getattr(args, "before", None) is not None else []
            same += ["--execute"] if getattr(args, "execute", False) else []
            self._next(Next("one of", tuple(same)), *(one.name for one in every))
            listed = ", ".join(one.name or "''" for one in every)
            raise Failed(f"there are {len(every)} channels: name one with --channel: {listed}")
        for one in every:
            if name is None or one.name.lower() == name.lower():
                return read(session, one)
        if not every:
            raise Gone("no replication channel is configured on this server")
        raise Gone(f"there is no channel {name!r}: there are {', '.join(one.name or repr('') for one in every)}")

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

    def _names(self, history: History, facts: Facts) -> list[str]:
        """The replica's names in the history: this command's own, and those under which the same server was sampled."""
        own = replica_name(self._args)
        if not history.readable:
            return [own]
        others = [
            name
            for name in history.replicas()
            if name != own
            and name.partition(CHANNEL_SEPARATOR)[2] in ("", facts.channel)
            and (sample := history.newest_sample(name)) is not None
            and sample.server == facts.server
        ]
        return [own, *others]

    def _note_job(self, facts: Facts, finished: bool) -> None:
        """Tells the history that a rescue is in progress, or over."""
        history = self._history(create=True)
        if history is None:
            return
        try:
            now = history.now()
            started = min(facts.started, now)
            for name in self._names(history, facts):
                history.add_job(name, JobLine(now, facts.job, KIND, started, now if finished else None))
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
            f"From the record: {facts.phase}, begun {clock(facts.started)}; before that the delay was {delay},"
            f" by {how}, and the IO thread {io}{target}."
        )

    def _stand(self, state: State, facts: Facts | None, first: Transaction | None) -> None:
        """Where the server stands, into the report."""
        report = self._report
        report.phase = phase(state, facts, first)
        report.held = state.held
        place = first.source if first else state.channel.fetched
        report.position = str(place) if place.file else None

    def _refuse(self, refusal: Refusal) -> bool:
        self._voice.say("Refused, and nothing was changed:")
        self._report.reasons.append(one_line(refusal.reason))
        self._next(Next(TEXTS[refusal.then[0]], refusal.then))
        return False

    def _runner(self, session: Session, state: State, facts: Facts, record: Record) -> Runner:
        runner = Runner(session, state, facts, record, self._voice.say, self._voice.progress)
        self._report.done = runner.done
        return runner

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
            place=str(channel.applied) if channel.applied.file else None,
            gtid=channel.gtid,
            fetching=channel.io != "No",
            job=f"{KIND}-{moment}-{os.urandom(2).hex()}" + ("" if delay is None else f"-delay-{delay}"),
        )
        facts.steps.append((round(time.time(), 3), "freeze", "done"))
        record.save(facts)
        return facts
