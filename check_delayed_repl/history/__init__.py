"""What was seen, kept: an append-only log of samples and job lines, in order of arrival.

Where a history is:

- `mysql://user@host:port/database?defaults-file=…` is a shared one in a MySQL or MariaDB database;
- anything else is an SQLite file;
- where nothing is said, `$CHECK_DELAYED_REPL_HISTORY` says it in the same way;
- else it is `history.db` in the state folder: `/var/lib/check_delayed_repl` if that folder exists, or if the caller is
  root (who may create it), otherwise `$XDG_STATE_HOME/check_delayed_repl` or `~/.local/state/check_delayed_repl`.

That `/var/lib/check_delayed_repl` exists decides, not whether this user may write there: a backup script that lacks
the permission must hear of it, not record its jobs where the check will never see them. The worker, the check and the
job writers are usually different users: put them into one group that owns the folder with mode 2770.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from check_delayed_repl.light import Protocol
from check_delayed_repl.records import JobLine, Past, Record, Sample

LOCATION_VARIABLE = "CHECK_DELAYED_REPL_HISTORY"
STATE_FOLDER = "/var/lib/check_delayed_repl"
FILE_NAME = "history.db"
FUTURE_S = 2.0
"""A stored sample that lies further ahead than this, in seconds, shows that a clock was stepped."""


class HistoryUnavailable(Exception):
    """The history cannot be read or written. The message is one line that says what to do; it holds no password."""


class History(Protocol):
    """What every kind of history can do. Every method raises HistoryUnavailable, and nothing else."""

    deadline: float
    """Until when calls may take, by time.monotonic(). A process that goes on and on sets it anew before each call."""

    name: str
    """Where the history is, fit to be printed."""

    readable: bool
    """False where this account may INSERT job lines and nothing else: then only `now` and `add_job` work."""

    def now(self) -> float:
        """The history's own clock: seconds since 1970, UTC."""

    def add_sample(self, replica: str, sample: Sample) -> Sample:
        """Appends a look and returns it as stored: a shared history stamps `t` with its own clock."""

    def add_samples(self, samples: Iterable[tuple[str, Sample]]) -> list[Sample]:
        """Appends many looks, each with its replica's name, in one transaction."""

    def add_job(self, replica: str, line: JobLine) -> None:
        """Appends a job line. In a shared history it needs the right to INSERT alone."""

    def add_records(self, replica: str, records: Iterable[Record]) -> int:
        """Appends records with their own times, as an import does, in one transaction; returns how many."""

    def records(self, replica: str, after: int = 0) -> Iterator[tuple[int, Record]]:
        """Everything that arrived after `after`, in order of arrival, each with its arrival number.

        Job lines under every name that applies to the replica are among it. Job lines of a shared history that have
        no arrival number yet come last, with number 0: nothing may be kept that depends on them.
        """

    def job_lines(self, replica: str) -> Iterator[tuple[str, JobLine]]:
        """The job lines alone, in order of arrival, each with the name that it was recorded under."""

    def window(self, replica: str, since_t: float, upto: int) -> list[Sample]:
        """The samples with t >= since_t that arrived at `upto` or before, in order of arrival."""

    def delays(self, replica: str, since_t: float, upto: int) -> list[Sample]:
        """The samples of `window` with `t` and `delay` alone, in any order: much cheaper where there are many."""

    def first_since(self, replica: str, t: float) -> tuple[int, float] | None:
        """Arrival and time of the earliest sample that was taken at `t` or later."""

    def past(self, replica: str, before: int) -> Past:
        """What is left of everything that arrived before the number `before`."""

    def newest_sample(self, replica: str) -> Sample | None:
        """The newest sample with a delay or a source id: what the next look wants to know of the past."""

    def newest_sample_t(self, replica: str) -> float | None:
        """When the newest sample was taken, failed looks included; None where there is none."""

    def replicas(self) -> list[str]:
        """The names of all replicas that there are samples of."""

    def load_fold(self, replica: str, key: str) -> tuple[int, str] | None:
        """The judge's fold as it was kept under this key: the last arrival folded in, and its text."""

    def save_fold(self, replica: str, key: str, arrival: int, text: str) -> None:
        """Keeps the judge's fold. It is a cache: that it cannot be kept is no error."""

    def prune(self, keep_s: float, replica: str | None = None, at_most: int | None = None) -> int:
        """Removes samples older than `keep_s` seconds and job lines of jobs long done; returns how many lines went.

        What later judgements need stays: unfinished jobs, the sample with the largest sql_delay, the newest with a
        delay or a source id, and everything since a day before an episode that is going on. It works in small steps,
        so that others can write in between; `at_most` lines are removed, where it is given.
        """

    def prune_future(self, replica: str | None = None) -> int:
        """Removes samples from the future, left by a clock that was stepped; returns how many went."""

    def close(self) -> None:
        """Lets go of file or connection."""


def open_history(where: str | None, deadline: float) -> History:
    """The history at `where`, created if it is not there; see the top of this module for what None means.

    `deadline` is a time.monotonic() time. Raises HistoryUnavailable.
    """
    place = where or os.environ.get(LOCATION_VARIABLE) or None
    if place is not None and place[:8].lower() == "mysql://":
        # Drivers take long to import: each stands where it is needed.
        from check_delayed_repl.history.mysql import MySQLHistory

        return MySQLHistory(place, deadline)
    if place is not None and "://" in place:
        scheme = place.partition("://")[0]
        raise HistoryUnavailable(f"history {scheme}://… is neither a file nor a mysql:// URL: give one of these")
    from check_delayed_repl.history.sqlite import SQLiteHistory

    if place is None:
        place = os.path.join(_state_folder(), FILE_NAME)
    return SQLiteHistory(place, deadline)


def default_file() -> str:
    """The file of the default history, which need not be there yet. Raises HistoryUnavailable."""
    return os.path.join(_which_folder()[0], FILE_NAME)


def _which_folder() -> tuple[str, int]:
    """The folder of the default history, and the mode to create it with."""
    if os.path.isdir(STATE_FOLDER) or os.geteuid() == 0:
        return STATE_FOLDER, 0o2770
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.local/state")
    if not os.path.isabs(base):
        raise HistoryUnavailable("no home folder to keep a history in: name a file with --history")
    return os.path.join(base, "check_delayed_repl"), 0o700


def _state_folder() -> str:
    """The folder of the default history, created if need be."""
    folder, mode = _which_folder()
    if not os.path.isdir(folder):
        try:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            os.mkdir(folder)
            os.chmod(folder, mode)  # mkdir's own mode is subject to the umask
        except FileExistsError:
            pass
        except OSError as error:
            raise HistoryUnavailable(
                f"cannot create the state folder {folder} ({error.strerror}): create it, or name a file with --history"
            ) from None
    return folder
