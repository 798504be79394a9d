"""What the rescue's options take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from check_delayed_repl.commands.rescue import moment, read_questions
from check_delayed_repl.config import parsed
from check_delayed_repl.tool import command_parser


def test_times() -> None:
    assert moment("1795430465.5") == 1795430465.5
    assert moment("2026-11-23 10:41:05") == moment("2026-11-23T11:41:05+01:00") == 1795430465.0


@pytest.mark.parametrize("hour", [0, 12, 23])
def test_a_time_of_day_is_the_last_one_that_was(hour: int) -> None:
    found = datetime.fromtimestamp(moment(f"{hour}:30"), UTC)
    assert (found.hour, found.minute) == (hour, 30)
    assert timedelta() <= datetime.now(UTC) - found < timedelta(days=1, minutes=1)


def test_what_is_wrong_with_a_question_does_not_keep_a_freeze_from_stopping() -> None:
    parser, _ = command_parser("rescue")
    args = parser.parse_args(["freeze", "-H", "h", "--table", "orders", "--table", "app.stock", "--before", "noon"])
    read_questions(args)
    assert (args.tables, args.before) == (["app.stock"], None)
    assert "'orders' is not of the form" in args.unclear[0]
    assert "'noon' is no time" in args.unclear[1]


def test_the_delay_that_is_meant_is_not_taken_for_the_one_to_set(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[[replica]]\nreplica = "db7"\nhost = "db7"\ndelay = "2h"\n')
    config.chmod(0o600)
    parser, _ = command_parser("rescue")
    assert parsed(parser, ["resume", "--config", str(config)]).new_delay is None
    assert parsed(parser, ["resume", "--config", str(config), "--delay", "1h"]).new_delay == 3600
