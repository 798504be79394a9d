"""What `delayed-repl init` writes, from what the servers told. Pure: facts in, files out."""

from __future__ import annotations

import json
import re
from functools import partial
from importlib.resources import files
from shlex import quote
from string import Template
from textwrap import fill, indent

from check_delayed_repl.observe.dialect import Dialect, by_gtid
from check_delayed_repl.setup import accounts
from check_delayed_repl.setup.accounts import BEAT, CHECK, LOCAL_BEAT, RESCUE, Account, Role
from check_delayed_repl.setup.asking import NEWEST, Facts, Row, Wanted, unasked
from check_delayed_repl.setup.hindrances import filters_of, warnings
from check_delayed_repl.words import clean, option_time, span


class Impossible(Exception):
    """No folder that would work can be written; the message is one line."""


class _Plan:
    """What there is to do. Raises Impossible."""

    def __init__(self, replica: Facts, source: Facts | None, status: Row, wanted: Wanted) -> None:
        _refuse_what_cannot_be(replica, source, status, wanted)
        self.replica, self.source, self.status, self.wanted = replica, source, status, wanted
        # Where the source did not answer, it is taken for the newest of the replica's family.
        self.source_server = unasked(NEWEST[replica.dialect.client]) if source is None else source
        self.dialect = Dialect(replica.version, status.get("channel_name", ""), len(replica.statuses or ()) > 1)
        set_to = int(status.get("sql_delay") or 0)
        self.delay = float(wanted.delay or set_to)
        self.sets_delay = not wanted.external and not set_to
        self.sealed = replica.on("super_read_only")
        """Everything comes through replication."""
        self.local = wanted.local and not self.sealed
        """The replica is to have a heartbeat of its own."""
        self.table_arrives = replica.columns is None and self.source_server.columns is not None
        """The source has the table, and the replica not yet."""
        if source is not None:
            self.source_beats = source.beats_here
        else:
            # What comes through the delay line is its age, and as old as the delay when it does.
            source_id = wanted.source_id(status)
            age = replica.beats.get(source_id)
            self.source_beats = source_id in replica.advancing or (age is not None and age <= self.delay + 120)
        outside = wanted.account_host or replica.came_from
        hosts = {CHECK: outside, RESCUE: outside, BEAT: "localhost", LOCAL_BEAT: "localhost"}
        known = replica.accounts | self.source_server.accounts
        # Made with IF NOT EXISTS, the source's may be on the replica already.
        beat_known = known if source is None or source.old else source.accounts
        self.who = {
            role: Account(role, role.user, host, accounts.password() if (role.user, host) not in there else None)
            for role, host in hosts.items()
            for there in [beat_known if role == BEAT else known]
        }


def _refuse_what_cannot_be(replica: Facts, source: Facts | None, status: Row, wanted: Wanted) -> None:
    for facts, which in ((replica, "replica"), (source, "source")):
        if facts is not None and facts.columns is not None and not {"ts", "server_id"} <= facts.columns:
            raise Impossible(
                f"--heartbeat-table: {wanted.table} on the {which} has no columns ts and server_id (an old layout):"
                " name another table, which will be made"
            )
    if not re.fullmatch(r"[^'\"\\$`!\0-\x1f\x7f]*", status.get("channel_name", "")):
        raise Impossible("--channel: its name has quotes or the like in it, which no shell would leave alone")
    set_to = int(status.get("sql_delay") or 0)
    if not wanted.delay and not set_to:
        raise Impossible("--delay: the server is set to no delay: say how late it is to be, such as --delay 2h")
    if wanted.delay and set_to and not wanted.external and wanted.delay != set_to:
        raise Impossible(f"--delay: the server is set to {span(set_to)} already: leave --delay out, or change it there")


def folder(replica: Facts, source: Facts | None, status: Row, wanted: Wanted) -> dict[str, str]:
    """Every file by its name. Raises Impossible."""
    plan = _Plan(replica, source, status, wanted)
    found = {"source.sql": _source_sql(plan), "replica.sql": _replica_sql(plan), "config.toml": _config(plan)}
    sockets = {CHECK: "", RESCUE: ""}
    if not plan.source_beats:
        sockets[BEAT] = plan.source_server.socket
        found["pt-heartbeat-source.service"] = unit("source", wanted.table, plan.source_server.socket)
    if plan.local and not replica.beats_here:
        sockets[LOCAL_BEAT] = replica.socket
        found["pt-heartbeat-replica.service"] = unit("replica", wanted.table, replica.socket)
    found |= {role.file: "\n".join([*plan.who[role].option_file(path), ""]) for role, path in sockets.items()}
    if plan.sets_delay:
        found |= _set_delay_file(plan)
    host = re.sub(r"[^\w.-]", "_", wanted.name.partition("/")[0].partition("#")[0], flags=re.ASCII) or "replica"
    address = str(wanted.address.get("host", "127.0.0.1"))
    for name, programs in (("nagios.cfg", quote(wanted.bin)), ("icinga2.conf", json.dumps(wanted.bin)[1:-1])):
        found[name] = _filled(name, host=host, name=wanted.name, bin=programs, address=address)
    return found | {"README.txt": _readme(plan)}


def _source_sql(p: _Plan) -> str:
    server = p.source_server
    made = _account(p, server, BEAT, logged=True) if not p.source_beats else []
    made += _outside_accounts(p, server, logged=True) if p.sealed else []
    # A heartbeat that is written has its table.
    there = p.source_beats or server.columns is not None
    lines = accounts.heartbeat_table(p.wanted.table, there) + made if made or not there else []
    about = f"On the source ({server.shown})" + ("" if p.source else ", which did not answer: written for this version")
    return _script(about, lines)


def _replica_sql(p: _Plan) -> str:
    server = p.replica
    about = f"On the replica ({server.shown})"
    if p.sealed:
        return _script(f"{about}, which is super_read_only: what it needs comes from source.sql", [])
    lines = accounts.heartbeat_table(p.wanted.table) if server.columns is None and not p.table_arrives else []
    lines += _outside_accounts(p, server, logged=False)
    if p.local and not server.beats_here:
        columns = server.columns or p.source_server.columns
        lines += _account(p, server._replace(columns=columns), LOCAL_BEAT, logged=False)
    return _script(f"{about}, and not into its binary log", accounts.unlogged(lines) if lines else [])


def _outside_accounts(p: _Plan, server: Facts, logged: bool) -> list[str]:
    """The check's and the rescuer's."""
    rescuer = _account(p, server, RESCUE, logged)
    if rescuer:
        who = p.who[RESCUE].name
        rescuer += ["-- To let it count and dump tables too:", f"-- GRANT {accounts.READING} ON *.* TO {who};"]
    return _account(p, server, CHECK, logged) + rescuer


def _account(p: _Plan, server: Facts, role: Role, logged: bool) -> list[str]:
    """Makes an account, unless it was there."""
    account = p.who[role]
    if account.secret is None:
        return []
    return [f"-- For {role.purpose}.", *account.sql(server, accounts.rights(role, server, p.wanted.table), logged)]


def _script(about: str, lines: list[str]) -> str:
    return "\n".join(
        [f"-- {about}. May be run twice.", *(accounts.in_utf8(lines) or ["-- There is nothing to do."]), ""]
    )


def unit(which: str, dotted: str, socket: str = "") -> str:
    """A systemd unit that keeps pt-heartbeat running beside its server."""
    # A dynamic user has a /tmp of its own, which lacks the server's socket.
    bind = f"\nBindPaths=-{socket}" if re.fullmatch(r"(/var)?/tmp/[\w./-]+", socket) else ""
    database, _, table = dotted.replace("$", "$$").partition(".")  # systemd's `$` begins a variable
    # What is written on a replica itself would be a change that its source does not have.
    own = " --set-vars sql_log_bin=0" if which == "replica" else ""
    return _filled("pt-heartbeat.service", which=which, database=database, table=table, own=own, bind=bind)


def _filled(template: str, **words: str) -> str:
    return Template(_template(template)).substitute(words)


def _template(name: str) -> str:
    return files(__package__).joinpath("templates", name).read_text()


def _config(p: _Plan) -> str:
    replica = {"replica": p.wanted.name, **p.wanted.address, "delay": option_time(p.delay)}
    replica |= {"channel": p.status["channel_name"]} if p.status.get("channel_name") else {}
    replica |= {"delay-mode": "external"} if p.wanted.external else {}
    replica |= {"heartbeat-table": p.wanted.table} if p.wanted.table != "percona.heartbeat" else {}
    replica |= {} if p.local else {"no-local-heartbeat": True}
    toml = partial(json.dumps, ensure_ascii=False)
    lines = [f"{key} = {toml(value)}" for key, value in replica.items()]
    filters = filters_of(p.status)
    if filters:
        lines.append("# What these filters leave out is not protected. Where they are meant:")
        lines.append(f"# allow-filter = [{', '.join(map(toml, filters))}]")
    return _filled("config.toml", replica="\n".join(lines))


def _readme(p: _Plan) -> str:
    found = warnings(p.replica, p.source, p.status, p.wanted)
    blocks = dict(block.split("\n", 1) for block in _template("steps.txt").split("== ")[1:])
    texts = []
    for number, (key, words) in enumerate(_steps(p), 1):
        title, _, body = Template(blocks[key]).substitute(words).rstrip().partition("\n\n")
        texts.append(f"{number}. {title}\n\n{indent(body, '   ')}\n")
    return _filled(
        "README.txt",
        name=clean(p.wanted.name),
        span=span(p.delay),
        client=p.dialect.client,
        bin=quote(p.wanted.bin),
        warnings="\n".join(["First of all:", *(f"  * {text}" for text in found), "", ""]) if found else "",
        steps="\n".join(texts),
        until="\n".join(f"   {line}" for line in _until_then(p)),
    )


def _steps(p: _Plan) -> list[tuple[str, dict[str, str]]]:
    """The steps of templates/steps.txt, each with what is to be filled in."""
    words = {"client": p.dialect.client, "span": span(p.delay), "table": p.wanted.table, "name": p.wanted.name}
    words |= {"bin": quote(p.wanted.bin), "user": p.wanted.user, "folder": accounts.FOLDER}
    steps: list[tuple[str, dict[str, str]]] = [
        ("source", {"client": p.source_server.dialect.client}),
        ("sealed" if p.sealed else "replica-later" if p.table_arrives else "replica", {}),
        ("beats" if p.source_beats else "beat", {"which": "source", **_of(p, BEAT)}),
    ]
    if p.local:
        steps.append(("beats" if p.replica.beats_here else "beat", {"which": "replica", **_of(p, LOCAL_BEAT)}))
    if p.sets_delay:
        steps.append(_set_delay(p))
    made_in = "source.sql" if p.sealed else "replica.sql"
    rescue = {
        "later": f", {span(p.delay)} from now" if p.sealed else "",
        "grant": f"take away the -- before the GRANT in {made_in}, and run it again"
        if p.who[RESCUE].secret
        else "`delayed-repl grants --for rescue --reads 'DB.*'` says how",
    }
    own = re.sub(r"[^\w.-]", "_", p.wanted.name, flags=re.ASCII)
    steps += [("check", _of(p, CHECK)), ("rescue", rescue | _of(p, RESCUE)), ("monitor", {"own": own})]
    return [(key, words | more) for key, more in steps]


def _of(p: _Plan, role: Role) -> dict[str, str]:
    """What steps say of an account."""
    account = p.who[role]
    who = f"{account.user}@{account.host}"
    there = "" if account.secret else f"The account {who} was there already: put its password into {role.file}.\n"
    if there and role != BEAT and (account.user, account.host) not in p.replica.accounts:
        there += (
            "The source alone has it so far. Unless it is in the delay line, it was made there outside the binary log"
            "\nand never arrives: `delayed-repl grants` makes it on the replica then.\n"
        )
    return {"account": who, "file": role.file, "there": f"{there}\n" if there else ""}


def _set_delay(p: _Plan) -> tuple[str, dict[str, str]]:
    """The step that sets the delay, keeps what waits in the relay log, and stops replication for a moment alone."""
    say = p.dialect
    if not say.needs_place:
        return "delay", {}
    status = f"SHOW SLAVE{say.before} STATUS"
    note = ""
    if by_gtid(p.status):
        by_position = "Using_Gtid is No" if say.mariadb else "Auto_Position is 0"
        note = f"\n{fill(f'If {by_position} then, {say.back_to_gtid()}.', 112)}\n"
    return "delay-place", {"stop": say.stop(), "status": status, "note": note}


def _set_delay_file(p: _Plan) -> dict[str, str]:
    say, seconds = p.dialect, round(p.delay)
    if not say.needs_place:
        return {"set-delay.sql": "".join(f"{one};\n" for one in say.set_delay(seconds, None))}
    change = say.change(seconds, ("FILE", 0), by_gtid(p.status))
    # As a string of awk's, with its variables in the gaps.
    change = change.replace("'FILE'", "'\" file \"'").replace("LOG_POS = 0", 'LOG_POS = " position "')
    return {"set-delay.awk": _filled("set-delay.awk", plain=say.change(seconds), change=change, start=say.start())}


def _until_then(p: _Plan) -> list[str]:
    lines = []
    if p.sealed and p.who[CHECK].secret:
        lines.append("CRITICAL connect-failed, access denied: its account is still in the delay line.")
    if not p.source_beats:
        lines.append("CRITICAL heartbeat-missing: the source's first heartbeat is still in the delay line.")
    if p.sets_delay:
        lines.append("CRITICAL or WARNING, too short: the delay grows from nothing to its length, a second a second.")
    return [*lines, f"OK from about {span(p.delay)} after the last step on."]
