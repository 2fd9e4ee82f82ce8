"""The delivered format as columns: one chunk of a snapshot <-> nested Parquet records, one row per work order.

The same records, values and order as the JSON Lines (`transform.lines`); jsonb columns are their JSON text, and NULL
where that is `null`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_export.source.snapshot import JSON_COLUMNS
from data_export.transform.json_columns import text_bytes, uuids
from data_export.transform.lines import (
    Children,
    Chunk,
    arranged,
    check_texts,
    input_texts,
    item_texts,
    job_texts,
    joined,
    order_texts,
)
from data_export.transform.sort_keys import array

_MOMENT = pa.timestamp("us", "UTC")
_CHECK = pa.struct({"check": pa.string(), "code": pa.int64(), "level": pa.string()})
_JOB = pa.struct(
    {
        "task_name": pa.string(),
        "analyzed_value": pa.string(),
        "corrected_value": pa.string(),
        "corrected_date": _MOMENT,
        "message": pa.string(),
        "is_conformity_validated": pa.bool_(),
    }
)
_INPUT = pa.struct(
    {
        "id": pa.string(),
        "create_date": _MOMENT,
        "file_extension": pa.string(),
        "metadata": pa.string(),
        "data_conformity": pa.list_(_CHECK),
        "job_conformity": pa.list_(_JOB),
    }
)
_ITEM = pa.struct({"id": pa.string(), "name": pa.string(), "input": pa.list_(_INPUT)})
#: The columns of a Parquet file.
RECORD = pa.schema(
    {
        "id": pa.string(),
        "name": pa.string(),
        "site_id": pa.string(),
        "create_date": _MOMENT,
        "update_date": _MOMENT,
        "metadata": pa.string(),
        "progress_score": pa.float64(),
        "work_items": pa.list_(_ITEM),
    }
)
_ROW_GROUP_BYTES = 16 << 20
_ROWS_READ = 16_384  # each batch comes with its group's dictionaries, so that few rows at once take four times as long
#: Bytes: above one record of the greatest `limits.max_record_mb`, and what is beside it.
_LARGEST_ROW_GROUP = 1_200_000_000
_SMALLEST = len('{"check":null,"code":null,"level":null}')  # no row of any level is a shorter text


def records(chunk: Chunk) -> pa.RecordBatch:
    """The chunk's work orders as rows of `RECORD`. Raises as `lines` does."""
    below = arranged(chunk, job_texts(chunk["job_conformity"]))
    checks = _lists(below["data_conformity"], _structs(chunk["data_conformity"], _CHECK, {}))
    jobs = _lists(below["job_conformity"], _structs(chunk["job_conformity"], _JOB, {}))
    inputs = _structs(chunk["input"], _INPUT, {"data_conformity": checks, "job_conformity": jobs})
    items = _structs(chunk["work_item"], _ITEM, {"input": _lists(below["input"], inputs)})
    orders = {"work_items": _lists(below["work_item"], items)}
    return pa.RecordBatch.from_arrays(_columns(chunk["work_order"], RECORD, orders), schema=RECORD)


def _lists(children: Children, rows: pa.StructArray) -> pa.ListArray:
    return pa.ListArray.from_arrays(array(children.starts.astype(np.int32)), rows.take(array(children.order)))


def _structs(rows: pa.RecordBatch, kind: pa.StructType, made: dict[str, pa.Array]) -> pa.StructArray:
    fields = [kind.field(n) for n in range(kind.num_fields)]
    return pa.StructArray.from_arrays(_columns(rows, fields, made), fields=fields)


def _columns(rows: pa.RecordBatch, fields: Any, made: dict[str, pa.Array]) -> list[pa.Array]:
    return [made[field.name] if field.name in made else _column(rows[field.name], field) for field in fields]


def _column(column: pa.Array, field: pa.Field) -> pa.Array:
    if pa.types.is_fixed_size_binary(column.type):
        return uuids(column).cast(field.type)
    if pa.types.is_floating(column.type):  # NaN and infinities are null, as in JSON
        return pc.if_else(pc.is_finite(column), column, pa.nulls(len(column), column.type))
    column = column.cast(field.type)
    if field.name in JSON_COLUMNS:  # a reader asks for NULL, and would take the text `null` for a value
        return pc.if_else(pc.equal(column, "null"), pa.nulls(len(column), field.type), column)
    return column


class ParquetFile:
    """Writes records as Parquet, zstd inside, in row groups of about 16 MiB of JSON text; holds one of them."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, RECORD, compression="zstd", write_page_checksum=True)
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0

    def write(self, batch: pa.RecordBatch, text_bytes: int) -> None:
        """Adds records that are so many bytes as JSON Lines."""
        self._held.append(batch)
        self._bytes += text_bytes
        if self._bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        if self._held:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._held, RECORD)
        if len(table):
            self._writer.write_table(table, row_group_size=len(table))
        self._held, self._bytes = [], 0


def joined_parquet(parts: Sequence[Path], path: Path) -> None:
    """Makes one file of the records of several, and removes those; holds one row group."""
    with pq.ParquetWriter(path, RECORD, compression="zstd", write_page_checksum=True) as writer:
        for part in parts:
            with pq.ParquetFile(part) as file:
                for number in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(number))
            part.unlink()


def lines_in(path: Path) -> Iterator[memoryview]:
    """The JSON Lines text whose records a Parquet file of ours holds, about 16 MiB or one record at a time.

    Raises:
        ValueError: it is not a file of ours, or damaged.
    """
    try:
        metadata = pq.read_metadata(path)
        if not metadata.schema.to_arrow_schema().equals(RECORD):
            raise ValueError("its columns are not those of an export")
        leaves = [metadata.schema.column(n) for n in range(metadata.num_columns)]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        with pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
            for number in range(file.num_row_groups):
                for batch in file.iter_batches(_rows_at_once(metadata.row_group(number)), [number]):
                    yield from _texts(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"it is damaged or not Parquet ({type(error).__name__})") from None


def _rows_at_once(group: pq.RowGroupMetaData) -> int:
    """As many rows as have about 16 MiB.

    Raises:
        ValueError: the group has more than any of ours.
    """
    values = max(group.column(n).num_values for n in range(group.num_columns))
    if max(group.total_byte_size, values * _SMALLEST) > _LARGEST_ROW_GROUP:
        raise ValueError("a row group is larger than any of ours")
    fit = _ROW_GROUP_BYTES * int(group.num_rows) // max(1, int(group.total_byte_size))
    return max(1, min(_ROWS_READ, fit))


def _texts(batch: pa.RecordBatch) -> Iterator[memoryview]:
    """The lines of some rows: a few bytes of Parquet can name one long text many times."""
    size, half = sum(map(_spelled_out, batch.columns)), len(batch) // 2
    if size > _ROW_GROUP_BYTES and half:
        yield from _texts(batch[:half])
        yield from _texts(batch[half:])
    elif size > _LARGEST_ROW_GROUP:
        raise ValueError("a record is longer than any of ours")
    else:
        yield text_bytes(_lines_of(batch)).data


def _spelled_out(column: pa.Array) -> int:
    """The bytes of a column with each of its texts where it stands, however often it is there."""
    if pa.types.is_dictionary(column.type):
        return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0)
    if pa.types.is_list(column.type):
        return _spelled_out(column.flatten())
    if pa.types.is_struct(column.type):
        return sum(map(_spelled_out, column.flatten()))
    return int(column.nbytes)


def _lines_of(batch: pa.RecordBatch) -> pa.LargeStringArray:
    items, item_starts = _below(batch["work_items"])
    inputs, input_starts = _below(items["input"])
    checks, check_starts = _below(inputs["data_conformity"])
    jobs, job_starts = _below(inputs["job_conformity"])
    if any(ids.null_count for ids in (batch["id"], batch["site_id"], items["id"], inputs["id"])):
        raise ValueError("an id is null")
    found = (joined(check_texts(checks), check_starts), joined(job_texts(jobs), job_starts))
    return order_texts(batch, joined(item_texts(items, joined(input_texts(inputs, *found), input_starts)), item_starts))


def _below(lists: pa.ListArray) -> tuple[pa.RecordBatch, Any]:
    """The rows of all lists in sequence, and where each list begins and ends."""
    if lists.null_count:
        raise ValueError("a list is null")
    lengths = np.from_dlpack(lists.value_lengths())
    return pa.RecordBatch.from_struct_array(lists.flatten()), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
