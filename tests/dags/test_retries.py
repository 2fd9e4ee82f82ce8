"""Permanent faults fail at once with their fix; transient ones come back later and later."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowTaskTimeout

from data_export import errors
from data_export.config.problems.problems import BrokenFile, ConfigProblem
from data_export_airflow.operators.base import RETRIES, ExportRetryPolicy

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


@pytest.mark.parametrize(
    ("minutes", "action"),
    [(0, RetryAction.RETRY), (4, RetryAction.RETRY), (6, RetryAction.FAIL), (-60, RetryAction.FAIL)],
)
def test_a_broken_file_is_read_again_while_it_may_be_half_written(
    minutes: int, action: RetryAction, tmp_path: Path
) -> None:
    """A run that failed at once would use up windows of a queued backfill."""
    file = tmp_path / "acme.yaml"
    file.touch()
    os.utime(file, times=(time.time() - 60 * minutes,) * 2)
    decision = POLICY.evaluate(BrokenFile([ConfigProblem(file, 1, None, "is empty")]), 1, RETRIES)
    assert (decision.action, decision.reason) == (action, f"{file}:1: is empty")


def test_a_file_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    gone = BrokenFile([ConfigProblem(tmp_path / "acme.yaml", None, None, "there is no such customer file")])
    assert POLICY.evaluate(gone, 1, RETRIES).action is RetryAction.FAIL


def test_a_time_limit_is_hit_twice_and_not_nine_times() -> None:
    """Of a transfer it is a day, which holds a slot of the pool."""
    decisions = [POLICY.evaluate(AirflowTaskTimeout(), attempt, RETRIES) for attempt in (1, 2)]
    assert [decision.action for decision in decisions] == [RetryAction.DEFAULT, RetryAction.FAIL]


def test_other_faults_are_left_to_airflow() -> None:
    assert POLICY.evaluate(RuntimeError("x"), 1, 5).action is RetryAction.DEFAULT


def test_every_error_is_permanent_transient_or_existing() -> None:
    for kind in tree(errors.DataExportError)[1:]:
        assert issubclass(kind, errors.PermanentError | errors.TransientError | errors.ObjectExists)
