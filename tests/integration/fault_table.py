"""The table of faults that were caused for real: what a test writes of each, and what the README shows of them all.

A row is a JSON file in the folder that CHECK_DELAYED_REPL_MATRIX names, one for each fault and family, and one for its
twin; nothing is written where that is unset. From a folder of rows, into the README between its markers::

    python -m tests.integration.fault_table FOLDER README.md
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

MATRIX_VARIABLE = "CHECK_DELAYED_REPL_MATRIX"
BEGIN, END = "<!-- faults -->", "<!-- /faults -->"

COLUMNS = {"mysql": "MySQL", "mysql56": "MySQL", "mariadb": "MariaDB", "mariadb118": "MariaDB"}
"""What a column begins with, by family; the version that was seen follows."""
ANY = "any"
"""In the place of a family: the fault has nothing to do with which server is behind."""


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
    """From the cause to the first look that told."""
    looks: int = 0
    """How many looks that took, with the one that told."""
    back_s: float = 0
    """From mending to OK."""
    twin: bool = False


def write(row: Row) -> None:
    """Put a row into the folder that the environment names; raises ValueError where another fault has its number."""
    name = os.environ.get(MATRIX_VARIABLE)
    if not name:
        return
    folder = Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    for other in read(folder, f"{row.number}-*.json"):
        if not other.twin and not row.twin and other.title != row.title:
            raise ValueError(f"{folder}: {row.number} is {other.title!r} already, and not {row.title!r}")
    file = folder / f"{row.number}-{row.family}{'-twin' if row.twin else ''}.json"
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(row._asdict(), indent=1) + "\n")
    unfinished.replace(file)  # whole at once: other tests read the folder too


def read(folder: Path, names: str = "*.json") -> list[Row]:
    """All rows of a folder; raises OSError, and TypeError where a file is no row."""
    return [Row(**json.loads(file.read_text())) for file in sorted(folder.glob(names))]


def table(rows: Iterable[Row]) -> str:
    """Markdown: one line a fault, a column for each family that is there; then those that no server has a part in."""
    rows = list(rows)
    families = [family for family in COLUMNS if any(row.family == family for row in rows)]
    parts = []
    for columns in (families, [ANY]):
        part = [row for row in rows if row.family in columns]
        if part:
            parts.append(_lines(part, columns))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _lines(rows: list[Row], columns: Sequence[str]) -> list[str]:
    faults = {(row.number, row.family): row for row in rows if not row.twin}
    twins = {(row.number, row.family): row for row in rows if row.twin}
    heads = [_head(column, rows) for column in columns]
    lines = ["| | fault | " + " | ".join(heads) + " | its twin stays OK |", "| --- " * (len(columns) + 3) + "|"]
    for number in sorted({number for number, _ in faults}, key=_order):
        here = [(faults.get((number, column)), twins.get((number, column))) for column in columns]
        title = next(fault.title for fault, _ in here if fault)
        cells = [_cell(fault, twin) for fault, twin in here]
        lines.append(f"| {number} | {title} | {' | '.join(cells)} | {_twin(twin for _, twin in here)} |")
    return lines


def _head(column: str, rows: list[Row]) -> str:
    if column == ANY:
        return "any server"
    versions = sorted({row.version for row in rows if row.family == column and row.version})
    return " ".join([COLUMNS[column], *versions])


def _cell(fault: Row | None, twin: Row | None) -> str:
    """What was seen, such as ``io-error · 2 · 9 s``."""
    if fault is None:
        return "-"
    if fault.state == "OK":
        return "stays OK"
    what = f"`{fault.condition}`" + ("" if fault.state == "CRITICAL" else f" ({fault.state})")
    return f"{what} · {fault.looks} · {fault.back_s:.0f} s" + ("" if twin else " · no twin")


def _twin(twins: Iterable[Row | None]) -> str:
    """The situation in words, and the states beside OK that it may be in."""
    seen = [twin for twin in twins if twin]
    if not seen:
        return "-"
    beside = sorted({state for twin in seen for state in twin.state.split(", ")} - {"OK"})
    return seen[0].title + (f" (or {', '.join(beside)})" if beside else "")


def _order(number: str) -> list[int]:
    return [int(part) for part in number.split(".")]


def main(arguments: Sequence[str]) -> int:
    """Put the table of a folder into a file between its markers: 0; 1 where that cannot be done."""
    if len(arguments) != 2:
        print(f"usage: fault_table FOLDER FILE (a folder of rows, a file with {BEGIN} and {END})", file=sys.stderr)
        return 3
    folder, file = Path(arguments[0]), Path(arguments[1])
    rows = read(folder)
    text = file.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not rows or not begin or not end:
        print(f"fault_table: {f'{file} has no {BEGIN} … {END}' if rows else f'no rows in {folder}'}", file=sys.stderr)
        return 1
    file.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
