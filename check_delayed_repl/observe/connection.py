"""Getting in: a connection to a target by a deadline. Every failure is one clear line.

Deadlines are times of time.monotonic(). Nothing here waits beyond one, whatever the server, the network or the name
service does.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable

from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.observe.address import Settings, settings
from check_delayed_repl.observe.failures import ConnectFailed, Refused, late
from check_delayed_repl.observe.optionfile import OptionFileError
from check_delayed_repl.observe.target import Target
from check_delayed_repl.words import one_line

if TYPE_CHECKING:
    from typing import Any

    from check_delayed_repl.observe.names import Address
    from check_delayed_repl.observe.wire import Connection

SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108
"""Where servers put their socket, by distribution."""
_ANYBODYS = "/tmp/"  # noqa: S108

# The session is ours, in one statement, whatever the server's globals, its init_connect or the account say: times in
# UTC, all rows, values as they are, no snapshot that outlives a statement (off and on again ends an open transaction).
SESSION = (
    "SET SESSION time_zone = '+00:00', sql_select_limit = 18446744073709551615, sql_big_selects = 1,"
    " character_set_client = 'utf8mb4', character_set_connection = 'utf8mb4', character_set_results = 'utf8mb4',"
    " completion_type = 0, autocommit = 0, autocommit = 1"
)
SESSION_TIMES = "/*M!100101 , max_statement_time = 0 *//*!50708 , max_execution_time = 0 */"

_SOCKET_FULL_S = 0.05
_SHUTTING_DOWN = 1053
_DENIED = 1045
_NO_FILES = (errno.EMFILE, errno.ENFILE)
_ENDED = (1927, 4031)
"""Errors that say that this connection is over, killed or idle for too long."""

# What to do about an error of the server's that refuses a connection, or all that is asked on it.
ADVICE = {
    1040: "too many connections: raise max_connections, or find out who holds them",
    1044: "access denied: check --user and the account's grants",
    1045: "access denied: check --user, --password and the option file",
    1129: "this host is blocked after too many connection errors: run FLUSH HOSTS there"
    " (MySQL 8.4 and later: TRUNCATE performance_schema.host_cache)",
    1130: "this host is not allowed to connect: create the account for it",
    1203: "the user has too many connections: raise max_user_connections",
    1226: "the user's resources are used up: raise the account's limits",
    1251: "the account's authentication method is not supported",
    1698: "access denied: the account logs in by another method than a password",
    1820: "the account's password has expired",
    1862: "the account's password has expired",
    3118: "the account is locked",
    3159: "the server insists on TLS: use --ssl-mode required",
    4151: "the account is locked",
}


class Answer(NamedTuple):
    """The rows of one statement, with the values as bytes."""

    columns: list[str]
    rows: list[tuple[bytes | None, ...]]
    types: tuple[int, ...] = ()
    """The columns' types, as numbers of the protocol; empty where they are not known."""


Ask = Callable[[str, str], Answer]
"""Asks a statement, for a purpose in words. Raises Refused, or SampleFailed where there is no answer."""


def connect(target: Target, deadline: float, database: str | None = None, *, raw: bool = False) -> Connection:
    """A connection, in autocommit mode, that obeys `deadline`; for a later stretch of work call its `until(deadline)`.

    `raw` leaves values as bytes and the session to the caller. Raises ConnectFailed.
    """
    budget = deadline - time.monotonic()
    try:
        found = settings(target)
    except OptionFileError as error:
        raise ConnectFailed("connect-failed", str(error)) from None
    for name, value in (("user", found.user), ("password", found.password)):
        if "\0" in value:
            raise ConnectFailed("connect-failed", f"{found.where}: the {name} holds a NUL character")
    try:
        sock, address = _reach(found, deadline, budget)
        try:
            from check_delayed_repl.observe.wire import Connection

            connection = Connection(found, address, deadline, database, raw=raw)
            connection.budget = budget
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        if error.errno not in _NO_FILES:
            raise
        text = f"out of file descriptors ({error.strerror}): raise ulimit -n, or systemd's LimitNOFILE="
        raise ConnectFailed("connect-failed", f"{found.where}: {text}") from None
    try:
        connection.connect(sock)
    except Exception as error:  # noqa: BLE001  what is not MySQL's makes PyMySQL fail in any way
        raise _failure(connection, error) from None
    return connection


def ask(connection: Connection, sql: str, purpose: str) -> Answer:
    """The answer to one statement, on a raw connection; `purpose` says what is being done (`reading the heartbeats`).

    Raises Refused where the server answers with an error, ConnectFailed where there is no answer: then the connection
    is closed.
    """
    return ask_together(connection, sql, purpose)[0]


def ask_together(connection: Connection, sql: str, purpose: str) -> list[Answer]:
    """The answers to statements with `;` between them, which even a proxy hands to one server; raises as `ask` does.

    Only the first answer is sure to be there: a later statement that is refused ends the list.
    """
    answers: list[Answer] = []
    connection.purpose = purpose
    try:
        cursor = connection.cursor()
        cursor.execute(sql)
        more: bool | None = True
        while more:
            described: Any = cursor.description or ()
            names, types = [str(column[0]) for column in described], tuple(column[1] for column in described)
            answers.append(Answer(names, list(cursor.fetchall()), types))
            more = cursor.nextset()
        return answers
    except Exception as error:
        if isinstance(error, Refused) and error.number not in (_SHUTTING_DOWN, *_ENDED):
            if answers:
                return answers
            raise
        # Whoever asks once more, such as to leave the session as it was, is told why it ended.
        connection.ended = connection.ended or _failure(connection, error)
        connection.close()
        raise connection.ended from None


def _reach(found: Settings, deadline: float, budget: float) -> tuple[socket.socket, Address | None]:
    """A connected socket, and the address that it is connected to; None for a local one."""
    path = found.socket
    if path == "":
        path = next(filter(_servers_own, SOCKETS), None)
    ways: list[tuple[int, Any, Address | None]]
    if path is not None:
        # Abstract sockets, a Linux speciality, begin with NUL, and are written with @.
        ways = [(socket.AF_UNIX, "\0" + path[1:] if path.startswith("@") else path, None)]
    else:
        ways = [(at[0], (at[1][0], found.port, *at[1][2:]), at) for at in _addresses(found, deadline, budget)]
    failures: list[OSError] = []
    for place, (family, address, at) in enumerate(ways):
        now = time.monotonic()
        try:
            # An address that never answers leaves time for the others.
            return _connected(family, address, now + (deadline - now) / (len(ways) - place)), at
        except OSError as error:
            if error.errno in _NO_FILES:
                raise
            failures.append(error)
    where = path or found.where
    if any(isinstance(failure, TimeoutError) for failure in failures):
        raise late(where, budget, "connecting")
    if any(isinstance(failure, ConnectionRefusedError) for failure in failures):
        nobody = "the server does not run" if path else "no server listens there"
        raise ConnectFailed("server-down", f"{where}: connection refused: {nobody}")
    if isinstance(failures[-1], FileNotFoundError):
        raise ConnectFailed("server-down", f"{where}: there is no such socket: the server does not run")
    reason = failures[-1].strerror or failures[-1]
    problem = f"cannot connect: {reason}" if path else f"cannot be reached: {reason}: check --host and the network"
    raise ConnectFailed("connect-failed", f"{where}: {problem}")


def _servers_own(path: str) -> bool:
    """Whether the server's socket is there: into /tmp anybody may put one, and be told the password."""
    try:
        os.stat(path)
        owner = os.lstat(path).st_uid
        if owner in (0, os.geteuid()) or not path.startswith(_ANYBODYS):
            return True
        from pwd import getpwuid

        return getpwuid(owner).pw_name == "mysql"
    except (OSError, KeyError):
        return False


def _connected(family: int, address: Any, deadline: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                sock.connect(address)
            except BlockingIOError:
                # A server that hangs has let its queue of connections fill up: no answer, not a refusal.
                time.sleep(min(_SOCKET_FULL_S, left))
                continue
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return sock
        raise TimeoutError
    except OSError:
        sock.close()
        raise


def _addresses(found: Settings, deadline: float, budget: float) -> list[Address]:
    """Where a host is: numbers and localhost without asking anybody, names by the deadline."""
    host = found.host
    if host == "localhost":
        return [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0))]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            number, percent, _ = host.partition("%")
            socket.inet_pton(family, number)
            if not percent:
                return [(family, (host, 0))]
            # The zone of an IPv6 address, `fe80::1%eth0`, is the system's to understand.
            numeric = socket.getaddrinfo(host, 0, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            return [(family, tuple(numeric[0][4]))]
        except (OSError, ValueError):
            pass
    from check_delayed_repl.observe.names import resolve

    try:
        return resolve(host, deadline)
    except TimeoutError:
        raise late(found.where, budget, "resolving the host's name") from None
    except OSError as error:
        # Without a file descriptor to ask through, this is the name service's error too.
        socket.socket().close()
        text = f"{one_line(host, 255)}: the name cannot be resolved: {error}: check --host and the name service"
        raise ConnectFailed("connect-failed", text) from None


def _failure(connection: Connection, error: Exception) -> ConnectFailed:
    """Why there is no connection (any more), in words."""
    where = connection.where
    if isinstance(error, ConnectFailed):
        return error
    if error.args[:1] in ((2006,), (2013,)):
        return connection.failure("lost")
    if not isinstance(error, Refused):
        text = f"not a MySQL server ({connection.purpose}): check --host, --port and --socket"
        return ConnectFailed("connect-failed", f"{where}: {text}")
    if error.number in _ENDED:
        return connection.failure("lost", error.text)
    if error.number == _SHUTTING_DOWN:
        return ConnectFailed("server-down", f"{where}: the server is shutting down ({error.text})", "lost")
    advice = ADVICE.get(error.number, "the server refused the connection")
    if error.number == _DENIED and not connection.encrypts:
        # All that a MariaDB with require_secure_transport says.
        advice += ", or give --ssl-mode required if the server insists on TLS"
    return ConnectFailed("connect-failed", f"{where}: {advice} ({error})")
