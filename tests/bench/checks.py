"""Checks measured side by side: healthy, with histories of every age, and failing in the usual ways."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from check_delayed_repl.records import Sample

from .contenders import (
    BIN,
    DELAY_S,
    INLINE,
    NAME,
    WORKER,
    Where,
    by_port,
    by_socket,
    everyone,
    peers,
    sampled,
)
from .histories import AGES, HOUR, Fed, Trouble
from .measure import Contender, Interleaved, Launcher, Relay, Use, Wire, medians, one_run
from .servers import PASSWORD, USER, Servers, free_port

PACE_S = 10.0
"""Rounds begin so far apart, so that each check finds a look that it has not judged yet, as in a life's every day."""
HANG_S = 2.0
"""--timeout where a server hangs."""
GIVE_UP_S = 15.0
"""When a check that does not end on a server that hangs is killed."""


class Costs(NamedTuple):
    """What one way to check costs."""

    socket: Use
    tcp: Use
    wire: Wire | None


class Aged(NamedTuple):
    """What checks cost with a history of some age."""

    name: str
    mib: float
    sampled: Use
    inline: Use
    first: Use
    """The first one, which judges all of it."""


class Failure(NamedTuple):
    """What checks cost where one thing is wrong; None where it is not theirs to see."""

    what: str
    uses: dict[str, Use]


class Bench:
    """A delayed pair, a worker that looks at it, and histories."""

    def __init__(self, runs: int, pace_s: float, say: Callable[[str], None]) -> None:
        self._runs = runs
        self._pace_s = pace_s
        self._say = say
        say("starting a source and its replica")
        self._servers = Servers(1, DELAY_S)
        self._replica = self._servers.replicas[0]
        self._folder = self._servers.folder
        self._launcher = Launcher()

    def close(self) -> None:
        """Ends all of it."""
        self._launcher.close()
        self._servers.close()

    def _history(self, name: str, age_s: int = HOUR) -> Fed:
        return Fed(str(self._folder / f"{name}.db"), age_s)

    @contextmanager
    def _worker(self, history: Fed) -> Iterator[None]:
        """`delayed-repl worker` on the replica, every ten seconds."""
        process = subprocess.Popen(
            [
                *(f"{BIN}/delayed-repl", "worker", "-S", self._replica.socket, "-u", USER, "-p", PASSWORD),
                *("--replica", NAME, "--history", history.path),
            ],
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        try:
            time.sleep(2)
            yield
        finally:
            process.terminate()
            process.wait()

    def healthy(self) -> dict[str, Costs]:
        """Everyone on a healthy replica."""
        worker, inline = self._history("worker"), self._history("inline")
        with self._worker(worker):
            socket = list(everyone(by_socket(self._replica), worker.path, inline.path))
            tcp = list(everyone(by_port(self._replica.port), worker.path, inline.path))
            both = [each._replace(name=f"{each.name} over TCP") for each in tcp]
            self._say(f"{self._runs} rounds of {len(socket + both)} commands")
            found = self._rounds([*socket, *both], [], self._pace_s)
            relay = Relay(self._replica.port)
            spoken = {
                each.name: relay.count(self._launcher, each)
                for each in everyone(by_port(relay.port), worker.path, inline.path)
                if any(str(relay.port) in word for word in each.argv)
            }
            relay.close()
        return {
            each.name: Costs(found[each.name], found[f"{each.name} over TCP"], spoken.get(each.name)) for each in socket
        }

    def _rounds(self, contenders: Sequence[Contender], fed: Sequence[Fed], pace_s: float) -> dict[str, Use]:
        """Interleaved runs, with the looks that have become due in each history before each round."""
        interleaved = Interleaved(self._launcher, contenders)
        for place in range(self._runs + 1):
            began = time.monotonic()
            for history in fed:
                history.feed()
            if place:
                interleaved.round()
            else:
                interleaved.warm_up()
            time.sleep(max(0.0, pace_s - (time.monotonic() - began)))
        return interleaved.results

    def aged(self, ages: Sequence[str]) -> list[Aged]:
        """Both checks with histories of these ages."""
        where = by_socket(self._replica)
        worker: dict[str, Fed] = {}
        inline: dict[str, Fed] = {}
        first: dict[str, Use] = {}
        contenders = []
        for age in ages:
            self._say(f"a history of {age}, and its first check")
            worker[age] = self._history(f"worker-{AGES[age]}", AGES[age])
            first[age] = self._first(age, worker[age])
            # An inline check takes old samples out at times, so that it needs a history of its own.
            inline[age] = self._history(f"inline-{AGES[age]}", AGES[age])
            contenders += [
                Contender(f"{WORKER}, {age}", sampled(worker[age].path)),
                Contender(f"{INLINE}, {age}", where.ours(inline[age].path, "--keep", "3650d", "--timeout", "900")),
            ]
        self._say(f"{self._runs} rounds of {len(contenders)} checks")
        found = self._rounds(contenders, [*worker.values(), *inline.values()], self._pace_s)
        return [
            Aged(age, worker[age].mib, found[f"{WORKER}, {age}"], found[f"{INLINE}, {age}"], first[age]) for age in ages
        ]

    def _first(self, age: str, history: Fed) -> Use:
        """The check that finds nothing judged yet; a few times where that does not take long."""
        uses: list[Use] = []
        while len(uses) < 5 and sum(use.wall_ms for use in uses) < 10_000:
            history.feed()
            history.forget_fold()
            # A year takes so long that the worker seems to be missing at its end.
            contender = Contender(f"first check, {age}", sampled(history.path, "--timeout", "900"), (0, 2))
            uses.append(one_run(self._launcher, contender))
        return medians(uses)

    def failing(self) -> list[Failure]:
        """Everyone on a replica with which one thing is wrong."""
        replica = self._replica
        found = []
        self._say("failing: the server is down")
        found.append(self._failure("server down: connection refused", by_port(free_port()), _failed("server-down")))
        self._say("failing: access denied")
        denied = by_port(replica.port, "wrong")
        found.append(self._failure("access denied", denied, _failed("connect-failed")))
        self._say("failing: the SQL thread is stopped")
        replica.sql("STOP SLAVE SQL_THREAD")
        found.append(self._failure("SQL thread stopped", by_port(replica.port), _stopped))
        replica.sql("START SLAVE SQL_THREAD")
        self._say("failing: the worker is missing")
        found.append(self._missing())
        self._say("failing: the server hangs")
        replica.hang()
        try:
            found.append(self._hung(by_port(replica.port)))
        finally:
            replica.go_on()
        return found

    def _failure(self, what: str, where: Where, trouble: Trouble) -> Failure:
        worker, inline = self._history("worker-failing"), self._history("inline-failing")
        pace_s = max(1.0, self._pace_s / 5)
        worker.go_wrong(trouble, pace_s)
        contenders = [
            Contender(WORKER, sampled(worker.path), (2,)),
            Contender(INLINE, where.ours(inline.path), (2,)),
            *peers(where, None),
        ]
        found = self._rounds(contenders, [worker], pace_s)
        for history in (worker, inline):
            history.remove()
        return Failure(what, found)

    def _missing(self) -> Failure:
        worker = self._history("missing", 2 * HOUR)
        worker.take_back(HOUR)
        return Failure("worker missing", self._rounds([Contender(WORKER, sampled(worker.path), (2,))], [], 0))

    def _hung(self, where: Where) -> Failure:
        """Each of them waits: few runs are enough to see how it ends."""
        worker, inline = self._history("worker-hung"), self._history("inline-hung")
        worker.go_wrong(_failed("timeout"), 1)
        worker.feed()
        contenders = [
            Contender(WORKER, sampled(worker.path), (2,)),
            Contender(INLINE, where.ours(inline.path, "--timeout", str(HANG_S)), (2,)),
            *peers(where, None, GIVE_UP_S),
        ]
        return Failure(
            f"server hangs (--timeout {HANG_S:g})", {each.name: one_run(self._launcher, each) for each in contenders}
        )


def _failed(error: str) -> Trouble:
    """Looks that fail for this reason."""
    return lambda sample: Sample(sample.t, error=error, message=f"db1:3306: a look failed, {error}")


def _stopped(sample: Sample) -> Sample:
    return sample._replace(sql="No", sql_remaining=None)
