"""Estimates the amount of data in windows by counting at the source."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_export.config.models import CustomerExport
from data_export.errors import SourceUnavailable
from data_export.source.database import RowSecurity, open_source
from data_export.source.queries import SQL_FOLDER, Queries
from data_export.window import ExportWindow


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
