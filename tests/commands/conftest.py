"""The fixtures of a real source."""

from tests.unit.source_kit import database, one_order, server, source

__all__ = ["database", "one_order", "server", "source"]
