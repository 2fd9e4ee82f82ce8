"""Addresses told in advance are those that are written later."""

from datetime import UTC, datetime
from typing import Any

from data_export.config.models import EXPORT, CustomerExport
from data_export.review import sample_objects
from data_export.window import ExportWindow

SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787"
WINDOW = ExportWindow(datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
STAMP = "2025-03-16_00:00:00_2025-03-17_00:00:00"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKVxyfTCcjn26PI+Tfr7ObEb3hvLDhy0UdbwohIWOB5T"


def export(connector: str, config: dict[str, Any], **more: Any) -> CustomerExport:
    common = {"site_id": [SITE], "interval": "daily", "start_date": "2025-03-16"}
    return EXPORT.validate_python(common | {"connector_type": connector, "connector_config": config} | more)


def test_a_bucket() -> None:
    bucket = export("cloud_storage", {"storage_uri": "gs://bucket/x", "export_images": True}, delivery_receipt=True)
    found = sample_objects("acme", bucket, WINDOW)
    assert found.data == f"gs://bucket/x/{SITE}/data/work-orders-timeline/{STAMP}.json"
    assert found.image == f"gs://bucket/x/{SITE}/inputs/<input_id><file_extension>"
    assert found.receipt == f"gs://bucket/x/{SITE}/receipts/work-orders-timeline/{STAMP}.json"


def test_a_server_by_name_or_by_connection() -> None:
    login = {"sftp_username": "us", "sftp_private_key_path": "/key", "sftp_host_key": KEY}
    folder = {"sftp_remote_path": "/in/", "export_images": False}
    by_name = export("sftp", {"sftp_host": "h.example", "sftp_port": 2222} | login | folder)
    found = sample_objects("acme", by_name, WINDOW)
    assert found.data == f"sftp://us@h.example:2222/in/{SITE}/data/work-orders-timeline/{STAMP}.json"
    assert (found.image, found.receipt) == (None, None)
    by_address = export(
        "sftp", {"sftp_host": "2001:db8::1"} | login | {"sftp_remote_path": "/", "export_images": False}
    )
    assert sample_objects("acme", by_address, WINDOW).data.startswith(f"sftp://us@[2001:db8::1]/{SITE}/")
    by_connection = export("sftp", {"conn_id": "theirs"} | folder)
    assert sample_objects("acme", by_connection, WINDOW).data.startswith(f"sftp://<theirs>/in/{SITE}/")


def test_a_mailed_file_has_a_name_to_save_it_under() -> None:
    mail = export("email", {"emails": ["bi@customer.example"]})
    found = sample_objects("acme", mail, WINDOW)
    assert found.data == "acme_work-orders-timeline_2025-03-16_00-00-00_2025-03-17_00-00-00.json"
