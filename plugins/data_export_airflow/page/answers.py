"""What the page and commands are answered from: made once for all who ask, see `Cached`."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from data_export_airflow.metadata import failures as faults
from data_export_airflow.metadata import receipts
from data_export_airflow.metadata.airflow_database import airflow_session
from data_export_airflow.metadata.exports import Volume, Volumes
from data_export_airflow.metadata.missing import MissingWindows
from data_export_airflow.metadata.overview import Deliveries, ExportRow, Overview, at_a_glance
from data_export_airflow.page.cache import Cached

#: How old an answer may be, and how old one may be that is shown while the next is made.
_SECONDS, _STALE = 10.0, 60.0
_FLEET_SECONDS, _FLEET_STALE = 30.0, 300.0

_missing = MissingWindows()
_volumes = Volumes()
_receipts = receipts.Receipts()


def _overview() -> Overview:
    with airflow_session() as session:
        return at_a_glance(session, datetime.now(UTC), _missing)


def _failures() -> list[faults.Failure]:
    with airflow_session() as session:
        return faults.failures_since(session, datetime.now(UTC) - timedelta(days=1))


def _volume() -> dict[date, Volume]:
    with airflow_session() as session:
        return _volumes(session, datetime.now(UTC))


overview = Cached(_overview, _SECONDS, _STALE)
failures = Cached(_failures, _FLEET_SECONDS, _FLEET_STALE)
volume = Cached(_volume, _FLEET_SECONDS, _FLEET_STALE)
OverviewDep = Annotated[Overview, Depends(overview)]


def deliveries(session: Session, rows: list[ExportRow]) -> Deliveries:
    """What the last delivered window of each of the exports held."""
    return _receipts(session, [row.delivered_key for row in rows if row.delivered_key])
