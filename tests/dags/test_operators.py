"""The operators in DAGs of one's own, run by Airflow on a real source and local folders."""

import asyncio
import inspect
import json
from datetime import UTC, datetime, timedelta
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pendulum
import pytest
import yaml
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.xcom import XComModel
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.execution_time import task_mapping
from airflow.serialization.serialized_objects import DagSerialization
from sqlalchemy import select
from sqlalchemy.orm import Session

from data_export.alerts.ledger import Known, note_known
from data_export.config.load import load_named
from data_export.config.platform import load_platform
from data_export.delivery.local.store import LocalStore
from data_export.errors import ConfigError, LimitExceeded
from data_export.layout import data_key
from data_export.limits import limits_of
from data_export.plan import ExportPlan
from data_export.window import ExportWindow
from data_export_airflow import operators
from data_export_airflow.alerting.callbacks import site_of
from data_export_airflow.alerting.sender import AlertSender
from data_export_airflow.connections.clients import destination
from data_export_airflow.dags.factory import build_dag
from data_export_airflow.execution.sealed import UNSIGNED_BEFORE
from data_export_airflow.operators import (
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
from tests.page.history import BUNDLE

ROOT = Path(__file__).parents[2]
START, END = datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = ExportWindow(START, END)
TYPE = "work-orders-timeline"
RANGE = {"from": START.isoformat(), "to": END.isoformat()}


def config(folder: Path, *sites: Any, **more: Any) -> dict[str, Any]:
    return {
        "site_id": [str(site) for site in sites or (PARIS,)],
        "interval": "daily",
        "start_date": "2025-03-15",
        "connector_type": "cloud_storage",
        "connector_config": {"storage_uri": f"file://{folder}/target/", "export_images": False},
    } | more


def exporting(dag_id: str = "my_own", **prepare: Any) -> DAG:
    with DAG(dag_id, schedule=None, params=prepare.pop("params", None)) as dag:
        prepared = PrepareExportOperator(task_id="prepare", **prepare)
        delivered = export_sites(prepared.plan, prepared.output)
        CloseExportOperator(task_id="close", plan=prepared.plan, sites=delivered)
    return dag


def run(dag: DAG, folder: Path, **options: Any) -> Any:
    """A run of the DAG by Airflow itself, without a scheduler.

    Airflow parses and stores the DAG's whole bundle once more for each: it has nothing in it but this DAG.
    """
    path = folder / "no-dags"
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    bundle = {"name": BUNDLE, "classpath": local, "kwargs": {"path": str(path)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
        DagBundlesManager().sync_bundles_to_db()
        bag = DagBag(path, bundle_path=folder, bundle_name=BUNDLE)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, BUNDLE, None)
        return dag.test(**{"logical_date": START} | options)


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


@pytest.fixture
def customers(installation: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = installation / "customers"
    folder.mkdir()
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(folder))
    return folder


def customer_dag(customers: Path, name: str, **values: Any) -> DAG:
    """The DAG that the factory makes of a customer file."""
    (customers / f"{name}.yaml").write_text(json.dumps(config(customers.parent) | values))
    export = load_named(name)
    return build_dag(name, export, limits_of(name, export, load_platform().limits))


def xcoms(db: Session, dag: DAG, task_id: str) -> dict[str, Any]:
    rows = db.execute(
        select(XComModel.key, XComModel.value).where(XComModel.dag_id == dag.dag_id, XComModel.task_id == task_id)
    )
    return {row.key: row.value for row in rows}


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
        "{{ task.site_label }}",
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


class Instance:
    """What `prepare` asks of its task instance."""

    dag_id = "my_own"
    run_id = "manual__1"

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}
        self.run_id = "manual"

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def prepared(folder: Path, params: Any = None, **given: Any) -> dict[str, Any]:
    """The plan that `prepare` makes outside of a run, of arguments as they are once rendered."""
    rendered = {key: given.pop(key) for key in ("start", "end") if key in given}
    task = PrepareExportOperator(
        task_id="prepare", **{"config": config(folder)} | given | dict.fromkeys(rendered, "{{ template }}")
    )
    for key, value in rendered.items():
        setattr(task, key, value)
    ti, run = Instance(), SimpleNamespace(data_interval_start=START, data_interval_end=END)
    task.execute({"ti": ti, "dag_run": run, "params": params or {}})  # type: ignore[typeddict-item]
    plan: dict[str, Any] = ti.pushed["plan"]
    return plan


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_TARGETS__ALLOW_LOCAL", "true")


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2025-03-16T00:00:00Z", "2025-03-17T00:00:00+00:00"),
        ("2025-03-16 00:00:00+00:00", "2025-03-17T01:00:00+01:00"),
        ("2025-03-16", "2025-03-17"),
        (pendulum.datetime(2025, 3, 16), END),
    ],
)
def test_bounds_may_be_given_in_any_way_that_a_template_renders(
    local: None, tmp_path: Path, start: Any, end: Any
) -> None:
    assert prepared(tmp_path, start=start, end=end)["window"] == DAY.to_dict()


def test_bounds_without_an_offset_are_in_the_zone_of_the_export(local: None, tmp_path: Path) -> None:
    paris = config(tmp_path, timezone="Europe/Paris")
    window = prepared(tmp_path, config=paris, start="2025-03-16", end="2025-03-17T00:00:00")["window"]
    assert window == {"start": "2025-03-15T23:00:00+00:00", "end": "2025-03-16T23:00:00+00:00"}


def test_without_bounds_it_is_the_form_s_range_or_the_run_s_interval(local: None, tmp_path: Path) -> None:
    assert prepared(tmp_path)["window"] == DAY.to_dict()
    hour = {"from": "2025-03-16T00:00:00Z", "to": "2025-03-16T01:00:00Z"}
    assert prepared(tmp_path, params=hour | {"mine": 1})["window"]["end"] == "2025-03-16T01:00:00+00:00"


@pytest.mark.parametrize("nothing", [None, "", " ", "None"])
@pytest.mark.parametrize("key", ["start", "end"])
def test_a_bound_that_renders_to_nothing_is_refused(local: None, tmp_path: Path, key: str, nothing: Any) -> None:
    bounds = {"start": "2025-03-16", "end": "2025-03-17"} | {key: nothing}
    with pytest.raises(ConfigError, match=rf"{key}={nothing!r} of task prepare is no instant .* or neither of them"):
        prepared(tmp_path, **bounds)


def test_one_bound_alone_is_refused(local: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"end=None of task prepare .* give start and end both"):
        prepared(tmp_path, start="2025-03-16")


@pytest.mark.parametrize(
    ("start", "words"), [("yesterday", "'yesterday' is not a date"), ("2025-03-18", "window ends .* before it begins")]
)
def test_bounds_that_are_no_window_are_refused(local: None, tmp_path: Path, start: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"start and end of task prepare: .*{words}"):
        prepared(tmp_path, start=start, end="2025-03-17")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"intervall": "daily"}, "config of my-own: intervall: .*did you mean interval"),
        ({"site_id": ["x"]}, r"config of my-own: site_id\[0\]: "),
        ({"limits": {"max_window_days": 0}}, r"config of my-own: limits.max_window_days: "),
        ({1: 2}, "config of my-own: 1: "),
        ({"connector_config": {1: 2}}, r"config of my-own: connector_config.1: "),
        ({"connector_config": 5}, r"config of my-own: connector_config: "),
        ({"connector_type": "ftp"}, "config of my-own: connector_type: 'ftp' is another protocol than"),
        ({"connector_type": "webdav"}, "config of my-own: connector_type: 'webdav' is not one of"),
    ],
)
def test_a_wrong_config_is_refused_by_its_key(local: None, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        prepared(tmp_path, config=config(tmp_path) | change)


def test_a_config_may_hold_what_python_has_for_it(local: None, tmp_path: Path) -> None:
    values = config(tmp_path) | {"site_id": (PARIS,), "start_date": START, "end_date": START.date() + 9 * HOUR * 24}
    assert prepared(tmp_path, config=values)["export"]["site_id"] == [str(PARIS)]


@pytest.mark.parametrize("nothing", ["", "{}", [], 5, {(1, 2): 3}])
def test_a_config_that_is_no_dict_is_refused(local: None, tmp_path: Path, nothing: Any) -> None:
    with pytest.raises(ConfigError, match="config of my-own is not a mapping"):
        prepared(tmp_path, config=nothing)


def test_a_config_may_not_do_what_a_file_may_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"connector_config.storage_uri: file:// is for demo and tests"):
        prepared(tmp_path)


def test_the_limits_hold_and_are_named_as_those_of_the_config(local: None, tmp_path: Path) -> None:
    narrow = config(tmp_path, limits={"max_window_days": 1})
    with pytest.raises(LimitExceeded, match=r"limits.max_window_days = 1 \(config\)"):
        prepared(tmp_path, config=narrow, start="2025-03-16", end="2025-03-19")
    with pytest.raises(LimitExceeded, match=r"limits.max_window_days"):
        prepared(tmp_path, config=config(tmp_path, start_date="2021-01-01"), start="2021-01-01", end="2025-03-19")


def sftp(passphrase: str, **connector: Any) -> dict[str, Any]:
    values = yaml.safe_load((ROOT / "include" / "examples" / "sftp.yaml").read_text())
    values["connector_config"] |= {"sftp_private_key_passphrase": passphrase, **connector}
    return dict(values, start_date="2025-03-15", end_date=None)


def test_a_secret_in_a_config_is_a_reference_that_the_worker_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ConfigError, match=r"config of my-own: connector_config.sftp_private_key_passphrase: "
    ) as raised:
        prepared(tmp_path, config=sftp("hunter2"))
    assert "hunter2" not in str(raised.value)
    reference = "env:DATA_EXPORT_SECRET_ACME"
    plan = prepared(tmp_path, config=sftp(reference))
    assert plan["export"]["connector_config"]["sftp_private_key_passphrase"] == reference
    del plan["signature"]
    target = ExportPlan.from_dict(plan)
    with pytest.raises(ConfigError, match=f"refers to {reference}, but environment variable .* is not set"):
        destination(target.name, target.export, load_platform())
    monkeypatch.setenv("DATA_EXPORT_SECRET_ACME", "hunter2")
    destination(target.name, target.export, load_platform())


def test_an_export_has_a_name(local: None, tmp_path: Path) -> None:
    assert prepared(tmp_path)["name"] == "my-own"
    assert prepared(tmp_path, export="acme")["name"] == "acme"
    for wrong in ("../x", "A", "a_b", "", 5):
        with pytest.raises(ConfigError, match="is not the name of an export"):
            prepared(tmp_path, export=wrong)
    with pytest.raises(ValueError, match="neither export nor config"):
        PrepareExportOperator(task_id="prepare")


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
