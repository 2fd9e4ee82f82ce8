"""Late, and ended with windows missing: the core's rule asked of Airflow's own tables, in a few queries."""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.cli.cli_parser import get_parser
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from fastapi.testclient import TestClient
from sqlalchemy import event, update

from data_export_airflow.metadata.late import LateExports
from data_export_airflow.metadata.overview import ExportRow, exports
from tests.page.conftest import token
from tests.page.history import History

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
MORNING = MIDNIGHT + 5 * HOUR
LATE = 3 * HOUR  # since two hours after midnight


def row_of(history: History, dag: str, now: datetime = MORNING, known: LateExports | None = None) -> ExportRow:
    return next(row for row in exports(history.session, now, known or LateExports()) if row.dag_id == dag)


def lateness(row: ExportRow) -> tuple[str, timedelta | None, int]:
    return row.state, None if row.late_seconds is None else timedelta(seconds=row.late_seconds), row.late_windows


def deliver(history: History, dag: str, *back: int, **more: Any) -> None:
    """The windows of days that ended so many days before the last midnight."""
    for days in sorted(back, reverse=True):
        history.run(dag, MIDNIGHT - (days + 1) * DAY, MIDNIGHT - days * DAY, **more)


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
        ((5, 3, 2, 1, 0), ("delivered", None, 0)),  # whose three days are over
        ((9, 8, 7, 0), ("late", LATE + 6 * DAY, 6)),  # after an outage
    ],
)
def test_a_window_that_never_ran_is_late_also_in_the_middle(
    history: History, daily: str, delivered: tuple[int, ...], expected: tuple[str, timedelta | None, int]
) -> None:
    deliver(history, daily, *delivered)
    assert lateness(row_of(history, daily)) == expected


def test_a_window_whose_run_failed_in_the_middle_is_failed_and_not_late(history: History, daily: str) -> None:
    deliver(history, daily, 3, 2, 0)
    deliver(history, daily, 1, state="failed")
    assert lateness(row_of(history, daily)) == ("failed", LATE + DAY, 1)


def test_of_a_failed_and_a_missing_window_the_missing_one_counts_which_nobody_was_told_of(
    history: History, daily: str
) -> None:
    deliver(history, daily, 3, 0)
    deliver(history, daily, 2, state="failed")
    assert lateness(row_of(history, daily)) == ("late", LATE + 2 * DAY, 2)


def test_a_run_under_way_for_too_long_is_late_and_one_that_runs_again_is_not(history: History, daily: str) -> None:
    deliver(history, daily, 3, 2, 1)
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running")
    assert lateness(row_of(history, daily)) == ("late", LATE, 1)
    assert lateness(row_of(history, daily, MIDNIGHT + HOUR)) == ("running", None, 0)
    run.state, run.end_date = "success", MIDNIGHT + HOUR
    history.deliver(run, MIDNIGHT - DAY, MIDNIGHT)
    run.state, run.start_date = "running", MIDNIGHT + 4 * HOUR  # somebody cleared it
    history.session.commit()
    assert lateness(row_of(history, daily)) == ("running", None, 0)


def test_a_run_that_was_marked_as_successful_has_delivered_nothing(history: History, daily: str) -> None:
    deliver(history, daily, 3, 2, 1)
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running")
    run.state, run.end_date = "success", MORNING
    history.session.commit()
    assert lateness(row_of(history, daily)) == ("late", LATE, 1)


@pytest.mark.parametrize("logical_date", [MORNING, None])
def test_a_range_by_hand_delivers_the_windows_that_it_holds(
    history: History, daily: str, logical_date: datetime | None
) -> None:
    deliver(history, daily, 4, 3, 0)
    start, end = MIDNIGHT - 3 * DAY, MIDNIGHT - DAY
    conf = {"from": start.isoformat(), "to": end.isoformat()} if logical_date else {}
    more = {"run_id": "hand", "run_type": "manual", "logical_date": logical_date, "conf": conf, "began": MORNING}
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running", **more)
    assert row_of(history, daily).late_windows == 2
    run.state, run.end_date = "success", MORNING
    history.deliver(run, start, end)
    assert lateness(row_of(history, daily)) == ("delivered", None, 0)


@pytest.mark.parametrize(("hours", "late"), [("0.5", 4.5), ("4", 1), ("24", None)])
def test_a_customer_file_may_say_when_it_is_late(history: History, hours: str, late: float | None) -> None:
    dag = history.export("acme", limits=f"{{late_after_hours: {hours}}}")
    history.next_window(dag, MIDNIGHT, MIDNIGHT + DAY)
    deliver(history, dag, 2, 1)
    assert row_of(history, dag).late_seconds == (late and late * 3600)


def test_a_window_that_waits_for_late_commits_has_its_time_from_then_on(history: History) -> None:
    dag = history.export("acme", limits="{settle_minutes: 180}")
    history.next_window(dag, MIDNIGHT, MIDNIGHT + DAY)
    for end in (MIDNIGHT - 2 * DAY, MIDNIGHT - DAY):
        history.run(dag, end - DAY, end, began=end + 3 * HOUR)
    assert lateness(row_of(history, dag, MORNING - MINUTE)) == ("delivered", None, 0)
    assert lateness(row_of(history, dag, MORNING)) == ("late", timedelta(0), 1)


def test_windows_of_different_lengths_have_their_own_times(history: History) -> None:
    dag = history.export("acme", interval="0 6 * * 1-5")
    friday = datetime(2026, 3, 6, 6, tzinfo=UTC)
    history.run(dag, friday - DAY, friday)
    history.next_window(dag, friday + 3 * DAY, friday + 4 * DAY)
    assert row_of(history, dag, friday + 3 * DAY + 2 * HOUR - MINUTE).late_seconds is None
    assert row_of(history, dag, friday + 3 * DAY + 3 * HOUR).late_seconds == 3600


def test_a_new_export_has_its_time_from_the_first_run_on(history: History, daily: str) -> None:
    afternoon = MIDNIGHT + 14 * HOUR  # its first window ended long before somebody added it
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running", began=afternoon)
    assert lateness(row_of(history, daily, afternoon + 2 * HOUR - MINUTE)) == ("running", None, 0)
    assert lateness(row_of(history, daily, afternoon + 3 * HOUR)) == ("late", HOUR, 1)


def test_a_new_export_without_a_run_has_its_time_from_when_it_was_first_seen(history: History, daily: str) -> None:
    history.session.execute(update(DagVersion).values(created_at=MIDNIGHT + HOUR))
    history.session.commit()
    assert lateness(row_of(history, daily, MIDNIGHT + 3 * HOUR - MINUTE)) == ("new", None, 0)
    assert lateness(row_of(history, daily, MIDNIGHT + 3 * HOUR)) == ("late", timedelta(0), 1)


def test_a_backfill_of_history_makes_nothing_late_that_is_older_than_the_first_run(
    history: History, daily: str
) -> None:
    deliver(history, daily, 1, 0)
    history.run(daily, MIDNIGHT - 9 * DAY, MIDNIGHT - 8 * DAY, run_type="backfill", began=MORNING)
    assert lateness(row_of(history, daily)) == ("delivered", None, 0)


def test_a_paused_export_is_never_late(history: History, daily: str) -> None:
    deliver(history, daily, 9)
    history.session.get_one(DagModel, daily).is_paused = True
    history.session.commit()
    assert lateness(row_of(history, daily)) == ("paused", None, 0)


@pytest.mark.parametrize("by", ["the UI", "the command line"])
def test_what_was_skipped_while_it_was_paused_is_not_late(airflow: Any, history: History, by: str) -> None:
    """Airflow runs the last window when it is switched on again; when that was, its audit log tells."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    dag, now = history.export("acme"), datetime.now(UTC)
    history.next_window(dag, midnight, midnight + DAY)
    for back in (6, 5, 0):
        history.run(dag, midnight - (back + 1) * DAY, midnight - back * DAY)
    assert row_of(history, dag, now).state == "late"
    if by == "the UI":
        client = TestClient(airflow, headers={"Authorization": f"Bearer {token('admin')}"})
        for paused in (True, False):
            client.patch(f"/api/v2/dags/{dag}", json={"is_paused": paused}).raise_for_status()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that there is no graphviz, which nobody needs here
            for command in ("pause", "unpause"):
                options = get_parser().parse_args(["dags", command, dag, "--yes"])
                options.func(options)
    history.session.expire_all()
    assert lateness(row_of(history, dag, now + MINUTE)) == ("delivered", None, 0)


def ended(history: History, name: str = "acme", **more: str) -> str:
    """Whose four days end at the last midnight."""
    dag = history.export(name, start="2026-03-06", end_date="2026-03-10", **more)
    row = history.session.get_one(DagModel, dag)
    row.next_dagrun_data_interval_start = row.next_dagrun_data_interval_end = row.next_dagrun_create_after = None
    history.session.commit()
    return dag


def test_an_export_has_ended_once_all_its_windows_are_delivered(history: History) -> None:
    dag = ended(history)
    deliver(history, dag, 3, 2, 1, 0)
    row = row_of(history, dag, MIDNIGHT + 90 * DAY)
    assert (*lateness(row), row.lag_seconds, row.lacks) == ("ended", None, 0, None, 0)


def test_the_last_window_of_all_is_late_until_it_is_delivered(history: History) -> None:
    dag = ended(history)
    deliver(history, dag, 3, 2, 1)
    assert lateness(row_of(history, dag)) == ("late", LATE, 1)
    assert lateness(row_of(history, dag, MORNING + 90 * DAY)) == ("late", LATE + 90 * DAY, 1)


def test_an_export_that_has_ended_says_which_windows_it_lacks(history: History) -> None:
    dag, known = ended(history), LateExports()
    deliver(history, dag, 2, 1, state="failed")
    deliver(history, dag, 3, 0)
    assert row_of(history, dag, MORNING, known).state == "failed"
    row = row_of(history, dag, MORNING + 9 * DAY, known)
    assert (row.state, row.lacks, row.lacks_start, row.lacks_end) == (
        "incomplete",
        2,
        MIDNIGHT - 3 * DAY,
        MIDNIGHT - DAY,
    )
    start = MIDNIGHT - 3 * DAY
    history.run(dag, start, start + 2 * DAY, run_id="hand", run_type="manual", logical_date=None, began=MORNING)
    assert row_of(history, dag, MORNING + 9 * DAY, known).state == "ended"


def test_windows_of_an_export_that_has_ended_count_though_nobody_asked_for_its_history(history: History) -> None:
    dag = ended(history)
    deliver(history, dag, 0)
    row = row_of(history, dag, MORNING + 9 * DAY)
    assert (row.state, row.lacks, row.lacks_start) == ("incomplete", 3, MIDNIGHT - 4 * DAY)


def test_once_is_late_until_its_window_is_delivered(history: History) -> None:
    dag = history.export("acme", interval="once", start="2026-02-01", end_date="2026-03-10")
    history.session.execute(update(DagVersion).values(created_at=MIDNIGHT - DAY))
    history.session.commit()
    assert lateness(row_of(history, dag, MIDNIGHT + HOUR)) == ("new", None, 0)
    assert lateness(row_of(history, dag, MIDNIGHT + 9 * DAY + LATE)) == ("late", 9 * DAY + HOUR, 1)
    history.run(dag, datetime(2026, 2, 1, tzinfo=UTC), MIDNIGHT)
    assert lateness(row_of(history, dag, MIDNIGHT + 9 * DAY)) == ("delivered", None, 0)


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
        history.next_window(dag, MIDNIGHT, MIDNIGHT + DAY)
        deliver(history, dag, 3, 2)
        known = LateExports()
        exports(history.session, MORNING, known)  # reads the timetables
        statements.clear()
        assert sum(row.late_windows == 2 for row in exports(history.session, MORNING, known)) == number + 1
        counts.append(len(statements))
    assert max(counts) - min(counts) <= 3  # the beginning of a time is found among events by halving
