"""Sizes as people read them."""

import pytest

from data_export import sizes


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (0.4, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1_000, "1.0 kB"),
        (34_776, "34.8 kB"),
        (99_499, "99.5 kB"),
        (99_500, "100 kB"),
        (999_500, "1.0 MB"),
        (3_100_000, "3.1 MB"),
        (310_000_000, "310 MB"),
        (1_258_000_000, "1.3 GB"),
        (10**18, "1000 PB"),
    ],
)
def test_three_digits_and_a_unit(size: float, words: str) -> None:
    assert sizes.in_words(size) == words
