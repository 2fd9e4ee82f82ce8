"""A real source, and Airflow's own tables."""

import warnings

import pytest
from airflow.utils.db import initdb

from tests.unit.source_kit import database, one_order, server, source

__all__ = ["database", "one_order", "server", "source"]


@pytest.fixture(scope="session")
def tables() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Airflow's own migrations warn
        initdb()
