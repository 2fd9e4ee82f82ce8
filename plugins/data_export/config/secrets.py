"""References to secrets: what a customer file holds in place of the secret itself."""

import re
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, SecretStr

#: What a literal secret becomes wherever a configuration is written down; whoever reads it back asks the file again.
MASK = "**********"
_REFERENCE = re.compile(r"(env|var):([A-Za-z_][A-Za-z0-9_.-]*)")


def reference_of(value: SecretStr) -> tuple[str, str] | None:
    """`("env", NAME)` or `("var", NAME)`; None where the value is the secret itself, written in the file."""
    match = _REFERENCE.fullmatch(value.get_secret_value())
    return (match[1], match[2]) if match else None


def _not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("is empty: leave the key out, or write env:NAME or var:NAME")
    return value


def _written(value: SecretStr) -> str:
    return value.get_secret_value() if reference_of(value) else MASK


SecretReference = Annotated[SecretStr, AfterValidator(_not_empty), PlainSerializer(_written)]
