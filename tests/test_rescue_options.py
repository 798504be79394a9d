"""What the rescue's options take."""

from __future__ import annotations

from pathlib import Path

import pytest

from check_delayed_repl.arguments import UsageError
from check_delayed_repl.commands.rescue import read_questions
from check_delayed_repl.config import parsed
from check_delayed_repl.tool import command_parser


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


@pytest.mark.parametrize("delay", ["1e12", "1e400", "2147483647", "-1", "nan"])
def test_no_delay_that_a_server_cannot_have(delay: str) -> None:
    parser, _ = command_parser("rescue")
    with pytest.raises(UsageError, match="--delay"):
        parsed(parser, ["resume", f"--delay={delay}"])
    parser, _ = command_parser("init")
    with pytest.raises(UsageError, match="--delay"):
        parsed(parser, [f"--delay={delay}"])
