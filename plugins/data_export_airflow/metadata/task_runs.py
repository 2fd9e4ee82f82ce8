"""What a task may ask Airflow about the runs of other DAGs."""

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetDagRun, TriggerDagRun
from airflow.sdk.execution_time.context import InletEventsAccessor

from data_export.alerts.watch import RunState, Standing
from data_export.config.models import CustomerExport, dag_id
from data_export.config.platform import PlatformSettings
from data_export.config.precedence import LastDelivery
from data_export.limits import limits_of
from data_export.pipeline.expected import Delivery
from data_export.window import ExportWindow
from data_export_airflow.metadata.assets import asset_of, window_in
from data_export_airflow.schedule.windows import window_of_run

#: The window that a run delivers if it is cleared now; None where it would deliver none.
WindowOf = Callable[[Any], ExportWindow | None]
_ACTIVE = ("queued", "running")
_NOT_FOUND = 404
_EVENTS = 100
_DATES = 50  # in the address of one request: proxies take some kilobytes
_RECEIPTS = 20  # whole receipts at once: one may list a thousand sites
_TICK = timedelta(microseconds=1)


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

    def states(self, export: str, windows: Collection[ExportWindow]) -> dict[ExportWindow, RunState]:
        """Of the windows' own runs. Few requests where all are alike, else further ones for each window."""
        found: dict[ExportWindow, RunState] = dict.fromkeys(windows, "none")
        states: tuple[RunState, ...] = ("failed", "running", "queued")
        for state in states:
            left = [window for window in found if found[window] == "none"]
            count = self._count(export, left, state) if left else 0
            if count < len(left):  # Airflow has one run for each start
                left = [window for window in left if count and self._count(export, [window], state)]
            found |= dict.fromkeys(left, state)
        return found

    def last_delivery(self, export: str) -> LastDelivery | None:
        """Where and since when it delivers; None where it never did, or where Airflow forgot it."""
        asset = asset_of(export)
        # By both name and address, so that the deliveries of a DAG that is not parsed at the moment are found too.
        events = InletEventsAccessor(asset_name=asset.name, asset_uri=asset.uri).limit(_RECEIPTS)
        ours = (event for event in events.ascending(False) if event.source_dag_id and window_in(event.extra))
        newest = next((event.extra for event in ours), None)
        oldest = next((event.timestamp for event in events.ascending() if event.source_dag_id), None)
        return LastDelivery.of(newest, oldest) if newest and oldest else None

    def receipts(self, export: str, since: datetime) -> Iterator[Delivery]:
        """What was delivered since, the newest first; a few receipts are held at once."""
        asset = asset_of(export)
        events = InletEventsAccessor(asset_name=asset.name, asset_uri=asset.uri).limit(_RECEIPTS).ascending(False)
        events, before = events.after(since.isoformat()), None
        while True:
            found = list(events)
            for event in found:
                if event.source_dag_id is None:  # somebody made it by hand
                    continue
                yield Delivery(event.extra or {}, event.source_dag_id, event.source_run_id or "")
            if len(found) < _RECEIPTS:
                return
            # Inclusive: as many events at one instant as are asked for at once would be found for ever.
            before = found[-1].timestamp if found[-1].timestamp != before else found[-1].timestamp - _TICK
            events = events.before(before.isoformat())

    def is_under_way(self, export: str, window: ExportWindow, of_dag: str, run_id: str) -> bool:
        """Whether the window's own run, the one that delivered it last or one that an audit has made is not over.

        Of another run by hand a task cannot ask.
        """
        own, count = dag_id(export), partial(self._ti.get_dr_count, states=[*_ACTIVE])
        ours = count(own, logical_dates=[window.start]) or count(own, run_ids=[f"audit__{window.stamp}"])
        return bool(ours or count(of_dag, run_ids=[run_id]))

    def run_again(self, export: str, window_of: WindowOf, window: ExportWindow, of_dag: str, run_id: str) -> str | None:
        """Has Airflow run a window again, as a person would: clears the run that delivered it.

        A run that Airflow has forgotten, that was of another DAG or of a backfill, which would never start if that was
        cancelled, or that would deliver another window by now gets a new one of the export's own, for this range.
        Returns the run's id; None where the window's run is not over.

        Raises:
            AirflowRuntimeError: Airflow refuses.
        """
        own, fresh = dag_id(export), f"audit__{window.stamp}"
        for one in (run_id, fresh) if of_dag == own and run_id else (fresh,):
            run = self._run(own, one)
            if run is not None and run.state in _ACTIVE:
                return None
            if one == fresh or (run is not None and run.run_type != "backfill" and window_of(run) == window):
                conf = {"from": window.start.isoformat(), "to": window.end.isoformat()} if run is None else None
                ask = TriggerDagRun(dag_id=own, run_id=one, conf=conf, reset_dag_run=True, logical_date=None)
                task_runner.SUPERVISOR_COMMS.send(ask)
                return one
        raise AssertionError("unreachable: the last is made anew")

    def _run(self, of_dag: str, run_id: str) -> Any:
        """None where Airflow has no such run."""
        try:
            return task_runner.SUPERVISOR_COMMS.send(GetDagRun(dag_id=of_dag, run_id=run_id))
        except AirflowRuntimeError as error:
            if (error.error.detail or {}).get("status_code") == _NOT_FOUND:
                return None
            raise

    def _count(self, export: str, windows: Iterable[ExportWindow], state: str) -> int:
        dates, count = [window.start for window in windows], partial(self._ti.get_dr_count, dag_id(export))
        some = (dates[begin : begin + _DATES] for begin in range(0, len(dates), _DATES))
        return sum(int(count(logical_dates=each, states=[state])) for each in some)

    def _deliveries(self, export: str, since: datetime) -> Iterator[ExportWindow]:
        """What was delivered since, oldest first: a window's own run mostly is among the first after its end."""
        asset = asset_of(export)
        events = InletEventsAccessor(asset_name=asset.name, asset_uri=asset.uri).limit(_EVENTS)
        while True:
            found = list(events.after(since.isoformat()))
            windows = (window_in(event.extra) for event in found if event.source_dag_id)
            yield from (window for window in windows if window is not None)
            if len(found) < _EVENTS or found[-1].timestamp == since:
                return
            since = found[-1].timestamp


def window_if_cleared(name: str, export: CustomerExport, settings: PlatformSettings) -> WindowOf:
    """By the customer file of now, as the first step of a run that is cleared asks; None where that would fail."""
    settle = limits_of(name, export, settings.limits).settle

    def window_of(run: Any) -> ExportWindow | None:
        try:
            return window_of_run(export, {"params": run.conf, "dag_run": run}, settle)
        except (ValueError, TypeError):
            return None

    return window_of
