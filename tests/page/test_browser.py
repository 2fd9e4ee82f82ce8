"""The page in a real Chromium: keyboard, screen readers, light and dark, narrow windows, long names, hostile text."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.utils.session import create_session
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from data_export.config.models import dag_id
from data_export.wording import windows_in_words
from data_export_airflow.operators.links import files_address
from tests.page import fleet
from tests.page.conftest import Opened, empty
from tests.page.history import History

PAGES = {"list": "", "export": f"export.html?dag={fleet.MAIN}", "fleet": "fleet.html", "errors": "errors.html"}
#: Of what is in order, whose description would cost more than finding it out, axe then tells one example for each rule.
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}


@pytest.fixture(scope="module")
def installation(_tables: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One for all tests here, which look and change nothing."""
    with pytest.MonkeyPatch.context() as patch, create_session() as session:
        customers = tmp_path_factory.mktemp("customers")
        patch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(customers))
        empty(session)
        fleet.fill(History(session, customers))
        yield


def faults(page: Page) -> list[str]:
    found = Axe().run(page, options=RULES).response["violations"]
    return [f"{each['id']}: {node['html'][:150]} {node['failureSummary']}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_stands_in_the_way_of_a_screen_reader_nor_of_weak_eyes(
    installation: None, opened: Opened, shot: Any, name: str, scheme: str
) -> None:
    page = opened(PAGES[name], scheme=scheme)
    if name == "fleet":
        page.locator("summary").first.click()
        expect(page.locator("#volume-card table")).to_be_visible()
    assert faults(page) == []
    shot(page, f"page-{name}-{scheme}", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_dialog_is_a_dialog(installation: None, opened: Opened, shot: Any, scheme: str) -> None:
    page = opened(PAGES["export"], scheme=scheme)
    page.get_by_role("button", name=re.compile("^Select")).click()
    page.get_by_role("button", name="Backfill …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_have_accessible_name("Backfill acme-timeline")
    expect(dialog.get_by_role("button", name="Start backfill")).to_be_enabled()
    assert faults(page) == []
    shot(page, f"page-backfill-{scheme}")
    for _ in range(12):  # the focus stays within
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


@pytest.mark.parametrize("name", PAGES)
def test_all_is_reached_with_the_tab_key_and_the_focus_is_seen(installation: None, opened: Opened, name: str) -> None:
    page = opened(PAGES[name])
    focusable = page.locator(
        "a[href], button:not([disabled]):not([tabindex='-1']), select, input, summary, [tabindex='0']"
    ).evaluate_all("all => all.filter(each => each.checkVisibility()).length")
    seen = set()
    for _ in range(focusable + 3):
        page.keyboard.press("Tab")
        where, outline = page.evaluate(
            """() => { const at = document.activeElement; // the body where none is: after the last
            return [[...document.body.querySelectorAll('*')].indexOf(at), getComputedStyle(at).outlineStyle]; }"""
        )
        if where >= 0:
            seen.add(where)
            assert outline != "none", page.evaluate("document.activeElement.outerHTML")
    assert len(seen) == focusable


def test_the_list_is_sorted_with_the_keyboard_and_says_so(installation: None, opened: Opened) -> None:
    page = opened("")
    header = page.get_by_role("columnheader", name="Work orders")
    expect(header).to_have_attribute("aria-sort", "none")
    for direction in ("ascending", "descending"):
        header.get_by_role("button").focus()
        page.keyboard.press("Enter")
        expect(header).to_have_attribute("aria-sort", direction)
        expect(header.get_by_role("button")).to_be_focused()
    expect(page.locator("#body tr").first).to_contain_text("dupont-fibre")


def test_filters_tell_what_is_left_and_stay_in_the_address(installation: None, opened: Opened) -> None:
    page = opened("")
    page.get_by_role("searchbox").fill("acme")
    expect(page.get_by_role("status")).to_have_text("2 exports of 12")
    page.get_by_role("button", name=re.compile("^Failed")).click()
    expect(page.get_by_role("status")).to_have_text("1 export of 12")
    expect(page).to_have_url(re.compile("search=acme&state=failed"))
    page.reload()
    expect(page.locator("#body tr")).to_have_count(1)
    page.get_by_role("searchbox").fill("nobody")
    expect(page.get_by_text("No export matches the filter.")).to_be_visible()


def test_every_state_is_there_with_its_meaning(installation: None, opened: Opened) -> None:
    page = opened("?sort=state")
    states = page.locator("#body .badge").all_text_contents()
    assert [*dict.fromkeys(states)] == [
        "Broken file", "Failed", "Late", "Retrying", "Running", "New", "Ended, incomplete", "Paused", "Off", "On time"
    ]  # fmt: skip
    for badge in page.locator("#body .badge").all():
        assert badge.get_attribute("title")


def test_the_calendar_is_walked_with_the_keyboard(installation: None, opened: Opened, shot: Any) -> None:
    page = opened(PAGES["export"])
    page.locator("button.cell[tabindex='0']").focus()
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    gap = page.locator("button.cell:focus")
    expect(gap).to_have_class(re.compile("missing"))
    expect(gap).to_have_accessible_name(re.compile(": Missing"))
    expect(page.get_by_role("tooltip")).to_contain_text("no run was created for it")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowLeft")
    expect(page.get_by_text("Selected: 2 windows, starting")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Selected:")).to_have_count(0)
    page.locator("button.cell.delivered").first.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("Work orders")
    shot(page, "page-calendar")


def test_the_hand_over_sheet_opens_beside_the_page_and_has_its_style(
    installation: None, opened: Opened, shot: Any
) -> None:
    page = opened(PAGES["export"])
    with page.context.expect_page() as opening:
        page.get_by_role("link", name="Hand-over sheet").click()
    sheet = opening.value
    expect(sheet.get_by_role("heading", level=1)).to_have_text("Data export acme-timeline: hand-over sheet")
    expect(sheet.get_by_role("heading", name="What to set up")).to_be_visible()
    assert sheet.evaluate("getComputedStyle(document.body).maxWidth") == "960px"
    with sheet.expect_download() as saving:
        sheet.get_by_role("link", name="loaders.zip").click()
    assert saving.value.suggested_filename == "loaders.zip"
    file = sheet.locator("details", has=sheet.get_by_text("loaders/duckdb/create.sql", exact=True))
    file.locator("summary").click()
    expect(file.locator("pre")).to_be_visible()
    shot(sheet, "page-sheet")


def test_a_range_is_said_as_on_the_command_line_and_runs_at_once_keep_to_the_limit(
    installation: None, opened: Opened
) -> None:
    page = opened(PAGES["export"])
    first, last = fleet.today() - 37 * fleet.DAY, fleet.today() - 11 * fleet.DAY
    # Not by "Select", which would take a window too that has come since: midnight may pass meanwhile.
    page.locator(f"button.cell[data-start^='{last:%Y-%m-%d}']").click()
    page.locator(f"button.cell[data-start^='{first:%Y-%m-%d}']").click(modifiers=["Shift"])
    page.get_by_role("button", name="Backfill …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(windows_in_words(27, first, last, "UTC"))
    runs = dialog.get_by_role("spinbutton", name="Runs at once (1 to 3)")
    expect(runs).to_have_value("3")
    for typed, taken in (("50", "3"), ("0", "1"), ("2", "2")):
        runs.fill(typed)
        runs.blur()
        expect(runs).to_have_value(taken)


def test_what_receipts_warn_of_is_told(installation: None, opened: Opened, shot: Any) -> None:
    page = opened("?search=hermes")
    expect(page.locator("#body tr")).to_contain_text("2 recipients refused")
    page = opened(f"export.html?dag={dag_id(fleet.MAIL)}")
    assert faults(page) == []
    warning = page.get_by_role("region", name="The mail server refused recipients")
    expect(warning.get_by_role("listitem")).to_have_count(2)
    expect(warning).to_contain_text("b***@hermes.example, c***@hermes.example")
    cell = page.locator("button.cell.refused").last
    expect(cell).to_have_accessible_name(re.compile("recipients refused 2"))
    cell.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("did not reach everybody")
    shot(page, "page-refused", full_page=True)
    page = opened(PAGES["export"])
    kept = page.get_by_role("region", name="Where the files are").get_by_role("row").last
    expect(kept).to_contain_text("kept")
    expect(kept).to_contain_text("not replaced by one with 231 work orders, 231 kB")
    missing = page.get_by_role("region", name="Images missing at the source")
    missing.get_by_text("250 images").click()
    expect(missing).to_contain_text(re.compile("the first 100 of 250.*The full list: gs://"))
    page = opened("fleet.html")
    expect(page.get_by_role("columnheader", name="Recipients refused")).to_be_visible()


def test_late_windows_are_named_as_the_alert_names_them(installation: None, opened: Opened) -> None:
    page = opened(f"export.html?dag={dag_id('dupont-fibre')}")
    late = page.get_by_role("region", name="Late windows").get_by_role("listitem")
    expect(late).to_have_count(2)
    for item, back in zip(late.all(), (2, 1), strict=True):
        expect(item).to_contain_text(f"{fleet.today() - back * fleet.DAY:%Y-%m-%d}")
    page = opened("fleet.html")
    expect(page.get_by_role("region", name="Late now").get_by_role("row", name=re.compile("dupont"))).to_be_visible()


def test_an_export_that_has_ended_says_what_is_missing(installation: None, opened: Opened) -> None:
    page = opened("?state=incomplete")
    row = page.locator("#body tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("2 missing")
    row.get_by_role("link", name=fleet.ENDED, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Ended, incomplete")
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 missing")


def test_a_viewer_may_look_but_not_start_anything(installation: None, opened: Opened) -> None:
    page = opened(PAGES["export"], role="viewer")
    expect(page.get_by_text("Your Airflow user may not start runs.")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Select|Backfill|Check"))).to_have_count(0)


def test_a_check_tells_each_step_or_its_fix_and_is_started_from_here(installation: None, opened: Opened) -> None:
    page = opened(PAGES["export"])
    card = page.get_by_role("region", name="Check")
    expect(card).to_contain_text("5 steps, 1 failed")
    expect(card.get_by_role("row", name=re.compile("storage.objects.create"))).to_contain_text("grant storage.objects")
    expect(card.get_by_role("link", name="log")).to_have_attribute(
        "href", re.compile("/dags/data_export_check/runs/manual__check/tasks/check/mapped/0$")
    )
    card.get_by_role("button", name="Check again").click()
    expect(card.get_by_role("button")).to_have_text("Checking …")
    expect(card.get_by_role("button")).to_be_focused()


@pytest.mark.parametrize("name", PAGES)
def test_a_narrow_window_scrolls_in_its_tables_only(installation: None, opened: Opened, shot: Any, name: str) -> None:
    page = opened(PAGES[name], width=390, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shot(page, f"narrow-{name}", full_page=True)


def test_why_a_window_failed_leads_to_what_to_do_about_it(installation: None, opened: Opened) -> None:
    page = opened(PAGES["export"])
    failed = page.get_by_role("region", name="Failed windows").get_by_role("listitem")
    expect(failed).to_contain_text("deliver: AccessDenied: gs://acme-bi/exports: 403")
    failed.get_by_role("link", name="AccessDenied").focus()
    page.keyboard.press("Enter")
    section = page.get_by_role("region", name="AccessDenied")
    expect(section).to_be_in_viewport()
    expect(section).to_contain_text("Have the right granted")
    assert page.evaluate("document.querySelector(':target').id") == "accessdenied"
    page = opened("errors.html#zerodivisionerror")
    expect(page).to_have_url(re.compile("#other-errors$"))
    expect(page.get_by_role("region", name="Other errors")).to_be_in_viewport()


def test_a_link_of_a_run_leads_to_its_files(installation: None, opened: Opened) -> None:
    start = fleet.today() - 40 * fleet.DAY
    address = files_address("acme-timeline", f"scheduled__{start.isoformat()}", start + fleet.DAY)
    page = opened(address.removeprefix("/data-exports/"))
    files = page.get_by_role("region", name="Where the files are")
    expect(files).to_be_in_viewport()
    expect(files.get_by_role("combobox")).to_contain_text(f"{start:%Y-%m-%d}")
    row = files.get_by_role("row").last
    expect(row).to_contain_text(f"{start:%Y-%m-%d}_00:00:00.json")
    expect(row).to_contain_text("Lille Nord")
    expect(row).to_contain_text("ab" * 32)
    expect(row.get_by_role("button", name="Copy address")).to_be_visible()
