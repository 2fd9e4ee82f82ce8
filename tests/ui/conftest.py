"""A real Airflow with deliveries, and a Chromium that is signed in to it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from demo.airflow import USER
from demo.rest import wait_for
from demo.session import Session
from tests.ui.exports import DAG, FAILING, FILE, HOSTILE, NAME, WITHOUT_BUCKET, over


@pytest.fixture(scope="session")
def delivered(session: Session, customers: Path) -> Session:
    """The 16th and the 20th delivered, the 17th to the 19th not; one export that fails; one file with markup in it."""
    for name, text in ((NAME, FILE), WITHOUT_BUCKET, HOSTILE):
        (customers / f"{name}.yaml").write_text(text)
    wait_for("the DAGs are there", lambda: session.api.dag_ids() >= {DAG, FAILING}, 60)
    session.api.unpause(DAG)
    session.api.unpause(FAILING)
    _backfilled(session, DAG, 16, 1)
    _backfilled(session, FAILING, 16, 1)
    _backfilled(session, DAG, 20, 2)
    return session


def _backfilled(session: Session, dag: str, day: int, runs: int) -> None:
    window = datetime(2025, 3, day, tzinfo=UTC)
    session.api.backfill(dag, window, window)
    wait_for(f"runs of {dag}", lambda: over(session, dag) == runs, 200, pause=1)


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
