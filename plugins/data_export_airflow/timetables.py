"""From an export's `interval` to timetables whose runs carry real data intervals."""

from datetime import timedelta
from typing import Any, Self

from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from airflow.timetables.interval import CronDataIntervalTimetable
from pendulum import DateTime, instance, parse

from data_export.config.models import CustomerExport

CRON = {"hourly": "0 * * * *", "daily": "0 0 * * *", "weekly": "0 0 * * 1", "monthly": "0 0 1 * *"}


class SettledCronTimetable(CronDataIntervalTimetable):
    """Windows `[previous, this)` of a cron expression in a zone, each run `settle` after its window's end.

    Daylight saving is Airflow's: a day of 23 or 25 hours is one window. `settle` gives transactions that began in the
    window time to commit: one that commits later than that is in no file until its work order changes again.
    """

    def __init__(self, cron: str, timezone: Any, settle: timedelta) -> None:
        super().__init__(cron, timezone)
        self.settle = settle

    def serialize(self) -> dict[str, Any]:
        return {**super().serialize(), "settle_seconds": self.settle.total_seconds()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Self:
        cron = CronDataIntervalTimetable.deserialize(data)
        assert isinstance(cron, CronDataIntervalTimetable)  # noqa: S101 - tells mypy what the class method makes
        return cls(cron._expression, cron._timezone, timedelta(seconds=data["settle_seconds"]))

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        info = super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )
        return None if info is None else info._replace(run_after=info.run_after + self.settle)

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        return super().infer_manual_data_interval(run_after=run_after - self.settle)


class OnceWindowTimetable(Timetable):
    """Exactly one run, for `[start, end)`, when the DAG is unpaused and the window has settled.

    Airflow's own `@once` has an empty interval (start = end), which would export nothing.
    """

    periodic = False
    can_be_scheduled = True
    description = "Once"

    def __init__(self, start: DateTime, end: DateTime, settle: timedelta) -> None:
        self.start, self.end, self.settle = start, end, settle

    @property
    def summary(self) -> str:
        return "once"

    def serialize(self) -> dict[str, Any]:
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "settle_seconds": self.settle.total_seconds(),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Self:
        return cls(_instant(data["start"]), _instant(data["end"]), timedelta(seconds=data["settle_seconds"]))

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        return DataInterval(self.start, self.end)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        if last_automated_data_interval is not None:
            return None
        return DagRunInfo.interval(self.start, self.end)._replace(run_after=self.end + self.settle)


def timetable_of(export: CustomerExport, settle: timedelta) -> SettledCronTimetable | OnceWindowTimetable:
    """The windows of an export, cut at midnight, or where the cron expression says, of the export's own zone."""
    if export.interval == "once":
        assert export.end is not None  # noqa: S101 - the model requires it
        return OnceWindowTimetable(instance(export.start), instance(export.end), settle)
    return SettledCronTimetable(CRON.get(export.interval, export.interval), export.timezone, settle)


def _instant(text: str) -> DateTime:
    value = parse(text)
    if not isinstance(value, DateTime):
        raise TypeError(f"{text!r} is not a date-time")
    return value
