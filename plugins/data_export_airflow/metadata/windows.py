"""The windows of one export, due or not, each with what became of it."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from sqlalchemy import Row, Select, func, or_, select
from sqlalchemy.orm import Session

from data_export.config.moments import YEARS
from data_export.window import held_by
from data_export_airflow.metadata.exports import BY_HAND, bound, ran_by_hand, was_not_over
from data_export_airflow.metadata.missing import rest
from data_export_airflow.metadata.receipts import Delivery, deliveries_of
from data_export_airflow.schedule.windows import latest_bounds, latest_length, starting_in

MAX_WINDOWS, _SAMPLE = 10_000, 10
_ABOUT = re.compile(r"^- \*\*([\w ]+)\*\*: (?!\[)(.+)$", re.MULTILINE)
_UNFINISHED = {"failed": "failed", "running": "running", "queued": "queued"}
_RUNS = (
    DagRun.run_id,
    DagRun._state.label("state"),
    DagRun.start_date,
    DagRun.end_date,
    DagRun.data_interval_start,
    DagRun.data_interval_end,
    DagRun.run_after,
    DagRun.conf,
)


@dataclass(frozen=True, slots=True)
class WindowRow:
    """One window `[start, end)`, UTC, and the newest run that is for it.

    `state` is delivered, empty (delivered, without a work order), unproven (its run succeeded, and no receipt says that
    it delivered: somebody marked it, or the receipt was removed), failed, running, queued, missing (due and never run),
    past (due before the export's first run), open (not due yet) or rest: the part of a due window that is in no run.
    One begins with that window and ends before it, made when `interval` or `end_date` were others, and Airflow makes no
    second one of that logical date: no backfill delivers the rest, a run by hand with its bounds does.

    `by_hand` is the range of a run by hand that holds the window: its one file is of the whole range, and `totals` are
    None unless range and window are the same.
    """

    start: datetime
    end: datetime
    state: str
    run_id: str | None = None
    seconds: float | None = None
    delivered_at: datetime | None = None
    event_id: int | None = None
    totals: dict[str, int] | None = None
    by_hand: tuple[datetime, datetime] | None = None
    #: When its run was to begin, and when it did for the last time.
    run_after: datetime | None = None
    began: datetime | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When an export's windows are, from its serialised DAG."""

    timezone: ZoneInfo
    start: datetime | None
    end: datetime | None
    settle: timedelta
    periodic: bool
    #: Most runs at once, the limit of that name.
    max_active_runs: int
    timetable: Any
    #: Label and text of what the DAG says of its export: target, owner, customer file, configuration.
    about: tuple[tuple[str, str], ...] = ()

    def length(self, now: datetime) -> timedelta:
        """Of the last complete window that neither start nor end cuts; zero where the export has no schedule."""
        uncut = copy(self.timetable)
        if self.periodic:
            uncut.start = uncut.end = None
        return latest_length(uncut, now)

    def windows(self, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The windows of the schedule that start in `[first, last)` and in the export's own time, oldest first."""
        first = max(first, self.start) if self.start else first
        last = min(last, self.end) if self.end else last
        for window in starting_in(self.timetable, first, last):
            yield window.start, window.end


def schedule(session: Session, dag_id: str) -> Schedule | None:
    """None where Airflow knows no such DAG (any more)."""
    found = SerializedDagModel.get(dag_id, session=session)
    if found is None:
        return None
    dag: Any = found.dag
    zone = dag.timezone if dag.start_date else None  # a broken file's DAG has neither
    return Schedule(
        timezone=ZoneInfo(getattr(zone, "name", "UTC")),
        start=dag.start_date if dag.timetable.can_be_scheduled else _begin(session, dag_id, dag.start_date),
        end=getattr(dag.timetable, "end", None),
        settle=getattr(dag.timetable, "settle", timedelta(0)),
        periodic=dag.timetable.periodic,
        max_active_runs=dag.max_active_runs,
        timetable=dag.timetable,
        about=tuple(_ABOUT.findall(dag.doc_md or "")),
    )


def _begin(session: Session, dag_id: str, start: datetime | None) -> datetime | None:
    """Of an export without a schedule: of the first that it ever ran, also by hand, or its `start_date`."""
    ranges = (run.start for _, run in ran_by_hand(session, [dag_id]))
    return min((at for at in (start, _first_run(session, dag_id), *ranges) if at), default=None)


def _first_run(session: Session, dag_id: str) -> datetime | None:
    """The start of the first window that the schedule, or a backfill, has run."""
    of_schedule = (DagRun.dag_id == dag_id, DagRun.run_type.not_in(BY_HAND))
    return session.scalar(select(func.min(DagRun.data_interval_start)).where(*of_schedule))


def usual_length(session: Session, dag_id: str) -> timedelta:
    """Of the windows of an export that has no schedule any more; a day where it had none."""
    bounds = select(DagRun.data_interval_start, DagRun.data_interval_end).order_by(DagRun.logical_date.desc())
    of_schedule = (DagRun.dag_id == dag_id, DagRun.run_type.not_in(BY_HAND), DagRun.logical_date.is_not(None))
    last = session.execute(bounds.where(*of_schedule).limit(3))  # of which `end_date` may have cut one
    return max((end - start for start, end in last if start and end), default=timedelta()) or timedelta(days=1)


def windows(
    session: Session,
    dag_id: str,
    plan: Schedule,
    first: datetime,
    last: datetime,
    now: datetime,
    with_receipts: bool = True,
) -> tuple[list[WindowRow], list[WindowRow]]:
    """The windows that start in `[first, last)`, due and delivered, and apart the ranges that were run by hand.

    Without receipts one that was delivered empty is "delivered" too, and one that is unproven.
    """
    runs = session.execute(_runs(dag_id, first, last)).all()
    receipts = deliveries_of(session, dag_id, runs) if with_receipts else {}
    found: dict[tuple[datetime, datetime], WindowRow] = {}
    by_hand: list[WindowRow] = []
    settled: list[tuple[datetime, datetime]] = []
    for run in runs:
        row, is_range = _of_run(run, receipts.get(run.run_id), plan.timetable)
        if row is None:
            continue
        if with_receipts and row.state == "delivered" and row.event_id is None:
            row = replace(row, state="unproven")
        if not is_range and _settled(row):
            settled.append((row.start, row.end))
        if not is_range and first <= row.start < last:
            found[row.start, row.end] = _prevailing(found.get((row.start, row.end)), row)
        elif is_range and ((row.start < last and first < row.end) or first <= run.run_after < last):
            by_hand.append(row)
    first_run = _first_run(session, dag_id)
    begun, held = {start for start, _ in found}, held_by(settled)
    of_runs = sorted([*found, *((row.start, row.end) for row in by_hand if row.state != "failed")])
    for start, end in islice(plan.windows(first, min(last, now)), MAX_WINDOWS):
        state = _without_run(start, end + plan.settle, first_run, now)
        own = found.get((start, end))
        if own is None and held(start, end):
            continue  # delivered in a longer one, when `interval` was another
        if own is None and start in begun:
            found |= {bounds: WindowRow(*bounds, "rest") for bounds in rest(start, end, of_runs) if state != "open"}
        else:
            found[start, end] = _with_ranges(own, by_hand, start, end) or WindowRow(start, end, state)
    return [found[bounds] for bounds in sorted(found)], by_hand[::-1]


def _with_ranges(own: WindowRow | None, by_hand: list[WindowRow], start: datetime, end: datetime) -> WindowRow | None:
    """What became of a window, by its own run and by ranges that hold it; None where nothing did."""
    for row in by_hand:
        if row.start <= start and end <= row.end and not was_not_over(row.state, row.end, row.began):
            covered = replace(row, start=start, end=end, by_hand=(row.start, row.end))
            if covered.by_hand != (start, end):
                covered = replace(covered, totals=None, seconds=None)
            own = _prevailing(own, covered)
    return own


def _prevailing(earlier: WindowRow | None, later: WindowRow) -> WindowRow:
    """The newest attempt; but what failed, or is not over, does not take back what was delivered."""
    return later if earlier is None else max(later, earlier, key=_weight)


def _weight(row: WindowRow) -> tuple[bool, bool, datetime]:
    return _settled(row), _settled(row) and row.totals is not None, row.run_after or datetime.min.replace(tzinfo=UTC)


def _runs(dag_id: str, first: datetime, last: datetime) -> Select[Any]:
    """The runs whose windows reach into `[first, last)`, or say so themselves, as those by hand; oldest first."""
    within = (DagRun.data_interval_end > first) & (DagRun.data_interval_start < last)
    by_hand = DagRun.run_type.in_(BY_HAND) & (DagRun.run_after >= first)
    return select(*_RUNS).where(DagRun.dag_id == dag_id, or_(within, by_hand)).order_by(DagRun.run_after)


def totals(rows: list[WindowRow], by_hand: Sequence[WindowRow] = ()) -> dict[str, int]:
    """The sums of what was delivered, by the keys of `Receipt.totals`; ranges by hand that hold windows count once."""
    holding = {row.run_id for row in rows if row.by_hand and not row.totals}
    summed = [row.totals for row in (*rows, *(row for row in by_hand if row.run_id in holding)) if row.totals]
    sums: Counter[str] = Counter()
    for each in summed:
        sums.update(each)
    if any("work_orders" not in each for each in summed):
        del sums["work_orders"]  # those of the others would pass for all
    return dict(sums)


def sample(rows: list[WindowRow]) -> dict[str, float] | None:
    """Averages of the last deliveries, for the estimate of a backfill; None where there was none."""
    last = [row for row in rows if row.totals and "work_orders" in row.totals and row.seconds is not None][-_SAMPLE:]
    if not last:
        return None
    sums = totals(last)
    averages = {key: sums.get(key, 0) / len(last) for key in ("work_orders", "bytes", "images")}
    return {**averages, "seconds": sum(row.seconds or 0 for row in last) / len(last), "windows": len(last)}


def _of_run(run: Row[Any], delivery: Delivery | None, timetable: Any) -> tuple[WindowRow | None, bool]:
    """The window a run is for, None where nothing says so; and whether it is a range given by hand."""
    conf = run.conf or {}
    by_hand = bool(conf.get("from") or conf.get("to"))
    start, end = run.data_interval_start, run.data_interval_end
    if delivery is not None and delivery.window:
        start, end = (datetime.fromisoformat(delivery.window[key]) for key in ("start", "end"))
    elif by_hand:
        start, end = bound(conf, "from"), bound(conf, "to")
    elif start is None and run.run_after.year in YEARS:  # without a logical date: the last complete window of then
        start, end = latest_bounds(timetable, run.run_after)
    if start is None or end is None or start >= end or start.year not in YEARS or end.year not in YEARS:
        return None, by_hand
    totals, at, event = (delivery.totals, delivery.at, delivery.event_id) if delivery else (None, None, None)
    state = _UNFINISHED.get(run.state) or ("empty" if totals and totals.get("work_orders") == 0 else "delivered")
    seconds = (run.end_date - run.start_date).total_seconds() if run.end_date and run.start_date else None
    began = run.run_after, run.start_date
    return WindowRow(start, end, state, run.run_id, seconds, at, event, totals, None, *began), by_hand


def _settled(row: WindowRow | None) -> bool:
    return row is not None and row.state in ("delivered", "empty")


def _without_run(start: datetime, due: datetime, first_run: datetime | None, now: datetime) -> str:
    if due > now:
        return "open"
    return "missing" if first_run is not None and start > first_run else "past"
