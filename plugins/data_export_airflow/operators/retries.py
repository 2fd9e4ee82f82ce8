"""When a failed task is tried again."""

import random
import time
from datetime import timedelta

from airflow.sdk import RetryDecision, RetryPolicy
from airflow.sdk.definitions.context import Context
from airflow.sdk.exceptions import AirflowTaskTimeout

from data_export.config.problems.problems import BrokenFile
from data_export.errors import PermanentError, TransientError

RETRIES = 8  # an hour or so of tries, which outlives a restart or a maintenance of a customer's server
#: So long after its last change a broken file may be half written, by an editor or a deployment.
_EDITED = timedelta(minutes=5)
_FIRST, _LONGEST = timedelta(seconds=20), timedelta(minutes=20)


class ExportRetryPolicy(RetryPolicy):
    """Permanent faults fail at once; transient ones wait twice as long each time, with jitter; others as Airflow does.

    A customer file that broke a moment ago counts as transient: it may be half written, and a backfill must not lose
    windows to that. A task that runs into its time limit is tried once more: what it has delivered is not sent again.

    The reason, the error's own line, is logged and kept on the task instance. Evaluated in the worker
    (Airflow 3.3, `airflow.sdk.definitions.retry_policy`).
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        half_written = isinstance(exception, BrokenFile) and _is_being_edited(exception)
        if isinstance(exception, PermanentError) and not half_written:
            return RetryDecision.fail(reason=str(exception))
        if isinstance(exception, TransientError) or half_written:
            longest = min(_FIRST * 2 ** (try_number - 1), _LONGEST)
            delay = longest * random.uniform(0.5, 1)  # noqa: S311 - jitter keeps many tasks from returning at once
            return RetryDecision.retry(delay=delay, reason=str(exception))
        if isinstance(exception, AirflowTaskTimeout) and try_number > 1:
            return RetryDecision.fail(reason="the task ran into its time limit a second time")
        return RetryDecision.default()


def _is_being_edited(broken: BrokenFile) -> bool:
    """Whether one of its files has changed within the last minutes; one that is gone is none that is being written."""
    try:
        changed = max(problem.path.stat().st_mtime for problem in broken.problems)
    except OSError:
        return False
    return time.time() - changed < _EDITED.total_seconds()
