"""What Airflow has no hook for: backfills stay within an export's limits, runs by hand take no window's place, and a
run's note says why a task is tried again."""

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from airflow.models.backfill import Backfill, NoBackfillRunsToCreate
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.retries import run_with_db_retries
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import Connection, event, select
from sqlalchemy.orm import Mapper, Session, object_session

from data_export.config.models import name_of
from data_export.errors import ConfigError
from data_export_airflow.alerting.listeners import RETRYING, as_note, is_ours
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable

log = logging.getLogger(__name__)
_OF_WINDOWS = (DagRunType.SCHEDULED, DagRunType.BACKFILL_JOB)


def guard_backfills() -> None:
    """From now on this process makes no backfill of an export that breaks its limits.

    Airflow has no hook for it. UI, REST and `airflow backfill create` have in common that they make a row of the table
    `backfill` first, for which SQLAlchemy has an event. Without this guard a run's first step would still refuse
    each window.
    """
    if not event.contains(Backfill, "init", _keep_limits):
        event.listen(Backfill, "init", _keep_limits)


def _keep_limits(_: Backfill, __: tuple[()], columns: dict[str, Any]) -> None:
    """No more runs at once than `limits.max_active_runs`, whatever is asked for; REST asks for 10 by default.

    Raises:
        NoBackfillRunsToCreate: a window begins before `start_date`, the runs are given a range of their own, or fewer
            than one is to run at once, which Airflow takes and never starts. It shows the message to whoever asked.
    """
    dag, asked = columns["dag_model"], columns["max_active_runs"]
    if name_of(dag.dag_id) is None:
        return
    if asked is not None and asked < 1:
        raise NoBackfillRunsToCreate(f"max_active_runs {asked}: no run would ever start: ask for 1 or more")
    columns["max_active_runs"] = min(asked or dag.max_active_runs, dag.max_active_runs)
    conf = columns["dag_run_conf"] or {}
    if conf.get("from") or conf.get("to"):
        raise NoBackfillRunsToCreate(
            "a backfill runs the windows of the schedule, each once: leave the parameters `from` and `to` empty, or "
            "trigger a single run with them, which makes one file for exactly that range"
        )
    first = next(iter(dag.iter_dagrun_infos_between(columns["from_date"], columns["to_date"])), None)
    if first is not None and first.data_interval.start < dag.start_date:
        raise NoBackfillRunsToCreate(
            f"the window that begins at {first.data_interval.start.isoformat()} is before the export's start_date: "
            f"begin the backfill at {dag.start_date.isoformat()}, or set an earlier start_date in the customer file"
        )


def guard_manual_runs() -> None:
    """From now on this process makes no run by hand whose logical date is the start of a window, or before them all.

    Airflow has one run for each DAG and logical date. Scheduler and backfills would take a run by hand for the window
    that begins then, skip it for ever, and the scheduler would go no further; but such a run is of another window, the
    one before (REST, UI) or the latest (command line). UI, REST, `airflow dags trigger` and TriggerDagRunOperator have
    in common that they insert a row, for which SQLAlchemy has an event.
    """
    if not event.contains(DagRun, "before_insert", _leave_windows_alone):
        event.listen(DagRun, "before_insert", _leave_windows_alone)


def _leave_windows_alone(_: Mapper[Any], connection: Connection, run: DagRun) -> None:
    """Whatever time the window is of, past or future.

    Raises:
        ConfigError: which the API server answers with 400 and the words.
        SystemExit: in Airflow's command line, which prints the words of this, and of an error a traceback.
    """
    if run.run_type in _OF_WINDOWS or run.logical_date is None or name_of(run.dag_id) is None:
        return
    with Session(connection) as session:  # the run's own connection: another would wait for this transaction
        stored = SerializedDagModel.get(run.dag_id, session=session)
        why = _why_not(run.logical_date, stored.dag) if stored else None
    if why is None:
        return
    words = f"logical date {run.logical_date.isoformat()}: {why}"
    if run.triggered_by == DagRunTriggeredByType.CLI:
        raise SystemExit(words)
    raise ConfigError(words)


def _why_not(logical_date: datetime, dag: Any) -> str | None:
    """Why no run by hand may have this logical date; None where it may."""
    timetable = dag.timetable
    if dag.start_date is not None and logical_date < dag.start_date:
        return (
            f"it is before the export's start_date {dag.start_date.isoformat()}, so that Airflow would run no task: "
            "give a later one, or set an earlier start_date in the customer file"
        )
    if isinstance(timetable, SettledCronTimetable | OnceWindowTimetable) and timetable.begins(logical_date):
        return (
            "a window begins then, and would never run, since Airflow would take this run for it, which is of an "
            "earlier or later window. Leave the logical date away and give `from` and `to`, or backfill the window"
        )
    return None


def note_retries() -> None:
    """From now on this process writes on the run of an export, as its note, why one of its tasks is tried again.

    A listener cannot: it runs in the worker. But the API server sets `retry_reason` when the worker reports the
    failed try, for which SQLAlchemy has an event.
    """
    if not event.contains(TaskInstance.retry_reason, "set", _on_retry):
        event.listen(TaskInstance.retry_reason, "set", _on_retry)


#: Its thread begins with the first note. The worker's request neither waits for it, nor fails with it; and it writes
#: after that transaction, or each could wait for a row that the other, or the scheduler, has locked.
_NOTES = ThreadPoolExecutor(1, "retry-notes")
#: Runs whose note waits to be renewed, once for however many of their sites have failed a try meanwhile.
_pending: set[tuple[str, str]] = set()


def _on_retry(ti: TaskInstance, reason: str | None, *_: object) -> None:
    session, run = object_session(ti), (ti.dag_id, ti.run_id)
    if reason and session is not None and name_of(ti.dag_id) is not None:
        event.listen(session, "after_commit", lambda _: _renew_soon(run), once=True)


def _renew_soon(run: tuple[str, str]) -> None:
    if run not in _pending:
        _pending.add(run)
        _NOTES.submit(note_retry, *run)


def note_retry(dag_id: str, run_id: str) -> None:
    """Renews the run's note; one that a person wrote stays. What fails is logged."""
    from data_export_airflow.metadata.late import retries  # late: every process loads this module

    _pending.discard((dag_id, run_id))  # before it looks: what fails from now on takes another look
    try:
        for attempt in run_with_db_retries():  # this may be the only look at a thousand sites
            with attempt, create_session() as session:
                retry = retries(session, dag_id).get((dag_id, run_id))
                run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
                if retry is not None and run is not None and is_ours(run.note):
                    run.note = as_note(RETRYING, retry.words)
    except Exception:
        log.exception("%s, run %s: the note that a task is tried again cannot be written", dag_id, run_id)
