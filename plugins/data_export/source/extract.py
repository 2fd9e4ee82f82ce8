"""The raw snapshot of one site and window: the source's rows -> Parquet files, at one moment of the source."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data_export.errors import SourceRejected, SourceUnavailable, ValueRejected
from data_export.scratch import keep_freed_memory
from data_export.source.culprits import Culprit, find_culprits
from data_export.source.database import Dsn, RowSecurity, open_source
from data_export.source.errors import OF_OTHERS
from data_export.source.moment import Moment
from data_export.source.queries import MAX_RECORD_MB, SQL_FOLDER, Queries
from data_export.source.snapshot import LEFT_OUT, NUMBER, REPEATED, TABLES, places
from data_export.source.sql_text import Orders
from data_export.window import ExportWindow

# A value may come to be wrong while the others that are wrong are looked for.
_MOST_READINGS, _MOST_IN_VAIN = 4, 2


def extract(
    dsn: Dsn,
    site_id: UUID,
    window: ExportWindow,
    export_type: str,
    folder: Path,
    *,
    sql_folder: Path = SQL_FOLDER,
    row_security: RowSecurity = "refuse",
    moment: Moment | None = None,
    on_invalid: Literal["fail", "quarantine"] = "fail",
    max_record_mb: int = MAX_RECORD_MB,
) -> dict[str, int]:
    """Writes `<folder>/<table>.parquet` (zstd) for every table of `snapshot.TABLES`; returns rows by table.

    All rows are of one read-only REPEATABLE READ transaction, which begins when `moment` lets it; its `warning` says
    what the file may lack. Streamed: a few batches of 2 MiB are held, whatever the size of the window. A work order is
    in the window when `work_order.sql` of `sql_folder` says so, as shipped when it was created or updated in
    `[start, end)`.

    A work order with a value that the source cannot read or convert, or that is larger than `max_record_mb`, is left
    out and listed in `<folder>/left-out.json`, a JSON object per line, where `on_invalid` is `quarantine`.

    Raises:
        InvalidRecord: there is such a work order, and `on_invalid` is `fail`.
        SourceUnavailable: no connection, a restart, a timeout: a retry may help.
        SourceRejected: login, right, database or query refused; a query lacks a column; the site is unknown.
    """
    keep_freed_memory()
    queries = Queries(sql_folder, site_id, window, export_type, max_record_mb)
    reader = _Reader(queries, dsn, row_security, moment or Moment(window), folder)
    try:
        rows, left_out = reader.read_what_can_be(site_id, only_first=on_invalid == "fail")
    except ValueRejected as error:
        if error.sqlstate.startswith(OF_OTHERS):
            raise SourceUnavailable(str(error)) from None
        raise
    (folder / LEFT_OUT).unlink(missing_ok=True)
    if left_out:
        lines = (orjson.dumps(culprit.to_dict()) + b"\n" for culprit in left_out)
        (folder / LEFT_OUT).write_bytes(b"".join(lines))
    return rows


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one window's snapshot."""

    queries: Queries
    dsn: Dsn
    row_security: RowSecurity
    moment: Moment
    folder: Path

    def read_what_can_be(self, site_id: UUID, *, only_first: bool) -> tuple[dict[str, int], list[Culprit]]:
        """Rows by table, without the work orders that cannot be read; with `only_first` such a one is an error."""
        left_out: list[Culprit] = []
        in_vain = 0  # once in a row a value may have been put right meanwhile, twice it has no id to be found by
        for reading in range(1, _MOST_READINGS + 1):
            known = tuple(culprit.work_order for culprit in left_out)
            try:
                return self.read(known, site_id), left_out
            except ValueRejected as error:
                found = find_culprits(
                    self.dsn, self.queries, error, known, only_first=only_first, row_security=self.row_security
                )
                in_vain = 0 if found else in_vain + 1
                if in_vain == _MOST_IN_VAIN or (in_vain and reading == _MOST_READINGS):
                    raise
            if only_first and found:
                raise found[0].error()
            left_out += found
        raise SourceUnavailable(f"source: its rows changed {_MOST_READINGS} times while they were read: try again")

    def read(self, without: tuple[str, ...], site_id: UUID) -> dict[str, int]:
        """Rows by table, of all work orders but those."""
        rows = dict.fromkeys(TABLES, 0)
        steps = (self.moment.reach_end, self.moment.wait_for_writers)
        with open_source(self.dsn, row_security=self.row_security, before=steps) as source, ExitStack() as stack:
            self.moment.require_same_server(source)
            query = self.queries.snapshot(source.found(self.queries.columns()), Orders(without=without))
            writers = {table: stack.enter_context(_writer(self.folder, table)) for table in TABLES}
            # Closed at once when a write fails: the query ends before its connection does.
            for batch in stack.enter_context(closing(source.batches(query))):
                for table, part in _by_table(batch):
                    if part[NUMBER].null_count:
                        place = self.queries.file(table)
                        raise SourceRejected(f"{place}: {NUMBER} is NULL: take it from the table above")
                    writers[table].write_batch(part)
                    rows[table] += len(part)
            is_known = rows["work_order"] or without or source.value(self.queries.site_exists())
            self.moment.require_same_tables(source)
            if not is_known:
                raise _unknown(site_id)
        return rows


def require_site(dsn: str, site_id: UUID, row_security: RowSecurity = "refuse") -> None:
    """Nothing, if the source lets us in and knows the site.

    Raises:
        SourceUnavailable, SourceRejected: as `extract`.
    """
    moment = datetime(2000, 1, 1, tzinfo=UTC)  # the query of a site's existence names no window
    queries = Queries(SQL_FOLDER, site_id, ExportWindow(moment, moment + timedelta(days=1)), "work-orders-timeline")
    with open_source(dsn, row_security=row_security) as source:
        if not source.value(queries.site_exists()):
            raise _unknown(site_id)


def _unknown(site_id: UUID) -> SourceRejected:
    return SourceRejected(
        f"site {site_id} is unknown to the source, which has no work order for it at any time: check "
        "site_id in the customer file"
    )


def _writer(folder: Path, table: str) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        folder / f"{table}.parquet",
        TABLES[table],
        # Random uuids do not compress; trying costs a tenth of the writing.
        compression={name: "none" if name == "id" else "zstd" for name in TABLES[table].names},
        use_dictionary=REPEATED[table],
        write_statistics=False,
    )


def _by_table(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each table in a batch, in the snapshot's form: uuids as 16 bytes, jsonb as text."""
    kinds = np.from_dlpack(batch.column(0))
    for index, (table, schema) in enumerate(TABLES.items()):
        first, end = np.searchsorted(kinds, [index, index + 1]).tolist()
        if first < end:
            rows = batch.slice(first, end - first)
            columns = [rows.column(2 + place) for place in places(table).values()]
            stored = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in columns]
            columns = [column.cast(field.type) for column, field in zip(stored, list(schema)[1:], strict=True)]
            yield table, pa.RecordBatch.from_arrays([_numbers(rows.column(1), table), *columns], schema=schema)


def _numbers(column: pa.Array, table: str) -> pa.Array:
    try:
        return column.cast(pa.int32())
    except pa.ArrowInvalid:
        raise SourceRejected(
            f"the query of {table} in include/sql/ returned a {NUMBER} that is not within 32 bits: "
            "number the work orders 1, 2, 3, ... and take it from the table above"
        ) from None
