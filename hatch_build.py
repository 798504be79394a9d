"""Puts man pages and shell completion into the wheel, made from the commands' own parsers when it is built."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent


class Documents(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        for number, (name, text) in enumerate(documents().items()):
            path = Path(self._folder.name) / str(number)
            path.write_text(text)
            build_data["shared_data"][str(path)] = name

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if self.target_name == "wheel" and version != "editable":
            self._folder.cleanup()


def documents() -> dict[str, str]:
    """Every man page and completion, by its path below the installation's prefix."""
    sys.path.insert(0, str(ROOT))
    try:
        from check_delayed_repl import plugin, tool

        check, operator = plugin.build_parser(), tool.top_parser()
        found = {"share/man/man7/delayed-repl-conditions.7": conditions_page()}
        found |= man_page(check, "monitor an intentionally delayed MySQL or MariaDB replica")
        found |= man_page(operator, "look after delayed replicas")
        commands = operator.add_subparsers(metavar="COMMAND", prog=operator.prog)
        for name in tool.COMMANDS:
            parser, command = tool.command_parser(name)
            command.add_arguments(commands.add_parser(name, help=command.HELP))
            found |= man_page(parser, command.HELP)
        return found | completions(check) | completions(operator)
    finally:
        sys.path.remove(str(ROOT))


def man_page(parser: Any, summary: str) -> dict[str, str]:
    from argparse_manpage.manpage import Manpage

    from check_delayed_repl import __version__

    page = Manpage(parser, format="single-commands-section")
    page.prog = parser.prog.replace(" ", "-")
    page.description, page.date, page.manual = summary, "", "check_delayed_repl"
    page.source = f"check_delayed_repl {__version__}"
    return {f"share/man/man1/{page.prog}.1": str(page)}


def conditions_page() -> str:
    """delayed-repl-conditions(7)."""
    from check_delayed_repl import __version__
    from check_delayed_repl.commands.explain import explained
    from check_delayed_repl.conditions import CONDITIONS

    lines = [
        f'.TH DELAYED\\-REPL\\-CONDITIONS 7 "" "check_delayed_repl {__version__}" "check_delayed_repl"',
        ".SH NAME",
        "delayed\\-repl\\-conditions \\- what check_delayed_repl reports, and what to do",
        ".SH DESCRIPTION",
        "Of several findings that are equally bad, the first one of this list names the service's condition.",
        "\\fBdelayed\\-repl explain\\fR(1) shows the same.",
        ".SH CONDITIONS",
    ]
    for condition in CONDITIONS:
        # Text that roff shows as it is.
        text = explained(condition).replace("\\", "\\e").replace("-", "\\-")
        lines += [f'.SS "{condition.name}"', ".nf", *(f"\\&{line}" for line in text.splitlines()), ".fi"]
    return "\n".join(
        [*lines, ".SH SEE ALSO", "\\fBcheck_delayed_repl\\fR(1), \\fBdelayed\\-repl\\-diagnose\\fR(1)", ""]
    )


def completions(parser: Any) -> dict[str, str]:
    import shtab

    name = parser.prog
    return {
        f"share/bash-completion/completions/{name}": shtab.complete(parser, "bash"),
        f"share/zsh/site-functions/_{name}": shtab.complete(parser, "zsh"),
    }
