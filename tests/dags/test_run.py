"""`run_export`: the steps without a scheduler, on a real source and local folders."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from data_export.delivery.local.config import LOCAL_LINK_BASE_URL
from data_export.window import ExportWindow
from data_export_airflow.execution.run import run_export
from demo.data import PARIS, DemoData, build, stored_images
from demo.fill import fill_source
from demo.servers.postgres import PostgresServer
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


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    data: DemoData = build()
    for name, content in stored_images(data):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with PostgresServer(tmp_path / "source", durable=False) as server:
        server.create_database("source")
        fill_source(server.dsn("source"), data, "reader", "secret")
        for name, value in {
            "AIRFLOW_CONN_EXPORT_SOURCE": server.dsn("source"),
            "DATA_EXPORT_SOURCE__IMAGES_URI": f"file://{tmp_path}/images/{{site_id}}/{{input_id}}{{file_extension}}",
            "DATA_EXPORT_STAGING__URI": f"file://{tmp_path}/staging/",
            "DATA_EXPORT_TARGETS__ALLOW_LOCAL": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield tmp_path


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
    left = [path for path in (installation / "staging").rglob("*") if path.is_file()]
    assert sorted(path.parent.name == "mail" for path in left) == [False, True, True]


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
