"""The one Airflow plugin of the service."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from data_export_airflow import failures, notes
from data_export_airflow.backfills import guard_backfills
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable

_Message = MutableMapping[str, Any]


class _Page:
    """The page's application, made at its first request: every Airflow process imports this file, one serves it."""

    _app: Callable[..., Awaitable[None]] | None = None

    async def __call__(self, scope: _Message, receive: Callable[[], Any], send: Callable[[_Message], Any]) -> None:
        if self._app is None:
            from data_export_airflow.page.app import create_app

            self._app = create_app()
        await self._app(scope, receive, send)


class DataExportPlugin(AirflowPlugin):
    """Registers what Airflow must know by name."""

    name = "data_export"

    timetables: list[Any] = [OnceWindowTimetable, SettledCronTimetable]  # noqa: RUF012 - AirflowPlugin declares them so
    listeners: list[Any] = [notes, failures]  # noqa: RUF012
    fastapi_apps: list[Any] = [{"app": _Page(), "url_prefix": "/data-exports", "name": "Data exports"}]  # noqa: RUF012
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

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        guard_backfills()
