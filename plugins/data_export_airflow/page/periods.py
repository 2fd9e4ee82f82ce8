"""Which part of time one calendar shows, and in what rows and columns."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Kind = Literal["hour", "day", "week", "month"]

_MONTHS_OF_DAYS, _YEARS_OF_WEEKS, _YEARS_OF_MONTHS, _DAYS_OF_HOURS = 12, 3, 6, 31


@dataclass(frozen=True, slots=True)
class Period:
    """`[start, end)`, from a local midnight to a local midnight of `zone`.

    A row is a day (of hours), a month (of days) or a year (of weeks or months).
    """

    kind: Kind
    zone: ZoneInfo
    start: datetime
    end: datetime

    def rows(self) -> list[str]:
        """The labels of all rows, newest first."""
        day = self.start.astimezone(self.zone).date()
        labels: list[str] = []
        while (at := datetime.combine(day, time(), self.zone)) < self.end:
            label = self.place(at)[0]
            if label not in labels[-1:]:
                labels.append(label)
            day += timedelta(days=1)
        return labels[::-1]

    def place(self, at: datetime) -> tuple[str, int]:
        """Row label and column of a window by its start: hour 0-23, day 1-31, ISO week 1-53, month 1-12."""
        local = at.astimezone(self.zone)
        if self.kind == "hour":
            return f"{local:%Y-%m-%d}", local.hour
        if self.kind == "day":
            return f"{local:%Y-%m}", local.day
        if self.kind == "week":
            year, week, _ = local.isocalendar()
            return str(year), week
        return str(local.year), local.month


def kind_of(length: timedelta) -> Kind:
    """By the length of one window; a day may have 23 hours, a month 28 days."""
    if length < timedelta(hours=20):
        return "hour"
    if length < timedelta(days=6):
        return "day"
    return "week" if length < timedelta(days=27) else "month"


def period_around(kind: Kind, zone: ZoneInfo, last: datetime, length: timedelta) -> Period:
    """The period whose last row holds the instant `last`."""
    day = last.astimezone(zone).date()
    if kind == "hour":
        end = day + timedelta(days=1)
        start = end - timedelta(days=max(2, int(_DAYS_OF_HOURS * min(1, length / timedelta(hours=1)))))
    elif kind == "day":
        end = _month(day.year, day.month + 1)
        start = _month(end.year, end.month - _MONTHS_OF_DAYS)
    elif kind == "week":
        year = day.isocalendar().year
        start, end = date.fromisocalendar(year - _YEARS_OF_WEEKS + 1, 1, 1), date.fromisocalendar(year + 1, 1, 1)
    else:
        start, end = date(day.year - _YEARS_OF_MONTHS + 1, 1, 1), date(day.year + 1, 1, 1)
    return Period(kind, zone, datetime.combine(start, time(), zone), datetime.combine(end, time(), zone))


def _month(year: int, month: int) -> date:
    """The first of a month, which may be counted beyond 1 to 12."""
    return date(year + (month - 1) // 12, (month - 1) % 12 + 1, 1)
