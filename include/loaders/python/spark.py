"""Loads new and changed data files below a folder into Spark or Databricks. Safe to repeat.

    import spark
    spark.load(session, Path("/Volumes/main/default/acme"))

Needs pyarrow and the tables of `spark/create.sql`. Files are read by Python on the workers, not by Hadoop, which can
read neither `:` in names nor nesting over 1,000 levels: every worker must see the folder (a volume, a mount, a disk).
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.sql import SparkSession

import delivered
import frames
from delivered import DataFile, data_file, data_files, lines, parse

_MOMENT = pa.timestamp("us", "UTC")
_HEAD = {"export_type": pa.string(), "window_start": _MOMENT, "window_end": _MOMENT, "revision": pa.int32()}
_RECORD = pa.schema([*_HEAD.items(), ("loaded_at", _MOMENT), *frames.RECORD])


def load(session: SparkSession, folder: Path) -> int:
    """Loads the files whose size or time is not that of the file loaded before; says how many."""
    now = datetime.now(UTC)
    seen = {(row.file, row.bytes, row.modified_at.timestamp()) for row in session.table("delivered_file").collect()}
    fresh = [(file, *_state(file)) for file in data_files(folder)]
    fresh = [entry for entry in fresh if (str(entry[0].path), entry[1], entry[2].timestamp()) not in seen]
    if not fresh:
        return 0
    for module in (delivered, frames, sys.modules[__name__]):  # workers need not have them
        cloudpickle.register_pickle_by_value(module)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for path in (path for batch in batches for path in batch.column(0).to_pylist()):
            yield from _records(path, now)

    paths = session.createDataFrame([(str(file.path),) for file, *_ in fresh], "path STRING").repartition(len(fresh))
    schema = session.table("delivered_record").schema
    # Records first: if the load stops between the two, they are loaded once more, which changes no view.
    paths.mapInArrow(read, schema).write.insertInto("delivered_record")
    rows = [(str(file.path), *_head(file).values(), size, time, now) for file, size, time in fresh]
    session.createDataFrame(rows, session.table("delivered_file").schema).write.insertInto("delivered_file")
    return len(fresh)


def _state(file: DataFile) -> tuple[int, datetime]:
    state = file.path.stat()
    return state.st_size, datetime.fromtimestamp(state.st_mtime, UTC)


def _head(file: DataFile) -> dict[str, object]:
    return {name: getattr(file, name) for name in _HEAD}


def _records(path: str, now: datetime) -> Iterator[pa.RecordBatch]:
    file = data_file(Path(path))
    if file is None:
        return
    rows = []
    for line in lines(file):
        rows.append(_head(file) | {"loaded_at": now} | frames.nested(parse(line)))
        if len(rows) == 256:
            yield pa.RecordBatch.from_pylist(rows, _RECORD)
            rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, _RECORD)
