"""Finds values that cannot be delivered, chunk by chunk, before a chunk is written."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_export.errors import SourceRejected
from data_export.layout import is_safe_extension
from data_export.source.snapshot import NUMBER, PATHS
from data_export.transform.lines import Chunk
from data_export.transform.sort_keys import values, whole

_YEAR_1, _YEAR_10000 = -62_135_596_800_000_000, 253_402_300_800_000_000  # microseconds since 1970
# First characters of the JSON that a column may hold; PostgreSQL's text of a jsonb value never begins with a space.
_OBJECT, _SCALAR = b"{n", b'"tfn-0123456789'


@dataclass(frozen=True, slots=True)
class Problem:
    """One value that cannot be delivered."""

    number: int  # of its work order
    table: str
    row: int  # of the chunk's table
    field: str  # path in the delivered record, e.g. work_items[].input[].metadata
    text: str


def problems(chunk: Chunk) -> Iterator[Problem]:
    """Every value in the chunk that the published format cannot express."""
    for table, path in PATHS.items():
        rows = chunk[table]
        for field in rows.schema:
            wrong, text = _wrong(field.name, field.type, rows[field.name])
            for row in np.flatnonzero(wrong).tolist():
                yield Problem(int(values(rows[NUMBER])[row]), table, row, path + field.name, text)


_NONE_WRONG = np.zeros(0, np.bool_)


def _wrong(name: str, kind: pa.DataType, column: pa.Array) -> tuple[NDArray[np.bool_], str]:
    """The rows of a column that cannot be delivered, and why."""
    if name in ("id", "site_id"):
        return _nulls(column), "is NULL"
    if name == "metadata":
        return _begins_otherwise(column, _OBJECT), "is neither an object nor null"
    if name in ("analyzed_value", "corrected_value"):
        return _begins_otherwise(column, _SCALAR), "is an object or array, not a string, number, boolean or null"
    if name == "file_extension":
        return _unsafe(column), "is not a plain extension such as .png"
    if pa.types.is_timestamp(kind):
        moments = whole(column)
        outside = ((moments < _YEAR_1) | (moments >= _YEAR_10000)) & ~_nulls(column)
        return outside, "is infinite or outside the years 1 to 9999"
    return _NONE_WRONG, ""


def _nulls(column: pa.Array) -> NDArray[np.bool_]:
    if not column.null_count:
        return np.zeros(len(column), np.bool_)
    return values(column.is_null().cast(pa.uint8())).astype(np.bool_)


def _begins_otherwise(column: pa.StringArray, allowed: bytes) -> NDArray[np.bool_]:
    if column.null_count == len(column):
        return _NONE_WRONG
    starts = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column)]
    data = np.frombuffer(column.buffers()[2], np.uint8)
    first = data[np.minimum(starts, len(data) - 1)]  # that of a NULL at the end would lie behind the last
    is_allowed = np.zeros(256, np.bool_)
    is_allowed[list(allowed)] = True
    return ~is_allowed[first] & ~_nulls(column)


def _unsafe(column: pa.DictionaryArray) -> NDArray[np.bool_]:
    unsafe = [not is_safe_extension(text) for text in column.dictionary.to_pylist()]
    if not any(unsafe):
        return _NONE_WRONG
    wrong = np.zeros(len(column), np.bool_)
    valid = ~_nulls(column)
    places = values(column.indices.drop_null())
    wrong[valid] = np.array(unsafe)[places]
    return wrong


def check_queries(chunk: Chunk, export_type: str, before: pa.Array | None = None) -> None:
    """Checks that the rows fit together, as those of the shipped queries do.

    Args:
        before: id of the last work order of the chunk before, which one that is there twice may follow.

    Raises:
        SourceRejected: names the query to fix.
    """
    numbers = values(chunk["work_order"][NUMBER])
    if (np.diff(numbers) < 1).any():
        raise SourceRejected(
            f"include/sql/work_order.sql returned the same {NUMBER} twice: "
            "number the work orders 1, 2, 3, ... and join one row to each"
        )
    ids = {table: chunk[table]["id"] for table in ("work_order", "work_item", "input")}
    if before is not None:
        ids["work_order"] = pa.concat_arrays([before, ids["work_order"]])
    for table, of_table in ids.items():
        if _repeats(of_table):
            raise SourceRejected(
                f"the query of {table} in include/sql/ returned the same id twice: fix its join or add DISTINCT"
            )
    if export_type == "work-orders-states" and _repeats(chunk["input"]["work_item_id"]):
        raise SourceRejected(
            f"include/sql/input.{export_type}.sql returned two inputs of one work item: return the last created only"
        )


def _repeats(ids: pa.Array) -> bool:
    """Whether one is there twice. A NULL is none: it is a problem of its record alone."""
    return bool(pc.count_distinct(ids).as_py() < len(ids) - ids.null_count)
