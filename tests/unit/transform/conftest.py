"""The fixtures of a real source."""

from tests.unit.source_kit import database, server, source, sql

__all__ = ["database", "server", "source", "sql"]
