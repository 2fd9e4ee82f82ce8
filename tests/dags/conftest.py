"""Airflow's own tables, for what only they can prove."""

from tests.page.conftest import _tables, db, history

__all__ = ["_tables", "db", "history"]
