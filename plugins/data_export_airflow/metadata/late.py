"""Which exports are late, and what those lack that have ended: by the core's rule, from Airflow's own tables."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.decoders import decode_timetable
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from data_export.lateness import REMIND_FOR, Due, dues, late
from data_export_airflow.metadata.delivered import Delivered, delivered, deliveries
from data_export_airflow.metadata.receipts import chunked
from data_export_airflow.metadata.windows import MAX_WINDOWS
from data_export_airflow.schedule.windows import ExportSchedule, ExportTimetable, Schedules
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable

#: What Airflow's audit log calls it when a DAG is switched on or off: in the UI and by REST, and on the command line.
_SWITCHED = ("patch_dag", "cli_dag_unpause")
#: `settle_minutes` is at most this.
MOST_SETTLE = timedelta(days=1)


class Lateness(NamedTuple):
    """What is late of one export: since when, how many windows, and whether all of them have a failed run."""

    since: datetime
    windows: int
    failed: bool


class Lack(NamedTuple):
    """Windows of an export that has ended which were never delivered: how many, and from where to where."""

    windows: int
    start: datetime
    end: datetime


class LateExports:
    """Remembers timetables, which change with the customer files, and exports that are over."""

    def __init__(self) -> None:
        self._timetables: dict[str, ExportTimetable | None] = {}
        #: By dag_id: number of deliveries and version of the DAG, and what it lacks with these.
        self._ended: dict[str, tuple[tuple[int, str], Lack | None]] = {}

    def late(self, session: Session, late_after: Mapping[str, timedelta], now: datetime) -> dict[str, Lateness]:
        """Those that are late of some exports that run, each with its `late_after`."""
        schedules = self._schedules(session, late_after)
        began = _began(session, schedules)
        found: dict[str, Lateness] = {}
        for wait in set(late_after.values()):
            own = [dag_id for dag_id in schedules if late_after[dag_id] == wait]
            horizon = now - REMIND_FOR - wait - MOST_SETTLE  # what was delivered and due before ends the looking back
            for dag_id, known in delivered(session, own, horizon).items():
                waiting = late(dues(schedules[dag_id], now, _relevant(began.get(dag_id), known, horizon)), known, now)
                if waiting:
                    found[dag_id] = _lateness(waiting, known)
        return found

    def lacks(self, session: Session, dag_ids: Collection[str], now: datetime) -> dict[str, Lack]:
        """What exports lack that have ended; whoever has the same deliveries as before lacks the same as before."""
        counted = deliveries(session, dag_ids)
        states = {dag_id: (counted.get(dag_id, 0), version) for dag_id, version in _hashes(session, dag_ids).items()}
        changed = [dag_id for dag_id, state in states.items() if self._ended.get(dag_id, (None,))[0] != state]
        schedules = self._schedules(session, dict.fromkeys(changed, timedelta(0)))
        for dag_id, known_windows in delivered(session, schedules, None).items():
            windows = (due.window for due in islice(dues(schedules[dag_id], now), MAX_WINDOWS))
            missing = [window for window in windows if not known_windows(window)]
            lack = Lack(len(missing), missing[-1].start, missing[0].end) if missing else None
            self._ended[dag_id] = (states[dag_id], lack)
        found = {dag_id: self._ended[dag_id][1] for dag_id in dag_ids if dag_id in self._ended}
        return {dag_id: lack for dag_id, lack in found.items() if lack is not None}

    def _schedules(self, session: Session, late_after: Mapping[str, timedelta]) -> dict[str, ExportSchedule]:
        """Of those that have a schedule."""
        hashes, schedules = _hashes(session, late_after), Schedules()
        unknown = {version for version in hashes.values() if version not in self._timetables}
        self._timetables |= _timetables(session, unknown)
        timetables = {dag_id: self._timetables.get(version) for dag_id, version in hashes.items()}
        return {
            dag_id: schedules.of_timetable(timetable, late_after[dag_id])
            for dag_id, timetable in timetables.items()
            if timetable is not None
        }


def _lateness(waiting: list[Due], known: Delivered) -> Lateness:
    failed = all(due.window.start in known.failed for due in waiting)
    return Lateness(min(due.by for due in waiting), len(waiting), failed)


def _relevant(began: datetime | None, known: Delivered, horizon: datetime) -> datetime | None:
    """None where looking back ends later than the export began, which spares the question what it ran first."""
    start, end = min(known.ends.items(), default=(horizon, horizon + REMIND_FOR))
    return None if began is None or (end <= horizon and began < start) else began


def _began(session: Session, dag_ids: Iterable[str]) -> dict[str, datetime]:
    """When each was last switched on or, if that is later, first had a run of its schedule, or else was first seen."""
    own = sorted(dag_ids)
    first = (
        select(DagRun.queued_at)
        .where(DagRun.dag_id == DagModel.dag_id, DagRun.run_type == "scheduled", DagRun.logical_date.is_not(None))
        .order_by(DagRun.logical_date)
        .limit(1)
    )
    seen = select(DagVersion.dag_id, func.min(DagVersion.created_at).label("at")).group_by(DagVersion.dag_id)
    ran = select(DagModel.dag_id, first.scalar_subquery().label("at"))
    switched = select(Log.dag_id, func.max(Log.dttm).label("at")).where(Log.event.in_(_SWITCHED)).group_by(Log.dag_id)
    found = {row.dag_id: row.at for row in chunked(session, seen, DagVersion.dag_id, own)}
    found |= {row.dag_id: row.at for row in chunked(session, ran, DagModel.dag_id, own) if row.at is not None}
    for row in chunked(session, switched, Log.dag_id, own):
        found[row.dag_id] = max(row.at, found.get(row.dag_id, row.at))
    return found


def _hashes(session: Session, dag_ids: Iterable[str]) -> dict[str, str]:
    """Of the newest version of each DAG; a version that nothing has run of is changed in place."""
    newest = (
        select(func.max(DagVersion.version_number))
        .where(DagVersion.dag_id == SerializedDagModel.dag_id)
        .correlate(SerializedDagModel)
        .scalar_subquery()
    )
    statement = (
        select(SerializedDagModel.dag_id, SerializedDagModel.dag_hash)
        .join(DagVersion, DagVersion.id == SerializedDagModel.dag_version_id)
        .where(DagVersion.version_number == newest)
    )
    return {row.dag_id: row.dag_hash for row in chunked(session, statement, SerializedDagModel.dag_id, dag_ids)}


def _timetables(session: Session, hashes: Iterable[str]) -> dict[str, ExportTimetable | None]:
    """By hash; None for a DAG without a schedule. A few hundred bytes are read of a DAG, which has thousands."""
    statement = select(SerializedDagModel.dag_hash, SerializedDagModel._data["dag"]["timetable"].label("timetable"))
    found: dict[str, ExportTimetable | None] = {}
    for row in chunked(session, statement, SerializedDagModel.dag_hash, hashes):
        if row.dag_hash not in found:
            found[row.dag_hash] = _decoded(row.timetable or _compressed(session, row.dag_hash))
    return found


def _compressed(session: Session, dag_hash: str) -> dict[str, Any]:
    """Where `[core] compress_serialized_dags` is on no part of a DAG can be read alone."""
    statement = select(SerializedDagModel).where(SerializedDagModel.dag_hash == dag_hash).limit(1)
    data: Any = session.scalars(statement).one().data
    encoded: dict[str, Any] = data["dag"]["timetable"]
    return encoded


def _decoded(encoded: dict[str, Any]) -> ExportTimetable | None:
    timetable = decode_timetable(encoded)
    return timetable if isinstance(timetable, SettledCronTimetable | OnceWindowTimetable) else None
