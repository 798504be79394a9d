"""Getting in: where a target is, and a connection to it by a deadline. Every failure is one clear line.

Deadlines are times of time.monotonic(). Nothing here waits beyond one, whatever the server, the network or the name
service does.
"""

from __future__ import annotations

import os
import socket
import time

from check_delayed_repl.light import TYPE_CHECKING, NamedTuple
from check_delayed_repl.observe.optionfile import OptionFileError, read_group
from check_delayed_repl.observe.target import SSL_MODES, Target
from check_delayed_repl.records import CHANNEL_SEPARATOR
from check_delayed_repl.words import MASK, one_line, plain

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import NoReturn

    from check_delayed_repl.observe.wire import Connection

DEFAULT_PORT = 3306
SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock")  # noqa: S108
"""Where servers put their socket, by distribution."""

MAX_TEXT = 400
_SOCKET_FULL_S = 0.05
_SHUTTING_DOWN = 1053
_DENIED = 1045
_ENDED = (1927, 4031)
"""Errors that say that this connection is over, killed or idle for too long."""

# What to do about an error of the server's that refuses a connection.
_ADVICE = {
    1040: "too many connections: raise max_connections, or find out who holds them",
    1044: "access denied: check --user and the account's grants",
    1045: "access denied: check --user, --password and the option file",
    1129: "this host is blocked after too many connection errors: run FLUSH HOSTS there",
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


class SampleFailed(Exception):
    """A look that cannot go on. `condition` is one of conditions.SAMPLE_ERRORS, `message` one line."""

    def __init__(self, condition: str, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.condition = condition
        self.message = message
        self.lost = lost
        """The other side went away in the middle: it may be about to stop, or may have closed an idle connection."""


class ConnectFailed(SampleFailed):
    """No connection, or none any more: `connect-failed`, `timeout` or `server-down`."""


class Refused(Exception):
    """The server answered a statement with an error."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.number = number
        self.text = text
        """One line, free of control characters."""


class Settings(NamedTuple):
    """A target after its option file: what will be used."""

    host: str
    port: int
    socket: str | None
    """The socket that is named somewhere; None where none is."""
    tcp: bool
    """TCP, even to localhost."""
    user: str
    password: str
    ssl_mode: str
    ssl_ca: str | None
    ssl_cert: str | None
    ssl_key: str | None

    def __repr__(self) -> str:
        return f"Settings({self.where!r}, user={self.user!r}, ssl_mode={self.ssl_mode!r})"

    @property
    def where(self) -> str:
        """`host:port`, or the socket: the same whether or not the server runs."""
        if self.socket is not None:
            return self.socket
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Answer(NamedTuple):
    """The rows of one statement, with the values as bytes."""

    columns: list[str]
    rows: list[tuple[bytes | None, ...]]


def settings(target: Target) -> Settings:
    """The target with its option file read; what is given outright beats the file. Raises OptionFileError.

    Host `localhost`, or none, without a port means the local socket, as with the servers' own clients; a host that is
    given beats a socket from the file.
    """
    file = _from_file(target)
    host = target.host or file.get("host") or "localhost"
    port = target.port or _port(target, file)
    path = target.socket
    protocol = (file.get("protocol") or "").lower()
    local = host == "localhost"
    tcp = not local or target.port is not None
    if path is not None:
        tcp = not local
    elif not tcp and protocol == "tcp" and not target.host:
        tcp = True
    elif not tcp:
        path = file.get("socket") or None
        tcp = path is None and port is not None
    return Settings(
        host=host,
        port=port or DEFAULT_PORT,
        socket=None if tcp else path,
        tcp=tcp,
        user=target.user or file.get("user") or _me(),
        password=target.password if target.password is not None else file.get("password") or "",
        ssl_mode=_ssl_mode(target, file),
        ssl_ca=target.ssl_ca or file.get("ssl-ca"),
        ssl_cert=target.ssl_cert or file.get("ssl-cert"),
        ssl_key=target.ssl_key or file.get("ssl-key"),
    )


def server_name(target: Target) -> str:
    """What a target is called where nobody says otherwise: `host:port` or its socket, plus `#channel`.

    Does not depend on whether the server runs. Raises OptionFileError.
    """
    where = settings(target).where
    return f"{where}{CHANNEL_SEPARATOR}{target.channel}" if target.channel else where


def connect(target: Target, deadline: float, database: str | None = None, *, raw: bool = False) -> Connection:
    """A connection, in autocommit mode, that obeys `deadline`; for a later stretch of work call its `until(deadline)`.

    `raw` leaves values as bytes and the session's character set to the caller. Raises ConnectFailed.
    """
    budget = deadline - time.monotonic()
    try:
        found = settings(target)
    except OptionFileError as error:
        raise ConnectFailed("connect-failed", str(error)) from None
    for name, value in (("user", found.user), ("password", found.password)):
        if "\0" in value:
            raise ConnectFailed("connect-failed", f"{found.where}: the {name} holds a NUL character")
    mode = found.ssl_mode
    sock, local = _reach(found, deadline, budget)
    try:
        from check_delayed_repl.observe.lean import load_pymysql

        load_pymysql()
        from check_delayed_repl.observe.wire import Connection, Wire

        wire = Wire(sock, deadline)
        connection = Connection(
            wire,
            local=local,
            raw=raw,
            # Nobody can listen on a local socket: like the servers' own clients, encrypt only where that is demanded.
            tls=None if mode == "disabled" or (local and mode == "preferred") else _tls(found),
            tls_required=mode not in ("disabled", "preferred"),
            host=found.host,
            user=found.user.encode("utf-8", "surrogateescape"),
            password=found.password.encode("utf-8", "surrogateescape"),
            database=database,
        )
    except BaseException:
        sock.close()
        raise
    try:
        connection.connect(wire)  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001  what is not MySQL's makes PyMySQL fail in any way
        failure = _failure(connection, error, found.where, budget, "logging in", found.password)
        sock.close()
        raise failure from None
    return connection


def ask(connection: Connection, sql: str, purpose: str, where: str, budget: float, secret: str = "") -> Answer:
    """The answer to one statement, on a raw connection.

    `purpose` says what is being done (`reading the heartbeats`), `budget` how many seconds there were for it all.
    Raises Refused where the server answers with an error, ConnectFailed where there is no answer: then the connection
    is closed.
    """
    try:
        cursor = connection.cursor()
        cursor.execute(sql)
        columns = [str(column[0]) for column in cursor.description or ()]
        return Answer(columns, list(cursor.fetchall()))
    except Exception as error:  # noqa: BLE001  as above
        number = _server_error(error)
        if number is not None and connection.open and number not in (_SHUTTING_DOWN, *_ENDED):
            raise Refused(number, scrubbed(_text_of(error), secret)) from None
        failure = _failure(connection, error, where, budget, purpose, secret)
        connection.close()
        raise failure from None


def scrubbed(text: str, secret: str) -> str:
    """Text from a server on one line, without anybody's password, ours first."""
    return one_line(text.replace(secret, MASK) if secret else text, MAX_TEXT)


def seconds(budget: float) -> str:
    """A span for people: `10 s`."""
    return f"{plain(round(max(budget, 0.0), 1))} s"


# --- the option file ---


def _from_file(target: Target) -> dict[str, str | None]:
    if target.defaults_file is None:
        return {}
    file = read_group(target.defaults_file, target.defaults_group)
    if file is None:
        # A file without [client] may be meant to give nothing; a group that somebody named must be there.
        if target.defaults_group != "client":
            raise OptionFileError(f"{target.defaults_file}: there is no group [{target.defaults_group}]")
        return {}
    return file


def _port(target: Target, file: dict[str, str | None]) -> int | None:
    text = file.get("port")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65535):
        raise OptionFileError(f"{target.defaults_file}: port is not a whole number from 1 to 65535")
    return int(text) or None


def _me() -> str:
    """The user that runs this, as the servers' own clients use it where none is given."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _ssl_mode(target: Target, file: dict[str, str | None]) -> str:
    if target.ssl_mode is not None:
        return target.ssl_mode
    if (text := file.get("ssl-mode")) is not None:
        mode = text.lower().replace("_", "-")
        if mode not in SSL_MODES:
            raise OptionFileError(f"{target.defaults_file}: ssl-mode is none of {', '.join(SSL_MODES)}")
        return mode
    # MariaDB's way to say it.
    if _switched(file, "ssl-verify-server-cert"):
        return "verify-identity"
    switched = _switched(file, "ssl")
    if switched is False:
        return "disabled"
    # Who names the authorities to trust wants the server's certificate checked.
    if target.ssl_ca or file.get("ssl-ca"):
        return "verify-ca"
    return "required" if switched else "preferred"


def _switched(file: dict[str, str | None], name: str) -> bool | None:
    """A switch of an option file, in any of its spellings; None where it is not there."""
    if f"skip-{name}" in file or f"disable-{name}" in file:
        return False
    if f"enable-{name}" in file:
        return True
    if name not in file:
        return None
    return (file[name] or "1").lower() not in ("0", "false", "off")


# --- reaching the server ---


def _reach(found: Settings, deadline: float, budget: float) -> tuple[socket.socket, bool]:
    """A connected socket, and whether it is a local one."""
    if not found.tcp:
        path = found.socket or next((path for path in SOCKETS if os.path.exists(path)), None)
        if path is not None:
            return _reach_path(path, deadline, budget), True
    return _reach_host(found, deadline, budget), False


def _reach_path(path: str, deadline: float, budget: float) -> socket.socket:
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            sock.settimeout(left)
            sock.connect(path)
            return sock
        except BlockingIOError:
            # A server that hangs has let its queue of connections fill up: no answer, not a refusal.
            sock.close()
            time.sleep(min(_SOCKET_FULL_S, max(left, 0)))
        except TimeoutError:
            sock.close()
            raise _late(path, budget, "connecting") from None
        except FileNotFoundError:
            sock.close()
            raise ConnectFailed("server-down", f"{path}: there is no such socket: the server does not run") from None
        except ConnectionRefusedError:
            sock.close()
            raise ConnectFailed("server-down", f"{path}: connection refused: the server does not run") from None
        except OSError as error:
            sock.close()
            raise ConnectFailed("connect-failed", f"{path}: cannot connect: {error.strerror or error}") from None


def _reach_host(found: Settings, deadline: float, budget: float) -> socket.socket:
    addresses = _addresses(found, deadline, budget)
    failures: list[OSError] = []
    for place, (family, address) in enumerate(addresses):
        # An address that never answers leaves time for the others.
        left = (deadline - time.monotonic()) / (len(addresses) - place)
        if left <= 0:
            failures.append(TimeoutError())
            break
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            failures.append(error)
            continue
        try:
            sock.settimeout(left)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return sock
        except OSError as error:
            sock.close()
            failures.append(error)
    if any(isinstance(failure, TimeoutError) for failure in failures):
        raise _late(found.where, budget, "connecting")
    if any(isinstance(failure, ConnectionRefusedError) for failure in failures):
        raise ConnectFailed("server-down", f"{found.where}: connection refused: no server listens there")
    reason = failures[-1].strerror or "no address"
    raise ConnectFailed("connect-failed", f"{found.where}: cannot be reached: {reason}: check --host and the network")


Address = tuple[str, int]


def _addresses(found: Settings, deadline: float, budget: float) -> list[tuple[int, Address]]:
    """Where a host is: numbers and localhost without asking anybody, names by the deadline."""
    host, port = found.host, found.port
    if host == "localhost":
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
            return [(family, (host, port))]
        except (OSError, ValueError):
            pass
    from check_delayed_repl.observe.names import Unresolvable, resolve

    try:
        return resolve(host, port, deadline)
    except TimeoutError:
        raise _late(found.where, budget, "resolving the host's name") from None
    except Unresolvable as error:
        text = f"{one_line(host, 255)}: the name cannot be resolved: {error}: check --host and the name service"
        raise ConnectFailed("connect-failed", text) from None


def _late(where: str, budget: float, purpose: str) -> ConnectFailed:
    return ConnectFailed("timeout", f"{where}: no answer within {seconds(budget)} ({purpose})")


def _tls(found: Settings) -> Callable[[], ssl.SSLContext]:
    """What makes the TLS context for these settings; it raises OSError or ValueError, in words."""

    def make() -> ssl.SSLContext:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = found.ssl_mode == "verify-identity"
        # Certificates as the servers make them for themselves do not pass the strict rules of newer Pythons.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if found.ssl_mode in ("verify-ca", "verify-identity"):
            context.verify_mode = ssl.CERT_REQUIRED
            if found.ssl_ca is None:
                context.load_default_certs()
            else:
                _load(found.ssl_ca, "--ssl-ca", lambda: context.load_verify_locations(cafile=found.ssl_ca))
        else:
            context.verify_mode = ssl.CERT_NONE
        if found.ssl_cert is not None:
            certificate = found.ssl_cert
            # An empty password: OpenSSL would ask the terminal for the one of an encrypted key, and wait.
            _load(certificate, "--ssl-cert", lambda: context.load_cert_chain(certificate, found.ssl_key, lambda: ""))
        elif found.ssl_key is not None:
            raise ValueError("--ssl-key without --ssl-cert")
        return context

    return make


def _load(path: str, option: str, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:
        raise ValueError(f"{option} {path}: {getattr(error, 'reason', None) or error.strerror}") from None


# --- making errors readable ---


def _server_error(error: Exception) -> int | None:
    """The number of an error that the server sent; None for one of the client's own."""
    import pymysql

    if not isinstance(error, pymysql.MySQLError) or not error.args or not isinstance(error.args[0], int):
        return None
    number = error.args[0]
    return None if 2000 <= number < 3000 or number <= 0 else number


def _text_of(error: Exception) -> str:
    """What an error says, without its number."""
    return str(error.args[-1]) if error.args else type(error).__name__


def _failure(
    connection: Connection, error: Exception, where: str, budget: float, purpose: str, secret: str
) -> ConnectFailed:
    """Why there is no connection (any more), in words."""
    trouble = connection.wire.trouble
    number = _server_error(error)
    text = scrubbed(_text_of(error), secret)
    if number is not None:
        if number in _ENDED:
            return _failure_on_wire("lost", text, where, budget, purpose)
        if number == _SHUTTING_DOWN:
            return ConnectFailed("server-down", f"{where}: the server is shutting down ({text})", lost=True)
        advice = _ADVICE.get(number, "the server refused the connection")
        if number == _DENIED and connection.ctx is None:
            # All that a MariaDB with require_secure_transport says.
            advice += ", or give --ssl-mode required if the server insists on TLS"
        return ConnectFailed("connect-failed", f"{where}: {advice} (error {number}: {text})")
    if trouble is not None:
        return _failure_on_wire(trouble.kind, scrubbed(trouble.detail, secret), where, budget, purpose)
    import pymysql

    if isinstance(error, RuntimeError) or (isinstance(error, pymysql.MySQLError) and error.args[:1] == (2059,)):
        return ConnectFailed(
            "connect-failed",
            f"{where}: the account's authentication method cannot be used here ({text}):"
            " use --ssl-mode required, or another method for the account",
        )
    if isinstance(error, pymysql.MySQLError) and error.args[:1] in ((2006,), (2013,)):
        return _failure_on_wire("lost", "", where, budget, purpose)
    return ConnectFailed(
        "connect-failed", f"{where}: an answer that is not MySQL's ({purpose}): check --host, --port and --socket"
    )


def _failure_on_wire(kind: str, detail: str, where: str, budget: float, purpose: str) -> ConnectFailed:
    if kind == "timeout":
        return _late(where, budget, purpose)
    if kind == "tls":
        return ConnectFailed("connect-failed", f"{where}: TLS failed: {detail}: check --ssl-mode and --ssl-ca")
    if kind == "plain":
        return ConnectFailed(
            "connect-failed",
            f"{where}: the server wants the password in clear text ({detail}): use --ssl-mode required",
        )
    if kind == "flood":
        return ConnectFailed(
            "connect-failed", f"{where}: an answer without end ({purpose}): this is not MySQL's, or not sane"
        )
    because = f": {detail}" if detail else ""
    return ConnectFailed("connect-failed", f"{where}: the server closed the connection ({purpose}){because}", lost=True)


def fail(condition: str, message: str) -> NoReturn:
    """Ends a look."""
    raise SampleFailed(condition, message)
