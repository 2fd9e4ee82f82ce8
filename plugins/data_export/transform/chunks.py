"""Reads the five files of a snapshot in parallel, a bounded number of rows at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_export.source.snapshot import JSON_COLUMNS, NUMBER, REPEATED, TABLES
from data_export.transform.json_columns import spelled_lengths
from data_export.transform.lines import Chunk
from data_export.transform.sort_keys import Integers, array, values

_ALL = 1 << 31
#: Bytes that a row takes in the delivered line besides its texts: its keys, marks, and values of fixed size. A hundred
#: thousand rows of nothing else are few bytes of a snapshot, and many of a line.
_SPELLED = {"work_order": 254, "work_item": 67, "input": 168, "data_conformity": 34, "job_conformity": 136}
_MOST_SPELLED = 6  # bytes that JSON makes of one
_NOTHING = array(np.zeros(1, np.int64))[0]


def chunks(folder: Path, most_bytes: int) -> Iterator[tuple[Chunk, list[int]]]:
    """Yields the snapshot's rows in order, some whole work orders at a time.

    With each chunk come the numbers of its work orders whose lines have more than about `most_bytes`, of which rows may
    be missing. Holds about one row group of each table, or one work order if a single one is larger.
    """
    tables = {name: _Rows(folder, name) for name in TABLES}
    try:
        while True:
            left = [rows.fill(most_bytes) for rows in tables.values()]
            if not any(left):
                return
            last = min(rows.complete_through for rows in tables.values())
            chunk = {name: rows.take(last) for name, rows in tables.items()}
            cut = {number for rows in tables.values() for number in rows.taken_too_large(last)}
            yield chunk, sorted(cut | _too_large(chunk, most_bytes))
    finally:
        for rows in tables.values():
            rows.close()


def _too_large(chunk: Chunk, most_bytes: int) -> set[int]:
    """The work orders of the chunk with more bytes than that."""
    if sum(_at_most(table, batch, _MOST_SPELLED) for table, batch in chunk.items()) <= most_bytes:
        return set()
    of_rows = {table: _row_bytes(table, batch) for table, batch in chunk.items()}
    numbers = values(chunk["work_order"][NUMBER])
    total = np.zeros(len(numbers), np.int64)
    for table, sizes in of_rows.items():
        before = np.concatenate([[0], np.cumsum(sizes)])
        starts, ends = np.searchsorted(values(chunk[table][NUMBER]), [numbers, numbers + 1])
        total += before[ends] - before[starts]
    return set(numbers[total > most_bytes].tolist())


def _at_most(table: str, batch: pa.RecordBatch, spelled: int = 1) -> int:
    """No less than all rows have together, without a look at each, if JSON spells each byte as that many."""
    most = _SPELLED[table] * len(batch)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            most += spelled * (pc.max(pc.binary_length(column.dictionary)).as_py() or 0) * len(column)
        elif pa.types.is_string(column.type):
            most += (1 if name in JSON_COLUMNS else spelled) * column.nbytes
    return most


def _row_bytes(table: str, batch: pa.RecordBatch) -> Integers:
    """The size of each row with its texts, as a line has them; a text counts for each row that has it."""
    sizes = np.full(len(batch), _SPELLED[table], np.int64)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            lengths = spelled_lengths(column.dictionary).take(column.indices)
        elif name in JSON_COLUMNS:
            lengths = pc.binary_length(column).cast(pa.int64())
        elif pa.types.is_string(column.type):
            lengths = spelled_lengths(column)
        else:
            continue
        sizes += values(lengths.fill_null(_NOTHING))
    return sizes


class _Rows:
    """The rows of one table, read by row group and taken by work order number."""

    def __init__(self, folder: Path, table: str) -> None:
        self._table = table
        self._file = pq.ParquetFile(folder / f"{table}.parquet", read_dictionary=REPEATED[table])
        schema = self._file.schema_arrow
        self._left = iter(range(self._file.num_row_groups))
        self._none = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
        self._held: list[pa.RecordBatch] = []
        self._exhausted = False
        self._is_top = "site_id" in schema.names
        self._too_large: list[int] = []  # rising
        self._reported = -_ALL - 1  # before every number of 32 bits

    def fill(self, most_bytes: int) -> bool:
        """Reads on until the first buffered work order is complete; False when no row is left.

        The rows of one that alone has more than `most_bytes` are not held.
        """
        while not self._exhausted and (not self._held or self._number(0, 0) == self._number(-1, -1)):
            group = next(self._left, None)
            if group is None:
                self._exhausted = True
                continue
            self._held += self._without_too_large(self._file.read_row_group(group).to_batches())
            if not self._is_top and sum(_at_most(self._table, batch) for batch in self._held) > most_bytes:
                self._drop_first(most_bytes)
        return bool(self._held)

    def _drop_first(self, most_bytes: int) -> None:
        """Lets go of the first work order, if it alone is too large."""
        first = self._number(0, 0)
        of_first = [_row_bytes(self._table, batch)[values(batch[NUMBER]) == first] for batch in self._held]
        if sum(int(sizes.sum()) for sizes in of_first) > most_bytes:
            self._too_large.append(first)
            self._held = self._without_too_large(self._held)

    def _without_too_large(self, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        if not self._too_large:
            return batches
        rests = [
            batch.slice(int(values(batch[NUMBER]).searchsorted(self._too_large[-1], side="right"))) for batch in batches
        ]
        return [rest for rest in rests if len(rest)]

    def taken_too_large(self, last: int) -> list[int]:
        """The work orders up to that one whose rows were let go, each once."""
        taken = [number for number in self._too_large if self._reported < number <= last]
        self._reported = max([self._reported, *taken])
        return taken

    @property
    def complete_through(self) -> int:
        """The greatest work order number that will get no more rows."""
        return _ALL if self._exhausted else self._number(-1, -1) - 1

    def take(self, last: int) -> pa.RecordBatch:
        """Takes all buffered rows with a number of at most `last`."""
        taken, kept = [self._none], []
        for batch in self._held:
            cut = int(values(batch[NUMBER]).searchsorted(last, side="right"))
            taken.append(batch.slice(0, cut))
            if cut < len(batch):
                kept.append(batch.slice(cut))
        self._held = kept
        return pa.concat_batches([batch for batch in taken if len(batch)] or taken[:1])

    def close(self) -> None:
        self._file.close()

    def _number(self, batch: int, row: int) -> int:
        return int(self._held[batch][NUMBER][row].as_py())
