"""What Airflow says to the watch of deliveries, through the API server that tasks ask, on Airflow's own tables."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from airflow.sdk.api.client import ServerResponseError
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse
from sqlalchemy import select

from data_export.config.load import load_named
from data_export.config.platform import load_platform
from data_export.window import ExportWindow
from data_export_airflow.metadata import task_runs
from data_export_airflow.metadata.missing import windows_delivered
from data_export_airflow.metadata.task_runs import TaskRuns, window_if_cleared
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


def test_the_states_of_windows_are_few_questions(
    history: History, runs: TaskRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag, asked = history.export("acme"), list[list[datetime]]()
    count = TaskRuns._count
    monkeypatch.setattr(TaskRuns, "_count", lambda *args: asked.append([*args[2]]) or count(*args))
    for day in range(3):
        history.run(dag, START + day * DAY, START + (day + 1) * DAY, "failed")
    windows = [days(day, day + 1) for day in range(5)]
    assert runs.states("acme", windows[:3]) == dict.fromkeys(windows[:3], "failed")
    assert runs.states("acme", windows[3:]) == dict.fromkeys(windows[3:], "none")
    assert len(asked) == 1 + 3
    history.run(dag, START + 3 * DAY, START + 4 * DAY, "running")
    assert [*runs.states("acme", windows).values()] == ["failed"] * 3 + ["running", "none"]


def test_many_windows_are_asked_about_in_addresses_of_bounded_length() -> None:
    asked: list[int] = []

    def count(_dag: str, logical_dates: list[datetime], states: list[str]) -> int:
        asked.append(len(logical_dates))
        return len(logical_dates) if states == ["failed"] else 0

    windows = [days(day, day + 1) for day in range(120)]
    assert {*TaskRuns(SimpleNamespace(get_dr_count=count)).states("acme", windows).values()} == {"failed"}
    assert asked == [50, 50, 20]


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


class Comms:
    """Says of an error what a task's supervisor says, which the one of tests raises as it is."""

    def __init__(self, comms: Any) -> None:
        self._comms = comms

    def send(self, msg: Any) -> Any:
        try:
            return self._comms.send(msg)
        except ServerResponseError as error:
            detail = {"status_code": error.response.status_code}
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail)) from None


BY_HAND: dict[str, Any] = {"run_type": "manual", "logical_date": None}


@pytest.mark.parametrize(
    ("interval", "kind", "same"),
    [
        ("daily", BY_HAND, True),
        ("weekly", BY_HAND, False),
        ("weekly", {}, True),
        ("daily", {"run_type": "backfill"}, False),
        ("weekly", BY_HAND | {"conf": {"from": START.isoformat(), "to": (START + DAY).isoformat()}}, True),
        ("daily", BY_HAND | {"conf": {"from": START.isoformat(), "to": (START + 2 * DAY).isoformat()}}, False),
    ],
)
def test_only_a_run_that_is_still_of_the_window_is_cleared_to_deliver_it_again(
    interval: str, kind: dict[str, Any], same: bool, history: History, runs: TaskRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(task_runner.SUPERVISOR_COMMS))
    dag = history.export("acme")
    run = history.run(dag, START, START + DAY, run_id="one", **kind)
    run.run_after += timedelta(hours=1)
    history.result(run, "close", "receipt", None, -1, "success")  # a run without tasks has nothing to clear
    history.write("acme", interval=interval)
    window_of = window_if_cleared("acme", load_named("acme"), load_platform())
    made = runs.run_again("acme", window_of, days(0, 1), dag, "one")
    assert made == ("one" if same else f"audit__{days(0, 1).stamp}")
    history.session.expire_all()
    queued = history.session.scalars(select(DagRun).where(DagRun.state == "queued")).one()
    assert queued.run_id == made
    assert same or queued.conf == {"from": START.isoformat(), "to": (START + DAY).isoformat()}
    assert runs.run_again("acme", window_of, days(0, 1), dag, "one") is None  # it is not over


@pytest.mark.parametrize("run_id", ["scheduled__", "one", f"audit__{days(0, 1).stamp}", "another"])
def test_which_runs_deliver_a_window_just_now(run_id: str, history: History, runs: TaskRuns) -> None:
    dag = history.export("acme")
    assert not runs.is_under_way("acme", days(0, 1), dag, "one")
    kind = BY_HAND if run_id != "scheduled__" else {}
    history.run(dag, START, START + DAY, "running", run_id=run_id, **kind)
    assert runs.is_under_way("acme", days(0, 1), dag, "one") is (run_id != "another")
    assert not runs.is_under_way("acme", days(1, 2), "", "")
