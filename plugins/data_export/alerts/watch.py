"""Finds windows that were not delivered in time, whether their run is slow, stuck, failed, or was never made.

Airflow's own deadlines belong to a run, so they cannot tell of a window without one, and backfills set them off. This
looks from the other side: which windows there are, by the export's own schedule, and which of them were delivered.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol, Self

from data_export.window import ExportWindow

#: How long after its time a window is still asked about; one that never comes is then told of three times.
_FORGET_AFTER = timedelta(days=3)
_REMIND_AFTER = timedelta(days=1)
_MOST_OPEN = 200

Standing = Literal["active", "paused", "missing"]
RunState = Literal["none", "queued", "running", "failed"]


class Schedule(Protocol):
    """The windows of one export."""

    #: How long after a window's end its run is made.
    settle: timedelta
    late_after: timedelta

    def first(self, now: datetime) -> ExportWindow | None:
        """The window that the scheduler would run first if the export began now; None where there is none to run."""
        ...

    def after(self, window: ExportWindow, now: datetime) -> ExportWindow | None:
        """The next window, if its run is due by now."""
        ...


class Runs(Protocol):
    """What Airflow knows. Each question costs a request, hence is asked as seldom as can be."""

    def standing(self, export: str) -> Standing: ...

    def delivered(self, export: str, window: ExportWindow) -> bool: ...

    def state(self, export: str, window: ExportWindow) -> RunState: ...


class Due(NamedTuple):
    """A window, and when it is to be asked about (again)."""

    window: ExportWindow
    ask_at: datetime


class Late(NamedTuple):
    """A window that is not delivered although it should be."""

    export: str
    window: ExportWindow
    run: RunState
    standing: Standing


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of one export: the newest window whose run was due, and those not known to be delivered."""

    newest: ExportWindow
    open: tuple[Due, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "newest": self.newest.to_dict(),
            "open": [due.window.to_dict() | {"ask_at": due.ask_at.isoformat()} for due in self.open],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        dues = (Due(ExportWindow.from_dict(due), datetime.fromisoformat(due["ask_at"])) for due in value["open"])
        return cls(ExportWindow.from_dict(value["newest"]), tuple(dues))


def look(
    export: str, watched: Watched | None, schedule: Schedule, runs: Runs, now: datetime
) -> tuple[Watched | None, list[Late]]:
    """One look at one export: what is known afterwards, and the windows that are late now.

    An export that is paused is forgotten, and when it goes on it begins again with the window that Airflow then runs:
    what was skipped meanwhile was skipped on purpose. The first window has `late_after` from the first look on.
    """
    noted = _note(watched, schedule, now)
    if noted is None or not (noted != watched or any(due.ask_at <= now for due in noted.open)):
        return noted, []
    standing = runs.standing(export)
    if standing == "paused":
        return None, []
    kept: list[Due] = []
    late: list[Late] = []
    for due in noted.open:
        if due.ask_at > now:
            kept.append(due)
        elif not runs.delivered(export, due.window):
            late.append(Late(export, due.window, runs.state(export, due.window), standing))
            if now < due.window.end + schedule.late_after + _FORGET_AFTER:
                kept.append(due._replace(ask_at=now + _REMIND_AFTER))
    return replace(noted, open=tuple(kept)), late


def ask_again(watched: Watched, late: list[Late], now: datetime) -> Watched:
    """Asks about these at the next look, since nobody could be told of them."""
    windows = {entry.window: entry for entry in late}
    others = [due for due in watched.open if due.window not in windows]
    return replace(watched, open=(*others, *(Due(window, now) for window in windows)))


def _note(watched: Watched | None, schedule: Schedule, now: datetime) -> Watched | None:
    """With the windows whose runs have become due since."""
    if watched is None:
        first = schedule.first(now)
        return None if first is None else Watched(first, (Due(first, now + schedule.late_after),))
    dues = [Due(window, _expected(window, schedule)) for window in _since(watched.newest, schedule, now)]
    if not dues:
        return watched
    return Watched(dues[-1].window, (*watched.open, *dues)[-_MOST_OPEN:])


def _since(newest: ExportWindow, schedule: Schedule, now: datetime) -> Iterator[ExportWindow]:
    window: ExportWindow | None = newest
    while window is not None and (window := schedule.after(window, now)) is not None:
        yield window


def _expected(window: ExportWindow, schedule: Schedule) -> datetime:
    """`late_after` is reckoned from the window's end, or from when its run begins where that is later than that."""
    wait = schedule.late_after
    return window.end + (wait if wait > schedule.settle else wait + schedule.settle)
