"""The operators in DAGs of one's own, run by Airflow on a real source and local folders."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.sdk import DAG
from sqlalchemy.orm import Session

from data_export.layout import data_key
from data_export.window import ExportWindow
from data_export_airflow.operators import CloseExportOperator, PrepareExportOperator, export_sites
from demo.data import LYON, PARIS, build
from demo.expected import expected_file
from tests.page.history import BUNDLE

START, END = datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC)
DAY = ExportWindow(START, END)
TYPE = "work-orders-timeline"


def config(folder: Path, *sites: Any, **more: Any) -> dict[str, Any]:
    return {
        "site_id": [str(site) for site in sites or (PARIS,)],
        "interval": "daily",
        "start_date": "2025-03-15",
        "connector_type": "cloud_storage",
        "connector_config": {"storage_uri": f"file://{folder}/target/", "export_images": False},
    } | more


def exporting(dag_id: str = "my_own", **prepare: Any) -> DAG:
    with DAG(dag_id, schedule=None, params=prepare.pop("params", None)) as dag:
        prepared = PrepareExportOperator(task_id="prepare", **prepare)
        delivered = export_sites(prepared.plan, prepared.output)
        CloseExportOperator(task_id="close", plan=prepared.plan, sites=delivered)
    return dag


def run(dag: DAG, folder: Path, **options: Any) -> Any:
    """A run of the DAG by Airflow itself, without a scheduler."""
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(folder / "no-dags", bundle_path=folder, bundle_name=BUNDLE)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, BUNDLE, None)
    return dag.test(**{"logical_date": START} | options)


def test_a_dag_of_ones_own_needs_no_customer_file(db: Session, installation: Path) -> None:
    bounds = {"start": "{{ params.day }}T00:00:00Z", "end": "{{ params.day }}T24:00:00Z"}
    bounds["end"] = "2025-03-17T00:00:00+00:00"
    dag = exporting(config=config(installation, PARIS, LYON), **bounds, params={"day": "2025-03-16"})
    assert run(dag, installation).state == "success"
    for site in (PARIS, LYON):
        content = (installation / "target" / data_key(site, TYPE, DAY)).read_bytes()
        assert content == expected_file(build(), site, TYPE, START, END)
        assert content
