"""The one Airflow plugin of the service."""

from airflow.plugins_manager import AirflowPlugin

from data_export_airflow.timetables import OnceWindowTimetable


class DataExportPlugin(AirflowPlugin):
    """Registers what Airflow must know by name."""

    name = "data_export"
    timetables = [OnceWindowTimetable]  # noqa: RUF012 - the type is AirflowPlugin's
