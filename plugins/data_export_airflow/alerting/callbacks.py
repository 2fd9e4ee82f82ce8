"""Callbacks of the customers' DAGs. Imported at every parse: what sends alerts is imported when needed."""

import logging
from collections.abc import Mapping
from typing import Any

from data_export.config.models import name_of
from data_export.errors import DataExportError, line_of
from data_export.receipt import Receipt
from data_export.window import ExportWindow

#: Key of the XCom in which a failed task keeps why.
FAILURE = "failure"
log = logging.getLogger(__name__)


def on_failure(context: Mapping[str, Any]) -> None:
    """Alerts people to a task that failed for good. Runs in the worker or, where that died, in the dag-processor."""
    from data_export.alerts.failure import Failure, failure_alert, watch_failure_alert
    from data_export_airflow.alerting.sender import AlertSender

    ti, task = context["ti"], context["task"]
    export = name_of(ti.dag_id)
    error, message = _reason(context)
    window = window_of(context)
    failure = Failure(
        export=export or ti.dag_id,
        dag_id=ti.dag_id,
        task=ti.task_id,
        error=error,
        message=message,
        link=ti.log_url,
        window=window,
        site=site_of(task),
        has_interval=not _by_hand(context),
    )
    occurrence = f"{ti.run_id} {ti.task_id} {ti.map_index} {ti.try_number}"
    alert = failure_alert(failure) if export else watch_failure_alert(failure)
    AlertSender(context).send_once(alert, _owner(task), occurrence, window if export else None)


def tell_left_out(context: Mapping[str, Any], receipt: Receipt, staging_prefix: str) -> None:
    """Reports records, images and recipients that a run had to leave out. Never raises: the data was delivered."""
    from data_export.alerts.failure import images_alert, quarantine_alert, refused_alert
    from data_export_airflow.alerting.sender import AlertSender

    quarantined, images = receipt.totals()["quarantined"], receipt.totals()["images_failed"]
    if not (quarantined or images or receipt.refused_recipients):
        return
    try:
        sender, ti = AlertSender(context), context["ti"]
        place, days = f"{sender.settings.staging.uri}{staging_prefix}/", sender.settings.staging.keep_failed_days
        alerts = [quarantine_alert(receipt, place, days, ti.log_url)] if quarantined else []
        alerts += [images_alert(receipt, ti.log_url)] if images else []
        alerts += [refused_alert(receipt, ti.log_url)] if receipt.refused_recipients else []
        for alert in alerts:
            sender.send_once(alert, _owner(context["task"]), ti.run_id)
    except Exception:
        log.exception("no alert was sent of what was left out")


def window_of(context: Mapping[str, Any]) -> ExportWindow | None:
    """The run's frozen window or, where `prepare` itself failed, the one that it was asked for."""
    try:
        plan = context["ti"].xcom_pull(task_ids="prepare", key="plan")
        if isinstance(plan, dict):
            return ExportWindow.from_dict(plan["window"])
    except Exception as error:  # an alert that cannot say everything is better than none
        log.warning("the run's window cannot be read: %s", type(error).__name__)
    run, params = context["dag_run"], context.get("params") or {}
    start, end = params.get("from"), params.get("to")
    try:
        if start and end:
            return ExportWindow.from_dict({"start": start, "end": end})
        return ExportWindow(run.data_interval_start, run.data_interval_end)
    except (ValueError, AttributeError, TypeError):  # no interval, or not a window: that may be why it failed
        return None


def site_of(task: Any) -> str:
    """The site that a mapped task is for; empty where it is for all, or fails before it knows."""
    site = getattr(task, "site_id", "")
    return site if isinstance(site, str) else ""  # Airflow's own stand-in until the task is expanded


def _reason(context: Mapping[str, Any]) -> tuple[str, str]:
    """Class and line of the error; others' words are not shown, since they may hold a secret."""
    error = context.get("exception")
    if isinstance(error, DataExportError):
        return type(error).__name__, line_of(error)
    if type(error).__name__ == "AirflowTaskTimeout":  # not imported: that would cost every parse
        return "AirflowTaskTimeout", f"the task was still running after {context['task'].execution_timeout}, its limit"
    if isinstance(error, BaseException):
        return type(error).__name__, "see the end of the task's log"
    return "WorkerLost", "the task ended without a word: its worker was killed, ran out of memory, or was shut down"


def _by_hand(context: Mapping[str, Any]) -> bool:
    run, params = context["dag_run"], context.get("params") or {}
    return bool(params.get("from") or params.get("to")) or run.data_interval_start is None


def _owner(task: Any) -> str | None:
    """The customer file's `owner`, which is its tasks' owner in Airflow too."""
    return task.owner if "@" in task.owner else None
