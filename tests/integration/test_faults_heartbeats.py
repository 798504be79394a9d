"""Heartbeats that stop, lie, or are not where they should be. Group 6 of the faults.

What is written on the source is seen on the replica one delay later, so that most faults here are told after the delay
and one sample, and are over one delay after they are mended.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from .breaking import replicated
from .checking import WORKER, Outcome
from .matrix import Watched
from .servers import DELAY_S, HEARTBEAT, HEARTBEAT_TABLE, Heartbeat, Pair, Server, account, meanwhile, wait_until

THROUGH_S = DELAY_S + 6
"""Seconds within which the replica shows a change on the source: the delay, a sample, and slack for a busy machine."""
MAX_BEHIND_S = 5
"""The --max-seconds-behind that these tests run with."""
UTC_NOW = "DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%dT%H:%i:%s.000000')"
BY_HAND = "DATE_FORMAT(UTC_TIMESTAMP(), '%Y-%m-%d %H:%i:%s')"
"""The time now as pt-heartbeat writes it, and as others may; SQL."""
HOSTILE = "<b>|x=1;\\n\\t\x1b[31m$(id)"
"""A ts that means harm to whoever shows it: markup, the perfdata's separator, control characters."""


@contextmanager
def silent(pair: Pair) -> Iterator[None]:
    """No heartbeat is written on the source meanwhile."""
    pair.heartbeat.stop()
    try:
        yield
    finally:
        pair.heartbeat.start()


# Writers that die


def test_a_writer_dies(watched: Watched) -> None:
    pair = watched.pair
    title = "Heartbeat: writer dead on the replica"
    with watched.fault("6.3", title, "local-heartbeat-stale", within=MAX_BEHIND_S + 5) as it:
        pair.local_heartbeat.stop()
        assert "is pt-heartbeat running on the replica?" in it.detected().message
        assert watched.judged("--no-local-heartbeat").what == ("OK", "in-range")
        it.mending()
        pair.local_heartbeat.start()
    with watched.twin("6.3", "it is restarted", options=("--max-seconds-behind", "15")):
        pair.local_heartbeat.stop()
        pair.local_heartbeat.start()
        wait_until(lambda: pair.heartbeats()[2] < 3, 20, "the local heartbeat is written again")

    with watched.twin("6.1", "only heartbeats are written", watch=5):
        pass
    title, within = "Heartbeat: writer dead on an idle source", THROUGH_S + MAX_BEHIND_S
    with watched.fault("6.1", title, "source-heartbeat-dead", within=within) as it, silent(pair):
        assert "nothing is left to apply" in it.detected().message
        it.mending()


def test_a_writer_dies_on_a_busy_source(watched: Watched) -> None:
    pair, source = watched.pair, watched.source
    source.sql("CREATE DATABASE IF NOT EXISTS busy", "CREATE TABLE IF NOT EXISTS busy.entry (id INT)")
    with meanwhile(lambda: source.sql("INSERT INTO busy.entry VALUES (1)"), 0.2):
        with watched.twin("6.2", "heartbeats and other rows are written", watch=DELAY_S + 3):
            pass
        title, within = "Heartbeat: writer dead on a busy source", THROUGH_S + 2 * MAX_BEHIND_S
        with watched.fault("6.2", title, "source-heartbeat-dead", within=within) as it, silent(pair):
            assert "later changes were applied" in it.detected().message
            it.mending()


# Clocks and time zones


def test_a_clock_that_is_wrong(watched: Watched) -> None:
    """pt-heartbeat's own clock, on the source's machine."""
    pair = watched.pair

    @contextmanager
    def wrong(offset: str) -> Iterator[None]:
        with silent(pair), Heartbeat(pair.source, clock=offset):
            yield

    with (
        watched.twin("6.6", "it is one second ahead", watch=DELAY_S + 3),
        watched.twin("6.7", "it is one second behind", watch=DELAY_S + 3),
    ):
        for offset in ("+1s", "-1s"):
            with wrong(offset):
                time.sleep(4)
    title = "Heartbeat: source's clock 30 s ahead"
    with watched.fault("6.6", title, "heartbeat-from-future", within=THROUGH_S + 4) as it, wrong("+30s"):
        assert "the clocks disagree" in it.detected().message
        it.mending()
    title = "Heartbeat: source's clock 30 s behind"
    with watched.fault("6.7", title, "delay-out-of-bounds", within=THROUGH_S + 10) as it, wrong("-30s"):
        assert "source-heartbeat-dead" not in it.detected().conditions
        it.mending()


class Zones:
    """Two time zones of our own: `Fixed`, and `Turning`, which is the same until it changes its clocks today."""

    def __init__(self, folder: Path, hours: int, turned: int, after_s: float) -> None:
        """`hours` ahead of UTC, and `turned` hours from `after_s` seconds hence on."""
        self.folder = folder
        self.turns_t = float(int(time.time() + after_s))
        moment = time.strftime("%Y %b %d %H:%M:%Su", time.gmtime(self.turns_t))
        rules = folder / "rules"
        rules.write_text(f"Zone Fixed {hours}:00 - AAA\nZone Turning {hours}:00 - AAA {moment}\n {turned}:00 - BBB\n")
        zic = shutil.which("zic") or "/usr/sbin/zic"
        subprocess.run([zic, "-d", str(folder), str(rules)], check=True, capture_output=True)

    @contextmanager
    def written(self, pair: Pair, name: str) -> Iterator[None]:
        """Heartbeats on both servers are in the local time of a zone."""
        zone = self.folder / name
        with Heartbeat(pair.source, zone=zone), Heartbeat(pair.replica, local=True, zone=zone):
            yield


@pytest.mark.parametrize(
    ("group", "hours", "turned", "wrong", "turn"),
    [
        (0, 2, 1, "heartbeat-from-future", "local-heartbeat-stale"),
        (1, -3, -2, "local-heartbeat-stale", "heartbeat-from-future"),
    ],
    ids=["back", "forward"],
)
def test_time_zones(
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    group: int,
    hours: int,
    turned: int,
    wrong: str,
    turn: str,
) -> None:
    """Heartbeats in local time, where UTC is expected; and the hour in which that zone changes its clocks, for a check
    that knows the zone, and for one that was told another which happens to agree until then."""
    pair = watched.pair
    folder = tmp_path / "zones"
    folder.mkdir()
    zones = Zones(folder, hours, turned, after_s=60)
    monkeypatch.setenv("PYTHONTZPATH", str(folder))
    direction, change = ("behind", "forward") if group else ("ahead", "back")
    both = (pair.heartbeat, pair.local_heartbeat)
    title = f"Heartbeat: in local time, {abs(hours)} h {direction}"
    with (
        watched.fault(f"6.{4 + group}", title, wrong, within=MAX_BEHIND_S + 8) as it,
        ExitStack() as writers,
        watched.worker("told", options=("--heartbeat-timezone", "Turning")),
        watched.worker("untold", options=("--heartbeat-timezone", "Fixed")),
    ):
        for heartbeat in both:
            heartbeat.stop()
        writers.enter_context(zones.written(pair, "Turning"))
        it.detected()
        for name in ("told", "untold"):
            watched.expect("OK", "in-range", 60, name=name)
        title = f"Heartbeat: clocks go {change}, unknown to the check"
        with watched.fault(f"6.{8 + group}", title, turn, within=6, name="untold") as turning:
            assert time.time() < zones.turns_t, "the clocks have turned before anybody could take a sample"
            with (
                watched.twin(f"6.{4 + group}", "the check is told the zone", name="told"),
                watched.twin(f"6.{8 + group}", "the check is told the zone", name="told", watch=DELAY_S + 3),
            ):
                wait_until(lambda: time.time() > zones.turns_t, 70, "the clocks turn")
                turning.detected()
            turning.mending()
            writers.close()
            writers.enter_context(zones.written(pair, "Fixed"))
        it.mending()
        writers.close()
        for heartbeat in both:
            heartbeat.start()


# Rows and tables


@contextmanager
def by_hand(server: Server) -> Iterator[None]:
    """Meanwhile a server's own row is not written by pt-heartbeat, but by SQL: with a space in its ts, no fraction."""
    statement = f"UPDATE {HEARTBEAT_TABLE} SET ts = {BY_HAND} WHERE server_id = {server.server_id}"
    run = server.sql if server.server_id == 1 else server.unlogged
    with meanwhile(lambda: run(statement), 1):
        yield


def test_rows_of_others_and_none_of_the_source(watched: Watched) -> None:
    pair, source = watched.pair, watched.source
    with watched.twin("6.10", "rows of other servers beside the source's own", watch=DELAY_S + 3):
        source.sql(
            f"INSERT INTO {HEARTBEAT_TABLE} (ts, server_id) VALUES ('2020-01-01T00:00:00.000000', 77)",
            f"INSERT INTO {HEARTBEAT_TABLE} (ts, server_id) VALUES ('2199-01-01T00:00:00.000000', 78)",
        )
    title = "Heartbeat: rows of other servers, none of the source"
    with watched.fault("6.10", title, "heartbeat-missing", within=THROUGH_S) as it:
        with silent(pair):
            source.sql(
                f"DELETE FROM {HEARTBEAT_TABLE} WHERE server_id = 1",
                f"INSERT INTO {HEARTBEAT_TABLE} (ts, server_id) VALUES ({UTC_NOW}, 79)",
            )
            outcome = it.detected()
            assert "no heartbeat of server 1" in outcome.message
            assert "server 2 (this server), 77, 78, 79" in outcome.message
            it.mending()
        source.sql(f"DELETE FROM {HEARTBEAT_TABLE} WHERE server_id > 70")


def test_another_table(watched: Watched) -> None:
    """A table in another schema; and then it is not there."""
    source, replica = watched.source, watched.replica
    table = "ops.beat"
    for server in (source, replica):
        server.unlogged(
            "CREATE DATABASE IF NOT EXISTS ops",
            f"GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON ops.* TO {account(HEARTBEAT)}",
        )
    writers = [Heartbeat(source, table=table), Heartbeat(replica, local=True, table=table)]
    with writers[0]:
        replicated(replica, f"SELECT 1 FROM {table} WHERE server_id = 1")
        replica.unlogged(f"GRANT SELECT ON {table} TO {account(WORKER)}")
        with writers[1], watched.worker("elsewhere", options=("--heartbeat-table", table)):
            watched.expect("OK", "in-range", 60, name="elsewhere")
            with watched.twin("6.11", "it is where it was", name="elsewhere"):
                pass
            title = "Heartbeat: table renamed in another schema"
            with watched.fault("6.11", title, "heartbeat-missing", within=THROUGH_S, name="elsewhere") as it:
                for writer in writers:
                    writer.stop()  # it would make a new one
                source.sql(f"RENAME TABLE {table} TO ops.moved")
                outcome = it.detected()
                assert f"no table {table}" in outcome.message
                assert "--heartbeat-table" in outcome.message
                it.mending()
                source.sql(f"RENAME TABLE ops.moved TO {table}")
                replicated(replica, f"SELECT 1 FROM {table} WHERE server_id = 2")
                for writer in writers:
                    writer.start()
    source.sql("DROP DATABASE ops")


def test_other_columns(watched: Watched) -> None:
    pair, source = watched.pair, watched.source
    with watched.twin("6.12", "`ts` is a DATETIME, beside a column that nobody knows", watch=DELAY_S + 3):
        source.sql(f"ALTER TABLE {HEARTBEAT_TABLE} MODIFY ts DATETIME NOT NULL, ADD COLUMN remark INT")
    source.sql(f"ALTER TABLE {HEARTBEAT_TABLE} MODIFY ts VARCHAR(26) NOT NULL, DROP COLUMN remark")
    title = "Heartbeat: table of an old layout, without server_id"
    with watched.fault("6.12", title, "heartbeat-unreadable", within=THROUGH_S) as it, silent(pair):
        source.sql(
            f"RENAME TABLE {HEARTBEAT_TABLE} TO percona.kept",
            f"CREATE TABLE {HEARTBEAT_TABLE} (id INT NOT NULL PRIMARY KEY, ts DATETIME NOT NULL)",
            f"INSERT INTO {HEARTBEAT_TABLE} VALUES (1, UTC_TIMESTAMP())",
        )
        assert "lacks the columns server_id and ts" in it.detected().message
        it.mending()
        source.sql(f"DROP TABLE {HEARTBEAT_TABLE}", f"RENAME TABLE percona.kept TO {HEARTBEAT_TABLE}")


def test_a_ts_that_is_no_time(watched: Watched) -> None:
    pair, source, replica = watched.pair, watched.source, watched.replica
    title = "Heartbeat: garbage in the local `ts`"
    with watched.fault("6.14", title, "heartbeat-unreadable", within=MAX_BEHIND_S + 3) as it:
        pair.local_heartbeat.stop()
        replica.unlogged(f"UPDATE {HEARTBEAT_TABLE} SET ts = '{HOSTILE}' WHERE server_id = 2")
        assert_harmless(it.detected())
        it.mending()
        pair.local_heartbeat.start()
    pair.local_heartbeat.stop()
    with by_hand(replica), watched.twin("6.14", "a space in it, and no fraction", watch=6):
        pass
    pair.local_heartbeat.start()

    title = "Heartbeat: garbage in the source's `ts`"
    with watched.fault("6.13", title, "heartbeat-unreadable", within=THROUGH_S) as it, silent(pair):
        source.sql(f"UPDATE {HEARTBEAT_TABLE} SET ts = '{HOSTILE}' WHERE server_id = 1")
        assert_harmless(it.detected())
        it.mending()
    with silent(pair), by_hand(source), watched.twin("6.13", "a space in it, and no fraction", watch=DELAY_S + 3):
        pass


def assert_harmless(outcome: Outcome) -> None:
    """Nothing of HOSTILE can do harm where the output is shown."""
    assert "no time" in outcome.message
    assert not set("<>\x1b\t") & set(outcome.text), outcome.text
    assert outcome.text.splitlines()[0].count("|") == 1, "the bar before the perfdata alone"
    assert " x=" not in outcome.text
