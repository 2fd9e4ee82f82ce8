"""The newest runs of every export, by index look-ups per export instead of a pass over all runs.

"Newest" means by window, not by clock: the end of a backfill of last year changes neither the last run nor the lag.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from sqlalchemy import ColumnElement, Row, exists, func, select
from sqlalchemy.orm import Session, aliased

from data_export.lateness import REMIND_FOR
from data_export_airflow.factory import LATE_TAG
from data_export_airflow.page.delivered import of_schedule
from data_export_airflow.page.late import MOST_SETTLE
from data_export_airflow.page.receipts import PREFIX, by_id

_ACTIVE = ("queued", "running")
_RUN = (
    DagRun.run_id,
    DagRun._state.label("state"),
    DagRun.queued_at,
    DagRun.start_date,
    DagRun.data_interval_start,
    DagRun.data_interval_end,
)
#: The length of windows of which a few days hold a few.
_SHORT = timedelta(days=3)


class Newest(NamedTuple):
    """Rows of the metadata database; `good` is the newest run that succeeded."""

    dag: Row[Any]
    last: Row[Any] | None
    good: Row[Any] | None
    tags: set[str]

    @property
    def runs(self) -> bool:
        """Whether windows of it become due."""
        return not self.dag.is_paused and not self.dag.timetable_type.endswith("NullTimetable")

    @property
    def is_once(self) -> bool:
        return bool(self.dag.timetable_type.endswith("OnceWindowTimetable"))

    @property
    def has_ended(self) -> bool:
        """Whether the schedule has no window left: `end_date` has passed."""
        return self.dag.next_dagrun_data_interval_start is None and self.dag.timetable_type.endswith(
            "SettledCronTimetable"
        )

    @property
    def own_late_after(self) -> timedelta | None:
        """What the customer file says, None where it says nothing."""
        own = next((tag.removeprefix(LATE_TAG) for tag in self.tags if tag.startswith(LATE_TAG)), None)
        return timedelta(hours=float(own)) if own else None

    def may_be_late(self, platform: timedelta, now: datetime) -> bool:
        """False where the newest runs show that nothing is late, as those of most exports do, without further queries.

        Airflow's next window begins where the last one ended for which it made a run.
        """
        dag, last, good = self.dag, self.last, self.good
        wait = self.own_late_after or platform
        if not self.runs or (self.is_once and good is not None):
            return False
        start, end = dag.next_dagrun_data_interval_start, dag.next_dagrun_data_interval_end
        if good is None or start is None or end is None or dag.gap or wait > platform or end - start > _SHORT:
            return True
        if good.data_interval_end == start:  # all that had a run is delivered
            return bool(end + wait <= now)
        is_next = (
            last is not None and last.data_interval_start == good.data_interval_end and last.data_interval_end == start
        )
        return not (is_next and last is not None and last.data_interval_end + wait > now)


def newest(session: Session, late_after: timedelta, now: datetime) -> list[Newest]:
    """Of every export that has a DAG.

    Args:
        late_after: of exports whose file says none.
    """
    tags: dict[str, set[str]] = {}
    for dag_id, tag in session.execute(select(DagTag.dag_id, DagTag.name).where(ours(DagTag.dag_id))):
        tags.setdefault(dag_id, set()).add(tag)
    dags = session.execute(_dags(now - REMIND_FOR - late_after - MOST_SETTLE)).all()
    runs = by_id(session, select(DagRun.id, *_RUN), DagRun.id, [id_ for dag in dags for id_ in (dag.last, dag.good)])
    return [Newest(dag, runs.get(dag.last), runs.get(dag.good), tags.get(dag.dag_id, set())) for dag in dags]


def ours(column: Any) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = column.startswith(PREFIX, autoescape=True)
    return condition


def _dags(horizon: datetime) -> Any:
    """Of each export's runs the newest and the newest good one, found by the index on (dag_id, logical_date).

    `gap` tells whether a window that ended since `horizon` was delivered, but not the one right before it.
    """
    newest = (
        select(DagRun.id)
        .where(DagRun.dag_id == DagModel.dag_id, DagRun.logical_date.is_not(None), of_schedule())
        .order_by(DagRun.logical_date.desc())
        .limit(1)
    )
    counted = select(func.count()).select_from(DagRun).where(DagRun.dag_id == DagModel.dag_id)
    return select(
        DagModel.dag_id,
        DagModel.is_paused,
        DagModel.timetable_type,
        DagModel.next_dagrun_create_after,
        DagModel.next_dagrun_data_interval_start,
        DagModel.next_dagrun_data_interval_end,
        newest.scalar_subquery().label("last"),
        newest.where(DagRun._state == "success").scalar_subquery().label("good"),
        counted.where(DagRun._state == "failed").scalar_subquery().label("failed"),
        counted.where(DagRun._state.in_(_ACTIVE)).scalar_subquery().label("active"),
        _gap(horizon).label("gap"),
    ).where(ours(DagModel.dag_id), DagModel.is_stale.is_(False))


def _gap(horizon: datetime) -> ColumnElement[bool]:
    """Of windows up to `_SHORT` long."""
    run, before = aliased(DagRun), aliased(DagRun)
    ended = (
        select(before.data_interval_end)
        .where(
            before.dag_id == run.dag_id,
            before.logical_date < run.logical_date,
            before._state == "success",
            of_schedule(before),
        )
        .order_by(before.logical_date.desc())
        .limit(1)
        .scalar_subquery()
    )
    return exists(
        select(run.id).where(
            run.dag_id == DagModel.dag_id,
            run.logical_date >= horizon - _SHORT,
            run.data_interval_end > horizon,
            run._state == "success",
            of_schedule(run),
            ended != run.data_interval_start,
        )
    )
