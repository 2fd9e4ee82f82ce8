"""The operators in DAGs of one's own, run by Airflow on a real source and local folders."""

import asyncio
import inspect
import json
from datetime import timedelta
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.execution_time import task_mapping
from airflow.serialization.serialized_objects import DagSerialization
from sqlalchemy.orm import Session

from data_export.alerts.ledger import Known, note_known
from data_export.delivery.local.store import LocalStore
from data_export.layout import data_key
from data_export_airflow import operators
from data_export_airflow.alerting.callbacks import site_of
from data_export_airflow.alerting.sender import AlertSender
from data_export_airflow.execution.sealed import UNSIGNED_BEFORE
from data_export_airflow.operators import (
    AuditExportsOperator,
    CheckExportOperator,
    CloseExportOperator,
    CopyImagesOperator,
    DeliverFileOperator,
    ExtractOperator,
    PrepareExportOperator,
    export_sites,
)
from data_export_airflow.operators.base import ExportRetryPolicy
from demo.data import LYON, PARIS, build
from demo.expected import expected_file
from tests.dags.dag_runs import DAY, END, RANGE, START, TYPE, config, customer_dag, run, xcoms


def exporting(dag_id: str = "my_own", **prepare: Any) -> DAG:
    with DAG(dag_id, schedule=None, params=prepare.pop("params", None)) as dag:
        prepared = PrepareExportOperator(task_id="prepare", **prepare)
        delivered = export_sites(prepared.plan, prepared.output)
        CloseExportOperator(task_id="close", plan=prepared.plan, sites=delivered)
    return dag


def test_a_dag_of_ones_own_needs_no_customer_file(
    db: Session, installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, count = [], task_mapping.get_ti_count_for_task
    monkeypatch.setattr(task_mapping, "get_ti_count_for_task", lambda *args: asked.append(args) or count(*args))
    bounds = {"start": "{{ params.day }}T00:00:00Z", "end": "{{ macros.ds_add(params.day, 1) }}"}
    dag = exporting(config=config(installation, PARIS, LYON), **bounds, params={"day": "2025-03-16"})
    assert run(dag, installation).state == "success"
    assert asked == []  # each step takes what the one before returned of the same site, and asks for nothing else
    for site in (PARIS, LYON):
        content = (installation / "target" / data_key(site, TYPE, DAY)).read_bytes()
        assert content == expected_file(build(), site, TYPE, START, END)
        assert content


def test_nothing_of_a_customer_file_is_ever_rendered(db: Session, customers: Path) -> None:
    """Where customers name the target, a template in it would run in the worker.

    Most are refused as placeholders; one that a slash divides is two folders.
    """
    folder = customers.parent / "{{ 7/7 }}"
    connector = {"storage_uri": f"file://{folder}/", "export_images": True}
    dag = customer_dag(customers, "acme", connector_config=connector)
    assert run(dag, customers, logical_date=None, run_conf=RANGE).state == "success"
    content = (folder / data_key(PARIS, TYPE, DAY)).read_bytes()
    assert content == expected_file(build(), PARIS, TYPE, START, END)
    assert xcoms(db, dag, "prepare")["plan"]["export"]["connector_config"]["storage_uri"] == f"file://{folder}/"
    assert xcoms(db, dag, "close")["return_value"]["sites"][0]["uri"].startswith(f"file://{folder}/")


@pytest.mark.parametrize("failed", [False, True])
def test_a_run_opens_the_ledger_only_where_people_know_of_failures(
    db: Session, customers: Path, monkeypatch: pytest.MonkeyPatch, failed: bool
) -> None:
    opened, ledger, staging = [], AlertSender.ledger, customers.parent / "staging"
    monkeypatch.setattr(AlertSender, "ledger", lambda *args: opened.append(1) or ledger(*args))
    if failed:
        asyncio.run(note_known(LocalStore(staging), "acme", Known("a run", "SourceUnavailable", DAY)))
    dag = customer_dag(customers, "acme")
    assert run(dag, customers, logical_date=None, run_conf=RANGE).state == "success"
    assert opened == [1] * failed
    delivered = [Known.read(path.read_bytes()).delivered for path in staging.glob("alerts/acme/open/*")]
    assert delivered == [True] * failed


@pytest.mark.parametrize("name", ["2024", "1e5"])
def test_a_name_of_digits_stays_a_text(db: Session, customers: Path, name: str) -> None:
    dag = customer_dag(customers, name)
    assert dag.render_template_as_native_obj
    assert run(dag, customers, logical_date=None, run_conf=RANGE).state == "success"
    assert xcoms(db, dag, "prepare")["plan"]["name"] == name


def test_a_site_whose_name_is_a_number_is_delivered_and_shown_by_it(db: Session, customers: Path) -> None:
    dag = customer_dag(customers, "acme", site_id={"75001": str(PARIS)})
    done = run(dag, customers, logical_date=None, run_conf=RANGE)
    assert done.state == "success"
    shown = {instance.task_id: instance.rendered_map_index for instance in done.get_task_instances()}
    assert shown["extract"] == shown["deliver"] == "75001"


@pytest.mark.parametrize("name", ["1.5", "None", "1, 2", "[A1]", "b'x'", "'Lille'", "Paris", 2024])
@pytest.mark.parametrize("native", [True, False])
def test_a_label_is_a_text_whatever_it_looks_like(name: Any, native: bool) -> None:
    with DAG("any", schedule=None, render_template_as_native_obj=native) as dag:
        extract = ExtractOperator(task_id="extract", plan={"export": {"site_id": {name: str(PARIS)}}}, site_id=PARIS)
        check, audit = (
            CheckExportOperator(task_id="c", export=name),
            AuditExportsOperator(task_id="a", exports=[name]),
        )
    for task in (extract, check, audit):
        assert dag.get_template_env().from_string(str(task.map_index_template)).render(task=task) == str(name)


def test_links_survive_the_trip_to_the_server_and_are_filled_by_the_run(
    db: Session, customers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/")
    dag = customer_dag(customers, "acme")
    stored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
    links = {task_id: stored.get_task(task_id).extra_links for task_id in ("prepare", "deliver", "close")}
    assert {task: sorted(names) for task, names in links.items()} == {
        "prepare": ["Data export"],
        "deliver": ["Data export", "Delivered file", "Files"],
        "close": ["Data export", "Files"],
    }

    done = run(dag, customers, logical_date=None, run_conf=RANGE)
    assert done.state == "success"
    instances = {instance.task_id: instance for instance in done.get_task_instances()}

    def shown(task_id: str, name: str) -> str | None:
        return stored.get_task(task_id).get_extra_links(instances[task_id], name)

    page = "https://airflow.example/data-exports/export.html?dag=data_export__acme"
    assert (shown("prepare", "Data export"), shown("close", "Data export")) == (page, page)
    assert shown("deliver", "Delivered file") == ""  # a folder has no console
    until = "2025-03-17T00%3A00%3A00%2B00%3A00"
    files = f"{page}&run={quote(done.run_id, safe='')}&before={until}#files-title"
    assert (shown("deliver", "Files"), shown("close", "Files")) == (files, files)
    # The API server makes them when somebody looks: no task pushes one, nor an address that is empty.
    pushed = {key for task_id in instances for key in xcoms(db, dag, task_id)}
    assert pushed == {"plan", "return_value"}


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        (
            "gs://bucket/a b/2025-03-16_00:00:00.json",
            "https://console.cloud.google.com/storage/browser/_details/bucket/a%20b/2025-03-16_00%3A00%3A00.json",
        ),
        ("s3://bucket/a/b?c#d", "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=a/b%3Fc%23d"),
        ("sftp://user@host/a/b.json", ""),
        ("file:///a/b.json", ""),
        ("", ""),
    ],
)
def test_what_was_delivered_is_linked_where_there_is_a_console(uri: str, address: str) -> None:
    deliver = DeliverFileOperator(task_id="deliver", source_uri="", target_uri="")
    deliver.delivered_uri = uri
    (link,) = deliver.operator_extra_links
    assert link.get_link(deliver, ti_key=None) == address


def test_the_grid_shows_what_each_task_is(customers: Path) -> None:
    dag = customer_dag(customers, "acme")
    assert {task.task_id: task.task_type for task in dag.tasks} == {
        "prepare": "PrepareExportOperator",
        "extract": "ExtractOperator",
        "transform": "TransformOperator",
        "copy_images": "CopyImagesOperator",
        "deliver": "DeliverOperator",
        "close": "CloseExportOperator",
    }


def test_a_dag_of_ones_own_fails_as_the_customers_do_unless_it_says_otherwise() -> None:
    pools = {"extract": "data_export_source", "copy_images": "data_export_delivery", "deliver": "data_export_delivery"}
    for task in exporting(export="acme").tasks:
        assert (task.retries, task.retry_delay) == (8, timedelta(minutes=1))
        assert isinstance(task.retry_policy, ExportRetryPolicy)
        assert task.pool == pools.get(task.task_id, "default_pool")
    assert exporting(export="acme").get_task("deliver").trigger_rule == "none_failed"
    with DAG("given", schedule=None, default_args={"retries": 2, "pool": "of_the_dag"}):
        tasks = [
            ExtractOperator(task_id="extract", plan={}, site_id=""),
            ExtractOperator.partial(task_id="mapped", plan={}).expand(site_id=[""]),
        ]
        own = ExtractOperator(task_id="own", plan={}, site_id="", retries=1, pool="own")
        mapped = ExtractOperator.partial(task_id="own_mapped", plan={}, pool="own").expand(site_id=[""])
    assert [(task.retries, task.pool) for task in tasks] == [(2, "of_the_dag")] * 2
    assert (own.retries, own.pool, mapped.pool) == (1, "own", "own")
    with DAG("silent", schedule=None):
        mapped = ExtractOperator.partial(task_id="mapped", plan={}).expand(site_id=[""])
    assert (mapped.retries, mapped.pool, mapped.map_index_template) == (
        8,
        "data_export_source",
        "{{ task.as_label(task.site_label) }}",
    )
    assert isinstance(mapped.retry_policy, ExportRetryPolicy)
    assert mapped.execution_timeout == timedelta(hours=6)


OPERATORS = [each for each in vars(operators).values() if isinstance(each, type) and issubclass(each, BaseOperator)]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda each: each.__name__)
def test_every_argument_and_template_is_described(operator: type[BaseOperator]) -> None:
    own = {name for each in operator.mro() for name in signature(vars(each).get("__init__", object)).parameters}
    own -= {*signature(BaseOperator.__init__).parameters, "args"}
    described = inspect.getdoc(operator) or ""
    assert {name for name in own if f":param {name}:" not in described} == set()
    templated = described.count("(templated)")
    assert (templated, operator.ui_color) == (len(operator.template_fields), "#e8f0fe")


#: As the version before the operators froze it, under the same key of the same task.
FROZEN: dict[str, Any] = {
    "name": "acme",
    "export": {
        "site_id": ["433a60f6-9756-473e-b1e9-9e89e24bb787"],
        "export_type": "work-orders-timeline",
        "file_format": "json",
        "interval": "daily",
        "timezone": "UTC",
        "start_date": "2025-03-15",
        "end_date": None,
        "limits": {
            "max_window_days": None,
            "earliest": None,
            "max_active_runs": None,
            "settle_minutes": None,
            "late_after_hours": None,
        },
        "enabled": True,
        "connector_type": "cloud_storage",
        "connector_config": {
            "if_exists": "replace",
            "storage_uri": "gs://acme/data/",
            "export_images": True,
            "conn_id": None,
            "impersonate": None,
        },
        "owner": None,
        "delivery_receipt": False,
        "on_invalid": "fail",
    },
    "window": {"start": "2025-03-16T00:00:00+00:00", "end": "2025-03-17T00:00:00+00:00"},
    "run_token": "0123456789abcdef0123456789abcdef",
    "config_hash": "0123456789abcdef",
    "created_at": "2025-03-17T00:05:00+00:00",
}


def kept(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether all settings of before are there still; keys may come, with their defaults."""
    return all(kept(old, now[key]) if isinstance(old, dict) else now[key] == old for key, old in before.items())


def test_a_run_under_way_goes_on_with_what_the_last_version_froze(
    customers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(UNSIGNED_BEFORE, "2999-01-01T00:00:00+00:00")
    dag = customer_dag(customers, "acme", timezone="UTC", connector_config=FROZEN["export"]["connector_config"])
    for name in ("extract", "transform", "copy_images", "deliver", "close"):
        task = dag.get_task(name)
        assert (task.plan.operator.task_id, task.plan.key) == ("prepare", "plan")
    interval = SimpleNamespace(data_interval_start=START, data_interval_end=END, start_date=START)
    context: Any = {"ti": SimpleNamespace(dag_id=dag.dag_id, run_id="scheduled"), "dag_run": interval, "params": {}}
    plan = ExtractOperator(task_id="extract", plan=FROZEN, site_id="").steps(context).plan
    assert (plan.window, plan.sites) == (DAY, (PARIS,))
    assert plan.to_dict() == FROZEN | {"export": plan.to_dict()["export"]}
    assert kept(FROZEN["export"], plan.to_dict()["export"])


def test_two_exports_have_room_in_one_dag() -> None:
    with DAG("two", schedule=None) as dag:
        for name in ("one", "other"):
            prepare = PrepareExportOperator(task_id=f"prepare_{name}", export=name)
            export_sites(prepare.plan, prepare.output, group_id=name, prefix_group_id=True, transfers_at_once=1)
    assert {"one.extract", "one.deliver", "other.extract", "other.deliver"} <= set(dag.task_ids)
    assert dag.get_task("other.deliver").max_active_tis_per_dag == 1


def test_an_alert_names_a_site_or_none(customers: Path) -> None:
    def named(task: Any) -> str:
        return site_of({"task": task, "ti": SimpleNamespace(map_index=-1)})

    extract = customer_dag(customers, "acme").get_task("extract")
    assert type(extract.site_id).__name__ == "MappedArgument"
    assert named(extract) == ""
    extract.site_id = str(PARIS)
    assert named(extract) == str(PARIS)
    extract.plan = {"export": {"site_id": {"Paris Est": str(PARIS)}}}
    assert (extract.site_label, named(extract)) == ("Paris Est", f"Paris Est ({PARIS})")
    mapped = ExtractOperator.partial(task_id="mapped", plan={}).expand(site_id=[""])
    assert (named(mapped), named(exporting(export="acme").get_task("close"))) == ("", "")


@pytest.mark.parametrize(("try_number", "last"), [(1, False), (8, False), (9, True), (10, True)])
def test_images_may_fail_on_the_last_try_only(monkeypatch: pytest.MonkeyPatch, try_number: int, last: bool) -> None:
    asked: list[bool] = []

    def copy_images(_site_id: str, _transformed: object, *, last_try: bool) -> dict[str, Any]:
        asked.append(last_try)
        return {}

    monkeypatch.setattr(CopyImagesOperator, "steps", lambda *_: SimpleNamespace(copy_images=copy_images))
    copy = CopyImagesOperator(task_id="copy", plan={}, site_id=str(PARIS), transformed={})
    copy.execute({"ti": SimpleNamespace(try_number=try_number, max_tries=8)})
    assert asked == [last]
