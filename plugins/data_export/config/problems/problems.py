"""What is wrong with a file that a person wrote, said so that it can be fixed without asking anybody."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from data_export.config.fields import SUFFIXES, name_meant
from data_export.errors import ConfigError
from data_export.wording import visible

_LONGEST = 600
#: Problems reported of one file: a garbled one has a problem at every word, and each parse explains them anew.
MOST_PROBLEMS = 20
_MOST_LINES = 1000


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One problem of one file, or of its folder; `str()` is `file:line: key: problem and fix`, one line, no secret."""

    path: Path
    line: int | None
    key: str | None
    message: str
    #: False for a warning: the export works, but should be changed.
    is_error: bool = True

    @property
    def name(self) -> str | None:
        """The export whose file this is, also under a wrong name, which must not take the export away unnoticed; None
        for a folder."""
        return name_meant(self.path) if self.path.suffix.lower() in SUFFIXES else None

    def to_dict(self) -> dict[str, str | int | None]:
        """`file`, `line`, `key`, `severity` (error or warning) and `message`, for programs."""
        return {
            "file": os.fsencode(self.path).decode("utf-8", "backslashreplace"),
            "line": self.line,
            "key": self.key,
            "severity": "error" if self.is_error else "warning",
            "message": visible(self.message)[:_LONGEST],
        }

    def __str__(self) -> str:
        place = visible(os.fsencode(self.path).decode("utf-8", "backslashreplace"))
        place += "" if self.line is None else f":{self.line}"
        severity = "" if self.is_error else "warning: "
        key = "" if self.key is None else f"{visible(self.key)}: "
        return f"{place}: {severity}{key}{visible(self.message)[:_LONGEST]}"


def and_more(path: Path, number: int | None = None) -> ConfigProblem:
    """In place of the problems beyond the first ones; None where they were not counted."""
    more = "more problems" if number is None else f"{number:,} more problem{'s' * (number != 1)}"
    return ConfigProblem(path, None, None, f"has {more}: fix those above first")


def first_of_many(problems: Sequence[ConfigProblem], folder: Path) -> list[ConfigProblem]:
    """At most some thousand, when one edit broke thousands of files: of each file the first ones, and what is left out.

    Airflow keeps them as one text, which every visitor of its page of import errors is sent.
    """
    files: dict[Path, list[ConfigProblem]] = {}
    for problem in problems:
        files.setdefault(problem.path, []).append(problem)
    each = max(1, _MOST_LINES // max(1, len(files)))
    found: list[ConfigProblem] = []
    for path, theirs in islice(files.items(), _MOST_LINES):
        more = len(theirs) - each
        found += theirs if more <= 0 else [*theirs[:each], *([and_more(path, more)] if each > 1 else [])]
    if (more := len(files) - _MOST_LINES) > 0:
        message = f"has {more:,} more files with problems: `python -m data_export_airflow validate` lists all"
        found.append(ConfigProblem(folder, None, None, message))
    return found


class BrokenFile(ConfigError):
    """A file cannot be used; `problems` has every reason, `str()` all of them on one line."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "; ".join(map(str, self.problems))


class MissingFile(ConfigError):
    """There is no file of this export; `name` is the export's."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
