"""The watch finds the windows that the scheduler finds."""

from datetime import UTC, datetime, timedelta

import pytest
from airflow.timetables.base import TimeRestriction
from pendulum import instance

from data_export.config.sections import LimitSettings
from data_export.limits import limits_of
from data_export.window import ExportWindow
from data_export_airflow.schedule.windows import ExportSchedule, Schedules
from data_export_airflow.timetables import timetable_of
from tests.customers import export

NEVER = datetime(2000, 1, 1, tzinfo=UTC)
MINUTE, SETTLE = timedelta(minutes=1), timedelta(minutes=5)


def schedule(**changes: object) -> ExportSchedule:
    value = export(**changes)
    return Schedules().of(value, limits_of("acme", value, LimitSettings()))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(start: str, end: str) -> ExportWindow:
    return ExportWindow(at(start), at(end))


def back(own: ExportSchedule, now: str, count: int) -> list[ExportWindow]:
    """The newest windows that are due, oldest first."""
    found = [own.last(at(now))]
    while (newest := found[-1]) is not None and len(found) < count:
        found.append(own.before(newest))
    return [each for each in reversed(found) if each is not None]


def test_it_begins_with_the_last_complete_window_as_the_scheduler_does(monkeypatch: pytest.MonkeyPatch) -> None:
    now, hourly = at("2025-03-19T12:06"), schedule(interval="hourly")
    eleven = window("2025-03-19T11:00", "2025-03-19T12:00")
    assert (hourly.begins(now), hourly.last(now)) == (eleven.start, eleven)
    assert hourly.last(now - 2 * MINUTE) == window("2025-03-19T10:00", "2025-03-19T11:00")  # its run waits for commits
    monkeypatch.setattr("airflow.timetables.interval.utcnow", lambda: instance(now))
    run = timetable_of(export(interval="hourly"), SETTLE).next_dagrun_info(
        last_automated_data_interval=None,
        restriction=TimeRestriction(instance(at("2025-01-01T00:00")), None, catchup=False),
    )
    assert run is not None
    assert run.data_interval is not None
    assert run.data_interval.start == eleven.start


def test_it_goes_back_window_by_window_over_daylight_saving() -> None:
    paris = schedule(timezone="Europe/Paris")
    assert back(paris, "2025-03-31T22:05", 3) == [
        window("2025-03-28T23:00", "2025-03-29T23:00"),
        window("2025-03-29T23:00", "2025-03-30T22:00"),
        window("2025-03-30T22:00", "2025-03-31T22:00"),
    ]
    assert back(paris, "2025-03-31T22:04", 1) == [window("2025-03-29T23:00", "2025-03-30T22:00")]


@pytest.mark.parametrize("interval", ["hourly", "daily", "weekly", "monthly", "30 2 * * *", "0 6,18 * * 1-5"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"])
def test_back_and_forth_are_the_same_windows(interval: str, zone: str) -> None:
    own, settle = schedule(interval=interval, timezone=zone), timedelta(0)
    timetable = timetable_of(export(interval=interval, timezone=zone), settle)
    forth: list[ExportWindow] = []
    last = None
    while not forth or forth[-1].end < at("2025-11-05T00:00"):
        restriction = TimeRestriction(instance(own.begins(at("2025-10-20T00:00")) or NEVER), None, catchup=True)
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        assert info is not None
        last = info.data_interval
        assert last is not None
        forth.append(ExportWindow(*last))
    assert back(own, (forth[-1].end + SETTLE).replace(tzinfo=None).isoformat(), len(forth)) == forth


def test_the_last_window_is_cut_by_end_date_and_none_follows() -> None:
    cut = schedule(end_date="2025-03-16T12:00:00Z")
    assert cut.last(at("2025-03-20T00:00")) == window("2025-03-16T00:00", "2025-03-16T12:00")
    assert cut.begins(at("2025-03-17T23:00")) == at("2025-03-16T00:00")  # while it would be the newest window
    assert cut.begins(at("2025-03-20T00:00")) is None  # the scheduler does not run an export that has ended
    assert cut.begins(at("2025-03-16T12:06")) == at("2025-03-16T00:00")


def test_nothing_lies_before_the_first_window() -> None:
    daily = schedule(start_date="2025-01-01")
    assert daily.last(at("2025-01-02T00:04")) is None
    first = daily.last(at("2025-01-02T00:05"))
    assert first == window("2025-01-01T00:00", "2025-01-02T00:00")
    assert daily.before(first) is None


def test_once_is_one_window() -> None:
    once = schedule(interval="once", start_date="2025-01-01", end_date="2025-02-01")
    only = once.last(at("2025-02-01T00:05"))
    assert only == window("2025-01-01T00:00", "2025-02-01T00:00")
    assert once.last(at("2025-02-01T00:04")) is None
    assert once.before(only) is None
    assert once.begins(at("2026-01-01T00:00")) == only.start


def test_schedules_that_differ_in_their_dates_alone_are_not_taken_for_each_other() -> None:
    known, now = Schedules(), at("2025-03-20T00:05")
    for end, expected in (("2025-03-10", "2025-03-09"), ("2025-03-12", "2025-03-11")):
        value = export(end_date=end)
        found = known.of(value, limits_of("acme", value, LimitSettings())).last(now)
        assert found is not None
        assert found.start == at(f"{expected}T00:00")


def test_each_export_has_its_own_hours() -> None:
    limits = {"late_after_hours": 0.5, "settle_minutes": 20}
    own = schedule(limits=limits)
    assert (own.late_after, own.settle) == (timedelta(minutes=30), timedelta(minutes=20))
