"""Alerts of tasks that no worker ended: Airflow's dag-processor runs the callback, on what Airflow's tables know."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun as RunSent
from airflow.api_fastapi.execution_api.datamodels.taskinstance import TaskInstance as TaskSent
from airflow.api_fastapi.execution_api.datamodels.taskinstance import TIRunContext
from airflow.callbacks.callback_requests import TaskCallbackRequest
from airflow.dag_processing.dagbag import DagBag
from airflow.dag_processing.processor import _execute_task_callbacks
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XCOM_RETURN_KEY
from airflow.utils.state import TaskInstanceState

from data_export.config.models import name_of
from data_export_airflow.alerting.callbacks import FAILURE
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.page.history import BUNDLE, SITE, History

pytestmark = pytest.mark.usefixtures("supervisor")
OTHER = "0c4f8f0e-1f4b-4b2a-9a55-7f7a3c1d2e90"
START, END = datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC)


@pytest.fixture
def run(history: History, server: SmtpServer) -> DagRun:
    """Under way, with two sites."""
    run = history.run(history.export("acme"), START, END, "running")
    history.result(run, "prepare", XCOM_RETURN_KEY, [str(SITE), OTHER], map_index=-1, state="success")
    return run


def give_up(run: DagRun, task: str, map_index: int, hostname: str, try_number: int = 1) -> None:
    """What the scheduler asks the dag-processor for, and what that does."""
    request = TaskCallbackRequest(
        filepath="customer_exports.py",
        bundle_name=BUNDLE,
        bundle_version=None,
        msg="Task was requeued more than 2 times and will be failed.",
        task_callback_type=TaskInstanceState.FAILED,
        ti=TaskSent(
            id=uuid4(),
            dag_id=run.dag_id,
            run_id=run.run_id,
            task_id=task,
            map_index=map_index,
            try_number=try_number,
            hostname=hostname,
            dag_version_id=uuid4(),
        ),
        context_from_server=TIRunContext(
            dag_run=RunSent.model_validate(run, from_attributes=True),
            max_tries=8,
            variables=[],
            connections=[],
            xcom_keys_to_clear=[],
        ),
    )
    sent = TaskCallbackRequest.model_validate_json(request.model_dump_json())
    folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    _execute_task_callbacks(DagBag(folder, bundle_path=folder, bundle_name=BUNDLE), sent, structlog.get_logger())


def mail(server: SmtpServer) -> tuple[str, str]:
    """Subject and text of the one mail."""
    (found,) = server.messages()
    return found["Subject"], " ".join(text_of(found).split())


@pytest.mark.parametrize("task", ["extract", "transform", "copy_images", "deliver"])
def test_the_site_is_the_rendered_one_and_no_worker_is_blamed(run: DagRun, server: SmtpServer, task: str) -> None:
    give_up(run, task, map_index=1, hostname="")
    subject, text = mail(server)
    assert subject == f"Data export {name_of(run.dag_id)} failed: NotStarted"
    assert f"Site {OTHER}" in text
    assert "MappedArgument" not in text
    assert "no worker began try 1, so Airflow gave it up" in text
    assert "worker was killed" not in text


def test_a_worker_that_died_is_named(run: DagRun, server: SmtpServer) -> None:
    give_up(run, "deliver", map_index=0, hostname="worker-3")
    subject, text = mail(server)
    assert "WorkerLost" in subject
    assert f"Site {SITE}" in text
    assert "its worker, last worker-3, was killed" in text


def test_a_later_try_that_reached_no_worker_says_what_the_one_before_met(
    history: History, run: DagRun, server: SmtpServer
) -> None:
    """Airflow keeps the host of the try before, which had nothing to do with this one."""
    met = {"error": "TargetUnavailable", "message": "sftp.x: connection refused"}
    history.result(run, "deliver", FAILURE, met, map_index=0, state="queued")
    give_up(run, "deliver", map_index=0, hostname="worker-3", try_number=4)
    subject, text = mail(server)
    assert "NotStarted" in subject
    assert "no worker began try 4" in text
    assert "the try before failed with TargetUnavailable: sftp.x: connection refused" in text
    assert "worker-3" not in text


@pytest.mark.parametrize("task", ["prepare", "close"])
def test_a_task_of_all_sites_names_none(run: DagRun, server: SmtpServer, task: str) -> None:
    give_up(run, task, map_index=-1, hostname="")
    _, text = mail(server)
    assert "Site " not in text
    assert "2025-03-16 00:00 to 2025-03-17 00:00 UTC" in text


def test_a_run_whose_first_result_is_gone_is_alerted_about_all_the_same(history: History, server: SmtpServer) -> None:
    run: Any = history.run(history.export("acme"), START, END, "running")
    give_up(run, "extract", map_index=0, hostname="")
    subject, text = mail(server)
    assert "NotStarted" in subject
    assert "MappedArgument" not in text
