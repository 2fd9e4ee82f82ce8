"""The page's few queries against the core's rule, over exports whose windows were delivered or not by chance."""

import random
from datetime import UTC, datetime, timedelta

import yaml
from airflow.models.asset import AssetEvent
from airflow.models.dagrun import DagRun
from airflow.utils.types import DagRunType

from data_export.config.models import EXPORT, dag_id
from data_export.lateness import dues, late
from data_export.window import ExportWindow
from data_export_airflow.metadata.late import LateExports
from data_export_airflow.metadata.overview import exports
from data_export_airflow.schedule.windows import ExportSchedule, Schedules
from data_export_airflow.timetables import timetable_of
from tests.page.history import FILE, SITE, History

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MORNING = datetime(2026, 3, 10, 5, tzinfo=UTC)
#: By interval: windows in the days that the random histories are about.
KINDS = {"hourly": 5 * 24, "daily": 8, "0 6 * * 1-5": 8, "weekly": 3, "0 0,1 * * *": 16}


def schedule_of(name: str, interval: str) -> ExportSchedule:
    text = FILE.format(site=SITE, interval=f"'{interval}'", start="2026-01-01", name=name, more="")
    timetable = timetable_of(EXPORT.validate_python(yaml.safe_load(text)), 5 * MINUTE)
    return Schedules().of_timetable(timetable, 2 * HOUR)


def windows_of(schedule: ExportSchedule, count: int, now: datetime) -> list[ExportWindow]:
    """The newest that are due, oldest first."""
    found = [schedule.last(now)]
    while len(found) < count and found[-1] is not None:
        found.append(schedule.before(found[-1]))
    return [window for window in reversed(found) if window is not None]


def run_of(history: History, name: str, window: ExportWindow, state: str) -> list[DagRun | AssetEvent]:
    """A run, and its event if it has delivered; a "marked" one has succeeded without."""
    began = window.end + 5 * MINUTE
    run = DagRun(
        dag_id=dag_id(name),
        run_id=f"scheduled__{window.start.isoformat()}",
        run_type=DagRunType.SCHEDULED,
        state="success" if state == "marked" else state,
        logical_date=window.start,
        data_interval=(window.start, window.end),
        run_after=began,
        queued_at=began,
        start_date=began,
        conf={},
    )
    run.end_date = None if state == "running" else began + MINUTE
    if state != "success":
        return [run]
    event = AssetEvent(
        asset_id=history._asset(run.dag_id),
        source_task_id="close",
        source_dag_id=run.dag_id,
        source_run_id=run.run_id,
        source_map_index=-1,
        timestamp=run.end_date,
        extra={"window": window.to_dict()},
    )
    return [run, event]


def test_few_queries_find_what_the_rule_finds_of_every_export(history: History) -> None:
    """Of 50 exports whose windows were delivered or not by chance; the scheduler of some stood still."""
    chance, now = random.Random(20260310), MORNING + 17 * MINUTE
    names = {f"by-chance-{number:02}": list(KINDS)[number % len(KINDS)] for number in range(50)}
    for name, interval in names.items():
        history.write(name, f"'{interval}'", start="2026-01-01")
    history.parse()
    expected: dict[str, tuple[datetime, int] | None] = {}
    for name, interval in names.items():
        schedule = schedule_of(name, interval)
        windows = windows_of(schedule, chance.choice([2, 3, KINDS[interval]]), now)
        luck, behind = chance.choice([1.0, 0.98, 0.7]), chance.choice([0, 0, 0, 1, 3])
        made = windows[: len(windows) - behind] or windows[:1]
        states = {
            window: "success" if chance.random() < luck else chance.choice(["failed", "running", "marked", "none"])
            for window in made
        }
        states[made[0]] = chance.choice(["success", "success", "failed", "marked"])  # what its run began with
        for window, state in states.items():
            if state != "none":
                history.session.add_all(run_of(history, name, window, state))
        following = windows[len(made)] if len(made) < len(windows) else ExportWindow(made[-1].end, made[-1].end + DAY)
        history.next_window(dag_id(name), following.start, following.end)
        began = made[0].end + 5 * MINUTE
        found = late(dues(schedule, now, began), {one for one in made if states[one] == "success"}.__contains__, now)
        expected[name] = (found[0].by, len(found)) if found else None
    shown = {
        row.name: row.late_seconds is not None and (now - timedelta(seconds=row.late_seconds), row.late_windows)
        for row in exports(history.session, now, LateExports())
    }
    assert shown == {name: found or False for name, found in expected.items()}
    assert len({found is None for found in expected.values()}) == 2, "some are late and some are not"
