"""The table of faults in the README: rows as JSON files, one line a fault, a column for each family that was run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.fault_table import ANY, BEGIN, END, MATRIX_VARIABLE, Row, main, read, table, write

DUPLICATE = Row("1.1", "SQL thread: duplicate key", "mysql", "9.7.4", "CRITICAL", "sql-error", 10.7, 11, 0.6)
FAILOVER = Row("3.10", "another source", "mariadb", "10.11.18", "WARNING", "source-changed", 0.4, 1, 9.6)


def twin(of: Row, title: str, states: str = "OK") -> Row:
    return Row(of.number, title, of.family, of.version, states, "", twin=True)


ROWS = (
    DUPLICATE,
    twin(DUPLICATE, "another row is written"),
    DUPLICATE._replace(family="mariadb", version="10.11.18", looks=12),
    FAILOVER._replace(number="3.9", title="a backup", condition="sql-stopped"),
    twin(FAILOVER._replace(number="3.9"), "a job is recorded", "OK, WARNING"),
    FAILOVER,
    twin(FAILOVER, "the same source again"),
    Row("9.5", "two workers at once", ANY, "", "OK", "in-range"),
    twin(Row("9.5", "", ANY, "", "OK", "in-range"), "one worker"),
    Row("10.2", "a port that says nothing", ANY, "", "CRITICAL", "timeout", 5, 1, 1),
)
TABLE = """\
| | fault | MySQL 9.7.4 | MariaDB 10.11.18 | its twin stays OK |
| --- | --- | --- | --- | --- |
| 1.1 | SQL thread: duplicate key | `sql-error` · 11 · 1 s | `sql-error` · 12 · 1 s · no twin | another row is written |
| 3.9 | a backup | - | `sql-stopped` (WARNING) · 1 · 10 s | a job is recorded (or WARNING) |
| 3.10 | another source | - | `source-changed` (WARNING) · 1 · 10 s | the same source again |

| | fault | any server | its twin stays OK |
| --- | --- | --- | --- |
| 9.5 | two workers at once | stays OK | one worker |
| 10.2 | a port that says nothing | `timeout` · 1 · 1 s · no twin | - |"""


def test_one_line_a_fault_and_a_column_a_family() -> None:
    assert table(ROWS) == TABLE


def test_rows_are_kept_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MATRIX_VARIABLE, raising=False)
    write(DUPLICATE)
    folder = tmp_path / "rows"
    monkeypatch.setenv(MATRIX_VARIABLE, str(folder))
    for row in ROWS:
        write(row)
        write(row)  # a run again takes the place of the first
    assert sorted(read(folder)) == sorted(ROWS)
    write(twin(DUPLICATE, "a twin may be another on another server")._replace(family="mariadb"))
    with pytest.raises(ValueError, match=r"1\.1 is 'SQL thread: duplicate key' already, and not 'another fault'"):
        write(DUPLICATE._replace(title="another fault", family="mariadb118"))
    assert json.loads((folder / "1.1-mysql.json").read_text())["condition"] == "sql-error"


def test_the_table_takes_the_place_of_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MATRIX_VARIABLE, str(tmp_path / "rows"))
    for row in ROWS:
        write(row)
    readme = tmp_path / "README.md"
    readme.write_text(f"# Faults\n\n{BEGIN}\nan old table\n{END}\n\nMore.\n")
    assert main([str(tmp_path / "rows"), str(readme)]) == 0
    assert readme.read_text() == f"# Faults\n\n{BEGIN}\n{TABLE}\n{END}\n\nMore.\n"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "rows", "error"),
    [("# Faults\n", ROWS, "has no <!-- faults -->"), (f"{BEGIN}\n{END}\n", (), "no rows in ")],
)
def test_nothing_is_written_where_there_is_no_place_or_no_row(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    rows: tuple[Row, ...],
    error: str,
) -> None:
    monkeypatch.setenv(MATRIX_VARIABLE, str(tmp_path / "rows"))
    for row in rows:
        write(row)
    readme = tmp_path / "README.md"
    readme.write_text(text)
    assert main([str(tmp_path / "rows"), str(readme)]) == 1
    assert error in capsys.readouterr().err
    assert readme.read_text() == text
