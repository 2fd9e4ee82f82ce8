"""When an export is late: the one rule."""

from datetime import UTC, datetime, timedelta

import pytest

from data_export.lateness import overdue

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)  # the end of the newest window that is due


def late(
    delivered: datetime | None,
    now: datetime,
    due: datetime | None = MIDNIGHT,
    length: timedelta = DAY,
    began: datetime | None = None,
) -> timedelta | None:
    return overdue(delivered, due, length, began, 2 * HOUR, now)


@pytest.mark.parametrize(
    ("delivered", "now", "expected"),
    [
        (MIDNIGHT, MIDNIGHT + 9 * HOUR, None),
        (MIDNIGHT + DAY, MIDNIGHT + 9 * HOUR, None),  # a backfill was ahead of the schedule
        (MIDNIGHT - DAY, MIDNIGHT + HOUR, None),
        (MIDNIGHT - DAY, MIDNIGHT + 2 * HOUR, None),  # to the second as allowed
        (MIDNIGHT - DAY, MIDNIGHT + 3 * HOUR, HOUR),
        (MIDNIGHT - 3 * DAY, MIDNIGHT + 3 * HOUR, 2 * DAY + HOUR),  # of three windows the oldest counts
    ],
)
def test_the_oldest_window_that_is_due_counts(delivered: datetime, now: datetime, expected: timedelta | None) -> None:
    assert late(delivered, now) == expected


@pytest.mark.parametrize("hours", [23, 25])
def test_a_day_that_daylight_saving_makes_longer_or_shorter_is_one_window(hours: int) -> None:
    assert late(MIDNIGHT - hours * HOUR, MIDNIGHT + 3 * HOUR) == HOUR


def test_months_differ_in_length() -> None:
    march, april = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    assert late(march, april + 3 * HOUR, due=april, length=timedelta(days=30)) == HOUR


def test_a_new_export_has_its_time_from_the_first_run_on() -> None:
    began = MIDNIGHT + 14 * HOUR  # somebody added it in the afternoon: its first window ended long before
    assert late(None, began + HOUR, began=began) is None
    assert late(None, began + 3 * HOUR, began=began) == HOUR
    assert late(None, MIDNIGHT + 3 * HOUR, began=MIDNIGHT - DAY) == HOUR


def test_nothing_is_late_where_nothing_is_due() -> None:
    assert late(None, MIDNIGHT, due=None) is None


def test_the_last_window_of_all_is_late_too() -> None:
    assert late(MIDNIGHT - DAY, MIDNIGHT + 3 * HOUR, length=timedelta(0)) == HOUR
