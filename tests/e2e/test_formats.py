"""Packed files, manifests, notices and drift through a real scheduler, at every connector."""

import gzip
import hashlib
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_export.config.load import load_named
from data_export.config.models import CustomerExport, dag_id
from data_export.layout import data_key, manifest_key
from data_export.window import ExportWindow
from demo.expected import expected_file
from demo.mailbox import fetch, mails_about, text_of
from demo.rest import wait_for
from demo.run import NAMES
from demo.session import Session
from demo.targets import received

pytestmark = pytest.mark.e2e
WINDOW = ExportWindow(datetime(2025, 3, 18, tzinfo=UTC), datetime(2025, 3, 19, tzinfo=UTC))
READER = "loads@customer.example"
#: By the demo's export whose connector and site it has: its packing.
PACKED = {
    "demo-timeline-gs": "file_format: parquet",
    "demo-states-s3": "compression: gzip",
    "demo-states-abfs": "compression: zstd",
    "demo-timeline-sftp": "compression: gzip",
    "demo-link-email": "compression: gzip",
}
PACKED = {name: packing for name, packing in PACKED.items() if name in NAMES}


def name_of(demo: str) -> str:
    return demo.replace("demo-", "packed-")


@pytest.fixture(scope="module")
def delivered(session: Session, customers: Path) -> dict[str, CustomerExport]:
    """One window of each, by the name of the demo's export."""
    api = session.api
    for demo, packing in PACKED.items():
        text = (customers / f"{demo}.yaml").read_text().replace("deepomatic/production", "packed")
        text = text.replace("sftp_remote_path: /exports", "sftp_remote_path: /packed") + f"{packing}\n"
        if "connector_type: email" not in text:
            text += f"manifest: true\non_delivery: {{emails: [{READER}]}}\n"
        (customers / f"{name_of(demo)}.yaml").write_text(text)
    dags = [dag_id(name_of(demo)) for demo in PACKED]
    wait_for("the DAGs are there", lambda: api.dag_ids() >= {*dags}, 120)
    for dag in dags:
        api.unpause(dag)
        api.trigger(dag, **{"from": WINDOW.start.isoformat(), "to": WINDOW.end.isoformat()})

    def over() -> bool:
        session.airflow.check()
        return [run["state"] in ("success", "failed") for run in api.runs(dags)] == [True] * len(dags)

    wait_for("all runs are over", over, 400, pause=2)
    assert {run["dag_id"]: run["state"] for run in api.runs(dags)} == dict.fromkeys(dags, "success")
    return {demo: load_named(name_of(demo), customers) for demo in PACKED}


def records_of(content: bytes, encoding: str) -> list[Any]:
    """The lines of packed JSON; of Parquet the rows' ids, whose values other tests compare."""
    if encoding == "parquet":
        return pq.read_table(io.BytesIO(content), columns=["id"]).column("id").to_pylist()
    if encoding == "gzip":
        return gzip.decompress(content).splitlines()
    return pa.CompressedInputStream(io.BytesIO(content), "zstd").read().splitlines()


@pytest.mark.parametrize("demo", PACKED)
def test_the_packed_file_holds_what_the_source_holds(
    session: Session, delivered: dict[str, CustomerExport], demo: str
) -> None:
    export = delivered[demo]
    target = received(session.platform, export)
    for site in export.sites:
        if target:
            content = target.read(data_key(site, export.export_type, WINDOW, encoding=export.encoding))
        else:
            (mail,) = mails_about(session.platform, name_of(demo), WINDOW)
            content = fetch(mail).content
        lines = expected_file(session.data, site, export.export_type, WINDOW.start, WINDOW.end).splitlines()
        wanted = [json.loads(line)["id"] for line in lines] if export.encoding == "parquet" else lines
        assert records_of(content, export.encoding) == wanted != []


@pytest.mark.parametrize("demo", [demo for demo in PACKED if demo != "demo-link-email"])
def test_the_manifest_and_the_notice_name_every_file(
    session: Session, delivered: dict[str, CustomerExport], demo: str
) -> None:
    export = delivered[demo]
    target = received(session.platform, export)
    assert target is not None
    manifest = json.loads(target.read(manifest_key(export.export_type, WINDOW)))
    files = {site["file"]["key"]: site["file"]["sha256"] for site in manifest["sites"]}
    assert files == {
        key: hashlib.sha256(target.read(key)).hexdigest()
        for key in (data_key(site, export.export_type, WINDOW, encoding=export.encoding) for site in export.sites)
    }
    notices = [mail for mail in session.platform.smtp.messages() if mail["To"] == READER]
    about = [mail for mail in notices if name_of(demo) in str(mail["Subject"])]
    assert len(about) == 1
    assert all(key in text_of(about[0]) for key in files)


def test_the_audit_counts_no_drift_of_an_unchanged_source(
    session: Session, delivered: dict[str, CustomerExport]
) -> None:
    api, name = session.api, name_of("demo-timeline-gs")
    run = api.trigger("data_export_audit", export=name, drift=True)
    wait_for("the audit is over", lambda: api.run("data_export_audit", run)["state"] == "success", 180, pause=1)
    path = f"/dags/data_export_audit/dagRuns/{run}/taskInstances/audit/xcomEntries/{name}"
    found = api.request("GET", path, params={"map_index": 0, "deserialize": True})["value"]
    assert found.get("drift") == {"files": 2, "added": 0, "changed": 0, "gone": 0, "windows": []}, found
    assert found["damaged"] == 0
