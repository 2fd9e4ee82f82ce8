"""When a window is late: the one rule, and that the watch finds at every look what the rule says."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_export.alerts.watch import RunState, Standing, Watched, look
from data_export.lateness import Due, dues, waiting
from data_export.window import ExportWindow

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Bounds:
    """A schedule whose windows lie between these moments, of whatever lengths."""

    bounds: tuple[datetime, ...]
    settle: timedelta = 5 * MINUTE
    late_after: timedelta = 2 * HOUR

    @property
    def windows(self) -> list[ExportWindow]:
        return [ExportWindow(*pair) for pair in zip(self.bounds, self.bounds[1:], strict=False)]

    def begins(self, at: datetime) -> datetime | None:
        """Airflow runs the last complete window, none where the whole schedule is over by more than that."""
        complete = [window.start for window in self.windows if window.end + self.settle <= at]
        return complete[-1] if complete else self.bounds[0]

    def last(self, now: datetime) -> ExportWindow | None:
        return next((window for window in reversed(self.windows) if window.end + self.settle <= now), None)

    def before(self, window: ExportWindow) -> ExportWindow | None:
        place = self.windows.index(window)
        return self.windows[place - 1] if place else None


def days(count: int) -> Bounds:
    """Windows of a day from Monday on."""
    return Bounds(tuple(MONDAY + number * DAY for number in range(count + 1)))


def late(due: Iterable[Due], delivered: Callable[[ExportWindow], bool], now: datetime) -> list[Due]:
    return [each for each in waiting(due, delivered, now) if each.is_late(now)]


def late_days(schedule: Bounds, delivered: Collection[int], now: datetime, began: datetime | None = None) -> list[int]:
    """The numbers of the windows that are late, where those with these numbers were delivered."""
    good = {schedule.windows[number] for number in delivered}
    found = late(dues(schedule, now, began), good.__contains__, now)
    return [schedule.windows.index(due.window) for due in found]


@pytest.mark.parametrize(
    ("delivered", "hours", "expected"),
    [
        ([0, 1, 2, 3], 9, []),
        ([0, 1, 2], 1, []),
        ([0, 1, 2], 2, [3]),  # from the very moment on
        ([0], 3, [1, 2, 3]),
        ([0, 1, 3], 9, [2]),  # a gap among windows that were delivered
        ([3], 9, [0, 1, 2]),
        ([], 1, [0, 1, 2]),
    ],
)
def test_a_window_is_late_from_its_time_on_until_it_is_delivered(
    delivered: list[int], hours: int, expected: list[int]
) -> None:
    assert late_days(days(4), delivered, MONDAY + 4 * DAY + hours * HOUR) == expected


def test_a_gap_is_forgotten_three_days_after_the_time_of_the_next_window_that_was_delivered() -> None:
    schedule, time = days(30), MONDAY + 3 * DAY + 2 * HOUR  # when the third window is due
    assert late_days(schedule, {0, *range(2, 30)}, time + 3 * DAY - MINUTE) == [1]
    assert late_days(schedule, {0, *range(2, 30)}, time + 3 * DAY) == []


def test_what_has_nothing_newer_delivered_stays_late() -> None:
    assert late_days(days(30), range(10), MONDAY + 30 * DAY + 3 * HOUR) == list(range(10, 30))
    assert late_days(days(4), range(3), MONDAY + 400 * DAY) == [3]  # the last of an export that has ended


def test_windows_of_different_lengths_have_their_own_times() -> None:
    """Working days at six: the window of the weekend is three days long."""
    bounds = tuple(MONDAY + DAY * day + 6 * HOUR for day in (-3, 0, 1, 2, 3, 4, 7))
    schedule = Bounds(bounds)
    monday = MONDAY + 7 * DAY + 6 * HOUR
    assert late_days(schedule, range(5), monday + 2 * HOUR - MINUTE) == []
    assert late_days(schedule, range(5), monday + 2 * HOUR) == [5]
    assert late_days(schedule, range(4), monday) == [4]


def test_a_new_export_has_its_time_from_its_first_run_on() -> None:
    began = MONDAY + 4 * DAY + 14 * HOUR  # somebody added it in the afternoon: its first window ended long before
    assert late_days(days(9), [], began + 2 * HOUR - MINUTE, began) == []
    assert late_days(days(9), [], began + 2 * HOUR, began) == [3]
    assert late_days(days(9), [], began + DAY, began) == [3, 4]


def test_what_was_skipped_while_it_was_paused_is_not_late() -> None:
    unpaused = MONDAY + 6 * DAY + 9 * HOUR
    assert late_days(days(9), [0, 5], unpaused + 5 * HOUR) == [1, 2, 3, 4]
    assert late_days(days(9), [0, 5], unpaused + 5 * HOUR, unpaused) == []


def test_a_run_that_waits_for_late_commits_has_its_time_from_then_on() -> None:
    schedule = Bounds(days(4).bounds, settle=3 * HOUR)
    assert late_days(schedule, range(3), MONDAY + 4 * DAY + 5 * HOUR - MINUTE) == []
    assert late_days(schedule, range(3), MONDAY + 4 * DAY + 5 * HOUR) == [3]


class Truth:
    """What Airflow knows at one moment."""

    def __init__(self, delivered_at: dict[ExportWindow, datetime], now: datetime) -> None:
        self.delivered_at, self.now = delivered_at, now

    def standing(self, export: str) -> Standing:
        return "active"

    def delivered(self, export: str, windows: Collection[ExportWindow]) -> set[ExportWindow]:
        return {*filter(self.holds, windows)}

    def states(self, export: str, windows: Collection[ExportWindow]) -> dict[ExportWindow, RunState]:
        return dict.fromkeys(windows, "none")

    def holds(self, window: ExportWindow) -> bool:
        return self.delivered_at.get(window, self.now + DAY) <= self.now


@st.composite
def histories(draw: st.DrawFn) -> tuple[Bounds, dict[ExportWindow, datetime], set[int]]:
    """A schedule of uneven windows, when which of them were delivered, and the numbers of looks with the DAG paused."""
    lengths = draw(st.lists(st.sampled_from([6, 12, 24, 24, 24, 72]), min_size=1, max_size=16))
    bounds = [MONDAY]
    for length in lengths:
        bounds.append(bounds[-1] + length * HOUR)
    settle, wait = draw(st.sampled_from([0, 5, 180])), draw(st.sampled_from([0.5, 2, 30]))
    schedule = Bounds(tuple(bounds), settle * MINUTE, wait * HOUR)
    delays = st.one_of(st.none(), st.just(0.2), st.floats(0, 200))  # in hours after the run is due; None: never
    delivered = {
        window: window.end + schedule.settle + delay * HOUR
        for window in schedule.windows
        if (delay := draw(delays)) is not None
    }
    pause = draw(st.integers(0, 60))
    return schedule, delivered, set(range(pause, pause + draw(st.sampled_from([0, 0, 1, 10, 20]))))


@settings(max_examples=150, deadline=None)
@given(histories())
def test_a_look_finds_what_the_rule_says_and_alerts_about_each_once_a_day(
    history: tuple[Bounds, dict[ExportWindow, datetime], set[int]],
) -> None:
    schedule, delivered_at, paused = history
    watched, began = None, None
    alerted: dict[ExportWindow, datetime] = {}
    for number in range(90):  # a look every six hours, from the middle of the first windows on
        now = MONDAY + 7 * HOUR + number * 6 * HOUR
        if number in paused:  # as a look then leaves it
            watched, began, alerted = None, None, {}
            continue
        began = began or now
        truth = Truth(delivered_at, now)
        found = look("acme", watched, schedule, truth, now)
        expected = late(dues(schedule, now, began), truth.holds, now)
        assert [(due.window, due.by) for due in found.late] == [(due.window, due.by) for due in expected], now
        due = [each.window for each in found.late if now - alerted.get(each.window, MONDAY - DAY) >= DAY]
        assert [entry.window for entry in found.alerts] == due, now
        alerted |= dict.fromkeys(due, now)
        watched = found.watched and Watched.from_dict(found.watched.to_dict())  # as it comes back from staging
