"""The audit's DAG, run by Airflow on what real runs delivered: what it finds, whom it alerts, what it has run again."""

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from data_export.config.models import dag_id
from data_export_airflow.alerting.callbacks import AUDIT_DAG
from data_export_airflow.dags.service_dags import build_audit_dag
from data_export_airflow.execution.steps import run_export
from demo.data import LYON, PARIS
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.dags.dag_runs import DAY, RANGE, customer_dag, run


def delivered(customers: Path, name: str = "acme", **values: Any) -> Path:
    """A window of an export, with images, receipts and a manifest; returns its target."""
    target = customers.parent / name
    connector = {"storage_uri": f"file://{target}/", "export_images": True}
    made: dict[str, Any] = {"connector_config": connector, "delivery_receipt": True, "manifest": True}
    made["site_id"] = [str(PARIS), str(LYON)]
    dag = customer_dag(customers, name, **(made | values))
    assert run(dag, customers, logical_date=None, run_conf=RANGE).state == "success"
    return target


def audited(db: Session, customers: Path, **conf: Any) -> dict[str, Any]:
    """By export, what one run of the audit found."""
    made = run(build_audit_dag(), customers, logical_date=None, run_conf=conf)
    assert made.state == "success"
    db.expire_all()
    wanted = (XComModel.dag_id == AUDIT_DAG, XComModel.task_id == "audit", XComModel.run_id == made.run_id)
    found = db.execute(select(XComModel.key, XComModel.value).where(*wanted, XComModel.key != "return_value"))
    return {row.key: row.value for row in found}


def files(*targets: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for target in targets for path in target.rglob("*") if path.is_file()}


def put(path: Path, data: bytes) -> None:
    """As somebody does who hides it: the time of the last write stays."""
    status = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


PACKED = {"acme": {}, "columns": {"file_format": "parquet"}, "packed": {"compression": "gzip"}}


def damage(target: Path, before: dict[Path, bytes]) -> dict[str, str]:
    """Damages an object of each kind; returns what the audit should say of each address."""
    _, other = sorted(target.glob("*/data/*/*"))
    (manifest,), receipt = target.glob("manifests/*/*"), min(target.glob("*/receipts/*/*"))
    # An image is known by the file that refers to it: these are of the site whose file stays.
    image, picture, *_ = sorted(min(target.glob("*/inputs")).iterdir())
    other.unlink()
    image.unlink()
    put(picture, before[picture][:-1] + b"?")
    put(manifest, before[manifest][:-9])
    put(receipt, before[receipt].replace(b"work_orders", b"work_horses"))
    found = {other: "missing", image: "missing", picture: "other content"}
    found |= {manifest: "other size", receipt: "other content"}
    return {f"file://{path}": kind for path, kind in found.items()}


def test_damage_is_found_and_the_windows_are_run_again(
    db: Session, customers: Path, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_ALERTS__EMAILS", '["ops@platform.example"]')
    made = {name: delivered(customers, name, **keys) for name, keys in PACKED.items()}
    before = files(*made.values())
    for clean in audited(db, customers, full=True).values():
        assert (clean.get("error"), clean["damaged"], clean["findings"], clean["repairs"]) == (None, 0, [], 0)
        assert clean["objects"] == clean["read"] == 5  # two data files, two receipts, a manifest
        assert clean["images"] > 5
    assert server.messages() == []

    wanted = {name: damage(target, before) for name, target in made.items()}
    db.execute(update(DagModel).values(is_paused=DagModel.dag_id == dag_id("packed")))
    db.commit()
    found = audited(db, customers, full=True, repair=True)
    for name, one in found.items():
        assert {each["uri"]: each["found"] for each in one["findings"]} == wanted[name]
        assert {each["fix"] for each in one["findings"]} == {""}
        assert (one["repairable_windows"], one["repairs"]) == (1, name != "packed")
    assert found["packed"]["note"].endswith("while the DAG is paused")
    (mail,) = server.messages()
    assert mail["Subject"] == "Data exports have damaged files"
    assert "are being delivered again: acme, columns" in text_of(mail)
    states = {row.dag_id: row.state for row in db.execute(select(DagRun.dag_id, DagRun.state))}
    assert {name: states[dag_id(name)] for name in made} == {"acme": "queued", "columns": "queued", "packed": "success"}

    for name in made:
        run_export(customers / f"{name}.yaml", DAY)
    after = files(*made.values())
    kept = [path for path in before if {"data", "inputs"} & {*path.parts}]
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}


def test_the_same_findings_cause_one_alert(
    db: Session, customers: Path, server: SmtpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_ALERTS__EMAILS", '["ops@platform.example"]')
    for name in ("acme", "beta"):
        target = delivered(customers, name, site_id=[str(PARIS)])
        (data,) = target.glob("*/data/*/*")
        data.unlink()
    for _ in range(2):
        found = audited(db, customers)
        assert {name: one["damaged"] for name, one in found.items() if name in ("acme", "beta")} == {
            "acme": 1,
            "beta": 1,
        }
    (mail,) = server.messages()
    assert "audit acme --repair" in text_of(mail)
    assert "audit beta --repair" in text_of(mail)
    runs = db.scalars(select(DagRun.state).where(DagRun.dag_id.in_([dag_id("acme"), dag_id("beta")])))
    assert {*runs} == {"success"}  # nobody asked for a repair


def test_an_export_that_says_so_is_left_alone_unless_it_is_asked_for(db: Session, customers: Path) -> None:
    delivered(customers, site_id=[str(PARIS)], audit={"enabled": False})
    assert "acme" not in audited(db, customers)
    assert audited(db, customers, export="acme")["acme"]["damaged"] == 0


def test_drift_is_counted_and_nothing_delivered(db: Session, customers: Path) -> None:
    target = delivered(customers, site_id=[str(PARIS)])
    before = files(target)
    with psycopg.connect(os.environ["AIRFLOW_CONN_EXPORT_SOURCE"], autocommit=True) as source:
        day = "site_id = %s AND create_date >= '2025-03-16' AND create_date < '2025-03-17' ORDER BY create_date"
        ids = [row[0] for row in source.execute(f"SELECT id FROM work_order WHERE {day}", [str(PARIS)])]
        source.execute("UPDATE work_order SET name = 'changed since' WHERE id = %s", [ids[0]])
        source.execute("DELETE FROM work_item WHERE work_order_id = %s", [ids[1]])
        source.execute("DELETE FROM work_order WHERE id = %s", [ids[1]])
        source.execute(
            "INSERT INTO work_order (id, site_id, create_date, update_date) "
            "VALUES (gen_random_uuid(), %s, '2025-03-16 12:00Z', '2025-03-16 12:00Z')",
            [str(PARIS)],
        )
    found = audited(db, customers, export="acme", drift=True)["acme"]
    drift = found["drift"]
    assert (drift["added"], drift["changed"], drift["gone"]) == (1, 1, 1)
    assert [one["site_id"] for one in drift["windows"]] == [str(PARIS)]
    assert (found["damaged"], files(target)) == (0, before)


def test_a_target_that_is_down_fails_nothing_and_is_said(db: Session, customers: Path) -> None:
    target = delivered(customers, site_id=[str(PARIS)])
    target.rename(target.with_name("away"))
    target.write_text("a file")
    found = audited(db, customers, export="acme")["acme"]
    assert found.get("error") or found["damaged"] > 0


def test_it_runs_weekly(customers: Path) -> None:
    dag = build_audit_dag()
    assert (dag.dag_id, dag.schedule, dag.max_active_runs) == (AUDIT_DAG, "0 6 * * 0", 1)
