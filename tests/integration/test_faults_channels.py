"""Several channels, one of them broken: told of that one, and of no other. Group 11 of the faults.

The replica follows `orders`, the pair's own source, and `billing`, a source of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .matrix import Watched, Watching, essential, on
from .servers import DELAY_S, Heartbeat, Pair, Server, wait_until

FAMILIES = ("mysql", "mariadb", "mariadb118")
"""Those that can have several channels at all."""
SLACK_S = 5.0


@pytest.fixture
def orders(fault_pair: Pair, watch: Watching) -> Iterator[Watched]:
    """A healthy pair with a channel that has a name, and a worker that names it."""
    with watch(fault_pair.heal(channel="orders"), "--channel", "orders") as ready:
        yield ready


@pytest.fixture
def billing(fault_pair: Pair) -> Iterator[Server]:
    """Another source, with a heartbeat."""
    options = ("--gtid-domain-id=5",) if fault_pair.kind == "mariadb" else ()
    server = Server(fault_pair.kit, fault_pair.family, "billing", 5, fault_pair.network, *options)
    try:
        server.start()
        server.forget_replication()
        server.make_accounts()
        with Heartbeat(server):
            yield server
    finally:
        server.close()


def remove(replica: Server, channel: str) -> None:
    replica.stop_all(channel)
    replica.replication("RESET", "ALL", channel)


@essential("mysql")
@on(*FAMILIES)
def test_one_channel_of_two(orders: Watched, billing: Server) -> None:
    replica = orders.replica
    with orders.worker("unnamed"):
        orders.expect("OK", "in-range", 60, name="unnamed")
        title = "Channels: a second one, and none named"
        with (
            orders.fault("11.1", title, "not-a-replica", within=SLACK_S, name="unnamed") as it,
            orders.twin("11.1", "the one to sample is named"),
        ):
            replica.replicate_from(billing, DELAY_S, "billing")
            outcome = it.detected()
            assert "billing, orders" in outcome.message
            assert "--channel" in outcome.message
            it.mending()
            remove(replica, "billing")

    replica.replicate_from(billing, DELAY_S, "billing")
    with orders.worker("billing", options=("--channel", "billing")):
        orders.expect("OK", "in-range", 60, name="billing")
        one_of_two(orders, billing)


def one_of_two(orders: Watched, billing: Server) -> None:
    """Whatever happens to billing, orders does not mind."""
    replica, title = orders.replica, "Channels: SQL thread of one stopped"
    with (
        orders.fault("11.2", title, "sql-stopped", within=1 + SLACK_S, name="billing") as it,
        orders.twin("11.2", "the other channel"),
    ):
        replica.stop_sql("billing")
        it.detected()
        it.mending()
        replica.start_sql("billing")
    title, conditions = "Channels: source of one killed", ("io-error", "io-stopped")
    with (
        orders.fault("11.3", title, conditions, within=12, name="billing") as it,
        orders.twin("11.3", "the other channel"),
    ):
        billing.kill()
        it.detected()
        it.mending()
        billing.start()
    with (
        orders.fault("11.4", "Channels: one removed", "not-a-replica", within=SLACK_S, name="billing") as it,
        orders.twin("11.4", "the other channel"),
    ):
        remove(replica, "billing")
        outcome = it.detected()
        assert "no channel 'billing'" in outcome.message
        assert "there are: orders" in outcome.message
        it.mending()
        replica.replicate_from(billing, DELAY_S, "billing")
        wait_until(lambda: replica.threads("billing") == ("Yes", "Yes"), 30, "billing replicates again")
