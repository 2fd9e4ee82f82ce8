"""Writes each finished run's summary where a person looks first: the note of the run in the UI."""

import logging
import re
from typing import Any

from airflow.listeners import hookimpl
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import object_session

from data_export.alerts.guide import kind_of
from data_export.config.models import name_of
from data_export.errors import DataExportError, line_of
from data_export.receipt import Receipt, is_summary
from data_export.wording import as_code
from data_export_airflow.alerting.callbacks import FAILURE, site_of, window_of
from data_export_airflow.telemetry.metrics import task_failed


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Runs in the scheduler, in its own transaction. A note of ours is renewed, one that a person wrote stays.

    What is raised here is logged by Airflow and does not fail the run (`DagRun.notify_dagrun_state_changed`).
    """
    session = object_session(dag_run)
    if name_of(dag_run.dag_id) is None or session is None or not is_ours(dag_run.note):
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
        from data_export_airflow.operators.links import files_address  # late: every process loads this module

        receipt = Receipt.model_validate(value)
        address = files_address(receipt.export, dag_run.run_id, receipt.export_window.end)
        dag_run.note = f"{receipt.summary()}{_LINK}[Files]({address})"


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """The same for a run that failed: why, as the page says it."""
    from data_export_airflow.metadata.failures import reasons  # late: every process loads this module

    session = object_session(dag_run)
    if name_of(dag_run.dag_id) is None or session is None or not is_ours(dag_run.note):
        return
    if reason := reasons(session, dag_run.dag_id, [dag_run.run_id]).get(dag_run.run_id):
        dag_run.note = as_note(FAILED, reason)


def as_note(state: str, reason: str) -> str:
    """Markdown: `Failed: task: error: message`, and where more is known of the error.

    The message may hold a server's words or a customer's. As code they are no link, image, heading or HTML; Airflow
    makes links of bare addresses too, and a backslash does not keep it from that.
    """
    from data_export_airflow.operators.links import error_address

    task, error, *message = reason.split(": ", 2)
    more = f"{_LINK}[About this error]({error_address(error, '/data-exports/errors.html')})"
    begin = f"{state}{task}: {error}"
    room = LONGEST_NOTE - len(begin) - len(more) - len(": ``")
    words = "".join(message).replace("`", "'")
    return f"{begin}: {as_code(words, room)}{more}" if words else f"{begin}{more}"


def is_ours(note: str | None) -> bool:
    """Whether a run's note may be renewed: there is none, or no person wrote it."""
    return not note or is_summary(note.partition(_LINK)[0]) or _REASON.fullmatch(note) is not None


#: Between what a note says and where it leads, in Markdown.
_LINK = " · "
FAILED, RETRYING = "Failed: ", "Retrying: "
#: Airflow keeps as many characters.
LONGEST_NOTE = 1000
_REASON = re.compile(rf"({FAILED}|{RETRYING})[\w.-]+: \w+: .+")
log = logging.getLogger(__name__)


@hookimpl
def on_task_instance_failed(task_instance: Any, error: BaseException | str | None) -> None:
    """Runs in the worker after each failed try, behind Airflow's traceback and the alerts.

    The page's copy is an XCom, since Airflow 3.3 keeps the reason in the log only; the next try's start removes it. It
    holds the message of the service's own errors only: these never hold a secret.
    """
    task_failed(task_instance, error)
    name = name_of(task_instance.dag_id)
    if not isinstance(error, BaseException) or name is None:
        return
    kind = kind_of(error)
    message = line_of(error) if isinstance(error, DataExportError) else "see the task's log"
    task_instance.xcom_push(FAILURE, {"error": kind, "message": message})
    if isinstance(error, DataExportError):
        context = task_instance.get_template_context()
        window, site = window_of(context), site_of(context)
        where = [name, f"window {window}" if window else "", f"site {site}" if site else ""]
        log.info("::endgroup::")  # of Airflow's "Post Execute", which the UI shows folded
        from data_export_airflow.operators.links import error_address  # late: every process loads this module

        log.error("%s: %s (%s); see %s", kind, message, ", ".join(filter(None, where)), error_address(kind))
