"""Whether a rescue would work here, what could undo one, and what comes next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from check_delayed_repl.observe.connection import Refused, SampleFailed
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.observe.replication import is_mariadb, version_numbers
from check_delayed_repl.observe.target import Target
from check_delayed_repl.rescue.plan import missing
from check_delayed_repl.rescue.state import Session, State, pager
from check_delayed_repl.words import one_line, size, span

_TOOLS = re.compile(r"orchestr|maxscale|maxmon|mha|replication.?manager|slave.?delay|proxysql|mrm", re.IGNORECASE)
_QUIET = ("system user", "event_scheduler", "unauthenticated user")


class Check(NamedTuple):
    level: str
    """ok, warn or FAIL."""
    text: str


def checks(session: Session, state: State) -> Iterator[Check]:
    """What a rescue needs here."""
    channel = state.channel
    lacking = missing(state)
    if lacking:
        yield Check("FAIL", f"the account lacks {', '.join(lacking)}")
    else:
        yield Check("ok" if state.rights is not None else "warn", "the account may stop, change and start replication")
    if state.rights is not None and not state.rights & {"SELECT", "ALL PRIVILEGES"}:
        yield Check("warn", "the account may not read every table: to dump and verify a lost one it needs SELECT there")
    try:
        pager(session, channel)(channel.relay.file, 4, 0, 1)
        yield Check("ok", f"the relay log can be read ({channel.relay.file})")
    except Refused as error:
        yield Check("FAIL", f"the relay log cannot be read (error {error.number}: {error.text})")
    if channel.delay == 0:
        yield Check("warn", "the server itself is not set to delay: what waits here is what another program holds back")
    if state.recovery:
        yield Check("warn", "relay_log_recovery is ON: a restart throws away what waits, and fetches it again")
    if state.mariadb:
        yield Check(
            "warn",
            "unknown whether replication starts by itself after a restart: put skip-slave-start into the"
            " option file, without it a restart undoes a freeze",
        )
        if channel.gtid:
            yield Check(
                "warn",
                "MariaDB with GTIDs throws the relay log away when both threads were stopped and one is"
                " started: stop the SQL thread alone",
            )
    elif not state.stays_stopped and not state.may_persist:
        yield Check("warn", "a restart starts replication again, and this account or server cannot change that")
    else:
        yield Check("ok", "replication can be kept from starting by itself after a restart")
    if not state.mariadb and state.workers > 1 and not state.ordered:
        yield Check("warn", "parallel appliers do not commit in order: a stop in between can leave gaps")
    if state.rights is not None and not state.rights & {"SUPER", "ALL PRIVILEGES"}:
        kills = {"CONNECTION ADMIN"} if state.mariadb else {"CONNECTION_ADMIN", "SYSTEM_USER"}
        for right in sorted(kills - state.rights):
            if state.mariadb:
                yield Check("warn", f"without {right} a freeze must wait for an applier that waits for a lock")
            elif state.say.numbers >= (8, 0, 16):
                yield Check("warn", f"without {right} a transaction that is being applied is finished, not rolled back")


def source_logs(target: Target, timeout: float, state: State) -> Check:
    """Whether the source still has what has not been applied here."""
    try:
        source = Session(target, timeout)
        try:
            source.prepare()
            names = [row["log_name"] for row in source.rows("SHOW BINARY LOGS", "listing the source's binary logs")]
        finally:
            source.close()
    except Refused as error:
        return Check(
            "warn", f"whether the source still has its binary logs is not known (error {error.number}: {error.text})"
        )
    except (SampleFailed, OptionFileError) as error:
        return Check("warn", f"whether the source still has its binary logs is not known: {error}")
    if state.channel.applied.file in names:
        return Check("ok", f"the source still has its binary logs from {state.channel.applied.file} on")
    return Check("warn", f"the source has no {state.channel.applied.file} any more: what waits exists here alone")


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
    tools = sorted(one for one in people if _TOOLS.search(one))
    if tools:
        yield (
            f"Connected, and by its name a tool that may start replication, or point it elsewhere, which throws the"
            f" relay log away: {one_line(', '.join(tools[:10]))}."
        )
    others = sorted(people - set(tools))
    able = _able(session) if others else set()
    if able is not None:
        others = [one for one in others if one.rpartition("@")[0] in able]
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
    if not is_mariadb(session.version):
        by_role = "SELECT TO_USER FROM mysql.role_edges" if version_numbers(session.version) >= (8, 0, 0) else ""
    able: set[str] = set()
    try:
        session.ask("SELECT 1 FROM mysql.user LIMIT 0", "asking for accounts")  # else only one's own rights are shown
        for sql in filter(None, (direct, by_role)):
            able |= {(row[0] or b"").decode("utf-8", "replace") for row in session.ask(sql, "asking for rights").rows}
    except Refused:
        return None
    return able


def room(state: State, oldest: float | None) -> str:
    """What the relay log takes, and until when it can grow."""
    used = size(state.channel.relay_space)
    if not state.space_limit:
        return f"The relay log has {used} and may grow until the disk is full."
    left = state.space_limit - state.channel.relay_space
    if left <= 0:
        return (
            f"The relay log has {used} and is FULL (relay_log_space_limit): the newest changes are on the source alone."
        )
    text = f"The relay log has {used} of {size(state.space_limit)}"
    if oldest is not None and state.now > oldest and state.channel.relay_space:
        return (
            f"{text}: full in about {span(left * (state.now - oldest) / state.channel.relay_space)} at the pace so far."
        )
    return f"{text}."
