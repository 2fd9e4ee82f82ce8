"""What went wrong: why runs failed, which customer files are broken, and what checks and audits found.

Why a run failed is in the errors that the workers kept (`data_export_airflow.alerting.listeners`). Broken files are in
the import errors of their names and of `dags/config_errors.py`, as the dag-processor last reported them. These are
read, not the files: that costs nothing at 5,000 files, agrees with what Airflow runs, and works where the API server
has no customer files.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
from sqlalchemy import Select, desc, func, or_, select
from sqlalchemy.orm import Session

from data_export.alerts.guide import GUIDES, anchor_of
from data_export.config.fields import SUFFIXES, name_meant
from data_export.config.models import dag_id as dag_id_of
from data_export.config.models import name_of
from data_export.wording import harmless
from data_export_airflow.alerting.callbacks import AUDIT_DAG, FAILURE
from data_export_airflow.dags.service_dags import AUDIT_TASK, CHECK_DAG, CHECK_TASK
from data_export_airflow.metadata.exports import bound, ours
from data_export_airflow.metadata.receipts import first_of_each

NO_REASON = "no reason kept: the worker was lost, the task timed out, or somebody marked it failed"
SOURCE_FILE = "config_errors.py"
_LINE = re.compile(r"(?P<path>.+?\.ya?ml|[^:]+)(?::(?P<line>\d+))?: (?P<message>.+)")
_ACTIVE = ("queued", "running")
_FIRST = (TaskInstance.end_date, TaskInstance.map_index)


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


def failures_since(session: Session, since: datetime) -> list[Failure]:
    """Of the runs that failed since, newest first; of the sites that failed alike in one the first."""
    statement = (
        _statement()
        .join(DagModel, DagModel.dag_id == DagRun.dag_id)
        .where(ours(DagModel.dag_id), DagModel.is_stale.is_(False))
        .where(DagRun._state == "failed", DagRun.end_date >= since)
    )
    of_a_kind = (DagRun.id, TaskInstance.task_id, XComModel.value["error"].as_string())
    found = session.execute(first_of_each(statement, of_a_kind, _FIRST).order_by(desc("end_date")))
    return [_failure(row) for row in found]


def reasons(session: Session, dag_id: str, run_ids: Collection[str]) -> dict[str, str]:
    """`task: error: message` of failed runs, by run_id: of the task that failed first."""
    statement = _statement().where(DagRun.dag_id == dag_id, DagRun.run_id.in_(run_ids))
    found = map(_failure, session.execute(first_of_each(statement, [DagRun.id], _FIRST))) if run_ids else ()
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
            "meaning": GUIDES[error].means if error in GUIDES else "",
            "anchor": anchor_of(error),
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
            DagRun.conf,
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
        .where(TaskInstance.state == "failed")
    )


def kept_error(kept: Any, unknown: str) -> tuple[str, str]:
    """The class of an error and its message, as a worker kept them; whoever may edit an XCom may have changed them."""
    said = kept if isinstance(kept, dict) else {}
    return harmless(str(said.get("error") or "Unknown")), harmless(str(said.get("message") or unknown), 2000)


def _failure(row: Any) -> Failure:
    error, message = kept_error(row.value, NO_REASON)
    start = bound(row.conf, "from") or row.data_interval_start
    return Failure(row.dag_id, row.run_id, row.end_date, start, row.task_id, error, message)


@dataclass(frozen=True, slots=True)
class Problem:
    """One line of the report; `dag_id` is None where it is about the folder."""

    file: str
    line: int | None
    message: str
    dag_id: str | None


def problems(session: Session) -> list[Problem]:
    """Every problem, in order of files."""
    names = (SOURCE_FILE, *(f"{suffix}.py" for suffix in SUFFIXES))
    is_ours = or_(*(ParseImportError.filename.endswith(name, autoescape=True) for name in names))
    texts = session.scalars(select(ParseImportError.stacktrace).where(is_ours).order_by(ParseImportError.filename))
    return [problem for text in texts for problem in parse(text or "")]


def parse(report: str) -> list[Problem]:
    """The lines `file:line: key: problem and fix` that follow the report's heading."""
    found = (_LINE.fullmatch(line) for line in report.splitlines()[1:])
    return [_problem(match["path"], match["line"], match["message"]) for match in found if match]


def _problem(path: str, line: str | None, message: str) -> Problem:
    file = PurePath(path)
    name = name_meant(file) if file.suffix.lower() in SUFFIXES else None
    return Problem(file.name, int(line) if line else None, message, dag_id_of(name) if name else None)


def last_check(session: Session, name: str) -> dict[str, Any]:
    """The newest result, None where the export was never checked; and whether a check of it is under way."""
    found = session.execute(
        select(XComModel.run_id, XComModel.map_index, XComModel.timestamp, XComModel.value)
        .where(XComModel.key == name, XComModel.dag_id == CHECK_DAG, XComModel.task_id == CHECK_TASK)
        .order_by(XComModel.timestamp.desc())
        .limit(1)
    ).first()
    result = _result(found)
    at = {"at": found.timestamp} if found else {}
    return {"result": result and at | result, "running": _is_running(session, name)}


def _result(found: Any) -> dict[str, Any] | None:
    """None where there is none, or whoever may edit an XCom made something else of it."""
    if found is None or not isinstance(found.value, dict):
        return None
    return {"run_id": found.run_id, "map_index": found.map_index, **found.value}


def last_audit(session: Session, name: str) -> dict[str, Any] | None:
    """The newest result of `data_export_audit` for an export; None where it was never audited."""
    return _result(
        session.execute(
            select(XComModel.run_id, XComModel.map_index, XComModel.value)
            .where(XComModel.key == name, XComModel.dag_id == AUDIT_DAG, XComModel.task_id == AUDIT_TASK)
            .order_by(XComModel.timestamp.desc())
            .limit(1)
        ).first()
    )


def audits(session: Session) -> dict[str, str]:
    """By export, in words, what its last audit found missing or damaged, or why it could not look."""
    ours_only = (XComModel.dag_id == AUDIT_DAG, XComModel.task_id == AUDIT_TASK, XComModel.key != XCOM_RETURN_KEY)
    newest = select(XComModel.key, func.max(XComModel.timestamp).label("at")).where(*ours_only).group_by(XComModel.key)
    last = newest.subquery()
    columns = (XComModel.key, *(XComModel.value[name].label(name) for name in ("at", "error", "damaged", "repairs")))
    rows = session.execute(
        select(*columns)
        .join(last, (XComModel.key == last.c.key) & (XComModel.timestamp == last.c.at))
        .where(*ours_only)
    )
    found = ((row.key, audit_in_words(row._asdict())) for row in rows if row.damaged or row.error)
    return {key: words for key, words in found if words}


def audit_in_words(result: Mapping[str, Any]) -> str:
    """What an audit found, as one part of a sentence; empty where somebody made something else of the XCom."""
    try:
        return harmless(_in_words(result), 2000)
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""


def _in_words(result: Mapping[str, Any]) -> str:
    of = f"the audit of {result['at'][:10]}"
    if error := result.get("error"):
        return f"{of} could not look: {error}"
    if not (damaged := result["damaged"]):
        rest = "; it did not get to all of them" if any(map(result.get, ("left", "cut", "unknown"))) else ""
        return f"{of} found {result['objects']:,} objects as they were delivered{rest}"
    repairs = result["repairs"]
    again = f", {repairs:,} run{'s' * (repairs != 1)} cleared to repair" if repairs else ""
    return f"{of} found {damaged:,} missing or damaged{again}"


def can_check(session: Session) -> bool:
    """Whether there is the DAG that checks: an installation may have removed it."""
    return session.scalar(select(DagModel.is_stale).where(DagModel.dag_id == CHECK_DAG)) is False


def _is_running(session: Session, name: str) -> bool:
    active = select(DagRun.conf).where(DagRun.dag_id == CHECK_DAG, DagRun._state.in_(_ACTIVE))
    return any((conf or {}).get("export") in (None, "", name) for conf in session.scalars(active))
