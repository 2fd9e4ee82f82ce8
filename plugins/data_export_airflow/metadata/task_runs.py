"""What a task may ask Airflow about the runs of other DAGs."""

from collections.abc import Iterator
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

    def delivered(self, export: str, window: ExportWindow) -> bool:
        """By its own run, or by a run of any range that holds the window, which a person may have started.

        Receipts decide, not logical dates: a run of an earlier interval may begin with the window and end before it.
        """
        return any(
            given.start <= window.start and window.end <= given.end for given in self._deliveries(export, window)
        )

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

    def _deliveries(self, export: str, window: ExportWindow) -> Iterator[ExportWindow]:
        """What was delivered since the window was over, oldest first: its own run mostly is among the first."""
        asset = asset_of(export)
        events = InletEventsAccessor(asset_name=asset.name, asset_uri=asset.uri).limit(_EVENTS)
        since = window.end
        while True:
            found = list(events.after(since.isoformat()))
            extras: list[dict[str, Any]] = [event.extra or {} for event in found]
            yield from (ExportWindow.from_dict(extra["window"]) for extra in extras if "window" in extra)
            if len(found) < _EVENTS or found[-1].timestamp == since:
                return
            since = found[-1].timestamp
