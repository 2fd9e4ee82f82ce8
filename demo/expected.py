"""What must be delivered, worked out from the demo data alone: slow, plain, and sharing no code with the service."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from demo.data import COLUMNS, DemoData

Record = dict[str, Any]


def expected_file(data: DemoData, site_id: UUID, export_type: str, start: datetime, end: datetime) -> bytes:
    """The data file of one site and window `[start, end)`, byte for byte."""
    lines = (_text(record) + "\n" for record in expected_records(data, site_id, export_type, start, end))
    return "".join(lines).encode()


def expected_images(data: DemoData, site_id: UUID, export_type: str, start: datetime, end: datetime) -> set[str]:
    """`<site_id>/<input_id><file_extension>` of every image the file refers to, the one missing at the source too."""
    return {
        f"{site_id}/{entry['id']}{entry['file_extension'] or ''}"
        for record in expected_records(data, site_id, export_type, start, end)
        for item in record["work_items"]
        for entry in item["input"]
    }


def expected_records(data: DemoData, site_id: UUID, export_type: str, start: datetime, end: datetime) -> list[Record]:
    """The records, in delivered order."""
    tables = {name: [dict(zip(COLUMNS[name], row, strict=True)) for row in rows] for name, rows in data.tables.items()}
    orders = [
        order
        for order in tables["work_order"]
        if order["site_id"] == site_id
        and any(start <= moment < end for moment in (order["create_date"], order["update_date"]) if moment)
    ]
    return [_order(order, tables, export_type) for order in sorted(orders, key=lambda o: (o["create_date"], o["id"]))]


def _order(order: Record, tables: dict[str, list[Record]], export_type: str) -> Record:
    items = [item for item in tables["work_item"] if item["work_order_id"] == order["id"]]
    record = {name: order[name] for name in COLUMNS["work_order"]}
    record["work_items"] = [
        {"id": item["id"], "name": item["name"], "input": _inputs(item["id"], tables, export_type)}
        for item in sorted(items, key=lambda item: (item["position"], item["id"]))
    ]
    return record


def _inputs(item_id: UUID, tables: dict[str, list[Record]], export_type: str) -> list[Record]:
    inputs = [entry for entry in tables["input"] if entry["work_item_id"] == item_id]
    inputs.sort(key=lambda entry: (entry["create_date"], entry["id"]))
    return [
        {name: entry[name] for name in ("id", "create_date", "file_extension", "metadata")}
        | {
            "data_conformity": _conformity(entry["id"], tables, "data_conformity", ("check", "code", "level")),
            "job_conformity": _conformity(
                entry["id"], tables, "job_conformity", ("task_name", "corrected_date", "message")
            ),
        }
        for entry in (inputs[-1:] if export_type == "work-orders-states" else inputs)
    ]


def _conformity(input_id: UUID, tables: dict[str, list[Record]], table: str, order: tuple[str, ...]) -> list[Record]:
    rows = [row for row in tables[table] if row["input_id"] == input_id]
    rows.sort(key=lambda row: [(row[name] is not None, row[name]) for name in order])  # NULL first
    return [{name: row[name] for name in COLUMNS[table] if name != "input_id"} for row in rows]


_JSONB = ("metadata", "analyzed_value", "corrected_value")


def _text(value: Any, column: str = "") -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f'"{name}":{_text(entry, name)}' for name, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    if value is not None and column in _JSONB:
        # As PostgreSQL prints jsonb: the shorter key first, and a blank after each comma and colon.
        parsed = json.loads(value)
        if isinstance(parsed, dict):
            parsed = dict(sorted(parsed.items(), key=lambda pair: (len(pair[0]), pair[0])))
        return json.dumps(parsed, ensure_ascii=False)
    if isinstance(value, datetime):
        return f'"{value.isoformat(timespec="microseconds")}"'
    return json.dumps(str(value) if isinstance(value, UUID) else value, ensure_ascii=False)
