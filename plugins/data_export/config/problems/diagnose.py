"""From a customer file that is not valid to its problems, with line, key and fix."""

import re
from collections.abc import Set
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError, create_model
from pydantic_core import ErrorDetails

from data_export.config.fields import quoted
from data_export.config.models import EXPORT, EXPORTS, CustomerExport
from data_export.config.problems.explain import explain, keys_of, model_at
from data_export.config.problems.problems import MOST_PROBLEMS, ConfigProblem, and_more
from data_export.config.reading.yaml_lines import Document, Location
from data_export.config.sections import CustomerLimits
from data_export.delivery.connector import ConnectorConfig
from data_export.delivery.registry import CONNECTORS

#: A customer file whose connector cannot be guessed: `connector_config` may hold anything.
_UNKNOWN = create_model("UnknownExport", __base__=CustomerExport, connector_config=(dict[str, Any], ...))

#: Spelled nearly like a connector, but nothing that its keys would help with.
_NOT_SFTP = ("ftp", "ftps", "ftpes", "tftp")


def diagnose(document: Document) -> list[ConfigProblem]:
    """The problems of a file that is not valid, top to bottom: the first ones of many.

    Without a valid `connector_type` pydantic looks no further; then the rest is checked for the connector that was
    probably meant, or, where none can be guessed, without its connector_config.
    """
    written = document.values.get("connector_type")
    tag = written if isinstance(written, str) and written in EXPORTS else _guess(document.values)
    model = EXPORTS.get(tag or "", CustomerExport)
    wrong: list[ConfigProblem] = []
    if tag is None or written != tag:
        wrong.append(document.problem(("connector_type",), _wrong_type(written, tag)))
    errors = sorted(_located(_errors(document.values, tag)), key=lambda located: document.line_of(located[0]))
    others = [_explained(document, *located, model) for located in errors[:MOST_PROBLEMS]]
    problems = sorted([*wrong, *others], key=_line)[:MOST_PROBLEMS]
    left = len(wrong) + len(errors) - len(problems)
    return [*problems, and_more(document.path, left)] if left else problems


def _located(errors: list[ErrorDetails]) -> list[tuple[Location, ErrorDetails]]:
    """The errors that are to be reported, each with its location."""
    parents = {error["loc"][:-1] for error in errors}
    found = []
    for error in errors:
        # pydantic counts valid items only: where items are wrong, report them and not that the list is too short
        if error["type"] == "too_short" and error["loc"] in parents:
            continue
        # pydantic puts the connector's name before the keys
        location = error["loc"][1:] if error["loc"][:1] and error["loc"][0] in EXPORTS else error["loc"]
        found.append((location, error))
    return found


def _explained(
    document: Document, location: Location, error: ErrorDetails, model: type[CustomerExport]
) -> ConfigProblem:
    message = _misplaced(location, model) if error["type"] == "extra_forbidden" else None
    return document.problem(location, message or explain(error, model, location))


def _errors(values: dict[str, Any], tag: str | None) -> list[ErrorDetails]:
    try:
        if tag is None:
            _UNKNOWN.model_validate(values | {"connector_type": "", "connector_config": {}})
        else:
            EXPORT.validate_python(values | {"connector_type": tag})
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _guess(values: dict[str, Any]) -> str | None:
    """The connector that was probably meant: by a near spelling, or by the keys of its connector_config."""
    written, config = values.get("connector_type"), values.get("connector_config")
    if isinstance(written, str):
        name = _as_name(written)
        called = [tag for tag, connector in CONNECTORS.items() if name in connector.also_called]
        if called or name in _NOT_SFTP:
            return called[0] if called else None
        if close := get_close_matches(name, EXPORTS, 1):
            return close[0]
    keys = config if isinstance(config, dict) else ()
    known = [tag for tag, connector in CONNECTORS.items() for key in keys if key in _own_keys(connector)]
    return known[0] if known else None


def _own_keys(connector: type[ConnectorConfig]) -> Set[str]:
    """The keys that no other connector has."""
    others = (other.model_fields.keys() for other in CONNECTORS.values() if other is not connector)
    return connector.model_fields.keys() - {key for keys in others for key in keys}


def _as_name(written: str) -> str:
    return re.sub(r"[-\s]+", "_", written.strip()[:40].lower()).removesuffix("://")


def _wrong_type(written: object, tag: str | None) -> str:
    choices = ", ".join(EXPORTS)
    if written is None:
        return f"is missing: write connector_type: {tag}" if tag else f"is missing: write one of {choices}"
    if isinstance(written, str) and _as_name(written) in _NOT_SFTP:
        return f"{quoted(written)} is another protocol than SFTP: write sftp if the server offers SFTP too (over SSH)"
    hint = f" (did you mean {tag}?)" if tag else ""
    return f"{quoted(written)} is not one of {choices}{hint}: write one of these"


def _misplaced(location: Location, model: type[CustomerExport]) -> str | None:
    """Where a key belongs that is unknown here but known elsewhere."""
    key, nested = str(location[-1]), len(location) > 1
    if nested and key in keys_of(CustomerExport):
        return f"belongs at the top level: move it out of {location[0]}"
    if not nested and key in keys_of(CustomerLimits):
        return "belongs under limits: move it there, indented"
    if key in keys_of(model_at(model, ("connector_config",))):
        return None if nested else "belongs under connector_config: move it there, indented"
    for tag, export in EXPORTS.items():
        if key in keys_of(model_at(export, ("connector_config",))):
            return f"is a key of connector_type {tag}: remove it, or change connector_type"
    return None


def _line(problem: ConfigProblem) -> int:
    return problem.line or 0
