"""The fixtures of a real source."""

from tests.unit.source_kit import database, server, source

__all__ = ["database", "server", "source"]
