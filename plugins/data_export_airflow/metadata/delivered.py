"""What was delivered of some exports, by their receipts, in a few queries whatever number of exports is asked about."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from sqlalchemy import ColumnElement, false, func, select
from sqlalchemy.orm import Session

from data_export.config.models import name_of
from data_export.window import ExportWindow
from data_export_airflow.metadata.assets import asset_of
from data_export_airflow.metadata.receipts import WINDOW, asset_name_of, chunked

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_ALIKE = timedelta(days=7)


@dataclass(slots=True)
class Delivered:
    """Of one export, as the watch asks it (`TaskRuns`): receipts decide, not the runs that have succeeded."""

    #: By the start of what was delivered its end, the latest of several.
    ends: dict[datetime, datetime] = field(default_factory=dict)
    #: The starts of windows whose run has failed.
    failed: set[datetime] = field(default_factory=set)

    def add(self, window: ExportWindow) -> None:
        self.ends[window.start] = max(window.end, self.ends.get(window.start, window.end))

    def __call__(self, window: ExportWindow) -> bool:
        """By its own run, or by a run of any range that holds it, which a person may have started."""
        own = self.ends.get(window.start)
        return (own is not None and own >= window.end) or any(
            start <= window.start and window.end <= end for start, end in self.ends.items()
        )


def delivered(session: Session, dag_ids: Iterable[str], until: datetime | None) -> dict[str, Delivered]:
    """By dag_id; of each export from its newest window that was delivered and ended by `until` on, if there is one."""
    found = {each: Delivered() for each in dag_ids}
    for since, some in _alike(session, found, until):
        names = {asset_of(name_of(each) or "").name: each for each in some}
        for row in chunked(session, _events(since), AssetModel.name, names):
            if row.window:
                found[names[row.name]].add(ExportWindow.from_dict(row.window))
        for row in chunked(session, _failed(since), DagRun.dag_id, some):
            found[row.dag_id].failed.add(row.data_interval_start)
    return found


def deliveries(session: Session, dag_ids: Iterable[str]) -> dict[str, int]:
    """How many deliveries each has had."""
    names = {asset_of(name_of(each) or "").name: each for each in dag_ids}
    counted = (
        select(AssetModel.name, func.count().label("number"))
        .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
        .group_by(AssetModel.name)
    )
    return {names[row.name]: row.number for row in chunked(session, counted, AssetModel.name, names)}


def of_schedule() -> ColumnElement[bool]:
    """Whether a run is for its own interval, not for a range given by hand, which says nothing about the schedule."""
    # "Less than any date", since PostgreSQL takes "is null" for so rare that it would sort all runs of an export
    # instead of reading the index from its end.
    condition: ColumnElement[bool] = func.coalesce(DagRun.conf["from"].as_string(), "") < "0"
    return condition


def _alike(session: Session, dag_ids: Iterable[str], until: datetime | None) -> Iterator[tuple[datetime, list[str]]]:
    """Exports that are to be read from about the same moment on, so that one that is dead for a year costs its own."""
    # Not `exists`, which PostgreSQL joins: it would read every delivery that the export ever had.
    event = (
        select(AssetEvent.id)
        .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        .where(
            AssetModel.name == asset_name_of(DagRun.dag_id),
            AssetEvent.timestamp >= DagRun.run_after,
            AssetEvent.source_run_id == DagRun.run_id,
        )
        .limit(1)
        .correlate(DagRun)
        .scalar_subquery()
    )
    newest = (
        select(DagRun.logical_date)
        .where(
            DagRun.dag_id == DagModel.dag_id,
            DagRun.logical_date.is_not(None),
            DagRun._state == "success",
            DagRun.data_interval_end <= until if until is not None else false(),
            of_schedule(),
            event.is_not(None),
        )
        .order_by(DagRun.logical_date.desc())
        .limit(1)
    )
    statement = select(DagModel.dag_id, newest.scalar_subquery().label("since"))
    groups: list[tuple[datetime, list[str]]] = []
    rows = chunked(session, statement, DagModel.dag_id, dag_ids)
    for since, each in sorted((row.since or _EVER, row.dag_id) for row in rows):
        if not groups or since - groups[-1][0] > _ALIKE:
            groups.append((since, []))
        groups[-1][1].append(each)
    yield from groups


def _events(since: datetime) -> Any:
    """A window is delivered after it began."""
    return (
        select(AssetModel.name, WINDOW.label("window"))
        .join(AssetEvent, AssetEvent.asset_id == AssetModel.id)
        .where(AssetEvent.timestamp >= since)
    )


def _failed(since: datetime) -> Any:
    return select(DagRun.dag_id, DagRun.data_interval_start).where(
        DagRun._state == "failed", DagRun.logical_date >= since, DagRun.data_interval_start.is_not(None), of_schedule()
    )
