"""Buttons on a task's page.

Airflow asks an operator's own for the address on the worker, after the task, and keeps it as an XCom. The plugin's own
are asked in the API server, when somebody looks: they cost a run nothing.
"""

from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

from data_export.alerts.guide import anchor_of
from data_export.config.models import dag_id, name_of
from data_export.delivery.registry import SCHEMES


class DeliveredFileLink(BaseOperatorLink):
    """Opens the delivered file in the cloud's console; empty where that does not show it (SFTP, mail, local folders,
    S3 on another server than AWS)."""

    name = "Delivered file"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return console_address(operator.delivered_uri)


class ExportPageLink(BaseOperatorLink):
    """Opens the export on the page "Data exports"; empty for an export without a customer file."""

    name = "Data export"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return page_address(operator.shown_export) if operator.shown_export else ""


class PlannedPageLink(ExportPageLink):
    """The same for a step of an export's run; the plugin's own."""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        name = name_of(ti_key.dag_id)
        return page_address(name) if name else ""


class FilesLink(BaseOperatorLink):
    """Opens the files of this run on the page, each with its address to copy; empty as `ExportPageLink`, and as long as
    the run has no plan. The plugin's own."""

    name = "Files"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        from data_export_airflow.metadata.receipts import planned_end  # late: in the API server only

        name = name_of(ti_key.dag_id)
        until = planned_end(ti_key.dag_id, ti_key.run_id) if name else None
        return files_address(name, ti_key.run_id, until) if name and until else ""


def page_address(name: str) -> str:
    """Of an export on the page "Data exports"."""
    ui = conf.get("api", "base_url", fallback="").rstrip("/")
    return f"{ui}/data-exports/export.html?dag={dag_id(name)}"


def files_address(name: str, run_id: str, until: datetime | None) -> str:
    """Of what a run delivered, on the page; `until` is where its window ends."""
    period = {"before": until.isoformat()} if until else {}
    return f"{page_address(name)}&{urlencode({'run': run_id, **period})}#files-title"


def error_address(error: str, otherwise: str = "docs/errors.md") -> str:
    """Of what is known of an error: on the page, or `otherwise` where the UI's address is not known."""
    ui = conf.get("api", "base_url", fallback="").rstrip("/")
    return f"{f'{ui}/data-exports/errors.html' if ui else otherwise}#{anchor_of(error)}"


def console_address(uri: str) -> str:
    """The address of an object in its provider's console; empty for other addresses.

    `gs://b/a/c.json` -> `https://console.cloud.google.com/storage/browser/_details/b/a/c.json`.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    kind = SCHEMES.get(scheme)
    return kind.console.format(bucket=bucket, key=quote(key)) if kind else ""
