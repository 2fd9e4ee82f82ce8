"""The page in a real Chromium where there is nothing to show, and where customers' text would be markup."""

import re
from datetime import UTC, datetime
from typing import Any

from airflow.models.dag import DagModel
from playwright.sync_api import expect

from data_export.wording import windows_in_words
from tests.page import fleet
from tests.page.conftest import Opened
from tests.page.history import History
from tests.page.test_browser import PAGES, faults

MARKUP = "<img src=x onerror=document.title='owned'>"


def test_an_installation_without_exports_says_what_to_do(history: History, opened: Opened, shot: Any) -> None:
    history.parse()
    page = opened("")
    expect(page.get_by_text("No exports yet")).to_be_visible()
    assert faults(page) == []
    shot(page, "empty-list")
    page = opened("fleet.html")
    expect(page.get_by_text("No run failed in the last 24 hours.")).to_be_visible()
    shot(page, "empty-fleet")


def test_thousands_of_exports_are_walked_with_the_keyboard(history: History, opened: Opened) -> None:
    template = history.session.get_one(DagModel, history.export("first"))
    kept = {"bundle_name": template.bundle_name, "timetable_type": template.timetable_type, "is_stale": False}
    history.session.add_all(DagModel(dag_id=f"data_export__n_{number:04}", **kept) for number in range(4_999))
    history.session.commit()
    page = opened("")
    status, rows = page.get_by_role("status"), page.locator("#body tr")
    expect(status).to_have_text("5,000 exports of 5,000, 1 to 100 shown")
    following = page.get_by_role("button", name="Next", exact=True)
    following.focus()
    for shown in ("101 to 200", "201 to 300"):
        page.keyboard.press("Enter")
        expect(status).to_have_text(f"5,000 exports of 5,000, {shown} shown")
        expect(following).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(rows.first).to_contain_text("n-0099")
    page.goto("?offset=4900")
    expect(rows).to_have_count(100)
    following.focus()
    page.keyboard.press("Enter")  # there is none: nothing happens, and the focus stays
    expect(following).to_be_focused()
    expect(rows.last).to_contain_text("n-4998")
    assert faults(page) == []


def test_a_new_export_shows_an_empty_calendar(history: History, opened: Opened, shot: Any) -> None:
    dag = history.export("fresh")
    page = opened(f"export.html?dag={dag}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("New")
    assert faults(page) == []
    shot(page, "empty-export")


def test_where_late_windows_are_not_known_every_view_says_so_and_what_to_do(
    history: History, opened: Opened, shot: Any
) -> None:
    dag = history.export("acme")
    history.run(dag, fleet.today() - fleet.DAY, fleet.today())
    history.session.get_one(DagModel, "data_export_watch").is_paused = True
    history.session.commit()
    for name, path in {"list": "", "fleet": "fleet.html", "export": f"export.html?dag={dag}"}.items():
        page = opened(path)
        notice = page.locator(".notice", has_text="Late windows are not known: the watch has not run.")
        expect(notice).to_contain_text("data_export_watch is paused: unpause it.")
        expect(notice.get_by_role("link", name="Open the watch")).to_have_attribute(
            "href", re.compile("/dags/data_export_watch$")
        )
        expect(page.get_by_text(re.compile("Nothing is late|^On time$"))).to_have_count(0)
        assert faults(page) == []
        shot(page, f"unwatched-{name}")


def test_an_export_that_is_none_says_so(history: History, opened: Opened) -> None:
    history.parse()
    page = opened("export.html?dag=data_export__nobody", refused=True)
    expect(page.get_by_role("alert").first).to_have_text("data_export__nobody is no data export that Airflow knows")


def test_the_end_of_a_backfill_is_seen_at_once(history: History, opened: Opened, shot: Any) -> None:
    """Airflow itself notices it up to half a minute late."""
    dag = history.export("acme", start=f"{fleet.today() - 9 * fleet.DAY:%Y-%m-%d}")
    first = fleet.today() - 5 * fleet.DAY
    runs = [
        history.run(dag, start, start + fleet.DAY, "running", run_type="backfill")
        for start in (first, first + fleet.DAY)
    ]
    history.backfill(dag, first, first + fleet.DAY, runs)
    page = opened(f"export.html?dag={dag}")
    words = f"A backfill of {windows_in_words(2, first, first + fleet.DAY, 'UTC')} is under way: "
    expect(page.get_by_text(f"{words}2 runs left.")).to_be_visible()
    assert faults(page) == []
    shot(page, "page-under-way")
    for run, left in zip(runs, ("1 run left", None), strict=True):
        run.state, run.end_date = "success", datetime.now(UTC)
        history.session.commit()
        history.deliver(run, run.data_interval_start, run.data_interval_end)
        notice = page.get_by_text("A backfill of")
        expect(notice).to_contain_text(left) if left else expect(notice).to_have_count(0)
    expect(page.locator("button.cell.delivered")).to_have_count(2)
    expect(page.get_by_role("status")).to_have_text("The backfill has ended.")


def test_a_notice_that_was_not_taken_is_on_the_page(history: History, opened: Opened) -> None:
    dag = history.export("acme", start=f"{fleet.today() - 9 * fleet.DAY:%Y-%m-%d}")
    run = history.run(dag, fleet.today() - 3 * fleet.DAY, fleet.today() - 2 * fleet.DAY)
    history.result(run, "notify", "failure", {"error": "TargetUnavailable", "message": f"answers {MARKUP}"})
    page = opened(f"export.html?dag={dag}")
    notice = page.get_by_role("region", name="The notice was not taken")
    expect(notice.get_by_role("listitem")).to_have_count(1)
    expect(notice).to_contain_text(f"notify: TargetUnavailable: answers {MARKUP}")
    assert faults(page) == []


def test_text_of_customers_is_never_markup(history: History, opened: Opened) -> None:
    fleet.fill(history, days=3)
    run = history.run(fleet.MAIN, fleet.today() - 9 * fleet.DAY, fleet.today() - 8 * fleet.DAY, "failed")
    history.result(run, "deliver", "failure", {"error": MARKUP, "message": MARKUP})
    (history.customers / "evil.yaml").write_text(f'site_id: ["{MARKUP}"]\n"{MARKUP}": 1\n')
    history.parse()
    for path in PAGES.values():
        page = opened(path)
        if path == PAGES["export"]:
            page.locator("button.cell.failed").first.hover()
            expect(page.get_by_role("tooltip")).to_contain_text(MARKUP)
        assert page.locator("img").count() == 0
        assert "owned" not in page.title()
    page = opened("")
    expect(page.locator("#problems")).to_contain_text(MARKUP)


def test_the_rest_of_a_window_is_shown_with_its_way_and_is_nothing_to_backfill(
    history: History, opened: Opened, shot: Any
) -> None:
    dag = history.export("acme", start=f"{fleet.today() - 9 * fleet.DAY:%Y-%m-%d}")
    start = fleet.today() - 3 * fleet.DAY
    history.run(dag, start, start + fleet.DAY / 2)  # end_date was at noon
    page = opened(f"export.html?dag={dag}")
    rest = page.locator("button.cell.rest")
    rest.focus()
    expect(page.get_by_role("tooltip")).to_contain_text("trigger a run with these times as from and to")
    shot(page, "rest")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Backfill …")).to_have_count(0)
    page.keyboard.press("Escape")  # hides the tooltip
    assert faults(page) == []
