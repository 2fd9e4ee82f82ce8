"""A run's first step: freeze what it will do, refuse what it may not."""

import secrets
from datetime import UTC, datetime, timedelta

from data_export.config.models import AnyExport
from data_export.config.platform import LimitSettings
from data_export.errors import LimitExceeded
from data_export.plan import ExportPlan
from data_export.window import ExportWindow


def prepare(name: str, export: AnyExport, window: ExportWindow, limits: LimitSettings, now: datetime) -> ExportPlan:
    """The frozen plan of one run. Reads nothing: what breaks a limit is refused before the source is touched.

    The plan's `run_token` is random, so that no other run, nor a reader of the staging area, meets its names.

    Raises:
        LimitExceeded: naming the limit, its value and the window.
    """
    _check(name, export, window, limits, now)
    return ExportPlan(
        name=name,
        export=export,
        window=window,
        run_token=secrets.token_hex(16),
        config_hash=export.config_hash(),
        created_at=now.astimezone(UTC).isoformat(timespec="seconds"),
    )


def _check(name: str, export: AnyExport, window: ExportWindow, limits: LimitSettings, now: datetime) -> None:
    if window.length > timedelta(days=limits.max_window_days):
        raise LimitExceeded(
            f"{name}: window {window} is {window.length.days} days long, more than limits.max_window_days = "
            f"{limits.max_window_days}: export it in several windows"
        )
    earliest = datetime.combine(limits.earliest, datetime.min.time(), UTC)
    if window.start < earliest:
        raise LimitExceeded(f"{name}: window {window} begins before limits.earliest = {limits.earliest}: begin later")
    if window.start < export.start:
        raise LimitExceeded(
            f"{name}: window {window} begins before the export's start_date {export.start_date}: "
            "begin later, or set an earlier start_date in the customer file"
        )
    if export.end is not None and window.end > export.end:
        raise LimitExceeded(
            f"{name}: window {window} ends after the export's end_date {export.end_date}: "
            "end earlier, or set a later end_date in the customer file"
        )
    if window.end > now:
        raise LimitExceeded(
            f"{name}: window {window} ends in the future (now {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC): "
            "a file would miss what happens until then; run it when the window is over"
        )
