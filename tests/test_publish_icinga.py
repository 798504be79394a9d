"""Results for Icinga 2, to whatever may answer at its address."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import pytest
import trustme
from listeners import listening
from test_publish import result

from check_delayed_repl.configfile import Publish
from check_delayed_repl.publish.icinga2 import Icinga, body
from check_delayed_repl.publish.mailbox import Mailbox
from check_delayed_repl.publish.publisher import targets
from check_delayed_repl.publish.result import Result

OK = '{"results":[{"code":200.0,"status":"Successfully processed check result for object."}]}'
Answer = Callable[[str], "tuple[int, str] | bytes"]
"""What is answered for an object: status and text, or bytes in place of HTTP."""


def http(status: int, text: str, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} x\r\n{more}Content-Length: {len(text)}\r\n\r\n{text}".encode()


class Server:
    """Something that answers at Icinga's address."""

    def __init__(self, ca: trustme.CA) -> None:
        self.answer: Answer = lambda _: (200, OK)
        self.one_each = False
        """Every connection ends after one answer."""
        self.pause_s = self.drip_s = 0.0
        self.connections = 0
        self.at_once = self.most_at_once = 0
        self.taken: list[str] = []
        self._lock = threading.Lock()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(self._tls)

    def __call__(self, caller: socket.socket) -> None:
        self.connections += 1
        with suppress(ValueError), self._tls.wrap_socket(caller, server_side=True) as secured:
            stream = secured.makefile("rb")
            while line := stream.readline():
                name = unquote(line.split(b"service=")[1].split()[0].decode()).partition(" ")[2].partition(" ")[2]
                length = 0
                while (header := stream.readline().strip()) != b"":
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                stream.read(length)
                with self._lock:
                    self.at_once += 1
                    self.most_at_once = max(self.most_at_once, self.at_once)
                time.sleep(self.pause_s)
                with self._lock:
                    self.at_once -= 1
                    self.taken.append(name)
                said = self.answer(name)
                whole = said if isinstance(said, bytes) else http(*said)
                size = 1 if self.drip_s else len(whole)
                for place in range(0, len(whole), size or 1):
                    secured.sendall(whole[place : place + size])
                    time.sleep(self.drip_s)
                if self.one_each or isinstance(said, bytes):
                    return


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> Server:
    return Server(authority)


@pytest.fixture
def icinga(server: Server, authority: trustme.CA, tmp_path: Path) -> Iterator[Icinga]:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    with listening(server) as target:
        made = Icinga([f"https://127.0.0.1:{target.port}"], "u", "p", str(ca), 60.0)
        yield made
        hang_up(made)


def hang_up(icinga: Icinga) -> None:
    for connections in icinga._connections.values():
        for connection in connections:
            connection.close()


def many(count: int) -> list[Result]:
    return [result(f"db{place}") for place in range(count)]


def test_the_body_for_icinga() -> None:
    sent = body(result(), 180.0, "satellite")
    assert (sent["exit_status"], sent["ttl"], sent["check_source"]) == (1, 180.0, "satellite")
    performance, output = sent["performance_data"], sent["plugin_output"]
    assert isinstance(performance, list)
    assert performance[0] == "delay=7200s;;5400:9000"
    assert isinstance(output, str)
    assert output.startswith("DELAYED_REPL WARNING - Active migration")
    assert "|" not in output


def test_many_go_over_few_connections_several_at_a_time(icinga: Icinga, server: Server) -> None:
    server.pause_s = 0.002
    for _ in range(3):
        assert icinga.deliver(many(60)).rest == []
    assert sorted(server.taken) == sorted(f"db{place}" for place in range(60) for _ in range(3))
    assert 1 < server.most_at_once <= server.connections <= 4


@pytest.mark.parametrize("left", [0, 1])
def test_where_no_thread_is_left_all_are_handed_over_all_the_same(
    icinga: Icinga, server: Server, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def scarce(thread: threading.Thread) -> None:
        if getattr(thread, "_target", None) == icinga._post_all:
            if len(started) == left:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    assert icinga.deliver(many(9)).rest == []
    assert sorted(server.taken) == [f"db{place}" for place in range(9)]


def test_connections_that_were_closed_meanwhile_are_made_anew(icinga: Icinga, server: Server) -> None:
    server.one_each = True
    for _ in range(3):
        assert icinga.deliver(many(5)).rest == []
    assert len(server.taken) == 15


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, '{"error":404.0,"status":"No objects found."}'),
        (400, '{"error":400.0,"status":"Invalid request"}'),
        (403, '{"results":[{"code":403.0,"status":"Passive checks are disabled for object \'db1\'."}]}'),
        (409, '{"results":[{"code":409.0,"status":"Newer check result already present."}]}'),
    ],
)
def test_what_icinga_does_not_want_holds_nobody_up(icinga: Icinga, server: Server, status: int, text: str) -> None:
    server.answer = lambda name: (status, text) if name == "db1" else (200, OK)
    done = icinga.deliver(many(9))
    why = done.unwanted
    assert done.rest == []
    assert list(why) == ["db1"]
    assert why["db1"].startswith(f"db1.example!delayed replication db1: HTTP {status}: ")
    assert len(server.taken) == 9


def test_an_object_whose_results_fail_is_tried_again_and_holds_nobody_up(icinga: Icinga, server: Server) -> None:
    server.answer = lambda name: (500, '{"error":500.0,"status":"Unhandled"}') if name == "db1" else (200, OK)
    done = icinga.deliver(many(9))
    assert done.trouble.endswith("HTTP 500: Unhandled")
    assert [one.replica.name for one in done.rest] == ["db1"]
    assert len(server.taken) == 9


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, '{"error":401.0,"status":"Unauthorized. Please check."}'), "HTTP 401: Unauthorized"),
        ((403, '{"error":403.0,"status":"permission denied"}'), "HTTP 403: permission denied"),
        (http(302, "", "Location: https://elsewhere/\r\n"), "HTTP 302: not the API of an Icinga"),
        ((200, "<html>Welcome</html>"), "HTTP 200: not the API of an Icinga: .html.Welcome"),
        ((200, "[]"), "HTTP 200: not the API"),
        ((200, '{"results":[]}'), "HTTP 200: not the API"),
        ((200, '{"results":"x"}'), "HTTP 200: not the API"),
        ((200, "x" * 10_000_000), "HTTP 200: not the API"),
        ((200, "[" * 60_000), "recursion"),
        ((502, "Bad Gateway \x1b[31m"), "HTTP 502: not the API of an Icinga: Bad Gateway"),
        # A proxy that has lost its Icinga, or is none of one at all.
        ((404, "<html>Not Found</html>"), "HTTP 404: not the API of an Icinga: .html.Not Found"),
        ((400, "Bad Request"), "HTTP 400: not the API"),
        ((404, '{"status":404,"error":"Not Found"}'), "HTTP 404: not the API"),
        (b"SSH-2.0-OpenSSH\r\n", "SSH-2.0"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, "got more than"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "got more than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "HTTP 200: not the API"),
        (b"", "closed|EOF"),
    ],
)
def test_whatever_answers_all_is_kept(
    icinga: Icinga, server: Server, answer: tuple[int, str] | bytes, says: str
) -> None:
    server.answer = lambda _: answer
    done = icinga.deliver(many(9))
    assert re.match(f"https://127.0.0.1:[0-9]+: .*({says})", done.trouble)
    assert sorted(one.replica.name for one in done.rest) == sorted(f"db{place}" for place in range(9))
    assert len(done.trouble) < 400
    assert done.trouble.isprintable()


@pytest.mark.parametrize(("pause", "drip", "flood"), [(5.0, 0.0, 0), (0.0, 0.2, 0), (0.0, 0.0, 1_000_000)])
def test_silence_drips_and_floods_end_in_time(
    icinga: Icinga, server: Server, monkeypatch: pytest.MonkeyPatch, pause: float, drip: float, flood: int
) -> None:
    monkeypatch.setattr("check_delayed_repl.publish.icinga2.TIMEOUT_S", 1.0)
    icinga.deliver(many(9))
    server.pause_s, server.drip_s = pause, drip
    if flood:
        server.answer = lambda _: b"HTTP/1.1 100 Continue\r\n\r\n" * flood
    done = icinga.deliver(many(9))
    assert done.trouble.endswith("no answer within 1 s")
    assert len(done.rest) == 9
    assert server.connections <= 4, "what was not answered in time is not sent again at once"


def test_a_certificate_that_is_not_trusted_and_no_tls_at_all(server: Server, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with listening(server) as target:
        stranger = Icinga([f"https://127.0.0.1:{target.port}"], "u", "p", str(other), 60.0)
        assert "its certificate is not trusted" in stranger.deliver(many(3)).trouble
    assert server.taken == []
    with listening(lambda caller: caller.sendall(http(200, OK))) as target:
        plain = Icinga([f"https://127.0.0.1:{target.port}"], "u", "p", str(other), 60.0)
        assert "SSL" in plain.deliver(many(3)).trouble


def test_the_next_address_takes_what_the_first_does_not(
    icinga: Icinga, server: Server, authority: trustme.CA, tmp_path: Path
) -> None:
    ca = tmp_path / "ca2.pem"
    authority.cert_pem.write_to_path(str(ca))
    broken = Server(authority)
    broken.answer = lambda _: (503, '{"error":503.0,"status":"reloading"}')
    with listening(broken) as first, listening(server) as second:
        urls = [f"https://127.0.0.1:{target.port}" for target in (first, second)]
        both = Icinga(urls, "u", "p", str(ca), 60.0)
        for _ in range(2):
            assert both.deliver(many(5)).rest == []
        hang_up(both)
    assert (len(broken.taken), len(server.taken)) == (5, 10)


def test_an_address_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p")
    settings = Publish(icinga2_url=("https://[1:2:3]:5665",), icinga2_password_file=str(tmp_path / "password"))
    with pytest.raises(ValueError, match="icinga2-url: '1:2:3' does not appear to be an IPv4 or IPv6 address"):
        targets(settings)


def test_strangers_are_told_once_and_others_go_on(icinga: Icinga, server: Server) -> None:
    server.answer = lambda name: (200, OK) if name == "db0" else (404, '{"error":404.0,"status":"No objects found."}')
    said: list[str] = []
    mailbox = Mailbox(icinga, said.append)
    mailbox.start()
    for _ in range(3):
        for one in many(40):
            mailbox.put(one)
    mailbox.finish(20)
    assert server.taken.count("db0") >= 1
    assert len(said) == 20
    assert len(set(said)) == 20
    assert all(line.endswith(": HTTP 404: No objects found.; others go on") for line in said)
    assert mailbox.dropped + server.taken.count("db0") == 120
