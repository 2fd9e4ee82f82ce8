"""The form of `data_export_check` offers the exports by name, cheaply."""

from pathlib import Path

import pytest
import yaml

import data_export_airflow.check_dag as check_dag
from data_export_airflow.check_dag import build_check_dag


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
