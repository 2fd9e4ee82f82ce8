"""What a customer file means once it is read."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_export.config.models import EXPORT, EXPORTS, CustomerExport
from data_export.config.moments import check_cron

BASE: dict[str, Any] = {
    "site_id": ["9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "433a60f6-9756-473e-b1e9-9e89e24bb787"],
    "interval": "daily",
    "start_date": "2025-03-16",
    "connector_type": "cloud_storage",
    "connector_config": {"storage_uri": "gs://bucket/x", "export_images": True},
}
SFTP = {
    "connector_type": "sftp",
    "connector_config": {
        "sftp_host": "2001:db8::1",
        "sftp_username": "us",
        "sftp_private_key_path": "/key",
        "sftp_host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA" + "A" * 44,
        "sftp_remote_path": "/x",
        "export_images": False,
    },
}


def export(**values: Any) -> CustomerExport:
    return EXPORT.validate_python(BASE | values)


def test_defaults_are_those_of_the_public_page() -> None:
    read = export()
    assert (read.export_type, read.file_format, read.timezone) == ("work-orders-timeline", "json", "UTC")
    assert (read.enabled, read.delivery_receipt, read.on_invalid) == (True, False, "fail")
    assert read.end is None
    assert read.connector_config.if_exists == "replace"


def test_sites_are_in_the_order_of_their_ids() -> None:
    assert export().sites == tuple(sorted(UUID(site) for site in BASE["site_id"]))


@pytest.mark.parametrize(
    ("values", "scheme", "images"),
    [
        ({}, "gs", True),
        ({"connector_config": {"storage_uri": "s3://bucket", "export_images": "false"}}, "s3", False),
        ({"connector_config": {"storage_uri": "file:///x", "export_images": "True"}}, "file", True),
        (SFTP, "sftp", False),
        ({"connector_type": "email", "connector_config": {"emails": ["a@b.example"]}}, "email", False),
    ],
)
def test_the_scheme_says_which_connector_serves_the_target(values: dict[str, Any], scheme: str, images: bool) -> None:
    assert (export(**values).scheme, export(**values).export_images) == (scheme, images)


@pytest.mark.parametrize(
    ("written", "timezone", "instant"),
    [
        ("2025-03-16", "UTC", "2025-03-16T00:00:00"),
        ("2025-03-16", "Europe/Paris", "2025-03-15T23:00:00"),
        ("2025-03-31", "Europe/Paris", "2025-03-30T22:00:00"),
        ("2025-03-16 06:30", "Europe/Paris", "2025-03-16T05:30:00"),
        ("2025-03-16T06:30:00", "Asia/Kolkata", "2025-03-16T01:00:00"),
        ("2025-03-16T06:30:00Z", "Europe/Paris", "2025-03-16T06:30:00"),
        ("2025-03-16t06:30:00z", "Europe/Paris", "2025-03-16T06:30:00"),
        ("2025-03-16 06:30:00 +0100", "UTC", "2025-03-16T05:30:00"),
        ("2025-03-16T06:30:00-05:30", "Europe/Paris", "2025-03-16T12:00:00"),
        (date(2025, 3, 16), "Europe/Paris", "2025-03-15T23:00:00"),
        (datetime(2025, 3, 16, 6, 30, tzinfo=UTC), "Europe/Paris", "2025-03-16T06:30:00"),
    ],
)
def test_a_date_without_zone_is_in_the_exports_zone(written: object, timezone: str, instant: str) -> None:
    read = export(start_date=written, timezone=timezone)
    assert read.start == datetime.fromisoformat(instant).replace(tzinfo=UTC)
    assert read.start.tzinfo is UTC


@pytest.mark.parametrize(
    "written",
    [
        20250316,
        1742083200.0,
        True,
        "20250316",
        "2025-W11-7",
        "2025-075",
        "2025-03-16T24:00:00",
        "2025-03-16T06",
        " ",
        [],
    ],
)
def test_nothing_else_passes_as_a_date(written: object) -> None:
    with pytest.raises(ValidationError, match="write e\\.g\\. 2025-03-16"):
        export(start_date=written)


def test_the_hash_is_of_the_settings_not_of_their_spelling() -> None:
    same = [
        export(start_date="2025-03-16"),
        export(start_date=date(2025, 3, 16)),
        export(enabled="true"),
        export(interval="daily", connector_config={"export_images": "True", "storage_uri": "gs://bucket/x/"}),
    ]
    assert len({one.config_hash() for one in same}) == 1
    other = [export(interval="0  0 * * *"), export(timezone="Europe/Paris"), export(site_id=BASE["site_id"][:1])]
    assert len({one.config_hash() for one in [*same, *other]}) == 4
    assert len(same[0].config_hash()) == 16


def test_the_hash_does_not_depend_on_a_secret() -> None:
    hashes = set()
    for secret in ("hunter2", "hunter3"):
        config = SFTP["connector_config"] | {"sftp_private_key_passphrase": secret}  # type: ignore[operator]
        hashes.add(export(**(SFTP | {"connector_config": config})).config_hash())
    assert len(hashes) == 1


def test_an_export_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        export().interval = "weekly"  # type: ignore[misc]


@pytest.mark.parametrize("tag", EXPORTS)
def test_every_setting_says_what_it_is(tag: str) -> None:
    config = EXPORTS[tag].model_fields["connector_config"].annotation
    assert config is not None
    for model in (EXPORTS[tag], config):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    "expression", ["0 6 * * 1", "*/15 * * * *", "0 0 29 2 *", "0 0 L * *", "0 0 * * fri#2", "0 0 1 JAN,JUL *"]
)
def test_cron_expressions(expression: str) -> None:
    assert check_cron(f"  {expression.replace(' ', '  ')}\t") == expression


@given(st.text(alphabet="0123456789*/,-?#LRHW abcmonfri@", max_size=20))
def test_a_cron_expression_is_refused_or_comes_due(expression: str) -> None:
    from croniter import croniter

    try:
        checked = check_cron(expression)
    except ValueError:
        return
    begun = datetime(2025, 1, 1, tzinfo=UTC)
    first, again = (croniter(checked, begun).get_next(datetime) for _ in range(2))
    assert begun < first == again
