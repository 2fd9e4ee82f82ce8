"""`clean-database`: what is older than `maintenance.database_days` goes from Airflow's tables; what is newer stays."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.providers.celery.executors import celery_executor_utils
from celery import Celery
from sqlalchemy import func, select, update

from data_export_airflow.commands.cli import main
from tests.page.conftest import _tables, db, history
from tests.page.history import History

__all__ = ["_tables", "db", "history"]
DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
def acme(history: History) -> str:
    """With runs from 500, 400 and 2 days ago, and a line of the audit log for each."""
    dag = history.export("acme", start="2024-01-01")
    for days in (500, 400, 2):
        history.run(dag, TODAY - days * DAY, TODAY - (days - 1) * DAY)
        line = Log(event="old")
        line.dttm = TODAY - days * DAY
        history.session.add(line)
    history.session.commit()
    return dag


def left(history: History, dag: str) -> tuple[int, int]:
    history.session.expire_all()
    runs = history.session.scalar(select(func.count()).select_from(DagRun).where(DagRun.dag_id == dag))
    lines = history.session.scalar(select(func.count()).select_from(Log).where(Log.event == "old"))
    return runs or 0, lines or 0


def test_history_of_more_than_a_year_goes(history: History, acme: str, capsys: pytest.CaptureFixture[str]) -> None:
    begun = datetime.now(UTC)
    assert main(["clean-database"]) == 0
    said = capsys.readouterr().out
    year_ago = {f"{at - 365 * DAY:%Y-%m-%d}" for at in (begun, datetime.now(UTC))}  # two days where midnight has passed
    assert any(f"from before {day}" in said for day in year_ago)
    assert "2 of dag_run" in said
    assert "2 of log" in said
    assert left(history, acme) == (1, 1)
    assert main(["clean-database", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["removed"].values()) == {0}


def test_it_can_be_switched_off(
    history: History, acme: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_MAINTENANCE", '{"database_days": null}')
    assert main(["clean-database"]) == 0
    assert "history stays" in capsys.readouterr().err
    assert left(history, acme) == (3, 3)
    assert main(["clean-database", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"before": None, "removed": {}}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Celery's own database, with the results of a task of 2 days ago, of one of today, and of one that runs."""
    app = Celery(backend=f"db+sqlite:///{tmp_path}/results.db", set_as_current=False)
    monkeypatch.setattr(celery_executor_utils, "app", app)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    with app.backend.ResultSession() as session:
        for name, ended in (("old", TODAY - 2 * DAY), ("today", datetime.now(UTC)), ("running", None)):
            task = app.backend.task_cls(name)
            task.date_done = ended
            session.add(task)
        session.commit()
    return app.backend


def test_results_of_celery_s_tasks_go_after_a_day(
    history: History, results: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean-database"]) == 0
    assert "results of Celery's tasks that were removed: 1\n" in capsys.readouterr().out
    with results.ResultSession() as session:
        assert set(session.scalars(select(results.task_cls.task_id))) == {"today", "running"}
    assert main(["clean-database", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"]["celery_taskmeta"] == 0


def test_where_celery_keeps_no_results_in_a_database_there_is_nothing_of_it_to_remove(
    history: History, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(celery_executor_utils, "app", Celery(set_as_current=False))
    for executor in ("CeleryExecutor", "LocalExecutor"):
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
        assert main(["clean-database"]) == 0
        assert "Celery" not in capsys.readouterr().out


def test_a_database_of_celery_that_is_away_is_named_without_its_password(
    history: History, results: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "url", "postgresql+psycopg2://celery:canary@127.0.0.1:1/celery")
    assert main(["clean-database"]) == 1
    said = capsys.readouterr().err
    assert "Celery's database postgresql+psycopg2://celery:***@127.0.0.1:1/celery cannot be used (connec" in said
    assert "AIRFLOW__CELERY__RESULT_BACKEND" in said


def test_an_export_that_has_ended_misses_no_window_whose_receipt_is_gone(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    """But those of a young export, however old they are."""
    first = TODAY - 420 * DAY
    bounds = {"start": f"{first:%Y-%m-%d}", "end_date": f"{first + 3 * DAY:%Y-%m-%d}"}
    old, young = history.export("old", **bounds), history.export("young", **bounds)
    for dag in (old, young):
        for days in range(3):
            history.run(dag, first + days * DAY, first + (days + 1) * DAY)
    history.session.execute(update(DagVersion).where(DagVersion.dag_id == old).values(created_at=first))
    history.session.commit()

    def states() -> dict[str, str]:
        capsys.readouterr()
        main(["status", "--json"])
        return {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)["exports"]}

    assert states() == {"old": "ended", "young": "ended"}
    assert main(["clean-database"]) == 0
    assert states() == {"old": "ended", "young": "incomplete"}
