"""The newest runs of every export, by index look-ups per export instead of a pass over all runs.

"Newest" means by window, not by clock: the end of a backfill of last year changes neither the last run nor the lag.
"""

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from airflow.models.asset import AssetEvent
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from sqlalchemy import ColumnElement, Row, and_, case, func, or_, select
from sqlalchemy.orm import Session

from data_export.lateness import REMIND_FOR
from data_export_airflow.dags.factory import LATE_TAG
from data_export_airflow.metadata.delivered import of_schedule
from data_export_airflow.metadata.late import MOST_SETTLE
from data_export_airflow.metadata.receipts import PREFIX, TOTALS, by_id, first_event

_ACTIVE = ("queued", "running")
_RUN = (
    DagRun.run_id,
    DagRun._state.label("state"),
    DagRun.queued_at,
    DagRun.start_date,
    DagRun.data_interval_start,
    DagRun.data_interval_end,
)
#: Windows up to this long are seen to follow each other by the runs of a few days.
_SHORT = timedelta(hours=36)


class Newest(NamedTuple):
    """Rows of the metadata database; `good` is the newest run that succeeded."""

    dag: Row[Any]
    last: Row[Any] | None
    good: Row[Any] | None
    tags: set[str]
    #: Whether a window before `good` may be late.
    has_gap: bool

    @property
    def runs(self) -> bool:
        """Whether windows of the export become due."""
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
        if good is None or start is None or end is None or self.has_gap or wait > platform or end - start > _SHORT:
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
    dags, horizon = session.execute(_dags()).all(), now - REMIND_FOR - late_after - MOST_SETTLE
    gaps = _gaps(session, horizon)
    runs = by_id(session, select(DagRun.id, *_RUN), DagRun.id, [id_ for dag in dags for id_ in (dag.last, dag.good)])
    found = []
    for dag in dags:
        last, good = runs.get(dag.last), runs.get(dag.good)
        has_gap = dag.dag_id in gaps or good is None or good.data_interval_start < horizon - 2 * _SHORT
        found.append(Newest(dag, last, good, tags.get(dag.dag_id, set()), has_gap))
    return found


def ours(column: Any) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = column.startswith(PREFIX, autoescape=True)
    return condition


def _dags() -> Any:
    """Of each export's runs the newest and the newest good one, found by the index on (dag_id, logical_date)."""
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
    ).where(ours(DagModel.dag_id), DagModel.is_stale.is_(False))


def _gaps(session: Session, horizon: datetime) -> set[str]:
    """Exports of which a window that ended since `horizon` was delivered, but not the one right before it, or none.

    Those too whose run succeeded without a receipt, as one that a person marked as successful.
    """
    begin = horizon - 2 * _SHORT
    events = (
        select(AssetEvent.source_dag_id, AssetEvent.source_run_id)
        .where(AssetEvent.id >= first_event(session, begin), ours(AssetEvent.source_dag_id))
        .distinct()
        .subquery()
    )
    has_receipt = events.c.source_run_id.is_not(None)
    is_delivered = and_(DagRun._state == "success", has_receipt)
    ended = case((is_delivered, DagRun.data_interval_end), else_=DagRun.data_interval_start)
    runs = (
        select(
            DagRun.dag_id,
            DagRun.data_interval_start,
            DagRun.data_interval_end,
            DagRun._state.label("state"),
            has_receipt.label("has_receipt"),
            func.lag(ended).over(partition_by=DagRun.dag_id, order_by=DagRun.logical_date).label("before"),
        )
        .outerjoin(events, and_(events.c.source_dag_id == DagRun.dag_id, events.c.source_run_id == DagRun.run_id))
        # A run comes after its window, so the condition on `run_after` leaves nothing out; it is the one with an index.
        .where(ours(DagRun.dag_id), DagRun.run_after >= begin, DagRun.logical_date >= begin, of_schedule())
        .subquery()
    )
    is_apart = or_(~runs.c.has_receipt, runs.c.before.is_(None), runs.c.before != runs.c.data_interval_start)
    found = select(runs.c.dag_id).where(runs.c.state == "success", runs.c.data_interval_end > horizon, is_apart)
    return set(session.scalars(found.distinct()))


DAYS = 14
KEYS = ("work_orders", "bytes", "images", "image_bytes", "images_missing", "refused_recipients")
Volume = dict[str, list[int]]  # by dag_id: number of deliveries, then one sum per KEYS


class Volumes:
    """Remembers finished days; a day counts as finished two hours after its end, when no transaction of it is open."""

    def __init__(self) -> None:
        self._finished: dict[date, Volume] = {}

    def __call__(self, session: Session, now: datetime) -> dict[date, Volume]:
        """Today and the days before it, oldest first."""
        days = [(now - timedelta(days=back)).date() for back in reversed(range(DAYS))]
        found = {day: self._finished[day] if day in self._finished else _read(session, day) for day in days}
        over = (now - timedelta(hours=2)).date()
        self._finished = {day: volume for day, volume in found.items() if day < over}
        return found


def totals(volume: Volume, readable: set[str]) -> dict[str, int]:
    """The sums over the exports that the user may read."""
    sums = [sum(column) for column in zip(*(volume[dag_id] for dag_id in volume.keys() & readable), strict=True)]
    return dict(zip(("deliveries", *KEYS), sums or [0] * (1 + len(KEYS)), strict=True))


def _read(session: Session, day: date) -> Volume:
    first = first_event(session, datetime.combine(day, time(), UTC))
    last = first_event(session, datetime.combine(day + timedelta(days=1), time(), UTC))
    rows = session.execute(
        select(AssetEvent.source_dag_id, TOTALS).where(
            AssetEvent.id >= first, AssetEvent.id < last, ours(AssetEvent.source_dag_id)
        )
    )
    volume: Volume = defaultdict(lambda: [0] * (1 + len(KEYS)))
    for dag_id, sums in rows:
        for place, number in enumerate((1, *(_number(sums, key) for key in KEYS))):
            volume[dag_id][place] += number
    return dict(volume)


def _number(sums: dict[str, Any] | None, key: str) -> int:
    return int((sums or {}).get(key) or 0)
