"""How much windows hold, counted at the source instead of exported."""

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
    """The average of one window, over all sites. `images` is None where the export has none.

    `share` says of how much it is known: 1.0, or less where time was up and the rest is reckoned from what was counted.
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
    """Counts work orders and images of the windows, site by site, for about so many seconds once it is connected.

    Costs the source index look-ups in one read-only transaction; a query that takes longer is given up by the source
    itself.

    Raises:
        SourceUnavailable: no connection, or not even the first site's first window could be counted in time.
        SourceRejected: login, right, database or query refused.
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
