"""Somebody rewrites a run's XCom in Airflow and clears a task: the worker does what was frozen, or nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from data_export.errors import ConfigError
from data_export.plan import SIGNATURE
from data_export_airflow.operators import (
    CloseExportOperator,
    CopyImagesOperator,
    DeliverOperator,
    ExtractOperator,
    TransformOperator,
)
from tests.dags.test_operators import PARIS, RANGE, customer_dag, customers, run

__all__ = ["customers"]
OTHER = "9b7e0ac5-3ba2-4d6c-b9c9-c7a5d9c5e1a1"


class Stored:
    """What a run of the export `acme` left in Airflow's table of XComs."""

    def __init__(self, db: Session, customers: Path) -> None:
        dag = customer_dag(customers, "acme")
        done = run(dag, customers, logical_date=None, run_conf=RANGE)
        assert done.state == "success"
        rows = db.execute(
            select(XComModel.task_id, XComModel.key, XComModel.value).where(XComModel.dag_id == dag.dag_id)
        )
        self.values: dict[tuple[str, str], Any] = {(row.task_id, row.key): row.value for row in rows}
        self.ti = next(each for each in done.get_task_instances() if each.task_id == "extract")

    def again(self, step: str, site: str = str(PARIS), plan: Any = None, **edits: Any) -> None:
        """The step as Airflow runs it once it is cleared, with the run's XComs and these edits of them."""
        plan = self.values["prepare", "plan"] if plan is None else plan
        results = {
            name: self.values[task, "return_value"] | (edits if step in steps else {})
            for name, task, steps in (
                ("extracted", "extract", ("transform",)),
                ("transformed", "transform", ("copy_images", "deliver")),
            )
        }
        images = self.values["copy_images", "return_value"]
        task: Any = {
            "extract": lambda: ExtractOperator(task_id="x", plan=plan, site_id=site),
            "transform": lambda: TransformOperator(
                task_id="x", plan=plan, site_id=site, extracted=results["extracted"]
            ),
            "copy_images": lambda: CopyImagesOperator(
                task_id="x", plan=plan, site_id=site, transformed=results["transformed"]
            ),
            "deliver": lambda: DeliverOperator(
                task_id="x", plan=plan, site_id=site, transformed=results["transformed"], images=images
            ),
            "close": lambda: CloseExportOperator(
                task_id="x", plan=plan, sites=[self.values["deliver", "return_value"] | edits]
            ),
        }[step]()
        task.execute({"ti": self.ti, "outlet_events": {}})


@pytest.fixture
def stored(db: Session, customers: Path) -> Stored:
    return Stored(db, customers)


STEPS = ("extract", "transform", "copy_images", "deliver", "close")


def test_no_step_does_what_an_edited_plan_says(stored: Stored, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    plan = json.loads(json.dumps(stored.values["prepare", "plan"]))
    plan["export"]["connector_config"]["storage_uri"] = f"file://{evil}/"
    plan["export"]["site_id"] = [str(PARIS), OTHER]
    unsigned = {key: value for key, value in plan.items() if key != SIGNATURE}
    for step in STEPS:
        with pytest.raises(ConfigError, match="does not have this run's signature"):
            stored.again(step, OTHER, plan)
        with pytest.raises(ConfigError, match="is not signed, and differs from the customer file"):
            stored.again(step, OTHER, unsigned)
    assert not evil.exists()


@pytest.mark.parametrize("step", STEPS[:-1])
def test_a_site_that_is_not_the_plan_s_is_refused(stored: Stored, step: str) -> None:
    with pytest.raises(ConfigError, match=f"site {OTHER} is not of this run's plan"):
        stored.again(step, OTHER)


def test_results_that_lead_elsewhere_are_refused(stored: Stored) -> None:
    for step, key, value in (
        ("transform", "prefix", "runs/other/x/y"),
        ("copy_images", "images_key", "runs/other/x/images.parquet"),
        ("deliver", "data_key", "runs/other/x/data.json"),
        ("close", "uri", "file:///etc/passwd"),
    ):
        edit: dict[str, Any] = {key: value}
        with pytest.raises(ConfigError, match="is not of this run's plan: somebody edited an XCom"):
            stored.again(step, **edit)


def test_a_plan_of_before_goes_on_where_the_file_says_the_same(stored: Stored) -> None:
    unsigned = {key: value for key, value in stored.values["prepare", "plan"].items() if key != SIGNATURE}
    stored.again("extract", plan=unsigned)
