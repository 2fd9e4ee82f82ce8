"""When a window is late: the rule that the watch applies. It alerts people, and the page shows what it found.

A window is late from the moment when it should be there at the latest until it is delivered, whatever became of its
run. Where a newer window was delivered meanwhile, it is a gap, and late for three more days: after that it is history
that a person may backfill. What lies before the window that the scheduler runs first, because the export is new or was
paused, was left out on purpose.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, Self

from data_export.window import ExportWindow

REMIND_FOR = timedelta(days=3)
#: Windows not delivered that are looked at, the newest; an export that is dead for longer is as late as the oldest.
MOST_OPEN = 200


class Schedule(Protocol):
    """The windows of one export."""

    #: How long after a window's end its run is made.
    settle: timedelta
    late_after: timedelta

    def begins(self, at: datetime) -> datetime | None:
        """Start of the first window that the scheduler runs where the export goes on at `at`; None where none is left.

        That is the last complete window, or the first of all.
        """
        ...

    def last(self, now: datetime) -> ExportWindow | None:
        """The newest window whose run is due by now; None where none is."""
        ...

    def before(self, window: ExportWindow) -> ExportWindow | None:
        """The window before; None for the first of all."""
        ...


@dataclass(frozen=True, slots=True)
class Due:
    """A window whose run is due; `by` is when it should be delivered at the latest.

    `until` is when it is forgotten: None for as long as no newer window is known to be delivered.
    """

    window: ExportWindow
    by: datetime
    until: datetime | None = None

    def is_late(self, now: datetime) -> bool:
        return self.by <= now and not self.is_forgotten(now)

    def is_forgotten(self, now: datetime) -> bool:
        return self.until is not None and self.until <= now

    def passed_by(self, newer: Self) -> Self:
        """With what follows from the delivery of a newer window."""
        until = newer.by + REMIND_FOR
        return replace(self, until=until if self.until is None else min(self.until, until))


def dues(schedule: Schedule, now: datetime, began: datetime | None = None) -> Iterator[Due]:
    """The windows whose runs are due, newest first, back to the first of all.

    Args:
        began: when the export was first seen or last unpaused, where that is known: back to the window that the
            scheduler ran then. That one may have ended long before, so it has `late_after` from `began` on.
    """
    first = schedule.begins(began) if began is not None else None
    if began is not None and first is None:
        return
    window = schedule.last(now)
    while window is not None and (first is None or window.start >= first):
        by = _expected(window, schedule)
        if began is not None and window.start == first:
            by = max(by, began + schedule.late_after)
        yield Due(window, by)
        window = schedule.before(window)


def waiting(due: Iterable[Due], delivered: Callable[[ExportWindow], bool], now: datetime) -> list[Due]:
    """The windows that are not delivered and not forgotten, late or not yet, oldest first.

    Args:
        due: newest first.
    """
    found: list[Due] = []
    newer: Due | None = None
    for each in due:
        own = each if newer is None else each.passed_by(newer)
        if own.is_forgotten(now) or len(found) == MOST_OPEN:
            break
        if delivered(each.window):
            newer = each
        else:
            found.append(own)
    return found[::-1]


def _expected(window: ExportWindow, schedule: Schedule) -> datetime:
    """The deadline is `late_after` after the window's end, or after the run starts if `settle` is longer."""
    wait = schedule.late_after
    return window.end + (wait if wait > schedule.settle else wait + schedule.settle)
