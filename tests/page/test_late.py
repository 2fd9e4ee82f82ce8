"""Late: what the watch found, less what was delivered since; and that the page says where the watch has not looked."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.models.dag import DagModel
from sqlalchemy import event

from data_export.alerts.watch import Watched
from data_export.config.load import load_customers
from data_export.config.models import name_of
from data_export.lateness import Due
from data_export.window import ExportWindow
from data_export_airflow.alerting.sender import AlertSender
from data_export_airflow.alerting.watch import _look_at_all
from data_export_airflow.dags.service_dags import WATCH_DAG
from data_export_airflow.metadata.missing import MissingWindows
from data_export_airflow.metadata.overview import ExportRow, Overview, at_a_glance
from data_export_airflow.metadata.task_runs import TaskRuns
from tests.page.history import History

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
MORNING = MIDNIGHT + 5 * HOUR
LATE = 3 * HOUR  # since two hours after midnight
Watch = Callable[..., None]


def glance(history: History, now: datetime = MORNING) -> Overview:
    history.session.expire_all()
    return at_a_glance(history.session, now, MissingWindows())


def row_of(history: History, dag: str, now: datetime = MORNING) -> ExportRow:
    return next(row for row in glance(history, now).rows if row.dag_id == dag)


def lateness(row: ExportRow) -> tuple[str, timedelta | None, int | None]:
    return row.state, None if row.late_seconds is None else timedelta(seconds=row.late_seconds), row.late_windows


def deliver(history: History, dag: str, *back: int, **more: Any) -> None:
    """The windows of days that ended so many days before the last midnight."""
    for days in sorted(back, reverse=True):
        history.run(dag, MIDNIGHT - (days + 1) * DAY, MIDNIGHT - days * DAY, **more)


def due(back: int) -> Due:
    """The window of a day that ended so many days before the last midnight."""
    end = MIDNIGHT - back * DAY
    return Due(ExportWindow(end - DAY, end), end + 2 * HOUR)


def spans(row: ExportRow) -> list[tuple[datetime, datetime, datetime]]:
    return [(span.start, span.end, span.by) for span in row.late or ()]


@pytest.fixture
def watch(history: History, runs: TaskRuns) -> Watch:
    """A real look at all exports at some time, by the API that tasks ask; they were watched before."""

    def looks(now: datetime = MORNING, began: datetime = MIDNIGHT - 60 * DAY) -> None:
        loaded = load_customers()
        known = dict.fromkeys(loaded.exports, Watched(began))
        found, unknown = _look_at_all(loaded, known, runs, AlertSender({}, now=now))
        history.look(now, {name: one.late for name, one in found.items() if one.late}, unknown=unknown)

    return looks


@pytest.fixture
def daily(history: History) -> str:
    """Whose schedule goes on: the next window is today's."""
    dag = history.export("acme")
    history.next_window(dag, MIDNIGHT, MIDNIGHT + DAY)
    return dag


@pytest.mark.parametrize(
    ("delivered", "expected"),
    [
        ((4, 3, 2, 1, 0), ("delivered", None, 0)),
        ((4, 3, 2, 1), ("late", LATE, 1)),
        ((4, 3, 1), ("late", LATE + 2 * DAY, 2)),
        ((4, 3, 1, 0), ("late", LATE + 2 * DAY, 1)),  # a gap
        ((5, 3, 2, 1, 0), ("delivered", None, 0)),  # a gap three days after the next window was due
        ((9, 8, 7, 0), ("late", LATE + 6 * DAY, 6)),  # after an outage
        ((20, 19), ("late", LATE + 18 * DAY, 19)),  # more than a report names
    ],
)
def test_what_a_look_finds_late_is_shown(
    history: History, daily: str, watch: Watch, delivered: tuple[int, ...], expected: tuple[str, timedelta | None, int]
) -> None:
    deliver(history, daily, *delivered)
    watch()
    assert lateness(row_of(history, daily)) == expected


def test_a_late_window_whose_run_failed_is_failed_and_one_of_others_is_late(history: History, daily: str) -> None:
    deliver(history, daily, 3, 0)
    deliver(history, daily, 2, state="failed")
    history.look(MORNING, {"acme": [due(2)]})
    assert lateness(row_of(history, daily)) == ("failed", LATE + 2 * DAY, 1)
    history.look(MORNING + MINUTE, {"acme": [due(2), due(1)]})
    assert lateness(row_of(history, daily)) == ("late", LATE + 2 * DAY, 2)


def test_a_run_under_way_for_too_long_is_late(history: History, daily: str, watch: Watch) -> None:
    deliver(history, daily, 3, 2, 1)
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running")
    watch()
    assert lateness(row_of(history, daily)) == ("late", LATE, 1)


def test_a_run_that_was_marked_as_successful_has_delivered_nothing(history: History, daily: str, watch: Watch) -> None:
    deliver(history, daily, 3, 2, 1)
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running")
    run.state, run.end_date = "success", MORNING
    history.session.commit()
    watch()
    assert lateness(row_of(history, daily)) == ("late", LATE, 1)


def test_a_window_that_is_delivered_after_the_look_is_gone_at_once(history: History, daily: str) -> None:
    deliver(history, daily, 4, 3, 2)
    history.look(MORNING, {"acme": [due(1), due(0)]})
    assert row_of(history, daily).late_windows == 2
    history.run(daily, MIDNIGHT - 2 * DAY, MIDNIGHT - DAY, began=MORNING + MINUTE)
    assert lateness(row_of(history, daily)) == ("late", LATE, 1)
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT, began=MORNING + 2 * MINUTE)
    assert lateness(row_of(history, daily)) == ("delivered", None, 0)


@pytest.mark.parametrize("logical_date", [MORNING, None])
def test_a_range_by_hand_delivers_all_windows_that_it_holds(
    history: History, daily: str, logical_date: datetime | None
) -> None:
    deliver(history, daily, 12, 0)
    history.look(MORNING, {"acme": [due(back) for back in range(11, 0, -1)]})
    assert row_of(history, daily).late_windows == 11
    start, end = MIDNIGHT - 12 * DAY, MIDNIGHT - 2 * DAY
    conf = {"from": start.isoformat(), "to": end.isoformat()} if logical_date else {}
    more = {"run_id": "hand", "run_type": "manual", "logical_date": logical_date, "conf": conf, "began": MORNING}
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running", **more)
    run.state, run.end_date = "success", MORNING
    history.deliver(run, start, end)
    assert row_of(history, daily).late_windows == 6  # a group goes as a whole, or with the next look
    history.deliver(run, start, MIDNIGHT)
    assert lateness(row_of(history, daily)) == ("delivered", None, 0)


@pytest.mark.parametrize(("hours", "late"), [("0.5", 4.5), ("4", 1), ("24", None)])
def test_a_customer_file_may_say_when_it_is_late(
    history: History, watch: Watch, hours: str, late: float | None
) -> None:
    dag = history.export("acme", limits=f"{{late_after_hours: {hours}}}")
    deliver(history, dag, 3, 2, 1)
    watch(began=MIDNIGHT - DAY)
    assert row_of(history, dag).late_seconds == (late and late * 3600)


@pytest.mark.parametrize(
    ("end", "length"),
    [(datetime(2026, 3, 29, 22, tzinfo=UTC), 23), (datetime(2026, 10, 25, 23, tzinfo=UTC), 25)],
)
def test_a_day_on_which_clocks_change_is_named_as_it_is(
    history: History, watch: Watch, end: datetime, length: int
) -> None:
    dag = history.export("acme", timezone="Europe/Paris")
    start = end - length * HOUR
    history.run(dag, start - DAY, start)
    watch(end + 2 * HOUR - MINUTE, start + HOUR)
    assert row_of(history, dag, end + 2 * HOUR - MINUTE).late_windows == 0
    watch(end + 2 * HOUR, start + HOUR)
    assert spans(row_of(history, dag, end + 2 * HOUR)) == [(start, end, end + 2 * HOUR)]


def test_a_paused_export_is_never_late(history: History, daily: str) -> None:
    deliver(history, daily, 9)
    history.look(MORNING, {"acme": [due(0)]})
    history.session.get_one(DagModel, daily).is_paused = True
    history.session.commit()
    assert lateness(row_of(history, daily)) == ("paused", None, 0)


def test_an_export_that_was_removed_or_switched_off_since_is_not_late(history: History, daily: str) -> None:
    other = history.export("other")
    history.look(MORNING, {"acme": [due(0)], "other": [due(0)], "never-there": [due(0)]})
    assert row_of(history, other).state == "late"
    history.export("other", enabled="false")
    history.session.get_one(DagModel, daily).is_stale = True
    history.session.commit()
    assert [(row.name, row.state, row.late_windows) for row in glance(history).rows] == [("other", "off", 0)]


def test_an_export_whose_windows_the_watch_cannot_work_out_is_not_said_to_be_on_time(
    history: History, daily: str
) -> None:
    deliver(history, daily, 0)
    history.look(MORNING, unknown=["acme"])
    assert lateness(row_of(history, daily)) == ("unwatched", None, None)


NOT_KNOWN = "Late windows are not known"
SINCE = f"{NOT_KNOWN} since 2026-03-10 05:00 UTC: "


def test_late_windows_are_not_known_where_the_watch_never_ran(history: History, daily: str) -> None:
    deliver(history, daily, 0)
    found = glance(history)
    assert found.late_unknown is not None
    assert found.late_unknown.startswith(f"{NOT_KNOWN}: the watch has not run. ")
    assert found.late_unknown.endswith(f"Trigger {WATCH_DAG}.")
    assert [lateness(row) for row in found.rows] == [("unwatched", None, None)]


def test_they_are_known_until_the_next_look_is_a_quarter_of_an_hour_late(history: History, daily: str) -> None:
    deliver(history, daily, 1)
    history.look(MORNING, {"acme": [due(0)]}, following=MORNING + HOUR)
    last = MORNING + HOUR + 15 * MINUTE
    assert glance(history, last).late_unknown is None
    assert row_of(history, daily, last).late_windows == 1
    found = glance(history, last + timedelta(seconds=1))
    assert found.late_unknown is not None
    assert found.late_unknown.startswith(f"{SINCE}the watch has not run. Look whether the scheduler")
    assert [lateness(row) for row in found.rows] == [("unwatched", None, None)]
    history.look(last, {"acme": [due(0)]})
    assert row_of(history, daily, last + timedelta(seconds=1)).late_windows == 1


def test_a_watch_that_is_paused_failed_or_gone_is_said_with_the_fix(history: History, daily: str) -> None:
    history.look(MORNING)
    now = MORNING + DAY
    history.look(now - MINUTE, value=None, state="failed")
    assert glance(history, now).late_unknown == f"{SINCE}the watch failed. The log of look in {WATCH_DAG} says why."
    dag = history.session.get_one(DagModel, WATCH_DAG)
    dag.is_paused = True
    history.session.commit()
    assert glance(history, now).late_unknown == f"{SINCE}the watch has not run. {WATCH_DAG} is paused: unpause it."
    dag = history.session.get_one(DagModel, WATCH_DAG)
    dag.is_stale = True
    history.session.commit()
    assert f"{SINCE}Airflow has no DAG {WATCH_DAG}. " in str(glance(history, now).late_unknown)


@pytest.mark.parametrize("value", ["s3://xcoms/look.json", {"watched": 1, "late": 0, "broken": 0}, {"at": "x"}])
def test_what_the_page_cannot_read_is_said(history: History, daily: str, value: object) -> None:
    history.look(MORNING, value=value)
    assert str(glance(history).late_unknown).startswith(f"{NOT_KNOWN}: the page cannot read")


def test_the_newest_look_counts_whatever_its_logical_date(history: History, daily: str) -> None:
    history.look(MORNING - HOUR, {"acme": [due(3)]}, logical_date=MORNING + 999 * DAY)
    history.look(MORNING - 30 * MINUTE, {"acme": [due(1), due(0)]})
    history.look(MORNING, {"acme": [due(0)]}, logical_date=None)
    assert row_of(history, daily).late_windows == 1


def ended(history: History, name: str = "acme", **more: str) -> str:
    """Whose four days end at the last midnight."""
    dag = history.export(name, start="2026-03-06", end_date="2026-03-10", **more)
    row = history.session.get_one(DagModel, dag)
    row.next_dagrun_data_interval_start = row.next_dagrun_data_interval_end = row.next_dagrun_create_after = None
    history.session.commit()
    return dag


def test_an_export_has_ended_once_all_its_windows_are_delivered(history: History, watch: Watch) -> None:
    dag = ended(history)
    deliver(history, dag, 3, 2, 1, 0)
    watch(MIDNIGHT + 90 * DAY)
    row = row_of(history, dag, MIDNIGHT + 90 * DAY)
    assert (*lateness(row), row.lag_seconds, row.missing) == ("ended", None, 0, None, 0)


def test_the_last_window_of_all_is_late_until_it_is_delivered(history: History, watch: Watch) -> None:
    dag = ended(history)
    deliver(history, dag, 3, 2, 1)
    for now in (MORNING, MORNING + 90 * DAY):
        watch(now)
        assert lateness(row_of(history, dag, now)) == ("late", LATE + now - MORNING, 1)


def test_an_export_that_has_ended_says_which_windows_are_missing(history: History, watch: Watch) -> None:
    dag, known = ended(history), MissingWindows()
    deliver(history, dag, 2, 1, state="failed")
    deliver(history, dag, 3, 0)

    def row(now: datetime) -> ExportRow:
        watch(now)
        (found,) = at_a_glance(history.session, now, known).rows
        return found

    assert row(MORNING).state == "failed"
    found = row(MORNING + 9 * DAY)
    assert (found.state, found.missing, found.missing_start, found.missing_end) == (
        "incomplete",
        2,
        MIDNIGHT - 3 * DAY,
        MIDNIGHT - DAY,
    )
    start = MIDNIGHT - 3 * DAY
    history.run(dag, start, start + 2 * DAY, run_id="hand", run_type="manual", logical_date=None, began=MORNING)
    assert row(MORNING + 10 * DAY).state == "ended"


def test_an_export_that_ended_after_more_windows_than_a_calendar_shows_says_the_oldest(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipts of a few exports are in memory at a time, which changes no answer."""
    monkeypatch.setattr("data_export_airflow.metadata.missing._AT_ONCE", 1, raising=False)
    dags = history.exports("long", "longer", interval="hourly", start="2025-01-01", end_date="2026-03-01")
    first, last = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    for days, dag in enumerate(dags, 1):
        history.run(dag, first + days * DAY, last, run_id="hand", run_type="manual", logical_date=None, began=last)
    found = MissingWindows()(history.session, dags, last + 9 * DAY)
    assert [found[dag] for dag in dags] == [(24, first, first + DAY), (48, first, first + 2 * DAY)]


def test_windows_of_an_export_that_has_ended_count_though_nobody_asked_for_its_history(
    history: History, watch: Watch
) -> None:
    dag, now = ended(history), MORNING + 9 * DAY
    deliver(history, dag, 0)
    watch(now, now - DAY)
    row = row_of(history, dag, now)
    assert (row.state, row.missing, row.missing_start) == ("incomplete", 3, MIDNIGHT - 4 * DAY)


def test_a_broken_platform_file_takes_the_page_from_nobody(
    history: History, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag, now = ended(history), MORNING + 9 * DAY
    deliver(history, dag, 0)
    watch(now, now - DAY)
    (tmp_path / "platform.yaml").write_text("maintenance: {database_days: many}\n")
    monkeypatch.setenv("DATA_EXPORT_PLATFORM_FILE", str(tmp_path / "platform.yaml"))
    assert row_of(history, dag, now).missing == 3


def test_once_is_late_until_its_window_is_delivered(history: History, watch: Watch) -> None:
    dag = history.export("acme", interval="once", start="2026-02-01", end_date="2026-03-10")
    watch(MIDNIGHT + HOUR)
    assert lateness(row_of(history, dag, MIDNIGHT + HOUR)) == ("new", None, 0)
    now = MIDNIGHT + 9 * DAY + LATE
    watch(now)
    assert lateness(row_of(history, dag, now)) == ("late", 9 * DAY + HOUR, 1)
    history.run(dag, datetime(2026, 2, 1, tzinfo=UTC), MIDNIGHT, began=now)
    assert lateness(row_of(history, dag, now)) == ("delivered", None, 0)


@pytest.fixture
def statements(history: History) -> Iterator[list[str]]:
    """What is asked of the database."""
    said: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    engine = history.session.get_bind()
    event.listen(engine, "before_cursor_execute", note)
    yield said
    event.remove(engine, "before_cursor_execute", note)


def test_the_number_of_queries_does_not_grow_with_the_exports(history: History, statements: list[str]) -> None:
    counts = []
    for number in range(3):
        dag = history.export(f"late-{number}")
        deliver(history, dag, 3, 2)
        names = [name_of(row.dag_id) or "" for row in glance(history).rows]
        history.look(MORNING + number * MINUTE, {name: [due(1), due(0)] for name in names})
        statements.clear()
        assert sum(row.late_windows == 2 for row in glance(history).rows) == number + 1
        counts.append(len(statements))
    assert len({*counts}) == 1, counts
