"""The list of conditions that every other list is made from."""

from __future__ import annotations

from check_delayed_repl.conditions import BESIDE, CONDITIONS, FAULT, HARD, HOLDABLE, LINE, SAMPLE_ERRORS, find, rank


def test_the_kinds_follow_one_another_in_rank() -> None:
    order = [HARD, HOLDABLE, LINE, BESIDE, FAULT]
    kinds = [order.index(condition.kind) for condition in CONDITIONS]
    assert kinds == sorted(kinds)
    assert [rank(condition.name) for condition in CONDITIONS] == list(range(len(CONDITIONS)))


def test_a_kind_of_job_in_a_name_is_understood() -> None:
    for name in ("active-backup", "active-KIND", "active-x-recovery-window"):
        assert (found := find(name)) is not None
        assert found.name == "active-KIND"
    assert (found := find("snapshot-recovery-window")) is not None
    assert found.name == "KIND-recovery-window"
    assert rank("active-backup") < rank("backup-recovery-window")
    assert find("no-such-condition") is None


def test_what_a_sample_fails_with_is_critical() -> None:
    assert len(SAMPLE_ERRORS) == 7
    assert {found.kind for name in SAMPLE_ERRORS if (found := find(name))} == {HARD, HOLDABLE}
