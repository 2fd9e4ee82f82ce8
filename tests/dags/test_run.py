"""`run_export`: the steps without a scheduler, on a real source and local folders."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from data_export.delivery.local.config import LOCAL_LINK_BASE_URL
from data_export.window import ExportWindow
from data_export_airflow.commands.cli import main
from data_export_airflow.execution.steps import run_export
from demo.data import PARIS
from demo.servers.smtp import SmtpServer

FILE = """\
site_id: [{site}]
interval: daily
start_date: 2025-03-15
connector_type: cloud_storage
connector_config:
  storage_uri: file://{folder}/target/
  export_images: true
"""


MAIL = """\
site_id: [{site}]
interval: daily
start_date: 2025-03-15
connector_type: email
connector_config:
  emails: [bob@customer.example, eve@customer.example]
"""
WINDOW = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))


def test_a_link_is_mailed_by_way_of_airflow_s_connection(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = installation / "acme.yaml"
    file.write_text(MAIL.format(site=PARIS))
    with SmtpServer(installation / "mail") as server:
        extra = {"disable_ssl": True, "disable_tls": True}
        mail = {"conn_type": "smtp", "host": server.host, "port": server.port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_EXPORT_SMTP", json.dumps(mail))
        monkeypatch.setenv(LOCAL_LINK_BASE_URL, "http://files.example/")
        receipt = run_export(file, WINDOW)
        assert [message["To"] for message in server.messages()] == ["bob@customer.example", "eve@customer.example"]
    assert receipt.refused_recipients == []
    staging = installation / "staging"
    left = [path.relative_to(staging).parts[0] for path in staging.rglob("*") if path.is_file()]
    assert sorted(left) == ["links", "mailed", "mailed"]


def test_of_files_that_would_write_the_same_only_one_is_run(
    customers: Path, db: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, name in ((customers, "acme"), (customers, "copy"), (customers.parent, "elsewhere")):
        (folder / f"{name}.yaml").write_text(FILE.format(site=PARIS, folder=customers.parent))
    bounds = ("--from", "2025-03-16", "--to", "2025-03-17")
    assert main(["run", str(customers / "copy.yaml"), *bounds]) == 1
    refused = "copy.yaml does not run, since acme.yaml, which would write the same files, goes before it; "
    assert refused in capsys.readouterr().err
    assert not (customers.parent / "target").exists()
    assert main(["run", str(customers / "acme.yaml"), *bounds]) == 0
    assert main(["run", str(customers.parent / "elsewhere.yaml"), *bounds]) == 0


def test_the_data_file_is_the_last_to_come(installation: Path) -> None:
    file = installation / "acme.yaml"
    file.write_text(FILE.format(site=PARIS, folder=installation))
    receipt = run_export(file, WINDOW)
    (site,) = receipt.sites
    assert site.images is not None
    assert site.images.copied > 5
    images = list((installation / "target" / str(PARIS) / "inputs").iterdir())
    assert len(images) == site.images.copied
    came = Path(site.uri.removeprefix("file://")).stat().st_mtime_ns
    assert came >= max(image.stat().st_mtime_ns for image in images)


@pytest.mark.parametrize(
    ("keys", "suffix"),
    [
        ("compression: gzip", ".json.gz"),
        ("compression: zstd", ".json.zst"),
        ("file_format: parquet", ".parquet"),
    ],
)
def test_a_packed_window_with_manifest_is_repeated_without_a_change(installation: Path, keys: str, suffix: str) -> None:
    file = installation / "acme.yaml"
    file.write_text(FILE.format(site=PARIS, folder=installation) + f"{keys}\nmanifest: true\ndelivery_receipt: true\n")
    first = run_export(file, WINDOW)
    (data,) = (installation / "target" / str(PARIS) / "data" / "work-orders-timeline").iterdir()
    assert data.name == WINDOW.stamp + suffix
    files = {path: path.stat().st_mtime_ns for path in (installation / "target").rglob("*") if path.is_file()}
    (manifest,) = (installation / "target" / "manifests" / "work-orders-timeline").iterdir()
    assert files[manifest] == max(files.values())
    again = run_export(file, WINDOW)
    assert again.sites[0].outcome == "unchanged"
    assert again.sites[0].records_sha256 == first.sites[0].records_sha256 != first.sites[0].sha256
    assert {path: path.stat().st_mtime_ns for path in (installation / "target").rglob("*") if path.is_file()} == files


def test_whoever_is_told_gets_a_mail_of_the_window(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = installation / "acme.yaml"
    told = "on_delivery: {emails: [bi@acme.example]}\n"
    file.write_text(FILE.format(site=PARIS, folder=installation) + told)
    with SmtpServer(installation / "mail") as server:
        extra = {"disable_ssl": True, "disable_tls": True}
        mail = {"conn_type": "smtp", "host": server.host, "port": server.port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_EXPORT_SMTP", json.dumps(mail))
        run_export(file, WINDOW)
        run_export(file, WINDOW)
        assert [message["To"] for message in server.messages()] == ["bi@acme.example"]


def test_a_receiver_that_is_down_fails_no_delivery(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = installation / "acme.yaml"
    monkeypatch.setenv("DATA_EXPORT_SECRET_HOOK", "whsec_" + "A" * 32)
    hook = "{url: 'https://127.0.0.1:1/', secret: 'env:DATA_EXPORT_SECRET_HOOK'}"
    file.write_text(FILE.format(site=PARIS, folder=installation) + f"on_delivery: {{webhook: {hook}}}\n")
    assert run_export(file, WINDOW).sites[0].outcome == "created"
