"""Host names to addresses, by a deadline, and again and again for connections that are kept open.

The system's resolver knows no deadline and may hang: each question has a thread that nobody has to wait for, and all
who ask for the same name share one question and its answer.
"""

from __future__ import annotations

import socket
import threading
import time

Address = tuple[int, tuple[object, ...]]
"""Family, and the address as a socket takes it, with port 0."""

FRESH_S = 3.0
"""How long an answer serves others who connect."""
AGAIN_S = 30.0
"""How old the newest answer may be before the name of an open connection is asked for again."""
MOMENT_S = 0.2


class _Name:
    """A name, and what is known of it."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.asked: threading.Event | None = None
        """Set once the question that is on its way has its answer."""
        self.found: list[Address] = []
        """The newest answer that had an address in it."""
        self.problem = ""
        """Why the newest answer had none."""
        self.answered = 0.0


_lock = threading.Lock()
_names: dict[str, _Name] = {}


def resolve(host: str, deadline: float) -> list[Address]:
    """The addresses of a host, best first. Raises OSError, at the deadline TimeoutError."""
    name, asked = _ask(host, FRESH_S)
    if asked is not None and not asked.wait(max(0.0, deadline - time.monotonic())):
        raise TimeoutError
    if name.problem:
        raise OSError(name.problem)
    return name.found


def still_there(host: str, address: Address) -> bool:
    """Whether an open connection's address is among the newest answers for its host.

    An answer that is older than AGAIN_S is asked for again, for the next time; one that is much older, as that was
    long ago, is waited for, but a moment alone. No answer, an error, or an empty answer says nothing.
    """
    name, asked = _ask(host, AGAIN_S)
    if asked is not None and time.monotonic() - name.answered > 2 * AGAIN_S:
        asked.wait(MOMENT_S)
    return not name.found or address in name.found


def _ask(host: str, fresh_s: float) -> tuple[_Name, threading.Event | None]:
    """The name, and what to wait for where there is no answer yet that is younger than `fresh_s`."""
    with _lock:
        name = _names.setdefault(host, _Name(host))
        if name.asked is not None or (name.answered and time.monotonic() - name.answered < fresh_s):
            return name, name.asked
        asked = name.asked = threading.Event()
    try:
        threading.Thread(target=_answer, args=(name,), name="resolver", daemon=True).start()
    except RuntimeError:
        # In this one, where replicas have taken all there are: late is better than never.
        _answer(name)
    return name, asked


def _answer(name: _Name) -> None:
    found: list[Address] = []
    problem = "no address"
    try:
        for family, _, _, _, address in socket.getaddrinfo(name.host, 0, type=socket.SOCK_STREAM):
            if family in (socket.AF_INET, socket.AF_INET6):
                found.append((family, tuple(address)))
    except OSError as error:
        problem = error.strerror or "no answer"
    except UnicodeError:
        problem = "not a host name"
    with _lock:
        asked, name.asked = name.asked, None
        name.answered = time.monotonic()
        name.found, name.problem = (found, "") if found else (name.found, problem)
    if asked is not None:
        asked.set()
