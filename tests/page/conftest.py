"""Airflow's own tables (SQLite) and application, with DAGs as the dag-processor stores them, runs and receipts."""

import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import structlog
import uvicorn
from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models.base import Base
from airflow.sdk.execution_time.supervisor import (
    InProcessSupervisorComms,
    InProcessTestSupervisor,
    set_supervisor_comms,
)
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from playwright.sync_api import Browser, Page
from sqlalchemy import event, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from data_export_airflow.metadata.task_runs import TaskRuns
from data_export_airflow.page import answers
from data_export_airflow.page import app as page
from demo.rest import wait_for
from tests.page.history import History


@event.listens_for(Engine, "connect")
def _not_durable(connection: Any, _: object) -> None:
    """What is lost with the machine is lost: each of thousands of commits would otherwise wait for its disk."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


#: Rows that Airflow itself put there, and needs.
_KEPT = {"alembic_version", "log_template", "slot_pool"}
Opened = Callable[..., Page]


@pytest.fixture(scope="session")
def _tables() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the FAB provider's own migrations
        initdb()


def empty(session: Session) -> None:
    """Clears Airflow's tables, and what the page remembers of them."""
    tables = [table for table in reversed(Base.metadata.sorted_tables) if table.name not in _KEPT]
    full = session.execute(select(*(select(table).exists().label(table.name) for table in tables))).one()
    for table, has_rows in zip(tables, full, strict=True):
        if has_rows:
            session.execute(table.delete())
    session.commit()
    session.expire_all()
    for cached in (page.overview, page.failures, page.volume):
        if cached._making is not None:  # an answer about the last test's tables would be one about these
            assert not wait([cached._making], 30).not_done
        cached._made = cached._making = None
    answers._volumes._finished = {}
    answers._receipts._known = {}


@pytest.fixture
def db(_tables: None) -> Iterator[Session]:
    """A session on empty tables."""
    with create_session() as session:
        empty(session)
        yield session


@pytest.fixture
def history(db: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(tmp_path))
    return History(db, tmp_path)


@pytest.fixture
def runs(history: History) -> Iterator[TaskRuns]:
    """What a task may ask, by the API server that tasks ask, on the tables of the test."""
    log = structlog.get_logger()
    supervisor = InProcessTestSupervisor(
        id=uuid4(),
        pid=os.getpid(),
        process=psutil.Process(),
        process_log=log,
        client=InProcessTestSupervisor._api_client(),
    )
    supervisor.comms = InProcessSupervisorComms(supervisor=supervisor)
    with set_supervisor_comms(supervisor.comms):
        yield TaskRuns(RuntimeTaskInstance)


@pytest.fixture(scope="session")
def airflow(_tables: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Airflow's application with its own auth manager."""
    with pytest.MonkeyPatch.context() as patch:
        folder: Path = tmp_path_factory.mktemp("auth")
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(folder / "passwords.json"))
        patch.setenv(
            "AIRFLOW__API_AUTH__JWT_SECRET", "a secret of these tests alone, long enough to sign tokens with it"
        )
        purge_cached_app()
        yield create_app(apps="core")
        purge_cached_app()


def token(role: str, teams: list[str] | None = None) -> str:
    return str(get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=role, role=role, teams=teams or [])))


@pytest.fixture(scope="session")
def address(airflow: Any) -> Iterator[str]:
    """The application behind a real HTTP server."""
    server = uvicorn.Server(uvicorn.Config(airflow, host="127.0.0.1", port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for("the server is up", lambda: server.started, 30, pause=0.05)
    prepared = (page.overview, page.failures, page.volume)
    wait_for("the page's first answers are made, unasked", lambda: all(cached._made for cached in prepared), 30)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


_OF_USERS = r"""() => document.querySelectorAll(".about dd").forEach((each) => {
  each.firstChild.data = each.firstChild.data.replace(/\S+\/(?=[\w-]+\.yaml)/, "include/customers/");
})"""


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Keeps a picture where `--screenshots FOLDER` asks for it."""
    folder = request.config.getoption("--screenshots")

    def keep(tab: Page, name: str, **options: Any) -> None:
        if folder:
            tab.evaluate(_OF_USERS)  # the folder of these tests is nobody's
            tab.screenshot(path=Path(folder) / f"{name}.png", **options)

    return keep


@pytest.fixture
def opened(chromium: Browser, address: str) -> Iterator[Opened]:
    """Opens a file of the page as a user, and waits until it shows; an error of its scripts fails the test."""
    contexts, errors = [], []

    def show(
        path: str,
        role: str = "admin",
        scheme: str = "light",
        width: int = 1400,
        height: int = 900,
        refused: bool = False,  # whether the server is to refuse something, which Chromium reports as an error
    ) -> Page:
        context = chromium.new_context(
            base_url=f"{address}/data-exports/",
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        contexts.append(context)
        context.add_cookies([{"name": "_token", "value": token(role), "url": address}])
        tab = context.new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: errors.append(message.text) if message.type == "error" and not refused else 0)
        tab.goto(path)
        tab.locator("body[data-ready]").wait_for()
        return tab

    yield show
    for context in contexts:
        context.close()
    assert errors == []
