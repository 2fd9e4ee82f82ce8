"""Somebody rewrites a run's XCom in Airflow and clears a task: the worker does what was frozen, or nothing."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from airflow.models.xcom import XComModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from data_export.config.models import CustomerExport
from data_export.config.platform import load_platform
from data_export.errors import SignatureRejected
from data_export.receipt import ImagesCopied
from data_export.seal import KEY_VARIABLE, SIGNATURE
from data_export_airflow.execution.sealed import DELIVERED, IMAGES, UNSIGNED_BEFORE, seal_of
from data_export_airflow.operators import (
    CloseExportOperator,
    CopyImagesOperator,
    DeliverOperator,
    ExtractOperator,
    TransformOperator,
)
from demo.data import PARIS
from tests.dags.dag_runs import RANGE, customer_dag, run

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
        ti = next(each for each in done.get_task_instances() if each.task_id == "extract")
        self.context: Any = {"ti": ti, "dag_run": done, "params": RANGE, "outlet_events": {}}

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
        task.execute(self.context)

    def close(self, sites: list[Any]) -> Any:
        plan = self.values["prepare", "plan"]
        operator: Any = CloseExportOperator(task_id="x", plan=plan, sites=sites)
        return operator.execute(self.context)


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
        with pytest.raises(SignatureRejected, match=r"the plan of run .* is not what an earlier task"):
            stored.again(step, OTHER, plan)
        with pytest.raises(SignatureRejected, match="is not signed, and is not what the customer file says now"):
            stored.again(step, OTHER, unsigned)
    assert not evil.exists()


def test_a_site_that_is_not_the_plan_s_is_refused(stored: Stored) -> None:
    for step in STEPS[:-1]:
        with pytest.raises(SignatureRejected, match=f"site {OTHER} is not what this task of acme is for"):
            stored.again(step, OTHER)


EDITS: tuple[tuple[str, str, Any], ...] = (
    ("transform", "prefix", "runs/other/x/y"),
    ("copy_images", "images_key", "runs/other/x/images.parquet"),
    ("deliver", "data_key", "runs/other/x/data.json"),
    ("close", "uri", "file:///etc/passwd"),
    ("close", "work_orders", 0),
)


def test_a_result_that_was_edited_is_refused(stored: Stored) -> None:
    for step, key, value in EDITS:
        with pytest.raises(SignatureRejected, match=r"of run .* is not what an earlier task of this run signed"):
            stored.again(step, **{key: value})


@pytest.fixture
def at_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs under way began before signatures came."""
    monkeypatch.setenv(UNSIGNED_BEFORE, "2999-01-01T00:00:00+00:00")


def unsigned(stored: Stored) -> dict[str, Any]:
    return {key: value for key, value in stored.values["prepare", "plan"].items() if key != SIGNATURE}


def test_a_signature_cannot_be_taken_away(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    for moment in (None, "", "soon", "2999-01-01", "2001-01-01T00:00:00+00:00"):
        if moment is not None:
            monkeypatch.setenv(UNSIGNED_BEFORE, moment)
        for step in STEPS:
            with pytest.raises(SignatureRejected, match=f"is not signed, and .* began after {UNSIGNED_BEFORE}"):
                stored.again(step, plan=unsigned(stored))


@pytest.mark.usefixtures("at_upgrade")
def test_a_plan_of_before_goes_on_where_the_file_says_the_same(stored: Stored) -> None:
    for step in ("extract", "transform", "deliver", "close"):
        stored.again(step, plan=unsigned(stored))


@pytest.mark.usefixtures("at_upgrade")
def test_without_signatures_no_receipt_hands_over_what_another_run_staged(stored: Stored) -> None:
    for key in ("keys/signing-key", "runs/other/x/y/0/data.json"):
        images = ImagesCopied(site_id=PARIS, missing_list=key).to_dict()
        with pytest.raises(SignatureRejected, match=f"staged file {key} is not one of site"):
            stored.again("close", plan=unsigned(stored), images=images)


def test_no_data_goes_out_where_the_images_were_only_marked_as_copied(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CustomerExport, "export_images", True)
    with pytest.raises(SignatureRejected, match=f"the images of site {PARIS} were not copied by this run of acme"):
        stored.again("deliver")


def test_what_the_run_did_before_it_was_cleared_is_no_result_of_it(stored: Stored) -> None:
    """Airflow keeps the result of a task until it runs again, also where it is marked as done instead."""
    seal, plan = seal_of(stored.context, load_platform()), stored.values["prepare", "plan"]
    extracted, delivered = (stored.values[task, "return_value"] for task in ("transform", "deliver"))
    other = "0" * 32
    images = ImagesCopied(site_id=PARIS).to_dict()
    copied = seal.sign(IMAGES, images, of=extracted["data_key"].replace(plan["run_token"], other))
    deliver: Any = DeliverOperator(task_id="x", plan=plan, site_id=str(PARIS), transformed=extracted, images=copied)
    with pytest.raises(SignatureRejected, match=r"the images of run .* is not what an earlier task"):
        deliver.execute(stored.context)
    before = seal.sign(DELIVERED, {key: item for key, item in delivered.items() if key != SIGNATURE}, of=other)
    with pytest.raises(SignatureRejected, match=r"the delivered of run .* is not what an earlier task"):
        stored.close([before])
    assert [site["site_id"] for site in stored.close([delivered, before])["sites"]] == [str(PARIS)]


def test_a_dag_of_ones_own_loses_no_site_to_an_edit(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have been made for a part of the sites."""
    monkeypatch.setattr("data_export_airflow.execution.sealed.name_of", lambda _: None)
    delivered = stored.values["deliver", "return_value"]
    for sites in ([delivered | {"site_id": OTHER}], [delivered | {"work_orders": 1}], [delivered, "edited"]):
        with pytest.raises(SignatureRejected, match=r"the delivered of run .* is not what an earlier task"):
            stored.close(sites)


@pytest.mark.usefixtures("at_upgrade")
def test_without_signatures_a_result_still_leads_nowhere_else(stored: Stored) -> None:
    own = stored.values["extract", "return_value"]["prefix"]
    for folder, (step, key, _) in product(("{}/../other", "{}x", "runs/other/x/y", "/{}", "{}/%2e%2e/x"), EDITS[:3]):
        edit: dict[str, Any] = {key: folder.format(own) + ("" if key == "prefix" else "/data.json")}
        with pytest.raises(SignatureRejected, match="is not one of site"):
            stored.again(step, plan=unsigned(stored), **edit)


@pytest.mark.usefixtures("at_upgrade")
def test_an_unsigned_plan_says_nothing_of_its_own(stored: Stored) -> None:
    window = {"start": "2025-03-15T00:00:00Z", "end": "2025-03-17T00:00:00Z"}
    for edit in ({"run_token": "0"}, {"window": window}):
        with pytest.raises(SignatureRejected, match="is not signed, and is not what the customer file says now"):
            stored.again("extract", plan=unsigned(stored) | edit)


def test_a_list_of_sites_that_was_cut_short_ends_no_run(stored: Stored) -> None:
    with pytest.raises(SignatureRejected, match=f"site {PARIS} of acme was not delivered by this run"):
        stored.close([])


def test_results_of_a_plan_that_had_more_sites_are_left_out(stored: Stored) -> None:
    """Airflow keeps those of mapped tasks that it removed when a run was cleared for fewer sites."""
    now = stored.values["deliver", "return_value"]
    seal = seal_of(stored.context, load_platform())
    before = {key: item for key, item in now.items() if key != SIGNATURE} | {"work_orders": 7}
    left, moved_up = seal.sign(DELIVERED, before | {"site_id": OTHER}), seal.sign(DELIVERED, before)
    receipt = stored.close([now, left, moved_up])
    assert [(site["site_id"], site["work_orders"]) for site in receipt["sites"]] == [(str(PARIS), now["work_orders"])]
    with pytest.raises(SignatureRejected, match=f"site {PARIS} of acme was not delivered by this run"):
        stored.close([left])


def test_without_a_key_in_the_environment_staging_has_one(
    db: Session, customers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    stored = Stored(db, customers)
    stored.again("deliver")
    next((customers.parent / "staging" / "keys").iterdir()).unlink()  # as a rule of the bucket may do
    with pytest.raises(SignatureRejected, match="or DATA_EXPORT_SIGNING_KEY differs between workers or was replaced"):
        stored.again("deliver")
