"""Every export at a glance, by index look-ups per export instead of a pass over all runs.

"Last" means by window, not by clock: the end of a backfill of last year changes neither the last run nor the lag.
"""

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun
from sqlalchemy import ColumnElement, Row, func, select
from sqlalchemy.orm import Session

from data_export.config.limits import LimitSettings
from data_export.config.models import name_of
from data_export.config.platform import load_platform
from data_export.errors import ConfigError
from data_export.lateness import overdue
from data_export_airflow.factory import INVALID_TAG, LATE_TAG
from data_export_airflow.page.receipts import PREFIX, RunKey, by_id
from data_export_airflow.timetables import CRON

_ACTIVE = ("queued", "running")
_RUN = (
    DagRun.run_id,
    DagRun._state.label("state"),
    DagRun.queued_at,
    DagRun.start_date,
    DagRun.data_interval_start,
    DagRun.data_interval_end,
)
_INTERVALS, _CRON_FIELDS = {"once", *CRON}, 5
_SCHEMES = ("email", "sftp", "gs", "s3", "file")


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One export. Instants are UTC, windows half-open; what is unknown or never was is None."""

    dag_id: str
    name: str
    connector: str
    export_type: str
    interval: str
    state: str
    paused: bool
    last_run_id: str | None
    last_run_state: str | None
    last_window_start: datetime | None
    delivered_run_id: str | None
    delivered_key: RunKey | None
    delivered_start: datetime | None
    delivered_end: datetime | None
    lag_seconds: int | None
    late_seconds: int | None
    failed: int | None
    active: int | None
    next_run: datetime | None


#: All but these come of runs, or say something of them.
_OF_DAG = {"dag_id", "name", "connector", "export_type", "interval", "state", "paused", "next_run"}
_OF_RUNS = [field.name for field in fields(ExportRow) if field.name not in _OF_DAG]


class _Found(NamedTuple):
    """Rows of the metadata database; `good` is the newest run that succeeded."""

    dag: Row[Any]
    last: Row[Any] | None
    good: Row[Any] | None


def exports(session: Session, now: datetime) -> list[ExportRow]:
    """Every export that has a DAG, in order of names."""
    tags: dict[str, set[str]] = {}
    for dag_id, tag in session.execute(select(DagTag.dag_id, DagTag.name).where(ours(DagTag.dag_id))):
        tags.setdefault(dag_id, set()).add(tag)
    dags = session.execute(_dags()).all()
    runs = by_id(session, select(DagRun.id, *_RUN), DagRun.id, [id_ for dag in dags for id_ in (dag.last, dag.good)])
    late_after = _late_after()
    found = [
        _export(_Found(dag, runs.get(dag.last), runs.get(dag.good)), tags.get(dag.dag_id, set()), late_after, now)
        for dag in dags
    ]
    return sorted(found, key=lambda export: export.name)


def without_runs(row: ExportRow) -> ExportRow:
    """What of it Airflow tells those who may read DAGs, but not their runs."""
    state = "broken" if row.state == "broken" else "paused" if row.paused else "hidden"
    nothing: dict[str, Any] = dict.fromkeys(_OF_RUNS)
    return replace(row, state=state, **nothing)


def ours(column: Any) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = column.startswith(PREFIX, autoescape=True)
    return condition


def _dags() -> Any:
    """Of each export's runs the newest and the newest good one, found by the index on (dag_id, logical_date)."""
    # A run of a range of its own tells nothing of the schedule. "Less than any date", since PostgreSQL takes "is null"
    # for so rare that it would sort all runs of the export instead of reading the index from its end.
    of_schedule = func.coalesce(DagRun.conf["from"].as_string(), "") < "0"
    newest = (
        select(DagRun.id)
        .where(DagRun.dag_id == DagModel.dag_id, DagRun.logical_date.is_not(None), of_schedule)
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


def _export(found: _Found, tags: set[str], late_after: timedelta, now: datetime) -> ExportRow:
    dag, last, good = found
    end = good and good.data_interval_end
    own = next((tag.removeprefix(LATE_TAG) for tag in tags if tag.startswith(LATE_TAG)), None)
    late = None if dag.is_paused else _late(found, timedelta(hours=float(own)) if own else late_after, now)
    over = dag.timetable_type.endswith("OnceWindowTimetable") or _ended(dag)
    return ExportRow(
        dag_id=dag.dag_id,
        name=name_of(dag.dag_id) or dag.dag_id,
        connector=next((scheme for scheme in _SCHEMES if scheme in tags), ""),
        export_type=next((tag for tag in tags if tag.startswith("work-orders-")), ""),
        interval=next((tag for tag in tags if tag in _INTERVALS or len(tag.split()) == _CRON_FIELDS), ""),
        state=_state(found, tags, late),
        paused=dag.is_paused,
        last_run_id=last and last.run_id,
        last_run_state=last and last.state,
        last_window_start=last and last.data_interval_start,
        delivered_run_id=good and good.run_id,
        delivered_key=good and (good.id, good.start_date),
        delivered_start=good and good.data_interval_start,
        delivered_end=end,
        lag_seconds=None if end is None or over else max(0, int((now - end).total_seconds())),
        late_seconds=late,
        failed=dag.failed,
        active=dag.active,
        next_run=None if dag.is_paused else dag.next_dagrun_create_after,
    )


def _state(found: _Found, tags: set[str], late: int | None) -> str:
    """The first that holds, the most urgent first."""
    dag, last, good = found
    cases = (
        ("broken", INVALID_TAG in tags),
        ("failed", last is not None and last.state == "failed"),
        ("late", late is not None),
        ("running", dag.active > 0),
        ("paused", dag.is_paused),
        ("off", dag.timetable_type.endswith("NullTimetable")),
        ("ended", good is not None and _ended(dag)),
        ("delivered", good is not None),
    )
    return next((state for state, holds in cases if holds), "new")


def _ended(dag: Row[Any]) -> bool:
    """Whether the schedule has no window left: `end_date` has passed."""
    return dag.next_dagrun_data_interval_start is None and dag.timetable_type.endswith("SettledCronTimetable")


def _late(found: _Found, late_after: timedelta, now: datetime) -> int | None:
    """Seconds; None where nothing is late. Airflow's next window begins where the last due one ended."""
    dag, last, good = found
    if last is None:
        return None
    start, end = dag.next_dagrun_data_interval_start, dag.next_dagrun_data_interval_end
    if start is None or end is None:
        due, length = last.data_interval_end, timedelta(0)
    else:
        due, length = (end if dag.next_dagrun_create_after <= now else start), end - start
    late = overdue(good and good.data_interval_end, due, length, last.queued_at, late_after, now)
    return None if late is None else int(late.total_seconds())


def _late_after() -> timedelta:
    """`limits.late_after_hours`; its default where this host has no readable platform.yaml."""
    try:
        return timedelta(hours=load_platform().limits.late_after_hours)
    except ConfigError:
        return timedelta(hours=LimitSettings().late_after_hours)
