"""What `delayed-repl init` writes, from what the servers told. Pure: facts in, files out."""

from __future__ import annotations

import re
from importlib.resources import files
from string import Template
from typing import NamedTuple

from check_delayed_repl.setup import accounts
from check_delayed_repl.setup.asking import Facts, Row
from check_delayed_repl.words import clean, plain, span

ETC = "/etc/check_delayed_repl"
HISTORY = "/var/lib/check_delayed_repl/history.db"
CONFIG = f"{ETC}/config.toml"
MONITOR, BEAT, LOCAL_BEAT = "delay_check", "delay_beat", "delay_beat_local"
NEWEST_HEARTBEAT = (3, 7, 0)
"""pt-heartbeat from here on knows the statements of MySQL 8.4."""


class Impossible(Exception):
    """No folder that would work can be written; the message is one line."""


class Wanted(NamedTuple):
    """What the servers do not tell."""

    name: str
    """The replica's name, everywhere."""
    address: dict[str, str | int]
    """How the check reaches it: keys of the configuration file."""
    delay: float | None
    """Seconds; None: what the server is set to."""
    external: bool
    """pt-slave-delay does it."""
    local: bool
    """A heartbeat of the replica's own is wanted."""
    table: str
    account_host: str | None
    """Where the check connects from; None: where init did."""
    tool_version: tuple[int, int, int] | None = None
    """pt-heartbeat's, where it is installed here."""


class _Plan(NamedTuple):
    """What there is to do."""

    wanted: Wanted
    replica: Facts
    source: Facts | None
    status: Row
    delay: float
    sealed: bool
    """super_read_only: everything comes through replication."""
    source_beats: bool
    local_beats: bool
    host: str
    """The host part of the check's account."""
    secrets: dict[str, str]

    @property
    def source_server(self) -> accounts.Server:
        """The source; where it did not answer, the newest of the replica's family."""
        if self.source is not None:
            return self.source.server
        return accounts.Server("11.8.0-MariaDB" if self.replica.server.mariadb else "9.7.0", read_only=False)

    @property
    def local(self) -> bool:
        """The replica is to have a heartbeat of its own."""
        return self.wanted.local and not self.sealed

    @property
    def sets_delay(self) -> bool:
        return not self.wanted.external and not int(self.status.get("sql_delay") or 0)

    @property
    def table_arrives(self) -> bool:
        """The source has the table, and the replica not yet."""
        return self.replica.columns is None and self.source is not None and self.source.columns is not None

    def there(self, user: str, host: str, *where: Facts | None) -> bool:
        return any((user, host) in (facts.accounts or ()) for facts in where if facts is not None)

    @property
    def has_monitor(self) -> bool:
        return self.there(MONITOR, self.host, self.replica, self.source)


def folder(replica: Facts, source: Facts | None, status: Row, wanted: Wanted) -> dict[str, str]:
    """Every file by its name. Raises Impossible."""
    plan = _plan(replica, source, status, wanted)
    found = {"source.sql": _source_sql(plan), "replica.sql": _replica_sql(plan), "config.toml": _config(plan)}
    found["monitor.cnf"] = _option_file(MONITOR, None if plan.has_monitor else plan.secrets[MONITOR])
    if not plan.source_beats:
        socket = source.socket if source is not None else ""
        found["heartbeat-source.cnf"] = _option_file(BEAT, plan.secrets[BEAT], socket)
        found["pt-heartbeat-source.service"] = unit("source", wanted.table)
    if plan.local and not plan.local_beats:
        found["heartbeat-replica.cnf"] = _option_file(LOCAL_BEAT, plan.secrets[LOCAL_BEAT], replica.socket)
        found["pt-heartbeat-replica.service"] = unit("replica", wanted.table)
    words = {"host": _object_name(wanted.name), "name": wanted.name}
    words["address"] = str(wanted.address.get("host", "127.0.0.1"))
    found |= {name: _filled(name, **words) for name in ("nagios.cfg", "icinga2.conf")}
    return found | {"README.txt": _readme(plan)}


def _plan(replica: Facts, source: Facts | None, status: Row, wanted: Wanted) -> _Plan:
    for facts, which in ((replica, "replica"), (source, "source")):
        if facts is not None and facts.columns is not None and not {"ts", "server_id"} <= facts.columns:
            raise Impossible(
                f"--heartbeat-table: {wanted.table} on the {which} has no columns ts and server_id (an old layout):"
                " name another table, which will be made"
            )
    set_to = int(status.get("sql_delay") or 0)
    delay = wanted.delay or set_to
    if not delay:
        raise Impossible("--delay: the server is set to no delay: say how late it is to be, such as --delay 2h")
    if wanted.delay and set_to and not wanted.external and wanted.delay != set_to:
        raise Impossible(f"--delay: the server is set to {span(set_to)} already: leave --delay out, or change it there")
    source_id = int(status.get("source_server_id") or 0)
    if source is not None:
        source_beats = source.server_id in source.advancing
    else:
        # What comes through the delay line is its age, and as old as the delay when it does.
        age = replica.beats.get(source_id)
        source_beats = source_id in replica.advancing or (age is not None and age <= delay + 120)
    return _Plan(
        wanted,
        replica,
        source,
        status,
        float(delay),
        replica.on("super_read_only"),
        source_beats,
        replica.server_id in replica.advancing,
        wanted.account_host or replica.came_from,
        {user: accounts.password() for user in (MONITOR, BEAT, LOCAL_BEAT)},
    )


# --- SQL


def _source_sql(p: _Plan) -> str:
    server, dotted = p.source_server, p.wanted.table
    lines: list[str] = []
    if p.source is None or p.source.columns is None:
        lines += accounts.heartbeat_table(dotted)
    if not p.source_beats:
        who = accounts.account(BEAT, "localhost")
        columns = p.source.columns if p.source is not None and p.source.columns else frozenset()
        lines += accounts.create_user(server, who, p.secrets[BEAT], logged=True)
        lines += accounts.grants(accounts.heartbeat_rights(server, dotted, False, columns), who)
    if p.sealed and not p.has_monitor:
        lines += ["-- For the check on the replica, which is super_read_only: this comes to it through replication."]
        lines += _monitor_sql(p, server, logged=True)
    about = f"On the source ({server.shown})" + ("" if p.source else ", which did not answer: written for this version")
    return _script(about, lines)


def _replica_sql(p: _Plan) -> str:
    server, dotted = p.replica.server, p.wanted.table
    about = f"On the replica ({server.shown})"
    if p.sealed:
        return _script(f"{about}, which is super_read_only: what it needs comes from source.sql", [])
    lines: list[str] = []
    if p.replica.columns is None and not p.table_arrives:
        lines += accounts.heartbeat_table(dotted)
    if not p.has_monitor:
        lines += _monitor_sql(p, server, logged=False)
    if p.local and not p.local_beats:
        who = accounts.account(LOCAL_BEAT, "localhost")
        columns = p.replica.columns or (p.source.columns if p.source else None) or frozenset()
        lines += accounts.create_user(server, who, p.secrets[LOCAL_BEAT], logged=False)
        lines += accounts.grants(accounts.heartbeat_rights(server, dotted, True, columns), who)
    return _script(f"{about}, and not into its binary log", accounts.unlogged(lines) if lines else [])


def _monitor_sql(p: _Plan, server: accounts.Server, logged: bool) -> list[str]:
    who = accounts.account(MONITOR, p.host)
    rights = accounts.sampling_rights(p.replica.server, p.wanted.table)
    return [*accounts.create_user(server, who, p.secrets[MONITOR], logged), *accounts.grants(rights, who)]


def _script(about: str, lines: list[str]) -> str:
    return "\n".join([f"-- {about}. May be run twice.", *(lines or ["-- There is nothing to do."]), ""])


# --- what goes to hosts


def _option_file(user: str, secret: str | None, socket: str = "") -> str:
    lines = ["[client]", *([f"socket = {socket}"] if socket else []), f"user = {user}"]
    lines.append(f"password = {secret}" if secret else "# password = that of the account, which was there already")
    return "\n".join(lines) + "\n"


def unit(which: str, dotted: str) -> str:
    """A systemd unit that keeps pt-heartbeat running beside its server."""
    database, _, table = dotted.partition(".")
    # What is written on a replica itself would be a change that its source does not have.
    own = " --set-vars sql_log_bin=0" if which == "replica" else ""
    return _filled("pt-heartbeat.service", which=which, database=database, table=table, own=own)


def _filled(template: str, **words: str) -> str:
    return Template(files(__package__).joinpath("templates", template).read_text()).substitute(words)


def _config(p: _Plan) -> str:
    replica = {"replica": p.wanted.name, **p.wanted.address, "delay": short(p.delay)}
    replica |= {"channel": p.status["channel_name"]} if p.status.get("channel_name") else {}
    replica |= {"delay-mode": "external"} if p.wanted.external else {}
    replica |= {"heartbeat-table": p.wanted.table} if p.wanted.table != "percona.heartbeat" else {}
    lines = [f"{key} = {_toml(value)}" for key, value in replica.items()]
    if not p.local:
        lines.append("no-local-heartbeat = true")
    filters = filters_of(p.status)
    if filters:
        lines.append("# What these filters leave out is not protected. Where they are meant:")
        lines.append(f"# allow-filter = [{', '.join(map(_toml, filters))}]")
    return "\n".join(
        [
            f"# {CONFIG}: for check_delayed_repl and delayed-repl. Belongs to root; mode 0644 will do.",
            f"history = {_toml(HISTORY)}",
            "",
            "[defaults]",
            'defaults-file = "monitor.cnf"   # beside this file',
            "",
            "[[replica]]",
            *lines,
            "",
        ]
    )


def _toml(value: object) -> str:
    if isinstance(value, int | float):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def short(seconds: float) -> str:
    """`2h`, `90m`, `45s`: as options take it."""
    for size, letter in ((3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{plain(seconds / size)}{letter}"
    return f"{plain(seconds)}s"


def _object_name(name: str) -> str:
    """A host's name in the monitor, of a replica's name."""
    return re.sub(r"[^\w.-]", "_", name.partition("/")[0].partition("#")[0], flags=re.ASCII) or "replica"


# --- filters


def filters_of(status: Row) -> list[str]:
    """The replication filters in force, as --allow-filter takes them."""
    columns = [f"{how}_{what}" for how in ("Do", "Ignore") for what in ("DB", "Table")]
    columns += ["Rewrite_DB", "Wild_Do_Table", "Wild_Ignore_Table"]
    named = [f"Replicate_{column}" for column in columns]
    return [f"{column}={status[column.lower()]}" for column in named if status.get(column.lower())]


def lost_heartbeats(status: Row, binlog: Row, dotted: str) -> list[str]:
    """Filters that keep heartbeats from the replica, each in words."""
    database = dotted.partition(".")[0]

    def listed(row: Row, column: str) -> list[str]:
        return [entry.strip() for entry in row.get(column, "").split(",") if entry.strip()]

    def like(pattern: str) -> bool:
        parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern.replace("\\_", "\0"))
        return re.fullmatch("".join(parts).replace("\0", "_"), dotted) is not None

    found = []
    for row, prefix, where in ((binlog, "binlog", "the source's"), (status, "replicate", "the replica's")):
        if listed(row, f"{prefix}_do_db") and database not in listed(row, f"{prefix}_do_db"):
            found.append(f"{where} {prefix}_do_db does not name {database}")
        if database in listed(row, f"{prefix}_ignore_db"):
            found.append(f"{where} {prefix}_ignore_db names {database}")
    wanted = listed(status, "replicate_do_table") + listed(status, "replicate_wild_do_table")
    if wanted and not (dotted in wanted or any(map(like, listed(status, "replicate_wild_do_table")))):
        found.append(f"the replica's filters by table do not name {dotted}")
    if dotted in listed(status, "replicate_ignore_table") or any(
        map(like, listed(status, "replicate_wild_ignore_table"))
    ):
        found.append(f"the replica's filters by table leave {dotted} out")
    return found


def warnings(replica: Facts, source: Facts | None, status: Row, wanted: Wanted) -> list[str]:
    """What must be mended first, or known, each in a line or two."""
    found = [
        f"Heartbeats will not arrive: {reason}. Mend this first."
        for reason in lost_heartbeats(status, source.binlog if source else {}, wanted.table)
    ]
    if source is None:
        found.append("The source did not answer: source.sql is written for the newest version of its family.")
    elif source.variables.get("log_bin") and not source.on("log_bin"):
        found.append("The source has no binary log: it cannot be a source.")
    old_tool = wanted.tool_version is None or wanted.tool_version < NEWEST_HEARTBEAT
    for facts, which in ((source, "source"), (replica, "replica")):
        if facts is None:
            continue
        server, columns = facts.server, facts.columns or frozenset()
        if old_tool and columns & accounts.POSITION_COLUMNS and not server.mariadb and not server.before(8, 4, 0):
            found.append(
                f"{wanted.table} on the {which} has columns for positions, and the server is a MySQL 8.4 or newer:"
                " pt-heartbeat must be 3.7.0 or newer there (older ones ask SHOW MASTER STATUS, which is gone)."
            )
        age = facts.beats.get(facts.server_id) or 0.0
        hours = round(age / 3600)
        if facts.server_id in facts.advancing and hours and abs(age - hours * 3600) < 60:
            found.append(
                f"The {which}'s heartbeat runs without --utc: its times are {abs(hours)} h off. Run it with --utc,"
                " or set heartbeat-timezone in config.toml."
            )
    if not wanted.external and wanted.local and accounts.needs_super(replica.server):
        found.append(
            "The replica's own heartbeat takes SUPER on this server. Where that is too much: init --no-local-heartbeat."
        )
    return found


# --- README.txt


def _readme(p: _Plan) -> str:
    steps = [*_steps(p)]
    lines = [
        f"{clean(p.wanted.name)}: a replica that is to be {span(p.delay)} late, watched by check_delayed_repl",
        "",
        "Nothing has been changed on any server. Do these steps in their order; each may be done twice. The .cnf files",
        "hold passwords.",
        "",
    ]
    found = warnings(p.replica, p.source, p.status, p.wanted)
    if found:
        lines += ["First of all:", *(f"  * {text}" for text in found), ""]
    for number, (title, body) in enumerate(steps, 1):
        lines += [f"{number}. {title}", "", *(f"   {line}".rstrip() for line in body), ""]
    lines += [
        "What the check says until then",
        "",
        *(f"   {line}" for line in _until_then(p)),
        "",
        "Then try",
        "",
        f"   delayed-repl diagnose --replica {p.wanted.name}   what it means, drawn",
        f"   delayed-repl watch --replica {p.wanted.name}      the same, live",
        f"   delayed-repl job run --replica {p.wanted.name} --kind backup -- COMMAND   a backup that is known",
        f"   delayed-repl backtest --replica {p.wanted.name}   the history under other limits",
        "   delayed-repl rescue --help                the night somebody drops a table",
        "",
    ]
    return "\n".join(lines)


def _steps(p: _Plan) -> list[tuple[str, list[str]]]:
    steps = [("On the source's host, as its administrator: source.sql", ["mysql < source.sql"])]
    if p.sealed:
        steps.append(
            (
                "Wait for one delay",
                [
                    "The replica is super_read_only: table and account reach it through replication,",
                    f"{span(p.delay)} from now. Go on meanwhile; there is nothing to run on the replica.",
                ],
            )
        )
    else:
        body = ["mysql < replica.sql"]
        if p.table_arrives:
            body = [f"Wait until {p.wanted.table} has come through replication (SHOW TABLES), then", "", *body]
        steps.append(("On the replica's host, as its administrator: replica.sql", body))
    for which, there in (("source", p.source_beats), ("replica", p.local_beats)):
        if which == "replica" and not p.local:
            continue
        if there:
            steps.append((f"The {which}'s heartbeat", ["It is written already: there is nothing to do."]))
        else:
            steps.append(
                (f"On the {which}'s host: its heartbeat (pt-heartbeat, of percona-toolkit)", _install_beat(which))
            )
    if p.sets_delay:
        steps.append(("On the replica: the delay", _set_delay(p)))
    steps.append(
        (
            "On the monitoring host: the check",
            [
                f"install -d -m 0755 {ETC}",
                f"install -m 0644 config.toml {CONFIG}",
                f"install -m 0640 -g nagios monitor.cnf {ETC}/monitor.cnf   # the monitor's group",
                "install -d -m 2770 -o nagios -g nagios /var/lib/check_delayed_repl",
                "",
                "Then, as the user that the monitor runs checks as:",
                "",
                f"check_delayed_repl --replica {p.wanted.name}",
                *_account_note(p),
            ],
        )
    )
    steps.append(
        ("In the monitor", ["nagios.cfg for Nagios Core, icinga2.conf for Icinga 2; each says where it goes."])
    )
    return steps


def _account_note(p: _Plan) -> list[str]:
    if p.has_monitor:
        return ["", f"The account {MONITOR}@{p.host} was there already: put its password into monitor.cnf."]
    return ["", f"Its account is {MONITOR}@{p.host}: where the check connects from, as the server sees it."]


def _install_beat(which: str) -> list[str]:
    return [
        f"install -d -m 0755 {ETC}",
        f"install -m 0640 -g mysql heartbeat-{which}.cnf {ETC}/heartbeat-{which}.cnf",
        f"install -m 0644 pt-heartbeat-{which}.service /etc/systemd/system/pt-heartbeat-{which}.service",
        f"systemctl daemon-reload && systemctl enable --now pt-heartbeat-{which}",
    ]


def _set_delay(p: _Plan) -> list[str]:
    """Statements that keep what waits in the relay log, and stop replication for a moment alone."""
    server, seconds = p.replica.server, plain(p.delay, 0)
    channel = p.status.get("channel_name", "")
    if server.mariadb or server.before(5, 7, 4):
        named = f" {accounts.text(channel)}" if channel else ""
        return [
            "Changing the delay makes this server throw its relay log away: let it run empty first.",
            "",
            f"STOP SLAVE{named} IO_THREAD;",
            f"SHOW SLAVE{named} STATUS\\G    -- again, until it says: has read all relay log",
            f"STOP SLAVE{named};",
            f"CHANGE MASTER{named} TO MASTER_DELAY = {seconds};",
            f"START SLAVE{named};",
        ]
    named = f" FOR CHANNEL {accounts.text(channel)}" if channel else ""
    word = "SLAVE" if server.before(8, 0, 22) else "REPLICA"
    change = "MASTER TO MASTER" if server.before(8, 0, 23) else "REPLICATION SOURCE TO SOURCE"
    return [
        "The IO thread goes on, so that the relay log is kept.",
        "",
        f"STOP {word} SQL_THREAD{named};",
        f"CHANGE {change}_DELAY = {seconds}{named};",
        f"START {word} SQL_THREAD{named};",
    ]


def _until_then(p: _Plan) -> list[str]:
    lines = []
    if p.sealed and not p.has_monitor:
        lines.append("CRITICAL connect-failed, access denied: its account is still in the delay line.")
    if not p.source_beats:
        lines.append("CRITICAL heartbeat-missing: the source's first heartbeat is still in the delay line.")
    if p.sets_delay:
        lines.append("CRITICAL or WARNING, too short: the delay grows from nothing to its length, a second a second.")
    return [*lines, f"OK from about {span(p.delay)} after the last step on."]
