"""Airflow's own tables, for what only they can prove; a mail server, and a staging area beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.servers.smtp import SmtpServer
from tests.dags.mail_server import connect_to
from tests.page.conftest import _tables, airflow, db, history

__all__ = ["_tables", "airflow", "db", "history"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpServer]:
    monkeypatch.setenv("DATA_EXPORT_STAGING__URI", f"file://{tmp_path}/staging/")
    with SmtpServer(tmp_path / "mail") as server:
        connect_to(monkeypatch, server.port)
        yield server
