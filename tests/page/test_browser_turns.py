"""In a real Chromium: answers that come out of turn or are refused, and keys that other browsers take for clicks."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from data_export_airflow.alerting.callbacks import AUDIT_DAG
from data_export_airflow.page import app as page
from tests.page.conftest import Opened
from tests.page.history import History

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
def export_page(history: History, opened: Opened) -> Page:
    dag = history.export("acme")
    history.run(dag, TODAY - 10 * DAY, TODAY - 9 * DAY)
    history.run(dag, TODAY - DAY, TODAY)
    return opened(f"export.html?dag={dag}", refused=True)


def test_an_old_list_is_shown_and_the_next_soon_after(history: History, opened: Opened) -> None:
    """As after the API server's start, which makes the first list before anybody has exports."""
    history.export("acme")
    opened("").close()
    made, last = page.overview._made or pytest.fail("the list was not made")
    page.overview._made = (made - 30, last._replace(as_of=last.as_of - timedelta(seconds=30), rows=[]))
    expect(opened("").get_by_role("row", name=re.compile("acme"))).to_be_visible()


@pytest.mark.parametrize("where", ["link", "button"])
def test_an_answer_that_nobody_asked_for_takes_no_focus(history: History, opened: Opened, where: str) -> None:
    """Of a row and of a column's head: who has gone on while it was on its way stays there."""
    history.export("acme")
    opened("").close()
    made, last = page.overview._made or pytest.fail("the list was not made")
    page.overview._made = (made - 30, last._replace(as_of=last.as_of - timedelta(seconds=30)))
    held: list[Route] = []
    tab = opened("")
    tab.route("**/api/exports?**", lambda route: held.append(route))
    with tab.expect_request("**/api/exports?**"):
        tab.mouse.move(0, 0)
    tab.get_by_role("table").get_by_role(where).first.focus()
    with tab.expect_response("**/api/exports?**"):
        held[0].continue_()
    tab.evaluate("() => new Promise((done) => setTimeout(done, 50))")  # what that answer would do is done
    assert tab.evaluate("document.activeElement.closest('table') !== null")


def test_a_page_that_the_list_no_longer_has_becomes_its_last(history: History, opened: Opened) -> None:
    history.export("acme")
    tab = opened("?offset=100")
    expect(tab.get_by_role("row", name=re.compile("acme"))).to_be_visible()
    assert "offset" not in tab.url


def test_an_older_answer_overwrites_no_newer_period(history: History, opened: Opened) -> None:
    dag = history.export("old", start="2020-01-01")
    tab = opened(f"export.html?dag={dag}&before={TODAY.year - 2}-01-01T00:00:00Z")
    held: list[Route] = []
    tab.route("**/api/exports/*?before=*", lambda route: route.continue_() if held else held.append(route))
    with tab.expect_request("**/api/exports/*?before=*"):
        tab.get_by_role("button", name="Earlier").click()
    with tab.expect_response("**/api/exports/*?before=*"):
        tab.get_by_role("button", name="Later").click()
    tab.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    newer = tab.locator("#export .windows").inner_text()
    with tab.expect_response("**/api/exports/*?before=*"):
        held[0].continue_()
    tab.evaluate("() => new Promise((done) => setTimeout(done, 50))")  # what that answer would do is done
    assert tab.locator("#export .windows").inner_text() == newer


@pytest.mark.parametrize(("place", "question"), [("export", "exports/*"), ("list", "exports?*")])
def test_an_answer_that_takes_longer_than_the_refresh_is_shown(
    history: History, opened: Opened, place: str, question: str
) -> None:
    dag = history.export("acme")
    history.run(dag, TODAY - DAY, TODAY)
    tab = opened(f"export.html?dag={dag}" if place == "export" else "", refused=True)
    tab.clock.install()
    tab.reload()
    tab.locator("body[data-ready]").wait_for()
    held: list[Route] = []
    tab.route(f"**/api/{question}", lambda route: held.append(route))
    for _ in range(2):
        with tab.expect_request(f"**/api/{question}"):
            tab.clock.fast_forward(31_000)
    with tab.expect_response(f"**/api/{question}"):
        held[0].fulfill(status=503, json={"detail": "the answer to the first"})
    expect(tab.locator("main")).to_contain_text("the answer to the first")


def test_an_export_is_shown_where_the_broken_files_cannot_be(export_page: Page) -> None:
    export_page.route("**/api/problems*", lambda route: route.fulfill(status=503, json={"detail": "too slow"}))
    export_page.reload()
    export_page.locator("body[data-ready]").wait_for()
    expect(export_page.get_by_role("region", name="Windows")).to_be_visible()
    expect(export_page.get_by_role("alert")).to_have_count(0)


def test_the_dialog_shows_the_answer_to_the_last_question(export_page: Page) -> None:
    held: list[Route] = []

    def answer(route: Route) -> None:
        if route.request.post_data_json["reprocess_behavior"] == "none":
            held.append(route)
        else:
            route.fulfill(json={"total_entries": 0, "backfills": []})

    export_page.route("**/backfills/dry_run", answer)
    export_page.get_by_role("button", name=re.compile(r"Select \d+ gaps")).click()
    export_page.get_by_role("button", name="Backfill …").click()
    dialog, start = export_page.get_by_role("dialog"), export_page.get_by_role("button", name="Start backfill")
    dialog.get_by_role("combobox").first.select_option("failed")
    expect(dialog).to_contain_text("Nothing to run")
    (late,) = held
    with export_page.expect_response("**/backfills/dry_run"):
        late.fulfill(json={"total_entries": 8, "backfills": []})
    export_page.evaluate("() => new Promise((done) => setTimeout(done, 50))")  # what that answer would do is done
    expect(dialog).to_contain_text("Nothing to run")
    expect(start).to_be_disabled()


def test_what_is_being_started_cannot_be_changed(export_page: Page) -> None:
    held: list[Route] = []
    export_page.route("**/api/v2/backfills", lambda route: held.append(route))
    export_page.get_by_role("button", name=re.compile(r"Select \d+ gaps")).click()
    export_page.get_by_role("button", name="Backfill …").click()
    dialog, start = export_page.get_by_role("dialog"), export_page.get_by_role("button", name="Start backfill")
    with export_page.expect_request("**/api/v2/backfills"):
        start.click()
    for control in (*dialog.get_by_role("combobox").all(), dialog.get_by_role("spinbutton"), start):
        expect(control).to_be_disabled()
    held[0].fulfill(status=409, json={"detail": "another one is active"})
    expect(dialog.get_by_role("alert")).to_contain_text("another one is active")
    expect(start).to_be_disabled()
    dialog.get_by_role("combobox").first.select_option("failed")
    expect(start).to_be_enabled()


def test_space_selects_a_window_and_clicks_nothing(export_page: Page) -> None:
    """Firefox clicks a button when Space is let go, even if its being pressed was taken care of."""
    cell = export_page.locator(".cell.missing").last
    for event in ("keydown", "keyup"):
        make = (
            f"(cell) => cell.dispatchEvent(new KeyboardEvent('{event}', {{key: ' ', bubbles: true, cancelable: true}}))"
        )
        assert cell.evaluate(make) is False  # nothing is left for the browser to do
    expect(cell).to_have_attribute("aria-pressed", "true")


def test_an_audit_says_what_it_found_and_how_to_make_it_good(history: History, opened: Opened) -> None:
    dag = history.export("acme")
    run = history.run(AUDIT_DAG, TODAY, TODAY, "running", run_id="a", run_type="manual", logical_date=None, began=TODAY)
    place = {"start": (TODAY - DAY).isoformat(), "end": TODAY.isoformat(), "kind": "image", "found": "missing"}
    found = {
        "at": TODAY.isoformat(), "objects": 1234, "read": 21, "images": 1, "left": 5, "damaged": 3, "repairs": 1,
        "note": "", "drift": {"files": 4, "added": 1, "changed": 2, "gone": 0, "windows": [{}]},
        "findings": [
            place | {"uri": "gs://b/<img src=x onerror=alert(1)>.png", "detail": "", "fix": "the platform lacks it"},
            place | {"uri": "gs://b/x", "detail": "2 B, not 3 B", "fix": "", "kind": "data", "found": "other size"},
        ],
    }  # fmt: skip
    history.result(run, "audit", "acme", found, state="success")
    history.session.commit()
    card = opened(f"export.html?dag={dag}").get_by_role("region", name="Audit")
    expect(card).to_contain_text("3 missing or damaged")
    expect(card).to_contain_text("1,234 objects looked at, 21 read, 1 image; 5 not looked at: the time was over")
    expect(card).to_contain_text("1 run cleared to deliver again")
    expect(card).to_contain_text("1 added, 2 changed, 0 gone, in 1 window of 4 files")
    image = card.get_by_role("row", name=re.compile("image missing"))
    expect(image).to_contain_text("<img src=x onerror=alert(1)>.png")
    expect(image).to_contain_text("the platform lacks it")
    expect(card.get_by_role("row", name=re.compile("data other size"))).to_contain_text("gs://b/x 2 B, not 3 B")
    expect(card).to_contain_text("and 1 more")
    log = re.compile(f"/dags/{AUDIT_DAG}/runs/a/tasks/audit/mapped/0$")
    expect(card.get_by_role("link", name="log")).to_have_attribute("href", log)


def test_an_audit_is_started_once_and_by_whom_airflow_lets(export_page: Page) -> None:
    asked: list[Any] = []

    def answer(route: Route) -> None:
        asked.append(route.request.post_data_json)
        if len(asked) < 3:
            route.fulfill(status=403, json={"detail": "Forbidden"})
        else:
            route.fulfill(json={"dag_run_id": "manual__1"})

    export_page.route(f"**/api/v2/dags/{AUDIT_DAG}/dagRuns", answer)
    card = export_page.get_by_role("region", name="Audit")
    expect(card).to_contain_text("Never audited")
    button = card.get_by_role("button")
    for _ in range(2):
        with export_page.expect_response(f"**/api/v2/dags/{AUDIT_DAG}/dagRuns"):
            button.click()
    expect(card.get_by_role("alert")).to_have_count(1)
    button.click()
    expect(button).to_have_text("Auditing …")
    expect(button).to_be_focused()
    expect(button).to_be_disabled()
    button.click(force=True)
    run = re.compile(f"/dags/{AUDIT_DAG}/runs/manual__1$")
    expect(card.get_by_role("link", name="Open the run")).to_have_attribute("href", run)
    expect(card.get_by_role("alert")).to_have_count(0)
    assert asked == [{"logical_date": None, "conf": {"export": "acme"}}] * 3


def test_what_a_user_may_not_read_is_told_in_its_place(export_page: Page, opened: Opened) -> None:
    words = "It takes the right to read assets."
    fleet = opened("fleet.html", refused=True)
    fleet.route("**/api/volume*", lambda route: route.fulfill(status=403, json={"detail": words}))
    fleet.reload()
    expect(fleet.locator("#volume-card")).to_contain_text(words)
    expect(fleet.get_by_role("region", name="Late now")).to_be_visible()
    expect(fleet.get_by_role("region", name="Failures of the last day")).to_contain_text("No run failed")
    for card in ("check", "audit"):
        refuse = re.compile(rf"/exports/[^/]+/{card}\b")
        export_page.route(refuse, lambda route: route.fulfill(status=403, json={"detail": "Forbidden"}))
    export_page.reload()
    expect(export_page.get_by_role("region", name="Check")).to_contain_text("may not read the results of checks")
    expect(export_page.get_by_role("region", name="Audit")).to_contain_text("may not read the results of audits")
    expect(export_page.get_by_role("alert")).to_have_count(0)
