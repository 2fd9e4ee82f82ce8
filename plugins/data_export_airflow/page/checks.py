"""What `data_export_check` last found of an export."""

from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from data_export_airflow.dags.check_dag import CHECK_DAG, CHECK_TASK

_ACTIVE = ("queued", "running")


def last_check(session: Session, name: str) -> dict[str, Any]:
    """The newest result, None where the export was never checked; and whether a check of it is under way."""
    found = session.execute(
        select(XComModel.run_id, XComModel.map_index, XComModel.timestamp, XComModel.value)
        .where(XComModel.key == name, XComModel.dag_id == CHECK_DAG, XComModel.task_id == CHECK_TASK)
        .order_by(XComModel.timestamp.desc())
        .limit(1)
    ).first()
    return {
        "result": found
        and {"run_id": found.run_id, "map_index": found.map_index, "at": found.timestamp, **found.value},
        "running": _is_running(session, name),
    }


def can_check(session: Session) -> bool:
    """Whether there is the DAG that checks: an installation may have removed it."""
    return session.scalar(select(DagModel.is_stale).where(DagModel.dag_id == CHECK_DAG)) is False


def _is_running(session: Session, name: str) -> bool:
    active = select(DagRun.conf).where(DagRun.dag_id == CHECK_DAG, DagRun._state.in_(_ACTIVE))
    return any((conf or {}).get("export") in (None, "", name) for conf in session.scalars(active))
