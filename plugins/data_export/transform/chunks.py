"""Reads the five files of a snapshot in parallel, a bounded number of rows at a time."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_export.source.snapshot import NUMBER, REPEATED, TABLES
from data_export.transform.lines import Chunk
from data_export.transform.sort_keys import values

_ALL = 1 << 31


def chunks(folder: Path) -> Iterator[Chunk]:
    """Yields the snapshot's rows in order, some whole work orders at a time.

    Holds about one row group of each table, or one work order if a single one is larger.
    """
    tables = {name: _Rows(folder / f"{name}.parquet", REPEATED[name]) for name in TABLES}
    try:
        while True:
            left = [rows.fill() for rows in tables.values()]
            if not any(left):
                return
            last = min(rows.complete_through for rows in tables.values())
            yield {name: rows.take(last) for name, rows in tables.items()}
    finally:
        for rows in tables.values():
            rows.close()


class _Rows:
    """The rows of one table, read by row group and taken by work order number."""

    def __init__(self, path: Path, repeated: list[str]) -> None:
        self._file = pq.ParquetFile(path, read_dictionary=repeated)
        schema = self._file.schema_arrow
        self._left = iter(range(self._file.num_row_groups))
        self._none = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
        self._held: list[pa.RecordBatch] = []
        self._exhausted = False

    def fill(self) -> bool:
        """Reads on until the first buffered work order is complete; False when no row is left."""
        while not self._exhausted and (not self._held or self._number(0, 0) == self._number(-1, -1)):
            group = next(self._left, None)
            if group is None:
                self._exhausted = True
            else:
                self._held += self._file.read_row_group(group).to_batches()
        return bool(self._held)

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
