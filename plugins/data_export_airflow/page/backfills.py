"""Backfills of one export that have runs left."""

from typing import Any

from airflow.models.backfill import Backfill, BackfillDagRun
from airflow.models.dagrun import DagRun
from sqlalchemy import func, select
from sqlalchemy.orm import Session

_ACTIVE = ("queued", "running")


def under_way(session: Session, dag_id: str) -> list[dict[str, Any]]:
    """By its runs, not by what Airflow says of it, which notices the end of one up to half a minute late.

    `from` and `to` are the starts of its first and its last window, `windows` counts all and `left` those not over.
    """
    windows = select(func.count()).select_from(BackfillDagRun).where(BackfillDagRun.backfill_id == Backfill.id)
    left = select(func.count()).select_from(DagRun)
    left = left.where(DagRun.dag_id == dag_id, DagRun.backfill_id == Backfill.id, DagRun._state.in_(_ACTIVE))
    statement = select(
        Backfill.id,
        Backfill.from_date.label("from"),
        Backfill.to_date.label("to"),
        Backfill.is_paused,
        windows.scalar_subquery().label("windows"),
        left.scalar_subquery().label("left"),
    ).where(Backfill.dag_id == dag_id, Backfill.completed_at.is_(None))
    rows = [dict(row._mapping) for row in session.execute(statement.order_by(Backfill.id))]
    return [row for row in rows if row["left"] or not row["windows"]]  # one without windows is just being made
