"""Policy of the generated DAGs: what every customer's DAG must and must never be."""

import os
import shutil
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

from data_export.config.models import dag_id
from data_export_airflow.alerting.callbacks import on_failure
from data_export_airflow.dags.factory import INVALID_TAG
from data_export_airflow.operators.base import POOLS, ExportRetryPolicy

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "include" / "examples").glob("*.yaml"))
BROKEN = "site_id: [not-a-uuid]\ninterval: daily\nno_such_key: 1\nowner: owner@customer.example\n"


@pytest.fixture
def customers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "customers"
    folder.mkdir()
    for example in EXAMPLES:
        shutil.copy(example, folder)
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(folder))
    return folder


def bag_of(file: str) -> DagBag:
    """What Airflow finds in the file where no other shares the exports with it."""
    with TemporaryDirectory() as folder:
        return DagBag(shutil.copy(ROOT / "dags" / file, folder), bundle_name="tests")


def test_there_is_one_dag_per_customer_file(customers: Path) -> None:
    bag = bag_of("customer_exports.py")
    assert bag.import_errors == {}
    assert set(bag.dags) == {dag_id(path.stem) for path in EXAMPLES}


def test_every_dag_keeps_the_policy_that_of_a_broken_file_too(customers: Path) -> None:
    (customers / "broken.yaml").write_text(BROKEN)
    for dag in bag_of("customer_exports.py").dags.values():
        assert dag.catchup is False
        assert dag.max_active_runs <= 3
        assert dag.doc_md
        assert len(dag.tags) >= 3 or dag.tags == {INVALID_TAG}
        assert dag.roots == [dag.get_task("prepare")]
        assert {"extract", "transform", "copy_images", "deliver", "close"} <= set(dag.task_ids)
        for task in dag.tasks:
            assert task.retries >= 3
            assert isinstance(task.retry_policy, ExportRetryPolicy)
            assert task.pool in {"default_pool", *POOLS}
            assert task.weight_rule == "upstream"  # exports end one after the other where slots are few
            assert list(task.on_failure_callback) == [on_failure]
        assert dag.max_active_tasks == 2
        for name in ("extract", "transform", "copy_images", "deliver"):
            assert 1 <= dag.get_task(name).max_active_tis_per_dag <= 2, "it must leave workers to the other exports"
        assert dag.get_task("transform").upstream_task_ids >= {"extract"}
        assert dag.get_task("copy_images").upstream_task_ids >= {"transform"}
        assert dag.get_task("deliver").upstream_task_ids >= {"transform", "copy_images"}  # images first, data last
        assert dag.get_task("close").upstream_task_ids >= {"deliver"}
        for name in ("extract", "copy_images", "deliver"):
            task = dag.get_task(name)
            assert task.pool in POOLS
            assert task.execution_timeout is not None
            assert task.execution_timeout <= timedelta(hours=24)
            assert task.map_index_template


@pytest.mark.parametrize(("allowed", "sites", "at_once"), [(4, 1, 1), (4, 3, 2), (1, 9, 1), (4, 9, 2)])
def test_the_tasks_of_an_export_keep_to_its_connections(
    customers: Path, allowed: int, sites: int, at_once: int
) -> None:
    file = customers / "sftp.yaml"
    values = yaml.safe_load(file.read_text())
    values["site_id"] = [str(UUID(int=number)) for number in range(sites)]
    values["connector_config"]["max_connections"] = allowed
    file.write_text(yaml.safe_dump(values))
    dag = bag_of("customer_exports.py").dags[dag_id("sftp")]
    for task in ("copy_images", "deliver"):
        assert dag.get_task(task).max_active_tis_per_dag == at_once


def test_the_watch_runs_by_itself_one_at_a_time_and_tells_of_its_own_failure(
    customers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_EXPORT_ALERTS__WATCH_SCHEDULE", "7 * * * *")
    (dag,) = bag_of("data_export_watch.py").dags.values()
    assert dag.timetable.expression == "7 * * * *"
    assert dag.is_paused_upon_creation is False
    assert (dag.catchup, dag.max_active_runs) == (False, 1)
    assert sorted(dag.task_ids) == ["look", "notices"]
    for task in dag.tasks:
        assert list(task.on_failure_callback) == [on_failure]
        assert task.execution_timeout is not None
        assert task.execution_timeout < timedelta(minutes=15)


def test_parsing_loads_nothing_that_tells_people() -> None:
    """Thousands of DAGs are parsed again and again, and each task parses its own."""
    code = "import sys, data_export_airflow.alerting.callbacks\nprint(*sys.modules)"
    environment = {"PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    heavy = {"airflow", "jinja2", "smtplib", "data_export_airflow.alerting.sender", "data_export.alerts.alert"}
    assert not heavy & set(done.stdout.split())


def test_every_process_loads_the_plugin_and_the_api_server_alone_its_page() -> None:
    code = "import sys, data_export_plugin\nprint(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "data_export_airflow.timetables" in loaded
    assert not {name for name in loaded if name.startswith(("fastapi.", "data_export_airflow.page"))}


def test_no_fork_of_a_worker_parses_botocores_models_or_makes_its_first_dag() -> None:
    code = """
import airflow_local_settings, boto3, botocore.loaders
del botocore.loaders.JSONFileLoader.load_file
translated = airflow_local_settings._translated.cache_info().misses
boto3.Session(region_name="eu-west-3").client("s3", aws_access_key_id="-", aws_secret_access_key="-").close()
assert airflow_local_settings._translated.cache_info().misses == translated > 100
assert airflow_local_settings._rehearse()
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'deploy' / 'preload'}:{ROOT / 'plugins'}"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_schedule_has_real_intervals(customers: Path) -> None:
    for dag in bag_of("customer_exports.py").dags.values():
        assert type(dag.timetable).__name__ in {"SettledCronTimetable", "OnceWindowTimetable"}


def test_a_customers_own_limits_are_those_of_its_dag(customers: Path) -> None:
    dags = bag_of("customer_exports.py").dags
    own, others = dags[dag_id("cloud-storage-gs")], dags[dag_id("sftp")]
    assert (own.max_active_runs, own.timetable.settle) == (2, timedelta(minutes=15))
    assert (others.max_active_runs, others.timetable.settle) == (3, timedelta(minutes=5))


def test_a_broken_file_hides_nobody_and_is_an_import_error_of_its_own(customers: Path) -> None:
    (customers / "broken.yaml").write_text(BROKEN)
    bag = bag_of("customer_exports.py")
    assert bag.import_errors == {}
    assert set(bag.dags) == {dag_id(path.stem) for path in [*EXAMPLES, customers / "broken.yaml"]}
    assert INVALID_TAG in bag.dags[dag_id("broken")].tags
    assert bag.dags[dag_id("broken")].timetable.can_be_scheduled is False
    assert bag.dags[dag_id("broken")].get_task("prepare").owner == "owner@customer.example"

    (message,) = bag_of("config_errors.py").import_errors.values()
    for part in ("broken.yaml", ":1", "site_id", "not-a-uuid", ":3", "no_such_key"):
        assert part in message


def test_right_files_leave_no_import_error(customers: Path) -> None:
    bag = bag_of("config_errors.py")
    assert (bag.import_errors, bag.dags) == ({}, {})


def test_parsing_touches_no_network(customers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a DAG file opened a connection while parsing")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    bag = bag_of("customer_exports.py")
    assert len(bag.dags) == len(EXAMPLES)


def test_a_task_parses_only_its_own_file(customers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (customers / "broken.yaml").write_text(BROKEN)
    wanted = dag_id(EXAMPLES[0].stem)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", wanted)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "extract")
    assert set(bag_of("customer_exports.py").dags) == {wanted}
