"""When a failed task is tried again."""

import random
from datetime import timedelta

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.definitions.context import Context

from data_export.config.problems import BrokenFile
from data_export.errors import PermanentError, TransientError

RETRIES = 8  # an hour or so of tries, which outlives a restart or a maintenance of a customer's server
_EDITS = 4  # of a file that is broken: five minutes, in which an editor or a deployment has written the whole of it
_FIRST, _LONGEST = timedelta(seconds=20), timedelta(minutes=20)


class ExportRetryPolicy(RetryPolicy):
    """Permanent faults fail at once; transient ones wait twice as long each time, with jitter; others as Airflow does.

    A broken customer file counts as transient for a few minutes: it may be half written, and a backfill must not lose
    its windows to that.

    The reason, the error's own line, is logged and kept on the task instance. Evaluated in the worker
    (Airflow 3.3, `airflow.sdk.definitions.retry_policy`).
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        half_written = isinstance(exception, BrokenFile) and try_number <= _EDITS
        if isinstance(exception, PermanentError) and not half_written:
            return RetryDecision.fail(reason=str(exception))
        if isinstance(exception, TransientError) or half_written:
            longest = min(_FIRST * 2 ** (try_number - 1), _LONGEST)
            delay = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter keeps many tasks from returning at once
            return RetryDecision.retry(delay=delay, reason=str(exception))
        return RetryDecision.default()
