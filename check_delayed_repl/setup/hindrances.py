"""What stands in the way of heartbeats and of a first OK, by what the servers told. Pure."""

from __future__ import annotations

import re

from check_delayed_repl.setup import accounts
from check_delayed_repl.setup.asking import Facts, Row, Wanted

NEWEST_HEARTBEAT = (3, 7, 0)
"""pt-heartbeat from here on knows the statements of MySQL 8.4."""
IN_THE_MIDDLE = (
    "The source is a replica itself: what SQL for it and a heartbeat write there, its own source does not have, and may"
    " stop its replication."
)


def filters_of(status: Row) -> list[str]:
    """The replication filters in force, as --allow-filter takes them: by the names that the servers' columns have."""
    filters = {column.title().replace("_Db", "_DB"): status[column] for column in status if column[:10] == "replicate_"}
    return [f"{column}={value}" for column, value in filters.items() if value]


def _listed(row: Row, column: str) -> list[str]:
    return [entry.strip() for entry in row.get(column, "").split(",") if entry.strip()]


def lost_heartbeats(status: Row, binlog: Row, dotted: str) -> list[str]:
    """Filters that keep heartbeats from the replica, each in words."""
    database = dotted.partition(".")[0]
    found = []
    for row, prefix, where in ((binlog, "binlog", "the source's"), (status, "replicate", "the replica's")):
        if _listed(row, f"{prefix}_do_db") and database not in _listed(row, f"{prefix}_do_db"):
            found.append(f"{where} {prefix}_do_db does not name {database}")
        if database in _listed(row, f"{prefix}_ignore_db"):
            found.append(f"{where} {prefix}_ignore_db names {database}")
    if re.search(rf"(^|[(, ]){re.escape(database)}(,|->)", status.get("replicate_rewrite_db", "")):
        found.append(f"the replica's replicate_rewrite_db renames {database}")
    return found + _lost_to_table_filters(status, dotted)


def _lost_to_table_filters(status: Row, dotted: str) -> list[str]:
    def like(pattern: str) -> bool:
        parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern.replace("\\_", "\0"))
        return re.fullmatch("".join(parts).replace("\0", "_"), dotted) is not None

    def named(which: str) -> bool:
        tables, patterns = _listed(status, f"replicate_{which}_table"), _listed(status, f"replicate_wild_{which}_table")
        return dotted in tables or any(map(like, patterns))

    found = []
    if (status.get("replicate_do_table") or status.get("replicate_wild_do_table")) and not named("do"):
        found.append(f"the replica's filters by table do not name {dotted}")
    if named("ignore"):
        found.append(f"the replica's filters by table leave {dotted} out")
    return found


def warnings(replica: Facts, source: Facts | None, status: Row, wanted: Wanted) -> list[str]:
    """What must be fixed first, or known, each in a line or two."""
    found = [
        f"Heartbeats will not arrive: {reason}. Fix this first."
        for reason in lost_heartbeats(status, source.binlog if source else {}, wanted.table)
    ]
    if replica.on("super_read_only"):
        found += [
            f"Accounts will not arrive: {reason}. Fix this first, or switch super_read_only off for as long as init"
            " --no-local-heartbeat and then replica.sql run."
            for reason in _lost_to_table_filters(status, "mysql.user")
        ]
    chosen = wanted.address.get("master-server-id")
    if source and source.statuses and chosen is None:
        found.append(
            f"{IN_THE_MIDDLE} Use the heartbeat of the first source instead: init --source-host FIRST"
            f" --master-server-id ID; where the two replicate each other, with its own id, {source.server_id}."
        )
    own = source.server_id if source else 0
    if source and own in source.beats and own not in replica.beats:
        found.append(
            "The source has a heartbeat row that the replica does not have. Unless it is in the delay line, it was"
            " written with sql_log_bin=0, as a replica's own is: it never arrives, and to go on with it in the binary"
            " log stops replication (1032). Run init with another --heartbeat-table then."
        )
    if source is None:
        known = wanted.source_id(status)
        which = f"The source (server id {known})" if known else "The source"
        found.append(f"{which} did not answer: source.sql is written for the newest version of its family.")
    elif source.variables.get("log_bin") and not source.on("log_bin"):
        found.append("The source has no binary log: it cannot be a source.")
    for thread, words in (("io", "Nothing is fetched"), ("sql", "Nothing is applied")):
        if status.get(f"replica_{thread}_running", "Yes") == "No" and not wanted.external:
            found.append(f"{words}: the replica's {thread.upper()} thread is stopped. Fix this first.")
    old_tool = wanted.tool_version < NEWEST_HEARTBEAT
    for facts, which in ((source, "source"), (replica, "replica")):
        if facts is None:
            continue
        if not facts.accounts:  # not even the one that asks
            found.append(
                f"The {which}'s accounts may not be read (mysql.user). One of ours that is there already keeps its"
                " password: leave its .cnf file as it is, too, or run init as an account that may read them."
            )
        positions = accounts.POSITION_COLUMNS & (facts.columns or frozenset())
        if old_tool and positions and not facts.dialect.mariadb and not facts.before(8, 4, 0):
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
    if not wanted.external and wanted.local and accounts.needs_super(replica):
        found.append(
            "The replica's own heartbeat takes SUPER on this server. Where that is too much: init --no-local-heartbeat."
        )
    return found
