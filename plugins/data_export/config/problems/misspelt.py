"""Reads a file as it was probably meant where keys are misspelt, so that one mistake is told once."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from pydantic import BaseModel

from data_export.config.models import EXPORTS, CustomerExport
from data_export.config.problems.explain import keys_of, model_at, near_key, unknown_key
from data_export.config.problems.problems import MOST_PROBLEMS, ConfigProblem
from data_export.config.reading.yaml_lines import Document, Location
from data_export.config.sections import CustomerLimits


def respelt(
    document: Document, place: Location, known: Iterable[str]
) -> tuple[Document, dict[Location, ConfigProblem]]:
    """The document with the misspelt keys of the mapping at `place` renamed, and what is to be told of each.

    Only a key that is not there can have been meant, and none is renamed that has its meaning elsewhere in a file.
    """
    keys, values = list(known), document.values
    for part in place:
        inner = values.get(str(part))
        values = inner if isinstance(inner, dict) else {}
    renamed: dict[str, str] = {}
    problems: dict[Location, ConfigProblem] = {}
    for key in islice((key for key in values if key not in keys and key not in _KEYS), MOST_PROBLEMS):
        free = [each for each in keys if each not in values and each not in renamed.values()]
        if meant := near_key(key, free):
            renamed[key] = meant
            problems[*place, meant] = document.problem((*place, key), unknown_key(key, keys, meant))
    return (_renamed(document, place, renamed) if renamed else document), problems


def _renamed(document: Document, place: Location, names: dict[str, str]) -> Document:
    depth = len(place)

    def moved(location: Location) -> Location:
        if location[:depth] != place or len(location) == depth:
            return location
        return (*place, names.get(str(location[depth]), location[depth]), *location[depth + 1 :])

    def within(values: dict[str, object], path: Location) -> dict[str, object]:
        if not path:
            return {names.get(key, key): value for key, value in values.items()}
        key = str(path[0])
        inner: Any = values[key]  # a mapping, or no key of it would have been renamed
        return values | {key: within(inner, path[1:])}

    lines = {moved(location): line for location, line in document.lines.items()}
    return replace(document, values=within(document.values, place), lines=lines)


_MODELS: list[type[BaseModel]] = [CustomerExport, CustomerLimits]
_MODELS += [model_at(export, ("connector_config",)) for export in EXPORTS.values()]
_KEYS = frozenset(key for model in _MODELS for key in keys_of(model))
