"""Reads the five files of a snapshot in parallel, a bounded number of rows at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_export.source.snapshot import NUMBER, REPEATED, TABLES
from data_export.transform.lines import Chunk
from data_export.transform.sort_keys import values

_ALL = 1 << 31


def chunks(folder: Path, most_bytes: int) -> Iterator[tuple[Chunk, list[int]]]:
    """Yields the snapshot's rows in order, some whole work orders at a time.

    With each chunk come the numbers of its work orders that are larger than `most_bytes`, of which rows may be missing.
    Holds about one row group of each table, or one work order if a single one is larger.
    """
    tables = {name: _Rows(folder / f"{name}.parquet", REPEATED[name]) for name in TABLES}
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
    if sum(batch.nbytes for batch in chunk.values()) <= most_bytes:
        return set()
    numbers = values(chunk["work_order"][NUMBER])
    sizes = np.zeros(len(numbers), np.int64)
    for batch in chunk.values():
        ends = np.searchsorted(values(batch[NUMBER]), [numbers, numbers + 1])
        for k, (start, end) in enumerate(ends.T.tolist()):
            sizes[k] += batch.slice(start, end - start).nbytes if end > start else 0
    return set(numbers[sizes > most_bytes].tolist())


class _Rows:
    """The rows of one table, read by row group and taken by work order number."""

    def __init__(self, path: Path, repeated: list[str]) -> None:
        self._file = pq.ParquetFile(path, read_dictionary=repeated)
        schema = self._file.schema_arrow
        self._left = iter(range(self._file.num_row_groups))
        self._none = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
        self._held: list[pa.RecordBatch] = []
        self._exhausted = False
        self._is_top = "site_id" in schema.names
        self._too_large: list[int] = []  # rising
        self._reported = 0

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
            if not self._is_top and sum(batch.nbytes for batch in self._held) > most_bytes:
                self._drop_first(most_bytes)
        return bool(self._held)

    def _drop_first(self, most_bytes: int) -> None:
        """Lets go of the first work order, if it alone is too large."""
        first = self._number(0, 0)
        sizes = [
            batch.slice(0, int(values(batch[NUMBER]).searchsorted(first, side="right"))).nbytes for batch in self._held
        ]
        if sum(sizes) > most_bytes:
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
