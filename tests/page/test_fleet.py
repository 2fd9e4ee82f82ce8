"""What all exports did: failures by reason, volume per day, search and order of the list."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import update

from data_export.config.models import dag_id
from data_export.delivery.registry import kinds
from data_export_airflow.metadata import failures
from data_export_airflow.metadata.exports import Volumes, totals
from data_export_airflow.metadata.failures import by_reason, failures_since, parse, reasons
from data_export_airflow.metadata.missing import MissingWindows
from data_export_airflow.metadata.overview import at_a_glance
from data_export_airflow.metadata.receipts import Receipts
from data_export_airflow.page.app import STATIC
from data_export_airflow.page.search import LABELS, Asked, listing
from tests.page.history import History

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
NOW = MIDNIGHT + HOUR


def test_failures_of_the_last_day_are_grouped_by_reason(history: History) -> None:
    one, two = history.exports("one", "two")
    for dag, back, error in ((one, 0, "AccessDenied"), (two, 0, "AccessDenied"), (one, 1, "TargetFull")):
        start = MIDNIGHT - (back + 1) * DAY
        run = history.run(dag, start, start + DAY, "failed", began=NOW - HOUR)
        history.result(run, "deliver", "failure", {"error": error, "message": f"{dag} {back}"})
    old = history.run(one, MIDNIGHT - 9 * DAY, MIDNIGHT - 8 * DAY, "failed", began=NOW - 2 * DAY)
    history.result(old, "deliver", "failure", {"error": "TargetFull", "message": "of yesterday"})
    lost = history.run(two, MIDNIGHT - 3 * DAY, MIDNIGHT - 2 * DAY, "failed", began=NOW - HOUR)
    history.result(lost, "extract", "failure", None)

    groups = by_reason(failures_since(history.session, NOW - DAY))
    assert [(group["error"], group["runs"], group["exports"]) for group in groups] == [
        ("AccessDenied", 2, 2),
        ("TargetFull", 1, 1),
        ("Unknown", 1, 1),
    ]
    assert groups[0]["meaning"].startswith("A server refuses a key")
    assert [group["anchor"] for group in groups] == ["accessdenied", "targetfull", "other-errors"]
    assert "worker was lost" in groups[2]["examples"][0]["message"]


def test_of_a_thousand_sites_that_failed_alike_one_is_read(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """By task and error in a list of kinds; of the reason of a run, the one that failed first."""
    dag = history.export("one")
    run = history.run(dag, MIDNIGHT - DAY, MIDNIGHT, "failed", began=NOW - HOUR)
    errors = ["AccessDenied"] * 20 + ["TargetFull"] * 10
    for site, error in enumerate(errors):
        history.result(run, "deliver", "failure", {"error": error, "message": f"site {site}"}, map_index=site)
    for site in (30, 31):
        history.result(run, "deliver", "failure", None, map_index=site)
    history.result(run, "close", "failure", {"error": "AccessDenied", "message": "as well"}, map_index=-1)
    ended = {"end_date": NOW - HOUR + timedelta(minutes=5)}
    history.session.execute(update(TaskInstance).values(ended))
    first = TaskInstance.map_index == 25
    history.session.execute(update(TaskInstance).where(first).values(end_date=NOW - HOUR + timedelta(minutes=1)))
    history.session.commit()
    read: list[Any] = []
    made = failures._failure
    monkeypatch.setattr(failures, "_failure", lambda row: read.append(row) or made(row))
    groups = by_reason(failures_since(history.session, NOW - DAY))
    assert [(group["error"], group["runs"], len(group["examples"])) for group in groups] == [
        ("AccessDenied", 1, 2),
        ("TargetFull", 1, 1),
        ("Unknown", 1, 1),
    ]
    assert len(read) == 4
    read.clear()
    assert reasons(history.session, dag, [run.run_id]) == {run.run_id: "deliver: TargetFull: site 25"}
    assert len(read) == 1


def test_volume_is_counted_by_the_day_of_delivery(history: History) -> None:
    one, two = history.exports("one", "two")
    for back in range(20, 0, -1):  # of three weeks the last fortnight is shown
        history.run(one, MIDNIGHT - (back + 1) * DAY, MIDNIGHT - back * DAY, orders=back)
    history.run(two, MIDNIGHT - DAY, MIDNIGHT, orders=100)
    found = Volumes()(history.session, NOW)
    assert list(found) == [(MIDNIGHT - back * DAY).date() for back in range(13, -1, -1)]
    yesterday, today = found[(MIDNIGHT - DAY).date()], found[MIDNIGHT.date()]
    assert totals(yesterday, {one, two})["work_orders"] == 1
    assert totals(today, {one, two}) == {
        "deliveries": 1,
        "work_orders": 100,
        "bytes": 100_000,
        "images": 200,
        "image_bytes": 5_000_000,
        "images_missing": 0,
        "refused_recipients": 0,
    }
    assert totals(today, {one})["deliveries"] == 0


def test_volume_without_any_event(history: History) -> None:
    history.export("one")
    volumes = Volumes()(history.session, NOW)
    assert len(volumes) > 0
    assert not any(volumes.values())


@pytest.fixture
def three(history: History) -> History:
    history.write("gamma", interval="0 6 * * MON")
    history.exports("beta", "alpha")
    for dag, orders in zip(map(dag_id, ("beta", "alpha", "gamma")), (5, 9, None), strict=True):
        history.next_window(dag, MIDNIGHT, MIDNIGHT + DAY)
        if orders:
            history.run(dag, MIDNIGHT - DAY, MIDNIGHT, orders=orders)
    history.look(NOW)
    return history


def names(history: History, **asked: Any) -> list[str]:
    found = listing(
        at_a_glance(history.session, NOW, MissingWindows()).rows,
        Asked(**asked),
        lambda rows: _deliveries(history, rows),
    )
    return [row["name"] for row in found["exports"]]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["alpha", "beta", "gamma"]),
        ({"descending": True}, ["gamma", "beta", "alpha"]),
        ({"sort": "rows"}, ["beta", "alpha", "gamma"]),
        ({"sort": "rows", "descending": True}, ["alpha", "beta", "gamma"]),  # the unknown last either way
        ({"sort": "state"}, ["gamma", "alpha", "beta"]),
        ({"search": "GS bet"}, ["beta"]),
        ({"search": "cloud storage alpha"}, ["alpha"]),
        ({"search": "0 6 * * mon"}, ["gamma"]),
        ({"search": "MON"}, ["gamma"]),
        ({"search": "nothing"}, []),
        ({"state": "new"}, ["gamma"]),
        ({"connector": "s3"}, []),
        ({"offset": 1, "limit": 1}, ["beta"]),
        ({"offset": 9}, []),
    ],
)
def test_the_list_is_searched_sorted_and_cut(three: History, asked: dict[str, Any], expected: list[str]) -> None:
    assert names(three, **asked) == expected


def test_connectors_are_searched_by_what_the_page_calls_them() -> None:
    called = re.findall(
        r'(\w+): "([^"]+)"', (STATIC / "js/shell.js").read_text().partition("CONNECTORS = {")[2].split("}")[0]
    )
    assert {name: LABELS.get(name, name).lower() for name in kinds()} == {name: label.lower() for name, label in called}


def test_counts_by_state_follow_the_search_and_not_the_filter(three: History) -> None:
    found = listing(
        at_a_glance(three.session, NOW, MissingWindows()).rows,
        Asked(search="a", state="new"),
        lambda rows: _deliveries(three, rows),
    )
    assert (found["total"], found["matching"], found["states"]) == (3, 1, {"new": 1, "delivered": 2})


def test_a_report_of_broken_files_is_read_line_by_line() -> None:
    report = "2 customer files are broken\n/x/a.yaml:3: time_zone: not known: remove it\n/x/A b.yml: no such name: x: y"
    assert [(problem.file, problem.line, problem.message, problem.dag_id) for problem in parse(report)] == [
        ("a.yaml", 3, "time_zone: not known: remove it", "data_export__a"),
        ("A b.yml", None, "no such name: x: y", "data_export__a_b"),
    ]


def _deliveries(history: History, rows: list[Any]) -> Any:
    return Receipts()(history.session, [row.delivered_key for row in rows if row.delivered_key])
