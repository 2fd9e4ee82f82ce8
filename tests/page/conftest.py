"""Airflow's own tables (SQLite), with DAGs as the dag-processor stores them, runs and receipts."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.models.base import Base
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy.orm import Session

from tests.page.history import History

#: Rows that Airflow itself put there, and needs.
_KEPT = {"alembic_version", "log_template", "slot_pool", "alembic_version_edge3"}


@pytest.fixture(scope="session")
def _tables() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the FAB provider's own migrations
        initdb()


@pytest.fixture
def db(_tables: None) -> Iterator[Session]:
    """A session on empty tables."""
    with create_session() as session:
        for table in reversed(Base.metadata.sorted_tables):
            if table.name not in _KEPT:
                session.execute(table.delete())
        session.commit()
        yield session


@pytest.fixture
def history(db: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    customers = tmp_path / "customers"
    customers.mkdir()
    monkeypatch.setenv("DATA_EXPORT_CUSTOMERS_DIR", str(customers))
    assert os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
    return History(db, customers)
