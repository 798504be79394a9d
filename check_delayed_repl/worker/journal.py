"""What a worker says: lines in its log, and to systemd that it is alive."""

from __future__ import annotations

import contextlib
import os
import sys

from check_delayed_repl.words import clean


def log(text: str) -> None:
    """One line for one event; systemd's journal adds the time."""
    with contextlib.suppress(OSError, ValueError):
        print(f"delayed-repl: worker: {clean(text)}", file=sys.stderr, flush=True)


def notify(text: str) -> None:
    """Tells systemd, where it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    import socket

    if address[0] == "@":
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        sock.sendto(text.encode(), address)


def watchdog_s() -> float:
    """How often systemd wants to hear from this process, halved; 0 for never."""
    try:
        wanted = int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
        mine = int(os.environ.get("WATCHDOG_PID", str(os.getpid()))) == os.getpid()
    except ValueError:
        return 0.0
    return wanted if mine and wanted > 0 else 0.0
