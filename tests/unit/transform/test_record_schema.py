"""The record's schema as customers get it: that of the public page, closer, documented, and open to new keys."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from data_export.handover.loading import fields as sheet_fields

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
RECORD = json.loads((ROOT / "include" / "schemas" / "record.schema.json").read_text())
PAGE = json.loads((GOLDEN / "page-schema.json").read_text())
CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER
VALID = jsonschema.Draft202012Validator(RECORD, format_checker=CHECKER)
LINES = (GOLDEN / "work-orders-timeline.jsonl").read_text().split("\n")[:-1]


def bare(schema: Any) -> Any:
    """Without descriptions and closed objects, and with null for ids."""
    if isinstance(schema, list):
        return [bare(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    extra = {"title", "description", "examples", "additionalProperties"} if "type" in schema else set()
    plain = {key: bare(value) for key, value in schema.items() if key not in extra}
    return plain | ({"type": ["string", "null"]} if schema.get("format") == "uuid" else {})


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield name, field
        yield from fields(field.get("items", {}))


def test_it_is_that_of_the_page_but_for_new_keys_ids_checks_and_descriptions() -> None:
    jsonschema.Draft202012Validator.check_schema(RECORD)
    page = bare(PAGE)
    # What is delivered is always a list, and a whole number.
    for name, theirs, ours in (
        ("data_conformity", ["array", "null"], "array"),
        ("code", ["number", "null"], ["integer", "null"]),
    ):
        field = dict(fields(page))[name]
        assert field["type"] == theirs
        field["type"] = ours
    assert bare(RECORD) == page


@pytest.mark.parametrize("line", LINES)
def test_what_is_delivered_is_valid(line: str) -> None:
    VALID.validate(json.loads(line))


@pytest.mark.parametrize("path", [(), ("work_items", 0), ("work_items", 0, "input", 0)])
def test_a_key_that_it_does_not_list_is_accepted_at_any_level(path: tuple[str | int, ...]) -> None:
    record = json.loads((GOLDEN / "work-orders-timeline.jsonl").read_text().split("\n")[7])
    entry = record
    for step in path:
        entry = entry[step]
    entry["added_later"] = {"any": 1}
    VALID.validate(record)
    entry["id"] = None
    with pytest.raises(jsonschema.ValidationError, match="None is not of type 'string'"):
        VALID.validate(record)


@pytest.mark.parametrize(("name", "field"), [*fields(RECORD)])
def test_every_field_is_explained_as_in_the_documentation(name: str, field: dict[str, Any]) -> None:
    example = f"`{json.dumps(field['examples'][0], ensure_ascii=False)}`" if "examples" in field else ""
    assert example or field["type"] == "array"
    (kind, *_) = [told["type"] for told in sheet_fields() if told["meaning"] == field["description"]]
    *kinds, last = kind.split(" or ")
    kind = f"{', '.join(kinds)} or {last}" if kinds else last
    row = rf"^\| `{name}` \| {kind} \| {re.escape(field['description'])} \| {re.escape(example)} \|$"
    assert re.search(row, (ROOT / "docs" / "format.md").read_text(), re.MULTILINE), f"docs/format.md: {name}"


@pytest.mark.parametrize(("name", "field"), [*fields(RECORD)])
def test_every_example_is_valid(name: str, field: dict[str, Any]) -> None:
    for example in field.get("examples", ()):
        jsonschema.Draft202012Validator(field, format_checker=CHECKER).validate(example)
