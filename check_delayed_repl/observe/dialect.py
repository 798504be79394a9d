"""The statements that change a replica, in the words of the server that is there: without an end, to be run or printed.

None of them loses what waits in the relay log. MySQL keeps it through a change of the delay only while the IO thread
runs. MariaDB and MySQL 5.6 refuse the change while a thread runs, and keep it only where the place of the SQL thread is
named; MariaDB in GTID mode also throws it away when a thread starts while both are stopped.
"""

from __future__ import annotations

from typing import NamedTuple

from check_delayed_repl.observe.connection import Answer
from check_delayed_repl.observe.failures import SampleFailed
from check_delayed_repl.observe.replication import is_mariadb, privilege, version_numbers
from check_delayed_repl.words import one_line

NEW_WORDS = (8, 0, 22)
"""From here on MySQL says REPLICA."""
NEW_CHANGE = (8, 0, 23)
"""From here on MySQL says CHANGE REPLICATION SOURCE."""
NO_SLAVE_DELAY = (8, 1)
"""From here on pt-slave-delay does not work."""
CHANNELS = (5, 7, 6)
"""From here on MySQL has channels, and sets the delay while the IO thread runs."""


class _Row(dict[str, str]):
    """What something else than MySQL and MariaDB answers may lack any column."""

    def __missing__(self, name: str) -> str:
        raise not_understood(f"it has no {one_line(name, 64)}")


def not_understood(problem: str) -> SampleFailed:
    """What to raise where an answer is none of MySQL's or MariaDB's."""
    text = f"the server's answer cannot be understood: {problem}: not MySQL or MariaDB itself? check --host and --port"
    return SampleFailed("status-unreadable", text)


def rows_of(answer: Answer) -> list[dict[str, str]]:
    """Rows by column name, in lower case and in the newer words (source, replica); NULL is empty. To ask one for a
    column that it has not raises SampleFailed."""
    names = [name.lower().replace("master", "source").replace("slave", "replica") for name in answer.columns]
    return [
        _Row((name, (value or b"").decode("utf-8", "replace")) for name, value in zip(names, row, strict=True))
        for row in answer.rows
    ]


def by_gtid(status: dict[str, str]) -> bool:
    """Whether a channel (a row of `rows_of`) asks its source by GTID: MariaDB's Using_Gtid, MySQL's Auto_Position."""
    return status.get("using_gtid", "No") not in ("No", "") or status.get("auto_position") == "1"


class Place(NamedTuple):
    """Where a stopped SQL thread goes on, in the replica's own relay log; and how the source is asked for more."""

    file: str
    position: int
    gtid: bool = False


class Dialect:
    """How to talk to one channel of one server.

    `version` is what the server calls itself: with `MariaDB` in it where it is one. `channel` is a MySQL channel or
    MariaDB connection name; empty for the one without a name. `named`: say so too, where there may be others, which
    MySQL would mean as well otherwise, or refuse.
    """

    def __init__(self, version: str, channel: str = "", named: bool = False) -> None:
        self.version = version
        self.channel = channel
        self.mariadb = is_mariadb(version)
        self.numbers = version_numbers(version)
        self.name = version.removeprefix("5.5.5-") if self.mariadb else f"MySQL {version}"
        self.client = "mariadb" if self.mariadb else "mysql"
        """The command-line client, and the service where the distribution's own package is installed."""
        self.privilege = privilege(version)
        """What shows the replication status."""
        self.needs_place = self.mariadb or self.numbers < CHANNELS
        """The delay is set with both threads stopped: naming the SQL thread's place keeps the relay log."""
        self.slave_delay = self.mariadb or self.numbers < NO_SLAVE_DELAY
        """Whether pt-slave-delay knows this server."""
        self.replica = "SLAVE" if self.mariadb or self.numbers < NEW_WORDS else "REPLICA"
        """What it calls itself in statements."""
        self.source = "MASTER" if self.mariadb or self.numbers < NEW_CHANGE else "SOURCE"
        """What it calls its source in statements that change it."""
        self.before = f" {quoted(channel)}" if channel and self.mariadb else ""
        """The channel where MariaDB wants it: behind the verb."""
        self.behind = f" FOR CHANNEL {quoted(channel)}" if (channel or named) and not self.needs_place else ""
        """The channel where MySQL wants it: at the end."""

    def start(self, thread: str = "", until: tuple[str, int] | None = None) -> str:
        """`thread` is SQL_THREAD, IO_THREAD or empty for both; `until` a file and position in the relay log."""
        where = f" UNTIL RELAY_LOG_FILE = {quoted(until[0])}, RELAY_LOG_POS = {until[1]}" if until else ""
        return self._switch("START", thread, where)

    def stop(self, thread: str = "") -> str:
        return self._switch("STOP", thread)

    def _switch(self, verb: str, thread: str, where: str = "") -> str:
        return f"{verb} {self.replica}{self.before}{f' {thread}' if thread else ''}{where}{self.behind}"

    def status(self) -> str:
        if self.mariadb:
            return f"SHOW SLAVE{self.before} STATUS\\G" if self.channel else "SHOW ALL SLAVES STATUS\\G"
        return f"SHOW {self.replica} STATUS{self.behind}\\G"

    def change(
        self,
        seconds: int | None,
        place: tuple[str, int] | None = None,
        gtid: bool = False,
        fetched: tuple[str, int] | None = None,
    ) -> str:
        """Sets the server's own delay, or names the place where it goes on in the relay log, or both.

        A place turns GTIDs off: MySQL, where the channel is by `gtid`, must be told. `fetched`: how far the relay log
        goes in the source's, of a MariaDB that has forgotten it.
        """
        words = [] if seconds is None else [f"{self.source}_DELAY = {seconds}"]
        if place is not None:
            if fetched is not None:
                words += [f"{self.source}_LOG_FILE = {quoted(fetched[0])}", f"{self.source}_LOG_POS = {fetched[1]}"]
            words += [f"RELAY_LOG_FILE = {quoted(place[0])}", f"RELAY_LOG_POS = {place[1]}"]
            if gtid and not self.mariadb:
                words.append(f"{self.source}_AUTO_POSITION = 0")  # refused beside a place otherwise
        return self._change(words)

    def change_at(self, seconds: int | None, place: Place | None) -> str:
        """`change`, where the SQL thread is at `place`."""
        return self.change(seconds, (place.file, place.position) if place else None, bool(place and place.gtid))

    def go_on_at(self, file: str, position: int) -> str:
        """Where in the source's binary log fetching goes on; what has been fetched is thrown away."""
        words = [f"{self.source}_LOG_FILE = {quoted(file)}", f"{self.source}_LOG_POS = {position}"]
        return self._change([*words, *(["MASTER_USE_GTID = no"] if self.mariadb else [])])

    def _change(self, words: list[str]) -> str:
        verb = self.source.replace("SOURCE", "REPLICATION SOURCE")
        return f"CHANGE {verb}{self.before} TO {', '.join(words)}{self.behind}"

    def set_delay(self, seconds: int, place: Place | None) -> list[str]:
        """Sets the server's own delay and goes on. `place`: of the stopped SQL thread, where it is needed."""
        if self.needs_place:
            return [self.stop(), self.change_at(seconds, place), self.start()]
        # Of an IO thread that is stopped, the change would throw away what it has fetched.
        threads = [self.stop("SQL_THREAD"), self.start("IO_THREAD")]
        return [*threads, self.change(seconds), self.start("SQL_THREAD")]

    def back_to_gtid(self) -> str:
        """For a person: when and how a channel that a place has turned to file and position may go back to GTIDs."""
        gtids = "MASTER_USE_GTID = slave_pos" if self.mariadb else f"{self.source}_AUTO_POSITION = 1"
        back = f"{self.stop()}; {self._change([gtids])}; {self.start()}"
        stays = "the channel stays with file and position."
        if not self.mariadb:
            return f"{stays} To go back to GTIDs, wait until nothing waits here any more; only then: {back}"
        return (
            f"{stays} To go back to GTIDs, wait until a transaction that was fetched after now has been applied, see"
            f" that @@gtid_slave_pos names it and that the source still has its binary logs since then; only then:"
            f" {back}. Earlier, gtid_slave_pos may name what was fetched, and all that waits would be lost without an"
            " error"
        )

    def applier_errors(self) -> str:
        """Where parallel workers say what stopped them; the status, where the server has no such table."""
        if self.needs_place:
            return self.status()
        where = f" WHERE CHANNEL_NAME = {quoted(self.channel)}" if self.channel else ""
        return f"SELECT * FROM performance_schema.replication_applier_status_by_worker{where}\\G"  # noqa: S608  printed


EITHER = {
    "MySQL 8.0.22 and later": Dialect("8.4.0"),
    "older MySQL": Dialect("8.0.21"),
    "MariaDB": Dialect("11.4.0-MariaDB"),
}
"""Stand for all servers where the one at hand does not say what it is."""


def quoted(value: str) -> str:
    """A string of SQL. Backslashes are doubled: only a server in NO_BACKSLASH_ESCAPES mode reads that otherwise."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
