"""Refuses work orders that cannot be delivered, or sets them aside with all their rows."""

from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa

from data_export.errors import InvalidRecord
from data_export.source.snapshot import NUMBER
from data_export.transform.invalid import Problem
from data_export.transform.lines import Chunk
from data_export.transform.sort_keys import array, values


def refusal(chunk: Chunk, found: list[Problem]) -> InvalidRecord:
    """The error that names the first problem and the fix."""
    first = found[0]
    number = values(chunk["work_order"][NUMBER])
    order = _identity(chunk["work_order"], "id", int(number.searchsorted(first.number)))
    more = f" (and {len(found) - 1} more nearby)" if len(found) > 1 else ""
    return InvalidRecord(
        f"work order {order}: {f'{first.field}{_place(chunk, first)} {first.text}{more}'.strip()}: "
        "fix the row at the source, or write on_invalid: quarantine in the customer file"
    )


def set_aside(chunk: Chunk, found: list[Problem], path: Path) -> Chunk:
    """Appends the work orders with problems to `path`, one JSON object per line; returns the chunk without them.

    Each line has `work_order` (id), `problems` (`field`, `input`, `problem`) and `rows`, the raw rows by table: uuids
    and timestamps as text, jsonb as PostgreSQL's text; no rows where the problem is their size.
    """
    found = sorted(found, key=lambda problem: problem.number)
    with path.open("ab") as file:
        for number, group in groupby(found, key=lambda problem: problem.number):
            of_order = list(group)
            kept = chunk if of_order[0].field else {}
            rows = {table: _raw(_of_order(batch, number)) for table, batch in kept.items()}
            listed = [
                {"field": problem.field, "input": _input(chunk, problem), "problem": problem.text}
                for problem in of_order
            ]
            place = int(values(chunk["work_order"][NUMBER]).searchsorted(number))
            record = {"work_order": _identity(chunk["work_order"], "id", place), "problems": listed, "rows": rows}
            file.write(orjson.dumps(record) + b"\n")
    wrong = [problem.number for problem in found]
    return {
        table: batch.take(array(np.flatnonzero(~np.isin(values(batch[NUMBER]), wrong))))
        for table, batch in chunk.items()
    }


def _place(chunk: Chunk, problem: Problem) -> str:
    of_input = _input(chunk, problem)
    return f" of input {of_input}" if of_input else ""


def _input(chunk: Chunk, problem: Problem) -> str | None:
    key = {"input": "id", "data_conformity": "input_id", "job_conformity": "input_id"}.get(problem.table)
    return _identity(chunk[problem.table], key, problem.row) if key else None


def _identity(rows: pa.RecordBatch, key: str, row: int) -> str | None:
    value = rows[key][row].as_py()
    return None if value is None else str(UUID(bytes=value))


def _of_order(batch: pa.RecordBatch, number: int) -> pa.RecordBatch:
    first, last = np.searchsorted(values(batch[NUMBER]), [number, number + 1]).tolist()
    return batch.slice(first, last - first)


def _raw(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    columns = {field.name: _plain(batch[field.name]) for field in batch.schema if field.name != NUMBER}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(column: pa.Array) -> list[Any]:
    """Values that JSON can hold. Arrow spells a timestamp outside its calendar `<value out of range: ...>`."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us")).cast(pa.string())
    if pa.types.is_fixed_size_binary(column.type):
        return [value and str(UUID(bytes=value)) for value in column.to_pylist()]
    return list(column.to_pylist())
