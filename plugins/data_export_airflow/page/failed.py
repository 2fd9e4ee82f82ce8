"""Why runs failed: the errors that the workers kept (`data_export_airflow.alerting.listeners`)."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from data_export import errors
from data_export.config.models import name_of
from data_export_airflow.alerting.listeners import FAILURE
from data_export_airflow.page.newest import ours

NO_REASON = "no reason kept: the worker was lost, the task timed out, or somebody marked it failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed task of a failed run."""

    dag_id: str
    run_id: str
    at: datetime
    window_start: datetime | None
    task_id: str
    error: str
    message: str


def failures(session: Session, since: datetime) -> list[Failure]:
    """Of the runs that failed since, newest first."""
    statement = (
        _statement()
        .join(DagModel, DagModel.dag_id == DagRun.dag_id)
        .where(ours(DagModel.dag_id), DagModel.is_stale.is_(False), DagRun.end_date >= since)
        .order_by(DagRun.end_date.desc())
    )
    return [_failure(row) for row in session.execute(statement)]


def reasons(session: Session, dag_id: str, run_ids: Collection[str]) -> dict[str, str]:
    """`task: error: message` of failed runs, by run_id."""
    statement = _statement().where(DagRun.dag_id == dag_id, DagRun.run_id.in_(run_ids))
    found = map(_failure, session.execute(statement)) if run_ids else ()
    return {failure.run_id: f"{failure.task_id}: {failure.error}: {failure.message}" for failure in found}


def by_reason(found: list[Failure]) -> list[dict[str, Any]]:
    """The failures grouped by kind of error, the most frequent first."""
    groups: dict[str, list[Failure]] = defaultdict(list)
    for failure in found:
        groups[failure.error].append(failure)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {
            "error": error,
            "meaning": _meaning(error),
            "runs": len({(failure.dag_id, failure.run_id) for failure in group}),
            "exports": len({failure.dag_id for failure in group}),
            "examples": [
                {
                    "dag_id": failure.dag_id,
                    "name": name_of(failure.dag_id),
                    "run_id": failure.run_id,
                    "at": failure.at,
                    "window_start": failure.window_start,
                    "message": f"{failure.task_id}: {failure.message}",
                }
                for failure in group[:5]
            ],
        }
        for error, group in ordered
    ]


def _statement() -> Select[Any]:
    return (
        select(
            DagRun.dag_id,
            DagRun.run_id,
            DagRun.end_date,
            DagRun.data_interval_start,
            TaskInstance.task_id,
            XComModel.value,
        )
        .join(TaskInstance, (TaskInstance.dag_id == DagRun.dag_id) & (TaskInstance.run_id == DagRun.run_id))
        .outerjoin(
            XComModel,
            (XComModel.dag_run_id == DagRun.id)
            & (XComModel.task_id == TaskInstance.task_id)
            & (XComModel.map_index == TaskInstance.map_index)
            & (XComModel.key == FAILURE),
        )
        .where(DagRun._state == "failed", TaskInstance.state == "failed")
    )


def _failure(row: Any) -> Failure:
    kept = row.value or {"error": "Unknown", "message": NO_REASON}
    return Failure(
        row.dag_id, row.run_id, row.end_date, row.data_interval_start, row.task_id, kept["error"], kept["message"]
    )


def _meaning(error: str) -> str:
    """The first line of the error's own description; empty for errors that are not the service's."""
    kind = getattr(errors, error, None)
    return (kind.__doc__ or "").partition("\n")[0] if isinstance(kind, type) else ""
