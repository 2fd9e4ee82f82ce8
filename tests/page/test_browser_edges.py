"""The page in a real Chromium where there is nothing to show, and where customers' text would be markup."""

from typing import Any

from playwright.sync_api import expect

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
    expect(page.get_by_text("No run failed within the last 24 hours.")).to_be_visible()
    shot(page, "empty-fleet")


def test_a_new_export_shows_an_empty_calendar(history: History, opened: Opened, shot: Any) -> None:
    dag = history.export("fresh")
    page = opened(f"export.html?dag={dag}")
    expect(page.get_by_role("heading", level=1)).to_contain_text("New")
    assert faults(page) == []
    shot(page, "empty-export")


def test_an_export_that_is_none_says_so(history: History, opened: Opened) -> None:
    history.parse()
    page = opened("export.html?dag=data_export__nobody", refused=True)
    expect(page.get_by_role("alert").first).to_have_text("data_export__nobody is no data export that Airflow knows")


def test_text_of_customers_is_never_markup(history: History, opened: Opened) -> None:
    fleet.fill(history, days=3)
    run = history.run(fleet.MAIN, fleet.TODAY - 9 * fleet.DAY, fleet.TODAY - 8 * fleet.DAY, "failed")
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
    dag = history.export("acme", start=f"{fleet.TODAY - 9 * fleet.DAY:%Y-%m-%d}")
    start = fleet.TODAY - 3 * fleet.DAY
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
