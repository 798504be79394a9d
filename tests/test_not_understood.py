"""Something else than MySQL and MariaDB, which speaks their protocol: one clear line, and never an internal error."""

from __future__ import annotations

from pathlib import Path

import pytest
from listeners import PASSWORD, listening, speaking, table

from check_delayed_repl import tool

COMMANDS = (
    ("grants",),
    ("grants", "--for", "rescue"),
    ("init", "--to", "DIR/new"),
    *(
        ("rescue", *words, "--state", "DIR/state", "--history", "DIR/history.db")
        for words in (("ready",), ("freeze",), ("find",), ("status",), ("resume",), ("forward", "0-1-5"))
    ),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("value", [b"garb\xff", None])
def test_an_answer_without_what_was_asked_for(
    command: tuple[str, ...], value: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(speaking(table([b"x"], [value]))) as target:
        words = [word.replace("DIR", str(tmp_path)) for word in command]
        status = tool.run([*words, "-H", "127.0.0.1", "-P", str(target.port), "-u", "monitor", "-p", PASSWORD])
    said = "".join(capsys.readouterr())
    assert (status, "internal error" in said) == (1, False), said
    assert "the server's answer cannot be understood: it has no " in said
