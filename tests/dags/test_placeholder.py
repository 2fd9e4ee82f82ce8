"""A customer file that breaks while its export runs, by Airflow's own scheduler and tables."""

from datetime import UTC, datetime, timedelta

import pytest
from airflow.executors.local_executor import LocalExecutor
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.backfill import ReprocessBehavior, _create_backfill
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskmap import TaskMap
from airflow.models.xcom import XComModel
from sqlalchemy import select

from data_export_airflow.dags.factory import INVALID_TAG
from tests.page.history import SITE, History

START, DAY = datetime(2025, 3, 3, tzinfo=UTC), timedelta(days=1)
WAYS = {"half an edit": "interval: dai", "truncated before it is written": ""}
Tasks = dict[tuple[str, int], str | None]


@pytest.fixture(autouse=True)
def stored_at_every_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")


def turn(history: History, dag: str) -> None:
    """One turn of the scheduler's loop, as far as it concerns runs."""
    runner = SchedulerJobRunner(job=Job(), executors=[LocalExecutor(1)])
    history.session.add(runner.job)
    history.session.flush()
    history.session.expire_all()
    runner._start_queued_dagruns(history.session)
    history.session.commit()
    for run in history.session.scalars(select(DagRun).where(DagRun.dag_id == dag, DagRun._state == "running")):
        runner._schedule_dag_run(run, session=history.session)
    history.session.commit()
    history.session.expire_all()


def states(history: History, dag: str) -> Tasks:
    instances = history.session.scalars(select(TaskInstance).where(TaskInstance.dag_id == dag))
    return {(instance.task_id, instance.map_index): instance.state for instance in instances}


@pytest.fixture
def running(history: History) -> str:
    """An export with a backfill of three windows, one at a time: `prepare` of the first is done, `extract` runs."""
    dag = history.export("acme", "daily", "2025-03-03")
    begin(history, dag, {"name": "acme"})
    return dag


def begin(history: History, dag: str, plan: dict[str, object]) -> None:
    """A backfill of three windows, one at a time: `prepare` of the first is done, `extract` runs."""
    _create_backfill(
        dag_id=dag,
        from_date=START,
        to_date=START + 2 * DAY,
        reprocess_behavior=ReprocessBehavior.NONE,
        max_active_runs=1,
        reverse=False,
        dag_run_conf={},
        triggering_user_name="a",
    )
    turn(history, dag)
    run = history.session.scalars(select(DagRun).where(DagRun._state == "running")).one()
    for key, value in (("return_value", [str(SITE)]), ("plan", plan)):
        found = {"dag_run_id": run.id, "dag_id": dag, "run_id": run.run_id, "task_id": "prepare", "map_index": -1}
        history.session.add(XComModel(**found, key=key, value=value, timestamp=START))
    history.session.add(TaskMap(dag_id=dag, task_id="prepare", run_id=run.run_id, map_index=-1, length=1, keys=None))
    set_state(history, run, "prepare", "success")
    for _ in range(3):  # the mapped tasks are made one after the other
        turn(history, dag)
    set_state(history, run, "extract", "running")


def set_state(history: History, run: DagRun, task_id: str, state: str) -> None:
    for instance in history.session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id)):
        if instance.task_id == task_id:
            instance.state = state
    history.session.commit()


@pytest.mark.parametrize("way", WAYS)
def test_a_run_under_way_keeps_its_tasks_and_goes_on(way: str, history: History, running: str) -> None:
    file = history.customers / "acme.yaml"
    good, text, before = file.read_text(), WAYS[way], states(history, running)
    assert before["extract", 0] == "running"
    file.write_text(text)
    history.parse()
    assert INVALID_TAG in {tag.name for tag in history.session.get_one(DagModel, running).tags}
    turn(history, running)
    assert states(history, running) == before
    run = history.session.scalars(select(DagRun).where(DagRun._state == "running")).one()
    set_state(history, run, "extract", "success")
    turn(history, running)
    assert states(history, running) == before | {("extract", 0): "success", ("transform", 0): "scheduled"}
    file.write_text(good)
    history.parse()
    turn(history, running)
    assert states(history, running) == before | {("extract", 0): "success", ("transform", 0): "scheduled"}
    assert [run.state for run in history.session.scalars(select(DagRun).order_by(DagRun.logical_date))] == [
        "running",
        "queued",
        "queued",
    ]


@pytest.mark.parametrize("interval", ["daily", "once"])
def test_a_mended_file_goes_on_with_the_window_after_the_last(interval: str, history: History) -> None:
    yesterday = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - DAY
    ends = {"end_date": f"{yesterday:%Y-%m-%d}"} if interval == "once" else {}
    dag = history.export("acme", interval, f"{yesterday - DAY:%Y-%m-%d}", **ends)
    history.run(dag, yesterday - DAY, yesterday)
    history.parse()
    file, before = history.customers / "acme.yaml", upcoming(history, dag)
    assert before == ((None, None) if interval == "once" else (yesterday, yesterday + DAY))
    good = file.read_text()
    file.write_text("")
    history.parse()
    assert upcoming(history, dag) == (None, None)
    file.write_text(good)
    history.parse()
    assert upcoming(history, dag) == before


def upcoming(history: History, dag: str) -> tuple[datetime | None, datetime | None]:
    history.session.expire_all()
    row = history.session.get_one(DagModel, dag)
    return row.next_dagrun_data_interval_start, row.next_dagrun_data_interval_end


@pytest.mark.parametrize("name", ["alpha", "zulu"])
def test_a_copied_file_takes_no_schedule_away(name: str, history: History) -> None:
    live = history.export("yankee", "daily", "2025-03-03")
    before = upcoming(history, live)
    assert before != (None, None)
    (history.customers / f"{name}.yaml").write_text((history.customers / "yankee.yaml").read_text())
    history.parse()
    assert upcoming(history, live) == before
