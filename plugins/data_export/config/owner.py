"""Whom a customer file names, even where the rest of it is broken."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from data_export.config.fields import Email
from data_export.config.reading.yaml_lines import read_document
from data_export.errors import ConfigError

_EMAIL: TypeAdapter[str] = TypeAdapter(Email)


def owner_in(path: Path) -> str | None:
    """The `owner` of the file, if it can be read and is an address."""
    try:
        return _EMAIL.validate_python(read_document(path).values.get("owner"))
    except (ConfigError, ValidationError, OSError):
        return None
