"""The asset of an export: under its name Airflow keeps what was delivered."""

from typing import Any

from airflow.sdk import Asset

from data_export.window import ExportWindow


def asset_of(name: str) -> Asset:
    """The asset whose events are the deliveries of an export."""
    return Asset(name=f"data_export/{name}", uri=f"x-data-export://{name}")


def window_in(receipt: Any) -> ExportWindow | None:
    """The window that was delivered; None where the event is none of ours: whoever may, can make one by hand."""
    try:
        return ExportWindow.from_dict(receipt["window"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
