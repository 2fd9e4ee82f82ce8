"""One export beside its calendar: reasons, files, missing images, refused recipients, backfills under way."""

import pytest
from airflow.models.asset import AssetEvent
from sqlalchemy import update

from data_export.window import ExportWindow
from data_export_airflow.metadata.backfills import under_way
from data_export_airflow.page.detail import detail, files_of
from tests.page.history import SITE, History
from tests.page.shown import DAY, NOW, START, shown


@pytest.fixture
def daily(history: History) -> str:
    return history.export("acme", start="2026-03-01")


def test_a_failed_window_says_why(history: History, daily: str) -> None:
    run = history.run(daily, START, START + DAY, "failed")
    history.result(run, "deliver", "failure", {"error": "AccessDenied", "message": "grant storage.objects.create"})
    (first, *_) = shown(history, daily)["windows"]
    assert first["reason"] == "deliver: AccessDenied: grant storage.objects.create"


def test_a_failed_window_whose_worker_was_lost_says_so(history: History, daily: str) -> None:
    run = history.run(daily, START, START + DAY, "failed")
    history.result(run, "deliver", "failure", None)
    (first, *_) = shown(history, daily)["windows"]
    assert "the worker was lost" in first["reason"]


@pytest.mark.parametrize("kept", ["AccessDenied", ["a", "list"], {"message": {"of": "parts"}}, 7])
def test_a_reason_that_somebody_edited_breaks_nothing(history: History, daily: str, kept: object) -> None:
    run = history.run(daily, START, START + DAY, "failed")
    history.result(run, "deliver", "failure", kept)
    (first, *_) = shown(history, daily)["windows"]
    assert first["reason"].startswith("deliver: Unknown: ")


def test_a_notice_that_was_not_taken_is_shown_beside_what_was_delivered(history: History, daily: str) -> None:
    runs = [history.run(daily, START + day * DAY, START + (day + 1) * DAY) for day in range(3)]
    failure = {"error": "TargetUnavailable", "message": "hooks.acme.example answers 503"}
    history.result(runs[0], "notify", "failure", failure)
    history.result(runs[2], "notify", "failure", failure)
    failed = history.run(daily, START + 3 * DAY, START + 4 * DAY, "failed")
    history.result(failed, "deliver", "failure", failure)
    found = shown(history, daily)
    assert [row["state"] for row in found["windows"][:3]] == ["delivered"] * 3
    assert [(row["start"], row["run_id"]) for row in found["unheard"]] == [
        (START + 2 * DAY, runs[2].run_id),
        (START, runs[0].run_id),
    ]
    assert found["unheard"][0]["reason"] == "notify: TargetUnavailable: hooks.acme.example answers 503"


def test_where_the_files_are_and_which_images_were_missing(history: History, daily: str) -> None:
    history.run(daily, START, START + DAY, sums={"images_missing": 2})
    history.run(daily, START + DAY, START + 2 * DAY)
    found = shown(history, daily)
    assert {key: found["files"]["sites"][0][key] for key in ("outcome", "revision", "offered")} == {
        "outcome": "created",
        "revision": 1,
        "offered": None,
    }
    assert found["files"]["target"] == "gs://customer-bucket/"
    assert found["files"]["window"] == ExportWindow(START + DAY, START + 2 * DAY).to_dict()
    assert found["files"]["sites"][0]["uri"].endswith("2026-03-02_00:00:00.json")
    names = ["image-0.jpg", "image-1.jpg"]
    assert found["missing_images"] == [{"start": START, "count": 2, "names": names, "lists": []}]
    assert found["sample"]["windows"] == 2


def test_a_list_of_more_missing_images_than_a_receipt_names_is_told_of(history: History, daily: str) -> None:
    history.run(daily, START, START + DAY, sums={"images_missing": 250})
    ((missing),) = shown(history, daily)["missing_images"]
    assert (missing["count"], len(missing["names"])) == (250, 100)
    assert missing["lists"] == [f"gs://customer-bucket/{SITE}/missing/{ExportWindow(START, START + DAY).stamp}.txt"]


def test_a_file_that_was_kept_says_what_was_not_delivered(history: History, daily: str) -> None:
    offered = {"work_orders": 9, "bytes": 9000, "sha256": "cd" * 32, "records_sha256": "cd" * 32}
    history.run(daily, START, START + DAY, sums={"outcome": "kept", "offered": offered, "images_kept": 3})
    found = shown(history, daily)
    (site,) = found["files"]["sites"]
    assert (site["outcome"], site["work_orders"], site["offered"]) == ("kept", 7, offered)
    assert (found["totals"]["files_kept"], found["totals"]["images_kept"]) == (1, 3)


def test_recipients_who_did_not_get_their_link_are_told_of_window_by_window(history: History, daily: str) -> None:
    for day, refused in ((1, ("b***@customer.example",)), (2, ()), (3, ("a***@customer.example",))):
        history.run(daily, START + day * DAY, START + (day + 1) * DAY, sums={"refused": refused})
    found = shown(history, daily)
    assert [(each["start"], each["recipients"]) for each in found["refused"]] == [
        (START + 3 * DAY, ["a***@customer.example"]),
        (START + DAY, ["b***@customer.example"]),
    ]
    assert found["totals"]["refused_recipients"] == 2


def test_a_receipt_of_an_earlier_version_lacks_what_came_later(history: History, daily: str) -> None:
    run = history.run(daily, START, START + DAY, "running")
    run.state, run.end_date = "success", NOW
    extra = dict(history.deliver(run, START, START + DAY, images_missing=1).extra)
    for key in ("files_kept", "images_kept", "refused_recipients"):
        del extra["totals"][key]
    del extra["refused_recipients"], extra["sites"][0]["revision"], extra["sites"][0]["offered"]
    del extra["sites"][0]["images"]["missing_list"]
    history.session.execute(update(AssetEvent).values(extra=extra))
    history.session.commit()
    found = shown(history, daily)
    assert (found["refused"], found["missing_images"][0]["lists"]) == ([], [])
    assert found["files"]["sites"][0]["revision"] is None


def test_a_backfill_is_under_way_for_as_long_as_it_has_runs_left(history: History, daily: str) -> None:
    runs = [
        history.run(daily, START + day * DAY, START + (day + 1) * DAY, state, run_type="backfill")
        for day, state in ((0, "success"), (1, "running"), (2, "queued"))
    ]
    history.backfill(daily, START, START + 2 * DAY, runs)
    (found,) = under_way(history.session, daily)
    assert (found["from"], found["to"], found["windows"], found["left"]) == (START, START + 2 * DAY, 3, 2)
    for run in runs:
        run.state = "failed"
    history.session.commit()
    assert under_way(history.session, daily) == []  # though Airflow has not noticed


def test_a_backfill_is_under_way_while_its_runs_are_being_made(history: History, daily: str) -> None:
    history.backfill(daily, START, START + 2 * DAY, [])
    assert [(each["windows"], each["left"]) for each in under_way(history.session, daily)] == [(0, 0)]


def test_runs_at_once_are_limited_as_the_customer_file_says(history: History) -> None:
    dag = history.export("narrow", start="2026-03-01", limits="{max_active_runs: 2}")
    assert shown(history, dag)["max_active_runs"] == 2


def test_a_dag_that_airflow_does_not_know(history: History) -> None:
    assert detail(history.session, "data_export__nobody", None, NOW, None) is None


def test_what_the_customer_file_says_is_shown_before_the_first_delivery(history: History) -> None:
    about = dict(shown(history, history.export("acme", owner="ann@platform.example"))["about"])
    assert "gs://customer-bucket/acme/" in about["Target"]
    assert (about["Owner"], about["Customer file"].endswith("acme.yaml`")) == ("`ann@platform.example`", True)
    assert '"export_images": true' in about["Configuration"]


@pytest.mark.parametrize("console", [True, False])
def test_a_file_is_linked_where_the_console_shows_it(console: bool) -> None:
    receipt = {"sites": [{"uri": "s3://bucket/a.json"}], "console": console}
    address = "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=a.json"
    assert files_of(receipt)["sites"][0]["console"] == (address if console else "")
