"""One export's calendar: which windows there are, what became of each, and where they stand."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.models.dagrun import DagRun

from data_export.window import ExportWindow
from data_export_airflow.metadata.receipts import Receipts, deliveries_of
from data_export_airflow.metadata.windows import schedule, windows
from tests.page.history import History
from tests.page.shown import DAY, HOUR, NOW, START, shown, states


@pytest.fixture
def daily(history: History) -> str:
    return history.export("acme", start="2026-03-01")


def test_every_window_has_its_state(history: History, daily: str) -> None:
    for day, state in ((1, "success"), (2, "failed"), (4, "success"), (5, "success"), (6, "running"), (7, "queued")):
        start = START + (day - 1) * DAY
        history.run(daily, start, start + DAY, state, orders=0 if day == 5 else 7)
    found = shown(history, daily)
    assert states(found) == {
        "2026-03-01": "delivered",
        "2026-03-02": "failed",
        "2026-03-03": "missing",
        "2026-03-04": "delivered",
        "2026-03-05": "empty",
        "2026-03-06": "running",
        "2026-03-07": "queued",
        "2026-03-08": "missing",
        "2026-03-09": "missing",
        "2026-03-10": "open",
    }
    counts = {"delivered": 2, "failed": 1, "missing": 3, "empty": 1, "running": 1, "queued": 1, "open": 1}
    assert found["states"] == counts
    assert found["totals"]["work_orders"] == 14


def test_of_a_kept_file_that_cannot_be_read_no_number_is_shown(history: History, daily: str) -> None:
    """Neither that its window is empty, nor that a window holds so many records on average."""
    history.run(daily, START, START + DAY, sums={"work_orders": None, "outcome": "kept"})
    found = shown(history, daily)
    assert states(found)["2026-03-01"] == "delivered"
    assert (found["files"]["sites"][0]["work_orders"], found["sample"]) == (None, None)
    assert "work_orders" not in found["totals"]
    history.run(daily, START + DAY, START + 2 * DAY)
    found = shown(history, daily)
    assert ("work_orders" in found["totals"], found["sample"]["work_orders"]) == (False, 7)


def test_before_the_first_run_nothing_is_missing(history: History, daily: str) -> None:
    history.run(daily, START + 7 * DAY, START + 8 * DAY)
    found = states(shown(history, daily))
    assert [found[f"2026-03-{day:02}"] for day in (1, 7, 8, 9)] == ["past", "past", "delivered", "missing"]


def test_a_window_that_settles_is_not_due(history: History, daily: str) -> None:
    now = datetime(2026, 3, 10, 0, 4, tzinfo=UTC)  # the 9th ended four minutes ago
    assert states(shown(history, daily, now))["2026-03-09"] == "open"
    assert states(shown(history, daily, now + timedelta(minutes=2)))["2026-03-09"] != "open"


def test_the_calendar_begins_with_the_export(history: History, daily: str) -> None:
    assert shown(history, daily)["rows"] == ["2026-03"]
    assert shown(history, daily, datetime(2026, 5, 10, tzinfo=UTC))["rows"] == ["2026-05", "2026-04", "2026-03"]
    assert shown(history, daily)["older"] is None


def test_a_backfill_of_windows_before_the_start_is_shown(history: History, daily: str) -> None:
    history.run(daily, START - 20 * DAY, START - 19 * DAY, run_type="backfill", began=NOW)
    found = shown(history, daily)
    assert found["rows"] == ["2026-03", "2026-02"]
    assert states(found)["2026-02-09"] == "delivered"


def test_years_of_windows_come_a_period_at_a_time(history: History) -> None:
    dag = history.export("old", start="2023-01-01")
    newest = shown(history, dag)
    assert (len(newest["rows"]), newest["rows"][0], newest["newer"]) == (12, "2026-03", None)
    older = shown(history, dag, before=newest["older"])
    assert (older["rows"][0], older["rows"][-1]) == ("2025-03", "2024-04")
    assert shown(history, dag, before=older["newer"])["rows"] == newest["rows"]
    oldest = shown(history, dag, before=shown(history, dag, before=older["older"])["older"])
    assert (oldest["rows"][-1], oldest["older"]) == ("2023-01", None)


@pytest.mark.parametrize(
    ("zone", "changes", "hours"),
    [("Europe/Paris", "2026-03-29", 23), ("America/New_York", "2026-03-08", 23), ("Europe/Paris", "2025-10-26", 25)],
)
def test_a_day_of_23_or_25_hours_is_one_cell_of_its_own_day(
    history: History, zone: str, changes: str, hours: int
) -> None:
    dag = history.export("dst", start="2025-01-01", timezone=zone)
    start = datetime.fromisoformat(changes).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    history.run(dag, start, start + hours * HOUR)
    found = shown(history, dag, datetime(2026, 4, 2, tzinfo=UTC))
    days = [window for window in found["windows"] if window["row"] == changes[:7]]
    assert [window["column"] for window in days] == list(range(1, len(days) + 1))
    (changed,) = [window for window in days if window["local"].startswith(changes)]
    assert (changed["state"], changed["end"] - changed["start"]) == ("delivered", hours * HOUR)
    assert found["timezone"] == zone


def test_the_hour_that_comes_twice_is_two_windows_in_one_column(history: History) -> None:
    dag = history.export("dst", "hourly", start="2025-10-25", timezone="Europe/Paris")
    found = shown(history, dag, datetime(2025, 10, 27, 12, tzinfo=UTC))
    day = [window["column"] for window in found["windows"] if window["row"] == "2025-10-26"]
    assert day == sorted([*range(24), 2])


def test_months_and_weeks(history: History) -> None:
    monthly = shown(history, history.export("months", "monthly", start="2025-11-01"))
    assert [(window["row"], window["column"]) for window in monthly["windows"]] == [
        ("2025", 11),
        ("2025", 12),
        ("2026", 1),
        ("2026", 2),
        ("2026", 3),
    ]
    assert (monthly["kind"], monthly["rows"]) == ("month", ["2026", "2025"])
    weekly = shown(history, history.export("weeks", "weekly", start="2025-12-22"))
    assert [(window["row"], window["column"]) for window in weekly["windows"]][:3] == [
        ("2025", 52),
        ("2026", 1),  # the ISO year of the week, which began in December
        ("2026", 2),
    ]


def test_an_export_of_once_shows_its_one_window(history: History) -> None:
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)
    dag = history.export("one-shot", "once", start="2025-01-01", end_date="2025-07-01")
    history.run(dag, start, end)
    found = shown(history, dag)
    assert [(window["start"], window["end"], window["state"]) for window in found["windows"]] == [
        (start, end, "delivered")
    ]
    assert (found["periodic"], found["newer"]) == (False, None)


@pytest.mark.parametrize("more", [{"interval": "once"}, {"enabled": "false"}])
def test_one_without_a_schedule_has_its_zone_too(history: History, more: dict[str, str]) -> None:
    dag = history.export("zoned", start="2025-03-01", end_date="2025-04-01", timezone="Europe/Berlin", **more)
    assert shown(history, dag)["timezone"] == "Europe/Berlin"


def test_an_export_that_has_ended_shows_its_own_time(history: History) -> None:
    dag = history.export("ended", start="2025-03-16", end_date="2025-03-20")
    history.run(dag, datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
    found = shown(history, dag)
    assert found["rows"] == ["2025-03"]
    assert list(states(found)) == [f"2025-03-{day}" for day in (16, 17, 18, 19)]


@pytest.mark.parametrize(
    "cut", [{"start": "2026-03-01", "end_date": "2026-03-09T12:00:00Z"}, {"start": "2026-03-09T12:00:00Z"}]
)
def test_a_cut_window_makes_no_other_calendar(history: History, cut: dict[str, str]) -> None:
    """Of a daily export: the last complete window is twelve hours long."""
    found = shown(history, history.export("cut", **cut))
    assert (found["kind"], found["rows"], found["newer"]) == ("day", ["2026-03"], None)


@pytest.mark.parametrize("then", [{"enabled": "false"}, {"interval": "nonsense"}])
def test_one_that_was_switched_off_or_broke_is_gone_through_as_before(
    history: History, then: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its hours, and period by period to and fro; a link to the files of an earlier run leads to these."""
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")  # else the file is read once a test
    dag = history.export("hours", "hourly", start="2025-12-01")
    last = datetime(2026, 3, 1, tzinfo=UTC)
    begins = [datetime(2025, 12, 1, 5, tzinfo=UTC), last - 40 * DAY, last - HOUR, last]
    for begin in begins:
        history.run(dag, begin, begin + HOUR)
    history.export("hours", **{"interval": "hourly", "start": "2025-12-01"} | then)
    newest = shown(history, dag)
    assert (newest["periodic"], newest["kind"], newest["rows"][0], newest["newer"]) == (
        False,
        "hour",
        "2026-03-01",
        None,
    )
    older = shown(history, dag, before=newest["older"])
    assert [(window["row"], window["column"]) for window in older["windows"]] == [("2026-01-20", 0)]
    assert older["newer"] is not None
    assert shown(history, dag, before=older["newer"])["rows"] == newest["rows"]
    linked = shown(history, dag, before=begins[1] + HOUR)
    assert linked["files"]["window"] == ExportWindow(begins[1], begins[1] + HOUR).to_dict()
    assert shown(history, dag, before=linked["older"])["older"] is None


@pytest.mark.parametrize(("interval", "cut", "kind"), [("daily", 12 * HOUR, "day"), ("hourly", None, "hour")])
@pytest.mark.parametrize("then", [{"enabled": "false"}, {"interval": "nonsense"}])
def test_its_calendar_is_that_of_its_windows_whatever_was_delivered_last(
    history: History, interval: str, cut: timedelta | None, kind: str, then: dict[str, str], monkeypatch: Any
) -> None:
    """One that end_date has cut, or a range by hand."""
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")
    dag = history.export("acme", interval, start="2025-12-01")
    length = DAY if interval == "daily" else HOUR
    for number in range(2):
        history.run(dag, START + number * length, START + (number + 1) * length)
    if cut:
        history.run(dag, START + 2 * length, START + 2 * length + cut)
    else:
        by_hand(history, dag, NOW - 40 * DAY, NOW - HOUR)
    history.export("acme", **{"interval": interval, "start": "2025-12-01"} | then)
    assert shown(history, dag)["kind"] == kind


@pytest.mark.parametrize("then", [{"enabled": "false"}, {"interval": "nonsense"}])
def test_ranges_by_hand_before_its_first_run_are_reached_too(
    history: History, then: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")
    dag = history.export("acme", start="2026-03-01")
    history.run(dag, START, START + DAY)
    early = START - 400 * DAY
    run = by_hand(history, dag, early, early + DAY, logical_date=NOW)
    history.export("acme", **{"start": "2026-03-01"} | then)
    older = shown(history, dag)["older"]
    assert older is not None
    assert [row["run_id"] for row in shown(history, dag, before=older)["by_hand"]] == [run.run_id]


def test_an_end_on_the_first_of_a_month_begins_no_row_of_its_own(history: History) -> None:
    dag = history.export("ended", start="2025-03-16", end_date="2025-04-01")
    history.run(dag, datetime(2025, 3, 16, tzinfo=UTC), datetime(2025, 3, 17, tzinfo=UTC))
    assert shown(history, dag)["rows"] == ["2025-03"]


def test_an_end_in_the_middle_of_a_window_cuts_it(history: History) -> None:
    dag = history.export("cut", start="2025-03-16", end_date="2025-03-17T12:00:00Z")
    day = datetime(2025, 3, 17, tzinfo=UTC)
    run = history.run(dag, day, day + DAY, "running")
    run.state, run.end_date = "success", NOW
    history.deliver(run, day, day + 12 * HOUR)
    (cut,) = [window for window in shown(history, dag)["windows"] if window["start"] == day]
    assert (cut["state"], cut["end"]) == ("delivered", day + 12 * HOUR)


def test_a_range_by_hand_stands_apart(history: History, daily: str) -> None:
    start, end = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 25, tzinfo=UTC)
    run = history.run(
        daily, NOW - DAY, NOW, "running", run_id="by-hand", run_type="manual", logical_date=NOW, conf=_range(start, end)
    )
    found = shown(history, daily)
    assert [(window["start"], window["end"], window["state"]) for window in found["by_hand"]] == [
        (start, end, "running")
    ]
    run.state, run.end_date = "success", NOW
    history.deliver(run, start, end)
    found = shown(history, daily)
    assert [(window["start"], window["state"]) for window in found["by_hand"]] == [(start, "delivered")]
    assert {window["run_id"] for window in found["windows"]} == {None}


def by_hand(history: History, dag: str, start: datetime, end: datetime, state: str = "success", **more: Any) -> DagRun:
    """Triggered with `from` and `to`: without a logical date, as the command line does, unless one is given."""
    number = more.pop("number", 1)
    options = {"run_id": f"hand-{number}", "run_type": "manual", "logical_date": None, "conf": _range(start, end)}
    return history.run(dag, start, end, state, began=NOW + number * HOUR, **options | more)


def test_a_range_by_hand_covers_the_windows_it_holds(history: History, daily: str) -> None:
    by_hand(history, daily, START + 12 * HOUR, START + 5 * DAY + HOUR, orders=50)
    found = shown(history, daily)
    assert found["states"]["delivered"] == 4
    assert [f"2026-03-0{day}" for day in (2, 3, 4, 5)] == [
        day for day, state in states(found).items() if state == "delivered"
    ]
    assert found["totals"]["work_orders"] == 50  # of one file, not of four
    assert {window["totals"] and window["totals"]["work_orders"] for window in found["windows"]} == {None}
    assert found["files"]["sites"]


def test_a_range_that_is_a_window_has_its_figures(history: History, daily: str) -> None:
    by_hand(history, daily, START, START + DAY, orders=50)
    found = shown(history, daily)
    assert (found["windows"][0]["totals"]["work_orders"], found["totals"]["work_orders"]) == (50, 50)


@pytest.mark.parametrize("state", ["failed", "running", "queued"])
def test_so_does_one_that_failed_or_is_under_way(history: History, daily: str, state: str) -> None:
    by_hand(history, daily, START, START + 2 * DAY, state)
    assert shown(history, daily)["states"][state] == 2


@pytest.mark.parametrize(("began", "shown_as"), [(-HOUR, "missing"), (HOUR, "failed")])
def test_a_range_that_was_not_over_when_its_run_began_is_no_window_s_failure(
    history: History, daily: str, began: timedelta, shown_as: str
) -> None:
    """Its run refused it; cleared since, the run begins anew and may fail for another reason."""
    history.run(daily, START - DAY, START)
    end = START + 2 * DAY
    history.run(
        daily,
        START,
        end,
        "failed",
        began=end + began,
        run_id="hand",
        run_type="manual",
        logical_date=None,
        conf=_range(START, end),
    )
    found = shown(history, daily)
    assert list(states(found).values())[:3] == ["delivered", shown_as, shown_as]
    assert [window["state"] for window in found["by_hand"]] == ["failed"]


@pytest.mark.parametrize("first", ["failed", "success"])
def test_a_failed_range_takes_back_nothing_and_a_later_one_makes_good(history: History, daily: str, first: str) -> None:
    other = "success" if first == "failed" else "failed"
    by_hand(history, daily, START, START + 2 * DAY, first)
    by_hand(history, daily, START, START + 3 * DAY, other, number=2)
    found = list(states(shown(history, daily)).values())
    assert found[:3] == ["delivered", "delivered", "delivered" if other == "success" else "failed"]


def test_a_range_makes_good_the_failed_run_of_its_window(history: History, daily: str) -> None:
    history.run(daily, START, START + DAY, "failed")
    by_hand(history, daily, START, START + 2 * DAY)
    assert list(states(shown(history, daily)).values())[:2] == ["delivered", "delivered"]


def test_a_range_is_in_the_calendar_of_its_time_whenever_it_was_run(history: History) -> None:
    dag = history.export("old", start="2023-01-01")
    day = datetime(2024, 6, 1, tzinfo=UTC)
    by_hand(history, dag, day, day + DAY, logical_date=NOW)
    older = shown(history, dag, before=shown(history, dag)["older"])
    assert states(older)["2024-06-01"] == "delivered"


def test_a_failed_trigger_without_a_range_is_of_the_last_complete_window(history: History, daily: str) -> None:
    run = by_hand(history, daily, START + 2 * DAY, START + 3 * DAY, "failed", conf={})
    run.run_after = START + 3 * DAY + HOUR
    history.session.commit()
    assert states(shown(history, daily))["2026-03-03"] == "failed"


@pytest.mark.parametrize("conf", [{"from": "yesterday", "to": "today"}, {"from": "2026-01-01", "to": "2026-01-02"}])
def test_a_range_that_is_none_breaks_nothing(history: History, daily: str, conf: dict[str, str]) -> None:
    history.run(daily, NOW - DAY, NOW, "failed", run_id="odd", run_type="manual", logical_date=NOW, conf=conf)
    assert shown(history, daily)["by_hand"] == []


def test_a_run_without_an_interval_is_known_by_its_receipt(history: History, daily: str) -> None:
    """Triggered without a logical date, as by REST with null."""
    start = START + 3 * DAY
    run = history.run(daily, start, start + DAY, "running", run_id="manual", run_type="manual", logical_date=None)
    run.state, run.end_date = "success", NOW
    history.deliver(run, start, start + DAY)
    assert states(shown(history, daily))["2026-03-04"] == "delivered"


def test_a_failed_repeat_does_not_take_back_what_was_delivered(history: History, daily: str) -> None:
    history.run(daily, START, START + DAY)
    history.run(daily, START, START + DAY, "failed", run_id="again", run_type="manual", logical_date=NOW)
    (first, *_) = shown(history, daily)["windows"]
    assert (first["state"], first["run_id"]) == ("delivered", f"scheduled__{START.isoformat()}")


def test_what_a_changed_interval_left_over_is_missing_until_it_is_run_by_hand(history: History) -> None:
    """Daily became weekly, of whose window Airflow has a run, of its Monday; Tuesday and Thursday on were never run."""
    weekly, monday = history.export("acme", "weekly", "2026-03-01"), START + DAY
    for day in (monday, monday + 2 * DAY):
        history.run(weekly, day, day + DAY)
    found = [(window["start"], window["end"], window["state"]) for window in shown(history, weekly)["windows"]]
    tuesday = (monday + DAY, monday + 2 * DAY, "rest")
    others = [(monday, monday + DAY, "delivered"), (monday + 2 * DAY, monday + 3 * DAY, "delivered")]
    later = (monday + 3 * DAY, monday + 7 * DAY, "rest")
    assert [row for row in found if row[0] < monday + 7 * DAY and row[0] >= monday] == sorted([*others, tuesday, later])
    history.run(weekly, *later[:2], run_id="by-hand", run_type="manual", logical_date=None, conf=_range(*later[:2]))
    found = [(window["start"], window["end"], window["state"]) for window in shown(history, weekly)["windows"]]
    assert (tuesday in found, later in found) == (True, False)


@pytest.mark.parametrize(("state", "hours"), [("success", 0), ("failed", 23)])
def test_what_a_longer_interval_delivered_is_not_missing_in_a_shorter_one(
    history: History, state: str, hours: int
) -> None:
    """Daily became hourly: a backfill of the hours would deliver the day twice, or all of it where its run failed."""
    hourly = history.export("acme", "hourly", "2026-03-01")
    history.run(hourly, START, START + DAY)
    history.run(hourly, START + DAY, START + 2 * DAY, state)
    found = shown(history, hourly)["windows"]
    missing = [window["start"] for window in found if window["state"] == "missing"]
    assert sum(start < START + 2 * DAY for start in missing) == hours
    assert START + 2 * DAY in missing
    assert not any(window["state"] == "rest" for window in found)


def test_nor_where_only_the_hours_are_asked_for(history: History) -> None:
    """As a backfill asks, which may begin within the day."""
    hourly = history.export("acme", "hourly", "2026-03-01")
    history.run(hourly, START, START + DAY)
    plan = schedule(history.session, hourly)
    assert plan is not None
    rows, _ = windows(history.session, hourly, plan, START + 5 * HOUR, START + 26 * HOUR, NOW)
    assert [(row.start, row.state) for row in rows] == [(START + n * HOUR, "missing") for n in (24, 25)]


def test_so_is_what_an_end_date_left_over_that_is_gone(history: History, daily: str) -> None:
    """It was at noon."""
    history.run(daily, START + 2 * DAY, START + 2 * DAY + 12 * HOUR)
    found = states(shown(history, daily))
    assert (found["2026-03-03"], found["2026-03-03T12:00"], found["2026-03-04"]) == ("delivered", "rest", "missing")


def test_a_cleared_run_shows_its_newest_receipt(history: History, daily: str) -> None:
    run = history.run(daily, START, START + DAY, orders=3)
    run.state, run.start_date, run.end_date = "running", NOW, None
    history.session.commit()
    assert states(shown(history, daily))["2026-03-01"] == "running"
    run.state, run.end_date = "success", NOW + HOUR
    history.deliver(run, START, START + DAY, orders=5)
    (first, *_) = shown(history, daily)["windows"]
    assert (first["state"], first["totals"]["work_orders"]) == ("delivered", 5)


def test_a_run_of_which_only_a_later_task_was_cleared_keeps_its_receipt(history: History, daily: str) -> None:
    run = history.run(daily, START, START + DAY, orders=3)
    run.start_date, run.end_date = NOW, NOW + HOUR  # `notify` ran again: Airflow begins the run anew
    history.session.commit()
    (first, *_) = shown(history, daily)["windows"]
    assert (first["state"], first["totals"]["work_orders"]) == ("delivered", 3)


def test_a_run_that_was_marked_as_successful_is_no_delivery(history: History, daily: str) -> None:
    run = history.run(daily, START, START + DAY, "failed")
    run.state = "success"
    history.session.commit()
    assert states(shown(history, daily))["2026-03-01"] == "unproven"
    by_hand(history, daily, START, START + DAY)
    assert states(shown(history, daily))["2026-03-01"] == "delivered"


def test_receipts_are_read_of_the_runs_that_are_shown(history: History, daily: str) -> None:
    old, _ = (history.run(daily, START + day * DAY, START + (day + 1) * DAY) for day in range(2))
    assert deliveries_of(history.session, daily, [old]).keys() == {old.run_id}


def test_another_dags_receipt_of_the_same_run_id_is_not_its_own(history: History, daily: str) -> None:
    """A DAG of somebody's own that delivers the same export: run ids are those of their times."""
    run = history.run(daily, START, START + DAY, orders=3)
    other = history.deliver(run, START, START + 2 * DAY, orders=9)
    other.source_dag_id = "own"
    run.start_date = NOW  # `notify` alone was cleared
    history.session.commit()
    (first, *_) = shown(history, daily)["windows"]
    assert first["totals"]["work_orders"] == 3
    assert [one.totals and one.totals["work_orders"] for one in receipts_of(history, run)] == [3]


def receipts_of(history: History, run: DagRun) -> list[Any]:
    return list(Receipts()(history.session, [(run.id, run.start_date)]).values())


@pytest.mark.parametrize("run_type", ["operator_triggered", "asset_materialization"])
def test_a_range_that_a_task_triggered_is_one_by_hand(history: History, daily: str, run_type: str) -> None:
    by_hand(history, daily, START, START + 3 * DAY, run_type=run_type)
    found = shown(history, daily)
    assert [window["state"] for window in found["by_hand"]] == ["delivered"]
    assert states(found)["2026-03-02"] == "delivered"


def _range(start: datetime, end: datetime) -> dict[str, str]:
    return {"from": start.isoformat(), "to": end.isoformat()}
