"""Reads a YAML file of settings, with the line of every key.

Every plain value is text, exactly as written, except that nothing, `~` and `null` are None; the models turn text into
numbers, dates and booleans where they expect them. YAML 1.1's own guesses (`no` is false, `22:22` is 1342, `010` is 8,
`1_0` is 10) therefore never happen. Only below a key for which no model knows the types (`typed_below`) a plain value
is what YAML 1.2 says. Tags, anchors, aliases and several documents are refused, so that a small file cannot become a
big value or an object.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_export.config.problems.problems import MOST_PROBLEMS, BrokenFile, ConfigProblem, and_more
from data_export.config.reading.file_text import CUSTOMER_FILE, Size, explain_syntax, read_text

_MAX_DEPTH = 8
_MAX_TYPED_DEPTH = 32
_MAX_KEY = 80  # characters of a key that a message shows

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL = re.compile(r"[-+]?[0-9]+", re.ASCII)
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|()\.(nan|NaN|NAN)")

_LONGEST_NUMBER = 300  # Python refuses integers of more than 4,300 digits

#: Keys and list positions from the top of the file down to a value.
Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A file's top-level mapping and where each key or list item of it stands."""

    path: Path
    values: dict[str, Any]
    lines: dict[Location, int]

    def problem(self, location: Location, message: str, *, is_error: bool = True) -> ConfigProblem:
        """A problem at the location's line."""
        return ConfigProblem(self.path, self.line_of(location), spell(location), message, is_error)

    def line_of(self, location: Location) -> int:
        """Where the location stands, or the nearest thing around it."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def spell(location: Location) -> str | None:
    """`connector_config.emails[1]`, a long key shortened; None for the whole file."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_shortened(part)}" for part in location)
    return text.removeprefix(".") or None


def _shortened(key: str) -> str:
    return key if len(key) <= _MAX_KEY else key[: _MAX_KEY - 3] + "..."


def read_document(path: Path, typed_below: str | None = None, size: Size = CUSTOMER_FILE) -> Document:
    """Reads a file of at most this size.

    Args:
        typed_below: a key below which plain values are numbers, booleans and the like by YAML 1.2, and may be nested
            deeper than elsewhere.

    Raises:
        BrokenFile: with every problem of the file's form.
    """
    text = read_text(path, size)
    reader = _Reader(path, text, typed_below, size)
    try:
        values = reader.document()
    except _TooMuch as much:
        raise BrokenFile([*reader.problems, much.args[0]]) from None
    except yaml.YAMLError as error:
        line, message = explain_syntax(error, text)
        raise BrokenFile([ConfigProblem(path, line, None, message)]) from None
    if reader.problems:
        raise BrokenFile(reader.problems)
    return Document(path, values, reader.lines)


class _TooMuch(Exception):
    """The rest of the file is not read; holds the problem that says so."""


class _Reader:
    """Builds values from parser events, since only events carry lines and leave aliases unresolved."""

    def __init__(self, path: Path, text: str, typed_below: str | None, size: Size) -> None:
        self.path = path
        self.typed_below, self.size = typed_below, size
        self.lines: dict[Location, int] = {}
        self.problems: list[ConfigProblem] = []
        self._values = 0
        self._events: Iterator[Any] = yaml.parse(text, Loader=yaml.CBaseLoader)

    def document(self) -> dict[str, Any]:
        next(self._events)  # start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return self._stop(1, "is empty: begin with a copy of a file from include/examples")
        event = next(self._events)
        values = self._value(event, ())
        if values is None and not self.problems:
            return self._stop(1, "is empty: begin with a copy of a file from include/examples")
        if not isinstance(values, dict) and not self.problems:
            return self._stop(_line(event), "is not a mapping: write lines of the form `key: value`")
        next(self._events)  # end of the document
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            return self._stop(_line(event), "has a second document: put each export into a file of its own")
        return values if isinstance(values, dict) else {}

    def _stop(self, line: int, message: str) -> dict[str, Any]:
        self.problems.append(ConfigProblem(self.path, line, None, message))
        return {}

    def _value(self, event: Any, at: Location) -> Any:
        self._values += 1
        if self._values > self.size.values:
            place = at if len(at) < 2 else at[:-1]  # the list or mapping, not its last item
            message = f"is where the file passes {self.size.values:,} values: {self.size.fix}"
            raise _TooMuch(ConfigProblem(self.path, _line(event), spell(place), message))
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, at, "begins with *, which YAML takes for an alias: put the value in quotes")
            return None
        if event.anchor is not None:
            self._refuse(event, at, "begins with &, which YAML takes for an anchor: put the value in quotes")
        if event.tag is not None and event.tag != "!":
            self._refuse(event, at, "begins with !, which YAML takes for a tag: put the value in quotes")
        is_typed = self.typed_below in at
        if isinstance(event, yaml.ScalarEvent):
            if not event.implicit[0]:  # quoted, or a block of text
                return event.value
            return core_value(event.value) if is_typed else None if event.value in _NULLS else event.value
        if len(at) >= (_MAX_TYPED_DEPTH if is_typed else _MAX_DEPTH):
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=event.start_mark)
        return self._sequence(at) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(at)

    def _sequence(self, at: Location) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            here = (*at, len(items))
            self.lines[here] = _line(event)
            items.append(self._value(event, here))
        return items

    def _mapping(self, at: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, at)
            if isinstance(event, yaml.ScalarEvent) and key is not None:
                key = event.value  # never a number
            if not isinstance(key, str):
                self._refuse(event, at, "has a key that is no text: write lines of the form `key: value`")
                key = ""
            here = (*at, key)
            if key in values:
                first = f"is there twice, first on line {self.lines[here]}: remove one"
                self._refuse(event, here, first)
            self.lines.setdefault(here, _line(event))
            values[key] = self._value(next(self._events), here)
        return values

    def _refuse(self, event: Any, at: Location, message: str) -> None:
        if len(self.problems) == MOST_PROBLEMS:
            raise _TooMuch(and_more(self.path))
        self.problems.append(ConfigProblem(self.path, _line(event), spell(at), message))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def core_value(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar by the core schema of YAML 1.2 (section 10.3.2 of yaml.org/spec/1.2.2).

    What only YAML 1.1 guesses (`no`, `22:22`, `1_0`, dates) is text.
    """
    if text in _NULLS:
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
