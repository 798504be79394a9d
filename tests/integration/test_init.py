"""`delayed-repl init` on real pairs, done to the letter: its README.txt, step by step, with the files and the accounts
that it says and nothing else, until the check is OK."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .checking import ROOT
from .monitoring import PLUGIN, TOOL, USER, Site, Station
from .servers import ROOT_PASSWORD, Family, Kit, Pair, Server, wait_until

pytestmark = pytest.mark.monitoring

DELAY_S = 25
README = ROOT / "README.md"
FOLDER = "/root/setup"
DBA = ("dba", "dba-secret-7h")


class Hosts:
    """The hosts that README.txt speaks of."""

    def __init__(self, site: Site, pair: Pair) -> None:
        self.pair = pair
        for server in (pair.source, pair.replica):
            rights = f"GRANT ALL ON *.* TO {DBA[0]}@'%' WITH GRANT OPTION"
            server.unlogged(f"CREATE USER {DBA[0]}@'%' IDENTIFIED BY '{DBA[1]}'", rights)
        self.monitoring = site.station(pair, "monitor")
        self.source = site.station(pair, "source-host", systemd=True, beside=pair.source.container)
        self.replica = site.station(pair, "replica-host", systemd=True, beside=pair.replica.container)
        for host in (self.source, self.replica):
            login = f"[client]\nuser = root\npassword = {ROOT_PASSWORD}\nsocket = /run/mysqld/mysqld.sock\n"
            host.put({"/root/.my.cnf": login}, mode=0o600)
        self.monitoring.run("rm -r /etc/check_delayed_repl /var/lib/check_delayed_repl")
        for host in self.all:
            host.run("rm -rf /etc/check_delayed_repl")

    @property
    def all(self) -> tuple[Station, Station, Station]:
        return self.monitoring, self.source, self.replica

    def close(self) -> None:
        """Remove all of them: a kernel has room for some tens of systemds."""
        for host in self.all:
            host.close()
        self.pair.close()

    def init(self, *options: str) -> dict[str, str]:
        """The files that init writes: called as the README says, but for names and the delay."""
        command = re.findall(r"(?m)^    .*delayed-repl (init .*)$", README.read_text())[0]
        for said, here in {
            "db7.example.com": "replica",
            "-u root -p…": f"-u {DBA[0]} -p{DBA[1]}",
            " --delay 2h": "".join(f" {option}" for option in options),
            "db7-monitoring": FOLDER,
        }.items():
            assert said in command
            command = command.replace(said, here)
        self.monitoring.run(f"rm -rf {FOLDER}; {TOOL} {command}")
        assert self.monitoring.run(f"{TOOL} {command}", check=False).status == 3, "it is there already"
        modes = self.monitoring.run(f"stat -c %a {FOLDER} {FOLDER}/*").output.split()
        assert modes == ["700", *["600"] * (len(modes) - 1)]
        found = self.monitoring.fetch(FOLDER)
        for host in (self.source, self.replica):
            host.put({f"{FOLDER}/{name}": text for name, text in found.items()}, mode=0o600)
        return found

    def follow(self, readme: str) -> None:
        """Does what the numbered steps say, each where it says, and the SQL twice."""
        for title, body in re.findall(r"(?m)^\d+\. (.*)\n\n((?:   .*\n|\n)*)", readme):
            host = next(
                (
                    host
                    for name, host in (("source", self.source), ("replica", self.replica), ("monitor", self.monitoring))
                    if name in title
                ),
                self.monitoring,
            )
            for command in re.findall(r"(?m)^ {6}(.*)$", body):
                for _ in range(2):
                    ran = host.run(f"cd {FOLDER} && {command}", check=False)
                    # What asks a server says how it is: not well yet.
                    assert ran.status == 0 or re.search("DELAYED_REPL |ccess denied", ran.output), (command, ran)

    def try_more(self, readme: str) -> None:
        """What README.txt ends with, as root: the monitor's user can still use the history."""
        for command in re.findall(r"(?m)^   \./(delayed-repl .*)$", readme):
            if not re.search(" (watch|diagnose) ", command):  # no scipy is installed here
                self.monitoring.run(f"{Path(TOOL).parent}/{command.replace('COMMAND', 'true')}")
        assert self.check().startswith(("DELAYED_REPL OK", "DELAYED_REPL WARNING")), self.check()

    def ready(self) -> str:
        return self.monitoring.run(f"{TOOL} rescue ready --replica replica").output

    def becomes_ok(self) -> None:
        said = ""

        def ok() -> bool:
            nonlocal said
            said = self.check()
            return said.startswith("DELAYED_REPL OK")

        try:
            wait_until(ok, 3 * DELAY_S, "it is OK one delay later", interval_s=2.0)
        except AssertionError as error:
            journals = [host.run("journalctl -u 'pt-heartbeat-*' -n 20", check=False).output for host in self.all]
            raise AssertionError("\n".join([said, *journals])) from error

    def check(self) -> str:
        return self.monitoring.run(f"{PLUGIN} --replica replica", user=USER, check=False).output


@contextmanager
def never_stopping(replica: Server) -> Iterator[None]:
    """Both threads run all the while, without an error."""
    over = threading.Event()
    seen: list[tuple[str | None, str | None]] = []

    def watch() -> None:
        while not over.wait(0.5):
            seen.append(replica.threads())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert {*seen} == {("Yes", "Yes")}


def no_errant_transaction(pair: Pair) -> bool:
    """Whether the replica has nothing that did not come from its source."""
    if pair.kind == "mysql":
        sets = [f"'{server.executed()}'" for server in (pair.replica, pair.source)]
        return pair.replica.value(f"SELECT GTID_SUBSET({', '.join(sets)})") == 1
    return all(gtid.split("-")[1] == "1" for gtid in pair.replica.executed().split(",") if gtid)


def logged(pair: Pair) -> str:
    """All that the source's binary logs say, as text."""
    command = "cat $(find /var/lib /data -name '*bin.0*' 2>/dev/null)"
    return str(pair.source.container.exec_run(["sh", "-c", command]).output.decode(errors="replace"))


@pytest.mark.essential("mariadb")
def test_from_nothing_to_ok(site: Site, kit: Kit, fault_family: Family) -> None:
    pair = kit.pair(fault_family, delay=DELAY_S, heartbeats=False)
    hosts = Hosts(site, pair)
    pair.replica.read_only()
    files = hosts.init()
    sealed = fault_family == "mysql"
    with never_stopping(pair.replica):
        hosts.follow(files["README.txt"])
        assert re.match("DELAYED_REPL CRITICAL", hosts.check())
        hosts.becomes_ok()
        assert "FAIL" not in hosts.ready()
        hosts.try_more(files["README.txt"])
    assert no_errant_transaction(pair)
    assert ("pt-heartbeat-replica.service" in files) != sealed
    secret = re.findall("password = (.*)", files["heartbeat-source.cnf"])[0]
    log = logged(pair)
    assert "delay_beat" in log
    assert secret not in log
    # Done once more: what is there is left alone.
    again = hosts.init()
    assert "It is written already" in again["README.txt"]
    assert "There is nothing to do" in again["replica.sql"]
    assert "was there already" in again["README.txt"]
    hosts.close()


@pytest.mark.essential("mysql")
def test_where_heartbeats_are_there_already(site: Site, kit: Kit, fault_family: Family) -> None:
    pair = kit.pair(fault_family, delay=DELAY_S)
    hosts = Hosts(site, pair)
    files = hosts.init()
    assert not any("heartbeat" in name for name in files)
    with never_stopping(pair.replica):
        hosts.follow(files["README.txt"])
        hosts.becomes_ok()
    assert no_errant_transaction(pair)
    hosts.close()


@pytest.mark.essential("mariadb")
def test_where_the_delay_has_to_be_set_first(site: Site, kit: Kit, fault_family: Family) -> None:
    pair = kit.pair(fault_family, delay=DELAY_S)
    hosts = Hosts(site, pair)
    pair.replica.set_delay(0)
    files = hosts.init("--delay", f"{DELAY_S}s")
    hosts.follow(files["README.txt"])
    assert pair.replica.status()["SQL_Delay"] == DELAY_S
    hosts.becomes_ok()
    assert no_errant_transaction(pair)
    hosts.close()
