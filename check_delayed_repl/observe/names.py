"""Host names to addresses by a deadline: the system's resolver knows none."""

from __future__ import annotations

import socket
import threading
import time


class Unresolvable(Exception):
    """There is no such name, or nobody who knows it."""


class _Lookup:
    """One question to the system's resolver, asked in a thread of its own that nobody has to wait for."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self.over = threading.Event()
        self.found: list[tuple[int, tuple[str, int]]] = []
        self.problem = ""

    def run(self) -> None:
        try:
            for family, _, _, _, address in socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
                if family in (socket.AF_INET, socket.AF_INET6):
                    self.found.append((family, (str(address[0]), int(address[1]))))
        except OSError as error:
            self.problem = error.strerror or "no answer"
        except UnicodeError:
            self.problem = "not a host name"
        finally:
            with _lock:
                _running.pop((self._host, self._port), None)
            self.over.set()


_lock = threading.Lock()
# Lookups on their way: where the resolver hangs, further looks wait for the same answer instead of piling up threads.
_running: dict[tuple[str, int], _Lookup] = {}


def resolve(host: str, port: int, deadline: float) -> list[tuple[int, tuple[str, int]]]:
    """Address families and addresses of a host, best first. Raises Unresolvable, or TimeoutError at the deadline."""
    with _lock:
        lookup = _running.get((host, port))
        if lookup is None:
            lookup = _Lookup(host, port)
            try:
                threading.Thread(target=lookup.run, name="resolver", daemon=True).start()
            except RuntimeError:
                raise Unresolvable("no thread left to ask in") from None
            _running[host, port] = lookup
    if not lookup.over.wait(max(0.0, deadline - time.monotonic())):
        raise TimeoutError
    if not lookup.found:
        raise Unresolvable(lookup.problem or "no address")
    return lookup.found
