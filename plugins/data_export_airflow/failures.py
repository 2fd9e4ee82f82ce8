"""Keeps why a task failed where the page "Data exports" reads it, since Airflow 3.3 keeps it in the log only."""

from typing import Any

from airflow.listeners import hookimpl

from data_export.config.models import name_of
from data_export.errors import DataExportError

FAILURE = "failure"


@hookimpl
def on_task_instance_failed(task_instance: Any, error: BaseException | str | None) -> None:
    """Runs in the worker after each failed try; the next try's start removes what the one before left.

    The message is kept of the service's own errors only: they never hold a secret.
    """
    if not isinstance(error, BaseException) or name_of(task_instance.dag_id) is None:
        return
    message = str(error) if isinstance(error, DataExportError) else "see the task's log"
    task_instance.xcom_push(FAILURE, {"error": type(error).__name__, "message": message[:2000]})
