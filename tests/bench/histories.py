"""Histories to judge: calm lines with a backup every night, up to this moment, as a worker would have written them."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from random import Random

from check_delayed_repl.history import open_history
from check_delayed_repl.records import JobLine, Record, Sample

from .contenders import DELAY_S, NAME

EVERY_S = 10
HOUR, DAY = 3600, 86400
AGES = {"an hour": HOUR, "a day": DAY, "a month": 30 * DAY, "a year": 365 * DAY}
"""Histories by what they are called, in seconds."""
BACKUP_S = HOUR
"""How long the nightly backup stops the line; twelve hours lie between the last one and now."""
CATCHES_UP = 5.0
"""Seconds of delay that the line loses per second after that."""

Trouble = Callable[[Sample], Sample]


class Line:
    """The looks at one replica, one every ten seconds, up to the time that is asked for."""

    def __init__(self, age_s: int, now: float) -> None:
        self._random = Random(age_s)
        self._backup = now - DAY / 2
        self.t = now - age_s
        """When the next look is."""
        self.every = float(EVERY_S)
        """Seconds from one look to the next."""

    def upto(self, now: float, trouble: Trouble) -> Iterator[Record]:
        """The looks and job lines from the last one to `now`."""
        while self.t <= now:
            t, since = self.t, (self.t - self._backup) % DAY
            if since < EVERY_S:
                yield self._job(t, None)
            elif BACKUP_S <= since < BACKUP_S + EVERY_S:
                yield self._job(t, t)
            yield trouble(self._look(t, since))
            self.t += self.every

    def _job(self, t: float, finished: float | None) -> JobLine:
        started = t if finished is None else t - BACKUP_S
        return JobLine(t, f"night-{math.floor(started / DAY)}", "backup", started, finished)

    def _look(self, t: float, since: float) -> Sample:
        stopped = since < BACKUP_S
        behind = since if stopped else max(0.0, BACKUP_S - (since - BACKUP_S) * CATCHES_UP)
        delay = DELAY_S + behind + self._random.uniform(0, 1.5)
        fetched = int(t * 500) % 2**30
        return Sample(
            t,
            delay=delay,
            ts=t - delay,
            source_id=1,
            heartbeat_id=1,
            local=self._random.uniform(0, 1),
            io="Yes",
            sql="Yes",
            io_errno=0,
            sql_errno=0,
            source_log=(f"bin.{int(t * 500) // 2**30:06d}", fetched),
            relay_log=(f"bin.{int((t - delay) * 500) // 2**30:06d}", int((t - delay) * 500) % 2**30),
            relay_log_space=int(delay * 500),
            sql_delay=DELAY_S,
            sql_remaining=None if stopped else 1,
            seconds_behind=int(delay),
        )


class Fed:
    """A history that is written on and on, for as long as it is measured."""

    def __init__(self, path: str, age_s: int, name: str = NAME) -> None:
        self.path = path
        self.name = name
        self.trouble: Trouble = lambda look: look
        self._line = Line(age_s, time.time())
        self.feed()

    def feed_now(self) -> None:
        """Writes one more look at once, whether or not it is due."""
        self._line.t = time.time()
        self.feed()

    def go_wrong(self, trouble: Trouble, every_s: float) -> None:
        """From this moment on, a look that shows the trouble every so many seconds."""
        self.trouble = trouble
        self._line.t = time.time()
        self._line.every = every_s

    def feed(self) -> None:
        """Writes all looks up to this moment."""
        history = open_history(self.path, math.inf)
        records = self._line.upto(time.time(), self.trouble)
        while history.add_records(self.name, islice(records, 20_000)):
            pass
        history.close()

    def forget_fold(self) -> None:
        """Lets the next check judge the whole history anew."""
        with sqlite3.connect(self.path) as connection:
            connection.execute("DELETE FROM fold")
        connection.close()

    def take_back(self, seconds: float) -> None:
        """Removes the looks of the last so many seconds."""
        with sqlite3.connect(self.path) as connection:
            connection.execute("DELETE FROM sample WHERE t > ?", (time.time() - seconds,))
        connection.close()

    def remove(self) -> None:
        """Removes the files."""
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(self.path + end)

    @property
    def mib(self) -> float:
        """Size on the disk."""
        return sum(os.path.getsize(self.path + end) for end in ("", "-wal") if os.path.exists(self.path + end)) / 2**20
