"""Finds windows that were not delivered in time, whether their run is slow, stuck, failed, or was never made.

Airflow's own deadlines belong to a run, so they know nothing of a window without one, and backfills set them off. This
looks from the other side: which windows there are, by the export's own schedule, and which of them were delivered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any, Literal, NamedTuple, Protocol, Self

from data_export.lateness import MOST_OPEN, Due, Schedule, dues, waiting
from data_export.window import ExportWindow

_REMIND_AFTER = timedelta(days=1)

Standing = Literal["active", "paused", "missing"]
RunState = Literal["none", "queued", "running", "failed"]


class Runs(Protocol):
    """What Airflow knows. Each question costs a request, so it is asked as seldom as can be."""

    def standing(self, export: str) -> Standing: ...

    def delivered(self, export: str, window: ExportWindow) -> bool: ...

    def state(self, export: str, window: ExportWindow) -> RunState: ...


class Open(NamedTuple):
    """A window that is not known to be delivered, and when it is to be asked about (again)."""

    due: Due
    ask_at: datetime

    def to_dict(self) -> dict[str, Any]:
        moments = {"by": self.due.by, "until": self.due.until, "ask_at": self.ask_at}
        return self.due.window.to_dict() | {name: at.isoformat() if at else None for name, at in moments.items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        window = ExportWindow.from_dict({"start": value["start"], "end": value["end"]})
        until = datetime.fromisoformat(value["until"]) if value["until"] else None
        return cls(Due(window, datetime.fromisoformat(value["by"]), until), datetime.fromisoformat(value["ask_at"]))


class Late(NamedTuple):
    """A window that is not delivered although it should be."""

    export: str
    window: ExportWindow
    run: RunState
    standing: Standing


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of one export: the newest window whose run was due, and those not known to be delivered.

    `began` is when it was first seen, or first seen to go on after a pause.
    """

    began: datetime
    newest: ExportWindow | None = None
    open: tuple[Open, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "began": self.began.isoformat(),
            "newest": self.newest.to_dict() if self.newest else None,
            "open": [each.to_dict() for each in self.open],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        newest = ExportWindow.from_dict(value["newest"]) if value["newest"] else None
        return cls(datetime.fromisoformat(value["began"]), newest, tuple(map(Open.from_dict, value["open"])))


def look(
    export: str, watched: Watched | None, schedule: Schedule, runs: Runs, now: datetime
) -> tuple[Watched | None, list[Late]]:
    """One look at one export: what is known afterwards, and the windows to alert about now, each once a day while late.

    An export that is paused is forgotten, and when it goes on it begins again with the window that Airflow then runs:
    what was skipped meanwhile was skipped on purpose.
    """
    noted = _note(watched or Watched(now), schedule, now)
    if noted == watched and not any(each.ask_at <= now for each in noted.open):
        return noted, []
    standing = runs.standing(export)
    if standing == "paused":
        return None, []
    asked = {each.due.window for each in noted.open if each.ask_at <= now}
    delivered = {window for window in asked if runs.delivered(export, window)}
    ask_at = {each.due.window: each.ask_at for each in noted.open}
    kept: list[Open] = []
    late: list[Late] = []
    for due in waiting((each.due for each in reversed(noted.open)), delivered.__contains__, now):
        is_asked = due.window in asked
        kept.append(Open(due, now + _REMIND_AFTER if is_asked else ask_at[due.window]))
        if is_asked:
            late.append(Late(export, due.window, runs.state(export, due.window), standing))
    return replace(noted, open=tuple(kept)), late


def ask_again(watched: Watched, late: list[Late], now: datetime) -> Watched:
    """Asks about these at the next look, since the alert reached nobody."""
    windows = {entry.window for entry in late}
    again = (each._replace(ask_at=now) if each.due.window in windows else each for each in watched.open)
    return replace(watched, open=tuple(again))


def _note(watched: Watched, schedule: Schedule, now: datetime) -> Watched:
    """With the windows whose runs have become due since."""
    newest = watched.newest
    if newest is None:
        found = list(islice(dues(schedule, now, watched.began), MOST_OPEN))
    else:
        found = list(islice(takewhile(lambda due: due.window.end > newest.end, dues(schedule, now)), MOST_OPEN))
    if not found:
        return watched
    opened = (Open(due, due.by) for due in reversed(found))
    return replace(watched, newest=found[0].window, open=(*watched.open, *opened)[-MOST_OPEN:])
