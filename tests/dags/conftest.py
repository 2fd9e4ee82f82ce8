"""Airflow's own tables, for what only they can prove; a mail server, and a staging area beside it."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
import structlog
from airflow.sdk.execution_time.supervisor import (
    InProcessSupervisorComms,
    InProcessTestSupervisor,
    set_supervisor_comms,
)

from demo.data import build, stored_images
from demo.fill import fill_source
from demo.servers.postgres import PostgresServer
from demo.servers.smtp import SmtpServer
from tests.dags.mail_server import connect_to
from tests.page.conftest import _tables, airflow, db, history, runs

__all__ = ["_tables", "airflow", "db", "history", "runs"]


@pytest.fixture
def supervisor() -> Iterator[None]:
    """Lets the test ask Airflow's tables as a task does, through the API server that tasks ask."""
    supervisor = InProcessTestSupervisor(
        id=uuid4(),
        pid=os.getpid(),
        process=psutil.Process(),
        process_log=structlog.get_logger(),
        client=InProcessTestSupervisor._api_client(),
    )
    supervisor.comms = InProcessSupervisorComms(supervisor=supervisor)
    with set_supervisor_comms(supervisor.comms):
        yield


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpServer]:
    monkeypatch.setenv("DATA_EXPORT_STAGING__URI", f"file://{tmp_path}/staging/")
    with SmtpServer(tmp_path / "mail") as server:
        connect_to(monkeypatch, server.port)
        yield server


@pytest.fixture(scope="session")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Path]]:
    """A server with the demo's source in the database `filled`, of which each test gets a copy; and the image store."""
    data, images = build(), tmp_path_factory.mktemp("images")
    for name, content in stored_images(data):
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with PostgresServer(tmp_path_factory.mktemp("source"), durable=False) as server:
        fill_source(server.create_database("filled"), data, "reader", "secret")
        yield server, images


@pytest.fixture
def installation(
    tmp_path: Path, _filled: tuple[PostgresServer, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A real source and image store, staging and targets in local folders; nobody writes to the image store."""
    server, images = _filled
    source = f"source_{uuid4().hex}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {source} TEMPLATE filled")
        for name, value in {
            "AIRFLOW_CONN_EXPORT_SOURCE": server.dsn(source),
            "DATA_EXPORT_SOURCE__IMAGES_URI": f"file://{images}/{{site_id}}/{{input_id}}{{file_extension}}",
            "DATA_EXPORT_STAGING__URI": f"file://{tmp_path}/staging/",
            "DATA_EXPORT_TARGETS__ALLOW_LOCAL": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield tmp_path
        connection.execute(f"DROP DATABASE {source} WITH (FORCE)")


@pytest.fixture
def customers(installation: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = installation / "customers"
    folder.mkdir()
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(folder))
    return folder
