"""The form of `data_export_check` offers the exports by name, cheaply; what is no name gets nowhere."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import yaml
from airflow.sdk.exceptions import ParamValidationError

import data_export_airflow.dags.service_dags as check_dag
from data_export.errors import ConfigError
from data_export_airflow.dags.service_dags import build_check_dag
from data_export_airflow.operators import CheckExportOperator
from tests.customers import GOOD


@pytest.fixture
def customers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    return tmp_path


def schema() -> dict[str, object]:
    return dict(build_check_dag().params.get_param("export").schema)


def test_the_form_offers_every_file_and_takes_any_name(customers: Path) -> None:
    for name in ("beta", "acme"):
        (customers / f"{name}.yaml").write_text("not read: [")
    assert schema()["examples"] == ["acme", "beta"]
    assert "enum" not in schema()
    params = build_check_dag().params
    params["export"] = "another"
    params.validate()


def test_all_are_all_files_also_broken_ones(customers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (customers / "acme.yaml").write_text(GOOD % "acme")
    (customers / "broken.yaml").write_text("not read: [")
    monkeypatch.setattr(check_dag, "get_current_context", lambda: {"params": {"export": None}})
    assert check_dag._list_exports() == ["acme", "broken"]


def test_a_file_whose_name_is_no_text_leaves_a_dag_that_can_be_stored(
    customers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that parses it sends it so to the dag-processor."""
    Path(os.fsdecode(os.fsencode(customers) + b"/caf\xe9.yaml")).touch()
    monkeypatch.setattr(check_dag, "get_current_context", lambda: {"params": {"export": None}})
    for names in (schema()["examples"], check_dag._list_exports()):
        assert names == [r"caf\xe9"]
        msgspec.msgpack.encode(names)


def test_a_name_that_airflow_is_set_to_ignore_is_refused(customers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All would be checked, or audited, in its place."""
    run = SimpleNamespace(conf={"export": "acme"})
    monkeypatch.setattr(check_dag, "get_current_context", lambda: {"params": {"export": None}, "dag_run": run})
    for ask in (check_dag._list_exports, check_dag._list_audited):
        with pytest.raises(ConfigError, match=r"export='acme'.*dag_run_conf_overrides_params"):
            ask()


def test_a_folder_that_cannot_be_listed_is_no_empty_one(customers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would be checked or audited, and the run be a success."""
    monkeypatch.setattr(check_dag, "get_current_context", lambda: {"params": {"export": None}})
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(customers / "gone"))
    for ask in (check_dag._list_exports, check_dag._list_audited):
        with pytest.raises(ConfigError, match=r"gone: cannot be listed \(No such file"):
            ask()


def test_no_file_is_read(customers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (customers / f"customer-{number}.yaml").write_text("x")
    monkeypatch.setattr(yaml, "load", lambda *_: pytest.fail("a file was read"))
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("a file was read"))
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("a file was read"))
    assert len(schema()["examples"]) == 3


@pytest.mark.parametrize("number", [0, check_dag._MOST_SHOWN + 1])
def test_with_none_or_too_many_it_is_a_plain_field(customers: Path, number: int) -> None:
    for one in range(number):
        (customers / f"customer-{one}.yaml").touch()
    assert "examples" not in schema()


def test_no_folder_is_no_error(customers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(customers / "none"))
    assert "examples" not in schema()


# As keys of an XCom these would make Airflow's own client ask for something else: the first clears another DAG's run.
PATHS = (
    "../../../../dag-runs/data_export__acme/run/clear",
    "../x",
    "..",
    "a/b",
    "a?b",
    "%2e%2e",
    "A",
    "acme\n",
    "return_value",
)


@pytest.mark.parametrize("path", PATHS)
def test_what_is_no_name_is_asked_of_nobody(customers: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    class Instance:
        def xcom_push(self, *given: Any) -> None:
            pytest.fail(f"Airflow was asked: {given}")

    context = {"params": {"export": path}, "ti": Instance()}
    monkeypatch.setattr(check_dag, "get_current_context", lambda: context)
    check = CheckExportOperator(task_id="check", export=path)
    for ask in (check_dag._list_exports, lambda: check.execute(context)):  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="is not the name of an export"):
            ask()


@pytest.mark.parametrize("path", [path for path in PATHS if not path.endswith("\n")])
def test_the_trigger_is_refused(customers: Path, path: str) -> None:
    params = build_check_dag().params
    with pytest.raises(ParamValidationError):
        params["export"] = path


def test_names_and_all_may_be_asked_for(customers: Path) -> None:
    params = build_check_dag().params
    for name in (None, "", "a", "acme-2", "a" * 63):
        params["export"] = name
        params.validate()
