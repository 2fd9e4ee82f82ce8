"""The windows of exports as Airflow's scheduler finds them, asked without a scheduler."""

from collections.abc import Callable
from datetime import datetime, timedelta

from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from pendulum import instance

from data_export.config.models import CustomerExport
from data_export.limits import Limits
from data_export.window import ExportWindow
from data_export_airflow.timetables import timetable_of

_Ask = Callable[[DataInterval | None, TimeRestriction], DagRunInfo | None]


class Schedules:
    """Those of one look: exports of the same interval, zone and dates share one timetable and its answers.

    A timetable takes milliseconds to make and to ask, of which thousands of exports have a few kinds.
    """

    def __init__(self) -> None:
        self._timetables: dict[tuple[object, ...], Timetable] = {}
        self._answers: dict[tuple[object, ...], DagRunInfo | None] = {}

    def of(self, export: CustomerExport, limits: Limits) -> "ExportSchedule":
        kind = (export.interval, export.timezone, limits.settle, export.start, export.end)
        if kind not in self._timetables:
            self._timetables[kind] = timetable_of(export, limits.settle)
        timetable = self._timetables[kind]

        def ask(last: DataInterval | None, restriction: TimeRestriction) -> DagRunInfo | None:
            key = (kind, last, restriction)
            if key not in self._answers:
                self._answers[key] = timetable.next_dagrun_info(
                    last_automated_data_interval=last, restriction=restriction
                )
            return self._answers[key]

        return ExportSchedule(export, limits, ask)


class ExportSchedule:
    """Asks the timetable that the export's DAG has, so that both agree on every window (`alerts.watch.Schedule`)."""

    def __init__(self, export: CustomerExport, limits: Limits, ask: _Ask) -> None:
        self.settle, self.late_after = limits.settle, limits.late_after
        self._ask, self._start, self._end = ask, export.start, export.end

    def first(self, now: datetime) -> ExportWindow | None:
        return self._next(None, now)

    def after(self, window: ExportWindow, now: datetime) -> ExportWindow | None:
        return self._next(DataInterval(instance(window.start), instance(window.end)), now)

    def _next(self, last: DataInterval | None, now: datetime) -> ExportWindow | None:
        latest = instance(self._end - timedelta(seconds=1)) if self._end else None  # Airflow's is inclusive
        # Without catch-up the scheduler leaves out what went by before it first looked, and nothing afterwards: that it
        # leaves out windows when it was down is what the watch is for.
        info = self._ask(last, TimeRestriction(instance(self._start), latest, catchup=last is not None))
        if info is None or info.run_after > now or info.data_interval is None:
            return None
        start, end = info.data_interval
        return ExportWindow(start, self._end if self._end is not None and start < self._end < end else end)
