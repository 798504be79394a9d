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
from typing import Any
from urllib.parse import quote, urlsplit

from check_delayed_repl.publish.mailbox import Delivery
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
        """Raises OSError where `ca` cannot be used, ValueError where an address cannot."""
        token = b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": f"Basic {token}",
        }
        self._ttl_s = TTL_INTERVALS * publish_interval
        self._source = socket.gethostname()
        tls = ssl.create_default_context(cafile=ca)
        tls.sslsocket_class = _Socket
        self._connections: dict[str, list[HTTPSConnection]] = {}
        """By address, the first to be tried at the head. They stay open: TLS is most of what a result costs."""
        for url in urls:
            parts = urlsplit(url)
            self._connections[url] = [
                HTTPSConnection(parts.hostname or "", parts.port or 5665, timeout=TIMEOUT_S, context=tls)
                for _ in range(IN_FLIGHT)
            ]

    def deliver(self, results: list[Result]) -> Delivery:
        """Hands all of them over, several at a time."""
        done = Delivery(results)
        for url in list(self._connections):
            done = batch = _Batch(url, done)
            first, *more = self._connections[url]
            helpers = []
            # Where the machine has no thread left, fewer at a time.
            with suppress(RuntimeError):
                for connection, _ in zip(more, results[1:], strict=False):
                    helper = threading.Thread(target=self._post_all, args=(connection, batch), daemon=True)
                    helper.start()
                    helpers.append(helper)
            self._post_all(first, batch)
            for helper in helpers:
                helper.join()
            if not batch.rest:
                self._connections = {url: self._connections.pop(url), **self._connections}
                break
        return done

    def _post_all(self, connection: HTTPSConnection, batch: _Batch) -> None:
        """Hands over what is left of a batch, over one connection."""
        for result in iter(batch.next, None):
            try:
                batch.answered(result, *self._post(connection, result, time.monotonic() + TIMEOUT_S))
            except Exception as error:  # noqa: BLE001 - whatever it is, no result may be lost
                batch.failed(result, error)
                connection.close()

    def _post(self, connection: HTTPSConnection, result: Result, until: float) -> tuple[int, bytes]:
        """Status and the beginning of the answer; a connection that was closed meanwhile is made anew."""
        used = connection.sock is not None
        path = f"/v1/actions/process-check-result?service={quote(object_name(result), safe='')}"
        try:
            if not used:
                connection.connect()
            assert isinstance(connection.sock, _Socket)
            connection.sock.until = until
            connection.request("POST", path, json.dumps(body(result, self._ttl_s, self._source)), self._headers)
            answer = connection.getresponse()
            said = answer.read(MOST_BYTES)
        except (ConnectionError, ssl.SSLEOFError):
            connection.close()
            if not used:
                raise
            return self._post(connection, result, until)
        if not answer.isclosed():
            connection.close()
        return answer.status, said


class _Socket(ssl.SSLSocket):
    """On it a request ends in time, whether its answer drips in or never ends."""

    until = 0.0
    """By time.monotonic()."""

    def _arm(self) -> None:
        if (left := self.until - time.monotonic()) <= 0:
            raise TimeoutError
        self.settimeout(left)

    def send(self, *args: Any, **more: Any) -> int:
        self._arm()
        return super().send(*args, **more)

    def recv_into(self, *args: Any, **more: Any) -> int:
        self._arm()
        return super().recv_into(*args, **more)


def object_name(result: Result) -> str:
    return f"{result.replica.object_host}!{result.replica.object_service}"


class _Batch(Delivery):
    """Results on their way to one address, and what becomes of them. Used by several threads."""

    def __init__(self, url: str, before: Delivery) -> None:
        """`before`: what has become of them at the address before."""
        super().__init__()
        self.unwanted = before.unwanted
        self._url = url
        self._waiting = deque(before.rest)

    def next(self) -> Result | None:
        with suppress(IndexError):
            return self._waiting.popleft()
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
        """Nothing more goes to this address."""
        self._keep(result, _reason(error))
        for other in iter(self.next, None):
            self.rest.append(other)

    def _keep(self, result: Result, reason: str) -> None:
        self.rest.append(result)
        self.trouble = self.trouble or f"{self._url}: {reason}"


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
