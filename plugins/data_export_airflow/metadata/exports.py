"""The newest runs of every export, by index look-ups per export instead of a pass over all runs.

"Newest" means by window, not by clock: the end of a backfill of last year changes neither the last run nor the lag.
"""

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from airflow.models.asset import AssetEvent
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.orm import Session

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


class Newest(NamedTuple):
    """Rows of the metadata database; `good` is the newest run that succeeded."""

    dag: Row[Any]
    last: Row[Any] | None
    good: Row[Any] | None
    tags: set[str]

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


def newest(session: Session) -> list[Newest]:
    """Of every export that has a DAG."""
    tags: dict[str, set[str]] = {}
    for dag_id, tag in session.execute(select(DagTag.dag_id, DagTag.name).where(ours(DagTag.dag_id))):
        tags.setdefault(dag_id, set()).add(tag)
    dags = session.execute(_dags()).all()
    runs = by_id(session, select(DagRun.id, *_RUN), DagRun.id, [id_ for dag in dags for id_ in (dag.last, dag.good)])
    return [Newest(dag, runs.get(dag.last), runs.get(dag.good), tags.get(dag.dag_id, set())) for dag in dags]


def ours(column: Any) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = column.startswith(PREFIX, autoescape=True)
    return condition


def of_schedule() -> ColumnElement[bool]:
    """Whether a run is for its own interval, not for a range given by hand, which says nothing about the schedule."""
    # "Less than any date", since PostgreSQL takes "is null" for so rare that it would sort all runs of an export
    # instead of reading the index from its end.
    condition: ColumnElement[bool] = func.coalesce(DagRun.conf["from"].as_string(), "") < "0"
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
