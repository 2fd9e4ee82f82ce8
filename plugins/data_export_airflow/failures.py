"""Says why a task failed where people look: in the last line of its log, and on the page "Data exports"."""

import logging
from typing import Any

from airflow.listeners import hookimpl

from data_export.config.models import name_of
from data_export.errors import DataExportError, line_of
from data_export_airflow.alerts import site_of, window_of

FAILURE = "failure"
log = logging.getLogger(__name__)


@hookimpl
def on_task_instance_failed(task_instance: Any, error: BaseException | str | None) -> None:
    """Runs in the worker after each failed try, behind Airflow's traceback and the alerts.

    The page's copy is an XCom, since Airflow 3.3 keeps the reason in the log only; the next try's start removes it. It
    holds the message of the service's own errors only: these never hold a secret.
    """
    name = name_of(task_instance.dag_id)
    if not isinstance(error, BaseException) or name is None:
        return
    kind = type(error).__name__
    message = line_of(error) if isinstance(error, DataExportError) else "see the task's log"
    task_instance.xcom_push(FAILURE, {"error": kind, "message": message})
    if isinstance(error, DataExportError):
        context = task_instance.get_template_context()
        window, site = window_of(context), site_of(context["task"])
        where = [name, f"window {window}" if window else "", f"site {site}" if site else ""]
        log.info("::endgroup::")  # of Airflow's "Post Execute", which the UI shows folded
        log.error("%s: %s (%s)", kind, message, ", ".join(filter(None, where)))
