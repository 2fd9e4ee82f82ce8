"""Every export at a glance: states and lag, from Airflow's own tables."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import select, update

from data_export_airflow.metadata import late, overview
from data_export_airflow.metadata.missing import MissingWindows
from data_export_airflow.metadata.overview import ExportRow, at_a_glance, standing
from data_export_airflow.metadata.receipts import Receipts
from tests.page.history import History
from tests.page.shown import shown as page_of

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
NOW = MIDNIGHT + HOUR


def row_of(history: History, dag: str, now: datetime = NOW) -> ExportRow:
    """Where the watch has just found nothing late."""
    history.look(now, logical_date=None)
    return next(row for row in at_a_glance(history.session, now, MissingWindows()).rows if row.dag_id == dag)


@pytest.fixture
def daily(history: History) -> str:
    """Whose schedule goes on: the next window is today's."""
    dag = history.export("acme")
    history.next_window(dag, MIDNIGHT, MIDNIGHT + DAY)
    return dag


def test_what_the_customer_file_says_is_shown(history: History) -> None:
    row = row_of(history, history.export("acme", interval="0 6 * * 1"))
    assert (row.name, row.connector, row.interval) == ("acme", "gs", "0 6 * * 1")
    assert row.export_type == "work-orders-timeline"


def test_an_export_that_never_ran_is_new(history: History, daily: str) -> None:
    row = row_of(history, daily)
    assert (row.state, row.lag_seconds, row.late_seconds, row.delivered_end) == ("new", None, None, None)


def test_a_delivered_export_is_on_time(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT)
    row = row_of(history, daily)
    assert (row.state, row.lag_seconds, row.delivered_start, row.delivered_end) == (
        "delivered",
        3600,
        MIDNIGHT - DAY,
        MIDNIGHT,
    )
    assert row.next_run == MIDNIGHT + DAY + timedelta(minutes=5)


def test_last_means_by_window_so_that_a_backfill_of_the_past_changes_nothing(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT)
    history.run(daily, MIDNIGHT - 90 * DAY, MIDNIGHT - 89 * DAY, "failed", run_type="backfill", began=NOW)
    row = row_of(history, daily)
    assert (row.state, row.delivered_end, row.failed) == ("delivered", MIDNIGHT, 1)


def test_a_range_by_hand_tells_nothing_of_the_schedule(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT)
    conf = {"from": "2025-12-01T00:00:00+00:00", "to": "2026-01-01T00:00:00+00:00"}
    history.run(
        daily, MIDNIGHT - DAY, MIDNIGHT, "failed", run_id="manual", run_type="manual", logical_date=NOW, conf=conf
    )
    assert row_of(history, daily).state == "delivered"


def _by_hand(history: History, dag: str, start: datetime, end: datetime, state: str = "success", **more: Any) -> None:
    conf = {"from": start.isoformat(), "to": end.isoformat()}
    options = {"run_id": "hand", "run_type": "manual", "logical_date": None, "conf": conf, "began": NOW}
    history.run(dag, start, end, state, **options | more)


@pytest.mark.parametrize("logical_date", [None, NOW])
@pytest.mark.parametrize(("state", "shown"), [("success", "delivered"), ("failed", "failed"), ("running", "running")])
def test_a_range_by_hand_counts_by_the_windows_it_holds(
    history: History, daily: str, state: str, shown: str, logical_date: datetime | None
) -> None:
    history.run(daily, MIDNIGHT - 9 * DAY, MIDNIGHT - 8 * DAY)
    _by_hand(history, daily, MIDNIGHT - 4 * DAY, MIDNIGHT, state, logical_date=logical_date)
    row = row_of(history, daily)
    assert row.state == shown
    assert row.lag_seconds == (3600 if state == "success" else 8 * 86_400 + 3600)


def test_an_export_that_was_only_run_by_hand_is_not_new(history: History, daily: str) -> None:
    _by_hand(history, daily, MIDNIGHT - 4 * DAY, MIDNIGHT - DAY)
    row = row_of(history, daily)
    assert (row.state, row.delivered_end) == ("delivered", MIDNIGHT - DAY)


FAR = ("9999-12-31T23:59:59+00:00", "2027-01-01T00:00:00+00:00")


@pytest.mark.parametrize("end", FAR)
@pytest.mark.parametrize("logical_date", [None, NOW])
def test_a_range_that_is_not_over_tells_nothing_of_the_schedule(
    history: History, daily: str, end: str, logical_date: datetime | None
) -> None:
    """Its run refuses it; "for ever" is a date that no timetable goes on from."""
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT)
    options = {"conf": {"from": "2025-12-01T00:00:00+00:00", "to": end}, "logical_date": logical_date}
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "failed", run_id="manual", run_type="manual", **options)
    assert row_of(history, daily).state == "delivered"
    assert page_of(history, daily, NOW)["states"]["delivered"] == 1


@pytest.mark.parametrize(("began", "shown", "lag"), [(-HOUR, "delivered", 4), (HOUR, "failed", 4)])
def test_a_range_that_was_not_over_when_its_run_began_was_refused(
    history: History, daily: str, began: timedelta, shown: str, lag: int
) -> None:
    """It is over by now; cleared since, the run begins anew and may fail for another reason."""
    history.run(daily, MIDNIGHT - 5 * DAY, MIDNIGHT - 4 * DAY)
    _by_hand(history, daily, MIDNIGHT - 4 * DAY, MIDNIGHT - DAY, "failed", began=MIDNIGHT - DAY + began)
    row = row_of(history, daily)
    assert (row.state, row.lag_seconds) == (shown, lag * 86_400 + 3600)


def test_a_run_that_is_to_begin_at_the_end_of_the_calendar_tells_nothing(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT)
    run = history.run(daily, MIDNIGHT, MIDNIGHT, "queued", run_id="manual", run_type="manual", logical_date=None)
    run.run_after = datetime(9999, 12, 31, 23, tzinfo=UTC)
    history.session.commit()
    assert row_of(history, daily).delivered_end == MIDNIGHT
    assert page_of(history, daily, NOW)["states"]["delivered"] == 1


@pytest.mark.parametrize("before", ["success", "failed"])
def test_what_was_delivered_by_hand_stays_so_whatever_the_schedule_does_after_it(
    history: History, daily: str, before: str
) -> None:
    """Triggered in the form, with a logical date; then the next two windows of the schedule do not come."""
    history.run(daily, MIDNIGHT - 4 * DAY, MIDNIGHT - 3 * DAY, before)
    history.run(daily, MIDNIGHT - 3 * DAY, MIDNIGHT - 2 * DAY, "failed")
    at, options = MIDNIGHT - 2 * DAY + 10 * HOUR, {"run_id": "manual", "run_type": "manual", "conf": {}}
    history.run(daily, MIDNIGHT - 3 * DAY, MIDNIGHT - 2 * DAY, logical_date=at, **options)
    history.run(daily, MIDNIGHT - 2 * DAY, MIDNIGHT - DAY, "failed")
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "failed")
    assert row_of(history, daily).delivered_end == MIDNIGHT - 2 * DAY


def test_of_a_part_of_a_window_the_schedule_learns_nothing(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - 9 * DAY, MIDNIGHT - 8 * DAY)
    _by_hand(history, daily, MIDNIGHT - 2 * HOUR, MIDNIGHT, "failed")
    assert row_of(history, daily).state == "delivered"


def test_a_failed_range_takes_back_nothing(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT)
    _by_hand(history, daily, MIDNIGHT - 4 * DAY, MIDNIGHT, "failed")
    assert row_of(history, daily).state == "delivered"


def test_a_trigger_without_from_and_to_counts_as_its_window(history: History, daily: str) -> None:
    conf = {"from": None, "to": None}
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT, run_id="manual", run_type="manual", logical_date=NOW, conf=conf)
    assert row_of(history, daily).delivered_end == MIDNIGHT


@pytest.mark.parametrize("state", ["success", "failed"])
@pytest.mark.parametrize("logical_date", [None, datetime(2025, 11, 10, 9, tzinfo=UTC)])
def test_a_repeat_by_hand_hides_no_newer_run_of_the_schedule(
    history: History, logical_date: datetime | None, state: str
) -> None:
    """October again on 10 November, and November's own run, whose logical date is the 1st."""
    october, november, december = (datetime(2025, month, 1, tzinfo=UTC) for month in (10, 11, 12))
    dag = history.export("months", "monthly", start="2025-09-01")
    history.run(dag, october, november)
    history.run(dag, october, november, run_id="hand", run_type="manual", logical_date=logical_date)
    history.run(dag, november, december, state)
    row = row_of(history, dag, december + DAY)
    assert (row.last_window_start, row.last_run_state) == (november, state)
    assert row.delivered_end == (december if state == "success" else november)


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_trigger_without_a_date_counts_as_the_last_complete_window(history: History, daily: str, state: str) -> None:
    """As by REST with null: it has no interval."""
    history.run(daily, MIDNIGHT - 3 * DAY, MIDNIGHT - 2 * DAY)
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, state, run_id="hand", run_type="manual", logical_date=None)
    run.run_after = MIDNIGHT + HOUR
    history.session.commit()
    row = row_of(history, daily)
    assert (row.last_run_id, row.last_run_state, row.last_window_start) == ("hand", state, MIDNIGHT - DAY)
    assert row.delivered_end == (MIDNIGHT if state == "success" else MIDNIGHT - 2 * DAY)


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_trigger_without_a_date_of_an_export_that_is_off_counts(history: History, state: str) -> None:
    """Its DAG has no schedule, of which the run would be a window."""
    dag = history.export("off", enabled="false")
    history.run(dag, MIDNIGHT - DAY, MIDNIGHT, state, run_id="hand", run_type="manual", logical_date=None)
    row = row_of(history, dag)
    assert (row.last_run_id, row.last_run_state, row.delivered_run_id) == (
        "hand",
        state,
        "hand" if state == "success" else None,
    )


def test_of_a_thousand_triggers_by_hand_the_schedule_is_asked_about_the_newest(
    history: History, daily: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        end = MIDNIGHT - number * DAY
        history.run(daily, end - DAY, end, run_id=f"hand-{number}", run_type="manual", logical_date=None)
    asked, as_window = list[str](), overview._as_window
    monkeypatch.setattr(
        overview, "_as_window", lambda run, schedule: asked.append(run.run_id) or as_window(run, schedule)
    )
    assert row_of(history, daily).delivered_run_id == "hand-0"
    assert asked == ["hand-0"]


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_run_under_way_is_running(history: History, daily: str, state: str) -> None:
    history.run(daily, MIDNIGHT - 2 * DAY, MIDNIGHT - DAY)
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT, state)
    row = row_of(history, daily)
    assert (row.state, row.active, row.late_seconds) == ("running", 1, None)


def test_the_newest_run_failed(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - 2 * DAY, MIDNIGHT - DAY)
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "failed")
    row = row_of(history, daily)
    assert (row.state, row.failed, row.delivered_end) == ("failed", 1, MIDNIGHT - DAY)


def test_a_paused_export_is_never_late(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - 9 * DAY, MIDNIGHT - 8 * DAY)
    history.session.get_one(DagModel, daily).is_paused = True
    history.session.commit()
    row = row_of(history, daily)
    assert (row.state, row.late_seconds, row.next_run) == ("paused", None, None)


def test_once_has_no_lag(history: History) -> None:
    dag = history.export("acme", interval="once", start="2025-01-01", end_date="2025-07-01")
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)
    row = history.session.get_one(DagModel, dag)
    row.next_dagrun_data_interval_start = row.next_dagrun_data_interval_end = row.next_dagrun_create_after = None
    history.run(dag, start, end)
    shown = row_of(history, dag)
    assert (shown.state, shown.interval, shown.lag_seconds, shown.delivered_end) == ("delivered", "once", None, end)


def test_an_export_that_is_off(history: History) -> None:
    dag = history.export("acme", enabled="false")
    assert row_of(history, dag).state == "off"
    history.session.get_one(DagModel, dag).is_paused = True  # as it is from its first day on: that is not the reason
    history.session.commit()
    assert row_of(history, dag).state == "off"


def test_a_broken_file_keeps_its_place_and_history(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT)
    (history.customers / "acme.yaml").write_text("site_id: [nonsense]\n")
    history.parse()
    row = row_of(history, daily)
    assert (row.state, row.delivered_end) == ("broken", MIDNIGHT)


def test_a_broken_file_keeps_its_receipts(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - DAY, MIDNIGHT, orders=5)
    (history.customers / "acme.yaml").write_text("site_id: [nonsense]\n")
    history.parse()
    (key,) = [
        row.delivered_key for row in at_a_glance(history.session, NOW, MissingWindows()).rows if row.delivered_key
    ]
    (delivery,) = Receipts()(history.session, [key]).values()
    assert delivery is not None
    assert delivery.totals is not None
    assert delivery.totals["work_orders"] == 5


def test_other_dags_are_none_of_ours(history: History, daily: str) -> None:
    assert [row.dag_id for row in at_a_glance(history.session, NOW, MissingWindows()).rows] == [daily]
    assert history.session.get(DagModel, "data_export_check") is not None


def test_a_task_that_is_tried_again_says_what_it_met_and_when_it_goes_on(history: History, daily: str) -> None:
    history.run(daily, MIDNIGHT - 2 * DAY, MIDNIGHT - DAY)
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running")
    history.retry(run, "deliver", "TargetUnavailable: sftp.acme.example:22: refused", 3, 90, NOW)
    row = row_of(history, daily)
    assert row.state == "retrying"
    assert row.retry is not None
    assert (row.retry.error, row.retry.message) == ("TargetUnavailable", "sftp.acme.example:22: refused")
    assert (row.retry.number, row.retry.tries, row.retry.at) == (4, 9, NOW + timedelta(seconds=90))
    words = "deliver: TargetUnavailable: sftp.acme.example:22: refused (try 4 of 9 at 2026-03-10 01:01:30 UTC)"
    (shown,) = standing(history.session, [row], {})
    assert (shown["state"], shown["reason"]) == ("retrying", words)
    (window,) = [window for window in page_of(history, daily, NOW)["windows"] if window["run_id"] == run.run_id]
    assert (window["state"], window["reason"]) == ("retrying", words)


def test_of_a_run_whose_sites_are_all_tried_again_one_is_read(
    history: History, daily: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one with the most tries behind it."""
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running")
    history.retry(run, "deliver", "TargetUnavailable: refused", 3, 90, NOW)
    for site, number in ((1, 5), (2, 2)):
        history.result(run, "deliver", "failure", None, map_index=site, state="up_for_retry")
        which = (TaskInstance.run_id == run.run_id, TaskInstance.map_index == site)
        tried = {"try_number": number, "max_tries": 8, "retry_reason": f"TargetUnavailable: site {site}"}
        history.session.execute(update(TaskInstance).where(*which).values(tried))
    history.session.commit()
    read: list[Any] = []
    made = late._retry
    monkeypatch.setattr(late, "_retry", lambda row: read.append(row) or made(row))
    (found,) = late.retries(history.session).values()
    assert (found.number, found.message, len(read)) == (6, "site 1", 1)


def test_of_two_sites_at_the_same_try_the_one_that_has_failed_it_is_told_of(history: History, daily: str) -> None:
    """And of two runs the one with such a site."""
    runs = [history.run(daily, MIDNIGHT - day * DAY, MIDNIGHT - (day - 1) * DAY, "running") for day in (2, 1)]
    history.retry(runs[0], "deliver", "TargetUnavailable: site 0", 1, 90, NOW)
    ti = history.session.scalars(select(TaskInstance)).one()
    ti.prepare_db_for_next_try(history.session)
    ti.state, ti.try_number, ti.retry_reason, ti.retry_delay_override = "running", 2, None, None
    history.session.commit()
    for run, site in ((runs[0], 1), (runs[1], 0)):
        history.result(run, "deliver", "failure", None, map_index=site, state="up_for_retry")
        which = (TaskInstance.run_id == run.run_id, TaskInstance.map_index == site)
        tried = {"try_number": 2 - (run is runs[1]), "max_tries": 8, "retry_reason": f"TargetUnavailable: site {site}"}
        history.session.execute(update(TaskInstance).where(*which).values(tried))
    history.session.commit()
    found = [(retry.run_id, retry.message, retry.number) for retry in late.retries(history.session).values()]
    assert found == [(runs[1].run_id, "site 0", 2), (runs[0].run_id, "site 1", 3)]
    retry = row_of(history, daily).retry
    assert (retry and retry.run_id) == runs[0].run_id


def test_a_reason_that_somebody_edited_breaks_nothing(history: History, daily: str) -> None:
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running")
    history.retry(run, "deliver", None, 3, 90, NOW)
    row = XComModel(
        dag_run_id=run.id, task_id="deliver", map_index=0, key="failure", dag_id=daily, run_id=run.run_id, value="odd",
        timestamp=NOW,
    )  # fmt: skip
    history.session.add(row)
    history.session.commit()
    retry = row_of(history, daily).retry
    assert retry is not None
    assert (retry.error, retry.message) == ("Unknown", "see the task's log")


def test_it_stays_so_while_the_next_try_is_under_way(history: History, daily: str) -> None:
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running")
    history.retry(run, "deliver", "TargetUnavailable: refused", 3, 90, NOW)
    ti = history.session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id)).one()
    ti.prepare_db_for_next_try(history.session)
    ti.state, ti.try_number, ti.retry_reason, ti.retry_delay_override = "running", 4, None, None
    history.session.commit()
    retry = row_of(history, daily).retry
    assert retry is not None
    assert (retry.error, retry.number, retry.at) == ("TargetUnavailable", 4, None)


def test_a_task_that_was_cleared_is_not_retried(history: History, daily: str) -> None:
    run = history.run(daily, MIDNIGHT - DAY, MIDNIGHT, "running")
    history.retry(run, "deliver", None, 3, 90, NOW)
    ti = history.session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id)).one()
    ti.prepare_db_for_next_try(history.session)
    ti.state, ti.try_number, ti.retry_reason, ti.retry_delay_override = "running", 4, None, None
    history.session.commit()
    assert row_of(history, daily).state == "running"
