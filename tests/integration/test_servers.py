"""What all the other tests rely on: a pair that is healed, whatever was done to it."""

from __future__ import annotations

import pytest

from .servers import NotInTime, Pair, literal, wait_until


def test_a_condition_that_never_comes_true_is_told_with_what_was_seen() -> None:
    with pytest.raises(NotInTime, match=r"^the moon is blue: not within 0 s \(last seen: ''\)$"):
        wait_until(lambda: "", 0, "the moon is blue")


def test_a_replica_in_error_and_a_source_without_its_logs_are_healed(healthy: Pair) -> None:
    source, replica = healthy.source, healthy.replica
    replica.unlogged("DROP DATABASE percona")
    wait_until(lambda: replica.threads()[1] == "No", 90, "the SQL thread fails")
    source.sql("FLUSH BINARY LOGS")
    source.sql(f"PURGE BINARY LOGS TO {literal(str(source.rows('SHOW BINARY LOGS')[-1]['Log_name']))}")
    replica.kill()
    assert healthy.heal().trouble() == ""
    # The local heartbeat leaves no errant transaction.
    own = replica.value("SELECT @@server_uuid") if healthy.kind == "mysql" else "0-2-"
    assert str(own) not in replica.executed()
