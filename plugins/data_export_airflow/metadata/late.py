"""What is not there yet: the windows that the watch found late at its last look, without what was delivered since; and
the tasks that have failed and are tried again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
from sqlalchemy import case, or_, select, tuple_
from sqlalchemy.orm import Session

from data_export.alerts.watch import LateSpan, Report
from data_export.config.models import dag_id as dag_id_of
from data_export.wording import harmless
from data_export_airflow.alerting.callbacks import FAILURE
from data_export_airflow.dags.service_dags import WATCH_DAG, WATCH_TASK
from data_export_airflow.metadata.exports import of_schedule, ours, ran_by_hand
from data_export_airflow.metadata.failures import kept_error
from data_export_airflow.metadata.missing import windows_delivered
from data_export_airflow.metadata.receipts import chunked, first_of_each

#: A look may wait for a worker and take so long.
_PATIENCE = timedelta(minutes=15)
#: Clocks of workers and of the API server may differ, and a delivery is seen once its transaction has ended.
_APART = timedelta(minutes=5)
#: People may trigger the watch with a logical date of their own, so the last look need not be of the newest run.
_RUNS = 5
_TRIGGER = f"Trigger {WATCH_DAG}."
#: Where the watch runs, but not for this export.
UNREADABLE = (
    "Late windows of this export are not known: the watch cannot work out its windows. "
    f"The log of {WATCH_TASK} in {WATCH_DAG} says why."
)


@dataclass(frozen=True, slots=True)
class Lateness:
    """What is late of one export, oldest first, and whether all of it has a failed run."""

    spans: tuple[LateSpan, ...]
    failed: bool

    @property
    def since(self) -> datetime:
        return min(span.by for span in self.spans)

    @property
    def windows(self) -> int:
        return sum(span.count for span in self.spans)


@dataclass(frozen=True, slots=True)
class LateNow:
    """By dag_id what is late; or, in `unknown`, why that is not known, and the fix.

    `unreadable` are the exports whose own windows the watch cannot find out.
    """

    late: Mapping[str, Lateness]
    unknown: str | None = None
    unreadable: frozenset[str] = frozenset()


def late_now(session: Session, dag_ids: Collection[str], now: datetime) -> LateNow:
    """Of exports whose windows become due; a pause or removal since the last look leaves an export out."""
    value = _last_result(session)
    try:
        report = None if value is None else Report.from_dict(value)
    except ValueError:
        return LateNow({}, f"Late windows are not known: the page cannot read what the watch found. {_TRIGGER}")
    if report is None or now > report.next + _PATIENCE:
        return LateNow({}, _why(session, report))
    named = {dag_id_of(name): spans for name, spans in report.late.items()}
    asked = {dag_id: named[dag_id] for dag_id in dag_ids if dag_id in named}
    delivered = windows_delivered(session, asked, report.at - _APART)
    waiting = {
        dag_id: left
        for dag_id, spans in asked.items()
        if (left := tuple(span for span in spans if not any(span.is_in(window) for window in delivered[dag_id])))
    }
    failed = _failed(session, waiting)
    late = {
        dag_id: Lateness(spans, all(span.count == 1 and (dag_id, span.start) in failed for span in spans))
        for dag_id, spans in waiting.items()
    }
    return LateNow(late, unreadable=frozenset(map(dag_id_of, report.unknown)))


def _last_result(session: Session) -> object:
    """What the watch returned last; None where it never did."""
    looks = (
        select(DagRun.id)
        .join(XComModel, XComModel.dag_run_id == DagRun.id)
        .where(DagRun.dag_id == WATCH_DAG, XComModel.task_id == WATCH_TASK, XComModel.key == XCOM_RETURN_KEY)
        .limit(_RUNS)
    )
    # Each by its end of the index on (dag_id, logical_date): a year of looks is 35,000 runs.
    dated = looks.where(DagRun.logical_date.is_not(None)).order_by(DagRun.logical_date.desc())
    undated = looks.where(DagRun.logical_date.is_(None)).order_by(DagRun.id.desc())
    runs = [*session.scalars(dated), *session.scalars(undated)]
    result = select(XComModel.value).where(
        XComModel.dag_run_id.in_(runs), XComModel.task_id == WATCH_TASK, XComModel.key == XCOM_RETURN_KEY
    )
    return session.scalars(result.order_by(XComModel.timestamp.desc()).limit(1)).first() if runs else None


def _failed(session: Session, late: Mapping[str, tuple[LateSpan, ...]]) -> set[tuple[str, datetime]]:
    """DAG and start of the windows whose run has failed, or that of a range by hand that holds them."""
    windows = ((dag_id, span.start) for dag_id, spans in late.items() for span in spans if span.count == 1)
    statement = select(DagRun.dag_id, DagRun.logical_date).where(DagRun._state == "failed", of_schedule())
    rows = chunked(session, statement, tuple_(DagRun.dag_id, DagRun.logical_date), windows)
    failed = {(row.dag_id, row.logical_date) for row in rows}
    for dag_id, run in ran_by_hand(session, late, DagRun._state == "failed"):
        failed |= {(dag_id, span.start) for span in late[dag_id] if run.start <= span.start and span.end <= run.end}
    return failed


def _why(session: Session, last: Report | None) -> str:
    since = f" since {last.at:%Y-%m-%d %H:%M} UTC" if last else ""
    return f"Late windows are not known{since}: {_fault(session)}"


def _fault(session: Session) -> str:
    dag = session.execute(select(DagModel.is_paused, DagModel.is_stale).where(DagModel.dag_id == WATCH_DAG)).first()
    if dag is None or dag.is_stale:
        return f"Airflow has no DAG {WATCH_DAG}. Look at the import errors, and whether the file is there."
    if dag.is_paused:
        return f"the watch has not run. {WATCH_DAG} is paused: unpause it."
    newest = select(DagRun._state).where(DagRun.dag_id == WATCH_DAG).order_by(DagRun.run_after.desc()).limit(1)
    if session.scalar(newest) == "failed":
        return f"the watch failed. The log of {WATCH_TASK} in {WATCH_DAG} says why."
    return f"the watch has not run. Look whether the scheduler and the workers run. {_TRIGGER}"


@dataclass(frozen=True, slots=True)
class Retry:
    """A task that has failed and is tried again: try `number` of `tries`, `at` some time; None while it is under way.

    `error` is the class of what the last try met, and `message` its line.
    """

    dag_id: str
    run_id: str
    task_id: str
    error: str
    message: str
    number: int
    tries: int
    at: datetime | None

    @property
    def words(self) -> str:
        """As the page, `status` and the run's note say it."""
        return retry_note(self.task_id, f"{self.error}: {self.message}", self.number, self.tries, self.at)


def retry_note(task_id: str, reason: str, number: int, tries: int, at: datetime | None) -> str:
    when = f" at {at:%Y-%m-%d %H:%M:%S} UTC" if at else ""
    return f"{task_id}: {reason} (try {number} of {tries}{when})"


def retries(session: Session, dag_id: str | None = None) -> dict[tuple[str, str], Retry]:
    """By dag_id and run_id, of the tasks that are tried again the one with the most tries behind it, in that order."""
    task, past = TaskInstance, TaskInstanceHistory
    same = (past.dag_id == task.dag_id) & (past.run_id == task.run_id) & (past.task_id == task.task_id)
    before = same & (past.map_index == task.map_index) & (past.try_number == task.try_number - 1)
    kept = (
        (XComModel.dag_id == task.dag_id)
        & (XComModel.run_id == task.run_id)
        & (XComModel.task_id == task.task_id)
        & (XComModel.map_index == task.map_index)
        & (XComModel.key == FAILURE)
    )
    waits = task.state == "up_for_retry"
    again = task.state.in_(("scheduled", "queued", "running")) & (task.try_number > 1) & past.retry_reason.is_not(None)
    number = (task.try_number + case((waits, 1), else_=0)).label("number")  # of the try that comes, or is under way
    columns = (task.dag_id, task.run_id, task.task_id, task.state, number, task.max_tries, task.end_date)
    statement = (
        select(
            *columns, task.retry_delay_override, task.retry_reason, past.retry_reason.label("before"), XComModel.value
        )
        .outerjoin(past, before)
        .outerjoin(XComModel, kept)
        .where(or_(waits, again), task.dag_id == dag_id if dag_id else ours(task.dag_id))
    )
    most = (number.desc(), task.task_id, task.map_index)
    # In this order, since of an export's runs the list shows the last one.
    found = first_of_each(statement, (task.dag_id, task.run_id), most).order_by("number", "run_id")
    return {(row.dag_id, row.run_id): _retry(row) for row in session.execute(found)}


def _retry(row: Any) -> Retry:
    is_waiting = row.state == "up_for_retry"
    error, _, message = ((row.retry_reason if is_waiting else row.before) or "").partition(": ")
    if not message:
        error, message = kept_error(row.value, "see the task's log")
    at = (
        row.end_date + timedelta(seconds=row.retry_delay_override)
        if row.end_date and row.retry_delay_override
        else None
    )
    return Retry(
        row.dag_id,
        row.run_id,
        row.task_id,
        harmless(error),
        harmless(message, 2000),
        row.number,
        max(row.max_tries + 1, row.number),
        at if is_waiting else None,
    )
