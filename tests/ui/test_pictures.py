"""Pictures of Airflow's own pages for the handbook: `pytest tests/ui --screenshots docs/images` makes them anew."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from demo.rest import wait_for
from demo.session import Session
from tests.ui.exports import DAG, FAILING, HOSTILE

pytestmark = pytest.mark.e2e
Keep = Callable[..., None]
ROOT = Path(__file__).parents[2]
#: The folders of these tests are nobody's.
WITHOUT_FOLDERS = r"""(folders) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode())
    texts.currentNode.data = folders.reduce(
      (text, folder) => text.replaceAll(`${folder}/`, ""),
      texts.currentNode.data.replace(/\S+\/customers\d*\//g, "include/customers/"));
}"""


@pytest.fixture(scope="module", autouse=True)
def folder(request: pytest.FixtureRequest) -> Path:
    """Asked for first: without one no browser starts."""
    folder = request.config.getoption("--screenshots")
    if folder is None:
        pytest.skip("--screenshots FOLDER makes the handbook's pictures")
    return Path(folder)


@pytest.fixture
def keep(page: Page, folder: Path) -> Keep:
    page.set_viewport_size({"width": 1280, "height": 900})

    def save(name: str) -> None:
        page.mouse.move(0, 0)
        page.wait_for_timeout(1500)  # until Airflow's page moves no more
        page.evaluate(WITHOUT_FOLDERS, [str(ROOT), sys.base_prefix])
        page.screenshot(path=folder / f"airflow-{name}.png")

    return save


def test_the_grid(page: Page, keep: Keep, delivered: Session) -> None:
    run = next(run["dag_run_id"] for run in delivered.api.runs([DAG]) if run["state"] == "success")
    page.goto(f"{delivered.airflow.url}/dags/{DAG}/runs/{run}")
    expect(page.get_by_text("prepare", exact=True).first).to_be_visible(timeout=30_000)
    keep("grid")


def test_the_form_of_a_backfill(page: Page, keep: Keep, delivered: Session) -> None:
    form = _form(page, delivered)
    form.get_by_text("Backfill", exact=True).first.click()
    for place, date in enumerate(("2025/03/17", "2025/03/19")):
        form.get_by_role("group").nth(place).locator("p").first.click()
        page.get_by_placeholder("YYYY/MM/DD").last.fill(date)
        page.get_by_placeholder("HH:mm").last.fill("00:00")
        page.keyboard.press("Enter")
        form.get_by_role("heading").first.click()
    keep("backfill")


def test_the_form_of_a_range_by_hand(page: Page, keep: Keep, delivered: Session) -> None:
    form = _form(page, delivered)
    expect(form.get_by_text("window ends (exclusive)")).to_be_visible(timeout=30_000)
    form.get_by_text("window ends (exclusive)").scroll_into_view_if_needed()
    keep("trigger")


def test_the_log_of_a_failed_task(page: Page, keep: Keep, delivered: Session) -> None:
    (run,) = delivered.api.runs([FAILING])
    failed = next(
        task for task in delivered.api.task_instances(FAILING, run["dag_run_id"]) if task["state"] == "failed"
    )
    path = f"dags/{FAILING}/runs/{run['dag_run_id']}/tasks/{failed['task_id']}/mapped/{failed['map_index']}"
    page.set_viewport_size({"width": 1600, "height": 900})
    page.goto(f"{delivered.airflow.url}/{path}")
    expect(page.get_by_text("TargetNotFound").last).to_be_visible(timeout=30_000)
    keep("log")


def test_the_import_errors(page: Page, keep: Keep, delivered: Session, customers: Path) -> None:
    name, text = HOSTILE
    (customers / f"{name}.yaml").unlink()  # of use to tests, but no picture of what people see
    wait_for("its error goes", lambda: not any(name in error for error in delivered.api.import_errors()), 60)
    page.goto(delivered.airflow.url)
    page.get_by_text("Dag Import Error").first.click(timeout=30_000)
    page.get_by_role("dialog").get_by_text("broken.yaml.py").click()
    expect(page.get_by_text("broken.yaml").first).to_be_visible()
    keep("import-errors")
    (customers / f"{name}.yaml").write_text(text)


def _form(page: Page, delivered: Session) -> Locator:
    page.goto(f"{delivered.airflow.url}/dags/{DAG}")
    page.get_by_role("button", name="Trigger").first.click(timeout=30_000)
    form = page.get_by_role("dialog").filter(has_text="Single Run")
    expect(form).to_be_visible()
    return form
