"""From a customer file to delivered bytes, through a real scheduler and real servers."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import jsonschema
import pytest
from azure.storage.blob import ContainerClient

from data_export.config.load import load_named
from data_export.config.models import CustomerExport, dag_id
from data_export.delivery.registry import CloudStorageConfig
from data_export.delivery.sftp.config import SftpConfig
from data_export.layout import data_key
from data_export.window import ExportWindow
from demo.data import EXAMPLE, PARIS
from demo.expected import expected_file
from demo.mailbox import fetch, mails_about
from demo.platform import CUSTOMER_BUCKET, EmbeddedPlatform
from demo.rest import wait_for
from demo.run import DAYS as DEMO_DAYS
from demo.run import NAMES, Watch
from demo.servers.abfs import ACCOUNT, KEY
from demo.session import Session
from demo.targets import Received, received
from demo.verify import missing

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
DAYS = (datetime(2025, 3, 18, tzinfo=UTC), datetime(2025, 3, 19, tzinfo=UTC))
GS, S3, SFTP, ABFS = "demo-timeline-gs", "demo-states-s3", "demo-timeline-sftp", "demo-states-abfs"
RUNS = len(NAMES) * len(DAYS) + 1


@pytest.fixture(scope="module")
def exports(customers: Path) -> dict[str, CustomerExport]:
    return {name: load_named(name, customers) for name in NAMES}


@pytest.fixture(scope="module")
def delivered(session: Session) -> Session:
    """Two days of all the demo's customers, backfilled, and one odd window of one customer, triggered by hand."""
    api = session.api
    wait_for("the DAGs are there", lambda: api.dag_ids() >= set(map(dag_id, NAMES)), 60)
    for name in NAMES:
        api.unpause(dag_id(name))
        api.backfill(dag_id(name), *DAYS)
    api.trigger(dag_id(GS), **{"from": "2025-03-17T00:00:00+00:00", "to": "2025-03-17T06:00:00+00:00"})

    def runs_over() -> bool:
        session.airflow.check()
        runs = runs_of(session)
        return len(runs) == RUNS and all(run["state"] in ("success", "failed") for run in runs)

    wait_for("all runs are over", runs_over, 400, pause=2)
    return session


def runs_of(session: Session) -> list[dict[str, Any]]:
    """Those that `delivered` asked for: what other tests run of these exports they trigger, and not of this one."""
    runs = session.api.runs(map(dag_id, NAMES))
    return [run for run in runs if run["run_type"] == "backfill" or run["dag_id"] == dag_id(GS)]


def test_every_connector_delivers_what_the_source_holds(delivered: Session, exports: dict[str, CustomerExport]) -> None:
    assert missing(delivered.platform, delivered.data, exports, DAYS) == []


def test_the_demo_waits_for_its_own_runs_beside_any_by_hand(delivered: Session) -> None:
    watch = Watch(delivered, lambda _: None)
    assert not watch.all_over()
    assert len(watch.unfinished()) == len(NAMES) * len(DEMO_DAYS)
    assert watch.failed == []


def test_every_line_is_valid_against_the_schema(delivered: Session, exports: dict[str, CustomerExport]) -> None:
    page = ROOT / "tests" / "unit" / "transform" / "golden" / "page-schema.json"
    schema = json.loads(page.read_text())  # refuses keys that it does not list
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for name, export in exports.items():
        contents = [content for day in DAYS for content in _data(delivered, name, export, day)]
        records = [json.loads(line) for content in contents for line in content.splitlines()]
        assert len(records) > 20, name
        assert [error.message for record in records for error in validator.iter_errors(record)] == []


def test_the_example_of_the_public_page_comes_out_as_it_is_shown(
    delivered: Session, exports: dict[str, CustomerExport]
) -> None:
    wanted = json.loads(EXAMPLE.read_text())
    target = _target(delivered, exports[SFTP])
    lines = target.read(data_key(PARIS, "work-orders-timeline", _window(DAYS[1]))).splitlines()
    (record,) = (record for record in map(json.loads, lines) if record["id"] == wanted["id"])
    for item in record["work_items"]:
        for entry in item["input"]:
            # The page's example leaves out what its own schema requires.
            assert entry.pop("create_date").endswith("+00:00")
            assert entry.pop("file_extension") == ".png"
    for item in wanted["work_items"]:
        for entry in item["input"]:
            entry["job_conformity"].sort(key=lambda job: job["task_name"])
    assert record == wanted


def test_a_window_of_any_length_can_be_triggered(delivered: Session, exports: dict[str, CustomerExport]) -> None:
    start = datetime(2025, 3, 17, tzinfo=UTC)
    end = start + timedelta(hours=6)
    target = _target(delivered, exports[GS])
    for site_id in exports[GS].sites:
        content = target.read(data_key(site_id, "work-orders-timeline", ExportWindow(start, end)))
        assert content == expected_file(delivered.data, site_id, "work-orders-timeline", start, end)
        assert content


def test_a_receipt_says_what_was_delivered(delivered: Session, exports: dict[str, CustomerExport]) -> None:
    target = _target(delivered, exports["demo-states-s3"])
    (name,) = (name for name in target.names() if "/receipts/" in name and _window(DAYS[0]).stamp in name)
    (site,) = json.loads(target.read(name))["sites"]
    content = target.read(name.replace("/receipts/", "/data/"))
    assert (site["bytes"], site["work_orders"]) == (len(content), content.count(b"\n"))


def test_a_cleared_run_writes_nothing_again_at_any_target(
    delivered: Session, exports: dict[str, CustomerExport]
) -> None:
    api = delivered.api
    targets = [target for export in exports.values() if (target := received(delivered.platform, export))]
    backfilled = [run for run in runs_of(delivered) if run["run_type"] == "backfill"]
    assert len(backfilled) == len(NAMES) * len(DAYS)
    last = max(datetime.fromisoformat(run["data_interval_start"]) for run in backfilled)
    runs = [run for run in backfilled if datetime.fromisoformat(run["data_interval_start"]) == last]
    assert {run["dag_id"] for run in runs} == set(map(dag_id, NAMES))

    def kept() -> dict[str, str]:
        return {f"{target.uri}{name}": stamp for target in targets for name, stamp in target.written().items()}

    before, mails = kept(), len(delivered.platform.smtp.messages())
    for run in runs:
        api.clear(run["dag_id"], run["dag_run_id"])

    def again() -> bool:
        states = {(run["dag_id"], run["dag_run_id"]): run for run in runs_of(delivered)}
        now = [states[run["dag_id"], run["dag_run_id"]] for run in runs]
        return all(
            state["state"] == "success" and state["end_date"] > run["end_date"]
            for state, run in zip(now, runs, strict=True)
        )

    wait_for("the cleared runs are over", again, 300, pause=2)
    after = kept()
    assert {name: stamp for name, stamp in after.items() if before.get(name) != stamp} == {}
    assert before.keys() == after.keys()
    assert len(delivered.platform.smtp.messages()) == mails + 1  # a new link, as the old one expires


def test_the_note_of_a_run_says_what_it_delivered(delivered: Session) -> None:
    notes = [run["note"] for run in delivered.api.runs([dag_id(GS)])]
    assert len(notes) == 3
    for note in notes:
        assert re.fullmatch(
            r"2 sites, [\d,]+ work orders, [\d.]+ kB, [\d,]+ images \(\d+ new\), \d+ missing · \[Files\]\(.+\)", note
        ), note


def test_the_log_of_a_healthy_run_has_no_warning(delivered: Session) -> None:
    """So that a line of that level is worth a look. A worker's own log has what it does for its tasks."""
    folders = [
        delivered.airflow.logs / "tasks" / f"dag_id={run['dag_id']}" / f"run_id={run['dag_run_id']}"
        for run in runs_of(delivered)
        if run["state"] == "success"
    ]
    logs = [log for folder in folders for log in folder.rglob("*.log")]
    entries = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    assert len(logs) >= RUNS * 6
    told = [entry["event"] for entry in entries if entry["level"] not in ("debug", "info")]
    # The demo's source lacks an image on purpose.
    assert [event for event in told if "images are missing at gs://platform-images/" not in event] == []
    scheduler = (delivered.airflow.logs / "scheduler.log").read_text()
    assert re.findall(r"^.*\[error +\].*data_export__demo_.*$", scheduler, re.MULTILINE) == []


def test_damaged_files_are_found_by_the_audit_and_come_back(
    delivered: Session, exports: dict[str, CustomerExport]
) -> None:
    """One audit and one repair for all connectors: a file cut short, one changed in place, and deleted ones."""
    api, platform = delivered.api, delivered.platform
    wanted = {}
    for name in {GS, S3, SFTP, ABFS} & {*NAMES}:
        target, export = _target(delivered, exports[name]), exports[name]
        key = data_key(export.sites[0], export.export_type, _window(DAYS[0]))
        wanted[name] = target, key, target.read(key)
        _damage(platform, export, key, {GS: b"{", S3: bytes(len(wanted[name][2]))}.get(name))
        assert name in (GS, S3) or key not in target.names()
    run_id = api.trigger("data_export_audit", repair=True)
    wait_for("the audit is over", lambda: api.run("data_export_audit", run_id)["state"] == "success", 180, pause=2)

    def is_back(name: str) -> bool:
        target, key, content = wanted[name]
        return key in target.names() and target.read(key) == content

    wait_for("the files are back", lambda: all(map(is_back, wanted)), 240, pause=2)
    again = api.trigger("data_export_audit", full=True)
    wait_for("the next audit is over", lambda: api.run("data_export_audit", again)["state"] == "success", 180, pause=2)
    found = api.request("GET", f"/dags/data_export_audit/dagRuns/{again}/taskInstances/report/xcomEntries/return_value")
    assert found["value"] in ([], "[]")


def _damage(platform: EmbeddedPlatform, export: CustomerExport, key: str, content: bytes | None) -> None:
    """As somebody at the customer's does: other content, or None."""
    config = export.connector_config
    if isinstance(config, SftpConfig):
        (platform.sftp.root / config.sftp_remote_path.strip("/") / key).unlink()
        return
    assert isinstance(config, CloudStorageConfig)
    name = urlsplit(config.storage_uri).path.lstrip("/") + key
    if config.kind == "gs":
        where = f"{platform.gcs.url}/upload/storage/v1/b/{CUSTOMER_BUCKET}/o"
        httpx.post(where, params={"uploadType": "media", "name": name}, content=content).raise_for_status()
    elif config.kind == "s3":
        keys = {"aws_access_key_id": "customer", "aws_secret_access_key": "customer", "region_name": "us-east-1"}
        client: Any = boto3.client("s3", endpoint_url=platform.s3.url, **keys)
        client.put_object(Bucket=CUSTOMER_BUCKET, Key=name, Body=content)
        client.close()
    else:
        assert platform.abfs
        with ContainerClient(f"{platform.abfs.url}/{ACCOUNT}", CUSTOMER_BUCKET, KEY) as container:
            container.delete_blob(name)


def _window(day: datetime) -> ExportWindow:
    return ExportWindow(day, day + timedelta(days=1))


def _target(session: Session, export: CustomerExport) -> Received:
    target = received(session.platform, export)
    assert target is not None
    return target


def _data(session: Session, name: str, export: CustomerExport, day: datetime) -> list[bytes]:
    target, window = received(session.platform, export), _window(day)
    if target is None:
        return [fetch(mails_about(session.platform, name, window)[-1]).content]
    return [target.read(data_key(site_id, export.export_type, window)) for site_id in export.sites]
