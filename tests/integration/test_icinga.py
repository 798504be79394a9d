"""Icinga 2 runs the check by the CheckCommand and the rules of examples/icinga2; what it made of the result is asked
of its API."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from check_delayed_repl.plugin import build_parser

from .icinga import TELL, Icinga
from .monitoring import HISTORY, LABELS, PLUGIN_FOLDER, TOOL, USER, Site, example, limits_by_name
from .servers import Pair, wait_until

pytestmark = pytest.mark.monitoring

SECRET = "not-a-real-one"
EVERY = {
    "host": "192.0.2.7",
    "port": 3307,
    "user": "monitor",
    "password": SECRET,
    "defaults_file": "/etc/check_delayed_repl/monitor.cnf",
    "defaults_group": "mysql",
    "ssl_mode": "verify-ca",
    "ssl_ca": "/etc/ssl/ca.pem",
    "ssl_cert": "/etc/ssl/cert.pem",
    "ssl_key": "/etc/ssl/key.pem",
    "channel": "orders",
    "timeout": "1",
    "replica": "every",
    "heartbeat_table": "meta.heartbeat",
    "master_server_id": 7,
    "heartbeat_timezone": "Europe/Berlin",
    "delay_mode": "native",
    "no_local_heartbeat": True,
    "allow_filter": ["replicate_do_db=a", "replicate_do_db=b"],
    "delay": "2h",
    "min_delay_time": "80m",
    "max_delay_time": "2h",
    "max_seconds_behind": 61,
    "max_relay_behind": "7h",
    "max_master_behind": "31m",
    "max_last_seen": 62,
    "max_backup_behind": "17h",
    "max_deshard_behind": "8h",
    "max_recovery_time": "5h",
    "max_trend_time": "3h",
    "max_job_behind": ["copy=4h", "alter=2h"],
    "job_stops_server": ["copy", "alter"],
    "window": "11m",
    "fit": "window",
    "min_recovery_slope": "0.2",
    "min_correlation": "0.6",
    "history": "/var/lib/check_delayed_repl/every.db",
    "sampling": "inline",
    "keep": "20d",
    "output": "text",
    "verbose": 2,
}
"""A value for every option; the flags are set."""


def limits() -> dict[str, str]:
    """LIMITS as an Icinga host would have them."""
    return {name.replace("-", "_"): value for name, value in limits_by_name().items()}


def dsl(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[ " + ", ".join(map(dsl, value)) + " ]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {dsl(each)}" for name, each in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)


def hosts() -> str:
    replicas = {
        "inline": limits(),
        "sampled": limits() | {"sampling": "worker", "worker_host": "db7"},
        "brief": limits() | {"max_backup_behind": "12"},
        "every": EVERY,
        "socket": {"socket": "/run/mysqld/mysqld.sock", "sampling": "worker"},
        "configured": {"config": "/etc/check_delayed_repl/config.toml"},
    }
    rules = "".join(f'  vars.delayed_replicas["{name}"] = {dsl(replica)}\n' for name, replica in replicas.items())
    return (
        'object Host "db7" {\n  check_command = "dummy"\n  address = "replica"\n'
        f"  vars.delayed_replication_worker = true\n{rules}}}\n"
    )


@pytest.fixture(scope="module")
def icinga(site: Site, line: Pair) -> Iterator[Icinga]:
    files = {
        "command.conf": example("icinga2/command.conf"),
        "services.conf": example("icinga2/services.conf", **{"_interval = 1m": "_interval = 1s"}),
        "notifications.conf": example("icinga2/notifications.conf", **{"mail-service-notification": "tell"}),
        "tests.conf": TELL + hosts(),
    }
    with site.watching(line, "icinga", api=True) as station:
        station.worker("db7/sampled")
        yield Icinga(station).start_alone(files)


def test_the_result_as_icinga_parsed_it(icinga: Icinga) -> None:
    icinga.expect("db7", "delayed replication inline", "OK", "trend: intercept", 60)
    found = icinga.submit("db7", "delayed replication inline")
    result = found["last_check_result"]
    assert result["state"] == 0
    assert result["exit_status"] == 0
    assert found["state_type"] == 1, "a soft state"
    first, *rest = result["output"].splitlines()
    assert first.startswith("DELAYED_REPL OK - Replication delay")
    assert rest[0].startswith("[OK in-range] Replication delay")
    assert rest[1].startswith("trend: intercept")
    assert "|" not in result["output"]
    pairs = dict(text.split("=", 1) for text in result["performance_data"])
    assert tuple(pairs) == LABELS
    assert 6 < float(pairs["delay"].partition("s;")[0]) < 16
    assert pairs["delay"].endswith("s;;6:16")
    assert float(pairs["samples"]) >= 1
    assert pairs["sql_delay"] == "10s"


def test_worker_sampling_and_the_worker_itself(icinga: Icinga) -> None:
    found = icinga.expect("db7", "delayed replication sampled", "OK", "DELAYED_REPL OK", 40)
    assert "worker_age=U" not in found["last_check_result"]["performance_data"]
    command = found["last_check_result"]["command"]
    assert command[0] == f"{PLUGIN_FOLDER}/check_delayed_repl"


def test_every_option_has_a_variable(icinga: Icinga) -> None:
    parser = build_parser()
    options = {
        next(name for name in action.option_strings if name.startswith("--")): action
        for action in parser._actions
        if action.option_strings
    }
    names = {option[2:].replace("-", "_") for option in options} - {"help", "version", "socket", "config"}
    assert names == set(EVERY)

    result = icinga.submit("db7", "delayed replication every")["last_check_result"]
    command = result["command"]
    assert command[0] == f"{PLUGIN_FOLDER}/check_delayed_repl"
    for name, value in EVERY.items():
        option = f"--{name.replace('_', '-')}"
        if name == "verbose":
            assert "-vv" in command
        elif value is True:
            assert option in command
        elif isinstance(value, list):
            given = [command[place + 1] for place, word in enumerate(command) if word == option]
            assert given == value
        else:
            assert command[command.index(option) + 1] == str(value)
    # It was understood: what it says is that this server cannot be reached, in two seconds.
    assert result["state"] == 2
    assert result["output"].startswith("DELAYED_REPL CRITICAL - ")
    assert SECRET not in result["output"]
    assert result["execution_end"] - result["execution_start"] < 5


def test_a_socket_or_a_file_beats_the_hosts_address(icinga: Icinga) -> None:
    command = icinga.submit("db7", "delayed replication socket")["last_check_result"]["command"]
    assert "--host" not in command
    assert command[command.index("--socket") + 1] == "/run/mysqld/mysqld.sock"
    assert "--no-local-heartbeat" not in command
    assert "--verbose" not in command
    assert "-v" not in command
    command = icinga.submit("db7", "delayed replication configured")["last_check_result"]["command"]
    assert "--host" not in command
    assert command[command.index("--config") + 1] == "/etc/check_delayed_repl/config.toml"


def test_a_mistyped_option_of_a_replica_is_refused(icinga: Icinga) -> None:
    wrong = (
        'object Host "db6" {\n  check_command = "dummy"\n  vars.delayed_replicas["a"] = { max_dealy_time = "1h" }\n}\n'
    )
    icinga.station.put({"/etc/icinga2/conf.d/wrong.conf": wrong})
    try:
        ran = icinga.station.run("icinga2 daemon -C", check=False)
    finally:
        icinga.station.run("rm /etc/icinga2/conf.d/wrong.conf")
    assert ran.status != 0
    assert "Host db6: vars.delayed_replicas[a] has an option that there is none of: max_dealy_time" in ran.output


def test_an_overrun_calls_once_and_its_end_is_told(icinga: Icinga) -> None:
    name = "delayed replication brief"
    station = icinga.station

    def told() -> list[tuple[str, ...]]:
        return [told for told in icinga.told() if told[3] == name]

    icinga.expect("db7", name, "OK", "", 30)
    common = f"--history {HISTORY} --replica db7/brief"
    job = station.run(f"{TOOL} job start {common} --kind backup", user=USER).output.split()[-1]
    icinga.expect("db7", name, "WARNING", "Active backup: running", 12)
    assert told() == []
    icinga.expect("db7", name, "CRITICAL", "--max-backup-behind", 30)
    wait_until(told, 10, "somebody is called")
    time.sleep(2)
    assert told() == [("dba-oncall", "PROBLEM", "db7", name, "CRITICAL")]
    station.run(f"{TOOL} job finish {job} {common}", user=USER)
    icinga.expect("db7", name, "OK", "", 20)
    wait_until(lambda: len(told()) > 1, 10, "the end is told")
    assert told()[1:] == [("dba-oncall", "RECOVERY", "db7", name, "OK")]


def test_a_dead_worker_is_one_call(icinga: Icinga) -> None:
    """The services that it feeds become CRITICAL; who is called is called for the worker."""
    icinga.expect("db7", "delayed-repl worker", "OK", "PROCS OK", 20)
    icinga.expect("db7", "delayed replication sampled", "OK", "", 20)
    before = len(icinga.told())
    icinga.station.kill_worker()
    icinga.expect("db7", "delayed-repl worker", "CRITICAL", "PROCS CRITICAL", 10)
    icinga.expect("db7", "delayed replication sampled", "CRITICAL", "", 20)
    time.sleep(2)
    assert [told[2:] for told in icinga.told()[before:]] == [("db7", "delayed-repl worker", "CRITICAL")]
