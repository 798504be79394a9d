"""The table of faults that were caused for real: what a test writes of each, and the page that shows them all.

A row is a JSON file in the folder that CHECK_DELAYED_REPL_MATRIX names, one for each fault and family, and one for its
twin; nothing is written where that is unset. The page of a folder of rows::

    python -m tests.integration.fault_table FOLDER tests/integration/FAULTS.md
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

MATRIX_VARIABLE = "CHECK_DELAYED_REPL_MATRIX"
COLUMNS = {"mysql": "MySQL", "mysql56": "MySQL", "mariadb": "MariaDB", "mariadb118": "MariaDB"}
"""What a column begins with, by family; the version that was seen follows."""
ANY = "any"
"""In the place of a family: the fault has nothing to do with which server is behind."""
HEAD = """\
# Faults caused for real

Each on a real pair with a real pt-heartbeat, delayed by ten seconds, a sample every second, with limits to fit
(`SCALED` in `checking.py`). In a cell: the condition that told the fault (CRITICAL where no state is named), how many
samples after the cause, and how soon after mending the check was OK again by itself. Its twin is the same situation
without the fault.
`tests/run --all` writes this page.
"""


class Row(NamedTuple):
    """What was seen of one fault on one family, or of its twin: the same situation without the fault."""

    number: str
    """Group and case, such as 1.2."""
    title: str
    family: str
    version: str
    state: str
    """What the fault was detected by; of a twin, the states that it stayed in."""
    condition: str
    """Empty in a twin."""
    seconds: float = 0
    """From the cause to the first sample that told."""
    samples: int = 0
    """How many samples that took, with the one that told."""
    back_s: float = 0
    """From mending to OK."""
    twin: bool = False


def write(row: Row) -> None:
    """Put a row into the folder that the environment names; a run again takes the place of the first."""
    if name := os.environ.get(MATRIX_VARIABLE):
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{row.number}-{row.family}{'-twin' if row.twin else ''}.json"
        file.write_text(json.dumps(row._asdict(), indent=1) + "\n")


def record(
    number: str,
    title: str,
    twin: str,
    condition: str,
    state: str = "CRITICAL",
    seconds: float = 0,
    samples: int = 0,
    back_s: float = 0,
    family: str = ANY,
    version: str = "",
) -> None:
    """Write the row of a fault that no `Watched.fault` can show, and its `twin` in words, which stayed OK."""
    write(Row(number, title, family, version, state, condition, seconds, samples, back_s))
    write(Row(number, twin, family, version, "OK", "", twin=True))


def page(rows: Sequence[Row]) -> str:
    """One line a fault, a column for each family that is there; then those that no server has a part in."""
    families = [family for family in COLUMNS if any(row.family == family for row in rows)]
    parts = [lines([row for row in rows if row.family in columns], columns) for columns in (families, [ANY])]
    return HEAD + "".join("\n" + "\n".join(part) + "\n" for part in parts)


def lines(rows: Sequence[Row], columns: Sequence[str]) -> Iterator[str]:
    heads = ["any server" if column == ANY else heading(column, rows) for column in columns]
    yield "| | fault | " + " | ".join(heads) + " | its twin stays OK |"
    yield "| --- " * (len(columns) + 3) + "|"
    found = {(row.number, row.family, row.twin): row for row in rows}
    for number in sorted({row.number for row in rows}, key=lambda number: [int(part) for part in number.split(".")]):
        faults = [found.get((number, column, False)) for column in columns]
        twins = [twin for column in columns if (twin := found.get((number, column, True)))]
        titles = [fault.title for fault in faults if fault] or ["-"]
        yield f"| {number} | {titles[0]} | {' | '.join(map(cell, faults))} | {twin_of(twins)} |"


def heading(family: str, rows: Iterable[Row]) -> str:
    versions = sorted({row.version for row in rows if row.family == family and row.version})
    return " ".join([COLUMNS[family], *versions])


def cell(fault: Row | None) -> str:
    if fault is None or fault.state == "OK":
        return "stays OK" if fault else "-"
    state = "" if fault.state == "CRITICAL" else f" ({fault.state})"
    return f"`{fault.condition}`{state} · {fault.samples} · {fault.back_s:.0f} s"


def twin_of(twins: Sequence[Row]) -> str:
    """The situation in words, and the states beside OK that it may be in."""
    if not twins:
        return "-"
    beside = sorted({state for twin in twins for state in twin.state.split(", ")} - {"OK"})
    return twins[0].title + (f" (or {', '.join(beside)})" if beside else "")


def main(folder: str, file: str) -> None:
    rows = [Row(**json.loads(found.read_text())) for found in sorted(Path(folder).glob("*.json"))]
    Path(file).write_text(page(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
