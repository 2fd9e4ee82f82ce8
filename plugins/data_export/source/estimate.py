"""Estimates the amount of data in windows by counting at the source, and the work by asking its planner."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_export.config.models import CustomerExport
from data_export.errors import SourceRejected, SourceUnavailable
from data_export.source.database import RowSecurity, Source, open_source
from data_export.source.queries import SQL_FOLDER, Queries, Query, source_tables
from data_export.source.sql_text import literal
from data_export.window import ExportWindow

# That of 160 MB, by PostgreSQL's default costs of one page and its rows.
_COST_OF_BIG_TABLE = 20_000
_PATIENCE = 10.0
# No such table, column, function or syntax, no table but an index; cancelled, no lock.
_NO_TABLE_OR_SLOW = ("42P01", "42703", "42883", "42601", "42809", "57014", "55P03")


@dataclass(frozen=True, slots=True)
class Counted:
    """The average of one window, over all sites. `images` is None if the export has none.

    `share` is the part that was counted: 1.0, or less if time was up and the rest is extrapolated.
    """

    work_orders: float
    images: float | None
    share: float


def count(
    dsn: str,
    export: CustomerExport,
    windows: Sequence[ExportWindow],
    seconds: float,
    *,
    sql_folder: Path = SQL_FOLDER,
    row_security: RowSecurity = "refuse",
) -> Counted:
    """Counts work orders and images in the windows, site by site, for about that many seconds once connected.

    The source does index look-ups in one read-only transaction, and itself cancels a query that takes longer.

    Raises:
        SourceUnavailable: no connection, or not even the first site's first window was counted in time.
        SourceRejected: the login, a right, the database or a query is refused.
    """
    asked = [(site, window) for window in windows for site in export.sites]
    orders = images = done = 0
    with open_source(dsn, patience=seconds, row_security=row_security) as source:
        until = time.monotonic() + seconds
        for site, window in asked:
            if done and time.monotonic() > until:
                break
            queries = Queries(sql_folder, site, window, export.export_type)
            try:
                row = source.row(queries.counts(inputs=export.export_images)) or (0, 0)
            except SourceUnavailable:
                if not done:
                    raise
                break
            orders, images, done = orders + _number(row[0]), images + _number(row[1]), done + 1
    factor = len(export.sites) / done
    return Counted(orders * factor, images * factor if export.export_images else None, done / len(asked))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def expected(
    dsn: str,
    export: CustomerExport,
    window: ExportWindow,
    *,
    sql_folder: Path = SQL_FOLDER,
    row_security: RowSecurity = "refuse",
) -> str:
    """What the planner of the source expects of the export's own statement for one site and window, in words.

    Every table, column, function and right is looked at, as when it runs, and one row of each table is read: what a
    function reads, another server's rights and a view that is not filled show only then.

    Raises:
        SourceUnavailable, SourceRejected: as `extract`.
    """
    queries = Queries(sql_folder, export.sites[0], window, export.export_type)
    with open_source(dsn, row_security=row_security) as source:
        plan = source.plan(queries.snapshot(source.found(queries.columns())))
        elsewhere = list(_not_of_this_moment(source, list(_nodes(plan))))
    with open_source(dsn, patience=_PATIENCE, row_security=row_security) as source:
        for table in source_tables(export.export_type, sql_folder):
            _read_a_row(source, table)
    rows, cost = f"{plan['Plan Rows']:,} rows", f"{plan['Total Cost']:,.0f}"
    words = f"all can be read; for a day of a site, the planner expects {rows} at a cost of {cost}"
    whole = sorted({str(node["Relation Name"]) for node in _nodes(plan) if _reads_whole(node)})
    if whole:
        words += f"; it reads the whole of {', '.join(whole)}: is an index missing, or ANALYZE?"
    return "; ".join([words, *elsewhere])


def _not_of_this_moment(source: Source, nodes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What a file may lack although the source itself is past the window's end."""
    names = {str(node["Relation Name"]) for node in nodes if "Relation Name" in node}
    listed = ", ".join(map(literal, sorted(names))) or "NULL"
    where = f"relkind = 'm' AND relname IN ({listed})"
    kept = f"SELECT string_agg(DISTINCT relname::text, ', ') FROM pg_class WHERE {where}"  # noqa: S608 - a literal each
    if found := source.value(Query(kept, ())):
        yield f"files lack what was written after the last REFRESH MATERIALIZED VIEW of {found}: read its tables"
    if any(node["Node Type"] == "Foreign Scan" for node in nodes):
        yield "of the server behind its foreign tables, neither moment nor row-level security is known (docs/deploy.md)"


def _read_a_row(source: Source, table: str) -> None:
    """Nothing, where the name is no table after all, or its first row takes long."""
    try:
        source.row(Query(f"SELECT 1 FROM {table} LIMIT 1", ()))  # noqa: S608 - a name of include/sql/
    except (SourceRejected, SourceUnavailable) as error:
        if not any(f"SQLSTATE {state}" in str(error) for state in _NO_TABLE_OR_SLOW):
            raise
        source.renew()


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _reads_whole(node: dict[str, Any]) -> bool:
    return node["Node Type"] == "Seq Scan" and float(node["Total Cost"]) >= _COST_OF_BIG_TABLE
