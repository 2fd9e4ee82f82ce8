"""The last task of an export's run: receipt, asset event, mail and clean-up."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Asset

from data_export_airflow.alerting.callbacks import tell_left_out, tell_recovered
from data_export_airflow.operators.base import PlannedOperator, Result

if TYPE_CHECKING:
    from airflow.sdk import Context


class CloseExportOperator(PlannedOperator):
    """Ends a run: mails the link or delivers the receipt, and clears staging.

    The receipt is the task's result, and the extra of an event of each asset among its `outlets`.

    :param plan: what `PrepareExportOperator` froze, its `.plan` (templated)
    :param sites: what `export_sites` returns, or the results of `DeliverOperator` in a list (templated)
    """

    template_fields: Sequence[str] = (*PlannedOperator.template_fields, "sites")
    template_fields_renderers: ClassVar[dict[str, str]] = {"plan": "json", "sites": "json"}

    def __init__(self, *, plan: Any, sites: Any, **kwargs: Any) -> None:
        super().__init__(plan=plan, **kwargs)
        self.sites = sites

    def execute(self, context: "Context") -> Result:
        steps = self.steps(context)
        # Airflow hands over the results of a mapped task group as a list, but bare where the group ran once.
        results = [self.sites] if isinstance(self.sites, dict) else self.sites
        receipt = steps.close(results)
        tell_left_out({**context}, receipt, steps.plan.staging_prefix)
        if steps.is_recovery:
            tell_recovered({**context}, steps.plan.window)
        place = steps.plan.export.connector_config.identity()
        record = {
            "summary": receipt.summary(),
            "totals": {**receipt.totals()},
            "place": place,
            "console": steps.has_console,
            "documents": [document.to_dict() for document in receipt.documents],
        }
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra = record | receipt.to_dict()
        return receipt.to_dict()


class NotifyOperator(PlannedOperator):
    """Sends the mails and the webhook of `on_delivery` that `CloseExportOperator` has recorded.

    A teardown, so that its failure fails no run: a receiver that is down has the data all the same. It tries for some
    minutes only, so that it holds no run back; the DAG `data_export_watch` goes on for a day.

    :param plan: what `PrepareExportOperator` froze, its `.plan` (templated)
    """

    def __init__(
        self,
        *,
        retries: int | None = 3,
        execution_timeout: timedelta | None = timedelta(minutes=5),
        **kwargs: Any,
    ) -> None:
        super().__init__(retries=retries, execution_timeout=execution_timeout, **kwargs)
        self.is_teardown = True

    def execute(self, context: "Context") -> int:
        return self.steps(context).notify()
