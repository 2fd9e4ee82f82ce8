"""A run's first step: freeze what it will do, refuse what it may not."""

import secrets
from datetime import UTC, datetime

from data_export.config.models import AnyExport
from data_export.limits import Limits, check_window
from data_export.plan import ExportPlan
from data_export.window import ExportWindow


def prepare(name: str, export: AnyExport, window: ExportWindow, limits: Limits, now: datetime) -> ExportPlan:
    """The frozen plan of one run. Reads nothing: what breaks a limit is refused before the source is touched.

    The plan's `run_token` is random, so that no other run, nor a reader of the staging area, meets its names.

    Raises:
        LimitExceeded: naming the limit, its value and the window.
    """
    check_window(name, export, window, limits, now)
    return ExportPlan(
        name=name,
        export=export,
        window=window,
        run_token=secrets.token_hex(16),
        config_hash=export.config_hash(),
        created_at=now.astimezone(UTC).isoformat(timespec="seconds"),
    )
