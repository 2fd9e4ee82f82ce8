"""Customers of tests that need one and do not care which."""

from data_export.config.models import EXPORT, AnyExport

SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787"
#: A customer file without a fault; `GOOD % name` shares no target with another name's.
GOOD = f"""\
site_id: [{SITE}]
interval: daily
start_date: 2025-03-16
connector_type: cloud_storage
connector_config: {{storage_uri: "gs://bucket/%s", export_images: true}}
"""


def export(interval: str = "daily", **changes: object) -> AnyExport:
    """An export by mail since 2024-01-01, or what `changes` make of its keys."""
    keys = {
        "site_id": [SITE],
        "interval": interval,
        "start_date": "2024-01-01",
        "connector_type": "email",
        "connector_config": {"emails": ["bi@customer.example"]},
    }
    return EXPORT.validate_python(keys | changes)
