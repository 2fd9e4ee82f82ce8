"""Says in plain words what pydantic found wrong with a value, naming the value and the fix."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from data_export.config.fields import quoted
from data_export.config.reading.yaml_lines import Location

Model = type[BaseModel]
_SECRET = re.compile(
    r"pass(w|_|-|$)|pwd|secret|token|credential|(access|api)[_-]?key|keyfile|key[_-]?json|service[_-]?account",
    re.IGNORECASE,
)
_LIST = re.compile(r"[,;\s]+")


def explain(error: ErrorDetails, model: Model, location: Location) -> str:
    """The message for one error at `location` of `model`; never shows a value whose key speaks of a passphrase."""
    kind = error["type"]
    if kind == "missing":
        field = field_at(model, location)
        return f"is missing: add it ({field.description if field else 'required'})"
    if kind == "extra_forbidden":
        return unknown_key(str(location[-1]), list(keys_of(model_at(model, location[:-1]))))
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if error["input"] is None:
        return "is empty: give it a value, or remove it if it is not needed"
    hidden = any("passphrase" in str(part) for part in location)
    shown = "the value" if hidden or isinstance(error["input"], dict | list) else quoted(error["input"])
    if kind == "tuple_type" and (item := _wrong_item(error["input"], model, location)):
        return f"{shown} is not a list: write it in brackets, e.g. [first, second]; and {item}"
    words = _WORDS.get(kind)
    return words(shown, error) if words else f"{shown} is wrong: {error['msg']}"


def _wrong_item(value: object, model: Model, location: Location) -> str | None:
    """What is wrong with a value that should be a list, were it one: otherwise only the next look would find it."""
    field = field_at(model, location)
    if not isinstance(value, str) or field is None:
        return None
    try:
        TypeAdapter(field.rebuild_annotation()).validate_python(_LIST.split(value.strip("[] ")))
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        return explain(first, model, location) if first["loc"] else None
    return None


def keys_of(model: Model) -> dict[str, FieldInfo]:
    """The keys of a model as a file spells them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def near_key(value: object, choices: list[str]) -> str | None:
    """The choice that was probably meant; `_` and `-`, capitals and small letters count as the same."""
    found = get_close_matches(str(value)[:80].lower().replace("_", "-"), [c.replace("_", "-") for c in choices], 1)
    return next((c for c in choices if [c.replace("_", "-")] == found), None)


def near(value: object, choices: list[str]) -> str:
    """` (did you mean x?)`, or nothing."""
    found = near_key(value, choices)
    return f" (did you mean {found}?)" if found else ""


def unknown_key(key: str, known: list[str]) -> str:
    """The message for a key that a mapping of the `known` ones has not: a secret's place, or a key that is near."""
    if "passphrase" in key.lower() and (meant := next((each for each in known if "passphrase" in each), None)):
        return f"is not a key that is known here: did you mean {meant}?"
    if _SECRET.search(key):
        return "does not belong here: put passwords and other secrets into an Airflow connection, named by conn_id"
    return f"is not a key that is known here{near(key, known)}: remove it, or use one of {', '.join(known)}"


def model_at(model: Model, location: Location) -> Model:
    """The model of the mapping at `location` of `model`."""
    for part in location:
        field = keys_of(model).get(str(part))
        annotation = field.annotation if field else None
        for one in (annotation, *get_args(annotation)):  # of a list, the model of its items
            if isinstance(one, type) and issubclass(one, BaseModel):
                model = one
    return model


def field_at(model: Model, location: Location) -> FieldInfo | None:
    """The declaration of a key; None where there is no such key."""
    return keys_of(model_at(model, location[:-1])).get(str(location[-1]))


def _choice(shown: str, error: ErrorDetails) -> str:
    expected = str(error["ctx"]["expected"])
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    return f"{shown} is not one of {', '.join(choices)}{near(error['input'], choices)}: write one of these"


def _boolean(shown: str, _: ErrorDetails) -> str:
    return f"{shown} is neither true nor false: write one of the two"


def _integer(shown: str, _: ErrorDetails) -> str:
    return f"{shown} is not a whole number: write it in digits alone, e.g. 10, without leading zeros"


def _number(shown: str, _: ErrorDetails) -> str:
    return f"{shown} is not a number: write it in digits, with a point for parts, e.g. 0.5"


def _low(shown: str, error: ErrorDetails) -> str:
    return f"{shown} is too small: write {error['ctx']['ge']} or more"


def _high(shown: str, error: ErrorDetails) -> str:
    return f"{shown} is too big: write {error['ctx']['le']} or less"


def _text(shown: str, _: ErrorDetails) -> str:
    return f"{shown} is not a single text: write one value on the key's line"


def _list(shown: str, error: ErrorDetails) -> str:
    example = "[first, second]" if shown == "the value" else f"[{error['input']}]" if len(shown) < 60 else "[...]"
    return f"{shown} is not a list: write it in brackets, e.g. {example}"


def _short(_: str, error: ErrorDetails) -> str:
    return "is an empty list: name at least one" if error["type"] == "too_short" else "is an empty text: fill it in"


def _long(_: str, error: ErrorDetails) -> str:
    return f"has more than {error['ctx']['max_length']} items: split it over several files"


def _uuid(shown: str, error: ErrorDetails) -> str:
    if isinstance(error["input"], dict):
        return "is a mapping within a list: write names and uuids as {Paris: uuid, Lyon: uuid}, without the brackets"
    return f"{shown} is not a uuid: copy it whole, such as 433a60f6-9756-473e-b1e9-9e89e24bb787"


def _mapping(shown: str, _: ErrorDetails) -> str:
    return f"{shown} is not a mapping: write its keys on the lines below, indented"


#: By pydantic's error type: from the shown value and the error to the message.
_WORDS: dict[str, Callable[[str, Any], str]] = {
    "literal_error": _choice,
    "bool_parsing": _boolean,
    "bool_type": _boolean,
    "int_parsing": _integer,
    "int_parsing_size": _integer,
    "int_type": _integer,
    "int_from_float": _integer,
    "float_parsing": _number,
    "float_type": _number,
    "finite_number": _number,
    "greater_than_equal": _low,
    "less_than_equal": _high,
    "string_type": _text,
    "tuple_type": _list,
    "too_short": _short,
    "string_too_short": _short,
    "too_long": _long,
    "uuid_parsing": _uuid,
    "uuid_type": _uuid,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
    "dict_type": _mapping,
}
