"""The tables that somebody wants back: whether they are there, what is in them, and how to copy them to the source.

A name is `DB.TABLE`, or `DB.*` for a whole database; its database ends at the first dot.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from check_delayed_repl.arguments import did_you_mean
from check_delayed_repl.given import joined
from check_delayed_repl.observe.dialect import quoted as text
from check_delayed_repl.observe.failures import Refused
from check_delayed_repl.observe.heartbeat import identifier
from check_delayed_repl.rescue.state import Session, State
from check_delayed_repl.rescue.statements import ANY
from check_delayed_repl.words import one_line

SIDE = "_rescue"
"""What the name of the schema that a table is brought back into ends with."""
_ABSENT = (1049, 1051, 1109, 1146)
_RENAMED = re.compile(r"([^,()>]+?)(?:->|,)([^,()]+)")
_DENIED = (1044, 1045, 1142, 1143, 1227)


def touches(changed: Collection[str], tables: Collection[str]) -> bool:
    """Whether one of these tables is among what has been changed."""
    for table in (name.lower() for name in changed):
        for wanted in (name.lower() for name in tables):
            database = wanted.partition(".")[0]
            if table in (wanted, f"{database}.*", ANY) or (wanted.endswith(".*") and table.startswith(f"{database}.")):
                return True
    return False


@contextmanager
def _not_waiting_for_locks(session: Session) -> Iterator[None]:
    session.ask("SET SESSION lock_wait_timeout = 1", "preparing the session")
    try:
        yield
    finally:
        if session.connection.open:  # else what ended it, or an interrupt, must be heard
            session.ask("SET SESSION lock_wait_timeout = 60", "preparing the session")


def with_parents(session: Session, tables: Sequence[str]) -> list[str]:
    """These, and behind them those whose changes change their rows too, by a foreign key: no log shows what that does.
    As they are here, and as far as this account may see it."""
    found = list(tables)
    for each in found:
        database, _, name = each.partition(".")
        keys = (
            "SELECT unique_constraint_schema, referenced_table_name FROM information_schema.referential_constraints"  # noqa: S608
            f" WHERE constraint_schema = {text(database)} AND table_name = {text(name)}"
            " AND CONCAT(delete_rule, update_rule) REGEXP 'CASCADE|SET'"
        )
        with suppress(Refused), _not_waiting_for_locks(session):
            for row in session.ask(keys, "looking for foreign keys").rows:
                parent = ".".join((part or b"").decode() for part in row)
                if not touches((parent,), found):
                    found.append(parent)
    return found


def sought(session: Session, state: State, tables: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands for these in what waits: as they are called here and on the source, with their parents; and those
    parents as something to mind."""
    names = [*tables, *called(state, tables, here=True)]
    found = with_parents(session, names)
    return [*found, *called(state, found, here=False)], take_along(found[len(names) :])


def here(session: Session, state: State, tables: Sequence[str]) -> list[str]:
    """As they are called here: where a name can be the source's, it is, unless this account sees a table by it."""
    found: list[str] = []
    for table in tables:
        renamed = called(state, [table], here=True)
        found += renamed if renamed and access(session, table) != "readable" else [table]
    return list(dict.fromkeys(found))


def renamed(state: State) -> list[str]:
    """What it means that databases are applied here under other names."""
    names = one_line(state.channel.renamed)
    return [
        f"databases have other names here ({names}): what waits is shown with the source's, dumps have this server's"
    ] * bool(names)


def called(state: State, tables: Collection[str], here: bool) -> list[str]:
    """The names that those of renamed databases have here, or on the source."""
    pairs = _RENAMED.findall(state.channel.renamed)
    named = [table.partition(".") for table in tables]
    return [f"{pair[here]}.{name}" for database, _, name in named for pair in pairs if pair[not here] == database]


def take_along(parents: Sequence[str]) -> list[str]:
    """What `with_parents` has added, as something to mind."""
    return [f"{', '.join(parents)} counts too: by a foreign key, rows go with its rows"] if parents else []


def access(session: Session, table: str) -> Literal["readable", "absent", "denied"]:
    """What this account can see of a table here. Raises SampleFailed, and Refused for any other reason."""
    database, _, name = table.partition(".")
    if name == "*":
        there = f"SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = {text(database)}"  # noqa: S608
        return "absent" if session.value(there, "looking for a database") == "0" else "readable"
    try:
        with _not_waiting_for_locks(session):
            session.ask(f"SELECT 1 FROM {identifier(database)}.{identifier(name)} LIMIT 0", "looking for a table")  # noqa: S608
    except Refused as error:
        if error.number in _ABSENT:
            return "absent"
        return "denied" if error.number in _DENIED else "readable"  # locked, perhaps
    return "readable"


def unknown(session: Session, table: str, waiting: Collection[str]) -> str:
    """Why a name must be mistyped: nothing that waits touches it (`waiting` are the names of what does), and it is not
    here. Empty where one of both is so."""
    if touches(waiting, (table,)) or (found := access(session, table)) == "readable":
        return ""
    here = "there is no such table here" if found == "absent" else "this account may not see whether it is here"
    return f"{table}: nothing that waits touches it, and {here}{did_you_mean(table, waiting, '')}"


def verified(session: Session, table: str) -> Iterator[dict[str, Any]]:
    """COUNT and CHECKSUM TABLE. Raises Refused and SampleFailed."""
    database, _, name = table.partition(".")
    names = [name]
    if name == "*":
        listed = f"SHOW FULL TABLES FROM {identifier(database)} WHERE Table_type = 'BASE TABLE'"
        names = [(row[0] or b"").decode() for row in session.ask(listed, "listing tables").rows]
    for each in names:
        one = f"{identifier(database)}.{identifier(each)}"
        count = session.ask(f"SELECT COUNT(*) FROM {one}", "counting", patience=86400).rows  # noqa: S608
        checksum = session.ask(f"CHECKSUM TABLE {one}", "checksumming", patience=86400).rows[0][1]
        yield {
            "name": f"{database}.{each}",
            "count": int(count[0][0] or 0),
            "checksum": int(checksum) if checksum else None,
        }


def dump_command(state: State, login: Sequence[str], tables: Sequence[str]) -> str | None:
    """Copies tables from this replica into a schema beside theirs on the source; without their triggers, which could
    not be renamed into place with them. `login` are a client's options for this replica."""
    host, _, port = state.channel.source.rpartition(":")
    there = f"-h {shlex.quote(host)} -P {port} -u USER -p"
    if state.mariadb:
        program, how, client = "mariadb-dump", "--single-transaction --skip-lock-tables --skip-triggers", "mariadb"
    else:
        program, client = "mysqldump", "mysql"
        how = "--single-transaction --skip-triggers --set-gtid-purged=OFF --no-tablespaces"
    commands = []
    for database in dict.fromkeys(name.partition(".")[0] for name in tables):
        names = [name.partition(".")[2] for name in tables if name.partition(".")[0] == database]
        what = " ".join(shlex.quote(part) for part in (database, *(() if "*" in names else names)))
        side = database + SIDE
        create = shlex.quote(f"CREATE DATABASE IF NOT EXISTS {identifier(side)}")
        # By way of a file: behind a pipe, a dump that failed would look as if it were done.
        file = shlex.quote(re.sub(r"[^\w.-]", "_", side).lstrip("-") + ".sql")
        commands += [
            f"{program} {joined(login)} {how} -- {what} > {file}",  # an option file is taken in the first place alone
            f"{client} {there} -e {create}",
            f"{client} {there} -- {shlex.quote(side)} < {file}",
        ]
    return " && ".join(commands) or None
