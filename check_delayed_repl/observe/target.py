"""Which server to take samples of, and how to get in. Plain data, as the options or the TOML file give it."""

from __future__ import annotations

from check_delayed_repl.light import NamedTuple

SSL_MODES = ("disabled", "preferred", "required", "verify-ca", "verify-identity")


class Target(NamedTuple):
    """None means: not given here, so an option file or the default decides."""

    host: str | None = None
    port: int | None = None
    socket: str | None = None
    user: str | None = None
    password: str | None = None
    defaults_file: str | None = None
    defaults_group: str = "client"
    ssl_mode: str | None = None
    """One of SSL_MODES; None is `preferred`."""
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None
    channel: str | None = None
    """A MySQL channel or a MariaDB connection name."""
    heartbeat_table: str = "percona.heartbeat"
    master_server_id: int | None = None
    """The heartbeat row to read, in place of the row of the channel's source."""
    heartbeat_timezone: str | None = None
    """IANA zone of the heartbeat writers that run without --utc."""
    local_heartbeat: bool = True

    def __repr__(self) -> str:
        given = {name: value for name, value in self._asdict().items() if value is not None}
        if "password" in given:
            given["password"] = "***"  # noqa: S105  (hides one)
        return f"Target({', '.join(f'{name}={value!r}' for name, value in given.items())})"
