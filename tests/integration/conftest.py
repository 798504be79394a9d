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
    from .monitoring import Site
    from .servers import Family, Kit, Pair

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever stands in this folder is an integration test."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)


def pytest_configure(config: pytest.Config) -> None:
    """Give the run its id before any worker process starts, so that all of them share it."""
    if not hasattr(config, "workerinput"):
        os.environ.setdefault("CHECK_DELAYED_REPL_TEST_RUN", f"{os.getpid()}-{int(time.time())}")


@pytest.fixture(scope="session")
def kit() -> Iterator[Kit]:
    """What makes servers. Fails with one line where no Docker engine answers."""
    import docker.errors

    from . import servers

    try:
        made = servers.Kit()
    except docker.errors.DockerException as error:
        pytest.fail(f"integration tests need a Docker engine, and none answers: {error}", pytrace=False)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(
    scope="session",
    params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mysql", "mariadb")],
)
def family(request: pytest.FixtureRequest) -> Family:
    """The family of servers: each test that uses it runs once for each. Choose one with ``-m mysql``."""
    chosen: Family = request.param
    return chosen


@pytest.fixture(scope="session")
def pair(kit: Kit, family: Family) -> Iterator[Pair]:
    """A source and its delayed replica for the whole session, in whatever state the last test left them."""
    made = kit.pair(family)
    yield made
    made.close()


@pytest.fixture
def healthy(pair: Pair) -> Pair:
    """The pair with its line established: threads running, delay set, both heartbeats fresh, and nothing left of what
    earlier tests did."""
    return pair.heal()


@pytest.fixture
def settled(pair: Pair) -> Pair:
    """As `healthy`, but a pair that is healthy as it is stays as it is, which saves the time for healing."""
    return pair.settle()


@pytest.fixture
def scene(settled: Pair, tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    """A healthy pair, with the commands and a history to watch it with."""
    from .checking import Scene

    return Scene(settled, tmp_path, title_of(request))


def title_of(request: pytest.FixtureRequest) -> str:
    """A test's name, fit for a file."""
    return str(request.node.originalname).removeprefix("test_").replace("_", "-")


@pytest.fixture(scope="session")
def site(kit: Kit) -> Iterator[Site]:
    """Machines with monitoring programs, and the plugin installed."""
    from .monitoring import Site

    made = Site(kit)
    yield made
    made.close()


@pytest.fixture(scope="session")
def line(kit: Kit) -> Iterator[Pair]:
    """A source and its delayed replica to be monitored, for the whole session: MariaDB."""
    made = kit.pair("mariadb")
    yield made
    made.close()
