"""From an export's `interval` to timetables whose runs carry real data intervals."""

from copy import copy
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Self

from airflow.timetables import interval
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from airflow.timetables.interval import CronDataIntervalTimetable
from croniter import croniter
from pendulum import DateTime, instance, parse

from data_export.config.models import CustomerExport
from data_export.config.moments import CRON


class SettledCronTimetable(CronDataIntervalTimetable):
    """Windows `[previous, this)` of a cron expression in a zone, each run `settle` after its window's end.

    `start` and `end` are boundaries too, so that the windows from `start` on tile `[start, end)` without a rest: the
    first may be shorter than the others, as may the last. After `end` there are none.

    A day of 23 or 25 hours is one window. A time of day that a zone skips is the moment when the clock goes on; of one
    that comes twice the first counts, but an expression for every hour has both.

    `settle` gives transactions that began in the window time to commit: one that commits later than that is in no file
    until its work order changes again.
    """

    def __init__(
        self, cron: str, timezone: Any, settle: timedelta, start: DateTime | None = None, end: DateTime | None = None
    ) -> None:
        super().__init__(cron, timezone)
        self.description = f"{self.description or cron}, {self._timezone.name} time"  # as Airflow's pages show it
        self.settle, self.start, self.end = settle, start, end

    @property
    def summary(self) -> str:
        return f"{self._expression} ({self._timezone.name})"

    def validate(self) -> None:
        """Raises what croniter raises. Airflow's own reads the expression anew, twice a parse."""
        _read(self._expression)

    def serialize(self) -> dict[str, Any]:
        return {
            **super().serialize(),
            "settle_seconds": self.settle.total_seconds(),
            "start": self.start and self.start.isoformat(),
            "end": self.end and self.end.isoformat(),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> "SettledCronTimetable":
        # A run that began under an earlier version of the service still has that version's timetable, without bounds.
        start, end = (_instant(text) if (text := data.get(key)) else None for key in ("start", "end"))
        return _settled(data["expression"], data["timezone"], timedelta(seconds=data["settle_seconds"]), start, end)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        info = super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )
        if info is None or info.data_interval is None or (self.end and info.data_interval.start >= self.end):
            return None
        return info._replace(run_after=info.run_after + self.settle)

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        """The last window that has settled by then."""
        settled = run_after - self.settle
        return super().infer_manual_data_interval(run_after=min(settled, self.end) if self.end else settled)

    def begins(self, moment: datetime) -> bool:
        """Whether a window begins, or ever will, at this moment."""
        return not (self.end and moment >= self.end) and self._get_next(instance(moment).subtract(seconds=1)) == moment

    def _skip_to_latest(self, earliest: DateTime | None) -> DateTime:
        """Without catch-up: not further than the last window that has settled, or those after it would be left out."""
        return self.first_start(instance(interval.utcnow()), earliest)  # type: ignore[attr-defined]  # the clock of Airflow's

    def first_start(self, at: DateTime, earliest: DateTime | None) -> DateTime:
        """Start of the first window that runs where the export goes on at `at`; not before `end` where it has ended."""
        latest = super().infer_manual_data_interval(run_after=at - self.settle).start
        if latest == self.end and self._tick(latest.subtract(seconds=1), "get_next") != latest:
            latest = self._get_prev(latest)  # the rest of the interval is no window: the last one keeps its turn
        return latest if earliest is None else max(latest, self._align_to_next(earliest))

    def _get_next(self, current: DateTime) -> DateTime:
        return min(moment for moment in (self._tick(current, "get_next"), *self._bounds()) if moment > current)

    def _get_prev(self, current: DateTime) -> DateTime:
        before = max(moment for moment in (self._tick(current, "get_prev"), *self._bounds()) if moment < current)
        # Where clocks go back, croniter may step over a tick backwards that it meets forwards (Pacific/Chatham).
        while (following := self._get_next(before)) < current:
            before = following
        return before

    def _bounds(self) -> list[DateTime]:
        return [bound for bound in (self.start, self.end) if bound]

    def _tick(self, current: DateTime, step: str) -> DateTime:
        # in UTC: two moments of one zone that only `fold` tells apart are equal, and the cache would take one for both
        return _ticked(self._expression, self._timezone, current.in_timezone("UTC"), step)


@lru_cache(maxsize=4096)
def _ticked(expression: str, timezone: Any, current: DateTime, step: str) -> DateTime:
    """The tick before or after. croniter's own way with zones is used: Airflow's leaves gaps when clocks change.

    Cached: Airflow asks for each tick about seven times in a row.
    """
    cron = copy(_read(expression))  # which keeps where it is, and threads ask at the same time
    cron.set_current(current.in_timezone(timezone))
    while True:
        tick: datetime = getattr(cron, step)(datetime)
        comes_again = tick.utcoffset() != tick.replace(fold=0).utcoffset()
        if not comes_again or cron.expanded[1] == ["*"]:
            return instance(tick).in_timezone("UTC")


#: Most of a tick's time went into reading the expression, which depends on no moment.
_read = lru_cache(maxsize=10_000)(croniter)

#: Making a timetable costs 0.3 ms, most of it for the expression in words, and Airflow decodes that of each DAG 16
#: times whenever it stores a parse. None is ever changed, so equal ones are one object.
_settled = lru_cache(maxsize=10_000)(SettledCronTimetable)


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

    def first_start(self, at: DateTime, earliest: DateTime | None) -> DateTime:
        return self.start

    def infer_manual_data_interval(self, *, run_after: DateTime) -> DataInterval:
        return DataInterval(self.start, self.end)

    def begins(self, moment: datetime) -> bool:
        """Whether its window begins at this moment."""
        return self.start == moment

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
    end = instance(export.end) if export.end else None
    return _settled(CRON.get(export.interval, export.interval), export.timezone, settle, instance(export.start), end)


def _instant(text: str) -> DateTime:
    value = parse(text)
    if not isinstance(value, DateTime):
        raise TypeError(f"{text!r} is not a date-time")
    return value
