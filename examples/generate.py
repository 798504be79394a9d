#!/usr/bin/env python3
"""Writes Icinga 2's CheckCommand, and the same for Icinga Director as a basket, from the check's options.

python examples/generate.py            write icinga2/command.conf and icinga2/director-basket.json anew
python examples/generate.py --check    write nothing; exit 1 where one is stale
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from check_delayed_repl import options, plugin  # noqa: E402

ORIGIN = "Written by examples/generate.py from the check's options: change those."
OPTIONS = (
    options.CONFIG,
    *options.CONNECTION,
    *options.HEARTBEATS,
    *options.LIMITS,
    *options.TREND,
    *(options.HISTORY, options.SAMPLING, options.KEEP, options.OUTPUT),
)

ICINGA = """\
/* {origin}
 *
 * The check command, as the Icinga Template Library writes them: every option is a variable delayed_repl_NAME; -v, -vv
 * and -vvv are delayed_repl_verbose = 1, 2 and 3.
 * PluginDir (constants.conf) is the plugin folder; put a link to the plugin there:
 *
 *   Debian, Ubuntu    ln -s /opt/check_delayed_repl/bin/check_delayed_repl /usr/lib/nagios/plugins/
 *   RHEL, Fedora      ln -s /opt/check_delayed_repl/bin/check_delayed_repl /usr/lib64/nagios/plugins/
 *
 * In a cluster this file belongs into a global zone (zones.d/global-templates/), so that satellites and agents have it.
 */

// What services.conf lets a host say of its replicas; anything else is a mistake in writing.
const DelayedReplOptions = [
{options}\t"verbose", "worker_host"
]

object CheckCommand "delayed_repl" {{
\timport "ipv4-or-ipv6"

\tcommand = [ PluginDir + "/check_delayed_repl" ]

\t// The check ends by itself within delayed_repl_timeout (10 s); this is for a machine that does not get round to it.
\ttimeout = 1m

\targuments = {{
{arguments}\t}}
}}
"""

# Rules in Icinga's language. The host's address stands in only where neither a socket nor the configuration file says
# otherwise.
HOST_IS_GIVEN = """\
if (macro("$delayed_repl_socket$")) { return false }
if (macro("$delayed_repl_host$")) { return true }
return !macro("$delayed_repl_config$")"""
VERBOSITY = 'number(macro("$delayed_repl_verbose$"))'
FIELDS = (
    *("config", "replica", "host", "port", "socket", "defaults-file", "channel", "sampling"),
    *("master-server-id", "no-local-heartbeat"),
)
"""What people set for each replica, beside its limits: these have a field in Director's forms."""
CATEGORY = "Delayed replication"
SERVICE = {
    "check_command": "delayed_repl",
    "check_interval": "60",
    "enable_flapping": False,
    "fields": [],
    "max_check_attempts": "1",
    "notes": "delayed-repl explain CONDITION says what a condition means and what to do",
    "object_name": "delayed-replication",
    "object_type": "template",
    "retry_interval": "60",
    "vars": {"delayed_repl_config": "/etc/check_delayed_repl/config.toml"},
}
"""The template of services.conf; the reasons stand there."""


class Rule(str):
    """An expression of Icinga's language, in place of a text."""

    __slots__ = ()


def variable(option: options.Option) -> str:
    return f"delayed_repl_{option.keys[0].replace('-', '_')}"


def arguments(address: str) -> dict[str, dict[str, Any]]:
    """The command's arguments, as Icinga has them; `address` is an expression for the host's."""
    made: dict[str, dict[str, Any]] = {}
    for option in OPTIONS:
        argument: dict[str, Any] = {}
        macro = f"${variable(option)}$"
        if option.keys[0] == "host":
            argument = {"set_if": Rule(HOST_IS_GIVEN), "value": Rule(f'macro("{macro}") || {address}')}
        elif option.metavar:
            argument = {"value": macro}
        else:
            argument = {"set_if": macro}
        if option.repeatable:
            argument["repeat_key"] = True
        made[f"--{option.keys[0]}"] = argument | {"description": described(option.help)}
    made["--verbose"] = {
        "set_if": Rule(f"{VERBOSITY} > 0"),
        "value": Rule(f'[ "", "-v", "-vv", "-vvv" ].get({VERBOSITY})'),
        "skip_key": True,
        "description": described(plugin.VERBOSE_HELP),
    }
    return made


def icinga_command() -> str:
    """command.conf."""
    text = ""
    for name, argument in arguments('macro("$check_address$")').items():
        text += f'\t\t"{name}" = {{\n'
        text += "".join(f"\t\t\t{key} = {in_icinga(value)}\n" for key, value in argument.items())
        text += "\t\t}\n"
    keys = [option.keys[0].replace("-", "_") for option in OPTIONS]
    rows = "".join(f"\t{', '.join(map(quoted, keys[start : start + 5]))},\n" for start in range(0, len(keys), 5))
    return ICINGA.format(origin=ORIGIN, arguments=text, options=rows)


def in_icinga(value: object) -> str:
    """A value in Icinga's language."""
    if isinstance(value, Rule) and "\n" in value:
        return "{{" + "".join(f"\n\t\t\t\t{line}" for line in value.splitlines()) + "\n\t\t\t}}"
    if isinstance(value, Rule):
        return f"{{{{ {value} }}}}"
    return quoted(value) if isinstance(value, str) else str(value).lower()


def director_basket() -> str:
    """director-basket.json, in the form that Director exports itself, less what differs from one Director to another.

    Objects are found by their names, so that importing it anew changes them in place. A template such as ipv4-or-ipv6
    cannot be imported: Director knows none of Icinga's own.
    """
    shown = sorted((each for each in OPTIONS if each.keys[0] in FIELDS or each in options.LIMITS), key=variable)
    command = {
        "arguments": {
            name: {key: in_director(key, value) for key, value in argument.items()}
            | ({"set_if_format": "expression"} if isinstance(argument.get("set_if"), Rule) else {})
            for name, argument in arguments('macro("$address$") || macro("$address6$")').items()
        },
        "command": "check_delayed_repl",
        "fields": [
            {"datafield_id": number, "is_required": "n", "var_filter": None} for number in range(1, len(shown) + 1)
        ],
        "methods_execute": "PluginCheck",
        "object_name": "delayed_repl",
        "object_type": "object",
        "timeout": "60",
    }
    basket = {
        "Command": {command["object_name"]: command},
        "Datafield": {str(number): field(option) for number, option in enumerate(shown, 1)},
        "DatafieldCategory": {CATEGORY: {"category_name": CATEGORY}},
        "ServiceTemplate": {SERVICE["object_name"]: SERVICE},
    }
    return json.dumps(basket, indent=2) + "\n"


def in_director(key: str, value: object) -> object:
    """An argument's value in a basket. Only `value` may be a function there; `set_if` has its format beside it."""
    return {"type": "Function", "body": value} if isinstance(value, Rule) and key == "value" else value


def field(option: options.Option) -> dict[str, Any]:
    """A field of Director's forms."""
    kind = "Boolean" if option.metavar is None else "Array" if option.repeatable else "String"
    return {
        "caption": option.keys[0].replace("-", " ").capitalize(),
        "category": CATEGORY,
        "datatype": f"Icinga\\Module\\Director\\DataType\\DataType{kind}",
        "description": described(option.help),
        "settings": {"visibility": "visible"} if kind == "String" else {},
        "varname": variable(option),
    }


def quoted(text: str) -> str:
    return f'"{text}"'


def described(text: str) -> str:
    return text[0].upper() + text[1:].replace('"', "'")


def main() -> int:
    """Write what is stale; with --check name it, and 1."""
    checking = "--check" in sys.argv
    made = {"command.conf": icinga_command(), "director-basket.json": director_basket()}
    folder = HERE / "icinga2"
    stale = [name for name, text in made.items() if not (folder / name).exists() or (folder / name).read_text() != text]
    for name in stale:
        if checking:
            print(f"icinga2/{name}: stale")
        else:
            (folder / name).write_text(made[name])
    return int(checking and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
