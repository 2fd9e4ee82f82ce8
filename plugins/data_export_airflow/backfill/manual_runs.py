"""Keeps runs by hand from taking the place of a window."""

from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import Connection, event
from sqlalchemy.orm import Mapper, Session

from data_export.config.models import name_of
from data_export.errors import ConfigError
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable

_OF_WINDOWS = (DagRunType.SCHEDULED, DagRunType.BACKFILL_JOB)


def guard_manual_runs() -> None:
    """From now on this process makes no run by hand whose logical date is the start of a window.

    Airflow has one run for each DAG and logical date. Scheduler and backfills would take a run by hand for the window
    that begins then, skip it for ever, and the scheduler would go no further; but such a run is of another window, the
    one before (REST, UI) or the latest (command line). UI, REST, `airflow dags trigger` and TriggerDagRunOperator have
    in common that they insert a row, which SQLAlchemy tells of.
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
        timetable = stored.dag.timetable if stored else None
    if not isinstance(timetable, SettledCronTimetable | OnceWindowTimetable) or not timetable.begins(run.logical_date):
        return
    words = (
        f"logical date {run.logical_date.isoformat()}: a window begins then, and would never run, since Airflow would "
        "take this run for it, which is of an earlier or later window. Leave the logical date away and give `from` and "
        "`to`, or backfill the window"
    )
    if run.triggered_by == DagRunTriggeredByType.CLI:
        raise SystemExit(words)
    raise ConfigError(words)
