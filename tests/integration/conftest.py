"""Fixtures: a pair of each family for the whole session, healed before each test that asks for it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .checking import Scene
    from .matrix import Watched, Watching
    from .monitoring import Site
    from .servers import Family, Kit, Pair

HERE = Path(__file__).parent
EVERY_FAMILY = ("mysql", "mariadb", "mysql56", "mariadb118")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whatever stands in this folder is an integration test; a fault runs on the families that it is marked `on`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)
            if item.path.name.startswith("test_faults_"):
                item.add_marker(pytest.mark.fault)
            if item.get_closest_marker("monitoring"):
                # Tests of a file share their machines, those of each family theirs.
                families = [name for name in EVERY_FAMILY if item.get_closest_marker(name)]
                item.add_marker(pytest.mark.xdist_group("-".join([item.path.stem, *families])))
            essential = item.get_closest_marker("essential")
            if essential and essential.args and family_of(item) not in essential.args:
                item.add_marker(pytest.mark.long)
    # What takes longest begins first.
    items.sort(key=lambda item: item.path.stem not in ("test_icinga_cluster", "test_init"))
    if left_out := [item for item in items if not runs_here(item)]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = filter(runs_here, items)


def family_of(item: pytest.Item) -> str | None:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("fault_family", params.get("family"))


def runs_here(item: pytest.Item) -> bool:
    """Whether the family that a test is about to run on is one that it is marked `on`."""
    marker, family = item.get_closest_marker("on"), family_of(item)
    return marker is None or family is None or family in marker.args


def pytest_configure(config: pytest.Config) -> None:
    """Give the run its id before any worker process starts, so that all of them share it."""
    if not hasattr(config, "workerinput"):
        os.environ.setdefault("CHECK_DELAYED_REPL_TEST_RUN", f"{os.getpid()}-{int(time.time())}")


@pytest.fixture(scope="session")
def kit() -> Iterator[Kit]:
    """What makes servers. Fails with one line where something is missing that it needs."""
    from . import images, servers

    try:
        made = servers.Kit()
        yield made
        made.close()
    except images.Missing as error:
        pytest.fail(str(error), pytrace=False)


MARKED = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in EVERY_FAMILY]


@pytest.fixture(scope="session", params=MARKED[:2])
def family(request: pytest.FixtureRequest) -> Family:
    """The family of servers: each test that uses it runs once for each. Choose one with ``-m mysql``."""
    chosen: Family = request.param
    return chosen


@pytest.fixture
def settled(kit: Kit, family: Family) -> Pair:
    """The session's pair with its line established: threads running, delay set, both heartbeats fresh."""
    return kit.shared_pair(family).settle()


@pytest.fixture
def scene(settled: Pair, tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    """A healthy pair, with the commands and a history to watch it with."""
    from .checking import Scene

    return Scene(settled, tmp_path, title_of(request))


@pytest.fixture(scope="session", params=MARKED)
def fault_family(request: pytest.FixtureRequest) -> Family:
    """As `family`, with the old and the new servers too: for the faults."""
    chosen: Family = request.param
    return chosen


@pytest.fixture(scope="session")
def fault_pair(kit: Kit, fault_family: Family) -> Pair:
    """The session's pair of a family, in whatever state the last test left it."""
    return kit.shared_pair(fault_family)


@pytest.fixture
def watch(tmp_path: Path, request: pytest.FixtureRequest) -> Watching:
    """Watches a healthy pair: a worker takes a sample of it every second, and the check is seen OK; see matrix.py."""
    from .matrix import watching

    return lambda pair, *options: watching(pair, tmp_path, title_of(request), *options)


@pytest.fixture
def watched(fault_pair: Pair, watch: Watching) -> Iterator[Watched]:
    """The session's pair, healthy and watched."""
    with watch(fault_pair.settle()) as ready:
        yield ready


@pytest.fixture
def external(fault_pair: Pair, watch: Watching) -> Iterator[Watched]:
    """As `watched`, on a replica that pt-slave-delay delays, which does not work with MySQL 9."""
    with watch(fault_pair.delay_from_outside()) as ready:
        yield ready


def title_of(request: pytest.FixtureRequest) -> str:
    return str(request.node.originalname).removeprefix("test_").replace("_", "-")


@pytest.fixture(scope="session")
def site(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Machines with monitoring programs, and the plugin installed."""
    from .monitoring import Site

    own = tmp_path_factory.getbasetemp()
    made = Site(kit, own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)
    yield made
    made.close()


@pytest.fixture(scope="session")
def line(kit: Kit) -> Iterator[Pair]:
    """A source and its delayed replica to be monitored, for the whole session: MariaDB."""
    made = kit.pair("mariadb")
    yield made
    made.close()
