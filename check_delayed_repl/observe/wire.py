"""PyMySQL held to a deadline: every wait ends when it is over, and no server can make a client swallow without end."""

from __future__ import annotations

import check_delayed_repl.observe.lean  # noqa: F401

# isort: split
import sys
import time

from pymysql import converters
from pymysql.connections import Connection as PyMySQLConnection
from pymysql.constants import CLIENT, CR
from pymysql.err import MySQLError
from pymysql.protocol import MysqlPacket

from check_delayed_repl.light import TYPE_CHECKING
from check_delayed_repl.observe.failures import ConnectFailed, Refused, late, scrubbed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from socket import socket
    from typing import Any

    from check_delayed_repl.observe.address import Settings
    from check_delayed_repl.observe.names import Address

MAX_BYTES = 64 << 20
MAX_VALUES = 4_000_000
MAX_SAMPLE_BYTES = 8 << 20
MAX_SAMPLE_VALUES = 200_000
"""What one stretch of work may read from a history, or for a sample from its server: far above any real answer. Of a
history, 500 rows with all texts as long as they may be are 43 MB, and a fold has up to 16. A value of two bytes takes
forty."""

# What hands the password, or what is as good as that, to whoever asks for it.
_CLEARTEXT = (b"mysql_clear_password", b"dialog", b"mysql_old_password")
# What authentication methods need beside PyMySQL.
_PACKAGES = {"client_ed25519": "PyNaCl"}
_ENCODERS: dict[int | type[Any], Any] = {
    kind: encoder for kind, encoder in converters.conversions.items() if not isinstance(kind, int)
}
_TROUBLES = {
    "tls": "TLS failed: {detail}: check --ssl-mode, --ssl-ca and --ssl-cert",
    "plain": "the server asks for the password over a connection without TLS ({detail}), where others could read it:"
    " use --ssl-mode required",
    "flood": "reply too large ({purpose}): not a MySQL server, or one that is not in order",
    "lost": "the server closed the connection ({purpose}){because}",
}


class Connection(PyMySQLConnection):
    """A PyMySQL connection with one deadline for all that is done on it. Made by `connection.connect`.

    Where the server answers with an error it raises Refused, and ConnectFailed where that is the end of it: PyMySQL
    lets these through.
    """

    _sock: Any
    server_capabilities: int
    server_version: str

    def __init__(
        self, found: Settings, address: Address | None, deadline: float, database: str | None, *, raw: bool
    ) -> None:
        self.where = found.where
        """What the server is called in messages."""
        self.secret = found.password
        self.address = address
        """Where the other side is; None for a local socket."""
        self.purpose = "logging in"
        """What is being done, in messages."""
        self.ended: ConnectFailed | None = None
        """Why it is over, once it is."""
        self.keep: int | None = None
        """Of a row, so many bytes are kept: the rest, of its last value, is read and dropped. None keeps all."""
        self._found = found
        self._raw = raw
        self._received = bytearray()
        self._columns = 0
        self._describing = False
        self._tls_required = found.ssl_mode not in ("disabled", "preferred")
        # Nobody can listen on a local socket: like the servers' own clients, encrypt only where that is demanded.
        self.encrypts = self._tls_required or (found.ssl_mode == "preferred" and address is not None)
        self.until(deadline)
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
        # On a local socket nobody listens: a password may be sent as the server asks for it.
        self._secure = address is None

    def until(self, deadline: float) -> None:
        """A new stretch of work on this connection that must be over at `deadline`, a time.monotonic()."""
        self._deadline = deadline
        self.budget = deadline - time.monotonic()
        """How many seconds there were for it all."""
        self.bytes_left = MAX_SAMPLE_BYTES if self._raw else MAX_BYTES
        self._values_left = MAX_SAMPLE_VALUES if self._raw else MAX_VALUES

    def close(self) -> None:
        """Says goodbye where that takes no time; never waits, never raises."""
        if self.open:
            self.until(time.monotonic() + 0.2)
            super().close()

    def failure(self, kind: str, detail: str = "") -> ConnectFailed:
        """What ends the connection, of one of these kinds, in words.

        `timeout`: the deadline passed. `lost`: closed or broken by the other side. `flood`: more than any real answer.
        `tls`: no encryption as it was asked for. `plain`: the server wanted the password without encryption.
        """
        if kind == "timeout":
            return late(self.where, self.budget, self.purpose)
        detail = scrubbed(detail, self.secret)
        because = f": {detail}" if detail else ""
        text = _TROUBLES[kind].format(detail=detail, purpose=self.purpose, because=because)
        return ConnectFailed("connect-failed", f"{self.where}: {text}", kind)

    # --- the socket ---

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self.failure("timeout")
        self._sock.settimeout(left)

    def _by_deadline(self, call: Callable[[Any], Any], what: bytes | int) -> Any:
        self._arm()
        try:
            return call(what)
        except TimeoutError:
            raise self.failure("timeout") from None
        except OSError as error:
            # A server may refuse a client's certificate only once the handshake is over for the client.
            if type(error).__module__ == "ssl" and (reason := str(getattr(error, "reason", None) or "")):
                raise self.failure("lost" if "EOF" in reason else "tls", reason.replace("_", " ").lower()) from None
            raise self.failure("lost", error.strerror or "") from None
        except BaseException:
            # Interrupted: the next question would get the answer to this one.
            self._force_close()  # type: ignore[attr-defined]
            raise

    def _write_bytes(self, data: bytes) -> None:
        self._by_deadline(self._sock.sendall, data)

    def _read_bytes(self, num_bytes: int) -> bytes:
        if num_bytes > self.bytes_left:
            raise self.failure("flood")
        kept = num_bytes if self.keep is None else min(num_bytes, self.keep)
        data = self._next(kept)
        while kept < num_bytes:
            kept += len(self._next(min(num_bytes - kept, 1 << 16)))
        return data

    def _next(self, count: int) -> bytes:
        received = self._received
        while len(received) < count:
            if self.bytes_left <= 0:
                raise self.failure("flood")
            more = self._by_deadline(self._sock.recv, 1 << 16)
            if not more:
                raise self.failure("lost")
            self.bytes_left -= len(more)
            received += more
        data = bytes(received[:count])
        del received[:count]
        return data

    @property
    def ctx(self) -> Connection:
        """What PyMySQL takes for an SSLContext."""
        return self

    def wrap_socket(self, plain: socket, server_hostname: str) -> ssl.SSLSocket:
        """Does the TLS handshake."""
        import ssl

        self._received.clear()  # what came before it may be anybody's
        self._arm()
        try:
            context = _tls_context(self._found)
            wrapped = context.wrap_socket(plain, server_hostname=server_hostname, do_handshake_on_connect=False)
            self._sock = wrapped
            self._arm()
            wrapped.do_handshake()
            return wrapped
        except TimeoutError:
            raise self.failure("timeout") from None
        except ssl.SSLError as error:
            reason = (error.reason or "no handshake").replace("_", " ").lower()
            raise self.failure("tls", getattr(error, "verify_message", "").rstrip(".") or reason) from None
        except (OSError, ValueError) as error:
            raise self.failure("tls", getattr(error, "strerror", None) or str(error)) from None

    # --- parts of PyMySQL that must behave differently here ---

    def _get_server_information(self) -> None:
        super()._get_server_information()  # type: ignore[misc]
        offered = bool(self.server_capabilities & CLIENT.SSL)
        if self._tls_required and not offered:
            raise self.failure("tls", "the server offers no TLS")
        # PyMySQL's versions differ in how they fall back to plain text; decided here, they cannot.
        self.ssl = self.encrypts and offered
        if self.ssl:
            self.client_flag |= CLIENT.SSL

    def _process_auth(self, plugin_name: bytes, *more: Any) -> Any:  # PyMySQL 1.1 gives one argument less than 1.2
        if plugin_name in _CLEARTEXT:
            self._only_in_private(plugin_name.decode())
        try:
            return super()._process_auth(plugin_name, *more)  # type: ignore[misc]
        except (RuntimeError, MySQLError) as error:
            if not isinstance(error, RuntimeError) and error.args[:1] != (CR.CR_AUTH_PLUGIN_CANNOT_LOAD,):
                raise
        method = scrubbed(plugin_name.decode("utf-8", "replace"), self.secret)
        advice = "is not supported: use another one for the account"
        if package := _PACKAGES.get(method):
            advice = f"needs the Python package {package}: install it ({sys.executable} -m pip install {package})"
        text = f"{self.where}: the account's authentication method {method} {advice}"
        raise ConnectFailed("connect-failed", text)

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
            raise self.failure("plain", method)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        # A sample sets its whole session in a statement of its own, and so saves a round trip.
        if not self._raw:
            super().set_character_set(charset, collation)

    def _read_packet(self, packet_type: type[MysqlPacket] = MysqlPacket) -> Any:
        # Descriptions of columns come one after the other, then the rows.
        described = packet_type is not MysqlPacket
        if described:
            self._columns = self._columns + 1 if self._describing else 0
        self._describing = described
        self._values_left -= 1 + self._columns
        if self._values_left < 0:
            raise self.failure("flood")
        try:
            packet = super()._read_packet(packet_type)  # type: ignore[no-untyped-call]
        except MySQLError as error:
            number, text = error.args[0], str(error.args[-1])
            if not isinstance(number, int) or number <= 0 or 2000 <= number < 3000:
                raise  # one of the client's own
            raise Refused(number, scrubbed(text, self.secret)) from None
        if self.keep is not None and len(packet._data) >= self.keep:  # noqa: SLF001
            packet._data = _closed(packet._data)  # noqa: SLF001
        return packet


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
