"""The windows of exports as Airflow's scheduler finds them, asked without a scheduler."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from airflow.timetables.base import DataInterval
from pendulum import DateTime, instance

from data_export.config.models import CustomerExport
from data_export.limits import Limits
from data_export.window import ExportWindow
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable, timetable_of

T = TypeVar("T")
ExportTimetable = SettledCronTimetable | OnceWindowTimetable


class Schedules:
    """Those of one look: exports of the same interval, zone and dates share one timetable and its answers.

    A timetable takes a fraction of a millisecond to ask, of which thousands of exports have a few kinds.
    """

    def __init__(self) -> None:
        #: By identity, since Airflow takes timetables for equal that differ in their bounds.
        self._answers: dict[int, tuple[ExportTimetable, dict[tuple[str, datetime], Any]]] = {}

    def of(self, export: CustomerExport, limits: Limits) -> "ExportSchedule":
        return self.of_timetable(timetable_of(export, limits.settle), limits.late_after)

    def of_timetable(self, timetable: ExportTimetable, late_after: timedelta) -> "ExportSchedule":
        return ExportSchedule(timetable, late_after, self)

    def answer(self, timetable: ExportTimetable, question: str, at: datetime, ask: Callable[[], T]) -> T:
        _, answers = self._answers.setdefault(id(timetable), (timetable, {}))
        if (question, at) not in answers:
            answers[question, at] = ask()
        answer: T = answers[question, at]
        return answer


class ExportSchedule:
    """Asks the timetable that the export's DAG has, so that both agree on every window (`lateness.Schedule`)."""

    def __init__(self, timetable: ExportTimetable, late_after: timedelta, known: Schedules) -> None:
        self.settle, self.late_after = timetable.settle, late_after
        self._timetable, self._known = timetable, known

    def begins(self, at: datetime) -> datetime | None:
        start = self._timetable.first_start(instance(at), self._timetable.start)
        return start if self._timetable.end is None or start < self._timetable.end else None

    def last(self, now: datetime) -> ExportWindow | None:
        return self._known.answer(self._timetable, "last", now, lambda: self._last(now))

    def before(self, window: ExportWindow) -> ExportWindow | None:
        start = window.start
        return self._known.answer(self._timetable, "before", start, lambda: self._before(start))

    def _last(self, now: datetime) -> ExportWindow | None:
        interval = self._timetable.infer_manual_data_interval(run_after=instance(now))
        return None if interval.end + self.settle > now else self._window(interval)

    def _before(self, start: datetime) -> ExportWindow | None:
        if isinstance(self._timetable, OnceWindowTimetable):
            return None
        return self._window(self._timetable.infer_manual_data_interval(run_after=instance(start + self.settle)))

    def _window(self, interval: DataInterval) -> ExportWindow | None:
        earliest: DateTime | None = self._timetable.start
        return None if earliest is not None and interval.start < earliest else ExportWindow(*interval)
