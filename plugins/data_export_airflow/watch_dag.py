"""The DAG that looks for windows that were not delivered in time."""

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, get_current_context, task

from data_export_airflow.alerts import on_failure

_EVERY_MINUTES = 15
_DOC = """Looks every 15 minutes for exports with a window that was not delivered within `limits.late_after_hours`, be
its run slow, stuck, or never made, and for exports whose customer file is broken; tells their owners and the platform's
list, once per export a day. Paused exports are left alone. The log of `look` says how many it found."""


def build_watch_dag() -> DAG:
    """One task, never two at once; a look that was missed is not made up for, since the next sees the same."""
    with DAG(
        "data_export_watch",
        schedule=f"*/{_EVERY_MINUTES} * * * *",
        start_date=datetime(2025, 1, 1),  # noqa: DTZ001 - Airflow reads it as UTC
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags={"data-export", "watch"},
        doc_md=_DOC,
    ) as dag:
        task(
            task_id="look",
            retries=1,
            retry_delay=timedelta(minutes=1),
            execution_timeout=timedelta(minutes=_EVERY_MINUTES - 1),
            on_failure_callback=on_failure,
        )(_look)()
    return dag


def _look() -> dict[str, Any]:
    from data_export_airflow.watching import watch

    return {**watch(get_current_context())}
