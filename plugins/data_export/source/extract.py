"""The raw snapshot of one site and window: the source's rows -> Parquet files, at one moment of the source."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from data_export.errors import SourceRejected
from data_export.snapshot import NUMBER, REPEATED, TABLES
from data_export.source.database import Source, open_source
from data_export.source.queries import SQL_FOLDER, Queries, Query
from data_export.window import ExportWindow


def extract(
    dsn: str,
    site_id: UUID,
    window: ExportWindow,
    export_type: str,
    folder: Path,
    *,
    sql_folder: Path = SQL_FOLDER,
) -> dict[str, int]:
    """Writes `<folder>/<table>.parquet` (zstd) for every table of `data_export.snapshot.TABLES`; returns rows by table.

    All rows are of one read-only REPEATABLE READ transaction. Streamed: a few batches of 2 MiB are held, whatever the
    size of the window. `dsn` is a libpq URI or `key=value` string; a work order is in the window when `selected.sql`
    of `sql_folder` says so, as shipped when it was created or updated in `[start, end)`.

    Raises:
        SourceUnavailable: no connection, a restart, a timeout: a retry may help.
        SourceRejected: login, right, database or query refused; a query without a needed column; an unknown site.
    """
    queries = Queries(sql_folder, site_id, window, export_type)
    with open_source(dsn) as source:
        rows = {table: _write(source, queries.table(table), table, folder) for table in TABLES}
        if not rows["work_order"]:
            _require_site(source, queries, site_id)
    return rows


def require_site(dsn: str, site_id: UUID, *, sql_folder: Path = SQL_FOLDER) -> None:
    """Nothing, if the source lets us in and knows the site.

    Raises:
        SourceUnavailable, SourceRejected: as `extract`.
    """
    moment = datetime(2000, 1, 1, tzinfo=UTC)  # the query of a site's existence names no window
    queries = Queries(sql_folder, site_id, ExportWindow(moment, moment + timedelta(days=1)), "work-orders-timeline")
    with open_source(dsn) as source:
        _require_site(source, queries, site_id)


def _require_site(source: Source, queries: Queries, site_id: UUID) -> None:
    if not source.value(queries.site_exists()):
        raise SourceRejected(
            f"site {site_id} is unknown to the source, which has no work order of it at any time: check "
            "site_id in the customer file"
        )


def _write(source: Source, query: Query, table: str, folder: Path) -> int:
    schema, rows = TABLES[table], 0
    with pq.ParquetWriter(
        folder / f"{table}.parquet",
        schema,
        # Random uuids do not compress; trying costs a tenth of the writing.
        compression={name: "none" if name == "id" else "zstd" for name in schema.names},
        use_dictionary=REPEATED[table],
        write_statistics=False,
    ) as writer:
        for batch in source.batches(query):
            if len(batch):
                writer.write_batch(_stored(batch, schema, query))
                rows += len(batch)
    return rows


def _stored(batch: pa.RecordBatch, schema: pa.Schema, query: Query) -> pa.RecordBatch:
    """The batch with uuids as 16 bytes and jsonb as text, in place of Arrow's extension types."""
    columns = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns]
    if columns[0].null_count:
        raise SourceRejected(f"{query.where(None)}: {NUMBER} is NULL: take it from `selected` by an inner join")
    return pa.RecordBatch.from_arrays(columns, schema=schema)
