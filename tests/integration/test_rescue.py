"""Rescues on real servers: the tables as they were right before the mistake, and everything back at the end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .rescuing import DELAY_S, MISTAKES, Scene, pair_for_rescues
from .servers import Family, Kit, Pair


@pytest.fixture(scope="module", params=["gtid", "pos"])
def rescue_pair(request: pytest.FixtureRequest, kit: Kit, fault_family: Family) -> Iterator[Pair]:
    made = pair_for_rescues(kit, fault_family, request.param == "gtid")
    yield made
    made.close()


@pytest.fixture
def scene(rescue_pair: Pair, tmp_path: Path) -> Scene:
    made = Scene(rescue_pair, tmp_path)
    made.set_up()
    return made


PLAIN = (("gtid", "drop", True), ("pos", "delete", False))
CASES = [
    pytest.param(*case, marks=() if case in PLAIN else pytest.mark.long)
    for case in itertools.product(("gtid", "pos"), MISTAKES, (True, False))
]


@pytest.mark.parametrize(("rescue_pair", "mistake", "alive"), CASES, indirect=["rescue_pair"])
def test_a_rescue(scene: Scene, mistake: str, alive: bool) -> None:
    with scene.load():
        scene.more()
        before = scene.make(MISTAKES[mistake])
        made_at = time.time()
        scene.more()
        if not alive:
            scene.lose_source()
        began = time.monotonic()
        frozen = scene.json("freeze", "--table", "app.orders")
        assert frozen["phase"] == "frozen"
        assert frozen["held"] is (not scene.pins)
        worst = scene.find("--table", "app.orders")[0]
        assert worst["kind"] == mistake
        # On a busy machine pt-heartbeat is late by seconds, and with it every time that rests on it.
        assert abs(worst["time"] - made_at) <= worst["time_error"] + 5
        forward = ("forward", worst["target"], "--execute", "--table", "app.orders", "--verify")
        done = scene.json(*forward)
        print(f"freeze to verified: {time.monotonic() - began:.1f} s")
    assert (done["phase"], done["held"]) == ("forwarded", True)
    assert done["position"] == worst["source_position"]
    assert scene.tables(scene.replica) == before
    assert [tuple(one.values()) for one in done["tables"]] == [("app.orders", *before["app.orders"])]
    assert scene.json(*forward)["done"] == []
    assert scene.json("status")["phase"] == "forwarded"
    if not alive:
        return
    scene.load_back(done["dump"], mistake)
    resumed = scene.json("resume", "--execute")
    assert (resumed["phase"], resumed["held"]) == ("resumed", False)
    assert int(scene.status()["SQL_Delay"]) == DELAY_S
    found = scene.tables(scene.replica)
    assert found == before or time.time() > made_at + DELAY_S, "applied early"
    scene.shorten()
    scene.equal()
    assert scene.replica.threads() == ("Yes", "Yes")


@pytest.mark.long
def test_the_mistake_is_the_last_that_was_ever_fetched(scene: Scene) -> None:
    scene.source.sql("INSERT INTO app.stock (v, n) VALUES ('x', 1)")
    before = scene.make(MISTAKES["drop"])
    scene.fetched()
    scene.lose_source()
    scene.json("freeze")
    scene.rescued(before, "--kind", "drop")
