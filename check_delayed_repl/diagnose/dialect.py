"""The statements that a person runs on a replica, in the words of the server that is there."""

from __future__ import annotations

from typing import NamedTuple

from check_delayed_repl.observe.replication import is_mariadb, privilege, version_numbers

NEW_WORDS = (8, 0, 22)
"""From here on MySQL says REPLICA."""
NEW_CHANGE = (8, 0, 23)
"""From here on MySQL says CHANGE REPLICATION SOURCE."""
CHANNELS = (5, 7, 6)
"""From here on MySQL has channels."""


class Dialect(NamedTuple):
    """How to talk to one channel of one server."""

    version: str
    """As the server calls itself: with `MariaDB` in it where it is one."""
    channel: str = ""
    """A MySQL channel or MariaDB connection name; empty for the one without a name."""

    @property
    def mariadb(self) -> bool:
        return is_mariadb(self.version)

    @property
    def name(self) -> str:
        version = self.version.removeprefix("5.5.5-")
        return version if self.mariadb else f"MySQL {version}"

    @property
    def client(self) -> str:
        """The command-line client."""
        return "mariadb" if self.mariadb else "mysql"

    @property
    def service(self) -> str:
        """What the service is called where the distribution's own package is installed."""
        return "mariadb" if self.mariadb else "mysql"

    @property
    def privilege(self) -> str:
        """What shows the replication status."""
        return privilege(self.version)

    @property
    def _numbers(self) -> tuple[int, int, int]:
        return version_numbers(self.version)

    @property
    def _replica(self) -> str:
        return "REPLICA" if not self.mariadb and self._numbers >= NEW_WORDS else "SLAVE"

    @property
    def _before(self) -> str:
        """The channel where MariaDB wants it: behind the verb."""
        return f" {_text(self.channel)}" if self.mariadb and self.channel else ""

    @property
    def _behind(self) -> str:
        """The channel where MySQL wants it: at the end."""
        if self.mariadb or not self.channel or self._numbers < CHANNELS:
            return ""
        return f" FOR CHANNEL {_text(self.channel)}"

    def start(self, thread: str = "") -> str:
        """`thread` is SQL_THREAD, IO_THREAD or empty for both."""
        return self._switch("START", thread)

    def stop(self, thread: str = "") -> str:
        return self._switch("STOP", thread)

    def _switch(self, verb: str, thread: str) -> str:
        return f"{verb} {self._replica}{self._before}{f' {thread}' if thread else ''}{self._behind};"

    def status(self) -> str:
        if self.mariadb:
            return f"SHOW SLAVE{self._before} STATUS\\G" if self.channel else "SHOW ALL SLAVES STATUS\\G"
        return f"SHOW {self._replica} STATUS{self._behind}\\G"

    def every_status(self) -> str:
        """The status of all channels."""
        return self._replace(channel="").status()

    def set_delay(self, seconds: int) -> list[str]:
        """Sets the server's own delay and goes on. MariaDB wants both threads stopped for it, MySQL the SQL thread."""
        if self.mariadb:
            change = f"CHANGE MASTER{self._before} TO MASTER_DELAY = {seconds};"
            return [self.stop(), change, self.start()]
        if self._numbers >= NEW_CHANGE:
            change = f"CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {seconds}{self._behind};"
        else:
            change = f"CHANGE MASTER TO MASTER_DELAY = {seconds}{self._behind};"
        # MySQL 5.6 refuses CHANGE MASTER while either thread runs.
        thread = "SQL_THREAD" if self._numbers >= CHANNELS else ""
        return [self.stop(thread), change, self.start(thread)]

    def applier_errors(self) -> str | None:
        """Where parallel workers say what stopped them; None where the server has no such table."""
        if self.mariadb or self._numbers < CHANNELS:
            return None
        where = f" WHERE CHANNEL_NAME = {_text(self.channel)}" if self.channel else ""
        return f"SELECT * FROM performance_schema.replication_applier_status_by_worker{where}\\G"  # noqa: S608  printed


EITHER = (Dialect("8.4.0"), Dialect("8.0.21"), Dialect("11.4.0-MariaDB"))
"""Stand for all servers where the one at hand does not say what it is."""
EITHER_NAMES = ("MySQL 8.0.22 and later", "older MySQL", "MariaDB")


def _text(value: str) -> str:
    """A string of SQL. Backslashes are doubled: only a server in NO_BACKSLASH_ESCAPES mode reads that otherwise."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
