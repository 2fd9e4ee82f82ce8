"""The newest runs of every export, by index look-ups per export instead of a pass over all runs.

"Newest" means by window, not by clock: the end of a backfill of last year changes neither the last run nor the lag.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from airflow.models.asset import AssetEvent
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from sqlalchemy import ColumnElement, Row, func, or_, select, true
from sqlalchemy.orm import Session

from data_export.config.moments import YEARS
from data_export_airflow.metadata.receipts import PREFIX, TOTALS, by_id, chunked, first_event

_ACTIVE = ("queued", "running")
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 100  # exports of one question
#: The types of runs that a person made, by *Trigger* or *Materialize*, or a task: TriggerDagRunOperator's, a repair.
BY_HAND = ("manual", "operator_triggered", "asset_materialization")


class Run(NamedTuple):
    """A run and what it is for: `[start, end)`."""

    id: int
    run_id: str
    state: str
    start_date: datetime | None
    start: datetime
    end: datetime


_RUN = (
    DagRun.id,
    DagRun.run_id,
    DagRun._state.label("state"),
    DagRun.start_date,
    DagRun.data_interval_start.label("start"),
    DagRun.data_interval_end.label("end"),
)


class Newest(NamedTuple):
    """An export, its newest run, and the newest that succeeded."""

    dag: Row[Any]
    last: Run | None
    good: Run | None
    tags: set[str]

    def with_ranges(self, ranges: Iterable[Run]) -> "Newest":
        """With the ranges that were run by hand. What was delivered stays so, whatever failed after it."""
        runs = [run for run in (self.last, self.good, *ranges) if run is not None]
        good = [run for run in runs if run.state == "success"]
        return self._replace(last=max(runs, key=_newness, default=None), good=max(good, key=_newness, default=None))

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
    found = by_id(session, select(*_RUN), DagRun.id, [id_ for dag in dags for id_ in (dag.last, dag.good)])
    runs = {id_: Run._make(row) for id_, row in found.items()}
    return [Newest(dag, runs.get(dag.last), runs.get(dag.good), tags.get(dag.dag_id, set())) for dag in dags]


def ranges_by_hand(session: Session, found: Iterable[Newest], now: datetime) -> dict[str, list[Run]]:
    """By dag_id, what was run by hand that may be newer than the newest run of the schedule.

    A range that is not over is refused by its run, and would be the newest until it is.
    """
    exports = [*found]
    ranges: dict[str, list[Run]] = defaultdict(list)
    # Each by an index: those without a logical date, and those whose date is later than what the schedule delivered.
    ids = (each.dag.dag_id for each in exports)
    undated = chunked(session, _ranges(DagRun.logical_date.is_(None)), DagRun.dag_id, ids)
    for dag_id, run in map(range_of, (*undated, *_dated(session, exports))):
        if run is not None and run.end <= now:
            ranges[dag_id].append(run)
    return ranges


def _dated(session: Session, exports: Sequence[Newest]) -> Iterator[Row[Any]]:
    """Runs by hand with a logical date, which is when they were triggered: no earlier one can be of a newer window."""
    later = [
        (DagRun.dag_id == dag.dag_id) & (DagRun.logical_date > (good.start if good else _FIRST))
        for dag, _, good, _ in exports
        if dag.newest != dag.last or dag.good != dag.last
    ]
    for begin in range(0, len(later), _AT_ONCE):
        yield from session.execute(_ranges(or_(*later[begin : begin + _AT_ONCE])))


def ran_by_hand(
    session: Session, dag_ids: Iterable[str], which: ColumnElement[bool] | None = None
) -> Iterator[tuple[str, Run]]:
    """What was run by hand, by dag_id, as `range_of` tells it."""
    ranges = _ranges(true() if which is None else which)
    for dag_id, run in map(range_of, chunked(session, ranges, DagRun.dag_id, dag_ids)):
        if run is not None:
            yield dag_id, run


def _ranges(which: ColumnElement[bool]) -> Any:
    return select(DagRun.dag_id, *_RUN, DagRun.run_after, DagRun.conf).where(which, DagRun.run_type.in_(BY_HAND))


def range_of(row: Row[Any]) -> tuple[str, Run | None]:
    """Its dag_id, and its range: given by hand, or its data interval; None where it is none, or was not over, and
    the run has failed, or where no zone can show it.

    Without either it is of no length, at `run_after`: the run is for the last complete window of then.
    """
    start, end = row.start, row.end
    if row.conf and (row.conf.get("from") or row.conf.get("to")):
        start, end = (bound(row.conf, key) for key in ("from", "to"))
    elif start is None or end is None or start == end:
        return row.dag_id, Run(row.id, row.run_id, row.state, row.start_date, row.run_after, row.run_after)
    if start is None or end is None or start >= end or start.year not in YEARS:
        return row.dag_id, None
    if was_not_over(row.state, end, row.start_date):
        return row.dag_id, None
    return row.dag_id, Run(row.id, row.run_id, row.state, row.start_date, start, end)


def was_not_over(state: str, end: datetime, began: datetime | None) -> bool:
    """Whether a range has failed because its run refused it, which tells nothing of the windows that it holds.

    A run that is cleared begins anew, and may find the range over.
    """
    return state == "failed" and began is not None and end > began


def bound(conf: dict[str, Any] | None, key: str) -> datetime | None:
    """`from` or `to` of a run by hand; None where it was given something else, or an instant that no zone can show."""
    try:
        value = datetime.fromisoformat((conf or {})[key])
    except (KeyError, TypeError, ValueError):
        return None
    return value if value.tzinfo and value.year in YEARS else None


def _newness(run: Run) -> tuple[datetime, bool, int]:
    return run.end, run.state == "success", run.id


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
    dated = (
        select(DagRun.id)
        .where(DagRun.dag_id == DagModel.dag_id, DagRun.logical_date.is_not(None))
        .order_by(DagRun.logical_date.desc())
        .limit(1)
    )
    newest = dated.where(of_schedule(), DagRun.run_type.not_in(BY_HAND))
    counted = select(func.count()).select_from(DagRun).where(DagRun.dag_id == DagModel.dag_id)
    return select(
        DagModel.dag_id,
        DagModel.is_paused,
        DagModel.timetable_type,
        DagModel.next_dagrun_create_after,
        DagModel.next_dagrun_data_interval_start,
        DagModel.next_dagrun_data_interval_end,
        dated.scalar_subquery().label("newest"),
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
        finished = self._finished  # which another thread may replace meanwhile
        found = {day: finished[day] if day in finished else _read(session, day) for day in days}
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
