"""Windows: real intervals, no gap, no overlap, daylight saving included."""

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from hypothesis import given, settings
from hypothesis import strategies as st

from data_export.config.moments import CRON
from data_export.window import ExportWindow
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable, _ticked, timetable_of
from tests.customers import export

SETTLE = timedelta(minutes=5)


def runs(
    timetable: SettledCronTimetable, start: str | datetime, end: str | datetime, *, catchup: bool = True
) -> Iterator[DagRunInfo]:
    """As Airflow asks a timetable: for one run after the other."""
    earliest, latest = (pendulum.instance(datetime.fromisoformat(t) if isinstance(t, str) else t) for t in (start, end))
    restriction, last = TimeRestriction(earliest, latest, catchup), None
    while info := timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction):
        yield info
        last = info.data_interval


def windows(
    interval: str, timezone: str, start: str | datetime, end: str | datetime, **more: str
) -> list[ExportWindow]:
    timetable = timetable_of(export(interval, timezone=timezone, **more), SETTLE)
    found = []
    for info in runs(timetable, start, end):
        assert info.run_after == info.data_interval.end + SETTLE
        found.append(ExportWindow(info.data_interval.start, info.data_interval.end))
    return found


def assert_tiles(found: list[ExportWindow]) -> None:
    assert len(found) >= 3
    assert all(before.end == after.start for before, after in pairwise(found))
    assert len({window.stamp for window in found}) == len(found)


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Paris", "America/New_York"])
@pytest.mark.parametrize("interval", ["daily", "weekly", "monthly", "0 6 * * 1-5", "30 2 * * *", "15 1,2,3 * * *"])
def test_a_year_of_windows_has_no_gap_and_no_overlap(interval: str, timezone: str) -> None:
    found = windows(interval, timezone, "2025-01-01T00:00:00Z", "2025-12-31T00:00:00Z")
    assert_tiles(found)
    starts = {window.start.astimezone(ZoneInfo(timezone)) for window in found}
    if interval.startswith("0 6"):
        assert {start.hour for start in starts} == {6}
    elif interval in CRON:
        assert {start.hour for start in starts} == {0}
    if interval == "weekly":
        assert {start.isoweekday() for start in starts} == {1}
    if interval == "monthly":
        assert {start.day for start in starts} == {1}


@pytest.mark.parametrize("timezone", ["Europe/Paris", "America/New_York"])
@pytest.mark.parametrize(
    ("first", "last"),
    [("2025-03-01", "2025-04-05"), ("2025-10-20", "2025-11-10"), ("2025-12-20", "2026-01-10")],
    ids=["spring", "autumn", "new year"],
)
def test_every_hour_around_the_changes_of_clocks_is_there_once(timezone: str, first: str, last: str) -> None:
    zone = ZoneInfo(timezone)
    start, end = (datetime.fromisoformat(day).replace(tzinfo=zone) for day in (first, last))
    found = windows("hourly", timezone, start, end - timedelta(seconds=1))
    assert_tiles(found)
    assert (found[0].start, found[-1].end) == (start, end)
    assert {window.length for window in found} == {timedelta(hours=1)}


@pytest.mark.parametrize("timezone", ["Europe/Paris", "America/New_York"])
def test_a_23_and_a_25_hour_day_are_one_window_each(timezone: str) -> None:
    found = windows("daily", timezone, "2025-01-01T00:00:00Z", "2025-12-31T00:00:00Z")
    lengths = [(window.end - window.start).total_seconds() / 3600 for window in found]
    assert sorted(set(lengths)) == [23, 24, 25]
    assert (lengths.count(23), lengths.count(25)) == (1, 1)


ZONES = sorted(zoneinfo.available_timezones() - {"localtime", "Factory"})
CRONS = st.sampled_from(["0 0 * * *", "0 * * * *", "*/20 * * * *", "45 0-23/2 * * *"]) | st.builds(
    "{} {} * * *".format,
    st.lists(st.integers(0, 59), min_size=1, max_size=2, unique=True).map(lambda xs: ",".join(map(str, xs))),
    st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True).map(lambda xs: ",".join(map(str, xs))),
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ZONES), st.integers(1975, 2030), CRONS, st.data())
def test_windows_tile_whatever_clocks_do(timezone: str, year: int, cron: str, data: st.DataObject) -> None:
    """Over four days around a change of the zone's offset, such as half an hour, a day left out, or midnight twice."""
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(366)]
    changes = [a for a, b in pairwise(days) if (z := ZoneInfo(timezone)).utcoffset(a) != z.utcoffset(b)]
    change = data.draw(st.sampled_from(changes or days[:1]))
    timetable = SettledCronTimetable(cron, timezone, SETTLE)
    found = [info.data_interval for info in runs(timetable, change - timedelta(days=2), change + timedelta(days=2))]
    assert_tiles([ExportWindow(window.start, window.end) for window in found])
    for window in found:  # looked at from anywhere, the windows are the same
        middle = window.start + (window.end - window.start) / 2
        assert timetable._align_to_prev(middle) == window.start
        assert timetable._align_to_next(middle) == window.end
        assert timetable._align_to_prev(window.end) == timetable._align_to_next(window.end) == window.end


@pytest.mark.parametrize("interval", ["hourly", "daily", "weekly", "monthly", "0 6 * * 1-5"])
def test_the_windows_tile_the_time_from_start_date_to_end_date(interval: str) -> None:
    start, end = datetime(2025, 3, 16, 6, 30, tzinfo=UTC), datetime(2025, 6, 20, 18, 15, tzinfo=UTC)
    bounds = {"start_date": start.isoformat(), "end_date": end.isoformat()}
    found = windows(interval, "Europe/Paris", start, end - timedelta(seconds=1), **bounds)
    assert_tiles(found)
    assert (found[0].start, found[-1].end) == (start, end)
    beyond = windows(interval, "Europe/Paris", start, end + timedelta(days=90), **bounds)
    assert beyond == found  # a backfill names its own end


def test_a_manual_run_after_the_end_date_takes_the_last_window() -> None:
    timetable = timetable_of(export(end_date="2025-03-16T12:00:00"), SETTLE)
    window = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2025, 6, 1))
    assert window == DataInterval(pendulum.datetime(2025, 3, 16), pendulum.datetime(2025, 3, 16, 12))


@pytest.mark.parametrize("interval", ["daily", "hourly", "weekly", "0 6 * * 1-5"])
@pytest.mark.parametrize("settle", [5, 24 * 60])
def test_a_start_date_long_ago_starts_one_run_and_no_flood(interval: str, settle: int) -> None:
    timetable = timetable_of(export(interval), timedelta(minutes=settle))
    first, second = islice(runs(timetable, "2024-01-01T00:00Z", "2100-01-01T00:00Z", catchup=False), 2)
    now = pendulum.now("UTC")
    assert first.run_after <= now < second.run_after
    assert first.data_interval.end == second.data_interval.start


@pytest.mark.parametrize("settle", [0, 5, 90, 150, 24 * 60])
def test_no_window_is_left_out_however_long_it_settles(settle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without catch-up Airflow's own timetable leaves out windows that are over, though not settled."""
    timetable = timetable_of(export("hourly"), timedelta(minutes=settle))
    clock = pendulum.datetime(2025, 3, 16, 0, 30)
    monkeypatch.setattr("airflow.timetables.interval.utcnow", lambda: clock)
    found = []
    for info in islice(runs(timetable, "2024-01-01T00:00Z", "2100-01-01T00:00Z", catchup=False), 60):
        found.append(ExportWindow(info.data_interval.start, info.data_interval.end))
        clock = max(clock, info.run_after)  # when the scheduler makes the run, and asks for the next
    assert_tiles(found)


def test_a_manual_run_takes_the_last_window_that_has_settled() -> None:
    timetable = timetable_of(export(), SETTLE)
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
    # another parse, another process, and dates that were edited since
    later = timetable_of(export("once", start_date="2024-03-01", end_date="2024-04-01"), SETTLE)
    for again in (timetable, OnceWindowTimetable.deserialize(timetable.serialize()), later):
        assert again.next_dagrun_info(last_automated_data_interval=info.data_interval, restriction=restriction) is None
    assert later.infer_manual_data_interval(run_after=pendulum.now()).start == pendulum.datetime(2024, 3, 1)


@pytest.mark.parametrize("interval", ["daily", "once"])
def test_a_timetable_survives_its_trip_through_the_database(interval: str) -> None:
    timetable = timetable_of(export(interval, timezone="Europe/Paris", end_date="2024-02-01"), SETTLE)
    again = type(timetable).deserialize(timetable.serialize())
    assert isinstance(again, SettledCronTimetable | OnceWindowTimetable)
    assert again.serialize() == timetable.serialize()
    assert (again.start, again.end, again.settle) == (timetable.start, timetable.end, SETTLE)


def test_the_timetable_of_a_run_from_before_windows_had_bounds_is_still_read() -> None:
    data = timetable_of(export(), SETTLE).serialize()
    old = SettledCronTimetable.deserialize({key: data[key] for key in ("expression", "timezone", "settle_seconds")})
    assert (old.start, old.end) == (None, None)


def test_backwards_no_tick_is_stepped_over_where_clocks_go_back() -> None:
    timetable = SettledCronTimetable("0,45 3 * * *", "Pacific/Chatham", timedelta(0))
    ticks = [pendulum.datetime(1975, 2, 20)]
    for _ in range(20):
        ticks.append(timetable._get_next(ticks[-1]))
    assert [timetable._get_prev(tick) for tick in ticks[2:]] == ticks[1:-1]


def test_two_ticks_are_looked_for_a_window_not_seven() -> None:
    """Looking for them is most of what a backfill of a year of hours costs."""
    _ticked.cache_clear()
    timetable = SettledCronTimetable("7 * * * *", "Europe/Paris", timedelta(0), pendulum.datetime(2025, 3, 1))
    found, last = 0, None
    while found < 100:
        info = timetable.next_dagrun_info(
            last_automated_data_interval=last,
            restriction=TimeRestriction(pendulum.datetime(2025, 3, 1), None, catchup=True),
        )
        assert info is not None
        last, found = info.data_interval, found + 1
    assert _ticked.cache_info().misses < 220


def test_the_two_same_hours_of_autumn_are_two_moments() -> None:
    timetable = SettledCronTimetable("30 * * * *", "Europe/Paris", timedelta(0))
    zone = pendulum.timezone("Europe/Paris")
    first, second = (
        pendulum.instance(datetime(2025, 10, 26, hour, 10, tzinfo=UTC)).in_timezone(zone) for hour in (0, 1)
    )
    assert [timetable._get_next(moment).in_timezone("UTC").hour for moment in (first, second)] == [0, 1]


@pytest.mark.parametrize(
    ("end", "last", "leaves"),
    [
        ("2025-03-31T23:59:59", "2025-03-31T00:00", "2025-04-02T00:05"),
        ("2025-03-31T12:00", "2025-03-31T00:00", "2025-04-02T00:05"),
        ("2025-04-01", "2025-03-31T00:00", "2025-04-02T00:05"),
    ],
)
def test_the_last_window_has_its_turn_wherever_the_export_ends(
    end: str, last: str, leaves: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of an interval after the end is no window, and takes nobody's turn."""
    timetable = timetable_of(export("daily", end_date=end), SETTLE)
    restriction = TimeRestriction(timetable.start, timetable.end, catchup=False)

    def start_at(now: datetime) -> datetime | None:
        monkeypatch.setattr("airflow.timetables.interval.utcnow", lambda: now)
        info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
        return info and info.data_interval.start

    window, goes = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (last, leaves))
    assert {start_at(window + timedelta(days=1, hours=hours)) for hours in range(1, 24)} == {window}
    assert start_at(goes - timedelta(seconds=1)) == window
    assert start_at(goes) is None


def test_an_expression_that_is_none_is_no_valid_timetable() -> None:
    """No customer file can hold one; a stored DAG of another version might."""
    with pytest.raises(ValueError, match="out of range"):
        SettledCronTimetable("99 * * * *", "UTC", SETTLE).validate()
