"""The page "Data exports" in a real Chromium, on a real Airflow."""

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from demo.rest import wait_for
from demo.session import Session
from tests.ui.exports import DAG, NAME, WITHOUT_BUCKET, over

pytestmark = pytest.mark.e2e


def test_nothing_is_shown_without_signing_in(delivered: Session) -> None:
    for path in ("exports", "problems", f"exports/{DAG}", "fleet"):
        answer = httpx.get(f"{delivered.airflow.url}/data-exports/api/{path}")
        assert answer.status_code == httpx.codes.UNAUTHORIZED, path


def _no_backfill_is_active(session: Session) -> bool:
    """Airflow has one backfill of a DAG at a time, and notices its end up to half a minute late."""
    found = session.api.request("GET", "/backfills", params={"dag_id": DAG})["backfills"]
    return all(backfill["completed_at"] for backfill in found)


def test_the_navigation_of_airflow_opens_the_page(page: Page, delivered: Session) -> None:
    page.goto(delivered.airflow.url)
    page.get_by_role("link", name="Data exports").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Data exports")).to_be_visible()
    expect(frame.get_by_role("row", name=re.compile(NAME))).to_be_visible()


def test_the_list_says_the_state_of_every_export(page: Page) -> None:
    page.goto("")
    expect(page.get_by_role("row", name=re.compile(NAME))).to_contain_text("Ended")
    expect(page.get_by_role("row", name=re.compile(WITHOUT_BUCKET[0]))).to_contain_text("Failed")
    page.get_by_role("searchbox").fill("page-s")
    expect(page.get_by_role("row", name=re.compile(WITHOUT_BUCKET[0]))).to_have_count(0)
    expect(page.get_by_role("row", name=re.compile(NAME))).to_be_visible()


def test_broken_files_are_on_top_with_line_key_and_fix_and_are_never_markup(page: Page) -> None:
    page.goto("")
    problems = page.locator("#problems")
    expect(problems).to_contain_text("time_zone")
    expect(problems).to_contain_text("broken.yaml")
    expect(problems).to_contain_text("<img src=x")
    assert page.title() != "1"


def test_the_calendar_shows_each_window_and_opens_its_run(page: Page) -> None:
    page.goto(f"export.html?dag={DAG}")
    states = {day: page.locator(f"button.cell[data-start^='2025-03-{day}']") for day in (16, 17, 20)}
    expect(states[16]).to_have_class(re.compile("delivered"))
    expect(states[17]).to_have_class(re.compile("missing|past"))
    expect(states[20]).to_have_class(re.compile("empty"))
    states[16].hover()
    expect(page.get_by_role("tooltip")).to_contain_text("Work orders26")
    states[16].focus()
    page.keyboard.press("ArrowRight")
    expect(states[17]).to_be_focused()
    states[16].click()
    page.wait_for_url(f"**/dags/{DAG}/runs/**")


def test_a_gap_is_backfilled_after_a_confirmation(page: Page, delivered: Session) -> None:
    wait_for("the end of the last backfill", lambda: _no_backfill_is_active(delivered), 90, pause=1)
    page.goto(f"export.html?dag={DAG}")
    page.locator("button.cell[data-start^='2025-03-18']").click()
    page.get_by_role("button", name=re.compile("^Backfill")).click()
    start = page.get_by_role("dialog").get_by_role("button", name="Start backfill")
    expect(start).to_be_enabled()
    assert over(delivered, DAG) == 2  # nothing happens before the confirmation
    start.click()
    wait_for("the gap's run", lambda: over(delivered, DAG) == 3, 120, pause=1)


def test_a_check_is_run_from_the_page_and_its_steps_are_shown(page: Page) -> None:
    page.goto(f"export.html?dag={DAG}")
    card = page.get_by_role("region", name="Check")
    card.get_by_role("button", name="Check now").click()
    expect(card).to_contain_text("all ok", timeout=120_000)
    expect(card.get_by_role("row", name=re.compile("target"))).not_to_have_count(0)
    card.get_by_role("link", name="log").click()
    page.wait_for_url("**/dags/data_export_check/runs/**/tasks/check/mapped/0")


def test_the_fleet_groups_failures_by_reason(page: Page) -> None:
    def counted() -> bool:
        """The first answer may be that of before the failure, while the next is made."""
        page.goto("fleet.html")
        page.locator("body[data-ready]").wait_for()
        return page.get_by_text("TargetNotFound").count() > 0

    wait_for("the failure is counted", counted, 30, pause=1)
    page.get_by_text("TargetNotFound").click()
    expect(page.get_by_text("bucket no-such-bucket").first).to_be_visible()


@pytest.mark.parametrize("path", ["", "fleet.html", f"export.html?dag={DAG}"])
def test_the_page_follows_the_dark_scheme(path: str, page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(path)
    page.wait_for_load_state("networkidle")
    red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")[:3]
    assert max(red, green, blue) < 80
