"""Permanent faults fail at once with their fix; transient ones come back later and later."""

from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import RetryAction

from data_export import errors
from data_export.config.problems import BrokenFile, ConfigProblem
from data_export_airflow.retries import RETRIES, ExportRetryPolicy

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


def test_a_broken_file_is_read_again_for_minutes_before_the_run_fails() -> None:
    """It may be half written; a run that failed at once would use up windows of a queued backfill."""
    broken = BrokenFile([ConfigProblem(Path("acme.yaml"), 1, None, "is empty")])
    decisions = [POLICY.evaluate(broken, attempt, RETRIES) for attempt in range(1, 6)]
    assert [decision.action for decision in decisions] == [RetryAction.RETRY] * 4 + [RetryAction.FAIL]
    assert {decision.reason for decision in decisions} == {"acme.yaml:1: is empty"}
    waits = [decision.retry_delay for decision in decisions if decision.retry_delay]
    assert timedelta(minutes=2) < sum(waits, timedelta()) < timedelta(minutes=6)


def test_other_faults_are_left_to_airflow() -> None:
    assert POLICY.evaluate(RuntimeError("x"), 1, 5).action is RetryAction.DEFAULT


def test_every_error_is_permanent_transient_or_existing() -> None:
    for kind in tree(errors.DataExportError)[1:]:
        assert issubclass(kind, errors.PermanentError | errors.TransientError | errors.ObjectExists)
