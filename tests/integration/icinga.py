"""Icinga 2 on a Station: started alone or as a node of a cluster, and asked by its API."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from .monitoring import USER, Station
from .servers import wait_until

API_USER = ("tests", "tests-secret")
TOLD = "/var/lib/icinga2/told.log"
CERTIFICATES = "/var/lib/icinga2/certs"

T = TypeVar("T")

API_ACCOUNT = f"""
object ApiUser "{API_USER[0]}" {{
  password = "{API_USER[1]}"
  permissions = [ "*" ]
}}
"""

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
TELL = f"""
object NotificationCommand "tell" {{
  command = [ "/bin/sh", "-c", "echo $$USER_NAME,$$TYPE,$$HOST,$$SERVICE,$$STATE >> {TOLD}" ]
  env.USER_NAME = "$user.name$"
  env.TYPE = "$notification.type$"
  env.HOST = "$host.name$"
  env.SERVICE = "$service.name$"
  env.STATE = "$service.state$"
}}
object TimePeriod "24x7" {{
  ranges = {{
    {"; ".join(f'{day} = "00:00-24:00"' for day in DAYS)}
  }}
}}
"""
"""A notification command that writes down who was told, and the period that the examples name."""


class Icinga:
    """One node. `start` runs it with what was put into its folders before."""

    def __init__(self, station: Station) -> None:
        self.station = station
        # Debian's own objects watch the machine itself.
        station.run("rm -f /etc/icinga2/conf.d/*.conf")

    def set_up_alone(self) -> None:
        """A certificate authority and the API, by Icinga's own command."""
        self.station.run(f"icinga2 api setup --cn {self.station.name}")
        self.station.put({"/etc/icinga2/conf.d/api-users.conf": API_ACCOUNT})

    def start_alone(self, files: Mapping[str, str]) -> Icinga:
        """Up with these files of conf.d, its API answering."""
        self.set_up_alone()
        self.station.put({f"/etc/icinga2/conf.d/{name}": text for name, text in files.items()})
        self.start().answered(lambda: self.get("status"), 60, "the API answers")
        return self

    def start(self) -> Icinga:
        """Start the daemon, which ends at once where its configuration has errors."""
        station = self.station
        station.run(
            "mkdir -p /run/icinga2 && /usr/lib/icinga2/prepare-dirs && chown -R nagios: /etc/icinga2 /var/lib/icinga2"
        )
        station.spawn("icinga2 daemon", "/tmp/icinga2.out", user=USER)
        return self

    def kill(self) -> None:
        """End it at once (SIGKILL), with all its processes: the next start finds nobody in its folders."""
        self.station.run("pkill -9 icinga2; while pgrep icinga2; do sleep 0.1; done")

    def log(self) -> str:
        return self.station.read("/var/log/icinga2/icinga2.log")

    # The API

    def get(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """The results of a query. Raises OSError where the API does not answer."""
        return self._ask("GET", path, body)

    def action(self, name: str, **body: Any) -> list[dict[str, Any]]:
        return self._ask("POST", f"actions/{name}", body)

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        url = f"https://127.0.0.1:{self.station.api_port}/"
        passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
        passwords.add_password(None, url, *API_USER, is_authenticated=True)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=self._tls),
            urllib.request.HTTPBasicAuthHandler(passwords),
        )
        headers = {"Accept": "application/json", "X-HTTP-Method-Override": method}
        request = urllib.request.Request(f"{url}v1/{path}", json.dumps(body).encode(), headers, method="POST")
        with opener.open(request, timeout=10) as answer:
            results: list[dict[str, Any]] = json.load(answer)["results"]
        return results

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.station.read(f"{CERTIFICATES}/ca.crt"))
        context.check_hostname = False  # reached by a published port
        return context

    def service(self, host: str, name: str) -> dict[str, Any]:
        (found,) = self.get(f"objects/services?service={host}!{name}".replace(" ", "%20"))
        attributes: dict[str, Any] = found["attrs"]
        return attributes

    def submit(self, host: str, name: str) -> dict[str, Any]:
        """Have a check executed now; the service once its result is in."""
        before = (self.service(host, name)["last_check_result"] or {}).get("execution_end", 0.0)
        chosen = f'host.name == "{host}" && service.name == "{name}"'
        self.action("reschedule-check", type="Service", filter=chosen, force=True)
        return self.executed(host, name, before, 20)

    def executed(self, host: str, name: str, after: float, within_s: float) -> dict[str, Any]:
        """Wait for the result of a check that was executed after that time; the service."""

        def there() -> dict[str, Any] | None:
            found = self.service(host, name)
            result = found["last_check_result"]
            return found if result and result["execution_start"] > after else None

        return self.answered(there, within_s, f"a result of {host}!{name}")

    def expect(self, host: str, name: str, state: str, text: str, within_s: float) -> dict[str, Any]:
        """Wait until a service has this state, with this in its output, long or short."""
        code = ("OK", "WARNING", "CRITICAL", "UNKNOWN").index(state)

        def there() -> dict[str, Any] | None:
            found = self.service(host, name)
            result = found["last_check_result"]
            return found if result and found["state"] == code and text in result["output"] else None

        try:
            return self.answered(there, within_s, f"{host}!{name}: {state} {text}")
        except AssertionError as error:
            said = self.station.read("/tmp/icinga2.out")[-2000:]
            raise AssertionError(f"{error}\n{said}\n{self.log()[-2000:]}") from None

    def answered(self, ask: Callable[[], T | None], within_s: float, what: str) -> T:
        """Wait until `ask` gives something true; an API that does not answer, or does not know yet, is not yet."""

        def quiet() -> T | None:
            try:
                return ask()
            except (OSError, ValueError):
                return None

        found = wait_until(quiet, within_s, what, interval_s=0.3)
        assert found is not None
        return found

    def told(self) -> list[tuple[str, ...]]:
        """Everybody who was told anything: user, kind, host, service, state."""
        return [tuple(line.split(",")) for line in self.station.read(TOLD).splitlines()]
