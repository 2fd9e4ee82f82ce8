"""What a plain value means by the core schema of YAML 1.2 (yaml.org/spec/1.2.2, section 10.3.2)."""

import re

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL = re.compile(r"[-+]?[0-9]+", re.ASCII)
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|()\.(nan|NaN|NAN)")

_LONGEST_NUMBER = 300  # Python refuses integers of more than 4,300 digits


def is_null(text: str) -> bool:
    return text in _NULLS


def core_value(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar. What YAML 1.1 guesses beside (`no`, `22:22`, `1_0`, dates) is text."""
    if is_null(text):
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if len(text) > _LONGEST_NUMBER:
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float((special[1] or "") + (special[2] or special[4]).lower())
    return text
