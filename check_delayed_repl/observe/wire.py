"""PyMySQL held to a deadline: every wait ends when it is over, and no server can make a client swallow without end.

Import this module only after `lean.load_pymysql()`.
"""

from __future__ import annotations

import io
import socket
import time

from pymysql import converters
from pymysql.connections import Connection as PyMySQLConnection
from pymysql.constants import CLIENT, CR
from pymysql.err import MySQLError
from pymysql.protocol import MysqlPacket

from check_delayed_repl.light import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Any, NoReturn

    from check_delayed_repl.observe.address import Settings
    from check_delayed_repl.observe.names import Address

MAX_BYTES = 8 << 20
MAX_VALUES = 4_000_000
MAX_SAMPLE_VALUES = 200_000
"""What one stretch of work may read from a server: far above any real answer. A value of two bytes takes forty."""

TIMEOUT, LOST, FLOOD, TLS, PLAIN = "timeout", "lost", "flood", "tls", "plain"
"""What may go wrong on a wire. TIMEOUT: the deadline passed. LOST: closed or broken by the other side. FLOOD: more than
any real answer. TLS: no encryption as it was asked for. PLAIN: the server wanted the password without encryption."""

# What hands the password, or what is as good as that, to whoever asks for it.
_CLEARTEXT = (b"mysql_clear_password", b"dialog", b"mysql_old_password")
_ENCODERS: dict[int | type[Any], Any] = {
    kind: encoder for kind, encoder in converters.conversions.items() if not isinstance(kind, int)
}


class WireError(OSError):
    """Why a wire fell silent. Raised into PyMySQL, which closes the connection and raises something else."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail


class Wire:
    """A connected socket as PyMySQL uses one, with one deadline for all that is done on it, its handshake too."""

    def __init__(self, sock: socket.socket, found: Settings, deadline: float, values: int) -> None:
        self._socket = sock
        self._found = found
        self._values = values
        self.trouble: WireError | None = None
        self.until(deadline)

    def until(self, deadline: float) -> None:
        """A new stretch of work that must be over at `deadline`, a time.monotonic()."""
        self.deadline = deadline
        self.budget = deadline - time.monotonic()
        """How many seconds there were for it all."""
        self.bytes_left = MAX_BYTES
        self.values_left = self._values

    def fail(self, kind: str, detail: str = "") -> NoReturn:
        """Notes what went wrong first, and raises it."""
        self.trouble = self.trouble or WireError(kind, detail)
        raise self.trouble

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            self.fail(TIMEOUT)
        self._socket.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self._by_deadline(self._socket.sendall, data)

    def recv_into(self, buffer: memoryview) -> int:
        if self.bytes_left <= 0:
            self.fail(FLOOD)
        count: int = self._by_deadline(self._socket.recv_into, buffer)
        if count == 0:
            self.fail(LOST)
        self.bytes_left -= count
        return count

    def _by_deadline(self, call: Callable[[Any], Any], data: bytes | memoryview) -> Any:
        self._arm()
        try:
            return call(data)
        except TimeoutError:
            self.fail(TIMEOUT)
        except OSError as error:
            # A server may refuse a client's certificate only once the handshake is over for the client.
            if type(error).__module__ == "ssl" and getattr(error, "reason", None):
                reason = str(getattr(error, "reason", ""))
                self.fail(LOST if "EOF" in reason else TLS, reason.replace("_", " ").lower())
            self.fail(LOST, error.strerror or "")

    def wrap_socket(self, _: Wire, server_hostname: str) -> Wire:
        """Does the TLS handshake, in the place of an ssl.SSLContext; notes TLS as the trouble where it fails."""
        import ssl

        try:
            self._arm()
            context = _tls_context(self._found)
            wrapped = context.wrap_socket(self._socket, server_hostname=server_hostname, do_handshake_on_connect=False)
            self._socket = wrapped
            self._arm()
            wrapped.do_handshake()
            return self
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


def _tls_context(found: Settings) -> ssl.SSLContext:
    """TLS as a target's settings ask for it. Raises OSError or ValueError, in words."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = found.ssl_mode == "verify-identity"
    # Certificates as the servers make them for themselves do not pass the strict rules of newer Pythons.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_mode = ssl.CERT_REQUIRED if found.ssl_mode.startswith("verify-") else ssl.CERT_NONE
    if found.ssl_key is not None and found.ssl_cert is None:
        raise ValueError("--ssl-key without --ssl-cert")
    option = f"--ssl-ca {found.ssl_ca}"
    try:
        if context.verify_mode == ssl.CERT_REQUIRED:
            if found.ssl_ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(cafile=found.ssl_ca)
        if found.ssl_cert is not None:
            option = f"--ssl-cert {found.ssl_cert}"
            # An empty password: OpenSSL would ask the terminal for the one of an encrypted key, and wait.
            context.load_cert_chain(found.ssl_cert, found.ssl_key, lambda: "")
    except OSError as error:
        raise ValueError(f"{option}: {getattr(error, 'reason', None) or error.strerror}") from None
    return context


class _Reader(io.RawIOBase):
    """The reading side of a wire."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._wire.recv_into(buffer)


class Connection(PyMySQLConnection):
    """A PyMySQL connection over a Wire. Made by `connection.connect`, which also makes its errors readable."""

    server_capabilities: int
    server_version: str

    def __init__(
        self, wire: Wire, found: Settings, address: Address | None, database: str | None, *, raw: bool
    ) -> None:
        self.wire = wire
        self.where = found.where
        """What the server is called in messages."""
        self.secret = found.password
        self.address = address
        """Where the other side is; None for a local socket."""
        self.unusable = ""
        """The authentication method that the server wants and that cannot be used."""
        self._raw = raw
        self.keep: int | None = None
        """Of a row, so many bytes are kept: the rest, of its last value, is read and dropped. None keeps all."""
        self._columns = 0
        self._describing = False
        self._tls_required = found.ssl_mode not in ("disabled", "preferred")
        super().__init__(
            host=found.host,
            user=found.user.encode("utf-8", "surrogateescape"),
            password=found.password.encode("utf-8", "surrogateescape"),
            database=database,
            charset="utf8mb4",
            # Values as the bytes that they are: what a server sends is read by those who know what it should be.
            conv=_ENCODERS if raw else None,
            use_unicode=not raw,
            autocommit=True,
            local_infile=False,
            ssl_disabled=True,
            defer_connect=True,
            client_flag=CLIENT.MULTI_STATEMENTS if raw else 0,
            program_name="check_delayed_repl",
        )
        # Nobody can listen on a local socket: like the servers' own clients, encrypt only where that is demanded.
        wanted = self._tls_required or (found.ssl_mode == "preferred" and address is not None)
        self.ctx = wire if wanted else None
        # On a local socket nobody listens: a password may be sent as the server asks for it.
        self._secure = address is None

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
        if plugin_name in _CLEARTEXT:
            self._only_in_private(plugin_name.decode())
        try:
            return super()._process_auth(plugin_name, auth_packet, handler)  # type: ignore[misc]
        except (RuntimeError, MySQLError) as error:
            if isinstance(error, RuntimeError) or error.args[:1] == (CR.CR_AUTH_PLUGIN_CANNOT_LOAD,):
                self.unusable = plugin_name.decode("utf-8", "replace")
            raise

    @property
    def server_public_key(self) -> bytes:
        """What PyMySQL asks for before it sends a password under a key that the other side has just named."""
        self._only_in_private("under a key of its own")
        return b""

    @server_public_key.setter
    def server_public_key(self, _: bytes | None) -> None:
        pass

    def _only_in_private(self, method: str) -> None:
        if not self._secure:
            self.wire.fail(PLAIN, method)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        # A sample sets its whole session in a statement of its own, and so saves a round trip.
        if not self._raw:
            super().set_character_set(charset, collation)

    def _read_packet(self, packet_type: type[MysqlPacket] = MysqlPacket) -> Any:
        # Descriptions of columns come one after the other, then the rows.
        described = packet_type is not MysqlPacket
        self._columns = self._columns + 1 if described and self._describing else 0 if described else self._columns
        self._describing = described
        wire = self.wire
        wire.values_left -= 1 + self._columns
        if wire.values_left < 0:
            self._flood()
        packet = super()._read_packet(packet_type)  # type: ignore[no-untyped-call]
        if self.keep is not None and len(packet._data) >= self.keep:  # noqa: SLF001
            packet._data = _closed(packet._data)  # noqa: SLF001
        return packet

    def _read_bytes(self, num_bytes: int) -> bytes:
        if num_bytes > self.wire.bytes_left:
            self._flood()
        kept = num_bytes if self.keep is None else min(num_bytes, self.keep)
        data = bytes(super()._read_bytes(kept))  # type: ignore[misc]
        while kept < num_bytes:
            kept += len(super()._read_bytes(min(num_bytes - kept, 1 << 16)))  # type: ignore[misc]
        return data

    def _flood(self) -> NoReturn:
        self._force_close()  # type: ignore[attr-defined]
        self.wire.fail(FLOOD)


def _closed(row: bytes) -> bytes:
    """A row that was cut in its last value, which now ends where the row does."""
    at = 0
    while at < len(row):
        width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(row[at], 0)
        begins = at + 1 + width
        size = 0 if row[at] == 0xFB else int.from_bytes(row[at + 1 : begins], "little") if width else row[at]
        if begins + size > len(row):
            return row[:at] + b"\xfe" + (len(row) - begins).to_bytes(8, "little") + row[begins:]
        at = begins + size
    return row
