"""A task that has failed, and a receipt with something left out, for the tests of who is told of them."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from data_export.errors import AccessDenied
from data_export.receipt import Receipt

OWNER, PLATFORM = "owner@platform.example", "data-platform@platform.example"
START = datetime(2025, 3, 16, tzinfo=UTC)
FAULT = AccessDenied("gs://bucket: not granted: grant roles/storage.objectCreator")


def context(
    site: int = 0, run: int = 16, error: BaseException | None = FAULT, owner: str = OWNER, export: str = "acme"
) -> dict[str, Any]:
    """Of a task that has failed, as Airflow gives it to a callback."""
    start = START.replace(day=run)
    run_id = f"scheduled__{start:%Y-%m-%d}"
    return {
        "ti": SimpleNamespace(
            dag_id=f"data_export__{export}",
            run_id=run_id,
            task_id="deliver",
            map_index=site,
            try_number=1,
            hostname="worker-1",
            log_url=f"http://airflow.example/dags/data_export__{export}/runs/{run_id}/tasks/deliver",
            xcom_pull=lambda **_: None,
        ),
        "task": SimpleNamespace(owner=owner, site_id=f"site-{site}"),
        "dag_run": SimpleNamespace(data_interval_start=start, data_interval_end=start + timedelta(days=1)),
        "params": {},
        "exception": error,
    }


def receipt(quarantined: int) -> Receipt:
    site = {"site_id": "433a60f6-9756-473e-b1e9-9e89e24bb787", "work_orders": 9, "quarantined": quarantined}
    return Receipt.model_validate(
        {
            "export": "acme",
            "export_type": "work-orders-timeline",
            "window": {"start": START.isoformat(), "end": (START + timedelta(days=1)).isoformat()},
            "connector": "gs",
            "target": "gs://bucket/",
            "config_hash": "",
            "delivered_at": "",
            "sites": [site | {"bytes": 1, "sha256": "", "uri": "", "outcome": "created"}],
        }
    )
