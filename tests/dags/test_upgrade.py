"""An upgrade of the service under a run: `version_before.json` is what the version of `@task` functions had stored."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from sqlalchemy import select

from data_export.plan import ExportPlan
from tests.dags.test_operators import kept
from tests.dags.test_placeholder import begin, set_state, states, turn
from tests.page.history import BUNDLE, History

BEFORE: dict[str, Any] = json.loads(Path(__file__).with_name("version_before.json").read_text())
BEFORE["dag"]["dag"]["fileloc"] = str(Path(__file__).parents[2] / "dags" / "customer_exports.py")  # Airflow reads it
DAG_ID = "data_export__acme"
ROUTE = ("extract", "transform", "copy_images", "deliver")


@pytest.fixture
def upgraded(history: History, monkeypatch: pytest.MonkeyPatch) -> History:
    """A run of the version before, in which `extract` runs; then this version's dag-processor comes by."""
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")
    history.write("acme", "daily", "2025-03-03")
    history.bundles()
    update_dag_parsing_results_in_db(
        bundle_name=BUNDLE,
        bundle_version=None,
        version_data=None,
        dags=[LazyDeserializedDAG(data=BEFORE["dag"])],
        import_errors={},
        parse_duration=None,
        warnings=set(),
        session=history.session,
    )
    history.session.commit()
    history.unpause()
    begin(history, DAG_ID, BEFORE["plan"])
    return history


def test_what_the_version_before_stored_is_read(upgraded: History) -> None:
    row = SerializedDagModel.get(DAG_ID, session=upgraded.session)
    assert row is not None
    interval = row.dag.timetable.infer_manual_data_interval(run_after=pendulum.datetime(2025, 3, 5, 1))
    assert interval.end - interval.start == timedelta(days=1)
    plan = ExportPlan.from_dict(BEFORE["plan"])
    export = plan.to_dict()["export"]
    assert plan.to_dict() == BEFORE["plan"] | {"export": export}
    assert kept(BEFORE["plan"]["export"], export)


def test_runs_under_way_go_on_to_their_end(upgraded: History) -> None:
    before = states(upgraded, DAG_ID)
    assert before["extract", 0] == "running"
    upgraded.parse()
    dag = upgraded.session.get_one(DagModel, DAG_ID)
    assert (dag.is_stale, dag.has_import_errors) == (False, False)
    turn(upgraded, DAG_ID)
    assert states(upgraded, DAG_ID) == before
    run = upgraded.session.scalars(select(DagRun).where(DagRun._state == "running")).one()
    for task, following in zip(ROUTE, (*ROUTE[1:], "close"), strict=True):
        set_state(upgraded, run, task, "success")
        turn(upgraded, DAG_ID)
        assert "scheduled" in {
            state for (task_id, _), state in states(upgraded, DAG_ID).items() if task_id == following
        }
    set_state(upgraded, run, "close", "success")
    turn(upgraded, DAG_ID)
    upgraded.session.refresh(run)
    assert run.state == "success"


@pytest.mark.parametrize("notice", ["success", "failed"])
def test_a_run_under_way_gets_its_notice_whose_failure_fails_no_run(upgraded: History, notice: str) -> None:
    """The new version's file names who is told; the run of the version before goes on, with one task more."""
    told = "{emails: [bi@acme.example]}"
    upgraded.write("acme", "daily", "2025-03-03", on_delivery=told)
    upgraded.parse()
    turn(upgraded, DAG_ID)
    run = upgraded.session.scalars(select(DagRun).where(DagRun._state == "running")).one()
    for task in (*ROUTE, "close"):
        assert states(upgraded, DAG_ID).get(("notify", -1)) is None
        set_state(upgraded, run, task, "success")
        turn(upgraded, DAG_ID)
    assert states(upgraded, DAG_ID)["notify", -1] == "scheduled"
    set_state(upgraded, run, "notify", notice)
    turn(upgraded, DAG_ID)
    upgraded.session.refresh(run)
    assert run.state == "success"


def test_a_failed_delivery_is_not_hidden_by_its_notice(upgraded: History) -> None:
    upgraded.write("acme", "daily", "2025-03-03", on_delivery="{emails: [bi@acme.example]}")
    upgraded.parse()
    turn(upgraded, DAG_ID)
    run = upgraded.session.scalars(select(DagRun).where(DagRun._state == "running")).one()
    for task in ROUTE:
        set_state(upgraded, run, task, "success")
    for task, state in (("close", "failed"), ("notify", "success")):
        turn(upgraded, DAG_ID)
        set_state(upgraded, run, task, state)
    turn(upgraded, DAG_ID)
    upgraded.session.refresh(run)
    assert run.state == "failed"
