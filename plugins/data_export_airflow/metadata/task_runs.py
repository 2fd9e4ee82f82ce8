"""What a task may ask Airflow about the runs of other DAGs."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.context import InletEventsAccessor

from data_export.alerts.watch import RunState, Standing
from data_export.config.models import dag_id
from data_export.config.precedence import LastDelivery
from data_export.window import ExportWindow
from data_export_airflow.metadata.assets import asset_of

_NOT_FOUND = 404
_EVENTS = 100


class TaskRuns:
    """Asks Airflow through the task's own connection to its API server, the only way that a task has."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def standing(self, export: str) -> Standing:
        try:
            return "paused" if self._ti.get_dag(dag_id(export)).is_paused else "active"
        except AirflowRuntimeError as error:
            if (error.error.detail or {}).get("status_code") == _NOT_FOUND:
                return "missing"
            raise

    def delivered(self, export: str, windows: Collection[ExportWindow]) -> set[ExportWindow]:
        """Those delivered by their own runs, or by a run of any range that holds them, which a person may have started.

        Receipts decide, not logical dates: a run of an earlier interval may begin with the window and end before it.

        Args:
            windows: not empty.
        """
        left, found = {*windows}, set[ExportWindow]()
        for given in self._deliveries(export, min(window.end for window in left)):
            found |= {window for window in left if given.start <= window.start and window.end <= given.end}
            left -= found
            if not left:
                break
        return found

    def state(self, export: str, window: ExportWindow) -> RunState:
        states: tuple[RunState, ...] = ("failed", "running", "queued")
        return next((state for state in states if self._count(export, window, state)), "none")

    def last_delivery(self, export: str) -> LastDelivery | None:
        """Where and since when it delivers; None where it never did, or where Airflow forgot it."""
        asset = asset_of(export)
        # By both name and address, so that the deliveries of a DAG that is not parsed at the moment are found too.
        events = InletEventsAccessor(asset_name=asset.name, asset_uri=asset.uri).limit(1)
        newest = next((event.extra for event in events.ascending(False)), None)
        return LastDelivery.of(newest, next(iter(events.ascending())).timestamp) if newest else None

    def _count(self, export: str, window: ExportWindow, state: str) -> int:
        return int(self._ti.get_dr_count(dag_id(export), logical_dates=[window.start], states=[state]))

    def _deliveries(self, export: str, since: datetime) -> Iterator[ExportWindow]:
        """What was delivered since, oldest first: a window's own run mostly is among the first after its end."""
        asset = asset_of(export)
        events = InletEventsAccessor(asset_name=asset.name, asset_uri=asset.uri).limit(_EVENTS)
        while True:
            found = list(events.after(since.isoformat()))
            extras: list[dict[str, Any]] = [event.extra or {} for event in found]
            yield from (ExportWindow.from_dict(extra["window"]) for extra in extras if "window" in extra)
            if len(found) < _EVENTS or found[-1].timestamp == since:
                return
            since = found[-1].timestamp
