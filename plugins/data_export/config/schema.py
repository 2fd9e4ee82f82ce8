"""JSON Schema of a customer file, for editors: `python -m data_export.config.schema` writes it anew."""

import json
from typing import Any

from data_export.config.models import EXPORT
from data_export.config.platform import ROOT

SCHEMA_FILE = ROOT / "include" / "schemas" / "customer.schema.json"


def customer_schema() -> dict[str, Any]:
    """Draft 2020-12: one branch per `connector_type`, each key with its description, defaults and choices."""
    schema = EXPORT.json_schema()
    # an OpenAPI keyword that repeats what each branch's constant connector_type says
    del schema["discriminator"]
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Customer export",
        "description": "One file of include/customers/",
    }
    return head | {key: _without_titles(value) for key, value in schema.items()}


def schema_text() -> str:
    return json.dumps(customer_schema(), indent=2, ensure_ascii=False) + "\n"


def _without_titles(value: Any) -> Any:
    """pydantic titles every key with its own name, which editors would show in place of the description."""
    if isinstance(value, dict):
        return {k: _without_titles(v) for k, v in value.items() if k != "title" or not isinstance(v, str)}
    return [_without_titles(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
