"""The delivered file, made a second time in the slowest and plainest way, sharing no code with the service.

Whole tables by psycopg, filtered, sorted and spelled by plain Python from the text of docs/format.md.
"""

import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID

import psycopg

Row = dict[str, Any]

READ = {
    "work_order": "id, name, site_id, create_date, update_date, metadata::text AS metadata, progress_score",
    "work_item": "id, work_order_id, name, position",
    "input": "id, work_item_id, create_date, file_extension, metadata::text AS metadata",
    "data_conformity": 'input_id, "check", code, level',
    "job_conformity": "input_id, task_name, analyzed_value::text AS analyzed_value, "
    "corrected_value::text AS corrected_value, corrected_date, message, is_conformity_validated",
}


def expected_file(dsn: str, site: UUID, start: datetime, end: datetime, *, states: bool) -> bytes:
    """The file of one site and window, by the words of the format."""
    tables: dict[str, list[Row]] = {}
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as connection:
        for table, columns in READ.items():
            tables[table] = connection.execute(f"SELECT {columns} FROM {table}").fetchall()
    children = {
        "items": by(tables["work_item"], "work_order_id"),
        "inputs": by(tables["input"], "work_item_id"),
        "checks": by(tables["data_conformity"], "input_id"),
        "jobs": by(tables["job_conformity"], "input_id"),
    }
    orders = [
        row
        for row in tables["work_order"]
        if row["site_id"] == site
        and any(row[key] is not None and start <= row[key] < end for key in ("create_date", "update_date"))
    ]
    return "".join(order(row, children, states) + "\n" for row in ranked(orders, "create_date", "id")).encode()


def by(rows: list[Row], key: str) -> dict[UUID, list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[row[key]].append(row)
    return found


def ranked(rows: list[Row], *keys: str) -> list[Row]:
    """Sorted by the keys with NULL first; Python compares text by code point and uuids by their bytes."""
    for key in reversed(keys):
        rows = [r for r in rows if r[key] is None] + sorted(
            (r for r in rows if r[key] is not None), key=lambda r: r[key]
        )
    return rows


def order(row: Row, children: dict[str, dict[UUID, list[Row]]], states: bool) -> str:
    items = ranked(children["items"][row["id"]], "position", "id")
    return obj(
        id=text(str(row["id"])),
        name=text(row["name"]),
        site_id=text(str(row["site_id"])),
        create_date=moment(row["create_date"]),
        update_date=moment(row["update_date"]),
        metadata=row["metadata"] or "null",
        progress_score=number(row["progress_score"]),
        work_items=array(item(each, children, states) for each in items),
    )


def item(row: Row, children: dict[str, dict[UUID, list[Row]]], states: bool) -> str:
    inputs = ranked(children["inputs"][row["id"]], "create_date", "id")
    if states:
        inputs = inputs[-1:]
    return obj(id=text(str(row["id"])), name=text(row["name"]), input=array(shot(each, children) for each in inputs))


def shot(row: Row, children: dict[str, dict[UUID, list[Row]]]) -> str:
    checks = ranked(children["checks"][row["id"]], "check", "code", "level")
    jobs = sorted(children["jobs"][row["id"]], key=job)  # the last resort of ties
    return obj(
        id=text(str(row["id"])),
        create_date=moment(row["create_date"]),
        file_extension=text(row["file_extension"]),
        metadata=row["metadata"] or "null",
        data_conformity=array(
            obj(check=text(c["check"]), code=integer(c["code"]), level=text(c["level"])) for c in checks
        ),
        job_conformity=array(job(each) for each in ranked(jobs, "task_name", "corrected_date", "message")),
    )


def job(row: Row) -> str:
    validated = row["is_conformity_validated"]
    return obj(
        task_name=text(row["task_name"]),
        analyzed_value=row["analyzed_value"] or "null",
        corrected_value=row["corrected_value"] or "null",
        corrected_date=moment(row["corrected_date"]),
        message=text(row["message"]),
        is_conformity_validated="null" if validated is None else str(validated).lower(),
    )


def obj(**members: str) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"


def array(values: Any) -> str:
    return "[" + ",".join(values) + "]"


def text(value: str | None) -> str:
    return json.dumps(value, ensure_ascii=False)


def integer(value: int | None) -> str:
    return "null" if value is None else str(value)


def moment(value: datetime | None) -> str:
    return "null" if value is None else '"' + value.astimezone(UTC).isoformat(timespec="microseconds") + '"'


def number(value: float | None) -> str:
    if value is None or not isfinite(value):
        return "null"
    text = repr(value)
    if text.endswith("e-05"):  # 0.00001, which Python writes 1e-05
        return f"{Decimal(text):f}"
    return re.sub(r"e-0", "e-", text)  # 1e-7, which Python writes 1e-07
