"""From an export's `interval` to Airflow timetables whose runs carry real data intervals."""

from typing import Any, Self

from airflow.sdk import CronDataIntervalTimetable
from airflow.sdk.bases.timetable import BaseTimetable
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from pendulum import DateTime, instance, parse

from data_export.config.models import CustomerExport

CRON = {"hourly": "0 * * * *", "daily": "0 0 * * *", "weekly": "0 0 * * 1", "monthly": "0 0 1 * *"}


class OnceWindowTimetable(Timetable):
    """Exactly one run, for `[start, end)`, as soon as the DAG is unpaused and the window is over.

    Airflow's own `@once` has an empty interval (start = end), which would export nothing.
    """

    periodic = False
    can_be_scheduled = True
    description = "Once"

    def __init__(self, start: DateTime, end: DateTime) -> None:
        self.start, self.end = start, end

    @property
    def summary(self) -> str:
        return "once"

    def serialize(self) -> dict[str, Any]:
        return {"start": self.start.isoformat(), "end": self.end.isoformat()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Self:
        return cls(_instant(data["start"]), _instant(data["end"]))

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        return DataInterval(self.start, self.end)

    def next_dagrun_info(
        self,
        *,
        last_automated_data_interval: DataInterval | None,
        restriction: TimeRestriction,
    ) -> DagRunInfo | None:
        if last_automated_data_interval is not None:
            return None
        return DagRunInfo.interval(self.start, self.end)


def timetable_of(export: CustomerExport) -> BaseTimetable | Timetable | None:
    """The schedule of an export; None where it is not enabled.

    Windows are cut at midnight, or where the cron expression says, of the export's own zone, daylight saving included.
    """
    if not export.enabled:
        return None
    if export.interval == "once":
        assert export.end is not None  # noqa: S101 - the model requires it
        return OnceWindowTimetable(instance(export.start), instance(export.end))
    return CronDataIntervalTimetable(CRON.get(export.interval, export.interval), timezone=export.timezone)


def _instant(text: str) -> DateTime:
    value = parse(text)
    if not isinstance(value, DateTime):
        raise TypeError(f"{text!r} is not a date-time")
    return value
