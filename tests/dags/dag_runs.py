"""DAGs of customer files and of one's own, and runs of them by Airflow itself, without a scheduler."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from sqlalchemy import select
from sqlalchemy.orm import Session

from data_export.config.load import load_named
from data_export.config.platform import load_platform
from data_export.limits import limits_of
from data_export.window import ExportWindow
from data_export_airflow.dags.factory import build_dag
from demo.data import PARIS
from tests.page.history import BUNDLE

START, END = datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC)
DAY = ExportWindow(START, END)
TYPE = "work-orders-timeline"
RANGE = {"from": START.isoformat(), "to": END.isoformat()}


def config(folder: Path, *sites: Any, **more: Any) -> dict[str, Any]:
    return {
        "site_id": [str(site) for site in sites or (PARIS,)],
        "interval": "daily",
        "start_date": "2025-03-15",
        "connector_type": "cloud_storage",
        "connector_config": {"storage_uri": f"file://{folder}/target/", "export_images": False},
    } | more


def run(dag: DAG, folder: Path, **options: Any) -> Any:
    """A run of the DAG by Airflow itself, without a scheduler.

    Airflow parses and stores the DAG's whole bundle once more for each: it has nothing in it but this DAG.
    """
    path = folder / "no-dags"
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundle = {"name": BUNDLE, "classpath": local, "kwargs": {"path": str(path)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
        DagBundlesManager().sync_bundles_to_db()
        bag = DagBag(path, bundle_path=folder, bundle_name=BUNDLE)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, BUNDLE, None)
        return dag.test(**{"logical_date": START} | options)


def customer_dag(customers: Path, name: str, **values: Any) -> DAG:
    """The DAG that the factory makes of a customer file."""
    (customers / f"{name}.yaml").write_text(json.dumps(config(customers.parent) | values))
    export = load_named(name)
    return build_dag(name, export, limits_of(name, export, load_platform().limits))


def xcoms(db: Session, dag: DAG, task_id: str) -> dict[str, Any]:
    rows = db.execute(
        select(XComModel.key, XComModel.value).where(XComModel.dag_id == dag.dag_id, XComModel.task_id == task_id)
    )
    return {row.key: row.value for row in rows}
