"""Which limits hold, the platform's or the customer's, and what a message calls them."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_export.config.models import CustomerExport
from data_export.config.sections import CustomerLimits, LimitSettings
from data_export.config.validate import check_files
from data_export.errors import LimitExceeded
from data_export.limits import check_window, limits_of
from data_export.window import ExportWindow
from tests import customers

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DATA_EXPORT_PLATFORM_FILE", "DATA_EXPORT_CUSTOMERS_DIR"):
        monkeypatch.delenv(variable, raising=False)


def export(timezone: str = "UTC", **limits: Any) -> CustomerExport:
    return customers.export(timezone=timezone, start_date="2024-02-01", limits=limits)


def local(text: str, days: float = 1) -> ExportWindow:
    """A window of days of the clock from a local time with offset."""
    start = datetime.fromisoformat(text)
    return ExportWindow(start, start + timedelta(days=days))


@given(st.integers(1, 50), st.none() | st.integers(1, 50), st.dates(), st.none() | st.dates())
def test_a_customer_narrows_and_never_widens(days: int, own_days: int | None, first: date, own_first: date) -> None:
    platform = LimitSettings.model_construct(
        max_window_days=days, earliest=first, max_active_runs=days, settle_minutes=5, late_after_hours=2
    )
    own = CustomerLimits.model_construct(
        max_window_days=own_days,
        earliest=own_first,
        max_active_runs=own_days,
        settle_minutes=None,
        late_after_hours=None,
    )
    limits = limits_of("acme", export().model_copy(update={"limits": own}), platform)
    assert limits.max_window_days.value == limits.max_active_runs.value == min(days, own_days or days)
    assert limits.earliest.value == max(first, own_first or first)


@pytest.mark.parametrize("minutes", [0, 5, 60])
def test_a_customer_settles_sooner_or_later_than_the_platform(minutes: int) -> None:
    limits = limits_of("acme", export(settle_minutes=minutes), LimitSettings(settle_minutes=20))
    assert limits.settle == timedelta(minutes=minutes)
    assert str(limits.settle_minutes) == f"limits.settle_minutes = {minutes} (include/customers/acme.yaml)"
    assert limits_of("acme", export(), LimitSettings(settle_minutes=20)).settle == timedelta(minutes=20)


@pytest.mark.parametrize("hours", [0.5, 48])
def test_a_customer_is_told_of_lateness_sooner_or_later_than_the_platform(hours: float) -> None:
    platform = LimitSettings(late_after_hours=3)
    assert limits_of("acme", export(late_after_hours=hours), platform).late_after == timedelta(hours=hours)
    assert limits_of("acme", export(), platform).late_after == timedelta(hours=3)


def test_a_limit_says_where_it_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limits = limits_of("acme", export(max_window_days=31, earliest="2019-01-01"), LimitSettings())
    assert str(limits.max_window_days) == "limits.max_window_days = 31 (include/customers/acme.yaml)"
    assert str(limits.earliest) == "limits.earliest = 2020-01-01 (include/platform.yaml)"
    monkeypatch.setenv("DATA_EXPORT_LIMITS__EARLIEST", "2020-01-01")
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    limits = limits_of("acme", export(max_window_days=31), LimitSettings())
    assert str(limits.max_window_days) == f"limits.max_window_days = 31 ({tmp_path}/acme.yaml)"
    assert str(limits.earliest) == "limits.earliest = 2020-01-01 (environment variable DATA_EXPORT_LIMITS__EARLIEST)"


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (local("2025-03-16T00:00Z", 7.5), r"is 7\.5 days long, more than limits\.max_window_days = 7 \(include/cust"),
        (local("2024-05-31T00:00Z"), r"begins before limits\.earliest = 2024-06-01 \(include/customers/acme\.yaml\)"),
    ],
)
def test_a_window_that_breaks_a_limit_is_refused_with_the_limits_name(window: ExportWindow, message: str) -> None:
    narrow = export(max_window_days=7, earliest="2024-06-01")
    with pytest.raises(LimitExceeded, match=f"^acme: window .* {message}"):
        check_window("acme", narrow, window, limits_of("acme", narrow, LimitSettings()), NOW)


@pytest.mark.parametrize(
    ("timezone", "start", "end"),
    [
        ("Europe/Paris", "2025-10-26T00:00+02:00", "2025-10-27T00:00+01:00"),
        ("Europe/Paris", "2025-03-30T00:00+01:00", "2025-03-31T00:00+02:00"),
        ("America/New_York", "2025-11-02T00:00-04:00", "2025-11-03T00:00-05:00"),
    ],
)
def test_a_day_of_23_or_25_hours_is_one_day(timezone: str, start: str, end: str) -> None:
    one = export(timezone, max_window_days=1)
    limits = limits_of("acme", one, LimitSettings())
    day = ExportWindow(datetime.fromisoformat(start), datetime.fromisoformat(end))
    check_window("acme", one, day, limits, NOW)
    longer = ExportWindow(day.start, max(day.end, day.start + timedelta(days=1)) + timedelta(seconds=1))
    with pytest.raises(LimitExceeded, match="max_window_days"):
        check_window("acme", one, longer, limits, NOW)


@pytest.mark.parametrize(
    ("timezone", "start", "end", "days"),
    [
        ("Europe/Paris", "2026-03-28T01:00Z", "2026-03-29T01:00Z", 1),  # 0 2 * * *: two o'clock is skipped
        ("Europe/Paris", "2025-09-29T00:00Z", "2026-03-29T01:00Z", 181),  # 0 2 29 3,9 *: with an hour that came twice
        ("Africa/Cairo", "2026-04-22T22:00Z", "2026-04-23T22:00Z", 1),  # midnight is skipped
        ("Africa/Cairo", "2026-04-16T22:00Z", "2026-04-23T22:00Z", 7),
        ("Europe/Paris", "2026-03-28T12:00+01:00", "2026-03-29T13:00+02:00", 1),  # by hand
        ("Europe/Paris", "2025-10-25T02:00+02:00", "2025-10-26T02:00+01:00", 1),  # until the hour that comes again
    ],
)
def test_a_window_that_clocks_make_no_longer_is_within_its_days(timezone: str, start: str, end: str, days: int) -> None:
    """Windows of the schedule too: what `validate` accepts may run."""
    one = export(timezone, max_window_days=days)
    limits, now = limits_of("acme", one, LimitSettings()), NOW + timedelta(days=365)
    window = ExportWindow(datetime.fromisoformat(start), datetime.fromisoformat(end))
    check_window("acme", one, window, limits, now)
    with pytest.raises(LimitExceeded, match="max_window_days"):
        check_window("acme", one, ExportWindow(window.start - timedelta(hours=1, seconds=1), window.end), limits, now)
    keys = {"interval": "once", "start_date": start, "end_date": end}
    customers.export(timezone=timezone, limits={"max_window_days": days}, **keys)
    with pytest.raises(ValueError, match="less than a window of interval once has"):
        customers.export(timezone=timezone, limits={"max_window_days": days}, **keys | {"end_date": "2027-01-01"})


@pytest.mark.parametrize("timezone", ["America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize(
    ("start", "end"), [("0001-01-01T00:00Z", "2025-01-01T00:00Z"), ("2025-01-01T00:00Z", "9999-12-31T23:59Z")]
)
def test_a_year_that_no_clock_of_the_zone_shows_is_refused_in_words(timezone: str, start: str, end: str) -> None:
    one, window = export(timezone), ExportWindow(datetime.fromisoformat(start), datetime.fromisoformat(end))
    with pytest.raises(LimitExceeded):
        check_window("acme", one, window, limits_of("acme", one, LimitSettings()), NOW)


@pytest.mark.parametrize(
    ("interval", "days", "words"),
    [
        ("0 0 29 2 *", 400, r"makes windows of 1,461 days, and none may run with limits\.max_window_days = 400"),
        ("0 0 1 1 *", 300, "makes windows of 365 days, and none may run"),
        ("0 0 1 1,2 *", 300, r"warning: .*windows of up to 335 days, more than limits\.max_window_days = 300"),
        ("monthly", 7, "makes windows of 28 days, and none may run"),
        ("once", 7, "'once' makes windows of 15 days, and none may run .*: export it in several files, or raise the"),
        ("weekly", 7, None),
        ("0 0 1 1 *", 400, None),
        ("*/5 * * * *", 1, None),
        ("0 0 31 2 *", 400, "no such day ever comes"),
    ],
)
def test_an_interval_whose_windows_break_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: str, days: int, words: str | None
) -> None:
    monkeypatch.setenv("DATA_EXPORT_LIMITS__MAX_WINDOW_DAYS", str(days))
    path = tmp_path / "acme.yaml"
    text = (customers.GOOD % "x").replace("interval: daily", f'interval: "{interval}"')
    path.write_text(text + "end_date: 2025-03-31\n" * (interval == "once"))
    problems = check_files([path]).problems
    if words is None:
        assert not problems
        return
    (problem,) = problems
    assert problem.is_error is not words.startswith("warning")
    assert re.search(words.removeprefix("warning: "), str(problem))
