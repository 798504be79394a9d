"""Any bytes at the outer edges give a value or a clean error: what real servers say, and made-up strangers.

A run makes up the same strangers every time. `python -m tests.fuzz` goes on with others, for as long as it is told.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, seeds

KNOWN = [(name, file) for name in TARGETS for file in seeds(name)]


@pytest.mark.parametrize(("name", "file"), KNOWN, ids=[f"{name}/{file}" for name, file in KNOWN])
def test_corpus(name: str, file: str) -> None:
    TARGETS[name](seeds(name)[file])


# What such input is made of, between blanks; an escape such as \\n or \\x20 is one byte.
WORDS = {
    "sample": r"""
        Slave_IO_Running Source_Server_Id SQL_Delay Channel_Name ts \xfb Yes No yes Connecting Preparing 0 1 -1 +1
        1.0 10 1e9 nan 18446744073709551615 18446744073709551616 bin.000001 \xff\xfe \xd9\xa1 NULL
        0000-00-00\x2000:00:00 2026-11-23T01:00:00.000000 2026-11-23\x2001:00:00 9999-12-31T23:59:59
        2026-02-30T00:00:00 1795395603.250000 1795395600
        <script>|\x1b[31m\r\n\0 \xe2\x80\xae pw-7h-secret \x1d \x1e \x1f""",
    "wire": r"\xfe \xff \xfb \xfc\xff\xff \0\0",
    "packets": r"""
        \xf5TURN \xf5TURN\x01 \xf5PACK \xfe\0\0\x02\0 \0\0\0\x02\0\0\0 \xff\x15\x04#28000
        \xfecaching_sha2_password\0 \xfedialog\0 \x01\x04 \x01\x03 \xfb/etc/passwd""",
    "optionfile": r"""
        [client]\n [monitoring]\n pw-7h-secret password= user= port= socket= ssl-mode= !include\x20 !includedir\x20
        skip-ssl\n loose- # ' " \\ \n = protocol=tcp\n""",
    "recording": r"""
        {"type":"sample","t": "delay": "error":"timeout" {"type":"job","t":1.0,"id":"j","kind":"backup", "started_at":
        "finished_at":null "source_log":["bin.000001",4] 1e308 -1e308 NaN [[[[ "\\ud800" 9223372036854775808 1e400 -0.0
        [] "x" 7200.0 }\n , \xe2\x80\xa8 null true "filters":["Replicate_Do_DB=a"] "server":"uuid:a"
        "relay_limited":true "id":"*" "void":true""",
    "config": r"""
        [[replica]]\n [defaults]\n [publish]\n host= port= interval= timeout= replica= "x"\n 3306\n 1e400\n nan\n true\n
        1979-05-27\n [1]\n \'\'\' ssl-mode= socket= password= defaults-file= delay=""",
    "options": r"""
        --max-delay-time\n --window= --min-correlation= --max-job-behind\nx=1 -t\n 1e9 nan 0x1 1_0 \xc2\xb2 -P\n
        --heartbeat-table\n --help\n 1.5h -- -H\nh\n --heartbeat-timezone\n../ --job-stops-server\nbackup\n""",
    "url": "/ ? & ssl-mode= % [ ] defaults-file= #",
}


def strangers(name: str) -> st.SearchStrategy[bytes]:
    """A seed with some of its values or a piece of it replaced, or words of its format with anything in between."""
    words = [word.encode().decode("unicode_escape").encode("latin-1") for word in WORDS[name].split()]
    piece = st.one_of(st.sampled_from(words), st.binary(max_size=12))
    known = st.sampled_from(sorted(seeds(name).values()))
    place = st.floats(0, 1, exclude_max=True)

    def other_values(data: bytes, changes: list[tuple[float, bytes]]) -> bytes:
        parts = re.split(rb"([\x1d-\x1f,:=\n&?/{}]+)", data)
        for where, word in changes:
            parts[int(where * len(parts)) // 2 * 2] = word
        return b"".join(parts)

    def other_piece(data: bytes, where: float, width: int, word: bytes) -> bytes:
        start = int(where * len(data))
        return data[:start] + word + data[start + width :]

    return st.one_of(
        st.builds(other_values, known, st.lists(st.tuples(place, piece), min_size=1, max_size=3)),
        st.builds(other_piece, known, place, st.sampled_from([0, 0, 1, 2, 8, 100]), piece),
        st.lists(piece, max_size=30).map(b"".join),
    )


TIMES = r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{0,9})?"
COUNTS = {"sample": 500, "times": 300, "wire": 300, "packets": 150, "optionfile": 700, "recording": 600, "config": 500}
COUNTS |= {"options": 400, "url": 200}
"""How often each target is fed."""


def feed(name: str, *, derandomize: bool) -> None:
    """Feeds a target as often as it says."""
    times = st.one_of(st.from_regex(TIMES, fullmatch=True).map(str.encode), st.binary(max_size=40))

    @settings(
        max_examples=COUNTS[name],
        derandomize=derandomize,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(times if name == "times" else strangers(name))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_strangers(name: str) -> None:
    feed(name, derandomize=True)
