#!/usr/bin/env python3
"""Writes what follows from the commands' parsers: shell completion, man pages and Icinga 2's CheckCommand.

    python examples/generate.py            write the files that are not as they should be, and name them
    python examples/generate.py --check    write nothing; exit 1 where a file is stale, and name it

An option is described in one place, the parser; a test runs this with --check.
"""

# argparse has no public way to ask a parser for its options.
# ruff: noqa: SLF001

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from check_delayed_repl import __version__, plugin, tool  # noqa: E402
from check_delayed_repl.options import Parser  # noqa: E402

ORIGIN = "Written by examples/generate.py from the commands' parsers: change those."

VALUES = {
    "--ssl-mode": ("disabled", "preferred", "required", "verify-ca", "verify-identity"),
    "--kind": ("backup", "deshard"),
    "--job-stops-server": ("backup", "deshard"),
}
"""Values to offer for options that the parser does not give as choices."""
FILES = {"FILE", "WHERE"}
"""Metavars of options that take a file."""


class Option(NamedTuple):
    names: tuple[str, ...]
    metavar: str
    """Empty where it takes no value."""
    values: tuple[str, ...]
    """What to offer for it; empty where anything may be."""
    file: bool
    repeatable: bool
    help: str


class Group(NamedTuple):
    title: str
    description: str
    options: tuple[Option, ...]


class Command(NamedTuple):
    """One parser: a command, or an action of one."""

    path: tuple[str, ...]
    """Such as `("delayed-repl", "job", "run")`."""
    usage: str
    description: str
    epilog: str
    groups: tuple[Group, ...]
    positionals: tuple[tuple[str, str], ...]
    """Metavar and help of the arguments that are no options."""
    below: dict[str, tuple[str, Command]]
    """Its actions: name → help and command."""

    @property
    def name(self) -> str:
        return " ".join(self.path)

    @property
    def options(self) -> list[Option]:
        return [option for group in self.groups for option in group.options]

    def all(self) -> Iterator[Command]:
        """This command and everything below it."""
        yield self
        for _, command in self.below.values():
            yield from command.all()


# --- reading the parsers ---


def read_option(action: argparse.Action) -> Option:
    names = tuple(sorted(action.option_strings, key=len))
    takes_value = action.nargs != 0
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    choices = tuple(str(choice) for choice in action.choices or ())
    values = choices or next((VALUES[name] for name in names if name in VALUES), ())
    repeatable = type(action).__name__ in ("_AppendAction", "_CountAction")
    text = re.sub(r"\s+", " ", (action.help or "").replace("%%", "%"))
    return Option(
        names, metavar if takes_value else "", values if takes_value else (), metavar in FILES, repeatable, text
    )


def read_parser(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Command:
    groups, positionals, below = [], [], {}
    for group in parser._action_groups:
        options = []
        for action in group._group_actions:
            if isinstance(action, argparse._SubParsersAction):
                helps = {str(choice.dest): choice.help or "" for choice in action._choices_actions}
                below = {
                    name: (helps[name], read_parser(child, (*path, name))) for name, child in action.choices.items()
                }
            elif action.option_strings:
                options.append(read_option(action))
            else:
                positionals.append((str(action.metavar or action.dest), action.help or ""))
        if options:
            groups.append(Group(group.title or "options", group.description or "", tuple(options)))
    parser.format_help()  # settles the usage
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: ")).strip()
    return Command(path, usage, parser.description or "", parser.epilog or "", tuple(groups), tuple(positionals), below)


def read_plugin() -> Command:
    return read_parser(plugin.build_parser(), ("check_delayed_repl",))


def read_tool() -> Command:
    top = read_parser(tool._top_parser(listing=False), (tool.PROG,))
    for name in tool.COMMANDS:
        module = tool._load(name)
        parser = Parser(f"{tool.PROG} {name}", module.HELP)
        module.add_arguments(parser)
        top.below[name] = (module.HELP, read_parser(parser, (tool.PROG, name)))
    return top


# --- completion: bash ---

BASH = r"""# bash completion for {name}. {origin}
#
# Put it into /usr/share/bash-completion/completions under the name of its command, or source it.

_{function}() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev='' path={name} word i
  ((COMP_CWORD > 0)) && prev=${{COMP_WORDS[COMP_CWORD - 1]}}
  COMPREPLY=()
  # Of --option=value bash makes three words.
  if [[ $cur == '=' ]]; then
    cur=''
  elif [[ $prev == '=' ]]; then
    prev=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${{COMP_WORDS[i]}}
{descend}  done
  case $path:$prev in
{values}  esac
  case $path in
{options}  esac
}}
complete -F _{function} {name}
"""

BASH_RUN = r"""    if [[ $word == -- && $path == *' run' ]]; then
      # What comes after it is a command of its own.
      if ((i == COMP_CWORD - 1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
      else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      fi
      return
    fi
"""


def bash_completion(top: Command) -> str:
    commands = list(top.all())
    values = ""
    for command in commands:
        for option in (option for option in command.options if option.metavar):
            heads = " | ".join(f"'{command.name}:{name}'" for name in option.names)
            values += f"    {heads})\n"
            if option.values:
                values += f"      mapfile -t COMPREPLY < <(compgen -W '{' '.join(option.values)}' -- \"$cur\")\n"
            elif option.file:
                values += "      compopt -o filenames 2>/dev/null\n"
                values += '      mapfile -t COMPREPLY < <(compgen -f -- "$cur")\n'
            values += "      return\n      ;;\n"
    descend = ""
    if top.below:
        descend = "".join(f"      '{command.name}') path='{command.name}' ;;\n" for command in commands[1:])
        descend = f'    case "$path $word" in\n{descend}    esac\n' + BASH_RUN
    else:
        descend = "    [[ $word != -- ]] || return\n"
    options = ""
    for command in commands:
        words = [*command.below, *(name for option in command.options for name in option.names)]
        options += f"    '{command.name}')\n"
        options += f"      mapfile -t COMPREPLY < <(compgen -W '{' '.join(words)}' -- \"$cur\")\n      ;;\n"
    return BASH.format(
        name=top.name,
        function=re.sub(r"\W", "_", top.name),
        origin=ORIGIN,
        descend=descend,
        values=values,
        options=options,
    )


# --- completion: zsh ---


def zsh_text(text: str) -> str:
    """Text for a description inside single quotes."""
    for special in "\\[]:":
        text = text.replace(special, "\\" + special)
    return text.replace("'", "'\\''")


def zsh_option(option: Option) -> str:
    value = ""
    if option.metavar:
        action = f"({' '.join(option.values)})" if option.values else "_files" if option.file else " "
        value = f":{zsh_text(option.metavar)}:{action}"
    many = "*" if option.repeatable else ""
    # A long option may have its value behind a =, a short one without anything between.
    ends = {name: ("=" if name.startswith("--") else "+") if option.metavar else "" for name in option.names}
    exclusive = "" if option.repeatable or len(option.names) == 1 else f"'({' '.join(option.names)})'"
    names = [f"{many}{name}{ends[name]}" for name in option.names]
    spec = f"'[{zsh_text(option.help)}]{value}'"
    heads = "'" + names[0] + "'" if len(names) == 1 else "{" + ",".join(f"'{name}'" for name in names) + "}"
    return f"{exclusive}{heads}{spec}"


def zsh_function(command: Command) -> str:
    return "_" + re.sub(r"\W", "_", command.name)


def zsh_completion(top: Command) -> str:
    lines = [f"#compdef {top.name}", f"# zsh completion for {top.name}. {ORIGIN}", "#"]
    lines += [f"# Put it into a folder of $fpath under the name _{top.name}.", ""]
    for command in [*top.all()][::-1]:
        lines.append(f"{zsh_function(command)}() {{")
        specs = [zsh_option(option) for option in command.options]
        if command.below:
            entries = " ".join(f"{name}\\:'{quoted(text)}'" for name, (text, _) in command.below.items())
            lines.append("  local context state state_descr line curcontext=$curcontext")
            lines.append("  typeset -A opt_args")
            lines.append("  _arguments -C -S \\")
            lines += [f"    {spec} \\" for spec in specs]
            lines.append(f'    "1:{"command" if len(command.path) == 1 else "action"}:(({entries}))" \\')
            lines.append("    '*::argument:->rest' && return 0")
            lines.append("  [[ $state == rest ]] || return 1")
            lines.append("  case $line[1] in")
            lines += [f"    {name}) {zsh_function(child)} ;;" for name, (_, child) in command.below.items()]
            lines.append("  esac")
        else:
            arguments = [
                f"'{place}:{zsh_text(metavar)}: '" for place, (metavar, _) in enumerate(command.positionals, 1)
            ]
            if command.path[-1] == "run":
                arguments = ["'*::command:_normal'"]
            elif command.positionals and command.positionals[0][0] == "FILE":
                arguments = ["'1:FILE:_files'"]
            lines.append(f"  _arguments {'' if command.path[-1] == 'run' else '-S '}\\")
            lines.append(" \\\n".join(f"    {spec}" for spec in [*specs, *arguments]))
        lines += ["}", ""]
    lines.append(f'{zsh_function(top)} "$@"')
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A description of an action, inside double quotes and then single ones."""
    return text.replace("\\", "").replace('"', "").replace("'", "").replace(":", "\\:").replace("$", "\\$")


# --- man pages ---


def roff(text: str) -> str:
    """Text that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def roff_text(text: str) -> list[str]:
    """Paragraphs, and what is indented as it stands. The first one follows a heading and needs no macro of its own."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if block.startswith(" "):
            lines += [".PP", ".nf", ".RS", *(roff(line) or "\\&" for line in block.splitlines()), ".RE", ".fi"]
        elif block:
            lines += [".PP", roff(" ".join(block.split()))]
    return lines[1:]


def roff_options(command: Command, heading: str) -> list[str]:
    lines = []
    for group in command.groups:
        lines.append(f'.{heading} "{roff(group.title[0].upper() + group.title[1:])}"')
        lines += roff_text(group.description)
        for option in group.options:
            value = f" \\fI{roff(option.metavar)}\\fR" if option.metavar else ""
            lines += [".TP", ", ".join(f"\\fB{roff(name)}\\fR" for name in option.names) + value]
            lines.append(roff(option.help) or "\\&")
    return lines


def man_page(command: Command, summary: str, see_also: list[str], status: str) -> str:
    """One page; what is below a command that has a page of its own is described in it."""
    name = "-".join(command.path)
    lines = [f'.\\" {ORIGIN}', f'.TH "{roff(name.upper())}" 1 "" "check_delayed_repl {__version__}"']
    lines += [".SH NAME", f"{roff(name)} \\- {roff(summary)}"]
    lines += [".SH SYNOPSIS"]
    actions = [child for _, child in command.below.values()] if len(command.path) == 2 else []
    for shown in actions or [command]:
        lines += [f"\\fB{roff(shown.name)}\\fR {roff(shown.usage.removeprefix(shown.name).strip())}", ".br"]
    lines.pop()
    lines += [".SH DESCRIPTION", *roff_text(command.description)]
    if len(command.path) == 1 and command.below:
        lines += [".SH COMMANDS"]
        for child, (text, _) in command.below.items():
            lines += [".TP", f"\\fB{roff(child)}\\fR", f"{roff(text)}; see \\fB{roff(name)}\\-{roff(child)}\\fR(1)"]
    if actions:
        lines += [".SH ACTIONS"]
        for child in actions:
            lines += [f'.SS "{roff(child.path[-1])}"', *roff_text(child.description)]
            for metavar, text in child.positionals:
                lines += [".TP", f"\\fI{roff(metavar)}\\fR", roff(text)]
            for option in (option for option in child.options if not {"--help", "--version"} & {*option.names}):
                value = f" \\fI{roff(option.metavar)}\\fR" if option.metavar else ""
                lines += [".TP", ", ".join(f"\\fB{roff(each)}\\fR" for each in option.names) + value]
                lines.append(roff(option.help) or "\\&")
    else:
        lines += [".SH OPTIONS"]
        for metavar, text in command.positionals:
            lines += [".TP", f"\\fI{roff(metavar)}\\fR", roff(text)]
        lines += roff_options(command, "SS")
    if command.epilog:
        lines += [".SH NOTES", *roff_text(command.epilog)]
    lines += [".SH EXIT STATUS", roff(status)]
    lines += [".SH SEE ALSO", ", ".join(f"\\fB{roff(page)}\\fR(1)" for page in see_also if page != name)]
    return "\n".join(lines) + "\n"


def man_pages(check: Command, operator: Command) -> dict[str, str]:
    pages = [check.name, operator.name, *(f"{operator.name}-{name}" for name in operator.below)]
    tool_status = "0; 1 on failure; 3 on wrong usage. Errors are one line each, on standard error."
    found = {
        check.name: man_page(
            check,
            "check a MySQL or MariaDB replica that is delayed on purpose",
            pages[:2],
            "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN: wrong usage, --help, --version, or a fault of its own.",
        ),
        operator.name: man_page(operator, "look after replicas that check_delayed_repl watches", pages, tool_status),
    }
    for name, (summary, command) in operator.below.items():
        status = tool_status
        if name == "job":
            status += " `run` exits as its command does: 128 + N where signal N ended it."
        found[f"{operator.name}-{name}"] = man_page(command, summary, pages[:2], status)
    return {f"man/{name}.1": text for name, text in found.items()}


# --- Icinga 2 ---

ICINGA = """\
/* {origin}
 *
 * The check command, as the Icinga Template Library writes them: every option is a variable delayed_repl_NAME.
 * PluginDir (constants.conf) is the plugin folder; put a link to the plugin there:
 *
 *   Debian, Ubuntu    ln -s /opt/check_delayed_repl/bin/check_delayed_repl /usr/lib/nagios/plugins/
 *   RHEL, Fedora      ln -s /opt/check_delayed_repl/bin/check_delayed_repl /usr/lib64/nagios/plugins/
 *
 * In a cluster this file belongs into a global zone (zones.d/global-templates/), so that satellites and agents have it.
 */

object CheckCommand "delayed_repl" {{
\timport "ipv4-or-ipv6"

\tcommand = [ PluginDir + "/check_delayed_repl" ]

\t// The check ends by itself within delayed_repl_timeout (10 s); this is for a machine that does not get round to it.
\ttimeout = 1m

\targuments = {{
{arguments}\t}}

\tvars.delayed_repl_host = "$check_address$"
}}
"""

ICINGA_VERBOSE = """\
\t\t"--verbose" = {{
\t\t\t// -v, -vv or -vvv, from 1, 2 or 3.
\t\t\tset_if = {{{{ number(macro("$delayed_repl_verbose$")) > 0 }}}}
\t\t\tvalue = {{{{ [ "", "-v", "-vv", "-vvv" ].get(number(macro("$delayed_repl_verbose$"))) }}}}
\t\t\tskip_key = true
\t\t\tdescription = "{help}"
\t\t}}
"""


def icinga_name(option: Option) -> str:
    """The option's variable: that of its first long name."""
    return "delayed_repl_" + option.names[[name.startswith("--") for name in option.names].index(True)][2:].replace(
        "-", "_"
    )


def icinga_command(check: Command) -> str:
    arguments = ""
    for option in check.options:
        long = next(name for name in option.names if name.startswith("--"))
        if long in ("--help", "--version"):
            continue
        variable = f"${icinga_name(option)}$"
        text = option.help[0].upper() + option.help[1:].replace('"', "'")
        if long == "--verbose":
            arguments += ICINGA_VERBOSE.format(help=text)
            continue
        arguments += f'\t\t"{long}" = {{\n'
        if long == "--host":
            # A given host beats a socket; the default, the host's address, must not.
            arguments += '\t\t\tset_if = {{ !macro("$delayed_repl_socket$") }}\n'
        if option.metavar:
            arguments += f'\t\t\tvalue = "{variable}"\n'
        else:
            arguments += f'\t\t\tset_if = "{variable}"\n'
        if option.repeatable:
            arguments += "\t\t\trepeat_key = true\n"
        arguments += f'\t\t\tdescription = "{text}"\n\t\t}}\n'
    return ICINGA.format(origin=ORIGIN, arguments=arguments)


# --- files ---


def files() -> dict[str, str]:
    """Every file, by its path below examples/."""
    check, operator = read_plugin(), read_tool()
    found = {"icinga2/command.conf": icinga_command(check)}
    for command in (check, operator):
        found[f"completion/{command.name}.bash"] = bash_completion(command)
        found[f"completion/_{command.name}"] = zsh_completion(command)
    return found | man_pages(check, operator)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is stale")
    check = parser.parse_args().check
    wanted = files()
    there = {str(path.relative_to(HERE)) for path in HERE.glob("man/*")}
    stale = [name for name, text in wanted.items() if not (HERE / name).exists() or (HERE / name).read_text() != text]
    gone = sorted(there - wanted.keys())
    for name in stale:
        print(f"{name}: {'stale' if check else 'written'}")
        if not check:
            (HERE / name).parent.mkdir(parents=True, exist_ok=True)
            (HERE / name).write_text(wanted[name])
    for name in gone:
        print(f"{name}: {'of no command' if check else 'removed'}")
        if not check:
            (HERE / name).unlink()
    return 1 if check and (stale or gone) else 0


if __name__ == "__main__":
    sys.exit(main())
