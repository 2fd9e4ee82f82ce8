"""Which runs Airflow will make of an export, before it has seen the file."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from airflow.timetables.base import DataInterval, TimeRestriction
from pendulum import instance

from data_export.config.models import CustomerExport
from data_export.window import ExportWindow
from data_export_airflow.timetables import timetable_of


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A window, and when its run begins: at once, if that is past and the DAG is unpaused."""

    window: ExportWindow
    run_after: datetime


def upcoming(
    export: CustomerExport, settle: timedelta, now: datetime, count: int, follows: CustomerExport | None = None
) -> list[PlannedRun]:
    """The next runs as the scheduler will make them.

    A new export begins with its last complete window. One that `follows` an earlier version of its file goes on from
    the last window that this had due.
    """
    if not export.enabled:
        return []
    last = _last(follows, settle, now) if follows else None
    return list(islice(_runs(export, settle, last), count))


def seam(
    export: CustomerExport, settle: timedelta, now: datetime, follows: CustomerExport, first: PlannedRun
) -> str | None:
    """What lies between the last window of the earlier version and the first of this one; None where they meet.

    Airflow never runs a window that begins before the last one did, so a longer interval leaves a part out.
    """
    last = _last(follows, settle, now)
    if last is None:
        return None
    start, end = max(last.end, instance(export.start)), instance(first.window.start)
    if end > start:
        gap = ExportWindow(start, end)
        return f"{gap} will be in no window: trigger it by hand, with from and to, once it is over"
    if end < last.end:
        return (
            f"{ExportWindow(end, last.end)} will be delivered twice: in a window as they were, and in the first new one"
        )
    return None


def last_complete(export: CustomerExport, settle: timedelta, now: datetime) -> ExportWindow:
    """The window a run by hand would take now; it may lie before the export's start."""
    interval = timetable_of(export, settle).infer_manual_data_interval(run_after=instance(now))
    return ExportWindow(interval.start, interval.end)


def _runs(export: CustomerExport, settle: timedelta, last: DataInterval | None) -> Iterator[PlannedRun]:
    timetable = timetable_of(export, settle)
    latest = instance(export.end - timedelta(seconds=1)) if export.end else None
    restriction = TimeRestriction(earliest=instance(export.start), latest=latest, catchup=False)
    while (info := timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)) is not None:
        last = info.data_interval
        if last is None:
            return
        yield PlannedRun(ExportWindow(last.start, last.end), info.run_after)


def _last(export: CustomerExport, settle: timedelta, now: datetime) -> DataInterval | None:
    """The newest window that was due; None where none was."""
    interval = timetable_of(export, settle).infer_manual_data_interval(run_after=instance(now))
    is_due = export.enabled and export.start <= interval.start and interval.end + settle <= now
    return interval if is_due else None
