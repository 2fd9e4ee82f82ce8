"""What a backfill would do, found out and checked before Airflow makes it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from airflow.jobs.job import most_recent_job
from airflow.models.backfill import Backfill, BackfillDagRun, ReprocessBehavior, _do_dry_run
from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from pendulum import instance
from sqlalchemy import func, select
from sqlalchemy.orm import Session

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
from data_export_airflow.metadata.windows import MAX_WINDOWS, Schedule, WindowRow, sample, schedule, windows
from data_export_airflow.timetables import timetable_of

_RECENT = 40  # windows that are looked at for deliveries to reckon with
_SECONDS = 10.0  # that the source is asked for


@dataclass(frozen=True, slots=True)
class Asked:
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

    `first` and `last` are the outermost of these windows, and `windows` what became of all: where one has the shorter
    run of an earlier schedule, that run and the rest (see `WindowRow`).
    `under_way` names a backfill of the export that is not over; Airflow has one at a time.
    `sample` has the averages of deliveries (see `history.windows.sample`); without one, `counted` the source's answer,
    or `silence` why it gave none.
    """

    asked: Asked
    dag_id: str
    timezone: str
    start: datetime
    end: datetime
    windows: tuple[WindowRow, ...]
    first: ExportWindow
    last: ExportWindow
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


def forecast(asked: Asked, now: datetime) -> Forecast:
    """Looks, and changes nothing.

    Raises:
        LimitExceeded: naming the limit; also for a range before the export's start.
        ConfigError: no such export, no schedule, dates that are none, or Airflow does not know the export as it is.
    """
    export = load_named(asked.name)
    limits = limits_of(asked.name, export, load_platform().limits)
    start, end = _range(asked, export)
    at_once = _runs_at_once(asked, limits)
    with create_session() as session:
        plan = _schedule(session, asked.name, export, limits)
        own, found = _windows(session, asked, plan, (start, end), now)
        for row in found:
            check_window(asked.name, export, ExportWindow(row.start, row.end), limits, now)
        under_way = _under_way(session, asked.name, export.timezone)
        runs = _to_run(session, asked, own)
        reckoned = sample(found) or _recent(session, asked.name, plan, now)
        scheduler = most_recent_job("SchedulerJob", session=session)
        paused = session.scalar(select(DagModel.is_paused).where(DagModel.dag_id == dag_id(asked.name)))
    counted, silence = (None, None) if reckoned or not runs else _counted(export, runs)
    return Forecast(
        asked=asked,
        dag_id=dag_id(asked.name),
        timezone=export.timezone,
        start=start,
        end=end,
        windows=tuple(found),
        first=own[0],
        last=own[-1],
        runs=tuple(runs),
        max_active_runs=at_once,
        limits=limits,
        is_paused=bool(paused),
        has_scheduler=scheduler is not None and scheduler.is_alive(),
        under_way=under_way,
        sample=reckoned,
        counted=counted,
        silence=silence,
    )


def _range(asked: Asked, export: AnyExport) -> tuple[datetime, datetime]:
    try:
        start, end = (instant(moment(text), export.timezone) for text in (asked.start, asked.end))
        ExportWindow(start, end)
    except ValueError as error:
        raise ConfigError(f"{asked.name}: --from {asked.start} --to {asked.end}: {error}") from None
    if start < export.start:
        raise LimitExceeded(
            f"{asked.name}: --from {asked.start} is before the export's start_date {export.start_date}: begin later, "
            "or set an earlier start_date in the customer file"
        )
    return start, end


def _runs_at_once(asked: Asked, limits: Limits) -> int:
    limit, wanted = limits.max_active_runs, asked.max_active_runs
    if wanted is not None and wanted > limit.value:
        raise LimitExceeded(f"{asked.name}: --max-active-runs {wanted} is more than {limit}: ask for fewer at once")
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
    stale = session.scalar(select(DagModel.is_stale).where(DagModel.dag_id == dag_id(name)))
    if plan is None or stale is not False:
        raise ConfigError(
            f"{name}: Airflow has no DAG {dag_id(name)} yet: it comes within half a minute of its file, "
            "as long as the dag-processor runs"
        )
    if plan.start != export.start or plan.dag.timetable.serialize() != expected.serialize():
        raise ConfigError(
            f"{name}: Airflow still has the DAG of an earlier version of the file: try in half a minute; the new one "
            "comes as long as the dag-processor runs"
        )
    return plan


def _windows(
    session: Session, asked: Asked, plan: Schedule, bounds: tuple[datetime, datetime], now: datetime
) -> tuple[list[ExportWindow], list[WindowRow]]:
    """The windows of the schedule in order, and what became of them."""
    due = islice(plan.windows(bounds[0], min(bounds[1], now)), MAX_WINDOWS + 1)
    own = [ExportWindow(start, end) for start, end in due if end < now]
    if len(own) > MAX_WINDOWS:
        raise LimitExceeded(f"{asked.name}: the range has more than {MAX_WINDOWS:,} windows: take a shorter one")
    if not own:
        cut = f"{plan.dag.timetable.summary} in {plan.timezone.key}"
        fix = "wait until one is over" if bounds[1] > now else "take a longer range, or trigger a run with from and to"
        if plan.end is not None and bounds[0] >= plan.end:
            fix = "its end_date is before that, begin earlier"
        raise ConfigError(
            f"{asked.name}: no window that is over starts in {ExportWindow(*bounds)}, cut by {cut}: {fix}"
        )
    rows, _ = windows(session, dag_id(asked.name), plan, *bounds, now)
    ends = {window.start: window.end for window in own}  # other runs of another schedule are not repeated
    found = [row for row in rows if (row.start in ends or row.state == "rest") and row.end < now]
    return own, [
        row
        if row.state == "rest" or ends[row.start] == row.end
        else replace(row, state=f"{row.state} with other bounds")
        for row in found
    ]


def _under_way(session: Session, name: str, timezone: str) -> str | None:
    active = session.scalar(select(Backfill).where(Backfill.dag_id == dag_id(name), Backfill.completed_at.is_(None)))
    if active is None:
        return None
    count = select(func.count()).select_from(BackfillDagRun).where(BackfillDagRun.backfill_id == active.id)
    windows = windows_in_words(session.scalar(count) or 0, active.from_date, active.to_date, timezone)
    return f"backfill {active.id} of {windows}"


def _to_run(session: Session, asked: Asked, own: list[ExportWindow]) -> list[ExportWindow]:
    infos = _do_dry_run(
        dag_id=dag_id(asked.name),
        from_date=instance(own[0].start),
        to_date=instance(own[-1].start),
        reverse=asked.newest_first,
        reprocess_behavior=ReprocessBehavior(asked.reprocess),
        session=session,
    )
    return [ExportWindow(info.data_interval.start, info.data_interval.end) for info in infos if info.data_interval]


def _recent(session: Session, name: str, plan: Schedule, now: datetime) -> dict[str, float] | None:
    last = min(now, plan.end) if plan.end else now
    rows, _ = windows(session, dag_id(name), plan, last - _RECENT * plan.length(now), last + timedelta(seconds=1), now)
    return sample(rows)


def _counted(export: AnyExport, runs: list[ExportWindow]) -> tuple[Counted | None, str | None]:
    some = sorted({0, len(runs) // 2, len(runs) - 1})
    source, asked = load_platform().source, [runs[number] for number in some]
    try:
        return count(source_dsn(source.conn_id), export, asked, _SECONDS, row_security=source.row_security), None
    except DataExportError as error:
        return None, str(error)
