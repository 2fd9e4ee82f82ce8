"""When a failed task is tried again."""

import random
from datetime import timedelta

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.definitions.context import Context

from data_export.errors import PermanentError, TransientError

RETRIES = 8  # an hour or so of tries, which outlives a restart or a maintenance of a customer's server
_FIRST, _LONGEST = timedelta(seconds=20), timedelta(minutes=20)


class ExportRetryPolicy(RetryPolicy):
    """Permanent faults fail at once; transient ones wait twice as long each time, with jitter; others as Airflow does.

    The reason, the error's own line, is logged and kept on the task instance. Evaluated in the worker
    (Airflow 3.3, `airflow.sdk.definitions.retry_policy`).
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        if isinstance(exception, PermanentError):
            return RetryDecision.fail(reason=str(exception))
        if isinstance(exception, TransientError):
            longest = min(_FIRST * 2 ** (try_number - 1), _LONGEST)
            delay = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter keeps many tasks from returning at once
            return RetryDecision.retry(delay=delay, reason=str(exception))
        return RetryDecision.default()
