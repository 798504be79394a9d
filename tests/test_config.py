"""One configuration file for every command: what it may hold, what beats what, and one line for every mistake."""

from __future__ import annotations

import argparse
import grp
import json
import os
import pwd
import re
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import Command, remember, run_module

from check_delayed_repl import config, tool
from check_delayed_repl.arguments import Parser, UsageError
from check_delayed_repl.commands import worker
from check_delayed_repl.configfile import (
    PUBLISH_KEYS,
    REPLICA_KEYS,
    TOP_KEYS,
    File,
    Publish,
    Replica,
    Table,
    by_key,
    read_toml,
)
from check_delayed_repl.limits import Limits
from check_delayed_repl.observe.optionfile import exposed
from check_delayed_repl.observe.target import Target
from check_delayed_repl.options import limits_from, replica_name, target_from
from check_delayed_repl.plugin import build_parser

HEAD = '[[replica]]\nhost = "db1"\n'


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str, mode: int = 0o600) -> str:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return write


Written = Callable[..., str]


def checked(*arguments: str) -> argparse.Namespace:
    return config.parsed(build_parser(), arguments)


def fleet(path: str, *arguments: str) -> list[Replica]:
    parser = Parser("delayed-repl worker")
    worker.add_arguments(parser)
    return config.replicas(config.parsed(parser, ("--config", path, *arguments)))


# --- the first release's file ---


def test_a_file_of_the_first_release_for_a_worker(written: Written) -> None:
    text = (
        "[defaults]\nuser = 'monitor'\npassword = 'p'\nheartbeat_table = 'meta.beat'\ninterval = '1m'\n"
        "no-local-heartbeat = true\n[[replica]]\nhost = 'db1'\nport = 3307\nchannel = 'orders'\n"
        "[[replica]]\nreplica = 'two'\nsocket = '/run/two.sock'\nmaster-server-id = 7\ninterval = 30\ntimeout = 2.5\n"
        "no-local-heartbeat = false\nssl-mode = 'disabled'\n"
    )
    path = written(text, 0o644)
    common = Target(user="monitor", password="p", heartbeat_table="meta.beat", local_heartbeat=False)
    one, two = fleet(path, "--password", "q", "--timeout", "5", "--ssl-mode", "required")
    target = common._replace(host="db1", port=3307, channel="orders", ssl_mode="required")
    assert one[:4] == ("db1:3307#orders", target, 5.0, 60.0)
    target = common._replace(socket="/run/two.sock", master_server_id=7, local_heartbeat=True, ssl_mode="disabled")
    assert two[:4] == ("two", target, 2.5, 30.0)
    assert (one.limits, two.limits) == (Limits(local_heartbeat=False), Limits())


# --- what beats what ---

DEFAULTS = "[defaults]\n"
REPLICA = "[[replica]]\nreplica = 'a'\n"
HOUR = Limits(min_delay_time=2700, max_delay_time=4500)
"""Those of a delay of an hour."""


@pytest.mark.parametrize(
    ("defaults", "table", "arguments", "target"),
    [
        ("host = 'h'\nport = 1", "", (), Target("h", 1)),
        ("host = 'h'", "port = 2", (), Target("h", 2)),
        ("port = 1", "host = 'h'", (), Target("h", 1)),
        ("host = 'h'\nport = 1", "host = 'g'", (), Target("g")),
        ("socket = '/s'", "host = 'g'", (), Target("g")),
        ("host = 'h'\nport = 1", "socket = '/s'", (), Target(socket="/s")),
        ("", "host = 'h'\nport = 1", ("-H", "g"), Target("g")),
        ("", "host = 'h'\nport = 1", ("-S", "/s"), Target(socket="/s")),
        ("", "socket = '/s'", ("-P", "3"), Target(port=3)),
        ("", "host = 'h'", ("-P", "3"), Target("h", 3)),
        ("user = 'd'", "user = 'r'", (), Target(user="r")),
        ("user = 'd'", "user = 'r'", ("-u", "c"), Target(user="c")),
        ("heartbeat-table = 'a.b'", "channel = ''", (), Target(channel="", heartbeat_table="a.b")),
        ("no-local-heartbeat = true", "no-local-heartbeat = false", (), Target()),
    ],
)
def test_a_nearer_value_beats_a_farther_one_and_an_address_is_whole(
    written: Written, defaults: str, table: str, arguments: tuple[str, ...], target: Target
) -> None:
    args = checked("--config", written(f"{DEFAULTS}{defaults}\n{REPLICA}{table}\n"), *arguments)
    assert target_from(args) == target
    assert replica_name(args) == "a"


@pytest.mark.parametrize(
    ("defaults", "table", "arguments", "limits"),
    [
        ("", "", ("--delay", "2h"), Limits()),
        ("delay = '1h'", "", (), HOUR),
        (
            *("", "delay = '4h'", ()),
            Limits(min_delay_time=10800, max_delay_time=18000, max_trend_time=18000, max_relay_behind=57600),
        ),
        ("min-delay-time = 1\nmax-delay-time = 2", "delay = '1h'", (), HOUR),
        ("delay = '4h'", "min-delay-time = 1\nmax-delay-time = 2", (), Limits(min_delay_time=1, max_delay_time=2)),
        ("delay = '1h'", "max-delay-time = '2h'", (), HOUR._replace(max_delay_time=7200)),
        ("", "delay = '1h'\nmin-delay-time = 60", (), HOUR._replace(min_delay_time=60)),
        ("", "max-delay-time = '9h'", ("--delay", "1h"), HOUR),
        ("max-trend-time = 60", "delay = '1h'", (), HOUR._replace(max_trend_time=60)),
        ("window = 60", "fit = 'window'", ("--window", "30"), Limits(window=30, fit="window")),
        ("max-job-behind = { dump = '1h' }", "", (), Limits(job_limits=(("dump", 3600.0),))),
        ("max-job-behind = { dump = 60 }", "max-job-behind = { x = 5 }", (), Limits(job_limits=(("x", 5.0),))),
        ("max-job-behind = ['dump=60']", "", (), Limits(job_limits=(("dump", 60.0),))),
        ("job-stops-server = 'backup'", "", (), Limits(job_stops_server=("backup",))),
        (
            *("allow-filter = ['Replicate_Do_DB=a', 'Replicate_Do_DB=b']", "", ()),
            Limits(allowed_filters=("Replicate_Do_DB=a", "Replicate_Do_DB=b")),
        ),
        ("no-local-heartbeat = true", "delay-mode = 'native'", (), Limits(local_heartbeat=False, delay_mode="native")),
    ],
)
def test_the_limits_of_a_file(
    written: Written, defaults: str, table: str, arguments: tuple[str, ...], limits: Limits
) -> None:
    path = written(f"{DEFAULTS}{defaults}\n{REPLICA}host = 'h'\n{table}\n")
    assert limits_from(checked("--config", path, *arguments)) == limits
    if not arguments:
        [replica] = fleet(path)
        assert replica.limits == limits


def test_paths_count_from_the_file(written: Written, tmp_path: Path) -> None:
    (tmp_path / "m.cnf").write_text("[client]\nhost = db9\n")
    text = "history = 'h.db'\n[[replica]]\ndefaults-file = 'm.cnf'\nssl-ca = '/ca'\nsocket = '@abstract'\n"
    args = checked("--config", written(text))
    assert args.history == str(tmp_path / "h.db")
    assert (args.defaults_file, args.ssl_ca, args.socket) == (str(tmp_path / "m.cnf"), "/ca", "@abstract")
    url = "mysql://u@h/d?defaults-file=/m.cnf"
    assert checked("--config", written(f"history = '{url}'\n{HEAD}")).history == url
    assert checked("--config", written(f"history = 'h.db'\n{HEAD}"), "--history", "x").history == "x"


def test_which_replica(written: Written, tmp_path: Path) -> None:
    path = written(f"history = 'h.db'\n{HEAD}[[replica]]\nreplica = 'two'\nhost = 'db2'\n")
    assert target_from(checked("--config", path, "--replica", "two")).host == "db2"
    assert target_from(checked("--config", path, "--replica", "db1:3306")).host == "db1"
    with pytest.raises(UsageError, match=r"--replica: which one.*has db1:3306, two"):
        checked("--config", path)
    remember(tmp_path / "h.db", "gone", lambda _: 1.0, range(1))
    with pytest.raises(UsageError, match=r"no replica 'tow'.*db1:3306, two; the history has gone"):
        checked("--config", path, "--replica", "tow")
    for field in ("-H", "-P", "-S", "--channel", "--replica"):
        with pytest.raises(UsageError, match="not together with the 2 replicas"):
            fleet(path, field, "1")
    assert [replica.target.user for replica in fleet(path, "-u", "me")] == ["me", "me"]
    assert fleet(written(HEAD + "user = 'x'\n"), "-u", "me", "-H", "db3")[0].target == Target("db3", user="me")
    assert target_from(checked("--config", written("[defaults]\nuser = 'x'\n"), "-H", "db3")) == Target("db3", user="x")


def test_a_job_takes_no_right_to_read_the_option_file(tool: Command, written: Written, tmp_path: Path) -> None:
    path = written("history = 'h.db'\n[defaults]\ndefaults-file = 'not-mine.cnf'\n[[replica]]\nreplica = 'a'\n")
    assert tool("job", "start", "--config", path, "--kind", "backup").returncode == 0
    limits = "[defaults]\ndefaults-file = 'not-mine.cnf'\nmax-job-behind = { copy = '1h' }\n"
    path = written(f"history = 'h.db'\n{limits}[[replica]]\nreplica = 'a'\n")
    assert "no check knows" not in tool("job", "start", "--config", path, "--kind", "copy").stderr
    assert "no check knows jobs of kind cpoy" in tool("job", "start", "--config", path, "--kind", "cpoy").stderr


def test_a_mistake_in_one_replica_s_table_silences_no_other(written: Written) -> None:
    path = written(f"{HEAD}port = 70000\n[[replica]]\nreplica = 'two'\nhost = 'db2'\n")
    assert checked("--config", path, "--replica", "two").host == "db2"
    with pytest.raises(UsageError, match="replica 1: port"):
        fleet(path)


# --- which file ---


def test_where_the_file_is_looked_for(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = tmp_path / "default.toml"
    default.write_text("[[replica]]\nhost = 'default'\n")
    monkeypatch.setattr(config, "DEFAULT_FILE", str(default))
    assert checked().host == "default"
    assert checked("--config", written(HEAD)).host == "db1"
    assert checked("-H", "other").config is None
    assert checked("-S", "/s").config is None
    cnf = tmp_path / "m.cnf"
    cnf.write_text("[client]\n")
    assert checked("--defaults-file", str(cnf)).config is None
    monkeypatch.setenv(config.VARIABLE, written(HEAD))
    assert checked().host == "db1"
    default.unlink()
    monkeypatch.delenv(config.VARIABLE)
    assert (checked().config, checked().timeout) == (None, 10)


def test_who_may_own_and_read_it(written: Written, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="everybody may write to it: chmod o-w"):
        checked("--config", written(HEAD, 0o646))
    # Everybody must be able to write to it, and the advice not to would harm.
    assert checked("--config", os.devnull, "--replica", "db1").replica == "db1"
    assert checked("--config", written(HEAD, 0o644)).host == "db1"
    secret = HEAD + "password = 'geheim'\n"
    assert checked("--config", written(secret, 0o640)).password == "geheim"
    with pytest.raises(UsageError, match="has a password, and everybody may read it"):
        checked("--config", written(secret, 0o644))
    monkeypatch.setenv(config.VARIABLE, written(secret, 0o644))
    with pytest.raises(UsageError, match="has a password, and everybody may read it"):
        checked()
    shared = "history = 'mysql://u:geheim@h/lines'\n" + HEAD
    assert checked("--config", written(shared, 0o640)).history == "mysql://u:geheim@h/lines"
    with pytest.raises(UsageError, match="has a password, and everybody may read it"):
        checked("--config", written(shared, 0o644))
    path = written(HEAD)
    os.chown(path, 1234, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(UsageError, match="belongs to user 1234"):
        checked("--config", path)


def test_an_option_file_that_shows_its_password(plugin: Command, tmp_path: Path) -> None:
    file = tmp_path / "m y.cnf"
    file.write_text("[client]\nhost = 127.0.0.1\nport = 1\npassword = geheim\n")
    file.chmod(0o644)
    note = f"{file}: has a password, and everybody may read it: chmod 640 '{file}'"
    run = plugin("--defaults-file", str(file), "--history", str(tmp_path / "h.db"))
    assert f"note: {note}" in run.stdout.splitlines()
    worker_options = ("--defaults-file", str(file), "--history", str(tmp_path / "h.db"), "--count", "1")
    run = run_module("check_delayed_repl.tool", "worker", *worker_options)
    assert run.stderr.splitlines()[0] == f"delayed-repl: warning: {note}"
    file.chmod(0o640)
    outer = tmp_path / "outer.cnf"
    outer.write_text("!include m y.cnf\n")
    assert exposed(str(outer)) == ""
    file.chmod(0o644)
    assert exposed(str(outer)) == note
    file.chmod(0o640)
    assert "note:" not in plugin("--defaults-file", str(file), "--history", str(tmp_path / "h.db")).stdout


# --- what is wrong with a file ---


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is no [[replica]]"),
        ('[replica]\nhost = "db1"\n', "replica: must be tables"),
        ("defaults = 3\n" + HEAD, "defaults: must be a table"),
        ("interval = 3\n" + HEAD, "'interval': there is no such key: there are history, keep, [defaults]"),
        ("histroy = 'x'\n" + HEAD, "'histroy': there is no such key: did you mean history?"),
        ('[defaults]\nreplica = "x"\n' + HEAD, "[defaults]: replica: a name can only be one replica's own"),
        ('[defaults]\nhots = "x"\n' + HEAD, "[defaults]: 'hots': there is no such key: did you mean host?"),
        (HEAD + 'max-delay = "1h"\n', "replica 1: 'max-delay': there is no such key: did you mean max-delay-time?"),
        (HEAD + "[publish]\nprometheus = 'x'\n", "[publish]: 'prometheus': there is no such key"),
        (HEAD + "port = true\n", "replica 1: port: must be a number or text"),
        (HEAD + "port = 70000\n", "replica 1: port: '70000' is not a port"),
        (HEAD + "user = 5\n", "replica 1: user: must be text"),
        (HEAD + "no-local-heartbeat = 1\n", "replica 1: no-local-heartbeat: must be true or false"),
        (HEAD + "interval = [1]\n", "replica 1: interval: must be a number or text"),
        (HEAD + "ssl-ca = '/a'\nssl_ca = '/b'\n", "replica 1: ssl_ca: given twice"),
        (HEAD + "master-server-id = 1\nsource-server-id = 2\n", "replica 1: source-server-id: given twice"),
        (HEAD + f"interval = 0x{'F' * 5000}\n", "replica 1: interval: Exceeds the limit (4300 digits)"),
        (HEAD + 'defaults-file = "\\u0000"\n', "replica 1: defaults-file: embedded null byte"),
        (HEAD + "defaults-file = '/nonexistent'\n", "replica 1: defaults-file: /nonexistent: there is no such file"),
        (HEAD + "min-delay-time = '9h'\n", "replica 1: --min-delay-time: 32400 is greater"),
        (HEAD + "max-job-behind = { backup = 3 }\n", "replica 1: max-job-behind: backup is built in"),
        (HEAD + "max-job-behind = { x = true }\n", "replica 1: max-job-behind: must be a number or text"),
        (HEAD + "allow-filter = ['orders']\n", "replica 1: allow-filter: 'orders' is not of the form COLUMN=VALUE"),
        (HEAD + "object-host = '{hots}'\n", "replica 1: object-host: '{hots}' may hold {replica} and {host} alone"),
        (HEAD + HEAD, "replica 2: its name 'db1:3306' is that of replica 1"),
        (HEAD + HEAD + "replica = 'db1:3306'\n", "replica 2: its name 'db1:3306' is that of replica 1"),
        (HEAD + 'password = "geheim\n', "this is not TOML (at line 3"),
        ("x = " + "[" * 100000, "this is not TOML"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(written: Written, text: str, says: str) -> None:
    path = written(text)
    with pytest.raises(UsageError) as caught:
        fleet(path)
    message = str(caught.value)
    assert says in message
    assert message.removeprefix("--config: ").startswith(path)
    assert "geheim" not in message
    assert "\n" not in message


def test_files_that_cannot_be_read(written: Written, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--config: cannot read {tmp_path}/gone.toml: No such file"):
        checked("--config", str(tmp_path / "gone.toml"))
    with pytest.raises(UsageError, match="--config: cannot read /dev/zero: it is not a file"):
        checked("--config", "/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: it is not a file"):
        checked("--config", str(tmp_path / "pipe"))
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'[defaults]\nuser = "\xe9"\n')
    with pytest.raises(UsageError, match="this is not TOML"):
        checked("--config", str(latin))


def test_relative_paths_in_the_url_of_a_history_count_from_the_file(written: Written, tmp_path: Path) -> None:
    odd = tmp_path / "a%2F&b"
    odd.mkdir()
    url = "mysql://u@h/lines?ssl-ca=sub/ca.pem&defaults-file=history.cnf&socket=/s&ssl-mode=required"
    (odd / "c.toml").write_text(f"history = '{url}'\n{HEAD}")
    history_url = checked("--config", str(odd / "c.toml")).history
    query = dict(parse_qsl(urlsplit(history_url).query))
    assert query.pop("ssl-ca") == f"{odd}/sub/ca.pem"
    assert query == {"defaults-file": f"{odd}/history.cnf", "socket": "/s", "ssl-mode": "required"}


PUBLISH = HEAD + "[publish]\n"


def test_where_to_publish(written: Written, tmp_path: Path) -> None:
    def published(text: str) -> Publish:
        path = written(PUBLISH + text)
        return File(path, read_toml(path, "--config")[0]).publish

    assert published("") == Publish()
    assert published(
        "prometheus-file = 'r.prom'\nprometheus-listen = '[::1]:9180'\npublish-interval = 30\n"
        "icinga2-url = ['https://a:5665', 'https://b:5665']\nicinga2-user = 'u'\nicinga2-password-file = 'p'\n"
        "object-service = 'delay {replica}'\n"
    ) == Publish(
        prometheus_file=str(tmp_path / "r.prom"),
        prometheus_listen="[::1]:9180",
        publish_interval=30,
        icinga2_url=("https://a:5665", "https://b:5665"),
        icinga2_user="u",
        icinga2_password_file=str(tmp_path / "p"),
        object_service="delay {replica}",
    )
    for text, says in (
        ("prometheus-listen = '9180'", "not of the form HOST:PORT"),
        *(
            (f"icinga2-url = '{url}'", "not of the form https://HOST or https://HOST:5665")
            for url in ("http://a", "https://", "https://u:p@a", "https://a/v1")
        ),
        ("icinga2-url = 'https://a:99999'", "port"),
        ("icinga2-url = 'https://a'", "needs icinga2-user and icinga2-password-file"),
    ):
        with pytest.raises(UsageError, match=says):
            published(text)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become somebody else")
@pytest.mark.parametrize(
    ("closed", "mode", "says"),
    [
        ("config.toml", 0o600, r"config\.toml: user nobody may not read it: chgrp \w+ .*config\.toml; chmod 640 "),
        ("monitor.cnf", 0o600, r"defaults-file: .*monitor\.cnf: user nobody may not read it: chgrp \w+ .*monitor\.cnf"),
        ("", 0o700, r"user nobody may not enter .*/conf: chmod a\+x .*/conf$"),
    ],
)
def test_what_another_user_may_not_read(closed: str, mode: int, says: str) -> None:
    """Which file, which user, and what helps: most set-ups fail here first."""
    assert grp.getgrgid(0)
    assert pwd.getpwuid(65534).pw_name == "nobody"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        where = Path(folder) / "conf"
        where.mkdir(mode=0o755)
        (where / "monitor.cnf").write_text("[client]\n")
        (where / "config.toml").write_text(f"{HEAD}defaults-file = 'monitor.cnf'\n")
        (where / closed).chmod(mode)
        os.seteuid(65534)
        try:
            with pytest.raises(UsageError, match=says):
                checked("--config", str(where / "config.toml"))
        finally:
            os.seteuid(0)


# --- the commands ---


def test_every_command_takes_it(tool: Command, plugin: Command, written: Written, tmp_path: Path) -> None:
    remember(tmp_path / "h.db", "a", lambda age: 3603.0 + age % 3, range(580, -1, -10))
    path = written("history = 'h.db'\n[[replica]]\nreplica = 'a'\nhost = '127.0.0.1'\nport = 1\ndelay = '1h'\n")
    run = plugin("--config", path, "--sampling", "worker", "-v")
    assert run.stdout.startswith("DELAYED_REPL OK - Replication delay 360")
    assert f"configuration file: {path}" in run.stdout
    document = json.loads(plugin("--sampling", "worker", "--output", "json", CHECK_DELAYED_REPL_CONFIG=path).stdout)
    assert (document["condition"], document["config"]) == ("in-range", path)
    started = tool("job", "start", "--config", path, "--kind", "backup")
    assert (started.returncode, started.stderr) == (0, "")
    assert started.stdout.strip() in tool("job", "list", "--config", path).stdout
    remember(tmp_path / "h.db", "a", lambda _: 3603.0, range(1))
    assert "active-backup" in tool("diagnose", "--config", path, "--no-look").stdout
    assert "60" in tool("backtest", "--config", path).stdout
    assert len(tool("history", "export", "--config", path).stdout.splitlines()) == 61
    broken = str(tmp_path / "gone.toml")
    run = tool("job", "run", "--config", broken, "--kind", "backup", "--", "echo", "dumped")
    assert (run.returncode, run.stdout) == (0, "dumped\n")
    assert f"--config: cannot read {broken}" in run.stderr
    assert "this backup is not recorded at all" in run.stderr
    run = tool("worker", "--config", path, "--check")
    assert (run.returncode, run.stdout) == (0, f"{path}: right; 1 replica: a\n")
    publishing = "[publish]\nicinga2-url = 'https://localhost'\nicinga2-user = 'u'\nicinga2-password-file = 'gone'\n"
    for wrong, says in (
        (HEAD + publishing, f"[publish]: icinga2-password-file: {tmp_path}/gone: No such file or directory"),
        ("keep = 30\n" + HEAD, "--keep: 30 seconds is less than a trend may reach back"),
    ):
        run = tool("worker", "--config", written(wrong), "--check")
        assert (run.returncode, run.stderr) == (3, f"delayed-repl: {says}\n")
    run = tool("worker", "--config", written("[[replica]]\nprot = 1\n"), "--check")
    assert (run.returncode, run.stdout) == (3, "")
    assert run.stderr == f"delayed-repl: {path}: replica 1: 'prot': there is no such key: did you mean port?\n"


def test_every_command_that_names_a_replica_names_the_file() -> None:
    for name in tool.COMMANDS:
        parser = Parser(name)
        tool._load(name).add_arguments(parser)
        if name not in ("job", "history", "explain", "init", "rescue"):
            assert " --config FILE " in parser.format_help(), name


def test_the_example_has_every_key(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parent.parent / "examples" / "config.toml").read_text()
    for each in (*TOP_KEYS, *REPLICA_KEYS, *PUBLISH_KEYS):
        for key in each.keys:
            assert re.search(rf"^(#   )?{key} = |or {key}\b", text, re.MULTILINE), key
    (tmp_path / "monitor.cnf").write_text("[client]\n")
    (tmp_path / "config.toml").write_text(text)
    assert [replica.name for replica in fleet(str(tmp_path / "config.toml"))] == ["db7", "db8/orders"]
    # What is left out there is right as it stands, too.
    for line in re.findall(r"^#   ([a-z-]+ = .*)", text, re.MULTILINE):
        name = line.partition(" ")[0]
        options = PUBLISH_KEYS if any(name in each.keys for each in PUBLISH_KEYS) else REPLICA_KEYS
        assert Table(tomllib.loads(line), by_key(options), "example").values
