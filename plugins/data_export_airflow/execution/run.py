"""The pipeline without a scheduler: the same steps as the DAG's tasks, one after the other."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from data_export.config.load import load_customer
from data_export.config.platform import load_platform
from data_export.limits import limits_of
from data_export.pipeline.prepare import prepare
from data_export.receipt import Receipt, SiteReceipt
from data_export.window import ExportWindow
from data_export_airflow.execution.steps import Steps


def run_export(file: Path, window: ExportWindow) -> Receipt:
    """Exports one window of a customer file and returns the receipt.

    Raises:
        DataExportError: of the first step that fails; what it staged is kept for `staging.keep_failed_days`.
    """
    export = load_customer(file)
    settings = load_platform()
    limits = limits_of(file.stem, export, settings.limits)
    steps = Steps(prepare(file.stem, export, window, limits, datetime.now(UTC)), settings)

    def site(site_id: UUID) -> SiteReceipt:
        transformed = steps.transform(steps.extract(site_id, attempt=1))
        return steps.deliver(transformed, steps.copy_images(transformed))

    return steps.close([site(site_id) for site_id in steps.plan.sites])
