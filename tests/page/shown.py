"""What the page shows of one export at a moment."""

from datetime import UTC, datetime, timedelta
from typing import Any

from data_export_airflow.metadata.missing import MissingWindows
from data_export_airflow.metadata.overview import at_a_glance
from data_export_airflow.page.detail import detail
from tests.page.history import History

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 10, 1, tzinfo=UTC)


def shown(history: History, dag: str, now: datetime = NOW, before: datetime | None = None) -> dict[str, Any]:
    rows = at_a_glance(history.session, now, MissingWindows()).rows
    found = detail(history.session, dag, next(row for row in rows if row.dag_id == dag), now, before)
    assert found is not None
    return found


def states(found: dict[str, Any]) -> dict[str, str]:
    """State by local date, or date and time where a window begins at no midnight."""
    return {window["local"][:16].removesuffix("T00:00"): window["state"] for window in found["windows"]}
