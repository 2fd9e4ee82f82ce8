"""The fixtures of a real source."""

from tests.unit.source_kit import database, one_order, server, source, sql

__all__ = ["database", "one_order", "server", "source", "sql"]
