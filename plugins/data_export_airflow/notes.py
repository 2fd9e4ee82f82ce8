"""Writes each finished run's summary where a person looks first: the note of the run in the UI."""

from airflow.listeners import hookimpl
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import object_session

from data_export.config.models import name_of
from data_export.receipt import Receipt, is_summary


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Runs in the scheduler, in its own transaction. A note of ours is renewed, one that a person wrote stays.

    What is raised here is logged by Airflow and does not fail the run (`DagRun.notify_dagrun_state_changed`).
    """
    session = object_session(dag_run)
    if name_of(dag_run.dag_id) is None or session is None:
        return
    if dag_run.note and not is_summary(dag_run.note):
        return
    value = session.scalar(
        select(XComModel.value).where(
            XComModel.dag_id == dag_run.dag_id,
            XComModel.run_id == dag_run.run_id,
            XComModel.task_id == "close",
            XComModel.key == "return_value",
        )
    )
    if value is not None:
        dag_run.note = Receipt.model_validate(value).summary()
