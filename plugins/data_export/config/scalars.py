"""Numbers and booleans as YAML 1.2 spells them, hence as an editor with the JSON Schema reads them.

pydantic alone would take `on` for true and `4_0_0` for 400, as YAML 1.1 does, and other readers of the file would not.
"""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_BOOLEAN = "true|True|TRUE|false|False|FALSE"
_WHOLE = "-?(0|[1-9][0-9]*)"  # without the leading zeros that YAML 1.1 takes for octal
_NUMBER = rf"{_WHOLE}(\.[0-9]+)?([eE][-+]?[0-9]+)?"


def _spelled(pattern: str, error_type: str) -> Callable[[object], object]:
    """Passes text of the pattern only; `explain` has the words for the error types, which are pydantic's own."""
    spelling = re.compile(pattern)

    def check(value: object) -> object:
        if isinstance(value, str) and not spelling.fullmatch(value):
            raise PydanticCustomError(error_type, "not spelled as in YAML 1.2")
        return value

    return check


#: Behind the bounds where a type has some, lest the JSON Schema lose them.
SPELLED_WHOLE = BeforeValidator(_spelled(_WHOLE, "int_parsing"))
SPELLED_NUMBER = BeforeValidator(_spelled(_NUMBER, "float_parsing"))
Flag = Annotated[bool, BeforeValidator(_spelled(_BOOLEAN, "bool_parsing"))]
Whole = Annotated[int, SPELLED_WHOLE]
