"""Which windows are late, at which look; when a look costs a request; and how the report of it stays small."""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from data_export.alerts.watch import Late, LateSpan, Report, RunState, Standing, Watched, look, reminded
from data_export.lateness import Due
from data_export.window import ExportWindow

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def day(number: int) -> ExportWindow:
    """The window that ends at `MIDNIGHT` for 0, the next for 1."""
    return ExportWindow(MIDNIGHT + (number - 1) * DAY, MIDNIGHT + number * DAY)


class Daily:
    """Windows of a day; none after `end`."""

    settle = timedelta(minutes=5)
    late_after = 2 * HOUR

    def __init__(self, end: datetime | None = None) -> None:
        self.end = end or MIDNIGHT + 1000 * DAY

    def begins(self, at: datetime) -> datetime | None:
        start = day((at - self.settle - MIDNIGHT) // DAY).start
        return start if start < self.end else None

    def last(self, now: datetime) -> ExportWindow | None:
        return day((min(now - self.settle, self.end) - MIDNIGHT) // DAY)

    def before(self, window: ExportWindow) -> ExportWindow | None:
        return ExportWindow(window.start - DAY, window.start)


class FakeAirflow:
    """Keeps what a test sets, and counts the questions."""

    def __init__(self) -> None:
        self.stands: Standing = "active"
        self.good: set[ExportWindow] = set()
        self.runs: dict[ExportWindow, RunState] = {}
        self.asked: Counter[str] = Counter()

    def standing(self, export: str) -> Standing:
        self.asked["standing"] += 1
        return self.stands

    def delivered(self, export: str, windows: Collection[ExportWindow]) -> set[ExportWindow]:
        self.asked["delivered"] += 1
        return self.good.intersection(windows)

    def states(self, export: str, windows: Collection[ExportWindow]) -> dict[ExportWindow, RunState]:
        self.asked["states"] += 1
        return {window: self.runs.get(window, "none") for window in windows}


class Days:
    """The watch as it goes on from look to look."""

    def __init__(self, schedule: Daily | None = None) -> None:
        self.runs, self.schedule = FakeAirflow(), schedule or Daily()
        self.watched: Watched | None = None
        self.late: list[ExportWindow] = []

    def at(self, now: datetime) -> list[Late]:
        """One look, which leaves in `late` all that is late; the windows that an alert names."""
        found = look("acme", self.watched, self.schedule, self.runs, now)
        self.watched, self.late = found.watched, [due.window for due in found.late]
        others = found.others("acme", self.runs) if found.alerts else ()
        alerts = sorted((*found.alerts, *others), key=lambda entry: entry.window.start)
        if alerts and self.watched is not None:
            self.watched = replace(reminded(self.watched, alerts, now + DAY), alerted_on=now.date())
        if self.watched is not None:  # as it comes back from staging
            self.watched = Watched.from_dict(self.watched.to_dict())
        return alerts

    def every_quarter(self, begin: datetime, end: datetime) -> dict[datetime, list[ExportWindow]]:
        """The looks that found something late."""
        looks = [begin + number * QUARTER for number in range(int((end - begin) / QUARTER) + 1)]
        found = {now: [entry.window for entry in self.at(now)] for now in looks}
        return {now: windows for now, windows in found.items() if windows}


@pytest.fixture
def days() -> Days:
    return Days()


def test_windows_delivered_in_time_are_never_told_of_and_cost_three_requests(days: Days) -> None:
    days.runs.good = {day(number) for number in range(10)}
    assert days.every_quarter(MIDNIGHT + HOUR, MIDNIGHT + 5 * DAY) == {}
    # one when its run is due (is it paused?), two when it should be there: however many looks there are
    assert sum(days.runs.asked.values()) <= 3 * 5


@pytest.mark.parametrize("run", ["none", "queued", "running", "failed"])
def test_a_window_is_late_two_hours_after_its_end_whatever_became_of_its_run(days: Days, run: RunState) -> None:
    days.runs.good = {day(0)}
    days.runs.runs = {day(1): run}
    days.at(MIDNIGHT + HOUR)
    assert days.at(MIDNIGHT + DAY + 2 * HOUR - QUARTER) == []
    assert days.at(MIDNIGHT + DAY + 2 * HOUR) == [Late("acme", day(1), run, "active")]


def test_a_window_that_never_comes_is_told_of_once_a_day_for_three_days(days: Days) -> None:
    days.runs.good = {day(number) for number in range(20)} - {day(1)}
    found = days.every_quarter(MIDNIGHT + HOUR, MIDNIGHT + 15 * DAY)
    assert list(found.values()) == [[day(1)]] * len(found)
    assert len(found) in (3, 4)
    assert min(found) == MIDNIGHT + DAY + 2 * HOUR


def test_windows_that_become_late_one_after_another_are_all_named_the_next_day() -> None:
    """Who runs the command of the alert would leave out what it does not name."""

    class Hourly(Daily):
        def begins(self, at: datetime) -> datetime | None:
            return self.last(at).start

        def last(self, now: datetime) -> ExportWindow:
            hours = (now - self.settle - MIDNIGHT) // HOUR
            return ExportWindow(MIDNIGHT + (hours - 1) * HOUR, MIDNIGHT + hours * HOUR)

        def before(self, window: ExportWindow) -> ExportWindow | None:
            return ExportWindow(window.start - HOUR, window.start)

    days = Days(Hourly())
    days.at(MIDNIGHT + 12 * HOUR)
    found = days.every_quarter(MIDNIGHT + 12 * HOUR, MIDNIGHT + 2 * DAY + HOUR)
    assert days.runs.asked["states"] == 4  # of those that have come due, and of the others where there are any
    assert [(now - MIDNIGHT) / HOUR for now in found] == [14, 24, 48]
    assert [len(windows) for windows in found.values()] == [2, 12, 36]


def test_every_look_asks_about_late_windows_with_one_request_and_alerts_once_a_day(days: Days) -> None:
    days.runs.good = {day(0)}
    days.at(MIDNIGHT + HOUR)
    now = MIDNIGHT + 3 * DAY + 2 * HOUR
    days.at(now)
    assert days.late == [day(1), day(2), day(3)]
    days.runs.asked.clear()
    days.runs.good.add(day(2))
    assert days.at(now + QUARTER) == []
    assert days.late == [day(1), day(3)]
    assert days.runs.asked == {"standing": 1, "delivered": 1}


def test_what_an_earlier_version_wrote_is_understood() -> None:
    window = {"start": day(1).start.isoformat(), "end": day(1).end.isoformat()}
    at = (MIDNIGHT + 2 * DAY).isoformat()
    value = {"began": at, "newest": window, "open": [{**window, "by": at, "until": None, "ask_at": at}]}
    assert Watched.from_dict(value).open[0].remind_at == MIDNIGHT + 2 * DAY


def test_windows_left_out_while_the_scheduler_was_down_are_late(days: Days) -> None:
    """Without catch-up Airflow runs the last of them only; the watch was down with it."""
    days.runs.good = {day(0), day(4)}
    days.at(MIDNIGHT + HOUR)
    assert [entry.window for entry in days.at(MIDNIGHT + 4 * DAY + 6 * timedelta(minutes=1))] == [
        day(1),
        day(2),
        day(3),
    ]


def test_an_export_that_is_paused_is_left_alone_and_begins_anew_when_it_goes_on(days: Days) -> None:
    days.runs.good = {day(0)}
    days.at(MIDNIGHT + HOUR)
    days.runs.stands = "paused"
    assert days.every_quarter(MIDNIGHT + 2 * HOUR, MIDNIGHT + 4 * DAY + 12 * HOUR) == {}
    days.runs.stands = "active"
    days.runs.good |= {day(4), day(5)}  # Airflow runs the last one when it is unpaused, and goes on from there
    assert days.every_quarter(MIDNIGHT + 4 * DAY + 13 * HOUR, MIDNIGHT + 5 * DAY + 12 * HOUR) == {}


def test_a_new_export_has_time_for_its_first_window(days: Days) -> None:
    """It ended 20 hours ago, and nothing before it is missed."""
    begin = MIDNIGHT + 20 * HOUR
    assert days.every_quarter(begin, begin + 2 * HOUR - QUARTER) == {}
    assert [entry.window for entry in days.at(begin + 2 * HOUR)] == [day(0)]


def test_a_new_export_without_a_window_is_asked_about_once() -> None:
    class NothingYet(Daily):
        def last(self, now: datetime) -> ExportWindow | None:
            return None

    days = Days(NothingYet())
    assert days.every_quarter(MIDNIGHT, MIDNIGHT + DAY) == {}
    assert days.runs.asked == {"standing": 1}


def test_an_export_that_has_ended_is_not_missed(days: Days) -> None:
    days = Days(Daily(end=MIDNIGHT + 2 * DAY))
    days.runs.good = {day(0), day(1), day(2)}
    assert days.every_quarter(MIDNIGHT + HOUR, MIDNIGHT + 9 * DAY) == {}


def test_a_dag_that_airflow_does_not_have_is_told_of(days: Days) -> None:
    days.runs.stands = "missing"
    days.at(MIDNIGHT + HOUR)
    assert [entry.standing for entry in days.at(MIDNIGHT + 3 * HOUR)] == ["missing"]


def test_a_run_that_begins_late_by_its_setting_is_not_late() -> None:
    class Settling(Daily):
        settle = 3 * HOUR

    days = Days(Settling())
    days.runs.good = {day(0)}
    days.at(MIDNIGHT + 4 * HOUR)
    found = days.every_quarter(MIDNIGHT + DAY, MIDNIGHT + DAY + 12 * HOUR)
    assert min(found) == MIDNIGHT + DAY + 5 * HOUR


def test_an_alert_that_reached_nobody_is_sent_at_the_next_look(days: Days) -> None:
    days.runs.good = {day(0)}
    days.at(MIDNIGHT + HOUR)
    now = MIDNIGHT + DAY + 2 * HOUR
    late = days.at(now)
    assert days.watched is not None
    days.watched = replace(reminded(days.watched, late, now), alerted_on=None)
    assert days.at(now + QUARTER) == late
    assert days.at(now + 2 * QUARTER) == []


def overdue(count: int) -> list[Due]:
    return [Due(day(number), day(number).end + 2 * HOUR) for number in range(count)]


def test_a_report_names_the_oldest_windows_and_counts_the_others() -> None:
    report = Report.of(MIDNIGHT, MIDNIGHT + QUARTER, {"acme": overdue(9), "other": overdue(1)}, ["odd"])
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    single = [LateSpan(day(n).start, day(n).end, day(n).end + 2 * HOUR) for n in range(5)]
    assert report.late["acme"] == (*single, LateSpan(day(5).start, day(8).end, day(5).end + 2 * HOUR, 4))
    assert report.late["other"] == (single[0],)


@pytest.mark.parametrize(("exports", "kilobytes"), [(1, 1), (1000, 300), (5000, 800)])
def test_a_report_is_small_however_much_is_late_and_counts_everything(exports: int, kilobytes: int) -> None:
    late = dict.fromkeys((f"customer-{number:05}-work-orders-timeline" for number in range(exports)), overdue(200))
    report = Report.of(MIDNIGHT, MIDNIGHT + QUARTER, late, [])
    assert len(json.dumps(report.to_dict())) < kilobytes * 1000
    assert report.late.keys() == late.keys()
    assert {sum(span.count for span in spans) for spans in report.late.values()} == {200}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "s3://xcoms/look",
        {},
        {"watched": 1, "late": 0, "broken": 0},
        {"at": 1, "next": 1e30, "windows": {}, "unknown": []},
        {"at": "x", "next": 1, "windows": {}, "unknown": []},
        {"at": float("nan"), "next": 1, "windows": {}, "unknown": []},
        {"at": 1, "next": 1, "windows": [], "unknown": []},
        {"at": 1, "next": 1, "windows": {"acme": [[1, 2, 3]]}, "unknown": []},
        {"at": 1, "next": 1, "windows": {"acme": [[1, 2, None, 1]]}, "unknown": []},
        {"at": 1, "next": 1, "windows": {"acme": [[1, 2, 3, "many"]]}, "unknown": []},
        {"at": 1, "next": 1, "windows": {}, "unknown": None},
    ],
)
def test_what_is_no_report_is_said(value: object) -> None:
    with pytest.raises(ValueError, match="not a report of the watch"):
        Report.from_dict(value)
