"""What Airflow says to the watch of deliveries, through the API server that tasks ask, on Airflow's own tables."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from data_export.window import ExportWindow
from data_export_airflow.metadata import task_runs
from data_export_airflow.metadata.missing import windows_delivered
from data_export_airflow.metadata.task_runs import TaskRuns
from tests.page.history import History

DAY = timedelta(days=1)
START = datetime(2025, 3, 17, tzinfo=UTC)  # a Monday


def days(first: int, last: int) -> ExportWindow:
    return ExportWindow(START + first * DAY, START + last * DAY)


def test_a_window_is_delivered_by_its_own_run_or_by_a_range_that_holds_it(history: History, runs: TaskRuns) -> None:
    dag = history.export("acme")
    history.run(dag, START, START + DAY)
    history.run(dag, START + DAY, START + 3 * DAY, run_id="range", run_type="manual", logical_date=None)
    asked = [days(day, day + 1) for day in range(4)]
    assert runs.delivered("acme", asked) == {*asked[:3]}
    assert [len(runs.delivered("acme", [window])) for window in asked] == [1, 1, 1, 0]


@pytest.mark.parametrize("window", ["2025-03-17", {}, {"start": "never"}, None, days(0, 1).to_dict()])
def test_an_event_that_somebody_made_by_hand_delivers_nothing_and_stops_nobody(
    history: History, runs: TaskRuns, window: Any
) -> None:
    dag = history.export("acme")
    event = history.deliver(history.run(dag, START + DAY, START + 2 * DAY), START, START + DAY)
    event.extra, event.source_dag_id, event.source_run_id = {"window": window}, None, None
    history.session.commit()
    assert runs.delivered("acme", [days(0, 1), days(1, 2)]) == {days(1, 2)}
    assert windows_delivered(history.session, [dag]) == {dag: [days(1, 2)]}
    last = runs.last_delivery("acme")
    assert last is not None
    assert last.sites


def test_a_run_that_begins_with_it_and_ends_before_it_is_not_its_own(history: History, runs: TaskRuns) -> None:
    """Daily became weekly: Airflow has a run of that logical date, of Monday alone."""
    dag = history.export("acme")
    history.run(dag, START, START + DAY, began=START + 8 * DAY)
    assert not runs.delivered("acme", [days(0, 7)])


def test_among_many_deliveries_it_is_found_wherever_it_is(
    history: History, runs: TaskRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a backfill, say, of which the next one's are more than Airflow is asked for at once."""
    monkeypatch.setattr(task_runs, "_EVENTS", 2)
    dag = history.export("acme")
    for day in range(6):
        history.run(dag, START - day * DAY, START - (day - 1) * DAY, began=START + 2 * DAY + timedelta(hours=day))
    asked = [days(-day, 1 - day) for day in range(7)]
    assert runs.delivered("acme", asked) == {*asked[:6]}
    assert [len(runs.delivered("acme", [window])) for window in asked] == [1] * 6 + [0]
