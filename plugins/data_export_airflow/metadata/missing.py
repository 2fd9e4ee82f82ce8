"""Which windows of ended exports were never delivered, from Airflow's own tables."""

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dag_version import DagVersion
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.decoders import decode_timetable
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from data_export.config.models import name_of
from data_export.config.platform import load_platform
from data_export.errors import ConfigError
from data_export.window import ExportWindow
from data_export_airflow.metadata.assets import asset_of, window_in
from data_export_airflow.metadata.receipts import WINDOW, chunked
from data_export_airflow.schedule.windows import ExportSchedule, ExportTimetable, Schedules
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable

_DELIVERED = (
    select(AssetModel.name, WINDOW.label("window"))
    .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
    .where(AssetEvent.source_dag_id.is_not(None))
)

#: Exports whose receipts are in memory at once, and missing windows that are counted of each.
_AT_ONCE, _MOST = 50, 10_000
_UNKNOWN = -1
_ALWAYS = datetime.min.replace(tzinfo=UTC)


class Missing(NamedTuple):
    """Windows of an export that has ended which were never delivered: how many, and from where to where."""

    windows: int
    start: datetime
    end: datetime


class MissingWindows:
    """Remembers timetables, which change with the customer files, and what is missing."""

    def __init__(self) -> None:
        self._timetables: dict[str, ExportTimetable | None] = {}
        #: By dag_id: number of deliveries, version of the DAG, `database_days`; and what is missing with these.
        self._known: dict[str, tuple[tuple[int, str, int | None], Missing | None]] = {}

    def __call__(self, session: Session, dag_ids: Collection[str], now: datetime) -> dict[str, Missing]:
        """Of these exports, which have ended; nothing changes for one with the same deliveries as before."""
        counted, days, hashes = _count(session, dag_ids), _database_days(), _hashes(session, dag_ids)
        states = {dag_id: (counted.get(dag_id, 0), version, days) for dag_id, version in hashes.items()}
        changed = [dag_id for dag_id, state in states.items() if self._known.get(dag_id, (None,))[0] != state]
        schedules = self.schedules(session, changed)
        since = _remembered_since(session, schedules, now, days)
        wanted = [*schedules]
        for begin in range(0, len(wanted), _AT_ONCE):
            for dag_id, delivered in windows_delivered(session, wanted[begin : begin + _AT_ONCE]).items():
                self._known[dag_id] = (states[dag_id], _missing(schedules[dag_id], delivered, since[dag_id], now))
        known = {dag_id: self._known[dag_id][1] for dag_id in dag_ids if dag_id in self._known}
        return {dag_id: found for dag_id, found in known.items() if found is not None}

    def schedules(self, session: Session, dag_ids: Iterable[str]) -> dict[str, ExportSchedule]:
        """Of those that have a schedule."""
        hashes, schedules = _hashes(session, dag_ids), Schedules()
        unknown = {version for version in hashes.values() if version not in self._timetables}
        self._timetables |= _timetables(session, unknown)
        timetables = {dag_id: self._timetables.get(version) for dag_id, version in hashes.items()}
        return {
            dag_id: schedules.of_timetable(timetable, timedelta(0))
            for dag_id, timetable in timetables.items()
            if timetable is not None
        }


def windows_delivered(
    session: Session, dag_ids: Iterable[str], since: datetime | None = None
) -> dict[str, list[ExportWindow]]:
    """By dag_id, all windows and ranges with a receipt, or those whose receipt came since."""
    found: dict[str, list[ExportWindow]] = {dag_id: [] for dag_id in dag_ids}
    names = {asset_of(name_of(dag_id) or "").name: dag_id for dag_id in found}
    statement = _DELIVERED if since is None else _DELIVERED.where(AssetEvent.timestamp >= since)
    for row in chunked(session, statement, AssetModel.name, names):
        if (window := window_in({"window": row.window})) is not None:
            found[names[row.name]].append(window)
    return found


def _missing(
    schedule: ExportSchedule, delivered: Iterable[ExportWindow], since: datetime, now: datetime
) -> Missing | None:
    """The due windows that end since of which their own runs and those of ranges have not delivered all.

    Asked for in the gaps alone: the schedule takes half a millisecond for a window, of which some have 30,000.
    """
    newest, found = schedule.last(now), list[ExportWindow]()
    if newest is None:
        return None
    for start, end in _gaps(delivered, max(since, schedule.start or _ALWAYS), newest.end):
        windows = (window for window in schedule.overlapping(start, end) if not found or found[-1] != window)
        found += islice(windows, _MOST - len(found))
        if len(found) == _MOST:  # there may be more, up to the end
            return Missing(_MOST, found[0].start, newest.end)
    return Missing(len(found), found[0].start, found[-1].end) if found else None


def _gaps(delivered: Iterable[ExportWindow], start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """What of `[start, end)` is in none of the windows, oldest first."""
    for window in sorted(delivered, key=lambda each: each.start):
        if start < min(window.start, end):
            yield start, min(window.start, end)
        start = max(start, window.end)
    if start < end:
        yield start, end


def _database_days() -> int | None:
    """None where nothing is ever removed; `_UNKNOWN` where platform.yaml is broken, of which the runs tell."""
    try:
        return load_platform().maintenance.database_days
    except ConfigError:
        return _UNKNOWN


def _remembered_since(
    session: Session, dag_ids: Collection[str], now: datetime, days: int | None
) -> dict[str, datetime]:
    """From when on a window's receipt must still be there: `clean-database` removes older ones.

    No receipt is older than the end of its window, nor than the first version of its DAG: that of a young export is
    there, however old its windows are. A version that an old run is of stays as long as the run.
    """
    kept = _ALWAYS if days in (None, _UNKNOWN) else now - timedelta(days=days)
    began = select(DagVersion.dag_id, func.min(DagVersion.created_at).label("at")).group_by(DagVersion.dag_id)
    first = {row.dag_id: row.at for row in chunked(session, began, DagVersion.dag_id, dag_ids)}
    return {dag_id: kept if first.get(dag_id, kept) < kept else _ALWAYS for dag_id in dag_ids}


def _count(session: Session, dag_ids: Iterable[str]) -> dict[str, int]:
    """How many deliveries each has had."""
    names = {asset_of(name_of(each) or "").name: each for each in dag_ids}
    counted = (
        select(AssetModel.name, func.count().label("number"))
        .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
        .group_by(AssetModel.name)
    )
    return {names[row.name]: row.number for row in chunked(session, counted, AssetModel.name, names)}


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


def rest(
    start: datetime, end: datetime, of_runs: list[tuple[datetime, datetime]]
) -> Iterator[tuple[datetime, datetime]]:
    """What of a window is in none of these, which come in order of their starts."""
    for begins, ends in of_runs:
        if start < ends and begins < end:
            if start < begins:
                yield start, begins
            start = max(start, ends)
    if start < end:
        yield start, end
