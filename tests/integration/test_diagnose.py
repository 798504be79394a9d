"""`delayed-repl diagnose` against real servers: what it says, and that what it proposes can be pasted there.

Where the environment variable CHECK_DELAYED_REPL_RECORDINGS names a folder, the screens are kept there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .checking import RECORDINGS_VARIABLE, SCALED, Scene, tool
from .servers import DELAY_S, wait_until


def diagnosed(scene: Scene, *options: str) -> dict[str, Any]:
    """The diagnosis as JSON; the screen is kept."""
    where = [*scene.check_options, "--history", scene.history, "--replica", scene.name, *SCALED, *options]
    shown = tool("diagnose", *where)
    found: dict[str, Any] = json.loads(tool("diagnose", *where, "--output", "json"))
    folder = os.environ.get(RECORDINGS_VARIABLE)
    if folder:
        name = f"{scene.title}-{scene.pair.family}-{found['condition']}.txt"
        (Path(folder) / name).write_text(shown)
    assert max(map(len, shown.splitlines()[:15])) <= 80
    return found


def proposed(found: dict[str, Any], condition: str) -> list[list[str]]:
    """The commands of each step that is proposed for a finding."""
    [finding] = [finding for finding in found["findings"] if finding["condition"] == condition]
    return [step["commands"] for step in finding["next"]]


def pasted(scene: Scene, statements: list[str]) -> None:
    scene.pair.replica.sql(*(statement.removesuffix(";") for statement in statements))


def test_a_healthy_replica_without_any_history(scene: Scene) -> None:
    found = json.loads(tool("diagnose", *scene.check_options, *SCALED, "--for", "5s", "--output", "json"))
    assert (found["state"], found["condition"]) == ("OK", "in-range")
    assert found["certainty"]["low"] <= found["trend"]["slope"] <= found["certainty"]["high"]
    assert ("MariaDB" in found["server"]["version"]) == (scene.pair.family == "mariadb")
    protected = found["protected"]
    assert DELAY_S - 2 <= protected["applied"] - found["at"] <= DELAY_S + 3
    assert not Path(scene.history).exists()


def test_a_stopped_thread_is_started_by_what_is_proposed(scene: Scene) -> None:
    with scene.worker():
        scene.expect("OK", "in-range", 20)
        assert diagnosed(scene)["condition"] == "in-range"
        for thread, stop in (("sql", scene.pair.replica.stop_sql), ("io", scene.pair.replica.stop_io)):
            stop()
            scene.expect("CRITICAL", f"{thread}-stopped", 10)
            found = diagnosed(scene, "--sampling", "worker")
            assert found["condition"] == f"{thread}-stopped"
            if thread == "sql":
                assert found["protected"]["applied"] is None
            pasted(scene, proposed(found, f"{thread}-stopped")[0])
            wait_until(lambda: scene.pair.replica.threads() == ("Yes", "Yes"), 10, "both threads run")


def test_a_lost_delay_is_set_again_by_what_is_proposed(scene: Scene) -> None:
    replica = scene.pair.replica
    with scene.worker():
        scene.expect("OK", "in-range", 20)
        replica.set_delay(0)
        scene.expect("CRITICAL", "delay-setting-lost", 10)
        found = diagnosed(scene)
        for statements in proposed(found, "delay-setting-lost"):
            pasted(scene, statements)
        assert replica.status()["SQL_Delay"] == DELAY_S
        assert replica.threads() == ("Yes", "Yes")
        scene.expect("OK", "in-range", 40)


def test_watching_a_recovery(scene: Scene) -> None:
    with scene.worker():
        scene.expect("OK", "in-range", 20)
        where = [*scene.check_options, "--history", scene.history, "--replica", scene.name, *SCALED]
        frames = tool("watch", *where, "--interval", "1", "--count", "2")
    assert frames.count("Delay of the last") == 2
    assert "OK  in-range" in frames
