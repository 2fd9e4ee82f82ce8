"""Finds windows that were not delivered in time, whether their run is slow, stuck, failed, or was never made.

Airflow's own deadlines belong to a run, so they know nothing of a window without one, and backfills set them off. This
looks from the other side: which windows there are, by the export's own schedule, and which of them were delivered.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice, takewhile
from typing import Any, Literal, NamedTuple, Protocol, Self

from data_export.lateness import MOST_OPEN, Due, Schedule, dues, waiting
from data_export.window import ExportWindow

REMIND_AFTER = timedelta(days=1)
#: Late windows that a report names one by one: of an export, and of all together.
_NAMED, _ALL_NAMED = 5, 5_000

Standing = Literal["active", "paused", "missing"]
RunState = Literal["none", "queued", "running", "failed"]


class Runs(Protocol):
    """What Airflow knows. Each question costs a request, so it is asked as seldom as can be."""

    def standing(self, export: str) -> Standing: ...

    def delivered(self, export: str, windows: Collection[ExportWindow]) -> set[ExportWindow]: ...

    def states(self, export: str, windows: Collection[ExportWindow]) -> Mapping[ExportWindow, RunState]: ...


class Open(NamedTuple):
    """A window that is not known to be delivered, and when people are to be alerted about it (again)."""

    due: Due
    remind_at: datetime

    def to_dict(self) -> dict[str, Any]:
        moments = {"by": self.due.by, "until": self.due.until, "remind_at": self.remind_at}
        return self.due.window.to_dict() | {name: at.isoformat() if at else None for name, at in moments.items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        window = ExportWindow.from_dict({"start": value["start"], "end": value["end"]})
        until = datetime.fromisoformat(value["until"]) if value["until"] else None
        remind_at = value["remind_at"] if "remind_at" in value else value["ask_at"]  # as earlier versions wrote it
        return cls(Due(window, datetime.fromisoformat(value["by"]), until), datetime.fromisoformat(remind_at))


class Late(NamedTuple):
    """A window that is not delivered although it should be."""

    export: str
    window: ExportWindow
    run: RunState
    standing: Standing


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of one export: the newest window whose run was due, and those not known to be delivered.

    `began` is when it was first seen, or first seen to go on after a pause. `alerted` are the people who got an alert
    of late windows since the last recovery, None where nobody was reached, and `alerted_on` is the day (UTC) of the
    last one. `owed` are the windows that were late then and are delivered, oldest first, of which these people do not
    know yet.
    """

    began: datetime
    newest: ExportWindow | None = None
    open: tuple[Open, ...] = ()
    alerted: tuple[str, ...] | None = None
    alerted_on: date | None = None
    owed: tuple[ExportWindow, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "began": self.began.isoformat(),
            "newest": self.newest.to_dict() if self.newest else None,
            "open": [each.to_dict() for each in self.open],
            "alerted": self.alerted,
            "alerted_on": self.alerted_on and self.alerted_on.isoformat(),
            "owed": [window.to_dict() for window in self.owed],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        newest = ExportWindow.from_dict(value["newest"]) if value["newest"] else None
        alerted, alerted_on = value.get("alerted"), value.get("alerted_on")  # which earlier versions do not know
        return cls(
            datetime.fromisoformat(value["began"]),
            newest,
            tuple(map(Open.from_dict, value["open"])),
            None if alerted is None else tuple(alerted),
            date.fromisoformat(alerted_on) if alerted_on else None,
            tuple(map(ExportWindow.from_dict, value.get("owed", ()))),
        )


class Look(NamedTuple):
    """What one look at one export found.

    `watched` is what is known afterwards, None of a paused export; `late` has every late window, oldest first; `alerts`
    has those to alert about now, each once a day while it is late, where the export had no such alert this day (UTC).
    """

    watched: Watched | None
    late: tuple[Due, ...] = ()
    alerts: tuple[Late, ...] = ()

    def others(self, export: str, runs: Runs) -> tuple[Late, ...]:
        """The late windows besides those to alert about: people hear once a day, and run again what they then read."""
        due = {entry.window for entry in self.alerts}
        left = [each.window for each in self.late if each.window not in due]
        return _late(export, left, runs, self.alerts[0].standing)

    @property
    def recovered(self) -> tuple[ExportWindow, ...]:
        """What was reported late and is delivered, once that is over: nothing newer is late."""
        owed = self.watched.owed if self.watched else ()
        is_over = owed and (not self.late or owed[-1].start > self.late[-1].window.start)
        return owed if is_over else ()


def look(export: str, watched: Watched | None, schedule: Schedule, runs: Runs, now: datetime) -> Look:
    """One look at one export: every window past its deadline is asked about, all with one request.

    An export that is paused is forgotten, and when it goes on it begins again with the window that Airflow then runs:
    what was skipped meanwhile was skipped on purpose.
    """
    noted = _note(watched or Watched(now), schedule, now)
    overdue = [each.due.window for each in noted.open if each.due.by <= now]
    if noted == watched and not overdue:
        return Look(noted)
    standing = runs.standing(export)
    if standing == "paused":
        return Look(None)
    delivered = runs.delivered(export, overdue) if overdue else set()
    remind_at = {each.due.window: each.remind_at for each in noted.open}
    waits = waiting((each.due for each in reversed(noted.open)), delivered.__contains__, now)
    late = tuple(due for due in waits if due.is_late(now))
    to_alert = [each.window for each in late if remind_at[each.window] <= now and noted.alerted_on != now.date()]
    alerts = _late(export, to_alert, runs, standing)
    remind_at |= {entry.window: now + REMIND_AFTER for entry in alerts}
    kept = tuple(Open(due, remind_at[due.window]) for due in waits)
    owed = {each.due.window for each in noted.open if each.remind_at > each.due.by} & delivered
    known = sorted({*noted.owed, *owed}, key=lambda window: window.start) if noted.alerted is not None else []
    return Look(replace(noted, open=kept, owed=tuple(known[-MOST_OPEN:])), late, alerts)


def _late(export: str, windows: Sequence[ExportWindow], runs: Runs, standing: Standing) -> tuple[Late, ...]:
    states = runs.states(export, windows) if windows else {}
    return tuple(Late(export, window, states[window], standing) for window in windows)


def reminded(watched: Watched, late: Sequence[Late], at: datetime) -> Watched:
    """Alerts about these again at the first look from `at` on."""
    windows = {entry.window for entry in late}
    again = (each._replace(remind_at=at) if each.due.window in windows else each for each in watched.open)
    return replace(watched, open=tuple(again))


@dataclass(frozen=True, slots=True)
class LateSpan:
    """A late window `[start, end)`, or `count` of them together, from the first one's start to the last one's end.

    `by` is the deadline, of several the earliest.
    """

    start: datetime
    end: datetime
    by: datetime
    count: int = 1

    @classmethod
    def of(cls, late: Sequence[Due]) -> Self:
        """All of them together; oldest first, and not empty."""
        return cls(late[0].window.start, late[-1].window.end, min(due.by for due in late), len(late))

    def is_in(self, window: ExportWindow) -> bool:
        return window.start <= self.start and self.end <= window.end


@dataclass(frozen=True, slots=True)
class Report:
    """What one look found late, for those who show it.

    It is small however much is late: of each export the oldest windows are named, and the others are counted together.
    That is at most 120 bytes and a name for each export where thousands are late, and 40 bytes for each window, of five
    at most, where few are.
    """

    at: datetime
    #: When the next look is due.
    next: datetime
    late: Mapping[str, tuple[LateSpan, ...]]
    #: Exports whose windows cannot be found out.
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, at: datetime, following: datetime, late: Mapping[str, Sequence[Due]], unknown: Collection[str]) -> Self:
        named = min(_NAMED, _ALL_NAMED // len(late)) if late else 0
        spans = {name: tuple(_spans(windows, named)) for name, windows in late.items()}
        return cls(at, following, spans, tuple(sorted(unknown)))

    def to_dict(self) -> dict[str, Any]:
        """Moments in seconds since 1970."""
        late = {
            name: [[*(int(at.timestamp()) for at in (span.start, span.end, span.by)), span.count] for span in spans]
            for name, spans in self.late.items()
        }
        at, following = int(self.at.timestamp()), int(self.next.timestamp())
        return {"at": at, "next": following, "windows": late, "unknown": [*self.unknown]}

    @classmethod
    def from_dict(cls, value: Any) -> Self:
        """Raises ValueError: it is something else."""
        try:
            late = {str(name): tuple(_span(*span) for span in spans) for name, spans in value["windows"].items()}
            return cls(_moment(value["at"]), _moment(value["next"]), late, tuple(map(str, value["unknown"])))
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError) as error:
            raise ValueError(f"not a report of the watch: {error!r}") from None


def _spans(late: Sequence[Due], named: int) -> Iterator[LateSpan]:
    for due in late[:named]:
        yield LateSpan.of([due])
    if late[named:]:
        yield LateSpan.of(late[named:])


def _span(start: float, end: float, by: float, count: int) -> LateSpan:
    return LateSpan(_moment(start), _moment(end), _moment(by), int(count))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


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
