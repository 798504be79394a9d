"""Option files are read as the servers' own my_print_defaults reads them."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from check_delayed_repl.observe.optionfile import read_options

from .servers import Family, Kit

GROUPS = ("client", "client-server", "client-mariadb")
VALUES = 400
PIECES = [
    *("a", "b c", "=", "#", ";", "'", '"', "\\", "\\n", "\\s", "\\t", "\\'", '\\"', "\\x", "\\\\", "''", '""', " "),
    *("\t", " # said", "\v", "\f", "%", "\u00e4", "\u3000", "[", "]", "!", "-"),
]
PRINT = """
cd {folder}
for file in *.cnf
do echo "@@ $file"; my_print_defaults --defaults-file="$PWD/$file" client client-server client-mariadb
done
"""
GROUPED = """\
# said
 ; said
[client]
user = one
  [ client-server]
user = no group of that name
[client-server ]
user\t=\ttwo
[mysql]
user = three
!includedir {folder}/more
! include {folder}/last.inc
"""


def files(folder: Path) -> list[str]:
    """Option files of every kind of line; their names."""
    chance = random.Random(11)
    for number in range(VALUES):
        value = "".join(chance.choice(PIECES) for _ in range(chance.randint(0, 7)))
        name = chance.choice(["user", " user ", "user\t", "loose_user", "skip-ssl_x"])
        line = name if chance.random() < 0.05 else f"{name}={value}"
        (folder / f"{number:03}.cnf").write_text(f"[client]\n{line}{chance.choice(['', '', chr(13)])}\n")
    more = folder / "more"
    more.mkdir()
    (more / "b.cnf").write_text("[client]\nport = 2\n")
    (more / "a.cnf").write_text("[client]\nport = 1\nsocket = a\n")
    (more / "c.cnf.bak").write_text("[client]\nport = 3\n")
    (folder / "last.inc").write_text("[client-mariadb]\nuser = last\n")
    (folder / "grouped.cnf").write_text(GROUPED.format(folder=folder))
    return sorted(path.name for path in folder.glob("*.cnf"))


def test_as_the_servers_own_tool_reads_them(kit: Kit, family: Family, tmp_path: Path) -> None:
    names = files(tmp_path)
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "-v", f"{tmp_path}:{tmp_path}:ro", "--entrypoint", "sh"),
            *(kit.image(family), "-c", PRINT.format(folder=tmp_path)),
        ],
        capture_output=True,
        check=True,
        timeout=120,
    )
    real = dict(part.split(b"\n", 1) for part in done.stdout.split(b"@@ ")[1:])
    assert sorted(real) == [name.encode() for name in names]
    different = {}
    for name in names:
        ours = read_options(str(tmp_path / name), GROUPS)
        assert ours is not None
        # The last one counts, there as here; our names have one spelling.
        theirs: dict[str, str] = {}
        for line in real[name.encode()].decode("utf-8", "surrogateescape").split("\n--"):
            option, equals, value = line.removeprefix("--").removesuffix("\n").partition("=")
            theirs[option.replace("_", "-")] = equals + value
        found = {option: "" if value is None else f"={value}" for option, value in ours.items()}
        if found != theirs:
            different[name] = ((tmp_path / name).read_text(), found, theirs)
    assert different == {}
