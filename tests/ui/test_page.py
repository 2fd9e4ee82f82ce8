"""The page "Data exports" in a real Chromium, on a real Airflow."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from data_export.config.models import dag_id
from demo.airflow import USER
from demo.rest import wait_for
from demo.session import Session

pytestmark = pytest.mark.e2e

NAME = "page-s3"
DAG = dag_id(NAME)
#: The source has work orders on the 16th to the 18th only, so the 20th is delivered and empty.
FILE = """\
site_id: [9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d]
interval: daily
start_date: 2025-03-16
end_date: 2025-03-21
connector_type: cloud_storage
connector_config:
  storage_uri: s3://demo-customer/page/
  export_images: true
"""
WITHOUT_BUCKET = ("page-failing", FILE.replace("demo-customer", "no-such-bucket"))
HOSTILE = ("page-hostile", "site_id: ['<img src=x onerror=document.title=1>']\n")


@pytest.fixture(scope="module")
def delivered(session: Session, customers: Path) -> Session:
    """The 16th and the 20th delivered, the 17th to the 19th not; one export that fails; one file with markup in it."""
    for name, text in ((NAME, FILE), WITHOUT_BUCKET, HOSTILE):
        (customers / f"{name}.yaml").write_text(text)
    failing = dag_id(WITHOUT_BUCKET[0])
    wait_for("the DAGs are there", lambda: session.api.dag_ids() >= {DAG, failing}, 60)
    session.api.unpause(DAG)
    session.api.unpause(failing)
    _backfilled(session, DAG, 16, 1)
    _backfilled(session, failing, 16, 1)
    _backfilled(session, DAG, 20, 2)
    return session


def _backfilled(session: Session, dag: str, day: int, runs: int) -> None:
    window = datetime(2025, 3, day, tzinfo=UTC)
    session.api.backfill(dag, window, window)
    wait_for(f"runs of {dag}", lambda: _over(session, dag) == runs, 200, pause=1)


def _no_backfill_is_active(session: Session) -> bool:
    """Airflow has one backfill of a DAG at a time, and notices its end up to half a minute late."""
    found = session.api.request("GET", "/backfills", params={"dag_id": DAG})["backfills"]
    return all(backfill["completed_at"] for backfill in found)


def _over(session: Session, dag: str) -> int:
    return sum(run["state"] in ("success", "failed") for run in session.api.runs([dag]))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: the page is not tested (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, delivered: Session) -> dict[str, object]:
    """Cookies of the Airflow user, as its own sign-in form gives them."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(delivered.airflow.url)
    page.fill("input[name=username]", USER)
    page.fill("input[name=password]", delivered.airflow.password)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Data exports")).to_be_visible(timeout=30_000)
    state: dict[str, object] = dict(context.storage_state())
    context.close()
    return state


@pytest.fixture
def page(chromium: Browser, signed_in: dict[str, object], delivered: Session) -> Iterator[Page]:
    """A page of the signed-in user; an error of its scripts fails the test."""
    context = chromium.new_context(
        storage_state=signed_in,  # type: ignore[arg-type]
        viewport={"width": 1400, "height": 900},
        base_url=f"{delivered.airflow.url}/data-exports/",
    )
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def test_nothing_is_shown_without_signing_in(delivered: Session) -> None:
    for path in ("exports", "problems", f"exports/{DAG}", "fleet"):
        answer = httpx.get(f"{delivered.airflow.url}/data-exports/api/{path}")
        assert answer.status_code == httpx.codes.UNAUTHORIZED, path


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
    assert _over(delivered, DAG) == 2  # nothing happens before the confirmation
    start.click()
    wait_for("the gap's run", lambda: _over(delivered, DAG) == 3, 120, pause=1)


def test_the_fleet_groups_failures_by_reason(page: Page) -> None:
    page.goto("fleet.html")
    page.get_by_text("TargetNotFound").click()
    expect(page.get_by_text("bucket no-such-bucket").first).to_be_visible()


@pytest.mark.parametrize("path", ["", "fleet.html", f"export.html?dag={DAG}"])
def test_the_page_follows_the_dark_scheme(path: str, page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(path)
    page.wait_for_load_state("networkidle")
    red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")[:3]
    assert max(red, green, blue) < 80
