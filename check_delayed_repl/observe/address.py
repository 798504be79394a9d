"""Where a target is and how to log in there: what was given outright, its option file, and the clients' defaults."""

from __future__ import annotations

from check_delayed_repl.light import NamedTuple
from check_delayed_repl.observe.optionfile import OptionFileError, read_options
from check_delayed_repl.observe.target import SSL_MODES, Target
from check_delayed_repl.records import CHANNEL_SEPARATOR
from check_delayed_repl.words import one_line, user_name

DEFAULT_PORT = 3306

# Groups that the clients of a MariaDB read beside their own.
_ALSO = {"client": ("client-server", "client-mariadb")}
_SSL_OPTIONS = {"ssl", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "ssl-verify-server-cert"}


class Settings(NamedTuple):
    """A target after its option file: what will be used."""

    host: str
    port: int
    socket: str | None
    """`@name` for an abstract one; empty for the usual place, or TCP where there is none; None for TCP."""
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
        if self.socket:
            return self.socket
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def settings(target: Target) -> Settings:
    """The target with its option file read; what is given outright beats the file. Raises OptionFileError.

    Host `localhost`, or none, without a port means the local socket, as with the servers' own clients; a host that is
    given beats a socket from the file.
    """
    file = from_file(target)
    host = target.host or file.get("host") or "localhost"
    port = target.port or _port(target, file)
    by_tcp = not target.host and (file.get("protocol") or "").lower() == "tcp"
    if host != "localhost":
        path = None
    elif target.socket is not None:
        path = target.socket
    elif target.port is not None or by_tcp:
        path = None
    else:
        path = file.get("socket") or (None if port else "")
    return Settings(
        host=host,
        port=port or DEFAULT_PORT,
        socket=path,
        user=target.user or file.get("user") or user_name(),
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


def from_file(target: Target) -> dict[str, str | None]:
    """The options of a target's option file; nothing where it has none. Raises OptionFileError."""
    if target.defaults_file is None:
        return {}
    groups = (target.defaults_group, *_ALSO.get(target.defaults_group, ()))
    file = read_options(target.defaults_file, groups)
    if file is None:
        listed = " or ".join(f"[{group}]" for group in groups)
        raise OptionFileError(f"{target.defaults_file}: there is no group {listed}: see --defaults-group")
    found = {}
    for name, value in file.items():
        loose, name = name.startswith("loose-"), name.removeprefix("loose-")
        bare = name.removeprefix("skip-").removeprefix("disable-").removeprefix("enable-")
        if bare.startswith(("ssl", "tls-")) and bare not in _SSL_OPTIONS and not loose:
            raise OptionFileError(
                f"{target.defaults_file}: {one_line(name, 64)} is not supported: without it, or with loose- before it,"
                " the other options can be used"
            )
        found[name] = value
    return found


def _port(target: Target, file: dict[str, str | None]) -> int | None:
    text = file.get("port")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65535):
        raise OptionFileError(f"{target.defaults_file}: port is not a whole number from 1 to 65535")
    return int(text) or None


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
