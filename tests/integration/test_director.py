"""Icinga Director takes the basket of examples/icinga2, exports the same, and deploys what command.conf says.

Director is used by its command line, on its own database and with an Icinga 2 beside it. The plugin is a dummy: what
counts is the command line that it is started by.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from testcontainers.core.container import DockerContainer

from .icinga import API_USER, Icinga
from .machine import Machine
from .monitoring import EXAMPLES, PLUGIN_FOLDER, USER, example
from .servers import Kit, free_port
from .test_icinga import EVERY, dsl

pytestmark = pytest.mark.monitoring

NAME = "director"
CONFIG = "/etc/check_delayed_repl/config.toml"
BASKET: dict[str, Any] = json.loads((EXAMPLES / "icinga2/director-basket.json").read_text())
SETTINGS = {
    "/etc/icingaweb2/config.ini": '[global]\nconfig_backend = "ini"\n',
    "/etc/icingaweb2/resources.ini": f'[{NAME}]\ntype = "db"\ndb = "mysql"\nhost = "localhost"\ncharset = "utf8mb4"\n'
    f'dbname = "{NAME}"\nusername = "{NAME}"\npassword = "not-a-real-one"\n',
    "/etc/icingaweb2/modules/director/config.ini": f'[db]\nresource = "{NAME}"\n',
    "/etc/icingaweb2/modules/director/kickstart.ini": f'[config]\nendpoint = "{NAME}"\nhost = "127.0.0.1"\n'
    f'username = "{API_USER[0]}"\npassword = "{API_USER[1]}"\n',
}
DATABASE = f"""
install -d -o {USER} /var/lib/mysql /run/mysqld
mariadb-install-db --user={USER} --skip-test-db --auth-root-authentication-method=normal >/dev/null
(mariadbd --user={USER} --skip-networking --innodb-flush-log-at-trx-commit=0 >/tmp/mariadb.log 2>&1 &)
for try in $(seq 300); do mariadb -e 'SELECT 1' >/dev/null 2>&1 && break; sleep 0.2; done
mariadb -e "CREATE DATABASE {NAME} CHARACTER SET utf8mb4; GRANT ALL ON {NAME}.* TO {NAME}@localhost
  IDENTIFIED BY 'not-a-real-one'"
for module in incubator reactbundle {NAME}; do icingacli module enable $module; done
icingacli director migration run
"""
SERVICES: dict[str, dict[str, Any]] = {
    "by address": {},
    "by name": {"host": "db7.example.com"},
    "by socket": {"socket": "/run/mysqld/mysqld.sock", "sampling": "worker"},
    "configured": {"config": CONFIG, "replica": "orders", "no_local_heartbeat": False},
    "configured, by name": {"config": CONFIG, "host": "db7.example.com"},
    "every": EVERY,
}
"""The options of services, by name. Where a configuration file is named, the template names it."""


class DirectorMachine(Machine):
    """Director, its database, and the Icinga 2 that it deploys to."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit, NAME, kit.network())
        self.api_port = free_port()

    def _made(self) -> DockerContainer:
        made = self._from("director", hostname=self.name, init=True)
        return made.with_command(["sleep", "infinity"]).with_bind_ports(5665, self.api_port)

    put = Machine.put_files

    def restore(self, basket: object) -> None:
        self.put({"/tmp/basket.json": json.dumps(basket)})
        self.run("icingacli director basket restore < /tmp/basket.json")

    def create(self, kind: str, name: str, **properties: Any) -> None:
        self.put({"/tmp/object.json": json.dumps(properties)})
        self.run(f"icingacli director {kind} create '{name}' --json < /tmp/object.json")

    def ask(self, query: str) -> str:
        return self.run(f'mariadb -N {NAME} -e "{query}"').output.strip()

    def exported(self) -> dict[str, Any]:
        """Director's own export of the objects, less its numbers and what is not set."""
        chosen = json.dumps({"Command": ["delayed_repl"], "ServiceTemplate": ["delayed-replication"]})
        self.put({"/tmp/chosen.json": chosen})
        self.ask(
            "REPLACE INTO director_basket (uuid, basket_name, owner_type, owner_value, objects)"
            " VALUES (REPEAT('b', 16), 'delayed', 'user', 'tests', LOAD_FILE('/tmp/chosen.json'))"
        )
        found: dict[str, Any] = json.loads(self.run("icingacli director basket dump --name delayed").output)
        for part in ("Datafield", "DatafieldCategory"):
            for each in found[part].values():
                del each["originalId"]
                for key in [key for key, value in each.items() if value is None]:
                    del each[key]
        return found


@pytest.fixture(scope="module")
def director(kit: Kit) -> Iterator[DirectorMachine]:
    machine = DirectorMachine(kit)
    machine.go()
    yield machine
    machine.close()


@pytest.fixture(scope="module")
def icinga(director: DirectorMachine) -> Icinga:
    """Icinga 2 with the rules of command.conf under other names: `by_hand`, on hosts that are called so."""
    machine, made = director, Icinga(director)  # type: ignore[arg-type]
    machine.put(SETTINGS)
    machine.put({f"{PLUGIN_FOLDER}/check_delayed_repl": "#!/bin/sh\necho DELAYED_REPL OK\n"}, mode=0o755)
    machine.run(DATABASE)
    command = example("icinga2/command.conf", **{'CheckCommand "delayed_repl"': 'CheckCommand "by_hand"'})
    made.start_alone({"by-hand.conf": command + "".join(map(by_hand, ("address", "address6")))})
    machine.run("icingacli director kickstart run")
    return made


ADDRESSES = {"address": "192.0.2.7", "address6": "2001:db8::7"}


def by_hand(key: str) -> str:
    """A host that has an address of this kind alone, and its services, in Icinga's language."""
    text = f'object Host "by hand, {key}" {{\n  check_command = "dummy"\n  {key} = "{ADDRESSES[key]}"\n}}\n'
    for name, given in SERVICES.items():
        text += f'object Service "{name}" {{\n  host_name = "by hand, {key}"\n  check_command = "by_hand"\n'
        text += "".join(f"  vars.delayed_repl_{option} = {dsl(value)}\n" for option, value in given.items()) + "}\n"
    return text


def test_director_exports_what_it_was_given_however_often(icinga: Icinga, director: DirectorMachine) -> None:
    director.restore(BASKET)
    assert director.exported() == BASKET
    changes = "SELECT COUNT(*) FROM director_activity_log"
    before = director.ask(changes)
    director.restore(BASKET)
    assert director.ask(changes) == before
    assert director.exported() == BASKET


def test_a_field_whose_text_has_changed_is_there_once(icinga: Icinga, director: DirectorMachine) -> None:
    """As after an update: the form has it with its new text alone."""
    older = json.loads(json.dumps(BASKET))
    older["Datafield"]["1"]["description"] = "Said in another way"
    director.restore(older)
    director.restore(BASKET)
    fields = "FROM icinga_command_field JOIN director_datafield ON id = datafield_id"
    counts = director.ask(f"SELECT COUNT(*), COUNT(DISTINCT varname) {fields}").split()
    assert counts == 2 * [str(len(BASKET["Datafield"]))]
    assert director.ask(f"SELECT COUNT(*) {fields} WHERE description LIKE 'Said in%'") == "0"


def test_services_run_the_same_commands_as_by_command_conf(icinga: Icinga, director: DirectorMachine) -> None:
    director.restore(BASKET)
    for key, address in ADDRESSES.items():
        host = {"object_type": "object", "check_command": "dummy", key: address}
        director.create("host", key, **host)
        for name, given in SERVICES.items():
            values = {f"delayed_repl_{option}": value for option, value in given.items()}
            templated = values.pop("delayed_repl_config", None)
            what = {"imports": ["delayed-replication"]} if templated else {"check_command": "delayed_repl"}
            director.create("service", name, object_type="object", host=key, vars=values, **what)
    director.run("icingacli director config deploy")
    icinga.answered(lambda: icinga.service("address6", "every"), 60, "what was deployed is there")
    for key in ADDRESSES:
        for name in SERVICES:
            ran = icinga.submit(key, name)["last_check_result"]
            assert ran["output"] == "DELAYED_REPL OK"
            assert ran["command"] == icinga.submit(f"by hand, {key}", name)["last_check_result"]["command"]
            assert ran["command"][0] == f"{PLUGIN_FOLDER}/check_delayed_repl"
    plain = icinga.service("address6", "by address")["last_check_result"]["command"]
    assert plain[1:] == ["--host", ADDRESSES["address6"]]

    service = icinga.service("address", "configured")
    assert "delayed-replication" in service["templates"]
    assert (service["check_interval"], service["retry_interval"], service["max_check_attempts"]) == (60, 60, 1)
    assert service["enable_flapping"] is False
