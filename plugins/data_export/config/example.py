"""Makes a customer file from a commented example, which stays the only text that explains the keys.

Lines are edited, not parsed and written anew, since the comments are what the example is for.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from data_export.config.load import load_customer
from data_export.config.models import EXPORTS
from data_export.config.platform import ROOT
from data_export.config.problems.explain import field_at
from data_export.config.reading.yaml_lines import Document, Location, read_document

#: A text, or a list of texts, by dotted key: `connector_config.storage_uri`.
Values = Mapping[str, str | list[str]]

_FOLDER = ROOT / "include" / "examples"
_PLAIN = re.compile(r"[A-Za-z0-9/](?:[\w./@+-]|:(?=\S))*", re.ASCII)


def examples() -> dict[str, Path]:
    """The example of each connector, by the scheme that it serves: gs, s3, sftp, email."""
    return {load_customer(path).scheme: path for path in sorted(_FOLDER.glob("*.yaml"))}


def filled(example: Path, values: Values) -> str:
    """The example's text with these values.

    Every other key has its default; where it has none, its line becomes a comment. What an example shows of another
    customer never gets into a file.
    """
    document = read_document(example)
    lines: list[str | None] = [*example.read_text(encoding="utf-8").splitlines()]
    left = dict(values)
    kept = False
    for location in reversed(document.lines):  # bottom up: a mapping after all its keys, and line numbers stay right
        if isinstance(location[-1], int):
            continue
        if isinstance(_at(document, location), dict):
            if not kept:
                _comment(lines, document.lines[location])
            kept = False
            continue
        value = left.pop(".".join(map(str, location)), None) or _default(document, location)
        kept = kept or (len(location) > 1 and value is not None)
        _write(lines, document, location, value)
    _add(lines, document, left)
    return "\n".join(line for line in lines if line is not None) + "\n"


def _at(document: Document, location: Location) -> Any:
    value: Any = document.values
    for part in location:
        value = value[part]
    return value


def _default(document: Document, location: Location) -> str | None:
    """What the key has where nobody sets it; the example's own where it must be set, or stays null."""
    shown = _at(document, location)
    field = field_at(EXPORTS[document.values["connector_type"]], location)
    default = field.default if field is not None else None
    if default is PydanticUndefined:
        return shown if isinstance(shown, str) else None
    if isinstance(default, bool):
        return str(default).lower()
    return None if default is None else str(default)


def _write(lines: list[str | None], document: Document, location: Location, value: str | list[str] | None) -> None:
    number = document.lines[location]
    items = [line for place, line in document.lines.items() if place[:-1] == location and isinstance(place[-1], int)]
    if value is None:
        if _at(document, location) is not None:
            for line in (number, *items):
                _comment(lines, line)
        return
    indent = "  " * (len(location) - 1)
    for line in items:
        lines[line - 1] = None
    lines[number - 1] = _entry(indent, str(location[-1]), value)


def _add(lines: list[str | None], document: Document, values: Values) -> None:
    """Keys that the example does not show: nested ones at the end of their mapping, others before the connector."""
    added: dict[str, list[str]] = {}
    for key, value in values.items():
        parent, _, name = key.rpartition(".")
        added.setdefault(parent, []).append(_entry("  " if parent else "", name, value))
    for parent, entries in added.items():
        if not parent:
            first = document.lines["connector_type",] - 1
            lines[first] = "\n".join([*entries, "", lines[first] or ""])
        elif (parent,) in document.lines:
            lines[document.lines[parent,] - 1] = f"{parent}:"  # it may have become a comment
            last = max(line for place, line in document.lines.items() if place[0] == parent) - 1
            lines[last] = "\n".join([*filter(None, [lines[last]]), *entries])
        else:
            lines += ["", f"{parent}:", *entries]


def _entry(indent: str, key: str, value: str | list[str]) -> str:
    if isinstance(value, str):
        return f"{indent}{key}: {_scalar(value)}"
    return "\n".join([f"{indent}{key}:", *(f"{indent}  - {_scalar(item)}" for item in value)])


def _scalar(value: str) -> str:
    """As YAML reads it back: in quotes where that is not certain without."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _comment(lines: list[str | None], number: int) -> None:
    line = lines[number - 1] or ""
    text = line.lstrip()
    lines[number - 1] = f"{line[: len(line) - len(text)]}# {text}"
