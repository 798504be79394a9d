"""Results for Icinga 2, through its API's process-check-result."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPSConnection
from urllib.parse import quote, urlsplit

from check_delayed_repl.publish.mailbox import NotDelivered
from check_delayed_repl.publish.result import Result
from check_delayed_repl.words import clean

IN_FLIGHT = 4
"""Requests at the same time."""
TIMEOUT_S = 10.0
"""For one request, however slowly an answer drips in."""
MOST_BYTES = 65_536
"""Of an answer: more than Icinga has to say to one result."""
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

    A result that Icinga does not take, for an object that it does not know above all, holds nobody up.
    """

    name = "icinga2"

    def __init__(self, urls: Sequence[str], user: str, password: str, ca: str | None, publish_interval: float) -> None:
        """Raises OSError where `ca` cannot be used."""
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
        self._idle: dict[str, list[HTTPSConnection]] = {}
        """Connections to be used again, by address: TLS is most of what a result costs."""

    def deliver(self, results: list[Result]) -> dict[str, str]:
        """Hands all of them over, several at a time; returns why Icinga does not want some, by replica.

        Raises NotDelivered.
        """
        unwanted: dict[str, str] = {}
        for place, url in enumerate(self._urls):
            batch = _Batch(url, results)
            self._deliver(batch)
            unwanted |= batch.unwanted
            if not batch.rest:
                if place:
                    self._urls.insert(0, self._urls.pop(place))
                return unwanted
            results = batch.rest
        raise NotDelivered(batch.reason, results, unwanted)

    def close(self) -> None:
        """Ends the connections that are open."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _deliver(self, batch: _Batch) -> None:
        count = min(IN_FLIGHT, len(batch.waiting))
        threads = [threading.Thread(target=self._post_all, args=(batch,), daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(1.0)
                batch.cut()
        batch.rest += batch.waiting

    def _post_all(self, batch: _Batch) -> None:
        """Hands over what is left of a batch, over one connection."""
        idle = self._idle.setdefault(batch.url, [])
        try:
            connection = idle.pop()
        except IndexError:
            parts = urlsplit(batch.url)
            connection = HTTPSConnection(parts.hostname or "", parts.port or 5665, timeout=TIMEOUT_S, context=self._tls)
        while (result := batch.next()) is not None:
            until = batch.until[connection] = time.monotonic() + TIMEOUT_S
            try:
                path = f"/v1/actions/process-check-result?service={quote(object_name(result), safe='')}"
                content = json.dumps(body(result, self._ttl_s, self._source))
                batch.answered(result, *_post(connection, path, content, self._headers))
            except Exception as error:  # noqa: BLE001 - whatever it is, no result may be lost
                batch.failed(result, TimeoutError() if time.monotonic() >= until else error)
                connection.close()
                return
        batch.until.pop(connection, None)
        idle.append(connection)


def object_name(result: Result) -> str:
    return f"{result.replica.object_host}!{result.replica.object_service}"


class _Batch:
    """Results on their way to one address, and what became of them. Used by several threads."""

    def __init__(self, url: str, results: list[Result]) -> None:
        self.url = url
        self.rest: list[Result] = []
        """Those that were not taken, and are to be sent again."""
        self.reason = ""
        """Why the first of them was not taken."""
        self.unwanted: dict[str, str] = {}
        self.waiting = deque(results)
        self.until: dict[HTTPSConnection, float] = {}
        """When each connection's request has had its time, by time.monotonic()."""
        self._stopped = False

    def next(self) -> Result | None:
        with suppress(IndexError):
            return None if self._stopped else self.waiting.popleft()
        return None

    def answered(self, result: Result, status: int, said: bytes) -> None:
        """Raises ValueError where Icinga takes none at all, or it is no Icinga that answers."""
        status, text, of_object = _meaning(status, said)
        if of_object and status // 100 == 2:
            return
        if status in (400, 404) or (of_object and status < 500):
            # No such object, no passive checks for it, a newer result: it will not do however often it is sent.
            self.unwanted[result.replica.name] = f"{object_name(result)}: HTTP {status}: {text}"
        elif status >= 500:
            # Perhaps of this object alone, perhaps about to end.
            self._keep(result, f"HTTP {status}: {text}")
        else:
            raise ValueError(f"HTTP {status}: {text}")

    def failed(self, result: Result, error: Exception) -> None:
        self._stopped = True
        self._keep(result, _reason(error))

    def cut(self) -> None:
        """Ends requests that have had their time: an answer that drips in keeps the socket's own from running out."""
        for connection, until in list(self.until.items()):
            if (sock := connection.sock) is not None and time.monotonic() >= until:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _keep(self, result: Result, reason: str) -> None:
        self.rest.append(result)
        self.reason = self.reason or f"{self.url}: {reason}"


def _post(connection: HTTPSConnection, path: str, content: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and the beginning of the answer; a connection that was closed meanwhile is made anew."""
    used = connection.sock is not None
    try:
        connection.request("POST", path, content, headers)
        answer = connection.getresponse()
        said = answer.read(MOST_BYTES)
    except (ConnectionError, ssl.SSLEOFError):
        connection.close()
        if not used:
            raise
        return _post(connection, path, content, headers)
    if not answer.isclosed():
        connection.close()
    return answer.status, said


def _meaning(status: int, said: bytes) -> tuple[int, str, bool]:
    """Status and text of an answer, and whether they are of the object that was named, not of the request. Raises
    ValueError where it is not Icinga's."""
    with suppress(ValueError, TypeError, KeyError, IndexError, AttributeError):
        answer = json.loads(said)
        if "results" in answer:
            result = answer["results"][0]
            return int(result["code"]), clean(str(result["status"]), 200), True
        return int(answer["error"]), clean(str(answer["status"]), 200), False
    text = clean(said[:200].decode(errors="replace")) or "no text"
    raise ValueError(f"HTTP {status}: not the API of an Icinga: {text}")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}): see icinga2-ca"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    return clean(str(error) or type(error).__name__)
