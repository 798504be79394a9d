"""What every action of `delayed-repl rescue` does: connects, reads record and history, and says how it ended."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from check_delayed_repl.given import call_from, joined
from check_delayed_repl.history import LOCATION_VARIABLE, History, HistoryUnavailable, default_file, open_history
from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.options import replica_name, target_from
from check_delayed_repl.records import CHANNEL_SEPARATOR, HELD_S, JobLine, merge_into
from check_delayed_repl.rescue.plan import Refusal
from check_delayed_repl.rescue.record import Facts, Record, RecordError
from check_delayed_repl.rescue.relaylog import Place, Transaction
from check_delayed_repl.rescue.report import Report, Voice
from check_delayed_repl.rescue.run import Failed, Runner
from check_delayed_repl.rescue.standing import SEE, Next, phase
from check_delayed_repl.rescue.state import Session, State, channels
from check_delayed_repl.words import one_line, plain, utc

T = TypeVar("T")

KIND = "rescue"
HISTORY_S = 3.0
"""How long the history may keep a rescue waiting."""
FETCHED_S = 3 * 86400.0
"""How far back the history's fetched places are of use."""
TAKE_TABLES = ("find", "forward", "status")


class Action:
    """One command."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._folder = os.path.abspath(args.state or os.path.join(os.path.dirname(default_file()), KIND))
        """Where records are: by default beside the history's default file."""
        self._target = target_from(args)
        self._call = call_from(args)
        self._tables: list[str] = getattr(args, "tables", None) or []
        self._voice = Voice(args.output == "json")
        self._report = Report()
        self._session = Session(self._target, args.timeout)

    def _act(self) -> bool | None:
        """Whether it is done or planned; None where all has been said. Raises what `run` turns into reasons."""
        raise NotImplementedError

    def run(self) -> int:
        """The exit status: 0 done or planned, 1 refused or failed."""
        report = self._report
        done: bool | None = False
        try:
            done = self._act()
        except KeyboardInterrupt:
            report.reasons.append(
                "interrupted: what the server has begun it goes on with, up to where it was told to stop"
            )
            self._next(SEE)
        except Refusal as refusal:
            self._voice.say("Refused, and nothing was changed:")
            report.reasons.append(one_line(str(refusal)))
            self._next(refusal.then)
        except (Refused, SampleFailed, OptionFileError, Failed, RecordError) as error:
            report.reasons.append(str(error))
            if not report.next:
                self._next(SEE)
        finally:
            self._session.close()
        if done is not None:
            self._voice.finish(report)
        return 1 if done is False else 0

    def _ours(self, words: Sequence[str], channel: str | None = None) -> str:
        """A command for the same replica, with the options that this one was given. `words`: of a rescue's action and
        what follows it, or of another command."""
        args = self._args
        if words[0] == "grants":
            return joined(("delayed-repl", *words, *self._call.connection))
        more = [word for name in self._tables for word in ("--table", name)] if words[0] in TAKE_TABLES else []
        if words[0] == "forward" and getattr(args, "verify", False):
            more.append("--verify")
        if words[0] == "resume" and getattr(args, "new_delay", None) is not None:
            more += ["--delay", plain(args.new_delay)]
        more += [*self._call.connection, *(("--channel", channel) if channel is not None else ())]
        more += [*(("--state", self._folder) if args.state else ()), *self._call.history]
        return joined(("delayed-repl", "rescue", *words, *more))

    def _say_times(self) -> None:
        """How the times that were given are read: whoever is in a hurry means local time."""
        for name in ("since", "until", "before"):
            if (given := getattr(self._args, name, None)) is not None:
                self._voice.say(f"--{name} is {utc(given)}.")

    def _next(self, step: Next, *channels: str) -> None:
        """The next step into the report; for each of several channels, where none was named."""
        lines = [self._ours(step.command, name) for name in channels] or [self._ours(step.command)]
        between = " " if self._voice.as_json else "\n    "
        self._report.next = between.join([f"{step.text}:", *lines])

    def _from_history(self, use: Callable[[History], T], otherwise: T, create: bool = False) -> T:
        """What `use` makes of the history, where it is there, or named and to be created; `otherwise`, with a word,
        where it cannot be used."""
        where = self._args.history or os.environ.get(LOCATION_VARIABLE)
        try:
            if (where and (create or "://" in where)) or os.path.exists(where or default_file()):
                with open_history(self._args.history, time.monotonic() + HISTORY_S) as history:
                    return use(history)
        except HistoryUnavailable as error:
            self._voice.say(f"The history cannot be used: {error}")
        return otherwise

    def _fetched(self, state: State) -> list[tuple[Place, float]]:
        """Places in the source's log, each with when the history has seen it fetched."""

        def places(history: History) -> list[tuple[Place, float]]:
            name, since = replica_name(self._args), state.now - FETCHED_S
            samples = history.window(name, since, 1 << 62) if history.readable else ()
            return [(Place(*one.source_log), one.t) for one in samples if one.source_log]

        return self._from_history(places, [])

    def _note_job(self, facts: Facts, finished: bool, others: bool = False) -> None:
        """Tells the history that a rescue is in progress, or over: under this command's own name for the replica, and
        under those by which the same server was sampled. `others`: and so are those of which there is no record."""

        def note(history: History) -> None:
            own, now = replica_name(self._args), history.now()
            names = [own]
            for name in history.replicas() if history.readable else ():
                of_channel = name.partition(CHANNEL_SEPARATOR)[2].lower() in ("", facts.channel.lower())
                sample = None
                with suppress(HistoryUnavailable):  # a damaged sample, of whatever server
                    sample = history.newest_sample(name) if of_channel and name != own else None
                if sample is not None and sample.server == facts.server:
                    names.append(name)
            line = JobLine(now, facts.job, KIND, min(facts.started, now), now if finished else None)
            if finished and CHANNEL_SEPARATOR in own:  # a freeze of every channel has noted it for all of them
                history.add_job(own.partition(CHANNEL_SEPARATOR)[0], line)
            for name in names:
                history.add_job(name, line)
                for job in self._jobs(history, name) if others else ():
                    if job.kind == KIND:
                        history.add_job(name, job._replace(t=now, finished_at=now))

        self._from_history(note, None, create=True)

    def _jobs(self, history: History, name: str) -> list[JobLine]:
        """Those that go on, as far as this account may see it."""
        jobs: dict[str, JobLine] = {}
        for _, line in history.job_lines(name) if history.readable else ():
            merge_into(jobs, line)
        return [job for job in jobs.values() if job.finished_at is None and not job.void]

    def _stand(self, state: State, facts: Facts | None, first: Transaction | None) -> None:
        """Where the server stands, into the report."""
        report = self._report
        report.phase = phase(state, facts, first)
        report.held = state.held
        place = first.source if first else state.channel.fetched
        report.position = str(place) if place.file else None

    def _runner(self, facts: Facts, record: Record | None) -> Runner:
        return Runner(self._session, facts, record, self._voice, self._report)

    def _begin(self, record: Record, state: State) -> Facts:
        """The facts of the rescue that goes on, or of one that begins now. Raises RecordError."""
        facts = record.load()
        if facts is None or facts.phase == "resumed":
            persisted = bool(facts and facts.persisted)
            facts = self._first_facts(state)
            facts.persisted = persisted
            record.save(facts)
        return facts

    def _beside(self, state: State) -> tuple[list[str], list[tuple[Record, Facts]]]:
        """The server's other channels whose rescues go on, and the records that say that replication was kept from
        starting by itself."""
        going_on, keeping = [], []
        for channel in channels(self._session):
            if channel.name == state.channel.name:
                continue
            record, facts = Record(self._folder, state.identity, channel.name), None
            with suppress(RecordError):
                facts = record.load()
            if channel.until or channel.delay == HELD_S or (facts and facts.phase != "resumed"):
                going_on.append(channel.name)
            if facts and facts.persisted:
                keeping.append((record, facts))
        return going_on, keeping

    def _first_facts(self, state: State) -> Facts:
        channel = state.channel
        delay = None if state.held else channel.delay
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(state.now))
        return Facts(
            server=state.identity,
            channel=channel.name,
            phase="frozen",
            started=state.now,
            delay=delay,
            place=str(channel.applied) if channel.applied.file else None,
            gtid=channel.gtid,
            fetching=channel.io != "No",
            job=f"{KIND}-{moment}-{os.urandom(2).hex()}" + ("" if delay is None else f"-delay-{delay}"),
            steps=[(round(time.time(), 3), "freeze", "done")],
        )
