"""Other ways to make the same files, as somebody might write them without this service; see `benchmarks.data_path`."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel

SESSION = (
    "SET jit = off; SET work_mem = '64MB'; SET TimeZone = 'UTC'; SET default_transaction_isolation = 'repeatable read'"
)
WHERE = """site_id = '{site}' AND (create_date >= '2025-03-17' AND create_date < '2025-03-18'
    OR update_date >= '2025-03-17' AND update_date < '2025-03-18')"""

# The text that the service writes, put together by string functions. Backslashes are why it is csv without a quote:
# the text format of COPY would double them.
TEXT = r"""
SELECT '{"id":"' || o.id || '","name":' || coalesce(to_json(o.name)::text, 'null') || ',"site_id":"' || o.site_id
    || '","create_date":' || [o.create_date] || ',"update_date":' || [o.update_date]
    || ',"metadata":' || coalesce(o.metadata::text, 'null')
    || ',"progress_score":' || coalesce(o.progress_score::text, 'null') || ',"work_items":[' || coalesce((
  SELECT string_agg('{"id":"' || w.id || '","name":' || coalesce(to_json(w.name)::text, 'null')
      || ',"input":[' || coalesce((
    SELECT string_agg('{"id":"' || i.id || '","create_date":' || [i.create_date]
        || ',"file_extension":' || coalesce(to_json(i.file_extension)::text, 'null')
        || ',"metadata":' || coalesce(i.metadata::text, 'null') || ',"data_conformity":[' || coalesce((
      SELECT string_agg('{"check":' || coalesce(to_json(c."check")::text, 'null')
          || ',"code":' || coalesce(c.code::text, 'null')
          || ',"level":' || coalesce(to_json(c.level)::text, 'null') || '}', ','
          ORDER BY c."check" COLLATE "C" NULLS FIRST, c.code NULLS FIRST, c.level COLLATE "C" NULLS FIRST)
      FROM data_conformity c WHERE c.input_id = i.id), '') || '],"job_conformity":[' || coalesce((
      SELECT string_agg('{"task_name":' || coalesce(to_json(j.task_name)::text, 'null')
          || ',"analyzed_value":' || coalesce(j.analyzed_value::text, 'null')
          || ',"corrected_value":' || coalesce(j.corrected_value::text, 'null')
          || ',"corrected_date":' || [j.corrected_date]
          || ',"message":' || coalesce(to_json(j.message)::text, 'null')
          || ',"is_conformity_validated":' || coalesce(j.is_conformity_validated::text, 'null') || '}', ','
          ORDER BY j.task_name COLLATE "C" NULLS FIRST, j.corrected_date NULLS FIRST, j.message COLLATE "C" NULLS FIRST)
      FROM job_conformity j WHERE j.input_id = i.id), '') || ']}', ',' ORDER BY i.create_date NULLS FIRST, i.id)
    FROM input i WHERE i.work_item_id = w.id), '') || ']}', ',' ORDER BY w.position NULLS FIRST, w.id)
  FROM work_item w WHERE w.work_order_id = o.id), '') || ']}'
FROM work_order o WHERE {where} ORDER BY o.create_date NULLS FIRST, o.id"""

# The same by PostgreSQL's own JSON functions, whose spacing and timestamps are theirs.
JSON = """
SELECT json_build_object('id', o.id, 'name', o.name, 'site_id', o.site_id, 'create_date', o.create_date,
    'update_date', o.update_date, 'metadata', o.metadata, 'progress_score', o.progress_score, 'work_items', coalesce((
  SELECT json_agg(json_build_object('id', w.id, 'name', w.name, 'input', coalesce((
    SELECT json_agg(json_build_object('id', i.id, 'create_date', i.create_date, 'file_extension', i.file_extension,
        'metadata', i.metadata, 'data_conformity', coalesce((
      SELECT json_agg(json_build_object('check', c."check", 'code', c.code, 'level', c.level)
          ORDER BY c."check" COLLATE "C" NULLS FIRST, c.code NULLS FIRST, c.level COLLATE "C" NULLS FIRST)
      FROM data_conformity c WHERE c.input_id = i.id), '[]'), 'job_conformity', coalesce((
      SELECT json_agg(json_build_object('task_name', j.task_name, 'analyzed_value', j.analyzed_value,
          'corrected_value', j.corrected_value, 'corrected_date', j.corrected_date, 'message', j.message,
          'is_conformity_validated', j.is_conformity_validated)
          ORDER BY j.task_name COLLATE "C" NULLS FIRST, j.corrected_date NULLS FIRST, j.message COLLATE "C" NULLS FIRST)
      FROM job_conformity j WHERE j.input_id = i.id), '[]')) ORDER BY i.create_date NULLS FIRST, i.id)
    FROM input i WHERE i.work_item_id = w.id), '[]')) ORDER BY w.position NULLS FIRST, w.id)
  FROM work_item w WHERE w.work_order_id = o.id), '[]'))
FROM work_order o WHERE {where} ORDER BY o.create_date NULLS FIRST, o.id"""


def copy_text(dsn: str, sites: list[UUID], folder: Path) -> None:
    _copy(dsn, sites, folder, _with_timestamps(TEXT))


def copy_json(dsn: str, sites: list[UUID], folder: Path) -> None:
    _copy(dsn, sites, folder, JSON)


def _with_timestamps(sql: str) -> str:
    for column in ("o.create_date", "o.update_date", "i.create_date", "j.corrected_date"):
        text = f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"
        sql = sql.replace(f"[{column}]", f"coalesce('\"' || {text} || '+00:00\"', 'null')")
    return sql


def _copy(dsn: str, sites: list[UUID], folder: Path, sql: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(SESSION)
        for site in sites:
            query = sql.replace("{where}", WHERE.format(site=site))
            copied = f"COPY ({query}) TO STDOUT (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')"
            with (folder / f"{site}.jsonl").open("wb") as file, connection.cursor().copy(copied) as copy:
                for block in copy:
                    file.write(block)


ROWS = {
    "work_order": "o.id, o.name, o.site_id, o.create_date, o.update_date, o.metadata{text} AS metadata, "
    "o.progress_score",
    "work_item": "w.id, w.work_order_id, w.name, w.position",
    "input": "i.id, i.work_item_id, i.create_date, i.file_extension, i.metadata{text} AS metadata",
    "data_conformity": 'c.input_id, c."check", c.code, c.level',
    "job_conformity": "j.input_id, j.task_name, j.analyzed_value{text} AS analyzed_value, j.corrected_value{text} AS "
    "corrected_value, j.corrected_date, j.message, j.is_conformity_validated",
}
FROM = {
    "work_order": "",
    "work_item": " JOIN work_item w ON w.work_order_id = o.id",
    "input": " JOIN work_item w ON w.work_order_id = o.id JOIN input i ON i.work_item_id = w.id",
}
FROM["data_conformity"] = FROM["input"] + " JOIN data_conformity c ON c.input_id = i.id"
FROM["job_conformity"] = FROM["input"] + " JOIN job_conformity j ON j.input_id = i.id"
Record = dict[str, Any]


def psycopg_orjson(dsn: str, sites: list[UUID], folder: Path) -> None:
    """Five server-side cursors, rows merged in Python, orjson; jsonb stays text."""

    def line(record: Record) -> bytes:
        return orjson.dumps(record, default=_spelled, option=orjson.OPT_PASSTHROUGH_DATETIME)

    def spell(row: Record) -> None:
        for name in ("metadata", "analyzed_value", "corrected_value"):
            if name in row and row[name] is not None:
                row[name] = orjson.Fragment(row[name])

    _merged(dsn, sites, folder, line, spell, "::text")


class Check(BaseModel):
    check: str | None
    code: int | None
    level: str | None


class Job(BaseModel):
    task_name: str | None
    analyzed_value: str | bool | float | None
    corrected_value: str | bool | float | None
    corrected_date: datetime | None
    message: str | None
    is_conformity_validated: bool | None


class Input(BaseModel):
    id: UUID
    create_date: datetime | None
    file_extension: str | None
    metadata: dict[str, Any] | None
    data_conformity: list[Check]
    job_conformity: list[Job]


class Item(BaseModel):
    id: UUID
    name: str | None
    input: list[Input]


class Order(BaseModel):
    id: UUID
    name: str | None
    site_id: UUID
    create_date: datetime | None
    update_date: datetime | None
    metadata: dict[str, Any] | None
    progress_score: float | None
    work_items: list[Item]


def pydantic_models(dsn: str, sites: list[UUID], folder: Path) -> None:
    """The same rows, one validated model per record."""
    _merged(
        dsn, sites, folder, lambda record: Order.model_validate(record).model_dump_json().encode(), lambda _: None, ""
    )


def _spelled(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value)


def _merged(
    dsn: str,
    sites: list[UUID],
    folder: Path,
    line: Callable[[Record], bytes],
    spell: Callable[[Record], None],
    text: str,
) -> None:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        connection.execute(SESSION)
        for site in sites:
            with (folder / f"{site}.jsonl").open("wb") as file:
                for record in _records(connection, site, spell, text):
                    file.write(line(record) + b"\n")


def _records(
    connection: psycopg.Connection[Record], site: UUID, spell: Callable[[Record], None], text: str
) -> Iterator[Record]:
    numbered = (
        "(SELECT *, row_number() OVER (ORDER BY create_date NULLS FIRST, id) AS n FROM work_order "
        f"WHERE {WHERE.format(site=site)}) AS o"
    )
    streams = {}
    for table, columns in ROWS.items():
        cursor = connection.cursor(name=table)
        cursor.itersize = 5_000
        cursor.execute(f"SELECT o.n, {columns.format(text=text)} FROM {numbered}{FROM[table]} ORDER BY o.n")
        streams[table] = groupby(cursor, key=itemgetter("n"))
    heads = {table: next(streams[table], None) for table in ROWS}
    while heads["work_order"] is not None:
        number = heads["work_order"][0]
        rows: dict[str, list[Record]] = {}
        for table in ROWS:
            head = heads[table]
            rows[table] = list(head[1]) if head is not None and head[0] == number else []
            if rows[table]:
                heads[table] = next(streams[table], None)
        yield _nested(rows, spell)
    for table in ROWS:
        connection.execute(f'CLOSE "{table}"')


def _nested(rows: dict[str, list[Record]], spell: Callable[[Record], None]) -> Record:
    def children(table: str, parent: str, *keys: str) -> dict[UUID, list[Record]]:
        found: dict[UUID, list[Record]] = {}
        for row in sorted(rows[table], key=lambda row: [(row[key] is not None, row[key]) for key in keys]):
            spell(row)
            del row["n"]
            found.setdefault(row.pop(parent), []).append(row)
        return found

    (order,) = rows["work_order"]
    spell(order)
    del order["n"]
    jobs = children("job_conformity", "input_id", "task_name")
    checks = children("data_conformity", "input_id", "check", "code")
    inputs = children("input", "work_item_id", "create_date", "id")
    order["work_items"] = children("work_item", "work_order_id", "position", "id").get(order["id"], [])
    for item in order["work_items"]:
        del item["position"]
        item["input"] = inputs.get(item["id"], [])
        for each in item["input"]:
            each["data_conformity"] = checks.get(each["id"], [])
            each["job_conformity"] = jobs.get(each["id"], [])
    return order
