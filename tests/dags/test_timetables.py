"""Windows: real intervals, no gap, no overlap, daylight saving included."""

from datetime import timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.timetables.base import DataInterval, TimeRestriction

from data_export.config.models import EXPORT, CustomerExport
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable, timetable_of

SETTLE = timedelta(minutes=5)


def export(interval: str, timezone: str = "UTC", **more: str) -> CustomerExport:
    return EXPORT.validate_python(
        {
            "site_id": ["433a60f6-9756-473e-b1e9-9e89e24bb787"],
            "interval": interval,
            "timezone": timezone,
            "start_date": "2024-01-01",
            "connector_type": "email",
            "connector_config": {"emails": ["bi@customer.example"]},
            **more,
        }
    )


def windows(interval: str, timezone: str, start: str, end: str) -> list[DataInterval]:
    timetable = timetable_of(export(interval, timezone), SETTLE)
    restriction = TimeRestriction(pendulum.parse(start), pendulum.parse(end), catchup=True)
    found, last = [], None
    while info := timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction):
        assert info.run_after == info.data_interval.end + SETTLE
        last = info.data_interval
        found.append(last)
    return found


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Paris", "America/New_York"])
@pytest.mark.parametrize("interval", ["daily", "weekly", "monthly", "0 6 * * 1-5"])
def test_a_year_of_windows_has_no_gap_and_no_overlap(interval: str, timezone: str) -> None:
    found = windows(interval, timezone, "2025-01-01T00:00:00Z", "2025-12-31T00:00:00Z")
    assert all(before.end == after.start for before, after in pairwise(found))
    hour = 6 if interval.startswith("0 6") else 0
    assert all(window.start.astimezone(ZoneInfo(timezone)).hour == hour for window in found)


@pytest.mark.parametrize("timezone", ["Europe/Paris", "America/New_York"])
def test_a_23_and_a_25_hour_day_are_one_window_each(timezone: str) -> None:
    found = windows("daily", timezone, "2025-01-01T00:00:00Z", "2025-12-31T00:00:00Z")
    lengths = [(window.end - window.start).total_seconds() / 3600 for window in found]
    assert sorted(set(lengths)) == [23, 24, 25]
    assert (lengths.count(23), lengths.count(25)) == (1, 1)


@pytest.mark.parametrize("month", ["2025-03", "2025-11"])
@pytest.mark.parametrize("timezone", ["Europe/Paris", "America/New_York"])
def test_hourly_windows_follow_each_other_over_the_change_of_the_clock(timezone: str, month: str) -> None:
    spring, autumn = ("2025-03-08T00:00Z", "2025-03-31T00:00Z"), ("2025-10-25T00:00Z", "2025-11-03T00:00Z")
    found = windows("hourly", timezone, *(spring if month == "2025-03" else autumn))
    assert all(before.end == after.start for before, after in pairwise(found))


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    assert all(w.start.isoweekday() == 1 for w in windows("weekly", "UTC", "2025-01-01T00:00Z", "2025-06-01T00:00Z"))
    assert all(w.start.day == 1 for w in windows("monthly", "UTC", "2025-01-01T00:00Z", "2025-06-01T00:00Z"))


def test_a_manual_run_takes_the_last_window_that_has_settled() -> None:
    timetable = timetable_of(export("daily"), SETTLE)
    before = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2025, 3, 17, 0, 4))
    after = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2025, 3, 17, 0, 5))
    assert (before.end.day, after.end.day) == (16, 17)


def test_once_is_one_run_of_the_whole_range_and_never_another() -> None:
    timetable = timetable_of(export("once", end_date="2024-02-01"), SETTLE)
    restriction = TimeRestriction(None, None, catchup=False)
    info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    assert info is not None
    assert info.data_interval == DataInterval(pendulum.datetime(2024, 1, 1), pendulum.datetime(2024, 2, 1))
    assert info.run_after == pendulum.datetime(2024, 2, 1, 0, 5)
    assert timetable.next_dagrun_info(last_automated_data_interval=info.data_interval, restriction=restriction) is None


@pytest.mark.parametrize("interval", ["daily", "once"])
def test_a_timetable_survives_its_trip_through_the_database(interval: str) -> None:
    timetable = timetable_of(export(interval, "Europe/Paris", end_date="2024-02-01"), SETTLE)
    again = type(timetable).deserialize(timetable.serialize())
    assert isinstance(again, SettledCronTimetable | OnceWindowTimetable)
    assert again.serialize() == timetable.serialize()
