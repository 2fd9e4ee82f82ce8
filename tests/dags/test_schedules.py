"""The watch finds the windows that the scheduler finds."""

from datetime import UTC, datetime, timedelta

import pendulum
import pytest

from data_export.config.limits import LimitSettings
from data_export.limits import limits_of
from data_export.window import ExportWindow
from data_export_airflow.schedules import ExportSchedule, Schedules
from tests.customers import export

SETTLE = timedelta(minutes=5)


def schedule(**changes: object) -> ExportSchedule:
    changed = export(**changes)
    return Schedules().of(changed, limits_of("acme", changed, LimitSettings()))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(start: str, end: str) -> ExportWindow:
    return ExportWindow(at(start), at(end))


def test_it_begins_with_the_last_complete_window_as_the_scheduler_does(monkeypatch: pytest.MonkeyPatch) -> None:
    now = at("2025-03-19T12:06")
    monkeypatch.setattr("airflow.timetables.interval.utcnow", lambda: pendulum.instance(now))
    assert schedule(interval="hourly").first(now) == window("2025-03-19T11:00", "2025-03-19T12:00")
    assert schedule(interval="hourly").first(now - SETTLE) is None  # its run waits for late commits


def test_it_goes_on_window_by_window_over_daylight_saving() -> None:
    paris = schedule(timezone="Europe/Paris")
    found = [window("2025-03-28T23:00", "2025-03-29T23:00")]
    while (after := paris.after(found[-1], at("2025-03-31T22:05"))) is not None:
        found.append(after)
    assert found[1:] == [window("2025-03-29T23:00", "2025-03-30T22:00"), window("2025-03-30T22:00", "2025-03-31T22:00")]
    assert paris.after(found[1], at("2025-03-31T22:04")) is None


def test_the_last_window_is_cut_by_end_date_and_none_follows() -> None:
    cut = schedule(end_date="2025-03-16T12:00:00Z")
    last = cut.after(window("2025-03-15T00:00", "2025-03-16T00:00"), at("2025-03-20T00:00"))
    assert last == window("2025-03-16T00:00", "2025-03-16T12:00")
    assert cut.after(last, at("2025-03-20T00:00")) is None
    assert cut.first(at("2025-03-20T00:00")) is None  # nor does the scheduler run an export that has ended


def test_once_is_one_window() -> None:
    once = schedule(interval="once", start_date="2025-01-01", end_date="2025-02-01")
    (only,) = [once.first(at("2025-02-01T00:05"))]
    assert only == window("2025-01-01T00:00", "2025-02-01T00:00")
    assert once.first(at("2025-02-01T00:04")) is None
    assert once.after(only, at("2026-01-01T00:00")) is None


def test_each_export_has_its_own_hours() -> None:
    limits = {"late_after_hours": 0.5, "settle_minutes": 20}
    own = schedule(limits=limits)
    assert (own.late_after, own.settle) == (timedelta(minutes=30), timedelta(minutes=20))
