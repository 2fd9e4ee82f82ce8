"""Airflow's own backfill of an export, on Airflow's tables: what is refused, what runs again, in which order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.api_fastapi.core_api.routes.public.backfills import cancel_backfill
from airflow.models.backfill import (
    Backfill,
    BackfillDagRun,
    NoBackfillRunsToCreate,
    ReprocessBehavior,
    _create_backfill,
)
from airflow.models.dagrun import DagRun
from sqlalchemy import select

from tests.page.history import History

HOUR = timedelta(hours=1)
START = datetime(2025, 3, 16, tzinfo=UTC)


def backfill(dag: str, first: int, last: int, behavior: str = "none", **more: Any) -> Backfill:
    return _create_backfill(
        dag_id=dag,
        from_date=START + first * HOUR,
        to_date=START + last * HOUR,
        reprocess_behavior=ReprocessBehavior(behavior),
        **{"max_active_runs": 10, "reverse": False, "dag_run_conf": {}, "triggering_user_name": "admin"} | more,
    )


def hours(history: History, made: Backfill) -> list[int]:
    """Which windows it runs, in its own order, counted from the export's start."""
    rows = history.session.execute(
        select(DagRun.data_interval_start)
        .join(BackfillDagRun, BackfillDagRun.dag_run_id == DagRun.id)
        .where(BackfillDagRun.backfill_id == made.id)
        .order_by(BackfillDagRun.sort_ordinal)
    )
    return [int((start - START) / HOUR) for (start,) in rows]


@pytest.fixture
def hourly(history: History) -> str:
    return history.export("hours", "hourly", "2025-03-16", limits="{max_active_runs: 2}")


@pytest.mark.parametrize(("asked", "gets"), [(1, 1), (2, 2), (10, 2), (None, 2)])
def test_no_more_runs_at_once_than_the_limit(hourly: str, asked: int | None, gets: int) -> None:
    """Airflow's command line passes None unless told."""
    assert backfill(hourly, 0, 3, max_active_runs=asked).max_active_runs == gets


def test_a_window_before_start_date_is_refused_with_the_fix(history: History, hourly: str) -> None:
    with pytest.raises(NoBackfillRunsToCreate, match=r"at 2025-03-15T23:00:00\+00:00 .* start_date: begin .*-16T00"):
        backfill(hourly, -1, 2)
    assert history.session.scalar(select(Backfill.id)) is None
    assert history.session.scalar(select(DagRun.id)) is None


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"max_active_runs": -5}, "max_active_runs -5: .* ask for 1 or more"),
        ({"max_active_runs": 0}, "max_active_runs 0: .* ask for 1 or more"),
        (
            {"dag_run_conf": {"from": "2025-03-16T00:00:00Z", "to": "2025-03-18T00:00:00Z"}},
            "leave the parameters `from` and `to` empty",
        ),
    ],
)
def test_what_would_never_run_or_deliver_one_range_again_and_again_is_refused(
    history: History, hourly: str, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(NoBackfillRunsToCreate, match=words):
        backfill(hourly, 0, 2, **asked)
    assert history.session.scalar(select(Backfill.id)) is None


def test_the_forms_empty_range_is_none(history: History, hourly: str) -> None:
    assert hours(history, backfill(hourly, 0, 0, dag_run_conf={"from": None, "to": None})) == [0]


def test_a_day_given_in_utc_is_fine_where_the_zone_begins_it_later(history: History) -> None:
    """What a date picker says is 2025-03-16T00:00Z, and New York's first day begins four hours after that."""
    dag = history.export("york", "daily", "2025-03-16", timezone="America/New_York")
    assert hours(history, backfill(dag, 0, 24)) == [4]


@pytest.mark.parametrize(("reverse", "order"), [(False, [0, 1, 2]), (True, [2, 1, 0])])
def test_oldest_or_newest_first(history: History, hourly: str, reverse: bool, order: list[int]) -> None:
    assert hours(history, backfill(hourly, 0, 2, reverse=reverse)) == order


@pytest.mark.parametrize(("behavior", "again"), [("none", [2]), ("failed", [1, 2]), ("completed", [0, 1, 2])])
def test_what_runs_again(history: History, hourly: str, behavior: str, again: list[int]) -> None:
    for hour, state in enumerate(["success", "failed"]):
        history.run(hourly, START + hour * HOUR, START + (hour + 1) * HOUR, state)
    assert hours(history, backfill(hourly, 0, 2, behavior)) == again
    assert len(history.session.scalars(select(DagRun)).all()) == 3


def test_a_run_cleared_after_its_backfill_was_cancelled_waits_until_it_is_marked_failed(
    history: History, hourly: str
) -> None:
    """A fault of Airflow 3.3 and the way round it of docs/operate.md, which is out of date should this fail."""
    session, cancelled = history.session, backfill(hourly, 0, 2)
    cancel_backfill(cancelled.id, session)
    session.commit()
    runs = session.scalars(select(DagRun).order_by(DagRun.data_interval_start)).all()
    assert {run.state for run in runs} == {"failed"}
    runs[0].state = "queued"  # as "Clear run" does
    session.commit()
    assert DagRun.get_queued_dag_runs_to_set_running(session).all() == []
    runs[0].state = "failed"
    session.commit()
    assert hours(history, backfill(hourly, 0, 2, "failed")) == [0, 1, 2]
    session.expire_all()
    assert len(DagRun.get_queued_dag_runs_to_set_running(session).all()) == 3
