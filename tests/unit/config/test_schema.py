"""The JSON Schema that editors use, and the examples that users copy."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from data_export.config.load import load_customer, load_customers
from data_export.config.models import EXPORTS
from data_export.config.platform import ROOT
from data_export.config.problems.explain import keys_of
from data_export.config.reading.yaml_lines import read_document
from data_export.config.schema import SCHEMA_FILE, customer_schema, schema_text
from data_export.delivery.registry import SCHEMES

EXAMPLES = sorted((ROOT / "include" / "examples").glob("*.yaml"))
FILES = [*EXAMPLES, *sorted((ROOT / "include" / "customers").glob("*.yaml"))]
FIRST_LINE = "# yaml-language-server: $schema=../schemas/customer.schema.json"


def as_an_editor_reads(path: Path) -> Any:
    """YAML 1.2, as editors read it: booleans and integers are such, dates are text."""

    def typed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: typed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [typed(item) for item in value]
        is_literal = isinstance(value, str) and re.fullmatch(r"true|false|\d+", value)
        return json.loads(value) if is_literal else value

    return typed(read_document(path).values)


def errors_of(values: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(customer_schema()).iter_errors(values)]


def test_the_checked_in_schema_is_what_the_models_say() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "stale: python -m data_export.config.schema"
    Draft202012Validator.check_schema(customer_schema())


def test_the_schema_has_a_branch_for_every_connector_and_a_description_for_every_key() -> None:
    schema = customer_schema()
    branches = [schema["$defs"][branch["$ref"].rpartition("/")[2]] for branch in schema["oneOf"]]
    assert {branch["properties"]["connector_type"]["const"] for branch in branches} == set(EXPORTS)
    undescribed = [
        f"{name}.{key}"
        for name, definition in schema["$defs"].items()
        for key, value in definition["properties"].items()
        if not value.get("description")
    ]
    assert undescribed == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_files_are_right_for_us_and_for_editors(path: Path) -> None:
    load_customer(path)
    assert errors_of(as_an_editor_reads(path)) == []
    assert path.read_text().splitlines()[0] == FIRST_LINE
    assert (path.parent / FIRST_LINE.partition("=")[2]).resolve() == SCHEMA_FILE


def test_every_connector_has_an_example() -> None:
    loaded = load_customers(EXAMPLES[0].parent)
    assert not any(problem.is_error for problem in loaded.problems)  # they share sites, of which it warns
    schemes = {export.scheme for export in loaded.exports.values()}
    assert schemes == (set(EXPORTS) - {"cloud_storage"}) | (set(SCHEMES) - {"file"})


@pytest.mark.parametrize("tag", EXPORTS)
def test_every_key_is_explained_in_an_example_and_on_the_page_for_users(tag: str) -> None:
    config = EXPORTS[tag].model_fields["connector_config"].annotation
    assert config is not None
    text = "".join(path.read_text() for path in EXAMPLES)
    keys = [*keys_of(EXPORTS[tag]), *keys_of(config)]  # type: ignore[arg-type]
    assert [key for key in keys if not re.search(rf"^[ #]*{key}:", text, re.MULTILINE)] == []
    page = (ROOT / "docs" / "add-a-customer.md").read_text(encoding="utf-8")
    assert [key for key in keys if f"| `{key}` |" not in page and key != "if_exists"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"site_id": []},
        {"site_id": "433a60f6-9756-473e-b1e9-9e89e24bb787"},
        {"export_type": "work-orders"},
        {"interval": "every day"},
        {"interval": "once", "end_date": ...},
        {"start_date": "16.3.2025"},
        {"start_date": ...},
        {"connector_type": "ftp"},
        {"connector_type": "email"},
        {"connector_config": {"storage_uri": "https://bucket/", "export_images": True}},
        {"connector_config": {"storage_uri": "gs://bucket/"}},
        {"connector_type": "sftp", "connector_config": {"sftp_remote_path": "/x", "export_images": True}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_an_editor_marks_what_the_service_refuses(change: dict[str, Any]) -> None:
    values = as_an_editor_reads(next(path for path in EXAMPLES if path.stem == "cloud-storage-gs")) | change
    assert errors_of({key: value for key, value in values.items() if value is not ...})
