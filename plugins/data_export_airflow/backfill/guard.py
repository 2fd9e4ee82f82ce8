"""Keeps Airflow's own backfills within an export's limits, however they are created."""

from typing import Any

from airflow.models.backfill import Backfill, NoBackfillRunsToCreate
from sqlalchemy import event

from data_export.config.models import name_of


def guard_backfills() -> None:
    """From now on this process makes no backfill of an export that breaks its limits.

    Airflow has no hook for it. UI, REST and `airflow backfill create` have in common that they make a row of the table
    `backfill` first, which SQLAlchemy tells of. Were this left out, a run's first step would still refuse each window.
    """
    if not event.contains(Backfill, "init", _keep_limits):
        event.listen(Backfill, "init", _keep_limits)


def _keep_limits(_: Backfill, __: tuple[()], columns: dict[str, Any]) -> None:
    """No more runs at once than `limits.max_active_runs`, whatever is asked for; REST asks for 10 unless told.

    Raises:
        NoBackfillRunsToCreate: a window begins before `start_date`, the runs are given a range of their own, or fewer
            than one is to run at once, which Airflow takes and never starts. It shows the message to whoever asked.
    """
    dag, asked = columns["dag_model"], columns["max_active_runs"]
    if name_of(dag.dag_id) is None:
        return
    if asked is not None and asked < 1:
        raise NoBackfillRunsToCreate(f"max_active_runs {asked}: no run would ever start: ask for 1 or more")
    columns["max_active_runs"] = min(asked or dag.max_active_runs, dag.max_active_runs)
    conf = columns["dag_run_conf"] or {}
    if conf.get("from") or conf.get("to"):
        raise NoBackfillRunsToCreate(
            "a backfill runs the windows of the schedule, each once: leave the parameters `from` and `to` empty, or "
            "trigger a single run with them, which makes one file for exactly that range"
        )
    first = next(iter(dag.iter_dagrun_infos_between(columns["from_date"], columns["to_date"])), None)
    if first is not None and first.data_interval.start < dag.start_date:
        raise NoBackfillRunsToCreate(
            f"the window that begins at {first.data_interval.start.isoformat()} is before the export's start_date: "
            f"begin the backfill at {dag.start_date.isoformat()}, or set an earlier start_date in the customer file"
        )
