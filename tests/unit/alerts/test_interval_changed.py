"""An interval that is changed on a live export leaves time in no window: the watch finds it and says what to do."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from data_export.alerts.late import late_alert
from data_export.alerts.watch import RunState, Standing, look
from data_export.window import ExportWindow
from data_export_airflow.schedule.windows import Schedules
from data_export_airflow.timetables import timetable_of
from tests.customers import export


class Airflow:
    """What ran and was delivered: the windows as they were, and the new ones from a moment on."""

    def __init__(self, until: datetime, again: datetime) -> None:
        self._until, self._again = until, again

    def standing(self, export: str) -> Standing:
        return "active"

    def delivered(self, export: str, windows: Sequence[ExportWindow]) -> set[ExportWindow]:
        return {window for window in windows if window.end <= self._until or window.start >= self._again}

    def states(self, export: str, windows: Collection[ExportWindow]) -> dict[ExportWindow, RunState]:
        return dict.fromkeys(windows, "none")


@pytest.mark.parametrize(("before", "after"), [("weekly", "daily"), ("daily", "weekly"), ("hourly", "daily")])
def test_the_watch_alerts_about_the_time_in_no_window(before: str, after: str) -> None:
    def schedule(interval: str) -> object:
        return Schedules().of_timetable(timetable_of(export(interval), timedelta(minutes=5)), timedelta(hours=2))

    changed = datetime(2024, 3, 13, 12, 30, tzinfo=UTC)
    watched = look("acme", None, schedule(before), Airflow(changed, changed), changed).watched
    assert watched is not None
    assert watched.newest is not None
    last = watched.newest.end
    later = changed + timedelta(days=12)
    lost = ExportWindow(last, later).end
    late = look("acme", watched, schedule(after), Airflow(last, lost), later).alerts
    assert late
    assert late[0].window.start <= last < late[0].window.end
    alert = late_alert(late, "http://airflow", {})
    assert "interval or timezone was changed on a live export" in alert.fix
    assert "with from and to" in alert.fix
