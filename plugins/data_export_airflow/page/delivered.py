"""What became of the windows of some exports, in a few queries whatever number of exports is asked about."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from sqlalchemy import ColumnElement, and_, case, exists, false, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from data_export.window import ExportWindow
from data_export_airflow.page.receipts import Receipts, asset_name_of

_MANUAL = "manual"
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Delivered:
    """Of one export: windows that were delivered, and the runs of others."""

    starts: set[datetime] = field(default_factory=set)
    ranges: list[tuple[datetime, datetime]] = field(default_factory=list)
    #: By the start of windows that were not delivered: failed, running or queued.
    runs: dict[datetime, str] = field(default_factory=dict)

    def __call__(self, window: ExportWindow) -> bool:
        """By its own run, or by a run of any range that holds it, which a person may have started."""
        return window.start in self.starts or any(
            start <= window.start and window.end <= end for start, end in self.ranges
        )


def delivered(session: Session, dag_ids: Iterable[str], until: datetime | None) -> dict[str, Delivered]:
    """By dag_id; of each export from its newest window that was delivered and ended by `until` on, if there is one."""
    found = {dag_id: Delivered() for dag_id in dag_ids}
    since = _since(found, until)
    for row in session.execute(_runs(since)):
        export = found[row.dag_id]
        if row.is_delivered:
            export.starts.add(row.data_interval_start)
            export.ranges.append((row.data_interval_start, row.data_interval_end))
        else:
            export.runs[row.data_interval_start] = row.state
    by_hand = {(row.id, row.start_date): row.dag_id for row in session.execute(_by_hand(since))}
    for key, delivery in Receipts()(session, by_hand).items():
        if delivery is not None and delivery.window:
            window = ExportWindow.from_dict(delivery.window)
            found[by_hand[key]].ranges.append((window.start, window.end))
    return found


def of_schedule(run: Any = DagRun) -> ColumnElement[bool]:
    """Whether a run is for its own interval, not for a range given by hand, which tells nothing of the schedule."""
    # "Less than any date", since PostgreSQL takes "is null" for so rare that it would sort all runs of an export
    # instead of reading the index from its end.
    condition: ColumnElement[bool] = func.coalesce(run.conf["from"].as_string(), "") < "0"
    return condition


def _since(dag_ids: Collection[str], until: datetime | None) -> Any:
    """Where to begin with each export; null: with its first run."""
    run = aliased(DagRun)
    newest = (
        select(run.logical_date)
        .where(
            run.dag_id == DagModel.dag_id,
            run.logical_date.is_not(None),
            run._state == "success",
            run.data_interval_end <= until if until is not None else false(),
            of_schedule(run),
        )
        .order_by(run.logical_date.desc())
        .limit(1)
    )
    # The offset keeps PostgreSQL from asking for it once for every run instead of once for every export.
    return (
        select(DagModel.dag_id, newest.scalar_subquery().label("since"))
        .where(DagModel.dag_id.in_(sorted(dag_ids)))
        .offset(0)
        .subquery()
    )


def _runs(since: Any) -> Any:
    """Runs of the schedule; one that was delivered and then cleared counts as delivered while it runs again."""
    event = exists(
        select(AssetEvent.id)
        .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        .where(
            AssetModel.name == asset_name_of(DagRun.dag_id),
            AssetEvent.timestamp >= DagRun.run_after,
            AssetEvent.source_run_id == DagRun.run_id,
        )
        .correlate(DagRun)
    )
    return (
        select(
            DagRun.dag_id,
            DagRun.data_interval_start,
            DagRun.data_interval_end,
            DagRun._state.label("state"),
            case((DagRun._state == "success", true()), else_=event).label("is_delivered"),
        )
        .join(since, and_(since.c.dag_id == DagRun.dag_id, DagRun.logical_date >= func.coalesce(since.c.since, _EVER)))
        .where(DagRun.data_interval_start.is_not(None), of_schedule())
        .order_by(DagRun.dag_id, DagRun.logical_date)
    )


def _by_hand(since: Any) -> Any:
    """Runs of ranges, and of windows that only their receipts tell, since they have no logical date."""
    return (
        select(DagRun.id, DagRun.dag_id, DagRun.start_date)
        .join(since, since.c.dag_id == DagRun.dag_id)
        .where(
            DagRun.run_type == _MANUAL,
            DagRun._state == "success",
            or_(DagRun.logical_date.is_(None), ~of_schedule()),
            DagRun.run_after >= func.coalesce(since.c.since, _EVER),
        )
    )
