"""Receipts of deliveries, which Airflow keeps as events of each export's asset (`tasks.close`)."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import ColumnElement, Row, Select, func, select
from sqlalchemy.orm import Session

from data_export.config.models import name_of
from data_export.config.moments import instant, moment
from data_export.errors import ConfigError
from data_export.pipeline.expected import Delivery as DeliveredBy
from data_export.pipeline.verify import DeliveredFile, files_of
from data_export_airflow.metadata.assets import asset_of, window_in

PREFIX = "data_export__"
#: The sums of a receipt (`Receipt.totals`): a few numbers, where the receipt may list a thousand sites.
TOTALS: ColumnElement[Any] = AssetEvent.extra["totals"]
WINDOW: ColumnElement[Any] = AssetEvent.extra["window"]


#: A run and when it started: a run that was cleared and ran again has another key, and another receipt.
RunKey = tuple[int, datetime | None]
_CHUNK = 2000
_KEPT = 20_000
_READ = 50  # whole receipts at once: one may list a thousand sites


class Delivery(NamedTuple):
    """One asset event, without its sites."""

    event_id: int
    run_id: str
    at: datetime
    window: dict[str, str] | None
    totals: dict[str, int] | None


_DELIVERY = (AssetEvent.source_run_id, AssetEvent.timestamp, WINDOW.label("window"), TOTALS.label("totals"))


def deliveries(session: Session, dag_id: str, since: datetime) -> list[Delivery]:
    """What was delivered since of an export, oldest first, by any DAG."""
    return [Delivery(*row) for row in session.execute(_delivered(dag_id, since)) if row.source_run_id]


def deliveries_of(session: Session, dag_id: str, runs: Sequence[Row[Any]]) -> dict[str, Delivery]:
    """By run_id, what these runs of the export's own DAG delivered, each for the last time.

    That of a run of which only later tasks were cleared is older than the start that Airflow then has.
    """
    since = min((at for run in runs for at in (run.start_date, run.run_after) if at), default=_FIRST)
    own = _delivered(dag_id, since).where(AssetEvent.source_dag_id == dag_id)
    found = chunked(session, own, AssetEvent.source_run_id, (run.run_id for run in runs))
    return {row.source_run_id: Delivery._make(row) for row in found}


def _delivered(dag_id: str, since: datetime) -> Select[Any]:
    return (
        select(AssetEvent.id, *_DELIVERY)
        .where(AssetEvent.asset_id.in_(_assets(dag_id)), AssetEvent.timestamp >= since)
        .order_by(AssetEvent.timestamp)
    )


def planned_end(dag_id: str, run_id: str) -> datetime | None:
    """Where the window that a run froze ends; None where it has no plan."""
    of_run = (XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.task_id == "prepare")
    with create_session() as session:
        plan = session.scalar(select(XComModel.value).where(*of_run, XComModel.key == "plan"))
    window = window_in(plan)  # whoever may edit an XCom may have changed it
    return window.end if window else None


class Receipts:
    """The deliveries of runs, each read once; a receipt never changes."""

    def __init__(self) -> None:
        self._known: dict[RunKey, Delivery | None] = {}

    def __call__(self, session: Session, keys: Iterable[RunKey]) -> dict[RunKey, Delivery | None]:
        known = self._known if len(self._known) < _KEPT else {}
        wanted = list(keys)
        unknown = {key[0]: key for key in wanted if key not in known}
        events = {row.run: row.event for row in chunked(session, _event_of_run(), DagRun.id, unknown)}
        rows = by_id(session, select(AssetEvent.id, *_DELIVERY), AssetEvent.id, events.values())
        found = {id_: rows.get(events.get(id_)) for id_ in unknown}
        known = known | {unknown[id_]: Delivery._make(row) if row else None for id_, row in found.items()}
        self._known = known  # which another thread may replace meanwhile
        return {key: known[key] for key in wanted}


def by_id(session: Session, statement: Any, column: Any, ids: Iterable[int | None]) -> dict[int | None, Row[Any]]:
    """Rows by id. A join instead would make PostgreSQL read the whole table: it cannot know how few the ids are."""
    return {row.id: row for row in chunked(session, statement, column, ids)}


def chunked(session: Session, statement: Any, column: Any, ids: Iterable[Any]) -> Iterator[Row[Any]]:
    """Runs the statement in chunks of ids, skipping None."""
    known = sorted({id_ for id_ in ids if id_ is not None})
    for start in range(0, len(known), _CHUNK):
        yield from session.execute(statement.where(column.in_(known[start : start + _CHUNK])))


def first_of_each(statement: Any, group: Sequence[Any], order: Sequence[Any]) -> Select[Any]:
    """The statement's rows, of each group the first alone: a thousand sites of a run may have failed for one reason."""
    place = func.row_number().over(partition_by=group, order_by=order).label("place")
    ranked = statement.add_columns(place).subquery()
    return select(ranked).where(ranked.c.place == 1)


def _event_of_run() -> Any:
    """The newest event of runs."""
    event = (
        select(AssetEvent.id)
        .where(
            AssetEvent.asset_id == AssetModel.id,
            AssetEvent.source_dag_id == DagRun.dag_id,
            AssetEvent.source_run_id == DagRun.run_id,
            AssetEvent.timestamp >= DagRun.run_after,
        )
        .order_by(AssetEvent.timestamp.desc())
        .limit(1)
    )
    return select(DagRun.id.label("run"), event.scalar_subquery().label("event")).join(
        AssetModel, AssetModel.name == asset_name_of(DagRun.dag_id)
    )


def asset_name_of(dag_id: Any) -> Any:
    """Of the asset whose events are an export's deliveries, in SQL."""
    return asset_of("").name + func.replace(func.substr(dag_id, len(PREFIX) + 1), "_", "-")


def receipt(session: Session, dag_id: str, event_id: int) -> dict[str, Any] | None:
    """The whole receipt; None where the event belongs to another export."""
    statement = select(AssetEvent.extra).where(AssetEvent.id == event_id, AssetEvent.asset_id.in_(_assets(dag_id)))
    return session.scalar(statement)


def receipts(session: Session, event_ids: Iterable[int]) -> dict[int, dict[str, Any]]:
    statement = select(AssetEvent.id, AssetEvent.extra).where(AssetEvent.id.in_(list(event_ids)))
    return {row.id: row.extra for row in session.execute(statement)}


def of_windows(
    session: Session,
    dag_id: str,
    first: datetime,
    last: datetime,
    newest: int | None = None,
    at: datetime | None = None,
) -> Iterator[dict[str, Any]]:
    """The newest receipt of each window that starts in `[first, last)`, oldest window first.

    Args:
        at: only windows that hold this moment.
        newest: leaves out all windows but so many of the last.
    """
    found: dict[tuple[datetime, datetime], int] = {}
    for delivery in deliveries(session, dag_id, first):
        window = window_in({"window": delivery.window})
        if window and first <= window.start < last and (at is None or window.start <= at < window.end):
            found[window.start, window.end] = delivery.event_id
    ordered = [found[bounds] for bounds in sorted(found)][-newest if newest else 0 :]
    for begin in range(0, len(ordered), _READ):
        some = receipts(session, ordered[begin : begin + _READ])
        yield from (some[event_id] for event_id in ordered[begin : begin + _READ])


def newest_first(session: Session, dag_id: str, since: datetime) -> Iterator[DeliveredBy]:
    """Every receipt since a moment, also earlier ones of the same window, with the run that brought it."""
    statement = (
        select(AssetEvent.id)
        .where(AssetEvent.asset_id.in_(_assets(dag_id)), AssetEvent.timestamp >= since)
        .order_by(AssetEvent.timestamp.desc())
    )
    ids = [*session.scalars(statement.where(AssetEvent.source_dag_id.is_not(None)))]
    columns = select(AssetEvent.id, AssetEvent.extra, AssetEvent.source_dag_id, AssetEvent.source_run_id)
    for begin in range(0, len(ids), _READ):
        rows = {row.id: row for row in session.execute(columns.where(AssetEvent.id.in_(ids[begin : begin + _READ])))}
        for row in (rows[id_] for id_ in ids[begin : begin + _READ] if id_ in rows):
            yield DeliveredBy(row.extra or {}, row.source_dag_id or "", row.source_run_id or "")


def _assets(dag_id: str) -> Any:
    """By name, not by the DAG's outlets: the placeholder of a broken file has none, and keeps its history."""
    return select(AssetModel.id).where(AssetModel.name == asset_of(name_of(dag_id) or "").name)


def first_event(session: Session, at: datetime) -> int:
    """The id of the first event at or after `at`; one more than the last where there is none."""
    low, high = session.execute(select(func.min(AssetEvent.id), func.max(AssetEvent.id))).one()
    if low is None:
        return 0
    high += 1
    while low < high:
        middle = (low + high) // 2
        event = session.execute(
            select(AssetEvent.id, AssetEvent.timestamp).where(AssetEvent.id >= middle).order_by(AssetEvent.id).limit(1)
        ).one()
        low, high = (event.id + 1, high) if event.timestamp < at else (low, middle)
    return int(low)


_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_NEWEST = 10


def files_of_windows(
    session: Session, dag_id: str, timezone: str, start: str | None, end: str | None, window: str | None
) -> Iterator[DeliveredFile]:
    """The files of the newest receipt of each window that starts in `[start, end)`, oldest first, read as they go.

    Args:
        timezone: in which a date without one is midnight.
        window: only windows that hold this moment; without it and a range the newest ten.

    Raises:
        ConfigError: a date is none, or the end is not after the start.
    """
    first, last, at = (moment_in(text, timezone) for text in (start, end, window))
    if first and last and last <= first:
        raise ConfigError(f"--to {end} is not after --from {start}: give a later end")
    newest = None if start or end or window else _NEWEST
    found = of_windows(session, dag_id, first or _FIRST, last or _LAST, newest, at)
    return (file for receipt in found for file in files_of(receipt))


def moment_in(text: str | None, timezone: str) -> datetime | None:
    """
    Raises:
        ConfigError: the text is no date.
    """
    try:
        return instant(moment(text), timezone) if text else None
    except ValueError as error:
        raise ConfigError(str(error)) from None
