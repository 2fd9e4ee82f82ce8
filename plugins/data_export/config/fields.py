"""Checked text that customer files and settings share, references to secrets, and how a message may show a value."""

import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from pathlib import PurePath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")  # stem of a customer file
SUFFIXES = (".yaml", ".yml")  # of which the first is right
_EMAIL = re.compile(r"(?=.{3,254}$)[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_CONN_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,250}")  # Airflow makes it the last part of an address
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?\.?|[0-9A-Fa-f:]{2,45}")
PERCENT_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_PLACEHOLDER = re.compile(r"\{[^/]*\}|\$\(|(?<!%)%[-#]?[aAbBcdFgGHIjmMpSTuUVwWxXyYzZ](?![0-9A-Fa-f])")
_WORD = re.compile(r"[A-Za-z0-9+/=]{20,}")
_PASSWORD = re.compile(r":(?!//)(?!\d{1,5}(/|$))")  # as in user:password, but not of a scheme or before a port
_SHOWN = 80
_HIDDEN = "the value (not shown: it may hold a secret)"
_MAX_PART_BYTES = 255  # a file name's limit on every common file system
_MAX_PATH_BYTES = 800  # bucket keys end at 1,024 bytes; ours add up to 150 to this


def quoted(value: object) -> str:
    """The value as a message may show it: quoted, on one line, at most 80 characters.

    One that may hold a password, a key or a signature is not shown at all, since where in it that stands is anybody's
    guess: with an `@`, a query, or a word of random characters.
    """
    text = str(value)
    if "@" in text or "PRIVATE KEY" in text or _has_query(text) or any(map(_random, _WORD.findall(text[:_SHOWN]))):
        return _HIDDEN
    return _cut(text)


def _has_query(text: str) -> bool:
    """Whether it may be a signed address. No regular expression, which would take the square of the length."""
    return "=" in text.partition("?")[2] or "?" in text.partition("://")[2]


def quoted_address(value: str) -> str:
    """As `quoted`; of an address, a path or an account what stands behind a `:` is not shown either."""
    return _HIDDEN if _PASSWORD.search(value) else quoted(value)


def _quoted_email(value: str) -> str:
    """As `quoted`, but an `@` alone is as it should be."""
    return _cut(value) if quoted(value.replace("@", "")) != _HIDDEN and not {*value} & {*":/"} else _HIDDEN


def _cut(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def _random(word: str) -> bool:
    """Whether it looks like base64 or hexadecimal digits: small letters, capitals and digits change all the time."""
    kinds = [(c.isdigit(), c.isupper()) for c in word if c.isalnum()]
    return sum(one != other for one, other in pairwise(kinds)) > 0.3 * len(kinds)


def name_meant(path: PurePath) -> str | None:
    """The export whose file this is, or would be under a right name; None where nothing of the name can be kept."""
    if NAME.fullmatch(path.stem) and path.suffix == ".yaml":
        return path.stem
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in path.stem.lower())
    return kept.strip("-")[:63].strip("-") or None


def plain(value: str) -> str:
    """The text, if every character of it can be seen.

    Raises:
        ValueError: control, direction, zero-width or unassigned characters, spaces other than the plain one.
    """
    if not value.isprintable():
        unseen = next(character for character in value if not character.isprintable())
        raise ValueError(f"{quoted_address(value)} has the invisible character U+{ord(unseen):04X}: remove it")
    return value


def path_inside(path: str) -> str:
    """The path, if no part of it can leave the folder it is joined to, on any server.

    Checked as written and in compatibility form, since servers may fold look-alikes such as a full-width dot; parts of
    dots and spaces only are refused because Windows servers cut those off.

    Raises:
        ValueError: `..`, `.`, empty parts, backslashes, invisible characters, parts or paths too long for a bucket.
    """
    plain(path)
    # First, since the other forms of a long one take a second. Parts that are empty are refused in any case.
    sizes = [len(part.encode()) for part in path[: 2 * _MAX_PATH_BYTES + 1].split("/")]
    if len(path) > 2 * _MAX_PATH_BYTES or max(sizes) > _MAX_PART_BYTES or sum(sizes) > _MAX_PATH_BYTES:
        raise ValueError(
            f"{quoted_address(path)} is too long: at most {_MAX_PART_BYTES} bytes a folder and {_MAX_PATH_BYTES} in all"
        )
    for form in dict.fromkeys((path, unicodedata.normalize("NFKC", path))):
        if "\\" in form:
            raise ValueError(f"{quoted_address(path)} has a backslash: separate folders with '/'")
        inner = form.removeprefix("/").removesuffix("/")
        if inner and not all(part.strip(". ") for part in inner.split("/")):
            raise ValueError(f"{quoted_address(path)} has an empty, '.' or '..' part: write the plain folder")
    return path


def no_placeholder(path: str) -> str:
    """The path of a target, if it is meant as it is written.

    Raises:
        ValueError: `{date}`, `%Y`, `$(date)`: nothing would fill it in.
    """
    if found := _PLACEHOLDER.search(path):
        raise ValueError(
            f"{quoted_address(path)} holds {found[0]!r}, which nothing fills in: write the plain folder; the window is "
            "in the name of each file below it"
        )
    return path


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise ValueError(f"{_quoted_email(value)} is not an e-mail address: write one such as bi-team@customer.example")
    return value


def _conn_id(value: str) -> str:
    if not _CONN_ID.fullmatch(value):
        raise ValueError(
            f"{quoted_address(value)} is not the id of an Airflow connection: use letters, digits, '_', '.' and '-'"
        )
    return value


def _host(value: str) -> str:
    if "@" in value or "/" in value or not _HOST.fullmatch(value):
        raise ValueError(
            f"{quoted_address(value)} is not a host name or address: leave out sftp://, user, port and folder"
        )
    return value


Plain = Annotated[str, AfterValidator(plain)]
Email = Annotated[str, AfterValidator(_email), WithJsonSchema({"type": "string", "format": "email"})]
ConnId = Annotated[str, AfterValidator(_conn_id)]
Host = Annotated[str, AfterValidator(_host)]


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


#: Put after a type's bounds: before them, the JSON Schema would lose the bounds.
SPELLED_WHOLE = BeforeValidator(_spelled(_WHOLE, "int_parsing"))
SPELLED_NUMBER = BeforeValidator(_spelled(_NUMBER, "float_parsing"))
Flag = Annotated[bool, BeforeValidator(_spelled(_BOOLEAN, "bool_parsing"))]
Whole = Annotated[int, SPELLED_WHOLE]


#: What a literal secret becomes wherever a configuration is written down; whoever reads it back asks the file again.
MASK = "**********"
_REFERENCE = re.compile(r"(env|var):([A-Za-z_][A-Za-z0-9_.-]*)")
#: How a variable that `env:` names begins: the others of a worker, such as its database's password, are nobody's.
ENV_PREFIX = "DATA_EXPORT_SECRET_"
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
    if text.startswith("env:") and not text.removeprefix("env:").startswith(ENV_PREFIX):
        renamed = ENV_PREFIX + text.removeprefix("env:")[:_SHOWN]
        raise ValueError(f"names a variable that is not for customer files: rename it on the workers, env:{renamed}")
    return value


def _written(value: SecretStr) -> str:
    return value.get_secret_value() if reference_of(value) else MASK


SecretReference = Annotated[SecretStr, AfterValidator(_checked), PlainSerializer(_written)]
