"""The maintenance: what it removes, what it leaves, and what its tasks report."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from data_export.errors import ConfigError, TargetUnavailable
from data_export_airflow.alerting.callbacks import on_failure
from data_export_airflow.execution import maintenance
from data_export_airflow.execution.maintenance import maintain
from data_export_airflow.operators.service import MAINTENANCE_STEPS, MaintenanceOperator
from demo.mailbox import text_of
from demo.servers.smtp import SmtpServer
from tests.dags.failed_task import context

DAY = 86_400
SITE = "433a60f6-9756-473e-b1e9-9e89e24bb787"
FILE = """\
site_id: [{site}]
start_date: 2025-03-16
interval: daily
enabled: {enabled}
connector_type: cloud_storage
connector_config: {{storage_uri: "file://{target}/", export_images: false}}
manifest: true
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "customers").mkdir()
    for name, value in {
        "DATA_EXPORT_CUSTOMERS_DIR": f"{tmp_path}/customers",
        "DATA_EXPORT_STAGING__URI": f"file://{tmp_path}/staging/",
        "DATA_EXPORT_TARGETS__ALLOW_LOCAL": "true",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{tmp_path}/logs",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def put(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def test_staging_of_exports_that_are_gone_is_swept(place: Path) -> None:
    """No customer file names them, and no run of theirs will."""
    runs, links, alerts = (place / "staging" / name for name in ("runs", "links", "alerts"))
    old = [put(runs / f"gone-{number}/window/token/site/try-1/part", 8) for number in range(3)]
    old.append(put(links / "gone-1/token/file.json", 9))
    old += [
        put(place / f"staging/{name}", 31)
        for name in ("notices/gone-1/id.json", "mailed/gone-1/w/token/old", "told/gone-1/w")
    ]
    kept = [put(runs / "gone-1/window/other/part", 6), put(links / "gone-1/other/file.json", 7)]
    kept += [put(place / f"staging/{name}", 29) for name in ("notices/gone-1/other.json", "mailed/gone-1/w/token/new")]
    kept += [put(alerts / ".watch/state.json", 40), put(place / "staging/keys/signing-key", 400)]
    done = maintain("sweep_staging")
    assert (done["removed"], done["limit"]) == (7, 100_000)
    assert [path.exists() for path in old] == [False] * 7
    assert all(path.exists() for path in kept)


def test_what_is_too_much_for_one_run_goes_the_next_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        put(place / f"staging/runs/gone/window/token/{number}", 8)
    monkeypatch.setattr(maintenance, "_MOST_OBJECTS", 5)
    assert [maintain("sweep_staging")["removed"] for _ in range(3)] == [5, 2, 0]


def test_unfinished_files_go_in_staging_and_at_every_target(place: Path) -> None:
    for name, enabled in (("one", "true"), ("two", "true"), ("off", "false")):
        target = place / "targets" / name
        (place / f"customers/{name}.yaml").write_text(FILE.format(site=SITE, target=target, enabled=enabled))
        put(target / SITE / "data/work-orders-timeline/.partial-old", 2)
        put(target / SITE / "inputs/.partial-young", 0.5)
        put(target / "manifests/work-orders-timeline/.partial-old", 2)
    (place / "customers/down.yaml").write_text(FILE.format(site=SITE, target=place / "a-file", enabled="true"))
    put(place / "a-file", 0)
    put(place / "staging/runs/gone/.partial-old", 2)
    done = maintain("tidy_targets")
    assert done["where"] == {"staging": 1, "one": 2, "two": 2}
    assert (done["removed"], done["looked_at"], done["left_for_the_next_run"]) == (5, 3, 0)
    assert [*done["not_reached"]] == ["down"]
    assert "a file is in the place of a folder" in done["not_reached"]["down"]
    assert len([*place.rglob(".partial-*")]) == 5


def test_targets_that_cannot_be_listed_are_not_tidied_without_a_word(place: Path) -> None:
    left = put(place / "staging/runs/gone/.partial-old", 2)
    (place / "customers").rmdir()
    with pytest.raises(ConfigError, match="customers: cannot be listed"):
        maintain("tidy_targets")
    assert not left.exists()


def test_a_target_that_is_down_keeps_no_other_from_being_tidied(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(name: str, *_: Any) -> Any:
        if name == "one":
            raise TargetUnavailable("sftp.x: no answer")
        return found(name, *_)

    found = maintenance.destination
    for name in ("one", "two"):
        target = place / "targets" / name
        (place / f"customers/{name}.yaml").write_text(FILE.format(site=SITE, target=target, enabled="true"))
        put(target / SITE / "data/work-orders-timeline/.partial-old", 2)
    monkeypatch.setattr(maintenance, "destination", down)
    done = maintain("tidy_targets")
    assert done["where"] == {"two": 1}
    assert done["not_reached"] == {"one": "TargetUnavailable: sftp.x: no answer"}
    assert done["not_reached_in_all"] == 1
    monkeypatch.setattr(maintenance, "_TARGETS_SECONDS", -1)
    assert maintain("tidy_targets")["left_for_the_next_run"] == 2


def test_old_logs_go_and_nothing_else(place: Path) -> None:
    logs = place / "logs"
    old = [put(logs / "dag_id=x/run_id=y/task_id=z/attempt=1.log", 31), put(logs / "dag_processor/a.py.log.1", 400)]
    kept = [put(logs / "dag_id=x/run_id=new/attempt=1.log", 29), put(logs / "backup.tar", 400)]
    done = maintain("remove_logs")
    assert (done["removed"], done["bytes"]) == (2, 2)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in kept)
    empty = logs / "dag_id=x/run_id=y/task_id=z"  # a task may be about to write there
    os.utime(empty, (time.time() - 31 * DAY,) * 2)
    maintain("remove_logs")
    assert not empty.exists()


def test_a_folder_of_logs_is_left_when_time_is_over_whatever_is_in_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    young = [put(place / f"logs/run_id={number}/attempt=1.log", 1) for number in range(9)]
    old, empty = put(place / "logs/old/attempt=1.log", 31), place / "logs/run_id=0/empty"
    empty.mkdir()
    os.utime(empty, (time.time() - 31 * DAY,) * 2)
    walk, walked = os.walk, []

    def noted(*arguments: Any, **options: Any) -> Any:
        for each in walk(*arguments, **options):
            walked.append(each[0])
            yield each

    monkeypatch.setattr(os, "walk", noted)
    monkeypatch.setattr(maintenance, "_LOGS_SECONDS", -1)
    assert maintain("remove_logs")["removed"] == 0
    assert len(walked) == 1
    assert all(path.exists() for path in (*young, old, empty))


@pytest.mark.parametrize(
    ("step", "setting", "value"),
    [("sweep_staging", "STAGING", "false"), ("tidy_targets", "TARGETS", "false"), ("remove_logs", "LOG_DAYS", "null")],
)
def test_each_step_can_be_switched_off(
    place: Path, monkeypatch: pytest.MonkeyPatch, step: str, setting: str, value: str
) -> None:
    monkeypatch.setenv("DATA_EXPORT_MAINTENANCE", f'{{"{setting.lower()}": {value}}}')
    old = [put(place / "staging/runs/gone/a", 400), put(place / "logs/a.log", 400)]
    old.append(put(place / "staging/runs/gone/.partial-old", 400))
    done = maintain(step)
    assert "switched off" in done["off"]
    assert all(path.exists() for path in old)


def test_its_dag_has_a_task_for_each_step() -> None:
    folder = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    bag = DagBag(folder / "data_export_maintenance.py", bundle_path=folder, bundle_name="dags-folder")
    assert not bag.import_errors
    dag = bag.dags["data_export_maintenance"]
    assert tuple(dag.task_ids) == MAINTENANCE_STEPS
    assert (dag.max_active_runs, dag.max_active_tasks, dag.catchup) == (1, 1, False)
    with pytest.raises(ValueError, match="use sweep_staging, tidy_targets, remove_logs"):
        MaintenanceOperator(task_id="other", step="everything")


def test_its_failure_is_not_called_the_watchs(server: SmtpServer) -> None:
    failed = context(owner="airflow", error=TargetUnavailable("gs://staging: no answer"))
    failed["ti"].dag_id, failed["ti"].task_id = "data_export_maintenance", "sweep_staging"
    on_failure(failed)
    (mail,) = server.messages()
    assert mail["Subject"] == "The maintenance of the data exports failed: TargetUnavailable"
    assert "late" not in text_of(mail)
