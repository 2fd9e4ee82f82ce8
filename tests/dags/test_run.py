"""`run_export`: the steps without a scheduler, on a real source and local folders."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from data_export.delivery.local.config import LOCAL_LINK_BASE_URL
from data_export.window import ExportWindow
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
