from datetime import UTC, datetime, timedelta, timezone

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_export.window import ExportWindow

INSTANTS = st.datetimes(timezones=st.timezones()).map(lambda value: value.replace(microsecond=0))


def window(start: str, end: str) -> ExportWindow:
    return ExportWindow(datetime.fromisoformat(start), datetime.fromisoformat(end))


def test_the_stamp_is_utc_and_has_whole_seconds() -> None:
    assert window("2025-03-16T00:00:00Z", "2025-03-17T00:00:00Z").stamp == "2025-03-16_00:00:00_2025-03-17_00:00:00"
    paris = window("2025-03-30T00:00:00+01:00", "2025-03-31T00:00:00+02:00")  # the day the clocks go forward
    assert paris.stamp == "2025-03-29_23:00:00_2025-03-30_22:00:00"
    assert paris.length == timedelta(hours=23)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2025-03-16T00:00:00", "2025-03-17T00:00:00Z", "has no time zone"),
        ("2025-03-16T00:00:00Z", "2025-03-17", "has no time zone"),
        ("2025-03-16T00:00:00.5Z", "2025-03-17T00:00:00Z", "fraction of a second"),
        ("2025-03-16T00:00:00Z", "2025-03-16T00:00:00Z", "ends .* when it begins .*: give a later end"),
        ("2025-03-16T00:00:00Z", "2025-03-16T00:30:00+01:00", "ends .* before it begins"),
        ("0001-01-01T00:00:00+01:00", "2025-03-16T00:00:00Z", "is out of range"),
        ("2025-03-16T00:00:00Z", "9999-12-31T23:59:59-01:00", "is out of range"),
    ],
)
def test_a_window_that_is_none_is_refused(start: str, end: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        window(start, end)


def test_an_offset_of_microseconds_leaves_no_fraction() -> None:
    odd = timezone(timedelta(microseconds=1))
    with pytest.raises(ValueError, match="fraction of a second"):
        ExportWindow(datetime(2025, 3, 16, tzinfo=odd), datetime(2025, 3, 17, tzinfo=UTC))


def test_years_of_any_length_are_padded() -> None:
    assert window("0999-01-01T00:00:00Z", "1000-01-01T00:00:00Z").stamp == "0999-01-01_00:00:00_1000-01-01_00:00:00"


@given(INSTANTS, INSTANTS, INSTANTS, INSTANTS)
def test_windows_share_a_stamp_only_when_they_are_equal(a: datetime, b: datetime, c: datetime, d: datetime) -> None:
    try:
        one, other = ExportWindow(a, b), ExportWindow(c, d)
    except ValueError:
        return
    assert (one.stamp == other.stamp) == (one == other)
    assert len(one.stamp) == 39
    assert ExportWindow.from_dict(one.to_dict()) == one
    assert one.start.utcoffset() == timedelta()


def test_bounds_are_plain_datetimes_whatever_they_came_as() -> None:
    start = pendulum.datetime(2025, 3, 16, tz="Europe/Paris")
    window = ExportWindow(start, start.add(days=1))
    assert (type(window.start), window.start) == (datetime, datetime(2025, 3, 15, 23, tzinfo=UTC))
    assert window.start + timedelta(days=1) == window.end
