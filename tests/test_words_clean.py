"""Text from elsewhere is made harmless in one place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check_delayed_repl.words import clean


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain text, as it is: 'x'@'y' 100% [a] {b} ~ ü", "plain text, as it is: 'x'@'y' 100% [a] {b} ~ ü"),
        ("two\nlines\r\n\tand  spaces ", "two lines and spaces"),
        ("x | rta=0", "x / rta=0"),
        ("<script>alert('1')</script>", "(script)alert('1')(/script)"),
        ('`id` $(id) "q" a&b \\n', "'id' _(id) 'q' a+b /n"),
        ("nul\0bell\x07esc\x1b[31m", "nul?bell?esc?[31m"),
        ("right\u202eto\u200bleft\u2028line\udcff", "right?to?left line?"),
    ],
)
def test_examples(text: str, printed: str) -> None:
    assert clean(text) == printed


@given(st.text(), st.integers(3, 50))
def test_whatever_comes_in_is_one_short_printable_line(text: str, length: int) -> None:
    printed = clean(text, length)
    assert printed.isprintable()
    assert len(printed) <= length
    assert not set(printed) & set('|<>&`"$\\')
    printed.encode()


def test_a_long_text_says_that_it_was_cut() -> None:
    assert clean("x" * 100_000_000, 10) == "xxxxxxx..."
