"""Callbacks of the customers' DAGs. Imported at every parse: what sends alerts is imported when needed."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from data_export.alerts.guide import kind_of
from data_export.config.models import name_of
from data_export.config.sites import label_in
from data_export.errors import DataExportError, line_of
from data_export.receipt import Receipt
from data_export.window import ExportWindow

log = logging.getLogger(__name__)
_TO_GIVE_BACK = 6  # seconds
#: The XCom that holds why a try failed (`data_export_airflow.alerting.listeners`).
FAILURE = "failure"
MAINTENANCE_DAG, AUDIT_DAG = "data_export_maintenance", "data_export_audit"
#: DAG and task of the watch.
WATCH = ("data_export_watch", "look")
#: Its other task.
NOTICES_TASK = "notices"
#: Of an export's DAG, after its delivery.
NOTIFY_TASK = "notify"


def on_failure(context: Mapping[str, Any]) -> None:
    """Alerts people to a task that failed for good. Runs in the worker or, where that died, in the dag-processor."""
    from data_export.alerts.failure import (
        Failure,
        audit_failure_alert,
        failure_alert,
        maintenance_failure_alert,
        notice_failure_alert,
        notices_failure_alert,
        watch_failure_alert,
    )
    from data_export.alerts.ledger import Known
    from data_export_airflow.alerting.sender import AlertSender
    from data_export_airflow.operators.links import error_address

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
        site=site_of(context),
        has_interval=not _by_hand(context),
        guide=error_address(error),
    )
    occurrence = f"{ti.run_id} {ti.task_id} {ti.map_index} {ti.try_number}"
    of_watch = notices_failure_alert if ti.task_id == NOTICES_TASK else watch_failure_alert
    of_service = {MAINTENANCE_DAG: maintenance_failure_alert, AUDIT_DAG: audit_failure_alert}
    of_export = notice_failure_alert if ti.task_id == NOTIFY_TASK else failure_alert
    alert = of_export(failure) if export else of_service.get(ti.dag_id, of_watch)(failure)
    window = window if export else None
    known = Known(ti.run_id, alert.cause, window, by_hand=_by_hand(context))
    known_until_recovery = known if _has_recovery(ti.dag_id, ti.task_id) else None
    with _within_overtime():
        AlertSender(context).send_once(alert, _owner(task), occurrence, window, known_until_recovery)


@contextmanager
def _within_overtime() -> Iterator[None]:
    """Ends before Airflow would kill the process, `core.task_success_overtime` after the task's end.

    A killed one gives back no right to send the alert, and Airflow takes it for a lost worker: it would try a task
    again that no retry can help.
    """
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import AirflowTaskTimeout
    from airflow.sdk.execution_time.timeout import timeout

    overtime = conf.getfloat("core", "task_success_overtime", fallback=20)
    seconds = max(overtime - _TO_GIVE_BACK, overtime / 2)
    try:
        with timeout(seconds):  # type: ignore[no-untyped-call]
            yield
    except AirflowTaskTimeout:
        log.error(
            "the alert may not be out, or not be noted, after %d s: the mail server, a notifier or staging does not "
            "answer, and Airflow leaves no more time (core.task_success_overtime)",
            seconds,
        )


def _has_recovery(dag_id: str, task_id: str) -> bool:
    """Whether a failure of the task is over with the next delivery; `notify` fails after it."""
    return task_id != NOTIFY_TASK if name_of(dag_id) else (dag_id, task_id) == WATCH


def tell_recovered(context: Mapping[str, Any], window: ExportWindow | None = None) -> None:
    """Reports to whom failures were reported that the DAG's run has succeeded. Never raises: it has.

    Args:
        window: what an export delivered.
    """
    from data_export_airflow.alerting.sender import AlertSender

    ti = context["ti"]
    if not _has_recovery(ti.dag_id, ti.task_id):
        return
    try:
        export = name_of(ti.dag_id)
        AlertSender(context).send_recovered(export or ti.dag_id, export, window, ti.log_url)
    except Exception:
        log.exception("the recovery is not reported")


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


def site_of(context: Mapping[str, Any]) -> str:
    """The site that a mapped task is for, `name (uuid)` where it has a name; empty where it is for all, or fails before
    it knows."""
    site, plan = (_rendered(context, getattr(context["task"], name, "")) for name in ("site_id", "plan"))
    if not isinstance(site, str):
        return ""
    label = label_in(plan, site)
    return site if label == site else f"{label} ({site})"


def _rendered(context: Mapping[str, Any], value: Any) -> Any:
    """The value; of one that no worker rendered, and is the place where it will be, what lies there."""
    try:
        return value.resolve(context) if hasattr(value, "resolve") else value
    except Exception as error:  # an alert that cannot say everything is better than none
        log.warning("what the task is for cannot be read: %s", type(error).__name__)
        return None


def _reason(context: Mapping[str, Any]) -> tuple[str, str]:
    """Class and line of the error; others' words are not shown, since they may hold a secret."""
    error = context.get("exception")
    if isinstance(error, DataExportError):
        return kind_of(error), line_of(error)
    if type(error).__name__ == "AirflowTaskTimeout":  # not imported: that would cost every parse
        return "AirflowTaskTimeout", f"the task was still running after {context['task'].execution_timeout}, its limit"
    if isinstance(error, BaseException):
        return type(error).__name__, "see the end of the task's log"
    return _reason_without_error(context["ti"])


def _reason_without_error(ti: Any) -> tuple[str, str]:
    """Of a try that no worker ended: Airflow gave it up, and gives the callback no reason.

    The host is the one that began a try last; Airflow keeps it when it queues the next try. What that try failed with
    is gone as soon as a worker begins another one: where it is still there, none has.
    """
    try:
        before = ti.xcom_pull(task_ids=ti.task_id, key=FAILURE, map_indexes=ti.map_index)
    except Exception as error:
        log.warning("the error of the try before cannot be read: %s", type(error).__name__)
        before = None
    earlier = before if isinstance(before, dict) else {}
    if ti.hostname and not earlier:
        return "WorkerLost", (
            f"the task ended without a word: its worker, last {ti.hostname}, was killed, ran out of memory, was shut "
            "down, or lost the API server"
        )
    last = f"; the try before failed with {earlier.get('error')}: {earlier.get('message')}" if earlier else ""
    return "NotStarted", f"no worker began try {ti.try_number}, so Airflow gave it up{last}"


def _by_hand(context: Mapping[str, Any]) -> bool:
    run, params = context["dag_run"], context.get("params") or {}
    return bool(params.get("from") or params.get("to")) or run.data_interval_start is None


def _owner(task: Any) -> str | None:
    """The customer file's `owner`, which is its tasks' owner in Airflow too."""
    return task.owner if "@" in task.owner else None
