"""Runs by hand beside the windows of the schedule, on Airflow's own tables: no window is ever lost to one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.api.common.trigger_dag import trigger_dag
from airflow.models.dagrun import DagRun
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from fastapi.testclient import TestClient
from sqlalchemy import select

from data_export.errors import ConfigError
from tests.page.conftest import token
from tests.page.history import History

DAY = timedelta(days=1)
START = datetime(2025, 3, 16, tzinfo=UTC)
TOMORROW = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + DAY
REFUSED = (
    r"logical date 20.*: a window begins then, .* Leave the logical date away and give `from` and `to`, or backfill"
)
CLI, OPERATOR = DagRunTriggeredByType.CLI, DagRunTriggeredByType.OPERATOR


@pytest.fixture
def daily(history: History) -> str:
    return history.export("days", "daily", "2025-03-16")


def trigger(dag: str, at: datetime | None, by: DagRunTriggeredByType = OPERATOR) -> None:
    trigger_dag(dag, triggered_by=by, logical_date=at)


def runs(history: History) -> list[DagRun]:
    history.session.expire_all()
    return list(history.session.scalars(select(DagRun)))


@pytest.mark.parametrize("at", [START, START + 2 * DAY, TOMORROW], ids=["first", "past", "future"])
@pytest.mark.parametrize(("by", "error"), [(CLI, SystemExit), (OPERATOR, ConfigError)])
def test_none_takes_the_place_of_a_window(
    history: History, daily: str, at: datetime, by: DagRunTriggeredByType, error: type[BaseException]
) -> None:
    with pytest.raises(error, match=REFUSED):
        trigger(daily, at, by)
    assert runs(history) == []


def test_nor_of_the_one_window_of_once(history: History) -> None:
    once = history.export("one", "once", "2025-03-16", end_date="2025-03-20")
    with pytest.raises(ConfigError, match=REFUSED):
        trigger(once, START)
    trigger(once, START + DAY)
    assert len(runs(history)) == 1


def test_windows_begin_at_midnight_of_the_exports_own_zone(history: History) -> None:
    paris = history.export("paris", "daily", "2025-03-16", timezone="Europe/Paris")
    trigger(paris, START + 2 * DAY)
    with pytest.raises(ConfigError, match=REFUSED):
        trigger(paris, START + 2 * DAY - timedelta(hours=1))


@pytest.mark.parametrize("days", [4, 9])
def test_after_the_end_of_an_export_no_window_begins(history: History, days: int) -> None:
    ended = history.export("old", "daily", "2025-03-16", end_date="2025-03-20")
    with pytest.raises(ConfigError, match=REFUSED):
        trigger(ended, START + 3 * DAY)
    trigger(ended, START + days * DAY)
    assert len(runs(history)) == 1


@pytest.mark.parametrize("at", [None, START + timedelta(hours=8, seconds=7)], ids=["none", "of-the-form"])
def test_others_are_as_airflow_makes_them(history: History, daily: str, at: datetime | None) -> None:
    """Airflow's form has the moment when it was opened."""
    trigger(daily, at)
    (run,) = runs(history)
    assert (run.run_type, run.logical_date) == (DagRunType.MANUAL, at)


@pytest.mark.parametrize("interval", ["daily", "once"])
def test_after_the_end_of_an_export_they_have_their_tasks_too(history: History, interval: str) -> None:
    """Airflow makes no task after `end_date`, and takes a run without tasks for a success."""
    ended = history.export("over", interval, "2025-03-16", end_date="2025-03-20")
    trigger(ended, datetime.now(UTC))
    (run,) = runs(history)
    assert {ti.task_id for ti in run.task_instances} >= {"prepare", "close"}


def test_before_its_start_date_airflow_would_run_no_task(history: History) -> None:
    later = history.export("later", "daily", f"{TOMORROW:%Y-%m-%d}")
    with pytest.raises(
        ConfigError, match=r"before the export's start_date .*: give a later one, or set an earlier start_date"
    ):
        trigger(later, TOMORROW - DAY + timedelta(hours=1))
    trigger(later, None)
    (run,) = runs(history)
    assert "prepare" in {ti.task_id for ti in run.task_instances}  # which says in words why not


def test_the_form_and_rest_show_why(history: History, daily: str, airflow: Any) -> None:
    client = TestClient(airflow, headers={"Authorization": f"Bearer {token('admin')}"})
    answer = client.post(f"/api/v2/dags/{daily}/dagRuns", json={"logical_date": "2025-03-18T00:00:00Z"})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("logical date 2025-03-18T00:00:00+00:00: a window begins then")
    assert client.post(f"/api/v2/dags/{daily}/dagRuns", json={"logical_date": None}).status_code == 200


def test_rest_tells_of_an_interval_that_airflow_drops(history: History, daily: str, airflow: Any) -> None:
    """As docs/operate.md says, which is out of date should this fail."""
    client = TestClient(airflow, headers={"Authorization": f"Bearer {token('admin')}"})
    bounds = {"data_interval_start": "2025-03-18T00:00:00Z", "data_interval_end": "2025-03-19T00:00:00Z"}
    answer = client.post(f"/api/v2/dags/{daily}/dagRuns", json={"logical_date": None} | bounds)
    assert {key: answer.json()[key] for key in bounds} == dict.fromkeys(bounds)
