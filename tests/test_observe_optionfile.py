"""Option files read as the servers' own clients read them, and a clear line where they would keep silent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from check_delayed_repl.observe.address import server_name, settings
from check_delayed_repl.observe.optionfile import OptionFileError, read_options
from check_delayed_repl.observe.target import Target


def written(folder: Path, text: str | bytes, name: str = "my.cnf") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("password=simple", "simple"),
        ("password =  spaces around  ", "spaces around"),
        ("password = cut # a comment", "cut"),
        ('password = "with # inside"', "with # inside"),
        ("password = 'single # quotes' # a comment", "single # quotes"),
        (r'password = "a\"b"', 'a"b'),
        (r"password = tab\there", "tab\there"),
        (r"password = back\\slash\s\x", "back\\slash \\x"),
        ("password = a=b=c", "a=b=c"),
        ('password = "\'"', "'"),
        ("password = '", "'"),
        ("password =", ""),
        ("password", None),
        ("password = \u00a0x\u3000", "\u00a0x\u3000"),
        ('password = "x" y', '"x" y'),
        ("password = 'it''s'", "it''s"),
        ("password = end\\", "end\\"),
        ("\t password\t=\tx\r", "x"),
    ],
)
def test_a_value(tmp_path: Path, line: str, value: str | None) -> None:
    assert read_options(written(tmp_path, f"[client]\n{line}\n"), ("client",)) == {"password": value}


def test_groups_and_comments(tmp_path: Path) -> None:
    text = "# a comment\n; another\n\n[client ]\nuser = one\nssl_ca = /a\n[other]\nuser = two\n[client]\nuser = three\n"
    path = written(tmp_path, text)
    assert read_options(path, ("client",)) == {"user": "three", "ssl-ca": "/a"}
    assert read_options(path, ("other",)) == {"user": "two"}
    assert read_options(path, ("third",)) is None


def test_bytes_that_are_no_utf8_survive(tmp_path: Path) -> None:
    found = settings(Target(defaults_file=written(tmp_path, b"\xef\xbb\xbf[client]\npassword = \xe9\xff\n")))
    assert found.password.encode("utf-8", "surrogateescape") == b"\xe9\xff"


def test_includes(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    written(tmp_path / "conf.d", "[client]\nport = 1\n", "a.cnf")
    written(tmp_path / "conf.d", "[client]\nport = 2\n", "b.cnf")
    written(tmp_path / "conf.d", "[client]\nport = 3\n", "c.cnf.bak")
    written(tmp_path, "[client]\nuser = included\n", "more.cnf")
    path = written(tmp_path, "[client]\nuser = mine\n!includedir conf.d\n!include more.cnf\n")
    assert read_options(path, ("client",)) == {"user": "included", "port": "2"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("user = x\n", "line 1: an option before the first [group]"),
        ("[client\nuser = x\n", "line 1: a group without its closing bracket"),
        ("[client]\n!includes x\n", "line 2: neither !include FILE nor !includedir FOLDER"),
        ("[client]\n!includedir gone\n", "No such file or directory"),
        ("[client]\n!include gone.cnf\n", "gone.cnf: cannot read the option file"),
        ("!include my.cnf\n", "nested more than 10 deep"),
        (b"[client]\n\0\n", "holds binary data"),
        (b"[client]\n" + b"#" * (1 << 20), "larger than"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str | bytes, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(OptionFileError) as caught:
        read_options(path, ("client",))
    assert problem in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    open_files = len(os.listdir("/proc/self/fd"))
    for name, problem in (("gone", "No such file"), ("fifo", "it is not a file"), (".", "Is a directory")) * 3:
        with pytest.raises(OptionFileError, match=problem):
            read_options(str(tmp_path / name), ("client",))
    assert len(os.listdir("/proc/self/fd")) == open_files
    with pytest.raises(OptionFileError, match="not the name"):
        read_options("a\0b", ("client",))
    assert read_options("/dev/null", ("client",)) is None


@pytest.mark.parametrize(
    ("target", "file", "where"),
    [
        (Target(), "", "localhost:3306"),
        (Target(host="db1"), "", "db1:3306"),
        (Target(host="::1", port=3307), "", "[::1]:3307"),
        (Target(port=3307), "", "localhost:3307"),
        (Target(socket="/run/x.sock"), "", "/run/x.sock"),
        (Target(socket="/run/x.sock", host="localhost"), "", "/run/x.sock"),
        (Target(), "socket = /run/f.sock", "/run/f.sock"),
        (Target(), "host = db2\nport = 3310", "db2:3310"),
        (Target(), "host = db2\nsocket = /run/f.sock", "db2:3306"),
        (Target(), "port = 3310", "localhost:3310"),
        (Target(), "socket = /run/f.sock\nport = 3310", "/run/f.sock"),
        (Target(), "socket = /run/f.sock\nprotocol = TCP", "localhost:3306"),
        # What is given beats the file.
        (Target(host="127.0.0.1"), "socket = /run/f.sock", "127.0.0.1:3306"),
        (Target(host="db1"), "socket = /run/f.sock\nhost = db2\nport = 3310", "db1:3310"),
        (Target(host="localhost", port=3307), "socket = /run/f.sock", "localhost:3307"),
        (Target(host="localhost"), "socket = /run/f.sock", "/run/f.sock"),
        (Target(socket="/run/x.sock"), "socket = /run/f.sock\nport = 1", "/run/x.sock"),
        (Target(channel="orders"), "host = db2", "db2:3306#orders"),
    ],
)
def test_where(tmp_path: Path, target: Target, file: str, where: str) -> None:
    assert server_name(target._replace(defaults_file=written(tmp_path, f"[client]\n{file}\n"))) == where


@pytest.mark.parametrize(
    ("target", "file", "mode"),
    [
        (Target(), "", "preferred"),
        (Target(ssl_ca="/ca"), "", "verify-ca"),
        (Target(), "ssl-ca = /ca", "verify-ca"),
        (Target(ssl_mode="required", ssl_ca="/ca"), "", "required"),
        (Target(), "ssl-mode = VERIFY_IDENTITY", "verify-identity"),
        (Target(ssl_mode="disabled"), "ssl-mode = REQUIRED", "disabled"),
        (Target(), "ssl", "required"),
        (Target(), "ssl = 0", "disabled"),
        (Target(), "skip-ssl", "disabled"),
        (Target(), "ssl_verify_server_cert", "verify-identity"),
    ],
)
def test_ssl_mode(tmp_path: Path, target: Target, file: str, mode: str) -> None:
    assert settings(target._replace(defaults_file=written(tmp_path, f"[client]\n{file}\n"))).ssl_mode == mode


def test_wrong_settings_name_the_file_and_no_secret(tmp_path: Path) -> None:
    for line, problem in (
        ("port = secret", "port is not"),
        ("ssl-mode = secret", "ssl-mode is none of"),
        ("ssl-cipher = secret", "ssl-cipher is not supported"),
        ("ssl_crlpath = secret", "ssl-crlpath is not supported"),
        ("tls-version = secret", "tls-version is not supported"),
    ):
        path = written(tmp_path, f"[client]\n{line}\n")
        with pytest.raises(OptionFileError, match=problem) as caught:
            settings(Target(defaults_file=path))
        assert path in str(caught.value)
        assert "secret" not in str(caught.value)
    path = written(tmp_path, "[client]\nloose_ssl-cipher = x\nloose-user = u\n")
    assert settings(Target(defaults_file=path)).user == "u"
    os.chmod(path, 0o666)
    with pytest.raises(OptionFileError, match="everybody may write"):
        settings(Target(defaults_file=path))


def test_groups_that_count(tmp_path: Path) -> None:
    for group in ("client", "client-server", "client-mariadb"):
        path = written(tmp_path, f"[mysql]\nsocket = /wrong\n[{group}]\nsocket = /run/x.sock\n")
        assert server_name(Target(defaults_file=path)) == "/run/x.sock"
    # The last one in the file wins, whatever its group.
    path = written(tmp_path, "[client-mariadb]\nuser = a\n[client]\nuser = b\n[client-server]\nuser = c\n")
    assert settings(Target(defaults_file=path)).user == "c"
    for file in (written(tmp_path, ""), written(tmp_path, "[mysql]\nuser = a\n", "other.cnf"), "/dev/null"):
        with pytest.raises(OptionFileError, match=r"no group \[client\] or \[client-server\] or \[client-mariadb\]"):
            settings(Target(defaults_file=file))
    with pytest.raises(OptionFileError, match=r"no group \[monitor\]"):
        settings(Target(defaults_file=path, defaults_group="monitor"))


def test_a_password_is_in_no_repr(tmp_path: Path) -> None:
    assert "geheim" not in repr(settings(Target(user="u", password="geheim")))
