"""Every DAG of docs/operators.md is parsed and run, on a real source, a real SFTP server and local folders."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.sdk import DAG
from sqlalchemy.orm import Session

from data_export.layout import data_key
from data_export.window import ExportWindow
from data_export_airflow.alerting.callbacks import MAINTENANCE_DAG, on_failure
from data_export_airflow.dags.service_dags import WATCH_DAG
from data_export_airflow.metadata.airflow_database import create_pool
from data_export_airflow.operators.base import POOLS
from demo.data import COLUMNS, PARIS, DemoData, build
from demo.expected import expected_file
from demo.servers.sftp import SftpServer
from tests.page.history import BUNDLE

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
TYPE, START, END = "work-orders-timeline", datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC)
FILE = """\
site_id: [{site}]
interval: daily
start_date: 2025-03-15
connector_type: cloud_storage
connector_config:
  storage_uri: file://{folder}/acme-bucket/timeline/
  export_images: true
"""


@pytest.fixture
def places(installation: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, SftpServer]]:
    """What the page's names stand for: the folder in place of all buckets, and the server of `acme_sftp`."""
    customers = installation / "customers"
    customers.mkdir()
    (customers / "acme-timeline.yaml").write_text(FILE.format(site=PARIS, folder=installation))
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(customers))
    monkeypatch.setenv("DATA_EXPORT_ALERTS__EMAILS", "[]")
    with SftpServer(installation / "sftp") as server:
        extra = {
            "private_key": server.private_key_path.read_text(),
            "private_key_passphrase": server.passphrase,
            "host_key": server.host_key,
        }
        login = {"conn_type": "sftp", "host": server.host, "port": server.port, "login": server.username}
        monkeypatch.setenv("AIRFLOW_CONN_ACME_SFTP", json.dumps(login | {"extra": extra}))
        yield installation, server


def dags(folder: Path) -> dict[str, DAG]:
    """The page's DAGs as Airflow finds them in files, with folders in place of buckets."""
    files = folder / "dags"
    files.mkdir()
    for number, block in enumerate(BLOCKS):
        (files / f"page_{number}.py").write_text(block.replace("gs://", f"file://{folder}/"))
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(files, bundle_path=files, bundle_name=BUNDLE)
    assert bag.import_errors == {}
    assert len(bag.dags) == len(BLOCKS)
    sync_bag_to_db(bag, BUNDLE, None)
    return {name: dag for name, dag in bag.dags.items() if isinstance(dag, DAG)}


def test_every_dag_of_the_page_runs_and_delivers(db: Session, places: tuple[Path, SftpServer]) -> None:
    folder, server = places
    report = folder / "reports-bucket" / "daily" / "report.csv"
    report.parent.mkdir(parents=True)
    report.write_bytes(b"a,b\n1,2\n")
    for name, (slots, description) in POOLS.items():  # the check looks for them
        create_pool(name, slots, description)
    for dag in dags(folder).values():
        assert dag.test(logical_date=END).state == "success", dag.dag_id

    data, window = build(), ExportWindow(START, END)
    expected = expected_file(data, PARIS, TYPE, START, END)
    for target in ("on-demand", "timeline"):
        assert (folder / "acme-bucket" / target / data_key(PARIS, TYPE, window)).read_bytes() == expected
    (delivered,) = (server.root / "reports").iterdir()
    assert delivered.read_bytes() == report.read_bytes()
    lines = (server.root / "items" / "2025-03-16.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"] for line in lines} == _items_created(data) != set()


def test_the_services_own_dags_report_their_failures_in_the_page_too(
    db: Session, places: tuple[Path, SftpServer]
) -> None:
    found = dags(places[0])
    for name in (WATCH_DAG, MAINTENANCE_DAG):
        assert {tuple(task.on_failure_callback) for task in found[name].tasks} == {(on_failure,)}
        assert found[name].is_paused_upon_creation is False


def _items_created(data: DemoData) -> set[str]:
    rows = {table: [dict(zip(COLUMNS[table], row, strict=True)) for row in data.tables[table]] for table in COLUMNS}
    orders = {row["id"] for row in rows["work_order"] if row["create_date"] and START <= row["create_date"] < END}
    return {str(row["id"]) for row in rows["work_item"] if row["work_order_id"] in orders}
