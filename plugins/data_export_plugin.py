"""The one Airflow plugin of the service."""

import logging
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from data_export_airflow.alerting import listeners
from data_export_airflow.metadata.guards import guard_backfills, guard_manual_runs, note_retries
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable

log = logging.getLogger(__name__)


class DataExportPlugin(AirflowPlugin):
    """Registers what Airflow must know by name."""

    name = "data_export"

    timetables: list[Any] = [OnceWindowTimetable, SettledCronTimetable]  # noqa: RUF012 - AirflowPlugin declares them so
    listeners: list[Any] = [listeners]  # noqa: RUF012
    external_views: list[Any] = [  # noqa: RUF012
        {
            "name": "Data exports",
            "href": "data-exports/",  # relative to Airflow's own base address
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "data-exports",
            "icon": "data-exports/icon.svg",
            "icon_dark_mode": "data-exports/icon-dark.svg",
        }
    ]

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """The page's application, imported when asked for: every process loads this file, the API server alone asks."""
        try:
            from data_export_airflow.page.app import app
        except Exception:  # without the page Airflow is still of use, and the exports run
            log.exception('the page "Data exports" cannot be loaded')
            return []
        return [{"app": app, "url_prefix": "/data-exports", "name": "Data exports"}]

    @property
    def operator_extra_links(self) -> list[Any]:  # type: ignore[override]
        """The buttons of an export's tasks that no task has to push; as late as the page's application."""
        from data_export_airflow.operators import PLUGIN_LINKS

        return PLUGIN_LINKS

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        guard_backfills()
        guard_manual_runs()
        note_retries()
