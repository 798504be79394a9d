"""What was seen, kept: an append-only log of samples and job lines, in order of arrival.

Where a history is:

- `mysql://user@host:port/database?defaults-file=…` is a shared one in a MySQL or MariaDB database;
- anything else is an SQLite file;
- where nothing is said, `$CHECK_DELAYED_REPL_HISTORY` says it in the same way;
- else it is `history.db` in the state folder: `/var/lib/check_delayed_repl` if that folder exists, or if the caller is
  root (who may create it), otherwise `$XDG_STATE_HOME/check_delayed_repl` or `~/.local/state/check_delayed_repl`.

That `/var/lib/check_delayed_repl` exists decides, not whether this user may write there: a backup script that lacks
the permission must hear of it, not record its jobs where the check will never see them. The worker, the check and the
job writers are usually different users: put them into one group that owns the folder with mode 2770.
"""

from __future__ import annotations

import os
import re

from check_delayed_repl.history.database import HistoryUnavailable as HistoryUnavailable
from check_delayed_repl.history.tables import FUTURE_S as FUTURE_S
from check_delayed_repl.history.tables import History as History
from check_delayed_repl.words import pasted

LOCATION_VARIABLE = "CHECK_DELAYED_REPL_HISTORY"
STATE_FOLDER = "/var/lib/check_delayed_repl"
FILE_NAME = "history.db"

# Whatever is meant as a URL, right or wrong, may hold a password and is no file's name.
_URL = r"(?is).*(@|:/)|\W*(my\s?sql|maria\w*|postgres\w*)\W*?(:|//)"


def open_history(where: str | None, deadline: float) -> History:
    """The history at `where`, created if it is not there; see the top of this module for what None means.

    `deadline` is a time.monotonic() time. Raises HistoryUnavailable.
    """
    place = where or os.environ.get(LOCATION_VARIABLE, "")
    if place[:8].lower() == "mysql://":
        # Drivers take long to import: each stands where it is needed.
        from check_delayed_repl.history.mysql import MySQLHistory

        return MySQLHistory(place, deadline)
    if is_url(place):
        raise HistoryUnavailable(
            "the history is neither a file nor a URL of the form mysql://USER@HOST/DATABASE"
            " (a file of such a name is written with its folder: ./NAME)"
        )
    from check_delayed_repl.history.sqlite import SQLiteHistory

    if place:
        return SQLiteHistory(place, deadline)
    place = default_file()
    folder = os.path.dirname(place)
    _create(folder)
    new = not os.path.exists(place)
    history = SQLiteHistory(place, deadline)
    if new and os.geteuid() == 0 and os.stat(folder).st_gid == 0:
        history.warnings.append(
            f"history {place} belongs to root, and the monitoring user cannot use it:"
            f" chgrp -R nagios {pasted(folder)}; chmod 2770 {pasted(folder)}"
        )
    return history


def is_there(where: str | None) -> bool:
    """Whether there is something to read at `where`: to open an SQLite file that is not there would create it."""
    place = where or os.environ.get(LOCATION_VARIABLE) or default_file()
    try:
        return is_url(place) or bool(os.stat(place))
    except (OSError, ValueError) as error:
        return not isinstance(error, FileNotFoundError | NotADirectoryError)  # it is told by whoever opens it


def can_be_made(where: str | None) -> bool:
    """Whether a history that is not there can be created: the default one's folder is created with it."""
    place = where or os.environ.get(LOCATION_VARIABLE, "")
    folder = os.path.dirname(place or default_file()) or "."
    return os.access(folder, os.W_OK | os.X_OK) or not (place or os.path.exists(folder))


def open_existing(where: str | None, deadline: float) -> History:
    """The history at `where`, which must be there."""
    if not is_there(where):
        place = where or os.environ.get(LOCATION_VARIABLE) or default_file()
        raise HistoryUnavailable(f"--history: {place}: there is no such file")
    return open_history(where, deadline)


def one_replica(history: History, name: str | None) -> str:
    """The replica of this name, or the only one. Raises HistoryUnavailable, naming those that there are."""
    known = history.replicas()
    if name is None and len(known) == 1:
        return known[0]
    if name is None or name not in known:
        what = "say which replica of the history" if name is None else f"the history knows no replica {name}"
        raise HistoryUnavailable(f"--replica: {what} (it knows: {', '.join(known) or 'none yet'})")
    return name


def holds_password(where: str) -> bool:
    """Whether this place of a history is meant as a URL, right or wrong, with a password in it."""
    return is_url(where) and ":" in (where.partition("//")[2] or where).rpartition("@")[0]


def without_password(where: str) -> str:
    """The same place, fit to be printed."""
    if not is_url(where):
        return where
    from check_delayed_repl.history.mysql import URL_FORM, parse_url

    try:
        _, _, name = parse_url(where)
    except HistoryUnavailable:
        return URL_FORM  # where a password is in it, nobody can tell
    return name + "".join(where.partition("?")[1:])


def is_url(where: str) -> bool:
    """Whether this is meant as a URL, right or wrong."""
    return not where.startswith(("/", "./", "../")) and bool(re.match(_URL, where))


def default_file() -> str:
    """The file of the default history, which need not be there yet. Raises HistoryUnavailable."""
    if os.path.isdir(STATE_FOLDER) or os.geteuid() == 0:
        return os.path.join(STATE_FOLDER, FILE_NAME)
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.local/state")
    if not os.path.isabs(base):
        raise HistoryUnavailable("no home folder to keep a history in: name a file with --history")
    return os.path.join(base, "check_delayed_repl", FILE_NAME)


def _create(folder: str) -> None:
    """Sees to it that the state folder is there."""
    if os.path.isdir(folder):
        return
    try:
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o2770 if folder == STATE_FOLDER else 0o700)  # makedirs' own mode is subject to the umask
    except OSError as error:
        raise HistoryUnavailable(
            f"cannot create the state folder {folder} ({error.strerror}): create it, or name a file with --history"
        ) from None
