"""Ranges of windows and sizes in words that cannot be misread."""

from datetime import UTC, datetime

import pytest

from data_export.wording import size_in_words, windows_in_words


@pytest.mark.parametrize(
    ("count", "first", "last", "timezone", "expected"),
    [
        (3, "2025-03-16", "2025-03-18", "UTC", "3 windows, starting 2025-03-16 up to and including 2025-03-18 (UTC)"),
        (1, "2025-03-16", "2025-03-16", "UTC", "1 window, starting 2025-03-16 (UTC)"),
        (
            2,
            "2025-03-29T23:00",
            "2025-03-30T22:00",  # after a day of 23 hours
            "Europe/Paris",
            "2 windows, starting 2025-03-30 up to and including 2025-03-31 (Europe/Paris)",
        ),
        (
            25,
            "2025-03-16",
            "2025-03-17",
            "UTC",
            "25 windows, starting 2025-03-16 00:00 up to and including 2025-03-17 00:00 (UTC)",
        ),
        (
            1_200,
            "2025-03-16T06:00",
            "2025-05-04T23:00",
            "UTC",
            "1,200 windows, starting 2025-03-16 06:00 up to and including 2025-05-04 23:00 (UTC)",
        ),
    ],
)
def test_the_last_window_is_named_and_not_an_end(
    count: int, first: str, last: str, timezone: str, expected: str
) -> None:
    starts = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, last)]
    assert windows_in_words(count, starts[0], starts[1], timezone) == expected


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
    assert size_in_words(size) == words
