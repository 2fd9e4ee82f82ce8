"""The bundle makes the same DAG files everywhere, and asks for the right one when a customer file changes."""

import json
import logging
import multiprocessing
import os
import shutil
import warnings
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import structlog
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.models.dagbag import DagPriorityParsingRequest
from airflow.sdk.execution_time.comms import StartupDetails
from airflow.sdk.execution_time.task_runner import parse
from airflow.utils.db import initdb
from airflow.utils.file import list_py_file_paths
from airflow.utils.session import create_session
from sqlalchemy import delete, select

from data_export.config.models import dag_id
from data_export_airflow import bundle
from data_export_airflow.bundle import Changes, CustomerFilesBundle, FolderWatch
from data_export_airflow.dags import shards
from data_export_airflow.dags.shards import MOST, MOST_BROKEN, broken_files, shard_files, shard_of
from tests.customers import GOOD

ROOT = Path(__file__).parents[2]
NAMES = [f"customer-{number}" for number in range(40)]
OTHERS = {"config_errors.py", *(f"data_export_{name}.py" for name in ("audit", "check", "maintenance", "watch"))}
UUID_1 = str(UUID(int=1))


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Airflow lets bundles write, as empty as on a new worker."""
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "storage"))
    return tmp_path / "storage"


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "dags", tmp_path / "dags", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def customers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "customers"
    folder.mkdir()
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(folder))
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(shutil.copy(ROOT / "include" / "platform.yaml", tmp_path)))
    return folder


def taken() -> set[str]:
    """The files that are asked for; as when the dag-processor takes them, they are not asked for any more."""
    with create_session() as session:
        files = set(session.scalars(select(DagPriorityParsingRequest.relative_fileloc)))
        session.execute(delete(DagPriorityParsingRequest))
    return files


def listed(path: Path) -> set[str]:
    """What the dag-processor finds to parse there."""
    with warnings.catch_warnings(action="ignore"):  # Airflow's own, over .airflowignore
        return {str(Path(file).relative_to(path)) for file in list_py_file_paths(path)}


def configure(monkeypatch: pytest.MonkeyPatch, **kwargs: object) -> None:
    one = {"name": "dags-folder", "classpath": "data_export_airflow.bundle.CustomerFilesBundle", "kwargs": kwargs}
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([one]))


@pytest.mark.parametrize("syntax", ["glob", "regexp"])
@pytest.mark.parametrize("shards", [1, 8, 9, 10, 11, 32, 89, 90, 98, 99])
def test_airflow_ignores_the_files_that_hold_nothing(
    dags: Path, customers: Path, monkeypatch: pytest.MonkeyPatch, shards: int, syntax: str
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX", syntax)
    made = CustomerFilesBundle(name="dags-folder", path=str(dags), shards=shards)
    made.initialize()
    assert listed(made.path) == {*shard_files(shards), *OTHERS}


def test_the_exports_are_shared_out_and_all_other_dags_are_there(dags: Path, customers: Path) -> None:
    for name in NAMES:
        (customers / f"{name}.yaml").write_text(GOOD % name)
    made = CustomerFilesBundle(name="dags-folder", path=str(dags), shards=8)
    made.initialize()
    assert listed(made.path) == {*shard_files(8), *OTHERS}
    found = {}
    for file in sorted(listed(made.path)):
        bag = BundleDagBag(dag_folder=made.path / file, bundle_path=made.path, bundle_name=made.name)
        assert not bag.import_errors
        assert not found.keys() & bag.dags.keys()
        found |= {name: str(dag.relative_fileloc) for name, dag in bag.dags.items()}
    shares = {dag_id(name): shard_of(name, shard_files(8)) for name in NAMES}
    assert len(set(shares.values())) == 8
    assert found == shares | {file[:-3]: file for file in OTHERS - {"config_errors.py"}}


def test_settings_of_an_older_version_go_on_as_before(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle without a number: the names of its files are those of the copies that lay in dags/."""
    for kwargs in ({"path": str(dags), "refresh_interval": 10}, {"refresh_interval": 10}):
        configure(monkeypatch, **kwargs)
        (made,) = DagBundlesManager().get_all_dag_bundles()
        made.initialize()
        assert listed(made.path) == {*shard_files(32), *OTHERS}


@pytest.mark.parametrize("shards", [8, 32])
def test_a_task_of_a_run_under_way_finds_its_dag_in_the_file_that_once_held_it(
    shards: int, dags: Path, customers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queued for a copy that lay in dags/, or while there were more shards; its worker's storage is empty."""
    (customers / "acme.yaml").write_text(GOOD % "acme")
    configure(monkeypatch, path=str(dags), shards=shards)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id("acme"))  # as the task runner does
    now = datetime(2025, 3, 17, tzinfo=UTC)
    run = {"dag_id": dag_id("acme"), "run_id": "scheduled", "run_type": "scheduled", "state": "running"}
    run |= dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "start_date", "run_after"), now)
    run |= {"end_date": None, "consumed_asset_events": [], "partition_key": None}
    task = {"task_id": "close", "dag_id": dag_id("acme"), "run_id": "scheduled", "try_number": 1}
    for file in ("customer_exports.py", "customer_exports_07.py", "customer_exports_32.py", "customer_exports_99.py"):
        details = {
            "ti": task | {"id": UUID_1, "dag_version_id": UUID_1},
            "dag_rel_path": file,
            "bundle_info": {"name": "dags-folder", "version": None},
            "start_date": now,
            "ti_context": {"dag_run": run, "max_tries": 1},
            "sentry_integration": "",
        }
        found = parse(StartupDetails.model_validate(details), structlog.get_logger())
        assert found.task.dag.dag_id == dag_id("acme")


def test_many_workers_make_the_files_at_once(dags: Path, storage: Path) -> None:
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(12)

    def work() -> None:
        start.wait()
        made = CustomerFilesBundle(name="dags-folder", path=str(dags))
        made.initialize()
        assert all((made.path / file).read_text().endswith("shards=32))\n") for file in shard_files(MOST))

    workers = [fork.Process(target=work) for _ in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 12
    (folder,) = (storage / "dags-folder").iterdir()
    assert {path.name for path in folder.iterdir()} == {*shard_files(MOST), *OTHERS, ".airflowignore"}


def test_what_is_there_already_is_neither_written_nor_locked(dags: Path, storage: Path) -> None:
    """A task may run as a user who may only read; a bundle with other settings has files of its own."""
    one, other, again = (
        CustomerFilesBundle(name="dags-folder", path=str(dags), shards=shards) for shards in (8, 32, 8)
    )
    one.initialize()
    other.initialize()
    shutil.rmtree(storage / "_locks")
    again.initialize()
    assert one.path == again.path != other.path
    assert not (storage / "_locks").exists()


def test_an_upgrade_that_changes_the_files_makes_them_elsewhere(dags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = CustomerFilesBundle(name="dags-folder", path=str(dags)).path
    monkeypatch.setattr(bundle, "SHARD", shards.SHARD.replace("customer_dags(", "customer_dogs("))
    assert CustomerFilesBundle(name="dags-folder", path=str(dags)).path != before


def test_the_dag_processor_compares_what_the_files_say(dags: Path) -> None:
    made = CustomerFilesBundle(name="dags-folder", path=str(dags))
    made.initialize()
    file = made.path / "customer_exports_02.py"
    right = file.read_text()
    file.write_text("#" * len(right))
    made.refresh()
    assert file.read_text() == right


@pytest.mark.parametrize("shards", [0, 100, "32", True, None])
def test_a_number_that_is_not_valid_is_refused_with_the_fix(shards: object) -> None:
    with pytest.raises(ValueError, match=f"bundle dags-folder: shards is {shards!r}; use a number from 1 to 99"):
        CustomerFilesBundle(name="dags-folder", shards=shards)


def test_a_dags_folder_that_goes_away_keeps_what_was_served(dags: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = CustomerFilesBundle(name="dags-folder", path=str(dags), shards=8)
    made.initialize()
    (dags / "own.py").write_text("# a DAG of Airflow's\n")
    made.refresh()
    assert "own.py" in listed(made.path)
    away = dags.rename(dags.with_name("away"))
    made.refresh()
    assert f"make {dags} readable" in caplog.text
    away.rename(dags)
    assert listed(made.path) == {*shard_files(8), *OTHERS, "own.py"}


def test_a_storage_that_cannot_be_written_is_named_with_the_fix(dags: Path, storage: Path) -> None:
    storage.touch()
    made = CustomerFilesBundle(name="dags-folder", path=str(dags))
    with pytest.raises(OSError, match=f"cannot be made in {storage}/.*dag_bundle_storage_path"):
        made.initialize()


def test_a_change_is_asked_for_and_once_more_later(
    dags: Path, customers: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bundle, "_again_seconds", lambda: 0.0)
    watching = CustomerFilesBundle(name="dags-folder", path=str(dags), shards=8, refresh_interval=5)
    with warnings.catch_warnings(action="ignore"):  # Airflow's own, over its own tables
        initdb()
    taken()
    watching.refresh()
    assert taken() == set()  # at its start the dag-processor parses everything anyway

    shutil.copy(ROOT / "include" / "examples" / "sftp.yaml", customers)
    file = shard_of("sftp", shard_files(8))
    for wanted in ({file}, {file}, set()):
        watching.refresh()
        assert taken() == wanted

    (customers / "sftp.yaml").write_text("interval: daily\n")
    with monkeypatch.context() as away, caplog.at_level(logging.ERROR):
        away.setattr("airflow.utils.session.create_session", None)
        watching.refresh()
    assert "not noticed" in caplog.text
    watching.refresh()
    assert taken() == {file, "config_errors.py", "sftp.yaml.py"}

    platform = customers.parent / "platform.yaml"
    platform.write_text(platform.read_text() + "# changed\n")
    watching.refresh()
    assert taken() - {"sftp.yaml.py"} == {*shard_files(8), "config_errors.py"}


def import_errors(made: CustomerFilesBundle) -> dict[str, str]:
    """As the dag-processor finds them, by the name under which Airflow lists them."""
    found = {}
    for file in sorted(listed(made.path) - {*shard_files(MOST)}):
        found |= BundleDagBag(made.path / file, bundle_path=made.path, bundle_name=made.name).import_errors
    return found


def test_a_broken_file_is_an_import_error_of_its_own_name(dags: Path, customers: Path) -> None:
    made = CustomerFilesBundle(name="dags-folder", path=str(dags), shards=2)
    with warnings.catch_warnings(action="ignore"):
        initdb()
    (customers / "right.yaml").write_text(GOOD % "right")
    (customers / "acme.yaml").write_text("interval: \"''' \\\" \n")
    (customers / "Größe 2.yml").write_text("interval: daily\n")
    (customers / "line\nend.yaml").write_text("interval: daily\n")  # no name for a DAG file
    made.refresh()
    errors = import_errors(made)
    assert errors.keys() == {"acme.yaml.py", "Größe 2.yml.py", "config_errors.py"}
    assert f"{customers}/acme.yaml:1: " in errors["acme.yaml.py"]
    assert [line for line in errors["config_errors.py"].splitlines() if "/acme.yaml" in line or "right" in line] == []
    assert "line\\nend.yaml" in errors["config_errors.py"]
    worker = CustomerFilesBundle(name="dags-folder", path=str(dags), shards=2)
    worker.initialize()  # each task that starts on this machine does that, and has not read the customer files
    assert import_errors(made) == errors
    for name in ("Größe 2.yml", "line\nend.yaml"):
        (customers / name).unlink()
    (customers / "acme.yaml").write_text("interval: hourly\n")
    made.refresh()
    again = import_errors(made)
    assert again.keys() == {"acme.yaml.py"}
    (customers / "acme.yaml").write_text(GOOD % "acme")
    made.refresh()
    assert import_errors(made) == {}


def test_of_thousands_of_broken_files_the_first_have_an_import_error_of_their_own() -> None:
    files = broken_files({f"{number:04}.yaml": ["no"] for number in range(5000)})
    assert len(files) == MOST_BROKEN
    assert "0000.yaml.py" in files


@pytest.mark.parametrize("name", ["客" * 83, "x" * 250], ids=["83 of three bytes", "250"])
def test_a_broken_file_with_a_long_name_hides_no_change_of_another(dags: Path, customers: Path, name: str) -> None:
    """Its DAG file's name, or that of its draft, would be longer than a file system takes."""
    made = CustomerFilesBundle(name="dags-folder", path=str(dags), shards=8)
    with warnings.catch_warnings(action="ignore"):
        initdb()
    (customers / f"{name}.yaml").write_text("interval: daily\n")
    made.refresh()
    taken()
    (customers / "acme.yaml").write_text(GOOD % "acme")
    made.refresh()
    assert taken() == {shard_of("acme", shard_files(8))}
    (message,) = import_errors(made).values()
    assert f"{customers}/{name}.yaml: " in message


def test_what_cannot_be_shown_keeps_no_change_from_being_parsed(
    dags: Path, customers: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = CustomerFilesBundle(name="dags-folder", path=str(dags), shards=8)
    with warnings.catch_warnings(action="ignore"):
        initdb()
    made.refresh()
    taken()
    (customers / "acme.yaml").write_text(GOOD % "acme")
    for name in ("b.yaml", "c.yaml"):
        (customers / name).write_text("interval: daily\n")
    write = Path.write_text

    def full(path: Path, text: str) -> int:
        if path.name.startswith(".c.yaml.py."):
            raise OSError("No space left on device")
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", full)
    made.refresh()
    files = shard_files(8)
    assert taken() == {"config_errors.py", "b.yaml.py", *(shard_of(name, files) for name in ("acme", "b", "c"))}
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize("seconds", [0, 30])
def test_a_file_is_parsed_once_more_when_airflow_stores_it_again(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """The first of two edits was stored a moment ago, and Airflow leaves the second out."""
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", str(seconds))
    assert bundle._again_seconds() == seconds + 15


def test_what_is_to_be_parsed_once_more_is_so_also_where_airflow_s_database_was_away(
    dags: Path, customers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_again_seconds", lambda: 0.0)
    made = CustomerFilesBundle(name="dags-folder", path=str(dags), shards=8)
    with warnings.catch_warnings(action="ignore"):
        initdb()
    made.refresh()
    (customers / "acme.yaml").write_text(GOOD % "acme")
    made.refresh()
    taken()
    with monkeypatch.context() as away:
        away.setattr("airflow.utils.session.create_session", None)
        made.refresh()
    for wanted in ({shard_of("acme", shard_files(8))}, set()):
        made.refresh()
        assert taken() == wanted


def test_what_another_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    wanted, draft = {"one.py": "# one"}, tmp_path / ".acme.yaml.py.4711"
    shards.complete(tmp_path, wanted)
    draft.touch()
    assert shards.is_complete(tmp_path, wanted)
    (tmp_path / "two.py").touch()
    (tmp_path / "..2025_03_16.4711").symlink_to("gone")  # of a ConfigMap that has changed
    shards.complete(tmp_path, wanted)
    assert {path.name for path in tmp_path.iterdir()} == {"one.py", draft.name}


def swap_generation(mount: Path, number: int, files: dict[str, str]) -> None:
    """Does to a mounted ConfigMap what a kubelet does when it has changed: one rename swaps all files at once."""
    made, before = mount / f"..2025_03_{number:02}", (mount / "..data").resolve()
    made.mkdir()
    for name, text in files.items():
        (made / name).write_text(text)
        os.utime(made / name, (0, 0))  # content alone may differ, not even its size
        if not (mount / name).is_symlink():
            (mount / name).symlink_to(f"..data/{name}")
    (mount / "..data_tmp").symlink_to(made.name)
    (mount / "..data_tmp").rename(mount / "..data")
    if before.name.startswith("..2025"):
        shutil.rmtree(before)
    for name in {path.name for path in mount.iterdir()} - {*files, "..data", made.name}:
        (mount / name).unlink()


def test_a_config_map_s_swap_is_seen(customers: Path) -> None:
    """Also where only the content behind the links differs, and where files come and go."""
    first = {"acme.yaml": GOOD % "acme", "other.yaml": GOOD % "other"}
    swap_generation(customers, 1, first)
    watch = FolderWatch()
    assert watch.look() == Changes()
    assert watch.look() == Changes()
    swap_generation(customers, 2, first)
    assert watch.look() == Changes()  # another generation with the same content
    swap_generation(customers, 3, first | {"acme.yaml": GOOD % "abcd"})
    assert watch.look() == Changes(frozenset({"acme"}))
    swap_generation(customers, 4, {"acme.yaml": GOOD % "abcd", "third.yaml": GOOD % "third"})
    assert watch.look() == Changes(frozenset({"other", "third"}))
    swap_generation(customers, 5, {"acme.yaml": "interval: daily\n", "third.yaml": GOOD % "third"})
    assert watch.look() == Changes(frozenset({"acme"}), problems=True)


def test_a_git_checkout_that_is_swapped_behind_a_link_is_seen(
    tmp_path: Path, customers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As git-sync does it: the folder itself is below a link that moves to another checkout."""
    for commit, bucket in (("a1", "abcd"), ("b2", "efgh")):
        (tmp_path / commit / "customers").mkdir(parents=True)
        (tmp_path / commit / "customers" / "acme.yaml").write_text(GOOD % bucket)
        os.utime(tmp_path / commit / "customers" / "acme.yaml", (0, 0))
    link = tmp_path / "current"
    link.symlink_to("a1")
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(link / "customers"))
    watch = FolderWatch()
    assert (watch.look(), watch.look()) == (Changes(), Changes())
    (tmp_path / "next").symlink_to("b2")
    (tmp_path / "next").rename(link)
    assert watch.look() == Changes(frozenset({"acme"}))
