"""PyMySQL held to a deadline: every wait ends when it is over, and no server can make a client swallow without end.

Import this module only after `lean.load_pymysql()`.
"""

from __future__ import annotations

import io
import socket
import time

from pymysql import converters
from pymysql.connections import Connection as PyMySQLConnection
from pymysql.constants import CLIENT

from check_delayed_repl.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeAlias

    Base: TypeAlias = PyMySQLConnection[Any]
else:
    Base = PyMySQLConnection

MAX_BYTES = 8 << 20
MAX_READS = 200_000
"""What one look may read from a server, in bytes and in packets' parts: far above any real answer, far below harm."""

TIMEOUT, LOST, FLOOD, TLS, PLAIN = "timeout", "lost", "flood", "tls", "plain"
"""What may go wrong on a wire: see Trouble."""

_CLEARTEXT = (b"mysql_clear_password", b"dialog")
_ENCODERS: dict[int | type[Any], Any] = {
    kind: encoder for kind, encoder in converters.conversions.items() if not isinstance(kind, int)
}


class Trouble(NamedTuple):
    """Why a wire fell silent."""

    kind: str
    """TIMEOUT: the deadline passed. LOST: closed or broken by the other side. FLOOD: more than any real answer.
    TLS: no encryption as it was asked for. PLAIN: the server wanted the password without encryption."""
    detail: str = ""


class WireError(OSError):
    """Raised into PyMySQL, which closes the connection; the wire's `trouble` says why."""


class Wire:
    """A connected socket as PyMySQL uses one, with one deadline for all that is done on it."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket = sock
        self.trouble: Trouble | None = None
        self.until(deadline)

    def until(self, deadline: float) -> None:
        """A new stretch of work that must be over at `deadline`, a time.monotonic()."""
        self.deadline = deadline
        self.bytes_left = MAX_BYTES
        self.reads_left = MAX_READS

    def fail(self, kind: str, detail: str = "") -> NoReturn:
        """Notes what went wrong first, and raises WireError."""
        if self.trouble is None:
            self.trouble = Trouble(kind, detail)
        raise WireError(kind)

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            self.fail(TIMEOUT)
        self._socket.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self._arm()
        try:
            self._socket.sendall(data)
        except TimeoutError:
            self.fail(TIMEOUT)
        except OSError as error:
            self._broken(error)

    def recv_into(self, buffer: memoryview) -> int:
        if self.bytes_left <= 0:
            self.fail(FLOOD)
        self._arm()
        try:
            count = self._socket.recv_into(buffer)
        except TimeoutError:
            self.fail(TIMEOUT)
        except OSError as error:
            self._broken(error)
        if count == 0:
            self.fail(LOST)
        self.bytes_left -= count
        return count

    def _broken(self, error: OSError) -> NoReturn:
        # A server may refuse a client's certificate only once the handshake is over for the client.
        if type(error).__module__ == "ssl" and getattr(error, "reason", None):
            reason = str(getattr(error, "reason", ""))
            self.fail(LOST if "EOF" in reason else TLS, reason.replace("_", " ").lower())
        self.fail(LOST, error.strerror or "")

    def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """The TLS handshake; notes TLS as the trouble where it fails."""
        import ssl

        try:
            self._arm()
            self._socket = context.wrap_socket(self._socket, server_hostname=name, do_handshake_on_connect=False)
            self._arm()
            self._socket.do_handshake()
        except TimeoutError:
            self.fail(TIMEOUT)
        except ssl.SSLCertVerificationError as error:
            self.fail(TLS, (error.verify_message or "the server's certificate is not trusted").rstrip("."))
        except ssl.SSLError as error:
            self.fail(TLS, (error.reason or "no handshake").replace("_", " ").lower())
        except WireError:
            raise
        except (OSError, ValueError) as error:
            self.fail(TLS, getattr(error, "strerror", None) or str(error))

    # What PyMySQL asks of a socket beside that.

    def settimeout(self, _: float | None) -> None:
        """Nothing: the deadline rules."""

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        self._socket.close()


class _Reader(io.RawIOBase):
    """The reading side of a wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.recv_into(buffer)


class _Tls:
    """Stands where PyMySQL expects an ssl.SSLContext, so that the handshake too ends at the deadline."""

    def __init__(self, make: Callable[[], ssl.SSLContext]) -> None:
        self._make = make

    def wrap_socket(self, wire: Wire, server_hostname: str) -> Wire:
        try:
            context = self._make()
        except (OSError, ValueError) as error:
            wire.fail(TLS, str(error))
        wire.start_tls(context, server_hostname)
        return wire


class Connection(Base):
    """A PyMySQL connection over a Wire. Made by `server.connect`, which also makes its errors readable."""

    server_capabilities: int
    server_version: str

    def __init__(
        self,
        wire: Wire,
        *,
        local: bool,
        raw: bool,
        tls: Callable[[], ssl.SSLContext] | None,
        tls_required: bool,
        host: str,
        user: bytes,
        password: bytes,
        database: str | None,
    ) -> None:
        self.wire = wire
        self._raw = raw
        self._tls_required = tls_required
        super().__init__(
            host=host,
            user=user,
            password=password,
            database=database,
            charset="utf8mb4",
            # Values as the bytes that they are: what a server sends is read by those who know what it should be.
            conv=_ENCODERS if raw else None,
            use_unicode=not raw,
            autocommit=True,
            local_infile=False,
            ssl_disabled=True,
            defer_connect=True,
            program_name="check_delayed_repl",
        )
        self.ctx = _Tls(tls) if tls else None
        # On a local socket nobody listens: a password may be sent as the server asks for it.
        self._secure = local

    def until(self, deadline: float) -> None:
        """A new stretch of work on this connection that must be over at `deadline`, a time.monotonic()."""
        self.wire.until(deadline)

    def close(self) -> None:
        """Says goodbye where that takes no time; never waits, never raises."""
        try:
            self.wire.until(time.monotonic() + 0.2)
            if self.open:
                super().close()
        except Exception:  # noqa: BLE001  it is over either way
            self._force_close()  # type: ignore[attr-defined]

    # --- parts of PyMySQL that must behave differently here ---

    def _get_server_information(self) -> None:
        super()._get_server_information()  # type: ignore[misc]
        offered = bool(self.server_capabilities & CLIENT.SSL)
        if self._tls_required and not offered:
            self.wire.fail(TLS, "the server offers no TLS")
        # PyMySQL's versions differ in how they fall back to plain text; decided here, they cannot.
        self.ssl = self.ctx is not None and offered
        self._ssl_required = self._tls_required
        if self.ssl:
            self.client_flag |= CLIENT.SSL

    def _process_auth(self, plugin_name: bytes, auth_packet: Any, handler: Any = None) -> Any:
        if plugin_name in _CLEARTEXT and not self._secure:
            self.wire.fail(PLAIN, plugin_name.decode())
        return super()._process_auth(plugin_name, auth_packet, handler)  # type: ignore[misc]

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        # A look sets its whole session in a statement of its own, and so saves a round trip.
        if not self._raw:
            super().set_character_set(charset, collation)

    def _read_bytes(self, num_bytes: int) -> bytes:
        wire = self.wire
        wire.reads_left -= 1
        if wire.reads_left < 0 or num_bytes > MAX_BYTES:
            self._force_close()  # type: ignore[attr-defined]
            wire.fail(FLOOD)
        return bytes(super()._read_bytes(num_bytes))  # type: ignore[misc]
