"""In a real Chromium: where the focus is after what had it was replaced, and what is chosen after the next answer."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.dagrun import DagRun
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select

from data_export_airflow.dags.service_dags import CHECK_DAG
from tests.page.conftest import Opened
from tests.page.history import History

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
SETTLED = "() => new Promise((done) => setTimeout(done, 50))"
EXPORT = re.compile(r"/api/exports/[^/]+$")


@pytest.fixture
def tab(history: History, opened: Opened) -> Page:
    """An export of two periods: of the last windows three are delivered, before each there are gaps."""
    dag = history.export("acme", start=f"{TODAY - 400 * DAY:%Y-%m-%d}")
    for back in (20, 10, 1):
        history.run(dag, TODAY - back * DAY, TODAY - (back - 1) * DAY)
    return opened(f"export.html?dag={dag}", refused=True)


def refresh(tab: Page) -> None:
    """It is time: the page asks for the export again, or the test fails."""
    with tab.expect_response(EXPORT, timeout=10_000) as again:
        tab.clock.fast_forward(16_000)
    again.value.finished()  # or the server would still be at it when the next test has emptied its tables


def with_clock(tab: Page) -> None:
    tab.clock.install()
    tab.reload()
    tab.locator("body[data-ready]").wait_for()


def button(tab: Page, name: str) -> Any:
    return tab.get_by_role("region", name="Windows").get_by_role("button", name=re.compile(name))


def test_periods_are_gone_through_with_the_keyboard(tab: Page) -> None:
    """To the first and back to the last, and no further."""
    for name in ("^Earlier$", "^Later$"):
        go = button(tab, name)
        expect(go).to_have_attribute("aria-disabled", "false")
        go.focus()
        tab.keyboard.press("Enter")
        expect(go).to_have_attribute("aria-disabled", "true")
        expect(go).to_be_focused()
        tab.keyboard.press("Enter")
        expect(go).to_be_focused()


@pytest.mark.parametrize(("name", "selector"), [("Check", "button"), ("Windows", "button.cell[tabindex='0']")])
def test_a_slow_answer_takes_the_focus_from_nothing(tab: Page, name: str, selector: str) -> None:
    """Another command is no place for it, since Enter would give that one; nor is the beginning of the page."""
    held: list[Route] = []
    tab.route(EXPORT, lambda route: held.append(route))
    with tab.expect_request(EXPORT):
        button(tab, "^Earlier$").press("Enter")
    focused = tab.get_by_role("region", name=name).locator(selector)
    focused.focus()
    with tab.expect_response(EXPORT):
        held[0].continue_()
    expect(button(tab, "^Later$")).to_have_attribute("aria-disabled", "false")
    expect(focused).to_be_focused()


@pytest.mark.parametrize("name", ["^Earlier$", r"^Select \d+ gaps$"])
def test_a_refresh_leaves_the_focus_and_the_calendar_where_they_are(tab: Page, name: str) -> None:
    """Whatever is focused anew, or changed in a live region, a screen reader reads aloud: every 15 seconds."""
    with_clock(tab)
    tab.set_viewport_size({"width": 400, "height": 900})
    button(tab, name).focus()
    tab.evaluate("""() => {
      window.moved = [];
      document.addEventListener("focusin", (event) => window.moved.push(event.target.outerHTML));
      document.addEventListener("focusout", (event) => window.moved.push(event.target.outerHTML));
      new MutationObserver((all) => window.moved.push(all.length))
        .observe(document.querySelector(".selection"), { childList: true, subtree: true, characterData: true });
      document.querySelector(".windows .table-frame").scrollLeft = 100;
    }""")
    tab.evaluate("document.querySelector('.facts').id = 'old'")
    refresh(tab)
    expect(tab.locator("#old")).to_have_count(0)
    expect(button(tab, name)).to_be_focused()
    assert tab.evaluate("window.moved") == []
    assert tab.locator(".windows .table-frame").evaluate("frame => frame.scrollLeft") == 100


def test_a_selection_is_made_and_cleared_with_the_keyboard(tab: Page) -> None:
    gaps = button(tab, r"^Select \d+ gaps$")
    gaps.focus()
    tab.keyboard.press("Enter")
    expect(button(tab, "^Backfill …$")).to_be_focused()
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(gaps).to_be_focused()


def test_where_there_is_no_gap_the_focus_goes_back_to_the_window(history: History, opened: Opened) -> None:
    dag = history.export("new", start=f"{TODAY - DAY:%Y-%m-%d}")
    history.run(dag, TODAY - DAY, TODAY)
    tab = opened(f"export.html?dag={dag}")
    window = tab.locator("button.cell.delivered")
    tab.locator("button.cell[tabindex='0']").focus()
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Space")
    button(tab, "^Clear$").focus()
    tab.keyboard.press("Enter")
    expect(window).to_be_focused()


@pytest.mark.parametrize("gaps", [True, False])
def test_after_a_backfill_was_started_the_focus_is_beside_it_and_the_page_follows(
    history: History, opened: Opened, gaps: bool
) -> None:
    dag = history.export("acme", start=f"{TODAY - 9 * DAY:%Y-%m-%d}")
    for back in (9, 8) if gaps else range(1, 10):
        history.run(dag, TODAY - back * DAY, TODAY - (back - 1) * DAY)
    tab = opened(f"export.html?dag={dag}", refused=True)
    with_clock(tab)
    tab.route("**/api/v2/backfills", lambda route: route.fulfill(json={}))
    tab.route("**/backfills/dry_run", lambda route: route.fulfill(json={"total_entries": 1, "backfills": []}))
    tab.locator("button.cell.delivered").first.focus()
    tab.keyboard.press("Space")
    button(tab, "^Backfill …$").click()
    with tab.expect_response(EXPORT):
        tab.get_by_role("button", name="Start backfill").click()
    expect(button(tab, "^Select" if gaps else "^Earlier$")).to_be_focused()
    refresh(tab)


@pytest.mark.parametrize("state", ["open", "rest"])
def test_what_cannot_be_selected_holds_up_no_refresh(history: History, opened: Opened, state: str) -> None:
    dag = history.export("acme", start=f"{TODAY - 9 * DAY:%Y-%m-%d}")
    history.run(dag, TODAY - 9 * DAY, TODAY - 8.5 * DAY)  # its rest was never delivered
    tab = opened(f"export.html?dag={dag}", refused=True)
    with_clock(tab)
    tab.locator(f"button.cell.{state}").click()
    expect(tab.locator("button.cell[aria-pressed='true']")).to_have_count(0)
    tab.evaluate("document.activeElement.blur()")
    refresh(tab)


def test_of_a_range_the_windows_are_pressed_that_are_selected(history: History, opened: Opened) -> None:
    dag = history.export("acme", start=f"{TODAY - 9 * DAY:%Y-%m-%d}")
    history.run(dag, TODAY - 9 * DAY, TODAY - 8.5 * DAY)
    tab = opened(f"export.html?dag={dag}")
    cells = tab.locator("button.cell")
    cells.first.focus()
    tab.keyboard.press("Shift+End")
    states = cells.evaluate_all("all => all.map((cell) => [cell.classList[1], cell.getAttribute('aria-pressed')])")
    assert {state for state, pressed in states if pressed == "false"} == {"open", "rest"}
    assert {state for state, pressed in states if pressed == "true"} == {"delivered", "missing"}


def test_a_viewers_shift_holds_up_no_refresh(history: History, opened: Opened) -> None:
    dag = history.export("acme", start=f"{TODAY - 9 * DAY:%Y-%m-%d}")
    tab = opened(f"export.html?dag={dag}", role="viewer")
    with_clock(tab)
    tab.locator("button.cell").last.focus()
    tab.keyboard.press("Shift+ArrowLeft")
    tab.evaluate("document.activeElement.blur()")
    refresh(tab)


def test_a_page_that_could_not_be_shown_asks_again(tab: Page) -> None:
    tab.route(EXPORT, lambda route: route.fulfill(status=503, json={"detail": "too slow"}))
    with_clock(tab)
    expect(tab.get_by_role("alert").first).to_contain_text("too slow")
    tab.unroute_all()
    refresh(tab)


def test_in_a_zone_that_the_browser_does_not_know_times_are_in_utc(tab: Page) -> None:
    def unknown(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | {"timezone": "Mars/Olympus"})

    tab.route(EXPORT, unknown)
    tab.reload()
    tab.locator("body[data-ready]").wait_for()
    expect(tab.locator(".meta")).to_contain_text("daily · Mars/Olympus (times are shown in UTC) · Cloud Storage")
    expect(tab.locator(".calendar caption")).to_contain_text("in Mars/Olympus (times are shown in UTC).")
    button(tab, r"^Select \d+ gaps$").click()
    expect(tab.get_by_role("region", name="Windows")).to_contain_text("(UTC)")


def test_a_check_is_started_once_however_often_it_is_clicked(tab: Page) -> None:
    asked: list[Route] = []
    tab.route(f"**/api/v2/dags/{CHECK_DAG}/dagRuns", lambda route: asked.append(route))
    start = tab.get_by_role("region", name="Check").get_by_role("button")
    start.dblclick()
    tab.evaluate(SETTLED)
    assert len(asked) == 1
    asked[0].fulfill(status=403, json={"detail": "Forbidden"})
    expect(tab.get_by_role("region", name="Check").get_by_role("alert")).to_contain_text("may not")
    start.click()
    tab.evaluate(SETTLED)
    assert len(asked) == 2


def file_of(back: int) -> re.Pattern[str]:
    return re.compile(f"{TODAY - back * DAY:%Y-%m-%d}_00:00:00.json")


def test_the_files_are_those_of_the_window_that_is_named(tab: Page) -> None:
    """Also where the answers come out of turn, and after the next refresh."""
    files = tab.get_by_role("region", name="Where the files are")
    expect(files).to_contain_text(file_of(1))
    held: list[Route] = []
    tab.route("**/files/*", lambda route: route.continue_() if held else held.append(route))
    with_clock(tab)
    choice = files.get_by_role("combobox")
    with tab.expect_request("**/files/*"):
        choice.select_option(index=1)
    expect(files.get_by_role("row")).to_have_count(0)  # not the newest window's under this one's name
    choice.select_option(index=2)
    expect(files).to_contain_text(file_of(20))
    with tab.expect_response("**/files/*") as late:
        held[0].continue_()
    late.value.finished()
    tab.evaluate(SETTLED)  # what that answer would do is done
    assert file_of(20).search(files.inner_text())  # at once: the next refresh would put it right
    tab.evaluate("document.activeElement.blur()")
    refresh(tab)
    tab.evaluate(SETTLED)
    expect(choice.locator("option:checked")).to_have_text(f"{TODAY - 20 * DAY:%Y-%m-%d}")
    expect(files).to_contain_text(file_of(20))
    expect(files).not_to_contain_text(file_of(1))


def test_the_files_stay_those_of_a_window_that_is_delivered_again(tab: Page, history: History) -> None:
    with_clock(tab)
    files = tab.get_by_role("region", name="Where the files are")
    files.get_by_role("combobox").select_option(index=2)
    expect(files).to_contain_text(file_of(20))
    tab.evaluate("document.activeElement.blur()")
    run = history.session.scalars(select(DagRun).order_by(DagRun.logical_date)).first()
    assert run is not None
    before = files.get_by_role("combobox").input_value()
    run.start_date, run.end_date = datetime.now(UTC), datetime.now(UTC)
    history.session.commit()
    history.deliver(run, TODAY - 20 * DAY, TODAY - 19 * DAY)
    refresh(tab)
    expect(files.get_by_role("combobox")).not_to_have_value(before)
    expect(files.locator("option:checked")).to_have_text(f"{TODAY - 20 * DAY:%Y-%m-%d}")
    expect(files).to_contain_text(file_of(20))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_windows_that_are_not_filled_have_an_edge_to_be_seen(history: History, opened: Opened, scheme: str) -> None:
    """At least 3:1, as WCAG 2.1 (1.4.11) asks of controls; axe looks at text alone."""
    dag = history.export("acme", start=f"{TODAY - 9 * DAY:%Y-%m-%d}")
    history.run(dag, TODAY - 2 * DAY, TODAY - DAY)
    tab = opened(f"export.html?dag={dag}", scheme=scheme)
    ground = luminance(tab.locator(".card.windows").evaluate("card => getComputedStyle(card).backgroundColor"))
    for state in ("past", "open"):
        cell = tab.locator(f"button.cell.{state}").first
        edge = luminance(cell.evaluate("cell => getComputedStyle(cell).boxShadow"))
        light, dark = sorted((ground, edge), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, state


def luminance(style: str) -> float:
    """Of the first color of a style, as WCAG defines it; 0 where there is none."""
    found = re.search(r"rgb\((\d+), (\d+), (\d+)\)", style)
    parts = [int(part) / 255 for part in found.groups()] if found else [0.0] * 3
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_long_text_is_cut_where_it_is_searched_for(history: History, opened: Opened) -> None:
    history.export("acme")
    tab = opened("")
    tab.get_by_role("searchbox").focus()
    tab.keyboard.insert_text("acme " * 50)
    expect(tab.get_by_role("searchbox")).to_have_value("acme " * 20)
    expect(tab.get_by_role("status")).to_have_text("1 export of 1")
