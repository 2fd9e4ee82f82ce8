"""Airflow's backfills: which are under way, what one would run, and making it; and having one window run again."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from airflow.jobs.job import most_recent_job
from airflow.models.backfill import (
    AlreadyRunningBackfill,
    Backfill,
    BackfillDagRun,
    ReprocessBehavior,
    _create_backfill,
    _do_dry_run,
)
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.sdk.exceptions import AirflowException
from airflow.utils.platform import getuser
from airflow.utils.session import create_session
from pendulum import instance
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from data_export.errors import ConfigError, LimitExceeded
from data_export.window import ExportWindow
from data_export_airflow.metadata.exports import BY_HAND

_ACTIVE = ("queued", "running")
#: The window that a run delivers if it is cleared now; None where it would deliver none.
WindowOf = Callable[[DagRun], ExportWindow | None]


def under_way(session: Session, dag_id: str) -> list[dict[str, Any]]:
    """By its runs, not by what Airflow says of it, which notices the end of one up to half a minute late.

    `from` and `to` are the starts of its first and its last window, `windows` counts all and `left` those not over.
    """
    windows = select(func.count()).select_from(BackfillDagRun).where(BackfillDagRun.backfill_id == Backfill.id)
    left = select(func.count()).select_from(DagRun)
    left = left.where(DagRun.dag_id == dag_id, DagRun.backfill_id == Backfill.id, DagRun._state.in_(_ACTIVE))
    statement = select(
        Backfill.id,
        Backfill.from_date.label("from"),
        Backfill.to_date.label("to"),
        Backfill.is_paused,
        windows.scalar_subquery().label("windows"),
        left.scalar_subquery().label("left"),
    ).where(Backfill.dag_id == dag_id, Backfill.completed_at.is_(None))
    rows = [dict(row._mapping) for row in session.execute(statement.order_by(Backfill.id))]
    return [row for row in rows if row["left"] or not row["windows"]]  # one without windows is just being made


class Active(NamedTuple):
    """A backfill that Airflow takes for unfinished; `windows` of it start from `first` up to and including `last`."""

    id: int
    windows: int
    first: datetime
    last: datetime


def active(session: Session, dag_id: str) -> Active | None:
    """The one that keeps another from being made, which Airflow notices the end of up to half a minute late."""
    found = session.scalar(select(Backfill).where(Backfill.dag_id == dag_id, Backfill.completed_at.is_(None)))
    if found is None:
        return None
    count = select(func.count()).select_from(BackfillDagRun).where(BackfillDagRun.backfill_id == found.id)
    return Active(found.id, session.scalar(count) or 0, found.from_date, found.to_date)


def dry_run(
    session: Session, dag_id: str, first: datetime, last: datetime, reprocess: str, newest_first: bool
) -> list[ExportWindow]:
    """The windows that Airflow would run of those that start from `first` up to and including `last`, in its order."""
    infos = _do_dry_run(
        dag_id=dag_id,
        from_date=instance(first),
        to_date=instance(last),
        reverse=newest_first,
        reprocess_behavior=ReprocessBehavior(reprocess),
        session=session,
    )
    return [ExportWindow(info.data_interval.start, info.data_interval.end) for info in infos if info.data_interval]


def create(
    dag_id: str, first: datetime, last: datetime, reprocess: str, newest_first: bool, max_active_runs: int
) -> int:
    """Has Airflow make the backfill, of windows as for `dry_run`; returns its id.

    Raises:
        LimitExceeded: another backfill of the DAG has begun meanwhile.
        ConfigError: Airflow refuses, in its own words.
    """
    from airflow.api_fastapi.common.dagbag import resolve_run_on_latest_version  # late: loading it takes a second

    with create_session() as session:
        latest = resolve_run_on_latest_version(None, dag_id, session, fallback=True)
    try:
        backfill = _create_backfill(
            dag_id=dag_id,
            from_date=instance(first),
            to_date=instance(last),
            max_active_runs=max_active_runs,
            reverse=newest_first,
            dag_run_conf=None,
            triggering_user_name=getuser(),
            reprocess_behavior=ReprocessBehavior(reprocess),
            run_on_latest_version=latest,
        )
    except AlreadyRunningBackfill:
        raise LimitExceeded("another backfill") from None
    except (AirflowException, ValueError) as error:
        raise ConfigError(str(error)) from None
    return backfill.id


def is_under_way(dag_id: str, window_of: WindowOf, window: ExportWindow, of_dag: str, run_id: str) -> bool:
    """Whether the window's own run, the one that delivered it last or another one of it by hand is not over."""
    known = (DagRun.logical_date == window.start, DagRun.run_type.in_(BY_HAND))
    which = or_((DagRun.dag_id == dag_id) & or_(*known), (DagRun.dag_id == of_dag) & (DagRun.run_id == run_id))
    with create_session() as session:
        return any(
            run.logical_date == window.start or run.run_id == run_id or window_of(run) == window
            for run in session.scalars(select(DagRun).where(which, DagRun._state.in_(_ACTIVE)))
        )


def run_again(dag_id: str, window_of: WindowOf, window: ExportWindow, of_dag: str, run_id: str) -> str | None:
    """Clears the run that delivered a window, or makes one where that is forgotten, another DAG's, a backfill's or by
    now of another window.

    Returns the run's id; None where it is not over. As `TaskRuns.run_again`, for who may ask the database.
    """
    # late: loading it takes a second
    from airflow.api_fastapi.common.dagbag import create_dag_bag, get_dag_for_run, resolve_run_on_latest_version

    fresh = f"audit__{window.stamp}"
    with create_session() as session:
        found = {
            run.run_id: run
            for run in session.scalars(
                select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id.in_([run_id, fresh]))
            )
        }
        old, run = found.get(run_id) if of_dag == dag_id else None, found.get(fresh)
        if old is not None and (old._state in _ACTIVE or (old.run_type != "backfill" and window_of(old) == window)):
            run = old
        if run is None:
            _make(session, dag_id, fresh, window)
            return fresh
        if run._state in _ACTIVE:
            return None
        dag = get_dag_for_run(create_dag_bag(), dag_run=run, session=session)
        latest = resolve_run_on_latest_version(None, dag_id, session)
        dag.clear(run_id=run.run_id, run_on_latest_version=latest, session=session)
        return str(run.run_id)


def _make(session: Session, dag_id: str, run_id: str, window: ExportWindow) -> None:
    from airflow.api.common.trigger_dag import trigger_dag  # late: loading it takes a second
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    trigger_dag(
        dag_id,
        run_id=run_id,
        conf={"from": window.start.isoformat(), "to": window.end.isoformat()},
        session=session,
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.CLI,
    )


def is_paused(session: Session, dag_id: str) -> bool:
    return bool(session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id)))


def is_current(session: Session, dag_id: str) -> bool:
    """Whether the dag-processor finds the DAG in a file."""
    return session.scalar(select(DagModel.is_stale).where(DagModel.dag_id == dag_id)) is False


def has_scheduler(session: Session) -> bool:
    job = most_recent_job("SchedulerJob", session=session)
    return job is not None and job.is_alive()
