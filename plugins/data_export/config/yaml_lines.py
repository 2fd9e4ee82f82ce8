"""Reads a YAML file of settings, with the line of every key.

Every plain value is text, exactly as written, except that nothing, `~` and `null` are None; the models turn text into
numbers, dates and booleans where they expect them. YAML 1.1's own guesses (`no` is false, `22:22` is 1342, `010` is 8,
`1_0` is 10) therefore never happen. Tags, anchors, aliases and several documents are refused, so that a small file
cannot become a big value or an object.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader

from data_export.config.fields import quoted
from data_export.config.problems import BrokenFile, ConfigProblem
from data_export.config.yaml_syntax import explain_syntax

MAX_BYTES = 64 * 1024
_MAX_DEPTH = 8
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))

#: Keys and list positions from the top of the file down to a value.
Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A file's top-level mapping and where each key or list item of it stands."""

    path: Path
    values: dict[str, Any]
    lines: dict[Location, int]

    def problem(self, location: Location, message: str, *, is_error: bool = True) -> ConfigProblem:
        """A problem at the location's line, or that of the nearest thing around it."""
        around = location
        while around and around not in self.lines:
            around = around[:-1]
        return ConfigProblem(self.path, self.lines.get(around, 1), spell(location), message, is_error)


def spell(location: Location) -> str | None:
    """`connector_config.emails[1]`; None for the whole file."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or None


def read_document(path: Path) -> Document:
    """Reads a file of at most 64 KiB.

    Raises:
        BrokenFile: with every problem of the file's form.
    """
    text = _decode(path, _read(path))
    reader = _Reader(path, text)
    try:
        values = reader.document()
    except yaml.YAMLError as error:
        line, message = explain_syntax(error, text)
        raise BrokenFile([ConfigProblem(path, line, None, message)]) from None
    if reader.problems:
        raise BrokenFile(reader.problems)
    return Document(path, values, reader.lines)


def _read(path: Path) -> bytes:
    try:
        # without O_NONBLOCK, opening a named pipe would wait for ever for somebody to write into it
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except IsADirectoryError:
        data = None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise BrokenFile([ConfigProblem(path, None, None, f"cannot be read ({reason}): mend or remove it")]) from None
    if data is None:
        raise BrokenFile([ConfigProblem(path, None, None, "is not a regular file: remove it or give it another name")])
    if len(data) > MAX_BYTES:
        message = f"is bigger than {MAX_BYTES // 1024} KiB: split it into several exports"
        raise BrokenFile([ConfigProblem(path, None, None, message)])
    return data


def _decode(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BrokenFile([ConfigProblem(path, line, None, "is not UTF-8 text: save it as UTF-8")]) from None
    if bad := Reader.NON_PRINTABLE.search(text):
        message = f"has the control character U+{ord(bad[0]):04X}: remove it, or save the file as UTF-8"
        raise BrokenFile([ConfigProblem(path, text.count("\n", 0, bad.start()) + 1, None, message)])
    return text


class _Reader:
    """Builds values from parser events, since only events carry lines and leave aliases unresolved."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}
        self.problems: list[ConfigProblem] = []
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
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, at, "begins with *, which YAML takes for an alias: put the value in quotes")
            return None
        if event.anchor is not None:
            self._refuse(event, at, "begins with &, which YAML takes for an anchor: put the value in quotes")
        if event.tag is not None and event.tag != "!":
            self._refuse(event, at, "begins with !, which YAML takes for a tag: put the value in quotes")
        if isinstance(event, yaml.ScalarEvent):
            return None if event.implicit[0] and event.value in _NULLS else event.value
        if len(at) >= _MAX_DEPTH:
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
        key = spell(at)
        shown = None if key is None else key if len(key) <= 120 else quoted(key)
        self.problems.append(ConfigProblem(self.path, _line(event), shown, message))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
