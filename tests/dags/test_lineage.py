"""What OpenLineage's own provider and client send of a real run, to a file; and that the service does not need them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.listener import get_listener_manager
from sqlalchemy.orm import Session

from data_export.source.queries import source_tables
from data_export.source.sql_text import tables_read
from data_export_airflow.operators import DeliverFileOperator
from data_export_airflow.telemetry.lineage import _named, of_delivery, of_file
from demo.data import PARIS
from tests.dags.dag_runs import RANGE, customer_dag, run, xcoms

TABLES = ["work_order", "work_item", "input", "data_conformity", "job_conformity"]


@pytest.mark.parametrize("export_type", ["work-orders-timeline", "work-orders-states"])
def test_the_tables_are_those_of_the_queries(export_type: str) -> None:
    assert source_tables(export_type) == TABLES


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1 FROM a JOIN b ON true", ["a", "b"]),
        ('select 1 from "Big"."Table" left join s.t using (id) -- from c', ["Big.Table", "s.t"]),
        ("SELECT 'from x' FROM (SELECT 1 FROM a) AS y /* join z */", ["a"]),
        ("SELECT 1 FROM a, LATERAL (SELECT 1 FROM a) AS b", ["a"]),
        ("SELECT 1", []),
    ],
)
def test_tables_are_read_as_postgresql_reads_them(sql: str, tables: list[str]) -> None:
    assert tables_read(sql) == tables


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("gs://bucket/a b/c?d#e.json", ("gs://bucket", "a b/c?d#e.json")),
        ("s3://bucket/f.json", ("s3://bucket", "f.json")),
        ("sftp://bob@host.example:2222/in/f.json", ("sftp://host.example:2222", "in/f.json")),
        ("abfs://acme@platform/in/f.json", ("abfs://acme@platform", "in/f.json")),  # its container
        ("file:///data/a%20b.json", ("file", "/data/a b.json")),
    ],
)
def test_datasets_are_named_as_openlineage_asks_and_without_users(uri: str, named: tuple[str, str]) -> None:
    assert _named(uri) == named


def test_without_the_provider_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", None)
    assert of_file("gs://a/b", "gs://c/d", 1) is None


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the events go; the provider's listener is there however its plugin was loaded by tests before."""
    conf = pytest.importorskip("airflow.providers.openlineage.conf", reason="its provider is not installed")
    file = tmp_path / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    forget_settings(conf)
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener

    manager, listener = get_listener_manager(), get_openlineage_listener()
    present = manager.pm.is_registered(listener)
    if not present:
        manager.add_listener(listener)
    yield file
    if not present:
        manager.pm.unregister(listener)
    forget_settings(conf)


def forget_settings(conf: Any) -> None:
    """The provider reads each of its settings once in a process."""
    for name in ("transport", "config_path", "config_conn_id", "is_disabled"):
        getattr(getattr(conf, name), "cache_clear", lambda: None)()


def emitted(events: Path, task: str) -> dict[str, Any]:
    """The one event of a task's success that the provider's listener has sent."""
    found: list[dict[str, Any]] = [json.loads(line) for line in events.read_text().splitlines()]
    (event,) = [
        each for each in found if each["eventType"] == "COMPLETE" and each["job"]["name"].rpartition(".")[2] == task
    ]
    return event


def test_a_delivery_reports_tables_folder_rows_and_bytes(db: Session, customers: Path, events: Path) -> None:
    dag = customer_dag(customers, "acme")
    assert run(dag, customers, logical_date=None, run_conf=RANGE).state == "success"
    event = emitted(events, "deliver")
    (site,) = xcoms(db, dag, "close")["return_value"]["sites"]
    assert [each["name"].partition(".")[2] for each in event["inputs"]] == [f"public.{name}" for name in TABLES]
    assert all(each["namespace"].startswith("postgres://") for each in event["inputs"])
    (output,) = event["outputs"]
    assert output["namespace"] == "file"
    assert site["uri"].startswith(f"file://{output['name']}/")
    assert output["name"].endswith(f"{PARIS}/data/work-orders-timeline")
    facets = output["outputFacets"]
    assert facets["outputStatistics"]["rowCount"] == site["work_orders"]
    assert facets["outputStatistics"]["size"] == site["bytes"]
    delivery = facets["dataExport_delivery"]
    assert (delivery["uri"], delivery["sha256"], delivery["outcome"]) == (site["uri"], site["sha256"], "created")
    assert delivery["windowStart"] == "2025-03-16T00:00:00+00:00"
    assert emitted(events, "extract")["outputs"] == []


def test_a_file_is_reported_from_and_to(
    db: Session, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true")
    source, target = tmp_path / "a.json", tmp_path / "b" / "c.json"
    source.write_text("{}\n")
    with DAG("hands_on", schedule=None) as dag:
        DeliverFileOperator(task_id="hand_on", source_uri=f"file://{source}", target_uri=f"file://{target}")
    assert run(dag, tmp_path).state == "success"
    event = emitted(events, "hand_on")
    assert [each["name"] for each in event["inputs"] + event["outputs"]] == [str(source), str(target)]
    assert event["outputs"][0]["outputFacets"]["outputStatistics"]["size"] == 3


def test_a_link_by_mail_gives_nothing_away_and_a_fault_costs_nothing(events: Path) -> None:
    site: Any = SimpleNamespace(outcome="staged", uri="gs://staging/secret")
    plan: Any = SimpleNamespace(export=SimpleNamespace(export_type="work-orders-timeline"))
    assert of_delivery(plan, site, "no_such_connection") is None


@pytest.mark.parametrize(
    ("fields", "namespace", "database"),
    [
        ({"host": "db.example", "schema": "platform"}, "postgres://db.example:5432", "platform"),
        ({"host": "a.example,b.example:5433", "schema": "platform"}, "postgres://a.example:5432", "platform"),
        ({"host": "a.example:5433,b.example", "schema": "platform"}, "postgres://a.example:5433", "platform"),
        (
            {"host": "x", "schema": "y", "extra": {"host": "db.example", "port": 6432, "dbname": "platform"}},
            "postgres://db.example:6432",
            "platform",
        ),
        ({}, "postgres://localhost:5432", "reader"),
    ],
)
def test_a_link_by_mail_has_no_output_and_the_source_is_where_libpq_finds_it(
    events: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], namespace: str, database: str
) -> None:
    given = {"conn_type": "postgres", "login": "reader", "password": "hunter2"} | fields
    monkeypatch.setenv("AIRFLOW_CONN_THE_SOURCE", json.dumps(given))
    site: Any = SimpleNamespace(outcome="staged", uri="gs://staging/secret")
    plan: Any = SimpleNamespace(export=SimpleNamespace(export_type="work-orders-timeline"))
    found = of_delivery(plan, site, "the_source")
    assert found.outputs == []
    assert (found.inputs[0].namespace, found.inputs[0].name) == (namespace, f"{database}.public.work_order")
