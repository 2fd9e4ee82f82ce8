"""Permanent faults fail at once with their fix; transient ones come back later and later."""

from datetime import timedelta

import pytest
from airflow.sdk import RetryAction

from data_export import errors
from data_export_airflow.retries import ExportRetryPolicy

POLICY = ExportRetryPolicy()


def tree(root: type[Exception]) -> list[type[Exception]]:
    children = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(leaf for child in children for leaf in tree(child))]


@pytest.mark.parametrize("kind", tree(errors.PermanentError))
def test_permanent_faults_fail_at_once(kind: type[Exception]) -> None:
    decision = POLICY.evaluate(kind("bucket x: grant y"), 1, 5)
    assert (decision.action, decision.reason) == (RetryAction.FAIL, "bucket x: grant y")


@pytest.mark.parametrize("kind", tree(errors.TransientError))
def test_transient_faults_wait_longer_each_time_up_to_a_limit(kind: type[Exception]) -> None:
    delays = []
    for attempt in range(1, 12):
        decision = POLICY.evaluate(kind("server x: 503"), attempt, 20)
        assert (decision.action, decision.reason) == (RetryAction.RETRY, "server x: 503")
        assert decision.retry_delay is not None
        longest = min(timedelta(seconds=20) * 2 ** (attempt - 1), timedelta(minutes=20))
        assert longest / 2 <= decision.retry_delay <= longest
        delays.append(decision.retry_delay)
    assert delays[-1] > delays[0] * 10


def test_other_faults_are_left_to_airflow() -> None:
    assert POLICY.evaluate(RuntimeError("x"), 1, 5).action is RetryAction.DEFAULT


def test_every_error_is_permanent_transient_or_existing() -> None:
    for kind in tree(errors.DataExportError)[1:]:
        assert issubclass(kind, errors.PermanentError | errors.TransientError | errors.ObjectExists)
