"""The runs told before a merge are those that Airflow's scheduler then makes."""

from datetime import UTC, datetime, timedelta

import pendulum
import pytest

from data_export_airflow.schedule.windows import PlannedRun, gap_or_overlap, last_complete, upcoming
from tests.customers import export

SETTLE = timedelta(minutes=5)
NOW = datetime(2025, 3, 19, 12, tzinfo=UTC)  # a Wednesday


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Airflow's timetables read the clock."""
    monkeypatch.setattr("airflow.timetables.interval.utcnow", lambda: pendulum.instance(NOW))


def said(runs: list[PlannedRun]) -> list[str]:
    return [f"{run.window.start:%d %H:%M} - {run.window.end:%d %H:%M} at {run.run_after:%d %H:%M}" for run in runs]


def test_a_new_export_begins_with_the_last_complete_window() -> None:
    runs = said(upcoming(export(), SETTLE, NOW, 3))
    assert runs == [
        "18 00:00 - 19 00:00 at 19 00:05",
        "19 00:00 - 20 00:00 at 20 00:05",
        "20 00:00 - 21 00:00 at 21 00:05",
    ]


def test_one_that_begins_later_waits_for_its_first_window() -> None:
    runs = said(upcoming(export(start_date="2025-03-25", timezone="Europe/Paris"), SETTLE, NOW, 1))
    assert runs == ["24 23:00 - 25 23:00 at 25 23:05"]


def test_the_last_window_ends_at_the_end_date() -> None:
    assert (
        said(upcoming(export(end_date="2025-03-19T06:00:00"), SETTLE, NOW, 3))[-1] == "19 00:00 - 19 06:00 at 19 06:05"
    )
    assert upcoming(export(end_date="2025-03-01"), SETTLE, NOW, 3) == []


def test_an_edited_export_goes_on_where_it_was() -> None:
    assert said(upcoming(export(), SETTLE, NOW, 1, follows=export()))[0].startswith("19 00:00 - 20")


def test_what_a_longer_interval_leaves_out_is_told() -> None:
    """Airflow goes on with the first week that begins after the last day did."""
    (run,) = upcoming(export("weekly"), SETTLE, NOW, 1, follows=export())
    assert said([run])[0].startswith("24 00:00 - 31")
    told = gap_or_overlap(export("weekly"), SETTLE, NOW, export(), run)
    assert told is not None
    assert told.startswith("[2025-03-19T00:00:00+00:00, 2025-03-24T00:00:00+00:00) will be in no window")


def test_what_a_shorter_interval_skips_is_told() -> None:
    (run,) = upcoming(export(), SETTLE, NOW, 1, follows=export("weekly"))
    assert said([run])[0].startswith("18 00:00 - 19")
    assert "[2025-03-17T00:00:00+00:00, 2025-03-18" in str(gap_or_overlap(export(), SETTLE, NOW, export("weekly"), run))


def test_windows_that_meet_are_nothing_to_tell() -> None:
    for later in (export(), export(start_date="2025-03-20"), export(owner="a@b.example")):
        (run,) = upcoming(later, SETTLE, NOW, 1, follows=export())
        assert gap_or_overlap(later, SETTLE, NOW, export(), run) is None


def test_a_moved_cut_that_overlaps_is_told() -> None:
    paris = export(timezone="Europe/Paris")
    (run,) = upcoming(paris, SETTLE, NOW, 1, follows=export())
    assert said([run])[0].startswith("18 23:00 - 19 23:00")
    assert "[2025-03-18T23:00:00+00:00, 2025-03-19T00:00:00+00:00) will be delivered twice" in str(
        gap_or_overlap(paris, SETTLE, NOW, export(), run)
    )


def test_what_was_switched_off_or_not_begun_is_followed_by_nothing() -> None:
    for earlier in (export(enabled=False), export(start_date="2025-03-19")):
        assert said(upcoming(export(), SETTLE, NOW, 1, follows=earlier))[0].startswith("18 00:00 - 19")
    assert upcoming(export(enabled=False), SETTLE, NOW, 3) == []


def test_once_is_one_run_and_never_a_second() -> None:
    once = export("once", end_date="2025-03-01")
    (run,) = upcoming(once, SETTLE, NOW, 3)
    assert run.run_after == datetime(2025, 3, 1, 0, 5, tzinfo=UTC)
    assert upcoming(once, SETTLE, NOW, 3, follows=once) == []
    later = export("once", end_date="2025-04-01")
    assert len(upcoming(later, SETTLE, NOW, 3, follows=later)) == 1


def test_the_last_complete_window_has_settled() -> None:
    assert last_complete(export(), SETTLE, NOW).end == datetime(2025, 3, 19, tzinfo=UTC)
    just_after = datetime(2025, 3, 19, 0, 4, tzinfo=UTC)
    assert last_complete(export(), SETTLE, just_after).end == datetime(2025, 3, 18, tzinfo=UTC)
