"""Whether a rescue would work here, what could undo one, and what comes next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from check_delayed_repl.observe.failures import Refused, SampleFailed
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.observe.target import Target
from check_delayed_repl.rescue import plan, tables
from check_delayed_repl.rescue.record import Record, RecordError
from check_delayed_repl.rescue.state import Session, State, in_variables, pager
from check_delayed_repl.words import one_line, size, span

_TOOLS = re.compile(r"orchestr|maxscale|maxmon|mha|replication.?manager|slave.?delay|proxysql|mrm", re.IGNORECASE)
_QUIET = ("system user", "event_scheduler", "unauthenticated user")


class Check(NamedTuple):
    level: str
    """ok, warn or FAIL."""
    text: str


def checks(session: Session, state: State) -> Iterator[Check]:
    """What a rescue needs here."""
    channel, rights = state.channel, state.rights
    if lacking := plan.missing(state):
        yield Check("FAIL", f"the account lacks {', '.join(lacking)}")
    else:
        yield Check("ok" if rights is not None else "warn", "the account may stop, change and start replication")
    if rights is not None and not rights & {"SELECT", "ALL PRIVILEGES"}:
        yield Check("warn", "the account may not read every table: to dump and verify a lost one it needs SELECT there")
    try:
        pager(session, channel.name)(channel.relay.file, 4, 0, 1)
        yield Check("ok", f"the relay log can be read ({channel.relay.file})")
    except Refused as error:
        yield Check("FAIL", f"the relay log cannot be read ({error})")
    if channel.relay.file and not channel.relay.order[0]:
        yield Check(
            "FAIL",
            f"the relay log {channel.relay.file} has no number: MySQL, where relay_log has two dots, writes over what"
            " waits whenever a file is full, and refuses to stop before a mistake; name it without dots",
        )
    if stands := plan.pending(state):
        yield Check("FAIL", one_line(stands))
    if channel.delay == 0:
        yield Check("warn", "the server itself is not set to delay: what waits here is what another program holds back")
    if session.variable("relay_log_recovery") == "1":
        yield Check("warn", "relay_log_recovery is ON: a restart throws away what waits, and fetches it again")
    for line in filtered(state):
        yield Check("warn", line)
    for line in _of_mariadb(state) if state.mariadb else _of_mysql(session, state):
        yield Check("warn", line)
    if state.stays_stopped or state.may_persist:
        yield Check("ok", "replication can be kept from starting by itself after a restart")


def filtered(state: State) -> list[str]:
    """What the replication filters mean for a rescue."""
    filters = one_line(state.channel.filters)
    left = [f"filters are set ({filters}): what they leave out cannot be saved here, though it waits"] * bool(filters)
    return [*left, *tables.renamed(state)]


def can_keep(record: Record) -> Check:
    """Whether a rescue's record can be kept."""
    try:
        record.try_out()
    except RecordError as error:
        return Check("FAIL", f"the record of a rescue cannot be kept, give another folder with --state: {error}")
    return Check("ok", "the record of a rescue can be kept")


def _of_mariadb(state: State) -> Iterator[str]:
    yield (
        "unknown whether replication starts by itself after a restart: put skip-slave-start into the option file,"
        " without it a restart undoes a freeze"
    )
    if state.channel.gtid:
        yield (
            "MariaDB with GTIDs throws the relay log away when both threads were stopped and one is started: stop the"
            " SQL thread alone"
        )
    if state.lacks("CONNECTION ADMIN"):
        yield "without CONNECTION ADMIN a freeze must wait for an applier that waits for a lock"


def _of_mysql(session: Session, state: State) -> Iterator[str]:
    if not state.stays_stopped and not state.may_persist:
        yield "a restart starts replication again, and this account or server cannot change that"
    word = in_variables(state.say.numbers)
    several = int(session.variable(f"{word}_parallel_workers") or 0) > 1
    if several and session.variable(f"{word}_preserve_commit_order") != "1":
        yield "parallel appliers do not commit in order: a stop in between can leave gaps"
    if state.say.numbers >= (8, 0, 16):
        for right in state.lacks("CONNECTION_ADMIN", "SYSTEM_USER"):
            yield f"without {right} a transaction that is being applied is finished, not rolled back"


def source_logs(target: Target, timeout: float, applied: str) -> Check:
    """Whether the source still has its binary log of this name, and with it what has not been applied here."""
    source = Session(target, timeout)
    try:
        source.connect()
        names = [row["log_name"] for row in source.rows("SHOW BINARY LOGS", "listing the source's binary logs")]
    except (Refused, SampleFailed, OptionFileError) as error:
        return Check("warn", f"whether the source still has its binary logs is not known: {error}")
    finally:
        source.close()
    if applied in names:
        return Check("ok", f"the source still has its binary logs from {applied} on")
    return Check("warn", f"the source has no {applied} any more: what waits exists here alone")


def who_could_start(session: Session, jobs: list[str]) -> Iterator[str]:
    """Who could start replication again, as far as can be seen: one line each."""
    if jobs:
        yield f"Active jobs, which may start replication when they end: {', '.join(jobs[:10])}."
    try:
        rows = session.rows("SHOW PROCESSLIST", "listing who is connected")
    except (Refused, SampleFailed):
        return
    me = session.value("SELECT CONNECTION_ID()", "asking for the connection's own id")
    people = {
        f"{row['user']}@{row['host'].rpartition(':')[0] or row['host']}"
        for row in rows
        if row["id"] != me and row["user"] not in _QUIET and "Binlog Dump" not in row.get("command", "")
    }
    tools = sorted(filter(_TOOLS.search, people))
    if tools:
        yield (
            "Connected, and by its name a tool that may start replication, or point it elsewhere, which throws the"
            f" relay log away: {one_line(', '.join(tools[:10]))}."
        )
    able = _able(session)
    others = sorted(one for one in people.difference(tools) if able is None or one.rpartition("@")[0] in able)
    if others:
        more = f" and {len(others) - 10} more" if len(others) > 10 else ""
        known = "may start it" if able is not None else "whether they may start it is hidden from this account"
        yield f"Connected too, {known}: {one_line(', '.join(others[:10]))}{more}."


def _able(session: Session) -> set[str] | None:
    """Users that may start replication, themselves or perhaps by a role; None where this account cannot see that."""
    direct = (
        "SELECT DISTINCT SUBSTRING_INDEX(SUBSTRING(grantee, 2), CHAR(39), 1) FROM information_schema.user_privileges"
        " WHERE privilege_type IN ('SUPER', 'REPLICATION SLAVE ADMIN', 'REPLICATION_SLAVE_ADMIN')"
    )
    by_role = "SELECT User FROM mysql.roles_mapping"
    if not session.say.mariadb:
        by_role = "SELECT TO_USER FROM mysql.role_edges" if session.say.numbers >= (8, 0, 0) else ""
    able: set[str] = set()
    try:
        session.ask("SELECT 1 FROM mysql.user LIMIT 0", "asking for accounts")  # else only one's own rights are shown
        for sql in filter(None, (direct, by_role)):
            able |= {(row[0] or b"").decode("utf-8", "replace") for row in session.ask(sql, "asking for rights").rows}
    except Refused:
        return None
    return able


def room(session: Session, state: State, oldest: float | None) -> str:
    """What the relay log takes, and until when it can grow."""
    used, limit = state.channel.relay_space, int(session.variable("relay_log_space_limit") or 0)
    text = f"The relay log has {size(used)}"
    if not limit:
        return f"{text} and may grow until the disk is full."
    if used >= limit:
        return f"{text} and is FULL (relay_log_space_limit): the newest changes are on the source alone."
    pace = ""
    if oldest is not None and state.now > oldest and used:
        pace = f": full in about {span((limit - used) * (state.now - oldest) / used)} at the pace so far"
    return f"{text} of {size(limit)}{pace}."
