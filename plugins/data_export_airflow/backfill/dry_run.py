"""What a backfill would do, found out and checked before Airflow makes it; and having Airflow make it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy.orm import Session

from data_export.config.folder import unknown_to_airflow
from data_export.config.load import load_named
from data_export.config.models import AnyExport, dag_id
from data_export.config.moments import instant, moment
from data_export.config.platform import load_platform
from data_export.errors import ConfigError, DataExportError, LimitExceeded
from data_export.limits import Limits, check_window, limits_of
from data_export.source.estimate import Counted, count
from data_export.window import ExportWindow
from data_export.wording import windows_in_words
from data_export_airflow.connections.source import source_dsn
from data_export_airflow.metadata import backfills
from data_export_airflow.metadata.airflow_database import airflow_session
from data_export_airflow.metadata.windows import MAX_WINDOWS, Schedule, WindowRow, sample, schedule, windows
from data_export_airflow.timetables import timetable_of

_RECENT = 40  # windows that are looked at for deliveries that an estimate needs
_SECONDS = 10.0  # that the source is asked for
#: The state of a window that a longer one, of an earlier `interval`, has delivered.
IN_A_LONGER = "in a longer window that was delivered"


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """What somebody wants: `[start, end)` as written; without zone they are in the export's own."""

    name: str
    start: str
    end: str
    reprocess: str = "none"
    newest_first: bool = False
    max_active_runs: int | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What Airflow would do: of the windows that start in `[start, end)` and are over, those that `runs` has.

    `first` and `last` are the outermost of these windows, `is_complete` says that the export ends with the last, and
    `windows` what became of all: where one has the shorter run of an earlier schedule, that run and the rest (see
    `WindowRow`).
    `under_way` names a backfill of the export that is not over; Airflow has one at a time.
    `sample` has the averages of deliveries (see `metadata.windows.sample`); without one, `counted` the source's answer,
    or `silence` why it gave none.
    """

    request: BackfillRequest
    dag_id: str
    timezone: str
    start: datetime
    end: datetime
    windows: tuple[WindowRow, ...]
    first: ExportWindow
    last: ExportWindow
    is_complete: bool
    runs: tuple[ExportWindow, ...]
    max_active_runs: int
    limits: Limits
    is_paused: bool
    has_scheduler: bool
    under_way: str | None
    sample: dict[str, float] | None
    counted: Counted | None
    silence: str | None

    @property
    def seconds(self) -> float | None:
        """How long all runs take together, at the speed of the last."""
        if self.sample is None or not self.runs:
            return None
        return self.sample["seconds"] * len(self.runs) / min(self.max_active_runs, len(self.runs))


def forecast(request: BackfillRequest, now: datetime) -> Forecast:
    """Looks, and changes nothing.

    Raises:
        LimitExceeded: naming the limit; also for a range before the export's start.
        ConfigError: no such export, no schedule, dates that are none, or Airflow does not know the export as it is.
    """
    export = load_named(request.name)
    limits = limits_of(request.name, export, load_platform().limits)
    start, end = _range(request, export)
    at_once = _runs_at_once(request, limits)
    with airflow_session() as session:
        plan = _schedule(session, request.name, export, limits)
        own, found = _windows(session, request, plan, (start, end), now)
        for row in found:
            check_window(request.name, export, ExportWindow(row.start, row.end), limits, now)
        under_way = _under_way(session, request.name, export.timezone)
        runs = _to_run(session, request, own)
        averages = sample(found) or _recent(session, request.name, plan, now)
        has_scheduler = backfills.has_scheduler(session)
        is_paused = backfills.is_paused(session, dag_id(request.name))
    counted, silence = (None, None) if averages or not runs else _counted(export, runs)
    return Forecast(
        request=request,
        dag_id=dag_id(request.name),
        timezone=export.timezone,
        start=start,
        end=end,
        windows=tuple(found),
        first=own[0],
        last=own[-1],
        is_complete=export.end is not None and own[-1].end >= export.end,
        runs=tuple(runs),
        max_active_runs=at_once,
        limits=limits,
        is_paused=is_paused,
        has_scheduler=has_scheduler,
        under_way=under_way,
        sample=averages,
        counted=counted,
        silence=silence,
    )


def _range(request: BackfillRequest, export: AnyExport) -> tuple[datetime, datetime]:
    try:
        start, end = (instant(moment(text), export.timezone) for text in (request.start, request.end))
        ExportWindow(start, end)
    except ValueError as error:
        raise ConfigError(f"{request.name}: --from {request.start} --to {request.end}: {error}") from None
    if start < export.start:
        raise LimitExceeded(
            f"{request.name}: --from {request.start} is before the export's start_date {export.start_date}: "
            "begin later, or set an earlier start_date in the customer file"
        )
    return start, end


def _runs_at_once(request: BackfillRequest, limits: Limits) -> int:
    limit, wanted = limits.max_active_runs, request.max_active_runs
    if wanted is not None and wanted > limit.value:
        raise LimitExceeded(f"{request.name}: --max-active-runs {wanted} is more than {limit}: ask for fewer at once")
    return wanted or limit.value


def _schedule(session: Session, name: str, export: AnyExport, limits: Limits) -> Schedule:
    """Airflow's own, if it is what the file says."""
    if not export.enabled:
        raise ConfigError(
            f"{name}: enabled is false, and Airflow backfills only what has a schedule: set it to true (a paused DAG "
            "schedules nothing either)"
        )
    if export.interval == "once":
        raise ConfigError(
            f"{name}: interval once has one window and no backfill: trigger a run, or clear the one it had"
        )
    plan, expected = schedule(session, dag_id(name)), timetable_of(export, limits.settle)
    if plan is None or not backfills.is_current(session, dag_id(name)):
        raise ConfigError(unknown_to_airflow(name))
    if plan.start != export.start or plan.timetable.serialize() != expected.serialize():
        raise ConfigError(
            f"{name}: Airflow still has the DAG of an earlier version of the file: try in half a minute; the new one "
            "comes as long as the dag-processor runs"
        )
    return plan


def _windows(
    session: Session, request: BackfillRequest, plan: Schedule, bounds: tuple[datetime, datetime], now: datetime
) -> tuple[list[ExportWindow], list[WindowRow]]:
    """The windows of the schedule in order, and what became of them."""
    due = islice(plan.windows(bounds[0], min(bounds[1], now)), MAX_WINDOWS + 1)
    own = [ExportWindow(start, end) for start, end in due if end < now]
    if len(own) > MAX_WINDOWS:
        raise LimitExceeded(f"{request.name}: the range has more than {MAX_WINDOWS:,} windows: take a shorter one")
    if not own:
        fix = "wait until one is over" if bounds[1] > now else "take a longer range, or trigger a run with from and to"
        if plan.end is not None and bounds[0] >= plan.end:
            fix = "its end_date is before that, begin earlier"
        where = f"{ExportWindow(*bounds)}, cut by {plan.timetable.summary}"
        raise ConfigError(f"{request.name}: no window that is over starts in {where}: {fix}")
    rows, _ = windows(session, dag_id(request.name), plan, *bounds, now)
    ends = {window.start: window.end for window in own}  # other runs of another schedule are not repeated
    found = [row for row in rows if (row.start in ends or row.state == "rest") and row.end < now]
    judged = [
        row
        if row.state == "rest" or ends[row.start] == row.end
        else replace(row, state=f"{row.state} with other bounds")
        for row in found
    ]
    shown = {row.start for row in rows}  # Airflow runs the others too, as none of its runs begins with them
    judged += [WindowRow(window.start, window.end, IN_A_LONGER) for window in own if window.start not in shown]
    return own, sorted(judged, key=lambda row: row.start)


def _under_way(session: Session, name: str, timezone: str) -> str | None:
    active = backfills.active(session, dag_id(name))
    if active is None:
        return None
    return f"backfill {active.id} of {windows_in_words(active.windows, active.first, active.last, timezone)}"


def _to_run(session: Session, request: BackfillRequest, own: list[ExportWindow]) -> list[ExportWindow]:
    first, last = own[0].start, own[-1].start
    return backfills.dry_run(session, dag_id(request.name), first, last, request.reprocess, request.newest_first)


def _recent(session: Session, name: str, plan: Schedule, now: datetime) -> dict[str, float] | None:
    last = min(now, plan.end) if plan.end else now
    rows, _ = windows(session, dag_id(name), plan, last - _RECENT * plan.length(now), last + timedelta(seconds=1), now)
    return sample(rows)


def sampled(runs: Sequence[ExportWindow]) -> list[ExportWindow]:
    """The windows that stand for all at the source: the first, the middle and the last."""
    return [runs[number] for number in sorted({0, len(runs) // 2, len(runs) - 1})]


def _counted(export: AnyExport, runs: list[ExportWindow]) -> tuple[Counted | None, str | None]:
    source, asked = load_platform().source, sampled(runs)
    try:
        return count(source_dsn(source.conn_id), export, asked, _SECONDS, row_security=source.row_security), None
    except DataExportError as error:
        return None, str(error)


def create(made: Forecast) -> int:
    """Has Airflow make the runs; returns the id of its backfill.

    Raises:
        LimitExceeded: another backfill of the export is under way.
        ConfigError: Airflow refuses, in its own words.
    """
    if made.under_way:
        raise _busy(made, made.under_way)
    request, first, last = made.request, made.first.start, made.last.start
    try:
        return backfills.create(made.dag_id, first, last, request.reprocess, request.newest_first, made.max_active_runs)
    except LimitExceeded as error:  # somebody else's, since we looked
        raise _busy(made, str(error)) from None
    except ConfigError as error:
        raise ConfigError(f"{request.name}: Airflow refuses the backfill: {error}") from None


def _busy(made: Forecast, other: str) -> LimitExceeded:
    return LimitExceeded(
        f"{made.request.name}: {other} is under way, and Airflow has one per DAG at a time: wait for its end, which "
        "Airflow notices up to half a minute late, or cancel it"
    )
