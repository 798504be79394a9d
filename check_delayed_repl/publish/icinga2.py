"""Results for Icinga 2, through its API's process-check-result."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from check_delayed_repl.publish.mailbox import NotDelivered
from check_delayed_repl.publish.result import Result
from check_delayed_repl.words import clean

IN_FLIGHT = 4
"""Requests at the same time."""
TIMEOUT_S = 10.0
UNWANTED = (400, 404)
"""Icinga has no such object, or will not take this result however often it is sent."""
TTL_INTERVALS = 3
"""A result is good for so many publish-intervals; after that Icinga runs the service's own check."""


def body(result: Result, ttl_s: float, source: str) -> dict[str, object]:
    """What process-check-result takes for one verdict."""
    first, _, rest = result.output().rstrip("\n").partition("\n")
    words, _, perfdata = first.partition(" | ")
    return {
        "type": "Service",
        "exit_status": int(result.verdict.state),
        "plugin_output": f"{words}\n{rest}" if rest else words,
        "performance_data": perfdata.split(),
        "check_source": source,
        "ttl": ttl_s,
    }


class Icinga:
    """One Icinga, at one of several addresses: where one does not answer, the next is tried.

    An object that Icinga does not know is passed over: it holds nobody up.
    """

    name = "icinga2"

    def __init__(self, urls: Sequence[str], user: str, password: str, ca: str | None, publish_interval: float) -> None:
        self._urls = list(urls)
        token = b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": f"Basic {token}",
        }
        self._ttl_s = TTL_INTERVALS * publish_interval
        self._source = socket.gethostname()
        self._tls = ssl.create_default_context(cafile=ca)

    def deliver(self, results: list[Result]) -> int:
        """Hands all of them over, several at a time; returns how many Icinga has no object for."""
        for place, url in enumerate(self._urls):
            unwanted, rest, reason = self._deliver_to(url, results)
            if not rest:
                if place:
                    self._urls.insert(0, self._urls.pop(place))
                return unwanted
            results = rest
        raise NotDelivered(reason, results)

    def _deliver_to(self, url: str, results: list[Result]) -> tuple[int, list[Result], str]:
        """How many nobody wanted, which were not taken, and why."""
        work: queue.SimpleQueue[Result] = queue.SimpleQueue()
        for result in results:
            work.put(result)
        rest: list[Result] = []
        unwanted: list[str] = []
        reasons: list[str] = []

        def hand_over() -> None:
            connection = self._connection(url)
            try:
                while not reasons:
                    try:
                        result = work.get_nowait()
                    except queue.Empty:
                        return
                    try:
                        if not self._post(connection, result):
                            unwanted.append(result.subject.name)
                    except (OSError, http.client.HTTPException, ValueError) as error:
                        rest.append(result)
                        reasons.append(f"{url}: {_reason(error)}")
            finally:
                connection.close()

        threads = [
            threading.Thread(target=hand_over, name=self.name, daemon=True) for _ in range(min(IN_FLIGHT, len(results)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        while not work.empty():
            rest.append(work.get_nowait())
        return len(unwanted), rest, reasons[0] if reasons else ""

    def _connection(self, url: str) -> http.client.HTTPSConnection:
        parts = urlsplit(url)
        return http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 5665, timeout=TIMEOUT_S, context=self._tls
        )

    def _post(self, connection: http.client.HTTPSConnection, result: Result) -> bool:
        """Whether Icinga has an object for it. Raises ValueError where it refuses."""
        subject = result.subject
        service = quote(f"{subject.object_host}!{subject.object_service}", safe="")
        connection.request(
            "POST",
            f"/v1/actions/process-check-result?service={service}",
            json.dumps(body(result, self._ttl_s, self._source)),
            self._headers,
        )
        answer = connection.getresponse()
        said = answer.read()
        if answer.status in UNWANTED:
            return False
        if answer.status != http.client.OK:
            raise ValueError(f"HTTP {answer.status}: {_status(said)}")
        return True


def _status(said: bytes) -> str:
    try:
        return clean(str(json.loads(said)["status"]), 200)
    except (ValueError, TypeError, KeyError):
        return clean(said[:200].decode(errors="replace")) or "no text"


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}): see icinga2-ca"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    return clean(str(error) or type(error).__name__)
