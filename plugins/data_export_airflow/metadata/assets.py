"""The asset of an export: under its name Airflow keeps what was delivered."""

from airflow.sdk import Asset


def asset_of(name: str) -> Asset:
    """The asset whose events are the deliveries of an export."""
    return Asset(name=f"data_export/{name}", uri=f"x-data-export://{name}")
