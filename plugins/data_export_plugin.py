"""The one Airflow plugin of the service."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from data_export_airflow import notes
from data_export_airflow.timetables import OnceWindowTimetable, SettledCronTimetable


class DataExportPlugin(AirflowPlugin):
    """Registers what Airflow must know by name."""

    name = "data_export"
    timetables: list[Any] = [OnceWindowTimetable, SettledCronTimetable]  # noqa: RUF012 - AirflowPlugin declares them so
    listeners: list[Any] = [notes]  # noqa: RUF012
