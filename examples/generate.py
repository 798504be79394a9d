#!/usr/bin/env python3
"""Writes Icinga 2's CheckCommand from the check's options.

python examples/generate.py            write icinga2/command.conf anew
python examples/generate.py --check    write nothing; exit 1 where it is stale
"""

from __future__ import annotations

import sys
from pathlib import Path

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
 * The check command, as the Icinga Template Library writes them: every option is a variable delayed_repl_NAME.
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

ICINGA_VERBOSE = """\
\t\t"--verbose" = {{
\t\t\t// -v, -vv or -vvv, from 1, 2 or 3.
\t\t\tset_if = {{{{ number(macro("$delayed_repl_verbose$")) > 0 }}}}
\t\t\tvalue = {{{{ [ "", "-v", "-vv", "-vvv" ].get(number(macro("$delayed_repl_verbose$"))) }}}}
\t\t\tskip_key = true
\t\t\tdescription = "{help}"
\t\t}}
"""


HOST = """\
\t\t\tset_if = {{
\t\t\t\tif (macro("$delayed_repl_socket$")) { return false }
\t\t\t\tif (macro("$delayed_repl_host$")) { return true }
\t\t\t\treturn !macro("$delayed_repl_config$")
\t\t\t}}
\t\t\tvalue = {{ macro("$delayed_repl_host$") || macro("$check_address$") }}
"""


def icinga_command() -> str:
    arguments = ""
    for option in OPTIONS:
        key = option.keys[0]
        variable = f"$delayed_repl_{key.replace('-', '_')}$"
        arguments += f'\t\t"--{key}" = {{\n'
        if key == "host":
            # The host's address stands in only where neither a socket nor the configuration file says otherwise.
            arguments += HOST
        elif option.metavar:
            arguments += f'\t\t\tvalue = "{variable}"\n'
        else:
            arguments += f'\t\t\tset_if = "{variable}"\n'
        if option.repeatable:
            arguments += "\t\t\trepeat_key = true\n"
        arguments += f'\t\t\tdescription = "{described(option.help)}"\n\t\t}}\n'
    arguments += ICINGA_VERBOSE.format(help=described(plugin.VERBOSE_HELP))
    keys = [option.keys[0].replace("-", "_") for option in OPTIONS]
    rows = "".join(f"\t{', '.join(map(quoted, keys[start : start + 5]))},\n" for start in range(0, len(keys), 5))
    return ICINGA.format(origin=ORIGIN, arguments=arguments, options=rows)


def quoted(text: str) -> str:
    return f'"{text}"'


def described(text: str) -> str:
    return text[0].upper() + text[1:].replace('"', "'")


def main() -> int:
    path, wanted = HERE / "icinga2" / "command.conf", icinga_command()
    stale = path.read_text() != wanted
    if stale and "--check" in sys.argv:
        print("icinga2/command.conf: stale")
    elif stale:
        path.write_text(wanted)
    return int(stale and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
