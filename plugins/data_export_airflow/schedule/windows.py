"""Which window: the one that a run is for, those that Airflow will run, and those of an export's schedule.

All are asked of the timetable that the export's DAG has, so that everybody agrees with the scheduler.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from pendulum import DateTime, instance

from data_export.config.fields import quoted
from data_export.config.models import CustomerExport
from data_export.errors import ConfigError
from data_export.limits import Limits
from data_export.window import ExportWindow
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable, timetable_of

T = TypeVar("T")
ExportTimetable = SettledCronTimetable | OnceWindowTimetable


def require_passed_on(context: Mapping[str, Any], *names: str) -> None:
    """Passes where the parameters of these names are those that the run was triggered with.

    Raises:
        ConfigError: Airflow is set to ignore them, and something else would be done in silence.
    """
    given, params = getattr(context.get("dag_run"), "conf", None) or {}, context.get("params") or {}
    for name in names:
        if given.get(name) is not None and given[name] != params.get(name):
            raise ConfigError(
                f"the run was triggered with {name}={quoted(given[name])}, which Airflow passes on to no task: set "
                "[core] dag_run_conf_overrides_params to True, which is its default"
            )


def window_of_run(export: CustomerExport, context: Mapping[str, Any], settle: timedelta) -> ExportWindow:
    """The trigger form's `from` and `to` where given, else the data interval, else the last complete window of then.

    A window that `end_date` cuts is exported up to it.

    Raises:
        ConfigError: only one of `from` and `to`, not instants with a zone, or another parameter: a misspelt one would
            otherwise export the last window in place of the range that was meant. Or the data interval is no window,
            or Airflow is set to pass `from` and `to` on to nobody.
    """
    require_passed_on(context, "from", "to")
    params = context.get("params") or {}
    if unknown := sorted({*params} - {"from", "to"}):
        raise ConfigError(f"{', '.join(unknown)}: an export has only the parameters `from` and `to`, spelled like this")
    start, end = params.get("from"), params.get("to")
    if start or end:
        if not (start and end):
            raise ConfigError("the trigger form has only one of `from` and `to`: give both, or neither")
        try:
            return ExportWindow(datetime.fromisoformat(start), datetime.fromisoformat(end))
        except ValueError as error:
            raise ConfigError(f"the trigger form's `from` {start} and `to` {end}: {error}") from None
    run = context["dag_run"]
    begins, ends = run.data_interval_start, run.data_interval_end
    if begins is None or ends is None or begins == ends:
        # A run triggered without a logical date has no interval (REST with null, CLI without -l). Not of now, or a
        # try of the next day would be of another window.
        begins, ends = _latest(timetable_of(export, settle), run.run_after)
    if export.end is not None and begins < export.end < ends:
        ends = export.end
    try:
        return ExportWindow(begins, ends)
    except ValueError as error:  # of a run by REST, or of the timetable of somebody's own DAG
        raise ConfigError(
            f"the run's data interval is not a window ({error}): trigger a run with `from` and `to` in its place"
        ) from None


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
    last = _last_due(follows, settle, now) if follows else None
    runs = _runs(timetable_of(export, settle), last, export.start, export.end, catchup=False)
    planned = (PlannedRun(ExportWindow(*run.data_interval), run.run_after) for run in runs if run.data_interval)
    return list(islice(planned, count))


def gap_or_overlap(
    export: CustomerExport, settle: timedelta, now: datetime, follows: CustomerExport, first: PlannedRun
) -> str | None:
    """What lies between the last window of the earlier version and the first of this one; None where they meet.

    Airflow never runs a window that begins before the last one did, so a longer interval leaves a part out.
    """
    last = _last_due(follows, settle, now)
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
    return ExportWindow(*_latest(timetable_of(export, settle), now))


def starting_in(timetable: Timetable, first: datetime, last: datetime) -> Iterator[ExportWindow]:
    """The windows of any timetable that start in `[first, last)`, oldest first, also those before its own start."""
    for run in _runs(timetable, None, first, last, catchup=True) if first < last else ():
        if run.data_interval is not None and first <= run.data_interval.start < last:  # `once` knows no bounds
            yield ExportWindow(*run.data_interval)


def latest_length(timetable: Timetable, now: datetime) -> timedelta:
    """Of the last complete window; zero where the timetable has no windows."""
    start, end = latest_bounds(timetable, now)
    return timedelta(seconds=(end - start).total_seconds())  # pendulum's own cannot be divided


def latest_bounds(timetable: Timetable, now: datetime) -> tuple[datetime, datetime]:
    """Of the last complete window, which a run by hand takes that is given no other; equal without a schedule."""
    start, end = _latest(timetable, now)
    return start, end


class Schedules:
    """The schedules of one look: exports of the same interval, zone and dates share one timetable and its answers.

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
    """The windows of one export, one by one and back in time: what `lateness.Schedule` asks for."""

    def __init__(self, timetable: ExportTimetable, late_after: timedelta, known: Schedules) -> None:
        self.settle, self.late_after, self.start = timetable.settle, late_after, timetable.start
        self._timetable, self._known = timetable, known

    def begins(self, at: datetime) -> datetime | None:
        start = self._timetable.first_start(instance(at), self._timetable.start)
        return start if self._timetable.end is None or start < self._timetable.end else None

    def last(self, now: datetime) -> ExportWindow | None:
        return self._known.answer(self._timetable, "last", now, lambda: self._last(now))

    def before(self, window: ExportWindow) -> ExportWindow | None:
        start = window.start
        return self._known.answer(self._timetable, "before", start, lambda: self._before(start))

    def overlapping(self, start: datetime, end: datetime) -> Iterator[ExportWindow]:
        """The windows of which a part is in `[start, end)`, oldest first; each begins where the one before it ends."""
        before = self.last(start + self.settle)
        return starting_in(self._timetable, before.end if before else self.start or start, end)

    def _last(self, now: datetime) -> ExportWindow | None:
        interval = _latest(self._timetable, now)
        return None if interval.end + self.settle > now else self._window(interval)

    def _before(self, start: datetime) -> ExportWindow | None:
        if isinstance(self._timetable, OnceWindowTimetable):
            return None
        return self._window(_latest(self._timetable, start + self.settle))

    def _window(self, interval: DataInterval) -> ExportWindow | None:
        earliest: DateTime | None = self._timetable.start
        return None if earliest is not None and interval.start < earliest else ExportWindow(*interval)


def _latest(timetable: Timetable, now: datetime) -> DataInterval:
    """The last complete window: what a run by hand takes that is given no other."""
    return timetable.infer_manual_data_interval(run_after=instance(now))


def _runs(
    timetable: Timetable, last: DataInterval | None, start: datetime, end: datetime | None, catchup: bool
) -> Iterator[DagRunInfo]:
    """The runs that Airflow's scheduler makes after that of `last`, of windows that start in `[start, end)`."""
    latest = instance(end - timedelta(microseconds=1)) if end else None  # Airflow's is inclusive
    restriction = TimeRestriction(instance(start), latest, catchup=catchup)
    while (run := timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)) is not None:
        last = run.data_interval
        if last is None:
            return
        yield run


def _last_due(export: CustomerExport, settle: timedelta, now: datetime) -> DataInterval | None:
    """The newest window that was due; None where none was."""
    interval = _latest(timetable_of(export, settle), now)
    is_due = export.enabled and export.start <= interval.start and interval.end + settle <= now
    return interval if is_due else None
