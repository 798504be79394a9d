"""A replica's state by hand."""

from __future__ import annotations

from check_delayed_repl.rescue.record import Facts
from check_delayed_repl.rescue.relaylog import Place, Transaction
from check_delayed_repl.rescue.state import Channel, Gtids, State

UUID = "a45875fe-e914-11f1-913a-0242ac1a0002"


def channel(**changes: object) -> Channel:
    usual = Channel(
        name="",
        io="Yes",
        sql="No",
        io_errno=0,
        io_error="",
        sql_errno=0,
        sql_error="",
        source="db1:3306",
        source_id=1,
        relay=Place("relay.000002", 300),
        applied=Place("bin.000001", 200),
        fetched=Place("bin.000001", 9000),
        delay=7200,
        until=None,
        gtid=True,
        tries_left=None,
        relay_space=10_000,
    )
    return usual._replace(**changes)  # type: ignore[arg-type]


def state(version: str = "9.7.4", **changes: object) -> State:
    """A frozen replica; `changes` are of its channel."""
    return State(
        version=version,
        identity="uuid:x",
        server_id=2,
        now=1_700_000_000.0,
        channel=channel(**changes),
        executed=Gtids.of(f"{UUID}:1-4" if "MariaDB" not in version else "0-1-4"),
        slave_pos=Gtids.of(""),
        stays_stopped=None if "MariaDB" in version else False,
        may_persist="MariaDB" not in version and not version.startswith("5."),
        rights=None,
    )


def transaction(number: int, gtid: bool = True, mariadb: bool = False) -> Transaction:
    """The one that begins at 100 times its number, in both logs; 5 is the oldest that waits."""
    name = f"0-1-{number}" if mariadb else f"{UUID}:{number}"
    return Transaction(
        gtid=name if gtid else None,
        relay=Place("relay.000002", 100 * number),
        source=Place("bin.000001", 100 * number),
        end=Place("relay.000002", 100 * number + 100),
        source_end=Place("bin.000001", 100 * number + 100),
        kind="drop",
        destructive=True,
        tables={"app.t": None},
        events=2,
        size=100,
        statement="DROP TABLE `t`",
        whole=True,
    )


def facts(**changes: object) -> Facts:
    usual: dict[str, object] = {
        "server": "uuid:x",
        "channel": "",
        "phase": "frozen",
        "started": 1_699_999_000.0,
        "delay": 7200,
        "gtid": True,
        "fetching": True,
    }
    return Facts(**(usual | changes))  # type: ignore[arg-type]
