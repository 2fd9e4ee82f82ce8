"""Which window a run is for."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pendulum import instance

from data_export.config.models import CustomerExport
from data_export.errors import ConfigError
from data_export.window import ExportWindow
from data_export_airflow.timetables import timetable_of


def window_of_run(export: CustomerExport, context: Mapping[str, Any], settle: timedelta, now: datetime) -> ExportWindow:
    """The trigger form's `from` and `to` where given, else the run's data interval, else the last complete window.

    A window that `end_date` cuts is exported up to it.

    Raises:
        ConfigError: only one of `from` and `to`, not instants with a zone, or another parameter: a misspelt one would
            otherwise export the last window in place of the range that was meant.
    """
    params = context.get("params") or {}
    if unknown := sorted({*params} - {"from", "to"}):
        raise ConfigError(
            f"{', '.join(unknown)}: no parameter of an export: it has `from` and `to` only, spelt like this"
        )
    start, end = params.get("from"), params.get("to")
    if start or end:
        if not (start and end):
            raise ConfigError("the trigger form has only one of `from` and `to`: give both, or neither")
        try:
            return ExportWindow(datetime.fromisoformat(start), datetime.fromisoformat(end))
        except ValueError as error:
            raise ConfigError(f"the trigger form's `from` {start} and `to` {end}: {error}") from None
    run = context["dag_run"]
    begins, ends = run.data_interval_start, run.data_interval_end
    if begins is None or ends is None or begins == ends:
        # A run triggered without a logical date has no interval (REST with null, CLI without -l).
        begins, ends = timetable_of(export, settle).infer_manual_data_interval(run_after=instance(now))
    if export.end is not None and begins < export.end < ends:
        ends = export.end
    return ExportWindow(begins, ends)
