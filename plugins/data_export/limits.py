"""Which limits hold for an export, and whether a window keeps them. Nothing here reads anything."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import ceil
from typing import Generic, TypeVar

from data_export.config.models import CustomerExport
from data_export.config.moments import length, window_days
from data_export.config.platform import customers_dir, load_platform, place_of, shown
from data_export.config.sections import LimitSettings
from data_export.errors import ConfigError, LimitExceeded
from data_export.window import ExportWindow

T = TypeVar("T", int, float, date)


@dataclass(frozen=True, slots=True)
class Limit(Generic[T]):
    """A limit in force; `str()` is `limits.max_window_days = 31 (include/customers/acme.yaml)`: where to change it."""

    name: str
    value: T
    #: The file with a customer's own limit; None where the platform's holds.
    file: str | None = None

    @property
    def place(self) -> str:
        """Where the limit is changed. Looked up when asked: no DAG needs it, and the environment is long."""
        return self.file or place_of("limits", self.name)

    def __str__(self) -> str:
        return f"limits.{self.name} = {self.value} ({self.place})"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force for one export, each with the file that sets it."""

    max_window_days: Limit[int]
    earliest: Limit[date]
    max_active_runs: Limit[int]
    settle_minutes: Limit[int]
    #: The platform's alone.
    sites_at_once: int
    late_after_hours: Limit[float]

    @property
    def settle(self) -> timedelta:
        """How long after its end a window is read."""
        return timedelta(minutes=self.settle_minutes.value)

    @property
    def late_after(self) -> timedelta:
        """How long after its end a window that is not delivered is reported as late."""
        return timedelta(hours=self.late_after_hours.value)


def limits_of(name: str, export: CustomerExport, platform: LimitSettings, *, place: str | None = None) -> Limits:
    """The stricter of platform and customer file: a customer's limit narrows, and never widens.

    `settle_minutes` and `late_after_hours` are no restrictions, so there the customer file's value holds, longer or
    shorter. `place` is where the customer's own limits stand, if not in a customer file.
    """
    own, file = export.limits, place or shown(customers_dir() / f"{name}.yaml")

    def limit(key: str, value: T, customers: T | None, *, is_stricter: bool) -> Limit[T]:
        if customers is not None and is_stricter:
            return Limit(key, customers, file)
        return Limit(key, value)

    def at_most(key: str, value: int, customers: int | None) -> Limit[int]:
        return limit(key, value, customers, is_stricter=customers is not None and customers < value)

    return Limits(
        max_window_days=at_most("max_window_days", platform.max_window_days, own.max_window_days),
        earliest=limit(
            "earliest",
            platform.earliest,
            own.earliest,
            is_stricter=own.earliest is not None and own.earliest > platform.earliest,
        ),
        max_active_runs=at_most("max_active_runs", platform.max_active_runs, own.max_active_runs),
        settle_minutes=limit("settle_minutes", platform.settle_minutes, own.settle_minutes, is_stricter=True),
        sites_at_once=platform.sites_at_once,
        late_after_hours=limit("late_after_hours", platform.late_after_hours, own.late_after_hours, is_stricter=True),
    )


def most_window_days() -> int | None:
    """The platform's own `limits.max_window_days`; None where its settings cannot be read."""
    try:
        return load_platform().limits.max_window_days
    except ConfigError:
        return None


def windows_too_long(export: CustomerExport, most: Callable[[], int | None]) -> tuple[str, bool] | None:
    """What is wrong with an interval some of whose windows break the platform's limit, and whether all of them do."""
    if export.interval != "once":
        shortest, longest = window_days(export.interval)
    else:
        whole = length(export.start, export.end or export.start, export.timezone)
        shortest = longest = ceil(whole / timedelta(days=1))
    most_days = most() if longest > 1 else None  # no limit is shorter than a day
    if most_days is None or longest <= most_days:
        return None
    limit = f"limits.max_window_days = {most_days} ({place_of('limits', 'max_window_days')})"
    less = "export it in several files" if export.interval == "once" else "come due more often"
    fix = f"{less}, or raise the limit"
    if shortest > most_days:
        return f"'{export.interval}' makes windows of {shortest:,} days, and none may run with {limit}: {fix}", True
    return f"'{export.interval}' makes windows of up to {longest:,} days, more than {limit}, which fail: {fix}", False


def check_window(name: str, export: CustomerExport, window: ExportWindow, limits: Limits, now: datetime) -> None:
    """Passes a window that the export may deliver at `now`.

    A day of 25 hours is one day long.

    Raises:
        LimitExceeded: naming the limit, its value, where it is set and what to do.
    """
    days = length(window.start, window.end, export.timezone) / timedelta(days=1)
    if days > limits.max_window_days.value:
        raise LimitExceeded(
            f"{name}: window {window} is {days:.4g} days long, more than "
            f"{limits.max_window_days}: export it in several windows"
        )
    if window.start < datetime.combine(limits.earliest.value, time.min, UTC):
        raise LimitExceeded(f"{name}: window {window} begins before {limits.earliest}: begin later")
    if window.start < export.start:
        raise LimitExceeded(
            f"{name}: window {window} begins before the export's start_date {export.start_date}: "
            "begin later, or set an earlier start_date in the customer file"
        )
    if export.end is not None and window.end > export.end:
        raise LimitExceeded(
            f"{name}: window {window} ends after the export's end_date {export.end_date}: "
            "end earlier, or set a later end_date in the customer file"
        )
    if window.end > now:
        raise LimitExceeded(
            f"{name}: window {window} ends in the future (now {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC): "
            "a file would miss what happens until then; run it when the window is over"
        )


def refusal(name: str, export: CustomerExport, window: ExportWindow, limits: Limits, now: datetime) -> str:
    """Why no run may deliver the window now, as `check_window` says it; empty where one may."""
    try:
        check_window(name, export, window, limits, now)
    except LimitExceeded as error:
        return str(error)
    return ""
