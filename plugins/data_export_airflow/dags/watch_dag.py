"""The DAG that looks for windows that were not delivered in time."""

from datetime import datetime

from airflow.sdk import DAG

from data_export.config.platform import load_platform
from data_export.config.sections import AlertSettings
from data_export.errors import ConfigError
from data_export_airflow.alerting.callbacks import on_failure
from data_export_airflow.operators.watch import WatchExportsOperator

_DOC = """Looks, as often as `alerts.watch_schedule` says, for exports with a window that was not delivered within
`limits.late_after_hours`, be its run slow, stuck, or never made, and for exports whose customer file is broken; tells
their owners and the platform's list, once per export a day. Paused exports are left alone. The log of `look` says how
many it found."""


def build_watch_dag() -> DAG:
    """One task, never two at once; a look that was missed is not made up for, since the next sees the same."""
    with DAG(
        "data_export_watch",
        schedule=_schedule(),
        start_date=datetime(2025, 1, 1),  # noqa: DTZ001 - Airflow reads it as UTC
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags={"data-export", "watch"},
        doc_md=_DOC,
    ) as dag:
        WatchExportsOperator(task_id="look", on_failure_callback=on_failure)
    return dag


def _schedule() -> str:
    """The default where platform.yaml is broken: its task then fails and tells why."""
    try:
        return load_platform().alerts.watch_schedule
    except ConfigError:
        return AlertSettings().watch_schedule
