"""The bounded run: everything that ever broke something, what real servers say, and some made-up strangers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.engine import by_chance, covered
from tests.fuzz.targets import PACKET, TABLES, TARGETS, TURN, packed, seeds

KNOWN = [(name, file) for name in TARGETS for file in seeds(name)]


@pytest.mark.parametrize(("name", "file"), KNOWN, ids=[f"{name}/{file}" for name, file in KNOWN])
def test_corpus(name: str, file: str) -> None:
    TARGETS[name].run(seeds(name)[file])


def test_every_target_has_seeds() -> None:
    assert {name for name, _ in KNOWN} == set(TARGETS)


# --- strategies: each makes bytes that look like what a target expects ---

VALUES = st.one_of(
    st.sampled_from(
        [None, b"", b"Yes", b"No", b"yes", b"Connecting", b"Preparing", b"0", b"1", b"-1", b"10", b"+1", b" 1", b"1.0",
         b"18446744073709551615", b"18446744073709551616", b"9" * 400, b"bin.000001", b"\xff\xfe", b"\xd9\xa1", b"NULL",
         b"2026-11-23T01:00:00.000000", b"2026-11-23 01:00:00", b"9999-12-31T23:59:59", b"2026-02-30T00:00:00",
         b"1795395603.250000", b"1795395600", b"0", b"1e9", b"-0", b"nan", b"<script>|\x1b[31m\r\n\0", b"\xe2\x80\xae"]
    ),
    st.binary(max_size=40),
)  # fmt: skip
STATUS = [
    ("Replica_IO_Running", b"Yes"),
    ("Replica_SQL_Running", b"Yes"),
    ("Source_Server_Id", b"1"),
    ("Source_Log_File", b"bin.000001"),
    ("Read_Source_Log_Pos", b"900"),
    ("Relay_Source_Log_File", b"bin.000001"),
    ("Exec_Source_Log_Pos", b"800"),
    ("Relay_Log_Space", b"4096"),
    ("Seconds_Behind_Source", b"3"),
    ("Last_IO_Errno", b"0"),
    ("Last_IO_Error", b""),
    ("Last_SQL_Errno", b"0"),
    ("Last_SQL_Error", b""),
    ("SQL_Delay", b"3"),
    ("SQL_Remaining_Delay", None),
    ("Channel_Name", b""),
]
BEATS: list[list[bytes | None]] = [
    [b"1", b"2026-11-23T01:00:00.000000", b"1795395603.250000", b"2"],
    [b"2", b"2026-11-23 01:00:02", b"1795395603.250000", b"2"],
]


@st.composite
def looks(draw: st.DrawFn) -> bytes:
    """A healthy status and healthy heartbeats, with a few things wrong."""
    old = draw(st.booleans())
    columns = [name.replace("Replica", "Slave").replace("Source", "Master") if old else name for name, _ in STATUS]
    row = [value for _, value in STATUS]
    for place in draw(st.sets(st.integers(0, len(row) - 1), max_size=3)):
        row[place] = draw(VALUES)
    for place in draw(st.sets(st.integers(0, len(row) - 1), max_size=1)):
        columns[place] = draw(st.text(max_size=10))
    rows = draw(st.sampled_from([[row], [row], [row], [], [row, row], [row[:-3]], [[*row, b"x"]]]))
    beats = [list(beat) for beat in BEATS[: draw(st.sampled_from([2, 2, 2, 1, 0]))]]
    for beat in beats:
        for place in draw(st.sets(st.integers(0, 3), max_size=1)):
            beat[place] = draw(VALUES)
    if draw(st.integers(0, 9)) == 0:
        beats.append(beats[0][:3] if beats else [])
    return TABLES.join([packed(columns, rows), packed(["server_id", "ts", "clock", "own"], beats)])


def mixed(*words: bytes) -> st.SearchStrategy[bytes]:
    """Words of a format in any order, with anything in between."""
    return st.lists(st.one_of(st.sampled_from(words), st.binary(max_size=12)), max_size=30).map(b"".join)


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """A seed with a piece of it replaced."""
    known = sorted(seeds(name).values())
    words = st.one_of(st.sampled_from(TARGETS[name].words), st.binary(max_size=8))

    def change(data: bytes, where: float, width: int, word: bytes) -> bytes:
        place = int(where * len(data))
        return data[:place] + word + data[place + width :]

    return st.builds(
        change, st.sampled_from(known), st.floats(0, 1, exclude_max=True), st.sampled_from([0, 0, 1, 2, 8, 100]), words
    )


NUMBERS = st.one_of(
    st.floats().map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["1e400", "null", "[]", "true", '"x"']),
)


@st.composite
def recordings(draw: st.DrawFn) -> bytes:
    """Lines that are nearly right."""
    lines = []
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["sample", "sample", "job"]))
        names = (
            ("delay", "ts", "local", "source_id", "sql_delay", "io_errno")
            if kind == "sample"
            else ("started_at", "finished_at", "void", "kind")
        )
        chosen = {name: draw(NUMBERS) for name in draw(st.sets(st.sampled_from(names), max_size=3))}
        pairs = [
            f'"type":"{kind}"',
            f'"t":{draw(st.one_of(st.sampled_from(["1000.0", "1010.0"]), NUMBERS))}',
            *(f'"{n}":{v}' for n, v in chosen.items()),
        ]
        if kind == "job":
            pairs.append('"id":"j"')
        elif draw(st.booleans()):
            pairs.append(
                draw(
                    st.sampled_from(
                        [
                            '"error":"timeout"',
                            '"error":"server-down"',
                            '"delay":3.0',
                            '"io":"No"',
                            '"relay_log":["b",4]',
                        ]
                    )
                )
            )
        lines.append("{" + ",".join(pairs) + "}\n")
    return "".join(lines).encode()


STRATEGIES: dict[str, tuple[st.SearchStrategy[bytes], int]] = {
    "look": (looks(), 700),
    "times": (
        st.one_of(
            st.from_regex(
                r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{0,9})?", fullmatch=True
            ).map(str.encode),
            st.binary(max_size=40),
        ),
        300,
    ),
    "wire": (st.one_of(mutated("wire"), st.binary(max_size=200)), 400),
    "packets": (
        st.one_of(mutated("packets"), mixed(TURN + b"\x01", PACKET, b"\0\0\0\x02\0\0\0", b"\xfe\0\0\x02\0")),
        150,
    ),
    "optionfile": (st.one_of(mutated("optionfile"), mixed(*TARGETS["optionfile"].words)), 700),
    "recording": (st.one_of(recordings(), mutated("recording")), 400),
    "store": (st.one_of(recordings(), mutated("recording")), 100),
    "fleet": (st.one_of(mutated("fleet"), mixed(*TARGETS["fleet"].words)), 500),
    "options": (st.one_of(mutated("options"), mixed(*TARGETS["options"].words)), 400),
    "url": (st.one_of(mutated("url"), mixed(*TARGETS["url"].words)), 200),
}
"""For each target what it is fed, and how often."""


def test_every_target_has_a_strategy() -> None:
    assert set(STRATEGIES) == set(TARGETS)


@pytest.mark.parametrize("name", STRATEGIES)
def test_strangers(name: str) -> None:
    strategy, count = STRATEGIES[name]

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def run(data: bytes) -> None:
        TARGETS[name].run(data)

    run()


# --- the long run itself ---


def test_what_breaks_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(data: bytes) -> None:
        assert b"X" not in data

    monkeypatch.setitem(TARGETS, "url", TARGETS["url"]._replace(run=breaks, words=(b"X",)))
    for place in ("seeds", "found", "broken"):
        (tmp_path / place).mkdir()
    assert by_chance("url", tmp_path, 20) == 1
    assert [b"X" in path.read_bytes() for path in (tmp_path / "broken").iterdir()] == [True]
    assert "AssertionError" in capsys.readouterr().err


def test_what_was_covered_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"2026-11-23T01:58:58")
    said = covered("times", [tmp_path])
    assert said.startswith("1 inputs reach observe/heartbeat ")
    assert int(said.split()[4]) > 20
