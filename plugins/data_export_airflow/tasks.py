"""What each task runs: one step, a small dict in, a small dict out. The grid shows the argument `site_id`."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.sdk import Asset, get_current_context
from airflow.sdk.exceptions import AirflowSkipException

from data_export.config.load import load_beside
from data_export.config.platform import load_platform
from data_export.config.precedence import require_owner
from data_export.limits import limits_of
from data_export.pipeline.prepare import prepare as make_plan
from data_export.plan import ExportPlan
from data_export.receipt import Extracted, ImagesCopied, SiteReceipt, Transformed
from data_export_airflow.alerting.callbacks import tell_left_out
from data_export_airflow.schedule.windows import window_of_run

if TYPE_CHECKING:
    from data_export_airflow.execution.steps import Steps

Step = dict[str, Any]
PLAN = "plan"
RESULT = "return_value"  # the key of what a task returns


def asset_of(name: str) -> Asset:
    """The asset whose events are the deliveries of an export."""
    return Asset(name=f"data_export/{name}", uri=f"x-data-export://{name}")


def prepare(name: str) -> list[str]:
    """Freezes configuration and window for the whole run; returns the sites, over which the next tasks are mapped."""
    from data_export_airflow.metadata.task_runs import TaskRuns  # late: parsing a DAG needs none of what asks Airflow

    context, now = get_current_context(), datetime.now(UTC)
    export = require_owner(name, load_beside(name), TaskRuns(context["ti"]).last_delivery)
    limits = limits_of(name, export, load_platform().limits)
    window = window_of_run(export, dict(context), limits.settle, now)
    plan = make_plan(name, export, window, limits, now)
    context["ti"].xcom_push(PLAN, plan.to_dict())  # beside the result, since Airflow maps over results only
    return [str(site) for site in plan.sites]


def extract(plan: Step, site_id: str) -> Step:
    attempt = get_current_context()["ti"].try_number
    return _steps(plan).extract(UUID(site_id), attempt).to_dict()


def transform(plan: Step, site_id: str, extracted: Step) -> Step:
    return _steps(plan).transform(Extracted.model_validate(extracted)).to_dict()


def copy_images(plan: Step, site_id: str, transformed: Step) -> Step:
    copied = _steps(plan).copy_images(Transformed.model_validate(transformed))
    if copied is None:
        # `deliver` asks for it all the same, and a result that is not there makes the worker log an error.
        get_current_context()["ti"].xcom_push(RESULT, None)
        raise AirflowSkipException("this export has no images (connector_config.export_images)")
    return copied.to_dict()


def deliver(plan: Step, site_id: str, transformed: Step, images: Step | None) -> Step:
    copied = ImagesCopied.model_validate(images) if images else None
    return _steps(plan).deliver(Transformed.model_validate(transformed), copied).to_dict()


def close(plan: Step, sites: list[Step] | Step) -> Step:
    """Ends the run; its receipt is the task's result and the asset's event."""
    steps = _steps(plan)
    # Airflow hands over the result of a mapped task group as a list, but bare where the group ran once.
    receipts = [sites] if isinstance(sites, dict) else sites
    receipt = steps.close([SiteReceipt.model_validate(site) for site in receipts])
    context = get_current_context()
    tell_left_out(dict(context), receipt, steps.plan.staging_prefix)
    event = context["outlet_events"][asset_of(steps.plan.name)]
    record = {
        "summary": receipt.summary(),
        "totals": {**receipt.totals()},
        "place": steps.plan.export.connector_config.identity(),
    }
    event.extra = record | receipt.to_dict()
    return receipt.to_dict()


def _steps(plan: Step) -> "Steps":
    from data_export_airflow.execution.steps import Steps  # late: parsing a DAG needs none of what moves data

    return Steps(ExportPlan.from_dict(plan))
