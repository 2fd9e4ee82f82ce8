"""Looks for windows that were not delivered in time."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from data_export_airflow.operators.base import ExportOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class WatchExportsOperator(ExportOperator):
    """One look at all exports: alerts their owners and the platform's list of what is late or broken, once a day.

    Returns how many exports are `watched`, `late` and `broken`. One DAG of an installation has it, by default
    `data_export_watch`: two would alert twice.

    :param execution_timeout: shorter than the time between two looks
    :param priority_weight: where slots are few, lateness is what people must be told of
    """

    def __init__(
        self,
        *,
        retries: int | None = 1,  # the next look sees the same
        execution_timeout: timedelta | None = timedelta(minutes=14),
        priority_weight: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            retries=retries, execution_timeout=execution_timeout, priority_weight=priority_weight, **kwargs
        )

    def execute(self, context: "Context") -> dict[str, int]:
        from data_export_airflow.alerting.watch import watch  # late: parsing a DAG needs none of it

        return {**watch({**context})}
