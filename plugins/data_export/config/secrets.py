"""References to secrets: what a customer file holds in place of the secret itself."""

import re
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, SecretStr

#: What a literal secret becomes wherever a configuration is written down; whoever reads it back asks the file again.
MASK = "**********"
_REFERENCE = re.compile(r"(env|var):([A-Za-z_][A-Za-z0-9_.-]*)")
_MEANT_AS_REFERENCE = re.compile(r"\s*(env|var)\s*:", re.IGNORECASE)


def reference_of(value: SecretStr) -> tuple[str, str] | None:
    """`("env", NAME)` or `("var", NAME)`; None where the value is the secret itself, written in the file."""
    match = _REFERENCE.fullmatch(value.get_secret_value())
    return (match[1], match[2]) if match else None


def _checked(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        raise ValueError("is empty: leave the key out, or write env:NAME or var:NAME")
    if _MEANT_AS_REFERENCE.match(text) and reference_of(value) is None:
        raise ValueError("is not a whole reference: write env:NAME or var:NAME, lower case and without spaces")
    return value


def _written(value: SecretStr) -> str:
    return value.get_secret_value() if reference_of(value) else MASK


SecretReference = Annotated[SecretStr, AfterValidator(_checked), PlainSerializer(_written)]
