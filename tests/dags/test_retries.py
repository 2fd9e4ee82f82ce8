"""Permanent faults fail at once with their fix; transient ones come back later and later."""

import errno
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.sdk import DAG, RetryAction
from airflow.sdk._shared.state import TaskScope
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.execution_time.context import TaskStateStoreAccessor
from sqlalchemy import select

from data_export import errors
from data_export.config.load import load_named
from data_export.config.platform import ROOT, load_platform
from data_export.config.problems.problems import BrokenFile, ConfigProblem, MissingFile
from data_export.config.tenants import require_bounds
from data_export_airflow.operators import DeliverOperator, base
from data_export_airflow.operators.base import RETRIES, ExportRetryPolicy
from tests.customers import GOOD
from tests.page.history import History

POLICY = ExportRetryPolicy()
START = datetime(2025, 3, 17, tzinfo=UTC)


@pytest.fixture(autouse=True)
def tomorrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """The time by the policy's clock: all files, whose changes no test can date back, are of yesterday."""
    (tmp_path / "platform.yaml").write_bytes((ROOT / "include" / "platform.yaml").read_bytes())
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(tmp_path / "platform.yaml"))
    now = time.time() + 86400
    monkeypatch.setattr(base, "time", SimpleNamespace(time=lambda: now))
    return now


class Task:
    """The one task instance of Airflow's tables, tried and cleared as Airflow does."""

    def __init__(self, history: History) -> None:
        self._session = history.session
        self._row = self._session.scalars(select(TaskInstance)).one()
        with DAG("acme", schedule=None):
            self._row.task = DeliverOperator(task_id="deliver", plan={}, site_id="", transformed={})  # type: ignore[assignment]
        self._row.max_tries, self._row.try_number, self._row.end_date = RETRIES, 1, START
        self._row.dag_run.created_dag_version_id = None  # of the latest version
        self._session.commit()
        self.delay: timedelta | None = None

    @property
    def try_number(self) -> int:
        return self._row.try_number

    def fails(self, error: Exception) -> RetryAction:
        """What the policy says of a try that ends so; the next try has the next number."""
        # The id is a new one after a clear.
        scope = TaskScope(dag_id=self._row.dag_id, run_id=self._row.run_id, task_id="deliver", map_index=0)
        store = TaskStateStoreAccessor(ti_id=self._row.id, scope=scope)
        context: Any = {"ti": self._row, "task": self._row.task, "task_state_store": store}
        decision = POLICY.evaluate(error, self._row.try_number, self._row.max_tries, context)
        self.delay = decision.retry_delay
        self._row.try_number += 1
        self._session.commit()
        return decision.action

    def pause(self) -> timedelta:
        """Until the next try of one that just died."""
        assert self._row.end_date is not None
        pause: timedelta = self._row.next_retry_datetime() - self._row.end_date
        self._row.try_number += 1
        return pause

    def clear(self) -> None:
        clear_task_instances([self._row], self._session)
        self._session.commit()
        self._row.try_number += 1


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
        assert (decision.action, decision.reason) == (RetryAction.RETRY, f"{kind.__name__}: server x: 503")
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
    minutes: int, action: RetryAction, tmp_path: Path, tomorrow: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that failed at once would use up windows of a queued backfill."""
    file = tmp_path / "acme.yaml"
    file.touch()
    changed, stat = tomorrow - 60 * minutes, Path.stat
    broken = BrokenFile([ConfigProblem(file, 1, None, "is empty")])
    told = "BrokenFile: " if action is RetryAction.RETRY else ""
    os.utime(file, times=(changed,) * 2)
    decision = POLICY.evaluate(broken, 1, RETRIES)
    assert (decision.action, decision.reason) == (action, f"{told}{file}:1: is empty")
    os.utime(file, times=(0, 0))  # what `mv` and `rsync -t` make of it: the file is new, the date of its content is not
    moved = SimpleNamespace(st_mtime=0.0, st_ctime=changed)
    monkeypatch.setattr(Path, "stat", lambda path, **options: moved if path == file else stat(path, **options))
    assert POLICY.evaluate(broken, 1, RETRIES).action is action


def test_a_file_that_is_new_at_each_try_is_not_waited_for_long(tmp_path: Path, tomorrow: float) -> None:
    """As in a pod, for which each try has its files written anew."""
    file = tmp_path / "acme.yaml"
    file.touch()
    os.utime(file, (tomorrow,) * 2)
    broken = BrokenFile([ConfigProblem(file, 1, None, "is empty")])
    actions = [POLICY.evaluate(broken, number, RETRIES).action for number in range(1, RETRIES + 1)]
    assert actions == [RetryAction.RETRY] * 5 + [RetryAction.FAIL] * 3


def test_what_is_wrong_elsewhere_fails_at_once_also_after_an_edit_of_the_platforms_file(
    tmp_path: Path, tomorrow: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new.yaml").touch()
    os.utime(tmp_path / "new.yaml", (tomorrow,) * 2)
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(tmp_path / "new.yaml"))
    decision = POLICY.evaluate(errors.ConfigError("the trigger form has only one of `from` and `to`"), 1, RETRIES)
    assert decision.action is RetryAction.FAIL


def test_tenants_that_are_gone_for_a_moment_fail_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme.yaml").write_text(GOOD % "acme")
    export = load_named("acme", tmp_path)
    monkeypatch.setenv("DATA_EXPORT_TENANTS_FILE", str(tmp_path / "tenants.yaml"))
    with pytest.raises(errors.ConfigError, match="no such file") as gone:
        require_bounds("acme", export, load_platform())
    assert POLICY.evaluate(gone.value, 1, RETRIES).action is RetryAction.RETRY


def test_a_broken_file_that_is_gone_may_be_on_its_way(tmp_path: Path) -> None:
    gone = BrokenFile([ConfigProblem(tmp_path / "acme.yaml", 1, None, "is empty")])
    assert POLICY.evaluate(gone, 1, RETRIES).action is RetryAction.RETRY


@pytest.mark.parametrize(
    ("number", "action"),
    [
        *((number, RetryAction.RETRY) for number in (errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENOENT)),
        *((number, RetryAction.FAIL) for number in (errno.EACCES, errno.ELOOP, errno.EISDIR)),
    ],
)
@pytest.mark.parametrize("name", ["acme.yaml", "platform.yaml", "tenants.yaml"])
def test_a_file_that_its_disk_does_not_give_is_read_again(
    number: int, action: RetryAction, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no newer than its export, and there is nothing to fix in it."""
    (tmp_path / "acme.yaml").write_text(GOOD % "acme")
    export, opened = load_named("acme", tmp_path), os.open
    (tmp_path / "tenants.yaml").write_text("{}")
    monkeypatch.setenv("DATA_EXPORT_TENANTS_FILE", str(tmp_path / "tenants.yaml"))

    def fails(path: Any, *rest: Any, **options: Any) -> int:
        if path == tmp_path / name:
            raise OSError(number, os.strerror(number))
        return opened(path, *rest, **options)

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(errors.ConfigError, match=os.strerror(number)) as met:
        load_named("acme", tmp_path) if name == "acme.yaml" else require_bounds("acme", export, load_platform())
    decision = POLICY.evaluate(met.value, 1, RETRIES)
    assert decision.action is action
    assert ("if that does not pass" in str(decision.reason)) == (action is RetryAction.RETRY)


def test_a_disk_that_does_not_answer_is_no_installation_without_tenants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any customer's file could name any other's sites."""
    (tmp_path / "acme.yaml").write_text(GOOD % "acme")
    export, platform = load_named("acme", tmp_path), load_platform()
    for name in ("lstat", "open"):
        monkeypatch.setattr(os, name, Mock(side_effect=OSError(errno.ESTALE, "stale")))
    with pytest.raises(errors.ConfigError, match=r"cannot be compared with the tenants: .*stale") as met:
        require_bounds("acme", export, platform)
    assert POLICY.evaluate(met.value, 1, RETRIES).action is RetryAction.RETRY


@pytest.mark.parametrize(("minutes", "action"), [(1, RetryAction.RETRY), (1440, RetryAction.FAIL)])
@pytest.mark.parametrize("text", ["", "source: {}\n"])
@pytest.mark.parametrize("name", ["platform.yaml", "tenants.yaml"])
def test_a_file_of_all_customers_that_may_be_half_written_fails_no_step(
    name: str,
    text: str,
    minutes: int,
    action: RetryAction,
    tmp_path: Path,
    tomorrow: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the first, which reads the customer file, nor the others, which hold the export to its bounds again."""
    (tmp_path / "acme.yaml").write_text(GOOD % "acme")
    export = load_named("acme", tmp_path)
    (tmp_path / name).write_text(text)
    os.utime(tmp_path / name, (tomorrow - 60 * minutes,) * 2)
    if name == "tenants.yaml":
        monkeypatch.setenv("DATA_EXPORT_TENANTS_FILE", str(tmp_path / name))
    steps: list[Callable[[], object]] = [
        lambda: (load_named("acme", tmp_path), load_platform()),
        lambda: require_bounds("acme", export, load_platform()),
    ]
    for step in steps:
        with pytest.raises(errors.ConfigError) as met:
            step()
        assert POLICY.evaluate(met.value, 1, RETRIES).action is action


@pytest.mark.parametrize(
    ("dag", "action"),
    [("data_export__acme_gs", RetryAction.RETRY), ("my_own_dag", RetryAction.FAIL), (None, RetryAction.FAIL)],
)
def test_a_file_that_is_gone_is_waited_for_where_it_just_was(
    dag: str | None, action: RetryAction, tmp_path: Path
) -> None:
    """In the export's own DAG, which goes too if the file was removed; elsewhere the name may be misspelt."""
    with pytest.raises(MissingFile) as gone:
        load_named("acme-gs", tmp_path)
    context: Any = {"ti": SimpleNamespace(dag_id=dag), "task": SimpleNamespace(retries=RETRIES)} if dag else None
    decision = POLICY.evaluate(gone.value, 1, RETRIES, context)
    assert decision.action is action
    assert "there is no export acme-gs: correct the name, or put its file back" in str(decision.reason)


@pytest.fixture
def task(history: History, supervisor: None) -> Task:
    """A task of a run in Airflow's tables, with the store that its tries share."""
    dag = history.export("acme")
    history.result(history.run(dag, START, START + timedelta(days=1), state="running"), "deliver", "", None)
    return Task(history)


def test_a_time_limit_is_hit_twice_and_not_nine_times(task: Task) -> None:
    """Of a transfer it is a day, which holds a slot of the pool."""
    assert task.fails(AirflowTaskTimeout()) is RetryAction.DEFAULT
    assert task.fails(AirflowTaskTimeout()) is RetryAction.FAIL


def test_only_time_limits_count_as_such(task: Task) -> None:
    outcomes = [task.fails(error) for error in (errors.TargetUnavailable("503"), RuntimeError(), AirflowTaskTimeout())]
    assert outcomes == [RetryAction.RETRY, RetryAction.DEFAULT, RetryAction.DEFAULT]
    assert task.fails(errors.TargetUnavailable("503")) is RetryAction.RETRY
    assert task.fails(AirflowTaskTimeout()) is RetryAction.FAIL


def test_a_clear_starts_all_counts_again(task: Task) -> None:
    """Airflow goes on counting tries, and raises their limit."""
    for _ in range(2):
        assert task.fails(AirflowTaskTimeout()) is RetryAction.DEFAULT
        assert task.fails(AirflowTaskTimeout()) is RetryAction.FAIL
        task.clear()
    assert task.try_number > 4
    assert task.fails(errors.TargetUnavailable("503")) is RetryAction.RETRY
    assert task.delay is not None
    assert task.delay <= timedelta(seconds=20)


def test_thousands_of_retries_overflow_nothing() -> None:
    decision = POLICY.evaluate(errors.TargetUnavailable("503"), 4000, 5000)
    assert decision.retry_delay is not None
    assert decision.retry_delay <= timedelta(minutes=20)


def test_what_the_policy_never_sees_waits_longer_each_time_too(task: Task) -> None:
    """A worker or an API server that is away: nine tries of a minute each would be used up in ten minutes."""
    waited, pauses = timedelta(), []
    for _ in range(RETRIES):
        pauses.append(task.pause())
        waited += pauses[-1]
    assert timedelta(minutes=1) <= pauses[0] <= timedelta(minutes=2)
    assert max(pauses) == timedelta(minutes=10)
    assert waited >= timedelta(minutes=45)


def test_other_faults_are_left_to_airflow() -> None:
    assert POLICY.evaluate(RuntimeError("x"), 1, 5).action is RetryAction.DEFAULT


def test_every_error_is_permanent_transient_or_existing() -> None:
    for kind in tree(errors.DataExportError)[1:]:
        assert issubclass(kind, errors.PermanentError | errors.TransientError | errors.ObjectExists)
